"""Scoring in pieces: the same scores from any workers, kept, continued, and never stale."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from hepllm import cli
from hepllm.arrays import Floats
from hepllm.config import ScoringConfig, override_config
from hepllm.errors import ChunkError, RunError
from hepllm.files import locked
from hepllm.learning.checkpoint import best_checkpoint
from hepllm.model.inputs import ModelInputs
from hepllm.runs import pieces
from hepllm.runs.folder import Run, open_run
from hepllm.runs.kept_scores import KeptScores, hash_events
from hepllm.runs.pieces import PieceTask, cut_parts
from hepllm.runs.run_model import PieceScorer, RunModel
from hepllm.runs.scoring_workers import choose_workers
from hepllm.stages.evaluate import evaluate

pytestmark = pytest.mark.usefixtures("undrawn_figures")

GIB = 2**30
SERIAL = ScoringConfig(executor="serial", piece_size=15)


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Run:
    return open_run(Path(shutil.copytree(tiny_run, tmp_path / "run")))


@pytest.fixture(scope="module")
def inputs(tiny_run: Path) -> ModelInputs:
    run = open_run(tiny_run)
    return ModelInputs(run.dataset().load(run.config.train.feature_names(), "test").features)


@pytest.fixture(scope="module")
def expected(tiny_run: Path, inputs: ModelInputs) -> Floats:
    """The scores of one call without pieces."""
    return PieceScorer(RunModel(open_run(tiny_run), 8)).score(inputs)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The rows of each piece that is scored."""
    done: list[tuple[int, int]] = []
    whole = PieceTask.__call__

    def counted(task: PieceTask, item: Any) -> tuple[str, ...]:
        found = whole(task, item)
        done.append((item.part.start, item.part.stop))
        return found

    monkeypatch.setattr(PieceTask, "__call__", counted)
    return done


def score(
    run: Run, inputs: ModelInputs, settings: ScoringConfig = SERIAL, **options: Any
) -> Floats:
    kept = KeptScores.of(run, settings, **options)
    return kept.by_model("set", "llm", PieceScorer(RunModel(run, 8)), inputs).score


def test_kept_scores_are_not_computed_again(
    run: Run, inputs: ModelInputs, expected: Floats, scored: list[tuple[int, int]]
) -> None:
    np.testing.assert_array_equal(score(run, inputs), expected)
    n_pieces = len(cut_parts(len(inputs), 15))
    assert len(scored) == n_pieces
    for settings in (SERIAL, ScoringConfig(executor="serial", piece_size=7)):
        np.testing.assert_array_equal(score(run, inputs, settings), expected)
    assert len(scored) == n_pieces
    np.testing.assert_array_equal(score(run, inputs, rescore=True), expected)
    assert len(scored) == 2 * n_pieces
    assert [file.name for file in (run.folder / "scores" / "set").iterdir()] == ["llm.parquet"]


def test_events_of_another_set_are_not_scored_again(
    run: Run, inputs: ModelInputs, expected: Floats, scored: list[tuple[int, int]]
) -> None:
    """A black box with and without its key is the same events."""
    score(run, inputs)
    n_pieces, kept = len(scored), KeptScores.of(run, SERIAL)
    backwards = inputs.take(slice(None, None, -1))
    found = kept.by_model("without-key", "llm", PieceScorer(RunModel(run, 8)), backwards)
    np.testing.assert_array_equal(found.score, expected[::-1])
    assert len(scored) == n_pieces


def _other_weights(run: Run) -> None:
    file = best_checkpoint(run.checkpoints) / "nfa.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 0x40  # of the last number's exponent
    file.write_bytes(content)


def _cut_short(run: Run) -> None:
    file = run.folder / "scores" / "set" / "llm.parquet"
    file.write_bytes(file.read_bytes()[:-40])


def _other_numbers(run: Run) -> None:
    file = run.folder / "scores" / "set" / "llm.parquet"
    table = pq.read_table(file)
    changed = table.set_column(1, "score", [np.zeros(table.num_rows)])
    pq.write_table(changed, file)


@pytest.mark.parametrize("harm", [_other_weights, _cut_short, _other_numbers])
def test_a_stale_or_damaged_file_is_never_used(
    harm: Callable[[Run], None],
    run: Run,
    inputs: ModelInputs,
    scored: list[tuple[int, int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    score(run, inputs)
    scored.clear()
    harm(run)
    with caplog.at_level(logging.INFO, "hepllm"):
        found = score(open_run(run.folder), inputs)
    assert sum(stop - start for start, stop in scored) == len(inputs)
    assert "not used" in caplog.text
    np.testing.assert_array_equal(found, PieceScorer(RunModel(run, 8)).score(inputs))


@pytest.mark.parametrize("change", ["event", "text"])
def test_other_events_are_scored_anew(
    change: str, run: Run, inputs: ModelInputs, scored: list[tuple[int, int]]
) -> None:
    score(run, inputs)
    scored.clear()
    numbers = inputs.numbers.copy()
    if change == "event":
        numbers[3, 0] += 1.0
    text = RunModel(run, 8).encoder.with_text(inputs).text if change == "text" else None
    score(run, ModelInputs(numbers, text=text))
    assert scored


def test_a_part_of_the_kept_events_is_not_scored_again(
    run: Run, inputs: ModelInputs, expected: Floats, scored: list[tuple[int, int]]
) -> None:
    """As with --select and --cascade, or other runs whose events are left out."""
    score(run, inputs)
    scored.clear()
    rows = np.random.default_rng(1).permutation(len(inputs))[:20]
    np.testing.assert_array_equal(score(run, inputs.take(rows)), expected[rows])
    assert not scored
    np.testing.assert_array_equal(score(run, inputs), expected)
    assert not scored


def test_events_have_different_keys() -> None:
    random = np.random.default_rng(1)
    numbers = random.integers(0, 3, (20_000, 12)).astype(np.float32).astype(np.float64)
    unique = np.unique(numbers, axis=0)
    assert len(np.unique(hash_events(ModelInputs(numbers)))) == len(unique)
    # Columns are not interchangeable, and missing values are equal whatever their bits are.
    asymmetric = numbers[:, 0] != numbers[:, -1]
    there, back = (hash_events(ModelInputs(one)) for one in (numbers, numbers[:, ::-1]))
    assert (there != back)[asymmetric].all()
    odd = np.array([[np.nan, 0.0]]), np.array([[-np.nan, -0.0]])
    assert hash_events(ModelInputs(odd[0])) == hash_events(ModelInputs(odd[1]))
    text = np.array(["a", "b"], dtype=object)
    assert len(set(hash_events(ModelInputs(np.zeros((2, 1)), text=text)).tolist())) == 2


def test_a_stopped_scoring_goes_on(
    run: Run,
    inputs: ModelInputs,
    expected: Floats,
    scored: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = PieceScorer.columns

    def stop(scorer: PieceScorer, some: ModelInputs) -> dict[str, Floats]:
        if len(scored) == 2:
            raise KeyboardInterrupt
        return whole(scorer, some)

    with monkeypatch.context() as patch:
        patch.setattr(PieceScorer, "columns", stop)
        with pytest.raises(KeyboardInterrupt):
            score(run, inputs)
    np.testing.assert_array_equal(score(run, inputs), expected)
    assert len(scored) == len(set(scored)) == len(cut_parts(len(inputs), 15))


def test_a_full_disk_ends_in_one_line_and_loses_nothing(
    run: Run, inputs: ModelInputs, scored: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pieces.Parts.save

    def full(parts: Any, part: str, *rest: Any) -> None:
        if len(scored) == 2:
            raise OSError(28, "No space left on device", str(parts.folder))
        whole(parts, part, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(pieces.Parts, "save", full)
        with pytest.raises(RunError, match="cannot be written: No space left on device"):
            score(run, inputs)
    score(run, inputs)
    assert len(scored) == len(set(scored)) == len(cut_parts(len(inputs), 15))


@pytest.mark.parametrize("place", ["scores", "eval"])
def test_a_folder_that_cannot_be_written_is_named(place: str, run: Run) -> None:
    (run.folder / place).write_text("in the way")
    with pytest.raises(RunError, match=rf"{place}/\S+: cannot be written"):
        evaluate(run.folder)


def test_one_evaluation_of_a_set_at_a_time(run: Run) -> None:
    folder = run.folder / "eval" / "rnd-test"
    folder.mkdir(parents=True)
    with locked(folder, ""), pytest.raises(RunError, match="another evaluation of this set"):
        evaluate(run.folder)


def test_another_evaluation_with_other_rules_scores_nothing(
    run: Run, scored: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = evaluate(run.folder)
    assert scored
    scored.clear()

    def load(_: Run) -> None:
        pytest.fail("the model is not needed")

    monkeypatch.setattr(Run, "load_classifier", load)
    monkeypatch.setattr("hepllm.runs.run_baselines.fit_baselines", load)
    changes = ["evaluation.min_background=2", "evaluation.views=[]", "evaluation.prior=0.01"]
    (again,) = evaluate(run.folder, config=override_config(run.config, changes))
    assert not scored
    assert again.metrics.auc == first.metrics.auc
    assert again.metrics.min_background == 2
    assert again.metrics.events_per_second == first.metrics.events_per_second


def test_rescore_on_the_command_line(run: Run, scored: list[tuple[int, int]]) -> None:
    quick = ["--set", "evaluation.baselines=[]", "--set", "evaluation.ablations=false"]
    for option, n_pieces in (([], 1), ([], 1), (["--rescore"], 2)):
        done = CliRunner().invoke(cli.cli, ["eval", str(run.folder), *quick, *option, "-q"])
        assert done.exit_code == 0, done.output
        assert len(scored) == n_pieces


@dataclass(frozen=True, eq=False)
class _DiesOnce(PieceScorer):
    """Kills its worker at the first piece that it scores, once."""

    mark: Path = Path()

    def columns(self, inputs: ModelInputs) -> dict[str, Floats]:
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().columns(inputs)


def test_workers_compute_the_same_scores_even_if_one_dies(
    run: Run, inputs: ModelInputs, expected: Floats, tmp_path: Path
) -> None:
    scorer = _DiesOnce(RunModel(run, 8), mark=tmp_path / "died")
    kept = KeptScores.of(run, ScoringConfig(workers=2, piece_size=15, retries=1))
    found = kept.by_model("set", "llm", scorer, inputs).score
    assert (tmp_path / "died").exists()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_without_retries_a_dead_worker_ends_the_evaluation(
    run: Run, inputs: ModelInputs, tmp_path: Path
) -> None:
    scorer = _DiesOnce(RunModel(run, 8), mark=tmp_path / "died")
    kept = KeptScores.of(run, ScoringConfig(workers=2, piece_size=15, retries=0))
    with pytest.raises(ChunkError, match="SIGKILL"):
        kept.by_model("set", "llm", scorer, inputs)


@pytest.mark.slow
def test_a_dask_cluster_computes_the_same_scores(
    run: Run, inputs: ModelInputs, expected: Floats
) -> None:
    pytest.importorskip("distributed", reason="dask is not installed")
    settings = ScoringConfig(executor="dask", workers=2, piece_size=15)
    np.testing.assert_array_equal(score(run, inputs, settings), expected)


def test_a_worker_refuses_weights_that_changed_meanwhile(run: Run, inputs: ModelInputs) -> None:
    make, arguments = RunModel(run, 8).__reduce__()
    assert make(*arguments).run.folder == run.folder.absolute()
    _other_weights(run)
    with pytest.raises(RunError, match="its weights have changed"):
        make(arguments[0], 9, arguments[2])
    shutil.rmtree(run.folder)
    with pytest.raises(RunError, match="must share this folder"):
        make(arguments[0], 10, arguments[2])


def workers(seconds: float, **changes: Any) -> int:
    machine = {"threads": 1, "cores": 4, "free": 64 * GIB, **changes}
    return choose_workers(100, seconds, GIB // 2, **machine)


def test_workers_start_where_they_pay_and_fit() -> None:
    assert workers(10.0) == 1  # starting them takes longer
    assert workers(3600.0) == 4
    assert workers(3600.0, cores=1) == 1
    assert workers(3600.0, free=5 * GIB) == 3
    assert workers(3600.0, free=2 * GIB) == 1
    assert workers(40.0, threads=1, cores=2) == 1
    assert workers(90.0, threads=2, cores=2) == 1
    assert workers(600.0, threads=2, cores=2) == 2
    assert choose_workers(3, 3600.0, GIB, threads=1, cores=16, free=64 * GIB) == 3


def test_workers_are_chosen_by_the_first_piece(
    run: Run,
    inputs: ModelInputs,
    expected: Floats,
    scored: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, float]] = []

    def choose(n_pieces: int, seconds: float, weights: int, **_: Any) -> int:
        asked.append((n_pieces, seconds))
        assert weights > 1000
        return 2

    def elsewhere(source: Any, parts: Any, task: PieceTask, _: Any, n_workers: int) -> Any:
        assert n_workers == 2
        assert parts[0].start == 15
        return pieces._here(source, parts, task, 1)

    monkeypatch.setattr(pieces, "usable_cores", lambda: 2)
    monkeypatch.setattr(pieces, "choose_workers", choose)
    monkeypatch.setattr(pieces, "_in_workers", elsewhere)
    settings = ScoringConfig(piece_size=15)
    np.testing.assert_array_equal(score(run, inputs, settings), expected)
    assert len(scored) == len(cut_parts(len(inputs), 15))
    assert asked[0][0] == len(scored) - 1
    assert asked[0][1] > 0
