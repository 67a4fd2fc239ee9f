"""The command line: parse, load the configuration, call one stage, print its result.

Heavy libraries load inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from hepllm import __version__
from hepllm.config import Config, load_config, override_config
from hepllm.errors import HepllmError, StoppedError
from hepllm.inputs import FORMATS
from hepllm.logs import configure_logging

Command = TypeVar("Command", bound=Callable[..., None])

_DATASET = Path("data/processed/rnd")
_RAW = Path("data/raw")
_LATEST = Path("runs/latest")

_PATH = click.Path(path_type=Path)
_WORKERS = click.IntRange(min=0)
_SPLIT = click.Choice(["train", "val", "test"])

FETCHABLE = ("rnd", "rnd-v2", "rnd3", "features", "bb1", "bb2", "bb3")
"""Names of the public files; listed here so that ``--help`` need not load the stage."""


@dataclass(frozen=True)
class Settings:
    """Options that every command takes.

    Attributes:
        file: the configuration file, if one was given.
        overrides: what ``--set``, ``--seed`` and the command's own options change.
    """

    file: Path | None
    overrides: tuple[str, ...]

    def load(self, **options: Any) -> Config:
        """The configuration with the command's own options on top, where they were given.

        Args:
            options: values by dotted path, with ``__`` for the dot; None was not given.
        """
        return load_config(self.file, [*self.overrides, *_as_overrides(options)])

    def on_top_of(self, config: Config) -> Config:
        """Another configuration with ``--set`` and ``--seed`` applied."""
        return override_config(config, self.overrides)


def _as_overrides(options: dict[str, Any]) -> list[str]:
    return [
        f"{path.replace('__', '.')}={json.dumps(value)}"
        for path, value in options.items()
        if value is not None
    ]


def _common(command: Command) -> Command:
    """Adds the options that every command takes, and hands them over as ``settings``."""

    @click.option("--config", "file", type=_PATH, help="YAML configuration of all stages.")
    @click.option(
        "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Change one setting."
    )
    @click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of everything random.")
    @click.option("-v", "--verbose", count=True, help="Tell more.")
    @click.option("-q", "--quiet", is_flag=True, help="Tell only warnings.")
    @wraps(command)
    def with_settings(
        *args: Any,
        file: Path | None,
        overrides: Sequence[str],
        seed: int | None,
        verbose: int,
        quiet: bool,
        **options: Any,
    ) -> None:
        configure_logging(-1 if quiet else verbose)
        chosen = (*overrides, *_as_overrides({"seed": seed}))
        command(*args, settings=Settings(file, chosen), **options)

    return with_settings  # type: ignore[return-value]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="hepllm")
def cli() -> None:
    """Classify collider events with a language model that also sees exact numbers.

    The whole job, in an empty folder:

    \b
        hepllm simulate                # events          -> data/raw/   (or: hepllm fetch rnd bb1)
        hepllm preprocess              # jets, features  -> data/processed/<source>/
        hepllm train --balance 1:1     # LoRA + NFA      -> runs/<name>/, runs/latest
        hepllm eval --blackbox         # SIC, tables     -> runs/latest/eval/<set>/
    """  # noqa: D301 (click takes the control character for "do not reflow")


@cli.command()
@click.option("--output", type=_PATH, default=_RAW, show_default=True, help="Folder of the files.")
@click.option("--rnd", type=click.IntRange(min=0), help="Labelled events; 0 makes none.")
@click.option("--blackbox", type=click.IntRange(min=0), help="Black-box events; 0 makes none.")
@click.option(
    "--signal-fraction",
    type=click.FloatRange(0, 1),
    help="Signal share of the labelled events; of the black box where only that is made.",
)
@click.option("--workers", type=_WORKERS, help="Processes; 0 takes one a core.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@_common
def simulate(
    settings: Settings,
    output: Path,
    rnd: int | None,
    blackbox: int | None,
    signal_fraction: float | None,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Make LHC-Olympics-like events with Pythia 8 and a fast detector simulation.

    Writes rnd.h5 (with labels), blackbox.h5 and blackbox.masterkey in the official layout. If only
    one of --rnd and --blackbox is given, only that file is made.
    """
    if (rnd is None) != (blackbox is None):
        rnd, blackbox = rnd or 0, blackbox or 0
    share = "simulate__signal_fraction" if rnd != 0 else "simulate__blackbox_signal_fraction"
    config = settings.load(
        simulate__rnd=rnd,
        simulate__blackbox=blackbox,
        simulate__workers=workers,
        **{share: signal_fraction},
    )
    from hepllm.stages.simulate import simulate as run_stage

    for made in run_stage(config, output, overwrite=overwrite):
        click.echo(
            f"{made.path}: {made.n_events} events, {made.n_signal} signal, "
            f"{made.n_events / made.seconds:.0f} events/s"
        )


@cli.command()
@click.argument("names", nargs=-1, required=True, type=click.Choice(FETCHABLE), metavar="NAME...")
@click.option("--output", type=_PATH, default=_RAW, show_default=True, help="Folder of the files.")
@click.option("--mirror", help="Base URL with Zenodo's paths [https://zenodo.org].")
@click.option("--without-keys", is_flag=True, help="Leave the labels of black boxes out.")
@click.option("--overwrite", is_flag=True, help="Replace other files of the same name.")
@_common
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
    bb2, bb3 (black boxes with their keys). A download that was cut goes on when it is run again.
    """
    from hepllm.stages.fetch import ZENODO
    from hepllm.stages.fetch import fetch as run_stage

    del settings  # logging is all that it sets here
    base_url = (mirror or ZENODO).rstrip("/")
    made = run_stage(names, output, base_url=base_url, keys=not without_keys, overwrite=overwrite)
    for file in made:
        there = "" if file.downloaded else "there already, "
        click.echo(f"{file.path}: {file.size / 1e6:.1f} MB, {there}{file.verification}")


@cli.command()
@click.argument("inputs", nargs=-1, type=_PATH, metavar="[INPUT]...")
@click.option("--output", type=_PATH, help="One dataset for all inputs [data/processed/<source>].")
@click.option("--masterkey", type=_PATH, help="Labels of a black box, one a line.")
@click.option("--format", type=click.Choice(FORMATS), help="Of the INPUTs [found out].")
@click.option("--label", help="Column or branch of the labels; 'none' ignores it.")
@click.option("--preset", type=click.Choice(["lhco", "diary"]), help="Jet definition.")
@click.option("--select", help="Keep events that pass, such as '3300 < m_jj < 3700'.")
@click.option("--chunk-size", type=click.IntRange(min=1), help="Events a work item.")
@click.option("--workers", type=_WORKERS, help="Processes; 0 takes one a core.")
@click.option("--executor", type=click.Choice(["serial", "processes", "dask"]), help="How to run.")
@click.option("--dask-scheduler", help="Address of a running Dask scheduler.")
@click.option(
    "--on-bad-event", type=click.Choice(["fail", "skip"]), help="What to do about NaN, pT < 0, ..."
)
@click.option("--overwrite", is_flag=True, help="Replace a dataset that exists.")
@_common
def preprocess(
    settings: Settings,
    inputs: Sequence[Path],
    output: Path | None,
    masterkey: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Cluster events into jets and store their features as a dataset.

    INPUTs are LHC Olympics HDF5 files, ROOT files (Delphes, NanoAOD), feature tables (HDF5, CSV,
    Parquet, NPY), or folders of them [data/raw]; docs/inputs.md tells about each. A file's master
    key is found beside it under the same name with the ending .masterkey.
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


@cli.command()
@click.argument("dataset", type=_PATH, default=_DATASET, metavar="[DATASET]")
@click.option("--output", type=_PATH, help="Run folder [runs/<name of the configuration>].")
@click.option("--balance", help="Signal to background in training: 1:1, 1:10, ... or natural.")
@click.option("--fusion", type=click.Choice(["on", "off"]), help="Numeric fusion adapter.")
@click.option("--prompt", type=click.Choice(["minimal", "compact", "full"]), help="Prompt layout.")
@click.option("--resume", is_flag=True, help="Go on with the run in --output.")
@click.option("--overwrite", is_flag=True, help="Replace a run that exists.")
@_common
def train(
    settings: Settings,
    dataset: Path,
    output: Path | None,
    balance: str | None,
    fusion: str | None,
    prompt: str | None,
    resume: bool,
    overwrite: bool,
) -> None:
    """Train the language model and its adapter on a DATASET [data/processed/rnd].

    Watch it with: tensorboard --logdir runs
    """
    options = {
        "train__balance": balance,
        "fusion__enabled": None if fusion is None else fusion == "on",
        "prompt__layout": prompt,
    }
    if resume:
        from hepllm.stages.train import resume as go_on

        done = go_on(output or _LATEST, [*settings.overrides, *_as_overrides(options)])
    else:
        config = settings.load(**options)
        from hepllm.stages.train import train as run_stage

        folder = output or Path("runs") / config.name
        done = run_stage(dataset, folder, config, overwrite=overwrite)
    best = done.result.best
    click.echo(
        f"{done.folder}: {done.result.steps} steps in {done.seconds:.0f} s, "
        f"validation AUC {best['auc']:.4f}, accuracy {best['accuracy']:.3f}"
    )


@cli.command(name="eval")
@click.argument("runs", nargs=-1, type=_PATH, metavar="[RUN]...")
@click.option("--dataset", type=_PATH, help="A dataset in place of the run's own test split.")
@click.option(
    "--blackbox",
    is_flag=False,
    flag_value="",
    metavar="[FILE|DATASET]",
    help="A black box; without a value, the test split and all datasets beside the training one.",
)
@click.option("--masterkey", type=_PATH, help="Labels of the black box FILE.")
@click.option(
    "--compare",
    multiple=True,
    type=_PATH,
    metavar="RUN",
    help="A run of the same dataset, features and balance, trained on text or numbers only.",
)
@click.option("--stack", is_flag=True, default=None, help="Combine the model and the boosting.")
@click.option("--prior", help="Signal fraction of the probabilities, or 'estimate' [training].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@_common
def evaluate(
    settings: Settings,
    runs: Sequence[Path],
    dataset: Path | None,
    blackbox: str | None,
    masterkey: Path | None,
    compare: Sequence[Path],
    stack: bool | None,
    prior: str | None,
    as_json: bool,
) -> None:
    """Score events with a RUN [runs/latest] and compare it with other classifiers.

    Without options, on the test split of the training dataset. Writes metrics.json,
    scores.parquet and pictures below RUN/eval/<set>/. Several RUNs, such as seeds of one recipe,
    are evaluated one after another; then the median and the 16-84 % band over them are told.
    """
    from hepllm.stages.evaluate import evaluate as run_stage
    from hepllm.stages.runs import open_run

    options = _as_overrides({"evaluation__stack": stack})
    options += [f"evaluation.prior={prior}"] if prior is not None else []
    found = {}
    for run in runs or (_LATEST,):
        opened = open_run(run)
        config = settings.on_top_of(load_config(settings.file) if settings.file else opened.config)
        found[str(run)] = run_stage(
            run,
            dataset=dataset,
            blackbox=Path(blackbox) if blackbox else None,
            all_blackboxes=blackbox == "",
            masterkey=masterkey,
            compare=compare,
            config=override_config(config, options),
        )
    if len(found) > 1:
        _tell_spread(found, as_json)
        return
    (reports,) = found.values()
    if as_json:
        click.echo(json.dumps({report.name: report.metrics for report in reports}, indent=1))
        return
    for report in reports:
        click.echo(report.text)
        for file in report.files:
            click.echo(f"  {file}")
        click.echo()


def _tell_spread(found: Mapping[str, Sequence[Any]], as_json: bool) -> None:
    """Prints several runs together."""
    from hepllm.stages.spread import spread_of_runs

    spreads = spread_of_runs(found)
    if as_json:
        runs = {run: {one.name: one.metrics for one in made} for run, made in found.items()}
        tree = {name: spread.tree for name, spread in spreads.items()}
        click.echo(json.dumps({"runs": runs, "spread": tree}, indent=1))
        return
    for spread in spreads.values():
        click.echo(f"{spread.text}\n")


@cli.command()
@click.argument("run", type=_PATH)
@click.argument("source", type=_PATH, required=False, metavar="[INPUT]")
@click.option("--output", type=_PATH, help="File of the scores: .parquet, .csv or .root.")
@click.option("--text", multiple=True, help="An event as a prompt, not INPUT; '-' reads it.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Of the INPUT [found out].")
@click.option("--label", help="Column or branch of the labels; 'none' ignores it.")
@click.option("--prior", help="Signal fraction of the probabilities, or 'estimate' [training].")
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@_common
def predict(
    settings: Settings,
    run: Path,
    source: Path | None,
    output: Path | None,
    text: Sequence[str],
    form: str | None,
    label: str | None,
    prior: str | None,
    overwrite: bool,
) -> None:
    """Score every event of an INPUT with a RUN and write the scores to a file.

    INPUT is an event file or a feature table as preprocess takes it, or a dataset; events are
    clustered as those that the RUN was trained on. A run that was stopped goes on where it was when
    it is started again.
    """
    if bool(text) == (source is not None) or (source is None) != (output is None):
        msg = "give INPUT and --output, or --text alone"
        raise click.UsageError(msg)
    from hepllm.stages.predict import predict as run_stage
    from hepllm.stages.predict import predict_texts, prediction_config
    from hepllm.stages.predictor import load_predictor
    from hepllm.stages.runs import open_run

    options = _as_overrides({"preprocess__format": form, "preprocess__label": label})
    options += [f"evaluation.prior={prior}"] if prior is not None else []
    config = override_config(settings.on_top_of(prediction_config(open_run(run))), options)
    predictor = load_predictor(run, config)
    if source is None or output is None:
        texts = [sys.stdin.read() if one == "-" else one for one in text]
        for score, probability in predict_texts(predictor, texts, config):
            click.echo(f"score {score:.4f}, probability {probability:.4g}")
        return
    made = run_stage(predictor, source, output, config, overwrite=overwrite)
    click.echo(
        f"{made.path}: {made.n_events} events, {made.n_scored / made.seconds:.0f} events/s, "
        f"probability: {made.prior}"
    )


@cli.command()
@click.argument("dataset", type=_PATH, default=_DATASET, metavar="[DATASET]")
@click.option("--split", type=_SPLIT, help="Events of this split only.")
@click.option("--page", type=_PATH, help="PNG of the distributions [DATASET/features.png].")
@click.option("--no-page", is_flag=True, help="Draw nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@_common
def inspect(
    settings: Settings,
    dataset: Path,
    split: str | None,
    page: Path | None,
    no_page: bool,
    as_json: bool,
) -> None:
    """Tell what is in a DATASET [data/processed/rnd]: counts, features, what is missing.

    Draws a page of feature distributions, signal against background.
    """
    from hepllm.stages.inspect import PAGE, inspect_dataset

    del settings  # logging is all that it sets here
    page = None if no_page else page or dataset / PAGE
    found = inspect_dataset(dataset, page=page, split=split)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=1))
        return
    click.echo(found.as_text())
    if page is not None:
        click.echo(f"\n  {page}")


@cli.command()
@click.argument("dataset", type=_PATH, default=_DATASET, metavar="[DATASET]")
@click.option("--output", type=_PATH, required=True, help="Folder of the files.")
@click.option("--split", type=_SPLIT, help="Events of this split only.")
@click.option(
    "--style",
    type=click.Choice(["record", "completion", "messages"]),
    default="record",
    show_default=True,
    help="What a line holds.",
)
@click.option("--prompt", type=click.Choice(["compact", "full"]), help="Prompt layout.")
@click.option("--features", type=click.Choice(["search", "all", "cathode"]), help="The numbers.")
@click.option("--overwrite", is_flag=True, help="Replace files of an earlier export.")
@_common
def export(
    settings: Settings,
    dataset: Path,
    output: Path,
    split: str | None,
    style: Literal["record", "completion", "messages"],
    prompt: str | None,
    features: str | None,
    overwrite: bool,
) -> None:
    """Write a DATASET [data/processed/rnd] as JSON lines for other tool chains.

    One event a line, in signal.jsonl, background.jsonl and unknown.jsonl.
    """
    config = settings.load(prompt__layout=prompt, train__features=features)
    from hepllm.stages.export import export as run_stage

    made = run_stage(dataset, output, config, style=style, split=split, overwrite=overwrite)
    for file in made:
        click.echo(f"{file.path}: {file.n_events} events")


def main() -> None:
    """Runs the command line; every known error becomes one line and an exit code."""
    # Threads that wait by spinning slow training down a hundredfold as soon as another process
    # wants one of the cores; OpenMP reads this when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        cli(standalone_mode=False)
    except StoppedError as stop:
        click.echo(f"hepllm: {stop}", err=True)
        sys.exit(stop.exit_code)
    except HepllmError as error:
        click.echo(f"hepllm: error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        click.echo("hepllm: interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)


if __name__ == "__main__":
    main()
