"""Quick to start and easy to find one's way: what loads what, help, suggestions, Ctrl-C, progress in a log, the main
names."""
import argparse
import contextlib
import io
import json
import os
import pydoc
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

import ncib
from ncib.base import ProgressLines, did_you_mean, tqdm
from ncib.cli import main, parser
from sync import ROOT
from test_imports import BLOCK, MODULES

COMMANDS = parser()._subparsers._group_actions[0].choices


def loaded(code: str) -> set[str]:
    "The modules that a fresh process has loaded after `code`; what it prints itself is thrown away."
    code = ("import contextlib, io, sys\nwith contextlib.redirect_stdout(io.StringIO()), "
            "contextlib.redirect_stderr(io.StringIO()):\n    " + code.replace("\n", "\n    ")
            + "\nprint(*sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stdout.split())


HEAVY = {"torch", "numpy", "scipy", "pandas", "matplotlib", "torchvision", "torchmetrics", "sklearn", "tqdm"}


# ---- what loads what

@pytest.mark.parametrize("line, status", [
    ("--help", 0), ("--version", 0), *((f"{c} --help", 0) for c in COMMANDS),
    ("", 2), ("trian", 2), ("--hlep", 2), ("train", 2), ("train --epoch 2 --out r", 2),
    ("train --backbone vgg --out r", 2), ("train --epochs many --out r", 2), ("analyze a b c --out r", 2),
    ("features --data digits --out r", 2),
    ("train --temperature 0 --out r", 1), ("train --out README.md", 1), ("demo --out README.md/x", 1),
    ("analyze nowhere nowhere --out r", 1), ("features nowhere --data digits --out r", 1), ("report nowhere", 1),
    ("sweep --vary lr fast --out r", 1), ("lab --notebooks nowhere", 1)])
def test_what_needs_no_torch_loads_none(line, status):
    "Nor anything else that is slow."
    code = (f"from ncib.cli import main\ntry: status = main({shlex.split(line)!r})\nexcept SystemExit as e: status = "
            f"e.code\nassert (status or 0) == {status}, status")
    assert not HEAVY & loaded(code)


def test_help_of_the_package_and_its_names_load_nothing():
    assert not HEAVY & loaded("import ncib\ndir(ncib), ncib.TrainConfig, ncib.InputError, ncib.config")


@pytest.mark.parametrize("module, without", [
    ("collapse", {"torchmetrics", "scipy", "pandas", "matplotlib", "torchvision", "sklearn"}),
    ("stats", {"torchmetrics", "scipy", "pandas", "matplotlib", "torchvision"}),
    ("losses", {"torchmetrics", "scipy", "pandas", "matplotlib", "torchvision"}),
    ("gib", {"torchmetrics", "scipy.stats", "scipy.signal", "pandas", "matplotlib"}),
    ("timeline", {"torchmetrics", "scipy.stats", "scipy.signal", "matplotlib"}),
    ("train", {"torchmetrics", "scipy.stats", "scipy.signal", "pandas", "matplotlib"})])
def test_a_module_loads_what_it_uses(module, without):
    found = loaded(f"import ncib.{module}")
    assert "torch" in found and not without & found


def test_the_metric_is_found_where_it_was():
    "In `ncib.collapse`, by import, by attribute, by pickle; what is not there is still an AttributeError."
    import pickle

    import ncib.collapse
    import ncib.metric
    from ncib.collapse import NeuralCollapse
    assert (NeuralCollapse is ncib.metric.NeuralCollapse is ncib.NeuralCollapse
            and "NeuralCollapse" in dir(ncib.collapse))
    assert pickle.loads(b"cncib.collapse\nNeuralCollapse\n.") is NeuralCollapse
    assert not hasattr(ncib.collapse, "NeuralColapse")


def test_options_name_the_networks_and_augmentations_that_there_are():
    "They are written down in config, which cannot look."
    from ncib.data import augmentations
    from ncib.nets import backbones
    choices = {f.name: f.metadata["choices"] for f in ncib.TrainConfig.__dataclass_fields__.values()}
    assert choices["backbone"] == tuple(backbones) and choices["augmentation"] == ("auto", *augmentations)


# ---- from Python

def test_main_names():
    """Each is there, is public in the module that defines it, is found by Tab and explained by help; none hides a
    module."""
    import importlib
    names = {n: m for m, listed in ncib._names.items() for n in listed}
    assert 10 <= len(names) <= 20 and not set(names) & set(MODULES)
    for name, module in names.items():
        home = importlib.import_module(f"ncib.{module}")
        assert getattr(ncib, name) is getattr(home, name)
        assert name in getattr(home, "__all__", []) or (module, name) == ("collapse", "NeuralCollapse")
        assert name in dir(ncib)
    listed = re.findall(r"(?m)^    (\w+(?:, \w+)*)   ", ncib.__doc__)
    assert sorted(", ".join(listed).split(", ")) == sorted(names)


def test_modules_are_attributes():
    for m in MODULES: assert getattr(ncib, m).__name__ == f"ncib.{m}"
    with pytest.raises(AttributeError, match="has no attribute 'colapse'"): getattr(ncib, "colapse")  # noqa: B009
    with pytest.raises(ImportError): from ncib import colapse  # noqa: F401, I001


def test_help_starts_with_how_to_start():
    page = pydoc.plain(pydoc.render_doc(ncib))
    start = page.split("DESCRIPTION")[1].strip().splitlines()
    assert start[0].strip() == "import ncib" and "print(ncib." in start[1] and "print(ncib." in start[2]


def test_the_start_runs():
    import torch
    lines = re.findall(r"(?m)^    (import ncib|print\(ncib\.[^#\n]*)", ncib.__doc__)
    assert len(lines) == 3
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec("\n".join(lines), {"features": x, "labels": torch.arange(60) % 3, "features_a": x,
                                "features_b": x + .1*x.flip(0)})
    assert "nc1" in out.getvalue().lower() and "GaussianIB" in out.getvalue()


def test_without_jupyter_the_widgets_are_not_offered():
    code = BLOCK.replace('"ipywidgets",',
                         '"ipywidgets", "anywidget",') + ("import importlib.util, ncib\nfind = "
                                                          "importlib.util.find_spec\nimportlib.util.find_spec = lambda "
                                                          "n: None if n == 'anywidget' else find(n)\nprint(*dir(ncib))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "GaussianIB" in done.stdout and "CheckpointExplorer" not in done.stdout, done.stderr


def test_export_keeps_the_start(tmp_path):
    "nbdev writes the version into `__init__.py`, and nothing else."
    config = pytest.importorskip("nbdev.config")
    text = (ROOT/"ncib/__init__.py").read_text(encoding="utf-8")
    assert (config._re_version.sub('__version__ = "9"', text)
            == text.replace(f'__version__ = "{ncib.__version__}"', '__version__ = "9"')
            and len(config._re_version.findall(text)) == 1)


# ---- the command line

def run(*argv):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: status = main([str(a) for a in argv])
        except SystemExit as e: status = e.code
    return status, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_is_one(name):
    p = COMMANDS[name]
    lines = [line.strip() for line in (p.epilog or "").splitlines()[1:]]
    assert p.epilog.startswith("example:") and lines and all(line.startswith(f"ncib {name}") for line in lines)
    for line in lines:
        args, more = parser().parse_known_args(shlex.split(line)[1:])
        assert args.command == name and (not more or name == "lab")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_in_phrases_and_folders_follow_the_rule(name):
    """Every argument is explained, no explanation begins with a lone preposition; what is written goes to --out, what
    is read has a place, and Ctrl-C has an answer."""
    actions = [a for a in COMMANDS[name]._actions if a.help != argparse.SUPPRESS]
    for a in actions:
        assert a.help and not re.match(r"(of|in|on|to|at|its) ", a.help.replace("its twin", "twin")), (a.dest, a.help)
    out = [a for a in actions if "--out" in a.option_strings]
    assert all(a.metavar == "DIR" for a in out)
    if out: assert COMMANDS[name].get_default("kept")


@pytest.mark.parametrize("line, message", [
    ("trian --out r", "ncib: there is no command 'trian' (did you mean train?)"),
    ("--versoin", "ncib: there is no option --versoin (did you mean --version?)"),
    ("train --out r --epoch=2", "ncib train: there is no option --epoch (did you mean --epochs?)"),
    ("train --out r --backbone resnet20",
     "--backbone must be one of light, resnet18, resnet34, resnet50, conv, conv-wide, conv-narrow, got 'resnet20' (did "
     "you mean resnet50?)"),
    ("train --out r --recipe dgits", "(did you mean digits?)"),
    ("train --out r --quartz 3", "ncib train: there is no option --quartz; see ncib train --help"),
    ("report a b", "ncib report: 'b' is one argument too many"),
    ("train --out r --epochs many", "argument --epochs: invalid int value: 'many'"),
    ("train", "ncib train: the following arguments are required: --out")])
def test_a_bad_option_is_one_line(line, message):
    status, out, err = run(*shlex.split(line))
    assert status == 2 and message in err and err.count("\n") == 1 and not out, err


def test_did_you_mean():
    assert (did_you_mean("tempature", ["temperature", "lr"]) == " (did you mean temperature?)"
            and did_you_mean("x", ["temperature"]) == "")


@pytest.mark.parametrize("argv", ["train --out {}", "features {d} --data digits --out {}", "analyze {d} {d} --out {}",
                                  "demo --out {}", "sweep --out {}"])
def test_out_is_a_folder_everywhere(tmp_path, argv):
    "A file in its way is refused in the same words before anything is done, also further up."
    (tmp_path/"file").write_text("x")
    for out, message in ((tmp_path/"file", "exists and is not a directory"),
                         (tmp_path/"file/sub", "is not a directory")):
        status, _, err = run(*argv.format(out, d=tmp_path).split())
        assert status == 1 and message in err and err.count("\n") == 1, err
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_report_goes_into_a_folder_or_a_page(short_timeline, tmp_path):
    short_timeline.save(tmp_path/"pair")
    for out, page in ((None, "pair/report.html"), ("pages", "pages/report.html"), ("one.html", "one.html")):
        status, text, err = run("report", tmp_path/"pair", *(() if out is None else ("--out", tmp_path/out)))
        assert status == 0 and str(tmp_path/page) in text and (tmp_path/page).is_file(), err


def test_doctor(monkeypatch):
    status, out, err = run("doctor")
    assert status == 0 and not err and f"ncib {ncib.__version__}" in out
    for line in ("torch ", "cpu: ", "cifar10: ", "this folder: "): assert re.search(rf"(?m)^  {line}", out), line
    monkeypatch.setattr("ncib.doctor.requires", lambda _: ["torch>=99", "no-such-package>=1", 'ray>=2; extra == "ray"'])
    status, out, err = run("doctor")
    assert status == 1 and "asked for >=99" in out and "no-such-package missing" in out and "ray" not in out
    assert err.count("\n") == 1 and "pip install 'torch>=99' 'no-such-package>=1'" in err


# ---- Ctrl-C

@pytest.mark.parametrize("line, function, message", [
    ("train --out {d}", "ncib.train.train", "{d} keeps what was saved; the same command goes on"),
    ("train --out {d}/new", "ncib.train.train", "nothing was written yet; give the same command again"),
    ("demo --out {d}", "ncib.train.train", "{d} keeps what was saved; the same command goes on"),
    ("sweep --out {d}", "ncib.sweep.sweep", "{d} keeps every finished run"),
    ("analyze {run} {run} --out {d}", "ncib.timeline.analyze", "no result was written"),
    ("features {run} --data digits --out {d}", "ncib.train.record_features",
     "{d} keeps what is finished; the same command does the rest"),
    ("features --model torchvision:resnet18 --data digits --out {d}", "ncib.encoders.encode_images",
     "{d} keeps what is finished; the same command does the rest"),
    ("compare {run} {run} --out {d}", "ncib.compare.compare", "{d} keeps the pairs that were measured"),
    ("report {d}", "ncib.timeline.Timeline.load", "no page was written"),
    ("doctor", "ncib.doctor.doctor", "interrupted")])
def test_ctrl_c_is_one_line(monkeypatch, short_pair, tmp_path, line, function, message):
    def killed(*_, **__): raise KeyboardInterrupt
    (tmp_path/"info.json").write_text("{}")
    monkeypatch.setattr(function, killed)
    words = dict(d=tmp_path, run=short_pair[0].path)
    status, _, err = run(*line.format(**words).split())
    assert status == 130 and message.format(**words) in err and err.count("\n") == 1, err


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_for_real(tmp_path):
    "A training that is stopped says so in one line below its progress, and the same command ends it."
    command = [sys.executable, "-m", "ncib.cli",
               *"train --epochs 40 --checkpoints 2 --train-size 200 --device cpu --out".split(), str(tmp_path/"r")]
    # what is started in the background may be deaf to Ctrl-C
    listening = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listening)
    log = tmp_path/"r/log.jsonl"
    deadline = time.monotonic() + 120
    while (process.poll() is None and time.monotonic() < deadline
           and not (log.is_file() and log.read_text().count("\n") >= 3)):
        time.sleep(.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and not out and "Traceback" not in err, err
    assert err.strip().splitlines()[-1] == (f"ncib train: interrupted: {tmp_path/'r'} keeps what was saved; the same "
                                            f"command goes on from its last saved epoch")
    assert json.loads(log.read_text().splitlines()[-1])["epoch"] < 40 and not list(tmp_path.rglob("*.tmp"))


# ---- progress where nothing can be redrawn

def test_a_log_gets_whole_lines(monkeypatch):
    "One at each tenth; one whenever ten seconds have passed; nothing is redrawn."
    now = [0.]
    monkeypatch.setattr("ncib.base.time.monotonic", lambda: now[0])
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        for _ in ProgressLines(range(1000), desc="fast"): now[0] += .001
    assert ("\r" not in err.getvalue()
            and err.getvalue().splitlines()
            == [f"fast: {100*i} of 1000, {now[0]*i/10:.0f} s"
                + (f", about {now[0]*(1 - i/10):.0f} s to go" if i < 10 else "") for i in range(1, 11)])
    err = io.StringIO()
    with contextlib.redirect_stderr(err), ProgressLines(total=3, initial=1, desc="slow", unit="epoch") as bar:
        bar.set_postfix({"loss": "3.2"}, refresh=False)
        for _ in range(2): now[0] += 3600.; bar.update()
    assert err.getvalue().splitlines() == ["slow: 2 of 3 epochs, 60 min, about 60 min to go, loss 3.2",
                                           "slow: 3 of 3 epochs, 2.0 h, loss 3.2"]
    err = io.StringIO()
    with contextlib.redirect_stderr(err), ProgressLines(total=100_000, desc="long") as bar:
        for _ in range(100): now[0] += 1; bar.update()
    # by the clock: no tenth is reached
    assert len(err.getvalue().splitlines()) == 10
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        for _ in ProgressLines(iter(range(7)), desc="unknown"): pass
        for _ in ProgressLines(range(100), disable=True): pass
    assert err.getvalue() == "unknown: 7, 0 s\n"


def test_the_bar_is_for_terminals(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self): return True
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    with contextlib.redirect_stderr(io.StringIO()): assert isinstance(tqdm(range(3)), ProgressLines)
    with contextlib.redirect_stderr(Terminal()) as t:
        for _ in (bar := tqdm(range(3), desc="x")): pass
        assert not isinstance(bar, ProgressLines) and "\r" in t.getvalue()
        assert isinstance(tqdm(range(3), disable=True), ProgressLines)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"base"}))
def test_progress_has_one_source(module):
    assert not re.search(r"(?m)^\s*(import|from) tqdm", (ROOT/f"ncib/{module}.py").read_text(encoding="utf-8"))


def test_commands_speak_in_lines(short_pair, tmp_path):
    "A log of an analysis holds no bar."
    status, _, err = run("analyze", *(r.path for r in short_pair), "--out", tmp_path/"t")
    assert status == 0 and "\r" not in err and err.splitlines()[-1].startswith("checkpoints: 4 of 4"), err
