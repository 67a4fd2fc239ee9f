"""``hepllm simulate``: labelled events, a black box and a grid of signals from the generator."""

from __future__ import annotations

import functools
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hepllm.config import Config, SignalConfig, SimulateConfig, dump_config
from hepllm.data.signal_points import SignalPoint, SignalPoints, points_beside
from hepllm.errors import ConfigError
from hepllm.executor import run_tasks
from hepllm.files import refuse_existing, write_together
from hepllm.logs import progress_bar
from hepllm.physics.lhco_writer import write_lhco
from hepllm.physics.signal_grid import grid_signals
from hepllm.physics.simulation import Block, Purpose, plan_blocks, plan_points, simulate_block
from hepllm.schema import BACKGROUND, SIGNAL

logger = logging.getLogger(__name__)

RND_FILE = "rnd.h5"
BLACKBOX_FILE = "blackbox.h5"
MASTERKEY_FILE = "blackbox.masterkey"
GRID_FILE = "grid.h5"
CONFIG_FILE = "simulate.yaml"

_SAFE_PT_HAT = 0.75
"""Share of the trigger's pT; showers and jet resolution raise few pT by more than a third."""


@dataclass(frozen=True)
class SimulatedFile:
    """One file of simulated events.

    Attributes:
        path: the file.
        n_events: number of events.
        n_signal: number of signal events.
        signal_efficiency: share of generated signal events that trigger; None without any.
        background_efficiency: the same for QCD events above ``simulate.pt_hat_min``.
        seconds: wall-clock time.
    """

    path: Path
    n_events: int
    n_signal: int
    signal_efficiency: float | None
    background_efficiency: float | None
    seconds: float


def simulate(config: Config, output: Path, *, overwrite: bool = False) -> list[SimulatedFile]:
    """Makes ``rnd.h5``, ``blackbox.h5`` with its key, ``grid.h5`` and ``simulate.yaml``.

    ``grid.h5`` has the signals of ``simulate.grid``, ``grid.points.json`` their masses by row.

    The events depend on the seed, the sizes and ``simulate.block_size``, not on the number of
    workers or the executor. All files appear together when the last is complete.

    Args:
        config: section ``simulate`` and the seed; a file of 0 events is left out.
        output: folder, made if it does not exist.
        overwrite: replace files that exist.

    Raises:
        ConfigError: all files have 0 events, or the grid has no point.
        InputError: a file exists, or Pythia is not installed.
        RunError: the generator or a worker failed.
    """
    settings = config.simulate
    if not (settings.rnd or settings.blackbox or settings.grid.events):
        raise ConfigError(
            "simulate.rnd, simulate.blackbox and simulate.grid.events are all 0: there is nothing "
            "to make"
        )
    signals = grid_signals(settings.grid, config.seed) if settings.grid.events else ()
    wanted = [RND_FILE] if settings.rnd else []
    wanted += [BLACKBOX_FILE, MASTERKEY_FILE] if settings.blackbox else []
    wanted += [GRID_FILE, points_beside(Path(GRID_FILE)).name] if signals else []
    refuse_existing(output, [*wanted, CONFIG_FILE], overwrite)
    safe_pt_hat = _SAFE_PT_HAT * settings.trigger_pt
    if settings.pt_hat_min > safe_pt_hat and (settings.rnd or settings.blackbox):
        logger.warning(
            "simulate.pt_hat_min = %g GeV is so close to the trigger that QCD events which would "
            "trigger are not generated; set it to %g GeV or less to lose almost none",
            settings.pt_hat_min,
            safe_pt_hat,
        )
    with write_together(output) as aside:
        records = []
        if settings.rnd:
            records.append(_make_file("rnd", aside / RND_FILE, settings, config.seed))
        if settings.blackbox:
            records.append(_make_file("blackbox", aside / BLACKBOX_FILE, settings, config.seed))
        if signals:
            records.append(_make_grid(aside / GRID_FILE, signals, settings, config.seed))
        (aside / CONFIG_FILE).write_text(dump_config(config), encoding="utf-8")
    return [replace(record, path=output / record.path.name) for record in records]


def _make_file(purpose: Purpose, path: Path, settings: SimulateConfig, seed: int) -> SimulatedFile:
    labelled = purpose == "rnd"
    n_events = settings.rnd if labelled else settings.blackbox
    fraction = settings.signal_fraction if labelled else settings.blackbox_signal_fraction
    blocks = plan_blocks(purpose, n_events, fraction, settings.block_size, seed)
    labels = np.frombuffer(b"".join(block.labels for block in blocks), dtype=np.uint8)
    if not labelled:
        key = "".join(f"{label:.1f}\n" for label in labels)
        path.with_name(MASTERKEY_FILE).write_text(key, encoding="ascii")
    began = time.monotonic()
    n_tried = sum(_write_blocks(blocks, path, settings, labelled=labelled), Counter[int]())
    seconds = time.monotonic() - began
    n_signal = int(labels.sum())
    n_made = ((SIGNAL, n_signal), (BACKGROUND, n_events - n_signal))
    signal, background = (n / n_tried[process] if n else None for process, n in n_made)
    logger.info("%s: %d events in %.0f s", path.name, n_events, seconds)
    return SimulatedFile(path, n_events, n_signal, signal, background, seconds)


def _make_grid(
    path: Path, signals: Sequence[SignalConfig], settings: SimulateConfig, seed: int
) -> SimulatedFile:
    n_each = settings.grid.events
    blocks = plan_points(signals, n_each, settings.block_size, seed)
    began = time.monotonic()
    n_tried = _write_blocks(blocks, path, settings, labelled=True)
    seconds = time.monotonic() - began
    tried = Counter[int]()
    for block, counts in zip(blocks, n_tried, strict=True):
        tried[block.start // n_each] += counts[SIGNAL]
    points = [
        SignalPoint(
            m_zprime=signal.m_zprime,
            m_x=signal.m_x,
            m_y=signal.m_y,
            first=place * n_each,
            events=n_each,
            generated=tried[place],
        )
        for place, signal in enumerate(signals)
    ]
    SignalPoints(points=points).write(points_beside(path))
    n_events = n_each * len(signals)
    logger.info("%s: %d points, %d events in %.0f s", path.name, len(signals), n_events, seconds)
    return SimulatedFile(path, n_events, n_events, n_events / tried.total(), None, seconds)


def _write_blocks(
    blocks: tuple[Block, ...], path: Path, settings: SimulateConfig, *, labelled: bool
) -> list[Counter[int]]:
    """Writes the events of all blocks; returns the number generated, by block and process."""
    n_tried: list[Counter[int]] = []
    results = run_tasks(
        functools.partial(simulate_block, config=settings),
        blocks,
        kind=settings.executor,
        workers=settings.workers,
        ordered=True,
    )
    n_events = sum(len(block.labels) for block in blocks)
    with (
        write_lhco(path, n_events, labelled=labelled) as writer,
        progress_bar(n_events, path.stem) as progress,
        closing(results),
    ):
        for block, result in results:
            labels = np.frombuffer(block.labels, dtype=np.uint8)
            writer.append(result.rows, labels if labelled else None)
            n_tried.append(Counter(result.n_tried))
            progress.update(len(labels))
    return n_tried
