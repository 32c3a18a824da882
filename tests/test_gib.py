"""The Gaussian information bottleneck: closed forms, determinants, optimality by direct search, limits, invariances,
degenerate inputs."""
import math
import pickle

import numpy as np
import pytest
import torch

from ncib import copula
from ncib.collapse import collapse_metrics
from ncib.core import InputError
from ncib.gib import GaussianIB, gaussian_ib_curve, rank_correlations
from ncib.identifiability import bootstrap_correlations
from ncib.stats import JointStats


def joint(d_x, d_y, seed=0, noise=.3):
    "A random joint covariance of x and y."
    g = np.random.default_rng(seed)
    a = g.normal(size=(d_x + d_y, d_x + d_y))
    s = a@a.T + noise*np.eye(d_x + d_y)
    return s[:d_x, :d_x], s[:d_x, d_x:], s[d_x:, d_x:]


def given(sx, sxy, sy): return sx - sxy@np.linalg.solve(sy, sxy.T)


def informations(a, sx, sxgy):
    logdet = lambda s: np.linalg.slogdet(np.eye(len(a)) + a@s@a.T)[1]/2
    return logdet(sx), logdet(sx) - logdet(sxgy)


def classes(n=600, k=10, d=24, within=.1, seed=0, twin=False):
    "Collapsed features: class means a simplex, within-class variation; of one or of two encoders."
    g = np.random.default_rng(seed)
    labels = np.arange(n) % k
    latent = np.concatenate([(np.eye(k) - 1/k)[labels], within*g.normal(size=(n, d - k))/4], 1)
    out = [latent@g.normal(size=(d, d)) + .05*g.normal(size=(n, d)) for _ in range(1 + twin)]
    return (*out, labels)


class TestCurve:
    @pytest.mark.parametrize("seed", range(5))
    def test_curve_is_the_log_determinants_of_the_encoder(self, seed):
        s = joint(6, 4, seed)
        gib = GaussianIB.from_covariance(*s)
        betas = 1 + np.geomspace(gib.excess[0]*1.01, gib.excess[-1]*10, 30)
        curve = gib.curve(betas)
        for b, i, o in zip(betas, curve.ixt, curve.iyt):
            assert np.allclose(informations(gib.encoder(b), s[0], given(*s)), (i, o), atol=1e-10)

    def test_eigenvalues_of_the_original_paper(self):
        "1 − ρ² are the eigenvalues of Σ_x|y Σ_x⁻¹, and the encoder's rows are its left eigenvectors."
        s = joint(5, 7)
        gib = GaussianIB.from_covariance(*s)
        m = given(*s)@np.linalg.inv(s[0])
        assert np.allclose(1 - 1/gib.critical_betas, np.sort(np.linalg.eigvals(m).real), atol=1e-10)
        a, lam = gib.encoder(gib.critical_betas[-1]*2), 1 - 1/gib.critical_betas
        assert np.allclose(a@m, lam[:, None]*a, atol=1e-8)
        r = np.diag(a@s[0]@a.T)
        assert np.allclose(r, (2*gib.critical_betas[-1]*(1 - lam) - 1)/lam)

    def test_slope_is_one_over_beta_and_curve_is_concave(self):
        c = GaussianIB.from_rho([.99, .7, .7, .2]).curve(excess=np.geomspace(1e-3, 1e4, 20001))
        moving = np.diff(c.ixt) > 0
        slope = np.diff(c.iyt)[moving]/np.diff(c.ixt)[moving]
        assert (np.allclose(slope*np.sqrt(c.beta[1:]*c.beta[:-1])[moving], 1, atol=1e-3)
                and (np.diff(slope) <= 1e-6).all())

    def test_modes_enter_one_by_one(self):
        gib = GaussianIB.from_covariance(np.eye(3), np.diag([.9, .6, .3]), np.eye(3))
        assert np.allclose(gib.critical_betas, [1/.81, 1/.36, 1/.09])
        for k, beta in enumerate(gib.critical_betas):
            assert len(gib.encoder(beta*(1 - 1e-9))) == k and len(gib.encoder(beta*(1 + 1e-9))) == k + 1
        below = gib.curve([0., .5, 1, 1.2])
        assert (below.ixt == 0).all() and (below.iyt == 0).all() and gib.encoder(1.).shape == (0, 3)

    @pytest.mark.parametrize("seed", range(3))
    def test_no_linear_code_beats_it(self, seed):
        "Direct minimisation of I(X;T) − β I(T;Y) over A, from several starts, ends on the curve and never above it."
        s = joint(4, 3, seed)
        gib = GaussianIB.from_covariance(*s)
        sx, sxgy = torch.tensor(s[0]), torch.tensor(given(*s))
        eye = torch.eye(4, dtype=torch.float64)
        for beta in (1 + gib.excess[0]*1.5, 1 + math.sqrt(gib.excess[0]*gib.excess[-1]), 1 + gib.excess[-1]*3):
            best = gib.curve([beta])
            optimum, found = best.ixt[0] - beta*best.iyt[0], math.inf
            for start in range(3):
                a = torch.randn(4, 4, dtype=torch.float64,
                                generator=torch.Generator().manual_seed(start)).requires_grad_()
                optimiser = torch.optim.LBFGS([a], max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14,
                                              line_search_fn="strong_wolfe")
                def loss():
                    optimiser.zero_grad()
                    ixt, rest = (torch.linalg.slogdet(eye + a@m@a.T)[1]/2 for m in (sx, sxgy))
                    value = ixt - beta*(ixt - rest)
                    value.backward()
                    return value
                optimiser.step(loss)
                found = min(found, float(loss().detach()))
                rate, relevant = informations(a.detach().numpy(), s[0], given(*s))
                assert relevant <= gib.optimal_information(np.array(rate)) + 1e-10
            assert found >= optimum - 1e-10 and found == pytest.approx(optimum, abs=1e-4)

    def test_optimal_information_inverts_the_curve(self):
        gib = GaussianIB.from_rho([.999, .9, .9, .5, .01, 0])
        c = gib.curve()
        assert np.allclose(gib.optimal_information(c.ixt), c.iyt, atol=1e-12)
        assert (gib.optimal_information(0.) == 0 and gib.optimal_information(np.array([math.inf]))[0]
                == pytest.approx(gib.information))

    def test_default_sweep_covers_all_transitions(self):
        gib = GaussianIB.from_rho([.999999, .5, .001])
        c = gib.curve()
        assert c.excess[0] < gib.excess[0] and c.excess[-1] > gib.excess[-1] and set(gib.excess) <= set(c.excess)

    def test_batched_sweep_against_a_plain_sum(self):
        g = np.random.default_rng(0)
        e, x = g.lognormal(size=(2, 3, 7)), g.lognormal(size=11)
        ixt, iyt = gaussian_ib_curve(e, x)
        for i in range(2):
            for j in range(3):
                for b, v in enumerate(x):
                    on = e[i, j][e[i, j] < v]
                    assert ixt[i, j, b] == pytest.approx(sum(math.log(v/k) for k in on)/2, abs=1e-12)
                    assert iyt[i, j, b] == pytest.approx(sum(math.log(v/k) - math.log((1 + v)/(1 + k)) for k in on)/2,
                                                         abs=1e-12)

    def test_checkpoints_times_bootstrap_times_betas(self):
        x, y, _ = classes(twin=True)
        draws = bootstrap_correlations(x, y, replicates=100).excess
        ixt, iyt = gaussian_ib_curve(torch.as_tensor(np.stack([draws]*4)), torch.logspace(-3, 3, 2000))
        assert (isinstance(ixt, torch.Tensor) and ixt.shape == (4, 100, 2000) and torch.isfinite(iyt).all()
                and (iyt <= ixt).all())


class TestPrecision:
    @pytest.mark.parametrize("rho", [1e-8, 1e-4, .5])
    def test_small(self, rho):
        gib = GaussianIB.from_rho([rho])
        assert (gib.critical_betas[0] == pytest.approx(rho**-2, rel=1e-12)
                and gib.information == pytest.approx(-math.log1p(-rho**2)/2, rel=1e-12))
        found = GaussianIB.from_covariance(np.array([[4.]]), np.array([[6*rho]]), np.array([[9.]]))
        assert found.rho[0] == pytest.approx(rho, rel=1e-12)

    @pytest.mark.parametrize("complement", [2e-4, 2e-8, 2e-12])
    def test_large(self, complement):
        gib = GaussianIB.from_rho([math.sqrt(1 - complement)], one_minus_rho2=[complement])
        assert gib.excess[0] == pytest.approx(complement/(1 - complement), rel=1e-12)
        c = gib.curve(excess=[gib.excess[0]*math.e**4])
        assert (c.ixt[0] == pytest.approx(2, rel=1e-12)
                and c.iyt[0] == pytest.approx(2 - (math.log1p(c.excess[0]) - math.log1p(gib.excess[0]))/2, rel=1e-12))

    def test_perfect_and_absent_modes(self):
        gib = GaussianIB.from_rho([1., .5, 0.])
        assert list(gib.critical_betas) == [1, 4, math.inf] and gib.information == math.inf
        c = gib.curve([.9, 1, 2, 5])
        assert list(c.ixt[:2]) == [0, 0] and c.ixt[2] == c.iyt[2] == math.inf and not np.isnan(c.iyt).any()
        assert gib.optimal_information(np.array([3.]))[0] == 3
        with pytest.raises(InputError, match="infinite"):
            GaussianIB.from_covariance(np.eye(1), np.eye(1), np.eye(1)).encoder(2.)
        nothing = GaussianIB.from_rho([0., 0])
        assert nothing.information == 0 and (nothing.curve().ixt == 0).all() and nothing.transitions().count == 0

    def test_float32_and_float64_agree(self):
        x, y, labels = classes(twin=True)
        for fit in (lambda t: GaussianIB.fit(x.astype(t), y.astype(t)),
                    lambda t: GaussianIB.fit_labels(x.astype(t), labels),
                    lambda t: GaussianIB.fit_class_paired(x.astype(t), y.astype(t), labels)):
            a, b = fit(np.float32), fit(np.float64)
            assert np.allclose(a.rho, b.rho, atol=1e-5) and a.transitions().count == b.transitions().count == 9
            assert a.transitions().gap_ratio == pytest.approx(b.transitions().gap_ratio, rel=1e-3)

    def test_fully_collapsed(self):
        "Nothing within the classes: every mode perfect, and no NaN anywhere."
        labels = np.arange(60) % 4
        x = np.eye(4)[labels]@np.random.default_rng(0).normal(size=(4, 8))
        for gib in (GaussianIB.fit_labels(x, labels), GaussianIB.fit(x, 2*x, shrinkage=None),
                    GaussianIB.fit_class_paired(x, 2*x, labels, shrinkage=None)):
            assert np.allclose(gib.rho, 1) and len(gib.rho) == 3 and gib.excess.max() < 1e-20
            t = gib.transitions()
            assert t.count == 3 and t.gap_ratio > 1e10
        assert GaussianIB.fit(x, 2*x).transitions().count == 3


class TestTransitions:
    @pytest.mark.parametrize("rho, count, gap", [
        ([.95]*9 + [.3]*5, 9, (1/.09 - 1)/(1/.9025 - 1)), ([.9]*9, 9, math.inf), ([.9], 1, math.inf),
        ([.9, .1], 1, 99/(1/.81 - 1)), ([0.], 0, 1), ([.9, .88, .86], 3, math.inf)])
    def test_population(self, rho, count, gap):
        t = GaussianIB.from_rho(rho).transitions()
        assert t.count == count and t.gap_ratio == pytest.approx(gap, rel=1e-9)

    def test_gap_after(self):
        t = GaussianIB.from_rho([.99, .9, .5]).transitions()
        assert (t.gap_after(1) == pytest.approx((1/.81 - 1)/(1/.9801 - 1)) and t.gap_after(2)
                == pytest.approx(3/(1/.81 - 1)) and t.gap_after(3) == math.inf and t.gap_after(4) == 1)
        with pytest.raises(InputError, match="k must be"): t.gap_after(0)

    def test_last_mode_is_measured_to_the_edge(self):
        g = np.random.default_rng(0)
        x = g.normal(size=(500, 5)); y = x*[.9, 0, 0, 0, 0] + g.normal(size=(500, 5))
        gib = GaussianIB.fit(x, y)
        t = gib.transitions()
        assert t.count == t.significant == 1 and t.gap_ratio == pytest.approx(gib.floor/gib.excess[0])

    @pytest.mark.parametrize("k, d, n", [(5, 16, 300), (10, 64, 450), (20, 64, 2000)])
    def test_collapsed_twins_have_k_minus_one(self, k, d, n):
        for seed in range(3):
            x, y, _ = classes(n, k, d, within=.05, seed=seed, twin=True)
            t = GaussianIB.fit(x, y).transitions()
            assert t.count == k - 1 and t.gap_after(k - 1) > 3

    def test_no_classes_no_transitions(self):
        "Features that have nothing to do with one another, or with the labels, have none."
        counts = []
        for seed in range(40):
            g = np.random.default_rng(seed)
            x, y, labels = g.normal(size=(300, 20)), g.normal(size=(300, 30)), g.integers(0, 10, 300)
            counts.append([GaussianIB.fit(x, y).transitions().count,
                           GaussianIB.fit_labels(x, labels).transitions().count,
                           GaussianIB.fit_class_paired(x, y, labels).transitions().count,
                           GaussianIB.fit_class_paired(x, x, labels).transitions().count])
        # 2 expected of 40; above 7 in less than 1 of 500
        assert (np.count_nonzero(counts, axis=0) <= 7).all()

    def test_shared_nuisance_without_classes_is_not_nine(self):
        "Twins that share smooth variation but no classes do not show K − 1."
        g = np.random.default_rng(0)
        latent = g.normal(size=(600, 24))*.8**np.arange(24)
        x, y = (latent@g.normal(size=(24, 32)) + .05*g.normal(size=(600, 32)) for _ in "ab")
        t = GaussianIB.fit(x, y).transitions()
        assert t.gap_after(9) < 2


class TestLabels:
    @pytest.mark.parametrize("k", [2, 3, 10])
    def test_exactly_k_minus_one(self, k):
        x, labels = classes(n=40*k, k=k, d=24)
        gib = GaussianIB.fit_labels(x, labels)
        assert len(gib.rho) == k - 1 and gib.transitions().significant == k - 1

    def test_eigenvalues_of_discriminant_analysis(self):
        x, labels = classes(within=1.)
        c = x - x.mean(0)
        means = np.stack([c[labels == k].mean(0) for k in range(10)])[labels]
        squares = np.sort(np.linalg.eigvals(np.linalg.solve(c.T@c, means.T@means)).real)[::-1][:9]
        assert np.allclose(GaussianIB.fit_labels(x, labels).rho**2, squares, atol=1e-9)

    @pytest.mark.parametrize("within", [1., .1, 1e-3, 1e-6])
    def test_identity(self, within):
        g = np.random.default_rng(0)
        labels = g.permutation(np.repeat(np.arange(4), [80, 40, 40, 20]))
        x = np.eye(4)[labels]@g.normal(size=(4, 10)) + within*g.normal(size=(180, 10))@g.normal(size=(10, 10))
        both = GaussianIB.nc1_identity(x, labels)
        c, p = x - x.mean(0), np.bincount(labels)/180
        means = np.stack([c[labels == k].mean(0) for k in range(4)])
        residual = c - means[labels]
        trace = np.trace(residual.T@residual/180@np.linalg.pinv((means*p[:, None]).T@means, rcond=1e-10))
        assert (both.trace == pytest.approx(trace, rel=1e-6) and both.projected == pytest.approx(both.trace, rel=1e-8)
                and both.nc1 == both.trace/4)
        assert (both.critical <= both.trace*(1 + 1e-9)
                and both.critical == pytest.approx(GaussianIB.fit_labels(x, labels).excess.sum(), rel=1e-9))

    def test_identity_with_dependent_means(self):
        "Three classes on a line span one direction: one mode, not two."
        labels = np.arange(90) % 3
        x = labels[:, None]*np.array([[1., 2, 3]]) + np.random.default_rng(0).normal(size=(90, 3))*.1
        x -= np.stack([x[labels == k].mean(0) for k in range(3)])[labels] - labels[:, None]*np.array([[1., 2, 3]])
        both = GaussianIB.nc1_identity(x, labels)
        assert both.projected == pytest.approx(both.trace, rel=1e-9) and both.critical <= both.trace

    def test_equal_critical_betas_mean_an_etf_after_whitening(self):
        g, k = np.random.default_rng(0), 5
        noise = g.normal(size=(1000, k)); labels = np.arange(1000) % k
        for j in range(k): noise[labels == j] -= noise[labels == j].mean(0)
        # within-class covariance exactly the identity
        noise = noise@np.linalg.cholesky(np.linalg.inv(noise.T@noise/1000))
        mix = g.normal(size=(k, k))
        b = GaussianIB.fit_labels((3*(np.eye(k) - 1/k)[labels] + noise)@mix, labels).critical_betas
        # Σ_B = 9/k on the simplex
        assert np.ptp(b) < 1e-9 and b[0] - 1 == pytest.approx(k/9, rel=1e-9)

    def test_class_paired_is_what_sampling_pairs_gives(self):
        x, y, labels = classes(n=400, k=4, d=8, within=2., twin=True)
        pairs = np.concatenate([np.stack(np.meshgrid(*[np.flatnonzero(labels == k)]*2), -1).reshape(-1, 2)
                                for k in range(4)])
        direct, closed = (GaussianIB.fit(x[pairs[:, 0]], y[pairs[:, 1]], debias=False),
                          GaussianIB.fit_class_paired(x, y, labels, debias=False))
        assert (len(closed.rho) == 3 and np.allclose(closed.rho, direct.rho[:3], atol=1e-9)
                and (direct.rho[3:] < 1e-7).all())

    def test_empty_and_unbalanced_classes(self):
        x, labels = classes(k=4)
        sparse = np.array([0, 3, 5, 9])[labels]
        assert np.allclose(GaussianIB.fit_labels(x, sparse).rho[:3], GaussianIB.fit_labels(x, labels).rho)
        assert GaussianIB.nc1_identity(x, sparse).nc1 == pytest.approx(GaussianIB.nc1_identity(x, labels).nc1)
        few = np.where(np.arange(600) < 597, 0, 1)
        assert len(GaussianIB.fit_labels(x, few).rho) == 1
        with pytest.raises(InputError, match="at least 2 classes"): GaussianIB.fit_labels(x, np.zeros(600, int))
        with pytest.raises(InputError, match="one entry per row"): GaussianIB.fit_labels(x, labels[:-1])


class TestCopula:
    @pytest.mark.parametrize("copula", ["normal-scores", "spearman", "kendall"])
    def test_monotone_maps_change_nothing(self, copula):
        x, y, labels = classes(n=200, d=12, twin=True)
        maps = lambda v: np.concatenate([np.exp(v[:, :4]), v[:, 4:8]**3, np.arctan(v[:, 8:])], 1)
        a, b = GaussianIB.fit(x, y, copula=copula), GaussianIB.fit(maps(x), maps(y), copula=copula)
        assert (np.allclose(a.rho, b.rho, atol=1e-12)
                and np.allclose(a.transform(x, 2.), b.transform(maps(x), 2.), atol=1e-10))
        a, b = (GaussianIB.fit_class_paired(x, y, labels, copula=True),
                GaussianIB.fit_class_paired(maps(x), maps(y), labels, copula=True))
        assert np.allclose(a.rho, b.rho, atol=1e-12)

    @pytest.mark.parametrize("copula", [True, "spearman", "kendall"])
    def test_recovers_correlation(self, copula):
        g, n = np.random.default_rng(0), 1500
        z = g.normal(size=(n, 2)); w = z*[.8, .4] + g.normal(size=(n, 2))*np.sqrt(1 - np.array([.8, .4])**2)
        rho = GaussianIB.fit(np.exp(z), w**3, copula=copula).rho
        assert (np.abs(rho - [.8, .4]) < 4*(1 - np.array([.8, .4])**2)/math.sqrt(n)).all()
        assert GaussianIB.fit(np.exp(z), w**3).rho[0] < .7

    def test_unknown(self):
        x, y, _ = classes(twin=True)
        with pytest.raises(InputError, match="copula must be"): GaussianIB.fit(x, y, copula="pearson")


class TestGapAndTransform:
    def test_gap_of_one_mode_is_zero_and_bounds(self):
        s = joint(5, 4)
        gib, g = GaussianIB.from_covariance(*s), np.random.default_rng(0)
        for _ in range(10):
            gap = gib.ib_gap(g.normal(size=(3, 5)))
            assert (0 <= gap.share <= 1 and gap.nats == pytest.approx(gap.optimum - gap.iyt, abs=1e-12)
                    and gap.nats == pytest.approx(gap.share*gib.information))
        one = GaussianIB.from_covariance(np.diag([1., 2]), np.diag([.9, 0]), np.eye(2))
        assert one.ib_gap(np.array([[1., 0]])).share < 1e-9

    def test_gap_against_determinants_over_scales(self):
        s = joint(5, 4)
        gib, m = GaussianIB.from_covariance(*s), np.random.default_rng(1).normal(size=(2, 5))
        worst = max(gib.optimal_information(np.array(i)) - o
                    for i, o in (informations(t*m, s[0], given(*s)) for t in np.geomspace(1e-3, 1e5, 2000)))
        assert gib.ib_gap(m).nats == pytest.approx(float(worst), rel=1e-4)

    def test_equally_strong_modes_make_class_means_optimal(self):
        "Isotropic discriminants: the class-mean code is the optimal encoder at every scale."
        g, k = np.random.default_rng(0), 5
        labels = np.arange(1000) % k
        noise = g.normal(size=(1000, k))
        for j in range(k): noise[labels == j] -= noise[labels == j].mean(0)
        x = 3*(np.eye(k) - 1/k)[labels] + noise@np.linalg.cholesky(np.linalg.inv(noise.T@noise/1000))
        assert GaussianIB.fit_labels(x, labels).class_mean_gap(x, labels).share < 1e-6
        stretched = x@np.diag([1, 1, 1, 4, 9.])
        assert GaussianIB.fit_labels(stretched, labels).class_mean_gap(stretched, labels).share > .01

    def test_class_mean_gap_takes_means(self):
        x, y, labels = classes(twin=True)
        gib = GaussianIB.fit(x, y)
        means = np.stack([x[labels == k].mean(0) for k in range(10)])
        assert gib.class_mean_gap(means).share == pytest.approx(gib.class_mean_gap(x, labels).share, rel=1e-9)

    def test_transform_statistics(self):
        x, y, _ = classes(n=4000, twin=True)
        gib = GaussianIB.fit(torch.tensor(x), torch.tensor(y), shrinkage=None)
        t = gib.transform(torch.tensor(x), 1.5)
        a = gib.encoder(1.5)
        assert isinstance(t, torch.Tensor) and torch.allclose(t, (torch.tensor(x) - gib.cca.mean_x)@a.T)
        assert torch.allclose(t.T@t/4000, torch.diag(a@gib.cca.covariance[0]@a.T).diag(), atol=1e-8)
        noisy = gib.transform(torch.tensor(x), 1.5, generator=torch.Generator().manual_seed(0)) - t
        assert torch.allclose(noisy.T@noisy/4000, torch.eye(len(a)).double(), atol=.12)

    def test_same_kind_and_joint_stats(self):
        x, y, _ = classes(twin=True)
        a, b = GaussianIB.fit(x, y), GaussianIB.fit(JointStats(24, 24).update(x, y))
        assert (isinstance(a.critical_betas, np.ndarray) and isinstance(b.critical_betas, torch.Tensor)
                and isinstance(b.curve([2.]).ixt, torch.Tensor))
        assert np.allclose(a.rho, b.rho.numpy(), atol=1e-10) and a.transitions().count == b.transitions().count
        assert b.ib_gap(torch.eye(24).double()).share == pytest.approx(a.ib_gap(np.eye(24)).share, rel=1e-6)

    @pytest.mark.parametrize("call, message", [
        (lambda g, x: GaussianIB.from_rho([1.1]), r"rho must lie in \[0, 1\]"),
        (lambda g, x: GaussianIB.from_rho([.5], one_minus_rho2=[.5]), "one_minus_rho2"),
        (lambda g, x: GaussianIB.from_rho([.5]).encoder(2.), "no directions"),
        (lambda g, x: g.curve([2.], excess=[1.]), "not both"), (lambda g, x: g.curve([math.inf]), "finite"),
        (lambda g, x: g.transform(x[:, :3], 2.), r"x must be \(n, 24\)"),
        (lambda g, x: g.ib_gap(x[:, :3]), r"code must be \(m, 24\)"),
        (lambda g, x: g.ib_gap(np.zeros((2, 24))), "zero variance"), (lambda g, x: g.optimal_information(-1.), "rate"),
        (lambda g, x: gaussian_ib_curve([[-1.]], [1.]), "critical_excess"),
        (lambda g, x: gaussian_ib_curve([1.], [[1.]]), "excess"), (lambda g, x: g.encoder(math.nan), "beta")])
    def test_bad_input(self, call, message):
        x, y, _ = classes(twin=True)
        with pytest.raises(InputError, match=message): call(GaussianIB.fit(x, y), x)


def mixture(n, excess, d, k=10, seed=0, classes=None, scale=1.):
    "Features of two encoders with the given excesses: the first K − 1 modes are class means, the rest normal."
    g, rho = np.random.default_rng(seed), np.zeros(d)
    rho[:len(excess)] = 1/np.sqrt(1 + np.asarray(excess))
    labels = g.integers(0, k, n) if classes is None else classes
    simplex = (np.eye(k) - 1/k)@np.linalg.svd(np.eye(k) - 1/k)[0][:, :k - 1]*math.sqrt(k)
    shared, units = g.normal(size=(n, d)), np.where(np.arange(d) < k - 1, 1, scale)
    shared[:, :k - 1] = simplex[labels]
    x, y = ((np.sqrt(rho)*shared + np.sqrt(1 - rho)*g.normal(size=(n, d)))*units for _ in "xy")
    means = np.zeros((k, d))
    means[:, :k - 1] = simplex*np.sqrt(rho[:k - 1])
    return x, y, labels, means*units, rho


class TestCorner:
    def test_against_determinants(self):
        "The class-mean code of a population, brought to the rate of the corner by bisection, against the curve there."
        e, d, k = np.r_[.01, .02, .05, [.2]*4], 9, 4
        _, _, _, means, rho = mixture(50, e, d, k)
        units = np.linspace(1, 2, d)
        means, s = means*units, np.diag(units**2)
        cross = np.diag(rho*units**2)
        ib = GaussianIB.from_covariance(s, cross, s)
        c = ib.corner_shortfall(means)
        level = np.sum(1/e[3:])/np.sum(1/e[3:]**2)
        rate = np.log(level/e[:3]).sum()/2
        low, high = -20., 20.
        for _ in range(80):
            middle = (low + high)/2
            if informations(math.exp(middle)*means, s, given(s, cross, s))[0] < rate: low = middle
            else: high = middle
        told = informations(math.exp(low)*means, s, given(s, cross, s))[1]
        best = sum((math.log(level/v) - math.log((1 + level)/(1 + v)))/2 for v in e[:3])
        assert c.rate == pytest.approx(rate) and c.excess == pytest.approx(level) and c.modes == 3 and not c.hidden
        assert c.iyt == pytest.approx(told, rel=1e-8) and c.optimum == pytest.approx(best)
        assert c.share == pytest.approx(1 - told/best, rel=1e-6)
        assert .001 < c.share < 1 and c.interval is None

    def test_optimal_codes(self):
        "One mode has one code; tied modes with isotropic means have theirs."
        x, y, labels, means, rho = mixture(500, [.02], 8, 2)
        ib = GaussianIB.from_covariance(np.eye(8), np.diag(np.r_[rho[:1], [.5]*7]), np.eye(8))
        assert ib.corner_shortfall(means).share == pytest.approx(0, abs=1e-12)
        found = GaussianIB.fit(x, y).corner_shortfall(x, labels)
        assert 0 <= found.share < .5 and found.hidden and found.interval.low <= 0 <= found.interval.high
        _, _, _, means, rho = mixture(50, np.r_[[.02]*9, .1], 12)
        tied = GaussianIB.from_covariance(np.eye(12), np.diag(rho), np.eye(12))
        assert tied.corner_shortfall(means).share == pytest.approx(0, abs=1e-9)

    @pytest.mark.parametrize("seed", range(3))
    def test_scale_of_the_features_means_nothing(self, seed):
        x, y, labels, _, _ = mixture(400, np.r_[np.geomspace(.01, .04, 9), [.2]*6], 24, seed=seed)
        a = GaussianIB.fit(x, y).corner_shortfall(x, labels)
        b = GaussianIB.fit(1e3*x, 1e-3*y).corner_shortfall(1e3*x, labels)
        g = np.random.default_rng(seed)
        turn, other = np.linalg.qr(g.normal(size=(24, 24)))[0], g.normal(size=(24, 24))
        c = GaussianIB.fit(x@turn, y@other).corner_shortfall(x@turn, labels)
        for v in (b, c):
            assert v.share == pytest.approx(a.share, abs=1e-7)
            assert v.rate == pytest.approx(a.rate) and v.optimum == pytest.approx(a.optimum)
            assert v.interval.low == pytest.approx(a.interval.low, abs=1e-6)
            assert v.interval.high == pytest.approx(a.interval.high, abs=1e-6)

    @pytest.mark.parametrize("unit", [1e-9, 1e-7, 1e-3, 1e3, 1e7, 1e9])
    def test_units_mean_nothing(self, unit):
        x, y, labels, _, _ = mixture(300, np.r_[np.geomspace(.01, .04, 9), [.2]*6], 24)
        a, b = (GaussianIB.fit(s*x, y).corner_shortfall(s*x, labels) for s in (1., unit))
        for name in ("share", "nats", "rate", "iyt", "optimum"):
            assert getattr(b, name) == pytest.approx(getattr(a, name), rel=1e-6)
        assert b.interval.low == pytest.approx(a.interval.low, abs=1e-6) and 0 < a.share == a.uncut

    def test_a_share_below_zero_is_kept(self):
        x, y, labels, _, _ = mixture(300, np.r_[[.0181]*9, [.0628]*20], 48, seed=1)
        found = [GaussianIB.fit(x, y).corner_shortfall(x, labels, groups=g) for g in (0, 20)]
        for c in found: assert c.share == max(0., c.uncut)
        assert found[1].uncut == pytest.approx(found[1].interval.value)

    def test_chance_in_class_means_is_taken_out(self):
        """Class means of thirty rows are noisy in every direction. Taken as they are, they make an optimal code a poor
        one."""
        e, shares, plain, covered = np.r_[[.0181]*9, [.0628]*20], [], [], []
        for seed in range(12):
            x, y, labels, _, _ = mixture(300, e, 48, seed=seed)
            ib, found = GaussianIB.fit(x, y), np.stack([x[labels == k].mean(0) for k in range(10)])
            c = ib.corner_shortfall(x, labels)
            shares.append(c.share); plain.append(ib.corner_shortfall(found).share)
            covered.append(c.interval.low <= 0 <= c.interval.high)
        assert np.mean(shares) < .03 < .08 < np.mean(plain) and np.mean(covered) >= .9

    def test_pair_story_says_the_same(self):
        x, y, labels, _, _ = mixture(300, np.r_[np.geomspace(.01, .04, 9), [.2]*6], 24)
        one, two = GaussianIB.fit(x, y), GaussianIB.fit(y, x)
        for groups in (0, 20):
            t, a, b = one.pair_story(two, labels, groups=groups)
            for got, ib, v in ((a, one, x), (b, two, y)):
                own = ib.corner_shortfall(v, labels, groups=groups)
                assert got.share == pytest.approx(own.share, abs=1e-9) and (groups == 0) == (got.interval is None)
                assert groups == 0 or v is y or got.interval.high == pytest.approx(own.interval.high, abs=1e-9)

    def test_no_corner(self):
        g = np.random.default_rng(0)
        x, labels = g.normal(size=(200, 6)), np.arange(200) % 4
        nothing = GaussianIB.fit(x, g.normal(size=(200, 6))).corner_shortfall(x, labels)   # no mode seen
        assert (math.isnan(nothing.share) and math.isnan(nothing.rate) and nothing.interval is None
                and nothing.modes == 3 and nothing.why == "only 0 of the first 3 modes can be told from noise")
        # infinite information
        endless = GaussianIB.fit(x, x).corner_shortfall(x, labels)
        assert math.isnan(endless.share) and "perfectly correlated" in endless.why
        population = GaussianIB.from_covariance(np.eye(3), np.diag([.9, .8, .7]), np.eye(3))
        last = population.corner_shortfall(np.eye(4)[:, :3])
        assert math.isnan(last.share) and last.modes == 3 and last.why.startswith("no mode lies behind mode 3")
        assert population.corner_shortfall(np.eye(3)[:, :3] - 1/3).why == ""
        with pytest.raises(InputError, match="modes must be"): GaussianIB.fit(x, x).corner_shortfall(x, labels, modes=0)


class TestClass:
    def test_survives_pickling_and_knows_old_names(self):
        gib = GaussianIB.fit(*np.random.default_rng(0).normal(size=(2, 50, 3)))
        again = pickle.loads(pickle.dumps(gib))
        assert type(again) is GaussianIB and np.array_equal(again.excess, gib.excess) and repr(again) == repr(gib)
        with pytest.warns(DeprecationWarning, match="threshold is now critical_rho"): assert gib.threshold > 0
        gap = gib.ib_gap(np.eye(3))
        with pytest.warns(DeprecationWarning, match="IBGap.gap is now share"): assert gap.gap == gap.share
        with pytest.warns(DeprecationWarning, match="copula.rank_correlations is now ncib.gib.rank_correlations"):
            assert copula.rank_correlations is rank_correlations


class TestInequality:
    "Σ (β_c − 1) ≤ K·NC1 holds where Σ_B weighs classes by their samples."
    def draw(self, seed, share):
        g, k = np.random.default_rng(seed), int(np.random.default_rng(seed).integers(2, 7))
        counts = np.r_[g.integers(20, 60, k - 1), 40] if share is None else np.r_[[20]*(k - 1), 20*share]
        labels, d = np.repeat(np.arange(k), counts), int(g.integers(k, 16))
        within = g.uniform(.05, 1)*g.normal(size=(len(labels), d))@g.normal(size=(d, d))/math.sqrt(d)
        return g.normal(size=(k, d))[labels] + within, labels, k

    @pytest.mark.parametrize("share", [None, 1, 20])
    def test_holds_with_weights(self, share):
        for seed in range(200):
            x, labels, k = self.draw(seed, share)
            both = GaussianIB.nc1_identity(x, labels)
            assert both.critical <= both.trace*(1 + 1e-9) and both.trace == pytest.approx(k*both.nc1)
            assert GaussianIB.fit_labels(x, labels).excess.sum() <= k*both.nc1*(1 + 1e-9)

    def test_does_not_hold_with_the_mean_of_class_means(self):
        "NC1 with classes weighted alike is the default of `collapse_metrics`; one class has 20 times the rows."
        violated = 0
        for seed in range(40):
            x, labels, k = self.draw(seed, 20)
            nc1 = {w: float(collapse_metrics(x, labels, global_mean=w).nc1) for w in ("classes", "samples")}
            violated += GaussianIB.fit_labels(x, labels).excess.sum() > k*nc1["classes"]
        assert violated >= 20


class TestRows:
    "Rows that are noisier than Gaussian ones, and rows that are a mode of their own."
    @staticmethod
    def pair(n, excess, seed, heavy):
        g = np.random.default_rng(seed)
        rho, shared = 1/np.sqrt(1 + excess), g.normal(size=(n, len(excess)))
        chi = g.chisquare(5, size=(n, 1))/5 if heavy else 1.
        return tuple((np.sqrt(rho)*shared + np.sqrt(1 - rho)*g.normal(size=shared.shape))/np.sqrt(chi) for _ in "xy")

    def test_heavy_tails_bias_no_level(self):
        excess = np.concatenate([np.full(9, .02), np.full(23, .1), np.full(32, np.inf)])
        log = {False: [], True: []}
        for seed in range(12):
            x, y = self.pair(800, excess, seed, heavy=True)
            ib = GaussianIB.fit(x, y)
            assert 1.3 < ib.cca.tails < 2.2
            # moments say nothing about tails
            blind = GaussianIB.fit(JointStats(64, 64).update(x, y)).critical_betas.numpy() - 1
            for corrected, e in ((True, ib.excess), (False, blind)):
                log[corrected].append(np.log(e[:9]).mean() - np.log(.02))
        assert abs(np.mean(log[True])) < .06 < .1 < abs(np.mean(log[False]))

    def test_independent_rows_with_common_tails_share_few_modes(self):
        many = 0
        for seed in range(20):
            x, y = self.pair(300, np.full(16, np.inf), seed, heavy=True)
            many += GaussianIB.fit(x, y).significant.sum()
        assert many <= 12                                           # 2.5 a draw as Gaussian rows

    def test_gaussian_rows_count_in_full_and_maps_change_nothing(self):
        excess = np.concatenate([np.full(9, .02), np.full(11, np.inf)])
        x, y = self.pair(2000, excess, 0, heavy=False)
        assert GaussianIB.fit(x, y).cca.tails < 1.02
        x, y = self.pair(500, excess, 0, heavy=True)
        g = np.random.default_rng(1)
        plain, mapped = (GaussianIB.fit(*v) for v in ((x, y), (x@g.normal(size=(20, 20)), y@g.normal(size=(20, 20)))))
        assert mapped.cca.tails == pytest.approx(plain.cca.tails, rel=1e-9)

    def test_a_unit_that_fires_for_one_input_is_no_mode(self):
        x, y, labels = classes(twin=True, within=.5)
        one = np.zeros((len(x), 1))
        one[17] = 3.
        with_unit = [np.hstack([v, one + 1e-9*np.random.default_rng(i).normal(size=one.shape)])
                     for i, v in enumerate((x, y))]
        plain = GaussianIB.fit(x, y)
        with pytest.warns(UserWarning,
                          match="1 of 600 rows alone make up a direction of x and of y and are left out: 17"):
            ib, back = GaussianIB.fit(*with_unit), GaussianIB.fit(*with_unit[::-1])
        assert ib.left_out == (17,) and ib.n == 599 and not plain.left_out
        assert ib.excess[0] == pytest.approx(plain.excess[0], rel=.05)
        # labels of all rows
        for found, expected in zip(ib.pair_story(back, labels), plain.pair_story(GaussianIB.fit(y, x), labels)):
            a, b = (getattr(v, "separation", None) or v.interval for v in (found, expected))
            assert a.value == pytest.approx(b.value, abs=.02 + .05*abs(b.value))
        shares = [b.corner_shortfall(f, l).share
                  for b, f, l in ((ib, with_unit[0], labels), (ib, torch.tensor(with_unit[0]), torch.tensor(labels)))]
        assert shares[0] == pytest.approx(shares[1])

    def test_nothing_but_such_rows(self):
        with pytest.warns(UserWarning, match="too few"), pytest.raises(InputError, match="of 80 that each vary alone"):
            GaussianIB.fit(*[np.diag(np.arange(1., 81))]*2)

    def test_leverages_belong_to_moments(self):
        x, y = self.pair(300, np.concatenate([np.full(4, .02), np.full(4, np.inf)]), 0, heavy=True)
        stats, cc = JointStats(8, 8).update(x, y), GaussianIB.fit(x, y).cca
        of_rows = cc.leverages_x(x), cc.leverages_y(y)
        assert (float(of_rows[0].sum()) == pytest.approx(8) and GaussianIB.fit(stats, leverages=of_rows).cca.tails
                == pytest.approx(cc.tails))
        with pytest.raises(InputError, match="rows have their own"): GaussianIB.fit(x, y, leverages=of_rows)
        with pytest.raises(InputError, match="one for each row"):
            GaussianIB.fit(stats, leverages=(of_rows[0][:9], of_rows[1]))
