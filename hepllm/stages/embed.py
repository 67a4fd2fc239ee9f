"""``hepllm embed``: embeddings of events by a run, their clusters, and what these are."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
from numpy.typing import NDArray

from hepllm import __version__
from hepllm.arrays import Bools, Columns, Floats
from hepllm.arrow_files import open_file, read_parquet
from hepllm.cartography.cluster_records import ClusterRecord, ClustersRecord
from hepllm.cartography.clusters import (
    Clusters,
    assign_clusters,
    find_clusters,
    measure_stability,
)
from hepllm.cartography.event_map import MAP, read_map
from hepllm.cartography.summary import summarise_feature
from hepllm.cartography.umap_picture import UMAP, require_umap, umap_places
from hepllm.config import ClustersConfig, Config
from hepllm.data.dataset import LABEL_NAMES, Dataset, read_dataset
from hepllm.data.event_table import EventTable
from hepllm.data.notes import NotesRecord, find_events, write_notes
from hepllm.data.work_folder import work_folder
from hepllm.errors import InputError
from hepllm.files import write_aside, write_errors, write_text
from hepllm.learning.inputs import model_inputs
from hepllm.logs import progress_bar
from hepllm.pictures.clusters import plot_clusters
from hepllm.provenance import this_call
from hepllm.report.clusters import clusters_table
from hepllm.report.text import as_text
from hepllm.runs.embedding import EmbeddedEvents, embed_in_pieces
from hepllm.runs.ensemble_model import open_model
from hepllm.runs.folder import Run, open_run
from hepllm.runs.run_model import RunModel
from hepllm.runs.samples import check_jets, tell_missing
from hepllm.schema import UNKNOWN

LOG = logging.getLogger(__name__)

FOLDER, RECORD, TABLE, PICTURE = "embed", "clusters.json", "clusters.parquet", "clusters.png"
"""The folder of the results in a run, and files in it."""

UMAP_PICTURE = "umap.png"

_M_JJ = "m_jj"


@dataclass(frozen=True)
class EmbedReport:
    """The clusters of a dataset.

    Attributes:
        name: name of the dataset.
        record: the content of ``clusters.json``.
        text: the same in words.
        files: the written files.
    """

    name: str
    record: ClustersRecord
    text: str
    files: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class _Bench:
    """N embedded events, their features, scores, principal components and clusters."""

    run: Run
    dataset: Dataset
    table: EventTable
    columns: Columns
    embedded: EmbeddedEvents
    clusters: Clusters


def embed_dataset(
    folder: Path, config: Config, dataset: Path | None = None, output: Path | None = None
) -> EmbedReport:
    """Embeds events by a run and finds their clusters.

    What is embedded is kept beside the output until all is done, and used when it is called again.

    Args:
        folder: the run folder.
        config: ``clusters``, ``evaluation.scoring``, ``evaluation.batch_size`` and ``seed``.
        dataset: the dataset; None for the training split of the run's own.
        output: folder of the results, which replaces an earlier one; None:
            ``embed/<dataset>`` in the run.

    Raises:
        InputError: if the run or the dataset cannot be used, or has too few events.
        ChunkError: if a worker failed; what is embedded is kept.
        RunError: if the results cannot be written.
    """
    run, settings, scoring = open_run(folder), config.clusters, config.evaluation.scoring
    run.require_one_model()
    if settings.picture == UMAP:
        require_umap()
    opened, split = _open_dataset(run, dataset)
    place = output or folder / FOLDER / opened.folder.resolve().name
    _refuse_others(place)
    table, columns, n_available = _load(run, opened, split, settings, config.seed)
    inputs = model_inputs(table, run.config.train.feature_names())
    model = open_model(run, config.evaluation.batch_size)
    with write_errors(place, "choose another --output"):
        place.parent.mkdir(parents=True, exist_ok=True)
        with work_folder(
            place, _fingerprint(model, opened, config), overwrite=False, discard_other=True
        ) as work:
            embedded = embed_in_pieces(model, inputs, settings, scoring, work, seed=config.seed)
            fitted = embedded.values[embedded.is_fitted]
            found = find_clusters(fitted, settings)
            with progress_bar(settings.subsamples, "cluster again", "subsamples") as bar:
                stability = measure_stability(
                    fitted, found, settings, config.seed, scoring=scoring, on_subsample=bar.update
                )
            clusters = _joined(embedded, found, settings)
            bench = _Bench(run, opened, table, columns, embedded, clusters)
            mean = float(np.mean(stability)) if stability else None
            record = ClustersRecord(
                run=folder.resolve().name,
                dataset=opened.folder.resolve().name,
                split=split,
                n_available=n_available,
                n_events=len(table),
                n_fitted=int(embedded.is_fitted.sum()),
                embedding=embedded.names,
                n_dimensions=embedded.values.shape[1],
                explained=float(embedded.explained.sum()),
                settings=settings,
                seed=config.seed,
                **_describe(bench),
                stability=stability,
                mean_stability=mean,
                is_stable=None if mean is None else mean >= settings.stable_from,
                made=this_call(),
            )
            with write_aside(place) as aside:
                aside.mkdir()
                names = _write(bench, record, aside)
            work.discard()
    files = tuple(place / name for name in names)
    return EmbedReport(record.dataset, record, as_text(clusters_table(record)), files)


def _fingerprint(model: RunModel, dataset: Dataset, config: Config) -> dict[str, Any]:
    """What decides the embeddings of kept pieces."""
    settings = config.clusters
    return {
        "model": model.identity,
        "dataset": dataset.digest,
        "events": [settings.events, settings.fitted, settings.dimensions, config.seed],
        "piece_size": config.evaluation.scoring.piece_size,
    }


def _joined(embedded: EmbeddedEvents, found: Clusters, config: ClustersConfig) -> Clusters:
    """The clusters of all events, from those of the fitted ones."""
    is_fitted, values = embedded.is_fitted, embedded.values
    others = assign_clusters(values[~is_fitted], values[is_fitted], found, config)
    number, probability = np.empty(len(values), dtype=np.int64), np.empty(len(values))
    for chosen, part in ((is_fitted, found), (~is_fitted, others)):
        number[chosen], probability[chosen] = part.number, part.probability
    return Clusters(number, probability).by_size()


def _open_dataset(run: Run, folder: Path | None) -> tuple[Dataset, str | None]:
    """Opens the dataset, with the split that is embedded; None for all events."""
    if folder is None:
        return run.dataset(), "train"
    dataset = run.known(read_dataset(folder))
    dataset.require_events()
    check_jets(run, dataset)
    return dataset, None


def _refuse_others(place: Path) -> None:
    """Raises InputError where a folder holds anything but clusters, which would be lost."""
    if place.is_dir() and any(place.iterdir()) and not (place / RECORD).is_file():
        raise InputError(f"{place}: contains no clusters but other files; choose another --output")


def _load(
    run: Run, dataset: Dataset, split: str | None, config: ClustersConfig, seed: int
) -> tuple[EventTable, Columns, int]:
    """Loads a random choice of events with features; the last is of how many."""
    read = run.config.train.feature_names()
    shown = tuple(dict.fromkeys([*[_M_JJ] * (_M_JJ in dataset.manifest.features), *read]))
    # The features that the model reads come first, as its inputs need them.
    names = (*read, *(name for name in shown if name not in read))
    table = dataset.load(names, split, particles=run.config.fusion.constituents)
    if split is None:
        tell_missing(run, dataset, table)
    n_available = len(table)
    if n_available > config.events:
        random = np.random.default_rng(seed)
        rows = np.sort(random.choice(n_available, config.events, replace=False))
        table = table.take(rows)
        LOG.info(
            "%d of %d events are embedded; raise clusters.events for more",
            config.events,
            n_available,
        )
    needed, n_fitted = max(config.min_size, config.min_samples or 1), min(config.fitted, len(table))
    if round(config.subsample_share * n_fitted) < needed:
        raise InputError(
            f"{dataset.folder}: {n_fitted} events are too few for clusters of {needed} in "
            f"subsamples of {config.subsample_share:.0%}; lower clusters.min_size and "
            "clusters.min_samples"
        )
    return table, {name: table.column(name) for name in shown}, n_available


def _describe(bench: _Bench) -> dict[str, Any]:
    """Describes the clusters, and the events in none."""
    clusters, confidence = bench.clusters, _confidence(bench)
    found = tuple(
        _describe_one(bench, clusters.number == place, confidence)
        for place in range(clusters.n_clusters)
    )
    noise = None
    if clusters.is_noise.any():
        noise = _describe_one(bench, clusters.is_noise, confidence)
        noise = noise.model_copy(update={"probability": None})
    return {"clusters": found, "noise": noise}


def _confidence(bench: _Bench) -> Floats:
    """Confidence of each event on the map of the run, shape (N,); NaN without."""
    folder = bench.run.folder
    if not (folder / "map" / MAP).is_file():
        return np.full(len(bench.table), np.nan)
    event_map = read_map(folder)
    rows = find_events(bench.table.event_digest, event_map.event_digest)
    values = event_map.measures.confidence[np.maximum(rows, 0)]
    return np.where(rows >= 0, values, np.nan)


def _describe_one(bench: _Bench, chosen: Bools, confidence: Floats) -> ClusterRecord:
    label = bench.table.label[chosen]
    labels = {name: int((label == value).sum()) for value, name in LABEL_NAMES.items()}
    known = [
        number
        for value, number in zip(LABEL_NAMES, labels.values(), strict=True)
        if value != UNKNOWN
    ]
    believed = confidence[chosen]
    believed = believed[~np.isnan(believed)]
    features = {
        name: summarise_feature(values[chosen], values[~chosen])
        for name, values in bench.columns.items()
    }
    order = sorted(features, key=lambda name: -(features[name].distance or 0.0))
    return ClusterRecord(
        n_events=len(label),
        share=len(label) / len(chosen),
        labels={name: number for name, number in labels.items() if number},
        purity=max(known) / sum(known) if sum(known) else None,
        probability=float(bench.clusters.probability[chosen].mean()),
        score=float(bench.embedded.score[chosen].mean()),
        confidence=float(believed.mean()) if len(believed) else None,
        features={name: features[name] for name in order},
    )


def _write(bench: _Bench, record: ClustersRecord, folder: Path) -> list[str]:
    """Writes all files, and returns their names."""
    table, clusters, values = bench.table, bench.clusters, bench.embedded.values
    columns: dict[str, NDArray[Any]] = {
        "event_id": table.event_id,
        "source": table.source,
        "label": table.label,
        "score": bench.embedded.score,
        "cluster": clusters.number,
        "probability": clusters.probability,
        "is_noise": clusters.is_noise,
    }
    _write_notes(bench, folder / TABLE, "clusters of embedded events", columns)
    with open_file(folder / "clusters.csv", "wb") as stream:
        pyarrow.csv.write_csv(read_parquet(folder / TABLE), stream)
    components = {
        f"component_{place:02d}": one.astype(np.float32) for place, one in enumerate(values.T, 1)
    }
    _write_notes(
        bench, folder / "components.parquet", "principal components of embeddings", components
    )
    names = [RECORD, TABLE, "clusters.csv", "components.parquet"]
    names += _write_projector(bench, folder)
    names += _draw(bench, record, folder)
    record.write(folder / RECORD)
    return names


def _draw(bench: _Bench, record: ClustersRecord, folder: Path) -> list[str]:
    """Draws the clusters in two principal components, and of fitted events by UMAP where asked."""
    values, number = bench.embedded.values, bench.clusters.number
    title, names = f"{record.dataset} by {record.run}", []
    if values.shape[1] > 1:
        shares = bench.embedded.explained[:2].tolist()
        axes = [
            f"principal component {place} ({share:.1%} of the variance)"
            for place, share in enumerate(shares, 1)
        ]
        plot_clusters(values[:, :2], number, axes, title, folder / PICTURE)
        names.append(PICTURE)
    if record.settings.picture == UMAP:
        is_fitted = bench.embedded.is_fitted
        places = umap_places(values[is_fitted], record.seed)
        axes = ["UMAP 1 (a picture alone)", "UMAP 2"]
        plot_clusters(places, number[is_fitted], axes, f"{title}, UMAP", folder / UMAP_PICTURE)
        names.append(UMAP_PICTURE)
    return names


def _write_notes(bench: _Bench, file: Path, holds: str, columns: dict[str, NDArray[Any]]) -> None:
    record = NotesRecord(
        holds=holds,
        made_by=f"hepllm embed, version {__version__}",
        dataset_digest=bench.dataset.digest,
    )
    write_notes(file, bench.table.event_digest, columns, record)


def _write_projector(bench: _Bench, folder: Path) -> list[str]:
    """Writes what projector.tensorflow.org and TensorBoard load: vectors, and a line about each.

    Of the fitted events alone, since a browser does not take more.
    """
    rows = np.flatnonzero(bench.embedded.is_fitted)
    table, number, score = bench.table, bench.clusters.number, bench.embedded.score
    vectors = ("\t".join(f"{x:.5g}" for x in row) for row in bench.embedded.values[rows].tolist())
    write_text(folder / "tensors.tsv", "\n".join(vectors) + "\n")
    lines = ["event\tlabel\tcluster\tscore"]
    for row in rows:
        name = f"{table.source[row]}:{table.event_id[row]}".replace("\t", " ").replace("\n", " ")
        cluster = "none" if number[row] < 0 else str(number[row])
        label = LABEL_NAMES[int(table.label[row])]
        lines.append(f"{name}\t{label}\t{cluster}\t{score[row]:.4f}")
    write_text(folder / "metadata.tsv", "\n".join(lines) + "\n")
    return ["tensors.tsv", "metadata.tsv"]
