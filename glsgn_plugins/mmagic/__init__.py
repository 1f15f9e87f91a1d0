"""GLSGN in MMagic: importing this package registers everything.

A config does so by ``custom_imports = dict(imports=["glsgn_plugins.mmagic"])``.

``MODELS``: ``GLSGN``, ``GLSGNRestorer``, ``TiledEditModel``, ``DegradingPreprocessor``,
``ForeachEMA`` and the losses of :mod:`glsgn_plugins.losses`.
``DATASETS``: ``UHR4KDataset``, ``UHDPairedDataset``, ``UHDSynthesisDataset``,
``UHDMixedDataset``. ``TRANSFORMS``:
``UHDCrop``, ``UHDDegradation``. ``METRICS``: ``LPIPS``, ``Seam``. The patches of
:mod:`glsgn_plugins.compat` for MMagic are applied first, so that it imports, and loads and saves
checkpoints safely. MMEngine's loader takes ``glsgn://TASK``, the weights of
:mod:`glsgn_plugins.io.pretrained`.

Raises:
    ImportError: MMagic is missing or too old; says what to install, on which Python.
"""

import importlib.util

from glsgn_plugins.compat import patch_mmagic

patch_mmagic()

from mmagic.registry import MODELS  # noqa: E402

from glsgn_plugins import losses  # noqa: E402
from glsgn_plugins.archs.glsgn import GLSGN  # noqa: E402
from glsgn_plugins.mmagic.averaging import ForeachEMA  # noqa: E402
from glsgn_plugins.mmagic.datasets import (  # noqa: E402
    UHDMixedDataset,
    UHDPairedDataset,
    UHDSynthesisDataset,
    UHR4KDataset,
)
from glsgn_plugins.mmagic.metrics import LPIPS, Seam  # noqa: E402
from glsgn_plugins.mmagic.preprocessor import DegradingPreprocessor  # noqa: E402
from glsgn_plugins.mmagic.pretrained import load_from_glsgn  # noqa: E402
from glsgn_plugins.mmagic.restorer import GLSGNRestorer  # noqa: E402
from glsgn_plugins.mmagic.tiled_model import TiledEditModel  # noqa: E402
from glsgn_plugins.mmagic.transforms import UHDCrop, UHDDegradation  # noqa: E402

if importlib.util.find_spec("pydantic") is not None:
    from glsgn_plugins.compat.mmengine_runner import config_checks
    from glsgn_plugins.mmagic.configs import check_config

    if check_config not in config_checks:
        config_checks.append(check_config)

for module in (GLSGN, *losses.LOSSES):
    MODELS.register_module(module=module)

__all__ = [
    "GLSGN",
    "LPIPS",
    "DegradingPreprocessor",
    "ForeachEMA",
    "GLSGNRestorer",
    "Seam",
    "TiledEditModel",
    "UHDCrop",
    "UHDDegradation",
    "UHDMixedDataset",
    "UHDPairedDataset",
    "UHDSynthesisDataset",
    "UHR4KDataset",
    "load_from_glsgn",
]
