#!/usr/bin/env python3
"""What each ingredient of a recipe is worth: the recipe with one of them changed, all trainings equally long.

    python benchmarks/ablation.py --data /data/cifar10 --epochs 12 --out results/ablation.csv
    python benchmarks/ablation.py --quick                      # seconds on the digits, to see that all works

Every training gets the time that the recipe takes for --epochs passes over all images. Times are ratios, measured side
by side before the training where an option changes what a step takes, so that a machine which is slower in one hour
than in the next changes nothing. A variant is trained for as many epochs as begin within that time, on so many of the
images (a fixed choice, every class in its proportion) that the last of them ends in time. The average of the weights
covers the same share of the training as in the whole recipe. Accuracy is that of a linear probe on the test images at
the end, fitted to all images trained on; "seconds" is what the epochs took, "recipe_pass" what a pass of the recipe
over all images in their own size took just before. A line is written as soon as a variant is done, and the same command
again does the rest. Lines of other images, another recipe or length stay in the table and count for nothing.
"""
import argparse, dataclasses, math, os, platform, tempfile
from pathlib import Path

import pandas as pd
import torch

from ncib.config import TrainConfig, recipe, recipes
from ncib.core import atomic_write
from ncib.data import ImageData, load_images
from ncib.train import train
from speedrun import pass_seconds, training_seconds

VARIANTS = { # options that differ; a learning rate as a multiple of the recipe's
    "recipe": {},
    "two views": {"views": 2},
    "full size from the start": {"start_scale": 1.},
    "backbone conv": {"backbone": "conv"},
    "backbone light": {"backbone": "light"},
    "backbone resnet18": {"backbone": "resnet18"},
    "crops and colours": {"augmentation": "natural"},
    "no blanked squares": {"cutout": 0.},
    "float32": {"precision": "float32"},
    "cosine": {"schedule": "cosine"},
    "no average of the weights": {"ema_epochs": 0.},
    "decay to the end": {"decay_until": 1., "final_lr": 0.},
    "batches of 250": {"batch_size": 250},
    "batches of 1000": {"batch_size": 1000},
    "half the learning rate": {"lr": .5},
    "twice the learning rate": {"lr": 2.},
    "temperature .2": {"temperature": .2},
    "cross-entropy": {"loss": "cross-entropy"},
}
FREE = {"temperature", "lr", "schedule", "decay_until", "final_lr"} # options that do not change what a step takes
QUICK = dict(data="digits", batch_size=64, feature_train_size=200, precision="float32")


def varied(config: TrainConfig, changes: dict)->TrainConfig:
    return dataclasses.replace(config, **{k: v*config.lr if k == "lr" else v for k, v in changes.items()})


def shortened(config: TrainConfig, epochs: int)->TrainConfig:
    "With fewer epochs, and an average of the weights over the same share of them."
    return dataclasses.replace(config, epochs=epochs, ema_epochs=config.ema_epochs*epochs/config.epochs)


def own_size(config: TrainConfig, data: ImageData, batches: int)->float:
    "Seconds of a pass over all images in their own size."
    return max(pass_seconds(dataclasses.replace(config, start_scale=1.), data, batches).values())


def that_fits(config: TrainConfig, data: ImageData, seconds: float, passes: dict)->tuple[int, int]:
    "Epochs, and training images, of a training that takes so long; `passes` is what `pass_seconds` gave."
    whole = lambda n: training_seconds(dataclasses.replace(config, epochs=n), data, passes)
    epochs = next(n for n in range(1, 10_000) if whole(n) >= seconds)
    return epochs, max(2*config.batch_size, math.floor(len(data.train)*min(1., seconds/whole(epochs))))


def there(table: pd.DataFrame, **about)->bool: # a line with all of this
    if missing := about.keys() - {*table}: raise SystemExit(f"the table has no column {', '.join(sorted(missing))}")
    return bool(table[list(about)].eq(pd.Series(about)).all(axis=1).any())


def main(argv=None)->pd.DataFrame:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--recipe", choices=tuple(recipes), default="cifar10-2core")
    p.add_argument("--data", help="folder or file of the images (default: what the recipe says)")
    p.add_argument("--epochs", type=int,
                   help="of the recipe; every training is as long as they are (default: 6, with --quick 2)")
    p.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), metavar="VARIANT", default=list(VARIANTS),
                   help=f"some of {', '.join(VARIANTS)} (default: all)")
    p.add_argument("--seeds", nargs="+", type=int, default=[0], help="of each variant (default: 0)")
    p.add_argument("--threads", type=int, help="of torch (default: its own choice)")
    p.add_argument("--out", type=Path,
                   help="table; lines are added to it (default: ablation.csv, with --quick ablation-quick.csv)")
    p.add_argument("--quick", action="store_true", help="seconds on the digits, to see that all works")
    a = p.parse_args(argv)
    if a.threads: torch.set_num_threads(a.threads)
    base = recipe(a.recipe, **(QUICK if a.quick else {"data": a.data} if a.data else {}))
    data, batches, length = load_images(base.data), 3, a.epochs or (2 if a.quick else 6)
    out = a.out or Path("ablation-quick.csv" if a.quick else "ablation.csv")
    about = {"recipe_epochs": length, "recipe": a.recipe, "images": f"sha256 {data.fingerprint()[:12]}"}
    table = pd.read_csv(out) if out.is_file() else pd.DataFrame(columns=["variant", "seed", *about])
    passes = {}                                                                # of the recipe, once it is wanted
    for seed, name in ((s, v) for s in a.seeds for v in a.variants):
        if there(table, variant=name, seed=seed, **about): continue
        config = varied(dataclasses.replace(base, seed=seed, checkpoints=1), VARIANTS[name])
        passes, now = passes or pass_seconds(base, data, batches), own_size(base, data, batches)
        seconds = training_seconds(dataclasses.replace(base, epochs=length), data, passes)*now/max(passes.values())
        epochs, images = ((length, len(data.train)) if VARIANTS[name].keys() <= FREE
                          else that_fits(config, data, seconds, pass_seconds(config, data, batches)))
        with tempfile.TemporaryDirectory() as d:
            rows = train(dataclasses.replace(shortened(config, epochs), train_size=images), Path(d)/"run",
                         data=data).log_rows()
        row = {"variant": name, "seed": seed, **about, "epochs": epochs, "train_size": images,
               "seconds": round(sum(r["seconds"] for r in rows[1:]), 1), "recipe_pass": round(now, 2),
               **{k.removeprefix("test_"): round(rows[-1][k], 4)
                  for k in ("test_linear_probe_accuracy", "test_nearest_mean_accuracy", "loss")},
               "threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 1),
               "machine": f"{platform.machine()}, {os.cpu_count()} cores", "torch": torch.__version__}
        if out.is_file(): table = pd.read_csv(out)                         # another call may have added to it
        table = pd.concat([table, pd.DataFrame([row])], ignore_index=True) if len(table) else pd.DataFrame([row])
        with atomic_write(out) as tmp: table.to_csv(tmp, index=False)
        print(f"{name}, seed {seed}: {row['linear_probe_accuracy']:.4f} after {epochs} epochs of {images:,} images "
              f"in {row['seconds']:.0f} s", flush=True)
    return table


if __name__ == "__main__": main()
