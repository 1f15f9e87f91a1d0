"""Option and config files that are shipped with the package, found by name."""

from __future__ import annotations

from pathlib import Path

from glsgn_plugins.errors import unknown_name


def shipped_files(folder: str, suffix: str) -> dict[str, Path]:
    """Shipped files by name.

    Args:
        folder: ``basicsr_options`` or ``mmagic_configs``: inside the installed package, or at the
            top of a checkout.
        suffix: ``.yml`` or ``.py``.
    """
    package = Path(__file__).resolve().parent.parent
    for root in (package / folder, package.parent / folder):
        if root.is_dir():
            return {path.name: path for path in sorted(root.glob(f"*{suffix}"))}
    return {}


def find_shipped(path: str, folder: str, suffix: str) -> Path:
    """The file at ``path``, or else the shipped one of that name.

    Raises:
        InputError: Neither exists; it names those that are shipped.
    """
    if Path(path).is_file():
        return Path(path)
    known = shipped_files(folder, suffix)
    name = Path(path).name
    # A path with a folder in it means that file and no other.
    if name in known and name == path:
        return known[name]
    raise unknown_name("options file (a path, or the name of a shipped one)", path, known)
