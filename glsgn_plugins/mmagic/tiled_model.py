"""``TiledEditModel``: MMagic's ``BaseEditModel`` that tests images of any size."""

from __future__ import annotations

from typing import Any

from mmagic.models import BaseEditModel
from mmagic.registry import MODELS
from torch import Tensor

from glsgn_plugins.errors import InputError, unknown_name
from glsgn_plugins.inference import check_finite, check_overlap, check_strength, check_tile, restore

TEST_CFG = ("tile", "tile_overlap", "strength")


@MODELS.register_module()
class TiledEditModel(BaseEditModel):
    """Trains as ``BaseEditModel`` does, any generator; tests images in pieces where asked to.

    ``test_cfg`` takes, as of :func:`~glsgn_plugins.inference.restore`:

    - ``tile``: ``"auto"``, ``"whole"``, ``"stream"`` (GLSGN) or pixels; one forward by default.
    - ``tile_overlap``: pixels; an eighth of ``tile`` unless given.
    - ``strength``: how much of the change is wanted, from 0 to 1.5; 1 unless given.

    A GLSGN with ``long_side`` or ``coarse_side`` is tested by that, as ``restore`` has it.

    Args:
        options: Those of ``BaseEditModel``.

    Raises:
        InputError: One of these is none that ``restore`` takes, or ``test_cfg`` has another key.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for key in self.test_cfg or ():
            if key not in TEST_CFG:
                raise unknown_name(f"model.test_cfg.{key}", key, TEST_CFG)
        try:
            check_tile(self._tile())
            check_overlap(self._option("tile_overlap", None), self._tile(), "tile_overlap")
            check_strength(self._option("strength", 1))
        except InputError as error:
            raise InputError(f"model.test_cfg.{error}") from None

    def _tile(self) -> str | int:
        return self._option("tile", "whole")

    def _option(self, key: str, default: Any) -> Any:
        return (self.test_cfg or {}).get(key, default)

    def forward_tensor(self, inputs: Tensor, data_samples: Any = None, **kwargs: Any) -> Any:
        """What the generator makes of ``(N, 3, H, W)``; piece by piece in testing, as said."""
        if self.training or kwargs:
            restored = super().forward_tensor(inputs, data_samples, **kwargs)
        else:
            restored = restore(
                self.generator,
                inputs,
                self._tile(),
                strength=self._option("strength", 1),
                overlap=self._option("tile_overlap", None),
                steady=True,
            )
        if not self.training and isinstance(restored, Tensor):
            check_finite(restored, self.generator)
        return restored
