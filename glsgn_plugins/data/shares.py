"""What the shards of ``glsgn prepare`` tell each other: what each has seen of its pairs.

A shard decodes its pairs and writes down what it saw; whichever finds the notes of all of them
compares all pairs and writes the set's files, as one machine alone would.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glsgn_plugins.data.checks import THUMBNAIL, PairReport
from glsgn_plugins.data.layouts import Pair
from glsgn_plugins.io.atomic import atomic_write
from glsgn_plugins.shards import Shard

NOTES = ".prepared"
"""In the set's folder or in that of its sub-images: what shards have seen."""

Lines = list[tuple[str, tuple[int, int, int]]]
"""Names and shapes for a meta-info file."""


def leave_notes(
    folder: Path,
    what: Mapping[str, Any],
    shard: Shard,
    seen: Sequence[PairReport],
    lines: Mapping[Pair, Lines],
) -> None:
    """Write down what a shard has seen.

    Args:
        folder: Where all shards leave theirs.
        what: Split and options; shards of another run are not taken for those of this one.
        shard: Which.
        seen: Its pairs.
        lines: Sub-images of each, where there are any.
    """
    note = {
        "what": dict(what),
        "seen": [
            {
                "problems": one.problems,
                "shape": one.shape,
                "thumbnails": [_packed(thumbnail.tobytes()) for thumbnail in one.thumbnails],
                "digests": [_packed(digest) for digest in one.digests],
                "lines": lines.get(one.pair, []),
            }
            for one in seen
        ],
    }
    content = json.dumps(note).encode(errors="surrogateescape")
    atomic_write(_place(folder, shard), content)


def notes_of_all(
    folder: Path, what: Mapping[str, Any], total: int, pairs: Sequence[Pair]
) -> tuple[list[PairReport], dict[Pair, Lines]] | None:
    """What all shards have seen, in the order of the pairs; ``None`` where some aren't done yet.

    Args:
        folder: As of :func:`leave_notes`, and so ``what``.
        what: Likewise.
        total: How many shards there are.
        pairs: Of the whole set.
    """
    found: dict[Pair, PairReport] = {}
    lines: dict[Pair, Lines] = {}
    for number in range(1, total + 1):
        shard = Shard(number, total)
        try:
            text = _place(folder, shard).read_text(errors="surrogateescape")
            note = json.loads(text)
        except (OSError, ValueError):
            return None
        own = shard.take(pairs)
        if note["what"] != json.loads(json.dumps(dict(what))) or len(note["seen"]) != len(own):
            return None
        for pair, record in zip(own, note["seen"]):
            found[pair] = _seen(pair, record)
            lines[pair] = [(name, tuple(shape)) for name, shape in record["lines"]]
    return [found[pair] for pair in pairs], lines


def forget_notes(folder: Path, shard: Shard | None = None) -> None:
    """Remove a shard's notes before it begins, or all of them at the end."""
    if shard is not None:
        _place(folder, shard).unlink(missing_ok=True)
    else:
        shutil.rmtree(folder / NOTES, ignore_errors=True)  # another shard may be at it, too


def _place(folder: Path, shard: Shard) -> Path:
    return folder / NOTES / f"{shard.number}-of-{shard.total}.json"


def _packed(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _seen(pair: Pair, record: Mapping[str, Any]) -> PairReport:
    thumbnails = [
        np.frombuffer(base64.b64decode(text), np.float32).reshape(THUMBNAIL, THUMBNAIL)
        for text in record["thumbnails"]
    ]
    shape = record["shape"]
    return PairReport(
        pair,
        tuple(record["problems"]),
        None if shape is None else (shape[0], shape[1], shape[2]),
        tuple(thumbnails),
        tuple(base64.b64decode(text) for text in record["digests"]),
    )


def stamp(pairs: Sequence[Pair]) -> str:
    """Tells one list of pairs from another, by names, sizes and times of their files."""
    digest = hashlib.sha256()
    for path in (path for pair in pairs for path in pair):
        about = path.stat() if path.exists() else None
        told = (os.fspath(path), about and about.st_size, about and about.st_mtime_ns)
        digest.update(repr(told).encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]
