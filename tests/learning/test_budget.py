from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hepllm.config import TrainConfig
from hepllm.errors import InputError
from hepllm.learning.budget import Batch, Budget, MemoryChoice, Needs, training_needs
from hepllm.learning.capacity import Capacity, gpu_capacity
from hepllm.model.backbone import eight_bit_adamw
from hepllm.model.footprint import ActivationModel, Projection, Weights

GIB = 2**30
MODEL = ActivationModel(
    n_layers=8,
    hidden=1024,
    intermediate=3584,
    queries=1024,
    keys=256,
    n_heads=8,
    element=2,
    mask=0,
    normalizes_heads=False,
    projections=tuple(
        Projection(f"{layer}.mlp", 1024, 16, is_input_kept=False) for layer in range(8)
    ),
    n_lora=8 * 16 * (1024 + 3584),
)
WEIGHTS = Weights(packed=2**28, scales=2**23, plain=2**26, largest=2**23)


def budget(total_gib: float, n_events: int = 16, limit_gib: float | None = None) -> Budget:
    capacity = Capacity(
        device="a test",
        total=int(total_gib * GIB),
        taken=GIB // 8,
        limit=None if limit_gib is None else int(limit_gib * GIB),
        allowance=GIB // 16,
        fragmentation=0.1,
    )
    needs = Needs(WEIGHTS, lora=2**22, adapter=2**20, average=0, step=2**21, activations=MODEL)
    batch = Batch(n_events, n_tokens=64, attention="flash", passes=1, n_scored=4)
    return Budget(capacity, needs, batch)


@given(
    st.floats(0.4, 4.0),
    st.integers(1, 40),
    st.sampled_from([None, 1, 3, 64]),
    st.sampled_from(["auto", True, False]),
)
def test_the_choice_fits_and_nothing_that_fits_is_faster(
    total_gib: float, n_events: int, micro_batch: int | None, checkpointing: bool | str
) -> None:
    made = budget(total_gib, n_events)
    settings = made.settings(micro_batch, checkpointing)  # type: ignore[arg-type]
    fitting = [setting for setting in settings if made.fits(setting)]
    try:
        chosen, fits = made.choose(micro_batch, checkpointing)  # type: ignore[arg-type]
    except InputError:
        assert micro_batch is None
        assert not fitting
        return
    assert chosen in settings
    assert fits == made.fits(chosen) == bool(fitting)
    assert all(made.cost(chosen) <= made.cost(other) for other in fitting)
    if micro_batch is not None:
        assert chosen.micro_batch == min(micro_batch, n_events)
    if checkpointing != "auto":
        assert chosen.checkpointing == checkpointing


@given(st.floats(0.4, 4.0), st.floats(0.0, 4.0))
def test_more_memory_is_never_slower(total_gib: float, more: float) -> None:
    small, large = budget(total_gib), budget(total_gib + more)
    try:
        setting, _ = small.choose(None, "auto")
    except InputError:
        return
    better, _ = large.choose(None, "auto")
    assert large.cost(better) <= large.cost(setting)


@given(st.integers(1, 32), st.integers(1, 32))
def test_memory_grows_with_events_and_shrinks_with_checkpointing(one: int, other: int) -> None:
    made = budget(4.0, 32)
    small, large = min(one, other), max(one, other)
    for checkpointing in (False, True):
        less, more = MemoryChoice(small, checkpointing), MemoryChoice(large, checkpointing)
        assert made.total(less) <= made.total(more)
    assert made.total(MemoryChoice(large, True)) <= made.total(MemoryChoice(large, False))


def test_plenty_of_memory_takes_the_whole_batch_and_keeps_all() -> None:
    assert budget(64.0).choose(None, "auto") == (MemoryChoice(16, False), True)


def test_on_the_way_down_checkpointing_replaces_small_micro_batches() -> None:
    """Two passes in 16 parts cost more than three in one: reading the weights is not free."""
    made = budget(64.0)
    assert made.cost(MemoryChoice(16, True)) < made.cost(MemoryChoice(1, False))
    assert made.cost(MemoryChoice(8, False)) < made.cost(MemoryChoice(16, True))


def test_an_explicit_micro_batch_is_obeyed() -> None:
    made = budget(0.6)
    assert not made.fits(MemoryChoice(16, True))
    assert made.choose(16, "auto") == (MemoryChoice(16, True), False)
    assert made.choose(16, False) == (MemoryChoice(16, False), False)
    assert made.choose(100, False)[0] == MemoryChoice(16, False)  # there are no more events


def test_where_nothing_fits_the_error_says_what_to_lower() -> None:
    with pytest.raises(InputError) as caught:
        budget(4.0, limit_gib=0.3).choose(None, "auto")
    text = str(caught.value)
    for part in ("0.30 GiB", "raise train.memory_limit_gib", "lower backbone.lora.r"):
        assert part in text
    assert "nf4" not in text  # it is quantised already
    assert caught.value.exit_code == 2
    plain = budget(0.3)
    plain = replace(plain, needs=replace(plain.needs, weights=Weights(0, 0, 2**28, 0)))
    with pytest.raises(InputError, match=r"backbone\.quantization=nf4") as caught:
        plain.choose(None, False)
    assert "memory_limit_gib" not in str(caught.value)
    assert "gradient_checkpointing=auto" in str(caught.value)


def test_the_table_adds_up() -> None:
    made = budget(4.0, limit_gib=3.0)
    setting, _ = made.choose(None, "auto")
    rows = [line.split() for line in made.table(setting).splitlines()[1:]]
    sizes = {row[0]: float(next(word for word in row[1:] if "." in word)) for row in rows}
    parts = ("weights", "LoRA", "adapter", "averages", "activations", "allowance", "spare")
    assert sum(sizes[part] for part in parts) == pytest.approx(sizes["may"], abs=0.04)
    assert sizes["may"] == 3.0
    assert "train.memory_limit_gib 3.00" in made.table(setting)


def test_shared_tokens_make_room_unless_activations_are_computed_twice() -> None:
    made = budget(4.0)
    shared = replace(made, batch=replace(made.batch, n_shared=48))
    kept, again = MemoryChoice(16, False), MemoryChoice(16, True)
    assert shared.activations(kept) < 0.7 * made.activations(kept)
    assert shared.cost(kept) < made.cost(kept)
    assert shared.total(again) == made.total(again)
    assert shared.total(MemoryChoice(1, False)) == made.total(MemoryChoice(1, False))


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit"])
def test_states_are_counted_as_they_are_made(optimizer: str) -> None:
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in ((16, 100), (16, 1000))]
    made = eight_bit_adamw if optimizer == "adamw8bit" else torch.optim.AdamW
    used = made(weights, lr=1e-3)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    used.step()
    tables = ("qmap1", "qmap2")  # shared by all weights
    measured = sum(
        part.nbytes
        for state in used.state.values()
        for name, part in state.items()
        if isinstance(part, torch.Tensor) and part.numel() > 1 and name not in tables
    )
    measured += sum(w.nbytes + w.grad.nbytes for w in weights if w.grad is not None)
    config = TrainConfig(lora_optimizer=optimizer)
    needs = training_needs(WEIGHTS, MODEL, weights, [], config)
    assert needs.lora == measured


def test_averages_and_the_adapter_are_counted() -> None:
    weight = torch.zeros(1000)
    plain = training_needs(WEIGHTS, MODEL, [weight], [weight], TrainConfig())
    averaged = training_needs(WEIGHTS, MODEL, [weight], [weight], TrainConfig(ema_decay=0.9))
    assert plain.adapter == 4 * 4 * 1000
    assert plain.average == 0
    assert averaged.average == 2 * 4 * 2000


def test_a_gpu_leaves_room_for_others() -> None:
    card = gpu_capacity("a card", 8 * GIB, GIB, None)
    assert card.usable == 7 * GIB
    assert gpu_capacity("a card", 8 * GIB, GIB, 6 * GIB).usable == 6 * GIB
    assert gpu_capacity("a card", 8 * GIB, 3 * GIB, 6 * GIB).usable == 5 * GIB


@given(st.floats(0.4, 4.0), st.integers(1, 5000))
def test_as_many_events_are_scored_at_once_as_fit(total_gib: float, most: int) -> None:
    made = budget(total_gib)
    size = made.scored_at_once(most)
    assert 1 <= size <= most

    def fits(n_events: int) -> bool:
        scored = replace(made.batch, n_scored=n_events).scored
        peak = MODEL.scoring_peak(scored, dequantized=WEIGHTS.largest) * 1.1
        return made.needs.fixed + peak + made.capacity.allowance <= made.capacity.usable

    assert fits(size) or size == 1
    assert size == most or not fits(2 * size)
