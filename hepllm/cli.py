"""The command line: parse, load the configuration, call one stage, print its result.

Heavy libraries load inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from hepllm import __version__
from hepllm.config import Config, load_config, override_config
from hepllm.errors import HepllmError
from hepllm.logs import configure_logging

Command = TypeVar("Command", bound=Callable[..., None])

_DATASET = Path("data/processed/rnd")
_RAW = Path("data/raw")
_LATEST = Path("runs/latest")

_PATH = click.Path(path_type=Path)
_WORKERS = click.IntRange(min=0)


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
        hepllm simulate                # events          -> data/raw/
        hepllm preprocess              # jets, features  -> data/processed/<source>/
        hepllm train --balance 1:1     # LoRA + NFA      -> runs/<name>/, runs/latest
        hepllm eval --blackbox         # SIC, tables     -> runs/latest/eval/<set>/
    """


@cli.command()
@click.option("--output", type=_PATH, default=_RAW, show_default=True, help="Folder of the files.")
@click.option("--rnd", type=click.IntRange(min=0), help="Labelled events; 0 makes none.")
@click.option("--blackbox", type=click.IntRange(min=0), help="Black-box events; 0 makes none.")
@click.option(
    "--signal-fraction", type=click.FloatRange(0, 1), help="Signal share of the labelled events."
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
    config = settings.load(
        simulate__rnd=rnd,
        simulate__blackbox=blackbox,
        simulate__signal_fraction=signal_fraction,
        simulate__workers=workers,
    )
    from hepllm.stages.simulate import simulate as run_stage

    for made in run_stage(config, output, overwrite=overwrite):
        click.echo(
            f"{made.path}: {made.n_events} events, {made.n_signal} signal, "
            f"{made.n_events / made.seconds:.0f} events/s"
        )


@cli.command()
@click.argument("inputs", nargs=-1, type=_PATH, metavar="[INPUT]...")
@click.option("--output", type=_PATH, help="One dataset for all inputs [data/processed/<source>].")
@click.option("--masterkey", type=_PATH, help="Labels of a black box, one a line.")
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

    INPUTs are LHC Olympics HDF5 files, or folders of them [data/raw]. A file's master key is found
    beside it under the same name with the ending .masterkey.
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
@click.argument("run", type=_PATH, default=_LATEST, metavar="[RUN]")
@click.option("--dataset", type=_PATH, help="A dataset in place of the run's own test split.")
@click.option(
    "--blackbox",
    is_flag=False,
    flag_value="",
    metavar="[FILE|DATASET]",
    help="A black box; without a value, the test split and all datasets beside the training one.",
)
@click.option("--masterkey", type=_PATH, help="Labels of the black box FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@_common
def evaluate(
    settings: Settings,
    run: Path,
    dataset: Path | None,
    blackbox: str | None,
    masterkey: Path | None,
    as_json: bool,
) -> None:
    """Score events with a RUN [runs/latest] and compare it with other classifiers.

    Without options, on the test split of the training dataset. Writes metrics.json,
    scores.parquet and pictures below RUN/eval/<set>/.
    """
    from hepllm.stages.evaluate import evaluate as run_stage
    from hepllm.stages.runs import open_run

    opened = open_run(run)
    config = settings.on_top_of(load_config(settings.file) if settings.file else opened.config)
    reports = run_stage(
        run,
        dataset=dataset,
        blackbox=Path(blackbox) if blackbox else None,
        all_blackboxes=blackbox == "",
        masterkey=masterkey,
        config=config,
    )
    if as_json:
        click.echo(json.dumps({report.name: report.metrics for report in reports}, indent=1))
        return
    for report in reports:
        click.echo(report.text)
        for file in report.files:
            click.echo(f"  {file}")
        click.echo()


def main() -> None:
    """Runs the command line; every known error becomes one line and an exit code."""
    # Threads that wait by spinning slow training down a hundredfold as soon as another process
    # wants one of the cores; OpenMP reads this when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        cli(standalone_mode=False)
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
