"""Columns of the user's own, from files to scores: new variables and observers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from hepllm import EventClassifier
from hepllm.config import Config
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError
from hepllm.stages.inspect import inspect_dataset
from hepllm.stages.preprocess import preprocess
from hepllm.stages.train import train

RATIO = (
    "preprocess.new_variables={ratio: jet2_pt / jet1_pt, heavy: jet_mass_light + jet_mass_delta}"
)
READS = "train.features=[jet_mass_light, ratio]"


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., Config]) -> Config:
    return tiny_config("preprocess.executor=serial", "train.epochs=2", RATIO, READS)


@pytest.fixture(scope="module")
def with_columns(tiny_data: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "rnd"
    preprocess([tiny_data / "rnd.h5"], folder, config)
    return folder


@pytest.fixture(scope="module")
def run(tiny_data: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a dataset that lacks the new variables, which it reads."""
    folder = tmp_path_factory.mktemp("own") / "run"
    train(tiny_data / "data" / "rnd", folder, config, overwrite=False)
    return folder


def test_preprocess_adds_new_variables(with_columns: Path) -> None:
    dataset = read_dataset(with_columns)
    assert dataset.manifest.features[-2:] == ["ratio", "heavy"]
    table = dataset.load(["ratio", "jet1_pt", "jet2_pt"])
    np.testing.assert_allclose(
        table.column("ratio"), table.column("jet2_pt") / table.column("jet1_pt")
    )
    found = inspect_dataset(with_columns, page=None)
    assert found.features["ratio"].mass_like


def test_a_selection_may_read_them(
    tiny_data: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config("preprocess.executor=serial", RATIO, "preprocess.select=ratio < 0.9")
    preprocess([tiny_data / "rnd.h5"], tmp_path / "cut", config)
    kept = read_dataset(tmp_path / "cut").load(["ratio"]).column("ratio")
    assert 0 < len(kept) < 200
    assert (kept < 0.9).all()


def test_a_dataset_without_the_columns_trains_as_one_with_them(
    run: Path, with_columns: Path, config: Config, tmp_path: Path
) -> None:
    train(with_columns, tmp_path / "run", config, overwrite=False)
    there = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert len(there) == len((run / "history.jsonl").read_text().splitlines())
    scores = [
        pq.read_table(folder / "validation.parquet")["score"].to_numpy()
        for folder in (run, tmp_path / "run")
    ]
    np.testing.assert_array_equal(*scores)


def test_files_datasets_and_tables_have_the_same_scores(
    run: Path, tiny_data: Path, with_columns: Path, tmp_path: Path
) -> None:
    classifier = EventClassifier.load(run)
    found = []
    for number, source in enumerate(
        (tiny_data / "rnd.h5", tiny_data / "data" / "rnd", with_columns)
    ):
        made = classifier.score_file(source, tmp_path / f"{number}.parquet")
        found.append(pq.read_table(made.path)["score"].to_numpy())
    table = read_dataset(with_columns).load(["jet_mass_light", "jet1_pt", "jet2_pt", "ratio"])
    columns = table.columns()
    given = {name: values for name, values in columns.items() if name != "ratio"}
    direct = {name: columns[name] for name in ("ratio", "jet_mass_light")}
    found += [classifier.score(given), classifier.score(direct)]
    for scores in found[1:]:
        np.testing.assert_allclose(scores, found[0], atol=1e-5)
    (explained,) = classifier.explain({name: values[:1] for name, values in given.items()})
    assert set(explained.facts) == {"jet_mass_light", "ratio"}


def test_a_dataset_with_another_definition_is_refused(
    with_columns: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config("preprocess.new_variables={ratio: jet1_pt / jet2_pt}", READS)
    with pytest.raises(InputError, match="has 'ratio' as 'jet2_pt / jet1_pt', and"):
        train(with_columns, tmp_path / "run", config, overwrite=False)


def _csv(path: Path, rows: NDArray[np.float64], header: str) -> Path:
    np.savetxt(path, rows, delimiter=",", header=header, comments="")
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    random = np.random.default_rng(1)
    rows = random.uniform(1, 2, (60, 5))
    rows[:, 0], rows[:, 4] = np.arange(60) % 2, np.arange(60)
    return _csv(tmp_path / "table.csv", rows, "label,jet_mass_light,b_tag_1,b_tag_2,run")


def test_observers_are_kept_and_may_be_read(
    table: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    own = ("preprocess.observers=[run, b_tag_*]", "preprocess.new_variables={b: b_tag_1 - b_tag_2}")
    config = tiny_config(
        "preprocess.executor=serial",
        *own,
        "preprocess.select=run > 9",
        "train.epochs=1",
        "train.features=[jet_mass_light, b_tag_1, b]",
        "prompt.layout=minimal",
    )
    preprocess([table], tmp_path / "data", config)
    dataset = read_dataset(tmp_path / "data")
    assert dataset.manifest.features[-4:] == ["run", "b_tag_1", "b_tag_2", "b"]
    found = dataset.load(["run", "b_tag_1", "b_tag_2", "b"])
    assert sorted(found.column("run")) == list(range(10, 60))
    np.testing.assert_allclose(found.column("b"), found.column("b_tag_1") - found.column("b_tag_2"))
    train(tmp_path / "data", tmp_path / "run", config, overwrite=False)
    classifier = EventClassifier.load(tmp_path / "run")
    made = classifier.score_file(table, tmp_path / "scores.csv")
    assert made.n_events == 60
    without = _csv(tmp_path / "without.csv", np.ones((3, 1)), "jet_mass_light")
    with pytest.raises(InputError, match="no column 'b_tag_1'"):
        classifier.score_file(without, tmp_path / "others.csv")


@pytest.mark.parametrize(
    ("observers", "message"),
    [
        ("[rnu]", r"no column 'rnu' for preprocess.observers \(did you mean 'run'"),
        ("[b_tug_*]", "no column 'b_tug_\\*'"),
    ],
)
def test_columns_that_are_not_there_are_told(
    *, observers: str, message: str, table: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config("preprocess.executor=serial", f"preprocess.observers={observers}")
    with pytest.raises(InputError, match=message):
        preprocess([table], tmp_path / "data", config)


def test_files_of_one_dataset_have_the_same_observers(
    table: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    other = _csv(tmp_path / "other.csv", np.ones((3, 3)), "label,jet_mass_light,b_tag_1")
    config = tiny_config("preprocess.executor=serial", "preprocess.observers=[b_tag_*]")
    with pytest.raises(InputError, match="which differ in b_tag_2"):
        preprocess([table, other], tmp_path / "data", config)


def test_infinite_observers_are_bad_events(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    file = _csv(
        tmp_path / "t.csv", np.array([[1, 2, np.inf], [0, 2, 3]]), "label,jet_mass_light,run"
    )
    config = tiny_config("preprocess.executor=serial", "preprocess.observers=[run]")
    with pytest.raises(InputError, match="1 with an infinite run"):
        preprocess([file], tmp_path / "data", config)


def test_a_quoted_pattern_names_files(
    tiny_data: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config("preprocess.executor=serial")
    made = preprocess([tiny_data / "[br][bn]*.h5"], tmp_path / "data", config)
    names = [source.name for source in made[0].dataset.manifest.sources]
    assert names == ["bb", "rnd"]
    with pytest.raises(InputError, match="no such file or folder"):
        preprocess([tiny_data / "x*.h5"], tmp_path / "other", config)
