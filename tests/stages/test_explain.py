"""Explanations of events from files, datasets and text, checked against forward passes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from matplotlib.image import imread
from scipy.stats import percentileofscore

from hepllm import cli
from hepllm.config import override_config
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError, RunError
from hepllm.explain.attribution import Attribution, attribute
from hepllm.model.inputs import ModelInputs
from hepllm.runs.picked_events import raw_particles
from hepllm.runs.predictor import Predictor, load_predictor
from hepllm.stages.explain import BARS, DISPLAY, JSON, TEXT, EventReport, explain
from hepllm.stages.predict import prediction_config


@pytest.fixture(scope="module")
def folder(recipes: Path) -> Path:
    return recipes


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return load_predictor(folder / "seed1")


def run(predictor: Predictor, *events: str, **options: object) -> list[EventReport]:
    return explain(predictor, prediction_config(predictor.run), events, **options)  # type: ignore[arg-type]


def test_an_event_of_a_file_is_explained(
    folder: Path, predictor: Predictor, tmp_path: Path
) -> None:
    source = folder / "rnd.h5"
    first, second = run(predictor, "7", "150", source=source, output=tmp_path)
    assert [first.name, second.name] == ["rnd-7", "rnd-150"]
    for report in (first, second):
        made = tmp_path / report.name
        assert {path.name for path in made.iterdir()} == {JSON, TEXT, BARS, DISPLAY}
        assert json.loads((made / JSON).read_text()) == report.tree
        assert (made / TEXT).read_text().strip() == report.text
        assert imread(made / DISPLAY).std() > 0.01
        assert imread(made / BARS).std() > 0.01
    dataset = read_dataset(folder / "rnd")
    events = dataset.load(predictor.names)
    place = int(np.flatnonzero(events.event_id == 7)[0])
    (score,) = predictor.score(ModelInputs(events.features[place : place + 1]))
    assert first.tree["score"] == pytest.approx(score, abs=1e-4)
    assert first.tree["label"] == events.label[place]
    found = first.tree["attribution"]
    assert found["sum"] == pytest.approx(found["difference"], abs=found["tolerance"])
    parts = [one["attribution"] for one in first.tree["features"].values()]
    assert sum(parts) == pytest.approx(found["sum"], abs=1e-9)
    assert f"{first.tree['score']:+.2f}" in first.text


def test_the_setting_that_the_hint_names_is_obeyed(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hint = cli._gpu_failure(torch.OutOfMemoryError("CUDA out of memory"))
    assert hint is not None
    assert "evaluation.batch_size (to score or explain)" in hint
    used: list[int] = []

    def watched(*given: object, points: int, **options: object) -> Attribution:
        used.append(points)
        return attribute(*given, points=points, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("hepllm.stages.explain.attribute", watched)
    for size in (None, 3):
        settings = [] if size is None else [f"evaluation.batch_size={size}"]
        config = override_config(prediction_config(predictor.run), settings)
        explain(load_predictor(predictor.run.folder, config), config, ["7"], output=tmp_path)
    assert used == [16, 3]


def test_percentiles_and_the_reference_come_from_the_training_split(
    folder: Path, predictor: Predictor, tmp_path: Path
) -> None:
    (report,) = run(predictor, "7", output=tmp_path)
    training = read_dataset(folder / "rnd").load(predictor.names, "train")
    for place, name in enumerate(predictor.names):
        facts = report.tree["features"][name]
        for label, who in ((1, "signal"), (0, "background")):
            column = training.features[training.label == label, place]
            column = column[~np.isnan(column)]
            assert facts["percentile"][who]["percentile"] == pytest.approx(
                percentileofscore(column, facts["value"], kind="mean")
            )
            assert facts["percentile"][who]["n_events"] == len(column)
            if label == 0:
                assert (column <= facts["reference"]).mean() >= 0.5
                assert (column >= facts["reference"]).mean() >= 0.5


def test_the_counterfactual_event_is_called_otherwise(
    folder: Path, predictor: Predictor, tmp_path: Path
) -> None:
    reports = run(predictor, "0", "10", output=tmp_path)
    flipped = 0
    for report in reports:
        values = [report.tree["features"][name]["value"] for name in predictor.names]
        row = np.array([np.nan if value is None else value for value in values])
        threshold = report.tree["threshold"]
        for found in (report.tree["counterfactual"][key] for key in ("single", "several")):
            if found is None:
                continue
            changed = row.copy()
            for change in found["changes"]:
                changed[predictor.names.index(change["name"])] = change["after"]
            (score,) = predictor.score(ModelInputs(changed[np.newaxis]))
            assert (score >= threshold) != (report.tree["score"] >= threshold)
            assert score == pytest.approx(found["score"], abs=1e-4)
            flipped += 1
    assert flipped


def test_a_dataset_has_its_particles_and_its_used_events(
    folder: Path, predictor: Predictor, tmp_path: Path
) -> None:
    events = read_dataset(folder / "rnd").load(predictor.names)
    seen = np.isin(events.event_digest, predictor.run.used_events())
    used = events.event_id[seen & (events.split == "train")][0]
    fresh = events.event_id[events.split == "test"][0]
    first, second = run(predictor, f"rnd:{used}", f"{fresh}", output=tmp_path)
    assert "biases" in first.text
    assert "biases" not in second.text
    assert (tmp_path / second.name / DISPLAY).is_file()
    row = int(np.flatnonzero(events.event_id == fresh)[0])
    (by_row,) = run(predictor, str(row), output=tmp_path / "rows", by_row=True)
    assert by_row.tree == second.tree


def test_the_particles_of_a_dataset_come_from_its_raw_file(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The fault was a picture of two empty circles."""
    data = tmp_path / "data"
    shutil.copytree(folder / "rnd", data / "processed" / "rnd")
    dataset = read_dataset(data / "processed" / "rnd")
    (source,) = dataset.manifest.sources
    table = dataset.load(("jet1_pt",))
    wanted = source.name, int(table.event_id[3]), int(table.event_digest[3])
    assert raw_particles(dataset, *wanted) is None
    (data / "raw").mkdir()
    shutil.copy(next(folder.rglob(source.file)), data / "raw" / source.file)
    found = raw_particles(dataset, *wanted)
    assert found is not None
    assert found.complete
    assert len(found.pt) > 10
    other = wanted[0], int(table.event_id[4]), wanted[2]  # another event has another digest
    assert raw_particles(dataset, *other) is None


def test_a_pasted_event_has_no_picture_without_directions(
    predictor: Predictor, tmp_path: Path
) -> None:
    prompt = "event m=0140 dm=0300 t=0.30 T=0.20"
    (report,) = run(predictor, texts=[prompt], output=tmp_path, threshold=0.0)
    assert {path.name for path in (tmp_path / "text-1").iterdir()} == {JSON, TEXT, BARS}
    assert report.tree["features"]["jet_mass_light"]["value"] == 140
    assert report.tree["threshold_chosen_by"] == "stated"


def test_text_alone_is_explained_by_its_text(folder: Path, tmp_path: Path) -> None:
    predictor = load_predictor(folder / "text")
    prompt = "jet_mass_light: 140 jet_mass_delta: missing tau21_light: 0.3"
    file_event, pasted = run(predictor, "3", texts=[prompt], output=tmp_path)[::-1]
    assert all(one["attribution_number"] == 0 for one in file_event.tree["features"].values())
    assert any(one["attribution_text"] for one in file_event.tree["features"].values())
    assert set(pasted.tree["attribution"]["text_not_compared"]) == {
        "jet_mass_delta",
        "tau21_heavy",
    }
    assert "Missing: jet_mass_delta, tau21_heavy." in pasted.text.replace("\n", " ")


@pytest.mark.parametrize(
    ("events", "options", "message"),
    [
        (["400"], {"source": "rnd.h5"}, r"no row 400; rows are from 0 to 239"),
        (["-1"], {"source": "rnd.h5"}, r"no row -1"),
        (["x"], {"source": "rnd.h5"}, "whole number, found 'x'"),
        (["999"], {}, "no event_id 999 among its 240 events"),
        (["999"], {"by_row": True}, "no row 999"),
        (["bb:3"], {}, "no source 'bb'; there are rnd"),
        (["3", "3"], {}, "named twice: rnd-3"),
        ([], {"texts": ["hello"]}, "no feature found"),
        ([], {"texts": ["m_jj: 3500"]}, "none of the model's features"),
        ([], {"texts": ["m: -3"]}, "jet_mass_light = -3, which no event can have"),
        (["3"], {"source": "gone.h5"}, r"gone\.h5"),
    ],
)
def test_events_that_are_not_there_are_told(
    events: list[str],
    options: dict[str, object],
    message: str,
    *,
    folder: Path,
    predictor: Predictor,
    tmp_path: Path,
) -> None:
    if "source" in options:
        options = {**options, "source": folder / str(options["source"])}
    with pytest.raises(InputError, match=message):
        run(predictor, *events, output=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_told(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot be written: .*choose another --output"):
        run(predictor, "3", output=tmp_path / "file")


def test_a_prior_of_one_event_is_not_estimated(predictor: Predictor) -> None:
    config = override_config(prediction_config(predictor.run), ["evaluation.prior=estimate"])
    with pytest.raises(InputError, match="give a number"):
        explain(predictor, config, ["3"])


def test_the_command_line_explains(folder: Path, tmp_path: Path) -> None:
    run = shutil.copytree(folder / "seed1", tmp_path / "run")

    def command(*arguments: str | Path) -> tuple[int, str]:
        done = CliRunner().invoke(cli.cli, ["explain", *map(str, arguments)])
        return done.exit_code, done.stdout

    code, shown = command(run, "5", "--json", "-q")
    assert code == 0
    assert set(json.loads(shown)) == {"rnd-5"}
    assert (run / "explain" / "rnd-5" / TEXT).is_file()
    assert command(run)[0] == 2
    assert command(run, "--input", folder / "rnd.h5", "--text", "m=0100")[0] == 2
