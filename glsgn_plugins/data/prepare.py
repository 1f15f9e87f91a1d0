"""Sets in the forms that BasicSR's own datasets read: meta-info files, sub-images, LMDB."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from glsgn_plugins.data.checks import PairReport
from glsgn_plugins.data.layouts import Pair, read_pair
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.atomic import atomic_write, atomic_write_into
from glsgn_plugins.io.images import png

Shape = tuple[int, int, int]

SQUARE = re.compile(r".+_s\d{3,}\.png")
"""Names of sub-images."""


def one_to_one(pairs: Sequence[Pair]) -> bool:
    """Whether inputs and truths lie in one folder each, under equal names: BasicSR's own layout."""
    folders = {(pair.lq.parent, pair.gt.parent) for pair in pairs}
    return len(folders) == 1 and all(pair.lq.name == pair.gt.name for pair in pairs)


def write_meta_info(path: Path, lines: Sequence[tuple[str, Shape]]) -> None:
    """Write what BasicSR's ``meta_info_file`` reads: a truth's name and its shape on each line.

    Raises:
        InputError: It can't be written, or a name has a space, at which BasicSR would end it.
    """
    for name, _ in lines:
        if " " in name:
            raise InputError(
                f"{name}: a space in its name, at which BasicSR's meta-info files end; rename it, "
                "or read the set by UHDPairedDataset, which needs none"
            )
    text = "".join(f"{name} ({','.join(map(str, shape))})\n" for name, shape in lines)
    atomic_write(path, os.fsencode(text))


def keep_other(path: Path, lines: Sequence[tuple[str, Shape]]) -> Path | None:
    """Rename a meta-info file that names others than ``lines``: it may be somebody's selection.

    Returns:
        Its new path, the first of ``NAME.~1~``, ``NAME.~2~`` that is free; ``None`` where there is
        no such file, or the same ones are in it.

    Raises:
        InputError: It can't be read or renamed.
    """
    try:
        names = [line.split(b" ")[0] for line in path.read_bytes().splitlines()]
        if names == [os.fsencode(name) for name, _ in lines]:
            return None
        kept = (path.with_name(f"{path.name}.~{n}~") for n in itertools.count(1))
        free = next(other for other in kept if not other.exists())
        return path.rename(free)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(
            f"{path}: can't be kept before another is written: {error}; move it away"
        ) from error


def sub_images(
    seen: Sequence[PairReport],
    stems: Mapping[Pair, str],
    out: Path,
    size: int,
    step: int,
) -> Iterator[list[tuple[str, Shape]]]:
    """Cut pairs into overlapping squares, ``out/lq`` and ``out/gt``.

    Squares that are there with the same content are kept, others are written anew. Those of an
    earlier run that are no longer wanted are left to :func:`remove_stale`.

    Args:
        seen: The pairs, all of them whole.
        stems: Their names, as of :func:`unique_stems` for the whole set.
        out: A folder.
        size: Side of the squares, in pixels.
        step: From one to the next; the last of a row or column ends with the image.

    Yields:
        For each pair the names and shapes of its squares.

    Raises:
        InputError: An image is smaller than the squares, ``out`` holds other files, or nothing can
            be written.
    """
    left: list[Path] = []
    sources = {file.parent.resolve() for one in seen for file in one.pair}
    for side in ("lq", "gt"):
        if (out / side).resolve() in sources:
            raise InputError(
                f"{out / side}: holds the set's own images; use another folder for sub-images"
            )
        (out / side).mkdir(parents=True, exist_ok=True)
        left += (out / side).iterdir()
    foreign = [p for p in left if not SQUARE.fullmatch(p.name) and not p.name.startswith(".")]
    if foreign:
        raise InputError(f"{foreign[0]}: no sub-image; use another folder for these")
    for one in seen:
        stem = stems[one.pair]
        lq, gt = read_pair(one.pair)
        height, width = lq.shape[:2]
        if min(height, width) < size:
            raise InputError(
                f"{one.pair.lq}: {width}x{height} pixels, smaller than sub-images of {size}"
            )
        lines: list[tuple[str, Shape]] = []
        corners = [(y, x) for y in _starts(height, size, step) for x in _starts(width, size, step)]
        for number, (top, at) in enumerate(corners, 1):
            name = f"{stem}_s{number:03d}.png"
            for side, image in (("gt", gt), ("lq", lq)):
                file, content = out / side / name, png(image[top : top + size, at : at + size])
                if not file.is_file() or file.read_bytes() != content:
                    atomic_write(file, content, durable=False)
            lines.append((name, (size, size, 3)))
        yield lines


def remove_stale(out: Path, wanted: Iterable[str]) -> None:
    """Remove the squares of earlier runs whose names are no longer wanted."""
    names = set(wanted)
    for side in ("lq", "gt"):
        for file in (out / side).iterdir():
            if SQUARE.fullmatch(file.name) and file.name not in names:
                file.unlink(missing_ok=True)  # another shard may be at it, too


def _starts(length: int, size: int, step: int) -> list[int]:
    starts = list(range(0, length - size + 1, step))
    if starts[-1] + size < length:
        starts.append(length - size)
    return starts


def unique_stems(pairs: Sequence[Pair]) -> list[str]:
    """A name for each pair, after its input, as BasicSR's LMDB keys can be: ASCII without dots.

    Where two inputs have one name, as many of their folders go before it as make them different.
    """
    stems: dict[str, Path] = {}
    for pair in pairs:
        parts = [quote(os.fsencode(p).replace(b".", b"_")) for p in pair.lq.with_suffix("").parts]
        depth = 1
        while (stem := "_".join(parts[-depth:])) in stems and depth < len(parts):
            depth += 1
        number = 2
        while stem in stems:  # a_b/c and a/b_c, or two extensions
            stem = f"{parts[-1]}_{number}"
            number += 1
        stems[stem] = pair.lq
    return list(stems)


def write_lmdb(pairs: Sequence[Pair], out: Path) -> Iterator[None]:
    """Write ``out/lq.lmdb`` and ``out/gt.lmdb`` as BasicSR's ``io_backend: lmdb`` reads them.

    Each is whole under its name or not there.

    Args:
        pairs: All of them whole.
        out: A folder.

    Yields:
        After each pair.

    Raises:
        InputError: lmdb is not installed, something is there already, or the disk is full.
    """
    try:
        import lmdb
    except ImportError:
        raise InputError("LMDB needs the package lmdb: pip install lmdb") from None
    finals = [out / f"{side}.lmdb" for side in ("lq", "gt")]
    for final in finals:
        if final.exists():
            raise InputError(f"{final}: is there already; remove it or use another folder")
    # An upper bound of an address range, not what is taken from the disk.
    bound = 2**40
    lines: list[list[str]] = [[], []]
    with atomic_write_into(out) as scratch:
        parts = [scratch / final.name for final in finals]
        stores = [lmdb.open(str(part), map_size=bound, sync=False) for part in parts]
        try:
            for pair, stem in zip(pairs, unique_stems(pairs)):
                for store, listing, image in zip(stores, lines, read_pair(pair)):
                    with store.begin(write=True) as transaction:
                        transaction.put(stem.encode("ascii"), png(image))
                    shape = ",".join(map(str, image.shape))
                    listing.append(f"{stem}.png ({shape}) 1\n")
                yield
            for store in stores:
                store.sync(True)
        except lmdb.Error as error:
            raise InputError(f"{out}: can't be written ({error}); is the disk full?") from None
        finally:
            for store in stores:
                store.close()
        for part, listing in zip(parts, lines):
            atomic_write(part / "meta_info.txt", "".join(listing).encode())
