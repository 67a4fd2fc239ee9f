from __future__ import annotations

from pathlib import Path

import numpy as np

from hepllm.pictures.audit import Plane, agreement_heat, cluster_heat, plot_heat, plot_review


def test_shares_are_of_the_events_that_the_other_method_knows() -> None:
    shared, known = np.array([[4, 1], [1, 2]]), np.array([[4, 2], [0, 2]])
    heat = agreement_heat(["one", "other"], shared, known)
    np.testing.assert_array_equal(heat.share, [[1.0, 0.5], [np.nan, 1.0]])
    np.testing.assert_array_equal(heat.counts, shared)


def test_clusters_are_in_order_with_noise_at_the_end() -> None:
    table = {
        "easy": {"-1": 1, "0": 30, "10": 5, "2": 0},
        "hard": {"-1": 3, "0": 10, "10": 5, "2": 0},
    }
    heat = cluster_heat("run", table)
    assert list(heat.columns) == ["0", "2", "10", "none"]
    np.testing.assert_array_equal(heat.counts, [[30, 0, 5, 1], [10, 0, 5, 3]])
    np.testing.assert_allclose(heat.share[:, [0, 2, 3]], [[0.75, 0.5, 0.25], [0.25, 0.5, 0.75]])
    assert np.isnan(heat.share[:, 1]).all()


def test_only_the_largest_clusters_are_shown() -> None:
    table = {"easy": {str(number): 1 for number in range(-1, 40)}}
    columns = cluster_heat("run", table).columns
    assert len(columns) == 13
    assert (columns[0], columns[-2], columns[-1]) == ("0", "11", "none")


def test_pictures_are_drawn_with_values_that_are_missing(tmp_path: Path) -> None:
    heat = agreement_heat(["$one", "other"], np.zeros((2, 2), dtype=np.int64), np.zeros((2, 2)))
    plot_heat([heat], "title", tmp_path / "heat.png")
    x, y = np.array([1.0, np.nan, 2.0]), np.array([0.0, 1.0, np.nan])
    why = {"label doubted": np.array([True, False, False])}
    plot_review([Plane(x, y, "x", "y")], why, "title", tmp_path / "scatter.png")
    assert (tmp_path / "heat.png").stat().st_size
    assert (tmp_path / "scatter.png").stat().st_size
