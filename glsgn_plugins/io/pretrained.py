"""Weights that are shipped with the package: found by task, verified.

The files lie in ``glsgn_plugins/pretrained``: ``TASK.safetensors`` in half precision,
``SHA256SUMS`` as ``sha256sum -c`` reads it, and ``README.md``, the model card. Wherever a weights
file is asked for, in commands and in both frameworks' options, ``glsgn://TASK`` stands for the
shipped one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from glsgn_plugins.errors import InputError, unknown_name

SCHEME = "glsgn://"
FOLDER = Path(__file__).resolve().parent.parent / "pretrained"
CHECKSUMS = "SHA256SUMS"

OPTIONS = {
    "rain": "glsgn_derain.yml",
    "reflection": "glsgn_dereflection.yml",
    "haze": "glsgn_dehaze.yml",
}
"""Every task, and the options that train it. Not each has weights that are worth shipping."""

REINSTALL = "install the package again: pip install --force-reinstall --no-deps . in its checkout"


def shipped_tasks() -> list[str]:
    """Tasks that weights are shipped for.

    Raises:
        InputError: The list of checksums is missing or damaged.
    """
    return list(_checksums())


def _checksums() -> dict[str, str]:
    """SHA-256 by task."""
    file = FOLDER / CHECKSUMS
    try:
        lines = [line.split() for line in file.read_text(encoding="ascii").splitlines()]
        return {name.removesuffix(".safetensors"): total for total, name in lines}
    except (OSError, ValueError):
        raise InputError(f"{file}: missing or damaged; {REINSTALL}") from None


def pretrained_file(task: str) -> Path:
    """The shipped weights of a task, after their checksum has been compared.

    Args:
        task: ``rain``, ``reflection`` or ``haze``.

    Raises:
        InputError: There is no such task, its weights aren't shipped, or the file is damaged.
    """
    checksums = _checksums()
    if task not in checksums:
        if task not in OPTIONS:
            raise unknown_name("shipped weights", task, checksums)
        raise InputError(
            f"{task}: no weights are shipped for this task, since none were good enough so far "
            f"({FOLDER / 'README.md'} says when they are); train some with basicsr train -opt "
            f"{OPTIONS[task]} and give their file. Shipped: {', '.join(checksums)}"
        )
    file = FOLDER / f"{task}.safetensors"
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{file}: can't be read ({error.strerror}); {REINSTALL}") from None
    if found != checksums[task]:
        raise InputError(f"{file}: damaged or changed, its checksum differs; {REINSTALL}")
    return file


def is_shipped(path: object) -> bool:
    """Whether ``glsgn://TASK`` was named in place of a file."""
    return isinstance(path, str) and path.startswith(SCHEME)


def weights_file(path: Path | str) -> Path:
    """The file at a path, or the shipped one that ``glsgn://TASK`` stands for.

    Raises:
        InputError: As of :func:`pretrained_file`.
    """
    if isinstance(path, str) and is_shipped(path):
        return pretrained_file(path.removeprefix(SCHEME))
    return Path(path)
