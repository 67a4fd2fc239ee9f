"""The command that writes a report on runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from hepllm.cli.options import PATH, Settings, common
from hepllm.runs import LATEST, require_run

OUTPUT_HELP = (
    "File: .md for Markdown, .txt for plain text, both without pictures; else HTML "
    "[RUN/report.html; of several RUNs, report.html]."
)


@click.command()
@click.argument("runs", nargs=-1, type=PATH, metavar="[RUN]...")
@click.option("--output", type=PATH, help=OUTPUT_HELP)
@common
def report(settings: Settings, runs: Sequence[Path], output: Path | None) -> None:
    """Write a report on a RUN [runs/latest] as one HTML page, Markdown or plain text.

    The page needs no other file and no network: results with intervals, curves, training, features,
    settings and data. Several RUNs are shown side by side, and seeds of one recipe with a band.
    """
    folders = runs or (LATEST,)
    for folder in folders:
        require_run(folder)
    from hepllm.stages.report import report as run_stage

    del settings  # used for logging only
    words = ["hepllm", "report", *map(str, folders)]
    words += ["--output", str(output)] if output else []
    page = run_stage(folders, output, shlex.join(words))
    click.echo(f"{page}: {page.stat().st_size / 1e6:.1f} MB")
