"""Settings of what is reported, and by which rules."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hepllm.section import Balance, Count, Fraction, Section


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
    baselines: bool = True
    peers: tuple[Literal["boosting", "mlp", "logistic", "cut"], ...] = Field(
        default=("boosting", "mlp", "logistic", "cut"),
        description="the baselines, trained on the same events and features",
    )
    stack: bool = Field(
        default=False, description="combine the model and the boosting on validation data"
    )
    calibration: Literal["none", "temperature", "platt", "isotonic"] = Field(
        default="platt", description="of the scores, on validation data"
    )
    prior: Literal["training", "estimate"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        default="training",
        description="signal fraction that probabilities assume; 'estimate' finds the sample's own",
    )
