"""Clean photographs, and what they are degraded with: what synthesis needs, wherever it runs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.data.images import EXTENSIONS, image_files, read_image
from glsgn_plugins.degradations import (
    DEGRADATIONS,
    Degradation,
    Haze,
    HazeParameters,
    Parameters,
    Reflection,
)
from glsgn_plugins.errors import InputError, unknown_name
from glsgn_plugins.listing import left_out, same_form, walk

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
        self.root = Path(dataroot).expanduser()
        self.photographs = list_photographs(self.root)
        self._reflected: Sequence[Path] = ()
        self._depth: dict[Path, Path] = {}
        self._companion_root = self.root
        if isinstance(self.model, Reflection):
            self._reflected = self.photographs
            if dataroot_reflection is not None:
                self._companion_root = Path(dataroot_reflection).expanduser()
                self._reflected = list_photographs(self._companion_root)
            if len(self._reflected) == 1 and self._reflected[0] in self.photographs:
                raise InputError(
                    f"{self._reflected[0]}: the only photograph to be reflected; a reflection "
                    "needs another one than the photograph itself"
                )
        elif dataroot_reflection is not None:
            raise InputError("dataroot_reflection: only for the degradation 'reflection'")
        if isinstance(self.model, Haze) and dataroot_depth is not None:
            self._companion_root = Path(dataroot_depth).expanduser()
            self._depth = _find_depth(self.photographs, self.root, self._companion_root)
        elif dataroot_depth is not None:
            raise InputError("dataroot_depth: only for the degradation 'haze'")

    def sample(self, rng: np.random.Generator) -> Parameters:
        """Draw a degradation."""
        parameters = self.model.sample(rng)
        if isinstance(parameters, HazeParameters) and self._depth:
            return dataclasses.replace(parameters, depth="given")
        return parameters

    def companion(self, photograph: Path, rng: np.random.Generator) -> Path | None:
        """What a photograph is degraded with: another photograph, its depth map, or nothing."""
        if self._depth:
            return self._depth[photograph]
        if not self._reflected:
            return None
        first = int(rng.integers(len(self._reflected)))
        chosen = self._reflected[first]
        if chosen != photograph:
            return chosen
        return self._reflected[(first + 1) % len(self._reflected)]

    def companion_name(self, companion: Path) -> str:
        """Its path below its folder, with ``/`` whatever the system."""
        return companion.relative_to(self._companion_root).as_posix()

    def companion_path(self, name: str) -> Path:
        """The file of a name that :meth:`companion_name` gave."""
        return self._companion_root / name

    def read_companion(self, path: Path | None) -> NDArray[Any] | None:
        """The companion's pixels: ``(H, W, 3)`` of a photograph, ``(H, W)`` of a depth map.

        Raises:
            InputError: The file can't be read.
        """
        if path is None:
            return None
        return _read_depth(path) if self._depth else read_image(path)


def make_degradation(options: Mapping[str, Any]) -> Degradation:
    """A :class:`~glsgn_plugins.degradations.Rain`, ``Reflection`` or ``Haze`` from its options.

    Raises:
        InputError: The type, or a key for it, doesn't exist, or a range isn't possible.
    """
    if not isinstance(options, Mapping) or "type" not in options:
        raise InputError(f"degradation: expected a mapping with a 'type', found {options!r}")
    ranges = {key: value for key, value in options.items() if key != "type"}
    if options["type"] not in DEGRADATIONS:
        raise unknown_name("degradation.type", options["type"], DEGRADATIONS)
    model = DEGRADATIONS[options["type"]]
    known = [field.name for field in dataclasses.fields(model)]
    for key in ranges:
        if key not in known:
            raise unknown_name(f"degradation.{key} ({options['type']})", key, known)
    return model(**ranges)


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
    return same_form(str(path.relative_to(root).with_suffix("")))


def _read_depth(path: Path) -> NDArray[Any]:
    if path.suffix != ".npy":
        return read_image(path)[..., 0]
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, MemoryError) as error:
        raise InputError(f"{path}: no depth map that can be read ({error})") from None
