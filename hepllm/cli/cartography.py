"""Commands that judge events: by a training, by rules, by embeddings, and by all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from hepllm.cli.options import (
    PATH,
    WORKERS,
    Settings,
    common,
    dataset_or_only,
    print_reports,
)
from hepllm.runs import LATEST, require_run

_READ = ("cartography.",)
"""Settings that ``map`` reads."""

_READ_TO_EMBED = ("clusters.", "evaluation.batch_size", "evaluation.scoring.")


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


@click.command()
@click.argument("dataset", type=PATH, required=False, metavar="[DATASET]")
@click.option("--run", "runs", multiple=True, type=PATH, help="A mapped run whose belief counts.")
@click.option("--output", type=PATH, help="Folder of the results [flags/<DATASET>].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@common
def flag(
    settings: Settings,
    dataset: Path | None,
    runs: Sequence[Path],
    output: Path | None,
    as_json: bool,
) -> None:
    """Mark suspicious events of a DATASET [the only one, or data/processed/rnd] by rules.

    Impossible energies, m_jj that does not follow from the jets, duplicates, other units, labels
    that neighbours or mapped runs contradict, and more. Writes a side table, which train.filter
    reads, and how often each rule was broken.
    """
    settings.refuse_others(("flags.",), "flag")
    folder = dataset_or_only(dataset)
    from hepllm.stages.flag import flag_dataset

    place = output or Path("flags") / folder.resolve().name
    report = flag_dataset(folder, settings.load().flags, place, runs)
    print_reports([report], {report.name: report.record.tree()}, as_json=as_json)


@click.command()
@click.argument("run", type=PATH, metavar="RUN")
@click.argument("dataset", type=PATH, required=False, metavar="[DATASET]")
@click.option("--output", type=PATH, help="Folder of the results [RUN/embed/<DATASET>].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@common
def embed(
    settings: Settings, run: Path, dataset: Path | None, output: Path | None, as_json: bool
) -> None:
    """Embed events of a DATASET [training split of the RUN's] by a RUN, and find clusters of them.

    An embedding is the hidden state in which the RUN reads the class, joined with the mean of the
    event's soft tokens. Clusters are found in its principal components, in a sample that all other
    events join, and again in subsamples; what they are is told in physics terms. Writes side
    tables, which train.filter reads. A command that was stopped goes on.
    """
    settings.refuse_others(_READ_TO_EMBED, "embed")
    require_run(run)
    from hepllm.config import load_config
    from hepllm.runs.folder import open_run
    from hepllm.stages.embed import embed_dataset

    config = load_config(settings.file) if settings.file else open_run(run).config
    report = embed_dataset(run, settings.on_top_of(config), dataset, output)
    print_reports([report], {report.name: report.record.tree()}, as_json=as_json)


@click.command()
@click.argument("dataset", type=PATH, required=False, metavar="[DATASET]")
@click.option("--run", "runs", multiple=True, type=PATH, help="A run that knows the events.")
@click.option("--workers", type=WORKERS, help="Processes; 0: as many as pay [0].")
@click.option(
    "--output",
    type=PATH,
    help="Folder of the results [audit/<DATASET> in the first run; without one, audits/<DATASET>].",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@common
def audit(
    settings: Settings,
    dataset: Path | None,
    runs: Sequence[Path],
    workers: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Join all that is known of the events of a DATASET [of the first run] into one table.

    Features, rules, what each --run believed of the labels (train --dynamics), its clusters (hepllm
    embed) and scores, and a boosting that judges labels that it was not trained on. Writes a row
    per event, how the methods agree, and a review list: the events that are worth a look first.
    """
    settings.refuse_others(("audit.", "flags."), "audit")
    folder = dataset if dataset is not None or runs else dataset_or_only(dataset)
    from hepllm.stages.audit import audit_dataset

    report = audit_dataset(folder, runs, settings.load(audit__workers=workers), output)
    print_reports([report], {report.name: report.record.tree()}, as_json=as_json)
