"""The usual recipe is what its page says, and the benchmark runs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional

from hepllm.config import Config
from hepllm.data.event_table import EventTable
from hepllm.model.sources import locate_model

TOOLS = Path(__file__).parents[2] / "tools" / "bench"


@pytest.fixture(scope="module")
def variants(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("train_variants")


@pytest.fixture(scope="module")
def usual(variants: ModuleType) -> object:
    """The usual recipe with the tiny model, on four made-up events."""
    data = variants.TrainingData(variants.made_up(4, 1), variants.made_up(6, 2))
    return variants.usual(locate_model("tiny-random"), data, 2, *variants.FULL)


def test_its_loss_is_that_of_all_positions_and_words(usual: object) -> None:
    prompts, labels = usual.write(usual.data.train)[:2], [0, 1]
    recipe = usual.recipe
    expected = []
    with torch.inference_mode():
        for prompt, word in zip(prompts, (" background", " signal"), strict=True):
            text = prompt + word + recipe.tokenizer.eos_token
            ids = torch.tensor(recipe.tokenizer(text, add_special_tokens=False)["input_ids"])
            logits = recipe.model(ids.unsqueeze(0)).logits[0]
            expected.append(functional.cross_entropy(logits[:-1], ids[1:], reduction="none"))
    loss = recipe.train_step(prompts, labels)
    assert loss == pytest.approx(float(torch.cat(expected).mean()), rel=1e-4)
    assert recipe.train_step(prompts, labels) < loss


def test_its_prompts_have_the_tokens_of_the_package(
    usual: object, variants: ModuleType, tiny_config: Callable[..., Config]
) -> None:
    folder = locate_model("tiny-random")
    table = usual.data.train
    tokenizer = usual.recipe.tokenizer
    wholes = variants.encoder_of(tokenizer, variants.load_config(overrides=variants.FULL))
    encoded = wholes.encode(variants.ModelInputs(table.features))
    for row, prompt in enumerate(usual.write(table)):
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        assert encoded.token_ids[row, : len(ids)].tolist() == ids
        assert encoded.attention_mask is None or int(encoded.attention_mask[row].sum()) == len(ids)
    settings = ("backbone.dtype=float32", "backbone.lora.r=8")
    ours = variants.ours("ours", folder, usual.data, 2, *variants.FULL, *settings)
    assert ours.n_tokens == usual.variant().n_tokens


def test_untrained_both_give_the_same_scores(variants: ModuleType) -> None:
    """LoRA begins as nothing, so that the same base model must say the same."""
    data = variants.TrainingData(variants.made_up(4, 1), variants.made_up(6, 2))
    folder = locate_model("tiny-random")
    theirs = variants.usual(folder, data, 3, *variants.FULL).probe(data.validation)
    for share in (False, True):
        ours = variants.ours("", folder, data, 3, *variants.FULL, *variants.SLOW, share=share)
        np.testing.assert_allclose(ours.score(data.validation), theirs, rtol=1e-3, atol=1e-5)


def test_answers_are_parsed(usual: object, variants: ModuleType) -> None:
    cases = {" signal": 1, "Background.": 0, "a signal or background": None, "": None, "42": None}
    assert {answer: variants.parse(answer) for answer in cases} == cases
    table = usual.data.validation
    assert len(usual.answers(table)) == len(table)
    assert set(usual.score(table).tolist()) <= {0.0, 0.5, 1.0}


def test_made_up_events_are_of_both_classes(variants: ModuleType) -> None:
    table: EventTable = variants.made_up(10, 1)
    assert table.label.sum() == 5
    assert np.isfinite(table.features).all()


@pytest.mark.slow
def test_small_benchmark(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    sizes = {"events": 2, "batch": 2, "repeats": 1, "backbone": "smollm2", "output": str(output)}
    options = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, str(TOOLS / "bench_train.py"), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(output.read_text())["results"]
    assert {"smollm2, full prompt: train", "smollm2, everything: score"} <= set(results)
    assert results["smollm2, everything: train"]["ratio"]["median"] > 2


@pytest.mark.usefixtures("variants")
def test_an_auc_needs_events(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = importlib.import_module("bench_train")
    monkeypatch.setattr(tool, "transformers_logging", Mock())
    done = CliRunner().invoke(tool.main, ["--part", "auc", "--threads", "1"])
    assert done.exit_code == 2
    assert "--dataset" in done.stderr
