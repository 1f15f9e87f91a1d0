"""Networks from weights alone, and what they are in spandrel and in ONNX."""

import json

import numpy as np
import pytest
import torch
from networks import TINY, trained_like
from safetensors.torch import save_file

from glsgn_plugins import GLSGN, InputError, glsgn_b, glsgn_s
from glsgn_plugins.cli.glsgn import main
from glsgn_plugins.io.onnx import EXPORTS
from glsgn_plugins.io.records import unlike
from glsgn_plugins.io.weights import (
    glsgn_from,
    options_of,
    read_glsgn,
    read_weights,
    write_weights,
)

OPTIONS = [
    {},
    {"widths": (4, 5, 6, 7), "blocks": (1, 2, 3)},
    {"global_features": False},
    {"local_features": False},
    {"attention": False},
    {"patch_norm": "none"},
    {"fusion": "sum"},
    {"padding_mode": "replicate"},
    {"patch_norm": "per_patch"},
    {"grids": ((4, 4), (2, 2), (2, 1))},
    {"long_side": 48},
    {"coarse_side": 48},
]
UNSEEN = ("padding_mode", "patch_norm", "grids", "long_side", "coarse_side")
"""What no shape shows: it travels in the record alone."""


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_hyper_parameter_is_read_off_the_weights(options):
    net = trained_like(GLSGN(**{**TINY, **options})).eval()
    found = options_of(net.state_dict(), "these")
    for key, value in {**TINY, "blocks": (1, 1, 1), **options}.items():
        if key not in UNSEEN or value in ("none", "pooled"):
            assert found[key] == (list(value) if isinstance(value, tuple) else value)
    image = torch.rand(1, 3, 64, 48)
    with torch.no_grad():
        assert torch.equal(glsgn_from(net.state_dict(), "these")(image), net(image))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", "as BasicSR saves it"])
def test_weights_know_what_network_they_are(options, suffix, tmp_path, caplog):
    net = trained_like(GLSGN(**{**TINY, **options})).eval()
    if suffix.startswith("."):
        file = tmp_path / f"w{suffix}"
        write_weights(net.state_dict(), file)
    else:
        file = tmp_path / "w.pth"
        torch.save({"params": net.state_dict()}, file)
    found = read_glsgn(file)
    assert found.options == net.options
    image = torch.rand(1, 3, 64, 48)
    with torch.no_grad():
        assert torch.equal(found(image), net(image))
    assert not caplog.records


def test_weights_without_a_record_are_taken_with_a_warning(tmp_path, caplog):
    torch.save(dict(GLSGN(**TINY).state_dict()), tmp_path / "w.pth")
    assert read_glsgn(tmp_path / "w.pth").options["padding_mode"] == "zeros"
    assert "no record of its network" in caplog.text


def test_each_network_of_a_file_has_its_own_record(tmp_path):
    teacher = GLSGN(**TINY, long_side=320)
    net = GLSGN(**TINY, padding_mode="replicate", long_side=640)
    torch.save(
        {"teacher": {"net": teacher.state_dict()}, "params_ema": net.state_dict()},
        tmp_path / "w.pth",
    )
    assert read_glsgn(tmp_path / "w.pth").options == net.options


def test_converting_keeps_the_record(tmp_path):
    net = GLSGN(**TINY, fusion="sum", padding_mode="replicate")
    torch.save({"params": net.state_dict()}, tmp_path / "w.pth")
    for target in ("one.safetensors", "two.pth"):
        assert main(["convert", str(tmp_path / "w.pth"), str(tmp_path / target)]) == 0
        assert read_glsgn(tmp_path / target).options == net.options


def test_the_named_sizes_are_found():
    assert options_of(glsgn_b().state_dict(), "these")["blocks"] == [1, 2, 3]


def prefixed(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda own, other: own,
        lambda own, other: {"params": other, "params_ema": own},
        lambda own, other: {"params": prefixed(own, "module.")},
        lambda own, other: {
            "meta": {},
            "state_dict": {**prefixed(other, "generator."), **prefixed(own, "generator_ema.")},
        },
    ],
    ids=["bare", "BasicSR", "ranks", "MMagic"],
)
def test_what_frameworks_save_is_read_with_averaged_weights_first(wrap, tmp_path):
    own, other = (GLSGN(**TINY).state_dict() for _ in range(2))
    torch.save(wrap(own, other), tmp_path / "w.pth")
    found = read_glsgn(tmp_path / "w.pth").state_dict()
    assert all(torch.equal(found[key], value) for key, value in own.items())


def test_safetensors_are_read_and_damaged_ones_named(tmp_path):
    from safetensors.torch import save_file

    file = tmp_path / "w.safetensors"
    state = GLSGN(**TINY).state_dict()
    save_file(state, file)
    assert torch.equal(
        read_glsgn(file).state_dict()["fusion.mask1.conv1.bias"], state["fusion.mask1.conv1.bias"]
    )
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match="damaged"):
        read_glsgn(file)


def test_spandrel_loads_our_weights_and_will_not_tile_them(tmp_path):
    spandrel = pytest.importorskip("spandrel")
    from glsgn_plugins.spandrel import install

    install()
    count = len(list(spandrel.MAIN_REGISTRY))
    install()
    assert len(list(spandrel.MAIN_REGISTRY)) == count
    net = trained_like(GLSGN(**TINY)).eval()
    torch.save({"params": net.state_dict()}, tmp_path / "w.pth")
    model = spandrel.ModelLoader(device="cpu").load_from_file(tmp_path / "w.pth")
    assert model.architecture.id == "GLSGN"
    assert model.tiling is spandrel.ModelTiling.INTERNAL
    assert (model.scale, model.input_channels) == (1, 3)
    image = torch.rand(1, 3, 71, 50)
    with torch.no_grad():
        torch.testing.assert_close(model(image), net(image).clamp(0, 1), atol=1e-6, rtol=0)


def test_another_networks_weights_are_not_ours_in_spandrel():
    pytest.importorskip("spandrel")
    from glsgn_plugins.spandrel import GLSGNArch

    assert not GLSGNArch().detect({"conv.weight": torch.ones(1)})


SIZES = [(32, 32), (33, 47), (64, 96), (255, 131), (270, 480)]


@pytest.mark.parametrize(
    ("size", "sizes"), [([], SIZES), (["--size", "70", "96"], [(70, 96)])], ids=["any", "one"]
)
def test_onnx_agrees_with_the_core(size, sizes, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    if tuple(map(int, torch.__version__.split(".")[:2])) < EXPORTS:
        pytest.skip("this torch can't export it")
    net = trained_like(GLSGN(**TINY, long_side=48)).eval()
    torch.save({"params": net.state_dict()}, tmp_path / "w.pth")
    out = tmp_path / "net.onnx"
    assert main(["export", str(out), "--weights", str(tmp_path / "w.pth"), *size]) == 0
    said = capsys.readouterr().out
    assert "differs from torch by" in said
    assert "full size, where glsgn restore has a copy of 48 pixels" in said
    assert main(["export", str(out), "--weights", str(tmp_path / "w.pth"), *size]) == 2
    assert f"{out} exists; remove it" in capsys.readouterr().err
    session = onnxruntime.InferenceSession(str(out))
    for batch in (1, 3):
        for height, width in sizes:
            image = torch.rand(batch, 3, height, width)
            (found,) = session.run(None, {"lq": image.numpy()})
            with torch.no_grad():
                torch.testing.assert_close(torch.from_numpy(found), net(image), atol=1e-4, rtol=0)


def by_darktables_tiles(session, image, side, edge=64):
    """Tiles that overlap, mirrored at the borders, of which the edges are thrown away."""
    height, width = image.shape[2:]
    out, step = np.empty_like(image), side - 2 * edge
    for top in range(0, height, step):
        for left in range(0, width, step):
            rows, cols = (np.abs(np.arange(at - edge, at - edge + side)) for at in (top, left))
            rows, cols = (
                np.where(i >= n, 2 * n - 2 - i, i).clip(0, n - 1)
                for i, n in ((rows, height), (cols, width))
            )
            tile = np.ascontiguousarray(image[:, :, rows][..., cols])
            (found,) = session.run(["output"], {"input": tile})
            part = found[:, :, edge : edge + step, edge : edge + step]
            target = out[:, :, top : top + step, left : left + step]
            target[...] = part[:, :, : target.shape[2], : target.shape[3]]
    return out


def test_darktables_folder_works_as_its_source_says(tmp_path, capsys):
    """Against its interface as read: no registry here has a darktable that is new enough."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    if tuple(map(int, torch.__version__.split(".")[:2])) < EXPORTS:
        pytest.skip("this torch can't export it")
    net = trained_like(GLSGN(**TINY)).eval()
    torch.save({"params": net.state_dict()}, tmp_path / "w.pth")
    out = tmp_path / "models/denoise-tiny"
    argv = ["export", str(out), "--for", "darktable", "--weights", str(tmp_path / "w.pth")]
    assert main(argv) == 0
    assert {path.name for path in out.iterdir()} == {"config.json", "model.onnx"}
    config = json.loads((out / "config.json").read_text())
    assert config["id"] == out.name
    assert (config["task"], config["backend"], config["num_inputs"]) == ("denoise", "onnx", 1)
    session = onnxruntime.InferenceSession(str(out / "model.onnx"))
    image = torch.rand(1, 3, 200, 300)
    with torch.no_grad():
        whole = net(image)
    found = torch.from_numpy(by_darktables_tiles(session, image.numpy(), 256))
    assert found.isfinite().all()
    # A tile never sees the whole, so only nearly.
    change = (whole - image).abs().mean()
    assert (found - whole).abs().mean() < 0.5 * change
    assert main(argv) == 2
    assert "denoise-tiny exists" in capsys.readouterr().err
    for bad, message in (
        ([str(tmp_path / "glsgn"), *argv[2:]], "begins with denoise-"),
        ([*argv[1:], "--size", "64", "64"], "--size: darktable has tiles"),
    ):
        assert main(["export", *bad]) == 2
        assert message in capsys.readouterr().err


def test_a_torch_that_cannot_export_is_named(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxscript")
    torch.save(GLSGN(**TINY).state_dict(), tmp_path / "w.pth")
    monkeypatch.setattr(torch, "__version__", "2.6.0+cu124")
    argv = ["export", str(tmp_path / "net.onnx"), "--weights", str(tmp_path / "w.pth")]
    assert main(argv) == 2
    said = "torch 2.6.0+cu124 can't write this network as ONNX; use 2.8 or later"
    assert said in capsys.readouterr().err
    assert not (tmp_path / "net.onnx").exists()


FIRST_BIAS = (-9.202957153320312e-05, -0.00013637542724609375, 1.6033649444580078e-05)
"""Of the global pathway's head, in the first rain weights: they held no record of their network."""


@pytest.fixture
def first_weights():
    """As hosts hand them on: tensors alone, told by that bias."""
    state = glsgn_s().state_dict()
    state["global_pathway.head.bias"] = torch.tensor(FIRST_BIAS)
    return {key: value.half() for key, value in state.items()}


def test_weights_without_a_record_are_known_wherever_they_were_copied_to(
    first_weights, tmp_path, caplog
):
    torch.save({key: value.float() for key, value in first_weights.items()}, tmp_path / "mine.pth")
    assert read_glsgn(tmp_path / "mine.pth").options["padding_mode"] == "replicate"
    assert glsgn_from(first_weights, "these").options["padding_mode"] == "replicate"
    assert not caplog.records


def test_a_network_that_pads_otherwise_is_told_of(first_weights, tmp_path):
    save_file(first_weights, tmp_path / "first.safetensors")
    found = read_weights(tmp_path / "first.safetensors").weights
    assert not unlike(found, None, glsgn_s(padding_mode="replicate"), "these", "network_g")
    (line,) = unlike(found, None, glsgn_s(), "these", "network_g")
    assert "trained with padding_mode: replicate, but the network of network_g has zeros" in line


@pytest.mark.parametrize("name", ["long_side", "coarse_side"])
def test_a_network_that_is_restored_otherwise_is_told_of(name):
    net = GLSGN(**TINY)
    for said, own, lines in ((448, None, 1), (448, 512, 1), (448, 448, 0), (None, 448, 0)):
        net.options[name] = own
        found = unlike(net.state_dict(), {name: said}, net, "these", "network_g")
        assert len(found) == lines
        assert all(f"{name}: 448, but network_g.{name} is {own}" in line for line in found)


def test_records_of_before_load_and_ask_for_nothing(tmp_path, caplog):
    net = GLSGN(**TINY)
    record = {key: value for key, value in net.options.items() if "side" not in key}
    record["gain"] = False  # an option once, which nothing shipped had on
    for name in ("old.safetensors", "old.pth"):
        write_weights(net.state_dict(), tmp_path / name, options=record)
        assert read_glsgn(tmp_path / name).options == net.options
    assert not unlike(net.state_dict(), record, net, "these", "network_g")
    assert not caplog.records
