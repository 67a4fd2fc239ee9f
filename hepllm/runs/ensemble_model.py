"""The model behind a run, and that of an ensemble, which averages those of its members."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hepllm.arrays import Floats, Ints
from hepllm.baselines.stored import StoredBaseline, load_baseline
from hepllm.errors import InputError
from hepllm.evaluation.averaging import SPREAD, MemberRecord, combine
from hepllm.evaluation.calibration import Calibration
from hepllm.files import file_digest
from hepllm.host import available_memory
from hepllm.learning.checkpoint import best_checkpoint
from hepllm.model.backbone import check_backbone
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.runs import require_run
from hepllm.runs.folder import Run, open_run
from hepllm.runs.run_model import SCORE, RunModel, code_digest, opened_in_worker, weights_digest

MEMBERS = "members"
"""Folder of the stored baselines in that of an ensemble."""

_AGAIN = "make the ensemble again with 'hepllm ensemble'"


def baseline_file(ensemble: Path, name: str) -> Path:
    """The file of a baseline that is a member."""
    return ensemble / MEMBERS / f"{name}.safetensors"


@dataclass(frozen=True, eq=False)
class Member:
    """A classifier of an ensemble.

    Attributes:
        record: what the ensemble records of it.
        columns: places of its features among those of the ensemble.
        prior: signal fraction for which the logits of all members are valid.
        model: the model of its run; None for a baseline.
        file: file of a baseline; None for a run.
    """

    record: MemberRecord
    columns: Ints
    prior: float
    model: RunModel | None
    file: Path | None = None

    @functools.cached_property
    def calibration(self) -> Calibration:
        """The map from its scores to logits."""
        return self.record.logits.calibration()

    @functools.cached_property
    def baseline(self) -> StoredBaseline:
        """The baseline from its file."""
        if self.file is None:
            raise ValueError(f"{self.record.name} is no baseline")
        return load_baseline(self.file)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides its scores of given events; a JSON tree."""
        if self.model is not None:
            return self.model.identity
        code = code_digest("hepllm.baselines", "hepllm.hypotheses", "hepllm.model.adapter")
        return {"baseline": self.record.sha256, "code": code}

    def inputs(self, inputs: ModelInputs) -> ModelInputs:
        """What it reads of the inputs of the ensemble."""
        particles, deep = inputs.particles, self.record.constituents
        return replace(
            inputs,
            numbers=inputs.numbers[:, self.columns],
            particles=particles[:, :, : 1 + deep] if deep and particles is not None else None,
            hypothesis=inputs.hypothesis if self.record.reads_hypotheses else None,
        )

    def score(self, inputs: ModelInputs) -> Floats:
        """Its scores of N events with its own inputs, shape (N,)."""
        if self.model is not None:
            return self.model.columns(inputs)[SCORE]
        return self.baseline.score(inputs)

    def logits(self, score: Floats) -> Floats:
        """Calibrated logits of N scores, shape (N,)."""
        return self.calibration.logits(score, self.prior)


@dataclass(frozen=True, eq=False)
class EnsembleModel(RunModel):
    """The mean of several models; made by ``open_model``.

    Attributes:
        members: the classifiers.
    """

    members: tuple[Member, ...] = ()

    def __reduce__(self) -> tuple[Callable[..., RunModel], tuple[Any, ...]]:
        return _ensemble_of_worker, (self.run.folder.absolute(), self.batch_size, self.weights)

    @functools.cached_property
    def loaded(self) -> tuple[EventClassifier, PromptEncoder]:
        """Raises InputError, since there is no one classifier."""
        return self.run.load_classifier()

    @functools.cached_property
    def encoder(self) -> PromptEncoder:
        """Raises InputError, since there is no one encoder."""
        return self.run.load_classifier()[1]

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What decides the scores of given events, up to rounding; a JSON tree."""
        return {
            "members": [
                {"scores": one.identity, "logits": one.record.logits.tree()} for one in self.members
            ]
        }

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of what it computes of an event."""
        return (SCORE, SPREAD)

    @property
    def weights(self) -> str:
        """Digests of all members, which were compared with their files when these were opened."""
        return " ".join(one.record.sha256 for one in self.members)

    @property
    def n_bytes(self) -> int:
        """Bytes of the weights of all members, taken as large as those of the first run."""
        models = [one.model for one in self.members if one.model is not None]
        return len(models) * models[0].n_bytes if models else 0

    def columns(self, inputs: ModelInputs, *, silenced: bool = False) -> dict[str, Floats]:
        """Scores N events: the mean logit of the members, and their spread, shape (N,) each."""
        if silenced:
            raise InputError(f"{self.run.folder}: an ensemble has no ablations")
        score, spread = combine(self.member_logits(inputs))
        return {SCORE: score, SPREAD: spread}

    def member_logits(self, inputs: ModelInputs) -> dict[str, Floats]:
        """Calibrated logits of N events, shape (N,), by name of the member."""
        found = {}
        for one in self.members:
            read = one.inputs(inputs)
            found[one.record.name] = one.logits(one.score(read) if len(read) else np.empty(0))
            if one.model is not None and not self._may_stay(one.model):
                one.model.release()
        return found

    def _may_stay(self, model: RunModel) -> bool:
        """Whether the weights of all members have room in memory at a time."""
        if "loaded" not in model.__dict__:
            return True
        n_models = sum(one.model is not None for one in self.members)
        free = (
            torch.cuda.mem_get_info(model.device)[0]
            if model.device.type == "cuda"
            else available_memory()
        )
        return (n_models - 1) * model.n_bytes <= free / 2


def open_model(run: Run, batch_size: int | None) -> RunModel:
    """Opens the model of a run or of an ensemble, which is loaded when it is needed.

    Args:
        run: the run.
        batch_size: events per forward pass; None: as many as suit the layout, or fit.

    Raises:
        InputError: if the training did not finish, the backbone cannot be loaded, or a member of an
            ensemble is missing or has changed.
    """
    members = run.record.members
    if not members:
        best_checkpoint(run.checkpoints)
        check_backbone(run.config.backbone)
        return RunModel(run, batch_size)
    prior = members[0].logits.prior
    return EnsembleModel(
        run, batch_size, tuple(_open_member(run, one, batch_size, prior) for one in members)
    )


def _open_member(
    ensemble: Run, record: MemberRecord, batch_size: int | None, prior: float
) -> Member:
    """Opens a member as it was when the ensemble was made."""
    names = ensemble.config.train.feature_names()
    columns = np.array([names.index(name) for name in record.features], dtype=np.int64)
    if record.baseline is not None:
        file = baseline_file(ensemble.folder, record.name)
        if not file.is_file() or file_digest(file) != record.sha256:
            raise InputError(f"{file}: missing or changed since the ensemble was made; {_AGAIN}")
        return Member(record, columns, prior, None, file)
    folder = ensemble.folder / record.run
    where = f"{ensemble.folder}: its member {folder}"
    try:
        require_run(folder)
    except InputError:
        raise InputError(f"{where} is missing; restore it, or {_AGAIN}") from None
    run = open_run(folder.resolve())  # messages name its files without a way through the ensemble
    if run.config.train.feature_names() != record.features:
        raise InputError(f"{where} reads other features than when it became one; {_AGAIN}")
    if weights_digest(run) != record.sha256:
        raise InputError(f"{where} was trained again since it became one; {_AGAIN}")
    return Member(record, columns, prior, open_model(run, batch_size))


@functools.lru_cache(maxsize=1)
def _ensemble_of_worker(folder: Path, batch_size: int | None, weights: str) -> RunModel:
    """Opens an ensemble in a worker, which keeps its models for the next piece."""
    return opened_in_worker(lambda: open_model(open_run(folder), batch_size), weights)
