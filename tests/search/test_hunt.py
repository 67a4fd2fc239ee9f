"""The search as a whole on drawn events, and what it reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hepllm.config import SearchConfig
from hepllm.errors import InputError, RunError
from hepllm.pictures.search import plot_jet_masses, plot_limits, plot_spectrum
from hepllm.report.search import search_chapter
from hepllm.report.text import as_text
from hepllm.search import submission
from hepllm.search.box import BoxEvents, SearchResult
from hepllm.search.caveats import warnings_of
from hepllm.search.hunt import prepare_background, search, under_hypothesis, usable_cuts
from hepllm.search.jet_masses import JetPairs
from hepllm.search.measurements import Measurement, SignalEfficiency
from hepllm.search.peak_shape import PeakShape
from hepllm.search.records import SearchFindings, Unblinding
from hepllm.search.resonance import Resonance
from hepllm.search.selection_bias import PeakEstimator, selection_bias
from hepllm.search.signal_grid import SignalGrid
from hepllm.search.spectra import ScoreCut, bin_edges
from hepllm.search.submission import (
    Key,
    ReferenceSignal,
    corrected_number,
    disagreement,
    findings_of,
    search_box,
    signal_efficiency,
    truth_of,
)
from hepllm.search.toys import NullHypothesis, PValue

MASS, N_SIGNAL, N_BACKGROUND = 4200.0, 120, 12_000
CONFIG = SearchConfig(efficiencies=(0.01, 0.003), max_toys=1000)


def _box(n_signal: int, seed: int, sculpting: float = 0.0) -> tuple[BoxEvents, np.ndarray]:
    """QCD-like events, of which heavy ones score higher by ``sculpting``, and a resonance."""
    random = np.random.default_rng(seed)
    m_jj = 2500 + random.exponential(600, N_BACKGROUND)
    m_jj[:5] = np.nan  # one jet only
    score = random.normal(size=N_BACKGROUND) + sculpting * (np.nan_to_num(m_jj) / 2500 - 1)
    light, heavy = random.lognormal(4.3, 0.5, (2, N_BACKGROUND))
    signal = random.normal(MASS, 0.036 * MASS, n_signal)
    events = BoxEvents(
        score=np.concatenate([score, random.normal(3, 1, n_signal)]),
        m_jj=np.concatenate([m_jj, signal]),
        jet_mass_light=np.concatenate([np.minimum(light, heavy), random.normal(90, 8, n_signal)]),
        jet_mass_heavy=np.concatenate([np.maximum(light, heavy), random.normal(400, 25, n_signal)]),
    )
    return events, np.arange(N_BACKGROUND + n_signal) >= N_BACKGROUND


def _reference() -> ReferenceSignal:
    scores = np.random.default_rng(9).normal(3, 1, 500)
    return ReferenceSignal(scores, np.full(500, MASS), np.ones(500), "simulation")


def _text(found: SearchFindings) -> str:
    return " ".join(as_text(search_chapter(found, "box")).split())


def _measured(value: float, error: float, method: str = "minos") -> Measurement:
    return Measurement(value=value, below=error, above=error, method=method)


@pytest.fixture(scope="module")
def found() -> SearchResult:
    return search(_box(N_SIGNAL, 1)[0], CONFIG, 1)


def test_injected_signal_is_found_with_its_mass_and_jets(found: SearchResult) -> None:
    assert found.toys.overall.value == pytest.approx(1 / 1001)
    assert found.n_events == N_BACKGROUND + N_SIGNAL
    mass = found.resonance.mass
    assert abs(mass.value - MASS) < 4 * max(mass.below, mass.above)
    assert max(mass.below, mass.above) < 60
    events, is_signal = _box(N_SIGNAL, 1)
    truth = (is_signal & (events.score > found.chosen.cut.threshold)).sum()
    number = found.resonance.n_signal
    assert abs(number.value - truth) < 4 * max(number.below, number.above)
    light, heavy = found.jet_masses["light"].peak, found.jet_masses["heavy"].peak
    assert light is not None
    assert heavy is not None
    assert abs(light.value - 90) < 8
    assert abs(heavy.value - 400) < 25


def test_nothing_is_claimed_without_signal() -> None:
    result = search(_box(0, 5)[0], CONFIG, 1)
    assert result.toys.overall.value > 0.01
    told = findings_of(result, _reference())
    assert "largest fluctuation, no excess: mass" in _text(told)
    assert any("their intervals are not valid" in one for one in told.warnings)
    assert told.n_signal_box is told.signal_over_background is None
    assert told.signal_efficiency is not None
    assert told.signal_efficiency.value > 0


def test_a_p_value_of_1_can_be_written(found: SearchResult, tmp_path: Path) -> None:
    nothing = PValue(1000, 1000)
    toys = replace(found.toys, overall=nothing)
    rows = tuple(replace(one, p_value=nothing) for one in found.selections)
    result = replace(found, toys=toys, selections=rows)
    told = findings_of(result, _reference())
    assert json.loads(json.dumps(told.tree(), allow_nan=False))["significance_global"] is None
    assert "p = 1 for any window" in _text(told)
    plot_spectrum("box", result, tmp_path / "spectrum.png")


@pytest.mark.parametrize("n_signal", [0, N_SIGNAL])
def test_a_box_has_limits_with_and_without_an_excess(n_signal: int, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"limit_step": 0.2, "limit_toys": 100})
    result, told = search_box(_box(n_signal, 5)[0], config, 1, reference=_reference())
    assert told.is_excess == (n_signal > 0)
    json.dumps(told.tree(), allow_nan=False)
    limits = told.upper_limits
    assert limits is not None
    assert limits.efficiency_of == "simulation"
    assert "of this signal at every mass, simulation" in _text(told)
    assert "Upper limits on signal events, 95% CL" in _text(told)
    plot_limits("box", limits, tmp_path / "limits.png")
    assert (tmp_path / "limits.png").stat().st_size > 10_000
    assert findings_of(result, None).upper_limits is None


def test_box_without_limits_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RunError("no upper limit: the background takes it up")

    monkeypatch.setattr(submission, "upper_limits", fails)
    _, findings = search_box(_box(0, 5)[0], CONFIG, 1)
    assert findings.upper_limits is None
    assert findings.warnings[-1] == "no upper limit: the background takes it up"


def test_no_peak_is_no_number(found: SearchResult) -> None:
    none = replace(found.resonance, n_signal=_measured(-200.0, 20))
    told = findings_of(replace(found, resonance=none), _reference(), None)
    assert told.n_signal_box is told.signal_over_background is None
    assert any("finds no peak" in one for one in told.warnings)


def test_fit_that_misses_the_spectrum_is_told(found: SearchResult) -> None:
    def told(n_exceeding: int) -> list[str]:
        rows = [replace(found.selections[0], goodness_outside=PValue(n_exceeding, 1000))]
        words = warnings_of(replace(found, selections=rows + found.selections[1:]))
        return [one for one in words if "after the cut at 0.01 is not described" in one]

    assert len(told(0)) == 1
    assert not told(500)


def test_rough_interval_is_told(found: SearchResult) -> None:
    rough = replace(found.resonance, mass=_measured(4200.0, 1.0, "hesse"))
    assert any("Minos finds no interval" in w for w in warnings_of(replace(found, resonance=rough)))
    stuck = replace(found.resonance, width_at_limit=True)
    assert any("narrower or wider" in w for w in warnings_of(replace(found, resonance=stuck)))


def test_interval_at_a_limit_is_told(found: SearchResult) -> None:
    def told(name: str, method: str) -> bool:
        resonance = replace(found.resonance, **{name: _measured(1.0, 0.1, method)})
        words = warnings_of(replace(found, resonance=resonance))
        label = {"mass": "resonance's mass", "width": "relative width"}[name]
        return any(f"{label} ends at a limit" in one for one in words)

    for name in ("mass", "width"):
        assert told(name, "minos, at limit")
        assert not told(name, "minos")


def test_scores_that_are_not_finite_are_refused() -> None:
    events, _ = _box(0, 5)
    events.score[[7, 900]] = np.nan, np.inf
    with pytest.raises(InputError, match=r"2 of 12000 scores are not finite, .* nan in row 7"):
        search(events, CONFIG, 1)


def test_ties_are_told() -> None:
    events, _ = _box(0, 5)
    tied = replace(events, score=np.minimum(events.score, 2.5))  # more than 0.3 % are above
    result = search(tied, CONFIG, 1)
    assert [one.efficiency for one in result.tied] == [0.003]
    (told,) = [one for one in warnings_of(result) if "equal scores" in one]
    assert "the cut at 0.003 keeps 0 events instead of" in told
    assert not search(events, CONFIG, 1).tied
    with pytest.raises(InputError, match="many events have equal scores"):
        usable_cuts(np.zeros(12_000), CONFIG)


def test_score_that_follows_the_mass_is_told() -> None:
    result = search(_box(0, 3, sculpting=1.5)[0], CONFIG, 1)
    told = findings_of(result, None)
    assert any("changes the spectrum outside of the resonance" in one for one in told.warnings)
    assert "Warning: the cut changes the spectrum" in _text(told)
    assert result.toys.overall.value > 0.005  # smooth sculpting is taken up by the fit


def test_cut_that_carves_the_spectrum_is_told() -> None:
    events, _ = _box(0, 3)
    # Waves that are shorter than a smooth factor can follow.
    wave = np.sin(2 * np.pi * np.log(np.nan_to_num(events.m_jj, nan=2500) / 2500) / 0.2)
    result = search(replace(events, score=events.score + 0.6 * wave), CONFIG, 1)
    told = warnings_of(result)
    assert any("is not described outside of the resonance" in one for one in told)


def test_plain_boxes_cause_no_warning_about_the_background() -> None:
    told = warnings_of(search(_box(0, 5, sculpting=0.2)[0], CONFIG, 1))
    assert not [one for one in told if "describe" in one or "changes the spectrum" in one]


def test_signal_that_fails_the_cut_is_told() -> None:
    events, _ = _box(0, 5)
    random = np.random.default_rng(6)
    n_failing = 1500
    failing = BoxEvents(
        score=np.append(events.score, np.full(n_failing, -9.0)),
        m_jj=np.append(events.m_jj, random.normal(MASS, 0.036 * MASS, n_failing)),
        jet_mass_light=np.append(events.jet_mass_light, np.full(n_failing, 90.0)),
        jet_mass_heavy=np.append(events.jet_mass_heavy, np.full(n_failing, 400.0)),
    )
    result = search(failing, CONFIG, 1)
    (told,) = [one for one in warnings_of(result) if "before the cut" in one]
    assert "a signal that fails the cut" in told
    mass = int(told.split(" GeV, so")[0].split(" ")[-1])
    assert abs(mass - MASS) < 150
    # The selected events have no signal, and none is claimed.
    assert result.toys.overall.value > 0.01


def test_significances_are_told(found: SearchResult) -> None:
    told = findings_of(found, _reference())
    extrapolated = told.significance_global_extrapolated
    assert extrapolated is not None
    assert told.significance_global is not None
    assert told.significance_global < extrapolated.low < extrapolated.value < extrapolated.high
    # A global significance is smaller than the local one.
    assert told.significance_local is not None
    assert extrapolated.value < told.significance_local
    best = next(one for one in told.selections if one.efficiency == told.best_selection)
    assert best.local_peak is not None
    assert abs(best.local_peak.mass_gev - MASS) < 100
    assert best.spurious_signal is not None
    assert best.spurious_signal.over_error_beyond_noise < 0.3
    text = _text(told)
    assert "Extrapolated with weighted pseudo-experiments" in text
    assert "local significance of the peak" in text


def test_turn_on_in_the_range_is_told() -> None:
    events, _ = _box(0, 4)
    turning_on = events.m_jj < 3200
    kept = ~turning_on | (np.random.default_rng(1).random(len(turning_on)) < 0.3)
    result = search(events.take(kept), CONFIG, 1)
    assert any("m_jj_min" in one for one in findings_of(result, None).warnings)


def test_findings_are_json_and_truth_stands_beside(found: SearchResult) -> None:
    events, is_signal = _box(N_SIGNAL, 1)
    told = findings_of(found, _reference())
    tree = json.loads(json.dumps(told.tree(), allow_nan=False))
    assert SearchFindings.model_validate(tree) == told
    truth = truth_of(told, Key(is_signal, events.score, events.m_jj))
    assert truth.n_signal_box == N_SIGNAL
    assert truth.median_m_jj_of_signal_gev == pytest.approx(MASS, rel=0.02)
    passing = events.score > found.selections[0].cut.threshold
    assert truth.selections[0].n_signal == (is_signal & passing).sum()
    box = tree["n_signal_box"]
    assert abs(box["value"] - N_SIGNAL) < 4 * max(box["below"], box["above"])
    assert any("10000 or more" in one for one in tree["warnings"]) == (tree["p_value"] < 1e-3)
    unblinding = Unblinding(
        submission_sha256="0",
        submission_written="2026-01-02T03:04:05+00:00",
        labels_read="2026-01-02T03:05:05+00:00",
        truth=truth,
    )
    text = " ".join(as_text(search_chapter(told, "box", unblinding=unblinding)).split())
    assert f"key: signal events {N_SIGNAL} (S/B 0.01)" in text
    assert "key: read 2026-01-02 03:05 UTC, after the submission was written" in text
    assert f"signal events in the box {told.n_signal_box} (" in text
    assert "key:" not in _text(told)


def test_search_is_reproducible(found: SearchResult) -> None:
    again = search(_box(N_SIGNAL, 1)[0], CONFIG, 1)
    assert again.toys == found.toys
    assert again.resonance.mass == found.resonance.mass
    assert again.jet_masses["heavy"].peak == found.jet_masses["heavy"].peak


def test_pictures_are_drawn(found: SearchResult, tmp_path: Path) -> None:
    plot_spectrum("box", found, tmp_path / "spectrum.png")
    plot_jet_masses("box", found, tmp_path / "jets.png")
    for file in tmp_path.iterdir():
        assert file.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2


def test_efficiency_has_the_interval_of_clopper_and_pearson() -> None:
    selection = ScoreCut(0.01, 0.0, 10)
    reference = ReferenceSignal(
        np.repeat([1.0, -1.0], [30, 70]), np.full(100, 3000.0), np.ones(100), ""
    )
    found = signal_efficiency(reference, selection, (2600, 8000))
    assert found is not None
    assert found.value == pytest.approx(0.3)
    assert found.low < 0.3 - 0.9 * np.sqrt(0.21 / 100)
    assert found.high > 0.3 + 0.9 * np.sqrt(0.21 / 100)
    nothing = signal_efficiency(reference, selection, (4000, 8000))
    assert nothing is not None
    assert (nothing.value, nothing.low) == (0, 0)
    assert corrected_number(_measured(10, 1), nothing) is None


@pytest.mark.parametrize(("signs", "value"), [((1, -1), 1.0), ((-1, 2), 0.0)])
def test_efficiency_of_signed_weights_is_a_share(signs: tuple[int, int], value: float) -> None:
    # Those that pass outweigh the sum, or have a negative one.
    weight = np.repeat(np.array(signs, dtype=float), [60, 40])
    score = np.repeat([1.0, -1.0], [60, 40])
    reference = ReferenceSignal(score, np.full(100, 3000.0), weight, "")
    found = signal_efficiency(reference, ScoreCut(0.01, 0.0, 10), (2600, 8000))
    assert found is not None
    assert found.value == value
    assert 0 <= found.low <= found.value <= found.high <= 1
    none = replace(reference, weight=-np.abs(weight))
    assert signal_efficiency(none, ScoreCut(0.01, 0.0, 10), (2600, 8000)) is None


def test_number_in_the_box_has_the_errors_of_the_efficiency() -> None:
    found = Measurement(value=50, below=3, above=4, method="minos", systematics={"choice": 1.0})
    number = corrected_number(
        found, SignalEfficiency(value=0.5, low=0.46, high=0.54, n_events=100, of=""), 0.2
    )
    assert number is not None
    assert number.value == pytest.approx(100)
    assert (number.below, number.above) == pytest.approx((6, 8))
    expected = {"choice": 2.0, "efficiency": 8.0, "simulation": 20.0}
    assert number.systematics == pytest.approx(expected)
    assert number.interval[1] == pytest.approx(100 + np.sqrt(64 + 4 + 64 + 400))


def test_efficiency_is_that_of_the_masses_found(found: SearchResult) -> None:
    # Signals of heavy jets hardly pass; a reference of such signal makes the box too rich.
    random = np.random.default_rng(3)
    masses = np.array([(z, h, 90.0) for z in (3000, 4200, 6000) for h in (300, 400, 500, 1000)])
    rows = np.repeat(masses, 200, axis=0)
    score = random.normal(np.where(rows[:, 1] < 900, 3.0, 0.0), 1)
    sizes = np.full(len(masses), 200)
    grid = SignalGrid(
        score, rows[:, 0] * random.normal(1, 0.03, len(rows)), rows, masses, sizes, sizes, "grid"
    )
    reference = ReferenceSignal(score[rows[:, 1] > 900], np.full(600, MASS), np.ones(600), "heavy")
    wrong, right = findings_of(found, reference), findings_of(found, reference, grid=grid)
    assert right.signal_efficiency is not None
    assert "Z' 4" in right.signal_efficiency.of
    assert right.n_signal_box is not None
    assert wrong.n_signal_box is not None
    assert right.n_signal_box.interval[0] < N_SIGNAL < right.n_signal_box.interval[1]
    assert wrong.n_signal_box.value > 2 * N_SIGNAL


def test_selections_that_disagree_widen_the_interval(found: SearchResult) -> None:
    loosest, best = found.selections[0], found.chosen
    assert best.n_peak[0] == pytest.approx(found.resonance.n_signal.value, rel=0.25)
    shares = [
        SignalEfficiency(value=one, low=0.99 * one, high=min(1.01 * one, 1), n_events=1000, of="")
        for one in (loosest.n_peak[0] / 100, *(one.n_peak[0] / 100 for one in found.selections[1:]))
    ]
    result = replace(found, best=len(found.selections) - 1)
    assert disagreement(result, shares) == 0.0
    # A simulation in which twice as much passes the tight cut.
    wrong = [*shares[:-1], shares[-1].model_copy(update={"value": 2 * shares[-1].value})]
    expected = np.sqrt(50**2 - (100 * loosest.n_peak[1] / loosest.n_peak[0]) ** 2)
    assert disagreement(result, wrong) == pytest.approx(expected)


def test_choice_of_the_selection_adds_events() -> None:
    # Two selections of the same events but one: the larger fluctuation is chosen.
    background = prepare_background(bin_edges(2600, 8000, 0.025), CONFIG)
    edges = bin_edges(2600, 8000, 0.025)
    centres = np.sqrt(edges[1:] * edges[:-1])
    falling = (1 - centres / 13000) ** 8 * centres**-5 * np.diff(edges)
    expected = np.array([600, 60])[:, None] * falling / falling.sum()
    shape = PeakShape.shipped().shares(edges, 3800.0)
    estimators = [
        PeakEstimator.of(one + size * shape, one, background.factor[:, :2], shape)
        for one, size in zip(expected, (60, 30), strict=True)
    ]
    assert [one.size for one in estimators] == pytest.approx([60, 30], rel=0.02)
    null = NullHypothesis(background, 10 * expected[0], expected)
    bias = [selection_bias(null, estimators, best, 1) for best in (0, 1)]
    assert 0.05 < max(bias) < 1.0
    assert selection_bias(null, estimators[:1], 0, 1) == 0.0
    peak = _measured(60, 10)
    resonance = Resonance(peak, peak, peak, 0.03, expected[0], shape, is_valid=True).less_chosen(
        0.5
    )
    assert resonance.n_signal.value == pytest.approx(55)
    assert resonance.n_signal.systematics == {"choice": pytest.approx(2.5)}


def test_too_few_events_are_told() -> None:
    with pytest.raises(InputError, match=r"needs 1000 events with 2600 < m_jj < 8000 GeV, found 9"):
        usable_cuts(np.arange(9.0), CONFIG)
    with pytest.raises(InputError, match=r"the selection of 0\.01 keeps 15 of 1500 events"):
        usable_cuts(np.arange(1500.0), CONFIG)
    assert len(usable_cuts(np.arange(4000.0), CONFIG)) == 1


def test_another_mass_is_named_and_jet_masses_may_be_unknown(tmp_path: Path) -> None:
    events, _ = _box(N_SIGNAL, 1)
    light, heavy = events.jet_mass_light.copy(), events.jet_mass_heavy.copy()
    light[::2] = heavy[::2] = np.nan
    unknown = replace(events, jet_mass_light=light, jet_mass_heavy=heavy)
    config = CONFIG.model_copy(update={"mass": "m_jjj"})
    result = search(unknown, config, 1)
    told = findings_of(result, None)
    known = told.jet_masses_gev.light  # half of the events tell as much, with a larger error
    assert known is not None
    assert abs(known.value - 90) < 10
    assert told.tree()["mass"] == "m_jjj"
    assert any("the response of m_jj" in one for one in told.warnings)
    nothing = replace(events, jet_mass_heavy=np.full(len(heavy), np.nan))
    assert search(nothing, config, 1).jet_masses["light"].peak is None
    assert "2600 < m_jjj < 8000 GeV" in _text(told)
    plot_jet_masses("box", result, tmp_path / "jets.png")
    with pytest.raises(InputError, match="2600 < m_jjj < 8000 GeV, found 11"):
        search(unknown.take(np.arange(len(light)) % 1000 == 17), config, 1)


def test_jet_masses_are_known_where_nearly_all_that_pass_is_signal() -> None:
    events, is_signal = _box(N_SIGNAL, 1)
    sure = replace(events, score=np.where(is_signal, events.score + 10, events.score))
    result = search(sure, CONFIG.model_copy(update={"efficiencies": (0.1, 0.012)}), 1)
    assert result.chosen.cut.efficiency == 0.012
    light = result.jet_masses["light"].peak
    assert light is not None
    assert light.value == pytest.approx(90, rel=0.1)


def test_groomed_masses_are_measured_where_known(tmp_path: Path) -> None:
    events, is_signal = _box(N_SIGNAL, 1)
    random = np.random.default_rng(3)
    light, heavy = events.jet_mass_light.copy(), events.jet_mass_heavy.copy()
    light[is_signal], heavy[is_signal] = random.normal((150, 300), (12, 20), (N_SIGNAL, 2)).T
    result = search(replace(events, groomed=JetPairs(light, heavy)), CONFIG, 1)
    told = findings_of(result, None)
    assert told.jet_masses_gev.after_soft_drop
    assert told.jet_masses_gev.light is not None
    assert told.jet_masses_gev.light.value == pytest.approx(150, rel=0.06)
    assert "light jet mass after soft drop [GeV] 1" in _text(told)
    plot_jet_masses("box", result, tmp_path / "jets.png")


def test_a_search_under_a_hypothesis_has_a_third_factor_parameter() -> None:
    config = SearchConfig()
    assert config.factor_parameters == 2
    assert under_hypothesis(config).factor_parameters == 3
    more = config.model_copy(update={"factor_parameters": 4})
    assert under_hypothesis(more).factor_parameters == 4
    edges = bin_edges(config.m_jj_min, config.m_jj_max, config.bin_width)
    assert prepare_background(edges, under_hypothesis(config)).least_factors == 3
