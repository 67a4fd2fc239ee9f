"""The command that averages the scores of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from hepllm.cli.options import OF_SCORING, PATH, Settings, common, print_reports
from hepllm.runs import require_run


@click.command()
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN...")
@click.option("--dataset", type=PATH, help="Events to score [the test split that the RUNs share].")
@click.option("--with", "baselines", multiple=True, metavar="NAME", help="A baseline as a member.")
@click.option("--output", type=PATH, help="Folder of the results [ensembles/<DATASET or RUN>].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@common
def ensemble(
    settings: Settings,
    runs: Sequence[Path],
    dataset: Path | None,
    baselines: Sequence[str],
    output: Path | None,
    as_json: bool,
) -> None:
    """Average the calibrated scores of several RUNs, with their spread as uncertainty.

    Baselines, such as --with boosting_extended, are fitted to the training events of the first RUN.
    Events that any RUN was trained or validated on are left out. Writes scores.parquet, which
    'hepllm search DATASET --scores' reads, and ensemble.json: the members, and with labels their
    AUC and SIC beside those of the mean, with paired intervals. A folder with this file stands for
    the same RUNs and baselines.
    """
    settings.refuse_others(OF_SCORING, "ensemble")
    from hepllm.config import load_config
    from hepllm.runs.folder import open_run
    from hepllm.stages.ensemble import average_runs, is_ensemble, read_members

    place = output or Path("ensembles") / (dataset or runs[0]).resolve().name
    if len(runs) == 1 and is_ensemble(runs[0]):
        runs, recorded = read_members(runs[0])
        baselines = baselines or recorded
    for folder in runs:
        require_run(folder)
    config = load_config(settings.file) if settings.file else open_run(runs[0]).config
    report = average_runs(
        runs, settings.on_top_of(config), place, dataset=dataset, baselines=baselines
    )
    print_reports([report], {report.name: report.record.tree()}, as_json=as_json)
