"The contrastive loss against its definition in float64, on ordinary and adversarial batches."
import math

import pytest
import torch
import torch.nn.functional as F

from ncib.core import InputError
from ncib.losses import SupConLoss, nt_xent_loss, supcon_loss


def dense(z, y, T, variant, singletons="drop"):
    "The definition, with n × n matrices."
    n = len(z)
    off = ~torch.eye(n, dtype=torch.bool)
    s = (z @ z.T/T).masked_fill(~off, -torch.inf)
    pos = (y[:, None] == y[None]) & off
    log_p = s - s.logsumexp(1, keepdim=True)
    count = pos.sum(1)
    if variant == "out": per = -torch.where(pos, log_p, torch.zeros_like(log_p)).sum(1)/count.clamp_min(1)
    else: per = count.clamp_min(1).double().log() - log_p.masked_fill(~pos, -1e300).logsumexp(1)
    per = per[count > 0]
    return per.sum()/(n if singletons == "zero" else max(len(per), 1))


def batch(kind, n=37, d=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(n, d, generator=g, dtype=torch.float64), dim=1)
    y = torch.randint(5, (n,), generator=g)
    if kind == "identical rows": z = z[:1].expand(n, d).contiguous()
    if kind == "two clusters": z = z[:2][y % 2]
    if kind == "opposite": z = torch.cat([z[:n//2], -z[:n - n//2]])
    if kind == "one class": y = torch.zeros_like(y)
    if kind == "singletons": y[:20] = torch.arange(100, 120)
    if kind == "negative labels": y = y - 3
    return z, y


@pytest.mark.parametrize("variant", ["out", "in"])
@pytest.mark.parametrize("kind", ["random", "identical rows", "two clusters", "opposite", "one class", "singletons", "negative labels"])
@pytest.mark.parametrize("T", [.005, .07, 1., 10.])
def test_value_and_gradient(kind, variant, T):
    z, y = batch(kind)
    z.requires_grad_()
    want = dense(z, y, T, variant); want_grad, = torch.autograd.grad(want, z)
    for dtype, chunks, tol in ((torch.float64, (None, 1, 10, 36, 37, 100), 1e-12), (torch.float32, (None, 10), 1e-6)):
        for chunk in chunks:
            x = z.detach().to(dtype).requires_grad_()
            if dtype == torch.float32:                      # the definition at the very rows that the loss is given
                zz = x.detach().double().requires_grad_(); want = dense(zz, y, T, variant); want_grad, = torch.autograd.grad(want, zz)
            got = supcon_loss(x, y, T, variant, chunk_size=chunk)
            got_grad, = torch.autograd.grad(got, x)
            exponent = 1/T if dtype == torch.float32 else 1.  # float32 similarities are known to 1e-7 of 1/T
            assert abs(got.double() - want) <= tol*max(abs(want), exponent)
            assert (got_grad.double() - want_grad).abs().max() <= 20*tol*max(want_grad.abs().max(), exponent*want_grad.abs().max(), exponent)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    z, y = batch("random")
    z = z.to(dtype).requires_grad_()
    loss = supcon_loss(z, y, .1)
    assert loss.dtype == torch.float32 and abs(loss - dense(z.detach().double(), y, .1, "out")) < 1e-5
    loss.backward()
    assert z.grad.dtype == dtype and torch.isfinite(z.grad).all()
    with torch.autocast("cpu", torch.bfloat16): inside = supcon_loss(z.float(), y, .1)
    assert torch.equal(inside, supcon_loss(z.float(), y, .1))


def test_singleton_policies():
    z, y = batch("singletons")
    assert torch.isclose(supcon_loss(z, y, singletons="zero"), dense(z, y, .1, "out", "zero"))
    with pytest.raises(InputError, match="have no other row of their class"): supcon_loss(z, y, singletons="error")


@pytest.mark.parametrize("n", [1, 2, 6])
def test_no_positives_is_zero_with_a_graph_and_one_warning(n):
    z = batch("random", n)[0].requires_grad_()
    with pytest.warns(UserWarning, match="no anchor has a positive") as seen: loss = supcon_loss(z, torch.arange(n))
    loss.backward()
    assert len(seen) == 1 and loss == 0 and torch.equal(z.grad, torch.zeros_like(z))


def test_nt_xent_is_cross_entropy_over_the_other_rows():
    z = batch("random", 12)[0]
    s = (z @ z.T/.2).fill_diagonal_(-torch.inf)
    assert torch.isclose(nt_xent_loss(z, .2), F.cross_entropy(s, torch.arange(12).roll(6)))
    with pytest.raises(InputError, match="two views of every image, got 11 rows"): nt_xent_loss(z[:11])


def test_order_rotation_and_label_names_do_not_matter():
    z, y = batch("random")
    perm, q = torch.randperm(len(z), generator=torch.Generator().manual_seed(1)), torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    for variant in ("out", "in"):
        want = supcon_loss(z, y, variant=variant)
        for other in (supcon_loss(z[perm], y[perm], variant=variant), supcon_loss(z @ q, y, variant=variant), supcon_loss(z, (y*7 + 3) % 101, variant=variant)): assert torch.isclose(want, other, rtol=1e-12)


def test_bounds():
    "Between the collapsed simplex and a uniform guess for T not too small; L_in never exceeds L_out (Jensen)."
    z, y = batch("random", 60)
    for T in (.05, .5, 5.): assert supcon_loss(z, y, T, "in") <= supcon_loss(z, y, T, "out") + 1e-12
    assert abs(supcon_loss(z, y, 1e6) - math.log(59)) < 1e-5


def test_module_is_the_function():
    z, y = batch("random")
    assert torch.equal(SupConLoss(.2, "in", 7)(z, y), supcon_loss(z, y, .2, "in", 7)) and "temperature=0.2" in repr(SupConLoss(.2))


@pytest.mark.parametrize("args, message", [
    ((torch.ones(3), torch.arange(3)), r"z must be \(n, d\) floats"),
    ((torch.ones(3, 2, dtype=torch.long), torch.arange(3)), r"z must be \(n, d\) floats"),
    ((torch.ones(3, 2), torch.arange(4)), r"labels must be \(3,\) integers"),
    ((torch.ones(3, 2), torch.ones(3)), r"labels must be \(3,\) integers"),
    ((torch.ones(3, 2), torch.arange(3), 0.), "temperature must be positive"),
    ((torch.ones(3, 2), torch.arange(3), .1, "both"), "variant must be out or in"),
    ((torch.ones(3, 2), torch.arange(3), .1, "out", 0), "chunk_size must be at least 1"),
])
def test_bad_input(args, message):
    with pytest.raises(InputError, match=message): supcon_loss(*args)
