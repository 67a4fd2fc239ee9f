"""``hepllm preprocess``: converts event files in chunks to a dataset of features.

Finished chunks are in ``<output>.partial`` until all are done; a run that was stopped continues
with the missing ones. The dataset appears under its final name only when it is complete.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hepllm.config import Config, PreprocessConfig, dump_config
from hepllm.data.dataset import MANIFEST, Dataset, read_dataset
from hepllm.data.manifest import CutFlowStep, SourceFile
from hepllm.data.work_folder import Parts, WorkFolder, work_folder
from hepllm.data.writer import DatasetWriter, make_table, package_versions
from hepllm.errors import InputError, RunError, nearest_name
from hepllm.executor import Retry, run_tasks
from hepllm.files import as_text, write_errors, write_text
from hepllm.logs import progress_bar
from hepllm.physics.chunks import READ, VALID, process_chunk
from hepllm.physics.first_look import report_first_rows
from hepllm.physics.readers import open_event_file
from hepllm.physics.readers.content import PERHAPS_EVENTS, SUFFIXES
from hepllm.physics.sources import ChunkTask, EventSource, MasterKey, make_tasks, open_source
from hepllm.schema import SCHEMA_VERSION, dataset_features

logger = logging.getLogger(__name__)

RAW_FOLDER = Path("data/raw")
PROCESSED_FOLDER = Path("data/processed")

NOT_CONTENT = ("chunk_size", "workers", "executor", "dask_scheduler", "retries", "chunk_timeout")
"""Settings of the section that do not change the dataset."""

_BESIDE_EVENTS = (".masterkey", ".points.json", "simulate.yaml")
"""Ends of the names of files that lie beside event files, and are read with them."""

_MOST_LISTED = 10


@dataclass(frozen=True)
class PreprocessedDataset:
    """A new dataset.

    Attributes:
        dataset: the dataset on disk.
        seconds: wall-clock time of this run.
        n_read: events that this run read; fewer than the files have when it continued another.
    """

    dataset: Dataset
    seconds: float
    n_read: int

    @property
    def events_per_second(self) -> float:
        """Events read by this run, per second."""
        return self.n_read / self.seconds


def preprocess(
    inputs: Sequence[Path],
    output: Path | None,
    config: Config,
    *,
    masterkey: MasterKey = None,
    overwrite: bool = False,
    reuse: bool = False,
) -> list[PreprocessedDataset]:
    """Makes datasets from event files.

    Args:
        inputs: files, or folders with event files; empty: ``data/raw``.
        output: one dataset for all files; None: one per file, ``data/processed/<stem>``.
        config: the section ``preprocess`` is used, all sections are recorded.
        masterkey: labels of a file without labels; None: ``<stem>.masterkey`` or
            ``<file>.masterkey`` beside the file if it exists; ``none``: no labels.
        overwrite: replace existing datasets and unfinished runs.
        reuse: with ``overwrite``, keep a dataset or unfinished run of the same files, keys and
            settings, and replace only others.

    Raises:
        InputError: an input is missing, damaged or of a wrong format, or an output exists.
        ChunkError: a worker failed; finished chunks are kept for the next run.
        RunError: the output cannot be written.
    """
    files = _input_files(inputs or [RAW_FOLDER], config.preprocess)
    if isinstance(masterkey, Path) and len(files) > 1:
        raise InputError(f"{masterkey}: a master key is for one file, found {len(files)} files")
    _refuse_equal_names(files, [file.stem for file in files])
    _check_source_labels(files, config.preprocess)
    if output is not None:
        jobs = {output: files}
    else:
        jobs = {PROCESSED_FOLDER / file.stem: [file] for file in files}
    for folder in jobs:
        _check_output(folder, overwrite)
    opened = {
        folder: [open_source(path, masterkey, config.preprocess) for path in paths]
        for folder, paths in jobs.items()
    }
    return [_make(folder, found, config, overwrite, reuse) for folder, found in opened.items()]


def _input_files(inputs: Sequence[Path], config: PreprocessConfig) -> list[Path]:
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            files += _files_of_folder(path, config)
        elif not path.exists() and (found := _files_of_pattern(path)):
            files += found
        elif not path.exists():
            hint = "; make events with 'hepllm simulate'" if path == RAW_FOLDER else ""
            raise InputError(f"{path}: no such file or folder{hint}")
        else:
            files.append(path)
    _refuse_equal_names(files, [str(file.resolve()) for file in files])
    return files


def _files_of_pattern(pattern: Path) -> list[Path]:
    """Files that match a quoted pattern such as ``data/run?/*.h5``, which no shell expanded."""
    found = Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))
    return sorted(file for file in found if file.is_file())


def _files_of_folder(folder: Path, config: PreprocessConfig) -> list[Path]:
    """The event files of a folder; warns of all that is left out, but for what belongs to them."""
    if (folder / MANIFEST).exists():
        raise InputError(f"{folder}: is already a dataset; give the files that it was made from")
    files, others = [], []
    # Hidden files are of the system: .DS_Store, and ._a.csv beside a.csv on foreign disks.
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if path.is_dir():
            others.append(f"{path.name}/")
        elif path.suffix.lower() in SUFFIXES or _is_table(path, config):
            files.append(path)
        elif not path.name.endswith(_BESIDE_EVENTS):
            others.append(path.name)
    known = ", ".join((*SUFFIXES, *PERHAPS_EVENTS))
    if not files:
        found = f"; found {_listed(others)}, which can be named" if others else ""
        raise InputError(f"{folder}: no event file in this folder ({known}){found}")
    if others:
        logger.warning(
            "%s: not read, being folders or no event files by name (%s) or content: %s; name those "
            "that are to be read",
            *(folder, known, _listed(others)),
        )
    return files


def _is_table(path: Path, config: PreprocessConfig) -> bool:
    """Whether a file whose name leaves it open is a table of events."""
    if path.suffix.lower() not in PERHAPS_EVENTS:
        return False
    try:
        open_event_file(path, config)
    except InputError as error:
        logger.debug("%s", error)
        return False
    return True


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _refuse_equal_names(files: Sequence[Path], names: Sequence[str]) -> None:
    seen: dict[str, Path] = {}
    for file, name in zip(files, names, strict=True):
        if name in seen:
            raise InputError(f"{file}: same name as {seen[name]}; rename one, or give each once")
        seen[name] = file


def _check_output(folder: Path, overwrite: bool) -> None:
    if not folder.name:
        raise InputError(f"{folder}: the output needs a name of its own")
    if not folder.exists():
        return
    is_dataset = (folder / MANIFEST).is_file()
    if not is_dataset and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists and is not a dataset; choose another output")
    if is_dataset and not overwrite:
        raise InputError(f"{folder}: already exists; give --overwrite to replace it")


def _check_source_labels(files: Sequence[Path], config: PreprocessConfig) -> None:
    names = [as_text(file.stem) for file in files]
    for name in config.source_labels:
        if name not in names:
            hint = nearest_name(name, names)
            raise InputError(f"preprocess.source_labels: no input file is called '{name}'{hint}")


def _make(
    folder: Path, sources: Sequence[EventSource], config: Config, overwrite: bool, reuse: bool
) -> PreprocessedDataset:
    started = time.monotonic()
    config = _with_found_observers(sources, config)
    described = [source.describe() for source in sources]
    equal = _find_equal(folder, described, config) if reuse else None
    if equal is not None:
        logger.info("%s: made from the same files with the same settings; used again", folder)
        return PreprocessedDataset(equal, time.monotonic() - started, 0)
    fingerprint = _fingerprint(described, config.preprocess)
    opened = work_folder(folder, fingerprint, overwrite and not reuse, discard_other=reuse)
    for source in sources:
        report_first_rows(source.file, config.preprocess)
    with write_errors(folder), opened as work:
        tasks = make_tasks(sources, config.preprocess.chunk_size)
        n_read = _process(work, tasks, config.preprocess)
        _assemble(work, tasks, described, config)
    result = PreprocessedDataset(read_dataset(folder), time.monotonic() - started, n_read)
    message = "%s: %d events in %.1f s, %.0f events/s"
    n_events = result.dataset.n_events
    logger.info(message, folder, n_events, result.seconds, result.events_per_second)
    if not n_events:
        logger.warning("%s: none of the %d events that were read is kept", folder, n_read)
    return result


def _with_found_observers(sources: Sequence[EventSource], config: Config) -> Config:
    """The configuration with the names of observers in place of patterns.

    Raises:
        InputError: the files of one dataset have other ones.
    """
    first, *others = sources
    names = tuple(first.file.observers)
    for other in others:
        if tuple(other.file.observers) != names:
            different = sorted(set(names) ^ set(other.file.observers)) or names
            raise InputError(
                f"{other.file.path}: not the same columns for preprocess.observers as "
                f"{first.file.path}, which differ in {', '.join(different)}; make two datasets"
            )
    section = config.preprocess.model_copy(update={"observers": names})
    return config.model_copy(update={"preprocess": section})


def _find_equal(folder: Path, described: Sequence[SourceFile], config: Config) -> Dataset | None:
    """Returns a complete dataset of the same files, settings and versions, or None."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        found = read_dataset(folder)
        found.check_shards()
    except InputError as error:
        logger.warning("%s; made again", error)
        return None
    manifest, content = found.manifest, _content(config)
    same = (
        manifest.sources == list(described)
        and manifest.config["preprocess"] == content["preprocess"]
        and manifest.packages == package_versions()
    )
    return found if same else None


def _content(config: Config) -> dict[str, Any]:
    """The configuration without the settings that do not change a dataset."""
    return config.model_dump(mode="json", exclude={"preprocess": set(NOT_CONTENT)})


def _fingerprint(described: Sequence[SourceFile], config: PreprocessConfig) -> dict[str, object]:
    """Inputs and settings that unfinished work and a run that continues it must share."""
    free = set(NOT_CONTENT) - {"chunk_size"} | {"on_bad_event"}
    return {
        "schema_version": SCHEMA_VERSION,
        "inputs": {source.name: source.model_dump() for source in described},
        "preprocess": config.model_dump(mode="json", exclude=free),
    }


def _process(work: WorkFolder, tasks: Sequence[ChunkTask], config: PreprocessConfig) -> int:
    """Processes the chunks that are not done yet; returns the number of events read."""
    missing = [task for task in tasks if not _is_done(work.parts, task, config)]
    total, n_missing = (sum(task.n_rows for task in some) for some in (tasks, missing))
    if n_missing < total:
        logger.info("%s: continues with %d of %d events", work.folder, n_missing, total)
    results = run_tasks(
        functools.partial(do_chunk, parts=work.parts, config=config),
        missing,
        kind=config.executor,
        workers=config.workers,
        retry=Retry(config.retries, config.chunk_timeout),
        scheduler=config.dask_scheduler,
    )
    bar = progress_bar(total, "preprocess", initial=total - n_missing)
    with closing(results), bar as progress:
        for task, _ in results:
            progress.update(task.n_rows)
    return n_missing


def do_chunk(task: ChunkTask, parts: Parts, config: PreprocessConfig) -> None:
    """Processes a chunk and saves it as a part; workers do so, so that columns are not sent.

    Raises:
        InputError: the file is damaged, or has bad events that are not to be skipped.
        RunError: the part cannot be written.
    """
    result = process_chunk(task.chunk, config)
    rows = {**result.rows, "label_raw": task.labels(result)}
    table = make_table(rows, result.features, task.source, config.splits, result.particles)
    with write_errors(parts.folder):
        try:
            parts.save(task.part, table, result.cut_flow)
        except FileNotFoundError:
            raise RunError(
                f"{parts.folder}: does not exist; workers on other machines must share this folder"
            ) from None


def _is_done(parts: Parts, task: ChunkTask, config: PreprocessConfig) -> bool:
    """Whether an earlier run did this chunk, without skipping bad events unless this run does."""
    cut_flow = parts.cut_flow(task.part)
    if cut_flow is None:
        return False
    steps = dict(cut_flow)
    return config.on_bad_event == "skip" or steps[READ] == steps[VALID]


def _assemble(
    work: WorkFolder, tasks: Sequence[ChunkTask], described: Sequence[SourceFile], config: Config
) -> None:
    """Writes the dataset from its parts, in the order of the events."""
    writer = DatasetWriter(work.result)
    steps: dict[str, int] = {}
    for task in tasks:
        writer.write(work.parts.load(task.part))
        for name, events in work.parts.cut_flow(task.part) or ():
            steps[name] = steps.get(name, 0) + events
    if steps[READ] > steps[VALID]:
        logger.warning("%s: %d bad events skipped", work.result, steps[READ] - steps[VALID])
    cut_flow = [CutFlowStep(name=name, events=events) for name, events in steps.items()]
    write_text(work.result / "config.yaml", dump_config(config), durable=True)
    settings = config.preprocess
    own = (*settings.observers, *settings.new_variables)
    features = (*dataset_features(settings.extended), *own)
    writer.finish(_content(config), described, cut_flow, features)
    work.publish()
