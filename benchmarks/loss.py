#!/usr/bin/env python3
"""Time and peak memory of the supervised contrastive loss, forward and backward, against a plain dense form and against
pytorch-metric-learning.

    python benchmarks/loss.py --device cpu --sizes 1024 8192 --out loss.json
    python benchmarks/loss.py --device cuda --dtypes float32 bfloat16 --out loss.json

Random unit rows, balanced classes, T = 0.1, the same process and threads for all:
  ncib   supcon_loss(z, labels)
  dense  the definition with n × n matrices and autograd, written below
  pml    pytorch_metric_learning.losses.SupConLoss (variant out only), if it can be imported
Rows in half precision are computed with in float32 by all three (the last two are given float32 copies). The forms take
turns, so that a busy machine is as busy for
each; the least and the median time of the turns are given, on CUDA by events after a warm-up that compiles. Peak memory
is counted above the inputs: on the CPU (Linux)
the high-water mark of the resident set of a fresh process for each form, on CUDA torch.cuda.max_memory_allocated. A
form whose matrices would not fit into --memory is
skipped, and the results say so. Ratios are to ncib. The error is the largest difference of ncib's gradient from the
dense one's, relative to the largest entry (both are
rounded to the dtype of the rows).
"""
import argparse, json, os, platform, statistics, subprocess, sys, time

import torch
import torch.nn.functional as F

from ncib.losses import supcon_loss

T = 0.1
BYTES = {"dense": 24, "pml": 48}                        # per entry of an n × n matrix at the peak, rounded up from runs

def dense(z, y, variant):
    self_ = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positive = (y[:, None] == y) & ~self_
    s = (z @ z.T/T).masked_fill(self_, -torch.inf)
    log_p = s - s.logsumexp(1, keepdim=True)
    if variant == "out": return -(log_p.masked_fill(~positive, 0).sum(1)/positive.sum(1)).mean()
    return (positive.sum(1).log() - log_p.masked_fill(~positive, -torch.inf).logsumexp(1)).mean()

def forms(variant):
    found = {"ncib": lambda z, y: supcon_loss(z, y, T, variant), "dense": lambda z, y: dense(z.float(), y, variant)}
    try:
        if variant == "out":
            from pytorch_metric_learning.losses import SupConLoss
            theirs = SupConLoss(temperature=T)
            found["pml"] = lambda z, y: theirs(z.float(), y)
    except ImportError: pass
    return found

def problem(n, dtype, a):
    g = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(n, a.dim, generator=g), dim=1)
    return z.to(a.device, getattr(torch, dtype)).requires_grad_(), (torch.arange(n) % a.classes).to(a.device)

def step(form, z, y):
    z.grad = None
    form(z, y).backward()

def seconds(form, z, y, a):
    if a.device == "cpu":
        clock = time.process_time if a.cpu_time else time.perf_counter
        start = clock()
        step(form, z, y)
        return clock() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    step(form, z, y)
    end.record()
    end.synchronize()
    return start.elapsed_time(end)/1e3

def peak_here(form, z, y, a):
    "Peak above the inputs, MB."
    z.grad = None
    if a.device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(form, z, y)
        return (torch.cuda.max_memory_allocated() - before)/2**20
    def status(key): return int(next(l for l in open("/proc/self/status") if l.startswith(key)).split()[1])/2**10
    before = status("VmRSS")
    step(form, z, y)
    return status("VmHWM") - before

def peak(name, n, dtype, z, y, a):
    if a.device == "cuda": return peak_here(forms(a.variant)[name], z, y, a)
    options = {"--peak": name, "--sizes": n, "--dtypes": dtype, "--variant": a.variant, "--dim": a.dim,
               "--classes": a.classes, "--threads": a.threads}
    command = [sys.executable, __file__] + [str(v) for pair in options.items() for v in pair]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])

def free_memory(device):
    if device == "cuda": return torch.cuda.mem_get_info()[0]/2**30
    return int(next(l for l in open("/proc/meminfo") if l.startswith("MemAvailable")).split()[1])/2**20

def measure(n, dtype, a):
    z, y = problem(n, dtype, a)
    row, run, grads = dict(n=n, dtype=dtype, forms={}), {}, {}
    for name, form in forms(a.variant).items():
        need = BYTES.get(name, 0)*n*n/2**30
        if need > a.memory:
            row["forms"][name] = dict(skipped=f"about {need:.0f} GB of n × n matrices, {a.memory:.0f} GB allowed")
        else: run[name] = form
    for form in run.values():
        if a.device == "cuda":
            for _ in range(3): step(form, z, y)
        else: step(form, *problem(256, dtype, a))
    times = {name: [] for name in run}
    for _ in range(a.turns):
        for name, form in run.items():
            if sum(times[name]) < a.budget:
                times[name].append(seconds(form, z, y, a))
                grads[name] = z.grad.float()
    for name, t in times.items():
        row["forms"][name] = dict(least_s=min(t), median_s=statistics.median(t), turns=len(t))
        if not a.no_memory: row["forms"][name]["peak_mb"] = peak(name, n, dtype, z, y, a)
    ours = row["forms"]["ncib"]
    for name in ("dense", "pml"):
        if name in run:
            other = row["forms"][name]
            other["time_ratio"] = other["least_s"]/ours["least_s"]
            if not a.no_memory: other["memory_ratio"] = other["peak_mb"]/max(ours["peak_mb"], 1e-3)
    if "dense" in run:
        row["gradient_error"] = float((grads["ncib"] - grads["dense"]).abs().max()/grads["dense"].abs().max())
    return row

def line(row):
    def text(name):
        f = row["forms"][name]
        if "skipped" in f: return "skipped: " + f["skipped"]
        ratio = (f" (×{f['time_ratio']:.2f}" + (f", ×{f['memory_ratio']:.1f} memory)" if "memory_ratio" in f else ")")
                 if "time_ratio" in f else "")
        return f"{f['least_s']:.4f} s" + (f" {f['peak_mb']:.0f} MB" if "peak_mb" in f else "") + ratio
    error = [f"error {row['gradient_error']:.1e}"] if "gradient_error" in row else []
    return f"n={row['n']:<6} {row['dtype']:9}" + " | ".join([f"{name} {text(name)}" for name in row["forms"]] + error)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    p.add_argument("--sizes", type=int, nargs="*", default=[2**k for k in range(10, 17)],
                   help="rows; default: 1024 … 65536")
    p.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"], help="of the rows")
    p.add_argument("--variant", default="out", choices=["out", "in"])
    p.add_argument("--dim", type=int, default=128)
    p.add_argument("--classes", type=int, default=10)
    p.add_argument("--turns", type=int, default=5, help="times that each form is run")
    p.add_argument("--budget", type=float, default=20., help="seconds after which a form has no further turn")
    p.add_argument("--memory", type=float, help="GB that a form may take; default: 80 %% of what is free")
    p.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())),
                   help="on the CPU")
    p.add_argument("--tf32", action="store_true", help="torch.set_float32_matmul_precision('high') for all forms")
    p.add_argument("--cpu-time", action="store_true",
                   help="count processor seconds in place of elapsed ones: with --threads 1, nearly indifferent to "
                        "other programs")
    p.add_argument("--no-memory", action="store_true", help="times only")
    p.add_argument("--out", help="JSON file for the results")
    p.add_argument("--peak", help=argparse.SUPPRESS)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    if a.tf32: torch.set_float32_matmul_precision("high")
    if a.peak:
        a.device, form = "cpu", forms(a.variant)[a.peak]
        step(form, *problem(64, a.dtypes[0], a))
        return print(peak_here(form, *problem(a.sizes[0], a.dtypes[0], a), a))
    a.memory = a.memory or .8*free_memory(a.device)
    try: from triton import __version__ as triton
    except ImportError: triton = None
    try: from pytorch_metric_learning import __version__ as pml
    except ImportError: pml = None
    machine = (torch.cuda.get_device_name() if a.device == "cuda"
               else f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {a.threads} threads")
    clock = "events" if a.device == "cuda" else "processor" if a.cpu_time else "elapsed"
    results = dict(machine=machine, device=a.device, torch=torch.__version__, triton=triton,
                   pytorch_metric_learning=pml, python=platform.python_version(), variant=a.variant,
                   dim=a.dim, classes=a.classes, temperature=T,
                   float32_matmul_precision=torch.get_float32_matmul_precision(), clock=clock, turns=a.turns, rows=[])
    print(", ".join(f"{k} {v}" for k, v in results.items() if k != "rows"), flush=True)
    for n in a.sizes:
        for dtype in a.dtypes:
            results["rows"].append(measure(n, dtype, a))
            print(line(results["rows"][-1]), flush=True)
            if a.out:
                with open(a.out, "w") as f: json.dump(results, f, indent=2)

if __name__ == "__main__": main()
