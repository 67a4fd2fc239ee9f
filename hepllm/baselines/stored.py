"""Baselines in files that hold numbers alone (safetensors), so that a file of others can be read.

What scikit-learn's trees decide is written as arrays and applied here, without scikit-learn; a file
is written only if it reproduces the scores of the fitted classifier to the last bit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hepllm.arrays import Floats, Ints
from hepllm.baselines.boosting import BOOSTING, BOOSTING_EXTENDED, Boosting
from hepllm.baselines.hypothesis import GivenHypothesis
from hepllm.baselines.particles import PARTICLES, AdapterNetwork
from hepllm.baselines.scorer import Scorer
from hepllm.config import FusionConfig
from hepllm.errors import InputError
from hepllm.files import write_aside
from hepllm.model.inputs import ModelInputs

STORABLE = (
    BOOSTING,
    BOOSTING_EXTENDED,
    "boosting_hypothesis",
    "boosting_differences",
    PARTICLES,
)
"""Names of the baselines that can be kept in files."""

_RECORD = "hepllm"
_LEAF = -1
"""In place of a feature: the node is a leaf."""


@dataclass(frozen=True, eq=False)
class Trees:
    """Gradient-boosted trees as arrays over all M nodes, tree after tree; like ``Boosting``.

    Attributes:
        feature: column of the features that a node cuts on, ``_LEAF`` for a leaf, shape (M,).
        threshold: events at or below it go to the left, shape (M,).
        missing_left: whether events without the feature go to the left, shape (M,).
        left: the node to the left, shape (M,).
        right: the node to the right, shape (M,).
        value: what a leaf adds to the logit, shape (M,).
        starts: the first node of each of the T trees, shape (T,).
        base: logit before all trees, shape (1,).
    """

    feature: Ints
    threshold: Floats
    missing_left: NDArray[np.bool_]
    left: Ints
    right: Ints
    value: Floats
    starts: Ints
    base: Floats

    @classmethod
    def of(cls, boosting: Boosting) -> Trees:
        """The trees of a fitted classifier, whose nodes are private attributes of scikit-learn."""
        trees = [tree for (tree,) in boosting.classifier._predictors]
        starts = np.cumsum([0, *(len(tree.nodes) for tree in trees)])[:-1].astype(np.int64)
        shift = np.repeat(starts, [len(tree.nodes) for tree in trees])
        nodes = np.concatenate([tree.nodes for tree in trees])
        if nodes["is_categorical"].any():
            raise ValueError("trees that cut on categories are not stored")
        return cls(
            feature=np.where(
                nodes["is_leaf"].astype(np.bool_), _LEAF, boosting.columns[nodes["feature_idx"]]
            ).astype(np.int64),
            threshold=nodes["num_threshold"].astype(np.float64),
            missing_left=nodes["missing_go_to_left"].astype(np.bool_),
            left=nodes["left"].astype(np.int64) + shift,
            right=nodes["right"].astype(np.int64) + shift,
            value=nodes["value"].astype(np.float64),
            starts=starts,
            base=np.asarray(boosting.classifier._baseline_prediction, np.float64).reshape(1),
        )

    def score(self, features: Floats, hypothesis: NDArray[np.object_] | None = None) -> Floats:
        """Logits of (N, F) features, shape (N,)."""
        del hypothesis
        logits = np.repeat(self.base, len(features))
        for start in self.starts.tolist():
            logits += self.value[self._leaves(features, start)]
        return logits

    def _leaves(self, features: Floats, start: int) -> Ints:
        """The leaf of each event in the tree that starts at a node, shape (N,)."""
        node = np.full(len(features), start)
        moving = np.arange(len(features))
        while len(moving):
            here = node[moving]
            inside = self.feature[here] != _LEAF
            moving, here = moving[inside], here[inside]
            values = features[moving, self.feature[here]]
            to_left = np.where(
                np.isnan(values), self.missing_left[here], values <= self.threshold[here]
            )
            node[moving] = np.where(to_left, self.left[here], self.right[here])
        return node


@dataclass(frozen=True, eq=False)
class StoredBaseline:
    """A baseline from a file.

    Attributes:
        scorer: trees of features, or a network of constituents.
    """

    scorer: Scorer | AdapterNetwork

    def score(self, inputs: ModelInputs) -> Floats:
        """Logits of N events, shape (N,), for the balance of its training events."""
        if isinstance(self.scorer, AdapterNetwork):
            return self.scorer.score(inputs)
        return self.scorer.score(inputs.numbers, inputs.hypothesis)


def store_baseline(file: Path, scorer: Scorer | AdapterNetwork, sample: ModelInputs) -> None:
    """Writes a fitted baseline.

    Args:
        file: the file.
        scorer: one of the kinds in ``STORABLE``.
        sample: events on which the file must score as the classifier itself.

    Raises:
        InputError: if the baseline is of another kind, or the file would score otherwise.
    """
    arrays, record = _as_arrays(scorer)
    with write_aside(file) as aside:
        save_file(arrays, aside, {_RECORD: json.dumps(record)})
        again = load_baseline(aside).score(sample)
        if not np.array_equal(again, StoredBaseline(scorer).score(sample)):
            raise InputError(
                f"{file}: the stored baseline scores otherwise than the fitted one; this version "
                "of scikit-learn has other trees than hepllm reads, so leave the baseline out"
            )


def load_baseline(file: Path) -> StoredBaseline:
    """Reads a baseline.

    Raises:
        InputError: if the file is missing or damaged.
    """
    try:
        with safe_open(file, "np") as opened:
            record = json.loads((opened.metadata() or {})[_RECORD])
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        return StoredBaseline(_of_arrays(arrays, record))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"{file}: not readable: {reason}; make the ensemble again with 'hepllm ensemble'"
        ) from None


def _as_arrays(scorer: Scorer | AdapterNetwork) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The numbers of a baseline, and what else describes it."""
    if isinstance(scorer, AdapterNetwork):
        state = {name: values.numpy() for name, values in scorer.state_dict().items()}
        fusion = scorer.fusion.model_dump(mode="json")
        return state, {"kind": PARTICLES, "names": scorer.names, "fusion": fusion}
    record: dict[str, Any] = {"kind": BOOSTING}
    if isinstance(scorer, GivenHypothesis):
        record |= {"names": scorer.names, "differences": scorer.differences}
        scorer = scorer.scorer
    if not isinstance(scorer, Boosting):
        raise InputError(f"baselines that can be kept in files are {', '.join(STORABLE)}")
    return dict(vars(Trees.of(scorer))), record


def _of_arrays(arrays: dict[str, NDArray[Any]], record: dict[str, Any]) -> Scorer | AdapterNetwork:
    if record["kind"] == PARTICLES:
        fusion = FusionConfig.model_validate(record["fusion"])
        return AdapterNetwork.of_state(tuple(record["names"]), fusion, arrays)
    trees = Trees(**arrays)
    if "differences" not in record:
        return trees
    return GivenHypothesis(trees, tuple(record["names"]), record["differences"])
