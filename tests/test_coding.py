"ncib.coding: closed forms, brute-force water-filling, invariances, calibrated Gaussianity tests, degenerate inputs."
import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from ncib.coding import excess_rate, gaussianity, isotropy, packing, rate_distortion
from ncib.core import InputError


def simplex(n, d=12, k=4, noise=.1, seed=0):
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.normal(size=(d, d)))[0][:, :k]
    labels = np.arange(n) % k
    return 3*(np.eye(k) - 1/k)[labels] @ frame.T + noise*rng.normal(size=(n, d)), labels


def test_water_filling_solves_the_allocation_problem():
    rng = np.random.default_rng(0)
    for _ in range(10):
        var = rng.exponential(size=5)
        D = rng.uniform(.05, .95)*var.sum()
        r = rate_distortion(var, [D])
        assert np.minimum(r.water_level, var).sum() == pytest.approx(D, rel=1e-12)
        best = optimize.minimize(lambda l: .5*np.log(var/np.minimum(var, np.exp(l))).sum(), np.log(np.full(5, D/5)),
                                 constraints={"type": "ineq", "fun": lambda l: D - np.minimum(var, np.exp(l)).sum()},
                                 method="SLSQP")
        assert r.rate[0] <= best.fun + 1e-6


def test_rate_distortion_limits_convexity_and_kinds():
    var = np.array([5., 2., 0., 1e-12])
    D = np.linspace(1e-3, 8, 200)
    r = rate_distortion(var, D)
    assert (np.diff(r.rate) <= 1e-12).all() and (np.diff(r.rate, 2) >= -1e-9).all()
    assert (r.rate[D >= var.sum()] == 0).all() and np.isfinite(r.rate).all() and (r.active[-1] == 0)
    assert rate_distortion(np.ones(7)*2, [7.]).rate[0] == pytest.approx(7*.5*math.log(2), abs=1e-14)
    t = rate_distortion(torch.tensor(var, dtype=torch.float32), torch.tensor(D))
    assert isinstance(t.rate, torch.Tensor) and t.rate.dtype == torch.float64
    np.testing.assert_allclose(t.rate.numpy(), r.rate, atol=1e-5)


def test_excess_is_zero_without_nuisance_and_matches_the_definition():
    x, y = simplex(2000, noise=0.)
    r = excess_rate(x, y)
    assert r.dimension == 3 and r.floor < 1e-12 and r.excess.max() < 1e-9
    x, y = simplex(2000, noise=.7)
    D = np.array([3., 5., 6.])
    r = excess_rate(x, y, D)
    c = x - x.mean(0)
    means = np.stack([c[y == k].mean(0) for k in range(4)])
    q = np.linalg.svd(means)[2][:3]
    inside = np.linalg.eigvalsh(q @ (c.T @ c/len(c)) @ q.T)
    floor = np.trace(c.T @ c/len(c)) - inside.sum()
    np.testing.assert_allclose(r.floor, floor, rtol=1e-10)
    np.testing.assert_allclose(r.rate, rate_distortion(np.linalg.eigvalsh(c.T @ c/len(c)), D).rate, atol=1e-10)
    for d, value in zip(D, r.class_mean_rate):
        assert ((math.isinf(value) and d <= floor)
                or value == pytest.approx(rate_distortion(inside, [d - floor]).rate[0], abs=1e-10))
    assert (r.excess >= 0).all()


def test_excess_is_invariant_and_grows_with_nuisance():
    x, y = simplex(3000, noise=.1)
    rng = np.random.default_rng(1)
    rot = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    D = np.array([1., 3.])
    a, b = excess_rate(x, y, D), excess_rate(2*x @ rot + 7, y, 4*D)
    np.testing.assert_allclose(a.class_mean_rate, b.class_mean_rate, atol=1e-9)
    np.testing.assert_allclose(a.excess, b.excess, atol=1e-9)
    loud = x + 1.5*rng.normal(size=(3000, 1)) @ rot[:1]
    at = [6.]
    assert excess_rate(loud, y, at).excess[0] > excess_rate(x, y, at).excess[0] + .01


def test_float32_torch_and_float64_numpy_agree():
    x, y = simplex(1000)
    a, b = packing(x, y), packing(torch.tensor(x, dtype=torch.float32), torch.tensor(y))
    assert isinstance(b.projection, torch.Tensor) and isinstance(a.projection, np.ndarray)
    np.testing.assert_allclose(a.rho2, b.rho2.numpy(), atol=1e-5)
    assert a.gaussianity.kurtosis == pytest.approx(b.gaussianity.kurtosis, rel=1e-4)
    e, f = excess_rate(x, y, [1.]), excess_rate(torch.tensor(x, dtype=torch.float32), torch.tensor(y), [1.])
    assert e.rate[0] == pytest.approx(float(f.rate[0]), rel=1e-4)


def test_packing_of_a_simplex_and_of_a_stretched_one():
    x, y = simplex(4000)
    p = packing(x, y)
    assert p.projection.shape == (4000, 3) and p.means.rank == 3 and p.means.condition_number < 1.01
    np.testing.assert_allclose(p.projection.T @ p.projection/4000, np.eye(3), atol=1e-9)
    # any invertible linear map leaves the canonical modes alone
    rng = np.random.default_rng(2)
    q = packing(x @ rng.normal(size=(12, 12)), y)
    np.testing.assert_allclose(p.rho2, q.rho2, atol=1e-9)
    # unequal separations are anisotropic where noise is comparable with the signal
    bent = x + .8*rng.normal(size=x.shape); bent[y == 0] += 5
    assert packing(bent, y).means.condition_number > 1.2


def test_rho2_is_linear_discriminant_analysis():
    x, y = simplex(900, noise=1.)
    c = x - x.mean(0)
    total = c.T @ c/900
    between = sum((y == k).mean()*np.outer(c[y == k].mean(0), c[y == k].mean(0)) for k in range(4))
    expected = np.sort(np.linalg.eigvals(np.linalg.solve(total, between)).real)[::-1][:3]
    np.testing.assert_allclose(packing(x, y).rho2, expected, atol=1e-10)


def test_uncentred_packing_has_k_modes():
    x, y = simplex(800)
    assert packing(x + 3, y, centred=False).projection.shape == (800, 4)
    assert packing(x + 3, y).projection.shape == (800, 3)


def test_packing_of_exactly_collapsed_features():
    x, y = simplex(400, noise=0.)
    p = packing(x, y)
    np.testing.assert_allclose(p.rho2, 1, atol=1e-12)
    assert p.within is None and np.isfinite([p.gaussianity.skewness, p.gaussianity.sliced_wasserstein]).all()


def test_mardia_against_the_double_sum():
    x = np.random.default_rng(3).normal(size=(60, 3))**3
    c = x - x.mean(0)
    g = c @ np.linalg.solve(c.T @ c/60, c.T)
    r = gaussianity(x)
    assert (r.skewness == pytest.approx((g**3).mean(), rel=1e-9)
            and r.kurtosis == pytest.approx((np.diag(g)**2).mean(), rel=1e-9))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_rounding_is_no_direction(dtype):
    rng = np.random.default_rng(7)
    y = np.arange(600) % 4
    plane = rng.normal(size=(600, 2)) + 3*rng.normal(size=(4, 2))[y]
    x = np.c_[plane, rng.exponential(size=600)]@rng.normal(size=(3, 5)) + 10
    a, b = gaussianity(x), gaussianity(x.astype(dtype))
    assert a.rank == b.rank == 3 and a.kurtosis_z == pytest.approx(b.kurtosis_z, abs=.05)
    p, q = packing(x, y), packing(torch.tensor(x.astype(dtype)), y)
    np.testing.assert_allclose(p.rho2, q.rho2.numpy(), atol=.01)
    assert packing(x, y, centred=False).projection.shape == packing(x.astype(dtype), y, centred=False).projection.shape
    with pytest.raises(InputError, match="must vary, got constant rows"): gaussianity(np.full((50, 2), .1, dtype))


def test_skewness_by_moments_and_by_pairs():
    x = np.random.default_rng(8).exponential(size=(700, 20))
    for d in (3, 20):                                                    # r² < n, and not
        c = x[:, :d] - x[:, :d].mean(0)
        g = c @ np.linalg.solve(c.T @ c/700, c.T)
        z = torch.linalg.svd(torch.tensor(c), full_matrices=False)[0]*math.sqrt(700)
        pairs = float((z @ z.T).pow(3).sum())/700**2
        assert pairs == pytest.approx((g**3).mean(), rel=1e-9)
        assert gaussianity(x[:, :d]).skewness == pytest.approx(pairs, rel=1e-12)


def test_equal_class_means_are_refused():
    for f in (excess_rate, packing):
        with pytest.raises(InputError, match="must differ between classes, got identical class means"):
            f([[1.], [-1.], [1.], [-1.]], [0, 0, 1, 1])


def test_ks_against_scipy():
    x = np.random.default_rng(4).exponential(size=(200, 2))
    for k, column in zip(gaussianity(x).ks, x.T):
        assert k == pytest.approx(stats.kstest(column, stats.norm(column.mean(), column.std()).cdf).statistic,
                                  abs=1e-12)


def test_false_positive_rates_on_gaussian_samples():
    hits = np.zeros(3)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        r = gaussianity(rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3)), directions=4)
        hits += [r.skewness_p < .05, r.kurtosis_p < .05, r.ks[0] > r.ks_critical]
    assert (hits <= 20).all(), hits                                   # nominal 10 of 200; P(more than 20) < 0.1 %
    assert (hits >= 1).all()


def test_affine_invariance_and_rank():
    rng = np.random.default_rng(5)
    x = rng.exponential(size=(400, 3))
    a = gaussianity(x)
    b = gaussianity(np.concatenate([x @ rng.normal(size=(3, 3)), np.zeros((400, 1))], 1) + 1)
    assert b.rank == 3 and b.ks[-1] == 0
    assert a.skewness == pytest.approx(b.skewness, rel=1e-8) and a.kurtosis == pytest.approx(b.kurtosis, rel=1e-8)
    assert gaussianity(x, seed=1).sliced_wasserstein == gaussianity(x, seed=1).sliced_wasserstein
    assert gaussianity(10*x).sliced_wasserstein == pytest.approx(a.sliced_wasserstein, rel=1e-9)


def test_isotropy_bounds():
    assert isotropy(np.ones(9)).effective_rank == pytest.approx(9) and isotropy(np.ones(9)).condition_number == 1
    v = np.array([4., 1., 1e-14])
    assert isotropy(v).rank == 2 and isotropy(v).condition_number == pytest.approx(4)
    assert 1 < isotropy(v).effective_rank < 2


@pytest.mark.parametrize("call, message", [
    (lambda x, y: rate_distortion([], [1.]), "variances must be"),
    (lambda x, y: rate_distortion([np.nan], [1.]), "variances must be"),
    (lambda x, y: rate_distortion([1.], [-1.]), "distortions must be positive"),
    (lambda x, y: excess_rate(x, y, [0.]), "distortions must be positive"),
    (lambda x, y: excess_rate(x, y*0), "at least 2 classes"), (lambda x, y: excess_rate(x*0, y), "must vary"),
    (lambda x, y: excess_rate(x, y[:-1]), "labels must have"),
    (lambda x, y: packing(x*np.nan, y), "features must be finite"), (lambda x, y: packing(x*0 + 1, y), "must vary"),
    (lambda x, y: gaussianity(x[:5]), "more rows than its rank"), (lambda x, y: gaussianity(x*0), "t must vary"),
    (lambda x, y: isotropy([0., 0.]), "not all zero")])
def test_bad_input_names_the_argument(call, message):
    with pytest.raises(InputError, match=message): call(*simplex(100))


def test_signs_that_a_decomposition_leaves_open_do_not_decide_the_reference(monkeypatch):
    x, svd = np.random.default_rng(0).normal(size=(200, 4))*[3, 2, 1, .5], torch.linalg.svd
    before = gaussianity(x)
    def other_signs(a, **options):
        u, s, vt = svd(a, **options)
        sign = torch.tensor([-1., 1.], dtype=s.dtype).repeat(len(s))[:len(s)]
        return u*sign, s, vt*sign[:, None]
    monkeypatch.setattr(torch.linalg, "svd", other_signs)
    after = gaussianity(x)
    assert after.sliced_wasserstein_reference == pytest.approx(before.sliced_wasserstein_reference, rel=1e-12)
    assert after.skewness == pytest.approx(before.skewness, rel=1e-9)
