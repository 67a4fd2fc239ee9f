"""Settings of the audit of a dataset."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hepllm.config.section import Fraction, Probability, Section, WholeNumber, setting
from hepllm.schema import FeatureSet

Share = Annotated[float, Field(gt=0, le=1)]


class AuditConfig(Section):
    """What ``hepllm audit`` doubts and how much of it is listed; see docs/how-to/audit.md."""

    features: FeatureSet = setting(
        "all", "Features from which the boosting judges labels; search: none that follows m_jj"
    )
    folds: Annotated[int, Field(ge=2)] = setting(
        5, "Parts of the events; the boosting judges each from a training on the others"
    )
    late_epochs: Share = setting(
        0.5, "Share of a training's epochs, the last ones, whose margins judge labels"
    )
    doubted: Probability = setting(
        0.1, "Probability of the label below which a method counts as one that flags the event"
    )
    minority: Fraction = setting(
        0.05,
        "Share of its cluster's events below which a label there is flagged, both classes counted "
        "as if equally frequent",
    )
    systematic: Fraction = setting(
        0.1,
        "Share of all events from which a broken rule is a property of the dataset, and "
        "has no part in the priority of an event",
    )
    review: Share = setting(0.05, "Share of the events that are on the review list")
    samples: WholeNumber = setting(50, "Events of the review list that are written as text")
    examples: WholeNumber = setting(12, "Events of the review list that are drawn")
    regions: WholeNumber = setting(
        4, "Most regions of features that are told, of those in which several methods flag events"
    )
    workers: WholeNumber = setting(0, "Worker processes, where they pay; 0: one per usable core")
