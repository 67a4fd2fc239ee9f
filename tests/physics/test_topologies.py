"""Signals by their decays: the partons that Pythia makes, and the jets that follow."""

from __future__ import annotations

import gc
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest

from hepllm.arrays import Floats
from hepllm.config import JetsConfig, SignalConfig, SimulateConfig
from hepllm.config.physics import LIGHTEST_OF
from hepllm.hypotheses.signal import PRONGS, Decay
from hepllm.physics.features import compute_features
from hepllm.physics.simulation import generate, next_events, start_pythia
from hepllm.schema import SIGNAL

DECAYS: tuple[Decay, ...] = get_args(Decay)

PAIRS = [
    *((decay, "qq") for decay in DECAYS),
    *(("qq", decay) for decay in DECAYS if decay != "qq"),
    ("tt", "tt"),
    ("bb", "qqq"),
    ("qqq", "qqq"),
    ("q", "tt"),
    ("q", "q"),
]
"""Each decay in each place, and the combinations that need most from Pythia at once."""

M_X, M_Y = 600.0, 420.0


def started(decay_x: Decay, decay_y: Decay, seed: int = 3) -> Any:
    signal = SignalConfig(m_zprime=4000, m_x=M_X, m_y=M_Y, decay_x=decay_x, decay_y=decay_y)
    return start_pythia(SIGNAL, seed, SimulateConfig(signal=signal))


def descendants(process: Any, at: int) -> list[Any]:
    """The partons that a particle of the hard process decays to in the end."""
    daughters = range(process[at].daughter1(), process[at].daughter2() + 1)
    if process[at].isFinal():
        return [process[at]]
    return [parton for one in daughters for parton in descendants(process, one)]


@pytest.mark.parametrize(("decay_x", "decay_y"), PAIRS)
def test_the_partons_are_those_of_the_decays(decay_x: Decay, decay_y: Decay) -> None:
    pythia = started(decay_x, decay_y)
    for _ in range(4):
        assert pythia.next()
        process = pythia.process
        children = range(process[5].daughter1(), process[5].daughter2() + 1)
        found = []
        for child in children:
            partons = descendants(process, child)
            flavours = sorted(abs(parton.id()) for parton in partons)
            assert max(flavours) <= 5
            found.append((len(partons), flavours.count(5)))
            if len(partons) > 1:
                px, py, pz, energy = np.sum(
                    [[p.px(), p.py(), p.pz(), p.e()] for p in partons], axis=0
                )
                mass = np.sqrt(energy**2 - px**2 - py**2 - pz**2)
                assert mass == pytest.approx(process[child].m(), rel=1e-6)
        n_bottom = {"bb": 2, "tt": 2}
        expected = [(PRONGS[decay], n_bottom.get(decay, 0)) for decay in (decay_x, decay_y)]
        assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(("decay_x", "decay_y"), [("tt", "bb"), ("qqq", "qqq"), ("q", "qqq")])
def test_momentum_and_charge_balance(decay_x: Decay, decay_y: Decay) -> None:
    stable = next_events(started(decay_x, decay_y), 10)
    assert len(stable) == 10
    which = stable.event_of_particle()
    for component in (stable.px, stable.py, stable.pz):
        assert np.bincount(which, weights=component) == pytest.approx(0, abs=0.1)
    assert np.bincount(which, weights=stable.charge) == pytest.approx(2.0)


def test_a_neutral_resonance_outlives_a_garbage_collection() -> None:
    pythia = started("bb", "bb")
    gc.collect()
    assert len(next_events(pythia, 8)) == 8


def test_top_quarks_have_their_mass_and_that_of_the_w() -> None:
    pythia = started("qq", "tt")
    masses: dict[int, list[float]] = {6: [], 9900041: []}
    for _ in range(30):
        pythia.next()
        for particle in pythia.process:
            if abs(particle.id()) in masses:
                masses[abs(particle.id())].append(particle.m())
    assert [len(found) for found in masses.values()] == [60, 60]
    assert np.median(masses[6]) == pytest.approx(173, abs=1)
    assert np.median(masses[9900041]) == pytest.approx(80.4, abs=1)


def jets(
    decay_x: Decay, decay_y: Decay, n_events: int, m_zprime: float = 5000
) -> dict[str, Floats]:
    signal = SignalConfig(m_zprime=m_zprime, m_x=M_X, m_y=M_Y, decay_x=decay_x, decay_y=decay_y)
    events, _ = generate(SIGNAL, n_events, 9, SimulateConfig(signal=signal))
    columns = compute_features(events, JetsConfig())
    columns["jet_mass_heavy"] = columns["jet_mass_light"] + columns["jet_mass_delta"]
    return columns


@pytest.mark.slow
@pytest.mark.parametrize(
    ("decay_x", "decay_y"), [one for one in product(DECAYS, DECAYS) if "q" not in one]
)
def test_jet_masses_are_those_of_the_particles(decay_x: Decay, decay_y: Decay) -> None:
    columns = jets(decay_x, decay_y, 150)
    assert np.median(columns["m_jj"]) == pytest.approx(5000, rel=0.06)
    assert np.median(columns["jet_mass_heavy"]) == pytest.approx(M_X, rel=0.08)
    assert np.median(columns["jet_mass_light"]) == pytest.approx(M_Y, rel=0.08)


@pytest.mark.slow
def test_more_prongs_have_larger_ratios_of_n_subjettiness() -> None:
    columns = {decay: jets(decay, decay, 200) for decay in ("qq", "bb", "qqq", "tt")}
    tau21, tau32 = (
        {decay: np.nanmedian(found[name]) for decay, found in columns.items()}
        for name in ("tau21_heavy", "jet1_tau32")
    )
    assert max(tau21["qq"], tau21["bb"]) + 0.1 < min(tau21["qqq"], tau21["tt"])
    assert tau32["qqq"] + 0.1 < min(tau32["qq"], tau32["bb"], tau32["tt"])


@pytest.mark.slow
def test_a_single_quark_has_a_light_jet_as_in_qcd() -> None:
    alone = jets("q", "q", 200)
    beside = jets("qq", "q", 200)
    assert np.median(beside["jet_mass_heavy"]) == pytest.approx(M_X, rel=0.1)
    for columns in (alone, beside):
        assert np.median(columns["jet_mass_light"]) < 0.5 * M_Y
        assert np.nanmedian(columns["tau21_light"]) > 0.4


@pytest.mark.slow
def test_a_broad_resonance_has_a_broad_peak() -> None:
    spreads = []
    for width in (1e-3, 0.1):
        signal = SignalConfig(m_zprime=4500, width=width)
        events, _ = generate(SIGNAL, 200, 4, SimulateConfig(signal=signal))
        low, high = np.quantile(compute_features(events, JetsConfig())["m_jj"], [0.16, 0.84])
        spreads.append(high - low)
    assert spreads[1] > 2 * spreads[0]


@pytest.mark.parametrize("decay", [one for one in DECAYS if one != "q"])
@pytest.mark.parametrize("place", ["x", "y"])
def test_a_mass_below_the_threshold_of_its_decay_is_refused(decay: Decay, place: str) -> None:
    least = LIGHTEST_OF[decay]
    SignalConfig.model_validate({f"m_{place}": least, f"decay_{place}": decay})
    with pytest.raises(ValueError, match=rf"m_{place} = .* must be at least {least:g} for {decay}"):
        SignalConfig.model_validate({f"m_{place}": least - 0.5, f"decay_{place}": decay})


def test_the_mass_of_a_single_quark_has_no_meaning() -> None:
    signal = SignalConfig(m_zprime=1000, m_x=300, m_y=900, decay_y="q")
    assert signal.truth.decays == ("qq", "q")
    assert signal.truth.products[1].mass is None
    with pytest.raises(ValueError, match=r"m_x \+ m_y = 1200 must be below m_zprime = 1000"):
        SignalConfig(m_zprime=1000, m_x=300, m_y=900)


@pytest.mark.slow
@pytest.mark.parametrize("decay", ["bb", "qqq", "tt"])
def test_the_lightest_particles_can_be_made(decay: Decay) -> None:
    least = LIGHTEST_OF[decay]
    signal = SignalConfig(m_zprime=3500, m_x=least, m_y=least, decay_x=decay, decay_y=decay)
    stable = next_events(start_pythia(SIGNAL, 2, SimulateConfig(signal=signal)), 40)
    assert len(stable) == 40
