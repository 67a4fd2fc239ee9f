"""The numeric fusion adapter (NFA): joins the soft tokens of particles and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from hepllm.config import FusionConfig
from hepllm.model.adapter.masses import MassComparison, MassEncoder, mass_columns
from hepllm.model.adapter.numbers import NumberEncoder, token_groups
from hepllm.model.adapter.particles import ParticleEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.schema import LEADING_JETS

_NUMBERS = "numbers."


class TokenEncoder(Protocol):
    """Makes a group of soft tokens from one part of the inputs."""

    n_tokens: int

    def fit(self, inputs: ModelInputs) -> None:
        """Takes scales from training events."""

    def encode(self, inputs: ModelInputs) -> Tensor:
        """Makes soft tokens of B events, shape (B, n_tokens, hidden_size), float32."""


def count_soft_tokens(names: Sequence[str], config: FusionConfig) -> int:
    """Counts the soft tokens per event of all encoders; 0 if fusion is off."""
    n_tokens = 0
    if config.reads_numbers:
        n_tokens += len(token_groups(names, config)) * config.n_tokens
    if config.constituents:
        n_tokens += LEADING_JETS * config.particles.tokens_per_jet
    return n_tokens


class NumericFusionAdapter(nn.Module):
    """Maps an event's inputs to soft tokens of the language model's embedding size.

    Args:
        names: features, in the order of the columns of ``ModelInputs.numbers``.
        hidden_size: embedding size of the language model.
        embedding_rms: root mean square of the language model's input embeddings.
        config: size and kind of the adapter.
        reads_hypotheses: whether events are scored under hypotheses, whose masses it then encodes
            and compares with those of the event's jets.
    """

    masses: MassEncoder | None

    def __init__(
        self,
        names: Sequence[str],
        hidden_size: int,
        embedding_rms: float,
        config: FusionConfig,
        *,
        reads_hypotheses: bool = False,
    ) -> None:
        super().__init__()
        self.masses = comparison = None
        if reads_hypotheses:
            self.masses = MassEncoder(hidden_size, embedding_rms, config)
            columns = mass_columns(names)
            if columns is not None and config.reads_numbers:
                comparison = MassComparison(columns, names, self.masses, config)
        self.numbers: NumberEncoder | None = None
        self.particles: ParticleEncoder | None = None
        if config.reads_numbers:
            self.numbers = NumberEncoder(
                names,
                hidden_size,
                embedding_rms,
                config,
                comparison,
                decays=reads_hypotheses and config.decays is True,
            )
        if config.constituents:
            self.particles = ParticleEncoder(hidden_size, embedding_rms, config.particles)
        self.hidden_size = hidden_size
        self.embedding_rms = embedding_rms

    @property
    def encoders(self) -> tuple[TokenEncoder, ...]:
        """The encoders, in the order of their soft tokens: the numbers come last."""
        return tuple(one for one in (self.particles, self.numbers) if one is not None)

    @property
    def n_constituents(self) -> int:
        """The most constituents of each jet that it reads; 0 if it reads no particles."""
        return 0 if self.particles is None else self.particles.config.max_constituents

    @property
    def n_tokens(self) -> int:
        """Soft tokens per event."""
        return sum(encoder.n_tokens for encoder in self.encoders)

    def fit(self, inputs: ModelInputs) -> None:
        """Takes the scales of all encoders from training events."""
        for encoder in self.encoders:
            encoder.fit(inputs)

    def forward(self, inputs: ModelInputs) -> Tensor:
        """Makes the soft tokens of B events, shape (B, n_tokens, hidden_size), float32."""
        return torch.cat([encoder.encode(inputs) for encoder in self.encoders], dim=1)

    def encode_masses(self, masses: Tensor) -> Tensor:
        """Makes the soft tokens of M masses in GeV that hypotheses state, (M, hidden_size)."""
        if self.masses is None:
            raise ValueError("this adapter is made without hypotheses and encodes no masses")
        tokens: Tensor = self.masses(masses)
        return tokens

    @torch.no_grad()
    def relative_rms(self, inputs: ModelInputs) -> float:
        """Returns the root mean square of soft tokens over that of the model's embeddings."""
        return float(self(inputs).square().mean().sqrt() / self.embedding_rms)

    def weights(self) -> dict[str, nn.Parameter]:
        """Returns the weights by their names in checkpoints."""
        return {name.removeprefix(_NUMBERS): weight for name, weight in self.named_parameters()}

    def stored(self) -> dict[str, Tensor]:
        """Returns all tensors of a checkpoint; those of the numbers have no prefix.

        Version 0.1.0 had no other encoder, and its checkpoints still load.
        """
        return {name.removeprefix(_NUMBERS): tensor for name, tensor in self.state_dict().items()}

    def load_stored(self, tensors: Mapping[str, Tensor]) -> None:
        """Loads the tensors of a checkpoint; raises RuntimeError if they do not fit."""
        own = {name.removeprefix(_NUMBERS): name for name in self.state_dict()}
        self.load_state_dict({own.get(name, name): tensor for name, tensor in tensors.items()})
