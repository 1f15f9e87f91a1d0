"""Maps that streamed inference keeps between its passes, within a bound on memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import torch
from torch import Tensor

from glsgn_plugins.errors import InputError
from glsgn_plugins.inference.regions import Box


class Workspace:
    """Hands out memory up to a limit, and then unlinked temporary files.

    What is in files stays in the system's cache as long as there is memory to spare, but is no part
    of the process. (Mapped files would be, and cost a page fault for every 4 KiB of each access.)

    Args:
        limit: Bytes of memory for maps.
        device: Where maps in memory live.
    """

    def __init__(self, limit: int, device: torch.device) -> None:
        self.limit = limit
        self.device = device
        self.used = 0

    def fits(self, count: int) -> bool:
        return self.used + count <= self.limit

    def file(self, count: int) -> IO[bytes]:
        """An unlinked file of ``count`` bytes.

        Raises:
            InputError: There is no room for it.
        """
        try:
            file = tempfile.TemporaryFile(prefix="glsgn-", buffering=0)  # noqa: SIM115
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, count)  # what isn't there is missed now
            else:
                file.truncate(count)
        except OSError as error:
            raise InputError(
                f"{tempfile.gettempdir()}: no room for {count / 2**30:.1f} GiB of maps that are "
                f"kept while an image is streamed ({error.strerror}); free some, set TMPDIR to a "
                "folder with room, or allow a larger workspace in memory"
            ) from None
        return file


class KeptMap:
    """A map ``(1, channels, rows, cols)`` of a whole image, written and read box by box.

    It comes to exist when first written to, in the type of what is written. Inside
    :meth:`replaced` it is overwritten while it is still being read: what is written goes
    ``margin`` places up and to the left (or back), where only what nobody reads any more is hit.

    Args:
        workspace: Where its memory comes from.
        size: Rows and columns.
        channels: The most that will be written.
        margin: The largest halo with which it is read inside :meth:`replaced`.
        data: Where it is to be, ``(1, channels, rows + margin, cols + margin)``, in place of memory
            of the workspace.
    """

    def __init__(
        self,
        workspace: Workspace,
        size: tuple[int, int],
        channels: int,
        margin: int = 0,
        data: Tensor | None = None,
    ) -> None:
        self.workspace = workspace
        self.size = size
        self.channels = channels
        self.margin = margin
        self.origin = self.target = margin
        self.written = channels
        self._data = data  # (1, channels, rows, cols), or else
        self._file: IO[bytes] | None = None  # rows, cols, channels
        self._dtype = torch.float32
        self._bytes = 0

    def _allocate(self, dtype: torch.dtype) -> None:
        shape = (1, self.size[0] + self.margin, self.size[1] + self.margin, self.channels)
        count = torch.Size(shape).numel() * dtype.itemsize
        if self.workspace.fits(count):
            self._bytes = count
            self.workspace.used += count
            data = torch.empty(shape, dtype=dtype, device=self.workspace.device)
            self._data = data.permute(0, 3, 1, 2)
        else:
            self._file = self.workspace.file(count)
            self._dtype = dtype

    def _at(self, box: Box, origin: int) -> Tensor:
        assert self._data is not None
        rows = slice(box.top + origin, box.bottom + origin)
        return self._data[:, :, rows, box.left + origin : box.right + origin]

    def _lines(self, box: Box, origin: int, values: Tensor) -> Iterator[memoryview]:
        """Each row of ``values``, ``(rows, cols, channels)``, with the file at its place."""
        assert self._file is not None
        place = self.channels * values.dtype.itemsize
        lines = values.view(torch.uint8).reshape(len(values), -1).numpy()
        for row, line in enumerate(lines, box.top + origin):
            at = row * (self.size[1] + self.margin) + box.left + origin
            self._file.seek(at * place)
            yield line.data

    def read(self, box: Box, device: torch.device, *, own: bool = False) -> Tensor:
        """``box``, ``(1, channels, h, w)`` in channels_last; a copy, or unless ``own`` a view."""
        if self._file is None:
            found = self._at(box, self.origin)[:, : self.written]
            if not own and found.device == device:
                return found
        else:
            values = torch.empty(*box.size, self.channels, dtype=self._dtype)
            for line in self._lines(box, self.origin, values):
                self._file.readinto(line)  # type: ignore[attr-defined]
            found = values.permute(2, 0, 1)[None]
            if self.written == self.channels:
                return found.to(device)
        found = found[:, : self.written]
        return torch.empty(
            found.shape, dtype=found.dtype, device=device, memory_format=torch.channels_last
        ).copy_(found)

    def write(self, box: Box, value: Tensor) -> None:
        """Set ``box`` to ``value``, ``(1, up to channels, h, w)``."""
        if self._data is None and self._file is None:
            self._allocate(value.dtype)
            self.written = value.shape[1]
        if self._file is None:
            self._at(box, self.target)[:, : value.shape[1]] = value
            return
        values = torch.empty(*box.size, self.channels, dtype=self._dtype)
        values[..., : value.shape[1]] = value[0].permute(1, 2, 0)
        for line in self._lines(box, self.target, values):
            self._file.write(line)

    @contextmanager
    def replaced(self, channels: int) -> Iterator[bool]:
        """While this lasts, reading gives what was there, and writing sets what will be.

        Args:
            channels: Of what will be there.

        Yields:
            Whether boxes must come row by row from the top; else from the bottom, the other way.
        """
        self.target = self.margin - self.origin
        yield self.target <= self.origin
        self.origin = self.target
        self.written = channels

    def free(self) -> None:
        """Give the memory back; the map holds nothing any more."""
        self._data = None
        if self._file is not None:
            self._file.close()
            self._file = None
        self.workspace.used -= self._bytes
        self._bytes = 0
