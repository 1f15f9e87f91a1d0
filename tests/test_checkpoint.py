"""Weights files are never run, damage is noticed, and files appear whole or not at all."""

import collections
import os
import subprocess
import sys
import zipfile

import pytest
import torch

from glsgn_plugins import InputError
from glsgn_plugins.checkpoint import read_checkpoint, written_whole


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_weights_file_is_not_run(tmp_path, zipped):
    file, target = tmp_path / "net.pth", tmp_path / "pwned"
    torch.save({"params": Malicious(target)}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"net\.pth: (refused|damaged)"):
        read_checkpoint(file)
    assert not target.exists()


def test_what_basicsr_saves_is_read(tmp_path):
    state = {"iter": 3, "schedulers": [{"milestones": collections.Counter([5, 5, 7])}]}
    torch.save(state, tmp_path / "3.state")
    assert read_checkpoint(tmp_path / "3.state") == state


def test_damage_and_absence_are_named(tmp_path):
    file = tmp_path / "net.pth"
    with pytest.raises(InputError, match=r"net\.pth: no such checkpoint"):
        read_checkpoint(file)
    torch.save({"params": torch.rand(1000)}, file)
    whole = file.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 50):
        file.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"net\.pth: damaged"):
            read_checkpoint(file)


def test_files_appear_whole_or_not_at_all(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"old")
    with pytest.raises(RuntimeError, match="halfway"), written_whole(tmp_path) as scratch:
        (scratch / "net.pth").write_bytes(b"new")
        raise RuntimeError("halfway")
    assert (tmp_path / "net.pth").read_bytes() == b"old"
    with pytest.raises(OSError, match="disk full"), written_whole(tmp_path) as scratch:
        (scratch / "net.pth").write_bytes(b"an archive without its end")
    assert (tmp_path / "net.pth").read_bytes() == b"old"
    with pytest.raises(OSError, match="nothing could be written"), written_whole(tmp_path):
        pass
    with written_whole(tmp_path) as scratch:
        torch.save({"a": 1}, scratch / "net.pth")
    assert zipfile.is_zipfile(tmp_path / "net.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["net.pth"]


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_cleans_up(tmp_path):
    torch.save({"a": 1}, tmp_path / "net.pth")
    old = (tmp_path / "net.pth").read_bytes()
    code = (
        "import os, signal, sys\n"
        "from glsgn_plugins.checkpoint import written_whole\n"
        "with written_whole(sys.argv[1]) as scratch:\n"
        "    (scratch / 'net.pth').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert (tmp_path / "net.pth").read_bytes() == old
    with written_whole(tmp_path) as scratch:
        torch.save({"b": 2}, scratch / "other.pth")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.pth", "other.pth"]
