"""The command that explains the scores of single events."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from hepllm.cli.options import OF_READING, PATH, Settings, common, hypothesis_option, print_reports
from hepllm.config import override_config
from hepllm.config.inputs import FORMATS
from hepllm.runs import LATEST, require_run

_EVENT = re.compile(r"(.+:)?\d+")
"""An event_id, perhaps with its source."""


def _run_and_events(words: Sequence[str]) -> tuple[Path, Sequence[str]]:
    """RUN, which may be left out, and EVENTs."""
    if words and (Path(words[0]).is_dir() or not _EVENT.fullmatch(words[0])):
        return Path(words[0]), words[1:]
    return LATEST, words


@click.command()
@click.argument("words", nargs=-1, metavar="[RUN] [EVENT]...")
@click.option("--input", "source", type=PATH, help="Dataset or file [dataset of the RUN].")
@click.option("--text", multiple=True, help="An event as a prompt; '-': from standard input.")
@click.option("--rows", "by_row", is_flag=True, help="EVENTs are rows of a dataset, not event ids.")
@click.option("--output", type=PATH, help="Folder of the results [RUN/explain].")
@click.option(
    "--threshold", type=float, help="Decision threshold on the score [from validation data]."
)
@click.option("--format", "form", type=click.Choice(FORMATS), help="Input format [from content].")
@click.option("--label", help="Column or branch of the labels; 'none': no labels.")
@hypothesis_option
@click.option("--prior", type=float, help="Signal fraction of the probability [training].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@common
def explain(
    settings: Settings,
    words: Sequence[str],
    source: Path | None,
    text: Sequence[str],
    by_row: bool,
    output: Path | None,
    threshold: float | None,
    form: str | None,
    label: str | None,
    hypothesis: str | None,
    prior: float | None,
    as_json: bool,
) -> None:
    """Explain the score of each EVENT by a RUN [runs/latest], and what would change the decision.

    An EVENT is an event_id of the score files, which in a file is its row, counted from 0;
    SOURCE:ID where a dataset has several sources. The folder of each event contains the attribution
    to the features, the smallest change that flips the decision, a paragraph and pictures.
    """
    run, events = _run_and_events(words)
    settings.refuse_others(OF_READING, "explain")
    if not events and not text:
        raise click.UsageError("name at least one EVENT, or give --text")
    if source is not None and not events:
        raise click.UsageError("--input needs at least one EVENT")
    require_run(run)
    from hepllm.runs.folder import open_run
    from hepllm.runs.predictor import load_predictor
    from hepllm.stages.explain import explain as run_stage
    from hepllm.stages.predict import prediction_config

    config = settings.on_top_of(
        prediction_config(open_run(run)),
        preprocess__format=form,
        preprocess__label=label,
        evaluation__prior=prior,
    )
    # The explanation is of the model; a cascade before it would hide its score.
    config = override_config(config, ["evaluation.cascade=null"])
    reports = run_stage(
        load_predictor(run, config, hypothesis),
        config,
        events,
        source=source,
        texts=[sys.stdin.read() if one == "-" else one for one in text],
        output=output,
        by_row=by_row,
        threshold=threshold,
    )
    print_reports(reports, {report.name: report.tree for report in reports}, as_json=as_json)
