"""Commands that make, download, convert and show events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import click

from hepllm.cli.options import (
    PATH,
    RAW,
    SPLIT,
    WORKERS,
    Settings,
    common,
    dataset_or_only,
    default,
    path_or_none,
)
from hepllm.config.inputs import FORMATS
from hepllm.schema import FeatureSet

FETCHABLE = ("rnd", "rnd-v2", "rnd3", "features", "bb1", "bb2", "bb3")
"""Names of the public files; listed here so that ``--help`` does not import the stage."""


@click.command()
@click.option("--output", type=PATH, default=RAW, show_default=True, help="Folder of the files.")
@click.option(
    "--rnd",
    type=click.IntRange(min=0),
    help=f"Number of labelled events; 0: none {default('simulate.rnd')}.",
)
@click.option(
    "--blackbox",
    type=click.IntRange(min=0),
    help=f"Number of black-box events; 0: none {default('simulate.blackbox')}.",
)
@click.option(
    "--grid",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Events of each signal in grid.h5; 0: no file {default('simulate.grid.events')}.",
)
@click.option(
    "--signal-fraction",
    type=click.FloatRange(0, 1),
    help="Signal share of the labelled events, or of the black box if only that is made "
    f"{default('simulate.signal_fraction')}, {default('simulate.blackbox_signal_fraction')}.",
)
@click.option("--workers", type=WORKERS, help="Worker processes; 0: one per core [0].")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@common
def simulate(
    settings: Settings,
    output: Path,
    rnd: int | None,
    blackbox: int | None,
    grid: int | None,
    signal_fraction: float | None,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Make LHC-Olympics-like events with Pythia 8 and a fast detector simulation.

    Writes rnd.h5 (with labels), blackbox.h5 and blackbox.masterkey in the official layout; with
    --grid, also grid.h5 with signals of many masses and decays (simulate.grid). With
    --set simulate.rnd_signals=grid, rnd.h5 has these signals too. Files named *.points.json list
    the true masses and decays. If some of --rnd, --blackbox and --grid are given, only those files
    are made.
    """
    if any(number is not None for number in (rnd, blackbox, grid)):
        rnd, blackbox, grid = rnd or 0, blackbox or 0, grid or 0
    share = "simulate__signal_fraction" if rnd != 0 else "simulate__blackbox_signal_fraction"
    config = settings.load(
        simulate__rnd=rnd,
        simulate__blackbox=blackbox,
        simulate__grid__events=grid,
        simulate__workers=workers,
        **{share: signal_fraction},
    )
    from hepllm.stages.simulate import simulate as run_stage

    for made in run_stage(config, output, overwrite=overwrite):
        click.echo(
            f"{made.path}: {made.n_events} events, {made.n_signal} signal, "
            f"{made.n_events / made.seconds:.0f} events/s"
        )


@click.command()
@click.argument("names", nargs=-1, required=True, type=click.Choice(FETCHABLE), metavar="NAME...")
@click.option("--output", type=PATH, default=RAW, show_default=True, help="Folder of the files.")
@click.option("--mirror", help="Base URL with Zenodo's paths [https://zenodo.org].")
@click.option("--without-keys", is_flag=True, help="Do not download the labels of black boxes.")
@click.option("--overwrite", is_flag=True, help="Replace other files of the same name.")
@common
def fetch(
    settings: Settings,
    names: Sequence[str],
    output: Path,
    mirror: str | None,
    without_keys: bool,
    overwrite: bool,
) -> None:
    """Download public LHC Olympics files from Zenodo.

    NAMEs are rnd, rnd-v2 (R&D events), rnd3 (three-prong signal), features (R&D jet features), bb1,
    bb2, bb3 (black boxes with their keys). An interrupted download continues when it is run again.
    """
    from hepllm.stages.fetch import ZENODO
    from hepllm.stages.fetch import fetch as run_stage

    del settings  # used for logging only
    base_url = (mirror or ZENODO).rstrip("/")
    made = run_stage(names, output, base_url=base_url, keys=not without_keys, overwrite=overwrite)
    for file in made:
        existing = "" if file.downloaded else "existed already, "
        click.echo(f"{file.path}: {file.size / 1e6:.1f} MB, {existing}{file.verification}")


@click.command()
@click.argument("inputs", nargs=-1, type=PATH, metavar="[INPUT]...")
@click.option("--output", type=PATH, help="One dataset for all inputs [data/processed/<source>].")
@click.option(
    "--masterkey",
    type=path_or_none,
    metavar="FILE|none",
    help="Labels of a black box, one per line; 'none': ignore a key beside the file.",
)
@click.option("--format", type=click.Choice(FORMATS), help="Format of the INPUTs [from content].")
@click.option("--label", help="Column or branch of the labels; 'none': no labels [by name].")
@click.option(
    "--preset",
    type=click.Choice(["lhco", "diary"]),
    help="Jet definition [that of preprocess.jets].",
)
@click.option("--select", help="Keep events that pass, such as '3300 < m_jj < 3700' [all].")
@click.option(
    "--chunk-size",
    type=click.IntRange(min=1),
    help=f"Events per work item {default('preprocess.chunk_size')}.",
)
@click.option("--workers", type=WORKERS, help="Worker processes; 0: one per core [0].")
@click.option(
    "--executor",
    type=click.Choice(["serial", "processes", "dask"]),
    help=f"How to run {default('preprocess.executor')}.",
)
@click.option("--dask-scheduler", help="Address of a running Dask scheduler [a local cluster].")
@click.option(
    "--on-bad-event",
    type=click.Choice(["fail", "skip"]),
    help=f"Action on NaN, pT < 0, ... {default('preprocess.on_bad_event')}.",
)
@click.option("--overwrite", is_flag=True, help="Replace a dataset that exists.")
@common
def preprocess(
    settings: Settings,
    inputs: Sequence[Path],
    output: Path | None,
    masterkey: Path | Literal["none"] | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Cluster events into jets and store their features as a dataset.

    INPUTs are LHC Olympics HDF5 files, ROOT files (Delphes, NanoAOD), HepMC files (2 and 3),
    feature tables (HDF5, CSV, Parquet, NPY), or folders of them [data/raw];
    docs/how-to/read-your-files.md describes them. With --output, all files of a folder become one
    dataset.
    The master key of a file is read from the file of the same name with the suffix .masterkey,
    unless --masterkey says otherwise.
    """
    config = settings.load(**{f"preprocess__{name}": value for name, value in options.items()})
    from hepllm.stages.preprocess import preprocess as run_stage

    for made in run_stage(inputs, output, config, masterkey=masterkey, overwrite=overwrite):
        counts = made.dataset.manifest.counts["all"]
        classes = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
        click.echo(
            f"{made.dataset.folder}: {made.dataset.n_events} events ({classes}), "
            f"{made.events_per_second:.0f} events/s"
        )


@click.command()
@click.argument("dataset", type=PATH, required=False, metavar="[DATASET]")
@click.option("--split", type=SPLIT, help="Events of this split only.")
@click.option("--page", type=PATH, help="PNG file of the distributions [DATASET/features.png].")
@click.option("--no-page", is_flag=True, help="Draw nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@common
def inspect(
    settings: Settings,
    dataset: Path | None,
    split: str | None,
    page: Path | None,
    no_page: bool,
    as_json: bool,
) -> None:
    """Show the content of a DATASET [the only one, or data/processed/rnd].

    That is its counts, features and missing values.

    Draws a page of feature distributions of signal and background.
    """
    from hepllm.report.data import dataset_chapter
    from hepllm.report.text import as_text
    from hepllm.stages.inspect import PAGE, inspect_dataset

    del settings  # used for logging only
    dataset = dataset_or_only(dataset)
    page = None if no_page else page or dataset / PAGE
    found = inspect_dataset(dataset, page=page, split=split)
    if as_json:
        click.echo(json.dumps(found.tree(), indent=1))
        return
    click.echo(as_text(dataset_chapter(found, f"Dataset {dataset}", split)))
    if found.page is not None:
        click.echo(f"\n  {found.page}")


@click.command()
@click.argument("dataset", type=PATH, required=False, metavar="[DATASET]")
@click.option("--output", type=PATH, required=True, help="Folder of the files.")
@click.option("--split", type=SPLIT, help="Events of this split only.")
@click.option(
    "--style",
    type=click.Choice(["record", "completion", "messages"]),
    default="record",
    show_default=True,
    help="Content of a line.",
)
@click.option("--prompt", type=click.Choice(["compact", "full"]), help="Prompt layout [compact].")
@click.option(
    "--features",
    type=click.Choice(get_args(FeatureSet)),
    help=f"Feature set {default('train.features')}.",
)
@click.option("--overwrite", is_flag=True, help="Replace files of an earlier export.")
@common
def export(
    settings: Settings,
    dataset: Path | None,
    output: Path,
    split: str | None,
    style: Literal["record", "completion", "messages"],
    prompt: str | None,
    features: str | None,
    overwrite: bool,
) -> None:
    """Write a DATASET [the only one, or data/processed/rnd] as JSON lines for other software.

    One event per line, in signal.jsonl, background.jsonl and unknown.jsonl.
    """
    config = settings.load(prompt__layout=prompt, train__features=features)
    from hepllm.stages.export import export as run_stage

    dataset = dataset_or_only(dataset)
    made = run_stage(dataset, output, config, style=style, split=split, overwrite=overwrite)
    for file in made:
        click.echo(f"{file.path}: {file.n_events} events")
