"""The study of features without labels: mixtures, folds, and ratios of pairs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from hepllm.config import load_config
from hepllm.data.signal_points import SignalPoint, SignalPoints, points_beside
from hepllm.physics.lhco_writer import write_lhco
from hepllm.stages.preprocess import preprocess


@pytest.fixture(scope="module")
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("weak_features")


def test_the_ideal_classifier_is_measured_on_events_that_it_has_not_seen(tool: ModuleType) -> None:
    """The best SIC of the mixture is known: x > c keeps nearly all signal and little background."""
    random = np.random.default_rng(4)
    background, signal = random.normal(size=(24000, 2)), random.normal((3, 0), 1, (6000, 2))
    cuts = np.linspace(0, 3.3, 100)  # beyond, fewer than ten background events are left
    best = max((signal[:, 0] > c).mean() / (background[:, 0] > c).mean() ** 0.5 for c in cuts)

    def measured(fraction: float | None, fit: Callable[..., Any]) -> dict[str, Any]:
        mixed = tool.mix(len(background), len(signal), 1, fraction)
        found = tool.measure(background, signal, mixed, ("x", "y"), n_folds=2, seed=1, fit=fit)
        assert found["n_mixed"] == (6000 if fraction is None else 12000 * fraction)
        return dict(found)

    as_searches = partial(tool.fit_without_labels, 1, None)
    with_signal = measured(0.1, as_searches)
    for one in (
        with_signal,
        measured(0.1, partial(tool.fit_without_labels, 1, 30)),
        measured(None, tool.fit_boosting),
    ):
        assert 0.6 * best < one["max_sic_10"] < 1.15 * best
    assert measured(0.0, as_searches)["sic_at_1e-3"] < 0.5 * with_signal["sic_at_1e-3"]


def test_ratios_are_those_of_equal_mixtures(tool: ModuleType, tmp_path: Path) -> None:
    """Geometric mean of 2, 2 and 4 is 2.52; a mixture that only one set has does not count."""
    lines = tool.Lines(tmp_path / "a.jsonl")
    sic = {"cathode": (1.0, 4.0, 3.0, 9.0), "extended": (2.0, 8.0, 12.0)}
    for features, values in sic.items():
        for seed, value in enumerate(values):
            quantities = dict.fromkeys(tool.QUANTITIES, value)
            line = {"study": "ideal", "template": "ideal", "features": features, "events": 9}
            lines.add({**line, "fraction": 0.02, "seed": seed, "n_mixed": 5, **quantities})
    low, middle, high = tool.interval(np.array([2.0, 2.0, 4.0]))
    assert middle == pytest.approx(16 ** (1 / 3))
    # Logarithms have a standard error of ln(2) / 3, and t(0.975; 2) is 4.303.
    assert high / middle == pytest.approx(middle / low) == pytest.approx(2 ** (4.303 / 3), 1e-3)
    made = CliRunner().invoke(tool.main, ["table", str(lines.file)])
    assert made.exit_code == 0, made.output
    assert f"2.52 [{low:.2f}, {high:.2f}]" in made.output
    file = tmp_path / "a.png"
    drawn = CliRunner().invoke(tool.main, ["picture", str(lines.file), "--output", str(file)])
    assert drawn.exit_code == 0, drawn.output
    assert file.stat().st_size > 1000


def test_each_signal_of_a_grid_has_mixtures_of_its_own(
    dijet_events: Any, tool: ModuleType, tmp_path: Path
) -> None:
    config = load_config(None, ["preprocess.executor=serial"])
    for is_signal, name in enumerate(("background", "signal")):
        file = tmp_path / f"{name}.h5"
        with write_lhco(file, 400, labelled=True) as writer:
            writer.append(dijet_events(400, seed=is_signal)[:, :-1], np.full(400, is_signal == 1))
        if is_signal:
            points = [
                SignalPoint(m_zprime=3500, m_x=500, m_y=mass, first=first, events=200)
                for first, mass in ((0, 80), (200, 100))
            ]
            SignalPoints(points=points).write(points_beside(file))
        preprocess([file], tmp_path / name, config)
    output = tmp_path / "a.jsonl"
    given = ["run", "--background", tmp_path / "background", "--signal", tmp_path / "signal"]
    given += ["--each-point", "--region", 0, 9000, "--fraction", 0.2, "--features", "cathode"]
    given += ["--folds", 2, "--members", 1, "--trees", 2, "--number", 2, "--output", output]
    made = CliRunner().invoke(tool.main, [str(one) for one in given], catch_exceptions=False)
    assert made.exit_code == 0, made.output
    lines = tool.Lines(output).read()
    assert [(one["point"], one["seed"], one["n_mixed"]) for one in lines] == [
        (f"3500 -> 500 {mass}", seed, 40) for mass in (80, 100) for seed in (1, 2)
    ]
    for one in lines:
        twice = {"features": "extended", "max_sic_10": 2 * one["max_sic_10"]}
        tool.Lines(output).add({**one, **twice})
    printed = CliRunner().invoke(tool.main, ["signals", str(output)], catch_exceptions=False)
    rows = [line.split(" | ") for line in printed.output.splitlines()]
    assert [row[1] for row in rows] == ["3500 -> 500 100"] * 2 + ["3500 -> 500 80"] * 2
    assert {row[-1] for row in rows} == {"2.00 |"}


def test_ratios_of_signals_are_means_of_their_mixtures(tool: ModuleType) -> None:
    """Signal a has ratios 2 and 8, so 4; signal b has 9: two signals, not three mixtures."""
    mine = {("a", 1): 2.0, ("a", 2): 8.0, ("b", 1): 9.0}
    sets = {
        "cathode": {mixture: {"max_sic_10": 1.0} for mixture in mine},
        "extended": {mixture: {"max_sic_10": value} for mixture, value in mine.items()},
    }
    assert tool.ratios(sets, "extended", "cathode", "max_sic_10") == pytest.approx([4, 9])
