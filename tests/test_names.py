"Whoever wrote against version 0.1.0 imports the same names today; those that were renamed warn, and name the new ones."
import importlib
import json
import re
import warnings
from pathlib import Path

import pytest

NAMES = json.loads(Path(__file__).with_name("names_0.1.0.json").read_text(encoding="utf-8"))     # module → its __all__


@pytest.mark.parametrize("module", NAMES)
def test_names_of_version_0_1_0_are_there(module):
    there = importlib.import_module(module)
    for name in NAMES[module]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            old = getattr(there, name)
        for message in (str(w.message) for w in caught if issubclass(w.category, DeprecationWarning)):
            new = re.fullmatch(rf"{module}\.{name} is now (ncib\.\w+)\.(\w+)", message)
            assert new, message
            assert getattr(importlib.import_module(new[1]), new[2]) is old
