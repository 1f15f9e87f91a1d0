"""Restoring images of any size: whole, streamed or tiled."""

from glsgn_plugins.inference.arrays import restore_array
from glsgn_plugins.inference.restoring import AMP_TYPES, MODES, Plan, check_tile, plan, restore

__all__ = ["AMP_TYPES", "MODES", "Plan", "check_tile", "plan", "restore", "restore_array"]
