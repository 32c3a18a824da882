"What needs no torch, and what core hands on of it."
import importlib

import pytest

import ncib.base
import ncib.core

OLD = [("core", "ranks", "core.rank_and_size"), ("core", "processes", "core.process_device"),
       ("stats", "double", "core.as_float64")]


def test_core_hands_on_every_public_name():
    assert all(getattr(ncib.core, name) is getattr(ncib.base, name) for name in ncib.base.__all__)


@pytest.mark.parametrize("module, old, new", OLD)
def test_an_old_name_gives_the_new_one_and_warns_where_it_was_used(module, old, new):
    m, (home, name) = importlib.import_module(f"ncib.{module}"), new.split(".")
    with pytest.warns(DeprecationWarning, match=f"ncib.{module}.{old} is now ncib.{new}") as seen:
        assert getattr(m, old) is getattr(importlib.import_module(f"ncib.{home}"), name)
    assert seen[0].filename == __file__
    with pytest.warns(DeprecationWarning): exec(f"from ncib.{module} import {old}")
    with pytest.raises(ImportError, match="cannot import name 'nothing'"): exec(f"from ncib.{module} import nothing")
