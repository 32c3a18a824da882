"Training: what is promised about seeds, interruption and damaged files."
import dataclasses
import os
import pickle
import platform
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

import ncib.train
from conftest import SHORT
from ncib.core import InputError, read_json, write_json
from ncib.data import ImageData, load_images
from ncib.losses import supcon_loss
from ncib.probe import linear_probe
from ncib.runs import Run, load_tensors
from ncib.timeline import analyze
from ncib.train import TrainConfig, checkpoint_epochs, learning_rate, recipe, recipes, record_features, train


def same_tensors(a, b): return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def stopped_before(epoch, config, path):
    "The training, interrupted as this epoch begins and then taken up again."
    step = ncib.train._train_epoch
    def stops(config, *args):
        if args[-2] == epoch: raise KeyboardInterrupt
        return step(config, *args)
    with patch.object(ncib.train, "_train_epoch", stops), pytest.raises(KeyboardInterrupt):
        train(config, path, progress=False)
    return train(config, path, progress=False)


def weights(run, epoch="last"): return load_tensors(run.file("checkpoints", epoch))[0]


def test_the_seed_fixes_everything(short_pair, tmp_path):
    torch.manual_seed(1234)                                     # the global generator must not matter …
    before = torch.random.get_rng_state()
    again = train(SHORT, tmp_path/"again", progress=False)
    assert torch.equal(before, torch.random.get_rng_state())    # … nor be touched
    assert same_tensors(weights(short_pair[0]), weights(again))
    assert not same_tensors(weights(short_pair[0]), weights(short_pair[1]))


DROPOUT = """
from torch import nn
def net(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(.5))
"""

def test_the_seed_fixes_what_a_network_draws(tmp_path):
    (tmp_path/"own.py").write_text(DROPOUT)
    config = dataclasses.replace(SHORT, backbone=f"{tmp_path}/own.py:net", train_size=200, checkpoints=1)
    whole = train(config, tmp_path/"whole", progress=False)
    torch.manual_seed(5)
    assert same_tensors(weights(whole), weights(stopped_before(3, config, tmp_path/"stopped")))
    assert not same_tensors(weights(whole), weights(train(dataclasses.replace(config, seed=1), tmp_path/"other",
                                                          progress=False)))


def test_a_cross_entropy_has_no_temperature(tmp_path):
    config = dataclasses.replace(SHORT, loss="cross-entropy", epochs=1, checkpoints=1, train_size=200)
    a, b = (train(dataclasses.replace(config, base_temperature=t), tmp_path/str(t), progress=False)
            for t in (None, .03))
    assert same_tensors(weights(a), weights(b))


def test_images_must_be_bytes():
    d = load_images("digits")
    for change, said in ((dict(train=d.train.float()/255), r"train must be images of .* got float32 \(1347, 1, 8"),
                         (dict(test=d.test[:, 0]), r"test must be images of uint8 .* got uint8 \(450, 8, 8\)"),
                         (dict(test_labels=d.test_labels[:5]), "test_labels must be one int64 for each of the 450"),
                         (dict(train_labels=d.train_labels.int()), r"train_labels must .* got int32 \(1347,\)")):
        with pytest.raises(InputError, match=said): dataclasses.replace(d, **change)


def test_a_run_is_made_once(tmp_path):
    "Another process that found no run a moment ago does not write over the one that has been made since."
    run = Run.create(tmp_path/"run", ["a", "b"], {"seed": 0})
    is_file, asked = Path.is_file, []
    def blind(path):                                                         # the first look comes before that moment
        asked.append(path)
        return len(asked) > 1 and is_file(path)
    with patch.object(Path, "is_file", blind), pytest.raises(InputError, match="another configuration: seed is 0"):
        Run.create(tmp_path/"run", ["a", "b"], {"seed": 1})
    with run.locked():
        asked.clear()
        with patch.object(Path, "is_file", blind):                           # its maker writes to it already
            assert Run.create(tmp_path/"run", ["a", "b"], {"seed": 0}).info == run.info


def test_a_finished_run_is_left_alone(short_pair):
    files = {p: p.stat().st_mtime_ns for p in short_pair[0].path.rglob("*") if p.is_file() and p.name != ".lock"}
    train(SHORT, short_pair[0].path, progress=False)
    assert files == {p: p.stat().st_mtime_ns for p in short_pair[0].path.rglob("*") if p.is_file()
                     and p.name != ".lock"}


def test_kill_at_random_instants(tmp_path):
    """Killed with SIGKILL at five random instants, the same command ends with the weights of an uninterrupted run, bit
    for bit."""
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
            shutil.rmtree(tmp_path/"killed")     # it finished before the kill: begin again
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
        with patch.object(ncib.core.os, "replace", dying), pytest.raises(Killed):
            train(config, tmp_path/f"r{stop}", progress=False)
        resumed = train(config, tmp_path/f"r{stop}", progress=False)
        assert same_tensors(weights(whole), weights(resumed)) and [r["epoch"] for r in resumed.log_rows()] == [0, 1, 2]


@pytest.mark.parametrize("file", ["state/last", "features/epoch_0001", "checkpoints/epoch_0000"])
def test_truncated_file_is_named(tmp_path, file):
    with patch.object(ncib.train, "_train_epoch",
                      side_effect=[1., KeyboardInterrupt]), pytest.raises(KeyboardInterrupt):
        train(SHORT, tmp_path/"run", progress=False)
    path = tmp_path/"run"/f"{file}.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    before = {p: p.read_bytes() for p in (tmp_path/"run").rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=f"{file}.safetensors is damaged"): train(SHORT, tmp_path/"run", progress=False)
    assert before == {p: p.read_bytes() for p in (tmp_path/"run").rglob("*") if p.is_file()}


def test_refuses_what_is_not_its_own(tmp_path, short_pair):
    path = short_pair[0].path
    with pytest.raises(InputError, match="another configuration: temperature is 0.1, asked for 0.5"):
        train(dataclasses.replace(SHORT, temperature=.5), path)
    (tmp_path/"notes").mkdir(); (tmp_path/"notes/thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and not a run directory"): train(SHORT, tmp_path/"notes")
    assert [p.name for p in (tmp_path/"notes").iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="exists and is not a directory"): train(SHORT, tmp_path/"notes/thesis.txt")
    with pytest.raises(InputError, match="cannot write to"): train(SHORT, "/proc/ncib-run")


def test_other_images_are_another_run(tmp_path, short_pair):
    data = load_images("digits")
    other = dataclasses.replace(data, train=data.train.flip(0), train_labels=data.train_labels.flip(0))
    with pytest.raises(InputError, match="another configuration: fingerprint is"):
        train(SHORT, short_pair[0].path, data=other)


def test_diverging_loss_is_an_error(tmp_path):
    with pytest.raises(InputError, match="the loss became nan in epoch .*try a smaller lr"):
        train(dataclasses.replace(SHORT, lr=1e30, warmup=0.), tmp_path/"run", progress=False)


@pytest.mark.parametrize("change", [dict(loss="supcon-in"), dict(loss="nt-xent"), dict(loss="cross-entropy"),
                                    dict(feature_dim=4), dict(label_noise=.5), dict(augmentation="none"),
                                    dict(feature_dtype="float16"), dict(precision="bfloat16"), dict(precision="fast"),
                                    dict(batch_size=100000), dict(momentum=0.), dict(weight_decay=0.),
                                    dict(nesterov=False), dict(final_lr=.1),
                                    dict(base_temperature=.07), dict(train_size=300), dict(imbalance=5.),
                                    dict(images="host"), dict(images="device"), dict(compile="no"),
                                    dict(views=1), dict(views=1, loss="cross-entropy"), dict(views=1, loss="supcon-in"),
                                    dict(augmentation="shift", cutout=.25), dict(schedule="linear"),
                                    dict(decay_until=.5, final_lr=.1), dict(start_scale=.5),
                                    dict(start_scale=.75, grow_until=1.),
                                    dict(feature_train_size=100), dict(train_size=300, feature_train_size=1000),
                                    dict(backbone="conv", feature_dim=64)])
def test_every_option_trains(tmp_path, change):
    config = dataclasses.replace(SHORT, epochs=1, checkpoints=1, **change)
    run = train(config, tmp_path/"run", progress=False)
    f = run.features(1)
    assert len(f.train) == len(f.train_head) == min(
        change.get("feature_train_size", 1347),
        change.get("train_size", 1347 if "imbalance" not in change else len(f.train)))
    assert (run.epochs == [0, 1] and torch.isfinite(f.train.float()).all()
            and f.train.shape == (len(f.train_labels), change.get("feature_dim", 64)))
    assert same_tensors(weights(run), weights(train(config, tmp_path/"run", progress=False)))
    z = run.encoder(1)(load_images("digits").test[:5])
    assert torch.allclose(z, f.test[:5].float(), atol=1e-5 if f.test.dtype == torch.float32 else 2e-3)


def test_natural_images_train(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path/"x.npz", images=rng.integers(256, size=(40, 16, 16, 3), dtype=np.uint8), labels=np.arange(40) % 4)
    run = train(TrainConfig(data=str(tmp_path/"x.npz"), epochs=1, batch_size=8, backbone="resnet18", device="cpu"),
                tmp_path/"run", progress=False)
    assert run.features(1).train.shape == (32, 512) and run.data["kind"] == "natural"


def test_label_noise_touches_train_labels_only(tmp_path):
    run = train(dataclasses.replace(SHORT, epochs=1, checkpoints=1, label_noise=1.), tmp_path/"run", progress=False)
    data, f = load_images("digits"), run.features(1)
    assert (f.train_labels != data.train_labels).float().mean() > .8 and torch.equal(f.test_labels, data.test_labels)


def test_label_noise_that_empties_a_class(tmp_path):
    np.savez(tmp_path/"x.npz", images=np.random.default_rng(0).integers(256, size=(60, 8, 8, 1), dtype=np.uint8),
             labels=np.arange(60) % 20)
    with pytest.raises(InputError, match="label_noise 1.0 leaves no training image of class"):
        train(TrainConfig(data=str(tmp_path/"x.npz"), label_noise=1., device="cpu"), tmp_path/"run")
    assert not (tmp_path/"run").exists()


def test_the_same_images_elsewhere_are_the_same_run(tmp_path, short_pair):
    data = load_images("digits")
    np.savez(tmp_path/"x.npz", images=np.zeros((1, 8, 8, 1), np.uint8), labels=[0])
    run = train(dataclasses.replace(SHORT, data=str(tmp_path/"x.npz")), short_pair[0].path, progress=False,
                data=dataclasses.replace(data, name="moved"))
    assert run.epochs == short_pair[0].epochs


def test_a_log_that_lost_lines_is_named(tmp_path):
    config = dataclasses.replace(SHORT, epochs=1, checkpoints=1)
    run = train(config, tmp_path/"run", progress=False)
    (run.path/"log.jsonl").write_text("")
    with pytest.raises(InputError, match="log.jsonl is damaged"): train(config, tmp_path/"run", progress=False)


def test_schedule():
    c = TrainConfig(lr=2., warmup=.1)
    assert (learning_rate(c, 0.) == pytest.approx(.02) and learning_rate(c, .1) == pytest.approx(2.)
            and learning_rate(c, 1.) == pytest.approx(0.))
    assert learning_rate(c, .55) == pytest.approx(1.)
    assert learning_rate(TrainConfig(lr=2., warmup=0.), 0.) == pytest.approx(2.)
    c = TrainConfig(lr=2., warmup=.2, schedule="linear", final_lr=.1)
    assert [learning_rate(c, p) for p in (.2, .6, 1.)] == pytest.approx([2., 1.1, .2])


def test_checkpoints_are_logarithmic():
    e = checkpoint_epochs(1000, 16)
    assert e[:2] == [0, 1] and e[-1] == 1000 and len(e) <= 17 and max(np.diff(np.log(e[3:]))) < 1
    assert checkpoint_epochs(7, 100) == list(range(8)) and checkpoint_epochs(9, 1) == [0, 1, 9]


@pytest.mark.parametrize("change, message", [
    (dict(epochs=0), "epochs must be at least 1, got 0"), (dict(batch_size=1), "batch_size must be at least 2, got 1"),
    (dict(lr=float("nan")), "lr must be positive and finite, got nan"),
    (dict(label_noise=1.1), r"label_noise must be in \[0, 1\]"),
    (dict(backbone="vgg"), "backbone must be one of light, resnet18"),
    (dict(weight_decay=-1.), "weight_decay must be at least 0"),
    (dict(device="tpu9"), "device must be auto"), (dict(device="cuda:99"), "is not available"),
    (dict(seed=-1), "seed must be at least 0"), (dict(feature_dim=0), "feature_dim must be at least 1"),
    (dict(momentum=1.), r"momentum must be in \[0, 1\)"), (dict(epochs=2.5), "epochs must be an integer, got 2.5"),
    (dict(lr="fast"), "lr must be a number, got 'fast'"), (dict(device="mps"), "device must be auto, cpu, cuda"),
    (dict(nesterov=1), "nesterov must be true or false, got 1"),
    (dict(epochs=True), "epochs must be an integer, got True"),
    (dict(base_temperature=0.), "base_temperature must be positive"),
    (dict(final_lr=2.), r"final_lr must be in \[0, 1\]"), (dict(sync_bn=True), "sync_bn needs CUDA"),
    (dict(train_size=5), "at least 2 are needed"), (dict(images="disk"), "images must be one of auto, device, host"),
    (dict(views=3), "views must be one of 1, 2, got 3"), (dict(views=1, loss="nt-xent"), "loss nt-xent needs views 2"),
    (dict(cutout=1.), r"cutout must be in \[0, 1\), got 1.0"),
    (dict(feature_train_size=5), "feature_train_size 5 .*leave 0 training images of class"),
    (dict(feature_train_size=0), r"feature_train_size must be in \[1, 1347\], got 0"),
    (dict(schedule="step"), "schedule must be one of cosine, linear"),
    (dict(start_scale=0.), r"start_scale must be in \(0, 1\], got 0.0"),
    (dict(ema_epochs=-1.), "ema_epochs must be at least 0 and finite, got -1.0"),
    (dict(grow_until=1.5), r"grow_until must be in \(0, 1\]"),
    (dict(decay_until=.05), r"decay_until must be in \[warmup, 1\], got 0.05 with a warmup of 0.1")])
def test_bad_options(tmp_path, change, message):
    with pytest.raises(InputError, match=message): train(dataclasses.replace(SHORT, **change), tmp_path/"run")
    assert not (tmp_path/"run").exists()


def test_a_network_of_one_size_takes_no_small_images(tmp_path):
    (tmp_path
     /"mine.py").write_text("from torch import nn\ndef flat(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 16))\n")
    with pytest.raises(InputError,
                       match="start_scale 0.5: backbone '.*mine.py:flat' does not take images of 4 × 4 pixels"):
        train(dataclasses.replace(SHORT, backbone=f"{tmp_path}/mine.py:flat", start_scale=.5), tmp_path/"run",
              progress=False)
    assert not (tmp_path/"run").exists()


def test_small_images_and_then_the_same_training(tmp_path):
    "Stopped where they grow, the same end bit for bit."
    config = dataclasses.replace(SHORT, epochs=4, start_scale=.5, grow_until=.5, decay_until=.75, final_lr=.1)
    whole = train(config, tmp_path/"whole", progress=False)
    assert not same_tensors(weights(whole), weights(train(dataclasses.replace(config, start_scale=1.), tmp_path/"large",
                                                          progress=False)))
    assert same_tensors(weights(whole), weights(stopped_before(3, config, tmp_path/"stopped")))
    rates = [r["lr"] for r in whole.log_rows()[1:]]
    assert abs(rates[-1] - .1*config.lr) < 1e-12 and rates[1] > rates[2] > rates[3]


def test_an_average_of_the_weights_is_kept(tmp_path, short_pair):
    """The recursion by hand, over the states that the same training without an average goes through; that training is
    not touched by it. Stopped on the way, the same average bit for bit."""
    config, steps = dataclasses.replace(SHORT, ema_epochs=.7, loss="cross-entropy"), []
    real = ncib.train._step
    def seen(config, net, *args):
        loss = real(config, net, *args)
        steps.append({k: v.clone() for k, v in net.state_dict().items()})
        return loss
    with patch.object(ncib.train, "_step", seen):
        plain = train(dataclasses.replace(config, ema_epochs=0.), tmp_path/"plain", progress=False)
    run = train(config, tmp_path/"run", progress=False)
    horizon = .7*len(steps)/config.epochs
    kept = {k: v.double() for k, v in steps[0].items()}
    for n, now in enumerate(steps[1:], 1):
        for k, v in now.items():
            kept[k] += max(1/horizon, 9/(10 + n))*(v - kept[k]) if v.is_floating_point() else v - kept[k]
    got = {k if k.startswith("classifier.") else f"encoder.{k}": v for k, v in weights(run).items()}
    assert got.keys() == kept.keys()
    for k, v in kept.items(): torch.testing.assert_close(got[k].double(), v, rtol=1e-5, atol=1e-6)
    state, without = (load_tensors(r.file("state", "last"))[0] for r in (run, plain))
    assert without and all(torch.equal(state[k], v) for k, v in without.items())
    assert not same_tensors(weights(run), weights(plain))
    assert same_tensors(weights(run), weights(stopped_before(2, config, tmp_path/"stopped")))


PAGES = """
import resource, torch
from ncib.train import _memory_kept
torch.set_num_threads(1)
def new_pages(): # of 32 tensors of 64 MB, one after the other
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(32): torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start
print(new_pages())
with _memory_kept(torch.device("cpu")): print(new_pages())
"""

@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_is_kept_during_a_training_alone(monkeypatch):
    """Pages of a large tensor that is made again and again, in a process of its own: new ones each time, or the same.
    What is asked of the C library is taken back at the end, and nothing is asked on a GPU or against the environment's
    own settings."""
    for name in [k for k in os.environ if k.startswith("MALLOC_") or k == "GLIBC_TUNABLES"]: monkeypatch.delenv(name)
    before, kept = map(int, subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True,
                                           check=True).stdout.split())
    assert kept < before/4
    with patch.object(ncib.train.ctypes, "CDLL") as library:
        with pytest.raises(KeyboardInterrupt), ncib.train._memory_kept(torch.device("cpu")): raise KeyboardInterrupt
        asked = [c.args for c in library.return_value.mallopt.call_args_list]
        assert [option for option, _ in asked] == 2*[-1, -2, -4] and dict(asked) == {-1: 2**17, -2: 2**17, -4: 2**16}
        library.return_value.malloc_trim.assert_called_once_with(0)
        library.reset_mock()
        with ncib.train._memory_kept(torch.device("cuda")): pass
        monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
        with ncib.train._memory_kept(torch.device("cpu")): pass
        library.assert_not_called()


def test_where_the_images_live_changes_nothing(tmp_path, short_pair):
    run = train(dataclasses.replace(SHORT, images="host"), tmp_path/"run", progress=False)
    assert same_tensors(weights(short_pair[0]), weights(run))


def test_the_last_line_reports_a_linear_probe(short_pair):
    rows, f = short_pair[0].log_rows(), short_pair[0].features(3)
    assert (rows[-1]["test_linear_probe_accuracy"]
            == linear_probe(f.train, f.train_labels).accuracy(f.test, f.test_labels)
            and "test_linear_probe_accuracy" not in rows[-2])


def test_base_temperature_scales_the_gradient_alone(tmp_path):
    """T/T_base on the gradient is a larger learning rate with a weight decay that is smaller by the same factor; the
    logged loss stays the loss."""
    one = dict(epochs=1, checkpoints=1, device="cpu", momentum=.5, nesterov=False)
    a = train(TrainConfig(lr=.1, weight_decay=1e-2, base_temperature=.05, **one), tmp_path/"a", progress=False)
    b = train(TrainConfig(lr=.2, weight_decay=5e-3, **one), tmp_path/"b", progress=False)
    assert a.log_rows()[1]["loss"] == pytest.approx(b.log_rows()[1]["loss"], rel=1e-4)
    wa, wb, w0 = weights(a), weights(b), weights(a, 0)
    for k in wa:
        if w0[k].is_floating_point(): assert (wa[k] - wb[k]).norm() <= 2e-2*(wa[k] - w0[k]).norm() + 1e-6, k


def test_recipes():
    assert recipe("digits") == TrainConfig()
    r = recipe("supcon-cifar", data="digits", seed=3)
    assert ((r.backbone, r.epochs, r.batch_size, r.lr, r.nesterov, r.seed, r.data)
            == ("resnet50", 1000, 1024, .5, False, 3, "digits"))
    assert learning_rate(r, 1.) == pytest.approx(.5e-3) and learning_rate(r, .01) == pytest.approx(.5)
    for name in recipes: recipe(name)
    with pytest.raises(InputError,
                       match="recipe must be one of digits, demo, supcon-cifar, cifar-short, cifar-cpu, .*, got "
                             "'best'"):
        recipe("best")


@pytest.mark.parametrize("kind", ["digits", "natural", "shift"])
def test_nothing_in_an_epoch_waits_for_the_device(kind):
    """One value reaches the host, the mean loss at the end; whatever else did would stop a GPU at every step. (The
    contrastive losses have a test of their own.)"""
    from torch.utils._python_dispatch import TorchDispatchMode
    seen = []
    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if any(w in str(func) for w in ("_local_scalar_dense", "nonzero", "unique", "equal.default", "linalg",
                                            "masked_select")):
                seen.append(str(func))
            return func(*args, **(kwargs or {}))
    data, config = load_images("digits"), dataclasses.replace(
        SHORT, loss="cross-entropy", batch_size=32, **(dict(views=1, cutout=.25) if kind == "shift" else {}))
    data = dataclasses.replace(data, train=data.train[:128] if kind == "digits"
                               else data.train[:128].expand(-1, 3, -1, -1), train_labels=data.train_labels[:128])
    backbone, dim = ("conv", 256) if kind == "shift" else ("light", 64)
    net = ncib.train._Objective(ncib.train.Encoder(backbone, shape=data.shape), torch.nn.Linear(dim, 10))
    with Watch():
        ncib.train._train_epoch(config, data, data.train_labels, kind, net,
                                torch.optim.SGD(net.parameters(), lr=.1, momentum=.9), 1, False)
    assert seen == ["aten._local_scalar_dense.default"]


def test_features_of_other_images(tmp_path, short_pair):
    "Zero-shot: two encoders of digits 0-9, and images they never saw, through to the analysis."
    data = load_images("digits")
    other = dataclasses.replace(data, name="turned", train=data.train.flip(2), test=data.test.flip(2))
    a, b = (record_features(r, other, tmp_path/str(i), device="cpu", progress=False) for i, r in enumerate(short_pair))
    assert (a.epochs == short_pair[0].epochs
            and torch.allclose(short_pair[0].encoder(3)(other.test), a.features(3).test, atol=1e-5))
    timeline = analyze(a, b, progress=False)
    assert len(timeline.table) == len(a.epochs) and timeline.num_classes == 10
    before = {p: p.stat().st_mtime_ns for p in a.path.rglob("*.safetensors")}
    record_features(short_pair[0], other, tmp_path/"0", device="cpu", progress=False)
    assert before == {p: p.stat().st_mtime_ns for p in a.path.rglob("*.safetensors")}
    with pytest.raises(InputError, match="another configuration: seed is 0, asked for 1"):
        record_features(short_pair[1], other, tmp_path/"0", device="cpu", progress=False)
    with pytest.raises(InputError, match="another configuration: fingerprint"):
        record_features(short_pair[0], data, tmp_path/"0", device="cpu", progress=False)
    coloured = dataclasses.replace(data, train=data.train.expand(-1, 3, -1, -1), test=data.test.expand(-1, 3, -1, -1))
    with pytest.raises(InputError, match="has 3 channels, .* was trained on 1"):
        record_features(short_pair[0], coloured, tmp_path/"c", progress=False)
    assert not (tmp_path/"c").exists()
    with pytest.raises(InputError, match="feature_dtype must be"):
        record_features(short_pair[0], other, tmp_path/"d", feature_dtype="int8", progress=False)
    info = read_json(a.path/"config.json")
    write_json(a.path/"config.json", info | {"environment": info["environment"] | {"trained": "long ago"}})
    with pytest.raises(InputError, match="features of an earlier training"):
        record_features(short_pair[0], other, tmp_path/"0", device="cpu", progress=False)


def test_more_classes_than_the_batch(tmp_path):
    "Two views make every image its own positive, so a batch may be smaller than the number of classes."
    run = train(dataclasses.replace(SHORT, epochs=1, checkpoints=1, batch_size=4, train_size=40), tmp_path/"run",
                progress=False)
    assert np.isfinite(run.log_rows()[-1]["loss"])


def test_a_compiled_network_is_the_same_network(tmp_path, short_pair):
    """The wiring of torch.compile, with its compiler left out (it takes most of a minute): one graph, the same weights,
    the same names in the files."""
    real, calls = torch.compile, []
    def traced(module, dynamic):
        calls.append(dynamic); return real(module, backend="eager", fullgraph=True, dynamic=dynamic)
    with patch.object(torch, "compile", traced):
        run = train(dataclasses.replace(SHORT, compile="yes"), tmp_path/"run", progress=False)
    assert calls == [False] and same_tensors(weights(short_pair[0]), weights(run))


def test_damaged_run_files_are_named(short_pair, tmp_path):
    import shutil
    run = Run(shutil.copytree(short_pair[0].path, tmp_path/"run"))
    (run.path/"log.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="log.jsonl is damaged"): run.log_rows()
    for text in ("3", "[]", '{"config": 1, "data": {}}'):
        (run.path/"config.json").write_text(text)
        with pytest.raises(InputError, match="config.json is damaged"): Run(run.path)


def test_a_run_that_another_process_made_anew_is_not_written_to(tmp_path):
    "Two processes create the same run at the same instant: the one whose configuration was replaced stops."
    ours = Run.create(tmp_path/"run", ["a", "b"], {"lr": 1})
    (tmp_path/"run/config.json").unlink()
    Run.create(tmp_path/"run", ["a", "b"], {"lr": 2})
    with pytest.raises(InputError, match="another process has just made this run with another configuration"):
        with ours.locked(): pass


def colours(n, classes=4, side=12, channels=3, seed=0):
    "Images whose class is a pattern under noise, sorted by class as the files of some data sets are."
    rng = np.random.default_rng(seed)
    y = np.sort(np.arange(n) % classes)
    pattern = rng.integers(60, 200, size=(classes, channels, side, side))
    x = torch.from_numpy((pattern[y] + rng.integers(-50, 50, size=(n, channels, side, side))).astype(np.uint8))
    y = torch.from_numpy(y)
    return ImageData("patterns", x[::2], y[::2], x[1::2], y[1::2], tuple(map(str, range(classes))), "natural")


FAST = TrainConfig(backbone="conv", views=1, augmentation="shift", cutout=.25, schedule="linear", epochs=3,
                   checkpoints=3,
                   batch_size=32, lr=.1, feature_train_size=40, device="cpu")


@pytest.mark.parametrize("channels", [1, 3])
def test_the_fast_path_learns(tmp_path, channels):
    data = colours(240, channels=channels)
    run = train(FAST, tmp_path/"run", progress=False, data=data)
    rows, f = run.log_rows(), run.features(3)
    assert rows[-1]["loss"] < rows[1]["loss"] and rows[-1]["test_linear_probe_accuracy"] > .9
    assert f.train.shape == (40, 256) and torch.bincount(f.train_labels).tolist() == [10]*4
    encoder = run.encoder(3)
    assert torch.allclose(encoder(data.test), f.test, rtol=1e-5, atol=1e-4)        # of features up to 28
    start, stem = weights(run, 0), "backbone.stem.weight"
    # whitening is not trained
    assert torch.equal(start[stem], weights(run)[stem]) and torch.equal(encoder.backbone.stem.weight, start[stem])
    assert not torch.equal(start["backbone.stem.bias"], weights(run)["backbone.stem.bias"])


def test_a_killed_fast_run_resumes_bit_for_bit(tmp_path):
    "SIGKILL between epochs and inside one; the same call ends with the weights of the uninterrupted run."
    script = ("import sys, pickle, os, signal, torch, ncib.train as t\n"
              "torch.set_num_threads(1)\n"
              "config, data, out, kill = pickle.load(open(sys.argv[1], 'rb')), pickle.load(open(sys.argv[2], 'rb')), "
              "sys.argv[3], int(sys.argv[4])\n"
              "real, steps = t.augment, [0]\n"
              "def counted(*a):\n"
              "    steps[0] += 1\n"
              "    if steps[0] == kill: os.kill(os.getpid(), signal.SIGKILL)\n"
              "    return real(*a)\n"
              "t.augment = counted\n"
              "t.train(config, out, progress=False, data=data)\n")
    for name, thing in (("config", FAST), ("data", colours(240))): (tmp_path/name).write_bytes(pickle.dumps(thing))
    def call(out, kill):
        return subprocess.run([sys.executable, "-c", script, tmp_path/"config", tmp_path/"data", tmp_path/out,
                               str(kill)]).returncode
    assert call("whole", 0) == 0
    for kill in (6, 3):
        assert call("killed", kill) == -signal.SIGKILL            # 4 steps an epoch: in the second, then again
    assert call("killed", 0) == 0
    a, b = Run(tmp_path/"whole"), Run(tmp_path/"killed")
    for epoch in (*a.epochs, "last"): assert same_tensors(weights(a, epoch), weights(b, epoch))
    assert same_tensors(*(load_tensors(r.file("features", 3))[0] for r in (a, b)))


def test_an_option_that_a_run_lacks_counts_as_its_default(tmp_path, short_pair):
    import shutil
    run = Run(shutil.copytree(short_pair[0].path, tmp_path/"run"))
    info = read_json(run.path/"config.json")
    for k in ("views", "schedule", "cutout", "feature_train_size"): del info["config"][k]
    write_json(run.path/"config.json", info)
    again = train(SHORT, run.path, progress=False)
    assert again.epochs == short_pair[0].epochs and again.encoder(3).feature_dim == 64 and "views" not in again.config
    with pytest.raises(InputError, match="another configuration: views is 2, asked for 1$"):
        train(dataclasses.replace(SHORT, views=1), run.path, progress=False)
    with patch.object(ncib.train, "_train_epoch",
                      side_effect=[1., KeyboardInterrupt]), pytest.raises(KeyboardInterrupt):
        train(SHORT, tmp_path/"half", progress=False)
    write_json(tmp_path/"half/config.json", info)
    assert train(SHORT, tmp_path/"half", progress=False).epochs == short_pair[0].epochs


def test_features_of_a_subset_are_those_of_the_same_images(tmp_path):
    data, noisy = load_images("digits"), dataclasses.replace(SHORT, epochs=1, label_noise=.3, feature_train_size=200)
    runs = [train(dataclasses.replace(noisy, seed=s), tmp_path/str(s), progress=False, data=data) for s in (0, 1)]
    everything = train(dataclasses.replace(noisy, feature_train_size=None), tmp_path/"all", progress=False, data=data)
    # what is recorded does not touch the training
    assert same_tensors(weights(runs[0]), weights(everything))
    a, b, whole = (r.features(1) for r in (*runs, everything))
    assert torch.equal(a.train_labels, b.train_labels) and len(a.train) == 200
    counts = torch.bincount(whole.train_labels)*200/1347                          # of the labels that the training saw
    assert (torch.bincount(a.train_labels) - counts).abs().max() <= 1
    at = torch.cdist(a.train.double(), whole.train.double()).argmin(1)
    assert torch.equal(whole.train_labels[at], a.train_labels) and torch.allclose(whole.train[at], a.train, atol=1e-5)
    assert runs[0].data["fingerprint"] == everything.data["fingerprint"]
    probes = [r.log_rows()[-1]["test_linear_probe_accuracy"] for r in (runs[0], everything)]
    few = linear_probe(a.train, a.train_labels).accuracy(a.test, a.test_labels)
    assert probes[0] == probes[1] != few                                           # fitted to all images, as is usual


@pytest.mark.parametrize("images", ["device", "host"])
def test_batches_of_sorted_images_hold_several_classes(tmp_path, images):
    "The images are shuffled: a batch of one class would teach a contrastive loss nothing."
    data, seen, real = colours(240), [], ncib.train._loss
    def spy(config, out, labels, batch): seen.append(labels.clone()); return real(config, out, labels, batch)
    with patch.object(ncib.train, "_loss", spy):
        train(dataclasses.replace(FAST, images=images, epochs=2), tmp_path/"run", progress=False, data=data)
    assert (data.train_labels.diff() >= 0).all() and len(seen) == 8 and all(len(y.unique()) == 4 for y in seen)
    for epoch in (seen[:4], seen[4:]):
        assert torch.equal(torch.cat(epoch).sort()[0], data.train_labels)      # each image once


def test_one_view_is_supcon_on_one_view():
    g = torch.Generator().manual_seed(0)
    z, y = torch.nn.functional.normalize(torch.randn(12, 5, generator=g), dim=1), torch.tensor([0]*5 + [1]*6 + [2])
    config = dataclasses.replace(SHORT, views=1, temperature=.2)
    s = (z @ z.T/.2).fill_diagonal_(-torch.inf)
    log_p = s - s.logsumexp(1, keepdim=True)
    # the image alone in its class is no anchor
    rows = [-torch.stack([log_p[i, j] for j in range(12) if j != i and y[j] == y[i]]).mean() for i in range(11)]
    assert float(ncib.train._loss(config, z, y, 12)) == pytest.approx(float(torch.stack(rows).mean()), rel=1e-5)
    assert torch.equal(ncib.train._loss(config, z, y, 12), supcon_loss(z, y, .2))
    logits = torch.randn(12, 3, generator=g)
    assert torch.equal(ncib.train._loss(dataclasses.replace(config, loss="cross-entropy"), logits, y, 12),
                       torch.nn.functional.cross_entropy(logits, y))


@pytest.mark.parametrize("name", ["cifar10-2core", "cifar100-2core", "cifar10-gpu", "cifar100-gpu"])
def test_the_fast_recipes_train(tmp_path, name):
    config = recipe(name, epochs=1, batch_size=24, feature_train_size=20, device="cpu", checkpoints=1)
    assert (config.views, config.augmentation, config.data) == (1, "shift", name.split("-")[0])
    run = train(config, tmp_path/"run", progress=False, data=colours(96, side=16))
    assert (np.isfinite(run.log_rows()[-1]["loss"])
            and run.features(1).train.shape == (20, 512 if name == "cifar100-gpu" else 256))


def test_a_compiler_that_fails_costs_speed_only(tmp_path, short_pair):
    "The first batches may have been compiled and trained on when it fails; the epoch begins again without it."
    real, calls = torch.compile, []
    def backend(graph, inputs):
        calls.append(1)
        if len(calls) > 1: raise RuntimeError("no compiler")
        return graph.forward
    def failing(module, dynamic): return real(module, backend=backend, dynamic=dynamic)
    cuda = patch.object(ncib.train, "_compiles", lambda *a: True)
    data = dataclasses.replace(load_images("digits"))
    odd = dataclasses.replace(SHORT, batch_size=270)            # 5 batches of two sizes: two graphs
    plain = train(odd, tmp_path/"plain", progress=False, data=data)
    torch.compiler.reset()
    warned = "torch.compile does not work here, which costs speed only"
    with patch.object(torch, "compile", failing), cuda, pytest.warns(UserWarning, match=warned):
        run = train(odd, tmp_path/"run", progress=False, data=data)
    assert len(calls) > 1 and same_tensors(weights(plain), weights(run))
    with patch.object(torch, "compile", failing), pytest.raises(Exception, match="no compiler"):
        train(dataclasses.replace(odd, compile="yes"), tmp_path/"asked", progress=False)


def test_the_convolutional_network_is_one_graph():
    net = ncib.train._Objective(ncib.train.Encoder("conv", (3, 16, 16)).whiten(colours(20, side=16).train), None)
    x = torch.rand(4, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    assert torch.allclose(torch.compile(net, backend="eager", fullgraph=True, dynamic=False)(x), net(x), atol=1e-6)


def test_the_state_is_not_written_after_every_short_epoch(tmp_path):
    "Between checkpoints it is at most ten seconds old; the run resumes from it, whatever lines the log has beyond it."
    config, written, real = dataclasses.replace(SHORT, epochs=5, checkpoints=1), [], ncib.train.save_tensors
    def spy(path, tensors, **more):
        written.append((path.parent.name, more["epoch"])); return real(path, tensors, **more)
    with patch.object(ncib.train, "save_tensors", spy): whole = train(config, tmp_path/"whole", progress=False)
    assert [e for folder, e in written if folder == "state"] == [0, 1, 5]
    losses = iter([None, None, None])
    def stops(*a, real=ncib.train._train_epoch):
        if next(losses, 0) == 0: raise KeyboardInterrupt
        return real(*a)
    with patch.object(ncib.train, "_train_epoch", stops), pytest.raises(KeyboardInterrupt):
        train(config, tmp_path/"run", progress=False)
    assert (len(Run(tmp_path/"run").log_rows()) == 4
            and load_tensors(tmp_path/"run/state/last.safetensors", names=[])[1]["epoch"] == 1)
    resumed = train(config, tmp_path/"run", progress=False)
    assert same_tensors(weights(whole), weights(resumed)) and [r["epoch"] for r in resumed.log_rows()] == list(range(6))
    del written[:]
    with patch.object(ncib.train, "save_tensors", spy), patch.object(ncib.train, "_state_seconds", 0.):
        train(config, tmp_path/"often", progress=False)
    assert [e for folder, e in written if folder == "state"] == list(range(6))
