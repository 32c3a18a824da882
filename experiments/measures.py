"""What the claims are judged by, checkpoint by checkpoint: one row per pair of encoders and epoch."""
import math

import pandas as pd
import torch

from ncib.cca import CanonicalCorrelations, canonical_correlations, cca_from_covariance
from ncib.coding import excess_rate, isotropy
from ncib.gib import GaussianIB
from ncib.identifiability import linear_identifiability
from ncib.runs import Features
from ncib.timeline import Timeline

# Columns of a timeline that are kept, those of the two encoders as their mean
PARTS = ("train", "test")
OF_THE_MEANS = ("nc1", "equinorm", "equiangular", "etf_error", "ib_gap", "shortfall", "shortfall_nats")
OF_A_SPECTRUM = ("count", "gap_ratio", "significant", "gap_after_k1")
OF_THE_TWIN = ("separation", "separation_low", "separation_high", "level", "spread", "count_share")
KEPT = ("test_accuracy", "train_accuracy", "test_ncc_accuracy", *(f"{p}_{m}" for p in PARTS for m in OF_THE_MEANS),
        *(f"{p}_{r}_{m}" for p, r in (("test", "twin"), ("train", "twin"), ("test", "paired"), ("test", "labels"))
          for m in OF_A_SPECTRUM),
        *(f"{p}_twin_{m}" for p in PARTS for m in OF_THE_TWIN),
        "test_twin_class_alignment", "train_twin_class_alignment", "test_information")
IDENTIFIABILITY = ("rho_within", *(f"{r}_{d}" for r in ("r2", "r2_labels", "r2_beyond", "r2_within")
                                   for d in ("forward", "backward"))) # what `identifiability` gives
VERSION = 3 # of what `measure` gives: what another one gave is measured again
RESOLVED = 1e-6 # correlations of class pairs below are chance: no critical β is predicted from them
NEIGHBOURS = 3 # modes before and behind a position that are compared in a profile: single gaps between ties are noise


def one_hot(labels: torch.Tensor, # (n,)
            )->torch.Tensor: # (n, K) float64, classes that occur
    "Labels as columns."
    y = torch.unique(labels, return_inverse=True)[1]
    return torch.nn.functional.one_hot(y).double()


def within(x: torch.Tensor, # (n, d)
           labels: torch.Tensor, # (n,)
           )->torch.Tensor: # (n, d)
    "Features less the mean of their class."
    of = torch.nn.functional.one_hot(labels).to(x)
    return x - of@(of.T@x/of.sum(0).clamp_min(1)[:, None])


# ---- C2: what the map carries that labels do not

def label_r2(x: torch.Tensor, # (n, d) features
             labels: torch.Tensor, # (n,)
             folds: int = 5,
             )->float:
    "Held-out R² of the features predicted from the labels alone: each fold by the class means of the others."
    x, of = x.double(), one_hot(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).to(x.device)
    left = total = 0.
    for held in order.tensor_split(folds):
        rest = torch.ones(len(x), dtype=torch.bool, device=x.device)
        rest[held] = False
        counts, mean = of[rest].sum(0), x[rest].mean(0)
        means = torch.where(counts[:, None] > 0, of[rest].T@x[rest]/counts.clamp_min(1)[:, None], mean)
        left += float((x[held] - of[held]@means).square().sum())
        total += float((x[held] - mean).square().sum())
    return 1 - left/total


def identifiability(a, b, # (n, d_a), (n, d_b): features of the same images
                    labels, # (n,)
                    )->dict[str, float]:
    """Held-out R² of the best linear map both ways, beside what labels alone explain.

    `r2_beyond` is (R² − R² of labels)/(1 − R² of labels): the share of what labels leave open that the map carries.
    `r2_within` says the same of features less their class means, and `rho_within` is the mean of the first K − 1
    held-out canonical correlations within classes, which do not weigh directions by their variance."""
    out = {}
    for name, x, y in (("r2", a, b), ("r2_within", within(a, labels), within(b, labels))):
        r = linear_identifiability(x, y)
        out |= {f"{name}_forward": r.r2_x_to_y, f"{name}_backward": r.r2_y_to_x}
    out["rho_within"] = float(torch.as_tensor(r.held_out_rho)[:one_hot(labels).shape[1] - 1].mean())
    for direction, target in (("forward", b), ("backward", a)):
        base = label_r2(target, labels)
        out |= {f"r2_labels_{direction}": base, f"r2_beyond_{direction}": (out[f"r2_{direction}"] - base)/(1 - base)}
    return out


# ---- C3: premise, break in the spectrum, and the spectrum that collapse alone predicts

def whitened_etf_error(x: torch.Tensor, # (n, d) features
                       labels: torch.Tensor, # (n,)
                       cut: float = 1e-5, # directions with less than this share of the largest spread are left out
                       )->float:
    """Distance of the class means from a simplex ETF in coordinates in which the noise within classes is white.

    Equal critical βs need this one to vanish: a simplex in the plain coordinates with unequal noise around it has
    unequal discriminants."""
    x, of = x.double(), one_hot(labels)
    means = of.T@x/of.sum(0)[:, None]
    values, vectors = torch.linalg.eigh((x - of@means).T@(x - of@means)/len(x))
    keep = values > cut**2*values.max()
    m = (means - means.mean(0))@(vectors[:, keep]/values[keep].sqrt())
    k, gram = len(m), m@m.T
    ideal = (torch.eye(k).to(gram) - 1/k)/math.sqrt(k - 1)
    return float((gram/gram.norm() - ideal).norm())


def excesses(cc: CanonicalCorrelations)->torch.Tensor: # (m,) ascending
    "Critical excesses β_c − 1 of the modes above the noise, with the inflation by finite samples taken out."
    rho = torch.as_tensor(cc.debiased)[torch.as_tensor(cc.significant)]
    rho = rho[rho > 0].clamp(max=1 - 1e-12)
    return ((1 - rho)*(1 + rho)/rho.square()).sort().values


def separation(e: torch.Tensor, # (m,) ascending
               modes: int)->float: # NaN without a mode behind
    "Geometric mean of the excesses behind the first `modes` over that of those."
    return float((e[modes:].log().mean() - e[:modes].log().mean()).exp()) if len(e) > modes > 0 else math.nan


def prominence(e: torch.Tensor, # (m,) ascending
               modes: int, # K − 1
               edge: float, # excess at the edge of the noise: what stands behind the last mode at least
               )->float: # NaN with fewer than K − 1 modes
    """How far the break behind mode K − 1 stands out from the rest of the spectrum.

    The profile at k is the ratio of the geometric means of up to three excesses behind k and three before. It is high
    wherever a spectrum falls fast, so the value at K − 1 is divided by the largest value elsewhere among the first
    2(K − 1) positions, at least three away. A spectrum that falls evenly has 1."""
    m = min(NEIGHBOURS, modes)
    if len(e) < modes: return math.nan
    logs = torch.cat([e, e.new_full((m,), max(edge, float(e[-1])))]).log()
    at = range(m, min(len(e), 2*modes) + 1)
    profile = {k: float(logs[k:k + m].mean() - logs[k - m:k].mean()) for k in at}
    others = [v for k, v in profile.items() if abs(k - modes) >= m]
    return math.exp(profile[modes] - max(others)) if others else math.nan


def rest(x: torch.Tensor, cc: CanonicalCorrelations, labels: torch.Tensor, modes: int)->torch.Tensor: # (n, d)
    "What is left of the features: no class means, and uncorrelated within classes with the class directions."
    x = x.double() - x.double().mean(0)
    d, w = torch.as_tensor(cc.weights_x)[:, :modes], within(x, labels)
    wd = w@d
    return x - (x@d)@torch.linalg.solve(wd.T@wd, wd.T@w)


def predicted(x, y, # (n, d_x), (n, d_y): features of the same images
              labels, # (n,)
              )->torch.Tensor: # (m,) critical excesses, ascending
    """The twin spectrum that class means and correlations within classes predict.

    Each encoder is split into its K − 1 discriminant directions and the rest, uncorrelated with them within classes and
    without class means. The prediction takes the two for independent blocks: the class directions of the twins share
    the label and nothing else, the rest shares what canonical correlations within classes find there. Then the spectrum
    is the union of the class-paired one and the one of the rest. For the chain X − label − Y the class-paired
    correlations are those of x with labels times those of labels with y, which can be freed of their inflation one by
    one. Infinite where nothing is left of them."""
    of = one_hot(labels)
    modes = of.shape[1] - 1
    sides = [canonical_correlations(v.double(), of, shrinkage=None) for v in (x, y)]
    r = [torch.as_tensor(cc.debiased)[:modes] for cc in sides]
    variates = [torch.as_tensor(cc.transform_y(of))[:, :modes] for cc in sides]
    core = r[0][:, None]*(variates[0].T@variates[1]/len(of))*r[1]
    rho = torch.linalg.svdvals(core).clamp(max=1 - 1e-12)
    shared = torch.where(rho > RESOLVED, (1 - rho)*(1 + rho)/rho.square(), math.inf)
    left = canonical_correlations(*(rest(v, cc, labels, len(p)) for v, cc, p in zip((x, y), sides, r)), shrinkage=None)
    return torch.cat([shared, excesses(left)]).sort().values


def uncentred_count(x: torch.Tensor, y: torch.Tensor, # (n, d_x), (n, d_y) float64
                    cc: CanonicalCorrelations, # of x and y about their means
                    modes: int)->float: # NaN without a mode behind K − 1
    """How many modes lie in front of the break behind mode K − 1 when nothing is centred.

    K means without centring span K dimensions: the features' mean, which says nothing about the image, is one."""
    centred = torch.as_tensor(cc.one_minus_rho2)/torch.as_tensor(cc.rho).square()
    if len(centred) <= modes: return math.nan
    n = len(x)
    raw = cca_from_covariance(x.T@x/n, x.T@y/n, y.T@y/n, n=n)
    e = torch.as_tensor(raw.one_minus_rho2)/torch.as_tensor(raw.rho).square()
    return float((e < (centred[modes - 1]*centred[modes]).sqrt()).sum())


def spectrum(x, y, # (n, d_x), (n, d_y): features of the same images
             labels, # (n,)
             )->dict[str, float]:
    """The break behind mode K − 1, beside that of the predicted spectrum, and the count without centring; without the
    rows that alone would make a mode."""
    ib = GaussianIB.fit(x.double(), y.double())
    stay = torch.ones(len(labels), dtype=torch.bool)
    stay[list(ib.left_out)] = False
    (x, y), labels = ib.rows, labels[stay.to(labels.device)]
    modes = int(one_hot(labels).shape[1]) - 1
    cc = canonical_correlations(x, y, shrinkage=None)
    found = excesses(cc)
    expected = finite(separation(predicted(x, y, labels), modes))
    edge = 1/cc.noise_edge**2 - 1 if cc.noise_edge else math.inf
    return {"test_twin_prominence": finite(prominence(found, modes, edge)),
            "predicted_separation": expected,
            "separation_over_predicted": finite(separation(found, modes)/expected),
            "uncentred_count": uncentred_count(x, y, cc, modes)}


# ---- C5: the shape of the means, and the Gaussian that they are packed into

def class_span(x: torch.Tensor, # (n, d) float64, centred
               labels)->torch.Tensor: # (n, K − 1)
    "Features on an orthonormal basis of the span of the class means; nothing is whitened, so the shape stays."
    of = one_hot(labels)
    means = of.T@x/of.sum(0)[:, None]
    _, s, vt = torch.linalg.svd(means - means.mean(0), full_matrices=False)
    return x@vt[:len(of.T) - 1][s[:len(of.T) - 1] > 1e-8*s[0]].T


def ideal_simplex(span: torch.Tensor, # (n, m) features on the span of the class means
                  labels, # (n,)
                  generator: torch.Generator)->torch.Tensor: # (n, K − 1)
    "A perfect simplex with white Gaussian noise: the same classes, n, and ratio of spread within to between classes."
    of = one_hot(labels)
    k, noise = of.shape[1], within(span, labels).square().sum()
    between = (span.square().sum() - noise).clamp_min(1e-300)
    basis = torch.linalg.svd(torch.eye(k).double() - 1/k)[2][:k - 1].T
    turn = torch.linalg.qr(torch.randn(k - 1, k - 1, generator=generator, dtype=torch.float64))[0]
    points = (basis@turn).to(span)[of.argmax(1)]
    points = (points - points.mean(0))/(points - points.mean(0)).norm()
    random = torch.randn(len(of), k - 1, generator=generator, dtype=torch.float64).to(span)
    return points*between.sqrt() + random*(noise/(len(of)*(k - 1))).sqrt()


def sliced(x: torch.Tensor, # (n, d) float64
           directions: int = 128)->float: # in units of the root mean variance
    "Sliced Wasserstein distance to the Gaussian of the same mean and covariance, as in `gaussianity` without its n²."
    x, g = x - x.mean(0), torch.Generator().manual_seed(0)
    w = torch.randn(x.shape[1], directions, generator=g, dtype=torch.float64).to(x.device)
    p = (x@(w/w.norm(dim=0))).sort(0).values
    q = torch.special.ndtri((torch.arange(len(x), dtype=torch.float64, device=x.device) + .5)/len(x))
    return float((p - p.square().mean(0).sqrt()*q[:, None]).square().mean().sqrt()/x.square().mean().sqrt())


def kurtosis(x: torch.Tensor)->tuple[float, int, int]: # (n, d) float64; kurtosis, n, rank
    "Mardia's kurtosis."
    u, s, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    u = u[:, s > 1e-8*s[0]]
    return float((len(u)*u.square().sum(1)).square().mean()), *u.shape


def kurtosis_ratio(x: torch.Tensor)->float: # (n, d) float64
    "Mardia's kurtosis over its expectation for a Gaussian sample of the same rank and size: 1 at every n."
    b, n, r = kurtosis(x)
    return b/(r*(r + 2)*(n - 1)/(n + 1))


def projected(x, labels)->dict[str, float]:
    "Departure of the canonical projection, features on K − 1 discriminant modes, from a Gaussian; as in `packing`."
    of = one_hot(labels)
    t = canonical_correlations(x.double(), of, shrinkage=None).transform_x(x.double())[:, :of.shape[1] - 1]
    b, n, r = kurtosis(t)
    sample = torch.randn(t.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(t.device)
    return {"kurtosis_z": (b - r*(r + 2))/math.sqrt(8*r*(r + 2)/n), "sliced_wasserstein": sliced(t),
            "sliced_wasserstein_reference": sliced(sample)}


def packed(x: torch.Tensor, # (n, d) features
           labels, # (n,)
           draws: int = 3, # of the ideal simplex, each turned at random
           )->dict[str, float]:
    """Distance from a Gaussian beside that of an ideal simplex, and Gaussianity within classes.

    K points with little noise are far from Gaussian however well they are packed. So the sliced Wasserstein distance is
    divided by that of a perfect simplex with as much noise and as many rows."""
    span = class_span(x.double() - x.double().mean(0), labels)
    g = torch.Generator().manual_seed(0)
    own, ideal = sliced(span), sum(sliced(ideal_simplex(span, labels, g)) for _ in range(draws))/draws
    return {"span_sliced_wasserstein": own, "ideal_sliced_wasserstein": ideal, "gaussian_ratio": own/ideal,
            "within_kurtosis_ratio": kurtosis_ratio(within(span, labels))}


def coding(x, # (n, d) features
           labels, # (n,)
           )->dict[str, float]:
    "Shape of the class means, Gaussianity, and what coding the class means alone costs at a tenth of the variance."
    y, counts = torch.unique(labels, return_inverse=True, return_counts=True)[1:]
    sums = torch.zeros(len(counts), x.shape[1], dtype=torch.float64, device=x.device).index_add_(0, y, x.double())
    means = sums/counts[:, None]
    variances = torch.linalg.svdvals(means - means.mean(0))[:len(counts) - 1].square()
    shape, cost = isotropy(variances), excess_rate(x, labels)
    tenth = excess_rate(x, labels, [cost.total/10])
    return {"condition_number": shape.condition_number, "effective_rank": shape.effective_rank,
            "outside_means": cost.floor/cost.total, "excess_rate": finite(tenth.excess[0]/tenth.rate[0]),
            **projected(x, labels), **packed(x, labels)}


def finite(v)->float: return float(v) if math.isfinite(float(v)) else math.nan


def code_gaussianity(x, y, # (n, d_x), (n, d_y): features of the same images
                     modes: int, # that the code holds: β midway, in log(β − 1), between this one's entry and the next
                     )->float: # sliced Wasserstein distance over that of a Gaussian sample; NaN without so many modes
    "Gaussianity of the optimal code T(β) with its noise."
    ib = GaussianIB.fit(x, y)
    e = torch.as_tensor(ib.excess)
    if len(e) <= modes or not 0 < e[modes - 1] < e[modes] < math.inf: return math.nan
    noise = torch.Generator(x.device).manual_seed(0)
    t = torch.as_tensor(ib.transform(x, 1 + float((e[modes - 1]*e[modes]).sqrt()), noise)).double()
    _, s, vt = torch.linalg.svd(t - t.mean(0), full_matrices=False)
    sample = torch.randn(t.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(t.device)
    return sliced(t)/sliced(sample@(s[:, None]/math.sqrt(len(t))*vt))


def measure(a: Features, b: Features, # of two encoders at one checkpoint, same images
            layer: str = "backbone", # or `head`
            device="cpu")->dict[str, float]: # on test images; a mean over the two encoders unless it has a direction
    "What a `Timeline` does not hold."
    (x, labels), (y, _) = ((v.to(device) for v in f.part("test", layer)) for f in (a, b))
    modes, each = int(labels.max()), []
    for v, w in ((x, y), (y, x)):
        paired = GaussianIB.fit_class_paired(v, w, labels).class_mean_gap(v, labels).share
        each.append(coding(v, labels) | {"test_whitened_etf_error": whitened_etf_error(v, labels),
                    "test_paired_ib_gap": paired, "code_sliced_wasserstein_ratio": code_gaussianity(v, w, modes)})
    for i, f in enumerate((a, b)):
        train, train_labels = (v.to(device) for v in f.part("train", layer))
        each[i]["train_whitened_etf_error"] = whitened_etf_error(train, train_labels)
    both = pd.DataFrame(each).mean(skipna=False).to_dict()
    return {"test_images": len(labels)} | identifiability(x, y, labels) | spectrum(x, y, labels) | both


def rows(timeline: Timeline, # of a pair
         more: list[dict], # of each checkpoint, what `measure` gave
         )->pd.DataFrame: # one row per checkpoint
    "The kept columns of a timeline, beside what was measured in addition."
    t = timeline.table
    kept = {"epoch": t["epoch"]}
    for c in KEPT:
        if c in t: kept[c] = t[c]
        elif f"{c}_a" in t: kept[c] = timeline.mean(c)
    return pd.concat([pd.DataFrame(kept), pd.DataFrame(more)], axis=1)


def rounded(table: pd.DataFrame, digits: int = 6)->pd.DataFrame:
    "Numbers to so many significant digits."
    def short(v): return v if not isinstance(v, float) or not math.isfinite(v) else float(f"{v:.{digits}g}")
    return table.map(short)
