"""What had other names before 0.2: the old ones still import, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

PACKAGE = "glsgn_plugins"

RENAMED = {
    "archives": "io.torch_archives",
    "basicsr.images": "basicsr.image_checks",
    "basicsr.pictures": "basicsr.output_images",
    "basicsr.reading": "basicsr.option_files",
    "blocks": "archs.blocks",
    "checkpoint": "io.checkpoints",
    "commands": "cli",
    "commands.sets": "cli.dataset_arguments",
    "data.draws": "data.sampling",
    "data.forms": "data.pairing",
    "data.images": "io.images",
    "data.making": "data.generate",
    "data.preparing": "data.prepare",
    "data.sheet": "data.contact_sheet",
    "fusion": "archs.fusion",
    "headers": "io.headers",
    "inference.exif": "io.exif",
    "inference.images": "io.photographs",
    "listing": "io.files",
    "network": "archs.glsgn",
    "patches": "archs.patches",
    "shipped": "io.shipped",
    "tiffs": "io.tiff",
    "upstream": "compat",
    "upstream.mending": "compat.patch",
    "upstream.runner": "compat.mmengine_runner",
    "upstream.training": "compat.basicsr_training",
    "weights": "io.weights",
    "writing": "io.atomic",
}
"""Old module to new one, both below ``glsgn_plugins``; what lies below an old one goes with it."""

RENAMED_WITHIN = {
    "compat": {
        "ALL_MENDS": "compat.ALL_PATCHES",
        "BASICSR_MENDS": "compat.BASICSR_PATCHES",
        "MMAGIC_MENDS": "compat.MMAGIC_PATCHES",
        "Mend": "compat.Patch",
        "in_force": "compat.is_applied",
        "mend_basicsr": "compat.patch_basicsr",
        "mend_mmagic": "compat.patch_mmagic",
        "mending": "compat.patch",
        "runner": "compat.mmengine_runner",
        "training": "compat.basicsr_training",
    },
    "compat.patch": {"Mend": "compat.patch.Patch", "in_force": "compat.patch.is_applied"},
    "data.generate": {
        "METADATA": "data.set_records.METADATA",
        "SETTINGS": "data.set_records.SETTINGS",
        "UNFINISHED": "data.set_records.UNFINISHED",
        "make": "data.generate.generate_set",
        "parameters_of": "data.set_records.parameters_of",
    },
    "data.sampling": {
        "Draw": "data.sampling.SampleIndex",
        "generator": "data.sampling.sample_rng",
        "number": "data.sampling.numbered",
    },
    "io.atomic": {
        "not_written": "io.atomic.write_error",
        "printable": "io.atomic.tolerate_undecodable_names",
        "write_whole": "io.atomic.atomic_write",
        "written_whole": "io.atomic.atomic_write_into",
    },
    "io.exif": {"Form": "io.tiff.TiffLayout"},
    "io.files": {"same_form": "io.files.nfc_name"},
}
"""By the new module that an old one leads to: what had another name in the old one."""


OUTSIDE = {"demo": "examples/demo.py", "mmagic.demo": "examples/demo_mmagic.py"}
"""What is no longer in the package, and where the repository has it."""


def new_name(old: str) -> str | None:
    """The full name that a module has now; ``None`` where it wasn't renamed."""
    package, _, below = old.partition(".")
    if package != PACKAGE:
        return None
    parts = below.split(".")
    for length in range(len(parts), 0, -1):
        found = RENAMED.get(".".join(parts[:length]))
        if found is not None:
            return ".".join((PACKAGE, found, *parts[length:]))
    return None


def attribute(module: str, name: str) -> ModuleType:
    """A renamed module as an attribute of the package that held it, for its ``__getattr__``."""
    old = f"{module}.{name}"
    new = new_name(old)
    if new is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    _warn(old, new, 4)
    return _with_old_names(importlib.import_module(new))


def _with_old_names(module: ModuleType) -> ModuleType:
    """A module that was imported by its old name, in which its old names are found from then on."""
    within = RENAMED_WITHIN.get(module.__name__.removeprefix(f"{PACKAGE}."), {})

    def find(name: str) -> Any:
        if name not in within:
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        new = f"{PACKAGE}.{within[name]}"
        _warn(f"{module.__name__}.{name}", new, 3)
        holder, _, own = new.rpartition(".")
        return getattr(importlib.import_module(holder), own)

    if within:
        vars(module).setdefault("__getattr__", find)
    return module


def _warn(old: str, new: str, level: int) -> None:
    message = f"{old} is now {new}; the old name goes with version 1.0"
    warnings.warn(message, DeprecationWarning, stacklevel=level)


class _Alias(InspectLoader):
    """Gives the module of the new name, the same object, under the old one."""

    def __init__(self, new: str) -> None:
        self.new = new
        self.spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.new)
        self.spec = module.__spec__
        return _with_old_names(module)

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # which the import system has just set to the old name's

    def get_code(self, fullname: str) -> CodeType | None:
        """For ``python -m`` and an old name."""
        spec = importlib.util.find_spec(self.new)
        assert spec is not None
        assert isinstance(spec.loader, InspectLoader)
        return spec.loader.get_code(self.new)

    def get_source(self, fullname: str) -> str | None:
        return None


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, below = fullname.partition(".")
        outside = OUTSIDE.get(below) if package == PACKAGE else None
        if outside is not None:
            raise ModuleNotFoundError(
                f"{fullname} is no longer in the package: the repository has it as {outside}",
                name=fullname,
            )
        new = new_name(fullname)
        if new is None or importlib.util.find_spec(new) is None:
            return None
        _warn(fullname, new, 3)
        return ModuleSpec(fullname, _Alias(new))


def install() -> None:
    """Let the old names import; done once, by the package itself."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # First: in a renamed package, Python's own finder would load its files a second time.
        sys.meta_path.insert(0, _Finder())
