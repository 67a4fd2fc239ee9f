"""Results as the tree of ``metrics.json``, where a number that does not exist is null."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hepllm.evaluation.bootstrap import Difference
from hepllm.evaluation.metrics import Metric, WorkingPoint
from hepllm.evaluation.results import EvaluationResults, ScoreResult, Selection, SicEstimate

Tree = dict[str, Any]


def results_tree(results: EvaluationResults) -> Tree:
    """The content of ``metrics.json``: the judged model on top, others below it by role.

    Raises:
        ValueError: if a number is NaN or infinite, which JSON cannot hold.
    """
    tree: Tree = {
        "sample": results.sample,
        "view": results.view,
        "classifier": results.model.name,
        **score_tree(results.model),
        "min_background": results.n_min,
        "background_rule": results.rule,
        "sic_ceiling": results.sic_ceiling,
        "bootstrap": {
            "confidence": results.config.confidence,
            "n_replicas": results.config.bootstrap,
            "seed": results.seed,
            "method": "percentile, stratified by class, paired between classifiers",
        },
        "baselines": _by_role(results, "baseline"),
        "ablation": {
            **_by_role(results, "ablation"),
            **{
                name: {**tree, "retrained": True}
                for name, tree in _by_role(results, "retrained").items()
            },
        },
        "paired": {
            name: _paired_tree(results.model.name, name, differences)
            for name, differences in results.differences.items()
        },
    }
    if results.contrasts:
        tree["contrasts"] = {
            f"{first}-{second}": _paired_tree(first, second, differences)
            for (first, second), differences in results.contrasts.items()
        }
    json.dumps(tree, allow_nan=False)
    return tree


def score_tree(result: ScoreResult) -> Tree:
    """The flat keys of one classifier or ablation."""
    best = result.selections[0]
    tree: Tree = {
        "n_signal": result.events.n_signal,
        "n_background": result.events.n_background,
        "auc": result.auc.value,
        "auc_interval": result.auc_interval.pair,
        **_estimate_tree("max_sic", result.max_sic),
        "max_sic_chosen_by": result.max_sic_chosen.chosen_by,
        **_point_tree("max_sic_in_sample", result.max_sic_in_sample),
    }
    for eps_s, estimate in result.sic_at.items():
        tree |= _estimate_tree(f"sic_at_{eps_s:g}", estimate)
        tree[f"inverse_eps_b_at_{eps_s:g}"] = estimate.point.inverse_eps_b
        tree[f"inverse_eps_b_at_{eps_s:g}_interval"] = estimate.inverse_eps_b.pair
    tree |= {
        "accuracy": best.accuracy,
        "accuracy_interval": result.accuracy_interval.pair,
        "accuracy_threshold": best.threshold.value,
        "accuracy_threshold_chosen_by": best.threshold.chosen_by,
        "balanced_accuracy": None if best.table is None else best.table.balanced_accuracy,
        "confusion": None if best.table is None else best.table.to_dict(),
        "working_points": [_selection_tree(selection) for selection in result.selections],
        "undefined": _reasons(result),
    }
    return tree


def _by_role(results: EvaluationResults, role: str) -> Tree:
    chosen = {name: result for name, result in results.scores.items() if result.role == role}
    return {name: score_tree(result) for name, result in chosen.items()}


def _point_tree(key: str, point: WorkingPoint) -> Tree:
    return {
        key: point.sic,
        f"{key}_n_signal_passing": point.n_signal_passing,
        f"{key}_n_background_passing": point.n_background_passing,
        f"{key}_threshold": point.threshold,
        f"{key}_eps_s": point.eps_s,
        f"{key}_eps_b": point.eps_b,
    }


def _estimate_tree(key: str, estimate: SicEstimate) -> Tree:
    point = _point_tree(key, estimate.point)
    return {key: point.pop(key), f"{key}_interval": estimate.sic.pair, **point}


def _selection_tree(selection: Selection) -> Tree:
    table, point = selection.table, selection.point
    return {
        "chosen_by": selection.threshold.chosen_by,
        "threshold": selection.threshold.value,
        "precision": None if table is None else table.precision,
        "recall": None if table is None else table.recall,
        "f1": None if table is None else table.f1,
        "accuracy": None if table is None else table.accuracy,
        "eps_b": point.eps_b,
        "n_signal_passing": point.n_signal_passing,
        "n_background_passing": point.n_background_passing,
    }


def _paired_tree(first: str, second: str, differences: Mapping[str, Difference]) -> Tree:
    return {
        "difference": f"{first} - {second}",
        **{key: _difference_tree(value) for key, value in differences.items()},
    }


def _difference_tree(difference: Difference) -> Tree:
    between = difference.interval
    return {
        "estimate": difference.estimate,
        "low": between.low,
        "high": between.high,
        "confidence": between.confidence,
        "n_replicas": between.n_replicas,
        "n_undefined": between.n_undefined,
        "reason": difference.reason or between.reason,
    }


def _reasons(result: ScoreResult) -> dict[str, str]:
    """Why a value or its interval is null, by key; no entry where both exist."""
    estimates = {"max_sic": result.max_sic}
    estimates |= {f"sic_at_{eps_s:g}": value for eps_s, value in result.sic_at.items()}
    found: dict[str, Metric | WorkingPoint] = {
        "auc": result.auc,
        "max_sic_in_sample": result.max_sic_in_sample,
        **{key: estimate.point for key, estimate in estimates.items()},
    }
    reasons = {key: metric.reason for key, metric in found.items()}
    reasons["accuracy"] = result.selections[0].threshold.reason
    intervals = {
        "auc_interval": result.auc_interval,
        "accuracy_interval": result.accuracy_interval,
        **{f"{key}_interval": estimate.sic for key, estimate in estimates.items()},
    }
    for key, between in intervals.items():
        if reasons[key.removesuffix("_interval")] is None:
            reasons[key] = between.reason
    return {key: reason for key, reason in reasons.items() if reason is not None}
