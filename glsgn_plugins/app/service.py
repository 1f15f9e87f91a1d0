"""What the page does with an upload; knows no web framework."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from glsgn_plugins.archs.glsgn import GLSGN
from glsgn_plugins.errors import InputError, unknown_name
from glsgn_plugins.inference.files import restore_file
from glsgn_plugins.io import formats, photographs
from glsgn_plugins.io.headers import Header, check_header
from glsgn_plugins.io.pretrained import OPTIONS
from glsgn_plugins.io.weights import read_glsgn
from glsgn_plugins.pretrained import list_pretrained, load_pretrained

KEPT = 3600
"""Seconds for which results can be fetched."""

OWN = "your weights"
"""The task's name for a file of weights."""


@dataclass(frozen=True)
class Limits:
    """What an upload may have.

    Attributes:
        megabytes: Of the file.
        megapixels: Of the picture.
    """

    megabytes: float = 200
    megapixels: float = 64


@dataclass(frozen=True)
class Restored:
    """What came of an upload.

    Attributes:
        file: Restored, in the format of the upload where that can be written.
        before: A JPEG of the upload for the page, pixel for pixel, in sRGB.
        after: Likewise of what was restored.
        said: What was left out of the file, and how it went.
    """

    file: Path
    before: Path
    after: Path
    said: str


class Service:
    """Restores uploads, one at a time as far as it is asked so.

    Args:
        folder: For results; those of an hour ago are removed.
        limits: Of uploads.
        weights: A file of one's own weights, beside the shipped ones.
        device: As of torch.

    Raises:
        InputError: The weights can't be read.
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        weights: Path | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.folder, self.limits, self.device = folder, limits, device
        self._nets: dict[str, GLSGN] = {}
        if weights is not None:
            self._nets[OWN] = self._placed(read_glsgn(weights))
        shipped = list_pretrained()
        self.tasks = (*self._nets, *(task for task in OPTIONS if task in shipped))

    def check(self, path: Path) -> Header:
        """Refuse an upload by its size and header, before its pixels are decoded.

        Raises:
            InputError: It is too large, or can't be restored; names the file as the user does.
        """
        size = path.stat().st_size / 1e6
        if size > self.limits.megabytes:
            raise InputError(
                f"{path.name}: {round(size, 1):g} MB, but this page takes "
                f"{self.limits.megabytes:g}; use glsgn restore, or start the page with a larger "
                "--megabytes"
            )
        if path.suffix.lower() not in formats.READ:
            raise InputError(f"{path.name}: {formats.unreadable(path)}")
        try:
            header = formats.read_header(path)
            check_header(path, header)
        except InputError as error:
            raise _by_name(error, path) from None
        pixels = header.width * header.height / 1e6
        if pixels > self.limits.megapixels:
            raise InputError(
                f"{path.name}: {round(pixels, 1):g} megapixels, but this page takes "
                f"{self.limits.megapixels:g}; use glsgn restore, or start the page with a larger "
                "--megapixels"
            )
        return header

    def restore(
        self,
        path: Path,
        task: str,
        strength: float = 1.0,
        keep_colour: bool = False,
        progress: Callable[[float], object] = float,
    ) -> Restored:
        """Restore an upload, in memory that grows by its pixels alone.

        Args:
            path: Of the upload, under its own name.
            task: One of ``tasks``.
            strength: As of :func:`~glsgn_plugins.inference.restore`.
            keep_colour: Likewise.
            progress: Told the share that is done, from 0 to 1.

        Raises:
            InputError: As of :meth:`check`, or an option is wrong.
        """
        self.check(path)
        if task not in self.tasks:
            raise unknown_name("task", task, self.tasks)
        if task not in self._nets:
            self._nets[task] = self._placed(load_pretrained(task))
        self._tidy()
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        said: list[str] = []
        try:
            target = folder / formats.written_as(Path(path.name))
            done = restore_file(
                self._nets[task],
                path,
                target,
                strength=strength,
                keep_colour=keep_colour,
                progress=progress,
                say=lambda message: said.append(message.removeprefix(f"{target}: ")),
            )
            shown = []
            # In a folder of their own: an upload may have these names.
            (folder / "shown").mkdir()
            for name, pixels in zip(("before", "after"), done.shown(), strict=True):
                shown.append(folder / "shown" / f"{name}.jpg")
                _preview(shown[-1], pixels)
        except InputError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise _by_name(error, path) from None
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Restored(target, shown[0], shown[1], "; ".join(said))

    def _placed(self, net: GLSGN) -> GLSGN:
        return net.to(memory_format=torch.channels_last).to(self.device)

    def _tidy(self) -> None:
        for folder in self.folder.iterdir():
            try:
                old = time.time() - folder.stat().st_mtime > KEPT
            except FileNotFoundError:
                continue
            if old:
                shutil.rmtree(folder, ignore_errors=True)


def _by_name(error: InputError, path: Path) -> InputError:
    """Without the folders of this machine, which are none of the user's business."""
    return InputError(str(error).replace(str(path), path.name))


def _preview(path: Path, pixels: np.ndarray) -> None:
    image = photographs.image_of(pixels).colourspace("srgb")
    longest, most = max(image.width, image.height), photographs.SIDES[path.suffix]
    if longest > most:
        image = image.resize(most / longest)
    image.write_to_file(str(path), Q=95, subsample_mode="off")
