"""Pictures of several curves: what is drawn is what was given, whatever the names."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from matplotlib.figure import Figure

from hepllm.evaluation.curves import Band, ClassifierCurves, CurveRecord, CurvesRecord
from hepllm.pictures.curves import (
    Caption,
    rejection_figure,
    sic_figure,
    spread_figures,
)
from hepllm.pictures.style import BANDS

CAPTION = Caption("test sample", "$N_s$ = 3", "bands")
Draw = Callable[[Mapping[str, Band], Caption], Figure]


def band(value: float, shown: int = 10) -> Band:
    eps_s = np.arange(1, 11) / 10
    curve = np.where(np.arange(10) >= 10 - shown, value, np.nan)
    return Band(eps_s, curve, curve * 0.9, curve * 1.1, np.full(10, np.nan))


@pytest.mark.parametrize("draw", [sic_figure, rejection_figure])
def test_every_curve_is_drawn_with_its_name(draw: Draw) -> None:
    bands = {"a$b$": band(2.0), "_hidden": band(3.0), "empty": band(4.0, 0), "one": band(5.0, 1)}
    figure = draw(bands, CAPTION)
    figure.savefig(io.BytesIO(), format="svg")
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == [r"a\$b\$", " _hidden", "empty: no value", "one", "random"]
    (axes,) = figure.axes
    first = axes.get_lines()[0]
    np.testing.assert_array_equal(first.get_ydata(), bands["a$b$"].value)
    assert axes.get_ylim()[1] > 5.5


@pytest.mark.parametrize("draw", [sic_figure, rejection_figure])
def test_few_bands_are_drawn_at_once(draw: Draw) -> None:
    (axes,) = draw({str(number): band(2.0 + number) for number in range(7)}, CAPTION).axes
    assert len(axes.collections) == BANDS
    assert len([line for line in axes.get_lines() if not line.get_label().startswith("_")]) == 8


def test_a_point_without_neighbours_is_seen() -> None:
    (axes,) = sic_figure({"one": band(5.0, 1)}, CAPTION).axes
    dots = [line for line in axes.get_lines() if line.get_marker() == "."]
    assert [list(line.get_ydata()) for line in dots] == [[5.0]]


@pytest.mark.parametrize("draw", [sic_figure, rejection_figure])
def test_a_lower_bound_is_dotted_with_arrows_and_told(draw: Draw) -> None:
    eps_s, nothing = np.arange(1, 11) / 10, np.full(10, np.nan)
    value = np.where(eps_s > 0.5, 4.0, np.nan)
    bound = np.where(eps_s > 0.5, np.nan, 6.0)
    open_band = Band(eps_s, value, nothing, np.where(eps_s > 0.7, 5.0, np.inf), bound)
    figure = draw({"llm": open_band}, CAPTION)
    figure.savefig(io.BytesIO(), format="svg")
    (axes,) = figure.axes
    dotted, arrows = axes.get_lines()[:2]
    assert dotted.get_linestyle() == "--"  # matplotlib's name of any pattern
    assert dotted.get_linewidth() < axes.get_lines()[2].get_linewidth()
    np.testing.assert_array_equal(dotted.get_ydata(), bound)
    assert list(arrows.get_ydata()) == [6.0]
    assert "lower bound" in figure.legends[0].get_title().get_text()
    assert 6 < axes.get_ylim()[1] < 20


def recorded(curve: Band) -> CurveRecord:
    return CurveRecord(value=tuple(curve.value), low=tuple(curve.low), high=tuple(curve.high))


def test_spread_shows_the_median_of_each_classifier() -> None:
    runs = [
        CurvesRecord(
            sample="test",
            n_signal=3,
            n_background=4,
            min_background=1,
            confidence=0.95,
            classifiers={
                "llm": ClassifierCurves(
                    role="llm",
                    eps_s=tuple(band(sic).eps_s),
                    sic=recorded(band(sic)),
                    inverse_eps_b=recorded(band(sic**2)),
                )
            },
        )
        for sic in (1.0, 2.0, 6.0)
    ]
    figures = spread_figures(runs)
    assert list(figures) == ["sic", "roc"]
    for figure, median in zip(figures.values(), (2.0, 4.0), strict=True):
        curve = figure.axes[0].get_lines()[0]
        np.testing.assert_allclose(curve.get_ydata(), median)
        assert "median of 3 runs" in figure.legends[0].get_title().get_text()
