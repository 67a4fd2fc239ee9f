"""Prints metrics.json files as one Markdown table, for docs/results/.

python tools/docs/results_table.py build/demo/runs/*/eval/*/metrics.json
"""

from __future__ import annotations

from pathlib import Path

import click

from hepllm.errors import InputError
from hepllm.report.cells import (
    COLUMNS,
    IN_SAMPLE_HEADS,
    difference_cell,
    in_sample_cells,
    score_cell,
)
from hepllm.report.markdown import as_markdown
from hepllm.report.page import Cell, Group, Row, Table
from hepllm.report.records import LabelledMetrics, SetMetrics
from hepllm.report.tables import events_text

_SHOWN = ("auc", "sic_at_0.3", "sic_at_0.5", "max_sic")
_NO_CELLS = (Cell(),) * len(IN_SAMPLE_HEADS)


def results_table(files: tuple[Path, ...]) -> Table:
    """Every classifier of every set with labels.

    Raises:
        InputError: if a file cannot be read.
    """
    found = [SetMetrics.read(file, "evaluate again with: hepllm eval RUN") for file in files]
    return Table(
        caption="Results",
        heads=("classifier", *(COLUMNS[key].head for key in _SHOWN), *IN_SAMPLE_HEADS),
        groups=[_group(metrics) for metrics in found if isinstance(metrics, LabelledMetrics)],
    )


def _group(metrics: LabelledMetrics) -> Group:
    rows = [
        Row(name, [*(score_cell(score, key) for key in _SHOWN), *in_sample_cells(score)])
        for name, score in metrics.classifiers.items()
    ]
    rows += [
        Row(
            pair.difference,
            [
                *(difference_cell(pair.metrics[key], COLUMNS[key].digits) for key in _SHOWN),
                *_NO_CELLS,
            ],
        )
        for pair in (metrics.paired[name] for name in metrics.baselines)
    ]
    return Group(f"{metrics.run} on {metrics.sample}: {events_text(metrics)}", rows)


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
def main(files: tuple[Path, ...]) -> None:
    """Prints the metrics.json FILES as one Markdown table."""
    try:
        click.echo(as_markdown(results_table(files)))
    except InputError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
