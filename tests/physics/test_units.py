"""Other units are suspected, and the setting that is named for them mends them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hepllm.config import PreprocessConfig
from hepllm.errors import InputError
from hepllm.physics.chunks import Chunk, process_chunk
from hepllm.physics.events import Particles, TabulatedEvents
from hepllm.physics.readers import open_event_file
from hepllm.physics.units import suspect_units


def _table(energy: float = 1.0, angle: float = 1.0) -> TabulatedEvents:
    random = np.random.default_rng(2)
    values = {
        "jet1_pt": energy * random.uniform(300, 900, 40),
        "jet1_mass": energy * random.uniform(40, 300, 40),
        "jet1_phi": angle * random.uniform(-np.pi, np.pi, 40),
    }
    return TabulatedEvents(values, np.zeros(40, dtype=np.uint64))


def _particles(energy: float = 1.0, angle: float = 1.0) -> Particles:
    random = np.random.default_rng(2)
    pt, phi = random.exponential(20, 400), random.uniform(-np.pi, np.pi, 400)
    return Particles(energy * pt, random.normal(0, 1, 400), angle * phi, np.full(8, 50))


@pytest.mark.parametrize("make", [_table, _particles])
def test_units_are_suspected_by_the_setting_that_mends_them(make: type) -> None:
    assert suspect_units(make()) == []
    assert suspect_units(make(), "MeV", "rad") == []  # what was read is in GeV by then
    for content, setting in (
        (make(1e3), "preprocess.energy_unit=MeV"),
        (make(1e-3), "preprocess.energy_unit=TeV"),
        (make(angle=180 / np.pi), "preprocess.angle_unit=deg"),
    ):
        (doubt,) = suspect_units(content)
        assert f"--set {setting}" in str(doubt)
    (doubt,) = suspect_units(make(angle=np.pi / 180), angle="deg")
    assert "--set preprocess.angle_unit=rad" in doubt.remedy


def test_one_column_in_another_unit_is_named() -> None:
    table = _table()
    values = {**table.values, "m_jj": np.full(40, 3.5), "jet_mass_light": np.full(40, 120.0)}
    (doubt,) = suspect_units(TabulatedEvents(values, table.content))
    assert "median of m_jj (3.5 GeV)" in doubt.what
    assert "preprocess.columns" in doubt.remedy


_RAW_JETS = {"r_ptnan.root": "1 jet with NaN", "r_pt1e9.root": "1 jet with pT > 100000 GeV"}


@pytest.mark.parametrize("name", _RAW_JETS)
def test_jets_that_cannot_be_are_refused(reference_data: Path, name: str) -> None:
    config = PreprocessConfig()
    file = open_event_file(reference_data / "cases" / "root_jets_unchecked" / name, config)
    with pytest.raises(InputError, match=f"rows 0-5: {_RAW_JETS[name]}, first in row 0"):
        process_chunk(Chunk(file, 0, file.n_events), config)
    skipping = PreprocessConfig(on_bad_event="skip")
    result = process_chunk(Chunk(file, 0, file.n_events), skipping)
    assert [events for _, events in result.cut_flow] == [6, 5]


@pytest.mark.parametrize(
    ("name", "good"),
    [("root_jets_unchecked/r_deg.root", "r_ok.root"), ("table_sentinels/f_deg.csv", "f_rad.csv")],
)
def test_degrees_are_refused_until_they_are_stated(
    reference_data: Path, name: str, good: str
) -> None:
    path = reference_data / "cases" / name
    file = open_event_file(path)
    with pytest.raises(InputError, match=r"as in degrees: give --set preprocess\.angle_unit=deg"):
        process_chunk(Chunk(file, 0, file.n_events), PreprocessConfig())
    degrees = PreprocessConfig(angle_unit="deg")
    expected = open_event_file(path.with_name(good))
    found, wanted = (
        process_chunk(Chunk(one, 0, one.n_events), config).features
        for one, config in (
            (open_event_file(path, degrees), degrees),
            (expected, PreprocessConfig()),
        )
    )
    for feature, values in found.items():
        np.testing.assert_allclose(values, wanted[feature], rtol=1e-5, atol=1e-5)


def test_sentinels_of_files_are_null(reference_data: Path) -> None:
    def features(name: str) -> dict[str, float]:
        file = open_event_file(reference_data / "cases" / name)
        content = process_chunk(Chunk(file, 0, file.n_events), PreprocessConfig()).features
        return {feature: float(values[0]) for feature, values in content.items()}

    mass = features("root_jets_unchecked/r_mass999.root")
    assert mass["jet1_pt"] == pytest.approx(760.9, abs=0.1)
    assert np.isnan([mass["jet1_mass"], mass["m_jj"], mass["jet_mass_light"]]).all()
    assert np.isnan(features("table_sentinels/c_m999.csv")["jet_mass_light"])
    two, one = features("table_sentinels/f_zeropad.csv"), features("table_sentinels/f_999.csv")
    assert np.isnan([two["jet3_pt"], two["m_jjj"]]).all()
    assert two["m_jj"] == pytest.approx(1960.08, abs=0.01)
    assert np.isnan([one[n] for n in ("jet2_eta", "jet2_mass", "jet_mass_light", "m_jj")]).all()
