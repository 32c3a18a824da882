"What a sample can tell about critical βs: invariance, degenerate inputs, sentences, and intervals that cover."
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ncib.cca import canonical_correlations, cca_from_covariance
from ncib.core import InputError
from ncib.gib import GaussianIB
from ncib.stats import JointStats
from ncib.transitions import (
    Estimate,
    Transitions,
    count_shares,
    jackknife_estimate,
    level_behind,
    mode_level,
    separation,
)

TIED = np.r_[[.0181]*9, [.0628]*20]


def twins(n, excess, d, seed=0, scale=1.):
    "x and y with the given excesses of their modes; every column behind the ninth in units of `scale`."
    g, rho = np.random.default_rng(seed), np.zeros(d)
    rho[:len(excess)] = 1/np.sqrt(1 + np.asarray(excess))
    shared, units = g.normal(size=(n, d)), np.where(np.arange(d) < 9, 1, scale)
    return tuple((np.sqrt(rho)*shared + np.sqrt(1 - rho)*g.normal(size=(n, d)))*units for _ in "xy")


def skewed(d, condition, seed=1):
    "An invertible map with this condition number."
    g = np.random.default_rng(seed)
    (u, _), (v, _) = (np.linalg.qr(g.normal(size=(d, d))) for _ in "uv")
    return u*np.geomspace(1, 1/condition, d)@v


def close(a: Transitions, b: Transitions, rel=1e-6):
    ends = ([("separation", e) for e in ("value", "low", "high", "raw")]
            + [("level", e) for e in ("value", "low", "high")])
    pairs = [[getattr(getattr(t, name), end) for t in (a, b)] for name, end in ends]
    same = a.count == b.count and a.significant == b.significant
    return same and all(u == pytest.approx(v, rel=rel) for u, v in pairs)


class TestInvariance:
    "The toy whose nuisance shrinks: a ridge opens a gap from nothing, the default does not move."
    whole = GaussianIB.fit(*twins(450, TIED, 64)).transitions(9)

    @pytest.mark.parametrize("scale", [.3, .1, .03, .01])
    def test_scale_of_the_nuisance(self, scale):
        x, y = twins(450, TIED, 64, scale=scale)
        t = GaussianIB.fit(x, y).transitions(9)
        assert t.count == 29 and close(t, self.whole) and t.counts == self.whole.counts

    def test_a_ridge_would_open_a_gap(self):
        ridge = lambda s: GaussianIB.fit(*twins(450, TIED, 64, scale=s), shrinkage="auto", debias=False).transitions()
        assert (ridge(1).gap_after(9) < 2 and ridge(.01).gap_after(9) > 100 and ridge(1).count == 29
                and ridge(.01).count == 9)

    def test_linear_maps(self):
        x, y = twins(450, TIED, 64)
        assert close(GaussianIB.fit(x@skewed(64, 1e3), y@skewed(64, 1e3, 2)).transitions(9), self.whole)

    def test_float32_and_torch(self):
        x, y = twins(450, TIED, 64)
        assert close(GaussianIB.fit(torch.tensor(x), torch.tensor(y)).transitions(9), self.whole, 1e-12)
        assert close(GaussianIB.fit(x.astype(np.float32), y.astype(np.float32)).transitions(9), self.whole, 1e-4)


class TestDegenerate:
    def test_against_itself(self):
        x = np.random.default_rng(0).normal(size=(200, 16))
        x[:, 3] = x[:, 4] + x[:, 5]; x[:, 6] = 2.
        ib = GaussianIB.fit(x, x)
        assert len(ib.rho) == 14 and np.allclose(ib.rho, 1, atol=1e-12)
        assert ib.significant.all() and ib.excess.max() < 1e-12

    def test_too_few_rows(self):
        x = np.random.default_rng(0).normal(size=(16, 16))
        with pytest.warns(UserWarning, match="16 rows are too few for ranks 15 and 15"): ib = GaussianIB.fit(x, x)
        assert ib.cut == (15, 15) and len(ib.rho) == 3 and np.allclose(ib.rho, 1, atol=1e-12)

    def test_dependent_and_dead_columns(self):
        x, y = twins(450, TIED, 64)
        t = GaussianIB.fit(x, y).transitions(9)
        wide = lambda v: np.concatenate([v, np.full((450, 2), 3.), v[:, :5]@np.ones((5, 3))], 1)
        assert close(GaussianIB.fit(wide(x), wide(y)).transitions(9), t)

    def test_rounding_in_nearly_dead_columns_is_no_fault_of_the_data(self):
        "Where rows are few, all correlations are 1, and directions of tiny variance lose digits."
        g = np.random.default_rng(0)
        units = np.where(np.arange(80) < 20, 1, 1e-6)
        x, y = (g.normal(size=(60, 80))@np.linalg.qr(g.normal(size=(80, 80)))[0]*units for _ in "xy")
        cc = canonical_correlations(x, y, shrinkage=None, rank_tolerance=1e-14)
        assert np.allclose(cc.rho, 1, atol=1e-2) and cc.rho.max() <= 1
        with pytest.raises(InputError, match="positive semi-definite"):
            cca_from_covariance(np.eye(2), 1.1*np.eye(2), np.eye(2))

    def test_statistics_alone_have_no_intervals(self):
        x, y = twins(450, TIED, 64)
        t, rows = GaussianIB.fit(JointStats(64, 64).update(x, y)).transitions(9), GaussianIB.fit(x, y).transitions(9)
        assert t.separation is None and t.level is None and t.counts == {} and t.count == rows.count
        assert t.likely_counts() == [t.count] and np.allclose(t.excess, rows.excess, rtol=1e-6)
        assert f"{rows.separation.raw:.3g}" in t.sentences()[1]

    def test_levels_and_separation_by_hand(self):
        e = np.r_[.1, .2, .4, .8, math.inf]
        assert mode_level(e, 2) == pytest.approx(math.sqrt(.02)) and math.isnan(mode_level(e, 6))
        assert level_behind(e, 2) == pytest.approx((2.5 + 1.25)/(2.5**2 + 1.25**2)) and level_behind(e, 4) == math.inf
        assert separation(e, 2) == pytest.approx(.48/math.sqrt(.02)) and separation(e, 4) == math.inf
        assert separation(e, 4, floor=4.) == pytest.approx(4/.0064**.25)


class TestSentences:
    def test_nothing_significant(self):
        g = np.random.default_rng(0)
        t = GaussianIB.fit(g.normal(size=(300, 10)), g.normal(size=(300, 10))).transitions(9)
        assert t.count == t.significant == 0 and t.separation is None
        assert t.sentences() == ["No mode that x and y share can be told from noise."]

    def test_two_classes(self):
        t = GaussianIB.fit(*twins(450, [.02], 8)).transitions(1)
        count, apart = t.sentences()
        assert t.count == t.significant == 1 and "behind mode 1" in count
        assert "first 1 mode lies" in apart and "no further mode can be seen" in apart and t.separation.low > 10

    def test_fewer_modes_than_asked_about(self):
        t = GaussianIB.fit(*twins(450, [.02]*4, 16)).transitions(9)
        assert t.significant == 4 and t.separation is None and math.isnan(t.spread)
        assert "Only 4 modes can be told from noise" in t.sentences()[1]

    def test_near_tie(self):
        "Two gaps of the same size: the sample cannot tell them apart, and says so."
        e = np.r_[.005, [.02]*8, [.08]*10]
        without = e*np.exp(.02*np.random.default_rng(0).normal(size=(20, 19)))
        shares, some = count_shares(e, without, floor=.1), Estimate(4, 3, 5, 4)
        t = Transitions(1, 4., 19, e, np.r_[e[1:]/e[:-1], 1.2], .4, .1, 9, some, some, shares)
        assert sorted(shares) == [1, 9] and min(shares.values()) > .05
        assert "cannot tell 1 from 9 transitions" in t.sentences()[0]
        assert set(count_shares(np.r_[.005, [.02]*8, [.2]*10], without*np.r_[[1]*9, [2.5]*10], floor=.25)) == {9}

    def test_many_likely_counts_are_told_by_their_shares(self):
        "The four most frequent, then the range of the others."
        some, e = Estimate(4, 3, 5, 4), np.geomspace(.01, 1, 19)
        def said(counts): return Transitions(9, 4., 19, e, e, .4, .1, 9, some, some, counts).sentences()[0]
        assert said({9: .6, 2: .3, 1: .1}).endswith(
            "uncertain; of the resamples, the largest gap lies behind mode 9 in 60 %, 2 in 30 %, 1 in 10 %.")
        assert said({9: .7, 2: .1, 1: .06, 5: .04, 14: .03, 7: .03, 3: .04}).endswith(
            "5 in 4 %, 7 to 14 in most of the rest.")
        assert said({9: .7, 2: .1, 1: .06, 5: .05, 14: .09}).endswith("5 in 5 %, 14 in most of the rest.")

    def test_without_interval_and_without_a_mode_behind(self):
        "The separation is measured to the noise there, too, and says so."
        g = np.random.default_rng(1)
        labels = np.arange(600) % 3
        x, y = (4*g.normal(size=(3, 6))[labels] + g.normal(size=(600, 6)) for _ in "xy")
        with_interval = GaussianIB.fit(x, y).transitions(2)
        without = GaussianIB.fit(x, y).transitions(2, groups=0)
        assert with_interval.significant == 2 and without.separation is None
        for t in (with_interval, without): assert t.sentences()[1].endswith("where no further mode can be seen.")

    def test_a_mode_that_some_rows_hide_does_not_scatter_the_count(self):
        "It lies at the floor without them, not at infinity."
        e = np.r_[[.02]*9, [.1]*5, 2.]
        without = np.tile(e, (20, 1))*np.exp(.005*np.random.default_rng(0).normal(size=(20, 15)))
        without[::3, -1] = math.inf
        e[-1], floor = 2., 2.2
        assert set(count_shares(e, without, floor)) == {14}
        e[9:14] = 1.2; without[:, 9:14] = 1.2
        assert set(count_shares(e, without, floor)) == {9}


class TestCoverage:
    "A few draws of the simulation in benchmarks/estimators.py, whose whole table is results/estimators.csv."
    def test_tied_gaussian(self):
        truth = {"level": .0181, "separation": separation(TIED, 9)}
        draws = [GaussianIB.fit(*twins(450, TIED, 40, seed=s)).transitions(9) for s in range(40)]
        for name, value in truth.items():
            found = [getattr(t, name) for t in draws]
            assert np.mean([e.low <= value <= e.high for e in found]) >= .85
            assert abs(np.mean([math.log(e.value/value) for e in found])) < .06
            # one that covers everything says nothing
            assert np.median([math.log(e.high/e.low) for e in found]) < .6
        assert all(29 in t.likely_counts() for t in draws)

    def test_bias_taken_out_or_left_in(self):
        g = np.random.default_rng(0)
        rows = g.gamma(2., size=20)
        parts = [1/np.delete(rows, range(i, i + 2)).mean() for i in range(0, 20, 2)]
        a, b = (jackknife_estimate(1/rows.mean(), parts, correct=c) for c in (True, False))
        assert b.value == pytest.approx(b.raw) and a.value < a.raw == b.raw
        assert a.high/a.low == pytest.approx(b.high/b.low)

    def test_the_simulation_runs(self):
        path = Path(__file__).parents[1]/"benchmarks/estimators.py"
        spec = importlib.util.spec_from_file_location("estimators", path)
        spec.loader.exec_module(simulation := importlib.util.module_from_spec(spec))
        for cell in simulation.cells(quick=True):
            rows = simulation.cell(*cell)
            assert len({r["estimator"] for r in rows}) == 5 and all(set(simulation.COLUMNS) == set(r) for r in rows)
            mine = {r["quantity"]: r for r in rows if r["estimator"] == "debiased"}
            assert set(mine) >= {"level", "separation", "gap", "count"}
            assert abs(mine["level"]["bias"]) < .2 and abs(mine["separation"]["bias"]) < .2
