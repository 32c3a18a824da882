#!/usr/bin/env python3
"""Two encoders' features on disk at the scale of ImageNet: time and peak memory from the files to the numbers, beside
the matrix products that cannot be avoided.

    python benchmarks/streaming.py --out streaming.json                    # 2 files of 50,000 x 2048 float32, K = 1000

Gaussian classes, two .npy files that are mapped into memory, one process for each line:
  products  xᵀx, xᵀy, yᵀy in float64, block by block: what any joint covariance needs
  floor     these, the whitened rows of both (leverages, hence tails, need each row) and the scores of all rows for all
            classes, twice (accuracy of a linear classifier and of the nearest class mean): what an analysis needs
  collapse  every collapse metric of both encoders
  pair      the Gaussian bottleneck between them, its transitions and both corner shortfalls, from the rows, without
            intervals
  story     the same with intervals from --groups groups of rows (left out with --groups 0)
  compare   ncib.compare of the two: significant modes, separation, shortfalls and CKA, each beside what labels alone
            give; two passes over the files
  analyze   ncib.analyze of the two, from moments: all that a report shows but intervals and other estimates
Memory is what the process holds itself (RssAnon, sampled every 20 ms) above what it held after the imports: mapped
pages of the files, which the system takes back when it needs them, are told apart from it. Processor time is
given beside wall time: on a busy machine only the former says something.
"""
import argparse, json, os, platform, subprocess, sys, tempfile, threading, time
from pathlib import Path

import numpy as np
import torch

PARTS = ("products", "floor", "collapse", "pair", "story", "compare", "analyze")

def make(folder: Path, n: int, d: int, classes: int):
    "Classes and something within them that both encoders share; noise and a scale per column of each one's own."
    means = np.random.default_rng(0).standard_normal((classes, d), np.float32)
    for which in (1, 2):
        own, out = (np.random.default_rng(which),
                    np.lib.format.open_memmap(folder/f"{which}.npy", "w+", np.float32, (n, d)))
        scale = 1 + .1*own.standard_normal(d, np.float32)
        for i in range(0, n, 5000):
            same, m = np.random.default_rng((7, i)), min(5000, n - i)
            out[i:i + m] = (means[np.arange(i, i + m) % classes] + same.standard_normal((m, d), np.float32)
                            + own.standard_normal((m, d), np.float32))*scale
        out.flush()

def held()->float: # GB
    return int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1])/2**20

def one(part: str, folder: Path, classes: int, groups: int)->dict:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    from ncib.collapse import collapse_metrics
    from ncib.compare import compare
    from ncib.core import as_tensor
    from ncib.gib import GaussianIB
    from ncib.timeline import analyze
    files = [folder/f"{i}.npy" for i in (1, 2)]
    x, y = (as_tensor(np.load(f, mmap_mode="c")) for f in files)
    labels = np.arange(len(x)) % classes
    before, done = held(), threading.Event()
    peak = [before]
    def watch():
        while not done.wait(.02): peak[0] = max(peak[0], held())
    threading.Thread(target=watch, daemon=True).start()
    wall, cpu, told = time.perf_counter(), time.process_time(), {}
    if part in ("products", "floor"):
        s = [torch.zeros(a.shape[1], a.shape[1], dtype=torch.float64) for a in (x, x, y)]
        for u, v in zip(x.split(2048), y.split(2048)):
            u, v = u.double(), v.double()
            for total, (a, b) in zip(s, ((u, u), (u, v), (v, v))): total.addmm_(a.T, b)
        if part == "floor":
            for rows in (x, y):
                directions = torch.randn(rows.shape[1], rows.shape[1] + 2*classes, dtype=torch.float64)
                for block in rows.split(2048): block.double()@directions
    elif part == "collapse": told = {"nc1": [collapse_metrics(v, labels).nc1 for v in (x, y)]}
    elif part in ("pair", "story"):
        g = GaussianIB.fit(x, y)
        t, *corners = g.pair_story(g.swapped(), labels, groups if part == "story" else 0)
        told = {"significant": t.significant, "count": t.count, "shortfall": [c.share for c in corners]}
    elif part == "analyze":
        table = analyze(x, y, labels, progress=False).table.iloc[-1]
        told = table[[c for c in table.index
                      if c in ("test_accuracy", "test_twin_count", "test_twin_separation")]].to_dict()
    else:
        told = compare(dict(zip("ab", files)), labels, measures=["significant", "separation", "shortfall", "cka"],
                       workers=1, progress=False).table.iloc[0].drop(["layer", "a", "b"]).to_dict()
    out = {"part": part, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    done.set()
    return out | {"memory_gb": peak[0] - before, "found": told}

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--n", type=int, default=50_000); p.add_argument("--dim", type=int, default=2048)
    p.add_argument("--classes", type=int, default=1000)
    p.add_argument("--groups", type=int, default=0, help="for the intervals of story (default: left out)")
    p.add_argument("--folder", help="for the files (default: a temporary one)")
    p.add_argument("--out", help="a .json file"); p.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.part: print(json.dumps(one(a.part, Path(a.folder), a.classes, a.groups), default=float)); return
    with tempfile.TemporaryDirectory(dir=a.folder) as folder:
        make(Path(folder), a.n, a.dim, a.classes)
        rows = []
        for part in PARTS:
            if part == "story" and not a.groups: continue
            line = subprocess.run([sys.executable, __file__, "--part", part, "--folder", folder, "--classes",
                                   str(a.classes), "--groups", str(a.groups)], check=True, capture_output=True,
                                  text=True).stdout
            rows.append(json.loads(line.splitlines()[-1]))
            r = rows[-1]
            of = [r["cpu_s"]/rows[i]["cpu_s"] for i in (0, min(1, len(rows) - 1))]
            print(f"{part:9} {r['wall_s']:8.1f} s   processor {r['cpu_s']:8.1f} s = {of[0]:.2f} x products "
                  f"{of[1]:.2f} x floor   memory {r['memory_gb']:.2f} GB   {r['found']}", flush=True)
    if a.out:
        Path(a.out).write_text(json.dumps({"n": a.n, "dim": a.dim, "classes": a.classes,
                                           "threads": os.environ.get("OMP_NUM_THREADS", 1),
                                           "machine": platform.processor() or platform.machine(),
                                           "torch": torch.__version__, "rows": rows}, indent=2) + "\n")

if __name__ == "__main__": main()
