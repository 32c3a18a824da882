"The linear probe: optimality, invariances, degenerate features, separable data."
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from ncib.core import InputError
from ncib.probe import linear_probe


def data(seed=0, n=300, d=6, K=4, gap=1.):
    g = np.random.default_rng(seed)
    y = np.concatenate([np.arange(K), g.integers(K, size=n - K)])
    return gap*g.standard_normal((K, d))[y] + g.standard_normal((n, d)), y

def objective(x, y, probe, l2):
    "Evaluated afresh in NumPy, on the original features, from weight and bias alone."
    a = x@probe.weight.T + probe.bias
    top = a.max(1, keepdims=True)
    ce = (np.log(np.exp(a - top).sum(1)) + top[:, 0] - a[np.arange(len(y)), y]).mean()
    return ce + l2/2*((probe.weight*x.std(0))**2).sum()

@pytest.mark.parametrize("l2", [1e-1, 1e-3, 1e-5])
def test_no_direction_improves_it(l2):
    x, y = data()
    probe = linear_probe(x, y, l2=l2, tol=1e-10)
    best = objective(x, y, probe, l2)
    g = np.random.default_rng(1)
    for _ in range(50):
        step = 10.**g.uniform(-4, 0)
        moved = replace(probe, weight=probe.weight + step*g.standard_normal(probe.weight.shape),
                        bias=probe.bias + step*g.standard_normal(4))
        assert objective(x, y, moved, l2) > best - probe.gap
    assert (probe.converged and probe.gap <= 1e-10 and abs(best - probe.loss - l2/2*((probe.weight*x.std(0))**2).sum())
            < 1e-12)

def test_gap_bounds_the_distance_from_the_optimum():
    x, y = data(gap=3)
    best = objective(x, y, linear_probe(x, y, l2=1e-3, tol=1e-13), 1e-3)
    for iterations in (3, 6, 12):
        rough = linear_probe(x, y, l2=1e-3, max_iterations=iterations)
        assert not rough.converged and rough.iterations <= iterations
        assert objective(x, y, rough, 1e-3) - best <= rough.gap

def test_separable_features_have_an_answer():
    x, y = data(gap=50)
    probe = linear_probe(x, y, l2=1e-4)
    assert probe.converged and probe.accuracy(x, y) == 1 and np.isfinite(probe.weight).all()

@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), offset=st.floats(-1e3, 1e3))
def test_scale_offset_and_order_do_not_matter(seed, scale, offset):
    x, y = data(seed)
    i = np.random.default_rng(seed).permutation(len(x))
    a, b = linear_probe(x, y, l2=1e-2, tol=1e-12), linear_probe((x*scale + offset)[i], y[i], l2=1e-2, tol=1e-12)
    np.testing.assert_allclose(b.weight*scale, a.weight, atol=1e-5)
    assert np.array_equal(a.predict(x), b.predict(x*scale + offset))

def test_deterministic_and_same_kind():
    x, y = data()
    a, b, t = linear_probe(x, y), linear_probe(x, y), linear_probe(torch.as_tensor(x), torch.as_tensor(y))
    assert np.array_equal(a.weight, b.weight) and isinstance(a.predict(x), np.ndarray)
    assert (isinstance(t.weight, torch.Tensor)
            and torch.equal(t.predict(torch.as_tensor(x)), torch.as_tensor(a.predict(x))))
    assert t.accuracy(torch.as_tensor(x), y) == a.accuracy(x, list(y)) == (a.predict(x) == y).mean()

@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_low_precision_features(dtype):
    x, y = data(gap=2)
    low = torch.as_tensor(x).to(dtype)
    probe, same = linear_probe(low, y), linear_probe(low.double(), y)
    assert probe.converged and (probe.weight - same.weight).abs().max() < 2e-2*same.weight.abs().max()

def test_float32_reaches_tolerances_below_float32():
    x, y = data()
    probe = linear_probe(x.astype(np.float32), y, l2=1e-3, tol=1e-14)
    assert probe.converged and probe.gap <= 1e-14

class Doubles(TorchDispatchMode):
    "Sizes of the float64 tensors that are made."
    def __init__(self): super().__init__(); self.sizes = []

    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        out = f(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype == torch.float64: self.sizes.append(out.numel())
        return out

def test_converged_float32_features_are_not_copied_to_float64():
    x, y = data(n=9000)
    low = torch.as_tensor(x).float()
    with Doubles() as seen: assert linear_probe(low, y, tol=1e-4).converged
    assert max(seen.sizes) < low.numel()
    with Doubles() as seen: linear_probe(low, y, tol=1e-14)
    assert max(seen.sizes) == low.numel()

def test_constant_and_duplicate_columns():
    x, y = data()
    wide = np.hstack([x, np.full((len(x), 1), 7.3), x[:, :1]])
    probe = linear_probe(wide, y, tol=1e-12)
    assert (probe.weight[:, 6] == 0).all()
    # the ridge splits evenly between twins
    np.testing.assert_allclose(probe.weight[:, 7], probe.weight[:, 0], atol=1e-6)

def test_faults_are_named():
    x, y = data()
    for args, kwargs, message in [((x, y), dict(l2=0), "l2 must be positive"),
                                  ((x, y), dict(num_classes=5), "no sample of class 4"),
                                  ((x, y), dict(num_classes=3), "got max 3"),
                                  ((x, np.zeros_like(y)), {}, "at least two classes"), ((x*np.nan, y), {}, "finite"),
                                  ((x, y[1:]), {}, "wanted 300, got 299"),
                                  ((x.astype(int), y), {}, "floating point")]:
        with pytest.raises(InputError, match=message): linear_probe(*args, **kwargs)
    with pytest.raises(InputError, match="features must have 6 columns, got 5"): linear_probe(x, y).predict(x[:, :5])
