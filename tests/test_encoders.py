"""Features of somebody else's network: against hooks written by hand, from every layout of weights, interrupted and
gone on with, and every wrong input named."""
import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models as zoo
from torchvision import transforms

from ncib import encoders
from ncib.cli import main
from ncib.core import InputError
from ncib.data import load_images, subset
from ncib.encoders import TensorWriter, describe_layers, encode_images
from ncib.frames import checkpoint_frames
from ncib.models import find_checkpoints, load_model, penultimate_layer, weights_hash
from ncib.runs import Run
from ncib.timeline import analyze
from ncib.train import TrainConfig, train

MINE = """
import torch
from torch import nn

def net(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.flat, self.body, self.lstm, self.unused = nn.Flatten(), nn.Linear(64, 8), nn.LSTM(8, 4), nn.Linear(3, 3)
        self.windows = nn.Unflatten(1, (2, 4))
    def forward(self, x):
        h = self.body(self.flat(x))
        self.lstm(h)
        self.windows(h)
        return torch.relu(h)

class Rows(nn.Module):
    def __init__(self):
        super().__init__()
        self.twice = nn.Flatten(0, 0)
        self.split = Twice()
    def forward(self, x): return self.split(x.flatten(1))[::2]

class Twice(nn.Module):
    def forward(self, x): return torch.cat([x, x])

class Nans(nn.Module):
    def forward(self, x): return torch.where(x.flatten(1).sum(1, keepdim=True) == 0, torch.nan, x.flatten(1))

class Large(nn.Module):
    def forward(self, x): return 1e6*x.flatten(1)

class Colour(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
    def forward(self, x): return self.conv(x).mean((2, 3))

def broken(): raise KeyError("no such thing")
def number(): return 3
def halves(image): return torch.ones(1, 4, 4)
def bad_shape(image): return torch.ones(4)
"""


@pytest.fixture(scope="module")
def data(): return subset(load_images("digits"), 200)


@pytest.fixture
def mine(tmp_path):
    (tmp_path/"mine.py").write_text(MINE)
    return lambda name: f"{tmp_path/'mine.py'}:{name}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "train/<class>, test/<class> of small colour PNGs of two sizes."
    root, g = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for part, n in (("train", 3), ("test", 2)):
        for k in ("ant", "bee"):
            (root/part/k).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(g.integers(256, size=(20 + 9*(i % 2), 24, 3),
                                           dtype=np.uint8)).save(root/part/k/f"{i}.png")
    return root


def run(capsys, *argv):
    try: status = main([str(a) for a in argv])
    except SystemExit as e: status = e.code
    out, err = capsys.readouterr()
    return status, out, err


def encode(model, data, out, *args, **options):
    return encode_images(model, data, out, *args, **{"device": "cpu", "progress": False} | options)


# ---- what comes out

def test_equals_a_hook_written_by_hand(capsys, folder, tmp_path):
    "The command on a folder of PNGs of several sizes, against torchvision as its documentation uses it."
    status, out, err = run(capsys, "features", "--model", "torchvision:resnet18", "--weights", "none", "--seed", 3,
                           "--data", folder, "--out", tmp_path/"r", "--device", "cpu", "--quiet")
    assert status == 0 and not err and "layer input of fc" in out
    net, transform = load_model("torchvision:resnet18", "none", seed=3).net, zoo.ResNet18_Weights.DEFAULT.transforms()
    assert not net.training
    caught = []
    net.avgpool.register_forward_hook(lambda module, args, output: caught.append(output.flatten(1)))
    made = Run(tmp_path/"r").features(0)
    for part, rows, labels in (("train", made.train, made.train_labels), ("test", made.test, made.test_labels)):
        files = sorted((folder/part).rglob("*.png"))
        with torch.inference_mode(): net(torch.stack([transform(Image.open(f).convert("RGB")) for f in files]))
        assert (rows.shape == (len(files), 512) and torch.allclose(rows, caught[-1], atol=1e-6, rtol=0)
                and rows.std() > 1e-3)
        assert labels.tolist() == [("ant", "bee").index(f.parent.name) for f in files]
    assert Run(tmp_path/"r").classes == ["ant", "bee"]


def test_layers_are_listed_and_read_together(capsys, data, mine, tmp_path):
    status, out, _ = run(capsys, "features", "--model", "torchvision:resnet18", "--layers", "list")
    assert status == 0 and "layer4.1.conv2" in out and "Conv2d" in out
    status, out, _ = run(capsys, "features", "--model", "torchvision:resnet18", "--layers", "list", "--data", "digits",
                         "--preprocess", "none")
    lines = dict(line.split(None, 1) for line in out.splitlines())
    assert (lines["avgpool"] == "AdaptiveAvgPool2d 512×1×1" and lines["penultimate"] == "input of fc"
            and lines["fc"] == "Linear 1000")
    made = encode(mine("net"), data, tmp_path/"r", ["1", "penultimate", "output"])
    assert {name: r.features(1).train.shape[1]
            for name, r in made.items()} == {"1": 32, "penultimate": 32, "output": 10}
    assert (sorted(p.name for p in (tmp_path/"r").iterdir()) == ["1", "input_of_3", "output"]
            and made["output"].path == tmp_path/"r/output")
    assert torch.equal(made["1"].features(1).test.relu(), made["penultimate"].features(1).test)
    alone = encode(mine("net"), data, tmp_path/"alone", "1")
    assert torch.equal(alone.features(1).train, made["1"].features(1).train)
    with pytest.raises(InputError, match="several layers need a folder of their own"):
        encode(mine("net"), data, tmp_path/"alone", ["1", "2"])


def test_a_classifier_is_told_from_an_encoder(data, mine, folder, tmp_path):
    "By one output per class; a layer that is named is the one that is read."
    assert encode(mine("net"), data, tmp_path/"a").config["layer"] == "input of 3"
    assert encode(mine("net"), data, tmp_path/"b", "output").features(1).train.shape[1] == 10
    assert encode(mine("Parts"), data, tmp_path/"c").config["layer"] == "output"
    assert encode(mine("Colour"), folder, tmp_path/"d", preprocess="imagenet:16").features(1).train.shape == (6, 4)


def test_analysis_report_and_explorer_take_the_runs(capsys, data, mine, tmp_path):
    np.savez(tmp_path/"d.npz", images=torch.cat([data.train, data.test])[:, 0].numpy(),
             labels=torch.cat([data.train_labels, data.test_labels]).numpy())
    for seed in (0, 1):
        status, _, err = run(capsys, "features", "--model", mine("net"), "--layer", "penultimate", "--seed", seed,
                             "--data", tmp_path/"d.npz", "--out", tmp_path/str(seed), "--device", "cpu", "--quiet")
        assert status == 0, err
    status, out, err = run(capsys, "analyze", tmp_path/"0", tmp_path/"1", "--out", tmp_path/"pair", "--quiet")
    assert status == 0 and "only one checkpoint" in out, err
    assert run(capsys, "report", tmp_path/"pair")[0] == 0
    text = (tmp_path/"pair/report.html").read_text()
    assert "What was found" in text and "mine.py:net" in text and "weights_sha256" in text
    assert len(checkpoint_frames(analyze(tmp_path/"0", tmp_path/"1", progress=False)).epochs) == 1


def test_same_images_have_the_same_fingerprint_as_in_training(tmp_path, mine, data):
    """Folders of one size pair with runs that ncib trained; others only among themselves, and only if nothing was added
    or changed."""
    g = np.random.default_rng(1)
    for part in ("train", "test"):
        for k in "ab":
            (tmp_path/"one"/part/k).mkdir(parents=True)
            for i in range(2):
                Image.fromarray(g.integers(256, size=(8, 8), dtype=np.uint8)).save(tmp_path/"one"/part/k/f"{i}.png")
    about = encode(mine("net"), tmp_path/"one", tmp_path/"r").data
    assert about["fingerprint"] == load_images(tmp_path/"one").fingerprint() and about["shape"] == [1, 8, 8]
    (tmp_path/"one/test").rename(tmp_path/"one/val")
    named = encode(mine("net"), tmp_path/"one", tmp_path/"v")
    assert (named.data["fingerprint"] != about["fingerprint"]
            and torch.equal(named.features(1).test, Run(tmp_path/"r").features(1).test))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path/"one/val/a/1.png")
    with pytest.raises(InputError, match="fingerprint is"): encode(mine("net"), tmp_path/"one", tmp_path/"v")
    other = encode(mine("net"), tmp_path/"one", tmp_path/"w", seed=1)
    with pytest.raises(InputError, match="trained on different images"): analyze(named, other, progress=False)


@pytest.mark.parametrize("name, width", [("vgg11", 4096), ("mobilenet_v3_small", 1024), ("vit_b_32", 768),
                                         ("densenet121", 1024), ("convnext_tiny", 768), ("efficientnet_b0", 1280)])
def test_penultimate_layers_of_other_families(name, width):
    "One image suffices; at a small size where the architecture allows it."
    net, side = load_model(f"torchvision:{name}", "none").net, 224 if name.startswith("vit") else 32
    layer = penultimate_layer(net, torch.zeros(1, 3, side, side))
    assert net.get_submodule(layer.removeprefix("input of ")).in_features == width


def test_pooling(tmp_path, data):
    class Maps(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.tokens = nn.Identity(), nn.Identity()
        def forward(self, x):
            self.tokens(x.flatten(2).transpose(1, 2).expand(-1, -1, 3))
            return self.last(x.permute(0, 2, 3, 1).expand(-1, -1, -1, 5)*torch.arange(5.))
    x = data.test[:, 0].float()/255
    last = encode(Maps(), data, tmp_path/"a", "last", pool="channels-last").features(1).test
    assert torch.allclose(last, x.mean((1, 2))[:, None]*torch.arange(5.), atol=1e-6)
    assert torch.equal(encode(Maps(), data, tmp_path/"b", "tokens", pool="first").features(1).test,
                       x[:, :1, 0].expand(-1, 3))
    assert torch.equal(encode(Maps(), data, tmp_path/"c", "last",
                              pool="flatten").features(1).test.view(-1, 8, 8, 5)[..., 1], x)


def test_a_network_in_memory_is_left_alone(tmp_path, data):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5), nn.Dropout()).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    made = encode(net, data, tmp_path/"r", feature_dtype="float16")
    assert (net.training and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
            and not net._forward_hooks)
    assert made.features(1).train.dtype == torch.float16
    with torch.no_grad():
        assert torch.allclose(net.eval()(data.train.float()/255), made.features(1).train.float(), atol=1e-2)
    with torch.no_grad(): net[1].weight[0] += 1
    with pytest.raises(InputError, match="another configuration: weights_sha256 is"):
        encode(net, data, tmp_path/"r", feature_dtype="float16")


# ---- interrupted, bounded, retried

def test_interrupted_and_gone_on_with(data, mine, tmp_path, monkeypatch):
    """Stopped in the middle of the test images, the same call does what is missing, in other batches, and the bytes are
    those of one go."""
    whole = encode(mine("net"), data, tmp_path/"whole", ["1", "output"], batch_size=32)
    seen, load = [], encoders._in_memory
    def counted(stop):
        def make(d):
            images = load(d)
            def one(part, i):
                if (part, i) == stop: raise KeyboardInterrupt
                seen.append((part, i))
                return images.load(part, i)
            return dataclasses.replace(images, load=one)
        return make
    monkeypatch.setattr(encoders, "_in_memory", counted(("test", 150)))
    with pytest.raises(KeyboardInterrupt): encode(mine("net"), data, tmp_path/"r", ["1", "output"], batch_size=32)
    assert not Run(tmp_path/"r/1").epochs and (tmp_path/"r/1/state/epoch_0001.json").is_file()
    seen.clear()
    monkeypatch.setattr(encoders, "_in_memory", counted(None))
    again = encode(mine("net"), data, tmp_path/"r", ["1", "output"], batch_size=32)
    assert (("train", 5) not in seen and ("test", 120) not in seen and ("test", 149) in seen
            and ("test", len(data.test) - 1) in seen)
    for name, r in again.items():
        assert (r.file("features", 1).read_bytes() == whole[name].file("features", 1).read_bytes()
                and not list((r.path/"state").iterdir()))
    seen.clear()
    encode(mine("net"), data, tmp_path/"r", ["1", "output"])
    assert len(seen) == 2                                                      # two images to check the layers


def test_rows_behind_the_last_note_do_not_count(tmp_path):
    """A power failure: the file holds more, or less, than the note says; the note decides, and one that does not fit
    starts anew."""
    asked = dict(path=tmp_path/"a.safetensors", unfinished=tmp_path/"a.part",
                 tensors={"x": ((6, 2), torch.float32), "y": ((6,), torch.int64)}, epoch=1)
    w = TensorWriter(**asked)
    w.write("x", 0, torch.ones(3, 2)); w.sync(); w.write("x", 3, torch.full((2, 2), 9.)); w.file.flush()
    assert TensorWriter(**asked).rows == {"x": 3, "y": 0}
    assert TensorWriter(**asked | {"epoch": 2}).rows == {"x": 0, "y": 0} and not (tmp_path/"a.json").exists()
    w = TensorWriter(**asked); w.write("x", 0, torch.ones(3, 2)); w.sync(); w.file.close()
    with open(tmp_path/"a.part", "r+b") as f: f.truncate(100)
    w = TensorWriter(**asked)
    assert w.rows["x"] == 0
    with pytest.raises(InputError, match=r"x must be rows of \(6, 2\) float32"): w.write("x", 5, torch.ones(2, 2))
    with pytest.raises(InputError, match="int64"): w.write("x", 0, torch.ones(2, 2, dtype=torch.int64))
    w.write("x", 0, torch.arange(12.).view(6, 2)); w.write("y", 0, torch.arange(6)); w.finish()
    assert torch.equal(load_file(tmp_path/"a.safetensors")["x"], torch.arange(12.).view(6, 2))


def test_memory_is_bounded_by_the_batch(tmp_path):
    "Features of 300 MB cost a tenth of it."
    code = f"""
import resource, torch
from torch import nn
from ncib.data import ImageData
from ncib.encoders import encode_images
class Wide(nn.Module):
    def __init__(self): super().__init__(); self.w = torch.rand(16, 8192)
    def forward(self, x): return x.flatten(1) @ self.w
y = torch.arange(4600) % 2
x = torch.randint(256, (4600, 1, 4, 4), dtype=torch.uint8)
data = ImageData("noise", x, y, x, y, ("a", "b"), "digits")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024
few = ImageData("few", x[:64], y[:64], x[:64], y[:64], ("a", "b"), "digits")
encode_images(Wide(), few, {str(tmp_path/'few')!r}, batch_size=64, device="cpu", progress=False)
before = peak()
run = encode_images(Wide(), data, {str(tmp_path/'r')!r}, batch_size=64, device="cpu", progress=False)
print(peak() - before, run.file("features", 1).stat().st_size/2**20)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown, size = map(float, done.stdout.split())
    assert size > 280 and grown < 30


def test_batches_shrink_where_memory_is_short(tmp_path, data):
    class Hungry(nn.Module):
        largest = 0
        def forward(self, x):
            if len(x) > 20: raise torch.OutOfMemoryError("no memory")
            Hungry.largest = max(Hungry.largest, len(x))
            return x.flatten(1)
    made = encode(Hungry(), data, tmp_path/"r")
    assert Hungry.largest > 10 and torch.equal(made.features(1).train, data.train.flatten(1).float()/255)
    with pytest.raises(InputError, match="too little memory for 64 images at a time"):
        encode(Hungry(), data, tmp_path/"s", batch_size=64)


# ---- weights

def state(net, prefix=""): return {prefix + k: v for k, v in net.state_dict().items()}


@pytest.fixture
def trained():
    torch.manual_seed(5)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def test_checkpoints_of_every_layout_become_one_run(capsys, data, mine, tmp_path, trained):
    nets = []
    def step():
        with torch.no_grad(): trained[1].weight += .01
        nets.append({k: v.clone() for k, v in trained.state_dict().items()})
        return trained
    def here(name): (tmp_path/name).mkdir(); return tmp_path/name
    plain = here("plain")
    torch.save(state(step()), plain/"ckpt_1.pt"); torch.save(state(step(), "module."), plain/"ckpt_2.pth")
    save_file(state(step(), "_orig_mod."), plain/"ckpt_10.safetensors")
    lightning = here("lightning"); (lightning/"checkpoints").mkdir()
    for e in (1, 2, 10):
        torch.save({"epoch": e, "global_step": 7*e, "pytorch-lightning_version": "2.5",
                    "state_dict": {f"model.{k}": v for k, v in nets[(1, 2, 10).index(e)].items()},
                    "optimizer_states": [{"state": {}}], "hyper_parameters": {"lr": .1}},
                                    lightning/f"checkpoints/epoch={e}-step={7*e}.ckpt")
    torch.save({"state_dict": nets[2]}, lightning/"checkpoints/last.ckpt")
    hugging = here("hugging")
    for e, w in zip((1, 2, 10), nets):
        (hugging/f"checkpoint-{e}").mkdir()
        if e < 10: save_file(w, hugging/f"checkpoint-{e}/model.safetensors"); continue
        shards = {"model-00001-of-00002.safetensors": list(w)[:1], "model-00002-of-00002.safetensors": list(w)[1:]}
        for name, keys in shards.items(): save_file({k: w[k] for k in keys}, hugging/f"checkpoint-{e}"/name)
        index = {"weight_map": {k: n for n, keys in shards.items() for k in keys}}
        (hugging/f"checkpoint-{e}/model.safetensors.index.json").write_text(json.dumps(index))
    np.savez(tmp_path/"d.npz", images=data.train[:, 0].numpy(), labels=data.train_labels.numpy())
    x = load_images(tmp_path/"d.npz").test.float()/255
    for source in (plain, lightning, hugging):
        status, out, err = run(capsys, "features", "--model", mine("net"), "--checkpoints", source, "--data",
                               tmp_path/"d.npz", "--out", tmp_path/f"run-{source.name}", "--device", "cpu", "--quiet")
        assert status == 0 and "3 epochs from 1 to 10" in out, err
        made = Run(tmp_path/f"run-{source.name}")
        for e, w in zip((1, 2, 10), nets):
            trained.load_state_dict(w)
            with torch.no_grad():
                # ten outputs, ten classes: a classifier
                assert torch.allclose(made.features(e).test, trained[:3](x), atol=1e-5)
    torch.save(state(trained), plain/"ckpt_11.pt")                                             # the training goes on
    assert run(capsys, "features", "--model", mine("net"), "--checkpoints", plain, "--data", tmp_path/"d.npz", "--out",
               tmp_path/"run-plain", "--device", "cpu", "--quiet")[0] == 0
    assert Run(tmp_path/"run-plain").epochs == [1, 2, 10, 11]
    (plain/"ckpt_2.pth").rename(plain/"other_2.pth")
    status, _, err = run(capsys, "features", "--model", mine("net"), "--checkpoints", plain, "--data", tmp_path/"d.npz",
                         "--out", tmp_path/"run-plain", "--device", "cpu", "--quiet")
    assert status == 1 and "has features of epoch 2 from ckpt_2.pth, not from other_2.pth" in err


def test_epochs_in_names(tmp_path, trained):
    for name in ("e3_loss0.25.pt", "e4_loss0.20.pt", "best.pt"): torch.save(state(trained), tmp_path/name)
    assert list(find_checkpoints(tmp_path)) == [3, 4]
    assert ({e: p.name for e, p in find_checkpoints(tmp_path, r"loss0\.(\d+)").items()}
            == {20: "e4_loss0.20.pt", 25: "e3_loss0.25.pt"})
    for pattern, message in ((r"e[", "is not a regular expression"), (r"e\d", "needs a group"),
                             (r"(e)", "not a whole number"), (r"nothing(\d)", "no epoch in the names")):
        with pytest.raises(InputError, match=message): find_checkpoints(tmp_path, pattern)
    torch.save(state(trained), tmp_path/"e3_again.pt")
    with pytest.raises(InputError, match="e3_again.pt and e3_loss0.25.pt are both of epoch 3"):
        find_checkpoints(tmp_path)
    (tmp_path/"empty").mkdir()
    with pytest.raises(InputError, match="holds no checkpoints"): find_checkpoints(tmp_path/"empty")
    with pytest.raises(InputError, match="no such folder"): find_checkpoints(tmp_path/"nowhere")


def test_weights_that_do_not_fit(capsys, data, mine, tmp_path, trained):
    good = state(trained)
    cases = {"missing.pt": ({k: v for k, v in good.items() if k != "3.bias"}, r"1 of 4 missing (3.bias)"),
             "extra.pt": (good | {"head.w": torch.ones(1), "head.b": torch.ones(1)}, "2 unexpected (head.w, head.b)"),
             "shape.pt": (good | {"3.weight": torch.ones(7, 32)}, "3.weight is (7, 32), wanted (10, 32)"),
             "other.pt": ({"a.weight": torch.ones(2)}, "nothing in it fits the network"),
             "number.pt": (3, "holds no state dict"),
             "two.pt": ({"epoch": 1, "lr": .1}, "it is a dict of epoch, lr")}
    for name, (content, message) in cases.items():
        torch.save(content, tmp_path/name)
        status, out, err = run(capsys, "features", "--model", mine("net"), "--weights", tmp_path/name, "--data",
                               "digits", "--out", tmp_path/"r", "--device", "cpu", "--quiet")
        assert status == 1 and message in err and name in err and not (tmp_path/"r").exists(), err
        assert len(err.strip().splitlines()) == 1
    (tmp_path/"cut.safetensors").write_bytes(b"\0"*40); (tmp_path/"cut.pt").write_bytes(b"PK\x03\x04 not a zip")
    for name, message in (("cut.safetensors", "is damaged"), ("cut.pt", "not a checkpoint of torch"),
                          ("nowhere.pt", "no such file"), ("nowhere.safetensors", "no such file")):
        with pytest.raises(InputError, match=f"{name}.*{message}"):
            encode(mine("net"), data, tmp_path/"r", weights=tmp_path/name)
    status, out, err = run(capsys, "features", "--model", mine("net"), "--weights", tmp_path/"extra.pt", "--strict",
                           "no", "--data", "digits", "--out", tmp_path/"loose", "--device", "cpu", "--quiet")
    assert (status == 0 and err
            == "ncib features: extra.pt does not fit the network, what fits was taken: 2 unexpected (head.w, head.b)\n")
    with pytest.warns(UserWarning, match="1 of another shape"):
        made = encode(mine("net"), data, tmp_path/"r", "1", weights=tmp_path/"shape.pt", strict=False)
    with torch.no_grad(): assert torch.allclose(made.features(1).test, trained[:2](data.test.float()/255), atol=1e-5)


class Trap:
    def __init__(self, path): self.path = path
    def __reduce__(self): return (Path.touch, (Path(self.path),))


def test_no_file_runs_code(data, mine, tmp_path, trained):
    "Not as weights, not inside an exported program; the trap itself would work."
    torch.save({"state_dict": state(trained), "hparams": Trap(str(tmp_path/"sprung"))}, tmp_path/"trap.ckpt")
    with pytest.raises(InputError, match="trap.ckpt holds more than weights"):
        encode(mine("net"), data, tmp_path/"r", weights=tmp_path/"trap.ckpt")
    torch.save(trained, tmp_path/"whole.pt")
    with pytest.raises(InputError, match="whole.pt holds more than weights"):
        encode(mine("net"), data, tmp_path/"r", weights=tmp_path/"whole.pt")
    torch.export.save(torch.export.export(trained, (torch.rand(2, 1, 8, 8),)), tmp_path/"net.pt2")
    for member in ("net/data/constants/opaque_obj_0", "net/data/aotinductor/model/x.so",
                   "net/data/constants/custom_obj_0"):
        (tmp_path/"odd.pt2").write_bytes((tmp_path/"net.pt2").read_bytes())
        with zipfile.ZipFile(tmp_path/"odd.pt2", "a") as z: z.writestr(member, b"x")
        with pytest.raises(InputError, match="only graphs and tensors are loaded"): load_model(str(tmp_path/"odd.pt2"))
    assert not (tmp_path/"sprung").exists()
    torch.load(tmp_path/"trap.ckpt", weights_only=False)
    assert (tmp_path/"sprung").exists() and "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_an_exported_program(data, tmp_path, trained):
    "Of batches of any size, or of four only; its layers have the names of the original."
    x = data.test.float()/255
    for name, shapes in (("any", ({0: torch.export.Dim.DYNAMIC},)), ("four", None)):
        torch.export.save(torch.export.export(trained.eval(), (torch.rand(4, 1, 8, 8),), dynamic_shapes=shapes),
                          tmp_path/f"{name}.pt2")
        made = encode(str(tmp_path/f"{name}.pt2"), data, tmp_path/name, ["1", "output"])
        with torch.no_grad():
            assert (torch.allclose(made["1"].features(1).test, trained[:2](x), atol=1e-5)
                    and torch.allclose(made["output"].features(1).test, trained(x), atol=1e-5))
    assert describe_layers(str(tmp_path/"four.pt2"), data)["3"].endswith("10")
    with pytest.raises(InputError, match="holds its own weights"): load_model(str(tmp_path/"any.pt2"), tmp_path/"w.pt")
    (tmp_path/"bad.pt2").write_bytes(b"nothing")
    with pytest.raises(InputError, match="bad.pt2 is not an archive"): load_model(str(tmp_path/"bad.pt2"))


def test_weights_and_function_in_one_name(mine, tmp_path, trained, data):
    save_file(state(trained), tmp_path/"w.safetensors")
    loaded = load_model(f"{tmp_path/'w.safetensors'}+{mine('net')}")
    assert weights_hash(loaded.net) == weights_hash(trained) and loaded.weights == "w.safetensors"
    with pytest.raises(InputError, match="names its weights"):
        load_model(f"{tmp_path/'w.safetensors'}+{mine('net')}", tmp_path/"w.safetensors")


def test_weights_that_need_the_network(capsys, tmp_path, monkeypatch):
    "Without it the error says so, and nothing is written."
    monkeypatch.setenv("TORCH_HOME", str(tmp_path/"hub"))
    def unreachable(*args, **kwargs): raise URLError("Name or service not known")
    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    status, _, err = run(capsys, "features", "--model", "torchvision:resnet18", "--data", "digits", "--out",
                         tmp_path/"r", "--device", "cpu", "--quiet")
    assert (status == 1 and "which needs the network" in err and "weights none" in err
            and len(err.strip().splitlines()) == 1 and not (tmp_path/"r").exists())


# ---- timm and transformers: the real library where it is installed, otherwise a stand-in with the names that are used

INSTALLED = {name: importlib.util.find_spec(name) is not None for name in ("timm", "transformers")}


def small(**_): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))


@pytest.fixture
def timm_or_stand_in(monkeypatch):
    if INSTALLED["timm"]: return "resnet10t"
    made = types.ModuleType("timm"); made.data = types.ModuleType("timm.data")
    made.is_model, made.list_models = lambda name: name == "tiny", lambda: ["tiny"]
    def create_model(name, pretrained=False):
        if pretrained: raise ConnectionError("no route to host")
        return small()
    made.create_model = create_model
    made.data.resolve_model_data_config = lambda net: {"input_size": (3, 16, 16)}
    made.data.create_transform = lambda input_size, is_training: (
        lambda image: torch.from_numpy(np.asarray(image.resize(input_size[1:]), np.float32)).permute(2, 0, 1)/255)
    monkeypatch.setitem(sys.modules, "timm", made); monkeypatch.setitem(sys.modules, "timm.data", made.data)
    return "tiny"


def test_timm(timm_or_stand_in, folder, tmp_path):
    made = encode(f"timm:{timm_or_stand_in}", folder, tmp_path/"r", weights="none")
    assert made.features(0).train.shape[0] == 6 and made.config["layer"].startswith("input of ")
    with pytest.raises(InputError, match="timm has no 'tinyy'"): load_model("timm:tinyy", "none")
    if not INSTALLED["timm"]:
        with pytest.raises(InputError, match="needs the network.*no route to host"): load_model("timm:tiny")


@pytest.fixture
def transformers_or_stand_in(monkeypatch):
    if INSTALLED["transformers"]: return "resnet"
    class Config: pass
    class Net(nn.Module):
        def __init__(self): super().__init__(); self.net = small()
        def forward(self, pixel_values): return types.SimpleNamespace(logits=self.net(pixel_values))
    def fetch(name, **_): raise OSError(f"cannot reach the hub for {name}")
    made = types.ModuleType("transformers")
    made.CONFIG_MAPPING = {"resnet": Config}
    made.AutoConfig = types.SimpleNamespace(for_model=lambda name: Config(), from_pretrained=fetch)
    made.AutoModelForImageClassification = types.SimpleNamespace(
        _model_mapping={Config: Net}, from_config=lambda config: Net(), from_pretrained=fetch)
    made.AutoModel, made.AutoImageProcessor = types.SimpleNamespace(), types.SimpleNamespace(from_pretrained=fetch)
    monkeypatch.setitem(sys.modules, "transformers", made)
    return "resnet"


def test_transformers(transformers_or_stand_in, folder, tmp_path):
    made = encode(f"hf:{transformers_or_stand_in}", folder, tmp_path/"r", weights="none", preprocess="imagenet:64")
    assert made.features(0).test.shape[0] == 4 and made.config["layer"].startswith("input of ")
    with pytest.raises(InputError, match="says nothing of its preprocessing"):
        encode(f"hf:{transformers_or_stand_in}", folder, tmp_path/"s", weights="none")
    if not INSTALLED["transformers"]:
        with pytest.raises(InputError, match="needs the network.*cannot reach the hub for someone/net"):
            load_model("hf:someone/net")


@pytest.mark.parametrize("kind, extra", [("timm", "timm"), ("hf", "hf")])
def test_an_extra_that_is_not_installed(monkeypatch, kind, extra):
    monkeypatch.setitem(sys.modules, {"timm": "timm", "hf": "transformers"}[kind], None)
    with pytest.raises(InputError, match=rf"pip install 'ncib\[{extra}\]'"): load_model(f"{kind}:whatever", "none")


# ---- wrong input, each named

@pytest.mark.parametrize("model, options, message", [
    ("net", dict(layers="fc"), r"layer must name a module of the model, got 'fc'"),
    ("net", dict(layers=["1", "1"]), "layers must differ, got 1, 1"),
    ("net", dict(layers=["penultimate", "input of 3"]), "layers must differ"),
    ("net", dict(layers="input of 9"), "got 'input of 9'"),
    ("Parts", dict(layers="lstm"), "layer 'lstm' must give a tensor, got tuple"),
    ("Parts", dict(layers="unused"), "layer 'unused' was not called"),
    ("Parts", dict(layers="penultimate"), "does not end in a linear layer"),
    ("Rows", dict(layers="split"), r"layer 'split' must give one vector per image, got shape \(4, 64\) for 2 images"),
    ("Nans", {}, "layer 'output' gives NaN or infinity for train image 7 of"),
    ("Large", dict(feature_dtype="float16"), "gives values too large for float16 for train image"),
    ("Colour", {}, r"does not take images of shape \(1, 8, 8\)"),
    ("broken", {}, "cannot be made .KeyError"),
    ("number", {}, "must return a torch.nn.Module, got int"),
    ("nothing", {}, "has no function 'nothing'; there is net"),
    ("net", dict(preprocess="sharpen"), "preprocess must be model, none, imagenet"),
    ("net", dict(pool="max"), "pool must be one of mean, first"),
    ("net", dict(batch_size=0), "batch_size must be auto or at least 1"),
    ("net", dict(feature_dtype="int8"), "feature_dtype must be"),
    ("net", dict(device="cuda:77"), "is not available"),
    ("net", dict(weights="none", checkpoints="somewhere"), "checkpoints come with their own weights"),
    ("net", dict(epoch_pattern="step([0-9]+)"), "epoch_pattern reads the names of checkpoints"),
])
def test_wrong_input(data, mine, tmp_path, model, options, message):
    train_images = data.train.clone()
    train_images[7] = 0
    with pytest.raises(InputError, match=message):
        encode(mine(model), dataclasses.replace(data, train=train_images), tmp_path/"r", **options)
    assert not (tmp_path/"r/features").exists()


def test_other_weights_or_preprocessing_are_another_run(data, mine, tmp_path):
    for name in ("first", "second"):
        net = load_model(mine("net"), "none", seed=len(name)).net
        (tmp_path/name).mkdir()
        torch.save(net.state_dict(), tmp_path/name/"epoch_1.pt")
    made = encode(mine("net"), data, tmp_path/"r", checkpoints=tmp_path/"first", preprocess="none")
    again = encode(mine("net"), data, tmp_path/"r", checkpoints=tmp_path/"first", preprocess="none")
    assert torch.equal(made.features(1).test, again.features(1).test)
    with pytest.raises(InputError, match="epoch 1 from other weights of that name"):
        encode(mine("net"), data, tmp_path/"r", checkpoints=tmp_path/"second", preprocess="none")
    for before, now in ((transforms.Compose([transforms.ToTensor()]),
                         transforms.Compose([transforms.ToTensor(), transforms.Normalize(.5, .1)])),
                        (lambda image: torch.ones(1, 8, 8), lambda image: 2*torch.ones(1, 8, 8))):
        shutil.rmtree(tmp_path/"p", ignore_errors=True)
        for _ in range(2): encode(mine("net"), data, tmp_path/"p", weights="none", preprocess=before)
        with pytest.raises(InputError, match="another configuration: preprocess is"):
            encode(mine("net"), data, tmp_path/"p", weights="none", preprocess=now)


def test_preprocessing_that_does_not_fit(folder, mine, data, tmp_path):
    with pytest.raises(InputError,
                       match=r"torchvision:vit_b_32 does not take images of shape \(3, 8, 8\).*Wrong image height"):
        encode("torchvision:vit_b_32", data, tmp_path/"r", weights="none", preprocess="none")
    with pytest.raises(InputError,
                       match=r"one size for the network: .*0.png is \(3, 20, 24\), .*1.png is \(3, 29, 24\)"):
        encode("torchvision:resnet18", folder, tmp_path/"r", weights="none", preprocess="none")
    with pytest.raises(InputError, match="preprocess must give a float tensor"):
        encode(mine("net"), data, tmp_path/"r", preprocess=mine("bad_shape"))
    with pytest.raises(InputError, match="preprocess fails on train image 0"):
        encode(mine("net"), data, tmp_path/"r", preprocess=lambda image: image.no_such_thing)
    assert encode(mine("Large"), data, tmp_path/"ok",
                  preprocess=mine("halves")).features(1).test.unique().tolist() == [1e6]


def test_folders_that_cannot_be_used(folder, mine, tmp_path):
    def make(*files):
        root = tmp_path/str(len(list(tmp_path.iterdir())))
        for f in files:
            (root/f).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(root/f)
        return root
    four = ("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png")
    for root, message in ((make(*four[:2]), "neither test nor val"),
                          (make(four[0], four[2]), "at least 2 class folders"),
                          (make(*four, "test/c/1.png"), "class 'c' has no train images"),
                          (make(*four[:3]), "no .png or .jpg images of class 'b'")):
        with pytest.raises(InputError, match=message): encode(mine("net"), root, tmp_path/"r")
    (root := make(*four, "val/a/x.png"), (root/"train/b/1.png").write_bytes(b"no picture"))
    with pytest.raises(InputError, match="1.png is not a readable image"): encode(mine("net"), root, tmp_path/"r")


def test_options_of_the_command(capsys, tmp_path, short_pair):
    for argv, message in (([short_pair[0].path, "--data", "digits", "--out", tmp_path/"r", "--weights", "none"],
                           "--weights comes with --model"),
                          (["--model", "torchvision:resnet18", "--data", "digits", "--out", tmp_path/"r", "--backbone",
                            "a:b"], "--backbone comes with a run"),
                          (["--model", "torchvision:resnet", "--data", "digits", "--out", tmp_path/"r"],
                           "torchvision has no 'resnet'")):
        status, _, err = run(capsys, "features", *argv)
        assert status == 1 and message in err and not (tmp_path/"r").exists(), err
    for argv in (["--data", "digits"], ["--model", "a:b", "c"], ["--model", "a:b", "--run", "c"],
                 ["--model", "torchvision:resnet18"], ["--model", "a:b", "--batch-size", "some"],
                 ["--model", "a:b", "--pool", "max"]):
        assert run(capsys, "features", *argv)[0] == 2


# ---- a backbone of one's own in training

BACKBONES = """
import torch
from torch import nn

def small(shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0]*shape[1]*shape[2], 24), nn.BatchNorm1d(24), nn.ReLU())
def frozen():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Linear(24, 24))
    net[1].requires_grad_(False)
    return net

class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(64, 16), nn.Linear(64, 16)
    def forward(self, x): return self.used(x.flatten(1))

class Detached(Unused):
    def forward(self, x): return self.used(x.flatten(1)).detach()

class Changes(Unused):
    def forward(self, x): return self.used(x.flatten(1))[:, :8 if self.training else 16]

class Infinite(Unused):
    def forward(self, x): return self.used(x.flatten(1))/0

def maps(): return nn.Conv2d(1, 4, 3)
def colour(): return nn.Conv2d(3, 4, 3)
def pair(): return nn.LSTM(8, 8)
def nothing(): return nn.Flatten()
def number(): return 7
def broken(): raise ValueError("not today")
integers = type("Integers", (nn.Module,), {"forward": lambda self, x: x.flatten(1).long()})
"""


@pytest.fixture
def backbone(tmp_path):
    (tmp_path/"nets.py").write_text(BACKBONES)
    return lambda name: f"{tmp_path/'nets.py'}:{name}"


def test_training_with_a_backbone_of_ones_own(capsys, backbone, tmp_path):
    """Stopped and gone on with, it ends with the weights of one go; the run's encoder is made again only if it is named
    again."""
    line = ["train", "--backbone", backbone("small"), "--epochs", 3, "--checkpoints", 3, "--device", "cpu", "--quiet",
            "--train-size", 300]
    state_before = torch.random.get_rng_state()
    status, out, err = run(capsys, *line, "--out", tmp_path/"a")
    assert status == 0 and not err and torch.equal(torch.random.get_rng_state(), state_before)
    made = Run(tmp_path/"a")
    assert made.config["backbone"] == backbone("small") and made.features(3).train.shape == (300, 24)
    assert run(capsys, *line, "--out", tmp_path/"a")[0] == 0                                       # all done already
    status, _, err = run(capsys, *line[:2], backbone("frozen"), *line[3:], "--out", tmp_path/"a")
    assert status == 1 and "another configuration: backbone is" in err
    config = TrainConfig(backbone=backbone("small"), epochs=3, checkpoints=3, device="cpu", train_size=300)
    from ncib import train as module
    real, calls = module._train_epoch, []
    def stopping(*args):
        if args[6] == 2 and not calls: calls.append(1); raise KeyboardInterrupt
        return real(*args)
    module._train_epoch = stopping
    try:
        with pytest.raises(KeyboardInterrupt): train(config, tmp_path/"b", progress=False)
        again = train(config, tmp_path/"b", progress=False)
    finally: module._train_epoch = real
    assert all(torch.equal(v, load_file(made.file("checkpoints", "last"))[k])
               for k, v in load_file(again.file("checkpoints", "last")).items())
    with pytest.raises(InputError, match="trained with a backbone of one's own code: name it again"): made.encoder()
    with pytest.raises(InputError, match="was trained with backbone"): made.encoder(backbone=backbone("frozen"))
    with torch.no_grad():
        assert torch.allclose(made.encoder(3, backbone=backbone("small"))(load_images("digits").test),
                              made.features(3).test, atol=1e-5)
    status, _, err = run(capsys, "features", "--run", made.path, "--data", "digits", "--out", tmp_path/"f", "--device",
                         "cpu", "--quiet")
    assert status == 1 and "name it again" in err and not (tmp_path/"f").exists()
    assert run(capsys, "features", "--run", made.path, "--backbone", backbone("small"), "--data", "digits", "--out",
               tmp_path/"f", "--device", "cpu", "--quiet")[0] == 0


def test_seed_and_frozen_parts(backbone, tmp_path):
    a, b = (train(TrainConfig(backbone=backbone("frozen"), epochs=1, checkpoints=1, device="cpu", train_size=200,
                              seed=s), tmp_path/str(s), progress=False) for s in (0, 1))
    first, last = (load_file(a.file("checkpoints", e)) for e in (0, 1))
    assert (torch.equal(first["backbone.1.weight"], last["backbone.1.weight"])
            and not torch.equal(first["backbone.2.weight"], last["backbone.2.weight"]))
    assert not torch.equal(first["backbone.1.weight"], load_file(b.file("checkpoints", 0))["backbone.1.weight"])


@pytest.mark.parametrize("name, message", [
    ("Unused", "no gradient reaches 2 of 4 weights (unused.weight, unused.bias)"),
    ("Detached", "no gradient reaches its weights"),
    ("Changes", "must give (n, 16) features in training too, got shape (8, 8)"),
    ("Infinite", "must give finite features"),
    ("maps", "must give (n, d) features, got shape (2, 4, 6, 6) for 2 images; average over positions"),
    ("colour", "does not take images of shape (2, 1, 8, 8)"),
    ("pair", "does not take images"), ("nothing", "has no weight that can be trained"),
    ("number", "must return a torch.nn.Module, got int"), ("broken", "cannot be made (ValueError: not today)"),
    ("missing", "has no function 'missing'; there is small, frozen"),
    ("integers", "must give floating-point features, got int64")])
def test_a_backbone_that_cannot_be_trained(capsys, backbone, tmp_path, name, message):
    status, out, err = run(capsys, "train", "--backbone", backbone(name), "--out", tmp_path/"r", "--device", "cpu",
                           "--epochs", 1)
    assert status == 1 and message in err and not out and not (tmp_path/"r").exists(), err
    assert len(err.strip().splitlines()) == 1


def test_names_of_backbones(capsys, tmp_path, monkeypatch):
    for name, message in (("nowhere.py:net", "nowhere.py: no such file"), ("no_such_module:net", "cannot be imported"),
                          (":net", "must be module:function"), ("module:", "must be module:function")):
        status, _, err = run(capsys, "train", "--backbone", name, "--out", tmp_path/"r", "--device", "cpu")
        assert status == 1 and message in err and not (tmp_path/"r").exists(), err
    (tmp_path/"in_this_folder_only.py").write_text(BACKBONES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert run(capsys,
               *"train --backbone in_this_folder_only:small --epochs 1 --checkpoints 1 --train-size 200 --device cpu "
                "--quiet --out r".split())[0] == 0


def test_transparent_images_lie_on_white_and_broken_ones_are_named(capsys, mine, tmp_path):
    g, root = np.random.default_rng(0), tmp_path/"photos"
    for part in ("train", "test"):
        for c in "ab":
            (root/part/c).mkdir(parents=True)
            for i in range(4):
                Image.fromarray(g.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(root/part/c/f"{i}.png")
    clear = np.zeros((8, 8, 4), dtype=np.uint8)
    clear[:4, :, 3] = 255                                                       # upper half black, the rest not there
    Image.fromarray(clear).save(root/"train"/"a"/"0.png")
    call = ["features", "--model", mine("Colour"), "--weights", "none", "--data", root, "--preprocess", "none",
            "--device", "cpu", "--quiet", "--layer", "conv", "--pool", "flatten"]
    status, _, err = run(capsys, *call, "--out", tmp_path/"r")
    assert status == 0, err
    seen = encoders._images(root).load("train", 0)
    assert seen.shape == (8, 8, 3) and (seen[:4] == 0).all() and (seen[4:] == 255).all()
    status, _, err = run(capsys, *call, "--out", tmp_path/"s", "--colour", "rgb")
    assert status == 1 and "--colour comes with a run" in err
    (root/"train"/"a"/"0.png").write_bytes(b"no picture")
    status, _, err = run(capsys, *call, "--out", tmp_path/"s")
    assert status == 1 and "0.png is not a readable image" in err and "skip" not in err
