"Training: what is promised about seeds, interruption and damaged files."
import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from unittest.mock import patch

import numpy as np
import pytest
import torch
from conftest import SHORT

import ncib.train
from ncib.core import InputError
from ncib.data import load_images
from ncib.runs import Run, load_tensors
from ncib.train import TrainConfig, checkpoint_epochs, learning_rate, train


def same_tensors(a, b): return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def weights(run, epoch="last"): return load_tensors(run.file("checkpoints", epoch))[0]


def test_the_seed_fixes_everything(short_pair, tmp_path):
    torch.manual_seed(1234)                                     # the global generator must not matter …
    before = torch.random.get_rng_state()
    again = train(SHORT, tmp_path/"again", progress=False)
    assert torch.equal(before, torch.random.get_rng_state())    # … nor be touched
    assert same_tensors(weights(short_pair[0]), weights(again))
    assert not same_tensors(weights(short_pair[0]), weights(short_pair[1]))


def test_a_finished_run_is_left_alone(short_pair):
    files = {p: p.stat().st_mtime_ns for p in short_pair[0].path.rglob("*") if p.is_file() and p.name != ".lock"}
    train(SHORT, short_pair[0].path, progress=False)
    assert files == {p: p.stat().st_mtime_ns for p in short_pair[0].path.rglob("*") if p.is_file() and p.name != ".lock"}


def test_kill_at_random_instants(tmp_path):
    "Killed with SIGKILL at five random instants, the same command ends with the weights of an uninterrupted run, bit for bit."
    arguments = ["--epochs", "6", "--checkpoints", "4", "--device", "cpu", "--quiet"]
    command = lambda out: [sys.executable, "-m", "ncib.cli", "train", "--out", str(out), *arguments]
    began = time.monotonic()
    subprocess.run(command(tmp_path/"whole"), check=True)
    took = time.monotonic() - began
    whole, config = Run(tmp_path/"whole"), tmp_path/"killed/config.json"
    rng, kills, progress = random.Random(0), 0, set()
    for _ in range(30):
        if kills == 5: break
        process = subprocess.Popen(command(tmp_path/"killed"), stderr=subprocess.PIPE)
        while process.poll() is None and not config.exists(): time.sleep(.01)
        time.sleep(rng.uniform(0, .5*took))                     # the start of the process included
        if process.poll() is None:
            process.send_signal(signal.SIGKILL); process.wait(); kills += 1
            for file in (tmp_path/"killed").rglob("*.safetensors"): load_tensors(file)     # whatever is there is whole
            progress.add(len(Run(tmp_path/"killed").log_rows()))
        else:
            assert process.returncode == 0, process.stderr.read()
            import shutil; shutil.rmtree(tmp_path/"killed")     # it finished before the kill: begin again
    assert kills == 5
    subprocess.run(command(tmp_path/"killed"), check=True)
    killed = Run(tmp_path/"killed")
    assert killed.epochs == whole.epochs == checkpoint_epochs(6, 4)
    for epoch in whole.epochs:
        assert same_tensors(weights(whole, epoch), weights(killed, epoch))
        assert same_tensors(*(load_tensors(r.file("features", epoch))[0] for r in (whole, killed)))
    assert same_tensors(weights(whole), weights(killed))
    drop = lambda run: [{k: v for k, v in row.items() if k != "seconds"} for row in run.log_rows()]
    assert drop(whole) == drop(killed)
    assert not list((tmp_path/"killed").rglob("*.tmp"))


def test_dying_between_any_two_writes(tmp_path, short_pair):
    "The process ends right before each single file of a run is put in its place; every resumed run ends the same."
    class Killed(BaseException): pass
    import ncib.core
    real, config = os.replace, dataclasses.replace(SHORT, epochs=2, checkpoints=1)
    whole = train(config, tmp_path/"whole", progress=False)
    count = {"n": 0}
    def counting(a, b): count["n"] += 1; return real(a, b)
    with patch.object(ncib.core.os, "replace", counting): train(config, tmp_path/"count", progress=False)
    for stop in range(count["n"]):
        seen = {"n": 0}
        def dying(a, b):
            seen["n"] += 1
            if seen["n"] > stop: raise Killed
            return real(a, b)
        with patch.object(ncib.core.os, "replace", dying), pytest.raises(Killed): train(config, tmp_path/f"r{stop}", progress=False)
        resumed = train(config, tmp_path/f"r{stop}", progress=False)
        assert same_tensors(weights(whole), weights(resumed)) and [r["epoch"] for r in resumed.log_rows()] == [0, 1, 2]


@pytest.mark.parametrize("file", ["state/last", "features/epoch_0001", "checkpoints/epoch_0000"])
def test_truncated_file_is_named(tmp_path, file):
    with patch.object(ncib.train, "_train_epoch", side_effect=[1., KeyboardInterrupt]), pytest.raises(KeyboardInterrupt): train(SHORT, tmp_path/"run", progress=False)
    path = tmp_path/"run"/f"{file}.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    before = {p: p.read_bytes() for p in (tmp_path/"run").rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=f"{file}.safetensors is damaged"): train(SHORT, tmp_path/"run", progress=False)
    assert before == {p: p.read_bytes() for p in (tmp_path/"run").rglob("*") if p.is_file()}


def test_refuses_what_is_not_its_own(tmp_path, short_pair):
    path = short_pair[0].path
    with pytest.raises(InputError, match="another configuration: temperature is 0.1, asked for 0.5"): train(dataclasses.replace(SHORT, temperature=.5), path)
    (tmp_path/"notes").mkdir(); (tmp_path/"notes/thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and not a run directory"): train(SHORT, tmp_path/"notes")
    assert [p.name for p in (tmp_path/"notes").iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="exists and is not a directory"): train(SHORT, tmp_path/"notes/thesis.txt")
    with pytest.raises(InputError, match="cannot write to"): train(SHORT, "/proc/ncib-run")


def test_other_images_are_another_run(tmp_path, short_pair):
    data = load_images("digits")
    other = dataclasses.replace(data, train=data.train.flip(0), train_labels=data.train_labels.flip(0))
    with pytest.raises(InputError, match="another configuration: fingerprint is"): train(SHORT, short_pair[0].path, data=other)


def test_diverging_loss_is_an_error(tmp_path):
    with pytest.raises(InputError, match="the loss became nan in epoch .*try a smaller lr"): train(dataclasses.replace(SHORT, lr=1e30, warmup=0.), tmp_path/"run", progress=False)


@pytest.mark.parametrize("change", [dict(loss="supcon-in"), dict(loss="nt-xent"), dict(loss="cross-entropy"), dict(feature_dim=4), dict(label_noise=.5), dict(augmentation="none"),
                                    dict(feature_dtype="float16"), dict(precision="bfloat16"), dict(batch_size=100000), dict(momentum=0.), dict(weight_decay=0.)])
def test_every_option_trains(tmp_path, change):
    config = dataclasses.replace(SHORT, epochs=1, checkpoints=1, **change)
    run = train(config, tmp_path/"run", progress=False)
    f = run.features(1)
    assert run.epochs == [0, 1] and torch.isfinite(f.train.float()).all() and f.train.shape == (len(f.train_labels), change.get("feature_dim", 64))
    assert same_tensors(weights(run), weights(train(config, tmp_path/"run", progress=False)))
    z = run.encoder(1)(load_images("digits").test[:5])
    assert torch.allclose(z, f.test[:5].float(), atol=1e-5 if f.test.dtype == torch.float32 else 2e-3)


def test_natural_images_train(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path/"x.npz", images=rng.integers(256, size=(40, 16, 16, 3), dtype=np.uint8), labels=np.arange(40) % 4)
    run = train(TrainConfig(data=str(tmp_path/"x.npz"), epochs=1, batch_size=8, backbone="resnet18", device="cpu"), tmp_path/"run", progress=False)
    assert run.features(1).train.shape == (32, 512) and run.data["kind"] == "natural"


def test_label_noise_touches_train_labels_only(tmp_path):
    run = train(dataclasses.replace(SHORT, epochs=1, checkpoints=1, label_noise=1.), tmp_path/"run", progress=False)
    data, f = load_images("digits"), run.features(1)
    assert (f.train_labels != data.train_labels).float().mean() > .8 and torch.equal(f.test_labels, data.test_labels)


def test_label_noise_that_empties_a_class(tmp_path):
    np.savez(tmp_path/"x.npz", images=np.random.default_rng(0).integers(256, size=(60, 8, 8, 1), dtype=np.uint8), labels=np.arange(60) % 20)
    with pytest.raises(InputError, match="label_noise 1.0 leaves no training image of class"): train(TrainConfig(data=str(tmp_path/"x.npz"), label_noise=1., device="cpu"), tmp_path/"run")
    assert not (tmp_path/"run").exists()


def test_the_same_images_elsewhere_are_the_same_run(tmp_path, short_pair):
    data = load_images("digits")
    np.savez(tmp_path/"x.npz", images=np.zeros((1, 8, 8, 1), np.uint8), labels=[0])
    run = train(dataclasses.replace(SHORT, data=str(tmp_path/"x.npz")), short_pair[0].path, progress=False, data=dataclasses.replace(data, name="moved"))
    assert run.epochs == short_pair[0].epochs


def test_a_log_that_lost_lines_is_named(tmp_path):
    config = dataclasses.replace(SHORT, epochs=1, checkpoints=1)
    run = train(config, tmp_path/"run", progress=False)
    (run.path/"log.jsonl").write_text("")
    with pytest.raises(InputError, match="log.jsonl is damaged"): train(config, tmp_path/"run", progress=False)


def test_schedule():
    c = TrainConfig(lr=2., warmup=.1)
    assert learning_rate(c, 0.) == pytest.approx(.02) and learning_rate(c, .1) == pytest.approx(2.) and learning_rate(c, 1.) == pytest.approx(0.)
    assert learning_rate(c, .55) == pytest.approx(1.)
    assert learning_rate(TrainConfig(lr=2., warmup=0.), 0.) == pytest.approx(2.)


def test_checkpoints_are_logarithmic():
    e = checkpoint_epochs(1000, 16)
    assert e[:2] == [0, 1] and e[-1] == 1000 and len(e) <= 17 and max(np.diff(np.log(e[3:]))) < 1
    assert checkpoint_epochs(7, 100) == list(range(8)) and checkpoint_epochs(9, 1) == [0, 1, 9]


@pytest.mark.parametrize("change, message", [
    (dict(epochs=0), "epochs must be at least 1, got 0"), (dict(batch_size=1), "batch_size must be at least 2, got 1"), (dict(lr=float("nan")), "lr must be positive and finite, got nan"),
    (dict(label_noise=1.1), r"label_noise must be in \[0, 1\]"), (dict(backbone="vgg"), "backbone must be one of light, resnet18"), (dict(weight_decay=-1.), "weight_decay must be at least 0"),
    (dict(device="tpu9"), "device must be auto"), (dict(device="cuda:99"), "is not available"), (dict(seed=-1), "seed must be at least 0"), (dict(feature_dim=0), "feature_dim must be at least 1"),
    (dict(momentum=1.), r"momentum must be in \[0, 1\)"), (dict(epochs=2.5), "epochs must be an integer, got 2.5"), (dict(lr="fast"), "lr must be a number, got 'fast'"), (dict(device="mps"), "device must be auto, cpu, cuda")])
def test_bad_options(tmp_path, change, message):
    with pytest.raises(InputError, match=message): train(dataclasses.replace(SHORT, **change), tmp_path/"run")
    assert not (tmp_path/"run").exists()
