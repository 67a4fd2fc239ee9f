"""The run's classifier and all that it is compared with, ready to score."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hepllm.config import Config
from hepllm.dataset import EventTable
from hepllm.errors import InputError
from hepllm.evaluation.baselines import BOOSTING, fit_baselines
from hepllm.evaluation.peer import Scorer, TrainingSample
from hepllm.evaluation.results import ScoreTable
from hepllm.evaluation.stacking import STACK, fit_stack
from hepllm.learning.encoding import PromptEncoder
from hepllm.learning.scoring import score_events
from hepllm.logs import progress_bar
from hepllm.model.classifier import EventClassifier
from hepllm.stages.runs import Run, training_events

LOG = logging.getLogger(__name__)

Scores = NDArray[np.float64]

MODEL = "llm"
"""What the run's own classifier is called in tables."""


@dataclass(frozen=True)
class Contest:
    """The run's classifier and those that it is compared with.

    Attributes:
        run: what is judged.
        config: of which ``evaluation`` counts.
        classifier: of the run.
        encoder: of the run.
        baselines: trained on the same events and features, by name.
    """

    run: Run
    config: Config
    classifier: EventClassifier
    encoder: PromptEncoder
    baselines: Mapping[str, Scorer]

    def score(self, text_rows: Scores, number_rows: Scores, description: str) -> Scores:
        """Scores of the language model; the two rows differ in ablations only."""
        return _score(
            self.classifier, self.encoder, self.config, (text_rows, number_rows), description
        )

    def score_baselines(self, rows: Scores) -> dict[str, Scores]:
        """Scores of the others."""
        return {name: fitted.score(rows) for name, fitted in self.baselines.items()}

    def ablate(self, rows: Scores) -> dict[str, Scores]:
        """Scores with one part of the input exchanged between events or taken away.

        A part that the model does not have is not ablated.
        """
        order = np.random.default_rng([self.config.seed, 4]).permutation(len(rows))
        exchanged = rows[order]
        ablations: dict[str, Scores] = {}
        if self.classifier.nfa is not None:
            ablations["nfa_permuted"] = self.score(rows, exchanged, "permute numbers")
            with self.classifier.silenced_fusion():
                ablations["nfa_zeroed"] = self.score(rows, rows, "zero soft tokens")
        if self.encoder.prints_numbers:
            ablations["text_permuted"] = self.score(exchanged, rows, "permute text")
        return ablations


def _score(
    classifier: EventClassifier,
    encoder: PromptEncoder,
    config: Config,
    rows: tuple[Scores, Scores],
    description: str,
) -> Scores:
    text_rows, number_rows = rows
    with progress_bar(len(text_rows), description) as bar:
        return score_events(
            classifier,
            encoder,
            text_rows,
            number_rows=number_rows,
            batch_size=config.evaluation.batch_size,
            on_batch=bar.update,
        )


def fit_peers(run: Run, config: Config) -> dict[str, Scorer]:
    """Fits each baseline to the very events and features that the run was trained on."""
    if not config.evaluation.baselines:
        return {}
    events = training_events(run.dataset(), run.config)
    sample = TrainingSample(
        features=events.features,
        names=events.names,
        label=events.label,
        weight=events.weight,
        seed=config.seed,
        fusion=run.config.fusion,
    )
    return fit_baselines(sample, config.evaluation.peers)


def name_retrained(run: Run, others: Sequence[Run]) -> dict[str, Run]:
    """Names runs of the same model that were trained with part of its input.

    A run without the numeric fusion adapter is ``text_only``, one with it and a minimal prompt is
    ``numbers_only``; any other, and a second of a kind, has the name of its folder.

    Raises:
        InputError: for a run of another dataset, other features or another balance, which would
            compare more than the input.
    """
    named: dict[str, Run] = {}
    for other in others:
        differing = [
            what
            for what, ours, theirs in (
                ("dataset", run.record.dataset_digest, other.record.dataset_digest),
                ("features", run.config.train.feature_names(), other.config.train.feature_names()),
                ("balance", run.config.train.balance, other.config.train.balance),
            )
            if ours != theirs
        ]
        if differing:
            msg = (
                f"{other.folder}: trained with another {' and another '.join(differing)} than "
                f"{run.folder}; only runs that differ in what the model reads can be compared"
            )
            raise InputError(msg)
        name = other.folder.resolve().name
        if not other.config.fusion.enabled and "text_only" not in named:
            name = "text_only"
        elif other.config.prompt.layout == "minimal" and "numbers_only" not in named:
            name = "numbers_only"
        if name in (MODEL, STACK, *named):
            msg = f"{other.folder}: '{name}' is compared already; name each run once"
            raise InputError(msg)
        named[name] = other
    return named


def score_retrained(
    others: Mapping[str, Run], config: Config, tables: Mapping[str, EventTable]
) -> dict[str, dict[str, Scores]]:
    """Scores of other runs for several tables, with one model in memory at a time.

    Returns:
        By name of the table, then of the run.
    """
    scores: dict[str, dict[str, Scores]] = {key: {} for key in tables}
    for name, other in others.items():
        classifier, encoder = other.load_classifier()
        for key, table in tables.items():
            rows = (table.features, table.features)
            scores[key][name] = _score(classifier, encoder, config, rows, f"score {name}")
        del classifier, encoder
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return scores


def add_stack(test: ScoreTable, validation: ScoreTable, seed: int) -> tuple[ScoreTable, ScoreTable]:
    """Adds the combination of model and boosting to both tables.

    Raises:
        InputError: if there is no boosting.
    """
    parts = (MODEL, BOOSTING)
    if BOOSTING not in validation.scores:
        msg = "evaluation.stack needs the peer 'boosting': name it in evaluation.peers"
        raise InputError(msg)
    columns = [np.column_stack([table.scores[p] for p in parts]) for table in (test, validation)]
    weight = None if validation.weight is None else np.asarray(validation.weight)
    stack = fit_stack(columns[1], np.asarray(validation.label), weight, seed)
    combined = {**test.scores, STACK: stack.score(columns[0])}
    return (
        ScoreTable(test.label, combined, test.ablations, test.weight, test.retrained),
        ScoreTable(
            validation.label,
            {**validation.scores, STACK: stack.validation},
            weight=validation.weight,
        ),
    )
