"""Files of a folder: each once, links followed, and what is left out is told."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from glsgn_plugins.io import raw

NOT_READ = frozenset(
    (
        *raw.SUFFIXES,
        *(".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpe", ".jfif", ".gif"),
        *(".bmp", ".psd", ".exr", ".hdr", ".tga", ".ppm", ".pgm", ".pnm"),
        *(".svg", ".ico", ".eps", ".xcf", ".ktx", ".dds"),
        *(".mpo", ".pdf", ".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mts", ".wmv"),
    )
)
"""Ends of names of pictures, documents and films that nothing here reads, if a command doesn't."""

SHOWN = 5
"""Files that a message names before it only counts."""


def walk(
    root: Path, skip: Path | None = None, fail: Callable[[OSError], None] | None = None
) -> list[Path]:
    """Files below a folder, sorted by their path; hidden ones are left out.

    Folders that are links are followed, each folder once, so that a link loop ends.

    Args:
        root: The folder.
        skip: A folder that isn't gone into.
        fail: Told of a folder that can't be read; by default it is left out.
    """
    seen = {os.path.realpath(skip)} if skip is not None else set()
    found = []
    for folder, folders, names in os.walk(root, onerror=fail, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(found)


def left_out(paths: Iterable[Path], read: Iterable[str]) -> str:
    """Pictures and films of kinds that aren't read, as a sentence; nothing where there are none.

    Args:
        paths: Of files.
        read: Ends of names that are read.
    """
    others = [p for p in paths if p.suffix.lower() in NOT_READ and p.suffix.lower() not in read]
    if not others:
        return ""
    kinds = Counter(path.suffix.lower() for path in others)
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    shown = ", ".join(str(path) for path in others[:SHOWN]) + ("..." if len(others) > SHOWN else "")
    return f"left out, since these kinds aren't read: {counted} ({shown}); convert them"


def nfc_name(name: str) -> str:
    """A name in Unicode's composed form: Macs store others than they were given."""
    return unicodedata.normalize("NFC", name)


def equal_names(paths: Sequence[str]) -> tuple[str, str] | None:
    """Two files whose results would get one name, if there are any."""
    seen: dict[str, str] = {}
    for path in paths:
        name = os.path.splitext(os.path.basename(path))[0]
        if name in seen:
            return seen[name], path
        seen[name] = path
    return None
