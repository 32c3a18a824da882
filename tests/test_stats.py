"Class statistics and joint statistics: against longdouble sums, under any split, across processes, on disk."
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st

from ncib.core import InputError
from ncib.stats import ClassStats, JointStats, class_means, class_sums, nearest_class_mean, row_blocks, span


def data(seed=0, n=240, d=7, K=5, spread=1., offset=0., dtype=np.float64):
    g = np.random.default_rng(seed)
    y = np.concatenate([np.arange(K), g.integers(K, size=n - K)])
    return (offset + 3*g.standard_normal((K, d))[y] + spread*g.standard_normal((n, d))).astype(dtype), y

def exact(x, y, K):
    x = x.astype(np.longdouble)
    means = np.stack([x[y == k].sum(0)/(y == k).sum() for k in range(K)])
    r = x - means[y]
    return means, np.array([(r[y == k]**2).sum() for k in range(K)]), r.T@r

def assert_same(a, b, rtol=1e-10):
    assert torch.equal(a.counts, b.counts)
    for f in ("means", "class_scatter", "scatter"):
        u, v = getattr(a, f), getattr(b, f)
        assert (u - v).abs().max() <= rtol*v.abs().max()

@pytest.mark.parametrize("offset,spread", [(0, 1.), (3e3, 1.), (3., 1e-3), (1., 1e-6)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_equals_longdouble(offset, spread, dtype):
    x, y = data(offset=offset, spread=spread, dtype=dtype)
    s = ClassStats(5, 7)
    for i in range(0, len(x), 50): s.update(x[i:i+50], y[i:i+50])
    means, class_scatter, scatter = exact(x, y, 5)
    # float64 means of size 1 are known to 1e-16: 1e-10 of a spread of 1e-6
    tol = 1e-12 if spread > 1e-4 else 1e-8
    np.testing.assert_allclose(s.means.numpy(), means.astype(float), rtol=1e-15)
    np.testing.assert_allclose(s.class_scatter.numpy(), class_scatter.astype(float), rtol=tol)
    np.testing.assert_allclose(s.scatter.numpy(), scatter.astype(float), rtol=tol, atol=tol*float(scatter.max()))

def test_bfloat16_batches():
    x, y = data()
    x = torch.as_tensor(x).bfloat16()
    assert_same(ClassStats(5, 7).update(x, y), ClassStats(5, 7).update(x.double(), y), 1e-14)

@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), cuts=st.lists(st.integers(0, 240), max_size=12),
       order=st.randoms(use_true_random=False), by_class=st.booleans())
def test_any_split_in_any_order(seed, cuts, order, by_class):
    x, y = data(seed % 7, offset=100, spread=0.01)
    i = np.argsort(y, kind="stable") if by_class else np.random.default_rng(seed).permutation(len(x))
    parts = [ClassStats(5, 7).update(x[p], y[p]) for p in np.split(i, sorted(cuts)) if len(p)]
    order.shuffle(parts)
    total = ClassStats(5, 7)
    for p in parts: total.merge(p)
    assert_same(total, ClassStats(5, 7).update(x, y))

def test_batches_of_one():
    x, y = data(offset=100, spread=0.01)
    s = ClassStats(5, 7)
    for i in range(len(x)): s.update(x[i:i+1], y[i:i+1])
    assert_same(s, ClassStats(5, 7).update(x, y))

def test_merge_leaves_the_other_alone_and_an_empty_one_changes_nothing():
    x, y = data()
    a, b = ClassStats(5, 7).update(x[:100], y[:100]), ClassStats(5, 7).update(x[100:], y[100:])
    before = {k: v.clone() for k, v in b.state_dict().items()}
    a.merge(b).merge(ClassStats(5, 7))
    assert all(torch.equal(before[k], v) for k, v in b.state_dict().items())
    assert_same(a, ClassStats(5, 7).update(x, y))
    assert_same(ClassStats(5, 7).merge(ClassStats(5, 7)), ClassStats(5, 7), 0)

def test_within_covariance_plus_between_is_total():
    x, y = data()
    s = ClassStats(5, 7).update(x, y)
    p = s.counts/s.counts.sum().double()
    centred = s.means - p@s.means
    np.testing.assert_allclose(s.within_covariance + (centred.T*p)@centred, np.cov(x.T, ddof=0), atol=1e-12)

@pytest.mark.parametrize("offset", [0., 3e3])
def test_nearest_class_mean(offset):
    x, y = data(offset=offset, spread=2.)
    s = ClassStats(6, 7).update(x, y)                          # class 5 is empty and must never be chosen
    brute = ((x[:, None].astype(np.longdouble) - s.means[:5].numpy())**2).sum(2).argmin(1)
    assert np.array_equal(s.nearest_class_mean(x), brute)
    assert torch.equal(s.nearest_class_mean(torch.as_tensor(x)), torch.as_tensor(brute))
    assert np.array_equal(nearest_class_mean(x, s.means[:5], classes=[3, 1, 4, 0, 2]), np.array([3, 1, 4, 0, 2])[brute])
    assert (nearest_class_mean(x.astype(np.float32), s.means[:5]) == brute).mean() > 0.99

def test_saved_and_restored(tmp_path):
    x, y = data()
    s = ClassStats(5, 7).update(x[:99], y[:99])
    s.save(tmp_path/"deep"/"s.safetensors")
    back = ClassStats.load(tmp_path/"deep"/"s.safetensors")
    assert_same(back.update(x[99:], y[99:]), s.update(x[99:], y[99:]), 0)
    copy = ClassStats(5, 7).load_state_dict(s.state_dict())
    copy.update(x, y)
    assert copy.n == 2*s.n                                     # a restored state shares no memory with its source

def test_faults_are_named(tmp_path):
    x, y = data()
    s = ClassStats(5, 7)
    for bad, message in [((x[:, :3], y), "features must have 7 columns, got 3"),
                         ((x, y[:-1]), "labels must have one entry per row: wanted 240, got 239"),
                         ((x, y + 1), "got max 5"), ((x, y - 1), "got min -1"), ((x*np.inf, y), "finite"),
                         ((x.astype(int), y), "floating point, got int64"),
                         ((x, y.astype(float)), "labels must be integers, got float64")]:
        with pytest.raises(InputError, match=message): s.update(*bad)
        assert s.n == 0 and not s.scatter.any()
    for bad, message in [((0, 3), "num_classes"), ((3, 0), "dim")]:
        with pytest.raises(InputError, match=message): ClassStats(*bad)
    with pytest.raises(InputError, match="other must be"): s.merge(ClassStats(5, 8))
    with pytest.raises(InputError, match="other must be a ClassStats"): s.merge(JointStats(3, 4))
    with pytest.raises(InputError, match="without samples"): s.nearest_class_mean(x)
    with pytest.raises(InputError, match="scatter is missing"):
        s.load_state_dict({k: v for k, v in s.state_dict().items() if k != "scatter"})
    with pytest.raises(InputError, match="means must be"): s.load_state_dict(ClassStats(5, 8).state_dict())
    with pytest.raises(InputError, match="nowhere.safetensors: no such file"):
        ClassStats.load(tmp_path/"nowhere.safetensors")
    (tmp_path/"bad.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(InputError, match="bad.safetensors is damaged"): ClassStats.load(tmp_path/"bad.safetensors")

@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_joint_statistics(dtype):
    g = np.random.default_rng(1)
    x = (g.standard_normal((400, 4)) + 50).astype(dtype)
    z = (g.standard_normal((400, 3)) + x[:, :3]).astype(dtype)
    a, b = JointStats(4, 3), JointStats(4, 3)
    for i in range(0, 400, 32): (a if i % 64 else b).update(x[i:i+32], torch.as_tensor(z[i:i+32]))
    a.merge(b)
    sx, sxz, sz = a.covariance()
    full = np.cov(np.hstack([x, z]).astype(float).T, ddof=0)
    for got, want in [(sx, full[:4, :4]), (sxz, full[:4, 4:]), (sz, full[4:, 4:])]:
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(a.mean_x, x.astype(float).mean(0), rtol=1e-13)
    np.testing.assert_allclose(a.mean_y, z.astype(float).mean(0), rtol=1e-13)
    assert a.n == 400
    with pytest.raises(InputError, match="as many rows"): a.update(x, z[:-1])
    with pytest.raises(InputError, match="y must have 3 columns, got 4"): a.update(x, x)
    with pytest.raises(InputError, match="x must be finite"): a.update(x*np.nan, z)
    with pytest.raises(InputError, match="dimensions"): a.merge(JointStats(3, 4))
    with pytest.raises(InputError, match="needs samples"): JointStats(2, 2).covariance()

def reduce_on(rank, address, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{address}", rank=rank, world_size=2)
    x, y = data(offset=1000, spread=0.01)
    # one rank lacks a class, the other holds nothing else
    mine = np.flatnonzero(y != 2) if rank == 0 else np.flatnonzero(y == 2)
    s = ClassStats(6, 7).update(x[mine], y[mine]).all_reduce()
    j = JointStats(4, 3).update(x[rank::2, :4], x[rank::2, 4:]).all_reduce()
    torch.save({"stats": s.state_dict(), "joint": j.covariance(), "n": j.n}, f"{out}/{rank}.pt")
    dist.destroy_process_group()

def test_two_processes_equal_one(tmp_path):
    mp.spawn(reduce_on, (tmp_path/"address", tmp_path), nprocs=2)
    x, y = data(offset=1000, spread=0.01)
    whole, joint = ClassStats(6, 7).update(x, y), JointStats(4, 3).update(x[:, :4], x[:, 4:])
    for rank in range(2):
        got = torch.load(tmp_path/f"{rank}.pt", weights_only=True)
        assert_same(ClassStats(6, 7).load_state_dict(got["stats"]), whole)
        assert got["n"] == joint.n
        for a, b in zip(got["joint"], joint.covariance()): torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_covariance_of_pairs_is_known_where_every_class_has_one_sample():
    x, y = np.random.default_rng(0).normal(size=(2, 30, 3))
    of_classes, plain = JointStats(3, 3, num_classes=30).update(x, y, np.arange(30)), JointStats(3, 3).update(x, y)
    for a, b in zip(of_classes.covariance(), plain.covariance()): assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)

@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_class_means_of_the_classes_that_occur(kind):
    x, y = data(offset=1e6, spread=1e-3)
    y = np.array([9, 2, 5, 7, 40])[y]                          # neither ordered nor without gaps
    means, counts, classes = class_means(kind(x), y)
    assert classes.tolist() == [2, 5, 7, 9, 40] and counts.tolist() == [int((y == c).sum()) for c in classes]
    exactly = np.stack([x[y == c].astype(np.longdouble).mean(0) for c in classes.tolist()])
    np.testing.assert_allclose(means.numpy(), exactly.astype(float), rtol=1e-14)
    near = class_means(x, y, origin=torch.as_tensor(x[0])).means.numpy()
    np.testing.assert_allclose(near, (exactly - x[0]).astype(float), rtol=1e-11, atol=1e-12)

def test_class_sums_leave_out_negative_labels_and_any_blocks_give_the_same():
    x, y = (torch.as_tensor(v) for v in data(n=1000, d=3000))
    y[::7] = -1
    x[::7] = torch.nan
    assert len(list(row_blocks(x, y, 3000))) > 2
    sums = class_sums(x.float(), y, 6)                         # class 5 has no rows
    np.testing.assert_allclose(sums[:5], torch.stack([x[y == k].float().double().sum(0) for k in range(5)]), rtol=1e-13)
    assert not sums[5].any() and sums.dtype == torch.float64

@pytest.mark.parametrize("offset", [0., 1e3, 1e9])
@pytest.mark.parametrize("equal", [1, 2, 3])
def test_the_span_of_class_means_has_the_rank_that_it_was_given(offset, equal):
    "Some classes with one and the same mean; an offset costs digits, and no direction of rounding is kept."
    g = np.random.default_rng(equal)
    means = torch.as_tensor(g.standard_normal((7, 12)))[[0]*equal + list(range(1, 8 - equal))] + offset
    found = span(means - means.mean(0), most=6, size=float(means.norm(dim=1).max()))
    assert len(found.values) == 7 - equal
    assert torch.allclose(found.basis.T@found.basis, torch.eye(7 - equal, dtype=torch.float64))
    inside = (means - means.mean(0))@found.basis@found.basis.T
    torch.testing.assert_close(inside, means - means.mean(0), rtol=0, atol=1e-14*(1 + offset))

def test_a_larger_cut_takes_weak_directions_away():
    rows = torch.diag(torch.tensor([1., 1e-3, 1e-9], dtype=torch.float64))
    assert [len(span(rows, cut=c).values) for c in (None, 1e-6, .1)] == [3, 2, 1]
    assert len(span(rows, most=2).values) == 2 and len(span(rows, size=1e4, cut=1e-6).values) == 1
