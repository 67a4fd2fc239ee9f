"""The command that joins several runs to one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from hepllm.cli.options import OF_SCORING, PATH, Settings, common, print_reports
from hepllm.runs import require_run


@click.command()
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN...")
@click.option("--with", "baselines", multiple=True, metavar="NAME", help="A baseline as a member.")
@click.option("--only-with", is_flag=True, help="Take the baselines of the RUN, and not itself.")
@click.option("--output", type=PATH, help="Folder of the ensemble [ensembles/<first RUN>].")
@click.option("--overwrite", is_flag=True, help="Replace an ensemble that exists.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@common
def ensemble(
    settings: Settings,
    runs: Sequence[Path],
    baselines: Sequence[str],
    only_with: bool,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Join several RUNs to one, whose score is the mean of their calibrated logits.

    The ensemble is a run folder: 'hepllm eval', 'predict', 'search' and 'report' take it as any
    RUN, and tables of its scores have the spread of the members as uncertainty. Members may be
    seeds or architectures, and baselines that are fitted to the training events of the first RUN:
    --with boosting_extended --with particles. Events that any member was trained or validated on
    are left out of evaluations. The RUNs must stay where they are, relative to the ensemble.
    """
    settings.refuse_others(OF_SCORING, "ensemble")
    for folder in runs:
        require_run(folder)
    from hepllm.config import load_config
    from hepllm.runs.folder import open_run
    from hepllm.stages.ensemble import make_ensemble

    config = load_config(settings.file) if settings.file else open_run(runs[0]).config
    report = make_ensemble(
        runs,
        settings.on_top_of(config),
        output or Path("ensembles") / runs[0].resolve().name,
        baselines=baselines,
        with_runs=not only_with,
        overwrite=overwrite,
    )
    print_reports([report], {report.name: report.record.tree()}, as_json=as_json)
