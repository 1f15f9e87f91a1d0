"""Checkpoints: read without running what is in them."""

from __future__ import annotations

import codecs
import collections
import os
import pickle
import re
import types
import zipfile
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from glsgn_plugins.errors import InputError


def _allow_counter() -> None:
    """Let ``weights_only`` loading take ``collections.Counter``, a dict of plain numbers.

    The state of BasicSR's ``MultiStepRestartLR`` holds one; torch allows it of itself from 2.5.
    """
    if hasattr(torch.serialization, "add_safe_globals"):  # torch 2.4 and later
        torch.serialization.add_safe_globals([collections.Counter])
    else:
        _allowed_by_torch()["collections.Counter"] = collections.Counter


def _allowed_by_torch() -> dict[str, Any]:
    """What ``weights_only`` loading takes beside what users allow, by full name."""
    from torch import _weights_only_unpickler as unpickler

    return unpickler._get_allowed_globals()


_allow_counter()

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
    """``torch.load`` with ``weights_only``, which takes these names as well."""
    if not allowed:
        return torch.load(path, map_location="cpu", weights_only=True)
    if torch.__version__ >= "2.6":  # where safe_globals takes names
        with torch.serialization.safe_globals([(value, name) for name, value in allowed.items()]):
            return torch.load(path, map_location="cpu", weights_only=True)
    unpickler = _unpickler_of({**_allowed_by_torch(), **allowed})
    restricted = types.SimpleNamespace(
        __name__="restricted",
        Unpickler=unpickler,
        load=lambda file, **options: unpickler(file, **options).load(),
    )
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=restricted)


def _unpickler_of(known: Mapping[str, Any]) -> type:
    """An unpickler that finds, calls and changes these alone: ``weights_only`` for torch < 2.6."""

    def check(subject: Any) -> None:
        if not any(subject is k for k in known.values()):
            raise pickle.UnpicklingError(f"Unsupported operand {subject!r}")

    class Unpickler(pickle._Unpickler):
        dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
        stack: list[Any]

        def find_class(self, module: str, name: str) -> Any:
            # torch.save writes Python 2's name of the module.
            full = f"{'builtins' if module == '__builtin__' else module}.{name}"
            if full not in known:
                raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {full}")
            return known[full]

        def load_reduce(self) -> None:
            check(self.stack[-2])
            super().load_reduce()  # type: ignore[misc]

        def load_build(self) -> None:
            check(type(self.stack[-2]))
            super().load_build()  # type: ignore[misc]

        dispatch[pickle.REDUCE[0]] = load_reduce
        dispatch[pickle.BUILD[0]] = load_build

    return Unpickler


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
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"{path}: damaged, perhaps cut short ({reason}); use an earlier one or copy it again"
        ) from None
