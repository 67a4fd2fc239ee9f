"""Chunks cover a file without gaps, and their contents do not depend on where they begin."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hepllm.config import PreprocessConfig
from hepllm.physics.chunks import READ, VALID, Chunk, make_chunks, process_chunk
from hepllm.physics.readers import open_event_file

Rows = NDArray[np.float64]


@pytest.mark.parametrize("n_events", [20, 21, 19])
@pytest.mark.parametrize("size", [1, 5, 20, 50])
def test_chunks_cover_each_row_once(
    n_events: int,
    size: int,
    dijet_events: Callable[..., Rows],
    write_lhco: Callable[..., Path],
    tmp_path: Path,
) -> None:
    file = open_event_file(write_lhco(tmp_path / "a.h5", dijet_events(n_events)))
    chunks = list(make_chunks([file, file], size))
    rows = [row for chunk in chunks for row in range(chunk.start, chunk.stop)]
    assert rows == [*range(n_events), *range(n_events)]
    assert max(chunk.stop - chunk.start for chunk in chunks) <= size


def test_reading_a_chunk_takes_the_memory_of_a_chunk(
    dijet_events: Callable[..., Rows], write_lhco: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_lhco(tmp_path / "a.h5", np.tile(dijet_events(50), (20, 1)), chunks=(7, 2101))
    file = open_event_file(path)
    tracemalloc.start()
    try:
        batch = file.read(100, 110)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(batch) == 10
    assert peak < 10 * 10 * 2101 * 8  # the file has 1,000 rows


def test_a_chunk_names_its_rows(lhco_file: Path) -> None:
    assert str(Chunk(open_event_file(lhco_file), 10, 20)) == f"{lhco_file}: rows 10-19"


def test_events_do_not_know_their_chunk(lhco_file: Path) -> None:
    file, config = open_event_file(lhco_file), PreprocessConfig()
    whole = process_chunk(Chunk(file, 0, 60), config)
    part = process_chunk(Chunk(file, 23, 37), config)
    for name, values in whole.features.items():
        np.testing.assert_array_equal(part.features[name], values[23:37], err_msg=name)
    for name, values in whole.rows.items():
        np.testing.assert_array_equal(part.rows[name], values[23:37], err_msg=name)
    assert part.cut_flow == ((READ, 14), (VALID, 14))


def test_results_travel(lhco_file: Path) -> None:
    result = process_chunk(
        Chunk(open_event_file(lhco_file), 0, 5), PreprocessConfig(particles_per_jet=3)
    )
    back = pickle.loads(pickle.dumps(result))  # noqa: S301 (our own)
    np.testing.assert_array_equal(back.features["m_jj"], result.features["m_jj"])
    assert back.particles["particles_pt"].equals(result.particles["particles_pt"])
