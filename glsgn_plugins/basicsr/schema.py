"""The keys and values of BasicSR's option files: what they are, before anything is touched.

BasicSR reads an option when it comes to it, some after hours, and fails with a traceback or takes
text for a number. The models below have every key that BasicSR 1.4.2 and this package read. What
the names in a file stand for, and which files it needs, is checked by
:mod:`glsgn_plugins.basicsr.options`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from glsgn_plugins.errors import InputError, nearest, unknown_name

Options = dict[str, Any]


def _whole(value: Any) -> Any:
    """YAML's ``!!float 5e3``, which BasicSR's own files have for numbers of iterations."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _folder_name(value: str) -> str:
    if not value.strip() or value in (".", "..") or "/" in value or "\0" in value:
        raise ValueError("the name of a folder, without '/'")
    if len(value.encode()) > 180:
        raise ValueError("a name of 180 bytes at most, which becomes that of files, too")
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
Positive = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
Natural = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=True)]
Name = Annotated[str, AfterValidator(_folder_name)]


class Section(BaseModel):
    """Known keys alone, of the type that is written here: nothing is taken for anything else."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class Open(Section):
    """Keys of other people's models or datasets may stand beside these."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())


class Typed(Open):
    """A section that is made by its ``type``; its other keys are that class's parameters."""

    type: str


class Loss(Typed):
    """A loss; what it needs beside these, its class says."""

    loss_weight: Number = 1.0
    reduction: Literal["mean", "sum"] = "mean"


class Backend(Open):
    """``io_backend``."""

    type: Literal["disk", "lmdb", "memcached"]


class Loader(Open):
    """What BasicSR's loader reads of a dataset's section, and what datasets have in common."""

    name: str
    type: str
    phase: str | None = None
    scale: Positive | None = None
    io_backend: Backend | None = None
    pin_memory: bool = False
    persistent_workers: bool = False
    prefetch_mode: Literal["cpu", "cuda"] | None = None
    num_prefetch_queue: Positive = 1
    gt_size: Positive | None = None
    use_hflip: bool | None = None
    use_rot: bool | None = None
    mean: list[Number] | None = None
    std: list[Number] | None = None


class TrainLoader(Loader):
    """The same of ``datasets: train``."""

    batch_size_per_gpu: Positive
    num_worker_per_gpu: Natural
    dataset_enlarge_ratio: Annotated[float, Field(gt=0)] = 1


class Paired(Section):
    """BasicSR's ``PairedImageDataset``, beside what its loader reads."""

    dataroot_lq: str
    dataroot_gt: str
    meta_info_file: str | None = None
    filename_tmpl: str = "{}"
    color: Literal["y"] | None = None
    use_shuffle: bool | None = None  # in BasicSR's own files, read by nothing
    batch_size_per_gpu: Any = None
    num_worker_per_gpu: Any = None
    dataset_enlarge_ratio: Any = None


class PairedTest(Paired, Loader):
    """Of validation and test."""

    model_config = Section.model_config
    io_backend: Backend


class PairedTrain(Paired, TrainLoader):
    """Of training."""

    model_config = Section.model_config
    io_backend: Backend
    batch_size_per_gpu: Positive
    num_worker_per_gpu: Natural
    dataset_enlarge_ratio: Annotated[float, Field(gt=0)] = 1
    gt_size: Positive
    use_hflip: bool
    use_rot: bool


class MultiStep(Section):
    """``MultiStepLR`` and ``MultiStepRestartLR``."""

    type: str
    milestones: list[Whole]
    gamma: Number = 0.1
    restarts: list[Whole] = [0]
    restart_weights: list[Number] = [1]


class Cosine(Section):
    """``CosineAnnealingRestartLR``."""

    type: str
    periods: Annotated[list[Positive], Field(min_length=1)]
    restart_weights: list[Number] = [1]
    eta_min: Number = 0


class Train(Open):
    """``train``; which keys there are depends on ``model_type``."""

    total_iter: Positive
    warmup_iter: Whole = -1
    ema_decay: Annotated[float, Field(ge=0, le=1)] = 0
    optim_g: Options | None = None
    optim_d: Options | None = None
    scheduler: Options | None = None
    grad_clip: Annotated[float, Field(gt=0)] | None = None
    gan_global_weight: Annotated[float, Field(ge=0)] = 0
    pixel_opt: Loss | None = None
    pathway_opt: Loss | None = None
    perceptual_opt: Loss | None = None
    gan_opt: Loss | None = None


class Metric(Typed):
    """One of ``val: metrics``."""

    better: Literal["higher", "lower"] = "higher"
    crop_border: Natural = 0
    test_y_channel: bool = False


class Val(Section):
    """``val``, of training and of tests."""

    save_img: bool
    val_freq: Positive | None = None
    suffix: str | None = None
    pbar: bool = False
    metrics: dict[str, Metric] | None = None
    tile: Any = "auto"
    tile_overlap: Any = None


class ValInTraining(Val):
    """Of training, where it says how often."""

    val_freq: Positive


class Wandb(Section):
    """``logger: wandb``."""

    project: str | None = None
    resume_id: str | None = None


class Logger(Section):
    """``logger``."""

    print_freq: Positive
    save_checkpoint_freq: Positive
    use_tb_logger: bool
    wandb: Wandb | None = None


class Everything(Section):
    """A file of options."""

    name: Name
    model_type: str
    scale: Positive
    num_gpu: Natural | Literal["auto"]
    manual_seed: Annotated[int, Field(ge=0, lt=2**32 - 2**16)] | None = None
    datasets: dict[str, Options]
    network_g: Typed
    network_d: Typed | None = None
    path: dict[str, Any]
    val: Val | None = None
    logger: Logger | None = None
    train: Options | None = None
    dist_params: Options | None = None
    find_unused_parameters: bool = False


class Training(Everything):
    """Of ``basicsr train``."""

    train: Train  # type: ignore[assignment]
    logger: Logger
    val: ValInTraining | None = None


class Testing(Everything):
    """Of ``basicsr test``."""

    val: Val


PATHS = ("pretrain_network", "strict_load", "param_key")
"""Beginnings of keys of ``path``, one for each network."""

EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")
"""What people mean as a number, and YAML takes for text."""

NUMBER = re.compile(rf"{EXPONENT.pattern}|[+-]?\d+\.?\d*")

TEXTS = ("name", "suffix", "project", "resume_id", "split")
"""Keys whose text may look like a number."""

EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "dict_type": "a mapping of options",
    "model_type": "a mapping of options",
    "model_attributes_type": "a mapping of options",
    "list_type": "a list",
    "too_short": "a list that isn't empty",
}


def check_keys(opt: Options, train: bool, known_model: bool) -> None:
    """Check every key and value of which BasicSR's or our own code decides what it is.

    Args:
        opt: The file's content.
        train: For ``basicsr train``, else for ``basicsr test``.
        known_model: The model reads no keys of its own beside those above.

    Raises:
        InputError: The first that is missing, too much, or something else than expected.
    """
    schema: type[BaseModel] = Training if train else Testing
    if not known_model:
        schema = type("Open", (schema,), {"model_config": Open.model_config})
    validate(schema, opt, "")
    _check_path(opt["path"], [key.removeprefix("network") for key in opt if "network_" in key])
    for place, value in _leaves(opt, ""):
        free = place.rpartition(".")[2] in TEXTS
        if not free and isinstance(value, str) and re.fullmatch(EXPONENT, value):
            raise wrong_type(place, value, "a number")


def validate(schema: type[BaseModel], section: Any, place: str) -> None:
    """Check a section by its schema.

    Args:
        schema: One of the models above.
        section: What stands in the file.
        place: Of the section in the file, with a dot at its end; or nothing.

    Raises:
        InputError: As of :func:`check_keys`.
    """
    try:
        schema.model_validate(section)
    except ValidationError as error:
        # A key that doesn't exist explains one that is missing, and not the other way.
        found = sorted(error.errors(), key=lambda one: one["type"] == "missing")
        raise _told(found[0], found, schema, section, place) from None


def _told(
    error: Any, all_of_them: list[Any], schema: type[BaseModel], section: Any, place: str
) -> InputError:
    kind, value = error["type"], error["input"]
    # A choice of types has each of them in its places.
    where = [
        str(part) for part in error["loc"] if not re.search(r"^int$|constrained|\[", str(part))
    ]
    at = place + ".".join(where)
    if kind == "extra_forbidden":
        missing = [str(one["loc"][-1]) for one in all_of_them if one["type"] == "missing"]
        close = nearest(where[-1], missing)
        if close:
            lacking = ".".join((at.rpartition(".")[0], close)).lstrip(".")
            return InputError(f"the options lack '{lacking}'; is '{at}' meant for it?")
        known = [key for key in _fields_at(schema, error["loc"][:-1]) if key]
        return unknown_name(at, where[-1], known)
    if kind == "missing":
        return _lacks(at, section, error["loc"], _fields_at(schema, error["loc"][:-1]))
    if kind in EXPECTED:
        return wrong_type(at, value, EXPECTED[kind])
    if kind == "literal_error":
        expected = str(error["ctx"]["expected"]).replace("'", "")
        if at.endswith("prefetch_mode"):
            expected += " or ~"
        return unknown_name(at, value, re.split(r", | or ", expected))
    if kind == "value_error":
        return wrong_type(at, value, str(error["ctx"]["error"]))
    bounds = {"greater_than_equal": "from {ge} up", "greater_than": "above {gt}"}
    bounds |= {"less_than_equal": "up to {le}", "less_than": "below {lt}"}
    if kind in bounds:
        return wrong_type(at, value, f"a number {bounds[kind].format(**error['ctx'])}")
    return InputError(f"{at}: {error['msg']}, found {value!r}")


def _fields_at(schema: Any, loc: Iterable[Any]) -> list[str]:
    """Keys of the section at a place of a schema."""
    for part in loc:
        field = schema.model_fields.get(part) if hasattr(schema, "model_fields") else None
        if field is None:
            continue  # the name of a dataset or of a metric
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        options += [inner for one in options for inner in getattr(one, "__args__", ())]
        schema = next((one for one in options if hasattr(one, "model_fields")), schema)
    return list(schema.model_fields)


def _lacks(at: str, section: Any, loc: tuple[Any, ...], known: list[str]) -> InputError:
    around = section
    for part in loc[:-1]:
        around = around.get(part, {}) if isinstance(around, dict) else {}
    others = [str(key) for key in around if key not in known] if isinstance(around, dict) else []
    close = nearest(str(loc[-1]), others)
    hint = f"; is '{close}' meant for it?" if close else ""
    if loc[-1] == "type":
        return InputError(
            f"{at.removesuffix('.type')}: expected a mapping with a 'type', found {around!r}"
        )
    return InputError(f"the options lack '{at}'{hint}")


def wrong_type(place: str, value: Any, expected: str) -> InputError:
    """What to say of a value of another type.

    Args:
        place: Of the key.
        value: What was found.
        expected: What would do.
    """
    advice = ""
    if isinstance(value, str) and "number" in expected and re.fullmatch(NUMBER, value.strip()):
        advice = "; write it without quotes"
        if re.fullmatch(EXPONENT, value.strip()):
            advice = (
                f"; YAML takes {value} for text: write {_with_point(value)} or !!float {value} "
                f"(--force_yml: !!float{value})"
            )
    elif expected == "text" and not isinstance(value, (dict, list, type(None))):
        advice = "; put it in quotes"
    elif expected == "true or false" and isinstance(value, str):
        advice = "; write it without quotes"
    return InputError(f"{place}: expected {expected}, found {value!r}{advice}")


def _with_point(value: str) -> str:
    """As YAML 1.1 takes it for a number: with a point, and a sign in the exponent."""
    mantissa, exponent = re.split("[eE]", value)
    sign = "" if exponent[0] in "+-" else "+"
    return f"{mantissa}{'' if '.' in mantissa else '.0'}e{sign}{exponent}"


def _check_path(path: Options, networks: list[str]) -> None:
    """BasicSR makes a folder of the value of every other key."""
    known = [f"{start}{network}" for start in PATHS for network in networks]
    known += ["resume_state", "ignore_resume_networks"]
    for key, value in path.items():
        if key not in known:
            raise unknown_name(f"path.{key}", key, known)
        if key.startswith("strict_load"):
            if not isinstance(value, bool):
                raise wrong_type(f"path.{key}", value, "true or false")
        elif key == "ignore_resume_networks":
            if not isinstance(value, (str, list, type(None))):
                raise wrong_type(f"path.{key}", value, "a list of networks")
        elif not isinstance(value, (str, type(None))):
            raise wrong_type(f"path.{key}", value, "text")


def _leaves(section: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(section, dict):
        for key, value in section.items():
            yield from _leaves(value, f"{place}.{key}" if place else str(key))
    elif isinstance(section, list):
        for number, value in enumerate(section):
            yield from _leaves(value, f"{place}[{number}]")
    else:
        yield place, section
