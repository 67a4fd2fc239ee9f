"""``hepllm train`` in rounds of self-training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hepllm.cli.options import Settings, dataset_or_only
from hepllm.launcher import launched
from hepllm.runs import LATEST, RECORD, ROUNDS


def is_in_rounds(settings: Settings, output: Path | None, *, resume: bool) -> bool:
    """Whether a training is one of ``train.self_training``."""
    if resume:
        folder = output or LATEST
        return (folder / ROUNDS).is_file() or (folder / "round-0" / RECORD).is_file()
    return settings.load().train.self_training.rounds > 0


def train_in_rounds(
    settings: Settings,
    dataset: Path | None,
    output: Path | None,
    options: Mapping[str, Any],
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    """Trains in rounds, or goes on, and prints what each has reached.

    Args:
        settings: settings of the command line.
        dataset: labelled dataset; None for the only one.
        output: folder of the rounds; None for the default one.
        options: settings that have options of their own, by path.
        resume: go on with the rounds in ``output``.
        overwrite: replace a folder that exists.
    """
    if launched().size > 1:
        raise click.UsageError("train.self_training.rounds trains in one process: leave torchrun")
    from hepllm.stages.self_training import resume_self_training, self_train

    if resume:
        if settings.overrides or any(value is not None for value in options.values()):
            raise click.UsageError("rounds of self-training go on with the settings they have")
        done = resume_self_training(output or LATEST)
    else:
        config = settings.load(**options)
        folder = output or Path("runs") / config.name
        done = self_train(dataset_or_only(dataset), folder, config, overwrite=overwrite)
    for one in done.record.rounds:
        click.echo(
            f"round {one.number}: {one.pseudo_labels} pseudo-labels, "
            f"validation AUC {one.validation_auc:.4f}, test {one.test_auc:.4f} "
            f"(apart by {one.gap:+.4f} +- {one.gap_error:.4f})"
        )
    click.echo(f"{done.best}: the round with the best validation; name it in later commands")
