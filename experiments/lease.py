"""What to do with some minutes of a large GPU: the steps below in order of worth, each only if it still fits.

    python experiments/lease.py --out OUT --data CIFAR10 --minutes 9    # a folder with train.npz and test.npz
    python experiments/lease.py --out OUT --resume BEFORE …             # BEFORE: what came back from another machine
    python experiments/lease.py --out OUT --collect cifar10-gpu         # later, anywhere: results from what came back
    python experiments/lease.py --out OUT --quick                       # the whole way, tiny, also without a GPU

The same command again goes on with what is missing. Encoders are trained one after the other in this process, which
loads the images once. What needs little of the GPU is done beside them: analyses, by --analysts processes on it, and
the commands of --side on the CPU, at the lowest priority, one thread each. After --minutes all that runs is ended.
--out gets at most eight small files, each as soon as there is something to write: lease.json (what was done, skipped
and measured), log.txt, a .zip of analyses for each kind of trainings, features.safetensors and side.zip. Weights and
features stay in --work, which is in memory if there is room.
"""
import argparse, contextlib, dataclasses, functools, os, shutil, statistics, sys, tempfile, threading, time, traceback
import zipfile
from pathlib import Path

import pandas as pd
import torch

import gpu_checks
import reproduce
from beside import Analysts, Clock, OutOfTime, Side
from ncib.core import InputError, atomic_write, read_json, resolve_device, write_json
from ncib.data import load_images
from ncib.runs import Run, save_tensors
from ncib.sweep import conditions
from ncib.timeline import Timeline
from ncib.train import TrainConfig, recipe, train
from reproduce import (EXPERIMENTS, QUICK, Experiment, Pair, all_pairs, analyzed, crossed, folder_of, groups, measured,
                       measures_of, planned, timeline_of)

FILE_LIMIT = 16*2**20 # bytes of a file in --out


@dataclasses.dataclass(frozen=True)
class Training:
    "Encoders of some groups of an experiment."
    experiment: str # of `reproduce.EXPERIMENTS`
    groups: tuple[str, ...] # in order of worth
    seconds: float # that one encoder takes, before one has been timed
    archive: str # its .zip in --out


TRAININGS = {
    "main": Training("cifar10-gpu", ("main",), 30, "main.zip"),
    "wide": Training("cifar10-wide", ("main",), 80, "larger.zip"),
    "controls": Training("cifar10-gpu", ("temperature", "loss", "label noise"), 30, "controls.zip"),
    "speed": Training("cifar10-gpu", ("learning rate", "training images"), 30, "speed.zip"),
    "cifar100": Training("cifar100-gpu", ("main",), 60, "larger.zip"),
}
STEPS = { # in order of worth: seconds on a large GPU; of a training, see there
    "environment": 6, "correctness": 60, "main": None, "features": 2, "wide": None, "controls": None, "cifar100": None,
    "speed": None, "loss": 30, "throughput": 45, "algebra": 20}
ANALYSIS = 40. # seconds of one, before one has been timed


def say(text: str): print(text, flush=True)


def last_line(trace: str)->str: return trace.strip().splitlines()[-1]


# ---- pairs and their analysis

def finished(pair: Pair)->bool: return (pair.folder/"info.json").is_file() and measures_of(pair).is_file()


def measures_or_nothing(pair: Pair)->list[dict]: # per checkpoint
    "What `measure` gave, where there was time for it."
    if measures_of(pair).is_file(): return read_json(measures_of(pair))["rows"]
    return [{}]*len(Timeline.load(pair.folder).epochs)


def tried(work, device: str):
    "`work(device)`; what fails on the GPU is done on the CPU, more slowly, and the failure is told."
    try: return work(device)
    except Exception:
        if resolve_device(device).type == "cpu": raise
        print(f"failed on the GPU, now on the CPU:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return work("cpu")


def analyse(pairs: "list[Pair]", device: str)->float: # seconds
    "Everything that is measured of a pair in its layers, left in its folder."
    began = time.perf_counter()
    first, layer = pairs[0], "backbone" if pairs[0].copula else "both"
    tried(lambda d: analyzed(*(Run(r) for r in first.runs), first.folder, layer, first.copula, d), device)
    for p in pairs: tried(functools.partial(measured, p), device)
    return time.perf_counter() - began


def unpack(archive: Path, folder: Path):
    "The files of a .zip that are not there yet."
    with zipfile.ZipFile(archive) as z:
        for name in z.namelist():
            if ".." in Path(name).parts or Path(name).is_absolute():
                raise InputError(f"{archive}: {name} would be written outside of {folder}")
            if not (folder/name).exists(): z.extract(name, folder)


# ---- the steps, under the clock

class Lease:
    "One call: what an earlier one did is not done again."
    def __init__(self, args):
        self.args, self.device, self.clock = args, resolve_device(args.device), Clock(60*args.minutes)
        self.out, self.work = Path(args.out).resolve(), Path(args.work).resolve()
        for folder in (self.out, self.work): folder.mkdir(parents=True, exist_ok=True)
        self.lock, self.images, self.timed, self.asked = threading.RLock(), {}, {}, set()
        self.state = {"steps": {}, "trained": [], "calls": []}
        for folder in ([Path(args.resume).resolve()] if args.resume else []) + [self.out]: self._take(folder)
        if any(c["quick"] != args.quick for c in self.state["calls"]):
            raise InputError("a call with --quick and one without it do not go together: take another --out and --work")
        self.call = {"minutes": args.minutes, "quick": args.quick, "device": str(self.device), "steps": {}}
        self.state["calls"].append(self.call)

    def _take(self, folder: Path):
        "What an earlier call left."
        if not folder.is_dir(): raise InputError(f"{folder}: no such folder")
        if (folder/"lease.json").is_file(): self.state = read_json(folder/"lease.json")
        for file in folder.iterdir():
            if file.suffix in (".zip", ".safetensors") and folder != self.out: shutil.copyfile(file, self.out/file.name)
            if file.name in {t.archive for t in TRAININGS.values()}: unpack(file, self.work)

    def status(self, name: str)->str: return self.state["steps"].get(name, {}).get("status", "")

    def note(self, name: str, status: str, **more):
        "What became of a step; what is done stays done."
        with self.lock:
            if self.status(name) != "done": self.state["steps"][name] = {"status": status, **more}
            self.call["steps"][name] = status
            write_json(self.out/"lease.json", self.state)
        took = f" in {more['seconds']:.1f} s" if "seconds" in more else ""
        say(f"{self.clock.left:6.0f} s left  {name}: {status}{took}")

    def fits(self, name: str, needs: float)->bool:
        "Whether so many seconds are left; noted if not."
        if fits := self.clock.left >= needs: return fits
        self.note(name, f"skipped: it needs {needs:.0f} s, {max(self.clock.left, 0):.0f} s were left")
        return False

    def step(self, name: str, needs: float, work, **about): # work() gives what lease.json keeps of it
        "Does what is not done yet, if it fits; a failure is noted, and the next step comes."
        if self.status(name) == "done" or not self.fits(name, needs): return
        began = time.perf_counter()
        try: result = work()
        except OutOfTime as e:
            self.note(name, f"stopped: {e}")
            raise
        except Exception as e:
            traceback.print_exc()
            return self.note(name, f"failed: {type(e).__name__}: {e}")
        self.note(name, "done", seconds=round(time.perf_counter() - began, 2), estimate=needs, result=result, **about)

    # -- trainings

    def plan(self, key: str)->tuple[Experiment, TrainConfig, Path]:
        "Experiment, configuration of its main condition, and its folder."
        name, quick = TRAININGS[key].experiment, self.args.quick
        experiment = EXPERIMENTS[name]
        how = {"device": self.args.device, "compile": self.args.compile}
        config = recipe(experiment.recipe, **{**experiment.changes, **(QUICK if quick else {}), **how})
        data = self.args.data100 if config.data == "cifar100" else self.args.data
        if data is None: raise InputError(f"the images of {config.data} were not given")
        return experiment, dataclasses.replace(config, data=data), self.work/name

    def encoders(self, key: str)->list[tuple[str, Path, TrainConfig]]:
        "Group, folder and configuration: the second of a pair right behind the first, a third encoder at the end."
        experiment, config, out = self.plan(key)
        found = []
        for group in TRAININGS[key].groups:
            grid, changed, seeds = planned(groups(experiment)[group], config, experiment.seeds, self.args.quick)
            for condition, (_, c) in conditions(grid, changed).items():
                at = folder_of(out, group)/condition
                found += [(group, at/f"encoder-{s}", dataclasses.replace(c, seed=s)) for s in seeds]
        return sorted(found, key=lambda e: experiment.seeds.index(e[2].seed) > 1)           # otherwise as they were

    def pairs(self, key: str)->list[Pair]:
        "What is analysed of a kind of trainings."
        experiment, config, out = self.plan(key)
        own = {folder for _, folder, _ in self.encoders(key)}
        pairs = all_pairs(experiment, config, experiment.seeds, out, self.args.quick)
        return [p for p in pairs if own.issuperset(p.runs)]

    def label(self, path: Path)->str: return path.relative_to(self.work).as_posix()

    def trained(self, folder: Path)->bool: # on this machine: an archive holds no weights
        return self.label(folder) in self.state["trained"] and (folder/"checkpoints"/"last.safetensors").is_file()

    def seconds_for(self, key: str, config: TrainConfig)->float:
        "Of one encoder: as long as the slowest of its experiment so far."
        same = [k for k, t in TRAININGS.items() if t.experiment == TRAININGS[key].experiment]
        if seen := [s for k in same for s in self.timed.get(k, ())]: return max(seen)
        return 5. if self.args.quick else TRAININGS[key].seconds*(config.train_size or 50_000)/50_000

    def analysis_seconds(self)->float:
        "Until what waits, and two more, are analysed."
        guess = 3 if self.args.quick else ANALYSIS
        each = statistics.mean(self.timed["analysis"]) if "analysis" in self.timed else guess
        return each*(1 + (self.analysts.open + 1)//max(1, len(self.analysts.processes)))

    def train_all(self, key: str):
        try: pairs = self.pairs(key)
        except InputError as e: return self.note(key, f"skipped: {e}")
        self.analyse_ready(key, pairs)
        for group, folder, config in self.encoders(key):
            label, own = self.label(folder), [p for p in pairs if folder in p.runs]
            if self.trained(folder) or all(finished(p) for p in own):
                self.note(label, "done")
                continue
            self.state["steps"].pop(label, None)        # trained on a machine that is gone, not wholly analysed
            alone = not any(self.trained(r) for p in own for r in p.runs)                 # no worth without the next
            needs = self.seconds_for(key, config)*(2 if alone else 1) + self.analysis_seconds()
            self.step(label, needs, lambda: self.train_one(key, config, folder))
            if not self.trained(folder): continue
            self.analyse_ready(key, pairs)
            if group == "loss": self.cross(key)

    def train_one(self, key: str, config: TrainConfig, folder: Path)->dict:
        if config.data not in self.images: self.images[config.data] = load_images(config.data)
        began, beside = time.perf_counter(), self.analysts.open
        run = train(config, folder, progress=False, data=self.images[config.data])
        if self.device.type == "cuda": torch.cuda.synchronize(self.device)
        wall, log = time.perf_counter() - began, run.log()
        if self.device.type == "cuda": torch.cuda.empty_cache()                             # the analysts are on it too
        self.timed.setdefault(key, []).append(wall)
        with self.lock: self.state["trained"].append(self.label(folder))
        seconds, last = float(log.seconds.sum()), log.iloc[-1]
        seen = config.epochs*(config.train_size or run.data["train"])
        return {"training_seconds": seconds, "images_per_second": seen/seconds, "wall_seconds": wall,
                "analyses_beside": max(beside, self.analysts.open),
                "nearest_mean_test_accuracy": float(last.test_nearest_mean_accuracy),
                "linear_probe_test_accuracy": float(last.test_linear_probe_accuracy)}

    def analyse_ready(self, key: str, pairs: list[Pair]):
        "Asks for the analysis of every pair whose encoders are there, those with a copula last."
        def ended(label, seconds, error):
            if error:
                print(error, file=sys.stderr, flush=True)
                return self.note(label, f"failed: {last_line(error)}")
            with self.lock: self.timed.setdefault("analysis", []).append(seconds)
            self.pack(TRAININGS[key].archive)
            self.note(label, "done", seconds=round(seconds, 1))
        for folder in dict.fromkeys(p.folder for p in pairs):
            own = [p for p in pairs if p.folder == folder]                                  # its layers, in one task
            if folder in self.asked or all(map(finished, own)): continue
            if not all(self.trained(r) for r in own[0].runs): continue
            self.asked.add(folder)
            then = functools.partial(ended, f"analysis {self.label(folder)}")
            self.analysts.submit(int(own[0].copula), functools.partial(analyse, own, self.args.device), then)

    def cross(self, key: str):
        "Encoders of the main condition beside those of another loss."
        experiment, config, out = self.plan(key)
        pairs = all_pairs(experiment, config, experiment.seeds, out, self.args.quick)
        there = [p for p in pairs if (p.layer, p.copula) == ("backbone", False) and all(map(self.trained, p.runs))]
        def work():
            table = tried(lambda d: crossed(there, d), self.args.device)
            with atomic_write(out/"cross.csv") as tmp: table.to_csv(tmp, index=False)
            self.pack(TRAININGS[key].archive)
            return {"rows": len(table)}
        conditions_there = {p.condition for p in there}
        if "main" not in conditions_there or not any(c.startswith("loss=") for c in conditions_there): return
        self.state["steps"].pop("cross", None)                                            # more encoders are there
        self.step("cross", 5, work)

    def pack(self, archive: str):
        "Analyses, logs and configurations of some trainings; without the variants' arrays where they are too large."
        with self.lock:
            files = []
            for key, t in TRAININGS.items():
                if t.archive != archive: continue
                with contextlib.suppress(InputError):                                     # no images, no such trainings
                    pairs = self.pairs(key)
                    folders = {p.folder for p in pairs if finished(p)} | {r for p in pairs for r in p.runs}
                    files += [f for d in sorted(folders) if d.is_dir() for f in sorted(d.iterdir())
                              if f.is_file() and not f.name.startswith(".")]
                    if key == "controls": files += [f for f in [self.work/t.experiment/"cross.csv"] if f.is_file()]
            for small in (False, True):
                kept = [f for f in files if not (small and f.name == "arrays.safetensors" and "variants" in f.parts)]
                with atomic_write(self.out/archive) as tmp:
                    with zipfile.ZipFile(tmp, "w", zipfile.ZIP_DEFLATED) as z:
                        for f in kept: z.write(f, f.relative_to(self.work))
                    size = tmp.stat().st_size
                if size <= FILE_LIMIT: return
            print(f"{archive} has {size/2**20:.1f} MiB, maybe too much to take home", file=sys.stderr, flush=True)

    def features(self):
        "Test features of the main pair's last checkpoint, as float16."
        experiment, _, out = self.plan("main")
        folders = [folder_of(out, "main")/"base"/f"encoder-{s}" for s in experiment.seeds[:2]]
        if self.status("features") == "done": return
        if not all(self.trained(f) for f in folders):
            return self.note("features", "skipped: the main pair is not there")
        def work():
            tensors = {}
            for folder in folders:
                run = Run(folder)
                f = run.features(run.epochs[-1])
                tensors |= {f"{folder.name}.backbone": f.test.half(), f"{folder.name}.head": f.test_head.half()}
            tensors["labels"] = f.test_labels.to(torch.uint8)
            file, epoch = self.out/"features.safetensors", run.epochs[-1]
            save_tensors(file, tensors, classes=run.classes, epoch=epoch, recipe=experiment.recipe)
            return {"bytes": file.stat().st_size}
        self.step("features", STEPS["features"], work)

    # -- one after the other

    def check(self, needs: float):
        "The check against the CPU, by an analyst: compiling what it needs takes most of its time."
        if self.status("correctness") == "done" or not self.fits("correctness", needs): return
        began = time.perf_counter()
        def ended(result, error):
            if error: print(error, file=sys.stderr, flush=True)
            status, seconds = f"failed: {last_line(error)}" if error else "done", round(time.perf_counter() - began, 1)
            self.note("correctness", status, seconds=seconds, result=result)
        self.analysts.submit(0, functools.partial(gpu_checks.correctness, self.args.device), ended)

    def undisturbed(self, name: str, needs: float, work):
        "A step whose times mean something only if nothing runs beside it."
        if self.status(name) == "done" or not self.fits(name, needs): return
        self.analysts.wait(self.clock.left - needs)
        with self.side.paused(): self.step(name, needs, work, analyses_beside=self.analysts.open)

    def do(self, name: str):
        quick, device = self.args.quick, self.device
        needs, known = 5 if quick else STEPS[name], self.state["steps"].get("environment", {}).get("result") or {}
        if name in TRAININGS: self.train_all(name)
        elif name == "environment": self.step(name, needs, lambda: gpu_checks.machine(device, quick))
        elif name == "correctness": self.check(needs)
        elif name == "features": self.features()
        elif name == "loss": self.undisturbed(name, needs, lambda: gpu_checks.loss_benchmark(device, quick, known))
        elif name == "throughput": self.undisturbed(name, needs, lambda: gpu_checks.throughput(device, quick))
        elif name == "algebra": self.undisturbed(name, needs, lambda: gpu_checks.algebra(device, quick))

    def run(self)->int: # exit status: 1 if a step failed
        count = self.args.analysts if self.args.analysts is not None else 3 if self.device.type == "cuda" else 0
        self.side, self.analysts, ended = Side(self.args.side, self.work/"side"), Analysts(count), None
        try:
            with self.clock.alarm():
                for name in self.args.steps: self.do(name)
                self.analysts.wait(self.clock.left)
        except OutOfTime as e: ended = str(e)
        finally:
            open_, load = self.analysts.open, [round(v, 1) for v in os.getloadavg()]
            self.analysts.close()
            self.call["side"] = self.side.close(self.out)
            self.call |= {"seconds": round(self.clock.gone, 1), "cores": os.cpu_count(), "load": load,
                          "analyses_not_finished": open_, "ended": ended or "all steps were gone through"}
            write_json(self.out/"lease.json", self.state)
        if ended: self.left_over(ended)
        self.report()
        return 1 if any(s.startswith("failed") for s in self.call["steps"].values()) else 0

    def left_over(self, why: str):
        "Names the steps that were not reached."
        for step in self.args.steps:
            names, reason = [step], why
            if step in TRAININGS:
                try: names = [self.label(folder) for _, folder, _ in self.encoders(step)]
                except InputError as e: reason = str(e)
            for name in names:
                if name not in self.call["steps"] and self.status(name) != "done": self.note(name, f"skipped: {reason}")

    def report(self):
        "What was done, at the end of the output, which is read first."
        say("")
        for name, status in self.call["steps"].items():
            r, told = self.state["steps"].get(name, {}).get("result"), ""
            if isinstance(r, dict) and "images_per_second" in r:
                told = (f", accuracy {r['linear_probe_test_accuracy']:.4f}, {r['training_seconds']:.1f} s of training, "
                        f"{r['images_per_second']:,.0f} images/s")
            if not name.startswith("analysis") or status != "done": say(f"{name}: {status}{told}")
        analysed = sum(n.startswith("analysis") and s == "done" for n, s in self.call["steps"].items())
        files = ", ".join(f"{f.name} {f.stat().st_size/2**20:.2f} MiB" for f in sorted(self.out.iterdir()))
        unfinished, seconds = self.call["analyses_not_finished"], self.call["seconds"]
        say(f"{analysed} analyses done, {unfinished} not finished; {seconds:.0f} s; {files}")


# ---- what came back

def collect(out: Path, name: str, results: Path)->None:
    "Tables, claims and figures of an experiment from the archives in `out`, written by `reproduce.write_results`."
    state = read_json(out/"lease.json")
    quick = state["calls"][-1]["quick"]
    experiment, config = EXPERIMENTS[name], recipe(EXPERIMENTS[name].recipe)
    group_of = {}
    for group, how in groups(experiment).items():
        grid, changed, _ = planned(how, config, experiment.seeds, quick)
        group_of |= {("main" if group == "main" else c): group for c in conditions(grid, changed)}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)/name
        for archive in {t.archive for t in TRAININGS.values() if t.experiment == name}:
            if (out/archive).is_file(): unpack(out/archive, Path(folder))
        pairs = [p for p in all_pairs(experiment, config, experiment.seeds, root, quick)
                 if (p.folder/"info.json").is_file()]
        plain = [p for p in pairs if (p.layer, p.copula) == ("backbone", False)]
        pairs = [p for p in pairs if p.condition in {q.condition for q in plain}] # no head alone
        if not any(p.condition == "main" for p in plain):
            raise InputError(f"{out} holds no analysis of the main condition of {name}")
        timelines = {p.folder: Timeline.load(p.folder) for p in plain}
        tables = [reproduce.labelled(p, timeline_of(p), measures_or_nothing(p)) for p in pairs]
        table = pd.concat(tables, ignore_index=True)
        swept = pd.DataFrame([reproduce.swept_row(p, timelines[p.folder], group_of[p.condition]) for p in plain])
        cross = pd.read_csv(root/"cross.csv") if (root/"cross.csv").is_file() else crossed([], "cpu")
        first, there = timelines[plain[0].folder], state["steps"].get("environment", {}).get("result") or {}
        machine = {k: there.get(k, "not measured") for k in ("processor", "cores")} | {"ray": False}
        seeds = sorted({s for p in plain if p.condition == "main" for s in p.seeds})
        about = reproduce.described(name, Run(plain[0].runs[0]), config.data, seeds, quick, machine)
        about["checkpoints"] = first.epochs.tolist()                                        # the features are not here
        about["wall"] = [{k: c.get(k) for k in ("seconds", "cores", "load")} for c in state["calls"]]
        about["training_seconds"] = reproduce.training_seconds(root)
        judged = reproduce.write_results(results, about, swept, table, cross, first, first.num_classes)
        curves = reproduce.rounded(reproduce.learning_curves(plain))
        with atomic_write(results/"learning.csv") as tmp: curves.to_csv(tmp, index=False)
    for c in judged: say(f"{c.claim}: {c.verdict}. {c.paper}")
    say(f"written: {results}")


# ---- the command

class Tee:
    "Output that is also kept in a file."
    def __init__(self, stream, file): self.stream, self.file = stream, file

    def write(self, text)->int:
        self.file.write(text); self.file.flush()
        return self.stream.write(text)

    def flush(self): self.stream.flush()

    def __getattr__(self, name): return getattr(self.stream, name)


def parser()->argparse.ArgumentParser:
    "The command line's parser."
    known = sorted({t.experiment for t in TRAININGS.values()})
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = p.add_argument
    add("--out", required=True, metavar="DIR", help="folder for what is taken home")
    add("--work", metavar="DIR", help="folder for weights and features (default: lease in /dev/shm where 40 GB are "
                                      "free, else work beside --out)")
    add("--data", metavar="DATA", help="the images of CIFAR-10, as for ncib train (with --quick: digits)")
    add("--data100", metavar="DATA", help="those of CIFAR-100 (with --quick: digits); without them its step is skipped")
    add("--minutes", type=float, default=9., help="how long all this may take (default: %(default)s)")
    add("--resume", metavar="DIR", help="what came back from a call on another machine")
    add("--steps", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP",
        help=f"only these, in this order (default: {' '.join(STEPS)})")
    add("--side", action="append", default=[], metavar="COMMAND",
        help="run beside all this on the CPU; {side} in it is a folder of its own (may be given several times)")
    add("--analysts", type=int, metavar="N",
        help="processes that analyse pairs beside the trainings (default: 3 on a GPU, else none)")
    add("--compile", default="no", choices=("auto", "yes", "no"),
        help="torch.compile the networks, as for ncib train; takes a while first (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    add("--collect", choices=known, metavar="EXPERIMENT",
        help=f"write the results of {', '.join(known)} from --out, and do nothing else")
    add("--results", metavar="DIR", help="where --collect writes (default: results/EXPERIMENT)")
    add("--quick", action="store_true", help="at a tiny scale, to see that it works: the numbers mean nothing")
    return p


def main(argv: "list[str]|None" = None)->int: # exit status
    "One call."
    args = parser().parse_args(argv)
    out, memory = Path(args.out), Path("/dev/shm")
    if args.quick: args.data, args.data100 = args.data or "digits", args.data100 or "digits"
    room = memory.is_dir() and shutil.disk_usage(memory).free > 40e9
    if not args.work: args.work = memory/"lease" if room else out.resolve().parent/"work"
    try:
        if args.collect:
            collect(out, args.collect, Path(args.results or f"results/{args.collect}"))
            return 0
        out.mkdir(parents=True, exist_ok=True)
        with open(out/"log.txt", "a", encoding="utf-8") as file, contextlib.redirect_stdout(Tee(sys.stdout, file)), \
             contextlib.redirect_stderr(Tee(sys.stderr, file)): return Lease(args).run()
    except (InputError, OSError) as e: print(f"lease: {e}", file=sys.stderr); return 1


if __name__ == "__main__": sys.exit(main())
