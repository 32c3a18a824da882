"""The site's renderer: every public name of the package can be shown, with its parameters and, where it says so, what
they are."""
import importlib
import inspect
import pkgutil

import pytest

import ncib
from show_api import Page

NAMES = [(m.name, name) for m in pkgutil.iter_modules(ncib.__path__)
         for name in getattr(importlib.import_module(f"ncib.{m.name}"), "__all__", ())]


@pytest.mark.parametrize("module", sorted({m for m, _ in NAMES}))
def test_every_public_name_can_be_shown(module):
    shown = 0
    for name in (n for m, n in NAMES if m == module):
        sym = getattr(importlib.import_module(f"ncib.{module}"), name)
        if not (inspect.isclass(sym) or inspect.isfunction(sym)): continue
        text = Page(sym)._repr_markdown_()
        assert f"### {name}" in text and "```python" in text
        shown += 1
    assert shown or module in ("beta_frames", "frames")


def test_a_library_that_is_loaded_late_is_named():
    from ncib.runs import Run
    assert "DataFrame" in Page(Run)._repr_markdown_()
