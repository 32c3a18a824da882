"The convolutional backbone: sizes, seeds, whitening."
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ncib.cca import canonical_correlations
from ncib.nets import Encoder, backbones, extract_features


def pictures(n, channels, side, seed=0):
    "Smooth random pictures: neighbours are alike, as in photographs."
    x = torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), 5, 1)
    return (128 + 200*x).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(8, 8), (9, 9), (13, 8), (28, 28), (32, 32), (96, 64)])
def test_every_size_and_any_channels(channels, shape):
    e = Encoder("conv", (channels, *shape), feature_dim=7).whiten(
        torch.randint(256, (4, channels, *shape), dtype=torch.uint8))
    f = e(torch.rand(2, channels, *shape))
    f.sum().backward()
    assert f.shape == (2, 7) and torch.isfinite(f).all() and torch.isfinite(e.backbone.layers[0][0].weight.grad).all()


def test_the_seed_makes_the_weights():
    same = lambda a, b: [torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters())]
    x, before = pictures(20, 3, 16), torch.random.get_rng_state()
    assert all(same(Encoder("conv", (3, 16, 16), seed=3).whiten(x), Encoder("conv", (3, 16, 16), seed=3).whiten(x)))
    a, b = (Encoder("conv", (3, 16, 16), seed=s).whiten(x) for s in (3, 4))
    # twins share the whitening alone
    assert (torch.equal(a.backbone.stem.weight, b.backbone.stem.weight)
            and not all(same(a.backbone.layers, b.backbone.layers)))
    assert torch.equal(before, torch.random.get_rng_state())


def test_twins_share_no_direction_before_training():
    "Both have the same whitening. If the layers behind it began as its copies, they would share two dozen features."
    x, new = pictures(3000, 3, 16), lambda seed: Encoder("conv-narrow", (3, 16, 16), seed=seed)
    a, b, again = (extract_features(new(s).whiten(x), x)[0] for s in (0, 1, 0))
    rho = canonical_correlations(a, b, shrinkage=0).rho
    assert rho[0] < .9999 and rho[12] < .99 and torch.equal(a, again)


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_patches_are_white(channels):
    x = pictures(300, channels, 16)
    e = Encoder("conv", x.shape[1:], mean=(x/255).mean((0, 2, 3)), std=(x/255).std((0, 2, 3))).whiten(x)
    stem = e.backbone.stem
    out = F.conv2d((x/255 - e.mean)/e.std, stem.weight).transpose(0, 1).flatten(1)
    half = 4*channels
    assert (out.shape[0] == 8*channels and torch.equal(stem.weight[:half], -stem.weight[half:])
            and not stem.weight.requires_grad)
    values = torch.linalg.eigvalsh(F.unfold((x/255 - e.mean)/e.std,
                                            2).transpose(1, 2).flatten(0, 1).T.double().cov()).flip(0)
    # 1 but for the floor under small variances
    assert torch.allclose(torch.cov(out[:half]), torch.diag(values/(values + 5e-4)).float(), atol=2e-3)


def test_whitening_looks_at_sorted_images_evenly_and_leaves_other_backbones_alone():
    x = pictures(4100, 1, 8)
    x[2050:] = 255 - x[2050:]//4
    a, b = (Encoder("conv", (1, 8, 8)).whiten(t).backbone.stem.weight for t in (x, x[::3]))
    assert torch.equal(a, b)
    e = Encoder("light", (1, 8, 8))
    before = [p.clone() for p in e.parameters()]
    assert (e.whiten(x) is e and all(map(torch.equal, before, e.parameters()))
            and all(p.requires_grad for p in e.parameters()))


def test_constant_images_are_whitened_to_finite_weights():
    e = Encoder("conv", (1, 8, 8)).whiten(torch.full((3, 1, 8, 8), 7, dtype=torch.uint8))
    assert torch.isfinite(e.backbone.stem.weight).all()


def test_widths():
    for name, dim, millions in (("conv", 256, (100, 130)), ("conv-wide", 512, (300, 360)),
                                ("conv-narrow", 256, (55, 70))):
        net, width = backbones[name](3, True)
        total, hooks = [0], []
        def count(m, _, out): total[0] += m.weight[0].numel()*out[0].numel()
        for m in net.modules():
            if isinstance(m, torch.nn.Conv2d): hooks.append(m.register_forward_hook(count))
        assert (net(torch.rand(1, 3, 32, 32).expand(2, -1, -1, -1)).shape == (2, dim) and width == dim
                and millions[0] < total[0]/1e6 < millions[1])


def test_half_precision_and_memory_formats_agree():
    x = pictures(8, 3, 16)
    e = Encoder("conv", (3, 16, 16)).whiten(x).eval()
    f = e(x)
    last = e.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(f, last, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16): half = e(x)
    assert np.corrcoef(half.detach().float().flatten(), f.detach().flatten())[0, 1] > .999
