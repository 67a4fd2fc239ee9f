"""The preprocess stage: same dataset however it is divided, resumed, or run; wrong input told."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from hepllm.config import Config, JetsConfig, load_config
from hepllm.data.dataset import read_dataset
from hepllm.data.work_folder import Parts
from hepllm.errors import ChunkError, HepllmError, InputError, RunError
from hepllm.physics.features import compute_features
from hepllm.physics.readers import open_event_file
from hepllm.schema import dataset_features, feature_names
from hepllm.stages import preprocess as stage
from hepllm.stages.preprocess import preprocess

Rows = NDArray[np.float64]

_do_chunk = stage.do_chunk


def _config(*overrides: str) -> Config:
    names = [f"preprocess.{override}" for override in overrides]
    return load_config(None, ["preprocess.executor=serial", "preprocess.retries=0", *names])


def _contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "config.yaml"}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "processed" / "rnd"


@pytest.fixture(scope="module")
def expected(lhco_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("expected") / "rnd"
    preprocess([lhco_file], folder, _config("chunk_size=1000"))
    return _contents(folder)


def test_dataset_holds_what_physics_computes(lhco_file: Path, output: Path) -> None:
    (made,) = preprocess([lhco_file], output, _config())
    batch = open_event_file(lhco_file).read(0, 60)
    events = made.dataset.load(["m_jj", "tau21_heavy", "jet3_pt"])
    columns = compute_features(batch.particles, JetsConfig())
    for name in events.names:
        np.testing.assert_array_equal(events.column(name), columns[name])
    np.testing.assert_array_equal(events.label, batch.label_raw)
    np.testing.assert_array_equal(events.event_id, np.arange(60))
    np.testing.assert_array_equal(events.event_digest, batch.particles.digests())
    assert set(events.source) == {"rnd"}
    assert made.n_read == made.dataset.n_events == 60
    assert made.events_per_second > 0


def test_extended_n_subjettiness_on_request(lhco_file: Path, output: Path) -> None:
    (made,) = preprocess([lhco_file], output, _config("extended=true", "select='tau9_b2_heavy<1'"))
    events = made.dataset.load(feature_names("extended"))
    columns = compute_features(
        open_event_file(lhco_file).read(0, 60).particles, JetsConfig(), extended=True
    )
    passed = columns["tau9_b2_heavy"] < 1
    assert 0 < passed.sum() == len(events)
    for name in events.names:
        np.testing.assert_array_equal(events.column(name), columns[name][passed])
    assert tuple(made.dataset.manifest.features) == dataset_features(extended=True)


def test_a_dataset_without_extended_n_subjettiness_says_how_to_get_it(
    lhco_file: Path, output: Path
) -> None:
    (made,) = preprocess([lhco_file], output, _config())
    assert tuple(made.dataset.manifest.features) == dataset_features(extended=False)
    with pytest.raises(InputError, match=r"'tau1_b05_light'.*with preprocess.extended=true"):
        made.dataset.load(load_config(None, ["train.features=extended"]).train.feature_names())


def test_extended_n_subjettiness_of_a_feature_table(tmp_path: Path) -> None:
    table = tmp_path / "features.csv"
    table.write_text("m_jj,tau5_b05_light\n3500,0.1\n3600,\n", encoding="utf-8")
    (made,) = preprocess([table], tmp_path / "d", _config("extended=true"))
    events = made.dataset.load(["m_jj", "tau5_b05_light", "tau5_b05_heavy"])
    np.testing.assert_array_equal(events.column("tau5_b05_light"), [0.1, np.nan])
    assert np.isnan(events.column("tau5_b05_heavy")).all()


@pytest.mark.parametrize("chunk_size", [1, 7, 15, 59, 60, 100])
def test_chunk_size_does_not_matter(
    chunk_size: int, lhco_file: Path, output: Path, expected: dict[str, bytes]
) -> None:
    preprocess([lhco_file], output, _config(f"chunk_size={chunk_size}"))
    assert _contents(output) == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_matter(
    workers: int, lhco_file: Path, output: Path, expected: dict[str, bytes]
) -> None:
    config = _config("chunk_size=7", "executor=processes", f"workers={workers}")
    preprocess([lhco_file], output, config)
    assert _contents(output) == expected


def test_dask_does_not_matter(lhco_file: Path, output: Path, expected: dict[str, bytes]) -> None:
    pytest.importorskip("distributed", reason="the dask extra is not installed")
    preprocess([lhco_file], output, _config("chunk_size=20", "executor=dask", "workers=1"))
    assert _contents(output) == expected


def test_shards_do_not_depend_on_chunks(
    lhco_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hepllm.data.writer.SHARD_ROWS", 16)
    for size in (7, 16, 60):
        preprocess([lhco_file], tmp_path / str(size), _config(f"chunk_size={size}"))
    assert len(read_dataset(tmp_path / "7").manifest.shards) == 4
    assert _contents(tmp_path / "7") == _contents(tmp_path / "16") == _contents(tmp_path / "60")


def test_the_real_sample(tiny_rnd: Path, output: Path) -> None:
    (made,) = preprocess([tiny_rnd], output, _config("executor=processes", "chunk_size=250"))
    counts = made.dataset.manifest.counts
    assert counts["all"] == {"signal": 93, "background": 907, "unknown": 0}
    assert sum(counts["train"].values()) == pytest.approx(600, abs=80)
    assert made.dataset.manifest.duplicate_events == 0


def test_several_files_in_one_dataset(
    dijet_events: Callable[..., Rows], write_lhco: Callable[..., Path], tmp_path: Path
) -> None:
    rows = dijet_events(30)
    first = write_lhco(tmp_path / "first.h5", rows[:20])
    second = write_lhco(tmp_path / "second.h5", rows[10:, :2100])
    (made,) = preprocess([first, second], tmp_path / "both", _config("chunk_size=8"))
    events = made.dataset.load(["m_jj"])
    assert events.source.tolist() == ["first"] * 20 + ["second"] * 20
    assert events.event_id.tolist() == [*range(20), *range(20)]
    assert events.label[20:].tolist() == [-1] * 20
    # The same events: same digest, same split, same features, whatever the file.
    np.testing.assert_array_equal(events.event_digest[10:20], events.event_digest[20:30])
    np.testing.assert_array_equal(events.split[10:20], events.split[20:30])
    np.testing.assert_array_equal(events.features[10:20], events.features[20:30])


def test_a_folder_gives_a_dataset_a_file(
    dijet_events: Callable[..., Rows],
    write_lhco: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/raw").mkdir(parents=True)
    rows = dijet_events(12)
    write_lhco(Path("data/raw/rnd.h5"), rows)
    write_lhco(Path("data/raw/blackbox.h5"), rows[:5, :2100])
    Path("data/raw/blackbox.masterkey").write_text("0.0\n1.0\n0.0\n2.0\n0.0\n")
    made = preprocess([], None, _config())
    assert [str(one.dataset.folder) for one in made] == [
        "data/processed/blackbox",
        "data/processed/rnd",
    ]
    blackbox = read_dataset(Path("data/processed/blackbox")).load([])
    assert blackbox.label.tolist() == [0, 1, 0, 1, 0]
    assert blackbox.label_raw.tolist() == [0, 1, 0, 2, 0]
    assert made[0].dataset.manifest.sources[0].masterkey == "blackbox.masterkey"


def test_masterkey_labels_follow_the_rows(
    dijet_events: Callable[..., Rows], write_lhco: Callable[..., Path], tmp_path: Path
) -> None:
    rows = dijet_events(20)[:, :2100]
    rows[4, 0] = np.nan
    path = write_lhco(tmp_path / "bb.h5", rows)
    key = tmp_path / "bb.key"
    labels = [i in (0, 3, 5, 7, 12, 13, 19) for i in range(20)]
    key.write_text("".join(f"{float(label)}\n" for label in labels))
    config = _config("chunk_size=6", "on_bad_event=skip")
    (made,) = preprocess([path], tmp_path / "out", config, masterkey=key)
    events = made.dataset.load([])
    assert events.event_id.tolist() == [i for i in range(20) if i != 4]
    assert events.label.tolist() == [labels[i] for i in events.event_id]


def test_selection_is_in_the_cut_flow(lhco_file: Path, output: Path) -> None:
    (whole,) = preprocess([lhco_file], output, _config())
    m_jj = whole.dataset.load(["m_jj"]).column("m_jj")
    low, high = np.nanquantile(m_jj, [0.3, 0.6])
    text = f"{low} < m_jj < {high}"
    selected = output.with_name("selected")
    (made,) = preprocess([lhco_file], selected, _config(f"select={text}", "chunk_size=7"))
    kept = made.dataset.load(["m_jj"])
    inside = (m_jj > low) & (m_jj < high)
    assert kept.event_id.tolist() == np.flatnonzero(inside).tolist()
    flow = [(cut.name, cut.events) for cut in made.dataset.manifest.cut_flow]
    assert flow == [("events read", 60), ("valid events", 60), (text, int(inside.sum()))]


def test_a_selection_that_leaves_nothing_is_told(
    lhco_file: Path, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (made,) = preprocess([lhco_file], output, _config("select=m_jj < 0"))
    assert made.dataset.n_events == 0
    assert "none of the 60 events that were read is kept" in caplog.text
    with pytest.raises(InputError, match="contains no events"):
        made.dataset.require_events()


@pytest.mark.parametrize("chunk_size", [9, 60])
def test_particles_of_the_leading_jets(chunk_size: int, lhco_file: Path, output: Path) -> None:
    config = _config("particles_per_jet=4", f"chunk_size={chunk_size}", "select=m_jj > 2600")
    (made,) = preprocess([lhco_file], output, config)
    table = pq.read_table(output / "events-00000.parquet")
    events = made.dataset.load(["jet1_pt_lead", "jet2_pt_lead", "jet1_n_particles"])
    assert 0 < len(events) < 60
    for i in range(len(events)):
        pt, jet = (np.array(table[f"particles_{name}"][i].as_py()) for name in ("pt", "jet"))
        for number in (1, 2):
            of_jet = pt[jet == number]
            assert len(of_jet) <= 4
            assert (np.diff(of_jet) <= 0).all()
            leading = events.column(f"jet{number}_pt_lead")[i]
            assert of_jet[0] == pytest.approx(leading, rel=1e-6)
        assert (jet == 1).sum() == min(4, events.column("jet1_n_particles")[i])


def test_the_config_stands_beside(lhco_file: Path, output: Path) -> None:
    config = _config("chunk_size=11", "jets.radius=0.8")
    preprocess([lhco_file], output, config)
    assert load_config(output / "config.yaml") == config
    manifest = read_dataset(output).manifest
    assert manifest.config["preprocess"]["jets"]["radius"] == 0.8
    assert "chunk_size" not in manifest.config["preprocess"]


@pytest.mark.parametrize(("preset", "radius"), [("lhco", 1.0), ("diary", 0.5)])
def test_presets(preset: str, radius: float, lhco_file: Path, output: Path) -> None:
    (made,) = preprocess([lhco_file], output, _config(f"preset={preset}"))
    batch = open_event_file(lhco_file).read(0, 60)
    columns = compute_features(batch.particles, JetsConfig(radius=radius, pt_min=20))
    mass = made.dataset.load(["jet1_mass"]).column("jet1_mass")
    np.testing.assert_array_equal(mass, columns["jet1_mass"])


def test_the_output_has_a_name(lhco_file: Path) -> None:
    for path in (Path(), Path("/")):
        with pytest.raises(InputError, match="needs a name of its own"):
            preprocess([lhco_file], path, _config(), overwrite=True)


def test_an_existing_dataset_is_not_replaced_unasked(lhco_file: Path, output: Path) -> None:
    preprocess([lhco_file], output, _config())
    before = _contents(output)
    with pytest.raises(InputError, match="already exists; give --overwrite"):
        preprocess([lhco_file], output, _config("jets.radius=0.5"))
    assert _contents(output) == before
    preprocess([lhco_file], output, _config("jets.radius=0.5"), overwrite=True)
    assert _contents(output) != before
    assert not output.with_name("rnd.partial").exists()


def test_a_folder_of_something_else_is_never_replaced(lhco_file: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="exists and is not a dataset"):
        preprocess([lhco_file], tmp_path, _config(), overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


# Wrong input


def _damaged(rows: Rows, row: int, column: int, value: float) -> Rows:
    rows = rows.copy()
    rows[row, column] = value
    return rows


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, np.nan, "1 particle with NaN"),
        (1, np.inf, "1 particle with an infinite value"),
        (3, -5.0, "1 particle with pT < 0"),
        (2100, 2.0, "1 with a label other than 0 and 1 (first 2)"),
        (2100, np.nan, "1 with a label other than 0 and 1 (first nan)"),
    ],
)
@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_bad_events_fail_or_are_skipped(
    *,
    executor: str,
    column: int,
    value: float,
    message: str,
    dijet_events: Callable[..., Rows],
    write_lhco: Callable[..., Path],
    tmp_path: Path,
) -> None:
    path = write_lhco(tmp_path / "a.h5", _damaged(dijet_events(30), 17, column, value))
    config = _config("chunk_size=10", f"executor={executor}", "workers=1")
    output = tmp_path / "out"
    with pytest.raises(InputError) as caught:
        preprocess([path], output, config)
    assert str(caught.value).startswith(f"{path}: rows 10-19: {message}, first in row 17; ")
    assert caught.value.exit_code == 2
    assert not output.exists()
    # The remedy that the message names works, and goes on where the run stopped.
    (made,) = preprocess([path], output, _config("chunk_size=10", "on_bad_event=skip"))
    assert made.n_read == 20
    assert made.dataset.load([]).event_id.tolist() == [i for i in range(30) if i != 17]
    flow = [(cut.name, cut.events) for cut in made.dataset.manifest.cut_flow]
    assert flow == [("events read", 30), ("valid events", 29)]


def test_nothing_is_left_when_nothing_was_done(
    dijet_events: Callable[..., Rows], write_lhco: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_lhco(tmp_path / "a.h5", _damaged(dijet_events(5), 0, 0, np.nan))
    with pytest.raises(InputError):
        preprocess([path], tmp_path / "out", _config())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5"]


def _wrong_inputs(rows: Rows, lhco_file: Path, folder: Path) -> dict[str, tuple[list[Path], str]]:
    (folder / "empty").mkdir()
    (folder / "text.h5").write_text("no events\n")
    (folder / "short.h5").write_bytes(lhco_file.read_bytes()[:40_000])
    return {
        "missing": ([folder / "absent.h5"], "no such file or folder"),
        "folder without files": ([folder / "empty"], "no event file in this folder"),
        "not HDF5": ([folder / "text.h5"], "not an HDF5 file"),
        "truncated": ([folder / "short.h5"], "truncated"),
        "twice": ([lhco_file, lhco_file], "give each once"),
    }


@pytest.mark.parametrize(
    "case", ["missing", "folder without files", "not HDF5", "truncated", "twice"]
)
def test_wrong_inputs(
    case: str, lhco_file: Path, tmp_path: Path, dijet_events: Callable[..., Rows]
) -> None:
    inputs, message = _wrong_inputs(dijet_events(3), lhco_file, tmp_path)[case]
    with pytest.raises(InputError, match=message) as caught:
        preprocess(inputs, tmp_path / "out", _config())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_a_wrong_file_among_good_ones_stops_before_the_work(
    lhco_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.h5").write_text("no events\n")
    with pytest.raises(InputError, match="not an HDF5 file"):
        preprocess([lhco_file, tmp_path / "text.h5"], tmp_path / "out", _config())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["text.h5"]


def test_masterkey_of_another_file(
    dijet_events: Callable[..., Rows], write_lhco: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_lhco(tmp_path / "bb.h5", dijet_events(7)[:, :2100])
    (tmp_path / "bb.masterkey").write_text("0.0\n" * 6)
    with pytest.raises(InputError, match="6 labels for 7 events"):
        preprocess([path], tmp_path / "out", _config())


def test_masterkey_of_a_labelled_file(lhco_file: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("0.0\n" * 60)
    with pytest.raises(InputError, match="has its own labels"):
        preprocess([lhco_file], tmp_path / "out", _config(), masterkey=key)
    with pytest.raises(InputError, match="is for one file"):
        preprocess([lhco_file, key], tmp_path / "out", _config(), masterkey=key)


def test_read_only_output(lhco_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written") as caught:
        preprocess([lhco_file], tmp_path / "file" / "out", _config())
    assert caught.value.exit_code == 1


def test_a_full_disk(lhco_file: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(output))

    monkeypatch.setattr("hepllm.data.work_folder.Parts.save", full)
    with pytest.raises(RunError, match="cannot be written: No space left on device"):
        preprocess([lhco_file], output, _config())
    assert not output.exists()


def test_a_worker_that_does_not_see_the_output(
    lhco_file: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another machine without a shared file system."""
    with monkeypatch.context() as patch:
        patch.setattr(stage, "do_chunk", _elsewhere)
        with pytest.raises(RunError, match="workers on other machines must share this folder"):
            preprocess([lhco_file], output, _config("executor=processes", "workers=1"))
    assert not output.with_name("rnd.partial").exists()


def _elsewhere(task: Any, parts: Parts, config: Any) -> None:
    _do_chunk(task, Parts(parts.folder / "elsewhere", parts.mark), config)


def test_pandas_is_not_loaded(lhco_file: Path, tmp_path: Path) -> None:
    """pyarrow would do that in each worker, for arrays that it need not be asked to guess."""
    program = """
import sys
from pathlib import Path
from hepllm.config import load_config
from hepllm.stages.preprocess import preprocess
config = load_config(None, ["preprocess.executor=serial"])
preprocess([Path(sys.argv[1])], Path(sys.argv[2]), config)
sys.exit("pandas" in sys.modules)
"""
    command = [sys.executable, "-c", program, str(lhco_file), str(tmp_path / "out")]
    assert subprocess.run(command, check=False).returncode == 0


# Resume


def _dies_at_30(task: Any, **options: Any) -> None:
    if task.chunk.start == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    _do_chunk(task, **options)


def _raises_at_30(task: Any, **options: Any) -> None:
    if task.chunk.start == 30:
        raise RuntimeError("out of luck")
    _do_chunk(task, **options)


@pytest.mark.parametrize(
    ("function", "cause"),
    [(_dies_at_30, "killed by SIGKILL"), (_raises_at_30, "RuntimeError: out of luck")],
)
def test_a_failed_chunk_fails_the_run_and_the_next_goes_on(
    *,
    function: Callable[..., object],
    cause: str,
    lhco_file: Path,
    output: Path,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = _config("chunk_size=10", "executor=processes", "workers=1")
    with monkeypatch.context() as patch:
        patch.setattr(stage, "do_chunk", function)
        with pytest.raises(ChunkError, match=rf"^{lhco_file}: rows 30-39: .*{cause}"):
            preprocess([lhco_file], output, config)
    assert not output.exists()
    with pytest.raises(HepllmError, match="no such dataset"):
        read_dataset(output)
    (made,) = preprocess([lhco_file], output, config)
    assert made.n_read == 30  # rows 0 to 29 were done
    assert _contents(output) == expected
    assert not output.with_name("rnd.partial").exists()


def _stopped_run(file: Path, output: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Path:
    with monkeypatch.context() as patch:
        patch.setattr(stage, "do_chunk", _raises_at_30)
        with pytest.raises(ChunkError):
            preprocess([file], output, _config("chunk_size=10", *more))
    return output.with_name(output.name + ".partial")


def test_damaged_parts_are_done_again(
    lhco_file: Path, output: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = _stopped_run(lhco_file, output, monkeypatch)
    parts = sorted((partial / "parts").glob("*.arrow"))
    assert len(parts) == 3
    parts[0].write_bytes(parts[0].read_bytes()[:-100])
    parts[1].write_bytes(b"")
    (made,) = preprocess([lhco_file], output, _config("chunk_size=10"))
    assert made.n_read == 50
    assert _contents(output) == expected


@pytest.mark.parametrize("change", ["jets.radius=0.5", "chunk_size=20", "splits.seed=7"])
def test_unfinished_work_of_other_settings_is_refused(
    change: str, lhco_file: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stopped_run(lhco_file, output, monkeypatch)
    setting = change.partition("=")[0]
    with pytest.raises(InputError, match=rf"preprocess.{setting} was .*--overwrite"):
        preprocess([lhco_file], output, _config("chunk_size=10", change))
    (made,) = preprocess([lhco_file], output, _config("chunk_size=10", change), overwrite=True)
    assert made.n_read == 60


def test_unfinished_work_of_another_file_is_refused(
    dijet_events: Callable[..., Rows],
    write_lhco: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = dijet_events(60)
    path = write_lhco(tmp_path / "rnd.h5", rows)
    _stopped_run(path, tmp_path / "out", monkeypatch)
    write_lhco(path, _damaged(rows, 3, 0, 99.0))
    with pytest.raises(InputError, match=r"inputs.rnd.sha256 was .*--overwrite"):
        preprocess([path], tmp_path / "out", _config("chunk_size=10"))


def test_skipped_events_do_not_pass_a_strict_run(
    dijet_events: Callable[..., Rows],
    write_lhco: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_lhco(tmp_path / "a.h5", _damaged(dijet_events(60), 3, 0, np.nan))
    _stopped_run(path, tmp_path / "out", monkeypatch, "on_bad_event=skip")
    with pytest.raises(InputError, match="rows 0-9: 1 particle with NaN"):
        preprocess([path], tmp_path / "out", _config("chunk_size=10"))


def test_two_runs_on_one_output_do_not_mix(
    lhco_file: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def second_run(task: Any, **options: Any) -> None:
        with pytest.raises(RunError, match="another run is at work"):
            preprocess([lhco_file], output, _config())
        _do_chunk(task, **options)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "do_chunk", second_run)
        (made,) = preprocess([lhco_file], output, _config())
    assert made.dataset.n_events == 60


def test_a_run_says_how_quick_it_was(
    lhco_file: Path, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "hepllm"):
        preprocess([lhco_file], output, _config())
    assert "60 events in" in caplog.text
    assert "events/s" in caplog.text
    assert json.loads((output / "manifest.json").read_text())["n_events"] == 60
