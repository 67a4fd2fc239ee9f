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
"""Standardised values are clipped here: the adapter learns nothing beyond the training data."""


def token_groups(names: Sequence[str], config: FusionConfig) -> tuple[tuple[int, ...], ...]:
    """Groups the columns; each group makes ``config.n_tokens`` soft tokens.

    Args:
        names: features, in the order of the columns.
        config: ``per_jet`` makes one group per jet that has features, in order, and a last one for
            those of the whole event; otherwise there is one group.
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
    """Transforms and standardises each feature; fitted once, saved with the weights.

    Args:
        names: features, which choose the transform of each column.
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
        """Fits mean and standard deviation to values of shape (N, F); NaN where missing."""
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
            Standardised values in float32, 0 where missing, and the mask of missing values.
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
        n_features: numbers per event.
        n_frequencies: sines and cosines per number.
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

    Computes in float32, whatever the precision of the language model. A missing number has a
    learnt embedding of its own. The tokens are scaled to the root mean square of the model's own
    embeddings, so that neither outweighs the other.

    Args:
        names: features, in the order of the columns that ``forward`` takes.
        hidden_size: embedding size of the language model.
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
        """Fits mean and standard deviation of each feature to training events."""
        self.standardizer.fit(inputs.numbers)

    def encode(self, inputs: ModelInputs) -> Tensor:
        """Makes soft tokens of events on the encoder's device, as ``forward`` returns them."""
        values = torch.from_numpy(np.ascontiguousarray(inputs.numbers)).to(self.rms.device)
        tokens: Tensor = self(values)
        return tokens

    def forward(self, values: Tensor) -> Tensor:
        """Makes soft tokens, shape (B, n_tokens, hidden_size), float32.

        Args:
            values: shape (B, F), float64, in GeV and radians; NaN where missing.
        """
        with torch.autocast(values.device.type, enabled=False):
            standard, missing = self.standardizer(values)
            return self.tokens_of(standard, missing.float())

    def tokens_of(self, standard: Tensor, missing: Tensor) -> Tensor:
        """Makes soft tokens of standardised values, as ``forward`` returns them.

        Args:
            standard: shape (B, F), float32.
            missing: shape (B, F), 1 where a value is missing and 0 where not; a value in between
                blends both embeddings, so that the tokens are differentiable in it.
        """
        with torch.autocast(standard.device.type, enabled=False):
            embedded = (
                self.embedding(standard) if self.embedding is not None else standard.unsqueeze(-1)
            )
            embedded = torch.lerp(embedded, self.missing.expand_as(embedded), missing.unsqueeze(-1))
            tokens = self.mlp(embedded.flatten(1)).view(-1, self.n_tokens, self.hidden_size)
            return nn.functional.rms_norm(tokens, (self.hidden_size,)) * self.rms


class _GroupedMlp(nn.Module):
    """One MLP per group of features; joins their tokens.

    Args:
        groups: columns of each group.
        mlps: one per group.
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
