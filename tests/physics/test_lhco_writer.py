"""The official layout, read back by pandas, by our reader, and compared with the real file."""

from __future__ import annotations

from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepllm.errors import RunError
from hepllm.physics.events import Particles
from hepllm.physics.lhco_writer import SLOTS, to_padded, write_lhco
from hepllm.physics.readers import open_event_file

__all__ = ["hdf5plugin"]  # its import registers the filter that h5py needs


def random_rows(n_events: int, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    counts = random.integers(0, 40, n_events)
    n = int(counts.sum())
    particles = Particles(
        random.exponential(5, n) + 0.1, random.normal(0, 2, n), random.uniform(-3, 3, n), counts
    )
    return to_padded(particles)


def write(path: Path, rows: np.ndarray, labels: np.ndarray | None, step: int = 7) -> Path:
    with write_lhco(path, len(rows), labelled=labels is not None) as writer:
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            writer.append(rows[part], None if labels is None else labels[part])
    return path


@given(counts=st.lists(st.integers(0, SLOTS), max_size=4), seed=st.integers(0, 2**31))
def test_padding_is_undone_by_reading(counts: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    n = sum(counts)
    values = random.exponential(5, n) + 0.1, random.normal(0, 2, n), random.uniform(-3, 3, n)
    particles = Particles(*values, np.array(counts, dtype=np.int64))
    rows = to_padded(particles)
    assert rows.shape == (len(counts), 2100)
    back = Particles.from_padded(rows)
    assert back.counts.tolist() == counts
    assert all(
        np.array_equal(a, b) for a, b in zip((back.pt, back.eta, back.phi), values, strict=True)
    )


def test_too_many_particles_are_refused_not_cut() -> None:
    values = np.ones(SLOTS + 1)
    with pytest.raises(ValueError, match="701 particles"):
        to_padded(Particles(values, values, values, np.array([SLOTS + 1])))


@pytest.mark.parametrize("labelled", [True, False])
def test_pandas_reads_the_file(tmp_path: Path, labelled: bool) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    rows = random_rows(60)
    labels = np.arange(60) % 2 if labelled else None
    frame = pandas.read_hdf(write(tmp_path / "events.h5", rows, labels))
    assert frame.shape == (60, 2101 if labelled else 2100)
    assert set(frame.dtypes) == {np.dtype("float64")}
    assert frame.columns.tolist() == list(range(frame.shape[1]))
    assert frame.index.tolist() == list(range(60))
    assert np.array_equal(frame.to_numpy()[:, :2100], rows)
    if labels is not None:
        assert frame[2100].tolist() == labels.tolist()
    part = pandas.read_hdf(tmp_path / "events.h5", key="df", start=10, stop=20)
    assert np.array_equal(part.to_numpy()[:, :2100], rows[10:20])


def test_our_reader_reads_the_file(tmp_path: Path) -> None:
    rows, labels = random_rows(20), np.arange(20) % 2
    file = open_event_file(write(tmp_path / "events.h5", rows, labels))
    assert (file.n_events, file.has_labels) == (20, True)
    batch = file.read(3, 11)
    assert batch.label_raw.tolist() == labels[3:11].tolist()
    assert np.array_equal(to_padded(batch.particles), rows[3:11])


def test_layout_is_that_of_the_real_file(tmp_path: Path, tiny_rnd: Path) -> None:
    path = write(tmp_path / "events.h5", random_rows(5), np.zeros(5))
    with h5py.File(path) as ours, h5py.File(tiny_rnd) as real:
        assert set(ours["df"]) == set(real["df"])
        for name in real["df"].attrs:
            assert ours["df"].attrs.get(name) is not None, name
            if name != "TITLE":
                value, expected = ours["df"].attrs[name], real["df"].attrs[name]
                value = value.encode() if isinstance(value, str) else value
                assert value == expected, name
        for name, stored in real["df"].items():
            assert ours["df"][name].dtype == stored.dtype
            assert ours["df"][name].shape[1:] == stored.shape[1:]
        assert list(ours["df/block0_values"]._filters) == list(real["df/block0_values"]._filters)


def test_zero_padding_is_compressed_away(tmp_path: Path) -> None:
    path = write(tmp_path / "events.h5", random_rows(200), None, step=50)
    assert path.stat().st_size < 0.2 * 200 * 2100 * 8


def write_until_interrupted(path: Path) -> None:
    with write_lhco(path, 10, labelled=False) as writer:
        writer.append(random_rows(5))
        assert not path.exists()
        raise KeyboardInterrupt


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_until_interrupted(tmp_path / "events.h5")
    assert list(tmp_path.iterdir()) == []


def test_missing_events_are_an_error_and_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "events.h5"
    path.write_text("old")
    with (
        pytest.raises(RunError, match="5 of 10 events"),
        write_lhco(path, 10, labelled=False) as writer,
    ):
        writer.append(random_rows(5))
    assert [file.name for file in tmp_path.iterdir()] == ["events.h5"]
    assert path.read_text() == "old"


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="labels"),
        write_lhco(tmp_path / "a.h5", 2, labelled=True) as writer,
    ):
        writer.append(random_rows(2))
    with (
        pytest.raises(ValueError, match="3 events for a file of 2"),
        write_lhco(tmp_path / "b.h5", 2, labelled=False) as writer,
    ):
        writer.append(random_rows(3))
