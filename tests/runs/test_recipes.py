"""Groups of runs: names, and what is no seed of the same recipe."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hepllm.config import override_config
from hepllm.errors import InputError
from hepllm.runs.folder import Run, open_run
from hepllm.runs.recipes import as_recipes


@pytest.fixture
def run(recipes: Path) -> Run:
    return open_run(recipes / "seed1")


def changed(run: Run, name: str, *overrides: str) -> Run:
    """The run with other settings, in another folder."""
    folder = run.folder.with_name(name)
    return replace(run, folder=folder, config=override_config(run.config, overrides))


def seeds(run: Run, name: str, numbers: Sequence[int], *overrides: str) -> list[Run]:
    return [changed(run, f"{name}-{n}", f"seed={n}", f"name=x{n}", *overrides) for n in numbers]


def test_recipes_have_the_name_that_their_runs_share(run: Run) -> None:
    ours, theirs = seeds(run, "demo", [1, 10, 12]), seeds(run, "text", [1, 2], "train.lr=1e-5")
    assert [one.name for one in as_recipes(ours, theirs)] == ["demo", "text"]
    (alone,) = as_recipes(ours)
    assert alone.runs == tuple(ours)
    assert [one.name for one in as_recipes(ours, seeds(run, "demo", [2, 3]))] == ["first", "second"]


def test_what_does_not_change_a_training_may_differ(run: Run) -> None:
    other = changed(run, "b", "seed=2", "train.threads=2", "evaluation.bootstrap=7")
    assert as_recipes([run, other])


def test_few_runs_are_warned_about(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    as_recipes(seeds(run, "demo", range(5)))
    assert not caplog.records
    as_recipes(seeds(run, "demo", range(4)))
    assert "4 runs of" in caplog.text


def test_another_recipe_is_refused_with_its_settings(run: Run) -> None:
    other = changed(run, "b", "seed=2", "train.lr=1e-5", "prompt.layout=minimal")
    with pytest.raises(InputError, match=r"prompt\.layout, train\.lr.*--against"):
        as_recipes([run, other])


def test_another_dataset_is_refused(run: Run) -> None:
    record = run.record.model_copy(update={"dataset_digest": "0"})
    other = replace(changed(run, "b", "seed=2"), record=record)
    with pytest.raises(InputError, match=r"differs from .* in dataset"):
        as_recipes([run, other])


def test_the_same_seed_is_no_further_training(run: Run) -> None:
    with pytest.raises(InputError, match="has the seed 1, as"):
        as_recipes([run, changed(run, "b")])


def test_one_run_is_too_few(run: Run) -> None:
    with pytest.raises(InputError, match="at least 2"):
        as_recipes(seeds(run, "demo", [1, 2]), [changed(run, "b")])
