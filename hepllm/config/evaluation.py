"""Settings of evaluation and search."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from hepllm.config.section import (
    Balance,
    Count,
    Filter,
    Fraction,
    Positive,
    Probability,
    Section,
    WholeNumber,
    setting,
)
from hepllm.config.weak import WeakConfig
from hepllm.hypotheses.signal import Decay

_MIN_BINS = 10
"""Minimum number of bins of a spectrum for a fit of five parameters."""

Baseline = Literal[
    "boosting",
    "boosting_extended",
    "boosting_hypothesis",
    "boosting_differences",
    "mlp",
    "mlp_hypothesis",
    "mlp_differences",
    "logistic",
    "cut",
    "particles",
]
"""Classifiers that a model can be compared with; see ``hepllm.baselines``."""

_SmallShare = Annotated[float, Field(gt=0, le=0.2)]


class MassFitConfig(Section):
    """The fit of masses and signal fraction to data; see docs/how-to/weak-hypothesis.md."""

    region: tuple[Positive, Positive] | None = setting(
        None, "Range of the mass whose events are fitted; null: m_jj_min to m_jj_max", "GeV"
    )
    template: str | None = setting(
        None,
        "Background: a dataset, or sidebands, the data outside of region; null: the run's own, not "
        "used in training",
    )
    classifier: Literal[
        "llm", "boosting_hypothesis", "boosting_differences", "mlp_hypothesis", "mlp_differences"
    ] = setting("llm", "What scores the events: the model of the run, or one of its baselines")
    refine: Annotated[int, Field(ge=0, le=5)] = setting(
        1, "Masses between two neighbours of the scan, around its most likely point"
    )
    interval_toys: Count = setting(300, "Pseudo-experiments for the reach of intervals")

    @model_validator(mode="after")
    def _region_is_open(self) -> Self:
        if self.region is not None and not self.region[0] < self.region[1]:
            low, high = self.region
            raise ValueError(f"region: the first must be lower, found {low:g} and {high:g} GeV")
        if self.template == "sidebands" and self.region is None:
            raise ValueError("template=sidebands needs a region, outside of which they are")
        return self


class MassPlaneConfig(Section):
    """The scan of hypotheses over the masses of X and Y; see docs/how-to/mass-plane.md."""

    masses: Annotated[int, Field(ge=2, le=30)] = setting(
        10, "Masses of X and of Y, in equal ratios; all their pairs are points"
    )
    m_min: Positive | None = setting(
        None, "Smallest mass of X and Y; null: that of the training", "GeV"
    )
    m_max: Positive | None = setting(
        None, "Largest mass of X and Y; null: that of the training", "GeV"
    )
    decay_x: Decay | None = setting(None, "Decay of the heavier product; null: left open")
    decay_y: Decay | None = setting(None, "Decay of the lighter product; null: left open")
    selections: Count = setting(
        1, "Selections at each point: so many of the tightest that keep enough events"
    )
    toys: Count = setting(1000, "Initial number of pseudo-experiments")
    max_toys: Count = setting(
        10_000, "Maximum of pseudo-experiments, drawn until 20 exceed the data"
    )
    m_resonance: Positive | None = setting(
        None, "Mass at which every point has a limit; null: that of the largest excess", "GeV"
    )
    fit: MassFitConfig = MassFitConfig()

    @model_validator(mode="after")
    def _range_is_open(self) -> Self:
        if self.m_min is not None and self.m_max is not None and not self.m_min < self.m_max:
            raise ValueError(
                f"m_min < m_max must hold, found {self.m_min:g} and {self.m_max:g} GeV"
            )
        return self


class SearchConfig(Section):
    """The search for a resonance in a black box; see docs/how-to/search.md."""

    run: Literal["blackbox", "always", "never"] = setting(
        "blackbox",
        "Whether black boxes are searched; always: fail, not warn, where the model's features "
        "follow m_jj",
    )
    mass: str = setting("m_jj", "Mass that is searched: m_jj, m_jjj, or a column of a table")
    efficiencies: Annotated[tuple[_SmallShare, ...], Field(min_length=1)] = setting(
        (0.1, 0.03, 0.01, 0.003, 0.001),
        "Shares of the events that the selections keep; several count as trials",
    )
    min_selected: Count = setting(25, "Minimum events in a selection; others are left out")
    min_events: Count = setting(1000, "Minimum number of events in the mass range for a search")
    m_jj_min: Positive = setting(
        2600.0, "Lower end of the mass range, above the turn-on of a trigger at 1.2 TeV", "GeV"
    )
    m_jj_max: Positive = setting(8000.0, "Upper end of the mass range", "GeV")
    sqrt_s: Positive = setting(13000.0, "Collision energy, which the dijet function needs", "GeV")
    bin_width: _SmallShare = setting(0.025, "Width of the bins over their mass")
    narrowest: Count = setting(2, "Bins of the narrowest window that is searched")
    widest: Count = setting(8, "Bins of the widest window that is searched")
    background: Literal["template", "dijet"] = setting(
        "template",
        "Fit to selected events: shape of the rejected ones times a factor, or a dijet function",
    )
    factor_parameters: Annotated[int, Field(ge=1, le=6)] = setting(
        2, "Fewest parameters of the factor on the template; under a hypothesis at least 3"
    )
    parameter_p: Fraction = setting(0.05, "p-value of a likelihood ratio to add one fit parameter")
    toys: Count = setting(1000, "Initial number of pseudo-experiments")
    max_toys: Count = setting(
        10_000, "Maximum of pseudo-experiments, drawn until 20 exceed the data"
    )
    signal_grid: str | None = setting(
        None, "Dataset of 'simulate --grid', for limits by mass on the events in the box"
    )
    limit_step: _SmallShare = setting(0.04, "Step of the limits over the mass of the resonance")
    limit_jets: tuple[Positive, Positive] = setting(
        (500.0, 100.0), "Masses of X and Y that limits on the box assume, from signal_grid", "GeV"
    )
    limit_toys: Count = setting(1000, "Pseudo-experiments for each hypothesis of a limit")
    luminosity: Positive | None = setting(
        None, "Integrated luminosity, for limits on the cross section; null: none", "1/fb"
    )
    workers: WholeNumber = setting(
        0, "Worker processes; 0: one per usable core, where that ends sooner"
    )
    plane: MassPlaneConfig = MassPlaneConfig()
    weak: WeakConfig = WeakConfig()

    @field_validator("run", mode="before")
    @classmethod
    def _accept_former_run(cls, value: Any) -> Any:
        """Reads the former default, which runs have in their files."""
        return "blackbox" if value == "unlabelled" else value

    @model_validator(mode="after")
    def _range_is_open(self) -> Self:
        if not self.m_jj_min < self.m_jj_max < self.sqrt_s:
            raise ValueError(
                "m_jj_min < m_jj_max < sqrt_s must hold, found "
                f"{self.m_jj_min:g}, {self.m_jj_max:g}, {self.sqrt_s:g}"
            )
        if self.narrowest > self.widest:
            raise ValueError(f"narrowest = {self.narrowest} must not exceed widest = {self.widest}")
        n_bins = round(log(self.m_jj_max / self.m_jj_min) / self.bin_width)
        if n_bins < (least := max(self.widest + 2, _MIN_BINS)):
            raise ValueError(
                f"m_jj_min = {self.m_jj_min:g}, m_jj_max = {self.m_jj_max:g} and bin_width = "
                f"{self.bin_width:g} make {n_bins} bins; a search needs {least} "
                f"({_MIN_BINS}, and two more than widest = {self.widest})"
            )
        return self


class ScoringConfig(Section):
    """Where events are scored, in pieces; see docs/how-to/evaluate.md."""

    executor: Literal["processes", "serial", "dask"] = setting(
        "processes", "Where pieces are scored; on a GPU, processes means the command's own process"
    )
    workers: WholeNumber = setting(
        0, "Worker processes; 0: one per core where that ends sooner and fits into memory"
    )
    dask_scheduler: str | None = setting(
        None, "Address of a Dask scheduler; null: start a local one"
    )
    piece_size: Count = setting(1000, "Events per piece; a stopped evaluation loses at most these")
    retries: WholeNumber = setting(1, "Further tries of a piece after its worker failed")
    piece_timeout: Positive | None = setting(
        3600.0, "Time after which a worker is assumed to hang and is replaced; null: never", "s"
    )


class EvaluationConfig(Section):
    """Metrics, views, other classifiers and probabilities; see docs/reference/evaluation.md."""

    bootstrap: Count = setting(1000, "Bootstrap replicas from which intervals are taken")
    confidence: Probability = setting(0.95, "Confidence level of intervals")
    background_rule: Literal["events", "relative_error", "eps_b", "cathode"] = setting(
        "events", "How much background must pass a cut for its SIC to be quoted; cathode: one event"
    )
    min_background: Count = setting(
        10, "Rule events: minimum background; 10 keep 1 / sqrt(N) < 1/3"
    )
    max_relative_error: Annotated[float, Field(gt=0, le=1)] = setting(
        0.2, "Rule relative_error: maximum error of eps_B; 0.2 as LaCATHODE (arXiv:2210.14924)"
    )
    min_eps_b: Probability = setting(1e-4, "Rule eps_b: minimum; as OmniLearn (arXiv:2404.16091)")
    max_undefined: Fraction = setting(
        0.05, "Share of bootstrap replicas without a value above which no interval is quoted"
    )
    views: tuple[Balance, ...] = setting(
        ("1:1", "1:10"),
        "Signal to background at which a sample is also reported, from the same scores",
    )
    select: Filter | None = setting(
        None, "Event filter on features, such as '3300 < m_jj < 3700'; null: all events"
    )
    batch_size: Count | None = setting(
        None,
        "Events scored, or points explained, at once; null: what fits of 128, 1024 (layout "
        "question) or 16 (explain)",
    )
    ablations: bool = setting(True, "Score with other events' numbers or text; no black boxes")
    ablation_events: Count = setting(
        20_000, "Maximum number of events for ablations, up to half of them from the rarer class"
    )
    baselines: tuple[Baseline, ...] = setting(
        (
            "boosting",
            "boosting_extended",
            "boosting_hypothesis",
            "boosting_differences",
            "mlp",
            "mlp_differences",
            "logistic",
            "cut",
            "particles",
        ),
        "Classifiers trained on the same events, some only where the run has hypotheses; []: none",
    )
    by_signal: bool = setting(
        False, "Measure each signal of known masses alone, with all background under its hypothesis"
    )
    stack: bool = setting(False, "Combine the model and the boosting, fitted to validation events")
    cascade: Annotated[float, Field(gt=0, le=1)] | None = setting(
        None, "Share of the background that the boosting leaves to the model; null: all events"
    )
    calibration: Literal["auto", "none", "temperature", "platt", "beta", "isotonic"] = setting(
        "auto",
        "Map from scores to probabilities, fitted to validation events; auto: the one of the least "
        "loss in cross-validation",
    )
    prior: Literal["training", "estimate"] | Probability = setting(
        "training", "Signal fraction that probabilities assume; estimate: from the sample's scores"
    )
    scoring: ScoringConfig = ScoringConfig()
    search: SearchConfig = SearchConfig()

    @model_validator(mode="before")
    @classmethod
    def _accept_former_baselines(cls, values: Any) -> Any:
        """Reads the former form, ``baselines: true | false`` with ``peers: [...]``.

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
