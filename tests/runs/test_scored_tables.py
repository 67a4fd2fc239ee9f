"""Tables of other people's scores as a box: columns, units, selections, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from hepllm.errors import InputError
from hepllm.runs.scored_tables import TableBox, TableColumns, read_box, read_signal

RANGE = (2600.0, 8000.0)
N = 400
Columns = dict[str, np.ndarray]


@pytest.fixture
def columns() -> Columns:
    random = np.random.default_rng(4)
    return {
        "score": random.normal(size=N),
        "m_jj": 2500 + random.exponential(600, N),
        "jet_mass_light": random.uniform(20, 200, N),
        "jet_mass_heavy": random.uniform(200, 500, N),
        "label": random.integers(0, 2, N).astype(float),
    }


def _write(path: Path, columns: Columns) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def _read(path: Path, **asked: object) -> TableBox:
    return read_box([path], TableColumns(**asked), RANGE)


def test_usual_columns_need_no_names(columns: Columns, tmp_path: Path) -> None:
    found = _read(_write(tmp_path / "a.parquet", columns))
    for name, values in (
        ("score", found.events.score),
        ("m_jj", found.events.m_jj),
        ("jet_mass_light", found.events.jet_mass_light),
        ("jet_mass_heavy", found.events.jet_mass_heavy),
    ):
        np.testing.assert_array_equal(values, columns[name])
    np.testing.assert_array_equal(found.read_labels(), columns["label"])
    origin = found.box("a", None).origin
    assert origin["run"] is None
    assert origin["scores"].jet_masses == ["jet_mass_light", "jet_mass_heavy"]
    assert origin["blackbox"].digest == origin["scores"].files[0].sha256


def test_units_positions_and_the_order_of_jets(columns: Columns, tmp_path: Path) -> None:
    """Masses in TeV of jets in any order, in a file whose columns are given by position."""
    names = ("score", "m_jj", "jet_mass_heavy", "jet_mass_light")
    array = np.stack([columns[name] for name in names], axis=1)
    array[:, 1:] /= 1000
    np.save(tmp_path / "a.npy", array)
    found = _read(
        tmp_path / "a.npy", score=0, mass="1", jets=(2, 3), energy_unit="TeV", label="none"
    )
    np.testing.assert_allclose(found.events.m_jj, columns["m_jj"])
    np.testing.assert_allclose(found.events.jet_mass_light, columns["jet_mass_light"])
    np.testing.assert_allclose(found.events.jet_mass_heavy, columns["jet_mass_heavy"])
    assert found.read_labels() is None
    assert found.mass == "column 1"
    named = _read(
        tmp_path / "a.npy", names=("s", "m", "a", "b"), score="s", mass="m", energy_unit="TeV",
        select="a < 0.3",
    )  # fmt: skip
    kept = columns["jet_mass_heavy"] < 300  # the selection is in the units of the file
    np.testing.assert_allclose(named.events.m_jj, columns["m_jj"][kept])
    assert np.isnan(named.events.jet_mass_light).all()


def test_several_files_are_one_box(columns: Columns, tmp_path: Path) -> None:
    halves = [
        _write(tmp_path / f"{place}.parquet", {name: v[place::2] for name, v in columns.items()})
        for place in (0, 1)
    ]
    found = read_box(halves, TableColumns(select="jet_mass_light < 100"), RANGE)
    kept = columns["jet_mass_light"] < 100
    expected = np.concatenate([columns["score"][place::2][kept[place::2]] for place in (0, 1)])
    np.testing.assert_array_equal(found.events.score, expected)
    labels = found.read_labels()
    expected = np.concatenate([columns["label"][place::2][kept[place::2]] for place in (0, 1)])
    np.testing.assert_array_equal(labels, expected)
    key = tmp_path / "key"
    key.write_text("".join(f"{one}\n" for place in (0, 1) for one in columns["label"][place::2]))
    np.testing.assert_array_equal(found.read_labels(key), expected)
    with pytest.raises(InputError, match="given twice"):
        read_box([halves[0], halves[0]], TableColumns(), RANGE)


def test_labels_are_not_read_with_the_scores(
    columns: Columns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.csv"
    table = pa.table({**columns, "label": np.full(N, "secret")})
    pacsv.write_csv(table, file)
    found = _read(file)
    with pytest.raises(InputError, match="invalid value 'secret'"):
        found.read_labels()


def test_unknown_labels_are_unknown(columns: Columns, tmp_path: Path) -> None:
    columns["label"][:3] = -1, np.nan, 2
    labels = _read(_write(tmp_path / "a.parquet", columns)).read_labels()
    assert labels is not None
    np.testing.assert_array_equal(labels[:3], [-1, -1, 1])


def test_signal_is_taken_with_its_weights(columns: Columns, tmp_path: Path) -> None:
    columns["weight"] = np.linspace(0.5, 1.5, N)
    file = _write(tmp_path / "a.parquet", columns)
    found = read_signal([file], TableColumns())
    is_signal = columns["label"] == 1
    np.testing.assert_array_equal(found.score, columns["score"][is_signal])
    np.testing.assert_array_equal(found.weight, columns["weight"][is_signal])
    assert "a.parquet" in found.description
    whole = read_signal([file], TableColumns(label="none", weight="none"))
    assert len(whole.score) == N
    assert set(whole.weight) == {1.0}


@pytest.mark.parametrize(
    ("changes", "asked", "message"),
    [
        ({}, {"score": "scores"}, "no column 'scores' for 'score' (did you mean 'score'?)"),
        ({}, {"mass": "m_jjj"}, "(did you mean 'm_jj'?)"),
        ({}, {"mass": "m_jjj"}, "name it with --mass"),
        ({}, {"label": "truth"}, "no column 'truth' for 'label'"),
        ({"score": np.full(N, np.inf)}, {}, "400 of 400 values of 'score' are not finite"),
        ({"weight": np.arange(N) + 1.0}, {}, "weights in 'weight' from 1 to 400"),
        ({}, {"energy_unit": "MeV"}, "give --energy-unit GeV"),
        ({"m_jj": np.full(N, 3.5)}, {}, "is from 3.5 to 3.5 GeV; give --energy-unit TeV"),
        ({"m_jj": np.full(N, np.nan)}, {}, "no event has a finite 'm_jj'"),
        ({"m_jj": np.full(N, 9e3)}, {}, "give another --mass or --mass-range"),
        ({}, {"select": "score > 1e9"}, "no event passes the selection 'score > 1e9'"),
        ({}, {"select": "m_jj > 3000"}, "cuts on m_jj, of which a search needs the whole"),
        ({}, {"select": "scor > 1"}, "unknown column 'scor' (did you mean 'score'?)"),
    ],
)
def test_tables_that_cannot_be_used_say_why(
    changes: Columns, asked: dict[str, str], message: str, columns: Columns, tmp_path: Path
) -> None:
    file = _write(tmp_path / "a.parquet", {**columns, **changes})
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        _read(file, **asked)
    assert "\n" not in str(caught.value)


def test_bad_scores_can_be_left_out(columns: Columns, tmp_path: Path) -> None:
    columns["score"][[5, 9]] = np.nan, np.inf
    file = _write(tmp_path / "a.parquet", columns)
    with pytest.raises(InputError, match="the first is nan in row 5") as caught:
        _read(file)
    advice = str(caught.value).partition("--select '")[2].rstrip("'")
    assert len(_read(file, select=advice).events.score) == N - 2


def test_equal_weights_are_no_weights(columns: Columns, tmp_path: Path) -> None:
    file = _write(tmp_path / "a.parquet", {**columns, "weight": np.full(N, 0.3)})
    assert len(_read(file).events.score) == N
