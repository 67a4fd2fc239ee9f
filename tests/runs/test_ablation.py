"""Ablations on a sample of a set, paired with the model on the same events."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from hepllm.config import override_config
from hepllm.model.inputs import ModelInputs
from hepllm.report.sets import EvaluatedSet
from hepllm.runs.comparison import Contest
from hepllm.runs.folder import Run, open_run
from hepllm.runs.run_model import RunModel
from hepllm.stages.evaluate import evaluate

pytestmark = pytest.mark.usefixtures("undrawn_figures")

NAMES = {"nfa_permuted", "nfa_zeroed", "text_permuted"}


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return open_run(Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("ablation") / "run")))


def report(run: Run, limit: int) -> EvaluatedSet:
    changes = ["evaluation.baselines=[]", f"evaluation.ablation_events={limit}"]
    (made,) = evaluate(run.folder, config=override_config(run.config, changes))
    return made


def test_a_sample_is_paired_with_the_model_on_the_same_events(run: Run) -> None:
    made = report(run, 20)
    found = made.metrics
    reference = found.ablation_reference
    assert found.n_signal + found.n_background > 20
    assert (reference.n_signal, reference.n_background) == (10, 10)
    assert reference.auc.value != found.auc.value
    assert set(found.ablation) == NAMES
    for name, one in found.ablation.items():
        assert (one.n_signal, one.n_background) == (10, 10)
        difference = found.paired[name].auc
        assert difference.estimate == pytest.approx(reference.auc.value - one.auc.value)
        assert difference.low <= difference.estimate <= difference.high
    assert "on N_s = 10 signal and N_b = 10 background events of the sample" in made.text
    assert "llm on these events" in made.text
    assert set(made.curves.classifiers) >= NAMES


def test_a_small_set_is_used_whole(run: Run) -> None:
    found = report(run, 20_000).metrics
    assert found.ablation_reference is None
    assert {one.n_signal for one in found.ablation.values()} == {found.n_signal}


def test_inputs_are_exchanged_within_the_sample(run: Run) -> None:
    table = run.dataset().load(run.config.train.feature_names(), "test")
    inputs = ModelInputs(table.features[:30])
    contest = Contest(run.config.evaluation, 1, RunModel(run, 8))
    scores = contest.ablate("set", inputs)
    assert set(scores) == NAMES
    order = np.random.default_rng([1, 4]).permutation(30)
    exchanged = contest.measure("set", inputs.take(order)).score
    # Numbers of other events with the own text are neither the event nor the other one.
    assert not np.allclose(scores["nfa_permuted"], exchanged)
    back = contest.ablate("set", inputs)
    np.testing.assert_array_equal(back["nfa_permuted"], scores["nfa_permuted"])
