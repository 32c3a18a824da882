"Projections that stay in place, what explorers compute, their state and their sentences; no browser."
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from ncib.beta_frames import (
    BetaFrames,
    DiscreteFrames,
    GaussianFrames,
    corner_words,
    discrete_frames,
    frame_code,
    gaussian_frames,
    merge_clusters,
    timeline_frames,
    track_clusters,
)
from ncib.core import InputError
from ncib.frames import checkpoint_frames, closest_classes, mode_means
from ncib.gib import GaussianIB
from ncib.ib import DiscreteIB
from ncib.pages import (
    checkpoint_payload,
    pack_arrays,
    page_document,
    sweep_payload,
    timeline_fragment,
    unpack_arrays,
)
from ncib.plots import plot_frame, plot_sweep
from ncib.runs import Run
from ncib.simplex import simplex_projection, simplex_vertices, simplex_view, stratified_rows
from ncib.timeline import Timeline, analyze, recorded_layers, separation_series

explore = pytest.importorskip("ncib.explore")
RNG = np.random.default_rng(0)


def orthogonal(d, rng=RNG): return np.linalg.qr(rng.normal(size=(d, d)))[0]


def etf(k, d): return (np.eye(k) - 1/k) @ orthogonal(d)[:k]


def make_runs(folder, k=5, epochs=(0, 1, 2), d=8, n=200, spreads=None, seed=0, fingerprint="same", head=True):
    "Two runs whose features are turned copies of class means plus noise."
    g = torch.Generator().manual_seed(seed)
    means, y = torch.linalg.qr(torch.randn(max(d, k), max(d, k), generator=g)).Q[:k, :d], torch.arange(n) % k
    runs = [Run.create(folder/name, [f"class {c}" for c in range(k)], {"seed": s}, {"fingerprint": fingerprint})
            for s, name in enumerate("ab")]
    turns = [torch.linalg.qr(torch.randn(d, d, generator=g)).Q for _ in runs]
    for epoch, spread in zip(epochs, spreads or np.linspace(1, .2, len(epochs))):
        shared = [spread*torch.randn(n, d, generator=g) for _ in range(2)]
        for run, turn in zip(runs, turns):
            x = [(means[y] + s + .3*spread*torch.randn(n, d, generator=g)) @ turn for s in shared]
            run.save_features(epoch, x[0], y, x[1], y, *(v[:, :6] for v in x) if head else ())
    return runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory): return make_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def frames(runs): return checkpoint_frames(runs=runs)


@pytest.fixture(scope="module")
def timeline(runs): return analyze(*runs, progress=False)


# ---------------------------------------------------------------- projection

@pytest.mark.parametrize("k, dims", [(2, 2), (3, 2), (4, 2), (4, 3), (10, 2), (100, 2)])
def test_vertices(k, dims):
    u = simplex_vertices(k, dims)
    assert np.allclose(u.sum(0), 0) and np.allclose(np.linalg.norm(u, axis=1), 1)
    assert np.allclose(u.T @ u, np.eye(u.shape[1])*k/u.shape[1])
    assert len(np.unique(u.round(9), axis=0)) == k


@pytest.mark.parametrize("k, dims", [(2, 2), (3, 2), (4, 2), (4, 3), (10, 2), (100, 2)])
def test_etf_lands_in_the_corners(k, dims):
    m = etf(k, 120)*7 + 3
    axes, certainty = simplex_projection(m, simplex_vertices(k, dims))
    place = (m - m.mean(0)) @ axes
    assert np.allclose(axes.T @ axes, np.eye(axes.shape[1])) and np.isclose(certainty, 1)
    assert np.allclose(place/np.linalg.norm(place, axis=1, keepdims=True), simplex_vertices(k, dims))


def test_projection_is_the_best_rotation():
    """No other orthonormal columns bring the means nearer to their places: compared with many random ones and with
    small turns of the answer."""
    m, u = RNG.normal(size=(7, 9)), simplex_vertices(7)
    axes, _ = simplex_projection(m, u)
    fit = lambda p: np.sum(((m - m.mean(0)) @ p)*u)
    for _ in range(200): assert fit(orthogonal(9)[:, :2]) <= fit(axes) + 1e-9
    for _ in range(50):
        a = RNG.normal(size=(9, 9))*1e-3
        assert fit(np.linalg.qr(axes + (a - a.T) @ axes)[0]
                   *np.sign(np.diag(np.linalg.qr(axes + (a - a.T) @ axes)[1]))) <= fit(axes) + 1e-9


def test_projection_follows_rotations_and_scale():
    m, u, q = RNG.normal(size=(6, 12)), simplex_vertices(6), orthogonal(12)
    axes, _ = simplex_projection(m, u)
    assert np.allclose(simplex_projection(m @ q*5 + 2, u)[0], q.T @ axes)
    assert torch.allclose(simplex_projection(torch.as_tensor(m).float(), u)[0].double(), torch.as_tensor(axes),
                          atol=1e-5)


@pytest.mark.parametrize("size", [1e-8, 1e-4, 1e-1, 1.])
def test_small_changes_move_little(size):
    "Li's bound on the polar factor: ‖ΔP‖ ≤ 2‖Δ(MᵀU)‖/(σ_p + σ_p′), at every size of change."
    u = simplex_vertices(10)
    for _ in range(30):
        m = RNG.normal(size=(10, 64))
        moved = m + size*RNG.normal(size=m.shape)
        (p, _), (q, _) = simplex_projection(m, u), simplex_projection(moved, u)
        a, b = ((v - v.mean(0)).T @ u for v in (m, moved))
        bound = 2*np.linalg.norm(a - b)/(np.linalg.svd(a, compute_uv=False)[-1]
                                         + np.linalg.svd(b, compute_uv=False)[-1])
        assert np.linalg.norm(p - q) <= bound*(1 + 1e-6) + 1e-12


def test_consecutive_frames_of_a_run_that_barely_changes(tmp_path):
    "Means move by 1 % of their spread per checkpoint while principal components would flip; no class jumps."
    g = torch.Generator().manual_seed(1)
    y, m = torch.arange(400) % 10, torch.randn(10, 20, generator=g)
    noise = .5*torch.randn(2, 400, 20, generator=g)
    run = [Run.create(tmp_path/n, list("abcdefghij"), {"seed": s}) for s, n in enumerate("ab")]
    for epoch in range(6):
        for s, r in enumerate(run): x = m[y] + noise[s]; r.save_features(epoch, x, y, x, y)
        m = m + .01*torch.randn(m.shape, generator=g)
    f = checkpoint_frames(runs=run)
    for side in "ab":
        seen = f.views.in_units(400).views["train", side]
        place, points = seen.means, seen.points
        step = (place[1:] - place[:-1]).norm(dim=2)
        apart = torch.cdist(place[0], place[0])[~torch.eye(10, dtype=torch.bool)]
        assert (step.max() < .1 and step.max() < .25*apart.median() and (points[1:] - points[:-1]).norm(dim=2).max()
                < .25)


@pytest.mark.parametrize("case", ["all equal", "on a line", "two columns"])
def test_degenerate_means(case):
    "The open directions come from the reference, deterministically; the axes stay orthonormal."
    u = simplex_vertices(5)
    m = (np.zeros((5, 6)) if case == "all equal" else np.outer(u[:, 0], RNG.normal(size=6)) if case == "on a line"
         else RNG.normal(size=(5, 2)))
    reference = orthogonal(m.shape[1])[:, :2]
    axes, certainty = simplex_projection(m, u, reference)
    assert np.allclose(axes.T @ axes, np.eye(2)) and (case == "two columns" or certainty < 1e-6)
    if case == "all equal": assert np.allclose(axes, reference)
    if case == "on a line": assert np.allclose((m @ axes)[:, 0]/u[:, 0], (m @ axes)[0, 0]/u[0, 0])
    assert np.allclose(axes, simplex_projection(m, u, reference)[0])
    assert np.allclose(simplex_projection(m, u)[0].T @ simplex_projection(m, u)[0], np.eye(2))


def test_reference_inside_what_is_known():
    "A reference that spans nothing new still gives orthonormal axes."
    u = simplex_vertices(3)
    m = np.outer(u[:, 0], [1., 0, 0, 0])
    axes, _ = simplex_projection(m, u, np.eye(4)[:, [0, 0]])
    assert np.allclose(axes.T @ axes, np.eye(2))


def test_two_classes_on_a_line():
    y = np.arange(40) % 2
    view = simplex_view(RNG.normal(size=(40, 3)) + 4*y[:, None], y)
    assert view.points.shape == (40, 1) and np.allclose(view.means/view.unit, [[-1], [1]])


@pytest.mark.parametrize("call, words", [
    (lambda: simplex_vertices(1), "at least 2"), (lambda: simplex_vertices(5, 3), "4 classes"),
    (lambda: simplex_projection(np.ones((3, 1)), simplex_vertices(3)), "at least 2 columns"),
    (lambda: simplex_projection(np.ones((3, 4)), simplex_vertices(4)), "one row per class"),
    (lambda: simplex_view(np.ones((4, 3)), [0, 0, 0, 0]), "at least 2 different"),
    (lambda: simplex_view(np.ones((4, 3)), [0, 1, 0, 1], classes=[0, 2]), "class 2"),
    (lambda: stratified_rows([0, 1], 0), "at least 1"),
    (lambda: mode_means(GaussianIB.from_rho([.5]), np.ones((2, 2)), [0, 1]), "from_rho")])
def test_wrong_input_names_it(call, words):
    with pytest.raises(InputError, match=words): call()


def test_stratified_rows():
    y = torch.tensor([0]*900 + [1]*90 + [2]*10)
    rows = stratified_rows(y, 100)
    assert (len(rows) == 100 == len(rows.unique()) and y[rows].bincount().tolist() == [90, 9, 1]
            and torch.equal(rows, rows.sort().values))
    assert (torch.equal(stratified_rows(y, 5000), torch.arange(1000))
            and not torch.equal(rows, stratified_rows(y, 100, seed=1)))
    assert y[stratified_rows(y, 3)].unique().tolist() == [0, 1, 2]


def test_fewer_rows_than_classes_favour_none():
    """Rows that are ordered by class: each class is drawn as often as any other, large or small, within five standard
    deviations of the binomial."""
    y, draws = torch.arange(8).repeat_interleave(torch.tensor([40, 2]*4)), 400
    drawn = torch.stack([y[stratified_rows(y, 4, seed=s)].bincount(minlength=8) for s in range(draws)])
    assert (drawn <= 1).all() and (drawn.sum(0) - draws/2).abs().max() < 5*(draws/4)**.5
    assert torch.equal(stratified_rows(y, 4, seed=1), stratified_rows(y, 4, seed=1))


def test_closest_classes():
    c = np.full((6, 6), -.2); np.fill_diagonal(c, 1)
    for i, j, v in ((1, 4, .9), (4, 5, .5), (1, 5, .4), (5, 0, .3), (1, 0, .2), (4, 0, .2)): c[i, j] = c[j, i] = v
    assert (closest_classes(c) == [0, 1, 4, 5] and closest_classes(torch.as_tensor(c), 2) == [1, 4]
            and closest_classes(np.eye(3)) == [0, 1, 2])


# ---------------------------------------------------------------- modes

def test_mode_means_are_means_of_variates():
    x, y = RNG.normal(size=(120, 6)), np.arange(120) % 4
    x[:, :4] += 2*np.eye(4)[y]
    z = x @ orthogonal(6) + .3*RNG.normal(size=x.shape)
    for copula in (False, True):
        g = GaussianIB.fit(x, z, copula=copula)
        from ncib.copula import normal_scores
        for side, f, project in (("x", x, g.cca.transform_x), ("y", z, g.cca.transform_y)):
            variates = project(normal_scores(f) if copula else f)
            expected = np.stack([variates[y == c].mean(0) for c in range(4)], 1)
            means = mode_means(g, f, y, side)
            assert np.allclose(np.abs(means), np.abs(expected)) and np.allclose(np.abs(means).max(1), means.max(1))


def test_frames_agree_with_the_timeline(runs, frames):
    t = analyze(*runs, progress=False)
    for part in ("train", "test"):
        for relevance in ("twin", "paired", "labels"):
            modes = frames.modes[part, "a", relevance]
            assert (np.allclose(modes.count, t.table[f"{part}_{relevance}_count"])
                    and np.allclose(modes.gap, t.table[f"{part}_{relevance}_gap_after_k1"]))
            for i, a in enumerate(t.arrays):
                e = a[f"{part}_{relevance}_excess"]
                shown = modes.excess[i]
                m = min(len(e), len(shown))
                assert torch.allclose(shown[:m], e[:m]) and torch.isinf(shown[m:]).all()
        assert torch.allclose(frames.cosines[part, "b"][-1], t.arrays[-1][f"{part}_cosines_b"].double())
    assert frames.table["epoch"] == [0, 1, 2]


def test_frames_are_kept_and_made_again(tmp_path):
    runs = make_runs(tmp_path)
    first = checkpoint_frames(runs=runs)
    files = list((tmp_path/"a/cache").iterdir())
    assert len(files) == 1
    stamp = files[0].stat().st_mtime_ns
    checkpoint_frames(runs=runs)
    assert files[0].stat().st_mtime_ns == stamp                                  # read
    f = runs[0].features(2)
    runs[0].save_features(2, f.train + 1, f.train_labels, f.test*2, f.test_labels)
    again = checkpoint_frames(runs=runs)
    assert (files[0].stat().st_mtime_ns != stamp
            and not torch.equal(first.views.views["test", "a"].points, again.views.views["test", "a"].points))
    files[0].write_bytes(b"damaged")
    assert all(torch.equal(v, again.arrays[k]) for k, v in checkpoint_frames(runs=runs).arrays.items())


def test_frames_are_not_kept_of_a_timeline_of_other_features(tmp_path):
    runs = make_runs(tmp_path, head=False)
    old = analyze(*runs, progress=False)
    f = runs[0].features(2)
    x = torch.cat([f.train[:, 1:], f.train[:, :1]**2], 1)
    runs[0].save_features(2, x, f.train_labels, f.test**2, f.test_labels)
    checkpoint_frames(old)
    now, fresh = checkpoint_frames(runs=runs), analyze(*runs, progress=False)
    assert now.table["train_nc1_a"] == fresh.table["train_nc1_a"].tolist() != old.table["train_nc1_a"].tolist()
    assert torch.allclose(now.cosines["train", "a"][-1], torch.as_tensor(fresh.arrays[-1]["train_cosines_a"]).double())


def test_frames_are_kept_by_the_choice_of_intervals(tmp_path):
    runs = make_runs(tmp_path)
    moments = analyze(*runs, intervals=False, progress=False)
    checkpoint_frames(moments.of("backbone"))
    file, = (tmp_path/"a/cache").iterdir()
    stamp = file.stat().st_mtime_ns
    checkpoint_frames(moments)
    assert file.stat().st_mtime_ns == stamp                                      # read
    assert "test_twin_separation_ridge" in checkpoint_frames(runs=runs).table
    assert file.stat().st_mtime_ns != stamp


def test_timeline_goes_before_what_is_kept(runs, frames):
    t = analyze(*runs, progress=False)
    changed = Timeline(t.table.assign(test_accuracy_a=.5), t.arrays, t.info)
    f = checkpoint_frames(changed)
    assert (f.table["test_accuracy_a"] == [.5]*3
            and torch.equal(f.views.views["test", "a"].points, frames.views.views["test", "a"].points))
    other = Timeline(t.table, t.arrays, t.info | {"configs": [t.info["configs"][0], {"lr": .5}]})
    for make in (checkpoint_frames, timeline_frames):
        with pytest.raises(InputError, match="another configuration than the run of the timeline"): make(other)
    half = Timeline(t.table.iloc[:2], t.arrays[:2], t.info)
    assert checkpoint_frames(half).epochs == [0, 1]


def test_relative_paths_are_found_from_below(runs, frames, tmp_path, monkeypatch):
    t = analyze(*runs, progress=False)
    top = runs[0].path.parent
    moved = Timeline(t.table, t.arrays, t.info | {"runs": ["a", "b"]})
    (top/"nbs/explore").mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(top/"nbs/explore")
    assert checkpoint_frames(moved).epochs == [0, 1, 2]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="features are not there"): checkpoint_frames(moved)


def test_chosen_classes(frames):
    assert frames.few.views["train", "a"].points.shape[2] == 3
    three = frames.choose([0, 2, 4])
    assert (three.few.views["test", "b"].means.shape == (3, 3, 2) and set(three.few.labels["test"].tolist())
            == {0, 2, 4})
    for bad in ([0], [0, 0], [0, 9], [0, 1, 2, 3, 4]):
        with pytest.raises(InputError, match="classes"): frames.choose(bad)


@pytest.mark.parametrize("k", [2, 3, 4, 6])
def test_any_number_of_classes(k, tmp_path):
    f = checkpoint_frames(runs=make_runs(tmp_path, k=k, d=8, n=40*k))
    dims = {2: 1, 4: 3}.get(k, 2)
    assert f.views.views["test", "a"].points.shape == (3, 40*k, dims) and (f.few is not None) == (k > 4)
    assert plot_frame(f, 1).axes and plot_frame([f, f], 1, names=["x", "y"], view="all").axes


@pytest.mark.parametrize("k", [4, 6])
def test_features_of_two_dimensions(k, tmp_path):
    "Four classes stand on a square where there is no room for a tetrahedron: all that there are, or the chosen ones."
    f = checkpoint_frames(runs=make_runs(tmp_path, k=k, d=2, n=40*k, head=False))
    view = (f.few or f.views).views["test", "a"]
    assert view.points.shape[2] == 2 and np.allclose(view.corners, simplex_vertices(4))
    assert f.choose([0, 1, 2, 3]).few.views["test", "b"].means.shape == (3, 4, 2)
    assert all(plot_frame(f, 1, view=v).axes for v in ("all", "chosen")[:1 + (k > 4)])
    explorer = explore.CheckpointExplorer(*(tmp_path/s for s in "ab"), progress=False)
    assert not explorer.error and explorer.html(20, picture=False)


def test_recorded_layers(runs, tmp_path):
    assert (recorded_layers(runs) == ["backbone", "head"]
            and recorded_layers([r.path for r in make_runs(tmp_path/"none", head=False)]) == ["backbone"])
    some = make_runs(tmp_path/"some")
    f = some[1].features(1)
    # one checkpoint of one run lacks the head
    some[1].save_features(1, f.train, f.train_labels, f.test, f.test_labels)
    assert some[0].layers == ["backbone", "head"] and some[1].layers == recorded_layers(some) == ["backbone"]
    some[1].file("features", 1).write_bytes(b"damaged")
    with pytest.raises(InputError, match="epoch_0001.safetensors is damaged"): recorded_layers(some)


def test_frames_of_a_timeline_of_both_layers(runs, timeline, monkeypatch):
    "Each layer's frames have that layer's own columns, and nothing is analysed again."
    t = timeline
    for layer in t.layers: checkpoint_frames(t, layer=layer)
    monkeypatch.setattr("ncib.frames.analyze", lambda *a, **k: pytest.fail("analysed again"))
    for layer in t.layers:
        f, own = checkpoint_frames(t, layer=layer), t.of(layer).table
        assert (f.layer == layer and list(f.table) == list(own)
                and f.table["train_nc1_a"] == own["train_nc1_a"].tolist())
    with pytest.raises(InputError, match="'head' was not analysed"): checkpoint_frames(t.of("backbone"), layer="head")


# ---------------------------------------------------------------- what hangs on the estimate

def test_separation_series(timeline, frames):
    "From a timeline and from a table that went through JSON: the same numbers, from the same columns."
    t = timeline.of("backbone")
    series, again = separation_series(t.table), separation_series(frames.table)
    assert (list(series) == list(again) == ["", "_ridge", "_unshrunk", "_held_out"]
            and [s for s, v in series.items() if "low" in v] == [""])
    for suffix, s in series.items():
        assert (np.array_equal(s["values"], t.table[f"test_twin_separation{suffix}"])
                and np.allclose(s["values"], again[suffix]["values"], equal_nan=True))
    assert np.array_equal(series[""]["low"], t.table["test_twin_separation_low"])
    assert separation_series({"epoch": [1]}) == {}
    (info, _), = unpack_arrays(checkpoint_payload([frames], limit=20))
    assert ([e["column"] for e in info["estimates"]] == [f"test_twin_separation{s}" for s in series]
            and all(e["column"] in info["table"] for e in info["estimates"]))


@pytest.mark.parametrize("epoch", [0, 2])
def test_sensitivity_on_paper(frames, epoch):
    """Four panels on one scale below the others, each with its line, the cursor at the checkpoint and the value in the
    title; the default one has a band."""
    axes, series = plot_frame(frames, epoch).axes[-4:], separation_series(frames.table).values()
    assert len({a.get_ylim() for a in axes}) == 1
    for ax, s in zip(axes, series):
        curve, (cursor, dot) = [line for line in ax.lines if line.get_label() == s["label"]], ax.lines[-2:]
        assert np.array_equal(curve[0].get_ydata(), s["values"], equal_nan=True) and set(cursor.get_xdata()) == {epoch}
        assert (dot.get_xdata()[0] == epoch and dot.get_ydata()[0] == s["values"][epoch]
                and f"{s['name']}: ×{s['values'][epoch]:.3g}" == ax.get_title(loc="left"))
    assert [len(a.collections) for a in axes] == [1, 0, 0, 0]


def test_no_sensitivity_in_an_older_analysis(frames):
    bare = replace(frames, table={k: v for k, v in frames.table.items() if "separation" not in k})
    assert ("not measured" in plot_frame(bare, 1).axes[-1].texts[0].get_text()
            and unpack_arrays(checkpoint_payload([bare], limit=20))[0][0]["estimates"] == [])


# ---------------------------------------------------------------- β

def test_gaussian_frames_agree_with_the_bottleneck():
    x, y = RNG.normal(size=(150, 5)), np.arange(150) % 3
    x[:, :3] += 2*np.eye(3)[y]
    g = GaussianIB.fit(x, x @ orthogonal(5) + .5*RNG.normal(size=x.shape))
    f = gaussian_frames(g, x, y, limit=1000)
    curve = g.curve(excess=10**f.log_excess.numpy())
    assert np.allclose(f.ixt[0], curve.ixt) and np.allclose(f.iyt[0], curve.iyt)
    enter = g.curve(betas=g.critical_betas)
    assert np.allclose(f.enter_ixt[0], enter.ixt, atol=1e-9)
    for position in (0, 60, 240):
        e = float(f.log_excess[position])
        code, on = frame_code(f, e)
        mean = g.transform(x, 1 + 10**e)
        assert (on == mean.shape[1] and np.allclose(code, (mean + f.noise.numpy()[:, :on])
                                                    @ f.axes[0, :on].numpy(), atol=1e-8))
    assert torch.allclose(f.axes[0].T @ f.axes[0], torch.eye(2, dtype=torch.float64))


def test_modes_that_are_not_there_do_not_enter():
    "A checkpoint with fewer modes than the others has as many circles in the plane as modes."
    f = gaussian_frames([GaussianIB.from_rho(rho) for rho in ([.9, .6], [.95, .8, .7, .5])], epochs=[0, 1])
    for epoch, count in ((0, 2), (1, 4)):
        circles, = (line for line in plot_sweep(f, 0., epoch).axes[3].lines if line.get_label() == "a mode enters")
        assert np.allclose(circles.get_xdata(), f.enter_ixt[epoch, :count])


@pytest.mark.parametrize("relevance, copula, side", [("twin", False, "a"), ("twin", True, "b"), ("paired", False, "b"),
                                                     ("labels", False, "a")])
def test_timeline_frames(runs, relevance, copula, side):
    f = timeline_frames(runs, relevance=relevance, copula=copula, side=side)
    t = analyze(*runs, copula=copula, progress=False)
    if side == "a" or relevance != "labels":
        assert np.allclose(f.excess[-1, :4], t.arrays[-1][f"test_{relevance}_excess"][:4], rtol=1e-6)
    assert f.epochs == [0, 1, 2] and len(plot_sweep(f, 0., epoch=1, unit="bits").axes) == 4


@pytest.mark.parametrize("layer", ["backbone", "head"])
@pytest.mark.parametrize("part, side", [("test", "a"), ("test", "b"), ("train", "a")])
def test_the_corner_is_that_of_the_timeline(runs, timeline, layer, part, side):
    """Rate, shortfall and share as the timeline has them; the star lies on the curve that is drawn, where the slider's
    β leads to it."""
    t = timeline
    f, table = timeline_frames(t, part, side, layer=layer), t.of(layer).table
    a = {n: getattr(f.corners, n).numpy() for n in ("ixt", "best", "iyt", "log_excess")}
    assert f.pair.layer == layer and np.isfinite(a["ixt"]).all() and f.corners.why == [""]*3
    assert (np.allclose(a["ixt"], table[f"{part}_corner_rate_{side}"])
            and np.allclose(a["best"] - a["iyt"], table[f"{part}_shortfall_nats_{side}"], atol=1e-9))
    assert np.allclose((a["best"] - a["iyt"])/a["best"], table[f"{part}_shortfall_{side}"], atol=1e-9)
    for i in range(3):
        on_curve = np.interp(a["ixt"][i], f.ixt[i], f.iyt[i])
        assert abs(on_curve - a["best"][i]) < 1e-3*a["best"][i] and a["iyt"][i] <= a["best"][i]
        assert (f.excess[i] < 10**a["log_excess"][i]).sum() >= 4            # modes 1 to K − 1 are in
        assert np.interp(a["log_excess"][i], f.log_excess,
                         f.ixt[i]) == pytest.approx(a["ixt"][i], rel=1e-6)


@pytest.mark.parametrize("unit, factor", [("nats", 1), ("bits", 1/np.log(2))])
def test_the_corner_on_paper(runs, unit, factor):
    "Star and triangle in the plane and in its enlargement, at the frames' numbers; the numbers in the title."
    f = timeline_frames(runs)
    plane = plot_sweep(f, 0., epoch=1, unit=unit).axes[3]
    rate, best, told = (float(getattr(f.corners, n)[1])*factor for n in ("ixt", "best", "iyt"))
    near, = plane.child_axes
    for ax in (plane, near):
        at = {line.get_marker(): (line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines
              if line.get_marker() in "*v"}
        assert at["*"] == pytest.approx((rate, best)) and at["v"] == pytest.approx((rate, told))
    low, high = near.get_ylim()
    assert low < told < best < high and (best - told)/(high - low) > .3                       # large enough to be seen
    title = plane.get_title(loc="left").replace("\n", " ")
    assert (title == corner_words(f, 1, unit) and f"{best - told:.2g} {unit}" in title
            and f"{100*(best - told)/best:.1f} %" in title)


def test_both_kinds_of_sweep_are_frames():
    "Arrays and fields by name, beside the typed ones; a sample has every class."
    x, y = RNG.normal(size=(90, 4)), np.arange(90) % 3
    f, d = gaussian_frames(GaussianIB.fit(x, x + RNG.normal(size=x.shape)), x, y), discrete_frames(np.eye(3)/6 + 1/18)
    assert isinstance(f, BetaFrames) and isinstance(d, BetaFrames) and isinstance(f, GaussianFrames)
    assert f.arrays["ixt"] is f.ixt and f.arrays["corner_best"] is f.corners.best and f.info["k1"] == f.k1 == 2
    assert d.info["kind"] == "discrete" and d.arrays["hard"] is d.hard and "labels" not in d.arrays
    few = f.sample(6)
    assert few.labels.bincount().tolist() == [2, 2, 2] and few.variates.shape[1] == len(few.noise) == 6
    assert torch.equal(few.ixt, f.ixt) and repr(few) == repr(f)


def test_frames_by_key(frames):
    "Every array has one key, and the key of each says what it is of."
    arrays = frames.arrays
    assert arrays["test/b/paired/means"] is frames.modes["test", "b", "paired"].mode_means
    assert arrays["chosen/train/a/unit"] is frames.few.views["train", "a"].unit
    assert arrays["train/labels"] is frames.views.labels["train"]
    assert arrays["train/b/cosines"] is frames.cosines["train", "b"]
    assert len(arrays) == 2*(1 + 2*4)*2 + 2*2*1 + 2*2*3*5
    assert frames.info["runs"] == frames.paths and frames.info["chosen"] == frames.chosen


def test_why_there_is_no_corner(runs, tmp_path):
    x, y = RNG.normal(size=(200, 6)), np.arange(200) % 3
    x[:, :3] += 3*np.eye(3)[y]
    twin, noise = x @ orthogonal(6) + .5*RNG.normal(size=x.shape), RNG.normal(size=x.shape)
    g, unrelated = GaussianIB.fit(x, twin), GaussianIB.fit(x, noise)
    cases = [(timeline_frames(runs, relevance="labels"), "at most K−1 modes"),
             (timeline_frames(runs, relevance="paired"), "at most K−1 modes"),
             (gaussian_frames(g, x), "without labels"),
             (gaussian_frames(GaussianIB.from_rho([.9, .5]), labels=[0, 1]), "without features"),
             (gaussian_frames([unrelated, g], [x, x], y),
              f"only {unrelated.transitions().significant} of the first 2 modes")]
    for f, why in cases:
        assert (torch.isnan(f.corners.ixt[0]) and torch.isnan(f.corners.log_excess[0])
                and why in f.corners.why[0] and corner_words(f, 0).startswith("no corner: "))
    both = cases[-1][0]
    assert both.corners.why[1] == "" and torch.isfinite(both.corners.ixt[1])
    plane = plot_sweep(cases[0][0], 0.).axes[3]
    assert ("no corner" in plane.get_title(loc="left") and not plane.child_axes
            and not [line for line in plane.lines if line.get_marker() in "*v"])


def test_a_hidden_corner_says_so():
    "Only class modes can be seen: the corner is where noise would hide the next one."
    g, y = torch.Generator().manual_seed(0), torch.arange(300) % 4
    x, z = (torch.eye(4, 4, dtype=torch.float64)[y]*4 + torch.randn(300, 4, generator=g, dtype=torch.float64)
            for _ in range(2))
    f = gaussian_frames(GaussianIB.fit(x, z), x, y)
    assert f.corners.hidden == [True] and "where noise would hide the next mode" in corner_words(f)


def test_track_clusters_keeps_numbers():
    "A sweep whose clusters are renumbered at random at every β gives the same tracks."
    pxy = np.kron(np.eye(3), [[3., 1], [1, 3]]) + .2
    pxy /= pxy.sum()
    curve = DiscreteIB(pxy).curve(np.linspace(1.1, 12, 25))
    enc = merge_clusters(curve.encoder, curve.decoder)
    tracks = track_clusters(enc, pxy.sum(1))
    placed = lambda e, t: np.stack([[ei[x, ti == n].sum() for n in range(tracks.max() + 1)] for ei, ti in zip(e, t)
                                    for x in range(6)])
    shuffled = np.stack([e[:, RNG.permutation(e.shape[1])] for e in enc])
    again = track_clusters(shuffled, pxy.sum(1))
    same = placed(shuffled, again).reshape(25, 6, -1).argmax(2)
    for a, b in zip(placed(enc, tracks).reshape(25, 6, -1).argmax(2), same):
        assert ((a[:, None] == a) == (b[:, None] == b)).all()     # the same partitions
    assert ((np.diff([len(set(t[t >= 0])) for t in tracks]) >= 0).all()
            and all(len(set(t[t >= 0])) == (t >= 0).sum() for t in tracks))


def test_merge_clusters():
    enc, dec = np.array([[[.5, .3, .2], [.1, .1, .8]]]), np.array([[[.4, .6], [.4, .6], [.9, .1]]])
    assert np.allclose(merge_clusters(enc, dec), [[[.8, 0, .2], [.2, 0, .8]]])


def test_discrete_frames():
    f = discrete_frames(DiscreteIB.from_counts([[30, 10, 0], [28, 12, 0], [0, 5, 40], [0, 0, 0]]), names_x=list("abcd"))
    assert (torch.allclose(f.encoder.sum(2), torch.ones(1, dtype=torch.float64))
            and torch.allclose(f.weight.sum(1), torch.ones(1, dtype=torch.float64)))
    assert f.certified == 121 and sorted(f.order.tolist()) == [0, 1, 2, 3]
    assert f.iyt[0, -1] <= f.information + 1e-9 and plot_sweep(f, 1.).axes
    with pytest.raises(InputError, match="names_x"): discrete_frames(np.eye(3)/3, names_x=["a"])


# ---------------------------------------------------------------- pages

def test_pack_round_trip():
    arrays = {"float": RNG.normal(size=(30, 40)), "inf": np.array([1., np.inf]), "small": np.arange(3),
              "large": np.array([70, 60000]), "torch": torch.arange(5.), "zeros": np.zeros(600),
              "empty": np.zeros((0, 2)),
              "larger": np.array([5, 70000, 99999]), "bool": np.array([True, False]),
              "a/excess": np.geomspace(1e-4, 1e5, 600), "rounded": np.geomspace(1e-4, 1e5, 600)}
    info, out = unpack_arrays(pack_arrays([({"a": [1, None, "ψ"]}, arrays), ({}, {})]))[0]
    assert info == {"a": [1, None, "ψ"]} and set(out) == set(arrays)
    for k, v in arrays.items():
        step = np.abs(v).max()/65534*1.01 if k in ("float", "rounded") else 1e-6
        assert np.allclose(out[k], np.asarray(v), atol=step) and out[k].shape == tuple(v.shape)
    assert np.allclose(out["a/excess"], arrays["a/excess"], rtol=1e-6,
                       atol=0), "what is drawn on a logarithmic axis keeps its digits"
    with pytest.raises(InputError, match="ids must be integers"): pack_arrays([({}, {"ids": np.array([-1, 3])})])


def test_what_is_read_as_a_number_keeps_its_digits():
    """Information of sixty modes at three checkpoints: on its linear axis a first hundredth of a nat is not to be seen,
    but it is told in words and in the table."""
    g = GaussianIB.from_rho(np.linspace(.9999, .95, 60))
    f = gaussian_frames([g]*3, epochs=[0, 1, 2])
    (_, out), = unpack_arrays(sweep_payload(f))
    for name in ("ixt", "iyt", "enter_ixt", "enter_iyt"):
        assert np.allclose(out[name], getattr(f, name), rtol=1e-6, atol=0), name
    assert (out["iyt"] <= out["ixt"]*(1 + 1e-6)).all() and f.ixt.max() > 50 and f.ixt[f.ixt > 0].min() < .1


def test_payload_is_what_frames_hold(frames):
    (info, out), = unpack_arrays(checkpoint_payload([frames], limit=50))
    assert "runs" not in info                                                    # a page tells no path of this machine
    assert (out["test/labels"].shape == (50,) and out["test/a/points"].shape == (3, 50, 2)
            and info["epochs"] == [0, 1, 2])
    assert np.allclose(out["test/a/means"], frames.views.in_units(50).views["test", "a"].means, atol=1e-3)
    (_, modes), = unpack_arrays(checkpoint_payload([frames], only_modes=True))
    assert set(modes) == {k for k in out if k.removeprefix("chosen/").count("/") == 3}
    (_, chosen), = unpack_arrays(checkpoint_payload([frames], only_chosen=True))
    assert chosen and all(k.startswith("chosen/") for k in chosen)


def test_fragment_needs_nothing_from_elsewhere(timeline):
    import re
    t = timeline
    page = page_document("Title & <more>", timeline_fragment(t))
    assert ("<title>Title &amp; &lt;more&gt;" in page and not re.search(r'(src|href|import)\s*=\s*"(?!data:)', page)
            and "http" not in re.sub(r"[A-Za-z0-9+/=]{200,}", "", page).replace("http-equiv", ""))
    # the same input gives the same page
    assert page == page_document("Title & <more>", timeline_fragment(t))
    one, both = len(timeline_fragment(t.of("backbone"))), len(timeline_fragment(t))
    # both layers share the script
    assert one < both < 2*one and '"layers": ["backbone"]' in timeline_fragment(t.of("backbone"))


# ---------------------------------------------------------------- widgets

def test_checkpoint_explorer_state(runs):
    e = explore.CheckpointExplorer(*runs, progress=False)
    assert (not e.error and (e.epoch, e.part, e.encoder, e.layer, e.relevance, e.copula,
                             e.mode) == (2, "test", "a", "backbone", "twin", False, 1) and len(e.classes) == 4)
    seen = []
    e.observe(lambda change: seen.append(change["new"]), "epoch")
    e.epoch = 0
    e.epoch = 17                                                                 # the nearest checkpoint
    assert seen == [0, 2] and e.epoch == 2
    with pytest.raises(Exception, match="relevance"): e.relevance = "nonsense"
    assert e.figure().axes and list(e.table["epoch"]) == [0, 1, 2]


def test_other_features_are_made_when_asked_for(runs):
    e = explore.CheckpointExplorer(analyze(*runs, progress=False), progress=False)
    assert e.features_0 and not e.features_1 and not e.copula_0
    e.layer = "head"
    assert e.features_1 and not e.status and unpack_arrays(e.features_1)[0][0]["layer"] == "head"
    e.copula = True
    (info, arrays), = unpack_arrays(e.copula_1)
    # what the copula does not change is there already
    assert info["copula"] and "test/labels" not in arrays and "test/a/twin/excess" in arrays
    reference = analyze(*runs, layer="head", copula=True, progress=False)
    assert np.allclose(e.table["test_twin_count"], reference.table["test_twin_count"])
    e.classes = [0, 1]
    assert unpack_arrays(e.chosen)[0][0]["chosen"] == [0, 1] and not e.status
    e.classes = [0]
    assert "2 to 4" in e.status


def test_the_switch_keeps_the_place(runs, timeline, monkeypatch):
    """Checkpoint and mode stay, and β as far as a layer's grid allows, so that the way back leads to the same place;
    each layer is made once; the other layer is in the copy for a page."""
    made = []
    for name in ("checkpoint_frames", "timeline_frames"):
        real = getattr(explore, name)
        monkeypatch.setattr(explore, name, lambda *a, real=real, name=name, **k: made.append(name) or real(*a, **k))
    e, s = explore.CheckpointExplorer(*runs, progress=False), explore.BetaSweep(timeline, progress=False)
    e.epoch, e.mode, s.epoch = 1, 3, 1
    s.log_excess = float(s.frames.corners.log_excess[1])
    place = s.log_excess
    for w in (e, s):
        assert w.layers == ["backbone", "head"] and w.features_0 and not w.features_1
        for layer in ("head", "backbone", "head"):
            w.layer = layer
            assert w.epoch == 1 and not w.status and w.features_1
        assert "head" in repr(w)
    assert sorted(made) == ["checkpoint_frames"]*2 + ["timeline_frames"]*2
    grid = s.frames.log_excess
    assert s.log_excess in grid and abs(s.log_excess - place) == (grid - place).abs().min()
    assert (e.mode == 3 and s.frames.pair.layer == "head"
            and s.figure().get_suptitle().startswith("head, epoch 1"))
    assert (unpack_arrays(s.features_1)[0][0]["layer"] == "head"
            and np.allclose(unpack_arrays(s.features_1)[0][1]["corner_ixt"], s.frames.corners.ixt))
    s.layer = "backbone"
    assert s.log_excess == place
    end = s.log_excess = float(min(s.frames.log_excess[0], grid[0])) - 1                # outside both grids
    for layer in ("head", "backbone"):
        s.layer = layer
        assert s.log_excess == float(s.frames.log_excess[0]) != end and s.beta == 1 + 10**s.log_excess
    for w in (explore.CheckpointExplorer(*runs, progress=False), explore.BetaSweep(tuple(runs), progress=False)):
        one = w.html(20, picture=False, layers=["backbone"])
        # nothing was made for it
        assert w.features_1 == b"" and '"features_1":' not in one
        both = w.html(20, picture=False)
        assert ('"features_1":' in both and len(one) < len(both) < 2*len(one)
                and '"layers": ["backbone", "head"]' in both)


def test_the_layer_shown_first(runs, timeline, tmp_path):
    t = timeline
    for w in (explore.CheckpointExplorer(t, progress=False, layer="head"),
              explore.BetaSweep(tuple(runs), progress=False, layer="head"),
              explore.CheckpointExplorer(t.of("head"), progress=False),
              explore.BetaSweep(t.of("head"), progress=False)):
        assert (not w.error and w.layer == "head" and w.features_1 and not w.features_0
                and w.layers == ["backbone", "head"])
    none = make_runs(tmp_path, head=False)
    for w in (explore.CheckpointExplorer(*none, progress=False), explore.BetaSweep(tuple(none), progress=False)):
        assert w.layers == ["backbone"]
        w.layer = "head"
        assert (w.layer == "backbone" and "not recorded" in w.status and set(w._packed(20, w.layers)) == {"features_0"}
                and w.figure().axes)
    assert "not recorded" in explore.BetaSweep(tuple(none), progress=False, layer="head").error
    assert ("Only a pair of runs has layers" in explore.BetaSweep(np.eye(3)/3, layer="head").error
            and explore.BetaSweep(GaussianIB.from_rho([.9, .5])).layers == [])
    for w in (explore.CheckpointExplorer(*runs, progress=False, layer="middle"),
              explore.BetaSweep(tuple(runs), progress=False, layer="middle")):
        assert "one of backbone, head, got 'middle'" in w.error


def test_chosen_classes_and_the_switch(runs):
    "Those that nobody chose are each layer's own; those that somebody chose stay."
    e = explore.CheckpointExplorer(*runs, progress=False)
    own = {layer: checkpoint_frames(runs=runs, layer=layer).chosen for layer in ("backbone", "head")}
    for layer in ("head", "backbone"):
        e.layer = layer
        assert e.classes == own[layer]
    e.classes = [0, 3]
    e.layer = "head"
    assert (e.classes == [0, 3] and unpack_arrays(e.chosen)[0][0]["layer"] == "head"
            and unpack_arrays(e.chosen)[0][0]["chosen"] == [0, 3])


@pytest.mark.parametrize("bad", [[0], [0, 0], [0, 9], [0, 1, 2, 3, 4]])
def test_refused_classes_go_back(runs, bad, monkeypatch):
    "What was shown before is shown still, in the figure and in the copy for a page; nothing is projected for all."
    e = explore.CheckpointExplorer(*runs, progress=False)
    e.classes = [0, 3]
    packed = e.chosen
    e.classes = bad
    assert "2 to 4" in e.status and e.classes == [0, 3] and e.chosen == packed
    e.view = "chosen"
    assert e.figure().axes and e.html(20)
    e.view = "all"
    monkeypatch.setattr("ncib.frames.simplex_frames", lambda *a, **k: pytest.fail("projected"))
    assert e.figure().axes


def test_copula_timeline(runs):
    e = explore.CheckpointExplorer(analyze(*runs, copula=True, progress=False), progress=False)
    assert e.copula and "test/labels" in unpack_arrays(e.copula_0)[0][1] and not e.features_0


def test_compare(runs, tmp_path):
    t = [analyze(*runs, progress=False), analyze(*make_runs(tmp_path, epochs=(0, 2, 5), seed=3), progress=False)]
    e = explore.compare(*t, names=["one", "two"], progress=False)
    assert ([i["name"] for i, _ in unpack_arrays(e.features_0)] == ["one", "two"] and e.epoch == 5
            and set(e.table["pair"]) == {"one", "two"})
    e.epoch = 4
    assert e.epoch == 5 and len(e.figure().subfigs) == 2
    assert "same classes" in explore.compare(t[0], tuple(make_runs(tmp_path/"four", k=4, n=80)), progress=False).error
    assert "one for each pair" in explore.compare(*t, names=["one"], progress=False).error


def test_a_saved_timeline_knows_its_runs_from_anywhere(tmp_path, monkeypatch):
    (tmp_path/"here").mkdir(); (tmp_path/"elsewhere/below").mkdir(parents=True)
    make_runs(tmp_path/"here/runs")
    monkeypatch.chdir(tmp_path/"here")
    names = [f"runs/{p.name}" for p in sorted((tmp_path/"here/runs").iterdir())]
    analyze(*names, progress=False).save("runs/pair")
    assert Timeline.load("runs/pair").info["runs"] == names
    monkeypatch.chdir(tmp_path/"elsewhere/below")
    (tmp_path/"here/runs").rename(tmp_path/"elsewhere/moved")
    assert checkpoint_frames(Timeline.load("../moved/pair")).epochs == [0, 1, 2]


def test_sentences(runs, tmp_path):
    "Wrong input gives a widget that says what is wrong."
    def says(*args, **options): return explore.CheckpointExplorer(*args, progress=False, **options).error
    empty = Run.create(tmp_path/"empty", runs[0].classes, {"seed": 3}, {"fingerprint": "same"})
    other = make_runs(tmp_path/"other", fingerprint="other")
    no_head = make_runs(tmp_path/"no_head", head=False)
    assert "no checkpoint in common" in says(runs[0], empty)
    assert "different images" in says(runs[0], other[1])
    assert "given twice" in says(runs[0], runs[0])
    assert "no such run directory" in says(runs[0].path, tmp_path/"nowhere")
    assert ("two runs" in says(runs[0]) and "got int" in says(3) and "got list" in says([])
            and "abacus" in says(*runs, device="abacus"))
    gone = analyze(*runs, progress=False)
    assert "features are not there" in says(Timeline(gone.table, gone.arrays,
                                                     gone.info | {"runs": [str(tmp_path/"x"), str(tmp_path/"y")]}))
    e = explore.CheckpointExplorer(*no_head, progress=False)
    e.layer = "head"
    assert "not recorded" in e.status and e.layer == "backbone"
    for sentence in (says(3), e.status):
        assert sentence[0].isupper() and sentence.endswith(".") and "Traceback" not in sentence
    for broken in (explore.CheckpointExplorer(3), explore.BetaSweep(3)):
        for call in (broken.figure, broken.html, lambda: broken.table):
            with pytest.raises(InputError): call()


def test_one_checkpoint(tmp_path):
    e = explore.CheckpointExplorer(*make_runs(tmp_path, epochs=(7,)), progress=False)
    assert "only one checkpoint, epoch 7" in e.status and not e.error and e.figure().axes


def test_beta_sweep_state(runs):
    s = explore.BetaSweep(tuple(runs), progress=False)
    assert not s.error and s.epoch == 2 and s.beta == pytest.approx(1 + 10**s.log_excess)
    s.log_excess = 99.
    assert s.log_excess == pytest.approx(float(s.frames.log_excess[-1]))
    assert s.figure().axes and len(s.table) == 3*241
    s.epoch = 1
    for asked, shown in ((17, 2), (-3, 0), (1, 1)):
        s.epoch = asked
        assert s.epoch == shown and s.figure().get_suptitle().startswith(f"backbone, epoch {shown},")
    d = explore.BetaSweep(np.array([[.3, .1], [.1, .5]]))
    assert not d.error and isinstance(d.frames, DiscreteFrames) and len(d.table) == 121
    g = explore.BetaSweep(GaussianIB.from_rho([.9, .5]))
    assert g.view == "modes" and g.frames.simulated
    assert not explore.BetaSweep(analyze(*runs, progress=False), part="train", relevance="labels", progress=False).error


@pytest.mark.parametrize("source, words", [(3, "needs a GaussianIB"), (np.ones((2, 2)), "sum to 1"),
                                           (np.full((2, 2), .25), "independent"),
                                           (GaussianIB.from_rho([1., .5]), "perfectly correlated"),
                                           (GaussianIB.from_rho([0.]), "no mode"),
                                           (("/nowhere", "/neither"), "no such run")])
def test_beta_sweep_sentences(source, words): assert words in explore.BetaSweep(source, progress=False).error


def test_discrete_sweep_warnings_are_shown():
    s = explore.BetaSweep(np.eye(3)/3)
    assert "deterministic" in " ".join(s.frames.notes) and not s.error


@pytest.mark.parametrize("kind, head", [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_export_on_request(runs, kind, head, monkeypatch):
    sent = []
    for e in (explore.CheckpointExplorer(*runs, progress=False), explore.BetaSweep(GaussianIB.from_rho([.9, .5]))):
        monkeypatch.setattr(e, "send", lambda content, buffers=None: sent.append((content, buffers)))
        e._receive(e, {"type": "figure", "format": kind}, [])
        content, (data,) = sent.pop()
        assert content["name"].endswith(kind) and data.startswith(head)
        e._receive(e, {"type": "figure", "format": "exe"}, [])
        assert "png or pdf" in sent.pop()[0]["error"]
        e._receive(e, {"type": "something"}, [])
        assert not sent


def test_callbacks_from_threads(runs):
    """Many threads change the state and draw at once, with gradients on and off and NumPy's errors raised: each figure
    is whole, nothing leaks to other threads."""
    e = explore.CheckpointExplorer(*runs, progress=False)
    problems = []
    def work(seed):
        rng = np.random.default_rng(seed)
        try:
            with np.errstate(all="raise"), torch.set_grad_enabled(bool(seed % 2)):
                for _ in range(4):
                    e.epoch, e.layer, e.copula, e.mode = (int(rng.integers(3)), ("backbone", "head")[rng.integers(2)],
                                                          bool(rng.integers(2)), int(rng.integers(1, 5)))
                    assert e.figure().axes and torch.is_grad_enabled() == bool(seed % 2)
        except Exception as err: problems.append(err)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert not problems and not e.status


def test_no_pyplot(runs):
    "Drawing leaves pyplot's list of figures alone."
    import matplotlib.pyplot as plt
    before = plt.get_fignums()
    explore.CheckpointExplorer(*runs, progress=False).html(40)
    explore.BetaSweep(tuple(runs), progress=False).html(40)
    assert plt.get_fignums() == before


def test_copy_for_the_notebook(runs):
    e = explore.CheckpointExplorer(*runs, progress=False, page=40)
    bundle = e._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert ("application/vnd.jupyter.widget-view+json" in data and "data:image/png" in data["text/html"]
            and len(data["text/html"]) < 5e5)
    plain = explore.CheckpointExplorer(*runs, progress=False)._repr_mimebundle_()
    assert "text/html" not in (plain[0] if isinstance(plain, tuple) else plain)

