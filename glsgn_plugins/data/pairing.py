"""Pairing the files of a folder: by patterns of their names, or by a list beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from glsgn_plugins.data.crops import Image, center_crop
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.files import nfc_name
from glsgn_plugins.io.images import image_files, read_image


@dataclass(frozen=True, slots=True)
class Pair:
    """Two files: an input and its truth, by which it goes; many inputs may share one truth.

    Attributes:
        lq: The input.
        gt: The truth.
        crop_gt: The truth may be larger than the input, which shows its middle.
    """

    lq: Path
    gt: Path
    crop_gt: bool = False

    def __iter__(self) -> Iterator[Path]:
        return iter((self.lq, self.gt))

    def fits(self, lq: tuple[int, int], gt: tuple[int, int]) -> bool:
        """Whether files of these rows and columns can be this pair."""
        if self.crop_gt:
            return gt[0] >= lq[0] and gt[1] >= lq[1]
        return gt == lq

    def misfit(self, lq: str, gt: str) -> InputError:
        """What is said where they can't; ``lq`` and ``gt`` say their sizes."""
        return InputError(f"{self.lq}: {lq}, but its truth {self.gt} has {gt}; they must match")


def read_pair(pair: Pair) -> tuple[Image, Image]:
    """Decode a pair.

    Returns:
        Input and truth, ``(H, W, 3)`` of one size, RGB, uint8 or uint16 each.

    Raises:
        InputError: A file can't be used, or the sizes differ.
    """
    lq, gt = read_image(pair.lq), read_image(pair.gt)
    size, other = ((image.shape[0], image.shape[1]) for image in (lq, gt))
    if not pair.fits(size, other):
        raise pair.misfit(f"{size[1]}x{size[0]} pixels", f"{other[1]}x{other[0]}")
    return lq, center_crop(gt, size)


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
    if pattern.startswith("/") or ".." in pattern.split("/"):
        raise InputError(f"'{pattern}': expected a pattern of what lies below {root}")
    groups: dict[str, str] = {}  # {1} is a field as well, and no name of a group
    expression = ""
    for part in parts:
        field = part[1:-1] if part.startswith("{") else ""
        if part == "*":
            expression += "[^/]*?"
        elif field in groups:
            expression += f"(?P={groups[field]})"
        elif field:
            groups[field] = f"f{len(groups)}"
            expression += f"(?P<{groups[field]}>[^/]+?)"
        else:
            expression += re.escape(nfc_name(part))
    fixed = re.split(r"[{*]", pattern)[0].rpartition("/")[0]
    found = []
    for path in image_files(_there(root, fixed)):
        inner = path.relative_to(root)
        # Macs store names in another form of Unicode than they were given.
        match = re.fullmatch(expression, nfc_name(inner.with_name(inner.stem).as_posix()))
        if match:
            found.append((path, tuple(match[groups[field]] for field in sorted(groups))))
    return found


def _there(root: Path, name: str) -> Path:
    """A file or folder below ``root``, in whichever form of Unicode its name is stored."""
    if (root / name).exists() or nfc_name(name) == name == name.encode("ascii", "ignore").decode():
        return root / name
    at = root
    for part in Path(name).parts:
        inside = sorted(at.iterdir()) if at.is_dir() else []
        at = next((p for p in inside if nfc_name(p.name) == nfc_name(part)), at / part)
    return at


@dataclass(frozen=True)
class FirstOf:
    """Pairs by several patterns: an input takes the truth of the first that has it (GT-RAIN)."""

    forms: tuple[Patterns, ...]

    def find(self, root: Path) -> Pairing:
        """Pair what is below ``root``; nothing found is no error."""
        found = [form.find(root) for form in self.forms]
        pairs: dict[Path, Pair] = {}
        for pairing in reversed(found):
            pairs.update({pair.lq: pair for pair in pairing.pairs})
        used = {pair.gt for pair in pairs.values()}
        truths = {
            path
            for pairing in found
            for path in (*pairing.without_lq, *(pair.gt for pair in pairing.pairs))
        }
        inputs = {path for pairing in found for path in pairing.without_gt}
        return Pairing(
            tuple(pairs[path] for path in sorted(pairs)),
            tuple(sorted(inputs - set(pairs))),
            tuple(sorted(truths - used)),
        )


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
                lq, gt = (_there(listing.parent, name.lstrip("/")) for name in names)
                named.append(Pair(lq, gt))
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


PairingRule = Patterns | FirstOf | RecordList | TextList
