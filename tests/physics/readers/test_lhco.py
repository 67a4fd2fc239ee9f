"""LHCO files as pandas may write them, and every wrong file with one clear line."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from numpy.typing import NDArray

from hepllm.config import PreprocessConfig
from hepllm.errors import InputError
from hepllm.physics.events import EventBatch, Particles
from hepllm.physics.readers import open_event_file

Rows = NDArray[np.float64]


@pytest.fixture(scope="module")
def rows(dijet_events: Callable[..., Rows]) -> Rows:
    return dijet_events(23, seed=9)


def _assert_holds(batch: EventBatch, rows: Rows, start: int = 0) -> None:
    expected = Particles.from_padded(rows[:, :2100])
    np.testing.assert_array_equal(batch.particles.pt, expected.pt)
    np.testing.assert_array_equal(batch.particles.phi, expected.phi)
    np.testing.assert_array_equal(batch.particles.counts, expected.counts)
    np.testing.assert_array_equal(batch.event_id, np.arange(start, start + len(rows)))
    assert batch.particles.pt.dtype == np.dtype("=f8")
    np.testing.assert_array_equal(batch.weight, 1)


_LAST = [list(range(2100)), [2100]]
_MIXED = [list(range(1, 2101, 2)), list(range(0, 2101, 2))]

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "chunked": {"chunks": (7, 2101)},
    "zlib": {"chunks": (5, 2101), "compression": "gzip"},
    "blosc": {"chunks": (7, 2101), **hdf5plugin.Blosc()},
    "bzip2": {"chunks": (7, 2101), **hdf5plugin.BZip2()},
    "big-endian": {"dtypes": [">f8"]},
    "integer label": {"blocks": _LAST, "dtypes": ["<f8", "<i8"]},
    "label block first": {"blocks": _LAST[::-1], "dtypes": [">i4", "<f8"]},
    "columns dealt out to blocks": {"blocks": _MIXED},
    "not transposed": {"transposed": False},
    "text names": {"names": np.array([f"c{i}".encode() for i in range(2101)])},
    "shuffled block": {"blocks": [list(reversed(range(2101)))]},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_pandas(
    layout: str, rows: Rows, write_lhco: Callable[..., Path], tmp_path: Path
) -> None:
    file = open_event_file(write_lhco(tmp_path / "a.h5", rows, **LAYOUTS[layout]))
    assert file.n_events == 23
    assert file.has_labels
    for start, stop in ((0, 23), (0, 1), (5, 16), (22, 23)):
        batch = file.read(start, stop)
        _assert_holds(batch, rows[start:stop], start)
        np.testing.assert_array_equal(batch.label_raw, rows[start:stop, 2100])


def test_single_precision(rows: Rows, write_lhco: Callable[..., Path], tmp_path: Path) -> None:
    path = write_lhco(tmp_path / "a.h5", rows, dtypes=["<f4"])
    single = rows.astype(np.float32).astype(np.float64)
    _assert_holds(open_event_file(path).read(0, 23), single)


def test_without_label(rows: Rows, write_lhco: Callable[..., Path], tmp_path: Path) -> None:
    file = open_event_file(write_lhco(tmp_path / "bb.h5", rows[:, :2100]))
    assert not file.has_labels
    batch = file.read(3, 9)
    _assert_holds(batch, rows[3:9], 3)
    assert np.isnan(batch.label_raw).all()


def test_pickled_names_are_not_needed(
    rows: Rows, write_lhco: Callable[..., Path], tmp_path: Path
) -> None:
    """Columns 0, 1, ..., 'label': pandas pickles such names; a lone column is the label."""
    path = write_lhco(tmp_path / "a.h5", rows, blocks=_LAST, dtypes=["<f8", "<i8"])
    with h5py.File(path, "a") as file:
        for axis, length in (("axis0", 2101), ("block0_items", 2100), ("block1_items", 1)):
            del file["df"][axis]
            stored = file["df"].create_dataset(axis, (length,), dtype=h5py.vlen_dtype(np.uint8))
            stored[0] = np.frombuffer(pickle.dumps("label"), np.uint8)
    batch = open_event_file(path).read(0, 23)
    _assert_holds(batch, rows)
    np.testing.assert_array_equal(batch.label_raw, rows[:, 2100])


def _frame(rows: Rows, label: str | int = 2100) -> Any:
    """A frame with an integer label, as pandas has it; skips without pandas or PyTables."""
    pytest.importorskip("tables", reason="PyTables is not installed")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(rows)
    frame[2100] = frame[2100].astype(np.int64)
    return frame.rename(columns={2100: label})


@pytest.mark.parametrize("layout", ["fixed", "table"])
@pytest.mark.parametrize("complib", ["zlib", "blosc", "blosc:lz4", "blosc:zstd", "bzip2", None])
@pytest.mark.filterwarnings("ignore")  # pandas and PyTables have their own
def test_files_of_pandas_itself(
    layout: str, complib: str | None, rows: Rows, tmp_path: Path
) -> None:
    path = tmp_path / "pandas.h5"
    complevel = 5 if complib else None
    _frame(rows).to_hdf(path, key="df", format=layout, complevel=complevel, complib=complib)
    file = open_event_file(path)
    assert (file.n_events, file.has_labels) == (23, True)
    batch = file.read(2, 20)
    _assert_holds(batch, rows[2:20], 2)
    np.testing.assert_array_equal(batch.label_raw, rows[2:20, 2100])


@pytest.mark.parametrize("layout", ["fixed", "table"])
@pytest.mark.filterwarnings("ignore")
def test_a_label_between_the_particles(layout: str, rows: Rows, tmp_path: Path) -> None:
    frame = _frame(rows, "is_signal")
    frame = frame[["is_signal", *range(2100)]]
    frame.to_hdf(tmp_path / "a.h5", key="df", format=layout)
    for label in ("is_signal", -2101):
        batch = open_event_file(tmp_path / "a.h5", PreprocessConfig(label=label)).read(0, 23)
        _assert_holds(batch, rows)
        np.testing.assert_array_equal(batch.label_raw, rows[:, 2100])


@pytest.mark.filterwarnings("ignore")
def test_a_table_with_a_label_to_search_by(rows: Rows, tmp_path: Path) -> None:
    """pandas stores a data column apart from the blocks."""
    frame = _frame(rows, "label")
    frame.to_hdf(tmp_path / "a.h5", key="df", format="table", data_columns=["label"])
    batch = open_event_file(tmp_path / "a.h5").read(5, 23)
    _assert_holds(batch, rows[5:], 5)
    np.testing.assert_array_equal(batch.label_raw, rows[5:, 2100])


@pytest.mark.parametrize("layout", ["fixed", "table"])
@pytest.mark.parametrize("dtype", [">f8", "<f4", ">f4"])
@pytest.mark.filterwarnings("ignore")
def test_types_of_pandas(layout: str, dtype: str, rows: Rows, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("tables", reason="PyTables is not installed")
    typed = rows.astype(dtype)
    pandas.DataFrame(typed).to_hdf(tmp_path / "a.h5", key="df", format=layout)
    _assert_holds(open_event_file(tmp_path / "a.h5").read(0, 23), typed.astype(np.float64))


@pytest.mark.filterwarnings("ignore")
def test_an_appended_table(rows: Rows, tmp_path: Path) -> None:
    frame = _frame(rows)
    for part in (frame[:10], frame[10:]):
        part.to_hdf(tmp_path / "a.h5", key="df", format="table", append=True)
    _assert_holds(open_event_file(tmp_path / "a.h5").read(8, 15), rows[8:15], 8)


@pytest.mark.filterwarnings("ignore")
def test_a_table_of_text_is_refused(rows: Rows, tmp_path: Path) -> None:
    frame = _frame(rows, "label")
    frame["label"] = "signal"
    frame.to_hdf(tmp_path / "a.h5", key="df", format="table", data_columns=["label"])
    _refused(tmp_path / "a.h5", "column 'label' holds texts, expected numbers")


def test_a_stated_label(rows: Rows, write_lhco: Callable[..., Path], tmp_path: Path) -> None:
    names = np.array([f"c{i}".encode() for i in range(2101)])
    path = write_lhco(tmp_path / "a.h5", rows, names=names)
    for label in ("c2100", 2100, -1, "2100"):
        batch = open_event_file(path, PreprocessConfig(label=label)).read(0, 23)
        np.testing.assert_array_equal(batch.label_raw, rows[:, 2100])
    _refused(path, "no column 'c21000' for 'label' (did you mean 'c2100'?)", label="c21000")
    _refused(path, "no column 2101 for 'label': there are 2101", label=2101)


def test_a_label_that_is_to_be_ignored(
    rows: Rows, write_lhco: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_lhco(tmp_path / "a.h5", rows)
    file = open_event_file(path, PreprocessConfig(label="none"))
    assert not file.has_labels
    _assert_holds(file.read(0, 23), rows)
    assert np.isnan(file.read(0, 23).label_raw).all()


def test_a_stated_label_and_weight(
    rows: Rows, write_lhco: Callable[..., Path], tmp_path: Path
) -> None:
    weight = np.linspace(-1, 2, 23)
    path = write_lhco(tmp_path / "a.h5", np.column_stack([rows, weight]))
    batch = open_event_file(path, PreprocessConfig(label=2100, weight=2101)).read(0, 23)
    np.testing.assert_array_equal(batch.weight, weight)
    np.testing.assert_array_equal(batch.label_raw, rows[:, 2100])
    _refused(path, "2101 columns in 'df' besides the 1 of label and weight", label=2100)


def test_energies_in_tev(rows: Rows, write_lhco: Callable[..., Path], tmp_path: Path) -> None:
    in_tev = rows.copy()
    in_tev[:, :2100:3] /= 1000
    path = write_lhco(tmp_path / "a.h5", in_tev)
    batch = open_event_file(path, PreprocessConfig(energy_unit="TeV")).read(0, 23)
    expected = Particles.from_padded(rows[:, :2100])
    np.testing.assert_allclose(batch.particles.pt, expected.pt, rtol=1e-12)
    np.testing.assert_array_equal(batch.particles.eta, expected.eta)


@pytest.mark.filterwarnings("ignore")
def test_an_empty_file_of_pandas(tmp_path: Path) -> None:
    pytest.importorskip("tables", reason="PyTables is not installed")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    path = tmp_path / "empty.h5"
    pandas.DataFrame(np.zeros((0, 2101))).to_hdf(path, key="df")
    _refused(path, "there are no events in it")


def test_the_real_sample(tiny_rnd: Path) -> None:
    file = open_event_file(tiny_rnd)
    assert (file.n_events, file.has_labels) == (1000, True)
    batch = file.read(0, 1000)
    assert (batch.label_raw == 1).sum() == 93
    assert (batch.label_raw == 0).sum() == 907
    assert batch.particles.pt.min() > 0


def test_a_reader_can_be_sent_to_a_worker(lhco_file: Path) -> None:
    file = open_event_file(lhco_file)
    assert pickle.loads(pickle.dumps(file)) == file  # noqa: S301 (our own)


def _refused(path: Path, message: str, **settings: Any) -> None:
    with pytest.raises(InputError) as caught:
        open_event_file(path, PreprocessConfig(**settings))
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert message in text
    assert "\n" not in text
    assert caught.value.exit_code == 2


def test_missing_file(tmp_path: Path) -> None:
    _refused(tmp_path / "absent.h5", "no such file")
    _refused(tmp_path, "is a folder")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"pt,eta,phi\n1,2,3\n", "not an HDF5 file"),
        (b"\x89HDF\r\n", "not an HDF5 file"),
    ],
)
def test_not_hdf5(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    _refused(path, message)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_truncated_file(share: float, lhco_file: Path, tmp_path: Path) -> None:
    whole = lhco_file.read_bytes()
    path = tmp_path / "a.h5"
    path.write_bytes(whole[: int(share * len(whole))])
    _refused(path, "truncated")


@pytest.mark.parametrize("n_columns", [1, 14, 2099, 2102])
def test_wrong_number_of_columns(
    n_columns: int, write_lhco: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_lhco(tmp_path / "a.h5", np.ones((3, n_columns)))
    _refused(path, f"{n_columns} columns in 'df', expected 2100")


def test_another_key(rows: Rows, write_lhco: Callable[..., Path], tmp_path: Path) -> None:
    path = write_lhco(tmp_path / "a.h5", rows, key="events")
    _assert_holds(open_event_file(path).read(0, 23), rows)
    with h5py.File(path, "a") as file:
        file.create_group("more")
    _refused(path, "no key 'df', found 'events', 'more'")


def test_no_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["df"] = np.zeros((3, 2101))
    _refused(path, "not a pandas frame")


def test_no_events(write_lhco: Callable[..., Path], tmp_path: Path) -> None:
    _refused(write_lhco(tmp_path / "a.h5", np.zeros((0, 2101))), "there are no events in it")


def test_a_missing_block(rows: Rows, write_lhco: Callable[..., Path], tmp_path: Path) -> None:
    path = write_lhco(tmp_path / "a.h5", rows)
    with h5py.File(path, "a") as file:
        del file["df/block0_values"]
    _refused(path, "no block0_values in 'df'")


def test_a_block_of_the_wrong_shape(
    rows: Rows, write_lhco: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_lhco(tmp_path / "a.h5", rows)
    with h5py.File(path, "a") as file:
        del file["df/block0_values"]
        file["df/block0_values"] = rows[:10]
    _refused(path, "block0_values has 10 rows, expected 23")


def test_unknown_compression(rows: Rows, write_lhco: Callable[..., Path], tmp_path: Path) -> None:
    path = write_lhco(tmp_path / "a.h5", rows, chunks=(7, 2101), **hdf5plugin.Blosc())
    _change_filter(path, 32001, 32099)
    _refused(path, "compressed with filter 32099")


def _change_filter(path: Path, old: int, new: int) -> None:
    """Rewrites the number of the filter in the file's headers."""
    content = path.read_bytes()
    before, after = old.to_bytes(2, "little"), new.to_bytes(2, "little")
    place = content.rindex(before, 0, content.index(b"blosc"))
    path.write_bytes(content[:place] + after + content[place + 2 :])


def test_damaged_rows_are_named(
    rows: Rows, write_lhco: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_lhco(tmp_path / "a.h5", rows, chunks=(7, 2101), compression="gzip")
    with h5py.File(path) as file:
        third = file["df/block0_values"].id.get_chunk_info(2)
    content = bytearray(path.read_bytes())
    content[third.byte_offset : third.byte_offset + third.size] = b"\xff" * third.size
    path.write_bytes(bytes(content))
    opened = open_event_file(path)
    opened.read(0, 14)
    with pytest.raises(InputError, match=rf"^{path}: rows 10-17: damaged: [^\n]*$"):
        opened.read(10, 18)
