"""``hepllm eval RUN RUN...``: what several runs have found on the same sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hepllm.errors import InputError
from hepllm.evaluation.seeds import format_spread, spread_over_runs
from hepllm.stages.evaluate import SetReport


@dataclass(frozen=True)
class SetSpread:
    """Several runs on one set.

    Attributes:
        tree: median, 16th and 84th percentile by classifier and metric.
        text: the same for a person.
    """

    tree: dict[str, Any]
    text: str


def spread_of_runs(reports: Mapping[str, Sequence[SetReport]]) -> dict[str, SetSpread]:
    """Medians and bands over runs, by name of the set.

    Args:
        reports: of each run, by its name.

    Raises:
        InputError: if no set with labels is common to all runs.
    """
    by_run = [
        {report.name: report.metrics for report in made if report.results is not None}
        for made in reports.values()
    ]
    common = [name for name in by_run[0] if all(name in sets for sets in by_run)]
    if not common:
        msg = f"no set with labels is common to {', '.join(reports)}: nothing to put together"
        raise InputError(msg)
    spreads = {}
    for name in common:
        found = spread_over_runs([sets[name] for sets in by_run])
        tree = {
            who: {metric: asdict(value) for metric, value in metrics.items()}
            for who, metrics in found.items()
        }
        spreads[name] = SetSpread(tree, format_spread(name, len(by_run), found))
    return spreads
