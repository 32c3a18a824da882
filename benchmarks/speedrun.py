#!/usr/bin/env python3
"""Time to 90, 92 and 94 % linear-probe accuracy, and images per second as a share of what the machine's matrix products
allow.

    python benchmarks/speedrun.py --recipe cifar10-gpu --device cuda --out speedrun.json
    python benchmarks/speedrun.py --recipe cifar10-2core --data /data/cifar10 --minutes 90

A recipe is trained as `ncib train` does it; every option of `ncib train` can be given. The probe is fitted afterwards,
on the features that each kept checkpoint has of training images. The clock is the sum of the epochs' own times:
torch.compile is in it, features and files are not; "wall" has everything. The share counts the multiply-adds of
convolutions and linear maps, three times for a step (forward, gradient of the input, gradient of the weights), against
a large matrix product in the same precision, in the epochs that see images in their own size.
With --minutes the number of epochs is what a few steps at each size, measured first, let expect to fit.
"""
import argparse, dataclasses, json, statistics, tempfile, time
from pathlib import Path

import torch
from torch import nn

from ncib.cli import _add_config, _config
from ncib.core import resolve_device, write_json
from ncib.data import subset
from ncib.nets import Encoder
from ncib.probe import linear_probe
from ncib.runs import environment
from ncib.train import half_precision, images_of, seen_size, train

QUICK = dict(data="digits", epochs=3, batch_size=64, train_size=320, feature_train_size=100, checkpoints=3,
             compile="no")

def multiply_adds(config, shape)->int:
    "Of the network for one image, by looking at what its layers give."
    total, net = 0, Encoder(config.backbone, shape, config.feature_dim, config.projection_dim).eval()
    def count(module, _, out):
        nonlocal total
        total += module.weight[0].numel()*out[0].numel()
    for m in net.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)): m.register_forward_hook(count)
    with torch.no_grad(): net.project(net(torch.zeros(1, *shape)))
    return total

def gemm_rate(device, dtype, n, turns=5)->float:
    "Multiply-adds per second of an n × n × n product: the best of the turns."
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    def clock():
        if device.type == "cuda": torch.cuda.synchronize(device)
        return time.perf_counter()
    for _ in range(2): a @ b
    took = []
    for _ in range(turns):
        start = clock()
        for _ in range(4): a @ b
        took.append((clock() - start)/4)
    return n**3/min(took)

def pass_seconds(config, data, batches=10)->dict: # by the share of the side in which images are seen
    "Seconds of one pass over all training images, not compiled: the best of the later ones of a few short epochs."
    few = dataclasses.replace(config, epochs=4, checkpoints=1, feature_train_size=None, compile="no", start_scale=1.,
                              train_size=min(len(data.train), batches*config.batch_size))
    scales = {seen_size(dataclasses.replace(config, epochs=100), data.shape, e): None for e in range(1, 101)}
    tested = slice(500)                                                           # few, for only epochs are timed
    out = {}
    for size in scales:
        smaller = lambda x: nn.functional.interpolate(x.float(), size).byte()
        small = dataclasses.replace(data, train=smaller(data.train), test=smaller(data.test[tested]),
                                    test_labels=data.test_labels[tested])
        with tempfile.TemporaryDirectory() as d: rows = train(few, Path(d)/"run", progress=False, data=small).log_rows()
        images = len(subset(data, config.train_size, config.imbalance).train)
        out[size] = min(r["seconds"] for r in rows[2:])*images/few.train_size
    return out

def training_seconds(config, data, passes)->float:
    "Of all its epochs, by what `pass_seconds` gave."
    sizes = (seen_size(config, data.shape, e) for e in range(1, config.epochs + 1))
    return sum(passes[min(passes, key=lambda s: abs(s[0] - size[0]))] for size in sizes)

def epochs_that_fit(config, data, minutes)->int:
    "At least one, at most those of the configuration."
    passes = pass_seconds(config, data)
    seconds = lambda n: training_seconds(dataclasses.replace(config, epochs=n), data, passes)
    return next((n for n in range(config.epochs, 1, -1) if seconds(n) <= 60*minutes), 1)

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _add_config(p)
    p.set_defaults(recipe="cifar10-gpu" if torch.cuda.is_available() else "cifar10-2core")
    p.add_argument("--targets", nargs="+", type=float, default=[.90, .92, .94],
                   help="accuracies to time (default: %(default)s)")
    p.add_argument("--minutes", type=float,
                   help="train for about so long, with fewer epochs than the recipe if need be")
    p.add_argument("--run", type=Path, help="run directory to keep (default: a temporary one)")
    p.add_argument("--out", type=Path, help="write the figures as JSON")
    p.add_argument("--quick", action="store_true", help="seconds on the digits, to see that all works")
    a = p.parse_args(argv)
    config = _config(a, **{k: v for k, v in QUICK.items() if a.quick and not hasattr(a, k)})
    device = resolve_device(config.device)
    data = images_of(config)
    if a.minutes: config = dataclasses.replace(config, epochs=epochs_that_fit(config, data, a.minutes))
    with tempfile.TemporaryDirectory() as d:
        start = time.perf_counter()
        run = train(config, a.run or Path(d)/"run", data=data)
        wall = time.perf_counter() - start
        seconds, rows = 0., []
        for row in run.log_rows():
            seconds += row.get("seconds", 0.)
            if row["epoch"] not in run.epochs: continue
            f = run.features(row["epoch"])
            x, y, test = f.train.float().to(device), f.train_labels.to(device), f.test.float().to(device)
            accuracy = linear_probe(x, y, data.num_classes, max_iterations=200).accuracy(test, f.test_labels.to(device))
            rows.append({"epoch": row["epoch"], "seconds": seconds, "probe_accuracy": accuracy, "loss": row.get("loss"),
                         "nearest_mean_accuracy": row["test_nearest_mean_accuracy"]})
        whole = [r["seconds"] for r in run.log_rows()[2:] if seen_size(config, data.shape, r["epoch"])
                 == data.shape[1:]]
        # not the first; of images that do not grow any more
        epoch_seconds = whole or [run.log_rows()[-1]["seconds"]]
    dtype = torch.bfloat16 if half_precision(config, device) else torch.float32
    gemm = gemm_rate(device, dtype, 8192 if device.type == "cuda" else 256 if a.quick else 2048)
    rate = len(subset(data, config.train_size, config.imbalance).train)/statistics.median(epoch_seconds)
    cost = multiply_adds(config, data.shape)
    share = 3*config.views*cost*rate/gemm
    reached = {f"{t:g}": next((r["seconds"] for r in rows if r["probe_accuracy"] >= t), None) for t in a.targets}
    figures = {"about": environment(device), "recipe": a.recipe, "config": dataclasses.asdict(config),
               "multiply_adds": cost,
               "images_per_second": rate, "gemm_multiply_adds_per_second": gemm, "gemm_dtype": str(dtype).split(".")[1],
               "share_of_gemm": share, "wall_seconds": wall, "seconds": seconds, "reached_seconds": reached,
               "checkpoints": rows}
    print(json.dumps(figures["about"]))
    print(f"{'epoch':>6} {'seconds':>9} {'probe':>7} {'nearest mean':>13}")
    for r in rows:
        print(f"{r['epoch']:6d} {r['seconds']:9.1f} {r['probe_accuracy']:7.4f} {r['nearest_mean_accuracy']:13.4f}")
    for t, s in reached.items(): print(f"{float(t):.0%}: " + ("not reached" if s is None else f"{s:.1f} s"))
    print(f"{rate:,.0f} images/s of {cost/1e6:.0f} M multiply-adds, {config.views} view{'s'*(config.views - 1)}: "
          f"{share:.0%} of "
          f"{gemm/1e12:.2f} T multiply-adds/s ({figures['gemm_dtype']}); {wall:.1f} s in all")
    if a.out: write_json(a.out, figures)
    return figures

if __name__ == "__main__": main()
