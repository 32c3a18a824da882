"The worked examples of CONTRIBUTING.md run as they stand, and its map names what is there."
import re

import pytest
import torch

from ncib.cli import main
from sync import ROOT

TEXT = (ROOT/"CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"(?ms)^### (.+?)$.*?^```python\n(.*?)^```$", TEXT)


def test_there_are_four_and_they_are_short():
    assert [title for title, _ in EXAMPLES] == ["A new metric", "A new loss", "A new backbone", "A new figure"]
    assert all(len(code.splitlines()) <= 15 for _, code in EXAMPLES)


def test_they_run_in_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for title, code in EXAMPLES: exec(compile(code, title, "exec"), space)
    command = re.search(r"`ncib (train --backbone mynet.py:perceptron [^`]+)`", TEXT)[1].split()
    assert main([*command, "--epochs", "1", "--train-size", "200", "--device", "cpu", "--quiet"]) == 0
    assert (tmp_path/"runs/mine/config.json").is_file()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:nbs|tests|tools)/[\w./]+\.\w+)`", TEXT))))
def test_what_it_names_is_there(name): assert (ROOT/name).is_file()
