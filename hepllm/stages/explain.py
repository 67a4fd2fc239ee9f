"""``hepllm explain``: what drove the score of single events, and what would have changed it."""

from __future__ import annotations

import json
import logging
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hepllm.arrays import Floats
from hepllm.config import Config
from hepllm.data.dataset import EventTable
from hepllm.errors import InputError, RunError
from hepllm.evaluation.confusion import choose_balanced_accuracy
from hepllm.evaluation.metrics import Threshold, roc
from hepllm.evaluation.scores import scored_events
from hepllm.explain.attribution import attribute
from hepllm.explain.counterfactual import FeatureSpace, feature_space, find_counterfactuals
from hepllm.explain.explanation import Explanation, FeatureFacts, describe, explanation_tree
from hepllm.explain.standing import median, standing
from hepllm.files import write_text
from hepllm.model.inputs import ModelInputs
from hepllm.pictures.attribution import plot_attribution
from hepllm.pictures.event_display import jets_of, plot_event
from hepllm.runs.picked_events import PickedEvent, pick_events, pick_texts
from hepllm.runs.predictor import Predictor
from hepllm.schema import BACKGROUND, SIGNAL

LOG = logging.getLogger(__name__)

JSON, TEXT, BARS, DISPLAY = "explanation.json", "explanation.txt", "attribution.png", "event.png"
"""What the folder of an event holds; the last only where the directions of jets are known."""

_WIDTH = 100


@dataclass(frozen=True)
class EventReport:
    """What was found about one event.

    Attributes:
        name: of its folder.
        tree: the content of ``explanation.json``.
        text: the same for a person.
        files: what was written.
    """

    name: str
    tree: dict[str, Any]
    text: str
    files: tuple[Path, ...]


def explain(
    predictor: Predictor,
    config: Config,
    wanted: Sequence[str],
    *,
    source: Path | None = None,
    texts: Sequence[str] = (),
    output: Path | None = None,
    by_row: bool = False,
    threshold: float | None = None,
) -> list[EventReport]:
    """Explains the scores of single events.

    Args:
        predictor: a loaded run, whose training dataset must be at hand.
        config: ``preprocess`` says how a file is read, ``evaluation`` which prior is meant.
        wanted: events of ``source``, as for ``pick_events``.
        source: a dataset or a file; None for the run's own dataset.
        texts: events that are written as prompts.
        output: folder of the results; None for ``explain`` in the run's.
        by_row: whether ``wanted`` are rows of a dataset.
        threshold: of the decision; None for the one of the largest balanced accuracy on validation
            data.

    Raises:
        InputError: if an event is not there, lacks all features, or the training dataset is gone.
    """
    if config.evaluation.prior == "estimate":
        raise InputError("a prior cannot be estimated from single events; state one")
    picked = pick_texts(texts)
    if wanted:
        where = source or predictor.run.record.dataset
        picked += pick_events(predictor.run, where, wanted, config.preprocess, by_row=by_row)
    twice = {event.name for event in picked if [one.name for one in picked].count(event.name) > 1}
    if twice:
        raise InputError(f"named twice: {', '.join(sorted(twice))}; name each event once")
    rows = [_row(event, predictor.names) for event in picked]
    bench = _Bench.of(predictor, threshold, config.evaluation.prior)
    radius = config.preprocess.jets.radius
    folder = output or predictor.run.folder / "explain"
    return [
        _write(folder / event.name, event, _explain(bench, event, row), radius)
        for event, row in zip(picked, rows, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Bench:
    """What an event is compared with.

    Attributes:
        predictor: the run.
        training: its training split.
        reference: (F,) median background event.
        space: in which changes are measured.
        threshold: of the decision.
        used: digests of the events that the run has seen.
        fraction: of signal, which probabilities assume; None for that of the training events.
    """

    predictor: Predictor
    training: EventTable
    reference: Floats
    space: FeatureSpace
    threshold: Threshold
    used: frozenset[int]
    fraction: float | None

    @classmethod
    def of(cls, predictor: Predictor, threshold: float | None, prior: float | str) -> _Bench:
        run = predictor.run
        training = run.dataset().load(predictor.names, "train")
        background = training.take(np.flatnonzero(training.label == BACKGROUND))
        reference = np.array(
            [median(column, background.weight) for column in background.features.T]
        )
        if threshold is None:
            scores = scored_events(run.validation_scores(), *run.validation_labels(), "validation")
            chosen = choose_balanced_accuracy(roc(scores))
        else:
            chosen = Threshold(threshold, "stated")
        used = frozenset(run.used_events().tolist())
        space = feature_space(predictor.names, training.features)
        fraction = prior if isinstance(prior, float) else None
        return cls(predictor, training, reference, space, chosen, used, fraction)


def _row(event: PickedEvent, names: Sequence[str]) -> Floats:
    row = np.array([event.features.get(name, math.nan) for name in names])
    if np.isnan(row).all():
        raise InputError(f"{event.title} has none of the model's features {', '.join(names)}")
    return row


def _explain(bench: _Bench, event: PickedEvent, row: Floats) -> Explanation:
    predictor, fraction = bench.predictor, bench.fraction
    (score,) = predictor.score(ModelInputs(row[np.newaxis]))
    (probability,) = predictor.probability(np.array([score]), fraction)
    balance = predictor.run.config.train.balance
    found = None
    if bench.threshold.value is not None:

        def score_rows(rows: Floats) -> Floats:
            return predictor.score(ModelInputs(rows))

        found = find_counterfactuals(score_rows, row, bench.threshold.value, bench.space)
    return Explanation(
        event=event.title,
        score=float(score),
        probability=float(probability),
        prior=f"training balance {balance}" if fraction is None else f"fraction {fraction:g}",
        threshold=bench.threshold,
        attribution=attribute(
            predictor.classifier, predictor.encoder, predictor.names, row, bench.reference
        ),
        facts=_facts(bench, row),
        counterfactuals=found,
        notes=_notes(bench, event, row),
        label=event.label,
    )


def _facts(bench: _Bench, row: Floats) -> dict[str, FeatureFacts]:
    training = bench.training
    classes = [training.label == label for label in (SIGNAL, BACKGROUND)]
    facts = {}
    for place, name in enumerate(training.names):
        column, value = training.features[:, place], float(row[place])
        places = [standing(value, column[mask], training.weight[mask]) for mask in classes]
        facts[name] = FeatureFacts(value, float(bench.reference[place]), *places)
    return facts


def _notes(bench: _Bench, event: PickedEvent, row: Floats) -> tuple[str, ...]:
    notes = []
    if event.digest in bench.used:
        notes.append("The run was trained or validated on this event, which flatters its score.")
    outside = [
        name
        for name, value, low, high in zip(
            bench.space.names, row, bench.space.low, bench.space.high, strict=True
        )
        if value < low or value > high
    ]
    if outside:
        notes.append(f"Outside of all training events: {', '.join(outside)}.")
    missing = [
        name for name, value in zip(bench.space.names, row, strict=True) if math.isnan(value)
    ]
    if missing:
        notes.append(f"Missing: {', '.join(missing)}.")
    return tuple(notes)


def _write(folder: Path, event: PickedEvent, found: Explanation, radius: float) -> EventReport:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _write_into(folder, event, found, radius)
    except OSError as error:
        name = error.filename or folder
        raise RunError(
            f"{name}: cannot be written: {error.strerror or error}; choose another --output"
        ) from None


def _write_into(folder: Path, event: PickedEvent, found: Explanation, radius: float) -> EventReport:
    paragraph = textwrap.fill(describe(found), _WIDTH)
    content = json.dumps(explanation_tree(found), indent=1, allow_nan=False)
    plot_attribution(found, folder / BARS)
    files = [folder / BARS]
    jets = jets_of(event.features)
    (folder / DISPLAY).unlink(missing_ok=True)
    if jets:
        title = f"{event.title}: score {found.score:+.2f}"
        plot_event(jets, event.particles, radius, title, folder / DISPLAY)
        files.append(folder / DISPLAY)
    else:
        LOG.info("%s: no event display, since no jet's eta and phi are known", event.title)
    write_text(folder / TEXT, paragraph + "\n")
    write_text(folder / JSON, content + "\n")
    tree = json.loads(content)
    return EventReport(event.name, tree, paragraph, (folder / JSON, folder / TEXT, *files))
