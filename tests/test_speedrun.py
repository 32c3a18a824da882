"The speed run: at a tiny scale it writes what it promises."
import importlib.util
import json
from pathlib import Path

import pytest
import torch

from ncib.data import load_images
from ncib.train import TrainConfig, recipe

spec = importlib.util.spec_from_file_location("speedrun", Path(__file__).parent.parent/"benchmarks/speedrun.py")
speedrun = importlib.util.module_from_spec(spec)
spec.loader.exec_module(speedrun)


def test_quick(tmp_path, capsys):
    figures = speedrun.main(["--quick", "--device", "cpu", "--recipe", "cifar10-2core", "--targets", ".2", "1.1",
                             "--lr", ".1", "--out", str(tmp_path/"x.json"), "--run", str(tmp_path/"run")])
    assert json.loads((tmp_path/"x.json").read_text()) == figures and (tmp_path/"run/config.json").is_file()
    assert (figures["config"]["lr"] == .1 and figures["config"]["backbone"] == "conv-narrow"
            and figures["about"]["torch"] == torch.__version__.split("+")[0])
    rows = figures["checkpoints"]
    assert ([r["epoch"] for r in rows] == [0, 1, 2, 3] and rows[0]["seconds"] == 0 < rows[1]["seconds"]
            < rows[3]["seconds"] == figures["seconds"] < figures["wall_seconds"])
    # an untrained network does better than chance
    assert figures["reached_seconds"] == {"0.2": 0., "1.1": None}
    assert figures["share_of_gemm"] == pytest.approx(3*figures["multiply_adds"]*figures["images_per_second"]
                                                     /figures["gemm_multiply_adds_per_second"])
    assert "110%: not reached" in capsys.readouterr().out


def test_minutes_shorten_the_training():
    config = recipe("cifar10-2core", **{**speedrun.QUICK, "epochs": 1000}, device="cpu")
    data = load_images("digits")
    few, more = (speedrun.epochs_that_fit(config, data, m) for m in (1e-9, .1))
    assert few == 1 < more < 1000


def test_multiply_adds_of_a_network_counted_by_hand():
    # 8×8, 4×4, 2×2 pixels
    light = 9*16*64 + 2*9*16*16*64 + (9*16*32 + 9*32*32 + 16*32)*16 + (9*32*64 + 9*64*64 + 32*64)*4
    assert speedrun.multiply_adds(TrainConfig(), (1, 8, 8)) == light + 64*64 + 64*128
