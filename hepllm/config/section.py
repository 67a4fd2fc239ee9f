"""The base of all configuration sections, and the kinds of numbers that they share."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Workers = Annotated[int, Field(ge=0)]


def _as_balance(text: str) -> str:
    if not re.fullmatch(r"natural|[1-9]\d*:[1-9]\d*", text):
        raise ValueError(
            f"expected signal to background such as 1:1 or 1:10, or natural, found {text!r}"
        )
    return text


Balance = Annotated[str, AfterValidator(_as_balance)]
"""Signal to background, such as ``1:10``, or ``natural``."""


class Section(BaseModel):
    """Base of all sections: frozen, no unknown keys, no silent conversions from text."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
