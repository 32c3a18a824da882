"""What everyday arrays do at every door: labels of all kinds, rows without a class, classes of one sample, arrays that
are read-only, on disk or in a table."""
import copy
import importlib
import inspect
import itertools
import math
import pkgutil
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanSquaredError, MetricCollection

import ncib
from ncib import core
from ncib.beta_frames import bottleneck_frames, gaussian_frames
from ncib.cca import canonical_correlations, class_pair_correlations, classes_with_samples
from ncib.coding import excess_rate, packing
from ncib.collapse import NeuralCollapse, SecondPass, collapse_metrics, collapse_metrics_from_stats
from ncib.copula import normal_scores
from ncib.core import InputError, as_tensor, check_features, check_labels
from ncib.data import noisy_labels, stratified_choice, stratified_split
from ncib.geometry import optimal_geometry
from ncib.gib import GaussianIB, fit_bottleneck, fit_bottlenecks, mode_means
from ncib.ib import ib_curve
from ncib.identifiability import class_mean_features
from ncib.layers import measure
from ncib.losses import SupConLoss, nt_xent_loss, supcon_loss
from ncib.probe import linear_probe, nearest_mean_accuracy
from ncib.runs import Run, array_runs
from ncib.similarity import EncoderStats, pair_intervals, without_lone_rows
from ncib.simplex import class_plane, simplex_view, stratified_rows
from ncib.stats import ClassStats, JointStats, class_means, nearest_class_mean
from ncib.timeline import analyze
from show_api import public_members

K, D, N = 3, 6, 60
G = np.random.default_rng(0)
Y = np.concatenate([np.arange(K), G.integers(K, size=N - K)])
X = 2*G.standard_normal((K, D))[Y] + G.standard_normal((N, D))
TWIN = X@G.standard_normal((D, D)) + G.standard_normal((N, D))
FITTED, TURNED, PROBE = GaussianIB.fit(X, TWIN), GaussianIB.fit(TWIN, X), linear_probe(X, Y)
STATS = ClassStats(K, D).update(X, Y)
JOINT = JointStats(D, D, num_classes=K).update(X, TWIN, Y)


def unit(x): return F.normalize(as_tensor(x).double(), dim=1)
def metric(x, y):
    m = NeuralCollapse(K, D); m.update(x, y)
    return m.compute()
def saved(x, y, path):
    run = Run.create(path, list("abc")); run.save_features(0, x, y, x, y)
    return run.features(0).train_labels, run.features(0).test_labels
def measured(x, y):
    x = as_tensor(x).double()
    return measure(nn.Sequential(nn.Identity()), [(x[:20], y[:20]), (x[20:], y[20:])], "0", K, progress=False).to_dict()


TAKE = { # by qualified name, what each public function makes of features and labels
    "losses.supcon_loss": lambda x, y, p: supcon_loss(unit(x), y),
    "losses.SupConLoss.forward": lambda x, y, p: SupConLoss()(unit(x), y),
    "stats.class_means": lambda x, y, p: class_means(x, y).means,
    "stats.ClassStats.update": lambda x, y, p: ClassStats(K, D).update(x, y).state_dict(),
    "collapse.collapse_metrics": lambda x, y, p: collapse_metrics(x, y).to_dict(),
    "collapse.collapse_metrics_from_stats": lambda x, y,
        p: collapse_metrics_from_stats(STATS, batches=[(x, y)]).to_dict(),
    "collapse.SecondPass.update": lambda x, y,
        p: SecondPass(collapse_metrics_from_stats(STATS)).update(x, y).result().to_dict(),
    "metric.NeuralCollapse.update": lambda x, y, p: metric(x, y),
    "metric.NeuralCollapse.forward": lambda x, y, p: NeuralCollapse(K, D)(x, y),
    "layers.measure": lambda x, y, p: measured(x, y),
    "probe.linear_probe": lambda x, y, p: linear_probe(x, y).weight,
    "probe.LinearProbe.accuracy": lambda x, y, p: PROBE.accuracy(x, y),
    "cca.classes_with_samples": lambda x, y, p: classes_with_samples(y, torch.as_tensor(X)),
    "cca.class_pair_correlations": lambda x, y, p: class_pair_correlations(x, TWIN, y)[0].rho[:K - 1],
    "gib.GaussianIB.fit_labels": lambda x, y, p: GaussianIB.fit_labels(x, y).rho,
    "gib.GaussianIB.fit_class_paired": lambda x, y, p: GaussianIB.fit_class_paired(x, TWIN, y).rho,
    "gib.GaussianIB.class_mean_gap": lambda x, y, p: FITTED.class_mean_gap(x, y).share,
    "gib.GaussianIB.corner_shortfall": lambda x, y, p: FITTED.corner_shortfall(x, y, groups=4).nats,
    "gib.GaussianIB.pair_story": lambda x, y, p: [c.nats for c in FITTED.pair_story(TURNED, y, groups=4)[1:]],
    "gib.GaussianIB.nc1_identity": lambda x, y, p: GaussianIB.nc1_identity(x, y).nc1,
    "gib.fit_bottleneck": lambda x, y, p: fit_bottleneck("labels", x, TWIN, y).rho,
    "gib.fit_bottlenecks": lambda x, y, p: [g.rho for g in fit_bottlenecks(x, TWIN, y).values()],
    "coding.excess_rate": lambda x, y, p: excess_rate(x, y).excess,
    "coding.packing": lambda x, y, p: packing(x, y).rho2,
    "simplex.simplex_view": lambda x, y, p: simplex_view(x, y).points,
    "simplex.class_plane": lambda x, y, p: class_plane(x, y),
    "simplex.stratified_rows": lambda x, y, p: stratified_rows(y, 10),
    "gib.mode_means": lambda x, y, p: mode_means(FITTED, x, y),
    "beta_frames.gaussian_frames": lambda x, y, p: gaussian_frames(FITTED, x, y, steps=5).arrays["labels"],
    "beta_frames.bottleneck_frames": lambda x, y, p: bottleneck_frames(FITTED, x, y, steps=5).arrays["labels"],
    "data.stratified_split": lambda x, y, p: stratified_split(y),
    "data.stratified_choice": lambda x, y, p: stratified_choice(y, tuple("abc"), 10),
    "data.noisy_labels": lambda x, y, p: noisy_labels(y, .5, K),
    "probe.nearest_mean_accuracy": lambda x, y, p: nearest_mean_accuracy(as_tensor(x), y, as_tensor(x), y, K),
    "runs.Run.save_features": saved,
    "runs.array_runs": lambda x, y, p: array_runs(x, TWIN, y)[0].features(1).part("test", "features")[1],
    "identifiability.class_mean_features": lambda x, y, p: class_mean_features(x, y),
    "similarity.EncoderStats.of": lambda x, y, p: EncoderStats.of(x, y).counts.sum(0),
    "similarity.pair_intervals": lambda x, y, p: pair_intervals(x, TWIN, y, groups=4)["shortfall_a"],
    "similarity.without_lone_rows": lambda x, y,
        p: without_lone_rows(x, TWIN, y, JOINT, (torch.zeros(N), torch.ones(N)))[0].stats.counts,
    "stats.JointStats.update": lambda x, y, p: JointStats(D, D, num_classes=K).update(x, TWIN, y).stats.counts,
}
WITHOUT_FEATURES = {"gib.GaussianIB.pair_story", "simplex.stratified_rows", "data.stratified_split",
                    "data.stratified_choice", "data.noisy_labels", "cca.classes_with_samples"}
everywhere = pytest.mark.parametrize("name", TAKE)


def numbers(v):
    "All numbers in a result, one after the other."
    if v is None: return []
    if isinstance(v, dict): v = list(v.values())
    if isinstance(v, (list, tuple)): return [n for w in v for n in numbers(w)]
    return np.asarray(as_tensor(v).detach().cpu()).ravel().astype(float).tolist()


def test_no_function_that_takes_labels_is_left_out():
    seen = set()
    for m in pkgutil.iter_modules(ncib.__path__):
        if m.name == "explore": continue                                  # hands its labels to gaussian_frames
        module = importlib.import_module(f"ncib.{m.name}")
        for public in getattr(module, "__all__", ()):
            it = getattr(module, public)
            if not getattr(it, "__module__", "").startswith("ncib"): continue
            members = ({f"{public}.{k}": getattr(it, k) for k in public_members(it)}
                       if inspect.isclass(it) else {public: it})
            for name, f in members.items():
                if not callable(f) or inspect.isclass(f): continue
                for p in inspect.signature(f).parameters.values():
                    if p.name.endswith("labels") and p.annotation is not GaussianIB: seen.add(f"{m.name}.{name}")
    through_batches = {"collapse.collapse_metrics_from_stats", "layers.measure"}
    # through array_runs and EncoderStats.of
    seen -= {"timeline.analyze", "runs.read_runs", "compare.compare"}
    assert seen - {"core.as_labels", "core.check_labels", "core.count_classes"} == set(TAKE) - through_batches


def read_only(a): a = a.copy(); a.flags.writeable = False; return a
ACCEPTED = {
    "list": Y.tolist(), "list of NumPy integers": list(Y), "tuple": tuple(Y.tolist()),
    "list of tensors": list(torch.as_tensor(Y)), "uint8": Y.astype(np.uint8), "uint64": Y.astype(np.uint64),
    "int16": Y.astype(np.int16),
    "big-endian": Y.astype(">i4"), "backwards in memory": Y[::-1].copy()[::-1], "every second": np.repeat(Y, 2)[::2],
    "read-only": read_only(Y), "objects": Y.astype(object),
    "torch int64": torch.as_tensor(Y), "torch uint8": torch.as_tensor(Y.astype(np.uint8)),
    "torch int32, every second": torch.as_tensor(np.repeat(Y, 2).astype(np.int32))[::2],
    "pandas": pd.Series(Y), "pandas Int64": pd.Series(Y, dtype="Int64"),
    "pandas category": pd.Series(Y).astype("category"), "column of a table": pd.DataFrame({"y": Y, "z": "a"})["y"],
}
INT, NAMES = r"must be integers, got ", r"numpy\.unique\(\w*labels\w*, return_inverse=True\)\[1\]"
REFUSED = {
    "strings": (np.array(list("abc"))[Y], INT + ".*" + NAMES),
    "list of strings": (list("abc")*20, INT + "a list of str.*" + NAMES),
    "objects that are strings": (np.array(list("abc"), dtype=object)[Y], INT + ".*" + NAMES),
    "pandas strings": (pd.Series(list("abc"))[Y], INT + ".*" + NAMES),
    "pandas category of strings": (pd.Series(list("abc")*20).astype("category"), INT + ".*" + NAMES),
    "bool": (Y > 0, INT + r'bool.*labels\w*\.astype\("int64"\)'),
    "torch bool": (torch.as_tensor(Y > 0), INT + r"bool.*labels\w*\.long\(\)"),
    "list of bool": ((Y > 0).tolist(), INT + "bool"),
    "whole floats": (Y.astype(float), INT + r'float64.*labels\w*\.astype\("int64"\)'),
    "torch floats": (torch.as_tensor(Y).float(), INT + r"float32.*labels\w*\.long\(\)"),
    "pandas floats": (pd.Series(Y.astype(float)), INT + r"float64.*\.astype"),
    "pandas with a gap": (pd.Series([None, *Y[1:]], dtype="Int64"), INT + "float64"),
    "one-hot": (np.eye(K, dtype=int)[Y], r"shape \(60, 3\).*numpy.argmax\(\w*labels\w*, 1\)"),
    "torch one-hot": (torch.eye(K)[torch.as_tensor(Y)], r"shape \(60, 3\).*labels\w*\.argmax\(1\)"),
    "one column": (Y[:, None], r"shape \(60, 1\).*numpy.ravel\(\w*labels"), "too few": (Y[:-1], "wanted 60, got 59"),
}
try:
    import pyarrow
    ACCEPTED["pyarrow"] = pyarrow.array(Y)
    REFUSED["pyarrow strings"] = pyarrow.array(list("abc")*20), INT + ".*" + NAMES
except ImportError: pass


@everywhere
def test_integers_of_any_kind_are_the_same_labels(name, tmp_path):
    def take(y, i):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return numbers(TAKE[name](X, y, tmp_path/str(i)))
    # otherwise torch warns once in the life of a process
    torch.set_warn_always(True)
    try:
        want = take(Y, "int64")
        for i, y in enumerate(ACCEPTED.values()):
            if name == "layers.measure" and not hasattr(y, "shape"):
                continue         # a loader that collates gives tensors
            np.testing.assert_allclose(take(y, i), want, rtol=1e-9, atol=1e-12, err_msg=list(ACCEPTED)[i])
    finally: torch.set_warn_always(False)


@everywhere
def test_all_else_is_refused_with_what_came_and_the_way_out(name, tmp_path):
    for kind, (y, message) in REFUSED.items():
        array = isinstance(y, (np.ndarray, torch.Tensor))
        if kind == "too few" and name in WITHOUT_FEATURES or name == "layers.measure" and not array:
            continue
        with pytest.raises(InputError, match=message if name != "layers.measure"
                           else message.replace(r"\(60, ", r"\(20, ")
                           .replace("wanted 60, got 59", "wanted 40, got 39")):
            TAKE[name](X, y, tmp_path/kind)


@everywhere
def test_numbers_with_gaps_are_classes_or_are_refused_with_the_way_out(name, tmp_path):
    "Class numbers 0, 7 and 1000000000000: as good as 0, 1, 2, or one line; never a table of that size."
    far = np.array([0, 7, 10**12])[Y]
    try: got = numbers(TAKE[name](X, far, tmp_path/"a"))
    except InputError as e:
        assert any(t in str(e) for t in ("numpy.unique(labels, return_inverse=True)[1]", "integers in [0, 3), got max",
                                         "only classes that were measured, got class 7")), e
    else:
        if name == "simplex.stratified_rows" or name.startswith(("gib", "coding", "losses", "frames", "simplex")):
            np.testing.assert_allclose(got, numbers(TAKE[name](X, Y, tmp_path/"b")), rtol=1e-9, atol=1e-12)
    near = np.array([0, 7, 9])[Y]
    if name == "beta_frames.gaussian_frames":
        assert gaussian_frames(FITTED, X, near, steps=5).info["classes"] == ["0", "7", "9"]


@everywhere
def test_negative_labels_are_refused(name, tmp_path):
    if name.startswith("losses"): return                                  # there any integer is a class, but for −100
    with pytest.raises(InputError, match=r"got min -1; leave rows without a class out"): TAKE[name](X, Y - 1, tmp_path)


# --- arrays

def forms(path):
    stored = np.memmap(path/"x.bin", dtype=np.float64, mode="w+", shape=X.shape); stored[:] = X; stored.flush()
    np.save(path/"x.npy", X)
    table = pd.DataFrame(X, columns=list("abcdef"))
    return {"read-only": read_only(X), "memory map": np.memmap(path/"x.bin", dtype=np.float64, mode="r", shape=X.shape),
            "mapped .npy": np.load(path/"x.npy", mmap_mode="r"), "table": table,
            "table of Float64": table.astype("Float64"), "numbers as objects": X.astype(object),
            "big-endian": X.astype(">f8"), "columns backwards": read_only(X[:, ::-1].copy())[:, ::-1],
            "by columns": read_only(np.asfortranarray(X))}


FEATURES = {**{k: v for k, v in TAKE.items() if k not in WITHOUT_FEATURES},
    "canonical_correlations": lambda x, y, p: canonical_correlations(x, TWIN).rho, "GaussianIB.fit": lambda x, y,
            p: GaussianIB.fit(x, TWIN).rho, "GaussianIB.transform": lambda x, y, p: FITTED.transform(x, 3.),
    "copula": lambda x, y, p: GaussianIB.fit(x, TWIN, copula=True).rho, "normal_scores": lambda x, y,
            p: normal_scores(x), "nearest_class_mean": lambda x, y, p: nearest_class_mean(x, as_tensor(x)[:3]),
    "JointStats": lambda x, y, p: JointStats(D, D).update(x, x).covariance(), "class means": lambda x, y,
            p: nearest_class_mean(X, x), "weight": lambda x, y,
            p: collapse_metrics(X[:, :D], Y, weight=np.asarray(x)[:K]).nc3}


@pytest.mark.parametrize("name", FEATURES)
def test_features_that_are_read_only_on_disk_or_in_a_table(name, tmp_path):
    want = numbers(FEATURES[name](X, Y, tmp_path/"plain"))
    torch.set_warn_always(True)
    try:
        for kind, x in forms(tmp_path).items():
            if name == "normal_scores" and kind in ("table", "table of Float64", "numbers as objects"):
                x = check_features(x)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                np.testing.assert_allclose(numbers(FEATURES[name](x, Y, tmp_path/kind)), want, rtol=1e-7, atol=1e-10,
                                           err_msg=kind)
    finally: torch.set_warn_always(False)


def test_other_arguments_may_be_read_only():
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            optimal_geometry(read_only(np.array([.5, .3, .2])), .1)
            ib_curve(read_only(np.array([[.4, .1], [.1, .4]])), read_only(np.array([2., 5.])))
            FITTED.curve(read_only(np.array([2., 3.]))), FITTED.optimal_information(read_only(np.array([.1, .2])))
            GaussianIB.from_rho(read_only(np.array([.9, .5])))
            GaussianIB.from_covariance(*(read_only(np.array(c)) for c in (np.eye(2), .5*np.eye(2), np.eye(2))))
            collapse_metrics(X, Y, weight=read_only(X[:K]), bias=read_only(np.zeros(K)),
                             classes=read_only(np.arange(K)))
            excess_rate(X, Y, distortions=read_only(np.array([1., 2.])))
            simplex_view(X, Y, rows=read_only(np.arange(5)))
    finally: torch.set_warn_always(False)


def test_nothing_is_copied(tmp_path):
    for x in (read_only(X), forms(tmp_path)["memory map"], pd.DataFrame(X)):
        assert np.shares_memory(as_tensor(x).numpy(), np.asarray(x))


def test_features_with_views_are_refused_with_the_line_that_makes_rows():
    x = X.reshape(30, 2, D)
    with pytest.raises(InputError,
                       match=r"got shape \(30, 2, 6\); .* features.reshape\(-1, 6\), .* numpy.repeat\(labels, 2\)"):
        collapse_metrics(x, Y[:30])
    with pytest.raises(InputError, match=r"reshape\(-1, 6\)"): ClassStats(K, D).update(torch.as_tensor(x), Y[:30])


# --- rows without a class

SOME = np.where(np.arange(N) % 4 == 3, -100, Y)
KEPT = SOME >= 0
SPOILT = np.where(KEPT[:, None], X, np.nan)                                # what is left out may hold anything


@pytest.fixture
def fresh(monkeypatch): monkeypatch.setattr(core, "_warned", set())


@pytest.mark.parametrize("variant", ["out", "in"])
@pytest.mark.parametrize("options", [{}, dict(chunk_size=7), dict(singletons="zero"), dict(temperature=.005)])
def test_the_loss_of_the_rows_that_count(variant, options, fresh):
    z = unit(X); z[~torch.as_tensor(KEPT)] = torch.nan
    z.requires_grad_()
    kept = unit(X)[torch.as_tensor(KEPT)].requires_grad_()
    with pytest.warns(UserWarning, match="15 of 60 rows have the label ignore_index and are left out") as seen:
        loss = supcon_loss(z, SOME, variant=variant, **options)
        again = supcon_loss(z, SOME, variant=variant, **options)
    want = supcon_loss(kept, SOME[KEPT], variant=variant, **options)
    grad, want_grad = torch.autograd.grad(loss, z)[0], torch.autograd.grad(want, kept)[0]
    torch.testing.assert_close(loss, want, rtol=1e-12, atol=0); assert len(seen) == 1 and torch.equal(again, loss)
    torch.testing.assert_close(grad[torch.as_tensor(KEPT)], want_grad, rtol=1e-11, atol=1e-12)
    assert not grad[~torch.as_tensor(KEPT)].any()


def test_another_index_or_none(fresh):
    z, y = unit(X), np.where(KEPT, Y, 255)
    with pytest.warns(UserWarning, match="15 of 60"): loss = supcon_loss(z, y.astype(np.uint8), ignore_index=255)
    torch.testing.assert_close(loss, supcon_loss(z[torch.as_tensor(KEPT)], Y[KEPT]), rtol=1e-12, atol=0)
    assert torch.equal(supcon_loss(z, SOME, ignore_index=None), supcon_loss(z, y, ignore_index=None))
    # those that are ignored are not counted as lonely
    with pytest.raises(InputError, match="3 of 45 anchors"):
        supcon_loss(z, np.where(np.arange(N) < 3, np.arange(N) + 9, np.where(Y > 0, 1, 2)*KEPT - 100*~KEPT),
                    singletons="error")
    with pytest.warns(UserWarning, match="no anchor has a positive"):
        assert supcon_loss(z.requires_grad_(), np.full(N, -100)) == 0
    assert collapse_metrics(X, y, ignore_index=255).ignored == 15
    with pytest.raises(InputError, match="got min -100"): collapse_metrics(X, SOME, ignore_index=None)


def test_metrics_leave_them_out_and_count_them():
    want = collapse_metrics(X[KEPT], Y[KEPT], PROBE.weight, PROBE.bias)
    same = lambda got: [np.testing.assert_allclose(got[k], v, rtol=1e-9, atol=1e-12) for k, v in want.to_dict().items()
                        if got.get(k) is not None]
    for x in (SPOILT, SPOILT.astype(np.float32), torch.as_tensor(SPOILT)):
        m = collapse_metrics(x, SOME, PROBE.weight, PROBE.bias)
        assert m.ignored == 15 and "45 samples (15 ignored)" in repr(m) and int(m.counts.sum()) == 45
        if x.dtype != np.float32: assert len(same(m.to_dict())) == len(want.to_dict())
        else: assert abs(m.nc1/want.nc1 - 1) < 1e-5
    two = collapse_metrics(SPOILT, SOME, classes=[2, 0])
    assert two.ignored == 15 and abs(two.nc1 - collapse_metrics(X[KEPT], Y[KEPT], classes=[2, 0]).nc1) < 1e-12
    half = [ClassStats(K, D).update(SPOILT[i], SOME[i]) for i in (slice(0, 25), slice(25, None))]
    stats = half[0].merge(half[1]).update(SPOILT[~KEPT], SOME[~KEPT])      # a batch of nothing else
    assert int(stats.ignored) == 30 and stats.n == 45 and "ignored=30" in repr(stats)
    m = collapse_metrics_from_stats(stats, PROBE.weight, PROBE.bias, batches=[(SPOILT, SOME)])
    assert m.ignored == 30 and len(same(m.to_dict())) == len(want.to_dict())
    metric = NeuralCollapse(K, D)
    for i in range(0, N, 7): metric.update(SPOILT[i:i+7], SOME[i:i+7])
    same({k: float(v) for k, v in metric.compute().items()}); assert int(metric.stats.ignored) == 15
    loader = DataLoader(TensorDataset(torch.as_tensor(SPOILT), torch.as_tensor(SOME)), batch_size=16)
    m = measure(nn.Sequential(nn.Identity()), loader, "0", K, progress=False)
    assert m.ignored == 15 and len(same(m.to_dict())) == len(want.to_dict()) - 2
    spoilt = SPOILT.copy(); spoilt[20] = np.nan                            # row 20 counts
    for call in (lambda: collapse_metrics(spoilt, SOME), lambda: ClassStats(K, D).update(spoilt, SOME)):
        with pytest.raises(InputError, match="in 1 of 60 rows .first: row 20."): call()
    with pytest.raises(InputError, match="at least two classes|no sample"): collapse_metrics(SPOILT, np.full(N, -100))


def test_states_from_before_ignored_rows_were_counted(tmp_path):
    old = {k: v for k, v in STATS.state_dict().items() if k != "ignored"}
    assert ClassStats(K, D).load_state_dict(old).ignored == 0 and ClassStats.from_state(old).merge(STATS).n == 2*N
    stats = ClassStats(K, D).update(SPOILT, SOME); stats.save(tmp_path/"s.safetensors")
    assert ClassStats.load(tmp_path/"s.safetensors").ignored == 15


# --- classes of one sample

def test_one_sample_per_class_is_no_collapse():
    x, y = X[:5], np.arange(5)
    for measured in (lambda: collapse_metrics(x, y),
                     lambda: collapse_metrics_from_stats(ClassStats(5, D).update(x, y), batches=[(x, y)])):
        with pytest.warns(UserWarning, match=r"no class has two samples \(class 0, 1, 2, 3, 4\)"): m = measured()
        assert (all(math.isnan(v) for v in (m.nc1, m.nc1_quotient, m.cdnv, *m.within_spectrum))
                and len(m.within_spectrum) == 4)
        assert all(math.isfinite(v) for k, v in m.to_dict().items() if v is not None
                   and k not in ("nc1", "nc1_quotient", "cdnv"))
    metric = NeuralCollapse(5, D); metric.update(x, y)
    with pytest.warns(UserWarning, match="no class has two samples"): assert metric.compute()["nc1"].isnan()


def test_classes_of_one_sample_among_larger_ones_are_named():
    y = Y.copy(); y[:2] = 7, 5
    with pytest.warns(UserWarning,
                      match="a single sample tells nothing of the variability within its class: class 5, 7;"):
        m = collapse_metrics(X, y, classes=[0, 1, 2, 5, 7])
    assert math.isnan(m.cdnv) and math.isfinite(m.nc1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isfinite(collapse_metrics(X, y, classes=[0, 1, 2]).cdnv)


NEED_WITHIN = ["gib.GaussianIB.fit_labels", "gib.GaussianIB.fit_class_paired", "gib.GaussianIB.corner_shortfall",
               "gib.GaussianIB.pair_story", "gib.GaussianIB.nc1_identity", "coding.excess_rate", "coding.packing"]


@pytest.mark.parametrize("name", NEED_WITHIN)
def test_what_rests_on_the_variability_within_classes_says_that_it_is_unknown(name, tmp_path):
    with pytest.raises(InputError, match="some class two samples, got one each.*nothing is known"):
        TAKE[name](X, np.arange(N), tmp_path)
    y = Y.copy(); y[:2] = 7, 5
    with pytest.warns(UserWarning,
                      match="a single sample tells nothing of the variability within its class: class 5, 7;"):
        TAKE[name](X, y, tmp_path)


def test_a_pair_with_one_test_image_of_a_class_is_analysed(tmp_path):
    """Named in a warning, cdnv unknown, all else measured; with one test image in every class there is nothing to
    measure."""
    y_test = np.array([0]*30 + [1]*29 + [2])
    pair = [Run.create(tmp_path/side, list("abc")) for side in "ab"]
    for run, x in zip(pair, (X, TWIN)): run.save_features(0, x, Y, x, y_test)
    with pytest.warns(UserWarning, match="within its class: class 2;"): t = analyze(*pair, progress=False)
    assert (t.table.filter(like="test_cdnv").isna().all(axis=None)
            and t.table.filter(regex="^test_nc1_[ab]$").notna().all(axis=None)
            and t.table.filter(like="train_cdnv").notna().all(axis=None))
    assert (t.verdict() and math.isfinite(t.table["test_shortfall_a"].iloc[0])
            == math.isfinite(t.table["train_shortfall_a"].iloc[0]))
    few = [Run.create(tmp_path/f"few-{side}", list("abc")) for side in "ab"]
    for run, x in zip(few, (X, TWIN)): run.save_features(0, x, Y, x[:3], np.arange(3))
    with pytest.raises(InputError, match="some class two samples, got one each|too few|at least"):
        analyze(*few, progress=False)


# --- rows that are not unit, images with views

def test_rows_that_are_not_unit_are_warned_of_once(fresh):
    z = 600*unit(X)
    with pytest.warns(UserWarning,
                      match=r"got norms from 600 to 600.*normalize\(z, dim=-1\), or check_norms=False") as seen:
        for _ in range(3): supcon_loss(z, Y)
    assert len(seen) == 1 and seen[0].filename == __file__


@pytest.mark.parametrize("call", [lambda z: supcon_loss(z, Y), lambda z: SupConLoss()(z, Y), nt_xent_loss])
def test_one_long_row_among_unit_ones(call, fresh):
    z = unit(X); z[7] *= 1.5
    with pytest.warns(UserWarning, match="norms from 1 to 1.5"): call(z)


@pytest.mark.parametrize("z", [unit(X), unit(X).float(), unit(X).half(), unit(X).bfloat16()])
def test_unit_rows_of_any_precision_and_rows_that_are_meant_pass(z, fresh):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        supcon_loss(z, Y), nt_xent_loss(z)
        supcon_loss(600*z, Y,
                    check_norms=False), SupConLoss(check_norms=False)(600*z, Y), nt_xent_loss(600*z, check_norms=False)
    assert not core._warned


def test_training_does_not_look(fresh, monkeypatch):
    from ncib import losses, train
    def look(*args): raise AssertionError("looked at")
    monkeypatch.setattr(losses, "_look", look)
    for loss in ("supcon", "supcon-in", "nt-xent"):
        train._loss(train.TrainConfig(loss=loss), unit(X), torch.as_tensor(Y[:N//2]), N//2)


class Event:
    "A CUDA event that is reached when it is told."
    reached = False
    def record(self, stream): pass
    def query(self): return Event.reached


def test_on_cuda_a_later_call_tells(fresh, monkeypatch):
    "The way of CUDA without one: rows that say they are there, an event that has not been reached, then has."
    from ncib import losses
    class There(torch.Tensor):
        is_cuda = True
    rows = (600*unit(X)).as_subclass(There)
    monkeypatch.setattr(losses, "Tensor", There); monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(losses, "_calls", itertools.count(1)); monkeypatch.setattr(losses, "_under_way", [])
    Event.reached = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(9): losses._look(rows, None, True)
    assert len(losses._under_way) == 4                                     # the calls 1, 2, 4, 8
    Event.reached = True
    with pytest.warns(UserWarning, match="norms from 600 to 600"): losses._look(rows, None, True)


def test_images_with_views_come_as_they_are():
    three = unit(X).reshape(30, 2, D).requires_grad_()
    rows = unit(X).requires_grad_()
    for variant in ("out", "in"):
        got, want = (supcon_loss(three, Y[:30], variant=variant),
                     supcon_loss(rows, np.repeat(Y[:30], 2), variant=variant))
        torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
        torch.testing.assert_close(torch.autograd.grad(got, three)[0].reshape(N, D), torch.autograd.grad(want, rows)[0],
                                   rtol=1e-11, atol=1e-13)
    assert torch.isclose(SupConLoss()(three, Y[:30]), supcon_loss(three, Y[:30]))
    assert torch.isclose(nt_xent_loss(three), supcon_loss(three, np.arange(30)), rtol=1e-12)
    for z, y, message in [(three, np.repeat(Y[:30], 2), "one entry per row: wanted 30, got 60"),
                          (three[:, :, None], Y[:30],
                           r"z must be \(n, d\) floats, or \(images, views, d\), got \(30, 2, 1, 6\)"),
                          (X, Y, "got ndarray"),
                          (three, None, r"got None; without classes, nt_xent_loss")]:
        with pytest.raises(InputError, match=message): supcon_loss(z, y)
    with pytest.raises(InputError, match=r"two views of every image, got \(images, views, d\) = \(20, 3, 6\)"):
        nt_xent_loss(unit(X).reshape(20, 3, D))


# --- the habits of torchmetrics

def test_compute_before_update_says_so():
    m = NeuralCollapse(K, D)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                                    # torchmetrics' own
        with pytest.raises(InputError, match="compute was called before update: NeuralCollapse has seen no samples$"):
            m.compute()
        m.update(X[:5], np.full(5, -100))
        with pytest.raises(InputError, match="no samples, only 5 ignored ones"): m.compute()
    m.update(X, Y); m.compute(); m.reset()
    assert m.stats.n == 0 and not m.stats.ignored and not m.update_called
    m.update(X, Y)
    np.testing.assert_allclose(m.compute()["nc1"], collapse_metrics(X, Y).nc1, rtol=1e-10)


def test_in_a_collection_with_and_without_shared_states():
    want = collapse_metrics(X, Y).to_dict()
    for groups in (True, False):
        both = MetricCollection({"a": NeuralCollapse(K, D), "b": NeuralCollapse(K, D, nc1_convention="trace")},
                                compute_groups=groups, prefix="test/")
        for i in range(0, N, 20): both.update(torch.as_tensor(X[i:i+20]), torch.as_tensor(Y[i:i+20]))
        got = both.compute()
        np.testing.assert_allclose([got["test/a_nc1"], got["test/b_nc1"], got["test/b_cdnv"]],
                                   [want["nc1"], K*want["nc1"], want["cdnv"]], rtol=1e-10)
        both(torch.as_tensor(X), torch.as_tensor(Y)); both.reset()
        assert all(m.stats.n == 0 for m in both.values())
    mixed = MetricCollection([NeuralCollapse(K, D), MeanSquaredError()], compute_groups=False)
    mixed.update(features=torch.as_tensor(X), labels=torch.as_tensor(Y), preds=torch.zeros(3), target=torch.ones(3))
    got = mixed.compute()
    np.testing.assert_allclose([got["nc1"], got["MeanSquaredError"]], [want["nc1"], 1], rtol=1e-10)


def test_state_moves_and_a_copy_reads_the_classifier_that_is_trained():
    head = nn.Linear(D, K).double()
    m = NeuralCollapse(K, D, classifier=head)
    m.update(X, Y)
    assert all(v.device.type == "meta" for v in NeuralCollapse(K, D).to("meta").metric_state.values())
    copies = MetricCollection([m]).clone(prefix="train/")
    with torch.no_grad(): head.weight.copy_(torch.as_tensor(PROBE.weight))
    np.testing.assert_allclose(copies.compute()["train/nc3"], collapse_metrics(X, Y, PROBE.weight).nc3, rtol=1e-9)
    module = nn.ModuleDict({"head": head, "metric": m})
    twin = copy.deepcopy(module)
    assert twin["metric"]._classifier[0] is twin["head"] is not head
    assert check_labels([], 0).dtype == torch.int64
