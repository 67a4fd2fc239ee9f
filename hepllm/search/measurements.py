"""Numbers with their intervals, of which the records of a search are made."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import ConfigDict, Field

from hepllm.records import Record

EventNumber = Annotated[float, Field(json_schema_extra={"unit": "events"})]
GevRange = Annotated[tuple[float, float], Field(json_schema_extra={"unit": "GeV"})]

AT_LIMIT = "minos, at limit"
HESSE = "hesse"
"""Methods of intervals that end at a limit of the fit, and of those that Minos did not find."""


class Measurement(Record):
    """A number with its 68 % interval, statistical and systematic."""

    # A fit that does not converge may have an infinite error.
    model_config = ConfigDict(allow_inf_nan=True)

    value: float
    """Best estimate."""
    below: float
    """Distance to the lower end of the statistical interval."""
    above: float
    """Distance to the upper end of the statistical interval."""
    method: str
    """How the statistical interval was found, such as ``minos``, ``hesse`` or ``bootstrap``."""
    systematics: dict[str, float] = Field(default_factory=dict)
    """Systematic errors of one standard deviation, by source."""

    @property
    def systematic(self) -> float:
        """Systematic error: all sources in quadrature."""
        return math.hypot(*self.systematics.values())

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the interval with both errors in quadrature."""
        below, above = (math.hypot(one, self.systematic) for one in (self.below, self.above))
        return self.value - below, self.value + above

    @property
    def at_limit(self) -> bool:
        """Whether an end of the interval is a limit of the fit, where Minos stopped."""
        return self.method.startswith(AT_LIMIT)

    @property
    def is_rough(self) -> bool:
        """Whether the interval comes from the covariance only, without confirmation by Minos."""
        return self.method.startswith(HESSE)

    def scaled(self, factor: float) -> Measurement:
        """Returns the number and its errors multiplied by a factor."""
        return Measurement(
            value=self.value * factor,
            below=self.below * factor,
            above=self.above * factor,
            method=self.method,
            systematics={source: one * factor for source, one in self.systematics.items()},
        )

    def with_systematics(self, **errors: float) -> Measurement:
        """Returns the number with further systematic errors; 0 is left out."""
        more = {source: error for source, error in errors.items() if error > 0}
        return self.model_copy(update={"systematics": {**self.systematics, **more}})

    def __str__(self) -> str:
        """Writes two digits of the largest error, and as many decimals for all numbers.

        The statistical error comes first, then the systematic one.
        """
        errors = (self.below, self.above, self.systematic)
        error = max(errors)
        decimals = max(0, 1 - math.floor(math.log10(error))) if 0 < error < math.inf else 2
        value, below, above, systematic = (f"{one:.{decimals}f}" for one in (self.value, *errors))
        text = f"{value} -{below} +{above}"
        return f"{text} +-{systematic} (syst)" if self.systematics else text


MeasuredGev = Annotated[Measurement, Field(json_schema_extra={"unit": "GeV"})]
MeasuredEvents = Annotated[Measurement, Field(json_schema_extra={"unit": "events"})]


class SignalEfficiency(Record):
    """The share of a simulated signal in the m_jj range that passes a cut on the score."""

    value: float
    """Best estimate, from 0 to 1."""
    low: float
    """Lower end of the 68 % interval (Clopper and Pearson)."""
    high: float
    """Upper end of the 68 % interval."""
    n_events: EventNumber
    """Effective number of simulated events that it is counted with."""
    of: str
    """Description of the signal."""
