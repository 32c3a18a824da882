"""The experiments behind the claims, one command each; the same command again goes on where it was stopped.

    python experiments/reproduce.py digits                  # all conditions and what decides, 8 seeds, 2 cores
    python experiments/reproduce.py digits --workers 14     # the same in 14 processes on the CPU, without Ray
    python experiments/reproduce.py cifar10-16 --data FOLDER # CIFAR-10 at 16 × 16 pixels, 2 cores
    python experiments/reproduce.py cifar10-cpu --data FOLDER # CIFAR-10 as it is, 2 cores
    python experiments/reproduce.py cifar10-cpu --data FOLDER --add --groups temperature # to its tables
    python experiments/reproduce.py cifar10 --data FOLDER   # a pair of ResNet-18, one GPU; without --data downloaded
    python experiments/reproduce.py cifar10 --quick         # any of them end to end at a tiny scale

Weights and features go to --out, which is not committed; tables, claims and figures go to --results, which is.
"""
import argparse, contextlib, dataclasses, functools, importlib.util, io, json, os, platform, signal, sys, time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import claims
import decide
from figures import draw, of_claims
from measures import IDENTIFIABILITY, VERSION, identifiability, measure, rounded, rows
from ncib.core import InputError, atomic_write, read_json, resolve_device, write_json
from ncib.data import load_images, subset
from ncib.plots import save_figure
from ncib.runs import Run
from ncib.sweep import conditions, plan_sweep, quantities, quantities_of, ring_pairs, summarise, sweep
from ncib.timeline import Timeline, analysis_key, analyze
from ncib.train import TrainConfig, recipe, recipes, record_features
from tasks import Task, run_tasks


@dataclasses.dataclass(frozen=True)
class Group:
    "One sweep; all that is neither varied nor changed is as in the main condition."
    grid: dict # values by option
    changes: dict = dataclasses.field(default_factory=dict) # the same for all of its conditions
    seeds: "int|None" = None # only so many of the experiment's
    light: bool = False # timelines alone, without what `measure` adds


CONTROLS = {
    "label noise": Group({"label_noise": [1., .1, .2, .3]}),
    # the images can be learnt by heart, and wrong labels with them
    "no augmentation": Group({"label_noise": [0., .2, .3], "augmentation": ["none"]}),
    "loss": Group({"loss": ["cross-entropy", "nt-xent"]}),
    "temperature": Group({"temperature": [.05, .3, .5]}),
    "narrow features": Group({"feature_dim": [4]}),
    "long tail": Group({"imbalance": [10.]}),
}
# Wrong labels that are learnt by heart until the training features collapse, from few images to all. Only the end
# matters. With a share of 0.3 the backbone stayed above an NC1 of 0.1 in trials of these lengths.
COLLAPSED = {"collapsed": Group({"label_noise": [0., .05, .1, .2], "train_size": [300, 600, 1000, 1347]},
                                {"augmentation": "none", "views": 1, "epochs": 250, "batch_size": 64, "lr": .2,
                                 "weight_decay": 1e-3, "checkpoints": 2}, seeds=3)}
SMALL = {"backbone": "light", "batch_size": 512, "epochs": 24, "warmup": .2, "decay_until": 1., "final_lr": 0.,
         "ema_epochs": 0., "cutout": 0., "start_scale": 1., "grow_until": .5, "precision": "auto", "checkpoints": 16}
SPEED = { # how fast an encoder learns, and nothing else
    "learning rate": Group({"lr": [round(.5/3, 4), 1.5]}, seeds=3, light=True),
    "fewer images": Group({"lr": [round(.5/3, 4), .5, 1.5], "train_size": [6250, 12_500, 25_000]}, seeds=3, light=True),
}


_rate = recipes["cifar10-gpu"]["lr"]
GPU_CONTROLS = {  # of the pairs that take minutes on a large GPU; the last two vary how fast is learnt
    "temperature": Group({"temperature": [.5]}, seeds=2),
    "loss": Group({"loss": ["cross-entropy"]}),
    "label noise": Group({"label_noise": [.2]}, seeds=2),
    "learning rate": Group({"lr": [round(r*_rate, 4) for r in (.3, 3, .1)]}, seeds=2, light=True),
    "training images": Group({"lr": [round(r*_rate, 4) for r in (1, .3, 3, .1)], "train_size": [12_500, 25_000]},
                             seeds=2, light=True),
}

CPU_CONTROLS = { # of encoders that take half an hour or more of two cores each
    "temperature": Group({"temperature": [.5]}), # three pairs, for C3 asks for an interval
    "loss": Group({"loss": ["cross-entropy"]}, seeds=2),
    "label noise": Group({"label_noise": [.2]}, seeds=2),
}


@dataclasses.dataclass(frozen=True)
class Experiment:
    recipe: str # of `ncib.train.recipes`
    changes: dict # from it
    seeds: tuple[int, ...]
    groups: dict[str, Group] # beside the main condition
    about: str # for --help
    decides: tuple[str, ...] = () # of `decide.PLANS`
    main: bool = True # the main condition is one of them


EXPERIMENTS = {
    "digits": Experiment("digits", {}, tuple(range(8)), CONTROLS | COLLAPSED,
                         "main condition, all controls and what decides between explanations on scikit-learn's digits; "
                         "45 minutes of 2 cores", tuple(decide.PLANS)),
    "cifar10-16": Experiment("cifar10-2core", SMALL, (0, 1, 2, 3, 4), SPEED,
                             "CIFAR-10 averaged down to 16 × 16 pixels, conditions that learn fast and slowly; 2 "
                             "cores, an hour or two", ("views", "nats", "similarity")),
    "cifar10-16-constant": Experiment("cifar10-2core", SMALL | {"final_lr": 1., "warmup": .05}, (0, 1, 2, 3, 4), SPEED,
                                      "the same at a learning rate that stays: when accuracy comes to rest is then the "
                                      "encoder's doing; 2 cores, an hour or two"),
    "cifar10-cpu": Experiment("cifar10-2core", {}, (0, 1, 2), CPU_CONTROLS,
                              "narrow convolutional networks on CIFAR-10, with controls; 2 cores, some hours"),
    "cifar100-cpu": Experiment("cifar100-2core", {}, (0, 1), {},
                               "a pair of narrow convolutional networks on CIFAR-100; 2 cores"),
    "cifar10-small": Experiment("cifar-cpu", {}, (0, 1), {},
                                "a pair of light networks on 10,000 images of CIFAR-10; an hour or more on 2 cores"),
    "cifar10": Experiment("cifar-short", {"epochs": 120}, (0, 1), {}, "a pair of ResNet-18 on CIFAR-10; one GPU"),
    "cifar10-resnet50": Experiment("cifar-short", {"backbone": "resnet50", "epochs": 40}, (0, 1), {},
                                   "a pair of ResNet-50 on CIFAR-10; one GPU"),
    "cifar100": Experiment("cifar-short", {"data": "cifar100", "epochs": 120}, (0, 1), {},
                           "a pair of ResNet-18 on CIFAR-100; one GPU"),
    "controls": Experiment("cifar-short", {"epochs": 20}, (0, 1), CONTROLS,
                           "main condition and all controls on CIFAR-10, 20 epochs each; one GPU"),
    "transfer": Experiment("cifar-short", {"data": "cifar100", "epochs": 120}, (0, 1), {},
                           "the encoders of cifar100, unchanged, on the images of CIFAR-10; one GPU"),
    "cifar10-gpu": Experiment("cifar10-gpu", {}, (0, 1, 2), GPU_CONTROLS,
                              "convolutional networks on CIFAR-10, with controls and conditions that learn fast and "
                              "slowly; a large GPU"),
    "cifar10-wide": Experiment("cifar10-gpu", {"backbone": "conv-wide", "epochs": 100}, (0, 1), {},
                               "a pair of wide convolutional networks on CIFAR-10; a large GPU"),
    "cifar100-gpu": Experiment("cifar100-gpu", {}, (0, 1), {},
                               "a pair of wide convolutional networks on CIFAR-100; a large GPU"),
}
QUICK = {"epochs": 1, "checkpoints": 1, "train_size": 400, "batch_size": 64, "backbone": "light",
         "feature_train_size": None}
QUICK_SIZES = {12_500: 200, 25_000: 300, 1347: 450} # of the conditions that vary the number of images


# ---- training and analysis

@dataclasses.dataclass(frozen=True)
class How:
    "How the work is done."
    workers: int = 1 # processes
    ray: bool = False # or on Ray
    quick: bool = False


def groups(experiment: Experiment)->dict[str, Group]: # by name
    return ({"main": Group({})} if experiment.main else {}) | experiment.groups


def planned(group: Group, config: TrainConfig, seeds, quick: bool)->tuple[dict, TrainConfig, tuple[int, ...]]:
    """Grid, configuration and seeds of a group's sweep; at the tiny scale only so many images and epochs, and the last
    of several numbers."""
    grid, changes = dict(group.grid), dict(group.changes)
    if quick:
        changes = {k: v for k, v in changes.items() if k not in QUICK}
        grid = {k: values if isinstance(values[0], str) else [QUICK_SIZES.get(values[-1], values[-1])]
                for k, values in grid.items()}
    return grid, dataclasses.replace(config, **changes), tuple(seeds)[:group.seeds]


def with_groups(experiment: Experiment, names: "list[str]|None")->Experiment: # `None`: all
    "The experiment with some of its groups, beside the main condition, and what can be decided with them."
    if names is None: return experiment
    if unknown := [n for n in names if n not in experiment.groups]:
        raise InputError(f"--groups must be of {', '.join(experiment.groups) or 'none'}, got {', '.join(unknown)}")
    decides = tuple(d for d in experiment.decides if {*decide.NEEDS.get(d, ())} <= {*names})
    return dataclasses.replace(experiment, decides=decides,
                               groups={n: experiment.groups[n] for n in experiment.groups if n in names})


def alone(experiment: Experiment)->Experiment:
    "Its groups without the main condition."
    if not experiment.groups: raise InputError("--add needs groups beside the main condition; there are none")
    if losses := [n for n, g in experiment.groups.items() if "loss" in g.grid]:
        raise InputError(f"--add cannot add the group {', '.join(losses)}: encoders of another loss are compared with "
                         "those of the main condition, which must be here")
    return dataclasses.replace(experiment, main=False, decides=())


def folder_of(out: Path, group: str)->Path: return out/group.replace(" ", "-")


def averaged(spec: str, out: Path, block: int = 2)->Path:
    """A folder with the images of `spec` made smaller: every `block` × `block` pixels are one, their mean. What is
    there is not made again, unless it was made of other images."""
    data, made = load_images(spec), Path(out)
    _, height, width = data.shape
    if height%block or width%block:
        raise InputError(f"{spec}: images of {height} × {width} pixels do not divide into blocks of {block} × {block}")
    of = {"fingerprint": data.fingerprint(), "block": block}
    with contextlib.suppress(InputError):
        if read_json(made/"of.json") == of: return made
    for part in ("train", "test"):
        x = torch.nn.functional.avg_pool2d(getattr(data, part).float(),
                                           block).round().byte().permute(0, 2, 3, 1).numpy()
        labels = getattr(data, f"{part}_labels").numpy()
        with atomic_write(made/f"{part}.npz") as tmp, open(tmp, "wb") as f:
            np.savez(f, images=x, labels=labels, classes=np.array(data.classes))
    write_json(made/"of.json", of)
    return made


@contextlib.contextmanager
def timed(out: Path):
    "Adds the wall time of the block to the list in `out`/wall.json, also when it is stopped."
    began = time.time()
    try: yield
    finally:
        file = out/"wall.json"
        before = read_json(file) if file.is_file() else []
        write_json(file, before + [{"seconds": round(time.time() - began, 1), "cores": os.cpu_count(),
                                    "load": [round(v, 1) for v in os.getloadavg()]}])


def start_ray(wanted: str, config: TrainConfig)->bool:
    """Whether tasks run on Ray: two single-threaded trainings at once beat one with two threads, and several GPUs are
    used."""
    device = resolve_device(config.device)
    if wanted == "no" or wanted == "auto" and (os.cpu_count() if device.type == "cpu"
                                               else torch.cuda.device_count()) < 2:
        return False
    if importlib.util.find_spec("ray") is None:
        return False
    import ray
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address=None if wanted == "auto" else wanted, log_to_driver=False, ignore_reinit_error=True)
    return True


def train_all(experiment: Experiment, config: TrainConfig, seeds, out: Path, how: "How", progress: bool)->pd.DataFrame:
    """Every group's sweep; one table, with the group in front. With several processes the tasks of all sweeps run side
    by side; each sweep then finds its own done and writes its table."""
    options = {"num_cpus": 1} if resolve_device(config.device).type == "cpu" else {}
    plans = {name: planned(group, config, seeds, how.quick) for name, group in groups(experiment).items()}
    if how.workers > 1:
        tasks = []
        for name, (grid, c, some) in plans.items():
            # says what is wrong with the seeds before anything runs
            ring_pairs(some)
            own = plan_sweep(conditions(grid, c), list(some), folder_of(out, name))
            tasks += [Task(f"{name}/{t.name}", t.call, tuple(j + len(tasks) for j in t.needs)) for t in own]
        decide.images(config.data)                                          # a mistake in the data is said once, here
        run_tasks(tasks, how.workers, progress=progress)
    tables = []
    for name, (grid, c, some) in plans.items():
        if progress: print(f"{name}: {grid or 'as the recipe says'}", flush=True)
        table = sweep(grid, folder_of(out, name), c, some, ray=how.ray, ray_options=options, progress=progress)
        tables.append(table.assign(group=name))
    return pd.concat(tables, ignore_index=True)


def deciding(experiment: Experiment, config: TrainConfig, seeds, out: Path, quick: bool)->list[Task]:
    "Tasks of the experiments that decide; the sweeps' encoders are there."
    if not experiment.decides: return []
    found = []
    for name, group in groups(experiment).items():
        grid, c, some = planned(group, config, seeds, quick)
        found += [decide.Condition(of, folder_of(out, name)/condition, some)
                  for condition, (_, of) in conditions(grid, c).items()]
    return decide.plan(experiment.decides, decide.Work(config, tuple(seeds), out/"decide", tuple(found), quick))


def transfer_all(experiment: Experiment, config: TrainConfig, seeds, source: Path, target: str, out: Path, how: "How",
                 progress: bool)->pd.DataFrame:
    """Features of `target` from the encoders in `source`, which are trained if they are not there, and the analysis of
    their pairs."""
    train_all(experiment, config, seeds, source, how, progress)
    images, table = subset(load_images(target), QUICK["train_size"] if how.quick else None), []
    runs = {s: record_features(Run(source/"main"/"base"/f"encoder-{s}"), images, out/"main"/"base"/f"encoder-{s}",
                               config.device, progress=progress) for s in seeds}
    for a, b in ring_pairs(seeds):
        folder = out/"main"/"base"/f"pair-{a}-{b}"
        timeline = analyzed(runs[a], runs[b], folder, device=config.device)
        summary = timeline.summary()
        table.append({"condition": "base", "seed_a": a, "seed_b": b, **quantities_of(summary), "group": "main"})
    return pd.DataFrame(table)


# ---- measuring what the sweeps left

def analyzed(a: Run, b: Run, folder: Path, layer: str = "both", copula: bool = False, device: str = "auto")->Timeline:
    "The timeline of a pair: what lies in the folder if it is that, else a new one."
    return analyze(a, b, layer=layer, copula=copula, device=device, progress=False, out=folder)


@dataclasses.dataclass(frozen=True)
class Pair:
    "Two encoders of one condition."
    condition: str
    seeds: tuple[int, int]
    runs: tuple[Path, Path]
    folder: Path # of its timeline
    layer: str = "backbone"
    copula: bool = False
    light: bool = False


def layers_of(condition: str)->tuple[str, ...]:
    "Those that are trained: a cross-entropy leaves the head as it was."
    return claims.LAYERS[:1] if "cross-entropy" in condition else claims.LAYERS


def all_pairs(experiment: Experiment, config: TrainConfig, seeds, out: Path, quick: bool = False)->list[Pair]:
    """The pairs that the sweeps analysed, in both layers where the loss trains the head; those of the main condition
    once more with the copula."""
    found = []
    for group, how in groups(experiment).items():
        grid, c, some = planned(how, config, seeds, quick)
        for name in conditions(grid, c):
            at = folder_of(out, group)/name
            found += [Pair("main" if group == "main" else name, (a, b), (at/f"encoder-{a}", at/f"encoder-{b}"),
                           at/f"pair-{a}-{b}", light=how.light) for a, b in ring_pairs(some)]
    return (found + [dataclasses.replace(p, layer="head") for p in found if "head" in layers_of(p.condition)]
            + [dataclasses.replace(p, folder=out/"variants"/"copula"/p.folder.name, copula=True) for p in found
               if p.condition == "main"])


def timeline_of(pair: Pair)->Timeline:
    "As it was saved, in the pair's layer."
    return Timeline.load(pair.folder).of(pair.layer)


def measures_of(pair: Pair)->Path:
    "The file of what `measure` gave."
    return pair.folder/("measures.json" if pair.layer == "backbone" else f"measures-{pair.layer}.json")


def labelled(pair: Pair, timeline: Timeline, more: list[dict])->pd.DataFrame:
    "Rows of timeline.csv: what a timeline holds and what `measure` gave, behind what names the pair."
    table, (a, b) = rows(timeline, more), pair.seeds
    of = {"condition": pair.condition, "layer": pair.layer, "copula": pair.copula, "seed_a": a, "seed_b": b}
    for i, (name, v) in enumerate(of.items()): table.insert(i, name, v)
    return table


def swept_row(pair: Pair, timeline: Timeline, group: str)->dict:
    "A pair's row of sweep.csv."
    (a, b), values = pair.seeds, quantities_of(timeline.summary())
    return {"condition": pair.condition, "seed_a": a, "seed_b": b, **values, "group": group}


def measured(pair: Pair, device: str)->pd.DataFrame:
    "Rows of timeline.csv of one pair; what was measured before is not measured again."
    a, b = (Run(r) for r in pair.runs)
    if pair.copula: analyzed(a, b, pair.folder, "backbone", True, device)
    timeline = timeline_of(pair)
    key = [VERSION, pair.layer, pair.light, timeline.epochs.tolist(), analysis_key(a, b)]
    file = measures_of(pair)
    more = read_json(file) if file.is_file() else {}
    if more.get("key") != key:
        more = {"key": key, "rows": [
            {} if pair.light else measure(a.features(e), b.features(e), pair.layer, resolve_device(device))
            for e in timeline.epochs]}
        write_json(file, more)
    return labelled(pair, timeline, more["rows"])


# one row per pair of seeds and other loss; none without such conditions
def crossed(pairs: list[Pair], device: str)->pd.DataFrame:
    "Encoders of the main condition beside those of another loss and another seed, at the last checkpoint."
    out, plain = [], [p for p in pairs if p.layer == "backbone" and not p.copula]
    encoders = {(p.condition, s): r for p in plain for s, r in zip(p.seeds, p.runs)}
    for condition in sorted({p.condition for p in plain if p.condition.startswith("loss=")}):
        # may have fewer seeds
        for seeds in (p.seeds for p in plain if p.condition == "main" and (condition, p.seeds[1]) in encoders):
            a, b = Run(encoders["main", seeds[0]]), Run(encoders[condition, seeds[1]])
            epoch = min(a.epochs[-1], b.epochs[-1])
            x, y = (r.features(epoch) for r in (a, b))
            for layer in layers_of(condition):
                (f, labels), (g, _) = ((v.to(resolve_device(device)) for v in r.part("test", layer)) for r in (x, y))
                out.append({"kind": f"SupCon and {condition.removeprefix('loss=')}", "layer": layer, "seed_a": seeds[0],
                            "seed_b": seeds[1], "epoch": epoch, **identifiability(f, g, labels)})
    return pd.DataFrame(out, columns=["kind", "layer", "seed_a", "seed_b", "epoch", *IDENTIFIABILITY])


def measuring(pairs: list[Pair], device: str)->list[Task]:
    "Tasks that measure every pair."
    return [Task(f"measure/{p.condition}/{p.layer}/{p.folder.name}", functools.partial(measured, p, device))
            for p in pairs]


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


def learning_curves(pairs: list[Pair])->pd.DataFrame:
    "Test accuracy against the seconds that training took, encoder by encoder."
    rows = []
    for condition, seed, folder in dict.fromkeys((p.condition, s, r) for p in pairs for s, r in zip(p.seeds, p.runs)):
        seconds = 0.
        for row in Run(folder).log_rows():
            seconds += row.get("seconds", 0)
            if "test_nearest_mean_accuracy" not in row: continue
            rows.append({"condition": condition, "seed": seed, "epoch": row["epoch"], "seconds": round(seconds, 2),
                         "nearest_mean_test_accuracy": row["test_nearest_mean_accuracy"],
                         "linear_probe_test_accuracy": row.get("test_linear_probe_accuracy")})
    return pd.DataFrame(rows, columns=["condition", "seed", "epoch", "seconds", "nearest_mean_test_accuracy",
                                       "linear_probe_test_accuracy"])


def described(name: str, run: Run, trained_on: str, seeds, quick: bool, machine: dict,
              experiment: "Experiment|None" = None)->dict:
    "What config.json says of an experiment (`None`: as it stands above); `machine` is where it ran."
    experiment = experiment or EXPERIMENTS[name]
    config = {k: v for k, v in run.config.items() if k not in ("seed", "features_of", "trained_on")}
    return {"experiment": name, "quick": quick, "recipe": experiment.recipe, "data": "cifar10" if name == "transfer"
            else trained_on, "trained_on": trained_on,
            "images": {k: run.data[k] for k in ("train", "test", "shape", "fingerprint")},
            "num_classes": len(run.classes), "seeds": list(seeds),
            "groups": {k: dataclasses.asdict(g) for k, g in groups(experiment).items()},
            "decides": list(experiment.decides), "config": config, "checkpoints": run.epochs,
            "environment": run.info["environment"] | machine}


def joined(file: Path, new: pd.DataFrame)->pd.DataFrame:
    "The lines of the file whose conditions are not in `new`, and those of `new`."
    if not file.is_file(): raise InputError(f"--add needs what is to be added to: there is no {file}")
    old, new = pd.read_csv(file), pd.read_csv(io.StringIO(new.to_csv(index=False)))  # types as a file would have them
    if unknown := {*new} - {*old}: # those of a light group are fewer
        raise InputError(f"{file}: its columns are those of another version (no {', '.join(sorted(unknown)[:3])}); "
                         "without --add everything is measured anew")
    return pd.concat([old[~old.condition.isin(new.condition)], new.reindex(columns=old.columns)], ignore_index=True)


def described_more(file: Path, about: dict)->dict:
    "What config.json says when conditions were added, from what it says now and what `described` says of them."
    old = read_json(file)
    varied = {n for g in about["groups"].values() for n in (*g["grid"], *g["changes"])} | {"device"}
    differing = [f"config {n}" for n, v in about["config"].items() if n not in varied and old["config"].get(n) != v]
    differing += [n for n in ("recipe", "images", "quick") if old[n] != about[n]]
    if differing: raise InputError(f"{file}: not the same experiment as that which is added ({', '.join(differing)})")
    return old | {"groups": old["groups"] | about["groups"],
                  "added": [a for a in old.get("added", []) if a["groups"] != about["groups"]]
                  + [{k: about[k] for k in ("groups", "seeds", "environment", "wall", "training_seconds")}]}


def write_results(results: Path, about: dict, swept: pd.DataFrame, table: pd.DataFrame, cross: pd.DataFrame,
                  timeline: "Timeline|None", # of the main condition; `None`: conditions are added to what is there
                  num_classes: int, more: Mapping[str, pd.DataFrame] = {})->list[claims.Claim]:
    "Tables, claims and figures; summary and verdicts are computed from the rounded numbers, as written."
    results.mkdir(parents=True, exist_ok=True)
    swept = swept.assign(condition=swept.condition.where(swept.group != "main", "main"))
    first = [c for c in ("group", "condition") if c in swept]
    swept = swept[first + [c for c in swept if c in ("seed_a", "seed_b") or c in quantities]]
    swept, table, cross = rounded(swept), rounded(table), rounded(cross)
    if timeline is None:
        about = described_more(results/"config.json", about)
        swept, table = joined(results/"sweep.csv", swept), joined(results/"timeline.csv", table)
        cross = pd.read_csv(results/"cross.csv")
    summary = summarise(swept.drop(columns="group"))
    judged = claims.judge(table, cross, num_classes, None if about["quick"] else about["experiment"])
    for name, t in (("sweep", swept), ("summary", rounded(summary)), ("timeline", table), ("cross", cross)):
        with atomic_write(results/f"{name}.csv") as tmp: t.to_csv(tmp, index=False)
    write_json(results/"claims.json", [c.to_dict() for c in judged])
    more = {name: rounded(t) for name, t in more.items()}
    for name, t in more.items():
        with atomic_write(results/f"{name}.csv") as tmp: t.to_csv(tmp, index=False)
    if more: write_json(results/"decisions.json", [d.to_dict() for d in decide.judge(more)])
    figures = (of_claims(table, cross, num_classes) if timeline is None
               else draw(timeline, table, cross, num_classes) | decide.draw(more))
    for old in results.glob("*.png"):
        if timeline is not None and old.stem not in figures: old.unlink()
    for name, figure in figures.items(): save_figure(figure, results/f"{name}.png", dpi=100)
    write_json(results/"config.json", about)
    return judged


def where(data: str)->str:
    "A folder or file of images as seen from anywhere; a name as it is."
    return str(Path(data).resolve()) if Path(data).exists() else data


def processes_for(ray_wanted: str, config: TrainConfig, ray: bool)->int:
    "How many processes where nobody says: one per core on a CPU, if not one after the other is asked for."
    return os.cpu_count() if ray_wanted == "auto" and not ray and resolve_device(config.device).type == "cpu" else 1


def reproduce(args)->list[claims.Claim]:
    "Trains, analyses, measures, judges and writes."
    experiment, suffix = with_groups(EXPERIMENTS[args.experiment], args.groups), "-quick" if args.quick else ""
    if args.add: experiment = alone(experiment)
    config = recipe(experiment.recipe, **{**experiment.changes, **(QUICK if args.quick else {}),
                                          "device": "cpu" if args.workers and args.device == "auto" else args.device})
    seeds = tuple(args.seeds or ((0, 1) if args.quick else experiment.seeds))
    out = Path(args.out or f"runs/reproduce/{args.experiment}{suffix}").resolve()
    results = Path(args.results or (out/"results" if args.quick else f"results/{args.experiment}"))
    if args.add and not (results/"config.json").is_file():
        raise InputError(f"--add needs what is to be added to: {results} has no config.json")
    name, config = config.data, dataclasses.replace(config, data=where(args.data or config.data))
    ray = start_ray(args.ray, config) if not args.workers else False
    how, show = How(args.workers or processes_for(args.ray, config, ray), ray, args.quick), not args.quiet
    if args.experiment.startswith("cifar10-16"):
        name, config = "cifar10-16", dataclasses.replace(config, data=str(averaged(config.data, out/"images")))
    with timed(out):
        if args.experiment == "transfer":
            swept = transfer_all(experiment, config, seeds,
                                 Path(args.encoders or out.parent/f"cifar100{suffix}").resolve(), args.target, out, how,
                                 show)
        else: swept = train_all(experiment, config, seeds, out, how, show)
        pairs = all_pairs(experiment, config, seeds, out, args.quick)
        tasks = deciding(experiment, config, seeds, out, args.quick)
        if show:
            print("measuring" + (f", and what decides: {', '.join(experiment.decides)}" if tasks else ""), flush=True)
        found = run_tasks(tasks + measuring(pairs, config.device), how.workers, ray,
                          resolve_device(config.device).type == "cuda", show)
        more = decide.tables(experiment.decides, tasks, found[:len(tasks)])
        table = pd.concat(found[len(tasks):], ignore_index=True)
        cross = crossed(pairs, config.device)
    run = Run(pairs[0].runs[0])
    about = described(args.experiment, run, name, seeds, args.quick,
                      {"processor": processor(), "cores": os.cpu_count(), "ray": how.ray, "workers": how.workers},
                      experiment)
    about |= {"wall": read_json(out/"wall.json"), "training_seconds": training_seconds(out)}
    curves = rounded(learning_curves([p for p in pairs if p.layer == "backbone" and not p.copula]))
    if args.add: curves = joined(results/"learning.csv", curves)
    judged = write_results(results, about, swept, table, cross, None if args.add else Timeline.load(pairs[0].folder),
                           len(run.classes), more)
    with atomic_write(results/"learning.csv") as tmp: curves.to_csv(tmp, index=False)
    for c in judged: print(f"{c.claim}: {c.verdict}. {c.paper}")
    print(f"written: {results}")
    return judged


def count(text: str)->int:
    "A number of processes."
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


def parser()->argparse.ArgumentParser:
    "The command line's parser."
    p = argparse.ArgumentParser(description="Trains, analyses and judges one experiment; the same command again goes "
                                            "on where it was stopped.",
                                formatter_class=argparse.RawDescriptionHelpFormatter,
                                epilog="experiments:\n" + "\n".join(
                                    f"  {name:18}{e.about}" for name, e in EXPERIMENTS.items()))
    p.add_argument("experiment", choices=tuple(EXPERIMENTS), metavar="EXPERIMENT", help="one of those below")
    p.add_argument("--out", metavar="DIR",
                   help="folder for weights, features and analyses (default: runs/reproduce/EXPERIMENT)")
    p.add_argument("--results", metavar="DIR",
                   help="folder for tables, claims and figures (default: results/EXPERIMENT; with --quick, results in "
                        "--out)")
    p.add_argument("--data", metavar="DATA",
                   help="where the images of the experiment lie, as for ncib train (default: its data set's name, "
                        "which is downloaded where it must be)")
    p.add_argument("--target", metavar="DATA", default="cifar10",
                   help="transfer: the images that the encoders are applied to (default: %(default)s)")
    p.add_argument("--encoders", metavar="DIR",
                   help="transfer: --out of the cifar100 experiment, which is run first if need be (default: cifar100 "
                        "beside --out)")
    p.add_argument("--seeds", nargs="+", type=int, metavar="SEED",
                   help="of the encoders under each condition, two or more (default: what the experiment says)")
    p.add_argument("--groups", nargs="*", metavar="GROUP",
                   help="beside the main condition, only these of the experiment's groups of conditions; none of them "
                        "if the option stands alone (default: all)")
    p.add_argument("--add", action="store_true",
                   help="the groups alone, added to the tables in --results: other conditions keep their lines there, "
                        "and their encoders need not be here")
    p.add_argument("--device", default="auto",
                   help="auto, cpu or cuda (default: %(default)s; with --workers auto is the CPU)")
    p.add_argument("--workers", type=count, metavar="N",
                   help="train and analyse in N processes of one thread each on this machine, without Ray (default: "
                        "Ray where it is installed, else one per core on a CPU)")
    p.add_argument("--ray", default="auto", metavar="WHERE",
                   help="auto: single-threaded tasks side by side on a machine with several cores or GPUs; no; or a "
                        "cluster's address (default: %(default)s)")
    p.add_argument("--quick", action="store_true",
                   help="the whole way at a tiny scale, to see that it works: the numbers mean nothing")
    p.add_argument("--quiet", action="store_true", help="no progress")
    return p


def main(argv: "list[str]|None" = None)->int: # exit status
    "Runs one experiment."
    args = parser().parse_args(argv)
    try: reproduce(args)
    except (InputError, OSError) as e: print(f"reproduce {args.experiment}: {e}", file=sys.stderr); return 1
    except KeyboardInterrupt:
        print(f"\nreproduce {args.experiment}: interrupted; the same command goes on", file=sys.stderr); return 130
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)         # as Ctrl-C: wall.json is written, processes end
    sys.exit(main())
