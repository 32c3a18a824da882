"The documentation, as far as it can be checked without Quarto: every notebook goes through nbdev's processing, every link leads somewhere."
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from check_sync import ROOT

pytest.importorskip("nbdev")
NOTEBOOKS = sorted(p for p in (ROOT/"nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def test_every_notebook_processes(tmp_path):
    "What `make docs` does before it calls Quarto: show the documentation of every public name, run the imports."
    tree = tmp_path/"ncib"
    for name in ("nbs", "ncib"): shutil.copytree(ROOT/name, tree/name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "runs"))
    for name in ("settings.ini", "pyproject.toml", "_quarto.yml", "README.md"): shutil.copy(ROOT/name, tree/name)
    subprocess.run(["git", "init", "-q", "."], cwd=tree, check=True)
    code = "from nbdev.quarto import refresh_quarto_yml; from nbdev.serve import proc_nbs; refresh_quarto_yml(); proc_nbs(n_workers=0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "imports and other code" not in done.stderr, done.stderr[-3000:]
    assert {p.relative_to(ROOT/"nbs") for p in NOTEBOOKS} <= {p.relative_to(tree/"_proc") for p in (tree/"_proc").rglob("*.ipynb")}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT/"nbs").as_posix())
def test_links_lead_somewhere(notebook):
    text = "\n".join(c.source for c in nbformat.read(notebook, 4).cells if c.cell_type == "markdown")
    missing = [link for link in re.findall(r"\]\((?!https?:|#)([^)\s#]+)", text) if not (notebook.parent/link).exists()]
    assert not missing


def test_links_of_the_readme():
    missing = [link for link in re.findall(r"\]\((?!https?:|#)([^)\s#]+)", (ROOT/"README.md").read_text()) if not (ROOT/link).exists()]
    assert not missing
