"""Limits and records of a scan over the masses of X and Y, and how they are shown."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from hepllm.config.evaluation import SearchConfig
from hepllm.hypotheses.hypothesis import Hypothesis
from hepllm.pictures.mass_plane import plot_plane_limits, plot_significances
from hepllm.report.mass_plane import plane_chapter
from hepllm.report.text import as_text
from hepllm.search.box import BoxEvents
from hepllm.search.mass_plane import plane_points, select_in_plane
from hepllm.search.plane_limits import PlaneSignals, mass_of_limits, plane_limits
from hepllm.search.plane_records import PlaneFindings, _sigma, plane_findings
from hepllm.search.plane_toys import PlaneResult, scan_plane

CONFIG = SearchConfig(
    efficiencies=(0.05, 0.01),
    m_jj_min=2600,
    m_jj_max=6000,
    limit_toys=100,
    plane={"masses": 2, "m_min": 200, "m_max": 400, "toys": 200, "max_toys": 200},
)
N_BOX, N_SIGNAL = 6000, 40


@pytest.fixture(scope="module")
def scanned() -> tuple[PlaneResult, PlaneSignals]:
    """A scan of a box with a signal of 400 and 200 GeV, and simulated signal of these masses."""
    random = np.random.default_rng(7)
    m_jj = 2600 * (1 + random.pareto(6.0, N_BOX))
    m_jj[:N_SIGNAL] = random.normal(3500, 80, N_SIGNAL)
    jets = np.sort(np.exp(random.normal(4.8, 0.7, (N_BOX, 2))), axis=1)
    jets[:N_SIGNAL] = random.normal((200, 400), (10, 20), (N_SIGNAL, 2))
    noise = random.normal(0, 0.3, N_BOX)

    def distance(light: np.ndarray, heavy: np.ndarray, hypothesis: Hypothesis) -> np.ndarray:
        wanted = hypothesis.masses
        return np.hypot(np.log(heavy / wanted[0]), np.log(light / wanted[1])) / 0.2

    def score(hypothesis: Hypothesis) -> np.ndarray:
        return -distance(jets[:, 0], jets[:, 1], hypothesis) + noise

    signal_jets = random.normal((200, 400), (10, 20), (400, 2))

    def score_signal(hypothesis: Hypothesis, places: np.ndarray) -> np.ndarray:
        light, heavy = signal_jets[places].T
        return -distance(light, heavy, hypothesis)

    signals = PlaneSignals(
        masses=np.tile([3500.0, 200.0, 400.0], (400, 1)),
        m_jj=random.normal(3500, 80, 400),
        score=score_signal,
        description="some signal",
    )
    events = BoxEvents(np.zeros(N_BOX), m_jj, jets[:, 0], jets[:, 1])
    points = plane_points(CONFIG.plane, None)
    return scan_plane(select_in_plane(events, points, score, CONFIG), CONFIG, 3), signals


@pytest.fixture(scope="module")
def findings(scanned: tuple[PlaneResult, PlaneSignals]) -> PlaneFindings:
    result, signals = scanned
    return plane_findings(result, *plane_limits(result, CONFIG, 1, signals))


def test_limits_are_at_the_largest_excess_or_where_they_are_asked_for(
    scanned: tuple[PlaneResult, PlaneSignals],
) -> None:
    result, _ = scanned
    assert mass_of_limits(result, CONFIG) == pytest.approx(3500, rel=0.04)
    for wanted, found in ((4000.0, 4000.0), (100.0, 2700.0), (9000.0, 5700.0)):
        plane = CONFIG.plane.model_copy(update={"m_resonance": wanted})
        config = CONFIG.model_copy(update={"plane": plane})
        assert mass_of_limits(result, config) == pytest.approx(found, rel=0.04)


def test_the_limit_at_the_signal_is_above_the_expected_one(findings: PlaneFindings) -> None:
    best = findings.best_point
    assert best.m_jets_gev == (400.0, 200.0)
    assert best.limit is not None
    assert best.limit.selected.observed > 1.5 * best.limit.selected.expected
    efficiency = best.limit.signal_efficiency
    assert efficiency is not None
    assert efficiency.value > 0.8
    assert best.limit.box is not None
    assert best.limit.box.observed * efficiency.value == pytest.approx(
        best.limit.selected.observed, rel=0.3
    )


def test_points_without_simulated_signal_near_have_limits_after_the_cut_only(
    findings: PlaneFindings,
) -> None:
    others = [one for one in findings.points if one.m_jets_gev != (400.0, 200.0)]
    assert len(others) == 2
    for one in others:
        assert one.limit is not None
        assert one.limit.signal_efficiency is None
        assert one.limit.box is None


def test_products_too_heavy_for_the_resonance_have_no_limit(
    scanned: tuple[PlaneResult, PlaneSignals],
) -> None:
    result, _ = scanned
    heavy = [one.masses for one in plane_points(
        CONFIG.plane.model_copy(update={"m_min": 1700.0, "m_max": 2000.0}), None
    )]  # fmt: skip
    assert heavy == [(1700.0, 1700.0), (2000.0, 1700.0), (2000.0, 2000.0)]
    points = plane_points(CONFIG.plane.model_copy(update={"m_min": 200.0, "m_max": 2000.0}), None)
    moved = replace(result, spectra=replace(result.spectra, hypotheses=points))
    _, limits = plane_limits(moved, CONFIG, 1)
    assert [one is None for one in limits] == [False, False, True]


def test_the_record_reads_back_and_says_what_was_found(findings: PlaneFindings) -> None:
    assert PlaneFindings.model_validate(findings.tree()) == findings
    assert findings.n_points == 3
    assert findings.is_excess
    best = findings.best_point
    assert best.significance_local == pytest.approx(norm.isf(best.bump.local_p), abs=1e-6)
    assert findings.p_value >= min(one.p_value for one in findings.points)
    assert 1 <= findings.n_trials <= 3
    found = findings.extrapolated
    assert found is not None
    assert found.p_point <= found.p_value <= found.upper
    assert found.significance == pytest.approx(norm.isf(found.p_value))


def test_an_underflowing_p_value_has_a_significance() -> None:
    assert _sigma(0.1) == 0
    assert _sigma(-math.log(norm.sf(3.0))) == pytest.approx(3)
    assert _sigma(690.0) < _sigma(720.0) < 38.2


def test_pictures_and_text(findings: PlaneFindings, tmp_path: Path) -> None:
    for draw, name in ((plot_significances, "scan.png"), (plot_plane_limits, "limits.png")):
        draw("a $box", findings, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 10_000
    text = as_text(plane_chapter(findings, "mystery"))
    assert "Scan of hypotheses in mystery" in text
    assert "under any of 3 hypotheses: 0 of 200 pseudo-experiments are as extreme" in text
    assert findings.best in text
