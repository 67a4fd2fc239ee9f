"""The base of all configuration sections, and types and functions that declare settings."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

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


def _as_event_filter(text: str) -> str:
    from hepllm.event_filter import parse_event_filter  # noqa: PLC0415 (imports numpy)

    try:
        return parse_event_filter(text).text
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
