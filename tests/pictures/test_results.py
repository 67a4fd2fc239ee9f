"""Pictures are drawn whole, for every kind of sample, without touching global state."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from hepllm.config import EvaluationConfig
from hepllm.evaluation.assessment import EvaluationResults, evaluate_scores
from hepllm.evaluation.metrics import roc
from hepllm.evaluation.scores import ScoreTable
from hepllm.evaluation.sculpting import BackgroundMasses, MassBins, measure_sculpting
from hepllm.pictures.results import plot_roc, plot_scores, plot_sic
from hepllm.pictures.sculpting import plot_sculpting
from hepllm.pictures.style import legend_below, wide_canvas

PLOTS = (plot_roc, plot_scores, plot_sic)


def evaluate(n_signal: int, n_background: int, negative: bool = False) -> EvaluationResults:
    generator = np.random.default_rng(1)

    def table(n_s: int, n_b: int) -> ScoreTable:
        label = np.repeat([1, 0], [n_s, n_b])
        scores = {name: generator.normal(size=n_s + n_b) + label for name in ("llm", "boosting")}
        weight = np.where(np.arange(n_s + n_b) % 7 == 0, -0.5, 1.0) if negative else None
        return ScoreTable(label, scores, weight=weight)

    sample, validation = table(n_signal, n_background), table(200, 200)
    return evaluate_scores(sample, validation, EvaluationConfig(bootstrap=30), 1)


@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize(
    ("n_signal", "n_background", "negative"),
    [(200, 400, False), (200, 400, True), (50, 0, False), (0, 50, False), (3, 4, False)],
)
def test_picture_is_drawn(
    plot: Callable[[EvaluationResults, Path], None],
    n_signal: int,
    n_background: int,
    negative: bool,
    tmp_path: Path,
) -> None:
    plot(evaluate(n_signal, n_background, negative), tmp_path / "a.png")
    picture = imread(tmp_path / "a.png")
    assert picture.shape[0] > 500
    assert picture.std() > 0.05
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("plot", [plot_roc, plot_sic])
def test_curves_go_on_dashed_where_little_background_passes(
    plot: Callable[[EvaluationResults, Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(
        "hepllm.pictures.results.save_figure", lambda figure, _: figures.append(figure)
    )
    results = evaluate(200, 400)
    plot(results, tmp_path / "a.png")
    (axes,) = figures[0].axes
    curve = roc(results.model)
    least = curve.eps_s[np.isfinite(curve.sic(1))].min()
    with_enough = curve.eps_s[np.isfinite(curve.sic(results.record.min_background))].min()
    assert least < with_enough
    dashed = [line for line in axes.get_lines() if line.get_linewidth() == 0.8]
    assert len(dashed) == 2
    x = np.asarray(dashed[0].get_xdata())
    assert (x.min(), x.max()) == (least, with_enough)


def test_a_cascade_greys_out_what_its_model_does_not_reach(tmp_path: Path) -> None:
    results = evaluate(200, 400)
    handovers = {"none": -np.inf, "all": -100.0, "half": 1.0, "much": 2.0}
    for name, handover in handovers.items():
        plot_sic(results, tmp_path / f"{name}.png", handover)
    grey = {
        name: np.isclose(imread(tmp_path / f"{name}.png")[..., :3], 0.91, atol=0.01).all(-1).sum()
        for name in handovers
    }
    assert grey["none"] <= grey["all"] < grey["half"] < grey["much"]


def test_failed_picture_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(self: Figure, file: Path, **_: object) -> None:
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", break_off)
    with pytest.raises(OSError, match="disk full"):
        plot_sic(evaluate(20, 20), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_pyplot_is_not_imported() -> None:
    code = "import sys, hepllm.pictures.results; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("n_background", "is_drawn"), [(3000, True), (60, False)])
def test_spectra_after_cuts_are_drawn_where_enough_passes(
    n_background: int, is_drawn: bool, tmp_path: Path
) -> None:
    results = evaluate(50, n_background)
    m_jj = np.random.default_rng(2).uniform(2600, 8000, n_background)
    bins = MassBins(np.geomspace(2600, 8000, 46), 2, 8)
    scores = {name: one.score[~one.is_signal] for name, one in results.events.items()}
    events = BackgroundMasses(m_jj, np.ones(n_background), bins)
    record, spectra = measure_sculpting(events, scores, mass="m_jj", confidence=0.95, seed=1)
    curves = results.curves.model_copy(update={"spectra": spectra})
    results = replace(results, curves=curves, sculpting=record)
    assert plot_sculpting(results, tmp_path / "a.png") == is_drawn
    assert (tmp_path / "a.png").exists() == is_drawn


def test_no_spectra_are_drawn_without_masses(tmp_path: Path) -> None:
    assert not plot_sculpting(evaluate(50, 3000), tmp_path / "a.png")


def test_a_long_title_of_a_legend_stays_within_the_picture() -> None:
    figure, axes = wide_canvas("a", "b")
    for number in range(9):
        axes.plot([0, 1], [0, number], label=f"boosting_{number}")
    parts = ("95% bootstrap band: first 3", "thin: below 10 background events", "▼ validation cut")
    title = "\n".join([*parts, "● at $\\epsilon_S$ = 0.1, 0.3, 0.5", "▲ lower bound"])
    legend_below(figure, *axes.get_legend_handles_labels(), title)
    figure.canvas.draw()
    (legend,) = figure.legends
    box, whole = legend.get_window_extent(), figure.bbox
    assert box.x0 >= whole.x0
    assert box.x1 <= whole.x1
    assert all(part in legend.get_title().get_text() for part in parts)
