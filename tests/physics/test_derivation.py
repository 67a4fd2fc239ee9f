"""What follows from a feature table, against independent arithmetic and against particles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from hepllm.config import JetsConfig
from hepllm.physics.derivation import derive_features
from hepllm.physics.events import Particles, TabulatedEvents
from hepllm.physics.features import compute_features
from hepllm.schema import FEATURES

Columns = dict[str, NDArray[np.float64]]


def _derive(**values: float | list[float] | NDArray[np.float64]) -> Columns:
    columns = {name: np.atleast_1d(np.asarray(v, dtype=float)) for name, v in values.items()}
    length = len(next(iter(columns.values())))
    return derive_features(TabulatedEvents(columns, np.zeros(length, dtype=np.uint64)))


@pytest.fixture(scope="module")
def clustered(dijet_events: Callable[..., NDArray[np.float64]]) -> Columns:
    particles = Particles.from_padded(dijet_events(60, seed=3)[:, :2100])
    return compute_features(particles, JetsConfig())


def _components(columns: Columns, jet: str) -> Columns:
    pt, eta, phi = (columns[f"{jet}_{name}"] for name in ("pt", "eta", "phi"))
    return {
        f"{jet}_px": pt * np.cos(phi),
        f"{jet}_py": pt * np.sin(phi),
        f"{jet}_pz": pt * np.sinh(eta),
    }


DERIVED = (
    *(f"jet{jet}_{name}" for jet in (1, 2, 3) for name in ("pt", "eta", "phi", "mass")),
    *("jet1_energy", "jet2_energy", "m_jj", "m_jjj", "delta_eta", "delta_phi", "delta_r"),
    *("jet_mass_light", "jet_mass_delta"),
)


@pytest.mark.parametrize("form", ["cartesian with mass", "pt eta phi with mass", "with energy"])
def test_kinematics_agree_with_those_of_particles(form: str, clustered: Columns) -> None:
    given: Columns = {}
    for jet in ("jet1", "jet2", "jet3"):
        if form.startswith("cartesian"):
            given |= _components(clustered, jet)
        else:
            given |= {f"{jet}_{name}": clustered[f"{jet}_{name}"] for name in ("pt", "eta", "phi")}
        if form == "with energy" and jet != "jet3":
            given[f"{jet}_energy"] = clustered[f"{jet}_energy"]
        else:
            given[f"{jet}_mass"] = clustered[f"{jet}_mass"]
    found = _derive(**given)
    assert list(found) == list(FEATURES)
    for name in DERIVED:
        np.testing.assert_allclose(
            found[name], clustered[name], rtol=1e-7, atol=2e-2 if "mass" in name else 1e-7
        )
    for name in ("ht", "n_jets", "n_particles", "jet1_tau21", "jet1_softdrop_mass"):
        assert np.isnan(found[name]).all()


def test_ratios_do_not_need_the_normalisation(clustered: Columns) -> None:
    given = {f"jet1_tau{n}_unnormalized": 700 * clustered[f"jet1_tau{n}"] for n in (1, 2, 3)}
    found = _derive(**given)
    np.testing.assert_allclose(found["jet1_tau21"], clustered["jet1_tau21"])
    np.testing.assert_allclose(found["jet1_tau32"], clustered["jet1_tau32"])
    assert np.isnan(found["jet1_tau1"]).all()


def test_what_is_given_is_never_replaced() -> None:
    found = _derive(
        jet1_px=300.0, jet1_py=400.0, jet1_pz=0.0, jet1_pt=501.0, jet1_mass=1.0, m_jj=[3000.0]
    )
    assert found["jet1_pt"][0] == 501
    assert found["m_jj"][0] == 3000
    assert found["jet1_eta"][0] == 0


def test_jets_come_in_falling_pt() -> None:
    found = _derive(
        jet1_pt=[100.0, 300.0],
        jet2_pt=[200.0, 200.0],
        jet1_mass=[10.0, 10.0],
        jet2_mass=[20.0, 20.0],
        jet1_tau21=[0.1, 0.1],
        jet2_tau21=[0.2, 0.2],
        jet1_eta=[1.0, 1.0],
        jet2_eta=[-1.0, -1.0],
        delta_eta=[2.0, 2.0],
    )
    assert found["jet1_pt"].tolist() == [200, 300]
    assert found["jet2_pt"].tolist() == [100, 200]
    assert found["jet1_mass"].tolist() == [20, 10]
    assert found["jet2_tau21"].tolist() == [0.1, 0.2]
    assert found["delta_eta"].tolist() == [-2, 2]
    assert found["tau21_heavy"].tolist() == [0.2, 0.2]


def test_three_jets_come_in_falling_pt() -> None:
    found = _derive(jet1_pt=[1.0, np.nan], jet2_pt=[2.0, 5.0], jet3_pt=[3.0, 6.0])
    assert found["jet1_pt"].tolist() == [3, 6]
    assert found["jet2_pt"].tolist() == [2, 5]
    np.testing.assert_array_equal(found["jet3_pt"], [1, np.nan])


def test_masses_are_clipped_and_missing_values_stay_missing() -> None:
    found = _derive(jet1_mass=[-1e-5, np.nan, 30.0], jet2_mass=[20.0, 20.0, np.nan])
    np.testing.assert_array_equal(found["jet1_mass"], [0, np.nan, 30])
    np.testing.assert_array_equal(found["jet_mass_light"], [0, np.nan, np.nan])
    np.testing.assert_array_equal(found["jet_mass_delta"], [20, np.nan, np.nan])


def test_the_difference_of_masses() -> None:
    found = _derive(jet_mass_light=100.0, jet_mass_heavy=500.0)
    assert found["jet_mass_delta"].tolist() == [400]


def test_a_jet_along_the_beam_has_no_direction() -> None:
    found = _derive(jet1_px=0.0, jet1_py=0.0, jet1_pz=100.0, jet1_mass=5.0)
    assert found["jet1_pt"][0] == 0
    assert np.isnan(found["jet1_eta"][0])


def test_zero_denominators_are_missing() -> None:
    found = _derive(jet1_tau1=[0.0, 0.5], jet1_tau2=[0.0, 0.25])
    np.testing.assert_array_equal(found["jet1_tau21"], [np.nan, 0.5])
