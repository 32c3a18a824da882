"Short digits trainings that several test files share."
import dataclasses

import pytest

from ncib.timeline import analyze
from ncib.train import TrainConfig, train

SHORT = TrainConfig(epochs=3, checkpoints=3, device="cpu")


@pytest.fixture(scope="session")
def short_pair(tmp_path_factory):
    "Two encoders after three epochs."
    root = tmp_path_factory.mktemp("pair")
    return [train(dataclasses.replace(SHORT, seed=s), root/str(s), progress=False) for s in (0, 1)]


@pytest.fixture(scope="session")
def short_timeline(short_pair): return analyze(*short_pair, progress=False)
