from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hepllm.cartography.dynamics import DYNAMICS, Dynamics, Part, PartDynamics, read_dynamics
from hepllm.cartography.event_map import choose_part, map_events, read_map
from hepllm.cartography.summary import describe_categories, describe_epochs, largest_step
from hepllm.config import CartographyConfig
from hepllm.errors import InputError


def dynamics(n_events: int = 40, seed: int = 1, **n_epochs: int) -> Dynamics:
    random = np.random.default_rng(seed)
    parts: dict[Part, PartDynamics] = {}
    for name, number in n_epochs.items():
        margin = random.normal(1.0, 2.0, (n_events, number))
        margin[random.random(margin.shape) < 0.1] = np.nan
        margin[0] = np.nan
        probability = 1 / (1 + np.exp(-margin))
        parts[name] = PartDynamics(probability.astype(np.float16), margin.astype(np.float16))  # type: ignore[index]
    label = (np.arange(n_events) % 2).astype(np.int8)
    return Dynamics(np.arange(n_events, dtype=np.uint64) + 7, label, parts)


def test_a_record_that_is_read_is_the_one_that_was_written(tmp_path: Path) -> None:
    made = dynamics(adapter=3, model=12)
    made.write(tmp_path / DYNAMICS)
    first = (tmp_path / DYNAMICS).read_bytes()
    found = read_dynamics(tmp_path, "")
    np.testing.assert_array_equal(found.event_digest, made.event_digest)
    np.testing.assert_array_equal(found.label, made.label)
    assert found.parts.keys() == made.parts.keys()
    for name, one in made.parts.items():
        np.testing.assert_array_equal(found.parts[name].probability, one.probability)
        np.testing.assert_array_equal(found.parts[name].margin, one.margin)
    found.write(tmp_path / DYNAMICS)
    assert (tmp_path / DYNAMICS).read_bytes() == first


def test_the_part_with_more_epochs_counts_unless_one_is_named() -> None:
    both, one = dynamics(adapter=3, model=2), dynamics(model=2)
    here = Path("run")
    assert choose_part(both, CartographyConfig(), here) == "adapter"
    assert choose_part(dynamics(adapter=2, model=2), CartographyConfig(), here) == "model"
    assert choose_part(both, CartographyConfig(epochs="model"), here) == "model"
    with pytest.raises(InputError, match=r"^run: .*set cartography\.epochs=model$"):
        choose_part(one, CartographyConfig(epochs="adapter"), here)
    with pytest.raises(InputError, match=r"skip=2 leaves none of its 2 epochs of the model"):
        choose_part(one, CartographyConfig(skip=2), here)


def test_a_map_has_the_events_that_were_shown_and_is_read_as_written(tmp_path: Path) -> None:
    made = map_events(dynamics(model=5), "model", CartographyConfig())
    assert len(made) == 39
    made.write(tmp_path / "map.parquet", "digest")
    for place in (tmp_path, tmp_path / "map.parquet"):
        found = read_map(place)
        np.testing.assert_array_equal(found.event_digest, made.event_digest)
        np.testing.assert_array_equal(found.category, made.category)
        np.testing.assert_array_equal(found.measures.confidence, made.measures.confidence)
        assert found.part == "model"
    with pytest.raises(InputError, match=r"map\.parquet: missing; make it with: hepllm map"):
        read_map(tmp_path / "other")


def test_categories_are_described_by_what_sets_them_apart() -> None:
    made = map_events(dynamics(2000, model=4), "model", CartographyConfig())
    random = np.random.default_rng(2)
    shift = np.where(made.is_of("hard"), 2.0, 0.0)
    columns = {
        "m_jj": random.normal(size=len(made)),
        "jet_mass_light": random.normal(size=len(made)) + shift,
    }
    columns["m_jj"][:50] = np.nan
    found = describe_categories(made, columns)
    for label, value in (("signal", 1), ("background", 0)):
        assert sum(one.n_events for one in found[label].values()) == (made.label == value).sum()
        assert sum(one.share for one in found[label].values()) == pytest.approx(1.0)
    hard = found["signal"]["hard"].features
    assert next(iter(hard)) == "jet_mass_light"
    assert hard["jet_mass_light"].median == pytest.approx(2.0, abs=0.3)
    chosen = (made.label == 1) & made.is_of("hard")
    assert hard["jet_mass_light"].median == np.median(columns["jet_mass_light"][chosen])


def test_the_distance_is_that_of_kolmogorov_and_smirnov() -> None:
    from scipy.stats import ks_2samp

    random = np.random.default_rng(4)
    first, second = random.normal(size=50), np.append(random.normal(0.5, 1, 70), 0.0)
    assert largest_step(first, second) == pytest.approx(ks_2samp(first, second).statistic)


def test_epochs_count_what_was_learnt_and_forgotten() -> None:
    margin = np.array([[1, -1, np.nan, 1], [-1, 1, 1, -1], [np.nan, np.nan, 1, 1]])
    probability = 1 / (1 + np.exp(-margin))
    part = PartDynamics(probability.astype(np.float16), margin.astype(np.float16))
    made = Dynamics(np.arange(3, dtype=np.uint64), np.ones(3, dtype=np.int8), {"model": part})
    found = [one.classes["signal"] for one in describe_epochs(made, "model", CartographyConfig())]
    assert [one.n_shown for one in found] == [2, 2, 2, 3]
    assert [one.n_learnt for one in found] == [0, 1, 0, 1]
    assert [one.n_forgotten for one in found] == [0, 1, 0, 1]
    assert found[0].correct == 0.5
    assert found[0].loss == pytest.approx(np.log1p(np.exp([-1, 1])).mean())
    last = map_events(made, "model", CartographyConfig())
    assert sum(found[-1].categories.values()) == len(last)
    assert found[-1].confidence == pytest.approx(last.measures.confidence.mean())
