"Loaders and views: every source gives the same thing, every damaged source one line."
import numpy as np
import pytest
import torch
from PIL import Image

from ncib.core import InputError, check_features, check_labels, generator
from ncib.data import augment, load_images, noisy_labels, stratified_split, subset

RNG = np.random.default_rng(0)


def write_folder(root, counts=(("ant", 3), ("bee", 2)), size=(6, 5), mode="RGB", suffix="png",
                 parts=("train", "test")):
    for part in parts:
        for name, n in dict(counts).items():
            (root/part/name).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(RNG.integers(256, size=(*size, 3),
                                             dtype=np.uint8)).convert(mode).save(root/part/name/f"{i}.{suffix}")
    return root


def test_folder(tmp_path):
    d = load_images(write_folder(tmp_path))
    assert (d.classes == ("ant", "bee") and d.train.shape == (5, 3, 6, 5) and d.train.dtype == torch.uint8
            and d.kind == "natural")
    assert d.train_labels.tolist() == [0, 0, 0, 1, 1]
    assert np.array_equal(d.train[3].permute(1, 2, 0), np.asarray(Image.open(tmp_path/"train/bee/0.png")))


def test_grey_folder_of_jpg(tmp_path):
    d = load_images(write_folder(tmp_path, mode="L", suffix="jpg"))
    assert d.train.shape[1] == 1 and d.kind == "digits"


@pytest.mark.parametrize("spoil, message", [
    (lambda r: (r/"train/bee/0.png").write_bytes(b"not a png"), "bee/0.png is not a readable image"),
    (lambda r: [p.unlink() for p in (r/"train/bee").iterdir()], "no .png or .jpg images of class 'bee'"),
    (lambda r: [p.unlink() for p in (r/"test/bee").iterdir()], "no .png or .jpg images of class 'bee'"),
    (lambda r: Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(r/"train/bee/9.png"), "one size and colour mode"),
    (lambda r: Image.fromarray(np.zeros((6, 5), np.uint8)).save(r/"train/bee/9.png"), "one size and colour mode"),
    (lambda r: ((r/"test/cat").mkdir(), Image.fromarray(np.zeros((6, 5, 3), np.uint8)).save(r/"test/cat/0.png")),
     "class 'cat' has no train images"),
    (lambda r: (r/"test").rename(r/"elsewhere"), "test: no such folder"),
    (lambda r: [(r/"train"/c).rename(r/c) for c in ("ant", "bee")], "no class folders"),
])
def test_damaged_folder(tmp_path, spoil, message):
    spoil(write_folder(tmp_path))
    with pytest.raises(InputError, match=message): load_images(tmp_path)


def test_hidden_files_sixteen_bits_and_alpha(tmp_path):
    write_folder(tmp_path, mode="L")
    (tmp_path/"train/.ipynb_checkpoints").mkdir(); (tmp_path/"train/ant/._0.png").write_bytes(b"x")
    deep = np.linspace(0, 65535, 30).reshape(6, 5).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path/"train/ant/9.png")
    d = load_images(tmp_path)
    assert d.classes == ("ant", "bee") and np.array_equal(d.train[3, 0], deep//257)
    Image.fromarray(np.zeros((6, 5, 4), np.uint8)).save(tmp_path/"train/bee/9.png")
    with pytest.raises(InputError, match="bee/9.png has an alpha channel"): load_images(tmp_path)


def test_npz_parts_that_disagree(tmp_path):
    np.savez(tmp_path/"train.npz", **arrays())
    np.savez(tmp_path/"test.npz", **arrays(classes=np.array(["b", "a", "c"])))
    with pytest.raises(InputError, match="name different classes"): load_images(tmp_path)
    np.savez(tmp_path/"test.npz", **arrays(labels=np.array(list("abc"*4))))
    with pytest.raises(InputError, match="must be integers|must be"): load_images(tmp_path)
    np.savez(tmp_path/"x.npz", images=arrays()["images"], labels=np.array([0]*11 + [10**12]))
    with pytest.raises(InputError, match="labels go up to 1000000000000"): load_images(tmp_path/"x.npz")
    np.savez(tmp_path/"x.npz", images=np.uint8(3), labels=np.array(1))
    with pytest.raises(InputError, match="images must be"): load_images(tmp_path/"x.npz")


def test_rotation_is_a_rotation_of_pixels_on_wide_pictures():
    from ncib.data import _affine
    x = torch.zeros(1, 1, 16, 64); x[:, :, 7:9] = 1
    one = torch.ones(1)
    y = _affine(x, torch.tensor([torch.pi/12]), one, one, 0*one, 0*one)[0, 0]
    rows, columns = torch.arange(16.), range(16, 48)
    centre = torch.stack([(y[:, c]*rows).sum()/y[:, c].sum() for c in columns])
    slope = (centre[-1] - centre[0])/31
    assert abs(slope.abs() - torch.tan(torch.tensor(torch.pi/12))) < .02


def test_one_class_is_refused(tmp_path):
    with pytest.raises(InputError, match="at least 2 classes, got 1"): load_images(write_folder(tmp_path, {"ant": 3}))


def arrays(n=12, k=3, **change):
    return {"images": RNG.integers(256, size=(n, 4, 4, 3), dtype=np.uint8), "labels": np.arange(n) % k,
            "classes": np.array(list("abc")[:k])} | change


def test_npz_pair_and_single(tmp_path):
    a, b = arrays(12), arrays(6)
    np.savez(tmp_path/"train.npz", **a); np.savez(tmp_path/"test.npz", **b); np.savez(tmp_path/"one.npz", **a)
    d = load_images(tmp_path)
    assert len(d.train) == 12 and len(d.test) == 6 and d.classes == ("a", "b", "c")
    assert np.array_equal(d.train.permute(0, 2, 3, 1), a["images"])
    one = load_images(tmp_path/"one.npz")
    assert len(one.train) + len(one.test) == 12 and one.test_labels.bincount().tolist() == [1, 1, 1]
    assert one.fingerprint() != d.fingerprint() == load_images(tmp_path).fingerprint()


@pytest.mark.parametrize("change, message", [
    (dict(labels=np.full(12, 3)), r"labels must be \(n,\) integers in \[0, 3\), got max 3"),
    (dict(labels=np.full(12, -1)), "got min -1"),
    (dict(labels=np.zeros(5, int)), "wanted 12, got 5"),
    (dict(labels=np.zeros(12)), "must be integers, got float64"),
    (dict(labels=np.zeros(12, int)), "no images of class 'b'"),
    (dict(images=np.zeros((12, 4, 4, 3))), "must be uint8 pixels in 0…255, got float64"),
    (dict(images=np.full((12, 4, 4, 3), np.nan)), "got NaN or infinity in 12 of 12 images"),
    (dict(images=np.zeros((12, 4, 4, 2), np.uint8)), "C = 1 or 3"),
    (dict(images=np.zeros((12, 4), np.uint8)), "C = 1 or 3"),
    (dict(labels=np.arange(12) % 3 + np.array([0]*11 + [0]), classes=np.array(["a"])), "got max 2"),
    (dict(classes=np.array([object()], dtype=object)), "not a readable .npz of plain arrays"),
])
def test_damaged_npz(tmp_path, change, message):
    np.savez(tmp_path/"x.npz", **arrays(**change))
    with pytest.raises(InputError, match=message): load_images(tmp_path/"x.npz")


def test_single_class_npz(tmp_path):
    np.savez(tmp_path/"x.npz", images=np.zeros((4, 4, 4, 1), np.uint8), labels=np.zeros(4, int))
    with pytest.raises(InputError, match="at least 2 classes, got 1"): load_images(tmp_path/"x.npz")


def test_npz_truncated_missing_and_without_labels(tmp_path):
    np.savez(tmp_path/"x.npz", images=np.zeros((4, 4, 4, 1), np.uint8))
    with pytest.raises(InputError, match="missing array labels"): load_images(tmp_path/"x.npz")
    (tmp_path/"x.npz").write_bytes((tmp_path/"x.npz").read_bytes()[:50])
    with pytest.raises(InputError, match="x.npz is not a readable .npz"): load_images(tmp_path/"x.npz")
    with pytest.raises(InputError, match="no such file"): load_images(tmp_path/"y.npz")
    with pytest.raises(InputError, match="neither train/<class>/"): load_images(tmp_path)


def test_split_is_stratified_and_fixed():
    y = np.repeat(np.arange(4), [40, 20, 8, 2])
    train, test = stratified_split(y)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(70))
    assert np.bincount(y[test]).tolist() == [10, 5, 2, 1]
    with pytest.raises(InputError, match="class 1 has 1 image"): stratified_split([0, 0, 1])


def test_label_noise_share():
    y = torch.arange(20000) % 10
    wrong = (noisy_labels(y, .5, 10) != y).double().mean()
    assert abs(wrong - .45) < 3*(.45*.55/20000)**.5
    with pytest.raises(InputError, match=r"label_noise must be in \[0, 1\], got 1.5"): noisy_labels(y, 1.5, 10)


def test_natural_views_do_what_the_recipe_says():
    """Crops see between 20 % and 100 % of the picture, half are flipped, a fifth are grey, and the hue rotation keeps
    the luma."""
    ramp = torch.linspace(0, 255, 64).round().to(torch.uint8).expand(2000, 3, 64, 64).contiguous()
    v = augment(ramp, "natural", generator=generator(3))
    assert abs((v.isclose(v.mean(1, keepdim=True), atol=1e-4).all(1).flatten(1).all(1)).float().mean()
               - 1) < .05, "a grey picture stays grey under colour jitter"
    from ncib.data import _augment_natural, _jitter_colour
    crop = _augment_natural(ramp[:, :1].float()/255, 1., generator(4))
    slope = crop[:, 0, 32, -1] - crop[:, 0, 32, 0]
    assert abs((slope < 0).float().mean() - .5) < .04
    assert slope.abs().max() <= 1 and slope.abs().min() > (.2*.75)**.5 - .05
    colour = torch.rand(4000, 3, 1, 1, generator=generator(5)).expand(-1, -1, 2, 2)*.2 + .4
    grey = lambda x: (x*torch.tensor([.299, .587, .114]).view(1, 3, 1, 1)).sum(1)
    jittered = _jitter_colour(colour, 1., generator(6))
    is_grey = jittered.isclose(jittered.mean(1, keepdim=True), atol=1e-5).all(1).flatten(1).all(1)
    assert abs(is_grey.float().mean() - .2) < .03
    same = jittered.isclose(colour, atol=1e-5).flatten(1).all(1)
    assert abs(same.float().mean() - .2*.8) < .03, "a fifth has no jitter, four fifths of those keep their colour"
    assert grey(jittered).sub(grey(colour)).abs().max() < .4*.62 + .05


def test_subset_keeps_proportions_and_order():
    data = load_images("digits")
    some = subset(data, size=300)
    whole, part = torch.bincount(data.train_labels), torch.bincount(some.train_labels)
    assert (len(some.train) == 300 and (part - whole*300/len(data.train)).abs().max() < 1
            and torch.equal(some.test, data.test))
    rows = [int((data.train.flatten(1) == x.flatten()).all(1).nonzero()[0, 0]) for x in some.train[:50]]
    assert rows == sorted(rows), "the order of the images is kept"
    assert (subset(data) is data and subset(data, size=300, seed=1).fingerprint() != some.fingerprint()
            == subset(data, size=300).fingerprint())


@pytest.mark.parametrize("ratio", [2., 10., 50.])
def test_long_tail(ratio):
    data = load_images("digits")
    count, whole = torch.bincount(subset(data, imbalance=ratio).train_labels), torch.bincount(data.train_labels)
    assert ((count - whole*ratio**(-torch.arange(10)/9)).abs() < 1).all() and count[0] == whole[0]
    both = torch.bincount(subset(data, 300, ratio).train_labels)
    assert both.sum() == 300 and abs(both[0]/both[9]*whole[9]/whole[0] - ratio) < .4*ratio


@pytest.mark.parametrize("size, imbalance, message", [(0, 1., r"train_size must be in \[1, 1347\], got 0"),
                                                      (1348, 1., "got 1348"), (11, 1., "at least 2 are needed"),
                                                      (None, 1000., "leave . training image"),
                                                      (None, .5, "imbalance must be at least 1"),
                                                      (None, float("nan"), "imbalance must be at least 1")])
def test_subset_refuses(size, imbalance, message):
    with pytest.raises(InputError, match=message): subset(load_images("digits"), size, imbalance)


def test_any_numpy_array_is_taken():
    "Also those that torch refuses: negative strides, another byte order."
    x = np.arange(12.).reshape(6, 2)
    for features in (x.astype(">f4"), x[::-1], x[:, ::-1], np.asfortranarray(x)):
        assert np.array_equal(check_features(features).numpy(), features)
    for labels in (np.arange(6)[::-1], np.arange(6, dtype=">i8")):
        assert np.array_equal(check_labels(labels, 6).numpy(), labels)


def test_cifar_is_downloaded_by_one_process_at_a_time(tmp_path, monkeypatch):
    "What is there is read without a lock; otherwise the lock is held while it is fetched."
    from filelock import FileLock, Timeout
    from torchvision import datasets
    calls = []
    class Fake:
        classes = ["a", "b"]
        def __init__(self, root, train, download):
            calls.append(download)
            if not download and not (tmp_path/"there").exists(): raise RuntimeError("Dataset not found")
            if download:
                with pytest.raises(Timeout): FileLock(tmp_path/".cifar10.lock").acquire(timeout=0)
            self.data, self.targets = np.zeros((4, 8, 8, 3), np.uint8), [0, 1, 0, 1]
    monkeypatch.setattr(datasets, "CIFAR10", Fake)
    assert load_images("cifar10", root=tmp_path).num_classes == 2 and calls == [False, True, True]
    (tmp_path/"there").touch()
    calls.clear()
    load_images("cifar10", root=tmp_path)
    assert calls == [False, False]


def test_shift_moves_whole_pixels():
    """Every view is the picture moved by up to an eighth of the side, mirrored at its edges, mirrored as a whole or
    not; all moves occur."""
    x = torch.randint(256, (1, 3, 16, 16), dtype=torch.uint8, generator=generator(0))
    for flip in (True, False):
        views = augment(x.expand(400, -1, -1, -1), "shift", generator=generator(1), flip=flip)
        padded = torch.nn.functional.pad(x.float()/255, (2, 2, 2, 2), mode="reflect")
        moved = [padded[0, :, i:i + 16, j:j + 16] for i in range(5) for j in range(5)]
        wanted = torch.stack(moved + [m.flip(2) for m in moved]*flip).flatten(1)
        distance = (views.flatten(1)[:, None] - wanted[None]).abs().amax(2)
        assert distance.amin(1).max() == 0 and len(distance.argmin(1).unique()) == len(wanted)
    plain = augment(x, "shift", 0., generator(0), flip=False)
    assert torch.equal(plain, x.float()/255) and plain.dtype == torch.float32


def test_shift_on_small_and_oblong_pictures():
    for shape in ((1, 1), (2, 1), (8, 8), (8, 40)):
        x = torch.randint(256, (5, 1, *shape), dtype=torch.uint8, generator=generator(0))
        v = augment(x, "shift", 9., generator(0))
        assert (v.shape == x.shape and all(set(a.unique().tolist()) <= set((b/255).unique().tolist())
                                           for a, b in zip(v, x)))
        assert torch.equal(v, augment(x, "shift", 9., generator(0)))


def test_cutout_blanks_one_square():
    x = torch.rand(50, 3, 20, 20, generator=generator(0)).mul(255).to(torch.uint8)
    for kind in ("none", "shift"):
        v = augment(x, kind, 0., generator(0), flip=False, cutout=.3)
        changed = (v - x/255).abs().amax(1) > 1e-6
        assert ((changed.any(2).sum(1) <= 6).all() and (changed.any(1).sum(1) <= 6).all()
                and (changed.sum((1, 2)) > 30).all())
        hole = v.permute(0, 2, 3, 1)[changed].view(50, -1, 3) if (changed.sum((1, 2)) == 36).all() else None
        if hole is not None: assert torch.allclose(hole, (x/255).mean((2, 3))[:, None].expand_as(hole), atol=1e-5)
    assert torch.equal(augment(x, "natural", generator=generator(3)),
                       augment(x, "natural", generator=generator(3), cutout=0.))
    for share, pixels in ((1e-3, 1), (.999, 19*19)):                         # never nothing, never the whole image
        v = augment(x, "none", 0., generator(0), flip=False, cutout=share)
        assert ((v != x/255).any(1).sum((1, 2)) <= pixels).all() and (v != x/255).any()
    with pytest.raises(InputError, match=r"cutout must be in \[0, 1\), got 1"): augment(x, "shift", cutout=1)


# --- folders as they are found

def everyday_folder(root):
    "Sizes, colours and depths of all kinds, and two files that end too early."
    write_folder(root, {"ant": 3, "bee": 3}, size=(12, 12))
    pixels = RNG.integers(256, size=(20, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root/"train/ant/tall.png")
    Image.fromarray(pixels[..., 0]).save(root/"train/ant/grey.png")
    Image.fromarray(np.dstack([pixels, np.full((20, 12), 255, np.uint8)])).save(root/"train/ant/opaque.png")
    Image.fromarray(np.dstack([np.zeros((16, 16, 3), np.uint8),
                               np.zeros((16, 16), np.uint8)])).save(root/"train/bee/clear.png")
    Image.fromarray(pixels).quantize(8).save(root/"train/bee/palette.png")
    Image.fromarray(np.full((16, 16), 0, np.uint8), "P").save(root/"train/bee/clear_palette.png", transparency=0)
    Image.fromarray(np.full((30, 30), 40000, np.uint16)).save(root/"train/bee/deep.png")
    Image.fromarray(pixels).convert("CMYK").save(root/"train/bee/print.jpg")
    whole = (root/"train/ant/tall.png").read_bytes()
    (root/"train/bee/short.png").write_bytes(whole[:len(whole)//2]); (root/"test/bee/short.jpg").write_bytes(b"")
    return root


@pytest.mark.filterwarnings("ignore:.*'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize("colour, channels", [("rgb", 3), ("grey", 1)])
def test_folder_of_all_kinds(tmp_path, colour, channels):
    everyday_folder(tmp_path)
    with pytest.warns(UserWarning, match=r"2 unreadable images are left out: train/bee/short.png, test/bee/short.jpg$"):
        d = load_images(tmp_path, image_size=10, colour=colour, skip_broken=True)
    assert (d.train.shape == (14, channels, 10, 10) and d.test.shape == (6, channels, 10, 10)
            and d.train_labels.tolist() == [0]*6 + [1]*8)
    names = sorted(p.name for p in (tmp_path/"train/bee").iterdir() if p.name != "short.png")
    bee = dict(zip(names, d.train[6:]))
    # transparent: the white behind it
    assert (bee["clear.png"] == 255).all() and (bee["clear_palette.png"] == 255).all()
    assert (bee["deep.png"] == 40000//257).all()


@pytest.mark.filterwarnings("ignore:.*'mode' parameter is deprecated:DeprecationWarning")
def test_what_does_not_fit_names_the_option_that_makes_it(tmp_path):
    everyday_folder(tmp_path)
    with pytest.raises(InputError, match=r"grey.png is \(20, 12\).*image_size=12 \(--image-size\) cuts and scales"):
        load_images(tmp_path)
    with pytest.raises(InputError, match=r"grey.png is \(8, 8\); colour='grey' or 'rgb' \(--colour\) makes them alike"):
        load_images(tmp_path, image_size=8)
    (tmp_path/"train/ant/grey.png").unlink()
    with pytest.raises(InputError,
                       match=r"opaque.png has an alpha channel; colour='grey' or 'rgb' \(--colour\) lays it on white"):
        load_images(tmp_path, image_size=8)
    with pytest.raises(InputError, match=r"short.png is not a readable image .*; skip_broken=True \(--skip-broken\)"):
        load_images(tmp_path, image_size=8, colour="rgb")


def test_the_middle_square_is_cut_and_scaled(tmp_path):
    write_folder(tmp_path, size=(6, 10))
    # the middle six columns of ten
    wide = np.zeros((6, 10), np.uint8); wide[:, 2:8] = 100
    Image.fromarray(wide).save(tmp_path/"train/ant/0.png")
    assert (load_images(tmp_path, image_size=6, colour="grey").train[0] == 100).all()
    as_it_is = load_images(tmp_path, image_size=None, colour="rgb")
    assert as_it_is.train.shape[1:] == (3, 6, 10)


def test_a_folder_that_fits_is_read_as_before(tmp_path):
    write_folder(tmp_path, size=(6, 6))
    assert load_images(tmp_path).fingerprint() == load_images(
        tmp_path, image_size=6, colour="rgb", skip_broken=True).fingerprint()


@pytest.mark.parametrize("options, message", [(dict(image_size=0), "image_size must be at least 1"),
                                              (dict(colour="blue"), "colour must be keep, grey or rgb, got 'blue'")])
def test_wrong_reading(tmp_path, options, message):
    with pytest.raises(InputError, match=message): load_images(write_folder(tmp_path), **options)


def test_reading_options_are_for_folders_and_leave_something_in_every_class(tmp_path):
    for options in (dict(image_size=8), dict(colour="grey"), dict(skip_broken=True)):
        with pytest.raises(InputError, match="are for image folders, got data 'digits'"):
            load_images("digits", **options)
    write_folder(tmp_path)
    for p in (tmp_path/"train/bee").iterdir(): p.write_bytes(b"x")
    with pytest.raises(InputError, match="train/bee: no readable image of class 'bee'"):
        load_images(tmp_path, skip_broken=True)


def test_pixels_of_more_than_sixteen_bits_do_not_wrap_around(tmp_path):
    from ncib.data import read_image
    Image.fromarray(np.full((6, 5), 70000, np.int32)).save(tmp_path/"a.tiff")
    with pytest.raises(InputError, match="at most 16 bits, got 70000 to 70000"):
        read_image(tmp_path/"a.tiff", None, "keep")
