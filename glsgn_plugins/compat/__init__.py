"""Mends for the frameworks, applied to the running process; nobody's site-packages is edited.

Each :class:`Mend` says what breaks, why, and for which versions it is. One that isn't needed does
nothing. ``glsgn doctor`` prints them with their state.
"""

from __future__ import annotations

from glsgn_plugins.compat import basicsr, basicsr_training, mmagic, mmengine, mmengine_runner
from glsgn_plugins.compat.patch import Mend, apply, in_force, installed, release, require

BASICSR_MENDS = (*basicsr.BEFORE, *basicsr.AFTER, *basicsr_training.AFTER)
MMAGIC_MENDS = (*mmagic.BEFORE, *mmengine.AFTER, *mmengine_runner.AFTER)
ALL_MENDS = (*BASICSR_MENDS, *MMAGIC_MENDS)


def mend_basicsr() -> None:
    """Make BasicSR importable and whole.

    Raises:
        ImportError: BasicSR is missing or too old; says what to install, on which Python.
    """
    require("basicsr", (1, 4, 2), (3, 13), "3.10 to 3.12", "its setup.py can't be built there")
    apply(BASICSR_MENDS)


def mend_mmagic() -> None:
    """Make MMagic's models importable, and MMEngine's checkpoints safe and whole.

    Raises:
        ImportError: MMagic is missing or too old; says what to install, on which Python.
    """
    require("mmagic", (1, 2, 0), (3, 12), "3.10 or 3.11", "openmim's setuptools fails")
    apply(MMAGIC_MENDS)


__all__ = [
    "ALL_MENDS",
    "BASICSR_MENDS",
    "MMAGIC_MENDS",
    "Mend",
    "in_force",
    "installed",
    "mend_basicsr",
    "mend_mmagic",
    "release",
]
