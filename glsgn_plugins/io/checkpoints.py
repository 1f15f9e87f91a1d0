"""Checkpoints: read without running what is in them."""

from __future__ import annotations

import codecs
import collections
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from glsgn_plugins.errors import InputError
from glsgn_plugins.io.torch_archives import read_archive

SOUND = (2, 10)
"""The first torch whose ``weights_only`` has no flaw that is known, see :mod:`.torch_archives`."""


def trusts_torch() -> bool:
    """Whether checkpoints are read by torch's own ``weights_only``, or by our reader."""
    release = re.match(r"(\d+)\.(\d+)", torch.__version__)
    return release is not None and tuple(map(int, release.groups())) >= SOUND


STATISTICS = ("min", "max", "mean", "current")


def mmengine_globals(history: type) -> dict[str, Any]:
    """What a checkpoint of MMEngine's names beside tensors and plain values: log histories.

    Such a file names the builtin ``getattr``, by which a class's methods are pickled. What stands
    for it here serves the four statistics of ``history`` and nothing else.

    Args:
        history: MMEngine's ``HistoryBuffer``, or what is to stand for it.

    Returns:
        By full name, as in the file, for :func:`read_checkpoint`.
    """

    def statistic(owner: Any, name: Any) -> Any:
        if owner is not history or name not in STATISTICS:
            raise pickle.UnpicklingError(f"getattr of {owner!r}, {name!r}")
        return getattr(owner, name)

    array, scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    allowed = {
        "mmengine.logging.history_buffer.HistoryBuffer": history,
        "builtins.getattr": statistic,
        "_codecs.encode": codecs.encode,  # the bytes of an array
        "numpy.ndarray": np.ndarray,
        "numpy.dtype": np.dtype,
    }
    for core in ("numpy.core", "numpy._core"):  # before and from numpy 2
        allowed[f"{core}.multiarray._reconstruct"] = array
        allowed[f"{core}.multiarray.scalar"] = scalar
    # An array of objects is none of these.
    for kind in ("float64", "float32", "int64", "int32", "bool"):
        made = type(np.dtype(kind))
        allowed[f"{made.__module__}.{made.__name__}"] = made
    return allowed


def _load(path: str | os.PathLike[str], allowed: Mapping[str, Any]) -> Any:
    """``torch.load`` with ``weights_only``, which takes these names as well; or our own reader."""
    if not trusts_torch():
        return read_archive(path, allowed)
    # The state of BasicSR's MultiStepRestartLR holds a Counter, a dict of plain numbers.
    named = {"collections.Counter": collections.Counter, **allowed}
    with torch.serialization.safe_globals([(value, name) for name, value in named.items()]):
        return torch.load(path, map_location="cpu", weights_only=True)


DAMAGE = (
    *(RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError),
    *(AssertionError, MemoryError, OverflowError, struct.error, RecursionError),
)
"""What torch and pickle raise for files that are no longer what was written."""


def read_checkpoint(path: str | os.PathLike[str], allowed: Mapping[str, Any] | None = None) -> Any:
    """Load a checkpoint onto the CPU; nothing in it is run.

    Args:
        path: A file of ``torch.save``.
        allowed: Types beside tensors and plain values that it may hold, by full name, see
            :func:`mmengine_globals`.

    Raises:
        InputError: The file is missing, damaged, or holds more than that.
    """
    try:
        return _load(path, allowed or {})
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint file") from None
    except pickle.UnpicklingError as error:
        # An old-style or damaged file fails here as well: only a whole zip archive is "refused".
        if zipfile.is_zipfile(path):
            named = re.search(r"GLOBAL ([\w.]+)", str(error))
            reason = f"it names {named[1]}" if named else str(error).split("\n")[0]
            raise InputError(
                f"{path}: refused, it holds more than weights and could run code when loaded "
                f"({reason}); ask its maker for a state dict alone"
            ) from None
        raise InputError(f"{path}: damaged or no checkpoint; copy or download it again") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    except DAMAGE as error:
        reason = str(error).split("\n")[0]
        if not trusts_torch() and not zipfile.is_zipfile(path):
            reason += f", or older than what is read with torch {torch.__version__}"
        raise InputError(
            f"{path}: damaged, perhaps cut short ({reason}); use an earlier one or copy it again"
        ) from None
