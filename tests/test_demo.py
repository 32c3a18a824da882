"The story itself, on the digits: what the report of `ncib demo` claims must hold, and must not hold for random labels."
import html
import json
import re
import subprocess
import sys

import pytest

from ncib.timeline import Timeline


def demo(out, *options):
    subprocess.run([sys.executable, "-m", "ncib.cli", "demo", "--out", str(out), "--device", "cpu", "--quiet",
                    *options], check=True, stdout=subprocess.DEVNULL)
    return json.loads((out/"summary.json").read_text())


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    return out, demo(out)


def test_both_encoders_are_good(story): assert min(story[1]["final_test_accuracy"]) >= .985


def test_training_features_collapse(story): assert story[1]["nc1_last"] <= story[1]["nc1_first"]/10


def test_class_modes_are_the_transitions(story):
    s = story[1]
    assert s["twin_count"] == s["num_classes"] - 1 == 9 and s["twin_gap_ratio"] >= 3
    assert (s["all_transitions_epoch"] is not None and s["plateau_epoch"] is not None
            and s["clear_transitions_epoch"] is not None)
    assert s["twin_class_alignment_last"] > .9 > s["twin_class_alignment_first"]


def test_class_means_approach_the_optimal_code(story): assert story[1]["shortfall_last"] < story[1]["shortfall_first"]/2


def test_the_head_ends_in_a_simplex(story):
    timeline = Timeline.load(story[0])
    assert (all(timeline.table[f"head_train_etf_error_{s}"].iloc[-1] <= .05 for s in "ab")
            and timeline.table[[f"test_accuracy_{s}" for s in "ab"]].iloc[-1].min() >= .985)


def test_report_says_so(story):
    out, s = story
    page = (out/"report.html").read_text()
    words = html.unescape(re.sub("<[^>]*>", "", page))
    assert (all(re.sub(r"(?<=\d) ?%", "\u00a0%", sentence)[:30] in words for sentence in s["verdict"])
            and "behind mode 9" in words and "are the class directions" in words and page.count("<img") == 16)


def test_random_labels_do_not_show_it(tmp_path):
    "Nine modes with a clear gap would be worth nothing if an encoder trained on random labels had them too."
    s = demo(tmp_path, "--label-noise", "1.0")
    assert s["clear_transitions_epoch"] is None
    words = " ".join(s["verdict"])
    assert "100 % of the training labels were drawn at random" in words and "stand apart clearly (" not in words
    assert "modes are the class directions" not in words
