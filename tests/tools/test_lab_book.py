"""Variants of the lab book, and the intervals of its table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

from hepllm.config import Config
from hepllm.model.backbone import causal_model
from hepllm.runs.folder import make_classifier


@pytest.fixture(scope="module")
def study(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("lab_book")


def test_trains_what_is_missing_and_compares(
    study: ModuleType, tiny_data: Path, tmp_path: Path
) -> None:
    file = Path(__file__).parents[2] / "configs" / "tiny.yaml"
    arguments = [
        *("train", str(tiny_data / "data" / "rnd"), str(tmp_path), "--config", str(file)),
        *("--seeds", "1,2", "--events", "60", "--test-events", "40"),
        *("--set", "train.epochs=1", "--set", "prompt.layout=question"),
    ]
    run = CliRunner().invoke(
        study.main, [*arguments, "--variants", "base;frozen;pooled head"], catch_exceptions=False
    )
    assert run.exit_code == 0
    assert run.stderr.count("AUC") == 6
    again = CliRunner().invoke(study.main, [*arguments, "--variants", "base"])
    assert again.stderr == ""
    shown = CliRunner().invoke(study.main, ["table", str(tmp_path)], catch_exceptions=False).stdout
    assert shown.count("| 2 |") == 3
    assert "mean logit of 2 seeds" in shown


def test_a_pooled_head_learns_through_the_layers(
    study: ModuleType, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config("prompt.layout=question")
    classifier, encoder = study.make_pooled(config)
    random = np.random.default_rng(1)
    inputs = study.ModelInputs(numbers=random.normal(size=(6, len(config.train.feature_names()))))
    logits = classifier.answer(encoder.encode(inputs), inputs)
    assert logits.shape == (6, 2)
    logits[:, 1].sum().backward()
    weights = classifier.trained_parameters()
    assert any(name.startswith("nfa.head.") for name in weights)
    moved = [name for name, weight in weights.items() if weight.grad is not None]
    assert {name.split(".")[0] for name in moved} == {"lora", "nfa"}


def test_random_weights_have_the_usual_size(
    study: ModuleType, tiny_config: Callable[..., Config]
) -> None:
    classifier, _ = make_classifier(tiny_config())
    study.randomise(classifier, 1)
    words = causal_model(classifier.language_model).get_input_embeddings().weight
    assert float(words.std()) == pytest.approx(0.02, rel=0.05)


def test_intervals_of_differences_know_other_seeds(study: ModuleType) -> None:
    random = np.random.default_rng(2)
    label = (np.arange(2000) < 700).astype(np.int64)
    good = random.normal(1.5 * label)
    pairs = [(good, good + random.normal(0, noise, 2000)) for noise in (0.2, 1.0, 2.0)]
    value, half = (float(part) for part in study._difference(label, pairs).split("±"))
    areas = [study._auc(label, a) - study._auc(label, b) for a, b in pairs]
    assert value == pytest.approx(np.mean(areas), abs=1e-4)
    assert half > 4.303 * np.std(areas, ddof=1) / 3**0.5 - 1e-4  # Student's t of 2 degrees
