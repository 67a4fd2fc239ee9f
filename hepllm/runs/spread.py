"""``hepllm eval RUN RUN...``: what several trainings say together about the same events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hepllm.config import EvaluationConfig
from hepllm.errors import InputError
from hepllm.evaluation.curves import CurvesRecord
from hepllm.evaluation.records import BootstrapRecord
from hepllm.evaluation.seed_intervals import Estimates, RunScores, compare_seeds
from hepllm.evaluation.seeds import SeedGroup, SpreadRecord, spread_over_runs
from hepllm.pictures.curves import spread_figures
from hepllm.pictures.seeds import seed_figure
from hepllm.pictures.style import save_figure
from hepllm.report.seeds import seed_chapter
from hepllm.report.sets import EvaluatedSet
from hepllm.report.text import as_text
from hepllm.runs.recipes import Recipe

SPREAD, PICTURES = "spread.json", ("spread-seeds.png", "spread-sic.png", "spread-roc.png")
"""Files about several runs, in the set's folder of the first run."""

_METHOD = "bootstrap of events that all runs share, Student's t for the variance of runs"


@dataclass(frozen=True)
class SetSpread:
    """Several runs on one set: content of ``spread.json``, its text and all written files."""

    record: SpreadRecord
    text: str
    files: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class _Evaluated:
    """One run on one set."""

    scores: RunScores
    curves: CurvesRecord


def spread_of_runs(
    reports: Mapping[Path, Sequence[EvaluatedSet]],
    recipes: Sequence[Recipe],
    config: EvaluationConfig,
    seed: int,
) -> dict[str, SetSpread]:
    """Compares the classifiers of several runs, and writes the results, by name of the set.

    Args:
        reports: results of each run, by its folder.
        recipes: runs of one recipe, and maybe of another to compare them with; the folder of the
            first run receives the files.
        config: number of replicas and confidence.
        seed: seed of the draws.

    Raises:
        InputError: if no set with labels is common to all runs, or its events differ.
    """
    by_run = {
        folder: {
            report.name: _Evaluated(report.scores, report.curves)
            for report in made
            if report.scores is not None and report.curves is not None
        }
        for folder, made in reports.items()
    }
    first, *others = by_run.values()
    common = [name for name in first if all(name in sets for sets in others)]
    if not common:
        names = ", ".join(map(str, reports))
        raise InputError(f"no set with labels is common to {names}: there is nothing to combine")
    found = {}
    for name in common:
        groups = [[by_run[run.folder][name] for run in recipe.runs] for recipe in recipes]
        record = _record(name, recipes, groups, config, seed)
        found[name] = _write(record, groups[0], recipes[0].runs[0].folder / "eval" / name)
    return found


def _record(
    name: str,
    recipes: Sequence[Recipe],
    groups: Sequence[Sequence[_Evaluated]],
    config: EvaluationConfig,
    seed: int,
) -> SpreadRecord:
    scores = [[one.scores for one in group] for group in groups]
    first, *others = scores
    compared = compare_seeds(first, others[0] if others else [], config, seed)
    results, means = first[0].results.record, (compared.means, compared.other_means)
    ours, *theirs = (
        _group(recipe, group, mean)
        for recipe, group, mean in zip(recipes, scores, means, strict=False)
    )
    return SpreadRecord(
        **dict(ours),
        sample=name,
        classifier=results.classifier,
        baselines=tuple(one for one in results.baselines if one in compared.means),
        n_signal=results.n_signal,
        n_background=results.n_background,
        bootstrap=BootstrapRecord(
            confidence=config.confidence, n_replicas=config.bootstrap, seed=seed, method=_METHOD
        ),
        differences=compared.differences,
        other=theirs[0] if theirs else None,
        against=compared.against,
    )


def _group(recipe: Recipe, scores: Sequence[RunScores], means: Estimates) -> SeedGroup:
    return SeedGroup(
        name=recipe.name,
        runs=tuple(str(run.folder) for run in recipe.runs),
        seeds=tuple(run.config.seed for run in recipe.runs),
        spread=spread_over_runs([one.results.record for one in scores]),
        means=means,
    )


def _write(record: SpreadRecord, runs: Sequence[_Evaluated], folder: Path) -> SetSpread:
    folder.mkdir(parents=True, exist_ok=True)
    record.write(folder / SPREAD)
    curves = spread_figures([one.curves for one in runs])
    figures = (seed_figure(record), *curves.values())
    files = [folder / name for name in PICTURES]
    for file, figure in zip(files, figures, strict=True):
        save_figure(figure, file)
    return SetSpread(record, as_text(seed_chapter(record)), (folder / SPREAD, *files))
