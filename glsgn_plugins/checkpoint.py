"""Checkpoints: read without running what is in them, written whole or not at all."""

from __future__ import annotations

import collections
import os
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from glsgn_plugins.errors import InputError


def _allow_counter() -> None:
    """Let ``weights_only`` loading take ``collections.Counter``, a dict of plain numbers.

    The state of BasicSR's ``MultiStepRestartLR`` holds one; torch allows it of itself from 2.5.
    """
    if hasattr(torch.serialization, "add_safe_globals"):  # torch 2.4 and later
        torch.serialization.add_safe_globals([collections.Counter])
    else:
        from torch import _weights_only_unpickler as unpickler

        unpickler._get_allowed_globals()["collections.Counter"] = collections.Counter


_allow_counter()


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Load a checkpoint onto the CPU with ``weights_only=True``, or a safetensors file.

    Raises:
        InputError: The file is missing, damaged, or holds more than tensors and plain values.
    """
    if os.fspath(path).endswith(".safetensors"):
        return _read_safetensors(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint file") from None
    except pickle.UnpicklingError as error:
        # An old-style or damaged file fails here as well: only a whole zip archive is "refused".
        if zipfile.is_zipfile(path):
            reason = str(error).split("\n")[0]
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


def _read_safetensors(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise InputError(f"{path}: reading it needs safetensors: pip install safetensors") from None
    try:
        return load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint file") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged, perhaps cut short ({error}); copy it again") from None


@contextmanager
def written_whole(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A scratch folder whose files move into ``folder`` when the block ends without error.

    Each file appears under its final name whole or not at all, whenever the process is killed.
    Torch archives that were cut short (a full disk, say) are noticed.

    Raises:
        OSError: Nothing was written, or an archive is not whole.
    """
    folder = Path(folder)
    scratch = folder / ".writing"
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
    scratch.mkdir(parents=True)
    try:
        yield scratch
        files = sorted(scratch.iterdir())
        if not files:
            raise OSError(f"{folder}: nothing could be written; is the disk full?")
        for file in files:
            if file.suffix in (".pth", ".state") and not zipfile.is_zipfile(file):
                raise OSError(f"{folder / file.name}: could not be written; is the disk full?")
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
