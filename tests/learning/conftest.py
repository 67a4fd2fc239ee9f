"""A tiny classifier, events for it, and a training of both."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hepllm.config import Config
from hepllm.data.event_table import EventTable
from hepllm.learning.loop import TrainingResult, fit
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import TrainingData
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.pictures import validation
from hepllm.runs.folder import make_classifier

Made = tuple[EventClassifier, PromptEncoder]


def _make(config: Config) -> Made:
    return make_classifier(config)


def _train(made: Made, data: TrainingData, config: Config, folder: Path) -> TrainingResult:
    folder.mkdir(exist_ok=True)
    return fit(*made, data, TrainingPlan.of(config), folder=folder)


def _history(folder: Path, name: str) -> dict[int, float]:
    lines = (json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines())
    return {line["step"]: line[name] for line in lines if name in line}


@pytest.fixture(scope="session")
def make() -> Callable[[Config], Made]:
    """``make(config)`` loads a backbone and joins it with fresh weights."""
    return _make


@pytest.fixture(scope="session")
def train() -> Callable[..., TrainingResult]:
    """``train(made, data, config, folder)`` trains it."""
    return _train


@pytest.fixture(scope="session")
def history() -> Callable[[Path, str], dict[int, float]]:
    """``history(folder, name)`` reads what a training recorded, by step."""
    return _history


@pytest.fixture(scope="session")
def losses() -> Callable[[Path], dict[int, float]]:
    """``losses(folder)`` reads a training's losses, by step."""
    return lambda folder: _history(folder, "train/loss")


@pytest.fixture(scope="session")
def data(
    tiny_config: Callable[..., Config], event_table: Callable[..., EventTable]
) -> TrainingData:
    """Easy events of both classes: 64 to train on, 32 to validate on."""
    names = tiny_config().train.feature_names()
    return TrainingData(event_table(64, names, 1), event_table(32, names, 2))


@pytest.fixture(scope="module")
def drawn_pictures() -> Iterator[None]:
    """Trainings draw their pictures, as they do outside the tests; see ``quick_trainings``."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("roc_figure", "sic_figure", "score_figure", "pixels"):
            patch.setattr(f"hepllm.learning.monitor.{name}", getattr(validation, name))
        yield
