"""``TiledSRModel``: BasicSR's ``SRModel`` with validation in pieces, shared out between ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger, tensor2img
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from glsgn_plugins.basicsr.output_images import input_paths, picture_names, save_picture
from glsgn_plugins.errors import InputError
from glsgn_plugins.inference import check_finite, restore


class _Share(Subset[Any]):
    """The images of one rank."""

    def __init__(self, dataset: Any, rank: int, ranks: int) -> None:
        super().__init__(dataset, range(rank, len(dataset), ranks))
        self.opt = dataset.opt


@MODEL_REGISTRY.register()
class TiledSRModel(SRModel):
    """Trains as ``SRModel`` does, any registered arch; validates and tests images of any size.

    Beside those of ``SRModel`` it takes these options under ``val``, as of
    :func:`~glsgn_plugins.inference.restore`:

    - ``tile``: ``auto`` (default), ``whole``, ``stream`` (GLSGN) or pixels. What ``auto`` does goes
      by the image's size alone, so that scores don't depend on the memory that is free.
    - ``tile_overlap``: pixels; an eighth of ``tile`` unless given.
    - ``strength``: how much of the change is wanted, from 0 to 1.5; 1 unless given.

    A GLSGN with ``long_side`` or ``coarse_side`` is validated by that, as ``restore`` has it.

    Images stay in host memory, and what is needed of them is moved to the device. Under a launcher
    each rank takes its share of the images; scores are those of all.
    """

    lq: Tensor
    gt: Tensor
    validating = False
    said = ""

    def feed_data(self, data: dict[str, Any]) -> None:
        """``lq`` and ``gt``: ``(N, 3, H, W)``, RGB in [0, 1]; left on the host in validation."""
        if not self.validating:
            super().feed_data(data)
            return
        self.lq = data["lq"]
        if "gt" in data:
            self.gt = data["gt"]

    def test(self) -> None:
        """Sets ``output``, by the averaged network where there is one."""
        options = self.opt["val"]
        self.output = restore(
            self.get_bare_model(getattr(self, "net_g_ema", self.net_g)),
            self.lq,
            options.get("tile", "auto"),
            strength=options.get("strength", 1),
            overlap=options.get("tile_overlap"),
            steady=True,
            say=self._say,
        )

    def _say(self, message: str) -> None:
        """Log how images are restored, as often as that changes."""
        if message != self.said:
            get_root_logger().info(f"Restoring {message}")
            self.said = message

    def nondist_validation(
        self, dataloader: DataLoader[Any], current_iter: int, tb_logger: Any, save_img: bool
    ) -> None:
        """As BasicSR's, with images on the host, and pictures of different names and full depth."""
        self.validating = True
        try:
            self._validate(dataloader, current_iter, tb_logger, save_img)
        finally:
            self.validating = False

    def _validate(
        self, dataloader: DataLoader[Any], current_iter: int, tb_logger: Any, save_img: bool
    ) -> None:
        dataset: Any = dataloader.dataset
        name, options = dataset.opt["name"], self.opt["val"]
        metrics = options.get("metrics") or {}
        if metrics:
            self._initialize_best_metric_results(name)
        self.metric_results = dict.fromkeys(metrics, 0.0)
        names = picture_names(input_paths(getattr(dataset, "dataset", dataset)))
        count = len(dataset)
        for sample in tqdm(dataloader, unit="image", disable=not options.get("pbar")):
            source = sample["lq_path"][0]
            self.feed_data(sample)
            self.test()
            self._check_output(source)
            visuals = self.get_current_visuals()
            images = {"img": tensor2img([visuals["result"]])}
            if "gt" in visuals:
                images["img2"] = tensor2img([visuals["gt"]])
                del self.gt
            if save_img:
                picture = names.get(source, Path(source).with_suffix("").name)
                save_picture(
                    visuals["result"], source, self._place(name, Path(picture), current_iter)
                )
            for metric, how in metrics.items():
                self.metric_results[metric] += calculate_metric(images, how) / count
            del self.lq, self.output
        for metric, value in self.metric_results.items():
            self._update_best_metric_result(name, metric, value, current_iter)
        if metrics:
            self._log_validation_metric_values(current_iter, name, tb_logger)

    def _place(self, dataset: str, picture: Path, current_iter: int) -> Path:
        """Where BasicSR puts a picture."""
        folder = Path(self.opt["path"]["visualization"])
        if self.is_train:
            if sum(phase.startswith("val") for phase in self.opt["datasets"]) > 1:
                folder /= dataset
            return folder / picture / f"{picture.name}_{current_iter}.png"
        suffix = self.opt["val"].get("suffix") or self.opt["name"]
        return folder / dataset / picture.with_name(f"{picture.name}_{suffix}.png")

    def _check_output(self, source: str) -> None:
        """A picture that isn't finite would be saved as a black one."""
        try:
            check_finite(self.output, self.net_g)
        except InputError as error:
            if not self.is_train:
                raise InputError(f"{source}: {error}") from None
            # Its losses are checked, and the next image may be another matter.
            get_root_logger().error(f"{source}: {error}")

    def dist_validation(
        self, dataloader: DataLoader[Any], current_iter: int, tb_logger: Any, save_img: bool
    ) -> None:
        """A rank's share of the images; BasicSR has the first rank take all of them."""
        rank, ranks = self.opt["rank"], self.opt["world_size"]
        share = _Share(dataloader.dataset, rank, ranks)
        self.images = len(share)
        options = self.opt["val"]
        options["pbar"] = bool(options.get("pbar")) and rank == 0
        try:
            if self.images:
                loader = DataLoader(share, batch_size=1)
                self.nondist_validation(loader, current_iter, tb_logger, save_img)
            else:
                for _ in options.get("metrics") or {}:
                    self._mean_of_ranks(0.0)
        finally:
            del self.images

    def _update_best_metric_result(
        self, dataset_name: str, metric: str, val: float, current_iter: int
    ) -> None:
        """Here a rank's mean has just become known; what is kept and logged is that of all."""
        if hasattr(self, "images"):
            val = self.metric_results[metric] = self._mean_of_ranks(val)
        super()._update_best_metric_result(dataset_name, metric, val, current_iter)

    def _mean_of_ranks(self, mean: float) -> float:
        totals = torch.tensor(
            [mean * self.images, self.images], dtype=torch.float64, device=self.device
        )
        torch.distributed.all_reduce(totals)
        total, count = totals.tolist()
        return total / count
