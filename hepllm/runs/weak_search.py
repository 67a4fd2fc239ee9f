"""Weak supervision on a dataset: classifiers for each signal region and fold, kept as they end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from hepllm.arrays import Floats, Ints, Labels
from hepllm.config import Config
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.work_folder import Parts, work_folder
from hepllm.errors import InputError
from hepllm.executor import run_tasks
from hepllm.logs import progress_bar
from hepllm.runs.box_search import Box, observe
from hepllm.runs.samples import EvaluationSet, open_blind
from hepllm.schema import BACKGROUND, SIGNAL
from hepllm.search.box import BoxEvents
from hepllm.search.records import Blackbox
from hepllm.search.region import MassRegion
from hepllm.weak.folds import EventFiles, FoldTask, WeakTraining, at_equal_efficiency, draw_folds
from hepllm.weak.records import WeakScan, region_findings, smallest_p, warnings_of
from hepllm.weak.regions import Region, choose_regions, describe
from hepllm.weak.scan import Excess, find_excess
from hepllm.weak.templates import Sample, TemplateMaker

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


@contextmanager
def searched_weakly(
    folder: Path, config: Config, output: Path, *, overwrite: bool
) -> Iterator[WeakBox]:
    """Trains classifiers on a dataset without its labels, and hunts for a bump in each region.

    Scores of each fold are kept as they are ready, beside the output, until the block ends; a
    search that was stopped goes on where it was.

    Args:
        folder: the dataset.
        config: settings of the search, in ``evaluation.search``, and the seed.
        output: folder of the results.
        overwrite: discard what an earlier, unfinished search has kept.

    Raises:
        InputError: if a dataset cannot be used, or has too few events.
        RunError: if the background cannot be fitted.
    """
    search, settings = config.evaluation.search, config.evaluation.search.weak
    names = settings.feature_names()
    chosen = open_blind(read_dataset(folder), config, names)
    features = np.column_stack([chosen.table.column(name) for name in names])
    events = observe(chosen, np.zeros(len(chosen.table)), search.mass)
    in_range = (events.m_jj >= search.m_jj_min) & (events.m_jj < search.m_jj_max)
    data = Sample(features[in_range], events.m_jj[in_range])
    regions = choose_regions(data.m_jj, search)
    background = _open_background(chosen, config, regions)
    fold = draw_folds(len(data), settings.folds, config.seed)
    maker = TemplateMaker(settings.template, names, settings.oversampling)
    training = WeakTraining(maker, settings.classifier, settings.members, config.seed)
    LOG.info("%s: %d events, %s", chosen.name, len(data), describe(regions))
    fingerprint = {
        "box": chosen.dataset.digest,
        "events": len(data),
        "background": None if background is None else background.digest,
        "select": config.evaluation.select,
        "mass": [search.mass, search.m_jj_min, search.m_jj_max, search.bin_width],
        "weak": settings.model_dump(mode="json"),
        "seed": config.seed,
    }
    inside = events.take(in_range)
    with work_folder(output, fingerprint, overwrite) as work:
        files = EventFiles(work.result)
        files.write(data, fold, None if background is None else background.sample)
        tasks = [
            FoldTask(number, region, one)
            for number, region in enumerate(regions)
            for one in range(settings.folds)
        ]
        _score_missing(tasks, partial(files.score, training), work.parts, search.workers)

        def joined(number: int) -> Floats:
            raw = np.empty(len(data))
            for one in range(settings.folds):
                part = FoldTask(number, regions[number], one).part
                raw[fold == one] = work.parts.load(part)["score"].to_numpy()
            return at_equal_efficiency(raw, fold, config.seed)

        found = _hunt(inside, regions, joined, config)
        best, _ = smallest_p(found)
        scores = np.zeros(len(events.m_jj))  # events outside of the range pass no cut
        scores[in_range] = joined(best)
        whole_fold = np.full(len(scores), -1, dtype=np.int64)
        whole_fold[in_range] = fold
        scan = _record(chosen, config, found, background)
        region = regions[best].searched(len(regions))
        box = _box(chosen, replace(events, score=scores), scan, config, region)
        yield WeakBox(chosen, box, scan, whole_fold)
        work.discard()


def _record(
    chosen: EvaluationSet,
    config: Config,
    found: Sequence[Excess],
    background: _Background | None,
) -> WeakScan:
    settings = config.evaluation.search.weak
    best, p_value = smallest_p(found)
    return WeakScan(
        blackbox=Blackbox(
            name=chosen.name,
            digest=chosen.dataset.digest,
            sources=chosen.dataset.manifest.sources,
            n_excluded_as_seen=0,
        ),
        template=settings.template,
        background_digest=None if background is None else background.digest,
        features=list(settings.feature_names()),
        n_trainings=len(found) * settings.folds * settings.members,
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
            LOG.info("%s: p = %.3g", region, excess.p_value.value)
            found.append(excess)
            bar.update()
    return found


@dataclass(frozen=True, eq=False)
class _Background:
    sample: Sample
    digest: str


def _open_background(
    chosen: EvaluationSet, config: Config, regions: Sequence[Region]
) -> _Background | None:
    """Reads the dataset of background that a template is made of; None where it needs none."""
    settings, mass = config.evaluation.search.weak, config.evaluation.search.mass
    if not settings.needs_background:
        return None
    if settings.background is None:
        raise InputError(
            f"the template {settings.template} needs a dataset of background; give --background "
            "DATASET"
        )
    dataset = read_dataset(Path(settings.background))
    if dataset.digest == chosen.dataset.digest:
        raise InputError(
            f"{dataset.folder}: is the searched box itself; the background must be other events"
        )
    _check_background(dataset, chosen.dataset, is_ideal=settings.template == "ideal")
    names = settings.feature_names()
    table = open_blind(dataset, config, (*names, mass), labels=True).table
    kept = table.label != SIGNAL if settings.template != "ideal" else table.label == BACKGROUND
    kept &= ~np.isin(table.event_digest, chosen.table.event_digest)
    if n_left_out := int((~kept).sum()):
        text = "%s: %d events are left out, which are signal or in the box"
        LOG.info(text, dataset.folder, n_left_out)
    table = table.take(kept)
    sample = Sample(np.column_stack([table.column(name) for name in names]), table.column(mass))
    least = config.evaluation.search.weak.min_events
    for region in regions:
        below, inside, above = region.counts(sample.m_jj)
        needed = (below, inside, above) if settings.template == "reweighted" else (inside,)
        if min(needed) < least:
            raise InputError(
                f"{dataset.folder}: has {inside} background events from {region}, {below} and "
                f"{above} in its sidebands; {least} are needed: use a larger dataset"
            )
    return _Background(sample, dataset.digest)


def _check_background(dataset: Dataset, box: Dataset, *, is_ideal: bool) -> None:
    dataset.require_events()
    ours, theirs = (one.manifest.config["preprocess"]["jets"] for one in (box, dataset))
    if ours != theirs:
        raise InputError(
            f"{dataset.folder}: made with jets {theirs}, but {box.folder} with {ours}; preprocess "
            "it with the same settings"
        )
    if is_ideal and not dataset.has_labels:
        raise InputError(
            f"{dataset.folder}: some labels are unknown, and the template ideal is true "
            "background; use the template simulation"
        )
