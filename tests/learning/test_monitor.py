from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hepllm.learning.monitor import Monitor, warn_of_collapse, warn_of_deafness


def test_scalars_reach_tensorboard_and_the_history(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        for step in (1, 2, 3):
            monitor.step(step, {"train/loss": 1.0 / step}, [])
        monitor.validation(3, {"auc": 0.75})
        monitor.text("prompt", "class:")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [
        (1, 1.0),
        (2, 0.5),
        (3, pytest.approx(1 / 3)),
    ]
    assert [e.value for e in events.Scalars("validation/auc")] == [0.75]
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert lines[-1] == {"step": 3, "validation/auc": 0.75}


def test_what_a_killed_run_wrote_too_much_is_dropped(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        for step in (1, 2, 3):
            monitor.step(step, {"train/loss": float(step)}, [])
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 4, "train/lo')  # the power went off here
    with Monitor(tmp_path, start_step=2) as monitor:
        monitor.step(3, {"train/loss": 30.0}, [])
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [(line["step"], line["train/loss"]) for line in lines] == [(1, 1.0), (2, 2.0), (3, 30.0)]


@pytest.mark.parametrize(
    ("predicted", "true", "warns"),
    [(0.0, 0.5, True), (1.0, 0.5, True), (0.5, 0.5, False), (0.001, 0.001, False)],
)
def test_collapse(
    predicted: float, true: float, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="hepllm"):
        assert warn_of_collapse(predicted, true) is warns
    assert ("collapsed" in caplog.text) is warns


def test_deafness(caplog: pytest.LogCaptureFixture) -> None:
    scores = np.random.default_rng(1).normal(size=100)
    assert not warn_of_deafness(scores, scores[::-1])
    with caplog.at_level(logging.WARNING, logger="hepllm"):
        assert warn_of_deafness(scores, scores + 1e-6)
        assert warn_of_deafness(np.zeros(10), np.zeros(10))
    assert "do not react" in caplog.text
