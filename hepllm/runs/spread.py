"""``hepllm eval RUN RUN...``: medians and bands over several runs on the same sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hepllm.errors import InputError
from hepllm.evaluation.curves import CurvesRecord
from hepllm.evaluation.seeds import SpreadRecord, spread_over_runs
from hepllm.pictures.curves import spread_figures
from hepllm.pictures.style import save_figure
from hepllm.report.records import LabelledMetrics
from hepllm.report.sets import EvaluatedSet
from hepllm.report.tables import spread_table
from hepllm.report.text import as_text

SPREAD_FILES = ("spread.json", "spread-sic.png", "spread-roc.png")
"""Files about several runs, in the set's folder of the first run."""


@dataclass(frozen=True)
class SetSpread:
    """Several runs on one set: content of ``spread.json``, its text and all written files."""

    record: SpreadRecord
    text: str
    files: tuple[Path, ...]


def spread_of_runs(reports: Mapping[str, Sequence[EvaluatedSet]]) -> dict[str, SetSpread]:
    """Computes and writes medians and bands over runs, by name of the set.

    Args:
        reports: results of each run, by its folder; the first folder receives the files.

    Raises:
        InputError: if no set with labels is common to all runs.
    """
    by_run = [
        {
            report.name: (report.metrics, report.curves)
            for report in made
            if isinstance(report.metrics, LabelledMetrics) and report.curves is not None
        }
        for made in reports.values()
    ]
    common = [name for name in by_run[0] if all(name in sets for sets in by_run)]
    if not common:
        raise InputError(
            f"no set with labels is common to {', '.join(reports)}: there is nothing to combine"
        )
    first = Path(next(iter(reports)))
    return {
        name: _combine(name, list(reports), [sets[name] for sets in by_run], first / "eval" / name)
        for name in common
    }


def _combine(
    name: str,
    runs: Sequence[str],
    found: Sequence[tuple[LabelledMetrics, CurvesRecord]],
    folder: Path,
) -> SetSpread:
    spread = spread_over_runs([metrics for metrics, _ in found])
    figures = spread_figures([curves for _, curves in found])
    folder.mkdir(parents=True, exist_ok=True)
    numbers, *pictures = (folder / file for file in SPREAD_FILES)
    for picture, figure in zip(pictures, figures.values(), strict=True):
        save_figure(figure, picture)
    record = SpreadRecord(runs=tuple(runs), sample=name, spread=spread)
    record.write(numbers)
    text = as_text(spread_table(name, spread, len(runs)))
    return SetSpread(record, text, (numbers, *pictures))
