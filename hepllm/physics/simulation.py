"""Simulates signal and background events: Pythia 8, the detector and the trigger.

The processes are those of the LHC Olympics R&D sample (Kasieczka et al., arXiv:2101.08320): QCD
dijets, and Z' -> X Y with X, Y -> q qbar, in pp collisions at 13 TeV. ``physics.topologies`` has
the other decays of X and Y.

A comparison with the real R&D events (``tools/studies/fidelity.py``) decided three choices: no
multiparton interactions, long-lived strange hadrons that decay in the detector only, and vector
bosons for X and Y. ``docs/explanation/simulation.md`` has the numbers.
"""

from __future__ import annotations

import hashlib
import importlib
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import awkward as ak
import numpy as np

from hepllm.arrays import Bools, Floats
from hepllm.config import DetectorConfig, JetsConfig, SignalConfig, SimulateConfig
from hepllm.errors import InputError, RunError
from hepllm.physics.detector import detect
from hepllm.physics.events import Particles
from hepllm.physics.generated import GeneratedParticles
from hepllm.physics.jets import cluster
from hepllm.physics.lhco_writer import SLOTS, to_padded
from hepllm.physics.topologies import SignalProcess, neutral_resonance, signal_process
from hepllm.schema import BACKGROUND, SIGNAL

Purpose = Literal["rnd", "blackbox", "grid"]

Reconstruction = Callable[[GeneratedParticles, DetectorConfig, np.random.Generator], Particles]
"""What a detector sees of events: as many events, each in falling pT."""

COLLISION_ENERGY = 13000.0
"""GeV."""

MAX_DECAY_LENGTH = 10.0
"""mm; Pythia does not decay particles with a longer mean c tau (K0_S, Lambda, ...)."""

MAX_SEED = 900_000_000
"""Pythia accepts seeds in 1..900,000,000, and uses the clock for 0."""

_SEED_STRIDE = 556_230_599
"""Step between seeds; has no factor in common with MAX_SEED = 2^8 3^2 5^8, so seeds differ."""

_GRID_POSITION = MAX_SEED // 2
"""Where the seeds of a grid begin, so that the events of the other files stay as they were."""

_BATCH_RANGE = (8, 64)
"""Fewest and most events per call of Pythia."""

_GIVE_UP_AFTER = 10_000
"""Number of generated events, none of which triggers, after which the run stops."""


@dataclass(frozen=True)
class Block:
    """Rows of a file that one worker makes, and all that its events depend on.

    Attributes:
        purpose: the file.
        index: number of the block within the file.
        start: first row.
        labels: ``SIGNAL`` or ``BACKGROUND``, one byte per row.
        seed: seed of the run.
        signal: the signal; None: that of the configuration.
    """

    purpose: Purpose
    index: int
    start: int
    labels: bytes
    seed: int
    signal: SignalConfig | None = None

    def __str__(self) -> str:
        last = self.start + len(self.labels) - 1
        text = f"simulated {self.purpose} events: rows {self.start}-{last}"
        if self.signal is None:
            return text
        one = self.signal
        return (
            f"{text}, Z' {one.m_zprime:g} GeV, X {one.m_x:g} GeV to {one.decay_x}, "
            f"Y {one.m_y:g} GeV to {one.decay_y}"
        )


@dataclass(frozen=True)
class SimulatedBlock:
    """Events of a block.

    Attributes:
        rows: official layout without label, shape (events, 2100).
        n_tried: number of events generated, by process, of which these passed the trigger.
    """

    rows: Floats
    n_tried: dict[int, int]


def plan_blocks(
    purpose: Purpose,
    n_events: int,
    signal_fraction: float,
    block_size: int,
    seed: int,
    *,
    signals: Sequence[SignalConfig | None] = (None,),
) -> tuple[Block, ...]:
    """Divides the rows of a file into blocks.

    Exactly round(n_events * signal_fraction) rows are signal, at positions drawn with the seed.
    Each of ``signals`` has as many rows in succession as the others, or one more; None is the
    signal of the configuration.
    """
    labels = np.full(n_events, BACKGROUND, dtype=np.uint8)
    labels[: round(n_events * signal_fraction)] = SIGNAL
    np.random.default_rng([seed, get_args(Purpose).index(purpose)]).shuffle(labels)
    edges = [n_events * place // len(signals) for place in range(len(signals) + 1)]
    blocks: list[Block] = []
    for signal, first, stop in zip(signals, edges[:-1], edges[1:], strict=True):
        for start in range(first, stop, block_size):
            part = labels[start : min(start + block_size, stop)].tobytes()
            blocks.append(Block(purpose, len(blocks), start, part, seed, signal))
    return tuple(blocks)


def plan_points(
    signals: Sequence[SignalConfig], n_events: int, block_size: int, seed: int
) -> tuple[Block, ...]:
    """Divides a file with ``n_events`` events of each of several signals into blocks."""
    blocks: list[Block] = []
    for place, signal in enumerate(signals):
        for start in range(0, n_events, block_size):
            labels = bytes([SIGNAL]) * min(block_size, n_events - start)
            row = place * n_events + start
            blocks.append(Block("grid", len(blocks), row, labels, seed, signal))
    return tuple(blocks)


def simulate_block(block: Block, config: SimulateConfig) -> SimulatedBlock:
    """Makes the events of a block."""
    if block.signal is not None:
        config = config.model_copy(update={"signal": block.signal})
    labels = np.frombuffer(block.labels, dtype=np.uint8)
    rows = np.empty((len(labels), 3 * SLOTS))
    n_tried = {}
    for process in (BACKGROUND, SIGNAL):
        chosen = labels == process
        seed = block_seed(block.seed, block.purpose, block.index, process)
        particles, n_tried[process] = generate(process, int(chosen.sum()), seed, config)
        rows[chosen] = to_padded(particles)
    return SimulatedBlock(rows, n_tried)


def generate(
    process: int,
    n_events: int,
    seed: int,
    config: SimulateConfig,
    *,
    reconstruct: Reconstruction = detect,
) -> tuple[Particles, int]:
    """Makes events of one process, ``SIGNAL`` or ``BACKGROUND``, that pass the trigger.

    The seed, 1..900,000,000, and the configuration determine every event. Another detector than
    that of the package can be given as ``reconstruct``.

    Returns:
        The events, and the number of events generated to find them.

    Raises:
        InputError: Pythia is not installed or refuses the configuration.
        RunError: Pythia stops making events, or no event passes the trigger.
    """
    if n_events == 0:
        return concatenate([]), 0
    pythia = start_pythia(process, seed, config)
    generator = np.random.default_rng(seed)
    parts: list[Particles] = []
    n_found = n_tried = 0
    while n_found < n_events:
        # At least a quarter of the events triggers.
        batch = int(np.clip(4 * (n_events - n_found), *_BATCH_RANGE))
        generated = next_events(pythia, batch)
        particles = reconstruct(generated, config.detector, generator)
        # Events after the last one needed do not count as tried: they would bias the efficiency.
        passed = np.flatnonzero(triggers(particles, config))[: n_events - n_found]
        n_found += len(passed)
        n_tried += int(passed[-1]) + 1 if n_found == n_events else len(particles)
        parts.append(particles.take(np.isin(np.arange(len(particles)), passed)))
        if n_found == 0 and n_tried >= _GIVE_UP_AFTER:
            raise RunError(
                f"none of {n_tried} events has a jet with pT > {config.trigger_pt:g} GeV;"
                " lower simulate.trigger_pt"
            )
    return concatenate(parts), n_tried


def triggers(particles: Particles, config: SimulateConfig) -> Bools:
    """Whether each event has an anti-kT jet above the trigger's pT within its pseudorapidity."""
    jets = JetsConfig(
        radius=config.trigger_radius, pt_min=config.trigger_pt, eta_max=config.trigger_eta
    )
    return cluster(particles, jets).counts > 0


def block_seed(seed: int, purpose: Purpose, block: int, process: int) -> int:
    """The random seed of one process in one block of one file, in 1..900,000,000.

    A hash of the user's seed gives the start of a sequence in which blocks, files and processes
    have different seeds with certainty, so no two files of a run share an event.
    """
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8).digest()
    begin = int.from_bytes(digest, "little")
    if purpose == "grid":
        position = _GRID_POSITION + 2 * block + process
    else:
        position = 2 * (2 * block + get_args(Purpose).index(purpose)) + process
    return 1 + (begin + _SEED_STRIDE * position) % MAX_SEED


def start_pythia(process: int, seed: int, config: SimulateConfig) -> Any:
    """Starts a Pythia that is ready for ``nextBatch`` and writes nothing to standard output."""
    try:
        pythia8: Any = importlib.import_module("pythia8mc")
    except ImportError:
        raise InputError(
            "simulation needs Pythia 8, which is not installed; run: pip install pythia8mc"
        ) from None
    pythia = pythia8.Pythia("", False)
    settings = [
        "Print:quiet = on",
        f"Beams:eCM = {COLLISION_ENERGY}",
        "Random:setSeed = on",
        f"Random:seed = {seed}",
        "ParticleDecays:limitTau0 = on",
        f"ParticleDecays:tau0Max = {MAX_DECAY_LENGTH}",
        f"PartonLevel:MPI = {'on' if config.multiparton_interactions else 'off'}",
    ]
    if process == SIGNAL:
        chosen = signal_process(config.signal)
    else:
        chosen = SignalProcess(("HardQCD:all = on", f"PhaseSpace:pTHatMin = {config.pt_hat_min}"))
    settings += [*chosen.before, *config.pythia_settings]
    _read(pythia, settings)
    if chosen.neutral:
        hook = neutral_resonance(pythia8)
        pythia.setUserHooksPtr(hook)
        # Pythia does not keep the Python side of a hook alive; this does, as long as itself.
        weakref.finalize(pythia, id, hook)
    if not pythia.init():
        name = "signal" if process == SIGNAL else "background"
        raise InputError(
            f"Pythia refuses the {name} process; its settings were: {'; '.join(settings)}"
        )
    _read(pythia, chosen.after)
    return pythia


def _read(pythia: Any, settings: Sequence[str]) -> None:
    for setting in settings:
        if not pythia.readString(setting):
            raise InputError(f"Pythia refuses the setting '{setting}'")


def next_events(pythia: Any, n_events: int) -> GeneratedParticles:
    """Makes events and returns their stable particles; events that fail are left out.

    Raises:
        RunError: all events failed.
    """
    events = pythia.nextBatch(n_events, "skip")
    if len(events) == 0:
        raise RunError(f"Pythia failed to make any of {n_events} events in a row")
    stable = events.prt[events.prt.status > 0]
    counts = ak.to_numpy(ak.num(stable, axis=1)).astype(np.int64)
    flat = ak.flatten(stable, axis=1)
    pdg_id = ak.to_numpy(flat.id).astype(np.int64)
    codes, index = np.unique(pdg_id, return_inverse=True)
    charges = np.array([pythia.particleData.chargeType(int(code)) / 3 for code in codes])
    # Pythia gives a vertex and a momentum the same coordinate names; None is the origin.
    vertex = [ak.to_numpy(ak.fill_none(flat.vProd[axis], 0.0)) for axis in ("px", "py", "pz")]
    px, py, pz, energy = (ak.to_numpy(flat.p[axis]) for axis in ("px", "py", "pz", "e"))
    charge, vertices = charges[index], np.stack(vertex, axis=1)
    return GeneratedParticles(px, py, pz, energy, pdg_id, charge, vertices, counts)


def concatenate(parts: list[Particles]) -> Particles:
    """Joins the events of several batches, in order."""
    flat = [np.stack([part.pt, part.eta, part.phi]) for part in parts]
    counts = np.concatenate([np.empty(0, dtype=np.int64), *(part.counts for part in parts)])
    pt, eta, phi = np.concatenate([np.empty((3, 0)), *flat], axis=1)
    return Particles(pt, eta, phi, counts)
