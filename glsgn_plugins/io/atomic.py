"""Files that appear whole under their names or not at all, whoever else writes beside them."""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from glsgn_plugins.errors import InputError

SCRATCH = ".writing"
"""Begins the names of scratch folders."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk, a used-up quota, a limit on the size of files."""


@contextmanager
def atomic_write_into(folder: str | os.PathLike[str], durable: bool = True) -> Iterator[Path]:
    """A scratch folder whose content moves into ``folder`` when the block ends without error.

    Each file (or folder) appears under its final name whole or not at all, whenever the process is
    killed, and however many processes and threads write into ``folder`` at once. Torch archives
    that were cut short (a full disk, say) are noticed. What a killed process left behind is removed
    by those that write there next.

    Args:
        folder: Made where it doesn't exist.
        durable: Wait until the disk has the files, so that this holds for a power failure, too. For
            thousands of small files that is most of the time.

    Raises:
        OSError: Nothing was written, or an archive is not whole.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _scratch(folder) as scratch:
        yield scratch
        written = sorted(scratch.iterdir())
        if not written:
            raise OSError(f"{folder}: nothing could be written; is the disk full?")
        for file in written:
            if file.suffix in (".pth", ".state") and not zipfile.is_zipfile(file):
                raise OSError(f"{folder / file.name}: could not be written; is the disk full?")
            if durable and file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
            os.replace(file, folder / file.name)


def atomic_write(path: Path, content: bytes, durable: bool = True) -> None:
    """Write one file by :func:`atomic_write_into`.

    Args:
        path: Its name.
        content: All of it.
        durable: As of :func:`atomic_write_into`.

    Raises:
        InputError: The disk is full, the name too long or the folder not writable.
    """
    try:
        with atomic_write_into(path.parent, durable) as scratch:
            (scratch / path.name).write_bytes(content)
    except OSError as error:
        raise write_error(path, error) from None


def tolerate_undecodable_names() -> None:
    """Let messages name files whose names are no UTF-8, of old archives and network drives."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_error(path: Path, error: OSError | RuntimeError) -> InputError:
    """What to say of a file that could not be written; torch has RuntimeErrors for that."""
    advice = {
        errno.ENOSPC: "free some space and run it again: it goes on where it stopped",
        errno.EDQUOT: "free some of your quota and run it again: it goes on where it stopped",
        errno.ENAMETOOLONG: "give it a shorter name",
        errno.ENOENT: "make its folder, or give another",
        **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "give a folder that is yours"),
    }.get(getattr(error, "errno", 0), "is the disk full? Check the folder")
    reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
    return InputError(f"{path}: can't be written ({reason}); {advice}")


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder of this writer's own, removed at the end."""
    locked = _locked_scratch(folder)
    # Where there are no locks, nobody can tell whether a folder's writer lives: each has a name of
    # its own then, and what is left behind by a kill stays.
    scratch, lock = locked or (Path(tempfile.mkdtemp(prefix=f"{SCRATCH}-", dir=folder)), None)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _locked_scratch(folder: Path) -> tuple[Path, int] | None:
    """The first scratch folder that nobody works in, emptied, and its lock.

    The lock goes with the process that holds it, so what is there unlocked was left by a kill.
    """
    if fcntl is None:
        return None
    for number in count():
        scratch = folder / f"{SCRATCH}{number or ''}"
        while True:
            with suppress(FileExistsError):
                scratch.mkdir()
            try:
                lock = os.open(scratch, os.O_RDONLY)
            except FileNotFoundError:  # its writer has just removed it
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                break
            except OSError:  # network drives may have no locks, NFS none on folders
                os.close(lock)
                with suppress(OSError):
                    scratch.rmdir()
                return None
            if _same(lock, scratch):
                for left in scratch.iterdir():
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
                return scratch, lock
            os.close(lock)  # of one that its writer removed in between
    raise AssertionError  # count() has no end


def _same(lock: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), folder.stat())
    except FileNotFoundError:
        return False
