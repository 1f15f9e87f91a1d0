"""``glsgn prepare DIR``: check a paired set, and bring it into the forms that BasicSR reads."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glsgn_plugins.cli.dataset_arguments import add_set, find_set
from glsgn_plugins.cli.shards import add_shard
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.files import left_out, walk

if TYPE_CHECKING:
    from glsgn_plugins.data.checks import PairReport
    from glsgn_plugins.data.layouts import Pair
    from glsgn_plugins.data.shares import Lines


def add_to(commands: Any) -> None:
    """Add ``prepare`` to the command's parser."""
    parser = commands.add_parser(
        "prepare",
        help="check a paired set, write meta-info files, sub-images or LMDB",
        description="Finds the layout, pairs the files, decodes every image and lists what is "
        "wrong, each with its file; writes DIR/meta_info_SPLIT.txt of the pairs that are right. "
        "Exit code 1 where anything is wrong.",
    )
    add_set(parser)
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        metavar="W",
        help="threads (default: one for each core)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="of sub-images and LMDB")
    parser.add_argument("--sub-images", type=int, metavar="SIZE", help="cut into squares")
    parser.add_argument(
        "--step", type=int, metavar="PIXELS", help="between them (default: SIZE / 2)"
    )
    parser.add_argument("--lmdb", action="store_true", help="write lq.lmdb and gt.lmdb")
    add_shard(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check and prepare; exit code 1 where anything is wrong with the set."""
    if (args.sub_images or args.lmdb) and args.out is None:
        raise InputError("--sub-images and --lmdb need a folder to write to: --out DIR")
    for name in ("workers", "sub_images", "step"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise InputError(f"--{name.replace('_', '-')}: expected 1 or more")
    for name, of, there in (
        ("step", "--sub-images", args.sub_images),
        ("out", "--sub-images and --lmdb", args.sub_images or args.lmdb),
    ):
        if getattr(args, name) is not None and not there:
            raise InputError(f"--{name}: of {of} alone; give that, or leave it out")
    if args.lmdb and not args.shard.whole:
        raise InputError(
            "--lmdb: a database has one writer; leave out --shard, or cut sub-images by shards and "
            "write the database of them afterwards"
        )
    layout, splits = find_set(args)
    if len(splits) > 1 and args.out is not None:
        raise InputError(
            f"--out: {args.folder} has the splits {', '.join(splits)}; prepare one at a "
            "time, by --split"
        )
    return max([_prepare(args, layout, split, pairing) for split, pairing in splits.items()])


def _prepare(args: argparse.Namespace, layout: str | None, split: str, pairing: Any) -> int:
    from tqdm import tqdm

    from glsgn_plugins.data.checks import inspect_pairs
    from glsgn_plugins.data.set_records import clean_pairs
    from glsgn_plugins.data.shares import forget_notes, leave_notes, notes_of_all, stamp
    from glsgn_plugins.io.images import EXTENSIONS

    what = f"layout {layout}, split {split}" if layout else f"{args.lq} with {args.gt}"
    print(f"{args.folder}: {len(pairing.pairs)} pairs ({what})")
    if others := left_out(walk(args.folder), EXTENSIONS):
        print(f"  {others}")
    clean = clean_pairs(args.folder)
    if meant := sum(pair.lq.name in clean for pair in pairing.pairs):
        print(f"  {meant} of them are clean on purpose, by the set's metadata.json")
    own = args.shard.take(pairing.pairs)
    notes = args.out or args.folder
    if not args.shard.whole:
        forget_notes(notes, args.shard)
    looked = inspect_pairs(own, args.workers, clean)
    seen = list(tqdm(looked, desc="Checking", unit="pair", total=len(own)))
    if args.shard.whole:
        return _conclude(args, layout, split, pairing, clean, seen)
    lines = _cut(args, seen, pairing.pairs) if args.sub_images else {}
    for problem in (line for one in seen for line in one.problems):
        print(f"  {problem}")
    run = {"split": split, "size": args.sub_images, "step": args.step}
    run["pairs"] = stamp(pairing.pairs)
    leave_notes(notes, run, args.shard, seen, lines)
    wrong = any(one.problems for one in seen)
    print(f"shard {args.shard}: {len(seen)} pairs are looked at")
    found = notes_of_all(notes, run, args.shard.total, pairing.pairs)
    if found is None:
        print("the shard that finishes last compares all pairs and writes the set's files")
        return 1 if wrong else 0
    code = _conclude(args, layout, split, pairing, clean, *found)
    forget_notes(notes)
    return max(code, int(wrong))


def _cut(
    args: argparse.Namespace, seen: list[PairReport], pairs: Sequence[Pair]
) -> dict[Pair, Lines]:
    """The names and shapes of each pair's sub-images, which are written."""
    from tqdm import tqdm

    from glsgn_plugins.data.prepare import sub_images, unique_stems

    right = [one for one in seen if not one.problems]
    step = args.step or max(1, args.sub_images // 2)
    stems = dict(zip(pairs, unique_stems(pairs)))
    cut = sub_images(right, stems, args.out, args.sub_images, step)
    made = tqdm(cut, desc="Cutting", unit="pair", total=len(right))
    return {one.pair: lines for one, lines in zip(right, made)}


def _conclude(
    args: argparse.Namespace,
    layout: str | None,
    split: str,
    pairing: Any,
    clean: frozenset[str],
    seen: list[PairReport],
    lines: dict[Pair, Lines] | None = None,
) -> int:
    """Say what is wrong with all pairs, and write the set's files.

    ``clean`` are as of ``clean_pairs``, ``lines`` those of sub-images that shards have cut already.
    """
    from glsgn_plugins.data.checks import problems_across_pairs

    problems = [*pairing.problems(), *(line for one in seen for line in one.problems)]
    problems += problems_across_pairs(seen, clean)
    for problem in problems:
        print(f"  {problem}")
    right = [one for one in seen if not one.problems]
    print(f"{len(right)} pairs are right, {len(problems)} problems")
    if right:
        if args.sub_images and lines is None:
            lines = _cut(args, seen, pairing.pairs)
        _write(args, layout, split, right, lines or {})
    return 1 if problems else 0


def _write(
    args: argparse.Namespace,
    layout: str | None,
    split: str,
    right: list[PairReport],
    lines: dict[Pair, Lines],
) -> None:
    from tqdm import tqdm

    from glsgn_plugins.data.layouts import Pair
    from glsgn_plugins.data.prepare import (
        keep_other,
        one_to_one,
        remove_stale,
        write_lmdb,
        write_meta_info,
    )

    pairs = [one.pair for one in right]
    if args.sub_images:
        squares = [line for pair in pairs for line in lines[pair]]
        remove_stale(args.out, (name for name, _ in squares))
        pairs = [Pair(args.out / "lq" / name, args.out / "gt" / name) for name, _ in squares]
        write_meta_info(args.out / "meta_info.txt", squares)
        _show("PairedImageDataset", args.out / "lq", args.out / "gt", args.out / "meta_info.txt")
    elif one_to_one(pairs):
        name = f"meta_info_{split}.txt"
        shapes = [(one.pair.gt.name, one.shape) for one in right if one.shape]
        spaced = [written for written, _ in shapes if " " in written]
        if spaced:
            print(
                f"No {name}: BasicSR's meta-info files end a name at a space, as in '{spaced[0]}'; "
                "UHDPairedDataset and LMDB need none"
            )
        else:
            if kept := keep_other(args.folder / name, shapes):
                print(f"{args.folder / name} named other files: it is kept as {kept.name}")
            write_meta_info(args.folder / name, shapes)
            _show("PairedImageDataset", pairs[0].lq.parent, pairs[0].gt.parent, args.folder / name)
    if args.lmdb:
        whole = write_lmdb(pairs, args.out)
        for _ in tqdm(whole, desc="Writing LMDB", unit="pair", total=len(pairs)):
            pass
        _show("PairedImageDataset", args.out / "lq.lmdb", args.out / "gt.lmdb", None)
    if layout:
        print(
            f"In BasicSR's options, as it is:\n  type: UHDPairedDataset\n  dataroot: {args.folder}"
        )
        print(f"  layout: {layout}\n  split: {split}")


def _show(kind: str, lq: Path, gt: Path, meta_info: Path | None) -> None:
    """The options that read what was written."""
    print(f"In BasicSR's options:\n  type: {kind}\n  dataroot_lq: {lq}\n  dataroot_gt: {gt}")
    if meta_info is not None:
        print(f"  meta_info_file: {meta_info}")
    print(f"  io_backend:\n    type: {'disk' if meta_info is not None else 'lmdb'}")
