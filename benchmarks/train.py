"""Seconds and GPU memory of a training iteration: stock SRModel against GLSGNModel.

Runs the real ``basicsr train`` under torchrun (NCCL on a GPU, gloo without one), on random images,
with the network and batch of ``glsgn_derain.yml``::

    python benchmarks/train.py --iterations 200 --crop 512 --amp bf16 --out docs/train.md

Seconds are BasicSR's own average of the last half of the run, memory is what nvidia-smi shows for
the GPU at its highest, less what it showed before.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from glsgn_plugins.io.shipped import find_shipped

BIN = Path(sys.executable).parent
TIME = re.compile(r"time \(data\): ([\d.]+) \(([\d.]+)\)")


def memory() -> int:
    """MiB in use on all GPUs together; 0 without one."""
    if shutil.which("nvidia-smi") is None:
        return 0
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return sum(map(int, subprocess.run(query, capture_output=True, text=True).stdout.split()))


class PeakMemory(threading.Thread):
    """Asks for the memory in use, again and again, until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = memory()
        self.peak = self.before
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.2):
            self.peak = max(self.peak, memory())


def watched(model: str, argv: list[str], folder: Path) -> tuple[str, int]:
    """Run a command of this environment to its end: what it said, and its peak MiB."""
    print(f"{model} ...", file=sys.stderr, flush=True)
    watch = PeakMemory()
    watch.start()
    done = subprocess.run(
        [str(BIN / argv[0]), *argv[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    watch.stopped.set()
    watch.join()
    if done.returncode:
        sys.exit(f"{model} failed:\n{done.stderr[-3000:]}")
    return done.stderr, watch.peak - watch.before


def options(args: argparse.Namespace, model: str) -> dict[str, Any]:
    """``glsgn_derain.yml`` on random images, cut down to a timing run."""
    file = find_shipped("glsgn_derain.yml", "basicsr_options", ".yml")
    opt: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    del opt["datasets"]["val"], opt["val"]
    opt["datasets"]["train"].update(
        dataroot=".",
        layout="synthesized",
        split="all",
        gt_size=args.crop,
        batch_size_per_gpu=args.batch,
        num_worker_per_gpu=args.workers,
        dataset_enlarge_ratio=args.iterations,
    )
    opt["name"] = model
    opt["model_type"] = model
    opt["logger"].update(print_freq=5, save_checkpoint_freq=10**9, use_tb_logger=False)
    train = opt["train"]
    train.update(total_iter=args.iterations, warmup_iter=-1, amp=args.amp)
    if not args.workers:
        opt["datasets"]["train"]["persistent_workers"] = False
    if model == "SRModel":  # has none of these
        for key in ("amp", "grad_clip", "compile"):
            del train[key]
        del opt["datasets"]["train"]["as_bytes"]
        opt["network_g"]["return_pathways"] = True  # GLSGNModel sets it; GLSGNLoss needs it
        train["optim_g"]["type"] = "Adam"
    return opt


def run(args: argparse.Namespace, model: str, folder: Path) -> tuple[float, float, int]:
    """Seconds per iteration, of which waiting for data, and peak MiB."""
    file = folder / f"{model}.yml"
    file.write_text(yaml.safe_dump(options(args, model)), encoding="utf-8")
    said, mib = watched(
        model,
        [
            *("torchrun", "--standalone", f"--nproc_per_node={args.gpus}", "--no-python"),
            *(str(BIN / "basicsr"), "train", "-opt", str(file), "--launcher", "pytorch"),
        ],
        folder,
    )
    return *pace(said), mib


def pace(said: str) -> tuple[float, float]:
    """Seconds per step, and those of them that it waited for data, in the later half of a log."""
    times = [(float(t), float(d)) for t, d in TIME.findall(said)]
    late = times[len(times) // 2 :]
    return mean(t for t, _ in late), mean(d for _, d in late)


def parser_of(description: str) -> argparse.ArgumentParser:
    """The command line that the training benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--crop", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--gpus", type=int, default=1, help="ranks under torchrun")
    parser.add_argument("--amp", choices=("bf16", "fp16"), help="of our models; SRModel has none")
    parser.add_argument("--out", type=Path)
    return parser


def make_images(folder: Path, crop: int) -> None:
    """Random images, ``lq`` and ``gt``, somewhat larger than the crop."""
    rng = np.random.default_rng(0)
    for side in ("lq", "gt"):
        (folder / side).mkdir()
        for k in range(8):
            image = rng.integers(0, 256, (crop + 64, crop + 64, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / side / f"{k}.png"), image)


def main() -> None:
    """Run both models one after the other, print and save the table."""
    args = parser_of(__doc__.split("\n")[0]).parse_args()

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    lines = [
        f"`python benchmarks/train.py {shlex.join(sys.argv[1:])}`, {device}, "
        f"torch {torch.__version__}",
        "",
        "| model | precision | s/iteration | of which data | peak memory |",
        "| --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_images(folder, args.crop)
        for model in ("SRModel", "GLSGNModel"):
            seconds, data, mib = run(args, model, folder)
            precision = "fp32" if model == "SRModel" else args.amp or "fp32"
            used = f"{mib / 1024:.1f} GiB" if mib else "not measured"
            lines.append(f"| {model} | {precision} | {seconds:.3f} | {data:.3f} | {used} |")
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
