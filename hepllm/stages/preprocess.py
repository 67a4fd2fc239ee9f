"""``hepllm preprocess``: event files in chunks to a dataset of features.

Finished chunks lie in ``<output>.partial`` until all are there; a run that was stopped goes on
with those that are missing. The dataset appears under its own name only when it is complete.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hepllm.config import Config, PreprocessConfig, dump_config
from hepllm.data.dataset import MANIFEST, CutFlowStep, Dataset, SourceFile, read_dataset
from hepllm.data.work_folder import Parts, WorkFolder
from hepllm.data.writer import DatasetWriter, make_table
from hepllm.errors import InputError, RunError, nearest_name
from hepllm.executor import Retry, run_tasks
from hepllm.files import write_text
from hepllm.logs import progress_bar
from hepllm.physics.chunks import READ, VALID, process_chunk
from hepllm.physics.readers.content import SUFFIXES
from hepllm.physics.sources import ChunkTask, EventSource, make_tasks, open_source
from hepllm.schema import SCHEMA_VERSION

logger = logging.getLogger(__name__)

RAW_FOLDER = Path("data/raw")
PROCESSED_FOLDER = Path("data/processed")

NOT_CONTENT = ("chunk_size", "workers", "executor", "dask_scheduler", "retries", "chunk_timeout")
"""Settings of the section that decide how the work is done, not what comes out."""


@dataclass(frozen=True)
class PreprocessedDataset:
    """A dataset that was made, and how quickly.

    Attributes:
        dataset: what is on disk.
        seconds: wall-clock time of this run.
        n_read: events that this run read; fewer than the files hold when it resumed another.
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
    masterkey: Path | None = None,
    overwrite: bool = False,
) -> list[PreprocessedDataset]:
    """Makes datasets from event files.

    Args:
        inputs: files, or folders of which every event file is taken; none stands for
            ``data/raw``.
        output: one dataset for all files; None makes one a file, ``data/processed/<stem>``.
        config: the section ``preprocess`` and, for the record, all others.
        masterkey: labels of a file that has none itself; without it, ``<stem>.masterkey`` or
            ``<file>.masterkey`` beside the file is taken where there is one.
        overwrite: replace datasets and unfinished runs that are in the way.

    Raises:
        InputError: an input is missing, damaged or not what it should be, or an output exists.
        ChunkError: a worker failed; finished chunks are kept for the next run.
        RunError: the output cannot be written.
    """
    files = _input_files(inputs or [RAW_FOLDER])
    if masterkey is not None and len(files) > 1:
        raise InputError(
            f"{masterkey}: one master key belongs to one file, found {len(files)} files"
        )
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
    record = _Record(dump_config(config), content_settings(config))
    return [
        _make(folder, sources, config.preprocess, record, overwrite)
        for folder, sources in opened.items()
    ]


def _input_files(inputs: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            files += _files_of_folder(path)
        elif not path.exists():
            hint = "; make events with 'hepllm simulate'" if path == RAW_FOLDER else ""
            raise InputError(f"{path}: no such file or folder{hint}")
        else:
            files.append(path)
    _refuse_equal_names(files, [str(file.resolve()) for file in files])
    return files


def _files_of_folder(folder: Path) -> list[Path]:
    if (folder / MANIFEST).exists():
        raise InputError(f"{folder}: is a dataset already; give the files that it was made from")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(
            f"{folder}: no event file in this folder: none ends in {', '.join(SUFFIXES)}"
        )
    return files


def _refuse_equal_names(files: Sequence[Path], names: Sequence[str]) -> None:
    seen: dict[str, Path] = {}
    for file, name in zip(files, names, strict=True):
        if name in seen:
            raise InputError(f"{file}: has the name of {seen[name]}; rename one, or give each once")
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
        raise InputError(f"{folder}: exists already; give --overwrite to replace it")


def _check_source_labels(files: Sequence[Path], config: PreprocessConfig) -> None:
    names = [file.stem for file in files]
    for name in config.source_labels:
        if name not in names:
            hint = nearest_name(name, names)
            raise InputError(f"preprocess.source_labels: no input file is called '{name}'{hint}")


@dataclass(frozen=True)
class _Record:
    """What a dataset keeps of the configuration that made it.

    Attributes:
        yaml: all of it, for its ``config.yaml``.
        content: what its content depends on, for its manifest.
    """

    yaml: str
    content: dict[str, object]


def _make(
    folder: Path,
    sources: Sequence[EventSource],
    config: PreprocessConfig,
    record: _Record,
    overwrite: bool,
) -> PreprocessedDataset:
    started = time.monotonic()
    described = [source.describe() for source in sources]
    try:
        with WorkFolder(folder, _fingerprint(described, config), overwrite) as work:
            tasks = make_tasks(sources, config.chunk_size)
            n_read = _process(work, tasks, config)
            _assemble(work, tasks, described, record)
    except OSError as error:
        raise _unwritable(folder, error) from None
    result = PreprocessedDataset(read_dataset(folder), time.monotonic() - started, n_read)
    message = "%s: %d events in %.1f s, %.0f events/s"
    n_events = result.dataset.n_events
    logger.info(message, folder, n_events, result.seconds, result.events_per_second)
    if not n_events:
        logger.warning("%s: none of the %d events that were read is kept", folder, n_read)
    return result


def content_settings(config: Config) -> dict[str, object]:
    """The resolved configuration, less the settings that cannot change the dataset."""
    tree = config.model_dump(mode="json")
    section = tree["preprocess"]
    tree["preprocess"] = {key: section[key] for key in section if key not in NOT_CONTENT}
    return tree


def _fingerprint(described: Sequence[SourceFile], config: PreprocessConfig) -> dict[str, object]:
    """What unfinished work must have in common with a run that takes it up."""
    section = config.model_dump(mode="json")
    free = set(NOT_CONTENT) - {"chunk_size"} | {"on_bad_event"}
    settings = {key: value for key, value in section.items() if key not in free}
    return {
        "schema_version": SCHEMA_VERSION,
        "inputs": {source.name: source.model_dump() for source in described},
        "preprocess": settings,
    }


def _process(work: WorkFolder, tasks: Sequence[ChunkTask], config: PreprocessConfig) -> int:
    """Does the chunks that are not done yet; returns the number of events read."""
    missing = [task for task in tasks if not _is_done(work, task, config)]
    total, n_missing = (sum(task.n_rows for task in some) for some in (tasks, missing))
    if n_missing < total:
        logger.info("%s: goes on with %d of %d events", work.folder, n_missing, total)
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
    """Processes a chunk and keeps it as a part; done by a worker, so that no columns travel.

    Args:
        task: the chunk.
        parts: where it is kept.
        config: how it is read and clustered, and how its events are dealt out to splits.

    Raises:
        InputError: the file is damaged, or it has bad events and they are not to be skipped.
        RunError: the part cannot be written.
    """
    result = process_chunk(task.chunk, config)
    rows = {**result.rows, "label_raw": task.labels(result)}
    table = make_table(rows, result.features, task.source, config.splits, result.particles)
    try:
        parts.save(task.part, table, result.cut_flow)
    except FileNotFoundError:
        raise RunError(
            f"{parts.folder}: not there; workers on other machines must share this folder"
        ) from None
    except OSError as error:
        raise _unwritable(parts.folder, error) from None


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(f"{error.filename or path}: cannot be written: {error.strerror or error}")


def _is_done(work: WorkFolder, task: ChunkTask, config: PreprocessConfig) -> bool:
    """Whether an earlier run did this chunk; one that skipped bad events may not count now."""
    cut_flow = work.cut_flow(task.part)
    if cut_flow is None:
        return False
    steps = dict(cut_flow)
    return config.on_bad_event == "skip" or steps[READ] == steps[VALID]


def _assemble(
    work: WorkFolder, tasks: Sequence[ChunkTask], described: Sequence[SourceFile], record: _Record
) -> None:
    """Writes the dataset from its parts, in the order of the events."""
    writer = DatasetWriter(work.result)
    steps: dict[str, int] = {}
    for task in tasks:
        writer.write(work.load(task.part))
        for name, events in work.cut_flow(task.part) or ():
            steps[name] = steps.get(name, 0) + events
    if steps[READ] > steps[VALID]:
        logger.warning("%s: %d bad events skipped", work.result, steps[READ] - steps[VALID])
    cut_flow = [CutFlowStep(name=name, events=events) for name, events in steps.items()]
    write_text(work.result / "config.yaml", record.yaml, durable=True)
    writer.finish(record.content, described, cut_flow)
    work.publish()
