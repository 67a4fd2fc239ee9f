"""Settings of learning from events without labels."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from hepllm.config.section import (
    Count,
    Fraction,
    NonNegative,
    Positive,
    Probability,
    Section,
    WholeNumber,
    setting,
)


class UnsupervisedConfig(Section):
    """A term of the loss on unlabelled events, from a stated share of signal among them.

    docs/how-to/few-labels.md says when it helps.
    """

    weight: NonNegative = setting(
        0.0, "Weight of the term beside the labelled loss, 100 for posterior; 0: none"
    )
    prior: Probability | None = setting(None, "Share of signal among the unlabelled events")
    dataset: str | None = setting(
        None, "Dataset of the unlabelled events; null: those of unknown label in the own dataset"
    )
    kind: Literal["mixture", "split", "posterior"] = setting(
        "mixture",
        "Hinge risk of two Gaussians, fitted or split at the prior; or the mean probability, which "
        "gains most",
    )
    warmup_fraction: Fraction = setting(0.3, "Share of the first steps, which see labels alone")
    events: Count | None = setting(1000, "Events per step that make an estimate; null: all")
    gradient_events: Count | None = setting(
        128, "Events of an estimate whose gradients are computed, drawn at random; null: all"
    )

    @model_validator(mode="after")
    def _has_a_prior(self) -> Self:
        if self.weight and self.prior is None:
            raise ValueError("weight needs prior, the share of signal among the unlabelled events")
        return self


class SelfTrainingConfig(Section):
    """Rounds of training on labels that the round before gave to the unlabelled events.

    The events and their prior are those of ``train.unsupervised``; docs/how-to/few-labels.md.
    """

    rounds: WholeNumber = setting(0, "Rounds after the first training; 0: no self-training")
    band: Literal["confident", "middle"] = setting(
        "confident", "Events of each class: those farthest from the border, or around the median"
    )
    share: Probability = setting(0.3, "Share of the unlabelled events that gets labels in a round")
    weight: Positive = setting(1.0, "Weight of all pseudo-labelled events beside the labelled ones")
    noise: NonNegative = setting(
        0.1, "Noise on the features of the rarer class, in standard deviations of each"
    )
    ema_decay: Probability | None = setting(
        0.99, "Decay of the average of weights in the rounds; null: as train.ema_decay"
    )
    patience: Count = setting(1, "Rounds without a better validation AUC after which it ends")
