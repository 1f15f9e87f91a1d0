"""Patches for MMagic's import."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from glsgn_plugins.compat.patch import Patch, installed


def _lacks_mmcv_ext() -> bool:
    return importlib.util.find_spec("mmcv._ext") is None


def _import_ops_without_ext() -> None:
    class NoOps(types.ModuleType):
        """Stands in for mmcv's compiled half while mmcv.ops is imported."""

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)

            def missing(*args: Any, **kwargs: Any) -> None:
                raise ImportError(
                    f"mmcv.ops needs its compiled function '{name}', which mmcv-lite lacks: "
                    "install the full mmcv (>= 2.0, < 2.2)"
                )

            return missing

    sys.modules["mmcv._ext"] = NoOps("mmcv._ext")
    try:
        importlib.import_module("mmcv.ops")
    finally:
        # mmengine asks pkgutil whether mmcv._ext exists to tell the full mmcv from the lite one.
        del sys.modules["mmcv._ext"]


def _lacks_mediapipe_solutions() -> bool:
    if "controlnet_aux" in sys.modules or importlib.util.find_spec("controlnet_aux") is None:
        return False
    mediapipe = importlib.util.find_spec("mediapipe")
    if mediapipe is None or mediapipe.origin is None:
        return True
    return not (Path(mediapipe.origin).parent / "python" / "solutions").is_dir()


def _stand_in_for_controlnet_aux() -> None:
    class Missing:
        """Stands in for what can't be imported, which one of MMagic's inferencers uses."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise ImportError(
                "controlnet_aux needs mediapipe.solutions: pip install 'mediapipe<0.10.30'"
            )

        from_pretrained = __init__

    module = types.ModuleType("controlnet_aux")
    module.__dict__["HEDdetector"] = Missing
    sys.modules[module.__name__] = module


def _lacks_bool8() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy 1.24 to 1.26 warn
        return installed("mmagic") is not None and not hasattr(np, "bool8")


def _import_with_bool8() -> None:
    np.bool8 = np.bool_  # type: ignore[attr-defined]
    try:
        importlib.import_module("mmagic.utils.trans_utils")
    finally:
        del np.bool8  # type: ignore[attr-defined]


BEFORE = (
    Patch(
        "mmcv.ops without mmcv._ext",
        symptom="No module named 'mmcv._ext' at import mmagic.models",
        cause="mmcv-lite holds the Python half of mmcv.ops only",
        versions="mmcv-lite >= 2.0, < 2.2",
        needed=_lacks_mmcv_ext,
        apply=_import_ops_without_ext,
    ),
    Patch(
        "mmagic.utils without numpy.bool8",
        symptom="module 'numpy' has no attribute 'bool8' at import mmagic.utils",
        cause="a table of numpy's types names one that numpy 2 removed",
        versions="mmagic <= 1.2.0 with numpy >= 2",
        needed=_lacks_bool8,
        apply=_import_with_bool8,
    ),
    Patch(
        "controlnet_aux without mediapipe.solutions",
        symptom="module 'mediapipe' has no attribute 'solutions' at import mmagic.apis",
        cause="all inferencers are imported for any; ControlNet's needs what mediapipe removed",
        versions="mmagic 1.2.0 with mediapipe >= 0.10.30",
        needed=_lacks_mediapipe_solutions,
        apply=_stand_in_for_controlnet_aux,
    ),
)
