"""What a file is, by its first bytes: in words, for those kinds that nothing here reads."""

from __future__ import annotations

FILM = "a film; photographs are restored, films aren't: take stills out of it (ffmpeg)"
CONVERT = "convert it to PNG or TIFF"

RAW_STARTS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb")
"""Of raw files that are no TIFF: Fujifilm's, Olympus', Panasonic's, Sigma's."""

BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "raw",  # Canon's CR3
}
"""By the brands of an ISO base media file's first box."""

OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"GIF8", f"GIF, of 256 colours; {CONVERT}"),
    (0, b"8BPS", "Photoshop's format; save it as a flat TIFF"),
    (0, b"\0\0\0\x0cjP  ", f"JPEG 2000; {CONVERT}"),
    (0, b"\xff\x4f\xff\x51", f"JPEG 2000; {CONVERT}"),
    (0, b"#?RADIANCE", "Radiance HDR; convert it to OpenEXR"),
    (0, b"#?RGBE", "Radiance HDR; convert it to OpenEXR"),
    (0, b"%PDF", "PDF, a document; take its pictures out (pdfimages -all)"),
    (0, b"%!PS", "PostScript, a document; render it to PNG"),
    (0, b"<svg", "SVG, a drawing; render it to PNG"),
    (0, b"<?xml", "XML, an SVG perhaps; render it to PNG"),
    (0, b"\x1aE\xdf\xa3", FILM),  # Matroska, WebM
    (8, b"AVI ", FILM),
    (0, b"FLV", FILM),
    (0, b"OggS", FILM),
    (0, b"\0\0\x01\xba", FILM),  # MPEG
    (0, b"\0\0\x01\xb3", FILM),
    (0, b"0&\xb2u\x8ef\xcf\x11", FILM),  # Windows Media
    (0, b"PK\x03\x04", "a ZIP archive; unpack it"),
)

READ_ELSEWHERE = "which glsgn restore reads and this doesn't; convert it to PNG"


def kind_of(start: bytes) -> str | None:
    """One of the kinds that ``glsgn restore`` reads and sets don't, or ``None``.

    Args:
        start: A file's first bytes, 64 or more where it has so many.

    Returns:
        ``"HEIC"``, ``"AVIF"``, ``"JPEG XL"``, ``"OpenEXR"`` or ``"raw"``.
    """
    if start[4:8] == b"ftyp":
        length = int.from_bytes(start[:4], "big")
        # The main brand may be mif1, which says nothing of how pixels are coded.
        brands = [start[8:12], *(start[k : k + 4] for k in range(16, min(length, len(start)), 4))]
        return next((BRANDS[brand] for brand in brands if brand in BRANDS), None)
    if start.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "JPEG XL"
    if start.startswith(b"\x76\x2f\x31\x01"):
        return "OpenEXR"
    if start.startswith(RAW_STARTS):
        return "raw"
    return None


def described(start: bytes) -> str:
    """What a file is instead of an image that can be read, and what to do about it."""
    kind = kind_of(start)
    if kind is not None:
        return f"it is {kind}, {READ_ELSEWHERE}"
    if start[4:8] == b"ftyp":
        return f"it is {FILM}"
    for at, magic, said in OTHERS:
        if start[at : at + len(magic)] == magic:
            return f"it is {said}"
    return "it begins like none of JPEG, PNG, TIFF, WebP, BMP"
