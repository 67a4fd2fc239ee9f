"""Masses as soft tokens and as numbers of an event, by one encoder.

A mass that a hypothesis states and the masses of an event's jets pass the same encoder, so that the
model compares like with like; that a number is one token whose embedding is continuous in its value
is the idea of xVal (Golkar et al., arXiv:2310.02989). Scales are fixed, not fitted to training
events: the encoder has to work at masses that were never seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hepllm.config import FusionConfig
from hepllm.model.adapter.embedding import PeriodicEmbedding, Standardizer

_CENTRE, _WIDTH = math.log(100.0), 0.5
"""A mass enters as (log(mass in GeV) - centre) / width: 20 GeV to 1 TeV are -3 to 5."""
_LEAST = 1.0
"""Masses in GeV are clipped here, far below any that two jets can be told apart by."""

_NEAR = 0.3
"""A log ratio of masses enters in this unit, of two to three times the resolution of a jet mass."""
_FAR = 5.0
"""Units beyond which a ratio is just far; a factor of 4.5 in mass."""

_JET_MASSES = (("jet_mass_light", "jet_mass_delta"), ("jet1_mass", "jet2_mass"))
"""Pairs of features that have the masses of both leading jets."""


class MassEncoder(nn.Module):
    """Embeds masses in GeV, in float32, and makes soft tokens of those in a text.

    Args:
        hidden_size: embedding size of the language model.
        embedding_rms: root mean square of the language model's input embeddings.
        config: size of the embedding.
    """

    rms: Tensor

    def __init__(self, hidden_size: int, embedding_rms: float, config: FusionConfig) -> None:
        super().__init__()
        self.size = config.embedding_size
        self.hidden_size = hidden_size
        self.embedding = PeriodicEmbedding(
            1, config.n_frequencies, config.frequency_scale, self.size
        )
        self.token = nn.Linear(self.size, hidden_size)
        self.register_buffer("rms", torch.tensor(embedding_rms))

    def embed(self, log_masses: Tensor) -> Tensor:
        """Embeds logarithms of masses in GeV, any shape, with a new last axis of ``size``."""
        standard = (log_masses.clamp(min=math.log(_LEAST)) - _CENTRE) / _WIDTH
        embedded: Tensor = self.embedding(standard.reshape(-1, 1))
        return embedded.view(*log_masses.shape, self.size)

    def forward(self, masses: Tensor) -> Tensor:
        """Makes the soft tokens of masses in GeV, shape (M,), as (M, hidden_size), float32."""
        with torch.autocast(masses.device.type, enabled=False):
            tokens = self.token(self.embed(masses.clamp(min=_LEAST).log().float()))
            return nn.functional.rms_norm(tokens, (self.hidden_size,)) * self.rms


class MassComparison(nn.Module):
    """Embeds the masses of an event's jets and, with ``fusion.compare``, their ratios to others.

    The others are the masses that a hypothesis states. A ratio whose mass is not stated, or whose
    jet has none, has a learnt embedding of its own.

    Args:
        columns: of the two features that have the jet masses, from ``mass_columns``.
        names: all features, in the order of the columns.
        encoder: the encoder of masses, which remains the caller's.
        config: size of the embeddings.
    """

    def __init__(
        self,
        columns: tuple[int, int],
        names: Sequence[str],
        encoder: MassEncoder,
        config: FusionConfig,
    ) -> None:
        super().__init__()
        self._encoder = (encoder,)  # in a tuple, so that its weights are not ours as well
        self._columns = list(columns)
        self._is_light_and_delta = names[columns[0]] == _JET_MASSES[0][0]
        size = config.embedding_size
        self.missing = nn.Parameter(torch.zeros(2, size))
        self.ratios: PeriodicEmbedding | None = None
        self.size = 2 * size
        if config.compare:
            self.ratios = PeriodicEmbedding(4, config.n_frequencies, config.frequency_scale, size)
            self.missing_ratio = nn.Parameter(torch.zeros(4, size))
            self.size += 4 * size

    def forward(
        self,
        standardizer: Standardizer,
        standard: Tensor,
        missing: Tensor,
        stated: Tensor | None,
    ) -> Tensor:
        """Embeds B events, shape (B, ``size``).

        Args:
            standardizer: what the features were standardised by.
            standard: shape (B, F), standardised features.
            missing: shape (B, F), 1 where one is missing, 0 where not, or in between.
            stated: shape (B, 2), stated masses in GeV, NaN where none is; None for none at all.
        """
        logs = self._log_jet_masses(standardizer, standard)
        lacking = 1 - (1 - missing[:, self._columns]).prod(dim=1, keepdim=True)
        both = lacking.expand(-1, 2).unsqueeze(-1)
        (encoder,) = self._encoder
        parts = [torch.lerp(encoder.embed(logs), self.missing.expand(len(logs), -1, -1), both)]
        if self.ratios is not None:
            if stated is None:
                stated = torch.full_like(logs, math.nan)
            unstated = torch.isnan(stated)
            wanted = torch.where(unstated, 1.0, stated).clamp(min=_LEAST).log().float()
            ratios = (logs.unsqueeze(2) - wanted.unsqueeze(1)).flatten(1) / _NEAR
            unstated = unstated.unsqueeze(1).expand(-1, 2, -1).flatten(1)
            embedded = self.ratios(torch.where(unstated, 0.0, ratios.clamp(-_FAR, _FAR)))
            share = torch.where(unstated, 1.0, lacking).unsqueeze(-1)
            parts.append(torch.lerp(embedded, self.missing_ratio.expand_as(embedded), share))
        return torch.cat(parts, dim=1).flatten(1)

    def _log_jet_masses(self, standardizer: Standardizer, standard: Tensor) -> Tensor:
        """Returns the logarithms of the lighter and the heavier jet's mass in GeV, (B, 2)."""
        first, second = standardizer.restore(standard)[:, self._columns].unbind(1)
        if self._is_light_and_delta:
            light, heavy = first, first + second
        else:
            light, heavy = torch.minimum(first, second), torch.maximum(first, second)
        return torch.stack([light, heavy], dim=1).clamp(min=_LEAST).log()


def mass_columns(names: Sequence[str]) -> tuple[int, int] | None:
    """Returns the columns of the two features that have the jet masses; None without them."""
    for pair in _JET_MASSES:
        if set(pair) <= set(names):
            first, second = (names.index(name) for name in pair)
            return first, second
    return None
