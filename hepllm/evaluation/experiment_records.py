"""Records of the experiments of a suite: what each is, found or failed by, and what all say."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from hepllm.evaluation.confusion import Confusion
from hepllm.evaluation.records import ResultsRecord
from hepllm.records import Events, FileRecord, Pair, Record, Seconds

State = Literal["done", "failed", "to run"]
"""Of an experiment with one seed."""

PER_CLASS = (
    *("signal_precision", "signal_recall", "signal_f1"),
    *("background_precision", "background_recall", "background_f1"),
)
"""Metrics of each class, at the cut of the accuracy."""


class ExperimentRecord(FileRecord):
    """An experiment that a suite asks for."""

    name: str
    """Name of the experiment."""
    dataset: Path
    """Folder of the dataset."""
    dataset_digest: str
    """SHA-256 of its contents."""
    seed: int
    """Seed of the training."""
    settings: str
    """SHA-256 of the settings in config.yaml."""
    evaluations: tuple[tuple[str, ...], ...]
    """Options of each 'hepllm eval'."""
    map_of: str | None = None
    """SHA-256 of the experiment by whose map it goes; absent without."""
    makes_map: bool = False
    """Whether its training is mapped; absent if not."""

    @property
    def digest(self) -> str:
        """SHA-256 of the experiment, by which results are told to be of it."""
        return hashlib.sha256(self.text().encode()).hexdigest()


class StepRecord(Record):
    """A step of an experiment that has ended well."""

    seconds: Seconds
    """Time that it took."""
    resumed: bool = False
    """Whether it went on where it was stopped, so that it took longer; absent if not."""


class StepsRecord(FileRecord):
    """Steps of an experiment that are done."""

    experiment: ExperimentRecord
    """The experiment that they were done for."""
    steps: Mapping[str, StepRecord]
    """Steps by their command."""


class MeasuredSet(Record):
    """What an experiment has reached on one set."""

    n_signal: Events
    """Signal events."""
    n_background: Events
    """Background events."""
    metrics: Mapping[str, float | None]
    """Metrics of the trained model by key; null where undefined."""
    undefined: Mapping[str, str]
    """Why a metric is null, by key."""

    @classmethod
    def of(cls, results: ResultsRecord) -> MeasuredSet:
        """Takes what experiments are compared by from the results of an evaluation."""
        found = {key: one.value for key, one in results.metrics.items()}
        return cls(
            n_signal=results.n_signal,
            n_background=results.n_background,
            metrics={**found, **_per_class(results.confusion)},
            undefined={key: why for key, why in results.undefined.items() if key in found},
        )


class ExperimentResult(FileRecord):
    """What an experiment found."""

    name: str
    """Name of the experiment."""
    dataset: str
    """Name of the dataset's folder."""
    seed: int
    """Seed of the training."""
    seconds: Seconds
    """Time of all steps."""
    resumed: bool = False
    """Whether a step had been stopped, so that the time is not that of an undisturbed one."""
    made_for: str
    """SHA-256 of the experiment that this is the result of."""
    sets: Mapping[str, MeasuredSet]
    """Results by name of the set."""
    without_labels: tuple[str, ...] = ()
    """Names of further sets, of which nothing can be measured; absent if there are none."""


class FailureRecord(FileRecord):
    """Why an experiment failed."""

    command: str
    """The command that failed."""
    exit_code: int
    """Its exit code; negative for the signal that killed it."""
    problem: str
    """Its last message."""


class Comparison(Record):
    """An experiment minus the reference, paired by seed."""

    difference: float
    """Mean difference."""
    interval: Pair | None
    """Its interval over seeds; null for one seed."""
    p: float | None
    """Two-sided p-value of a paired t test; null where there is none."""
    p_holm: float | None
    """The same, corrected for all tests of the suite (Holm)."""
    n_seeds: int
    """Seeds that both have."""


class MetricSummary(Record):
    """A metric of an experiment over its seeds."""

    mean: float | None
    """Mean over the seeds that are done; null where one has no value."""
    interval: Pair | None
    """Its interval over seeds; null for one seed."""
    values: Mapping[str, float | None]
    """The value of each seed that is done."""
    reason: str | None = None
    """Why there is no mean; absent where there is one."""
    comparison: Comparison | None = None
    """Beside the reference; absent for the reference, and where there is no pair of values."""


class SeedsNeeded(Record):
    """Seeds of each of two recipes that show a difference of this size."""

    relative: float
    """Difference of the means over the mean."""
    number: int | None
    """For the measured spread over seeds; null: more than 10,000."""
    low: int | None
    """For the lower end of the interval of the spread; null as above."""
    high: int | None
    """For its upper end; null as above."""


class MetricPower(Record):
    """How a metric of the reference varies over seeds, and what that needs."""

    mean: float
    """Mean over the seeds."""
    spread: float
    """Standard deviation over the seeds."""
    spread_interval: Pair
    """Its interval."""
    n_seeds: int
    """Seeds that it was measured with."""
    needed: tuple[SeedsNeeded, ...]
    """Seeds by size of the difference."""


class SetSummary(Record):
    """A suite on one set."""

    dataset: str
    """Name of the dataset of the trainings."""
    sample: str
    """Name of the set."""
    n_signal: Events
    """Signal events of the set."""
    n_background: Events
    """Background events of the set."""
    experiments: Mapping[str, Mapping[str, MetricSummary]]
    """Metrics by experiment and key, also of each class."""
    power: Mapping[str, MetricPower]
    """Metrics of the reference by key; empty with fewer than two seeds."""


class SuiteRecord(FileRecord):
    """What the experiments of a suite say together."""

    name: str
    """Name of the suite."""
    reference: str
    """Experiment that the others are compared with."""
    metrics: tuple[str, ...]
    """Metrics that are tested."""
    confidence: float
    """Probability content of intervals."""
    wanted_power: float
    """Probability with which the needed seeds show a difference."""
    n_tests: int
    """Tests that p-values are corrected for."""
    states: Mapping[str, Mapping[str, State]]
    """State by experiment, and by dataset and seed as in its folder."""
    problems: Mapping[str, str]
    """Why experiments failed, by folder."""
    sets: tuple[SetSummary, ...]
    """The sets that were measured."""


def _per_class(found: Confusion | None) -> dict[str, float | None]:
    """Precision, recall and F1 of each class, of which background is signal turned around."""
    if found is None:
        return dict.fromkeys(PER_CLASS)
    turned = Confusion(
        signal_as_signal=found.background_as_background,
        signal_as_background=found.background_as_signal,
        background_as_signal=found.signal_as_background,
        background_as_background=found.signal_as_signal,
    )
    values = [one for side in (found, turned) for one in (side.precision, side.recall, side.f1)]
    return dict(zip(PER_CLASS, values, strict=True))
