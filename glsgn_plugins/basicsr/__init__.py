"""GLSGN in BasicSR: importing this package registers everything.

``ARCH_REGISTRY``: ``GLSGN``. ``MODEL_REGISTRY``: ``GLSGNModel``, ``GLSGNGANModel``,
``TiledSRModel``.
``DATASET_REGISTRY``: ``UHR4KDataset``, ``UHDPairedDataset``, ``UHDSynthesisDataset``,
``UHDMixedDataset``.
``LOSS_REGISTRY``: the losses of :mod:`glsgn_plugins.losses`. ``METRIC_REGISTRY``:
``calculate_lpips``, ``calculate_seam``. The patches of :mod:`glsgn_plugins.compat` for BasicSR are
applied first, so that it imports and saves whole.

Raises:
    ImportError: BasicSR is missing; says what to install, on which Python.
"""

from glsgn_plugins.compat import patch_basicsr

patch_basicsr()

from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY  # noqa: E402

from glsgn_plugins import losses, metrics  # noqa: E402
from glsgn_plugins.archs.glsgn import GLSGN  # noqa: E402
from glsgn_plugins.basicsr.datasets import (  # noqa: E402
    UHDMixedDataset,
    UHDPairedDataset,
    UHDSynthesisDataset,
    UHR4KDataset,
)
from glsgn_plugins.basicsr.gan_model import GLSGNGANModel  # noqa: E402
from glsgn_plugins.basicsr.model import GLSGNModel  # noqa: E402
from glsgn_plugins.basicsr.tiled_model import TiledSRModel  # noqa: E402

ARCH_REGISTRY.register(GLSGN)
for loss in losses.LOSSES:
    LOSS_REGISTRY.register(loss)
METRIC_REGISTRY.register(metrics.calculate_lpips)
METRIC_REGISTRY.register(metrics.calculate_seam)

__all__ = [
    "GLSGN",
    "GLSGNGANModel",
    "GLSGNModel",
    "TiledSRModel",
    "UHDMixedDataset",
    "UHDPairedDataset",
    "UHDSynthesisDataset",
    "UHR4KDataset",
]
