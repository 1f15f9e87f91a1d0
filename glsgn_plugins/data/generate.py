"""Making a paired set from clean photographs: the same bytes for the same seed, whole or absent.

Below the set's folder: ``lq/`` and ``gt/`` with equal names, or these in ``train/`` and ``test/``,
and ``metadata.json``. While it is being made, what is known of each finished pair lies in
``.unfinished/``, so that a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from glsgn_plugins import __version__
from glsgn_plugins.data.crops import center_crop
from glsgn_plugins.data.synthesis import Synthesis, options_of
from glsgn_plugins.degradations import PARAMETERS, Parameters, RealParameters
from glsgn_plugins.errors import InputError, unknown_name
from glsgn_plugins.io.atomic import atomic_write
from glsgn_plugins.io.images import png, read_image

LOGGER = logging.getLogger("glsgn_plugins")

METADATA = "metadata.json"
UNFINISHED = ".unfinished"
SETTINGS = "settings.json"
SIDES = ("lq", "gt")
PLAIN_LAYOUT = "synthesized"
SPLIT_LAYOUTS = {"UHR4K-Rain": "rain", "UHR4K-Syn": "reflection"}
"""Layouts of two splits, and the degradation that each is of."""
TEST_SHARE = 0.1
"""Of the photographs, in layouts of two splits; our choice, the paper's isn't public."""

Missing = list[tuple[int, str]]
"""Numbers and names of the versions of a photograph that are still to be made."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a set is made from; two runs with equal settings make equal files.

    Attributes:
        clean: Folder of clean photographs, at any depth.
        degradation: Its ``type``, and ranges where others than the default are wanted.
        per_image: Degraded versions of each photograph.
        seed: Of everything random.
        size: Longer and shorter side to which photographs are brought, in pixels: scaled down to
            cover it, and its middle cut out; ``None`` leaves them as they are.
        reflections: Folder of photographs to be reflected; by default ``clean``.
        depth: Folder of depth maps; by default depth is made up.
        layout: ``synthesized``, or one of :data:`SPLIT_LAYOUTS`.

    Raises:
        InputError: The layout is of another degradation.
    """

    clean: str
    degradation: dict[str, Any]
    per_image: int = 1
    seed: int = 0
    size: tuple[int, int] | None = None
    reflections: str | None = None
    depth: str | None = None
    layout: str = PLAIN_LAYOUT

    def __post_init__(self) -> None:
        if self.layout not in (PLAIN_LAYOUT, *SPLIT_LAYOUTS):
            raise unknown_name("layout", self.layout, [PLAIN_LAYOUT, *SPLIT_LAYOUTS])
        kind = SPLIT_LAYOUTS.get(self.layout, self.degradation["type"])
        if kind != self.degradation["type"]:
            raise InputError(
                f"layout {self.layout} is of {kind}, not of {self.degradation['type']}; leave it "
                f"out, or synthesize {kind}"
            )

    def synthesis(self) -> Synthesis:
        """The photographs and their degradation.

        Raises:
            InputError: A folder or range doesn't do.
        """
        return Synthesis(self.clean, self.degradation, self.reflections, self.depth)


@dataclasses.dataclass(frozen=True)
class Job:
    """One photograph, to be degraded ``per_image`` times.

    Attributes:
        photograph: Its file.
        stem: Of the names of the files that are made; several versions get a number after it.
        split: ``train`` or ``test``; empty where the layout has none.
    """

    photograph: Path
    stem: str
    split: str

    def names(self, per_image: int) -> list[str]:
        """Stems of the pairs."""
        return [self.stem] if per_image == 1 else [f"{self.stem}_{k}" for k in range(per_image)]


def plan(synthesis: Synthesis, layout: str = PLAIN_LAYOUT) -> list[Job]:
    """A job for each photograph; folders become part of the names, so that all are different.

    All versions of a photograph are in one split. Which one follows from its name, so that it
    stays there when others are added; a test split has one photograph at least.

    Raises:
        InputError: Two photographs would get one name.
    """
    jobs: dict[str, Job] = {}
    places = {path: _name_digest(synthesis, path) for path in synthesis.photographs}
    most = max(bytes([round(256 * TEST_SHARE)]), min(places.values()))
    for path in synthesis.photographs:
        stem = "_".join(path.relative_to(synthesis.root).with_suffix("").parts)
        if stem in jobs:
            raise InputError(
                f"{path} and {jobs[stem].photograph}: both would be named '{stem}'; rename one"
            )
        split = "test" if places[path] <= most else "train"
        jobs[stem] = Job(path, stem, split if layout in SPLIT_LAYOUTS else "")
    return list(jobs.values())


def _name_digest(synthesis: Synthesis, photograph: Path) -> bytes:
    """Of a photograph's name: what random numbers follow from."""
    name = photograph.relative_to(synthesis.root).as_posix()
    return hashlib.sha256(os.fsencode(name)).digest()


def generate_set(out: Path, settings: Settings, workers: int) -> Iterator[str | None]:
    """Make the set, or what is missing of it.

    Args:
        out: Its folder.
        settings: What it is made from.
        workers: Processes that share the work; the files don't depend on it.

    Returns:
        An iterator that does the work: for each photograph, in no certain order, it gives what is
        wrong with it or ``None``; the others go on. At its end ``metadata.json`` is written.

    Raises:
        InputError: The settings don't do, ``out`` holds another set, or nothing can be written.
    """
    synthesis = settings.synthesis()
    jobs = plan(synthesis, settings.layout)
    _start(out, settings)
    return _make_missing(out, settings, workers, synthesis, jobs)


def _make_missing(
    out: Path, settings: Settings, workers: int, synthesis: Synthesis, jobs: list[Job]
) -> Iterator[str | None]:
    known = _read_notes(out)
    todo = []
    for job in jobs:
        missing = [
            (k, name)
            for k, name in enumerate(job.names(settings.per_image))
            if name not in known
            or not all(_image(out, job, side, name).is_file() for side in SIDES)
            or _is_of_other_files(known[name], synthesis, job)
        ]
        for _, name in missing:
            _image(out, job, "gt", name).unlink(missing_ok=True)  # of another photograph, perhaps
        if missing:
            todo.append((job, missing))
        else:
            yield None
    if workers <= 1 or len(todo) <= 1:
        for job, missing in todo:
            yield _make_pairs(out, settings, synthesis, job, _beside(job, jobs), missing)
    else:
        yield from _share_out(out, settings, todo, jobs, workers)
    _finish(out, settings, [name for job in jobs for name in job.names(settings.per_image)])


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
) -> Iterator[str | None]:
    # Forked from here they might inherit locks of OpenCV's threads; spawned, each would import
    # torch again, which takes seconds.
    kind = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    context = get_context(kind)
    if kind == "forkserver":
        context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(min(workers, len(todo)), context, _start_worker, (out, settings))
    try:
        futures = [
            pool.submit(_make_in_worker, job, _beside(job, jobs), missing) for job, missing in todo
        ]
        for future in as_completed(futures):
            yield future.result()
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
        if settings.size is not None:
            clean = bring_to(clean, settings.size, job.photograph)
    except InputError as error:
        return str(error)
    photograph = job.photograph.relative_to(synthesis.root).as_posix()
    unchanged = png(clean)
    for k, name in missing:
        # By the name, so that adding photographs doesn't change what the others get.
        rng = np.random.default_rng([settings.seed, k, *_name_digest(synthesis, job.photograph)])
        companion = synthesis.companion(job.photograph, rng, beside)
        parameters = synthesis.sample(rng)
        try:
            lq, gt = parameters.pair(clean, synthesis.read_companion(companion, clean))
        except InputError as error:
            return f"{job.photograph}: {error}"
        content = unchanged if gt is clean else png(gt)
        first = job.names(settings.per_image)[0]
        _write_gt(_image(out, job, "gt", name), content, _image(out, job, "gt", first))
        atomic_write(_image(out, job, "lq", name), png(lq))
        record = {
            "name": f"{name}.png",
            "photograph": photograph,
            "companion": None if companion is None else synthesis.companion_name(companion),
            "sources": _sources(job.photograph, companion),
            "seed": [settings.seed, k],
            "parameters": dataclasses.asdict(parameters),
        }
        if job.split:
            record["split"] = job.split
        _write_json(_note(out, name), record)
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


def _image(out: Path, job: Job, side: str, name: str) -> Path:
    return out / job.split / side / f"{name}.png"


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


def _record(settings: Settings) -> dict[str, Any]:
    """Settings as JSON gives them back, without the folders, which may move."""
    record = dataclasses.asdict(settings)
    for folder in ("clean", "reflections", "depth"):
        del record[folder]
    record["degradation"] = options_of(settings.degradation)
    return dict(json.loads(json.dumps(record)))


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    atomic_write(path, text.encode(errors="surrogateescape"))  # names may be no UTF-8


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8", errors="surrogateescape")))
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise InputError(f"{path}: not metadata of a set ({error}); use another folder") from None


def _with_defaults(settings: Any) -> Any:
    """Settings of a set that may be older than presets and layouts, when there was one of each."""
    try:
        degradation = {"preset": "plain", **settings["degradation"]}
        return {"layout": PLAIN_LAYOUT, **settings, "degradation": degradation}
    except (TypeError, KeyError):
        return settings


def _note(out: Path, name: str) -> Path:
    """Where what is known of a finished pair is kept; short, however long the name is."""
    return out / UNFINISHED / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:24]}.json"


def _start(out: Path, settings: Settings) -> None:
    """Make the folders, and take up again what is there."""
    if out.is_dir() and not (out / METADATA).is_file() and not (out / UNFINISHED).is_dir():
        there = [path.name for path in out.iterdir()]
        if there:
            raise InputError(
                f"{out}: holds other files ({', '.join(sorted(there)[:3])}); use a new folder"
            )
    record = _record(settings)
    for file in (out / METADATA, out / UNFINISHED / SETTINGS):
        if file.is_file() and _with_defaults(_read_json(file).get("settings")) != record:
            raise InputError(
                f"{out}: holds a set that was made with other settings (see {file}); use "
                "another folder, or the same settings to go on with it"
            )
    try:
        splits = ("train", "test") if settings.layout in SPLIT_LAYOUTS else ("",)
        for folder in (*(f"{split}/{side}" for split in splits for side in SIDES), UNFINISHED):
            (out / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{error.filename}: can't be made ({error.strerror})") from None
    _write_json(out / UNFINISHED / SETTINGS, {"settings": record})


def _read_notes(out: Path) -> dict[str, dict[str, Any]]:
    """What is known of finished pairs, by their names without extension."""
    records = [_read_json(path) for path in (out / UNFINISHED).glob("*.json")]
    if (out / METADATA).is_file():
        records += _read_json(out / METADATA)["pairs"]
    return {record["name"].removesuffix(".png"): record for record in records if "name" in record}


def _finish(out: Path, settings: Settings, names: list[str]) -> None:
    known = _read_notes(out)
    metadata = {
        "settings": _record(settings),
        "versions": {
            "glsgn-plugins": __version__,
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
        "pairs": [known[name] for name in sorted(names) if name in known],
    }
    _write_json(out / METADATA, metadata)
    wanted = {f"{name}.png" for name in names}
    found = [path for split in ("", "train", "test") for path in (out / split / "lq").glob("*.png")]
    stale = [path for path in found if path.name not in wanted]
    if stale:
        LOGGER.warning(
            "%s and %d more: of photographs that are no longer there; not in %s, remove them",
            min(stale),
            len(stale) - 1,
            METADATA,
        )
    shutil.rmtree(out / UNFINISHED)


def parameters_of(metadata: dict[str, Any], pair: dict[str, Any]) -> Parameters:
    """The degradation of a pair, from ``metadata.json``.

    ``parameters_of(metadata, pair).pair(photograph, companion)`` is its input and truth again, to
    the bit, with the versions of numpy and OpenCV that the metadata names. With the preset
    ``plain`` truths are the photographs, so ``apply(gt, companion)`` is its input.

    Args:
        metadata: The file's content.
        pair: One of its ``pairs``.
    """
    degradation = metadata["settings"]["degradation"]
    if degradation.get("preset", "plain") == "plain":
        return PARAMETERS[degradation["type"]].from_record(pair["parameters"])
    return RealParameters.from_record(pair["parameters"])
