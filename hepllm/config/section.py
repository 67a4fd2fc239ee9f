"""The base of all configuration sections, and types and functions that declare settings."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from hepllm.errors import InputError, nearest_name
from hepllm.schema import FEATURES

Value = TypeVar("Value")

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Form:
    """The required form of a text, in words for the reference of settings."""

    text: str


def _as_balance(text: str) -> str:
    if not re.fullmatch(r"natural|[1-9]\d*:[1-9]\d*", text):
        raise ValueError(f"expected a ratio such as 1:1 or 1:10, or natural, found {text!r}")
    return text


Balance = Annotated[str, AfterValidator(_as_balance), Form("ratio such as 1:10, or natural")]
"""Signal to background, such as ``1:10``, or ``natural``."""


OWN_NAMES = "own names"
"""Key of the validation context: names and patterns of columns of the user's own."""


def own_names(tree: Any) -> tuple[str, ...]:
    """New variables and observers of a tree of settings that is not validated yet."""
    section = tree.get("preprocess") if isinstance(tree, Mapping) else None
    if not isinstance(section, Mapping):
        return ()
    found = [section.get(key) or () for key in ("new_variables", "observers")]
    return tuple(
        name
        for names in found
        if isinstance(names, Mapping | list | tuple)
        for name in names
        if isinstance(name, str)
    )


def matches_any(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is one of those given, or matches one as a pattern such as ``weight_*``."""
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _own(info: ValidationInfo) -> tuple[str, ...]:
    found: tuple[str, ...] = (info.context or {}).get(OWN_NAMES, ())
    return found


def _as_event_filter(text: str, info: ValidationInfo) -> str:
    from hepllm.event_filter import parse_event_filter  # noqa: PLC0415 (imports numpy)

    own = {word for word in re.findall(r"[^\W\d]\w*", text) if matches_any(word, _own(info))}
    try:
        return parse_event_filter(text, own=own).text
    except InputError as error:
        raise ValueError(str(error)) from None


Filter = Annotated[str, AfterValidator(_as_event_filter)]
"""An event filter on features, such as ``3300 < m_jj < 3700``."""


def known_features(value: Value, known: Collection[str] = tuple(FEATURES)) -> Value:
    """Refuses a list or mapping of features that is empty or has an unknown one."""
    if isinstance(value, list | dict):
        unknown = [name for name in value if name not in known]
        problems = [f"unknown feature '{name}'{nearest_name(name, known)}" for name in unknown]
        if problems or not value:
            raise ValueError("; ".join(problems) or "expected at least one feature, found none")
    return value


def chosen_features(value: Any, info: ValidationInfo) -> Any:
    """Replaces patterns such as ``jet*_tau21`` in a list by the features that they match.

    The list may have new variables and observers too; another name is refused.
    """
    if not isinstance(value, list):
        return value
    own, names = _own(info), dict[str, None]()
    for name in value:
        if name in FEATURES or matches_any(name, own):
            names[name] = None
        else:
            names |= dict.fromkeys(fnmatch.filter((*FEATURES, *own), name) or [name])
    known = (*FEATURES, *own, *(name for name in names if matches_any(name, own)))
    return known_features(list(names), known)


class Section(BaseModel):
    """Base of all sections: frozen, no unknown keys, no silent conversions from text."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def setting(default: Value, description: str, unit: str = "") -> Value:
    """Declares a setting of a section.

    Args:
        default: value where no file and no option sets one.
        description: one line that says what it does and, where it is not obvious, the reason for
            its default.
        unit: unit of its values; empty where they have none.
    """
    found: Any = Field(default=default, description=description, json_schema_extra={"unit": unit})
    return found  # type: ignore[no-any-return]


def required(description: str) -> Any:
    """Declares a setting without a default, which every file with its section must set."""
    return Field(description=description, json_schema_extra={"unit": ""})
