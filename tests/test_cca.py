"""Canonical correlations, their noise, their inference: closed forms, invariances, degenerate inputs, independent
implementations."""
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.cross_decomposition import CCA

from ncib.cca import (
    canonical_correlations,
    cca_from_covariance,
    class_pair_correlations,
    ledoit_wolf_shrinkage,
    noise_edge,
    oas_shrinkage,
)
from ncib.copula import copula_correlation, normal_scores
from ncib.core import InputError
from ncib.gib import rank_correlations
from ncib.identifiability import (
    bootstrap_correlations,
    held_out_correlations,
    linear_cka,
    linear_identifiability,
    permutation_test,
    rsa,
)
from ncib.stats import JointStats


def pair(n, d_x, d_y, rho, seed=0, mix=True):
    "Gaussian rows with canonical correlations `rho`, then zeros; in random coordinates if `mix`."
    g = np.random.default_rng(seed)
    x, y = g.normal(size=(n, d_x)), g.normal(size=(n, d_y))
    k, rho = len(rho), np.asarray(rho)
    y[:, :k] = x[:, :k]*rho + y[:, :k]*np.sqrt(1 - rho**2)
    return (x@g.normal(size=(d_x, d_x)), y@g.normal(size=(d_y, d_y))) if mix else (x, y)


@pytest.fixture(scope="module")
def big():
    "n = 5000, d = 512: the size at which sampling noise reaches .60."
    return pair(5000, 512, 512, [.95, .6, .3], mix=False)


class TestCorrelations:
    def test_against_generalised_eigenproblem(self):
        x, y = pair(400, 7, 5, [.9, .5, .2])
        s = np.cov(np.c_[x, y].T)
        sx, sxy, sy = s[:7, :7], s[:7, 7:], s[7:, 7:]
        squares = scipy.linalg.eigh(sxy.T@np.linalg.solve(sx, sxy), sy, eigvals_only=True)[::-1]
        cc = canonical_correlations(x, y, shrinkage=None)
        assert np.allclose(cc.rho**2, squares, atol=1e-10) and np.allclose(cc.one_minus_rho2, 1 - squares, atol=1e-10)

    def test_against_sklearn(self):
        x, y = pair(400, 6, 4, [.9, .5])
        u, v = CCA(2, max_iter=5000, tol=1e-12).fit_transform(x, y)
        assert np.allclose(canonical_correlations(x, y, shrinkage=None).rho[:2],
                           [np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(2)], atol=1e-6)

    @pytest.mark.parametrize("shrinkage", [None, 0, .1, "auto", "oas", "ledoit-wolf"])
    def test_never_exceeds_one_and_variates_are_white(self, shrinkage):
        x, y = pair(60, 20, 20, [1.]*5)
        cc = canonical_correlations(x, y, shrinkage=shrinkage)
        assert 0 <= cc.rho.min() and cc.rho.max() <= 1 and (np.diff(cc.rho) <= 1e-12).all()
        sx, sxy, sy = cc.covariance
        assert (np.allclose(cc.weights_x.T@sx@cc.weights_x, np.eye(20), atol=1e-7)
                and np.allclose(cc.weights_y.T@sy@cc.weights_y, np.eye(20), atol=1e-7))
        assert np.allclose(cc.weights_x.T@sxy@cc.weights_y, np.diag(cc.rho), atol=1e-7)
        joint = np.block([[sx, sxy], [sxy.T, sy]])
        assert np.linalg.eigvalsh(joint).min() > -1e-9*np.linalg.eigvalsh(joint).max()

    def test_shrinking_only_the_diagonal_blocks_would_exceed_one(self):
        """The reason why the joint matrix is shrunk: towards a smaller diagonal, the blocks alone are no covariance any
        more."""
        x, y = pair(500, 3, 3, [.999]*3)
        s = np.cov(np.c_[x, y].T)
        blocks = [(1 - .3)*b + .3*1e-3*np.eye(3) for b in (s[:3, :3], s[3:, 3:])]
        with pytest.raises(InputError, match="positive semi-definite"):
            cca_from_covariance(blocks[0], s[:3, 3:], blocks[1])
        assert canonical_correlations(x, y, shrinkage=.3).rho.max() < 1

    def test_invariances(self):
        x, y = pair(300, 6, 8, [.8, .4])
        g, base = np.random.default_rng(1), canonical_correlations(x, y, shrinkage=None)
        order = g.permutation(300)
        for u, v in ((x@g.normal(size=(6, 6)), y + 7), (x[order], y[order]), (1e-6*x, 1e6*y)):
            assert np.allclose(canonical_correlations(u, v, shrinkage=None).rho, base.rho, atol=1e-8)
        swapped = canonical_correlations(y, x, shrinkage=None)
        assert np.allclose(swapped.rho, base.rho, atol=1e-12) and (swapped.rank_x, swapped.rank_y) == (8, 6)
        q = np.linalg.qr(g.normal(size=(6, 6)))[0]
        # shrinkage: rotation and scale
        assert np.allclose(canonical_correlations(5*x@q, y).rho, canonical_correlations(x, y).rho, atol=1e-12)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_kinds_and_dtypes(self, dtype):
        x, y = (torch.as_tensor(v).to(dtype) for v in pair(500, 6, 5, [.9, .5]))
        cc = canonical_correlations(x, y)
        assert (isinstance(cc.rho, torch.Tensor) and cc.rho.dtype == torch.float64
                and isinstance(cc.debiased, torch.Tensor) and isinstance(cc.weights_x, torch.Tensor))
        exact = canonical_correlations(x.double().numpy(), y.double().numpy())
        assert isinstance(exact.rho, np.ndarray) and np.allclose(exact.rho, cc.rho.numpy(), atol=1e-12)
        assert isinstance(cc.transform_x(x), torch.Tensor) and cc.transform_x(x).shape == (500, 5)

    def test_common_offset_costs_nothing(self):
        x, y = pair(500, 6, 5, [.9, .5])
        assert np.allclose(canonical_correlations(x + 1e6, y - 1e6).rho, canonical_correlations(x, y).rho, atol=1e-7)

    def test_joint_stats(self):
        x, y = pair(900, 6, 5, [.9, .5])
        a, b = JointStats(6, 5).update(x[:100], y[:100]), JointStats(6, 5).update(x[100:], y[100:])
        merged, direct = canonical_correlations(a.merge(b)), canonical_correlations(x, y)
        assert (merged.n == 900 and np.allclose(merged.rho.numpy(), direct.rho, atol=1e-12)
                and merged.noise_edge == pytest.approx(direct.noise_edge))
        with pytest.raises(InputError, match="needs the rows"): canonical_correlations(a, shrinkage="ledoit-wolf")
        with pytest.raises(InputError, match="left out"): canonical_correlations(a, y)


class TestClassPairs:
    def test_all_pairs_of_a_class(self):
        "With every row of a class beside every other, weighted by 1/n_k: what sampling of pairs would come to."
        g, labels = np.random.default_rng(0), np.repeat([0, 1, 2], [10, 20, 30])
        x, y = (g.normal(size=(3, 4))[labels] + g.normal(size=(60, 4)) for _ in "xy")
        same = (labels[:, None] == labels)/np.bincount(labels)[labels]
        x0, y0 = x - x.mean(0), y - y.mean(0)
        pairs = cca_from_covariance(x0.T@x0/60, x0.T@same@y0/60, y0.T@y0/60)
        assert np.allclose(class_pair_correlations(x, y, labels)[0].rho, pairs.rho, atol=1e-7)

    def test_modes_next_to_one_come_from_rows(self):
        "Two encoders that differ by a map of the features and have collapsed to 1e-8: 1 − ρ² is about 1e-16."
        g, labels = np.random.default_rng(0), np.arange(200) % 3
        x = g.normal(size=(3, 5))[labels] + 1e-8*g.normal(size=(200, 5))
        found = class_pair_correlations(x, x@g.normal(size=(5, 5)), labels)[0].one_minus_rho2[:2]
        assert (found > 0).all() and (found < 1e-13).all()


class TestRankAndDeadColumns:
    def test_rank_nine(self):
        g = np.random.default_rng(0)
        z = g.normal(size=(5000, 9))
        w, a, b = .9*z + .4*g.normal(size=z.shape), g.normal(size=(9, 512)), g.normal(size=(9, 512))
        true = canonical_correlations(z, w, shrinkage=None).rho
        results = []
        for dtype in (np.float32, np.float64):
            x, y = z.astype(dtype)@a.astype(dtype), w.astype(dtype)@b.astype(dtype)
            cc = canonical_correlations(x, y, shrinkage=None)
            assert ((cc.rank_x, cc.rank_y, len(cc.rho), cc.num_significant) == (9, 9, 9, 9)
                    and np.allclose(cc.rho, true, atol=1e-6))
            noise = np.random.default_rng(1).normal(size=(2, 5000, 512))*1e-3
            for shrinkage in (None, "auto"):
                results.append(canonical_correlations((x + noise[0]).astype(dtype), (y + noise[1]).astype(dtype),
                                                      shrinkage=shrinkage))
                assert results[-1].num_significant == 9 and results[-1].rank_x == 512
        for a32, a64 in zip(results[:2], results[2:]): assert np.allclose(a32.rho[:9], a64.rho[:9], atol=2e-3)
        assert np.allclose(results[1].rho[:9], true, atol=1e-3)                # the default sees through the noise

    def test_dead_columns(self):
        x, y = pair(300, 5, 4, [.9])
        dead_x, dead_y = np.insert(x, [1, 3], [0, .3], axis=1).astype(np.float32), np.insert(y, 4, 1e4, axis=1)
        cc = canonical_correlations(dead_x, dead_y)
        assert list(cc.dead_x) == [1, 4] and list(cc.dead_y) == [4] and cc.rank_x == 5
        assert (cc.weights_x[[1, 4]] == 0).all() and np.allclose(cc.rho, canonical_correlations(x, y).rho, atol=1e-5)

    def test_explicit_rank(self):
        x, y = pair(300, 8, 8, [.9])
        cc = canonical_correlations(x, y, shrinkage=None, rank=3)
        centred = [v - v.mean(0) for v in (x, y)]
        principal = [v@np.linalg.svd(v, full_matrices=False)[2][:3].T for v in centred]
        assert (len(cc.rho) == 3 and np.allclose(cc.rho, canonical_correlations(*principal, shrinkage=None).rho,
                                                 atol=1e-10))

    def test_fewer_rows_than_columns(self):
        x, y = pair(30, 50, 50, [.9])
        plain = canonical_correlations(x, y, shrinkage=None)
        assert (plain.rank_x == 29 and plain.noise_edge == plain.critical_rho == 1 and plain.num_significant == 0
                and (plain.debiased == 0).all())
        assert plain.rho.max() <= 1 and canonical_correlations(x, y).rho.max() < 1

    @pytest.mark.parametrize("bad, message", [
        (lambda x, y: (x[:5], y), "same number of rows"), (lambda x, y: (x[:2], y[:2]), "at least 3 rows"),
        (lambda x, y: (0*x, y), "x must have at least one column that varies"),
        (lambda x, y: (np.where(x > 2, np.nan, x), y), "x must be finite"),
        (lambda x, y: (x, y.astype(int)), "y must be floating point"), (lambda x, y: (x[0], y), r"x must be \(n, d\)")])
    def test_bad_input(self, bad, message):
        x, y = pair(100, 4, 4, [.9])
        with pytest.raises(InputError, match=message): canonical_correlations(*bad(x, y))

    @pytest.mark.parametrize("kw", [dict(shrinkage="lw"), dict(shrinkage=1.), dict(shrinkage=-.1), dict(rank=0),
                                    dict(rank=1.5)])
    def test_bad_options(self, kw):
        with pytest.raises(InputError, match=next(iter(kw))): canonical_correlations(*pair(100, 4, 4, [.9]), **kw)

    def test_bad_covariance(self):
        with pytest.raises(InputError, match="symmetric"):
            cca_from_covariance(np.array([[1, .5], [0, 1]]), np.eye(2), np.eye(2))
        with pytest.raises(InputError, match=r"sigma_xy must be \(2, 3\)"):
            cca_from_covariance(np.eye(2), np.eye(2), np.eye(3))
        with pytest.raises(InputError, match="needs the sample size"):
            cca_from_covariance(np.eye(2), .5*np.eye(2), np.eye(2), shrinkage="oas")

    @pytest.mark.parametrize("sx, sxy, sy", [
        (np.diag([1., 1e-12]), np.array([[0.], [.01]]), np.eye(1)),             # of a direction that would be cut
        (np.array([[1, 2.], [2, 1]]), np.zeros((2, 1)), np.eye(1)),             # one block is not
        (np.diag([1., 0]), np.array([[0.], [.001]]), np.eye(1)),                # a dead column that covaries
        (np.array([[1, .9, 0], [.9, 1, .9], [0, .9, 1.]]), np.zeros((3, 1)), np.eye(1))])
    def test_a_covariance_that_is_none(self, sx, sxy, sy):
        for unit in (1e-9, 1., 1e9):
            with pytest.raises(InputError, match="one positive semi-definite matrix"):
                cca_from_covariance(unit**2*sx, unit*sxy, sy)

    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_covariances_of_samples_are_taken(self, dtype):
        "Few rows, directions without variance, a dead column, equal sides; each with its rounding."
        g = np.random.default_rng(0)
        z = g.normal(size=(500, 6))
        for x, y in ((g.normal(size=(20, 30)), g.normal(size=(20, 25))),
                     (z@g.normal(size=(6, 40)), z@g.normal(size=(6, 9))),
                     (z*[1, 1, 1, 0, 1, 1], z), (z*np.logspace(0, -3, 6), z)):
            x, y = (v.astype(dtype) - v.astype(dtype).mean(0) for v in (x, y))
            cc = cca_from_covariance(*(u.T@v/len(x) for u, v in ((x, x), (x, y), (y, y))))
            assert cc.rho[0] == pytest.approx(1, abs=1e-3) and (cc.rho <= 1).all()


class TestPrecision:
    @pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12])
    def test_near_one_from_rows(self, gap):
        "y = x + noise of a known sample variance that is exactly uncorrelated with x in the sample."
        g = np.random.default_rng(0)
        q = np.linalg.qr(g.normal(size=(400, 7)) - 0)[0]
        q = np.linalg.qr(q - q.mean(0))[0]
        angle = np.arcsin(np.sqrt(gap))
        x, y = q[:, :3], np.c_[q[:, 0]*np.cos(angle) + q[:, 3]*np.sin(angle), .5*q[:, 1] + math.sqrt(.75)*q[:, 4]]
        cc = canonical_correlations(x@np.diag([1, 10, .1]), y, shrinkage=None)
        assert (cc.one_minus_rho2[0] == pytest.approx(gap, rel=1e-3*max(1, 1e-12/gap*5))
                and cc.rho[1] == pytest.approx(.5, rel=1e-10))

    def test_identical_encoders(self):
        x, _ = pair(300, 6, 6, [.5])
        cc = canonical_correlations(x, x@np.random.default_rng(3).normal(size=(6, 6)), shrinkage=None)
        assert cc.one_minus_rho2.max() < 1e-20 and (cc.rho <= 1).all()

    def test_near_one_with_shrinkage_matches_extended_precision(self):
        g, alpha, n = np.random.default_rng(0), 1e-9, 200
        x = g.normal(size=(n, 2)); y = x + 1e-5*g.normal(size=(n, 2))
        x -= x.mean(0); y -= y.mean(0); x /= np.sqrt((x**2).mean()); y /= np.sqrt((y**2).mean())
        cc = canonical_correlations(x, y, shrinkage=alpha)
        from fractions import Fraction as F
        rows = [[F(float(v)) for v in r] for r in np.c_[x, y]]
        s = [[sum(r[i]*r[j] for r in rows)/n*(1 - F(alpha)) + (F(alpha) if i == j else 0) for j in range(4)]
             for i in range(4)]
        det = lambda m: m[0][0]*m[1][1] - m[0][1]*m[1][0]
        def inv(m): d = det(m); return [[m[1][1]/d, -m[0][1]/d], [-m[1][0]/d, m[0][0]/d]]
        mul = lambda a, b: [[sum(a[i][k]*b[k][j] for k in range(2)) for j in range(2)] for i in range(2)]
        sx, sxy, syx, sy = ([[s[i][j] for j in c] for i in r] for r, c in (
            ((0, 1), (0, 1)), ((0, 1), (2, 3)), ((2, 3), (0, 1)), ((2, 3), (2, 3))))
        m = mul(mul(inv(sx), sxy), mul(inv(sy), syx))
        product = 1 - m[0][0] - m[1][1] + det(m)                                 # (1 − ρ₁²)(1 − ρ₂²), exactly
        assert math.prod(cc.one_minus_rho2) == pytest.approx(float(product), rel=1e-6)


class TestNoise:
    def test_oas_and_ledoit_wolf_limits(self):
        assert (oas_shrinkage(np.eye(5), 10) == 1
                and 0 <= ledoit_wolf_shrinkage(np.random.default_rng(0).normal(size=(50, 4))) <= 1)

    @pytest.mark.parametrize("c_x, c_y", [(.1, .1), (.02, .4), (.3, .5)])
    def test_wachter(self, c_x, c_y):
        edge, threshold = noise_edge(np.ones(int(1000*c_x)), np.ones(int(1000*c_y)), 1000)
        assert (edge == pytest.approx(math.sqrt(c_x*(1 - c_y)) + math.sqrt(c_y*(1 - c_x)), rel=1e-12)
                and edge < threshold < 1)

    def test_edge_predicts_shrunk_null_correlations(self):
        "The free-probability edge against simulation, for coloured features."
        g, found, predicted = np.random.default_rng(0), [], []
        scale = .97**np.arange(150)
        for _ in range(5):
            cc = canonical_correlations(g.normal(size=(600, 150))*scale, g.normal(size=(600, 100)), shrinkage=.1)
            found.append(cc.rho[0]); predicted.append(cc.noise_edge)
        assert np.mean(found) == pytest.approx(np.mean(predicted), rel=.02)

    def test_big(self, big):
        cc = canonical_correlations(*big, shrinkage=None)
        c = 512/5000
        assert cc.noise_edge == pytest.approx(2*math.sqrt(c*(1 - c)), rel=1e-12)
        assert (cc.num_significant == 2 and np.allclose(cc.debiased[:2], [.95, .6], atol=.02)
                and (cc.debiased[2:] == 0).all())
        assert .58 < cc.rho[2] < .62                                             # .3 cannot be told from the noise
        assert (np.abs(held_out_correlations(*big, folds=2, shrinkage=None)[2:]) < .1).all()

    def test_old_name_of_the_critical_rho(self):
        cc = canonical_correlations(*pair(100, 4, 3, [.9]))
        with pytest.warns(DeprecationWarning, match="threshold is now critical_rho"):
            assert cc.threshold == cc.critical_rho

    def test_debiased_solves_its_equation(self):
        x, y = pair(2000, 100, 60, [.9, .7])
        cc = canonical_correlations(x, y, shrinkage=None)
        r, c_x, c_y = cc.debiased[:2]**2, .05, .03
        assert np.allclose(r*(1 - c_x + c_x/r)*(1 - c_y + c_y/r), cc.rho[:2]**2, rtol=1e-12)

    @pytest.mark.parametrize("shrinkage", [None, "auto"])
    def test_false_positives(self, shrinkage):
        "200 data sets of pure noise: at level 5 % more than 20 false alarms have a chance below 1 in 500."
        g, alarms = np.random.default_rng(0), 0
        for _ in range(200):
            alarms += canonical_correlations(g.normal(size=(150, 12)), g.normal(size=(150, 8)),
                                             shrinkage=shrinkage).num_significant > 0
        assert alarms <= 20


class TestInference:
    def test_held_out_is_unbiased_for_noise_and_keeps_signal(self):
        x, y = pair(600, 30, 30, [.95])
        held = held_out_correlations(x, y)
        assert held[0] > .9 and abs(held[1:].mean()) < .03
        assert (np.array_equal(held, held_out_correlations(x, y))
                and not np.array_equal(held, held_out_correlations(x, y, seed=1)))

    def test_score_is_plain_correlation(self):
        x, y = pair(600, 5, 4, [.9, .4])
        cc = canonical_correlations(x[:300], y[:300])
        u, v = cc.transform_x(x[300:]), cc.transform_y(y[300:])
        assert np.allclose(cc.score(x[300:], y[300:]), [np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(4)])

    def test_score_from_moments_is_that_from_rows(self):
        x, y = pair(300, 6, 5, [.9, .4])
        cc, new = canonical_correlations(x[:200], y[:200]), (x[200:], y[200:])
        assert np.allclose(cc.score(JointStats(6, 5).update(*new)), cc.score(*new), atol=1e-12)

    def test_permutation_false_positives_and_step_down(self):
        g, first, second = np.random.default_rng(0), 0, 0
        for seed in range(100):
            x, y = g.normal(size=(60, 4)), g.normal(size=(60, 3))
            first += permutation_test(x, y, permutations=39, seed=seed).p_values[0] <= .05
            y[:, 0] += 3*x[:, 0]
            p = permutation_test(x, y, permutations=39, seed=seed).p_values
            assert p[0] <= .05
            second += p[1] <= .05
        # 100 × 5 % = 5 expected; above 13 in less than 1 of 1000
        assert first <= 13 and second <= 13

    def test_permutation_is_monotone_and_finds_two(self):
        p = permutation_test(*pair(300, 10, 8, [.8, .5]), permutations=99)
        assert p.num_significant == 2 and (np.diff(p.p_values) >= 0).all() and p.p_values.min() >= 1/100

    def test_bootstrap_coverage(self):
        inside, rho = np.zeros(2), np.array([.9, .5])
        for seed in range(100):
            lo, hi = bootstrap_correlations(*pair(250, 25, 20, rho, seed=seed), modes=2, replicates=200,
                                            shrinkage=None).interval()
            inside += (lo <= rho) & (rho <= hi)
        assert (inside >= 85).all()                                              # 95 expected

    def test_no_interval_of_a_mode_that_cannot_be_told_from_one(self):
        x, y = pair(400, 4, 4, [.9, .9, .9], mix=False)
        y[:, 0] = x[:, 0] + 1e-9*y[:, 0]
        b = bootstrap_correlations(x, y, modes=2, replicates=50, shrinkage=None)
        for lo, hi in (b.interval(), b.critical_beta_interval()):
            assert np.isnan([lo[0], hi[0]]).all() and lo[1] < hi[1]

    def test_the_fewest_permutations_can_find_a_mode(self):
        assert permutation_test(*pair(300, 3, 3, [.9]), permutations=19).num_significant >= 1

    def test_bootstrap_critical_betas(self):
        b = bootstrap_correlations(*pair(400, 5, 5, [.9]), replicates=100)
        (lo, hi), (beta_lo, beta_hi) = b.interval(), b.critical_beta_interval()
        assert np.allclose(beta_lo, hi**-2) and np.allclose(beta_hi, lo**-2) and b.draws.shape == (100, 1)

    @pytest.mark.parametrize("call, message", [
        (lambda x, y: held_out_correlations(x, y, folds=1), "folds"),
        (lambda x, y: permutation_test(x, y, permutations=0), "permutations"),
        (lambda x, y: permutation_test(x, y, level=1), "level"),
        (lambda x, y: permutation_test(x, y, permutations=18), "permutations must be at least 19 at level 0.05, or no"),
        (lambda x, y: permutation_test(x, y, level=.001), "permutations must be at least 999 at level 0.001"),
        (lambda x, y: held_out_correlations(x, y, shrinkage="ledoit-wolf"), "where rows are held out: .* ledoit-wolf"),
        (lambda x, y: linear_identifiability(x, y, shrinkage="ledoit-wolf"), "where rows are held out: .* ledoit-wolf"),
        (lambda x, y: bootstrap_correlations(x, y, modes=9), "modes"),
        (lambda x, y: bootstrap_correlations(x, y, replicates=1), "replicates"),
        (lambda x, y: linear_identifiability(x, y[:-1]), "same number of rows")])
    def test_bad_options(self, call, message):
        with pytest.raises(InputError, match=message): call(*pair(60, 4, 4, [.5]))


class TestIdentifiability:
    def test_r2_against_least_squares(self):
        x, y = pair(300, 5, 4, [.9, .5])
        found = linear_identifiability(x, y, shrinkage=None, folds=3, seed=4)
        from ncib.core import generator
        order, residual, total = torch.randperm(300, generator=generator(4)).numpy(), 0, 0
        for held in np.array_split(order, 3):
            train = np.setdiff1d(order, held)
            design = lambda i: np.c_[x[i], np.ones(len(i))]
            fit = np.linalg.lstsq(design(train), y[train], rcond=None)[0]
            residual += ((y[held] - design(held)@fit)**2).sum(); total += ((y[held] - y[train].mean(0))**2).sum()
        assert found.r2_x_to_y == pytest.approx(1 - residual/total, rel=1e-9)

    @pytest.mark.parametrize("value", [0., .1, 1e9/3])
    def test_a_side_that_does_not_vary_is_like_nothing(self, value):
        x, y = np.random.default_rng(0).normal(size=(50, 3)), np.full((50, 2), value)
        for measure in (linear_cka, rsa): assert measure(x, y) == measure(y, x) == measure(y, y) == 0
        with pytest.raises(InputError, match="y must have at least one column"): linear_identifiability(x, y)

    def test_procrustes_and_pwcca_against_their_definitions(self):
        x, y = pair(200, 5, 4, [.9, .5])
        found, cx, cy = linear_identifiability(x, y), x - x.mean(0), y - y.mean(0)
        u, v = cx/np.linalg.norm(cx), cy/np.linalg.norm(cy)
        q, _, p = np.linalg.svd(u.T@v, full_matrices=False)
        assert found.procrustes == pytest.approx(np.linalg.norm(u@q@p - v)**2 + np.linalg.norm(u)**2
                                                 - np.linalg.norm(u@q)**2, rel=1e-9)
        cc = canonical_correlations(x, y, shrinkage=None)
        weight = np.abs(cc.transform_x(x).T@cx).sum(1)
        assert found.pwcca_x == pytest.approx((weight*cc.rho).sum()/weight.sum(), rel=1e-9)

    def test_invariance_and_symmetry(self):
        x, y = pair(300, 6, 6, [.9]*3)
        q = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
        a, b, c = linear_identifiability(x, y), linear_identifiability(3*x@q, y + 5), linear_identifiability(y, x)
        for name in ("r2_x_to_y", "r2_y_to_x", "mean_rho", "mean_held_out_rho", "svcca", "pwcca_y", "procrustes"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-6), name
        assert (a.r2_x_to_y, a.pwcca_x, a.procrustes) == pytest.approx((c.r2_y_to_x, c.pwcca_y, c.procrustes))


class TestCopula:
    def test_ranks_against_scipy(self):
        import scipy.stats
        x = np.random.default_rng(0).integers(0, 8, size=(60, 4)).astype(float)          # many ties
        scores = scipy.stats.norm.ppf(scipy.stats.rankdata(x, axis=0)/61)
        assert np.allclose(normal_scores(x), scores, atol=1e-12)
        tau = scipy.stats.kendalltau(x[:, 0], x[:, 1]).statistic
        r = scipy.stats.spearmanr(x[:, 0], x[:, 1]).statistic
        assert copula_correlation(x[:, :2], "kendall")[0, 1] == pytest.approx(math.sin(math.pi*tau/2), abs=1e-12)
        assert copula_correlation(x[:, :2], "spearman")[0, 1] == pytest.approx(2*math.sin(math.pi*r/6), abs=1e-12)

    @pytest.mark.parametrize("method", ["spearman", "kendall"])
    def test_repaired_matrix_is_a_correlation_matrix(self, method):
        x = np.maximum(np.random.default_rng(0).normal(size=(12, 30)), 0); x[:, 3] = 0
        r = copula_correlation(x, method)
        alive = np.arange(30) != 3
        assert (np.linalg.eigvalsh(r).min() > -1e-12 and np.allclose(np.diag(r)[alive], 1) and (r[3] == 0).all()
                and np.abs(r).max() <= 1 + 1e-12)
        cc = rank_correlations(x, x[:, ::-1].copy(), method)
        assert cc.rho.max() <= 1 and list(cc.dead_x) == [3]

    def test_new_rows(self):
        x = np.random.default_rng(0).normal(size=(99, 2))
        new = normal_scores(np.array([[-1e9, 1e9], [np.median(x[:, 0]), np.median(x[:, 1])]]), reference=x)
        assert np.isfinite(new).all() and np.allclose(new[1], 0, atol=1e-12) and new[0, 0] < -2 and new[0, 1] > 2
        with pytest.raises(InputError, match=r"x must be \(n, 2\)"): normal_scores(x[:, :1], reference=x)
        with pytest.raises(InputError, match="method"): copula_correlation(x, "pearson")
