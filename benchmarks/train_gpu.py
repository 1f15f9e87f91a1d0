"""A task's weights, or a peer's, on one GPU in minutes; two commands that run beside each other.

    python benchmarks/train_gpu.py crops --task rain --photographs zoo/photographs \
        --pool pool/rain --seconds 500
    python benchmarks/train_gpu.py train --task rain --pool pool/rain --seconds 480 \
        --start glsgn_plugins/pretrained/rain.safetensors --out rain.safetensors

- ``crops`` draws crops of what ``train_zoo.py`` made of the photographs, by as many processes as
  ``--workers`` says, degrades them on the GPU (``degrade_on_device``), and puts them into files.
- ``train`` takes them up as they come, keeps the last of them on the GPU, and draws its batches
  from all that is there: the loaders of an H200's sixteen cores drew three quarters of what three
  trainings beside each other took, so each crop was seen one to two times, flipped or not.
- AdamW, cosine over the seconds, L1 and the consistencies of the shipped options, bf16, averaged
  weights. ``--network U-Net`` and so on: a peer of ``peers.py`` with the same crops, steps of the
  same size and the same seconds; L1 alone, as it has no pathways.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from networks import TEST, Picture, figures, means_of, pictures, restored
from peers import PEERS, Peer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from train_zoo import GLSGN_S

from glsgn_plugins.archs.glsgn import GLSGN, PathwayOutputs
from glsgn_plugins.data.crops import Crops
from glsgn_plugins.data.datasets import UHDMixedDataset
from glsgn_plugins.data.sampling import SampleIndex
from glsgn_plugins.degradations.on_device import degrade
from glsgn_plugins.io.weights import read_weights, write_weights
from glsgn_plugins.losses import GLSGNLoss
from glsgn_plugins.training import to_device, update_averages

FILE = 512
"""Crops in a file of the pool."""
FROM_ONE = 4
"""Crops of a photograph that is decoded."""
EVEN = {
    "airlight": [0.6, 1.0],
    "glow": [0.0, 0.05],
    "uneven": [0.0, 0.05],
    "warmth": [-0.03, 0.03],
    "redder": [-0.03, 0.03],
    "beta": [0.3, 2.6],
    "display": 1.0,
}
"""The haze of SOTS."""
SIDES = {"rain": 256, "haze": 256, "reflection": 320}
"""Of the crops, in pixels."""
SCENES = {"rain": 0.25, "haze": 0.8, "reflection": 0.45}
"""Share of the crops that are whole photographs scaled down."""
PRESETS = ("real", "plain")
"""In which the test photographs are judged."""
Part = tuple[float, str, dict[str, Any]]
"""A share, a folder of the photographs, and options of the degradation."""

_STREAKS = {
    "cover": [0.02, 0.45],
    "misty": 0.0,
    "opacity": [0.3, 0.9],
    "veiled": 0.0,
    "identity": 0.2,
}
# As dense as Rain100H: what shows between the streaks is the truth, nothing lies over it.
_DOWNPOUR = {
    "opaque": 0.08,
    "cover": [0.1, 0.42],
    "opacity": [0.15, 0.7],
    "length": [0.04, 0.33],
    "width": [0.0012, 0.006],
    "angle": [-35, 35],
    "defocus": [0, 0.0015],
    "soft": 0.1,
    "misty": 0.0,
    "veiled": 0.0,
    "near": 0.0,
    "splashing": 0.05,
    "identity": 0.15,
}
# As bright as SIRR20's, which is added throughout. Streaks in mist are soft and faint alone: what
# has strong ones as well makes Rain100H dark.
_MIST = {
    "opaque": 0.0,
    "misty": 1.0,
    "mist": [0.12, 0.65],
    "soft": 1.0,
    "opacity": [0.08, 0.45],
    "cover": [0.01, 0.15],
    "length": [0.03, 0.3],
    "width": [0.0008, 0.004],
    "angle": [-20, 20],
    "spread": [0, 10],
    "veiled": 0.0,
    "near": 0.0,
    "splashing": 0.0,
    "identity": 0.3,
}
# Strong streaks before a veil make Rain100H dark as well.
_VEIL = {
    "veiled": 1.0,
    "veil": [1.0, 4.2],
    "misty": 0.0,
    "cover": [0.01, 0.15],
    "opacity": [0.06, 0.4],
    "identity": 0.2,
}
_REAL_RAIN = {"opacity": [0.1, 0.9], "veiled": 0.15, "misty": 0.3, "identity": 0.3}
# Behind a bright reflection, as often in Real20 and LASIRR.
_DARK_ROOM = {"scene": [0.3, 1.1], "strength": [0.1, 1.0], "identity": 0.1}
PARTS: dict[str, list[Part]] = {
    "rain": [
        (2, "exposed", _DOWNPOUR),
        (1, "bright", _DOWNPOUR),
        (1, "contrast", _DOWNPOUR),
        (2, "train", _DOWNPOUR),
        (1, "exposed", _STREAKS),
        (1, "train", _STREAKS),
        (1, "dim", _MIST),
        (1, "contrast", _MIST),
        (1, "train", _MIST),
        (1, "bright", _MIST),
        (1, "dim", _VEIL),
        (1, "contrast", _VEIL),
        (1, "train", _VEIL),
        (1, "exposed", _REAL_RAIN),
        (3, "train", _REAL_RAIN),
        (4, "train", {"preset": "plain"}),
        (1, "exposed", {"preset": "plain"}),
        (1, "bright", {"preset": "plain"}),
        (3, "train", {"identity": 1.0}),
        (1, "exposed", {"identity": 1.0}),
        (1, "contrast", {"identity": 1.0}),
        (1, "bright", {"identity": 1.0}),
    ],
    "haze": [
        (3, "contrast", {**EVEN, "identity": 0.3}),
        (3, "bright", {"identity": 0.35}),
        (1, "exposed", {"identity": 0.35}),
        (3, "train/upright", {"identity": 0.4}),
        (1, "contrast", {"preset": "plain"}),
    ],
    "reflection": [
        (2, "exposed", _DARK_ROOM),
        (1, "contrast", _DARK_ROOM),
        (1, "bright", {"identity": 0.1}),
        (2, "exposed", {"identity": 0.1}),
        (2, "train/upright", {"identity": 0.1}),
        (1, "train/upright", {"preset": "plain"}),
        (1, "exposed", {"preset": "plain"}),
        (1, "train/upright", {"identity": 1.0}),
        (1, "contrast", {"identity": 1.0}),
        (1, "bright", {"identity": 1.0}),
    ],
}
"""What each task is trained on."""


# --- crops ----------------------------------------------------------------------------------------


class Drawn(IterableDataset[Any]):
    """Clean crops and their recipes, without an end, each worker's others."""

    def __init__(self, task: str, photographs: Path, seed: int) -> None:
        options = [
            {
                "type": "UHDSynthesisDataset",
                "dataroot": str(photographs / folder),
                "degradation": {"type": task, **degradation},
            }
            for _, folder, degradation in PARTS[task]
        ]
        crops = Crops(
            gt_size=SIDES[task],
            scene_share=SCENES[task],
            resize=(0.2, 1.0),
            use_hflip=True,
            crops_per_image=FROM_ONE,
            seed=seed,
        )
        self.mixed = UHDMixedDataset(options, crops)
        for part in (self.mixed, *self.mixed.parts):
            part.as_bytes = True
        self.mixed.degrade_on_device()
        shares = np.array([share for share, *_ in PARTS[task]], float)
        self.shares, self.seed = shares / shares.sum(), seed

    def __iter__(self) -> Iterator[Any]:
        cv2.setNumThreads(0)
        worker = get_worker_info()
        number = worker.id if worker else 0
        rng = np.random.default_rng([self.seed, number])
        position = 0
        while True:
            part = self.mixed.parts[int(rng.choice(len(self.shares), p=self.shares))]
            index = int(rng.integers(len(part)))
            places = range(position, position + FROM_ONE)
            for sample in part.__getitems__([SampleIndex(index, number, k) for k in places]):
                yield {key: sample[key] for key in ("gt", "recipe")}
            position += FROM_ONE


def make_crops(args: argparse.Namespace) -> None:
    """Files of pairs, ``(FILE, 2, 3, size, size)`` uint8, until the seconds are over."""
    args.pool.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    drawn = Drawn(args.task, args.photographs, args.seed)
    loader = DataLoader(drawn, batch_size=64, num_workers=args.workers, prefetch_factor=2)
    kept: list[np.ndarray[Any, Any]] = []
    files = 0
    for batch in loader:
        recipe = {name: part.to(args.device) for name, part in batch["recipe"].items()}
        pairs = torch.stack(degrade(batch["gt"].to(args.device), recipe), dim=1)
        kept.append(pairs.cpu().numpy())
        if sum(map(len, kept)) >= FILE:
            np.save(args.pool / "unfinished.npy", np.concatenate(kept)[:FILE])
            (args.pool / "unfinished.npy").rename(args.pool / f"{files:05d}.npy")
            (args.pool / f"{files - args.most // FILE:05d}.npy").unlink(missing_ok=True)
            files, kept = files + 1, []
        took = time.monotonic() - start
        if took > args.seconds:
            break
    print(f"{args.task}: {files * FILE} crops in {took:.0f} s", file=sys.stderr, flush=True)


# --- training -------------------------------------------------------------------------------------


class Pool:
    """The last crops that have come, on the device."""

    def __init__(self, folder: Path, most: int, device: str) -> None:
        self.folder, self.device, self.seen, self.came = folder, device, -1, 0
        while not (files := sorted(folder.glob("0*.npy"))):
            time.sleep(0.2)
        shape = np.load(files[0], mmap_mode="r").shape[1:]
        self.pairs = torch.empty((most // FILE, FILE, *shape), dtype=torch.uint8, device=device)
        self.take_up()

    def take_up(self) -> None:
        """Those that have come meanwhile, in place of the first."""
        for file in sorted(self.folder.glob("0*.npy")):
            if int(file.stem) <= self.seen:
                continue
            try:
                pairs = np.load(file)
            except FileNotFoundError:  # so far behind that it has been taken away
                continue
            self.pairs[self.came % len(self.pairs)].copy_(torch.from_numpy(pairs))
            self.seen, self.came = int(file.stem), self.came + 1

    @property
    def count(self) -> int:
        """Crops that are drawn from."""
        return FILE * min(self.came, len(self.pairs))

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Inputs and truths, float32 in [0, 1], channels-last."""
        some = torch.randint(self.count, (size,), device=self.device)
        pairs = self.pairs.flatten(0, 1).index_select(0, some)
        pairs = torch.where(
            torch.rand(size, 1, 1, 1, 1, device=self.device) < 0.5, pairs.flip(4), pairs
        )
        lq, gt = (to_device(images, images.device) for images in pairs.unbind(1))
        return lq, gt


def network(args: argparse.Namespace) -> tuple[nn.Module, dict[str, Any]]:
    """What is trained, and the options of its record."""
    if args.network != "glsgn_s":
        return Peer(args.network, return_pathways=True), {}
    options = {key: value for key, value in GLSGN_S.items() if key != "type"}
    net = GLSGN(**options, return_pathways=True)
    if args.start:
        found = read_weights(args.start)
        net.load_state_dict(found.weights)
        options = dict(found.options)
    return net, options


def objective(network: str) -> Any:
    """A loss of outputs and truth."""
    if network == "glsgn_s":
        return GLSGNLoss()
    return lambda outputs, gt: F.l1_loss(outputs.restored.float(), gt)


def train(args: argparse.Namespace) -> nn.Module:
    """Until the seconds are over; the averaged network."""
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    net, options = network(args)
    net = net.to(args.device, memory_format=torch.channels_last).train()
    average = copy.deepcopy(net)
    weights = list(net.parameters())
    values, averages = ([p.data for p in n.parameters()] for n in (net, average))
    optimizer = torch.optim.AdamW(
        weights, args.lr, betas=(0.9, 0.99), weight_decay=1e-4, fused=args.device == "cuda"
    )
    loss_of = objective(args.network)
    pool = Pool(args.pool, args.most, args.device)
    # Kernels are chosen before the clock starts.
    lq, gt = pool.batch(args.batch)
    amp = torch.autocast(args.device, torch.bfloat16, enabled=args.device == "cuda")
    with amp:
        outputs: PathwayOutputs = net(lq)
    loss_of(outputs, gt).backward()
    print("ready", flush=True)
    while args.go and not args.go.exists():
        time.sleep(0.05)
    # Without a GPU it counts the processor's time, as other work may share it.
    clock = time.monotonic if args.device == "cuda" else time.process_time
    start = said = saved = clock()
    step, decay = 0, 0.98
    while (gone := (clock() - start) / args.seconds) < 1 and step != args.steps:
        rate = args.lr * (0.5 + 0.5 * math.cos(math.pi * gone)) + 1e-7
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 100)
        lq, gt = pool.batch(args.batch)
        with amp:
            outputs = net(lq)
        loss = loss_of(outputs, gt)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        update_averages(averages, values, decay)
        step += 1
        now = clock()
        if step % 50 == 0:
            pool.take_up()
            # Over a twentieth of the steps that there will be.
            expected = step * args.seconds / (now - start)
            decay = max(0.9, 1 - 20 / expected)
        if now - said > 10:
            value = float(loss)
            pace = 1000 * (now - start) / step
            print(
                f"{args.task} {args.network}: step {step}, {now - start:.0f} s, {pace:.1f} ms, "
                f"loss {value:.4f}, {pool.count} crops",
                file=sys.stderr,
                flush=True,
            )
            if not math.isfinite(value):
                sys.exit("the loss isn't finite")
            said = now
        if now - saved > 60:
            save(average, args, options)
            saved = now
    save(average, args, options)
    came = FILE * pool.came
    print(
        f"{args.task} {args.network}: {step} steps of {args.batch} in "
        f"{clock() - start:.0f} s, {came} crops, each seen "
        f"{step * args.batch / came:.1f} times",
        flush=True,
    )
    return average.eval()


def judge(net: nn.Module, args: argparse.Namespace) -> None:
    """Means on the test photographs, in both presets, and on real pairs, beside the weights."""
    pictured = (
        (
            picture.key.replace(TEST, preset),
            figures(restored(net, picture.lq, args.device), picture.gt),
        )
        for preset in PRESETS
        for picture in shown(preset, args)
    )
    args.out.with_suffix(".json").write_text(json.dumps(means_of(pictured), indent=1))


def shown(preset: str, args: argparse.Namespace) -> list[Picture]:
    """What is judged on; real pairs once."""
    real = args.real if preset == "real" else None
    return pictures(args.task, args.test, real, json.dumps({"preset": preset}), args.draws)


def save(net: nn.Module, args: argparse.Namespace, options: dict[str, Any]) -> None:
    """In half precision, in place of what is there; peers' aren't kept."""
    if args.network == "glsgn_s":
        unfinished = args.out.with_name(f"unfinished_{args.out.name}")
        write_weights(net.state_dict(), unfinished, torch.float16, options)
        unfinished.replace(args.out)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("crops", "train"))
    parser.add_argument("--task", choices=PARTS, required=True)
    parser.add_argument("--pool", type=Path, required=True, help="folder of the crops")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--most", type=int, default=24000, help="crops that are kept")
    parser.add_argument("--seed", type=int, default=2207)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--photographs", type=Path, help="crops: what train_zoo.py made")
    parser.add_argument("--workers", type=int, default=5, help="crops: processes that draw")
    parser.add_argument("--network", choices=("glsgn_s", *PEERS), default="glsgn_s")
    parser.add_argument("--start", type=Path, help="train: weights that glsgn_s goes on from")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, help="train: at most")
    parser.add_argument("--go", type=Path, help="train: the clock starts when this file is there")
    parser.add_argument("--out", type=Path, help="train: .safetensors, and .json of its figures")
    parser.add_argument("--test", type=Path, help="train: folder of photographs to measure on")
    parser.add_argument("--real", type=Path, help="train: folder with rain/lq, rain/gt and so on")
    parser.add_argument("--draws", type=int, default=1, help="train: weathers of each photograph")
    args = parser.parse_args()
    if args.what == "crops":
        make_crops(args)
        return
    if args.test:  # made before the clock starts
        for preset in PRESETS:
            shown(preset, args)
    net = train(args)
    if args.test:
        judge(net, args)


if __name__ == "__main__":
    main()
