"""How numbers enter the adapter: standardised, then as sines and cosines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hepllm.arrays import Floats
from hepllm.schema import FEATURES

_RANGE = 5.0
"""Standardised values are clipped here: the adapter learns nothing beyond the training data."""


class Standardizer(nn.Module):
    """Transforms and standardises each feature; fitted once, saved with the weights.

    Args:
        names: features, which choose the transform of each column; others have none.
    """

    mean: Tensor
    scale: Tensor
    is_log: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("scale", torch.ones(len(names)))
        is_log = [name in FEATURES and FEATURES[name].transform == "log" for name in names]
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

    def restore(self, standard: Tensor) -> Tensor:
        """Returns the values of standardised ones, shape (..., F), in the precision of these."""
        transformed = standard * self.scale + self.mean
        return torch.where(self.is_log, torch.expm1(transformed), transformed)

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
