"The house keeps its limits: what tools/structure.py, ruff and mypy say of it; its picture is what the imports give."
import json
import subprocess
import sys

import pytest
import torch
import yaml
from packaging.version import Version

import picture
import structure
from sync import ROOT


def test_the_structure_keeps_its_limits(capsys):
    assert not structure.main(), capsys.readouterr().out


def run(*command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_ruff_finds_no_mistake(): run("ruff", "check", "--no-cache", ".")


@pytest.mark.skipif(Version(torch.__version__) < Version("2.14"), reason="an older torch has other types")
def test_types_fit(): run("mypy")


def test_the_picture_is_what_the_imports_give():
    "python tools/structure.py --picture"
    assert picture.FILE.read_text(encoding="utf-8") == picture.house()
    page = json.loads(picture.PAGE.read_text(encoding="utf-8"))
    assert "".join(picture.shown(page)[0]["data"]["text/html"]) == picture.house()


def test_arrows_of_the_picture_stand_for_all_imports():
    "Whatever a section imports from can be reached by the arrows that are drawn, and none of them is superfluous."
    below = picture.section_imports()
    drawn = picture.direct(below)
    reach = lambda s, arrows: {b for a, b in arrows if a == s}.union(*(reach(b, arrows) for a, b in arrows if a == s))
    for s in below:
        assert below[s] <= reach(s, drawn)
        for one in drawn: assert one[0] != s or one[1] not in reach(s, [a for a in drawn if a != one])


def test_hooks_call_what_is_there():
    hooks = yaml.safe_load((ROOT/".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    for words in (h["entry"].split() for h in hooks):
        assert words[0] == ".venv/bin/python" and (words[1] == "-m" or (ROOT/words[1]).is_file())
