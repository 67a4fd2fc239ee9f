"""``EventClassifier.fit``: trains on events in memory, as ``hepllm train`` does on a dataset.

The events become a dataset beside the run, so that every command can use the run.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from hepllm.arrays import Columns, Digests, Floats, Labels
from hepllm.config import Config, load_config, override_config
from hepllm.config.presets import preset_file
from hepllm.data.manifest import CutFlowStep, SourceFile
from hepllm.data.tables_in_memory import column_names, named_columns, unnamed_rows
from hepllm.data.writer import DatasetWriter, make_table
from hepllm.errors import InputError, StoppedError, nearest_name
from hepllm.files import write_aside
from hepllm.physics.events import digest_runs
from hepllm.physics.in_memory import (
    as_particles,
    as_table,
    checked_columns,
    checked_rows,
    describe_particles,
)
from hepllm.runs import RUNS_FOLDER
from hepllm.schema import BACKGROUND, FEATURES, SIGNAL, SPLITS
from hepllm.stages.train import TrainedRun, train

LOG = logging.getLogger(__name__)

_SOURCE = "fit"
_TRAIN, _VAL = SPLITS.index("train"), SPLITS.index("val")


@dataclass(frozen=True)
class LabelledEvents:
    """N events to train on.

    Attributes:
        features: (N,) values by name in GeV and radians, NaN where missing.
        label: 1 signal, 0 background.
        weight: event weights.
        particles: lists of constituents, for a model that reads them.
    """

    features: Columns
    label: Labels
    weight: Floats
    particles: Mapping[str, pa.Array] | None = None

    def digests(self) -> Digests:
        """A 64-bit digest of each event's content."""
        columns = [self.features[name] for name in sorted(self.features)]
        return digest_runs(columns, np.ones(len(self.label), dtype=np.int64))


def fit(events: LabelledEvents, output: Path, config: Config, validation: float) -> TrainedRun:
    """Writes events as the dataset ``<output>.data`` and trains the run ``output`` on it.

    Args:
        events: the events; equal ones are on the same side of the split.
        output: run folder to make, absent or empty.
        config: settings of the whole experiment.
        validation: share of each class to choose checkpoints and to calibrate probabilities.

    Raises:
        InputError: a class has too few different events, or the output exists.
        RunError: the training fails.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: exists; remove it, or choose another run folder")
    digests = events.digests()
    split = stratified_split(events.label, digests, validation, config.seed)
    dataset = output.with_name(f"{output.name}.data")
    if dataset.exists():
        raise InputError(f"{dataset}: exists; remove it, or choose another run folder")
    dataset.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write_dataset(dataset, events, digests, split, config)
        return train(dataset, output, config, overwrite=False)
    except StoppedError:  # has a checkpoint, from which 'hepllm train --resume' continues
        raise
    except BaseException:
        for folder in (dataset, output):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def config_to_fit(
    file: str | Path | None, settings: Sequence[str], seed: int | None = None
) -> Config:
    """Reads a configuration file, or the preset of a name, with further settings and a seed.

    Raises:
        ConfigError: there is no such file or preset, or a setting is not valid.
    """
    if isinstance(file, str) and not Path(file).exists() and not Path(file).suffix:
        file = preset_file(file)
    changes = [*settings, *([] if seed is None else [f"seed={seed}"])]
    return load_config(None if file is None else Path(file), changes)


def config_of_features(config: Config, names: Sequence[str]) -> Config:
    """The configuration of a model that reads these features, and columns of the user's own.

    Raises:
        ConfigError: a name is one of a column that is no feature, such as ``label``.
    """
    variables = config.preprocess.new_variables
    own = [name for name in names if name not in FEATURES and name not in variables]
    for name in own:
        hint = nearest_name(name, FEATURES, cutoff=0.8)
        if hint:
            LOG.warning("column '%s' is no feature of hepllm, but one of your own%s", name, hint)
    changes = {"preprocess.observers": own, "train.features": list(names)}
    return override_config(config, [f"{key}={json.dumps(value)}" for key, value in changes.items()])


def events_to_fit(
    events: Any, config: Config
) -> tuple[Columns, Mapping[str, pa.Array] | None, tuple[str, ...]]:
    """Features of events in memory, lists of constituents, and the names of the features.

    Args:
        events: as for ``EventClassifier.fit``.
        config: its configuration, whose features name the columns of an array.

    Raises:
        InputError: the events cannot be used.
    """
    configured = config.train.feature_names()
    particles = as_particles(events)
    constituents = config.fusion.constituents
    if particles is not None:
        features, lists = describe_particles(particles, config.preprocess, constituents)
        return features, lists, configured
    if constituents:
        raise InputError("fusion.inputs: this model reads particles: give an awkward array of them")
    events = as_table(events)
    names = column_names(events)
    if names is not None:
        return checked_columns(named_columns(events, names)), None, names
    rows = unnamed_rows(events)
    if rows.shape[1] != len(configured):  # nothing is known of the columns
        configured = tuple(f"x{place}" for place in range(rows.shape[1]))
    rows = checked_rows(rows, configured)
    return dict(zip(configured, rows.T.copy(), strict=True)), None, configured


def binary_labels(labels: ArrayLike | None, n_events: int) -> tuple[NDArray[Any], Labels]:
    """The two classes of labels, and 1 for events of the larger one, which is signal, else 0.

    Raises:
        InputError: the labels are not one of each event, or not of two classes.
    """
    if labels is None:
        raise InputError("y: training requires y to be passed, but the target y is None")
    try:
        values = column_or_1d(labels, warn=True)
        check_classification_targets(values)
    except ValueError as error:
        raise InputError(f"y: {error}") from None
    _check_length("y", len(values), n_events)
    classes, label = np.unique(values, return_inverse=True)
    if len(classes) > 2:
        raise InputError(
            "y: Only binary classification is supported. The type of the target is multiclass, "
            f"with {len(classes)} classes"
        )
    if len(classes) < 2:
        raise InputError(f"y: training needs two classes, found one class: {classes[0]!r}")
    return classes, label.astype(np.int8)


def event_weights(weights: ArrayLike | None, label: Labels) -> Floats:
    """Weights of events with labels 1 and 0; all 1 where there are none.

    Raises:
        InputError: they are not one finite number of each event, or leave one class only.
    """
    if weights is None:
        return np.ones(len(label))
    values = np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise InputError(
            f"sample_weight: Sample weights must be 1D array or scalar, finite numbers; found the "
            f"shape {values.shape}"
        )
    _check_length("sample_weight", len(values), len(label))
    for side, name in ((BACKGROUND, "background"), (SIGNAL, "signal")):
        if not values[label == side].any():
            raise InputError(
                f"sample_weight: all weights of {name} are zero; training needs two classes"
            )
    return values


def _check_length(name: str, found: int, n_events: int) -> None:
    if found != n_events:
        raise InputError(f"{name}: {found} values for {n_events} events; give one of each event")


def new_run_folder() -> Path:
    """Makes the empty folder ``runs/fit-<number>`` with the first number that is free."""
    RUNS_FOLDER.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = RUNS_FOLDER / f"fit-{number}"
        try:
            folder.mkdir()
        except FileExistsError:  # perhaps of another process, which fits a clone
            number += 1
        else:
            return folder.absolute()


def stratified_split(
    label: Labels, digests: Digests, validation: float, seed: int
) -> NDArray[np.int8]:
    """Splits events so that both classes are in training and validation.

    Args:
        label: 1 signal, 0 background, shape (N,).
        digests: digest of each event; equal events share a split.
        validation: share of each class for validation; at least one event of it, and not all.
        seed: seed of the choice.

    Returns:
        Positions in ``schema.SPLITS``, shape (N,).

    Raises:
        InputError: a class has not one event of its own for each of the two.
    """
    random, chosen = np.random.default_rng(seed), []
    for side in (BACKGROUND, SIGNAL):
        distinct = random.permutation(np.unique(digests[label == side]))
        most = max(1, len(distinct) - 1)
        chosen.append(distinct[: min(most, max(1, round(validation * len(distinct))))])
    split = np.where(np.isin(digests, np.concatenate(chosen)), _VAL, _TRAIN).astype(np.int8)
    for side, name in ((BACKGROUND, "background"), (SIGNAL, "signal")):
        if not (split[label == side] == _TRAIN).any():
            raise InputError(
                f"the {np.count_nonzero(label == side)} {name} events are too few, or too alike, "
                "to be divided into training and validation; give more"
            )
    return split


def _write_dataset(
    folder: Path,
    events: LabelledEvents,
    digests: Digests,
    split: NDArray[np.int8],
    config: Config,
) -> None:
    n_events = len(digests)
    rows: dict[str, NDArray[Any]] = {
        "event_id": np.arange(n_events, dtype=np.int64),
        "event_digest": digests,
        "label_raw": events.label.astype(np.int16),
        "weight": events.weight,
    }
    table = make_table(rows, events.features, (0, [_SOURCE]), split, events.particles)
    origin = SourceFile(
        name=_SOURCE, file="events in memory", size=table.nbytes, sha256="", events=n_events
    )
    with write_aside(folder) as aside:
        aside.mkdir()
        writer = DatasetWriter(aside)
        writer.write(table)
        steps = [CutFlowStep(name="events read", events=n_events)]
        writer.finish(config.model_dump(mode="json"), [origin], steps, tuple(events.features))
