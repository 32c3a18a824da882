"The analysis of a pair: definitions, round trip, refusals."
import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from ncib.collapse import collapse_metrics
from ncib.core import InputError
from ncib.gib import GaussianIB
from ncib.plots import plot_gap, plot_transitions
from ncib.report import report_html
from ncib.runs import Run
from ncib.timeline import Timeline, _verdict, analyze, first_lasting

# what a checkpoint need not have: too few modes to ask about, or an interval that needs more of them
MAY_BE_UNTOLD = [f"{layer}{part}_{name}" for layer in ("", "head_") for part in ("train", "test") for name in
                 ("twin_separation", "twin_separation_low", "twin_separation_high", "twin_level", "twin_level_low",
                  "twin_level_high", "twin_spread", "twin_count_share", "twin_separation_ridge",
                  "twin_separation_unshrunk", "twin_separation_held_out",
                  *(f"{what}_{side}" for what in ("shortfall", "shortfall_nats", "corner_rate", "shortfall_low",
                                                  "shortfall_high") for side in "ab"))]


def test_one_row_per_checkpoint(short_pair, short_timeline):
    assert short_timeline.table["epoch"].tolist() == short_pair[0].epochs == [0, 1, 2, 3]
    assert not set(short_timeline.table.columns[short_timeline.table.isna().any()]) - set(MAY_BE_UNTOLD)


def test_columns_are_what_they_say(short_pair, short_timeline):
    fa, fb = (r.features(3) for r in short_pair)
    row = short_timeline.table.iloc[-1]
    assert row["train_nc1_b"] == pytest.approx(collapse_metrics(fb.train, fb.train_labels).nc1, rel=1e-9)
    g = GaussianIB.fit(fa.test, fb.test)
    assert (row["test_twin_count"] == g.transitions().count
            and row["test_twin_gap_after_k1"] == pytest.approx(g.transitions().gap_after(9)))
    assert row["test_ib_gap_a"] == pytest.approx(g.class_mean_gap(fa.test, fa.test_labels).share)
    assert row["test_labels_count"] == GaussianIB.fit_labels(fa.test, fa.test_labels).transitions().count
    means = torch.stack([fa.train[fa.train_labels == k].mean(0) for k in range(10)])
    assert row["test_ncc_accuracy_a"] == pytest.approx((torch.cdist(fa.test, means).argmin(1)
                                                        == fa.test_labels).double().mean().item())


def test_round_trip(short_timeline, tmp_path):
    short_timeline.save(tmp_path)
    again = Timeline.load(tmp_path)
    pd.testing.assert_frame_equal(again.table, short_timeline.table)
    assert again.summary() == short_timeline.summary() and again.verdict() == short_timeline.verdict()
    assert report_html(again) == report_html(short_timeline)
    on_disk = json.loads((tmp_path/"summary.json").read_text())
    wanted = {"num_classes", "final_test_accuracy", "plateau_epoch", "all_transitions_epoch", "twin_transition_count",
              "twin_gap_ratio", "nc1_first", "nc1_last", "ib_gap_first", "ib_gap_last"}
    assert wanted <= on_disk.keys() and len(on_disk["final_test_accuracy"]) == 2
    (tmp_path/"arrays.safetensors").write_bytes((tmp_path/"arrays.safetensors").read_bytes()[:99])
    with pytest.raises(InputError, match="arrays.safetensors is damaged"): Timeline.load(tmp_path)


def test_copula_and_head(short_pair):
    t = analyze(*short_pair, copula=True, progress=False)
    assert "ib_gap_last" not in t.summary() and "IB gap" not in report_html(t) and t.verdict()
    with pytest.raises(InputError, match="no IB gap in a copula analysis"): plot_gap(t)
    head = analyze(*short_pair, layer="head", progress=False)
    assert head.table["train_nc1_a"].iloc[-1] != analyze(*short_pair, progress=False).table["train_nc1_a"].iloc[-1]
    with pytest.raises(InputError, match="layer must be backbone, head or both"):
        analyze(*short_pair, layer="stem", progress=False)


def write_run(path, features, labels=None, classes="abc", fingerprint=None):
    run = Run.create(path, list(classes), {}, {"fingerprint": fingerprint})
    y = torch.arange(60) % len(classes) if labels is None else labels
    for e, x in enumerate(features): run.save_features(e, x, y, x, y)
    return run


def random_features(n=2, d=4, seed=0): return list(torch.randn(n, 60, d, generator=torch.Generator().manual_seed(seed)))


def test_refusals(tmp_path, short_pair):
    a = write_run(tmp_path/"a", random_features())
    with pytest.raises(InputError, match="hold the same features at epoch 0"):
        analyze(a, write_run(tmp_path/"copy", random_features()), progress=False)
    cases = {"different classes": write_run(tmp_path/"b", random_features(), classes="abd"),
             "different images": write_run(tmp_path/"c", random_features(), fingerprint="x"),
             "different labels": write_run(tmp_path/"d", random_features(), labels=torch.arange(60).flip(0) % 3),
             "no checkpoint in common": write_run(tmp_path/"e", []), "was given twice": a}
    for message, b in cases.items():
        with pytest.raises(InputError, match=message): analyze(a, b, progress=False)
    with pytest.raises(InputError, match="no such run directory"): analyze(a, tmp_path/"nowhere")
    with pytest.raises(InputError, match="head features of the train images were not recorded"):
        analyze(a, write_run(tmp_path/"f", random_features(seed=1)), layer="head", progress=False)
    file = a.file("features", 1); file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(InputError, match="epoch_0001.safetensors is damaged"):
        analyze(a, write_run(tmp_path/"g", random_features(seed=1)), progress=False)


@pytest.mark.parametrize("classes, d", [("ab", 4), ("abcdefgh", 3), ("abc", 1)])
def test_few_classes_and_few_dimensions(tmp_path, classes, d):
    "K = 2, and fewer dimensions than a simplex needs, give rows without NaN and figures without errors."
    t = analyze(write_run(tmp_path/"a", random_features(d=d), classes=classes),
                write_run(tmp_path/"b", random_features(d=d, seed=1), classes=classes), progress=False)
    assert (not {c.removeprefix("head_") for c in t.table.columns[t.table.isna().any()]} - set(MAY_BE_UNTOLD)
            and t.verdict() and "<img" in report_html(t))


def test_untrained_only(tmp_path):
    t = analyze(write_run(tmp_path/"a", random_features(1)), write_run(tmp_path/"b", random_features(1, seed=1)),
                progress=False)
    assert "only one checkpoint, before training" in t.verdict()[0] and "<img" in report_html(t)


def test_dead_units_and_constant_features(tmp_path):
    "Dead units change nothing; features that are all constant get one clear line."
    xa, xb = random_features(), random_features(seed=1)
    pad = lambda xs: [torch.cat([x, torch.zeros(60, 3)], 1) for x in xs]
    plain = analyze(write_run(tmp_path/"a", xa), write_run(tmp_path/"b", xb), progress=False)
    dead = analyze(write_run(tmp_path/"c", pad(xa)), write_run(tmp_path/"d", pad(xb)), progress=False)
    columns = [c for c in plain.table if "twin" in c or "nc1" in c or "accuracy" in c]
    np.testing.assert_allclose(dead.table[columns].to_numpy(float), plain.table[columns].to_numpy(float), rtol=1e-6,
                               atol=1e-9)
    with pytest.raises(InputError):
        analyze(write_run(tmp_path/"e", [torch.ones(60, 4)]), write_run(tmp_path/"f", [torch.ones(60, 4)]),
                progress=False)


def test_scale_and_rotation_of_an_encoder_do_not_matter(tmp_path, short_pair):
    """Linear identifiability: the bottleneck sees features up to an invertible map; NC1 is invariant to rotation and
    scale."""
    runs = []
    for i, r in enumerate(short_pair):
        run = Run.create(tmp_path/str(i), r.classes, {}, {"fingerprint": "same"})
        f = r.features(3)
        q = 3*torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(i)))[0]
        run.save_features(3, f.train @ q, f.train_labels, f.test @ q, f.test_labels)
        runs.append(run)
    a, b = analyze(*short_pair, progress=False).table.iloc[-1], analyze(*runs, progress=False).table.iloc[-1]
    for column in ("test_twin_count", "test_labels_count", "test_paired_count", "train_nc1_a", "test_ncc_accuracy_a"):
        assert b[column] == pytest.approx(a[column], rel=1e-3), column


def test_first_lasting():
    assert (first_lasting([1, 2, 3], [True]*3) == 1 and first_lasting([1, 2, 3], [True, False, True]) == 3
            and first_lasting([1, 2], [True, False]) is None and first_lasting([], []) is None)


def test_plateau_and_transitions_epochs(short_timeline):
    table = short_timeline.table.copy()
    for s in "ab": table[f"test_accuracy_{s}"] = [.5, .995, .98, .999]
    table["test_twin_count"] = [9, 8, 12, 9]
    t = dataclasses.replace(short_timeline, table=table)
    assert t.plateau_epoch() == 3 and t.plateau_epoch(.02) == 1 and t.all_transitions_epoch() == 2
    for s in "ab": table[f"test_accuracy_{s}"] = [.5, .9, .8, .7]
    assert t.plateau_epoch() is None and any("no plateau" in v for v in t.verdict()) and "<img" in report_html(t)
    for s in "ab": table[f"test_accuracy_{s}"] = [.1, .4, .6, .9]
    assert t.plateau_epoch() == 3 and any("no plateau has been reached" in v for v in t.verdict())
    # no plateau has been seen, and the gaps are not clear
    assert t.milestones() == {"count stays ≥ K−1": 2}
    table["test_twin_count"], table["test_twin_count_share"], table["test_twin_separation_low"] = (
        [3, 9, 9, 9], [.1, .97, 1., .96], [1., 4., 4., 4.])
    for s in "ab": table[f"test_accuracy_{s}"] = [.5, .995, .998, .999]
    assert t.milestones() == {"plateau begins": 1, "count stays ≥ K−1": 1, "K−1 with a clear gap": 1}


def test_the_verdict_says_only_what_was_measured(short_timeline):
    summary = {k: v for k, v in short_timeline.summary().items() if k != "head"}
    def verdict(**change):
        return " ".join(_verdict(summary | dict(plateau_epoch=1, all_transitions_epoch=1, clear_transitions_epoch=1,
                                                twin_significant=20,
                                                    nc1_first=2., nc1_last=.05, twin_class_alignment_last=.97)
                                 | change))
    assert ("Training features collapse: NC1 2 before training, 0.05" in verdict()
            and "The first 9 modes are the class directions" in verdict())
    assert all(s[1:] in verdict() for s in short_timeline.transition_sentences())
    assert "begins at the same checkpoint" in verdict() and "2 epochs after that" in verdict(plateau_epoch=3, epochs=4)
    assert "no plateau to compare" in verdict(plateau_epoch=3, epochs=3)
    assert ("do not collapse" in verdict(nc1_first=118., nc1_last=9.)
            and "collapse in part" in verdict(nc1_first=2., nc1_last=.5))
    assert ("class direction" not in verdict(twin_significant=8)
            and "are not the class directions" in verdict(twin_class_alignment_last=.3))
    assert "without K−1 modes that stand apart clearly" in verdict(clear_transitions_epoch=None)
    assert "In the head the first 9 modes are the class directions" in verdict(
        head=short_timeline.of("head").summary() | {"twin_significant": 20, "twin_class_alignment_last": .97})
    one = verdict(checkpoints=1, num_classes=2)
    assert "only one checkpoint" in one and "The first mode is the class direction (" in one and "plateau" not in one
    assert ("has no place" in verdict(shortfall_last=float("nan"))
            and "short of what any code can tell" in verdict(shortfall_last=.1))
    assert "0.05 at the end" in verdict(first_epoch=10) and "NC1 2 at epoch 10" in verdict(first_epoch=10)
    none = ["No mode that x and y share can be told from noise."]
    assert "no mode that x and y share can be told from noise" in verdict(
        transition_sentences=none, twin_significant=0, all_transitions_epoch=None, clear_transitions_epoch=None)


def test_figures_of_every_relevance(short_timeline):
    for part in ("train", "test"):
        for relevance in ("twin", "paired", "labels"): assert plot_transitions(short_timeline, part, relevance).axes


def test_report_of_a_long_class_list(tmp_path):
    k = 30
    y = torch.arange(240) % k
    runs = [Run.create(tmp_path/n, [f"class {i} <&>" for i in range(k)], {}) for n in "ab"]
    for s, r in enumerate(runs):
        g = torch.Generator().manual_seed(s)
        for e in range(2): x = torch.randn(240, 8, generator=g); r.save_features(e, x, y, x, y)
    page = report_html(analyze(*runs, progress=False))
    assert "<&>" not in page


def test_half_an_analysis_is_not_read(short_timeline, tmp_path, monkeypatch):
    "Killed while it replaces an older one, it leaves nothing that could be taken for either."
    import ncib.timeline
    short_timeline.save(tmp_path)
    def killed(*_): raise KeyboardInterrupt
    monkeypatch.setattr(ncib.timeline, "save_tensors", killed)
    with pytest.raises(KeyboardInterrupt): short_timeline.save(tmp_path)
    with pytest.raises(InputError, match="info.json: no such file"): Timeline.load(tmp_path)
    monkeypatch.undo()
    short_timeline.save(tmp_path)
    assert Timeline.load(tmp_path).epochs.tolist() == short_timeline.epochs.tolist()
