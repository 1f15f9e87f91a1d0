"""How good weights are: on real and public pairs, on photographs never trained on, on clean ones.

    python benchmarks/results.py --photographs zoo/photographs --real ../shared/real \
        --out results.md --sheets sheets

- ``--photographs`` is what ``train_zoo.py`` made: ``dev`` is for choosing, ``test`` for the end.
- ``--real`` holds ``TASK/lq`` and ``TASK/gt``, names beginning with ``SET__``, and
  ``unpaired/TASK``. Haze is restored at full, half and quarter size, as thick haze often comes out
  well in the small alone.
- ``--zoo DIR --networks U-Net NAFNet-32`` adds what ``train_zoo.py`` trained there.
- Every image is restored by ``glsgn_plugins.restore``, as the command does.
- PSNR and SSIM are BasicSR's, RGB, 8 bits, no border cropped; chroma is the mean distance from the
  truth in a and b of CIE Lab; seam is ``calculate_seam``'s gradient figure (of the truth: 1).
- ``--sheets`` gets pictures: each set's best and worst restored pair, and all without a truth.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from peers import PEERS, Peer
from torch import nn
from tqdm import tqdm

from glsgn_plugins import load_pretrained, restore
from glsgn_plugins.compat import patch_basicsr
from glsgn_plugins.data.synthesis import make_degradation
from glsgn_plugins.degradations import Degradation, Parameters, Place
from glsgn_plugins.degradations.depth import thumbnail
from glsgn_plugins.io.atomic import atomic_write
from glsgn_plugins.io.checkpoints import read_checkpoint
from glsgn_plugins.io.images import image_files, read_image
from glsgn_plugins.io.pretrained import shipped_tasks
from glsgn_plugins.io.weights import read_glsgn
from glsgn_plugins.metrics import calculate_seam

patch_basicsr()
from basicsr.metrics import calculate_psnr, calculate_ssim  # noqa: E402

Image = NDArray[np.uint8]
Restorer = Callable[[Image], Image]

TASKS = ("rain", "haze", "reflection")
SCALES = (1.0, 0.5, 0.25)
"""Sizes at which hazy pairs are restored."""
DIGITS = {"psnr": 2, "ssim": 3, "chroma": 1, "seam": 3}
"""Figures, and the digits after their point that tables show."""
HEIGHT = 360
"""Of pictures on sheets, in pixels."""


class Pair(NamedTuple):
    """What is to be restored, and the truth, of a set."""

    place: str
    name: str
    lq: Image
    gt: Image
    large: bool
    """Of full size, so that seams are measured."""


def resized(image: Image, scale: float) -> Image:
    """Scaled down by averaging."""
    if scale >= 1:
        return image
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def chroma_error(image: Image, gt: Image) -> float:
    """Mean distance in a and b of CIE Lab; RGB."""
    one, two = (
        cv2.cvtColor(i.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[..., 1:] for i in (image, gt)
    )
    return float(np.sqrt(((one - two) ** 2).sum(-1)).mean())


def figures(image: Image, pair: Pair) -> dict[str, float]:
    """Of one restored image."""
    found = {
        "psnr": float(calculate_psnr(image, pair.gt, crop_border=0)),
        "ssim": float(calculate_ssim(image, pair.gt, crop_border=0)),
        "chroma": chroma_error(image, pair.gt),
    }
    if pair.large:
        found["seam"] = float(calculate_seam(image, pair.gt, figure="gradient"))
    return found


def real_pairs(task: str, root: Path) -> Iterator[Pair]:
    """Those of ``root / TASK``."""
    for file in sorted(image_files(root / task / "lq")):
        lq, gt = (np.asarray(read_image(root / task / side / file.name)) for side in ("lq", "gt"))
        name = file.name.partition("__")[0]
        for scale in SCALES if task == "haze" and max(lq.shape) > 1000 else SCALES[:1]:
            place = name if scale == 1 else f"{name}, x {scale:g}"
            yield Pair(place, file.stem, resized(lq, scale), resized(gt, scale), large=False)


def sample_degraded(model: Degradation, rng: np.random.Generator) -> Parameters:
    """Draw until there is something to restore: the preset ``real`` has clean samples, too."""
    parameters = model.sample(rng)
    while getattr(parameters, "faint", None) is not None:
        parameters = model.sample(rng)
    return parameters


def made_pairs(task: str, folder: Path) -> Iterator[Pair]:
    """Photographs with either preset's degradation, and clean."""
    files = sorted(image_files(folder))
    for k, file in enumerate(files):
        image = np.asarray(read_image(file))
        yield Pair("clean", file.stem, image, image, large=False)
        for preset in ("real", "plain"):
            model = make_degradation({"type": task, "preset": preset})
            rng = np.random.default_rng(k)
            parameters = sample_degraded(model, rng)
            companion: Any = None
            if task == "reflection":
                companion = np.asarray(read_image(files[k - 1]))
            elif preset == "real":
                companion = thumbnail(image)
            lq, gt = parameters.pair(image, companion, Place.whole(image))
            yield Pair(f"preset {preset}", file.stem, lq, gt, large=True)


def restorer(net: nn.Module) -> Restorer:
    """Restores 8-bit RGB by a network."""

    def run(image: Image) -> Image:
        lq = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] / 255
        out = restore(net, lq)[0].clamp(0, 1).mul(255).round().byte()
        return out.permute(1, 2, 0).numpy()

    return run


def networks_of(task: str, args: argparse.Namespace) -> dict[str, Restorer]:
    """What is compared, by name."""
    found: dict[str, Restorer] = {"input": lambda image: image}
    weights = dict(entry.split("=", 1) for entry in args.weights)
    if task in shipped_tasks():
        found["shipped"] = restorer(load_pretrained(task))
    if task in weights:
        found[Path(weights[task]).stem] = restorer(read_glsgn(weights[task]))
    for name in args.networks:
        if name == "glsgn_s":
            net: nn.Module = read_glsgn(args.zoo / f"{name}_{task}.safetensors")
        else:
            net = Peer(name)
            net.load_state_dict(read_checkpoint(args.zoo / f"{name}_{task}.pth")["params_ema"])
        found[name] = restorer(net.eval().to(memory_format=torch.channels_last))
    return found


def captioned(text: str, image: Image) -> Image:
    """A picture of a sheet, with a line above it."""
    width = round(image.shape[1] * HEIGHT / image.shape[0])
    small = np.asarray(cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_AREA))
    small = np.vstack([np.full((22, width, 3), 255, np.uint8), small])
    cv2.putText(small, text, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.asarray(small, np.uint8)


def write_sheet(rows: list[list[Image]], file: Path) -> None:
    """A JPEG of rows of captioned pictures."""
    width = max(sum(picture.shape[1] for picture in row) for row in rows)
    lines = [np.hstack(row) for row in rows]
    sheet = np.vstack(
        [np.pad(s, ((0, 4), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in lines]
    )
    quality = [cv2.IMWRITE_JPEG_QUALITY, 85]
    atomic_write(file, bytes(cv2.imencode(".jpg", sheet[..., ::-1], quality)[1]))


class Found(NamedTuple):
    """What one task's comparison gave."""

    each: list[dict[str, Any]]
    """Figures of every image, by ``set``, ``image`` and ``network``."""
    rows: dict[str, list[tuple[float, list[Image]]]]
    """Pictures of each set's best and worst pair, with their gain."""
    seconds: dict[str, float]
    """That 3840x2160 took."""


def compare(task: str, networks: dict[str, Restorer], args: argparse.Namespace) -> Found:
    """Restore and judge everything."""
    found = Found([], {}, {})
    sources = [made_pairs(task, args.photographs / args.split)]
    if args.real is not None:
        sources.insert(0, real_pairs(task, args.real))
    pairs = (pair for source in sources for pair in source)
    for pair in tqdm(pairs, desc=task, unit="pair", leave=False, disable=None):
        pictures, psnr = [], []
        for name, run in networks.items():
            if pair.place == "clean" and name == "input":
                continue
            start = time.perf_counter()
            image = run(pair.lq)
            if pair.lq.shape[:2] == (2160, 3840) and name != "input":
                found.seconds.setdefault(name, time.perf_counter() - start)
            its = figures(image, pair)
            about = {"task": task, "set": pair.place, "image": pair.name, "network": name}
            found.each.append(about | its)
            psnr.append(its["psnr"])
            pictures.append(captioned(f"{pair.name}: {name} {its['psnr']:.2f} dB", image))
        if args.sheets is not None and len(psnr) > 1 and pair.place != "clean":
            rows = found.rows.setdefault(pair.place, [])
            rows.append((psnr[1] - psnr[0], [*pictures, captioned("truth", pair.gt)]))
            rows.sort(key=lambda row: -row[0])
            del rows[1:-1]  # the best and the worst
    return found


def table(task: str, networks: dict[str, Restorer], found: Found) -> list[str]:
    """As Markdown: sets by networks."""
    lines = [f"## {task}", "", f"| set | n | {' | '.join(networks)} |"]
    lines.append(f"| --- |{' --- |' * (len(networks) + 1)}")
    for place in dict.fromkeys(image["set"] for image in found.each):
        cells, count = [], 0
        for name in networks:
            some = [i for i in found.each if i["set"] == place and i["network"] == name]
            count = max(count, len(some))
            means = (
                f"{mean(image[key] for image in some):.{digits}f}"
                for key, digits in DIGITS.items()
                if some and key in some[0]
            )
            cells.append(" / ".join(means))
        lines.append(f"| {place} | {count} | {' | '.join(cells)} |")
    if found.seconds:
        took = (f"{found.seconds[n]:.1f} s" if n in found.seconds else "" for n in networks)
        lines.append(f"| 3840x2160 takes | | {' | '.join(took)} |")
    return [*lines, ""]


def write_sheets(
    task: str, networks: dict[str, Restorer], found: Found, args: argparse.Namespace
) -> None:
    """Each set's best and worst pair, and what has no truth."""
    rows = [row for some in found.rows.values() for _, row in some]
    if rows:
        write_sheet(rows, args.sheets / f"{task}.jpg")
    if args.real is None:
        return
    rows = []
    for file in sorted(image_files(args.real / "unpaired" / task)):
        image = np.asarray(read_image(file))
        rows.append([captioned(f"{file.stem}: {n}", run(image)) for n, run in networks.items()])
    if rows:
        write_sheet(rows, args.sheets / f"{task}_unpaired.jpg")


def write_each(found: Found, file: Path) -> None:
    """The figures of every image, added to a CSV file."""
    new = not file.exists()
    with file.open("a", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, ["task", "set", "image", "network", *DIGITS])
        if new:
            writer.writeheader()
        writer.writerows(found.each)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True, help="that train_zoo.py made")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--real", type=Path, help="folder with haze/lq, haze/gt and so on")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="TASK=FILE",
        help="beside the shipped ones",
    )
    parser.add_argument("--zoo", type=Path, default=Path("experiments/zoo"))
    parser.add_argument("--networks", nargs="+", choices=("glsgn_s", *PEERS), default=[])
    parser.add_argument("--sheets", type=Path, help="folder for pictures")
    parser.add_argument("--each", type=Path, help="CSV file for the figures of every image")
    parser.add_argument("--out", type=Path, help="Markdown file")
    args = parser.parse_args()
    if args.sheets is not None:
        args.sheets.mkdir(parents=True, exist_ok=True)
    lines = [
        f"`python benchmarks/results.py {shlex.join(sys.argv[1:])}`, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads. PSNR / SSIM / chroma error (/ seam).",
        "",
    ]
    for task in args.tasks:
        networks = networks_of(task, args)
        found = compare(task, networks, args)
        lines += table(task, networks, found)
        if args.sheets is not None:
            write_sheets(task, networks, found, args)
        if args.each is not None:
            write_each(found, args.each)
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
