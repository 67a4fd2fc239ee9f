"""The model of a run for scoring: loaded when needed, and known by what decides its scores."""

from __future__ import annotations

import functools
import gc
import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hepllm.arrays import Bools, Floats
from hepllm.baselines.boosting import BOOSTING
from hepllm.errors import InputError, RunError
from hepllm.files import file_digest
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis
from hepllm.learning.checkpoint import best_checkpoint
from hepllm.learning.passes import events_at_once
from hepllm.model.classifier import EventClassifier
from hepllm.model.devices import choose_device, choose_dtype
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import distinct_hypotheses, score_events
from hepllm.model.sources import identify_model
from hepllm.provenance import versions
from hepllm.runs.cascade import RunCascade
from hepllm.runs.folder import Run, make_encoder, open_run
from hepllm.runs.questions import fill

SCORE = "score"
"""Column of the scores."""

_LOADED = ("loaded", "encoder", "identity")
"""Properties of a model that are computed once."""

_VERSIONS = ("hepllm", "torch", "transformers", "peft", "bitsandbytes")


@dataclass(frozen=True, eq=False)
class RunModel:
    """The model of a run. A copy that is sent to a worker loads the weights there, once.

    Attributes:
        run: the run.
        batch_size: events per forward pass; None: as many as suit the layout, or fit.
    """

    run: Run
    batch_size: int | None

    def __reduce__(self) -> tuple[Callable[..., RunModel], tuple[Any, ...]]:
        folder = self.run.folder.absolute()
        return _model_of_worker, (folder, self.batch_size, self.identity["weights"])

    @functools.cached_property
    def loaded(self) -> tuple[EventClassifier, PromptEncoder]:
        """The classifier with the weights that are best on validation data, and its encoder."""
        return self.run.load_classifier()

    @functools.cached_property
    def encoder(self) -> PromptEncoder:
        """The encoder alone, which needs no weights."""
        return make_encoder(self.run.config)

    @property
    def device(self) -> torch.device:
        """The device of the model, which need not be loaded."""
        return choose_device(self.run.config.backbone.device)

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What decides the scores of given events, up to rounding; a JSON tree.

        Threads and batches are not in it, because they change a score by rounding at most:
        measured with SmolLM2, not at all for one or two threads and batches of 64 or 128; with two
        random layers, by 3e-8 for a batch of one.

        Raises:
            InputError: if the run has no checkpoint, or the device cannot be used.
        """
        config, found = self.run.config, versions()
        return {
            "weights": weights_digest(self.run),
            "backbone": identify_model(config.backbone.name),
            "quantization": config.backbone.quantization,
            "precision": str(choose_dtype(config.backbone.dtype, self.device)),
            "device": self.device.type,
            "features": list(config.train.feature_names()),
            "prompt": config.prompt.model_dump(mode="json"),
            "fusion": config.fusion.model_dump(mode="json"),
            "versions": {name: found[name] for name in _VERSIONS},
            "code": code_digest("hepllm.model", "hepllm.schema"),
        }

    def of(self, run: Run) -> RunModel:
        """The same model for the run with other validation events; not loaded a second time."""
        same = replace(self, run=run)
        same.__dict__.update(
            {name: self.__dict__[name] for name in _LOADED if name in self.__dict__}
        )
        return same

    @property
    def n_bytes(self) -> int:
        """Bytes of the loaded weights."""
        classifier, _ = self.loaded
        return sum(weight.nbytes for weight in classifier.parameters())

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of what it computes of an event."""
        return (SCORE,)

    @property
    def weights(self) -> str:
        """SHA-256 of what was trained."""
        return weights_digest(self.run)

    def columns(self, inputs: ModelInputs, *, silenced: bool = False) -> dict[str, Floats]:
        """Scores N events; arrays (N,) by column, of which ``SCORE`` is one.

        Args:
            inputs: the events.
            silenced: whether the soft tokens are zero, for an ablation.
        """
        return {SCORE: self._score(inputs, silenced=silenced)}

    def _score(self, inputs: ModelInputs, *, silenced: bool) -> Floats:
        if not len(inputs):
            return np.empty(0)
        classifier, encoder = self.loaded
        size = self.batch_size or events_at_once(classifier, encoder, inputs)
        if not silenced:
            return score_events(classifier, encoder, inputs, batch_size=size)
        place = np.arange(len(inputs))
        if encoder.reads_hypotheses and not encoder.prints_numbers:
            # Without soft tokens an event is its question, which is scored once.
            first, place = distinct_hypotheses(inputs)
            inputs = inputs.take(first)
        with classifier.silenced_fusion():
            return score_events(classifier, encoder, inputs, batch_size=size)[place]

    def release(self) -> None:
        """Removes the weights from memory; the next events load them again."""
        if self.__dict__.pop("loaded", None) is None:
            return
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@dataclass(frozen=True, eq=False)
class PieceScorer:
    """Scores the events of one piece, here or in a worker.

    Attributes:
        model: the model.
        cascade: boosting before the model; None where the model scores all events.
        silenced: whether the soft tokens are zero, for an ablation.
        hypothesis: under which events are scored that have none of their own.
    """

    model: RunModel
    cascade: RunCascade | None = None
    silenced: bool = False
    hypothesis: Hypothesis = OPEN

    def asked(self, inputs: ModelInputs) -> ModelInputs:
        """The inputs with the hypothesis under which they are scored; None for the open one."""
        if inputs.hypothesis is not None or self.hypothesis is OPEN:
            return inputs
        return replace(inputs, hypothesis=fill(self.hypothesis, len(inputs)))

    def score(self, inputs: ModelInputs) -> Floats:
        """Scores N events, shape (N,); with a cascade, the joined scores."""
        return self.columns(inputs)[SCORE]

    def columns(self, inputs: ModelInputs) -> dict[str, Floats]:
        """Scores N events; arrays (N,) by column, of which ``SCORE`` is one.

        With a cascade there is also the logit of the boosting, and other columns of the model are
        NaN where the boosting decides.
        """
        inputs = self.asked(inputs)
        if self.cascade is None:
            return self.model.columns(inputs, silenced=self.silenced)
        found: dict[str, Floats] = {}

        def score_kept(kept: Bools) -> Floats:
            for name, values in self.model.columns(inputs.take(kept)).items():
                found[name] = spread_out(values, kept)
            return found[SCORE][kept]

        joined = self.cascade.score(inputs.numbers, score_kept).score
        for name in self.model.column_names:
            found.setdefault(name, np.full(len(inputs), np.nan))
        boosting = self.cascade.boosting.score(inputs.numbers)
        return {**found, SCORE: joined, BOOSTING: boosting}


def spread_out(values: Floats, chosen: Bools) -> Floats:
    """Values of the K chosen ones of N events, as shape (N,) with NaN elsewhere."""
    whole = np.full(len(chosen), np.nan)
    whole[chosen] = values
    return whole


@functools.lru_cache(maxsize=1)
def _model_of_worker(folder: Path, batch_size: int | None, weights: str) -> RunModel:
    """Opens a run in a worker, which keeps its model for the next piece."""
    return opened_in_worker(lambda: RunModel(open_run(folder), batch_size), weights)


def opened_in_worker(open_it: Callable[[], RunModel], weights: str) -> RunModel:
    """Opens a model in a worker.

    Raises:
        RunError: if it cannot be opened there, or has other weights than ``weights``.
    """
    torch.set_num_threads(1)  # one worker per core
    try:
        model = open_it()
    except InputError as error:
        raise RunError(f"{error}; workers on other machines must share this folder") from None
    if model.weights != weights:
        raise RunError(
            f"{model.run.folder}: its weights have changed since the scoring began; start again"
        )
    return model


def weights_digest(run: Run) -> str:
    """SHA-256 of the trained weights that are best on validation data."""
    digest = hashlib.sha256()
    for file in sorted(best_checkpoint(run.checkpoints).glob("*.safetensors")):
        if not file.name.startswith("optimizer"):
            digest.update(file_digest(file).encode())
    return digest.hexdigest()


@functools.cache
def code_digest(*names: str) -> str:
    """SHA-256 of the source files of packages and modules, so that a change of code is noticed."""
    digest = hashlib.sha256()
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ImportError(f"{name}: no source")
        origin = Path(spec.origin)
        is_package = spec.submodule_search_locations is not None
        for file in sorted(origin.parent.rglob("*.py")) if is_package else [origin]:
            digest.update(file.read_bytes())
    return digest.hexdigest()
