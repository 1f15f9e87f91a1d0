"""What a patch is, which are applied, and which packages are installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Patch:
    """One defect of a framework and what is done about it.

    Attributes:
        name: Short, for ``glsgn doctor``.
        symptom: What a user sees without it.
        cause: Why.
        versions: Where it is needed.
        needed: Tells whether this environment has the defect.
        apply: Patches it; called once, only where needed.
    """

    name: str
    symptom: str
    cause: str
    versions: str
    needed: Callable[[], bool]
    apply: Callable[[], None]


_applied: set[str] = set()


def is_applied(patch: Patch) -> bool:
    """Whether the patch has been applied to this process."""
    return patch.name in _applied


def apply(patches: tuple[Patch, ...]) -> None:
    for patch in patches:
        if not is_applied(patch) and patch.needed():
            patch.apply()
            _applied.add(patch.name)


def is_ours(obj: object) -> bool:
    """Whether an object's class is of this package, or derives from one that is."""
    return any(c.__module__.startswith("glsgn_plugins.") for c in type(obj).__mro__)


def installed(package: str) -> str | None:
    """The version of an installed distribution, or ``None``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def release(version: str) -> tuple[int, ...]:
    """The first three numbers of a version."""
    return tuple(int(part) for part in version.split("+")[0].split(".")[:3] if part.isdigit())


def require(
    package: str, needs: tuple[int, int, int], below: tuple[int, int], pythons: str, why: str
) -> None:
    """The package in the needed version or a later one, else an error that says what to do."""
    found = installed(package)
    wanted = f"{package} {'.'.join(map(str, needs))}"
    if found is not None:
        if release(found) >= needs:
            return
        raise ImportError(
            f"{package} {found} is too old, {wanted} is needed: "
            f"pip install 'glsgn-plugins[{package}]'"
        )
    if sys.version_info >= below:
        here = ".".join(map(str, sys.version_info[:2]))
        raise ImportError(
            f"{wanted} doesn't install on Python {here} ({why}); use Python {pythons} for it. The "
            "core of glsgn_plugins works without it"
        )
    raise ImportError(f"{wanted} is not installed: pip install 'glsgn-plugins[{package}]'")
