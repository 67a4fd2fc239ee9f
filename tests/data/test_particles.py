"""The leading jets with their hardest constituents, in memory and from a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hepllm.config import Config, load_config
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.event_table import concatenate
from hepllm.data.particles import JET_COLUMNS, PARTICLE_COLUMNS, leading_jets
from hepllm.errors import InputError
from hepllm.stages.preprocess import preprocess

PT = [[9.0, 5.0, 1.0, 7.0, 3.0], None, [4.0, 2.0, 8.0]]
JET = [[1, 1, 1, 2, 2], None, [2, 2, 3]]


def _lists() -> dict[str, pa.Array]:
    values = dict.fromkeys(("pt", "eta", "phi"), PT) | {"jet": JET}
    return {
        name: pa.array(values[name.removeprefix("particles_")], pa.list_(kind))
        for name, kind in PARTICLE_COLUMNS.items()
    }


@pytest.fixture
def features() -> dict[str, np.ndarray]:
    return {name: np.arange(3) + 10.0 * place for place, name in enumerate(JET_COLUMNS)}


def test_constituents_stand_behind_their_jet(features: dict[str, np.ndarray]) -> None:
    found = leading_jets(_lists(), features, 2)
    assert found.shape == (3, 2, 3, 4)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[1, :, 0], [[1, 11, 21, 31], [41, 51, 61, 71]])
    none = np.nan
    expected = [[[9, 5], [7, 3]], [[none] * 2] * 2, [[none] * 2, [4, 2]]]  # jet 3 is not read
    for axis in range(3):
        np.testing.assert_array_equal(found[:, :, 1:, axis], expected)
    np.testing.assert_array_equal(found[..., 1:, 3], np.where(np.isnan(expected), none, 0.0))


def test_fewer_constituents_than_places_end_with_nothing(features: dict[str, np.ndarray]) -> None:
    found = leading_jets(_lists(), features, 4)
    np.testing.assert_array_equal((~np.isnan(found[:, :, 1:, 0])).sum(-1), [[3, 2], [0, 0], [0, 2]])
    np.testing.assert_array_equal(found[:, :, :3], leading_jets(_lists(), features, 2))


@pytest.fixture(scope="module")
def dataset(lhco_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    config: Config = load_config(
        None, ["preprocess.particles_per_jet=5", "preprocess.workers=1", "preprocess.chunk_size=7"]
    )
    folder = tmp_path_factory.mktemp("data") / "particles"
    preprocess([lhco_file], folder, config)
    return read_dataset(folder)


def test_a_dataset_gives_them_on_request(dataset: Dataset) -> None:
    names = ("jet1_pt", "m_jj")
    table = dataset.load(names, particles=4)
    assert table.names == names
    assert table.particles is not None
    assert table.particles.shape == (dataset.n_events, 2, 5, 4)
    np.testing.assert_allclose(table.particles[:, 0, 0, 0], table.column("jet1_pt"), rtol=1e-6)
    rows = pq.read_table(dataset.folder / dataset.manifest.shards[0].file)
    for event in (0, rows.num_rows - 1):
        pt, jet = (np.array(rows[f"particles_{name}"][event].as_py()) for name in ("pt", "jet"))
        for number in (1, 2):
            hardest = np.sort(pt[jet == number])[::-1][:4].astype(np.float32)
            kept = table.particles[event, number - 1, 1:, 0]
            np.testing.assert_array_equal(kept[: len(hardest)], hardest)
    assert dataset.load(names).particles is None


def test_batches_splits_and_parts_of_a_table_keep_them(dataset: Dataset) -> None:
    whole = dataset.load(("m_jj",), particles=3)
    batches = list(dataset.batches(("m_jj",), 6, particles=3))
    joined = concatenate(batches)
    np.testing.assert_array_equal(joined.particles, whole.particles)
    assert whole.particles is not None
    few = whole.take(whole.split == "train")
    np.testing.assert_array_equal(
        few.particles, dataset.load(("m_jj",), "train", particles=3).particles
    )


def test_too_few_constituents_are_refused(dataset: Dataset, tiny_data: Path) -> None:
    with pytest.raises(InputError, match=r"has 5 constituents .*particles_per_jet=40"):
        dataset.load((), particles=40)
    with pytest.raises(InputError, match=r"no constituents .*particles_per_jet=2"):
        next(iter(read_dataset(tiny_data / "data" / "rnd").batches((), 8, particles=2)))
