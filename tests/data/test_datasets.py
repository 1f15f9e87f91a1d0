"""The UHD datasets: crops, random streams, what they refuse."""

import dataclasses
import functools
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from demo_data import photo
from harness import WARP_LEVELS
from torch.utils.data import DataLoader

from glsgn_plugins.compat import patch_basicsr
from glsgn_plugins.data.crops import Crops
from glsgn_plugins.data.datasets import (
    UHDMixedDataset,
    UHDPairedDataset,
    UHDSynthesisDataset,
    UHR4KDataset,
)
from glsgn_plugins.data.sampling import SampleIndex, numbered, sample_rng
from glsgn_plugins.degradations import Rain
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.images import png, read_image


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Three photographs, one of 16 bits."""
    root = tmp_path_factory.mktemp("clean")
    for name in ("coffee.png", "rocket.jpg"):
        shutil.copyfile(photo(name), root / name)
    deep = read_image(photo("chelsea.png")).astype(np.uint16) * 257
    (root / "deep").mkdir()
    (root / "deep/chelsea.png").write_bytes(png(deep))
    return root


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Four pairs of 120x160 whose lq is the gt, darker by 40."""
    root = tmp_path_factory.mktemp("pairs")
    image = read_image(photo("coffee.png"))
    for k in range(4):
        gt = np.maximum(image[60 * k : 60 * k + 120, 100 * k : 100 * k + 160], 40)
        for side, picture in (("lq", gt - 40), ("gt", gt)):
            (root / side).mkdir(exist_ok=True)
            (root / side / f"{k}.png").write_bytes(png(picture))
    return root


def paired(root, **crops):
    return UHDPairedDataset(str(root), "synthesized", crops=Crops(**crops))


def test_whole_images_come_alike_every_time(pairs):
    dataset = paired(pairs)
    assert len(dataset) == 4
    for k in range(4):
        sample = dataset[k]
        assert sample["lq"].shape == sample["gt"].shape == (3, 120, 160)
        assert sample["lq"].dtype == torch.float32
        assert sample["lq_path"].endswith(f"lq/{k}.png")
        assert sample["gt_path"].endswith(f"gt/{k}.png")
        image = read_image(pairs / "gt" / f"{k}.png")
        assert torch.equal(sample["gt"], torch.from_numpy(image).permute(2, 0, 1) / 255)
        assert torch.equal(dataset[k]["lq"], sample["lq"])


@pytest.mark.parametrize("crops_per_image", [1, 3])
def test_crops_are_cut_flipped_and_turned_jointly(pairs, crops_per_image):
    dataset = paired(
        pairs, gt_size=48, use_hflip=True, use_rot=True, crops_per_image=crops_per_image
    )
    images = [read_image(pairs / "gt" / f"{k}.png") for k in range(4)]
    seen = set()
    samples = dataset.__getitems__(list(numbered([0, 1, 2, 3] * 15, 0, 0, 1)))
    for k, sample in enumerate(samples):
        lq, gt = sample["lq"], sample["gt"]
        assert lq.shape == gt.shape == (3, 48, 48)
        assert torch.allclose(gt - lq, torch.tensor(40 / 255), atol=1e-6)
        index = int(sample["gt_path"].split("/")[-1][0])
        assert index == ([0, 1, 2, 3] * 15)[k - k % crops_per_image]
        found = None
        for flips in range(8):
            turned = (gt * 255).round().byte().permute(1, 2, 0).numpy()
            if flips & 4:
                turned = turned.transpose(1, 0, 2)
            if flips & 2:
                turned = turned[::-1]
            if flips & 1:
                turned = turned[:, ::-1]
            turned = np.ascontiguousarray(turned)
            distance = cv2.matchTemplate(images[index], turned, cv2.TM_SQDIFF)
            for top, left in np.argwhere(
                distance < distance.min() + 1e4
            ):  # it is computed in floats
                if np.array_equal(images[index][top : top + 48, left : left + 48], turned):
                    found = (flips, index, top, left)
        assert found is not None
        seen.add(found)
    assert {flips for flips, *_ in seen} == set(range(8))
    assert len(seen) == len(samples)


def test_several_crops_of_one_decoded_image(pairs, monkeypatch):
    from glsgn_plugins.data import datasets, pairing

    read = []
    monkeypatch.setattr(datasets, "read_rows", lambda *_: None)  # decode whole images
    monkeypatch.setattr(pairing, "read_image", lambda p: read.append(p) or read_image(p))
    samples = paired(pairs, gt_size=32, crops_per_image=4).__getitems__([2, 0, 1, 3, 1, 0, 3, 2])
    assert len(samples) == 8
    assert [path.name for path in read] == ["2.png", "2.png", "1.png", "1.png"]


ROWS = """
import sys, numpy as np, torch
from glsgn_plugins.data import datasets
from glsgn_plugins.data.crops import Crops
from glsgn_plugins.data.sampling import numbered
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.images import read_image, read_rows
from pathlib import Path
root = Path(sys.argv[1])
taken = []
def counted(path, first, last):
    rows = read_rows(path, first, last)
    if rows is not None:
        taken.append(rows.shape[0])
        assert np.array_equal(rows, read_image(path)[first:last])
    return rows
def samples(rows, **more):
    datasets.read_rows = rows
    crops = Crops(gt_size=32, use_hflip=True, use_rot=True, crops_per_image=2, seed=1, **more)
    made = datasets.UHDPairedDataset(str(root), "synthesized", crops=crops)
    return made.__getitems__(list(numbered([0, 1, 2, 3] * 6, 0, 0, 1)))
for more in ({}, {"scene_share": 0.5}, {"resize": (0.5, 1)}):
    whole, some = samples(lambda *_: None, **more), samples(counted, **more)
    for a, b in zip(whole, some):
        assert torch.equal(a["lq"], b["lq"]) and torch.equal(a["gt"], b["gt"])
        assert a["lq_path"] == b["lq_path"]
form = (root / "lq").glob("0.*").__next__().suffix
if form == ".bmp" or "pyvips" in sys.modules:
    assert taken and min(taken) < 120
    assert np.array_equal(read_rows(root / "lq" / f"0{form}"), read_image(root / "lq" / f"0{form}"))
path = root / "lq" / f"0{form}"
content = bytearray(path.read_bytes())
if form == ".bmp":
    path.write_bytes(content[:-1000])
    with np.testing.assert_raises(InputError):  # as its header tells
        read_rows(path, 0, 20)
else:  # what is read instead names the file
    middle = len(content) // 2
    content[middle : middle + 2] = b"\\xff\\xd9"  # of JPEG its end marker
    path.write_bytes(content)
    assert read_rows(path, 100, 120) is None
print("rows", len(taken))
"""


@pytest.mark.parametrize("form", [".png", ".jpg", ".bmp"])
def test_some_rows_of_an_image_have_its_pixels(pairs, tmp_path, form):
    """In a process of its own: libvips' threads must not be there where others fork."""
    for file in (*pairs.glob("lq/*.png"), *pairs.glob("gt/*.png")):
        to = tmp_path / "set" / file.parent.name / f"{file.stem}{form}"
        to.parent.mkdir(parents=True, exist_ok=True)
        # An odd width, whose rows are filled up in a BMP.
        cv2.imwrite(str(to), cv2.imread(str(file))[:, :159])
    command = [sys.executable, "-c", ROWS, str(tmp_path / "set")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "rows" in done.stdout


def test_bytes_are_the_same_pixels(pairs):
    crops = {"gt_size": 48, "use_hflip": True}
    floats, raw = paired(pairs, **crops), paired(pairs, **crops)
    raw.as_bytes = True
    draws = list(numbered([0, 1, 2, 3], 0, 0, 1))
    for a, b in zip(floats.__getitems__(draws), raw.__getitems__(draws)):
        assert b["lq"].dtype == b["gt"].dtype == torch.uint8
        assert torch.equal(a["lq"], b["lq"] / 255)
        assert torch.equal(a["gt"], b["gt"] / 255)


def test_whole_scenes_are_the_largest_square_scaled_down(pairs):
    dataset = paired(pairs, gt_size=60, scene_share=1.0)
    whole = read_image(pairs / "gt/0.png")
    half = cv2.resize(whole, (80, 60), interpolation=cv2.INTER_AREA)
    for position in range(5):
        gt = dataset[SampleIndex(0, 0, position)]["gt"]
        picture = (gt * 255).round().byte().permute(1, 2, 0).numpy()
        assert any(np.array_equal(picture, half[:, x : x + 60]) for x in range(21))
    mixed = paired(pairs, gt_size=60, scene_share=0.5)
    hits = 0
    for position in range(40):
        gt = mixed[SampleIndex(0, 0, position)]["gt"]
        picture = (gt * 255).round().byte().permute(1, 2, 0).numpy()
        hits += any(np.array_equal(picture, half[:, x : x + 60]) for x in range(21))
    assert 10 < hits < 30


def degraded(root, **options):
    kind, preset = options.pop("type", "rain"), options.pop("preset", "plain")
    crops = {"gt_size": 64, "use_hflip": True, **options}
    if crops["gt_size"] is None:
        del crops["use_hflip"]
    degradation = {"type": kind, "preset": preset}
    if preset == "real":
        degradation["identity"] = 0.0
    return UHDSynthesisDataset(str(root), degradation, crops=Crops(**crops))


@pytest.mark.parametrize("preset", ["real", "plain"])
@pytest.mark.parametrize("kind", ["rain", "reflection", "haze"])
def test_synthesis_degrades_its_crops_anew(clean, kind, preset):
    dataset = degraded(clean, type=kind, preset=preset)
    assert len(dataset) == 3
    first, second = dataset[SampleIndex(0, 0, 0)], dataset[SampleIndex(0, 0, 1)]
    for sample in (first, second):
        assert sample["lq"].shape == sample["gt"].shape == (3, 64, 64)
        assert not torch.equal(sample["lq"], sample["gt"])
    assert not torch.equal(first["gt"], second["gt"])
    assert torch.equal(dataset[SampleIndex(0, 0, 0)]["lq"], first["lq"])
    whole = degraded(clean, type=kind, preset=preset, gt_size=None)
    assert torch.equal(whole[1]["lq"], whole[1]["lq"])
    assert not torch.equal(whole[1]["lq"], whole[1]["gt"])


def basicsr_epochs(dataset, workers, ratio=1, ranks=1, epochs=2):
    """What BasicSR's own sampler and loader deliver, by rank, as bytes."""
    patch_basicsr()
    from basicsr.data import build_dataloader
    from basicsr.data.data_sampler import EnlargedSampler

    options = {"phase": "train", "batch_size_per_gpu": 2, "num_worker_per_gpu": workers}
    delivered = []
    for rank in range(ranks):
        sampler = EnlargedSampler(dataset, ranks, rank, ratio)
        loader = build_dataloader(dataset, options, num_gpu=1, sampler=sampler, seed=7 + rank)
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            for batch in loader:
                for lq, gt in zip(batch["lq"], batch["gt"]):
                    delivered.append((rank, epoch, lq.numpy().tobytes(), gt.numpy().tobytes()))
    return delivered


def test_the_stream_does_not_depend_on_the_workers(clean):
    alone, one, three = (
        basicsr_epochs(degraded(clean, seed=3, preset="real"), workers, ratio=4)
        for workers in (0, 1, 3)
    )
    assert len(alone) == 2 * 12
    assert alone == one == three
    assert basicsr_epochs(degraded(clean, seed=4), 0, ratio=4) != alone


def test_no_two_workers_epochs_ranks_or_repeats_share_a_stream(clean):
    delivered = basicsr_epochs(degraded(clean), workers=2, ratio=8, ranks=2)
    assert len(delivered) == 2 * 2 * 12
    assert len({lq for *_, lq, _ in delivered}) == len(delivered)


def test_plain_indices_get_a_stream_of_their_own(clean):
    """In a loader that doesn't number its draws: another one for each worker and epoch."""
    dataset = degraded(clean)
    for workers in (0, 2):
        torch.manual_seed(1)
        loader = DataLoader(dataset, batch_size=1, sampler=[0] * 6, num_workers=workers)
        first, second = ([b["lq"].numpy().tobytes() for b in loader] for _ in range(2))
        assert len({*first, *second}) == 12


def test_draws_are_plain_indices_to_everyone_else():
    draws = list(numbered([5, 7], epoch=2, first=1, step=4))
    assert [int(d) for d in draws] == [5, 7]
    assert ["abcdefgh"[d] for d in draws] == ["f", "h"]
    assert [(d.epoch, d.position) for d in draws] == [(2, 1), (2, 5)]
    assert sample_rng(0, draws[0]).random() == sample_rng(0, SampleIndex(6, 2, 1)).random()
    assert sample_rng(0, draws[0]).random() != sample_rng(0, draws[1]).random()
    assert sample_rng(0, draws[0]).random() != sample_rng(1, draws[0]).random()


def test_uhr4k_subsets(tmp_path, pairs):
    for split in ("train", "test"):
        shutil.copytree(pairs, tmp_path / "UHR4K-Rain" / split)
    dataset = UHR4KDataset(str(tmp_path / "UHR4K-Rain"), "rain", "train")
    assert len(dataset) == 4
    with pytest.raises(InputError, match="Did you mean 'rain'"):
        UHR4KDataset(str(tmp_path), "rian", "train")
    with pytest.raises(InputError, match="no pair of UHR4K-Syn"):
        UHR4KDataset(str(tmp_path), "syn", "train")


def test_truths_larger_than_their_inputs_show_their_middle(tmp_path):
    image = read_image(photo("coffee.png"))
    for folder in ("hazy", "clear"):
        (tmp_path / "ITS" / folder).mkdir(parents=True)
    (tmp_path / "ITS/clear/1.png").write_bytes(png(image[:120, :140]))
    for k in (1, 2):
        (tmp_path / f"ITS/hazy/1_{k}.png").write_bytes(png(image[10:110, 10:130] // k))
    dataset = UHDPairedDataset(str(tmp_path), "RESIDE", "its")
    assert len(dataset) == 2
    assert torch.equal(dataset[0]["lq"], dataset[0]["gt"])
    assert torch.equal(dataset[1]["gt"], dataset[0]["gt"])


def test_unpaired_files_stop_the_set_or_are_left_out(tmp_path, pairs):
    root = tmp_path / "set"
    shutil.copytree(pairs, root)
    (root / "gt/3.png").unlink()
    (root / "lq/1.png").rename(root / "lq/one.png")
    with pytest.raises(InputError) as caught:
        paired(root)
    for name in ("lq/3.png: an input without", "lq/one.png: an input", "gt/1.png: a truth"):
        assert name in str(caught.value)
    left = UHDPairedDataset(str(root), "synthesized", skip_unpaired=True)
    assert [p.lq.name for p in left.pairs] == ["0.png", "2.png"]


def test_what_the_datasets_refuse(tmp_path, clean, pairs):
    synthesis = UHDSynthesisDataset
    for make, said in (
        (lambda: Crops(gt_size=0), "gt_size: expected a whole number from 1 up, got 0"),
        (lambda: Crops(scene_share=2), "scene_share: expected 0 to 1"),
        (lambda: Crops(seed=-1), "seed: expected a whole number from 0 up"),
        (lambda: synthesis(str(tmp_path / "no"), {"type": "rain"}), "no such folder"),
        (lambda: synthesis(str(tmp_path), {"type": "rain"}), "no image in it"),
        (lambda: Crops(gt_size=True), "gt_size: expected a whole number from 1 up, got True"),
        (lambda: Crops(gt_size=64, use_rot="no"), "use_rot: expected true or false, found 'no'"),
        (lambda: Crops(crops_per_image=4), "crops_per_image: of crops alone; give gt_size"),
        (lambda: Crops(use_rot=True), "use_rot: of crops alone; give gt_size"),
        (lambda: synthesis(str(clean), {"type": ["rain"]}), "degradation.type: '['rain']'"),
        (lambda: Crops(resize=(0, 1)), "resize: expected [low, high], above 0 to 1"),
        (lambda: Crops(resize=[0.9, 0.5]), "resize: expected [low, high], above 0 to 1"),
        (lambda: synthesis(str(clean), {"type": "rein"}), "Did you mean 'rain'"),
        (
            lambda: synthesis(str(clean), {"type": "rain", "preset": "Real"}),
            "degradation.preset: 'Real' does not exist. Did you mean 'real'",
        ),
        (lambda: synthesis(str(clean), {"type": "rain", "angel": [0, 1]}), "'angle'"),
        (lambda: synthesis(str(clean), "rain"), "expected a mapping with a 'type'"),
        (
            lambda: synthesis(str(clean), {"type": "rain"}, dataroot_depth="d"),
            "only for the degradation 'haze'",
        ),
        (
            lambda: synthesis(str(clean), {"type": "haze"}, dataroot_depth=str(pairs)),
            "no depth map for 3 photographs: coffee",
        ),
        (
            lambda: synthesis(
                str(clean / "deep"),
                {"type": "reflection"},
                str(clean / "../" / clean.name / "deep"),
            ),
            "the only photograph to be reflected",
        ),
        (
            lambda: synthesis(str(clean / "deep"), {"type": "reflection"}),
            "the only photograph to be reflected",
        ),
        (
            lambda: paired(pairs, gt_size=130)[0],
            "160x120 pixels, smaller than gt_size, 130",
        ),
    ):
        with pytest.raises(InputError) as caught:
            make()
        assert said in str(caught.value)


def test_sizes_that_differ_are_named(tmp_path, pairs):
    shutil.copytree(pairs, tmp_path / "set")
    gt = read_image(pairs / "gt/2.png")
    (tmp_path / "set/gt/2.png").write_bytes(png(gt[:100]))
    with pytest.raises(InputError, match=r"lq/2\.png: 160x120.*gt/2\.png has 160x100"):
        paired(tmp_path / "set")[2]


def test_given_depth_reaches_the_haze(tmp_path, clean):
    depth = tmp_path / "depth"
    (depth / "deep").mkdir(parents=True)
    np.save(depth / "coffee.npy", np.zeros((8, 8), np.float32))
    (depth / "rocket.png").write_bytes(png(np.full((9, 9, 3), 255, np.uint8)))
    np.save(depth / "deep/chelsea.npy", np.full((4, 4), 0.5, np.float32))
    plain = {"type": "haze", "preset": "plain"}
    dataset = UHDSynthesisDataset(str(clean), plain, dataroot_depth=str(depth))
    samples = {
        sample["gt_path"].split("/")[-1]: sample for sample in map(dataset.__getitem__, range(3))
    }
    near = samples["coffee.png"]
    assert torch.equal(near["lq"], near["gt"])
    assert samples["rocket.jpg"]["lq"].std() < 0.8 * samples["rocket.jpg"]["gt"].std()
    assert "depth" in {
        f.name for f in dataclasses.fields(dataset.synthesis.sample(sample_rng(0, 1)))
    }


def test_crops_of_a_photograph_carry_its_rain_at_its_scale(clean):
    """Streaks in a crop are as long as in the whole, not relative to the crop."""
    image = np.full((600, 800, 3), 30, np.uint8)
    rain = Rain(layers=(1, 1), angle=(0, 0), density=(40, 40), opacity=(0.9, 0.9))
    whole = rain.sample(np.random.default_rng(0)).apply(image)
    from glsgn_plugins.data.crops import Window

    window = Window(600, 800, 200, 300, (200, 200))
    crop = rain.sample(np.random.default_rng(0)).apply(window.cut(image), place=window.place)
    apart = np.abs(crop.astype(int) - window.cut(whole))
    assert apart.max() <= WARP_LEVELS
    assert apart.mean() <= 1e-3


def test_parts_of_a_mixed_dataset_come_as_they_would_alone(pairs, clean):
    """With the same draws; each by its own flips, and an epoch sees every image once."""
    crops = Crops(gt_size=48, crops_per_image=2, use_hflip=True, seed=4)
    two = {"type": "UHDPairedDataset", "dataroot": str(pairs), "layout": "synthesized"}
    one = {"type": "UHDSynthesisDataset", "dataroot": str(clean), "degradation": {"type": "haze"}}
    mixed = UHDMixedDataset([{**two, "use_rot": True}, one], crops)
    assert len(mixed) == 4 + 3
    alone = [
        paired(pairs, **{**dataclasses.asdict(crops), "use_rot": True}),
        UHDSynthesisDataset(str(clean), {"type": "haze"}, crops=crops),
    ]
    order = [5, 0, 1, 6, 3, 3, 6, 2]
    samples = mixed.__getitems__(list(numbered(order, 0, 0, 1)))
    for k, sample in enumerate(samples):
        index = order[k - k % 2]  # of the first of its group
        part, index = (alone[0], index) if index < 4 else (alone[1], index - 4)
        draws = [SampleIndex(index, 0, k - k % 2), SampleIndex(index, 0, k - k % 2 + 1)]
        expected = part.__getitems__(draws)[k % 2]
        assert sample["gt_path"] == expected["gt_path"]
        assert torch.equal(sample["lq"], expected["lq"])
        assert torch.equal(sample["gt"], expected["gt"])


@pytest.mark.parametrize(
    ("datasets", "says"),
    [
        ([], r"datasets: expected a list"),
        ({"type": "UHDPairedDataset"}, r"datasets: expected a list"),
        ([{"dataroot": "x"}], r"datasets\[0\]: expected a mapping with a 'type'"),
        ([{"type": "UHDPaired"}], r"datasets\[0\].type: 'UHDPaired' does not exist. Did you mean"),
        ([{"type": "UHDPairedDataset", "gt_size": 64}], r"datasets\[0\].gt_size: it is alike"),
        ([{"type": "UHDPairedDataset"}], r"datasets\[0\]: UHDPairedDataset lacks 'dataroot'"),
        (
            [{"type": "UHDPairedDataset", "dataroot": "x", "self": 1}],
            r"datasets\[0\]: .*self",
        ),
    ],
)
def test_wrong_parts_of_a_mixed_dataset_are_named(datasets, says):
    with pytest.raises(InputError, match=says):
        UHDMixedDataset(datasets)


@pytest.mark.parametrize("shape", [(2160, 3840), (1000, 8000), (64, 4000)])
def test_a_part_that_is_scaled_alone_is_where_it_is_in_the_whole(shape):
    """Its columns, too: of a narrow panorama they were up to 53 pixels off."""
    across, down = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]))
    image = np.stack([across, down, across], 2).astype(np.float32)
    crops = Crops(gt_size=32, resize=(0.5, 1.0))
    rng = np.random.default_rng(1)
    for _ in range(60):
        window = crops.window(*shape, "a.png", rng)
        scale = window.width / shape[1], window.height / shape[0]
        shown = window.cut(image)
        at = np.arange(32) + 0.5
        columns = (shown[0, :, 0] + 0.5) * scale[0] - window.left - at
        rows = (shown[:, 0, 1] + 0.5) * scale[1] - window.top - at
        assert np.abs(columns).max() < 1.01
        assert np.abs(rows).max() < 1.01


@pytest.mark.parametrize("persistent", [False, True])
def test_mmengines_epochs_are_other_crops_whatever_the_workers(clean, persistent):
    """It seeds its workers alike in every epoch; ``DefaultSampler`` tells which one it is."""
    pytest.importorskip("mmagic")
    from mmengine.dataset import DefaultSampler
    from mmengine.dataset import worker_init_fn as init

    import glsgn_plugins.mmagic  # noqa: F401  # whose patches number the indices

    def epochs(workers, sampler_of):
        dataset = degraded(clean, seed=3)
        more = {"persistent_workers": persistent} if workers else {}
        seeded = functools.partial(init, num_workers=workers, rank=0, seed=5)
        sampler = sampler_of(dataset)
        loader = DataLoader(
            dataset, 2, False, sampler, num_workers=workers, worker_init_fn=seeded, **more
        )
        found = []
        for epoch in range(2):
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
            found.append(torch.cat([batch["lq"] for batch in loader]))
        return found

    first, second = epochs(2, lambda data: DefaultSampler(data, shuffle=False))
    assert not torch.equal(first, second)
    alone = epochs(0, lambda data: DefaultSampler(data, shuffle=False))
    assert torch.equal(alone[0], first)
    assert torch.equal(alone[1], second)
    first, second = epochs(2, torch.utils.data.SequentialSampler)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("depth", "said"),
    [
        (np.arange(6400).reshape(64, 100) % 256, "or uint8 or uint16, got int64"),
        (np.full((64, 100), 80.0), "expected depth in [0, 1], got 80 to 80"),
    ],
)
def test_depth_of_another_range_is_named_with_its_file(clean, tmp_path, depth, said):
    """Whole numbers of 64 bits, numpy's own, gave haze that wasn't there."""
    (tmp_path / "clean").mkdir()
    shutil.copyfile(clean / "coffee.png", tmp_path / "clean/a.png")
    np.save(tmp_path / "a.npy", depth)
    dataset = UHDSynthesisDataset(
        str(tmp_path / "clean"), {"type": "haze"}, dataroot_depth=str(tmp_path)
    )
    with pytest.raises(InputError, match=r"a\.npy: expected depth") as caught:
        dataset[0]
    assert said in str(caught.value)
