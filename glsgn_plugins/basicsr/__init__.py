"""GLSGN in BasicSR: importing this package registers everything.

``ARCH_REGISTRY``: ``GLSGN``. ``MODEL_REGISTRY``: ``GLSGNModel``. ``LOSS_REGISTRY``:
``PathwayReconstructionLoss``. The mends of :mod:`glsgn_plugins.upstream` for BasicSR are applied
first, so that it imports and saves whole.

Raises:
    ImportError: BasicSR is missing; says what to install, on which Python.
"""

from glsgn_plugins.upstream import mend_basicsr

mend_basicsr()

from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY  # noqa: E402

from glsgn_plugins.basicsr.model import GLSGNModel  # noqa: E402
from glsgn_plugins.losses import PathwayReconstructionLoss  # noqa: E402
from glsgn_plugins.network import GLSGN  # noqa: E402

ARCH_REGISTRY.register(GLSGN)
LOSS_REGISTRY.register(PathwayReconstructionLoss)

__all__ = ["GLSGN", "GLSGNModel", "PathwayReconstructionLoss"]
