"""``hepllm ensemble``: joins several classifiers to one run, whose score is their mean logit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from hepllm.config import Config
from hepllm.errors import InputError
from hepllm.executor import resolve_threads
from hepllm.files import write_errors
from hepllm.report.ensembles import members_table
from hepllm.report.records import RunRecord
from hepllm.report.text import as_text
from hepllm.runs import RECORD
from hepllm.runs.folder import open_run
from hepllm.runs.members import join, write_ensemble


@dataclass(frozen=True)
class EnsembleReport:
    """A new ensemble.

    Attributes:
        name: name of its folder.
        record: the content of its ``run.json``.
        text: its members in words.
        files: the folder.
    """

    name: str
    record: RunRecord
    text: str
    files: tuple[Path, ...]


def make_ensemble(
    folders: Sequence[Path],
    config: Config,
    output: Path,
    *,
    baselines: Sequence[str] = (),
    with_runs: bool = True,
    overwrite: bool = False,
) -> EnsembleReport:
    """Joins runs, and baselines of the first, to an ensemble, which is a run like others.

    Args:
        folders: the runs.
        config: settings of the ensemble, of which ``evaluation`` says how members are calibrated.
        output: folder of the ensemble.
        baselines: names of baselines.
        with_runs: whether the runs are members, and not only their baselines.
        overwrite: replace an ensemble in the folder, with its evaluations.

    Raises:
        InputError: if the classifiers cannot be joined, or the folder is not free.
        ChunkError: if a worker that scores failed; what is scored is kept.
        RunError: if the folder cannot be written.
    """
    _check_output(output, overwrite=overwrite)
    threads = resolve_threads(config.train.threads)
    torch.set_num_threads(threads)
    runs = [open_run(folder) for folder in folders]
    joined = join(runs, baselines, config, with_runs=with_runs)
    with write_errors(output, "choose another --output"):
        output.parent.mkdir(parents=True, exist_ok=True)
        record = write_ensemble(joined, output, threads=threads)
    name = output.resolve().name
    return EnsembleReport(name, record, as_text(members_table(name, record)), (output,))


def _check_output(output: Path, *, overwrite: bool) -> None:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / RECORD).is_file() or not open_run(output).is_ensemble:
        raise InputError(f"{output}: exists and is no ensemble; choose another --output")
    if not overwrite:
        raise InputError(f"{output}: exists; give --overwrite to replace it and its evaluations")
