"""Two processes that each hold a part of the batch return the loss and, averaged as DDP does, the gradient of one
process that holds all of it."""
import time
import warnings
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from ncib.core import InputError
from ncib.losses import SupConLoss, nt_xent_loss, supcon_loss

pytestmark = pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="this torch has no gloo")
MIXED = [0, 1, 0, 1, 2, 2, 1, 0]
# rank 0's rows 0, 2, 3 have their only positive on rank 1; labels 1 and 7 have none anywhere
ACROSS = [0, 1, 2, 3, 3, 2, 7, 0]
CASES = {                                           # rows of rank 0, labels, options
    "even, out": (4, MIXED, {}),
    "even, in": (4, MIXED, dict(variant="in")),
    "uneven, out": (3, MIXED, {}),
    "uneven, in": (3, MIXED, dict(variant="in")),
    "a rank without rows": (0, MIXED, {}),
    "blocks of two": (3, MIXED, dict(chunk_size=2)),
    "positives on the other rank, out": (4, ACROSS, {}),
    "positives on the other rank, in": (4, ACROSS, dict(variant="in")),
    "singletons count as zero": (4, ACROSS, dict(singletons="zero")),
    "one class": (3, [5]*8, {}),
    "rows without a class, out": (3, [0, 1, -100, 1, 2, 2, -100, 0], {}),
    "rows without a class, in, as zero": (3, [0, 1, -100, 1, 2, 3, -100, 0], dict(variant="in", singletons="zero")),
    "small temperature": (3, MIXED, dict(temperature=.005)),
    "no positive at all": (3, list(range(8)), {}),
}
# half precision: of the gradient, which comes back in it
DTYPES = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def rows(n=8, d=5):
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1)
def network():
    g = torch.Generator().manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 4)).double()
    for p in net.parameters(): p.data = torch.randn(p.shape, generator=g, dtype=torch.float64)
    return net
def views(n_images): return [torch.cat([v[:n_images], v[n_images:]]) for v in (rows()[:4], rows()[4:])]
def gradients(net): return {f"ddp/{k.removeprefix('module.')}": p.grad.clone() for k, p in net.named_parameters()}


def work(rank, address, out):
    "Everything that needs two processes, once; what it finds goes into a file."
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{address}", rank=rank, world_size=2,
                            timeout=timedelta(seconds=60))
    solo, found = dist.new_group([1]), {}

    def keep(name, call, z):
        z = z.detach().clone().requires_grad_()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loss = call(z)
        loss.backward()
        found[f"{name}/loss"], found[f"{name}/grad"] = loss.detach().clone(), z.grad

    def part(x, cut): return x[:cut] if rank == 0 else x[cut:]
    for name, (cut, labels, options) in CASES.items():
        for dtype in DTYPES:
            keep(f"{name}/{dtype}", lambda z: supcon_loss(z, part(torch.tensor(labels), cut), group=True, **options),
                 part(rows().to(dtype), cut))
    y = part(torch.tensor(MIXED), 3)
    keep("a group", lambda z: SupConLoss(group=dist.new_group([0, 1]))(z, y), part(rows(), 3))
    keep("labels of another kind", lambda z: supcon_loss(z, y.to(torch.int32 if rank else torch.int64), group=True),
         part(rows(), 3))
    keep("alone", lambda z: supcon_loss(z, y), part(rows(), 3))
    if rank == 1: keep("a group of one", lambda z: supcon_loss(z, y, group=solo), part(rows(), 3))
    keep("nt-xent", lambda z: nt_xent_loss(z, .2, group=True), views(2)[rank])
    with torch.no_grad(): found["no gradient"] = supcon_loss(part(rows(), 3).requires_grad_(), y, group=True).clone()
    with pytest.raises(InputError, match="2 of 8 anchors have no other row"):
        supcon_loss(part(rows(), 4), part(torch.tensor(ACROSS), 4), singletons="error", group=True)
    with pytest.warns(UserWarning, match="no anchor has a positive"):
        supcon_loss(part(rows(), 4), part(torch.arange(8), 4), group=True)
    ddp = torch.nn.parallel.DistributedDataParallel(network())
    supcon_loss(F.normalize(ddp(part(rows(), 3)), dim=1), y, group=True).backward()
    found |= gradients(ddp)
    save_file(found, f"{out}.{rank}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    ranks, end = (mp.spawn(work, (str(folder/"address"), str(folder/"found")), nprocs=2, join=False),
                  time.monotonic() + 150)
    try:
        while not ranks.join(1):
            if time.monotonic() > end: pytest.fail("the two processes did not end in 150 s")
    finally:
        for p in ranks.processes: p.kill()
    return [load_file(folder/f"found.{r}") for r in range(2)]


def agree(found, name, want, z, tol):
    (want_grad,) = torch.autograd.grad(want, z)
    got_grad = torch.cat([f[f"{name}/grad"] for f in found])/2              # W times the exact gradient, as documented
    assert torch.equal(found[0][f"{name}/loss"], found[1][f"{name}/loss"])
    assert got_grad.dtype == z.dtype and abs(found[0][f"{name}/loss"] - want) <= min(tol, 1e-5)*max(1, abs(want))
    assert (got_grad - want_grad).abs().max() <= tol*max(1, want_grad.abs().max())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:supcon_loss. no anchor")
def test_two_ranks_are_one(found, name, dtype):
    _, labels, options = CASES[name]
    z = rows().to(dtype).requires_grad_()
    agree(found, f"{name}/{dtype}", supcon_loss(z, torch.tensor(labels), **options), z, DTYPES[dtype])
    if name == "one class": assert found[0][f"{name}/{dtype}/loss"] > 0
    if name == "no positive at all": assert found[0][f"{name}/{dtype}/loss"] == 0


@pytest.mark.parametrize("name", ["a group", "labels of another kind"])
def test_group_and_labels(found, name):
    z = rows().requires_grad_()
    agree(found, name, supcon_loss(z, torch.tensor(MIXED)), z, 1e-12)
    assert (abs(found[0]["no gradient"] - found[0][f"{name}/loss"]) < 1e-14
            and torch.equal(found[0]["no gradient"], found[1]["no gradient"]))


def test_without_a_group_a_rank_is_alone(found):
    for f, name, mine in ((found[0], "alone", slice(0, 3)), (found[1], "alone", slice(3, 8)),
                          (found[1], "a group of one", slice(3, 8))):
        z = rows()[mine].requires_grad_()
        want = supcon_loss(z, torch.tensor(MIXED)[mine]); want.backward()
        assert (torch.allclose(f[f"{name}/loss"], want, rtol=1e-13)
                and torch.allclose(f[f"{name}/grad"], z.grad, rtol=1e-12, atol=1e-14))


def test_nt_xent_keeps_images_of_two_ranks_apart(found):
    # images 0 and 1 on rank 0, 2 and 3 on rank 1
    z = torch.cat(views(2)).requires_grad_()
    agree(found, "nt-xent", supcon_loss(z, torch.tensor([0, 1, 0, 1, 2, 3, 2, 3]), .2), z, 1e-12)


def test_ddp_has_the_parameter_gradients_of_one_process(found):
    net = network()
    supcon_loss(F.normalize(net(rows()), dim=1), torch.tensor(MIXED)).backward()
    for name, want in gradients(net).items():
        for f in found: assert (f[name] - want).abs().max() <= 1e-12*max(1, want.abs().max()), name
    assert max(g.abs().max() for g in gradients(net).values()) > 1e-3


def test_a_group_needs_processes():
    with pytest.raises(InputError, match="torch.distributed is not initialised"):
        supcon_loss(rows(), torch.tensor(MIXED), group=True)
    with pytest.raises(InputError, match="torch.distributed is not initialised"): nt_xent_loss(rows(), group=True)
