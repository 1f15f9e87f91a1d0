"""Train ``glsgn_s`` for rain, haze and reflection, and peers on the same budget; a results table.

One command, unattended; killed and called again, it goes on where it was::

    python benchmarks/train_zoo.py --photographs photographs --minutes 45 --out zoo

- ``photographs.csv`` beside this file lists the photographs, their licences, and which of them are
  for testing; ``docs/results.md`` says how to get them. They are decoded once, scaled down to cover
  3840x2160 and kept as BMP, which a loader reads as fast as the disk.
- Training is ``basicsr train`` on the library's own synthesis, with the shipped options but for
  size and schedule. A trial of some steps tells their pace; the schedule then ends with the budget.
- Peers (``--networks``) have the same data, seed, crops, optimiser, precision and wall-clock.
- Tests are on photographs never trained on, restored as ``glsgn restore`` does (``tile: auto``).
- GLSGN's weights are packed in half precision, and tested as packed. They are put into
  ``weights/`` only where they are better than their input by the bar of their task.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from peers import PEERS
from train import BIN, pace

from glsgn_plugins.archs.glsgn import PATCH_NORMS
from glsgn_plugins.io.atomic import atomic_write, atomic_write_into
from glsgn_plugins.io.images import read_image
from glsgn_plugins.io.pretrained import OPTIONS
from glsgn_plugins.io.shipped import find_shipped

HERE = Path(__file__).resolve().parent
BARS = {"rain": 2.0, "haze": 1.5, "reflection": 1.5}
"""By how many dB weights must beat their input to be kept."""

GLSGN_S = {"type": "GLSGN", "widths": [16, 24, 32, 32], "blocks": [1, 1, 1]}
SIZES = ((2160, 3840), (1440, 2560))
"""Rows and columns of test images: the first that a photograph covers."""

UPRIGHT = "train/upright"

TRIAL = 40
"""Steps from which the pace is known."""


def fitted(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Scaled down until it just covers ``size``."""
    scale = max(side / have for side, have in zip(size, image.shape))
    if scale >= 1:
        return image
    to = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, to, interpolation=cv2.INTER_AREA))


def cache(photographs: Path, folder: Path) -> None:
    """``train``, ``dev`` and ``test`` photographs as BMP; those that are there already are kept.

    Those to train on are there upright and turned: rain falls on what was turned before, too, or
    bark and grass, which mostly stand upright, would be taken for streaks.
    """
    with (HERE / "photographs.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    missing = [row["file"] for row in listed if not (photographs / row["file"]).is_file()]
    if missing:
        sys.exit(f"{photographs}: no {missing[0]} and {len(missing) - 1} more; see docs/results.md")
    for row in listed:
        train = row["split"] == "train"
        places = (UPRIGHT, "train/turned") if train else (row["split"],)
        targets = [folder / place / f"{row['name']}.bmp" for place in places]
        if all(target.is_file() for target in targets):
            continue
        image = read_image(photographs / row["file"])
        if train:
            image = fitted(image, SIZES[0])
        else:
            rows, cols = next(s for s in SIZES if image.shape[0] >= s[0] and image.shape[1] >= s[1])
            image = fitted(image, (rows, cols))
            top, left = (image.shape[0] - rows) // 2, (image.shape[1] - cols) // 2
            image = image[top : top + rows, left : left + cols]
        for turns, target in enumerate(targets):
            with atomic_write_into(target.parent) as scratch:
                cv2.imwrite(str(scratch / target.name), np.rot90(image[..., ::-1], turns))


def options(task: str, network: str, args: argparse.Namespace, steps: int) -> dict[str, Any]:
    """The shipped options of a task, on synthesized crops and this budget."""
    file = find_shipped(OPTIONS[task], "basicsr_options", ".yml")
    opt: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    del opt["datasets"]["val"], opt["val"]
    opt["name"] = f"{network}_{task}"
    opt["manual_seed"] = args.seed
    opt["datasets"]["train"] = {
        "name": task,
        "type": "UHDSynthesisDataset",
        "dataroot": str(args.out / "photographs" / ("train" if task == "rain" else UPRIGHT)),
        "degradation": {"type": task},
        "gt_size": args.crop,
        "crops_per_image": 2,
        "scene_share": args.scene_share,
        "use_hflip": True,
        "num_worker_per_gpu": args.workers,
        "batch_size_per_gpu": args.batch,
        # Epochs of some thousand samples: the loader's processes start anew with each.
        "dataset_enlarge_ratio": 100,
    }
    train = opt["train"]
    if network == "glsgn_s":
        opt["network_g"] = {**GLSGN_S, "patch_norm": args.patch_norm}
    else:
        opt["network_g"] = {"type": "Peer", "peer": network}
        train["pixel_opt"] = {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}
    if args.start and network == "glsgn_s":
        opt["path"]["pretrain_network_g"] = str(args.start.resolve())
    train.update(
        amp=args.amp,
        total_iter=steps,
        warmup_iter=min(200, steps // 20),
        # The average reaches over a twentieth of the schedule, however short that is.
        ema_decay=max(0.9, 1 - 20 / steps),
    )
    train["optim_g"]["lr"] = args.lr
    train["scheduler"].update(periods=[steps], eta_min=1e-7)
    opt["logger"].update(
        print_freq=max(1, min(50, steps // 8)),
        save_checkpoint_freq=max(100, steps // 10),
        use_tb_logger=False,
    )
    return opt


def basicsr_train(opt: dict[str, Any], file: Path, folder: Path, resume: bool) -> str:
    """Run it; what it logged."""
    atomic_write(file, yaml.safe_dump(opt).encode())
    command = [sys.executable, str(HERE / "peers.py")]
    if opt["network_g"]["type"] == "GLSGN":
        command = [str(BIN / "basicsr"), "train"]
    log = folder / f"{opt['name']}.log"
    with log.open("a", encoding="utf-8") as into:
        done = subprocess.run(
            [*command, "-opt", str(file), *(["--auto_resume"] if resume else [])],
            cwd=folder,
            stdout=into,
            stderr=subprocess.STDOUT,
            check=False,
        )
    said = log.read_text(encoding="utf-8")
    if done.returncode:
        sys.exit(f"{opt['name']} failed, see {log}:\n{said[-1500:]}")
    return said


def train(task: str, network: str, args: argparse.Namespace) -> dict[str, Any]:
    """A network trained for the budget, in ``args.out / NETWORK_TASK.pth``; what it took."""
    name = f"{network}_{task}"
    record = args.out / f"{name}.json"
    if record.is_file():
        return json.loads(record.read_text())
    file = args.out / f"{name}.yml"
    if not file.is_file():
        trial = options(task, network, args, TRIAL)
        trial["name"] += "_trial"
        trial_file = args.out / f"{trial['name']}.yml"
        seconds, _ = pace(basicsr_train(trial, trial_file, args.out, resume=False))
        for left in (args.out / "experiments" / trial["name"], args.out / f"{trial['name']}.log"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        trial_file.unlink()
        opt = options(task, network, args, max(TRIAL, int(args.minutes * 60 / seconds)))
    else:
        opt = yaml.safe_load(file.read_text(encoding="utf-8"))
    models = args.out / "experiments" / name / "models"
    start = time.monotonic()
    said = basicsr_train(opt, file, args.out, resume=any(models.glob("net_g_*.pth")))
    seconds, waited = pace(said)
    shutil.copyfile(models / "net_g_latest.pth", args.out / f"{name}.pth")
    found = {
        "steps": opt["train"]["total_iter"],
        "minutes": (time.monotonic() - start) / 60,
        "seconds": seconds,
        "waited": waited / seconds,
    }
    atomic_write(record, json.dumps(found, indent=1).encode())
    return found


def scores(image: NDArray[Any], gt: NDArray[Any]) -> dict[str, float]:
    """Of 8-bit RGB, no border cropped, all channels."""
    from basicsr.metrics import calculate_psnr, calculate_ssim

    from glsgn_plugins.metrics import calculate_seam

    return {
        "psnr": float(calculate_psnr(image, gt, crop_border=0)),
        "ssim": float(calculate_ssim(image, gt, crop_border=0)),
        "seam": float(calculate_seam(image, gt)),
    }


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Restore and judge the test images; in a process of its own, as memory is measured."""
    from inference import MIB, status, trimmed
    from peers import Peer

    from glsgn_plugins import restore
    from glsgn_plugins.compat import patch_basicsr
    from glsgn_plugins.io.checkpoints import read_checkpoint
    from glsgn_plugins.io.weights import read_glsgn

    patch_basicsr()
    pairs = Path(job["pairs"])
    names = sorted(f.name for f in (pairs / "lq").iterdir())
    if job["network"] == "the input":
        found = [scores(read_image(pairs / "lq" / n), read_image(pairs / "gt" / n)) for n in names]
        return {key: mean(f[key] for f in found) for key in found[0]} | {"each": found}
    if job["network"] == "glsgn_s":
        net: torch.nn.Module = read_glsgn(job["weights"])
    else:
        net = Peer(job["network"])
        net.load_state_dict(read_checkpoint(job["weights"])["params_ema"])
    device = torch.device(job["device"])
    net = net.eval().to(device, memory_format=torch.channels_last)
    restore(net, torch.rand(1, 3, 128, 128))  # libraries and threads get set up
    shown = Path(job["shown"])
    shown.mkdir(parents=True, exist_ok=True)
    how: list[str] = []
    found = []
    cost: dict[str, float] = {}
    for name in names:
        lq = torch.from_numpy(read_image(pairs / "lq" / name)).permute(2, 0, 1)[None] / 255
        held = trimmed()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
        start = time.perf_counter()
        output = restore(net, lq, say=how.append)
        seconds = time.perf_counter() - start
        peak = status("VmHWM") - held - output.numel() * 4
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated() - held
        if lq.shape[2:] == SIZES[0] and not cost:
            cost = {"seconds_4k": seconds, "mib_4k": peak / MIB}
        image = output[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
        cv2.imwrite(str(shown / name), image[..., ::-1])
        found.append(scores(image, read_image(pairs / "gt" / name)))
    figures = {key: mean(f[key] for f in found) for key in found[0]}
    parameters = sum(p.numel() for p in net.parameters())
    return {**figures, **cost, "parameters": parameters, "each": found, "how": how[-1]}


def judge(task: str, network: str, args: argparse.Namespace) -> dict[str, Any]:
    """Figures of a trained network on the test images."""
    record = args.out / f"{network.replace(' ', '_')}_{task}_test.json"
    if record.is_file():
        return json.loads(record.read_text())
    job = {
        "network": network,
        "weights": str(args.out / f"{network}_{task}.pth"),
        "pairs": str(args.out / f"{task}_test"),
        "shown": str(args.out / f"{network}_{task}_restored"),
        "device": args.device,
    }
    if network == "glsgn_s":
        job["weights"] = str(packed(args.out / f"{network}_{task}.pth"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--worker", json.dumps(job)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"the test of {network} for {task} failed")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    atomic_write(record, json.dumps(found, indent=1).encode())
    return found


def packed(weights: Path) -> Path:
    """The averaged weights in half precision."""
    from glsgn_plugins.io.weights import read_weights, write_weights

    file = weights.with_suffix(".safetensors")
    if not file.is_file():
        found = read_weights(weights)
        write_weights(found.weights, file, torch.float16, found.options)
    return file


def keep(task: str, found: dict[str, Any], before: dict[str, Any], out: Path) -> str:
    """Whether the weights reach the bar of their task; those that do go to ``weights/``."""
    gain, bar = found["psnr"] - before["psnr"], BARS[task]
    said = f"{task}: {gain:+.2f} dB on unseen photographs, bar {bar:+.1f} dB"
    if gain < bar:
        return f"{said}: not kept."
    target = out / "weights" / f"{task}.safetensors"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(out / f"glsgn_s_{task}.safetensors", target)
    return f"{said}: `{target.name}`, {target.stat().st_size / 1e6:.1f} MB."


def lines_of(task: str, args: argparse.Namespace) -> list[str]:
    """Everything for one task, as Markdown."""
    pairs = args.out / f"{task}_test"
    subprocess.run(
        [
            *(str(BIN / "glsgn"), "synthesize", task, "--workers", "1", "--seed", "1"),
            *("--clean", str(args.out / "photographs" / "test"), "--out", str(pairs)),
        ],
        check=True,
    )
    before = judge(task, "the input", args)
    lines = [
        f"| {task} | parameters | steps | s/step | waiting for data | PSNR | SSIM | seam "
        "| 4K s | 4K MiB | how |",
        "| --- |" + " --- |" * 10,
        f"| the input | | | | | {before['psnr']:.2f} | {before['ssim']:.4f} | | | | |",
    ]
    notes = []
    for network in args.networks:
        print(f"{network} for {task}: {args.minutes:g} minutes", file=sys.stderr, flush=True)
        took = train(task, network, args)
        found = judge(task, network, args)
        lines.append(
            f"| {network} | {found['parameters'] / 1e6:.2f} M | {took['steps']} "
            f"| {took['seconds']:.2f} | {took['waited']:.0%} | {found['psnr']:.2f} "
            f"| {found['ssim']:.4f} | {found['seam']:.3f} | {found['seconds_4k']:.1f} "
            f"| {found['mib_4k']:.0f} | {found['how']} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
        if network == "glsgn_s":
            notes.append(keep(task, found, before, args.out))
    return [*lines, "", *notes, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    cuda = torch.cuda.is_available()
    parser.add_argument("--photographs", type=Path, help="folder that photographs.csv is about")
    parser.add_argument("--tasks", nargs="+", choices=BARS, default=list(BARS))
    networks = ("glsgn_s", *PEERS)
    parser.add_argument("--networks", nargs="+", choices=networks, default=list(networks))
    parser.add_argument("--minutes", type=float, default=45, help="of training, each")
    parser.add_argument("--out", type=Path, default=Path("experiments/zoo"))
    parser.add_argument("--crop", type=int, default=512 if cuda else 256)
    parser.add_argument("--batch", type=int, default=8 if cuda else 4)
    parser.add_argument("--scene-share", type=float, default=0.2)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--amp", choices=("bf16",), help="on CPUs, too; default on a GPU")
    parser.add_argument("--workers", type=int, default=(os.cpu_count() or 2) - 1 if cuda else 1)
    parser.add_argument(
        "--start", type=Path, metavar="FILE", help="weights for glsgn_s to go on from"
    )
    parser.add_argument("--patch-norm", choices=PATCH_NORMS, default="none", help="of glsgn_s")
    parser.add_argument("--seed", type=int, default=2207)
    parser.add_argument("--table", type=Path, help="Markdown file for the table")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.device = "cuda" if cuda else "cpu"
    if args.worker:
        print(json.dumps(work(args.worker)))
        return
    if args.photographs is None:
        parser.error("--photographs is missing; docs/results.md says how to get them")
    if cuda and args.amp is None:
        args.amp = "bf16"
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    cache(args.photographs, args.out / "photographs")
    lines = [
        f"`python benchmarks/train_zoo.py {shlex.join(sys.argv[1:])}`",
        "",
        f"torch {torch.__version__}, "
        f"{torch.cuda.get_device_name() if cuda else platform.machine()}, "
        f"{torch.get_num_threads()} CPU threads, {date.today()}; {args.minutes:g} minutes of "
        f"training each, crops of {args.crop} in batches of {args.batch}, {args.amp or 'float32'}.",
        "",
    ]
    for task in args.tasks:
        lines += lines_of(task, args)
    report = "\n".join(lines)
    print(report)
    if args.table:
        args.table.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
