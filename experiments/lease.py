"""What to do with some minutes of a large GPU: the steps below in order of worth, each only if it still fits, and the same command again goes on with what is missing.

    python experiments/lease.py --out OUT --data CIFAR10 --data100 CIFAR100 --minutes 9.5      # the folders hold train.npz and test.npz
    python experiments/lease.py --out OUT --resume BEFORE …                                    # on a fresh machine: BEFORE is what an earlier call left in its --out
    python experiments/lease.py --out OUT --collect cifar10-gpu --results results/cifar10-gpu  # anywhere, later: tables, claims and figures from what came back
    python experiments/lease.py --out OUT --quick                                              # the whole way at a tiny scale, also without a GPU

Encoders are trained one after the other in this process, which loads the images once. What needs little of the GPU is done beside them: analyses by --analysts processes on the same GPU, and the commands of
--side on the CPU, at the lowest priority, one thread each. At the end of --minutes whatever still runs is ended. In --out, eight small files at most, each written as soon as there is something to write:
lease.json (what was done, skipped and measured), log.txt, a .zip of analyses for each group of trainings, features.safetensors, side.zip. Weights and features stay in --work, in memory if there is room.
"""
import argparse, contextlib, csv, dataclasses, functools, importlib.util, io, itertools, json, multiprocessing, os, queue, shlex, shutil, signal, statistics, subprocess, sys, tempfile, threading, time, traceback, zipfile
from concurrent.futures import Future
from pathlib import Path

import pandas as pd
import torch

import reproduce
from ncib.cca import canonical_correlations
from ncib.collapse import collapse_metrics
from ncib.core import InputError, atomic_write, read_json, resolve_device, write_json
from ncib.data import load_images
from ncib.gib import GaussianIB
from ncib.identifiability import linear_identifiability
from ncib.losses import nt_xent_loss, supcon_loss
from ncib.probe import linear_probe
from ncib.runs import Run, environment, save_tensors
from ncib.sweep import conditions, quantities
from ncib.timeline import Timeline
from ncib.train import recipe, train
from reproduce import EXPERIMENTS, QUICK, Pair, all_pairs, analyzed, crossed, groups, measured, scaled, seeds_of

BENCHMARKS = Path(__file__).resolve().parents[1]/"benchmarks"
FILE_LIMIT = 16*2**20 # bytes of one file in --out
SIDE_LIMIT = 12*2**20 # bytes of all that the commands of --side leave
RESERVE = 8. # seconds at the end for what is written then


@dataclasses.dataclass(frozen=True)
class Training:
    "Encoders of some groups of an experiment, in this order."
    experiment: str # of `reproduce.EXPERIMENTS`
    groups: tuple[str, ...]
    seconds: float # what one encoder takes, before one has been timed
    archive: str # its .zip in --out


TRAININGS = {
    "main": Training("cifar10-gpu", ("main",), 60, "main.zip"),
    "controls": Training("cifar10-gpu", ("temperature", "loss", "label noise"), 60, "controls.zip"),
    "speed": Training("cifar10-gpu", ("learning rate", "training images"), 60, "speed.zip"),
    "resnet18": Training("cifar10-resnet18", ("main",), 150, "larger.zip"),
    "cifar100": Training("cifar100-gpu", ("main",), 60, "larger.zip"),
}
STEPS = ("environment", "correctness", "main", "features", "controls", "speed", "resnet18", "cifar100", "loss", "throughput", "algebra") # in order of worth


class OutOfTime(BaseException):
    "The time is up. No `Exception`, so that nothing on the way takes it for a failure of its own."


def say(text: str): print(text, flush=True)


# ---- the clock

class Clock:
    def __init__(self, seconds: float): self.began, self.seconds = time.monotonic(), seconds

    @property
    def left(self)->float: return self.seconds - (time.monotonic() - self.began) - RESERVE

    @contextlib.contextmanager
    def alarm(self):
        "`OutOfTime` in the main thread when the time is up, or when the process is asked to end."
        def ring(number, frame): raise OutOfTime("asked to end" if number == signal.SIGTERM else "the time was up")
        before = [signal.signal(s, ring) for s in (signal.SIGALRM, signal.SIGTERM)]
        signal.setitimer(signal.ITIMER_REAL, max(self.left, .001))
        try: yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for s, b in zip((signal.SIGALRM, signal.SIGTERM), before): signal.signal(s, b)


# ---- processes beside this one

def tried(work, device: str):
    "`work(device)`; what fails on the GPU is done on the CPU, more slowly."
    try: return work(device)
    except Exception as e:
        if resolve_device(device).type == "cpu": raise
        print(f"on the GPU: {type(e).__name__}: {e}; now on the CPU\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return work("cpu")


def analyse(pair: Pair, device: str)->float: # seconds
    "Everything that is measured of a pair, left in its folder."
    began = time.perf_counter()
    tried(lambda d: analyzed(*(Run(r) for r in pair.runs), pair.folder, pair.layer, pair.copula, d), device)
    tried(lambda d: measured(pair, d), device)
    return time.perf_counter() - began


def serve(connection):
    "An analyst's life: a task comes in, its result goes out."
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            task = connection.recv()
            try: connection.send((task(), None))
            except Exception: connection.send((None, traceback.format_exc()))


class Analysts:
    "Tasks by priority (0 comes first) in processes of their own; without processes, at once in this one."
    def __init__(self, count: int):
        self.waiting, self.open, self.order, self.processes = queue.PriorityQueue(), 0, itertools.count(), []
        self.lock, self.idle = threading.Lock(), threading.Event()
        self.idle.set()
        context = multiprocessing.get_context("spawn") # a forked process cannot use CUDA
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs,), daemon=True)
            process.start(); theirs.close()
            self.processes.append(process)
            threading.Thread(target=self._feed, args=(ours,), daemon=True).start()

    def _feed(self, connection):
        while True:
            _, _, task, then = self.waiting.get()
            try:
                connection.send(task)
                answer = connection.recv()
            except (EOFError, OSError) as e: answer = None, f"the analyst ended ({type(e).__name__})"
            try: then(*answer)
            except Exception: traceback.print_exc()
            with self.lock:
                self.open -= 1
                if not self.open: self.idle.set()
            if answer[1] and "the analyst ended" in answer[1]: return

    def submit(self, priority: int, task, then): # then(result, error) is called in another thread
        if not self.processes:
            try: answer = task(), None
            except Exception: answer = None, traceback.format_exc()
            return then(*answer)
        with self.lock: self.open += 1; self.idle.clear()
        self.waiting.put((priority, next(self.order), task, then))

    def wait(self, seconds: float)->bool: return self.idle.wait(max(0, seconds))

    def close(self):
        for p in self.processes: p.kill()


class Side:
    "Commands on the CPU; `{side}` in one is its folder, from whose small tables and figures side.zip is made."
    def __init__(self, commands: list[str], folder: Path):
        self.running = []
        for i, command in enumerate(commands):
            own = folder/f"{i}"
            own.mkdir(parents=True, exist_ok=True)
            with open(own/"output.txt", "ab") as out:
                words = ["nice", "-n", "19", *shlex.split(command.replace("{side}", str(own)))]
                process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}, start_new_session=True)
            self.running.append((command, own, process, time.monotonic()))

    def _signal(self, number):
        for _, _, process, _ in self.running:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError): os.killpg(process.pid, number) # its own group: it and what it started

    @contextlib.contextmanager
    def paused(self):
        "Nothing of it runs inside the block."
        self._signal(signal.SIGSTOP)
        try: yield
        finally: self._signal(signal.SIGCONT)

    def close(self, out: Path)->list[dict]:
        "Ends what runs; writes side.zip; what became of each."
        told = [{"command": c, "status": "finished" if p.poll() == 0 else f"failed with status {p.returncode}" if p.returncode is not None else "ended at the deadline, unfinished"} for c, _, p, _ in self.running]
        self._signal(signal.SIGTERM)
        for _, _, p, _ in self.running:
            try: p.wait(2)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError): os.killpg(p.pid, signal.SIGKILL)
                p.wait()
        if not self.running: return told
        total = 0
        with atomic_write(out/"side.zip") as tmp, zipfile.ZipFile(tmp, "w", zipfile.ZIP_DEFLATED) as z:
            for _, own, _, _ in self.running:
                for file in sorted(own.rglob("*")):
                    if file.suffix not in (".csv", ".json", ".jsonl", ".png", ".txt") or not file.is_file() or file.stat().st_size > 2**21 or total + file.stat().st_size > SIDE_LIMIT: continue
                    total += file.stat().st_size
                    z.write(file, f"{own.name}/{file.relative_to(own)}")
        return told


# ---- what is small and alone

def median_seconds(work, device: torch.device, turns: int = 5)->float:
    "Of a call after a first one that is not counted; the GPU is waited for."
    def wait():
        if device.type == "cuda": torch.cuda.synchronize(device)
    work(); wait()
    times = []
    for _ in range(turns):
        began = time.perf_counter()
        work(); wait()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def machine(device: torch.device, quick: bool)->dict:
    "Where this runs, and the two rates that bound everything: matrix products and copies in memory."
    out = environment(device) | {"processor": reproduce.processor(), "cores": os.cpu_count()}
    if device.type == "cuda":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            asked = "name,driver_version,memory.total,clocks.max.sm"
            said = subprocess.run(["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"], capture_output=True, text=True, timeout=20, check=True).stdout
            out["nvidia_smi"] = dict(zip(asked.split(","), next(csv.reader(io.StringIO(said), skipinitialspace=True))))
    n, rates, tf32 = 256 if quick or device.type == "cpu" else 8192, {}, torch.backends.cuda.matmul.allow_tf32
    for name, dtype, allow in (("bfloat16", torch.bfloat16, False), ("tf32", torch.float32, True), ("float32", torch.float32, False), ("float64", torch.float64, False)):
        if name == "tf32" and device.type == "cpu": continue
        side = n//2 if dtype == torch.float64 else n
        a, b = (torch.randn(side, side, device=device, dtype=torch.float32).to(dtype) for _ in range(2)) # random: zeros multiply faster
        torch.backends.cuda.matmul.allow_tf32 = allow
        calls = 10 if name == "bfloat16" else 2
        def products():
            for _ in range(calls): a@b
        rates[name] = 2*side**3*calls/median_seconds(products, device)/1e12
    torch.backends.cuda.matmul.allow_tf32 = tf32
    a = torch.empty(2**22 if n == 256 else 2**31, dtype=torch.uint8, device=device).random_(256)
    b = torch.empty_like(a)
    copy = median_seconds(lambda: b.copy_(a), device)
    return out | {"product_side": n, "tflops": rates, "copy_gb_per_second": 2*len(a)/copy/1e9}


def distance(found, reference)->float:
    "‖found − reference‖/‖reference‖ in float64."
    a, b = (torch.as_tensor(v).detach().double().cpu() for v in (found, reference))
    return float((a - b).norm()/b.norm())


def correctness(device: str)->list[dict]:
    "Relative errors of results on the device against float64 on the CPU, on the same random numbers."
    g, rows, device = torch.Generator().manual_seed(int.from_bytes(os.urandom(4), "big")), [], resolve_device(device) # fresh numbers every time
    def add(what, **errors): rows.append({"what": what, **errors})
    y = torch.randint(10, (1500,), generator=g)
    z = torch.nn.functional.normalize(torch.randn(1500, 64, generator=g, dtype=torch.float64), dim=1)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        rounded = z.to(dtype).double()
        for name, loss in (("out", supcon_loss), ("in", functools.partial(supcon_loss, variant="in")), ("nt-xent", lambda z, y, **kw: nt_xent_loss(z))):
            exact = rounded.clone().requires_grad_()
            reference = loss(exact, y)
            reference.backward()
            for chunk in (None, 257) if name != "nt-xent" else (None,):
                there = z.to(device, dtype).requires_grad_()
                value = loss(there, y.to(device), chunk_size=chunk)
                value.backward()
                add("contrastive loss", variant=name, dtype=str(dtype).removeprefix("torch."), chunk_size=chunk, value=distance(value, reference), gradient=distance(there.grad, exact.grad))
    y = torch.arange(6000) % 10
    x = .4*torch.randn(10, 96, generator=g)[y] + torch.randn(6000, 96, generator=g)
    other = x@torch.randn(96, 80, generator=g)/10 + torch.randn(6000, 80, generator=g)
    for dtype in (torch.float64, torch.float32):
        here, there = (collapse_metrics(x.to(d, t), y.to(d)) for d, t in (("cpu", torch.float64), (device, dtype)))
        add("collapse_metrics", dtype=str(dtype).removeprefix("torch."), **{n: distance(getattr(there, n), getattr(here, n)) for n in ("nc1", "nc1_quotient", "cdnv", "equinorm", "equiangular", "etf_error", "cosines")})
        pairs = [(x.to(d, t), other.to(d, t)) for d, t in (("cpu", torch.float64), (device, dtype))]
        here, there = (canonical_correlations(*p) for p in pairs)
        add("canonical_correlations", dtype=str(dtype).removeprefix("torch."), rho=distance(there.rho, here.rho))
        here, there = (GaussianIB.fit(*p) for p in pairs)
        finite = torch.isfinite(torch.as_tensor(here.excess))
        add("GaussianIB.fit", dtype=str(dtype).removeprefix("torch."), excess=distance(torch.as_tensor(there.excess).cpu()[finite], torch.as_tensor(here.excess)[finite]),
            information=distance(there.information, here.information), count_difference=there.transitions().count - here.transitions().count)
        here, there = (linear_identifiability(*p) for p in pairs)
        add("linear_identifiability", dtype=str(dtype).removeprefix("torch."), r2=distance(there.r2_x_to_y, here.r2_x_to_y))
        here, there = (linear_probe(p[0], y.to(p[0].device), 10) for p in pairs)
        add("linear_probe", dtype=str(dtype).removeprefix("torch."), loss=distance(there.loss, here.loss))
    return rows


def benchmark(name: str, words: list[str])->dict:
    "A script of benchmarks/ in this process, as from the command line; what it wrote."
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS/f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    threads, tf32, conv, tune, argv = torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark, sys.argv
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = [str(BENCHMARKS/f"{name}.py"), *words, "--out", f"{folder}/out.json"]
        try:
            module.main()
            return read_json(f"{folder}/out.json")
        finally: # what the script set for itself
            sys.argv = argv
            torch.set_num_threads(threads)
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = tf32, conv, tune


def loss_benchmark(device: torch.device, quick: bool, rates: "dict|None")->dict:
    "benchmarks/loss.py at 65,536 rows; with the share of the measured rate of float32 products, of which the loss needs three of 2·n²·d operations."
    sizes = ["256"] if quick else ["4096", "16384", "65536"]
    found = benchmark("loss", ["--device", device.type, "--sizes", *sizes, "--dtypes", "float32", "bfloat16", "--turns", "2" if quick else "5", "--budget", "10", *(["--no-memory"] if device.type == "cpu" else [])])
    for row in found["rows"] if rates else ():
        row["share_of_float32_products"] = 6*row["n"]**2*found["dim"]/row["forms"]["ncib"]["least_s"]/1e12/rates["float32"]
    return found


def throughput(device: torch.device, quick: bool)->dict:
    "benchmarks/train.py: images a second of SupCon steps."
    if quick: return benchmark("train", ["--device", device.type, "--backbones", "light", "--batches", "32", "--steps", "1", "--turns", "1", "--precisions", "float32", "--no-plain"])
    return benchmark("train", ["--device", device.type, "--backbones", "resnet18", "resnet50", "--batches", "512", "1024", "--steps", "6", "--turns", "3", "--no-plain"])


def algebra(device: torch.device, quick: bool)->list[dict]:
    "The Gaussian bottleneck and the collapse metrics at the size of a ResNet's features, here and on the CPU."
    g, n, rows = torch.Generator().manual_seed(0), 2000 if quick else 50_000, []
    y, threads = torch.arange(n) % 10, torch.get_num_threads()
    for what, d in (("GaussianIB.fit", 64 if quick else 512), ("collapse_metrics", 64 if quick else 2048)):
        x = torch.randn(10, d, generator=g)[y] + torch.randn(n, d, generator=g)
        other = .5*x + torch.randn(n, d, generator=g)
        row = {"what": what, "n": n, "d": d, "dtype": "float32", "threads": os.cpu_count()}
        for place in dict.fromkeys((device, torch.device("cpu"))):
            a, b, labels = x.to(place), other.to(place), y.to(place)
            torch.set_num_threads(os.cpu_count() if place.type == "cpu" else threads)
            row[place.type] = median_seconds(lambda: GaussianIB.fit(a, b).excess if what == "GaussianIB.fit" else collapse_metrics(a, labels), place, 3)
        rows.append(row)
    torch.set_num_threads(threads)
    return rows


# ---- the whole

class Lease:
    def __init__(self, args):
        self.args, self.device, self.clock = args, resolve_device(args.device), Clock(60*args.minutes)
        self.out, self.work = Path(args.out).resolve(), Path(args.work).resolve()
        self.out.mkdir(parents=True, exist_ok=True); self.work.mkdir(parents=True, exist_ok=True)
        self.lock, self.images, self.timed, self.asked = threading.RLock(), {}, {}, set()
        self.state = {"steps": {}, "calls": []}
        for folder in dict.fromkeys(([Path(args.resume).resolve()] if args.resume else []) + [self.out]): self._take(folder)
        if any(c["quick"] != args.quick for c in self.state["calls"]): raise InputError("a call with --quick and one without it cannot go on with each other: take another --out and --work")
        self.state["calls"].append({"minutes": args.minutes, "quick": args.quick, "steps": {}})
        self.now = self.state["calls"][-1]

    def _take(self, folder: Path):
        "What an earlier call left."
        if not folder.is_dir(): raise InputError(f"{folder}: no such folder")
        if (folder/"lease.json").is_file(): self.state = read_json(folder/"lease.json")
        for file in folder.iterdir():
            if file.suffix in (".zip", ".safetensors") and folder != self.out: shutil.copyfile(file, self.out/file.name)
            if file.name in {t.archive for t in TRAININGS.values()}: unpack(file, self.work)

    def write(self):
        with self.lock: write_json(self.out/"lease.json", self.state)

    def note(self, name: str, status: str, **more):
        "What became of a step; what is done stays done."
        with self.lock:
            if self.state["steps"].get(name, {}).get("status") != "done": self.state["steps"][name] = {"status": status, **more}
            self.now["steps"][name] = status
            self.write()
        say(f"{self.clock.left:6.0f} s left  {name}: {status}" + (f" in {more['seconds']:.1f} s" if "seconds" in more else ""))

    def done(self, name: str)->bool: return self.state["steps"].get(name, {}).get("status") == "done"

    def step(self, name: str, needs: float, work, **about): # work() gives what lease.json keeps of it
        "Does a step if it fits; a failure is noted, and the next step comes."
        if self.done(name): return
        if self.clock.left < needs: return self.note(name, f"skipped: it needs {needs:.0f} s, {max(self.clock.left, 0):.0f} s were left")
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

    def plan(self, key: str):
        "Experiment, configuration, seeds and folder of a group of trainings; the images are loaded once."
        name = TRAININGS[key].experiment
        experiment = scaled(EXPERIMENTS[name]) if self.args.quick else EXPERIMENTS[name]
        changes = QUICK | {"checkpoints": 2, "epochs": 2, "feature_train_size": None} if self.args.quick else {}
        config = recipe(experiment.recipe, **{**experiment.changes, **changes, "device": self.args.device})
        data = self.args.data100 if config.data == "cifar100" else self.args.data
        if data is None: raise InputError(f"{key}: the images of {config.data} were not given")
        return name, experiment, dataclasses.replace(config, data=data), experiment.seeds, self.work/name

    def encoders(self, key: str)->list[tuple]:
        "(group, condition, configuration, seed) in order of worth: the second of a pair right behind the first, what goes beyond pairs at the end."
        _, experiment, config, seeds, _ = self.plan(key)
        of = [(g, c, dataclasses.replace(conf, seed=s), s) for g in TRAININGS[key].groups for c, (_, conf) in conditions(groups(experiment)[g], config).items() for s in seeds_of(experiment, g, seeds)]
        return sorted(of, key=lambda e: seeds.index(e[3]) > 1) # sorted is stable

    def pairs(self, key: str)->list[Pair]:
        "What is analysed of a group of trainings."
        _, experiment, config, seeds, out = self.plan(key)
        names = {("main" if g == "main" else c) for g in TRAININGS[key].groups for c in conditions(groups(experiment)[g], config)}
        found = [p for p in all_pairs(experiment, config, seeds, out) if p.condition in names]
        return found + [dataclasses.replace(p, folder=out/"variants"/"head"/p.condition/p.folder.name, layer="head") for p in found if p.condition != "main" and "cross-entropy" not in p.condition]

    def finished(self, pair: Pair)->bool: return (pair.folder/"info.json").is_file() and (pair.folder/"measures.json").is_file()

    def ready(self, folder: Path)->bool: # trained to the end, here
        return (folder/"checkpoints"/"last.safetensors").is_file() and f"{folder.relative_to(self.work)}" in self.state.get("trained", {})

    def seconds_for(self, key: str, config)->float:
        "Of one encoder: as long as the slowest of its experiment so far."
        same = [k for k, t in TRAININGS.items() if t.experiment == TRAININGS[key].experiment]
        seen = [seconds for k in same for seconds in self.timed.get(k, ())]
        return max(seen) if seen else 5. if self.args.quick else TRAININGS[key].seconds*(config.train_size or 50_000)/50_000

    def analysis_seconds(self)->float:
        "Until what waits and one pair more is analysed."
        each = statistics.mean(self.timed["analysis"]) if self.timed.get("analysis") else 3 if self.args.quick else 40
        return each*(1 + (self.analysts.open + 2)//max(1, len(self.analysts.processes)))

    def train_group(self, key: str):
        try: name, experiment, _, _, out = self.plan(key)
        except InputError as e: return self.note(key, f"skipped: {e}")
        pairs, tasks = self.pairs(key), self.encoders(key)
        self.analyse_ready(key, pairs)
        for group, condition, config, seed in tasks:
            folder = out/group.replace(" ", "-")/condition/f"encoder-{seed}"
            label = f"{name}/{group}/{condition}/encoder-{seed}"
            own = [p for p in pairs if folder in p.runs]
            others = [r for p in own for r in p.runs if r != folder]
            if self.ready(folder) or all(self.finished(p) for p in own):
                self.note(label, "done")
                continue
            self.state["steps"].pop(label, None) # trained on a machine that is gone, and not all of it was analysed there
            one = self.seconds_for(key, config)
            needs = one*(1 if any(self.ready(r) for r in others) else 2) + self.analysis_seconds() # an encoder alone says nothing
            self.step(label, needs, lambda: self.train_one(key, config, folder))
            if self.ready(folder): self.analyse_ready(key, pairs)
            if group == "loss" and self.ready(folder): self.cross(key)

    def train_one(self, key: str, config, folder: Path)->dict:
        if config.data not in self.images: self.images[config.data] = load_images(config.data)
        began, beside = time.perf_counter(), self.analysts.open
        run = train(config, folder, progress=False, data=self.images[config.data])
        if self.device.type == "cuda": torch.cuda.synchronize(self.device)
        wall, log = time.perf_counter() - began, run.log()
        steps, seen = float(log.seconds.sum()), run.config["epochs"]*(run.config["train_size"] or run.data["train"])
        self.timed.setdefault(key, []).append(wall)
        last = log.iloc[-1]
        with self.lock: self.state.setdefault("trained", {})[str(folder.relative_to(self.work))] = True
        if self.device.type == "cuda": torch.cuda.empty_cache() # the analysts live on the same GPU
        return {"training_seconds": steps, "images_per_second": seen/steps, "wall_seconds": wall, "analyses_beside": max(beside, self.analysts.open),
                "nearest_mean_test_accuracy": float(last.test_nearest_mean_accuracy), "linear_probe_test_accuracy": float(last.test_linear_probe_accuracy)}

    def analyse_ready(self, key: str, pairs: list[Pair]):
        "Asks for the analyses of all pairs whose encoders are there."
        for p in pairs:
            if p.folder in self.asked or self.finished(p) or not all(self.ready(r) for r in p.runs): continue
            self.asked.add(p.folder)
            place = str(p.folder.relative_to(self.work))
            def then(seconds, error, place=place):
                if error: print(error, file=sys.stderr, flush=True); self.note(f"analysis {place}", f"failed: {error.strip().splitlines()[-1]}")
                else:
                    self.timed.setdefault("analysis", []).append(seconds)
                    self.pack(TRAININGS[key].archive)
                    self.note(f"analysis {place}", "done", seconds=round(seconds, 1))
            self.analysts.submit(2 if p.copula else 1 if p.layer == "head" else 0, functools.partial(analyse, p, self.args.device), then)

    def cross(self, key: str):
        "Encoders of the main condition beside those of another loss."
        name, experiment, config, seeds, out = self.plan(key)
        pairs = [p for p in all_pairs(experiment, config, seeds, out) if p.condition == "main" or p.condition.startswith("loss=")]
        there = [p for p in pairs if p.layer == "backbone" and not p.copula and all(self.ready(r) for r in p.runs)]
        if len({p.condition for p in there}) < 2: return
        def work():
            table = tried(lambda d: crossed(there, d), self.args.device)
            with atomic_write(out/"cross.csv") as tmp: table.to_csv(tmp, index=False)
            self.pack(TRAININGS[key].archive)
            return {"rows": len(table)}
        self.state["steps"].pop("cross", None) # more encoders may be there than the last time
        self.step("cross", 5, work)

    def pack(self, archive: str):
        "All that is to be kept of the trainings that go into an archive; where it would be too large, without the arrays of the variants."
        with self.lock:
            files = []
            for key, t in TRAININGS.items():
                if t.archive != archive: continue
                with contextlib.suppress(InputError):
                    out, folders = self.work/t.experiment, {p.folder for p in self.pairs(key) if self.finished(p)} | {r for p in self.pairs(key) for r in p.runs}
                    files += [f for folder in sorted(folders) if folder.is_dir() for f in sorted(folder.iterdir()) if f.is_file() and not f.name.startswith(".")]
                    if key == "controls" and (out/"cross.csv").is_file(): files.append(out/"cross.csv")
            for leave_out in (False, True):
                kept = [f for f in files if not (leave_out and f.name == "arrays.safetensors" and "variants" in f.parts)]
                with atomic_write(self.out/archive) as tmp:
                    with zipfile.ZipFile(tmp, "w", zipfile.ZIP_DEFLATED) as z:
                        for f in kept: z.write(f, f.relative_to(self.work))
                    size = tmp.stat().st_size
                if size <= FILE_LIMIT: return
            print(f"{archive} has {size/2**20:.1f} MiB", file=sys.stderr)

    def features(self):
        "Test features of the main pair's last checkpoint, as float16."
        _, _, config, _, out = self.plan("main")
        folders = [out/"main"/"base"/f"encoder-{s}" for s in EXPERIMENTS["cifar10-gpu"].seeds[:2]]
        if not all(self.ready(f) for f in folders): return self.note("features", "skipped: the main pair is not there") if not self.done("features") else None
        def work():
            tensors = {}
            for folder in folders:
                run = Run(folder)
                f = run.features(run.epochs[-1])
                tensors |= {f"{folder.name}.backbone": f.test.half(), f"{folder.name}.head": f.test_head.half()}
            save_tensors(self.out/"features.safetensors", tensors | {"labels": f.test_labels.to(torch.uint8)}, classes=run.classes, epoch=run.epochs[-1], recipe=EXPERIMENTS["cifar10-gpu"].recipe)
            return {"bytes": (self.out/"features.safetensors").stat().st_size}
        self.step("features", 2, work)

    # -- the order of things

    def alone(self, name: str, seconds: float, work):
        "A step whose times mean something: when no analysis runs beside it, and nothing of --side."
        if self.done(name): return
        if self.clock.left > seconds: self.analysts.wait(self.clock.left - seconds)
        busy = self.analysts.open
        with self.side.paused(): self.step(name, seconds, work, analyses_beside=busy)

    def do(self, name: str):
        quick = self.args.quick
        if name == "environment": self.step(name, 1 if quick else 6, lambda: machine(self.device, quick))
        elif name == "correctness":
            if self.done(name): return
            if self.clock.left < (10 if quick else 60): return self.note(name, f"skipped: {max(self.clock.left, 0):.0f} s were left")
            began = time.perf_counter()
            def then(rows, error):
                if error: print(error, file=sys.stderr, flush=True)
                self.note(name, f"failed: {error.strip().splitlines()[-1]}" if error else "done", seconds=round(time.perf_counter() - began, 1), result=rows)
            self.analysts.submit(0, functools.partial(correctness, self.args.device), then)
        elif name == "features": self.features()
        elif name in TRAININGS: self.train_group(name)
        elif name == "loss": self.alone(name, 5 if quick else 30, lambda: loss_benchmark(self.device, quick, self.state["steps"].get("environment", {}).get("result", {}).get("tflops")))
        elif name == "throughput": self.alone(name, 5 if quick else 45, lambda: throughput(self.device, quick))
        elif name == "algebra": self.alone(name, 5 if quick else 20, lambda: algebra(self.device, quick))

    def run(self)->int: # exit status
        count = self.args.analysts if self.args.analysts is not None else 3 if self.device.type == "cuda" else 0
        self.side, self.analysts = Side(self.args.side, self.work/"side"), Analysts(count)
        ended = None
        try:
            with self.clock.alarm():
                for name in self.args.steps: self.do(name)
                self.analysts.wait(self.clock.left)
        except OutOfTime as e: ended = str(e)
        finally:
            waiting = self.analysts.open
            self.analysts.close()
            self.now["side"] = self.side.close(self.out)
            self.now |= {"seconds": round(time.monotonic() - self.clock.began, 1), "ended": ended or "all steps were gone through", "analyses_not_finished": waiting,
                         "cores": os.cpu_count(), "load": [round(v, 1) for v in os.getloadavg()]}
            self.write()
        for name in self.args.steps: # what the time was not enough for
            if ended and name not in self.now["steps"] and name not in TRAININGS: self.note(name, f"skipped: {ended}")
            if ended and name in TRAININGS: self.left_over(name, ended)
        self.write()
        self.report()
        return 1 if any(s.startswith("failed") for s in self.now["steps"].values()) else 0

    def left_over(self, key: str, why: str):
        with contextlib.suppress(InputError):
            name = TRAININGS[key].experiment
            for group, condition, _, seed in self.encoders(key):
                label = f"{name}/{group}/{condition}/encoder-{seed}"
                if label not in self.now["steps"]: self.note(label, f"skipped: {why}")

    def report(self):
        "What was done, in a few lines: the end of the output is what is read first."
        say("")
        for name, status in self.now["steps"].items():
            r = self.state["steps"].get(name, {}).get("result")
            short = f"  {r['linear_probe_test_accuracy']:.4f} ({r['training_seconds']:.1f} s, {r['images_per_second']:,.0f} images/s)" if isinstance(r, dict) and "images_per_second" in r else ""
            if not name.startswith("analysis") or status != "done": say(f"{name}: {status}{short}")
        analysed = sum(n.startswith("analysis") and s == "done" for n, s in self.now["steps"].items())
        say(f"{analysed} analyses done, {self.now['analyses_not_finished']} not finished; {self.now['seconds']:.0f} s; in {self.out.name}: "
            + ", ".join(f"{f.name} {f.stat().st_size/2**20:.2f} MiB" for f in sorted(self.out.iterdir())))


def unpack(archive: Path, folder: Path):
    "Files of a .zip that are not there yet."
    with zipfile.ZipFile(archive) as z:
        for name in z.namelist():
            if ".." in Path(name).parts or Path(name).is_absolute(): raise InputError(f"{archive}: {name} would be written outside of {folder}")
            if not (folder/name).exists(): z.extract(name, folder)


# ---- what came back

def training_table(out: Path, pairs: list[Pair])->pd.DataFrame:
    "Test accuracy against the seconds that training took, encoder by encoder."
    rows = []
    for condition, seed, folder in dict.fromkeys((p.condition, s, r) for p in pairs for s, r in zip(p.seeds, p.runs)):
        seconds = 0.
        for row in Run(folder).log_rows():
            seconds += row.get("seconds", 0)
            if "test_nearest_mean_accuracy" in row:
                rows.append({"condition": condition, "seed": seed, "epoch": row["epoch"], "seconds": round(seconds, 2), "nearest_mean_test_accuracy": row["test_nearest_mean_accuracy"],
                             "linear_probe_test_accuracy": row.get("test_linear_probe_accuracy")})
    return pd.DataFrame(rows)


def collect(out: Path, name: str, results: Path, quick: bool):
    "Tables, claims and figures of an experiment from the archives in `out`: `reproduce.write_results` on what the GPU machine measured."
    state = read_json(out/"lease.json")
    experiment = scaled(EXPERIMENTS[name]) if quick else EXPERIMENTS[name]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)/name
        for archive in {t.archive for t in TRAININGS.values() if t.experiment == name}:
            if (out/archive).is_file(): unpack(out/archive, Path(folder))
        config = recipe(experiment.recipe, **experiment.changes)
        pairs = all_pairs(experiment, config, experiment.seeds, root)
        heads = [dataclasses.replace(p, folder=root/"variants"/"head"/p.condition/p.folder.name, layer="head") for p in pairs if p.condition != "main"]
        there = [p for p in pairs + heads if (p.folder/"info.json").is_file() and (p.folder/"measures.json").is_file()]
        plain = [p for p in there if p.layer == "backbone" and not p.copula]
        if not any(p.condition == "main" for p in plain): raise InputError(f"{out} holds no analysis of the main condition of {name}")
        of = {p.folder: Timeline.load(p.folder) for p in there}
        by_condition = {("main" if g == "main" else c): g for g, grid in groups(experiment).items() for c in conditions(grid, config)}
        tables, swept = [], []
        for p in there:
            if p.condition not in {q.condition for q in plain}: continue
            t = reproduce.rows(of[p.folder], read_json(p.folder/"measures.json")["rows"])
            for i, (k, v) in enumerate({"condition": p.condition, "layer": p.layer, "copula": p.copula, "seed_a": p.seeds[0], "seed_b": p.seeds[1]}.items()): t.insert(i, k, v)
            tables.append(t)
        for p in plain:
            s = of[p.folder].summary()
            swept.append({"condition": p.condition, "seed_a": p.seeds[0], "seed_b": p.seeds[1], **{q: pd.Series(s[q], dtype=float).mean() for q in quantities if q in s}, "group": by_condition[p.condition]})
        nothing = pd.DataFrame(columns=["kind", "seed_a", "seed_b", "epoch", *(f"{r}_{d}" for r in ("r2", "r2_within") for d in ("forward", "backward"))])
        cross = pd.read_csv(root/"cross.csv") if (root/"cross.csv").is_file() else nothing
        run, first = Run(plain[0].runs[0]), of[plain[0].folder]
        seeds = sorted({s for p in plain if p.condition == "main" for s in p.seeds})
        measured_there = state["steps"].get("environment", {}).get("result", {})
        about = reproduce.described(name, run, seeds, first.epochs.tolist(), quick, {k: measured_there.get(k, "not measured") for k in ("processor", "cores")} | {"ray": False})
        about |= {"wall": [{k: c.get(k) for k in ("seconds", "cores", "load")} for c in state["calls"]], "training_seconds": reproduce.training_seconds(root)}
        judged = reproduce.write_results(results, about, pd.DataFrame(swept), pd.concat(tables, ignore_index=True), cross, first, first.num_classes)
        with atomic_write(results/"training.csv") as tmp: reproduce.rounded(training_table(root, plain)).to_csv(tmp, index=False)
    for c in judged: say(f"{c.claim}: {c.verdict}. {c.paper}")
    say(f"written: {results}")


# ---- the command

def parser()->argparse.ArgumentParser:
    "The command line's parser."
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, metavar="DIR", help="folder for what is taken home")
    p.add_argument("--work", metavar="DIR", help="folder for weights and features (default: lease in /dev/shm where that has 40 GB free, else work beside --out)")
    p.add_argument("--data", metavar="DATA", help="the images of CIFAR-10, as for ncib train (with --quick: digits)")
    p.add_argument("--data100", metavar="DATA", help="those of CIFAR-100 (with --quick: digits)")
    p.add_argument("--minutes", type=float, default=9., help="how long this may take in all (default: %(default)s)")
    p.add_argument("--resume", metavar="DIR", help="--out of an earlier call on another machine")
    p.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP", help=f"only these, in this order (default: {' '.join(STEPS)})")
    p.add_argument("--side", action="append", default=[], metavar="COMMAND", help="run beside all this on the CPU; {side} is a folder for it (may be given several times)")
    p.add_argument("--analysts", type=int, metavar="N", help="processes that analyse pairs beside the trainings (default: 3 on a GPU, else none)")
    p.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    p.add_argument("--collect", choices=("cifar10-gpu", "cifar10-resnet18", "cifar100-gpu"), metavar="EXPERIMENT", help="write tables, claims and figures of cifar10-gpu, cifar10-resnet18 or cifar100-gpu from --out, and do nothing else")
    p.add_argument("--results", metavar="DIR", help="where --collect writes (default: results/EXPERIMENT)")
    p.add_argument("--quick", action="store_true", help="at a tiny scale, to see that it works: the numbers mean nothing")
    return p


class Tee:
    "Standard output and errors, also into log.txt."
    def __init__(self, stream, file): self.stream, self.file = stream, file
    def write(self, text): self.file.write(text); self.file.flush(); return self.stream.write(text)
    def flush(self): self.file.flush(); self.stream.flush()
    def __getattr__(self, name): return getattr(self.stream, name)


def main(argv: "list[str]|None" = None)->int: # exit status
    "One call."
    args = parser().parse_args(argv)
    try:
        if args.collect:
            collect(Path(args.out), args.collect, Path(args.results or f"results/{args.collect}"), args.quick)
            return 0
        if args.quick: args.data, args.data100 = args.data or "digits", args.data100 or "digits"
        shm = Path("/dev/shm")
        if not args.work: args.work = shm/"lease" if shm.is_dir() and shutil.disk_usage(shm).free > 40e9 else Path(args.out).resolve().parent/"work"
        Path(args.out).mkdir(parents=True, exist_ok=True)
        with open(Path(args.out)/"log.txt", "a", encoding="utf-8") as file, contextlib.redirect_stdout(Tee(sys.stdout, file)), contextlib.redirect_stderr(Tee(sys.stderr, file)): return Lease(args).run()
    except (InputError, OSError) as e: print(f"lease: {e}", file=sys.stderr); return 1


if __name__ == "__main__": sys.exit(main())
