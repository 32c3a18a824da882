"`measure`: against features taken by hand; the model is left as it was, whatever happens."
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ncib.collapse import collapse_metrics
from ncib.core import InputError, fixed_seed
from ncib.layers import measure


@pytest.fixture
def setting():
    with fixed_seed(0):
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                            nn.Dropout(0.5), nn.Linear(8, 4))
        images = torch.randn(120, 3, 8, 8) + torch.randn(4, 3, 8, 8).repeat(30, 1, 1, 1)
    labels = torch.arange(120) % 4
    net[1].eval()                                               # a part that its owner froze
    return net, DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True), images, labels

def modes(net): return [m.training for m in net.modules()]

def test_equals_features_taken_by_hand(setting):
    net, loader, images, labels = setting
    before = modes(net), {k: v.clone() for k, v in net.state_dict().items()}
    got = measure(net, loader, ["0", "4", "6"], 4, classifier=net[6], progress=False)
    assert modes(net) == before[0] and all(torch.equal(v, net.state_dict()[k]) for k, v in before[1].items())
    assert not any(m._forward_hooks for m in net.modules())
    net.eval()
    with torch.no_grad():
        wanted = {"0": collapse_metrics(net[0](images).mean((2, 3)), labels),
                  "4": collapse_metrics(net[:5](images), labels, net[6].weight, net[6].bias),
                  "6": collapse_metrics(net(images), labels)}
    for layer, want in wanted.items():
        for k, v in want.to_dict().items():
            assert got[layer].to_dict()[k] == (v if v is None else pytest.approx(v, rel=1e-4, abs=1e-6)), (layer, k)

@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_inputs_take_the_precision_of_the_model(setting, dtype):
    "Also those in a mapping; integers and a model without parameters are left alone."
    net, loader, images, labels = setting
    body = net.to(dtype)[:6].eval()
    class Named(nn.Module):
        def __init__(self): super().__init__(); self.net = net
        def forward(self, pixels, count): assert not count.is_floating_point(); return self.net(pixels)
    with torch.no_grad(): wanted = collapse_metrics(body(images.to(dtype)), labels, net[6].weight, net[6].bias)
    got = measure(net, loader, "4", 4, classifier=net[6], progress=False)
    named = measure(Named(), [{"pixels": images, "count": labels, "labels": labels}], "net.4", 4, progress=False)
    close = dict(rel=1e-9 if dtype == torch.float64 else 1e-2)   # batches are not rounded alike
    assert got.nc1 == pytest.approx(wanted.nc1, **close) and named.nc1 == pytest.approx(wanted.nc1, **close)
    assert got.nc3 == pytest.approx(wanted.nc3, **close)
    seen = []
    class Bare(nn.Module):
        def forward(self, x): seen.append(x.dtype); return x
    measure(Bare(), [(torch.eye(4).double().repeat(3, 1), torch.arange(12) % 4)], "", 4, progress=False)
    assert set(seen) == {torch.float64}

def test_one_layer_and_one_pass(setting):
    net, loader, _, _ = setting
    m = measure(net, iter(loader), "4", 4, second_pass=False, progress=False)
    assert m.ncc_accuracy is None and m.nc4 is None and m.nc1 > 0
    with pytest.raises(InputError, match="none the second time"): measure(net, iter(loader), "4", 4, progress=False)

def test_tokens_and_own_pooling(setting):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Identity()
        def forward(self, x): return self.body(x)
    x = torch.randn(40, 5, 6)
    y = torch.arange(40) % 2
    loader = [(x[:25], y[:25]), (x[25:], y[25:], "more")]
    assert measure(Tokens(), loader, "body", 2, progress=False).nc1 == pytest.approx(collapse_metrics(x.mean(1), y).nc1)
    first = measure(Tokens(), loader, "body", 2, pool=lambda t: t[:, 0], progress=False)
    assert first.nc1 == pytest.approx(collapse_metrics(x[:, 0], y).nc1)

def test_options_reach_the_metrics(setting):
    net, loader, _, _ = setting
    a, b = (measure(net, loader, "4", 4, progress=False),
            measure(net, loader, "4", 4, progress=False, nc1_convention="trace"))
    assert b.nc1 == pytest.approx(4*a.nc1)
    left_out = measure(net, loader, "4", 6, classes=range(4), progress=False)
    assert left_out.nc1 == pytest.approx(a.nc1)

@pytest.mark.parametrize("layer,options,message", [("conv", {}, "layer must name a module of the model, got 'conv'"),
                                                   ([], {}, "at least one module"), ("5x", {}, "got '5x'"),
    ("4", dict(num_classes=3), "got max 3"), ("4", dict(num_classes=5), "no sample of class 4"),
                                                   ("0", dict(classifier=nn.Linear(9, 4)),
                                                    "classifier takes 9 features")])
def test_the_model_is_put_back_after_an_error(setting, layer, options, message):
    net, loader, _, _ = setting
    before = modes(net)
    with pytest.raises(InputError, match=message):
        measure(net, loader, layer, **{"num_classes": 4, **options}, progress=False)
    assert modes(net) == before and not any(m._forward_hooks for m in net.modules())

def test_more_faults_are_named(setting):
    net, loader, images, _ = setting
    with pytest.raises(InputError, match="loader must give batches"): measure(net, [], "4", 4, progress=False)
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused, self.pair = nn.Flatten(), nn.Identity(), nn.LSTM(192, 3)
        def forward(self, x): return self.pair(self.used(x))
    with pytest.raises(InputError, match="'unused' was not called"):
        measure(Unused(), loader, "unused", 4, progress=False)
    with pytest.raises(InputError, match="'pair' must give a tensor, got tuple"):
        measure(Unused(), loader, "pair", 4, progress=False)
    broken = [(torch.full_like(images, np.nan), torch.arange(120) % 4)]
    with pytest.raises(InputError, match="finite"): measure(net, broken, "4", 4, progress=False)

def test_a_module_that_works_in_place_does_not_change_what_was_caught():
    "As the classifiers of VGG and AlexNet do; at the layer itself, and at what the next one is given."
    with fixed_seed(1): net, x = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True)), torch.randn(40, 6)
    y = torch.arange(40) % 2
    with torch.no_grad(): before = net[0](x)
    got = measure(net, [(x, y)], ["0", "input of 1"], 2, progress=False)
    assert ((before < 0).any()
            and got["0"].nc1 == got["input of 1"].nc1 == pytest.approx(collapse_metrics(before, y).nc1))
    with pytest.raises(InputError, match="got 'input of 7'"): measure(net, [(x, y)], "input of 7", 2, progress=False)
