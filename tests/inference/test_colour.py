"""Profiles: a picture is restored alike in whatever colours it is stored, and keeps those."""

import io
import struct
import zlib

import numpy as np
import pytest
import pyvips
import torch
from demo_data import photo
from PIL import Image, ImageCms

from glsgn_plugins import restore, restore_array
from glsgn_plugins.cli.glsgn import main
from glsgn_plugins.inference.colour import colours_of
from glsgn_plugins.io import photographs, profiles
from glsgn_plugins.io.images import read_image
from glsgn_plugins.io.weights import read_glsgn

ADOBE = profiles.Primaries(profiles.D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PROPHOTO = profiles.Primaries(
    (0.3457, 0.3585), (0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)
)
WIDE = {
    "Display P3": profiles.matrix_profile(profiles.DISPLAY_P3, profiles.SRGB_CURVE),
    "Adobe RGB": profiles.matrix_profile(ADOBE, (563 / 256,)),
    "ProPhoto": profiles.matrix_profile(PROPHOTO, (1.8,)),
    "linear": profiles.matrix_profile(profiles.SRGB, profiles.LINEAR),
}
SRGB = pyvips.Operation.call("profile_load", "srgb")


def picture():
    return np.ascontiguousarray(read_image(photo("coffee.png"))[60:220, 100:340])


def save(path, data, profile=None):
    grey, deep = data.shape[2] == 1, data.dtype == np.uint16
    kind = (("b-w", "grey16") if grey else ("srgb", "rgb16"))[deep]
    image = pyvips.Image.new_from_array(data).copy(interpretation=kind)
    if profile is not None:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    image.write_to_file(str(path))
    return path


def by_littlecms(data, source, target):
    """8 bits from one profile to another, by Pillow: not by the code that is tested."""
    one, two = (ImageCms.ImageCmsProfile(io.BytesIO(p)) for p in (source, target))
    mode = "L" if data.ndim == 2 else "RGB"
    image = Image.fromarray(data)
    return np.asarray(
        ImageCms.profileToProfile(image, one, two, renderingIntent=1, outputMode=mode)
    )


def light_of(values):
    """By sRGB's curve."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def command(*argv):
    return main(["restore", *map(str, argv), "--device", "cpu"])


TO_XYZ = np.array(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)
TO_PROPHOTO = np.array(
    [
        [1.3459433, -0.2556075, -0.0511118],
        [-0.5445989, 1.5081673, 0.0205351],
        [0, 0, 1.2118128],
    ]
)
DEEP = {
    "linear": lambda light: light,
    "ProPhoto": lambda light: (light @ (TO_PROPHOTO @ TO_XYZ).T).clip(0, 1) ** (1 / 1.8),
}
"""From linear sRGB, for those that need 16 bits: eight have too few steps for so much."""


@pytest.mark.parametrize("name", WIDE)
def test_a_wide_picture_and_its_srgb_version_are_restored_alike(name, weights, tmp_path):
    data = picture()
    if name in DEEP:
        stored = np.rint(65535 * DEEP[name](light_of(data / 255))).astype(np.uint16)
    else:
        stored = by_littlecms(data, SRGB, WIDE[name])
    path = save(tmp_path / "wide.png", stored, WIDE[name])
    assert command(path, tmp_path / "out", "--weights", weights) == 0
    after = pyvips.Image.new_from_file(str(tmp_path / "out" / path.name))
    assert after.get("icc-profile-data") == WIDE[name]
    # Only what is inside sRGB can be compared: the rest keeps what sRGB can't show.
    expected = restore_array(read_glsgn(weights), data).astype(float)
    shown = after.icc_transform("srgb", embedded=True, intent="relative", depth=16).numpy() / 257
    inside = ((expected > 0) & (expected < 255)).all(-1)
    assert inside.mean() > 0.5
    assert np.abs(shown - expected)[inside].mean() < 0.5
    assert np.abs(expected - data)[inside].mean() > 5
    top = np.iinfo(stored.dtype).max
    assert np.abs(255 * stored / top - data).mean() > 3  # as numbers, they are others


def test_colours_beyond_srgb_are_kept(weights, tmp_path):
    """A green of Display P3 that sRGB hasn't, in the midst of a picture."""
    profile = WIDE["Display P3"]
    data = by_littlecms(picture(), SRGB, profile).copy()
    data[40:100, 60:160] = (20, 230, 40)
    path = save(tmp_path / "a.png", data, profile)
    assert command(path, tmp_path / "none.png", "--weights", weights, "--strength", 0) == 0
    assert np.array_equal(photographs.read(tmp_path / "none.png").pixels, data)
    assert command(path, tmp_path / "out.png", "--weights", weights, "--strength", 0.1) == 0
    after = photographs.read(tmp_path / "out.png").pixels[45:95, 65:155].astype(int)
    clipped = by_littlecms(by_littlecms(data, profile, SRGB), SRGB, profile)[50, 100].astype(int)
    lost = np.abs(clipped - (20, 230, 40)).max()
    assert lost > 40  # red, which is what makes it a green of sRGB
    colours = colours_of(photographs.read(path), path)
    shown = colours.to_srgb(data)
    change = restore_array(read_glsgn(weights), shown, strength=0.1)
    moved = np.abs(change[45:95, 65:155].astype(int) - shown[45:95, 65:155]).max() / 257
    assert np.abs(after - (20, 230, 40)).max() < lost / 2 + 3 * moved


@pytest.mark.parametrize("gamma", [1.0, 1.8])
def test_grey_pictures_with_a_profile(gamma, weights, tmp_path):
    grey = picture().mean(axis=2)
    profile = profiles.grey_profile((gamma,))
    stored = np.rint(65535 * light_of(grey / 255) ** (1 / gamma)).astype(np.uint16)[..., None]
    path = save(tmp_path / "grey.tif", stored, profile)
    assert command(path, tmp_path / "out.tif", "--weights", weights) == 0
    after = photographs.read(tmp_path / "out.tif")
    assert after.grey
    assert after.header.get("icc-profile-data") == profile
    same = np.rint(grey * 257).astype(np.uint16)[..., None].repeat(3, axis=2)
    expected = restore_array(read_glsgn(weights), same) / 65535
    values = (after.pixels[..., 0] / 65535) ** gamma
    shown = np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)
    # The network may give grey pictures some colour; its lightness is what a grey file holds.
    luma = expected @ np.array([0.2126, 0.7152, 0.0722])
    assert np.abs(shown - luma).mean() < 0.01
    assert np.abs(shown - grey / 255).mean() > 0.02


def png(path, data, **chunks):
    """A PNG with these chunks behind its header."""
    Image.fromarray(data).save(path)
    content = path.read_bytes()
    more = b"".join(
        struct.pack(">I", len(c)) + k.encode() + c + struct.pack(">I", zlib.crc32(k.encode() + c))
        for k, c in chunks.items()
    )
    path.write_bytes(content[:33] + more + content[33:])
    return path


P3_CHRM = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


@pytest.mark.parametrize(
    ("chunks", "profile"),
    [
        ({"cICP": bytes((12, 13, 0, 1))}, WIDE["Display P3"]),
        ({"cICP": bytes((1, 13, 0, 1))}, None),
        ({"cICP": bytes((9, 16, 0, 1))}, None),  # PQ has no white to go by
        ({"gAMA": struct.pack(">I", 100000)}, WIDE["linear"]),
        ({"gAMA": struct.pack(">I", 45455)}, None),
        (
            {"gAMA": struct.pack(">I", 45455), "cHRM": P3_CHRM},
            profiles.matrix_profile(profiles.DISPLAY_P3, (2.2,)),
        ),
        ({"cHRM": bytes(32), "gAMA": bytes(4)}, None),
    ],
)
def test_pngs_that_tell_their_colours_otherwise(chunks, profile, tmp_path):
    path = png(tmp_path / "a.png", picture(), **chunks)
    found = colours_of(photographs.read(path), path)
    assert (found is None) == (profile is None)
    if found is not None:
        shown = found.to_srgb(picture()) / 257
        expected = by_littlecms(picture(), profile, SRGB).astype(int)
        assert np.abs(shown - expected).mean() < 0.6


def test_srgb_by_whatever_profile_goes_in_as_it_is(tmp_path):
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ours = profiles.matrix_profile(profiles.SRGB, profiles.SRGB_CURVE)
    for profile in (None, SRGB, made, ours):
        path = save(tmp_path / "a.png", picture(), profile)
        assert colours_of(photographs.read(path), path) is None


def damaged(name):
    whole = WIDE["Display P3"]
    return {
        "empty": b"\0",
        "text": b"not a profile" * 30,
        "cut": whole[:300],
        "zeros": whole[:132] + bytes(len(whole) - 132),
        "no tags": whole[:128] + bytes(len(whole) - 128),
    }[name]


@pytest.mark.parametrize("name", ["empty", "text", "cut", "zeros", "no tags"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_broken_profile_is_named(name, suffix, weights, tmp_path, capsys):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(picture()).save(path, icc_profile=damaged(name))
    out = tmp_path / f"out{suffix}"
    assert command(path, out, "--weights", weights) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if "a" + suffix in line]
    assert len(said) == 1
    assert f"{path}: its ICC profile is damaged (" in said[0]
    assert "take it out" in said[0]
    assert not out.exists()


def test_a_profile_of_another_space_is_named(weights, tmp_path, capsys):
    cmyk = pyvips.Operation.call("profile_load", "cmyk")
    for name, profile, space in (
        ("cmyk.tif", cmyk, "CMYK"),
        ("grey.tif", profiles.grey_profile((1.8,)), "GRAY"),
    ):
        path = tmp_path / name
        Image.fromarray(picture()).save(path, icc_profile=profile)
        assert command(path, tmp_path / "out.tif", "--weights", weights) == 1
        said = capsys.readouterr().err
        assert f"{path}: its ICC profile is of {space}, but the picture is RGB" in said
        assert not (tmp_path / "out.tif").exists()


def test_the_comparison_shows_both_in_srgb(weights, tmp_path):
    data = picture()
    path = save(tmp_path / "a.png", by_littlecms(data, SRGB, WIDE["ProPhoto"]), WIDE["ProPhoto"])
    assert command(path, tmp_path / "out.png", "--weights", weights, "--compare") == 0
    shown = np.asarray(Image.open(tmp_path / "out.png_compare.jpg"))[:, : data.shape[1]]
    assert np.abs(shown.astype(int) - data).mean() < 4


def test_keep_colour_changes_luma_alone(weights, tmp_path):
    net = read_glsgn(weights)
    x = torch.from_numpy(picture()).permute(2, 0, 1)[None].float() / 255
    kept, whole = restore(net, x, keep_colour=True), restore(net, x)
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    change = kept - x
    assert torch.allclose(change[:, 0], change[:, 2], atol=1e-6)
    assert torch.allclose((kept * luma).sum(1), (whole * luma).sum(1), atol=1e-5)
    path = save(tmp_path / "a.png", picture())
    argv = (path, tmp_path / "out.png", "--weights", weights, "--keep-colour")
    assert command(*argv) == 0
    expected = restore_array(net, picture(), keep_colour=True)
    assert np.abs(photographs.read(tmp_path / "out.png").pixels.astype(int) - expected).max() <= 1
    assert np.abs(expected.astype(int) - restore_array(net, picture())).mean() > 1
