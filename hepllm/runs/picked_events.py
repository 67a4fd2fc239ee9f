"""Single events from datasets, event files, feature tables and pasted text."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hepllm.arrays import Floats
from hepllm.arrow_files import read_parquet
from hepllm.config import PreprocessConfig
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.particles import PARTICLE_COLUMNS, leading_jets
from hepllm.errors import HepllmError, InputError
from hepllm.model.prompts import read_event
from hepllm.physics.chunks import Chunk, process_chunk
from hepllm.physics.events import Particles
from hepllm.physics.jets import cluster
from hepllm.physics.readers import open_event_file
from hepllm.pictures.event_display import DisplayedParticles
from hepllm.runs.folder import Run
from hepllm.runs.samples import check_jets
from hepllm.schema import UNKNOWN

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class PickedEvent:
    """One event to be explained.

    Attributes:
        name: name of its folder.
        title: title for texts and pictures.
        features: values by name; NaN where missing.
        label: 1, 0, or -1 where unknown.
        digest: ``event_digest``; None for pasted text.
        particles: its particles, if the source has them.
        jets: shape (1, 2, 1 + K, 4), its jets with their constituents, for a model that reads them.
    """

    name: str
    title: str
    features: Mapping[str, float]
    label: int = UNKNOWN
    digest: int | None = None
    particles: DisplayedParticles | None = None
    jets: NDArray[np.float32] | None = None


def pick_texts(texts: Sequence[str], own: Sequence[str] = ()) -> list[PickedEvent]:
    """Reads events that are written as prompts, with columns of the user's own by their names.

    Raises:
        InputError: a text has no feature.
    """
    picked = []
    for number, text in enumerate(texts, 1):
        try:
            features = read_event(text, own)
        except ValueError as error:
            raise InputError(str(error)) from None
        picked.append(PickedEvent(f"text-{number}", f"Pasted event {number}", features))
    return picked


def pick_events(
    run: Run, source: Path, wanted: Sequence[str], config: PreprocessConfig, *, by_row: bool
) -> list[PickedEvent]:
    """Reads single events of a dataset or a file.

    Args:
        run: the run whose jet settings a dataset must have.
        source: a dataset, an event file or a feature table.
        wanted: event ids, which are rows in a file; ``SOURCE:ID`` where a dataset has several
            sources.
        config: settings for reading a file.
        by_row: whether ``wanted`` are rows of the dataset.

    Raises:
        InputError: an event does not exist.
    """
    constituents = run.config.fusion.constituents
    if source.is_dir():
        dataset = run.known(read_dataset(source))
        check_jets(run, dataset)
        dataset.require_particles(constituents)
        return pick_from_dataset(dataset, wanted, constituents, by_row=by_row)
    return _from_file(source, wanted, config.model_copy(update={"particles_per_jet": constituents}))


def _from_file(path: Path, wanted: Sequence[str], config: PreprocessConfig) -> list[PickedEvent]:
    file = open_event_file(path, config)
    rows = [_whole_number(event, path) for event in wanted]
    for row in rows:
        if not 0 <= row < file.n_events:
            raise InputError(f"{path}: no row {row}; rows are from 0 to {file.n_events - 1}")
    strict = config.model_copy(update={"on_bad_event": "fail", "select": None})
    picked = []
    for row in rows:
        made = process_chunk(Chunk(file, row, row + 1), strict, "choose another event")
        content = file.read(row, row + 1).content
        label = float(made.rows["label_raw"][0])
        picked.append(
            PickedEvent(
                name=f"{path.stem}-{row}",
                title=f"Event {row} of {path.name}",
                features={name: float(values[0]) for name, values in made.features.items()},
                label=UNKNOWN if math.isnan(label) else int(np.sign(label)),
                digest=int(made.rows["event_digest"][0]),
                particles=_particles(content, config) if isinstance(content, Particles) else None,
                jets=_jets(made.particles, made.features, config.particles_per_jet),
            )
        )
    return picked


def _whole_number(text: str, source: Path) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{source}: expected an event's whole number, found '{text}'") from None


def _particles(content: Particles, config: PreprocessConfig) -> DisplayedParticles:
    jets = cluster(content, config.jets)
    jet = np.zeros(len(content.pt), dtype=np.int64)
    for index in range(config.jets.n_jets):
        jet[jets.constituents(index).particle] = index + 1
    return DisplayedParticles(content.pt, content.eta, content.phi, jet, complete=True)


def _jets(
    lists: Mapping[str, pa.Array] | None, features: Mapping[str, Floats], per_jet: int
) -> NDArray[np.float32] | None:
    return leading_jets(lists, features, per_jet) if per_jet and lists is not None else None


def pick_from_dataset(
    dataset: Dataset, wanted: Sequence[str], constituents: int = 0, *, by_row: bool
) -> list[PickedEvent]:
    """Reads single events of a dataset.

    The shards are read one by one, and of each only ids and the wanted events.

    Args:
        dataset: the dataset.
        wanted: event ids or rows, as for ``pick_events``.
        constituents: constituents of each leading jet that a model reads; 0: none.
        by_row: whether ``wanted`` are rows.

    Raises:
        InputError: an event does not exist.
    """
    names = [_split_name(dataset, text, by_row=by_row) for text in wanted]
    found: dict[int, PickedEvent] = {}
    start = 0
    for shard in dataset.manifest.shards:
        file = dataset.folder / shard.file
        try:
            table = read_parquet(file, ["event_id", "source"])
            places = [_place(table, source, number, start, by_row) for source, number in names]
            hits = {index: place for index, place in enumerate(places) if place is not None}
            if hits:
                whole = read_parquet(file).take(list(hits.values()))
                for position, index in enumerate(hits):
                    found[index] = _of_row(dataset, whole.slice(position, 1), constituents)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{file}: cannot be read, make the dataset again: {error}") from None
        start += table.num_rows
    for index, text in enumerate(wanted):
        if index not in found:
            what = f"{'row' if by_row else 'event_id'} {text}"
            raise InputError(f"{dataset.folder}: no {what} among its {dataset.n_events} events")
    return [found[index] for index in range(len(wanted))]


def _split_name(dataset: Dataset, text: str, *, by_row: bool) -> tuple[str | None, int]:
    source, colon, number = text.rpartition(":")
    sources = [one.name for one in dataset.manifest.sources]
    if colon and source not in sources:
        raise InputError(f"{dataset.folder}: no source '{source}'; there are {', '.join(sources)}")
    if not colon and not by_row and len(sources) > 1:
        raise InputError(
            f"{dataset.folder}: its events are from {', '.join(sources)}; "
            f"name the source, such as {sources[0]}:{text}"
        )
    return source or None, _whole_number(number, dataset.folder)


def _place(
    table: pa.Table, source: str | None, number: int, start: int, by_row: bool
) -> int | None:
    if by_row:
        return number - start if start <= number < start + table.num_rows else None
    mask = pc.equal(table["event_id"], number)
    if source is not None:
        mask = pc.and_(mask, pc.equal(table["source"].cast(pa.string()), source))
    places = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
    return int(places[0]) if len(places) else None


def _of_row(dataset: Dataset, table: pa.Table, constituents: int) -> PickedEvent:
    (row,) = table.to_pylist()
    stored = dataset.manifest.features
    columns = {name: np.array([math.nan if row[name] is None else row[name]]) for name in stored}
    if all(name in columns for name in dataset.variables.inputs(dataset.variables.expressions)):
        columns = dataset.variables.computed(columns)
    features = {name: float(values[0]) for name, values in columns.items()}
    particles = raw_particles(dataset, row["source"], row["event_id"], int(row["event_digest"]))
    if particles is None and row.get("particles_pt") is not None:
        names = ("pt", "eta", "phi", "jet")
        of_particles = {name: np.asarray(row[f"particles_{name}"]) for name in names}
        particles = DisplayedParticles(**of_particles, complete=False)
    return PickedEvent(
        name=f"{row['source']}-{row['event_id']}",
        title=f"Event {row['event_id']} of {row['source']} in {dataset.folder.name}",
        features=features,
        label=int(row["label"]),
        digest=int(row["event_digest"]),
        particles=particles,
        jets=_jets(
            {name: table[name].combine_chunks() for name in PARTICLE_COLUMNS if constituents},
            {name: np.array([value]) for name, value in features.items()},
            constituents,
        ),
    )


def raw_particles(
    dataset: Dataset, source: str, event_id: int, digest: int
) -> DisplayedParticles | None:
    """Reads the particles of an event from the file that the dataset was made from.

    The file is looked for beside the dataset, in the folder of a raw file (``data/raw``) and in the
    current folder. The digest of the event tells whether it is the right one.

    Returns:
        The particles; None where the file is gone, has other events, or has no particles.
    """
    (name,) = (one.file for one in dataset.manifest.sources if one.name == source)
    config = PreprocessConfig.model_validate(dataset.manifest.config["preprocess"])
    config = config.model_copy(update={"on_bad_event": "fail", "select": None})
    for place in _raw_places(dataset, name):
        try:
            file = open_event_file(place, config)
            if not 0 <= event_id < file.n_events:
                continue
            made = process_chunk(Chunk(file, event_id, event_id + 1), config)
            content = file.read(event_id, event_id + 1).content
        except HepllmError as error:
            LOG.info("%s: not used for the particles of events: %s", place, error)
            continue
        if int(made.rows["event_digest"][0]) == digest and isinstance(content, Particles):
            return _particles(content, config)
    return None


def _raw_places(dataset: Dataset, name: str) -> list[Path]:
    folder = dataset.folder.resolve()
    near = [folder.parent, folder.parent.parent, Path("data"), Path()]
    places = [one / part / name for one in near for part in ("", "raw")]
    return [one for one in dict.fromkeys(places) if one.is_file()]
