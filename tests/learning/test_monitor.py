from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import nn

from hepllm.config import Config
from hepllm.evaluation.metrics import roc
from hepllm.evaluation.scores import scored_events
from hepllm.learning.monitor import Monitor, memory_gib
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.validation import Validation

pytestmark = pytest.mark.usefixtures("drawn_pictures")


def validation() -> Validation:
    events = scored_events(np.linspace(-2, 2, 40), np.arange(40) % 2)
    return Validation({"auc": 0.75}, events, roc(events))


def test_scalars_reach_tensorboard_and_the_history(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        for step in (1, 2, 3):
            monitor.step(step, {"train/loss": 1.0 / step}, [])
        monitor.validation(3, validation(), dict(nn.Linear(2, 2).named_parameters()), 1)
        monitor.text("prompt", "class:")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [
        (1, 1.0),
        (2, 0.5),
        (3, pytest.approx(1 / 3)),
    ]
    assert [e.value for e in events.Scalars("validation/auc")] == [0.75]
    tags = events.Tags()
    assert set(tags["images"]) == {"validation/roc", "validation/sic", "validation/scores"}
    assert {events.Images(name)[0].width for name in tags["images"]} == {420}
    assert set(tags["histograms"]) == {
        "score/signal",
        "score/background",
        "nfa_weights/weight",
        "nfa_weights/bias",
    }
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert lines[-1] == {"step": 3, "validation/auc": 0.75}


def test_settings_stand_beside_the_final_figures(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        monitor.hyper_parameters(TrainingPlan.of(Config()).hyper_parameters, {"auc": 0.9})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Scalars("validation_best/auc")[0].value == pytest.approx(0.9)
    assert events.Tags()["scalars"] == ["validation_best/auc"]
    content = events.SummaryMetadata("_hparams_/session_start_info")
    started = HParamsPluginData.FromString(content.plugin_data.content).session_start_info
    assert started.hparams["train.lr"].number_value == pytest.approx(Config().train.lr)
    assert started.hparams["train.balance"].string_value == "1:1"
    assert "simulate.rnd" not in started.hparams


def test_what_a_killed_run_wrote_too_much_is_dropped(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        for step in (1, 2, 3):
            monitor.step(step, {"train/loss": float(step)}, [])
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 4, "train/lo')  # the power went off here
    # Event files are read in the order of their names, which begin with the second they are made
    # in and end with a counter of this process, in which 10 sorts before 9.
    time.sleep(1.01)
    with Monitor(tmp_path, start_step=2) as monitor:
        monitor.step(3, {"train/loss": 30.0}, [])
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [(line["step"], line["train/loss"]) for line in lines] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 1), (2, 2), (3, 30)]


def test_memory_is_that_of_the_device_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs, on which one process computes on the CPU and one on the second."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    reserved = {None: 0, torch.device("cuda:1"): 5 * 2**30}
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device=None: reserved[device])
    assert memory_gib(torch.device("cuda:1")) == 5
    assert 0.01 < memory_gib(torch.device("cpu")) != 5
