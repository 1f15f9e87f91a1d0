"""Random numbers of a sample, the same however many workers share the work.

A dataset is asked for an index alone, and doesn't know for which time: with BasicSR's
``dataset_enlarge_ratio: 100`` the same one comes a hundred times an epoch. A
:class:`SampleIndex` is an index that knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch


class SampleIndex(int):
    """An index, and when it is asked for.

    Attributes:
        epoch: From 0.
        position: In the whole epoch, over all ranks, from 0.
    """

    epoch: int
    position: int

    def __new__(cls, index: int, epoch: int = 0, position: int = 0) -> SampleIndex:
        """An index as it is, with the two."""
        self = super().__new__(cls, index)
        self.epoch, self.position = epoch, position
        return self


def numbered(indices: Iterable[int], epoch: int, first: int, step: int) -> Iterator[SampleIndex]:
    """The indices of one rank with their epoch and position.

    Args:
        indices: In their order.
        epoch: Of all of them.
        first: Position of the first: the rank.
        step: From one position to the next: the number of ranks.
    """
    for k, index in enumerate(indices):
        yield SampleIndex(index, epoch, first + k * step)


def sample_rng(seed: int, index: int) -> np.random.Generator:
    """Random numbers for one sample.

    For a :class:`SampleIndex` they follow from the seed, its epoch and its position alone. For a
    plain index they follow from torch's generator and from :func:`worker_seed`: still never the
    same twice, but not the same for another number of workers.
    """
    if isinstance(index, SampleIndex):
        return np.random.default_rng([seed, 0, index.epoch, index.position])
    return np.random.default_rng([seed, 1, int(torch.randint(2**62, ())), worker_seed()])


def worker_seed() -> int:
    """What torch seeds a loader's worker with, anew each time that the loader begins; else 0.

    What frameworks seed workers with is the same in every epoch, MMEngine's for one.
    """
    worker = torch.utils.data.get_worker_info()
    return 0 if worker is None else int(worker.seed)
