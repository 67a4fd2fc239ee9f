"""Every kind of input through the whole of preprocessing, and CATHODE's features to the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
import uproot
from click.testing import CliRunner
from numpy.typing import NDArray

from hepllm.cli import cli
from hepllm.config import Config, load_config
from hepllm.data.dataset import read_dataset
from hepllm.errors import ConfigError, InputError
from hepllm.physics.readers import open_event_file
from hepllm.schema import dataset_features
from hepllm.stages import preprocess as stage
from hepllm.stages.preprocess import preprocess

Rows = NDArray[np.float64]

CATHODE = Path(__file__).parents[2] / "configs" / "cathode.yaml"


def _config(*overrides: str, file: Path | None = None) -> Config:
    names = [f"preprocess.{override}" for override in overrides]
    return load_config(file, ["preprocess.executor=serial", "preprocess.retries=0", *names])


def _contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "config.yaml"}


def _cathode_rows(n_events: int, seed: int, signal_fraction: float) -> Rows:
    """Rows as CATHODE has them: m_jj, m_J1, m_J2 - m_J1 in TeV, tau21 of both, label."""
    random = np.random.default_rng(seed)
    label = random.random(n_events) < signal_fraction
    light = np.where(label, random.normal(0.1, 0.02, n_events), random.gamma(2, 0.08, n_events))
    delta = np.where(label, random.normal(0.4, 0.05, n_events), random.gamma(2, 0.1, n_events))
    tau21 = np.where(label[:, None], 0.2, 0.55) + random.normal(0, 0.08, (n_events, 2))
    columns = [random.uniform(3.3, 3.7, n_events), light, np.abs(delta), *np.abs(tau21).T, label]
    return np.stack(columns, axis=1).astype(np.float64)


@pytest.fixture(scope="module")
def cathode_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("cathode")
    parts = {"innerdata_train": 0.1, "innerdata_val": 0.1, "innerdata_extrasig_train": 1.0}
    for seed, (name, fraction) in enumerate(parts.items()):
        np.save(folder / f"{name}.npy", _cathode_rows(200, seed, fraction))
    return sorted(folder.glob("*.npy"))


def test_several_feature_tables_make_one_dataset(cathode_files: list[Path], tmp_path: Path) -> None:
    (made,) = preprocess(cathode_files, tmp_path / "c", _config(file=CATHODE))
    rows = np.concatenate([np.load(path) for path in cathode_files])
    names = ["m_jj", "jet_mass_light", "jet_mass_delta", "tau21_light", "tau21_heavy"]
    events = made.dataset.load([*names, "jet1_pt"])
    np.testing.assert_allclose(events.features[:, :3], 1000 * rows[:, :3])
    np.testing.assert_allclose(events.features[:, 3:5], rows[:, 3:5])
    np.testing.assert_array_equal(events.label, rows[:, 5])
    np.testing.assert_array_equal(events.label_raw, rows[:, 5])
    assert np.isnan(events.column("jet1_pt")).all()
    assert sorted(set(events.source)) == [path.stem for path in cathode_files]
    assert made.dataset.manifest.features == list(dataset_features(extended=False))
    assert len(np.unique(events.event_digest)) == 600
    table = pq.read_table(tmp_path / "c" / "events-00000.parquet")
    assert table["jet1_pt"].null_count == 600


@pytest.mark.parametrize(
    "how", ["chunk_size=7", "chunk_size=1000", "executor=processes"], ids=lambda how: how
)
def test_how_the_work_is_divided_does_not_matter(
    how: str, cathode_files: list[Path], tmp_path: Path
) -> None:
    preprocess(cathode_files, tmp_path / "one", _config("chunk_size=200", file=CATHODE))
    config = _config("chunk_size=200", "workers=2", how, file=CATHODE)
    preprocess(cathode_files, tmp_path / "other", config)
    assert _contents(tmp_path / "one") == _contents(tmp_path / "other")


def test_unfinished_work_with_another_column_map_is_refused(
    cathode_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def stops(chunk: Any, config: Any) -> Any:
        if len(done) == 2:
            raise InputError("out of luck")
        done.append(chunk)
        return process_chunk(chunk, config)

    process_chunk = stage.process_chunk
    with monkeypatch.context() as patch:
        patch.setattr(stage, "process_chunk", stops)
        with pytest.raises(InputError, match="out of luck"):
            preprocess(cathode_files, tmp_path / "c", _config("chunk_size=50", file=CATHODE))
    with pytest.raises(
        InputError, match=r"preprocess.columns.m_jj.column was 0, is 1.*--overwrite"
    ):
        preprocess(
            cathode_files,
            tmp_path / "c",
            _config("chunk_size=50", "columns.m_jj=1", file=CATHODE),
        )
    (made,) = preprocess(cathode_files, tmp_path / "c", _config("chunk_size=50", file=CATHODE))
    assert made.n_read == 500
    assert made.dataset.n_events == 600


@pytest.fixture(scope="module")
def trained(
    cathode_files: list[Path], quick_trainings: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The three commands on the shipped configuration with a small model."""
    folder = tmp_path_factory.mktemp("run")
    small = {
        "backbone.name": "tiny-random",
        "backbone.dtype": "float32",
        "backbone.lora": "{r: 2, alpha: 4}",
        "fusion.hidden_size": 32,
        "fusion.n_frequencies": 4,
        "train.batch_size": 16,
        "train.lr": 1e-3,
        "train.nfa_lr": 1e-2,
        "train.epochs": 4,
        "train.threads": 1,
        "evaluation.bootstrap": 20,
        "evaluation.baselines": "[boosting]",
        "evaluation.min_background": 1,
    }
    options = [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
    data, run = str(folder / "data"), str(folder / "run")
    commands = [
        ["preprocess", *map(str, cathode_files), "--output", data, "--executor", "serial"],
        ["train", data, "--output", run],
    ]
    for command in commands:
        arguments = [*command, "--config", str(CATHODE), *options, "-q"]
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    CliRunner().invoke(cli, ["eval", run, "-q"], catch_exceptions=False)
    return folder


def test_cathode_features_train_and_evaluate(trained: Path) -> None:
    metrics = json.loads((trained / "run/eval/data-test/metrics.json").read_text())
    n_test = read_dataset(trained / "data").manifest.counts["test"]
    assert metrics["n_signal"] == n_test["signal"]
    assert metrics["n_background"] == n_test["background"]
    assert metrics["auc"] > 0.9  # the classes are far apart


def test_an_evaluation_of_another_table_takes_the_column_map(
    trained: Path, cathode_files: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "unseen.npy"
    np.save(path, _cathode_rows(100, 77, 0.3))
    arguments = ["eval", str(trained / "run"), "--blackbox", str(path), "-q"]
    CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert (trained / "run/eval/unseen/metrics.json").is_file()


def _write_eflow(path: Path, n_events: int, seed: int) -> Path:
    random = np.random.default_rng(seed)
    branches: dict[str, Any] = {}
    for name, energy in (("EFlowTrack", "PT"), ("EFlowPhoton", "ET"), ("EFlowNeutralHadron", "ET")):
        counts = random.integers(1, 12, n_events)
        total = int(counts.sum())
        branches |= {
            f"{name}.{energy}": ak.unflatten(random.exponential(60, total) + 1, counts),
            f"{name}.Eta": ak.unflatten(random.normal(0, 0.7, total), counts),
            f"{name}.Phi": ak.unflatten(random.uniform(-np.pi, np.pi, total), counts),
        }
    branches["Event.Weight"] = ak.Array([[w] for w in random.normal(1, 1, n_events)])
    with uproot.recreate(path) as file:
        file.mktree("Delphes", dict.fromkeys(branches, "var * float64")).extend(branches)
    return path


def test_root_files_labelled_as_a_whole(tmp_path: Path) -> None:
    files = [_write_eflow(tmp_path / f"{name}.root", 20, i) for i, name in enumerate(("qcd", "zp"))]
    labels = "source_labels={qcd: 0, zp: 1}"
    config = _config(labels, "chunk_size=7", "particles_per_jet=3")
    (made,) = preprocess(files, tmp_path / "out", config)
    events = made.dataset.load(["m_jj", "jet1_tau21", "n_particles"])
    assert events.label.tolist() == [0] * 20 + [1] * 20
    assert events.weight.min() < 0 < events.weight.max()
    assert not np.isnan(events.column("n_particles")).any()
    assert np.isfinite(events.column("jet1_tau21")).any()
    whole = _config(labels, "particles_per_jet=3", "executor=processes", "workers=2")
    preprocess(files, tmp_path / "whole", whole)
    assert _contents(tmp_path / "out") == _contents(tmp_path / "whole")


def test_hepmc_files_labelled_as_a_whole(lhco_file: Path, tmp_path: Path) -> None:
    """The particles of an LHCO file, as HepMC, give its features."""
    pyhepmc = pytest.importorskip("pyhepmc")
    (expected,) = preprocess([lhco_file], tmp_path / "lhco", _config())
    particles = open_event_file(lhco_file).read(0, 60).particles
    px, py, pz, energy = particles.momenta().stack()
    ends = np.cumsum(particles.counts)
    with pyhepmc.open(tmp_path / "zprime.hepmc", "w", precision=17) as file:
        for start, end in zip(ends - particles.counts, ends, strict=True):
            event, vertex = pyhepmc.GenEvent(), pyhepmc.GenVertex()
            vertex.add_particle_in(pyhepmc.GenParticle((0, 0, 0, 0), 21, 2))
            for i in range(start, end):
                momentum = (px[i], py[i], pz[i], energy[i])
                vertex.add_particle_out(pyhepmc.GenParticle(momentum, 211, 1))
            event.add_vertex(vertex)
            file.write(event)
    config = _config("source_labels={zprime: 1}", "chunk_size=7")
    (made,) = preprocess([tmp_path / "zprime.hepmc"], tmp_path / "hepmc", config)
    names = ["m_jj", "jet1_mass", "jet2_tau21", "n_jets", "n_particles"]
    found, wanted = made.dataset.load(names), expected.dataset.load(names)
    assert set(found.label) == {1}
    np.testing.assert_allclose(found.features, wanted.features, rtol=1e-7)


def test_labels_of_whole_files_that_are_wrong(
    lhco_file: Path, cathode_files: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"no input file is called 'rdn' \(did you mean 'rnd'"):
        preprocess([lhco_file], tmp_path / "out", _config("source_labels={rdn: 1}"))
    with pytest.raises(InputError, match=r"own labels; remove preprocess\.source_labels"):
        preprocess([lhco_file], tmp_path / "out", _config("source_labels={rnd: 1}"))
    with pytest.raises(ConfigError, match=r"preprocess.source_labels.rnd: .*less than or equal"):
        _config("source_labels={rnd: 3}")


def test_a_label_that_is_ignored_leaves_a_black_box(lhco_file: Path, tmp_path: Path) -> None:
    (made,) = preprocess([lhco_file], tmp_path / "out", _config("label=none"))
    assert made.dataset.manifest.counts["all"]["unknown"] == 60


def test_particles_of_feature_tables_are_missing(cathode_files: list[Path], tmp_path: Path) -> None:
    config = _config("particles_per_jet=2", "select=m_jj > 3500", file=CATHODE)
    (made,) = preprocess(cathode_files, tmp_path / "out", config)
    table = pq.read_table(tmp_path / "out" / "events-00000.parquet")
    assert 0 < table.num_rows == made.dataset.n_events < 600
    assert table["particles_pt"].null_count == table.num_rows


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("inf,0.1,1", "1 with an infinite jet1_pt"),
        ("-3,0.1,1", "1 with a negative jet1_pt"),
        ("500,-0.1,1", "1 with a negative jet1_tau21"),
        ("500,0.1,3", "1 with a label other than 0 and 1"),
        ("500,0.1,", "1 with a label other than 0 and 1"),
    ],
)
def test_bad_rows_of_a_table(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"jet1_pt,jet1_tau21,label\n500,0.3,0\n{line}\n,,1\n")
    with pytest.raises(InputError, match=f"rows 0-2: {message}.*first in row 1; rerun with"):
        preprocess([path], tmp_path / "out", _config())
    (made,) = preprocess([path], tmp_path / "out", _config("on_bad_event=skip"))
    assert made.dataset.load([]).event_id.tolist() == [0, 2]


def test_a_weight_that_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("m_jj,weight\n3000,1\n3000,\n")
    with pytest.raises(InputError, match="1 with a weight that is not finite, first in row 1"):
        preprocess([path], tmp_path / "out", _config())


def test_a_master_key_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "bb.csv").write_text("m_jj\n3000\n3001\n3002\n")
    (tmp_path / "bb.masterkey").write_text("0.0\n2.0\n1.0\n")
    (made,) = preprocess([tmp_path / "bb.csv"], tmp_path / "out", _config())
    assert made.dataset.load([]).label_raw.tolist() == [0, 2, 1]


def test_a_dataset_is_no_input(lhco_file: Path, tmp_path: Path) -> None:
    preprocess([lhco_file], tmp_path / "data", _config())
    with pytest.raises(InputError, match="is already a dataset"):
        preprocess([tmp_path / "data"], tmp_path / "out", _config())


def test_options_of_the_command_line(
    lhco_file: Path, tmp_path: Path, write_lhco: Callable[..., Path]
) -> None:
    arguments = ["preprocess", str(lhco_file), "--output", str(tmp_path / "out"), "-q"]
    arguments += ["--executor", "serial", "--format", "lhco", "--label", "2100"]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    labels = read_dataset(tmp_path / "out").manifest.counts["all"]
    assert labels["signal"] > 0
    assert labels["unknown"] == 0
    with pytest.raises(InputError, match="--format root does not fit its content"):
        CliRunner().invoke(cli, [*arguments[:2], "--format", "root", "-q"], catch_exceptions=False)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder as ``cases/folder_of_inputs`` describes it."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("a.csv", "b.txt", "c.tsv", "d.dat", "sub/e.csv")):
        rows = _cathode_rows(30, seed, 0.5)
        rows[:, :3] *= 1000
        separator = "\t" if name == "c.tsv" else ","
        head = separator.join(
            ("m_jj", "jet_mass_light", "jet_mass_delta", "tau21_light", "tau21_heavy", "label")
        )
        np.savetxt(folder / name, rows, delimiter=separator, header=head, comments="")
    (folder / "._a.csv").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    (folder / ".DS_Store").write_bytes(b"\x00")
    (folder / "README.txt").write_text("These files were made by hand.\nSee below, please.\n")
    (folder / "notes.md").write_text("# Notes\n")
    (folder / "a.masterkey").write_text("1.0\n")
    return folder


def test_a_folder_is_read_and_what_is_not_read_is_told(
    mixed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (made,) = preprocess([mixed], tmp_path / "out", _config())
    assert [source.file for source in made.dataset.manifest.sources] == [
        *("a.csv", "b.txt", "c.tsv", "d.dat")
    ]
    (told,) = [record.getMessage() for record in caplog.records if "not read" in record.message]
    assert told.startswith(f"{mixed}: not read")
    assert told.endswith("content: README.txt, notes.md, sub/; name those that are to be read")


def test_a_folder_without_event_files_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "x.lhe").write_text("<LesHouchesEvents>")
    with pytest.raises(
        InputError, match=r"no event file .*; found sub/, x.lhe, which can be named"
    ):
        preprocess([tmp_path / "in"], tmp_path / "out", _config())


def test_parts_in_a_folder_are_one_dataset(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    for seed in range(3):
        np.save(parts / f"part{seed}.npy", _cathode_rows(50, seed, 0.5))
    config = _config(file=CATHODE)
    (made,) = preprocess([parts], tmp_path / "out", config)
    assert made.dataset.n_events == 150
    assert [source.name for source in made.dataset.manifest.sources] == ["part0", "part1", "part2"]
