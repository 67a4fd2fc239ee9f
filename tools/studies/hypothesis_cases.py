"""Signals on a background, and classifiers that score them under hypotheses."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from case_means import Floats
from numpy.typing import NDArray

from hepllm.baselines.fitting import BASELINES, reads_hypotheses
from hepllm.baselines.scorer import Scorer, TrainingSample
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.event_table import EventTable
from hepllm.data.signal_truth import SignalTruth, signal_truth
from hepllm.data.views import balanced_view
from hepllm.errors import InputError
from hepllm.hypotheses.hypothesis import Hypothesis, parse_hypothesis
from hepllm.hypotheses.phrases import EXACT, HELD_OUT, phrase
from hepllm.hypotheses.signal import Signal
from hepllm.learning.inputs import model_inputs
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.scoring import score_events
from hepllm.runs.folder import Run
from hepllm.runs.run_model import weights_digest
from hepllm.runs.training_samples import under_hypotheses
from hepllm.schema import BACKGROUND, SIGNAL

SCORING_BATCH = 256

_DECAYS = {
    "q": "one quark",
    "qq": "two quarks",
    "bb": "two b quarks",
    "qqq": "three quarks",
    "tt": "two top quarks",
}


@dataclass(frozen=True, eq=False)
class Case:
    """A signal and the background that it hides in.

    Attributes:
        signal: what is true of it.
        events: its events, to be tested on.
        background: events of background; cases may share them.
        own: further events of the signal, for a training on this signal alone.
    """

    signal: Signal
    events: EventTable
    background: EventTable
    own: EventTable


def cases_of(held: Path, background: EventTable, n_own: int) -> list[Case]:
    """One case for each signal of a dataset, by rising masses.

    Args:
        held: dataset of signals of known masses and decays.
        background: test background.
        n_own: events of each signal that are kept for a training on it.
    """
    dataset = read_dataset(held)
    table = dataset.load(background.names)
    truth = signal_truth(dataset, table)
    cases = []
    for place in sorted(range(len(truth.signals)), key=lambda i: truth.signals[i].masses):
        mine = np.flatnonzero(truth.place == place)
        own, rest = table.take(mine[:n_own]), table.take(mine[n_own:])
        cases.append(Case(truth.signals[place], rest, background, own))
    return cases


def case_of_box(folder: Path, names: Sequence[str], stated: Signal | None) -> Case:
    """A labelled box as a case, without events to train on.

    Args:
        folder: dataset of the box, with background and one signal.
        names: features.
        stated: its signal; None for the truth in the dataset.

    Raises:
        InputError: if the dataset does not know its signal.
    """
    dataset = read_dataset(folder)
    table = dataset.load(names)
    is_signal = table.label == SIGNAL
    signals = signal_truth(dataset, table).signals if stated is None else (stated,)
    if len(signals) != 1:
        raise InputError(f"{folder}: has {len(signals)} known signals; state one with --signal")
    return Case(
        signals[0],
        table.take(is_signal),
        table.take(table.label == BACKGROUND),
        table.take(np.empty(0, dtype=np.intp)),
    )


# ------------------------------------------------------------------------------- hypotheses


def canonical(signal: Signal, *, decays: bool = True) -> Hypothesis:
    """The hypothesis of a signal in the words of ``docs/how-to/evaluate.md``."""
    parts = []
    for name, one in zip("XY", signal.products, strict=True):
        words = f" to {_DECAYS[one.decay]}" if decays and one.decay is not None else ""
        parts.append(f"{name} of {one.mass:g} GeV{words}")
    return parse_hypothesis(", ".join(parts))


def rephrased(signal: Signal, number: int) -> Hypothesis:
    """The same hypothesis in a phrasing that no training uses; ``number`` chooses it."""
    styles = (HELD_OUT[number % len(HELD_OUT)],)
    random = np.random.default_rng([77, number])
    return parse_hypothesis(phrase(signal, random, styles=styles, vagueness=EXACT))


def wrong_place(place: int, n_cases: int) -> int:
    """The case whose hypothesis is the wrong one: half of all cases further on in mass."""
    return (place + n_cases // 2) % n_cases


# ------------------------------------------------------------------------------- classifiers

Classifier = Callable[[EventTable, Hypothesis], Floats]
"""Scores (N,) events under one hypothesis."""


@dataclass(frozen=True, eq=False)
class Training:
    """Training events of all peers.

    Attributes:
        events: signal of all masses, and background.
        truth: their true signals.
    """

    events: EventTable
    truth: SignalTruth

    @classmethod
    def of(cls, dataset: Dataset, names: Sequence[str], balance: str, seed: int) -> Training:
        """The training split of a dataset in the balance of a run."""
        table = dataset.load(names, "train")
        table = table.take(balanced_view(table.label, balance, seed))
        return cls(table, signal_truth(dataset, table))

    def sample(self, seed: int) -> TrainingSample:
        """The events for a classifier without hypotheses."""
        events = self.events
        return TrainingSample(events.features, events.names, events.label, seed=seed)

    def shown(self, seed: int, open_share: float) -> TrainingSample:
        """The events for a classifier with hypotheses."""
        return under_hypotheses(self.sample(seed), self.events, self.truth, open_share)

    @property
    def background(self) -> Floats:
        """Features of the background."""
        return self.events.features[self.events.label == BACKGROUND]


def fit_peer(name: str, training: Training, seed: int, open_share: float) -> Classifier:
    """Trains one of the baselines of a report."""
    reads = reads_hypotheses(name)
    sample = training.shown(seed, open_share) if reads else training.sample(seed)
    return partial(_by_peer, BASELINES[name](sample))


def fit_dedicated(case: Case, training: Training, seed: int) -> Classifier:
    """Trains a boosting on one signal alone; both classes have the same weight."""
    background = training.background
    features = np.concatenate([case.own.features, background])
    label = np.repeat([SIGNAL, BACKGROUND], [len(case.own), len(background)])
    weight = np.where(label == SIGNAL, len(background) / len(case.own), 1.0)
    sample = TrainingSample(features, training.events.names, label, weight, seed)
    return partial(_by_peer, BASELINES["boosting"](sample))


def _by_peer(scorer: Scorer, events: EventTable, hypothesis: Hypothesis) -> Floats:
    return scorer.score(events.features, _repeated(hypothesis, len(events)))


@dataclass(eq=False)
class RunClassifier:
    """The language model of a run; its scores are kept, because they take long.

    Attributes:
        run: the run.
        folder: where scores are kept.
    """

    run: Run
    folder: Path

    @functools.cached_property
    def _loaded(self) -> tuple[EventClassifier, PromptEncoder]:
        return self.run.load_classifier()

    @functools.cached_property
    def _weights(self) -> str:
        return weights_digest(self.run)

    def __call__(self, events: EventTable, hypothesis: Hypothesis) -> Floats:
        """Scores (N,) events under one hypothesis."""
        key = hashlib.sha256(f"{self._weights} {hypothesis.pieces!r}".encode())
        key.update(events.event_digest.tobytes())
        file = self.folder / f"{key.hexdigest()[:20]}.npy"
        if not file.exists():
            inputs = model_inputs(events, self.run.config.train.feature_names())
            inputs = replace(inputs, hypothesis=_repeated(hypothesis, len(events)))
            scores = score_events(*self._loaded, inputs, batch_size=SCORING_BATCH)
            self.folder.mkdir(parents=True, exist_ok=True)
            np.save(file, scores)
        return np.asarray(np.load(file), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Cascade:
    """A classifier that scores only the events that a quicker one keeps.

    A rejected event ranks below all kept ones, signal as well as background. So numbers at cuts far
    tighter than the share that is kept say something of the classifier itself; its AUC does not.

    Attributes:
        quick: scores all events first.
        full: scores what is kept.
        share: share of the background that is kept.
        background: the events that set the cut of ``quick``.
    """

    quick: Classifier
    full: Classifier
    share: float
    background: EventTable

    def __call__(self, events: EventTable, hypothesis: Hypothesis) -> Floats:
        """Scores (N,) events under one hypothesis; minus infinity for rejected ones."""
        cut = np.quantile(self.quick(self.background, hypothesis), 1 - self.share)
        kept = np.flatnonzero(self.quick(events, hypothesis) >= cut)
        scores = np.full(len(events), -np.inf)
        scores[kept] = self.full(events.take(kept), hypothesis)
        return scores


def _repeated(hypothesis: Hypothesis, times: int) -> NDArray[np.object_]:
    hypotheses = np.empty(times, dtype=object)
    hypotheses[:] = [hypothesis] * times
    return hypotheses
