"No change that is one of form may change a number."
import json
from pathlib import Path

import pytest

import golden


@pytest.fixture
def before(): return json.loads(Path(__file__).with_name("golden.json").read_text())


def test_every_number_is_what_it_was(before):
    assert not golden.differences(before, golden.of_seeded(), rtol=1e-9)


def test_a_difference_is_seen(before):
    name = next(k for k, v in before.items() if isinstance(v, float) and v > 0)
    assert golden.differences(before, before | {name: before[name]*(1 + 1e-8)}, rtol=1e-9)
    assert golden.differences(before, before | {name: float("nan")}, rtol=1e-9)
    assert golden.differences(before, {k: v for k, v in before.items() if k != name})
