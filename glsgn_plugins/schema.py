"""Checking options by pydantic's schemas, and saying what is wrong in this package's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from glsgn_plugins.errors import (
    EXPONENT,
    InputError,
    lacks_type,
    nearest,
    unknown_name,
    wrong_type,
)

Options = dict[str, Any]


def _whole(value: Any) -> Any:
    """YAML's ``!!float 5e3``, which BasicSR's own files have for numbers of iterations."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Positive = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
Natural = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=True)]


class Section(BaseModel):
    """Known keys alone, of the type that is written here: nothing is taken for anything else."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class Open(Section):
    """Keys of other people's models or datasets may stand beside these."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())


class Typed(Open):
    """A section that is made by its ``type``; its other keys are that class's parameters."""

    type: str


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


def validate(schema: type[BaseModel], section: Any, place: str) -> None:
    """Check a section by its schema.

    Args:
        schema: One of the models above.
        section: What stands in the file.
        place: Of the section in the file, with a dot at its end; or nothing.

    Raises:
        InputError: A key or value does not fit; names it, what was expected, what to do.
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
        return lacks_type(at.removesuffix(".type"), around)
    return InputError(f"the options lack '{at}'{hint}")


def check_numbers(section: Any) -> None:
    """Find text that was meant as a number, anywhere.

    Raises:
        InputError: There is some; says how to write it.
    """
    for place, value in _leaves(section, ""):
        free = place.rpartition(".")[2] in TEXTS
        if not free and isinstance(value, str) and re.fullmatch(EXPONENT, value):
            raise wrong_type(place, value, "a number")


def check_names(section: Any, place: str = "the options") -> None:
    """Find keys that are no text, which YAML makes of ``1:``, ``no:`` and ``~:``.

    Raises:
        InputError: There is one.
    """
    if isinstance(section, dict):
        for key, value in section.items():
            if not isinstance(key, str):
                raise InputError(f"{place}: the key {key!r} is no text; put it in quotes")
            check_names(value, key if place == "the options" else f"{place}.{key}")
    elif isinstance(section, list):
        for value in section:
            check_names(value, place)


def _leaves(section: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(section, dict):
        for key, value in section.items():
            yield from _leaves(value, f"{place}.{key}" if place else str(key))
    elif isinstance(section, list):
        for number, value in enumerate(section):
            yield from _leaves(value, f"{place}[{number}]")
    else:
        yield place, section
