"""Samples for an evaluation: test split, datasets and black boxes, without events of training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Bools
from hepllm.config import Config
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.event_table import EventTable
from hepllm.errors import InputError
from hepllm.event_filter import parse_event_filter
from hepllm.learning.inputs import model_inputs
from hepllm.model.inputs import ModelInputs
from hepllm.runs.folder import Run
from hepllm.runs.questions import Question
from hepllm.schema import UNKNOWN
from hepllm.search.records import Blackbox

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationSet:
    """Events to evaluate on.

    Attributes:
        name: name of the output folder.
        table: the events.
        dataset: the dataset of the events.
        is_blackbox: whether it is a black box.
        is_blind: whether the labels are not read yet; all are unknown in ``table`` then.
        n_excluded: events left out because they were used in training or validation.
        n_unselected: further events left out because the selection does not keep them.
        hypothesis: what each event is scored under, shape (N,); None: the open one.
    """

    name: str
    table: EventTable
    dataset: Dataset
    is_blackbox: bool
    is_blind: bool
    n_excluded: int = 0
    n_unselected: int = 0
    hypothesis: NDArray[np.object_] | None = None

    @property
    def inputs(self) -> ModelInputs:
        """Inputs of its events, with the hypothesis under which they are scored."""
        return replace(model_inputs(self.table), hypothesis=self.hypothesis)

    @property
    def blackbox(self) -> Blackbox:
        """What the record of a search says of the searched dataset."""
        return Blackbox(
            name=self.name,
            digest=self.dataset.digest,
            sources=self.dataset.manifest.sources,
            n_excluded_as_seen=self.n_excluded,
        )

    def asked(self, question: Question, seed: int) -> EvaluationSet:
        """Returns the set for a question, under a name of its own.

        Raises:
            InputError: if each event is to have its own hypothesis, and these are not known, or
                the labels are not to be read yet.
        """
        if question.hypothesis is None and self.is_blind:
            if self.is_blackbox:
                raise InputError(
                    f"{self.name}: a black box is scored under a stated hypothesis, since the own "
                    "one of its signal is what a search is for; give --hypothesis TEXT"
                )
            return self.with_labels().asked(question, seed)
        hypothesis = question.hypotheses(self.dataset, self.table, seed)
        return replace(self, name=f"{self.name}{question.suffix}", hypothesis=hypothesis)

    @property
    def has_labels(self) -> bool:
        """Whether the labels of all events are known, read or not."""
        if self.is_blind:
            return self.dataset.has_labels
        return not (self.table.label == UNKNOWN).any()

    def reread(self, features: Sequence[str], *, labels: bool, particles: int = 0) -> EventTable:
        """Reads the events of the set again, with other features, or with constituents of jets.

        Raises:
            InputError: if the dataset has changed since.
        """
        table = self.dataset.load(features, labels=labels, particles=particles)
        # Leave out the events that the run has seen or that are not selected, as the set does.
        table = table.take(np.isin(table.event_digest, self.table.event_digest))
        if not np.array_equal(table.event_digest, self.table.event_digest):
            raise InputError(f"{self.dataset.folder}: its contents changed during the evaluation")
        return table

    def with_labels(self) -> EvaluationSet:
        """Returns the set with its labels, which are read now if they are not read yet."""
        if not self.is_blind:
            return self
        rows = self.reread((), labels=True)
        table = replace(self.table, label=rows.label, label_raw=rows.label_raw)
        return replace(self, table=table, is_blind=False)


def open_blind(
    dataset: Dataset, config: Config, features: Sequence[str] = (), *, labels: bool = False
) -> EvaluationSet:
    """Opens a dataset for a search without a run, with the events that ``evaluation.select`` keeps.

    Args:
        dataset: the dataset.
        config: settings of the evaluation, and columns of the user's own.
        features: features that its table has; further ones may follow them.
        labels: whether to read the labels, as of simulation that is no box.

    Raises:
        InputError: if the dataset lacks a feature, no event is selected, or the selection cuts on
            the mass that is searched.
    """
    dataset.require_events()
    dataset = dataset.with_variables(config.preprocess.variables())
    text, mass = config.evaluation.select, config.evaluation.search.mass
    own = (*config.preprocess.observers, *config.preprocess.new_variables)
    select = None if text is None else parse_event_filter(text, own=own)
    cut_on = () if select is None else select.names
    if mass in cut_on:
        raise InputError(
            f"the selection '{text}' cuts on {mass}, of which a search needs the whole "
            "spectrum; set its range with --mass-range"
        )
    table = dataset.load(tuple(dict.fromkeys((*features, *cut_on))), labels=labels)
    if select is not None:
        passes = select.mask(table.columns())
        if not passes.any():
            raise InputError(f"{dataset.folder}: no event passes the selection '{text}'; loosen it")
        table = table.take(passes)
    name = dataset.folder.name
    return EvaluationSet(name, table, dataset, is_blackbox=not labels, is_blind=not labels)


def collect_sets(
    run: Run,
    *,
    dataset: Path | None,
    blackbox: Dataset | None,
    all_blackboxes: bool,
    seen_by: Sequence[Run],
) -> list[EvaluationSet]:
    """Loads the events for an evaluation, without those of training and validation.

    Labels of other sets than the test split are not read: a search comes first.

    Args:
        run: the run to evaluate; its selection holds for the sets too.
        dataset: folder of a dataset, of which all events are used.
        blackbox: a black box.
        all_blackboxes: use the test split, and every other dataset beside the training dataset.
        seen_by: other runs whose training and validation events are also left out.

    Raises:
        InputError: a set cannot be used.
    """
    sets: list[EvaluationSet] = []
    if all_blackboxes or (dataset is None and blackbox is None):
        own = run.dataset()
        names, constituents = run.config.train.feature_names(), run.config.fusion.constituents
        table = own.load(names, "test", particles=constituents)
        name = f"{own.folder.name}-test"
        sets.append(EvaluationSet(name, table, own, is_blackbox=False, is_blind=False))
    if dataset is not None:
        sets.append(_other_set(run, read_dataset(dataset), is_blackbox=False))
    if blackbox is not None:
        sets.append(_other_set(run, blackbox, is_blackbox=True))
    if all_blackboxes:
        beside = sorted(run.record.dataset.parent.glob("*/manifest.json"))
        named = {one.resolve() for one in (run.record.dataset, dataset) if one is not None}
        others = [file.parent for file in beside if file.parent.resolve() not in named]
        if not others and dataset is None:
            raise InputError(
                f"no black box beside {run.record.dataset}: preprocess one, "
                "or name it with --blackbox FILE"
            )
        sets += [_other_set(run, read_dataset(folder), is_blackbox=True) for folder in others]
    return [_selected(run, _without_seen(run, chosen, seen_by)) for chosen in sets]


def _other_set(run: Run, dataset: Dataset, *, is_blackbox: bool) -> EvaluationSet:
    check_jets(run, dataset)
    dataset = run.known(dataset)
    names, constituents = run.config.train.feature_names(), run.config.fusion.constituents
    table = dataset.load(names, labels=False, particles=constituents)
    tell_missing(run, dataset, table)
    return EvaluationSet(dataset.folder.name, table, dataset, is_blackbox, is_blind=True)


def tell_missing(run: Run, dataset: Dataset, table: EventTable) -> None:
    """Warns of features that a run reads and no event has.

    Args:
        run: the run.
        dataset: the dataset.
        table: its events, with the features that the run reads first.

    Raises:
        InputError: if all of them are missing, and it reads nothing else.
    """
    names = run.config.train.feature_names()
    if not len(table) or not names:
        return
    is_missing: Bools = np.logical_and.reduce(np.isnan(table.features[:, : len(names)]))
    missing = ", ".join(name for name, one in zip(names, is_missing, strict=True) if one)
    if is_missing.all() and not run.config.fusion.constituents:
        raise InputError(
            f"{dataset.folder}: no event has any feature that {run.folder} reads ({missing}); "
            "preprocess events that have them, or train another run"
        )
    if missing:
        LOG.warning(
            "%s: missing in every event, so %s scores without them: %s",
            dataset.folder.name,
            run.folder.name,
            missing,
        )


def check_jets(run: Run, dataset: Dataset) -> None:
    """Raises ``InputError`` if a dataset has other jet settings than a run's training dataset."""
    ours, theirs = (made.manifest.config["preprocess"]["jets"] for made in (run.dataset(), dataset))
    if ours != theirs:
        raise InputError(
            f"{dataset.folder}: made with jets {theirs}, but {run.folder} was trained on jets "
            f"{ours}; preprocess it with the same settings"
        )


def _without_seen(run: Run, chosen: EvaluationSet, others: Sequence[Run]) -> EvaluationSet:
    """Leaves out events with the same content as one of the runs' training or validation."""
    used = np.concatenate([one.used_events() for one in (run, *others)])
    seen = np.isin(chosen.table.event_digest, used)
    n_seen = int(seen.sum())
    if n_seen:
        message = "%s: %d of %d events were seen in training or validation and are left out"
        LOG.warning(message, chosen.name, n_seen, len(seen))
    table = chosen.table.take(~seen) if n_seen else chosen.table
    if not len(table):
        raise InputError(f"{chosen.name}: no event is left to evaluate on")
    if not chosen.has_labels and not run.is_search_safe:
        raise InputError(
            f"{chosen.name}: has no labels, and {run.folder} was trained on features that follow "
            "m_jj, so a cut on its score sculpts a bump in QCD; train with train.features=search"
        )
    return replace(chosen, table=table, n_excluded=n_seen)


def _selected(run: Run, chosen: EvaluationSet) -> EvaluationSet:
    """Leaves out events that the run's selection does not keep."""
    if run.selection is None:
        return chosen
    passes = run.selection.mask(chosen.reread(run.selection.names, labels=False).columns())
    if not passes.any():
        raise InputError(
            f"{chosen.name}: none of {len(passes)} events passes the selection "
            f"'{run.selection.text}'; loosen it"
        )
    table, n_unselected = chosen.table.take(passes), int((~passes).sum())
    return replace(chosen, table=table, n_unselected=n_unselected)
