"""Settings of labels that a language model finds without labels."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from hepllm.config.section import (
    Count,
    NonNegative,
    Positive,
    Probability,
    Section,
    chosen_features,
    setting,
)

LabelMethod = Literal["icm", "soft", "zero-shot", "few-shot", "iterated", "k-means"]
"""Ways to label events; see docs/explanation/labelling.md."""

_Half = Annotated[float, Field(gt=0.5, le=1)]


class ServerConfig(Section):
    """An OpenAI-compatible server that gives log-probabilities, where backend is its address."""

    model: str | None = setting(None, "Name of the model; null: the only one of the server")
    interface: Literal["completions", "chat"] = setting(
        "completions", "What the server is asked; chat only where it has no completions"
    )
    top: Annotated[int, Field(ge=2, le=100)] = setting(
        20, "Most probable tokens that are asked for; both label names must be among them"
    )
    context: Count | None = setting(
        None, "Tokens that the model reads; null: as the server says, which few do"
    )
    key_variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = setting(
        "HEPLLM_API_KEY", "Environment variable of the key; keys are read from nowhere else"
    )
    timeout: Positive = setting(60.0, "Time without an answer after which a try has failed", "s")
    tries: Count = setting(5, "Tries of a request while the server is busy or does not answer")
    wait: Positive = setting(1.0, "Wait after the first failed try, doubled after each", "s")
    longest_wait: Positive = setting(60.0, "Longest wait between tries", "s")
    per_minute: Positive | None = setting(None, "Most requests in a minute; null: no limit")
    parallel: Annotated[int, Field(ge=1, le=64)] = setting(4, "Requests at the same time")


class CoherenceConfig(Section):
    """The annealed search for a coherent labelling (arXiv:2506.10139)."""

    alpha: Positive = setting(
        50.0, "Weight of the mean log-probability against an inconsistency, which costs 1"
    )
    initial: Count = setting(8, "Events with random labels at the start")
    temperature: Positive = setting(10.0, "Temperature of the first step")
    min_temperature: Positive = setting(0.01, "Lowest temperature")
    cooling: NonNegative = setting(
        0.99, "Temperature falls as 1 / (1 + cooling log(step)) from the first step"
    )
    sweeps: Count = setting(4, "Most passes over the events; the search ends when one is idle")


class SoftLabelConfig(Section):
    """Soft labels by gradients, from predictions that are made once (method soft)."""

    tuples: Count = setting(20, "Predictions of an event after contexts, on average")
    per_context: Annotated[int, Field(ge=2)] = setting(
        16, "Targets after one context, which share its encoding"
    )
    rounds: Count = setting(
        2, "Parts in which they are made; from the second on more of them for uncertain events"
    )
    mutual: NonNegative = setting(1.0, "Weight of predictions after contexts that agree")
    ranking: NonNegative = setting(0.5, "Weight of the order of targets after one context")
    prior: NonNegative = setting(0.5, "Weight of the calibrated prediction without a context")
    direct: NonNegative = setting(0.5, "Weight of the mean prediction after all contexts")
    entropy: NonNegative = setting(0.1, "Weight of the labels' entropy, which makes them decide")
    learn_weights: bool = setting(
        False, "Learn the weights of the terms, each within a factor of 4 of its setting"
    )
    sharpness: Positive = setting(
        4.0, "How much better a context counts whose labels agree with the soft labels"
    )
    share: Probability | None = setting(
        None,
        "Mean probability of signal, without which one label for all is a solution; null: "
        "label.prior, or a half",
    )
    pairs: Count = setting(20_000, "Pairs of targets whose order is compared")
    held_out: Annotated[float, Field(gt=0, lt=0.9)] = setting(
        0.1, "Share of the predictions whose likelihood stops the optimisation"
    )
    optimizer: Literal["adamw", "lbfgs"] = setting("adamw", "Optimiser of the soft labels")
    lr: Positive = setting(0.1, "Learning rate of adamw")
    epochs: Count = setting(300, "Most epochs; each uses all predictions")
    patience: Count = setting(20, "Epochs without a better held-out likelihood before it ends")
    landmarks: str | None = setting(
        None,
        "Table of a few known labels (event_digest, label), to calibrate the prior; null: none",
    )

    @model_validator(mode="after")
    def _has_a_term(self) -> Self:
        if not any((self.mutual, self.ranking, self.prior, self.direct)):
            raise ValueError("at least one weight of mutual, ranking, prior, direct must be > 0")
        return self


class HypothesesConfig(Section):
    """Labelled events that tell a run which hypothesis holds, in place of being read by it."""

    masses: Annotated[int, Field(ge=0, le=30)] = setting(
        0, "Masses of X and of Y; all pairs are averaged over (2 or more); 0: events are read"
    )
    wrong_share: Annotated[float, Field(ge=0, lt=0.5)] = setting(
        0.1, "Share of the labels that is assumed to be wrong"
    )


class LabelConfig(Section):
    """Labels that a language model finds coherent; see docs/how-to/label.md."""

    method: LabelMethod = setting(
        "icm", "How labels are found; icm: annealed search, the others are simpler or cheaper"
    )
    backend: str = setting(
        "local", "The backbone (local), a run folder, or a server such as http://127.0.0.1:8000/v1"
    )
    server: ServerConfig = ServerConfig()
    pool: Annotated[int, Field(ge=4)] = setting(
        128, "Events that are labelled, drawn from the dataset; fewer where it has fewer"
    )
    split: Literal["train", "val", "test"] | None = setting(
        None, "Split from which they are drawn; null: all events"
    )
    features: list[str] | None = setting(
        None, "Features that prompts print; null: those that the registry marks for prompts"
    )
    layout: Literal["compact", "full"] = setting("compact", "How prompts print an event")
    names: tuple[str, str] = setting(
        ("background", "signal"),
        "Names of the labels 0 and 1 in prompts; exchanged as a control",
    )
    context: Annotated[int, Field(ge=1)] = setting(
        16, "Labelled events before the one that is predicted"
    )
    blocks: Annotated[int, Field(ge=2)] = setting(
        8, "Parts of the pool; events of a part are predicted from the same events of the others"
    )
    views: Annotated[int, Field(ge=1, le=4)] = setting(
        2, "Copies of an event, reflected, rotated or with jets exchanged, that must agree"
    )
    budget: Count = setting(20_000, "Most predictions: an event after labelled events is one")
    serial: bool = setting(
        False, "One prediction at a time, without sharing what prompts have in common"
    )
    collapse: _Half = setting(
        0.95,
        "Share of one label from which a labelling is collapsed; in proportion with another "
        "label.prior than 0.5",
    )
    prior: Probability | None = setting(
        None,
        "Signal fraction of the pool: simple methods cut at it, soft holds it; null: the likelier "
        "label",
    )
    rounds: Count = setting(5, "Method iterated: most rounds")
    hypotheses: HypothesesConfig = HypothesesConfig()
    coherence: CoherenceConfig = CoherenceConfig()
    soft: SoftLabelConfig = SoftLabelConfig()

    _expand_features = field_validator("features")(chosen_features)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        first, second = (name.strip() for name in self.names)
        if not first or not second or first == second:
            raise ValueError(f"names must be two different words, found {list(self.names)}")
        if self.hypotheses.masses == 1:
            raise ValueError("hypotheses.masses must be 0, or 2 and more")
        if self.hypotheses.masses and self.names != ("background", "signal"):
            raise ValueError("names are not read with hypotheses.masses: leave one of them out")
        if self.hypotheses.masses and (self.is_server or self.backend == "local"):
            raise ValueError(
                "hypotheses.masses needs a run that was told hypotheses: set backend to its folder"
            )
        if self.coherence.min_temperature > self.coherence.temperature:
            raise ValueError("coherence.min_temperature must not exceed coherence.temperature")
        return self

    @property
    def expected_share(self) -> float:
        """Signal fraction of the pool by what is stated, or a half."""
        held = self.soft.share if self.method == "soft" else None
        return held or self.prior or 0.5

    @property
    def is_server(self) -> bool:
        """Whether predictions come from a server."""
        return self.backend.startswith(("http://", "https://"))
