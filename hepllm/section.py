"""The base of all configuration sections, and the kinds of numbers that they share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Workers = Annotated[int, Field(ge=0)]
Balance = Annotated[str, Field(pattern=r"^(natural|[1-9]\d*:[1-9]\d*)$")]
"""Signal to background, such as ``1:10``, or ``natural``."""


class Section(BaseModel):
    """Base of all sections: frozen, no unknown keys, no silent conversions from text."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
