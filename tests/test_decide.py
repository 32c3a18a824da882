"""The experiments that decide: relabelled images, counts and estimates whose truth is known, answers, and tasks side by
side."""
import concurrent.futures
import functools
import json
import math
import operator
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch

from ncib.core import InputError
from ncib.data import load_images
from sync import ROOT

sys.path.insert(0, str(ROOT/"experiments"))
import decide
import reproduce
from decide import Relabelling, Spectrum
from tasks import Task, run_tasks

# ---- labels

@pytest.fixture(scope="module")
def digits(): return load_images("digits")


def test_classes_are_left_out_and_merged(digits):
    r = Relabelling("x", (0, 1, 0, -1, 1, 2, -1, 2, 0, 1))
    data, fine = decide.relabelled(digits, r), decide.fine_labels(digits, r)
    assert r.merges and data.num_classes == 3 and data.classes == ("0+2+8", "1+4+9", "5+7")
    for part in ("train", "test"):
        kept = ~torch.isin(getattr(digits, f"{part}_labels"), torch.tensor([3, 6]))
        assert torch.equal(getattr(data, part), getattr(digits, part)[kept])
        assert torch.equal(getattr(data, f"{part}_labels"),
                           torch.tensor(r.coarse)[getattr(digits, f"{part}_labels")[kept]])
    assert torch.equal(torch.tensor(r.coarse)[fine], data.test_labels) and set(fine.tolist()) == {0, 1, 2, 4, 5, 7, 8,
        9}
    assert data.fingerprint() != digits.fingerprint()


@pytest.mark.parametrize("coarse", [(0, 1), (0,)*10, (0, 2)*5])
def test_labels_that_cannot_be(digits, coarse):
    with pytest.raises(InputError, match="there are 10 classes|new labels must be"): decide.relabelled(digits,
        Relabelling("x", coarse))


def test_every_relabelling_can_be_trained(digits):
    found = decide.relabellings(digits)
    names = [r.name for r in found]
    assert len(set(names)) == len(names) and {f"classes={k}" for k in range(2, 11)} | {"even-odd"} <= set(names)
    assert sum(n.startswith("merge=5") for n in names) == 5
    for r in found: assert decide.relabelled(digits, r).num_classes == max(r.coarse) + 1
    sizes = np.bincount(decide.merged(10, 5, 3))
    assert sizes.tolist() == [2]*5 and decide.merged(10, 5, 3) == decide.merged(10, 5, 3) != decide.merged(10, 5, 4)


# ---- counting modes

def pair(n=1000, nuisance=1., seed=0):
    "Five classes seen through two maps, with twelve nuisance modes at a correlation of 0.9 and noise within classes."
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    labels = torch.arange(n)%5
    signal = (torch.eye(5, dtype=torch.float64) - .2)[labels]
    shared = normal(n, 12)
    def side(): return torch.cat([signal + .02*normal(n, 5), nuisance*(shared + (1/.9 - 1)**.5*normal(n, 12))],
                                 1)@torch.linalg.qr(normal(17, 17))[0]
    return side(), side(), labels


@pytest.mark.parametrize("scale", [1., .03, 1e-3])
def test_the_count_does_not_hang_on_the_scale_of_the_nuisance(scale):
    x, y, labels = pair(nuisance=scale)
    found = decide.structure(x, y, labels)
    assert found["peak"] == found["modes_expected"] == 4
    assert found["significant"] >= 16 and found["class_alignment"] > .99 and found["left_out"] == 0
    same = decide.structure(*pair(nuisance=1.))
    assert all(found[c] == pytest.approx(same[c], rel=1e-6) for c in ("separation", "rival", "spread"))
    # β_c − 1 of nuisance over that of class modes, which vary by 1/5 between classes
    true = (1/.81 - 1)/((1 + .02**2/.2)**2 - 1)
    assert true/1.5 < found["separation"] < true*1.5


def test_separations_are_ratios_of_geometric_means():
    s = Spectrum(np.array([1., 2., 4., 80., 160.]), 320., 100)
    assert s.separations() == pytest.approx([(4*80*2)**(1/3), (4*80*160)**(1/3)/2**.5, (80*160*320)**(1/3)/2,
                                             (160*320*320)**(1/3)/(2*4*80)**(1/3), 320/(4*80*160)**(1/3)])
    assert not len(Spectrum(np.empty(0), 1., 10).separations())


def test_a_mode_of_one_image_is_left_out():
    x, y, labels = pair()
    spike = torch.zeros(1000, 1, dtype=torch.float64)
    spike[7] = 1
    found = decide.structure(torch.cat([x, spike], 1), torch.cat([y, 2*spike], 1), labels)
    assert found["left_out"] == 1 and found["peak"] == 4 and found["e1"] > 1e-4


def test_too_few_rows_are_said_not_counted():
    x, y, labels = pair(30)
    assert Spectrum.of(x, y) is None and decide.structure(x, y, labels) == {"n": 30, "modes_expected": 4,
        "significant": None}


def test_classes_within_classes_show_as_a_second_break():
    g = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    fine = torch.arange(2000)%10
    centres, shared = torch.eye(10, dtype=torch.float64), normal(2000, 8)
    coarse = fine//5
    def side(): return torch.cat([50*torch.eye(2).double()[coarse], centres[fine] + .1*normal(2000, 10),
                                  shared + normal(2000, 8)], 1)@normal(20, 20)
    found = decide.structure(side(), side(), coarse, fine)
    assert found["modes_expected"] == 1 and found["fine_modes"] == 9 and found["second_peak"] == 9
    assert found["fine_separation"] > 5 and found["fine_alignment"] > .95


def test_accuracy_on_rows_that_were_not_fitted():
    x, _, labels = pair()
    assert decide.held_out_accuracy(x, labels) == 1
    assert decide.held_out_accuracy(torch.randn(1000, 5), labels) < .3


# ---- nats

@pytest.mark.parametrize("rho", [0., .5, .9])
def test_neighbours_find_the_information_of_a_gaussian(rho):
    a, b = np.random.default_rng(0).standard_normal((2, 3000, 1))
    assert decide.ksg(a, rho*a + math.sqrt(1 - rho**2)*b) == pytest.approx(decide.gaussian_information([rho]), abs=.06)


def test_neighbours_find_the_information_of_labels():
    labels = np.arange(1000)%4
    x = np.random.default_rng(0).standard_normal((1000, 2))
    assert decide.ksg_of_labels(x + 100*labels[:, None], labels) == pytest.approx(math.log(4), abs=.02)
    assert decide.ksg_of_labels(x, labels) == pytest.approx(0, abs=.05)
    with pytest.raises(InputError, match="more than 3 images, got 2 of class 1"): decide.ksg_of_labels(x[:10],
        np.array([0]*8 + [1]*2))


def test_info_nce_is_a_bound():
    g, rho = torch.Generator().manual_seed(0), torch.tensor([.9, .8], dtype=torch.float64)
    u = torch.randn(2000, 2, generator=g, dtype=torch.float64)
    v = rho*u + (1 - rho**2).sqrt()*torch.randn(2000, 2, generator=g, dtype=torch.float64)
    truth = decide.gaussian_information(rho.numpy())
    assert truth - .1 < decide.info_nce(u, v, rho) < truth + .05
    assert decide.info_nce(u, v.flip(0), rho) < .1 and decide.info_nce(1e3*u, 1e3*u, rho) <= math.log(2000) + 1e-9


def test_the_gaussian_formula_exceeds_log_k_where_labels_are_all_there_is():
    x, y, labels = pair(nuisance=0)
    found = decide.information(x, y, labels)
    assert found["log_classes"] == pytest.approx(math.log(5)) == found["label_entropy"]
    assert found["ksg_labels_x"] == pytest.approx(math.log(5), abs=.05)
    assert found["ksg"] < 2 and found["info_nce"] <= found["info_nce_limit"] and found["gaussian"] > 5


# ---- similarity

def test_similarity_of_equal_features_and_of_labels():
    x, _, labels = pair()
    # a little shrinkage
    assert all(v == pytest.approx(1, abs=.02) for v in decide.similarities(x, x).values())
    turned = x@torch.linalg.qr(torch.randn(17, 17, dtype=torch.float64))[0]
    assert all(v == pytest.approx(1, abs=.02) for v in decide.similarities(x, 3*turned).values())
    means = decide.class_mean_features(x, labels)
    assert torch.allclose(means[labels == 2], x[labels == 2].mean(0)) and torch.allclose(decide.within(x, labels),
        x - means)
    other, _, _ = pair(seed=3)
    assert decide.linear_cka(x, torch.randn(1000, 3)) < .05 and decide.rsa(x,
        torch.randn(1000, 3)) < .05 and decide.linear_cka(x, other) < 1


# ---- answers

def rows_of(condition, k1, peak, layer="backbone", **more):
    return [{"condition": condition, "merged": False, "layer": layer, "seed_a": s, "seed_b": s + 1, "epoch": 9,
             "modes_expected": k1, "peak": peak, **more} for s in range(3)]


@pytest.mark.parametrize("peak, answer",
                         [(lambda k: k, "yes"), (lambda k: k if k%2 else 20, "in part"), (lambda k: k + 2, "in part"),
                          (lambda k: 4, "no")])
def test_the_count_follows_the_labels(peak, answer):
    table = pd.DataFrame([r for k in range(1, 10) for r in rows_of(f"classes={k + 1}", k, peak(k))])
    first, second = decide.judge({"k_sweep": table})
    assert first.answer == answer and second.answer == "cannot be told" and json.dumps(first.to_dict())


def test_twins_that_owe_their_likeness_to_wrong_labels():
    rows = [{"wrong_labels": kind, "label_noise": .3, "augmentation": "none", "layer": "head", "seed_a": s,
             "seed_b": s + 1, **{m: .5 + .01*s + .2*(kind == "same")
                                 for m in ("r2", "r2_within", "train_r2", "same_decision")}}
            for kind in ("same", "different") for s in range(5)]
    found, = decide.judge({"noise_twins": pd.DataFrame(rows)})
    assert found.answer == "yes" and found.numbers["label noise 0.3, augmentation "
                                                   "none"]["r2"]["mean"] == pytest.approx(.2)
    t = pd.DataFrame(rows)
    t["r2_within"] = .5 + .1*(t.seed_a%2 - (t.seed_a == 2))*(t.wrong_labels == "same")      # some pairs up, one down
    equal, = decide.judge({"noise_twins": t})
    assert equal.answer == "no"


# ---- where results are kept

def test_rows_are_made_once_for_the_same_runs(tmp_path):
    calls = []
    def make(): calls.append(1); return [{"a": 1.5, "b": math.nan}]
    first = decide.kept(tmp_path/"x.json", ["one"], make)
    assert decide.kept(tmp_path/"x.json", ["one"], make) == first and len(calls) == 1
    decide.kept(tmp_path/"x.json", ["two"], make)
    assert len(calls) == 2


def test_a_condition_is_found_by_its_options(tmp_path):
    config = reproduce.recipe("digits")
    work = decide.Work(config, (0, 1), tmp_path,
                       tuple(decide.Condition(reproduce.dataclasses.replace(config, temperature=t), tmp_path/str(t),
                                              (0, 1)) for t in (.1, .5)))
    assert work.find(temperature=.5).run(1) == tmp_path/"0.5"/"encoder-1" and work.find().folder == tmp_path/"0.1"
    with pytest.raises(InputError, match="no sweep trains with {'lr': 9.0}"): work.find(lr=9.)


@pytest.mark.parametrize("name", [n for n, e in reproduce.EXPERIMENTS.items() if e.decides])
def test_the_sweeps_train_all_that_decides_needs(name, tmp_path, digits, monkeypatch):
    monkeypatch.setattr(decide, "images", lambda spec: digits)
    e = reproduce.EXPERIMENTS[name]
    tasks = reproduce.deciding(e, reproduce.recipe(e.recipe, **e.changes), e.seeds, tmp_path, False)
    assert (len({t.name for t in tasks}) == len(tasks) and {t.name.split("/")[0] for t in tasks} == set(e.decides)
            and all(j < i for i, t in enumerate(tasks) for j in t.needs))
    names = [n for group, of in reproduce.groups(e).items() for n in reproduce.conditions(of.grid)]
    assert len(set(names)) == len(names)                        # a condition is known by its name in all tables


def test_pixels_are_averaged_once(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path/"in.npz", images=images, labels=np.arange(40)%4)
    made = reproduce.averaged(str(tmp_path/"in.npz"), tmp_path/"out")
    small, large = load_images(made), load_images(tmp_path/"in.npz")
    assert small.shape == (3, 4, 4) and torch.equal(small.test_labels, large.test_labels)
    assert (small.train[3, 1, 0, 2].float() - large.train[3, 1, :2, 4:6].float().mean()).abs() <= .5
    stamp = (made/"train.npz").stat().st_mtime_ns
    assert reproduce.averaged(str(tmp_path/"in.npz"),
                              tmp_path/"out") == made and (made/"train.npz").stat().st_mtime_ns == stamp
    with pytest.raises(InputError,
                       match="8 × 8 pixels do not divide into blocks of 3"): reproduce.averaged(str(tmp_path/"in.npz"),
                           tmp_path/"other", 3)


# ---- tasks

# functions that a new process finds without this file: it starts sooner
add = lambda v: functools.partial(operator.add, v)


@pytest.mark.parametrize("workers", [1, 2])
def test_tasks_get_what_they_need(workers):
    tasks = [Task("a", functools.partial(int, 1)), Task("b", add(10), (0,)), Task("c", functools.partial(int, 100)),
             Task("d", max, (1, 2)), Task("e", torch.get_num_threads), Task("f", functools.partial(int, "x")),
             Task("g", add(1), (5,))]
    assert run_tasks(tasks[:4], progress=False) == [1, 11, 100, 100]
    before = dict(os.environ)
    with pytest.raises(InputError,
                       match="1 of 7 tasks failed.*\n  f: ValueError: invalid literal") as caught: run_tasks(tasks,
                           workers, progress=False)
    assert isinstance(caught.value.__cause__,
                      ValueError) and "  g:" not in str(caught.value) and dict(os.environ) == before
    if workers == 2: assert run_tasks(tasks[:5], 2, progress=False) == [1, 11, 100, 100, 1]


def test_a_process_that_dies_is_reported():
    with pytest.raises(InputError,
                       match="a process ended abruptly.*--workers was 2"): run_tasks([Task("a",
                           functools.partial(os._exit, 3))], 2, progress=False)


def test_a_process_that_died_before_the_next_task_is_reported():
    def submit(pool, call, *args):
        if args: raise BrokenProcessPool("a child process terminated abruptly")
        return given(pool, call)
    given = concurrent.futures.ProcessPoolExecutor.submit
    with (patch.object(concurrent.futures.ProcessPoolExecutor, "submit", submit),
          pytest.raises(InputError, match="a process ended abruptly.*--workers was 2")):
        run_tasks([Task("a", functools.partial(int, 1)), Task("b", add(10), (0,))], 2, progress=False)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_goes_on_when_the_command_is_ended(tmp_path, how):
    script = tmp_path/"go.py"
    script.write_text(f"""import os, sys, time
sys.path[:0] = {[str(ROOT/'experiments'), str(ROOT)]!r}
from tasks import Task, run_tasks
def wait():
    open(os.path.join({str(tmp_path)!r}, str(os.getpid())), "w").close()
    time.sleep(60)
if __name__ == '__main__': run_tasks([Task("a", wait), Task("b", wait)], 2, progress=False)
""")
    # what is started in the background may be deaf to Ctrl-C
    listening = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL, preexec_fn=listening)
    def until(condition, seconds=120):
        end = time.time() + seconds
        while not condition():
            assert time.time() < end
            time.sleep(.1)
    workers = lambda: [int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()]
    until(lambda: len(workers()) == 2)
    command.send_signal(how)
    command.wait(30)
    def gone(pid):
        try: os.kill(pid, 0)
        except ProcessLookupError: return True
        stat = Path(f"/proc/{pid}/stat")                            # ended, but nobody has asked for its status
        return stat.is_file() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    until(lambda: all(gone(p) for p in workers()), 20)


def test_workers_must_be_a_number(capsys):
    with pytest.raises(SystemExit): reproduce.main(["digits", "--workers", "0"])
    assert "must be a positive integer, got '0'" in capsys.readouterr().err
