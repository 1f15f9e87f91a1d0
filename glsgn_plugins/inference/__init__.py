"""Restoring images of any size: whole, streamed or tiled."""

from glsgn_plugins.inference.arrays import restore_array
from glsgn_plugins.inference.files import RestoredFile, restore_file
from glsgn_plugins.inference.reduced import check_long_side
from glsgn_plugins.inference.restoring import (
    AMP_TYPES,
    MODES,
    Plan,
    check_finite,
    check_overlap,
    check_tile,
    plan,
    restore,
)
from glsgn_plugins.inference.strength import (
    STRONGEST,
    check_region,
    check_strength,
    region_mask,
)

__all__ = [
    "AMP_TYPES",
    "MODES",
    "STRONGEST",
    "Plan",
    "RestoredFile",
    "check_finite",
    "check_long_side",
    "check_overlap",
    "check_region",
    "check_strength",
    "check_tile",
    "plan",
    "region_mask",
    "restore",
    "restore_array",
    "restore_file",
]
