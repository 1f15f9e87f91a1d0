"""What a generated set says of itself, and what is known of one that is not yet finished."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from glsgn_plugins import __version__
from glsgn_plugins.data.synthesis import Synthesis, options_of
from glsgn_plugins.degradations import PARAMETERS, Parameters, RealParameters
from glsgn_plugins.errors import InputError, unknown_name
from glsgn_plugins.io.atomic import atomic_write
from glsgn_plugins.shards import Shard

LOGGER = logging.getLogger("glsgn_plugins")

METADATA = "metadata.json"
UNFINISHED = ".unfinished"
SETTINGS = "settings.json"
LEFT_OUT = "left-out"
SIDES = ("lq", "gt")
PLAIN_LAYOUT = "synthesized"
SPLIT_LAYOUTS = {"UHR4K-Rain": "rain", "UHR4K-Syn": "reflection"}
"""Layouts of two splits, and the degradation that each is of."""
TEST_SHARE = 0.1
"""Of the photographs, in layouts of two splits; our choice, the paper's isn't public."""


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


def settings_record(settings: Settings) -> dict[str, Any]:
    """Settings as JSON gives them back, without the folders, which may move."""
    record = dataclasses.asdict(settings)
    for folder in ("clean", "reflections", "depth"):
        del record[folder]
    record["degradation"] = options_of(settings.degradation)
    return dict(json.loads(json.dumps(record)))


def write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    atomic_write(path, text.encode(errors="surrogateescape"))  # names may be no UTF-8


def read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8", errors="surrogateescape")))
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise InputError(f"{path}: not metadata of a set ({error}); use another folder") from None


def with_defaults(settings: Any) -> Any:
    """Settings of a set that may be older than presets, layouts and some of the shares."""
    try:
        degradation = {"preset": "plain", **settings["degradation"]}
        if degradation["preset"] != "plain":
            degradation.setdefault("grey", 0.0)
            if degradation["type"] == "rain":
                degradation.setdefault("misty", 1 / 3)
        return {"layout": PLAIN_LAYOUT, **settings, "degradation": degradation}
    except (TypeError, KeyError):
        return settings


def note_file(out: Path, name: str) -> Path:
    """Where what is known of a finished pair is kept; short, however long the name is."""
    return out / UNFINISHED / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:24]}.json"


def start_set(out: Path, settings: Settings) -> None:
    """Make the folders, and take up again what is there."""
    # Looked at once: another shard may be starting, too.
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if there and not there & {METADATA, UNFINISHED}:
        raise InputError(
            f"{out}: holds other files ({', '.join(sorted(there)[:3])}); use a new folder"
        )
    record = settings_record(settings)
    for file in (out / METADATA, out / UNFINISHED / SETTINGS):
        if file.is_file() and with_defaults(read_json(file).get("settings")) != record:
            raise InputError(
                f"{out}: holds a set that was made with other settings (see {file}); use "
                "another folder, or the same settings to go on with it"
            )
    try:
        splits = ("train", "test") if settings.layout in SPLIT_LAYOUTS else ("",)
        for folder in (UNFINISHED, *(f"{split}/{side}" for split in splits for side in SIDES)):
            (out / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{error.filename}: can't be made ({error.strerror})") from None
    write_json(out / UNFINISHED / SETTINGS, {"settings": record})


def read_notes(out: Path) -> dict[str, dict[str, Any]]:
    """What is known of finished pairs, by their names without extension."""
    notes = []
    for path in (out / UNFINISHED).glob("*.json"):
        try:
            notes.append(read_json(path))
        except InputError:
            if path.exists():
                raise
            # Another shard has just finished: what stood there is in the metadata, read below.
    finished = read_json(out / METADATA)["pairs"] if (out / METADATA).is_file() else []
    # A note is of a pair that was made after the metadata were written.
    records = [record for record in (*finished, *notes) if "name" in record]
    return {record["name"].removesuffix(".png"): record for record in records}


def note_left_out(out: Path, shard: Shard, stems: Sequence[str]) -> None:
    """Write down which photographs a shard has left out, so that no other waits for them."""
    place = out / UNFINISHED / f"{LEFT_OUT}-{shard.number}-{shard.total}.json"
    write_json(place, {LEFT_OUT: list(stems)})


def is_complete(
    out: Path, settings: Settings, jobs: Sequence[Job], known: dict[str, dict[str, Any]]
) -> bool:
    """Whether every pair of a set is there, or a shard has left its photograph out.

    Args:
        out: The set's folder.
        settings: Of the set.
        jobs: All of its photographs.
        known: As of :func:`read_notes`.
    """
    left_out = set()
    for path in (out / UNFINISHED).glob(f"{LEFT_OUT}-*.json"):
        left_out |= set(read_json(path)[LEFT_OUT] if path.is_file() else ())
    return all(
        job.stem in left_out or all(name in known for name in job.names(settings.per_image))
        for job in jobs
    )


def finish_set(
    out: Path, settings: Settings, names: list[str], known: dict[str, dict[str, Any]]
) -> None:
    """Write the metadata; several shards may, at once, and write the same."""
    metadata = {
        "settings": settings_record(settings),
        "versions": {
            "glsgn-plugins": __version__,
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
        "pairs": [known[name] for name in sorted(names) if name in known],
    }
    write_json(out / METADATA, metadata)
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
    with suppress(FileNotFoundError):  # another shard has removed it, or is at it
        shutil.rmtree(out / UNFINISHED)


def clean_pairs(folder: Path) -> frozenset[str]:
    """Names of the pairs of a set made here whose truth is the input; none of any other set."""
    try:
        pairs = read_json(folder / METADATA)["pairs"]
        return frozenset(p["name"] for p in pairs if p["parameters"].get("faint") is not None)
    except (InputError, LookupError, TypeError, AttributeError):  # another's file of that name
        return frozenset()


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
