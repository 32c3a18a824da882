#!/usr/bin/env python3
"""Images per second of a training step by backbone, batch and precision, the share of its stages, peak memory, and the
ratio to a plain loop with host-side augmentation.

    python benchmarks/train.py --device cuda --backbones resnet18 resnet50 --batches 512 1024 --workers 14 --out t.json
    python benchmarks/train.py --device cpu --backbones light --batches 256 --steps 3 --precisions float32

ncib    the package's own step on random 32x32 colour images: two views drawn on the device, network, supervised
contrastive loss, gradient, SGD. "step" is the whole, as `ncib train` runs it (compiled with
        --compile); the stages are timed one by one in further steps (eager), so that their sum is a little more than
        the step. Features are extracted in float32.
plain   what one writes first: a DataLoader whose worker processes draw both views with torchvision.transforms, float32
(TF32 on CUDA), a dense n x n loss, an ordinary SGD. Same network, batch and images.
Both warm up, then take turns; the median of the turns is given. "images" are training images: each is seen in two
views.
"""
import argparse, json, os, platform, statistics, time

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from ncib.core import generator, write_json
from ncib.data import augment
from ncib.losses import supcon_loss
from ncib.nets import Encoder, extract_features

def clock(device):
    if device.type == "cuda": torch.cuda.synchronize(device)
    return time.perf_counter()

class Ncib:
    def __init__(self, images, labels, backbone, half, compiled):
        self.images, self.labels, self.half, device = images, labels, half, images.device
        self.net = Encoder(backbone, tuple(images.shape[1:])).to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=.1, momentum=.9, weight_decay=1e-4, nesterov=True,
                                         fused=device.type == "cuda" or None)
        self.forward_eager = lambda v: self.net.project(self.net(v))
        self.forward = torch.compile(self.forward_eager, dynamic=False) if compiled else self.forward_eager
        self.g = generator(0, device=device)

    def stages(self, forward):
        views = torch.cat([augment(self.images, "natural", 1., self.g)
                           for _ in range(2)]).contiguous(memory_format=torch.channels_last)
        yield "augmentation"
        with torch.autocast(self.images.device.type, torch.bfloat16, enabled=self.half): z = forward(views)
        yield "forward"
        loss = supcon_loss(z, self.labels.repeat(2))
        yield "loss"
        self.optimizer.zero_grad(set_to_none=True); loss.backward()
        yield "backward"
        self.optimizer.step()
        yield "optimiser"

    def step(self):
        for _ in self.stages(self.forward): pass

    def shares(self, steps):
        seconds = {}
        for _ in range(steps):
            last = clock(self.images.device)
            for name in self.stages(self.forward_eager):
                now = clock(self.images.device)
                seconds.setdefault(name, []).append(now - last); last = now
        return {k: statistics.median(v) for k, v in seconds.items()}

class TwoViews(Dataset):
    def __init__(self, images, labels, length):
        self.images, self.labels, self.length = images.permute(0, 2, 3, 1).numpy(), labels, length
        self.transform = transforms.Compose([transforms.ToPILImage(),
                                             transforms.RandomResizedCrop(images.shape[2], scale=(.2, 1.)),
                                             transforms.RandomHorizontalFlip(),
                                             transforms.RandomApply([transforms.ColorJitter(.4, .4, .4, .1)], p=.8),
                                             transforms.RandomGrayscale(.2), transforms.ToTensor()])

    def __len__(self): return self.length

    def __getitem__(self, i):
        i %= len(self.images)
        return self.transform(self.images[i]), self.transform(self.images[i]), self.labels[i]

def dense_loss(z, y, temperature=.1):
    s = z @ z.T/temperature
    self_pair = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positive = (y[:, None] == y[None]) & ~self_pair
    log_p = s - s.masked_fill(self_pair, -torch.inf).logsumexp(1, keepdim=True)
    return -((log_p*positive).sum(1)/positive.sum(1).clamp_min(1)).mean()

class Plain:
    def __init__(self, images, labels, backbone, batch, steps, workers, device):
        self.net = Encoder(backbone, tuple(images.shape[1:])).to(device)
        self.optimizer, self.device = (torch.optim.SGD(self.net.parameters(), lr=.1, momentum=.9, weight_decay=1e-4,
                                                       nesterov=True), device)
        self.loader = DataLoader(TwoViews(images, labels, batch*steps), batch, num_workers=workers,
                                 pin_memory=device.type == "cuda", persistent_workers=workers > 0)

    def epoch(self):
        for a, b, y in self.loader:
            views, y = torch.cat([a, b]).to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)
            loss = dense_loss(self.net.project(self.net(views)), y.repeat(2))
            self.optimizer.zero_grad(); loss.backward(); self.optimizer.step()

def measure(a, device, backbone, batch, precision):
    g = torch.Generator().manual_seed(0)
    images, labels = (torch.randint(256, (batch, 3, 32, 32), dtype=torch.uint8, generator=g),
                      torch.randint(10, (batch,), generator=g))
    ours = Ncib(images.to(device), labels.to(device), backbone, precision == "bfloat16", a.compile)
    plain = None if a.no_plain else Plain(images, labels, backbone, batch, a.steps, a.workers, device)
    for _ in range(3): ours.step()
    if plain: plain.epoch()
    mine, theirs = [], []
    if device.type == "cuda": torch.cuda.reset_peak_memory_stats(device)
    for turn in range(a.turns):
        start = clock(device)
        for _ in range(a.steps): ours.step()
        mine.append((clock(device) - start)/a.steps)
        if turn == 0: memory = torch.cuda.max_memory_allocated(device)/2**30 if device.type == "cuda" else None
        if plain:
            start = clock(device); plain.epoch(); theirs.append((clock(device) - start)/a.steps)
    step, shares = statistics.median(mine), ours.shares(a.steps)
    many = ours.images.repeat(4, 1, 1, 1)
    start = clock(device); extract_features(ours.net, many); features = len(many)/(clock(device) - start)
    row = {"backbone": backbone, "batch": batch, "precision": precision, "compiled": a.compile, "step_seconds": step,
           "images_per_second": batch/step, "features_per_second": features, "peak_gib": memory,
           "stages": {k: {"seconds": v, "share": v/sum(shares.values())} for k, v in shares.items()}}
    if plain:
        row |= {"plain_step_seconds": statistics.median(theirs),
                "plain_images_per_second": batch/statistics.median(theirs), "ratio": statistics.median(theirs)/step}
    return row

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--backbones", nargs="+", default=["resnet18", "resnet50"])
    p.add_argument("--batches", nargs="+", type=int, default=[1024], help="images per step")
    p.add_argument("--precisions", nargs="+", choices=("float32", "bfloat16"), default=["bfloat16"])
    p.add_argument("--steps", type=int, default=20, help="per turn")
    p.add_argument("--turns", type=int, default=3)
    p.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2),
                   help="of the plain loop's DataLoader")
    p.add_argument("--compile", action="store_true", help="torch.compile ncib's forward pass")
    p.add_argument("--no-plain", action="store_true", help="leave out the plain loop")
    p.add_argument("--out", help="write the figures as JSON")
    a = p.parse_args()
    device = torch.device(a.device)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    about = {"torch": torch.__version__, "python": platform.python_version(),
             "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
             or platform.machine(),
             "cpus": os.cpu_count(), "threads": torch.get_num_threads(), "steps": a.steps, "turns": a.turns,
             "workers": a.workers}
    print(json.dumps(about))
    rows = []
    for backbone in a.backbones:
        for batch in a.batches:
            for precision in a.precisions:
                r = measure(a, device, backbone, batch, precision); rows.append(r)
                print(f"{backbone} batch {batch} {precision}: {r['images_per_second']:,.0f} images/s, features of "
                      f"{r['features_per_second']:,.0f} images/s"
                      + (f", {r['peak_gib']:.1f} GiB" if r["peak_gib"] else "")
                      + (f", plain loop {r['plain_images_per_second']:,.0f}, x{r['ratio']:.1f}" if "ratio" in r
                         else "") + "; " + ", ".join(f"{k} {v['share']:.0%}" for k, v in r["stages"].items()),
                      flush=True)
                if a.out: write_json(a.out, {"about": about, "rows": rows})

if __name__ == "__main__": main()
