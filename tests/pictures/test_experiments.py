"""Pictures of a suite: every seed is where it belongs, and what is missing is marked."""

from __future__ import annotations

import io

import numpy as np
import pytest

from hepllm.evaluation.experiment_records import (
    Comparison,
    MetricPower,
    MetricSummary,
    SeedsNeeded,
    SetSummary,
    SuiteRecord,
)
from hepllm.evaluation.seed_power import seeds_for
from hepllm.pictures.experiments import experiments_figure, power_figure
from hepllm.pictures.style import drawn_as


def metric(*values: float, difference: float | None = None) -> MetricSummary:
    mean = float(np.mean(values)) if values else None
    return MetricSummary(
        mean=mean,
        interval=None if mean is None else (mean - 0.1, mean + 0.1),
        values={str(seed): value for seed, value in enumerate(values, start=1)},
        comparison=None
        if difference is None
        else Comparison(
            difference=difference,
            interval=(difference - 0.1, difference + 0.1),
            p=0.5,
            p_holm=0.5,
            n_seeds=len(values),
        ),
    )


def records() -> tuple[SuiteRecord, SetSummary]:
    found = SetSummary(
        dataset="rnd",
        sample="rnd_$x$",
        n_signal=3,
        n_background=4,
        experiments={
            "plain": {"auc": metric(0.7, 0.8)},
            "wide": {"auc": metric(0.75, 0.9, difference=0.075)},
            "broken": {"auc": metric()},
        },
        power={
            "auc": MetricPower(
                mean=0.75,
                spread=0.05,
                spread_interval=(0.02, 1.0),
                n_seeds=2,
                needed=(SeedsNeeded(relative=0.03, number=80, low=10, high=None),),
            )
        },
    )
    suite = SuiteRecord(
        name="any",
        reference="plain",
        metrics=("auc",),
        confidence=0.95,
        wanted_power=0.8,
        n_tests=1,
        states={},
        problems={},
        sets=(found,),
    )
    return suite, found


def test_seeds_means_and_differences_are_drawn() -> None:
    figure = experiments_figure(*records())
    figure.savefig(io.BytesIO())
    left, right = figure.axes
    seeds = {tuple(map(float, line.get_xdata())) for line in left.lines if line.get_marker() == "o"}
    assert seeds == {(0.7, 0.8), (0.75, 0.9)}
    assert [line.get_marker() for line in left.lines].count("x") == 1
    drawn = [float(line.get_xdata()[0]) for line in right.lines if line.get_marker() == "|"]
    assert drawn == [0.075]
    assert [text.get_text() for text in left.get_yticklabels()] == ["plain", "wide", "broken"]


def test_equal_results_have_equal_bytes() -> None:
    assert drawn_as(experiments_figure(*records()), "svg") == drawn_as(
        experiments_figure(*records()), "svg"
    )


def test_power_rises_to_what_was_told() -> None:
    figure = power_figure(*records())
    figure.savefig(io.BytesIO())
    curve = figure.axes[0].lines[0]
    numbers, powers = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    assert (np.diff(powers) > 0).all()
    number = seeds_for(0.03 * 0.75, 0.05, 0.8)
    assert number is not None
    assert np.interp(number, numbers, powers) == pytest.approx(0.8, abs=0.01)
    assert {"5", "10", "50"} <= {text.get_text() for text in figure.axes[0].get_xticklabels()}


def test_one_experiment_alone_has_no_differences() -> None:
    suite, found = records()
    alone = found.model_copy(update={"experiments": {"plain": found.experiments["plain"]}})
    figure = experiments_figure(suite, alone)
    assert len(figure.axes) == 1
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["a seed", "mean", "95% interval over seeds"]  # and none that is missing
