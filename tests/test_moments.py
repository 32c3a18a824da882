"Analyses from moments alone: the same numbers, and none that would need the rows."
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import ncib.timeline
from ncib.cca import canonical_correlations, class_pair_correlations, row_leverages
from ncib.cli import main
from ncib.core import InputError
from ncib.gib import GaussianIB
from ncib.probe import linear_discriminant
from ncib.runs import Run
from ncib.similarity import EncoderStats, cross_moments, deal_folds, joint_stats
from ncib.stats import ClassStats, JointStats
from ncib.timeline import Timeline, analyze

K = 5
ESTIMATES, RESAMPLED = ("_ridge", "_unshrunk", "_held_out"), ("_low", "_high", "_count_share")


def twins(n=900, seed=0, dtype=torch.float64):
    "Two encoders of the same images: classes, something else that both see, and noise."
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    y = torch.arange(n) % K
    shared = 4*normal(K, 8)[y] + .3*normal(n, 3)@normal(3, 8)
    return (shared + normal(n, 8)).to(dtype), (shared@normal(8, 7) + normal(n, 7)).to(dtype), y


@pytest.fixture(scope="module")
def pair(): return twins()


@pytest.fixture(scope="module")
def joint(pair):
    x, y, labels = pair
    return JointStats(8, 7, num_classes=K).update(x, y, labels)


@pytest.mark.parametrize("trained", [False, True])
def test_the_same_numbers_as_from_rows(pair, trained):
    x, y, labels = pair
    train = (x[:600], y[:600], labels[:600]) if trained else None
    rows, moments = (analyze(x[600:], y[600:], labels[600:], train=train, intervals=i, progress=False)
                     for i in (True, False))
    a, b = rows.table.iloc[0], moments.table.iloc[0]
    assert list(b.index) == [c for c in a.index if not c.endswith(ESTIMATES)]
    # these are fitted in another way, or their value is the middle of an interval
    resampled = [c for c in b.index if any(e in c for e in RESAMPLED)]
    accuracies = [c for c in b.index if "accuracy" in c]
    other = resampled + accuracies + ["test_twin_separation", "test_twin_level"]
    same = [c for c in b.index if c not in other]
    assert len(same) >= 38
    np.testing.assert_allclose(b[same].astype(float), a[same].astype(float), rtol=1e-9, atol=1e-12)
    assert b[resampled].isna().all() and a[resampled].notna().all()
    assert (b[accuracies] - a[accuracies]).abs().max() < .06
    for name, values in moments.arrays[0].items():
        assert torch.allclose(values, rows.arrays[0][name], rtol=1e-9, atol=1e-12, equal_nan=True), name


def test_what_is_said_without_intervals(pair, tmp_path):
    x, y, labels = pair
    t = analyze([x + i*torch.randn(x.shape, generator=torch.Generator().manual_seed(i)) for i in (9, 1, 0)],
                [y, y + .1, y], labels, intervals=False, progress=False)
    words = " ".join(t.verdict())
    assert words.startswith("The numbers come from means and covariances alone") and "four fifths" in words
    assert "resample" not in words.replace("resampled", "") and "95 %" not in words
    t.save(tmp_path)
    again = Timeline.load(tmp_path)
    assert again.verdict() == t.verdict() and again.clear_transitions_epoch() == t.clear_transitions_epoch() is not None
    assert "intervals" not in analyze(x, y, labels, progress=False).info


def test_large_features_are_measured_from_moments(pair, monkeypatch):
    x, y, labels = pair
    assert analyze(x, y, labels, progress=False).info.get("intervals") is None
    monkeypatch.setattr(ncib.timeline, "large_pair", x.numel() + y.numel() - 1)
    assert analyze(x, y, labels, progress=False).info["intervals"] is False
    assert analyze(x, y, labels, intervals=True, progress=False).info.get("intervals") is None
    assert analyze(x, y, labels, copula=True, progress=False).info.get("intervals") is None
    with pytest.raises(InputError, match="copula needs the rows"):
        analyze(x, y, labels, copula=True, intervals=False, progress=False)
    monkeypatch.setattr(ncib.timeline, "large_pair", x.numel() + y.numel())
    assert analyze(x, y, labels, progress=False).info.get("intervals") is None


def test_held_out_accuracy_is_that_of_rows_not_seen():
    g = np.random.default_rng(0)
    x, y, labels = g.normal(size=(400, 150)), g.normal(size=(400, 150)), g.permutation(np.arange(400) % 2)
    row = analyze(x, y, labels, intervals=False, progress=False).table.iloc[0]
    for name in ("test_accuracy_a", "test_accuracy_b", "test_ncc_accuracy_a"): assert abs(row[name] - .5) < .1


@pytest.mark.parametrize("where", [[17], [17, 33]])
def test_rows_that_vary_alone_are_left_out_as_rows_are(pair, where):
    "Units that fire for one image each, in both encoders."
    x, y, labels = pair
    units = torch.zeros(len(x), len(where), dtype=x.dtype)
    for i, row in enumerate(where): units[row, i] = 5. + 2*i
    given = [torch.cat([v, units], 1) for v in (x, y)]
    with pytest.warns(UserWarning, match=f"{len(where)} of 900 rows alone .* are left out: {str(where)[1:-1]}"):
        moments = analyze(*given, labels, intervals=False, progress=False).table.iloc[0]
    with pytest.warns(UserWarning, match="left out"): rows = analyze(*given, labels, progress=False).table.iloc[0]
    same = ["test_twin_count", "test_twin_gap_after_k1", "test_twin_significant", "test_information", "test_ib_gap_a",
            "test_corner_rate_a", "test_shortfall_nats_b", "test_twin_class_alignment", "test_paired_gap_ratio"]
    np.testing.assert_allclose(moments[same].astype(float), rows[same].astype(float), rtol=1e-6)
    stay = [i for i in range(900) if i not in where]
    plain = analyze(*(v[stay] for v in pair), intervals=False, progress=False).table.iloc[0]
    assert moments["test_twin_separation"] == pytest.approx(plain["test_twin_separation"], rel=1e-6)


def test_moments_that_hold_such_rows_say_so(pair):
    x, y, labels = (v.clone() for v in pair)
    x[:, 0], y[:, 0] = 0., 0.
    x[3, 0] = y[3, 0] = 1.
    stats = EncoderStats.of(x, labels), EncoderStats.of(y, labels)
    joint = joint_stats(*stats, cross_moments(x, y, *stats), classes=True)
    with pytest.warns(UserWarning, match="1 of 900 rows alone .* count as modes, for moments hold them: 3"):
        GaussianIB.fit(joint, leverages=tuple(s.leverages for s in stats))


def test_an_analysis_is_kept_by_its_intervals(pair, tmp_path, monkeypatch):
    x, y, labels = pair
    runs = [Run.create(tmp_path/name, [str(c) for c in range(K)], {"seed": i}) for i, name in enumerate("ab")]
    for run, v in zip(runs, (x, y)): run.save_features(1, v.float(), labels, v.float() + .01, labels)
    saved, done = Timeline.save, []
    def counted(self, out): done.append(out); saved(self, out)
    monkeypatch.setattr(Timeline, "save", counted)
    for intervals in (None, None, False, False, True): analyze(*runs, intervals=intervals, out=tmp_path/"out",
                                                              progress=False)
    assert len(done) == 3
    runs[0].save_features(2, x.float(), labels, x[labels < 4].float(), labels[labels < 4])
    runs[1].save_features(2, y.float(), labels, y[labels < 4].float(), labels[labels < 4])
    with pytest.raises(InputError, match="labels of the test images must hold every class, got 4 of 5"):
        analyze(*runs, intervals=False, progress=False)


def test_the_command_takes_the_choice(pair, tmp_path, capsys):
    x, y, labels = pair
    for name, v in (("x", x), ("y", y), ("l", labels)): np.save(tmp_path/f"{name}.npy", v.numpy())
    line = ["analyze", "--features", *(str(tmp_path/f"{n}.npy") for n in "xy"), "--labels", str(tmp_path/"l.npy"),
            "--quiet"]
    main([*line, "--no-intervals"])
    assert "means and covariances alone" in capsys.readouterr().out
    main([*line, "--intervals"])
    assert "means and covariances alone" not in capsys.readouterr().out


# ---- the moments of a pair

def test_bottlenecks_of_moments(pair, joint):
    x, y, labels = pair
    stats = EncoderStats.of(x, labels), EncoderStats.of(y, labels)
    by_fold = joint_stats(*stats, cross_moments(x, y, *stats), classes=True)
    for j in (joint, by_fold):
        for found, wanted in ((GaussianIB.fit_labels(j), GaussianIB.fit_labels(x, labels)),
                              (GaussianIB.fit_class_paired(j), GaussianIB.fit_class_paired(x, y, labels))):
            np.testing.assert_allclose(np.asarray(found.excess), np.asarray(wanted.excess), rtol=1e-10)
            assert found.floor == pytest.approx(wanted.floor) and found.relevance == wanted.relevance
            assert found.critical_rho == pytest.approx(wanted.critical_rho)


def test_classes_without_samples_do_not_count(pair):
    x, y, labels = pair
    j = JointStats(8, 7, num_classes=K + 3).update(x, y, labels + 2)
    assert j.with_labels().dim_y == K and len(GaussianIB.fit_labels(j).excess) == K - 1
    np.testing.assert_allclose(np.asarray(GaussianIB.fit_class_paired(j).excess),
                               np.asarray(GaussianIB.fit_class_paired(x, y, labels).excess), rtol=1e-10)


@pytest.mark.parametrize("call, message", [
    (lambda j: GaussianIB.fit_labels(j, [0, 1]), "labels must be left out when x is a JointStats"),
    (lambda j: GaussianIB.fit_class_paired(j, copula=True), "copula needs rows, got a JointStats"),
    (lambda j: class_pair_correlations(j, torch.ones(3, 2)), "y and labels must be left out when x is a JointStats"),
    (lambda j: JointStats(2, 2).class_pairs(), "classes are needed .* got a JointStats without"),
    (lambda j: JointStats(2, 2).with_labels(), "classes are needed .* got a JointStats without")])
def test_refusals(joint, call, message):
    with pytest.raises(InputError, match=message): call(joint)


@pytest.mark.parametrize("case", ["full", "dead and doubled"])
def test_leverages_of_one_side(pair, case):
    x, y, _ = (v.clone() for v in pair)
    if case != "full": x[:, 2], x[:, 3] = 5., x[:, 4]
    found = row_leverages(x.numpy(), torch.cov(x.T, correction=0), x.mean(0))
    assert torch.allclose(found, torch.as_tensor(canonical_correlations(x, y, shrinkage=None).leverages_x(x)),
                          rtol=1e-8)
    assert float(found.sum()) == pytest.approx(8 if case == "full" else 6, rel=1e-8)


def test_leverages_take_one_pass(pair, monkeypatch):
    x, _, labels = pair
    wanted = canonical_correlations(x, x[:, :2], shrinkage=None).leverages_x(x)
    monkeypatch.setattr("ncib.cca.in_one_piece", 100)
    parts, split = [], torch.Tensor.split
    monkeypatch.setattr(torch.Tensor, "split", lambda v, *size: parts.append(v.shape) or split(v, *size))
    assert torch.allclose(row_leverages(x, torch.cov(x.T, correction=0), x.mean(0)), wanted, rtol=1e-8)
    assert parts == [x.shape]
    x = x.clone()
    x[3, 1] = math.nan
    with pytest.raises(InputError, match="x .*nan|x .*NaN|x .*finite"): row_leverages(x, torch.eye(8).double(), x[0])
    with pytest.raises(InputError, match="^y "): EncoderStats.of(x, labels, name="y")


def test_folds_without_a_class(pair):
    x, y, labels = pair
    rows = deal_folds(len(x), 5) < 2
    labels = torch.where((labels == 4) & rows, 0, labels)               # class 4 is in no row of folds 0 and 1
    stats = EncoderStats.of(x, labels), EncoderStats.of(y, labels)
    found = joint_stats(*stats, cross_moments(x, y, *stats), [0, 1], classes=True)
    wanted = JointStats(8, 7, num_classes=K).update(x[rows], y[rows], labels[rows])
    assert found.stats.counts.tolist() == wanted.stats.counts.tolist() and found.stats.counts[4] == 0
    for a, b in ((found.stats.means, wanted.stats.means), (found.stats.scatter, wanted.stats.scatter)):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)


# ---- the classifier

def test_discriminant_is_scikit_learns():
    x, y = load_digits(return_X_y=True)
    ours = linear_discriminant(ClassStats(10, 64).update(x, y), shrinkage=.01)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=.01, priors=np.bincount(y)/len(y)).fit(x, y)
    scores = torch.as_tensor(ours.logits(torch.as_tensor(x))).softmax(1)
    np.testing.assert_allclose(scores, theirs.predict_proba(x), atol=1e-9)


def test_discriminant_without_some_classes_or_variance():
    stats = ClassStats(4, 2).update([[0., 0], [0, 1], [4, 0], [4, 1]], [0, 0, 2, 2])
    probe = linear_discriminant(stats)
    assert probe.predict(torch.tensor([[0., 9], [5, -9]])).tolist() == [0, 2] and probe.bias[1] == -math.inf
    assert probe.iterations == 0 and math.isnan(probe.loss)
    collapsed = ClassStats(2, 3).update([[1., 0, 0], [0, 1, 0]]*3, [0, 1]*3)
    assert linear_discriminant(collapsed).predict(torch.eye(3)[:2]).tolist() == [0, 1]
    with pytest.raises(InputError, match="at least two classes, got 1"):
        linear_discriminant(ClassStats(3, 2).update(torch.eye(2), [1, 1]))
    with pytest.raises(InputError, match="shrinkage be positive"): linear_discriminant(stats, shrinkage=0.)
    with pytest.raises(InputError, match=r"shrinkage must lie in \[0, 1\], got 2"): linear_discriminant(stats, 2)
