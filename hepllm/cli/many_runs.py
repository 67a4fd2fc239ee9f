"""``hepllm train`` where it makes several runs: in rounds, or around the folds of a box."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from hepllm.cli.options import Settings, dataset_or_only
from hepllm.config import Config
from hepllm.launcher import launched
from hepllm.runs import LATEST

Done = TypeVar("Done")


def train_many(
    settings: Settings,
    dataset: Path | None,
    output: Path | None,
    options: Mapping[str, Any],
    *,
    name: str,
    start: Callable[[Path, Path, Config], Done],
    go_on: Callable[[Path], Done],
    resume: bool,
) -> Done:
    """Starts several trainings, or goes on with them.

    Args:
        settings: settings of the command line.
        dataset: the dataset; None for the only one.
        output: folder of the runs; None for the default one.
        options: settings that have options of their own, by path.
        name: what asked for them, for messages.
        start: makes a folder of runs from a dataset, the folder and the configuration.
        go_on: goes on with those in a folder.
        resume: go on with those in ``output``.

    Raises:
        click.UsageError: several processes were launched, or ``resume`` comes with settings.
    """
    if launched().size > 1:
        raise click.UsageError(f"{name} trains in one process: leave torchrun")
    if resume:
        if settings.overrides or any(value is not None for value in options.values()):
            raise click.UsageError(f"{name} goes on with the settings that its runs have")
        return go_on(output or LATEST)
    config = settings.load(**options)
    folder = output or Path("runs") / config.name
    return start(dataset_or_only(dataset), folder, config)
