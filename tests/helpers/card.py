"""A card that isn't there, with values: what validation copies from it can be counted.

torch's fake CUDA tensors have no values, and scores need them. Here each tensor that claims to be
on the card keeps its values in one of the host's, on which every operation is worked out. What
mixes the two as a card wouldn't have it is refused; what waits for the card is counted. There are
no gradients, streams or pinned memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from device import READ, tensors_in
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from glsgn_plugins.inference import restoring

CARD = torch.device("cuda", 0)


class OnCard(torch.Tensor):
    """A tensor that says that it is on the card.

    Attributes:
        values: On the host.
    """

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> OnCard:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=CARD,
        )
        made.values = values
        return made

    def data_ptr(self) -> int:
        """By which views of one memory are known."""
        return self.values.data_ptr()

    def __deepcopy__(self, memo: dict[int, Any]) -> OnCard:
        return memo.setdefault(id(self), OnCard(self.values.clone()))

    def __repr__(self, **_: Any) -> str:
        return f"OnCard({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        raise AssertionError("a tensor of the card outlived it")


class Card(TorchDispatchMode):
    """What is computed on it, and what of it is read.

    Attributes:
        waits: How often the host waited for the card, by the operation that read of it.
        bytes_read: That were copied from the card to the host.
        operations: On the card, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.bytes_read = 0
        self.operations: Counter[str] = Counter()

    def begin(self) -> None:
        """Count from here on."""
        self.waits.clear()
        self.operations.clear()
        self.bytes_read = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name.removeprefix("aten::")
        given = tensors_in((args, kwargs))
        here = any(isinstance(tensor, OnCard) for tensor in given)
        hosts = any(not isinstance(tensor, OnCard) and tensor.dim() for tensor in given)
        to = kwargs.get("device")
        if to is not None and torch.device(to).type == CARD.type:
            kwargs["device"] = torch.device("cpu")
            stays = True
        else:
            stays = here and to is None
        if here and hosts and name != "copy_":
            raise AssertionError(f"{name} of a tensor on the host with one on the card")
        plain = tree_map(
            lambda leaf: leaf.values if isinstance(leaf, OnCard) else leaf, (args, kwargs)
        )
        made = func(*plain[0], **plain[1])
        if name == "copy_":
            stays = isinstance(args[0], OnCard)
        if here and (not stays or name in READ):
            self.waits[name] += 1
            self.bytes_read += sum(t.numel() * t.element_size() for t in tensors_in(made))
        if name == "copy_":
            return args[0]
        if not stays:
            return made
        self.operations[name] += 1
        # What works in place gives the tensor that it was given.
        known = {id(tensor.values): tensor for tensor in given if isinstance(tensor, OnCard)}

        def brought(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            return known[id(leaf)] if id(leaf) in known else OnCard(leaf)

        return tree_map(brought, made)


@contextmanager
def card(monkeypatch: Any) -> Iterator[Card]:
    """A card is there."""
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(restoring, "free_memory", lambda device: 80 * 2**30)
    torch._C._ensureCUDADeviceGuardSet()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a weight's type changes
    try:
        with torch.no_grad(), Card() as made:
            yield made
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
