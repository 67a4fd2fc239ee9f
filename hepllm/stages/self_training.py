"""``hepllm train`` with ``train.self_training.rounds``: trainings on labels of the one before.

runs/<name>/  self_training.json
              round-0/ (a run on the labelled events)  round-1/ (another, with pseudo-labels) ...
              pseudo-labels-1.parquet  scores-1.svg ...
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepllm.arrays import Floats
from hepllm.config import Config, override_config
from hepllm.data.event_table import EventTable
from hepllm.data.notes import read_notes
from hepllm.data.views import validation_view
from hepllm.errors import InputError
from hepllm.evaluation.bootstrap import bootstrap
from hepllm.evaluation.calibration import Calibration
from hepllm.evaluation.calibration_choice import choose_calibration
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.scores import ScoredEvents, scored_events
from hepllm.files import real_path
from hepllm.learning.inputs import model_inputs
from hepllm.learning.pseudo_labels import PseudoLabels, choose_pseudo_labels
from hepllm.learning.steps import TrainingData
from hepllm.logs import progress_bar
from hepllm.model.scoring import score_events
from hepllm.pictures.self_training import draw_round
from hepllm.report.records import RoundRecord, SelfTrainingRecord
from hepllm.runs import ROUNDS, can_go_on, has_ended
from hepllm.runs.folder import Run, open_run, training_events
from hepllm.runs.pseudo_labels import AddEvents, AddPseudoLabels, write_pseudo_labels
from hepllm.runs.training_checks import check_output
from hepllm.runs.unlabelled import unlabelled_events
from hepllm.schema import BACKGROUND, SIGNAL
from hepllm.stages.train import resume, train

LOG = logging.getLogger(__name__)

_REPLICAS = 200
_MEND = "start the training again"


@dataclass(frozen=True)
class SelfTrained:
    """Rounds that are finished, and the folder of the one with the best validation AUC."""

    folder: Path
    record: SelfTrainingRecord

    @property
    def best(self) -> Path:
        """Run folder of the best round."""
        return _round_folder(self.folder, self.record.best)


def self_train(
    dataset_folder: Path, output: Path, config: Config, *, overwrite: bool
) -> SelfTrained:
    """Trains on labelled events, then in rounds on pseudo-labels too.

    Args:
        dataset_folder: labelled dataset.
        output: folder to make, with a run per round.
        config: settings of the whole experiment.
        overwrite: replace an existing folder.

    Raises:
        InputError: if the settings or datasets do not allow it.
        RunError: if a training fails.
    """
    output = real_path(output)
    if overwrite and (output / ROUNDS).is_file():
        shutil.rmtree(output)
    check_output(output, overwrite)
    record = SelfTrainingRecord(dataset=dataset_folder.resolve())
    return _go_on(_Rounds(output, config, overwrite), record)


def resume_self_training(output: Path) -> SelfTrained:
    """Goes on with the round that was stopped; finished rounds stay as they are.

    Raises:
        InputError: if there are no rounds.
    """
    output = real_path(output)
    first = open_run(_round_folder(output, 0))
    record = SelfTrainingRecord(dataset=first.record.dataset)
    if (output / ROUNDS).is_file():  # else the first round was stopped
        record = SelfTrainingRecord.read(output / ROUNDS, "train again")
    return _go_on(_Rounds(output, first.config), record)


def _go_on(rounds: _Rounds, record: SelfTrainingRecord) -> SelfTrained:
    settings = rounds.config.train.self_training
    for number in range(len(record.rounds), settings.rounds + 1):
        if number - record.best > settings.patience:
            LOG.info("no better validation AUC in %d rounds: self-training ends", settings.patience)
            break
        found = rounds.do(number, record.dataset)
        record = record.model_copy(update={"rounds": (*record.rounds, found)})
        record.write(rounds.output / ROUNDS)
        LOG.info(
            "round %d: AUC %.4f in the validation, %.4f in the test: apart by %.4f +- %.4f",
            number,
            found.validation_auc,
            found.test_auc,
            found.gap,
            found.gap_error,
        )
    return SelfTrained(rounds.output, record)


def _nothing(data: TrainingData) -> TrainingData:
    """Adds no events, in the first round."""
    return data


def _round_folder(output: Path, number: int) -> Path:
    return output / f"round-{number}"


@dataclass(frozen=True)
class _Rounds:
    """The rounds in a folder, which is made with the first of them."""

    output: Path
    config: Config
    overwrite: bool = False

    def do(self, number: int, dataset: Path) -> RoundRecord:
        """Trains a round, or what is missing of it, and measures it."""
        folder, chosen = _round_folder(self.output, number), 0
        add: AddEvents = _nothing
        if number:
            add, chosen = self._label(number)
        if can_go_on(folder):
            if not has_ended(folder):
                resume(folder, [], add=add)
        else:
            train(dataset, folder, self._config(number), overwrite=folder.exists(), add=add)
        return _measure(open_run(folder), number, chosen)

    def _config(self, number: int) -> Config:
        decay = self.config.train.self_training.ema_decay
        if not number or decay is None:
            return self.config
        return override_config(self.config, [f"train.ema_decay={decay}"])

    def _label(self, number: int) -> tuple[AddEvents, int]:
        """Labels events by the round before, unless that is done."""
        file = self.output / f"pseudo-labels-{number}.parquet"
        settings, prior = self.config.train.self_training, self.config.train.unsupervised.prior
        if prior is None:
            raise ValueError("self-training needs a prior")
        add = AddPseudoLabels(file, settings.noise, prior <= 0.5, self.config.seed, number)
        if not file.is_file():
            run = open_run(_round_folder(self.output, number - 1))
            validation = run.validation_table(run.config.train.feature_names())
            found = unlabelled_events(run.dataset(), run.config, validation, run)
            if found is None:
                raise ValueError("self-training needs unlabelled events")
            chosen = _choose(run, found.table, prior, self.output / f"scores-{number}.svg")
            write_pseudo_labels(file, found.table, chosen)
        return add, len(read_notes(file, _MEND).event_digest)


def _choose(run: Run, pool: EventTable, prior: float, picture: Path) -> PseudoLabels:
    """Scores the pool with a run, calibrates and chooses; draws the scores."""
    score, settings = _score(run, pool, "score unlabelled events"), run.config.train.self_training
    events = training_events(run.dataset(), run.config.train, run.config.seed)
    weights = np.abs(events.weight)
    labelled = [float(weights[events.label == one].sum()) for one in (BACKGROUND, SIGNAL)]
    label, weight = run.validation_labels()
    held = scored_events(run.validation_scores(), label, weight)
    target = _calibration(held, labelled[1] / sum(labelled)).probabilities(score)
    chosen = choose_pseudo_labels(score, target, (labelled[0], labelled[1]), prior, settings)
    draw_round(score, (score[chosen.events], chosen.is_signal), held, prior, picture)
    return chosen


def _calibration(held: ScoredEvents, prior: float) -> Calibration:
    """The map of scores to probabilities that the validation supports."""
    try:
        return choose_calibration(held, "auto", prior)
    except InputError as error:
        LOG.warning("pseudo-labels are not calibrated: %s", error)
        return Calibration("none", prior)


def _measure(run: Run, number: int, n_pseudo: int) -> RoundRecord:
    """AUC in validation and test events, and how far they part."""
    settings, seed = run.config.train, run.config.seed
    table = run.dataset().load(
        settings.feature_names(), "test", particles=run.config.fusion.constituents
    )
    table = table.take(validation_view(table.label, settings.final_validation_events, seed))
    label, weight = run.validation_labels()
    scored = {
        "validation": scored_events(run.validation_scores(), label, weight),
        "test": scored_events(_score(run, table, "score test events"), table.label, table.weight),
    }
    areas, variance = {}, 0.0
    for name, events in scored.items():
        found = auc(events)
        if found.value is None:
            raise InputError(f"{run.record.dataset}: {name} split: {found.reason}")
        areas[name] = found.value
        replicas = bootstrap({name: events}, {name: ()}, (), _REPLICAS, seed)[name]
        variance += float(np.nanvar(replicas.auc))
    return RoundRecord(
        number=number,
        pseudo_labels=n_pseudo,
        validation_auc=areas["validation"],
        test_auc=areas["test"],
        gap=areas["validation"] - areas["test"],
        gap_error=variance**0.5,
    )


def _score(run: Run, table: EventTable, task: str) -> Floats:
    classifier, encoder = run.load_classifier()
    with progress_bar(len(table), task) as bar:
        return score_events(
            classifier,
            encoder,
            model_inputs(table),
            batch_size=run.config.evaluation.batch_size,
            on_batch=bar.update,
        )
