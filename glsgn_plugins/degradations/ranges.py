"""Ranges that the degradations are drawn from, checked where they are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import ClassVar

import numpy as np

from glsgn_plugins.errors import InputError, is_number

Range = Sequence[float]
"""Lowest and highest value."""


def draw(rng: np.random.Generator, bounds: Range) -> float:
    """Uniform over a range."""
    return float(rng.uniform(bounds[0], bounds[1]))


def draw_count(rng: np.random.Generator, bounds: Range) -> int:
    """A whole number of a range, both ends included."""
    return int(rng.integers(int(bounds[0]), int(bounds[1]) + 1))


class RangedModel:
    """Base of the dataclasses whose fields are each a :data:`Range` or a share.

    Raises:
        InputError: A field isn't two numbers in order (of a share one), within what it may be.
    """

    COUNTS: ClassVar[frozenset[str]] = frozenset()
    """Fields of whole numbers from 1 up."""
    FRACTIONS: ClassVar[frozenset[str]] = frozenset()
    """Fields within 0 and 1."""
    BOUNDS: ClassVar[dict[str, tuple[float, float]]] = {}
    """Least and most of the others; from 0 up, where nothing is said."""

    SHARES: ClassVar[frozenset[str]] = frozenset()
    """Fields that are one number within 0 and 1: how many of the samples have something."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            self._check(field.name, getattr(self, field.name))

    def _check(self, name: str, value: object) -> None:
        what = f"{type(self).__name__.lower().removeprefix('real') or 'preset real'}: {name}"
        if name in self.SHARES:
            if not is_number(value) or not 0 <= value <= 1:
                raise InputError(f"{what}: expected one number from 0 to 1, got {value!r}")
            return
        if (
            not isinstance(value, Sequence)
            or len(value) != 2
            or not all(is_number(v) and np.isfinite(v) for v in value)
            or value[0] > value[1]
        ):
            raise InputError(f"{what}: expected two numbers [low, high], got {value!r}")
        low, high = value
        if name in self.COUNTS and (low < 1 or low != int(low) or high != int(high)):
            raise InputError(f"{what}: expected whole numbers from 1 up, got {value!r}")
        least, most = (0, 1) if name in self.FRACTIONS else self.BOUNDS.get(name, (0, np.inf))
        if low < least or high > most:
            within = f"from {least:g} " + (f"to {most:g}" if np.isfinite(most) else "up")
            raise InputError(f"{what}: expected numbers {within}, got {value!r}")
