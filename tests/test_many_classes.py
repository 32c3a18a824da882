"Hundreds of classes: figures draw quantiles and densities, pages keep their size, and what is drawn is what is there."
import json
from importlib.resources import files

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection

from ncib import pages, plots
from ncib.beta_frames import gaussian_frames
from ncib.core import InputError
from ncib.frames import (
    _superclasses,
    checkpoint_frames,
    dense,
    find_superclasses,
    key_of,
    known_superclasses,
    numbers_per_epoch,
)
from ncib.gib import GaussianIB
from ncib.report import report_html
from ncib.runs import Run
from ncib.timeline import analyze

K = 150


@pytest.fixture(scope="module")
def timeline(tmp_path_factory):
    "150 classes in 12 dimensions, two checkpoints."
    root, g = tmp_path_factory.mktemp("many"), np.random.default_rng(0)
    y = {"train": np.repeat(np.arange(K), 3), "test": np.repeat(np.arange(K), 2)}
    centres, own = g.normal(size=(K, 12)), {p: g.normal(size=(len(v), 12)) for p, v in y.items()}
    runs = []
    for seed in (0, 1):
        run = Run.create(root/str(seed), [f"species {i}" for i in range(K)], {"seed": seed}, {"fingerprint": "x"})
        for epoch, noise in ((0, 1.5), (5, .3)):
            f = {p: (centres[v] + noise*(own[p] + .4*g.normal(size=own[p].shape))).astype(np.float32)
                 for p, v in y.items()}
            run.save_features(epoch, f["train"], y["train"], f["test"], y["test"])
        runs.append(run)
    return analyze(*runs, progress=False)


@pytest.fixture(scope="module")
def wide(timeline):
    "The same with the spectrum of wide features: K − 1 modes and twice as many behind."
    g, arrays, table = np.random.default_rng(1), [], timeline.table.copy()
    for i, a in enumerate(timeline.arrays):
        e = np.sort(np.r_[np.exp(g.normal(-3, .2, K - 1)), np.exp(g.normal(0, .4, 2*K))])
        arrays.append({**a,
                       **{f"test_twin_excess{s}": torch.as_tensor(e) for s in ("", "_ridge", "_unshrunk", "_held_out")},
                       "test_twin_floor": torch.tensor(50.)})
        for c, v in (("count", K - 1), ("significant", 3*K - 1), ("separation", 15.), ("separation_low", 12.),
                     ("separation_high", 18.)):
            table.loc[i, f"test_twin_{c}"] = v
    return type(timeline)(table.astype({"test_twin_significant": int}), arrays, timeline.info)


def marks(figure): return sum(len(ax.lines) + len(ax.patches) for ax in figure.axes)


def test_no_figure_draws_one_mark_per_class_or_mode(timeline, wide):
    for t in (timeline, wide):
        for plot in (plots.plot_transitions, plots.plot_information, plots.plot_sensitivity, plots.plot_cosines):
            assert marks(plot(t)) < K/2, plot.__name__
            assert all(len(line.get_xdata()) <= 400 for ax in plots.plot_information(t).axes for line in ax.lines)


def test_few_classes_are_drawn_one_by_one(short_timeline):
    assert (len(plots.plot_transitions(short_timeline).axes[0].lines) > 50
            and plots.plot_cosines(short_timeline).axes[0].images)


def test_bands_are_quantiles(wide):
    ax = plots.plot_transitions(wide).axes[0]
    first = np.log10(np.asarray(wide.arrays[0]["test_twin_excess"])[:K - 1])
    median = next(line for line in ax.lines if str(line.get_label()).startswith(f"modes 1 to {K - 1} = K−1"))
    assert median.get_ydata()[0] == pytest.approx(np.median(first))
    widest = [c.get_paths()[0].get_extents() for c in ax.collections]
    assert any(w.y0 == pytest.approx(min(np.log10(np.asarray(a["test_twin_excess"])[0]) for a in wide.arrays))
               for w in widest)


def test_the_density_of_cosines_names_the_closest_classes(timeline):
    ax = plots.plot_cosines(timeline).axes[-1]
    c = np.asarray(timeline.arrays[-1]["train_cosines_a"]).copy()
    np.fill_diagonal(c, -2)
    i, j = np.unravel_index(c.argmax(), c.shape)
    assert f"species {i}, species {j} ({c.max():.2f})" in ax.get_xlabel()
    assert any(line.get_xdata()[0] == pytest.approx(-1/(K - 1)) for line in ax.lines)


def test_too_few_modes_are_told(timeline):
    assert np.isnan(timeline.table.test_twin_separation).all()
    assert any("nowhere can K − 1 modes" in t.get_text() for t in plots.plot_sensitivity(timeline).axes[0].texts)


def test_a_frame_on_paper(timeline):
    f = checkpoint_frames(timeline)
    figure = plots.plot_frame(f, 5)
    axes = [ax for sub in figure.subfigs for ax in sub.axes]
    assert (max(len(ax.lines) for ax in axes) < 10
            and max(sum(isinstance(c, PathCollection) for c in ax.collections) for ax in axes) == 1)
    means = f.modes["test", "a", "twin"].mode_means[1, 0].numpy()
    words = [t.get_text() for ax in axes for t in ax.texts]
    assert any(f"species {means.argmax()}"[:12] in w for w in words if w.startswith("most"))


def test_the_page_keeps_its_size(timeline, monkeypatch):
    def no_frames(*args): raise AssertionError("frames were made for nothing")
    page = report_html(timeline)
    assert "<canvas" in page or "mountPage" in page
    size = 16*numbers_per_epoch(K)
    monkeypatch.setattr(pages, "largest_page", size - 1)
    monkeypatch.setattr(pages, "checkpoint_frames", no_frames)
    page = report_html(timeline)
    assert (f"The explorer is left out: with 150 classes at 2 checkpoints it would take {size/2**20:.2g} MB" in page
            and "mountPage" not in page)


def test_a_thousand_classes_at_twenty_checkpoints_have_a_page():
    assert 8*20*numbers_per_epoch(1000) < pages.largest_page < 8*20*1000*1000


def test_the_size_is_told_truly(timeline):
    payload = pages.checkpoint_payload([checkpoint_frames(timeline)], limit=300)
    assert .5 < len(payload)/(16*numbers_per_epoch(K)) < 2


def test_superclasses_are_found():
    "Planted ones, in any order of the classes; a group is called after the class in its middle."
    g = np.random.default_rng(0)
    planted = g.permutation(np.repeat(np.arange(8), 10))
    m = 3*g.normal(size=(8, 40))[planted] + g.normal(size=(80, 40))
    m /= np.linalg.norm(m, axis=1, keepdims=True)
    found = find_superclasses(m @ m.T, [f"c{i}" for i in range(80)], most=8)
    assert len({*zip(planted.tolist(), found.of.tolist())}) == 8 == len(found.names)
    for name, members in ((n, np.flatnonzero(found.of == i)) for i, n in enumerate(found.names)):
        middle = members[(m[members] @ m[members].T).sum(0).argmax()]
        assert name == f"c{middle} +9"
    alone = find_superclasses(np.eye(2), ["a", "b"])
    assert alone.names == ["a", "b"] and alone.of.tolist() == [0, 1]


def test_superclasses_of_cifar100_are_known():
    groups = json.loads((files("ncib")/"static"/"superclasses.json").read_text())["CIFAR-100"]
    classes = sorted(c for members in groups.values() for c in members)
    assert len(groups) == 20 and len({*classes}) == 100 and all(len(members) == 5 for members in groups.values())
    for names in (classes, [c.replace(" ", "_") for c in reversed(classes)]):
        found = known_superclasses(names)
        assert found.names == list(groups)
        assert all(c.replace("_", " ") in groups[found.names[g]] for c, g in zip(names, found.of))
    assert known_superclasses(classes[:99]) is None and known_superclasses(classes[:99] + classes[:1]) is None
    assert _superclasses(None, np.eye(100), classes).names == list(groups)
    assert _superclasses(["a", *99*["b"]], np.eye(100), classes).names == ["a", "b"]                # what is given wins


def test_a_page_shows_superclasses(timeline):
    "What is packed is what loops over pairs and members of the groups give."
    f = checkpoint_frames(timeline)
    of, k1 = f.superclasses.of.numpy(), K - 1
    (info, arrays), = pages.unpack_arrays(pages.checkpoint_payload([f], limit=50))
    assert info["superclass_of"] == of.tolist() and 10 < len(info["superclasses"]) <= 30
    c, packed = f.cosines["test", "b"][1].numpy(), arrays[key_of("cosines", part="test", side="b")][1]
    for a in range(len(packed)):
        for b in range(len(packed)):
            pairs = [c[i, j] for i in np.flatnonzero(of == a) for j in np.flatnonzero(of == b) if i != j]
            assert packed[a, b] == pytest.approx(np.mean(pairs) if pairs else 1, abs=1e-4)
    words = dict(part="train", side="a", relevance="labels")
    v = f.modes["train", "a", "labels"].mode_means[1].numpy()
    largest = f.modes["train", "a", "labels"].mode_means.abs().max().item()
    for name, told in (("mode_means", np.mean), ("mode_spread", np.std)):
        by_hand = np.stack([told(v[:, of == g], axis=1) for g in range(len(info["superclasses"]))], 1)
        assert by_hand.shape == (k1, len(packed))
        assert np.allclose(arrays[key_of(name, **words)][1], by_hand, atol=1e-4*largest)
    (_, modes), = pages.unpack_arrays(pages.checkpoint_payload([f], only_modes=True))
    assert key_of("mode_spread", **words) in modes


def test_superclasses_of_ones_own(timeline):
    given = ["even" if i % 2 == 0 else "odd" for i in range(K)]
    f = checkpoint_frames(timeline, superclasses=given)
    assert f.superclasses.names == ["even", "odd"] and f.superclasses.of.tolist() == [i % 2 for i in range(K)]
    assert f.choose([0, 1]).superclasses is f.superclasses
    axes = [ax for sub in plots.plot_frame(f, 5).subfigs for ax in sub.axes]
    assert any([t.get_text() for t in ax.get_yticklabels()] == ["even", "odd"] for ax in axes)
    with pytest.raises(InputError, match="superclasses must be one name for each of the 150 classes, got 2"):
        checkpoint_frames(timeline, superclasses=["even", "odd"])
    assert K > dense


def test_a_sweep_counts_classes_that_no_sample_shows():
    g, y = np.random.default_rng(0), np.repeat(np.arange(40), 10)
    x = g.normal(size=(40, 6))[y] + g.normal(size=(400, 6))
    bottleneck = GaussianIB.fit(x, x + g.normal(size=x.shape))
    for classes in (None, [f"species {i}" for i in range(40)]):
        f = gaussian_frames(bottleneck, x, y, classes, limit=25)
        assert len(f.labels.unique()) < 40 and f.k1 == 39
    assert gaussian_frames(bottleneck, x, 3*y, limit=25).k1 == 39 and gaussian_frames(bottleneck, x).k1 == 0
