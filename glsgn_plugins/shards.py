"""One piece of work for several machines: which part of it each does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from glsgn_plugins.errors import InputError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """The ``number``-th of ``total`` parts, counted from 1; by default all there is.

    Every machine makes the same list and takes each ``total``-th of it, so none must know of the
    others, and large and small pictures are spread.
    """

    number: int = 1
    total: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    @property
    def whole(self) -> bool:
        """Whether it is all there is."""
        return self.total == 1

    def take(self, items: Sequence[Item]) -> Sequence[Item]:
        """Those of this part, in their order."""
        return items[self.number - 1 :: self.total]


WHOLE = Shard()


def shard_of(text: str) -> Shard:
    """A part by its name on a command line, e.g. ``3/8``.

    Raises:
        InputError: It is none.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if found and 1 <= int(found[1]) <= int(found[2]):
        return Shard(int(found[1]), int(found[2]))
    raise InputError(
        f"--shard {text}: expected I/N, the I-th of N parts, from 1/N to N/N; slurm's array jobs "
        "with --array=1-8 have $SLURM_ARRAY_TASK_ID/8"
    )
