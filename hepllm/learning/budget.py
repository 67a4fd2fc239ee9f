"""The memory budget of a training, and the fastest way to do a step within it.

Weights and optimizer states are counted, activations follow a formula (``hepllm.model.footprint``).
The rest of the device holds events: few at a time with all activations kept, or more with
activations computed twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from hepllm.config import TrainConfig
from hepllm.errors import InputError
from hepllm.learning.capacity import Capacity
from hepllm.learning.optimizers import lora_optimizer_name
from hepllm.model.footprint import ActivationModel, Passage, Weights
from hepllm.model.prefix import sharing_pays

_GIB = 2**30
_FLOAT32 = 4
_STEP_COPIES = 3
"""Most copies of the trained weights in a step: before, after, and their difference."""

_SMALL_TENSOR, _STATE_BLOCK = 4096, 256
"""Weights below which bitsandbytes keeps 32-bit states, and 8-bit states that share a scale."""

_PASS_COST = 200
"""Tokens whose computation takes as long as reading, or dequantising, the weights.

A pass over few tokens takes the time to read its weights from memory, whatever the number of
tokens. On cards from the RTX 3070 (448 GB/s, about 40 TFLOP/s in bfloat16) to the H200 (4.8 TB/s,
about 900) plain weights take as long as 90 to 190 tokens; dequantising 4-bit weights, which writes
and reads them once more, takes about twice that on the smaller cards. An estimate, not measured;
the choice changes little between 100 and 400.
"""
_PASSES, _PASSES_WITH_CHECKPOINTING = 2, 3
"""Forward, backward, and the forward pass of each block again. Frozen weights have no gradient, so
the backward pass costs as much as the forward pass, and checkpointing adds another half."""


@dataclass(frozen=True)
class Needs:
    """What a training holds in memory.

    Attributes:
        weights: weights of the frozen language model.
        lora: bytes of the LoRA weights, their gradients and optimizer states.
        adapter: the same bytes for the NFA.
        average: bytes of the moving averages of both.
        step: bytes that an update needs temporarily.
        activations: shape of the language model.
    """

    weights: Weights
    lora: int
    adapter: int
    average: int
    step: int
    activations: ActivationModel

    @property
    def fixed(self) -> int:
        """Bytes that do not depend on the events in memory."""
        return self.weights.total + self.lora + self.adapter + self.average


@dataclass(frozen=True)
class MemoryChoice:
    """How a step is done.

    Attributes:
        micro_batch: events in memory at once.
        checkpointing: whether the backward pass computes activations again instead of keeping them.
    """

    micro_batch: int
    checkpointing: bool

    def __str__(self) -> str:
        with_it = "with" if self.checkpointing else "without"
        events = "event" if self.micro_batch == 1 else "events"
        return f"micro-batches of {self.micro_batch} {events} {with_it} gradient checkpointing"


@dataclass(frozen=True)
class Batch:
    """The events of a step.

    Attributes:
        n_events: events of this process.
        n_tokens: tokens of the longest prompt of an event.
        attention: kernel that PyTorch uses.
        passes: forward passes before a backward pass, 2 with R-Drop.
        n_scored: events of a validation batch.
        n_shared: first tokens that may be encoded once for all events.
        masked_attention: kernel for events that share tokens.
        n_question: first tokens of a prompt behind which events are packed; 0 where they are not.
        n_alike: events behind one copy of these.
        particle_bytes: what the encoder of particles keeps of an event for its backward pass.
    """

    n_events: int
    n_tokens: int
    attention: str
    passes: int
    n_scored: int
    n_shared: int = 0
    masked_attention: str = "efficient"
    n_question: int = 0
    n_alike: int = 1
    particle_bytes: int = 0

    def passage(self, setting: MemoryChoice, n_events: int | None = None) -> Passage:
        """Returns some of its events together, by default a micro-batch."""
        n_events = setting.micro_batch if n_events is None else n_events
        if self.n_question:
            return self._packed(n_events, self.passes)
        events = n_events * self.passes
        n_shared = 0 if setting.checkpointing else self.n_shared
        if sharing_pays(n_shared, self.n_tokens, events):
            return Passage(events, self.n_tokens, self.masked_attention, n_shared)
        return Passage(events, self.n_tokens, self.attention)

    @property
    def scored(self) -> Passage:
        """The largest batch of a validation."""
        if self.n_question:
            return self._packed(self.n_scored, 1)
        return Passage(self.n_scored, self.n_tokens, self.attention)

    def _packed(self, n_events: int, passes: int) -> Passage:
        n_rows = -(-n_events // self.n_alike)
        own = -(-n_events // n_rows) * (self.n_tokens - self.n_question)
        return Passage(
            passes * n_rows,
            self.n_question + own,
            self.masked_attention,
            n_question=self.n_question,
            n_own=self.n_tokens - self.n_question,
        )


@dataclass(frozen=True)
class Budget:
    """A device's memory, what a training needs of it, and how a step may be done.

    Attributes:
        capacity: memory of the device.
        needs: what the training holds, whatever the choice.
        batch: events of a step.
    """

    capacity: Capacity
    needs: Needs
    batch: Batch

    def activations(self, setting: MemoryChoice) -> int:
        """Returns the largest bytes of activations, or of an update if that needs more."""
        largest = self.needs.weights.largest
        training = self.needs.activations.peak(
            self.batch.passage(setting), checkpointing=setting.checkpointing, dequantized=largest
        )
        training += setting.micro_batch * self.batch.passes * self.batch.particle_bytes
        scoring = self.needs.activations.scoring_peak(self.batch.scored, dequantized=largest)
        peak = max(training, scoring, self.needs.step)
        return int(peak * (1 + self.capacity.fragmentation))

    def total(self, setting: MemoryChoice) -> int:
        """Returns the bytes of everything."""
        return self.needs.fixed + self.activations(setting) + self.capacity.allowance

    def fits(self, setting: MemoryChoice) -> bool:
        """Returns whether the training should fit into the device."""
        return self.total(setting) <= self.capacity.usable

    def scored_at_once(self, most: int) -> int:
        """Returns how many events, of ``most``, are scored in a pass that fits, or 1.

        It halves the number until it fits, so that machines that differ little score alike.
        """
        room = self.capacity.usable - self.needs.fixed - self.capacity.allowance
        largest, n_events = self.needs.weights.largest, most
        while n_events > 1:
            passage = replace(self.batch, n_scored=n_events).scored
            peak = self.needs.activations.scoring_peak(passage, dequantized=largest)
            if peak * (1 + self.capacity.fragmentation) <= room:
                break
            n_events = -(-n_events // 2)
        return n_events

    def cost(self, setting: MemoryChoice) -> float:
        """Returns the time of a step, in units of one pass of one token."""
        passes = _PASSES_WITH_CHECKPOINTING if setting.checkpointing else _PASSES
        n_whole, n_left = divmod(self.batch.n_events, setting.micro_batch)
        total = n_whole * _pass_cost(self.batch.passage(setting))
        if n_left:
            total += _pass_cost(self.batch.passage(setting, n_left))
        return passes * total

    def settings(
        self, micro_batch: int | None, checkpointing: Literal["auto"] | bool
    ) -> list[MemoryChoice]:
        """Returns every possible setting, the fastest first; of equals, the one with less memory.

        The arguments are those of ``choose``.
        """
        n_events = self.batch.n_events
        sizes = (
            sorted({-(-n_events // parts) for parts in range(1, n_events + 1)})
            if micro_batch is None
            else [min(micro_batch, n_events)]
        )
        switches = [False, True] if checkpointing == "auto" else [checkpointing]
        found = [MemoryChoice(size, switch) for size in sizes for switch in switches]
        return sorted(found, key=lambda setting: (self.cost(setting), self.total(setting)))

    def choose(
        self, micro_batch: int | None, checkpointing: Literal["auto"] | bool
    ) -> tuple[MemoryChoice, bool]:
        """Chooses the fastest setting that fits.

        Args:
            micro_batch: ``train.micro_batch_size``; if given, used even if it does not fit.
            checkpointing: ``backbone.gradient_checkpointing``.

        Returns:
            The setting, and whether it should fit.

        Raises:
            InputError: if ``micro_batch`` is None and no setting fits.
        """
        settings = self.settings(micro_batch, checkpointing)
        for setting in settings:
            if self.fits(setting):
                return setting, True
        smallest = min(settings, key=lambda s: (self.total(s), s.micro_batch, not s.checkpointing))
        if micro_batch is not None:
            return smallest, False
        raise InputError(
            f"training needs {self.total(smallest) / _GIB:.2f} GiB even in {smallest}, and "
            f"{self.capacity.usable / _GIB:.2f} GiB of {self.capacity.device} may be used; "
            f"{self._advice(checkpointing)}; train.micro_batch_size=1 tries it anyway"
        )

    def _advice(self, checkpointing: Literal["auto"] | bool) -> str:
        ways = []
        if self.capacity.limit is not None and self.capacity.usable == self.capacity.limit:
            ways.append("raise train.memory_limit_gib")
        if checkpointing is False:
            ways.append("set backbone.gradient_checkpointing=auto")
        if self.needs.weights.packed == 0:
            ways.append("set backbone.quantization=nf4")
        ways += [
            "lower backbone.lora.r",
            "lower evaluation.batch_size",
            "choose a shorter prompt.layout or a smaller backbone.name",
        ]
        return ", ".join(ways)

    def table(self, setting: MemoryChoice) -> str:
        """Returns the budget as text, in GiB."""
        needs, weights, capacity = self.needs, self.needs.weights, self.capacity
        stored = f"others {_gib(weights.plain)}"
        if weights.packed:
            scales = f"their scales {_gib(weights.scales)}"
            stored = f"4-bit {_gib(weights.packed)}, {scales}, {stored}"
        passage = self.batch.passage(setting)
        used = f"{setting.micro_batch} x {self.batch.n_tokens} tokens, "
        if passage.n_question:
            used = f"{setting.micro_batch} events in {passage.n_rows} x {passage.n_tokens} tokens, "
        used += "computed twice, " if setting.checkpointing else "kept, "
        used += f"{passage.attention} attention"
        if passage.n_shared:
            used += f", {passage.n_shared} tokens shared"
        if weights.largest:
            used += f"; one layer dequantised {_gib(weights.largest)}"
        usable = f"of {_gib(capacity.total)}, {_gib(capacity.taken)} left to others"
        if capacity.limit is not None:
            usable += f", train.memory_limit_gib {_gib(capacity.limit)}"
        rows = [
            ("weights", weights.total, stored),
            ("LoRA", needs.lora, "weights, gradients, optimizer states"),
            ("adapter", needs.adapter, "the same for the NFA"),
            ("averages", needs.average, "of LoRA and NFA weights"),
            ("activations", self.activations(setting), used),
            ("allowance", capacity.allowance, "libraries and workspaces"),
            ("spare", capacity.usable - self.total(setting), ""),
            ("may be used", capacity.usable, usable),
        ]
        lines = [f"  {name:<12}{_gib(size):>8}  {note}".rstrip() for name, size, note in rows]
        return "\n".join([f"memory budget in GiB, {capacity.device}:", *lines])


def training_needs(
    weights: Weights,
    activations: ActivationModel,
    lora: Iterable[Tensor],
    adapter: Sequence[Tensor],
    config: TrainConfig,
) -> Needs:
    """Adds gradients and optimizer states to the weights.

    Args:
        weights: weights of the frozen language model.
        activations: shape of the language model.
        lora: LoRA weights.
        adapter: weights and buffers of the NFA; empty without one.
        config: settings of the training.
    """
    lora = list(lora)
    sizes = [weight.numel() for weight in lora]
    is_8bit = bool(lora) and lora_optimizer_name(config, lora[0].device) != "adamw"
    states = sum(_state_bytes(size, is_8bit=is_8bit) for size in sizes)
    n_lora, n_adapter = sum(sizes), sum(weight.numel() for weight in adapter)
    trained = _FLOAT32 * (n_lora + n_adapter)
    return Needs(
        weights=weights,
        lora=2 * _FLOAT32 * n_lora + states,
        adapter=4 * _FLOAT32 * n_adapter,
        # A validation holds the averages and the weights.
        average=0 if config.ema_decay is None else 2 * trained,
        step=_STEP_COPIES * trained,
        activations=activations,
    )


def _state_bytes(size: int, *, is_8bit: bool) -> int:
    """Returns the bytes of Adam's two states for a tensor of ``size`` weights."""
    if not is_8bit or size < _SMALL_TENSOR:
        return 2 * _FLOAT32 * size
    return 2 * (size + _FLOAT32 * -(-size // _STATE_BLOCK))


def dropout_mask_bytes(device: torch.device, element: int, dropout: float) -> int:
    """Returns the bytes per number in LoRA's dropout mask: a bool on a GPU, a factor on a CPU."""
    if dropout == 0:
        return 0
    return 1 if device.type == "cuda" else element


def _pass_cost(passage: Passage) -> int:
    """Returns the time of a forward pass, in units of one token."""
    n_readings = 2 if passage.n_shared else 1  # shared tokens are encoded first, in their own pass
    return n_readings * _PASS_COST + passage.encoded


def _gib(size: int) -> str:
    return f"{size / _GIB:.2f}"
