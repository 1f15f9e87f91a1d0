"""The preset ``real``: its options, clean samples, cameras, and crops that it degrades."""

import dataclasses
import json
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from demo_data import photo
from harness import deep

from glsgn_plugins.data.crops import Crops
from glsgn_plugins.data.datasets import UHDSynthesisDataset
from glsgn_plugins.data.sampling import SampleIndex
from glsgn_plugins.data.synthesis import make_degradation, options_of
from glsgn_plugins.degradations import WEATHER, Place, Real, RealParameters
from glsgn_plugins.degradations.camera import Camera, CameraParameters
from glsgn_plugins.degradations.depth import thumbnail
from glsgn_plugins.degradations.light import to_display, to_light
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.images import png, read_image

KINDS = ("rain", "reflection", "haze")


# --- what all have in common ---------------------------------------------------------------------


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_is_the_same_after_json(kind, depth, coffee, rocket):
    image = coffee[:120, :160].astype(depth)
    model = make_degradation({"type": kind})
    for seed in range(12):
        sample = model.sample(np.random.default_rng(seed))
        record = json.loads(json.dumps(dataclasses.asdict(sample)))
        companion = rocket if kind == "reflection" else None
        lq, gt = sample.pair(image, companion)
        assert lq.dtype == gt.dtype == depth
        assert lq.shape == gt.shape == image.shape
        again = RealParameters.from_record(record)
        assert again == sample
        assert all(np.array_equal(a, b) for a, b in zip(again.pair(image, companion), (lq, gt)))
        assert np.array_equal(sample.apply(image, companion), lq)


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_shows_the_weather_of_the_whole(kind, coffee, rocket):
    companion = rocket if kind == "reflection" else thumbnail(coffee)
    height, width = coffee.shape[:2]
    model = WEATHER[kind][0]()
    for seed in range(12):
        weather = model.sample(np.random.default_rng(seed))
        whole = weather.pair(coffee, companion)
        for top, left, size in ((0, 0, 64), (131, 210, 96), (height - 80, width - 80, 80)):
            part = (slice(top, top + size), slice(left, left + size))
            window = weather.pair(coffee[part], companion, Place(height, width, top, left))
            for seen, of in zip(window, whole):
                change = np.abs(seen.astype(int) - of[part])
                # OpenCV rounds places to 1/32 of a pixel, from either one's own corner.
                assert change.max() <= 6, (seed, top, left)
                assert change.mean() < 0.05, (seed, top, left)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 2)])
def test_any_size_is_degraded(kind, size, rocket):
    image = np.full((*size, 3), 90, np.uint8)
    model = make_degradation({"type": kind, "before": 1.0, "after": 1.0})
    for seed in range(6):
        lq, gt = model.sample(np.random.default_rng(seed)).pair(
            image, rocket if kind == "reflection" else None
        )
        assert lq.shape == gt.shape == image.shape


@pytest.mark.parametrize("kind", KINDS)
def test_a_tenth_of_the_samples_is_clean_or_nearly_and_its_truth_is_its_input(kind, coffee, rocket):
    image = coffee[:96, :96]
    model = make_degradation({"type": kind})
    rng = np.random.default_rng(0)
    samples = [model.sample(rng) for _ in range(1000)]
    alike = [sample for sample in samples if sample.faint is not None]
    assert 70 < len(alike) < 130
    assert 20 < sum(sample.faint == 0 for sample in alike) < 80
    for sample in alike[:20]:
        companion = rocket if kind == "reflection" else None
        lq, gt = sample.pair(image, companion)
        assert np.array_equal(lq, gt)
        if sample.before is sample.after is None and not sample.grey:
            # What is left of the weather can't be seen; a clean one is the photograph itself.
            wanted = image if sample.faint == 0 else sample.weather.pair(image, companion)[1]
            assert np.abs(lq.astype(int) - wanted).max() <= (0 if sample.faint == 0 else 16)
    never = make_degradation({"type": kind, "identity": 0.0, "before": 0.0, "after": 0.0})
    assert all(
        (drawn.faint, drawn.before, drawn.after) == (None, None, None)
        for drawn in (never.sample(rng) for _ in range(50))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_is_black_and_white_input_and_truth(kind, coffee, rocket):
    image = np.ascontiguousarray(coffee[:96, :96])
    companion = rocket if kind == "reflection" else None
    model = make_degradation({"type": kind, "grey": 0.25})
    rng = np.random.default_rng(0)
    samples = [model.sample(rng) for _ in range(400)]
    grey = [sample for sample in samples if sample.grey]
    assert 70 < len(grey) < 130
    for sample in grey[:8]:
        pair = sample.pair(image, companion)
        coloured = dataclasses.replace(sample, grey=False).pair(image, companion)
        for one, of in zip(pair, coloured):
            assert (one == one[..., :1]).all()
            luma = of @ np.array([0.299, 0.587, 0.114])
            assert np.abs(one[..., 0] - luma).max() <= 1
        assert (pair[0] is pair[1]) == (coloured[0] is coloured[1])
    never = make_degradation({"type": kind, "grey": 0})
    assert not any(never.sample(rng).grey for _ in range(100))


def test_options_name_a_preset_and_override_its_ranges_and_shares():
    model = make_degradation({"type": "haze", "beta": [0.5, 0.6], "identity": 0.0})
    assert isinstance(model, Real)
    drawn = [model.sample(np.random.default_rng(k)) for k in range(20)]
    assert all(0.5 <= sample.weather.beta <= 0.6 for sample in drawn)
    named = options_of({"type": "haze", "beta": [0.5, 0.6]})
    assert (named["preset"], named["beta"], named["identity"]) == ("real", [0.5, 0.6], 0.1)
    assert make_degradation(json.loads(json.dumps(named))).sample(
        np.random.default_rng(3)
    ) == make_degradation({"type": "haze", "beta": [0.5, 0.6]}).sample(np.random.default_rng(3))
    assert options_of({"type": "rain", "preset": "plain"})["layers"] == (3, 5)


@pytest.mark.parametrize("kind", ["rain", "haze"])
def test_a_window_without_its_photograph_is_refused(kind, coffee):
    sample = make_degradation({"type": kind, "identity": 0}).sample(np.random.default_rng(0))
    with pytest.raises(InputError, match="needs the thumbnail of the whole"):
        sample.pair(coffee[:64, :64], None, Place(*coffee.shape[:2]))


# --- camera --------------------------------------------------------------------------------------


def test_a_camera_that_does_nothing_leaves_every_value(coffee):
    for image in (coffee, deep(coffee)):
        assert np.array_equal(CameraParameters().apply(image), image)


def test_exposure_white_balance_and_gamma_are_those_of_light_and_of_display(coffee):
    image = deep(coffee)
    gained = CameraParameters(gain=(0.5, 0.4, 0.3)).apply(image)
    wanted = to_light(image) * np.array([0.5, 0.4, 0.3])
    assert np.abs(to_light(gained) - wanted).max() < 1e-4
    dark = CameraParameters(gamma=2.0).apply(image)
    assert np.abs(dark / 65535 - (image / 65535) ** 2).max() < 1e-4


@pytest.mark.parametrize("kind", ["grey", "coloured", "correlated"])
def test_noise_has_the_spread_of_shot_and_read_noise_in_light(kind):
    camera = CameraParameters(noise=kind, shot=0.002, read=0.001, seed=4)
    for level in (0.02, 0.2, 0.6):
        display = to_display(np.float32([level]), np.uint16)[0]
        image = np.full((256, 256, 3), round(float(display) * 65535), np.uint16)
        light = to_light(camera.apply(image))
        assert light.mean() == pytest.approx(level, rel=0.05)
        assert light.std() == pytest.approx(np.sqrt(0.002 * level + 1e-6), rel=0.12)
        across = np.corrcoef(light[..., 0].ravel(), light[..., 2].ravel())[0, 1]
        along = np.corrcoef(light[:, :-1, 0].ravel(), light[:, 1:, 0].ravel())[0, 1]
        assert (across > 0.99) == (kind == "grey")
        assert (along > 0.3) == (kind == "correlated")


def test_correlated_noise_has_no_seams():
    """It is made strip by strip, of 64 rows."""
    grey = np.full((640, 256, 3), 30000, np.uint16)
    spread, together = [], []
    for seed in range(6):
        camera = CameraParameters(noise="correlated", shot=0.001, read=0.01, seed=seed)
        noise = camera.apply(grey).astype(float) - 30000
        spread.append(noise.std((1, 2)))
        together.append((noise[1:] * noise[:-1]).mean((1, 2)) / noise.var())
    rows, steps = np.mean(spread, 0), np.mean(together, 0)
    seams = np.arange(63, 639, 64)
    assert rows[[*seams, *(seams + 1)]].mean() == pytest.approx(rows.mean(), rel=0.02)
    assert steps[seams].mean() == pytest.approx(steps.mean(), abs=0.03)
    assert steps.mean() > 0.5


def test_input_and_truth_share_all_of_a_camera_but_jpeg(coffee):
    """So nothing asks a network to take noise away, or to sharpen."""
    grey = np.full((128, 128, 3), 90, np.uint8)
    brighter = grey + 40
    camera = CameraParameters(gain=(0.8, 0.9, 0.7), noise="coloured", shot=0.004, seed=1)
    lq, gt = camera.pair(brighter, grey)
    difference = lq.astype(int) - gt
    assert gt.std() > 3
    # The noise is gone from the difference: what is left is rounding.
    assert np.abs(difference - difference.mean((0, 1))).max() <= 1
    soft = CameraParameters(resize=0.5, sharpen=0.8).pair(coffee, coffee)
    assert np.array_equal(*soft)
    assert not np.array_equal(soft[0], coffee)
    lq, gt = CameraParameters(jpeg=40).pair(coffee, coffee)
    assert np.array_equal(gt, coffee)
    assert 0.5 < np.abs(lq.astype(int) - coffee).mean() < 10


def test_jpeg_of_16_bits_is_no_darker_than_its_truth(coffee):
    fine = deep(coffee) // 3  # values between those of 8 bits
    lq, gt = CameraParameters(jpeg=95).pair(fine, fine)
    assert lq.dtype == np.uint16
    assert abs(lq.mean(dtype=np.float64) - gt.mean(dtype=np.float64)) < 0.1 * 257


def test_cameras_are_drawn_within_their_ranges_and_most_are_gentle():
    rng = np.random.default_rng(0)
    drawn = [Camera().sample(rng) for _ in range(2000)]
    quality = [camera.jpeg for camera in drawn if camera.jpeg is not None]
    assert 900 < len(quality) < 1100
    assert 30 <= min(quality) < 36
    assert max(quality) == 95
    assert np.median(quality) > 75
    kinds = Counter(camera.noise for camera in drawn)
    assert kinds["correlated"] < kinds["grey"]
    assert 700 < sum(camera.shot > 0 for camera in drawn) < 900
    assert sum(camera == dataclasses.replace(camera, resize=1.0) for camera in drawn) > 1500


# --- sizes, datasets, frameworks -----------------------------------------------------------------


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    root = tmp_path_factory.mktemp("clean")
    for name in ("coffee.png", "rocket.jpg"):
        (root / name).with_suffix(".png").write_bytes(png(read_image(photo(name))))
    return root


def test_photographs_are_resized_before_a_crop_is_cut(clean):
    crops = Crops(gt_size=64, resize=(0.35, 1.0))
    rng = np.random.default_rng(0)
    path = clean / "coffee.png"
    windows = [crops.window(400, 600, path, rng) for _ in range(300)]
    scales = np.array([window.height / 400 for window in windows])
    assert 0.35 <= scales.min() < 0.4
    assert 0.95 < scales.max() <= 1
    assert all(window.top + 64 <= window.height for window in windows)
    image = read_image(path)
    for window in windows[:40]:
        whole = cv2.resize(image, (window.width, window.height), interpolation=cv2.INTER_AREA)
        wanted = whole[window.top : window.top + 64, window.left : window.left + 64]
        # A part is scaled alone, which moves it by less than a pixel.
        soft = [cv2.GaussianBlur(x, (0, 0), 3) for x in (window.cut(image), wanted)]
        assert np.abs(soft[0].astype(int) - soft[1]).mean() < 4
        assert window.cut(image).shape == (64, 64, 3)
    # Never below the crop.
    small = Crops(gt_size=300, resize=(0.35, 1.0))
    assert min(small.window(400, 600, path, rng).height for _ in range(50)) >= 300


@pytest.mark.parametrize("kind", KINDS)
def test_training_samples_have_clean_ones_and_truths_that_change(kind, clean):
    dataset = UHDSynthesisDataset(
        str(clean),
        {"type": kind, "identity": 0.3},
        crops=Crops(gt_size=48, resize=(0.35, 1), crops_per_image=8, scene_share=0.2),
    )
    samples = dataset.__getitems__([SampleIndex(k // 8 % 2, 0, k) for k in range(64)])
    alike = [torch.equal(sample["lq"], sample["gt"]) for sample in samples]
    assert 8 < sum(alike) < 40
    for sample in samples:
        assert sample["lq"].shape == sample["gt"].shape == (3, 48, 48)
        assert 0 <= sample["lq"].min() <= sample["lq"].max() <= 1
