"""Every number of a pair, to compare before a change with after it.

    python tools/golden.py FILE                         write the numbers of two seeded encoders (tests/golden.json)
    python tools/golden.py FILE --runs RUN_A RUN_B      write those of two run directories
    python tools/golden.py FILE --against OTHER         compare two such files
"""
import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch

from ncib.coding import excess_rate, gaussianity, isotropy, packing, rate_distortion
from ncib.collapse import collapse_metrics
from ncib.gib import GaussianIB
from ncib.ib import DiscreteIB
from ncib.losses import supcon_loss
from ncib.similarity import EncoderStats, cross_moments, pair_measures
from ncib.timeline import analyze

K, N, D = 5, 300, 12
LABELS = np.arange(N) % K


def encoder(seed: int, spread: float) -> np.ndarray:
    "Features with class means in random directions; part of the spread within the classes is shared by all encoders."
    own, images = np.random.default_rng(seed), np.random.default_rng(9)
    means, mix = 2*own.normal(size=(K, D)), own.normal(size=(4, D))
    noise = np.random.default_rng([seed, 9]).normal(size=(N, D))
    return means[LABELS] + spread*(images.normal(size=(N, 4)) @ mix + noise)


def flat(value, name: str = "") -> "dict[str, float | str]":
    "Everything inside dictionaries, lists, arrays and objects, by path."
    if isinstance(value, torch.Tensor): value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray): value = value.tolist()
    if hasattr(value, "__dataclass_fields__"): value = {f: getattr(value, f) for f in value.__dataclass_fields__}
    if isinstance(value, dict): pairs = value.items()
    elif isinstance(value, (list, tuple)): pairs = enumerate(value)
    elif isinstance(value, (bool, int, float, np.number)): return {name: float(value)}
    else: return {name: value} if isinstance(value, str) else {}
    return {k: v for key, inner in pairs for k, v in flat(inner, f"{name}/{key}").items()}


def of_timeline(t) -> dict:
    "Table, arrays and sentences."
    table = {c: [v if isinstance(v, str) else float(v) for v in t.table[c]] for c in t.table.columns}
    return flat({"table": table, "arrays": t.arrays, "verdict": t.verdict()})


def of_seeded() -> dict:
    x, y = encoder(1, .5), encoder(2, .5)
    pair = [{"backbone": [encoder(s, e) for e in (2, .5)], "head": [encoder(s + 5, e)[:, :6] for e in (1, .2)]}
            for s in (1, 2)]
    unit = torch.nn.functional.normalize(torch.as_tensor(x), dim=1).requires_grad_()
    loss = supcon_loss(unit, torch.as_tensor(LABELS))
    joint = np.random.default_rng(3).dirichlet(np.ones(60)).reshape(12, 5)
    curve = DiscreteIB(joint).curve(np.linspace(1, 8, 9))
    stats = [EncoderStats.of(f, LABELS) for f in (x, y)]
    unshrunk = GaussianIB.fit(x, y)
    return of_timeline(analyze(*pair, LABELS, epochs=[1, 5], progress=False)) | flat({
        "collapse": vars(collapse_metrics(x, LABELS)),
        "correlations": unshrunk.cca.one_minus_rho2, "threshold": unshrunk.critical_rho,
        "copula": GaussianIB.fit(x, y, copula=True).excess, "ridge": GaussianIB.fit(x, y, shrinkage="auto").excess,
        "labels": GaussianIB.fit_labels(x, LABELS).excess, "paired": GaussianIB.fit_class_paired(x, y, LABELS).excess,
        "loss": loss, "gradient": torch.autograd.grad(loss, unit)[0], "discrete": curve, "split": curve.split_betas,
        "rate": rate_distortion(np.arange(1., 6), [.7, 2.]), "excess rate": excess_rate(x, LABELS),
        "gaussianity": gaussianity(x), "isotropy": isotropy([1., 2, 3]), "packing": packing(x, LABELS),
        "pair": pair_measures(*stats, cross_moments(x, y, *stats))})


def differences(before: dict, after: dict, rtol: float = 0.) -> list[str]:
    "What is missing, new, or further apart than `rtol`, worst first."
    number = lambda v: isinstance(v, float) and math.isfinite(v)
    found = [(math.inf, f"{k} is missing") for k in before.keys() - after]
    found += [(math.inf, f"{k} is new") for k in after.keys() - before]
    for k in before.keys() & after:
        u, v = before[k], after[k]
        if repr(u) == repr(v): continue
        apart = abs(u - v)/max(abs(u), abs(v)) if number(u) and number(v) else math.inf
        if apart > rtol: found.append((apart, f"{k}: {u} → {v} (by {apart:.1e})"))
    return [text for _, text in sorted(found, reverse=True)]


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file", type=Path, help="what is written, or compared")
    p.add_argument("--runs", nargs=2, metavar="RUN", help="two run directories in place of the seeded encoders")
    p.add_argument("--against", type=Path, metavar="OTHER", help="the same after a change: compare, write nothing")
    p.add_argument("--rtol", type=float, default=0., help="relative differences that are let pass (default: none)")
    o = p.parse_args()
    if o.against:
        found = differences(json.loads(o.file.read_text()), json.loads(o.against.read_text()), o.rtol)
        print(*found[:40] or ["every number is the same"], sep="\n")
        return int(bool(found))
    numbers = of_timeline(analyze(*o.runs, progress=False)) if o.runs else of_seeded()
    o.file.write_text(json.dumps(numbers, indent=0) + "\n")
    print(f"{len(numbers)} numbers in {o.file}")
    return 0


if __name__ == "__main__": sys.exit(main())
