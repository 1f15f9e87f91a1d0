"""``DemoRainDataset``, which configs from before 0.2 have in their ``custom_imports``."""

from __future__ import annotations

import warnings
from typing import Any

from mmagic.registry import DATASETS
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log

from glsgn_plugins.data import demo_set
from glsgn_plugins.mmagic.datasets import UHDPairedDataset


@DATASETS.register_module()
class DemoRainDataset(UHDPairedDataset):
    """Deprecated: ``UHDPairedDataset``, which reads the demo's set.

    As it did before, it makes that set in ``demo/misty_rain`` where it isn't there yet.

    Args:
        options: Those of ``UHDPairedDataset``.

    Raises:
        InputError: As of ``UHDPairedDataset``; or the set can't be made.
    """

    def __init__(self, **options: Any) -> None:
        warnings.warn(
            "DemoRainDataset goes with version 1.0: python examples/demo_mmagic.py makes its set, "
            "and type='UHDPairedDataset' with the same options reads it",
            FutureWarning,  # which is shown, whoever builds it
            stacklevel=2,
        )
        if is_main_process():
            print_log(demo_set.prepare())
        barrier()
        super().__init__(**options)
