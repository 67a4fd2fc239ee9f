"""Feature tables: the same features from each kind of file, in GeV, whatever the columns' names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from numpy.typing import NDArray

from hepllm.config import PreprocessConfig
from hepllm.errors import InputError
from hepllm.physics.derivation import derive_features
from hepllm.physics.events import TabulatedEvents
from hepllm.physics.readers import open_event_file

Rows = NDArray[np.float64]

OFFICIAL = (
    "pxj1 pyj1 pzj1 mj1 tau1j1 tau2j1 tau3j1 pxj2 pyj2 pzj2 mj2 tau1j2 tau2j2 tau3j2 label".split()  # noqa: SIM905
)

CATHODE: dict[str, Any] = {
    "m_jj": 0,
    "jet_mass_light": 1,
    "jet_mass_delta": 2,
    "tau21_light": 3,
    "tau21_heavy": 4,
}


@pytest.fixture(scope="module")
def official() -> Rows:
    """Rows of the official feature files; tau as there is not normalised."""
    random = np.random.default_rng(4)
    pt, phi = random.uniform(1300, 2000, 20), random.uniform(-3, 3, 20)
    other = pt - random.uniform(0, 300, 20)
    taus = np.sort(random.uniform(1, 60, (20, 2, 3)), axis=2)[:, :, ::-1]
    columns = [
        *(pt * np.cos(phi), pt * np.sin(phi), random.normal(0, 500, 20)),
        *(random.uniform(50, 600, 20), *taus[:, 0].T),
        *(-other * np.cos(phi), -other * np.sin(phi), random.normal(0, 500, 20)),
        *(random.uniform(50, 600, 20), *taus[:, 1].T),
        *(random.integers(0, 2, 20),),
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _write(kind: str, rows: Rows, path: Path) -> Path:
    columns = dict(zip(OFFICIAL, rows.T, strict=True))
    if kind == "csv":
        lines = [",".join(OFFICIAL), *(",".join(map(repr, row)) for row in rows.tolist())]
        path.write_text("\n".join(lines))
    elif kind == "parquet":
        pq.write_table(pa.table(columns), path)
    elif kind == "root":
        with uproot.recreate(path) as file:
            file.mktree("t", dict.fromkeys(columns, "float64")).extend(columns)
    else:
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        pytest.importorskip("tables", reason="PyTables is not installed")
        frame = pandas.DataFrame(rows, columns=OFFICIAL)
        frame["label"] = frame["label"].astype(np.int64)
        frame.to_hdf(path, key="df", format=kind)
    return path


def _derived(path: Path, **settings: Any) -> dict[str, NDArray[np.float64]]:
    file = open_event_file(path, PreprocessConfig(**settings))
    content = file.read(0, file.n_events).content
    assert isinstance(content, TabulatedEvents)
    return derive_features(content)


@pytest.mark.parametrize("kind", ["fixed", "table", "csv", "parquet", "root"])
def test_official_features(kind: str, official: Rows, tmp_path: Path) -> None:
    path = _write(kind, official, tmp_path / "events_anomalydetection_v2.features")
    config = PreprocessConfig(format="features") if kind == "root" else PreprocessConfig()
    file = open_event_file(path, config)
    assert (file.n_events, file.has_labels) == (20, True)
    batch = file.read(5, 15)
    np.testing.assert_array_equal(batch.label_raw, official[5:15, -1])
    np.testing.assert_array_equal(batch.weight, 1)
    np.testing.assert_array_equal(batch.event_id, np.arange(5, 15))
    assert isinstance(batch.content, TabulatedEvents)
    values = derive_features(batch.content)
    px, py, pz, mass = official[5:15, 0:4].T
    np.testing.assert_allclose(values["jet1_pt"], np.hypot(px, py))
    np.testing.assert_allclose(values["jet1_energy"], np.sqrt(px**2 + py**2 + pz**2 + mass**2))
    np.testing.assert_array_equal(values["jet1_mass"], mass)
    np.testing.assert_allclose(values["jet2_tau21"], official[5:15, 12] / official[5:15, 11])
    assert np.isnan(values["jet1_tau1"]).all()  # the file's is not normalised


def test_one_digest_for_an_event_in_any_file(official: Rows, tmp_path: Path) -> None:
    digests = []
    for kind in ("fixed", "table", "csv", "parquet", "root"):
        path = _write(kind, official, tmp_path / kind)
        file = open_event_file(path, PreprocessConfig(format="features"))
        digests.append(file.read(0, 20).content.digests())
    assert all(np.array_equal(digests[0], other) for other in digests)
    assert len(np.unique(digests[0])) == 20


def test_cathode_is_in_tev_and_has_no_names(tmp_path: Path) -> None:
    rows = np.array([[3.5, 0.1, 0.4, 0.5, 0.2, 1.0], [3.4, -2e-8, 0.0, np.nan, 0.3, 0.0]])
    np.save(tmp_path / "a.npy", rows)
    settings = {"columns": CATHODE, "label": 5, "energy_unit": "TeV"}
    columns = _derived(tmp_path / "a.npy", **settings)
    np.testing.assert_allclose(columns["m_jj"], [3500, 3400])
    np.testing.assert_allclose(columns["jet_mass_light"], [100, 0])
    np.testing.assert_allclose(columns["jet_mass_delta"], [400, 0])
    np.testing.assert_array_equal(columns["tau21_light"], [0.5, np.nan])
    filled = {name for name, values in columns.items() if not np.isnan(values).all()}
    assert filled == set(CATHODE)
    batch = open_event_file(tmp_path / "a.npy", PreprocessConfig(**settings)).read(0, 2)
    assert batch.label_raw.tolist() == [1, 0]


def test_the_real_cathode_features(reference_data: Path) -> None:
    path = reference_data / "cathode" / "innerdata_val.npy"
    columns = _derived(path, columns=CATHODE, label="-1", energy_unit="TeV")
    assert ((columns["m_jj"] > 3300) & (columns["m_jj"] < 3700)).all()
    labels = open_event_file(path, PreprocessConfig(columns=CATHODE, label=5)).read(0, 60_000)
    signal = labels.label_raw == 1
    assert signal.sum() == 369
    # Z' -> X(500 GeV) Y(100 GeV)
    assert np.median(columns["jet_mass_light"][signal]) == pytest.approx(100, rel=0.1)
    assert np.median(columns["jet_mass_delta"][signal]) == pytest.approx(400, rel=0.1)


def test_a_scale_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("mass [MeV],t\n90000,0.4\n")
    columns = {
        "jet1_mass": {"column": "mass [MeV]", "scale": 0.001},
        "jet1_tau21": {"column": "t", "scale": 2},
    }
    found = _derived(tmp_path / "a.csv", columns=columns)
    assert found["jet1_mass"][0] == pytest.approx(90)
    assert found["jet1_tau21"][0] == pytest.approx(0.8)


def test_own_names_weights_and_no_label(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("m_jj,weight,other\n3000,-0.5,7\n3100,2,8\n")
    file = open_event_file(path)
    batch = file.read(0, 2)
    assert not file.has_labels
    assert np.isnan(batch.label_raw).all()
    assert batch.weight.tolist() == [-0.5, 2]
    unweighted = open_event_file(path, PreprocessConfig(weight="none", label="other")).read(0, 2)
    assert unweighted.weight.tolist() == [1, 1]
    assert unweighted.label_raw.tolist() == [7, 8]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"none of its 3 columns is known \(its columns are m, n, label\)"),
        ({"columns": {"m_jj": "mm"}}, r"no column 'mm' for 'm_jj' \(did you mean 'm'\?\)"),
        ({"columns": {"m_jj": 3}}, "no column 3 for 'm_jj': there are 3"),
        (
            {"columns": {"m_jj": "m"}, "label": "labels"},
            r"no column 'labels' for 'label' \(did you mean 'label'\?\)",
        ),
        ({"columns": {"m_jj": "m"}, "weight": "w"}, "no column 'w' for 'weight'; there are m, n"),
    ],
)
def test_wrong_column_maps(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("m,n,label\n1,2,0\n")
    with pytest.raises(InputError, match=message) as caught:
        open_event_file(path, PreprocessConfig(**settings))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_lhco_files_beside_feature_tables_keep_their_format(
    dijet_events: Callable[..., Rows], write_lhco: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_lhco(tmp_path / "a.h5", dijet_events(3))
    config = PreprocessConfig(columns={"m_jj": 0})
    assert len(open_event_file(path, config).read(0, 3).particles) == 3
