"""Is what a GPU computes right, and how fast: errors against float64 on the CPU, and the benchmarks in one process."""
import contextlib, csv, functools, importlib.util, io, os, statistics, subprocess, sys, tempfile, time
from pathlib import Path

import torch
import torch.nn.functional as F

from ncib.cca import canonical_correlations
from ncib.collapse import collapse_metrics
from ncib.core import read_json, resolve_device
from ncib.gib import GaussianIB
from ncib.identifiability import linear_identifiability
from ncib.losses import nt_xent_loss, supcon_loss
from ncib.probe import linear_probe
from ncib.runs import environment
from reproduce import processor

BENCHMARKS = Path(__file__).resolve().parents[1]/"benchmarks"
COLLAPSE = ("nc1", "nc1_quotient", "cdnv", "equinorm", "equiangular", "etf_error", "cosines")


def median_seconds(work, device: torch.device, turns: int = 5)->float:
    "Of a call, behind a first one that is not counted; the GPU is waited for."
    def wait():
        if device.type == "cuda": torch.cuda.synchronize(device)
    work(); wait()
    times = []
    for _ in range(turns):
        began = time.perf_counter()
        work(); wait()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


@contextlib.contextmanager
def settings_kept():
    "What a benchmark sets for itself is put back."
    cuda, cudnn, threads, argv = torch.backends.cuda.matmul, torch.backends.cudnn, torch.get_num_threads(), sys.argv
    before = cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    try: yield
    finally:
        cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before
        torch.set_num_threads(threads)
        sys.argv = argv


def driver()->dict:
    "What nvidia-smi says of the GPU; nothing where there is none."
    asked = "name,driver_version,memory.total,clocks.max.sm"
    command = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"]
    try: said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError): return {}
    return dict(zip(asked.split(","), next(csv.reader(io.StringIO(said), skipinitialspace=True), ())))


def machine(device: torch.device, quick: bool)->dict:
    "Where this runs, and the two rates that bound everything: of matrix products, and of copies in memory."
    small = quick or device.type == "cpu"
    rates, calls = {}, 1 if small else 5
    kinds = {"bfloat16": torch.bfloat16, "tf32": torch.float32, "float32": torch.float32, "float64": torch.float64}
    with settings_kept():
        for name, dtype in kinds.items():
            if name == "tf32" and device.type == "cpu": continue
            side = 256 if small else 4096 if name == "float64" else 8192
            a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2)) # random: zeros multiply faster
            torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
            def products():
                for _ in range(calls): a@b
            rates[name] = {"side": side, "tflops": 2*side**3*calls/median_seconds(products, device)/1e12}
    a = torch.empty(2**22 if small else 2**31, dtype=torch.uint8, device=device).random_(256)
    b = torch.empty_like(a)
    copied = 2*len(a)/median_seconds(lambda: b.copy_(a), device)/1e9                     # bytes read and bytes written
    return environment(device) | {"processor": processor(), "cores": os.cpu_count(), "driver": driver(),
                                  "products": rates, "copy_gb_per_second": copied}


# ---- right

def distance(found, reference)->float:
    "‖found − reference‖/‖reference‖."
    a, b = (torch.as_tensor(v).detach().double().cpu() for v in (found, reference))
    return float((a - b).norm()/b.norm())


def loss_errors(device: torch.device, g: torch.Generator)->list[dict]:
    "Value and gradient of the contrastive losses, whole and in blocks; a reference has the same rounded rows."
    rows, labels = [], torch.randint(10, (1500,), generator=g)
    unit = F.normalize(torch.randn(1500, 64, generator=g, dtype=torch.float64), dim=1)
    variants = {"out": supcon_loss, "in": functools.partial(supcon_loss, variant="in"),
                "nt-xent": lambda z, y, chunk_size=None: nt_xent_loss(z, chunk_size=chunk_size)}
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for name, loss in variants.items():
            exact = unit.to(dtype).double().clone().requires_grad_()
            reference = loss(exact, labels)
            reference.backward()
            for chunk in (None, 257):
                z = unit.to(device, dtype, copy=True).requires_grad_()
                value = loss(z, labels.to(device), chunk_size=chunk)
                value.backward()
                rows.append({"what": "contrastive loss", "variant": name, "dtype": str(dtype).removeprefix("torch."),
                             "chunk_size": chunk, "value": distance(value, reference),
                             "gradient": distance(z.grad, exact.grad)})
    return rows


def analysis_errors(device: torch.device, g: torch.Generator)->list[dict]:
    "What an analysis of a pair consists of."
    rows, labels = [], torch.arange(6000) % 10
    x = .4*torch.randn(10, 96, generator=g)[labels] + torch.randn(6000, 96, generator=g)
    y = x@torch.randn(96, 80, generator=g)/10 + torch.randn(6000, 80, generator=g)
    exact = [v.double() for v in (x, y)]
    for dtype in (torch.float64, torch.float32):
        there, there_labels = [v.to(device, dtype) for v in (x, y)], labels.to(device)
        def add(what, **errors): rows.append({"what": what, "dtype": str(dtype).removeprefix("torch."), **errors})
        found, reference = collapse_metrics(there[0], there_labels), collapse_metrics(exact[0], labels)
        add("collapse_metrics", **{n: distance(getattr(found, n), getattr(reference, n)) for n in COLLAPSE})
        found, reference = canonical_correlations(*there), canonical_correlations(*exact)
        add("canonical_correlations", rho=distance(found.rho, reference.rho))
        found, reference = GaussianIB.fit(*there), GaussianIB.fit(*exact)
        finite = torch.isfinite(torch.as_tensor(reference.excess))
        pair = [torch.as_tensor(g.excess).cpu()[finite] for g in (found, reference)]
        add("GaussianIB.fit", excess=distance(*pair),
            information=distance(found.information, reference.information),
            count_difference=found.transitions().count - reference.transitions().count)
        found, reference = linear_identifiability(*there), linear_identifiability(*exact)
        add("linear_identifiability", r2=distance(found.r2_x_to_y, reference.r2_x_to_y))
        found, reference = linear_probe(there[0], there_labels, 10), linear_probe(exact[0], labels, 10)
        add("linear_probe", loss=distance(found.loss, reference.loss))
    return rows


def correctness(device: str)->dict:
    "Relative errors of results on the device against float64 on the CPU, on random numbers that are fresh every time."
    seed, place = int.from_bytes(os.urandom(4), "big"), resolve_device(device)
    g = torch.Generator().manual_seed(seed)
    return {"seed": seed, "device": str(place), "errors": loss_errors(place, g) + analysis_errors(place, g)}


# ---- fast

def benchmark(name: str, words: list[str])->dict:
    "What a script of benchmarks/ writes, run in this process as from the command line."
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS/f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with tempfile.TemporaryDirectory() as folder, settings_kept():
        sys.argv = [str(BENCHMARKS/f"{name}.py"), *words, "--out", f"{folder}/out.json"]
        module.main()
        return read_json(f"{folder}/out.json")


def loss_benchmark(device: torch.device, quick: bool, measured: dict)->dict: # measured: what `machine` gave, or nothing
    "benchmarks/loss.py, and its share of the rate of float32 products, of which it needs three of 2n²d operations."
    sizes = ["256"] if quick else ["4096", "16384", "65536"]
    words = ["--device", device.type, "--sizes", *sizes, "--dtypes", "float32", "bfloat16"]
    words += ["--turns", "2" if quick else "5", "--budget", "10"]
    found = benchmark("loss", words + (["--no-memory"] if device.type == "cpu" else []))
    rate = measured.get("products", {}).get("float32", {}).get("tflops")
    for row in found["rows"] if rate else ():
        row["share_of_float32_products"] = 6*row["n"]**2*found["dim"]/row["forms"]["ncib"]["least_s"]/1e12/rate
    return found


def throughput(device: torch.device, quick: bool)->dict:
    "benchmarks/train.py: images a second of SupCon steps."
    sizes = ["--backbones", "light", "--batches", "32", "--steps", "1", "--turns", "1", "--precisions", "float32"]
    if not quick:
        sizes = ["--backbones", "resnet18", "resnet50", "--batches", "512", "1024", "--steps", "6", "--turns", "3"]
    return benchmark("train", ["--device", device.type, *sizes, "--no-plain"])


def algebra(device: torch.device, quick: bool)->list[dict]: # seconds on the device and on all cores of the CPU
    "The Gaussian bottleneck and the collapse metrics at the size of a ResNet's features."
    g, n, rows = torch.Generator().manual_seed(0), 2000 if quick else 50_000, []
    labels = torch.arange(n) % 10
    for what, d in (("GaussianIB.fit", 512), ("collapse_metrics", 2048)):
        d = 64 if quick else d
        x = torch.randn(10, d, generator=g)[labels] + torch.randn(n, d, generator=g)
        other = .5*x + torch.randn(n, d, generator=g)
        row = {"what": what, "n": n, "d": d, "dtype": "float32", "threads": os.cpu_count()}
        for place in dict.fromkeys((device, torch.device("cpu"))):
            a, b, y = x.to(place), other.to(place), labels.to(place)
            def work(): return GaussianIB.fit(a, b).excess if what == "GaussianIB.fit" else collapse_metrics(a, y)
            with settings_kept():
                if place.type == "cpu": torch.set_num_threads(os.cpu_count())
                row[f"{place.type}_seconds"] = median_seconds(work, place, 3)
        rows.append(row)
    return rows
