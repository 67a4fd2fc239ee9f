"""Stored representations in pandas frames: decoded to the values they stand for, or refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import tables
from h5py import h5t

from hepllm.errors import InputError
from hepllm.physics.events import EventBatch, TabulatedEvents
from hepllm.physics.readers import open_event_file

LABELS = [0, 1, 1, 0, 1, 0]


def _frame(**columns: Any) -> pd.DataFrame:
    masses = {"m_jj": np.linspace(3000, 3500, 6), "jet_mass_light": np.arange(6) + 50.0}
    return pd.DataFrame({**masses, "label": LABELS}).assign(**columns)


def _write(frame: pd.DataFrame, path: Path, layout: str) -> Path:
    kind, _, by_column = layout.partition(" ")
    frame.to_hdf(path, key="df", format=kind, data_columns=True if by_column else None)
    return path


def _read(path: Path) -> EventBatch:
    file = open_event_file(path)
    return file.read(0, file.n_events)


def _values(batch: EventBatch) -> TabulatedEvents:
    assert isinstance(batch.content, TabulatedEvents)
    return batch.content


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("layout", ["table", "table by column"])
@pytest.mark.parametrize("categories", [[0, 1], [1, 0], [7, 1, 0], [1.0, 0.0], [True, False]])
def test_categories_are_their_values(layout: str, categories: list[Any], tmp_path: Path) -> None:
    label = pd.Categorical(np.array(LABELS).astype(type(categories[0])), categories=categories)
    batch = _read(_write(_frame(label=label), tmp_path / "a.h5", layout))
    np.testing.assert_array_equal(batch.label_raw, LABELS)


def test_a_missing_category_is_a_missing_value(tmp_path: Path) -> None:
    masses = pd.Categorical([5.0, np.nan, 7.0, 5.0, np.nan, 7.0], categories=[7.0, 5.0])
    batch = _read(_write(_frame(jet_mass_delta=masses), tmp_path / "a.h5", "table"))
    expected = [5.0, np.nan, 7.0, 5.0, np.nan, 7.0]
    np.testing.assert_array_equal(_values(batch).values["jet_mass_delta"], expected)


SECONDS = np.arange(6)

NO_NUMBERS: dict[str, tuple[Any, str]] = {
    "times": (pd.to_datetime(SECONDS, unit="s"), "times (datetime)"),
    "times of a zone": (pd.to_datetime(SECONDS, unit="s").tz_localize("UTC"), "times (datetime)"),
    "durations": (pd.to_timedelta(SECONDS, unit="s"), "times (timedelta)"),
    "periods": (pd.period_range("2020", periods=6, freq="D"), "times (period)"),
    "complex": (SECONDS * 1j, "complex numbers"),
    "texts": (["a", "b"] * 3, "texts"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", ["fixed", "table"])
@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_stands_for_no_number_is_refused_by_name(
    kind: str, layout: str, tmp_path: Path
) -> None:
    values, found = NO_NUMBERS[kind]
    path = _write(_frame(jet_mass_delta=values), tmp_path / "a.h5", layout)
    with pytest.raises(InputError) as caught:
        _read(path)
    assert str(caught.value) == f"{path}: column 'jet_mass_delta' holds {found}, expected numbers"


def test_categories_of_texts_are_listed(tmp_path: Path) -> None:
    label = pd.Categorical(["graviton", "qcd"] * 3)
    path = _write(_frame(label=label), tmp_path / "a.h5", "table")
    with pytest.raises(InputError, match=r"'label' holds categories that are texts \(graviton, q"):
        _read(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", ["fixed", "table", "table by column"])
@pytest.mark.parametrize("kind", ["times", "durations", "texts"])
def test_what_is_not_needed_is_not_judged(kind: str, layout: str, tmp_path: Path) -> None:
    path = _write(_frame(process=NO_NUMBERS[kind][0]), tmp_path / "a.h5", layout)
    np.testing.assert_array_equal(_read(path).label_raw, LABELS)


def _relabel(path: Path, kind: h5t.TypeID, values: Any) -> Path:
    """A frame whose labels are stored in another type of HDF5."""
    frame = _frame(label=np.array(LABELS, dtype="u1"))
    frame.to_hdf(path, key="df", format="fixed")
    with h5py.File(path, "r+") as file:
        group = file["df"]
        place = next(i for i in range(9) if group[f"block{i}_items"][0] == b"label")
        del group[f"block{place}_values"]
        space = h5py.h5s.create_simple((6, 1))
        stored = h5py.h5d.create(group.id, f"block{place}_values".encode(), kind, space)
        raw = np.ascontiguousarray(np.array(values).reshape(6, 1))
        memory = kind if raw.dtype.kind in "iu" else None
        stored.write(h5py.h5s.ALL, h5py.h5s.ALL, raw, mtype=memory)
    return path


def _enumeration(names: dict[bytes, int]) -> h5t.TypeID:
    kind = h5t.enum_create(h5t.STD_U8LE)
    for name, code in names.items():
        kind.enum_insert(name, code)
    return kind


def test_an_enumeration_of_numbers(tmp_path: Path) -> None:
    codes = np.array([1 - label for label in LABELS], dtype="u1")
    path = _relabel(tmp_path / "a.h5", _enumeration({b"1": 0, b"0": 1}), codes)
    np.testing.assert_array_equal(_read(path).label_raw, LABELS)


def test_an_enumeration_of_names_is_refused(tmp_path: Path) -> None:
    codes = np.array(LABELS, dtype="u1")
    path = _relabel(tmp_path / "a.h5", _enumeration({b"signal": 0, b"qcd": 1}), codes)
    with pytest.raises(InputError, match="'label' holds codes of the enumeration signal, qcd"):
        _read(path)


def test_wide_bit_fields_are_refused(tmp_path: Path) -> None:
    path = _relabel(tmp_path / "a.h5", h5t.STD_B16LE, np.array(LABELS, dtype="<u2"))
    with pytest.raises(InputError, match="'label' holds bit fields"):
        _read(path)


def test_scaled_integers_are_refused(tmp_path: Path) -> None:
    path = _write(_frame(), tmp_path / "a.h5", "fixed")
    with h5py.File(path, "r+") as file:
        file["df/block0_values"].attrs["scale_factor"] = 0.1
    with pytest.raises(InputError, match=r"integers to be scaled by the attribute 'scale_factor'"):
        _read(path)


def test_truth_values_of_pytables(tmp_path: Path) -> None:
    path = _write(_frame(label=np.array(LABELS, dtype=bool)), tmp_path / "a.h5", "table")
    with tables.open_file(path) as file:
        assert file.root.df.table.coltypes["values_block_1"] == "bool"
    np.testing.assert_array_equal(_read(path).label_raw, LABELS)


def test_frames_of_the_reference_data(reference_data: Path) -> None:
    cases = reference_data / "cases" / "hdf_categorical_codes"
    np.testing.assert_array_equal(_read(cases / "reorder.h5").label_raw[:6], [0, 1, 0, 1, 0, 1])
    with pytest.raises(InputError, match=r"texts \(graviton, qcd\)"):
        _read(cases / "cat_table.h5")


def _dead_link_beside(path: Path) -> Path:
    _frame().to_hdf(path, key="events", format="fixed")
    with h5py.File(path, "r+") as file:
        file["old"] = h5py.SoftLink("/gone")
    return path


def _missing_rows(path: Path) -> Path:
    _frame().to_hdf(path, key="df", format="fixed")
    with h5py.File(path, "r+") as file:
        del file["df/block0_values"]
        layout = h5py.VirtualLayout((6, 2), "f8")
        layout[:] = h5py.VirtualSource("gone.h5", "x", shape=(6, 2))
        file["df"].create_virtual_dataset("block0_values", layout)
    return path


def test_a_dead_link_beside_the_frame_does_no_harm(tmp_path: Path) -> None:
    np.testing.assert_array_equal(_read(_dead_link_beside(tmp_path / "a.h5")).label_raw, LABELS)


@pytest.mark.parametrize(
    ("link", "message"),
    [
        (h5py.ExternalLink("gone.h5", "/df"), "'df' is a link to '/df' in 'gone.h5', which cann"),
        (h5py.SoftLink("/events"), "'df' is a link to '/events', which does not exist"),
    ],
)
def test_a_dead_link_to_the_frame_is_named(link: Any, message: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["df"] = link
    with pytest.raises(InputError, match=message):
        _read(tmp_path / "a.h5")


def test_rows_in_a_missing_file_are_not_zeros(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"its rows are in 'gone\.h5', which does not exist"):
        _read(_missing_rows(tmp_path / "a.h5"))


def test_a_file_that_is_being_written(tmp_path: Path) -> None:
    path = _write(_frame(), tmp_path / "a.h5", "fixed")
    program = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print('open', flush=True)"
    program += "; input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(InputError, match="another process has it open for writing; try again"):
            _read(path)
        writer.communicate("\n")
    np.testing.assert_array_equal(_read(path).label_raw, LABELS)
