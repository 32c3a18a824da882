"Training with two processes under torchrun, on the CPU with Gloo."
import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import SHORT
from ncib.runs import Run, load_tensors
from ncib.train import train

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without torch.distributed")


def torchrun(out, *options, **popen):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ncib.cli",
               "train", "--device", "cpu", "--checkpoints", "3", "--out", str(out), *options]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **popen)


def finish(process, timeout=300):
    try: out, err = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None: process.terminate()                # torchrun ends its workers
    return process.returncode, out, err


def same(a, b): return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("two")/"whole"
    status, out, err = finish(torchrun(path, "--epochs", "6"))
    assert status == 0, err[-3000:]
    assert out.count("test accuracy at the last epoch") == 1, "one process speaks"
    return Run(path)


def test_two_processes_train_one_run(whole, short_pair):
    assert whole.epochs == [0, 1, 2, 6] and whole.info["environment"]["processes"] == 2
    f, alone = whole.features(0), short_pair[0].features(0)
    # the initial features, shared out and gathered, are those of one process, in its order
    assert torch.allclose(f.train, alone.train, atol=1e-6) and torch.equal(f.train_labels, alone.train_labels)
    x = whole.encoder(6)
    from ncib.data import load_images
    assert torch.allclose(x(load_images("digits").test), whole.features(6).test, atol=1e-5)
    rows = whole.log_rows()
    assert ([r["epoch"] for r in rows] == list(range(7)) and rows[6]["loss"] < rows[1]["loss"]
            and rows[6]["test_linear_probe_accuracy"] > .9)


def test_killed_and_resumed_with_two_processes(whole, tmp_path):
    path = tmp_path/"killed"
    process = torchrun(path, "--epochs", "6")
    log, until = path/"log.jsonl", time.monotonic() + 200
    while (process.poll() is None and time.monotonic() < until
           and not (log.exists() and log.read_text().count("\n") >= 2)):
        time.sleep(.02)
    process.terminate(); process.communicate(timeout=60)
    assert 1 <= len(Run(path).log_rows()) - 1 < 6, "killed in the middle"
    status, _, err = finish(torchrun(path, "--epochs", "6"))
    assert status == 0, err[-3000:]
    for folder, epoch in (("checkpoints", "last"), ("features", 6), ("state", "last")):
        assert same(*(load_tensors(r.file(folder, epoch))[0] for r in (whole, Run(path)))), folder


def test_resumed_with_one_process(whole, tmp_path):
    "What two processes left is taken up by one."
    import shutil

    import ncib.train
    path = shutil.copytree(whole.path, tmp_path/"run")
    run, config = Run(path), dataclasses.replace(SHORT, epochs=6)
    state, _ = load_tensors(run.file("state", "last"))
    rows = run.log_rows()
    # as if it had ended after epoch 2
    ncib.train.save_tensors(run.file("state", "last"), state, epoch=2)
    run.write_log(rows[:3])
    resumed = train(config, path, progress=False)
    assert ([r["epoch"] for r in resumed.log_rows()] == list(range(7))
            and resumed.log_rows()[3]["loss"] < rows[1]["loss"])


def test_errors_reach_every_process(tmp_path):
    np.savez(tmp_path/"x.npz", images=np.zeros((8, 8, 8, 1), np.uint8), labels=np.arange(8) % 2)
    (tmp_path/"full").mkdir(); (tmp_path/"full/thesis.txt").write_text("mine")
    began = time.monotonic()
    status, _, err = finish(torchrun(tmp_path/"full", "--data", str(tmp_path/"x.npz"), "--batch-size", "2"))
    assert status != 0 and "not empty and not a run directory" in err and time.monotonic() - began < 150
    assert [p.name for p in (tmp_path/"full").iterdir()] == ["thesis.txt"]


def test_one_launch_trains_twice(tmp_path):
    "A second process group meets under names of its own, also when one rank comes late."
    (tmp_path/"twice.py").write_text(f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import dataclasses, os
from conftest import SHORT
from ncib.train import train
for seed in (0, 1):
    config = dataclasses.replace(SHORT, seed=seed, epochs=1, train_size=200)
    train(config, {str(tmp_path)!r} + f"/run-{{seed}}", progress=False)
    time.sleep(.3*int(os.environ["RANK"]))
""")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
               str(tmp_path/"twice.py")]
    status, _, err = finish(subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"},
                                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True), timeout=120)
    assert status == 0, err[-3000:]
    assert [Run(tmp_path/f"run-{s}").epochs for s in (0, 1)] == [[0, 1], [0, 1]]
