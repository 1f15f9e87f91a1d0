"""Patches for the frameworks, applied to the running process; nobody's site-packages is edited.

Each :class:`Patch` says what breaks, why, and for which versions it is. One that isn't needed does
nothing. ``glsgn doctor`` prints them with their state.
"""

from __future__ import annotations

from glsgn_plugins.compat import (
    basicsr,
    basicsr_training,
    basicsr_waiting,
    mmagic,
    mmengine,
    mmengine_runner,
    mmengine_waiting,
    slurm,
)
from glsgn_plugins.compat.patch import Patch, apply, installed, is_applied, release, require

BASICSR_PATCHES = (
    *basicsr.BEFORE,
    *basicsr.AFTER,
    *basicsr_training.AFTER,
    *basicsr_waiting.AFTER,
    *slurm.BASICSR,
)
MMAGIC_PATCHES = (
    *mmagic.BEFORE,
    *mmengine.AFTER,
    *mmengine_runner.AFTER,
    *mmengine_waiting.AFTER,
    *slurm.MMENGINE,
)
ALL_PATCHES = (*BASICSR_PATCHES, *MMAGIC_PATCHES)


def patch_basicsr() -> None:
    """Make BasicSR importable and whole.

    Raises:
        ImportError: BasicSR is missing or too old; says what to install, on which Python.
    """
    require("basicsr", (1, 4, 2), (3, 13), "3.10 to 3.12", "its setup.py can't be built there")
    apply(BASICSR_PATCHES)


def patch_mmagic() -> None:
    """Make MMagic's models importable, and MMEngine's checkpoints safe and whole.

    Raises:
        ImportError: MMagic is missing or too old; says what to install, on which Python.
    """
    require("mmagic", (1, 2, 0), (3, 12), "3.10 or 3.11", "openmim's setuptools fails")
    apply(MMAGIC_PATCHES)


__all__ = [
    "ALL_PATCHES",
    "BASICSR_PATCHES",
    "MMAGIC_PATCHES",
    "Patch",
    "installed",
    "is_applied",
    "patch_basicsr",
    "patch_mmagic",
    "release",
]
