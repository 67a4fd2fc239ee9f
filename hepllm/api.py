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
import vector
from numpy.typing import ArrayLike

from hepllm.arrays import Floats
from hepllm.config import Config, override_config
from hepllm.errors import InputError, nearest_name
from hepllm.model.inputs import ModelInputs
from hepllm.physics.events import EventBatch, Particles, describe_defects
from hepllm.physics.features import features_of_jets
from hepllm.physics.jets import cluster
from hepllm.runs.folder import open_run
from hepllm.runs.predictor import Predictor, load_predictor
from hepllm.stages.predict import Prediction, predict, prediction_config, rows_of_texts

Events: TypeAlias = Mapping[str, ArrayLike] | ArrayLike | ak.Array | str | Sequence[str]
"""Events in any form that ``EventClassifier`` takes; see its ``rows``."""

_PARTICLE_FIELDS = ("pt", "eta", "phi")


class EventClassifier:
    """A trained run; made by ``load``."""

    def __init__(self, predictor: Predictor, config: Config) -> None:
        """Takes a loaded run and the settings by which events are clustered and files read."""
        self._predictor = predictor
        self._config = config

    @classmethod
    def load(cls, run: str | Path = "runs/latest", *overrides: str) -> Self:
        """Loads a run folder.

        Args:
            run: made by ``hepllm train``.
            overrides: settings as for ``--set``, such as ``evaluation.calibration=isotonic``.

        Raises:
            InputError: if it is no run, or was not finished.
            ConfigError: for overrides that no configuration allows.
        """
        folder = Path(run)
        config = override_config(prediction_config(open_run(folder)), overrides)
        return cls(load_predictor(folder, config), config)

    @property
    def features(self) -> tuple[str, ...]:
        """The features that the model reads, in the order of the columns of an array."""
        return self._predictor.names

    @property
    def training_fraction(self) -> float:
        """The signal fraction of the training events, in which probabilities hold by default."""
        return self._predictor.calibration.map.prior

    def rows(self, events: Events) -> Floats:
        """Events as the model reads them.

        Args:
            events: one of

                - a mapping (or data frame) of feature names to (N,) values in GeV and radians; a
                  feature that is absent counts as missing;
                - an (N, F) array with the columns of ``features``, NaN where missing;
                - an awkward array of N lists of particles, taken as massless, with momenta in any
                  coordinates that ``vector`` knows (``pt``, ``eta``, ``phi``; ``px``, ``py``,
                  ``pz``; GeV), which are clustered as the training events were;
                - a text, or several, as ``hepllm.model.prompts.render`` writes events.

        Returns:
            Shape (N, F), NaN where missing.

        Raises:
            InputError: for events that cannot be understood or clustered.
        """
        if isinstance(events, str):
            return rows_of_texts([events], self.features)
        if isinstance(events, ak.Array):
            return self._cluster(events)
        if _is_table(events):
            return self._columns(events)
        if isinstance(events, Sequence) and events and isinstance(events[0], str):
            return rows_of_texts([str(text) for text in events], self.features)
        rows = np.atleast_2d(np.asarray(events, dtype=np.float64))
        if rows.ndim != 2 or rows.shape[1] != len(self.features):
            raise InputError(
                f"expected rows of {len(self.features)} features, found shape {rows.shape}"
            )
        return rows

    def score(self, events: Events) -> Floats:
        """Logits of signal as the model gives them, uncalibrated, shape (N,)."""
        return self._predictor.score(ModelInputs(self.rows(events)))

    def predict_proba(self, events: Events, *, prior: float | None = None) -> Floats:
        """Calibrated probabilities of background and signal, as scikit-learn orders classes.

        Args:
            events: N events in any form that ``rows`` takes.
            prior: signal fraction of the events; None for that of the training events.

        Returns:
            Shape (N, 2).
        """
        if prior is not None and not 0 < prior < 1:
            raise InputError(f"a prior is a share between 0 and 1, found {prior}")
        signal = self._predictor.probability(self.score(events), prior)
        return np.column_stack([1 - signal, signal])

    def score_file(
        self, path: str | Path, output: str | Path, *, overwrite: bool = False
    ) -> Prediction:
        """Scores a file of any supported format, or a dataset, piece by piece.

        Args:
            path: as for ``hepllm predict``.
            output: ``.parquet``, ``.csv`` or ``.root``.
            overwrite: replace an output that exists.

        Raises:
            InputError: the input cannot be read, or the output is in the way.
        """
        return predict(self._predictor, Path(path), Path(output), self._config, overwrite=overwrite)

    def _columns(self, events: Any) -> Floats:
        names = [str(name) for name in events.keys()]  # noqa: SIM118 (a data frame has it too)
        known = [name for name in names if name in self.features]
        if not known:
            hint = nearest_name(names[0], self.features) if names else ""
            raise InputError(
                f"none of the model's features among {', '.join(names) or 'no columns'}{hint}"
            )
        columns = {name: np.asarray(events[name], dtype=np.float64) for name in known}
        lengths = {np.atleast_1d(values).shape for values in columns.values()}
        if len(lengths) > 1:
            raise InputError(f"columns of different shapes: {', '.join(map(str, sorted(lengths)))}")
        (shape,) = lengths
        nothing = np.full(shape, np.nan)
        return np.column_stack([columns.get(name, nothing) for name in self.features])

    def _cluster(self, events: ak.Array) -> Floats:
        if events.ndim != 2:
            raise InputError(f"expected events of particles, two dimensions, found {events.ndim}")
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
        jets = cluster(particles, self._config.preprocess.jets)
        features = features_of_jets(particles, jets, self._config.preprocess.jets)
        return np.stack([features[name] for name in self.features], axis=1)


def _is_table(events: object) -> bool:
    """Whether this is a mapping of columns, or a data frame, which is none by type."""
    return hasattr(events, "keys") and hasattr(events, "__getitem__")


def _refuse_defects(particles: Particles) -> None:
    n_events = len(particles)
    batch = EventBatch(np.arange(n_events), particles, np.full(n_events, np.nan), np.ones(n_events))
    defects = describe_defects(batch)
    if defects:
        raise InputError(f"events cannot be clustered: {', '.join(text for text, _ in defects)}")
