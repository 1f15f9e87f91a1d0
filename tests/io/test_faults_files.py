"""Situations of public bug reports, in files: nothing is lost, left out or stale without a word."""

import dataclasses
import json
import os
import shutil
import struct
import unicodedata
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pyvips
import tifffile
import torch
from demo_data import photo
from harness import run_command
from image_cases import icc
from networks import TINY
from PIL import Image

from glsgn_plugins import GLSGN, InputError
from glsgn_plugins.cli.glsgn import main
from glsgn_plugins.data.layouts import Pair, find_pairs
from glsgn_plugins.data.prepare import unique_stems
from glsgn_plugins.io import exif, formats, photographs
from glsgn_plugins.io.images import png, read_image


@pytest.fixture(scope="module")
def photograph():
    return np.ascontiguousarray(read_image(photo("coffee.png"))[100:160, 100:180])


@pytest.fixture
def restore(weights, tmp_path, monkeypatch, capsys):
    """Runs ``glsgn restore`` in an empty folder: its exit code and what it says."""
    monkeypatch.chdir(tmp_path)

    def run(*argv, device="cpu"):
        code = main(["restore", *map(str, argv), "--weights", str(weights), "--device", device])
        said = "".join(capsys.readouterr())
        assert "Traceback" not in said
        return code, said

    return run


# --- what a format can't hold --------------------------------------------------------------------


def with_alpha(photograph, value):
    alpha = np.full(photograph.shape[:2], 255, np.uint8)
    alpha[:, :8] = value
    return np.dstack([photograph, alpha])


@pytest.mark.parametrize("target", ["b.jpg", "b.png", "b.webp", "b.tif"])
@pytest.mark.parametrize("opaque", [True, False])
def test_transparency_is_kept_or_refused_before_the_work(target, opaque, photograph, restore):
    Image.fromarray(with_alpha(photograph, 255 if opaque else 0)).save("a.png")
    code, said = restore("a.png", target)
    if target == "b.jpg" and not opaque:
        assert code == 1
        assert "b.jpg: JPEG holds no transparency (alpha)" in said
        assert "forward" not in said
        assert not Path(target).exists()
        return
    assert code == 0
    kept = photographs.read(Path(target)).alpha
    if target == "b.jpg":
        assert "leaves out an alpha channel that is opaque everywhere" in said
    elif kept is not None or target != "b.webp":  # which has none where nothing is transparent
        assert np.array_equal(kept[..., 0], photographs.read(Path("a.png")).alpha[..., 0])


def chunk(kind, content):
    total = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + total


GAMMA = chunk(b"gAMA", struct.pack(">I", 100000))
SRGB = chunk(b"gAMA", struct.pack(">I", 45455))
WIDE = chunk(b"cHRM", struct.pack(">8I", *(31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)))
HDR = chunk(b"cICP", bytes((9, 16, 0, 1)))


@pytest.mark.parametrize(
    ("chunks", "plain"),
    [(GAMMA, False), (SRGB, True), (SRGB + WIDE, False), (HDR, False), (b"", True)],
    ids=["linear", "sRGB", "Display P3", "HDR", "none"],
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_colours_that_a_png_tells_are_kept_or_refused(chunks, plain, suffix, photograph, restore):
    Image.fromarray(photograph).save("p.png")
    content = Path("p.png").read_bytes()
    Path("a.png").write_bytes(content[:33] + chunks + content[33:])
    target = Path(f"b{suffix}")
    code, said = restore("a.png", target)
    if suffix == ".png":
        assert code == 0
        assert photographs.read(target).about.colour == photographs.read(Path("a.png")).about.colour
    elif plain:
        assert code == 0
    else:
        assert code == 1
        assert "tells its colours by" in said
        assert "forward" not in said
        assert not target.exists()


def grey_icc():
    """A profile of grey pictures, of gamma 1.8: the smallest that decoders take."""

    def number(x):
        return struct.pack(">i", round(x * 65536))

    tags = [
        (b"desc", b"desc\0\0\0\0" + struct.pack(">I", 5) + b"Grey\0" + bytes(79)),
        (b"cprt", b"text\0\0\0\0none\0"),
        (b"wtpt", b"XYZ \0\0\0\0" + number(0.9642) + number(1) + number(0.8249)),
        (b"kTRC", b"curv\0\0\0\0" + struct.pack(">IH", 1, int(1.8 * 256))),
    ]
    table, body = struct.pack(">I", len(tags)), b""
    start = 132 + 12 * len(tags)
    for tag, content in tags:
        content += bytes(-len(content) % 4)
        table += tag + struct.pack(">II", start + len(body), len(content))
        body += content
    head = struct.pack(">I", start + len(body)) + b"none" + struct.pack(">I", 0x02400000)
    head += b"mntrGRAYXYZ " + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acspAPPL" + bytes(4)
    head += b"nonenone" + bytes(12) + number(0.9642) + number(1) + number(0.8249) + b"none"
    return head + bytes(128 - len(head)) + table + body


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_a_grey_profile_is_kept_or_refused(suffix, photograph, restore):
    Image.fromarray(photograph[..., 1]).save("a.png", icc_profile=grey_icc())
    code, said = restore("a.png", f"b{suffix}")
    if suffix == ".webp":
        assert code == 1
        assert "can't hold the ICC profile of grey pictures" in said
        assert "forward" not in said
    else:
        assert code == 0
        assert photographs.read(Path(f"b{suffix}")).header.get("icc-profile-data") == grey_icc()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("size", [200, 100_000])
def test_xmp_is_kept_or_its_loss_is_said(suffix, size, photograph, restore):
    image = pyvips.Image.new_from_array(photograph).copy(interpretation="srgb")
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + b"x" * size + b"</x:xmpmeta>"
    image.set_type(pyvips.GValue.blob_type, "xmp-data", xmp)
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc())
    image.write_to_file("a.tif")
    code, said = restore("a.tif", f"b{suffix}")
    assert code == 0
    after = photographs.read(Path(f"b{suffix}")).header
    assert after.get_typeof("xmp-data") or "leaves out XMP" in said
    assert after.get("icc-profile-data") == icc()


@pytest.mark.parametrize(
    ("shape", "suffix", "side"),
    [
        ((40, 17000), ".webp", 16383),
        ((17000, 40), ".webp", 16383),
        ((17000, 40), ".avif", 16384),
        ((65501, 40), ".jpg", 65500),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_the_work(shape, suffix, side, restore):
    Image.fromarray(np.zeros((*shape, 3), np.uint8)).save("a.png")
    code, said = restore("a.png", f"b{suffix}")
    assert code == 1
    assert f"holds sides of {side} at most" in said
    assert "forward" not in said
    assert "stream" not in said


@pytest.mark.parametrize("suffix", [".webp", ".avif", ".jpg"])
def test_what_a_format_can_hold_is_written(suffix, tmp_path):
    side = photographs.SIDES[suffix]
    pixels = pyvips.Image.black(8, side, bands=3).copy(interpretation="srgb")
    pixels.write_to_file(str(tmp_path / f"a{suffix}"), **photographs.SAVERS[suffix])
    header = formats.read_header(tmp_path / f"a{suffix}")
    assert (header.height, header.width) == (side, 8)


def test_lossless_webp_stays_so(photograph, restore):
    for lossless in (True, False):
        Image.fromarray(photograph).save("a.webp", lossless=lossless)
        assert restore("a.webp", "b.webp", "--overwrite")[0] == 0
        assert formats.read_header(Path("b.webp")).lossless == lossless


def test_an_animation_is_refused(photograph, restore):
    frames = [Image.fromarray(np.roll(photograph, k, axis=1)) for k in range(3)]
    frames[0].save("a.png", save_all=True, append_images=frames[1:])
    code, said = restore("a.png", "b.png")
    assert code == 1
    assert "3 frames or pages" in said


def test_extra_channels_stay_in_tiff_and_are_refused_elsewhere(photograph, restore):
    spot = np.dstack([photograph, photograph[..., :2]])
    tifffile.imwrite("a.tif", spot, photometric="rgb", extrasamples=(0, 0))
    assert restore("a.tif", "b.tif")[0] == 0
    assert np.array_equal(photographs.read(Path("b.tif")).alpha, photograph[..., :2])
    code, said = restore("a.tif", "b.png")
    assert code == 1
    assert "RGB with 2 extra channels, which .tif alone holds" in said


def test_a_thumbnail_is_no_page(photograph, restore):
    with tifffile.TiffWriter("a.tif") as file:
        file.write(photograph, photometric="rgb")
        file.write(photograph[::4, ::4].copy(), photometric="rgb", subfiletype=1)
    code, said = restore("a.tif", "b.tif")
    assert code == 0
    assert "leaves out smaller copies of the picture" in said
    assert photographs.read(Path("b.tif")).pixels.shape == photograph.shape


def test_output_that_is_not_finite_is_no_black_picture(photograph, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photograph).save("a.png")
    state = {k: v * float("nan") for k, v in GLSGN(**TINY).state_dict().items()}
    torch.save(state, "nan.pth")
    argv = ["restore", "a.png", "b.png", "--weights", "nan.pth", "--device", "cpu"]
    assert main(argv) == 1
    assert (
        "a.png: the network's output is not finite: its weights aren't" in capsys.readouterr().err
    )
    assert not Path("b.png").exists()


# --- damage --------------------------------------------------------------------------------------


def damaged_jpeg(photograph, how):
    file = Path("whole.jpg")
    Image.fromarray(photograph).save(file, quality=90)
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = {"zeros": bytes(40), "ones": b"\xff" * 40}[how]
    file.unlink()
    return bytes(content)


@pytest.mark.parametrize("how", ["zeros", "ones"])
def test_a_jpeg_that_is_damaged_in_the_middle_is_named_by_every_command(
    how, photograph, restore, capsys
):
    for side in ("lq", "gt"):
        Path("set", side).mkdir(parents=True)
    Path("set/lq/0.jpg").write_bytes(damaged_jpeg(photograph, how))
    Path("set/gt/0.png").write_bytes(png(photograph))
    code, said = restore("set/lq/0.jpg", "b.jpg")
    assert code == 1
    assert "0.jpg: damaged" in said
    assert main(["prepare", "set", "--lq", "lq/{n}", "--gt", "gt/{n}"]) == 1
    assert "0.jpg: damaged" in capsys.readouterr().out
    assert (
        main(["synthesize", "rain", "--clean", "set/lq", "--out", "rainy", "--workers", "1"]) == 1
    )
    assert "0.jpg: damaged" in capsys.readouterr().err


def test_damaged_and_huge_tiffs_do_not_end_a_synthesis(photograph, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("clean").mkdir()
    Image.fromarray(photograph).save("clean/a.png")
    tifffile.imwrite("clean/b.tif", photograph, photometric="rgb", compression="zlib")
    whole = Path("clean/b.tif").read_bytes()
    Path("clean/c.tif").write_bytes(whole[: len(whole) // 2])
    Path("clean/d.tif").write_bytes(whole[:200] + os.urandom(300) + whole[500:])
    # Above Pillow's limit, which is 16384x10922 pixels unless set.
    tifffile.imwrite("clean/e.tif", photograph[..., 0] > 99, compression="zlib")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    code = main(["synthesize", "rain", "--clean", "clean", "--out", "set", "--workers", "1",
                 "--size", "64x48"])  # fmt: skip
    said = capsys.readouterr()
    assert code == 1
    assert "c.tif" in said.err
    assert "Traceback" not in said.err
    assert {"a.png", "b.png", "e.png"} <= {p.name for p in Path("set/lq").iterdir()}


def test_a_bigtiff_tag_that_counts_more_than_the_file_has(photograph, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, photograph, photometric="rgb", bigtiff=True, software="x" * 40)
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<HH", 305, 2))
    content[at + 4 : at + 12] = struct.pack("<Q", 2**62)
    path.write_bytes(content)
    assert exif.of_tiff(path) is None
    assert np.array_equal(photographs.read(path).pixels, photograph)


# --- names and folders ---------------------------------------------------------------------------


def test_names_that_are_no_utf8_do_not_stop_a_folder(photograph, restore, tmp_path):
    Path("in").mkdir()
    Image.fromarray(photograph).save("in/ok.jpg")
    name = os.fsdecode(b"caf\xe9.jpg")
    shutil.copy("in/ok.jpg", Path("in", name))
    os.mkdir(b"in/d\xe9p\xf4t")
    shutil.copy("in/ok.jpg", Path("in", os.fsdecode(b"d\xe9p\xf4t"), "x.jpg"))
    code, _ = restore("in", "out", "--compare")
    assert code == 0
    assert len([p for p in Path("out").rglob("*") if p.is_file()]) == 6
    assert Path("out", name).exists()


def test_such_names_go_through_the_sets_too(photograph, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("clean").mkdir()
    name = os.fsdecode(b"caf\xe9.png")
    Path("clean", name).write_bytes(png(photograph))
    for _ in range(2):  # the second time from its metadata
        done = run_command(
            *("glsgn", "synthesize", "rain", "--clean", "clean", "--out", "set"), cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
    done = run_command(
        *("glsgn", "prepare", "set", "--layout", "synthesized", "--lmdb", "--out", "l"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "caf%E9.png" in Path("l/lq.lmdb/meta_info.txt").read_text()


def test_composed_and_decomposed_names_pair(photograph, tmp_path):
    for side, form in (("lq", "NFC"), ("gt", "NFD")):
        folder = tmp_path / unicodedata.normalize(form, "städte") / side
        folder.mkdir(parents=True)
        (folder / unicodedata.normalize(form, "café.png")).write_bytes(png(photograph))
    found = find_pairs(tmp_path, lq="städte/lq/{name}", gt="städte/gt/{name}")
    assert len(found.pairs) == 1
    assert not list(found.problems())


def test_linked_folders_are_followed_once(photograph, restore):
    Path("in").mkdir()
    Path("else").mkdir()
    Image.fromarray(photograph).save("in/near.png")
    Image.fromarray(photograph).save("else/far.png")
    os.symlink("../else", "in/linked")
    os.symlink("..", "in/loop")
    os.symlink("../out", "in/results")
    assert restore("in", "out")[0] == 0
    written = sorted(str(p) for p in Path("out").rglob("*.png"))
    assert "out/linked/far.png" in written
    assert "out/near.png" in written
    before = len(written)
    assert restore("in", "out")[0] == 0
    assert len(list(Path("out").rglob("*.png"))) == before


def test_stems_are_unique_whatever_the_folders():
    names = ["a/x/1.png", "b/x/1.png", "b/y/1.png", "b_y/1.png", "b_y/1.jpg", "z/1 2.png"]
    stems = unique_stems([Pair(Path("lq", n), Path("gt", n)) for n in names])
    assert len(set(stems)) == len(names)
    assert all(stem.isascii() and " " not in stem and "." not in stem for stem in stems)


def test_a_space_in_a_name_stops_meta_info_alone(photograph, tmp_path, capsys):
    for side, image in (("lq", photograph // 2), ("gt", photograph)):
        (tmp_path / "set" / side).mkdir(parents=True)
        (tmp_path / "set" / side / "a b.png").write_bytes(png(image))
    out = tmp_path / "l"
    argv = ["prepare", str(tmp_path / "set"), "--lq", "lq/{n}", "--gt", "gt/{n}"]
    assert main([*argv, "--lmdb", "--out", str(out)]) == 0
    assert "a%20b.png" in (out / "lq.lmdb/meta_info.txt").read_text()
    assert "No meta_info_all.txt" in capsys.readouterr().out


# --- left out, or stale --------------------------------------------------------------------------


def test_pictures_of_other_kinds_are_counted(photograph, restore, capsys):
    Path("in").mkdir()
    for name in ("1.png", "2.bmp", "3.gif"):
        Image.fromarray(photograph).save(f"in/{name}")
    Path("in/4.PSD").write_bytes(bytes(99))
    Path("in/notes.txt").write_text("no picture")
    code, said = restore("in", "out")
    assert code == 0
    assert "left out, since these kinds aren't read: 1 .gif, 1 .psd" in said
    assert sorted(path.name for path in Path("out").iterdir()) == ["1.png", "2.png"]
    assert main(["synthesize", "rain", "--clean", "in", "--out", "set", "--workers", "1"]) == 0


def test_an_output_of_a_kind_that_is_not_written_is_no_folder(photograph, restore):
    Image.fromarray(photograph).save("a.jpg")
    for target in ("photo.bmp", "photo.HEIC"):
        code, said = restore("a.jpg", target)
        assert code == 2
        assert f"{target}: {Path(target).suffix} isn't written" in said
        assert not Path(target).exists()


def test_a_name_too_long_for_compare_is_said_before_the_work(photograph, restore):
    name = "x" * 245 + ".png"
    Image.fromarray(photograph).save(name)
    code, said = restore(name, "out", "--compare")
    assert code == 1
    assert "its name is too long for --compare" in said
    assert restore(name, "out")[0] == 0


def test_sub_images_are_those_that_were_asked_for_last(photograph, tmp_path):
    folder, out = tmp_path / "set", tmp_path / "sub"
    for side, image in (("lq", photograph // 2), ("gt", photograph)):
        (folder / side).mkdir(parents=True)
        (folder / side / "0.png").write_bytes(png(image))
    argv = ["prepare", str(folder), "--lq", "lq/{n}", "--gt", "gt/{n}", "--out", str(out)]
    for size in (32, 48):
        assert main([*argv, "--sub-images", str(size)]) == 0
        names = [line.split()[0] for line in (out / "meta_info.txt").read_text().splitlines()]
        for side in ("lq", "gt"):
            assert sorted(p.name for p in (out / side).iterdir()) == names
            assert read_image(out / side / names[0]).shape == (size, size, 3)
    (folder / "lq/0.png").write_bytes(png(photograph // 3))
    assert main([*argv, "--sub-images", "48"]) == 0
    assert np.array_equal(read_image(out / "lq" / names[0]), photograph[:48, :48] // 3)
    (out / "lq" / "mine.txt").write_text("kept")
    assert main([*argv, "--sub-images", "48"]) == 2
    assert (out / "lq" / "mine.txt").exists()


@pytest.mark.parametrize("versions", ["1", "2"])
def test_a_photograph_that_is_replaced_gets_pairs_anew(versions, photograph, tmp_path):
    clean, out = tmp_path / "clean", tmp_path / "set"
    clean.mkdir()
    for k in range(2):
        (clean / f"{k}.png").write_bytes(png(np.roll(photograph, k, axis=0)))
    argv = ["synthesize", "rain", "--clean", str(clean), "--out", str(out), "--workers", "1"]
    argv += ["--per-image", versions, "--preset", "plain"]  # whose truth is the photograph
    assert main(argv) == 0
    kept = {p.name: p.stat().st_mtime_ns for p in (out / "lq").iterdir() if p.name[0] == "1"}
    (clean / "0.png").write_bytes(png(photograph[::-1].copy()))
    assert main(argv) == 0
    for file in (out / "gt").glob("0*.png"):
        assert np.array_equal(read_image(file), photograph[::-1])
    assert {name: (out / "lq" / name).stat().st_mtime_ns for name in kept} == kept
    assert len(json.loads((out / "metadata.json").read_text())["pairs"]) == 2 * int(versions)


def test_doctor_tells_of_torchs_flaws(monkeypatch, capsys):
    from glsgn_plugins.cli import doctor

    monkeypatch.setattr(doctor, "trusts_torch", lambda: False)
    monkeypatch.setattr(doctor.compat, "patch_basicsr", lambda: None)
    monkeypatch.setattr(doctor.compat, "patch_mmagic", lambda: None)
    assert main(["doctor"]) == 1
    assert "CVE-2026-24747" in capsys.readouterr().out


def test_upper_case_names_are_read(tmp_path, weights):
    from glsgn_plugins.io.weights import read_weights, write_weights

    found = read_weights(weights)
    write_weights(found.weights, tmp_path / "NET.SAFETENSORS")
    assert read_weights(tmp_path / "NET.SAFETENSORS").weights.keys() == found.weights.keys()
    shutil.copy(tmp_path / "NET.SAFETENSORS", tmp_path / "named.pth")
    assert read_weights(tmp_path / "named.pth").weights.keys() == found.weights.keys()
    with pytest.raises(InputError, match="no such checkpoint"):
        read_weights(tmp_path / "none.SAFETENSORS")


def test_the_gain_map_of_an_hdr_picture_is_left_out_and_said(tmp_path):
    """It is of the picture as it was: an HDR screen would show that one's streaks."""
    photograph = tmp_path / "phone.jpg"
    image = photographs.image_of(np.full((64, 96, 3), 90, np.uint8)).copy()
    image.set_type(pyvips.GValue.blob_type, "gainmap-data", b"of the picture before")
    restored = photographs._with_metadata(
        np.zeros((64, 96, 3), np.uint8), SimpleNamespace(header=image, grey=False, exif=None)
    )
    assert "gainmap-data" in image.get_fields()
    assert "gainmap-data" not in restored.get_fields()
    Image.fromarray(np.full((64, 96, 3), 90, np.uint8)).save(photograph)
    read = photographs.read(photograph)
    read = dataclasses.replace(read, header=image)
    assert "the gain map of an HDR picture" in photographs.check_target(tmp_path / "b.jpg", read)
