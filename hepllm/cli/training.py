"""The command that trains a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import click

from hepllm.cli.options import PATH, Settings, as_overrides, common, dataset_or_only, default
from hepllm.cli.rounds import is_in_rounds, train_in_rounds
from hepllm.cli.weak_training import TEMPLATES, is_weak, of_weak_given, train_around_folds
from hepllm.config.learning import Layout
from hepllm.config.weak import BackgroundTemplate
from hepllm.launcher import launched
from hepllm.runs import LATEST


@click.command()
@click.argument("dataset", type=PATH, required=False, metavar="[DATASET]")
@click.option("--output", type=PATH, help="Run folder [runs/<name of the configuration>].")
@click.option(
    "--balance",
    help=f"Signal to background in training: 1:1, 1:10, ... or natural {default('train.balance')}.",
)
@click.option("--fusion", type=click.Choice(["on", "off"]), help="Numeric fusion adapter [on].")
@click.option(
    "--prompt", type=click.Choice(get_args(Layout)), help=f"Layout {default('prompt.layout')}."
)
@click.option(
    "--dynamics", is_flag=True, default=None, help="Record each event at each epoch, for 'map'."
)
@click.option(
    "--weak", type=click.Choice(["signal-region"]), help="Tell data of --region from a template."
)
@click.option("--template", type=click.Choice(TEMPLATES), help="Template of --weak [sidebands].")
@click.option("--region", type=float, nargs=2, metavar="LOW HIGH", help="Of --weak, in GeV.")
@click.option("--background", type=PATH, help="Dataset of background, for templates that need it.")
@click.option("--resume", is_flag=True, help="Continue the run in --output [runs/latest].")
@click.option("--overwrite", is_flag=True, help="Replace a run that exists.")
@click.option("--dry-run", is_flag=True, help="Tell what train.filter drops, and train nothing.")
@common
def train(
    settings: Settings,
    dataset: Path | None,
    output: Path | None,
    balance: str | None,
    fusion: str | None,
    prompt: str | None,
    dynamics: bool | None,
    weak: str | None,
    template: BackgroundTemplate | None,
    region: tuple[float, float] | None,
    background: Path | None,
    resume: bool,
    overwrite: bool,
    dry_run: bool,
) -> None:
    """Train the language model and its adapter on a DATASET [the only one, or data/processed/rnd].

    Follow it with: tensorboard --logdir runs. Ctrl-C writes a checkpoint first; --resume goes on.

    With --weak signal-region no label is read: for each fold of DATASET a model is trained to tell
    data of --region from a template of its background, and has not seen the fold's own events.
    Search the box with them: hepllm search DATASET --run OUTPUT.

    On several GPUs: torchrun --nproc-per-node 2 -m hepllm train ... (docs/how-to/several-gpus.md)
    """
    options = {
        "train__balance": balance,
        "fusion__enabled": None if fusion is None else fusion == "on",
        "prompt__layout": prompt,
        "train__dynamics": dynamics,
        "evaluation__search__weak__template": template,
        "evaluation__search__weak__region": region,
        "evaluation__search__weak__background": None if background is None else str(background),
    }
    if weak is None and (given := of_weak_given(template, region, background)):
        raise click.UsageError(f"{given}: for --weak signal-region")
    if resume and dry_run:
        raise click.UsageError("--dry-run is of a new training; leave --resume out")
    if dry_run:
        from hepllm.stages.train import preview_filter

        click.echo(preview_filter(dataset_or_only(dataset), settings.load(**options)).text())
        return
    if resume and settings.file:
        raise click.UsageError("--resume uses the run's own configuration; change it with --set")
    if weak is not None or (resume and is_weak(output)):
        train_around_folds(settings, dataset, output, options, resume=resume, overwrite=overwrite)
        return
    if is_in_rounds(settings, output, resume=resume):
        train_in_rounds(settings, dataset, output, options, resume=resume, overwrite=overwrite)
        return
    _train_once(settings, dataset, output, options, resume=resume, overwrite=overwrite)


def _train_once(
    settings: Settings,
    dataset: Path | None,
    output: Path | None,
    options: Mapping[str, Any],
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    """Trains one model, or goes on, and prints what it has reached."""
    if resume:
        from hepllm.stages.train import resume as go_on

        changes = [*settings.overrides, *as_overrides(options)]
        done = go_on(output or LATEST, changes, dataset_folder=dataset)
    else:
        config = settings.load(**options)
        from hepllm.stages.train import train as run_stage

        folder = output or Path("runs") / config.name
        done = run_stage(dataset_or_only(dataset), folder, config, overwrite=overwrite)
    if launched().rank:
        return
    best = done.result.best
    click.echo(
        f"{done.folder}: {done.result.steps} steps in {done.seconds:.0f} s, "
        f"validation AUC {best['auc']:.4f}, accuracy {best['accuracy']:.3f}"
    )
