"""``glsgn synthesize rain|reflection|haze``: a paired set from clean photographs."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from glsgn_plugins.cli.shards import add_shard
from glsgn_plugins.errors import InputError


def add_to(commands: Any) -> None:
    """Add ``synthesize`` to the command's parser."""
    parser = commands.add_parser(
        "synthesize",
        help="make a paired set from clean photographs",
        description="Writes lq/, gt/ and metadata.json. With the preset real, truths may differ "
        "from the photographs: what comes through the glass, what the camera made of it. An "
        "interrupted run goes on where it stopped. The same seed gives the same bytes, however "
        "many workers there are.",
    )
    parser.add_argument("degradation", choices=("rain", "reflection", "haze"))
    parser.add_argument(
        "--preset",
        default="real",
        metavar="NAME",
        help="real (the default): as photographs show it, with clean ones and cameras; plain: "
        "the degradation alone, as before there were presets",
    )
    parser.add_argument(
        "--layout",
        default="synthesized",
        metavar="NAME",
        help="UHR4K-Rain (of rain) or UHR4K-Syn (of reflection): train/ and test/ as UHR4KDataset "
        "reads them, a tenth of the photographs for the test",
    )
    parser.add_argument("--clean", required=True, metavar="DIR", help="clean photographs")
    parser.add_argument("--out", required=True, metavar="DIR", type=Path, help="the set's folder")
    parser.add_argument(
        "--per-image", type=int, default=1, metavar="N", help="versions of each (default: 1)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of all draws (default: 0)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        metavar="W",
        help="processes (default: one for each core)",
    )
    parser.add_argument(
        "--size",
        type=_size,
        metavar="WxH",
        help="scale photographs down to cover it and cut out the middle, e.g. 3840x2160",
    )
    parser.add_argument("--reflections", metavar="DIR", help="photographs to be reflected")
    parser.add_argument("--depth", metavar="DIR", help="depth maps for haze, larger is farther")
    parser.add_argument(
        "--range",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "LOW", "HIGH"),
        help="another range of a parameter, e.g. --range veil 0 0.3 (docs/data.md lists them)",
    )
    parser.add_argument(
        "--share",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "SHARE"),
        help="how many of the pairs have something, 0 to 1, e.g. --share identity 0",
    )
    add_shard(parser)
    parser.set_defaults(run=run)


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 3840x2160, got '{text}'")
    long, short = sorted(map(int, sides), reverse=True)
    return long, short


def _ranges(arguments: list[list[str]]) -> dict[str, list[float]]:
    ranges = {}
    for name, *bounds in arguments:
        try:
            ranges[name] = [float(bound) for bound in bounds]
        except ValueError:
            raise InputError(
                f"--range {name} {' '.join(bounds)}: expected two numbers, low and high"
            ) from None
    return ranges


def _shares(arguments: list[list[str]]) -> dict[str, float]:
    try:
        return {name: float(share) for name, share in arguments}
    except ValueError:
        raise InputError("--share: expected a name and a number, e.g. identity 0") from None


def run(args: argparse.Namespace) -> int:
    """Make the set; exit code 1 where photographs had to be left out."""
    from tqdm import tqdm

    from glsgn_plugins.data.generate import generate_set, plan
    from glsgn_plugins.data.set_records import METADATA, Settings

    for name in ("per_image", "workers"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name.replace('_', '-')}: expected 1 or more")
    if args.seed < 0:
        raise InputError("--seed: expected 0 or more")
    for name, kind in (("reflections", "reflection"), ("depth", "haze")):
        if getattr(args, name) is not None and args.degradation != kind:
            raise InputError(f"--{name}: of {kind} alone; leave it out")
    settings = Settings(
        clean=args.clean,
        degradation={
            "type": args.degradation,
            "preset": args.preset,
            **_ranges(args.range),
            **_shares(args.share),
        },
        per_image=args.per_image,
        seed=args.seed,
        size=args.size,
        reflections=args.reflections,
        depth=args.depth,
        layout=args.layout,
    )
    count = len(args.shard.take(plan(settings.synthesis())))
    problems = []
    work = generate_set(args.out, settings, args.workers, args.shard)
    for problem in tqdm(work, total=count, desc=f"Making {args.degradation}", unit="photograph"):
        if problem is not None:
            problems.append(problem)
            tqdm.write(f"left out: {problem}", file=sys.stderr)
    pairs = (count - len(problems)) * args.per_image
    part = "" if args.shard.whole else f", shard {args.shard}"
    print(f"{args.out}: {pairs} pairs of {count - len(problems)} photographs{part}")
    if not (args.out / METADATA).is_file():
        print(f"{METADATA} is written by the shard that finishes last")
    if problems:
        print(f"{len(problems)} photographs were left out, see above", file=sys.stderr)
    return 1 if problems else 0
