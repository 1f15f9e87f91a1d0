"""Degradations of whole batches by torch, against those of single samples by numpy."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from demo_data import photo
from device import META, watched
from torch.utils.data import default_collate

from glsgn_plugins.data.crops import Crops
from glsgn_plugins.data.datasets import UHDMixedDataset, UHDPairedDataset, UHDSynthesisDataset
from glsgn_plugins.data.sampling import SampleIndex
from glsgn_plugins.data.synthesis import make_degradation
from glsgn_plugins.degradations import Place, RealParameters
from glsgn_plugins.degradations.camera import CORRELATION, CameraParameters
from glsgn_plugins.degradations.depth import thumbnail
from glsgn_plugins.degradations.on_device import Shapes, degrade, recipe, shapes_of
from glsgn_plugins.degradations.on_device.camera import photographed, white_noise
from glsgn_plugins.degradations.on_device.jpeg import compressed, quantisation
from glsgn_plugins.degradations.on_device.recipe import CAMERA
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.images import read_image
from glsgn_plugins.training import pair_on_device

SIZE = 96
KINDS = ("rain", "reflection", "haze")


def planes(images):
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())


def numpy_noise(camera):
    """What ``CameraParameters`` draws, where the device expects it."""
    found = np.zeros((3, SIZE + 2 * CORRELATION, SIZE), np.float32)
    if camera is None:
        return found
    around = CORRELATION if camera.noise == "correlated" else 0
    channels = 1 if camera.noise == "grey" else 3
    drawn = np.random.default_rng(camera.seed).standard_normal(
        (SIZE + 2 * around, SIZE, channels), np.float32
    )
    found[:, CORRELATION - around : CORRELATION + SIZE + around] = drawn.transpose(2, 0, 1)
    return found


def without(parameters, **changes):
    """The same sample with other cameras."""
    if not isinstance(parameters, RealParameters):
        return parameters
    cameras = {
        when: camera and dataclasses.replace(camera, **changes)
        for when, camera in (("before", parameters.before), ("after", parameters.after))
    }
    return dataclasses.replace(parameters, **cameras)


def both_ways(model, image, companion, count, seed, edit=lambda parameters: parameters):
    """``(N, 2, 3, S, S)``, lq and gt of the device, and of numpy."""
    shapes, rng = shapes_of([model], SIZE), np.random.default_rng(seed)
    clean, recipes, expected, noises = [], [], [], []
    for _ in range(count):
        parameters = edit(model.sample(rng))
        top, left = (int(rng.integers(side - SIZE + 1)) for side in image.shape[:2])
        crop = np.ascontiguousarray(image[top : top + SIZE, left : left + SIZE])
        place = Place(*image.shape[:2], top, left)
        recipes.append(recipe(parameters, shapes, companion, place))
        clean.append(crop)
        expected.append(np.stack(parameters.pair(crop, companion, place)))
        cameras = [getattr(parameters, when, None) for when in ("before", "after")]
        noises.append([numpy_noise(camera) for camera in cameras])
    noise = tuple(torch.from_numpy(np.stack(side)) for side in zip(*noises))
    found = torch.stack(degrade(planes(clean), default_collate(recipes), noise), 1)
    assert found.dtype == torch.uint8
    return found, torch.from_numpy(np.stack(expected).transpose(0, 1, 4, 2, 3).copy())


def companion_of(kind, preset, image, other):
    if kind == "reflection":
        return other
    return thumbnail(image) if preset == "real" else None


@pytest.mark.parametrize("kind", KINDS)
def test_plain_weather_is_that_of_numpy_to_a_level(kind, coffee, rocket):
    model = make_degradation({"type": kind, "preset": "plain"})
    companion = companion_of(kind, "plain", coffee, rocket)
    found, expected = both_ways(model, coffee, companion, 12, seed=1)
    apart = (found.int() - expected.int()).abs()
    assert apart[:, 1].max() == 0
    assert apart.max() <= 1
    assert apart.float().mean() < 0.02
    assert (found[:, 0].int() - found[:, 1].int()).abs().float().mean() > 1


@pytest.mark.parametrize("kind", KINDS)
def test_real_weather_and_cameras_are_those_of_numpy_to_a_few_levels(kind, coffee, rocket):
    """Without JPEG; OpenCV rounds places in maps to 1/32, and steps of cameras add up."""
    model = make_degradation({"type": kind, "before": 0.7, "after": 0.7, "identity": 0.3})
    companion = companion_of(kind, "real", coffee, rocket)
    found, expected = both_ways(
        model, coffee, companion, 48, seed=2, edit=lambda p: without(p, jpeg=None)
    )
    apart = (found.int() - expected.int()).abs()
    assert apart.max() <= 8
    assert (apart > 2).float().mean() < 1e-3
    assert apart.float().mean() < 0.1
    alike = (expected[:, 0] == expected[:, 1]).flatten(1).all(1)
    assert 4 < alike.sum() < 40  # clean samples, whose truth is the input
    assert torch.equal(found[alike, 0], found[alike, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_with_jpeg_samples_are_alike_but_for_single_steps_of_quantisation(kind, coffee, rocket):
    model = make_degradation({"type": kind, "before": 0.5, "after": 1.0})
    companion = companion_of(kind, "real", coffee, rocket)
    found, expected = both_ways(
        model, coffee, companion, 24, seed=3, edit=lambda p: without(p, jpeg=60)
    )
    apart = (found.int() - expected.int()).abs().float()
    assert apart.mean() < 0.5
    assert apart.flatten(1).mean(1).max() < 2.5


@pytest.mark.parametrize("quality", [1, 30, 49, 50, 75, 95, 100])
@pytest.mark.parametrize("shape", [(96, 96), (50, 71)])
def test_a_jpeg_is_that_of_libjpeg(quality, shape, coffee):
    image = np.ascontiguousarray(coffee[150 : 150 + shape[0], 200 : 200 + shape[1]])
    _, content = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    expected = planes([cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1]])
    steps = torch.from_numpy(quantisation(quality))[None]
    found = compressed(planes([image]).float(), steps)
    apart = (found - expected).abs()
    assert apart.mean() < (0.2 if shape == (96, 96) else 0.3)  # part of a block at the edges
    assert (apart > 2).float().mean() < 0.02
    lost = (planes([image]).float() - expected).abs().mean()
    assert lost > 5 * apart.mean() or quality == 100


STEPS = {
    "light": {"gain": (0.6, 1.0, 1.3), "gamma": 1.8},
    "size": {"resize": 0.63},
    "half size": {"resize": 0.5},
    "sharpening": {"sharpen": 0.9},
    "nothing": {},
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_each_step_of_a_camera_is_that_of_numpy(step, coffee):
    camera = CameraParameters(**step)
    image = np.ascontiguousarray(coffee[100 : 100 + SIZE, 200 : 200 + SIZE])
    expected = planes([camera.apply(image)])
    made = default_collate(
        [recipe(_only(camera), Shapes(SIZE, 1, 220, 26), thumbnail(coffee), PLACE)]
    )
    found, truth = degrade(planes([image]), made)
    assert torch.equal(found, truth)
    apart = (found.int() - expected.int()).abs()
    assert apart.max() <= (2 if "resize" in step else 1)
    assert apart.float().mean() < 0.05
    assert torch.equal(found, planes([image])) == (not step)


PLACE = Place(400, 600, 100, 200)


def _only(camera):
    """A clean sample that a camera has taken."""
    sample = make_degradation({"type": "rain"}).sample(np.random.default_rng(0))
    return dataclasses.replace(sample, faint=0.0, before=None, after=camera, grey=False)


def test_noise_follows_from_the_seed_alone_and_is_gaussian():
    shape = (3, 101, 67)
    seeds = torch.tensor([0, 1, 2, 2**31 - 1, 12345])
    drawn = white_noise(seeds, shape)
    assert drawn.shape == (5, *shape)
    assert torch.equal(white_noise(seeds[3:4], shape)[0], drawn[3])
    assert torch.equal(drawn, white_noise(seeds, shape))
    flat = drawn.flatten(1).double()
    assert flat.mean(1).abs().max() < 0.03
    assert (flat.std(1) - 1).abs().max() < 0.03
    fourth = (flat**4).mean(1)
    assert (fourth - 3).abs().max() < 0.25
    # Neither samples, nor neighbours, nor the two of a pair go together.
    assert (torch.corrcoef(flat) - torch.eye(5)).abs().max() < 0.03
    for lag in (1, 67, flat.shape[1] // 2, flat.shape[1] // 2 + 1):
        assert (flat[:, lag:] * flat[:, :-lag]).mean(1).abs().max() < 0.04


@pytest.mark.parametrize("kind", ["grey", "coloured", "correlated"])
def test_noise_of_each_kind_is_as_strong_as_that_of_numpy(kind):
    camera = CameraParameters(noise=kind, shot=0.003, read=0.002, seed=7)
    ramp = np.repeat(np.arange(0, 252, 4, dtype=np.uint8), 3)[None, :, None]
    image = np.ascontiguousarray(np.broadcast_to(ramp, (189, 189, 3)))
    expected = camera.apply(image).astype(float) - image
    shapes = Shapes(189, 1, 220, 26)
    overview = thumbnail(np.zeros((400, 600, 3), np.uint8))
    made = default_collate([recipe(_only(camera), shapes, overview, Place(400, 600))])
    found, truth = degrade(planes([image]), made)
    assert torch.equal(found, truth)
    found = found[0].permute(1, 2, 0).numpy().astype(float) - image
    for columns in (slice(20, 60), slice(70, 120), slice(130, 180)):
        assert found[:, columns].std() == pytest.approx(expected[:, columns].std(), rel=0.08)
    same = np.array_equal(found[..., 0], found[..., 2])
    assert same == (kind == "grey")
    across = np.corrcoef(found[:, 100, 1], found[:, 101, 1])[0, 1]
    assert (across > 0.3) == (kind == "correlated")


# --- batches on a device, and in datasets --------------------------------------------------------


def batch(kinds, count, rng, image):
    models = [make_degradation({"type": kind}) for kind in kinds]
    shapes = shapes_of(models, SIZE)
    made = []
    for k in range(count):
        companion = image if kinds[k % len(kinds)] == "reflection" else thumbnail(image)
        parameters = models[k % len(models)].sample(rng)
        made.append(recipe(parameters, shapes, companion, Place(*image.shape[:2])))
    return default_collate(made)


def test_nothing_is_read_and_a_larger_batch_takes_no_more_operations(coffee):
    counts = []
    for count in (1, 8):
        made = batch(KINDS, count, np.random.default_rng(0), coffee)
        there = {name: part.to(META) for name, part in made.items()}
        clean = torch.empty(count, 3, SIZE, SIZE, dtype=torch.uint8, device=META)
        with watched() as watch:
            lq, gt = degrade(clean, there)
        assert lq.shape == gt.shape == clean.shape
        assert not watch.host
        counts.append(watch.operations)
    assert counts[1] <= 1.01 * counts[0] < 1500


def test_tasks_of_one_batch_are_those_of_each_alone(coffee):
    rng = np.random.default_rng(4)
    made = batch(KINDS, 6, rng, coffee)
    clean = planes([coffee[50 : 50 + SIZE, 90 : 90 + SIZE]] * 6)
    together = degrade(clean, made)
    for k in range(6):
        alone = degrade(clean[k : k + 1], {name: part[k : k + 1] for name, part in made.items()})
        for one, of in zip(alone, together):
            assert (one[0].int() - of[k].int()).abs().max() <= 1


def test_recipes_are_as_large_as_their_tasks_need():
    """What no sample of a dataset needs isn't carried along."""
    models = {kind: make_degradation({"type": kind}) for kind in KINDS}
    assert shapes_of([models["haze"]], 64) == Shapes(64, 0, 220, 3)
    assert shapes_of([models["rain"]], 64) == Shapes(64, 1, 220, 26)
    assert shapes_of([models["reflection"]], 64) == Shapes(64, 3, 220, 220)
    assert shapes_of(models.values(), 64) == Shapes(64, 3, 220, 220)
    plain = [make_degradation({"type": kind, "preset": "plain"}) for kind in KINDS]
    assert shapes_of(plain[:1], 64) == Shapes(64, 1, 3, 3)
    assert shapes_of(plain, 64) == Shapes(64, 3, 3, 3)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    for name in ("coffee.png", "rocket.jpg", "chelsea.png"):
        image = read_image(photo(name))
        cv2.imwrite(str(root / f"{name.split('.')[0]}.png"), image[..., ::-1])
    return root


CROPS = {"gt_size": 80, "use_hflip": True, "use_rot": True, "scene_share": 0.3, "seed": 3}


def on_device(dataset):
    dataset.as_bytes = True
    dataset.degrade_on_device()
    return dataset


@pytest.mark.parametrize("preset", ["plain", "real"])
@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_those_that_the_loader_would_have_degraded(kind, preset, photographs):
    degradation = {"type": kind, "preset": preset}
    if preset == "real":
        degradation |= {"before": 0.0, "after": 0.0}
    crops = Crops(**CROPS, crops_per_image=2)
    here = UHDSynthesisDataset(str(photographs), degradation, crops=crops)
    there = on_device(UHDSynthesisDataset(str(photographs), degradation, crops=crops))
    indices = [SampleIndex(k % 3, 0, k) for k in range(12)]
    expected, left = here.__getitems__(indices), there.__getitems__(indices)
    assert all("lq" not in sample for sample in left)
    lq, gt = pair_on_device(default_collate(left), torch.device("cpu"))
    assert lq.dtype == torch.float32
    for k, sample in enumerate(expected):
        assert sample["lq_path"] == left[k]["lq_path"]
        for found, name in ((lq[k], "lq"), (gt[k], "gt")):
            apart = 255 * (found - sample[name]).abs()
            assert apart.max() <= 6
            assert apart.mean() < 0.3
    assert not torch.equal(lq, gt)


def test_a_mixed_dataset_leaves_all_its_tasks_to_the_device(photographs):
    parts = [
        {"type": "UHDSynthesisDataset", "dataroot": str(photographs), "degradation": {"type": kind}}
        for kind in KINDS
    ]
    dataset = on_device(UHDMixedDataset(parts, crops=Crops(**CROPS)))
    loader = torch.utils.data.DataLoader(dataset, batch_size=9, num_workers=1)
    (data,) = loader
    lq, gt = pair_on_device(data, torch.device("cpu"))
    changed = (lq - gt).abs().flatten(1).mean(1) * 255
    assert (changed > 1).sum() >= 6


def test_what_cannot_be_left_to_the_device_is_said(photographs, tmp_path):
    haze = {"type": "haze"}
    whole = UHDSynthesisDataset(str(photographs), haze)
    floats = UHDSynthesisDataset(str(photographs), haze, crops=Crops(gt_size=64))
    for dataset, as_bytes in ((whole, True), (floats, False)):
        dataset.as_bytes = as_bytes
        with pytest.raises(InputError, match="degrade_on_device: needs gt_size, and as_bytes"):
            dataset.degrade_on_device()

    maps = tmp_path / "maps"
    maps.mkdir()
    for path in photographs.iterdir():
        np.save(maps / f"{path.stem}.npy", np.full((30, 40), 0.5, np.float32))
    given = UHDSynthesisDataset(
        str(photographs), haze, dataroot_depth=str(maps), crops=Crops(gt_size=64)
    )
    with pytest.raises(InputError, match="not with dataroot_depth"):
        on_device(given)

    pairs = {"type": "UHDPairedDataset", "dataroot": str(photographs), "lq": "{n}", "gt": "{n}"}
    made = {"type": "UHDSynthesisDataset", "dataroot": str(photographs), "degradation": haze}
    mixed = UHDMixedDataset([made, pairs], crops=Crops(gt_size=64))
    with pytest.raises(InputError, match="UHDPairedDataset has pairs, which are degraded already"):
        on_device(mixed)
    paired = UHDPairedDataset(str(photographs), lq="{n}", gt="{n}", crops=Crops(gt_size=64))
    with pytest.raises(InputError, match="has pairs"):
        on_device(paired)


def test_cameras_of_truth_and_input_share_their_noise():
    levels = torch.full((1, 3, 40, 40), 120.0)
    camera = CameraParameters(noise="coloured", shot=0.004, read=0.001)
    rain = dataclasses.replace(_only(camera), before=None)
    made = recipe(rain, Shapes(40, 1, 220, 26), None, Place(400, 600))
    numbers = dict(zip(CAMERA, torch.from_numpy(made["numbers"][-10:]).reshape(10, 1)))
    camera = {name: value.reshape(1, 1, 1, 1) for name, value in numbers.items()}
    noise = white_noise(torch.tensor([5]), (3, 40 + 2 * CORRELATION, 40))
    steps = torch.from_numpy(made["jpeg_steps"][None, 1])
    lq, gt = photographed([levels, levels - 30], camera, steps, noise)
    assert (lq - gt - 30).abs().max() <= 1
    assert lq.std() > 3
