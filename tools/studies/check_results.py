"""Holds a metrics.json against what a release must reach; exit code 1 if it does not.

python tools/studies/check_results.py runs/demo/eval/rnd-test/metrics.json   # in pipelines/demo.sh

The language model may lie at most a little below the boosting beside it, and must fall when the
numbers that its adapter gets are exchanged between events.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click


def failures(
    metrics: dict[str, Any],
    *,
    max_below: float,
    min_low: float,
    min_nfa_drop: float | None,
    min_boosting_auc: float | None,
) -> Iterator[str]:
    """What falls short, in words."""
    boosting = metrics["baselines"]["boosting"]["auc"]
    paired = metrics["paired"]["boosting"]["auc"]
    if paired["estimate"] < -max_below:
        yield f"AUC is {-paired['estimate']:.4f} below the boosting's; at most {max_below} allowed"
    if paired["low"] <= min_low:
        yield f"the lower bound of that difference is {paired['low']:.4f}, not above {min_low}"
    if min_boosting_auc is not None and boosting < min_boosting_auc:
        yield f"the boosting's AUC is {boosting:.4f}, below {min_boosting_auc}"
    if min_nfa_drop is not None:
        drop = metrics["auc"] - metrics["ablation"]["nfa_permuted"]["auc"]
        if drop < min_nfa_drop:
            yield f"permuting the numbers lowers the AUC by {drop:.4f} only, not {min_nfa_drop}"


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--max-below-boosting", default=0.02, show_default=True)
@click.option("--min-lower-bound", default=-0.04, show_default=True)
@click.option("--min-nfa-drop", type=float, help="Fall of the AUC with permuted numbers.")
@click.option("--min-boosting-auc", type=float, help="On this very set.")
def main(
    file: Path,
    max_below_boosting: float,
    min_lower_bound: float,
    min_nfa_drop: float | None,
    min_boosting_auc: float | None,
) -> None:
    """Checks FILE, a metrics.json."""
    metrics = json.loads(file.read_text(encoding="utf-8"))
    found = list(
        failures(
            metrics,
            max_below=max_below_boosting,
            min_low=min_lower_bound,
            min_nfa_drop=min_nfa_drop,
            min_boosting_auc=min_boosting_auc,
        )
    )
    for failure in found:
        click.echo(f"{file}: {failure}", err=True)
    if found:
        sys.exit(1)
    click.echo(f"{file}: as good as it must be")


if __name__ == "__main__":
    main()
