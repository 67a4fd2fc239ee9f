"""Tables of numbers read back by rows, whatever holds them."""

from __future__ import annotations

import datetime as dt
import decimal
import gzip
import os
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hepllm.arrow_files import open_file
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


FEATURE_NAMES = "m_jj,jet_mass_light,label"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_ends_of_lines(end: str, last: bool, tmp_path: Path) -> None:
    lines = [FEATURE_NAMES, *(f"{3000 + i},{50 + i},{i % 2}" for i in range(2500))]
    (tmp_path / "a.csv").write_bytes((end.join(lines) + end * last).encode())
    table = open_table(tmp_path / "a.csv")
    assert table.names == tuple(FEATURE_NAMES.split(","))
    assert table.n_rows == 2500
    np.testing.assert_array_equal(table.read(1998, 2003)[:, 0], 3000 + np.arange(1998, 2003))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_quoted_texts_may_contain_line_breaks(end: str, tmp_path: Path) -> None:
    rows = [f'{i},"a ""{i}"",{end}# b{end}{end}",{i % 2}' for i in range(1500)]
    text = end.join([f'm_jj,"a{end}note",label', *rows])
    (tmp_path / "a.csv").write_bytes(text.encode())
    table = open_table(tmp_path / "a.csv")
    assert table.n_rows == 1500
    rows_read = table.read(990, 1010, [0, 2])
    np.testing.assert_array_equal(rows_read[:, 0], np.arange(990, 1010))
    np.testing.assert_array_equal(rows_read[:, 1], np.arange(990, 1010) % 2)


def test_a_quote_within_a_field_is_a_character(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('m_jj,note,label\n1,5" pipe,0\n2,b,1\n')
    table = open_table(tmp_path / "a.csv")
    np.testing.assert_array_equal(table.read(0, 2, [0, 2]), [[1, 0], [2, 1]])


def test_an_open_quote_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('m_jj,note,label\n1,"a,0\n2,b,1\n')
    with pytest.raises(InputError, match=r'the row at byte 16 has an open quote: 1,"a,0$'):
        open_table(tmp_path / "a.csv")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_name_that_several_columns_have(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        path.write_text("m_jj,label,label\n3000,0,1\n")
    else:
        columns = [pa.array([3000.0]), pa.array([0]), pa.array([1])]
        pq.write_table(pa.Table.from_arrays(columns, ["m_jj", "label", "label"]), path)
    table = open_table(path)
    np.testing.assert_array_equal(table.read(0, 1, [0]), [[3000]])  # what is not needed is left
    with pytest.raises(InputError, match="2 columns are called 'label'; rename all but the one"):
        find_column(table, "label", "label")


BIG = 2**53 + 2
SECOND = dt.timedelta(seconds=1)
WHEN = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)

NUMBERS: dict[str, tuple[pa.Array, list[float]]] = {
    "categories": (pa.DictionaryArray.from_arrays([0, 1, None], [7, 5]), [7, 5, np.nan]),
    "decimals": (pa.array([decimal.Decimal("1.25"), decimal.Decimal("-3.50"), None]), [1.25, -3.5]),
    "large integers": (pa.array([BIG, -BIG, None]), [BIG, -BIG]),
    "large positive integers": (pa.array([2**63, 1, None], pa.uint64()), [2.0**63, 1]),
    "truth values": (pa.array([True, False, None]), [1, 0]),
    "half precision": (pa.array([1.5, 2.5, None], pa.float16()), [1.5, 2.5]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_stored_numbers_of_parquet(kind: str, tmp_path: Path) -> None:
    column, expected = NUMBERS[kind]
    pq.write_table(pa.table({"x": column}), tmp_path / "a.parquet")
    read = open_table(tmp_path / "a.parquet").read(0, 3)[:, 0]
    np.testing.assert_array_equal(read, [*expected, np.nan][:3])


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([WHEN]), r"timestamp\[us, tz=UTC\]"),
        (pa.array([WHEN.date()]), "date32"),
        (pa.array([SECOND]), r"duration\[us\]"),
        (pa.array([WHEN]).dictionary_encode(), "timestamp"),
        (pa.array(["qcd"]).dictionary_encode(), "dictionary<values=string"),
        (pa.array([[1.0]]), "list<"),
        (pa.array([{"left": 1}]), "struct<"),
    ],
)
def test_what_is_no_number_in_parquet(column: pa.Array, kind: str, tmp_path: Path) -> None:
    table = pa.table({"m_jj": [3000.0], "x": column})
    pq.write_table(table, tmp_path / "a.parquet")
    opened = open_table(tmp_path / "a.parquet")
    np.testing.assert_array_equal(opened.read(0, 1, [0]), [[3000]])
    with pytest.raises(InputError, match=f"column 'x' is of type {kind}.*, expected numbers"):
        opened.read(0, 1, [1])


def test_periods_of_pandas_in_parquet_are_no_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": pd.period_range("2020", periods=3, freq="D")})
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"'x' is of type pandas\.period, expected numbers"):
        open_table(tmp_path / "a.parquet").read(0, 3)


def test_fields_of_records_that_are_no_numbers(tmp_path: Path) -> None:
    kinds = [("m_jj", "f8"), ("time", "m8[s]"), ("name", "S3"), ("axis", "f4", (3,))]
    np.save(tmp_path / "a.npy", np.zeros(4, dtype=kinds))
    table = open_table(tmp_path / "a.npy")
    np.testing.assert_array_equal(table.read(0, 4, [0]), np.zeros((4, 1)))
    for place, name in enumerate(["time", "name", "axis"], 1):
        with pytest.raises(InputError, match=f"column '{name}' is of type .*, expected numbers"):
            table.read(0, 4, [place])


@pytest.mark.parametrize("name", [b"donn\xe9es.parquet", b"a:b.parquet", b"x" * 247 + b".parquet"])
def test_any_name_of_a_parquet_file(
    name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(os.fsdecode(name))
    with open_file(path, "wb") as stream:
        pq.write_table(pa.table({"m_jj": [3000.0]}), stream)
    np.testing.assert_array_equal(open_table(path).read(0, 1), [[3000]])
