"""libvips: whether it is there, what it can do, and what it says."""

from __future__ import annotations

from typing import Any

from glsgn_plugins.errors import InputError


def vips() -> Any:
    """pyvips; InputError where it is missing."""
    try:
        import pyvips
    except (ImportError, OSError):  # OSError: without libvips itself
        raise InputError(
            "reading and writing photographs needs pyvips: pip install 'glsgn-plugins[restore]'"
        ) from None
    pyvips.cache_set_max(0)  # it knows files by their names, whatever has become of them since
    return pyvips


def has(operation: str) -> bool:
    """Whether this libvips was built with an operation, such as ``"jxlload"``."""
    return bool(vips().type_find("VipsOperation", operation))


def reason_of(error: Exception) -> str:
    """What libvips says, in one line; it repeats itself."""
    return " ".join(dict.fromkeys(" ".join(line.split()) for line in str(error).splitlines()))
