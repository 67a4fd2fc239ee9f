from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hepllm.config import FusionConfig
from hepllm.model.adapter.fusion import count_soft_tokens
from hepllm.model.adapter.numbers import (
    NumberEncoder,
    PeriodicEmbedding,
    Standardizer,
    token_groups,
)
from hepllm.schema import feature_names

NAMES = feature_names("search")
RMS = 0.13


def adapter(**settings: object) -> NumberEncoder:
    torch.manual_seed(1)
    config = FusionConfig(hidden_size=32, n_frequencies=8, **settings)
    return NumberEncoder(NAMES, 48, RMS, config)


def rows(n_events: int = 16) -> NDArray[np.float64]:
    return np.random.default_rng(1).gamma(3.0, 20.0, (n_events, len(NAMES)))


def test_standardisation_against_numpy() -> None:
    names = ("jet1_mass", "tau21_light")  # log, then identity
    values = np.array([[10.0, 0.1], [100.0, np.nan], [1000.0, 0.5]])
    standardizer = Standardizer(names)
    standardizer.fit(values)
    standard, missing = standardizer(torch.from_numpy(values))
    logs = np.log1p(values[:, 0])
    np.testing.assert_allclose(standard[:, 0], (logs - logs.mean()) / logs.std(), rtol=1e-5)
    np.testing.assert_allclose(standard[:, 1], [-1.0, 0.0, 1.0], rtol=1e-5, atol=1e-7)
    assert missing.tolist() == [[False, False], [False, True], [False, False]]


def test_it_is_fitted_where_the_model_lies() -> None:
    standardizer = Standardizer(NAMES).to("meta")  # a device that refuses to mix with the CPU
    standardizer.fit(rows())
    assert standardizer.mean.device.type == "meta"


def test_a_constant_feature_does_not_divide_by_zero() -> None:
    standardizer = Standardizer(("n_jets",))
    standardizer.fit(np.full((5, 1), 2.0))
    standard, _ = standardizer(torch.tensor([[2.0], [3.0]], dtype=torch.float64))
    assert standard.flatten().tolist() == [0.0, 1.0]


def test_values_far_outside_the_training_range_are_clipped() -> None:
    standardizer = Standardizer(("n_jets",))
    standardizer.fit(np.array([[1.0], [3.0]]))
    standard, _ = standardizer(torch.tensor([[1e9], [-1e9]], dtype=torch.float64))
    assert standard.flatten().tolist() == [5.0, -5.0]


def test_periodic_embedding_against_its_equation() -> None:
    torch.manual_seed(1)
    embedding = PeriodicEmbedding(2, 3, 1.0, 4)
    values = torch.tensor([[0.3, -1.2]])
    got = embedding(values)[0, 1]
    angles = 2 * np.pi * embedding.frequencies[1].detach().numpy() * -1.2
    waves = np.concatenate([np.sin(angles), np.cos(angles)])
    linear = waves @ embedding.weight[1].detach().numpy() + embedding.bias[1].detach().numpy()
    np.testing.assert_allclose(got.detach(), np.maximum(linear, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("embedding", ["periodic", "plain"])
@pytest.mark.parametrize("n_tokens", [1, 3])
def test_tokens_have_the_size_and_rms_of_the_model(embedding: str, n_tokens: int) -> None:
    nfa = adapter(embedding=embedding, n_tokens=n_tokens)
    nfa.standardizer.fit(rows())
    tokens = nfa(torch.from_numpy(rows()))
    assert tokens.shape == (16, n_tokens, 48)
    np.testing.assert_allclose(tokens.square().mean(-1).sqrt().detach(), RMS, rtol=1e-3)


def test_each_jet_has_tokens_of_its_own() -> None:
    nfa = adapter(per_jet=True, n_tokens=2)
    nfa.standardizer.fit(rows())
    owners = [name.partition("_")[0] for name in NAMES]
    jets = [jet for jet in ("jet1", "jet2", "jet3") if jet in owners]
    tokens = nfa(torch.from_numpy(rows()))
    assert tokens.shape == (16, 2 * (len(jets) + 1), 48)
    assert nfa.n_tokens == count_soft_tokens(NAMES, FusionConfig(per_jet=True, n_tokens=2))
    base = rows(1)
    reference = nfa(torch.from_numpy(base))[0]
    for column, owner in enumerate(owners):
        changed = base.copy()
        changed[0, column] *= 1.5
        moved = (nfa(torch.from_numpy(changed))[0] - reference).abs().amax(-1) > 1e-6
        group = jets.index(owner) if owner in jets else len(jets)
        assert moved.nonzero().flatten().tolist() == [2 * group, 2 * group + 1], NAMES[column]


def test_one_group_of_features_is_one_token() -> None:
    names = ("m_jj", "jet_mass_light")  # of the event, whatever their names begin with
    assert token_groups(names, FusionConfig(per_jet=True)) == ((0, 1),)
    assert count_soft_tokens(NAMES, FusionConfig(enabled=False)) == 0


def test_dropout_acts_in_training_only() -> None:
    nfa = adapter(dropout=0.5)
    values = torch.from_numpy(rows())
    assert not torch.equal(nfa(values), nfa(values))
    nfa.eval()
    assert torch.equal(nfa(values), nfa(values))


def test_every_number_matters_and_so_does_its_absence() -> None:
    nfa = adapter()
    nfa.standardizer.fit(rows())
    torch.nn.init.normal_(nfa.missing)
    base = rows(1)
    reference = nfa(torch.from_numpy(base))
    for column in range(len(NAMES)):
        for value in (base[0, column] * 1.5, np.nan):
            changed = base.copy()
            changed[0, column] = value
            difference = (nfa(torch.from_numpy(changed)) - reference).abs().max()
            assert difference > 1e-5, NAMES[column]


def test_it_stays_in_float32_under_autocast() -> None:
    nfa = adapter()
    with torch.autocast("cpu", torch.bfloat16):
        tokens = nfa(torch.from_numpy(rows()))
    assert tokens.dtype == torch.float32
    assert torch.equal(tokens, nfa(torch.from_numpy(rows())))


def test_every_weight_gets_a_gradient() -> None:
    nfa = adapter()
    values = rows()
    values[0, :] = np.nan
    target = torch.randn(16, 1, 48)
    (nfa(torch.from_numpy(values)) * target).sum().backward()
    for name, weight in nfa.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


def test_the_standardiser_travels_with_the_weights() -> None:
    nfa = adapter()
    nfa.standardizer.fit(rows())
    other = adapter()
    other.load_state_dict(nfa.state_dict())
    values = torch.from_numpy(rows(4))
    assert torch.equal(other(values), nfa(values))
