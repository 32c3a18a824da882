"""The experiments behind the claims, one command each; the same command again goes on where it was stopped.

    python experiments/reproduce.py digits                  # main condition and all controls, 5 seeds, 2 cores
    python experiments/reproduce.py cifar10 --data FOLDER   # a pair of ResNet-18, one GPU; without --data the images are downloaded
    python experiments/reproduce.py cifar10 --quick         # any of them end to end at a tiny scale

Weights and features go to --out, which is not committed; tables, claims and figures go to --results, which is.
"""
import argparse, contextlib, dataclasses, functools, importlib.util, json, multiprocessing, os, platform, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
import torch

import claims
from figures import draw
from measures import identifiability, measure, rounded, rows
from ncib import __version__
from ncib.core import InputError, atomic_write, read_json, resolve_device, write_json
from ncib.data import load_images, subset
from ncib.plots import save_figure
from ncib.runs import Run, record_features
from ncib.sweep import conditions, quantities, ring_pairs, summarise, sweep
from ncib.timeline import Timeline, analyze
from ncib.train import TrainConfig, recipe, recipes, train

CONTROLS = {  # one sweep each; all that is not varied is as in the main condition
    "label noise": {"label_noise": [.1, .3, 1.]},
    "no augmentation": {"label_noise": [0., .3], "augmentation": ["none"]}, # the images can be learnt by heart, and wrong labels with them
    "loss": {"loss": ["cross-entropy", "nt-xent"]},
    "temperature": {"temperature": [.05, .5]},
    "narrow features": {"feature_dim": [4]},
    "long tail": {"imbalance": [10.]},
}
_rate = recipes["cifar10-gpu"]["lr"]
GPU_CONTROLS = {  # of the pairs that take minutes on a large GPU; the last two vary how fast is learnt
    "temperature": {"temperature": [.5]},
    "loss": {"loss": ["cross-entropy"]},
    "label noise": {"label_noise": [.2]},
    "learning rate": {"lr": [round(.3*_rate, 4), round(3*_rate, 4)]},
    "training images": {"train_size": [25_000, 12_500]},
}


@dataclasses.dataclass(frozen=True)
class Experiment:
    recipe: str # of `ncib.train.recipes`
    changes: dict # from it
    seeds: tuple[int, ...]
    controls: dict # grids by group, beside the main condition
    about: str # for --help
    fewer: dict = dataclasses.field(default_factory=dict) # groups that have only so many of the seeds


EXPERIMENTS = {
    "digits": Experiment("digits", {}, (0, 1, 2, 3, 4), CONTROLS, "main condition and all controls on scikit-learn's digits; 2 cores, under 40 minutes"),
    "cifar10-cpu": Experiment("cifar-cpu", {}, (0, 1), {}, "a pair of light networks on 10,000 images of CIFAR-10; an hour or more on 2 cores"),
    "cifar10": Experiment("cifar-short", {"epochs": 120}, (0, 1), {}, "a pair of ResNet-18 on CIFAR-10; one GPU"),
    "cifar10-resnet50": Experiment("cifar-short", {"backbone": "resnet50", "epochs": 40}, (0, 1), {}, "a pair of ResNet-50 on CIFAR-10; one GPU"),
    "cifar100": Experiment("cifar-short", {"data": "cifar100", "epochs": 120}, (0, 1), {}, "a pair of ResNet-18 on CIFAR-100; one GPU"),
    "controls": Experiment("cifar-short", {"epochs": 20}, (0, 1), CONTROLS, "main condition and all controls on CIFAR-10, 20 epochs each; one GPU"),
    "transfer": Experiment("cifar-short", {"data": "cifar100", "epochs": 120}, (0, 1), {}, "the encoders of cifar100, unchanged, on the images of CIFAR-10; one GPU"),
    "cifar10-gpu": Experiment("cifar10-gpu", {}, (0, 1, 2), GPU_CONTROLS, "wide convolutional networks on CIFAR-10, with controls; a large GPU",
                              {"temperature": 2, "label noise": 2, "learning rate": 2, "training images": 2}),
    "cifar10-resnet18": Experiment("cifar10-gpu", {"backbone": "resnet18", "lr": .5}, (0, 1), {},
                                   "a pair of ResNet-18 on CIFAR-10, one view of each image; a large GPU"),
    "cifar100-gpu": Experiment("cifar100-gpu", {}, (0, 1), {}, "a pair of wide convolutional networks on CIFAR-100; a large GPU"),
}
QUICK = {"epochs": 1, "checkpoints": 1, "train_size": 400, "batch_size": 64, "backbone": "light", "feature_train_size": None}
CROSS_COLUMNS = ["kind", "seed_a", "seed_b", "epoch", *(f"{r}_{d}" for r in ("r2", "r2_within") for d in ("forward", "backward"))]


# ---- training and analysis

def groups(experiment: Experiment)->dict[str, dict[str, list]]: # grids by group
    return {"main": {}, **experiment.controls}


def scaled(experiment: Experiment)->Experiment: # for --quick
    "The same conditions, on as few images as --quick has."
    share = QUICK["train_size"]/50_000
    fewer = lambda grid: {k: [max(50, round(v*share)) for v in values] if k == "train_size" else values for k, values in grid.items()}
    return dataclasses.replace(experiment, controls={group: fewer(grid) for group, grid in experiment.controls.items()})


def seeds_of(experiment: Experiment, group: str, seeds)->tuple[int, ...]:
    "Those of a group: some have fewer than the main condition."
    return tuple(seeds)[:experiment.fewer.get(group)]


def folder_of(out: Path, group: str)->Path: return out/group.replace(" ", "-")


@contextlib.contextmanager
def timed(out: Path):
    "Adds the wall time of the block to the list in `out`/wall.json, also when it is stopped."
    began = time.time()
    try: yield
    finally:
        file = out/"wall.json"
        before = read_json(file) if file.is_file() else []
        write_json(file, before + [{"seconds": round(time.time() - began, 1), "cores": os.cpu_count(), "load": [round(v, 1) for v in os.getloadavg()]}])


def start_ray(wanted: str, config: TrainConfig)->bool:
    "Whether tasks run on Ray: two single-threaded trainings at once beat one with two threads, and several GPUs are used."
    device = resolve_device(config.device)
    if wanted == "no" or wanted == "auto" and (os.cpu_count() if device.type == "cpu" else torch.cuda.device_count()) < 2: return False
    if importlib.util.find_spec("ray") is None:
        print("Ray is not installed (pip install 'ncib[ray]'): one task after the other", file=sys.stderr)
        return False
    import ray
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address=None if wanted == "auto" else wanted, log_to_driver=False, ignore_reinit_error=True)
    return True


def one_thread():
    "Tasks that run side by side have one thread each."
    torch.set_num_threads(1)


def side_by_side(jobs: int)->ProcessPoolExecutor:
    "So many processes; fresh ones, because a forked process cannot use CUDA."
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), one_thread)


def train_one(task: "tuple[TrainConfig, Path]")->None:
    "One encoder, in a process of its own."
    train(*task, progress=False)


def train_all(experiment: Experiment, config: TrainConfig, seeds, out: Path, ray: bool, progress: bool, jobs: int = 1)->pd.DataFrame:
    "Every group's sweep; one table, with the group in front. With `jobs` all encoders come first, side by side, and then the sweeps."
    if jobs > 1 and not ray: return train_side_by_side(experiment, config, seeds, out, jobs)
    options = {"num_cpus": 1} if resolve_device(config.device).type == "cpu" else {}
    tables = []
    for group, grid in groups(experiment).items():
        if progress: print(f"{group}: {grid or 'as the recipe says'}", flush=True)
        swept = sweep(grid, folder_of(out, group), config, seeds_of(experiment, group, seeds), ray=ray, ray_options=options, progress=progress)
        tables.append(swept.assign(group=group))
    return pd.concat(tables, ignore_index=True)


def train_side_by_side(experiment: Experiment, config: TrainConfig, seeds, out: Path, jobs: int)->pd.DataFrame:
    "As `train_all`, in so many processes."
    tasks = [(dataclasses.replace(c, seed=s), folder_of(out, group)/name/f"encoder-{s}") for group, grid in groups(experiment).items()
             for name, (_, c) in conditions(grid, config).items() for s in seeds_of(experiment, group, seeds)]
    with side_by_side(jobs) as pool:
        list(pool.map(train_one, tasks))
        swept = {group: pool.submit(sweep, grid, folder_of(out, group), config, seeds_of(experiment, group, seeds), progress=False)
                 for group, grid in groups(experiment).items()}
        return pd.concat([task.result().assign(group=group) for group, task in swept.items()], ignore_index=True)


def transfer_all(experiment: Experiment, config: TrainConfig, seeds, source: Path, target: str, out: Path, quick: bool, ray: bool, progress: bool)->pd.DataFrame:
    "Features of `target` from the encoders in `source`, which are trained if they are not there, and the analysis of their pairs."
    train_all(experiment, config, seeds, source, ray, progress)
    images, table = subset(load_images(target), QUICK["train_size"] if quick else None), []
    runs = {s: record_features(Run(source/"main"/"base"/f"encoder-{s}"), images, out/"main"/"base"/f"encoder-{s}", config.device, progress=progress) for s in seeds}
    for a, b in ring_pairs(seeds):
        folder = out/"main"/"base"/f"pair-{a}-{b}"
        timeline = analyzed(runs[a], runs[b], folder, device=config.device)
        table.append(swept_row(Pair("base", (a, b), (runs[a].path, runs[b].path), folder), timeline, "main"))
    return pd.DataFrame(table)


# ---- measuring what the sweeps left

def analyzed(a: Run, b: Run, folder: Path, layer: str = "backbone", copula: bool = False, device: str = "auto")->Timeline:
    "The timeline of a pair: what lies in the folder if it is of these runs and epochs, else a new one."
    of = {"version": __version__, "runs": [a.info, b.info], "epochs": [a.epochs, b.epochs]}
    with contextlib.suppress(InputError):
        if read_json(folder/"of.json") == of: return Timeline.load(folder)
    timeline = analyze(a, b, layer=layer, copula=copula, device=device, progress=False)
    timeline.save(folder)
    write_json(folder/"of.json", of)
    return timeline


@dataclasses.dataclass(frozen=True)
class Pair:
    "Two encoders of one condition."
    condition: str
    seeds: tuple[int, int]
    runs: tuple[Path, Path]
    folder: Path # of its timeline
    layer: str = "backbone"
    copula: bool = False


def all_pairs(experiment: Experiment, config: TrainConfig, seeds, out: Path)->list[Pair]:
    "The pairs that the sweeps analysed, and those of the main condition once more with the head's features and with the copula."
    found = []
    for group, grid in groups(experiment).items():
        for name in conditions(grid, config):
            at = folder_of(out, group)/name
            found += [Pair("main" if group == "main" else name, (a, b), (at/f"encoder-{a}", at/f"encoder-{b}"), at/f"pair-{a}-{b}")
                      for a, b in ring_pairs(seeds_of(experiment, group, seeds))]
    return found + [dataclasses.replace(p, folder=out/"variants"/name/p.folder.name, layer=layer, copula=copula)
                    for name, layer, copula in (("head", "head", False), ("copula", "backbone", True)) for p in found if p.condition == "main"]


def labelled(pair: Pair, timeline: Timeline, more: list[dict])->pd.DataFrame:
    "Rows of timeline.csv: what a timeline holds and what `measure` gave, behind what names the pair."
    table, (a, b) = rows(timeline, more), pair.seeds
    of = {"condition": pair.condition, "layer": pair.layer, "copula": pair.copula, "seed_a": a, "seed_b": b}
    for i, (name, v) in enumerate(of.items()): table.insert(i, name, v)
    return table


def swept_row(pair: Pair, timeline: Timeline, group: str)->dict:
    "A pair's row of sweep.csv."
    summary, (a, b) = timeline.summary(), pair.seeds
    values = {q: pd.Series(summary[q], dtype=float).mean() for q in quantities if q in summary}
    return {"condition": pair.condition, "seed_a": a, "seed_b": b, **values, "group": group}


def measured(pair: Pair, device: str)->pd.DataFrame:
    "Rows of timeline.csv of one pair; what was measured before is not measured again."
    a, b = (Run(r) for r in pair.runs)
    timeline = Timeline.load(pair.folder) if (pair.layer, pair.copula) == ("backbone", False) else analyzed(a, b, pair.folder, pair.layer, pair.copula, device)
    file, key = pair.folder/"measures.json", [pair.layer, timeline.epochs.tolist(), timeline.mean("test_accuracy").tolist()]
    more = read_json(file) if file.is_file() else {}
    if more.get("key") != key:
        more = {"key": key, "rows": [measure(a.features(e), b.features(e), pair.layer, resolve_device(device)) for e in timeline.epochs]}
        write_json(file, more)
    return labelled(pair, timeline, more["rows"])


def crossed(pairs: list[Pair], device: str)->pd.DataFrame: # one row per pair of seeds and other loss; none without such conditions
    "Encoders of the main condition beside those of another loss and another seed, at the last checkpoint."
    out, plain = [], [p for p in pairs if p.layer == "backbone" and not p.copula]
    encoders = {(p.condition, s): r for p in plain for s, r in zip(p.seeds, p.runs)}
    for condition in sorted({p.condition for p in plain if p.condition.startswith("loss=")}):
        for seeds in (p.seeds for p in plain if p.condition == "main" and (condition, p.seeds[1]) in encoders):
            a, b = Run(encoders["main", seeds[0]]), Run(encoders[condition, seeds[1]])
            epoch = min(a.epochs[-1], b.epochs[-1])
            x, y = (r.features(epoch) for r in (a, b))
            out.append({"kind": f"SupCon and {condition.removeprefix('loss=')}", "seed_a": seeds[0], "seed_b": seeds[1], "epoch": epoch,
                        **identifiability(x.test.to(resolve_device(device)), y.test.to(resolve_device(device)), x.test_labels.to(resolve_device(device)))})
    return pd.DataFrame(out, columns=CROSS_COLUMNS)


def everywhere(work, pairs: list[Pair], device: str, ray: bool, jobs: int = 1)->list:
    "`work` of every pair, on Ray where it runs, or in so many processes."
    if jobs > 1 and not ray:
        with side_by_side(jobs) as pool: return list(pool.map(functools.partial(work, device=device), pairs))
    if not ray: return [work(p, device) for p in pairs]
    import ray as cluster
    def alone(pair):
        torch.set_num_threads(1)
        return work(pair, device)
    task = cluster.remote(alone).options(num_cpus=1, num_gpus=0 if resolve_device(device).type == "cpu" else 1)
    return cluster.get([task.remote(p) for p in pairs])


# ---- what is committed

def processor()->str:
    "The CPU's name."
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"): return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def training_seconds(out: Path)->float:
    "Sum over all encoders of the time their epochs took, also if they ran side by side."
    logs = (json.loads(line) for f in sorted(out.rglob("log.jsonl")) for line in f.read_text().splitlines())
    return round(sum(row.get("seconds", 0) for row in logs), 1)


def described(name: str, run: Run, seeds, checkpoints: list[int], quick: bool, machine: dict)->dict:
    "What config.json says of an experiment; `machine` is where it ran."
    experiment = EXPERIMENTS[name]
    trained_on = recipe(experiment.recipe, **experiment.changes).data
    some = {g: seeds_of(experiment, g, seeds) for g in experiment.fewer if g in experiment.controls}
    config = {k: v for k, v in run.config.items() if k not in ("seed", "features_of", "trained_on")}
    return {"experiment": name, "quick": quick, "recipe": experiment.recipe, "data": "cifar10" if name == "transfer" else trained_on, "trained_on": trained_on,
            "images": {k: run.data[k] for k in ("train", "test", "shape", "fingerprint")}, "num_classes": len(run.classes), "seeds": seeds,
            **({"fewer_seeds": some} if some else {}), "groups": groups(scaled(experiment) if quick else experiment), "config": config,
            "checkpoints": checkpoints, "environment": run.info["environment"] | machine}


def write_results(results: Path, about: dict, swept: pd.DataFrame, table: pd.DataFrame, cross: pd.DataFrame, timeline: Timeline, num_classes: int)->list[claims.Claim]:
    "Tables, claims and figures; verdicts are computed from the rounded numbers, as written."
    results.mkdir(parents=True, exist_ok=True)
    swept = swept.assign(condition=swept.condition.where(swept.group != "main", "main"))
    first = [c for c in ("group", "condition") if c in swept]
    swept = swept[first + [c for c in swept if c in ("seed_a", "seed_b") or c in quantities]]
    summary = summarise(swept.drop(columns="group"))
    table, cross = rounded(table), rounded(cross)
    judged = claims.judge(table, cross, num_classes)
    for name, t in (("sweep", rounded(swept)), ("summary", rounded(summary)), ("timeline", table), ("cross", cross)):
        with atomic_write(results/f"{name}.csv") as tmp: t.to_csv(tmp, index=False)
    write_json(results/"claims.json", [c.to_dict() for c in judged])
    figures = draw(timeline, table, cross, num_classes)
    for old in results.glob("*.png"):
        if old.stem not in figures: old.unlink()
    for name, figure in figures.items(): save_figure(figure, results/f"{name}.png", dpi=100)
    write_json(results/"config.json", about)
    return judged


def reproduce(args)->list[claims.Claim]:
    "Trains, analyses, measures, judges and writes."
    experiment, suffix = EXPERIMENTS[args.experiment], "-quick" if args.quick else ""
    config = recipe(experiment.recipe, **{**experiment.changes, **(QUICK if args.quick else {}), "device": args.device})
    config = dataclasses.replace(config, data=args.data or config.data)
    if args.quick: experiment = scaled(experiment)
    seeds = tuple(args.seeds or ((0, 1) if args.quick else experiment.seeds))
    out = Path(args.out or f"runs/reproduce/{args.experiment}{suffix}").resolve()
    results = Path(args.results or (out/"results" if args.quick else f"results/{args.experiment}"))
    ray = start_ray(args.ray, config)
    with timed(out):
        if args.experiment == "transfer": swept = transfer_all(experiment, config, seeds, Path(args.encoders or out.parent/f"cifar100{suffix}").resolve(), args.target, out, args.quick, ray, not args.quiet)
        else: swept = train_all(experiment, config, seeds, out, ray, not args.quiet, args.jobs)
        pairs = all_pairs(experiment, config, seeds, out)
        table = pd.concat(everywhere(measured, pairs, args.device, ray, args.jobs), ignore_index=True)
        cross = crossed(pairs, args.device)
    timeline = Timeline.load(pairs[0].folder)
    machine = {"processor": processor(), "cores": os.cpu_count(), "ray": ray}
    about = described(args.experiment, Run(pairs[0].runs[0]), seeds, timeline.epochs.tolist(), args.quick, machine)
    about |= {"wall": read_json(out/"wall.json"), "training_seconds": training_seconds(out)}
    judged = write_results(results, about, swept, table, cross, timeline, timeline.num_classes)
    for c in judged: print(f"{c.claim}: {c.verdict}. {c.paper}")
    print(f"written: {results}")
    return judged


def parser()->argparse.ArgumentParser:
    "The command line's parser."
    p = argparse.ArgumentParser(description="Trains, analyses and judges one experiment; the same command again goes on where it was stopped.", formatter_class=argparse.RawDescriptionHelpFormatter,
                                epilog="experiments:\n" + "\n".join(f"  {name:18}{e.about}" for name, e in EXPERIMENTS.items()))
    p.add_argument("experiment", choices=tuple(EXPERIMENTS), metavar="EXPERIMENT", help="one of those below")
    p.add_argument("--out", metavar="DIR", help="folder for weights, features and analyses (default: runs/reproduce/EXPERIMENT)")
    p.add_argument("--results", metavar="DIR", help="folder for tables, claims and figures (default: results/EXPERIMENT; with --quick, results in --out)")
    p.add_argument("--data", metavar="DATA", help="where the images of the experiment lie, as for ncib train (default: its data set's name, which is downloaded where it must be)")
    p.add_argument("--target", metavar="DATA", default="cifar10", help="transfer: the images that the encoders are applied to (default: %(default)s)")
    p.add_argument("--encoders", metavar="DIR", help="transfer: --out of the cifar100 experiment, which is run first if need be (default: cifar100 beside --out)")
    p.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="of the encoders under each condition, two or more (default: what the experiment says)")
    p.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    p.add_argument("--ray", default="auto", metavar="WHERE", help="auto: single-threaded tasks side by side on a machine with several cores or GPUs; no; or a cluster's address (default: %(default)s)")
    p.add_argument("--jobs", type=int, default=1, metavar="N",
                   help="where Ray is not used, so many single-threaded processes side by side (default: %(default)s)")
    p.add_argument("--quick", action="store_true", help="the whole way at a tiny scale, to see that it works: the numbers mean nothing")
    p.add_argument("--quiet", action="store_true", help="no progress")
    return p


def main(argv: "list[str]|None" = None)->int: # exit status
    "Runs one experiment."
    args = parser().parse_args(argv)
    try: reproduce(args)
    except (InputError, OSError) as e: print(f"reproduce {args.experiment}: {e}", file=sys.stderr); return 1
    except KeyboardInterrupt: print(f"\nreproduce {args.experiment}: interrupted; the same command goes on", file=sys.stderr); return 130
    return 0


if __name__ == "__main__": sys.exit(main())
