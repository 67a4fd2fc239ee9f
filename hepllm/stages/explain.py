"""``hepllm explain``: why single events have their scores, and what would change them."""

from __future__ import annotations

import json
import logging
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats
from hepllm.config import Config
from hepllm.data.event_table import EventTable
from hepllm.errors import InputError
from hepllm.evaluation.confusion import choose_balanced_accuracy
from hepllm.evaluation.metrics import Threshold, roc
from hepllm.evaluation.scores import scored_events
from hepllm.explain.attribution import POINTS, attribute
from hepllm.explain.counterfactual import FeatureSpace, feature_space, find_counterfactuals
from hepllm.explain.explanation import Explanation, FeatureFacts, describe, explanation_tree
from hepllm.explain.standing import median, standing
from hepllm.files import write_errors, write_text
from hepllm.hypotheses.hypothesis import OPEN, parse_hypothesis
from hepllm.hypotheses.signal import HEAVIEST, LIGHTEST
from hepllm.learning.passes import points_at_once
from hepllm.model.inputs import ModelInputs
from hepllm.pictures.attribution import plot_attribution
from hepllm.pictures.event_display import jets_of, plot_event
from hepllm.runs.picked_events import PickedEvent, pick_events, pick_texts
from hepllm.runs.predictor import Predictor
from hepllm.schema import BACKGROUND, SIGNAL

LOG = logging.getLogger(__name__)

JSON, TEXT, BARS, DISPLAY = "explanation.json", "explanation.txt", "attribution.png", "event.png"
"""Files in the folder of an event; the last only where the directions of jets are known."""

_JET_MASSES = ("jet_mass_light", "jet_mass_delta")


_REFERENCE_EVENTS = 512
"""Background events whose mean soft tokens stand for the constituents of no event in particular."""


@dataclass(frozen=True)
class EventReport:
    """The explanation of one event.

    Attributes:
        name: name of its folder.
        tree: the content of ``explanation.json``.
        text: the same in words.
        files: the written files.
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
        predictor: a loaded run, whose training dataset must exist.
        config: ``preprocess`` for reading a file, ``evaluation`` for the prior.
        wanted: events of ``source``, as for ``pick_events``.
        source: a dataset or a file; None: the run's own dataset.
        texts: events that are written as prompts.
        output: folder of the results; None: ``explain`` in the run folder.
        by_row: whether ``wanted`` are rows of a dataset.
        threshold: score from which an event is signal; None: the one with the largest balanced
            accuracy on validation data.

    Raises:
        InputError: an event or the training dataset is missing, or an event has no features.
    """
    predictor.run.require_one_model()
    if config.evaluation.prior == "estimate":
        raise InputError("a prior cannot be estimated from single events; give a number")
    picked = pick_texts(texts, predictor.names)
    if wanted:
        where = source or predictor.run.record.dataset
        picked += pick_events(predictor.run, where, wanted, config.preprocess, by_row=by_row)
    twice = {event.name for event in picked if [one.name for one in picked].count(event.name) > 1}
    if twice:
        raise InputError(f"named twice: {', '.join(sorted(twice))}; name each event once")
    found = explain_picked(predictor, picked, config.evaluation.prior, threshold)
    radius = config.preprocess.jets.radius
    folder = output or predictor.run.folder / "explain"
    return [
        _write(folder / event.name, event, explanation, radius)
        for event, explanation in zip(picked, found, strict=True)
    ]


def explain_picked(
    predictor: Predictor,
    picked: Sequence[PickedEvent],
    prior: float | str,
    threshold: float | None = None,
) -> list[Explanation]:
    """Explains the scores of events that are in memory, and writes nothing.

    Args:
        predictor: a loaded run, whose training dataset must exist.
        picked: the events.
        prior: signal fraction of the probabilities, or ``train`` for that of the training events.
        threshold: as for ``explain``.

    Raises:
        InputError: the training dataset is missing, or an event has no features.
    """
    predictor.run.require_one_model()
    rows = [_row(event, predictor.names) for event in picked]
    for event in picked:
        if predictor.run.config.fusion.constituents and event.jets is None:
            raise InputError(f"{event.title} has no particles, which {predictor.run.folder} reads")
    bench = _Bench.of(predictor, threshold, prior)
    return [_explain(bench, event, row) for event, row in zip(picked, rows, strict=True)]


@dataclass(frozen=True, eq=False)
class _Bench:
    """A run, and the data that an event is compared with.

    Attributes:
        predictor: the run.
        training: its training split.
        background: jets of some background events with their constituents, shape (M, 2, 1 + K, 4);
            None where the model reads none.
        reference: (F,) median background event.
        space: space in which changes are measured.
        threshold: score from which an event is signal.
        used: digests of the events of training and validation.
        fraction: signal fraction of the probabilities; None: that of the training events.
    """

    predictor: Predictor
    training: EventTable
    background: NDArray[np.float32] | None
    reference: Floats
    space: FeatureSpace
    threshold: Threshold
    used: frozenset[int]
    fraction: float | None

    @classmethod
    def of(cls, predictor: Predictor, threshold: float | None, prior: float | str) -> _Bench:
        run = predictor.run
        constituents = run.config.fusion.constituents
        training = run.dataset().load(predictor.names, "train", particles=constituents)
        of_qcd = training.take(training.label == BACKGROUND)
        background = None if of_qcd.particles is None else of_qcd.particles[:_REFERENCE_EVENTS]
        training = replace(training, particles=None)
        reference = np.array([median(column, of_qcd.weight) for column in of_qcd.features.T])
        if threshold is None:
            scores = scored_events(run.validation_scores(), *run.validation_labels(), "validation")
            chosen = choose_balanced_accuracy(roc(scores))
        else:
            chosen = Threshold(threshold, "stated")
        used = frozenset(run.used_events().tolist())
        space = feature_space(predictor.names, training.features)
        fraction = prior if isinstance(prior, float) else None
        return cls(predictor, training, background, reference, space, chosen, used, fraction)


def _row(event: PickedEvent, names: Sequence[str]) -> Floats:
    row = np.array([event.features.get(name, math.nan) for name in names])
    if np.isnan(row).all():
        raise InputError(f"{event.title} has none of the model's features {', '.join(names)}")
    return row


def _explain(bench: _Bench, event: PickedEvent, row: Floats) -> Explanation:
    predictor, fraction = bench.predictor, bench.fraction
    (score,) = predictor.score(ModelInputs(row[np.newaxis], event.jets))
    (probability,) = predictor.probability(np.array([score]), fraction)
    balance = predictor.run.config.train.balance
    found, threshold = None, bench.threshold.value
    way = points_at_once(
        predictor.classifier,
        predictor.encoder,
        predictor.scorer.asked(ModelInputs(row[np.newaxis], event.jets)),
        predictor.config.evaluation.batch_size or POINTS,
    )
    if threshold is not None:
        found = find_counterfactuals(
            lambda rows: predictor.score(_with_jets(rows, event.jets)), row, threshold, bench.space
        )
    return Explanation(
        event=event.title,
        score=float(score),
        probability=float(probability),
        prior=f"training balance {balance}" if fraction is None else f"fraction {fraction:g}",
        threshold=bench.threshold,
        attribution=attribute(
            predictor.classifier,
            predictor.encoder,
            predictor.names,
            row,
            bench.reference,
            hypothesis=predictor.hypothesis,
            particles=event.jets,
            background=bench.background,
            points=way.micro_batch,
            checkpointing=way.checkpointing,
        ),
        facts=_facts(bench, row),
        counterfactuals=found,
        notes=_notes(bench, event, row),
        label=event.label,
        hypothesis=predictor.run.question.text,
        elsewhere=_elsewhere(predictor, event, row),
    )


def _elsewhere(predictor: Predictor, event: PickedEvent, row: Floats) -> dict[str, float]:
    """Scores an event under no hypothesis, and under one that states the masses of its jets."""
    if predictor.run.record.hypotheses is None:
        return {}
    others = {} if predictor.question.is_open else {"without a hypothesis": OPEN}
    light, difference = (event.features.get(name, math.nan) for name in _JET_MASSES)
    if light > LIGHTEST and light + difference < HEAVIEST:  # also false where one is missing
        masses = f"{light + difference:.0f} GeV and {light:.0f} GeV"
        others[f"under one of particles of {masses}, as its jets are"] = parse_hypothesis(
            f"particles of {masses}"
        )
    inputs = ModelInputs(row[np.newaxis], event.jets)
    return {
        what: float(replace(predictor.scorer, hypothesis=one).score(inputs)[0])
        for what, one in others.items()
    }


def _with_jets(rows: Floats, jets: NDArray[np.float32] | None) -> ModelInputs:
    """Events with other features and the same constituents, since nothing tells how they change."""
    return ModelInputs(rows, None if jets is None else np.repeat(jets, len(rows), axis=0))


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
    notes, space = [], bench.space
    if event.digest in bench.used:
        notes.append("The run was trained or validated on this event, which biases its score.")
    is_outside = (row < space.low) | (row > space.high)
    for title, mask in (
        ("Outside the range of training events", is_outside),
        ("Missing", np.isnan(row)),
    ):
        names = [space.names[column] for column in np.flatnonzero(mask)]
        if names:
            notes.append(f"{title}: {', '.join(names)}.")
    return tuple(notes)


def _write(folder: Path, event: PickedEvent, found: Explanation, radius: float) -> EventReport:
    paragraph = textwrap.fill(describe(found), width=100)
    content = json.dumps(explanation_tree(found), indent=1, allow_nan=False)
    files = [folder / name for name in (JSON, TEXT, BARS)]
    jets, display = jets_of(event.features), folder / DISPLAY
    with write_errors(folder, "choose another --output"):
        folder.mkdir(parents=True, exist_ok=True)
        plot_attribution(found, folder / BARS)
        display.unlink(missing_ok=True)
        if jets:
            title = f"{event.title}: score {found.score:+.2f}"
            if event.particles is None:
                title += "\njets only: its particles are not known"
                LOG.warning(
                    "%s: its particles are not known, so its display has jets only; put the event "
                    "file beside the dataset, or explain the event from the file",
                    event.title,
                )
            plot_event(jets, event.particles, radius, title, display)
            files.append(display)
        else:
            LOG.info("%s: no event display: eta and phi of its jets are unknown", event.title)
        write_text(folder / TEXT, paragraph + "\n")
        write_text(folder / JSON, content + "\n")
    return EventReport(event.name, json.loads(content), paragraph, tuple(files))
