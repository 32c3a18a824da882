"The analysis of a pair: definitions, round trip, refusals."
import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ncib.collapse import CollapseMetrics, collapse_metrics
from ncib.core import InputError
from ncib.gib import GaussianIB
from ncib.plots import (
    plot_accuracy,
    plot_collapse,
    plot_gap,
    plot_information,
    plot_sensitivity,
    plot_shortfall,
    plot_transitions,
)
from ncib.report import figure_words, glossary, report_html
from ncib.runs import Run
from ncib.sweep import quantities, quantities_of, summarise
from ncib.timeline import Timeline, analysis_key, analyze, current_name, first_lasting, sensitivity, terms
from ncib.transitions import Transitions
from ncib.verdict import Findings, verdict
from sync import ROOT

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
    wanted = {"num_classes", "final_test_accuracy", "plateau_epoch", "all_transitions_epoch", "twin_count",
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


def features_of(d, k, n=240):
    "Two encoders that share d directions, which tell k classes apart."
    g, y = torch.Generator().manual_seed(0), torch.arange(n) % k
    shared = 3*torch.randn(k, d, generator=g)[y]
    return *(shared + torch.randn(n, d, generator=g) for _ in range(2)), y


def test_settings_that_one_run_has_are_told():
    "Of either run; a setting that is None is one."
    t = analyze(*features_of(6, 4), progress=False)
    configs = [{"lr": .1, "seed": 0, "warmup": None}, {"lr": .1, "seed": 1, "cutout": 4}]
    page = report_html(Timeline(t.table, t.arrays, t.info | {"configs": configs}, t.runs))
    rows = dict(re.findall(r'<tr><th scope="row">(\w+)</th><td>([^<]*)</td></tr>',
                           page[page.index("<h2>Settings</h2>"):]))
    assert rows == {"lr": "0.1", "seed": "0 | 1", "warmup": "None | –", "cutout": "– | 4"}


@pytest.mark.parametrize("share", [0., .1])
def test_a_corner_without_shortfall_is_drawn(share):
    "Star and triangle then lie on one another, on the curve; figure and words have the same corner."
    t = analyze(*features_of(6, 4), progress=False)
    rate = float(t.table["test_corner_rate_a"].iloc[0])
    best = float(t.bottleneck().optimal_information(rate))
    t = Timeline(t.table.assign(test_shortfall_a=share, test_shortfall_nats_a=share*best), t.arrays, t.info, t.runs)
    found = {line.get_marker(): line.get_xydata()[0] for line in plot_information(t).axes[1].lines
             if line.get_marker() in ("*", "v")}
    assert found["*"] == pytest.approx((rate, best)) and found["v"] == pytest.approx((rate, (1 - share)*best))
    words = figure_words("information", t)
    assert f"lies at {rate:.3g} nats" in words and f"{share*best:.2g} nats, {100*share:.1f} %" in words


@pytest.mark.parametrize("d, label", [(6, "modes 1 to 3 = K−1"), (2, "modes 1 to 2 of K−1 = 3")])
def test_lines_are_called_after_the_modes_that_there_are(d, label):
    assert label in [text.get_text() for text in
                     plot_transitions(analyze(*features_of(d, 4), progress=False)).legends[0].get_texts()]


def test_runs_on_another_drive_are_written_with_their_whole_path(short_timeline, tmp_path, monkeypatch):
    "Where there is no relative path, as on Windows; an analysis is not lost for it."
    def other_drive(path, start): raise ValueError("path is on mount 'D:', start on mount 'C:'")
    monkeypatch.setattr("ncib.timeline.os.path.relpath", other_drive)
    short_timeline.save(tmp_path)
    found = Timeline.load(tmp_path).info["runs"]
    assert found == [str(Path(r).absolute()) for r in short_timeline.info["runs"]]


@pytest.mark.parametrize("intervals", [True, False])
@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("missing", [1, 2])
def test_every_part_must_hold_every_class(tmp_path, missing, part, intervals):
    "Also the last one, without which the labels look like those of fewer classes."
    y = torch.arange(60) % 3
    runs = [Run.create(tmp_path/name, list("abc"), {"seed": i}) for i, name in enumerate("ab")]
    for seed, run in enumerate(runs):
        x, = random_features(1, seed=seed)
        some = (x[y != missing], y[y != missing])
        run.save_features(1, *(some + (x, y) if part == "train" else (x, y) + some))
    with pytest.raises(InputError, match=f"labels of the {part} images must hold every class, got 2 of 3"):
        analyze(*runs, intervals=intervals, progress=False)


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
    plain = dict(plateau_epoch=1, all_transitions_epoch=1, clear_transitions_epoch=1, twin_significant=20, nc1_first=2.,
                 nc1_last=.05, twin_class_alignment_last=.97)
    def said(**change): return " ".join(verdict(Findings.of(summary | plain | change)))
    assert ("Training features collapse: NC1 2 before training, 0.05" in said()
            and "The first 9 modes are the class directions" in said())
    assert all(s[1:] in said() for s in short_timeline.transition_sentences())
    assert "begins at the same checkpoint" in said() and "2 epochs after that" in said(plateau_epoch=3, epochs=4)
    assert "no plateau to compare" in said(plateau_epoch=3, epochs=3)
    assert ("do not collapse" in said(nc1_first=118., nc1_last=9.)
            and "collapse in part" in said(nc1_first=2., nc1_last=.5))
    assert ("class direction" not in said(twin_significant=8)
            and "are not the class directions" in said(twin_class_alignment_last=.3))
    assert "without K−1 modes that stand apart clearly" in said(clear_transitions_epoch=None)
    assert "In the head the first 9 modes are the class directions" in said(
        head=short_timeline.of("head").summary() | {"twin_significant": 20, "twin_class_alignment_last": .97})
    one = said(checkpoints=1, num_classes=2)
    assert "only one checkpoint" in one and "The first mode is the class direction (" in one and "plateau" not in one
    assert ("has no place" in said(shortfall_last=float("nan"))
            and "short of what any code can tell" in said(shortfall_last=.1))
    assert "0.05 at the end" in said(first_epoch=10) and "NC1 2 at epoch 10" in said(first_epoch=10)
    none = ["No mode that x and y share can be told from noise."]
    assert "no mode that x and y share can be told from noise" in said(
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


# ---- names

# what is in no dataclass of its own: made here from several, or a property
MADE_HERE = {"accuracy", "ncc_accuracy", "information", "ib_gap", "shortfall", "shortfall_nats", "corner_rate", "cut",
             "class_alignment", "gap_after_k1", "count_share", "spread"}


def test_one_quantity_has_one_name(short_timeline):
    "From the dataclass that holds it to timeline.csv, to summary.json and to sweep.csv."
    fields = {f.name for of in (Transitions, CollapseMetrics) for f in dataclasses.fields(of)} | MADE_HERE
    shape = re.compile(r"(?:head_)?(?:train|test)_(?:(?:twin|paired|labels)_)?(.+?)"
                       r"(?:_ridge|_unshrunk|_held_out)?(?:_low|_high)?(?:_[ab])?")
    columns = {c: shape.fullmatch(c)[1] for c in short_timeline.table if c != "epoch"}
    assert not {c: q for c, q in columns.items() if q not in fields}
    assert {"count", "gap_ratio", "significant", "separation", "level", "nc1", "etf_error"} <= set(columns.values())
    summary = short_timeline.summary()
    about = {"num_classes", "checkpoints", "label_noise", "layer", "copula", "runs", "head", "transition_sentences"}
    for key in summary.keys() - about - {k for k in summary if "epoch" in k}:
        name = re.sub(r"^(final_)?(train_|test_)?|_(first|last)$", "", key)
        assert {f"test_{name}", f"test_{name}_a", f"test_twin_{name}"} & set(short_timeline.table), key
    assert set(quantities_of(summary)) == set(quantities)


def test_axes_call_a_quantity_by_its_name(short_timeline):
    def written(figure):
        legends = [t.get_text() for ax in figure.axes if ax.get_legend() for t in ax.get_legend().get_texts()]
        return legends + [label for ax in figure.axes
                          for label in (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(), ax.get_title("left"))]
    t = short_timeline.of("backbone")
    for name, plot in (("accuracy", plot_accuracy), ("nc1", plot_collapse), ("count", plot_transitions),
                       ("separation", plot_sensitivity), ("shortfall", plot_shortfall), ("ib_gap", plot_gap)):
        assert any(terms[name] in label for label in written(plot(t))), name
    lower = lambda e: torch.where(torch.arange(len(e)) < 9, 1e-3*e, e)                # nine modes apart
    apart = dataclasses.replace(t, arrays=[a | {"test_twin_excess": lower(a["test_twin_excess"])} for a in t.arrays])
    legend = plot_transitions(apart).legends[0].get_texts()
    assert any(terms["gap_after_k1"] in text.get_text() for text in legend)
    assert {terms["count"], terms["separation"], terms["shortfall"]} <= set(t.short_table())
    explained = {t.term.lower() for t in glossary()}
    assert {terms[name].lower() for name in ("nc1", "count", "separation", "shortfall", "ib_gap")} <= explained


def test_names_of_the_first_version(short_timeline, tmp_path):
    "An analysis and a table of a sweep that version 0.1.0 wrote are read; its names give the numbers, with a warning."
    for new, old in (("test_twin_gap_ratio", "test_twin_gap"), ("head_train_labels_gap_ratio", "head_train_labels_gap"),
                     ("twin_count", "twin_transition_count"), ("head_twin_count", "head_twin_transition_count")):
        assert current_name(old) == new == current_name(new)
    assert [c for c in short_timeline.table if current_name(c) != c] == []
    short_timeline.save(tmp_path)
    csv = (tmp_path/"timeline.csv")
    csv.write_text(csv.read_text().replace("_gap_ratio", "_gap"))
    assert "test_twin_gap," in csv.read_text() and "gap_ratio" not in csv.read_text()
    pd.testing.assert_frame_equal(Timeline.load(tmp_path).table, short_timeline.table)
    with pytest.warns(DeprecationWarning, match="twin_transition_count is called twin_count now"):
        assert short_timeline.summary()["twin_transition_count"] == short_timeline.summary()["twin_count"]
    with pytest.raises(KeyError, match="twin_cuont"): short_timeline.summary()["twin_cuont"]
    row = {"condition": "base", "seed_a": 0, "seed_b": 1, "twin_transition_count": 9, "twin_gap_ratio": 4.}
    assert summarise(pd.DataFrame([row])).quantity.tolist() == ["twin_count", "twin_gap_ratio"]


@pytest.mark.parametrize("experiment", ["digits", "cifar10-cpu"])
def test_committed_tables_are_understood(experiment):
    swept = pd.read_csv(ROOT/"results"/experiment/"sweep.csv")
    numbers = {q for q in summarise(swept).quantity}
    assert numbers - {"group"} <= set(quantities) and {"twin_count", "twin_gap_ratio"} <= numbers


# ---- done once

def test_what_is_done_in_a_folder_is_not_done_again(tmp_path, monkeypatch):
    import ncib.timeline
    pair, out = [write_run(tmp_path/name, random_features(seed=i)) for i, name in enumerate("ab")], tmp_path/"out"
    first, saved = analyze(*pair, progress=False, out=out), Timeline.save
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    def counted(self, out): done.append(out); saved(self, out)
    done = []
    monkeypatch.setattr(Timeline, "save", counted)
    again = analyze(*pair, progress=False, out=out)
    assert not done and again.verdict() == first.verdict()
    assert before == {p.name: p.read_bytes() for p in out.iterdir()}
    for options in ({"copula": True}, {"layer": "backbone"}, {}):
        assert analyze(*pair, progress=False, out=out, **options).info["copula"] == ("copula" in options)
    assert len(done) == 3
    monkeypatch.setattr(ncib.timeline, "__version__", "later")
    analyze(*pair, progress=False, out=out)
    assert len(done) == 4
    for _ in range(2):                                                  # arrays leave no trace that could be compared
        given = analyze(*(r.features(1).test for r in pair), pair[0].features(1).test_labels, progress=False, out=out)
    with pytest.raises(InputError, match="cannot write to"):
        analyze(*pair, progress=False, out=tmp_path/"a/config.json")
    assert len(done) == 6 and Timeline.load(out).verdict() == given.verdict()


def test_features_that_were_written_again_are_analysed_anew(tmp_path):
    pair = [write_run(tmp_path/name, random_features(seed=i)) for i, name in enumerate("ab")]
    first, key = analyze(*pair, progress=False, out=tmp_path/"out"), analysis_key(*pair)
    assert analysis_key(*pair) == key
    write_run(tmp_path/"b", random_features(seed=2))
    again = analyze(*pair, progress=False, out=tmp_path/"out")
    assert analysis_key(*pair) != key
    pd.testing.assert_frame_equal(again.table, analyze(*pair, progress=False).table)
    assert (again.table["test_nc1_b"] != first.table["test_nc1_b"]).all()


def test_a_mean_of_both_encoders_is_not_of_one(short_timeline):
    one, other = [.1, math.nan, .3, math.nan], [.3, .4, .5, .6]
    table = short_timeline.table.assign(test_shortfall_a=one, test_shortfall_b=other)
    t = dataclasses.replace(short_timeline, table=table)
    np.testing.assert_allclose(t.mean("test_shortfall"), [.2, math.nan, .4, math.nan])
    assert math.isnan(t.summary()["shortfall_last"]) and "class-mean code has no place" in " ".join(t.verdict())
    assert t.short_table()["corner shortfall, backbone"].isna().tolist() == [False, True, False, True]


@pytest.mark.parametrize("copula", [False, True])
def test_all_estimates_are_of_the_rows_that_stay(copula):
    g = torch.Generator().manual_seed(0)
    shared = torch.randn(300, 4, generator=g, dtype=torch.float64)
    a, b = (shared + torch.randn(300, 4, generator=g, dtype=torch.float64) for _ in range(2))
    plain = sensitivity(a, b, GaussianIB.fit(a, b, copula=copula), copula)
    ridge = GaussianIB.fit(a, b, copula=copula, shrinkage="auto").excess
    np.testing.assert_array_equal(plain["ridge"], torch.as_tensor(ridge).numpy())
    if copula: return
    lone, stay = torch.zeros(300, 1, dtype=torch.float64), torch.arange(300) != 7
    lone[7] = 20.
    with_unit = [torch.cat([v, lone], 1) for v in (a, b)]
    with pytest.warns(UserWarning, match="are left out: 7"): ib = GaussianIB.fit(*with_unit)
    wanted = sensitivity(a[stay], b[stay], GaussianIB.fit(a[stay], b[stay]))
    for name, e in sensitivity(*with_unit, ib).items(): np.testing.assert_allclose(e[:4], wanted[name], rtol=1e-6)


def test_a_part_is_not_the_whole(short_pair, short_timeline, tmp_path):
    "The key of an analysis does not go on to one of its layers."
    short_timeline.of("head").save(tmp_path)
    assert "key" in short_timeline.info and "key" not in json.loads((tmp_path/"info.json").read_text())


def test_the_key_of_the_first_version_counts(short_pair, short_timeline, tmp_path):
    "A sweep of version 0.1.0 wrote it into summary.json: its analyses are not made again."
    short_timeline.save(tmp_path)
    info, summary = (json.loads((tmp_path/f"{name}.json").read_text()) for name in ("info", "summary"))
    (tmp_path/"summary.json").write_text(json.dumps(summary | {"key": info.pop("key")}))
    (tmp_path/"info.json").write_text(json.dumps(info))
    analyze(*short_pair, progress=False, out=tmp_path)
    assert json.loads((tmp_path/"info.json").read_text()) == info
