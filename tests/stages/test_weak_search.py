"""A search by weak supervision: what is written, resumed and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from hepllm import cli
from hepllm.config import Config, load_config
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError, RunError
from hepllm.search.records import Submission
from hepllm.stages.preprocess import preprocess
from hepllm.stages.search import SearchReport, search_weakly
from hepllm.weak.folds import WeakTraining
from hepllm.weak.records import WeakScan

pytestmark = pytest.mark.usefixtures("undrawn_figures")

QUICK = (
    "preprocess.executor=serial",
    "evaluation.search.workers=1",
    "evaluation.search.efficiencies=[0.03]",
    "evaluation.search.max_toys=1000",
    "evaluation.search.limit_step=0.2",
    "evaluation.search.limit_toys=20",
    "evaluation.search.weak.features=cathode",
    "evaluation.search.weak.members=1",
    "evaluation.search.weak.folds=2",
    "evaluation.search.weak.width=0.2",
    "evaluation.search.weak.step=0.1",
    "evaluation.search.weak.sideband=0.1",
    "evaluation.search.weak.min_events=150",
)


def _config(*changes: str) -> Config:
    return load_config(None, [*QUICK, *changes])


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, resonance_table: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("weak")
    table = resonance_table(folder / "t.csv", 4000, 120, seed=1)
    preprocess([table], folder / "box", _config())
    return folder / "box"


@pytest.fixture(scope="module")
def background(
    tmp_path_factory: pytest.TempPathFactory, resonance_table: Callable[..., Path]
) -> Path:
    folder = tmp_path_factory.mktemp("weak")
    table = resonance_table(folder / "b.csv", 4000, 20, seed=2)
    preprocess([table], folder / "background", _config())
    return folder / "background"


@pytest.fixture(scope="module")
def found(box: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchReport:
    return search_weakly(box, _config(), tmp_path_factory.mktemp("out") / "a")


def test_a_resonance_is_found_without_labels(found: SearchReport) -> None:
    scan, submission = found.weak, found.submission
    assert scan is not None
    best = scan.regions[scan.best_region]
    assert best.region_gev[0] < 3500 < best.region_gev[1]
    assert scan.p_value <= len(scan.regions) / 1000
    assert submission.p_value == pytest.approx(scan.p_value)
    assert submission.region_gev == best.region_gev
    assert submission.n_regions == len(scan.regions) > 1
    assert submission.weak == "sidebands"
    assert submission.resonance_mass_gev.value == pytest.approx(3500, rel=0.04)
    assert submission.upper_limits is not None
    assert found.unblinding is not None
    assert found.unblinding.truth.selections[0].n_signal > 60


def test_what_is_written(found: SearchReport, box: Path) -> None:
    folder = found.files[0].parent
    assert {file.name for file in found.files} == {file.name for file in folder.iterdir()}
    assert WeakScan.read(folder / "weak.json", "") == found.weak
    assert Submission.read(folder / "submission.json", "") == found.submission
    assert not folder.with_name("a.partial").exists()
    scores = pq.read_table(folder / "scores.parquet")
    table = read_dataset(box).load(("m_jj",))
    inside = (table.column("m_jj") >= 2600) & (table.column("m_jj") < 8000)
    np.testing.assert_array_equal(scores["event_id"].to_numpy(), table.event_id[inside])
    fold, score = scores["fold"].to_numpy(), scores["score"].to_numpy()
    kept = [float((score[fold == one] > 0.97).mean()) for one in range(2)]
    assert kept == pytest.approx([0.03, 0.03], abs=5e-4)
    text = (folder / "table.txt").read_text()
    assert "Classifiers without labels" in text
    assert f"1 of {found.submission.n_regions} regions" in text
    assert found.weak is not None
    best = found.weak.regions[found.weak.best_region]
    assert best.is_bound
    assert f"The smallest p-value is at most {best.p_value:.3g}" in text
    assert "nothing is said about resonances outside" in " ".join(text.split())


def test_a_stopped_search_goes_on(
    box: Path, found: SearchReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, score = [], WeakTraining.score

    def stops(self: WeakTraining, *words: object) -> object:
        calls.append(words[-1])
        if len(calls) == 4:
            raise InputError("stopped here")
        return score(self, *words)

    monkeypatch.setattr(WeakTraining, "score", stops)
    with pytest.raises(InputError, match="stopped here"):
        search_weakly(box, _config(), tmp_path / "a")
    with pytest.raises(InputError, match="other inputs or settings"):
        search_weakly(box, _config("evaluation.search.weak.members=2"), tmp_path / "a")
    again = search_weakly(box, _config(), tmp_path / "a")
    assert found.weak is not None
    assert len(calls) == 1 + 2 * len(found.weak.regions)
    assert again.weak == found.weak
    assert again.submission == found.submission


@pytest.mark.parametrize("template", ["simulation", "reweighted", "ideal"])
def test_another_dataset_is_the_template(
    template: str, box: Path, background: Path, tmp_path: Path
) -> None:
    """Without its labelled signal; only the ideal one says that it is a reference."""
    changes = (
        f"evaluation.search.weak.template={template}",
        f"evaluation.search.weak.background={background}",
        "evaluation.search.weak.region=[3200,3800]",
    )
    found = search_weakly(box, _config(*changes), tmp_path / "a")
    assert found.weak is not None
    assert found.weak.background_digest == read_dataset(background).digest
    assert found.submission.p_value < 0.01
    assert found.submission.n_regions == 1
    assert any("reference" in one for one in found.submission.warnings) == (template == "ideal")


def test_templates_that_cannot_be_made_are_refused(box: Path, tmp_path: Path) -> None:
    ideal = "evaluation.search.weak.template=ideal"
    with pytest.raises(InputError, match="give --background DATASET"):
        search_weakly(box, _config(ideal), tmp_path / "a")
    own = f"evaluation.search.weak.background={box}"
    with pytest.raises(InputError, match="is the searched box itself"):
        search_weakly(box, _config(ideal, own), tmp_path / "a")
    assert not list(tmp_path.iterdir())


def _run(*words: object) -> Result:
    return CliRunner().invoke(cli.cli, ["search", *map(str, words)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--region", "3300", "3700"), "--region: for --weak TEMPLATE"),
        (("--weak", "sidebands", "--run", "runs/x"), "--run: not with --weak"),
        (("--weak", "sidebands", "--scan"), "--scan: not with --weak"),
        (("--weak", "sidebands", "--signal", "s.csv"), "--signal: not with --weak"),
        (("--weak", "sidebands", "--features", "all"), "follows m_jj"),
        (("--weak", "cwola"), "is not one of"),
    ],
)
def test_options_that_do_not_fit(options: tuple[str, ...], message: str, box: Path) -> None:
    made = _run(box, *options)
    assert getattr(made.exception, "exit_code", made.exit_code) == 2
    assert message in " ".join((made.output + str(made.exception)).split())


def test_a_table_is_no_dataset(tmp_path: Path, resonance_table: Callable[..., Path]) -> None:
    made = _run(resonance_table(tmp_path / "t.csv", 50, 0, seed=1), "--weak", "sidebands")
    assert made.exit_code == 2
    assert "--weak searches one dataset" in made.output


def test_options_reach_the_search(
    box: Path, found: SearchReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs: list[Config] = []

    def searched(folder: Path, config: Config, output: Path, *, overwrite: bool) -> SearchReport:
        assert (folder, output, overwrite) == (box, tmp_path / "out", False)
        configs.append(config)
        return found

    monkeypatch.setattr("hepllm.stages.search.search_weakly", searched)
    options = ("--region", "3200", "3800", "--features", "extended", "--background", "b")
    made = _run(box, "--weak", "ideal", *options, "--output", tmp_path / "out", "--json", "-q")
    assert made.exit_code == 0, made.output
    weak = configs[0].evaluation.search.weak
    assert (weak.template, weak.background, weak.region) == ("ideal", "b", (3200, 3800))
    assert weak.features == "extended"
    assert json.loads(made.stdout)["weak"]["template"] == "sidebands"


def test_a_place_that_cannot_be_written_is_named(box: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/out: cannot be written: .*choose another --output"):
        search_weakly(
            box, _config("evaluation.search.weak.template=sidebands"), tmp_path / "file" / "out"
        )


@pytest.mark.parametrize("of_box", [True, False])
def test_features_that_one_dataset_lacks_are_refused(
    *,
    of_box: bool,
    box: Path,
    background: Path,
    tmp_path: Path,
    resonance_table: Callable[..., Path],
) -> None:
    table = resonance_table(tmp_path / "b.csv", 3000, 0, seed=3)
    lines = [line.split(",") for line in table.read_text().split()]
    text = "\n".join(",".join((*line[:3], *line[5:])) for line in lines)  # without both tau21
    (tmp_path / "few.csv").write_text(text)
    preprocess([tmp_path / "few.csv"], tmp_path / "few", _config())
    data, other = (tmp_path / "few", background) if of_box else (box, tmp_path / "few")
    changes = [
        "evaluation.search.weak.template=simulation",
        f"evaluation.search.weak.background={other}",
        "evaluation.search.weak.region=[3200,3800]",
    ]
    message = r"few: no event has tau21_light, tau21_heavy.*--set '(\S+=\[jet\S+\])'$"
    with pytest.raises(InputError, match=message) as caught:
        search_weakly(data, _config(*changes), tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
    told = re.search(message, str(caught.value))
    assert told is not None
    assert told[1].endswith("=[jet_mass_light,jet_mass_delta]")


def test_negative_weights_are_refused(
    box: Path, tmp_path: Path, resonance_table: Callable[..., Path]
) -> None:
    text = resonance_table(tmp_path / "b.csv", 2000, 0, seed=3).read_text().splitlines()
    weighted = [f"{text[0]},weight", f"{text[1]},-1", *(f"{line},1" for line in text[2:])]
    (tmp_path / "w.csv").write_text("\n".join(weighted))
    preprocess([tmp_path / "w.csv"], tmp_path / "other", _config())
    changes = [
        "evaluation.search.weak.template=simulation",
        f"evaluation.search.weak.background={tmp_path / 'other'}",
    ]
    with pytest.raises(InputError, match="1 of 2000 background events have negative weights"):
        search_weakly(box, _config(*changes), tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
