"A GPU node has no Jupyter: the package must import, and work, without it."
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1]/"ncib"
MODULES = sorted(p.stem for p in PACKAGE.glob("*.py") if not p.stem.startswith("_"))
NEED_JUPYTER = {"explore"}
BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ipywidgets", "IPython", "ipykernel", "jupyter", "jupyterlab", "jupyter_client",
                                  "jupyter_core", "nbdev", "fastcore", "execnb", "nbformat", "traitlets"}:
            raise ImportError(f"blocked: {name}")
sys.meta_path.insert(0, Blocked())
"""


def run(code): return subprocess.run([sys.executable, "-c", BLOCK + code], capture_output=True, text=True)


def test_the_block_blocks(): assert "blocked: ipywidgets" in run("import ipywidgets").stderr


def test_modules_import_without_jupyter():
    names = ["ncib"] + [f"ncib.{m}" for m in MODULES if m not in NEED_JUPYTER]
    done = run("import importlib\n" + "\n".join(f"importlib.import_module({n!r})" for n in names))
    assert done.returncode == 0, done.stderr[-2000:]


def test_importing_starts_nothing():
    "Torch's global generator is left as it was."
    done = run("import torch; before = torch.random.get_rng_state()\nimport ncib.cli\nassert torch.equal(before, "
               "torch.random.get_rng_state())")
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_only_from_below(module):
    "The order of the notebooks is the order of the imports."
    notebooks = sorted((PACKAGE.parent/"nbs/api").glob("[0-9]*.ipynb"))
    order = [p.stem.split("_", 1)[1] for p in notebooks]
    source = (PACKAGE/f"{module}.py").read_text()
    used = [m for m in order if f"from .{m} import" in source or f"from ncib.{m} import" in source]
    assert all(order.index(m) < order.index(module) for m in used), f"{module} imports {used}"
