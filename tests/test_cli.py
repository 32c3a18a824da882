"The command line as a user meets it: one line and a non-zero exit for what cannot be used, and nothing overwritten."
import json
import subprocess
import sys
from unittest.mock import patch

import numpy as np
import pytest

from ncib import pages
from ncib.cli import main, parser


def run(capsys, *argv):
    try: status = main([str(a) for a in argv])
    except SystemExit as e: status = e.code
    out, err = capsys.readouterr()
    return status, out, err


def snapshot(root): return {p.relative_to(root): p.read_bytes() if p.is_file() else None for p in root.rglob("*")}


@pytest.mark.parametrize("command", [[], ["train"], ["features"], ["analyze"], ["report"], ["demo"], ["sweep"],
                                     ["compare"], ["lab"], ["doctor"]])
def test_help(capsys, command):
    status, out, _ = run(capsys, *command, "--help")
    assert status == 0 and "usage: ncib" in out
    if command in (["train"], ["demo"]): assert "(default: 60)" in out and "(default: 0.1)" in out


def test_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "ncib.cli", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("ncib ")


def write_npz(path, **change):
    np.savez(path, **({"images": np.zeros((8, 8, 8, 1), np.uint8), "labels": np.arange(8) % 2} | change))


@pytest.mark.parametrize("argv, message", [
    ("train --out {d}/r --data {d}/missing", "neither one of digits"),
    ("train --out {d}/r --data {d}/missing.npz", "no such file"),
    ("train --out {d}/r --data {d}/empty", "holds neither"),
    ("train --out {d}/r --data {d}/range.npz", "got max 7"),
    ("train --out {d}/r --data {d}/nan.npz", "NaN or infinity"),
    ("train --out {d}/r --data {d}/one.npz", "at least 2 classes, got 1"),
    ("train --out {d}/r --data {d}/hole.npz", "no images of class"),
    ("train --out {d}/r --label-noise 2", "label_noise must be in [0, 1], got 2.0"),
    ("train --out {d}/r --temperature 0", "temperature must be positive"),
    ("train --out {d}/r --device cuda:77", "is not available"),
    ("train --out {d}/file", "exists and is not a directory"),
    ("train --out {d}/full", "not empty and not a run directory"),
    ("train --out /proc/nope/r", "cannot write to"),
    ("analyze {d}/r {d}/s --out {d}/t", "no such run directory"),
    ("analyze {d}/full {d}/full --out {d}/t", "no config.json"),
    ("report {d}/full", "holds no analysis"),
    ("report {d}/nowhere", "holds no analysis"),
    ("report {d}/file", "holds no analysis"),
    ("lab --notebooks {d}/nowhere", "no notebooks in"),
])
def test_wrong_input(capsys, tmp_path, argv, message):
    d = tmp_path
    (d/"empty").mkdir(); (d/"full").mkdir(); (d/"full/notes.txt").write_text("mine"); (d/"file").write_text("x")
    write_npz(d/"range.npz", labels=np.arange(8), classes=np.array(["a", "b"]))
    write_npz(d/"nan.npz", images=np.full((8, 8, 8, 1), np.nan)); write_npz(d/"one.npz", labels=np.zeros(8, int))
    write_npz(d/"hole.npz", labels=2*(np.arange(8) % 2))
    before = snapshot(d)
    status, out, err = run(capsys, *argv.format(d=d).split())
    assert status == 1 and message in err and len(err.strip().splitlines()) == 1 and not out
    assert snapshot(d) == before


def test_unknown_option_and_choice(capsys, tmp_path):
    assert run(capsys, "train", "--out", tmp_path/"r", "--backbone", "vgg")[0] == 2
    assert run(capsys, "train", "--out", tmp_path/"r", "--epochs", "many")[0] == 2
    status, _, err = run(capsys, "train", "--out", tmp_path/"r", "--epoch", "2")
    assert status == 2 and "no option --epoch (did you mean --epochs?)" in err                # not taken for --epochs
    assert run(capsys)[0] == 2 and not list(tmp_path.iterdir())


def test_a_run_of_another_configuration(capsys, short_pair):
    before = snapshot(short_pair[0].path)
    status, _, err = run(capsys, "train", "--out", short_pair[0].path, "--epochs", 5, "--checkpoints", 3, "--device",
                         "cpu")
    assert status == 1 and "another configuration: epochs is 3, asked for 5" in err
    assert snapshot(short_pair[0].path) == before


def test_analyze_and_report(capsys, short_pair, tmp_path):
    status, out, err = run(capsys, "analyze", *(r.path for r in short_pair), "--out", tmp_path/"pair", "--quiet")
    assert status == 0 and "Test accuracy ends at" in out and not err
    assert ((tmp_path/"pair/timeline.csv").read_text().count("\n") == 5
            and json.loads((tmp_path/"pair/summary.json").read_text())["num_classes"] == 10)
    status, out, _ = run(capsys, "report", tmp_path/"pair", "--out", tmp_path/"page.html")
    assert status == 0 and "What was found" in (tmp_path/"page.html").read_text()
    status, _, err = run(capsys, "report", tmp_path/"pair", "--out", "/proc/nope/page.html")
    assert status == 1 and "cannot write" in err and len(err.strip().splitlines()) == 1


def test_a_report_by_superclasses(capsys, short_pair, tmp_path):
    run(capsys, "analyze", *(r.path for r in short_pair), "--out", tmp_path/"pair", "--quiet")
    seen, real = [], pages.checkpoint_frames
    def frames(*args, **options): seen.append(real(*args, **options)); return seen[-1]
    (tmp_path/"groups.txt").write_text("round\nstraight\n\n" + "round\n"*8)
    with patch.object(pages, "checkpoint_frames", frames):
        status, _, _ = run(capsys, "report", tmp_path/"pair", "--superclasses", tmp_path/"groups.txt")
    assert status == 0 and all(f.superclasses.names == ["round", "straight"] for f in seen) and seen
    assert seen[0].superclasses.of.tolist() == [0, 1] + 8*[0]
    before = (tmp_path/"pair/report.html").read_bytes()
    (tmp_path/"few.txt").write_text("round\n")
    for file, words in (("few.txt", "superclasses must be one name for each of the 10 classes, got 1"),
                        ("none.txt", "none.txt cannot be read")):
        status, _, err = run(capsys, "report", tmp_path/"pair", "--superclasses", tmp_path/file)
        assert status == 1 and words in err and len(err.strip().splitlines()) == 1
    assert (tmp_path/"pair/report.html").read_bytes() == before


def test_every_option_of_train_is_a_field():
    from dataclasses import fields

    from ncib.cli import _config
    from ncib.train import TrainConfig, recipe
    parse = lambda *more: _config(parser().parse_args(["train", "--out", "x", *more]))
    assert parse() == TrainConfig()
    for f in fields(TrainConfig):
        name, value = ("--" + f.name.replace("_", "-"), f.metadata["choices"][-1] if f.metadata["choices"]
                       else {int: 3, float: .5}.get(type(f.default), "digits"))
        if f.default is None: value = 3
        if isinstance(f.default, bool):
            assert getattr(parse(name), f.name) is True and getattr(parse("--no-" + name[2:]), f.name) is False
        else: assert getattr(parse(name, str(value)), f.name) == value
    assert parse("--recipe", "supcon-cifar", "--epochs", "7", "--no-nesterov") == recipe("supcon-cifar", epochs=7)


def test_features_of_another_data_set(capsys, short_pair, tmp_path):
    from ncib.data import load_images
    from ncib.runs import Run
    d = load_images("digits")
    np.savez(tmp_path/"x.npz", images=d.test[:200, 0].numpy(), labels=d.test_labels[:200].numpy())
    status, out, err = run(capsys, "features", "--run", short_pair[0].path, "--data", tmp_path/"x.npz", "--out",
                           tmp_path/"f", "--device", "cpu", "--quiet")
    assert status == 0 and not err and Run(tmp_path/"f").epochs == short_pair[0].epochs
    np.savez(tmp_path/"c.npz", images=np.zeros((8, 8, 8, 3), np.uint8), labels=np.arange(8) % 2)
    status, _, err = run(capsys, "features", "--run", short_pair[0].path, "--data", tmp_path/"c.npz", "--out",
                         tmp_path/"g", "--device", "cpu", "--quiet")
    assert status == 1 and "has 3 channels" in err and not (tmp_path/"g").exists()


def test_sweep(capsys, tmp_path):
    status, out, err = run(capsys,
                           *"sweep --vary temperature 0.1 0.5 --epochs 1 --checkpoints 1 --train-size 200 --device cpu "
                            "--quiet --out".split(), tmp_path/"s")
    assert status == 0 and "final_test_accuracy" in out and (tmp_path/"s/sweep.csv").read_text().count("\n") == 3, err
    for more, message in ((["--vary", "hue", "1"], "'hue' is not an option"),
                          (["--vary", "lr", "fast"], "values must be float, got fast"),
                          (["--vary", "nesterov", "maybe"], "values must be true or false"),
                          (["--vary", "lr"], "must come once, with at least one value"),
                          (["--seeds", "1", "1"], "seeds must differ"),
                          (["--num-cpus", "2", "--num-gpus", "1"], "--num-cpus and --num-gpus must come with --ray")):
        status, _, err = run(capsys, "sweep", *more, "--out", tmp_path/"t", "--quiet")
        assert status == 1 and message in err and not (tmp_path/"t").exists(), err


def test_a_folder_as_it_is_found(capsys, tmp_path):
    """What the refusal names is an option of the command, and with it the run is made; its features are read the same
    way."""
    from PIL import Image
    for part in ("train", "test"):
        for k, name in enumerate(("ant", "bee")):
            (tmp_path/"in"/part/name).mkdir(parents=True)
            for i in range(6):
                Image.effect_noise((9 + i//3, 10), 60 + 60
                                   *k).convert(("L", "RGB", "RGBA")[i % 3]).save(tmp_path/"in"/part/name/f"{i}.png")
    (tmp_path/"in/train/ant/9.png").write_bytes(b"half")
    command = (f"train --data {tmp_path/'in'} --epochs 1 --checkpoints 1 --batch-size 6 --device cpu --quiet --out "
               f"{tmp_path/'r'}".split())
    for option, value in (("--colour", "grey"), ("--image-size", "8"), ("--skip-broken", None)):
        status, _, err = run(capsys, *command)
        assert status == 1 and option in err and not (tmp_path/"r").exists(), err
        command += [option] + [value]*(value is not None)
    with pytest.warns(UserWarning, match="1 unreadable image is left out: train/ant/9.png"):
        status, out, err = run(capsys, *command)
    assert status == 0 and json.loads((tmp_path/"r/config.json").read_text())["data"]["shape"] == [1, 8, 8], err
    with pytest.warns(UserWarning, match="1 unreadable image is left out"):
        status, _, err = run(capsys,
                             *f"features --run {tmp_path/'r'} --data {tmp_path/'in'} --image-size 8 --colour grey "
                              f"--skip-broken --device cpu --quiet --out {tmp_path/'f'}".split())
    assert status == 0 and (tmp_path/"f/features/epoch_0001.safetensors").is_file(), err
