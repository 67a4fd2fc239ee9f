"""The command that maps what a training believed of its events."""

from __future__ import annotations

from pathlib import Path

import click

from hepllm.cli.options import PATH, Settings, common, print_reports
from hepllm.runs import LATEST, require_run

_READ = ("cartography.",)
"""Settings that ``map`` reads."""


@click.command(name="map")
@click.argument("run", type=PATH, required=False, metavar="[RUN]")
@click.option("--output", type=PATH, help="Folder of the results [RUN/map].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@common
def map_events(settings: Settings, run: Path | None, output: Path | None, as_json: bool) -> None:
    """Map the training events of a RUN [runs/latest]: which are easy, ambiguous or hard to learn.

    The RUN was trained with --dynamics. Writes confidence, variability, correctness, forgetting and
    the area under the margin of each event (map.parquet, map.csv), what each category is in physics
    terms, a JSON file for each epoch, the data map and event displays to RUN/map/.
    """
    folder = run or LATEST
    settings.refuse_others(_READ, "map")
    require_run(folder)
    from hepllm.config import load_config
    from hepllm.runs.folder import open_run
    from hepllm.stages.map import map_run

    config = load_config(settings.file) if settings.file else open_run(folder).config
    report = map_run(folder, settings.on_top_of(config).cartography, output)
    print_reports([report], {report.name: report.record.tree()}, as_json=as_json)
