"""Jets as sets of constituents: soft tokens from attention between particles."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hepllm.config import ParticlesConfig
from hepllm.model.adapter.constituents import (
    Constituents,
    constituent_features,
    pair_features,
    relative_constituents,
)
from hepllm.model.inputs import ModelInputs
from hepllm.schema import LEADING_JETS

_RANGE = 5.0
"""Standardised values are clipped here: the encoder learns nothing beyond the training data."""

_FIT_EVENTS = 4096
"""Events, evenly spaced, from which scales are taken: 300,000 constituents."""

_MASKED = -1e9
_PAIR_WIDTH = 16


class Scales(nn.Module):
    """Standardises the last axis; fitted once, saved with the weights.

    Args:
        n_values: length of the last axis.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_values: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_values))
        self.register_buffer("scale", torch.ones(n_values))

    def fit(self, values: Tensor) -> None:
        """Fits mean and standard deviation to values of shape (M, n_values)."""
        if not len(values):
            return
        scale = values.std(0, correction=0)
        self.mean.copy_(values.mean(0))
        self.scale.copy_(torch.where(scale > 0, scale, 1.0))

    def forward(self, values: Tensor) -> Tensor:
        """Standardises values of shape (..., n_values)."""
        return ((values - self.mean) / self.scale).clamp(-_RANGE, _RANGE)


class AttentionBlock(nn.Module):
    """Attention and a two-layer network, each after a normalisation and added to its input.

    Args:
        width: length of each vector.
        heads: heads of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.joined = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.network = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, asking: Tensor, asked: Tensor, bias: Tensor | None) -> Tensor:
        """Lets vectors attend to others.

        Args:
            asking: shape (J, Q, width).
            asked: shape (J, K, width).
            bias: added to the attention before the softmax, of a shape like (J, heads, Q, K), or
                None.
        """
        n_jets, n_asking, width = asking.shape
        asks, told = self.before_attention(asking), self.before_attention(asked)
        query = self.query(asks).view(n_jets, n_asking, self.heads, -1).transpose(1, 2)
        key, value = (
            self.key_value(told)
            .view(n_jets, told.shape[1], 2, self.heads, -1)
            .permute(2, 0, 3, 1, 4)
        )
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        asking = asking + self.joined(found.transpose(1, 2).reshape(n_jets, n_asking, width))
        moved: Tensor = asking + self.network(self.before_network(asking))
        return moved


class ParticleEncoder(nn.Module):
    """Maps the constituents of both leading jets to soft tokens of the language model.

    A small particle transformer (arXiv:2202.03772): constituents of a jet attend to one another,
    then learnt vectors, one per token, attend to them, and in the end the vectors of both jets to
    one another. Both jets have the same weights, the lighter one comes first, and each knows its
    mass. The tokens do not depend on the order of constituents. Computes in float32, whatever the
    precision of the language model; tokens are scaled to the root mean square of the model's own
    embeddings.

    Args:
        hidden_size: embedding size of the language model.
        embedding_rms: root mean square of the language model's input embeddings.
        config: size and kind of the encoder.
    """

    rms: Tensor

    def __init__(self, hidden_size: int, embedding_rms: float, config: ParticlesConfig) -> None:
        super().__init__()
        self.config = config
        self.n_tokens = LEADING_JETS * config.tokens_per_jet
        self.hidden_size = hidden_size
        width, heads = config.width, config.heads
        n_axes = 3 if config.representation == "rest" else 2
        n_features = 3 + 2 * n_axes
        self.register_buffer("rms", torch.tensor(embedding_rms))
        self.scales, self.jet_scales = Scales(n_features), Scales(2)
        self.embedding = nn.Sequential(
            nn.Linear(n_features, width), nn.GELU(), nn.Linear(width, width)
        )
        self.jet_embedding = nn.Linear(2, width)
        self.missing_jet = nn.Parameter(torch.zeros(width))
        self.pair_scales: Scales | None = None
        if config.pairwise:
            self.pair_scales = Scales(3)
            self.pair_bias = nn.Sequential(
                nn.Linear(3, _PAIR_WIDTH), nn.GELU(), nn.Linear(_PAIR_WIDTH, heads)
            )
        self.blocks = nn.ModuleList(AttentionBlock(width, heads) for _ in range(config.layers))
        self.asking = nn.Parameter(0.02 * torch.randn(config.tokens_per_jet, width))
        self.pooling = AttentionBlock(width, heads)
        self.place = nn.Parameter(0.02 * torch.randn(self.n_tokens, width))
        self.event = AttentionBlock(width, heads)
        self.norm = nn.LayerNorm(width)
        self.to_tokens = nn.Linear(width, hidden_size)

    @torch.no_grad()
    def fit(self, inputs: ModelInputs) -> None:
        """Fits the scales to training events."""
        step = max(1, len(inputs) // _FIT_EVENTS)
        of = self._constituents(inputs.take(slice(None, None, step)))
        self.scales.fit(constituent_features(of)[of.present])
        self.jet_scales.fit(of.jet[of.present.any(1)])
        if self.pair_scales is not None:
            for_pairs = slice(None, None, 16)  # a jet has 40 constituents, and 1,600 pairs of them
            few = Constituents(*(part[for_pairs] for part in vars(of).values()))
            both = few.present.unsqueeze(1) & few.present.unsqueeze(2)
            self.pair_scales.fit(pair_features(few)[both])

    def encode(self, inputs: ModelInputs) -> Tensor:
        """Makes soft tokens of B events on the encoder's device, as ``forward`` returns them.

        Raises:
            ValueError: if the inputs have no particles.
        """
        tokens: Tensor = self(self._tensor(inputs.particles))
        return tokens

    def forward(self, particles: Tensor) -> Tensor:
        """Makes soft tokens, shape (B, n_tokens, hidden_size), float32; the light jet's first.

        Args:
            particles: shape (B, 2, 1 + K, 4), as in ``ModelInputs.particles``.
        """
        with torch.autocast(particles.device.type, enabled=False):
            tokens = self.to_tokens(self.pooled(particles))
            return functional.rms_norm(tokens, (self.hidden_size,)) * self.rms

    def pooled(self, particles: Tensor) -> Tensor:
        """The vectors that tokens are made of, shape (B, n_tokens, width), float32."""
        jets, present = by_mass(particles.float(), self.config.max_constituents)
        of = relative_constituents(jets, self.config.representation)
        of_jet = self.jet_embedding(self.jet_scales(of.jet))
        of_jet = torch.where(present.unsqueeze(-1), of_jet, self.missing_jet).unsqueeze(1)
        vectors = self.embedding(self.scales(constituent_features(of))) + of_jet
        mask = torch.where(of.present, 0.0, _MASKED)[:, None, None]
        bias = mask
        if self.pair_scales is not None:
            bias = self.pair_bias(self.pair_scales(pair_features(of))).permute(0, 3, 1, 2) + mask
        for block in self.blocks:
            vectors = block(vectors, vectors, bias)
        asking = self.asking + of_jet
        # They attend to themselves too, so that a jet without constituents has somewhere to look.
        mask = functional.pad(mask, (self.config.tokens_per_jet, 0))
        of_jet = self.pooling(asking, torch.cat([asking, vectors], dim=1), mask)
        both = of_jet.view(len(particles), self.n_tokens, -1) + self.place
        pooled: Tensor = self.norm(self.event(both, both, None))
        return pooled

    def _constituents(self, inputs: ModelInputs) -> Constituents:
        particles = self._tensor(inputs.particles).float()
        jets, _ = by_mass(particles, self.config.max_constituents)
        return relative_constituents(jets, self.config.representation)

    def _tensor(self, particles: NDArray[Any] | None) -> Tensor:
        if particles is None:
            raise ValueError("this adapter reads particles: give them in the inputs")
        return torch.from_numpy(np.ascontiguousarray(particles)).to(self.rms.device)


def by_mass(particles: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Puts the lighter of both jets first, because their order in pT is nearly random.

    Args:
        particles: shape (B, 2, 1 + K, 4).
        most: constituents of a jet that are kept.

    Returns:
        Jets of shape (2 B, 1 + most, 4), and whether each is there, shape (2 B,).
    """
    mass = particles[:, :, 0, 3].nan_to_num(nan=torch.inf)  # a missing jet is last
    order = mass.argsort(dim=1, stable=True)[:, :, None, None]
    jets = particles[:, :, : 1 + most].take_along_dim(order, dim=1).flatten(0, 1)
    return jets, ~jets[:, 0, 0].isnan()
