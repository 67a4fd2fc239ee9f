"""What bare fastjet takes for the same events, and how well this machine runs two of it at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import awkward as ak
import fastjet

from hepllm.executor import run_tasks
from hepllm.physics.events import Particles
from hepllm.physics.readers import open_event_file

BATCH = 1000


def to_awkward(particles: Particles) -> list[ak.Array]:
    """Batches of packed four-momenta in memory, as fastjet takes them."""
    momenta = particles.momenta()
    columns = {"px": momenta.px, "py": momenta.py, "pz": momenta.pz, "E": momenta.energy}
    flat = ak.zip(columns, with_name="Momentum4D")
    events = ak.unflatten(flat, particles.counts)
    return [ak.to_packed(events[i : i + BATCH]) for i in range(0, len(events), BATCH)]


def run_bare(batches: list[ak.Array], n_max: int = 3, betas: Sequence[float] = (1.0,)) -> None:
    """Jets, constituents and N-subjettiness of the two leading jets, and nothing else."""
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, 1.0)
    for batch in batches:
        sequence = fastjet.ClusterSequence(batch, definition)
        jets = sequence.inclusive_jets(20.0)
        constituents = sequence.constituents(20.0)
        leading = ak.argsort(jets.px**2 + jets.py**2, ascending=False)[:, :2]
        of_jets = ak.to_packed(ak.flatten(constituents[leading], axis=1))
        leading_jets = fastjet.ClusterSequence(of_jets, definition)
        for beta in betas:
            leading_jets.njettiness(
                measure_definition="NormalizedMeasure",
                axes_definition="WTA_KT_Axes",
                njets=list(range(1, n_max + 1)),
                beta=beta,
                R0=1.0,
            )


@dataclass(frozen=True)
class Rows:
    """Rows of an event file."""

    path: Path
    start: int
    stop: int


def seconds_of(rows: Rows) -> float:
    """Seconds that bare fastjet takes for these events, which lie in memory before."""
    fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)
    batches = to_awkward(open_event_file(rows.path).read(rows.start, rows.stop).particles)
    started = time.perf_counter()
    run_bare(batches)
    return time.perf_counter() - started


def seconds_in_processes(path: Path, n_events: int, processes: int) -> float:
    """Mean seconds a batch of bare fastjet, in one process or in several at once."""
    items = [Rows(path, start, start + BATCH) for start in range(0, n_events, BATCH)]
    done = [seconds for _, seconds in run_tasks(seconds_of, items, workers=processes)]
    return sum(done) / len(done)
