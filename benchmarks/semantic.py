"""What the semantic term costs: a training step of glsgn_s with it, over one without.

python benchmarks/semantic.py --crop 256 --backbones lpips_alex lpips_squeeze lpips_vgg resnet18

Steps with and without take turns in one process; weights are random, which changes no cost.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from statistics import median

import torch

from glsgn_plugins import glsgn_s
from glsgn_plugins.losses import GLSGNLoss


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backbones", nargs="+", default=["lpips_alex"])
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"

    net = glsgn_s(return_pathways=True).train().to(device, memory_format=torch.channels_last)
    lq, gt = torch.rand(2, args.batch, 3, args.crop, args.crop, device=device)
    lq = lq.contiguous(memory_format=torch.channels_last)
    objectives = {"without": GLSGNLoss()}
    for backbone in args.backbones:
        objectives[backbone] = GLSGNLoss(semantic_weight=0.1, backbone=backbone, weights="random")

    seconds: dict[str, list[float]] = {name: [] for name in objectives}
    for _ in range(args.repeats + 1):
        for name, objective in objectives.items():
            objective.to(device)
            net.zero_grad()
            start = time.perf_counter()
            objective(net(lq), gt).backward()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    took = {name: median(values[1:]) for name, values in seconds.items()}  # the first warms up
    print(f"`python benchmarks/semantic.py {shlex.join(sys.argv[1:])}`, {device}\n")
    print("| semantic term | s/step | of a step without |\n| --- | --- | --- |")
    for name, value in took.items():
        print(f"| {name} | {value:.2f} | {100 * value / took['without'] - 100:+.0f} % |")


if __name__ == "__main__":
    main()
