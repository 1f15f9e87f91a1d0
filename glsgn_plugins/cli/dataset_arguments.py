"""Which set a command is about: arguments that ``prepare`` and ``preview`` share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from glsgn_plugins.errors import InputError

if TYPE_CHECKING:
    from glsgn_plugins.data.layouts import Pairing


def add_set(parser: argparse.ArgumentParser) -> None:
    """Add the set's folder and what says how it is laid out."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="the set's folder")
    parser.add_argument("--layout", metavar="NAME", help="by default it is found out")
    parser.add_argument("--split", metavar="NAME", help="by default all there are")
    parser.add_argument("--lq", metavar="PATTERN", help="instead of a layout, e.g. hazy/{scene}_*")
    parser.add_argument("--gt", metavar="PATTERN", help="and the truths', e.g. clear/{scene}")


def find_set(args: argparse.Namespace) -> tuple[str | None, dict[str, Pairing]]:
    """The layout's name and its splits; ``None`` and ``all`` for patterns.

    Raises:
        InputError: Nothing is found.
    """
    from glsgn_plugins.data.layouts import LAYOUTS, find_layouts, find_pairs

    if bool(args.lq) != bool(args.gt):
        one, other = ("--gt", "--lq") if args.lq else ("--lq", "--gt")
        raise InputError(f"{one} is missing: {other} says half of where the files are")
    if args.lq or args.gt:
        if args.split and not args.layout:
            raise InputError("--split: of layouts alone; --lq and --gt say where the files are")
        return None, {"all": find_pairs(args.folder, args.layout, lq=args.lq, gt=args.gt)}
    if args.layout and args.split:
        return args.layout, {args.split: find_pairs(args.folder, args.layout, args.split)}
    if not args.folder.is_dir():
        raise InputError(f"{args.folder}: no such folder; expected a set's own")
    found = find_layouts(args.folder, [args.layout] if args.layout else None)
    if not found:
        names = args.layout or f"any layout known ({', '.join(LAYOUTS)})"
        raise InputError(
            f"{args.folder}: no pairs of {names}; say how they are named by --lq and --gt, e.g. "
            "--lq 'hazy/{scene}_*' --gt 'clear/{scene}'"
        )
    layout, splits = next(iter(found.items()))
    if args.split:
        if args.split not in splits:
            there = ", ".join(found[layout])
            raise InputError(f"{args.folder}: no split '{args.split}' of {layout}, only {there}")
        return layout, {args.split: splits[args.split]}
    return layout, splits
