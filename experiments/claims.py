"""Six claims of Wang & Palmer (2023): measures and verdict rules, second edition.

The rules were written, and their power simulated (`power.py`), before any result of the new measures was looked at.
What was known: the tables of version 0.1.0, whose noise the simulation takes over, and what was wrong with the first
edition (`claims_first.py`, whose verdicts stay in print in the field `first_edition`). The thresholds are ours.

Everything is computed from two tables, so that a verdict can be checked from the committed files alone:

- `table`: one row per condition, layer, pair of seeds and checkpoint (timeline.csv);
- `cross`: pairs of encoders from different conditions, last checkpoint (cross.csv).

**Verdicts.** `holds`: what the rule asks for is seen. `holds in part`: a part that the rule names is. `does not hold`:
the data speak against it. `cannot be told here`: the experiment lacks what the rule needs, or is too noisy to decide.

**Thresholds and intervals.** A quantity is above a threshold if its whole interval over pairs is, below it if its
whole interval is, and undecided else. Intervals are 95 % and of the ring kind (`ncib.sweep.ring_interval`), since each
encoder is in two pairs; of logarithms for ratios. They need three pairs: one pair of encoders decides nothing.

**Power.** `power.py` simulates each rule, and the numbers are printed with each claim. At the effects named there all
rules have 80 % power with eight pairs; C4 needs ten speeds and 10,000 test images besides, C6 24 collapsed conditions
(with eight: 18 %, and 79 % for holding at least in part). False positives are at most 5 %.

**Layers.** The loss acts on the head's output and most people use the backbone's features, so both are judged. A claim
holds if it does in every layer of the table, and does not hold if it does in none; else it holds in part if it
does so somewhere, and cannot be told otherwise.

**K or K − 1.** The paper's abstract has K transitions, ours has K − 1. Covariances are about the mean, and the K class
means less their mean span K − 1 dimensions. Without centring the mean itself is a direction that the twins share,
which as a rule adds a mode that says nothing about the image: `uncentred_count` in the numbers of C3.
"""
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from scipy.stats import t as student

from ncib.core import read_json
from ncib.sweep import ring_interval
from ncib.timeline import clear_gap, first_lasting

HOLDS, IN_PART, NOT, UNTOLD = "holds", "holds in part", "does not hold", "cannot be told here"
LAYERS = ("backbone", "head")
RESULTS = Path(__file__).resolve().parents[1]/"results"

# C1: a tenth of the natural unit. NC1 = 1: as much spread within classes as between. Distance 1: Gram matrices at 60°
COLLAPSED = .1
PAST = 2. # training must go on for as long again as the plateau took: "past the plateau" needs a past
# C2
IDENTIFIED = .9 # held-out R² from which two encoders are called equal up to a matrix
BEYOND = .5 # share of what labels leave open that the map must carry: half of it
# C3
GAP = clear_gap # ratio of β_c − 1 that sets modes apart, and within which they coincide: 3, as everywhere in ncib
PROMINENT = 1.5 # the break behind mode K − 1 beside the rest of the profile; 1: an evenly falling spectrum
ALIGNED = .9 # share of the class directions that the first K − 1 modes must contain
MORE = 1.3 # separation over the predicted one: more than the prediction's own error, which is below 15 % in simulations
# C4
SHARE = .95 # of a curve's change, at which its event is dated
FACTOR = 1.3 # two times are equal within this factor: about the spacing of checkpoints
MARGIN = 1.27 # for the interval, which lacks the images' noise (shared by pairs) and the interpolation's error (2 %)
SLOPE = 4/3 # and a power of one another with an exponent within this factor of 1
IMAGES = 10_000 # test images: at 450 the accuracy's noise (0.4 points) is as large as the last 5 % of its rise
SPEEDS = ("lr", "train_size", "batch_size", "weight_decay") # options that change how fast an encoder learns
FEWEST_SPEEDS = 10 # conditions for the regression: with eight, 77 % power
SPREAD = 2. # slowest plateau over fastest, at least
# C5
RATIO = 1.1 # distance from a Gaussian over that of an ideal simplex with as much noise: 10 % more
CONDITION = 2. # largest over smallest variance of the class means in their K − 1 directions
KURTOSIS = 1.25 # Mardia's kurtosis within classes over a Gaussian's: that of Student's t with 12 degrees of freedom
EXCESS = .05 # excess rate of coding the class means alone, as a share of the optimal rate, at a tenth of the variance
# C6
STRONG = .5 # size of a correlation that counts
FEWEST = 8 # collapsed conditions
DRAWS = 2000 # of a bootstrap


@dataclass(frozen=True)
class Claim:
    "A claim, how it is measured, the rule, what came out, and how good the rule is."
    claim: str # C1 … C6
    paper: str # what the paper says
    measure: str
    rule: str
    verdict: str
    numbers: dict # plain values
    power: list = field(default_factory=list) # of the simulation: situation, n, share of draws with the verdict
    first_edition: "str|None" = None # verdict of the old rule on version 0.1.0's results

    def to_dict(self)->dict: return asdict(self)


# ---- from the table

def part(table: pd.DataFrame, condition: str = "main", layer: str = "backbone", copula: bool = False)->pd.DataFrame:
    "One condition's rows."
    return table[(table.condition == condition) & (table.layer == layer) & (table.copula == copula)]

def pairs(table: pd.DataFrame)->list[pd.DataFrame]: # each sorted by epoch
    "The checkpoints of each pair."
    groups = table.groupby(["condition", "seed_a", "seed_b"], sort=False)
    return [g.sort_values("epoch").reset_index(drop=True) for _, g in groups]

def ends(table: pd.DataFrame, last: bool = True)->pd.DataFrame: # one row per pair
    "The last checkpoint of each pair, or the first."
    groups = table.sort_values("epoch", kind="stable").groupby(["condition", "seed_a", "seed_b"], sort=False)
    return (groups.tail if last else groups.head)(1).sort_values(["condition", "seed_a", "seed_b"])

def layers(table: pd.DataFrame)->list[str]:
    "Those that the main condition has."
    return [name for name in LAYERS if len(part(table, layer=name))]

def lacking(table: pd.DataFrame, columns)->list[str]:
    "Columns that a rule needs and the table has not, or has not filled."
    return [c for c in columns if c not in table or table[c].isna().all()]

def mean_interval(values, level: float = .95)->dict: # mean, low, high, pairs; no interval below three pairs
    "Mean over pairs and its interval; values that are missing are left out."
    v = np.asarray([x for x in values if not pd.isna(x)], dtype=float)
    low, high = ring_interval(v, level)
    return {"mean": float(v.mean()) if len(v) else math.nan, "low": low, "high": high, "pairs": len(v)}

def ratio_interval(values)->dict: # as `mean_interval`, geometric
    "The same of logarithms, for positive numbers; without end counts as a million."
    v = np.clip(np.asarray([x for x in values if not pd.isna(x)], dtype=float), 1e-12, 1e6)
    return {k: x if k == "pairs" else math.exp(x) for k, x in mean_interval(np.log(v)).items()}

def compared(interval: dict, limit: float, above: bool = False)->"bool|None":
    "Whether the whole interval lies below the limit, or above it; `None` if neither or without an interval."
    low, high = (interval["low"], interval["high"]) if not above else (-interval["high"], -interval["low"])
    limit = -limit if above else limit
    return True if high <= limit else False if low > limit else None

def all_of(*answers)->"bool|None":
    "`False` if one is, `None` if one is undecided, else `True`."
    return False if any(a is False for a in answers) else None if None in answers else True

def graded(*answers)->str:
    "All: holds; some: in part; none, all decided: does not hold; else it cannot be told."
    if all(a is True for a in answers): return HOLDS
    return IN_PART if True in answers else NOT if None not in answers else UNTOLD

def together(verdicts)->str:
    "One verdict for several layers."
    found = set(verdicts)
    if len(found) == 1: return found.pop()
    return IN_PART if found & {HOLDS, IN_PART} else UNTOLD

def reached(epochs, values, share: float = SHARE)->float: # epoch; NaN for a curve that goes nowhere
    """When a curve has made a share of its way from its first value to its best.

    The first crossing, interpolated in the logarithm of the epoch (before epoch 1: in the epoch). The best is the
    largest median of up to five neighbouring checkpoints: a single best one is lucky, which dates events late."""
    t, v = np.asarray(epochs, dtype=float), np.asarray(values, dtype=float)
    t, v = t[np.isfinite(v)], v[np.isfinite(v)]
    if len(v) < 2: return math.nan
    width = min(5, max(1, len(v)//3))
    best = np.median(np.lib.stride_tricks.sliding_window_view(v, width), axis=1).max()
    if not best > v[0]: return math.nan
    level = v[0] + share*(best - v[0])
    i = int(np.argmax(v >= level))
    f = (level - v[i - 1])/(v[i] - v[i - 1])
    return float(t[i - 1] + f*(t[i] - t[i - 1]) if t[i - 1] < 1 else t[i - 1]*(t[i]/t[i - 1])**f)

def events(pair: pd.DataFrame, modes: int)->dict[str, float]: # epochs
    """When the accuracy, the transitions and the rivals have made 95 % of their way.

    The transitions are dated by the shortfall at the corner. Where mode K enters, the optimal solution is made of
    exactly K − 1 modes; the class code reaches it when these are the class modes. This curve settles, so that its time
    can be estimated. The separation goes on growing, and a count jumps between near ties: both stand beside it."""
    column = lambda name, sign=1: sign*pair[name] if name in pair else np.full(len(pair), np.nan)
    log = lambda name: np.log(np.clip(column(name), 1e-12, 1e6))
    curves = {"plateau": column("test_accuracy"), "transitions": column("test_shortfall", -1),
              "separation": log("test_twin_separation"), "NC1": column("train_nc1", -1),
              "training accuracy": column("train_accuracy")}
    return {n: reached(pair.epoch, v) for n, v in curves.items()} | {"count": _nan(_counted(pair, modes))}

def _counted(pair, modes): return first_lasting(pair.epoch, (pair.test_twin_count >= modes).to_numpy())

def _nan(v): return math.nan if v is None else float(v)


# ---- C1

C1_NEEDS = ("train_nc1", "train_etf_error", "test_accuracy")

def c1_layer(rows: pd.DataFrame)->tuple[str, dict]:
    "Verdict and numbers of one layer of the main condition."
    first, last = ends(rows, False), ends(rows)
    plateau = [reached(p.epoch, p.test_accuracy) for p in pairs(rows)]
    past = all(p.epoch.iloc[-1] >= PAST*at for p, at in zip(pairs(rows), plateau)) # no plateau, NaN, is not past it
    names = ("train_nc1", "test_nc1", "train_etf_error", "test_etf_error", "train_whitened_etf_error",
             "train_equinorm", "train_equiangular")
    numbers = {when: {n: ratio_interval(t[n]) for n in names if n in t}
               for when, t in (("first", first), ("last", last))}
    collapsed, simplex = (compared(numbers["last"][n], COLLAPSED) for n in ("train_nc1", "train_etf_error"))
    return graded(collapsed, simplex) if past else UNTOLD, {**numbers, "plateau": plateau}

def c1(table: pd.DataFrame, num_classes: int)->Claim:
    "Collapse, in both layers."
    return _claim("C1", table, C1_NEEDS, lambda layer: c1_layer(part(table, layer=layer)))


# ---- C2

C2_NEEDS = ("r2_forward", "r2_backward", "r2_beyond_forward", "r2_beyond_backward")

def lower(table: pd.DataFrame, name: str)->pd.Series:
    "The worse of the two directions."
    return table[[f"{name}_forward", f"{name}_backward"]].min(axis=1)

def c2_layer(rows: pd.DataFrame, cross: pd.DataFrame)->tuple[str, dict]:
    "Verdict and numbers of one layer; pairs with another loss share their first encoder with a pair of the same loss."
    first, last = ends(rows, False), ends(rows)
    names = [n for n in ("r2", "r2_labels", "r2_beyond", "r2_within") if f"{n}_forward" in rows]
    numbers = {when: {n: mean_interval(lower(t, n)) for n in names} for when, t in (("first", first), ("last", last))}
    if "rho_within" in rows: numbers["last"]["rho_within"] = mean_interval(last.rho_within)
    own = last.assign(own=lower(last, "r2_beyond")).set_index(["seed_a", "seed_b"]).own
    usable = len(cross) and not lacking(cross, C2_NEEDS)
    others = {}
    for kind, g in cross.groupby("kind") if usable else ():
        other = g.assign(other=lower(g, "r2_beyond")).set_index(["seed_a", "seed_b"]).other
        others[kind] = mean_interval((own - other).dropna())
    level = compared(numbers["last"]["r2"], IDENTIFIED, above=True)
    beyond = compared(numbers["last"]["r2_beyond"], BEYOND, above=True)
    specific = [compared(v, 0., above=True) for v in others.values()]
    verdict = graded(level, beyond)
    if verdict == HOLDS: verdict = UNTOLD if not others else HOLDS if all(s is True for s in specific) else IN_PART
    return verdict, {**numbers, "beyond_labels_less_that_with_another_loss": others}

def c2(table: pd.DataFrame, cross: pd.DataFrame, num_classes: int)->Claim:
    "Linear identifiability, beyond what labels explain."
    if "layer" not in cross: cross = cross.assign(layer="backbone")
    return _claim("C2", table, C2_NEEDS, lambda layer: c2_layer(part(table, layer=layer), cross[cross.layer == layer]))


# ---- C3

C3_NEEDS = ("test_twin_separation", "test_twin_separation_low", "test_twin_separation_high", "test_twin_spread",
            "test_twin_class_alignment", "test_twin_prominence", "separation_over_predicted", "test_etf_error")

def stands_apart(rows: pd.DataFrame)->"bool|None": # rows: one per pair
    """Whether the modes behind K − 1 stand apart: a wide and a prominent break.

    The separation counts with both intervals, over pairs and over images, as pairs share their test images. A spectrum
    that falls evenly has a separation too, so that the break must also stand out from its neighbourhood."""
    over_pairs = compared(ratio_interval(rows.test_twin_separation), GAP, above=True)
    mean = lambda column: ratio_interval(rows[column])["mean"]
    images = {"low": mean("test_twin_separation_low"), "high": mean("test_twin_separation_high")}
    over_images = compared(images, GAP, above=True)
    return all_of(over_pairs, over_images, compared(ratio_interval(rows.test_twin_prominence), PROMINENT, above=True))

def c3_unit(rows: pd.DataFrame)->tuple[str, "bool|None", dict]: # verdict, premise, numbers
    "One condition and layer."
    first, last = ends(rows, False), ends(rows)
    ratios = ("test_etf_error", "test_whitened_etf_error", "test_twin_separation", "test_twin_separation_low",
              "test_twin_separation_high", "test_twin_prominence", "test_twin_spread", "predicted_separation",
              "separation_over_predicted", "test_twin_level")
    means = ("test_twin_class_alignment", "test_twin_count_share", "test_twin_count", "uncentred_count")
    numbers = {n: ratio_interval(last[n]) for n in ratios if n in last}
    numbers |= {n: mean_interval(last[n]) for n in means if n in last}
    premise = compared(numbers["test_etf_error"], COLLAPSED)
    before = first.epoch.max() < last.epoch.min() and stands_apart(first) is True # one checkpoint has no before
    found = all_of(stands_apart(last), compared(numbers["test_twin_class_alignment"], ALIGNED, above=True))
    coincide = compared(numbers["test_twin_spread"], GAP)
    more = compared(numbers["separation_over_predicted"], MORE, above=True)
    answers = {"premise": premise, "class_modes_apart": found, "they_coincide": coincide, "more_than_predicted": more,
               "apart_before_training": before}
    if not premise: return IN_PART if found else UNTOLD, premise, answers | numbers
    if not found: return NOT if found is False else UNTOLD, premise, answers | numbers
    return HOLDS if coincide and more and not before else IN_PART, premise, answers | numbers

def c3(table: pd.DataFrame, num_classes: int)->Claim:
    """K − 1 class modes that are the transitions.

    The claim has a premise: class means that are a simplex. Temperature decides where it is met, so that conditions
    which differ in temperature alone count beside the main one. Where the premise fails, transitions can be seen
    without it, and their absence refutes nothing.

    The baseline is the spectrum that collapse alone predicts (`measures.predicted`): class directions that share the
    label and nothing else, and a rest that correlates within classes. Small noise within classes puts K − 1 modes in
    front of that spectrum whatever the bottleneck does. So a break that is no wider than the predicted one restates
    NC1, and the claim holds in part: the class modes are the transitions, as collapse says they must be. It holds in
    full if the class modes enter earlier than the class means explain, by a factor of 1.3 in the separation."""
    if missing := lacking(table, C3_NEEDS): return _made("C3", UNTOLD, {"missing": missing})
    plain = table[~table.copula.astype(bool)]
    names = [c for c in plain.condition.unique() if c == "main" or c.startswith("temperature=") and "," not in c]
    units = {f"{c}, {name}": c3_unit(rows) for c in names for name in LAYERS if len(rows := part(plain, c, name))}
    deciding = [v for v, premise, _ in units.values() if premise]
    deciding = deciding or [v for n, (v, _, _) in units.items() if n.startswith("main,")]
    numbers = {"modes": num_classes - 1, "units_that_meet_the_premise": [n for n, u in units.items() if u[1]],
               "units": {n: {"verdict": v} | more for n, (v, _, more) in units.items()}}
    return _made("C3", together(deciding), numbers)


# ---- C4

C4_NEEDS = ("test_accuracy", "train_accuracy", "test_shortfall", "train_nc1", "test_twin_count", "test_images")
RIVALS = ("NC1", "training accuracy")

def equivalent(logs)->tuple["bool|None", dict]: # of pairs: log of one time over another
    "Two one-sided tests: the 90 % interval lies within ± log 1.27. `False`: the 95 % interval lies outside ± log 1.3."
    narrow, wide, near, far = mean_interval(logs, .9), mean_interval(logs), math.log(MARGIN), math.log(FACTOR)
    inside = -near <= narrow["low"] and narrow["high"] <= near
    outside = wide["low"] > far or wide["high"] < -far
    shown = {k: v if k == "pairs" else math.exp(v) for k, v in narrow.items()}
    return True if inside else False if outside else None, shown

def slope(x, y)->dict: # slope, its 90 % interval, n
    "Least squares through condition means."
    x, y = (np.asarray(v, dtype=float) - np.mean(v) for v in (x, y))
    n, b = len(x), float((x@y)/(x@x))
    error = math.sqrt(max(0., float(((y - b*x)**2).sum()))/(n - 2)/float(x@x))
    half = float(student.ppf(.95, n - 2))*error
    return {"slope": b, "low": b - half, "high": b + half, "conditions": n}

def nearer(own, rival)->dict: # probability that so much less spread comes from chance; one-sided
    "Pitman–Morgan test of two paired spreads: whether times of `own` follow the plateau more closely than `rival`'s."
    d, s = np.asarray(own) - np.asarray(rival), np.asarray(own) + np.asarray(rival)
    if not d.std() > 0 or not s.std() > 0: return {"ratio": 1., "p_closer": .5, "p_farther": .5}
    r, n = min(max(float(np.corrcoef(d, s)[0, 1]), -1 + 1e-12), 1 - 1e-12), len(d)
    p = float(student.cdf(r*math.sqrt((n - 2)/(1 - r*r)), n - 2))
    return {"ratio": float(np.std(own)/np.std(rival)), "p_closer": p, "p_farther": 1 - p}

def follows(times: pd.DataFrame, # one row per pair: condition, and log epochs of the events
            )->tuple["bool|None", dict]:
    "Whether the plateau follows the transitions when the speed varies, and more closely than it follows rivals."
    names = ("plateau", "transitions", *RIVALS)
    mean = times.groupby("condition", sort=False)[list(names)].mean().dropna()
    if len(mean) < FEWEST_SPEEDS or math.exp(np.ptp(mean.plateau)) < SPREAD: return None, {"conditions": len(mean)}
    if np.ptp(mean.transitions) < math.log(FACTOR): return False, {"conditions": len(mean)} # the plateau alone moves
    line = slope(mean.transitions, mean.plateau)
    rivals = {r: nearer(mean.plateau - mean.transitions, mean.plateau - mean[r]) for r in RIVALS}
    one = 1/SLOPE <= line["low"] and line["high"] <= SLOPE
    off = line["high"] < 1/SLOPE or line["low"] > SLOPE
    wins = all(v["p_closer"] <= .05 for v in rivals.values())
    loses = any(v["p_farther"] <= .05 for v in rivals.values())
    return True if one and wins else False if off or loses else None, {**line, "rivals": rivals}

def differs_in_speed(condition: str)->bool:
    "Whether a condition differs from the main one, if at all, in nothing but how fast it learns."
    return condition == "main" or all(o.split("=")[0] in SPEEDS for o in condition.split(","))

def c4_layer(rows: pd.DataFrame, # of all conditions that differ in speed alone
             modes: int)->tuple[str, dict]:
    "Verdict and numbers of one layer."
    times = []
    for p in pairs(rows):
        found = events(p, modes)
        settled = PAST*max(found["plateau"], found["transitions"]) <= p.epoch.iloc[-1]
        times.append({"condition": p.condition.iloc[0], "settled": settled, **found})
    times = pd.DataFrame(times)
    names = [n for n in times if n not in ("condition", "settled")]
    logs = times.assign(**{n: np.log(times[n].where(times[n] > 0)) for n in names})
    main, settled = logs[logs.condition == "main"], logs[logs.settled]
    coincide, shown = equivalent(main.transitions - main.plateau)
    follow, line = follows(settled)
    numbers = {"transitions_over_plateau": shown, "coincide": coincide, "over_speeds": line, "follows": follow,
               "epochs": {n: times[times.condition == "main"][n].tolist() for n in names},
               "settled": f"{int(main.settled.sum())} of {len(main)} pairs",
               "beside": {n: equivalent((main[n] - main.plateau).dropna())[1]
                          for n in ("separation", "count", *RIVALS)}}
    if int(rows.test_images.min()) < IMAGES or not main.settled.all(): return UNTOLD, numbers
    if follow: return HOLDS if coincide else IN_PART, numbers
    # In one condition unrelated events coincide often enough, so that this alone gives no part of the claim
    return NOT if False in (follow, coincide) else UNTOLD, numbers

def c4(table: pd.DataFrame, num_classes: int)->Claim:
    "The plateau comes when all transitions are in."
    fair = table[table.condition.map(differs_in_speed) & ~table.copula.astype(bool)]
    return _claim("C4", table, C4_NEEDS, lambda layer: c4_layer(fair[fair.layer == layer], num_classes - 1))


# ---- C5

C5_NEEDS = ("gaussian_ratio", "condition_number", "within_kurtosis_ratio", "excess_rate")

def c5_layer(rows: pd.DataFrame)->tuple[str, dict]:
    "Verdict and numbers of one layer."
    first, last = ends(rows, False), ends(rows)
    names = ("gaussian_ratio", "condition_number", "within_kurtosis_ratio", "span_sliced_wasserstein",
             "ideal_sliced_wasserstein", "code_sliced_wasserstein_ratio", "effective_rank")
    linear = ("excess_rate", "outside_means")
    intervals = lambda t: ({n: ratio_interval(t[n]) for n in names if n in t}
                           | {n: mean_interval(t[n]) for n in linear if n in t})
    numbers = {"first": intervals(first), "last": intervals(last)}
    found = numbers["last"]
    answers = {"as_gaussian_as_an_ideal_simplex": compared(found["gaussian_ratio"], RATIO),
               "isotropic": compared(found["condition_number"], CONDITION),
               "gaussian_within": all_of(compared(found["within_kurtosis_ratio"], KURTOSIS),
                                         compared(found["within_kurtosis_ratio"], 1/KURTOSIS, above=True)),
               "cheap": compared(found["excess_rate"], EXCESS) if last.excess_rate.notna().all() else False}
    verdict = graded(*answers.values())
    shape = [answers["as_gaussian_as_an_ideal_simplex"], answers["isotropic"]]
    if verdict == IN_PART and True not in shape: verdict = NOT if None not in shape else UNTOLD
    return verdict, {**answers, **numbers}

def c5(table: pd.DataFrame, num_classes: int)->Claim:
    "A simplex packed into a Gaussian."
    needs = [c for c in C5_NEEDS if c != "excess_rate" or c not in table] # empty where the distortion is out of reach
    return _claim("C5", table, needs, lambda layer: c5_layer(part(table, layer=layer)))


# ---- C6

C6_NEEDS = ("train_nc1", "test_nc1", "test_shortfall", "test_accuracy")

def correlation(x, y)->float: # NaN if one does not vary
    "Of ranks that are given."
    x, y = x - x.mean(), y - y.mean()
    size = math.sqrt(float((x@x)*(y@y)))
    return float(x@y)/size if size > 0 else math.nan

def partial(accuracy, own, other)->float:
    "Partial rank correlation of accuracy and `own`, given `other`."
    a, s, o = (rankdata(v) for v in (accuracy, own, other))
    r_as, r_ao, r_so = correlation(a, s), correlation(a, o), correlation(s, o)
    size = (1 - r_ao**2)*(1 - r_so**2)
    return (r_as - r_ao*r_so)/math.sqrt(size) if size > 1e-12 else math.nan

def fisher(r: float, n: int, given: int = 1)->tuple[float, float]:
    "95 % interval of a partial rank correlation: Fisher's z with the variance 1.06/(n − given − 3)."
    if not math.isfinite(r) or n - given <= 3: return math.nan, math.nan
    z, half = math.atanh(min(max(r, -1 + 1e-9), 1 - 1e-9)), 1.96*math.sqrt(1.06/(n - given - 3))
    return math.tanh(z - half), math.tanh(z + half)

def bootstrapped_difference(accuracy, own, other, draws: int = DRAWS, seed: int = 0)->dict:
    "Rank correlation of accuracy with `own`, less that with `other`; interval by a bootstrap over conditions."
    a, s, o = (np.asarray(v, dtype=float) for v in (accuracy, own, other))
    picks = np.random.default_rng(seed).integers(len(a), size=(draws, len(a)))
    picks = np.concatenate([np.arange(len(a))[None], picks]) # the first row is what was seen
    def centred(v):
        r = rankdata(v[picks], axis=1)
        r = r - r.mean(1, keepdims=True)
        return r/np.maximum(np.linalg.norm(r, axis=1, keepdims=True), 1e-12)
    d = (centred(a)*(centred(s) - centred(o))).sum(1)
    low, high = np.quantile(d[1:], [.025, .975])
    return {"difference": float(d[0]), "low": float(low), "high": float(high)}

def c6_answers(accuracy, own, other, draws: int = DRAWS)->dict: # one value per collapsed condition
    "What the rule asks for, without leaving any condition out."
    r = partial(accuracy, own, other)
    low, high = fisher(r, len(accuracy))
    difference = bootstrapped_difference(accuracy, own, other, draws)
    strong = True if r <= -STRONG and high < 0 else False if low > -STRONG else None
    return {"partial": r, "low": low, "high": high, "strong": strong,
            "difference": difference, "better": difference["high"] < 0}

def c6_verdict(answers: dict)->str:
    "Of one set of conditions."
    if answers["strong"] is None: return UNTOLD
    return NOT if not answers["strong"] else HOLDS if answers["better"] else IN_PART

def c6_decide(accuracy, own, other, draws: int = DRAWS)->tuple[str, dict]: # one value per collapsed condition
    "The verdict. It must not hang on one condition: where leaving one out changes the answer, it is a step weaker."
    values = [np.asarray(v, dtype=float) for v in (accuracy, own, other)]
    answers, n = c6_answers(*values, draws), len(accuracy)
    verdict, strong = c6_verdict(answers), answers["partial"] <= -STRONG
    without = [partial(*(np.delete(v, i) for v in values)) for i in range(n)]
    flips = sum((r <= -STRONG) != strong for r in without)
    if flips and verdict != UNTOLD: verdict = IN_PART if verdict == HOLDS else UNTOLD
    return verdict, answers | {"conditions": n, "flips_when_one_is_left_out": flips,
                               "partial_when_one_is_left_out": [min(without), max(without)]}

def c6_layer(rows: pd.DataFrame)->tuple[str, dict]: # of all conditions
    "Verdict and numbers of one layer."
    mean = ends(rows).groupby("condition", sort=False)[list(C6_NEEDS)].mean().dropna()
    collapsed = mean[mean.train_nc1 <= COLLAPSED]
    numbers = {"collapsed_conditions": collapsed.index.tolist(), "conditions": len(mean)}
    if len(collapsed) < FEWEST or collapsed.test_accuracy.nunique() < 3: return UNTOLD, numbers
    verdict, more = c6_decide(collapsed.test_accuracy, collapsed.test_shortfall, collapsed.test_nc1)
    return verdict, numbers | more

def c6(table: pd.DataFrame, num_classes: int)->Claim:
    "What makes collapse generalise."
    plain = table[~table.copula.astype(bool)]
    return _claim("C6", table, C6_NEEDS, lambda layer: c6_layer(plain[plain.layer == layer]))


# ---- text

PAPER = {
    "C1": "Trained past the performance plateau, SupCon features collapse: class means become a simplex "
          "equiangular tight frame.",
    "C2": "Two encoders trained independently with the same contrastive loss are linearly identifiable: equal "
          "up to a matrix.",
    "C3": "When the class means are a simplex ETF, the class modes coincide with the phase transitions of the "
          "IB between the two encoders: K − 1 of them.",
    "C4": "The performance plateau occurs once the optimal IB solution includes all of these transitions.",
    "C5": "The simplex ETF can be packed into a Gaussian: SupCon features approximate optimal features for "
          "source coding.",
    "C6": "Collapse generalises well specifically when it approaches the optimal IB solution.",
}
MEASURE = {
    "C1": "NC1 and the distance of the class means from a simplex ETF on training features, mean of a pair's "
          "encoders, at the last checkpoint, of backbone and head. The plateau is the epoch at which test "
          "accuracy has made 95 % of its rise.",
    "C2": "Held-out R² of the best linear map between two encoders' test features, the lower of both "
          "directions. The share of what labels leave open: (R² − R² of labels alone)/(1 − R² of labels "
          "alone). Its difference from pairs of the same first encoder with one trained by another loss. "
          "Canonical correlations within classes stand beside it.",
    "C3": "On test features, from an estimate that no linear map changes: level of β_c − 1 behind mode K − 1, "
          "where strong modes weigh most, over the geometric mean of the first K − 1 (separation), over pairs "
          "and over images. Prominence of that break in the profile. Largest over smallest β_c − 1 of the first "
          "K − 1 (spread), alignment with the label modes, and a separation by geometric means alone over that "
          "of the spectrum predicted from class means and correlations within classes.",
    "C4": "Epochs, interpolated in the logarithm, at which curves have made 95 % of their way: test accuracy "
          "(plateau), the class code's shortfall at the corner where mode K enters (transitions), and, as "
          "rivals, NC1 and training accuracy. In the main condition their ratio; over conditions of different "
          "learning speed the slope of log plateau on log transitions, and which event follows the plateau "
          "most closely.",
    "C5": "On test features at the last checkpoint: sliced Wasserstein distance from a Gaussian, on the span "
          "of the class means, over that of an ideal simplex with as much noise and as many rows. Condition "
          "number of the class means. Mardia's kurtosis within classes over a Gaussian's. Excess rate of "
          "coding the class means alone.",
    "C6": "Among conditions whose training features have collapsed, on test features at the last checkpoint: "
          "partial rank correlation of accuracy with the shortfall at the corner, given test NC1; and how much "
          "stronger accuracy goes with the shortfall than with test NC1 (bootstrap over conditions).",
}
PAIRS = "Every comparison is with a whole 95 % interval over pairs, at least three. "
LAYERED = " Backbone and head: holds in both, does not hold in both, else in part where it holds somewhere."
RULE = {
    "C1": f"Holds in a layer: NC1 ≤ {COLLAPSED} and ETF distance ≤ {COLLAPSED}. In part: one of them. Does not "
          f"hold: both above. {PAIRS}Cannot be told: undecided, or training ended before {PAST:g} times the "
          f"plateau's epoch.{LAYERED}",
    "C2": f"Holds in a layer: R² ≥ {IDENTIFIED}, at least {BEYOND:g} of what labels leave open, and more of it "
          "than with every other loss (paired difference above 0). In part: one of the first two, or both "
          f"without the third. Does not hold: both below. {PAIRS}Cannot be told: undecided, or no pairs with "
          f"another loss.{LAYERED}",
    "C3": f"Premise: ETF distance ≤ {COLLAPSED}. Found: separation ≥ {GAP:g}, over pairs and over images, "
          f"prominence ≥ {PROMINENT:g} and alignment ≥ {ALIGNED:g}. Holds: both, spread ≤ {GAP:g}, separation ≥ "
          f"{MORE:g} times the predicted one, and no such break before training. In part: found, and not all of "
          "the rest. Does not hold: the premise is met and it is not found. Cannot be told: undecided, or "
          f"neither. {PAIRS}Layers and temperatures that meet the premise decide, else the main condition.{LAYERED}",
    "C4": "Coincide: the 90 % interval over pairs of transitions over plateau lies within a factor of "
          f"{MARGIN:g} (two one-sided tests of {FACTOR:g}). Follow: over at least {FEWEST_SPEEDS} conditions "
          f"with plateaus a factor of {SPREAD:g} apart, the 90 % interval of the slope lies within a factor of "
          f"{SLOPE:.3g} of 1. There the plateau follows the transitions more closely than each rival (one-sided 5 %). "
          "Holds: both. In part: they follow alone. Does not hold: they do not coincide (95 % interval outside "
          f"{FACTOR:g}), the slope's interval lies outside, the transitions stay within a factor of {FACTOR:g} while "
          "the plateau moves, or a rival is closer (5 %). Cannot be told: fewer "
          f"than {IMAGES:,} test images, events of the main condition later than 1/{PAST:g} of training, or undecided. "
          f"Coinciding alone is no evidence: unrelated events do so by chance.{LAYERED}",
    "C5": f"Holds in a layer: distance from a Gaussian ≤ {RATIO:g} times the ideal simplex's, condition number "
          f"≤ {CONDITION:g}, kurtosis ratio within a factor of {KURTOSIS:g} of 1, excess rate ≤ {EXCESS:.0%}. "
          f"In part: the first or second of them, and not all. Does not hold: neither. {PAIRS}Cannot be told: "
          f"undecided.{LAYERED}",
    "C6": f"Holds in a layer, over at least {FEWEST} conditions with training NC1 ≤ {COLLAPSED}: partial "
          f"correlation ≤ −{STRONG:g} with its 95 % interval below 0, the shortfall better than NC1 (95 % "
          "interval of the difference below 0), and no condition whose omission takes the correlation above "
          f"−{STRONG:g}. In part: the first alone, or the last missing. Does not hold: the interval lies above "
          f"−{STRONG:g}. Cannot be told: fewer conditions, or undecided.{LAYERED}",
}


def power(claim: "str|None" = None)->list[dict]:
    "What `power.py` found, of one claim or all: from results/power.csv."
    file = RESULTS/"power.csv"
    if not file.is_file(): return []
    t = pd.read_csv(file)
    return [{k: v for k, v in r.items() if k != "claim"} for r in t.to_dict("records") if claim in (None, r["claim"])]

def first_edition(experiment: "str|None")->dict[str, str]: # verdict by claim; none for another experiment
    "What the old rules gave on the results of version 0.1.0."
    file = RESULTS/"first_edition.json"
    return read_json(file)["verdicts"].get(experiment, {}) if experiment and file.is_file() else {}

def _made(name, verdict, numbers)->Claim: return Claim(name, PAPER[name], MEASURE[name], RULE[name], verdict, numbers)

def _claim(name, table, needs, of_layer)->Claim: # judged layer by layer
    if missing := lacking(table, needs): return _made(name, UNTOLD, {"missing": missing})
    found = {layer: of_layer(layer) for layer in layers(table)}
    numbers = {layer: {"verdict": v} | n for layer, (v, n) in found.items()}
    return _made(name, together(v for v, _ in found.values()) if found else UNTOLD, numbers)

def judge(table: pd.DataFrame, # timeline.csv
          cross: pd.DataFrame, # cross.csv; may be empty
          num_classes: int,
          experiment: "str|None" = None, # its name: finds the verdicts of the first edition
          )->list[Claim]:
    "All six claims, with the power of their rules and the verdicts of the first edition."
    k, old = num_classes, first_edition(experiment)
    found = [c1(table, k), c2(table, cross, k), c3(table, k), c4(table, k), c5(table, k), c6(table, k)]
    return [Claim(**vars(c) | {"power": power(c.claim), "first_edition": old.get(c.claim)}) for c in found]
