"""Estimates of critical βs against the truth: bias, scatter, and how often the interval covers, by simulation.

    OMP_NUM_THREADS=1 python benchmarks/estimators.py [--seconds 1200] [--quick] [--out FILE] [--only "n=300 d=64"]

Populations have given canonical correlations, so that every quantity is known. A cell is a sample size, a dimension,
a spectrum and a law.

    tied          9 modes at an excess β_c − 1 of .0181, 20 (6 where d = 16) at .0628, no other
    spread        9 modes from .01 to .04, the rest from .12 upwards by a factor of 1.25 each
    gaussian      normal
    classes       the first 9 modes are the means of 10 classes, shared by x and y; all else normal
    elliptical t  normal rows over a common χ, 5 degrees of freedom
    t columns     what x and y share and what they do not has t with 5 degrees of freedom, column by column
    dead columns  like classes; every second column behind mode 9, and all that share next to nothing, scaled to 1e-4

Quantities are those of `GaussianIB.transitions(9)` and `GaussianIB.corner_shortfall`; the truth of the share comes from
the population's covariances and class means, that of the count is the largest gap of the population's modes below the
noise floor of this n. Estimators:

    debiased      the default, with the jackknife's correction; the only one with an interval
    all rows      the same without the jackknife's correction (the share has none)
    ridge         shrinkage="auto", nothing taken out
    plain         no shrinkage, nothing taken out
    held out      5 folds

Bias and sd are those of the logarithm, of the share those of the share itself; of a count, `bias` is the share of draws
with another count than the truth. `coverage` of a count is the share of draws whose `likely_counts()` hold the truth.
`bands` is the share of draws with an interval: coverage is among those. A single gap has no interval: its bias stays
with n. Where p + q is too large for n, `fit` cuts the ranks; such cells say `rank cut` in `note`.
The table is written after every cell, and cells that it holds are not computed again: delete a line to repeat its cell.
"""
import argparse, csv, math, time, warnings, zlib
from pathlib import Path

import numpy as np

from ncib.core import InputError, atomic_write
from ncib.gib import GaussianIB
from ncib.identifiability import held_out_correlations
from ncib.transitions import largest_gap, mode_level, separation

MODES, GROUPS = 9, 20
LAWS = "gaussian", "classes", "elliptical t", "t columns", "dead columns"
COLUMNS = ("n", "d", "spectrum", "law", "quantity", "estimator", "draws", "truth", "bias", "sd", "coverage", "bands",
           "note")


def spectrum(name, d)->np.ndarray: # (d,) β_c − 1, infinite for what is not shared
    "Excess of each column's mode."
    e = np.full(d, np.inf)
    if name == "tied": e[:MODES], e[MODES:MODES + (6 if d == 16 else 20)] = .0181, .0628
    else: e[:MODES], e[MODES:] = np.geomspace(.01, .04, MODES), .12*1.25**np.arange(d - MODES)
    return e


def class_means()->np.ndarray: # (10, 9), mean 0 and covariance 1 over classes
    centred = np.eye(MODES + 1) - 1/(MODES + 1)
    return centred@np.linalg.svd(centred)[0][:, :MODES]*math.sqrt(MODES + 1)


def scales(e, law):
    out = np.ones(len(e))
    if law == "dead columns": out[MODES + 1::2], out[e > 10] = 1e-4, 1e-4
    return out


def sample(n, e, law, g): # x, y, labels or None
    rho, d, labels = 1/np.sqrt(1 + e), len(e), None
    def draw(): return g.standard_t(5, size=(n, d))*math.sqrt(3/5) if law == "t columns" else g.normal(size=(n, d))
    shared = draw()
    if law in ("classes", "dead columns"):
        labels = g.integers(0, MODES + 1, n)
        shared[:, :MODES] = class_means()[labels]
    x, y = (np.sqrt(rho)*shared + np.sqrt(1 - rho)*draw() for _ in "xy")
    if law == "elliptical t": x, y = (v/np.sqrt(chi) for chi in [g.chisquare(5, size=(n, 1))/5] for v in (x, y))
    return x*scales(e, law), y*scales(e, law), labels


def population(e, law)->GaussianIB:
    s = scales(e, law)**2
    return GaussianIB.from_covariance(np.diag(s), np.diag(s/np.sqrt(1 + e)), np.diag(s))


def truths(n, e, law, floor)->dict:
    out = {"level": mode_level(e, MODES), "separation": separation(e, MODES), "gap": e[MODES]/e[MODES - 1],
           "count": int(largest_gap(e[e < floor], floor))}
    if law in ("classes", "dead columns"):
        means = np.zeros((MODES + 1, len(e)))
        means[:, :MODES] = class_means()*(1 + e[:MODES])**-.25
        out["share"] = population(e, law).corner_shortfall(means*scales(e, law)).share
    return out


def quantities(e, floor)->dict:
    "Of the modes that can be told from noise."
    count = int(largest_gap(e, floor)) if len(e) else 0
    if len(e) < MODES: return {"level": math.nan, "separation": math.nan, "gap": math.nan, "count": count}
    with np.errstate(divide="ignore", invalid="ignore"): gap = np.append(e, floor)[MODES]/e[MODES - 1]
    return {"level": mode_level(e, MODES), "separation": separation(e, MODES, floor), "gap": float(gap), "count": count}


def measure(x, y, labels, others=True)->tuple[dict, "GaussianIB"]: # by estimator and quantity: (value, low, high)
    "The default with its jackknife, then the other estimators. A count comes as (count, likely counts, None)."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ib = GaussianIB.fit(x, y)
    t = ib.transitions(MODES, groups=0)
    if labels is not None: corner = ib.corner_shortfall(x, labels, groups=0)
    plain = {k: (v, None, None) for k, v in quantities(t.excess, ib.floor).items()}
    out = {"debiased": dict(plain), "all rows": dict(plain)}
    if t.significant:
        resampled = list(ib._resampled(GROUPS, 0, labels))
        t = ib._with_intervals(t, [f.excess for f in resampled])
        for name in ("level", "separation"):
            if (found := getattr(t, name)) is not None: out["debiased"][name] = found.value, found.low, found.high
        out["debiased"]["count"] = t.count, t.likely_counts(), None
        if labels is not None:
            out["all rows"]["share"], out["debiased"]["share"] = (corner.share, None, None), (math.nan, None, None)
            if not math.isnan(corner.share):
                found = ib.corner_shortfall(x, labels).interval
                out["debiased"]["share"] = found.value, found.low, found.high
    if not others: return out, ib
    nothing = {k: (math.nan, None, None) for k in [*plain, *(["share"] if labels is not None else [])]}
    for name, shrinkage in (("ridge", "auto"), ("plain", None)):
        out[name] = dict(nothing)
        try: fit = GaussianIB.fit(x, y, shrinkage=shrinkage, debias=False)
        except InputError: continue                                 # more columns than rows: no inverse
        seen = np.asarray(fit.excess)[np.asarray(fit.significant)]
        out[name] |= {k: (v, None, None) for k, v in quantities(seen, fit.floor).items()}
        if labels is not None: out[name]["share"] = fit.corner_shortfall(x, labels, groups=0).share, None, None
    out["held out"] = {k: (math.nan, None, None) for k in plain}
    try: r = np.sort(held_out_correlations(x, y, shrinkage=None).clip(1e-6, 1))[::-1][:t.significant]
    except InputError: return out, ib
    out["held out"] = {k: (v, None, None) for k, v in quantities(1/np.square(r) - 1, ib.floor).items()}
    return out, ib


def row(quantity, estimator, truth, values)->dict:
    v = np.array([a for a, _, _ in values], dtype=float)
    out = {"quantity": quantity, "estimator": estimator, "draws": len(v), "truth": truth, "coverage": math.nan,
           "bands": math.nan}
    if quantity == "count":
        out |= {"bias": np.mean(v != truth), "sd": v.std()}
        if estimator == "debiased":
            out |= {"coverage": np.mean([truth in (likely or [a]) for a, likely, _ in values]), "bands": 1.}
        return out
    with np.errstate(divide="ignore", invalid="ignore"): u = v - truth if quantity == "share" else np.log(v/truth)
    u = u[~np.isnan(u)]
    out |= {"bias": u.mean() if len(u) else math.nan,
            "sd": u.std(ddof=1) if len(u) > 1 and np.isfinite(u).all() else math.nan}
    if estimator == "debiased" and quantity != "gap":
        bands = [(low, high) for _, low, high in values if low is not None and not math.isnan(low)]
        covered = [low <= truth <= high for low, high in bands]
        out |= {"coverage": np.mean(covered) if covered else math.nan, "bands": len(bands)/len(values)}
    return out


def cell(n, d, spectrum_name, law, draws, others=True)->list[dict]:
    e, seed = spectrum(spectrum_name, d), zlib.crc32(f"{n} {d} {spectrum_name} {law}".encode())
    runs = []
    for g in np.random.SeedSequence(seed).spawn(draws):
        found, ib = measure(*sample(n, e, law, np.random.default_rng(g)), others)
        runs.append(found)
    truth, note = truths(n, e, law, ib.floor), "" if ib.cut is None else "rank cut"
    head = {"n": n, "d": d, "spectrum": spectrum_name, "law": law}
    return [{**head, "note": note, **row(q, name, truth[q], [r[name].get(q, (math.nan, None, None)) for r in runs])}
            for q in truth for name in runs[0] if any(q in r[name] for r in runs)]


def cells(quick=False):
    "(n, d, spectrum, law, draws), cheap ones first."
    if quick: return [(300, 16, "tied", "gaussian", 4), (300, 16, "spread", "classes", 4)]
    draws = lambda n, d: 200 if n <= 450 and d == 64 else 100 if n <= 1000 or d == 16 else 40
    small = [(n, d, s, law, draws(n, d)) for n in (300, 450, 1000, 5000, 10000) for d in (16, 64)
             for law in LAWS for s in ("tied", "spread")]
    cut = [(n, 512, "tied", "dead columns", 20) for n in (300, 450, 1000)]
    return small + cut + [(n, 512, s, law, 10) for n in (5000, 10000) for law in ("classes", "elliptical t", "gaussian")
                          for s in ("tied", "spread")]


def key(r): return int(r["n"]), int(r["d"]), r["spectrum"], r["law"]


def write(path, rows):
    order = {c[:4]: i for i, c in enumerate(cells())}
    rows = sorted(rows, key=lambda r: order[key(r)])
    text = lambda v: f"{v:.4g}" if isinstance(v, float) else str(v)
    lines = [",".join(COLUMNS)] + [",".join(text(r[c]) for c in COLUMNS) for r in rows]
    with atomic_write(path) as f: f.write_text("\n".join(lines) + "\n", encoding="utf-8")


def show(rows):
    for r in rows:
        if r["estimator"] == "debiased" or r["quantity"] == "separation":
            number = lambda v, f: f.format(float(v)) if not math.isnan(float(v)) else "–"
            print(f"{r['n']:>6} {r['d']:>4} {r['spectrum']:7} {r['law']:13} {r['quantity']:11} {r['estimator']:9} "
                  f"{r['draws']:>4} truth {float(r['truth']):8.4g}  bias {number(r['bias'], '{:+.3f}'):>7}  "
                  f"sd {number(r['sd'], '{:.3f}'):>6}  covered {number(r['coverage'], '{:.0%}'):>4} of "
                  f"{number(r['bands'], '{:.0%}'):>4}  {r['note']}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--out", type=Path, default=Path(__file__).parents[1]/"results/estimators.csv")
    p.add_argument("--seconds", type=float, default=math.inf, help="begin no cell after this time")
    p.add_argument("--only", default="", help="cells whose name holds this, e.g. 'n=300 d=64'")
    p.add_argument("--default-only", action="store_true", help="leave the other estimators out")
    p.add_argument("--quick", action="store_true", help="two small cells with few draws, printed and not written")
    args = p.parse_args()
    start, rows = time.perf_counter(), []
    if args.out.is_file() and not args.quick:
        with args.out.open(encoding="utf-8", newline="") as f: rows = list(csv.DictReader(f))
    for n, d, s, law, draws in cells(args.quick):
        done = [r for r in rows if key(r) == (n, d, s, law)]
        if args.only not in f"n={n} d={d} {s} {law}": continue
        if done: show(done); continue
        if time.perf_counter() - start > args.seconds: print("out of time: run it again to go on"); break
        began = time.perf_counter()
        new = cell(n, d, s, law, draws, not args.default_only)
        show(new); print(f"{'':13}{time.perf_counter() - began:.1f} s", flush=True)
        rows += new
        if not args.quick: write(args.out, rows)


if __name__ == "__main__": main()
