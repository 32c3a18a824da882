"""Sweeps: the table is that of analyses by hand, nothing is done twice or mistaken for something else, and nothing is
lost with what fails."""
import dataclasses
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import ncib.sweep
import ncib.timeline
from ncib.core import InputError, read_json, write_json
from ncib.runs import Run, load_tensors
from ncib.sweep import conditions, quantities, ring_interval, ring_pairs, summarise, sweep
from ncib.timeline import Timeline, analyze
from ncib.train import TrainConfig, images_of, train

GRID = {"temperature": [0.1, 0.5], "label_noise": [0.0, 0.2]}


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    "Three classes of 4×4 images, each with its own bright row."
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = rng.integers(0, 80, (120, 4, 4), dtype=np.uint8)
    for k in range(3): images[labels == k, k] += 120
    file = tmp_path_factory.mktemp("data")/"blobs.npz"
    np.savez(file, images=images, labels=labels)
    return file


@pytest.fixture(scope="module")
def tiny(blobs): return TrainConfig(data=str(blobs), epochs=2, batch_size=32, checkpoints=2, device="cpu")


@pytest.fixture(scope="module")
def swept(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")/"four conditions"
    return out, sweep(GRID, out, tiny, progress=False)


@pytest.fixture
def calls(monkeypatch):
    "How often an encoder was analysed, an epoch trained, and a data set loaded."
    count = {"analyze": 0, "epochs": 0, "images": 0}
    def counted(name, function):
        def wrapper(*args, **kwargs):
            count[name] += 1
            return function(*args, **kwargs)
        return wrapper
    monkeypatch.setattr(Timeline, "save", counted("analyze", Timeline.save))
    monkeypatch.setattr(ncib.sweep, "images_of", counted("images", images_of))
    monkeypatch.setattr(Run, "write_log", counted("epochs", Run.write_log))
    return count


def files(folder):
    return {p: p.stat().st_mtime_ns for p in Path(folder).rglob("*") if p.is_file()
            and p.name not in (".lock", "sweep.csv")}


def weights(run): return load_tensors(Path(run)/"checkpoints/last.safetensors")[0]


def same_tensors(a, b): return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_table_is_that_of_analyses_by_hand(swept, tiny, tmp_path):
    out, table = swept
    assert list(table.condition) == [f"temperature={t},label_noise={n}" for t in (0.1, 0.5) for n in (0, 0.2)]
    assert table[["temperature", "label_noise", "seed_a",
                  "seed_b"]].values.tolist() == [[t, n, 0, 1] for t in (0.1, 0.5) for n in (0, 0.2)]
    assert list(table.columns) == ["condition", *GRID, "seed_a", "seed_b", *quantities]
    by_hand = [train(dataclasses.replace(tiny, temperature=0.5, label_noise=0.2, seed=s), tmp_path/str(s),
                     progress=False) for s in (0, 1)]
    s, row = analyze(*by_hand, progress=False).summary(), table.iloc[3]
    for q in quantities:
        value = s["head"][q.removeprefix("head_")] if q.startswith("head_") else s[q]
        wanted = np.nan if value is None else np.mean(value)
        assert row[q] == wanted or np.isnan(row[q]) and np.isnan(wanted), q
    assert table.final_test_accuracy.between(1/3, 1).all() and table.nc1_last.nunique() == 4
    pd.testing.assert_frame_equal(pd.read_csv(out/"sweep.csv"), table, check_dtype=False)


def test_the_folders_are_those_of_a_demo(swept):
    folder = swept[0]/"temperature=0.1,label_noise=0.2"
    assert sorted(p.name for p in folder.iterdir()) == ["encoder-0", "encoder-1", "pair-0-1"]
    assert Run(folder/"encoder-1").config["seed"] == 1
    assert list(Timeline.load(folder/"pair-0-1").epochs) == Run(folder/"encoder-0").epochs
    assert {"timeline.csv", "summary.json"} <= {p.name for p in (folder/"pair-0-1").iterdir()}


def test_nothing_is_done_twice(swept, tiny, calls):
    out, table = swept
    before = files(out)
    pd.testing.assert_frame_equal(sweep(GRID, out, tiny, progress=False), table)
    assert files(out) == before and calls == {"analyze": 0, "epochs": 0, "images": 1}


def test_a_grown_sweep_does_only_what_is_new(tiny, tmp_path, calls):
    first = sweep({"temperature": [0.1]}, tmp_path, tiny, progress=False)
    assert calls == {"analyze": 1, "epochs": 2*3, "images": 1}                  # epochs 0 to 2 of two encoders
    grown = sweep({"temperature": [0.1, 0.5]}, tmp_path, tiny, seeds=(0, 1, 2), progress=False)
    # pair 0-1 of the first condition was there
    assert calls == {"analyze": 1 + 5, "epochs": 6*3, "images": 2}
    pd.testing.assert_series_equal(grown.iloc[0], first.iloc[0])
    assert grown[["seed_a", "seed_b"]].values.tolist() == [[0, 1], [1, 2], [2, 0]]*2


def test_an_analysis_is_not_mistaken_for_another(tiny, tmp_path, calls):
    pair = tmp_path/"base/pair-0-1"
    again = lambda **options: sweep({}, tmp_path, tiny, progress=False, **options)
    plain, n = again(), calls["analyze"]
    head, copula = again(layer="head"), again(copula=True)
    assert calls["analyze"] == n + 2 and read_json(pair/"summary.json")["copula"]
    assert head.nc1_last[0] != plain.nc1_last[0] and "ib_gap_last" not in copula
    pd.testing.assert_frame_equal(again(), plain)
    assert calls["analyze"] == n + 3
    (pair/"timeline.csv").write_text("damaged")                                     # … nor is one that is not whole,
    pd.testing.assert_frame_equal(again(), plain)
    assert calls["analyze"] == n + 4
    # or was made by somebody else,
    analyze(tmp_path/"base/encoder-0", tmp_path/"base/encoder-1", layer="head", progress=False).save(pair)
    pd.testing.assert_frame_equal(again(), plain)
    info = read_json(tmp_path/"base/encoder-1/config.json")                         # or of a run that was made anew
    write_json(tmp_path/"base/encoder-1/config.json",
               info | {"environment": info["environment"] | {"started": "later"}})
    again()
    assert calls["analyze"] == n + 7                                                # one of them by hand


@pytest.mark.parametrize("step", ["ncib.timeline.save_tensors", "ncib.timeline.write_json"])
def test_killed_while_an_analysis_is_saved(step, tiny, tmp_path, monkeypatch, calls):
    """Interrupted behind the table of other options, or before the summary: done again, also for the options whose
    results lay there before."""
    sweep({}, tmp_path, tiny, progress=False)
    def killed(*args, **kwargs): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(step, killed)
        with pytest.raises(KeyboardInterrupt): sweep({}, tmp_path, tiny, layer="head", progress=False)
    n = calls["analyze"]
    sweep({}, tmp_path, tiny, progress=False)
    assert calls["analyze"] == n + 1 and read_json(tmp_path/"base/pair-0-1/summary.json")["layer"] == "backbone"


def test_another_configuration_in_the_same_folder_is_refused(swept, tiny, tmp_path):
    out = tmp_path/"copy"
    sweep({}, out, tiny, progress=False)
    before = files(out)
    with pytest.raises(InputError, match="2 of 3 tasks failed, so that 1 of 1 pairs are missing") as e:
        sweep({}, out, dataclasses.replace(tiny, epochs=3), progress=False)
    assert "base/encoder-0: " in str(e.value) and "epochs is 2, asked for 3" in str(e.value)
    # an old table is not left to be taken for the new one
    assert files(out) == before and not (out/"sweep.csv").exists()


def test_changed_images_are_read_again_and_refused(blobs, tiny, tmp_path):
    data = tmp_path/"mine.npz"
    data.write_bytes(blobs.read_bytes())
    config = dataclasses.replace(tiny, data=str(data))
    sweep({}, tmp_path/"out", config, progress=False)
    with np.load(blobs) as f: np.savez(data, images=255 - f["images"], labels=f["labels"])
    with pytest.raises(InputError, match="fingerprint is"): sweep({}, tmp_path/"out", config, progress=False)


def test_a_failure_does_not_lose_the_rest(tiny, tmp_path, monkeypatch):
    with pytest.raises(InputError) as e: sweep({"lr": [1e30, 0.1]}, tmp_path, tiny, progress=False)
    assert str(e.value).startswith(f"2 of 6 tasks failed, so that 1 of 2 pairs are missing from {tmp_path/'sweep.csv'}")
    # each failure once, not what hung on it
    assert str(e.value).count("the loss became nan") == 2 and "pair" not in str(e.value).split("\n", 1)[1]
    assert isinstance(e.value.__cause__, InputError) and "the loss became" in str(e.value.__cause__)
    assert list(pd.read_csv(tmp_path/"sweep.csv").condition) == ["lr=0.1"]
    def out_of_memory(*args, **kwargs): raise RuntimeError("out of memory")
    monkeypatch.setattr(ncib.timeline, "collapse_metrics", out_of_memory)
    with pytest.raises(InputError, match="lr=0.3/pair-0-1: RuntimeError: out of memory"):
        sweep({"lr": [0.1, 0.3]}, tmp_path, tiny, progress=False)
    assert list(pd.read_csv(tmp_path/"sweep.csv").condition) == ["lr=0.1"]
    monkeypatch.undo()
    assert list(sweep({"lr": [0.1, 0.3]}, tmp_path, tiny, progress=False).condition) == ["lr=0.1", "lr=0.3"]


def test_the_table_grows_pair_by_pair(tiny, tmp_path, monkeypatch):
    seen = []
    def watching(*args, **kwargs):
        seen.append(len(pd.read_csv(tmp_path/"sweep.csv")) if (tmp_path/"sweep.csv").exists() else 0)
        return analyze(*args, **kwargs)
    monkeypatch.setattr(ncib.sweep, "analyze", watching)
    sweep({"temperature": [0.1, 0.5]}, tmp_path, tiny, progress=False)
    assert seen == [0, 1]


@pytest.mark.parametrize("arguments, message", [
    (dict(grid={"temprature": [0.1]}), "'temprature' is not an option that makes a condition; those are .*temperature"),
    (dict(grid={"seed": [0, 1]}), "seed is varied by the argument seeds"),
    (dict(grid={"device": ["cpu", "cuda"]}), "'device' is not an option that makes a condition"),
    (dict(grid={"temperature": 0.1}), "temperature must be a list of values, got 0.1"),
    (dict(grid={"loss": "supcon"}), "loss must be a list of values, got 'supcon'"),
    (dict(grid={"epochs": []}), "epochs has no values"),
    (dict(grid={"epochs": [1, 2.5]}), "epochs must be an integer, got 2.5"),
    (dict(grid={"label_noise": [0, 1.5]}), r"label_noise must be in \[0, 1\], got 1.5"),
    (dict(grid={"loss": ["supcon", "suncop"]}), "loss must be one of supcon, .*, got 'suncop'"),
    (dict(grid={"temperature": [0.1, 0.5, 0.1]}), "temperature=0.1 is there twice"),
    (dict(grid={"temperature": [1, 1.0]}), "temperature=1 is there twice"),
    (dict(grid=[("epochs", 1)]), "grid must be a dict .*, got list"),
    (dict(seeds=(0,)), "seeds must be at least two"),
    (dict(seeds=(0, 1, 0)), "seeds must differ, got 0 2 times"),
    (dict(seeds=(0, "1")), "seed must be an integer, got '1'"),
    (dict(layer="hidden"), "layer must be backbone, head or both, got 'hidden'"),
    (dict(ray=True, config=TrainConfig(device="cuda:1")), "device must be auto, cpu or cuda with Ray"),
    (dict(config=TrainConfig(data="nowhere.npz")), "nowhere.npz: no such file"),
    (dict(grid={"data": ["digits", "nowhere.npz"]}), "nowhere.npz: no such file"),
])
def test_bad_arguments_are_told_before_anything_runs(arguments, message, tmp_path):
    with pytest.raises(InputError, match=message):
        sweep(**{"grid": {}, "out": tmp_path/"out", "progress": False} | arguments)
    assert not (tmp_path/"out").exists()


def test_a_folder_that_cannot_be_written(tiny, tmp_path):
    (tmp_path/"file").write_text("")
    with pytest.raises(InputError, match="cannot write to"): sweep({}, tmp_path/"file", tiny, progress=False)


def test_torchrun_is_for_one_training(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(InputError, match="not one under torchrun"): sweep({}, tmp_path, tiny, progress=False)


def test_names_of_conditions_fit_every_file_system():
    grid = {"data": ["a/b.npz", "a:b.npz", "a b.npz", "C:\\images\\" + "long"*100, "ünï", ".."],
            "temperature": [1e-7, 0.1, 3], "feature_dim": [None, 7]}
    names = list(conditions(grid))
    assert len(names) == len(set(n.lower() for n in names)) == 36
    assert all(len(n) <= 200 and not set(n) & set('/\\:*?"<>| ') and n.isascii() for n in names)
    assert names[2].endswith(",temperature=0.1,feature_dim=None") and names[-1].endswith("temperature=3,feature_dim=7")
    many = {f.name: [f.default] for f in dataclasses.fields(TrainConfig)
            if f.name not in ("seed", "device", "images", "compile")} | {"lr": [0.1, 0.2]}
    long, longer = conditions(many)
    assert long != longer and len(long) <= 200
    assert list(conditions({})) == ["base"]


def test_every_encoder_of_a_ring_is_used_alike():
    for n in range(3, 9):
        pairs = ring_pairs(range(10, 10 + n))
        assert (len(set(pairs)) == n
                and all(sorted(a for p in pairs for a in p).count(s) == 2 for s in range(10, 10 + n)))


def test_the_interval_covers_the_mean():
    """In any mixture of encoder parts and pair parts, also when pairs are missing, at least nearly as often as it says;
    where it is exact, no more often."""
    rng = np.random.default_rng(1)
    for n, weight in ((3, 1), (4, 1), (8, 1), (6, 0.5), (6, 0)):
        g, r = rng.standard_normal((2, 600, n))
        rings = weight*(g + np.roll(g, -1, axis=1))/2 + (1 - weight)*r
        for values in (rings, rings[:, :-1]) if n > 3 else (rings,):
            covered = np.mean([low <= 0 <= high for low, high in map(ring_interval, values)])
            assert covered > .92, (n, weight, covered)
            if n == 3: assert covered < .98
    # Q = 1.5: a standard error of 1
    assert ring_interval(5 + np.array([-1, 0, 1])*np.sqrt(.75), .8) == pytest.approx(stats.t.interval(.8, 2, 5, 1))
    assert ring_interval([2., 2., 2.]) == (2, 2) and np.isnan(ring_interval([1., 2.])).all()
    with pytest.raises(InputError, match="values must be"): ring_interval([1., np.nan, 2.])
    with pytest.raises(InputError, match="level must be"): ring_interval([1., 2., 3.], 95)


def test_summarise_counts_what_is_missing():
    table = pd.DataFrame({"condition": ["a"]*3 + ["b"]*3, "feature_dim": [None]*3 + [2]*3, "seed_a": [0, 1, 2]*2,
                          "seed_b": [1, 2, 0]*2,
                          "nc1_last": [1., 2., 3., 4., 4., 4.], "plateau_epoch": [np.nan, 3., 5., None, None, None]})
    s = summarise(table)
    assert list(s.columns) == ["condition", "feature_dim", "quantity", "pairs", "missing", "mean", "low", "high"]
    assert s[["condition", "quantity"]].values.tolist() == [["a", "nc1_last"], ["a", "plateau_epoch"],
                                                            ["b", "nc1_last"], ["b", "plateau_epoch"]]
    assert s[["pairs", "missing"]].values.tolist() == [[3, 0], [2, 1], [3, 0], [0, 3]]
    assert s["mean"].tolist()[:3] == [2, 4, 4] and np.isnan(s["mean"][3])
    assert s.low[0] < 2 < s.high[0] and s.low[0] + s.high[0] == pytest.approx(4) and (s.low[2], s.high[2]) == (4, 4)
    assert s[["low", "high"]].isna().all(axis=1).tolist() == [False, True, False, True]
    assert summarise(table, level=0.5).low[0] > s.low[0]
    endless = summarise(table.assign(nc1_last=[1., 2., np.inf, 4., 4., 4.])).iloc[0]       # a gap with nothing behind
    assert endless["mean"] == np.inf and endless[["low", "high"]].isna().all()
    with pytest.raises(InputError, match="it lacks condition, seed_a, seed_b"):
        summarise(pd.DataFrame({"nc1_last": [1.]}))


def test_ray_is_needed_only_when_asked_for(swept, tiny, tmp_path, monkeypatch):
    assert "ray" not in vars(ncib.sweep)
    monkeypatch.setitem(sys.modules, "ray", None)                                   # as if it were not installed
    pd.testing.assert_frame_equal(sweep(GRID, swept[0], tiny, progress=False), swept[1])
    with pytest.raises(InputError, match=r"install it with pip install 'ncib\[ray\]'"):
        sweep({}, tmp_path, tiny, ray=True, progress=False)


def test_ray_finds_no_cluster(tiny, tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(InputError, match="ray: there is no cluster at 'no such scheme://nowhere'"):
        sweep({}, tmp_path, tiny, ray="no such scheme://nowhere", progress=False)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A local cluster of two workers and one alleged GPU.

    The first worker that is about to complete epoch 2 of lr=0.1/encoder-1 leaves its process id in the file that this
    returns, and kills itself."""
    ray, marker = pytest.importorskip("ray"), str(tmp_path_factory.mktemp("killed")/"pid")
    def setup():
        import ncib.runs
        write_log = ncib.runs.Run.write_log
        def lethal(run, rows):
            write_log(run, rows)
            if str(run.path).endswith("lr=0.1/encoder-1") and rows[-1]["epoch"] == 2 and not os.path.exists(marker):
                with open(marker, "w") as f: f.write(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
        ncib.runs.Run.write_log = lethal
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, object_store_memory=80*1024*1024,
                 log_to_driver=False,
                 runtime_env={"worker_process_setup_hook": setup})
        yield Path(marker)
    finally: ray.shutdown()


def test_ray_makes_the_same_sweep_and_picks_up_a_killed_worker(cluster, tiny, tmp_path, monkeypatch):
    config, threads = dataclasses.replace(tiny, epochs=4), torch.get_num_threads()
    # the folder for results may be a relative path
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="2 of 6 tasks failed, so that 1 of 2 pairs are missing") as e:
        sweep({"lr": [0.1, 1e30]}, "clustered", config, ray=True, progress=False)
    assert str(e.value).count("the loss became nan") == 2 and "pair" not in str(e.value).split("\n", 1)[1]
    # a worker was killed in the middle of encoder-1 …
    assert int(cluster.read_text()) != os.getpid()
    torch.set_num_threads(1)
    try:
        whole = train(dataclasses.replace(config, lr=0.1, seed=1), tmp_path/"whole", progress=False)
        alone = sweep({"lr": [0.1]}, tmp_path/"alone", config, progress=False)
    finally: torch.set_num_threads(threads)
    assert [r["epoch"] for r in Run("clustered/lr=0.1/encoder-1").log_rows()] == [0, 1, 2, 3, 4]
    # … and nothing of that is left in its weights
    assert same_tensors(weights("clustered/lr=0.1/encoder-1"), weights(whole.path))
    pd.testing.assert_frame_equal(pd.read_csv("clustered/sweep.csv"), alone, check_dtype=False)
    assert Run("clustered/lr=0.1/encoder-0").info["environment"]["threads"] == 1
    before = files("clustered/lr=0.1")
    # what Ray did, the serial way recognises
    pd.testing.assert_frame_equal(sweep({"lr": [0.1]}, "clustered", config, progress=False), alone)
    assert files("clustered/lr=0.1") == before


def test_ray_gives_every_task_a_gpu_where_there_are_some(cluster):
    import ray
    def look(*needs):
        return torch.get_num_threads(), ray.get_runtime_context().get_assigned_resources().get("GPU", 0), needs
    def boom(*needs): raise MemoryError("too much")
    plan = [ncib.sweep.Task("look", look), ncib.sweep.Task("needs", look, (0,)), ncib.sweep.Task("boom", boom),
            ncib.sweep.Task("hangs on it", look, (2,))]
    done = dict(ncib.sweep.on_ray(plan, None, {"num_gpus": 0.5}, gpu=True))
    # options replace only what they name: the cores are the GPU's share
    assert done[0] == (2, 0.5, ()) and done[1] == (2, 0.5, (done[0],))
    assert "MemoryError: too much" in str(done[2]) and isinstance(done[3], Exception)
    assert dict(ncib.sweep.on_ray(plan[:1], None, {}, gpu=False))[0][:2] == (1, 0)
    with pytest.raises(InputError, match="ray_options: .*bogus"):
        next(ncib.sweep.on_ray(plan, None, {"bogus": 1}, gpu=False))
    # the cluster is not the sweep's to shut down
    assert ray.is_initialized()
