"""Power and false positives of the rules in `claims.py`, by simulation: python experiments/power.py [--quick]

Every rule sees made-up tables, or measures of made-up features, whose truth is known. Their noise is that of the
tables of version 0.1.0: standard deviations over the pairs of the digits' main condition. One row of
results/power.csv is one situation: in what share of draws the rule gives the verdict or answer named. Where that would
be wrong, or the truth lies at a threshold, it counts as a false positive. Seeds are fixed. Minutes on one core.
"""
import argparse, math, sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import claims
import measures
from claims import HOLDS, IN_PART
from ncib.collapse import collapse_metrics
from ncib.core import atomic_write
from ncib.gib import GaussianIB
from ncib.sweep import ring_pairs

EPOCHS = (0, 1, 2, 3, 4, 5, 7, 9, 12, 15, 20, 26, 35, 46, 60) # checkpoints of the digits
POWER, FALSE, SPREAD = "power", "false positives", "standard deviation of log time"
NOISE = {  # of a pair's value: standard deviation of its logarithm, or of itself below the line
    "train_nc1": .08, "train_etf_error": .08, "test_etf_error": .08, "test_twin_separation": .15,
    "test_twin_spread": .2,
    "test_twin_prominence": .2, "separation_over_predicted": .15, "condition_number": .16, "gaussian_ratio": .03,
    "within_kurtosis_ratio": .03,
    "r2": .007, "r2_beyond": .03, "test_twin_class_alignment": .01, "excess_rate": .005, "test_accuracy": .002,
}
LINEAR = ("r2", "r2_beyond", "test_twin_class_alignment", "excess_rate", "test_accuracy")


# ---- made-up tables

def ring(rng, seeds: int, sd: float)->np.ndarray: # one per pair
    "Means of two neighbours on a ring, with a standard deviation of `sd`: each encoder is in two pairs."
    e = rng.normal(size=seeds)*sd*math.sqrt(2)
    return np.array([(e[a] + e[b])/2 for a, b in ring_pairs(range(seeds))])

def ended(rng, seeds: int, truth: dict)->pd.DataFrame: # three checkpoints per pair, each a block of rows
    "Pairs of the main condition that end at the true values, with noise; their plateau is long past."
    last = {}
    for name, v in truth.items():
        noise = ring(rng, seeds, NOISE.get(name, 0.))
        last[name] = v + noise if name in LINEAR else v*np.exp(noise)
    a, b = zip(*ring_pairs(range(seeds)))
    table = pd.DataFrame({"condition": "main", "seed_a": a, "seed_b": b, "epoch": 60, **last})
    before = table.assign(epoch=0, test_accuracy=.2, test_twin_separation=1.5, test_twin_prominence=1.)
    middle, after = before.assign(epoch=10, test_accuracy=.985), table.assign(test_accuracy=.99)
    return pd.concat([before, middle, after], ignore_index=True)

def share(answers)->float: return float(np.mean([bool(a) for a in answers]))


# ---- made-up features

def twins(seeds: int, n: int, dim: int = 64, classes: int = 10, nc1: float = .05, shared: float = 0., seed: int = 0,
          heavy: bool = False, anisotropy: float = 1., nuisance: float = .7)->tuple[list, torch.Tensor]: # and labels
    """Encoders of the same images: a simplex in K − 1 dimensions, and a rest that encoders share.

    `shared` of the variance within classes along the class directions is common to all encoders; correlations of the
    rest fall evenly from `nuisance` to 0. `anisotropy`: largest over smallest variance of the means. Each encoder
    mixes all of it by a matrix of its own if `dim` exceeds K − 1."""
    g = torch.Generator().manual_seed(seed)
    normal = lambda *s: torch.randn(*s, generator=g, dtype=torch.float64)
    modes, labels = classes - 1, torch.arange(n) % classes
    basis = torch.linalg.svd(torch.eye(classes).double() - 1/classes)[2][:modes].T*math.sqrt(classes)
    sizes = torch.linspace(1, 1/math.sqrt(anisotropy), modes, dtype=torch.float64)
    noise = math.sqrt(nc1*classes/modes)
    common, rest = normal(n, modes), normal(n, dim - modes)
    rho = torch.linspace(nuisance, 0, dim - modes, dtype=torch.float64)
    out = []
    for _ in range(seeds):
        own = normal(n, modes)
        if heavy: own = own*(3/normal(n, 5).square().sum(1, keepdim=True)).sqrt() # Student, 5 degrees
        inside = math.sqrt(shared)*common + math.sqrt(1 - shared)*own
        x = (basis*sizes)[labels] + noise*inside
        left = rho.sqrt()*rest + (1 - rho).sqrt()*normal(n, dim - modes)
        out.append(torch.cat([x, left], 1)@torch.linalg.qr(normal(dim, dim))[0] if dim > modes else x)
    return out, labels


# ---- one function per claim: situation, n, kind, share wanted, share found

def simulate_c1(draws, rng):
    def rate(seeds, nc1, etf, wanted=(HOLDS,)):
        truth = {"train_nc1": nc1, "train_etf_error": etf, "test_accuracy": .99}
        return share(claims.c1_layer(ended(rng, seeds, truth))[0] in wanted for _ in range(draws))
    for seeds in (3, 5, 8): yield "NC1 and ETF distance at .07: holds", f"{seeds} pairs", POWER, rate(seeds, .07, .07)
    for seeds in (3, 5):
        yield ("NC1 .05, ETF distance at the threshold: holds", f"{seeds} pairs", FALSE,
               rate(seeds, .05, .1))
    yield "both at the threshold: holds or in part", "5 pairs", FALSE, rate(5, .1, .1, (HOLDS, IN_PART))
    def from_features(seed):
        x, y = twins(5, 1350, nc1=.05, seed=seed)
        m = [collapse_metrics(v, y) for v in x]
        t = ended(rng, 5, {"train_nc1": .05, "train_etf_error": .05, "test_accuracy": .99})
        pair = lambda name: [(getattr(m[a], name) + getattr(m[b], name))/2 for a, b in ring_pairs(range(5))]
        t.loc[10:, ["train_nc1", "train_etf_error"]] = np.c_[pair("nc1"), pair("etf_error")]
        return claims.c1_layer(t)[0] == HOLDS
    few = max(2, draws//10)
    yield ("features of a true simplex, NC1 .05, 135 images a class: holds", "5 pairs", POWER,
           share(map(from_features, range(few))))


def simulate_c2(draws, rng):
    def rate(seeds, r2, beyond, more, wanted=(HOLDS,)):
        def once():
            t = ended(rng, seeds, {"r2": r2, "r2_beyond": beyond, "test_accuracy": .99})
            t = t.assign(**{f"{n}_{d}": t[n] for n in ("r2", "r2_beyond") for d in ("forward", "backward")})
            last = t[t.epoch == 60]
            other = last.r2_beyond - more + ring(rng, seeds, .015)
            cross = last.assign(kind="SupCon and another loss", r2_beyond_forward=other, r2_beyond_backward=other)
            return claims.c2_layer(t, cross)[0] in wanted
        return share(once() for _ in range(draws))
    for seeds in (3, 5, 8):
        yield ("R² .95, .65 beyond labels, .05 more than with another loss: holds", f"{seeds} pairs", POWER,
               rate(seeds, .95, .65, .05))
    yield "another loss does as well: holds", "5 pairs", FALSE, rate(5, .95, .65, 0.)
    yield "beyond labels at the threshold: holds", "5 pairs", FALSE, rate(5, .95, .5, .05)
    yield ("R² and beyond labels at the threshold: holds or in part", "5 pairs", FALSE,
           rate(5, .9, .5, .05, (HOLDS, IN_PART)))


def c3_table(rng, seeds, etf=.05, separation=6., prominent=3., spread=1.5, more=2.5, aligned=.96):
    "Ends of pairs, with intervals over images that are shared by all pairs."
    t = ended(rng, seeds, {"test_etf_error": etf, "test_twin_separation": separation, "test_twin_prominence": prominent,
                           "test_twin_spread": spread, "separation_over_predicted": more,
                           "test_twin_class_alignment": aligned, "test_accuracy": .99})
    images = math.exp(rng.normal()*.06) # all pairs see the same test images
    t["test_twin_separation"] *= images
    return t.assign(test_twin_separation_low=t.test_twin_separation*math.exp(-1.96*.06),
                    test_twin_separation_high=t.test_twin_separation*math.exp(1.96*.06))


def measured_c3(n: int, seed: int, **model)->pd.DataFrame: # as for `twins`
    "Five pairs of made-up features, measured as a timeline and `measures.spectrum` do."
    x, y = twins(5, n, seed=seed, **model)
    rows = []
    for a, b in ring_pairs(range(5)):
        found = GaussianIB.fit(x[a], x[b]).transitions(9).separation
        apart = (found.value, found.low, found.high) if found else [math.nan]*3 # fewer than K − 1 modes
        rows.append(measures.spectrum(x[a], x[b], y)
                    | {f"test_twin_separation{end}": v for end, v in zip(("", "_low", "_high"), apart)})
    return pd.DataFrame(rows)


def simulate_c3(draws, rng):
    rate = lambda seeds, wanted=(HOLDS,), **truth: share(claims.c3_unit(c3_table(rng, seeds, **truth))[0] in wanted
                                                        for _ in range(draws))
    either = (HOLDS, IN_PART)
    what = "separation 6, prominence 3, spread 1.5, 2.5 times the predicted"
    for seeds in (3, 5, 8): yield f"{what}: holds", f"{seeds} pairs", POWER, rate(seeds)
    for seeds in (3, 5, 8): yield f"{what}: holds or in part", f"{seeds} pairs", POWER, rate(seeds, either)
    yield "separation at the threshold: holds or in part", "5 pairs", FALSE, rate(5, either, separation=3.)
    yield "prominence at the threshold: holds or in part", "5 pairs", FALSE, rate(5, either, prominent=1.5)
    yield "spread at the threshold: holds", "5 pairs", FALSE, rate(5, spread=3.)
    yield "1.3 times the predicted separation: holds", "5 pairs", FALSE, rate(5, more=1.3)
    few = max(2, draws//10)
    over = lambda t: claims.ratio_interval(t.separation_over_predicted)
    more = lambda t: claims.compared(over(t), claims.MORE, above=True) is True
    for n in (450, 2000):
        tables = [measured_c3(n, s, shared=.5) for s in range(few)]
        yield ("features, NC1 .05, half of the class noise shared: more than predicted", f"5 pairs, {n} images", POWER,
               share(map(more, tables)))
        yield ("features, NC1 .05, half of the class noise shared: stands apart", f"5 pairs, {n} images", POWER,
               share(claims.stands_apart(t) is True for t in tables))
        tables = [measured_c3(n, s) for s in range(few)]
        yield ("features, NC1 .05, shared label and shared rest: more than predicted", f"5 pairs, {n} images", FALSE,
               share(map(more, tables)))
        tables = [measured_c3(n, s, nc1=1.5, shared=.5, nuisance=.97) for s in range(few)]
        yield ("features, NC1 1.5, strong shared rest, an even spectrum: stands apart", f"5 pairs, {n} images", FALSE,
               share(claims.stands_apart(t) is True for t in tables))


# ---- C4: curves

def rise(epochs, at: float, power: float = 1.2)->np.ndarray: # in [0, 1); 95 % at epoch `at`
    "A curve that settles."
    return 1 - np.exp(math.log(1 - claims.SHARE)*(np.asarray(epochs)/at)**power)

def run(rng, condition, pair, logs, images, shared): # logs: of plateau, transitions, NC1, training accuracy
    "Checkpoints of one pair; the noise of images is `shared` by all pairs of an experiment."
    t, e = np.array(EPOCHS, dtype=float), [math.exp(v) for v in logs]
    sd = math.sqrt(.05*.95/images)
    acc = .3 + .65*rise(t, e[0]) + sd*shared + rng.normal(size=len(t))*.4*sd
    steep = .04 if images >= 10_000 else .15 # noise of a separation, which images share out
    return pd.DataFrame({"condition": condition, "seed_a": pair[0], "seed_b": pair[1], "epoch": EPOCHS,
        "test_accuracy": acc,
        "test_shortfall": (.42 - .365*rise(t, e[1]))*np.exp(rng.normal(size=len(t))*.04),
        "train_nc1": (2 - 1.93*rise(t, e[2]))*np.exp(rng.normal(size=len(t))*.05),
        "train_accuracy": .5 + .49*rise(t, e[3]) + rng.normal(size=len(t))*.001,
        "test_twin_separation": np.exp(.5 + 1.6*rise(t, e[1], .6) + rng.normal(size=len(t))*steep),
        "test_twin_count": np.where(t >= e[1], 9, 2), "test_images": images})

def runs(rng, seeds: int, conditions: int, offset: float = 0., own: float = .05, rival: float = .25,
         related: bool = True, images: int = 10_000, jitter: float = .05)->pd.DataFrame: # all in log epochs
    """Conditions whose speeds differ by up to six times; each event has its own delay, by condition and by pair.

    `offset`: of the transitions from the plateau; `own`, `rival`: spread over conditions of their delays; `jitter`:
    over pairs, as of NC1's time on the digits. Unrelated transitions come at times of their own."""
    table, shared = [], rng.normal(size=len(EPOCHS))
    half = math.log(6)/2
    speeds = [0., *rng.permutation(np.linspace(-half, half, max(0, conditions - 1)))]
    for c, speed in enumerate(speeds):
        plateau = math.log(7) + speed
        delay = own*rng.normal() if c else 0.
        own_time = plateau + offset + delay if related else math.log(7) + .5*rng.normal()
        others = plateau + rival*rng.normal(size=2)
        late = [ring(rng, seeds, jitter) for _ in range(4)]
        for i, pair in enumerate(ring_pairs(range(seeds))):
            logs = [v + late[j][i] for j, v in enumerate((plateau, own_time, *others))]
            table.append(run(rng, f"lr={c}" if c else "main", pair, logs, images, shared))
    return pd.concat(table, ignore_index=True)


def simulate_c4(draws, rng):
    def coincide(seeds, offset, answer=True): # the main condition alone
        return share(claims.c4_layer(runs(rng, seeds, 1, offset), 9)[1]["coincide"] is answer for _ in range(draws))
    for seeds in (3, 5, 8): yield "equal times: coincide", f"{seeds} pairs", POWER, coincide(seeds, 0.)
    for name, o in (("later", 1), ("earlier", -1)):
        yield (f"a factor of 1.3 {name}: coincide", "5 pairs", FALSE,
               coincide(5, o*math.log(claims.FACTOR)))
    yield "a factor of 2 later: told from equal", "5 pairs", POWER, coincide(5, math.log(2), False)
    few = max(2, draws//2)
    def verdicts(n, **world): return [claims.c4_layer(runs(rng, 5, n, **world), 9) for _ in range(few)]
    for conditions in (10, 12):
        n = f"5 pairs, {conditions} conditions"
        found = verdicts(conditions)
        yield ("transitions follow the plateau, rivals five times as loosely: holds", n, POWER,
               share(v == HOLDS for v, _ in found))
        found = verdicts(conditions, related=False)
        yield "unrelated times: holds", n, FALSE, share(v == HOLDS for v, _ in found)
        yield "unrelated times: holds or in part", n, FALSE, share(v in (HOLDS, IN_PART) for v, _ in found)
        found = verdicts(conditions, own=.15, rival=.15)
        yield "all events follow the speed alike: holds", n, FALSE, share(v == HOLDS for v, _ in found)
        yield "all events follow the speed alike: follows", n, FALSE, share(d["follows"] is True for _, d in found)
    for images in (450, 10_000):
        settled = (p for _ in range(few) for p in claims.pairs(runs(rng, 3, 1, images=images, jitter=0.)))
        times = pd.DataFrame([claims.events(p, 9) for p in settled])
        for name in ("plateau", "transitions", "separation"):
            yield (f"time of the {name}", f"{images} images", SPREAD,
                   float(np.log(times[name]).std()))


def simulate_c5(draws, rng):
    def rate(seeds, wanted=(HOLDS,), ratio=1., condition=1.2, kurtosis=1.05, excess=.02):
        truth = {"gaussian_ratio": ratio, "condition_number": condition, "within_kurtosis_ratio": kurtosis,
                 "excess_rate": excess, "test_accuracy": .99}
        return share(claims.c5_layer(ended(rng, seeds, truth))[0] in wanted for _ in range(draws))
    for seeds in (3, 5, 8):
        yield ("ratio 1, condition number 1.2, kurtosis 1.05, excess 2 %: holds", f"{seeds} pairs", POWER,
               rate(seeds))
    for name, limit, what in (("ratio", claims.RATIO, "distance from a Gaussian"),
                              ("condition", claims.CONDITION, "condition number"),
                              ("kurtosis", claims.KURTOSIS, "kurtosis"), ("excess", claims.EXCESS, "excess rate")):
        yield f"{what} at the threshold: holds", "5 pairs", FALSE, rate(5, **{name: limit})
    both = {"ratio": claims.RATIO, "condition": claims.CONDITION}
    yield ("distance and condition number at the threshold: holds or in part", "5 pairs", FALSE,
           rate(5, (HOLDS, IN_PART), **both))
    few = max(2, draws//20)
    def of_features(n, seed, **model):
        x, y = twins(5, n, 9, seed=seed, nc1=.08, **model)
        m = pd.DataFrame([measures.packed(v, y) for v in x])
        return pd.DataFrame([m.loc[list(p)].mean() for p in ring_pairs(range(5))])
    ok = lambda t, name, limit: claims.compared(claims.ratio_interval(t[name]), limit) is True
    for n in (450, 10_000):
        at = f"5 pairs, {n} images"
        worlds = {name: [of_features(n, s, **model) for s in range(few)] for name, model in
                  (("ideal", {}), ("flat", {"anisotropy": 20.}), ("heavy", {"heavy": True}))}
        yield ("features of a true simplex, NC1 .08: as Gaussian as the ideal", at, POWER,
               share(ok(t, "gaussian_ratio", claims.RATIO) for t in worlds["ideal"]))
        yield ("features of a true simplex, NC1 .08: Gaussian within classes", at, POWER,
               share(ok(t, "within_kurtosis_ratio", claims.KURTOSIS) for t in worlds["ideal"]))
        yield ("features, means with a condition number of 20: as Gaussian as the ideal", at, FALSE,
               share(ok(t, "gaussian_ratio", claims.RATIO) for t in worlds["flat"]))
        yield ("features, Student noise with 5 degrees of freedom: Gaussian within classes", at, FALSE,
               share(ok(t, "within_kurtosis_ratio", claims.KURTOSIS) for t in worlds["heavy"]))


def simulate_c6(draws, rng):
    def rate(conditions, of_shortfall, of_nc1, noise, wanted):
        def once():
            s, other = rng.normal(size=(2, conditions))
            nc1 = .6*s + .8*other # the two go together, as everything does that improves with training
            accuracy = -of_shortfall*s - of_nc1*nc1 + noise*rng.normal(size=conditions)
            return claims.c6_decide(accuracy, s, nc1, 500)[0] in wanted
        return share(once() for _ in range(draws))
    either = (HOLDS, IN_PART)
    for n in (8, 12, 16, 24):
        at = f"{n} conditions"
        yield "accuracy follows the shortfall, noise .3: holds", at, POWER, rate(n, 1., 0., .3, (HOLDS,))
        yield "accuracy follows the shortfall, noise .3: holds or in part", at, POWER, rate(n, 1., 0., .3, either)
        yield "accuracy follows test NC1, noise .3: holds or in part", at, FALSE, rate(n, 0., 1., .3, either)
        yield "accuracy follows neither: holds or in part", at, FALSE, rate(n, 0., 0., 1., either)


def simulate(quick: bool = False)->pd.DataFrame:
    "All situations of all claims."
    draws, rows = (4 if quick else 400), []
    for i, f in enumerate((simulate_c1, simulate_c2, simulate_c3, simulate_c4, simulate_c5, simulate_c6)):
        for situation, n, kind, value in f(draws, np.random.default_rng(i)):
            row = {"claim": f"C{i + 1}", "kind": kind, "situation": situation, "n": n}
            rows.append(row | {"value": float(f"{value:.3g}")})
    return pd.DataFrame(rows)


def main(argv=None)->int:
    "Writes results/power.csv."
    p = argparse.ArgumentParser(description="Power and false positives of the rules, by simulation.")
    p.add_argument("--out", default=str(claims.RESULTS/"power.csv"), help="file to write (default: %(default)s)")
    p.add_argument("--quick", action="store_true", help="four draws each, the numbers mean nothing")
    args = p.parse_args(argv)
    torch.set_num_threads(1)
    table = simulate(args.quick)
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(args.out) as tmp: table.to_csv(tmp, index=False)
    print(table.to_string(index=False))
    return 0


if __name__ == "__main__": sys.exit(main())
