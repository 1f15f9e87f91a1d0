"""What Patch Norm's statistics do to an image much larger than the crops of training.

    python benchmarks/patch_norm.py --weights FILE --pairs zoo/rain_test

Prints the PSNR of each pair restored whole, and crop by crop: each crop on its own, as in training.
A network that is ahead on crops depends on how much it sees at once. With ``--fold OUT`` Patch Norm
gets one mean and one deviation for all images, the middle ones of training crops; as these are
constants, the convolutions that follow take them in, and ``OUT`` has no Patch Norm any more::

    python benchmarks/patch_norm.py --weights FILE --photographs zoo/photographs/train --task rain \
        --fold OUT

The figures in ``docs/results.md`` are made by it.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import Tensor, nn

from glsgn_plugins import GLSGN
from glsgn_plugins.blocks import PatchNorm, moments
from glsgn_plugins.data.crops import Crops
from glsgn_plugins.data.datasets import UHDSynthesisDataset
from glsgn_plugins.data.images import read_image
from glsgn_plugins.weights import read_glsgn, write_weights


def read(file: Path) -> Tensor:
    """``(1, 3, H, W)`` in [0, 1]."""
    return torch.from_numpy(read_image(file)).permute(2, 0, 1)[None] / 255


def psnr(image: Tensor, gt: Tensor) -> float:
    return -10 * (image.clamp(0, 1) - gt).square().mean().log10().item()


def crop_by_crop(net: nn.Module, lq: Tensor, side: int) -> Tensor:
    """Without overlap, but for the last row and column of crops."""
    restored = torch.empty_like(lq)
    for y in range(0, lq.shape[2], side):
        for x in range(0, lq.shape[3], side):
            top, left = min(y, lq.shape[2] - side), min(x, lq.shape[3] - side)
            at = (..., slice(top, top + side), slice(left, left + side))
            restored[at] = net(lq[at])
    return restored


def compare(net: nn.Module, pairs: Path, sides: list[int]) -> None:
    """Print a Markdown table."""
    rows: dict[str, list[float]] = defaultdict(list)
    names = sorted(file.name for file in (pairs / "lq").iterdir())
    for name in names:
        lq, gt = (read(pairs / part / name) for part in ("lq", "gt"))
        rows["the input"].append(psnr(lq, gt))
        rows["whole"].append(psnr(net(lq), gt))
        for side in sides:
            rows[f"in crops of {side}"].append(psnr(crop_by_crop(net, lq, side), gt))
    print(f"| PSNR, dB | {' | '.join(Path(name).stem for name in names)} | mean |")
    print("|" + " --- |" * (len(names) + 2))
    for row, found in rows.items():
        print(f"| {row} | {' | '.join(f'{value:.2f}' for value in (*found, mean(found)))} |")


def statistics_of(net: GLSGN, dataset: UHDSynthesisDataset, count: int) -> dict[nn.Module, Tensor]:
    """Of each Patch Norm its mean and its median 1 / deviation over crops: ``(2, C)``."""
    seen = defaultdict(list)

    def look(norm: nn.Module, given: tuple[Tensor, int]) -> None:
        x, patches = given
        means, variances = (m.reshape(-1, patches, x.shape[1])[0] for m in moments(x))
        variance = variances.mean(0) + means.var(0, correction=0)
        seen[norm].append(torch.stack([means.mean(0), torch.rsqrt(variance + norm.eps)]))

    hooks = [m.register_forward_pre_hook(look) for m in net.modules() if isinstance(m, PatchNorm)]
    for index in np.random.default_rng(0).permutation(len(dataset))[:count]:
        net(dataset[int(index)]["lq"][None])
    for hook in hooks:
        hook.remove()
    return {
        norm: torch.stack([all_of[:, 0].mean(0), all_of[:, 1].median(0).values])
        for norm, all_of in ((norm, torch.stack(found)) for norm, found in seen.items())
    }


def fold(net: GLSGN, statistics: dict[nn.Module, Tensor]) -> dict[str, Tensor]:
    """Weights of the same network without Patch Norm, whose statistics are these."""

    def take_in(conv: nn.Conv2d, norm: PatchNorm) -> None:
        mean, inverse = statistics[norm]
        scale = norm.weight * inverse
        shift = norm.bias - mean * scale
        conv.bias += (conv.weight * shift[:, None, None]).sum((1, 2, 3))
        conv.weight *= scale[:, None, None]

    pathways = list(net.local_pathways)
    for i, pathway in enumerate(pathways):
        full, half, quarter = pathway.decoder.norms
        take_in(pathway.head, full)
        take_in(pathway.decoder.ups[0][0], half)
        take_in(pathway.decoder.ups[1][0], quarter)
        if i + 1 < len(pathways):
            take_in(pathways[i + 1].encoder.injections["from_previous"], half)
    return {key: value for key, value in net.state_dict().items() if ".norms." not in key}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, help="folder with lq and gt")
    parser.add_argument("--sides", type=int, nargs="*", default=[256], help="of the crops")
    parser.add_argument("--fold", type=Path, metavar="OUT", help=".safetensors without Patch Norm")
    parser.add_argument("--photographs", type=Path, help="to fold: clean ones")
    parser.add_argument("--task", choices=("rain", "haze", "reflection"), help="to fold")
    parser.add_argument("--crop", type=int, default=512, help="to fold: side of the crops")
    parser.add_argument("--count", type=int, default=40, help="to fold: how many crops")
    args = parser.parse_args()
    net = read_glsgn(args.weights).to(memory_format=torch.channels_last)
    if args.pairs:
        compare(net, args.pairs, args.sides)
    if args.fold:
        if not (args.photographs and args.task):
            parser.error("--fold wants --photographs and --task")
        crops = Crops(gt_size=args.crop, scene_share=0.2)
        dataset = UHDSynthesisDataset(str(args.photographs), {"type": args.task}, crops=crops)
        write_weights(fold(net, statistics_of(net, dataset, args.count)), args.fold, torch.float32)


if __name__ == "__main__":
    main()
