"""Events in memory are read as events in files are: what is absent never counts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import awkward as ak
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from hepllm.config import PreprocessConfig
from hepllm.data.tables_in_memory import column_names
from hepllm.errors import InputError
from hepllm.physics.chunks import describe_events
from hepllm.physics.events import Particles
from hepllm.physics.in_memory import (
    as_particles,
    as_table,
    checked_rows,
    features_of_table,
    read_particles,
)

_FIELDS = ("pt", "eta", "phi")


@pytest.fixture(scope="module")
def triplets() -> NDArray[np.float64]:
    """Four events of 30 particles, shape (4, 30, 3)."""
    random = np.random.default_rng(0)
    shape = (4, 30)
    parts = (random.exponential(20, shape) + 1, random.normal(0, 1, shape))
    return np.stack([*parts, random.uniform(-3, 3, shape)], axis=2)


def _records(triplets: NDArray[np.float64]) -> ak.Array:
    lists = [ak.from_regular(ak.Array(triplets[:, :, axis])) for axis in range(3)]
    return ak.zip(dict(zip(_FIELDS, lists, strict=True)))


def _read(events: Any) -> Particles:
    found = as_particles(events)
    assert found is not None
    return read_particles(found)


def _masked(events: ak.Array) -> ak.Array:
    return ak.mask(events, events.pt > 10)


def _fields_masked(events: ak.Array) -> ak.Array:
    return ak.zip({name: ak.mask(events[name], events.pt > 10) for name in _FIELDS})


def _padded(value: float) -> Callable[[ak.Array], ak.Array]:
    def pad(events: ak.Array) -> ak.Array:
        kept = events[events.pt > 10]
        return ak.zip(
            {n: ak.fill_none(ak.pad_none(kept[n], 40, clip=True), value) for n in _FIELDS}
        )

    return pad


def _zeros_between(events: ak.Array) -> ak.Array:
    return ak.zip({n: ak.where(events.pt > 10, events[n], 0.0) for n in _FIELDS})


def _none_between(events: ak.Array) -> list[Any]:
    return [[one if one["pt"] > 10 else None for one in event] for event in events.to_list()]


def _regular_options(events: ak.Array) -> ak.Array:
    return ak.to_regular(_masked(events), axis=1)


def _numpy_masked(events: ak.Array) -> Any:
    array = np.stack([ak.to_numpy(events[name]) for name in _FIELDS], axis=2)
    return np.ma.array(array, mask=np.repeat(array[:, :, :1] <= 10, 3, axis=2))


def _numpy_zeros(events: ak.Array) -> Any:
    return np.ma.filled(_numpy_masked(events), 0.0)


def _records_of_arrays(events: ak.Array) -> ak.Array:
    array = _numpy_zeros(events)
    return ak.Array({name: array[:, :, place] for place, name in enumerate(_FIELDS)})


def _structured(events: ak.Array) -> Any:
    array = _numpy_zeros(events)
    found = np.zeros(array.shape[:2], dtype=[(name, "f8") for name in _FIELDS])
    for place, name in enumerate(_FIELDS):
        found[name] = array[:, :, place]
    return found


def _mapping(events: ak.Array) -> dict[str, ak.Array]:
    kept = events[events.pt > 10]
    return {name: kept[name] for name in _FIELDS}


def _cartesian_options(events: ak.Array) -> ak.Array:
    return _masked(
        ak.zip(
            {
                "pt": events.pt,
                "px": events.pt * np.cos(events.phi),
                "py": events.pt * np.sin(events.phi),
                "pz": events.pt * np.sinh(events.eta),
            }
        )
    )[["px", "py", "pz"]]


@pytest.mark.parametrize(
    "form",
    [
        _masked,
        _fields_masked,
        _padded(0.0),
        _padded(-999.0),
        _padded(np.nan),
        _zeros_between,
        _none_between,
        _regular_options,
        _numpy_masked,
        _numpy_zeros,
        _records_of_arrays,
        _structured,
        _mapping,
        _cartesian_options,
    ],
)
def test_absent_particles_do_not_count(
    triplets: NDArray[np.float64], form: Callable[[ak.Array], Any]
) -> None:
    events = _records(triplets)
    expected = read_particles(events[events.pt > 10])
    assert 0 < expected.counts.sum() < triplets[:, :, 0].size
    found = _read(form(events))
    np.testing.assert_array_equal(found.counts, expected.counts)
    for name in _FIELDS:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-12)
    features, _ = describe_events(found, PreprocessConfig())  # fastjet reads them
    np.testing.assert_array_equal(features["n_particles"], expected.counts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda e: ak.mask(e, np.array([True, False, True, True])),
            "masked events: 1, first event 1",
        ),
        (lambda e: ak.with_field(e, ak.where(e.pt == e.pt[2, 3], np.nan, e.pt), "pt"), "1.*NaN"),
        (lambda e: ak.with_field(e, e.phi * 57.3, "phi"), r"4 pi.*first in event 0.*as in degrees"),
        (lambda e: ak.with_field(e, e.pt * 1e3, "pt"), r"sum of pT > 100000 GeV.*too large"),
        (lambda e: e[["pt", "eta"]], "need three-momenta.*found pt, eta"),
        (lambda e: ak.Array([[[1.0]]]), r"\(2 dimensions\), found 3"),
    ],
)
def test_what_cannot_be_is_told(
    triplets: NDArray[np.float64], change: Callable[[ak.Array], Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _read(change(_records(triplets)))


def test_energies_that_look_small_are_doubted(
    triplets: NDArray[np.float64], caplog: pytest.LogCaptureFixture
) -> None:
    events = _records(triplets)
    _read(ak.with_field(events, events.pt / 1e3, "pt"))
    assert "the sum of pT" in caplog.text
    assert "GeV and radians are expected" in caplog.text


_COLUMNS = {"jet1_pt": [500.0, 400.0, 300.0], "jet1_mass": [90.0, 80.0, 70.0]}


def _table_forms() -> list[Any]:
    nullable = [90, None, 70]
    numbers = np.array([(500.0, 90.0), (400.0, -999.0), (300.0, 70.0)])
    return [
        {"jet1_pt": [500.0, 400.0, 300.0], "jet1_mass": nullable},
        {"jet1_pt": ak.Array([500.0, 400.0, 300.0]), "jet1_mass": ak.Array(nullable)},
        {
            "jet1_pt": numbers[:, 0],
            "jet1_mass": np.ma.array([90.0, 1e7, 70.0], mask=[False, True, False]),
        },
        pd.DataFrame({"jet1_pt": [500.0, 400.0, 300.0], "jet1_mass": nullable}),
        pd.DataFrame({"jet1_pt": [500.0, 400.0, 300.0], "jet1_mass": nullable}).astype("Float64"),
        pd.DataFrame({"jet1_pt": [500, 400, 300], "jet1_mass": nullable}, dtype="Int64"),
        pd.DataFrame(numbers, columns=list(_COLUMNS)).to_records(),
        pa.table({"jet1_pt": [500.0, 400.0, 300.0], "jet1_mass": nullable}),
        ak.Array(
            [{"jet1_pt": p, "jet1_mass": m} for p, m in zip((500, 400, 300), nullable, strict=True)]
        ),
        [{"jet1_pt": 500, "jet1_mass": 90}, {"jet1_pt": 400}, {"jet1_pt": 300, "jet1_mass": 70}],
        numbers.view([(name, "f8") for name in _COLUMNS])[:, 0],
    ]


@pytest.mark.parametrize("table", _table_forms())
def test_missing_values_of_tables_are_nan(table: Any) -> None:
    assert as_particles(table) is None
    table = as_table(table)
    names = column_names(table)
    assert names is not None
    found = features_of_table(table, names, ("jet1_mass", "jet1_pt"))
    np.testing.assert_array_equal(found["jet1_mass"], [90, np.nan, 70])
    np.testing.assert_array_equal(found["jet1_pt"], [500, 400, 300])


def test_features_follow_as_from_files() -> None:
    table = {
        **{f"p{axis}j{jet}": [100.0 * jet, 50.0] for axis in "xyz" for jet in (1, 2)},
        **{f"mj{jet}": [30.0 * jet, 20.0] for jet in (1, 2)},
    }
    found = features_of_table(table, tuple(table), ("jet_mass_light", "jet_mass_delta", "m_jj"))
    np.testing.assert_allclose(found["jet_mass_light"], [30, 20])
    np.testing.assert_allclose(found["jet_mass_delta"], [30, 0])
    assert (found["m_jj"] > 0).all()


def test_a_feature_that_does_not_follow_is_refused() -> None:
    table = {"jet_mas_light": [90.0], "jet_mass_delta": [200.0], "run": [1]}
    message = r"no columns for .* jet_mass_light, .* jet_mas_light \(did you mean 'jet_mass_light'"
    with pytest.raises(InputError, match=message):
        features_of_table(table, tuple(table), ("jet_mass_light", "jet_mass_delta"))
    table |= {"jet_mass_light": [np.nan]}
    found = features_of_table(table, tuple(table), ("jet_mass_light", "jet_mass_delta"))
    assert np.isnan(found["jet_mass_light"]).all()


def test_columns_of_ones_own_are_left_alone() -> None:
    found = features_of_table({"x0": [-999.0], "m_jj": [-999.0]}, ("x0", "m_jj"), ("x0", "m_jj"))
    assert found["x0"] == [-999]
    assert np.isnan(found["m_jj"])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1e9], r"columns cannot be used: 1 with m_jj > 100000 GeV, first in event 0"),
        ([np.inf], "infinite"),
        (pd.to_datetime(pd.Series(["2020-01-01"])), "expected numbers"),
        ([1 + 2j], "expected numbers"),
        (["many"], "expected numbers"),
        ([[1.0, 2.0]], "one number of each event"),
    ],
)
def test_columns_that_cannot_be_are_told(column: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        features_of_table({"m_jj": column}, ("m_jj",), ("m_jj",))


def test_tev_is_doubted(caplog: pytest.LogCaptureFixture) -> None:
    features_of_table({"m_jj": [3.5, 3.6]}, ("m_jj",), ("m_jj",))
    assert "the median of m_jj (3.55 GeV) is too small" in caplog.text


def test_arrays_are_warned_of_and_not_refused(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = checked_rows(np.array([[90.0, -0.5], [-999.0, 0.3]]), ("jet1_mass", "tau21_light"))
    np.testing.assert_array_equal(found, [[90, -0.5], [np.nan, 0.3]])
    assert "1 with a negative tau21_light" in caplog.text
