"ncib/ is what the notebooks export, README.md what index.ipynb gives, and nothing grew too large."
import pytest

from sync import ROOT, problems

pytest.importorskip("nbdev")


def test_notebooks_package_and_readme_agree(): assert problems() == []


def test_notebooks_stay_small():
    large = {p.name: p.stat().st_size for p in (ROOT/"nbs").rglob("*.ipynb") if p.stat().st_size > 1e6
             and ".ipynb_checkpoints" not in p.parts}
    assert not large
