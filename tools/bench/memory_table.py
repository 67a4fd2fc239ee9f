"""Predicts the memory of a training from its configuration alone, without weights and GPU.

    python tools/bench/memory_table.py                            # Mistral-7B on 8, 12 and 24 GB
    python tools/bench/memory_table.py --write                    # into docs/explanation/memory.md
    python tools/bench/memory_table.py --cards 8 --scan           # every micro-batch there
    python tools/bench/memory_table.py --model NAME --tokens 40   # another model, another question

Whoever has the card compares with what `hepllm train` prints there, and with `train/memory_gib`
in TensorBoard, which is what torch has reserved at most.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, MistralConfig

from hepllm.config import Config, load_config
from hepllm.learning.budget import Batch, Budget, dropout_mask_bytes, training_needs
from hepllm.learning.capacity import gpu_capacity
from hepllm.model.adapter.fusion import NumericFusionAdapter, count_soft_tokens
from hepllm.model.backbone import causal_model, sketch_backbone
from hepllm.model.footprint import Weights, activation_model
from hepllm.model.packing import EVENTS_PER_QUESTION

CONFIG = Path(__file__).parents[2] / "configs" / "lhco-rnd.yaml"
RECIPES = {
    8.0: CONFIG,
    12.0: CONFIG.with_name("lhco-rnd-12gb.yaml"),
    24.0: CONFIG.with_name("lhco-rnd-24gb.yaml"),
}
"""By the GiB of a card."""
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "memory.md"
BEGIN, END = "<!-- made by tools/bench/memory_table.py -->\n", "<!-- end -->\n"
GIB = 2**30
ELEMENT = 2
"""Bytes per number in bfloat16."""
FLOAT32 = 4
TAKEN = 1.5
"""GiB of a card that the CUDA context and a desktop take."""
NF4_BLOCK, SCALE_BLOCK = 64, 256
"""Values that share a scale, and scales that share one (arXiv:2305.14314, section 3)."""
QUESTION_TOKENS, STATED_TOKENS = 29, 37
"""Of the open question, and of one that states two masses and decays
(docs/explanation/prompts.md)."""


def recipe(card_gib: float) -> Path:
    """The configuration for a card: that of the largest recipe that is not larger."""
    return RECIPES[max([card for card in RECIPES if card <= card_gib], default=min(RECIPES))]


def mistral_7b() -> MistralConfig:
    """The architecture of Mistral-7B-Instruct-v0.3, as its config.json on the hub has it."""
    return MistralConfig(
        vocab_size=32768,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=32768,
        sliding_window=None,
        tie_word_embeddings=False,
    )


def predict_weights(
    model: nn.Module, output_matrix: nn.Module | None, element: int, *, packs: bool = True
) -> Weights:
    """Counts the weights that a model in full precision would have in NF4, doubly quantised.

    Args:
        model: with or without values.
        output_matrix: the matrix that is not quantised.
        element: bytes per number that is not quantised.
        packs: whether it is quantised at all.
    """
    packed = scales = plain = largest = 0
    quantized = {
        id(module.weight)
        for name, module in model.named_modules()
        if packs
        and isinstance(module, nn.Linear)
        and ".lora_" not in name
        and module is not output_matrix
    }
    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        number = weight.numel()
        if ".lora_" in name:
            continue
        if id(weight) not in quantized:
            plain += number * (element if weight.dtype != torch.float32 else FLOAT32)
            continue
        blocks = -(-number // NF4_BLOCK)
        packed += -(-number // 2)
        # One byte per block, a float32 per 256 blocks, an offset, and both tables of values.
        scales += blocks + FLOAT32 * (-(-blocks // SCALE_BLOCK) + 1 + 256 + 16)
        largest = max(largest, number * element)
    return Weights(packed, scales, plain, largest)


def predicted_budget(
    architecture: Any,
    config: Config,
    n_tokens: int,
    card_gib: float,
    taken_gib: float,
    *,
    n_questions: int = 1,
) -> Budget:
    """The budget of a training on a card, in bfloat16 or in 4 bits.

    Args:
        architecture: a transformers model configuration.
        config: of the experiment.
        n_tokens: of a prompt or, in the layout question, of what comes before an event.
        card_gib: memory of the card.
        taken_gib: what the CUDA context and a desktop take of it.
        n_questions: different questions in a batch, in the layout question.
    """
    sketch = sketch_backbone(architecture, config.backbone)
    causal = causal_model(sketch)
    lora = {name: weight for name, weight in sketch.named_parameters() if "lora_" in name}
    mask = dropout_mask_bytes(torch.device("cuda"), ELEMENT, config.backbone.lora.dropout)
    shape = activation_model(causal.config, lora, element=ELEMENT, dropout_mask=mask)
    adapter: list[torch.Tensor] = []
    if config.fusion.enabled:
        names = config.train.feature_names()
        asks = config.prompt_layout == "question"
        nfa = NumericFusionAdapter(names, shape.hidden, 1.0, config.fusion, reads_hypotheses=asks)
        adapter = list(nfa.state_dict().values())
    packs = config.backbone.quantization == "nf4"
    weights = predict_weights(sketch, causal.get_output_embeddings(), ELEMENT, packs=packs)
    needs = training_needs(weights, shape, lora.values(), adapter, config.train)
    batch = Batch(
        n_events=config.train.batch_size,
        n_tokens=n_tokens,
        attention="flash",
        passes=2 if config.train.loss.r_drop else 1,
        n_scored=config.evaluation.batch_size or EVENTS_PER_QUESTION,
    )
    if config.prompt_layout == "question":
        own = count_soft_tokens(config.train.feature_names(), config.fusion)
        batch = replace(
            batch,
            n_tokens=n_tokens + own,
            masked_attention="packed",
            n_question=n_tokens,
            n_alike=-(-config.train.batch_size // n_questions),
        )
    card = gpu_capacity(
        f"a card of {card_gib:g} GiB", int(card_gib * GIB), int(taken_gib * GIB), None
    )
    return Budget(card, needs, batch)


def scan(budget: Budget) -> str:
    """Every setting, the fastest first."""
    settings = budget.settings(None, "auto")
    best = budget.cost(settings[0])
    lines = [
        f"  {setting.micro_batch:>11}  {'yes' if setting.checkpointing else 'no':>13}"
        f"  {budget.total(setting) / GIB:5.2f}  {budget.cost(setting) / best:14.2f}"
        f"  {'yes' if budget.fits(setting) else 'no'}"
        for setting in settings
    ]
    lines.insert(0, "  micro-batch  checkpointing  GiB    time of a step  fits")
    return "\n".join(lines)


def tables() -> Iterator[str]:
    """The lines of the page: each recipe's budget in a table, and as a training prints it."""
    yield "| card | preset | weights | questions in a batch | chosen | activations | all | usable |"
    yield "|---|---|---|---|---|---|---|---|"
    printed = []
    for card, file in RECIPES.items():
        config = load_config(file)
        stored = "4 bits" if config.backbone.quantization == "nf4" else "16 bits"
        for n_questions, n_tokens in ((1, QUESTION_TOKENS), (4, STATED_TOKENS)):
            budget = predicted_budget(
                mistral_7b(), config, n_tokens, card, TAKEN, n_questions=n_questions
            )
            setting, _ = budget.choose(None, config.backbone.gradient_checkpointing)
            sizes = (budget.activations(setting), budget.total(setting), budget.capacity.usable)
            with_it = "with" if setting.checkpointing else "without"
            yield (
                f"| {card:g} GiB | `{file.stem}` | {stored} | {n_questions} | "
                f"{setting.micro_batch} of {config.train.batch_size} events, {with_it} "
                f"checkpointing | {' | '.join(f'{size / GIB:.2f}' for size in sizes)} |"
            )
            if n_questions == 1:
                # Nothing is averaged in these recipes.
                lines = [one for one in budget.table(setting).split("\n") if "averages" not in one]
                printed += [f"    {file.stem}: {lines[0]}", *(f"    {one}" for one in lines[1:])]
    yield from ("", "As a training with one question prints it:", "", *printed)


def with_tables(page: str) -> str:
    """The page with fresh tables."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + "\n" + "\n".join(tables()) + "\n\n" + END + rest.partition(END)[2]


def main() -> None:
    """Prints a budget for each card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, help="of the experiment [that for the card]")
    parser.add_argument("--model", help="hub name or folder [Mistral-7B-Instruct-v0.3]")
    parser.add_argument(
        "--tokens", type=int, default=QUESTION_TOKENS, help="of a question or prompt"
    )
    parser.add_argument("--questions", type=int, default=1, help="different ones in a batch")
    parser.add_argument("--cards", type=float, nargs="+", default=[*RECIPES], help="GiB")
    parser.add_argument("--taken", type=float, default=TAKEN, help="GiB of context and desktop")
    parser.add_argument("--scan", action="store_true", help="show every setting")
    parser.add_argument("--set", action="append", default=[], help="section.key=value")
    parser.add_argument("--write", action="store_true", help=f"put the recipes into {PAGE.name}")
    options = parser.parse_args()
    if options.write:
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return
    architecture = AutoConfig.from_pretrained(options.model) if options.model else mistral_7b()
    for card in options.cards:
        config = load_config(options.config or recipe(card), options.set)
        budget = predicted_budget(
            architecture,
            config,
            options.tokens,
            card,
            options.taken,
            n_questions=options.questions,
        )
        setting, _ = budget.choose(
            config.train.micro_batch_size, config.backbone.gradient_checkpointing
        )
        print(budget.table(setting))
        print(f"using {setting}\n")
        if options.scan:
            print(scan(budget) + "\n")


if __name__ == "__main__":
    main()
