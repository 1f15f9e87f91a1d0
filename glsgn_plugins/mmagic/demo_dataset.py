"""The demo's misty rain as a dataset that makes itself; its config imports this module."""

from __future__ import annotations

from typing import Any

from mmagic.registry import DATASETS
from mmengine.dist import barrier, is_main_process

from glsgn_plugins import demo
from glsgn_plugins.mmagic.datasets import UHDPairedDataset


@DATASETS.register_module()
class DemoRainDataset(UHDPairedDataset):
    """The demo's rain set in ``demo/misty_rain``, made where it isn't there yet.

    Args:
        options: Those of ``UHDPairedDataset``.
    """

    def __init__(self, **options: Any) -> None:
        if is_main_process():
            demo.DEMO.mkdir(exist_ok=True)
            demo.prepare()
        barrier()
        super().__init__(**options)
