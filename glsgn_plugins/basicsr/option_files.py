"""Reading option files, what the command line sets in them, and whether what they name exists."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from glsgn_plugins.compat.basicsr_training import forced_value
from glsgn_plugins.errors import InputError, unknown_name
from glsgn_plugins.io.shipped import find_shipped

Options = dict[str, Any]


def read_options(path: str, force_yml: list[str]) -> tuple[Path, Options]:
    """Read an options file, and set ``force_yml`` in it as BasicSR will.

    Args:
        path: A path, or the name of a file in ``basicsr_options``.
        force_yml: ``key:key=value``, as after ``--force_yml``.

    Returns:
        The path of the file found, and its options.

    Raises:
        InputError: There is no such file, it is no YAML mapping, or an entry can't be set.
    """
    file = find_shipped(path, "basicsr_options", ".yml")
    try:
        opt = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise InputError(f"{file}: can't be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file}: not plain YAML: {reason}") from None
    if not isinstance(opt, dict):
        raise InputError(f"{file}: expected a mapping of options, found {type(opt).__name__}")
    for entry in force_yml:
        _force(opt, entry)
    return file, opt


class _Loader(yaml.SafeLoader):
    """YAML's plain values; a key that stands twice is an error, where the last one would count."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, Any] = {}
        for key, _ in node.value:
            name = key.value
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.YAMLError(
                    f"line {key.start_mark.line + 1}: BasicSR's reader doesn't know '<<'; write "
                    "out the keys that it stands for"
                )
            if isinstance(name, str):
                if name in seen:
                    raise yaml.YAMLError(
                        f"'{name}' stands twice, in lines {seen[name]} and "
                        f"{key.start_mark.line + 1}; remove one of them"
                    )
                seen[name] = key.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


def _force(opt: Options, entry: str) -> None:
    keys, equals, value = entry.partition("=")
    if not equals or "=" in value:
        raise InputError(f"--force_yml {entry}: expected key:key=value with one '='")
    *path, last = [key.strip() for key in keys.split(":")]
    at = opt
    for depth, key in enumerate(path):
        if not isinstance(at.get(key), dict):
            raise unknown_name(f"--force_yml {entry}: {':'.join(path[: depth + 1])}", key, at)
        at = at[key]
    if not last or not re.fullmatch(r"[\w.-]+", last):
        raise InputError(f"--force_yml {entry}: '{last}' can't be a key")
    try:
        at[last] = forced_value(value.strip())
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"--force_yml {entry}: {' '.join(str(error).split())}") from None


def check_exists(place: str, value: str, exists: Callable[[Path], bool]) -> None:
    """A file or folder that options name; InputError with what is near where it isn't there."""
    path = Path(os.path.expanduser(value))
    if exists(path):
        return
    parent = next(p for p in path.absolute().parents if p.is_dir())
    wanted = path.absolute().relative_to(parent).parts[0]
    names = sorted(p.name for p in parent.iterdir() if not p.name.startswith("."))
    near = difflib.get_close_matches(wanted, names, n=1)
    hint = f" Did you mean '{parent / near[0]}'?" if near else ""
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "nothing"
    kind = "folder" if exists is Path.is_dir else "file"
    raise InputError(f"{place}: {kind} '{value}' does not exist.{hint} '{parent}' holds: {shown}")
