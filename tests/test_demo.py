"""The demo's data: real photographs, rain as promised, the same every time."""

import cv2
from conftest import psnr, tensor

from glsgn_plugins import demo


def test_rain_on_the_unseen_photograph_leaves_20_to_26_db(tmp_path):
    demo.make_data(tmp_path / "a")
    stem = demo.UNSEEN_PHOTO.split(".")[0]
    lq, gt = (
        tensor(cv2.imread(str(tmp_path / "a/val" / side / f"{stem}.png"))) for side in ("lq", "gt")
    )
    assert 20 <= psnr(lq, gt) <= 26
    assert not [p for p in (tmp_path / "a/train").rglob("*.png") if p.name.startswith(stem)]

    demo.make_data(tmp_path / "b")
    first = sorted(p for p in (tmp_path / "a").rglob("*.png") if "clean" not in p.parts)
    assert len(first) == 2 * (len(demo.TRAIN_PHOTOS) * demo.RAINS_PER_PHOTO + 1)
    second = sorted(p for p in (tmp_path / "b").rglob("*.png") if "clean" not in p.parts)
    assert demo.digest(*first) == demo.digest(*second)
