"""Each named layout over a small tree built as the set's own archive unpacks."""

import json
import re

import pytest

from glsgn_plugins.data.layouts import LAYOUTS, find_layouts, find_pairs, unpaired
from glsgn_plugins.errors import InputError

TREES = {
    ("UHR4K-Rain", "train"): {"train/lq/7.png": "train/gt/7.png"},
    ("UHR4K-Syn", "test"): {"test/lq/7.png": "test/gt/7.jpg"},
    ("UHR4K-Real", "test"): {"test/lq/toy.png": "test/gt/toy.png"},
    ("synthesized", "all"): {"lq/street_0.png": "gt/street_0.png"},
    ("UHD-Rain", "train"): {"training_set/input/1.jpg": "training_set/gt/1.jpg"},
    ("UHD-Snow", "test"): {"testing_set/input/1.jpg": "testing_set/gt/1.jpg"},
    ("UHD-LL", "test"): {"testing_set/input/1_UHD_LL.JPG": "testing_set/gt/1_UHD_LL.JPG"},
    ("4K-Rain13k", "train"): {"train/input/00001.png": "train/gt/00001.png"},
    ("UHD-Haze", "test"): {"test/input/25_250000111.jpg": "test/gt/25_250000111.jpg"},
    ("UHD-Blur", "train"): {"train/input/f_001.jpg": "train/gt/f_001.jpg"},
    ("4KID", "all"): {"hazy/0001.jpg": "gt/0001.jpg"},
    ("4KID", "train"): {"train/hazy/0001.jpg": "train/gt/0001.jpg"},
    ("Rain100", "test"): {"test/rain-001.png": "test/norain-001.png"},
    ("Rain100", "train"): {"train/rainy/rain-001.png": "train/norain-001.png"},
    ("Rain100", "all"): {"input/1.png": "target/1.png"},
    ("SIR2", "test"): {
        "postcard/blended/1.png": "postcard/transmission_layer/1.png",
        "wild/blended/1.png": "wild/transmission_layer/1.png",
    },
    ("Nature", "all"): {"natural_I/1_1.png": "natural_T/1_1.png"},
    ("Nature", "test"): {"test/blended/1_1.png": "test/transmission_layer/1_1.png"},
    ("Real20", "test"): {"test/blended/3.png": "test/transmission_layer/3.png"},
    ("Real20", "all"): {"blended/3.png": "transmission_layer/3.png"},
    ("RESIDE", "its"): {
        "ITS/hazy/1400_1.png": "ITS/clear/1400.png",
        "ITS/hazy/1400_2.png": "ITS/clear/1400.png",
        "ITS/hazy/14_2.png": "ITS/clear/14.png",
    },
    ("RESIDE", "ots"): {"OTS/hazy/0001_0.8_0.04.jpg": "OTS/clear/0001.jpg"},
    ("RESIDE", "sots-indoor"): {"SOTS/indoor/hazy/1400_1.png": "SOTS/indoor/clear/1400.png"},
    ("RESIDE", "sots-outdoor"): {"SOTS/outdoor/hazy/0001_0.8_0.2.jpg": "SOTS/outdoor/gt/0001.png"},
    ("O-HAZE", "all"): {"hazy/01_outdoor_hazy.jpg": "GT/01_outdoor_GT.jpg"},
    ("8KDehaze", "all"): {
        "cloud_L1/image1.png": "clear/image1.png",
        "cloud_L4/image1.png": "clear/image1.png",
        "cloud_L4/image2.png": "clear/image2.png",
    },
    ("GT-RAIN", "train"): {
        "GT-RAIN_train/Albergo_0-0/Albergo_0-0-Webcam-R-000.png": (
            "GT-RAIN_train/Albergo_0-0/Albergo_0-0-Webcam-C-000.png"
        ),
        "GT-RAIN_train/Albergo_0-0/Albergo_0-0-Webcam-R-007.png": (
            "GT-RAIN_train/Albergo_0-0/Albergo_0-0-Webcam-C-000.png"
        ),
        "GT-RAIN_train/Banff_0-0/Banff_0-0-Webcam-R-007.png": (
            "GT-RAIN_train/Banff_0-0/Banff_0-0-Webcam-C-000.png"
        ),
    },
    ("GT-RAIN", "test"): {
        f"GT-RAIN_test/{scene}/{scene}-Webcam-R-001.png": (
            f"GT-RAIN_test/{scene}/{scene}-Webcam-C-000.png"
        )
        for scene in ("Gurutto_0-0", "Winter_Garden_0-4")
    },
    ("GT-RAIN", "val"): {  # a scene whose frames each have their own truth
        f"GT-RAIN_val/Gurutto_1-2/Gurutto_1-2-Webcam-R-{k}.png": (
            f"GT-RAIN_val/Gurutto_1-2/Gurutto_1-2-Webcam-C-{k}.png"
        )
        for k in ("000", "001")
    },
    ("LHP-Rain", "train"): {"train/input/2701.png": "train/gt/2701.png"},
    ("LHP-Rain", "test"): {"test/input/2701.png": "test/target/2701.png"},
    ("OpenRR-5k", "train"): {"train_5000/blended/1.jpg": "train_5000/transmission_layer/1.jpg"},
    ("OpenRR-5k", "val"): {"val_300_blended/1.jpg": "val_300_transmission/1.jpg"},
    ("Haze4K", "train"): {"train/haze/1_0.68_0.66.png": "train/gt/1.png"},
}
REFLECTIONS = {
    "UHD4K-RR": ("train/4k_train_results_list.json", "test/4k_test_results_list.json"),
    "UHD8K-RR": (
        "train/8k_train_results_list.json",
        "test/cropped/8k_test_crop_results_list.json",
    ),
}


def build(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def named(pairing, root):
    return {
        p.lq.relative_to(root).as_posix(): p.gt.relative_to(root).as_posix() for p in pairing.pairs
    }


def test_every_layout_has_a_tree_here():
    tested = {layout for layout, _ in TREES} | set(REFLECTIONS) | {"SPA-Data"}
    assert tested == set(LAYOUTS)


@pytest.mark.parametrize("key", TREES, ids=lambda key: "-".join(key))
def test_named_layouts_pair_their_trees(key, tmp_path):
    layout, split = key
    tree = TREES[key]
    build(tmp_path, *tree, *tree.values())
    found = find_pairs(tmp_path, layout, split)
    assert named(found, tmp_path) == tree
    assert not list(found.problems())

    gt = next(iter(tree.values()))
    folder, _, name = gt.rpartition("/")
    extra = f"{folder}/{re.sub('[0-9]+|toy', '999', name, count=1)}"
    if extra not in (gt, *tree.values()):
        build(tmp_path, extra)
        found = find_pairs(tmp_path, layout, split)
        assert named(found, tmp_path) == tree
        assert str(unpaired(found, tmp_path)).count(str(tmp_path / extra)) == 1

    if len(tree) > 1:
        (tmp_path / gt).unlink()
        found = find_pairs(tmp_path, layout, split)
        orphans = [lq for lq, of in tree.items() if of == gt]
        assert named(found, tmp_path) == {k: v for k, v in tree.items() if v != gt}
        for lq in orphans:
            assert f"{tmp_path / lq}: an input without its truth" in str(unpaired(found, tmp_path))


@pytest.mark.parametrize("layout", REFLECTIONS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_reflection_sets_are_paired_by_their_lists(layout, split, tmp_path):
    listing = tmp_path / REFLECTIONS[layout][split == "test"]
    records = [
        {
            "blended": f"b_{k}.png",
            "transmission_layer": f"t_{9 - k}.png",
            "reflection_layer": f"r_{k}.png",
            "alpha": 0.4,
        }
        for k in range(3)
    ]
    for record in records:
        for key in ("blended", "transmission_layer", "reflection_layer"):
            build(listing.parent, f"{key}/{record[key]}")
    listing.write_text(json.dumps(records))
    found = find_pairs(tmp_path, layout, split)
    assert [(p.lq.name, p.gt.name) for p in found.pairs] == [
        ("b_0.png", "t_9.png"),
        ("b_1.png", "t_8.png"),
        ("b_2.png", "t_7.png"),
    ]
    build(listing.parent, "blended/more.png")
    said = str(unpaired(find_pairs(tmp_path, layout, split), tmp_path))
    assert "blended/more.png: an input without its truth" in said
    missing = listing.parent / "transmission_layer/t_8.png"
    missing.unlink()
    with pytest.raises(InputError, match="in the set's list, but not there") as caught:
        find_pairs(tmp_path, layout, split)
    assert str(missing) in str(caught.value)
    listing.write_text('[{"blended": "b_0.png"}]')
    with pytest.raises(InputError, match="expected a JSON list of records"):
        LAYOUTS[layout].splits[split][0 if "cropped" not in str(listing) else 2].find(tmp_path)


def test_spa_data_is_paired_by_its_lists(tmp_path):
    build(tmp_path, "real_world/0/0_1.png", "real_world_gt/0/0.png", "real_world/0/0_2.png")
    (tmp_path / "real_world.txt").write_text(
        "/real_world/0/0_1.png /real_world_gt/0/0.png\n"
        "/real_world/0/0_2.png /real_world_gt/0/0.png\n"
    )
    assert named(find_pairs(tmp_path, "SPA-Data", "train"), tmp_path) == {
        "real_world/0/0_1.png": "real_world_gt/0/0.png",
        "real_world/0/0_2.png": "real_world_gt/0/0.png",
    }
    build(tmp_path, "Testing/rain/1.png", "Testing/gt/1gt.png")
    (tmp_path / "Testing/real_test_1000.txt").write_text("rain/1.png gt/1gt.png\n")
    assert len(find_pairs(tmp_path, "SPA-Data", "test").pairs) == 1
    (tmp_path / "real_world.txt").write_text("one two three\n")
    with pytest.raises(InputError, match=r"real_world\.txt, line 1: expected an input and its"):
        find_pairs(tmp_path, "SPA-Data", "train")


def test_own_patterns(tmp_path):
    build(tmp_path, "in/park_day_fog.png", "in/park_night_fog.png", "out/park.tif", "in/readme.txt")
    found = find_pairs(tmp_path, lq="in/{scene}_*_fog", gt="out/{scene}")
    assert named(found, tmp_path) == {
        "in/park_day_fog.png": "out/park.tif",
        "in/park_night_fog.png": "out/park.tif",
    }
    build(tmp_path, "out/park.png")
    with pytest.raises(InputError, match=r"the same truth as .*park"):
        find_pairs(tmp_path, lq="in/{scene}_*_fog", gt="out/{scene}")
    with pytest.raises(InputError, match=r"expected the same {fields} in both"):
        find_pairs(tmp_path, lq="in/{scene}_*", gt="out/{name}")
    with pytest.raises(InputError, match="no pair of"):
        find_pairs(tmp_path, lq="nowhere/{scene}", gt="in/{scene}")


def test_fields_may_be_numbers(tmp_path):
    build(tmp_path, "lq/a_1.png", "lq/b_2.png", "gt/1_a.png", "gt/2_b.png")
    found = find_pairs(tmp_path, lq="lq/{1}_{2}", gt="gt/{2}_{1}")
    assert [(pair.lq.name, pair.gt.name) for pair in found.pairs] == [
        ("a_1.png", "1_a.png"),
        ("b_2.png", "2_b.png"),
    ]


def test_what_is_not_clear_is_asked_for(tmp_path):
    build(tmp_path, "train/input/1.png", "train/gt/1.png")
    for arguments, said in (
        ({"layout": "UHD-Rian", "split": "train"}, "Did you mean 'UHD-Rain'"),
        ({"layout": "UHD-Rain", "split": "trian"}, "Did you mean 'train'"),
        ({"layout": "UHD-Rain", "split": "test"}, "no pair of UHD-Rain, split 'test'; expected"),
        ({"layout": "UHD-Rain"}, "needs a split: train, test"),
        ({"layout": "UHD-Rain", "split": "train", "lq": "a/{n}"}, "leave out one or the other"),
        ({"lq": "a/{n}"}, "needs a layout and its split, or the patterns lq and gt"),
    ):
        with pytest.raises(InputError) as caught:
            find_pairs(tmp_path, **arguments)
        assert said in str(caught.value)
    with pytest.raises(InputError, match="no such folder"):
        find_pairs(tmp_path / "none", "UHD-Rain", "train")


def test_layouts_are_found_out(tmp_path):
    root = tmp_path / "my-UHD-Haze"
    for split, count in (("train", 3), ("test", 2)):
        for k in range(count):
            build(root, f"{split}/input/{k}.png", f"{split}/gt/{k}.png")
    found = find_layouts(root)
    assert next(iter(found)) == "UHD-Haze"
    assert {split: len(p.pairs) for split, p in found["UHD-Haze"].items()} == {
        "train": 3,
        "test": 2,
    }
    assert "RESIDE" not in found
    assert find_layouts(tmp_path / "empty") == {}
