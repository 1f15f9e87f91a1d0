"""``glsgn restore``: files keep what they hold, bad ones are named, nothing is left half done."""

import os
import pickle
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import pyvips
import torch
from demo_data import photo
from harness import BIN, run_command
from image_cases import icc
from networks import TINY
from PIL import Image

from glsgn_plugins import GLSGN, restore_array
from glsgn_plugins.cli.glsgn import main
from glsgn_plugins.inference.colour import colours_of, restore_photograph
from glsgn_plugins.io import photographs
from glsgn_plugins.io.images import read_image
from glsgn_plugins.io.weights import read_glsgn


def picture(dtype=np.uint8, bands=3, size=(60, 90)):
    rgb = read_image(photo("chelsea.png"))[: size[0], : size[1]].astype(np.float32) / 255
    data = {1: rgb[..., :1], 2: rgb[..., :2], 3: rgb, 4: np.dstack([rgb, rgb[..., 0] > 0.5])}
    top = np.iinfo(dtype).max
    return np.rint(data[bands] * top).astype(dtype)


def save(path, data, orientation=None):
    deep = data.dtype == np.uint16
    kind = ("grey16" if deep else "b-w") if data.shape[2] < 3 else ("rgb16" if deep else "srgb")
    image = pyvips.Image.new_from_array(data).copy(interpretation=kind, xres=11.8, yres=11.8)
    if data.shape[2] > 2:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc())
    if orientation:
        image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    image.write_to_file(str(path), **({"lossless": True} if path.suffix == ".webp" else {}))
    return path


def near(one, two):
    """Equal but for rounding: sums are taken in another order in another memory format."""
    return np.abs(one.astype(int) - two).max() <= 1


def in_its_colours(weights, path):
    """What the command is to make of a file; how colours go is tested elsewhere."""
    photograph = photographs.read(path)
    return restore_photograph(read_glsgn(weights), photograph, colours_of(photograph, path))


def command(*argv):
    return main(["restore", *map(str, argv), "--device", "cpu"])


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_a_format_keeps_what_it_holds(suffix, dtype, bands, weights, tmp_path):
    if dtype == np.uint16 and suffix not in photographs.DEEP:
        pytest.skip("holds 8 bits")
    if bands in (2, 4) and suffix == ".jpg":
        pytest.skip("holds no alpha")
    if bands < 3 and suffix == ".webp":
        pytest.skip("holds RGB alone")
    path = save(tmp_path / f"a{suffix}", picture(dtype, bands))
    assert command(path, tmp_path / "out", "--weights", weights) == 0

    before, after = photographs.read(path), photographs.read(tmp_path / "out" / path.name)
    assert after.pixels.dtype == dtype
    assert after.pixels.shape == before.pixels.shape
    assert after.grey == before.grey == (bands < 3)
    if bands in (2, 4):
        assert np.array_equal(after.alpha, before.alpha)
    if bands > 2:
        assert after.header.get("icc-profile-data") == icc()
    assert after.header.xres == pytest.approx(before.header.xres, rel=0.01)

    expected = in_its_colours(weights, path)
    assert np.abs(expected.astype(int) - before.pixels).mean() > 0.01 * np.iinfo(dtype).max
    if suffix in photographs.DEEP and bands > 2:
        assert near(after.pixels, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_kept_and_the_network_sees_upright_pictures(orientation, weights, tmp_path):
    path = save(tmp_path / "a.png", picture(), orientation)
    assert command(path, tmp_path / "out.png", "--weights", weights) == 0
    stored = pyvips.Image.new_from_file(str(tmp_path / "out.png"))
    assert stored.get("orientation") == orientation
    assert (stored.height, stored.width) == (60, 90)

    upright = pyvips.Image.new_from_file(str(path)).autorot().numpy()
    assert np.array_equal(photographs.read(path).pixels, upright)
    assert near(stored.autorot().numpy(), in_its_colours(weights, path))


def chunks(path):
    """Kind and content of a PNG's."""
    content, at = path.read_bytes(), 8
    while at < len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        yield kind, content[at + 8 : at + 8 + length]
        at += 12 + length


def test_texts_of_a_png_are_kept_byte_for_byte(weights, tmp_path, capsys):
    """libvips takes Latin-1 for UTF-8, and a keyword in it stopped the whole folder."""
    texts = [
        (b"tEXt", "Author\0Jürgen Müller".encode("latin-1")),
        (b"tEXt", "Résumé\0x".encode("latin-1")),
        (b"iTXt", b"Title\0\0\0de\0\0" + "Fluß".encode()),
        (b"zTXt", b"Comment\0\0" + zlib.compress(b"long" * 40)),
    ]
    plain = save(tmp_path / "plain.png", picture()).read_bytes()
    added = b"".join(
        struct.pack(">I", len(text)) + kind + text + struct.pack(">I", zlib.crc32(kind + text))
        for kind, text in texts
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(plain[:33] + added + plain[33:])
    (tmp_path / "in/b.png").write_bytes(plain)
    assert command(tmp_path / "in", tmp_path / "out", "--weights", weights) == 0
    held = [one for one in chunks(tmp_path / "out/a.png") if one[0] in (b"tEXt", b"iTXt", b"zTXt")]
    assert held == texts
    assert (tmp_path / "out/b.png").exists()
    capsys.readouterr()
    assert command(tmp_path / "in/a.png", tmp_path / "a.tif", "--weights", weights) == 0
    assert "leaves out the PNG's texts" in capsys.readouterr().err


def test_arrays_keep_their_type(weights):
    net = read_glsgn(weights)
    full = restore_array(net, picture().astype(np.float64) / 255)
    assert full.dtype == np.float64
    for dtype, top in ((np.uint8, 255), (np.uint16, 65535)):
        found = restore_array(net, picture(dtype), tile=40)
        assert found.dtype == dtype
        assert np.abs(found / top - full.clip(0, 1)).max() < 0.6 / top + 2e-6


def test_a_folder_keeps_its_structure_and_goes_on_where_it_was(weights, tmp_path, capsys):
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    save(source / "a.png", picture())
    save(source / "deep" / "b.tif", picture(np.uint16))
    (source / "notes.txt").write_text("no image")
    out = source / "out"  # inside of what is read
    argv = (source, out, "--weights", weights, "--compare")
    assert command(*argv) == 0
    written = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert written == ["a.png", "a.png_compare.jpg", "deep/b.tif", "deep/b.tif_compare.jpg"]
    compared = pyvips.Image.new_from_file(str(out / "a.png_compare.jpg"))
    assert (compared.width, compared.height) == (2 * 90 + 8, 60)

    times = {p: p.stat().st_mtime_ns for p in out.rglob("*.*")}
    (out / "a.png").unlink()
    assert command(*argv) == 0
    assert "1 of 2 skipped: there already" in capsys.readouterr().out
    assert (out / "a.png").exists()
    b = out / "deep/b.tif"
    assert b.stat().st_mtime_ns == times[b]
    assert command(*argv, "--overwrite") == 0
    assert b.stat().st_mtime_ns > times[b]


def test_a_pattern_that_reaches_into_the_output_goes_on_too(weights, tmp_path, capsys):
    for name in ("a.png", "deep/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(tmp_path / name, picture())
    argv = (tmp_path / "**/*.png", tmp_path / "out", "--weights", weights)
    assert command(*argv) == 0
    assert command(*argv) == 0
    assert "2 of 2 skipped: there already" in capsys.readouterr().out


def test_a_comparison_is_made_later_and_takes_nothings_place(weights, tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    save(source / "a.png", picture())
    argv = (source, out, "--weights", weights)
    assert command(*argv, "--strength", "0.5") == 0
    before = (out / "a.png").read_bytes()
    assert command(*argv, "--compare") == 0  # of what is there
    assert (out / "a.png").read_bytes() == before
    compared = read_image(out / "a.png_compare.jpg")[:, 98:]
    far, near_to = (
        np.abs(compared.astype(int) - read_image(folder / "a.png")).mean()
        for folder in (source, out)
    )
    assert near_to < 0.5 * far

    (out / "a.png_compare.jpg").write_bytes(b"mine")
    (out / "a.png").unlink()
    assert command(*argv, "--compare") == 0
    assert (out / "a.png_compare.jpg").read_bytes() == b"mine"
    save(source / "a.png_compare.jpg", picture())
    assert command(source, tmp_path / "other", "--weights", weights, "--compare") == 2
    assert "which --compare writes of" in capsys.readouterr().err


def test_strength_0_is_a_copy_under_either_name_of_a_format(weights, tmp_path, capsys):
    save(tmp_path / "a.jpg", picture())
    argv = (tmp_path / "a.jpg", tmp_path / "b.jpeg", "--weights", weights, "--strength", "0")
    assert command(*argv) == 0
    assert (tmp_path / "b.jpeg").read_bytes() == (tmp_path / "a.jpg").read_bytes()


def test_bad_files_are_named_and_the_rest_go_on(weights, tmp_path, capsys):
    source = tmp_path / "in"
    source.mkdir()
    good = save(source / "good.png", picture())
    for suffix in (".jpg", ".png"):
        whole = save(source / f"cut{suffix}", picture(size=(200, 300))).read_bytes()
        (source / f"cut{suffix}").write_bytes(whole[: len(whole) // 2])
    (source / "zero.jpg").write_bytes(b"")
    (source / "text.png").write_text("no image at all")
    save(source / "dot.png", picture(size=(1, 1)))
    (source / "really.jpg").write_bytes(good.read_bytes())  # a PNG
    save(source / "wide.jpg", np.tile(picture(size=(96, 400)), (1, 50, 1)))  # 20000x96
    Image.fromarray(picture()).convert("CMYK").save(source / "print.jpg")
    pages = [Image.fromarray(picture())] * 2
    pages[0].save(source / "pages.tif", save_all=True, append_images=pages[1:])
    out = tmp_path / "out"
    assert command(source, out, "--weights", weights, "--tile", "stream") == 1
    assert sorted(p.name for p in out.iterdir()) == ["good.png", "really.jpg", "wide.jpg"]
    said = capsys.readouterr().err
    for name in ("cut.jpg", "cut.png", "zero.jpg", "text.png"):
        assert f"{source / name}: " in said
    assert f"{source / 'print.jpg'}: CMYK, whose colours" in said
    assert f"{source / 'pages.tif'}: 2 frames or pages" in said
    assert f"{source / 'dot.png'}: GLSGN expects images of at least 32x32" in said
    assert "Traceback" not in said


def test_a_sixteen_bit_picture_does_not_lose_its_bits_to_jpeg(weights, tmp_path, capsys):
    path = save(tmp_path / "a.png", picture(np.uint16))
    assert command(path, tmp_path / "b.jpg", "--weights", weights) == 1
    assert "16 bits, which .png, .tif, .tiff hold" in capsys.readouterr().err
    assert not (tmp_path / "b.jpg").exists()


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile-was-here",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such checkpoint file"),
        (
            lambda p: torch.save({"params": {"conv.weight": torch.ones(1)}}, p),
            "no weights of GLSGN",
        ),
        (lambda p: torch.save(Hostile(), p), "could run code"),
        (lambda p: p.write_bytes(pickle.dumps(Hostile())), "damaged or no checkpoint"),
        (
            lambda p: torch.save(
                {k: v for k, v in GLSGN(**TINY).state_dict().items() if "norms.0" not in k}, p
            ),
            "not the weights of GLSGN",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(make, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "a.png", picture())
    make(tmp_path / "w.pth")
    assert command(path, tmp_path / "out", "--weights", tmp_path / "w.pth") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "hostile-was-here").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("missing.png", "out"), "no such file"),
        (("*.gif", "out"), "no such file, folder or pattern"),
        (("empty", "out"), "holds no images"),
        (("a.png", "."), "written over itself"),
        (("a.png", "a.png"), "written over itself"),
        (("a.png", "b/a.png", "out"), "would both become"),
        (("a.png", "b/a.png", "out.png"), "a file, but there are 2 images"),
        (("a.txt", "out"), "expected a file that ends in"),
        (("a.png", "a.txt/out"), "can't be made"),
        (("a.png", "out", "--tile", "strem"), "Did you mean 'stream'"),
        (("a.png", "out", "--tile=--5"), "tile: '--5'"),
        (("a.png", "out", "--tile", "²"), "tile: '²'"),
        (("a.png", "out", "--device", "meta"), "--device meta"),
        ((300 * "a", "out"), "no such file, folder or pattern"),
        (("a.png", 300 * "o"), "can't be made"),
        (("a.png", "out", "--device", "gpu9"), "--device gpu9"),
        pytest.param(
            *(("a.png", "out", "--device", "mps"), "--device mps: "),
            marks=pytest.mark.skipif(torch.backends.mps.is_available(), reason="MPS is there"),
        ),
    ],
)
def test_wrong_arguments_end_before_any_work(argv, message, weights, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "b"):
        (tmp_path / folder).mkdir()
    for name in ("a.png", "b/a.png"):
        save(tmp_path / name, picture())
    (tmp_path / "a.txt").write_text("")
    before = (tmp_path / "a.png").read_bytes()
    assert main(["restore", *argv, "--weights", str(weights)]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "a.png").read_bytes() == before
    assert not (tmp_path / "out").is_file()


@pytest.fixture
def shared():
    """A folder that another user reaches, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def unprivileged():
    """Tests may run as root, whom no permission stops."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_what_may_not_be_read_or_written_is_named(weights, shared, capsys):
    weights = shutil.copy(weights, shared)
    source, closed, out = shared / "in", shared / "closed", shared / "out"
    for folder in (source, closed, out, source / "sub"):
        folder.mkdir()
    out.chmod(0o777)
    for name in ("a.png", "b.png"):
        save(source / name, picture())
    save(closed / "c.png", picture())
    (source / "a.png").chmod(0)
    closed.chmod(0)
    try:
        # The first time as who we are: to load what is loaded at need.
        assert command(source / "b.png", shared / "warm", "--weights", weights) == 0
        with unprivileged():
            codes = [
                command(given, to, "--weights", weights)
                for given, to in (
                    (source, out),
                    (closed, out),
                    (closed / "c.png", out),
                    (source / "b.png", closed / "deeper" / "out"),
                    (source / "b.png", source),
                    (source / "b.png", closed),
                )
            ]
    finally:
        closed.chmod(0o755)
    said = capsys.readouterr().err
    assert codes == [1, 2, 2, 2, 2, 2]
    assert [p.name for p in out.iterdir()] == ["b.png"]
    assert f"{source / 'a.png'}: " in said
    assert f"{closed}: can't be read (Permission denied)" in said
    assert f"{closed / 'c.png'}: can't be read (Permission denied)" in said
    assert "Traceback" not in said


def test_a_folder_that_may_not_be_written_to_is_named_before_any_work(weights, shared, capsys):
    path = save(shared / "a.png", picture())
    (shared / "out").mkdir()
    (shared / "out").chmod(0o555)
    with unprivileged():
        assert command(path, shared / "out", "--weights", "not looked at") == 2
    assert f"{shared / 'out'}: can't be written to" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_half_written(weights, tmp_path, capsys):
    """A limit on the size of files stops libvips as a full disk does."""
    path = save(tmp_path / "a.png", picture(size=(200, 300)))
    command_line = f"'{BIN}/glsgn' restore a.png out --weights '{weights}' --device cpu"
    done = subprocess.run(
        ["bash", "-c", f"trap '' XFSZ; ulimit -f 20; exec {command_line}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 1, done.stderr
    assert "out/a.png: can't be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []
    assert path.exists()


def test_interrupted_by_the_keyboard_it_leaves_whole_files_alone(weights, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for k in range(30):
        save(source / f"{k:02}.png", picture(size=(300, 450)))
    argv = [BIN / "glsgn", "restore", "in", "out", "--weights", weights, "--device", "cpu"]
    process = subprocess.Popen(
        argv,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # Shells have what they start in the background ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "out/01.png").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130, said
    assert "goes on from here" in said
    assert "Traceback" not in said
    written = sorted((tmp_path / "out").rglob("*"))
    assert 2 <= len(written) < 30
    for file in written:
        assert photographs.read(file).pixels.shape == (300, 450, 3)


def test_the_real_command_says_what_it_takes(tmp_path):
    done = run_command("glsgn", "restore", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "--weights FILE" in done.stdout


def test_a_reader_that_has_seen_enough_is_no_error():
    """As in ``glsgn path | head -1``."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [BIN / "glsgn", "path"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_any_command_may_be_interrupted(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("glsgn_plugins.cli.path.run", interrupted)
    assert main(["path"]) == 130
    assert capsys.readouterr().err == "glsgn path: interrupted\n"


@pytest.mark.parametrize("argv", [("", "out"), ("a.png", "")])
def test_an_empty_name_is_no_folder(argv, weights, tmp_path, capsys, monkeypatch):
    """Of a variable that isn't set; Python takes it for the current folder."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.png", picture())
    with pytest.raises(SystemExit):
        command(*argv, "--weights", weights)
    assert "an empty name; is a variable not set?" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_folders_may_have_brackets_and_not_be_their_own_output(weights, tmp_path, capsys):
    folder = tmp_path / "day [1]"
    folder.mkdir()
    save(folder / "a.png", picture())
    assert command(folder / "*.png", tmp_path / "out", "--weights", weights) == 0
    assert (tmp_path / "out/a.png").exists()
    capsys.readouterr()
    assert command(folder, folder, "--weights", weights) == 2
    assert "input and output are one folder; give another" in capsys.readouterr().err
