"""The command that labels events without labels."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from hepllm.cli.options import (
    PATH,
    SPLIT,
    Settings,
    common,
    dataset_or_only,
    default,
    hypothesis_option,
    print_reports,
)
from hepllm.config import LabelMethod


@click.command()
@click.argument("dataset", type=PATH, required=False, metavar="[DATASET]")
@click.option("--output", type=PATH, help="Table, .parquet or .csv [labels/<DATASET>.parquet].")
@click.option(
    "--method",
    type=click.Choice(get_args(LabelMethod)),
    help=f"How labels are found {default('label.method')}.",
)
@click.option(
    "--backend",
    metavar="local|RUN|URL",
    help="Backbone, run folder, or OpenAI-compatible server such as http://127.0.0.1:8000/v1.",
)
@click.option("--pool", type=int, help=f"Events to label {default('label.pool')}.")
@click.option("--split", type=SPLIT, help="Split to draw them from [all events].")
@click.option("--budget", type=int, help=f"Most predictions {default('label.budget')}.")
@hypothesis_option
@click.option("--serial", is_flag=True, default=None, help="One prediction at a time, to debug.")
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@common
def label(
    settings: Settings,
    dataset: Path | None,
    output: Path | None,
    method: str | None,
    backend: str | None,
    pool: int | None,
    split: str | None,
    budget: int | None,
    hypothesis: str | None,
    serial: bool | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Label events of a DATASET [the only one] by what a language model finds coherent.

    No label of the dataset is used. The table has label, soft_label and log_odds for each
    event_digest; where the dataset has labels, the accuracy is told afterwards. A command that was
    stopped continues when it is run again.
    """
    config = settings.load(
        label__method=method,
        label__backend=backend,
        label__pool=pool,
        label__split=split,
        label__budget=budget,
        label__serial=serial,
    )
    folder = dataset_or_only(dataset)
    output = output or Path("labels") / f"{folder.resolve().name}.parquet"
    from hepllm.stages.label import label as run_stage

    report = run_stage(folder, config, output, hypothesis=hypothesis, overwrite=overwrite)
    print_reports([report], report.tree(), as_json=as_json)
