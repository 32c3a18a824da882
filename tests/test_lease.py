"Some minutes of a GPU, planned: the whole way at a tiny scale on the CPU, the end of the time, and going on later."
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile

import pandas as pd
import pytest
import torch

from sync import ROOT

sys.path.insert(0, str(ROOT/"experiments"))
import beside
import lease
from ncib.core import InputError
from ncib.runs import load_tensors
from test_experiments import check_results

STEPS = ["environment", "correctness", "main", "features", "controls", "cifar100", "loss", "throughput", "algebra"]


def call(folder, *words, out="out", work="work", minutes=3., steps=STEPS) -> tuple[int, dict]:
    "One call with one thread; its exit status, and what lease.json says of it."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    places = ["--out", str(folder/out), "--work", str(folder/work)]
    how = ["--quick", "--device", "cpu", "--minutes", str(minutes), "--steps", *steps]
    try: status = lease.main([*places, *how, *words])
    finally: torch.set_num_threads(threads)
    return status, json.loads((folder/out/"lease.json").read_text())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    "A call with no time, and one with enough."
    folder = tmp_path_factory.mktemp("lease")
    none = call(folder, minutes=.2)
    side = f"{sys.executable} -c \"import time; open('{{side}}/table.csv', 'w').write('a,b'); time.sleep(300)\""
    return folder, none, call(folder, "--side", side)


def test_without_time_everything_is_skipped_and_named(done):
    _, (status, state), _ = done
    told = state["calls"][0]["steps"]
    assert status == 0 and told.pop("features").startswith("skipped: the main pair")
    assert all(s.startswith("skipped: it needs") for s in told.values()) and {"environment", "loss"} <= set(told)
    assert {"cifar10-gpu/main/base/encoder-0", "cifar10-gpu/loss/loss=cross-entropy/encoder-2"} <= set(told)


def test_the_next_call_does_what_is_missing(done):
    folder, _, (status, state) = done
    assert status == 0 and all(s["status"] == "done" for s in state["steps"].values()), state["steps"]
    assert [c["ended"] for c in state["calls"]] == ["all steps were gone through"]*2
    encoder = state["steps"]["cifar10-gpu/main/base/encoder-0"]["result"]
    assert encoder["images_per_second"] > 0 and 0 < encoder["linear_probe_test_accuracy"] <= 1
    errors = state["steps"]["correctness"]["result"]["errors"]
    assert len(errors) == 28 and all(v < 1e-2 for e in errors for k, v in e.items() if isinstance(v, float))
    archives = {"main.zip", "controls.zip", "larger.zip", "side.zip"}
    assert {p.name for p in (folder/"out").iterdir()} == archives | {"lease.json", "log.txt", "features.safetensors"}
    tensors, about = load_tensors(folder/"out"/"features.safetensors")
    assert tensors["encoder-0.backbone"].dtype == torch.float16 and about["epoch"] == 1
    assert len(tensors["labels"]) == len(tensors["encoder-1.head"]) == 450


def test_side_commands_are_ended_and_their_tables_kept(done):
    folder, _, (_, state) = done
    assert state["calls"][1]["side"][0]["status"] == "ended at the deadline, unfinished"
    with zipfile.ZipFile(folder/"out"/"side.zip") as z: assert z.read("0/table.csv") == b"a,b"


def test_what_came_back_makes_the_results(done, tmp_path):
    folder, _, _ = done
    out = tmp_path/"results"
    assert lease.main(["--out", str(folder/"out"), "--collect", "cifar10-gpu", "--results", str(out)]) == 0
    check_results(out)
    table, cross, learning = (pd.read_csv(out/f"{name}.csv") for name in ("timeline", "cross", "learning"))
    assert set(table.condition) == {"main", "temperature=0.5", "loss=cross-entropy", "label_noise=0.2"}
    assert set(table.layer) == {"backbone", "head"}
    assert cross.layer.tolist() == 3*["backbone"]                            # a cross-entropy does not train the head
    assert len(learning.groupby(["condition", "seed"])) == 10


def test_losses_are_compared_as_far_as_their_encoders_go(done):
    folder, _, _ = done
    experiment, out = lease.EXPERIMENTS["cifar10-gpu"], folder/"work"/"cifar10-gpu"
    pairs = lease.all_pairs(experiment, lease.recipe("cifar10-gpu"), (0, 1, 2), out, True)
    some = [p for p in pairs if p.condition == "main" or p.condition == "loss=cross-entropy" and p.seeds == (0, 1)]
    table = lease.crossed(some, "cpu")
    assert {(a, b) for a, b in zip(table.seed_a, table.seed_b)} == {(0, 1), (2, 0)} and len(table) == 2


def test_a_third_call_has_nothing_to_do_here_or_on_a_fresh_machine(done, monkeypatch):
    folder, _, _ = done
    monkeypatch.setattr(lease, "train", lambda *a, **k: pytest.fail("trained again"))
    _, state = call(folder)
    assert set(state["calls"][2]["steps"].values()) == {"done"}
    status, state = call(folder, "--resume", str(folder/"out"), out="fresh", work="elsewhere")
    assert status == 0 and set(state["calls"][3]["steps"].values()) == {"done"}
    assert (folder/"fresh"/"main.zip").is_file()


def test_a_fresh_machine_trains_again_what_was_not_analysed(done):
    folder, _, _ = done
    shutil.copytree(folder/"out", folder/"home")
    with zipfile.ZipFile(folder/"out"/"controls.zip") as old, zipfile.ZipFile(folder/"home"/"controls.zip", "w") as new:
        for name in old.namelist():
            if "temperature=0.5/pair-0-1" not in name: new.writestr(name, old.read(name))
    _, state = call(folder, "--resume", str(folder/"home"), out="later", work="later-work", steps=["controls"])
    made = (folder/"later-work").rglob("checkpoints/last.safetensors")
    trained = {p.parent.parent.relative_to(folder/"later-work").as_posix() for p in made}
    assert trained == {f"cifar10-gpu/temperature/temperature=0.5/encoder-{s}" for s in (0, 1)}
    with zipfile.ZipFile(folder/"later"/"controls.zip") as z: names = z.namelist()
    assert "cifar10-gpu/temperature/temperature=0.5/pair-0-1/timeline.csv" in names
    assert state["steps"]["analysis cifar10-gpu/temperature/temperature=0.5/pair-0-1"]["status"] == "done"


def test_quick_calls_and_others_are_kept_apart(done, capsys):
    folder, _, _ = done
    assert lease.main(["--out", str(folder/"out"), "--work", str(folder/"work"), "--device", "cpu"]) == 1
    assert "take another --out" in capsys.readouterr().err


def test_what_outlasts_the_time_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "train", lambda *a, **k: time.sleep(60))
    monkeypatch.setattr(lease.Lease, "seconds_for", lambda *a: 0.)
    monkeypatch.setattr(lease.Lease, "analysis_seconds", lambda *a: 0.)
    began = time.monotonic()
    status, state = call(tmp_path, minutes=(beside.RESERVE + 1)/60, steps=["main", "loss"])
    assert time.monotonic() - began < 5 and status == 0 and state["calls"][0]["ended"] == "the time was up"
    told = [state["steps"][f"cifar10-gpu/main/base/encoder-{s}"]["status"] for s in (0, 1)]
    assert told == ["stopped: the time was up", "skipped: the time was up"]
    assert state["steps"]["loss"]["status"] == "skipped: the time was up"


def test_a_failure_is_noted_and_the_next_step_comes(tmp_path, monkeypatch):
    monkeypatch.setattr(lease.gpu_checks, "machine", lambda *a: 1/0)
    status, state = call(tmp_path, steps=["environment", "loss"])
    assert status == 1 and state["steps"]["environment"]["status"].startswith("failed: ZeroDivisionError")
    assert state["steps"]["loss"]["status"] == "done"


def test_without_images_a_step_is_skipped(tmp_path):
    places = ["--out", str(tmp_path/"out"), "--work", str(tmp_path/"work")]
    assert lease.main([*places, "--device", "cpu", "--steps", "cifar100"]) == 0
    state = json.loads((tmp_path/"out"/"lease.json").read_text())
    assert "images of cifar100 were not given" in state["steps"]["cifar100"]["status"]


# ---- beside

def test_analysts_answer_in_order_of_priority_and_survive_an_error():
    analysts, answers = beside.Analysts(1), []
    analysts.submit(0, fail, lambda result, error: answers.append(error.strip().splitlines()[-1]))
    for priority, x in ((2, 4), (1, 9)): analysts.submit(priority, Root(x), lambda r, error: answers.append(r))
    assert analysts.wait(60) and answers == ["ValueError: no", 3., 2.]
    analysts.submit(0, end, lambda result, error: answers.append(error))
    analysts.submit(1, Root(16), lambda result, error: answers.append(result))
    assert analysts.wait(60) and answers[3:] == ["the analyst's process ended (EOFError)", 4.] # another is there
    analysts.close()


def fail(): raise ValueError("no")


def end(): os._exit(1)


class Root:
    "A task that can be sent to another process."
    def __init__(self, x): self.x = x
    def __call__(self): time.sleep(.2); return self.x**.5


def test_a_paused_command_stands_still_and_its_whole_tree_ends(tmp_path):
    count = "i=0; while :; do i=$((i+1)); echo $i > $1/n.tmp; mv $1/n.tmp $1/n.txt; sleep .01; done"
    (tmp_path/"count.sh").write_text(count)
    side = beside.Side([f"/bin/sh -c '/bin/sh {tmp_path}/count.sh {{side}}; true'"], tmp_path/"side")
    file = tmp_path/"side"/"0"/"n.txt"
    number = lambda: int(file.read_text())
    started = time.monotonic()
    while not file.is_file() and time.monotonic() < started + 20: time.sleep(.02)
    with side.paused():
        time.sleep(.1)
        before = number()
        time.sleep(.3)
        assert number() == before
    time.sleep(.3)
    assert number() > before
    side.close(tmp_path)
    after = number()
    time.sleep(.2)
    assert number() == after and (tmp_path/"side.zip").is_file()


def test_an_archive_writes_nothing_outside(tmp_path):
    with zipfile.ZipFile(tmp_path/"bad.zip", "w") as z: z.writestr("../x", "")
    with pytest.raises(InputError, match="outside"): lease.unpack(tmp_path/"bad.zip", tmp_path/"in")


def test_the_script_starts_and_names_its_steps():
    command = [sys.executable, str(ROOT/"experiments"/"lease.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0 and " ".join(lease.STEPS) in " ".join(done.stdout.split())
