"""``--shard I/N``: what N machines make together is what one makes alone, to the byte."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from demo_data import photo
from harness import BIN, environment, run_command, same_trees

from glsgn_plugins import InputError
from glsgn_plugins.cli.glsgn import main
from glsgn_plugins.io.images import png, read_image
from glsgn_plugins.shards import Shard, shard_of


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Seven different photographs, small."""
    root = tmp_path_factory.mktemp("clean")
    image = read_image(photo("coffee.png"))
    for k in range(7):
        part = image[30 * k : 30 * k + 90, 40 * k : 40 * k + 120]
        (root / f"{k}.png").write_bytes(png(np.ascontiguousarray(part)))
    return root


def synthesize(clean, out, *more):
    command = ["synthesize", "rain", "--clean", str(clean), "--out", str(out), "--workers", "1"]
    return main([*command, "--per-image", "2", "--seed", "3", *more])


def test_parts_are_disjoint_and_together_all_there_is():
    items = list(range(23))
    for total in (1, 2, 5, 30):
        parts = [Shard(number, total).take(items) for number in range(1, total + 1)]
        assert sorted(item for part in parts for item in part) == items
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert shard_of("3/8") == Shard(3, 8)
    for text in ("0/3", "4/3", "3", "a/b", "-1/3", "1/0", "1/3/5"):
        with pytest.raises(InputError, match="expected I/N"):
            shard_of(text)


@pytest.mark.parametrize("layout", [(), ("--layout", "UHR4K-Rain")], ids=["plain", "splits"])
def test_a_set_of_shards_is_that_of_one_machine(clean, tmp_path, layout, capsys):
    assert synthesize(clean, tmp_path / "alone", *layout) == 0
    for number in (3, 1, 2):  # in any order
        together = tmp_path / "together"
        assert not (together / "metadata.json").exists()
        assert synthesize(clean, together, *layout, "--shard", f"{number}/3") == 0
    assert same_trees(tmp_path / "alone", together)
    assert "shard that finishes last" in capsys.readouterr().out
    # Again, as where a whole array is put into the queue once more.
    assert synthesize(clean, together, *layout, "--shard", "2/3") == 0
    assert same_trees(tmp_path / "alone", together)


def test_shards_at_once_of_which_one_is_killed(clean, tmp_path):
    assert synthesize(clean, tmp_path / "alone") == 0
    together = tmp_path / "together"

    def start(number):
        command = [BIN / "glsgn", "synthesize", "rain", "--clean", clean, "--out", together]
        more = ["--per-image", "2", "--seed", "3", "--workers", "1", "--shard", f"{number}/3"]
        return subprocess.Popen(
            [*map(str, [*command, *more])], env=environment(), stderr=subprocess.PIPE
        )

    shards = {number: start(number) for number in (1, 2, 3)}
    while not any(together.glob("lq/*.png")):
        time.sleep(0.01)
    shards[2].send_signal(signal.SIGKILL)
    for number, shard in shards.items():
        said = shard.communicate(timeout=120)[1].decode()
        assert number == 2 or shard.returncode == 0, said[-2000:]
    if shards[2].returncode:
        assert not (together / "metadata.json").exists()
        assert synthesize(clean, together, "--shard", "2/3") == 0
    assert same_trees(tmp_path / "alone", together)


def test_what_a_shard_leaves_out_keeps_nobody_waiting(clean, tmp_path, capsys):
    photographs, out = tmp_path / "photographs", tmp_path / "out"
    shutil.copytree(clean, photographs)
    (photographs / "3.png").write_bytes((photographs / "3.png").read_bytes()[:200])
    codes = [synthesize(photographs, out, "--shard", f"{number}/2") for number in (1, 2)]
    assert sorted(codes) == [0, 1]
    pairs = json.loads((out / "metadata.json").read_text())["pairs"]
    assert {pair["photograph"] for pair in pairs} == {f"{k}.png" for k in range(7) if k != 3}
    assert not (out / ".unfinished").exists()
    assert "left out: " in capsys.readouterr().err


@pytest.fixture
def pairs(clean, tmp_path):
    """A set of seven pairs, one of which has a picture twice."""
    synthesize(clean, tmp_path / "set", "--per-image", "1", "--share", "identity", "0")
    return tmp_path / "set"


def told(capsys):
    """Of a set, what is said of all its pairs."""
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if "problems" in line or "the same picture" in line]


def test_shards_check_a_set_as_one_machine_does(pairs, capsys):
    shutil.copy(pairs / "lq" / "1.png", pairs / "lq" / "4.png")  # which other shards look at
    capsys.readouterr()
    assert main(["prepare", str(pairs), "--workers", "1"]) == 1
    alone, wanted = told(capsys), (pairs / "meta_info_all.txt").read_bytes()
    assert any("the same picture as" in line for line in alone)
    (pairs / "meta_info_all.txt").unlink()
    codes = []
    for number in (2, 3, 1):
        assert not (pairs / "meta_info_all.txt").exists()
        codes.append(main(["prepare", str(pairs), "--workers", "1", "--shard", f"{number}/3"]))
    assert codes == [0, 0, 1]
    assert told(capsys) == alone
    assert (pairs / "meta_info_all.txt").read_bytes() == wanted
    assert not (pairs / ".prepared").exists()


def test_shards_cut_the_same_sub_images(pairs, tmp_path):
    size = ("--workers", "1", "--sub-images", "64", "--step", "40")
    assert main(["prepare", str(pairs), *size, "--out", str(tmp_path / "alone")]) == 0
    together = tmp_path / "together"
    (together / "lq").mkdir(parents=True)
    (together / "lq" / "old_s001.png").write_bytes(b"of another set")
    for number in (1, 2):
        shard = ("--out", str(together), "--shard", f"{number}/2")
        assert main(["prepare", str(pairs), *size, *shard]) == 0
    assert same_trees(tmp_path / "alone", together)


def test_a_changed_set_is_looked_at_again(pairs, capsys):
    assert main(["prepare", str(pairs), "--workers", "1", "--shard", "1/2"]) == 0
    image = png(np.zeros((90, 120, 3), np.uint8))
    (pairs / "lq" / "0.png").write_bytes(image)
    assert main(["prepare", str(pairs), "--workers", "1", "--shard", "2/2"]) == 0
    assert not (pairs / "meta_info_all.txt").exists()  # the first one's notes are of other files
    assert main(["prepare", str(pairs), "--workers", "1", "--shard", "1/2"]) == 1
    assert "all black" in capsys.readouterr().out
    assert (pairs / "meta_info_all.txt").exists()


def test_a_database_has_one_writer(pairs, tmp_path, capsys):
    more = ("--lmdb", "--out", str(tmp_path / "out"), "--shard", "1/2")
    assert main(["prepare", str(pairs), *more]) == 2
    assert "--lmdb: a database has one writer" in capsys.readouterr().err


def test_shards_restore_a_folder_as_one_machine_does(clean, tmp_path):
    restore = ("glsgn", "restore", str(clean))
    done = run_command(*restore, "alone", "--task", "rain", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    for number in (1, 2):
        more = ("together", "--task", "rain", "--shard", f"{number}/2")
        done = run_command(*restore, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        assert len(list(Path(tmp_path, "together").iterdir())) == (4 if number == 1 else 7)
    assert same_trees(tmp_path / "alone", tmp_path / "together")


def test_a_wrong_shard_is_named(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "glsgn_plugins.cli.glsgn", "prepare", ".", "--shard", "9/8"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "expected I/N" in done.stderr
