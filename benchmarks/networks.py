"""Which network: grids, padding, Patch Norm, the global pathway, and each part, side by side.

Every variant is trained on the same crops, in the same order, with the same seeds and number of
steps, and measured on whole photographs that were not trained on, and on real pairs::

    python benchmarks/networks.py --train DIR --test DIR --real ../shared/real \
        --tables padding norm global parts --out docs/ablation.md

- ``--train`` and ``--test`` are folders of clean photographs (``docs/results.md`` says which).
- Crops are degraded once per task and kept under ``--runs``, as is every finished run: an
  interrupted comparison goes on where it was, and tables share what they have in common.
- Variants that cost more than the plain network get so many fewer steps in the table of the global
  pathway, which compares at equal time.
- PSNR (RGB) and SSIM (Y) are BasicSR's, no border cropped; seam is ``calculate_seam``'s; chroma
  is the mean distance from the truth in a and b of CIE Lab.

Code of what was tried and left out of the library is here, so that its figures can be had again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from results import chroma_error, resized, sample_degraded
from torch import Tensor, nn
from tqdm import tqdm
from variants import SCENE, TABLES, VARIANTS, Scene, Variant

from glsgn_plugins.archs.glsgn import GLSGN, PAPER_GRIDS, PathwayOutputs
from glsgn_plugins.compat import patch_basicsr
from glsgn_plugins.data.synthesis import make_degradation
from glsgn_plugins.degradations import Place
from glsgn_plugins.degradations.depth import thumbnail
from glsgn_plugins.io.atomic import atomic_write
from glsgn_plugins.io.images import image_files, read_image
from glsgn_plugins.losses import GLSGNLoss
from glsgn_plugins.metrics import calculate_seam

patch_basicsr()
from basicsr.metrics import calculate_psnr, calculate_ssim  # noqa: E402

Image = NDArray[np.uint8]

TASKS = ("rain", "haze", "reflection")
SCALES = (1.0, 0.5, 0.25)
"""Sizes at which real pairs are restored: full, half, quarter."""


@dataclasses.dataclass
class Crops:
    """Degraded crops, uint8 ``(count, size, size, 3)``, and the scenes that they are parts of."""

    lq: Image
    gt: Image
    scene: Image
    window: NDArray[np.float32]


def make_crops(task: str, args: argparse.Namespace) -> Crops:
    """Those of a task; made once."""
    file = args.runs / f"{task}_{args.crops}_{args.crop}.npz"
    if not file.is_file():
        files = sorted(image_files(args.train))
        model = make_degradation({"type": task, **args.degradation})
        rng = np.random.default_rng(2207)
        found: dict[str, list[Any]] = {"lq": [], "gt": [], "scene": [], "window": []}
        for k in tqdm(range(args.crops), desc=f"{task}: crops", leave=False):
            order = rng.permutation(len(files))[:2]
            image = np.asarray(read_image(files[order[0]]))
            # So that small pictures are known, too.
            least = 1.1 * args.crop / min(image.shape[:2])
            image = resized(image, float(rng.uniform(max(0.35, least), 1)))
            if task == "rain" and k % 2:
                # What mostly stands upright, such as bark, isn't to be taken for rain.
                image = np.ascontiguousarray(image.transpose(1, 0, 2))
            if task == "reflection":
                companion = np.asarray(read_image(files[order[1]]))
            else:
                companion = thumbnail(image)
            height, width = image.shape[:2]
            size = args.crop
            top, left = (int(rng.integers(side - size + 1)) for side in (height, width))
            parameters = model.sample(rng)
            crop = np.ascontiguousarray(image[top : top + size, left : left + size])
            lq, gt = parameters.pair(crop, companion, Place(height, width, top, left))
            small = resized(image, SCENE / max(height, width))
            scene, _ = parameters.pair(small, companion, Place.whole(small))
            canvas = np.zeros((SCENE, SCENE, 3), np.uint8)  # scenes lie or stand
            canvas[: scene.shape[0], : scene.shape[1]] = scene
            # The part in the scene's -1 to 1, and how much of the canvas the scene takes.
            window = (
                (2 * top + size) / height - 1,
                (2 * left + size) / width - 1,
                size / height,
                size / width,
                *scene.shape[:2],
            )
            for key, value in (("lq", lq), ("gt", gt), ("scene", canvas), ("window", window)):
                found[key].append(value)
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays = {key: np.stack(value) for key, value in found.items()}
        with file.open("wb") as out:
            np.savez(out, **arrays)
    held = np.load(file)
    return Crops(held["lq"], held["gt"], held["scene"], held["window"].astype(np.float32))


def tensor(images: Image) -> Tensor:
    """``(N, 3, H, W)`` float32 in [0, 1], channels_last, of ``(N, H, W, 3)``."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255)


# --- one run --------------------------------------------------------------------------------------


def draw_grids(net: GLSGN, rng: np.random.Generator) -> None:
    """No patches, the figure's, or those of rows or columns alone."""
    grids = [
        (*PAPER_GRIDS, (1, 1)),
        ((1, 1),) * 4,
        ((4, 1), (2, 1), (2, 1), (1, 1)),
        ((2, 4), (2, 2), (1, 2), (1, 1)),
    ][rng.integers(4)]
    for i, pathway in enumerate(net.local_pathways):
        pathway.grid, pathway.merged = grids[i], grids[i + 1]


def train(variant: Variant, task: str, seed: int, args: argparse.Namespace) -> nn.Module:
    """A network after its steps."""
    crops = make_crops(task, args)
    torch.manual_seed(seed)
    net = variant.make().to(args.device, memory_format=torch.channels_last).train()
    objective = GLSGNLoss(**variant.losses)
    steps = round(args.steps / variant.cost)
    optimizer = torch.optim.AdamW(net.parameters(), args.lr, betas=(0.9, 0.99), weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, steps, pct_start=0.05, cycle_momentum=False, final_div_factor=100
    )
    rng = np.random.default_rng(seed)
    order = np.concatenate(
        [rng.permutation(len(crops.lq)) for _ in range(-(-steps * args.batch // len(crops.lq)))]
    )
    for step in tqdm(range(steps), leave=False, unit="step", disable=None):
        some = np.sort(order[step * args.batch : (step + 1) * args.batch])
        lq, gt = (tensor(images[some]).to(args.device) for images in (crops.lq, crops.gt))
        if variant.drawn:
            draw_grids(net, rng)  # type: ignore[arg-type]
        with torch.autocast(lq.device.type, torch.bfloat16, enabled=args.amp is not None):
            outputs = forward(net, lq, crops, some)
        if isinstance(outputs, PathwayOutputs):
            loss = objective(outputs, gt)
        else:  # it has no pathways
            loss = F.l1_loss(outputs.float(), gt)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return net.eval()


def forward(net: nn.Module, lq: Tensor, crops: Crops, some: NDArray[Any]) -> Any:
    """With the scenes where the network takes them."""
    pathway = getattr(net, "global_pathway", None)
    if not isinstance(pathway, Scene):
        return net(lq)
    window = torch.from_numpy(crops.window[some]).to(lq.device)
    pathway.scene = tensor(crops.scene[some]).to(lq.device)
    # From the scene's -1 to 1 to the canvas's.
    share = window[:, 4:] / SCENE
    centre = (window[:, :2] + 1) * share - 1
    pathway.window = torch.cat([centre, window[:, 2:4] * share], dim=1)
    outputs = net(lq)
    pathway.scene = pathway.window = None
    return outputs


def figures(image: Image, gt: Image, seams: bool = False) -> dict[str, float]:
    """Of RGB, uint8."""
    found = {
        "psnr": calculate_psnr(image, gt, crop_border=0),
        "chroma": chroma_error(image, gt),
    }
    if seams:
        # On luma, since it takes longer than restoring.
        found["ssim"] = calculate_ssim(image, gt, crop_border=0, test_y_channel=True)
        found["seam"] = calculate_seam(image, gt, figure="gradient")
    return found


@torch.no_grad()
def restored(net: nn.Module | None, image: Image, device: str) -> Image:
    if net is None:
        return image
    lq = tensor(image[None]).to(device)
    out = net(lq)[0].clamp(0, 1).mul(255).round().byte()
    return out.permute(1, 2, 0).cpu().numpy()


def measure(net: nn.Module | None, task: str, args: argparse.Namespace) -> dict[str, Any]:
    """Figures on the test photographs and on real pairs; of the input where there is no network."""
    found: dict[str, list[dict[str, float]]] = {}
    files = sorted(image_files(args.test))
    model = make_degradation({"type": task, **args.degradation})
    for k, file in enumerate(files):
        rng = np.random.default_rng(k)
        image = np.asarray(read_image(file))
        companion = np.asarray(read_image(files[k - 1])) if task == "reflection" else None
        parameters = sample_degraded(model, rng)
        lq, gt = parameters.pair(image, companion, Place.whole(image))
        found.setdefault("test", []).append(figures(restored(net, lq, args.device), gt, seams=True))
    if args.real is not None:
        for file in sorted(image_files(args.real / task / "lq")):
            pair = [np.asarray(read_image(args.real / task / p / file.name)) for p in ("lq", "gt")]
            name = file.name.partition("__")[0]
            for scale in SCALES if task == "haze" else SCALES[:1]:
                lq, gt = (resized(image, scale) for image in pair)
                key = f"{name} x{scale:g}"
                found.setdefault(key, []).append(figures(restored(net, lq, args.device), gt))
    return {
        key: {figure: mean(v[figure] for v in values) for figure in values[0]}
        for key, values in found.items()
    }


def run(name: str, task: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of one run: of an earlier one, or made now."""
    settings = [name, task, seed, args.steps, args.batch, args.crop]
    if args.amp:
        settings.append(args.amp)
    file = args.runs / ("_".join(str(s).replace(" ", "-") for s in settings) + ".json")
    if file.is_file():
        return json.loads(file.read_text())
    start = time.monotonic()
    net = train(VARIANTS[name], task, seed, args) if name != "the input" else None
    trained = time.monotonic()
    found = measure(net, task, args)
    found["seconds"] = {"training": trained - start, "measuring": time.monotonic() - trained}
    print(
        f"{task}, {name}, seed {seed}: {found['test']['psnr']:.2f} dB, "
        f"{trained - start:.0f} + {time.monotonic() - trained:.0f} s",
        file=sys.stderr,
        flush=True,
    )
    atomic_write(file, json.dumps(found, indent=1).encode())
    return found


# --- tables ---------------------------------------------------------------------------------------


def table(name: str, args: argparse.Namespace) -> list[str]:
    """One table for each task, with the figures of each seed and their mean."""
    variants, tasks = TABLES[name]
    lines = []
    for task in (t for t in tasks if t in args.tasks):
        before = run("the input", task, 0, args)
        sets = [key for key in before if key != "seconds"]
        columns = ["PSNR of each seed", "PSNR", "SSIM", "seam", "chroma"]
        columns += [f"{key}: PSNR, chroma" for key in sets if key != "test"]
        lines += [
            f"### {task}",
            "",
            f"| variant | {' | '.join(columns)} | step, s |",
            f"| --- |{' --- |' * (len(columns) + 1)}",
        ]
        for variant in ("the input", *variants):
            seeds = range(1 if variant == "the input" else args.seeds)
            runs = [run(variant, task, seed, args) for seed in seeds]
            cells = [", ".join(f"{r['test']['psnr']:.2f}" for r in runs)]
            digits = {"psnr": 2, "ssim": 4, "seam": 3, "chroma": 2}
            cells += [f"{mean(r['test'][f] for r in runs):.{d}f}" for f, d in digits.items()]
            cells += [
                f"{mean(r[key]['psnr'] for r in runs):.2f}, "
                f"{mean(r[key]['chroma'] for r in runs):.1f}"
                for key in sets
                if key != "test"
            ]
            cost = VARIANTS[variant].cost if variant in VARIANTS else 1
            seconds = mean(r["seconds"]["training"] for r in runs) / args.steps * cost
            cells.append(f"{seconds:.2f}" if variant in VARIANTS else "")
            lines.append(f"| {variant} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--train", type=Path, required=True, help="folder of clean photographs")
    parser.add_argument("--test", type=Path, required=True, help="folder of others")
    parser.add_argument("--real", type=Path, help="folder with haze/lq, haze/gt and so on")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--degradation", type=json.loads, default={}, help="JSON, beside its type")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--crops", type=int, default=1200, help="made for each task")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--amp", choices=("bf16",), help="in training; measured in float32")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each variant")
    parser.add_argument("--runs", type=Path, default=Path("experiments/networks"))
    parser.add_argument("--out", type=Path, help="Markdown file")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default)
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    lines = [
        f"`python benchmarks/networks.py {shlex.join(sys.argv[1:])}`, torch {torch.__version__}, "
        f"{args.device}",
        "",
    ]
    for name in args.tables:
        lines += [f"## {name}", "", *table(name, args)]
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
