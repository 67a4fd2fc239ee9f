"""Rounds of self-training: what they leave, how they go on, what they refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hepllm.config import Config
from hepllm.data.notes import read_notes
from hepllm.errors import InputError
from hepllm.runs.folder import open_run
from hepllm.stages.self_training import resume_self_training, self_train
from hepllm.stages.train import resume, train

ROUNDS = (
    *("train.self_training.rounds=1", "train.unsupervised.prior=0.5", "train.epochs=0.3"),
    "train.self_training.share=0.4",
)


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., Config], tiny_data: Path) -> Config:
    return tiny_config(*ROUNDS, f"train.unsupervised.dataset={tiny_data / 'data' / 'rnd'}")


def test_rounds_are_runs_that_go_on_where_they_were_stopped(
    config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    dataset, folder = tiny_data / "data" / "rnd", tmp_path / "rounds"
    done = self_train(dataset, folder, config, overwrite=False)
    first, second = done.record.rounds
    assert (first.pseudo_labels, first.number, second.number) == (0, 0, 1)
    labelled = read_notes(folder / "pseudo-labels-1.parquet", "")
    runs = [open_run(folder / f"round-{number}") for number in (0, 1)]
    n_train = [sum(run.record.n_train.values()) for run in runs]
    repeats = int(labelled.column("repeats")[0])
    assert n_train[1] == repeats * n_train[0] + second.pseudo_labels
    assert second.pseudo_labels == len(labelled.event_digest) > 20
    assert (folder / "scores-1.svg").stat().st_size > 1000
    assert second.gap == pytest.approx(second.validation_auc - second.test_auc)
    assert second.gap_error > 0
    assert done.best == folder / f"round-{int(second.validation_auc > first.validation_auc)}"
    assert runs[1].config.train.ema_decay == 0.99
    scores = runs[1].validation_scores()
    # As if it had been stopped in the second round.
    shutil.rmtree(folder / "round-1")
    record = json.loads((folder / "self_training.json").read_text())
    record["rounds"] = record["rounds"][:1]
    (folder / "self_training.json").write_text(json.dumps(record))
    again = resume_self_training(folder)
    assert again.record == done.record
    np.testing.assert_array_equal(open_run(folder / "round-1").validation_scores(), scores)
    # As if it had been stopped in the first round.
    shutil.rmtree(folder / "round-1")
    (folder / "self_training.json").unlink()
    assert resume_self_training(folder).record == done.record
    with pytest.raises(InputError, match=r"round-1: is a round .* --resume --output .*rounds$"):
        resume(folder / "round-1", [])
    with pytest.raises(InputError, match="exists"):
        self_train(dataset, folder, config, overwrite=False)


def test_what_has_no_rounds_is_refused(config: Config, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs 'hepllm train'"):
        train(tiny_data / "data" / "rnd", tmp_path / "run", config, overwrite=False)
    with pytest.raises(InputError, match=r"round-0: no such run"):
        resume_self_training(tmp_path)
