"""Mends for the frameworks, applied to the running process; nobody's site-packages is edited.

Each :class:`Mend` says what breaks, why, and for which versions it is. One that isn't needed does
nothing. ``glsgn doctor`` prints them with their state.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from glsgn_plugins.checkpoint import mmengine_globals, read_checkpoint
from glsgn_plugins.data.draws import number
from glsgn_plugins.errors import InputError, NonFiniteLossError, said
from glsgn_plugins.pretrained import is_shipped, weights_file
from glsgn_plugins.weights import check_fits, of_generator, read_safetensors, read_weights
from glsgn_plugins.writing import written_whole


@dataclass(frozen=True)
class Mend:
    """One defect of a framework and what is done about it.

    Attributes:
        name: Short, for ``glsgn doctor``.
        symptom: What a user sees without it.
        cause: Why.
        versions: Where it is needed.
        needed: Tells whether this environment has the defect.
        apply: Mends it; called once, only where needed.
    """

    name: str
    symptom: str
    cause: str
    versions: str
    needed: Callable[[], bool]
    apply: Callable[[], None]


_in_force: set[str] = set()


def in_force(mend: Mend) -> bool:
    """Whether the mend has been applied to this process."""
    return mend.name in _in_force


def _apply(mends: tuple[Mend, ...]) -> None:
    for mend in mends:
        if not in_force(mend) and mend.needed():
            mend.apply()
            _in_force.add(mend.name)


def installed(package: str) -> str | None:
    """The version of an installed distribution, or ``None``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def release(version: str) -> tuple[int, ...]:
    """The first three numbers of a version."""
    return tuple(int(part) for part in version.split("+")[0].split(".")[:3] if part.isdigit())


def _require(
    package: str, needs: tuple[int, int, int], below: tuple[int, int], pythons: str, why: str
) -> None:
    """The package in the needed version or a later one, else an error that says what to do."""
    found = installed(package)
    wanted = f"{package} {'.'.join(map(str, needs))}"
    if found is not None:
        if release(found) >= needs:
            return
        raise ImportError(
            f"{package} {found} is too old, {wanted} is needed: "
            f"pip install 'glsgn-plugins[{package}]'"
        )
    if sys.version_info >= below:
        here = ".".join(map(str, sys.version_info[:2]))
        raise ImportError(
            f"{wanted} doesn't install on Python {here} ({why}); use Python {pythons} for it. The "
            "core of glsgn_plugins works without it"
        )
    raise ImportError(f"{wanted} is not installed: pip install 'glsgn-plugins[{package}]'")


def mend_basicsr() -> None:
    """Make BasicSR importable and whole.

    Raises:
        ImportError: BasicSR is missing or too old; says what to install, on which Python.
    """
    _require("basicsr", (1, 4, 2), (3, 13), "3.10 to 3.12", "its setup.py can't be built there")
    _apply(BEFORE_BASICSR)
    _apply(AFTER_BASICSR)


def mend_mmagic() -> None:
    """Make MMagic's models importable, and MMEngine's checkpoints safe and whole.

    Raises:
        ImportError: MMagic is missing or too old; says what to install, on which Python.
    """
    _require("mmagic", (1, 2, 0), (3, 12), "3.10 or 3.11", "openmim's setuptools fails")
    _apply(BEFORE_MMAGIC)
    _apply(AFTER_MMAGIC)


# --- BasicSR -------------------------------------------------------------------------------------


def _lacks_functional_tensor() -> bool:
    name = "torchvision.transforms.functional_tensor"
    return name not in sys.modules and importlib.util.find_spec(name) is None


def _alias_functional_tensor() -> None:
    from torchvision.transforms.functional import rgb_to_grayscale

    module = types.ModuleType("torchvision.transforms.functional_tensor")
    module.__dict__["rgb_to_grayscale"] = rgb_to_grayscale
    sys.modules[module.__name__] = module


def _newest_whole_state(opt: dict[str, Any]) -> tuple[Path, dict[str, Any]] | None:
    """The newest training state whose file and whose networks can be read."""
    folder = Path("experiments", opt["name"], "training_states")
    states = sorted(
        (p for p in folder.glob("*.state") if p.stem.isdigit()),
        key=lambda p: int(p.stem),
        reverse=True,
    )
    for path in states:
        try:
            state = read_checkpoint(path)
            for key in opt:
                if key.startswith("network_"):
                    label = key.replace("network_", "net_")
                    read_checkpoint(Path(opt["path"]["models"], f"{label}_{path.stem}.pth"))
        except InputError as error:
            print(f"Not resumed from iteration {path.stem}: {error}", file=sys.stderr, flush=True)
        else:
            return path, state
    if states:
        raise InputError(
            f"{folder}: none of its {len(states)} checkpoints can be read; move the folder away, "
            "or leave out --auto_resume to start anew"
        )
    return None


def _mend_resume() -> None:
    import basicsr.train
    from basicsr.utils import check_resume

    def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
        if opt["auto_resume"]:
            found = _newest_whole_state(opt)
            if found is None:
                return None
            path, state = found
            opt["path"]["resume_state"] = str(path)
        elif opt["path"].get("resume_state"):
            state = read_checkpoint(opt["path"]["resume_state"])
        else:
            return None
        check_resume(opt, state["iter"])
        return state

    basicsr.train.load_resume_state = load_resume_state


@contextmanager
def _into_scratch(model: Any, folder: str) -> Iterator[None]:
    """Points a model's writer at a scratch folder whose files are then moved in place."""
    final = model.opt["path"][folder]
    with written_whole(final) as scratch:
        model.opt["path"][folder] = str(scratch)
        try:
            yield
        finally:
            model.opt["path"][folder] = final


def _mend_saving() -> None:
    from basicsr.models.base_model import BaseModel

    write_network, write_state = BaseModel.save_network, BaseModel.save_training_state

    # Both writers do nothing on ranks other than 0, and the second nothing for "latest" (-1).
    @functools.wraps(write_network)
    def save_network(self: Any, *args: Any, **kwargs: Any) -> None:
        if self.opt["rank"] == 0:
            with _into_scratch(self, "models"):
                write_network(self, *args, **kwargs)

    @functools.wraps(write_state)
    def save_training_state(self: Any, epoch: int, current_iter: int) -> None:
        if self.opt["rank"] == 0 and current_iter != -1:
            with _into_scratch(self, "training_states"):
                write_state(self, epoch, current_iter)

    BaseModel.save_network = save_network
    BaseModel.save_training_state = save_training_state


def _mend_loading() -> None:
    from basicsr.models.base_model import BaseModel
    from basicsr.utils import get_root_logger

    plain = BaseModel.load_network

    def from_pickle(
        model: Any, net: torch.nn.Module, file: Path, strict: bool, param_key: str | None
    ) -> None:
        weights = read_checkpoint(file)
        keys = list(weights) if isinstance(weights, dict) else []
        if param_key is not None and param_key not in keys and "params" not in keys:
            raise InputError(
                f"{file}: has no '{param_key}'; it holds {', '.join(map(str, keys[:4]))}. For "
                "a bare state dict set path: param_key_g: ~"
            )
        plain(model, net, str(file), strict, param_key)

    def from_safetensors(model: Any, net: torch.nn.Module, file: Path, strict: bool) -> None:
        weights = read_safetensors(file)
        bare = model.get_bare_model(net)
        get_root_logger().info(f"Loading {type(bare).__name__} model from {file}.")
        model._print_different_keys_loading(bare, weights, strict)
        bare.load_state_dict(weights, strict=strict)

    @functools.wraps(plain)
    def load_network(
        self: Any,
        net: torch.nn.Module,
        load_path: str,
        strict: bool = True,
        param_key: str | None = "params",
    ) -> None:
        file = weights_file(load_path)
        try:
            if file.suffix == ".safetensors":  # holds one set, whatever param_key asks for
                from_safetensors(self, net, file, strict)
            else:
                from_pickle(self, net, file, strict, param_key)
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise InputError(
                f"{load_path}: doesn't fit {type(self.get_bare_model(net)).__name__} as the "
                f"options build it: {' '.join(lines[1:3])[:300]}"
            ) from None

    BaseModel.load_network = load_network


def _mend_cpu_ranks() -> None:
    import basicsr.utils.dist_util as dist_util
    from basicsr.models.base_model import BaseModel
    from torch.nn.parallel import DistributedDataParallel

    def init_dist(backend: str = "nccl", **kwargs: Any) -> None:
        torch.distributed.init_process_group(backend="gloo", **kwargs)

    def model_to_device(self: Any, net: torch.nn.Module) -> torch.nn.Module:
        if not self.opt["dist"]:
            return plain(self, net)
        unused = self.opt.get("find_unused_parameters", False)
        return DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)

    plain = BaseModel.model_to_device
    dist_util._init_dist_pytorch = init_dist
    BaseModel.model_to_device = model_to_device


def _mend_draws() -> None:
    from basicsr.data.data_sampler import EnlargedSampler

    plain = EnlargedSampler.__iter__

    @functools.wraps(plain)
    def draws(self: Any) -> Iterator[int]:
        return number(plain(self), self.epoch, self.rank, self.num_replicas)

    EnlargedSampler.__iter__ = draws


BEFORE_BASICSR = (
    Mend(
        "functional_tensor",
        symptom="No module named 'torchvision.transforms.functional_tensor' at import basicsr",
        cause="BasicSR 1.4.2 imports a module that torchvision 0.17 removed",
        versions="basicsr <= 1.4.2 with torchvision >= 0.17",
        needed=_lacks_functional_tensor,
        apply=_alias_functional_tensor,
    ),
)

AFTER_BASICSR = (
    Mend(
        "resume",
        symptom="--auto_resume: 'Found no NVIDIA driver' without a GPU; a truncated newest "
        "checkpoint ends the run",
        cause="load_resume_state asks for the current CUDA device and takes the newest file as is",
        versions="basicsr <= 1.4.2",
        needed=lambda: True,
        apply=_mend_resume,
    ),
    Mend(
        "whole checkpoints",
        symptom="a run killed or out of disk while saving leaves a checkpoint that can't be loaded",
        cause="save_network and save_training_state write under the final name, ignore failures",
        versions="basicsr <= 1.4.2",
        needed=lambda: True,
        apply=_mend_saving,
    ),
    Mend(
        "safe loading",
        symptom="a weights file can run code (torch < 2.6); a wrong one ends in a traceback; "
        "safetensors are taken for damaged",
        cause="load_network calls torch.load without weights_only, checks nothing",
        versions="basicsr <= 1.4.2",
        needed=lambda: True,
        apply=_mend_loading,
    ),
    Mend(
        "ranks without a GPU",
        symptom="--launcher pytorch without a GPU: 'integer modulo by zero'",
        cause="the launcher and the model take it that each rank has a CUDA device",
        versions="basicsr <= 1.4.2, where torch sees no GPU",
        needed=lambda: torch.cuda.device_count() == 0,
        apply=_mend_cpu_ranks,
    ),
    Mend(
        "numbered draws",
        symptom="random crops and degradations repeat each epoch, and change with the workers",
        cause="worker_init_fn seeds every epoch alike; EnlargedSampler's indices don't tell the "
        "epoch, nor the repeats of dataset_enlarge_ratio, to the dataset",
        versions="basicsr <= 1.4.2, for the datasets of glsgn_plugins",
        needed=lambda: True,
        apply=_mend_draws,
    ),
)


# --- MMagic --------------------------------------------------------------------------------------


def _lacks_mmcv_ext() -> bool:
    return importlib.util.find_spec("mmcv._ext") is None


def _import_ops_without_ext() -> None:
    class NoOps(types.ModuleType):
        """Stands in for mmcv's compiled half while mmcv.ops is imported."""

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)

            def missing(*args: Any, **kwargs: Any) -> None:
                raise ImportError(
                    f"mmcv.ops needs its compiled function '{name}', which mmcv-lite lacks: "
                    "install the full mmcv (>= 2.0, < 2.2)"
                )

            return missing

    sys.modules["mmcv._ext"] = NoOps("mmcv._ext")
    try:
        importlib.import_module("mmcv.ops")
    finally:
        # mmengine asks pkgutil whether mmcv._ext exists to tell the full mmcv from the lite one.
        del sys.modules["mmcv._ext"]


def _lacks_mediapipe_solutions() -> bool:
    if "controlnet_aux" in sys.modules or importlib.util.find_spec("controlnet_aux") is None:
        return False
    mediapipe = importlib.util.find_spec("mediapipe")
    if mediapipe is None or mediapipe.origin is None:
        return True
    return not (Path(mediapipe.origin).parent / "python" / "solutions").is_dir()


def _stand_in_for_controlnet_aux() -> None:
    class Missing:
        """Stands in for what can't be imported, which one of MMagic's inferencers uses."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise ImportError(
                "controlnet_aux needs mediapipe.solutions: pip install 'mediapipe<0.10.30'"
            )

        from_pretrained = __init__

    module = types.ModuleType("controlnet_aux")
    module.__dict__["HEDdetector"] = Missing
    sys.modules[module.__name__] = module


BEFORE_MMAGIC = (
    Mend(
        "mmcv.ops without mmcv._ext",
        symptom="No module named 'mmcv._ext' at import mmagic.models",
        cause="mmcv-lite holds the Python half of mmcv.ops only",
        versions="mmcv-lite >= 2.0, < 2.2",
        needed=_lacks_mmcv_ext,
        apply=_import_ops_without_ext,
    ),
    Mend(
        "controlnet_aux without mediapipe.solutions",
        symptom="module 'mediapipe' has no attribute 'solutions' at import mmagic.apis",
        cause="all inferencers are imported for any; ControlNet's needs what mediapipe removed",
        versions="mmagic 1.2.0 with mediapipe >= 0.10.30",
        needed=_lacks_mediapipe_solutions,
        apply=_stand_in_for_controlnet_aux,
    ),
)


def _mend_mmengine_loading() -> None:
    import mmengine.runner.checkpoint as loading
    from mmengine.logging.history_buffer import HistoryBuffer

    loading.load_url = functools.partial(loading.load_url, weights_only=True)

    # Onto the CPU wherever it is to go: models and optimisers copy what they load.
    @loading.CheckpointLoader.register_scheme(prefixes="", force=True)
    def load_from_local(filename: str, map_location: Any) -> Any:
        file = Path(filename).expanduser()
        if file.suffix == ".safetensors":
            return {"state_dict": of_generator(read_weights(file).weights)}
        return read_checkpoint(file, mmengine_globals(HistoryBuffer))


def _mend_mmengine_saving() -> None:
    import mmengine.runner.runner as runner

    write = runner.save_checkpoint

    @functools.wraps(write)
    def save_checkpoint(
        checkpoint: dict[str, Any], filename: str, *args: Any, **kwargs: Any
    ) -> None:
        if "://" in filename:  # no file of ours
            return write(checkpoint, filename, *args, **kwargs)
        file = Path(filename)
        with written_whole(file.parent) as scratch:
            write(checkpoint, str(scratch / file.name), *args, **kwargs)

    runner.save_checkpoint = save_checkpoint


def _newest_whole_checkpoint(work_dir: str) -> str | None:
    """The newest of a run's checkpoints that can be read: the last one, or else those before it."""
    from mmengine.logging.history_buffer import HistoryBuffer

    pointer = Path(work_dir, "last_checkpoint")
    pointed = pointer.read_text().strip() if pointer.is_file() else ""
    folder = Path(pointed).parent if pointed else Path(work_dir)
    files = [p for kind in ("iter", "epoch") for p in folder.glob(f"{kind}_*.pth")]
    # By time and not by number: an earlier, longer run may have left its files here.
    files.sort(key=lambda p: (p.name == Path(pointed).name, p.stat().st_mtime), reverse=True)
    for file in files:
        try:
            read_checkpoint(file, mmengine_globals(HistoryBuffer))
        except InputError as error:
            print(f"Not resumed from {file.name}: {error}", file=sys.stderr, flush=True)
        else:
            return str(file)
    if files:
        raise InputError(
            f"{folder}: none of its {len(files)} checkpoints can be read; move the folder away, or "
            "leave out --resume to start anew"
        )
    return None


def _mend_mmengine_resume() -> None:
    import mmengine.runner.runner as runner

    runner.find_latest_checkpoint = _newest_whole_checkpoint


def _mend_mmengine_start() -> None:
    import mmengine.runner.runner as runner
    from mmengine.runner import Runner

    plain = Runner.load_or_resume

    @functools.wraps(plain)
    def load_or_resume(self: Any) -> None:
        start = self._load_from
        if is_shipped(start) and not self._has_loaded:
            found = runner.find_latest_checkpoint(self.work_dir) if self._resume else None
            if found is None:
                model = getattr(self.model, "module", self.model)
                generator = getattr(model, "generator", torch.nn.Module())
                check_fits(read_weights(start), generator.state_dict(), start, "model.generator")
            self._resume, self._load_from = found is not None, found or start
        plain(self)

    Runner.load_or_resume = load_or_resume


def _mend_mmengine_cpu_ranks() -> None:
    import mmengine.dist.utils as utils
    from mmengine.model import MMDistributedDataParallel

    wrap = MMDistributedDataParallel.__init__

    def init_dist(backend: str, init_backend: str = "torch", **kwargs: Any) -> None:
        torch.distributed.init_process_group(backend="gloo", **kwargs)

    @functools.wraps(wrap)
    def without_devices(self: Any, *args: Any, device_ids: Any = None, **kwargs: Any) -> None:
        wrap(self, *args, **kwargs)

    utils._init_dist_pytorch = init_dist
    MMDistributedDataParallel.__init__ = without_devices


def _mend_tracebacks() -> None:
    plain = sys.excepthook

    def one_line(kind: Any, error: BaseException, trace: Any) -> None:
        if isinstance(error, (InputError, NonFiniteLossError)):
            print(f"error: {said(error)}", file=sys.stderr, flush=True)
        else:
            plain(kind, error, trace)

    sys.excepthook = one_line


def _mend_mmengine_draws() -> None:
    from mmengine.dataset import InfiniteSampler

    plain = InfiniteSampler.__iter__

    @functools.wraps(plain)
    def draws(self: Any) -> Iterator[int]:
        numbered = number(plain(self), 0, self.rank, self.world_size)
        return islice(numbered, getattr(self, "trained_on", 0), None)

    InfiniteSampler.__iter__ = draws


class _Advanced:
    """An iterator that its owner believes to be at the beginning: it is ``steps`` on already."""

    def __init__(self, iterator: Iterator[Any], steps: int) -> None:
        self.iterator = iterator
        self.steps = steps

    def __next__(self) -> Any:
        if self.steps:
            self.steps -= 1
            return None
        return next(self.iterator)


def _mend_mmengine_advance() -> None:
    from mmengine.dataset import InfiniteSampler
    from mmengine.runner import loops

    plain = loops.IterBasedTrainLoop.run

    @functools.wraps(plain)
    def run(self: Any) -> Any:
        sampler = self.dataloader.sampler
        if self._iter > 0 and isinstance(sampler, InfiniteSampler):
            sampler.trained_on = self._iter * self.dataloader.batch_size
            fresh = loops._InfiniteDataloaderIterator(self.dataloader)
            self.dataloader_iterator = _Advanced(fresh, self._iter)
        return plain(self)

    loops.IterBasedTrainLoop.run = run


AFTER_MMAGIC = (
    Mend(
        "safe loading in mmengine",
        symptom="'Weights only load failed' in mim test on a checkpoint that mim train wrote; with "
        "torch < 2.6 a weights file can run code",
        cause="mmengine pickles its HistoryBuffer and calls torch.load with torch's defaults",
        versions="mmengine <= 0.10.7",
        needed=lambda: True,
        apply=_mend_mmengine_loading,
    ),
    Mend(
        "whole checkpoints in mmengine",
        symptom="a run killed or out of disk while saving leaves a checkpoint that can't be loaded",
        cause="save_checkpoint writes under the final name",
        versions="mmengine <= 0.10.7",
        needed=lambda: True,
        apply=_mend_mmengine_saving,
    ),
    Mend(
        "resume in mmengine",
        symptom="--resume: a truncated newest checkpoint or an empty last_checkpoint ends the run",
        cause="find_latest_checkpoint takes what last_checkpoint names as it is",
        versions="mmengine <= 0.10.7",
        needed=lambda: True,
        apply=_mend_mmengine_resume,
    ),
    Mend(
        "fine-tuning in mmengine",
        symptom="with load_from = 'glsgn://rain', --resume begins anew from those weights; those "
        "of another size are left out with a warning, and training starts from noise",
        cause="load_or_resume takes load_from for what to resume, and loads without strict",
        versions="mmengine <= 0.10.7, for the weights of glsgn_plugins",
        needed=lambda: True,
        apply=_mend_mmengine_start,
    ),
    Mend(
        "ranks without a GPU in mmengine",
        symptom="--launcher pytorch without a GPU: 'Found no NVIDIA driver'",
        cause="the launcher and the model wrapper take it that each rank has a CUDA device",
        versions="mmengine <= 0.10.7, where torch sees no GPU",
        needed=lambda: torch.cuda.device_count() == 0,
        apply=_mend_mmengine_cpu_ranks,
    ),
    Mend(
        "one line for wrong input",
        symptom="what is wrong in a config stands at the end of a page of traceback",
        cause="mim's scripts catch no error",
        versions="mmagic <= 1.2.0, for the errors of glsgn_plugins",
        needed=lambda: True,
        apply=_mend_tracebacks,
    ),
    Mend(
        "numbered draws in mmengine",
        symptom="random crops and degradations change with the number of workers",
        cause="InfiniteSampler's indices don't tell the dataset for which time they are asked",
        versions="mmengine <= 0.10.7, for the datasets of glsgn_plugins",
        needed=lambda: True,
        apply=_mend_mmengine_draws,
    ),
    Mend(
        "resume without decoding in mmengine",
        symptom="--resume late in a training on 4K images does nothing for hours",
        cause="IterBasedTrainLoop fetches every batch that was trained on, to throw it away",
        versions="mmengine <= 0.10.7, with InfiniteSampler",
        needed=lambda: True,
        apply=_mend_mmengine_advance,
    ),
)

ALL_MENDS = (*BEFORE_BASICSR, *AFTER_BASICSR, *BEFORE_MMAGIC, *AFTER_MMAGIC)
