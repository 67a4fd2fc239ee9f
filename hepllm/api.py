"""The Python interface: a trained run as an object.

from hepllm import EventClassifier

classifier = EventClassifier.load("runs/latest")
classifier.predict_proba({"jet_mass_light": [95.0], "jet_mass_delta": [402.0], ...})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias

import awkward as ak
import numpy as np
import pyarrow as pa
import vector
from numpy.typing import ArrayLike

from hepllm.arrays import Columns, Floats
from hepllm.config import Config, override_config
from hepllm.data.particles import leading_jets
from hepllm.errors import InputError, nearest_name
from hepllm.model.inputs import ModelInputs
from hepllm.physics.chunks import describe_events
from hepllm.physics.events import EventBatch, Particles, describe_defects
from hepllm.runs.folder import open_run
from hepllm.runs.predictor import Predictor, load_predictor
from hepllm.stages.predict import Prediction, predict, prediction_config, rows_of_texts

Events: TypeAlias = Mapping[str, ArrayLike] | ArrayLike | ak.Array | str | Sequence[str]
"""Events in any form that ``EventClassifier.rows`` takes."""

_PARTICLE_FIELDS = ("pt", "eta", "phi")


class EventClassifier:
    """A trained run; made by ``load``."""

    def __init__(self, predictor: Predictor, config: Config) -> None:
        self._predictor = predictor
        self._config = config
        self._asked: dict[str, Predictor] = {}

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
        folder = Path(run)
        config = override_config(prediction_config(open_run(folder)), overrides)
        predictor = load_predictor(folder, config)
        _ = predictor.classifier  # loaded now, and not when the first event is scored
        return cls(predictor, config)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that the model reads, in the order of the array's columns."""
        return self._predictor.names

    @property
    def training_fraction(self) -> float:
        """Signal fraction of the training events, which probabilities assume by default."""
        return self._predictor.calibration.map.prior

    def rows(self, events: Events) -> Floats:
        """Converts events to the rows that the model reads.

        Args:
            events: one of

                - a mapping (or data frame) of feature names to (N,) values in GeV and radians; a
                  feature that is absent counts as missing;
                - an (N, F) array with the columns of ``features``, NaN where missing;
                - an awkward array of N lists of massless particles, with momenta in GeV in any
                  coordinates of ``vector`` (``pt``, ``eta``, ``phi`` or ``px``, ``py``, ``pz``);
                  they are clustered with the jet settings of the training dataset;
                - one text or several, as ``hepllm.model.prompts.render`` writes events.

        Returns:
            Shape (N, F), NaN where missing.

        Raises:
            InputError: the events have none of these forms, or cannot be clustered.
        """
        if isinstance(events, str):
            return rows_of_texts([events], self.features)
        if isinstance(events, ak.Array):
            return self._inputs(events).numbers
        if hasattr(events, "keys"):  # a mapping or a data frame, which is not a ``Mapping``
            return self._columns(events)
        if isinstance(events, Sequence) and events and isinstance(events[0], str):
            return rows_of_texts([str(text) for text in events], self.features)
        rows = np.atleast_2d(np.asarray(events, dtype=np.float64))
        if rows.ndim != 2 or rows.shape[1] != len(self.features):
            raise InputError(f"expected rows of {len(self.features)} features, found {rows.shape}")
        return rows

    def score(self, events: Events, *, hypothesis: str | None = None) -> Floats:
        """Uncalibrated logits of signal, shape (N,).

        Args:
            events: as for ``rows``; for a model that reads particles, an awkward array of them.
            hypothesis: the signal in words, such as "Z' to a 730 GeV and a 380 GeV particle"; None
                to state nothing.

        Raises:
            InputError: the text is no hypothesis, or the run was trained without hypotheses.
        """
        return self._for(hypothesis).score(self._inputs(events))

    def predict_proba(
        self, events: Events, *, prior: float | None = None, hypothesis: str | None = None
    ) -> Floats:
        """Calibrated probabilities of background and signal, in scikit-learn's order, shape (N, 2).

        The ``prior`` is the signal fraction of the events; None: that of the training events. For
        a ``hypothesis``, the first call scores the validation events under it.
        """
        if prior is not None and not 0 < prior < 1:
            raise InputError(f"prior: expected a fraction between 0 and 1, found {prior}")
        scores = self.score(events, hypothesis=hypothesis)
        signal = self._for(hypothesis).probability(scores, prior)
        return np.column_stack([1 - signal, signal])

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

    def _for(self, hypothesis: str | None) -> Predictor:
        """The predictor for a hypothesis, which is read and warned of once."""
        if hypothesis is None:
            return self._predictor
        if hypothesis not in self._asked:
            self._asked[hypothesis] = self._predictor.asking(hypothesis)
        return self._asked[hypothesis]

    def _inputs(self, events: Events) -> ModelInputs:
        if not isinstance(events, ak.Array):
            if self._constituents:
                raise InputError(
                    "this model reads particles besides features: give an awkward array of them"
                )
            return ModelInputs(self.rows(events))
        features, lists = self._describe(events)
        numbers = np.stack([features[name] for name in self.features], axis=1)
        if lists is None:
            return ModelInputs(numbers)
        return ModelInputs(numbers, leading_jets(lists, features, self._constituents))

    @property
    def _constituents(self) -> int:
        """Constituents of each leading jet that the model reads; 0: none."""
        return self._predictor.run.config.fusion.constituents

    def _columns(self, events: Any) -> Floats:
        names = [str(name) for name in events.keys()]  # noqa: SIM118 (a data frame has it too)
        known = [name for name in names if name in self.features]
        if not known:
            hint = nearest_name(names[0], self.features) if names else ""
            found = ", ".join(names) or "no columns"
            raise InputError(f"expected columns named as the model's features, found {found}{hint}")
        columns = {name: np.asarray(events[name], dtype=np.float64) for name in known}
        lengths = {np.atleast_1d(values).shape for values in columns.values()}
        if len(lengths) > 1:
            raise InputError(f"columns of different shapes: {', '.join(map(str, sorted(lengths)))}")
        missing = np.full(lengths.pop(), np.nan)
        return np.column_stack([columns.get(name, missing) for name in self.features])

    def _describe(self, events: ak.Array) -> tuple[Columns, Mapping[str, pa.Array] | None]:
        """The features of clustered events, and the lists of constituents for a model of them."""
        if events.ndim != 2:
            raise InputError(f"expected lists of particles (2 dimensions), found {events.ndim}")
        try:
            momenta = vector.Array(events)
            flat = [ak.to_numpy(ak.flatten(getattr(momenta, name))) for name in _PARTICLE_FIELDS]
        except (TypeError, AttributeError):
            raise InputError(
                "particles need three-momenta, such as the fields pt, eta, phi or px, py, pz; "
                f"found {', '.join(ak.fields(events)) or 'no fields'}"
            ) from None
        pt, eta, phi = (values.astype(np.float64) for values in flat)
        counts = ak.to_numpy(ak.num(events)).astype(np.int64)
        particles = Particles(pt, eta, phi, counts)
        _refuse_defects(particles)
        changes = {"particles_per_jet": self._constituents}
        return describe_events(particles, self._config.preprocess.model_copy(update=changes))


def _refuse_defects(particles: Particles) -> None:
    n_events = len(particles)
    batch = EventBatch(np.arange(n_events), particles, np.full(n_events, np.nan), np.ones(n_events))
    defects = describe_defects(batch)
    if defects:
        raise InputError(f"events cannot be clustered: {', '.join(text for text, _ in defects)}")
