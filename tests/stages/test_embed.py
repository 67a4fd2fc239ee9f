from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest
from click.testing import CliRunner

from hepllm.cartography.filters import filter_events
from hepllm.cli import cli
from hepllm.config import Config, FilterRule, load_config
from hepllm.data.dataset import read_dataset
from hepllm.data.notes import read_notes
from hepllm.errors import InputError
from hepllm.model.inputs import ModelInputs
from hepllm.runs.embedding import PieceEmbedder
from hepllm.runs.predictor import load_predictor
from hepllm.stages.embed import embed_dataset

SMALL = ("clusters.min_size=6", "clusters.min_samples=2", "clusters.subsamples=2")


def settings(run: Path, *overrides: str) -> Config:
    return load_config(run / "config.yaml", [*SMALL, *overrides])


def test_events_of_a_run_get_clusters_and_a_side_table(
    tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    place = tmp_path / "out"
    report = embed_dataset(tiny_run, settings(tiny_run), output=place)
    record = report.record
    assert all(file.stat().st_size for file in report.files)
    assert {file.name for file in report.files} == {file.name for file in place.iterdir()}
    table = read_dataset(tiny_data / "data" / "rnd").load((), "train")
    notes = read_notes(place / "clusters.parquet", "")
    np.testing.assert_array_equal(notes.event_digest, table.event_digest)
    np.testing.assert_array_equal(notes.column("event_id"), table.event_id)
    assert pyarrow.csv.read_csv(place / "clusters.csv").num_rows == len(table)
    cluster, score = notes.column("cluster"), notes.column("score")
    for number, one in enumerate(record.clusters):
        mine = cluster == number
        assert one.n_events == mine.sum() >= 6
        assert one.score == pytest.approx(score[mine].mean())
        assert one.purity == max(one.labels.values()) / one.n_events
        assert one.confidence is None
        assert "m_jj" in one.features
    n_noise = 0 if record.noise is None else record.noise.n_events
    assert n_noise + sum(one.n_events for one in record.clusters) == len(table)
    assert record.embedding == ("read-out state", "mean of the soft tokens")
    vectors = (place / "tensors.tsv").read_text().splitlines()
    assert len(vectors) == len(table)
    assert {len(row.split("\t")) for row in vectors} == {record.n_dimensions}
    assert len((place / "metadata.tsv").read_text().splitlines()) == len(table) + 1
    # train.filter reads the table.
    rule = {"table": str(place / "clusters.parquet"), "column": "is_noise", "above": 0.5}
    rules = [FilterRule.model_validate({"marked": rule})]
    kept = filter_events(table.event_digest, table.label, rules).kept
    np.testing.assert_array_equal(kept, cluster >= 0)


def test_the_scores_are_those_of_the_run(tiny_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    box = tiny_data / "data" / "bb"
    report = embed_dataset(tiny_run, settings(tiny_run), box, tmp_path / "out")
    assert report.record.split is None
    predictor = load_predictor(tiny_run)
    from hepllm.learning.inputs import model_inputs

    inputs = model_inputs(read_dataset(box).load(predictor.names))
    found = read_notes(tmp_path / "out" / "clusters.parquet", "").column("score")
    np.testing.assert_allclose(found, predictor.score(inputs), rtol=1e-5, atol=1e-6)


def test_the_command_writes_to_the_run(tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    command = ["embed", str(run), "--json", "--set", "clusters.events=60"]
    for one in SMALL:
        command += ["--set", one]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    tree = json.loads(done.stdout)["rnd"]
    assert tree["n_events"] == 60 < tree["n_available"]
    assert tree["n_fitted"] == 60
    assert (run / "embed" / "rnd" / "clusters.json").is_file()


def test_other_events_join_the_clusters_of_a_sample(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces that were embedded before a failure are used, and change no byte."""
    few = ("clusters.fitted=60", "evaluation.scoring.piece_size=25", "clusters.min_size=4")
    config = settings(tiny_run, *few, "evaluation.scoring.executor=serial")
    whole = embed_dataset(tiny_run, config, output=tmp_path / "whole")
    assert whole.record.n_fitted == 60 < whole.record.n_events
    assert "the others joined" in whole.text
    assert len((tmp_path / "whole" / "tensors.tsv").read_text().splitlines()) == 60
    embed, pieces = PieceEmbedder.columns, []

    def stopped(embedder: PieceEmbedder, inputs: ModelInputs) -> dict[str, Any]:
        pieces.append(embedder.projection is None)
        if len(pieces) == 5:
            raise KeyboardInterrupt
        return embed(embedder, inputs)

    monkeypatch.setattr(PieceEmbedder, "columns", stopped)
    with pytest.raises(KeyboardInterrupt):
        embed_dataset(tiny_run, config, output=tmp_path / "again")
    assert not (tmp_path / "again").exists()
    embed_dataset(tiny_run, config, output=tmp_path / "again")
    n_pieces = 3 + -(-(whole.record.n_events - 60) // 25)
    assert len(pieces) == n_pieces + 1  # one was stopped
    assert pieces[:3] == [True] * 3
    assert [file.name for file in tmp_path.iterdir() if "partial" in file.name] == []
    for name in ("clusters.parquet", "components.parquet", "tensors.tsv", "metadata.tsv"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_bytes_do_not_depend_on_workers(tiny_run: Path, tmp_path: Path) -> None:
    few = ("clusters.fitted=60", "evaluation.scoring.piece_size=25", "clusters.min_size=4")
    for workers in (1, 2):
        one = settings(tiny_run, *few, f"evaluation.scoring.workers={workers}")
        embed_dataset(tiny_run, one, output=tmp_path / str(workers))
    for file in (tmp_path / "1").iterdir():
        if file.suffix != ".json":  # which tells the date
            assert file.read_bytes() == (tmp_path / "2" / file.name).read_bytes()


def test_umap_is_drawn_where_it_is_installed(tiny_run: Path, tmp_path: Path) -> None:
    config = settings(tiny_run, "clusters.picture=umap")
    if importlib.util.find_spec("umap") is None:
        with pytest.raises(InputError, match=r"install the extra 'hepllm\[umap\]'"):
            embed_dataset(tiny_run, config, output=tmp_path / "out")
        return
    embed_dataset(tiny_run, config, output=tmp_path / "out")
    assert (tmp_path / "out" / "umap.png").stat().st_size


def test_what_cannot_be_done_is_told_before_the_work(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="contains no clusters but other files"):
        embed_dataset(tiny_run, settings(tiny_run), output=tmp_path)
    with pytest.raises(InputError, match=r"too few for clusters of 500"):
        embed_dataset(tiny_run, settings(tiny_run, "clusters.min_size=500"), output=tmp_path / "o")
    assert not (tmp_path / "o").exists()
