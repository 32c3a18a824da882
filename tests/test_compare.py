"Many encoders: the same numbers as pair by pair, from files as from arrays, done once, refused where they do not fit."
import json
import math
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import ncib.cca
import ncib.compare
from ncib import cli
from ncib.collapse import collapse_metrics
from ncib.compare import Comparison, compare, comparison_html, plot_comparison
from ncib.core import InputError
from ncib.gib import GaussianIB
from ncib.identifiability import class_mean_features, held_out_correlations, linear_cka, linear_identifiability, rsa
from ncib.plots import plot_dendrogram, plot_matrices
from ncib.runs import Run
from ncib.similarity import EncoderStats, cross_moments, measures, pair_intervals, pair_measures
from ncib.stats import JointStats
from ncib.transitions import separation


def encoder(seed, n=400, d=8, k=4, noise=1., dtype=np.float64):
    "Classes, something that all encoders share, and noise of its own, through a random matrix."
    same, own = np.random.default_rng(99), np.random.default_rng(seed)
    labels = same.integers(k, size=n)
    latent = np.c_[same.normal(size=(k, d))[labels]*3 + same.normal(size=(n, d))]
    return ((latent + noise*own.normal(size=(n, d)))@own.normal(size=(d, d)) + 5).astype(dtype), labels


@pytest.fixture(scope="module")
def four(): return {f"e{s}": encoder(s)[0] for s in range(4)}, encoder(0)[1]


def by_hand(x, y, labels):
    g, t = GaussianIB.fit(x, y), linear_identifiability(x, y)
    k1 = len(np.unique(labels)) - 1
    s = g.transitions(k1, groups=0)
    return {"significant": s.significant, "separation": separation(s.excess, k1, g.floor),
            "shortfall_a": g.corner_shortfall(x, labels, groups=0).share,
            "shortfall_b": GaussianIB.fit(y, x).corner_shortfall(y, labels, groups=0).share,
            "held_out_cca": held_out_correlations(x, y).sum(), "cka": linear_cka(x, y),
            "procrustes": 1 - t.procrustes/2, "rsa": rsa(x, y)}


class TestOnePair:
    @pytest.mark.parametrize("kind", [np.float64, np.float32])
    def test_moments_say_what_rows_say(self, kind):
        x, labels = encoder(0, dtype=kind)
        y, _ = encoder(1, d=6, dtype=kind)
        a, b = EncoderStats.of(x, labels), EncoderStats.of(torch.as_tensor(y), labels)
        found, hand = pair_measures(a, b, cross_moments(x, y, a, b)), by_hand(x, y, labels)
        hand["held_out_cca"] /= 6
        assert {k: found[k] for k in hand} == pytest.approx(hand, rel=1e-6)

    def test_heavy_tails_count_as_they_do_for_rows(self):
        (x, labels), (y, _) = encoder(0), encoder(1)
        scale = np.sqrt(np.random.default_rng(3).chisquare(4, size=(len(x), 1))/4)      # the same odd images for both
        x, y = x/scale, y/scale
        a, b = EncoderStats.of(x, labels), EncoderStats.of(y, labels)
        found, hand = pair_measures(a, b, cross_moments(x, y, a, b)), by_hand(x, y, labels)
        assert GaussianIB.fit(x, y).cca.tails > 1.2
        assert {k: found[k] for k in ("significant", "separation", "shortfall_a", "shortfall_b")} == pytest.approx(
            {k: hand[k] for k in ("significant", "separation", "shortfall_a", "shortfall_b")}, rel=1e-6)

    def test_labels_alone_are_the_features_with_class_means_as_rows(self):
        (x, labels), (y, _) = encoder(0), encoder(1)
        a, b = EncoderStats.of(x, labels), EncoderStats.of(y, labels)
        found = pair_measures(a, b, cross_moments(x, y, a, b))
        left, right = (by_hand(class_mean_features(x, labels), y, labels),
                       by_hand(x, class_mean_features(y, labels), labels))
        for m in ("significant", "held_out_cca", "cka", "procrustes", "rsa"):
            modes = 8 if m == "held_out_cca" else 1                        # over as many modes as the pair has
            # its ridge is in units of the basis
            assert found[f"{m}_labels"] == pytest.approx((left[m] + right[m])/2/modes,
                                                         rel=2e-3 if m == "held_out_cca" else 1e-6), m
        assert (found["significant_labels"] == 3 and found["separation_labels"]
                == pytest.approx(math.sqrt(left["separation"]*right["separation"]), rel=1e-6))
        assert (found["shortfall_labels_a"] == pytest.approx(left["shortfall_a"], abs=1e-8)
                and found["shortfall_labels_b"] == pytest.approx(right["shortfall_b"], abs=1e-8))

    def test_labels_need_not_be_consecutive(self):
        x, labels = encoder(0)
        a, b = EncoderStats.of(x, labels), EncoderStats.of(x, np.array([1, 5, 6, 90])[labels])
        assert torch.equal(a.sums, b.sums) and b.counts.shape == (5, 4)

    def test_collapse_metrics_of_the_statistics(self):
        x, labels = encoder(0)
        from ncib.collapse import collapse_metrics_from_stats
        m, n = collapse_metrics_from_stats(EncoderStats.of(x, labels).class_stats()), collapse_metrics(x, labels)
        assert (m.nc1, m.cdnv, m.etf_error) == pytest.approx((n.nc1, n.cdnv, n.etf_error), rel=1e-9)

    def test_what_linear_maps_and_rotations_leave(self):
        (x, labels), (y, _) = encoder(0), encoder(1)
        g = np.random.default_rng(5)
        maps = {"linear": g.normal(size=(8, 8)), "rotation": 7*np.linalg.qr(g.normal(size=(8, 8)))[0]}
        def found(y):
            a, b = EncoderStats.of(x, labels), EncoderStats.of(y, labels)
            return pair_measures(a, b, cross_moments(x, y, a, b))
        plain, linear, rotation = found(y), found(y@maps["linear"]), found(y@maps["rotation"])
        assert all(linear[m] == pytest.approx(plain[m], rel=1e-6) for m in ("significant", "separation"))
        assert linear["cka"] != pytest.approx(plain["cka"], rel=1e-3)
        assert all(rotation[m] == pytest.approx(plain[m], rel=1e-6)
                   for m in ("significant", "separation", "cka", "procrustes", "rsa", "shortfall_a"))

    def test_intervals_are_those_of_transitions(self):
        (x, labels), (y, _) = encoder(0), encoder(1)
        t = GaussianIB.fit(x, y).transitions(3, groups=10)
        c = GaussianIB.fit(y, x).corner_shortfall(y, labels, groups=10)
        found = pair_intervals(x, y, labels, 10)
        assert (found["separation"], found["separation_low"],
                found["separation_high"]) == pytest.approx((t.separation.value, t.separation.low, t.separation.high))
        assert (found["shortfall_b"], found["shortfall_low_b"]) == pytest.approx((c.share, c.interval.low))

    def test_other_rows_are_refused(self):
        (x, labels), (y, _) = encoder(0), encoder(1)
        a, b = EncoderStats.of(x, labels), EncoderStats.of(y, labels)
        with pytest.raises(InputError, match="must be the rows of a and b"): cross_moments(x, y[:-1], a, b)

    def test_bottleneck_of_a_stream_with_classes(self):
        (x, labels), (y, _) = encoder(0), encoder(1)
        joint = JointStats(8, 8, num_classes=4)
        for i in range(0, 400, 70): joint.update(x[i:i + 70], y[i:i + 70], labels[i:i + 70])
        g, rows = GaussianIB.fit(joint), GaussianIB.fit(x, y)
        assert np.allclose(g.excess, rows.excess, rtol=1e-9)
        assert g.corner_shortfall(joint).share == pytest.approx(
            rows.corner_shortfall(x, labels, groups=0).share, rel=1e-6)
        turned = g.swapped().corner_shortfall(joint.swapped())
        assert turned.share == pytest.approx(GaussianIB.fit(y, x).corner_shortfall(y, labels, groups=0).share, rel=1e-6)
        assert all(np.allclose(u, v) for u, v in zip(joint.swapped().covariance(),
                                                     (joint.covariance()[2], joint.covariance()[1].T,
                                                      joint.covariance()[0])))
        with pytest.raises(InputError, match="labels must be given for 4 classes"): joint.update(x, y)
        with pytest.raises(InputError, match="JointStats with classes"):
            g.corner_shortfall(JointStats(8, 8).update(x, y))
        with pytest.raises(InputError, match="turned round"): GaussianIB.fit_labels(x, labels).swapped()


class TestManyEncoders:
    def test_every_pair_once(self, four):
        c = compare(*four, progress=False)
        assert list(zip(c.table.a, c.table.b)) == [("e0", "e1"), ("e0", "e2"), ("e0", "e3"), ("e1", "e2"), ("e1", "e3"),
                                                   ("e2", "e3")]
        hand = by_hand(four[0]["e1"], four[0]["e3"], four[1])
        assert (c.matrix("cka").loc["e3", "e1"] == pytest.approx(hand["cka"])
                and c.matrix("rsa").loc["e1", "e3"] == pytest.approx(hand["rsa"]))
        assert (c.matrix("shortfall").loc["e1", "e3"] == pytest.approx(hand["shortfall_a"], rel=1e-6)
                and c.matrix("shortfall").loc["e3", "e1"] == pytest.approx(hand["shortfall_b"], rel=1e-6))
        assert (np.diag(c.matrix("held_out_cca")) == 1).all() and np.isnan(np.diag(c.matrix("separation"))).all()
        assert c.encoders.nc1.tolist() == pytest.approx([collapse_metrics(v, four[1]).nc1 for v in four[0].values()])

    def test_from_files_as_from_arrays(self, short_pair, tmp_path):
        runs = dict(zip(("a", "b"), short_pair))
        c = compare(runs, progress=False)
        f = [r.features(3) for r in short_pair]
        assert c.layers == ["backbone", "head"] and c.info["images"] == "the same images, by their fingerprint"
        layered = {n: {"backbone": v.test, "head": v.test_head.numpy()} for n, v in zip(runs, f)}
        np.save(tmp_path/"x.npy", f[0].test.numpy())
        files = {"a": {"backbone": tmp_path/"x.npy"}, "b": {"backbone": f[1].test}}
        direct = {n: r.file("features", 3) for n, r in runs.items()}
        columns = [m for m in c.table if m not in ("layer", "a", "b")]
        for given, labels, layers in ((layered, f[0].test_labels, 2), (files, f[0].test_labels.numpy(), 1),
                                      (direct, None, 2), ({n: str(r.path) for n, r in runs.items()}, None, 2)):
            other = compare(given, labels, progress=False)
            np.testing.assert_allclose(other.table[columns].to_numpy(float), c.table[columns][:layers].to_numpy(float),
                                       rtol=1e-6, err_msg=str(given)[:80])
        assert "cannot tell" in compare(files, f[0].test_labels, progress=False).info["images"]
        assert compare(runs, epoch=0, part="train", layers=["head"], measures=["cka"],
                       progress=False).matrix("cka").loc["a", "b"] == pytest.approx(
                           linear_cka(*(r.features(0).train_head for r in short_pair)))

    def test_what_is_done_is_not_done_again(self, four, tmp_path, monkeypatch):
        done = []
        real = ncib.compare.pair_measures
        monkeypatch.setattr(ncib.compare, "pair_measures", lambda *args: done.append(1) or real(*args))
        first = compare(*four, measures=["cka"], out=tmp_path, progress=False)
        assert len(done) == 6
        pd.testing.assert_frame_equal(compare(*four, measures=["cka"], out=tmp_path, progress=False).table, first.table)
        assert len(done) == 6
        pairs = sorted((tmp_path/"pairs").glob("*.json"))
        # killed before it was written; damaged
        pairs[0].unlink(); pairs[1].write_text("{")
        pd.testing.assert_frame_equal(compare(*four, measures=["cka"], out=tmp_path, progress=False).table, first.table)
        assert len(done) == 8
        changed = {**four[0], "e2": encoder(7)[0]}
        compare(changed, four[1], measures=["cka"], out=tmp_path, progress=False)
        # the pairs of the one that changed
        assert len(done) == 8 + 3
        compare({**changed, "e9": encoder(9)[0]}, four[1], measures=["cka"], out=tmp_path, progress=False)
        assert len(done) == 11 + 4

    def test_a_file_is_read_again_only_if_it_has_changed(self, four, tmp_path, monkeypatch):
        for n, v in four[0].items(): np.save(tmp_path/f"{n}.npy", v)
        files, read = [tmp_path/f"{n}.npy" for n in four[0]], []
        real = EncoderStats.of
        monkeypatch.setattr(ncib.compare.EncoderStats, "of", lambda *args: read.append(args[-1]) or real(*args))
        first = compare(files, four[1], measures=["cka"], out=tmp_path/"out", progress=False)
        assert len(read) == 4 and first.names == ["e0", "e1", "e2", "e3"]
        compare(files, four[1], measures=["cka"], out=tmp_path/"out", progress=False)
        assert len(read) == 4
        np.save(files[0], four[0]["e0"][:, ::2])
        again = compare(files, four[1], measures=["cka"], out=tmp_path/"out", progress=False)
        assert (read[4:] == ["e0, features"]
                and again.matrix("cka").loc["e0", "e1"] != first.matrix("cka").loc["e0", "e1"])

    def test_processes_say_what_one_says(self, four, tmp_path):
        one, two = (compare(*four, measures=["separation", "cka"], workers=w, out=tmp_path/str(w), progress=False)
                    for w in (1, 2))
        pd.testing.assert_frame_equal(one.table, two.table, rtol=1e-9)
        with pytest.raises(InputError, match="hold the same features"):
            compare({**four[0], "e8": four[0]["e0"]}, four[1], measures=["cka"], workers=2, out=tmp_path/"3",
                    progress=False)
        assert len(list((tmp_path/"3/pairs").glob("*.json"))) == 9                        # the rest is done first

    def test_on_ray_as_here(self, four, tmp_path):
        ray = pytest.importorskip("ray")
        if not (there := ray.is_initialized()): ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
        try: c = compare(*four, measures=["cka", "separation"], out=tmp_path, ray=True, progress=False)
        finally:
            if not there: ray.shutdown()
        pd.testing.assert_frame_equal(c.table, compare(*four, measures=["cka", "separation"], progress=False).table,
                                      rtol=1e-9)

    def test_superclasses(self, short_pair):
        y = short_pair[0].features(3).test_labels
        c = compare(short_pair, labels=y//5, layers=["backbone"], measures=["separation", "cka"], progress=False)
        assert c.info["num_classes"] == 2 and c.table.separation.notna().all()
        same = compare(short_pair, layers=["backbone"], measures=["cka"], progress=False)
        assert (c.table.cka[0] == pytest.approx(same.table.cka[0])
                and c.table.cka_labels[0] != pytest.approx(same.table.cka_labels[0]))

    def test_intervals_on_request(self, four):
        c = compare(*four, groups=10, measures=["separation"], progress=False)
        assert ((c.table.separation_low <= c.table.separation).all()
                and (c.table.separation <= c.table.separation_high).all() and c.info["groups"] == 10)
        assert "separation_low" not in compare(*four, measures=["separation"], progress=False).table

    def test_across_layers_that_are_not_there(self, four):
        one = {"one": {"early": four[0]["e0"]}, "two": {"late": four[0]["e1"]}}
        for layers, words in ((["early", "lat"], "no encoder has a layer 'lat'; there is early, late"),
                              (["late"], "at least two .* got 1"), ([], "at least two .* got 0")):
            with pytest.raises(InputError, match=words): compare(one, four[1], layers, across=True, progress=False)

    def test_across_layers(self, four):
        x = list(four[0].values())
        c = compare({"one": {"early": x[0], "late": x[1]}, "two": {"block": x[2]}}, four[1], across=True,
                    measures=["cka"], progress=False)
        assert c.names == ["one, early", "one, late", "two, block"] and len(c.table) == 3 and c.layers == ["all"]

    def test_too_few_rows_for_the_width_are_told(self):
        x, labels = encoder(0, n=60, d=40)
        y, _ = encoder(1, n=60, d=40)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            c = compare({"x": x, "y": y}, labels, measures=["separation"], progress=False)
        assert c.table.cut.tolist() == [1] and any("too few images" in s for s in c.sentences())


@pytest.mark.parametrize("change, message", [
    (dict(encoders={"e0": 0}), "at least two, got 1"),
    (dict(labels=None), "labels must be given: none of the encoders has them"),
    (dict(labels=np.zeros(400, int)), "at least 2 classes, got 1"),
    (dict(labels=np.zeros(399, int)), "e0, features has 400 rows, labels have 399"),
    (dict(measures=["cca"]), "measures must be some of .*, got 'cca'"), (dict(measures=[]), "at least one"),
    (dict(layers=["fc"]), "e0 has no layer 'fc'; there is features"), (dict(groups=1), "groups must be"),
    (dict(workers=0), "workers must be"), (dict(part="val"), "part must be"),
    (dict(ray=True), "out must be given with Ray")])
def test_refusals(four, change, message):
    if "encoders" in change: change = {"encoders": {"e0": four[0]["e0"]}}
    with pytest.raises(InputError, match=message):
        compare(**{"encoders": four[0], "labels": four[1], "progress": False} | change)


def test_bad_features_are_named(four, tmp_path):
    bad = four[0]["e1"].copy(); bad[17, 2] = np.nan
    with pytest.raises(InputError, match=r"odd, features must be finite.*first: row 17"):
        compare({"e0": four[0]["e0"], "odd": bad}, four[1], progress=False)
    with pytest.raises(InputError, match="flat, features must vary"):
        compare({"e0": four[0]["e0"], "flat": np.full((400, 3), .1)}, four[1], progress=False)
    with pytest.raises(InputError, match="must be floating point, got int64"):
        compare({"e0": four[0]["e0"], "ints": np.ones((400, 3), int)}, four[1], progress=False)
    with pytest.raises(InputError, match=r"must be \(n, d\)"):
        compare({"e0": four[0]["e0"], "cube": np.ones((400, 3, 2))}, four[1], progress=False)
    (tmp_path/"x.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match="x.npy is damaged"):
        compare({"e0": four[0]["e0"], "x": tmp_path/"x.npy"}, four[1], progress=False)
    np.save(tmp_path/"x.npy", four[0]["e1"])
    (tmp_path/"x.npy").write_bytes((whole := (tmp_path/"x.npy").read_bytes())[:10] + b"\0" + whole[11:])
    with pytest.raises(InputError, match="x.npy is damaged"):
        compare({"e0": four[0]["e0"], "x": tmp_path/"x.npy"}, four[1], progress=False)
    np.save(tmp_path/"code.npy", np.array([{}], dtype=object))
    with pytest.raises(InputError, match="code.npy is damaged or not a .npy file of numbers"):
        compare({"e0": four[0]["e0"], "x": tmp_path/"code.npy"}, four[1], progress=False)
    with pytest.raises(InputError, match="neither a run directory nor a file"):
        compare({"e0": four[0]["e0"], "x": tmp_path/"none.npy"}, four[1], progress=False)


def test_other_images_are_refused(short_pair, tmp_path):
    f = short_pair[1].features(3)
    for name, labels, print_ in (("labels", f.test_labels.flip(0), short_pair[0].data["fingerprint"]),
                                 ("images", f.test_labels, "others")):
        run = Run.create(tmp_path/name, short_pair[0].classes, {}, {"fingerprint": print_})
        run.save_features(3, f.train, f.train_labels, f.test, labels)
    with pytest.raises(InputError, match="have different labels"):
        compare([short_pair[0], tmp_path/"labels"], progress=False)
    with pytest.raises(InputError, match="saw different images"):
        compare([short_pair[0], tmp_path/"images"], progress=False)


class TestResult:
    def test_saved_and_loaded(self, four, tmp_path):
        c = compare(*four, progress=False)
        table = c.table.copy()
        table.loc[0, ["separation", "shortfall_a"]] = math.inf, math.nan
        odd = Comparison(table.assign(a=table.a.replace("e0", "nan")),
                         c.encoders.assign(encoder=c.encoders.encoder.replace("e0", "nan")), c.info)
        odd.save(tmp_path)
        back = Comparison.load(tmp_path)
        pd.testing.assert_frame_equal(back.table, odd.table, check_dtype=False, check_exact=True)
        assert (back.info == c.info and back.names == ["nan", "e1", "e2", "e3"]
                and math.isinf(back.matrix("separation").loc["nan", "e1"]))
        assert len(json.loads((tmp_path/"comparison.json").read_text())["pairs"]) == 6
        (tmp_path/"comparison.csv").write_text("layer,a,b,cka\nfeatures,e0,e1,half\n")
        with pytest.raises(InputError, match="comparison.csv is damaged"): Comparison.load(tmp_path)

    def test_asked_for_what_is_not_there(self, four):
        c = compare(*four, measures=["cka"], progress=False)
        with pytest.raises(InputError, match="'rsa' was not taken; there is cka"): c.matrix("rsa")
        with pytest.raises(InputError, match="'head' was not compared; there is features"): c.matrix("cka", "head")

    def test_the_page_stands_alone(self, four, tmp_path):
        compare({"<b>one</b>": {"a.1": four[0]["e0"], "b": four[0]["e1"]},
                 "two": {"a.1": four[0]["e2"], "b": four[0]["e3"]},
                 "three": {"a.1": encoder(8)[0], "b": encoder(9)[0]}}, four[1], out=tmp_path, progress=False)
        page = (tmp_path/"report.html").read_text()
        assert page == comparison_html(Comparison.load(tmp_path)) and "<b>one</b>" not in page and "<script" not in page
        assert (not re.search(r"(src|href)=\"(?!data:|#|https://ncib)", page)
                and page.count("<img") == 2*(len(measures) + 1))
        ids = re.findall(r'id="layer-([\w-]+)"', page)
        assert len(ids) == 2 and all(f'class="of-layer of-{i}"' in page for i in ids)

    def test_figures_show_the_numbers(self, four):
        c = compare(*four, progress=False)
        ax = plot_comparison(c, "cka").axes[0]
        assert f"{c.matrix('cka').iloc[0, 1]:.2f}"[1:] in [t.get_text() for t in ax.texts]
        assert plot_comparison(c, "separation").axes[0].images[0].norm.__class__.__name__ == "LogNorm"
        many = pd.DataFrame(np.random.default_rng(0).uniform(size=(50, 50)), [f"n{i}" for i in range(50)],
                            [f"n{i}" for i in range(50)])
        assert not plot_matrices({"m": many}, "x").axes[0].texts
        with pytest.raises(InputError, match="lacks some"): plot_dendrogram({"m": many.where(many < .9)})


class TestCommand:
    def run(self, capsys, *args):
        status = cli.main(["compare", *map(str, args), "--quiet"])
        return status, *capsys.readouterr()

    def test_files(self, four, tmp_path, capsys):
        for n, v in four[0].items(): np.save(tmp_path/f"{n}.npy", v)
        np.save(tmp_path/"y.npy", four[1])
        files = [tmp_path/f"{n}.npy" for n in four[0]]
        status, out, err = self.run(capsys, *files, "--labels", tmp_path/"y.npy", "--out", tmp_path/"out", "--measures",
                                    "cka", "rsa", "--names", "p", "q", "r", "s")
        assert (status == 0 and "labels alone" in out
                and Comparison.load(tmp_path/"out").names == ["p", "q", "r", "s"]), err
        status, _, err = self.run(capsys, *files, "--labels", tmp_path/"none.npy", "--out", tmp_path/"out")
        assert status == 1 and "none.npy is no .npy file" in err
        status, _, err = self.run(capsys, *files, "--labels", tmp_path/"y.npy", "--out", tmp_path/"out", "--names", "p",
                                  "p")
        assert status == 1 and "--names must be 4 different names" in err

    def test_runs(self, short_pair, tmp_path, capsys):
        status, out, err = self.run(capsys, *(r.path for r in short_pair), "--out", tmp_path/"out", "--layers",
                                    "backbone", "--epoch", "0")
        assert status == 0 and (tmp_path/"out/report.html").is_file(), err
        status, _, err = self.run(capsys, *(r.path for r in short_pair), "--out", tmp_path/"out", "--epoch", "77")
        assert status == 1 and "no features of epoch 77" in err


def test_blocks_of_rows_say_what_all_rows_say(monkeypatch):
    "More numbers than `in_one_piece` are turned to float64 block by block: the same answers."
    x, labels = encoder(0, n=3000, d=24, k=6, dtype=np.float32)
    y, _ = encoder(1, n=3000, d=24, k=6, dtype=np.float32)
    x[:, 3] = 2.                                                                         # a dead column
    # and a mode with ρ = 1: known from the rows
    y = np.c_[y, x[:, :1]].astype(np.float32)
    def found():
        g = GaussianIB.fit(x, y[:, :24])
        t, *corners = g.pair_story(g.swapped(), labels, groups=5)
        return np.r_[GaussianIB.fit(x, y).excess, g.corner_shortfall(x, labels, groups=5).interval.low,
                     GaussianIB.fit_class_paired(x, y, labels).excess,
                     GaussianIB.fit(x, y, shrinkage="ledoit-wolf").excess, linear_cka(x, y), t.separation.value,
                     t.separation.low, *(c.nats for c in corners)]
    whole = found()
    monkeypatch.setattr(ncib.cca, "in_one_piece", 0)
    real = torch.Tensor.split
    # more than one block
    monkeypatch.setattr(torch.Tensor, "split", lambda t, rows,
                        *dim: real(t, min(rows, 700) if isinstance(rows, int) else rows, *dim))
    np.testing.assert_allclose(found(), whole, rtol=1e-6, atol=1e-12)
