"""Tables of numbers read back by rows, whatever holds them."""

from __future__ import annotations

import gzip
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hepllm.errors import InputError
from hepllm.physics.readers.columns import ColumnTable, find_column
from hepllm.physics.readers.delimited import open_delimited
from hepllm.physics.readers.frames import open_frame
from hepllm.physics.readers.npy import open_npy
from hepllm.physics.readers.parquet import open_parquet
from hepllm.physics.readers.tables import open_table
from hepllm.physics.readers.trees import open_tree

Rows = NDArray[np.float64]

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def rows() -> Rows:
    values = np.random.default_rng(3).normal(0, 100, (2503, 3))
    values[7, 1] = values[2500, 2] = np.nan
    return values


def _npy(rows: Rows, path: Path) -> ColumnTable:
    np.save(path.with_suffix(".npy"), rows)
    return open_npy(path.with_suffix(".npy"))


def _fortran_npy(rows: Rows, path: Path) -> ColumnTable:
    np.save(path.with_suffix(".npy"), np.asfortranarray(rows.astype(">f8")))
    return open_npy(path.with_suffix(".npy"))


def _records(rows: Rows, path: Path) -> ColumnTable:
    records = np.rec.fromarrays(list(rows.T), names=",".join(NAMES))
    np.save(path.with_suffix(".npy"), np.asarray(records.view(np.ndarray)))
    return open_npy(path.with_suffix(".npy"))


def _parquet(rows: Rows, path: Path) -> ColumnTable:
    table = pa.table({name: pa.array(c, from_pandas=True) for name, c in zip(NAMES, rows.T)})  # noqa: B905
    pq.write_table(table, path, row_group_size=700)
    return open_parquet(path)


def _csv(rows: Rows, path: Path) -> ColumnTable:
    lines = [",".join("" if np.isnan(x) else repr(float(x)) for x in row) for row in rows]
    path.write_text("a,b,c\n" + "\n".join(lines) + "\n")
    return open_delimited(path)


def _semicolons(rows: Rows, path: Path) -> ColumnTable:
    lines = [";".join(repr(float(x)) for x in row) for row in rows]
    path.write_bytes(b'\xef\xbb\xbf"a";"b";"c"\r\n' + "\r\n\r\n".join(lines).encode())
    return open_delimited(path)


def _blanks(rows: Rows, path: Path) -> ColumnTable:
    np.savetxt(path, rows, fmt="%25.17g", header="a b c")
    return open_delimited(path)


def _root(rows: Rows, path: Path) -> ColumnTable:
    with uproot.recreate(path) as file:
        tree = file.mktree("t", dict.fromkeys(NAMES, "float64"))
        for part in (rows[:900], rows[900:]):
            tree.extend(dict(zip(NAMES, part.T, strict=True)))
    return open_tree(path, None)


def _rntuple(rows: Rows, path: Path) -> ColumnTable:
    with uproot.recreate(path) as file:
        file.mkrntuple("t", dict(zip(NAMES, rows.T, strict=True)))
    return open_tree(path, None)


def _gzip(rows: Rows, path: Path) -> ColumnTable:
    text = _csv(rows, path).path.read_bytes()
    path.write_bytes(gzip.compress(text))
    return open_table(path)


def _npz(rows: Rows, path: Path) -> ColumnTable:
    np.savez_compressed(path.with_suffix(".npz"), **dict(zip(NAMES, rows.T, strict=True)))
    return open_table(path.with_suffix(".npz"))


def _named(rows: Rows, path: Path) -> ColumnTable:
    return open_table(_npy(rows, path).path, names=NAMES)


def _hdf5(rows: Rows, path: Path) -> ColumnTable:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("tables", reason="PyTables is not installed")
    pandas.DataFrame(rows, columns=list(NAMES)).to_hdf(path, key="df")
    return open_frame(path)


WRITERS: dict[str, Callable[[Rows, Path], ColumnTable]] = {
    "npy": _npy,
    "big-endian npy by columns": _fortran_npy,
    "records": _records,
    "parquet": _parquet,
    "csv": _csv,
    "semicolons": _semicolons,
    "blanks": _blanks,
    "root": _root,
    "rntuple": _rntuple,
    "csv.gz": _gzip,
    "npz": _npz,
    "named": _named,
    "hdf5": _hdf5,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_rows_come_back(kind: str, rows: Rows, tmp_path: Path) -> None:
    table = WRITERS[kind](rows, tmp_path / "table")
    assert (table.n_rows, table.n_columns) == rows.shape
    assert table.names in (NAMES, None)
    assert (table.names is None) == ("npy" in kind)  # not those to which names were given
    for start, stop in ((0, 2503), (0, 1), (699, 701), (999, 1001), (1000, 2000), (2502, 2503)):
        np.testing.assert_array_equal(table.read(start, stop), rows[start:stop])
        np.testing.assert_array_equal(table.read(start, stop, [2, 0]), rows[start:stop, [2, 0]])
    assert table.read(3, 9).dtype == np.dtype("=f8")


@pytest.mark.parametrize("kind", WRITERS)
def test_tables_can_be_sent_to_workers(kind: str, rows: Rows, tmp_path: Path) -> None:
    table = WRITERS[kind](rows, tmp_path / "table")
    assert pickle.loads(pickle.dumps(table)) == table  # noqa: S301 (our own)


@pytest.mark.parametrize("kind", ["npy", "parquet", "csv"])
def test_reading_rows_takes_the_memory_of_rows(kind: str, tmp_path: Path) -> None:
    many = np.random.default_rng(1).normal(size=(100_000, 3))
    table = WRITERS[kind](many, tmp_path / "table")
    tracemalloc.start()
    try:
        table.read(50_000, 50_100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < many.nbytes / 4


@given(cut=st.tuples(st.integers(0, 2502), st.integers(1, 2503)).filter(lambda c: c[0] < c[1]))
@settings(max_examples=30)
def test_any_piece_of_a_text(
    cut: tuple[int, int], rows: Rows, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = _csv(rows, tmp_path_factory.mktemp("text") / "t.csv")
    np.testing.assert_array_equal(table.read(*cut), rows[slice(*cut)])


def test_text_without_names(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("# made by hand\n1,2,nan\n# in between\n\n3,,5\n")
    table = open_delimited(path)
    assert (table.n_rows, table.n_columns, table.names) == (2, 3, None)
    np.testing.assert_array_equal(table.read(0, 2), [[1, 2, np.nan], [3, np.nan, 5]])


def test_columns_are_found_by_name_and_place(rows: Rows, tmp_path: Path) -> None:
    table = _csv(rows[:3], tmp_path / "a.csv")
    assert [find_column(table, column, "x") for column in ("a", "c", 1, -1, "2")] == [0, 2, 1, 2, 2]
    with pytest.raises(InputError, match=r"no column 'd' for 'm_jj'; there are a, b, c$"):
        find_column(table, "d", "m_jj")
    with pytest.raises(InputError, match="no column 3 for 'm_jj': there are 3"):
        find_column(table, 3, "m_jj")
    nameless = _npy(rows[:3], tmp_path / "b")
    with pytest.raises(InputError, match="its columns have no names; give a position from 0 to 2"):
        find_column(nameless, "a", "m_jj")


def _refused(open_it: Callable[[Path], ColumnTable], path: Path, message: str) -> None:
    def read_all() -> None:
        table = open_it(path)
        table.read(0, table.n_rows)

    with pytest.raises(InputError, match=message) as caught:
        read_all()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there are no events in it"),
        ("# nothing\n\n", "there are no events in it"),
        ("a,b\n", "there are no events in it"),
        ("a,b\n1,2\n3,x\n", "rows 0-1: .*invalid value 'x'"),
        ("a,b\n1,2\n3\n", "rows 0-1: .*Expected 2 columns, got 1"),
    ],
)
def test_wrong_texts(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    _refused(open_delimited, path, message)


def test_wrong_arrays(tmp_path: Path) -> None:
    cases = {
        r"shape \(3,\), expected \(events, columns\)": np.ones(3),
        "type complex128, expected numbers": np.ones((3, 2), dtype=complex),
        "there are no events in it": np.ones((0, 2)),
        "Python objects|object": np.array([[object()]], dtype=object),
    }
    for message, array in cases.items():
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        _refused(open_npy, tmp_path / "a.npy", message)
    np.save(tmp_path / "a.npy", np.ones((100, 3)))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-100])
    _refused(open_npy, tmp_path / "a.npy", "not a readable NumPy file")


def test_wrong_parquet(rows: Rows, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1.0], "name": ["x"]}), path)
    _refused(open_parquet, path, "column 'name' is of type string, expected numbers")
    pq.write_table(pa.table({"a": pa.array([], pa.float64())}), path)
    _refused(open_parquet, path, "there are no events in it")
    _parquet(rows, path)
    path.write_bytes(path.read_bytes()[:-20])
    _refused(open_parquet, path, "not a readable Parquet file")


def test_integers_and_booleans_are_numbers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1, None, 3], "s": [True, False, None]}), tmp_path / "a.parquet")
    found = open_parquet(tmp_path / "a.parquet").read(0, 3)
    np.testing.assert_array_equal(found, [[1, 1], [np.nan, 0], [3, np.nan]])


def test_what_is_no_table_is_refused(rows: Rows, tmp_path: Path) -> None:
    whole = gzip.compress(_csv(rows, tmp_path / "a").path.read_bytes())
    (tmp_path / "cut.csv.gz").write_bytes(whole[:-200])
    (tmp_path / "array.npy.gz").write_bytes(
        gzip.compress(_npy(rows, tmp_path / "b").path.read_bytes())
    )
    np.savez(tmp_path / "matrix.npz", rows)
    np.savez(tmp_path / "lengths.npz", a=rows[:5, 0], b=rows[:6, 0])
    (tmp_path / "zip.npz").write_bytes(b"PK\x03\x04 and so on")
    (tmp_path / "events.hepmc").write_text("HepMC::Version 3.02.06\n")
    for name, message in {
        "cut.csv.gz": "not readable gzip",
        "array.npy.gz": "what is packed in it is no text table",
        "matrix.npz": r"no arrays with one number per event, but arr_0 \(2503, 3\)",
        "lengths.npz": "arrays of different lengths: a 5, b 6",
        "zip.npz": "not a readable NumPy archive",
        "events.hepmc": "events of a generator, not a table",
        "nowhere.csv": "no such file",
    }.items():
        _refused(open_table, tmp_path / name, message)
    with pytest.raises(InputError, match="2 names for 3 columns"):
        open_table(tmp_path / "a", names=("x", "y"))
