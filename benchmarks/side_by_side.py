"""Seconds and GPU memory of a training iteration: BasicSR's GLSGNModel, MMagic's GLSGNRestorer.

The real ``basicsr train`` and ``mim train``, one after the other, each under its launcher (NCCL on
a GPU, gloo without one), on the same random images, with the shipped options and configs of
deraining::

    python benchmarks/side_by_side.py --iterations 300 --amp bf16 --out docs/side_by_side.md

Seconds are the frameworks' own, averaged over the last half of the run; memory is what nvidia-smi
shows for the GPU at its highest, less what it showed before.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path
from statistics import mean

import torch
import train

from glsgn_plugins.io.shipped import find_shipped

PRECISIONS = {
    "bf16": "dtype='bfloat16', loss_scale=1.0",
    "fp16": "dtype='float16', loss_scale='dynamic'",
}

CONFIG = """
_base_ = [{base!r}]
work_dir = "work_dirs/side_by_side"
train_cfg = dict(max_iters={iterations}, val_interval=10**9)
train_dataloader = dict(
    batch_size={batch},
    num_workers={workers},
    persistent_workers={workers} > 0,
    dataset=dict(dataroot=".", layout="synthesized", split="all", gt_size={crop}),
)
val_dataloader = val_evaluator = val_cfg = None
optim_wrapper = {wrapper}
param_scheduler = dict(_delete_=True, type="ConstantLR", by_epoch=False, factor=1.0)
default_hooks = dict(
    logger=dict(interval=5), checkpoint=dict(interval=10**9, save_last=False, save_best=None)
)
log_processor = dict(window_size=5)
"""


def run_mmagic(args: argparse.Namespace, folder: Path) -> tuple[float, float, int]:
    """Seconds per iteration, of which waiting for data, and peak MiB."""
    optimizer = "optimizer=dict(type='AdamW', lr=5e-4), clip_grad=dict(max_norm=1.0)"
    if args.amp is None:  # AmpOptimWrapper wants a GPU
        wrapper = f"dict(_delete_=True, type='OptimWrapper', {optimizer})"
    else:
        wrapper = f"dict(type='AmpOptimWrapper', {PRECISIONS[args.amp]}, {optimizer})"
    base = str(find_shipped("glsgn_derain.py", "mmagic_configs", ".py").resolve())
    text = CONFIG.format(base=base, wrapper=wrapper, **vars(args))
    (folder / "config.py").write_text(text, encoding="utf-8")
    argv = ["mim", "train", "mmagic", "config.py", "--gpus", str(args.gpus)]
    _, mib = train.watched("GLSGNRestorer", [*argv, "--launcher", "pytorch"], folder)
    (log,) = folder.glob("work_dirs/side_by_side/*/vis_data/scalars.json")
    times = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    late = times[len(times) // 2 :]
    return mean(t["time"] for t in late), mean(t["data_time"] for t in late), mib


def main() -> None:
    """Run both, print and save the table."""
    args = train.parser_of(__doc__.split("\n")[0]).parse_args()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    lines = [
        f"`python benchmarks/side_by_side.py {shlex.join(sys.argv[1:])}`, {device}, "
        f"torch {torch.__version__}",
        "",
        "| framework | model | precision | s/iteration | of which data | peak memory |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train.make_images(folder, args.crop)
        for framework, model in (("BasicSR", "GLSGNModel"), ("MMagic", "GLSGNRestorer")):
            if framework == "BasicSR":
                seconds, data, mib = train.run(args, model, folder)
            else:
                seconds, data, mib = run_mmagic(args, folder)
            used = f"{mib / 1024:.1f} GiB" if mib else "not measured"
            precision = args.amp or "fp32"
            lines.append(
                f"| {framework} | {model} | {precision} | {seconds:.3f} | {data:.3f} | {used} |"
            )
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
