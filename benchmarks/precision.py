#!/usr/bin/env python3
"""How exact loss and gradient are when the network multiplies in bfloat16, beside what another batch changes.

    python benchmarks/precision.py RUN --data /data/cifar10 --out precision.csv
    python benchmarks/precision.py --quick                     # a minute on the digits, to see that all works

For checkpoints of a run, on batches as training draws them (BatchNorm in training mode): loss and gradient of all
parameters in float64 (the reference), float32, and under autocast as `ncib train` has it. "loss error" is the median
over the batches of the relative difference to the reference, "gradient error" that of the norm of the difference to the
norm; "another batch" says the same of the reference on the next batch in place of this one: what every step of
stochastic descent does anyway.
"""
import argparse, dataclasses, platform, tempfile
from pathlib import Path

import pandas as pd
import torch

from ncib.config import TrainConfig
from ncib.core import atomic_write, generator
from ncib.data import augment, load_images
from ncib.losses import supcon_loss
from ncib.runs import Run
from ncib.train import train

PRECISIONS = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}


def loss_and_gradient(encoder, views, labels, temperature: float, precision: str):
    "Both in float64, of a network in training mode whose state is left as it is."
    dtype = PRECISIONS[precision]
    state = {k: v.clone() for k, v in encoder.state_dict().items()}
    encoder.to(dtype).train().zero_grad(set_to_none=True)
    with torch.autocast(views.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        z = encoder.project(encoder(views.to(dtype)))
    loss = supcon_loss(z.to(torch.promote_types(z.dtype, torch.float32)), labels, temperature)
    loss.backward()
    gradient = torch.cat([p.grad.double().flatten() for p in encoder.parameters() if p.grad is not None])
    encoder.to(torch.float32).load_state_dict(state)
    return float(loss.detach()), gradient


def errors(encoder, data, config: TrainConfig, batches: int) -> pd.DataFrame:
    "One row per batch and precision."
    g, rows, before = generator(0), [], None
    kind = data.kind if config.augmentation == "auto" else config.augmentation
    for _ in range(batches):
        at = torch.randperm(len(data.train), generator=g)[:config.batch_size]
        views = torch.cat([augment(data.train[at], kind, config.augment_strength, g, data.kind == "natural",
                                   config.cutout) for _ in range(config.views)])
        views = views.contiguous(memory_format=torch.channels_last)
        labels = data.train_labels[at].repeat(config.views)
        found = {p: loss_and_gradient(encoder, views, labels, config.temperature, p) for p in PRECISIONS}
        reference = found.pop("float64")
        if before: found["another batch"] = before
        for name, (loss, gradient) in found.items():
            rows.append({"precision": name, "loss": reference[0], "loss error": abs(loss/reference[0] - 1),
                         "gradient error": float((gradient - reference[1]).norm()/reference[1].norm())})
        before = reference
    return pd.DataFrame(rows)


def main(argv=None) -> pd.DataFrame:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run", nargs="?", type=Path, help="run directory of ncib train")
    p.add_argument("--data", help="folder or file of its images (default: what the run says)")
    p.add_argument("--epochs", nargs="+", type=int, help="checkpoints (default: first, middle and last)")
    p.add_argument("--batches", type=int, default=5, help="of each checkpoint (default: %(default)s)")
    p.add_argument("--out", type=Path, help="write the table as CSV")
    p.add_argument("--quick", action="store_true", help="a short training on the digits, two batches")
    a = p.parse_args(argv)
    if not (a.run or a.quick): p.error("a run directory is needed, or --quick")
    with tempfile.TemporaryDirectory() as d:
        short = TrainConfig(epochs=2, checkpoints=2, batch_size=128, device="cpu")
        run = train(short, Path(d)/"run", progress=False) if a.quick else Run(a.run)
        config = dataclasses.replace(TrainConfig(**run.config), **({"data": a.data} if a.data else {}))
        data, kept = load_images(config.data), run.epochs
        rows = []
        for epoch in a.epochs or [kept[0], kept[len(kept)//2], kept[-1]]:
            e = errors(run.encoder(epoch), data, config, 2 if a.quick else a.batches)
            rows.append(e.groupby("precision", sort=False).median().reset_index().assign(epoch=epoch))
    table = pd.concat(rows)[["epoch", "precision", "loss", "loss error", "gradient error"]]
    table = table.assign(batch=config.batch_size, torch=torch.__version__, machine=platform.machine())
    print(table.to_string(index=False, float_format=lambda v: f"{v:.3g}"))
    if a.out:
        with atomic_write(a.out) as tmp: table.to_csv(tmp, index=False)
    return table


if __name__ == "__main__": main()
