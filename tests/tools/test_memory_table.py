"""The table of a Mistral-7B training, against what is known of that model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from hepllm.config import load_config
from hepllm.learning.budget import MemoryChoice
from hepllm.model.backbone import causal_model, sketch_backbone

TOOLS = Path(__file__).parents[2] / "tools"
GIB = 2**30


@pytest.fixture(scope="module")
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("memory_table")


def test_mistral_has_its_published_size(tool: ModuleType) -> None:
    config = load_config(tool.CONFIG)
    sketch = sketch_backbone(tool.mistral_7b(), config.backbone)
    sizes = {name: weight.numel() for name, weight in sketch.named_parameters()}
    lora = sum(size for name, size in sizes.items() if "lora_" in name)
    freed = (32768 - 2) * 4096  # of the output matrix, all rows but those of the label words
    assert sum(sizes.values()) - lora == 7_248_023_552 - freed
    # 16 x (inputs + outputs) of each projection in 32 layers.
    per_layer = 2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336)
    assert lora == 32 * 16 * per_layer
    assert causal_model(sketch).get_output_embeddings().weight.shape == (2, 4096)


def test_mistral_fits_on_8_gb(tool: ModuleType) -> None:
    config = load_config(tool.CONFIG)
    budget = tool.predicted_budget(tool.mistral_7b(), config, 29, 8.0, 1.5)
    weights = budget.needs.weights
    quantized = 7_248_023_552 - 2 * 32768 * 4096 - 65 * 4096
    assert weights.packed == quantized // 2
    assert weights.scales / weights.packed == pytest.approx(0.127 / 4, rel=0.03)  # bits a weight
    assert weights.largest == 2 * 4096 * 14336
    assert config.train.memory_limit_gib == 6.5 == budget.capacity.usable / GIB
    setting, fits = budget.choose(
        config.train.micro_batch_size, config.backbone.gradient_checkpointing
    )
    assert fits
    assert budget.total(setting) <= 6.5 * GIB
    assert setting == MemoryChoice(128, checkpointing=False)
    four = tool.predicted_budget(tool.mistral_7b(), config, 37, 8.0, 1.5, n_questions=4)
    assert four.fits(setting)


def test_every_recipe_takes_whole_batches_on_its_card(tool: ModuleType) -> None:
    for card, file in tool.RECIPES.items():
        config = load_config(file)
        budget = tool.predicted_budget(tool.mistral_7b(), config, 29, card, tool.TAKEN)
        assert config.train.memory_limit_gib == budget.capacity.usable / GIB
        setting, fits = budget.choose(None, config.backbone.gradient_checkpointing)
        assert fits
        assert setting == MemoryChoice(config.train.batch_size, checkpointing=False)
        assert budget.scored_at_once(1024) == 1024
        assert (budget.needs.weights.packed == 0) == (config.backbone.quantization == "none")
    taken = {card: tool.recipe(card).stem for card in (6, 8, 11, 16, 80)}
    assert list(taken.values()) == ["lhco-rnd"] * 3 + ["lhco-rnd-12gb", "lhco-rnd-24gb"]


@pytest.mark.slow
def test_the_page_has_the_budgets_of_the_recipes(tool: ModuleType) -> None:
    page = tool.PAGE.read_text(encoding="utf-8")
    assert tool.with_tables(page) == page


@pytest.mark.slow
def test_it_prints_a_table_for_each_card() -> None:
    command = [
        sys.executable,
        str(TOOLS / "bench" / "memory_table.py"),
        "--cards",
        "8",
        "24",
        "--scan",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("memory budget in GiB") == 2
    assert done.stdout.count("using micro-batches of") == 2


@pytest.mark.slow
def test_loading_is_measured() -> None:
    command = [
        sys.executable,
        str(TOOLS / "bench" / "bench_loading.py"),
        "--layers",
        "1",
        "--repeats",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for part in ("first  start:", "second start:", "ratio:"):
        assert part in done.stdout
