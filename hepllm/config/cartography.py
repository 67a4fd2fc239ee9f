"""Settings of the map of a training: what it believed of its events."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hepllm.config.section import Fraction, Probability, Section, WholeNumber, setting

_Variability = Annotated[float, Field(gt=0, le=0.5)]


class CartographyConfig(Section):
    """Categories of ``hepllm map``, one for each event; see docs/explanation/cartography.md."""

    epochs: Literal["auto", "adapter", "model"] = setting(
        "auto", "Epochs that count: of the adapter alone, of the model; auto: where there are more"
    )
    categories: Literal["thresholds", "quantiles"] = setting(
        "thresholds", "What divides the events: fixed values, or shares of the events"
    )
    ambiguous_variability: _Variability = setting(
        0.15, "Variability from which an event is ambiguous (thresholds)"
    )
    hard_confidence: Probability = setting(
        0.5, "Confidence below which another event is hard (thresholds); the rest is easy"
    )
    ambiguous_share: Fraction = setting(
        0.33, "Share of the events of largest variability, which are ambiguous (quantiles)"
    )
    hard_share: Fraction = setting(
        0.1, "Share of the events of least confidence among the others, which are hard (quantiles)"
    )
    examples: WholeNumber = setting(2, "Events of each class and category that are drawn")
    samples: WholeNumber = setting(10, "Events of each class and category that are written as text")

    @model_validator(mode="after")
    def _shares_leave_some(self) -> Self:
        if self.ambiguous_share + self.hard_share > 1:
            raise ValueError("ambiguous_share and hard_share are more than all events together")
        return self
