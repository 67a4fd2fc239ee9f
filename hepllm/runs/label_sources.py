"""Where predictions of labels come from: a backbone, the model of a run, or a server."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hepllm.arrays import Labels
from hepllm.config import Config, LabelConfig
from hepllm.data.dataset import Dataset
from hepllm.data.event_table import EventTable
from hepllm.data.notes import find_events, read_notes
from hepllm.errors import InputError
from hepllm.executor import resolve_threads
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis
from hepllm.labelling.pool import Pool, draw_events, make_pool
from hepllm.labelling.predictions import LabelModel
from hepllm.labelling.wording import Wording, printed_features, write_items
from hepllm.learning.inputs import model_inputs
from hepllm.runs import RECORD
from hepllm.schema import BACKGROUND, SIGNAL, UNKNOWN

if TYPE_CHECKING:  # torch comes with it
    from hepllm.runs.folder import Run

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelSource:
    """A pool and the model that predicts its labels.

    Attributes:
        pool: the events.
        model: predicts a label from those of other events.
        name: name of the model, for people.
        identity: what decides its predictions; kept ones of another model are not used.
        features: features of the pool's events.
    """

    pool: Pool
    model: LabelModel
    name: str
    identity: Mapping[str, Any]
    features: tuple[str, ...]


def open_label_source(dataset: Dataset, config: Config, hypothesis: Hypothesis) -> LabelSource:
    """Draws the pool of a labelling and opens the model that ``label.backend`` names.

    Raises:
        InputError: the model cannot be opened, or cannot read these events or this hypothesis.
    """
    backend = config.label.backend
    if config.label.is_server:
        return _open_server(dataset, config, hypothesis)
    if backend == "local":
        return _open_backbone(dataset, config, hypothesis)
    if (Path(backend) / RECORD).is_file():
        return _open_run(dataset, config, hypothesis, Path(backend))
    raise InputError(
        f"label.backend: {backend}: neither local, nor a run folder, nor the address of a server "
        "that begins with http:// or https://"
    )


def _text_pool(dataset: Dataset, config: Config, hypothesis: Hypothesis) -> tuple[Pool, Wording]:
    """A pool whose items are read as text, and the text."""
    settings = config.label
    names = printed_features(settings)
    table = draw_events(dataset, names, settings.pool, config.seed, split=settings.split)
    pool = make_pool(
        table,
        model_inputs(table, names),
        settings.views,
        config.seed,
        _landmarks(config, table),
    )
    return pool, write_items(pool.inputs.numbers, names, settings, hypothesis)


def _open_backbone(dataset: Dataset, config: Config, hypothesis: Hypothesis) -> LabelSource:
    import torch

    from hepllm.labelling.local import backbone_model
    from hepllm.model.devices import choose_device, choose_dtype
    from hepllm.model.sources import identify_model

    torch.set_num_threads(resolve_threads(config.train.threads))
    pool, wording = _text_pool(dataset, config, hypothesis)
    model = backbone_model(config.backbone, wording, seed=config.seed, serial=config.label.serial)
    device = choose_device(config.backbone.device)
    identity = {
        **identify_model(config.backbone.name),
        "quantization": config.backbone.quantization,
        "precision": str(choose_dtype(config.backbone.dtype, device)),
    }
    return LabelSource(pool, model, config.backbone.name, identity, pool.names)


def _open_run(
    dataset: Dataset, config: Config, hypothesis: Hypothesis, folder: Path
) -> LabelSource:
    import torch

    from hepllm.labelling.local import run_model
    from hepllm.runs.averaged import averaged_run
    from hepllm.runs.folder import open_run
    from hepllm.runs.run_model import RunModel

    torch.set_num_threads(resolve_threads(config.train.threads))
    run, settings = open_run(folder), config.label
    _check_run(run, settings, hypothesis)
    names = run.config.train.feature_names()
    pool = _pool_of_run(run, dataset, config, hypothesis)
    scored = RunModel(run, None)
    classifier, encoder = scored.loaded
    if settings.hypotheses.masses:
        average = averaged_run(run, scored.loaded, pool.inputs, settings.hypotheses)
        identity = {**scored.identity, "hypotheses": settings.hypotheses.model_dump(mode="json")}
        return LabelSource(pool, average, f"{folder}, averaged over hypotheses", identity, names)
    model = run_model(
        classifier,
        encoder,
        pool.inputs,
        settings.names,
        names,
        serial=settings.serial,
        name=str(folder),
    )
    return LabelSource(pool, model, str(folder), scored.identity, names)


def _check_run(run: Run, settings: LabelConfig, hypothesis: Hypothesis) -> None:
    """Refuses runs that cannot label events under this hypothesis; warns of unfamiliar contexts."""
    from hepllm.runs.questions import read_question

    run.require_one_model()
    if run.config.prompt.chat_template:
        raise InputError(
            f"{run.folder}: its prompts have a chat template, which shows one event; use another "
            "run"
        )
    if hypothesis is not OPEN:
        if settings.hypotheses.masses:
            raise InputError(
                "label.hypotheses.masses averages over hypotheses, and --hypothesis states one; "
                "leave one of them out"
            )
        read_question(hypothesis.text, run.record.hypotheses, str(run.folder))
    _tell_examples(settings, run.config.train.examples.most, run.folder)


def _pool_of_run(run: Run, dataset: Dataset, config: Config, hypothesis: Hypothesis) -> Pool:
    """A pool of events that the run has not seen, as its model reads them."""
    from hepllm.runs.questions import fill

    settings, names = config.label, run.config.train.feature_names()
    table = draw_events(
        run.known(dataset),
        names,
        settings.pool,
        config.seed,
        split=settings.split,
        particles=run.config.fusion.constituents,
        used=run.used_events(),
    )
    inputs = model_inputs(table, names)
    if hypothesis is not OPEN:
        inputs = replace(inputs, hypothesis=fill(hypothesis, len(table)))
    return make_pool(table, inputs, settings.views, config.seed, _landmarks(config, table))


def _tell_examples(settings: LabelConfig, most: int, folder: Path) -> None:
    """Warns where contexts are used that are no part of a run's training."""
    is_alone = settings.method in {"zero-shot", "k-means"} or settings.hypotheses.masses
    if is_alone or most >= settings.context:
        return
    if most:
        LOG.warning(
            "%s: its training showed at most %d labelled events, and label.context=%d; set "
            "label.context=%d, or train with more train.examples.most",
            *(folder, most, settings.context, most),
        )
        return
    LOG.warning(
        "%s: its training never showed it labelled events, so they may mislead it: set "
        "label.hypotheses.masses=12 if it reads hypotheses, train with train.examples.most=%d, or "
        "give --method zero-shot",
        *(folder, settings.context),
    )


def _open_server(dataset: Dataset, config: Config, hypothesis: Hypothesis) -> LabelSource:
    from hepllm.labelling.server import ServerModel

    settings = config.label
    pool, wording = _text_pool(dataset, config, hypothesis)
    model = ServerModel(wording, settings.backend, settings.server, serial=settings.serial)
    identity = {
        "url": settings.backend,
        "model": model.name,
        "interface": settings.server.interface,
        "top": settings.server.top,
    }
    return LabelSource(pool, model, f"{model.name} at {settings.backend}", identity, pool.names)


def _landmarks(config: Config, table: EventTable) -> Labels:
    """Labels of the user's few landmarks among the events; -1 elsewhere.

    Raises:
        InputError: the table cannot be read, has other labels, or no event of the pool.
    """
    unknown = np.full(len(table), UNKNOWN, dtype=np.int8)
    file = config.label.soft.landmarks
    if file is None or config.label.method != "soft":
        return unknown
    notes = read_notes(Path(file), "name a table with the columns event_digest and label")
    given = notes.column("label")
    if not np.isin(given, (BACKGROUND, SIGNAL, UNKNOWN)).all():
        raise InputError(f"{file}: labels must be {SIGNAL}, {BACKGROUND}, or {UNKNOWN} for none")
    rows = find_events(table.event_digest, notes.event_digest)
    found = unknown
    found[rows >= 0] = given[rows[rows >= 0]]
    if (found == UNKNOWN).all():
        raise InputError(
            f"{file}: has no label of the {len(table)} events of the pool; raise label.pool, or "
            "set label.soft.landmarks=null"
        )
    return found
