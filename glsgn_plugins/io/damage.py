"""What can be wrong with a file of an image, in words that name it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glsgn_plugins.errors import InputError


class CutShort(ValueError):
    """A file ends before its picture does."""


class Damaged(ValueError):
    """A file has its length, but isn't what was written."""


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turns what reading a header raises into an InputError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check it") from None
    except CutShort:
        raise InputError(
            f"{path}: cut short, its end is missing; copy it again or remove it"
        ) from None
    except Damaged as error:
        raise InputError(f"{path}: damaged ({error}); copy it again or remove it") from None
    except InputError:
        raise
    except (ValueError, struct.error, OverflowError, LookupError) as error:
        raise InputError(f"{path}: not an image that can be read ({error}); remove it") from None
