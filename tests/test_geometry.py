"Optimal geometry of unbalanced classes: optimality against random feasible points, symmetry, limits, thresholds."
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ncib.core import InputError
from ncib.geometry import geometry_error, minority_collapse_threshold, optimal_geometry


def loss(G, p, T):
    "Σ p_k log Σ_j p_j exp(G_kj/T), literally, in extended precision."
    p, G = np.asarray(p, np.longdouble), np.asarray(G, np.longdouble)
    return float(p@np.log(np.exp(G/T)@p))

def feasible(g, K, like=None):
    U = g.standard_normal((K, K)) if like is None else like
    U = U/np.linalg.norm(U, axis=1, keepdims=True)
    return U@U.T

@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), K=st.integers(2, 8), T=st.sampled_from([0.07, 0.1, 0.3, 1., 3.]),
       tail=st.floats(0, 2))
def test_nothing_feasible_is_better(seed, K, T, tail):
    g = np.random.default_rng(seed)
    p = 10**(-tail*g.random(K))
    p /= p.sum()
    best = optimal_geometry(p, T)
    G = best.cosines
    assert best.converged and best.gap <= 1e-6
    assert np.abs(np.diagonal(G) - 1).max() < 1e-12 and np.linalg.eigvalsh(G).min() > -1e-10
    assert abs(best.objective - loss(G, p, T)) < 1e-9
    values, vectors = np.linalg.eigh(G)
    root = vectors*np.sqrt(values.clip(0))
    for step in (1e-3, 1e-2, 0.1, 1, 10):
        for _ in range(10):
            assert loss(feasible(g, K, root + step*g.standard_normal((K, K))), p,
                        T) >= best.objective - best.gap - 1e-12

@pytest.mark.parametrize("K,T", [(2, 0.1), (3, 0.05), (10, 0.1), (100, 0.1), (100, 1.)])
def test_balanced_classes_give_the_etf(K, T):
    best = optimal_geometry(np.ones(K)*7, T)
    assert best.converged and np.abs(best.cosines[~np.eye(K, dtype=bool)] + 1/(K - 1)).max() < 1e-6

def test_published_values_of_the_two_level_problem():
    "Cosines known to three digits from an independent convex solver."
    for ratio, wanted in [(10, (-.146, -.129, -.002)), (100, (None, None, .161))]:
        G = optimal_geometry([ratio]*5 + [1]*5, 0.1).cosines
        for got, want in zip((G[0, 1], G[0, 9], G[8, 9]), wanted): assert want is None or abs(got - want) < 1e-3

def test_equal_proportions_are_interchangeable_and_order_does_not_matter():
    p = np.array([.3, .3, .2, .1, .1])
    i = np.array([3, 0, 4, 2, 1])
    G = optimal_geometry(p, 0.2).cosines
    assert abs(G[0, 2] - G[1, 2]) < 1e-5 and abs(G[3, 2] - G[4, 2]) < 1e-5 and abs(G[0, 3] - G[1, 4]) < 1e-5
    np.testing.assert_allclose(optimal_geometry(p[i], 0.2).cosines, G[np.ix_(i, i)], atol=1e-5)

def test_a_long_tail_of_many_classes_is_certified():
    best = optimal_geometry(100.**(-np.linspace(0, 1, 200)), 0.1)
    assert best.converged and best.gap <= 1e-6

def test_an_uncertified_answer_says_so():
    best = optimal_geometry(10.**(-np.linspace(0, 3, 30)), 1., max_iterations=2)
    assert not best.converged and best.gap > 1e-6 and "NOT converged" in repr(best)

def test_kinds():
    t = optimal_geometry(torch.tensor([3, 1, 1]))
    assert (isinstance(t.cosines, torch.Tensor) and t.cosines.dtype == torch.float64
            and isinstance(optimal_geometry([3, 1, 1]).cosines, np.ndarray))

@pytest.mark.parametrize("a,b,T", [(1, 3, 0.5), (1, 3, 2.), (2, 4, 1.), (1, 9, 1.)])
def test_minor_classes_merge_at_the_threshold(a, b, T):
    ratio = minority_collapse_threshold(a, b, T)
    below, above = (optimal_geometry([f*ratio]*a + [1]*b, T, tol=1e-9).cosines[a:, a:] for f in (0.8, 1.25))
    assert np.abs(above - 1).max() < 1e-4 and below[0, 1] < 0.995

def test_without_a_threshold_the_minor_classes_stay_apart():
    assert minority_collapse_threshold(5, 5, 1.) == np.inf
    assert optimal_geometry([1000]*5 + [1]*5, 1.).cosines[-1, -2] < 0.3

def test_thresholds_at_small_temperatures():
    "Of one major class it solves b/(b + R m) = (R m/(b + R m) + m/(1 + b m/R))/2, m = e^(−2/T)."
    for b, T in ((2, .07), (5, .1)):
        R, m = minority_collapse_threshold(1, b, T), np.exp(-2/T)
        assert b/(b + R*m) == pytest.approx((R*m/(b + R*m) + m/(1 + b/R*m))/2, rel=1e-6)
    for T in (1e-2, 1e-3, 1e-5):
        for a, b in ((5, 5), (1, 2), (2, 8)): assert minority_collapse_threshold(a, b, T) == np.inf

@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), K=st.integers(2, 7), extra=st.integers(0, 4))
def test_geometry_error(seed, K, extra):
    g = np.random.default_rng(seed)
    geometry = optimal_geometry(1 + 9*g.random(K), 0.3)
    values, vectors = np.linalg.eigh(geometry.cosines)
    means = np.hstack([vectors*np.sqrt(values.clip(0)),
                       np.zeros((K, extra))])@np.linalg.qr(g.standard_normal((K + extra, K + extra)))[0]
    assert geometry_error(5*means, geometry) < 1e-6
    other = g.standard_normal(means.shape)
    G = other@other.T
    want = np.linalg.norm(G/np.linalg.norm(G) - geometry.cosines/np.linalg.norm(geometry.cosines))
    assert abs(geometry_error(torch.as_tensor(other), geometry) - want) < 1e-12

def test_faults_are_named():
    for p, kwargs, message in [([1], {}, "K ≥ 2"), ([[1, 2]], {}, "K ≥ 2"), ([1, 0], {}, "positive, got min 0"),
                               ([1, np.nan], {}, "positive"),
                               ([1, 2], dict(temperature=0), "temperature must be positive"),
                               ([1, 2], dict(temperature=1e-3), "temperature must be larger")]:
        with pytest.raises(InputError, match=message): optimal_geometry(p, **kwargs)
    for a, b, T, message in [(0, 2, 1, "num_major"), (2, 1, 1, "num_minor"), (2, 2, -1, "temperature")]:
        with pytest.raises(InputError, match=message): minority_collapse_threshold(a, b, T)
    with pytest.raises(InputError, match="class_means must have 3 rows, one per class of geometry, got 2"):
        geometry_error(np.eye(2), optimal_geometry([1, 1, 2]))
    with pytest.raises(InputError, match="all zero"): geometry_error(np.zeros((2, 3)), optimal_geometry([1, 1]))
