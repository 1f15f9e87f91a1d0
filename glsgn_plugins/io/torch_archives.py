"""A reader of ``torch.save``'s archives that needs nothing of torch's own unpickling.

``torch.load(weights_only=True)`` can be made to run code before torch 2.6 (CVE-2025-32434) and to
write where it must not before 2.10 (CVE-2026-24747). Here a file's pickle may make plain values,
containers and tensors alone, each container is changed by what belongs to it alone, and a tensor
lies within its storage, or the file is refused.
"""

from __future__ import annotations

import collections
import os
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
DTYPES = {str(dtype): dtype for dtype in STORAGES.values()}


def read_archive(path: str | os.PathLike[str], allowed: Mapping[str, Any]) -> Any:
    """Read a file of ``torch.save`` onto the CPU.

    Args:
        path: Of the file.
        allowed: What it may name beside tensors and plain values, by full name; each is called with
            what the file has for it.

    Raises:
        pickle.UnpicklingError: It holds more than that.
        ValueError: It is damaged, or older than torch 1.6, before which these were no archives.
        OSError: It can't be read.
    """
    with open(path, "rb") as file:  # or says that it is missing
        archived = zipfile.is_zipfile(file)
    if not archived:
        raise ValueError("no archive of torch 1.6 or later")
    try:
        with zipfile.ZipFile(path) as archive:
            return _Reader(archive, allowed).load()
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        IndexError,
        AttributeError,
        TypeError,
    ) as error:
        raise ValueError(str(error)) from None


class _Storage:
    """Numbers of one type: what tensors are views of."""

    def __init__(self, values: Tensor) -> None:
        self.values = values


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, *grad_hooks_and_metadata: Any
) -> Tensor:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor without a storage")
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in numbers):
        raise pickle.UnpicklingError("a tensor of an impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if 0 not in size and last >= len(storage.values):
        raise pickle.UnpicklingError("a tensor beyond its storage")
    if 0 in size:
        return storage.values.new_empty(size)
    return storage.values.as_strided(tuple(size), tuple(stride), offset)


def _parameter(data: Any, requires_grad: Any, hooks: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise pickle.UnpicklingError("a parameter that is no tensor")
    return data


def _size(sides: Any) -> tuple[int, ...]:
    return tuple(sides)


def _bytes(text: Any, coding: Any = "latin1") -> bytes:
    """How protocol 2 has bytes."""
    if not isinstance(text, str) or coding != "latin1":
        raise pickle.UnpicklingError("bytes of another coding")
    return text.encode("latin1")


KNOWN: dict[str, Any] = {
    "_codecs.encode": _bytes,
    "collections.OrderedDict": collections.OrderedDict,
    "collections.Counter": collections.Counter,
    "builtins.set": set,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    "torch.device": str,
    **{f"torch.{name}": dtype for name, dtype in STORAGES.items()},
    **DTYPES,
}


class _Reader(pickle._Unpickler):  # in Python: each step can be looked at
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    metastack: list[Any]

    def __init__(self, archive: zipfile.ZipFile, allowed: Mapping[str, Any]) -> None:
        self.archive = archive
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise ValueError("an archive without one data.pkl")
        self.folder = names[0].removesuffix("data.pkl")
        if f"{self.folder}byteorder" in archive.namelist():
            order = self._content(f"{self.folder}byteorder")
            if order != b"little":
                raise ValueError(f"numbers in {order!r} order")
        self.known = {**KNOWN, **allowed}
        self.storages: dict[str, _Storage] = {}
        super().__init__(archive.open(self._stored(names[0])), encoding="utf-8")

    def _stored(self, name: str) -> zipfile.ZipInfo:
        info = self.archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(f"{name} is compressed")
        return info

    def _content(self, name: str) -> bytes:
        try:
            return self.archive.read(self._stored(name))
        except KeyError:
            raise ValueError(f"lacks {name}") from None

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage by its number."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError(f"unknown content {kind!r}")
        if key not in self.storages:
            content = bytearray(self._content(f"{self.folder}data/{key}"))
            if len(content) != count * dtype.itemsize:
                raise pickle.UnpicklingError(f"storage {key} is not as long as it says")
            values = (
                torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            )
            self.storages[key] = _Storage(values)
        found = self.storages[key]
        if found.values.dtype != dtype or len(found.values) != count:
            raise pickle.UnpicklingError(f"storage {key} is told of in two ways")
        return found

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for."""
        # torch.save writes Python 2's name of the module.
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if full not in self.known:
            raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {full}")
        return self.known[full]

    def get_extension(self, code: int) -> None:
        """Names by number, of a registry that any package may write to."""
        raise pickle.UnpicklingError(f"Unsupported extension {code}")

    def _check(self, subject: Any) -> None:
        if not any(subject is known for known in self.known.values()):
            raise pickle.UnpicklingError(f"Unsupported operand {subject!r}")

    def load_reduce(self) -> None:
        self._check(self.stack[-2])
        super().load_reduce()  # type: ignore[misc]

    def load_newobj(self) -> None:
        self._check(self.stack[-2])
        super().load_newobj()  # type: ignore[misc]

    def load_newobj_ex(self) -> None:
        raise pickle.UnpicklingError("Unsupported operand NEWOBJ_EX")

    def load_build(self) -> None:
        self._check(type(self.stack[-2]))
        if isinstance(self.stack[-2], (dict, list, set, tuple)):
            # The one attribute of a state dict: versions of modules, and our record of the network.
            attributes, subject = self.stack.pop(), self.stack[-1]
            held = attributes.get("_metadata") if isinstance(attributes, dict) else None
            if isinstance(subject, collections.OrderedDict) and isinstance(held, dict):
                subject._metadata = held  # type: ignore[attr-defined]
            return
        super().load_build()  # type: ignore[misc]

    def load_setitem(self) -> None:
        _must_be(self.stack[-3], dict)
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        _must_be(self.metastack[-1][-1], dict)
        super().load_setitems()  # type: ignore[misc]

    def load_append(self) -> None:
        _must_be(self.stack[-2], list)
        super().load_append()  # type: ignore[misc]

    def load_appends(self) -> None:
        _must_be(self.metastack[-1][-1], list)
        super().load_appends()  # type: ignore[misc]

    def load_additems(self) -> None:
        _must_be(self.metastack[-1][-1], set)
        super().load_additems()  # type: ignore[misc]

    for _opcode, _method in (
        (pickle.REDUCE, load_reduce),
        (pickle.NEWOBJ, load_newobj),
        (pickle.NEWOBJ_EX, load_newobj_ex),
        (pickle.BUILD, load_build),
        (pickle.SETITEM, load_setitem),
        (pickle.SETITEMS, load_setitems),
        (pickle.APPEND, load_append),
        (pickle.APPENDS, load_appends),
        (pickle.ADDITEMS, load_additems),
    ):
        dispatch[_opcode[0]] = _method
    for _opcode in (pickle.INST, pickle.OBJ):  # protocol 0 and 1: torch.save writes 2
        del dispatch[_opcode[0]]


def _must_be(container: Any, kind: type) -> None:
    if not isinstance(container, kind):
        raise pickle.UnpicklingError(f"Unsupported change of a {type(container).__name__}")
