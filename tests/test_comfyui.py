"""The nodes for ComfyUI, against a stand-in for the little of its interface that they use.

ComfyUI isn't on any package registry. ``comfyui/try_comfyui.py`` runs the same nodes in the real
one, over HTTP; these tests hold what can be held without it.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from networks import TINY, trained_like

from glsgn_plugins import GLSGN, InputError, list_pretrained, restore
from glsgn_plugins.io.weights import write_weights

FOLDER = Path(__file__).parent.parent / "comfyui"


class Interrupted(Exception):
    pass


class Patcher:
    def __init__(self, model, load_device, offload_device):
        self.model, self.load_device, self.offload_device = model, load_device, offload_device


class Host:
    """What ComfyUI is asked for and told."""

    def __init__(self, folder):
        self.folder, self.loaded, self.steps, self.stop_at = folder, [], [], None
        modules = {name: ModuleType(name) for name in MODULES}
        modules["comfy"].__path__ = []
        manage = modules["comfy.model_management"]
        manage.get_torch_device = manage.unet_offload_device = lambda: torch.device("cpu")
        manage.load_models_gpu = lambda models, **options: self.loaded.extend(models)
        manage.throw_exception_if_processing_interrupted = self.check
        modules["comfy.model_patcher"].ModelPatcher = Patcher
        modules["comfy.utils"].ProgressBar = lambda total: self
        paths = modules["folder_paths"]
        paths.models_dir = str(folder)
        paths.add_model_folder_path = lambda name, path: None
        paths.get_filename_list = lambda name: sorted(
            path.name for path in (folder / name).glob("*.*")
        )
        paths.get_full_path = lambda name, file: (
            str(folder / name / file) if (folder / name / file).exists() else None
        )
        for name in ("model_management", "model_patcher", "utils"):
            setattr(modules["comfy"], name, modules[f"comfy.{name}"])
        self.modules = modules

    def check(self):
        if self.stop_at is not None and len(self.steps) >= self.stop_at:
            raise Interrupted

    def update_absolute(self, value):
        self.steps.append(value)


MODULES = ("comfy", "comfy.model_management", "comfy.model_patcher", "comfy.utils", "folder_paths")


@pytest.fixture
def host(tmp_path, monkeypatch):
    for name in ("glsgn", "upscale_models"):
        (tmp_path / name).mkdir()
    found = Host(tmp_path)
    for name, module in found.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return found


@pytest.fixture
def nodes(host, monkeypatch):
    """As ComfyUI loads a folder of ``custom_nodes``: a package under a name of its own."""
    spec = importlib.util.spec_from_file_location("custom_glsgn", FOLDER / "__init__.py")
    package = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "custom_glsgn", package)
    monkeypatch.delitem(sys.modules, "custom_glsgn.nodes", raising=False)
    spec.loader.exec_module(package)
    yield package.NODE_CLASS_MAPPINGS
    sys.modules.pop("custom_glsgn.nodes", None)


@pytest.fixture
def model(host, nodes):
    net = trained_like(GLSGN(**TINY, long_side=40)).eval()
    write_weights(net.state_dict(), host.folder / "glsgn/mine.safetensors")
    return nodes["GLSGNLoader"]().load("glsgn/mine.safetensors")[0]


def run(node, inputs):
    """By the names that the node itself gives, as ComfyUI does."""
    return getattr(node(), node.FUNCTION)(**inputs)[0]


def test_the_loader_offers_shipped_weights_and_files(host, nodes, model):
    (host.folder / "upscale_models/other.pth").write_bytes(b"nothing")
    (host.folder / "upscale_models/notes.txt").write_text("")
    names = nodes["GLSGNLoader"].INPUT_TYPES()["required"]["weights"][0]
    shipped = [f"shipped: {task}" for task in list_pretrained()]
    assert names == [*shipped, "glsgn/mine.safetensors", "upscale_models/other.pth"]
    assert isinstance(nodes["GLSGNLoader"]().load(shipped[0])[0].model, GLSGN)
    for name, message in (
        ("upscale_models/other.pth", "damaged or no checkpoint"),
        ("glsgn/gone.pth", "glsgn/gone.pth: no such file"),
    ):
        with pytest.raises(InputError, match=message):
            nodes["GLSGNLoader"]().load(name)


def test_a_batch_comes_out_as_restore_has_it(host, nodes, model):
    images = torch.rand(2, 40, 48, 4)
    mask = torch.zeros(1, 40, 48)
    mask[:, :20] = 1
    inputs = {"model": model, "image": images, "strength": 0.7, "mode": "stream"}
    found = run(nodes["GLSGNRestore"], {**inputs, "mask": mask, "keep_colour": True})
    expected = restore(
        model.model,
        images[..., :3].permute(0, 3, 1, 2),
        strength=0.7,
        mask=mask[0],
        keep_colour=True,
        long_side=40,
    ).clamp(0, 1)
    assert torch.allclose(found[..., :3].permute(0, 3, 1, 2), expected, atol=1e-4)
    assert torch.equal(found[..., 3], images[..., 3])
    assert torch.equal(found[:, 20:], images[:, 20:])
    assert host.loaded == [model]
    assert host.steps == sorted(host.steps)
    assert host.steps[-1] == 1000


def test_an_interrupt_ends_the_work(host, nodes, model):
    host.stop_at = 1
    inputs = {"model": model, "image": torch.rand(3, 40, 48, 3), "strength": 1.0, "mode": "auto"}
    with pytest.raises(Interrupted):
        run(nodes["GLSGNRestore"], inputs)
    assert len(host.steps) < 4


def test_a_mask_of_another_size_is_named(nodes, model):
    inputs = {"model": model, "image": torch.rand(2, 40, 48, 3), "strength": 1.0, "mode": "auto"}
    for shape in ((1, 40, 40), (3, 40, 48)):
        with pytest.raises(InputError, match=rf"mask: {shape[0]} of {shape[2]}x40, but"):
            run(nodes["GLSGNRestore"], {**inputs, "mask": torch.ones(shape)})


def test_the_folder_is_what_the_registry_wants():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11 and later
    about = tomllib.loads((FOLDER / "pyproject.toml").read_text())
    assert about["tool"]["comfy"]["DisplayName"]
    assert about["project"]["dependencies"] == ["glsgn-plugins"]
    assert (FOLDER / "requirements.txt").read_text().split() == ["glsgn-plugins"]
