"""The study of risks without labels: its estimates against risks that are known."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from hepllm.arrays import Bools, Floats
from hepllm.evaluation.calibration import logit
from hepllm.learning.unsupervised_risk import labelled_hinge_risk


@pytest.fixture(scope="module")
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("unsupervised_risk_classifiers")


def _drawn(shares: tuple[int, int], seed: int, slope: float) -> tuple[Floats, Bools]:
    """Scores in balance 1:1, whose log-odds are ``slope`` times the score: two shifted Gaussians.

    log N(x; m, 1) - log N(x; -m, 1) = 2 m x.
    """
    random = np.random.default_rng(seed)
    label = np.repeat([False, True], shares)
    return random.normal(np.where(label, 1, -1) * slope / 2, 1.0), label


@pytest.mark.parametrize("prior", [0.1, 0.5])
def test_estimates_are_the_labelled_risk_with_many_landmarks(
    tool: ModuleType, prior: float
) -> None:
    n_signal = round(20_000 * prior)
    pool, label = _drawn((20_000 - n_signal, n_signal), 1, 2.4)
    marks, mark = _drawn((50_000, 50_000), 2, 2.4)
    shift = logit(prior)
    given = tool.Scores(pool + shift, marks[mark] + shift, marks[~mark] + shift, prior)
    expected = labelled_hinge_risk(given.pool, label, prior)
    for name in ("mixture", "landmarks alone", "signal landmarks, unbiased", "calibrated"):
        assert tool.ESTIMATES[name](given) / expected == pytest.approx(1, abs=0.05), name
    assert abs(tool.uncalibrated(given) / expected - 1) > 0.15  # no log-odds: 2.4 times too small


def test_each_number_of_landmarks_is_tried_with_and_without_temperature(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "LANDMARKS", (64, 512))
    pool, label = _drawn((1800, 200), 1, 2.4)
    marks, mark = _drawn((512, 512), 2, 2.4)
    rows = tool.estimates(pool, label.astype(int), marks, mark.astype(int), 0.1)
    assert [(row["landmarks"], row["scaled"]) for row in rows] == [
        (number, scaled) for number in (64, 512) for scaled in (False, True)
    ]
    assert rows[2]["risk"] == pytest.approx(labelled_hinge_risk(pool + logit(0.1), label, 0.1))
    assert rows[3]["scores as log-odds"] == pytest.approx(rows[3]["calibrated"], abs=0.05)


def test_shapes_are_fitted_where_they_hold(tool: ModuleType) -> None:
    pool, label = _drawn((18_000, 2_000), 3, 3.0)
    marks, mark = _drawn((256, 256), 4, 3.0)
    given = tool.Scores(pool, marks[mark], marks[~mark], 0.1)
    expected = labelled_hinge_risk(pool, label, 0.1)
    for way in tool.SLOW:
        assert tool.ESTIMATES[way](given) / expected == pytest.approx(1, abs=0.15), way


def test_tables_count_what_is_within_5_percent(
    tool: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    head = {"classifier": "linear", "n_labels": 512, "scaled": True, "auc": 0.9, "risk": 0.3}
    rows = [
        head | {"seed": seed, "prior": prior, "landmarks": 64, "mixture": value}
        for prior in tool.PRIORS
        for seed, value in enumerate((0.9, 1.0, 1.04))
    ]
    tool.print_tables(rows)
    printed = capsys.readouterr().out
    assert "| mixture | 6 %, 2/3 | - | - | 6 %, 2/3 | - | - |" in printed
    assert "| mixture | 1.00 [0.90, 1.04] 2/3 | - | - |" in printed
