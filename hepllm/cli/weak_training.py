"""``hepllm train --weak signal-region``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click

from hepllm.cli.many_runs import train_many
from hepllm.cli.options import Settings
from hepllm.config.weak import BackgroundTemplate
from hepllm.runs import LATEST, WEAK_RUNS

TEMPLATES: tuple[str, ...] = get_args(BackgroundTemplate)


def is_weak(output: Path | None) -> bool:
    """Whether a folder that is resumed is one of a weak training."""
    return ((output or LATEST) / WEAK_RUNS).is_file()


def of_weak_given(
    template: str | None, region: tuple[float, float] | None, background: Path | None
) -> str:
    """The options of ``--weak`` that were given, in words."""
    options = {"--template": template, "--region": region, "--background": background}
    return ", ".join(name for name, value in options.items() if value is not None)


def train_around_folds(
    settings: Settings,
    dataset: Path | None,
    output: Path | None,
    options: Mapping[str, Any],
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    """Trains a model around each fold, or goes on, and prints what each has reached.

    Args:
        settings: settings of the command line.
        dataset: the box; None for the only dataset.
        output: folder of the runs; None for the default one.
        options: settings that have options of their own, by path.
        resume: go on with the folds in ``output``.
        overwrite: replace a folder that exists.
    """
    from hepllm.stages.weak_training import resume_weakly, train_weakly

    done = train_many(
        settings,
        dataset,
        output,
        options,
        name="--weak",
        start=partial(train_weakly, overwrite=overwrite),
        go_on=resume_weakly,
        resume=resume,
    )
    for one in done.record.finished:
        argos = one.validation_argos
        excess = "" if argos is None else f", excess over the template {argos:.3g}"
        click.echo(
            f"fold {one.fold}: {one.n_data} data and {one.n_template} template events, "
            f"validation AUC {one.validation_auc:.4f} of data against template{excess}"
        )
    box = done.record.origin.dataset
    click.echo(f"{done.folder}: search the box with: hepllm search {box} --run {done.folder}")
