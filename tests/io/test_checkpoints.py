"""Weights files are never run, and damage is noticed."""

import collections
import os
import pickle
import zipfile

import pytest
import torch

from glsgn_plugins import InputError
from glsgn_plugins.archs.glsgn import GLSGN
from glsgn_plugins.io import checkpoints
from glsgn_plugins.io.checkpoints import read_checkpoint
from glsgn_plugins.io.weights import read_weights


@pytest.fixture(params=["torch", "ours"], autouse=True)
def reader(request, monkeypatch):
    """By torch's own reader where it is sound, and by ours, which older versions of torch get."""
    if request.param == "ours":
        monkeypatch.setattr(checkpoints, "trusts_torch", lambda: False)
    elif not checkpoints.trusts_torch():
        pytest.skip("this torch has flaws that are known")
    return request.param


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


def test_every_type_shape_and_view_comes_back(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    content = {
        "views": [base, base.t(), base[1:, ::2], base.new_empty(0, 3), torch.tensor(3.5)],
        "types": {
            str(t): torch.ones(3).to(t)
            for t in (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool)
        },
        "model": torch.nn.Conv2d(2, 3, 1).state_dict(),
        "parameter": torch.nn.Parameter(torch.rand(2)),
        "plain": (1, 2.5, None, True, "text", [{"deep": b"bytes"}]),
    }
    torch.save(content, tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth")
    for one, two in zip(content["views"], found["views"]):
        assert one.shape == two.shape
        assert torch.equal(one, two)
    for name, values in content["types"].items():
        assert found["types"][name].dtype == values.dtype
        assert torch.equal(found["types"][name], values)
    assert found["model"].keys() == content["model"].keys()
    assert torch.equal(found["model"]["weight"], content["model"]["weight"])
    assert torch.equal(found["parameter"], content["parameter"])
    assert found["plain"] == content["plain"]


def rewritten(source, target, change):
    """An archive with another pickle or other storages in it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info)))


def forged(reduced):
    """A pickle whose one object is what a call gives."""

    class Forged:
        def __reduce__(self):
            return reduced

    return pickle.dumps(Forged(), protocol=2)


FORGED = {
    "a long storage": lambda name, c: c + bytes(64) if "/data/0" in name else c,
    "a short storage": lambda name, c: c[:8] if "/data/0" in name else c,
    "eval": lambda name, c: forged((eval, ("1 + 1",))) if name.endswith("data.pkl") else c,
    "no storage": lambda name, c: (
        forged((torch._utils._rebuild_tensor_v2, ({}, 0, (9,), (1,), False, {})))
        if name.endswith("data.pkl")
        else c
    ),
    # SETITEMS upon what is no dict, the flaw of torch before 2.10.
    "items of a list": lambda name, c: b"\x80\x02](K\x01K\x02u." if name.endswith("pkl") else c,
    "items of text": lambda n, c: b"\x80\x02X\x01\0\0\0a(K\0K\x02u." if n.endswith("pkl") else c,
    "an extension": lambda name, c: b"\x80\x02\x82\x01." if name.endswith("pkl") else c,
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_archives_are_refused_by_our_reader(case, reader, tmp_path):
    if reader == "torch":
        pytest.skip("is torch's own affair")
    torch.save(torch.rand(6, 6), tmp_path / "whole.pth")
    rewritten(tmp_path / "whole.pth", tmp_path / "forged.pth", FORGED[case])
    with pytest.raises(InputError, match=r"forged\.pth: (refused|damaged)"):
        read_checkpoint(tmp_path / "forged.pth")


def test_a_tensor_beyond_its_storage_is_refused_by_our_reader(reader, tmp_path):
    if reader == "torch":
        pytest.skip("is torch's own affair")
    torch.save(torch.rand(4, 4), tmp_path / "whole.pth")
    sixteen, many = b"K\x04K\x04\x86", b"K\x04K\x7f\x86"
    rewritten(
        tmp_path / "whole.pth", tmp_path / "far.pth", lambda _, c: c.replace(sixteen, many, 1)
    )
    with pytest.raises(InputError, match="a tensor beyond its storage"):
        read_checkpoint(tmp_path / "far.pth")


def test_old_files_are_refused_where_torch_is_old(reader, tmp_path):
    if reader == "torch":
        pytest.skip("reads them")
    torch.save(torch.rand(3), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"older than what is read with torch"):
        read_checkpoint(tmp_path / "old.pth")


def test_the_record_of_a_network_is_kept(tmp_path):
    net = GLSGN(widths=(4, 4, 4, 4), padding_mode="replicate", long_side=64)
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    assert read_weights(tmp_path / "net.pth").options == net.options
