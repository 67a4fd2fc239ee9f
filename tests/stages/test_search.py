"""A search in scores of any classifier: what is written, and when labels are read."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

import hepllm
from hepllm.config import Config, load_config
from hepllm.errors import InputError, RunError
from hepllm.physics.readers.parquet import ParquetTable
from hepllm.runs.scored_tables import TableColumns
from hepllm.search.box import BoxEvents
from hepllm.search.records import Submission, Unblinding
from hepllm.stages import search as stage
from hepllm.stages.search import SearchReport, search_arrays, search_tables

pytestmark = pytest.mark.usefixtures("undrawn_figures")
MASS, N_SIGNAL, N_BACKGROUND = 4200.0, 120, 6_000
QUICK = (
    "evaluation.search.efficiencies=[0.02]",
    "evaluation.search.max_toys=1000",
    "evaluation.search.limit_step=0.2",
    "evaluation.search.limit_toys=50",
)
Columns = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(None, QUICK)


@pytest.fixture(scope="module")
def columns() -> Columns:
    """A resonance over falling background, as a classifier of any kind scores them."""
    random = np.random.default_rng(11)
    n_events = N_SIGNAL + N_BACKGROUND
    is_signal = random.permutation(n_events) < N_SIGNAL
    m_jj = np.where(
        is_signal,
        random.normal(MASS, 0.036 * MASS, n_events),
        2600 + random.exponential(600, n_events),
    )
    return {
        "score": random.normal(size=n_events) + 3 * is_signal,
        "m_jj": m_jj,
        "jet_mass_light": np.where(
            is_signal, random.normal(90, 8, n_events), random.lognormal(4, 0.5, n_events)
        ),
        "jet_mass_heavy": np.where(
            is_signal, random.normal(400, 20, n_events), 100 + random.lognormal(5, 0.5, n_events)
        ),
        "label": is_signal.astype(np.int64),
    }


@pytest.fixture(scope="module")
def box(columns: Columns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tables") / "box.parquet"
    pq.write_table(pa.table(columns), file)
    return file


@pytest.fixture(scope="module")
def found(box: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> SearchReport:
    return search_tables([box], TableColumns(), config, tmp_path_factory.mktemp("out") / "a")


def test_a_table_is_searched_and_its_key_stands_beside(found: SearchReport, box: Path) -> None:
    folder = found.files[0].parent
    assert {file.name for file in found.files} == {file.name for file in folder.iterdir()}
    submission = Submission.read(folder / "submission.json", "")
    assert submission.p_value == pytest.approx(1 / 1001)
    mass = submission.resonance_mass_gev
    assert abs(mass.value - MASS) < 4 * max(mass.below, mass.above)
    assert submission.run is submission.features is submission.trained_on is None
    assert submission.scores is not None
    assert submission.scores.files[0].sha256 == sha256(box.read_bytes()).hexdigest()
    assert "truth" not in (folder / "submission.json").read_text()
    unblinding = Unblinding.read(folder / "unblinding.json", "")
    assert unblinding.truth.n_signal_box == N_SIGNAL
    digest = sha256((folder / "submission.json").read_bytes()).hexdigest()
    assert unblinding.submission_sha256 == digest
    assert "column 'score' of box.parquet" in found.text
    assert (folder / "table.txt").read_text() == f"{found.text}\n"
    page = (folder / "search.html").read_text()
    assert "Search for a resonance in box" in page
    assert page.count('src="data:image/png') == 4


def test_labels_are_read_after_the_submission_is_written(
    box: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, reads = tmp_path / "out", []
    read = ParquetTable.read

    def watched(table: ParquetTable, start: int, stop: int, columns: Any = None) -> Any:
        names = table.names if columns is None else [table.names[i] for i in columns]
        if "label" in names:
            reads.append((output / "submission.json").is_file())
        return read(table, start, stop, columns)

    monkeypatch.setattr(ParquetTable, "read", watched)
    known = search_tables([box], TableColumns(), config, output)
    assert reads == [True]
    blind = search_tables([box], TableColumns(label="none"), config, tmp_path / "blind")
    assert reads == [True]
    texts = [(one.files[0].parent / "submission.json").read_bytes() for one in (known, blind)]
    assert texts[0] == texts[1]
    assert blind.unblinding is None
    assert not (tmp_path / "blind" / "unblinding.json").exists()


def test_arrays_give_what_their_table_gives(
    found: SearchReport, columns: Columns, config: Config
) -> None:
    names = ("score", "m_jj", "jet_mass_light", "jet_mass_heavy")
    events = BoxEvents(*(columns[name] for name in names))
    made = search_arrays("box", events, config, read_labels=lambda: columns["label"])
    theirs, ours = (json.loads(one.submission.text()) for one in (found, made))
    for tree in (theirs, ours):
        del tree["blackbox"], tree["scores"]
    assert theirs == ours
    assert made.unblinding is not None
    assert found.unblinding is not None
    assert made.unblinding.truth == found.unblinding.truth
    assert made.files == ()


def test_arrays_are_searched_in_python(found: SearchReport, columns: Columns) -> None:
    is_signal, submitted = columns["label"] == 1, []
    made = hepllm.find_resonance(
        columns["score"].tolist(),
        columns["m_jj"],
        *QUICK,
        jet_masses=(columns["jet_mass_heavy"], columns["jet_mass_light"]),
        signal=(columns["score"][is_signal], columns["m_jj"][is_signal]),
        label=lambda: submitted.append(1) or is_signal,
    )
    assert submitted == [1]
    assert made.submission.p_value == found.submission.p_value
    assert made.submission.jet_masses_gev == found.submission.jet_masses_gev
    assert made.submission.n_signal_box is not None
    assert made.unblinding is not None
    assert made.unblinding.truth.n_signal_box == N_SIGNAL
    with pytest.raises(InputError, match=r"mass: expected shape \(3,\), found \(2,\)"):
        hepllm.find_resonance([1, 2, 3], [3000, 3100])
    with pytest.raises(InputError, match="score: expected numbers"):
        hepllm.find_resonance(["high"], [3000])


def test_another_mass_is_searched_without_jet_masses(
    columns: Columns, config: Config, tmp_path: Path
) -> None:
    file = tmp_path / "trijets.csv"
    pacsv.write_csv(pa.table({"score": columns["score"], "m_jjj": columns["m_jj"] / 1000}), file)
    asked = TableColumns(mass="m_jjj", energy_unit="TeV")
    made = search_tables([file], asked, config, tmp_path / "out")
    assert made.submission.mass == "m_jjj"
    assert made.submission.config.mass == "m_jjj"
    assert made.submission.jet_masses_gev.light is None
    text = " ".join(made.text.split())
    assert "2600 < m_jjj < 8000 GeV" in text
    assert "light jet mass [GeV] not given" in text
    assert not (tmp_path / "out" / "search_jets.png").exists()
    assert made.unblinding is None


def test_signal_gives_the_events_in_the_box(
    columns: Columns, box: Path, config: Config, tmp_path: Path
) -> None:
    is_signal = columns["label"] == 1
    signal = tmp_path / "signal.parquet"
    pq.write_table(pa.table({name: v[is_signal] for name, v in columns.items()}), signal)
    made = search_tables([box], TableColumns(), config, tmp_path / "out", signal=[signal])
    efficiency, number = made.submission.signal_efficiency, made.submission.n_signal_box
    assert efficiency is not None
    assert number is not None
    passes = columns["score"] > made.submission.selections[0].score_threshold
    inside = (columns["m_jj"] >= 2600) & (columns["m_jj"] < 8000)
    assert efficiency.value == pytest.approx((passes & inside)[is_signal].mean())
    assert abs(number.value - N_SIGNAL) < 4 * max(number.below, number.above)
    assert "the signal in signal.parquet" in efficiency.of


def test_a_search_is_not_replaced_unasked_and_leaves_nothing_half(
    box: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    search_tables([box], TableColumns(), config, output)
    with pytest.raises(InputError, match="give --overwrite to replace"):
        search_tables([box], TableColumns(), config, output)
    before = {file.name: file.read_bytes() for file in output.iterdir()}

    def fails(*_: Any, **__: Any) -> None:
        raise RunError("the background fit does not converge")

    with monkeypatch.context() as patch:
        patch.setattr("hepllm.runs.box_search.search_box", fails)
        with pytest.raises(RunError, match="box: the background fit"):
            search_tables([box], TableColumns(), config, output, overwrite=True)
        with pytest.raises(RunError):
            search_tables([box], TableColumns(), config, tmp_path / "new")
    assert {file.name: file.read_bytes() for file in output.iterdir()} == before
    assert not (tmp_path / "new").exists()
    blind = TableColumns(label="none")
    search_tables([box], blind, config, output, overwrite=True)
    assert not (output / "unblinding.json").exists()  # that of the former search


def test_few_events_are_told_with_the_name_of_the_box(
    columns: Columns, config: Config, tmp_path: Path
) -> None:
    file = tmp_path / "few.parquet"
    pq.write_table(pa.table({name: values[:50] for name, values in columns.items()}), file)
    with pytest.raises(InputError, match=r"^few: a search needs 1000 events"):
        search_tables([file], TableColumns(), config, tmp_path / "out")


def test_unknown_labels_give_no_truth(columns: Columns, config: Config, tmp_path: Path) -> None:
    file = tmp_path / "box.parquet"
    pq.write_table(pa.table({**columns, "label": np.full(len(columns["label"]), -1)}), file)
    assert search_tables([file], TableColumns(), config, tmp_path / "out").unblinding is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["a.csv.gz"], "a"), (["b.v2.parquet"], "b.v2"), (["c", "d.npy"], "c+1")],
)
def test_boxes_have_the_names_of_their_files(names: list[str], expected: str) -> None:
    assert stage.box_name([Path(name) for name in names]) == expected
