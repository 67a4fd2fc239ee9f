"""Events in memory are divided as a training needs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hepllm.errors import ConfigError, InputError
from hepllm.schema import SPLITS
from hepllm.stages.fit import binary_labels, config_to_fit, event_weights, stratified_split

LABEL = np.array([0, 1], dtype=np.int8)
VAL = SPLITS.index("val")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
def test_both_classes_are_on_both_sides_and_equal_events_on_one(share: float) -> None:
    random = np.random.default_rng(1)
    label = (random.random(80) < 0.2).astype(np.int8)
    digests = random.integers(0, 60, 80).astype(np.uint64) + np.uint64(1000) * label.astype("u8")
    split = stratified_split(label, digests, share, seed=5)
    for side in (0, 1):
        assert set(split[label == side]) == {SPLITS.index("train"), VAL}
    for digest in np.unique(digests):
        assert len(set(split[digests == digest])) == 1
    np.testing.assert_array_equal(split, stratified_split(label, digests, share, seed=5))
    assert (split != stratified_split(label, digests, share, seed=6)).any()


def test_the_share_is_that_of_each_class() -> None:
    label = np.repeat([0, 1], [800, 200]).astype(np.int8)
    split = stratified_split(label, np.arange(1000).astype(np.uint64), 0.25, seed=1)
    assert [int((split[label == side] == VAL).sum()) for side in (0, 1)] == [200, 50]


def test_one_event_of_a_class_is_too_few() -> None:
    label = np.array([0, 0, 0, 1], dtype=np.int8)
    with pytest.raises(InputError, match="the 1 signal events are too few"):
        stratified_split(label, np.arange(4).astype(np.uint64), 0.5, seed=1)


def test_labels_of_any_kind_have_the_larger_one_as_signal() -> None:
    for labels in ([False, True], ["background", "signal"], [-1.0, 1.0], [[0], [1]]):
        given = labels if not isinstance(labels[0], list) else np.ravel(labels)
        classes, label = binary_labels(given, 2)
        assert list(label) == [0, 1]
        assert classes[1] == given[1]


@pytest.mark.parametrize("weights", [[1.0], [[1.0, 2.0]], [1.0, np.inf]])
def test_weights_are_one_finite_number_of_each_event(weights: list[float]) -> None:
    with pytest.raises(InputError, match="sample_weight"):
        event_weights(weights, LABEL)
    np.testing.assert_array_equal(event_weights([-1.0, 2.0], LABEL), [-1, 2])
    with pytest.raises(InputError, match="signal are zero"):
        event_weights([1.0, 0.0], LABEL)


def test_settings_come_from_a_file_a_preset_or_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("name: own\n")
    assert config_to_fit(file, ()).name == config_to_fit(str(file), ()).name == "own"
    assert config_to_fit("tiny", ("train.epochs=9",), seed=7).train.epochs == 9
    assert config_to_fit(None, (), seed=7).seed == 7
    with pytest.raises(ConfigError, match="no such configuration file"):
        config_to_fit(str(tmp_path / "gone.yaml"), ())
