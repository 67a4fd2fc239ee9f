"""``hepllm simulate``: labelled events, a black box and a grid of signals from the generator."""

from __future__ import annotations

import functools
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepllm.config import Config, SignalConfig, SimulateConfig, dump_config
from hepllm.data.signal_points import SignalPoint, SignalPoints, points_beside
from hepllm.errors import ConfigError
from hepllm.executor import run_tasks
from hepllm.files import refuse_existing, write_together
from hepllm.logs import progress_bar
from hepllm.physics.lhco_writer import write_lhco
from hepllm.physics.signal_grid import grid_signals
from hepllm.physics.simulation import Block, plan_blocks, plan_points, simulate_block
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

    ``grid.h5`` has the signals of ``simulate.grid``. Beside each file with signal events,
    ``<stem>.points.json`` has their masses and decays by row.

    The events depend on the seed, the sizes and ``simulate.block_size``, not on the number of
    workers or the executor. All files appear together when the last is complete.

    Args:
        config: section ``simulate`` and the seed; a file of 0 events is left out.
        output: folder, made if it does not exist.
        overwrite: replace files that exist.

    Raises:
        ConfigError: all files have 0 events, the grid has no point, or more than ``rnd.h5`` events.
        InputError: a file exists, or Pythia is not installed.
        RunError: the generator or a worker failed.
    """
    settings = config.simulate
    if not (settings.rnd or settings.blackbox or settings.grid.events):
        raise ConfigError(
            "simulate.rnd, simulate.blackbox and simulate.grid.events are all 0: there is nothing "
            "to make"
        )
    plans = _plan_files(settings, config.seed)
    wanted = [name for plan in plans for name in plan.file_names()]
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
        records = [_make_file(plan, aside, settings) for plan in plans]
        (aside / CONFIG_FILE).write_text(dump_config(config), encoding="utf-8")
    return [replace(record, path=output / record.path.name) for record in records]


@dataclass(frozen=True)
class _FilePlan:
    """A file of events: its name, its blocks in the order of its rows, and where the labels go."""

    name: str
    blocks: tuple[Block, ...]
    masterkey: str | None = None

    def labels(self) -> NDArray[np.uint8]:
        """``SIGNAL`` or ``BACKGROUND``, shape (N,)."""
        return np.frombuffer(b"".join(block.labels for block in self.blocks), dtype=np.uint8)

    def file_names(self) -> list[str]:
        """The event file and those beside it."""
        names = [self.name] if self.masterkey is None else [self.name, self.masterkey]
        return [*names, points_beside(Path(self.name)).name] if self.labels().any() else names


def _plan_files(settings: SimulateConfig, seed: int) -> list[_FilePlan]:
    needs_grid = settings.grid.events or (settings.rnd and settings.rnd_signals == "grid")
    grid = grid_signals(settings.grid, seed) if needs_grid else ()
    plans = []
    if settings.rnd:
        signals: Sequence[SignalConfig | None] = grid if settings.rnd_signals == "grid" else (None,)
        if len(signals) > settings.rnd:
            raise ConfigError(
                f"simulate.rnd = {settings.rnd} is less than one event for each of the "
                f"{len(signals)} points of simulate.grid"
            )
        share, size = settings.signal_fraction, settings.block_size
        blocks = plan_blocks("rnd", settings.rnd, share, size, seed, signals=signals)
        plans.append(_FilePlan(RND_FILE, blocks))
    if settings.blackbox:
        share = settings.blackbox_signal_fraction
        blocks = plan_blocks("blackbox", settings.blackbox, share, settings.block_size, seed)
        plans.append(_FilePlan(BLACKBOX_FILE, blocks, MASTERKEY_FILE))
    if settings.grid.events:
        blocks = plan_points(grid, settings.grid.events, settings.block_size, seed)
        plans.append(_FilePlan(GRID_FILE, blocks))
    return plans


def _make_file(plan: _FilePlan, folder: Path, settings: SimulateConfig) -> SimulatedFile:
    path, labels = folder / plan.name, plan.labels()
    if plan.masterkey is not None:
        key = "".join(f"{label:.1f}\n" for label in labels)
        (folder / plan.masterkey).write_text(key, encoding="ascii")
    began = time.monotonic()
    n_tried = _write_blocks(plan.blocks, path, settings, labelled=plan.masterkey is None)
    seconds = time.monotonic() - began
    if labels.any():
        points = _points_of(plan.blocks, n_tried, settings.signal)
        SignalPoints(points=points).write(points_beside(path))
    total = sum(n_tried, Counter[int]())
    n_signal = int(labels.sum())
    n_made = ((SIGNAL, n_signal), (BACKGROUND, len(labels) - n_signal))
    signal, background = (n / total[process] if n else None for process, n in n_made)
    logger.info("%s: %d events in %.0f s", path.name, len(labels), seconds)
    return SimulatedFile(path, len(labels), n_signal, signal, background, seconds)


def _points_of(
    blocks: Sequence[Block], n_tried: Sequence[Counter[int]], default: SignalConfig
) -> list[SignalPoint]:
    """The points of a file: blocks in succession with the same signal belong to one."""
    points = []
    pairs = zip(blocks, n_tried, strict=True)
    for signal, group in groupby(pairs, key=lambda pair: pair[0].signal or default):
        members = list(group)
        n_rows = sum(len(block.labels) for block, _ in members)
        n_generated = sum(counts[SIGNAL] for _, counts in members)
        points.append(SignalPoint.of(signal, members[0][0].start, n_rows, n_generated))
    return points


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
