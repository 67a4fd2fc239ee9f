"""Groups of runs that are seeds of one recipe."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from hepllm.config import settings_by_path
from hepllm.errors import InputError
from hepllm.runs.folder import Run

LOG = logging.getLogger(__name__)

FEWEST = 5
"""Runs of a recipe from which a claim about the recipe is reasonable."""

_NO_RECIPE = (
    *("seed", "name", "simulate.", "preprocess.", "evaluation.", "backbone.device"),
    *("backbone.gradient_checkpointing", "train.micro_batch_size", "train.memory_limit_gib"),
    *("train.threads", "train.checkpoint_every", "train.keep_checkpoints", "train.log_every"),
)
"""Settings, or their beginnings, that do not change what is trained on which events.

Of the settings of the events, the digest of the dataset tells what matters.
"""


@dataclass(frozen=True)
class Recipe:
    """Runs that differ only in their seed.

    Attributes:
        name: name of the recipe, from the names of the folders.
        runs: the runs.
    """

    name: str
    runs: tuple[Run, ...]


def as_recipes(ours: Sequence[Run], theirs: Sequence[Run] = ()) -> tuple[Recipe, ...]:
    """Checks that runs are seeds of one recipe, or of two, and names these.

    Args:
        ours: runs of one recipe.
        theirs: runs of a recipe to compare with; none for one recipe alone.

    Raises:
        InputError: for fewer than two runs of a recipe, runs that differ in more than the seed, or
            two runs with the same seed, of which the second would be no further training.
    """
    groups = [ours, theirs] if theirs else [ours]
    for runs in groups:
        _check(runs)
    names = [_name(runs) for runs in groups]
    if "" in names or len(set(names)) < len(names):
        names = ["first", "second"]
    return tuple(Recipe(name, tuple(runs)) for name, runs in zip(names, groups, strict=False))


def _check(runs: Sequence[Run]) -> None:
    first, *others = runs
    if not others:
        raise InputError(
            f"{first.folder}: one run of a recipe cannot show how trainings vary; name at least 2 "
            f"(better {FEWEST}), trained with other seeds: hepllm train --seed 2 --output ..."
        )
    ours, by_seed = _recipe(first), {first.config.seed: first}
    for other in others:
        theirs = _recipe(other)
        differing = [path for path in {**ours, **theirs} if ours.get(path) != theirs.get(path)]
        if differing:
            raise InputError(
                f"{other.folder}: differs from {first.folder} in {', '.join(differing[:4])}"
                f"{', ...' if len(differing) > 4 else ''}, so the two are no seeds of one recipe; "
                "compare two recipes by: hepllm eval RUN RUN ... --against RUN RUN ..."
            )
        same = by_seed.setdefault(other.config.seed, other)
        if same is not other:
            raise InputError(
                f"{other.folder}: has the seed {other.config.seed}, as {same.folder}; train one of "
                "them with another --seed"
            )
    if len(runs) < FEWEST:
        LOG.warning(
            "%d runs of %s tell little about the variance of training; train %d or more",
            len(runs),
            first.folder,
            FEWEST,
        )


def _recipe(run: Run) -> dict[str, object]:
    """The dataset and all settings that decide about the training."""
    leaves = settings_by_path(run.config).items()
    settings = {path: value for path, value in leaves if not path.startswith(_NO_RECIPE)}
    return {"dataset": run.record.dataset_digest, **settings}


def _name(runs: Sequence[Run]) -> str:
    """What the names of the folders begin with, without the number at the end."""
    names = [run.folder.resolve().name for run in runs]
    columns = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    common = "".join(letters[0] for letters in columns)
    return common.rstrip("0123456789").rstrip("-_.")
