"""Scores that a run keeps of the sets that it was evaluated on.

They are ``RUN/scores/<set>/<name>.parquet``, one file per set and classifier, so that a new
evaluation of a set replaces what it cannot use. A file records what decided its scores (weights,
events, settings, versions) and a digest of them; a file of other origin, or a damaged one, is never
used. The folder can be removed at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hepllm.arrays import Floats
from hepllm.config import ScoringConfig
from hepllm.data.work_folder import WorkFolder, work_folder
from hepllm.files import write_errors
from hepllm.model.inputs import ModelInputs
from hepllm.runs.folder import Run
from hepllm.runs.pieces import TableSource, cut_parts, score_missing, seconds_of_parts
from hepllm.runs.run_model import PieceScorer

LOG = logging.getLogger(__name__)

FOLDER = "scores"
_METADATA = b"hepllm_scores"


@dataclass(frozen=True, eq=False)
class TimedScores:
    """Scores of N events, shape (N,), and the time that they took when they were computed."""

    score: Floats
    seconds: float


@dataclass(frozen=True)
class KeptScores:
    """The kept scores of a run.

    Attributes:
        folder: folder of all sets.
        settings: where and in what pieces events are scored.
        threads: threads of torch where this process scores alone.
        rescore: whether kept scores are made again.
    """

    folder: Path
    settings: ScoringConfig
    threads: int = 1
    rescore: bool = False

    @classmethod
    def of(
        cls, run: Run, settings: ScoringConfig, *, threads: int = 1, rescore: bool = False
    ) -> KeptScores:
        """The kept scores of a run."""
        return cls(run.folder / FOLDER, settings, threads, rescore)

    def by_model(
        self, sample: str, name: str, scorer: PieceScorer, inputs: ModelInputs
    ) -> TimedScores:
        """Scores N events by a model without a cascade, unless their scores are kept.

        Args:
            sample: name of the set.
            name: name of the classifier.
            scorer: the model.
            inputs: the events.

        Raises:
            InputError: if the model cannot be loaded.
            ChunkError: if a worker failed; finished pieces are kept for the next call.
            RunError: if scores cannot be written, or another process makes them.
        """
        origin = {
            "model": scorer.model.identity,
            "silenced": scorer.silenced,
            "inputs": digest_inputs(inputs),
        }

        def make(work: WorkFolder) -> TimedScores:
            parts = cut_parts(len(inputs), self.settings.piece_size)
            done = score_missing(
                TableSource(inputs),
                parts,
                scorer,
                work,
                self.settings,
                threads=self.threads,
                description=f"{sample}: {name}",
            )
            # Of a call that continued another, the time of all events at the rate of its own.
            seconds = done.seconds * len(inputs) / done.n_scored if done.n_scored else 0.0
            columns = [work.parts.load(str(part))["score"].to_numpy() for part in parts]
            score = np.concatenate([np.empty(0), *columns])
            return TimedScores(score, seconds or seconds_of_parts(work, parts))

        return self.get(sample, name, origin, {"piece_size": self.settings.piece_size}, make)

    def get(
        self,
        sample: str,
        name: str,
        origin: Mapping[str, Any],
        division: Mapping[str, Any],
        make: Callable[[WorkFolder], TimedScores],
    ) -> TimedScores:
        """Returns kept scores, or makes and keeps them.

        Args:
            sample: name of the set.
            name: name of the classifier.
            origin: what decides the scores, a JSON tree.
            division: how the work is divided, which unfinished work must share besides.
            make: computes the scores in a working folder.
        """
        file = self.folder / sample.strip() / f"{name}.parquet"
        found = None if self.rescore else _read(file, origin)
        if found is not None:
            LOG.info("%s: scores kept from an earlier evaluation", file)
            return found
        fingerprint = {"origin": origin, **division}
        with write_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            opened = work_folder(file, fingerprint, self.rescore, discard_other=True)
            with opened as work:
                made = make(work)
                _write(work.result / file.name, made, origin)
                work.publish_file()
        return made


def digest_inputs(inputs: ModelInputs) -> str:
    """SHA-256 of the numbers and the text of events, in their order."""
    digest = hashlib.sha256(repr(inputs.numbers.shape).encode())
    digest.update(np.ascontiguousarray(inputs.numbers, dtype=np.float64).data)
    for text in () if inputs.text is None else inputs.text:
        digest.update(f"{len(text)}:{text}".encode())
    return digest.hexdigest()


def _write(file: Path, made: TimedScores, origin: Mapping[str, Any]) -> None:
    record = {"origin": origin, "sha256": _digest(made.score), "seconds": made.seconds}
    table = pa.table({"score": made.score})
    table = table.replace_schema_metadata({_METADATA: json.dumps(record)})
    pq.write_table(table, file, compression="zstd")


def _read(file: Path, origin: Mapping[str, Any]) -> TimedScores | None:
    """Returns kept scores; None, with a log line, where they are damaged or of another origin."""
    if not file.is_file():
        return None
    try:
        table = pq.read_table(file, partitioning=None)
        record = json.loads((table.schema.metadata or {})[_METADATA])
        score = table["score"].to_numpy()
        kept, digest, seconds = record["origin"], record["sha256"], float(record["seconds"])
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        LOG.warning("%s: damaged, scored again: %s", file, " ".join(str(error).split())[:160])
        return None
    if digest != _digest(score):
        LOG.warning("%s: damaged, scored again: its scores do not have the recorded digest", file)
        return None
    if kept != json.loads(json.dumps(origin)):
        LOG.info("%s: from other weights, events, settings or versions; scored again", file)
        return None
    return TimedScores(score, seconds)


def _digest(score: Floats) -> str:
    return hashlib.sha256(np.ascontiguousarray(score, dtype=np.float64).data).hexdigest()
