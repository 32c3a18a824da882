"The claims on tables whose truth is known, the experiments' command end to end at a tiny scale, and the committed results."
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from check_sync import ROOT
from scipy.stats import spearmanr

sys.path.insert(0, str(ROOT/"experiments"))
import claims
import figures
import measures
import reproduce
from claims import HOLDS, IN_PART, NOT, UNTOLD

SEEDS = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)]
EPOCHS = [0, 1, 2, 3, 5, 8, 13, 20]
K = 10
CROSS = pd.DataFrame([{"kind": kind, "seed_a": a, "seed_b": b, "epoch": 20, "r2_forward": .6 + .01*a, "r2_backward": .55 + .01*a, "r2_within_forward": .3, "r2_within_backward": .3}
                      for kind in ("SupCon and cross-entropy", "SupCon and nt-xent") for a, b in SEEDS])


def table(conditions=("main",), plateau=5, transitions=5, **changes) -> pd.DataFrame:
    "Pairs for which every claim but C6 holds; `changes` are functions of the progress from 0 to 1, or numbers."
    rows = []
    for j, c in enumerate(conditions):
        for i, (a, b) in enumerate(SEEDS):
            for e in EPOCHS:
                p = EPOCHS.index(e)/(len(EPOCHS) - 1)
                row = {"condition": c, "layer": "backbone", "copula": False, "seed_a": a, "seed_b": b, "epoch": e, "test_accuracy": .99 + .0001*i if e >= plateau else .5 + .05*p,
                       "test_twin_count": K - 1 if e >= transitions else 2, "test_twin_gap": 1.5 + 5*p + .01*i, "test_twin_class_alignment": .5 + .49*p, "test_twin_gap_after_k1": 1 + 5*p, "test_twin_significant": 12,
                       "r2_forward": .5 + .45*p + .001*i, "r2_backward": .5 + .46*p, "r2_within_forward": .5, "r2_within_backward": .4,
                       "condition_number": 100**(1 - p)*1.2, "effective_rank": 8.9, "sliced_wasserstein": .05, "sliced_wasserstein_reference": .04, "code_sliced_wasserstein_ratio": 1., "kurtosis_z": -3., "excess_rate": .01, "outside_means": .02,
                       **{f"{part}_{m}": v for part in ("train", "test") for m, v in (("nc1", 2*.02**p*(1 + .01*i)), ("etf_error", 1 - .95*p), ("equinorm", .1), ("equiangular", .1), ("ib_gap", .3 - .2*p))}, "test_paired_ib_gap": .3 - .2*p}
                rows.append(row | {k: v(p, i, j) if callable(v) else v for k, v in changes.items()})
    return pd.DataFrame(rows)


# ---- verdicts

@pytest.mark.parametrize("changes, verdict", [({}, HOLDS), ({"train_etf_error": .5}, IN_PART), ({"train_nc1": lambda p, i, j: 2*.05**p + .2}, IN_PART), ({"train_nc1": 1.5, "train_etf_error": .8}, NOT), ({"plateau": 20}, UNTOLD)])
def test_c1(changes, verdict): assert claims.c1(table(**changes), K).verdict == verdict


def test_c1_needs_every_pair():
    assert claims.c1(table(train_nc1=lambda p, i, j: .5 if i == 4 else 2*.02**p), K).verdict == IN_PART


@pytest.mark.parametrize("changes, cross, verdict", [
    ({}, CROSS, HOLDS), ({"r2_forward": lambda p, i, j: .5 + .3*p}, CROSS, IN_PART), ({}, CROSS.assign(r2_forward=.99, r2_backward=.99), IN_PART),
    ({"r2_forward": .5, "r2_backward": .5}, CROSS, NOT), ({}, CROSS[:0], UNTOLD)])
def test_c2(changes, cross, verdict): assert claims.c2(table(**changes), cross, K).verdict == verdict


def test_c2_takes_the_worse_direction():
    found = claims.c2(table(r2_forward=1., r2_backward=.7), CROSS, K)
    assert found.numbers["r2"]["trained"]["mean"] == pytest.approx(.7)


@pytest.mark.parametrize("changes, verdict", [
    ({}, HOLDS), ({"test_twin_gap": 2.}, IN_PART), ({"test_twin_class_alignment": .5}, IN_PART), ({"test_twin_count": 4}, NOT),
    ({"test_twin_count": K}, NOT), ({"transitions": 0, "test_twin_gap": 5., "test_twin_class_alignment": .95}, IN_PART)])
def test_c3(changes, verdict): assert claims.c3(table(**changes), K).verdict == verdict


@pytest.mark.parametrize("plateau, transitions, verdict", [(5, 5, HOLDS), (5, 8, HOLDS), (8, 5, HOLDS), (2, 20, NOT), (20, 2, NOT)])
def test_c4(plateau, transitions, verdict):
    found = claims.c4(table(plateau=plateau, transitions=transitions, test_twin_gap=5.), K)
    between = found.numbers["choices"]["tolerance 0.005, count ≥ K − 1"]["checkpoints_between"]
    assert found.verdict == verdict and between["mean"] == EPOCHS.index(transitions) - EPOCHS.index(plateau) and between["pairs"] == 5


def test_c4_cannot_be_told_without_transitions_or_when_pairs_disagree():
    assert claims.c4(table(test_twin_count=2), K).verdict == UNTOLD
    scattered = table(test_twin_count=lambda p, i, j: K - 1 if p >= (0, .2, .9, 1, 1)[i] else 2)
    assert claims.c4(scattered, K).verdict in (UNTOLD, IN_PART)


def test_c4_that_rests_on_one_choice_holds_only_in_part():
    slow = table(transitions=5, test_accuracy=lambda p, i, j: .9905 if p == 1 else .986 if p >= 4/7 else .5)      # 20 epochs to within 0.25 points, 5 to within 0.5; the gap is never clear
    assert claims.c4(slow.assign(test_twin_gap=2.), K).verdict == IN_PART


@pytest.mark.parametrize("changes, verdict", [({}, HOLDS), ({"sliced_wasserstein": .2}, IN_PART), ({"excess_rate": math.nan}, IN_PART), ({"condition_number": 9., "excess_rate": .2, "sliced_wasserstein": .2}, NOT)])
def test_c5(changes, verdict): assert claims.c5(table(**changes), K).verdict == verdict


def test_c6():
    names = ("main", *"abcdef")
    flat = {c: .3 for c in ("test_ib_gap", "test_paired_ib_gap", "test_nc1", "train_nc1", "train_ib_gap")}
    follows = {"test_accuracy": lambda p, i, j: .9 - .1*j + .05*p, "test_ib_gap": lambda p, i, j: .1 + .05*j + .01*(1 - p) + .001*i}
    assert claims.c6(table(names, **flat | follows | {"train_nc1": lambda p, i, j: .1*((3*j) % 7)}), K).verdict == HOLDS
    assert claims.c6(table(names, **flat | follows | {"test_ib_gap": lambda p, i, j: .1 + .05*((3*j) % 7) + .001*i, "test_accuracy": lambda p, i, j: .9 - .1*j}), K).verdict == NOT
    scattered = {"test_ib_gap": lambda p, i, j: .1 + .05*(j if j not in (2, 3) else 5 - j) + .001*i, "train_nc1": lambda p, i, j: .1 + .05*j}
    assert claims.c6(table(names, **flat | follows | scattered), K).verdict == IN_PART                # NC1 says more
    assert claims.c6(table(("main",)), K).verdict == UNTOLD


# ---- what the verdicts stand on

def test_spearman_interval_is_over_clusters():
    x = np.repeat(np.arange(8.), 50)
    y = np.array([3, 1, 4, 0, 5, 7, 2, 6.])[x.astype(int)]
    by_cluster, by_row = claims.spearman(x, y, x), claims.spearman(x, y, np.arange(len(x)))
    assert by_cluster["rho"] == by_row["rho"] and by_cluster["high"] - by_cluster["low"] > 3*(by_row["high"] - by_row["low"])
    z = np.random.default_rng(0).integers(5, size=len(x))                                            # with ties
    assert claims.spearman(x, z, x)["rho"] == pytest.approx(spearmanr(x, z).statistic, abs=1e-12)
    assert claims.spearman(x, x, x)["rho"] == pytest.approx(1) and math.isnan(claims.spearman(x, x, np.zeros(len(x)))["low"])


def test_measures_of_a_perfect_simplex():
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(K).repeat_interleave(60)
    etf = torch.eye(K, dtype=torch.float64) - 1/K
    noise = lambda s: s*torch.randn(len(labels), K, generator=g, dtype=torch.float64)
    x = etf[labels] + noise(.01)
    m = measures.coding(x, labels)
    assert m["condition_number"] == pytest.approx(1, abs=.05) and m["effective_rank"] == pytest.approx(K - 1, abs=.01) and 0 <= m["excess_rate"] < .01 and m["sliced_wasserstein"] > 2*m["sliced_wasserstein_reference"]
    turned = x@torch.linalg.qr(torch.randn(K, K, generator=g, dtype=torch.float64))[0]
    both = measures.identifiability(x, turned, labels)
    assert both["r2_forward"] > .999 and both["r2_within_backward"] > .99
    other = measures.identifiability(x, etf[labels] + noise(.01), labels)                            # they share their classes and nothing else
    assert other["r2_forward"] > .95 and other["r2_within_forward"] < .05


def test_within_takes_the_class_means_away():
    x, labels = torch.randn(50, 3), torch.arange(50) % 5
    w = measures.within(x, labels)
    assert all(torch.allclose(w[labels == k].mean(0), torch.zeros(3), atol=1e-6) for k in range(5)) and torch.allclose((x - w)[labels == 2].std(0), torch.zeros(3), atol=1e-6)


def test_rounding_keeps_six_digits_and_leaves_the_rest_alone():
    t = measures.rounded(pd.DataFrame({"a": [1.23456789, math.nan], "b": ["x", "y"], "c": [1234567, 2]}))
    assert t.a[0] == 1.23457 and math.isnan(t.a[1]) and t.c[0] == 1234567 and t.b[1] == "y"


# ---- the command

def test_help_names_every_experiment(): assert all(name in reproduce.parser().format_help() for name in reproduce.EXPERIMENTS)


@pytest.mark.parametrize("words, said", [(("--seeds", "1"), "seeds must be at least two"), (("--data", "nowhere"), "data 'nowhere' is neither"), (("--device", "abacus"), "device must be")])
def test_wrong_input_is_said_in_one_line(tmp_path, capsys, words, said):
    assert reproduce.main(["digits", "--quick", "--quiet", "--ray", "no", "--out", str(tmp_path/"x"), *words]) == 1
    assert said in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_the_makefile_has_a_target_for_every_experiment():
    text = (ROOT/"Makefile").read_text(encoding="utf-8")
    assert {re.sub("^reproduce-", "", t) for t in re.findall(r"(?m)^(reproduce-[\w-]+):", text)} == set(reproduce.EXPERIMENTS)


def test_quick_goes_the_whole_way(tmp_path):
    words = ["digits", "--quick", "--quiet", "--ray", "no", "--out", str(tmp_path/"run")]
    done = subprocess.run([sys.executable, str(ROOT/"experiments"/"reproduce.py"), *words, "--results", str(tmp_path/"results")], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    check_results(tmp_path/"results")
    t = pd.read_csv(tmp_path/"results"/"timeline.csv")
    assert t.condition.nunique() == 12 and set(t.layer) == {"backbone", "head"} and set(t.copula) == {False, True} and len(pd.read_csv(tmp_path/"results"/"cross.csv")) == 2
    before = {p: p.stat().st_mtime_ns for p in (tmp_path/"run").rglob("*.safetensors")}
    assert reproduce.main([*words, "--results", str(tmp_path/"again")]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path/"run").rglob("*.safetensors")}       # nothing is done twice
    for name in ("sweep.csv", "summary.csv", "timeline.csv", "cross.csv", "claims.json"): assert (tmp_path/"again"/name).read_bytes() == (tmp_path/"results"/name).read_bytes()


# ---- committed results

def check_results(folder):
    "All files are there; verdicts and summary are those of the tables; nothing tells where it was made."
    config = json.loads((folder/"config.json").read_text(encoding="utf-8"))
    table, cross = pd.read_csv(folder/"timeline.csv"), pd.read_csv(folder/"cross.csv")
    stored = json.loads((folder/"claims.json").read_text(encoding="utf-8"))
    assert [c["claim"] for c in stored] == [f"C{i}" for i in range(1, 7)]
    for there, now in zip(stored, claims.judge(table, cross, config["num_classes"])):
        assert there["verdict"] == now.verdict and there["rule"] == now.rule and there["measure"] == now.measure
        same(there["numbers"], now.numbers)
    swept = pd.read_csv(folder/"sweep.csv")
    last = claims.ends(table[(table.layer == "backbone") & ~table.copula])
    assert np.allclose(np.sort(swept.final_test_accuracy), np.sort(last.test_accuracy), atol=1e-5) and set(swept.condition) == set(table.condition) == set(pd.read_csv(folder/"summary.csv").condition)
    assert {"processor", "torch", "ncib", "device"} <= set(config["environment"]) and config["wall"] and config["seeds"]
    shown = {*figures.OF_A_PAIR, "c2", "c5", *(["c4"] if figures.coincidence(table, config["num_classes"]) else []), *(["c6"] if table.condition.nunique() > 1 else [])}
    assert {p.stem for p in folder.glob("*.png")} == shown and all(p.stat().st_size > 5000 for p in folder.glob("*.png"))       # no empty figure
    for file in folder.iterdir(): assert file.suffix == ".png" or not re.search(r"(?<![\w.])/(tmp|home|work|root|Users)/", file.read_text(encoding="utf-8")), file


def same(there, now, place=""):
    "Equal up to the last digits; JSON has null for NaN."
    if isinstance(now, dict):
        assert set(there) == {str(k) for k in now}, place
        for k, v in now.items(): same(there[str(k)], v, f"{place}/{k}")
    elif isinstance(now, (list, tuple)):
        assert len(there) == len(now), place
        for i, (t, v) in enumerate(zip(there, now)): same(t, v, f"{place}/{i}")
    elif isinstance(now, float) and not math.isfinite(now): assert there is None, place
    elif isinstance(now, (float, np.floating)): assert there == pytest.approx(now, rel=1e-6, abs=1e-9), place
    else: assert there == now, place


COMMITTED = sorted(p.parent for p in (ROOT/"results").glob("*/config.json"))

@pytest.mark.parametrize("folder", COMMITTED, ids=lambda p: p.name)
def test_committed_results_agree_with_their_tables(folder): check_results(folder)


def test_the_digits_are_there_in_full_and_all_results_are_small():
    config = json.loads((ROOT/"results"/"digits"/"config.json").read_text(encoding="utf-8"))
    assert not config["quick"] and len(config["seeds"]) >= 5 and config["groups"] == reproduce.groups(reproduce.EXPERIMENTS["digits"])
    assert sum(p.stat().st_size for p in (ROOT/"results").rglob("*") if p.is_file()) < 3e6
    assert not any(json.loads((p/"config.json").read_text(encoding="utf-8"))["quick"] for p in COMMITTED)
