"""``--shard I/N``, which commands with much to do share."""

from __future__ import annotations

import argparse

from glsgn_plugins.errors import InputError
from glsgn_plugins.shards import WHOLE, Shard, shard_of


def add_shard(parser: argparse.ArgumentParser) -> None:
    """Add ``--shard``."""
    parser.add_argument(
        "--shard",
        type=_shard,
        default=WHOLE,
        metavar="I/N",
        help="do the I-th of N parts, the others on other machines (docs/cluster.md)",
    )


def _shard(text: str) -> Shard:
    try:
        return shard_of(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix(f"--shard {text}: ")) from None
