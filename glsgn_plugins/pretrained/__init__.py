"""The shipped weights, and what loads them; :mod:`glsgn_plugins.io.pretrained` finds and verifies.

``README.md`` beside this file is their model card.
"""

from __future__ import annotations

import fnmatch

from glsgn_plugins.archs.glsgn import GLSGN
from glsgn_plugins.io.pretrained import (
    SCHEME,
    is_shipped,
    pretrained_file,
    shipped_tasks,
    weights_file,
)


def load_pretrained(task: str) -> GLSGN:
    """The network of a task with its shipped weights, in float32 and eval mode on the CPU.

    Args:
        task: ``rain``, ``reflection`` or ``haze``.

    Raises:
        InputError: As of :func:`~glsgn_plugins.io.pretrained.pretrained_file`.
    """
    from glsgn_plugins.io.weights import read_glsgn  # brings safetensors: not needed until here

    return read_glsgn(pretrained_file(task))


def list_pretrained(pattern: str = "*") -> list[str]:
    """Names that :func:`load_pretrained` takes, in order.

    Args:
        pattern: Which of them, as of shells.
    """
    return sorted(fnmatch.filter(shipped_tasks(), pattern))


__all__ = [
    "SCHEME",
    "is_shipped",
    "list_pretrained",
    "load_pretrained",
    "pretrained_file",
    "shipped_tasks",
    "weights_file",
]
