"""Callbacks: the numbers of `measure`, in the frameworks' own loggers, and a training that goes on as without them.

Where a framework is not installed its trainer is played by a stand-in that calls hooks with the arguments, in the order
and with the side effects of the real one; with the real one, the last tests run."""
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import distributed as dist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ncib.callbacks import CollapseCallback, TrainerCollapseCallback
from ncib.core import InputError, fixed_seed
from ncib.layers import measure
from ncib.timeline import analyze

K, N, D = 3, 90, 8
LABELS = torch.arange(N) % K
INPUTS = torch.randn(N, D, generator=torch.Generator().manual_seed(0)) + 2*torch.eye(K, D)[LABELS]
LAYERS = {"backbone": "net.body", "head": "net.projector"}


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.projector, self.fc = (nn.Sequential(nn.Linear(D, 6), nn.ReLU(), nn.Dropout(.5)),
                                              nn.Linear(6, 4), nn.Linear(4, K))
    def forward(self, x): return self.fc(self.projector(self.body(x)))


class Module(nn.Module):
    "What both stand-ins train: forward, one step, and what a LightningModule adds."
    def __init__(self, seed=0):
        super().__init__()
        with fixed_seed(seed): self.net = Network()
        self.logged = []
    def forward(self, x): return self.net(x)
    def training_step(self, batch, batch_idx): return nn.functional.cross_entropy(self(batch[0]), batch[1])
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), .1)
    def log_dict(self, dictionary, prog_bar=False, logger=None, on_step=None, on_epoch=None, reduce_fx="mean",
                 enable_graph=False, sync_dist=False, sync_dist_group=None, add_dataloader_idx=True, batch_size=None,
                 rank_zero_only=False):
        assert on_epoch and not on_step
        self.logged.append(dict(dictionary))


def loader(): return DataLoader(TensorDataset(INPUTS, LABELS), batch_size=20, shuffle=True)
def even(): return DataLoader(TensorDataset(INPUTS, LABELS), batch_size=32)


class Fit:
    """Lightning's fit loop, as far as a callback sees it: `on_train_epoch_end(trainer, pl_module)` after the batches of
    each epoch, before `current_epoch` rises."""
    def __init__(self, callbacks, epochs):
        self.callbacks, self.epochs, self.current_epoch, self.world_size = callbacks, epochs, 0, 1
    def fit(self, module, train_dataloader):
        self.train_dataloader, optimiser = train_dataloader, module.configure_optimizers()
        module.train()
        while self.current_epoch < self.epochs:
            for i, batch in enumerate(train_dataloader):
                optimiser.zero_grad(); module.training_step(batch, i).backward(); optimiser.step()
            for c in self.callbacks: c.on_train_epoch_end(self, module)
            self.current_epoch += 1
        return module


def fitted(callbacks=(), epochs=4):
    with fixed_seed(7): return Fit(callbacks, epochs).fit(Module(), loader())


def test_numbers_are_those_of_measure():
    callback = CollapseCallback(LAYERS, K, loader=even(), classifier="net.fc", second_pass=True)
    module = fitted([callback])
    assert ([h["epoch"] for h in callback.history] == [1, 2, 3, 4]
            and module.logged == [{k: v for k, v in h.items() if k != "epoch"} for h in callback.history])
    found = measure(module, even(), list(LAYERS.values()), K, module.net.fc, progress=False)
    wanted = {f"collapse/{name}/{k}": v for name, layer in LAYERS.items() for k, v in found[layer].to_dict().items()
              if v is not None}
    assert (module.logged[-1] == wanted and {"collapse/backbone/nc1", "collapse/head/nc3", "collapse/head/nc4",
                                             "collapse/head/ncc_accuracy"} <= wanted.keys()
            and "collapse/backbone/nc3" not in wanted)


def test_the_training_goes_on_as_without(tmp_path):
    """Weights, mode, hooks and the order of the images are as they would have been, also where the shuffled training
    loader itself is read."""
    plain = fitted()
    for callback in (CollapseCallback("net.body", K), CollapseCallback("net.body", K, loader=even(), second_pass=True)):
        module = fitted([callback])
        assert (all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), module.state_dict().values()))
                and len(module.logged) == 4)
        assert all(m.training and not m._forward_hooks for m in module.modules())


def test_every_and_names():
    callback = CollapseCallback("net.body", K, loader=even(), every=2, prefix="nc/", nc1_convention="trace")
    module = fitted([callback], 5)
    assert ([h["epoch"] for h in callback.history] == [2, 4] and len(module.logged) == 2
            and {k.rsplit("/", 1)[0] for k in module.logged[0]} == {"nc/net.body"})
    assert module.logged[-1]["nc/net.body/nc1"] > 0 and "nc/net.body/nc4" not in module.logged[0]
    one = CollapseCallback("net.body", K).measure(module, even(), 1)["collapse/net.body/nc1"]
    trace = CollapseCallback(["net.body"], K, nc1_convention="trace").measure(module, even(), 1)
    assert one*K == pytest.approx(trace["collapse/net.body/nc1"])


def test_history_survives_a_checkpoint(tmp_path):
    callback = CollapseCallback("net.body", K)
    fitted([callback], 2)
    torch.save({"callbacks": {"CollapseCallback": callback.state_dict()}}, tmp_path/"c.ckpt")
    again = CollapseCallback("net.body", K)
    again.load_state_dict(torch.load(tmp_path/"c.ckpt", weights_only=True)["callbacks"]["CollapseCallback"])
    assert again.history == callback.history and len(again.history) == 2


def test_callbacks_that_log_other_names_have_other_keys():
    "By which Lightning keeps their histories apart; one that is made again has the key of the first."
    make = lambda layer="net.body", **options: CollapseCallback(layer, K, **options).state_key
    assert make() == make(every=2) and len({make(), make("net.fc"), make(LAYERS), make(prefix="val/")}) == 4


@pytest.mark.parametrize("options, message", [
    ({"layer": "net.stem"}, "layer must name a module of the model, got 'net.stem'"),
    ({"layer": []}, "layer must name at least one module"),
    ({"layer": "net.body", "classifier": "net.body"},
     "classifier must name a linear layer of the model, got 'net.body'"),
    ({"layer": "net.body", "every": 0}, "every must be at least 1"),
    ({"layer": "net.body", "num_classes": 2}, "labels must be (n,) integers in [0, 2), got max 2"),
    ({"layer": "net.body", "loader": [{"x": INPUTS}]}, "a batch must hold labels or label, got x"),
])
def test_refusals(options, message):
    with pytest.raises(InputError) as e: CollapseCallback(**{"num_classes": K} | options).measure(Module(), even(), 1)
    assert message in str(e.value)


# ---- Hugging Face

class Named(nn.Module):
    "A model as transformers has them: keyword arguments in, a mapping out, the loss with it where there are labels."
    def __init__(self): super().__init__(); self.net = Module().net
    def forward(self, pixel_values=None, labels=None):
        logits = self.net(pixel_values)
        return {"logits": logits} | ({} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)})


def batches(): return [{"pixel_values": x, "labels": y} for x, y in even()]


class Trains:
    """The Trainer, as far as a callback sees it: events by name with (args, state, control) and keywords; `log` writes
    the history, tells all callbacks and clears `should_log`."""
    def __init__(self, model):
        self.model, self.callbacks, self.args, self.control, self.state = (
            model, [], SimpleNamespace(), SimpleNamespace(should_log=False),
            SimpleNamespace(epoch=0., global_step=0, log_history=[]))
    def add_callback(self, callback): self.callbacks.append(callback)
    def call_event(self, event, **kwargs):
        for c in self.callbacks:
            # the real base class has all of them
            if hasattr(c, event):
                result = getattr(c, event)(self.args, self.state, self.control, model=self.model, processing_class=None,
                                           optimizer=self.optimiser, lr_scheduler=None, train_dataloader=self.loader,
                                           eval_dataloader=None, **kwargs)
                if result is not None: self.control = result
    def log(self, logs, start_time=None):
        self.state.log_history.append(logs | {"epoch": self.state.epoch, "step": self.state.global_step})
        self.control.should_log = False
        self.call_event("on_log", logs=logs)
    def train(self, epochs=3):
        self.optimiser, self.loader = torch.optim.SGD(self.model.parameters(), .1), batches()
        for epoch in range(epochs):
            for i, inputs in enumerate(self.loader):
                self.model.train(); loss = self.model(**inputs)["loss"]; loss.backward(); self.optimiser.step()
                self.model.zero_grad()
                self.state.global_step += 1; self.state.epoch = epoch + (i + 1)/len(self.loader)
            # logging_strategy="epoch": what the default callback asks for
            self.control.should_log = True
            self.call_event("on_epoch_end")
            if self.control.should_log: self.log({"loss": loss.item()})


def test_trainer():
    trainer = Trains(Named())
    trainer.add_callback(callback := TrainerCollapseCallback(trainer, LAYERS, K, classifier="net.fc", every=2))
    with fixed_seed(3): trainer.train(4)
    ours = [h for h in trainer.state.log_history if "collapse/backbone/nc1" in h]
    assert ([h["epoch"] for h in ours] == [2., 4.] == [h["epoch"] for h in callback.history]
            and len([h for h in trainer.state.log_history if "loss" in h]) == 4)
    found = measure(trainer.model, batches(), list(LAYERS.values()), K, trainer.model.net.fc, progress=False,
                    second_pass=False)
    assert all(ours[-1][f"collapse/{name}/{k}"] == v for name, layer in LAYERS.items()
               for k, v in found[layer].to_dict().items() if v is not None)
    assert found["net.body"].nc1 == pytest.approx(measure(trainer.model.net, even(), "body", K, progress=False).nc1)


# ---- several processes

def on_rank(rank, address, out):
    dist.init_process_group("gloo", init_method=f"file://{address}", rank=rank, world_size=2)
    part = DataLoader(TensorDataset(INPUTS[rank::2], LABELS[rank::2]), batch_size=32)
    torch.save(CollapseCallback(LAYERS, K, loader=part, classifier="net.fc", second_pass=True).measure(Module(), [], 1),
               f"{out}/{rank}.pt")
    dist.destroy_process_group()


def test_processes_log_the_numbers_of_all_images(tmp_path):
    mp.spawn(on_rank, (tmp_path/"address", tmp_path), nprocs=2)
    a, b = (torch.load(tmp_path/f"{r}.pt", weights_only=True) for r in (0, 1))
    assert a == pytest.approx(b, rel=1e-12)
    assert a == pytest.approx(CollapseCallback(LAYERS, K, loader=even(), classifier="net.fc",
                                               second_pass=True).measure(Module(), [], 1), rel=1e-5)


# ---- the frameworks themselves, where they are installed

def test_with_lightning(tmp_path):
    L = pytest.importorskip("lightning.pytorch")
    class Real(L.LightningModule):
        def __init__(self): super().__init__(); self.net = Module().net
        forward, training_step, configure_optimizers = Module.forward, Module.training_step, Module.configure_optimizers
    callback, module = CollapseCallback(LAYERS, K, loader=even()), Real()
    other = CollapseCallback("net.body", K, prefix="train/", every=2)
    logger = L.loggers.CSVLogger(tmp_path)
    saving = L.callbacks.ModelCheckpoint(tmp_path, monitor="collapse/backbone/nc1")
    trainer = L.Trainer(max_epochs=2, callbacks=[callback, other, saving], logger=logger, accelerator="cpu",
                        enable_progress_bar=False, log_every_n_steps=1)
    trainer.fit(module, loader())
    assert isinstance(callback, L.Callback) and [h["epoch"] for h in callback.history] == [1, 2]
    kept = torch.load(next(tmp_path.glob("*.ckpt")), weights_only=False)["callbacks"]
    assert kept[callback.state_key]["history"] and other.state_key in kept and len(other.history) == 1
    assert (float(trainer.callback_metrics["collapse/head/nc1"])
            == pytest.approx(callback.history[-1]["collapse/head/nc1"], rel=1e-6))
    assert "collapse/backbone/nc1" in (tmp_path/"lightning_logs/version_0/metrics.csv").read_text()


def test_with_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    data = [{"pixel_values": x, "labels": y} for x, y in zip(INPUTS, LABELS)]
    args = transformers.TrainingArguments(output_dir=str(tmp_path), num_train_epochs=2, per_device_train_batch_size=30,
                                          logging_strategy="epoch", save_strategy="no", report_to=[], use_cpu=True,
                                          remove_unused_columns=False, disable_tqdm=True)
    trainer = transformers.Trainer(model=Named(), args=args, train_dataset=data)
    trainer.add_callback(callback := TrainerCollapseCallback(trainer, LAYERS, K))
    trainer.train()
    assert isinstance(callback, transformers.TrainerCallback) and [h["epoch"] for h in callback.history] == [1, 2]
    assert (len([h for h in trainer.state.log_history if "collapse/backbone/nc1" in h]) == 2
            and len([h for h in trainer.state.log_history if "loss" in h]) == 2)


# ---- the tutorial's rows "Coming from …"

def snippets() -> dict[str, str]:
    "Code of the rows that need another package, by the package."
    import nbformat

    from sync import ROOT
    text = "\n".join(c.source for c in nbformat.read(ROOT/"nbs/tutorials/your_own_model.ipynb", 4).cells
                     if c.cell_type == "markdown")
    return {re.search(r"(?:import|from) (\w+)", code)[1]: code
            for code in re.findall(r"```python\n(.*?)```", text, re.S)}


class Small(nn.Module):
    "A network with the module names that the rows use."
    def __init__(self, num_classes=K):
        super().__init__()
        self.avgpool, self.fc = nn.Sequential(nn.Linear(D, 6), nn.Tanh()), nn.Linear(6, num_classes)
    def forward(self, x): return self.fc(self.avgpool(x))


def test_rows_are_there(): assert {"timm", "lightning", "transformers"} <= set(snippets())


def test_row_of_timm(monkeypatch, tmp_path):
    "With networks that have timm's two methods, on a folder of images."
    from PIL import Image
    class Net(nn.Module):
        def __init__(self, d): super().__init__(); self.stem, self.fc = nn.Conv2d(3, d, 1), nn.Linear(d, 1000)
        def forward_features(self, x): return self.stem(x)
        def forward_head(self, x, pre_logits=False): x = x.mean((2, 3)); return x if pre_logits else self.fc(x)
    def create_model(name, pretrained=False, **kwargs):
        with fixed_seed(len(name)): return Net({"resnet18": 5, "convnext_nano": 6}[name])
    def create_transform(mean):
        return lambda image: torch.as_tensor(np.array(image)/255. - mean).float().permute(2, 0, 1)
    data = SimpleNamespace(create_transform=create_transform, resolve_model_data_config=lambda model: {"mean": .5})
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model, data=data))
    colours = np.random.default_rng(0).integers(256, size=(N, 2, 2, 3), dtype=np.uint8)
    for i, image in enumerate(colours):
        folder = tmp_path/f"photos/test/{i % K}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder/f"{i:04}.png")
    monkeypatch.chdir(tmp_path)
    space = {"torch": torch, "analyze": lambda *args: analyze(*args, progress=False), "DataLoader": DataLoader}
    exec(snippets()["timm"], space)
    assert space["timeline"].parts == ["test"] and space["labels"].bincount().tolist() == [N//K]*K
    assert space["x"].shape == (N, 5) and space["y"].shape == (N, 6)


def test_row_of_lightning(monkeypatch):
    class LightningModule(nn.Module):
        log_dict = Module.log_dict
        def __init__(self): super().__init__(); self.logged = []
    class Trainer(Fit):
        def __init__(self, max_epochs, callbacks): super().__init__(callbacks, max_epochs)
    monkeypatch.setitem(sys.modules, "lightning.pytorch",
                        SimpleNamespace(LightningModule=LightningModule, Trainer=Trainer))
    monkeypatch.setitem(sys.modules, "lightning", SimpleNamespace(pytorch=sys.modules["lightning.pytorch"]))
    space = {"torch": torch, "nn": nn, "resnet18": Small, "eval_loader": even(), "train_loader": loader()}
    exec(snippets()["lightning"].replace("num_classes=10", f"num_classes={K}"), space)
    assert ([h["epoch"] for h in space["collapse"].history] == [1, 2, 3, 4, 5]
            and {"collapse/backbone/nc1", "collapse/backbone/nc3"} <= space["collapse"].history[-1].keys())


def test_row_of_transformers(monkeypatch):
    class Model(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.resnet, self.classifier = (nn.ModuleDict({"pooler": nn.Sequential(nn.Linear(D, 6), nn.Tanh())}),
                                            nn.Sequential(nn.Flatten(), nn.Linear(6, config.num_labels)))
        def forward(self, pixel_values=None, labels=None):
            logits = self.classifier(self.resnet["pooler"](pixel_values))
            return {"logits": logits} | ({} if labels is None
                                         else {"loss": nn.functional.cross_entropy(logits, labels)})
    class Trainer(Trains):
        def __init__(self, model=None, args=None, train_dataset=None):
            super().__init__(model); self.epochs = args.num_train_epochs
        def train(self): super().train(self.epochs)
    arguments = lambda output_dir, num_train_epochs: SimpleNamespace(
        output_dir=output_dir, num_train_epochs=num_train_epochs)
    monkeypatch.setitem(sys.modules, "transformers",
                        SimpleNamespace(ResNetConfig=lambda num_labels: SimpleNamespace(num_labels=num_labels),
                                        ResNetForImageClassification=Model, Trainer=Trainer,
                                        TrainingArguments=arguments))
    space = {"images": None}
    exec(snippets()["transformers"].replace("num_classes=10", f"num_classes={K}")
         .replace("num_labels=10", f"num_labels={K}"), space)
    assert ([h["epoch"] for h in space["collapse"].history] == [1, 2, 3, 4, 5]
            and len([h for h in space["trainer"].state.log_history if "collapse/backbone/nc3" in h]) == 5)
