"""One rule for what is missing, whatever the format writes in its place."""

from __future__ import annotations

import numpy as np
import pytest

from hepllm.physics.absent import SENTINELS, absent_as_nan, are_there, missing_as_nan
from hepllm.physics.events import Particles


@pytest.mark.parametrize("sentinel", [-1, -9, -99, -999, -9999])
@pytest.mark.parametrize("name", ["jet1_mass", "jet2_tau1", "tau21_light", "jet1_n_particles"])
def test_what_is_never_negative_is_missing_at_a_sentinel(name: str, sentinel: float) -> None:
    found = missing_as_nan(name, np.array([sentinel, 0.5, np.nan]))
    np.testing.assert_array_equal(found, [np.nan, 0.5, np.nan])


def test_signed_quantities_keep_what_they_may_be() -> None:
    signed = np.array([-1.0, -99.0, -999.0, 0.3])
    np.testing.assert_array_equal(missing_as_nan("jet1_eta", signed), [-1, np.nan, np.nan, 0.3])
    np.testing.assert_array_equal(missing_as_nan("jet1_phi", signed), [-1, -99, np.nan, 0.3])
    np.testing.assert_array_equal(missing_as_nan("jet1_px", signed), signed)


@pytest.mark.parametrize("pt", [0.0, -99.0, -999.0])
def test_a_jet_without_pt_is_absent(pt: float) -> None:
    stored = {
        "jet1_pt": np.array([500.0, 400.0]),
        "jet2_pt": np.array([300.0, pt]),
        "jet2_eta": np.array([0.1, 0.0]),
        "jet2_tau21": np.array([0.4, 0.0]),
        "m_jj": np.array([900.0, 800.0]),
    }
    found = absent_as_nan(stored)
    for name in ("jet2_pt", "jet2_eta", "jet2_tau21"):
        np.testing.assert_array_equal(np.isnan(found[name]), [False, True])
    np.testing.assert_array_equal(found["jet1_pt"], stored["jet1_pt"])
    np.testing.assert_array_equal(found["m_jj"], stored["m_jj"])


def test_a_jet_whose_components_are_all_padding_is_absent() -> None:
    stored = {
        "jet1_px": np.array([0.0, -999.0, -99.0, 0.0]),
        "jet1_py": np.array([0.0, -999.0, 50.0, 0.0]),
        "jet1_pz": np.array([0.0, -999.0, 10.0, 100.0]),
        "jet1_mass": np.array([0.0, 5.0, 5.0, 5.0]),
    }
    absent = np.isnan(absent_as_nan(stored)["jet1_mass"])
    np.testing.assert_array_equal(absent, [True, True, False, False])


def _there(*events: list[tuple[float, float, float]]) -> list[bool]:
    flat = np.array([entry for event in events for entry in event], dtype=float)
    pt, eta, phi = flat.T
    there = are_there(pt, [eta, phi], np.array([len(event) for event in events]))
    return [bool(one) for one in there]


@pytest.mark.parametrize("sentinel", SENTINELS)
def test_padding_of_lists_is_no_entry(sentinel: float) -> None:
    real, zeros, mark = (50.0, 0.1, 0.2), (0.0, 0.0, 0.0), (sentinel,) * 3
    assert _there([real, zeros], [mark, real], [mark]) == [True, False, False, True, False]
    assert _there([(sentinel, 0.0, 0.0)]) == [False]
    assert _there([(sentinel, 0.4, 0.0)]) == [True]  # no padding, so it is a defect


def test_nan_is_padding_at_the_end_of_a_list_only() -> None:
    real, nothing = (50.0, 0.1, 0.2), (np.nan,) * 3
    assert _there([real, nothing, nothing], [nothing]) == [True, False, False, False]
    assert _there([nothing, real], [real]) == [True, True, True]
    assert _there([real, (np.nan, 0.1, 0.2)]) == [True, True]


def test_rows_padded_with_another_value_are_rows_padded_with_zeros() -> None:
    triplets = np.random.default_rng(1).uniform(1, 2, (5, 4, 3))
    padded = [
        Particles.from_padded(
            np.concatenate([triplets, np.full((5, 3, 3), padding)], axis=1).reshape(5, -1)
        )
        for padding in (0, -99, -999, np.nan)
    ]
    for other in padded[1:]:
        np.testing.assert_array_equal(other.counts, padded[0].counts)
        np.testing.assert_array_equal(other.digests(), padded[0].digests())
