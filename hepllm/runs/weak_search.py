"""Weak supervision on a dataset: classifiers for each signal region and fold, kept as they end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from hepllm.arrays import Floats, Ints, Labels
from hepllm.config import Config
from hepllm.data.work_folder import Parts, work_folder
from hepllm.executor import run_tasks
from hepllm.logs import progress_bar
from hepllm.runs.box_search import Box
from hepllm.runs.samples import EvaluationSet
from hepllm.runs.weak_box import WeakInputs, open_weak_inputs
from hepllm.search.box import BoxEvents
from hepllm.search.region import MassRegion
from hepllm.weak.folds import EventFiles, FoldTask, at_equal_efficiency
from hepllm.weak.records import WeakScan, region_findings, smallest_p, warnings_of
from hepllm.weak.regions import Region, describe
from hepllm.weak.scan import Excess, find_excess

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class WeakBox:
    """A searched box: scores of the most significant signal region, and what all regions say.

    Attributes:
        chosen: the dataset, without labels.
        box: its events with the scores of this region, as joined folds.
        scan: findings in all regions.
        fold: (N,) fold of each event; -1 outside of the mass range.
    """

    chosen: EvaluationSet
    box: Box
    scan: WeakScan
    fold: Ints

    def read_labels(self) -> Labels | None:
        """Reads the labels of the events; None where some are unknown."""
        opened = self.chosen.with_labels()
        return opened.table.label if opened.has_labels else None

    def scores(self) -> pa.Table:
        """The scores of the events in the mass range, one row each, with their fold."""
        inside = self.fold >= 0
        table = self.chosen.table
        return pa.table(
            {
                "event_id": table.event_id[inside],
                "source": pa.array(table.source[inside].tolist(), pa.string()),
                "fold": self.fold[inside],
                "score": self.box.events.score[inside],
            }
        )


class FoldScorer(Protocol):
    """Scores folds by language models, which it trains or has."""

    @property
    def identity(self) -> str:
        """What unfinished work, and a search that goes on with it, must share."""

    def tell_cost(self, inputs: WeakInputs) -> None:
        """Says how much there is to compute, before it begins."""

    def __call__(self, inputs: WeakInputs, task: FoldTask) -> Floats:
        """Scores the events of a fold, in their order."""


@contextmanager
def searched_weakly(
    folder: Path,
    config: Config,
    output: Path,
    *,
    overwrite: bool,
    score_fold: FoldScorer | None = None,
) -> Iterator[WeakBox]:
    """Trains classifiers on a dataset without its labels, and hunts for a bump in each region.

    Scores of each fold are kept as they are ready, beside the output, until the block ends; a
    search that was stopped goes on where it was.

    Args:
        folder: the dataset.
        config: settings of the search, in ``evaluation.search``, and the seed.
        output: folder of the results.
        overwrite: discard what an earlier, unfinished search has kept.
        score_fold: scores folds by language models; None: by the classifiers of the settings.

    Raises:
        InputError: if a dataset cannot be used, or has too few events.
        RunError: if the background cannot be fitted.
    """
    search, settings = config.evaluation.search, config.evaluation.search.weak
    is_model = score_fold is not None
    inputs = open_weak_inputs(folder, config, all_columns=is_model)
    chosen, data, fold, background = inputs.chosen, inputs.data, inputs.fold, inputs.background
    regions, in_range = inputs.regions, inputs.in_range
    LOG.info("%s: %d events, %s", chosen.name, len(data), describe(regions))
    fingerprint = {
        "box": chosen.dataset.digest,
        "events": len(data),
        "background": None if background is None else background.dataset.digest,
        "select": config.evaluation.select,
        "mass": [search.mass, search.m_jj_min, search.m_jj_max, search.bin_width],
        "weak": settings.model_dump(mode="json"),
        "seed": config.seed,
        **({} if score_fold is None else {"model": score_fold.identity}),
    }
    with work_folder(output, fingerprint, overwrite) as work:
        if score_fold is not None:
            score_fold.tell_cost(inputs)
            _score_missing(inputs.tasks, partial(score_fold, inputs), work.parts, workers=1)
        else:
            files = EventFiles(work.result)
            files.write(data, fold, None if background is None else background.sample)
            score = partial(files.score, inputs.training)
            _score_missing(inputs.tasks, score, work.parts, search.workers)

        def joined(number: int) -> Floats:
            raw = np.empty(len(data))
            for one in range(settings.folds):
                part = FoldTask(number, regions[number], one).part
                raw[fold == one] = work.parts.load(part)["score"].to_numpy()
            return at_equal_efficiency(raw, fold, config.seed)

        found = _hunt(inputs.events.take(in_range), regions, joined, config)
        best, _ = smallest_p(found)
        scores = np.zeros(len(in_range))  # events outside of the range pass no cut
        scores[in_range] = joined(best)
        whole_fold = np.full(len(scores), -1, dtype=np.int64)
        whole_fold[in_range] = fold
        scan = _record(inputs, found)
        region = regions[best].searched(len(regions))
        box = _box(chosen, replace(inputs.events, score=scores), scan, config, region)
        yield WeakBox(chosen, box, scan, whole_fold)
        work.discard()


def _record(inputs: WeakInputs, found: Sequence[Excess]) -> WeakScan:
    config, chosen, background = inputs.config, inputs.chosen, inputs.background
    settings = config.evaluation.search.weak
    members = 1 if settings.classifier == "model" else settings.members
    best, p_value = smallest_p(found)
    return WeakScan(
        blackbox=chosen.blackbox,
        template=settings.template,
        background_digest=None if background is None else background.dataset.digest,
        features=list(settings.feature_names()),
        n_trainings=len(found) * settings.folds * members,
        p_value=p_value,
        best_region=best,
        regions=[region_findings(one) for one in found],
        warnings=warnings_of(settings, [one.region for one in found]),
        seed=config.seed,
        config=settings,
    )


def _box(
    chosen: EvaluationSet, events: BoxEvents, scan: WeakScan, config: Config, region: MassRegion
) -> Box:
    return Box(
        name=chosen.name,
        events=events,
        reference=None,
        origin={
            "blackbox": scan.blackbox,
            "run": None,
            "trained_on": None,
            "features": scan.features,
            "cascade": None,
            "select": config.evaluation.select,
            "weak": scan.template,
        },
        warnings=scan.warnings,
        region=region,
    )


def _score_missing(
    tasks: Sequence[FoldTask], score: Callable[[FoldTask], Floats], parts: Parts, workers: int
) -> None:
    """Scores the folds that an earlier search has not finished."""
    missing = [one for one in tasks if parts.cut_flow(one.part) is None]
    if len(missing) < len(tasks):
        LOG.info("%d of %d folds are done", len(tasks) - len(missing), len(tasks))
    bar = progress_bar(len(tasks), "train", "folds", initial=len(tasks) - len(missing))
    with closing(run_tasks(score, missing, kind="sooner", workers=workers)) as done, bar:
        for task, scores in done:
            parts.save(task.part, pa.table({"score": scores}), ())
            bar.update()


def _hunt(
    events: BoxEvents, regions: Sequence[Region], joined: Callable[[int], Floats], config: Config
) -> list[Excess]:
    found = []
    with progress_bar(len(regions), "hunt", "regions") as bar:
        for number, region in enumerate(regions):
            # The seed of the submission, so that the best region has the same p-value there.
            excess = find_excess(
                events, joined(number), region, config.evaluation.search, config.seed
            )
            relation = "=" if excess.p_value.n_exceeding else "<="
            LOG.info("%s: p %s %.3g", region, relation, excess.p_value.value)
            found.append(excess)
            bar.update()
    return found
