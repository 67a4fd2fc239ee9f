"""Settings of the map of a training, and of trainings that go by one."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hepllm.config.section import (
    Fraction,
    Positive,
    Probability,
    Section,
    WholeNumber,
    required,
    setting,
)

Category = Literal["easy", "ambiguous", "hard"]
"""What an event is to a training, by its map."""

Share = Annotated[float, Field(gt=0, le=1)]

_Variability = Annotated[float, Field(gt=0, le=0.5)]


class CartographyConfig(Section):
    """Categories of ``hepllm map``, one for each event; see docs/explanation/cartography.md."""

    epochs: Literal["auto", "adapter", "model"] = setting(
        "auto", "Epochs that count: of the adapter alone, of the model; auto: where there are more"
    )
    skip: WholeNumber = setting(
        0, "First epochs that do not count, in which the training had learnt little of anything"
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


class TableRule(Section):
    """Events that a side table marks, such as flags or a cluster's membership."""

    table: str = required("Parquet file with a column event_digest, and the column")
    column: str = required("Column of numbers, or of true and false (1 and 0)")
    above: float | None = setting(None, "Drop events whose value is above it; true is 1")
    below: float | None = setting(None, "Drop events whose value is below it")

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("give above or below, from which events are dropped")
        return self


class FilterRule(Section):
    """A rule that drops training events; exactly one of its settings is given."""

    drop: Annotated[tuple[Category, ...], Field(min_length=1)] | None = setting(
        None, "Drop these categories of the map"
    )
    keep: Annotated[tuple[Category, ...], Field(min_length=1)] | None = setting(
        None, "Drop all other categories of the map"
    )
    most_ambiguous: Share | None = setting(
        None, "Keep this share of each class, that of largest variability"
    )
    confidence: tuple[Fraction, Fraction] | None = setting(
        None, "Drop events whose confidence is outside of this range"
    )
    least_margin: Probability | None = setting(
        None, "Drop this share of the events, that of least area under the margin: noise"
    )
    marked: TableRule | None = setting(None, "Drop events that a side table marks")

    @model_validator(mode="after")
    def _is_one_rule(self) -> Self:
        given = self.given
        if len(given) != 1:
            raise ValueError(
                f"a rule has exactly one of {', '.join(type(self).model_fields)}; found "
                f"{', '.join(given) or 'none'}"
            )
        if self.confidence is not None and self.confidence[0] >= self.confidence[1]:
            raise ValueError(f"confidence {list(self.confidence)} is no range")
        return self

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the settings that are given."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def needs_map(self) -> bool:
        """Whether the rule is about measures of a map."""
        return self.marked is None


class ByMapConfig(Section):
    """Training by the map ``train.map``; all may be combined, and with ``train.filter``."""

    smoothing: Annotated[float, Field(ge=0, le=1)] = setting(
        0.0,
        "Label smoothing of an event is this factor times twice its variability; try 0.4 to 0.8",
    )
    weight_power: Annotated[float, Field(ge=-2, le=2)] = setting(
        0.0,
        "Weights rise with this power of variability over the class's mean; 0: none, 1 is usual",
    )
    weight_range: tuple[Positive, Positive] = setting(
        (0.1, 10.0), "Limits of these weights, before they get a mean of 1 in each class"
    )
    curriculum: Literal["none", "easy_first", "ambiguous_first"] = setting(
        "none", "Begin with events of large confidence, or of large variability (arXiv:1903.09848)"
    )
    curriculum_start: Annotated[float, Field(gt=0, lt=1)] = setting(
        0.2, "Share of each class that the first step chooses from"
    )
    curriculum_share: Share = setting(0.5, "Share of the steps after which all events are shown")

    @model_validator(mode="after")
    def _range_has_one(self) -> Self:
        low, high = self.weight_range
        if not low <= 1 <= high:
            raise ValueError(f"weight_range {[low, high]} must contain 1")
        return self

    @property
    def is_used(self) -> bool:
        """Whether any of it changes a training."""
        return bool(self.smoothing or self.weight_power or self.curriculum != "none")
