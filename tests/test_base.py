"What needs no torch, and what core hands on of it."
import importlib

import pytest

import ncib.base
import ncib.core

OLD = [("core", "ranks", "rank_and_size"), ("core", "processes", "process_device"), ("stats", "double", "as_float64")]


def test_core_hands_on_every_public_name():
    assert all(getattr(ncib.core, name) is getattr(ncib.base, name) for name in ncib.base.__all__)


@pytest.mark.parametrize("module, old, new", OLD)
def test_an_old_name_gives_the_new_one_and_warns_where_it_was_used(module, old, new):
    m = importlib.import_module(f"ncib.{module}")
    with pytest.warns(DeprecationWarning, match=f"ncib.{module}.{old} is now ncib.{module}.{new}") as seen:
        assert getattr(m, old) is getattr(m, new)
    assert seen[0].filename == __file__
    with pytest.warns(DeprecationWarning): exec(f"from ncib.{module} import {old}")
    with pytest.raises(ImportError, match="cannot import name 'nothing'"): exec(f"from ncib.{module} import nothing")
