"""``hepllm simulate`` as its users see it: files, keys, sameness and failures."""

from __future__ import annotations

import json
import logging
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hepllm.config import Config, GridConfig, JetsConfig, load_config, override_config
from hepllm.config.physics import LIGHTEST_OF
from hepllm.data.signal_points import points_beside, read_points
from hepllm.errors import ConfigError, InputError, RunError
from hepllm.hypotheses.signal import DECAYS
from hepllm.physics.features import compute_features
from hepllm.physics.readers import open_event_file
from hepllm.physics.readers.masterkey import read_masterkey
from hepllm.physics.signal_grid import grid_signals
from hepllm.schema import SIGNAL
from hepllm.stages import simulate as stage
from hepllm.stages.preprocess import preprocess
from hepllm.stages.simulate import simulate

SMALL = [
    "simulate.rnd=14",
    "simulate.blackbox=11",
    "simulate.signal_fraction=0.4",
    "simulate.blackbox_signal_fraction=0.3",
    "simulate.block_size=5",
    "simulate.executor=serial",
]


def small(*overrides: str) -> Config:
    return override_config(Config(), [*SMALL, *overrides])


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "new" / "raw"
    simulate(small(), folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """The files that hold events."""
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name != "simulate.yaml"
    }


def test_files_are_complete_and_nothing_else_is_there(simulated: Path) -> None:
    names = {path.name for path in simulated.iterdir()}
    events = {"rnd.h5", "blackbox.h5", "blackbox.masterkey"}
    assert names == events | {"rnd.points.json", "blackbox.points.json", "simulate.yaml"}
    rnd, blackbox = (open_event_file(simulated / name) for name in ("rnd.h5", "blackbox.h5"))
    assert (rnd.n_events, rnd.has_labels) == (14, True)
    assert (blackbox.n_events, blackbox.has_labels) == (11, False)
    labels = rnd.read(0, 14).label_raw
    assert labels.sum() == round(14 * 0.4)
    key = (simulated / "blackbox.masterkey").read_text().splitlines()
    assert set(key) == {"0.0", "1.0"}
    assert read_masterkey(simulated / "blackbox.masterkey", 11).sum() == round(11 * 0.3)
    assert load_config(simulated / "simulate.yaml") == small()


def test_no_event_occurs_twice_in_all_files(simulated: Path) -> None:
    digests = np.concatenate(
        [
            open_event_file(simulated / name).read(0, n).particles.digests()
            for name, n in (("rnd.h5", 14), ("blackbox.h5", 11))
        ]
    )
    assert len(np.unique(digests)) == 25


@pytest.mark.parametrize(
    "overrides",
    [
        ("simulate.executor=processes", "simulate.workers=1"),
        ("simulate.executor=processes", "simulate.workers=2"),
    ],
)
def test_files_do_not_depend_on_the_workers(
    simulated: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    simulate(small(*overrides), tmp_path)
    assert contents(tmp_path) == contents(simulated)


def test_files_do_not_depend_on_dask(simulated: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    simulate(small("simulate.executor=dask", "simulate.workers=2"), tmp_path)
    assert contents(tmp_path) == contents(simulated)


def test_another_seed_makes_other_events(simulated: Path, tmp_path: Path) -> None:
    simulate(small("seed=2", "simulate.blackbox=0"), tmp_path)
    ours, theirs = (
        open_event_file(folder / "rnd.h5").read(0, 14).particles.digests()
        for folder in (tmp_path, simulated)
    )
    assert not set(ours) & set(theirs)


def test_the_key_marks_the_resonance(tmp_path: Path) -> None:
    overrides = ["simulate.rnd=0", "simulate.blackbox=60", "simulate.blackbox_signal_fraction=0.5"]
    (record,) = simulate(small(*overrides, "simulate.block_size=60"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "blackbox.h5",
        "blackbox.masterkey",
        "blackbox.points.json",
        "simulate.yaml",
    }
    assert (record.path, record.n_events, record.n_signal) == (tmp_path / "blackbox.h5", 60, 30)
    assert 0.5 < (record.signal_efficiency or 0) <= 1
    assert 0.1 < (record.background_efficiency or 0) < 0.5
    key = read_masterkey(tmp_path / "blackbox.masterkey", 60) == 1
    particles = open_event_file(tmp_path / "blackbox.h5").read(0, 60).particles
    m_jj = compute_features(particles, JetsConfig())["m_jj"]
    at_resonance = np.abs(m_jj - 3500) < 300
    assert at_resonance[key].mean() > 0.75
    assert at_resonance[~key].mean() < 0.5


def test_records_without_signal_have_no_efficiency_for_it(tmp_path: Path) -> None:
    overrides = ["simulate.rnd=3", "simulate.signal_fraction=0", "simulate.blackbox=0"]
    (record,) = simulate(small(*overrides), tmp_path)
    assert not points_beside(tmp_path / "rnd.h5").exists()
    assert record.signal_efficiency is None
    assert record.n_signal == 0
    assert record.seconds > 0


def test_files_are_not_replaced_unless_asked(simulated: Path) -> None:
    before = contents(simulated)
    with pytest.raises(InputError, match=r"rnd\.h5.*--overwrite"):
        simulate(small("seed=5"), simulated)
    assert contents(simulated) == before


def test_overwrite_replaces_them(tmp_path: Path) -> None:
    config = small("simulate.rnd=2", "simulate.blackbox=0")
    (tmp_path / "rnd.h5").write_text("old")
    simulate(config, tmp_path, overwrite=True)
    assert open_event_file(tmp_path / "rnd.h5").n_events == 2


def test_nothing_wanted_is_a_wrong_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="all 0"):
        simulate(small("simulate.rnd=0", "simulate.blackbox=0"), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("error", [RunError("the generator failed"), KeyboardInterrupt()])
def test_a_failure_in_the_second_file_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    original = stage.simulate_block

    def fail_late(block: Any, config: Any) -> Any:
        if block.purpose == "blackbox" and block.index == 1:
            raise error
        return original(block, config)

    monkeypatch.setattr(stage, "simulate_block", fail_late)
    with pytest.raises(type(error)):
        simulate(small(), tmp_path / "a" / "raw")
    assert not (tmp_path / "a" / "raw").exists()


def test_an_output_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written to"):
        simulate(small(), tmp_path / "file" / "raw")


def test_a_generator_cut_too_near_the_trigger_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = small("simulate.rnd=1", "simulate.blackbox=0", "simulate.pt_hat_min=1100")
    with caplog.at_level(logging.WARNING, logger="hepllm"):
        simulate(config, tmp_path)
    assert "set it to 900 GeV or less" in caplog.text


GRID = [
    "simulate.rnd=0",
    "simulate.blackbox=0",
    "simulate.grid.events=5",
    "simulate.grid.m_zprime=[4000, 3000]",
    "simulate.grid.m_jets=[700, 400, 100]",
    "simulate.block_size=4",
    "simulate.executor=serial",
]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    simulate(override_config(Config(), GRID), folder)
    return folder / "grid.h5"


def test_a_grid_has_each_combination_with_its_masses_beside(grid: Path) -> None:
    file = open_event_file(grid)
    points = read_points(points_beside(grid), file.n_events)
    # 700 GeV is more than 0.19 of 3000 GeV, and of 4000 GeV less.
    light = [(100.0, 100.0), (400.0, 100.0), (400.0, 400.0)]
    heavy = [(700.0, 100.0), (700.0, 400.0), (700.0, 700.0)]
    expected = {(3000.0, *pair) for pair in light} | {(4000.0, *pair) for pair in light + heavy}
    assert {point.masses for point in points} == expected
    assert all(point.events == 5 <= point.generated for point in points)
    batch = file.read(0, file.n_events)
    assert batch.label_raw.tolist() == [1] * file.n_events
    assert len(np.unique(batch.particles.digests())) == file.n_events


def test_a_dataset_of_a_grid_knows_the_masses_of_each_event(grid: Path, tmp_path: Path) -> None:
    config = override_config(Config(), ["preprocess.executor=serial", "preprocess.chunk_size=7"])
    made = preprocess([grid], tmp_path / "grid", config)[0].dataset
    assert made.has_signal_points
    table = made.load(("m_jj", "jet_mass_light", "jet_mass_delta"))
    masses = made.true_masses(table)
    assert masses.shape == (45, 3)
    assert (np.abs(table.column("m_jj") / masses[:, 0] - 1) < 0.2).mean() > 0.7
    heavy = table.column("jet_mass_light") + table.column("jet_mass_delta")
    medians = [np.median(heavy[masses[:, 1] == m_x]) for m_x in (100, 400, 700)]
    assert medians == sorted(medians)
    backwards = table.take(np.arange(len(table))[::-1])
    np.testing.assert_array_equal(made.true_masses(backwards), masses[::-1])


def test_points_of_another_file_are_refused(grid: Path, tmp_path: Path) -> None:
    shutil.copy(grid, tmp_path / "grid.h5")
    tree = json.loads(points_beside(grid).read_text())
    for change, message in (
        (tree["points"][:-1], "points for 40 events, but the event file has 45"),
        (tree["points"][1:], "begins at row 5 with 5 events, expected row 0"),
    ):
        text = json.dumps({"schema_version": 1, "points": change})
        (tmp_path / "grid.points.json").write_text(text)
        with pytest.raises(InputError, match=message):
            preprocess([tmp_path / "grid.h5"], tmp_path / "made", Config())


def test_a_dataset_without_points_knows_no_masses(tiny_rnd: Path, tmp_path: Path) -> None:
    config = override_config(Config(), ["preprocess.executor=serial"])
    made = preprocess([tiny_rnd], tmp_path / "rnd", config)[0].dataset
    assert not made.has_signal_points
    table = made.load(("m_jj",))
    assert np.isnan(made.true_masses(table)).all()
    assert not np.not_equal(made.true_signals(table), None).any()


SERIAL = override_config(Config(), ["preprocess.executor=serial"])


def test_signal_of_one_kind_is_known_and_background_has_none(
    simulated: Path, tmp_path: Path
) -> None:
    for name in ("rnd", "blackbox"):
        made = preprocess([simulated / f"{name}.h5"], tmp_path / name, SERIAL)[0].dataset
        table = made.load(("m_jj",))
        is_signal = table.label == SIGNAL
        assert 0 < is_signal.sum() < len(table)
        truth = Config().simulate.signal.truth
        assert [one == truth for one in made.true_signals(table)] == is_signal.tolist()
        np.testing.assert_array_equal(np.isnan(made.true_masses(table)[:, 0]), ~is_signal)


def test_without_labels_no_signal_is_known(simulated: Path, tmp_path: Path) -> None:
    file = simulated / "blackbox.h5"
    made = preprocess([file], tmp_path / "box", SERIAL, masterkey="none")[0].dataset
    assert not made.has_signal_points
    opened = preprocess([file], tmp_path / "open", SERIAL)[0].dataset
    table = opened.load(("m_jj",), labels=False)
    assert not np.not_equal(opened.true_signals(table), None).any()


TOPOLOGIES = [
    "simulate.grid.random_points=4",
    "simulate.grid.m_zprime=[4000, 5000]",
    "simulate.grid.m_jets=[200, 700]",
    "simulate.grid.decays=[q, qq, bb, qqq, tt]",
    "simulate.grid.widths=[0.001, 0.02]",
]


def test_training_events_of_a_grid_know_their_signals_with_those_of_a_second_file(
    tmp_path: Path,
) -> None:
    overrides = ["simulate.rnd=22", "simulate.blackbox=0", "simulate.rnd_signals=grid"]
    config = small(*overrides, "simulate.grid.events=2", *TOPOLOGIES)
    simulate(config, tmp_path)
    signals = grid_signals(config.simulate.grid, config.seed)
    points = read_points(tmp_path / "rnd.points.json", 22)
    assert [point.signal for point in points] == [one.truth for one in signals]
    assert [point.width for point in points] == [one.width for one in signals]
    assert sorted(point.events for point in points) == [5, 5, 6, 6]
    files = [tmp_path / "rnd.h5", tmp_path / "grid.h5"]
    made = preprocess(files, tmp_path / "both", SERIAL)[0].dataset
    assert made.has_signal_points
    table = made.load(("m_jj",))
    truth = made.true_signals(table)
    is_signal = table.label == SIGNAL
    assert is_signal.sum() == round(0.4 * 22) + 8
    assert np.equal(truth, None).tolist() == (~is_signal).tolist()
    assert set(truth[is_signal]) == {one.truth for one in signals}
    row = table.event_id[table.source == "rnd"]
    expected = [next(p.signal for p in reversed(points) if p.first <= at) for at in row]
    known = truth[table.source == "rnd"]
    assert all(one in (None, other) for one, other in zip(known, expected, strict=True))


def test_more_points_than_events_are_a_wrong_configuration(tmp_path: Path) -> None:
    config = small("simulate.rnd=3", "simulate.rnd_signals=grid", *TOPOLOGIES)
    with pytest.raises(ConfigError, match=r"simulate\.rnd = 3 is less than one event for each"):
        simulate(config, tmp_path / "raw")


def test_random_points_are_inside_the_grid_and_depend_on_the_seed() -> None:
    config = GridConfig(random_points=200)
    signals = grid_signals(config, 1)
    assert len(signals) == 200
    for one in signals:
        assert config.m_zprime[0] <= one.m_zprime <= config.m_zprime[-1]
        assert config.m_jets[0] <= one.m_y <= one.m_x <= config.max_jet_share * one.m_zprime + 0.5
    assert grid_signals(config, 1) == signals != grid_signals(config, 2)


def test_random_masses_do_not_depend_on_the_widths_and_decays_obey_their_thresholds() -> None:
    narrow = grid_signals(GridConfig(random_points=50), 1)
    wide = grid_signals(GridConfig(random_points=50, widths=(1e-3, 0.01, 0.1)), 1)
    masses = [(one.m_zprime, one.m_x, one.m_y) for one in narrow]
    assert [(one.m_zprime, one.m_x, one.m_y) for one in wide] == masses
    assert {one.width for one in wide} == {1e-3, 0.01, 0.1}
    config = GridConfig(random_points=300, decays=DECAYS, exclude=(("qqq", "bb"), ("tt", "qq")))
    signals = grid_signals(config, 3)
    pairs = {(one.decay_x, one.decay_y) for one in signals}
    expected = set(product(DECAYS, DECAYS))
    expected -= {("qqq", "bb"), ("bb", "qqq"), ("tt", "qq"), ("qq", "tt")}
    assert pairs == expected
    for one in signals:
        for mass, decay in ((one.m_x, one.decay_x), (one.m_y, one.decay_y)):
            assert LIGHTEST_OF[decay] <= mass <= config.max_jet_share * one.m_zprime + 0.5


def test_a_full_grid_has_each_signal_once() -> None:
    config = GridConfig(m_zprime=(4000,), m_jets=(100, 500), decays=("qq", "tt"))
    signals = grid_signals(config, 1)
    found = {(one.m_x, one.decay_x, one.m_y, one.decay_y) for one in signals}
    assert len(found) == len(signals)
    assert found == {
        (100, "qq", 100, "qq"),
        (500, "qq", 100, "qq"),
        (500, "tt", 100, "qq"),
        (500, "qq", 500, "qq"),
        (500, "qq", 500, "tt"),
        (500, "tt", 500, "tt"),
    }
    quarks = grid_signals(config.model_copy(update={"decays": ("q", "bb")}), 1)
    masses = [one.truth.masses for one in quarks if one.truth.decays == ("bb", "q")]
    assert sorted(mass for mass, _ in masses) == [100, 500]
    assert [one.truth.decays for one in quarks].count(("q", "q")) == 1


@pytest.mark.parametrize("points", [0, 5])
def test_decays_that_a_grid_cannot_have_are_a_wrong_configuration(points: int) -> None:
    config = GridConfig(m_jets=(100, 300), decays=("qq", "tt"), random_points=points)
    with pytest.raises(ConfigError, match=r"tt needs a mass of at least 380 GeV, .* is 300 GeV"):
        grid_signals(config, 1)
    config = GridConfig(decays=("bb",), exclude=(("bb", "bb"),), random_points=points)
    with pytest.raises(ConfigError, match="exclude leaves no decays"):
        grid_signals(config, 1)


def test_a_grid_without_points_is_a_wrong_configuration() -> None:
    for points in (0, 5):
        config = GridConfig(m_zprime=(2800,), m_jets=(900,), random_points=points)
        with pytest.raises(ConfigError, match="lightest jet, 900 GeV, is heavier than"):
            grid_signals(config, 1)
