#!/usr/bin/env python3
"""Linear probes of finished encoders on the test images, plain and with every image beside its mirror image.

    python experiments/mirrored.py runs/reproduce/cifar10-cpu/main/base/encoder-* --data cifar10 --out mirrored.csv

The features of an image are then the mean of its own and of its mirror image's, in training and test images alike; the
encoders are not touched. Published accuracies of fast trainings on CIFAR-10 are of this kind. Probes are fitted to all
training images, with the labels that the encoder learned from.
"""
import argparse
import sys
from pathlib import Path

import pandas as pd
from torch import Tensor

from ncib.core import InputError, atomic_write, tqdm
from ncib.data import ImageData, load_images, noisy_labels
from ncib.nets import Encoder, extract_features
from ncib.probe import linear_probe
from ncib.runs import Run


def mirrored(encoder: Encoder, images: Tensor)->tuple[Tensor, Tensor]: # (n, d) twice: plain, mean with the mirror image
    plain, mirror = (extract_features(encoder, x)[0] for x in (images, images.flip(-1)))
    return plain, (plain + mirror)/2


def accuracies(run: Run, data: ImageData)->dict[str, float]:
    "A row of the table."
    c = run.config
    if run.data.get("fingerprint") != data.fingerprint():
        raise InputError(f"{run.path} was trained on other images than those of {data.name}, or on a part of them")
    labels = noisy_labels(data.train_labels, c["label_noise"], data.num_classes, c["label_noise_seed"])
    encoder = run.encoder()
    train, test = (mirrored(encoder, x) for x in (data.train, data.test))
    found = [linear_probe(f, labels, data.num_classes).accuracy(g, data.test_labels) for f, g in zip(train, test)]
    return {"encoder": run.path.name, "probe_accuracy": found[0], "mirrored_probe_accuracy": found[1]}


def main(argv: "list[str]|None" = None)->int: # exit status
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("runs", nargs="+", help="run directories")
    p.add_argument("--data", required=True, help="the images that they were trained on")
    p.add_argument("--out", required=True, help="a .csv file")
    args = p.parse_args(argv)
    try:
        data = load_images(args.data)
        rows = [accuracies(Run(r), data) for r in tqdm(args.runs, desc="encoders")]
        with atomic_write(Path(args.out)) as tmp: pd.DataFrame(rows).round(6).to_csv(tmp, index=False)
    except (InputError, OSError) as e: print(f"mirrored: {e}", file=sys.stderr); return 1
    print(pd.DataFrame(rows).to_string(index=False))
    return 0


if __name__ == "__main__": sys.exit(main())
