"""ICC profiles: what they are of, and those that stand for PNG's own ways to tell colours.

Written after ICC.1:2010 (version 4.3), of which the parts for matrix and grey profiles are here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from glsgn_plugins.errors import InputError

SIGNATURE = b"acsp"
SMALLEST = 132
"""Bytes of a profile's header and of an empty list of tags."""

D50 = (0.9642, 1.0, 0.8249)
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)

Chromaticity = tuple[float, float]


class Primaries(NamedTuple):
    """Chromaticities x, y of an RGB space."""

    white: Chromaticity
    red: Chromaticity
    green: Chromaticity
    blue: Chromaticity


D65 = (0.3127, 0.3290)
SRGB = Primaries(D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3 = Primaries(D65, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
REC2020 = Primaries(D65, (0.708, 0.292), (0.17, 0.797), (0.131, 0.046))

LINEAR = (1.0,)
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
REC709_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
"""Gamma, a, b, c, d of an ICC curve: ``(a x + b) ** gamma`` from d up, ``c x`` below."""

CICP_PRIMARIES = {1: SRGB, 9: REC2020, 12: DISPLAY_P3}
CICP_CURVES: dict[int, tuple[float, ...]] = {
    1: REC709_CURVE,
    4: (2.2,),
    5: (2.8,),
    6: REC709_CURVE,
    8: LINEAR,
    13: SRGB_CURVE,
    14: REC709_CURVE,
    15: REC709_CURVE,
}
"""By the numbers of ITU-T H.273. PQ and HLG aren't here: they have no white to go by."""


def space_of(profile: bytes, source: object) -> str:
    """The colour space that a profile is of: ``"RGB"``, ``"GRAY"``, ``"CMYK"``, ``"Lab"`` ...

    Raises:
        InputError: It is no ICC profile, or cut short.
    """
    whole = len(profile) >= SMALLEST and profile[36:40] == SIGNATURE
    if not whole or int.from_bytes(profile[:4], "big") > len(profile):
        raise damaged(source, "no ICC profile, or cut short")
    return profile[16:20].decode("ascii", "replace").strip()


def damaged(source: object, reason: str) -> InputError:
    """What to say of a profile that can't be used."""
    return InputError(
        f"{source}: its ICC profile is damaged ({reason}); put another one in, or take it out "
        "(exiftool -icc_profile= FILE) if the picture is sRGB"
    )


def of_png(colour: dict[bytes, bytes]) -> bytes | None:
    """A profile for what PNG's chunks cICP, gAMA and cHRM say; ``None`` where none can be made.

    Args:
        colour: Content by kind of chunk.
    """
    if b"cICP" in colour:
        primaries, transfer, matrix, full = (*colour[b"cICP"], 0, 0, 0, 0)[:4]
        if primaries in CICP_PRIMARIES and transfer in CICP_CURVES and (matrix, full) == (0, 1):
            return matrix_profile(CICP_PRIMARIES[primaries], CICP_CURVES[transfer])
        return None
    where = primaries_of(colour.get(b"cHRM", b"")) or SRGB
    encoded = int.from_bytes(colour.get(b"gAMA", b""), "big")
    curve = (100000 / encoded,) if encoded else SRGB_CURVE
    try:
        return matrix_profile(where, curve)
    except (ZeroDivisionError, np.linalg.LinAlgError, struct.error):
        return None  # primaries that span nothing


def primaries_of(chunk: bytes) -> Primaries | None:
    """What PNG's chunk cHRM says, in 1/100000; ``None`` where it isn't of its length."""
    if len(chunk) != 32:
        return None
    x = [value / 100000 for value in struct.unpack(">8I", chunk)]
    return Primaries((x[0], x[1]), (x[2], x[3]), (x[4], x[5]), (x[6], x[7]))


def are_srgb(primaries: Primaries | None) -> bool:
    """Whether primaries are sRGB's to 0.001, as encoders round them."""
    return primaries is not None and bool(np.abs(np.subtract(primaries, SRGB)).max() < 0.001001)


def matrix_profile(primaries: Primaries, curve: Sequence[float]) -> bytes:
    """A profile of an RGB space.

    Args:
        primaries: Of the space.
        curve: From values to light: a gamma alone, or five parameters as in :data:`SRGB_CURVE`.
    """
    tags = {b"wtpt": _numbers(D50), b"chad": _fixed(b"sf32", list(_adapted(primaries).ravel()))}
    tags |= {
        name: _numbers(column)
        for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), xyz_matrix(primaries).T)
    }
    tags |= {name: _curve(curve) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return _profile(b"RGB ", tags)


def xyz_matrix(primaries: Primaries) -> np.ndarray:
    """``(3, 3)``: from light in an RGB space to XYZ, seen by an eye that is used to D50."""
    columns = np.array([_xyz(point) for point in primaries[1:]]).T
    light = columns * np.linalg.solve(columns, np.array(_xyz(primaries.white)))
    return np.asarray(_adapted(primaries) @ light)


def _adapted(primaries: Primaries) -> np.ndarray:
    """By Bradford: profiles are relative to D50, so the eye's adaptation goes into the matrix."""
    gains = (BRADFORD @ np.array(D50)) / (BRADFORD @ np.array(_xyz(primaries.white)))
    return np.asarray(np.linalg.inv(BRADFORD) @ np.diag(gains) @ BRADFORD)


def light_of(values: np.ndarray) -> np.ndarray:
    """By sRGB's curve, from values in [0, 1]."""
    gamma, a, b, c, start = SRGB_CURVE
    return np.where(values < start, c * values, (a * values + b) ** gamma)


def srgb_of(light: np.ndarray) -> np.ndarray:
    """The other way."""
    gamma, a, b, c, start = SRGB_CURVE
    return np.where(light < c * start, light / c, (light ** (1 / gamma) - b) / a)


def grey_profile(curve: Sequence[float]) -> bytes:
    """A profile of a grey scale; ``curve`` as of :func:`matrix_profile`."""
    return _profile(b"GRAY", {b"wtpt": _numbers(D50), b"kTRC": _curve(curve)})


def _xyz(point: Chromaticity) -> tuple[float, float, float]:
    x, y = point
    return x / y, 1.0, (1 - x - y) / y


def _fixed(kind: bytes, values: Sequence[float]) -> bytes:
    rounded = [round(float(value) * 65536) for value in values]
    return kind + bytes(4) + struct.pack(f">{len(rounded)}i", *rounded)


def _numbers(values: Sequence[float]) -> bytes:
    return _fixed(b"XYZ ", values)


def _curve(curve: Sequence[float]) -> bytes:
    kind = {1: 0, 5: 3}[len(curve)]
    body = _fixed(b"", curve)[4:]
    return b"para" + bytes(4) + struct.pack(">HH", kind, 0) + body


def _text(text: str) -> bytes:
    content = text.encode("utf-16-be")
    return struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(content), 28) + content


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": _text("by glsgn-plugins"), b"cprt": _text("CC0"), **tags}
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(
        ">I4s4s4s4s4s12s4s4sIIIQIiii",
        start + len(body),
        bytes(4),
        bytes((4, 0x30, 0, 0)),
        b"mntr",
        space,
        b"XYZ ",
        struct.pack(">6H", 2000, 1, 1, 0, 0, 0),  # a date there must be
        SIGNATURE,
        bytes(4),
        0,
        0,
        0,
        0,
        0,
        *(round(value * 65536) for value in D50),
    )
    return head.ljust(128, b"\0") + table + body
