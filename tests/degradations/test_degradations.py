"""Rain, reflection and haze: what their parameters promise, over real photographs."""

import dataclasses
import json
from itertools import pairwise

import cv2
import numpy as np
import pytest
from demo_data import photo
from harness import deep

from glsgn_plugins.degradations import (
    DEGRADATIONS,
    PARAMETERS,
    Haze,
    HazeParameters,
    Place,
    Rain,
    RainLayer,
    RainParameters,
    RealHaze,
    RealReflection,
    Reflection,
    ReflectionParameters,
)
from glsgn_plugins.degradations.light import from_light, to_light
from glsgn_plugins.degradations.place import smooth_field
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.images import read_image

LAYER = RainLayer(
    angle=12.0, length=0.1, width=0.004, density=80.0, opacity=0.5, defocus=0.0, seed=7
)
GLASS = ReflectionParameters(
    transmission=0.9,
    strength=0.3,
    defocus=0.004,
    ghost_offset=(0.0, 0.0),
    ghost_decay=0.0,
    variation=0.0,
    vignette=0.0,
    zoom=0.8,
    shift=(0.3, 0.6),
    mirrored=False,
    seed=3,
)


def photograph(name, depth=np.uint8):
    image = read_image(photo(name))
    return image if depth == np.uint8 else deep(image)


@pytest.mark.parametrize(("depth", "levels"), [(np.uint8, 256), (np.uint16, 65536)])
def test_every_level_survives_linear_light(depth, levels):
    every = np.arange(levels, dtype=depth).reshape(-1, 1, 1).repeat(3, axis=2)
    light = to_light(every)
    assert light.dtype == np.float32
    assert light.min() == 0
    assert light.max() == 1
    assert np.array_equal(from_light(light, depth), every)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_zero_strength_returns_the_input_bit_for_bit(depth, rocket):
    image = photograph("coffee.png", depth)
    nothing = [
        RainParameters((dataclasses.replace(LAYER, density=0.0),), veil=0.0, radiance=0.9),
        RainParameters((dataclasses.replace(LAYER, opacity=0.0),), veil=0.0, radiance=0.9),
        dataclasses.replace(GLASS, transmission=1.0, strength=0.0),
        dataclasses.replace(Haze().sample(np.random.default_rng(0)), beta=0.0),
    ]
    for parameters in nothing:
        out = parameters.apply(image, rocket)
        assert out.dtype == depth
        assert np.array_equal(out, image)
        assert out is not image


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_parameters_make_the_same_picture_after_json(kind, depth, rocket):
    image = photograph("coffee.png", depth)
    first = DEGRADATIONS[kind]().sample(np.random.default_rng(5))
    again = DEGRADATIONS[kind]().sample(np.random.default_rng(5))
    record = json.loads(json.dumps(dataclasses.asdict(first)))
    out = first.apply(image, rocket)
    assert out.dtype == depth
    assert not np.array_equal(out, image)
    assert np.array_equal(out, again.apply(image, rocket))
    assert np.array_equal(out, PARAMETERS[kind].from_record(record).apply(image, rocket))
    other = DEGRADATIONS[kind]().sample(np.random.default_rng(6))
    assert not np.array_equal(out, other.apply(image, rocket))


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_a_window_shows_what_the_whole_shows_there(kind, coffee, rocket):
    height, width = coffee.shape[:2]
    for seed in range(4):
        parameters = DEGRADATIONS[kind]().sample(np.random.default_rng(seed))
        whole = parameters.apply(coffee, rocket)
        for top, left, size in ((0, 0, 64), (130, 211, 96), (height - 80, width - 80, 80)):
            part = (slice(top, top + size), slice(left, left + size))
            place = Place(height, width, top, left)
            window = parameters.apply(coffee[part], rocket, place)
            difference = np.abs(window.astype(int) - whole[part])
            assert difference.max() <= 1, (seed, top, left)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_twice_the_resolution_gives_the_same_picture(kind, rocket):
    """In light, over cells of 16 pixels: finer than that streaks fall between pixels."""
    grey = np.full((288, 512, 3), 60, np.uint8)
    for seed in range(3):
        parameters = DEGRADATIONS[kind]().sample(np.random.default_rng(seed))
        small, large = (
            to_light(parameters.apply(cv2.resize(grey, (w, w * 9 // 16)), rocket))
            for w in (512, 1024)
        )
        cells = [cv2.resize(x, (32, 18), interpolation=cv2.INTER_AREA) for x in (small, large)]
        changed = np.abs(cells[0] - to_light(grey[:1, :1])).mean()
        assert np.abs(cells[0] - cells[1]).mean() < 0.05 * changed + 1e-3


def test_rain_covers_what_density_length_width_and_opacity_say():
    place = Place(720, 1280)
    for density, length, width, opacity in (
        (80, 0.1, 0.004, 0.5),
        (160, 0.1, 0.004, 0.5),
        (80, 0.05, 0.004, 0.5),
        (80, 0.1, 0.008, 0.5),
        (80, 0.1, 0.004, 0.25),
    ):
        means = []
        for seed in range(4):
            layer = RainLayer(12.0, length, width, density, opacity, 0.001, seed)
            means.append(layer.mask((720, 1280), place).mean())
        wanted = 1.0645 * density * length * width * opacity
        assert np.mean(means) == pytest.approx(wanted, rel=0.15)


@pytest.mark.parametrize("angle", [-40, -15, 0, 25])
def test_streaks_lie_along_their_angle(angle):
    layer = dataclasses.replace(LAYER, angle=float(angle), density=40.0)
    mask = layer.mask((720, 1280), Place(720, 1280))
    dx, dy = (cv2.Sobel(mask, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    # The direction in which the mask changes least, of the structure tensor.
    across = 0.5 * np.arctan2(2 * (dx * dy).sum(), (dx**2 - dy**2).sum())
    assert np.rad2deg(-across) == pytest.approx(angle, abs=2)


def test_streaks_are_as_long_against_the_frame_at_4k_as_at_1080p():
    def longest(height):
        layer = dataclasses.replace(LAYER, angle=0.0, density=3.0)
        mask = layer.mask((height, height * 16 // 9), Place(height, height * 16 // 9))
        parts = cv2.connectedComponentsWithStats((mask > 0.1).astype(np.uint8))[2]
        return parts[1:, cv2.CC_STAT_HEIGHT].max() / height

    assert longest(1080) == pytest.approx(longest(2160), rel=0.03)
    assert 0.08 < longest(2160) < 0.2


def test_veil_is_a_share_of_the_light(coffee):
    rain = RainParameters((), veil=0.4, radiance=0.8)
    image = coffee.astype(np.uint16) * 257
    wanted = 0.6 * to_light(image) + 0.4 * 0.8
    assert np.abs(to_light(rain.apply(image)) - wanted).max() < 2e-5


def test_rain_is_drawn_without_veil_unless_asked_for():
    rng = np.random.default_rng(0)
    assert all(Rain().sample(rng).veil == 0 for _ in range(20))
    assert all(0.1 <= Rain(veil=(0.1, 0.3)).sample(rng).veil <= 0.3 for _ in range(20))


def test_near_streaks_are_longer_wider_and_fewer():
    layers = Rain(layers=(4, 4)).sample(np.random.default_rng(1)).layers
    assert len(layers) == 4
    for far, near in pairwise(layers):
        assert near.length > far.length
        assert near.width > far.width
        assert near.density < far.density


def test_haze_of_known_transmission_and_airlight_inverts(coffee):
    image = coffee.astype(np.uint16) * 257
    depth = smooth_field(3, image.shape[:2], Place.whole(image))
    haze = HazeParameters(1.5, (0.8, 0.82, 0.85), "given", 0.4, 0.5, 0)
    hazy = haze.apply(image, depth)
    t = np.exp(-1.5 * depth)[..., None]
    airlight = np.array([0.8, 0.82, 0.85])
    assert t.min() < 0.3
    clear = (to_light(hazy) - airlight * (1 - t)) / t
    # Half a level of 16 bits, at the steepest of the sRGB curve, divided by t.
    assert np.abs(clear - to_light(image)).max() < 2e-4


@pytest.mark.parametrize("depth", [np.uint8, np.uint16, np.float32])
def test_depth_maps_of_any_size_and_type_are_scaled_to_the_photograph(depth, coffee):
    ramp = np.linspace(0, 1, 50)[:, None].repeat(30, axis=1)
    if depth != np.float32:
        ramp = np.round(ramp * np.iinfo(depth).max)
    haze = dataclasses.replace(Haze().sample(np.random.default_rng(0)), depth="given")
    distance = haze.distance(ramp.astype(depth), coffee.shape[:2], Place.whole(coffee))
    rows = np.linspace(0, 1, coffee.shape[0])
    assert np.abs(distance - rows[:, None]).max() < 0.02


def test_haze_says_what_depth_it_used_and_refuses_what_is_none(coffee):
    haze = Haze().sample(np.random.default_rng(0))
    assert haze.depth == "procedural"
    given = dataclasses.replace(haze, depth="given")
    with pytest.raises(InputError, match="needs a depth map"):
        given.apply(coffee)
    with pytest.raises(InputError, match=r"depth in \[0, 1\], got 0 to 80"):
        given.apply(coffee, np.linspace(0, 80, 100, dtype=np.float32).reshape(10, 10))
    with pytest.raises(InputError, match="depth map of shape"):
        given.apply(coffee, coffee)


def test_reflected_light_has_the_energy_that_strength_says(rocket):
    image = np.zeros((240, 320, 3), np.uint16)  # behind dark glass, nothing clips
    place = Place.whole(image)
    for strength in (0.1, 0.2, 0.4):
        for extra in ({}, {"ghost_offset": (0.02, 0.01), "ghost_decay": 0.4}):
            glass = dataclasses.replace(GLASS, strength=strength, **extra)
            light = to_light(glass.apply(image, rocket))
            plain = dataclasses.replace(GLASS, defocus=0.0).reflected(rocket, (240, 320), place)
            assert light.mean() == pytest.approx(strength * plain.mean(), rel=0.06)


def test_the_scene_and_the_reflection_add_up_in_light_and_clip(coffee, rocket):
    image = coffee.astype(np.uint16) * 257
    place = Place.whole(image)
    glass = dataclasses.replace(GLASS, strength=1.0, variation=0.6, vignette=0.4)
    reflected = glass.reflected(rocket, image.shape[:2], place)
    gain = glass.gain(image.shape[:2], place)
    assert gain.max() <= 1.0
    assert gain.min() < 0.6
    wanted = 0.9 * to_light(image) + gain[..., None] * reflected
    assert wanted.max() > 1
    assert np.abs(to_light(glass.apply(image, rocket)) - np.minimum(wanted, 1)).max() < 2e-5


def test_a_ghost_is_the_reflection_moved_and_weaker():
    point = np.zeros((200, 200, 3), np.uint8)
    point[100, 80] = 255
    glass = dataclasses.replace(
        GLASS,
        defocus=0.0,
        zoom=1.0,
        ghost_offset=(0.1, 0.05),
        ghost_decay=0.25,
    )
    light = glass.reflected(point, (200, 200), Place(200, 200))[..., 0]
    assert light[100, 80] == pytest.approx(0.75)
    assert light[110, 100] == pytest.approx(0.25)
    mirrored = dataclasses.replace(glass, mirrored=True)
    assert mirrored.reflected(point, (200, 200), Place(200, 200))[100, 119, 0] == 0.75


def test_defocus_is_a_gaussian_of_the_shorter_side():
    edge = np.zeros((400, 400, 3), np.uint8)
    edge[:, 200:] = 255
    for defocus, tolerance in ((0.008, 0.1), (0.03, 0.15)):  # 3.2 pixels, and 12 at reduced size
        glass = dataclasses.replace(GLASS, defocus=defocus, zoom=1.0)
        profile = glass.reflected(edge, (400, 400), Place(400, 400))[200, :, 0]
        spread = np.gradient(profile)
        at = np.arange(400)
        mean = (at * spread).sum()
        sigma = np.sqrt((((at - mean) ** 2) * spread).sum())
        assert sigma == pytest.approx(defocus * 400, rel=tolerance)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rain(veil=(0, 1.5)), "rain: veil: expected numbers from 0 to 1"),
        (lambda: Rain(angle=(-90, 10)), "rain: angle: expected numbers from -80 to 80"),
        (lambda: RealReflection(white=(-90, 0)), "reflection: white: expected numbers from -8 to"),
        (lambda: RealReflection(lamps=(0, 2)), "reflection: lamps: expected numbers from 1 up"),
        (lambda: RealHaze(warmth=(-2, 0)), "haze: warmth: expected numbers from -1 to 1"),
        (lambda: Rain(layers=(0, 2)), "rain: layers: expected whole numbers from 1 up"),
        (lambda: Rain(width=(1, 3)), "rain: width: expected numbers from 0 to 0.1"),
        (lambda: RealHaze(cells=(9, 10000)), "haze: cells: expected numbers from 1 to 64"),
        (lambda: Reflection(ghost_offset=(5, 20)), "reflection: ghost_offset: expected numbers"),
        (lambda: Rain(length=(0.2, 0.1)), "rain: length: expected two numbers"),
        (lambda: Haze(beta=3), "haze: beta: expected two numbers"),
        (lambda: Haze(beta=(-1, 3)), "haze: beta: expected numbers from 0 up"),
        (lambda: Reflection(zoom=("a", "b")), "reflection: zoom: expected two numbers"),
    ],
)
def test_ranges_that_are_not_possible(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_images_that_are_none(coffee):
    rain = Rain().sample(np.random.default_rng(0))
    for image in (coffee[..., 0], coffee.astype(np.float32), coffee.transpose(2, 0, 1)):
        with pytest.raises(InputError, match=r"shape \(H, W, 3\), RGB, uint8 or uint16"):
            rain.apply(image)
    with pytest.raises(InputError, match="needs a second photograph"):
        GLASS.apply(coffee)


@pytest.mark.parametrize("kind", DEGRADATIONS)
@pytest.mark.parametrize("size", [(1, 1), (3, 700), (700, 2)])
def test_any_size_is_degraded(kind, size, rocket):
    image = np.full((*size, 3), 90, np.uint8)
    for seed in range(3):
        out = DEGRADATIONS[kind]().sample(np.random.default_rng(seed)).apply(image, rocket)
        assert out.shape == image.shape
