"""From scores to recorded numbers: validation cuts, roles, differences and JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from hepllm.config import EvaluationConfig
from hepllm.errors import InputError
from hepllm.evaluation.assessment import EvaluationResults, evaluate_scores
from hepllm.evaluation.scores import ScoreTable

CONFIG = EvaluationConfig(bootstrap=100)


def results_tree(results: EvaluationResults) -> dict[str, Any]:
    return results.record.tree()


def table(n_signal: int, n_background: int, seed: int) -> ScoreTable:
    generator = np.random.default_rng(seed)
    label = np.repeat([1, 0], [n_signal, n_background])
    hidden = generator.normal(size=len(label)) + 2 * label
    scores = {
        "llm": hidden + 0.4 * generator.normal(size=len(label)),
        "boosting": hidden + 0.1 * generator.normal(size=len(label)),
    }
    ablations = {"nfa_permuted": generator.permutation(scores["llm"])}
    return ScoreTable(label, scores, ablations)


def validation_of(test: ScoreTable, seed: int = 99) -> ScoreTable:
    return dataclasses.replace(table(800, 800, seed), ablations={})


@pytest.fixture(scope="module")
def results() -> EvaluationResults:
    test = table(700, 1500, 1)
    return evaluate_scores(test, validation_of(test), CONFIG, 3)


def numbers(tree: Any) -> list[float]:
    if isinstance(tree, dict):
        return [number for value in tree.values() for number in numbers(value)]
    if isinstance(tree, list):
        return [number for value in tree for number in numbers(value)]
    return [tree] if isinstance(tree, float) else []


def test_tree_has_the_promised_keys_at_every_level(results: EvaluationResults) -> None:
    tree = results_tree(results)
    promised = {"n_signal", "n_background", "auc", "auc_interval", "max_sic", "max_sic_interval"}
    promised |= {"max_sic_n_background_passing", "sic_at_0.3", "sic_at_0.5", "accuracy"}
    promised |= {"sic_at_0.3_interval", "sic_at_0.3_n_background_passing", "accuracy_threshold"}
    for level in (tree, tree["baselines"]["boosting"], tree["ablation"]["nfa_permuted"]):
        assert promised <= set(level)
    assert (tree["n_signal"], tree["n_background"]) == (700, 1500)
    assert tree["sic_ceiling"] == pytest.approx(np.sqrt(150))
    assert tree["view"] == "natural"
    assert set(tree["paired"]) == {"boosting", "nfa_permuted"}
    assert tree["paired"]["boosting"]["difference"] == "llm - boosting"


def test_intervals_hold_their_values_and_differences_are_differences(
    results: EvaluationResults,
) -> None:
    tree = results_tree(results)
    for level in (tree, tree["baselines"]["boosting"], tree["ablation"]["nfa_permuted"]):
        for key in ("auc", "sic_at_0.5", "max_sic", "accuracy", "inverse_eps_b_at_0.5"):
            low, high = level[f"{key}_interval"]
            assert low <= level[key] <= high
            assert low < high
    for name, group in (("boosting", "baselines"), ("nfa_permuted", "ablation")):
        for key in ("auc", "max_sic", "sic_at_0.5"):
            paired = tree["paired"][name][key]
            assert paired["estimate"] == pytest.approx(tree[key] - tree[group][name][key])
            assert paired["low"] <= paired["estimate"] <= paired["high"]
    assert tree["paired"]["nfa_permuted"]["auc"]["low"] > 0.3


def test_accuracy_is_that_of_the_stated_threshold(results: EvaluationResults) -> None:
    tree, test = results_tree(results), table(700, 1500, 1)
    called = test.scores["llm"] >= tree["accuracy_threshold"]
    assert tree["accuracy"] == pytest.approx(np.mean(called == np.asarray(test.label)))
    assert sum(tree["confusion"].values()) == 2200


def test_cuts_of_accuracy_and_efficiencies_come_from_validation_data_only() -> None:
    test = table(700, 1500, 1)
    validation = validation_of(test)
    first = results_tree(evaluate_scores(test, validation, CONFIG, 3))
    label = np.asarray(test.label)
    worse = {name: score - 0.7 * label for name, score in test.scores.items()}
    second = results_tree(
        evaluate_scores(dataclasses.replace(test, scores=worse), validation, CONFIG, 3)
    )
    assert second["auc"] < first["auc"] - 0.01
    assert second["accuracy_threshold"] == first["accuracy_threshold"]
    cuts = [point["threshold"] for point in first["working_points"]]
    assert [point["threshold"] for point in second["working_points"]] == cuts
    moved = {name: score + 10 for name, score in validation.scores.items()}
    third = results_tree(
        evaluate_scores(test, dataclasses.replace(validation, scores=moved), CONFIG, 3)
    )
    assert third["accuracy_threshold"] == pytest.approx(first["accuracy_threshold"] + 10)
    assert third["max_sic_in_sample"] == first["max_sic_in_sample"]


def test_the_maximum_stands_beside_those_of_papers(results: EvaluationResults) -> None:
    tree = results_tree(results)
    assert (tree["n_validation_signal"], tree["n_validation_background"]) == (800, 800)
    for level in (tree, tree["baselines"]["boosting"]):
        # one event, eps_B > 1e-4 (of 1,500: one event) and ten events
        assert level["max_sic_cathode"] == level["max_sic_omnilearn"] >= level["max_sic_in_sample"]
        assert level["max_sic_cathode_n_background_passing"] >= 1
        assert level["max_sic_lower_bound"] < level["max_sic"]
        assert "other 19 of 20 folds" in level["max_sic_chosen_by"]


def test_ablations_are_read_at_the_cut_of_the_model(results: EvaluationResults) -> None:
    tree = results_tree(results)
    assert tree["ablation"]["nfa_permuted"]["max_sic_threshold"] == tree["max_sic_threshold"]
    assert tree["baselines"]["boosting"]["max_sic_threshold"] != tree["max_sic_threshold"]


def test_same_scores_differ_by_exactly_zero() -> None:
    test = table(300, 600, 1)
    same = dataclasses.replace(test, scores={"llm": test.scores["llm"], "copy": test.scores["llm"]})
    valid = validation_of(test)
    valid = dataclasses.replace(
        valid, scores={"llm": valid.scores["llm"], "copy": valid.scores["llm"]}
    )
    paired = results_tree(evaluate_scores(same, valid, CONFIG, 3))["paired"]["copy"]
    for key in ("auc", "max_sic", "sic_at_0.5"):
        assert [paired[key][end] for end in ("estimate", "low", "high")] == [0.0, 0.0, 0.0]


def test_same_seed_gives_the_same_tree() -> None:
    test = table(100, 200, 1)
    trees = [results_tree(evaluate_scores(test, validation_of(test), CONFIG, s)) for s in (5, 5, 6)]
    assert trees[0] == trees[1]
    assert trees[0]["auc_interval"] != trees[2]["auc_interval"]


@pytest.mark.parametrize(
    ("n_signal", "n_background"), [(0, 50), (50, 0), (1, 1), (3, 5), (40, 12), (0, 0)]
)
def test_small_and_one_class_samples_have_reasons_and_no_nan(
    n_signal: int, n_background: int
) -> None:
    test = table(n_signal, n_background, 1)
    found = evaluate_scores(test, validation_of(test), CONFIG, 3)
    tree = results_tree(found)
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree
    assert np.isfinite(numbers(tree)).all()
    assert tree["sic_at_0.1"] is None
    assert tree["undefined"]["sic_at_0.1"]
    if 0 in (n_signal, n_background):
        missing = "background" if n_signal else "signal"
        assert tree["auc"] is tree["auc_interval"] is tree["max_sic"] is None
        assert tree["undefined"]["auc"] == f"no {missing} events"


def test_one_class_validation_leaves_no_cut_but_a_curve() -> None:
    test = table(300, 600, 1)
    tree = results_tree(evaluate_scores(test, validation_of(table(1, 1, 1)), CONFIG, 3))
    assert tree["max_sic"] is not None
    generator = np.random.default_rng(1)
    only = {name: generator.normal(size=30) for name in test.scores}
    found = evaluate_scores(test, ScoreTable(np.ones(30, dtype=int), only), CONFIG, 3)
    tree = results_tree(found)
    assert tree["accuracy"] is tree["confusion"] is None
    assert tree["max_sic"] > 1  # the sample itself has background for its choice
    assert tree["undefined"]["accuracy"] == "validation data: no background events"
    assert tree["sic_at_0.5"] > 1


def test_weights_enter_every_number() -> None:
    test = table(300, 600, 1)
    label = np.asarray(test.label)
    doubled = dataclasses.replace(test, weight=np.where(label == 1, 2.0, 1.0))
    valid = validation_of(test)
    plain = results_tree(evaluate_scores(test, valid, CONFIG, 3))
    heavy = results_tree(evaluate_scores(doubled, valid, CONFIG, 3))
    assert heavy["auc"] == pytest.approx(plain["auc"])
    assert heavy["confusion"]["signal_as_signal"] == 2 * plain["confusion"]["signal_as_signal"]
    cut = plain["confusion"]
    right = 2 * cut["signal_as_signal"] + cut["background_as_background"]
    assert heavy["accuracy"] == pytest.approx(right / 1200)


def test_missing_validation_scores_and_shared_names_are_refused() -> None:
    test = table(30, 60, 1)
    valid = ScoreTable(test.label, {"llm": test.scores["llm"]})
    with pytest.raises(InputError, match="validation scores of boosting are missing"):
        evaluate_scores(test, valid, CONFIG, 3)
    clash = dataclasses.replace(test, ablations={"llm": test.scores["llm"]})
    with pytest.raises(InputError, match="'llm'"):
        evaluate_scores(clash, test, CONFIG, 3)
    with pytest.raises(InputError, match="no scores"):
        evaluate_scores(ScoreTable(test.label, {}), test, CONFIG, 3)
    broken = {**test.scores, "boosting": np.full(90, np.nan)}
    with pytest.raises(InputError, match="boosting: 90 of 90 values are not finite"):
        evaluate_scores(dataclasses.replace(test, scores=broken), test, CONFIG, 3)
