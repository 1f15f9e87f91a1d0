"""Where public sets keep their inputs and truths.

The forms are those that the sets' own READMEs and loaders show (the
repositories UCLA-VMG/GT-RAIN, yunguo224/LHP-Rain, caijie0620/OpenRR-5k, CastleChen339/DehazeXL);
where sources disagree, each is listed. The UHR4K sets were never released: their rule is our
choice, and what ``glsgn synthesize`` writes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from glsgn_plugins.data.pairing import (
    FirstOf,
    Pair,
    Pairing,
    PairingRule,
    Patterns,
    RecordList,
    TextList,
    read_pair,
)
from glsgn_plugins.errors import InputError, unknown_name

SHOWN = 5
"""Files that a message names before it only counts."""


@dataclass(frozen=True)
class Layout:
    """How a set is laid out below its folder.

    Attributes:
        splits: Of each split the forms it is found in; the first that finds a pair counts.
        crop_gt: Truths are larger than their inputs, which show their middle.
    """

    splits: Mapping[str, tuple[PairingRule, ...]]
    crop_gt: bool = False

    def find(self, root: Path, split: str, what: str) -> Pairing:
        """Pair the files of one split.

        Args:
            root: The set's folder.
            split: One of :attr:`splits`.
            what: For messages, the layout's name.

        Raises:
            InputError: There is no such split, or nothing of it below ``root``.
        """
        if split not in self.splits:
            raise unknown_name(f"split of {what}", split, self.splits)
        for rule in self.splits[split]:
            found = rule.find(root)
            if found.pairs:
                pairs = (replace(pair, crop_gt=self.crop_gt) for pair in found.pairs)
                return replace(found, pairs=tuple(pairs))
        tried = "; ".join(_shown(rule) for rule in self.splits[split])
        raise InputError(f"{root}: no pair of {what}, split '{split}'; expected {tried}")


def _shown(rule: PairingRule) -> str:
    if isinstance(rule, FirstOf):
        return " or ".join(_shown(one) for one in rule.forms)
    if isinstance(rule, Patterns):
        return f"{rule.lq} with {rule.gt}"
    return rule.file


def _same_names(prefix: str, *folders: tuple[str, str]) -> tuple[PairingRule, ...]:
    """Input and truth of the same name, in two folders below a prefix."""
    return tuple(Patterns(f"{prefix}{lq}/{{name}}", f"{prefix}{gt}/{{name}}") for lq, gt in folders)


def _by_split(*folders: tuple[str, str], flat: bool = False) -> dict[str, tuple[PairingRule, ...]]:
    """``train`` and ``test``, as folders of either name that is in use; ``all`` without them."""
    splits: dict[str, tuple[PairingRule, ...]] = {
        split: tuple(rule for name in names for rule in _same_names(f"{name}/", *folders))
        for split, names in (
            ("train", ("train", "training_set")),
            ("test", ("test", "testing_set")),
        )
    }
    if flat:
        splits["all"] = _same_names("", *folders)
    return splits


def _scenes(*prefixes: str) -> tuple[PairingRule, ...]:
    """Haze sets: one truth to many inputs, named by their scene and whatever follows a ``_``."""
    return tuple(
        Patterns(f"{prefix}{hazy}/{{scene}}_*", f"{prefix}{clear}/{{scene}}")
        for prefix in prefixes
        for hazy in ("hazy", "haze")
        for clear in ("clear", "gt", "GT")
    )


def _reflections(size: str) -> dict[str, tuple[PairingRule, ...]]:
    """UHD4K-RR and UHD8K-RR: JSON lists, which pair files of different names."""
    lists: dict[str, tuple[str, ...]] = {
        "train": (f"train/{size}_train_results_list.json", f"{size}_train_results_list.json"),
        "test": (
            f"test/{size}_test_results_list.json",
            f"{size}_test_results_list.json",
            f"test/cropped/{size}_test_crop_results_list.json",
            f"cropped/{size}_test_crop_results_list.json",
        ),
    }
    layers = ("blended", "transmission_layer")
    return {
        split: (*(RecordList(file, *layers) for file in files), *_same_names(f"{split}/", layers))
        for split, files in lists.items()
    }


def _frames(*prefixes: str) -> tuple[PairingRule, ...]:
    """GT-RAIN: scenes of rainy frames; the truth is the frame's own, in most scenes the first."""
    names = [f"{prefix}{{scene}}/{{name}}" for prefix in prefixes]
    return tuple(
        FirstOf(
            (
                Patterns(f"{name}-R-{{frame}}", f"{name}-C-{{frame}}"),
                Patterns(f"{name}-R-*", f"{name}-C-000"),
            )
        )
        for name in names
    )


INPUT_GT = ("input", "gt")
LQ_GT = ("lq", "gt")
LAYERS = ("blended", "transmission_layer")

LAYOUTS: dict[str, Layout] = {
    **{f"UHR4K-{subset}": Layout(_by_split(LQ_GT)) for subset in ("Syn", "Real", "Rain")},
    "synthesized": Layout({"all": _same_names("", LQ_GT)}),
    **{
        name: Layout(_by_split(INPUT_GT))
        for name in ("UHD-Rain", "UHD-Snow", "4K-Rain13k", "UHD-Haze", "UHD-Blur", "UHD-LL")
    },
    "UHD4K-RR": Layout(_reflections("4k")),
    "UHD8K-RR": Layout(_reflections("8k")),
    "4KID": Layout(_by_split(("hazy", "gt"), flat=True)),
    "Rain100": Layout(
        {
            split: (
                *_same_names(prefix, ("input", "target")),
                Patterns(f"{prefix}rainy/rain-{{n}}", f"{prefix}norain-{{n}}"),
                Patterns(f"{prefix}rain/rain-{{n}}", f"{prefix}norain/norain-{{n}}"),
                Patterns(f"{prefix}rain-{{n}}", f"{prefix}norain-{{n}}"),
                Patterns(f"{prefix}rain/X2/{{n}}x2", f"{prefix}norain/{{n}}"),
                Patterns(f"{prefix}rain/{{n}}x2", f"{prefix}norain/{{n}}"),
            )
            for split, prefix in (("train", "train/"), ("test", "test/"), ("all", ""))
        }
    ),
    "SPA-Data": Layout(
        {
            "train": tuple(
                TextList(f"{folder}real_world.txt") for folder in ("", "Training/real_world/")
            ),
            "test": tuple(
                TextList(f"{folder}real_test_1000.txt")
                for folder in ("", "Testing/", "Testing/real_test_1000/", "real_test_1000/")
            ),
        }
    ),
    "SIR2": Layout(
        {
            "test": (
                Patterns("{subset}/blended/{name}", "{subset}/transmission_layer/{name}"),
                *_same_names("", LAYERS),
            )
        }
    ),
    "Nature": Layout(_by_split(("natural_I", "natural_T"), LAYERS, flat=True)),
    "Real20": Layout(_by_split(LAYERS, flat=True)),
    "RESIDE": Layout(
        {
            "its": _scenes("ITS/", "ITS/train/"),
            "ots": _scenes("OTS/", "OTS/train/"),
            "sots-indoor": _scenes("SOTS/indoor/", "SOTS/indoor/nyuhaze500/"),
            "sots-outdoor": _scenes("SOTS/outdoor/"),
        },
        crop_gt=True,
    ),
    "O-HAZE": Layout(
        {
            split: tuple(
                Patterns(f"{prefix}hazy/{{scene}}_hazy", f"{prefix}{gt}/{{scene}}_GT")
                for gt in ("GT", "gt")
            )
            for split, prefix in (("train", "train/"), ("test", "test/"), ("all", ""))
        }
    ),
    "Haze4K": Layout({split: _scenes(f"{split}/") for split in ("train", "test")}),
    "8KDehaze": Layout({"all": (Patterns("cloud_L*/{name}", "clear/{name}"),)}),
    "GT-RAIN": Layout(
        {s: _frames(f"GT-RAIN_{s}/", f"{s}/") for s in ("train", "val", "test")},
    ),
    "LHP-Rain": Layout(_by_split(INPUT_GT, ("input", "target"))),
    "OpenRR-5k": Layout(
        {
            "train": tuple(
                rule
                for folder in ("train_5000/", "OpenRR-5k_train/", "train/")
                for rule in _same_names(folder, LAYERS, ("blended", "transmission"))
            ),
            "val": (
                *_same_names("OpenRR-5k_val/", LAYERS),
                *_same_names("val_300_", ("blended", "transmission")),
                *_same_names("val/", LAYERS, ("blended", "transmission")),
            ),
        }
    ),
}
"""Named layouts of public sets; a set's folder is the one that its archive unpacks to."""


def find_pairs(
    root: Path,
    layout: str | None = None,
    split: str | None = None,
    lq: str | None = None,
    gt: str | None = None,
) -> Pairing:
    """Pair the files of a set.

    Args:
        root: The set's folder.
        layout: A name of :data:`LAYOUTS`, with its ``split``; or else ``lq`` and ``gt``.
        split: Of the layout; not needed where it has one only.
        lq: The inputs' pattern, as of :class:`Patterns`.
        gt: The truths' pattern.

    Raises:
        InputError: The folder, layout or split doesn't exist, nothing is found, or what is asked
            for is not clear.
    """
    if not root.is_dir():
        raise InputError(
            f"{root}: no such folder; expected the set's own, with its images below it"
        )
    if layout is None:
        if lq is None or gt is None:
            raise InputError("a paired set needs a layout and its split, or the patterns lq and gt")
        found = Patterns(lq, gt).find(root)
        if not found.pairs:
            raise InputError(f"{root}: no pair of {lq} with {gt}")
        return found
    if lq is not None or gt is not None:
        raise InputError(f"layout {layout} says where lq and gt are; leave out one or the other")
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    known = LAYOUTS[layout]
    if split is None:
        if len(known.splits) > 1:
            raise InputError(f"layout {layout} needs a split: {', '.join(known.splits)}")
        (split,) = known.splits
    return known.find(root, split, layout)


def find_layouts(root: Path, names: Iterable[str] | None = None) -> dict[str, dict[str, Pairing]]:
    """Layouts that a folder has: their names, and what each of their splits pairs.

    Those with the most pairs come first; among equals, one that the folder is named after.

    Args:
        root: The folder.
        names: Of the layouts to try; by default all.

    Raises:
        InputError: There is no such layout.
    """
    found: dict[str, dict[str, Pairing]] = defaultdict(dict)
    for name in LAYOUTS if names is None else names:
        if name not in LAYOUTS:
            raise unknown_name("layout", name, LAYOUTS)
        for split in LAYOUTS[name].splits:
            try:
                found[name][split] = LAYOUTS[name].find(root, split, name)
            except InputError:
                continue  # another layout's, or a split that isn't there

    def rank(name: str) -> tuple[int, bool]:
        pairs = sum(len(pairing.pairs) for pairing in found[name].values())
        return -pairs, name.lower() not in root.resolve().name.lower()

    return {name: dict(found[name]) for name in sorted(found, key=rank) if found[name]}


def unpaired(pairing: Pairing, root: Path) -> InputError | None:
    """An error that names the files without partners, if there are any."""
    problems = list(pairing.problems())
    if not problems:
        return None
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return InputError(
        f"{root}: {len(problems)} files without their partners: {'; '.join(problems[:SHOWN])}"
        f"{more}. Add or remove them, or leave them out by skip_unpaired: true"
    )


__all__ = [
    "LAYOUTS",
    "FirstOf",
    "Layout",
    "Pair",
    "Pairing",
    "Patterns",
    "RecordList",
    "TextList",
    "find_layouts",
    "find_pairs",
    "read_pair",
    "unpaired",
]
