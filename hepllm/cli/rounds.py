"""``hepllm train`` in rounds of self-training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from hepllm.cli.many_runs import train_many
from hepllm.cli.options import Settings
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
    from hepllm.stages.self_training import resume_self_training, self_train

    done = train_many(
        settings,
        dataset,
        output,
        options,
        name="train.self_training.rounds",
        start=partial(self_train, overwrite=overwrite),
        go_on=resume_self_training,
        resume=resume,
    )
    for one in done.record.rounds:
        click.echo(
            f"round {one.number}: {one.pseudo_labels} pseudo-labels, "
            f"validation AUC {one.validation_auc:.4f}, test {one.test_auc:.4f} "
            f"(apart by {one.gap:+.4f} +- {one.gap_error:.4f})"
        )
    click.echo(f"{done.best}: the round with the best validation; name it in later commands")
