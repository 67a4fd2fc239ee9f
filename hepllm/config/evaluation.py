"""Settings of what is reported, and by which rules."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from hepllm.config.section import Balance, Count, Fraction, Positive, Section, Workers

_MIN_BINS = 10
"""Of a spectrum, below which there is hardly a fit of five parameters to speak of."""


class SearchConfig(Section):
    """The search for a resonance in a black box; masses in GeV. See docs/blackbox.md."""

    run: Literal["unlabelled", "always", "never"] = Field(
        default="unlabelled",
        description="in which black boxes; 'always' takes those with a key too",
    )
    efficiencies: tuple[Annotated[float, Field(gt=0, le=0.2)], ...] = Field(
        default=(0.1, 0.03, 0.01, 0.003, 0.001),
        min_length=1,
        description="shares of the events that selections keep; several count as trials",
    )
    min_selected: Count = Field(
        default=25, description="events below which a selection is left out"
    )
    min_events: Count = Field(default=1000, description="in the m_jj range, for a search at all")
    m_jj_min: Positive = Field(default=2600.0, description="above the turn-on of the trigger")
    m_jj_max: Positive = 8000.0
    sqrt_s: Positive = 13000.0
    bin_width: Annotated[float, Field(gt=0, le=0.2)] = Field(
        default=0.025, description="of the m_jj bins over their mass"
    )
    narrowest: Count = Field(default=2, description="bins of the narrowest window")
    widest: Count = Field(default=8, description="bins of the widest window")
    background: Literal["template", "dijet"] = Field(
        default="template",
        description="shape of the rejected events times a smooth factor, or a dijet function",
    )
    parameter_p: Fraction = Field(
        default=0.05, description="p-value below which a fit gets another parameter"
    )
    toys: Count = Field(default=1000, description="pseudo-experiments to begin with")
    max_toys: Count = Field(default=10_000, description="where few of them exceed the data")
    workers: Workers = Field(default=1, description="0 takes one worker a core")

    @model_validator(mode="after")
    def _range_is_open(self) -> Self:
        if not self.m_jj_min < self.m_jj_max < self.sqrt_s:
            raise ValueError(
                "m_jj_min < m_jj_max < sqrt_s must hold, found "
                f"{self.m_jj_min:g}, {self.m_jj_max:g}, {self.sqrt_s:g}"
            )
        if self.narrowest > self.widest:
            raise ValueError(f"narrowest = {self.narrowest} must not exceed widest = {self.widest}")
        n_bins, least = round(log(self.m_jj_max / self.m_jj_min) / self.bin_width), self.widest + 2
        if n_bins < max(least, _MIN_BINS):
            raise ValueError(
                f"m_jj_min = {self.m_jj_min:g}, m_jj_max = {self.m_jj_max:g} and bin_width = "
                f"{self.bin_width:g} make {n_bins} bins; a search needs {max(least, _MIN_BINS)} "
                f"({_MIN_BINS}, and two more than widest = {self.widest})"
            )
        return self


class EvaluationConfig(Section):
    """What is reported and with which uncertainty."""

    bootstrap: Count = 1000
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    background_rule: Literal["events", "relative_error", "eps_b", "cathode"] = Field(
        default="events", description="when enough background passes; see evaluation.background"
    )
    min_background: Count = Field(
        default=10, description="background events that must pass for a SIC value to be quoted"
    )
    max_relative_error: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.2, description="of eps_B, for the rule relative_error"
    )
    min_eps_b: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=1e-4, description="for the rule eps_b"
    )
    max_undefined: Fraction = Field(
        default=0.05,
        description="share of bootstrap replicas without a value above which no interval is quoted",
    )
    views: tuple[Balance, ...] = Field(
        default=("1:1", "1:10"),
        description="mixtures reported beside the sample's own, from the same scores",
    )
    batch_size: Count = 128
    ablations: bool = True
    baselines: tuple[Literal["boosting", "mlp", "logistic", "cut"], ...] = Field(
        default=("boosting", "mlp", "logistic", "cut"),
        description="classifiers trained on the same events and features; [] for none",
    )
    stack: bool = Field(
        default=False, description="combine the model and the boosting on validation data"
    )
    cascade: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="share of the background that the boosting leaves to the language model",
    )
    calibration: Literal["none", "temperature", "platt", "isotonic"] = Field(
        default="platt", description="of the scores, on validation data"
    )
    prior: Literal["training", "estimate"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        default="training",
        description="signal fraction that probabilities assume; 'estimate' finds the sample's own",
    )
    search: SearchConfig = SearchConfig()

    @model_validator(mode="before")
    @classmethod
    def _accept_former_baselines(cls, values: Any) -> Any:
        """Reads ``baselines: true | false`` with ``peers: [...]``, as former runs have them.

        Where ``baselines`` is a list, ``peers`` comes from ``--set`` and replaces it.
        """
        if not isinstance(values, Mapping):
            return values
        rest = {key: value for key, value in values.items() if key not in ("baselines", "peers")}
        if values.get("baselines") is False:
            return {**rest, "baselines": []}
        if values.get("peers") is not None:
            return {**rest, "baselines": values["peers"]}
        return rest if values.get("baselines") is True else values
