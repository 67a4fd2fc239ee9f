"""Exact numbers as soft tokens in the embedding space."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from hepllm.config import FusionConfig
from hepllm.model.adapter.embedding import PeriodicEmbedding, Standardizer
from hepllm.model.adapter.masses import MassComparison
from hepllm.model.adapter.stated import DECAY_COLUMNS, Stated
from hepllm.model.inputs import ModelInputs

_JET = re.compile(r"jet\d+(?=_)")


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
        comparison: embeds the jet masses as those of a hypothesis; None where there is none.
        decays: whether the decays that a hypothesis states stand beside the numbers.
    """

    rms: Tensor

    def __init__(
        self,
        names: Sequence[str],
        hidden_size: int,
        embedding_rms: float,
        config: FusionConfig,
        comparison: MassComparison | None = None,
        *,
        decays: bool = False,
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
        self.comparison = comparison
        self.reads_decays = decays
        widths = [len(group) * size for group in groups]
        widths[-1] += comparison.size if comparison is not None else 0
        mlps = [_mlp(width, config, hidden_size) for width in widths[:-1]]
        mlps.append(_mlp(widths[-1], config, hidden_size, DECAY_COLUMNS if decays else 0))
        self.mlp: nn.Module = mlps[0] if len(mlps) == 1 else _GroupedMlp(groups, mlps, size)

    def fit(self, inputs: ModelInputs) -> None:
        """Fits mean and standard deviation of each feature to training events."""
        self.standardizer.fit(inputs.numbers)

    def encode(self, inputs: ModelInputs) -> Tensor:
        """Makes soft tokens of events on the encoder's device, as ``forward`` returns them."""
        device = self.rms.device
        values = torch.from_numpy(np.ascontiguousarray(inputs.numbers)).to(device)
        tokens: Tensor = self(values, self.stated(inputs))
        return tokens

    def stated(self, inputs: ModelInputs) -> Stated | None:
        """Returns what the hypotheses of B events state, for ``forward``."""
        reads = self.comparison is not None or self.reads_decays
        if not reads or inputs.hypothesis is None:
            return None
        return Stated.of(inputs.hypothesis.tolist(), self.rms.device)

    def forward(self, values: Tensor, stated: Stated | None = None) -> Tensor:
        """Makes soft tokens, shape (B, n_tokens, hidden_size), float32.

        Args:
            values: shape (B, F), float64, in GeV and radians; NaN where missing.
            stated: what the hypothesis of each event states; None where no event has one.
        """
        with torch.autocast(values.device.type, enabled=False):
            standard, missing = self.standardizer(values)
            return self.tokens_of(standard, missing.float(), stated)

    def tokens_of(self, standard: Tensor, missing: Tensor, stated: Stated | None = None) -> Tensor:
        """Makes soft tokens of standardised values, as ``forward`` returns them.

        Args:
            standard: shape (B, F), float32.
            missing: shape (B, F), 1 where a value is missing and 0 where not; a value in between
                blends both embeddings, so that the tokens are differentiable in it.
            stated: as for ``forward``.
        """
        with torch.autocast(standard.device.type, enabled=False):
            embedded = (
                self.embedding(standard) if self.embedding is not None else standard.unsqueeze(-1)
            )
            embedded = torch.lerp(embedded, self.missing.expand_as(embedded), missing.unsqueeze(-1))
            inner = embedded.flatten(1)
            if self.comparison is not None:
                masses = None if stated is None else stated.masses
                compared = self.comparison(self.standardizer, standard, missing, masses)
                inner = torch.cat([inner, compared], dim=1)
            if self.reads_decays:
                decays = inner.new_zeros(len(inner), DECAY_COLUMNS)
                inner = torch.cat([inner, decays if stated is None else stated.decays], dim=1)
            tokens = self.mlp(inner).view(-1, self.n_tokens, self.hidden_size)
            return nn.functional.rms_norm(tokens, (self.hidden_size,)) * self.rms


class _GroupedMlp(nn.Module):
    """One MLP per group of features; joins their tokens. The last one has the comparison as well.

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
        """Maps (B, F * size + what follows the features) to (B, all tokens * hidden size)."""
        end = self._size * sum(map(len, self._groups))
        by_feature = embedded[:, :end].view(len(embedded), -1, self._size)
        parts = [by_feature[:, group].flatten(1) for group in self._groups]
        parts[-1] = torch.cat([parts[-1], embedded[:, end:]], dim=1)
        tokens = [mlp(part) for mlp, part in zip(self.mlps, parts, strict=True)]
        return torch.cat(tokens, dim=1)


def _mlp(width: int, config: FusionConfig, hidden_size: int, n_flags: int = 0) -> nn.Sequential:
    """Makes an MLP of ``width`` numbers and ``n_flags`` zeros or ones behind them.

    The weights of the flags start at zero, so one that is never set in training changes nothing.
    """
    first = nn.Linear(width + n_flags, config.hidden_size)
    if n_flags:
        nn.init.zeros_(first.weight[:, width:])
    layers: list[nn.Module] = [first, nn.SiLU(), nn.Dropout(config.dropout)]
    for _ in range(config.depth - 1):
        layers += [
            nn.Linear(config.hidden_size, config.hidden_size),
            nn.SiLU(),
            nn.Dropout(config.dropout),
        ]
    return nn.Sequential(*layers, nn.Linear(config.hidden_size, config.n_tokens * hidden_size))
