"""What each part of GLSGN and each consistency brings: the same training without it.

Every variant is trained with the same photographs, crops, seeds and number of steps, and measured
on a photograph that was not trained on (rain as in the demo, without its mist)::

    python benchmarks/ablation.py --iterations 200 --crop 96 --seeds 3 --out docs/ablation.md

Finished runs are kept in ``--runs`` and not repeated; a run that was interrupted starts anew.
PSNR and SSIM are BasicSR's (RGB, no border cropped); the seam figures are ``calculate_seam``'s.
The semantic term wants pretrained weights: ``--semantic FILE`` trains with it (lpips_alex), and has
a variant without it.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from glsgn_plugins import GLSGN, PathwayOutputs, demo
from glsgn_plugins.blocks import LocalPathway, shrink
from glsgn_plugins.losses import GLSGNLoss
from glsgn_plugins.metrics import calculate_seam
from glsgn_plugins.upstream import mend_basicsr
from glsgn_plugins.writing import write_whole

mend_basicsr()
from basicsr.metrics import calculate_psnr, calculate_ssim  # noqa: E402

Pair = tuple[Tensor, Tensor]

WIDTHS, BLOCKS = (16, 24, 32, 32), (1, 1, 1)  # glsgn_s


class OnePathway(nn.Module):
    """Pathway 1 alone, with no other to hear from. Half as wide again, for like multiply-adds."""

    def __init__(self) -> None:
        super().__init__()
        self.pathway = LocalPathway(
            *(24, BLOCKS, (4, 4), (2, 2)),
            global_scale=2,
            global_width=None,
            previous_width=None,
            guides=None,
            norm="pooled",
        )

    def forward(self, lq: Tensor) -> Tensor:
        rows, cols = -lq.shape[2] % 16, -lq.shape[3] % 16
        image = nn.functional.pad(lq, (0, cols, 0, rows), mode="reflect")
        quarter = shrink(image, (image.shape[2] // 4, image.shape[3] // 4))
        output, _, _ = self.pathway(image, quarter, None)
        return output[:, :, : lq.shape[2], : lq.shape[3]]


def glsgn(**options: Any) -> Callable[[], nn.Module]:
    """With every part of the paper's, Patch Norm included, but for ``options``."""
    return lambda: GLSGN(
        WIDTHS, BLOCKS, return_pathways=True, **{"patch_norm": "pooled", **options}
    )


PHOTOS = ("astronaut.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png")
"""Trained on, of scikit-image's; one that isn't is measured."""

NO_CONSISTENCY = {"content_weight": 0, "attention_weight": 0, "intensity_weight": 0}

VARIANTS: dict[str, tuple[Callable[[], nn.Module], dict[str, float]]] = {
    "full": (glsgn(), {}),
    "no features of the global pathway": (glsgn(global_features=False), {}),
    "no features passed on": (glsgn(local_features=False), {}),
    "no PAC": (glsgn(attention=False), {"attention_weight": 0}),
    "Patch Norm per patch": (glsgn(patch_norm="per_patch"), {}),
    "no Patch Norm": (glsgn(patch_norm="none"), {}),
    "up-sample and add": (glsgn(fusion="sum"), {}),
    "no content consistency": (glsgn(), {"content_weight": 0}),
    "no attention consistency": (glsgn(), {"attention_weight": 0}),
    "no intensity consistency": (glsgn(), {"intensity_weight": 0}),
    "no consistency at all": (glsgn(), NO_CONSISTENCY),
    "one pathway only": (OnePathway, {}),
}
FIGURES = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "gradient": "seam gradient",
    "residual": "seam step",
}


def read(file: Path) -> Tensor:
    image = cv2.imread(str(file))[..., ::-1].transpose(2, 0, 1)
    return torch.from_numpy(image.copy()).float() / 255


def pairs(folder: Path) -> list[Pair]:
    return [(read(f), read(folder / "gt" / f.name)) for f in sorted((folder / "lq").iterdir())]


def batch(data: list[Pair], rng: np.random.Generator, size: int, crop: int) -> Pair:
    """Random crops, half of them mirrored; the same for the same generator."""
    crops = []
    for _ in range(size):
        pair = data[rng.integers(len(data))]
        y, x = (rng.integers(side - crop + 1) for side in pair[0].shape[1:])
        flip = rng.random() < 0.5
        cut = [image[:, y : y + crop, x : x + crop] for image in pair]
        crops.append([image.flip(2) if flip else image for image in cut])
    lq, gt = (torch.stack(side) for side in zip(*crops))
    return lq.contiguous(memory_format=torch.channels_last), gt


def train(name: str, seed: int, args: argparse.Namespace, data: list[Pair]) -> nn.Module:
    """One run of a variant."""
    make, weights = VARIANTS[name]
    torch.manual_seed(seed)
    net = make().to(args.device, memory_format=torch.channels_last).train()
    if args.semantic and "semantic_weight" not in weights:
        weights = {**weights, "semantic_weight": 0.1}
    objective = GLSGNLoss(**weights, weights=args.semantic or "random").to(args.device)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.iterations, 1e-6)
    rng = np.random.default_rng(seed)
    steps = range(args.iterations)
    for _ in tqdm(steps, desc=f"{name}, seed {seed}", leave=False, unit="step"):
        lq, gt = (image.to(args.device) for image in batch(data, rng, args.batch, args.crop))
        optimizer.zero_grad()
        outputs = net(lq)
        if isinstance(outputs, PathwayOutputs):
            loss = objective(outputs, gt)
        else:  # one pathway has none to agree with
            loss = nn.functional.l1_loss(outputs, gt)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return net.eval()


def measure(net: nn.Module, unseen: list[Pair], device: str) -> dict[str, float]:
    """Means over the unseen photographs."""
    found: dict[str, list[float]] = {figure: [] for figure in FIGURES}
    for lq, gt in unseen:
        with torch.no_grad():
            out = net(lq[None].to(device))[0].cpu()
        made, truth = (
            (image.clamp(0, 1) * 255).round().byte().numpy().transpose(1, 2, 0)[..., ::-1]
            for image in (out, gt)
        )
        found["psnr"].append(calculate_psnr(made, truth, crop_border=0))
        found["ssim"].append(calculate_ssim(made, truth, crop_border=0))
        for figure in ("gradient", "residual"):
            found[figure].append(calculate_seam(made, truth, figure=figure))
    return {figure: mean(values) for figure, values in found.items()}


def run(name: str, seed: int, args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """The figures of one run: of an earlier one with the same settings, or made now."""
    settings = [name, seed, args.iterations, args.crop, args.batch, bool(args.semantic)]
    file = args.runs / ("_".join(str(s).replace(" ", "-") for s in settings) + ".json")
    if file.is_file():
        return json.loads(file.read_text())
    start = time.monotonic()
    net = train(name, seed, args, pairs(folder / "train"))
    figures = measure(net, pairs(folder / "val"), args.device)
    print(
        f"{name}, seed {seed}: {figures['psnr']:.2f} dB in {time.monotonic() - start:.0f} s",
        file=sys.stderr,
        flush=True,
    )
    write_whole(file, json.dumps(figures).encode())
    return figures


def table(results: dict[str, list[dict[str, float]]], before: dict[str, float]) -> list[str]:
    """Mean and spread of each figure; the input's own first."""
    lines = [f"| variant | {' | '.join(FIGURES.values())} |", "| --- |" + " --- |" * len(FIGURES)]
    digits = {"psnr": 2, "ssim": 4, "gradient": 3, "residual": 2}
    cells = [f"{before[f]:.{digits[f]}f}" for f in FIGURES]
    lines.append(f"| the input | {' | '.join(cells)} |")
    for name, runs in results.items():
        cells = []
        for figure in FIGURES:
            values = [r[figure] for r in runs]
            spread = stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{mean(values):.{digits[figure]}f} ± {spread:.{digits[figure]}f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def plot(results: dict[str, list[dict[str, float]]], file: Path) -> None:
    """Each run a dot, each mean a line; one panel a figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(FIGURES), figsize=(15, 5), sharey=True)
    names = list(results)
    for axis, (key, label) in zip(axes, FIGURES.items()):
        for row, name in enumerate(names):
            values = [r[key] for r in results[name]]
            axis.plot(values, [row] * len(values), "o", color="tab:blue", alpha=0.5)
            axis.plot([mean(values)] * 2, [row - 0.3, row + 0.3], color="tab:blue")
        axis.axvline(mean(r[key] for r in results[names[0]]), color="0.8", zorder=0)
        axis.set_xlabel(label)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(file, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0],
        epilog=f"variants: {', '.join(VARIANTS)}",
    )
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--semantic", metavar="FILE", help="alexnet's weights, for that term")
    parser.add_argument("--runs", type=Path, default=Path("experiments/ablation"))
    parser.add_argument("--out", type=Path, help="Markdown file; the plot goes beside it as .png")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default)
    args = parser.parse_args()
    if args.semantic:
        VARIANTS["no semantic consistency"] = (glsgn(), {"semantic_weight": 0})
        args.variants.append("no semantic consistency")

    folder = args.runs / "data"
    if not folder.is_dir():
        demo.make_data(folder, PHOTOS, veil=(0, 0))
    results: dict[str, list[dict[str, float]]] = {name: [] for name in args.variants}
    for seed in range(args.seeds):  # so that an interrupted comparison has all variants of a seed
        for name in args.variants:
            results[name].append(run(name, seed, args, folder))

    before = measure(nn.Identity(), pairs(folder / "val"), "cpu")
    lines = [
        f"`python benchmarks/ablation.py {shlex.join(sys.argv[1:])}`, torch {torch.__version__}, "
        f"{args.device}; mean ± standard deviation of {args.seeds} seeds.",
        "",
        *table(results, before),
    ]
    print("\n".join(lines))
    if args.out:
        picture = args.out.with_suffix(".png")
        plot(results, picture)
        args.out.write_text("\n".join([*lines, "", f"![]({picture.name})"]) + "\n")


if __name__ == "__main__":
    main()
