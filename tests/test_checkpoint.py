"""Weights files are never run, and damage is noticed."""

import collections
import os

import pytest
import torch

from glsgn_plugins import InputError
from glsgn_plugins.checkpoint import read_checkpoint


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
