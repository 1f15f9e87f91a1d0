"""from_pretrained, save_pretrained and push_to_hub: in folders, and against a Hub of our own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from harness import environment
from networks import TINY, trained_like

from glsgn_plugins import GLSGN, InputError, list_pretrained, load_pretrained
from glsgn_plugins.io.weights import read_weights

huggingface_hub = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def net():
    return trained_like(GLSGN(**TINY, padding_mode="replicate", fusion="sum", long_side=64)).eval()


def equal(one, two):
    assert one.options == two.options
    other = two.state_dict()
    assert all(torch.equal(value, other[key]) for key, value in one.state_dict().items())


def test_a_folder_gives_the_network_back(net, tmp_path):
    net.save_pretrained(tmp_path / "net")
    names = {path.name for path in (tmp_path / "net").iterdir()}
    assert names == {"model.safetensors", "config.json", "README.md"}
    assert json.loads((tmp_path / "net/config.json").read_text()) == net.options
    card = (tmp_path / "net/README.md").read_text()
    assert "library_name: glsgn-plugins" in card
    assert "license: apache-2.0" in card
    for form in (tmp_path / "net", str(tmp_path / "net"), tmp_path / "net/model.safetensors"):
        back = GLSGN.from_pretrained(form)
        equal(back, net)
        assert not back.training
    # The record is in the file itself, so that commands and frameworks read it as it is.
    found = read_weights(tmp_path / "net/model.safetensors")
    assert found.options == net.options
    image = torch.rand(1, 3, 40, 48)
    with torch.no_grad():
        assert torch.equal(back(image), net(image))


def test_what_is_there_is_not_written_over(net, tmp_path):
    net.save_pretrained(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"model\.safetensors exists"):
        net.save_pretrained(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(InputError, match="expected a folder"):
        net.save_pretrained(tmp_path / "README.md")


def test_shipped_weights_by_name():
    names = list_pretrained()
    assert names == sorted(names)
    assert names
    assert list_pretrained(f"{names[0][:2]}*")[0] == names[0]
    assert list_pretrained("nothing*") == []
    equal(GLSGN.from_pretrained(f"glsgn://{names[0]}"), load_pretrained(names[0]))


def test_what_is_no_network_is_named(net, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no model\.safetensors"):
        GLSGN.from_pretrained(tmp_path / "empty")
    with pytest.raises(InputError, match="no such folder or file, and the Hub doesn't"):
        GLSGN.from_pretrained("nobody/nothing")
    for name in ("not a name/at all/of any", str(tmp_path / "missing")):
        with pytest.raises(InputError, match="no such folder or file, and no repository"):
            GLSGN.from_pretrained(name)
    net.save_pretrained(tmp_path / "net")
    config = tmp_path / "net/config.json"
    config.write_text(json.dumps({**net.options, "fusion": "laplacian"}))
    with pytest.raises(
        InputError, match=r"config\.json: says fusion 'laplacian', but .* with 'sum'"
    ):
        GLSGN.from_pretrained(tmp_path / "net")
    config.write_text("{")
    with pytest.raises(InputError, match=r"config\.json: damaged"):
        GLSGN.from_pretrained(tmp_path / "net")


def test_what_is_pushed_is_what_was_saved(net, tmp_path, monkeypatch):
    """Against a stand-in for the Hub's interface: there is no network in tests."""
    pushed = {}

    def create_repo(self, repo_id, **options):
        pushed["private"] = options["private"]
        return type("Repo", (), {"repo_id": repo_id})

    def upload_folder(self, *, repo_id, folder_path, **options):
        target = tmp_path / "hub" / repo_id
        target.mkdir(parents=True)
        for file in Path(folder_path).iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        return f"commit of {repo_id}"

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    assert net.push_to_hub("lab/haze", private=True) == "commit of lab/haze"
    assert pushed["private"] is True
    equal(GLSGN.from_pretrained(tmp_path / "hub/lab/haze"), net)
    assert 'from_pretrained("lab/haze")' in (tmp_path / "hub/lab/haze/README.md").read_text()


def test_what_cannot_be_pushed_is_said_in_one_line(net, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"^lab/haze: not pushed \(.*offline mode"):
        net.push_to_hub("lab/haze")
    with pytest.raises(InputError, match=r"^a b: not pushed \(.*[rR]epo id"):
        net.push_to_hub("a b")


def test_without_the_extra_the_core_works_and_says_what_is_missing(net, tmp_path):
    net.save_pretrained(tmp_path / "net")
    code = f"""
import sys
from pathlib import Path
sys.modules["huggingface_hub"] = None
from glsgn_plugins import GLSGN, InputError
GLSGN.from_pretrained({str(tmp_path / "net")!r})
for call in (lambda: GLSGN().save_pretrained("x"), lambda: GLSGN.from_pretrained("a/b")):
    try:
        call()
    except InputError as error:
        assert "pip install 'glsgn-plugins[hub]'" in str(error), error
    else:
        raise AssertionError
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr


def test_a_class_of_ones_own_is_what_comes_back(net, tmp_path):
    class Mine(GLSGN):
        pass

    net.save_pretrained(tmp_path / "net")
    for name in (tmp_path / "net", tmp_path / "net/model.safetensors"):
        back = Mine.from_pretrained(name)
        assert type(back) is Mine
        equal(back, net)
    assert type(Mine.from_pretrained("glsgn://rain")) is Mine


@pytest.mark.parametrize("name", ["rain", "net.pth", "/nowhere/net", "a/b/c"])
def test_what_can_be_no_repository_is_not_asked_for(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", None)
    with pytest.raises(InputError, match=f"^{name}: no such folder or file, and no.*glsgn://rain"):
        GLSGN.from_pretrained(name)


def test_weights_that_are_loaded_in_inference_mode_can_be_trained(net, tmp_path):
    net.save_pretrained(tmp_path / "net")
    with torch.inference_mode():
        back = GLSGN.from_pretrained(tmp_path / "net")
    equal(back, net)
    back.train()(torch.rand(1, 3, 64, 64)).sum().backward()
