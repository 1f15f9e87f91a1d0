"""Maps that streamed inference keeps between its passes, within a bound on memory."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from glsgn_plugins.errors import InputError
from glsgn_plugins.inference.regions import Box


class Workspace:
    """Hands out memory up to a limit, and then unlinked temporary files.

    A file's pages are handed back to the system after each access. They stay in its cache as long
    as there is memory to spare, and the process doesn't grow.

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

    def file(self, count: int) -> mmap.mmap:
        """An unlinked file of ``count`` bytes, mapped.

        Raises:
            InputError: There is no room for it.
        """
        try:
            with tempfile.TemporaryFile(prefix="glsgn-") as handle:
                if hasattr(os, "posix_fallocate"):
                    # Reserved, since a disk that is full would be fatal at the first access.
                    os.posix_fallocate(handle.fileno(), 0, count)
                else:
                    handle.truncate(count)
                return mmap.mmap(handle.fileno(), count)
        except OSError as error:
            raise InputError(
                f"{tempfile.gettempdir()}: no room for {count / 2**30:.1f} GiB of maps that are "
                f"kept while an image is streamed ({error.strerror}); free some, set TMPDIR to a "
                "folder with room, or allow a larger workspace in memory"
            ) from None


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
        self._data = data
        self._file: mmap.mmap | None = None
        self._bytes = 0

    def _allocate(self, dtype: torch.dtype) -> Tensor:
        shape = (1, self.size[0] + self.margin, self.size[1] + self.margin, self.channels)
        count = torch.Size(shape).numel() * dtype.itemsize
        if self.workspace.fits(count):
            self._bytes = count
            self.workspace.used += count
            data = torch.empty(shape, dtype=dtype, device=self.workspace.device)
        else:
            self._file = self.workspace.file(count)
            data = torch.frombuffer(self._file, dtype=dtype).reshape(shape)
        return data.permute(0, 3, 1, 2)

    def _at(self, box: Box, origin: int) -> Tensor:
        assert self._data is not None
        rows = slice(box.top + origin, box.bottom + origin)
        return self._data[:, : self.written, rows, box.left + origin : box.right + origin]

    def _release(self) -> None:
        if self._file is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._file.madvise(mmap.MADV_DONTNEED)

    def read(self, box: Box, device: torch.device) -> Tensor:
        """A copy of ``box``, ``(1, channels, h, w)`` in channels_last."""
        found = self._at(box, self.origin)
        out = torch.empty(
            found.shape, dtype=found.dtype, device=device, memory_format=torch.channels_last
        ).copy_(found)
        self._release()
        return out

    def write(self, box: Box, value: Tensor) -> None:
        """Set ``box`` to ``value``, ``(1, up to channels, h, w)``."""
        if self._data is None:
            self._data = self._allocate(value.dtype)
            self.written = value.shape[1]
        rows = slice(box.top + self.target, box.bottom + self.target)
        cols = slice(box.left + self.target, box.right + self.target)
        self._data[:, : value.shape[1], rows, cols] = value
        self._release()

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
        self._file = None  # the mapping goes with its last reference
        self.workspace.used -= self._bytes
        self._bytes = 0
