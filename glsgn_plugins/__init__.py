"""GLSGN for ultra-high-resolution image restoration, as plugins for BasicSR and MMagic.

This package is the core: plain torch, no framework. ``glsgn_plugins.basicsr`` registers it in
BasicSR, ``glsgn_plugins.mmagic`` in MMagic.
"""

from types import ModuleType

from glsgn_plugins import _renamed
from glsgn_plugins.archs.glsgn import GLSGN, PathwayOutputs, glsgn_b, glsgn_l, glsgn_s
from glsgn_plugins.errors import InputError
from glsgn_plugins.inference import restore, restore_array, restore_file
from glsgn_plugins.pretrained import list_pretrained, load_pretrained

_renamed.install()

__version__ = "0.2.0.dev0"

__all__ = [
    "GLSGN",
    "InputError",
    "PathwayOutputs",
    "__version__",
    "glsgn_b",
    "glsgn_l",
    "glsgn_s",
    "list_pretrained",
    "load_pretrained",
    "restore",
    "restore_array",
    "restore_file",
]


def __getattr__(name: str) -> ModuleType:
    return _renamed.attribute(__name__, name)
