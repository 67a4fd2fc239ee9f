"""The folder of a run, which ``hepllm train`` writes and the later commands read.

runs/<name>/  config.yaml  run.json  history.jsonl  checkpoints/
              events.parquet (events of training and validation)  validation.parquet (scores)
              eval/<set>/
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hepllm.arrays import Bools, Digests, Floats, Ints, Labels
from hepllm.config import Config, TrainConfig, load_config
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.event_table import EventTable
from hepllm.data.notes import find_events
from hepllm.data.views import balanced_view, validation_view
from hepllm.errors import InputError
from hepllm.event_filter import EventFilter, parse_event_filter
from hepllm.report.records import RunRecord
from hepllm.runs import CONFIG, RECORD, VALIDATION_SCORES, require_run
from hepllm.runs.places import find_dataset
from hepllm.runs.questions import OPEN_QUESTION, Question, read_question
from hepllm.runs.run_files import USED_EVENTS, member_column, read_run_notes
from hepllm.runs.used_map import read_used_map
from hepllm.schema import BACKGROUND, FEATURES, SIGNAL

if TYPE_CHECKING:  # torch comes with them, which a report does without
    from hepllm.model.classifier import EventClassifier
    from hepllm.model.encoding import PromptEncoder

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class AskedScores:
    """Scores of validation events for one question, in arrays of shape (N,).

    Attributes:
        members: calibrated logits of the members of an ensemble, by name.
    """

    event_digest: Digests
    label: Labels
    weight: Floats
    score: Floats
    members: Mapping[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run folder; its model is not loaded.

    Attributes:
        selection: filter of the validation events that the properties give; None for all.
        question: what is asked about events, for which the validation scores are.
        asked: validation scores for that question; None: those of the end of the training.
    """

    folder: Path
    config: Config
    record: RunRecord
    selection: EventFilter | None = None
    question: Question = OPEN_QUESTION
    asked: AskedScores | None = None

    def selecting(self, text: str | None) -> Run:
        """Returns the run with only those validation events that pass a filter on features.

        Raises:
            InputError: if no validation event passes.
        """
        if text is None:
            return self
        settings = self.config.preprocess
        own = (*settings.observers, *settings.new_variables)
        run = replace(self, selection=parse_event_filter(text, own=own))
        if not len(run.validation_scores()):
            raise InputError(
                f"{self.folder}: no validation event passes the selection '{text}'; loosen it"
            )
        return run

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def is_ensemble(self) -> bool:
        """Whether its score is the mean over several classifiers."""
        return bool(self.record.members)

    def require_one_model(self) -> None:
        """Raises InputError if the run is an ensemble, which has no model of its own."""
        if self.is_ensemble:
            runs = sorted({one.run for one in self.record.members if one.baseline is None})
            mend = f"name one of its members, such as {self.folder / runs[0]}" if runs else ""
            raise InputError(
                f"{self.folder}: is an ensemble, which has no model of its own to look into"
                f"{'; ' * bool(mend)}{mend}"
            )

    def read_question(self, text: str | None) -> Question:
        """Reads a hypothesis in words; ``hepllm.runs.questions.read_question`` has the rest.

        Raises:
            InputError: if the text is no hypothesis, or a classifier of the run reads none.
        """
        deaf = [one.name for one in self.record.members if not one.reads_hypotheses]
        if text is not None and deaf:
            raise InputError(
                f"{self.folder}: its member {deaf[0]} reads no hypotheses, so the ensemble cannot "
                "read --hypothesis; make an ensemble of runs that were trained with hypotheses"
            )
        return read_question(text, self.record.hypotheses, str(self.folder))

    def dataset(self) -> Dataset:
        """Opens the training dataset.

        Raises:
            InputError: if it is missing or its contents have changed.
        """
        dataset = self.known(read_dataset(self.record.dataset))
        if dataset.digest != self.record.dataset_digest:
            raise InputError(
                f"{self.record.dataset}: its contents have changed since {self.folder} was "
                "trained; train again, or restore the dataset"
            )
        return dataset

    def known(self, dataset: Dataset) -> Dataset:
        """A dataset with the new variables of the run.

        Raises:
            InputError: if it has another column of the same name.
        """
        return dataset.with_variables(self.config.preprocess.variables())

    def own_columns(self) -> dict[str, Any]:
        """Observers and new variables that the model reads, as settings to read a file with."""
        variables, read = self.config.preprocess.variables(), self.config.train.feature_names()
        needed, stored = variables.needed(read), variables.inputs(read)
        return {
            "observers": [name for name in stored if name not in FEATURES],
            "new_variables": {
                name: one.text for name, one in variables.expressions.items() if name in needed
            },
        }

    @property
    def is_search_safe(self) -> bool:
        """Whether a cut on its score does not sculpt the m_jj spectrum by what it reads."""
        return self.config.preprocess.is_search_safe(self.config.train.feature_names())

    def kept_events(self) -> Digests | None:
        """Digests of the training events that the run's filter has kept; None without a filter."""
        return read_used_map(self.folder).kept_digests if self.config.train.filter else None

    def used_events(self) -> Digests:
        """Digests of all events that were used in training or validation."""
        return read_run_notes(self.folder / USED_EVENTS).event_digest

    def validation_rows(self, table: EventTable) -> Ints:
        """Finds the rows of the events with validation scores, in the order of the scores.

        Args:
            table: validation split of the run's dataset.

        Raises:
            InputError: if an event is missing in the table.
        """
        return self._rows_of_scores(table)[self._selected]

    def validation_table(self, names: Sequence[str], *, particles: int = 0) -> EventTable:
        """Loads the events with validation scores, in the order of the scores."""
        table = self.dataset().load(names, "val", particles=particles)
        return table.take(self.validation_rows(table))

    def validation_scores(self) -> Floats:
        """Scores of the validation events, in the order of ``validation_table``."""
        return self._scored.score[self._selected]

    def validation_digests(self) -> Digests:
        """Digests of the validation events, in the order of their scores."""
        return self._scored.event_digest[self._selected]

    def validation_members(self) -> dict[str, Floats]:
        """Logits of the members of an ensemble for the same events, by name; none of a run."""
        return {name: values[self._selected] for name, values in self._scored.members.items()}

    def validation_labels(self) -> tuple[Labels, Floats]:
        """Labels and weights of the validation events, in the order of their scores."""
        found, chosen = self._scored, self._selected
        return found.label[chosen], found.weight[chosen]

    @cached_property
    def _scored(self) -> AskedScores:
        """The validation scores of all events, whether selected or not."""
        if self.asked is not None:
            return self.asked
        notes = read_run_notes(self.folder / VALIDATION_SCORES)
        columns = {name: notes.column(name) for name in ("label", "weight", "score")}
        members = {one.name: notes.column(member_column(one.name)) for one in self.record.members}
        return AskedScores(event_digest=notes.event_digest, members=members, **columns)

    @cached_property
    def _selected(self) -> Bools:
        """The validation events that the filter keeps, in the order of all scores."""
        if self.selection is None:
            return np.ones(len(self._scored.event_digest), dtype=np.bool_)
        table = self.dataset().load(self.selection.names, "val")
        passes = self.selection.mask(table.columns())
        return np.asarray(passes[self._rows_of_scores(table)])

    def _rows_of_scores(self, table: EventTable) -> Ints:
        """The rows of all events with validation scores; ``validation_rows`` has the arguments."""
        found = self._scored
        rows = find_events(found.event_digest, table.event_digest)
        if (rows < 0).any() or not np.array_equal(table.label[rows], found.label):
            raise InputError(
                f"{self.folder}: its validation scores do not fit its dataset; train it again"
            )
        return rows

    def load_classifier(self) -> tuple[EventClassifier, PromptEncoder]:
        """Loads the backbone and the weights that are best on validation data.

        Raises:
            InputError: if there is no checkpoint, or the run is an ensemble.
        """
        from hepllm.learning.checkpoint import best_checkpoint, load_weights

        self.require_one_model()
        checkpoint = best_checkpoint(self.checkpoints)
        classifier, encoder = make_classifier(self.config)
        load_weights(checkpoint, classifier)
        return classifier, encoder


def open_run(folder: Path) -> Run:
    """Opens a run folder; its dataset may have been moved together with it.

    Raises:
        InputError: if it is no run, or a file is missing or damaged.
    """
    require_run(folder)
    mend = "name a folder that 'hepllm train' made, or train it again"
    record = RunRecord.read(folder / RECORD, mend)
    dataset = find_dataset(record.dataset, record.dataset_digest, folder)
    record = record.model_copy(update={"dataset": dataset})
    config = load_config(folder / CONFIG)
    fusion = config.fusion.before_decays()
    prompt = config.prompt.before_questions(fusion)
    return Run(folder, config.model_copy(update={"prompt": prompt, "fusion": fusion}), record)


def tell_classes(run: Run) -> None:
    """Warns of what a run without labels calls signal."""
    if run.record.weak is not None:
        LOG.warning(
            "%s: was trained without labels, on %s: what it calls signal are data of the region, "
            "and its probabilities are those of being data",
            run.folder,
            run.record.weak,
        )


def make_encoder(config: Config) -> PromptEncoder:
    """Makes the prompt encoder of a model, of which only the tokenizer is loaded."""
    from hepllm.model.backbone import load_tokenizer

    return _encoder(load_tokenizer(config.backbone), config)


def _encoder(tokenizer: Any, config: Config) -> PromptEncoder:
    from hepllm.model.encoding import PromptEncoder

    return PromptEncoder(tokenizer, config.train.feature_names(), config.prompt, config.fusion)


def make_classifier(config: Config) -> tuple[EventClassifier, PromptEncoder]:
    """Loads the backbone and adds new LoRA and NFA weights."""
    from hepllm.model.backbone import load_backbone
    from hepllm.model.classifier import build_classifier

    backbone = load_backbone(config.backbone, config.seed)
    names, fusion = config.train.feature_names(), config.fusion
    encoder = _encoder(backbone.tokenizer, config)
    classifier = build_classifier(
        backbone,
        encoder.label_tokens,
        names,
        fusion,
        config.seed,
        reads_hypotheses=encoder.reads_hypotheses,
    )
    return classifier, encoder


def training_events(
    dataset: Dataset,
    config: TrainConfig,
    seed: int,
    names: Sequence[str] | None = None,
    *,
    particles: int = 0,
    kept: Digests | None = None,
) -> EventTable:
    """Loads the training split in the balance that the settings ask for.

    Args:
        dataset: the dataset.
        config: features and balance.
        seed: seed of the choice of events.
        names: features to load; None for those of the settings.
        particles: constituents of each leading jet to load; 0: none.
        kept: events that a filter has kept; None for all.
    """
    names = config.feature_names() if names is None else names
    table = dataset.load(names, "train", particles=particles)
    table = table.take(balanced_view(table.label, config.balance, seed))
    return table if kept is None else table.take(np.isin(table.event_digest, kept))


def training_masses(
    dataset: Dataset, config: TrainConfig, seed: int, kept: Digests | None = None
) -> Floats | None:
    """Loads m_jj of ``training_events`` in GeV, shape (N,); None where no setting needs it.

    Raises:
        InputError: if a class has no event with m_jj.
    """
    if not config.needs_masses:
        return None
    table = training_events(dataset, config, seed, ("m_jj",), kept=kept)
    m_jj = table.column("m_jj")
    for name, label in (("signal", SIGNAL), ("background", BACKGROUND)):
        if not np.isfinite(m_jj[table.label == label]).any():
            raise InputError(
                f"{dataset.folder}: no training {name} event has m_jj, which train.decorrelate "
                "and train.loss.disco need"
            )
    return m_jj


def validation_events(
    dataset: Dataset, config: TrainConfig, limit: int, seed: int, *, particles: int = 0
) -> EventTable:
    """Loads at most ``limit`` events of the validation split; ``particles`` as in training."""
    table = dataset.load(config.feature_names(), "val", particles=particles)
    return table.take(validation_view(table.label, limit, seed))


def count_classes(table: EventTable) -> dict[str, int]:
    """Counts events by name of the class."""
    return {
        "signal": int((table.label == SIGNAL).sum()),
        "background": int((table.label == BACKGROUND).sum()),
    }
