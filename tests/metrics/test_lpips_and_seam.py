"""Deep distances and seam figures, as losses' backbones and as metrics."""

import cv2
import numpy as np
import pytest
import torch

from glsgn_plugins import InputError
from glsgn_plugins.losses import SemanticDistance
from glsgn_plugins.metrics import calculate_lpips, calculate_seam


@pytest.fixture(scope="module")
def clean(rainy_pair):
    return rainy_pair[1][:256, :384]


NETS = ["alex", "vgg", "squeeze"]


@pytest.mark.parametrize("net", NETS)
def test_lpips_equals_the_packages_own_value(net):
    import lpips

    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    ours = SemanticDistance(f"lpips_{net}", weights="random")
    x, y = torch.rand(2, 2, 3, 96, 80)
    with torch.no_grad():
        expected = theirs(x, y, normalize=True).flatten()
        torch.testing.assert_close(ours(x, y), expected, rtol=1e-4, atol=1e-6)


def test_lpips_metric_is_a_distance_and_knows_blur_from_faint_noise(clean):
    rng = np.random.default_rng(0)
    noisy = np.clip(clean + rng.normal(0, 2, clean.shape), 0, 255).astype(np.uint8)
    blurred = cv2.GaussianBlur(clean, (0, 0), 3)

    def lpips(x, y):
        return calculate_lpips(x, y, weights="random")

    assert lpips(clean, clean) == 0
    assert lpips(clean, blurred) == pytest.approx(lpips(blurred, clean), rel=1e-5)
    assert lpips(clean, blurred) > 2 * lpips(clean, noisy) > 0
    chw = [x.transpose(2, 0, 1) for x in (clean, blurred)]
    assert calculate_lpips(*chw, input_order="CHW", weights="random") == lpips(clean, blurred)


def test_a_timm_backbone_by_name_and_layer():
    pytest.importorskip("timm")
    x, y = torch.rand(2, 2, 3, 64, 64)
    distance = SemanticDistance("resnet18", layers=[1, 2], weights="random")
    assert len(distance.features(x)) == 2
    assert distance(x, x).abs().max() == 0
    torch.testing.assert_close(distance(x, y), distance(y, x))
    again = SemanticDistance("resnet18", layers=[1, 2], weights="random")
    assert torch.equal(distance(x, y), again(x, y))
    for layers in (2, ["a"], [9]):
        with pytest.raises(InputError, match="layers: resnet18 has 0 to 4"):
            SemanticDistance("resnet18", layers=layers, weights="random")


def test_features_are_of_unit_length_over_channels_wherever_those_are():
    pytest.importorskip("timm")
    distance = SemanticDistance("mambaout_femto", layers=[0], weights="random")  # channels last
    (features,) = distance.features(torch.rand(1, 3, 64, 96))
    assert features.shape == (1, 48, 16, 24)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(1, 16, 24))
    with pytest.raises(InputError, match="vit_tiny_patch16_224: takes images of one size alone"):
        SemanticDistance("vit_tiny_patch16_224", weights="random")


def test_weights_from_a_local_file(tmp_path):
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    torch.manual_seed(5)
    model = timm.create_model("resnet18", pretrained=False)
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    x, y = torch.rand(2, 1, 3, 64, 64)
    file = str(tmp_path / "net.safetensors")
    loaded = SemanticDistance("resnet18", layers=[0], weights=file)
    assert torch.equal(loaded.net.net.conv1.weight, model.conv1.weight)
    assert not torch.equal(loaded(x, y), SemanticDistance("resnet18", [0], "random")(x, y))

    import torchvision

    trunk = torchvision.models.alexnet(weights=None)
    torch.save(trunk.state_dict(), tmp_path / "alexnet.pth")
    loaded = SemanticDistance("lpips_alex", weights=str(tmp_path / "alexnet.pth"))
    state = loaded.net.state_dict()
    assert torch.equal(state["slice1.0.weight"], trunk.features[0].weight)


def test_it_stays_frozen_and_passes_gradients_to_images():
    distance = SemanticDistance("lpips_alex", weights="random").train()
    assert not any(m.training for m in distance.modules())
    x = torch.zeros(1, 3, 32, 32, requires_grad=True)  # flat: no channel answers somewhere
    distance(x, torch.rand(1, 3, 32, 32)).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in distance.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "lpips_alexx"}, "Did you mean 'lpips_alex'"),
        ({"backbone": "resnet18", "layers": [9], "weights": "random"}, "has 0 to 4; got"),
        ({"backbone": "lpips_vgg", "layers": [1], "weights": "random"}, "leave layers out"),
        ({"backbone": "lpips_vgg", "weights": "nowhere.pth"}, "no file 'nowhere.pth'.*vgg16"),
        ({"backbone": "resnet18", "weights": "nowhere.pth"}, "no file 'nowhere.pth'"),
    ],
)
def test_wrong_backbones_are_named(options, message):
    pytest.importorskip("timm")
    with pytest.raises(InputError, match=message):
        SemanticDistance(**options)


def test_an_empty_cache_says_where_weights_come_from(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        InputError, match=r"alexnet-owt-7be5be79\.pth.*torchvision\.models\.alexnet"
    ):
        SemanticDistance("lpips_alex")
    pytest.importorskip("timm")
    with pytest.raises(InputError, match=r"not in huggingface_hub's cache.*timm\.create_model"):
        SemanticDistance("resnet18")


# --- seams ---------------------------------------------------------------------------------------


def in_patches(image, change):
    """Each patch of a 4x4 grid changed by what ``change(row, column)`` adds."""
    out = image.astype(np.float64)
    h, w = image.shape[0] // 4, image.shape[1] // 4
    for r in range(4):
        for c in range(4):
            out[r * h : (r + 1) * h, c * w : (c + 1) * w] += change(r, c)
    return out


def test_seam_figures_of_the_truth_itself(clean):
    assert calculate_seam(clean, clean) == pytest.approx(1)
    assert calculate_seam(clean, clean, figure="residual") == 0


def test_seams_raise_both_figures_and_even_change_neither(clean):
    checkered = in_patches(clean, lambda r, c: 12 * ((r + c) % 2))
    assert calculate_seam(checkered, clean) > 1.2
    assert calculate_seam(checkered, clean, figure="residual") == pytest.approx(12)
    fainter = in_patches(clean, lambda r, c: 3 * ((r + c) % 2))
    assert 1 < calculate_seam(fainter, clean) < calculate_seam(checkered, clean)
    even = clean.astype(np.float64) + 12
    assert calculate_seam(even, clean) == pytest.approx(1)
    assert calculate_seam(even, clean, figure="residual") == pytest.approx(0, abs=1e-9)


def test_borders_are_those_of_the_padded_image(clean):
    """270 rows are padded to 288, so patches begin at 72, 144 and 216."""
    tall = np.concatenate([clean, clean[:14]])
    stepped = tall.astype(np.float64)
    stepped[72:144] += 20
    moved = tall.astype(np.float64)
    moved[67:135] += 20  # 270 / 4 and 270 / 2: no border of the network
    assert calculate_seam(stepped, tall) > calculate_seam(moved, tall)


def test_images_without_a_border_or_of_two_sizes_are_named(clean):
    with pytest.raises(InputError, match=r"grid \(1, 1\) has no border"):
        calculate_seam(clean, clean, grid=(1, 1))
    with pytest.raises(InputError, match="of one shape, got"):
        calculate_seam(clean, clean[1:])


def test_unknown_figures_and_orders_are_named(clean):
    with pytest.raises(InputError, match="Did you mean 'gradient'"):
        calculate_seam(clean, clean, figure="gradients")
    with pytest.raises(InputError, match="input_order"):
        calculate_lpips(clean, clean, input_order="WHC")


@pytest.mark.parametrize("border", [128, -1])
def test_a_border_that_leaves_nothing_is_named(clean, border):
    with pytest.raises(
        InputError, match=f"crop_border: {border} leaves nothing of an image of 384"
    ):
        calculate_lpips(clean, clean, crop_border=border, weights="random")


def test_what_no_metric_can_be_made_of_is_named(clean):
    for options in ({"grid": 4}, {"grid": (0, 4)}, {"multiple": (0, 0)}):
        (name,) = options
        with pytest.raises(InputError, match=f"calculate_seam {name}: expected two numbers"):
            calculate_seam(clean, clean, **options)
    with pytest.raises(InputError, match="has no border, or nothing else"):
        calculate_seam(clean[:96, :80], clean[:96, :80], grid=(96, 80), multiple=(1, 1))
    with pytest.raises(InputError, match=r"calculate_lpips net: 'alexx' does not exist.*'alex'"):
        calculate_lpips(clean, clean, net="alexx")
    for other in (clean[:-1], clean[..., 0]):
        with pytest.raises(InputError, match="calculate_lpips: expected two images"):
            calculate_lpips(clean, other, weights="random")
