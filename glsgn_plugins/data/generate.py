"""Making a paired set from clean photographs: the same bytes for the same seed, whole or absent.

Below the set's folder: ``lq/`` and ``gt/`` with equal names, or these in ``train/`` and ``test/``,
and ``metadata.json``. While it is being made, what is known of each finished pair lies in
``.unfinished/``, so that a run that was killed goes on where it stopped. Several machines may make
parts of one set in one folder: whichever finds all of it there writes ``metadata.json``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.data.crops import center_crop
from glsgn_plugins.data.set_records import (
    PLAIN_LAYOUT,
    SIDES,
    SPLIT_LAYOUTS,
    TEST_SHARE,
    Job,
    Settings,
    finish_set,
    is_complete,
    note_file,
    note_left_out,
    read_notes,
    start_set,
    write_json,
)
from glsgn_plugins.data.synthesis import Synthesis
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.atomic import atomic_write
from glsgn_plugins.io.images import png, read_image
from glsgn_plugins.shards import WHOLE, Shard

LOGGER = logging.getLogger("glsgn_plugins")

LONGEST = 240
"""Bytes of a file's name: disks hold 255, and what is not yet whole has a longer one."""

Missing = list[tuple[int, str]]
"""Numbers and names of the versions of a photograph that are still to be made."""


def plan(
    synthesis: Synthesis,
    layout: str = PLAIN_LAYOUT,
    known: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Job]:
    """A job for each photograph; folders become part of the names, so that all are different.

    All versions of a photograph are in one split. Where it is known it stays, when others are
    added; else it follows from the photograph's name. A test split has one photograph at least.

    Args:
        synthesis: Of the photographs.
        layout: Of the set.
        known: What is known of finished pairs.

    Raises:
        InputError: Two photographs would get one name.
    """
    jobs: dict[str, Job] = {}
    stays = {one["photograph"]: one["split"] for one in (known or {}).values() if "split" in one}
    places = {path: _name_digest(synthesis, path) for path in synthesis.photographs}
    tested = bytes([round(256 * TEST_SHARE)])
    splits = {
        path: stays.get(synthesis.name(path), "test" if place <= tested else "train")
        for path, place in places.items()
    }
    if "test" not in splits.values():
        splits[min(places, key=lambda path: places[path])] = "test"
    for path in synthesis.photographs:
        stem = "_".join(path.relative_to(synthesis.root).with_suffix("").parts)
        if stem in jobs:
            raise InputError(
                f"{path} and {jobs[stem].photograph}: both would be named '{stem}'; rename one"
            )
        jobs[stem] = Job(path, stem, splits[path] if layout in SPLIT_LAYOUTS else "")
    return list(jobs.values())


def _name_digest(synthesis: Synthesis, photograph: Path) -> bytes:
    """Of a photograph's name: what random numbers follow from."""
    return hashlib.sha256(os.fsencode(synthesis.name(photograph))).digest()


def generate_set(
    out: Path, settings: Settings, workers: int, shard: Shard = WHOLE
) -> Iterator[str | None]:
    """Make the set, or what is missing of it.

    Args:
        out: Its folder.
        settings: What it is made from.
        workers: Processes that share the work; the files don't depend on it.
        shard: Which of the photographs; the files don't depend on that either.

    Returns:
        An iterator that does the work: for each photograph, in no certain order, it gives what is
        wrong with it or ``None``; the others go on. At its end ``metadata.json`` is written, unless
        other shards still have something to do.

    Raises:
        InputError: The settings don't do, ``out`` holds another set, or nothing can be written.
    """
    synthesis = settings.synthesis()
    if synthesis.root.resolve() in (out.resolve(), *out.resolve().parents):
        raise InputError(
            f"{out}: lies in {synthesis.root}, where its images would be taken for photographs; "
            "use a folder beside it"
        )
    plan(synthesis, settings.layout)  # names that can't be, before anything is there
    start_set(out, settings)
    return _make_missing(out, settings, workers, synthesis, shard)


def _make_missing(
    out: Path,
    settings: Settings,
    workers: int,
    synthesis: Synthesis,
    shard: Shard,
) -> Iterator[str | None]:
    known = read_notes(out)
    jobs = plan(synthesis, settings.layout, known)
    todo = []
    for job in shard.take(jobs):
        if len(os.fsencode(f"{job.names(settings.per_image)[-1]}.png")) > LONGEST:
            yield f"{job.photograph}: its name is too long for a file of the set; shorten it"
            continue
        missing = [
            (k, name)
            for k, name in enumerate(job.names(settings.per_image))
            if name not in known
            or not all(_image(out, job, side, name).is_file() for side in SIDES)
            or _is_of_other_files(known[name], synthesis, job)
        ]
        for _, name in missing:
            _image(out, job, "gt", name).unlink(missing_ok=True)  # of another photograph, perhaps
            _forget_elsewhere(out, job, name)
        if missing:
            todo.append((job, missing))
        else:
            yield None
    if workers <= 1 or len(todo) <= 1:
        made: Iterator[tuple[Job, str | None]] = (
            (job, _make_pairs(out, settings, synthesis, job, _beside(job, jobs), missing))
            for job, missing in todo
        )
    else:
        made = _share_out(out, settings, todo, jobs, workers)
    left_out = []
    for job, problem in made:
        if problem is not None:
            left_out.append(job.stem)
        yield problem
    note_left_out(out, shard, left_out)
    known = read_notes(out)
    if shard.whole or is_complete(out, settings, jobs, known):
        names = [name for job in jobs for name in job.names(settings.per_image)]
        finish_set(out, settings, names, known)


def _is_of_other_files(record: dict[str, Any], synthesis: Synthesis, job: Job) -> bool:
    """Whether a pair was made from files that have been replaced since, under their names."""
    companion = record["companion"] and synthesis.companion_path(record["companion"])
    return bool(record.get("sources", ())) and record["sources"] != _sources(
        job.photograph, companion
    )


def _sources(photograph: Path, companion: Path | None) -> list[str]:
    """Digests of the files that a pair is made from."""
    return [_digest(path) for path in (photograph, companion) if path is not None]


def _digest(path: Path) -> str:
    try:
        about = path.stat()
        return _digest_of(path, about.st_mtime_ns, about.st_size)
    except OSError as error:
        return f"can't be read ({error.strerror})"  # which reading it will say


@lru_cache(1024)
def _digest_of(path: Path, modified: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def _share_out(
    out: Path, settings: Settings, todo: list[tuple[Job, Missing]], jobs: list[Job], workers: int
) -> Iterator[tuple[Job, str | None]]:
    # Forked from here they might inherit locks of OpenCV's threads; spawned, each would import
    # torch again, which takes seconds.
    kind = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    context = get_context(kind)
    if kind == "forkserver":
        context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(min(workers, len(todo)), context, _start_worker, (out, settings))
    try:
        futures = {
            pool.submit(_make_in_worker, job, _beside(job, jobs), missing): job
            for job, missing in todo
        }
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise InputError(
            f"{out}: a worker was stopped, perhaps for want of memory; run it again with fewer "
            "workers: it goes on where it stopped"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(out: Path, settings: Settings) -> None:
    global _in_worker
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that shares the work stops it
    _in_worker = (out, settings, settings.synthesis())


_in_worker: tuple[Path, Settings, Synthesis]


def _beside(job: Job, jobs: list[Job]) -> list[Path]:
    """Photographs that may be reflected in one: none of the other split."""
    return [other.photograph for other in jobs if other.split == job.split]


def _make_in_worker(job: Job, beside: list[Path], missing: Missing) -> str | None:
    return _make_pairs(*_in_worker, job, beside, missing)


def _make_pairs(
    out: Path,
    settings: Settings,
    synthesis: Synthesis,
    job: Job,
    beside: list[Path],
    missing: Missing,
) -> str | None:
    """Write the missing pairs of a photograph; what is wrong with it, if anything is."""
    try:
        clean = read_image(job.photograph)
        whole = clean.shape[:2]
        if settings.size is not None:
            clean = bring_to(clean, settings.size, job.photograph)
    except InputError as error:
        return str(error)
    unchanged = png(clean)
    for k, name in missing:
        # By the name, so that adding photographs doesn't change what the others get; but for the
        # one that is reflected, which is drawn among those that are there.
        rng = np.random.default_rng([settings.seed, k, *_name_digest(synthesis, job.photograph)])
        companion = synthesis.companion(job.photograph, rng, beside)
        parameters = synthesis.sample(rng)
        try:
            beside_it = synthesis.read_companion(companion, clean)
            if beside_it is not None and beside_it.ndim == 2:
                beside_it = _middle(beside_it, whole, clean.shape[:2])
            lq, gt = parameters.pair(clean, beside_it)
        except InputError as error:
            return f"{job.photograph}: {error}"
        content = unchanged if gt is clean else png(gt)
        first = job.names(settings.per_image)[0]
        _write_gt(_image(out, job, "gt", name), content, _image(out, job, "gt", first))
        atomic_write(_image(out, job, "lq", name), png(lq))
        record = {
            "name": f"{name}.png",
            "photograph": synthesis.name(job.photograph),
            "companion": None if companion is None else synthesis.companion_name(companion),
            "sources": _sources(job.photograph, companion),
            "seed": [settings.seed, k],
            "parameters": dataclasses.asdict(parameters),
        }
        if job.split:
            record["split"] = job.split
        write_json(note_file(out, name), record)
    return None


def bring_to(image: NDArray[Any], size: tuple[int, int], path: Path) -> NDArray[Any]:
    """Scale down to cover a size, and cut out the middle.

    Args:
        image: ``(H, W, 3)``.
        size: Longer and shorter side, in pixels; upright photographs stay upright.
        path: For messages.

    Raises:
        InputError: The image is smaller: scaled up it would be no clean truth.
    """
    height, width = image.shape[:2]
    wide, high = size if width >= height else size[::-1]
    if height < high or width < wide:
        raise InputError(
            f"{path}: {width}x{height} pixels, smaller than {wide}x{high}; leave it out, or ask "
            "for a smaller --size"
        )
    scale = max(wide / width, high / height)
    to = (max(wide, round(width * scale)), max(high, round(height * scale)))
    if to != (width, height):
        image = np.asarray(cv2.resize(image, to, interpolation=cv2.INTER_AREA))
    return np.ascontiguousarray(center_crop(image, (high, wide)))


def _middle(depth: NDArray[Any], whole: tuple[int, ...], kept: tuple[int, ...]) -> NDArray[Any]:
    """The part of a photograph's depth map that :func:`bring_to` has kept of the photograph.

    Args:
        depth: ``(h, w)``, of the whole.
        whole: Rows and columns of the photograph.
        kept: Those of what is left of it.
    """
    scale = max(side / have for side, have in zip(kept, whole))
    rows, cols = (
        max(1, round(have * side / (full * scale)))
        for have, side, full in zip(depth.shape, kept, whole)
    )
    return center_crop(depth, (rows, cols))


def _image(out: Path, job: Job, side: str, name: str) -> Path:
    return out / job.split / side / f"{name}.png"


def _forget_elsewhere(out: Path, job: Job, name: str) -> None:
    """A photograph whose split had been the other one, as the only one of a test split."""
    for split in {"train", "test"} - {job.split} if job.split else ():
        for side in SIDES:
            (out / split / side / f"{name}.png").unlink(missing_ok=True)


def _write_gt(path: Path, content: bytes, shared: Path) -> None:
    """Versions of one photograph that have one truth share a file where the disk can do that."""
    alike = path != shared and shared.is_file() and shared.read_bytes() == content
    if alike and not path.exists():
        try:
            os.link(shared, path)
            return
        except OSError:
            pass  # the disk can't: a file of its own then
    atomic_write(path, content)
