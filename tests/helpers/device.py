"""A device without numbers and without a card: what a step does there can be watched, not read.

Tensors on torch's ``meta`` device stand for those on a GPU. Operations work out shapes and types
alone, autograd works, and nobody can read a value: what would make the host wait for a GPU fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.data import default_collate

from glsgn_plugins.data.synthesis import make_degradation
from glsgn_plugins.degradations import Place
from glsgn_plugins.degradations.depth import thumbnail
from glsgn_plugins.degradations.on_device import recipe, shapes_of

META = torch.device("meta")


def clean_batch(size: int, device: torch.device) -> dict[str, Any]:
    """Two clean crops and their recipes, as a dataset that leaves degrading to the device."""
    models = [make_degradation({"type": kind}) for kind in ("rain", "haze")]
    shapes = shapes_of(models, size)
    whole = np.full((120, 160, 3), 90, np.uint8)
    made = [
        recipe(model.sample(np.random.default_rng(k)), shapes, thumbnail(whole), Place(120, 160))
        for k, model in enumerate(models)
    ]
    clean = torch.zeros(2, 3, size, size, dtype=torch.uint8, device=device)
    return {"gt": clean, "recipe": {k: v.to(device) for k, v in default_collate(made).items()}}


def tensors_in(tree: Any) -> list[Tensor]:
    """Those in nested containers. torch 2.1 has no ``tree_leaves``."""
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


READ = {
    *("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "nonzero_numpy"),
    *("masked_select", "unique_dim", "_unique2", "unique_consecutive", "bincount", "argwhere"),
    *("_assert_async",),
}
"""Operations whose result's value or shape the host must know."""


class WaitsError(AssertionError):
    """Something in a step made the host wait for the device, or used a tensor of the host's."""


class Watch(TorchDispatchMode):
    """Counts the operations of the device, and raises where the host would wait for it.

    Attributes:
        counts: Operations on the device, by name.
        host: Operations on tensors of the host's alone, by name.
    """

    def __init__(self, device: str = "meta") -> None:
        super().__init__()
        self.device = device
        self.counts: Counter[str] = Counter()
        self.host: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        given = tensors_in((args, kwargs))
        here = [tensor for tensor in given if tensor.device.type == self.device]
        # Numbers without dimensions are passed along with the call, as they are.
        hosts = [tensor for tensor in given if tensor.device.type == "cpu" and tensor.dim()]
        if here and name in READ:
            raise WaitsError(f"{name} reads a value of the device")
        if here and hosts:
            raise WaitsError(f"{name} of a tensor on the host with one on the device")
        if name in ("index", "index_put", "index_put_", "_index_put_impl_") and here:
            indices = tensors_in(args[1:2])
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                raise WaitsError(f"{name} by a mask: the host must know how many there are")
        result = func(*args, **kwargs)
        made = tensors_in(result)
        there = [tensor for tensor in made if tensor.device.type == self.device]
        if here and len(there) < len(made):
            raise WaitsError(f"{name} copies from the device to the host")
        if there and hosts:
            raise WaitsError(f"{name} copies from the host to the device")
        if not name.startswith("profiler::"):
            (self.counts if here or there else self.host)[name] += 1
        return result

    @property
    def operations(self) -> int:
        """How many the device was given."""
        return sum(self.counts.values())


@contextmanager
def watched(device: str = "meta") -> Iterator[Watch]:
    """A step that must not wait; printing a tensor of the device is waiting, too."""
    plain = torch._tensor_str._str

    def shown(tensor: Tensor, **options: Any) -> str:
        if tensor.device.type == device:
            raise WaitsError("a tensor of the device is printed")
        return str(plain(tensor, **options))

    torch._tensor_str._str = shown
    try:
        with Watch(device) as watch:
            yield watch
    finally:
        torch._tensor_str._str = plain


@contextmanager
def host_is_free_in(watch: Watch, owner: Any, method: str) -> Iterator[None]:
    """What a method does with tensors of the host's alone isn't counted: it keeps numbers there.

    Of optimisers that count their steps, and of MMagic's preprocessor that notes its padding. That
    these don't come near the device is still watched.
    """
    plain = getattr(owner, method)

    def aside(*args: Any, **options: Any) -> Any:
        before = watch.host.copy()
        made = plain(*args, **options)
        watch.host = before
        return made

    setattr(owner, method, aside)
    try:
        yield
    finally:
        setattr(owner, method, plain)
