"""``hepllm eval RUN RUN...``: what several runs have found on the same sets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hepllm.errors import InputError
from hepllm.evaluation.curves import curves_of
from hepllm.evaluation.seeds import format_spread, spread_over_runs
from hepllm.files import write_text
from hepllm.pictures.curves import spread_figures
from hepllm.pictures.style import save_figure
from hepllm.runs.set_report import SetReport

SPREAD_FILES = ("spread.json", "spread-sic.png", "spread-roc.png")
"""What several runs leave in the folder of a set of the first of them."""


@dataclass(frozen=True)
class SetSpread:
    """Several runs on one set.

    Attributes:
        tree: median, 16th and 84th percentile by classifier and metric.
        text: the same for a person.
        files: what was written.
    """

    tree: dict[str, Any]
    text: str
    files: tuple[Path, ...] = ()


def spread_of_runs(reports: Mapping[str, Sequence[SetReport]]) -> dict[str, SetSpread]:
    """Medians and bands over runs, by name of the set; written beside the first run's results.

    Args:
        reports: of each run, by its folder.

    Raises:
        InputError: if no set with labels is common to all runs.
    """
    by_run = [
        {report.name: report for report in made if report.results is not None}
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
    name: str, runs: Sequence[str], reports: Sequence[SetReport], folder: Path
) -> SetSpread:
    found = spread_over_runs([report.metrics for report in reports])
    tree = {
        who: {metric: asdict(value) for metric, value in metrics.items()}
        for who, metrics in found.items()
    }
    figures = spread_figures([curves_of(one.results) for one in reports if one.results])
    folder.mkdir(parents=True, exist_ok=True)
    numbers, *pictures = (folder / file for file in SPREAD_FILES)
    for picture, figure in zip(pictures, figures.values(), strict=True):
        save_figure(figure, picture)
    content = {"runs": list(runs), "sample": name, "spread": tree}
    write_text(numbers, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return SetSpread(tree, format_spread(name, len(runs), found), (numbers, *pictures))
