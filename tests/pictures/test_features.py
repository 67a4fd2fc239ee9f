"""The page of feature distributions: what the histograms hold, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hepllm.pictures.features import FeatureHistograms, plot_feature, plot_features
from hepllm.schema import FEATURES


def test_each_class_sums_to_one_whatever_its_size() -> None:
    random = np.random.default_rng(3)
    classes = {"signal": random.normal(500, 50, 100), "background": random.normal(300, 90, 5000)}
    classes["signal"][:25] = np.nan
    found = FeatureHistograms.of(FEATURES["jet1_mass"], classes)
    assert {label: density.sum() for label, density in found.densities.items()} == {
        "signal": pytest.approx(1),
        "background": pytest.approx(1),
    }
    assert found.missing == {"signal": 0.25, "background": 0.0}
    assert (np.diff(found.edges) > 0).all()


def test_panels_have_errors_a_ratio_and_names_in_words() -> None:
    random = np.random.default_rng(3)
    classes = {"signal": random.normal(500, 50, 100), "background": random.normal(480, 90, 5000)}
    found = FeatureHistograms.of(FEATURES["jet1_mass"], classes)
    for label, values in classes.items():
        n_events = found.densities[label] * len(values)
        np.testing.assert_allclose(found.error(label), np.sqrt(n_events) / len(values))
    upper, lower = plot_feature(found).axes
    assert upper.get_ylabel() == "share of events"
    assert lower.get_ylabel() == "S / B"
    assert lower.get_xlabel() == FEATURES["jet1_mass"].axis_label != "jet1_mass [GeV]"
    (ratio,) = lower.containers
    both = (found.densities["signal"] > 0) & (found.densities["background"] > 0)
    expected = found.densities["signal"][both] / found.densities["background"][both]
    np.testing.assert_allclose(ratio.lines[0].get_ydata(), expected)
    alone = FeatureHistograms.of(FEATURES["jet1_mass"], {"unknown": classes["signal"]})
    assert len(plot_feature(alone).axes) == 1


def test_values_outside_the_axis_count_in_the_outermost_bins() -> None:
    values = np.concatenate([np.linspace(0, 1, 10_000), [1e9]])
    found = FeatureHistograms.of(FEATURES["jet1_tau1"], {"background": values})
    assert found.edges[-1] < 2
    assert found.densities["background"].sum() == pytest.approx(1)
    assert found.densities["background"][-1] >= found.densities["background"][-2]


def test_bins_of_counts_are_centred_on_them() -> None:
    numbers = np.repeat([1.0, 2.0, 3.0], [10, 70, 20])
    found = FeatureHistograms.of(FEATURES["n_jets"], {"background": numbers})
    assert found.edges.tolist() == [0.5, 1.5, 2.5, 3.5]
    np.testing.assert_allclose(found.densities["background"], [0.1, 0.7, 0.2])


def test_one_value_only_and_none_at_all(tmp_path: Path) -> None:
    same = FeatureHistograms.of(FEATURES["m_jj"], {"signal": np.full(5, 3500.0)})
    assert same.densities["signal"].sum() == 1
    none = FeatureHistograms.of(FEATURES["m_jjj"], {"signal": np.full(5, np.nan)})
    assert none.densities == {}
    assert none.missing == {"signal": 1.0}
    page = tmp_path / "page.png"
    plot_features([same, none], "two", {"signal": 5}, page)
    assert page.stat().st_size > 1000
    plot_features([none], "none", {"signal": 5}, page)
    assert [path.name for path in tmp_path.iterdir()] == ["page.png"]
