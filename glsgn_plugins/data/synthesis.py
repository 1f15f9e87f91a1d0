"""Clean photographs, and what they are degraded with: what synthesis needs, wherever it runs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.degradations import (
    DEGRADATIONS,
    PRESETS,
    WEATHER,
    Degradation,
    HazeParameters,
    Parameters,
    Real,
)
from glsgn_plugins.degradations.depth import given_depth, thumbnail
from glsgn_plugins.errors import InputError, lacks_type, unknown_name
from glsgn_plugins.io.files import left_out, nfc_name, walk
from glsgn_plugins.io.images import EXTENSIONS, image_files, read_image

LOGGER = logging.getLogger("glsgn_plugins")


class Synthesis:
    """Photographs and the degradation that they get.

    Args:
        dataroot: Folder of clean photographs, at any depth.
        degradation: ``{"type": "rain"}``, ``reflection`` or ``haze``, with ranges of
            :class:`~glsgn_plugins.degradations.Rain` and so on where others are wanted.
        dataroot_reflection: Folder of the photographs to be reflected; by default ``dataroot``.
        dataroot_depth: Folder of depth maps for haze, named as the photographs: PNG of 8 or 16
            bits, or ``.npy`` of 0 to 1, larger is farther; by default depth is procedural.

    Attributes:
        root: The folder.
        photographs: Its images, sorted.

    Raises:
        InputError: A folder, type, range or depth map is missing or not possible.
    """

    def __init__(
        self,
        dataroot: str | Path,
        degradation: Mapping[str, Any],
        dataroot_reflection: str | Path | None = None,
        dataroot_depth: str | Path | None = None,
    ) -> None:
        self.model = make_degradation(degradation)
        kind = degradation["type"]
        self.root = Path(dataroot).expanduser()
        self.photographs = list_photographs(self.root)
        self._reflected: Sequence[Path] = ()
        self._depth: dict[Path, Path] = {}
        self._companion_root = self.root
        if kind == "reflection":
            self._reflected = self.photographs
            if dataroot_reflection is not None:
                self._companion_root = Path(dataroot_reflection).expanduser()
                self._reflected = list_photographs(self._companion_root)
            if len(self._reflected) == 1 and _among(self._reflected[0], self.photographs):
                raise InputError(
                    f"{self._reflected[0]}: the only photograph to be reflected; a reflection "
                    "needs another one than the photograph itself"
                )
        elif dataroot_reflection is not None:
            raise InputError("dataroot_reflection: only for the degradation 'reflection'")
        if kind == "haze" and dataroot_depth is not None:
            self._companion_root = Path(dataroot_depth).expanduser()
            self._depth = _find_depth(self.photographs, self.root, self._companion_root)
        elif dataroot_depth is not None:
            raise InputError("dataroot_depth: only for the degradation 'haze'")

    @property
    def has_depth(self) -> bool:
        """Whether each photograph has a depth map of its own."""
        return bool(self._depth)

    def sample(self, rng: np.random.Generator) -> Parameters:
        """Draw a degradation."""
        parameters = self.model.sample(rng)
        if isinstance(parameters, HazeParameters) and self._depth:
            return dataclasses.replace(parameters, depth="given")
        return parameters

    def companion(
        self, photograph: Path, rng: np.random.Generator, beside: Sequence[Path] = ()
    ) -> Path | None:
        """What a photograph is degraded with: another photograph, its depth map, or nothing.

        Args:
            photograph: One of :attr:`photographs`.
            rng: Draws the other one.
            beside: Those of :attr:`photographs` that may be the other one; by default all. Where
                reflected photographs are from a folder of their own, all of that.
        """
        if self._depth:
            return self._depth[photograph]
        if not self._reflected:
            return None
        reflected = self._reflected
        if len(beside) > 1 and reflected is self.photographs:
            reflected = beside
        first = int(rng.integers(len(reflected)))
        chosen = reflected[first]
        if chosen != photograph and chosen.resolve() != photograph.resolve():
            return chosen
        return reflected[(first + 1) % len(reflected)]

    def name(self, photograph: Path) -> str:
        """A photograph's path below :attr:`root`, with ``/`` whatever the system."""
        return photograph.relative_to(self.root).as_posix()

    def companion_name(self, companion: Path) -> str:
        """Its path below its folder, with ``/`` whatever the system."""
        return companion.relative_to(self._companion_root).as_posix()

    def companion_path(self, name: str) -> Path:
        """The file of a name that :meth:`companion_name` gave."""
        return self._companion_root / name

    def read_companion(self, path: Path | None, photograph: NDArray[Any]) -> NDArray[Any] | None:
        """The companion's pixels, or else the thumbnail of the photograph that depth is made of.

        Args:
            path: As of :meth:`companion`.
            photograph: ``(H, W, 3)``, the whole of what is to be degraded.

        Returns:
            ``(H', W', 3)`` of a photograph or thumbnail, ``(H', W')`` of a depth map.

        Raises:
            InputError: The file can't be read.
        """
        if path is None:
            return thumbnail(photograph) if isinstance(self.model, Real) else None
        return _read_depth(path) if self._depth else read_image(path)


def _among(file: Path, files: Sequence[Path]) -> bool:
    """Whether a file is one of others, however its folder is written."""
    return file.resolve() in {other.resolve() for other in files}


def make_degradation(options: Mapping[str, Any]) -> Degradation:
    """What degradations are drawn from, by its options.

    Args:
        options: ``type``: ``rain``, ``reflection`` or ``haze``; ``preset``: ``real`` (the default,
            a :class:`~glsgn_plugins.degradations.Real`) or ``plain`` (a ``Rain``, ``Reflection``
            or ``Haze``); and ranges or shares of these where others are wanted.

    Raises:
        InputError: The type, the preset or a key doesn't exist, or a range isn't possible.
    """
    if not isinstance(options, Mapping) or "type" not in options:
        raise lacks_type("degradation", options)
    own = dict(options)
    kind, preset = own.pop("type"), own.pop("preset", PRESETS[0])
    if not isinstance(kind, str) or kind not in DEGRADATIONS:
        raise unknown_name("degradation.type", kind, DEGRADATIONS)
    if not isinstance(preset, str) or preset not in PRESETS:
        raise unknown_name("degradation.preset", preset, PRESETS)
    plain = preset == "plain"
    model = DEGRADATIONS[kind] if plain else WEATHER[kind][0]
    ranges = [field.name for field in dataclasses.fields(model)]
    known = ranges if plain else [*ranges, *Real.SHARES]
    for key in own:
        if key not in known:
            raise unknown_name(f"degradation.{key} ({kind}, preset {preset})", key, known)
    if plain:
        return DEGRADATIONS[kind](**own)
    weather = WEATHER[kind][0](**{key: own.pop(key) for key in ranges if key in own})
    return Real(kind, weather, **own)


def options_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of :func:`make_degradation`, with every range and share that they stand for."""
    model = make_degradation(options)
    named = {"type": options["type"], "preset": options.get("preset", PRESETS[0])}
    if not isinstance(model, Real):
        return {**named, **dataclasses.asdict(model)}
    shares = {name: getattr(model, name) for name in sorted(Real.SHARES)}
    return {**named, **shares, **dataclasses.asdict(model.weather)}


def list_photographs(root: Path) -> tuple[Path, ...]:
    """Image files below a folder, at least one.

    Raises:
        InputError: The folder doesn't exist or holds none.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected one of photographs")
    there = walk(root)
    found = tuple(path for path in there if path.suffix.lower() in EXTENSIONS)
    others = left_out(there, EXTENSIONS)
    if not found:
        more = f"; {others}" if others else ""
        raise InputError(
            f"{root}: no image in it; expected photographs (PNG, JPEG, TIFF, ...){more}"
        )
    if others and root not in _told:
        _told.add(root)
        LOGGER.warning("%s: %s", root, others)
    return found


_told: set[Path] = set()
"""Folders of which has been said what is left out."""


def _find_depth(photographs: Sequence[Path], root: Path, depth_root: Path) -> dict[Path, Path]:
    """The depth map of each photograph: the same path below another folder, any extension."""
    if not depth_root.is_dir():
        raise InputError(f"{depth_root}: no such folder; expected depth maps")
    maps = {
        _name(path, depth_root): path
        for path in (*image_files(depth_root), *depth_root.rglob("*.npy"))
    }
    names = {path: _name(path, root) for path in photographs}
    missing = [name for name in names.values() if name not in maps]
    if missing:
        raise InputError(
            f"{depth_root}: no depth map for {len(missing)} photographs: {', '.join(missing[:3])}; "
            "expected files named as the photographs (PNG of 8 or 16 bits, or .npy of 0 to 1)"
        )
    return {path: maps[name] for path, name in names.items()}


def _name(path: Path, root: Path) -> str:
    """By which maps and photographs belong together: in one form of Unicode."""
    return nfc_name(str(path.relative_to(root).with_suffix("")))


def _read_depth(path: Path) -> NDArray[Any]:
    if path.suffix != ".npy":
        return read_image(path)[..., 0]
    try:
        depth = np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, MemoryError) as error:
        raise InputError(f"{path}: no depth map that can be read ({error})") from None
    if depth.ndim == 3 and depth.shape[2] == 1:
        depth = depth[..., 0]
    if depth.ndim != 2 or not depth.size or depth.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: an array of {depth.dtype}, {depth.shape}; expected a depth map of numbers, "
            "(H, W)"
        )
    try:
        given_depth(depth)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return depth
