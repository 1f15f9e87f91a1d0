"""Metrics in the form of BasicSR's: two 8-bit images in, one number out."""

from glsgn_plugins.metrics.lpips import calculate_lpips
from glsgn_plugins.metrics.seam import SEAM_FIGURES, calculate_seam

__all__ = ["SEAM_FIGURES", "calculate_lpips", "calculate_seam"]
