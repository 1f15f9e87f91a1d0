"""Datasets of paired and of synthesized images, in plain torch; the adapters register them.

A sample is a dict of ``lq`` and ``gt``, ``(3, H, W)`` float32, RGB in [0, 1], and of ``lq_path``
and ``gt_path``: what BasicSR's own datasets give. Where degrading is left to the device, ``gt`` is
the clean crop, and ``recipe`` is in place of ``lq``.
"""

from __future__ import annotations

import bisect
import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from glsgn_plugins.data.crops import Crops, Image, Window
from glsgn_plugins.data.layouts import Pair, find_pairs, read_pair, unpaired
from glsgn_plugins.data.sampling import SampleIndex, sample_rng
from glsgn_plugins.data.synthesis import Synthesis
from glsgn_plugins.degradations import Degradation, Parameters
from glsgn_plugins.degradations.on_device import Shapes, recipe, shapes_of
from glsgn_plugins.errors import InputError, lacks_type, unknown_name
from glsgn_plugins.io.headers import read_header
from glsgn_plugins.io.images import read_image, read_rows

Sample = dict[str, Any]

UHR4K_SUBSETS = {"syn": "UHR4K-Syn", "real": "UHR4K-Real", "rain": "UHR4K-Rain"}


CROP_KEYS = [field.name for field in dataclasses.fields(Crops)]


def arguments(
    init: Callable[..., None], options: Mapping[str, Any], kind: str, adapters: Sequence[str] = ()
) -> dict[str, Any]:
    """Arguments of a dataset out of flat options, among which are the fields of ``Crops``.

    Args:
        init: The dataset's ``__init__``.
        options: What a configuration says.
        kind: The dataset's name, for messages.
        adapters: Keys that the adapter has taken out already, which messages name as well.

    Raises:
        InputError: A key doesn't exist, or is missing.
    """
    made = dict(inspect.signature(init).parameters)
    made.pop("self", None)
    known = [*(name for name in made if name != "crops"), *CROP_KEYS]
    for key in options:
        if key not in known:
            raise unknown_name(f"{key} ({kind})", key, [*known, *adapters])
    for name, parameter in made.items():
        if parameter.default is parameter.empty and name not in options:
            raise InputError(f"{kind} lacks '{name}'")
    own = dict(options)
    crops = {key: own.pop(key) for key in CROP_KEYS if key in own}
    return {**own, "crops": Crops(**crops)}


def check_whole(options: Mapping[str, Any]) -> None:
    """Validation and tests are of whole images: scores of crops, drawn anew, aren't comparable.

    Args:
        options: A dataset's, as they stand in a file.

    Raises:
        InputError: They cut, scale or turn, or leave degrading to the trainer.
    """
    if options.get("degrade_on_device"):
        raise InputError("degrade_on_device: of training alone; leave it out")
    cutting = [key for key in options if key in CROP_KEYS and key != "seed"]
    if cutting:
        raise InputError(
            f"{cutting[0]}: of training alone; validation and tests are of whole images, so leave "
            f"out {', '.join(cutting)}"
        )


class _Photographs(Dataset[Sample]):
    """What paired and synthesized sets have in common: an image is decoded, crops come out.

    Attributes:
        as_bytes: Samples stay uint8 up to 255, a quarter of the bytes between processes and to a
            GPU; the adapters set it where their model converts on the device.
        recipes: Shapes of the recipes, where degrading is left to the device.
    """

    crops: Crops
    as_bytes = False
    recipes: Shapes | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    def degrade_on_device(self) -> None:
        """Leave degrading to the device: from now on, samples are clean crops and recipes.

        Batches of them are for :func:`glsgn_plugins.degradations.on_device.degrade`.

        Raises:
            InputError: The crops aren't squares of one size, samples aren't bytes, or a part isn't
                synthesized over the picture's own depth.
        """
        size = self.crops.gt_size
        if size is None or not self.as_bytes:
            raise InputError("degrade_on_device: needs gt_size, and as_bytes: true")
        self._leave(shapes_of(self._models(), size))

    def _leave(self, shapes: Shapes) -> None:
        self.recipes = shapes

    def _models(self) -> list[Degradation]:
        """What is drawn from, in any part."""
        raise InputError(
            f"degrade_on_device: {type(self).__name__} has pairs, which are degraded already; it "
            "is for photographs (UHDSynthesisDataset)"
        )

    def _decode(self, index: int, streams: Sequence[np.random.Generator]) -> Any:
        """What the samples of an index are made of; each will be drawn from one of the streams."""
        raise NotImplementedError

    def _sample(self, decoded: Any, rng: np.random.Generator) -> tuple[Image, Image, Path, Path]:
        """One crop: lq and gt, and their files."""
        raise NotImplementedError

    def _made(self, decoded: Any, rng: np.random.Generator) -> Sample:
        """One sample, of arrays ``(H, W, 3)``."""
        lq, gt, lq_path, gt_path = self._sample(decoded, rng)
        lq, gt = self.crops.turn((lq, gt), rng)
        return {"lq": lq, "gt": gt, "lq_path": str(lq_path), "gt_path": str(gt_path)}

    def __getitem__(self, index: int) -> Sample:
        """One sample.

        Raises:
            InputError: A file can't be used; says which and why.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """A batch: what torch's loader asks for where a dataset has it."""
        samples = []
        for start in range(0, len(indices), self.crops.crops_per_image):
            group = indices[start : start + self.crops.crops_per_image]
            streams = [self._stream(index) for index in group]
            decoded = self._decode(int(group[0]), streams)
            for rng in streams:
                sample = self._made(decoded, rng)
                for key in {"lq", "gt"} & sample.keys():
                    sample[key] = self._tensor(sample[key], sample[f"{key}_path"])
                samples.append(sample)
        return samples

    def _tensor(self, image: Image, path: str) -> Tensor:
        if not self.as_bytes:
            return to_tensor(image)
        if image.dtype != np.uint8:
            raise InputError(f"{path}: has 16 bits, which as_bytes would cut; leave it out")
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

    def _stream(self, index: int) -> np.random.Generator:
        if self.crops.gt_size is None:  # validation: each image alike, every time
            index = SampleIndex(index, position=int(index))
        return sample_rng(self.crops.seed, index)


def to_tensor(image: Image) -> Tensor:
    """``(H, W, 3)`` of uint8 or uint16 to ``(3, H, W)`` float32 in [0, 1]."""
    values = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    return torch.from_numpy(values / np.float32(np.iinfo(image.dtype).max))


class Parts(NamedTuple):
    """What the samples of a pair are cut out of.

    Attributes:
        pair: Its files.
        lq: The input, or some rows of it.
        gt: The truth, likewise.
        windows: Those of the samples, in their order and of these rows, where they are drawn
            already.
    """

    pair: Pair
    lq: Image
    gt: Image
    windows: Iterator[Window] | None = None


class UHDPairedDataset(_Photographs):
    """Pairs of files: a public set by its layout's name, or one's own by patterns.

    Args:
        dataroot: The set's folder.
        layout: A name of :data:`glsgn_plugins.data.layouts.LAYOUTS`.
        split: Of the layout, e.g. ``train``; not needed where it has one only.
        lq: Instead of a layout, the inputs' pattern, e.g. ``hazy/{scene}_*``.
        gt: And the truths', e.g. ``clear/{scene}``.
        skip_unpaired: Leave out files without a partner, instead of stopping at them.
        crops: How samples are cut out; by default whole images.

    Raises:
        InputError: Nothing is found, or files lack their partners; each is named.
    """

    def __init__(
        self,
        dataroot: str,
        layout: str | None = None,
        split: str | None = None,
        lq: str | None = None,
        gt: str | None = None,
        skip_unpaired: bool = False,
        crops: Crops | None = None,
    ) -> None:
        self.crops = crops or Crops()
        self.root = Path(dataroot).expanduser()
        found = find_pairs(self.root, layout, split, lq, gt)
        error = unpaired(found, self.root)
        if error and not skip_unpaired:
            raise error
        self.pairs = found.pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def _decode(self, index: int, streams: Sequence[np.random.Generator]) -> Parts:
        pair = self.pairs[index]
        parts = None if pair.crop_gt or self.crops.gt_size is None else self._rows(pair, streams)
        return parts or Parts(pair, *read_pair(pair))

    def _rows(self, pair: Pair, streams: Sequence[np.random.Generator]) -> Parts | None:
        """The rows that the samples show; ``None``, with nothing drawn, where that can't be.

        Windows are drawn first, then, from the streams that they would be drawn from anyway.
        """
        headers = [read_header(path) for path in pair]
        height, width = headers[0].height, headers[0].width
        if min(height, width) < (self.crops.gt_size or 1):
            return None
        states = [stream.bit_generator.state for stream in streams]
        windows = [self.crops.window(height, width, pair.lq, stream) for stream in streams]
        first, last = 0, height
        if all(window.height == height for window in windows):  # none is scaled down
            first = min(window.top for window in windows)
            last = max(window.top + window.size[0] for window in windows)
            windows = [w._replace(height=last - first, top=w.top - first) for w in windows]
        if (headers[1].height, headers[1].width) == (height, width):
            lq, gt = (read_rows(path, first, last) for path in pair)
            if lq is not None and gt is not None:
                return Parts(pair, lq, gt, iter(windows))
        for stream, state in zip(streams, states):
            stream.bit_generator.state = state
        return None

    def _sample(self, decoded: Parts, rng: np.random.Generator) -> tuple[Image, Image, Path, Path]:
        pair, lq, gt, windows = decoded
        if windows is None:
            window = self.crops.window(lq.shape[0], lq.shape[1], pair.lq, rng)
        else:
            window = next(windows)
        return window.cut(lq), window.cut(gt), *pair


class UHR4KDataset(UHDPairedDataset):
    """The sets of the paper, or what one has made in their likeness.

    They were never released. Ours: ``{train,test}/{lq,gt}``, equal names.

    Args:
        dataroot: The subset's folder.
        subset: ``syn`` and ``real`` (reflection), or ``rain``.
        split: ``train`` or ``test``.
        skip_unpaired: As of :class:`UHDPairedDataset`.
        crops: Likewise.

    Raises:
        InputError: As of :class:`UHDPairedDataset`; or there is no such subset.
    """

    def __init__(
        self,
        dataroot: str,
        subset: str,
        split: str,
        skip_unpaired: bool = False,
        crops: Crops | None = None,
    ) -> None:
        if subset not in UHR4K_SUBSETS:
            raise unknown_name("subset of UHR4K", subset, UHR4K_SUBSETS)
        layout = UHR4K_SUBSETS[subset]
        super().__init__(dataroot, layout, split, skip_unpaired=skip_unpaired, crops=crops)


class UHDSynthesisDataset(_Photographs):
    """Clean photographs, degraded anew for every sample.

    Only the crop is degraded, as part of its photograph: its streaks are as long as they would be
    in the whole.

    Args:
        dataroot: As of :class:`~glsgn_plugins.data.synthesis.Synthesis`, and so the next three.
        degradation: Its type, and ranges where others are wanted.
        dataroot_reflection: Photographs to be reflected.
        dataroot_depth: Depth maps for haze.
        crops: How samples are cut out; by default whole images.

    Raises:
        InputError: A folder, type, range or depth map is missing or not possible.
    """

    def __init__(
        self,
        dataroot: str,
        degradation: Mapping[str, Any],
        dataroot_reflection: str | None = None,
        dataroot_depth: str | None = None,
        crops: Crops | None = None,
    ) -> None:
        self.crops = crops or Crops()
        self.synthesis = Synthesis(dataroot, degradation, dataroot_reflection, dataroot_depth)

    def __len__(self) -> int:
        return len(self.synthesis.photographs)

    def _decode(
        self, index: int, streams: Sequence[np.random.Generator]
    ) -> tuple[Path, Image, NDArray[Any] | None]:
        path = self.synthesis.photographs[index]
        companion = self.synthesis.companion(path, streams[0])
        image = read_rows(path)
        image = read_image(path) if image is None else image
        return path, image, self.synthesis.read_companion(companion, image)

    def _sample(
        self, decoded: tuple[Path, Image, NDArray[Any] | None], rng: np.random.Generator
    ) -> tuple[Image, Image, Path, Path]:
        path, image, companion = decoded
        window, parameters = self._drawn(path, image, rng)
        lq, gt = parameters.pair(window.cut(image), companion, window.place)
        return lq, gt, path, path

    def _drawn(
        self, path: Path, image: Image, rng: np.random.Generator
    ) -> tuple[Window, Parameters]:
        window = self.crops.window(image.shape[0], image.shape[1], path, rng)
        return window, self.synthesis.sample(rng)

    def _models(self) -> list[Degradation]:
        if self.synthesis.has_depth:  # whose maps are of any size
            raise InputError("degrade_on_device: not with dataroot_depth; leave out either")
        return [self.synthesis.model]

    def _made(
        self, decoded: tuple[Path, Image, NDArray[Any] | None], rng: np.random.Generator
    ) -> Sample:
        if self.recipes is None:
            return super()._made(decoded, rng)
        path, image, companion = decoded
        window, parameters = self._drawn(path, image, rng)
        turns = self.crops.turns(rng)
        made = recipe(parameters, self.recipes, companion, window.place, turns)
        return {
            "gt": window.cut(image),
            "recipe": {name: torch.from_numpy(array) for name, array in made.items()},
            "lq_path": str(path),
            "gt_path": str(path),
        }


PARTS: dict[str, type[_Photographs]] = {
    kind.__name__: kind for kind in (UHDPairedDataset, UHR4KDataset, UHDSynthesisDataset)
}
"""What a mixed dataset may be made of."""

SHARED_KEYS = ("gt_size", "crops_per_image", "seed")
"""Fields of ``Crops`` that are alike in all parts of a mixed dataset."""


class UHDMixedDataset(_Photographs):
    """Several datasets as one: tasks beside each other, or real pairs beside synthesized ones.

    An epoch sees every image of every part once; so parts have the shares of their numbers of
    images.

    Args:
        datasets: Options of each part: its ``type``, the arguments of that dataset, and fields of
            ``Crops`` that differ from those of the whole, e.g. ``use_rot``.
        crops: How samples are cut out; by default whole images.

    Raises:
        InputError: A part can't be made; says which.
    """

    def __init__(self, datasets: Sequence[Mapping[str, Any]], crops: Crops | None = None) -> None:
        self.crops = crops or Crops()
        if not isinstance(datasets, Sequence) or isinstance(datasets, str) or not datasets:
            raise InputError(f"datasets: expected a list of datasets' options, got {datasets!r}")
        self.parts = [self._part(options, f"datasets[{k}]") for k, options in enumerate(datasets)]
        self._starts = list(itertools.accumulate((len(part) for part in self.parts), initial=0))

    def _part(self, options: Mapping[str, Any], place: str) -> _Photographs:
        if not isinstance(options, Mapping) or "type" not in options:
            raise lacks_type(place, options)
        own = dict(options)
        name = own.pop("type")
        if not isinstance(name, str) or name not in PARTS:
            raise unknown_name(f"{place}.type", name, PARTS)
        for key in SHARED_KEYS:
            if key in own:
                raise InputError(f"{place}.{key}: it is alike in all; give it beside 'datasets'")
        try:
            whole = {key: getattr(self.crops, key) for key in CROP_KEYS}
            return PARTS[name](**arguments(PARTS[name].__init__, {**whole, **own}, name))
        except InputError as error:
            raise InputError(f"{place}: {error}") from None

    def __len__(self) -> int:
        return self._starts[-1]

    def _decode(
        self, index: int, streams: Sequence[np.random.Generator]
    ) -> tuple[_Photographs, Any]:
        k = bisect.bisect_right(self._starts, index) - 1
        part = self.parts[k]
        return part, part._decode(index - self._starts[k], streams)

    def _models(self) -> list[Degradation]:
        return [model for part in self.parts for model in part._models()]

    def _leave(self, shapes: Shapes) -> None:
        for part in (self, *self.parts):
            part.recipes = shapes

    def _made(self, decoded: tuple[_Photographs, Any], rng: np.random.Generator) -> Sample:
        part, its = decoded
        return part._made(its, rng)
