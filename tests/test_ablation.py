"""The ablation: at a tiny scale it writes its table, goes on with what is missing, and gives every variant the same
time."""
import importlib.util
import sys
from pathlib import Path

import pandas as pd
import pytest

from ncib.config import TrainConfig, recipe
from ncib.data import load_images

BENCHMARKS = Path(__file__).parent.parent/"benchmarks"


@pytest.fixture(scope="module")
def ablation():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("ablation", BENCHMARKS/"ablation.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally: sys.path.remove(str(BENCHMARKS))


def test_quick_and_again(ablation, tmp_path, capsys):
    out = tmp_path/"table.csv"
    first = ablation.main(["--quick", "--variants", "recipe", "--out", str(out)])
    again = ablation.main(["--quick", "--variants", "recipe", "cross-entropy", "--out", str(out)])
    assert (list(first.variant) == ["recipe"] and list(again.variant) == ["recipe", "cross-entropy"]
            and again.iloc[0].equals(first.iloc[0]))
    assert pd.read_csv(out).equals(again) or pd.read_csv(out).astype(str).equals(again.astype(str))
    assert ((again.linear_probe_accuracy > .2) & (again.seconds > 0) & (again.epochs >= 1)).all()
    assert tuple(first.iloc[0][["epochs", "train_size"]]) == (2, len(load_images("digits").train)) # as long as itself
    assert capsys.readouterr().out.count("seed 0:") == 2                      # the first was not trained again
    about = dict(variant="recipe", seed=0, recipe_epochs=2, recipe="cifar10-2core", images=first["images"][0])
    assert ablation.there(again, **about) and not ablation.there(again, **about | {"recipe_epochs": 3})
    assert not ablation.there(again, **about | {"images": "sha256 0123456789ab"})
    with pytest.raises(SystemExit, match="has no column images"): ablation.there(again.drop(columns="images"), **about)


def test_every_variant_is_a_configuration(ablation):
    base = recipe("cifar10-2core")
    found = {name: ablation.varied(base, changes) for name, changes in ablation.VARIANTS.items()}
    assert found["recipe"] == base and found["half the learning rate"].lr == base.lr/2
    assert len(set(map(str, found.values()))) == len(found)                    # each of them changes something


def test_what_fits(ablation):
    data, passes = load_images("digits"), {(4, 4): 1., (8, 8): 4.}
    config = TrainConfig(epochs=10, start_scale=.5, grow_until=1.)
    assert ablation.training_seconds(config, data, passes) == pytest.approx(
        sum(1. if s < 7 else 4. for s in (4, 4, 4, 5, 5, 6, 6, 6, 7, 7)))
    assert ablation.that_fits(TrainConfig(batch_size=64), data, 10., {(8, 8): 4.}) == (3, int(len(data.train)*10/12))
    short = ablation.shortened(TrainConfig(epochs=60, ema_epochs=3.), 6)
    assert short == TrainConfig(epochs=6, ema_epochs=.3)


def test_precision_is_compared_with_float64(tmp_path):
    spec = importlib.util.spec_from_file_location("precision", BENCHMARKS/"precision.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(["--quick", "--out", str(tmp_path/"t.csv")])
    t = pd.read_csv(tmp_path/"t.csv").pivot(index="epoch", columns="precision", values="gradient error")
    assert t.shape == (3, 3) and (t["float32"] < 1e-4).all()
    assert (t["float32"] < t["bfloat16"]).all() and (t["bfloat16"] < t["another batch"]).all()
