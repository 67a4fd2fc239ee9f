"""``hepllm train`` with unlabelled events: which they are, what is recorded and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hepllm.config import Config
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError
from hepllm.runs.folder import open_run
from hepllm.stages.train import resume, train

TERM = ("train.unsupervised.weight=1", "train.unsupervised.prior=0.5")


def test_a_training_takes_them_blindly_and_goes_on_with_the_same(
    tiny_config: Callable[..., Config], tiny_data: Path, tmp_path: Path
) -> None:
    pool = tiny_data / "data" / "rnd"
    config = tiny_config(
        *TERM,
        f"train.unsupervised.dataset={pool}",
        *("train.unsupervised.kind=posterior", "train.unsupervised.warmup_fraction=0"),
        *("train.epochs=0.4", "train.log_every=1"),
    )
    made = train(pool, tmp_path / "run", config, overwrite=False)
    run = open_run(made.folder)
    table = read_dataset(pool).load((), "train")
    assert run.record.unlabelled is not None
    assert run.record.unlabelled.n_events == len(table)
    assert run.record.unlabelled.dataset_digest == read_dataset(pool).digest
    assert np.isin(table.event_digest, run.used_events()).all()
    lines = [json.loads(line) for line in (made.folder / "history.jsonl").read_text().splitlines()]
    shown = [line for line in lines if "train/loss" in line]
    assert all(0 < line["unsupervised/mean_probability"] < 1 for line in shown)
    again = resume(made.folder, ["train.epochs=0.6"])
    assert again.record.unlabelled == run.record.unlabelled
    with pytest.raises(InputError, match=r"train\.unsupervised\.dataset cannot change"):
        resume(made.folder, [f"train.unsupervised.dataset={tiny_data / 'data' / 'bb'}"])


def test_what_cannot_be_trained_on_is_refused_before_anything_is_written(
    tiny_config: Callable[..., Config], tiny_data: Path, tmp_path: Path
) -> None:
    data = tiny_data / "data"
    cases = {
        (): r"rnd: no unlabelled events in its train split; name a dataset with train\.unsup",
        (f"train.unsupervised.dataset={data / 'bb'}",): r"of the rarer class, .* needs 30; give",
        ("train.unsupervised.dataset=nowhere",): r"nowhere",
    }
    for changes, message in cases.items():
        with pytest.raises(InputError, match=message):
            train(data / "rnd", tmp_path / "run", tiny_config(*TERM, *changes), overwrite=False)
    assert not (tmp_path / "run").exists()
