"""Errors that tell a person what to do, and the nearest-match helper that they share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


def message_of(error: BaseException) -> str:
    """What an error says; torch puts the traceback of a loader's worker before it."""
    message = str(error)
    if message.startswith("Caught "):
        return message.rpartition(f"{type(error).__name__}: ")[2].strip()
    return message
