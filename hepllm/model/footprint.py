"""Memory of a classifier: counts its weights and computes its activations by formula.

The activations are what PyTorch keeps between the forward and the backward pass of a decoder with
RMS norms, a gated MLP and LoRA on any of its projections (Llama, Mistral, Qwen). Frozen weights
do not keep their input, so a 4-bit and a plain backbone differ only in one dequantised weight at a
time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

PACKED = "hepllm-packed"
"""Name of the attention of packed events in transformers."""

_FLOAT32 = 4
_PROJECTION = re.compile(r"^(?P<owner>.*)\.(?P<name>[^.]+)\.lora_(?P<half>[AB])\.")
_SHARED_INPUT = {
    "q_proj": "attention",
    "k_proj": "attention",
    "v_proj": "attention",
    "gate_proj": "mlp",
    "up_proj": "mlp",
}
"""Projections of one block that read the same tensor."""
_KEPT_ANYWAY = "o_proj"
"""Projection of the attention's result, which the attention keeps for its own gradient."""

_TRANSIENT = 3
"""Gradients as wide as the MLP that exist at once in the backward pass of a block."""


@dataclass(frozen=True)
class Weights:
    """Bytes of the weights that a classifier holds.

    Attributes:
        packed: 4-bit values.
        scales: scales of the 4-bit values.
        plain: embeddings, norms, output matrix, and all else that is not quantised.
        largest: the largest quantised layer when it is dequantised; 0 without any.
    """

    packed: int
    scales: int
    plain: int
    largest: int

    @property
    def total(self) -> int:
        """Bytes that stay in memory."""
        return self.packed + self.scales + self.plain


@dataclass(frozen=True)
class Projection:
    """A linear layer with LoRA weights.

    Attributes:
        input_name: name of the input tensor, the same for all projections that read it.
        n_inputs: features of that tensor.
        rank: rank of the LoRA weights.
        is_input_kept: whether something else keeps the tensor for the backward pass.
    """

    input_name: str
    n_inputs: int
    rank: int
    is_input_kept: bool


@dataclass(frozen=True)
class Passage:
    """Rows of tokens that go through the model together.

    Attributes:
        n_rows: number of rows, each an event or a question with many events behind it.
        n_tokens: tokens per row, soft tokens included.
        attention: kernel that PyTorch uses: ``flash``, ``efficient`` or ``math``; ``packed`` for
            that of ``hepllm.model.packed_attention``.
        n_shared: first tokens that are encoded once for all rows, which needs a mask.
        n_question: tokens of the question in each row of packed events; 0 for other rows.
        n_own: tokens of each packed event.
    """

    n_rows: int
    n_tokens: int
    attention: str
    n_shared: int = 0
    n_question: int = 0
    n_own: int = 1

    @property
    def is_masked(self) -> bool:
        """Whether attention takes a mask."""
        return self.n_shared > 0 or (self.n_question > 0 and self.attention != "packed")

    @property
    def encoded(self) -> int:
        """Tokens that go through the layers."""
        return self.n_rows * (self.n_tokens - self.n_shared) + self.n_shared

    @property
    def attended(self) -> int:
        """Pairs of query and key in one head, which are computed."""
        if self.attention == "packed":
            of_events = self.n_tokens - self.n_question
            of_event = self.n_question + self.n_own
            return self.n_rows * (self.n_question**2 + of_events * of_event)
        return self.n_rows * (self.n_tokens - self.n_shared) * self.n_tokens


@dataclass(frozen=True)
class ActivationModel:
    """The shape of a language model, and what its layers keep for their gradients.

    Attributes:
        n_layers: decoder blocks.
        hidden: features of a token between blocks.
        intermediate: features inside the MLP.
        queries: features of a query, all heads together.
        keys: features of a key, all heads together.
        n_heads: heads of the queries.
        element: bytes per number in matrix products.
        mask: bytes per number in LoRA's dropout mask; 0 without dropout.
        normalizes_heads: whether queries and keys have norms of their own (Qwen3).
        projections: projections with LoRA weights in all blocks.
        n_lora: LoRA weights of all blocks.
    """

    n_layers: int
    hidden: int
    intermediate: int
    queries: int
    keys: int
    n_heads: int
    element: int
    mask: int
    normalizes_heads: bool
    projections: tuple[Projection, ...]
    n_lora: int

    def kept(self, passage: Passage, *, checkpointing: bool) -> int:
        """Returns the bytes kept between the forward and the backward pass.

        With ``checkpointing`` each block keeps only its input.
        """
        tokens = passage.encoded
        final = tokens * self.hidden * (_FLOAT32 + self.element)  # norm and result
        mask = 0
        if passage.is_masked:  # of packed rows in the layers' precision, else of booleans
            mask = passage.attended * (self.element if passage.n_question else 1)
        if checkpointing:
            return self.n_layers * tokens * self.hidden * self.element + final + mask
        return self.n_layers * self.kept_by_block(passage) + final + mask + self._cast_lora

    def peak(self, passage: Passage, *, checkpointing: bool, dequantized: int = 0) -> int:
        """Returns the largest bytes of activations and their gradients during a step.

        ``dequantized`` are the bytes of the largest quantised layer when it is dequantised.
        """
        tokens = passage.encoded
        widest = max(self.intermediate, 2 * self.hidden)
        n_live = _TRANSIENT
        if checkpointing and any(p.n_inputs == self.intermediate for p in self.projections):
            n_live -= 1  # the first gradient replaces what LoRA has kept
        transient = n_live * tokens * widest * self.element + dequantized
        again = 0
        if checkpointing:  # the last block's activations, computed a second time
            again = self.kept_by_block(passage) + self._cast_lora // self.n_layers
        return self.kept(passage, checkpointing=checkpointing) + again + transient

    def scoring_peak(self, passage: Passage, *, dequantized: int = 0) -> int:
        """Returns the largest bytes of activations during a pass without gradients."""
        tokens = passage.encoded
        width = 2 * self.hidden * _FLOAT32 + 3 * self.intermediate * self.element
        weights = 0
        if passage.attention == "math":
            weights = self.n_heads * passage.attended * 2 * _FLOAT32
        return tokens * width + weights + dequantized

    def kept_by_block(self, passage: Passage) -> int:
        """Returns the bytes that one block keeps for its backward pass."""
        tokens = passage.encoded
        norms = 2 * self.hidden * _FLOAT32  # inputs of the norms, in float32
        if self.normalizes_heads:
            norms += (self.queries + self.keys) * _FLOAT32
        mlp = 3 * self.intermediate * self.element  # gate, its activation, up
        middles = sum(p.rank for p in self.projections) * self.element
        lora = (self._lora_inputs() + middles) // self.n_layers
        return tokens * (norms + mlp + lora) + self._attention(passage)

    @property
    def _cast_lora(self) -> int:
        """Bytes of the copies of LoRA weights that autocast keeps in its own precision."""
        return self.n_lora * self.element if self.element < _FLOAT32 else 0

    def _lora_inputs(self) -> int:
        """Returns the bytes per token that the LoRA weights of all blocks keep of their inputs."""
        if self.mask:  # each projection has its own random mask, and its own masked input
            return sum(p.n_inputs * (self.element + self.mask) for p in self.projections)
        inputs = {p.input_name: p.n_inputs for p in self.projections if not p.is_input_kept}
        return sum(inputs.values()) * self.element

    def _attention(self, passage: Passage) -> int:
        """Returns the bytes of query, key, value, result, and what their product needs."""
        if passage.attention == "packed":
            return self._packed_attention(passage)
        read = passage.n_rows * passage.n_tokens  # keys and values, shared ones repeated
        own = passage.encoded * self.queries
        if passage.attention == "math":  # in float32, with all attention weights
            rounded = self.element if self.element < _FLOAT32 else 0
            weights = self.n_heads * passage.attended * (_FLOAT32 + rounded)
            return (own + 2 * read * self.queries) * _FLOAT32 + own * self.element + weights
        # With a mask, keys and values are repeated for all heads first.
        keys = self.queries if passage.is_masked else self.keys
        mask = passage.attended * self.element if passage.n_shared else 0
        sums = passage.encoded * self.n_heads * _FLOAT32
        return 2 * (own + read * keys) * self.element + mask + sums

    def _packed_attention(self, passage: Passage) -> int:
        """Returns the bytes of the same, in the attention of packed events."""
        of_events = passage.n_rows * (passage.n_tokens - passage.n_question)
        result = passage.encoded * self.queries
        # Queries of events once for their question and once for themselves.
        of_tokens = (2 * of_events + passage.encoded - of_events) * self.queries
        of_tokens += (of_events + 2 * (passage.encoded - of_events)) * 2 * self.keys
        weights = self.n_heads * passage.attended
        copies = 2 if self.element < _FLOAT32 else 1  # rounded, and those of the question apart
        return (result + of_tokens) * self.element + weights * (_FLOAT32 + copies * self.element)


def count_weights(named: Iterable[tuple[str, Tensor]], element: int) -> Weights:
    """Counts a loaded model's frozen weights and buffers.

    Args:
        named: parameters and buffers by name; LoRA weights are left out.
        element: bytes per dequantised number.
    """
    packed = scales = plain = largest = 0
    for name, tensor in named:
        if ".lora_" in name:
            continue
        state: Any = getattr(tensor, "quant_state", None)
        if state is None:
            plain += tensor.nbytes
            continue
        packed += tensor.nbytes
        scales += sum(part.nbytes for part in _scales(state))
        largest = max(largest, element * math.prod(state.shape))
    return Weights(packed, scales, plain, largest)


def activation_model(
    architecture: Any,
    lora: Mapping[str, Tensor],
    *,
    element: int,
    dropout_mask: int,
    normalizes_heads: bool = False,
) -> ActivationModel:
    """Reads a model's shape from its transformers configuration and its LoRA weights by name.

    The other arguments are attributes of ``ActivationModel``.
    """
    text = architecture.get_text_config()
    n_heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // n_heads
    return ActivationModel(
        n_layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        queries=n_heads * head,
        keys=(getattr(text, "num_key_value_heads", None) or n_heads) * head,
        n_heads=n_heads,
        element=element,
        mask=dropout_mask,
        normalizes_heads=normalizes_heads,
        projections=tuple(_projections(lora)),
        n_lora=sum(weight.numel() for weight in lora.values()),
    )


def attention_kernel(
    model: ActivationModel,
    implementation: str,
    dtype: torch.dtype,
    device: torch.device,
    *,
    is_masked: bool,
) -> str:
    """Asks PyTorch which attention kernel it would use: flash, efficient or math; or packed.

    Args:
        model: shape of the language model.
        implementation: name of its attention in transformers.
        dtype: precision of the attention; older GPUs have no kernel for bfloat16.
        device: device that computes.
        is_masked: whether there is an attention mask.
    """
    if implementation == PACKED:
        return "packed"
    if implementation != "sdpa":
        return "flash" if "flash" in implementation else "math"
    head = model.queries // model.n_heads
    query, key = (
        torch.zeros((1, features // head, 8, head), dtype=dtype, device=device, requires_grad=True)
        for features in (model.queries, model.queries if is_masked else model.keys)
    )
    mask = torch.ones(1, 1, 8, 8, dtype=torch.bool, device=device) if is_masked else None
    choice = torch._fused_sdp_choice(
        query, key, key, mask, 0.0, not is_masked, enable_gqa=query.shape != key.shape
    )
    kernel = SDPBackend(choice)
    if kernel == SDPBackend.MATH:
        return "math"
    return "efficient" if kernel == SDPBackend.EFFICIENT_ATTENTION else "flash"


def _projections(lora: Mapping[str, Tensor]) -> Iterable[Projection]:
    for name, weight in lora.items():
        match = _PROJECTION.match(name)
        if match is None or match["half"] != "A":
            continue
        shared = _SHARED_INPUT.get(match["name"], match["name"])
        yield Projection(
            input_name=f"{match['owner']}.{shared}",
            n_inputs=weight.shape[1],
            rank=weight.shape[0],
            is_input_kept=match["name"] == _KEPT_ANYWAY,
        )


def _scales(state: Any) -> list[Tensor]:
    """Returns the tensors beside a 4-bit weight: scales, their scales, and tables of values."""
    inner = state.state2
    nested = [] if inner is None else [state.offset, inner.absmax, inner.code]
    return [state.absmax, state.code, *nested]
