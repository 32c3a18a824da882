"""Collapse metrics: against the definitions evaluated in extended precision, invariances, streams, processes,
torchmetrics, faults."""
import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from torch import nn
from torchmetrics import MeanMetric

from ncib.collapse import NeuralCollapse, collapse_metrics, collapse_metrics_from_stats
from ncib.core import InputError
from ncib.stats import ClassStats

NUMBERS = ["nc1", "nc1_quotient", "cdnv", "equinorm", "equiangular", "max_angle_gap", "etf_error", "gnc2", "gnc2_mean",
           "nc3", "nc4", "ncc_accuracy", "participation_ratio"]


def definitions(x, y, weight=None, bias=0., weighted=False, rcond=1e-9):
    """The table of definitions, literally, with loops; sums in extended precision, the pseudo-inverse of the (d, K)
    matrix of means by NumPy."""
    K = y.max() + 1
    x = x.astype(np.longdouble)
    n = np.array([(y == k).sum() for k in range(K)])
    mu = np.stack([x[y == k].sum(0)/n[k] for k in range(K)])
    p = n/n.sum() if weighted else np.full(K, 1/K)
    M = mu - (p[:, None].astype(np.longdouble)*mu).sum(0)
    r = (x - mu[y]).astype(float)
    # of a single sample it is not known
    v = np.array([(r[y == k]**2).sum()/n[k] if n[k] > 1 else np.nan for k in range(K)])
    d2 = ((mu[:, None] - mu)**2).sum(2).astype(float)
    M = M.astype(float)
    roots = np.linalg.pinv((M*np.sqrt(p)[:, None]).T, rcond=rcond)                    # Σ_B⁺ = rootsᵀ roots
    norms = np.linalg.norm(M, axis=1)
    off = ~np.eye(K, dtype=bool)
    cos = (M@M.T/np.outer(norms, norms))[off]
    u = M/norms[:, None]
    energy = -np.log(np.linalg.norm(u[:, None] - u, axis=2)[off])
    G = M@M.T
    lam = np.linalg.svd(M*np.sqrt(p)[:, None], compute_uv=False)**2
    nearest = (((x - mu.mean(0))[:, None] - (mu - mu.mean(0)))**2).sum(2).argmin(1)
    out = dict(nc1=((r@roots.T)**2).sum()/len(x)/K, nc1_quotient=(r**2).sum()/len(x)/lam.sum(),
               cdnv=np.mean([(v[i] + v[j])/2/d2[i, j] for i in range(K) for j in range(K) if i != j]),
               equinorm=norms.std()/norms.mean(), equiangular=cos.std(), max_angle_gap=np.abs(cos + 1/(K - 1)).mean(),
               etf_error=np.linalg.norm(G/np.linalg.norm(G) - (np.eye(K) - 1/K)/np.sqrt(K - 1)), gnc2=energy.var(),
               gnc2_mean=energy.mean(),
               ncc_accuracy=(nearest == y).mean(), participation_ratio=lam.sum()**2/(lam**2).sum())
    if weight is not None:
        out["nc3"] = ((weight/np.linalg.norm(weight) - M/np.linalg.norm(M))**2).sum()
        out["nc4"] = (nearest != (x@weight.T.astype(np.longdouble) + bias).argmax(1)).mean()
    return out

def labels(g, n, K, sizes=None):
    return (np.repeat(np.arange(K), sizes) if sizes is not None
            else np.concatenate([np.arange(K), g.integers(K, size=n - K)]))

def etf(K, d, g): return (np.linalg.qr(g.standard_normal((d, K)))[0]@(np.eye(K) - 1/K)*np.sqrt(K/(K - 1))).T

def case(name):
    "features, labels"
    g = np.random.default_rng(sum(map(ord, name)))
    normal = g.standard_normal
    if name == "plain": y = labels(g, 400, 6); return normal((6, 16))[y] + normal((400, 16)), y
    if name == "exact ETF, noise 1e-6": y = labels(g, 0, 10, 60); return etf(10, 32, g)[y] + 1e-6*normal((600, 32)), y
    if name == "offset 3e3": y = labels(g, 400, 6); return 3e3 + normal((6, 16))[y] + 0.3*normal((400, 16)), y
    if name in ("covariance of condition 1e8", "features of condition 1e8"):
        y = labels(g, 600, 10)
        scale = np.logspace(0, -4 if name.startswith("cov") else -8, 512)
        rotation = np.linalg.qr(normal((512, 512)))[0]
        return ((normal((10, 512))[y] + normal((600, 512)))*scale)@rotation, y
    if name == "two classes": y = labels(g, 100, 2); return normal((2, 5))[y] + normal((100, 5)), y
    if name == "d < K-1": y = labels(g, 500, 12); return normal((12, 4))[y] + 0.5*normal((500, 4)), y
    if name == "imbalance 1:1000":
        y = labels(g, 0, 4, [5, 5000, 50, 500]); return normal((4, 8))[y] + normal((len(y), 8)), y
    if name == "one-sample classes":
        y = labels(g, 0, 5, [1, 40, 1, 30, 1]); return normal((5, 8))[y] + 0.2*normal((len(y), 8)), y

CASES = ["plain", "exact ETF, noise 1e-6", "offset 3e3", "covariance of condition 1e8", "features of condition 1e8",
         "two classes", "d < K-1", "imbalance 1:1000", "one-sample classes"]

def assert_close(got, want, rtol, atol=0.):
    for k in want:
        assert (abs(got[k] - want[k]) <= rtol*abs(want[k]) + atol
                or math.isnan(got[k]) and math.isnan(want[k])), f"{k}: {got[k]!r} is not {want[k]!r}"

@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype,rtol", [(np.float64, 1e-9), (np.float32, 1e-4)])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_definitions(name, dtype, rtol, weighted):
    x, y = case(name)
    x = x.astype(dtype)
    g = np.random.default_rng(3)
    w, b = g.standard_normal((y.max() + 1, x.shape[1])), g.standard_normal(y.max() + 1)
    got = collapse_metrics(x, y, w, b, global_mean="samples" if weighted else "classes").to_dict()
    # numbers that vanish at collapse are differences of numbers near 1, which float64 knows to about 1e-16
    assert_close(got, definitions(x, y, w, b, weighted), rtol, atol=2e-15)
    assert set(got) == set(NUMBERS)

@pytest.mark.parametrize("name", [c for c in CASES if "condition" not in c])
def test_the_stream_equals_the_definitions(name):
    x, y = case(name)
    w = np.random.default_rng(3).standard_normal((y.max() + 1, x.shape[1]))
    s = ClassStats(len(w), x.shape[1])
    batches = [(x[i:i+97], y[i:i+97]) for i in range(0, len(x), 97)]
    for f, l in batches: s.update(f, l)
    assert_close(collapse_metrics_from_stats(s, w, batches=batches).to_dict(), definitions(x, y, w), 1e-9, atol=2e-15)

def test_means_where_the_features_hardly_vary():
    "The class means live in directions of 1e-6 of the features' length; float32 products alone would lose them."
    g = np.random.default_rng(5)
    y = labels(g, 3000, 4)
    x = np.hstack([1e4*g.standard_normal((3000, 40)), 0*g.standard_normal((3000, 3))])
    for k in range(4): x[y == k, :40] -= x[y == k, :40].mean(0)
    x[:, 40:] = 1e-2*(g.standard_normal((4, 3))[y] + g.standard_normal((3000, 3)))
    x = x@np.linalg.qr(g.standard_normal((43, 43)))[0]
    single = x.astype(np.float32)
    assert_close(collapse_metrics(single, y).to_dict(), definitions(single, y), 1e-4)

@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_is_that_of_the_same_numbers_in_float64(dtype):
    x, y = case("plain")
    x = torch.as_tensor(x).to(dtype)
    w = np.random.default_rng(0).standard_normal((6, 16))
    assert_close(collapse_metrics(x, y, w).to_dict(), collapse_metrics(x.double(), y, w).to_dict(), 1e-5)

def test_exact_collapse_gives_zeros():
    y = labels(None, 0, 8, 12)
    x = np.eye(8)[y]
    m = collapse_metrics(x, y, weight=np.eye(8) - 1/8)
    assert m.nc1 == m.nc1_quotient == m.cdnv == m.nc4 == 0 and m.ncc_accuracy == 1 and m.rank == 7
    assert (max(m.equinorm, m.equiangular, m.max_angle_gap, m.etf_error, m.gnc2, m.nc3) < 1e-14
            and abs(m.participation_ratio - 7) < 1e-12)

def test_rank_is_cut_and_reported():
    g = np.random.default_rng(0)
    y = labels(g, 300, 7)
    # seven means in a plane, exact noise-free
    plane = g.standard_normal((7, 2))@g.standard_normal((2, 10))
    noise = g.standard_normal((300, 10))
    for k in range(7): noise[y == k] -= noise[y == k].mean(0)
    x = plane[y] + noise
    m = collapse_metrics(x, y)
    assert m.rank == 2
    assert_close(m.to_dict(), definitions(x, y), 1e-9)
    twins = np.hstack([x, x, np.zeros((300, 3))]).astype(np.float32)                    # duplicated and dead columns
    assert collapse_metrics(twins[:, :23], y).rank <= 6

def test_total_scatter_splits_exactly_with_sample_weights():
    x, y = case("imbalance 1:1000")
    m = collapse_metrics(x, y, global_mean="samples")
    within, total = m.nc1_quotient*m.between_spectrum.sum(), x.var(0).sum()
    assert abs(within + m.between_spectrum.sum() - total) < 1e-12*total
    np.testing.assert_allclose(m.centre, x.mean(0), atol=1e-12)
    np.testing.assert_allclose(collapse_metrics(x, y).centre, m.class_means.mean(0), atol=1e-12)

def test_spectra():
    x, y = case("plain")
    m = collapse_metrics(x, y)
    means = np.stack([x[y == k].mean(0) for k in range(6)])
    B = np.cov(means.T, ddof=0)
    W = (x - means[y]).T@(x - means[y])/len(x)
    np.testing.assert_allclose(m.between_spectrum, np.linalg.eigvalsh(B)[::-1][:5], rtol=1e-10)
    V = np.linalg.eigh(B)[1][:, -5:]
    np.testing.assert_allclose(m.within_spectrum, np.linalg.eigvalsh(V.T@W@V)[::-1], rtol=1e-10)
    u = (means - means.mean(0))/np.linalg.norm(means - means.mean(0), axis=1)[:, None]
    np.testing.assert_allclose(m.cosines, u@u.T, atol=1e-12)

# --- invariances

problem = dict(seed=st.integers(0, 10_000), K=st.integers(2, 7), d=st.integers(2, 9), weighted=st.booleans(),
               spread=st.sampled_from([1e-3, 0.3, 2.]))

def draw(seed, K, d, spread):
    g = np.random.default_rng(seed)
    y = labels(g, 40 + K, K)
    return (g, g.standard_normal((K, d))[y] + spread*g.standard_normal((len(y), d)), y, g.standard_normal((K, d)),
            g.standard_normal(K))

def measured(x, y, w, b, weighted, drop=()):
    return {k: v for k, v in collapse_metrics(x, y, w, b, global_mean="samples" if weighted
                                              else "classes").to_dict().items() if k not in drop}

@settings(deadline=None, max_examples=25)
@given(**problem)
def test_rotation(seed, K, d, weighted, spread):
    g, x, y, w, b = draw(seed, K, d, spread)
    Q = np.linalg.qr(g.standard_normal((d, d)))[0]
    assert_close(measured(x@Q, y, w@Q, b, weighted), measured(x, y, w, b, weighted), 1e-7, 1e-9)

@settings(deadline=None, max_examples=25)
@given(scale=st.floats(1e-6, 1e6), **problem)
def test_scale(scale, seed, K, d, weighted, spread):
    _, x, y, w, b = draw(seed, K, d, spread)
    assert_close(measured(scale*x, y, w, scale*b, weighted), measured(x, y, w, b, weighted), 1e-7, 1e-9)

@settings(deadline=None, max_examples=25)
@given(offset=st.floats(-1e3, 1e3), **problem)
def test_translation(offset, seed, K, d, weighted, spread):
    g, x, y, w, b = draw(seed, K, d, spread)
    t = offset*g.standard_normal(d)
    assert_close(measured(x + t, y, w, b - w@t, weighted), measured(x, y, w, b, weighted), 1e-7, 1e-9)

@settings(deadline=None, max_examples=25)
@given(**problem)
def test_sample_order_and_class_names(seed, K, d, weighted, spread):
    g, x, y, w, b = draw(seed, K, d, spread)
    i, name = g.permutation(len(x)), g.permutation(K)
    back = np.argsort(name)
    assert_close(measured(x[i], name[y[i]], w[back], b[back], weighted), measured(x, y, w, b, weighted), 1e-9, 1e-12)

@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0, 64), max_size=8),
       shuffle=st.randoms(use_true_random=False))
def test_any_split_of_the_data(seed, cuts, shuffle):
    g, x, y, w, _ = draw(seed, 5, 6, 0.1)
    want = collapse_metrics(x + 100, y, w).to_dict()
    i = np.argsort(y, kind="stable") if seed % 2 else g.permutation(len(x))
    parts = ([p for p in np.split(i, sorted(c for c in cuts if c <= len(x))) if len(p)] if seed % 3
             else [i[k:k+1] for k in range(len(i))])
    shuffle.shuffle(parts)
    total = ClassStats(5, 6)
    for p in parts: total.merge(ClassStats(5, 6).update(x[p] + 100, y[p]))
    got = collapse_metrics_from_stats(total, w, batches=[(x[p] + 100, y[p]) for p in parts]).to_dict()
    assert_close(got, want, 1e-10, 1e-13)

# --- edges

def test_classes_are_left_out_on_purpose():
    x, y = case("plain")
    w, b = np.random.default_rng(0).standard_normal((6, 16)), np.arange(6.)
    keep = [4, 0, 3]
    some = np.isin(y, keep)
    want = collapse_metrics(x[some], np.searchsorted(sorted(keep), y[some]), w[sorted(keep)], b[sorted(keep)])
    got = collapse_metrics(x, y, w, b, classes=keep)
    assert_close(got.to_dict(), want.to_dict(), 1e-12, 1e-14)
    assert got.classes.tolist() == keep and got.counts.tolist() == [(y == k).sum() for k in keep]
    assert set(got.nearest_class_mean(x)) == set(keep)
    assert np.array_equal(got.nearest_class_mean(x[some]), np.array(sorted(keep))[want.nearest_class_mean(x[some])])
    s = ClassStats(6, 16).update(x[some], y[some])
    assert_close(collapse_metrics_from_stats(s, w, b, classes=keep, batches=[(x[some], y[some])]).to_dict(),
                 want.to_dict(), 1e-10, 1e-14)

def test_a_mean_at_the_centre_has_no_direction():
    m = collapse_metrics(np.array([[-1.], [-1.], [0.], [0.], [1.], [1.]]), [0, 0, 1, 1, 2, 2])
    assert m.cosines.tolist() == [[1, 0, -1], [0, 1, 0], [-1, 0, 1]]
    assert all(math.isfinite(v) for v in m.to_dict().values() if v is not None)

def test_rounding_gives_a_mean_at_the_centre_no_direction():
    g = np.random.default_rng(0)
    a, wide = g.standard_normal(7), g.standard_normal((3, 7))
    y = np.repeat([0, 1, 2], 6)
    x = .1 + (np.array([1, -1, 0])[y, None]*a) + np.concatenate([wide, -wide]*3)
    s, metric = ClassStats(3, 7), NeuralCollapse(3, 7)
    for i in range(0, 18, 4):
        for v in (s, metric): v.update(torch.tensor(x[i:i+4]), torch.tensor(y[i:i+4]))
    for scale in (1., 1e-9, 1e9):
        m = collapse_metrics(scale*x, y)
        assert m.cosines[2].tolist() == [0, 0, 1] and m.gnc2_mean == pytest.approx(-math.log(2)/3)
    m = collapse_metrics_from_stats(s)
    assert m.cosines[2].tolist() == [0, 0, 1]
    want = (2*.5 + 4*.5)/6                                                   # |−1 + ½| and |0 + ½|
    for v in (m.max_angle_gap, metric.compute()["max_angle_gap"]): assert float(v) == pytest.approx(want, rel=1e-12)

@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e-9, 1e9, 1e19, 1e30])
def test_float32_beyond_the_range_of_its_squares(scale):
    x, y = case("plain")
    exact = 2.**round(math.log2(scale))                                      # a power of two rounds nothing
    w = np.random.default_rng(3).standard_normal((6, 16))
    want, got = (collapse_metrics(x.astype(np.float32)*np.float32(s), y, w).to_dict() for s in (1., exact))
    assert_close(got, want, 1e-5, 1e-9)

def test_two_equal_means_are_infinitely_close():
    m = collapse_metrics(np.array([[0., 1], [0, 3], [0, 1], [0, 3], [9, 2], [9, 2]]), [0, 0, 1, 1, 2, 2])
    assert m.cdnv == m.gnc2 == m.gnc2_mean == math.inf and m.rank == 1 and math.isfinite(m.nc1)

def test_the_bias_decides():
    y = np.array([0, 0, 1, 1])
    x = np.array([[1.], [1.2], [-1.], [-1.2]])
    w = np.array([[1.], [-1.]])
    assert collapse_metrics(x, y, w).nc4 == 0
    assert collapse_metrics(x, y, w, [9., 0.]).nc4 == 0.5 and collapse_metrics(x, y, -w).nc4 == 1

def test_kinds_in_and_out():
    x, y = case("plain")
    a, t = collapse_metrics(x, list(y)), collapse_metrics(torch.tensor(x, requires_grad=True), torch.as_tensor(y))
    assert (isinstance(a.class_means, np.ndarray) and isinstance(t.class_means, torch.Tensor)
            and isinstance(t.cosines, torch.Tensor))
    assert a.to_dict() == t.to_dict() and type(a.nc1) is float
    assert "nc1" in repr(a) and "| nc1 |" in a._repr_markdown_()
    with pytest.raises(AttributeError): a.nc1 = 0

def test_inputs_are_not_changed():
    x, y = case("plain")
    w = np.ones((6, 16)) + np.arange(6)[:, None]
    before = [v.copy() for v in (x, y, w)]
    collapse_metrics(x, y, w)
    assert all(np.array_equal(a, b) for a, b in zip(before, (x, y, w)))

@pytest.mark.parametrize("change,message", [
    (dict(features=lambda x: x[:, 0]), r"features must be \(n, d\), got shape \(400,\)"),
    (dict(features=lambda x: x.astype(int)), "floating point, got int64"),
    (dict(features=lambda x: np.where(np.arange(400)[:, None] == 7, np.nan, x)),
     "features must be finite.*first: row 7"), (dict(features=lambda x: x[:0]), "at least one row"),
    (dict(features=lambda x: x + np.inf), "features must be finite"),
    (dict(features=lambda x: 1e307*np.abs(x)), "small enough to be summed"),
    (dict(features=lambda x: 0*x), "same mean for every class"),
    (dict(labels=lambda y: y[1:]), "labels must have one entry per row: wanted 400, got 399"),
    (dict(labels=lambda y: y - 1), "got min -1"),
    (dict(labels=lambda y: y.astype(float)), "labels must be integers"),
    (dict(labels=lambda y: 2*y), "no sample of class 1, 3, 5, 7, 9; leave empty classes out"),
    (dict(labels=lambda y: 0*y), "at least two classes"),
    (dict(weight=np.ones((5, 16))), r"labels must be \(n,\) integers in \[0, 5\), got max 5"),
    (dict(weight=np.ones((7, 16))), "no sample of class 6"),
    (dict(weight=np.ones((6, 15))), r"weight must be \(K, 16\)"),
    (dict(weight=np.full((6, 16), np.nan)), "weight must be finite"),
    (dict(weight=np.ones((6, 16)), bias=np.ones(5)), r"bias must be \(6,\)"),
    (dict(bias=np.ones(6)), "bias needs a weight"),
    (dict(weight=np.ones((6, 16)), bias=np.full(6, np.inf)), "bias must be finite"),
    (dict(classes=[0, 1, 9]), "classes must be .*got max 9"), (dict(classes=[0, 0]), "classes must be different"),
    (dict(classes=[2]), "at least two classes"),
    (dict(nc1_convention="mine"), "nc1_convention must be 'papyan' or 'trace', got 'mine'"),
    (dict(global_mean="mine"), "global_mean must be")])
def test_faults_are_named(change, message):
    x, y = case("plain")
    args = dict(features=x, labels=y)
    for k, v in change.items(): args[k] = v(args[k]) if callable(v) else v
    with pytest.raises(InputError, match=message): collapse_metrics(**args)

def test_faults_of_a_stream_are_named():
    x, y = case("plain")
    s = ClassStats(7, 16).update(x, y)
    with pytest.raises(InputError, match="no sample of class 6"): collapse_metrics_from_stats(s)
    with pytest.raises(InputError, match="every class with samples"): collapse_metrics_from_stats(s, classes=[0, 1])
    ok = dict(classes=range(6))
    with pytest.raises(InputError, match="weight must have 7 rows"):
        collapse_metrics_from_stats(s, np.ones((6, 16)), **ok)
    with pytest.raises(InputError, match="batches must hold samples"):
        collapse_metrics_from_stats(s, batches=iter([]), **ok)
    with pytest.raises(InputError, match="only classes that were measured, got class 6"):
        collapse_metrics_from_stats(s, batches=[(x, y*0 + 6)], **ok)
    held_out = collapse_metrics_from_stats(s, batches=[(x + 1, y)], **ok)
    assert held_out.nc4 is None and held_out.ncc_accuracy == (s.nearest_class_mean(x + 1) == y).mean()

def test_memory_stays_within_a_few_blocks():
    "Peak resident memory above the inputs, in a process of its own: 200 MB of features, at most 80 MB more."
    code = """
import resource, torch
from ncib.collapse import collapse_metrics
torch.set_num_threads(1)
x, y = torch.randn(100_000, 512), torch.arange(100_000) % 10
w = torch.randn(10, 512)
collapse_metrics(x[:6000], y[:6000], w)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
collapse_metrics(x, y, w)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)/1024
    assert grown < 80

def test_import_needs_no_notebook_packages():
    code = """
import sys
for name in ("ipywidgets", "jupyter", "jupyterlab", "nbdev", "fastcore"): sys.modules[name] = None
import ncib.collapse, ncib.geometry, ncib.layers, ncib.probe
"""
    subprocess.run([sys.executable, "-c", code], check=True)

# --- torchmetrics

def filled(x, y, step=50, start=0, metric=None):
    metric = metric or NeuralCollapse(6, 16)
    for i in range(start, len(x), 2*step): metric.update(torch.as_tensor(x[i:i+step]), torch.as_tensor(y[i:i+step]))
    return metric

def test_metric_merges_saves_resets_and_plots():
    x, y = case("plain")
    want = {k: v for k, v in collapse_metrics(x, y).to_dict().items() if v is not None and k != "ncc_accuracy"}
    a, b = filled(x, y), filled(x, y, start=50)
    stale = a.compute()
    c = copy.deepcopy(a)
    a.merge_state(b)
    c.merge_state(b.metric_state)
    assert_close(a.compute(), want, 1e-10), assert_close(c.compute(), want, 1e-10)
    assert set(a.compute()) == set(want) and stale["nc1"] != a.compute()["nc1"]
    fresh = NeuralCollapse(6, 16)
    fresh.load_state_dict(a.state_dict())
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert_close(fresh.compute(), want, 1e-10)      # torchmetrics does not know that a state was loaded
    fresh.half()
    assert fresh.means.dtype == torch.float64
    fig, ax = a.plot()
    fig2, _ = a.plot([stale, a.compute()])
    assert ax is not None and fig2 is not fig
    plt.close("all")
    a.reset()
    assert a.stats.n == 0
    with pytest.raises(InputError, match="no sample of class 0"): filled(x[:1], y[:1] * 0 + 3).compute()
    with pytest.raises(InputError, match="incoming_state"):
        b.merge_state(MeanMetric())

def test_metric_in_a_module_that_is_moved_to_bfloat16():
    x, y = case("plain")
    module = nn.ModuleDict({"nc": NeuralCollapse(6, 16), "head": nn.Linear(16, 6)}).to(torch.bfloat16)
    m = filled(x, y, metric=filled(x, y, start=50, metric=module["nc"]))
    assert m.means.dtype == torch.float64
    assert_close(m.compute(), {"nc1": collapse_metrics(x, y).nc1}, 1e-10)
    m.reset()
    assert_close(filled(x, y, metric=filled(x, y, start=50, metric=m)).compute(), {"nc1": collapse_metrics(x, y).nc1},
                 1e-10)

def test_metric_called_as_a_function_accumulates():
    x, y = case("plain")
    m = NeuralCollapse(6, 16)
    for i in range(400): assert m(torch.as_tensor(x[i:i+1]), torch.as_tensor(y[i:i+1])) is None
    assert_close(m.compute(), {k: v for k, v in collapse_metrics(x, y).to_dict().items()
                               if k not in ("nc3", "nc4", "ncc_accuracy")}, 1e-10)

def test_metric_reads_its_classifier_when_it_computes():
    x, y = case("plain")
    head = nn.Linear(16, 6)
    m = filled(x, y, metric=filled(x, y, start=50, metric=NeuralCollapse(6, 16, classifier=head)))
    with torch.no_grad(): head.weight.normal_()
    assert_close(m.compute(), {"nc3": collapse_metrics(x, y, head.weight).nc3}, 1e-6)
    assert not list(m.parameters()) and set(m.state_dict()) == set(ClassStats.fields)

def metric_on(rank, address, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{address}", rank=rank, world_size=2)
    x, y = case("plain")
    m = filled(x, y, start=50*rank)
    alone = m.stats.n
    values = m.compute()
    # after computing, each rank goes on with its own samples
    assert m.stats.n == alone
    values2 = collapse_metrics_from_stats(m.stats.all_reduce()).to_dict()
    torch.save({"metric": {k: float(v) for k, v in values.items()}, "stats": {k: values2[k] for k in values}},
               f"{out}/{rank}.pt")
    dist.destroy_process_group()

def test_two_processes_equal_one(tmp_path):
    mp.spawn(metric_on, (tmp_path/"address", tmp_path), nprocs=2)
    x, y = case("plain")
    want = {k: v for k, v in collapse_metrics(x, y).to_dict().items() if k not in ("nc3", "nc4", "ncc_accuracy")}
    for rank in range(2):
        got = torch.load(tmp_path/f"{rank}.pt", weights_only=True)
        assert_close(got["metric"], want, 1e-10), assert_close(got["stats"], want, 1e-10)
