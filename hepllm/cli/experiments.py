"""Commands that plan, run and analyse suites of experiments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hepllm.cli.options import PATH, Command, Settings, common, print_reports
from hepllm.config.presets import suite_files


def _of_a_suite(command: Command) -> Command:
    """Adds the options that name a suite and change it."""
    for option in (
        click.option("--output", type=PATH, help="Folder of the results [experiments/<name>]."),
        click.option(
            "--seeds", type=click.IntRange(min=1), help="Seeds 1 to this number [the suite's]."
        ),
        click.option(
            "--dataset", "datasets", multiple=True, help="Dataset to train on [the suite's]."
        ),
        click.argument("source", metavar="SUITE"),
    ):
        command = option(command)
    return command


_jobs = click.option(
    "--jobs", type=click.IntRange(min=1), default=1, help="Experiments at once [1]."
)


@click.group(invoke_without_command=False)
def experiments() -> None:
    """Train recipes with several seeds each, and tell their differences from chance.

    \b
        hepllm experiments plan SUITE      # what would run, and how long it takes
        hepllm experiments run SUITE       # trains, evaluates and compares; goes on when stopped
        hepllm experiments analyze SUITE   # tables and pictures of what is done

    SUITE is a YAML file, a suite of the package, or the folder of the results of one.
    """  # noqa: D301 (click: \b means "do not wrap this paragraph")


experiments.epilog = f"Suites of the package: {', '.join(suite_files())}."


@experiments.command(name="plan")
@_of_a_suite
@_jobs
@click.option("--like", type=PATH, metavar="RUN", help="Run whose speed tells the first times.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@common
def plan(
    settings: Settings, source: str, output: Path | None, like: Path | None, **options: Any
) -> None:
    """Tell which experiments a SUITE has, which are done, and how long the others take."""
    jobs, as_json = options.pop("jobs"), options.pop("as_json")
    suite, folder = _load(settings, source, output, **options)
    from hepllm.stages.experiments import plan as make_plan

    found = make_plan(suite, folder, like)
    if as_json:
        import json

        click.echo(json.dumps(found.tree(jobs), indent=1))
        return
    click.echo(found.text(jobs))


@experiments.command(name="run", context_settings={"ignore_unknown_options": False})
@_of_a_suite
@click.argument("engine", nargs=-1, type=click.UNPROCESSED, metavar="[-- SNAKEMAKE OPTIONS]")
@_jobs
@common
def run(
    settings: Settings,
    source: str,
    engine: Sequence[str],
    output: Path | None,
    jobs: int,
    **options: Any,
) -> None:
    """Do the experiments of a SUITE that are not done, with Snakemake, and compare them.

    The same command goes on with a suite that was stopped or killed. When an experiment fails, the
    others go on, and the command ends with exit code 1. On a cluster:

    \b
        hepllm experiments run SUITE --jobs 50 -- --executor slurm --default-resources mem_mb=8000
    """  # noqa: D301 (click: \b means "do not wrap this paragraph")
    suite, folder = _load(settings, source, output, **options)
    from hepllm.stages.experiments import failure_of
    from hepllm.stages.experiments import run as run_suite

    report = run_suite(suite, folder, jobs=jobs, options=engine)
    print_reports([report], {}, as_json=False)
    failure = failure_of(report, folder)
    if failure is not None:
        raise failure


@experiments.command(name="analyze")
@click.argument("source", metavar="SUITE|FOLDER")
@click.option("--output", type=PATH, help="Folder of the results [experiments/<name>].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@common
def analyze(settings: Settings, source: str, output: Path | None, as_json: bool) -> None:
    """Write tables and pictures of what is done of a SUITE: means, intervals, paired tests.

    Writes table.csv, table.md, table.html and pictures to the folder of the results. Experiments
    that failed or did not run are shown as that.
    """
    if settings.overrides or settings.file:
        raise click.UsageError("an analysis shows what was run; it takes no settings")
    from hepllm.config.suites import load_suite
    from hepllm.runs.suites import SUITE
    from hepllm.stages.experiments import analyze as run_stage
    from hepllm.stages.experiments import folder_of

    folder = Path(source)
    if not (folder / SUITE).is_file():
        folder = folder_of(source, output, load_suite(source).name)
    report = run_stage(folder)
    print_reports([report], {report.name: report.record.tree()}, as_json=as_json)


@experiments.command(name="one", hidden=True)
@click.argument("place", type=PATH)
@common
def one(settings: Settings, place: Path) -> None:
    """Do the experiment whose folder is PLACE, as the Snakefile of a suite asks for."""
    del settings  # used for logging only
    from hepllm.runs.experiment import do_experiment

    done = do_experiment(place)
    click.echo(f"{place}: done in {done.seconds:.0f} s")


def _load(
    settings: Settings,
    source: str,
    output: Path | None,
    datasets: Sequence[str],
    seeds: int | None,
) -> tuple[Any, Path]:
    """The suite with the changes of the command line, and its folder."""
    if any(change.startswith("seed=") for change in settings.overrides):
        raise click.UsageError("a suite has several seeds: give --seeds NUMBER")
    from hepllm.config.suites import load_suite
    from hepllm.runs.suites import SUITE
    from hepllm.stages.experiments import folder_of

    is_folder = (Path(source) / SUITE).is_file()
    suite = load_suite(
        str(Path(source) / SUITE) if is_folder else source,
        config=None if settings.file is None else str(settings.file),
        overrides=settings.overrides,
        datasets=datasets,
        seeds=seeds,
    )
    return suite, folder_of(source, output, suite.name)
