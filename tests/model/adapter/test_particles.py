"""The encoder of constituents: what it must not depend on, and what it must."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hepllm.config import FusionConfig, ParticlesConfig, load_config
from hepllm.errors import ConfigError
from hepllm.model.adapter.fusion import NumericFusionAdapter, count_soft_tokens
from hepllm.model.adapter.particles import ParticleEncoder, by_mass
from hepllm.model.inputs import ModelInputs

HIDDEN, RMS = 32, 0.04
NAMES = ("jet_mass_light", "jet_mass_delta")


def events(n_events: int = 6, n_places: int = 8, seed: int = 1) -> np.ndarray:
    """Jets with 3 to all of their places filled."""
    random = np.random.default_rng(seed)
    shape = (n_events, 2, 1 + n_places)
    rows = np.stack(
        [
            random.exponential(50.0, shape) + 1,
            0.5 + 0.2 * random.normal(size=shape),
            3.1 + 0.2 * random.normal(size=shape),
            np.zeros(shape),
        ],
        axis=-1,
    )
    rows[:, :, 0] = rows[:, :, 1:].sum(2)
    rows[:, :, 0, 1:3] = 0.5, 3.1
    rows[:, :, 0, 3] = random.uniform(50, 500, shape[:2])
    filled = np.arange(n_places) < random.integers(3, n_places + 1, (*shape[:2], 1))
    rows[:, :, 1:][~filled] = np.nan
    return rows.astype(np.float32)


def inputs_of(particles: np.ndarray) -> ModelInputs:
    numbers = np.random.default_rng(1).gamma(4.0, 30.0, (len(particles), len(NAMES)))
    return ModelInputs(numbers, particles)


@pytest.fixture(params=["angles", "scaled", "momenta", "rest"])
def encoder(request: pytest.FixtureRequest) -> ParticleEncoder:
    torch.manual_seed(1)
    config = ParticlesConfig(
        width=16, tokens_per_jet=2, representation=request.param, pairwise=True
    )
    made = ParticleEncoder(HIDDEN, RMS, config).eval()
    made.fit(inputs_of(events(50)))
    return made


def tokens(encoder: ParticleEncoder, particles: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return encoder.encode(inputs_of(particles))


def test_tokens_have_the_size_of_embeddings(encoder: ParticleEncoder) -> None:
    found = tokens(encoder, events())
    assert found.shape == (6, encoder.n_tokens, HIDDEN) == (6, 4, HIDDEN)
    assert found.dtype == torch.float32
    assert float(found.square().mean().sqrt()) == pytest.approx(RMS, rel=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(tokens(encoder, events()), found, rtol=0, atol=0)


def test_the_order_of_constituents_and_of_jets_does_not_matter(encoder: ParticleEncoder) -> None:
    before = events()
    after = before.copy()
    order = 1 + np.random.default_rng(2).permutation(before.shape[2] - 1)
    after[:, :, 1:] = before[:, :, order]
    torch.testing.assert_close(tokens(encoder, after), tokens(encoder, before))
    torch.testing.assert_close(tokens(encoder, before[:, ::-1]), tokens(encoder, before))


def test_empty_places_and_the_rest_of_the_batch_do_not_matter(encoder: ParticleEncoder) -> None:
    before = events()
    longer = np.concatenate([before, np.full((6, 2, 5, 4), np.nan, np.float32)], axis=2)
    torch.testing.assert_close(tokens(encoder, longer), tokens(encoder, before))
    torch.testing.assert_close(tokens(encoder, before[2:3]), tokens(encoder, before)[2:3])


def test_the_attention_of_a_jet_sees_no_constituent_of_the_other(encoder: ParticleEncoder) -> None:
    before = events()
    jets, _ = by_mass(torch.from_numpy(before), 8)
    light = before[:, :, 0, 3].argmin(axis=1)
    rows = np.arange(len(before))
    np.testing.assert_array_equal(jets[0::2], before[rows, light])
    np.testing.assert_array_equal(jets[1::2], before[rows, 1 - light])
    found: list[torch.Tensor] = []
    encoder.pooling.register_forward_hook(lambda _, __, pooled: found.append(pooled))
    after = before.copy()
    after[rows, light, 1, 1] += 0.1
    for particles in (before, after):
        tokens(encoder, particles)
    changed = (found[1] - found[0]).abs().amax(dim=(1, 2)).view(-1, 2)
    assert (changed[:, 0] > 1e-6).all()
    assert (changed[:, 1] == 0).all()


def test_a_jet_that_is_missing_or_empty_has_finite_tokens(encoder: ParticleEncoder) -> None:
    particles = events()
    particles[0, 1] = np.nan
    particles[1, :, 1:] = np.nan
    particles[2] = np.nan
    found = encoder.encode(inputs_of(particles))
    assert torch.isfinite(found).all()
    found.sum().backward()
    assert encoder.missing_jet.grad is not None
    assert encoder.missing_jet.grad.any()
    assert all(torch.isfinite(weight.grad).all() for weight in encoder.parameters())


def test_the_mass_counts_and_only_the_hardest_are_read() -> None:
    encoder = ParticleEncoder(HIDDEN, RMS, ParticlesConfig(max_constituents=4, width=16)).eval()
    before = events(seed=3)
    heavier = before.copy()
    heavier[:, :, 0, 3] *= 1.1
    assert not torch.allclose(tokens(encoder, heavier), tokens(encoder, before))
    torch.testing.assert_close(tokens(encoder, before[:, :, :5]), tokens(encoder, before))


def test_the_scale_of_training_is_kept(encoder: ParticleEncoder) -> None:
    other = ParticleEncoder(HIDDEN, RMS, encoder.config).eval()
    assert not torch.allclose(tokens(other, events()), tokens(encoder, events()))
    other.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(tokens(other, events()), tokens(encoder, events()))


@pytest.mark.parametrize("hidden_size", [576, 4096, 8192])
def test_it_has_at_most_half_a_million_weights(hidden_size: int) -> None:
    """SmolLM2, Mistral-7B, and a model of 70 billion weights."""
    encoder = ParticleEncoder(hidden_size, RMS, ParticlesConfig(pairwise=True))
    assert sum(weight.numel() for weight in encoder.parameters()) <= 500_000


def test_inputs_without_particles_are_refused(encoder: ParticleEncoder) -> None:
    with pytest.raises(ValueError, match="reads particles"):
        encoder.encode(ModelInputs(np.ones((2, 2))))


@pytest.mark.parametrize(("reads", "n_tokens"), [("numbers", 1), ("particles", 4), ("both", 5)])
def test_particles_come_before_numbers(reads: str, n_tokens: int) -> None:
    config = FusionConfig(
        inputs=reads, hidden_size=16, particles=ParticlesConfig(tokens_per_jet=2, width=16)
    )
    adapter = NumericFusionAdapter(NAMES, HIDDEN, RMS, config)
    inputs = inputs_of(events())
    adapter.fit(inputs)
    found = adapter(inputs)
    assert found.shape[1] == adapter.n_tokens == count_soft_tokens(NAMES, config) == n_tokens
    if adapter.particles is not None:
        torch.testing.assert_close(found[:, :4], adapter.particles.encode(inputs))
    if adapter.numbers is not None:
        torch.testing.assert_close(found[:, -1:], adapter.numbers.encode(inputs))
    again = NumericFusionAdapter(NAMES, HIDDEN, RMS, config)
    again.load_stored(adapter.stored())
    torch.testing.assert_close(again(inputs), found)


def test_heads_that_do_not_share_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match="width 48 is not a multiple of heads 5"):
        load_config(None, ["fusion.particles.heads=5"])
