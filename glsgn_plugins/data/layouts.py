"""Where public sets keep their inputs and truths, and pairing the files of a folder.

The forms are those that the sets' own READMEs and loaders show (design notes, C.1 and C.2); where
sources disagree, each is listed. The UHR4K sets were never released: their form is our choice, and
what ``glsgn synthesize`` writes.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from glsgn_plugins.data.crops import Image, middle
from glsgn_plugins.data.images import image_files, read_image
from glsgn_plugins.errors import InputError, unknown_name
from glsgn_plugins.listing import same_form

SHOWN = 5
"""Files that a message names before it only counts."""


class Pair(NamedTuple):
    """An input and its truth; many inputs may share one truth."""

    lq: Path
    gt: Path


def read_pair(pair: Pair, crop_gt: bool) -> tuple[Image, Image]:
    """Decode a pair.

    Args:
        pair: Its files.
        crop_gt: The truth may be larger than the input, which shows its middle.

    Returns:
        Input and truth, ``(H, W, 3)`` of one size, RGB, uint8 or uint16 each.

    Raises:
        InputError: A file can't be used, or the sizes differ.
    """
    lq, gt = read_image(pair.lq), read_image(pair.gt)
    if crop_gt:
        gt = middle(gt, (lq.shape[0], lq.shape[1]))
    if lq.shape != gt.shape:
        raise InputError(
            f"{pair.lq}: {lq.shape[1]}x{lq.shape[0]} pixels, but its truth {pair.gt} has "
            f"{gt.shape[1]}x{gt.shape[0]}; they must match"
        )
    return lq, gt


@dataclass(frozen=True)
class Pairing:
    """What was found in a folder.

    Attributes:
        pairs: In the order of the inputs' names.
        without_gt: Inputs that have no truth.
        without_lq: Truths that no input belongs to.
    """

    pairs: tuple[Pair, ...]
    without_gt: tuple[Path, ...] = ()
    without_lq: tuple[Path, ...] = ()

    def problems(self) -> Iterator[str]:
        """A line for each file without its partner."""
        for path in self.without_gt:
            yield f"{path}: an input without its truth"
        for path in self.without_lq:
            yield f"{path}: a truth without an input"


@dataclass(frozen=True)
class Patterns:
    """Pairs by their names.

    A pattern is a path below the set's folder without its extension. ``{field}`` stands for a part
    of a name that input and truth share, ``*`` for any other; neither crosses a ``/``.
    ``hazy/{scene}_*`` and ``clear/{scene}`` pair ``hazy/1400_2.png`` with ``clear/1400.png``.

    Raises:
        InputError: Input and truth have other fields, or none.
    """

    lq: str
    gt: str

    def __post_init__(self) -> None:
        lq, gt = (sorted(set(re.findall(r"{(\w+)}", p))) for p in (self.lq, self.gt))
        if not lq or lq != gt:
            raise InputError(
                f"patterns lq '{self.lq}' and gt '{self.gt}': expected the same {{fields}} in "
                "both, such as lq: hazy/{scene}_* and gt: clear/{scene}"
            )

    def find(self, root: Path) -> Pairing:
        """Pair what is below ``root``; nothing found is no error."""
        inputs, truths = _matches(root, self.lq), _matches(root, self.gt)
        by_key: dict[tuple[str, ...], Path] = {}
        for path, key in truths:
            if key in by_key:
                raise InputError(
                    f"{path}: the same truth as {by_key[key]} by its name; remove one of them"
                )
            by_key[key] = path
        pairs = tuple(Pair(path, by_key[key]) for path, key in inputs if key in by_key)
        used = {pair.gt for pair in pairs}
        return Pairing(
            pairs,
            tuple(path for path, key in inputs if key not in by_key),
            tuple(path for path, _ in truths if path not in used),
        )


def _matches(root: Path, pattern: str) -> list[tuple[Path, tuple[str, ...]]]:
    """Images that a pattern matches, each with its fields in alphabetical order."""
    parts = re.split(r"({\w+}|\*)", pattern)
    seen: set[str] = set()
    expression = ""
    for part in parts:
        field = part[1:-1] if part.startswith("{") else ""
        if part == "*":
            expression += "[^/]*?"
        elif field in seen:
            expression += f"(?P={field})"
        elif field:
            seen.add(field)
            expression += f"(?P<{field}>[^/]+?)"
        else:
            expression += re.escape(same_form(part))
    fixed = re.split(r"[{*]", pattern)[0].rpartition("/")[0]
    found = []
    for path in image_files(_there(root, fixed)):
        inner = path.relative_to(root)
        # Macs store names in another form of Unicode than they were given.
        match = re.fullmatch(expression, same_form(inner.with_name(inner.stem).as_posix()))
        if match:
            fields = match.groupdict()
            found.append((path, tuple(fields[name] for name in sorted(fields))))
    return found


def _there(root: Path, name: str) -> Path:
    """A file or folder below ``root``, in whichever form of Unicode its name is stored."""
    if (root / name).exists() or same_form(name) == name == name.encode("ascii", "ignore").decode():
        return root / name
    at = root
    for part in Path(name).parts:
        inside = sorted(at.iterdir()) if at.is_dir() else []
        at = next((p for p in inside if same_form(p.name) == same_form(part)), at / part)
    return at


@dataclass(frozen=True)
class RecordList:
    """Pairs by a JSON list of records, beside the folders that its keys name (UHD4K-RR)."""

    file: str
    lq: str
    gt: str

    def find(self, root: Path) -> Pairing:
        """Pair what the list names; no list is no error."""
        listing = root / self.file
        if not listing.is_file():
            return Pairing(())
        try:
            records = json.loads(listing.read_text(encoding="utf-8"))
            named = [
                Pair(
                    _there(listing.parent / self.lq, record[self.lq]),
                    _there(listing.parent / self.gt, record[self.gt]),
                )
                for record in records
            ]
        except (ValueError, TypeError, KeyError, RecursionError, AttributeError) as error:
            raise InputError(
                f"{listing}: expected a JSON list of records with the keys '{self.lq}' and "
                f"'{self.gt}' ({type(error).__name__}: {error})"
            ) from None
        return _listed(named, (listing.parent / self.lq, listing.parent / self.gt))


@dataclass(frozen=True)
class TextList:
    """Pairs by a text file with an input and its truth on each line (SPA-Data)."""

    file: str

    def find(self, root: Path) -> Pairing:
        """Pair what the list names; no list is no error."""
        listing = root / self.file
        if not listing.is_file():
            return Pairing(())
        named = []
        for number, line in enumerate(_lines(listing), 1):
            names = line.split()
            if names and len(names) != 2:
                raise InputError(
                    f"{listing}, line {number}: expected an input and its truth, found '{line}'"
                )
            if names:
                # The paths of SPA-Data's lists begin with a slash.
                named.append(Pair(*(_there(listing.parent, n.lstrip("/")) for n in names)))
        return _listed(named, ())


def _lines(listing: Path) -> list[str]:
    try:
        return listing.read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise InputError(f"{listing}: not text in UTF-8 ({error}); write it anew") from None


def _listed(named: Sequence[Pair], folders: Sequence[Path]) -> Pairing:
    """Named pairs whose files are there; and files of the folders that nothing names."""
    missing = [path for pair in named for path in pair if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"{missing[0]}{more}: in the set's list, but not there; copy it again")
    known = {path for pair in named for path in pair}
    extra = [[path for path in image_files(f) if path not in known] for f in folders] or [[], []]
    return Pairing(tuple(named), tuple(extra[0]), tuple(extra[1]))


Form = Patterns | RecordList | TextList


@dataclass(frozen=True)
class Layout:
    """How a set is laid out below its folder.

    Attributes:
        splits: Of each split the forms it is found in; the first that finds a pair counts.
        crop_gt: Truths are larger than their inputs, which show their middle.
    """

    splits: Mapping[str, tuple[Form, ...]]
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
        for form in self.splits[split]:
            found = form.find(root)
            if found.pairs:
                return found
        tried = "; ".join(_shown(form) for form in self.splits[split])
        raise InputError(f"{root}: no pair of {what}, split '{split}'; expected {tried}")


def _shown(form: Form) -> str:
    if isinstance(form, Patterns):
        return f"{form.lq} with {form.gt}"
    return form.file


def _same_names(prefix: str, *folders: tuple[str, str]) -> tuple[Form, ...]:
    """Input and truth of the same name, in two folders below a prefix."""
    return tuple(Patterns(f"{prefix}{lq}/{{name}}", f"{prefix}{gt}/{{name}}") for lq, gt in folders)


def _by_split(*folders: tuple[str, str], flat: bool = False) -> dict[str, tuple[Form, ...]]:
    """``train`` and ``test``, as folders of either name that is in use; ``all`` without them."""
    splits: dict[str, tuple[Form, ...]] = {
        split: tuple(form for name in names for form in _same_names(f"{name}/", *folders))
        for split, names in (
            ("train", ("train", "training_set")),
            ("test", ("test", "testing_set")),
        )
    }
    if flat:
        splits["all"] = _same_names("", *folders)
    return splits


def _scenes(*prefixes: str) -> tuple[Form, ...]:
    """Haze sets: one truth to many inputs, named by their scene and whatever follows a ``_``."""
    return tuple(
        Patterns(f"{prefix}{hazy}/{{scene}}_*", f"{prefix}{clear}/{{scene}}")
        for prefix in prefixes
        for hazy in ("hazy", "haze")
        for clear in ("clear", "gt", "GT")
    )


def _reflections(size: str) -> dict[str, tuple[Form, ...]]:
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
        raise InputError(f"{root}: no such folder; expected the set's own")
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
    "Layout",
    "Pair",
    "Pairing",
    "Patterns",
    "RecordList",
    "TextList",
    "find_layouts",
    "find_pairs",
    "unpaired",
]
