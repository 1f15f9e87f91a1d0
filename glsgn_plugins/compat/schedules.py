"""What both frameworks' patches ask on resuming: whether schedules are a checkpoint's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

BY_VERSION = frozenset(
    ("foreach", "maximize", "capturable", "differentiable", "fused", "decoupled_weight_decay")
)
"""Entries of an optimiser's groups that some versions of torch don't have."""


IMPLEMENTATION = ("foreach", "fused")
"""Entries that say in how many kernels an optimiser's step is worked out."""


def keep_implementation(optimizer: Any, saved: Mapping[str, Any]) -> None:
    """Let a saved state say nothing of how steps are worked out: that goes by the device.

    Args:
        optimizer: That is about to load it.
        saved: The state, which is changed.
    """
    for group, before in zip(optimizer.param_groups, saved["param_groups"]):
        before.update({key: group[key] for key in IMPLEMENTATION if key in group})


def begin_schedule(scheduler: Any, schedule: Mapping[str, Any]) -> None:
    """Bring a scheduler to its beginning, as it was built.

    Args:
        scheduler: One of torch's or of MMEngine's, of whatever a checkpoint has made of it.
        schedule: Its state when it was built.
    """
    for key in scheduler.state_dict().keys() - schedule.keys():
        delattr(scheduler, key)  # of a schedule of another type
    scheduler.load_state_dict(schedule)


def settings_of(group: Mapping[str, Any]) -> dict[str, Any]:
    """Of an optimiser's group, all but the parameters."""
    return {key: value for key, value in group.items() if key != "params"}


def changed_entries(
    asked: Mapping[str, Any], found: Mapping[str, Any], progress: Iterable[str]
) -> Iterator[str]:
    """Entries of a schedule or of an optimiser's group that differ.

    Args:
        asked: As the options now say.
        found: As a checkpoint has it.
        progress: Entries that say how far it is.
    """
    for key, value in asked.items():
        if key in progress or (key in BY_VERSION and key not in found):
            continue
        if _plain(value) != _plain(found.get(key)):
            yield key.lstrip("_")


def _plain(value: Any) -> Any:
    """Lists and tuples alike."""
    return list(map(_plain, value)) if isinstance(value, (list, tuple)) else value
