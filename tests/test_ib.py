"ncib.ib: closed forms, global certificates against independent solvers, degenerate inputs."
import itertools
import math

import numpy as np
import pytest
import torch

from ncib.core import InputError
from ncib.ib import DiscreteIB, ib_curve


def entropy(p): return float(-sum(v*math.log(v) for v in np.ravel(p) if v > 0))

def plain_fixed_point(p, beta, rng, clusters, iterations=3000):
    "The textbook iteration p(t|x) ∝ p(t) exp(−β KL) from a random encoder: the lowest I(X;T) − β I(T;Y) it reaches."
    px = p.sum(1); pyx = p/px[:, None]; py = p.sum(0)
    enc = rng.dirichlet(np.full(clusters, .3), len(px))
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(iterations):
            pt = px @ enc + 1e-300
            pyt = (enc*px[:, None]).T @ pyx/pt[:, None] + 1e-300
            logits = np.log(pt) + beta*pyx @ np.log(pyt).T
            enc = np.exp(logits - logits.max(1, keepdims=True)); enc /= enc.sum(1, keepdims=True)
    joint = (enc*px[:, None]).T @ pyx
    pt = joint.sum(1)
    ixt = entropy(pt) - px @ [entropy(r) for r in enc]
    return ixt - beta*(entropy(pt) + entropy(py) - entropy(joint))

def random_joint(seed, x=8, y=4, sharp=.7):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(y, sharp), x)*rng.dirichlet(np.full(x, 2.))[:, None]


@pytest.mark.parametrize("eps", [.01, .1, .2, .4, .49])
def test_binary_symmetric_channel_closed_form(eps):
    c = 1 - 2*eps
    ib = DiscreteIB(np.array([[1 - eps, eps], [eps, 1 - eps]])/2)
    assert ib.critical_beta == pytest.approx(1/c**2, rel=1e-12)
    betas = ib.critical_beta*np.array([.5, .9, .999, 1.001, 1.1, 2, 10])
    r = ib.curve(betas)
    assert r.converged.all() and list(r.n_clusters) == [1]*3 + [2]*4
    h = lambda d: entropy([d, 1 - d])
    for b, ixt, iyt, gap in zip(betas, r.ixt, r.iyt, r.global_gap):
        # by symmetry T is a symmetric channel with crossover d in [0, 1/2]: stationarity log((1−d)/d) = β c
        # log((1−e)/e), e = d + eps − 2 d eps
        g = lambda d: math.log((1 - d)/d) - b*c*math.log((1 - (d + eps - 2*d*eps))/(d + eps - 2*d*eps))
        lo, hi = 1e-300, .5 - 1e-9
        if g(hi) > 0:
            assert ixt == pytest.approx(0, abs=1e-9)
            continue
        for _ in range(2000):
            mid = math.sqrt(lo*hi) if hi > 2*lo else (lo + hi)/2
            lo, hi = (mid, hi) if g(mid) > 0 else (lo, mid)
        assert (ixt == pytest.approx(math.log(2) - h(lo), abs=1e-7)
                and iyt == pytest.approx(math.log(2) - h(lo + eps - 2*lo*eps), abs=1e-7))
        exact = math.log(2) - h(lo) - b*(math.log(2) - h(lo + eps - 2*lo*eps))
        # the certificate bounds the true error
        assert exact - 1e-11 <= ixt - b*iyt <= exact + gap + 1e-11


@pytest.mark.parametrize("e", [.1, .5, .8])
def test_binary_erasure_channel_closed_form(e):
    # Y erases a uniform bit with probability e: I(T;Y) = (1−e) I(T;X), a straight line; trivial below 1/(1−e),
    # everything above
    p = np.array([[1 - e, 0, e], [0, 1 - e, e]])/2
    ib = DiscreteIB(p)
    assert ib.critical_beta == pytest.approx(1/(1 - e), rel=1e-12)
    r = ib.curve(ib.critical_beta*np.array([.5, .99, 1.01, 2, 100]))
    assert r.converged.all()
    np.testing.assert_allclose(r.ixt, [0, 0] + [math.log(2)]*3, atol=1e-7)
    np.testing.assert_allclose(r.iyt, (1 - e)*r.ixt, atol=1e-9)


def test_never_above_the_plain_iteration():
    for seed in range(6):
        p = random_joint(seed)
        betas = np.array([1.5, 3., 8., 30.])
        r = ib_curve(p, betas)
        assert r.converged.all() and r.scope == "global"
        rng = np.random.default_rng(seed)
        for b, objective in zip(betas, r.objective):
            found = min(plain_fixed_point(p, b, rng, 8, 300) for _ in range(2))
            assert objective <= found + 1e-10


def test_certificate_against_a_grid_of_clusters():
    """Binary Y: with cluster distributions on a fine grid only convex weights are left; the certified optimum is never
    above that, and close to it."""
    p = random_joint(11, x=6, y=2, sharp=1.)
    px = p.sum(1); pyx = p/px[:, None]; py = p.sum(0)
    grid = np.linspace(1e-5, 1 - 1e-5, 3001)
    for beta in (2., 6., 25.):
        k = np.exp(beta*(pyx @ np.log(np.stack([grid, 1 - grid]))))
        w = np.full(len(grid), 1/len(grid))
        for _ in range(4000): w = w*(k.T @ (px/(k @ w)))
        on_grid = -px @ np.log(k @ w) - beta*entropy(py)
        z = k @ w
        lower = on_grid - math.log((k.T @ (px/z)).max())                 # the same duality, on the grid
        value = ib_curve(p, [beta]).objective[0]
        assert lower - 1e-6 <= value <= on_grid + 1e-12


def test_curve_is_its_own_concave_envelope():
    for alpha in (1., .5, 0.):
        r = ib_curve(random_joint(2, x=6), np.geomspace(1, 100, 8), alpha=alpha)
        line = (r.objective + r.beta*r.iyt)[None] - r.beta[:, None]*r.iyt[None]     # encoder j at β i
        assert (line.min(1) >= r.objective - 1e-9).all()
        assert (np.diff(r.iyt) > -1e-8).all()
        np.testing.assert_allclose(r.encoder.sum(-1), 1, atol=1e-12)


def test_reported_information_is_the_encoder_s():
    p = random_joint(3)
    r = ib_curve(p, [2., 5., 50.], alpha=.3)
    for enc, ixt, iyt, ht in zip(r.encoder, r.ixt, r.iyt, r.ht):
        joint = enc.T @ p
        pxt = enc*p.sum(1, keepdims=True)
        assert ixt == pytest.approx(entropy(pxt.sum(0)) + entropy(p.sum(1)) - entropy(pxt), abs=1e-12)
        assert iyt == pytest.approx(entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint), abs=1e-12)
        assert ht == pytest.approx(entropy(pxt.sum(0)), abs=1e-12)
    np.testing.assert_allclose(r.objective, r.ht - .3*(r.ht - r.ixt) - r.beta*r.iyt, atol=1e-12)


def test_small_steps_in_beta_have_slope_one_over_beta():
    r = ib_curve(random_joint(4), [7., 7.0005])
    assert np.diff(r.iyt)/np.diff(r.ixt) == pytest.approx(1/7, rel=1e-3)


def test_clusters_split_where_predicted():
    # two well-separated pairs of symmetric channels: after the first split each pair is a cluster whose own channel
    # splits at 1/ρ² of it
    a, b = .1, .15
    p = np.array([[.5 + a, .5 - a, 0, 0], [.5 - a, .5 + a, 0, 0], [0, 0, .5 + b, .5 - b], [0, 0, .5 - b, .5 + b]])/4
    predicted = sorted([1/(2*a)**2, 1/(2*b)**2])
    before = ib_curve(p, [predicted[0]*.99])
    assert before.n_clusters[0] == 2 and sorted(before.split_betas()[0][:2]) == pytest.approx(predicted, rel=1e-9)
    counts = ib_curve(p, [predicted[0]*.999, predicted[0]*1.001, predicted[1]*.999, predicted[1]*1.001]).n_clusters
    assert list(counts) == [2, 3, 3, 4]


@pytest.mark.parametrize("alpha", [0., .5])
def test_no_split_is_predicted_below_alpha_one(alpha):
    curve = DiscreteIB.from_counts(np.kron(np.eye(2), np.full((3, 2), 20)) + 1).curve([2., 4.], alpha=alpha)
    assert np.isnan(curve.split_betas()).all() and curve.split_betas().shape == curve.weight.shape
    assert "transition" not in repr(curve) and "I(X;Y) = " in repr(curve)


def test_global_onset_can_precede_the_local_one():
    """An asymmetric pair of rare sharp rows: the bottleneck opens, with a distant cluster, below 1/ρ_m²; the
    certificate must see it."""
    p = np.array([[.96*.5, .96*.5], [.02*.999, .02*.001], [.02*.4, .02*.6]])
    ib = DiscreteIB(p)
    below = np.linspace(1, ib.critical_beta, 40)[1:-1]
    r = ib.curve(below)
    assert r.converged.all()
    onset = r.beta[r.ixt > 1e-4]
    assert len(onset) and onset[0] < .98*ib.critical_beta


def test_partition_is_the_best_of_all():
    labels = np.array([l for l in itertools.product(range(5), repeat=5)
                       if all(v <= max(l[:i], default=-1) + 1 for i, v in enumerate(l))])
    assert len(labels) == 52
    for seed in range(5):
        p = random_joint(20 + seed, x=5, y=3)
        betas = [1.2, 2.5, 6., 40.]
        every = []
        for l in labels:
            joint = np.eye(5)[l].T @ p
            every.append([entropy(joint.sum(1)) - b*(entropy(joint.sum(1)) + entropy(p.sum(0)) - entropy(joint))
                          for b in betas])
        r = ib_curve(p, betas, alpha=0)
        np.testing.assert_allclose(r.objective, np.min(every, 0), atol=1e-12)
        assert set(np.unique(r.encoder)) <= {0., 1.} and r.converged.all()


@pytest.mark.parametrize("alpha", [1., .5, 1e-3, 0.])
def test_invariances(alpha):
    p, betas = random_joint(5, x=5), [1.5, 4., 20.]
    base = ib_curve(p, betas, alpha=alpha).objective
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(ib_curve(p[rng.permutation(5)][:, rng.permutation(4)], betas[::-1],
                                        alpha=alpha).objective[::-1], base, atol=1e-8)
    split = np.concatenate([p[:1]*.3, p[:1]*.7, p[1:]])                   # an x in two copies says nothing new
    np.testing.assert_allclose(ib_curve(split, betas, alpha=alpha).objective, base, atol=1e-8)
    padded = np.zeros((7, 6)); padded[1:6, 1:5] = p                      # impossible x and y
    r = ib_curve(padded, betas, alpha=alpha)
    np.testing.assert_allclose(r.objective, base, atol=1e-8)
    assert np.isfinite(r.encoder).all() and np.isfinite(r.decoder).all() and (r.decoder[..., 0] == 0).all()


def test_extremes_stay_finite():
    p = random_joint(6, x=8, y=5, sharp=.1)
    p[p < 1e-4] = 0; p /= p.sum()
    for alpha in (1., .5, 1e-6, 0.):
        r = ib_curve(p, [1e-3, .5, 1., 1.0001, 10., 1e4], alpha=alpha)
        for a in (r.ixt, r.iyt, r.objective, r.encoder, r.decoder, r.weight, r.residual): assert np.isfinite(a).all()
        assert r.converged.all() and r.ixt[:2].max() < 1e-9
        assert r.iyt[-1] == pytest.approx(DiscreteIB(p).mutual_information, abs=1e-6)


def test_deterministic_labels():
    p = np.zeros((9, 3)); p[np.arange(9), np.arange(9) % 3] = [.05, .1, .15, .05, .1, .15, .1, .2, .1]
    hy = entropy(p.sum(0))
    with pytest.warns(UserWarning, match="deterministic"): r = ib_curve(p, [.99, 1.01, 5., 1e4])
    assert r.converged.all() and r.source.deterministic and "deterministic" in repr(r)
    np.testing.assert_allclose(r.ixt, [0, hy, hy, hy], atol=1e-9)
    np.testing.assert_allclose(r.iyt, r.ixt, atol=1e-9)
    for labels in r.hard()[1:]: assert len({(a, b) for a, b in zip(labels, np.arange(9) % 3)}) == 3


@pytest.mark.parametrize("p", [np.ones((1, 1)), np.full((1, 3), 1/3), np.full((3, 1), 1/3),
                               np.outer([.2, .8], [.3, .7])])
def test_nothing_to_learn(p):
    for alpha in (1., .5, 0.):
        r = ib_curve(p, [.5, 2., 100.], alpha=alpha)
        assert r.converged.all() and (r.n_clusters == 1).all() and np.abs(r.objective).max() < 1e-10
    assert DiscreteIB(p).critical_beta == math.inf and (ib_curve(p, [2.]).split_betas() == math.inf).all()


def test_limited_clusters_are_local_and_no_better():
    p, betas = random_joint(7, x=12), [3., 10., 40.]
    free = ib_curve(p, betas)
    for k in (1, 2, 3):
        r = ib_curve(p, betas, n_clusters=k, restarts=3)
        assert r.scope == "local" and r.encoder.shape[2] <= k and (r.objective >= free.objective - 1e-8).all()
        assert (r.objective - r.global_gap <= free.objective + 1e-10).all()      # the bound still bounds


def test_certificate_flags_what_is_not_solved():
    p = random_joint(8, x=12)
    with pytest.warns(UserWarning, match="not certified"):
        r = ib_curve(p, np.geomspace(2, 30, 12), max_iterations=1, tol=1e-13)
    best = ib_curve(p, np.geomspace(2, 30, 12))
    assert (r.objective - best.objective <= r.global_gap + best.global_gap + 1e-12).all()
    assert not r.converged.all()


def test_same_kind_dtype_order_and_sources():
    p, betas = random_joint(9), [20., 2., 5.]
    a, b = ib_curve(p, betas), ib_curve(torch.tensor(p), torch.tensor(betas))
    assert (isinstance(a.encoder, np.ndarray) and isinstance(b.encoder, torch.Tensor)
            and b.encoder.dtype == torch.float64)
    np.testing.assert_allclose(a.objective, b.objective, atol=1e-12)
    np.testing.assert_array_equal(a.beta, betas)
    low = ib_curve(p.astype(np.float32), betas)
    np.testing.assert_allclose(low.objective, a.objective, atol=1e-5)
    counts = np.random.default_rng(0).integers(0, 20, (6, 4))
    np.testing.assert_allclose(DiscreteIB.from_counts(counts).curve(betas).objective,
                               ib_curve(counts/counts.sum(), betas).objective, atol=1e-12)
    rows = p/p.sum(1, keepdims=True)
    np.testing.assert_allclose(DiscreteIB.from_predictions(rows).curve(betas).objective,
                               ib_curve(rows/8, betas).objective, atol=1e-12)


def test_same_seed_same_answer_and_global_generator_untouched():
    # more rows than starting clusters: the start is drawn
    p = np.random.default_rng(0).dirichlet(np.ones(4), 90)/90
    state = torch.random.get_rng_state()
    a, b = (ib_curve(p, [3., 12.], seed=3) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(a.objective, b.objective)
    np.testing.assert_allclose(ib_curve(p, [3., 12.], seed=4).objective, a.objective, atol=1e-8)


@pytest.mark.parametrize("call, message", [
    (lambda p: ib_curve(p[0], [2.]), "pxy must be .x, y."), (lambda p: ib_curve("no", [2.]), "pxy must be"),
    (lambda p: ib_curve(p*2, [2.]), "pxy must sum to 1, got 2"),
    (lambda p: ib_curve(p*np.nan, [2.]), "pxy must be finite"),
    (lambda p: ib_curve(-p, [2.]), "non-negative"), (lambda p: ib_curve(p*0, [2.]), "positive entries"),
    (lambda p: ib_curve(p, []), "betas must be"), (lambda p: ib_curve(p, [-1.]), "betas must be"),
    (lambda p: ib_curve(p, [np.inf]), "betas must be"),
    (lambda p: ib_curve(p, [2.], alpha=-.1), "alpha must be"),
    (lambda p: ib_curve(p, [2.], n_clusters=0), "n_clusters must be"),
    (lambda p: ib_curve(p, [2.], restarts=0), "restarts must be"),
    (lambda p: ib_curve(p, [2.], device="cuda:99"), "not available"),
    (lambda p: DiscreteIB.from_predictions(p), "rows that sum to 1"),
    (lambda p: DiscreteIB.from_counts(p.astype(complex)), "real numbers")])
def test_bad_input_names_the_argument(call, message):
    with pytest.raises(InputError, match=message): call(random_joint(0))


def test_no_certificate_for_a_local_minimum():
    """Optima with two neighbouring clusters made one, and descended again: 72 local minima, each worse than the optimum
    by more than 1e-8, and none of them gets a bound above the optimum."""
    from ncib import ib_solver as solver
    source, n, x = DiscreteIB(np.random.default_rng(0).dirichlet(np.ones(10), 64)/64)._source, 12, 64
    beta = torch.linspace(1, 30, 50, dtype=torch.float64)[19:25]
    optimal = solver.solve_bottleneck(source, beta, 1., 2*x, 1, 100, 1e-8, 0)[0]
    joint = (optimal*source.px) @ source.pyx
    pi = joint.sum(-1)
    r, used = joint/pi.clamp(min=1e-300)[..., None], pi > 1e-9
    pairs = torch.cdist(r, r).masked_fill(~(used[:, :, None] & used[:, None]).triu(1),
                                          math.inf).flatten(1).argsort(1)[:, :n].flatten()
    i, a, b, beta = (torch.arange(len(pairs)), pairs // optimal.shape[1], pairs % optimal.shape[1],
                     beta.repeat_interleave(n))
    best = solver.objective(optimal, source, 1., beta[::n]).repeat_interleave(n)
    enc = optimal.repeat_interleave(n, 0)
    enc[i, a] += enc[i, b]
    enc[i, b] = 0
    enc = solver._polish(solver.m_step((enc*source.px) @ source.pyx, 1., beta), source, 1., beta, 100)[0]
    bound = solver._certify(solver.m_step((enc*source.px) @ source.pyx, 1., beta), source, beta, 2*x, 1e-8,
                            solver._log(source.pyx))[1]
    assert (solver.objective(enc, source, 1., beta) > best + 1e-8).all() and (bound < best + 1e-10).all()


def test_no_problem_is_solved_twice(monkeypatch):
    "The curve at α = .5 begins with those at 1 and at 0, and the one at 0 with that at 1."
    import ncib.ib_solver as solver
    solved, kept = [], solver._best_of_starts
    monkeypatch.setattr(solver, "_best_of_starts", lambda p, *rest: solved.append(p.alpha) or kept(p, *rest))
    ib_curve(random_joint(0), [2., 4.], alpha=.5)
    assert solved == [1., 0., .5]


def test_few_newton_steps_for_a_curve():
    """What the time of a curve goes into: 626 and 754 steps where descents began with Newton's method, and kept
    clusters that had become one."""
    for seed, most in ((0, 450), (1, 550)):
        r = ib_curve(np.random.default_rng(seed).dirichlet(np.ones(10), 64)/64, np.linspace(1, 30, 50))
        assert r.converged.all() and r.iterations.sum() < most
