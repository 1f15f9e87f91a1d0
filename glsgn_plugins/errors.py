"""Errors that tell a person what to do, and what their messages share."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, TypeGuard


class InputError(ValueError):
    """Something the user gave is wrong: one line that names it, what was expected, what to do.

    The commands print its message without a traceback and leave with exit code 2.
    """


class StoppedError(RuntimeError):
    """Work had to stop, what is finished so far is kept: one line that says why and what to do.

    The commands print its message without a traceback and leave with exit code 1.
    """


class NonFiniteLossError(StoppedError):
    """Training produced a loss or gradient that is not finite, and was stopped."""


class NotSavedError(StoppedError):
    """A checkpoint could not be written."""


MANY = 60
"""Names from which a message shows only those that are like the one that was given."""


EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")
"""What people mean as a number, and YAML takes for text."""

NUMBER = re.compile(rf"{EXPONENT.pattern}|[+-]?\d+\.?\d*")


def is_number(value: object) -> TypeGuard[float]:
    """Whether options hold a number: ``true`` is none, though Python takes it for 1."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether they hold a whole one; likewise."""
    return isinstance(value, int) and not isinstance(value, bool)


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The name that was most likely meant, or ``None`` where none is near."""
    known = list(known)
    # Capitals are the commonest slip of all, and difflib counts each as a different letter.
    same = [k for k in known if k.lower() == str(name).lower()]
    return next(iter(same or difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)), None)


def unknown_name(what: str, name: object, known: Iterable[str]) -> InputError:
    """An ``InputError`` for a name that does not exist.

    Args:
        what: What was looked up, with its place, e.g. ``"network_g.type"``.
        name: What was given.
        known: The names that exist.

    Returns:
        The error, naming the nearest match (if any is near) and all that exist.
    """
    known = sorted(known)
    near = nearest(name, known)
    hint = f" Did you mean '{near}'?" if near else ""
    if len(known) > MANY:
        like = difflib.get_close_matches(str(name), known, n=8, cutoff=0.3)
        shown = ", ".join((*like, f"and {len(known) - len(like)} more"))
    else:
        shown = ", ".join(known)
    return InputError(f"{what}: '{name}' does not exist.{hint} Known: {shown}")


def lacks_type(place: str, section: object) -> InputError:
    """What to say of something that isn't a section of options with a ``type``."""
    return InputError(f"{place}: expected a mapping with a 'type', found {section!r}")


def wrong_type(place: str, value: Any, expected: str) -> InputError:
    """What to say of a value of another type.

    Args:
        place: Of the key.
        value: What was found.
        expected: What would do.
    """
    advice = ""
    if isinstance(value, str) and "number" in expected and re.fullmatch(NUMBER, value.strip()):
        advice = "; write it without quotes"
        if re.fullmatch(EXPONENT, value.strip()):
            advice = (
                f"; YAML takes {value} for text: write {_with_point(value)} or !!float {value} "
                f"(--force_yml: !!float{value})"
            )
    elif expected == "text" and not isinstance(value, (dict, list, type(None))):
        advice = "; put it in quotes"
    elif expected == "true or false" and isinstance(value, str):
        advice = "; write it without quotes"
    return InputError(f"{place}: expected {expected}, found {value!r}{advice}")


def _with_point(value: str) -> str:
    """As YAML 1.1 takes it for a number: with a point, and a sign in the exponent."""
    mantissa, exponent = re.split("[eE]", value)
    sign = "" if exponent[0] in "+-" else "+"
    return f"{mantissa}{'' if '.' in mantissa else '.0'}e{sign}{exponent}"


def message_of(error: BaseException) -> str:
    """What an error says; torch puts the traceback of a loader's worker before it."""
    message = str(error)
    if message.startswith("Caught "):
        return message.rpartition(f"{type(error).__name__}: ")[2].strip()
    return message
