"""Fits masses and fraction of a signal to a dataset, with the ratios of a run under hypotheses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepllm import __version__
from hepllm.arrays import Bools, Floats
from hepllm.config import Config
from hepllm.config.evaluation import MassFitConfig, SearchConfig
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable, concatenate
from hepllm.errors import InputError
from hepllm.evaluation.calibration import Calibration, fit_calibration
from hepllm.evaluation.scores import ScoredEvents
from hepllm.hypotheses.hypothesis import Hypothesis
from hepllm.learning.inputs import model_inputs
from hepllm.logs import progress_bar
from hepllm.runs.folder import Run
from hepllm.runs.plane_scan import contest_of_scan, range_of_scan, scores_under
from hepllm.runs.questions import Question, fill
from hepllm.runs.run_baselines import RunBaselines
from hepllm.runs.samples import EvaluationSet, collect_sets
from hepllm.schema import BACKGROUND, SIGNAL
from hepllm.search.mass_plane import plane_points, refined_points
from hepllm.weak.mixture import RatioCounts, count_ratios
from hepllm.weak.mixture_fit import fit_points, fitted_mixture
from hepllm.weak.mixture_records import MixtureScan, mixture_findings
from hepllm.weak.mixture_toys import Truth, divide_again, reach_of_intervals

SIDEBANDS = "sidebands"

_BESIDE = (
    "jets beside the region are not as those inside: against sidebands, p is small without a "
    "signal, too, and the fraction is too large"
)

_TOOLS = ("numpy", "scipy", "scikit-learn")

Hypotheses = NDArray[np.object_] | None
"""The hypothesis of each event, (N,); None: the open one for all."""

_BALANCED = 0.5
"""Signal fraction for which scores are calibrated; each hypothesis is normalised afterwards."""


def fit_by_run(run: Run, folder: Path, config: Config) -> MixtureScan:
    """Fits masses and fraction of a signal to a dataset without the events that the run has seen.

    No label of the dataset is read. Scores of the language model are kept as those of a scan are,
    and shared with it.

    Args:
        run: a finished run that was trained with hypotheses.
        folder: the dataset.
        config: settings of the evaluation, and the seed.

    Raises:
        InputError: if run, dataset or template cannot be used.
    """
    trained = range_of_scan(run)
    settings, search = config.evaluation, config.evaluation.search
    plane, asked = search.plane, search.plane.fit
    if settings.cascade is not None:
        raise InputError(
            "evaluation.cascade: events that it rejects have no likelihood ratio; set it to null "
            "for a fit"
        )
    run = run.selecting(settings.select)
    box, template, origin = _samples(run, folder, search)
    scorer = _scorer(run, config, box, template)
    is_data = np.arange(len(box.table) + len(template)) < len(box.table)
    points = plane_points(plane, trained)
    counts = _counted(points, scorer, "fit")
    scanned = fit_points(counts, is_data)
    null = divide_again(
        counts, is_data, scanned.statistic, (plane.toys, plane.max_toys), config.seed
    )
    finer = refined_points(points, points[scanned.best], plane, trained) if asked.refine else []
    if finer:
        counts = counts.joined(_counted(finer, scorer, "refine"))
    fitted = fit_points(counts, is_data)
    truth = Truth(fitted.best, float(fitted.fraction[fitted.best]))
    reach = reach_of_intervals(counts, is_data, truth, asked.interval_toys, config.seed)
    findings = mixture_findings(
        fitted,
        [one.text for one in (*points, *finer)],
        fitted_mixture(fitted, reach),
        null,
        sizes=(len(box.table), len(template)),
        region=_region(search),
    )
    beside = asked.template == SIDEBANDS
    return MixtureScan(
        **dict(findings) | {"warnings": [*findings.warnings, *[_BESIDE] * beside]},
        blackbox=box.blackbox,
        run=run.folder.name,
        classifier=asked.classifier,
        template=origin,
        calibration=(scorer.calibration.slope, scorer.calibration.offset),
        trained_on=run.record.dataset_digest,
        features=list(run.config.train.feature_names()),
        trained_range=trained,
        select=settings.select,
        seed=config.seed,
        config=search,
        versions={"hepllm": __version__, **{tool: version(tool) for tool in _TOOLS}},
    )


# ------------------------------------------------------------------------------- events


def _region(search: SearchConfig) -> tuple[float, float]:
    return search.plane.fit.region or (search.m_jj_min, search.m_jj_max)


def _samples(run: Run, folder: Path, search: SearchConfig) -> tuple[EvaluationSet, EventTable, str]:
    """Returns the data in the region, the template, and where the template comes from."""
    (box,) = collect_sets(
        run, dataset=None, blackbox=read_dataset(folder), all_blackboxes=False, seen_by=()
    )
    asked = search.plane.fit
    m_jj = _masses(box, search.mass)
    inside = _in(m_jj, _region(search))
    data = replace(box, table=box.table.take(inside))
    told = {str(folder): data.table}
    if asked.template == SIDEBANDS:
        beside = ~inside & _in(m_jj, (search.m_jj_min, search.m_jj_max))
        template, origin = box.table.take(beside), f"{box.name} outside of the region"
        told[f"the template (data of {folder} outside of the region)"] = template
    else:
        template, origin = _simulated(run, search, asked)
        own = np.isin(template.event_digest, box.table.event_digest)
        template = template.take(~own)
        known = f", without {own.sum()} that are in {folder} too" if own.any() else ""
        told[f"the template ({origin}{known})"] = template
    for what, table in told.items():
        _check_sample(what, table, search)
    return data, template, origin


def _check_sample(what: str, table: EventTable, search: SearchConfig) -> None:
    if len(table) < search.min_events:
        low, high = _region(search)
        raise InputError(
            f"{what}: {len(table)} events of {low:g} to {high:g} GeV, fewer than "
            f"evaluation.search.min_events={search.min_events}; widen "
            "evaluation.search.plane.fit.region, or give a larger dataset"
        )
    if not (table.weight == table.weight[0]).all():
        raise InputError(f"{what}: has weights; a fit counts events of equal weight")


def _simulated(run: Run, search: SearchConfig, asked: MassFitConfig) -> tuple[EventTable, str]:
    """Background in the region from a dataset, or from that of the run."""
    names = tuple(dict.fromkeys((*run.config.train.feature_names(), search.mass)))
    constituents = run.config.fusion.constituents
    if asked.template is None:
        own = run.dataset()
        tables = [own.load(names, split, particles=constituents) for split in ("val", "test")]
        table = concatenate(tables)
        table = table.take(table.label == BACKGROUND)
        origin = f"background of {own.folder.name} that the training did not use"
        if run.selection is not None:
            columns = [own.load(run.selection.names, split) for split in ("val", "test")]
            kept = concatenate(columns)
            table = table.take(run.selection.mask(kept.take(kept.label == BACKGROUND).columns()))
        table = table.take(_in(table.column(search.mass), _region(search)))
        return _only(table, run.config.train.feature_names()), origin
    (chosen,) = collect_sets(
        run,
        dataset=None,
        blackbox=read_dataset(Path(asked.template)),
        all_blackboxes=False,
        seen_by=(),
    )
    chosen = chosen.with_labels()
    keep = _in(_masses(chosen, search.mass), _region(search)) & (chosen.table.label != SIGNAL)
    return chosen.table.take(keep), f"{chosen.name}, without known signal"


def _only(table: EventTable, names: Sequence[str]) -> EventTable:
    columns = [table.names.index(name) for name in names]
    return replace(table, features=table.features[:, columns], names=tuple(names))


def _masses(chosen: EvaluationSet, mass: str) -> Floats:
    if mass not in chosen.dataset.manifest.features:
        raise InputError(f"{chosen.dataset.folder}: the region needs {mass}, which it lacks")
    return chosen.reread((mass,), labels=False).column(mass)


def _in(masses: Floats, region: tuple[float, float]) -> Bools:
    return np.asarray((masses >= region[0]) & (masses < region[1]))


# ------------------------------------------------------------------------------- ratios


@dataclass(frozen=True, eq=False)
class _Ratios:
    """Logarithms of likelihood ratios of data and template under a hypothesis, (E,)."""

    score: Callable[[Hypothesis], Floats]
    calibration: Calibration

    def __call__(self, hypothesis: Hypothesis) -> Floats:
        return self.calibration.logits(self.score(hypothesis))


def _scorer(run: Run, config: Config, box: EvaluationSet, template: EventTable) -> _Ratios:
    name = config.evaluation.search.plane.fit.classifier
    if name == "llm":
        contest = contest_of_scan(run, config)
        data, other = model_inputs(box.table), model_inputs(template)

        def score(hypothesis: Hypothesis) -> Floats:
            return np.concatenate(
                [
                    scores_under(contest, f"{box.name}-scan", data, hypothesis),
                    scores_under(contest, f"{box.name}-template", other, hypothesis),
                ]
            )

        validation = ScoredEvents(run.validation_scores(), *run.validation_labels())
        return _Ratios(score, fit_calibration(validation, "platt", _BALANCED))
    baselines = RunBaselines.of(run, [name])
    if not baselines.names:
        raise InputError(
            f"evaluation.search.plane.fit.classifier={name}: the run lacks the features or the "
            "hypotheses that it needs; choose llm"
        )
    fitted, both = baselines.fitted(name), np.concatenate([box.table.features, template.features])
    validation = _validation(run, lambda events, asked: fitted.score(events.features, asked))
    return _Ratios(
        lambda hypothesis: fitted.score(both, fill(hypothesis, len(both))),
        fit_calibration(validation, "platt", _BALANCED),
    )


def _validation(run: Run, score: Callable[[EventTable, Hypotheses], Floats]) -> ScoredEvents:
    """The validation events of a run, each signal under its own hypothesis."""
    table = run.validation_table(run.config.train.feature_names())
    asked = Question(None).hypotheses(run.dataset(), table, run.config.seed)
    return ScoredEvents(score(table, asked), table.label, table.weight)


def _counted(points: Sequence[Hypothesis], scorer: _Ratios, description: str) -> RatioCounts:
    with progress_bar(len(points), description, "hypotheses") as bar:

        def scored(hypothesis: Hypothesis) -> Floats:
            found = scorer(hypothesis)
            bar.update()
            return found

        return count_ratios(
            np.array([one.masses for one in points]), (scored(one) for one in points)
        )
