"""Files appear whole or not at all, whoever else writes there."""

import errno
import multiprocessing
import resource
import subprocess
import sys
import threading
import zipfile

import pytest
import torch

from glsgn_plugins import InputError
from glsgn_plugins.io import atomic
from glsgn_plugins.io.atomic import atomic_write, atomic_write_into


def test_files_appear_whole_or_not_at_all(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"old")
    with pytest.raises(RuntimeError, match="halfway"), atomic_write_into(tmp_path) as scratch:
        (scratch / "net.pth").write_bytes(b"new")
        raise RuntimeError("halfway")
    assert (tmp_path / "net.pth").read_bytes() == b"old"
    with pytest.raises(OSError, match="disk full"), atomic_write_into(tmp_path) as scratch:
        (scratch / "net.pth").write_bytes(b"an archive without its end")
    assert (tmp_path / "net.pth").read_bytes() == b"old"
    with pytest.raises(OSError, match="nothing could be written"), atomic_write_into(tmp_path):
        pass
    with atomic_write_into(tmp_path) as scratch:
        torch.save({"a": 1}, scratch / "net.pth")
    assert zipfile.is_zipfile(tmp_path / "net.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["net.pth"]


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_cleans_up(tmp_path):
    torch.save({"a": 1}, tmp_path / "net.pth")
    old = (tmp_path / "net.pth").read_bytes()
    code = (
        "import os, signal, sys\n"
        "from glsgn_plugins.io.atomic import atomic_write_into\n"
        "with atomic_write_into(sys.argv[1]) as scratch:\n"
        "    (scratch / 'net.pth').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert (tmp_path / "net.pth").read_bytes() == old
    with atomic_write_into(tmp_path) as scratch:
        torch.save({"b": 2}, scratch / "other.pth")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.pth", "other.pth"]


def write_often(folder, letter):
    for turn in range(100):
        with atomic_write_into(folder, durable=False) as scratch:
            (scratch / f"{letter}{turn}").write_text(letter)
        atomic_write(folder / "same", letter.encode() * 100_000, durable=False)


def test_processes_that_write_into_one_folder_do_not_meet(tmp_path):
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=write_often, args=(tmp_path, letter)) for letter in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    names = {f"{letter}{turn}" for letter in "abc" for turn in range(100)}
    assert {p.name for p in tmp_path.iterdir()} == {"same", *names}
    assert (tmp_path / "same").read_text() in [letter * 100_000 for letter in "abc"]


@pytest.mark.parametrize("locks", ["as here", "on Windows", "on NFS"])
def test_threads_have_scratch_folders_of_their_own(locks, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EBADF, "Bad file descriptor")

    if locks == "on Windows":
        monkeypatch.setattr(atomic, "fcntl", None)
    elif locks == "on NFS":
        monkeypatch.setattr(atomic.fcntl, "flock", refused)
    both = threading.Barrier(2, timeout=60)

    def write(name):
        with atomic_write_into(tmp_path) as scratch:
            (scratch / name).write_text(name)
            both.wait()
            assert [p.name for p in scratch.iterdir()] == [name]

    threads = [threading.Thread(target=write, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    """The limit on a file's size makes the writing fail in the middle, as a full disk does."""
    path = tmp_path / "out.png"
    code = (
        "import resource, signal; from pathlib import Path\n"
        "from glsgn_plugins.io.atomic import atomic_write\n"
        "from glsgn_plugins.errors import InputError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000)); path = Path({str(path)!r})\n"
        "try: atomic_write(path, bytes(100000))\n"
        "except InputError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"{path}: can't be written (File too large)" in done.stdout
    assert not list(tmp_path.iterdir())
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 40000

    path.write_bytes(b"earlier")
    atomic_write(path, b"later")
    assert path.read_bytes() == b"later"
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_names_that_are_too_long_for_the_disk(tmp_path):
    fits = tmp_path / ("ü" * 125 + ".png")
    atomic_write(fits, b"content")
    assert fits.read_bytes() == b"content"
    with pytest.raises(InputError, match="give it a shorter name"):
        atomic_write(tmp_path / ("x" * 300 + ".png"), b"content")
    assert list(tmp_path.iterdir()) == [fits]
