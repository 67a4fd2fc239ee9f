"""Files and datasets of any name that the system allows."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hepllm.arrow_files import open_file
from hepllm.config import Config
from hepllm.data.dataset import read_dataset
from hepllm.data.work_folder import work_folder
from hepllm.files import as_text, write_text
from hepllm.runs.score_files import ScoreWriter, score_schema
from hepllm.stages.preprocess import preprocess

NAMES = [b"donn\xe9es", b"a:b", b"file:x", b"x" * 255, "тест #?*[1] % \n".encode()]


def _named(name: bytes, suffix: str = "") -> Path:
    """A path relative to the working folder, with a name of at most 255 bytes."""
    return Path(os.fsdecode(name[: 255 - len(suffix)]) + suffix)


def _listed() -> list[bytes]:
    return sorted(os.fsencode(path) for path in Path().iterdir())


def _columns() -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    return {"m_jj": np.linspace(3000.0, 3500, 6), "label": np.array([0.0, 1, 0, 1, 0, 1])}


def _write(path: Path) -> None:
    columns = _columns()
    match path.suffix:
        case ".csv":
            rows = zip(*columns.values(), strict=True)
            text = "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)])
            path.write_text(text)
        case ".parquet":
            with open_file(path, "wb") as stream:
                pq.write_table(pa.table(columns), stream)
        case _:
            with h5py.File(path, "w") as file:
                frame = file.create_group("df")
                frame["axis0"] = frame["block0_items"] = np.array([*columns], dtype="S5")
                frame["axis1"] = np.arange(6)
                frame["block0_values"] = np.stack([*columns.values()], axis=1)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".h5"])
@pytest.mark.parametrize("name", NAMES)
def test_inputs_and_datasets(
    name: bytes, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source, output = _named(name, suffix), _named(name)
    _write(source)
    config = Config.model_validate({"preprocess": {"executor": "serial"}})
    (made,) = preprocess([source], output, config)
    dataset = read_dataset(output)
    assert dataset.n_events == made.n_read == 6
    (described,) = dataset.manifest.sources
    assert described.name == as_text(source.stem)
    assert _listed() == sorted(os.fsencode(one) for one in (source, output))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".root"])
@pytest.mark.parametrize("name", NAMES)
def test_score_files(
    name: bytes, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = _named(name, suffix)
    values = {"event_id": [0], "source": ["a"], "label": [1], "score": [0.5], "probability": [0.5]}
    with work_folder(output, {}, overwrite=False) as work:
        schema = score_schema("balanced")
        with ScoreWriter(work.result / output.name, suffix, schema) as writer:
            writer.write(pa.table(values, schema=schema))
        work.publish_file()
    assert _listed() == [os.fsencode(output)]
    assert output.stat().st_size > 0


@pytest.mark.parametrize("name", NAMES)
def test_texts(name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(_named(name), f"hepllm report {_named(name)}")
    assert _named(name).read_text(encoding="utf-8").startswith("hepllm report ")
    assert _listed() == [name]
