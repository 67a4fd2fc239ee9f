"""Baselines in files score to the last bit as they did when they were fitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hepllm.baselines import stored
from hepllm.baselines.boosting import fit_boosting
from hepllm.baselines.hypothesis import fit_given
from hepllm.baselines.logistic import fit_logistic
from hepllm.baselines.particles import fit_adapter
from hepllm.baselines.scorer import TrainingSample
from hepllm.baselines.stored import Trees, load_baseline, store_baseline
from hepllm.config import FusionConfig
from hepllm.errors import InputError
from hepllm.hypotheses.hypothesis import parse_hypothesis
from hepllm.model.inputs import ModelInputs

NAMES = ("jet_mass_light", "jet_mass_delta", "tau21_light", "n_jets")


@pytest.fixture(scope="module")
def sample() -> TrainingSample:
    """Events with missing values, and a column without any."""
    random = np.random.default_rng(1)
    label = np.arange(600) % 2
    features = random.gamma(4, 20 + 30 * label[:, np.newaxis], (600, 4))
    features[random.random(features.shape) < 0.2] = np.nan
    features[:, 2] = np.nan
    return TrainingSample(features, NAMES, label)


def test_stored_trees_are_the_boosting(sample: TrainingSample, tmp_path: Path) -> None:
    boosting, file = fit_boosting(sample), tmp_path / "boosting.safetensors"
    store_baseline(file, boosting, ModelInputs(sample.features))
    events = np.random.default_rng(2).gamma(4, 40, (5000, 4))
    events[::3, 1] = np.nan
    events[:600] = sample.features  # at the thresholds themselves, too
    found = load_baseline(file).score(ModelInputs(events))
    np.testing.assert_array_equal(found, boosting.score(events))
    assert len(np.unique(found)) > 100


def test_a_boosting_with_hypotheses_reads_them_from_a_file(
    sample: TrainingSample, tmp_path: Path
) -> None:
    texts = ("Z' to a 500 GeV and a 100 GeV particle", "Z' to a 200 GeV and a 200 GeV particle")
    stated = np.array([parse_hypothesis(text) for text in texts] * 300, dtype=object)
    shown = replace(sample, hypothesis=stated)
    given, file = fit_given(fit_boosting, shown, differences=True), tmp_path / "given.safetensors"
    inputs = ModelInputs(sample.features, hypothesis=stated)
    store_baseline(file, given, inputs)
    found = load_baseline(file).score(inputs)
    np.testing.assert_array_equal(found, given.score(sample.features, stated))
    assert (found != load_baseline(file).score(ModelInputs(sample.features))).any()


def test_a_network_of_constituents_comes_back(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    label = np.arange(60) % 2
    jets = random.normal(0.1, 0.1, (60, 2, 6, 4)).astype(np.float32)
    jets[..., 0] = random.gamma(4, 20, jets.shape[:-1])
    jets[::4, :, 4:] = np.nan
    fusion = FusionConfig.model_validate(
        {"inputs": "particles", "particles": {"max_constituents": 5, "width": 8}}
    )
    inputs = ModelInputs(np.empty((60, 0)), jets)
    events = TrainingSample(inputs.numbers, (), label, fusion=fusion)
    network = fit_adapter(events, inputs, epochs=1)
    file = tmp_path / "particles.safetensors"
    store_baseline(file, network, inputs)
    np.testing.assert_array_equal(load_baseline(file).score(inputs), network.score(inputs))


def test_a_file_that_would_score_otherwise_is_not_written(
    sample: TrainingSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boosting, made = fit_boosting(sample), Trees.of

    def of_other_version(fitted: stored.Boosting) -> Trees:
        trees = made(fitted)
        return replace(trees, missing_left=~trees.missing_left)

    monkeypatch.setattr(Trees, "of", of_other_version)
    with pytest.raises(InputError, match="scores otherwise than the fitted one"):
        store_baseline(tmp_path / "a.safetensors", boosting, ModelInputs(sample.features))
    with pytest.raises(InputError, match="kept in files are boosting,"):
        store_baseline(
            tmp_path / "a.safetensors", fit_logistic(sample), ModelInputs(sample.features)
        )
    assert not list(tmp_path.iterdir())
    (tmp_path / "b.safetensors").write_bytes(b"no numbers")
    with pytest.raises(InputError, match=r"b\.safetensors: not readable"):
        load_baseline(tmp_path / "b.safetensors")
