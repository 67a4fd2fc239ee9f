"""The Python interface: a trained run as an object, and a classifier in scikit-learn's manner.

from hepllm import EventClassifier

classifier = EventClassifier.load("runs/latest")
classifier.predict_proba(frame)  # columns named as features

classifier = EventClassifier("demo").fit(features, labels)  # trains the run folder runs/fit-1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, overload

import awkward as ak
import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, check_random_state

from hepllm.arrays import Floats
from hepllm.config import Config, override_config
from hepllm.data.particles import leading_jets
from hepllm.data.tables_in_memory import column_names, unnamed_rows
from hepllm.errors import InputError
from hepllm.model.inputs import ModelInputs
from hepllm.physics.in_memory import (
    as_particles,
    as_table,
    checked_rows,
    describe_particles,
    features_of_table,
)
from hepllm.runs.folder import open_run
from hepllm.runs.predictor import Predictor, load_predictor
from hepllm.schema import BACKGROUND, SIGNAL
from hepllm.stages.fit import (
    LabelledEvents,
    binary_labels,
    config_of_features,
    config_to_fit,
    event_weights,
    events_to_fit,
    fit,
    new_run_folder,
)
from hepllm.stages.predict import Prediction, predict, prediction_config, rows_of_texts

if TYPE_CHECKING:
    from hepllm.explain.explanation import Explanation

Events: TypeAlias = Mapping[str, ArrayLike] | ArrayLike | ak.Array | pa.Table | str | Sequence[str]
"""Events in any form that ``EventClassifier.rows`` takes."""

_NOT_PICKLED = ("_opened", "_asked")
"""Attributes that hold the model; whoever unpickles a classifier loads it from the run folder."""


class EventClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of events: a trained run (``load``), or one that ``fit`` trains.

    It follows scikit-learn's rules: ``clone``, pipelines, cross-validation and searches over
    settings work. A pickle is small, because it refers to the run folder, which must be there with
    the same weights when the classifier is used.

    Args:
        config: configuration file, or the name of a preset such as ``demo``; None: the defaults.
        settings: settings as for ``--set``, such as ``("train.epochs=2",)``.
        run: run folder that ``fit`` makes, with its events beside it in ``<run>.data``; None: a
            new one, ``runs/fit-<number>``.
        validation_fraction: share of the events of ``fit`` to choose the best weights and to
            calibrate probabilities.
        random_state: seed in place of the setting ``seed``; None: that setting.

    Attributes:
        run_: the run folder.
        classes_: the labels of background and signal in ``fit``; 0 and 1 of a loaded run.
        columns_: names of the columns that an array of events has.
        n_features_in_: their number.
        feature_names_in_: their names where ``fit`` was given a table, as scikit-learn has it.
    """

    run_: Path
    classes_: NDArray[Any]
    columns_: tuple[str, ...]
    n_features_in_: int

    def __init__(
        self,
        config: str | Path | None = None,
        settings: Sequence[str] = (),
        *,
        run: str | Path | None = None,
        validation_fraction: float = 0.2,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.config = config
        self.settings = settings
        self.run = run
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    @classmethod
    def load(cls, run: str | Path = "runs/latest", *overrides: str) -> Self:
        """Loads a run folder that ``hepllm train`` made.

        Args:
            run: the folder.
            overrides: settings as for ``--set``, such as ``evaluation.calibration=isotonic``.

        Raises:
            InputError: the folder is not a run, or its training did not finish.
            ConfigError: an override is not valid.
        """
        opened = _open(Path(run), overrides)
        folder = Path(run).resolve()  # 'latest' is another run one day
        loaded = cls(folder / "config.yaml", overrides)
        loaded._become(folder, opened, np.array([BACKGROUND, SIGNAL]), opened[0].names)
        return loaded

    def fit(
        self,
        X: Events,  # noqa: N803 (scikit-learn's name)
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Trains on events in memory and leaves the run folder ``run_``.

        Args:
            X: N events as for ``rows``, but no texts. The columns of a table become the features,
                also those of the user's own; those of an array are the ones of the setting
                ``train.features`` if their number is the same, and else ``x0``, ``x1``, ...
            y: (N,) labels of two classes, of which the larger one is signal.
            sample_weight: (N,) event weights; None: all 1.

        Raises:
            InputError: the events or labels cannot be used, or ``run`` exists.
            ConfigError: the configuration or a setting is not valid.
            RunError: the training fails.
        """
        if not 0 < self.validation_fraction < 1:
            raise InputError(
                "validation_fraction: expected a share between 0 and 1, found "
                f"{self.validation_fraction}"
            )
        seed = self.random_state
        if seed is not None and not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31)
        config = config_to_fit(self.config, self.settings, None if seed is None else int(seed))
        features, lists, names = events_to_fit(X, config)
        n_events = len(next(iter(features.values())))
        classes, label = binary_labels(y, n_events)
        weight = event_weights(sample_weight, label)
        events = LabelledEvents(features, label, weight, lists)
        config = config_of_features(config, names)
        folder = new_run_folder() if self.run is None else Path(self.run).absolute()
        fit(events, folder, config, self.validation_fraction)
        self._become(folder, _open(folder), classes, names)
        if column_names(X) is not None:  # what scikit-learn's own tools look for
            self.feature_names_in_ = np.array(names, dtype=object)
        return self

    def _become(
        self,
        folder: Path,
        opened: tuple[Predictor, Config],
        classes: NDArray[Any],
        columns: tuple[str, ...],
    ) -> None:
        if not opened[0].run.is_ensemble:
            _ = opened[0].classifier  # loaded now, and not when the first event is scored
        for of_run_before in ("_weights", "feature_names_in_"):
            self.__dict__.pop(of_run_before, None)
        self.run_, self._opened = folder, opened
        self._asked: dict[str, Predictor] = {}
        self.classes_, self.columns_, self.n_features_in_ = classes, columns, len(columns)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that the model reads, in the order of the columns of ``rows``."""
        return self._predictor.names

    @property
    def training_fraction(self) -> float:
        """Signal fraction of the training events, which probabilities assume by default."""
        return self._predictor.calibration.map.prior

    def rows(self, events: Events) -> Floats:
        """Converts events to the rows that the model reads.

        Args:
            events: one of

                - a table with columns named as features, of shape (N,), in GeV and radians: a
                  mapping, a data frame, a table of Arrow, a structured array, an awkward array of
                  records or a list of dicts. Features that follow from its columns are derived as
                  for files, and one that neither is there nor follows is an error;
                - an (N, F) array with the columns of ``columns_``, NaN where missing;
                - lists of massless particles: an awkward array of N lists with momenta in GeV in
                  any coordinates of ``vector`` (``pt``, ``eta``, ``phi`` or ``px``, ``py``,
                  ``pz``), lists of lists of dicts, a mapping with the lists ``pt``, ``eta`` and
                  ``phi``, or a padded array of shape (N, slots, 3) with pT, eta and phi; they are
                  clustered with the jet settings of the training dataset;
                - one text or several, as ``hepllm.model.prompts.render`` writes events.

        None, masked and null entries are absent, as are NaN, sentinels (-999 and the like) and
        zero-padded particles and jets: the rule of docs/how-to/read-your-files.md.

        Returns:
            Shape (N, F), NaN where missing.

        Raises:
            InputError: the events have none of these forms, lack a feature, or have a value that
                cannot be.
        """
        if isinstance(events, str):
            return rows_of_texts([events], self.features)
        if as_particles(events) is not None:
            return self._inputs(events).numbers
        events = as_table(events)
        names = column_names(events)
        if names is not None:
            return self._columns(events, names)
        if isinstance(events, Sequence) and events and isinstance(events[0], str):
            return rows_of_texts([str(text) for text in events], self.features)
        rows = unnamed_rows(events)
        if rows.shape[1] != self.n_features_in_:
            raise InputError(
                f"X has {rows.shape[1]} features, but EventClassifier is expecting "
                f"{self.n_features_in_} features as input: expected rows of "
                f"{', '.join(self.columns_)}"
            )
        rows = checked_rows(rows, self.columns_)
        return rows[:, [self.columns_.index(name) for name in self.features]]

    @overload
    def score(self, events: Events, *, hypothesis: str | None = None) -> Floats: ...

    @overload
    def score(
        self, events: Events, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float: ...

    def score(
        self,
        events: Events,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        hypothesis: str | None = None,
    ) -> Floats | float:
        """Uncalibrated logits of signal, shape (N,); with labels ``y``, scikit-learn's accuracy.

        Args:
            events: as for ``rows``; for a model that reads particles, an awkward array of them.
            y: (N,) true labels, for the accuracy.
            sample_weight: (N,) event weights, for the accuracy.
            hypothesis: the signal in words, such as "Z' to a 730 GeV and a 380 GeV particle"; None
                to state nothing.

        Raises:
            InputError: the text is no hypothesis, or the run was trained without hypotheses.
        """
        if y is not None:
            return float(super().score(events, y, sample_weight))
        return self._for(hypothesis).score(self._inputs(events))

    def decision_function(
        self, events: Events, *, prior: float | None = None, hypothesis: str | None = None
    ) -> Floats:
        """Calibrated logits of signal, shape (N,); ``predict`` chooses signal above 0."""
        scores = self.score(events, hypothesis=hypothesis)
        return self._for(hypothesis).calibration.map.logits(scores, _checked(prior))

    def predict_proba(
        self, events: Events, *, prior: float | None = None, hypothesis: str | None = None
    ) -> Floats:
        """Calibrated probabilities of background and signal, in scikit-learn's order, shape (N, 2).

        The ``prior`` is the signal fraction of the events; None: that of the training events. For
        a ``hypothesis``, the first call scores the validation events under it.
        """
        scores = self.score(events, hypothesis=hypothesis)
        signal = self._for(hypothesis).probability(scores, _checked(prior))
        return np.column_stack([1 - signal, signal])

    def predict(
        self, events: Events, *, prior: float | None = None, hypothesis: str | None = None
    ) -> NDArray[Any]:
        """The more probable of ``classes_``, shape (N,); arguments as for ``predict_proba``."""
        is_signal = self.decision_function(events, prior=prior, hypothesis=hypothesis) > 0
        return np.asarray(self.classes_[is_signal.astype(np.int64)])

    def explain(
        self,
        events: Events,
        *,
        prior: float | None = None,
        threshold: float | None = None,
        hypothesis: str | None = None,
    ) -> list[Explanation]:
        """Explains the score of each event: which features made it, and what would change it.

        ``print`` shows an explanation as a paragraph.

        Args:
            events: as for ``score``; each takes as long as some hundred scores.
            prior: as for ``predict_proba``.
            threshold: score from which an event is signal; None: the one with the largest balanced
                accuracy on validation data.
            hypothesis: as for ``score``.

        Raises:
            InputError: the training dataset is missing, or an event has no features.
        """
        from hepllm.runs.picked_events import PickedEvent  # noqa: PLC0415
        from hepllm.stages.explain import explain_picked  # noqa: PLC0415 (captum loads slowly)

        asked, inputs = self._for(hypothesis), self._inputs(events)
        jets = inputs.particles
        picked = [
            PickedEvent(
                name=f"event-{place}",
                title=f"Event {place}",
                features=dict(zip(self.features, map(float, row), strict=True)),
                jets=None if jets is None else jets[place : place + 1],
            )
            for place, row in enumerate(inputs.numbers)
        ]
        return explain_picked(asked, picked, _checked(prior) or "training", threshold)

    def score_file(
        self,
        path: str | Path,
        output: str | Path,
        *,
        overwrite: bool = False,
        hypothesis: str | None = None,
    ) -> Prediction:
        """Scores an event file, a table or a dataset to a ``.parquet``, ``.csv`` or ``.root`` file.

        Raises:
            InputError: the input cannot be read, or the output exists and is not to be replaced.
        """
        asked = self._for(hypothesis)
        return predict(asked, Path(path), Path(output), self._config, overwrite=overwrite)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "run_" in state and "_weights" not in state:
            state["_weights"] = self._predictor.model.weights
        return {name: value for name, value in state.items() if name not in _NOT_PICKLED}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        return tags

    @property
    def _predictor(self) -> Predictor:
        return self._opened_run[0]

    @property
    def _config(self) -> Config:
        return self._opened_run[1]

    @property
    def _opened_run(self) -> tuple[Predictor, Config]:
        """The run and the settings of predictions; opened again after unpickling.

        Raises:
            InputError: the run folder is gone, or has other weights than when it was pickled.
        """
        check_is_fitted(self, "run_")
        if "_opened" not in self.__dict__:
            is_loaded = self.run_ / "config.yaml" == self.config
            opened = _open(self.run_, self.settings if is_loaded else ())
            if opened[0].model.weights != self._weights:
                raise InputError(
                    f"{self.run_}: its weights have changed since the classifier was pickled; "
                    "load the run again"
                )
            self._opened, self._asked = opened, {}
        return self._opened

    def _for(self, hypothesis: str | None) -> Predictor:
        """The predictor for a hypothesis, which is read and warned of once."""
        predictor = self._predictor
        if hypothesis is None:
            return predictor
        if hypothesis not in self._asked:
            self._asked[hypothesis] = predictor.asking(hypothesis)
        return self._asked[hypothesis]

    def _inputs(self, events: Events) -> ModelInputs:
        constituents = self._predictor.run.config.fusion.constituents
        particles = as_particles(events)
        if particles is None:
            if constituents:
                raise InputError(
                    "this model reads particles besides features: give an awkward array of them"
                )
            return ModelInputs(self.rows(events))
        features, lists = describe_particles(particles, self._config.preprocess, constituents)
        numbers = np.stack([features[name] for name in self.features], axis=1)
        if lists is None:
            return ModelInputs(numbers)
        return ModelInputs(numbers, leading_jets(lists, features, constituents))

    def _columns(self, events: Any, names: Sequence[str]) -> Floats:
        variables = self._predictor.run.config.preprocess.variables()
        absent = [name for name in self.features if name not in names]
        given = [name for name in self.features if name in names]
        wanted = dict.fromkeys((*given, *variables.inputs(absent)))
        features = variables.computed(features_of_table(events, names, tuple(wanted)), absent)
        return np.column_stack([features[name] for name in self.features])


def _open(folder: Path, overrides: Sequence[str] = ()) -> tuple[Predictor, Config]:
    config = override_config(prediction_config(open_run(folder)), overrides)
    return load_predictor(folder, config), config


def _checked(prior: float | None) -> float | None:
    if prior is not None and not 0 < prior < 1:
        raise InputError(f"prior: expected a fraction between 0 and 1, found {prior}")
    return prior
