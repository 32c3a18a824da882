"Arrays in, story out: the same numbers as from run directories, in every form and from files, and clear refusals."
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from ncib import explore, plots
from ncib.cli import main
from ncib.core import InputError, as_tensor
from ncib.pages import unpack_arrays
from ncib.report import report_html, write_report
from ncib.runs import ArrayRun, Run, array_runs, read_arrays, read_runs
from ncib.timeline import Timeline, analyze
from sync import ROOT

K, N, D = 5, 300, 12
LABELS = np.arange(N) % K


def encoder(seed, spread=.5, part=9, d=D):
    "Class means in random directions; of the spread within the classes one part is shared by all encoders."
    own, images = np.random.default_rng(seed), np.random.default_rng(part)
    means, mix = 2*own.normal(size=(K, d)), own.normal(size=(4, d))
    noise = np.random.default_rng([seed, part]).normal(size=(N, d))
    return (means[LABELS] + spread*(images.normal(size=(N, 4)) @ mix + noise)).astype(np.float32)


X, Y = encoder(1), encoder(2)


def table(*args, **kwargs): return analyze(*args, progress=False, **kwargs).table


def on_disk(path, checkpoints, head=None):
    run = Run.create(path, [str(c) for c in range(K)], {})
    for i, (train, test) in enumerate(checkpoints):
        run.save_features(i, train, LABELS, test, LABELS, *(head[i] if head else ()))
    return run


@pytest.fixture(scope="module")
def single(): return analyze(X, Y, LABELS, progress=False)


@pytest.fixture(scope="module")
def layered():
    "Two layers at three checkpoints, without training features."
    pair = [{"layer 3": [encoder(s, e) for e in (4, 2, .5)], "layer4.1": [encoder(s + 5, e, d=6) for e in (3, 1, .2)]}
            for s in (1, 2)]
    return analyze(*pair, LABELS, epochs=[1, 3, 9], classes=list("abcde"), progress=False)


def test_the_same_numbers_as_from_runs(tmp_path):
    "Train and test, backbone and head, two checkpoints."
    parts = {s: [(encoder(s, e, 8), encoder(s, e)) for e in (2, .5)] for s in (1, 2)}
    heads = {s: [(encoder(s + 5, e, 8, 6), encoder(s + 5, e, d=6)) for e in (2, .5)] for s in (1, 2)}
    runs = analyze(*(on_disk(tmp_path/str(s), parts[s], heads[s]) for s in (1, 2)), progress=False)
    take = lambda s, i: {"backbone": [c[i] for c in parts[s]], "head": [c[i] for c in heads[s]]}
    given = analyze(take(1, 1), take(2, 1), LABELS, train=(take(1, 0), take(2, 0), LABELS), epochs=[0, 1],
                    progress=False)
    pd.testing.assert_frame_equal(given.table, runs.table)
    assert given.verdict() == runs.verdict() and given.parts == runs.parts == ["train", "test"] and runs.runs is None
    # NaN is itself there
    plain = lambda t: repr({k: v for k, v in t.summary().items() if k not in ("runs", "head")})
    assert plain(given) == plain(runs) and plain(given.of("head")) == plain(runs.of("head"))


def test_a_run_still_takes_its_layer_in_third_place(short_pair):
    assert analyze(*short_pair, "head", False, "cpu", False).layers == ["head"]
    assert analyze(run_a=short_pair[0], run_b=short_pair[1], layer="backbone", progress=False).layers == ["backbone"]


@pytest.mark.parametrize("kind", ["torch", "float64", "memmap", "checkpoint", "dictionary", "keyword",
                                  "list of checkpoints of layers"])
def test_every_form_gives_the_same(single, tmp_path, kind):
    np.save(tmp_path/"x.npy", X)
    mapped = np.load(tmp_path/"x.npy", mmap_mode="r")
    args, options = {"torch": ((torch.tensor(X), torch.tensor(Y), torch.tensor(LABELS)), {}),
                     "float64": ((X.astype(np.float64), Y, LABELS.tolist()), {}), "memmap": ((mapped, Y, LABELS), {}),
                     "checkpoint": (([X], [Y], LABELS), {}),
                     "dictionary": (({"features": X}, {"features": Y}, LABELS), {}),
                     "keyword": ((X, Y), {"labels": LABELS}),
                     "list of checkpoints of layers": (([{"features": X}], [{"features": Y}], LABELS), {})}[kind]
    with warnings.catch_warnings():
        # torch warns of arrays that cannot be written to, once in a process
        warnings.simplefilter("error", UserWarning)
        found = table(*args, **options)
    pd.testing.assert_frame_equal(found, single.table, rtol=1e-6 if kind == "float64" else 1e-9)
    assert (mapped == X).all()


def test_a_mapped_array_is_not_copied(tmp_path):
    np.save(tmp_path/"x.npy", X)
    mapped = np.load(tmp_path/"x.npy", mmap_mode="r")
    t = array_runs(mapped, Y, LABELS)[0].features(1).part("test", "features")[0]
    assert t.data_ptr() == mapped.__array_interface__["data"][0] == as_tensor(mapped).data_ptr()


def test_only_the_given_features(single):
    "No column speaks of training features, and nothing else does either."
    assert (single.parts == ["test"] and not [c for c in single.table if "train" in c]
            and not [k for k in single.summary() if "train" in k and k != "training_features"])
    words = " ".join(single.verdict())
    assert (words.startswith("No training features were given") and "The given features are" in words
            and "Training features" not in words and "test images" not in words
            and "There is only one checkpoint:" in words)
    assert (single.short_table().columns[:3].tolist() == ["epoch", "held-out accuracy", "NC1"]
            and "held-out accuracy" in repr(single))
    assert single.summary()["nc1_last"] == single.mean("test_nc1")[0]


def test_held_out_accuracy_is_held_out():
    """Random labels in so many dimensions that a probe can learn them all: what it was fitted to would be right, what
    it has not seen is right by chance."""
    generator = np.random.default_rng(0)
    x, y, labels = (generator.normal(size=(400, 150)), generator.normal(size=(400, 150)),
                    generator.permutation(np.arange(400) % 2))
    row = table(x, y, labels).iloc[0]
    for name in ("test_accuracy_a", "test_ncc_accuracy_b"):
        assert abs(row[name] - .5) < .1                      # 4 standard deviations
    assert row["test_accuracy_a"] != row["test_accuracy_b"]


def test_layers_and_checkpoints(layered):
    assert (layered.layers == ["layer 3", "layer4.1"] and layered.epochs.tolist() == [1, 3, 9]
            and layered.info["classes"] == list("abcde"))
    alone = analyze([encoder(6, e, d=6) for e in (3, 1, .2)], [encoder(7, e, d=6) for e in (3, 1, .2)], LABELS,
                    epochs=[1, 3, 9], progress=False)
    pd.testing.assert_frame_equal(layered.of("layer4.1").table, alone.table)
    assert all(torch.equal(v, w) for a, b in zip(layered.of("layer4.1").arrays, alone.arrays)
               for v, w in zip(a.values(), b.values(), strict=True))
    assert layered.of("layer4.1").transitions().excess.tolist() == alone.transitions().excess.tolist()
    words = " ".join(layered.verdict())
    assert ("The given features of layer 3 " in words and "On the given images, in layer4.1, at the end:" in words
            and "at epoch 1" in words)
    assert layered.summary()["other_layers"]["layer4.1"]["nc1_last"] == alone.summary()["nc1_last"]
    only = table({"a": X, "b": encoder(3)}, {"a": Y, "b": encoder(4)}, labels=LABELS, layer="b")
    pd.testing.assert_frame_equal(only, table(encoder(3), encoder(4), LABELS))


def test_numbers_are_not_taken_for_epochs():
    words = " ".join(analyze([encoder(1, 4), X], [encoder(2, 4), Y], LABELS, progress=False).verdict())
    assert "at the first checkpoint" in words and "before training" not in words
    assert "before training" in " ".join(analyze([encoder(1, 4), X], [encoder(2, 4), Y], LABELS, epochs=[0, 5],
                                                 progress=False).verdict())


def test_saved_and_loaded(layered, tmp_path):
    layered.save(tmp_path/"out")
    again = Timeline.load(tmp_path/"out")
    pd.testing.assert_frame_equal(again.table, layered.table)
    assert (repr(again.summary()) == repr(layered.summary()) and again.verdict() == layered.verdict()
            and again.info["runs"] == ["x", "y"])
    page = report_html(again)
    assert ("explorer is left out: the features are not there: they were given as arrays" in page
            and "<p>Arrays" not in page)
    assert not list(tmp_path.glob("x*")) and not list(ROOT.glob("cache"))


def test_report_and_figures(layered, single, tmp_path):
    page = write_report(layered, tmp_path/"r.html").read_text(encoding="utf-8")
    assert ("left out" not in page and page.count("mountPage(document") == 1 and "Arrays: x and y." in page
            and "No training features were given" in page)
    assert "K = 5 classes (layer 3 and layer4.1 features), at 3 checkpoints up to epoch 9" in page
    shown = re.findall(r'id="layer-(\d)" value="([^"]+)"(?: checked)?> ([^<]+)<', page)
    assert (shown == [("1", "layer 3", "layer 3"), ("2", "layer4.1", "layer4.1")]
            and '"layers": ["layer 3", "layer4.1"]' in page
            and "body:has(#layer-1:checked) .of-layer:not(.of-1){display:none}" in page
            and 'class="of-layer of-2"' in page)
    page = report_html(single)
    assert "K = 5 classes, at 1 checkpoint." in page and "fieldset" not in page.split("<script")[0]
    for t in (single, layered.of("layer4.1")):
        for name in ("plot_accuracy", "plot_collapse", "plot_cosines", "plot_transitions", "plot_information",
                     "plot_gap", "plot_shortfall", "plot_sensitivity"):
            assert getattr(plots, name)(t).axes
    assert [line.get_label() for line in plots.plot_collapse(single).axes[0].lines] == ["given features"]


def test_explorers(layered, single):
    e = explore.CheckpointExplorer(layered, progress=False)
    assert (not e.error and e.layers == ["layer 3", "layer4.1"] and e.layer == "layer 3" and e.figure().axes
            and e.features_0 and not e.features_1)
    first = e.table
    e.layer = "layer4.1"
    assert (not e.status and not e.table.equals(first) and e._name().endswith("layer4.1")
            and unpack_arrays(e.features_1)[0][0]["layer"] == "layer4.1")
    e.classes = [0, 1, 2]
    assert not e.status
    e = explore.CheckpointExplorer(single, progress=False)
    e.layer = "head"
    assert e.status == "Layer must be one of features, got 'head', which was not recorded." and e.layer == "features"
    e.part = "train"
    with pytest.raises(InputError, match="no training features were given"): e.figure()
    assert not explore.CheckpointExplorer(*array_runs(X, Y, LABELS), progress=False).error
    s = explore.BetaSweep(layered.of("layer4.1"), progress=False)
    assert (not s.error and s.frames.info["epochs"] == [1, 3, 9] and s.layer == "layer4.1"
            and s.layers == ["layer 3", "layer4.1"])
    assert "no train features" in explore.BetaSweep(single, part="train", progress=False).error.lower()


def test_any_number_of_layers_of_any_names():
    "Also names that an explorer has for something else, and that HTML and a model's events would take apart."
    names = ["epoch", "features_0", "the <last> layer", "head_copula", "layers"]
    t = analyze(*({name: encoder(s + 5*i, 2) for i, name in enumerate(names)} for s in (1, 2)), LABELS, progress=False)
    for w in (explore.CheckpointExplorer(t, progress=False, layer=names[2]),
              explore.BetaSweep(t, progress=False, layer=names[2])):
        assert not w.error and w.layers == names and w.layer == names[2] and w.epoch == 1
        for i, name in enumerate(names):
            w.layer = name
            assert not w.status and unpack_arrays(getattr(w, f"features_{i}"))[0][0]["layer"] == name
        assert (w.figure().axes and [f'"features_{i}":' in w.html(20, picture=False, layers=["layers", "epoch"])
                                     for i in range(5)] == [True, False, False, False, True])
    page = report_html(t)
    assert (page.count("mountPage(document") == 1 and 'value="the &lt;last&gt; layer"' in page
            and "the <last> layer<" not in page and all(f'"features_{i}":' in page for i in range(5)))
    assert explore.compare(t, analyze({"a": X, "layers": X}, {"a": Y, "layers": Y}, LABELS, progress=False),
                           progress=False).layers == ["layers"]
    assert "must have a layer in common, got epoch, " in explore.compare(
        t, analyze({"a": X}, {"a": Y}, LABELS, progress=False), progress=False).error


def with_nan():
    x = X.copy()
    x[7, 3] = np.nan
    return x


@pytest.mark.parametrize("args, options, message", [
    ((X, Y[:-1], LABELS), {},
     "x and y must have as many rows as each other, the same images in the same order, got 300 and 299"),
    ((X, Y, LABELS[:-1]), {}, "labels must have one entry per row: wanted 300, got 299"),
    ((X, Y), {}, "labels must be given along with arrays: (n,) integers, one for each row, got None"),
    ((X, Y, LABELS.astype(float)), {}, "labels must be integers, got float64"),
    ((X, Y, np.array(list("abcde"))[LABELS]), {}, "labels must be integers, got str32"),
    ((X, Y, LABELS - 1), {}, "got min -1"),
    ((X, Y, LABELS*2), {},
     "labels must hold at least 2 of each class in [0, 9), got fewer of 4 classes, 1 the first; np.unique(labels, "
     "return_inverse=True)[1]"),
    ((X, Y, np.r_[LABELS[:-1], 5]), {}, "got fewer of class 5"),
    ((X, Y, LABELS*0), {}, "labels must hold at least two classes, got 1"),
    ((X, Y, LABELS), {"classes": list("abcd")}, "labels must be (n,) integers in [0, 4), got max 4"),
    ((with_nan(), Y, LABELS), {}, "x must be finite, got NaN or infinity in 1 of 300 rows (first: row 7)"),
    (([X, with_nan()], [Y, Y], LABELS), {}, "x[1] must be finite"),
    (({"a": X, "b": X}, {"a": Y, "b": with_nan()}, LABELS), {}, "y['b'] must be finite"),
    ((X[:, 0], Y, LABELS), {}, "x must be (n, d), got shape (300,)"),
    ((X, Y[None], LABELS), {}, "y must be (n, d), got shape (1, 300, 12)"),
    ((X, None, LABELS), {}, "y must be a NumPy array or a torch tensor of floats, got NoneType"),
    ((X.astype(int), Y, LABELS), {}, "x must be floating point, got int64"),
    (([X, X], [Y], LABELS), {}, "x and y must have as many checkpoints as each other, got 2 and 1"),
    (({"a": [X, X], "b": [X]}, {"a": [Y, Y], "b": [Y, Y]}, LABELS), {},
     "x must have as many checkpoints in every layer, got 2 of a, 1 of b"),
    (([X, X[:-1]], [Y, Y], LABELS), {}, "x[0] and x[1] must have as many rows as each other"),
    (({"backbone": X, "head": X}, {"backbone": Y}, LABELS), {},
     "x and y must have the same layers, got backbone and head, and backbone"),
    (([{"a": X}, {"b": X}], [{"a": Y}, {"a": Y}], LABELS), {}, "x[1] must have the layers of x[0], a, got b"),
    (({"a": {"b": X}}, {"a": {"b": Y}}, LABELS), {}, "got dictionaries inside it"),
    (({"test_a": X}, {"test_a": Y}, LABELS), {}, "a layer must have a name without the words train and test"),
    (({}, {}, LABELS), {}, "x must have at least one layer"),
    (([X, X], [Y, Y], LABELS), {"epochs": [3]},
     "epochs must be ascending integers, one for each of 2 checkpoints, got [3]"),
    (([X, X], [Y, Y], LABELS), {"epochs": [3, 1]}, "got [3, 1]"),
    (([X, X], [Y, Y], LABELS), {"epochs": [1, 1.5]}, "got [1, 1.5]"),
    (([X, X], [Y, Y], LABELS), {"epochs": ["a", "b"]}, "got ['a', 'b']"),
    ((X, Y, LABELS), {"train": (X, Y)}, "train must be (x, y, labels) of the training images, got 2 values"),
    ((X, Y, LABELS), {"train": (X, Y, LABELS[:-1])}, "train labels must have one entry per row: wanted 300, got 299"),
    ((X, Y, LABELS), {"train": (X, Y, LABELS*0)},
     "train labels must hold at least 1 of each class in [0, 5), got fewer of 4 classes, 1 the first"),
    ((X, Y, LABELS), {"train": (X[:, 1:], Y, LABELS)}, "train x must be (n, 12) as x is, got (300, 11)"),
    ((X, Y, LABELS), {"train": ([X, X], [Y, Y], LABELS)}, "train x must have as many checkpoints as x, got 2 and 1"),
    ((X, Y, LABELS), {"train": ({"head": X}, {"head": Y}, LABELS)},
     "train x must have the layers of x, features, got head"),
    ((X[:12], Y[:12], LABELS[:12]), {}, "x must have at least 20 rows"),
    ((X, X, LABELS), {}, "x and y hold the same features at epoch 1"),
    ((X, "runs/b", LABELS), {}, "a pair must be two runs or two arrays, got ndarray and str"),
    (("runs/a", "runs/b"), {"labels": LABELS, "epochs": [1]}, "labels and epochs must be left out with runs"),
])
def test_refusals(args, options, message):
    with pytest.raises(InputError) as e: analyze(*args, progress=False, **options)
    assert message in str(e.value), e.value


@pytest.mark.parametrize("ask", [lambda t: t.mean("train_nc1"), lambda t: t.all_transitions_epoch("train"),
                                 lambda t: t.clear_transitions_epoch("train"), lambda t: t.transitions(part="train"),
                                 lambda t: plots.plot_cosines(t, "train"), lambda t: plots.plot_transitions(t, "train"),
                                 lambda t: plots.plot_information(t, "train")])
def test_training_features_that_were_not_given_are_not_told_of(single, ask):
    with pytest.raises(InputError, match="part must be test, got 'train'; no training features were given"): ask(single)


def test_one_checkpoint_shows_every_mode(single):
    "Where there is no line to draw there are marks."
    ax = plots.plot_transitions(single).axes[0]
    drawn = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert len(drawn) == D and all(line.get_marker() == "o" for line in drawn)
    assert any(line.get_label().startswith("chance") and len(line.get_xdata()) == 2 for line in ax.lines)


def test_layer_that_is_not_there():
    with pytest.raises(InputError, match="layer must be a, b or both, got 'head'"):
        table({"a": X, "b": Y}, {"a": Y, "b": X}, labels=LABELS, layer="head")


def test_a_run_of_arrays_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = array_runs(X, Y, LABELS)[0]
    for do in (lambda: run.save_features(1, X, LABELS, X, LABELS), lambda: run.write_log([]), run.encoder, run.locked):
        with pytest.raises(InputError, match="x is made of arrays"): do()
    assert isinstance(run, ArrayRun) and run.log().empty and not list(tmp_path.iterdir())


# ---- files and the command

@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in {"a": X, "b": Y, "a0": encoder(1, 4), "b0": encoder(2, 4), "labels": LABELS,
                        "short": LABELS[:-1]}.items():
        np.save(f"{name}.npy", value)
    return tmp_path


def run(capsys, line):
    try: status = main(line.split())
    except SystemExit as e: status = e.code
    out, err = capsys.readouterr()
    return status, out, err


def test_command(capsys, files, single):
    status, out, err = run(capsys, "analyze --features a.npy b.npy --labels labels.npy --quiet")
    assert (status, err) == (0, "") and all(s in out for s in single.verdict()) and "written" not in out
    assert {p.suffix for p in files.iterdir()} == {".npy"}
    status, out, err = run(capsys,
                           "analyze --features a0.npy b0.npy --features a.npy b.npy --epochs 0 9 --train-features "
                           "a0.npy b0.npy --train-features a.npy b.npy --train-labels labels.npy --labels labels.npy "
                           "--out out --report --quiet")
    assert (status, err) == (0, "") and "Training features" in out and "out/report.html" in out
    assert {p.name for p in (files/"out").iterdir()} == {"timeline.csv", "summary.json", "info.json",
                                                         "arrays.safetensors", "report.html"}
    assert ("Step through training" in (files/"out/report.html").read_text()
            and "left out" not in (files/"out/report.html").read_text())
    assert (Timeline.load("out").epochs.tolist() == [0, 9]
            and Timeline.load(files/"out").info["runs"] == ["a.npy", "b.npy"])
    assert run(capsys, "report out")[0] == 0
    assert (run(capsys, "analyze --features a.npy b.npy --labels labels.npy --report --quiet")[0] == 0
            and (files/"report.html").is_file())


@pytest.mark.parametrize("line, status, message", [
    ("a.npy missing.npy --labels labels.npy", 1, "missing.npy: no such file"),
    ("a.npy b.npy", 1, "--labels must be given: a.npy holds no labels"),
    ("a.npy b.npy --labels short.npy", 1, "labels must have one entry per row: wanted 300, got 299"),
    ("a.npy a.npy --labels labels.npy", 1, "a.npy was given twice"),
    ("a.npy labels.npy --labels labels.npy", 1, "labels.npy must be (n, d), got shape (300,)"),
    ("a.npy b.npy --labels labels.npy --layer head", 1, "layer must be features or both, got 'head'"),
    ("a.npy b.npy --labels labels.npy --train-features a0.npy b0.npy", 1, "--train-labels must be given"),
    ("a.npy b.npy --labels labels.npy --train-labels labels.npy", 1, "--train-labels must come with --train-features"),
    ("a.npy b.npy c.npy --labels labels.npy", 2, "not both"),
    ("a.npy --labels labels.npy", 2, "expected 2 arguments"),
])
def test_command_refuses(capsys, files, line, status, message):
    got, out, err = run(capsys, f"analyze --features {line} --quiet")
    assert got == status and message in err and not out


def test_runs_still_ask_for_both_and_a_place(capsys, files):
    for line, message in (("analyze a b", "required: --out"), ("analyze a --out t", "required: RUN_B"),
                          ("analyze a b --out t --labels labels.npy", "--labels goes with --features"),
                          ("analyze a b --features a.npy b.npy --labels labels.npy", "not both")):
        status, out, err = run(capsys, line)
        assert status == 2 and message in err and not (files/"t").exists()


def test_files_of_several_arrays(files, tmp_path):
    from safetensors.numpy import save_file
    ids = np.arange(N)
    np.savez("a.npz", layer3=encoder(3), layer4=X, labels=LABELS, ids=ids)
    save_file({"layer3": encoder(4), "layer4": Y, "labels": LABELS, "ids": ids}, "b.safetensors", {"format": "pt"})
    torch.save({"layer3": torch.tensor(encoder(4)), "layer4": torch.tensor(Y)}, "b.pt")
    expected = table({"layer3": encoder(3), "layer4": X}, {"layer3": encoder(4), "layer4": Y}, LABELS)
    for b in ("b.safetensors", "b.pt"):
        pd.testing.assert_frame_equal(analyze(*read_runs([("a.npz", b)]), progress=False).table, expected)
    torch.save(torch.tensor(Y), "one.pt")
    assert torch.equal(read_arrays("one.pt")["features"], torch.tensor(Y))
    for what, change in (("ids", {"ids": ids[::-1]}), ("labels", {"labels": (LABELS + 1) % K})):
        np.savez("c.npz", **{"layer3": encoder(4), "layer4": Y, "labels": LABELS, "ids": ids} | change)
        with pytest.raises(InputError,
                           match=f"a.npz and c.npz hold different images, or in another order: their {what} differ"):
            read_runs([("a.npz", "c.npz")])


def test_nothing_in_a_file_is_run(files):
    class Harm:
        def __reduce__(self): return (open, ("harm.txt", "w"))
    np.save("o.npy", np.array([Harm()], dtype=object), allow_pickle=True)
    np.savez("o.npz", features=np.array([Harm()], dtype=object))
    torch.save({"features": Harm()}, "o.pt")
    (files/"cut.npy").write_bytes((files/"a.npy").read_bytes()[:1000]); (files/"cut.npz").write_bytes(b"PK")
    (files/"cut.pt").write_bytes(b"x"); (files/"empty.npy").write_bytes(b""); (files/"x.csv").write_text("1,2")
    torch.save([1], "list.pt")
    for name in ("o.npy", "o.npz", "o.pt", "cut.npy", "cut.npz", "cut.pt", "empty.npy", "x.csv", "list.pt"):
        with pytest.raises(InputError, match=re.escape(name)): read_arrays(name)
    assert not (files/"harm.txt").exists()


@pytest.mark.parametrize("name, end", [("hole.npy", 130), ("hole.npz", None)])
def test_zeroed_bytes_are_told(files, name, end):
    "In the header of an array and anywhere in compressed ones: the file is named, or what was hit does not matter."
    np.save("hole.npy", X[:30]); np.savez_compressed("hole.npz", features=X[:30], labels=LABELS[:30])
    whole, told = (files/name).read_bytes(), 0
    starts = range(0, len(whole[:end]), max(1, len(whole[:end])//40))
    for start in starts:
        (files/name).write_bytes(whole[:start] + bytes(min(4, len(whole) - start)) + whole[start + 4:])
        try: read_arrays(name)
        except InputError as e: assert name in str(e); told += 1
    assert told > len(starts)/3


# ---- the README

def test_the_readme_runs_as_printed(tmp_path, monkeypatch, capsys):
    "The blocks of the Python section, one after the other and nothing else, print what stands below each."
    section = (ROOT/"README.md").read_text(encoding="utf-8").split("## In Python")[1]
    blocks = re.findall(r"```python\n(.*?)```\n\n((?:    [^\n]*\n| *\n)*)", section, re.S)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code, shown in blocks:
        exec(code, names)
        printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
        assert printed and printed == [line.strip() for line in shown.splitlines() if line.strip()]
    assert (tmp_path/"report.html").stat().st_size > 1e5


def test_a_run_asks_for_a_test_part(tmp_path):
    run = Run.create(tmp_path/"run", [str(c) for c in range(K)], {})
    with pytest.raises(InputError, match="features and labels of test images.*analyze"): run.save_features(0, X, LABELS)
    assert not run.epochs
