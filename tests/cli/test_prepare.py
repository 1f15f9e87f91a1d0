"""``glsgn prepare`` and ``glsgn preview`` over good and broken sets."""

import shutil

import cv2
import numpy as np
import pytest
import torch
from demo_data import photo
from PIL import Image

from glsgn_plugins.cli.glsgn import main
from glsgn_plugins.compat import patch_basicsr
from glsgn_plugins.degradations import Haze
from glsgn_plugins.io.images import png, read_image


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A set in UHD-Haze's layout: six different scenes of 100x140, hazy."""
    root = tmp_path_factory.mktemp("sets") / "UHD-Haze"
    haze = Haze(beta=(0.3, 0.6))
    for k, (name, top, left) in enumerate(
        (photograph, *corner)
        for photograph in ("rocket.jpg", "coffee.png", "astronaut.png")
        for corner in ((10, 20), (200, 300))
    ):
        split = "train" if k < 4 else "test"
        gt = np.ascontiguousarray(read_image(photo(name))[top : top + 100, left : left + 140])
        lq = haze.sample(np.random.default_rng(k)).apply(gt)
        for side, image in (("input", lq), ("gt", gt)):
            (root / split / side).mkdir(parents=True, exist_ok=True)
            (root / split / side / f"{k}.png").write_bytes(png(image))
    return root


def paired_in_basicsr(**options):
    patch_basicsr()
    from basicsr.data import build_dataset

    common = {"name": "x", "type": "PairedImageDataset", "phase": "val", "scale": 1}
    return build_dataset({**common, **options})


def test_a_good_set_is_found_right_and_basicsr_reads_its_meta_info(good, tmp_path, capsys):
    root = tmp_path / "UHD-Haze"
    shutil.copytree(good, root)
    assert main(["prepare", str(root), "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "4 pairs (layout UHD-Haze, split train)" in said
    assert "2 pairs (layout UHD-Haze, split test)" in said
    assert said.count("pairs are right, 0 problems") == 2
    assert "type: UHDPairedDataset" in said
    assert "layout: UHD-Haze" in said
    lines = (root / "meta_info_train.txt").read_text().splitlines()
    assert lines == [f"{k}.png (100,140,3)" for k in range(4)]
    dataset = paired_in_basicsr(
        dataroot_lq=str(root / "train/input"),
        dataroot_gt=str(root / "train/gt"),
        meta_info_file=str(root / "meta_info_train.txt"),
        io_backend={"type": "disk"},
    )
    assert [sample["lq"].shape for sample in dataset] == [(3, 100, 140)] * 4


def test_clean_pairs_that_were_made_so_are_right(good, tmp_path, capsys):
    root = tmp_path / "rain"
    shares = [x for name in ("before", "after", "grey") for x in ("--share", name, "0")]
    photographs = ["--clean", str(good / "test" / "gt"), "--per-image", "6", "--workers", "1"]
    argv = ["synthesize", "rain", *photographs, *shares, "--share", "identity", "1"]
    assert main([*argv, "--out", str(root)]) == 0
    same = [(root / "lq" / path.name).read_bytes() for path in (root / "lq").iterdir()]
    assert len(set(same)) < len(same) == 12  # several clean ones of one photograph
    capsys.readouterr()
    assert main(["prepare", str(root), "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "12 of them are clean on purpose, by the set's metadata.json" in said
    assert "12 pairs are right, 0 problems" in said
    (root / "metadata.json").write_text('{"pairs": ["another tool\'s"]}')
    assert main(["prepare", str(root), "--workers", "1"]) == 1
    said = capsys.readouterr().out
    assert "clean on purpose" not in said
    assert said.count("the same picture as its truth") == 12


def test_a_meta_info_file_that_names_other_files_is_kept(good, tmp_path, capsys):
    root = tmp_path / "UHD-Haze"
    shutil.copytree(good, root)
    own, written = "3.png (100,140,3)\n1.png (100,140,3)\n", root / "meta_info_train.txt"
    written.write_text(own)
    argv = ["prepare", str(root), "--split", "train", "--workers", "1"]
    assert main(argv) == 0
    assert "named other files: it is kept as meta_info_train.txt.~1~" in capsys.readouterr().out
    assert (root / "meta_info_train.txt.~1~").read_text() == own
    assert len(written.read_text().splitlines()) == 4
    # The same set again keeps nothing; another selection goes beside the first.
    assert main(argv) == 0
    assert "is kept as" not in capsys.readouterr().out
    written.write_text("0.png\n")
    assert main(argv) == 0
    assert (root / "meta_info_train.txt.~1~").read_text() == own
    assert (root / "meta_info_train.txt.~2~").read_text() == "0.png\n"


def spoil(root):
    """Break the set in every way that is looked for; what must be said, a line each."""
    lq, gt = root / "train/input", root / "train/gt"
    image = read_image(gt / "0.png")
    (gt / "extra.png").write_bytes(png(image[::-1]))
    (lq / "orphan.png").write_bytes(png(image[::-1]))
    for k in (10, 11, 12, 13, 14, 15, 16, 17):
        for side in (lq, gt):
            shutil.copyfile(side / "1.png", side / f"{k}.png")
            turned = np.ascontiguousarray(np.roll(read_image(side / "1.png"), 7 * k, axis=1))
            (side / f"{k}.png").write_bytes(png(turned))
    content = (lq / "10.png").read_bytes()
    (lq / "10.png").write_bytes(content[: len(content) // 2])
    (lq / "11.png").write_bytes(b"")
    (gt / "12.png").write_bytes(png(read_image(gt / "12.png")[:90]))
    (gt / "13.png").write_bytes(png(np.zeros((100, 140, 3), np.uint8)))
    Image.fromarray(read_image(gt / "14.png")[..., 0]).save(gt / "14.png")
    (gt / "15.png").write_bytes(png(read_image(gt / "15.png").astype(np.uint16) * 257))
    shutil.copyfile(gt / "16.png", lq / "16.png")
    shutil.copyfile(lq / "0.png", lq / "17.png")
    shutil.copyfile(gt / "0.png", gt / "17.png")
    swapped = (lq / "2.png").read_bytes()
    shutil.copyfile(lq / "3.png", lq / "2.png")
    (lq / "3.png").write_bytes(swapped)
    return [
        (gt / "extra.png", "a truth without an input"),
        (lq / "orphan.png", "an input without its truth"),
        (lq / "10.png", "cut short"),
        (lq / "11.png", "empty, 0 bytes"),
        (lq / "12.png", f"140x100 pixels, but its truth {gt / '12.png'} has 140x90"),
        (gt / "13.png", "all black"),
        (lq / "14.png", "channels RGB, but grey in its truth"),
        (lq / "15.png", "bits 8, but 16 in its truth"),
        (lq / "16.png", "the same picture as its truth"),
        (lq / "17.png", f"the same picture as {lq / '0.png'}"),
        (lq / "2.png", f"and {lq / '3.png'}: each looks like the other's truth"),
    ]


def test_a_broken_set_is_reported_file_by_file(good, tmp_path, capsys):
    root = tmp_path / "UHD-Haze"
    shutil.copytree(good, root)
    wanted = spoil(root)
    assert main(["prepare", str(root), "--split", "train", "--workers", "2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    for path, reason in wanted:
        assert [line for line in lines if line.startswith(f"  {path}") and reason in line], path
    assert f"{len(wanted)} problems" in "\n".join(lines)
    # What is right goes into the file all the same.
    names = [line.split()[0] for line in (root / "meta_info_train.txt").read_text().splitlines()]
    assert names == ["0.png", "1.png", "17.png", "2.png", "3.png"]


@pytest.mark.parametrize("squares", [True, False])
def test_sub_images_and_lmdb_are_read_by_basicsr(good, tmp_path, capsys, squares):
    out = tmp_path / "out"
    more = ["--sub-images", "64", "--step", "40"] if squares else []
    argv = ["prepare", str(good), "--split", "train", "--out", str(out), "--lmdb", *more]
    shutil.copytree(good, tmp_path / "copy")
    argv[1] = str(tmp_path / "copy")
    assert main(argv) == 0
    lmdb = paired_in_basicsr(
        dataroot_lq=str(out / "lq.lmdb"),
        dataroot_gt=str(out / "gt.lmdb"),
        io_backend={"type": "lmdb"},
    )
    if not squares:
        assert len(lmdb) == 4
        for k, sample in enumerate(lmdb):
            gt = torch.from_numpy(read_image(good / f"train/gt/{k}.png")).permute(2, 0, 1) / 255
            assert torch.equal(sample["gt"], gt)
        return
    disk = paired_in_basicsr(
        dataroot_lq=str(out / "lq"),
        dataroot_gt=str(out / "gt"),
        meta_info_file=str(out / "meta_info.txt"),
        io_backend={"type": "disk"},
    )
    assert len(disk) == len(lmdb) == 4 * 2 * 3  # rows at 0 and 36, columns at 0, 40 and 76
    by_name = {sample["lq_path"]: sample for sample in lmdb}
    for sample in disk:
        same = by_name[sample["lq_path"].split("/")[-1].removesuffix(".png")]
        assert torch.equal(sample["lq"], same["lq"])
        assert torch.equal(sample["gt"], same["gt"])
    whole = read_image(good / "train/gt/1.png")
    last = (by_name["1_s006"]["gt"] * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(last, whole[36:100, 76:140])
    capsys.readouterr()
    assert main(argv) == 2
    assert "is there already" in capsys.readouterr().err


def test_sub_images_never_take_the_place_of_the_sets_own(tmp_path, capsys):
    """Whose names may be those of sub-images, as BasicSR's script gives them."""
    image = read_image(photo("coffee.png"))
    for side in ("lq", "gt"):
        (tmp_path / side).mkdir()
        for k in (1, 2):
            part = np.ascontiguousarray(image[100 * k :][:96, :96])
            hazy = part // 2 + 100 if side == "lq" else part
            (tmp_path / side / f"{k}_s001.png").write_bytes(png(hazy))
    argv = ("--lq", "lq/{n}", "--gt", "gt/{n}", "--sub-images", "64", "--workers", "1")
    assert main(["prepare", str(tmp_path), *argv, "--out", str(tmp_path)]) == 2
    assert "holds the set's own images" in capsys.readouterr().err
    assert len(list(tmp_path.rglob("*_s001.png"))) == 4
    assert main(["prepare", str(tmp_path), *argv, "--out", str(tmp_path / "cut")]) == 0
    assert len(list(tmp_path.rglob("*_s001.png"))) > 4


def test_inputs_of_other_names_get_sub_images_with_equal_ones(tmp_path):
    image = read_image(photo("coffee.png"))[:80, :120]
    for folder in ("hazy", "clear"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    (tmp_path / "set/clear/ä.png").write_bytes(png(image))
    for k in (0.2, 0.4):
        (tmp_path / f"set/hazy/ä_{k}.png").write_bytes(png((image * k).astype(np.uint8)))
    out = tmp_path / "out"
    argv = ["prepare", str(tmp_path / "set"), "--lq", "hazy/{scene}_*", "--gt", "clear/{scene}"]
    assert main([*argv, "--out", str(out), "--sub-images", "80", "--lmdb"]) == 0
    names = sorted(path.name for path in (out / "lq").iterdir())
    assert len(names) == 4
    assert names == sorted(path.name for path in (out / "gt").iterdir())
    dataset = paired_in_basicsr(
        dataroot_lq=str(out / "lq.lmdb"),
        dataroot_gt=str(out / "gt.lmdb"),
        io_backend={"type": "lmdb"},
    )
    assert len([dataset[k] for k in range(4)]) == 4


def test_preview_shows_input_and_truth(good, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert main(["preview", str(good), "--out", str(sheet), "--pairs", "3"]) == 0
    assert "3 of 6 pairs" in capsys.readouterr().out
    picture = read_image(sheet)
    assert picture.shape == (3 * 324, 2 * 420 + 2 * 300, 3)
    lq, gt = (read_image(good / "train" / side / "0.png") for side in ("input", "gt"))
    for image, left in ((lq, 0), (gt, 420)):
        whole = cv2.resize(image, (420, 300), interpolation=cv2.INTER_AREA)
        assert np.array_equal(picture[24:324, left : left + 420], whole)
    assert np.array_equal(picture[24:124, 840:980], lq)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["prepare", "none"], "none: no such folder"),
        (["prepare", "empty"], "no pairs of any layout known"),
        (["prepare", "set", "--layout", "UHD-Hase"], "Did you mean 'UHD-Haze'"),
        (["prepare", "set", "--split", "val"], "no split 'val' of UHD-Haze, only train, test"),
        (["prepare", "set", "--lmdb"], "need a folder to write to: --out DIR"),
        (["prepare", "set", "--lmdb", "--out", "o"], "prepare one at a time, by --split"),
        (["prepare", "set", "--lq", "/a/{n}", "--gt", "b/{n}"], "'/a/{n}': expected a pattern of"),
        (["prepare", "set", "--lq", "../a/{n}", "--gt", "b/{n}"], "of what lies below"),
        (
            ["prepare", "set", "--layout", "UHD-Haze", "--lq", "a/{n}", "--gt", "b/{n}"],
            "leave out one or the other",
        ),
        (
            ["prepare", "set", "--split", "train", "--lq", "a/{n}", "--gt", "b/{n}"],
            "--split: of layouts alone",
        ),
        (["prepare", "set", "--lq", "a/{n}"], "--gt is missing: --lq says half of where"),
        (["prepare", "set", "--step", "64"], "--step: of --sub-images alone"),
        (["prepare", "set", "--out", "o"], "--out: of --sub-images and --lmdb alone"),
        (["preview", "set", "--out", "sheet.pdf"], "expected a name that ends with .png"),
        (["preview", "set", "--pairs", "0"], "--pairs: expected 1 or more"),
    ],
)
def test_wrong_arguments(argv, said, good, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "set").mkdir()
    for split in ("train", "test"):
        (tmp_path / "set" / split).symlink_to(good / split, target_is_directory=True)
    shutil.copytree(good, tmp_path / "UHD-Haze-set")
    argv = [a if a != "set" else "UHD-Haze-set" for a in argv]
    assert main(argv) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
