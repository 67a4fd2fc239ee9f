"""The picture of several runs: every run, the median and the interval are where they belong."""

from __future__ import annotations

import io

import numpy as np

from hepllm.evaluation.records import BootstrapRecord
from hepllm.evaluation.seeds import (
    METRICS,
    SeedEstimate,
    SeedGroup,
    SpreadRecord,
    spread,
)
from hepllm.pictures.seeds import seed_figure

VALUES = {"llm": (0.97, 0.96, 0.98), "boosting": (0.975, 0.974, 0.976), "cut": (0.7, 0.7, 0.7)}


def estimates(values: tuple[float | None, ...]) -> dict[str, SeedEstimate]:
    known = [value for value in values if value is not None]
    mean = float(np.mean(known)) if known else 0.01
    one = SeedEstimate(estimate=mean, low=mean - 0.02, high=mean + 0.03, by_run=values)
    return dict.fromkeys(METRICS, one)


def group(name: str) -> SeedGroup:
    return SeedGroup(
        name=name,
        runs=("a", "b", "c"),
        seeds=(1, 2, 3),
        spread={one: dict.fromkeys(METRICS, spread(of)) for one, of in VALUES.items()},
        means={one: estimates(of) for one, of in VALUES.items()},
    )


def record(other: SeedGroup | None = None) -> SpreadRecord:
    pairs = {
        f"llm - {name}": estimates(tuple(np.subtract(VALUES["llm"], VALUES[name]).tolist()))
        for name in ("boosting", "cut")
    }
    drawn = BootstrapRecord(confidence=0.95, n_replicas=10, seed=1, method="any")
    return SpreadRecord(
        **dict(group("demo")),
        sample="test_$a$",
        classifier="llm",
        baselines=("boosting", "cut"),
        n_signal=3,
        n_background=4,
        bootstrap=drawn,
        differences=pairs,
        other=other,
        against={} if other is None else {"llm": estimates(())},
    )


def test_runs_median_and_interval_are_drawn() -> None:
    figure = seed_figure(record())
    figure.savefig(io.BytesIO(), format="svg")
    left, right = figure.axes[:2]
    assert [text.get_text() for text in left.get_yticklabels()] == ["llm", "boosting", "cut"]
    between, runs, median = left.get_lines()[:3]
    np.testing.assert_allclose(between.get_xdata(), (0.95, 1.0))
    np.testing.assert_allclose(runs.get_xdata(), VALUES["llm"])
    np.testing.assert_allclose(median.get_xdata(), 0.97)
    assert [text.get_text() for text in right.get_yticklabels()] == ["llm - boosting", "llm - cut"]
    assert len(figure.axes) == 8  # AUC, two SIC and the largest


def test_a_second_recipe_stands_beside_the_first() -> None:
    figure = seed_figure(record(group("text")))
    names = [[text.get_text() for text in axes.get_yticklabels()] for axes in figure.axes[:2]]
    assert names[0] == ["llm", "llm, text", "boosting", "cut"]
    assert names[1][0] == "demo - text"


def test_a_metric_without_values_has_no_panel() -> None:
    nothing = {
        name: {**found, "max_sic": SeedEstimate(reason="too few", by_run=(None,))}
        for name, found in record().means.items()
    }
    figure = seed_figure(record().model_copy(update={"means": nothing}))
    assert len(figure.axes) == 6


def test_nothing_to_draw_is_said() -> None:
    empty = dict.fromkeys(METRICS, SeedEstimate(reason="too few", by_run=(None,)))
    figure = seed_figure(record().model_copy(update={"means": dict.fromkeys(VALUES, empty)}))
    assert not figure.axes
    assert [text.get_text() for text in figure.texts] == ["no run of the model has a value"]
