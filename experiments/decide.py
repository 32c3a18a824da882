"""The experiments that decide between explanations: each trains what it needs, gives one table, one figure and one
answer by a rule that was written before the numbers were seen.

- k_sweep: encoders trained on fewer or merged classes. Does the number of modes that stand apart follow the labels
  they were trained with?
- temperature: four temperatures, the backbone beside the head.
- noise_twins: twins that learnt the same wrong labels by heart beside twins that learnt different ones.
- views: two augmented views of every test image through one encoder, so that augmentation is the noise.
- nats: estimates of mutual information that assume no Gaussian, beside those that do.
- similarity: the usual measures of similarity, each beside what the labels alone give.

Modes are counted from unshrunk canonical correlations with the inflation by finite samples taken out, because those
do not depend on the scale of a direction."""
import dataclasses, functools, hashlib, json, math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.spatial import cKDTree
from scipy.special import digamma
from scipy.stats import spearmanr
from torch import Tensor

from figures import _axes, _epochs, _log, _tidy
from ncib.cca import canonical_correlations
from ncib.collapse import collapse_metrics
from ncib.core import InputError, generator, read_json, resolve_device, write_json
from ncib.data import ImageData, augment, load_images
from ncib.gib import GaussianIB
from ncib.identifiability import class_mean_features, linear_cka, linear_identifiability, rsa
from ncib.nets import extract_features
from ncib.plots import colours
from ncib.probe import linear_probe
from ncib.runs import Features, Run
from ncib.sweep import ring_interval, ring_pairs
from ncib.timeline import class_alignment
from ncib.train import TrainConfig, train
from tasks import Task

LAYERS = ("backbone", "head")
WINDOW = 3 # modes on either side that a separation compares
# A mode of which one image carries a larger share is left out: units that fire for one image make them, with ρ near 1.
ALONE = .1
SHOWN = 20 # leading modes whose excess is written down
DRAWS = 2 # pairs of views of every test image
VERSION = 4 # of what is measured here: another one is not taken from what was written before


# ---- the work and where it lies

@dataclasses.dataclass(frozen=True)
class Condition:
    "Encoders of one condition of the sweeps."
    config: TrainConfig
    folder: Path # holds encoder-0, encoder-1, …
    seeds: tuple[int, ...]

    def run(self, seed: int)->Path: return self.folder/f"encoder-{seed}"


@dataclasses.dataclass(frozen=True)
class Work:
    "What the experiments start from."
    config: TrainConfig # of the main condition
    seeds: tuple[int, ...]
    out: Path # for what is trained and measured here
    conditions: tuple[Condition, ...] # of the sweeps, whose encoders are there
    quick: bool = False

    def find(self, **changes)->Condition:
        "The condition of the sweeps that differs from the main one in just these options."
        wanted = dataclasses.replace(self.config, **changes)
        for c in self.conditions:
            if c.config == wanted: return c
        raise InputError(f"no sweep trains with {changes or 'the main configuration'}")


@functools.lru_cache(maxsize=2)
def images(spec: str)->ImageData: return load_images(spec) # once per process


def kept(file: Path, about: list, make: Callable[[], list[dict]])->list[dict]:
    "The rows in `file` if they are about the same, else those that `make` gives, written there."
    key = hashlib.sha256(json.dumps([VERSION, *about], sort_keys=True, default=str).encode()).hexdigest()
    if file.is_file() and (there := read_json(file)).get("key") == key: return there["rows"]
    rows = make()
    write_json(file, {"key": key, "rows": rows})
    # the same numbers now and when they are read again
    return read_json(file)["rows"]


def about(*runs: Run)->list: return [[r.info["config"], r.info["data"].get("fingerprint"), r.epochs,
                                      r.info["environment"].get("started")] for r in runs]


# ---- counting modes

@dataclasses.dataclass(frozen=True)
class Spectrum:
    "Critical excesses β_c − 1 of the modes that two sets of features share, smallest first."
    excess: np.ndarray # (s,) significant ones
    edge: float # excess at the noise threshold: a mode behind the last one has at least this
    n: int # rows
    left_out: int = 0 # significant modes that are one image's own

    @classmethod
    # nothing where the rows are too few: some correlations are then 1 whatever the features are
    def of(cls, x: Tensor, y: Tensor)->"Spectrum|None":
        cc = canonical_correlations(x, y, shrinkage=None)
        if cc.rank_x + cc.rank_y >= cc.n: return None
        cc = cc.with_tails(x, y)
        rho = np.asarray(cc.debiased)
        shared = np.ones(len(rho), dtype=bool)
        for u in (cc.transform_x(x), cc.transform_y(y)):
            squares = np.square(np.asarray(u))[:, :len(rho)]
            shared &= squares.max(0) <= ALONE*squares.sum(0)
        real = np.asarray(cc.significant) & (rho > 0)
        rho, left_out = rho[real & shared], int((real & ~shared).sum())
        return cls(np.maximum((1 - rho)*(1 + rho)/rho**2, 1e-12), (1 - cc.critical_rho**2)/cc.critical_rho**2, cc.n,
                   left_out)

    def separations(self)->np.ndarray: # (s,)
        """For k = 1 … s, how many times the modes behind k lie above those before it: geometric means of up to `WINDOW`
        modes on either side. A mode that cannot be told from chance counts with the excess at the noise threshold,
        so that the factor is then a lower bound."""
        if not len(self.excess): return np.empty(0)
        e = np.log(self.excess)
        e = np.concatenate([e, np.full(WINDOW, max(math.log(self.edge), e[-1]))])
        return np.exp([e[k:k + WINDOW].mean() - e[max(0, k - WINDOW):k].mean() for k in range(1, len(self.excess) + 1)])


def structure(x: Tensor, y: Tensor, # (n, d_x), (n, d_y): features of the same images
              labels: Tensor, # (n,)
              fine: "Tensor|None" = None, # (n,) classes within which the labels are made, if they are others
              )->dict:
    "How many modes stand apart, how far, whether they are those of the labels, and where a second group ends."
    k1 = len(labels.unique()) - 1
    spectrum, out = Spectrum.of(x, y), {"n": len(x), "modes_expected": k1}
    if spectrum is None or not len(spectrum.excess): return out | {"significant": None if spectrum is None else 0}
    s, e = spectrum.separations(), spectrum.excess
    at = lambda k: float(s[k - 1]) if 1 <= k <= len(s) else math.nan
    out |= {"significant": len(e), "left_out": spectrum.left_out, "edge_excess": spectrum.edge,
            "peak": int(s.argmax()) + 1, "peak_separation": float(s.max()), "separation": at(k1)}
    far = np.array([abs(k - k1) >= WINDOW for k in range(1, len(s) + 1)])
    out |= {"rival": float(s[far].max()) if far.any() else math.nan, "spread": float(e[k1 - 1]/e[0]) if len(e) >= k1
            else math.nan}
    both, labelled = GaussianIB.fit(x, y, shrinkage=None), GaussianIB.fit_labels(x, labels)
    out["class_alignment"] = class_alignment(both, labelled, k1)
    if fine is not None:
        f1 = len(fine.unique()) - 1
        # the window of the first break does not reach these
        behind = s[k1 + WINDOW - 1:]
        out |= {"fine_modes": f1, "fine_separation": at(f1),
                "second_peak": int(behind.argmax()) + k1 + WINDOW if len(behind) else None,
                "second_separation": float(behind.max()) if len(behind) else math.nan,
                "fine_alignment": class_alignment(both, GaussianIB.fit_labels(x, fine), f1)}
    return out | {f"e{i}": float(v) for i, v in enumerate(e[:SHOWN], 1)}


# ---- fewer and merged classes

@dataclasses.dataclass(frozen=True)
class Relabelling:
    "Which class each original class is trained as."
    name: str
    coarse: tuple[int, ...] # by original class; −1: its images are left out
    changes: dict = dataclasses.field(default_factory=dict) # of the configuration

    @property
    def merges(self)->bool: return max(self.coarse) + 1 < sum(c >= 0 for c in self.coarse)


def relabelled(data: ImageData, r: Relabelling)->ImageData:
    "The same images with other labels, less those of classes that are left out."
    if len(r.coarse) != data.num_classes:
        raise InputError(f"{r.name}: there are {data.num_classes} classes, got labels for {len(r.coarse)}")
    if sorted({*r.coarse} - {-1}) != list(range(max(r.coarse) + 1)) or max(r.coarse) < 1:
        raise InputError(f"{r.name}: new labels must be 0, 1, … with at least two of them, got {r.coarse}")
    coarse = torch.tensor(r.coarse)
    parts = {}
    for part in ("train", "test"):
        labels = coarse[getattr(data, f"{part}_labels").cpu()]
        keep = labels >= 0
        parts |= {part: getattr(data, part)[keep], f"{part}_labels": labels[keep]}
    names = tuple("+".join(n for n, c in zip(data.classes, r.coarse) if c == k) for k in range(max(r.coarse) + 1))
    return dataclasses.replace(data, name=f"{data.name}: {r.name}", classes=names, **parts)


def fine_labels(data: ImageData, r: Relabelling)->Tensor: # (m,) of the test images that are kept
    return data.test_labels[torch.tensor(r.coarse)[data.test_labels.cpu()] >= 0]


def merged(num_classes: int, into: int, seed: int)->tuple[int, ...]:
    "A random partition of the classes into as equal parts as can be."
    order = np.random.default_rng([seed, into]).permutation(num_classes)
    part = np.empty(num_classes, dtype=int)
    for k, some in enumerate(np.array_split(order, into)): part[some] = k
    return tuple(part.tolist())


HALVES = {"digits": ("even-odd", tuple(k%2 for k in range(10))),
          "cifar10": ("animals-vehicles", (1, 1, 0, 0, 0, 0, 0, 0, 1, 1))}

def relabellings(data: ImageData, quick: bool = False)->list[Relabelling]:
    """First K classes, two natural halves, and random merges. On the digits the first K classes are learnt in 16
    dimensions: 45 test images per class are too few to tell the correlations of 64 dimensions from chance where
    there are few classes."""
    k, digits = data.num_classes, data.kind == "digits"
    if k != 10: raise InputError(f"the sweep over classes is made for ten classes, got {k}")
    narrow = {"feature_dim": 16} if digits else {}
    first = [Relabelling(f"classes={n}", tuple(i if i < n else -1 for i in range(k)), narrow)
             for n in (range(2, 11) if digits else (2, 3, 5, 7))]
    merges = [Relabelling(*HALVES["digits" if digits else "cifar10"])]
    merges += [Relabelling(f"merge={into}-{seed}", merged(k, into, seed))
               for into, seeds in ((5, range(5 if digits else 2)), (3, range(digits)), (7, range(digits)))
               for seed in seeds]
    return [first[3], merges[0], merges[1]] if quick else first + merges


def trained(config: TrainConfig, folder: Path, r: "Relabelling|None" = None)->str: # the run directory
    "A task: one encoder."
    data = images(config.data)
    if r: data = relabelled(data, r)
    if config.train_size: config = dataclasses.replace(config, train_size=min(config.train_size, len(data.train)))
    return str(train(config, folder, progress=False, data=data).path)


def class_rows(r: Relabelling, seeds: tuple[int, int], file: Path, spec: str, a: str, b: str)->list[dict]:
    "A task: one pair of encoders trained on other labels, before and after training."
    a, b = Run(a), Run(b)
    def make():
        fine, rows = fine_labels(images(spec), r) if r.merges else None, []
        for epoch in (a.epochs[0], a.epochs[-1]):
            fa, fb = a.features(epoch), b.features(epoch)
            for layer in LAYERS:
                (x, labels), (y, _) = (f.part("test", layer) for f in (fa, fb))
                nc1 = [collapse_metrics(*f.part("train", layer)) for f in (fa, fb)]
                rows.append({"condition": r.name, "classes": len(a.classes), "merged": r.merges, "layer": layer,
                             "seed_a": seeds[0], "seed_b": seeds[1], "epoch": epoch,
                             "test_accuracy": mean(probe_accuracy(f, layer) for f in (fa, fb)),
                             "train_nc1": mean(m.nc1 for m in nc1), "train_etf_error": mean(m.etf_error for m in nc1),
                             "fine_accuracy": mean(held_out_accuracy(v, fine) for v in (x, y)) if r.merges
                             else math.nan, **structure(x, y, labels, fine)})
        return rows
    return kept(file, [*about(a, b), r.coarse, spec], make)


def mean(values)->float: return float(np.mean(list(values)))


def probe_accuracy(f: Features, layer: str)->float:
    """Of a linear probe that is fitted on the training features with the labels that the encoder was trained with, on
    test images with true labels."""
    x, labels = f.part("train", layer)
    return linear_probe(x, labels, int(labels.max()) + 1).accuracy(*f.part("test", layer))


def held_out_accuracy(x: Tensor, labels: Tensor, folds: int = 3)->float:
    """Accuracy of a linear probe on rows that it was not fitted to: how much of other labels the features tell. Each
    class is dealt out evenly."""
    fold = torch.empty(len(labels), dtype=torch.int64)
    for k in labels.unique():
        own = (labels == k).nonzero()[:, 0]
        fold[own[torch.randperm(len(own), generator=generator(0, int(k)))]] = torch.arange(len(own))%folds
    y = torch.unique(labels, return_inverse=True)[1]
    return mean(linear_probe(x[fold != i], y[fold != i], int(y.max()) + 1).accuracy(x[fold == i], y[fold == i])
                for i in range(folds))


def k_sweep(work: Work)->list[Task]:
    tasks, seeds, out = [], work.seeds[:3], work.out/"k-sweep"
    epochs = {} if work.quick else {"epochs": max(1, work.config.epochs*2//3)}
    for r in relabellings(images(work.config.data), work.quick):
        config = dataclasses.replace(work.config, checkpoints=1, **epochs, **r.changes)
        at = {s: len(tasks) + i for i, s in enumerate(seeds)}
        tasks += [Task(f"k_sweep/{r.name}/{s}",
                       functools.partial(trained, dataclasses.replace(config, seed=s), out/r.name/f"encoder-{s}", r))
                       for s in seeds]
        tasks += [Task(f"k_sweep/{r.name}/{a}-{b}",
                       functools.partial(class_rows, r, (a, b), out/r.name/f"pair-{a}-{b}.json", config.data),
                       (at[a], at[b])) for a, b in ring_pairs(seeds)]
    return tasks


# ---- temperature

def temperature_rows(value: float, seeds: tuple[int, int], file: Path, a: Path, b: Path)->list[dict]:
    "A task: both layers of one pair, before and after training."
    a, b = Run(a), Run(b)
    def make():
        rows = []
        for epoch in (a.epochs[0], a.epochs[-1]):
            fa, fb = a.features(epoch), b.features(epoch)
            for layer in LAYERS:
                (x, labels), (y, _) = (f.part("test", layer) for f in (fa, fb))
                shape = [collapse_metrics(*f.part("train", layer)) for f in (fa, fb)]
                rows.append({"temperature": value, "layer": layer, "seed_a": seeds[0], "seed_b": seeds[1],
                             "epoch": epoch, "test_accuracy": mean(probe_accuracy(f, layer) for f in (fa, fb)),
                             **{f"train_{n}": mean(getattr(m, n) for m in shape)
                                for n in ("nc1", "etf_error", "equinorm", "equiangular")}, **structure(x, y, labels)})
        return rows
    return kept(file, about(a, b), make)


TEMPERATURES = (.05, .1, .3, .5)

def temperature(work: Work)->list[Task]:
    tasks = []
    for value in (work.config.temperature, TEMPERATURES[-1]) if work.quick else TEMPERATURES:
        c = work.find(temperature=value)
        tasks += [Task(f"temperature/{value:g}/{a}-{b}",
                       functools.partial(temperature_rows, value, (a, b),
                                         work.out/"temperature"/f"{value:g}-pair-{a}-{b}.json", c.run(a), c.run(b)))
                                         for a, b in ring_pairs(c.seeds)]
    return tasks


# ---- wrong labels, the same or others

NOISE = [(share, augmentation) for share in (.2, .3) for augmentation in ("auto", "none")]

def within(x: Tensor, labels: Tensor)->Tensor: # (n, d)
    "Features less the mean of their class."
    return x - class_mean_features(x, labels)


def both_ways(x: Tensor, y: Tensor)->float:
    "Held-out R² of the best linear maps, the worse direction."
    r = linear_identifiability(x, y)
    return min(r.r2_x_to_y, r.r2_y_to_x)


def noise_rows(kind: str, share: float, augmentation: str, seeds: tuple[int, int], file: Path, a: str,
               b: str)->list[dict]:
    """A task: one pair at the last checkpoint; each encoder's training features are held against the labels that it was
    given."""
    a, b = Run(a), Run(b)
    def make():
        epoch = a.epochs[-1]
        fa, fb = a.features(epoch), b.features(epoch)
        if not torch.equal(fa.test_labels, fb.test_labels):
            raise InputError(f"{a.path} and {b.path} saw different test images")
        rows = []
        for layer in LAYERS:
            (x, labels), (y, _), (tx, ya), (ty, yb) = (f.part(p, layer) for p in ("test", "train") for f in (fa, fb))
            train_a, train_b = collapse_metrics(tx, ya), collapse_metrics(ty, yb)
            decided = [m.nearest_class_mean(v) for m, v in ((train_a, x), (train_b, y))]
            rows.append({"wrong_labels": kind, "label_noise": share, "augmentation": augmentation, "layer": layer,
                         "seed_a": seeds[0], "seed_b": seeds[1], "epoch": epoch,
                         "labels_shared": float((ya == yb).double().mean()), "train_nc1_a": train_a.nc1,
                         "train_nc1_b": train_b.nc1, "test_nc1": mean(collapse_metrics(v, labels).nc1 for v in (x, y)),
                         "test_accuracy": mean(probe_accuracy(f, layer) for f in (fa, fb)),
                         "same_decision": float((decided[0] == decided[1]).double().mean()),
                         "r2": both_ways(x, y), "r2_within": both_ways(within(x, labels), within(y, labels)),
                         "train_r2": both_ways(tx, ty), **structure(x, y, labels)})
        return rows
    return kept(file, about(a, b), make)


def noise_twins(work: Work)->list[Task]:
    tasks = []
    for share, augmentation in NOISE[-2:] if work.quick else NOISE:
        c = work.find(label_noise=share, augmentation=augmentation)
        out = work.out/"noise-twins"/f"{share:g}-{augmentation}"
        other = dataclasses.replace(c.config, label_noise_seed=1, checkpoints=1)
        at = {s: len(tasks) + i for i, s in enumerate(c.seeds)}
        tasks += [Task(f"noise_twins/{share:g}-{augmentation}/{s}",
                       functools.partial(trained, dataclasses.replace(other, seed=s), out/f"encoder-{s}"))
                       for s in c.seeds]
        for a, b in ring_pairs(c.seeds):
            tasks.append(Task(f"noise_twins/{share:g}-{augmentation}/same-{a}-{b}",
                              functools.partial(noise_rows, "same", share, augmentation, (a, b),
                                                out/f"same-{a}-{b}.json", str(c.run(a)), str(c.run(b)))))
            tasks.append(Task(f"noise_twins/{share:g}-{augmentation}/different-{a}-{b}",
                              functools.partial(noise_rows, "different", share, augmentation, (a, b),
                                                out/f"different-{a}-{b}.json", str(c.run(a))), (at[b],)))
    return tasks


# ---- two views of one encoder

def view_rows(seed: int, file: Path, config: TrainConfig, run: Path)->list[dict]:
    "A task: one encoder at every checkpoint whose weights are kept; the same views at every checkpoint."
    run = Run(run)
    def make():
        data, device, rows = images(config.data), resolve_device(config.device), []
        kind = data.kind if config.augmentation == "auto" else config.augmentation
        for draw in range(DRAWS):
            g = generator(seed, 5, draw)
            views = [augment(data.test, kind, config.augment_strength, g, data.kind == "natural", config.cutout)
                     for _ in range(2)]
            for epoch in (e for e in run.epochs if run.file("checkpoints", e).is_file()):
                encoder = run.encoder(epoch, device)
                for layer, x, y in zip(LAYERS, *(extract_features(encoder, v) for v in views)):
                    rows.append({"layer": layer, "seed": seed, "draw": draw, "epoch": epoch,
                                 **structure(x, y, data.test_labels)})
        return rows
    return kept(file, [*about(run), config.data, config.augmentation, config.augment_strength, DRAWS], make)


def views(work: Work)->list[Task]:
    c = work.find()
    return [Task(f"views/{s}", functools.partial(view_rows, s, work.out/"views"/f"encoder-{s}.json", work.config,
                                                 c.run(s))) for s in c.seeds]


# ---- mutual information without a Gaussian

def ksg(u: np.ndarray, v: np.ndarray, neighbours: int = 3)->float: # nats
    """Mutual information of two continuous variables from nearest neighbours: Kraskov, Stögbauer & Grassberger (2004),
    eq. 8."""
    z = np.hstack([u, v])
    radius = np.nextafter(cKDTree(z).query(z, neighbours + 1, p=np.inf)[0][:, -1], 0)
    # with the point itself: n_x + 1
    inside = [cKDTree(w).query_ball_point(w, radius, p=np.inf, return_length=True) for w in (u, v)]
    return float(digamma(neighbours) + digamma(len(z)) - sum(digamma(np.maximum(c, 1)).mean() for c in inside))


def ksg_of_labels(u: np.ndarray, labels: np.ndarray, neighbours: int = 3)->float: # nats
    "Mutual information of a continuous variable and a class from nearest neighbours: Ross (2014), eq. 2."
    radius, count = np.empty(len(u)), np.empty(len(u))
    for k in np.unique(labels):
        own = labels == k
        if own.sum() <= neighbours:
            raise InputError(f"each class needs more than {neighbours} images, got {own.sum()} of class {k}")
        radius[own] = np.nextafter(cKDTree(u[own]).query(u[own], neighbours + 1, p=np.inf)[0][:, -1], 0)
        count[own] = own.sum()
    inside = cKDTree(u).query_ball_point(u, radius, p=np.inf, return_length=True)
    return float(digamma(len(u)) + digamma(neighbours) - digamma(count).mean() - digamma(np.maximum(inside, 1)).mean())


def info_nce(u: Tensor, v: Tensor, rho: Tensor, scale: float = 1.)->float: # nats, at most log n
    """The InfoNCE lower bound (van den Oord et al. 2018) with the log density ratio of a Gaussian, times `scale`, as
    critic."""
    c = scale/(1 - rho.square())
    critic = (u*rho*c)@v.T - ((rho.square()*c/2)*u.square()).sum(1)[:, None] - ((rho.square()*c/2)*v.square()).sum(1)
    return float((critic.diagonal() - critic.logsumexp(1)).mean() + math.log(len(u)))


def gaussian_information(rho)->float: return float(-np.log1p(-np.square(rho)).sum()/2) # nats


def information(x: Tensor, y: Tensor, labels: Tensor, seed: int = 0)->dict: # nats
    """Mutual information of the K − 1 leading canonical modes, whose directions come from one half of the images while
    the other half is measured, and the other way round; means of both. The same estimator on Gaussian samples of the
    same correlations and size shows how far it falls short."""
    k1, half = len(labels.unique()) - 1, torch.randperm(len(x), generator=generator(seed)).tensor_split(2)
    found = []
    for fit, held in (half, half[::-1]):
        cc = canonical_correlations(x[fit].double(), y[fit].double())
        rho = torch.as_tensor(cc.debiased)[:k1].clamp(0, .9999)
        fitted, (u, v) = ([t[:, :k1] for t in (cc.transform_x(x[i].double()), cc.transform_y(y[i].double()))]
                          for i in (fit, held))
        # chosen on the fitting half: still a bound
        scale = max((.01, .03, .1, .3, 1.), key=lambda s: info_nce(*fitted, rho, s))
        here = np.asarray(canonical_correlations(u, v, shrinkage=None).debiased)
        sample = np.random.default_rng(seed).standard_normal((2, len(u), len(here)))
        partner = here*sample[0] + np.sqrt(1 - here**2)*sample[1]
        un, vn = u.numpy(), v.numpy()
        found.append({"gaussian": gaussian_information(here), "ksg": ksg(un, vn),
                      "ksg_of_gaussian": ksg(sample[0], partner), "info_nce": info_nce(u, v, rho, scale),
                      "info_nce_limit": math.log(len(u)),
                      "ksg_labels_x": ksg_of_labels(un, labels[held].numpy())})
    share = labels.bincount().double()/len(labels)
    return pd.DataFrame(found).mean().to_dict() | {"modes": k1,
                                                   "label_entropy": float(torch.special.entr(share).sum()),
                                                   "log_classes": math.log(k1 + 1),
                                                   "gaussian_labels": GaussianIB.fit_labels(x, labels).information,
                                                   "gaussian_all_modes": GaussianIB.fit(x, y).information}


def nats_rows(seeds: tuple[int, int], file: Path, a: Path, b: Path)->list[dict]:
    "A task: one pair, both layers, before and after training."
    a, b = Run(a), Run(b)
    def make():
        rows = []
        for epoch in (a.epochs[0], a.epochs[-1]):
            fa, fb = a.features(epoch), b.features(epoch)
            for layer in LAYERS:
                (x, labels), (y, _) = (f.part("test", layer) for f in (fa, fb))
                rows.append({"layer": layer, "seed_a": seeds[0], "seed_b": seeds[1], "epoch": epoch,
                             **information(x, y, labels)})
        return rows
    return kept(file, about(a, b), make)


def nats(work: Work)->list[Task]: return of_main_pairs(work, "nats", nats_rows)


def of_main_pairs(work: Work, name: str, rows: Callable)->list[Task]:
    c = work.find()
    return [Task(f"{name}/{a}-{b}",
                 functools.partial(rows, (a, b), work.out/name/f"pair-{a}-{b}.json", c.run(a), c.run(b)))
                 for a, b in ring_pairs(c.seeds)]


# ---- similarity beside what labels give

MEASURE_NAMES = {"linear_cka": "CKA", "rsa": "RSA", "procrustes": "Procrustes", "svcca": "SVCCA",
                 "r2_forward": "R²\nforward", "r2_backward": "R²\nbackward"}
MEASURES = tuple(MEASURE_NAMES)

def similarities(x: Tensor, y: Tensor)->dict[str, float]:
    "Each 1 for equal features; Procrustes as 1 − distance/2."
    r = linear_identifiability(x, y)
    return dict(zip(MEASURES, (linear_cka(x, y), rsa(x, y), 1 - r.procrustes/2, r.svcca, r.r2_x_to_y, r.r2_y_to_x)))


def similarity_rows(seeds: tuple[int, int], file: Path, a: Path, b: Path)->list[dict]:
    "A task: one pair, both layers, before and after training; one row per measure."
    a, b = Run(a), Run(b)
    def make():
        rows = []
        for epoch in (a.epochs[0], a.epochs[-1]):
            fa, fb = a.features(epoch), b.features(epoch)
            for layer in LAYERS:
                (x, labels), (y, _) = (f.part("test", layer) for f in (fa, fb))
                pair = similarities(x, y)
                left, right = (similarities(*of) for of in ((class_mean_features(x, labels), y),
                                                            (x, class_mean_features(y, labels))))
                # from the labels to the features
                base = {m: (left[m] + right[m])/2
                        for m in MEASURES} | {"r2_forward": left["r2_forward"], "r2_backward": right["r2_backward"]}
                rows += [{"layer": layer, "seed_a": seeds[0], "seed_b": seeds[1], "epoch": epoch, "measure": m,
                          "value": pair[m], "labels_alone": base[m]} for m in MEASURES]
        return rows
    return kept(file, about(a, b), make)


def similarity(work: Work)->list[Task]: return of_main_pairs(work, "similarity", similarity_rows)


# ---- all of them

NEEDS = {"temperature": ("temperature",), "noise_twins": ("label noise", "no augmentation")} # groups of conditions
PLANS = {"k_sweep": k_sweep, "temperature": temperature, "noise_twins": noise_twins, "views": views, "nats": nats,
         "similarity": similarity}


def plan(names: tuple[str, ...], work: Work)->list[Task]:
    "Tasks of several experiments in one list."
    tasks = []
    for name in names:
        own = PLANS[name](work)
        tasks += [dataclasses.replace(t, needs=tuple(j + len(tasks) for j in t.needs)) for t in own]
    return tasks


def tables(names: tuple[str, ...], tasks: list[Task], results: list)->dict[str, pd.DataFrame]:
    "One table per experiment, from the tasks that gave rows; the modes' excesses last."
    out = {}
    for name in names:
        t = pd.DataFrame([row for task, r in zip(tasks, results) if task.name.startswith(f"{name}/")
                          and isinstance(r, list) for row in r])
        modes = [f"e{i}" for i in range(1, SHOWN + 1)]
        out[name] = t[[c for c in t if c not in modes] + [c for c in modes if c in t]]
    return out


# ---- answers, by rules that were written before the numbers were seen

MOST = .8 # share of the cases in which something has to be so
CLEAR = 1.5 # a separation that counts as a second break

@dataclasses.dataclass(frozen=True)
class Decision:
    "One question, its rule, and what came out."
    experiment: str
    question: str
    rule: str
    answer: str # yes, no, in part, cannot be told
    numbers: dict

    def to_dict(self)->dict: return dataclasses.asdict(self)


def interval(values)->dict: # over the pairs of a ring
    "Mean with its 95 % interval; none below three pairs."
    v = np.asarray(values, dtype=float)
    v = v[np.isfinite(v)]
    low, high = ring_interval(v)
    return {"mean": float(v.mean()) if len(v) else None, "low": low, "high": high, "pairs": len(v)}


def last(table: pd.DataFrame)->pd.DataFrame: return table[table.epoch == table.epoch.max()]


def peaks(table: pd.DataFrame, by: str)->pd.DataFrame: # one row per value of `by`
    "Median place of the largest separation, where it was expected, and how many pairs have it there."
    rows = []
    for name, g in table.groupby(by, sort=False):
        if "peak" not in g or g.peak.isna().all(): continue
        expected = int(g.modes_expected.iloc[0])
        rows.append({by: name, "expected": expected, "peak": float(g.peak.median()),
                     "there": float((g.peak == expected).mean())})
    return pd.DataFrame(rows, columns=[by, "expected", "peak", "there"])


def graded(share: float, most: float = MOST)->str: # of the cases, NaN where there are too few
    "An answer."
    return "cannot be told" if math.isnan(share) else "yes" if share >= most else "in part" if share >= .5 else "no"


def judge_k_sweep(t: pd.DataFrame)->list[Decision]:
    out = []
    for layer, g in last(t).groupby("layer", sort=False):
        found = peaks(g, "condition")
        share, rho = float((found.peak == found.expected).mean()) if len(found) else math.nan, math.nan
        if found.expected.nunique() > 2 and found.peak.nunique() > 1: rho = float(spearmanr(found.expected,
            found.peak).statistic)
        answer = graded(share if len(found) >= 5 else math.nan)
        if answer == "no" and rho >= .8: answer = "in part"
        out.append(Decision("k_sweep",
                            f"{layer}: does the number of modes that stand apart follow the K − 1 of the labels "
                            f"trained with?",
                            f"yes: in at least {MOST:.0%} of the conditions the largest separation, median over "
                            f"pairs, lies behind mode K − 1. In part: in half of them, or a rank correlation of at "
                            f"least 0.8 "
                            "between the two. Cannot be told with fewer than five conditions.", answer,
                            {"share": share, "rank_correlation": rho, "conditions": found.to_dict("records")}))
        m = g[g.merged].dropna(subset=["second_peak"]) if "second_peak" in g else g[:0]
        rows = [{"condition": name, "second_peak": float(c.second_peak.median()),
                 "fine_separation": float(c.fine_separation.median())}
                 for name, c in m.groupby("condition", sort=False)]
        fine = [abs(r["second_peak"] - m.fine_modes.iloc[0]) <= 1 and r["fine_separation"] >= CLEAR for r in rows]
        answer = graded(np.mean(fine) if len(rows) >= 3 else math.nan)
        out.append(Decision("k_sweep", f"{layer}: do the classes within a merged class show as a second break?",
                            f"yes: in at least {MOST:.0%} of the merges the largest separation behind the first break "
                            f"lies within one mode of the number of original classes less one, and is at least "
                            f"{CLEAR:g} there. "
                            "In part: in half of them.", answer, {"conditions": rows}))
    return out


def judge_temperature(t: pd.DataFrame)->list[Decision]:
    out = []
    for layer, g in last(t).groupby("layer", sort=False):
        found = peaks(g, "temperature")
        share = float((found.peak == found.expected).mean()) if len(found) else math.nan
        shown = [c for c in ("separation", "spread", "train_etf_error", "train_nc1") if c in g]
        numbers = {f"{name} at {v:g}": interval(c[name]) for v, c in g.groupby("temperature") for name in shown}
        numbers["conditions"] = found.to_dict("records")
        out.append(Decision("temperature", f"{layer}: do K − 1 modes stand apart at every temperature?",
                            "yes: the largest separation, median over pairs, lies behind mode K − 1 at all "
                            "temperatures. In part: at half of them.",
                            graded(share, 1), numbers))
    return out


def judge_noise_twins(t: pd.DataFrame)->list[Decision]:
    out, keys = [], ["label_noise", "augmentation", "seed_a", "seed_b"]
    for layer, g in t.groupby("layer", sort=False):
        both = g[g.wrong_labels == "same"].merge(g[g.wrong_labels == "different"], on=keys,
                                                 suffixes=("_same", "_different"))
        numbers, signs = {}, []
        for name, c in both.groupby(["label_noise", "augmentation"], sort=False):
            d = {m: interval(c[f"{m}_same"] - c[f"{m}_different"])
                 for m in ("r2", "r2_within", "train_r2", "same_decision")}
            numbers[f"label noise {name[0]:g}, augmentation {name[1]}"] = d
            signs.append(d["r2_within"])
        known = [s for s in signs if math.isfinite(s["low"])]
        above = [s["low"] > 0 for s in known]
        answer = "cannot be told" if not known else "yes" if all(above) else "in part" if any(above) else "no"
        out.append(Decision("noise_twins",
                            f"{layer}: do twins agree more on test images, within classes, because they learnt the "
                            f"same wrong labels?",
                            "yes: the paired difference of held-out R² within classes, same less different wrong "
                            "labels, has a 95 % interval above 0 in all conditions. In part: in some.", answer,
                            numbers))
    return out


def judge_views(t: pd.DataFrame)->list[Decision]:
    out = []
    for layer, g in last(t).groupby("layer", sort=False):
        found = peaks(g, "seed")
        share = float((found.peak == found.expected).mean()) if len(found) else math.nan
        out.append(Decision("views", f"{layer}: does augmentation as the noise leave K − 1 modes that stand apart?",
                            f"yes: in at least {MOST:.0%} of the encoders the largest separation, median over draws, "
                            f"lies behind mode K − 1. In part: in half.",
                            graded(share), {"encoders": found.to_dict("records"),
                                            "separation": float(g.separation.mean()) if "separation" in g else None}))
    return out


def judge_nats(t: pd.DataFrame)->list[Decision]:
    out = []
    for layer, g in last(t).groupby("layer", sort=False):
        numbers = {c: interval(g[c]) for c in ("gaussian", "ksg", "ksg_of_gaussian", "info_nce", "ksg_labels_x",
                                               "gaussian_labels", "log_classes")}
        over = interval(g.gaussian - g[["ksg", "info_nce"]].max(axis=1)/(g.ksg_of_gaussian/g.gaussian).clip(upper=1))
        answer = "cannot be told" if not math.isfinite(over["low"]) else "yes" if over["low"] > 0 else "no"
        out.append(Decision("nats", f"{layer}: does the Gaussian formula give more information in the K − 1 modes "
                                    f"than estimates without it?",
                            "yes: the Gaussian value less the larger of KSG and InfoNCE, that divided by the share of "
                            "the truth which KSG finds in a Gaussian sample of the same correlations, has a 95 % "
                            "interval above 0.",
                            answer, numbers | {"difference": over}))
    return out


def judge_similarity(t: pd.DataFrame)->list[Decision]:
    out = []
    for layer, g in last(t).groupby("layer", sort=False):
        numbers = {m: {"value": interval(c.value), "labels_alone": interval(c.labels_alone),
                       "difference": interval(c.value - c.labels_alone)} for m, c in g.groupby("measure", sort=False)}
        known = [n["difference"]["low"] for n in numbers.values() if math.isfinite(n["difference"]["low"])]
        answer = "cannot be told" if not known else "yes" if min(known) > 0 else "in part" if max(known) > 0 else "no"
        out.append(Decision("similarity", f"{layer}: are twins more similar than their labels alone make them?",
                            "yes: for every measure the value less that of the labels alone has a 95 % interval above "
                            "0. In part: for some.", answer, numbers))
    return out


def judge(of: dict[str, pd.DataFrame])->list[Decision]:
    "All answers, from the tables as written."
    rules = {"k_sweep": judge_k_sweep, "temperature": judge_temperature, "noise_twins": judge_noise_twins,
             "views": judge_views, "nats": judge_nats, "similarity": judge_similarity}
    return [d for name, t in of.items() for d in rules[name](t)]


# ---- figures

COLOUR = dict(zip(LAYERS, ("blue", "vermillion")))

def _scattered(ax, x, y, colour, marker, label, seed=0):
    "Dots, moved sideways a little so that equal ones are seen."
    x = np.asarray(x, dtype=float) + np.random.default_rng(seed).uniform(-.15, .15, len(x))
    ax.plot(x, y, marker, ms=4, mfc="none", color=colours[colour], label=label)


def draw_k_sweep(t: pd.DataFrame)->Figure:
    "Where the largest separation lies against the labels trained with, and the second one of merged classes."
    fig, axes = _axes(2, 3.6)
    end = last(t)
    for i, layer in enumerate(LAYERS):
        g = end[end.layer == layer]
        for merges, marker in ((False, "o"), (True, "s")):
            c = g[g.merged == merges]
            if "peak" in c: _scattered(axes[0], c.modes_expected + .2*i - .1, c.peak, COLOUR[layer], marker,
                                       f"{layer}, {'merged' if merges else 'fewer'} classes", i)
        if "second_peak" in g: _scattered(axes[1], g[g.merged].modes_expected + .2*i - .1, g[g.merged].second_peak,
                                          COLOUR[layer], "s", layer, i)
    most = int(end.modes_expected.max()) + 1
    for axis in (a for ax in axes for a in (ax.xaxis, ax.yaxis)): axis.set_major_locator(MaxNLocator(integer=True))
    axes[0].plot([1, most], [1, most], ":", color="black", linewidth=.8, label="as many as the labels have")
    axes[1].axhline(end.fine_modes.max() if "fine_modes" in end and end.fine_modes.notna().any()
                    else 9, color=colours["grey"], linestyle="--", linewidth=.9)
    _tidy(axes[0], "K − 1 of the labels trained with", "modes before the largest separation")
    _tidy(axes[1], "K − 1 of the labels trained with", "modes before the second break", "merged classes")
    fig.legend(*axes[0].get_legend_handles_labels(), fontsize="x-small", ncols=3, loc="outside lower center",
               frameon=False)
    return fig


def _by_x(ax, g, x, y, colour, label): # mean and range
    if y not in g or g[y].isna().all(): return
    v = g.dropna(subset=[y]).groupby(x)[y]
    ax.plot(v.mean().index, v.mean(), "o-", ms=4, color=colours[colour], label=label)
    ax.fill_between(v.mean().index, v.min(), v.max(), color=colours[colour], alpha=.2, linewidth=0)


def draw_temperature(t: pd.DataFrame)->Figure:
    "Separation, spread of the first K − 1 modes, distance from a simplex, both layers."
    fig, axes = _axes(3, 3.2)
    for ax, column, label in zip(axes, ("separation", "spread", "train_etf_error"),
                                 ("separation behind mode K − 1", "spread of the first K − 1",
                                  "distance from a simplex ETF")):
        for layer in LAYERS: _by_x(ax, last(t)[last(t).layer == layer], "temperature", column, COLOUR[layer], layer)
        _log(ax, "x", "y")
        ax.set_xticks(sorted(t.temperature.unique()))
        _tidy(ax, "temperature", label)
    fig.legend(*axes[0].get_legend_handles_labels(), fontsize="x-small", ncols=2, loc="outside lower center",
               frameon=False)
    return fig


def draw_noise_twins(t: pd.DataFrame)->Figure:
    """Agreement of twins with the same and with different wrong labels; a line joins pairs that share their first
    encoder."""
    fig, axes = _axes(3, 3.4)
    names = list(dict.fromkeys(zip(t.label_noise, t.augmentation)))
    for ax, column, label in zip(axes, ("r2", "r2_within", "train_r2"),
                                 ("held-out R², test", "the same within classes", "held-out R², training images")):
        for layer, shift in zip(LAYERS, (-.18, .18)):
            for i, (share, augmentation) in enumerate(names):
                g = t[(t.layer == layer) & (t.label_noise == share) & (t.augmentation == augmentation)]
                wide = g.pivot_table(index=["seed_a", "seed_b"], columns="wrong_labels", values=column)
                for _, row in wide.iterrows(): ax.plot([i + shift - .1, i + shift + .1],
                                                       [row.get("same"), row.get("different")], "-o", ms=3,
                                                       linewidth=.8, color=colours[COLOUR[layer]], label=layer)
        ax.set_xticks(range(len(names)),
                      [f"{share:.0%}" + ("\nno augm." if augmentation == "none" else "")
                       for share, augmentation in names])
        _tidy(ax, "wrong labels", label)
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels())))
    fig.legend(handles.values(), [f"{k}: same → different wrong labels" for k in handles], fontsize="x-small", ncols=2,
               loc="outside lower center", frameon=False)
    return fig


def draw_views(t: pd.DataFrame)->Figure:
    "Critical excesses over epochs when two views of an image are the two variables; the first K − 1 in colour."
    fig, axes = _axes(2, 3.4)
    for ax, layer in zip(axes, LAYERS):
        g = t[t.layer == layer]
        k1 = int(g.modes_expected.iloc[0])
        for i in range(1, SHOWN + 1):
            if f"e{i}" in g and g[f"e{i}"].notna().any():
                v = g.dropna(subset=[f"e{i}"]).groupby("epoch")[f"e{i}"].agg(lambda e: np.exp(np.log(e).mean()))
                ax.plot(v.index, v, "-", linewidth=1, color=colours[COLOUR[layer] if i <= k1 else "grey"])
        _epochs(ax, t.epoch); _log(ax, "y")
        _tidy(ax, "epoch", "critical β$_c$ − 1" if ax is axes[0] else "", f"{layer}, two views of each image")
    return fig


def draw_nats(t: pd.DataFrame)->Figure:
    "Estimates of the information in the K − 1 leading modes, beside log K."
    fig, axes = _axes(2, 3.4)
    names = {"gaussian": "Gaussian", "ksg": "KSG", "ksg_of_gaussian": "KSG of a\nGaussian",
             "info_nce": "InfoNCE\nbound", "gaussian_labels": "Gaussian,\nlabels", "ksg_labels_x": "KSG,\nlabels"}
    for ax, layer in zip(axes, LAYERS):
        g = last(t)[last(t).layer == layer]
        for i, name in enumerate(names): _scattered(ax, [i]*len(g), g[name], COLOUR[layer], "o", None, i)
        ax.axhline(g.log_classes.iloc[0], color=colours["grey"], linestyle="--", linewidth=.9, label="log K")
        ax.set_xticks(range(len(names)), names.values(), fontsize="xx-small")
        _log(ax, "y")
        _tidy(ax, "", "nats" if ax is axes[0] else "", layer)
        ax.legend(fontsize="x-small")
    return fig


def draw_similarity(t: pd.DataFrame)->Figure:
    "Each measure for the twins, and with the first encoder's or its twin's features replaced by class means."
    fig, axes = _axes(2, 3.4)
    for ax, layer in zip(axes, LAYERS):
        g = last(t)[last(t).layer == layer]
        for i, m in enumerate(MEASURES):
            c = g[g.measure == m]
            _scattered(ax, [i - .15]*len(c), c.value, COLOUR[layer], "o", "twins" if not i else None, i)
            _scattered(ax, [i + .15]*len(c), c.labels_alone, "grey", "x", "labels alone" if not i else None, i)
        ax.set_xticks(range(len(MEASURES)), [MEASURE_NAMES[m] for m in MEASURES], fontsize="xx-small")
        _tidy(ax, "", "similarity (1: equal)" if ax is axes[0] else "", layer)
        ax.legend(fontsize="x-small")
    return fig


FIGURES = {"k_sweep": draw_k_sweep, "temperature": draw_temperature, "noise_twins": draw_noise_twins,
           "views": draw_views, "nats": draw_nats, "similarity": draw_similarity}

def draw(of: dict[str, pd.DataFrame])->dict[str, Figure]: return {name: FIGURES[name](t) for name, t in of.items()}
