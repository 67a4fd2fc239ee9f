"""The search in a black box through ``hepllm eval``, from files to submission.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from hepllm import arrow_files
from hepllm.config import Config, SearchConfig, load_config
from hepllm.data.dataset import read_dataset
from hepllm.data.signal_points import SignalPoint, SignalPoints, points_beside
from hepllm.errors import InputError
from hepllm.hypotheses.signal import Decay
from hepllm.report.sets import EvaluatedSet
from hepllm.runs import box_search
from hepllm.runs.box_search import cascade_warnings, has_groomed_masses
from hepllm.search.box import BoxEvents
from hepllm.search.records import Submission
from hepllm.search.region import MassRegion
from hepllm.stages.evaluate import evaluate
from hepllm.stages.preprocess import preprocess
from hepllm.stages.search import SearchReport, search_dataset
from hepllm.stages.train import train

pytestmark = pytest.mark.usefixtures("undrawn_figures")
M_ZPRIME, N_SIGNAL, N_BACKGROUND = 3800.0, 60, 4000
QUICK = (
    "evaluation.cascade=0.3",
    "evaluation.ablations=false",
    "evaluation.baselines=[]",
    "evaluation.views=[]",
    "evaluation.search.limit_step=0.2",
    "evaluation.search.limit_toys=50",
)


def _events(n_signal: int, n_background: int, seed: int) -> dict[str, np.ndarray]:
    """Features of a resonance of two jets of 400 and 90 GeV over falling QCD."""
    random = np.random.default_rng(seed)
    n_events = n_signal + n_background
    is_signal = random.permutation(np.arange(n_events) < n_signal)
    m_jj = 2600 + random.exponential(600, n_events)
    m_jj[is_signal] = random.normal(M_ZPRIME, 0.036 * M_ZPRIME, n_signal)
    light, heavy = random.lognormal(4.3, 0.5, n_events), random.lognormal(5.2, 0.5, n_events)
    light[is_signal] = random.normal(90, 8, n_signal)
    heavy[is_signal] = random.normal(400, 25, n_signal)
    light, heavy = np.minimum(light, heavy), np.maximum(light, heavy)
    tau21 = np.clip(random.normal(0.6, 0.12, (n_events, 2)), 0.02, 1)
    tau21[is_signal] = np.clip(random.normal(0.25, 0.08, (n_signal, 2)), 0.02, 1)
    return {
        "m_jj": m_jj,
        "jet_mass_light": light,
        "jet_mass_delta": heavy - light,
        "tau21_light": tau21[:, 0],
        "tau21_heavy": tau21[:, 1],
        "label": is_signal.astype(int),
    }


def _write(path: Path, columns: dict[str, np.ndarray]) -> Path:
    pacsv.write_csv(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., Config]) -> Callable[..., Config]:
    return lambda *overrides: tiny_config(
        "preprocess.workers=1",
        "preprocess.executor=serial",
        "train.features=cathode",
        "train.epochs=1",
        *overrides,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, config: Callable[..., Config]) -> Path:
    """A run, and boxes with and without labels, without masses, with few events."""
    folder = tmp_path_factory.mktemp("blackbox")
    _write(folder / "rnd.csv", _events(300, 300, seed=1))
    preprocess([folder / "rnd.csv"], folder / "rnd", config())
    train(folder / "rnd", folder / "run", config(), overwrite=False)
    box = _events(N_SIGNAL, N_BACKGROUND, seed=2)
    hidden = {name: values for name, values in box.items() if name != "label"}
    _write(folder / "hidden.csv", hidden)
    _write(folder / "few.csv", {name: values[:500] for name, values in hidden.items()})
    _write(folder / "flat.csv", {name: v for name, v in hidden.items() if name != "m_jj"})
    _write(folder / "known.csv", box)
    preprocess([folder / "known.csv"], folder / "known", config())
    return folder


@pytest.fixture(scope="module")
def report(folder: Path, config: Callable[..., Config]) -> EvaluatedSet:
    (made,) = evaluate(folder / "run", blackbox=folder / "hidden.csv", config=config(*QUICK))
    return made


def test_submission_finds_the_resonance(report: EvaluatedSet, folder: Path) -> None:
    file = folder / "run" / "eval" / "hidden" / "submission.json"
    tree = json.loads(file.read_text())
    assert tree["schema_version"] == 1
    assert tree == {"schema_version": 1, **json.loads(json.dumps(report.metrics.tree()["search"]))}
    assert Submission.read(file, "").tree() == tree
    assert report.metrics.n_signal is None
    assert tree["p_value"] == pytest.approx(1 / 10_001)
    assert tree["n_toys"] == 10_000
    mass = tree["resonance_mass_gev"]
    assert abs(mass["value"] - M_ZPRIME) < 4 * max(mass["below"], mass["above"])
    assert mass["above"] < 0.01 * M_ZPRIME
    for jet, truth in (("light", 90), ("heavy", 400)):
        found = tree["jet_masses_gev"][jet]
        # Gaussian jets: those of the detector have their peak up to a tenth above the true mass.
        assert abs(found["value"] - truth) < 0.1 * truth
        assert {"calibration", "simulation"} <= set(found["systematics"])
        assert 0 < found["above"] < 0.1 * truth
    box = tree["n_signal_box"]
    assert abs(box["value"] - N_SIGNAL) < 4 * max(box["below"], box["above"])
    ratio = tree["signal_over_background"]
    n_events = N_SIGNAL + N_BACKGROUND
    assert ratio == pytest.approx(box["value"] / (n_events - box["value"]))
    assert "truth" not in tree
    assert not (file.parent / "unblinding.json").exists()


def test_submission_says_what_it_comes_from(report: EvaluatedSet, folder: Path) -> None:
    tree = report.metrics.tree()["search"]
    made = read_dataset(folder / "run" / "eval" / "hidden" / "hidden")
    assert tree["blackbox"]["digest"] == made.digest
    assert tree["config"]["efficiencies"] == [0.1, 0.03, 0.01, 0.003, 0.001]
    assert set(tree["versions"]) == {"hepllm", "numpy", "scipy", "iminuit", "pyBumpHunter"}
    assert [one["efficiency"] for one in tree["selections"]] == [
        0.1,
        0.03,
        0.01,
    ]  # others keep too few
    assert tree["features"] == ["jet_mass_light", "jet_mass_delta", "tau21_light", "tau21_heavy"]
    assert "Search for a resonance in hidden" in report.text
    assert "for any window of any selection: 0 of 10000 pseudo-experiments" in report.text
    assert {"search.png", "search_jets.png", "search_limits.png"} <= {f.name for f in report.files}
    assert all(file.stat().st_size > 100 for file in report.files)


@pytest.mark.parametrize(("keep", "is_told"), [(0.05, True), (0.1, True), (0.3, False)])
def test_a_cascade_tighter_than_the_selections_is_told(
    keep: float, is_told: bool, config: Callable[..., Config]
) -> None:
    settings = config("evaluation.search.efficiencies=[0.1,0.01]", f"evaluation.cascade={keep}")
    told = cascade_warnings(settings.evaluation)
    assert bool(told) == is_told
    assert all("the loosest selection keeps 0.1" in one for one in told)
    assert cascade_warnings(config("evaluation.cascade=null").evaluation) == []


@pytest.fixture
def label_reads(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[bool]:
    """For each time that labels of the box are read: whether its submission is on the disk."""
    submission = folder / "run" / "eval" / "known" / "submission.json"
    submission.unlink(missing_ok=True)
    reads: list[bool] = []
    read_table, open_file = pq.read_table, arrow_files.open_file
    opened: list[Path] = []

    def remembered(path: Path, *options: Any) -> Any:
        opened.append(path)
        return open_file(path, *options)

    def watched(file: Any, **options: Any) -> pa.Table:
        of_labels = "label" in (options.get("columns") or ["label"])
        if of_labels and folder / "known" in opened[-1].parents:
            reads.append(submission.is_file())
        return read_table(file, **options)

    monkeypatch.setattr(arrow_files, "open_file", remembered)
    monkeypatch.setattr(pq, "read_table", watched)
    return reads


def test_labels_are_read_when_the_submission_is_written(
    report: EvaluatedSet, folder: Path, config: Callable[..., Config], label_reads: list[bool]
) -> None:
    """The plain call searches first: what it finds with a key is what it finds without."""
    assert load_config(None).evaluation.search.run == "blackbox"
    (known,) = evaluate(folder / "run", blackbox=folder / "known", config=config(*QUICK))
    assert label_reads == [True]
    output = folder / "run" / "eval" / "known"
    submission = (output / "submission.json").read_text()
    texts = []
    for text in (submission, (folder / "run/eval/hidden/submission.json").read_text()):
        tree = json.loads(text)
        del tree["blackbox"]  # name and digest of the file
        texts.append(json.dumps(tree))
    assert texts[0] == texts[1]
    tree = known.metrics.tree()
    assert {"schema_version": 1, **tree["search"]} == json.loads(submission)
    beside = json.loads((output / "unblinding.json").read_text())
    assert {"schema_version": 1, **tree["unblinding"]} == beside
    assert known.metrics.unblinding.submission_sha256 == sha256(submission.encode()).hexdigest()
    dates = known.metrics.unblinding.submission_written, known.metrics.unblinding.labels_read
    assert sorted(dates) == list(dates)
    truth = known.metrics.unblinding.truth
    assert truth.n_signal_box == N_SIGNAL
    kept = truth.selections[0]
    assert kept.n_signal == round(kept.eps_s * N_SIGNAL)
    assert known.metrics.auc.value > 0.9
    for shown in (
        f"Classifiers on known: N_s = {N_SIGNAL}",
        "key: signal events",
        "sigma) for any",
    ):
        assert shown in known.text


def test_a_dataset_is_searched_with_a_run_or_with_its_scores(
    folder: Path, config: Callable[..., Config], tmp_path: Path
) -> None:
    """``hepllm search`` finds what ``eval`` finds, by the run and by a file of scores."""
    few_toys = ("evaluation.search.max_toys=1000", "evaluation.search.efficiencies=[0.01]")
    settings = config(*QUICK, *few_toys)
    (known,) = evaluate(folder / "run", blackbox=folder / "known", config=settings)
    whole = known.metrics.search.tree()
    by_run = search_dataset(folder / "known", settings, tmp_path / "a", run=folder / "run")
    assert by_run.submission.tree() == whole
    assert by_run.unblinding.truth == known.metrics.unblinding.truth
    table = pq.read_table(folder / "run/eval/known/scores.parquet")
    order = np.random.default_rng(3).permutation(len(table))
    of_scores = ("blackbox", "p_value", "resonance_mass_gev", "jet_masses_gev", "selections")
    for name, write in (("s.parquet", pq.write_table), ("s.csv", pacsv.write_csv)):
        write(table.take(order), tmp_path / name)
        joined = search_dataset(
            folder / "known", settings, tmp_path / name[2:], scores=tmp_path / name
        )
        tree = joined.submission.tree()
        assert {key: tree[key] for key in of_scores} == {key: whole[key] for key in of_scores}
        assert tree["run"] is tree["signal_efficiency"] is None
        assert joined.unblinding.truth == known.metrics.unblinding.truth


def test_scores_that_do_not_fit_a_dataset_are_told(
    report: EvaluatedSet, folder: Path, config: Callable[..., Config], tmp_path: Path
) -> None:
    few_toys = ("evaluation.search.max_toys=1000", "evaluation.search.efficiencies=[0.01]")
    settings = config(*QUICK, *few_toys)
    whole = pq.read_table(folder / "run/eval/hidden/scores.parquet")
    file = tmp_path / "scores.parquet"

    def join(table: pa.Table) -> SearchReport:
        pq.write_table(table, file)
        return search_dataset(
            folder / "run/eval/hidden/hidden", settings, tmp_path / "out", scores=file
        )

    for table, message in (
        (pa.concat_tables([whole, whole[:3]]), "3 events have more than one score, the first is"),
        (whole.drop_columns(["event_id"]), "no column 'event_id'"),
        (whole.set_column(1, "source", pa.array(["other"] * len(whole))), "has no score of any"),
    ):
        with pytest.raises(InputError, match=message):
            join(table)
    assert not (tmp_path / "out").exists()
    part = join(whole[10:].drop_columns(["source"]))  # one source needs no name
    assert part.submission.n_events == len(whole) - 10
    assert any(
        "10 of 4060 events of hidden have no score" in one for one in part.submission.warnings
    )


def test_equal_boxes_are_searched_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    searched = []

    def search_box(events: BoxEvents, *_: object, **__: object) -> tuple[int, str]:
        searched.append(events)
        return len(searched), "findings"

    monkeypatch.setattr(box_search, "search_box", search_box)
    caplog.set_level("INFO", logger="hepllm")
    found, config = box_search.FoundInBoxes(), SearchConfig()

    def ask(name: str, score: float = 0.0, heavy: float = 400.0, region: Any = None) -> int:
        numbers = [np.array([one, np.nan]) for one in (score, 3000.0, 90.0, heavy)]
        box = box_search.Box(name, BoxEvents(*numbers), None, {}, region=region)
        return found.get(box, config, 1)[0]

    assert [ask("known"), ask("hidden")] == [1, 1]
    assert "hidden: has the events and scores of known" in caplog.text
    region = MassRegion(3000.0, 3500.0)
    assert [ask("a", score=1.0), ask("b", heavy=401.0), ask("c", region=region)] == [2, 3, 4]
    assert [ask("d", score=1.0), ask("e")] == [2, 1]


def test_a_search_that_is_not_wanted_leaves_nothing(
    folder: Path, config: Callable[..., Config], label_reads: list[bool]
) -> None:
    settings = config(*QUICK, "evaluation.search.run=never")
    output = folder / "run" / "eval" / "known"
    output.mkdir(parents=True, exist_ok=True)
    for name in ("submission.json", "unblinding.json", "search.png"):
        (output / name).touch()  # of an earlier search
    (known,) = evaluate(folder / "run", blackbox=folder / "known", config=settings)
    assert known.metrics.search is known.metrics.unblinding is None
    assert known.metrics.auc.value > 0.9
    assert len(label_reads) == 1
    assert not [*output.glob("*search*"), *output.glob("*.json.*"), *output.glob("sub*")]
    assert not (output / "unblinding.json").exists()


def test_a_labelled_dataset_is_no_black_box(folder: Path, config: Callable[..., Config]) -> None:
    (known,) = evaluate(folder / "run", dataset=folder / "known", config=config(*QUICK))
    assert known.metrics.search is None


@pytest.mark.parametrize("selection", ["tau21_light < 0.9", "tau21_light < 0.9 and m_jj < 9000"])
def test_a_selection_is_told_and_must_not_cut_on_the_mass(
    selection: str, folder: Path, config: Callable[..., Config]
) -> None:
    few_toys = ("evaluation.search.max_toys=1000", "evaluation.search.efficiencies=[0.01]")
    settings = config(*QUICK, *few_toys, f"evaluation.select={selection}")
    (known,) = evaluate(folder / "run", blackbox=folder / "known", config=settings)
    assert known.metrics.select == selection
    if "m_jj" in selection:
        assert "cuts on m_jj, of which a search needs the whole" in known.metrics.search.problem
        return
    assert known.metrics.search.select == selection
    n_kept = known.metrics.n_signal + known.metrics.n_background
    assert known.metrics.search.n_events == n_kept < N_SIGNAL + N_BACKGROUND
    assert known.metrics.unblinding.truth.n_signal_box == known.metrics.n_signal


def test_former_runs_search_too() -> None:
    assert SearchConfig.model_validate({"run": "unlabelled"}).run == "blackbox"


@pytest.mark.parametrize(
    ("box", "message"),
    [("few.csv", "needs 1000 events with 2600 < m_jj < 8000 GeV"), ("flat.csv", "needs m_jj")],
)
def test_box_that_cannot_be_searched_is_scored(
    box: str, message: str, folder: Path, config: Callable[..., Config]
) -> None:
    (made,) = evaluate(folder / "run", blackbox=folder / box, config=config(*QUICK))
    assert message in made.metrics.search.problem
    assert message in made.text
    output = folder / "run" / "eval" / Path(box).stem
    assert (output / "scores.parquet").is_file()
    assert not (output / "submission.json").exists()


def test_features_that_follow_the_mass_are_refused(
    folder: Path,
    config: Callable[..., Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sees_mass = config("train.features=[m_jj,tau21_light,tau21_heavy]")
    train(folder / "rnd", tmp_path / "run", sees_mass, overwrite=False)
    with pytest.raises(InputError, match="sculpts a bump in QCD") as raised:
        evaluate(tmp_path / "run", blackbox=folder / "hidden.csv", config=sees_mass)
    assert "train.features=search" in str(raised.value)
    assert raised.value.exit_code == 2
    always = config("train.features=cathode", "evaluation.search.run=always")
    with pytest.raises(InputError, match="follow m_jj"):
        evaluate(tmp_path / "run", blackbox=folder / "known", config=always)
    (known,) = evaluate(
        tmp_path / "run",
        blackbox=folder / "known",
        config=config(*QUICK, "evaluation.cascade=null"),
    )
    assert known.metrics.search is None
    assert known.metrics.auc.value > 0.5
    assert "no search with a model that uses features that follow m_jj" in caplog.text
    assert not (tmp_path / "run" / "eval" / "hidden" / "scores.parquet").exists()


def _signals(folder: Path, n_each: int, *decays: Decay) -> Path:
    """A file of signals of many masses, with its points beside; X has each decay in turn."""
    signals = [
        (m_zprime, m_x, m_y)
        for m_zprime in (2700.0, 4000.0, 7400.0)
        for m_x, m_y in ((400.0, 90.0), (300.0, 60.0), (200.0, 100.0))
    ]
    random = np.random.default_rng(7)
    masses = np.repeat(signals, n_each, axis=0)
    z, heavy, light = (masses * np.exp(random.normal(0, 0.04, masses.shape))).T
    tau21 = np.clip(random.normal(0.25, 0.08, (len(z), 2)), 0.02, 1)
    columns = {
        "m_jj": z,
        "jet_mass_light": light,
        "jet_mass_delta": heavy - light,
        "tau21_light": tau21[:, 0],
        "tau21_heavy": tau21[:, 1],
        "label": np.ones(len(z), dtype=int),
    }
    points = [
        SignalPoint(
            m_zprime=one[0], m_x=one[1], m_y=one[2], first=place * n_each, events=n_each,
            generated=2 * n_each, decay_x=(decays or ("qq",))[place % max(len(decays), 1)],
        )
        for place, one in enumerate(signals)
    ]  # fmt: skip
    file = _write(folder / "signals.csv", columns)
    SignalPoints(points=points).write(points_beside(file))
    return file


def test_limits_use_the_efficiency_at_each_mass(
    folder: Path, config: Callable[..., Config], tmp_path: Path
) -> None:
    preprocess([_signals(tmp_path, 30)], tmp_path / "signals", config())
    settings = (
        f"evaluation.search.signal_grid={tmp_path / 'signals'}",
        "evaluation.search.limit_jets=[90, 400]",
        "evaluation.search.luminosity=20",
    )
    (made,) = evaluate(folder / "run", blackbox=folder / "known", config=config(*QUICK, *settings))
    limits = made.metrics.search.upper_limits
    assert limits.efficiency_by_mass
    assert limits.efficiency_of == "the signals of signals, X 400 GeV, Y 90 GeV"
    values = {one.mass_gev: one for one in limits.by_mass}
    outside = [mass for mass, one in values.items() if one.box is None]
    assert all(mass > 7400 for mass in outside)
    for mass in sorted(set(values) - set(outside)):
        one = values[mass]
        assert f"Z' {mass:.0f}, X 400, Y 90 GeV" in one.signal_efficiency.of
        assert one.trigger_efficiency == pytest.approx(0.5, abs=0.1)
        ratio = one.box.observed / one.cross_section_fb.observed
        assert ratio == pytest.approx(20 * one.trigger_efficiency)
        assert one.least_efficient.observed >= one.box.observed
    assert "cross section" in made.text


def test_a_signal_grid_needs_the_masses_of_its_events(
    folder: Path, config: Callable[..., Config]
) -> None:
    setting = f"evaluation.search.signal_grid={folder / 'known'}"
    with pytest.raises(InputError, match="needs the true masses of its events; make them with"):
        evaluate(folder / "run", blackbox=folder / "known", config=config(*QUICK, setting))


def test_a_signal_grid_has_one_kind_of_decays(
    folder: Path, config: Callable[..., Config], tmp_path: Path
) -> None:
    preprocess([_signals(tmp_path, 5, "qq", "bb")], tmp_path / "signals", config())
    setting = f"evaluation.search.signal_grid={tmp_path / 'signals'}"
    with pytest.raises(InputError, match="differ in their masses only, found several decays"):
        evaluate(folder / "run", blackbox=folder / "known", config=config(*QUICK, setting))


def test_only_usual_grooming_has_a_response(folder: Path, config: Callable[..., Config]) -> None:
    made = read_dataset(folder / "known")
    assert not has_groomed_masses(made)
    jets = made.manifest.config["preprocess"]["jets"]
    for grooming, known in (
        ({"z_cut": 0.1, "beta": 0.0}, True),
        ({"z_cut": 0.2, "beta": 0.0}, False),
    ):
        changed = {"preprocess": {"jets": {**jets, "soft_drop": grooming}}}
        features = [*made.manifest.features, "jet1_softdrop_mass", "jet2_softdrop_mass"]
        manifest = made.manifest.model_copy(update={"config": changed, "features": features})
        assert has_groomed_masses(replace(made, manifest=manifest)) == known
