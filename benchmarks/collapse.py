#!/usr/bin/env python3
"""Time and peak memory of all collapse metrics, against rhubarbwu/neural-collapse and against the two matrix products
that cannot be avoided.

    git clone https://github.com/rhubarbwu/neural-collapse /tmp/neural-collapse
    python benchmarks/collapse.py --rival /tmp/neural-collapse --out collapse.json

Float32 features in memory, Gaussian classes, a random classifier with bias, the same process and threads for all three:
  ncib   collapse_metrics(features, labels, weight, bias): every metric, errors of input checked
  floor  one_hotᵀ·features (class sums) and features·meansᵀ (samples on class means), float32, nothing else
rival  its accumulators (means, within-class covariance, norms of variance, decisions) and its measures (NC1 by pinv and
quotient, CDNV, ETF error, GNC2, NC3, NC4), batches of --batch The three take turns, so that a busy machine is as busy
for each; the least and the median time of the turns are given. Without --rival, and where the package cannot be
imported, its column is left out. Peak memory is the growth of the resident set in a fresh process (sampled every 2 ms),
the features not counted. NC1 is also compared with a float64 evaluation.
"""
import argparse, json, os, platform, statistics, subprocess, sys, threading, time

import torch

from ncib.collapse import collapse_metrics

SIZES = [(50_000, 512, 10), (50_000, 2048, 10), (50_000, 2048, 100), (200_000, 768, 1000)]

def problem(n, d, K):
    g = torch.Generator().manual_seed(0)
    y = torch.arange(n) % K
    means = torch.randn(K, d, generator=g)
    x = torch.randn(n, d, generator=g)
    for i in range(0, n, 10_000): x[i:i+10_000] += means[y[i:i+10_000]]
    return x, y, torch.randn(K, d, generator=g)/d**.5, torch.randn(K, generator=g)

def floor(x, y, means):
    one_hot = torch.nn.functional.one_hot(y, len(means)).float()
    def run(): return one_hot.T@x, x@means.T
    return run

def rival(folder, x, y, weight, batch):
    if folder: sys.path.insert(0, folder)
    try:
        from neural_collapse.accumulate import CovarAccumulator, DecAccumulator, MeanAccumulator, VarNormAccumulator
        from neural_collapse.kernels import kernel_stats, log_kernel
        from neural_collapse.measure import (clf_ncc_agreement, covariance_ratio, self_duality_error,
                                             simplex_etf_error, variability_cdnv)
    except ImportError: return None
    K, d = weight.shape
    parts = [slice(i, i + batch) for i in range(0, len(x), batch)]
    def run():
        mean = MeanAccumulator(K, d)
        for p in parts: mean.accumulate(x[p], y[p])
        means, centre = mean.compute()
        norms, covariance, decisions = (VarNormAccumulator(K, d, M=means), CovarAccumulator(K, d, M=means),
                                        DecAccumulator(K, d, M=means, W=weight))
        for p in parts:
            norms.accumulate(x[p], y[p], means)
            covariance.accumulate(x[p], y[p], means)
            decisions.accumulate(x[p], y[p], weight, means)
        within, (v, _), tile = covariance.compute(), norms.compute(), 64 if K > 64 else None
        return dict(nc1=covariance_ratio(within, means, centre),
                    quotient=covariance_ratio(within, means, centre, "quotient"),
                    cdnv=variability_cdnv(v, means, tile_size=tile),
                    etf=simplex_etf_error(means, centre),
                    gnc2=kernel_stats(means, centre, kernel=log_kernel, tile_size=tile),
                    nc3=self_duality_error(weight, means, centre),
                    nc4=clf_ncc_agreement(decisions))
    return run

def candidates(a, size):
    x, y, weight, bias = problem(*size)
    runs = {"ncib": lambda: collapse_metrics(x, y, weight, bias), "floor": floor(x, y, torch.randn(size[2], size[1])),
            "rival": rival(a.rival, x, y, weight, a.batch)}
    return x, y, {k: r for k, r in runs.items() if r}

def peak(a, name, size):
    "Growth of the resident set in a fresh process, MB."
    command = [sys.executable, __file__, "--peak", name, "--sizes", ",".join(map(str, size)), "--threads",
               str(a.threads), "--batch", str(a.batch)] + (["--rival", a.rival] if a.rival else [])
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rival", default="", help="folder that holds the package neural_collapse")
    p.add_argument("--turns", type=int, default=5, help="times that each is run (the rival at most 3 times)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--batch", type=int, default=2048, help="rows per batch for the rival")
    p.add_argument("--sizes", nargs="*", help="n,d,K …; default: the four of the documentation")
    p.add_argument("--no-memory", action="store_true", help="times only")
    p.add_argument("--cpu-time", action="store_true",
                   help="count processor seconds in place of elapsed ones: with --threads 1, indifferent to other "
                        "programs")
    p.add_argument("--out", help="JSON file for the results")
    p.add_argument("--peak", help=argparse.SUPPRESS)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    clock = time.process_time if a.cpu_time else time.perf_counter
    sizes = [tuple(map(int, s.split(","))) for s in a.sizes] if a.sizes else SIZES
    if a.peak:
        _, _, runs = candidates(a, sizes[0])
        def resident(): return int(open("/proc/self/statm").read().split()[1])*os.sysconf("SC_PAGE_SIZE")/2**20
        before, seen, done = resident(), [0.], threading.Event()
        def watch():
            while not done.wait(0.002): seen.append(resident() - before)
        watcher = threading.Thread(target=watch)
        watcher.start()
        runs[a.peak]()
        done.set()
        watcher.join()
        return print(max(seen))
    results = dict(machine=f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {a.threads} threads",
                   clock="processor" if a.cpu_time else "elapsed", torch=torch.__version__,
                   python=platform.python_version(), turns=a.turns, sizes=[])
    print(results)
    for size in sizes:
        x, y, runs = candidates(a, size)
        times = {k: [] for k in runs}
        for turn in range(a.turns):
            for k, run in runs.items():
                if k == "rival" and turn >= 3: continue
                start = clock()
                out = run()
                times[k].append(clock() - start)
                if k == "rival": theirs = out["nc1"]
        ours, exact = (collapse_metrics(f, y).nc1 for f in (x, x.double()))
        row = dict(n=size[0], d=size[1], K=size[2], least={k: min(t) for k, t in times.items()},
                   median={k: statistics.median(t) for k, t in times.items()}, nc1_error=abs(ours/exact - 1))
        row["over_floor"] = row["least"]["ncib"]/row["least"]["floor"]
        if "rival" in runs:
            row["rival_over_ncib"], row["rival_nc1_error"] = (
                row["least"]["rival"]/row["least"]["ncib"], abs(theirs/exact - 1))
        del x, y, runs
        if not a.no_memory: row["peak_mb"] = {k: peak(a, k, size) for k in times}
        results["sizes"].append(row)
        print(json.dumps(row), flush=True)
        if a.out:
            with open(a.out, "w") as f: json.dump(results, f, indent=2)

if __name__ == "__main__": main()
