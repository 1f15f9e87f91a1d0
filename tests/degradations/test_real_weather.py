"""Rain, reflection and haze of the preset ``real``: the physics of each term."""

import dataclasses
from collections import Counter

import cv2
import numpy as np
import pytest
from harness import WARP_LEVELS, deep

from glsgn_plugins.degradations import WEATHER, Place, RainLayer
from glsgn_plugins.degradations.depth import dark_channel, picture_depth, thumbnail
from glsgn_plugins.degradations.drops import Drops, Splashes
from glsgn_plugins.degradations.light import to_display, to_light
from glsgn_plugins.degradations.rain import STEEPEST
from glsgn_plugins.degradations.real_haze import RealHazeParameters
from glsgn_plugins.degradations.real_rain import RealRainParameters
from glsgn_plugins.degradations.real_reflection import RealReflectionParameters, reflectance
from glsgn_plugins.degradations.reflection import ReflectionParameters
from glsgn_plugins.degradations.streaks import streaks
from glsgn_plugins.errors import InputError

HAZE = RealHazeParameters(
    light=True,
    beta=1.5,
    redder=0.0,
    airlight=(0.9, 0.8, 0.6),
    glow=0.0,
    near=0.0,
    shares=(1.0, 0.0, 0.0, 0.0),
    shuffled=False,
    horizon=0.3,
    uneven=0.0,
    cells=3,
    roughness=0.5,
    seed=5,
)
LAYER = RainLayer(10.0, 0.1, 0.004, 200.0, 0.4, 0.0, 3)
RAIN = RealRainParameters(
    blend="added",
    layers=(LAYER,),
    gusts=0.0,
    mist=0.0,
    radiance=(1.0, 1.0, 1.0),
    around=0.0,
    veil=None,
    drops=None,
    splashes=None,
    seed=2,
)
GLASS = RealReflectionParameters(
    blend="light",
    glass=ReflectionParameters(
        transmission=0.8,
        strength=0.5,
        defocus=0.0,
        ghost_offset=(0.0, 0.0),
        ghost_decay=0.0,
        variation=0.0,
        vignette=0.0,
        zoom=0.8,
        shift=(0.5, 0.5),
        mirrored=False,
        seed=1,
    ),
    scene=(1.0, 1.0, 1.0),
    reflected=(1.0, 1.0, 1.0),
    lamps=1.0,
    cut=0.0,
    angles=(0.0, 0.0),
    turn=0.0,
)
WARPED_LIGHT = WARP_LEVELS * 0.5 * 2.2 / 255
"""What that is in half the light of what is mirrored, at its brightest."""


# --- haze ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("light", [True, False])
def test_haze_is_scattering_of_each_colour_in_light_or_in_display_values(light, coffee):
    image = deep(coffee)
    haze = dataclasses.replace(HAZE, light=light, redder=0.2, near=0.1, uneven=0.5)
    hazy, truth = haze.pair(image)
    assert truth is image
    depth = haze.optical_depth(thumbnail(image))
    assert depth.max() > 1.5
    # Optical depths of red, green and blue differ as they should.
    clear, _ = haze.terms(thumbnail(image))
    for channel, share in enumerate((0.8, 1.0, 1.2)):
        assert -np.log(clear[..., channel]) == pytest.approx(share * depth, abs=1e-4)
    size = image.shape[1::-1]
    t = cv2.resize(clear, size, interpolation=cv2.INTER_LINEAR)
    airlight = np.float32([0.9, 0.8, 0.6])
    airlight = to_light(np.round(airlight * 65535).astype(np.uint16)) if light else airlight
    seen, scene = (to_light(x) if light else x / 65535 for x in (hazy, image))
    inner = (slice(8, -8), slice(8, -8))
    wanted = scene * t + airlight * (1 - t)
    assert np.abs(seen - wanted)[inner].max() < 2e-3


def test_haze_without_density_changes_nothing(coffee):
    for light in (True, False):
        haze = dataclasses.replace(HAZE, light=light, beta=0.0, glow=0.5)
        assert np.array_equal(haze.pair(coffee)[0], coffee)


def test_thick_haze_has_the_colour_of_its_airlight(coffee):
    for light in (True, False):
        haze = dataclasses.replace(HAZE, light=light, beta=60.0, near=0.5)
        assert np.abs(haze.pair(coffee)[0] / 255 - np.float32(HAZE.airlight)).max() < 0.01


def test_a_given_depth_map_is_the_depth_there_is(coffee):
    ramp = np.linspace(0, 1, 300, dtype=np.float32)[:, None].repeat(400, axis=1)
    haze = dataclasses.replace(HAZE, near=0.25)
    wanted = 1.5 * (0.25 + 0.75 * ramp)
    assert haze.optical_depth(ramp) == pytest.approx(wanted, abs=1e-5)
    mirrored = dataclasses.replace(haze, shuffled=True)
    across = ramp.T.copy()
    assert mirrored.optical_depth(across) == pytest.approx(
        1.5 * (0.25 + 0.75 * across[:, ::-1]), abs=1e-5
    )


def test_made_up_depth_follows_what_the_picture_shows():
    scene = np.full((120, 160, 3), (60, 110, 40), np.uint8)
    scene[:50] = (225, 228, 232)  # a pale sky
    scene[30:100, 60:90] = (120, 30, 20)  # a tower before it
    dark = dark_channel(scene)
    assert dark[:25].mean() > 0.9
    assert dark[55:].mean() < 0.1
    for seed in range(4):
        by_sky = picture_depth(scene, (0.0, 0.0, 1.0, 0.0), 0.4, seed)
        assert by_sky[10, 20] > by_sky[80, 20] + 0.7
        by_colour = picture_depth(scene, (0.0, 0.0, 0.0, 1.0), 0.4, seed)
        tower = by_colour[40:90, 65:85]
        # One thing, one depth; but not that of what is beside it.
        assert tower.std() < 0.12
        assert abs(float(tower.mean() - by_colour[70:90, 5:40].mean())) > 0.02
    ground = picture_depth(scene, (1.0, 0.0, 0.0, 0.0), 0.4, 0)
    assert np.all(np.diff(ground[60:, 10]) < 0.01)
    assert ground.min() == 0
    assert ground.max() == pytest.approx(1)


def test_hazes_reach_from_thin_to_thick_and_have_the_tints_of_smoke():
    rng = np.random.default_rng(0)
    drawn = [WEATHER["haze"][0]().sample(rng) for _ in range(1000)]
    assert max(haze.beta for haze in drawn) > 3
    airlight = np.array([haze.airlight for haze in drawn])
    assert airlight.min() < 0.35
    assert airlight.max() == 1
    warm = (airlight[:, 0] - airlight[:, 2]) / airlight.max(axis=1)
    assert 0.3 < np.mean(np.abs(warm) < 0.05) < 0.65
    assert np.mean(warm > 0.1) > 0.2
    assert np.mean(warm < -0.06) > 0.08
    assert 0.4 < np.mean([haze.light for haze in drawn]) < 0.6


# --- rain ----------------------------------------------------------------------------------------


def test_streaks_cover_what_their_layer_says_and_stand_at_its_angle():
    place = Place(720, 1280)
    for layer in (
        LAYER,
        dataclasses.replace(LAYER, length=0.3, width=0.002, angle=-30.0),
        dataclasses.replace(LAYER, width=0.02, opacity=0.1, defocus=0.003),
        dataclasses.replace(LAYER, length=0.02, width=0.001, density=9000.0),
    ):
        masks = [streaks(dataclasses.replace(layer, seed=k), (720, 1280), place) for k in range(4)]
        wanted = 1.0645 * layer.density * layer.length * layer.width * layer.opacity
        assert np.mean(masks) == pytest.approx(wanted, rel=0.12)
        dx, dy = (cv2.Sobel(masks[0], cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
        across = 0.5 * np.arctan2(2 * (dx * dy).sum(), (dx**2 - dy**2).sum())
        assert np.rad2deg(-across) == pytest.approx(layer.angle, abs=3)


def test_added_rain_is_the_same_over_any_picture_and_brightens_it(coffee):
    dark, bright = (np.full((240, 320, 3), level, np.uint16) for level in (6000, 20000))
    (on_dark, truth), (on_bright, _) = RAIN.pair(dark), RAIN.pair(bright)
    assert truth is dark
    mask = RAIN.mask((240, 320), Place(240, 320))
    assert mask.max() > 0.3
    for rainy, level in ((on_dark, 6000), (on_bright, 20000)):
        assert (rainy - level) / 65535 == pytest.approx(
            np.minimum(mask, 1 - level / 65535)[..., None].repeat(3, 2), abs=1e-4
        )
    screened = dataclasses.replace(RAIN, blend="screen")
    mask = screened.mask((240, 320), Place(240, 320))[..., None]
    wanted = 20000 / 65535 * (1 - mask) + mask
    assert screened.pair(bright)[0] / 65535 == pytest.approx(wanted.repeat(3, 2), abs=1e-4)


def test_rain_in_light_hides_and_shows_what_is_around_it():
    image = np.zeros((240, 320, 3), np.uint16)
    image[:, :160] = (60000, 10000, 10000)
    rain = dataclasses.replace(RAIN, blend="light", radiance=(0.7, 0.7, 0.7))
    mask = rain.mask((240, 320), Place(240, 320))[..., None]
    own = to_light(np.round(np.float32([0.7] * 3) * 65535).astype(np.uint16))
    wanted = to_light(image) * (1 - mask) + mask * own
    assert np.abs(to_light(rain.pair(image)[0]) - wanted).max() < 1e-3
    around = dataclasses.replace(rain, around=1.0)
    light = around.light_of(thumbnail(image))
    left, right = light[:, :4].mean((0, 1)), light[:, -4:].mean((0, 1))
    assert left == pytest.approx(to_light(image[:1, :1])[0, 0], rel=0.1)
    assert right.max() < 0.1


def test_rains_reach_from_drizzle_to_what_rain100h_has():
    rng = np.random.default_rng(0)
    model = WEATHER["rain"][0]()
    drawn = [model.sample(rng) for _ in range(300)]
    layers = [layer for rain in drawn for layer in rain.layers]
    assert min(layer.length for layer in layers) < 0.02
    assert max(layer.length for layer in layers) > 0.3
    assert max(layer.density for layer in layers) > 3000
    assert max(len(rain.layers) for rain in drawn) == 5
    several = [np.ptp([layer.angle for layer in rain.layers]) > 15 for rain in drawn]
    assert 0.1 < np.mean(several) < 0.4
    added = [rain.mask((160, 240), Place(320, 480)) for rain in drawn if rain.blend == "added"]
    means = np.array([mask.mean() for mask in added])
    # Of Rain100H's pairs the mean is 0.13 to 0.41, of SIRR20's 0.01 to 0.22.
    assert np.mean((means > 0.13) & (means < 0.41)) > 0.25
    assert np.mean(means < 0.06) > 0.1
    assert means.max() < 0.75
    veils = [rain.veil for rain in drawn if rain.veil is not None]
    assert 0.12 < len(veils) / len(drawn) < 0.32
    assert max(veil.beta for veil in veils) > 3


@pytest.mark.parametrize(
    ("opaque", "light", "added"), [(None, 0.35, 0.45), (0.0, 0.0, 9 / 13), (1.0, 1.0, 0.0)]
)
def test_rains_are_opaque_added_or_screened_in_shares(opaque, light, added):
    rng = np.random.default_rng(0)
    model = WEATHER["rain"][0](**({} if opaque is None else {"opaque": opaque}), misty=1.0)
    drawn = [model.sample(rng) for _ in range(1500)]
    count = Counter(rain.blend for rain in drawn)
    assert count["light"] / 1500 == pytest.approx(light, abs=0.03)
    assert count["added"] / 1500 == pytest.approx(added, abs=0.03)
    assert all((rain.mist > 0) == (rain.blend != "light") for rain in drawn)


def test_a_veil_lies_behind_the_streaks_and_dims_the_farther_ones():
    model = WEATHER["rain"][0](veiled=1.0, layers=(4, 4), opacity=(0.5, 0.5), soft=0.0)
    for seed in range(8):
        rain = model.sample(np.random.default_rng(seed))
        dimmed = [layer.opacity / 0.5 for layer in rain.layers]
        farness = np.linspace(0.5, 0, 4)
        assert dimmed == pytest.approx(np.exp(-rain.veil.beta * farness), rel=1e-6)
    hazy = rain.veil.pair(np.full((90, 120, 3), 40, np.uint8))[0]
    alone = dataclasses.replace(rain, layers=(), mist=0.0, drops=None, splashes=None)
    assert np.array_equal(alone.pair(np.full((90, 120, 3), 40, np.uint8))[0], hazy)


def test_gusts_and_mist_vary_over_the_frame():
    place = Place(240, 320)
    even, gusty = (
        cv2.resize(
            dataclasses.replace(
                RAIN, layers=(dataclasses.replace(LAYER, density=2000.0),), **more
            ).mask((240, 320), place),
            (4, 3),
            interpolation=cv2.INTER_AREA,
        )
        for more in ({}, {"gusts": 0.9})
    )
    assert gusty.std() / gusty.mean() > 2 * even.std() / even.mean()
    mist = dataclasses.replace(RAIN, layers=(), mist=0.3).mask((240, 320), place)
    assert mist.max() == pytest.approx(0.3, abs=0.01)
    assert np.abs(np.diff(mist, axis=0)).max() < 0.01


def test_near_drops_are_discs_and_splashes_stay_on_the_ground():
    place = Place(400, 600)
    drops = Drops(count=12, radius=0.03, opacity=0.3, seed=1)
    mask = drops.mask((400, 600), place)
    parts = cv2.connectedComponentsWithStats((mask > 0.01).astype(np.uint8))[2][1:]
    assert 8 <= len(parts) <= 12
    assert mask.max() <= 0.3
    widest = parts[:, cv2.CC_STAT_WIDTH].max()
    assert 12 < widest <= 26
    splashes = Splashes(density=300, size=0.01, opacity=0.5, horizon=0.6, seed=1)
    mask = splashes.mask((400, 600), place)
    assert mask[: int(0.6 * 400) - 8].max() == 0
    assert mask[300:].mean() > 0
    assert mask.max() <= 0.5


# --- reflection ----------------------------------------------------------------------------------


def test_the_truth_is_what_comes_through_the_glass(coffee, rocket):
    image = deep(coffee)
    glass = dataclasses.replace(GLASS, scene=(1.2, 0.9, 0.85))
    lq, gt = glass.pair(image, rocket)
    gains = 0.8 * np.float32([1.2, 0.9, 0.85]) ** 2.2
    through = np.minimum(to_light(image) * gains, 1)
    assert np.abs(to_light(gt) - through).max() < 1e-4
    seen = glass.glass.reflected(rocket, image.shape[:2], Place.whole(image))
    wanted = np.minimum(to_light(image) * gains + 0.5 * seen, 1)
    assert np.abs(to_light(lq) - wanted).max() < 1e-4 + WARPED_LIGHT
    # Without a reflection the truth is the input, however dark the glass is.
    dark = dataclasses.replace(glass, glass=dataclasses.replace(glass.glass, strength=0.0))
    assert np.array_equal(*dark.pair(image, rocket))


def test_screen_and_overflow_blend_display_values(coffee, rocket):
    image = deep(coffee)
    seen = GLASS.glass.reflected(rocket, image.shape[:2], Place.whole(image))
    mirror = to_display(0.5 * seen, np.uint16)
    scene = to_display(0.8 * to_light(image), np.uint16)
    screen = dataclasses.replace(GLASS, blend="screen").pair(image, rocket)[0] / 65535
    assert np.abs(screen - (scene + mirror - scene * mirror)).max() < 2e-3 + WARPED_LIGHT
    added = dataclasses.replace(GLASS, blend="overflow", cut=0.1).pair(image, rocket)[0] / 65535
    wanted = np.minimum(scene + np.maximum(mirror - 0.1, 0), 1)
    assert np.abs(added - wanted).max() < 2e-3 + WARPED_LIGHT


def test_reflectance_is_fresnels():
    assert reflectance(np.array([0.0]))[0] == pytest.approx(2 * 0.04 / 1.04)  # 4 % a surface
    # At Brewster's angle only one polarisation is left.
    brewster = np.rad2deg(np.arctan(1.5))
    one = (1.5**2 - 1) ** 2 / (1.5**2 + 1) ** 2 / 2
    assert reflectance(np.array([brewster]))[0] == pytest.approx(2 * one / (1 + one), rel=1e-4)
    assert np.all(np.diff(reflectance(np.linspace(0, 89, 50))) > 0)


def test_a_reflection_falls_across_the_frame_where_the_glass_is_turned():
    glass = dataclasses.replace(GLASS, angles=(20.0, 75.0), turn=0.0)
    through, back = glass.gains(Place(1080, 1920))
    ends = reflectance(np.array([20.0, 75.0]))
    assert back[:, -1].max() == pytest.approx(0.5, rel=0.03)
    assert back[0, 0] == pytest.approx(0.5 * ends[0] / ends[1], rel=0.05)
    assert through[0, 0] == pytest.approx(0.8, rel=0.01)
    assert through[0, -1] == pytest.approx(0.8 * (1 - ends[1]) / (1 - ends[0]), rel=0.03)
    assert np.abs(np.diff(back, axis=0)).max() < 1e-6
    down = dataclasses.replace(glass, turn=90.0).gains(Place(1080, 1920))[1]
    assert np.abs(np.diff(down, axis=1)).max() < 1e-6
    assert np.all(np.diff(down[:, 0]) > 0)


def test_lamps_stay_bright_when_they_are_blurred():
    night = np.zeros((200, 200, 3), np.uint8)
    night[95:105, 95:105] = 255
    night[20:60, 20:60] = 120
    glass = dataclasses.replace(GLASS.glass, defocus=0.03, zoom=1.0)
    place = Place(200, 200)
    clipped, whole = (glass.reflected(night, (200, 200), place, lamps) for lamps in (1.0, 8.0))
    # It was shrunken in display values, so the white one lost light that the lamp keeps.
    assert 6 < whole[100, 100, 0] / clipped[100, 100, 0] < 11
    assert 0.7 < (whole.sum() - clipped.sum()) / (7 * 3 * 100) <= 1
    assert np.allclose(whole[:65, :65], clipped[:65, :65], atol=1e-4)
    sky = np.full((200, 200, 3), 255, np.uint8)
    assert glass.reflected(sky, (200, 200), place, 8.0).max() < 1.01


def test_reflections_are_sharp_and_soft_doubled_and_not_and_their_gains_are_rdnets():
    rng = np.random.default_rng(0)
    drawn = [WEATHER["reflection"][0]().sample(rng) for _ in range(1000)]
    assert 0.25 < np.mean([one.glass.defocus == 0 for one in drawn]) < 0.42
    assert 0.4 < np.mean([one.glass.ghost_decay == 0 for one in drawn]) < 0.6
    gains = np.array([one.scene for one in drawn])
    assert gains.mean() == pytest.approx(1.1, abs=0.01)
    assert gains.std() == pytest.approx(0.11, abs=0.02)
    assert max(one.glass.strength for one in drawn) > 0.95
    blends = Counter(one.blend for one in drawn)
    assert blends["light"] > blends["screen"] > blends["overflow"] > 100


def test_no_streak_leans_further_than_streaks_may():
    """The layers' spread comes on top of the rain's angle; beyond 90 degrees they vanished."""
    steep = WEATHER["rain"][0](angle=(70, 80))
    leans = [
        abs(layer.angle)
        for seed in range(300)
        for layer in steep.sample(np.random.default_rng(seed)).layers
    ]
    assert max(leans) == STEEPEST
    with pytest.raises(InputError, match="rain: spread: expected numbers from 0 to 80"):
        WEATHER["rain"][0](spread=(0, 200))


def test_shadows_of_16_bits_keep_their_levels_whatever_the_blend(rocket):
    dark = np.repeat(np.tile(np.arange(4096, dtype=np.uint16), (8, 1))[..., None], 3, 2)
    bare = dataclasses.replace(GLASS.glass, strength=0.0, transmission=1.0)
    for blend in ("light", "screen", "overflow"):
        lq, gt = dataclasses.replace(GLASS, glass=bare, blend=blend).pair(dark, rocket)
        assert np.abs(lq.astype(int) - gt).max() <= 1
        assert len(np.unique(lq)) > 4000


def test_companions_of_another_kind_are_named(coffee):
    rain = WEATHER["rain"][0]().sample(np.random.default_rng(0))
    with pytest.raises(InputError, match="rain takes the photograph's thumbnail, no depth map"):
        rain.pair(coffee, np.zeros((20, 30), np.float32))
    with pytest.raises(InputError, match="thumbnail of 8 bits, or its depth map, got uint16"):
        rain.pair(deep(coffee), deep(coffee))


def test_a_photograph_that_opencv_cannot_warp_is_named(rocket):
    wide = np.zeros((8, 33000, 3), np.uint8)
    for kind, companion in (("rain", None), ("reflection", rocket)):
        for seed in range(3):
            weather = WEATHER[kind][0]().sample(np.random.default_rng(seed))
            with pytest.raises(InputError, match=r"33\d\d\dx\d+ pixels: weather is drawn on up"):
                weather.pair(wide, companion)
