"""Discrete information bottleneck: ncib against embo (and dit), all objectives I(X;T) − β I(T;Y) in nats, β in nats.

    python benchmarks/ib.py                            |X|=64, |Y|=10, 50 β: speed and objective; 50 random p(x,y)
    python benchmarks/ib.py --large [--device cuda]    |X|=10,000, |Y|=100, 32 clusters, 256 β: time and certificate

embo and dit are compared where they can be imported (pip install embo dit, or put their site-packages last on
PYTHONPATH). embo multiplies a KL divergence in bits into an exponential with natural base, so its β is β·ln 2 of ours;
that is corrected here. Its `rtol` is a bound on the last change of the objective, not on the error: the table shows the
error it leaves, against objectives that ncib certifies to 1e-8 nats.
"""
import argparse, importlib.util, os, platform, time, warnings

import numpy as np
import torch

from ncib.ib import DiscreteIB, ib_curve

def embo_objective(pxy, betas, restarts, rtol, processes):
    from embo.core import InformationBottleneck
    lo, hi = betas[0]*np.log(2), betas[-1]*np.log(2)
    np.random.seed(0)
    ixt, iyt, _, beta = InformationBottleneck(pxy=pxy.copy(), minbeta=lo, maxbeta=hi, numbeta=len(betas),
                                              iterations=100_000, restarts=restarts, processes=processes,
                                              rtol=rtol, ensure_monotonic_bound=False).get_bottleneck()
    assert np.allclose(np.asarray(beta)/np.log(2), betas)
    return (np.asarray(ixt) - betas*np.asarray(iyt))*np.log(2)

clock = time.perf_counter

def processor_seconds():
    "Of this process and of the children it has waited for."
    return sum(os.times()[:4])

def timed(f, repeat=1):
    best = np.inf
    for _ in range(repeat):
        start = clock()
        out = f()
        best = min(best, clock() - start)
    return out, best

def standard(args):
    pxy = np.random.default_rng(0).dirichlet(np.ones(10), 64)/64
    betas = np.linspace(1, 30, 50)
    ib_curve(pxy, betas[:3])                                       # warm-up
    curve, ours = timed(lambda: ib_curve(pxy, betas), args.repeat)
    print(f"|X|=64, |Y|=10, 50 β in [1, 30], p(y|x) ~ Dirichlet(1), {'processor' if args.cpu_time else 'elapsed'} "
          f"seconds, best of {args.repeat}; critical β {curve.source.critical_beta:.3f}")
    print(f"ncib: {ours:.2f} s, {int(curve.converged.sum())}/50 certified globally, largest gap "
          f"{curve.global_gap.max():.1e} nats")
    hard, seconds = timed(lambda: ib_curve(pxy, betas, alpha=0.), args.repeat)
    print(f"ncib, deterministic (α = 0): {seconds:.2f} s, {int(hard.converged.sum())}/50 where no merge and no move of "
          f"one x helps")
    if importlib.util.find_spec("embo"):
        for rtol in args.rtol:
            value, theirs = timed(lambda: embo_objective(pxy, betas, args.restarts, rtol, 2))
            error = value - curve.objective
            print(f"embo, rtol {rtol:g}, {args.restarts} restarts, 2 processes: {theirs:.1f} s ({theirs/ours:.1f} "
                  f"times ncib); above ncib by at most {error.max():.1e}, median {np.median(error):.1e}, "
                  f"within 1e-8 at {int((error < 1e-8).sum())}/50 β; below ncib by at most {max(0, -error.min()):.1e}",
                  flush=True)
        if args.curve_only: return
        worst, uncertified, t_ours, t_theirs, above = 0., 0, 0., 0., 0.
        for seed in range(50):
            rng = np.random.default_rng(seed)
            x, y = rng.integers(3, 13), rng.integers(2, 7)
            pxy = rng.dirichlet(np.full(y, rng.choice([.2, .5, 1, 3])), x)*rng.dirichlet(np.ones(x))[:, None]
            betas = np.linspace(1, 20, 10)
            c, t = timed(lambda: ib_curve(pxy, betas))
            v, s = timed(lambda: embo_objective(pxy, betas, args.restarts, 1e-9, 1))
            worst, above, uncertified = (max(worst, (c.objective - v).max()), max(above, (v - c.objective).max()),
                                         uncertified + int((~c.converged).sum()))
            t_ours, t_theirs = t_ours + t, t_theirs + s
        print(f"50 random p(x,y), 10 β each: ncib above embo by at most {worst:.1e} nats, embo above ncib by at most "
              f"{above:.1e}; {500 - uncertified}/500 certified globally; {t_ours:.1f} s against {t_theirs:.1f} s")
    else: print("embo is not installed: no comparison")
    if importlib.util.find_spec("dit"):
        import dit
        from dit.rate_distortion import IBCurve
        pxy = np.random.default_rng(1).dirichlet(np.ones(2), 3)/3
        d = dit.Distribution([f"{i}{j}" for i in range(3) for j in range(2)], pxy.ravel())
        def run():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return IBCurve(d, rvs=[[0], [1]], beta_min=2., beta_max=20., beta_num=4, method="sp")
        try:
            curve, theirs = timed(run)
            value = (np.asarray(curve.complexities) - curve.betas*np.asarray(curve.relevances))*np.log(2)
            c, ours = timed(lambda: ib_curve(pxy, curve.betas))
            print(f"dit (optimiser), |X|=3, |Y|=2, 4 β: {theirs:.1f} s against {ours:.2f} s; above ncib by at most "
                  f"{(value - c.objective).max():.1e}, below by at most {max(0, (c.objective - value).max()):.1e}")
        except Exception as e: print(f"dit did not finish: {type(e).__name__}: {e}")
    else: print("dit is not installed: no comparison")

def large(args):
    g = torch.Generator().manual_seed(0)
    centres = torch._standard_gamma(torch.full((100, 100), .1, dtype=torch.float64), generator=g)
    mix = torch._standard_gamma(torch.full((args.x, 100), .02, dtype=torch.float64), generator=g) + 1e-12
    pyx = (mix/mix.sum(1, keepdim=True)) @ (centres/centres.sum(1, keepdim=True)) + 1e-6
    pyx /= pyx.sum(1, keepdim=True)
    ib = DiscreteIB(pyx/len(pyx), device=args.device)
    betas = torch.logspace(0, 2, args.betas, dtype=torch.float64)
    def run():
        c = ib.curve(betas, n_clusters=32)
        if args.device.startswith("cuda"): torch.cuda.synchronize()
        return c
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        c, t = timed(run)
    name = torch.cuda.get_device_name() if args.device.startswith("cuda") else f"{torch.get_num_threads()} CPU threads"
    print(f"|X|={args.x}, |Y|=100, up to 32 clusters, {args.betas} β in [1, 100] on {name}: {t:.1f} s; "
          f"{int(c.converged.sum())}/{args.betas} certified ({c.scope}) to 1e-8; "
          f"largest local gap {c.local_gap.max():.1e}, median global gap {c.global_gap.median():.1e} nats; critical β "
          f"{ib.critical_beta:.3f}, I(X;Y) {ib.mutual_information:.4f} nats")
    for w in caught: print("warning:", w.message)

if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--large", action="store_true")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--x", type=int, default=10_000, help="|X| of --large")
    p.add_argument("--betas", type=int, default=256, help="number of β of --large")
    p.add_argument("--repeat", type=int, default=3)
    p.add_argument("--restarts", type=int, default=3, help="embo's restarts (3 is its default)")
    p.add_argument("--rtol", type=float, nargs="*", default=[1e-8, 1e-10])
    p.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves torch's choice")
    p.add_argument("--cpu-time", action="store_true",
                   help="count processor seconds of all processes in place of elapsed ones: with --threads 1, "
                        "indifferent to other programs")
    p.add_argument("--curve-only", action="store_true", help="leave out the 50 small distributions")
    a = p.parse_args()
    if a.cpu_time: clock = processor_seconds
    if a.threads: torch.set_num_threads(a.threads)
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads")
    large(a) if a.large else standard(a)
