"""``glsgn synthesize``: the same bytes for the same seed, and nothing lost or half-written."""

import hashlib
import json
import operator
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from demo_data import photo
from harness import BIN, run_command, same_trees
from PIL import Image

from glsgn_plugins.cli.glsgn import main
from glsgn_plugins.data.datasets import UHR4KDataset
from glsgn_plugins.data.set_records import parameters_of
from glsgn_plugins.io.images import png, read_image


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Four photographs in a tree, small; one of 16 bits."""
    root = tmp_path_factory.mktemp("photographs")
    (root / "städte").mkdir()
    for name, place in (
        ("coffee.png", "coffee.png"),
        ("rocket.jpg", "städte/rocket.png"),
        ("astronaut.png", "städte/ein astronaut.png"),
    ):
        (root / place).write_bytes(png(read_image(photo(name))[:240, :320]))
    deep = read_image(photo("chelsea.png"))[:200, :300].astype(np.uint16) * 257
    (root / "deep.png").write_bytes(png(deep))
    return root


def synthesize(kind, clean, out, *more):
    return main(["synthesize", kind, "--clean", str(clean), "--out", str(out), *more])


@pytest.mark.parametrize("preset", ["real", "plain"])
@pytest.mark.parametrize("kind", ["rain", "reflection", "haze"])
def test_pairs_come_back_from_the_metadata_to_the_bit(kind, preset, clean, tmp_path, capsys):
    out = tmp_path / "set"
    more = ("--per-image", "2", "--seed", "9", "--workers", "1", "--preset", preset)
    assert synthesize(kind, clean, out, *more) == 0
    assert "8 pairs of 4 photographs" in capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == ["gt", "lq", "metadata.json"]
    metadata = json.loads((out / "metadata.json").read_text(encoding="utf-8"))
    assert set(metadata["versions"]) == {"glsgn-plugins", "numpy", "opencv"}
    assert len(metadata["pairs"]) == 8
    lights = set()
    for pair in metadata["pairs"]:
        lq, gt = (read_image(out / side / pair["name"]) for side in ("lq", "gt"))
        photograph = read_image(clean / pair["photograph"])
        assert gt.dtype == (np.uint16 if pair["photograph"] == "deep.png" else np.uint8)
        companion = pair["companion"] and read_image(clean / pair["companion"])
        assert (companion is not None) == (kind == "reflection")
        assert pair["companion"] != pair["photograph"]
        again = parameters_of(metadata, pair).pair(photograph, companion)
        assert again[0].dtype == lq.dtype
        assert np.array_equal(again[0], lq)
        assert np.array_equal(again[1], gt)
        if preset == "plain":
            assert np.array_equal(gt, photograph)
            assert not np.array_equal(lq, gt)
        lights.add(json.dumps(pair["parameters"]))
        if kind == "haze" and preset == "plain":
            assert pair["parameters"]["depth"] == "procedural"
    assert len(lights) == 8


def test_workers_and_kill_9_leave_the_same_bytes(clean, tmp_path):
    more = ("--per-image", "6", "--seed", "4")
    assert synthesize("rain", clean, tmp_path / "one", *more, "--workers", "1") == 0

    out = tmp_path / "four"
    argv = [BIN / "glsgn", "synthesize", "rain", "--clean", clean, "--out", out, *more]
    running = subprocess.Popen(
        [*map(str, argv), "--workers", "4"],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        while not list(out.glob("lq/*.png")):
            assert running.poll() is None
            time.sleep(0.002)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert not (out / "metadata.json").exists()
    begun = list(out.glob("*/*.png"))
    assert 0 < len(begun) < 48
    for path in begun:
        assert np.array_equal(
            read_image(path), read_image(tmp_path / "one" / path.relative_to(out))
        )
    kept = {path: path.stat().st_mtime_ns for path in out.glob("lq/*.png")}
    finished = [
        json.loads(p.read_text())["name"] for p in out.glob(".unfinished/?" + "?" * 23 + ".json")
    ]

    done = run_command(
        *map(str, argv[:1] and ["glsgn"]), *map(str, argv[1:]), "--workers", "4", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert same_trees(tmp_path / "one", out)
    for path, when in kept.items():
        if path.name in finished:
            assert path.stat().st_mtime_ns == when


def test_a_set_is_gone_on_with_not_mixed(clean, tmp_path, capsys):
    out = tmp_path / "set"
    some = tmp_path / "some"
    shutil.copytree(clean, some)
    (some / "coffee.png").unlink()
    assert synthesize("rain", some, out, "--workers", "1") == 0
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
    shutil.copyfile(clean / "coffee.png", some / "coffee.png")
    (out / "lq/deep.png").unlink()
    assert synthesize("rain", some, out, "--workers", "1") == 0
    assert synthesize("rain", clean, tmp_path / "whole", "--workers", "1") == 0
    assert same_trees(out, tmp_path / "whole")
    for path, when in before.items():
        if path.name != "deep.png":
            assert path.stat().st_mtime_ns == when
    capsys.readouterr()
    for more in (("--seed", "1"), ("--per-image", "2"), ("--range", "veil", "0", "0.5")):
        assert synthesize("rain", clean, out, *more) == 2
        said = capsys.readouterr().err
        assert "holds a set that was made with other settings" in said
        assert said.count("\n") == 1
    assert synthesize("haze", clean, out) == 2
    assert synthesize("haze", clean, some) == 2
    assert "holds other files" in capsys.readouterr().err


PROCESSOR = Path("/proc/cpuinfo")
AVX512 = PROCESSOR.is_file() and "avx512f" in PROCESSOR.read_text()


def alike(value, expected):
    """Equal, but for the last digits of numbers: numpy's exp and log depend on the processor."""
    if isinstance(expected, dict):
        return value.keys() == expected.keys() and all(alike(value[k], expected[k]) for k in value)
    if isinstance(expected, list):
        return len(value) == len(expected) and all(map(alike, value, expected))
    if isinstance(expected, float):
        return value == pytest.approx(expected, rel=1e-13, abs=0)
    return value == expected


def test_sets_of_before_there_were_presets_are_made_again_to_the_byte(tmp_path):
    """Sets that the code of commit c757c4c made: its metadata, and a hash of each file."""
    clean = tmp_path / "photographs"
    clean.mkdir()
    for name in ("coffee.png", "rocket.jpg"):
        part = read_image(photo(name))[:96, :128]
        (clean / Path(name).with_suffix(".png")).write_bytes(png(part))
    deep = read_image(photo("chelsea.png"))[:64, :80].astype(np.uint16) * 257
    (clean / "deep.png").write_bytes(png(deep))
    sets = json.loads((Path(__file__).parent.parent / "assets/plain_sets.json").read_text())
    for kind, old in sets.items():
        out = tmp_path / kind
        # What it takes up is a set of that time, with all but one of its pairs.
        more = ("--range", "veil", "0", "0.4") if kind == "rain" else ()
        more = (*more, "--per-image", "2", "--seed", "7", "--workers", "1", "--preset", "plain")
        assert synthesize(kind, clean, out, *more) == 0
        new = json.loads((out / "metadata.json").read_text())
        pairs = list(zip(new["pairs"], old["metadata"]["pairs"], strict=True))
        same = operator.eq if AVX512 else alike
        assert all(same({k: pair[k] for k in before}, before) for pair, before in pairs)
        for pair in old["metadata"]["pairs"]:
            companion = pair["companion"] and read_image(clean / pair["companion"])
            photograph = read_image(clean / pair["photograph"])
            again = parameters_of(old["metadata"], pair).apply(photograph, companion)
            assert np.array_equal(again, read_image(out / "lq" / pair["name"]))
        (out / "metadata.json").write_text(json.dumps(old["metadata"]))
        (out / "lq/coffee_1.png").unlink()
        assert synthesize(kind, clean, out, *more) == 0
        made = {
            path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in out.rglob("*.png")
        }
        assert set(made) == set(old["sha256"])
        libraries = {**new["versions"], "glsgn-plugins": ""}
        if {**old["metadata"]["versions"], "glsgn-plugins": ""} == libraries:
            # Sixteen bits show the last digit, too, which was that of a processor with AVX-512.
            names = [name for name in made if AVX512 or not name.startswith("lq/deep")]
            assert {n: made[n] for n in names} == {n: old["sha256"][n] for n in names}


@pytest.mark.parametrize("kind", ["rain", "reflection"])
def test_a_layout_of_two_splits_is_what_its_dataset_reads(kind, clean, tmp_path):
    subset = "rain" if kind == "rain" else "syn"
    layout = "UHR4K-Rain" if kind == "rain" else "UHR4K-Syn"
    more = ("--layout", layout, "--per-image", "2", "--workers", "2")
    assert synthesize(kind, clean, tmp_path / "set", *more) == 0
    found = {
        split: UHR4KDataset(str(tmp_path / "set"), subset, split).pairs
        for split in ("train", "test")
    }
    assert (len(found["train"]), len(found["test"])) == (6, 2)
    metadata = json.loads((tmp_path / "set/metadata.json").read_text(encoding="utf-8"))
    assert metadata["settings"]["layout"] == layout
    used = {"train": set(), "test": set()}
    for pair in metadata["pairs"]:
        names = {path.lq.name for path in found[pair["split"]]}
        assert pair["name"] in names
        used[pair["split"]] |= {pair["photograph"], pair["companion"]} - {None}
    # No photograph is in both, reflected ones neither: but for one that is alone in its split.
    if kind == "rain":
        assert not used["train"] & used["test"]
    assert len({pair["photograph"] for pair in metadata["pairs"] if pair["split"] == "test"}) == 1


def test_a_replaced_photograph_is_made_anew_once_and_told(clean, tmp_path):
    """What was known of its predecessor went before what was known of it, in every run."""
    some, out = tmp_path / "some", tmp_path / "set"
    some.mkdir()
    for name in ("coffee.png", "deep.png"):
        shutil.copyfile(clean / name, some / name)
    assert synthesize("rain", some, out, "--workers", "1") == 0
    before = {
        pair["name"]: pair for pair in json.loads((out / "metadata.json").read_text())["pairs"]
    }
    (some / "coffee.png").write_bytes(png(read_image(clean / "coffee.png")[::-1].copy()))
    assert synthesize("rain", some, out, "--workers", "1") == 0
    after = {
        pair["name"]: pair for pair in json.loads((out / "metadata.json").read_text())["pairs"]
    }
    assert after["coffee.png"]["sources"] != before["coffee.png"]["sources"]
    assert after["deep.png"] == before["deep.png"]
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert synthesize("rain", some, out, "--workers", "1") == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == times


def test_a_photograph_stays_in_its_split_when_others_are_added(clean, tmp_path):
    """Of three whose names say train one is to test; a fourth, nearer to it, leaves it there."""
    some, out = tmp_path / "some", tmp_path / "set"
    some.mkdir()
    by_digest = sorted(
        (hashlib.sha256(f"p{k}.png".encode()).digest()[0], f"p{k}.png") for k in range(200)
    )
    far = [name for first, name in by_digest if first >= 60][:3]
    (between,) = [name for first, name in by_digest if 30 <= first < 59][:1]
    image = read_image(clean / "coffee.png")
    for k, name in enumerate(far):
        (some / name).write_bytes(png(image[10 * k :]))
    more = ("--layout", "UHR4K-Rain", "--workers", "1")

    def split(name):
        return {path.name for path in (out / name / "lq").iterdir()}

    assert synthesize("rain", some, out, *more) == 0
    assert split("test") == {far[0]}
    (some / between).write_bytes(png(image[50:]))
    assert synthesize("rain", some, out, *more) == 0
    assert split("test") == {far[0]}
    assert split("train") == {*far[1:], between}
    # The only one of the test split is gone: another takes its place, and leaves its own.
    (some / far[0]).unlink()
    assert synthesize("rain", some, out, *more) == 0
    assert split("train") == set(far[1:])
    assert split("test") == {far[0], between}  # which is said: it is none of the set's any more


def test_versions_of_a_photograph_share_their_truth(clean, tmp_path):
    out = tmp_path / "set"
    more = ("--per-image", "3", "--workers", "1", "--preset", "plain")
    assert synthesize("haze", clean, out, *more) == 0
    truths = [(out / "gt" / f"coffee_{k}.png").stat() for k in range(3)]
    assert len({truth.st_ino for truth in truths}) == 1


def test_sizes_scale_down_and_keep_upright_photographs_upright(clean, tmp_path, capsys):
    some = tmp_path / "some"
    some.mkdir()
    image = read_image(clean / "coffee.png")
    (some / "wide.png").write_bytes(png(image))
    (some / "tall.png").write_bytes(png(np.ascontiguousarray(image.transpose(1, 0, 2))))
    (some / "small.png").write_bytes(png(image[:90]))
    out = tmp_path / "set"
    assert synthesize("rain", some, out, "--size", "160x100", "--workers", "2") == 1
    said = capsys.readouterr().err
    assert f"left out: {some / 'small.png'}: 320x90 pixels, smaller than 160x100" in said
    assert read_image(out / "gt/wide.png").shape == (100, 160, 3)
    assert read_image(out / "gt/tall.png").shape == (160, 100, 3)
    assert not (out / "gt/small.png").exists()
    assert len(json.loads((out / "metadata.json").read_text())["pairs"]) == 2


def test_a_depth_map_is_cut_as_its_photograph_is(tmp_path):
    clean, depth = tmp_path / "clean", tmp_path / "depth"
    clean.mkdir()
    depth.mkdir()
    grey = np.full((200, 300, 3), 90, np.uint8)
    (clean / "a.png").write_bytes(png(grey))
    far = np.zeros((100, 150), np.float32)
    far[:, :50] = 1  # a third of the width, of which the middle cut leaves a quarter
    np.save(depth / "a.npy", far)
    more = ("--preset", "plain", "--depth", str(depth), "--workers", "1", "--size", "200x200")
    assert synthesize("haze", clean, tmp_path / "set", *more) == 0
    change = read_image(tmp_path / "set/lq/a.png").astype(int)[100, :, 0] - 90
    hazy = np.flatnonzero(change > (change.max() + change.min()) / 2)
    assert hazy[0] == 0
    assert hazy[-1] == pytest.approx(50, abs=3)


@pytest.mark.parametrize(
    "wrong", [np.zeros((9, 9, 3)), np.zeros(9), np.zeros((0, 9)), np.full((9, 9), "far")]
)
def test_arrays_that_are_no_depth_map_are_named(wrong, clean, tmp_path, capsys):
    depth = tmp_path / "depth"
    for path in clean.rglob("*.png"):
        to = (depth / path.relative_to(clean)).with_suffix(".npy")
        to.parent.mkdir(parents=True, exist_ok=True)
        np.save(to, wrong if path.name == "coffee.png" else np.zeros((9, 9, 1)))
    more = ("--depth", str(depth), "--workers", "1")
    assert synthesize("haze", clean, tmp_path / "set", *more) == 1
    said = capsys.readouterr().err
    assert "coffee.npy: an array of " in said
    assert "expected a depth map of numbers, (H, W)" in said
    assert len(list((tmp_path / "set/lq").iterdir())) == 3


def test_a_set_among_its_photographs_is_refused(clean, tmp_path, capsys):
    some = tmp_path / "some"
    some.mkdir()
    shutil.copyfile(clean / "coffee.png", some / "a.png")
    for out in (some, some / "set"):
        assert synthesize("rain", some, out) == 2
        assert "would be taken for photographs; use a folder beside it" in capsys.readouterr().err
    assert [path.name for path in some.iterdir()] == ["a.png"]


def test_names_that_are_too_long_are_said_and_the_others_go_on(clean, tmp_path, capsys):
    some = tmp_path / "some"
    some.mkdir()
    for name in ("a", 250 * "b"):
        shutil.copyfile(clean / "coffee.png", some / f"{name}.png")
    assert synthesize("rain", some, tmp_path / "set", "--workers", "1") == 1
    assert "its name is too long for a file of the set" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "set/lq").iterdir()] == ["a.png"]


def test_a_photograph_that_is_too_wide_is_said_and_the_others_go_on(clean, tmp_path, capsys):
    some = tmp_path / "some"
    some.mkdir()
    shutil.copyfile(clean / "coffee.png", some / "a.png")
    (some / "b.png").write_bytes(png(np.zeros((8, 33000, 3), np.uint8)))
    assert synthesize("rain", some, tmp_path / "set", "--workers", "1") == 1
    assert "b.png: 33000x8 pixels: weather is drawn on up to 32766" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "set/lq").iterdir()] == ["a.png"]


def test_depth_maps_and_reflected_photographs_of_other_folders(clean, tmp_path):
    depth = tmp_path / "depth"
    for path in clean.rglob("*.png"):
        to = (depth / path.relative_to(clean)).with_suffix(".npy")
        to.parent.mkdir(parents=True, exist_ok=True)
        np.save(to, np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4))
    for preset in ("plain", "real"):
        out = tmp_path / preset
        more = ("--depth", str(depth), "--workers", "1", "--preset", preset)
        assert synthesize("haze", clean, out, *more) == 0
        metadata = json.loads((out / "metadata.json").read_text())
        for pair in metadata["pairs"]:
            assert preset == "real" or pair["parameters"]["depth"] == "given"
            lq, photograph = out / "lq" / pair["name"], clean / pair["photograph"]
            given = np.load(depth / pair["companion"])
            again = parameters_of(metadata, pair).pair(read_image(photograph), given)
            assert np.array_equal(again[0], read_image(lq))

    other = tmp_path / "other"
    other.mkdir()
    shutil.copyfile(photo("chelsea.png"), other / "cat.png")
    more = ("--reflections", str(other), "--workers", "1")
    assert synthesize("reflection", clean, tmp_path / "r", *more) == 0
    metadata = json.loads((tmp_path / "r/metadata.json").read_text())
    assert {pair["companion"] for pair in metadata["pairs"]} == {"cat.png"}


def test_bad_photographs_are_named_and_the_others_go_on(clean, tmp_path, capsys):
    some = tmp_path / "some"
    shutil.copytree(clean, some)
    whole = (some / "coffee.png").read_bytes()
    (some / "cut.png").write_bytes(whole[: len(whole) // 2])
    (some / "zero.jpg").touch()
    Image.open(some / "coffee.png").convert("CMYK").save(some / "print.jpg")
    Image.open(some / "coffee.png").resize((1, 1)).save(some / "pixel.png")
    (some / "loop").symlink_to(some, target_is_directory=True)
    (some / ("ß" * 100 + ".png")).write_bytes(whole)
    out = tmp_path / "set"
    assert synthesize("rain", some, out, "--workers", "1") == 1
    said = capsys.readouterr()
    for name, reason in (("cut.png", "cut short"), ("zero.jpg", "0 bytes"), ("print.jpg", "CMYK")):
        assert [line for line in said.err.splitlines() if name in line and reason in line]
    assert "6 pairs of 6 photographs" in said.out
    assert read_image(out / "lq/pixel.png").shape == (1, 1, 3)
    assert not list(out.rglob("*.part"))


def test_a_full_disk_says_so_and_leaves_whole_files(clean, tmp_path):
    """The limit on a file's size fails the writing in the middle, as a full disk does."""
    out = tmp_path / "set"
    code = (
        "import resource, signal, sys; from glsgn_plugins.cli.glsgn import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (190000, 190000))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    argv = ["synthesize", "rain", "--clean", str(clean), "--out", str(out), "--workers", "1"]
    done = subprocess.run(
        [str(BIN / "python"), "-c", code, *argv], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("glsgn synthesize: error: ")
    assert "can't be written (File too large)" in last
    for path in out.rglob("*.png"):
        read_image(path)
    assert not list(out.rglob("*.part"))
    assert synthesize("rain", clean, out, "--workers", "1") == 0
    assert synthesize("rain", clean, tmp_path / "again", "--workers", "1") == 0
    assert same_trees(out, tmp_path / "again")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--clean", "nowhere"], "nowhere: no such folder"),
        (["--range", "rainy", "0", "1"], "degradation.rainy (rain, preset real)"),
        (["--range", "veil", "0", "much"], "--range veil 0 much: expected two numbers"),
        (["--range", "cover", "0.5", "7"], "rain: cover: expected numbers from 0 to 1"),
        (["--share", "identity", "2"], "preset real: identity: expected one number from 0 to 1"),
        (["--share", "identity", "few"], "--share: expected a name and a number"),
        (["--preset", "reel"], "Did you mean 'real'"),
        (["--preset", "plain", "--share", "identity", "0"], "degradation.identity (rain, "),
        (["--layout", "UHR4K-Syn"], "layout UHR4K-Syn is of reflection, not of rain"),
        (["--layout", "UHR4K-Rian"], "Did you mean 'UHR4K-Rain'"),
        (["--per-image", "0"], "--per-image: expected 1 or more"),
        (["--seed", "-3"], "--seed: expected 0 or more"),
        (["--depth", "."], "--depth: of haze alone"),
    ],
)
def test_wrong_arguments(more, said, clean, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert synthesize("rain", clean, "out", *more) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert not Path("out").exists()


def test_photographs_that_would_share_a_name(clean, tmp_path, capsys):
    some = tmp_path / "some"
    shutil.copytree(clean, some)
    shutil.copyfile(clean / "coffee.png", some / "coffee.jpeg")
    assert synthesize("rain", some, tmp_path / "out") == 2
    assert "both would be named 'coffee'" in capsys.readouterr().err
