"""Curves of a sample: read back as written, against counted events, and over several runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepllm.config import EvaluationConfig
from hepllm.evaluation.assessment import EvaluationResults, evaluate_scores
from hepllm.evaluation.curves import Band, CurvesRecord, band_over_runs, curves_over_runs
from hepllm.evaluation.scores import ScoreTable


def results(seed: int, names: tuple[str, ...] = ("llm", "boosting")) -> EvaluationResults:
    generator = np.random.default_rng(seed)
    label = np.repeat([1, 0], [300, 900])

    def table() -> ScoreTable:
        scores = {name: generator.normal(size=1200) + 1.5 * label for name in names}
        return ScoreTable(label, scores, {"nfa_zeroed": np.zeros(1200)})

    return evaluate_scores(table(), table(), EvaluationConfig(bootstrap=40), 1)


def band(*values: float) -> Band:
    nothing = np.full(len(values), np.nan)
    bound = np.where(np.isnan(values), 3.0, np.nan)
    grid = np.arange(1, len(values) + 1) / len(values)
    return Band(grid, np.array(values), nothing, nothing, bound)


def test_curves_are_read_back_as_written(tmp_path: Path) -> None:
    before = results(1).curves
    before.write(tmp_path / "curves.json", indent=None)
    after = CurvesRecord.read(tmp_path / "curves.json", "")
    assert list(after.classifiers) == ["llm", "boosting", "nfa_zeroed"]
    assert (after.n_signal, after.n_background, after.min_background) == (300, 900, 10)
    assert after == before
    for name, again in after.curves().items():
        score = before.curves()[name]
        assert again.role == score.role
        for one, other in ((score.sic, again.sic), (score.rejection, again.rejection)):
            for part in ("eps_s", "value", "low", "high", "lower_bound"):
                np.testing.assert_array_equal(getattr(one, part), getattr(other, part))


def test_rejection_is_counted_background() -> None:
    found = results(2)
    events = found.model
    signal = np.sort(events.score[events.is_signal])[::-1]
    background = events.score[~events.is_signal]
    curves = found.curves.curves()["llm"]
    rejection, sic = curves.rejection, curves.sic
    for place, eps_s in enumerate(rejection.eps_s):
        kept = round(eps_s * len(signal))
        passing = np.count_nonzero(background >= signal[kept - 1])
        if passing < found.record.min_background:
            assert np.isnan(rejection.value[place])
            continue
        assert rejection.value[place] == pytest.approx(len(background) / passing)
        assert sic.value[place] == pytest.approx(eps_s * np.sqrt(len(background) / passing))


def test_rejection_lies_within_its_band() -> None:
    rejection = results(3).curves.curves()["llm"].rejection
    shown = ~np.isnan(rejection.low)
    assert np.count_nonzero(shown) > 50
    inside = (rejection.low <= rejection.value) & (rejection.value <= rejection.high)
    assert np.mean(inside[shown]) > 0.9


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=9))
def test_band_over_runs_is_interpolated_order_statistics(values: list[float]) -> None:
    found = band_over_runs([band(value, 1.0) for value in values])
    ordered = sorted(values)

    def quantile(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    assert found.low[0] == pytest.approx(quantile(0.16))
    assert found.value[0] == pytest.approx(quantile(0.50))
    assert found.high[0] == pytest.approx(quantile(0.84))
    assert found.low[1] == found.value[1] == found.high[1] == 1


def test_a_run_with_too_little_background_lies_above_the_others() -> None:
    found = band_over_runs([band(5.0, np.nan), band(7.0, 4.0), band(9.0, 4.5)])
    assert found.value[0] == 7
    assert found.value[1] == 4.5
    assert np.isfinite(found.low).all()
    assert np.isfinite(found.high[0])
    assert found.high[1] == np.inf
    assert np.isnan(found.lower_bound).all()


def test_the_median_is_a_bound_where_most_runs_have_too_little_background() -> None:
    found = band_over_runs([band(5.0), band(np.nan), band(np.nan)])
    assert np.isnan(found.value[0])
    assert found.lower_bound[0] == 3.0
    assert found.high[0] == np.inf


def test_other_efficiencies_are_refused() -> None:
    with pytest.raises(ValueError, match="different signal efficiencies"):
        band_over_runs([band(1.0, 2.0), band(1.0, 2.0, 3.0)])


def test_runs_are_put_together_by_classifier_without_ablations() -> None:
    runs = [results(seed).curves for seed in range(3)]
    runs.append(results(9, ("llm", "boosting", "cut")).curves)
    found = curves_over_runs(runs)
    assert list(found) == ["llm", "boosting"]
    at_half = [run.curves()["boosting"].sic.value[49] for run in runs]
    assert found["boosting"].sic.value[49] == pytest.approx(np.median(at_half))
