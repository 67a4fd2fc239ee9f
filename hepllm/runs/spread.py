"""``hepllm eval RUN RUN...``: what several runs have found on the same sets."""

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
"""What several runs leave in the folder of a set of the first of them."""


@dataclass(frozen=True)
class SetSpread:
    """Several runs on one set.

    Attributes:
        record: the content of ``spread.json``.
        text: the same for a person.
        files: what was written.
    """

    record: SpreadRecord
    text: str
    files: tuple[Path, ...]


def spread_of_runs(reports: Mapping[str, Sequence[EvaluatedSet]]) -> dict[str, SetSpread]:
    """Medians and bands over runs, by name of the set; written beside the first run's results.

    Args:
        reports: of each run, by its folder.

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
            f"no set with labels is common to {', '.join(reports)}: nothing to put together"
        )
    first = Path(next(iter(reports)))
    return {
        name: _put_together(
            name, list(reports), [sets[name] for sets in by_run], first / "eval" / name
        )
        for name in common
    }


def _put_together(
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
