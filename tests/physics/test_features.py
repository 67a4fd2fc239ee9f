"""Features against independent arithmetic, symmetries, and the medians of the real sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hepllm.config import JetsConfig, SoftDropConfig
from hepllm.physics.events import Particles
from hepllm.physics.features import compute_features
from hepllm.physics.readers import open_event_file
from hepllm.schema import EXTENDED_FEATURES, FEATURES, dataset_features

Columns = dict[str, NDArray[np.float64]]

MASSES = ("jet1_mass", "jet2_mass", "jet3_mass", "m_jj", "m_jjj", "jet_mass_light")
TAUS = tuple(f"jet{jet}_tau{n}" for jet in (1, 2) for n in (1, 2, 3))


def _event(*particles: tuple[float, float, float]) -> Particles:
    flat = np.array(particles, dtype=np.float64).reshape(-1, 3)
    return Particles(*(np.ascontiguousarray(c) for c in flat.T), np.array([len(flat)]))


def _features(particles: Particles, **jets: float) -> Columns:
    return compute_features(particles, JetsConfig(**jets))  # type: ignore[arg-type]


def _one(*particles: tuple[float, float, float], **jets: float) -> dict[str, float]:
    return {name: values[0] for name, values in _features(_event(*particles), **jets).items()}


def _assert_equal(first: Columns, second: Columns, without: tuple[str, ...] = ()) -> None:
    for name in first:
        if name not in without:
            tolerance = 2e-4 if "mass" in name or "tau" in name else 1e-8
            np.testing.assert_allclose(
                first[name], second[name], rtol=1e-7, atol=tolerance, err_msg=name
            )


@pytest.fixture(scope="module")
def events(dijet_events: Callable[..., NDArray[np.float64]]) -> Particles:
    return Particles.from_padded(dijet_events(40, seed=5)[:, :2100])


def _map(particles: Particles, eta: float = 0.0, phi: float = 0.0) -> Particles:
    return Particles(particles.pt, particles.eta + eta, particles.phi + phi, particles.counts)


def test_every_feature_in_registry_order(events: Particles) -> None:
    columns = _features(events)
    assert tuple(columns) == dataset_features(extended=False)
    assert all(values.shape == (40,) for values in columns.values())
    assert all(values.dtype == np.float64 for values in columns.values())


def test_m_jj_of_two_back_to_back_particles() -> None:
    event = _one((1000.0, 0.7, 0.3), (900.0, -0.4, 0.3 + np.pi))
    # m^2 = 2 pT1 pT2 (cosh(eta1 - eta2) - cos(phi1 - phi2)) for massless particles
    assert event["m_jj"] == pytest.approx(np.sqrt(2 * 1000 * 900 * (np.cosh(1.1) + 1)))
    assert event["jet1_mass"] + event["jet2_mass"] == pytest.approx(0, abs=1e-3)
    assert event["delta_eta"] == pytest.approx(1.1)
    assert event["delta_phi"] == pytest.approx(np.pi)
    assert event["delta_r"] == pytest.approx(np.hypot(1.1, np.pi))
    assert event["ht"] == pytest.approx(1900)
    assert event["jet1_energy"] == pytest.approx(1000 * np.cosh(0.7))


def test_mass_of_a_two_particle_jet() -> None:
    event = _one((300.0, 0.2, 0.0), (200.0, 0.6, 0.3), (450.0, 0.0, 3.0))
    expected = np.sqrt(2 * 300 * 200 * (np.cosh(0.4) - np.cos(0.3)))
    assert event["jet1_mass"] == pytest.approx(expected)
    assert event["jet_mass_light"] == pytest.approx(0, abs=1e-3)
    assert event["jet_mass_delta"] == pytest.approx(expected, abs=1e-3)
    assert event["jet1_n_particles"] == 2
    assert event["jet1_pt_lead"] == pytest.approx(300)
    assert event["n_particles"] == 3
    assert event["tau21_heavy"] == pytest.approx(0, abs=1e-6)
    assert np.isnan(event["tau21_light"])  # one particle: no tau2


def test_m_jjj_of_three_particles() -> None:
    momenta = np.array([(400.0, 0.1, 0.0), (300.0, -0.5, 2.1), (200.0, 1.0, -2.0)])
    pt, eta, phi = momenta.T
    total = np.array([pt @ np.cosh(eta), pt @ np.cos(phi), pt @ np.sin(phi), pt @ np.sinh(eta)])
    event = _one(*map(tuple, momenta))
    assert event["m_jjj"] == pytest.approx(np.sqrt(total[0] ** 2 - (total[1:] ** 2).sum()))
    assert event["jet3_pt"] == pytest.approx(200)
    assert event["n_jets"] == 3


def test_two_leading_jets_alone_when_asked() -> None:
    three = ((400.0, 0.1, 0.0), (300.0, -0.5, 2.1), (200.0, 1.0, -2.0))
    event, whole = _one(*three, n_jets=2), _one(*three)
    assert np.isnan([event["jet3_pt"], event["m_jjj"]]).all()
    assert event["m_jj"] == whole["m_jj"]
    assert event["ht"] == pytest.approx(900)


def test_leading_follows_pt_and_light_follows_mass() -> None:
    heavy_leads = _one((500.0, 0.0, 0.0), (400.0, 0.5, 0.0), (700.0, 0.0, 3.0))
    light_leads = _one((500.0, 0.0, 0.0), (400.0, 0.5, 0.0), (1200.0, 0.0, 3.0))
    for event in (heavy_leads, light_leads):
        assert event["jet1_pt"] > event["jet2_pt"]
        assert event["jet_mass_light"] == pytest.approx(0, abs=1e-3)
        assert event["jet_mass_delta"] > 100
    assert heavy_leads["jet1_mass"] > light_leads["jet1_mass"]


def test_no_jet() -> None:
    event = _one((5.0, 0.0, 0.0))
    assert event["n_jets"] == 0
    assert event["n_particles"] == 1
    assert event["ht"] == 0
    rest = [value for name, value in event.items() if name not in ("n_jets", "n_particles", "ht")]
    assert np.isnan(rest).all()


def test_no_particle() -> None:
    columns = _features(Particles.from_padded(np.zeros((2, 2100))))
    assert columns["n_jets"].tolist() == columns["n_particles"].tolist() == [0, 0]
    assert columns["ht"].dtype == np.float64
    assert np.isnan(columns["m_jj"]).all()


def test_one_jet() -> None:
    event = _one((500.0, 0.0, 0.0), (400.0, 0.2, 0.1))
    assert event["n_jets"] == 1
    assert event["jet1_tau1"] > 0
    missing = ("jet2_pt", "m_jj", "delta_phi", "jet_mass_light", "jet_mass_delta", "tau21_light")
    assert np.isnan([event[name] for name in missing]).all()


@pytest.mark.parametrize("phi", [0.0, 0.7, -2.9])
def test_zero_denominators_are_missing(phi: float) -> None:
    """Particles on top of one another: tau1 is 0 up to rounding, so tau21 has no value."""
    event = _one((500.0, 0.3, phi), (400.0, 0.3, phi), (300.0, 0.3, phi), (700.0, 0.0, phi + 3))
    assert event["jet1_tau1"] == pytest.approx(0, abs=1e-9)
    assert np.isnan([event["jet1_tau21"], event["jet1_tau32"]]).all()


def test_700_particles() -> None:
    random = np.random.default_rng(1)
    rows = np.zeros((1, 2100))
    rows[0, 0::3] = random.exponential(5, 700) + 0.1
    rows[0, 1::3] = random.normal(0, 1, 700)
    rows[0, 2::3] = random.uniform(-np.pi, np.pi, 700)
    columns = _features(Particles.from_padded(rows))
    assert columns["n_particles"].tolist() == [700]
    assert columns["n_jets"][0] > 1


def test_energies_are_bounds(events: Particles) -> None:
    columns = _features(events)
    assert (columns["jet1_energy"] >= columns["jet1_pt"]).all()
    assert (columns["m_jj"] >= columns["jet1_mass"] + columns["jet2_mass"] - 1e-6).all()
    assert ((columns["delta_phi"] >= 0) & (columns["delta_phi"] <= np.pi)).all()
    for jet in ("jet1", "jet2"):
        assert (columns[f"{jet}_tau2"] <= columns[f"{jet}_tau1"] + 1e-9).all()
        assert (columns[f"{jet}_tau1"] <= 1).all()


@given(angle=st.floats(-3, 3))
@settings(max_examples=15)
def test_rotation_in_phi(events: Particles, angle: float) -> None:
    before, after = _features(events), _features(_map(events, phi=angle))
    _assert_equal(before, after, without=("jet1_phi", "jet2_phi", "jet3_phi"))
    turned = (after["jet1_phi"] - before["jet1_phi"] - angle + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(turned, 0, atol=1e-9)


@given(rapidity=st.floats(-2, 2))
@settings(max_examples=15)
def test_longitudinal_boost(events: Particles, rapidity: float) -> None:
    frame = [f"jet{jet}_{name}" for jet in (1, 2, 3) for name in ("eta", "energy")]
    # Pseudorapidity differences of massive jets are not invariant.
    _assert_equal(
        _features(events),
        _features(_map(events, eta=rapidity)),
        without=(*frame, "delta_eta", "delta_r"),
    )


def test_order_of_particles(events: Particles) -> None:
    random = np.random.default_rng(8)
    order = np.concatenate(
        [
            start + random.permutation(count)
            for start, count in zip(
                np.cumsum(events.counts) - events.counts, events.counts, strict=True
            )
        ]
    )
    shuffled = Particles(events.pt[order], events.eta[order], events.phi[order], events.counts)
    assert not np.array_equal(shuffled.pt, events.pt)
    _assert_equal(_features(events), _features(shuffled))


def test_zero_padding(dijet_events: Callable[..., NDArray[np.float64]]) -> None:
    rows = dijet_events(5)[:, :2100]
    spread = rows.reshape(5, 700, 3)[:, np.random.default_rng(1).permutation(700)].reshape(5, -1)
    _assert_equal(
        _features(Particles.from_padded(rows[:, :300])), _features(Particles.from_padded(spread))
    )


def _with_extra(particles: Particles, extra: NDArray[np.float64]) -> Particles:
    """Adds one particle, a row of ``extra``, at the end of each event."""
    ends = np.cumsum(particles.counts)
    columns = (particles.pt, particles.eta, particles.phi)
    inserted = (np.insert(c, ends, extra[:, i]) for i, c in enumerate(columns))
    return Particles(*inserted, particles.counts + 1)


def test_an_infinitesimally_soft_particle_changes_nothing(events: Particles) -> None:
    first = np.cumsum(events.counts) - events.counts
    soft = np.stack([np.full(40, 1e-9), events.eta[first] + 0.1, events.phi[first]], axis=1)
    before, after = _features(events), _features(_with_extra(events, soft))
    np.testing.assert_array_equal(after["n_particles"], before["n_particles"] + 1)
    counts = ("n_particles", "jet1_n_particles", "jet2_n_particles", "jet3_n_particles")
    _assert_equal(before, after, without=counts)


def test_a_collinear_split_changes_nothing(events: Particles) -> None:
    first = np.cumsum(events.counts) - events.counts
    half = np.stack([events.pt[first] / 2, events.eta[first], events.phi[first]], axis=1)
    pt = events.pt.copy()
    pt[first] /= 2
    split = _with_extra(Particles(pt, events.eta, events.phi, events.counts), half)
    unsafe = ("n_particles", "jet1_n_particles", "jet2_n_particles")
    unsafe += ("jet1_pt_lead", "jet2_pt_lead")
    _assert_equal(_features(events), _features(split), without=unsafe)


@pytest.mark.parametrize("change", ["rotation", "boost", "order", "soft", "collinear", "scale"])
def test_soft_drop_mass_is_invariant(change: str, events: Particles) -> None:
    first = np.cumsum(events.counts) - events.counts
    soft = np.stack([np.full(40, 1e-9), events.eta[first] + 0.1, events.phi[first]], axis=1)
    half = np.stack([events.pt[first] / 2, events.eta[first], events.phi[first]], axis=1)
    halved = events.pt.copy()
    halved[first] /= 2
    order = np.concatenate([np.arange(s, s + n)[::-1] for s, n in zip(first, events.counts)])  # noqa: B905
    changed = {
        "rotation": _map(events, phi=1.3),
        "boost": _map(events, eta=-0.8),
        "order": Particles(events.pt[order], events.eta[order], events.phi[order], events.counts),
        "soft": _with_extra(events, soft),
        "collinear": _with_extra(Particles(halved, events.eta, events.phi, events.counts), half),
        "scale": Particles(3 * events.pt, events.eta, events.phi, events.counts),
    }[change]
    factor = 3 if change == "scale" else 1
    before = compute_features(events, JetsConfig(soft_drop=SoftDropConfig()))
    config = JetsConfig(soft_drop=SoftDropConfig(), pt_min=20 * factor)
    after = compute_features(changed, config)
    for jet in ("jet1", "jet2"):
        groomed = before[f"{jet}_softdrop_mass"]
        assert (groomed > 1).sum() > 20
        assert (groomed <= before[f"{jet}_mass"] * (1 + 1e-9)).all()
        np.testing.assert_allclose(
            after[f"{jet}_softdrop_mass"], factor * groomed, rtol=1e-6, atol=1e-3
        )


def test_soft_drop_mass_is_there_on_request_only(events: Particles) -> None:
    without = _features(events)
    assert np.isnan([without["jet1_softdrop_mass"], without["jet2_softdrop_mass"]]).all()
    groomed = compute_features(events, JetsConfig(soft_drop=SoftDropConfig()))
    _assert_equal(without, groomed, without=("jet1_softdrop_mass", "jet2_softdrop_mass"))


def _extended(particles: Particles, **jets: float) -> Columns:
    return compute_features(particles, JetsConfig(**jets), extended=True)  # type: ignore[arg-type]


def test_extended_n_subjettiness_leaves_the_other_features_as_they_are(events: Particles) -> None:
    usual, extended = _features(events), _extended(events)
    assert tuple(extended) == dataset_features(extended=True)
    for name, values in usual.items():
        np.testing.assert_array_equal(extended[name], values, err_msg=name)


def test_extended_n_subjettiness_goes_by_mass(events: Particles) -> None:
    columns = _extended(events)
    first_is_light = columns["jet1_mass"] <= columns["jet2_mass"]
    assert 0 < first_is_light.sum() < len(first_is_light)
    for n in (1, 2, 3):
        pair = columns[f"jet1_tau{n}"], columns[f"jet2_tau{n}"]
        for jet, expected in (
            ("light", np.where(first_is_light, *pair)),
            ("heavy", np.where(first_is_light, *reversed(pair))),
        ):
            np.testing.assert_array_equal(columns[f"tau{n}_b1_{jet}"], expected)
    np.testing.assert_array_equal(
        columns["tau2_b1_heavy"] / columns["tau1_b1_heavy"], columns["tau21_heavy"]
    )


def test_extended_n_subjettiness_keeps_its_bounds(events: Particles) -> None:
    """More axes are nearer, and means of powers are ordered (Jensen) for R0 = 1."""
    columns = _extended(events)
    for jet in ("light", "heavy"):
        for beta in ("b05", "b1", "b2"):
            taus = np.stack([columns[f"tau{n}_{beta}_{jet}"] for n in range(1, 10)])
            assert (np.isfinite(taus).sum(axis=0) >= 2).all()
            assert (taus[np.isfinite(taus)] >= 0).all()
            assert np.nanmax(np.diff(taus, axis=0)) <= 1e-15
        for n in range(1, 10):
            root, linear, square = (columns[f"tau{n}_{b}_{jet}"] for b in ("b05", "b1", "b2"))
            assert not (root**2 > linear * (1 + 1e-12)).any()
            assert not (linear**2 > square * (1 + 1e-12)).any()


def test_extended_n_subjettiness_of_few_constituents_is_missing() -> None:
    event = _event(
        *((200.0, 0.1 * i, 0.2 * i) for i in range(4)),  # the heavier jet has 4 constituents
        *((450.0, 0.0, 3.0), (400.0, 0.05, 3.0)),
    )
    columns = {name: values[0] for name, values in _extended(event).items()}
    for jet, constituents in (("light", 2), ("heavy", 4)):
        for beta in ("b05", "b1", "b2"):
            missing = [np.isnan(columns[f"tau{n}_{beta}_{jet}"]) for n in range(1, 10)]
            assert missing == [n > constituents for n in range(1, 10)]
    # Two constituents: the softer one is 0.05 from the axis of the harder one.
    assert columns["tau1_b05_light"] == pytest.approx(400 / 850 * np.sqrt(0.05))
    assert columns["tau1_b2_light"] == pytest.approx(400 / 850 * 0.05**2)
    assert columns["tau2_b05_light"] == 0


def test_extended_n_subjettiness_needs_two_jets() -> None:
    columns = _extended(_event((500.0, 0.0, 0.0), (400.0, 0.2, 0.1)))
    assert columns["jet1_tau1"][0] > 0
    assert all(np.isnan(columns[name][0]) for name in EXTENDED_FEATURES)
    nothing = _extended(Particles.from_padded(np.zeros((2, 2100))))
    assert all(np.isnan(nothing[name]).all() for name in EXTENDED_FEATURES)


def test_extended_n_subjettiness_has_no_scale(events: Particles) -> None:
    """Nor does it know the direction of the jets, or the order of particles."""
    before = _extended(events, pt_min=20)
    doubled = Particles(2 * events.pt, events.eta, events.phi, events.counts)
    for after in (
        _extended(doubled, pt_min=40),
        _extended(_map(events, eta=0.7, phi=2.0), pt_min=20),
    ):
        for name in EXTENDED_FEATURES:
            np.testing.assert_allclose(
                after[name], before[name], rtol=1e-8, atol=1e-9, err_msg=name
            )


def test_eta_zero_is_a_direction_like_any_other() -> None:
    event = _one((500.0, 0.0, 0.0), (300.0, 0.0, 0.4), (600.0, 0.0, -3.0))
    assert event["n_particles"] == 3
    assert event["n_jets"] == 2
    assert event["jet1_pt_lead"] == pytest.approx(500)
    assert event["delta_eta"] == pytest.approx(0, abs=1e-9)
    assert event["m_jj"] == pytest.approx(
        np.sqrt(
            1400**2
            - (500 + 300 * np.cos(0.4) + 600 * np.cos(3.0)) ** 2
            - (300 * np.sin(0.4) - 600 * np.sin(3.0)) ** 2
        )
    )


def test_phi_at_plus_and_minus_pi_is_one_direction() -> None:
    events = [
        _one((500.0, 0.1, phi), (200.0, 0.3, -3.0), (150.0, 0.2, 3.0), (900.0, -0.2, 0.1))
        for phi in (np.pi, -np.pi)
    ]
    for name, value in events[0].items():
        if name != "jet2_phi":
            np.testing.assert_allclose(events[1][name], value, rtol=1e-7, atol=1e-4, err_msg=name)
    assert abs(np.cos(events[0]["jet2_phi"]) - np.cos(events[1]["jet2_phi"])) < 1e-9


def test_scaling_all_momenta(events: Particles) -> None:
    doubled = Particles(2 * events.pt, events.eta, events.phi, events.counts)
    before, after = _features(events, pt_min=20), _features(doubled, pt_min=40)
    for name in before:
        factor = 2 if FEATURES[name].unit == "GeV" else 1
        np.testing.assert_allclose(
            after[name], factor * before[name], rtol=1e-6, atol=1e-4, err_msg=name
        )


def test_a_smaller_radius_makes_lighter_jets(events: Particles) -> None:
    wide, narrow = _features(events, radius=1.0), _features(events, radius=0.5)
    assert np.median(narrow["jet1_mass"]) < np.median(wide["jet1_mass"])


@pytest.fixture(scope="module")
def real(tiny_rnd: Path) -> tuple[Columns, NDArray[np.bool_]]:
    batch = open_event_file(tiny_rnd).read(0, 1000)
    return compute_features(batch.particles, JetsConfig()), batch.label_raw == 1


def test_real_sample_has_the_published_substructure(
    real: tuple[Columns, NDArray[np.bool_]],
) -> None:
    columns, signal = real
    window = (columns["m_jj"] > 3300) & (columns["m_jj"] < 3700)

    def median(name: str, events: NDArray[np.bool_]) -> float:
        return float(np.nanmedian(columns[name][events]))

    found = {
        "jet1_tau21": (median("jet1_tau21", ~signal), median("jet1_tau21", signal)),
        "jet2_tau21": (median("jet2_tau21", ~signal), median("jet2_tau21", signal)),
        "tau21_light": (
            median("tau21_light", window & ~signal),
            median("tau21_light", window & signal),
        ),
        "tau21_heavy": (
            median("tau21_heavy", window & ~signal),
            median("tau21_heavy", window & signal),
        ),
    }
    expected = {
        "jet1_tau21": (0.55, 0.31),
        "jet2_tau21": (0.57, 0.27),
        "tau21_light": (0.590, 0.371),
        "tau21_heavy": (0.505, 0.194),
    }
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, abs=0.05), name


def test_real_signal_shows_its_masses(real: tuple[Columns, NDArray[np.bool_]]) -> None:
    """Z'(3.5 TeV) -> X(500 GeV) Y(100 GeV), and half of the time the heavier jet leads."""
    columns, signal = real
    heavy = columns["jet_mass_light"] + columns["jet_mass_delta"]
    assert np.median(columns["m_jj"][signal]) == pytest.approx(3500, rel=0.05)
    assert np.median(columns["jet_mass_light"][signal]) == pytest.approx(100, rel=0.1)
    assert np.median(heavy[signal]) == pytest.approx(500, rel=0.1)
    heavier_leads = (columns["jet1_mass"] > columns["jet2_mass"])[signal].mean()
    assert 0.3 < heavier_leads < 0.7


def test_real_sample_passes_its_trigger(real: tuple[Columns, NDArray[np.bool_]]) -> None:
    columns, _ = real
    assert (columns["jet1_pt"] > 1200).mean() > 0.99
