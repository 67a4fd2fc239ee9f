"""Scores that a run keeps of the sets that it was evaluated on.

They are ``RUN/scores/<set>/<name>.parquet``, one file per set and classifier, so that a new
evaluation of a set replaces what it cannot use. A file has a key per event, which is a hash of the
inputs, and records what else decided its scores (weights, settings, versions) and a digest of its
content. A file of other origin, or a damaged one, is never used. A part of the kept events, such as
a signal region, has its scores too, and so have the same events in another set. The folder can be
removed at any time.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hepllm.arrays import Digests, Floats
from hepllm.arrow_files import read_parquet, write_parquet
from hepllm.config import ScoringConfig
from hepllm.data.notes import find_events
from hepllm.data.work_folder import WorkFolder, work_folder
from hepllm.evaluation.averaging import combine
from hepllm.files import write_errors
from hepllm.hypotheses.hypothesis import Hypothesis
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import order_by_hypothesis
from hepllm.runs.ensemble_model import EnsembleModel, Member
from hepllm.runs.folder import Run
from hepllm.runs.pieces import TableSource, cut_parts, score_missing, seconds_of_parts
from hepllm.runs.run_model import PieceScorer

LOG = logging.getLogger(__name__)

FOLDER = "scores"

_BLOCK = 2**16
"""Events that a baseline scores at once."""
_METADATA = b"hepllm_scores"


@dataclass(frozen=True, eq=False)
class TimedScores:
    """Scores of N events, and the time that they took when they were computed.

    Attributes:
        score: shape (N,).
        seconds: the time.
        members: logits (N,) of the members of an ensemble, by name.
    """

    score: Floats
    seconds: float
    members: Mapping[str, Floats] = field(default_factory=dict)


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
        self,
        sample: str,
        name: str,
        scorer: PieceScorer,
        inputs: ModelInputs,
        *,
        also: Sequence[str] = (),
    ) -> TimedScores:
        """Scores N events by a model without a cascade, unless their scores are kept.

        Those of the members of an ensemble are kept in the folders of these runs.

        Args:
            sample: name of the set.
            name: name of the classifier.
            scorer: the model.
            inputs: the events.
            also: other names under which these events may have been scored.

        Raises:
            InputError: if the model cannot be loaded.
            ChunkError: if a worker failed; finished pieces are kept for the next call.
            RunError: if scores cannot be written, or another process makes them.
        """
        inputs = scorer.asked(inputs)
        if isinstance(scorer.model, EnsembleModel):
            return self._by_members(sample, name, scorer.model, inputs, also=also)
        origin = {"model": scorer.model.identity, "silenced": scorer.silenced}

        def make(work: WorkFolder) -> TimedScores:
            parts = cut_parts(len(inputs), self.settings.piece_size)
            order = order_by_hypothesis(inputs)  # few hypotheses in a piece, so less to encode
            done = score_missing(
                TableSource(inputs if inputs.hypothesis is None else inputs.take(order)),
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
            score = np.empty(len(inputs))
            score[order] = np.concatenate([np.empty(0), *columns])
            return TimedScores(score, seconds or seconds_of_parts(work, parts))

        return self.get(sample, name, origin, inputs, make, also=also)

    def _by_members(
        self,
        sample: str,
        name: str,
        model: EnsembleModel,
        inputs: ModelInputs,
        *,
        also: Sequence[str],
    ) -> TimedScores:
        """Scores N events by each member of an ensemble; one model is in memory at a time."""
        logits, seconds = {}, 0.0
        for one in model.members:
            read, called = one.inputs(inputs), one.record.name
            if one.model is None:
                make = functools.partial(_score_by_baseline, one, read)
                found = self.get(sample, called, one.identity, read, make)
            else:
                theirs = replace(self, folder=one.model.run.folder / FOLDER)
                found = theirs.by_model(sample, name, PieceScorer(one.model), read, also=also)
                one.model.release()
            logits[called] = one.logits(found.score)
            seconds += found.seconds
        return TimedScores(combine(logits)[0], seconds, logits)

    def get(
        self,
        sample: str,
        name: str,
        origin: Mapping[str, Any],
        inputs: ModelInputs,
        make: Callable[[WorkFolder], TimedScores],
        *,
        also: Sequence[str] = (),
    ) -> TimedScores:
        """Returns kept scores of N events, or makes and keeps them.

        Args:
            sample: name of the set.
            name: name of the classifier.
            origin: what decides the scores besides the inputs, a JSON tree.
            inputs: the events.
            make: computes the scores in a working folder.
            also: other names under which these events may have been scored.
        """
        file, key = self.folder / sample.strip() / f"{name}.parquet", hash_events(inputs)
        for place in () if self.rescore else self._places(file, (name, *also)):
            is_own = place.parent == file.parent
            found = _read(place, origin, key, logging.INFO if is_own else logging.DEBUG)
            if found is not None:
                return found
        fingerprint = {
            "origin": origin,
            "events": hashlib.sha256(key.data).hexdigest(),
            "piece_size": self.settings.piece_size,
        }
        with write_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            opened = work_folder(file, fingerprint, self.rescore, discard_other=True)
            with opened as work:
                made = make(work)
                _write(work.result / file.name, key, made, origin)
                work.publish_file()
        return made

    def _places(self, file: Path, names: Sequence[str]) -> list[Path]:
        """Files that may have the scores of a set: its own ones first, then those of other sets.

        The same events may be in another set, such as a black box with and without its key.
        """
        own = [file.with_name(f"{name}.parquet") for name in names]
        others = [found for one in own for found in sorted(self.folder.glob(f"*/{one.name}"))]
        return [*own, *(found for found in others if found not in own)]


def _score_by_baseline(member: Member, inputs: ModelInputs, _: WorkFolder) -> TimedScores:
    started = time.perf_counter()
    starts = range(0, len(inputs), _BLOCK)
    blocks = (inputs.take(slice(start, start + _BLOCK)) for start in starts)
    score = np.concatenate([np.empty(0), *map(member.score, blocks)])
    return TimedScores(score, time.perf_counter() - started)


def hash_events(inputs: ModelInputs) -> Digests:
    """Returns a 64-bit hash of the numbers, particles and words of each event, shape (N,).

    Two of a million events have the same hash with a probability of 3e-8.
    """
    total = np.full(len(inputs), inputs.numbers.shape[1], dtype=np.uint64)
    for column in inputs.numbers.T:
        # Zeros of both signs and all NaN count as equal.
        values = np.where(np.isnan(column), np.nan, column) + 0.0
        total = _mix(total ^ _mix(values.astype(np.float64).view(np.uint64)))
    if inputs.particles is not None:
        jets = np.ascontiguousarray(inputs.particles)
        rows = (hashlib.blake2b(row.data, digest_size=8).digest() for row in jets)
        total = _mix(total ^ np.frombuffer(b"".join(rows), dtype=np.uint64))
    if inputs.text is not None:
        hashes = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in inputs.text)
        total = _mix(total ^ np.frombuffer(b"".join(hashes), dtype=np.uint64))
    if inputs.hypothesis is not None:
        total = _mix(total ^ _hash_hypotheses(inputs.hypothesis))
    return total


def _hash_hypotheses(hypotheses: NDArray[np.object_]) -> Digests:
    """A hash of the words and masses of each hypothesis, shape (N,); few of them differ."""
    hashes: dict[Hypothesis, int] = {}
    for one in set(hypotheses.tolist()):
        words = json.dumps(one.pieces).encode()
        hashes[one] = int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "little")
    return np.array([hashes[one] for one in hypotheses.tolist()], dtype=np.uint64)


def _mix(bits: Digests) -> Digests:
    """Makes each bit depend on all others (Steele et al., SplitMix64, OOPSLA 2014)."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _write(file: Path, key: Digests, made: TimedScores, origin: Mapping[str, Any]) -> None:
    record = {"origin": origin, "sha256": _digest(key, made.score), "seconds": made.seconds}
    table = pa.table({"key": key, "score": made.score})
    table = table.replace_schema_metadata({_METADATA: json.dumps(record)})
    write_parquet(table, file)


def _read(file: Path, origin: Mapping[str, Any], wanted: Digests, level: int) -> TimedScores | None:
    """Returns the kept scores of some events; ``level`` is that of the log where they do not fit.

    None, with a log line, where they are damaged or of another origin, or an event is missing.
    """
    if not file.is_file():
        return None
    try:
        table = read_parquet(file)
        record = json.loads((table.schema.metadata or {})[_METADATA])
        key, score = (table[name].to_numpy() for name in ("key", "score"))
        kept, digest, seconds = record["origin"], record["sha256"], float(record["seconds"])
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        LOG.warning("%s: damaged, not used: %s", file, " ".join(str(error).split())[:160])
        return None
    if digest != _digest(key, score):
        LOG.warning("%s: damaged, not used: its content has another digest", file)
        return None
    if kept != json.loads(json.dumps(origin)):
        LOG.log(level, "%s: from other weights, settings or versions; not used", file)
        return None
    rows = np.arange(len(key)) if np.array_equal(key, wanted) else find_events(wanted, key)
    if (rows < 0).any():
        LOG.log(level, "%s: lacks %d of %d events; not used", file, (rows < 0).sum(), len(wanted))
        return None
    LOG.info("%s: scores of an earlier evaluation are used", file)
    return TimedScores(score[rows], seconds * len(wanted) / max(1, len(key)))


def _digest(key: Digests, score: Floats) -> str:
    digest = hashlib.sha256(key.data)
    digest.update(np.ascontiguousarray(score, dtype=np.float64).data)
    return digest.hexdigest()
