"""The adapter with a linear head, trained on events whose classes differ in their constituents."""

from __future__ import annotations

import numpy as np
import pytest

from hepllm.baselines.particles import fit_adapter
from hepllm.baselines.scorer import TrainingSample
from hepllm.config import FusionConfig, ParticlesConfig
from hepllm.errors import InputError
from hepllm.model.inputs import ModelInputs

N_EVENTS = 400
SMALL = ParticlesConfig(width=8, heads=2, layers=1, max_constituents=6)


def events(seed: int) -> tuple[ModelInputs, np.ndarray]:
    """Jets of equal pT and mass with six constituents: signal has two clusters of them."""
    random = np.random.default_rng(seed)
    label = (random.random(N_EVENTS) < 0.5).astype(np.int8)
    jets = np.zeros((N_EVENTS, 2, 7, 4), dtype=np.float32)
    jets[:, :, 0] = 600.0, 0.0, 0.0, 100.0
    jets[:, :, 1:, 0] = 100.0
    side = np.where(np.arange(6) < 3, 0.2, -0.2) * label[:, None, None]
    jets[:, :, 1:, 1] = side + 0.1 * random.normal(size=(N_EVENTS, 2, 6))
    jets[:, :, 1:, 2] = 0.1 * random.normal(size=(N_EVENTS, 2, 6))
    return ModelInputs(random.normal(size=(N_EVENTS, 2)), jets), label


def sample_of(inputs: ModelInputs, label: np.ndarray, reads: str, seed: int = 1) -> TrainingSample:
    fusion = FusionConfig(inputs=reads, hidden_size=16, particles=SMALL)
    names = ("tau21_light", "tau21_heavy")
    return TrainingSample(inputs.numbers, names, label, seed=seed, fusion=fusion)


@pytest.mark.parametrize("reads", ["particles", "both"])
def test_constituents_tell_the_classes_apart(reads: str) -> None:
    inputs, label = events(1)
    network = fit_adapter(sample_of(inputs, label, reads), inputs, epochs=4)
    others, truth = events(2)
    scores = network.score(others)
    assert scores.shape == (N_EVENTS,)
    assert ((scores > 0) == truth).mean() > 0.95
    np.testing.assert_allclose(network.score(others.take(slice(5))), scores[:5], atol=1e-5)


def test_the_seed_alone_decides() -> None:
    inputs, label = events(1)
    first, again, other = (
        fit_adapter(sample_of(inputs, label, "particles", seed), inputs, epochs=1).score(inputs)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_one_class_is_refused() -> None:
    inputs, label = events(1)
    with pytest.raises(InputError, match="20 training events of each class"):
        fit_adapter(sample_of(inputs, np.zeros_like(label), "particles"), inputs)
