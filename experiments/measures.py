"""What the claims are judged by, checkpoint by checkpoint: one row per pair of encoders and epoch."""
import math

import numpy as np
import pandas as pd
import torch

from ncib.coding import excess_rate, gaussianity, isotropy, packing
from ncib.core import InputError
from ncib.gib import GaussianIB
from ncib.identifiability import linear_identifiability
from ncib.runs import Features
from ncib.timeline import Timeline

# Columns of a timeline that are kept, those of the two encoders as their mean
KEPT = ("test_accuracy", "train_accuracy", "test_ncc_accuracy", *(f"{p}_{m}" for p in ("train", "test") for m in ("nc1", "equinorm", "equiangular", "etf_error", "ib_gap")),
        *(f"{p}_{r}_{m}" for p, r in (("test", "twin"), ("train", "twin"), ("test", "paired"), ("test", "labels")) for m in ("count", "gap", "significant", "gap_after_k1")),
        "test_twin_class_alignment", "train_twin_class_alignment", "test_information")


def within(x: torch.Tensor, # (n, d)
           labels: torch.Tensor, # (n,)
           )->torch.Tensor: # (n, d)
    "Features less the mean of their class."
    one_hot = torch.nn.functional.one_hot(labels).to(x)
    return x - one_hot@(one_hot.T@x/one_hot.sum(0).clamp_min(1)[:, None])


def identifiability(a, b, # (n, d_a), (n, d_b): features of the same images
                    labels, # (n,)
                    )->dict[str, float]:
    "Held-out R² of the best linear map both ways; the same within classes, where the label explains nothing."
    out = {}
    for name, x, y in (("r2", a, b), ("r2_within", within(a, labels), within(b, labels))):
        r = linear_identifiability(x, y)
        out |= {f"{name}_forward": r.r2_x_to_y, f"{name}_backward": r.r2_y_to_x}
    return out


def coding(x, # (n, d) features
           labels, # (n,)
           )->dict[str, float]:
    "Shape of the class means, Gaussianity of the canonical projection, and what coding the class means alone costs at a tenth of the total variance."
    y, counts = torch.unique(labels, return_inverse=True, return_counts=True)[1:]
    means = torch.zeros(len(counts), x.shape[1], dtype=torch.float64, device=x.device).index_add_(0, y, x.double())/counts[:, None]
    spectrum = torch.linalg.svdvals(means - means.mean(0))[:len(counts) - 1].square()
    shape, projected, cost = isotropy(spectrum), packing(x, labels).gaussianity, excess_rate(x, labels)
    tenth = excess_rate(x, labels, [cost.total/10])
    return {"condition_number": shape.condition_number, "effective_rank": shape.effective_rank, "kurtosis_z": projected.kurtosis_z,
            "sliced_wasserstein": projected.sliced_wasserstein, "sliced_wasserstein_reference": projected.sliced_wasserstein_reference,
            "outside_means": cost.floor/cost.total, "excess_rate": finite(tenth.excess[0]/tenth.rate[0])}


def finite(v)->float: return float(v) if math.isfinite(float(v)) else math.nan


def code_gaussianity(x, y, # (n, d_x), (n, d_y): features of the same images
                     modes: int, # how many modes the code holds: β midway, in log(β − 1), between the entry of this one and the next
                     )->float: # sliced Wasserstein distance over that of a Gaussian sample; NaN if there are not so many modes
    "Gaussianity of the optimal code T(β) with its noise."
    ib = GaussianIB.fit(x, y)
    e = torch.as_tensor(ib.excess)
    if len(e) <= modes or not 0 < e[modes - 1] < e[modes] < math.inf: return math.nan
    t = gaussianity(ib.transform(x, 1 + float((e[modes - 1]*e[modes]).sqrt()), torch.Generator(x.device).manual_seed(0)))
    return t.sliced_wasserstein/t.sliced_wasserstein_reference


def measure(a: Features, b: Features, # of two encoders at one checkpoint, same images
            layer: str = "backbone", # or `head`
            device="cpu")->dict[str, float]: # on test images; a mean over the two encoders unless it has a direction
    "What a `Timeline` does not hold."
    (x, labels), (y, _) = ((v.to(device) for v in f.part("test", layer)) for f in (a, b))
    modes = int(labels.max())
    each = pd.DataFrame([coding(v, labels) | {"test_paired_ib_gap": GaussianIB.fit_class_paired(v, w, labels).class_mean_gap(v, labels).gap, "code_sliced_wasserstein_ratio": code_gaussianity(v, w, modes)}
                         for v, w in ((x, y), (y, x))])
    return identifiability(x, y, labels) | each.mean(skipna=False).to_dict()


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
