"""``glsgn preview DIR``: a sheet of pairs, so that people look before they train."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from glsgn_plugins.cli.dataset_arguments import add_set, find_set
from glsgn_plugins.errors import InputError


def add_to(commands: Any) -> None:
    """Add ``preview`` to the command's parser."""
    parser = commands.add_parser(
        "preview",
        help="a contact sheet of a paired set",
        description="Input and truth side by side, whole and in a detail at full size.",
    )
    add_set(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("preview.png"),
        metavar="FILE.png",
        help="the sheet (default: preview.png)",
    )
    parser.add_argument(
        "--pairs", type=int, default=4, metavar="N", help="evenly out of all (default: 4)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the sheet."""
    from glsgn_plugins.data.contact_sheet import contact_sheet

    if args.out.suffix.lower() not in (".png", ".jpg"):
        raise InputError(f"--out {args.out}: expected a name that ends with .png or .jpg")
    if args.pairs < 1:
        raise InputError("--pairs: expected 1 or more")
    _, splits = find_set(args)
    pairs = [pair for pairing in splits.values() for pair in pairing.pairs]
    count = min(args.pairs, len(pairs))
    chosen = [pairs[k * len(pairs) // count] for k in range(count)]
    contact_sheet(chosen, args.out)
    print(f"{args.out}: {count} of {len(pairs)} pairs")
    return 0
