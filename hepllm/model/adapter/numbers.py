"""Exact numbers as soft tokens in the embedding space."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from hepllm.arrays import Floats
from hepllm.config import FusionConfig
from hepllm.model.inputs import ModelInputs
from hepllm.schema import FEATURES

_JET = re.compile(r"jet\d+(?=_)")
_RANGE = 5.0
"""Standardised values are clipped here: an adapter has learnt nothing beyond the training data."""


def token_groups(names: Sequence[str], config: FusionConfig) -> tuple[tuple[int, ...], ...]:
    """Columns that are read together, each group making ``config.n_tokens`` soft tokens.

    Args:
        names: the features, in the order of the columns.
        config: with ``per_jet`` there is a group for each jet that has features, in order, and a
            last one for those of the whole event; else there is one group.
    """
    if not config.per_jet:
        return (tuple(range(len(names))),)
    owners = [match[0] if (match := _JET.match(name)) else "" for name in names]
    ordered = sorted(set(owners), key=lambda owner: (owner == "", owner))
    return tuple(
        tuple(column for column, owner in enumerate(owners) if owner == wanted)
        for wanted in ordered
    )


class Standardizer(nn.Module):
    """Per-feature transform and standardisation, fitted once, kept with the weights.

    Args:
        names: the features, which choose the transform of each column.
    """

    mean: Tensor
    scale: Tensor
    is_log: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("scale", torch.ones(len(names)))
        is_log = [FEATURES[name].transform == "log" for name in names]
        self.register_buffer("is_log", torch.tensor(is_log), persistent=False)

    def fit(self, values: Floats) -> None:
        """Takes mean and standard deviation from training events.

        Args:
            values: shape (N, F); NaN where missing.
        """
        transformed = self._transform(torch.from_numpy(values).to(self.mean.device))
        present = ~torch.isnan(transformed)
        count = present.sum(0).clamp(min=1)
        mean = torch.where(present, transformed, 0.0).sum(0) / count
        deviation = torch.where(present, transformed - mean, 0.0)
        scale = (deviation.square().sum(0) / count).sqrt()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(scale > 0, scale, 1.0))

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Standardises in double precision.

        Args:
            values: shape (B, F), float64; NaN where missing.

        Returns:
            Standardised values in float32, 0 where missing, and the mask of missing ones.
        """
        missing = torch.isnan(values)
        standard = ((self._transform(values) - self.mean) / self.scale).clamp(-_RANGE, _RANGE)
        return torch.where(missing, 0.0, standard).float(), missing

    def _transform(self, values: Tensor) -> Tensor:
        return torch.where(self.is_log, torch.log1p(values.clamp(min=0)), values)


class PeriodicEmbedding(nn.Module):
    """Periodic features, then a linear layer and ReLU for each number.

    PLR of Gorishniy et al., arXiv:2203.05556, equation 2 and section 3.3.

    Args:
        n_features: numbers an event.
        n_frequencies: sines and cosines for each.
        scale: standard deviation of the initial frequencies.
        size: length of each number's embedding.
    """

    def __init__(self, n_features: int, n_frequencies: int, scale: float, size: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(n_features, n_frequencies) * scale)
        fan_in = 2 * n_frequencies
        bound = 1 / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.empty(n_features, fan_in, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(n_features, size))

    def forward(self, values: Tensor) -> Tensor:
        """Embeds (B, F) as (B, F, size)."""
        angles = 2 * math.pi * self.frequencies * values.unsqueeze(-1)
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return torch.relu(torch.einsum("bfi,fio->bfo", waves, self.weight) + self.bias)


class NumberEncoder(nn.Module):
    """Maps an event's numbers to soft tokens of the language model's embedding size.

    Always in float32, whatever precision the language model runs in. A missing number has a
    learnt embedding of its own. The tokens leave with the root mean square of the model's own
    embeddings, so that they neither drown nor vanish among them.

    Args:
        names: the features, in the order of the columns that ``forward`` takes.
        hidden_size: of the language model.
        embedding_rms: root mean square of the language model's input embeddings.
        config: size and kind of the adapter.
    """

    rms: Tensor

    def __init__(
        self, names: Sequence[str], hidden_size: int, embedding_rms: float, config: FusionConfig
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        groups = token_groups(names, config)
        self.n_tokens = len(groups) * config.n_tokens
        self.hidden_size = hidden_size
        self.standardizer = Standardizer(names)
        self.register_buffer("rms", torch.tensor(embedding_rms))
        self.embedding: PeriodicEmbedding | None = None
        size = 1
        if config.embedding == "periodic":
            size = config.embedding_size
            self.embedding = PeriodicEmbedding(
                len(names), config.n_frequencies, config.frequency_scale, size
            )
        self.missing = nn.Parameter(torch.zeros(len(names), size))
        mlps = [_mlp(len(group) * size, config, hidden_size) for group in groups]
        self.mlp: nn.Module = mlps[0] if len(mlps) == 1 else _GroupedMlp(groups, mlps, size)

    def fit(self, inputs: ModelInputs) -> None:
        """Takes mean and standard deviation of each feature from training events."""
        self.standardizer.fit(inputs.numbers)

    def encode(self, inputs: ModelInputs) -> Tensor:
        """Makes soft tokens of events, on the encoder's device; returns as ``forward`` does."""
        values = torch.from_numpy(np.ascontiguousarray(inputs.numbers)).to(self.rms.device)
        tokens: Tensor = self(values)
        return tokens

    def forward(self, values: Tensor) -> Tensor:
        """Makes soft tokens.

        Args:
            values: shape (B, F), float64, in GeV and radians; NaN where missing.

        Returns:
            Shape (B, n_tokens, hidden_size), float32.
        """
        with torch.autocast(values.device.type, enabled=False):
            standard, missing = self.standardizer(values)
            return self.tokens_of(standard, missing.float())

    def tokens_of(self, standard: Tensor, missing: Tensor) -> Tensor:
        """Makes soft tokens of standardised values.

        Args:
            standard: shape (B, F), float32.
            missing: shape (B, F), 1 where a value is missing and 0 where not; in between, so is
                what the adapter sees, which makes the way from one to the other differentiable.

        Returns:
            As ``forward``.
        """
        with torch.autocast(standard.device.type, enabled=False):
            embedded = (
                self.embedding(standard) if self.embedding is not None else standard.unsqueeze(-1)
            )
            embedded = torch.lerp(embedded, self.missing.expand_as(embedded), missing.unsqueeze(-1))
            tokens = self.mlp(embedded.flatten(1)).view(-1, self.n_tokens, self.hidden_size)
            return nn.functional.rms_norm(tokens, (self.hidden_size,)) * self.rms


class _GroupedMlp(nn.Module):
    """An MLP for each group of features; their tokens stand one after another.

    Args:
        groups: columns of each group.
        mlps: of each group.
        size: length of each number's embedding.
    """

    def __init__(
        self, groups: Sequence[Sequence[int]], mlps: Sequence[nn.Module], size: int
    ) -> None:
        super().__init__()
        self._groups = [list(group) for group in groups]
        self._size = size
        self.mlps = nn.ModuleList(mlps)

    def forward(self, embedded: Tensor) -> Tensor:
        """Maps (B, F * size) to (B, all tokens * hidden size)."""
        by_feature = embedded.view(len(embedded), -1, self._size)
        parts = [
            mlp(by_feature[:, group].flatten(1))
            for group, mlp in zip(self._groups, self.mlps, strict=True)
        ]
        return torch.cat(parts, dim=1)


def _mlp(width: int, config: FusionConfig, hidden_size: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(config.depth):
        layers += [nn.Linear(width, config.hidden_size), nn.SiLU(), nn.Dropout(config.dropout)]
        width = config.hidden_size
    return nn.Sequential(*layers, nn.Linear(width, config.n_tokens * hidden_size))
