"The contrastive loss against its definition in float64, on ordinary and adversarial batches."
import math

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ncib import losses
from ncib.core import InputError
from ncib.losses import SupConLoss, nt_xent_loss, supcon_loss

fake_cuda = pytest.mark.skipif(torch.__version__ < "2.10" and not torch.cuda.is_available(),
                               reason="fake CUDA tensors want a driver before torch 2.10")


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
    if kind == "singletons": y[:n//2] = torch.arange(100, 100 + n//2)
    if kind == "one pair": y = torch.arange(n); y[-1] = 0
    if kind == "far labels": y = y*2**60 - 2**61
    if kind == "not unit": z = z*torch.logspace(-2, .5, n, dtype=z.dtype)[:, None]
    if kind == "nearly collapsed": z = F.normalize(torch.eye(5, dtype=z.dtype)[y] + 1e-4*z, dim=1)
    if kind == "negative labels": y = y - 3
    return z, y


@pytest.mark.parametrize("variant", ["out", "in"])
@pytest.mark.parametrize("kind", ["random", "identical rows", "two clusters", "opposite", "one class", "singletons",
                                  "one pair", "negative labels", "far labels", "not unit",
                                  "nearly collapsed"])
@pytest.mark.parametrize("T", [.005, .07, 1., 10.])
def test_value_and_gradient(kind, variant, T):
    z, y = batch(kind)
    z.requires_grad_()
    want = dense(z, y, T, variant); want_grad, = torch.autograd.grad(want, z)
    for dtype, chunks, tol in ((torch.float64, (None, 1, 10, 36, 37, 100), 1e-12), (torch.float32, (None, 10), 1e-6)):
        for chunk in chunks:
            x = z.detach().to(dtype).requires_grad_()
            if dtype == torch.float32:                      # the definition at the very rows that the loss is given
                zz = x.detach().double().requires_grad_(); want = dense(zz, y, T, variant)
                want_grad, = torch.autograd.grad(want, zz)
            got = supcon_loss(x, y, T, variant, chunk_size=chunk, check_norms=False)
            got_grad, = torch.autograd.grad(got, x)
            exponent = 1/T if dtype == torch.float32 else 1.  # float32 similarities are known to 1e-7 of 1/T
            assert abs(got.double() - want) <= tol*max(abs(want), exponent)
            assert (got_grad.double() - want_grad).abs().max() <= 20*tol*max(
                want_grad.abs().max(), exponent*want_grad.abs().max(), exponent)


@pytest.mark.parametrize("variant", ["out", "in"])
@pytest.mark.parametrize("kind", ["random", "singletons", "identical rows"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype, kind, variant):
    z, y = batch(kind)
    z = z.to(dtype).requires_grad_()
    zz = z.detach().double().requires_grad_()
    loss, want = supcon_loss(z, y, .1, variant), dense(zz, y, .1, variant)
    assert loss.dtype == torch.float32 and abs(loss - want) < 1e-5
    loss.backward(); want.backward()
    assert (z.grad.dtype == dtype and (z.grad.double() - zz.grad).abs().max() <= torch.finfo(dtype).eps
            *max(1e-3, zz.grad.abs().max()))
    with torch.autocast("cpu", torch.bfloat16): inside = supcon_loss(z.float(), y, .1)
    assert torch.equal(inside, supcon_loss(z.float(), y, .1))


@pytest.mark.parametrize("policy", ["drop", "zero"])
def test_empty_batch(policy):
    with pytest.warns(UserWarning, match="no anchor has a positive"):
        assert supcon_loss(torch.zeros(0, 4, requires_grad=True), torch.zeros(0, dtype=torch.int64),
                           singletons=policy) == 0


@pytest.mark.parametrize("variant", ["out", "in"])
@pytest.mark.parametrize("chunk", [None, 1, 10])
def test_singleton_policies(variant, chunk):
    z, y = batch("singletons")
    z.requires_grad_()
    for policy in ("drop", "zero"):
        want, got = dense(z, y, .1, variant, policy), supcon_loss(z, y, .1, variant, chunk, policy)
        assert torch.isclose(got, want, rtol=1e-12)
        for g, w in zip(torch.autograd.grad(got, z), torch.autograd.grad(want, z)):
            torch.testing.assert_close(g, w, rtol=1e-11, atol=1e-12)
    with pytest.raises(InputError, match="18 of 37 anchors have no other row of their class"):
        supcon_loss(z, y, .1, variant, chunk, "error")
    y[:18] = 1                                              # now nobody is alone, and the policy does not matter
    assert torch.equal(supcon_loss(z, y, .1, variant, chunk, "error"), supcon_loss(z, y, .1, variant, chunk))


@pytest.mark.parametrize("variant", ["out", "in"])
@pytest.mark.parametrize("kind", ["random", "singletons", "one class"])
def test_gradcheck(kind, variant):
    z, y = batch(kind, 13, 3)
    assert torch.autograd.gradcheck(lambda z: supcon_loss(z, y, .3, variant, 4), z.requires_grad_())


@pytest.mark.parametrize("n", [0, 1, 2, 6])
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
    perm, q = (torch.randperm(len(z), generator=torch.Generator().manual_seed(1)),
               torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q)
    for variant in ("out", "in"):
        want = supcon_loss(z, y, variant=variant)
        for x, labels in ((z[perm], y[perm]), (z @ q, y), (z, (y*7 + 3) % 101)):
            other = supcon_loss(x, labels, variant=variant)
            assert torch.isclose(want, other, rtol=1e-12)


def test_bounds():
    "Between the collapsed simplex and a uniform guess for T not too small; L_in never exceeds L_out (Jensen)."
    z, y = batch("random", 60)
    for T in (.05, .5, 5.): assert supcon_loss(z, y, T, "in") <= supcon_loss(z, y, T, "out") + 1e-12
    assert abs(supcon_loss(z, y, 1e6) - math.log(59)) < 1e-5


def test_gradient_is_scaled_by_what_follows_and_may_be_asked_for_twice():
    z, y = batch("random")
    z.requires_grad_()
    loss = supcon_loss(z, y)
    once, = torch.autograd.grad(loss, z, retain_graph=True)
    thrice, = torch.autograd.grad(3*loss, z)
    torch.testing.assert_close(thrice, 3*once, rtol=1e-14, atol=0)
    with torch.no_grad(): assert torch.equal(supcon_loss(z, y), loss) and not supcon_loss(z, y).requires_grad
    assert not supcon_loss(z.detach(), y).requires_grad
    with pytest.raises(RuntimeError, match="supcon_loss is once differentiable"):
        torch.autograd.grad(supcon_loss(z, y), z, create_graph=True)


class Operations(TorchDispatchMode):
    "What is dispatched under it, and the tensors that come out."
    def __init__(self):
        super().__init__()
        self.names, self.devices, self.largest = set(), set(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.names.add(func.overloadpacket.__name__)
        for t in tree_leaves(out):
            if isinstance(t, torch.Tensor):
                self.devices.add(t.device.type); self.largest = max(self.largest, t.untyped_storage().nbytes())
        return out


WAITS = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "bincount"}
def waits(names): return {n for n in names if n in WAITS or n.startswith(("unique", "_unique"))}


@pytest.mark.parametrize("call", [
    lambda z, y: supcon_loss(z, y), lambda z, y: supcon_loss(z, y, .1, "in"), lambda z,
    y: supcon_loss(z, y, .1, "out", 5, "zero"), lambda z, y: nt_xent_loss(z)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@fake_cuda
def test_nothing_waits_for_a_gpu(call, dtype, monkeypatch):
    "Fake tensors take the way of CUDA on any machine, without values: whatever asks for one is an error."
    monkeypatch.setattr(losses, "_compiled", lambda: losses._block)
    with FakeTensorMode(), Operations() as seen:
        z = torch.empty(12, 4, dtype=dtype, device="cuda:0", requires_grad=True)
        loss = call(z, torch.empty(12, dtype=torch.long, device="cuda:0"))
        with torch.no_grad():
            grad = loss.grad_fn.apply(loss.new_ones(()))[0]       # the engine itself wants a real device
    assert loss.is_cuda and grad.shape == z.shape and "addmm" in seen.names
    assert not waits(seen.names) and seen.devices == {"cuda"}


def test_the_check_sees_what_waits():
    z, y = batch("random")
    with Operations() as seen: supcon_loss(z, y)                                  # on the CPU: is there a positive?
    assert waits(seen.names) == {"_local_scalar_dense"}
    with Operations() as seen: y.unique()
    assert waits(seen.names)


@pytest.mark.parametrize("variant", ["out", "in"])
def test_no_tensor_grows_with_the_square(variant):
    n, d = 4096, 16
    z, y = batch("random", n, d)
    with Operations() as seen: supcon_loss(z.float().requires_grad_(), y, variant=variant).backward()
    assert seen.largest <= max(4*n*n/8, 8*n*d)
    with Operations() as seen: supcon_loss(z.float().requires_grad_(), y, variant=variant, chunk_size=16).backward()
    assert seen.largest <= max(4*16*n, 8*n*d)


def test_the_block_compiles_without_a_break_and_for_any_size():
    """The function that CUDA compiles, here traced and functionalised but not translated (a minute of g++); the sizes
    that follow the first are one dynamic graph."""
    testing = pytest.importorskip("torch._dynamo.testing")
    torch._dynamo.reset()
    counter = testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(losses._block, fullgraph=True, backend=counter)
    for b, n in ((4, 9), (5, 12), (6, 14), (7, 20)):
        z, y = batch("random", n)
        s = (z[:b] @ z.T/.1).float().fill_diagonal_(-torch.inf)
        for got, want in zip(compiled(s, y[:b, None] == y, True), losses._block(s, y[:b, None] == y, True)):
            torch.testing.assert_close(got, want)
        ignored = torch.arange(n) % 4 == 1
        for got, want in zip(compiled(s, y[:b, None] == y, True, ignored),
                             losses._block(s, y[:b, None] == y, True, ignored)):
            torch.testing.assert_close(got, want)
    assert counter.frame_count == 4                                             # each of the two forms for any size


@pytest.mark.filterwarnings("ignore")
def test_inside_a_compiled_step():
    "A user's own torch.compile around the loss changes nothing."
    z, y = batch("random")
    step = torch.compile(lambda z: supcon_loss(F.normalize(2*z, dim=1), y, chunk_size=10), backend="eager")
    grads = [torch.autograd.grad(f(x), x)[0] for f in (step, lambda z: supcon_loss(z/z.norm(dim=1, keepdim=True), y))
             for x in [z.clone().requires_grad_()]]
    torch.testing.assert_close(*grads, rtol=1e-11, atol=1e-12)


@fake_cuda
def test_a_missing_compiler_costs_speed_only(monkeypatch):
    def broken(): raise RuntimeError("no Triton here")
    monkeypatch.setattr(losses, "_compiled", broken)
    monkeypatch.setattr(losses, "_compiler_works", True)
    with FakeTensorMode():
        z, y = (torch.empty(12, 4, device="cuda:0", requires_grad=True),
                torch.empty(12, dtype=torch.long, device="cuda:0"))
        with pytest.warns(UserWarning, match="torch.compile does not work here.*no Triton here") as seen:
            loss = supcon_loss(z, y, chunk_size=5)
    assert len(seen) == 1 and not losses._compiler_works and loss.is_cuda


@fake_cuda
def test_out_of_memory_is_not_the_compilers_fault(monkeypatch):
    def full(): raise torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(losses, "_compiled", full)
    monkeypatch.setattr(losses, "_compiler_works", True)
    with FakeTensorMode(), pytest.raises(torch.OutOfMemoryError):
        supcon_loss(torch.empty(12, 4, device="cuda:0"), torch.empty(12, dtype=torch.long, device="cuda:0"))
    assert losses._compiler_works


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("variant", ["out", "in"])
def test_cuda_is_the_cpu(variant):
    z, y = batch("singletons", 300, 16)
    for dtype, tol in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        a, b = (z.to(dtype).to(d).requires_grad_() for d in ("cpu", "cuda"))
        for chunk in (None, 64, 77):
            want, got = supcon_loss(a, y, .1, variant, chunk), supcon_loss(b, y.cuda(), .1, variant, chunk)
            torch.testing.assert_close(got.cpu(), want, rtol=tol, atol=tol)
            torch.testing.assert_close(torch.autograd.grad(got, b)[0].cpu(), torch.autograd.grad(want, a)[0],
                                       rtol=10*tol, atol=tol)
    assert losses._compiler_works


def test_module_is_the_function():
    z, y = batch("random")
    assert (torch.equal(SupConLoss(.2, "in", 7)(z, y), supcon_loss(z, y, .2, "in", 7))
            and "temperature=0.2" in repr(SupConLoss(.2)))


@pytest.mark.parametrize("args, message", [
    ((torch.ones(3), torch.arange(3)), r"z must be \(n, d\) floats"),
    ((torch.ones(3, 2, dtype=torch.long), torch.arange(3)), r"z must be \(n, d\) floats"),
    ((torch.ones(3, 2), torch.arange(4)), "labels must have one entry per row: wanted 3, got 4"),
    ((torch.ones(3, 2), torch.ones(3)), r"labels must be integers, got float32; .*labels.long\(\)"),
    ((torch.ones(3, 2), torch.arange(3), 0.), "temperature must be positive"),
    ((torch.ones(3, 2), torch.arange(3), .1, "both"), "variant must be out or in"),
    ((torch.ones(3, 2), torch.arange(3), .1, "out", 0), "chunk_size must be at least 1"),
])
def test_bad_input(args, message):
    with pytest.raises(InputError, match=message): supcon_loss(*args)
