"""The generator: seeds, plans, processes and the trigger."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from hepllm.config import DetectorConfig, JetsConfig, SignalConfig, SimulateConfig
from hepllm.errors import InputError, RunError
from hepllm.physics import simulation
from hepllm.physics.events import Particles
from hepllm.physics.features import compute_features
from hepllm.physics.jets import cluster
from hepllm.physics.readers import open_event_file
from hepllm.physics.simulation import (
    MAX_SEED,
    block_seed,
    concatenate,
    generate,
    next_events,
    plan_blocks,
    simulate_block,
    start_pythia,
    triggers,
)
from hepllm.schema import BACKGROUND, SIGNAL

CONFIG = SimulateConfig()


def event(*particles: tuple[float, float, float]) -> Particles:
    pt, eta, phi = np.array(particles, dtype=np.float64).T
    return Particles(pt, eta, phi, np.array([len(particles)]))


@given(seed=st.integers(0, 2**32 - 1), start=st.integers(0, 10**6))
def test_no_two_blocks_of_a_run_share_a_seed(seed: int, start: int) -> None:
    seeds = [
        block_seed(seed, purpose, block, process)
        for purpose in ("rnd", "blackbox", "grid")
        for block in range(start, start + 50)
        for process in (BACKGROUND, SIGNAL)
    ]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 1
    assert max(seeds) <= MAX_SEED


def test_the_seed_stride_visits_every_seed() -> None:
    assert np.gcd(simulation._SEED_STRIDE, MAX_SEED) == 1


@given(
    n_events=st.integers(1, 400),
    fraction=st.floats(0, 1),
    size=st.integers(1, 100),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_plan_covers_the_rows_with_the_exact_number_of_signal_events(
    n_events: int, fraction: float, size: int, seed: int
) -> None:
    blocks = plan_blocks("rnd", n_events, fraction, size, seed)
    assert [block.start for block in blocks] == list(range(0, n_events, size))
    labels = b"".join(block.labels for block in blocks)
    assert len(labels) == n_events
    assert sum(labels) == round(n_events * fraction)
    whole = plan_blocks("rnd", n_events, fraction, n_events, seed)
    assert whole[0].labels == labels


@given(n_events=st.integers(1, 200), n_signals=st.integers(1, 30), size=st.integers(1, 50))
def test_signals_share_the_rows_evenly_in_succession(
    n_events: int, n_signals: int, size: int
) -> None:
    signals = [SignalConfig(m_zprime=3000 + place) for place in range(n_signals)]
    blocks = plan_blocks("rnd", n_events, 0.5, size, 3, signals=signals)
    assert [block.index for block in blocks] == list(range(len(blocks)))
    lengths = [len(block.labels) for block in blocks]
    assert max(lengths) <= size
    assert [block.start for block in blocks] == np.cumsum([0, *lengths[:-1]]).tolist()
    plain = plan_blocks("rnd", n_events, 0.5, n_events, 3)[0].labels
    assert b"".join(block.labels for block in blocks) == plain
    rows = np.repeat([block.signal.m_zprime for block in blocks if block.signal], lengths)
    assert (np.diff(rows) >= 0).all()
    per_signal = np.bincount(rows.astype(int) - 3000, minlength=n_signals)
    assert per_signal.sum() == n_events
    assert np.ptp(per_signal) <= 1


def test_signal_and_background_are_mixed() -> None:
    labels = np.frombuffer(plan_blocks("rnd", 1000, 0.5, 1000, 1)[0].labels, dtype=np.uint8)
    # Runs of equal labels: 501 expected, with a standard deviation of 16.
    assert 420 < 1 + np.count_nonzero(np.diff(labels)) < 580
    assert plan_blocks("blackbox", 1000, 0.5, 1000, 1)[0].labels != labels.tobytes()


@pytest.mark.parametrize(
    ("particles", "expected"),
    [
        ([(1201.0, 2.4, 0.0)], True),
        ([(1199.0, 2.4, 0.0)], False),
        ([(1201.0, 2.6, 0.0)], False),
        ([(700.0, 0.0, 0.0), (700.0, 0.3, 0.3)], True),
        ([(700.0, 0.0, 0.0), (700.0, 0.0, 1.5)], False),
        ([(1300.0, 3.0, 0.0), (1250.0, 0.0, 3.0)], True),
    ],
)
def test_trigger(particles: list[tuple[float, float, float]], expected: bool) -> None:
    assert triggers(event(*particles), CONFIG).tolist() == [expected]


@pytest.mark.parametrize("process", [BACKGROUND, SIGNAL])
def test_every_event_triggers_and_a_seed_determines_all(process: int) -> None:
    first, n_tried = generate(process, 12, 77, CONFIG)
    assert len(first) == 12
    assert n_tried >= 12
    jets = cluster(first, JetsConfig(radius=1.0, pt_min=1000.0))
    triggering = (jets.momenta.pt > 1200) & (np.abs(jets.momenta.eta) < 2.5)
    event = np.repeat(np.arange(12), jets.counts)
    assert set(event[triggering]) == set(range(12))
    again, n_tried_again = generate(process, 12, 77, CONFIG)
    assert n_tried_again == n_tried
    assert again.digests().tolist() == first.digests().tolist()
    other, _ = generate(process, 12, 78, CONFIG)
    assert not set(other.digests()) & set(first.digests())


@pytest.mark.parametrize(("m_zprime", "m_x", "m_y"), [(3500, 500, 100), (4200, 732, 378)])
def test_masses_are_those_configured(m_zprime: float, m_x: float, m_y: float) -> None:
    config = SimulateConfig(signal=SignalConfig(m_zprime=m_zprime, m_x=m_x, m_y=m_y))
    columns = compute_features(generate(SIGNAL, 120, 5, config)[0], JetsConfig())
    assert np.median(columns["m_jj"]) == pytest.approx(m_zprime, rel=0.03)
    heavy = columns["jet_mass_light"] + columns["jet_mass_delta"]
    assert np.median(heavy) == pytest.approx(m_x, rel=0.06)
    assert np.median(columns["jet_mass_light"]) == pytest.approx(m_y, rel=0.15)


def test_qcd_has_no_peak() -> None:
    columns = compute_features(generate(BACKGROUND, 100, 5, CONFIG)[0], JetsConfig())
    assert ((columns["m_jj"] > 3300) & (columns["m_jj"] < 3700)).mean() < 0.4
    assert np.median(columns["jet_mass_light"]) > 60
    assert np.median(columns["tau21_heavy"]) > 0.4


def test_events_agree_with_the_real_sample_and_plain_ones_do_not(tiny_rnd: Path) -> None:
    batch = open_event_file(tiny_rnd).read(0, 1000)
    for process, n_events in ((BACKGROUND, 250), (SIGNAL, 250)):
        real = compute_features(batch.particles.take(batch.label_raw == process), JetsConfig())
        for enabled in (True, False):
            config = SimulateConfig(detector=DetectorConfig(enabled=enabled))
            ours = compute_features(generate(process, n_events, 8, config)[0], JetsConfig())
            p_values = {
                name: ks_2samp(ours[name], real[name], nan_policy="omit").pvalue
                for name in ("n_particles", "jet1_n_particles", "jet1_mass", "tau21_heavy")
            }
            if enabled:
                assert min(p_values.values()) > 1e-3, p_values
            else:
                assert p_values["n_particles"] < 1e-9


def test_multiparton_interactions_add_particles() -> None:
    numbers = []
    for on in (False, True):
        config = SimulateConfig(multiparton_interactions=on, detector=DetectorConfig(enabled=False))
        numbers.append(generate(SIGNAL, 30, 5, config)[0].counts.mean())
    assert numbers[1] > 1.3 * numbers[0]


def test_no_events_wanted_none_made() -> None:
    particles, n_tried = generate(SIGNAL, 0, 1, CONFIG)
    assert (len(particles), n_tried) == (0, 0)
    assert len(concatenate([])) == 0


def test_a_block_puts_each_process_where_the_plan_has_it() -> None:
    block = plan_blocks("rnd", 9, 0.4, 9, 3)[0]
    result = simulate_block(block, CONFIG)
    labels = np.frombuffer(block.labels, dtype=np.uint8)
    assert result.rows.shape == (9, 2100)
    for process in (BACKGROUND, SIGNAL):
        seed = block_seed(3, "rnd", 0, process)
        n_wanted = int((labels == process).sum())
        alone, n_tried = generate(process, n_wanted, seed, CONFIG)
        placed = Particles.from_padded(result.rows[labels == process])
        assert placed.digests().tolist() == alone.digests().tolist()
        assert result.n_tried[process] == n_tried


def test_momentum_and_charge_of_a_generated_event_balance() -> None:
    stable = next_events(start_pythia(BACKGROUND, 9, CONFIG), 20)
    which = stable.event_of_particle()
    for component in (stable.px, stable.py, stable.pz):
        assert np.bincount(which, weights=component) == pytest.approx(0, abs=0.1)
    assert np.bincount(which, weights=stable.energy) == pytest.approx(13000.0, rel=1e-4)
    assert np.bincount(which, weights=stable.charge) == pytest.approx(2.0)


def test_what_pythia_refuses_is_an_error_on_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    config = SimulateConfig(pt_hat_min=6600.0)  # above half the collision energy
    with pytest.raises(InputError, match="refuses the background process") as error:
        start_pythia(BACKGROUND, 1, config)
    assert "pTHatMin = 6600" in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().out == ""


def test_standard_output_stays_empty(capfd: pytest.CaptureFixture[str]) -> None:
    generate(SIGNAL, 3, 1, CONFIG)
    assert capfd.readouterr().out == ""


def test_without_pythia_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pythia8mc", None)
    with pytest.raises(InputError, match=r"pip install pythia8mc"):
        generate(SIGNAL, 1, 1, CONFIG)


def test_a_generator_that_makes_nothing_ends_the_run() -> None:
    class Broken:
        def nextBatch(self, n_events: int, mode: str) -> list[Any]:  # noqa: N802
            return []

    with pytest.raises(RunError, match="failed to make any of 8 events"):
        next_events(Broken(), 8)


def test_a_hopeless_trigger_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "_GIVE_UP_AFTER", 100)
    with pytest.raises(RunError, match=r"none of 1\d\d events has a jet with pT > 6400 GeV"):
        generate(SIGNAL, 5, 1, SimulateConfig(trigger_pt=6400.0))
