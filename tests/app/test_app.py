"""``glsgn app``: what it does with uploads, and the page in a real browser.

The service is tested everywhere. The page needs Gradio, the browser's tests also playwright and a
Chromium, whose path may be given as GLSGN_CHROMIUM; SCREENSHOTS names a folder for pictures of it.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from demo_data import photo
from harness import environment, run_command
from image_cases import exif, icc, picture
from PIL import Image

from glsgn_plugins.app.service import KEPT, OWN, Limits, Service
from glsgn_plugins.degradations import Rain
from glsgn_plugins.errors import InputError
from glsgn_plugins.inference.colour import colours_of, restore_photograph
from glsgn_plugins.io import photographs
from glsgn_plugins.io.images import read_image
from glsgn_plugins.io.weights import read_glsgn

CHROMIUM = os.environ.get("GLSGN_CHROMIUM") or shutil.which("chromium")
needs_gradio = pytest.mark.skipif(not find_spec("gradio"), reason="Gradio isn't installed")


@pytest.fixture
def service(weights, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    return Service(results, Limits(megabytes=0.05, megapixels=0.02), weights)


def test_an_upload_keeps_its_name_format_depth_and_metadata(service, weights, tmp_path):
    path = tmp_path / "my photograph.png"
    photographs.vips().Image.new_from_array(picture(60, 90, np.uint16)).copy(
        interpretation="rgb16"
    ).write_to_file(str(path))
    shares = []
    found = service.restore(path, OWN, 0.5, progress=shares.append)
    assert found.file.name == path.name
    before, after = photographs.read(path), photographs.read(found.file)
    wanted = restore_photograph(
        read_glsgn(weights), before, colours_of(before, path), strength=0.5
    ).astype(int)
    assert after.pixels.dtype == np.uint16
    assert np.abs(after.pixels - wanted).max() <= 1
    assert np.abs(wanted - before.pixels).mean() > 255
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    for shown, pixels in ((found.before, before.pixels), (found.after, wanted)):
        assert np.abs(photographs.read(shown).pixels - pixels / 257).mean() < 4

    path = tmp_path / "phone.jpg"
    Image.fromarray(picture(60, 90)).save(path, quality=95, exif=exif(6), icc_profile=icc())
    found = service.restore(path, OWN)
    after = photographs.read(found.file)
    assert (after.about.kind, after.about.orientation) == ("JPEG", 6)
    assert after.header.get("icc-profile-data") == icc()
    assert photographs.read(found.before).pixels.shape == (90, 60, 3)  # upright, in sRGB
    assert service.restore(path, OWN, strength=0).after.read_bytes() == found.before.read_bytes()

    # The previews' own names, and the upload's very bytes where nothing is to change.
    for name in ("before.jpg", "after.jpg"):
        shutil.copyfile(path, tmp_path / name)
        found = service.restore(tmp_path / name, OWN)
        assert np.array_equal(photographs.read(found.file).pixels, after.pixels)
        found = service.restore(tmp_path / name, OWN, strength=0)
        assert found.file.read_bytes() == path.read_bytes()

    Image.fromarray(picture(60, 90)).save(tmp_path / "a.bmp")
    assert service.restore(tmp_path / "a.bmp", "rain").file.name == "a.png"


def test_a_picture_longer_than_a_jpeg_has_a_preview(weights, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    long = np.repeat(picture(34, 90)[:, :1], 66000, axis=1)
    Image.fromarray(long).save(tmp_path / "long.png")
    service = Service(results, Limits(megapixels=3), weights)
    found = service.restore(tmp_path / "long.png", OWN, strength=0)
    assert found.file.read_bytes() == (tmp_path / "long.png").read_bytes()
    assert photographs.read(found.before).pixels.shape[1] == 65500


def test_uploads_are_refused_before_they_are_decoded(service, tmp_path):
    def write(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "heavy.png")
    Image.new("RGB", (300, 200)).save(tmp_path / "many.png")
    bomb = tmp_path / "bomb.png"
    Image.new("1", (30000, 30000)).save(bomb, optimize=True)
    service.limits = Limits(megabytes=0.2, megapixels=0.02)
    for path, said in (
        (write("page.html", b"<html></html>"), "expected a file that ends in"),
        (write("film.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0isommp42"), "a film; photographs are"),
        (write("paper.pdf", b"%PDF-1.5"), "PDF, a document"),
        (write("empty.jpg", b""), "empty, 0 bytes"),
        (write("large.jpg", bytes(300_000)), "0.3 MB, but this page takes 0.2"),
        (bomb, "900 megapixels, but this page takes 0.02"),
        (tmp_path / "many.png", "0.1 megapixels, but this page takes"),
    ):
        for ask in (service.check, lambda path: service.restore(path, OWN)):
            with pytest.raises(InputError) as caught:
                ask(path)
            assert said in str(caught.value)
            assert str(caught.value).startswith(path.name)  # and no folder of this machine
    assert list(service.folder.iterdir()) == []
    service.limits = Limits()
    path = tmp_path / "good.png"
    Image.fromarray(picture(60, 90)).save(path)
    with pytest.raises(InputError, match=r"task: 'rian' does not exist\. Did you mean 'rain'"):
        service.restore(path, "rian")
    with pytest.raises(InputError, match="strength: expected a number from 0"):
        service.restore(path, OWN, strength=7)
    assert list(service.folder.iterdir()) == []


def test_results_of_an_hour_ago_are_removed(service, tmp_path):
    service.limits = Limits()
    Image.fromarray(picture(60, 90)).save(tmp_path / "a.png")
    first = service.restore(tmp_path / "a.png", OWN).file.parent
    second = service.restore(tmp_path / "a.png", OWN).file.parent
    old = time.time() - KEPT - 60
    os.utime(first, (old, old))
    third = service.restore(tmp_path / "a.png", OWN).file.parent
    assert sorted(service.folder.iterdir()) == sorted([second, third])


def test_wrong_arguments_are_named(tmp_path):
    done = run_command("glsgn", "app", "--megapixels", "-1", cwd=tmp_path)
    assert done.returncode == 2
    assert "--megapixels: -1.0; expected a number above 0" in done.stderr
    if not find_spec("gradio"):
        done = run_command("glsgn", "app", cwd=tmp_path)
        assert done.returncode == 2
        assert "the page needs Gradio: pip install 'glsgn-plugins[app]'" in done.stderr


@pytest.fixture
def page(request, tmp_path):
    """A running page: its address, its process, and the folder of its temporary files."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path / "temporary"
    folder.mkdir()
    # By the module: a script's Python may be another one's than that which has Gradio.
    command = [sys.executable, "-m", "glsgn_plugins.cli.glsgn", "app", "--port", str(port)]
    process = subprocess.Popen(
        [*command, *getattr(request, "param", ())],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(folder)),
    )
    try:
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        yield f"http://127.0.0.1:{port}/", process, folder
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert not list(folder.glob("glsgn-app-*"))  # nothing is left of what people gave


@pytest.fixture
def browser():
    """A page of a headless Chromium, and what it asks for and complains of."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
    if not CHROMIUM:
        pytest.skip("no Chromium here; GLSGN_CHROMIUM may name one")
    with api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        window = chromium.new_page(viewport={"width": 1400, "height": 900})
        window.asked, window.errors = [], []
        window.on("response", lambda response: window.asked.append(response.url))
        window.on("pageerror", lambda error: window.errors.append(str(error)))
        yield window
        chromium.close()


def screenshot(window, name):
    if folder := os.environ.get("SCREENSHOTS"):
        window.screenshot(path=str(Path(folder, f"{name}.png")))


def peak(process):
    """Bytes of memory that a process has had at most."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


WAIT, LONG = 3 * 60 * 1000, 15 * 60 * 1000
"""Milliseconds for what is short, and for 4K, on a busy core."""


@needs_gradio
def test_a_4k_jpeg_from_end_to_end_in_a_browser(page, browser, tmp_path):
    address, process, _ = page
    clean = np.tile(read_image(photo("rocket.jpg")), (6, 6, 1))[:2160, :3840]
    rainy = Rain().sample(np.random.default_rng(0)).apply(np.ascontiguousarray(clean))
    path = tmp_path / "rainy 4K.jpg"
    block = Image.Exif()
    block[0x0110] = "a camera"
    Image.fromarray(rainy).save(path, quality=95, exif=block.tobytes(), icc_profile=icc())

    browser.goto(address)
    browser.get_by_role("button", name="Restore").wait_for()
    screenshot(browser, "app_start")
    started = peak(process)
    browser.locator("#upload input[type=file]").set_input_files(str(path))
    browser.get_by_text("JPEG, 3840x2160 pixels, 8 bits, RGB").wait_for(timeout=LONG)
    browser.get_by_label("rain", exact=True).check()
    browser.get_by_role("button", name="Restore").click()
    browser.get_by_text("restoring").first.wait_for(timeout=LONG)
    screenshot(browser, "app_progress")
    browser.locator(".glsgn-after").wait_for(timeout=LONG)
    browser.wait_for_function(
        "() => [...document.querySelectorAll('.glsgn img')].every(i => i.naturalWidth == 3840)",
        timeout=LONG,
    )
    # The pictures of the page, with an own network's and the browser's share left out.
    print(f"memory: {started / 2**20:.0f} MiB at the start, {peak(process) / 2**20:.0f} at most")
    assert peak(process) - started < 1.5 * 2**30

    slider, after = browser.locator(".glsgn-slider"), browser.locator(".glsgn-after")
    line, stage = browser.locator(".glsgn-line"), browser.locator(".glsgn-stage")
    screenshot(browser, "app_restored")
    shares, clips = [], set()
    for value in ("0", "250", "1000"):
        slider.fill(value)
        clips.add(after.evaluate("i => i.style.clipPath"))
        shares.append(line.evaluate("l => l.offsetLeft") / stage.evaluate("s => s.clientWidth"))
    assert shares == pytest.approx([0, 0.25, 1], abs=0.01)
    assert len(clips) == 3

    slider.fill("500")
    assert after.evaluate("i => i.getBoundingClientRect().width") < 1400
    browser.get_by_role("button", name="1:1").click()
    assert after.evaluate("i => i.getBoundingClientRect().width * devicePixelRatio") == 3840
    screenshot(browser, "app_one_to_one")
    browser.get_by_role("button", name="1:1").click()
    assert after.evaluate("i => i.getBoundingClientRect().width") < 1400

    with browser.expect_download() as waiting:
        browser.locator("#download").click()
    fetched = tmp_path / "fetched.jpg"
    waiting.value.save_as(fetched)
    assert waiting.value.suggested_filename == path.name
    before, restored = photographs.read(path), photographs.read(fetched)
    assert restored.pixels.shape == (2160, 3840, 3)
    assert restored.header.get("icc-profile-data") == icc()
    assert Image.open(fetched).getexif()[0x0110] == "a camera"
    # Rain off a photograph in a profile that it wasn't taken in, so by how much, not how well.
    assert np.abs(restored.pixels.astype(int) - before.pixels).mean() > 0.5
    assert all(url.startswith((address, "data:", "blob:")) for url in browser.asked)
    assert browser.errors == []


@needs_gradio
@pytest.mark.parametrize("page", [("--megabytes", "0.5", "--megapixels", "0.1")], indirect=True)
def test_what_the_page_does_not_take_is_said_on_it(page, browser, tmp_path):
    address, _, folder = page
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "heavy.png")
    Image.new("RGB", (900, 700)).save(tmp_path / "many.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "many.png").read_bytes()[:500])
    browser.goto(address)
    for name, said in (
        ("many.png", "many.png: 0.6 megapixels, but this page takes 0.1"),
        ("cut.png", "cut.png: cut short, its end is missing"),
        ("heavy.png", "exceed the maximum allowed size"),
    ):
        browser.locator("#upload input[type=file]").set_input_files(str(tmp_path / name))
        browser.get_by_text(said).first.wait_for(timeout=WAIT)
        if name == "many.png":
            screenshot(browser, "app_refused")
            browser.get_by_role("button", name="Restore").click()
            browser.get_by_text("many.png: 0.6 megapixels").nth(1).wait_for(timeout=WAIT)
        if name != "heavy.png":
            browser.locator("#upload").get_by_label("Clear").click()
    # Two gigabytes aren't taken in to be refused: not a tenth of it arrives.
    request = urllib.request.Request(f"{address}gradio_api/upload", method="POST")
    boundary = b"--x\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n\r\n"
    request.add_header("Content-Type", "multipart/form-data; boundary=x")
    request.data = boundary + bytes(5_000_000) + b"\r\n--x--\r\n"
    with pytest.raises((urllib.error.URLError, ConnectionError)) as caught:
        urllib.request.urlopen(request)
    # Or the connection is closed while this still sends.
    assert getattr(caught.value, "code", 413) == 413
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 1_500_000


@needs_gradio
def test_several_people_wait_in_a_queue(page, browser, tmp_path):
    address, _, _ = page
    windows = [browser, *(browser.context.browser.new_page() for _ in range(2))]
    for number, window in enumerate(windows):
        path = tmp_path / f"{number}.png"
        Image.fromarray(picture(64 + number, 96)).save(path)
        window.goto(address)
        window.locator("#upload input[type=file]").set_input_files(str(path))
        window.get_by_text(f"96x{64 + number} pixels").wait_for(timeout=WAIT)
    for window in windows:
        window.get_by_role("button", name="Restore").click()
    for number, window in enumerate(windows):
        window.get_by_text(f"Download {number}.png").wait_for(timeout=WAIT)
        with window.expect_download() as waiting:
            window.locator("#download").click()
        waiting.value.save_as(tmp_path / "fetched.png")
        assert photographs.read(tmp_path / "fetched.png").pixels.shape == (64 + number, 96, 3)
