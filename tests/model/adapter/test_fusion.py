"""The adapter as the sum of its encoders, and the names of its tensors in checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hepllm.config import FusionConfig
from hepllm.model.adapter.fusion import NumericFusionAdapter, count_soft_tokens
from hepllm.model.inputs import ModelInputs

NAMES = ("m_jj", "jet1_pt", "jet2_eta")
SMALL = FusionConfig(n_tokens=2, per_jet=True, hidden_size=8, embedding_size=4, n_frequencies=3)

FORMER_NAMES = {
    "missing",
    "rms",
    "standardizer.mean",
    "standardizer.scale",
    "embedding.frequencies",
    "embedding.weight",
    "embedding.bias",
}
"""Tensors of a checkpoint of version 0.1.0, those of its MLPs apart."""


def inputs() -> ModelInputs:
    return ModelInputs(np.random.default_rng(1).gamma(4.0, 30.0, (6, len(NAMES))))


class _Constant:
    """An encoder of one token that only knows how often it was fitted."""

    n_tokens = 1
    n_fitted = 0

    def fit(self, inputs: ModelInputs) -> None:
        self.n_fitted += 1

    def encode(self, inputs: ModelInputs) -> Tensor:
        return torch.full((len(inputs), 1, 16), 7.0)


def test_the_groups_of_all_encoders_stand_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    nfa, other = NumericFusionAdapter(NAMES, 16, 0.02, SMALL), _Constant()
    alone = nfa(inputs())
    assert alone.shape == (6, 6, 16)
    assert nfa.n_tokens == count_soft_tokens(NAMES, SMALL) == 6
    assert torch.equal(alone, nfa.numbers.encode(inputs()))
    monkeypatch.setattr(
        NumericFusionAdapter, "encoders", property(lambda self: (other, self.numbers))
    )
    nfa.fit(inputs())
    assert nfa.n_tokens == 7
    tokens = nfa(inputs())
    assert (tokens[:, 0] == 7).all()
    assert torch.equal(tokens[:, 1:], nfa.numbers.encode(inputs()))
    assert other.n_fitted == 1
    assert nfa.numbers.standardizer.mean.abs().max() > 0


def test_tensors_keep_the_names_of_earlier_checkpoints() -> None:
    nfa, other = (NumericFusionAdapter(NAMES, 16, 0.02, SMALL) for _ in range(2))
    nfa.fit(inputs())
    stored = nfa.stored()
    assert {name for name in stored if not name.startswith("mlp.")} == FORMER_NAMES
    assert nfa.weights().keys() == stored.keys() - {
        "rms",
        "standardizer.mean",
        "standardizer.scale",
    }
    other.load_stored(stored)
    assert torch.equal(other(inputs()), nfa(inputs()))
    del stored["missing"]
    with pytest.raises(RuntimeError, match="missing"):
        other.load_stored(stored)


def test_the_root_mean_square_is_that_of_the_embeddings() -> None:
    nfa = NumericFusionAdapter(NAMES, 16, 0.02, SMALL)
    assert nfa.relative_rms(inputs()) == pytest.approx(1, rel=1e-2)


def test_without_fusion_there_are_no_tokens() -> None:
    assert count_soft_tokens(NAMES, FusionConfig(enabled=False)) == 0
