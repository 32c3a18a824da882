"""The site's renderer: every public name of the package can be shown, with its parameters and, where it says so, what
they are."""
import importlib
import inspect
import pkgutil
from dataclasses import dataclass, field

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


@dataclass
class _Data:
    rows: int # how many there are

    @property
    def twice(self)->int:
        "Two of each."
        return 2*self.rows

    def _hidden(self): pass


class _Sums(_Data):
    def total(self, start: int=0, # where it begins
              )->int: # of the rows
        "The sum."
        return start + self.rows

    def again(self)->int:
        "Replaced above."
        return 0


@dataclass
class Layered(_Sums):
    "A class in three layers."
    columns: int # how wide it is
    kept: list = field(default_factory=list) # nothing at first

    def again(self)->int:
        "Once more."
        return 1


def test_a_class_in_layers_is_shown_as_one():
    "Fields, properties and methods of private bases, in their order; what is private or replaced is not shown."
    text = Page(Layered)._repr_markdown_()
    for wanted in ("A class in three layers.", "rows:int, # how many there are", "columns:int, # how wide it is",
                   "| `twice` | Two of each. |", "#### Layered.total", "start:int=0, # where it begins",
                   "#### Layered.again", "Once more."):
        assert wanted in text, text
    assert text.index("Layered.total") < text.index("Layered.again")
    assert not any(hidden in text for hidden in ("Replaced above", "_hidden", "_Sums.", "_Data"))
