"""Canonical correlations: ncib against cca-zoo and scikit-learn, and against the matrix work that cannot be avoided.

    OMP_NUM_THREADS=2 python benchmarks/cca.py [--rows 5000] [--dim 512] [--repeats 5] [--big]

Peers are timed if they can be imported (`pip install cca-zoo`); scikit-learn's iterative CCA is asked for 1 mode only,
because it takes seconds per mode. All run in this process, interleaved, on the same float64 arrays; the best of
`--repeats` counts, and the ratio is to ncib's correlations alone. `--big` adds n = 50,000, d = 2048 in float32 (about 6
GB, minutes). The unavoidable work is timed with the same libraries: two symmetric products, one product, two Cholesky
factorisations, one set of singular values. The three products alone, which even a single mode needs, bound every ratio:
no exact method in float64 is faster than another by more than the other's time over theirs. `--cpu-time` counts
processor seconds, with OMP_NUM_THREADS=1 indifferent to other programs.
"""
import argparse, os, platform, time

import numpy as np
import torch

from ncib.cca import canonical_correlations


def features(n, d, dtype, seed=0):
    g = np.random.default_rng(seed)
    x = g.standard_normal((n, d), dtype=np.float32)
    y = np.float32(.5)*x + g.standard_normal((n, d), dtype=np.float32)
    return x.astype(dtype), y.astype(dtype)


clock = time.perf_counter


def best(calls: dict, repeats: int)->dict:
    """Best time of each call, interleaved so that a busy machine is busy for all; a rest before each lets the waiting
    threads of the library before it (NumPy's, torch's) fall asleep."""
    times = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            time.sleep(.5)
            start = clock()
            call()
            times[name].append(clock() - start)
    return {name: min(t) for name, t in times.items()}


def products(x, y):
    x, y = (v.astype(np.float64, copy=False) for v in (x, y))
    n = len(x)
    return x.T@x/n, x.T@y/n, y.T@y/n


def unavoidable(x, y):
    sx, sxy, sy = products(x, y)
    lx, ly = np.linalg.cholesky(sx), np.linalg.cholesky(sy)
    half = torch.linalg.solve_triangular(torch.from_numpy(lx), torch.from_numpy(sxy), upper=False)
    return torch.linalg.svdvals(torch.linalg.solve_triangular(torch.from_numpy(ly), half.T, upper=False))


def report(title, times, reference):
    print(f"\n{title}")
    for name, t in times.items(): print(f"  {name:42}{t:9.3f} s   ×{t/times[reference]:.2f}")


def main():
    global clock
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--rows", type=int, default=5000)
    p.add_argument("--dim", type=int, default=512)
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--big", action="store_true", help="add n = 50,000, d = 2048")
    p.add_argument("--cpu-time", action="store_true", help="processor seconds in place of elapsed ones")
    args = p.parse_args()
    if args.cpu_time: clock = time.process_time
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; "
          f"torch {torch.__version__}, numpy {np.__version__}")
    x, y = features(args.rows, args.dim, np.float64)
    calls = {"ncib": lambda: canonical_correlations(x, y, shrinkage=None),
             "ncib, directions too": lambda: canonical_correlations(x, y, shrinkage=None).weights_x,
             "ncib, default shrinkage": lambda: canonical_correlations(x, y),
             "unavoidable matrix work": lambda: unavoidable(x, y),
             "its three products alone": lambda: products(x, y)}
    expected = canonical_correlations(x, y, shrinkage=None).rho
    try:
        import cca_zoo
        from cca_zoo.linear import CCA as Zoo
        for k in (20, args.dim):
            calls[f"cca-zoo {cca_zoo.__version__}, {k} modes"] = lambda k=k: Zoo(n_components=k).fit([x, y])
        u, v = Zoo(n_components=20).fit([x, y]).transform([x, y])
        agree = max(abs(abs(np.corrcoef(u[:, i], v[:, i])[0, 1]) - expected[i]) for i in range(20))
        print(f"largest difference from cca-zoo over 20 correlations: {agree:.1e}")
    except ImportError: print("cca-zoo is not installed: left out")
    times = best(calls, args.repeats)
    import sklearn
    from sklearn.cross_decomposition import CCA as Sklearn
    times |= best({f"scikit-learn {sklearn.__version__}, 1 mode": lambda: Sklearn(1).fit(x, y)}, 1)
    report(f"n = {args.rows}, d = {args.dim}, float64, best of {args.repeats} (scikit-learn: one run)", times, "ncib")
    if args.big:
        x, y = features(50_000, 2048, np.float32)
        calls = {"unavoidable matrix work": lambda: unavoidable(x, y),
                 "ncib": lambda: canonical_correlations(x, y, shrinkage=None),
                 "ncib, default shrinkage": lambda: canonical_correlations(x, y)}
        report("n = 50,000, d = 2048, float32, best of 2", best(calls, 2), "unavoidable matrix work")


if __name__ == "__main__": main()
