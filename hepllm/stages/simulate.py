"""``hepllm simulate``: a labelled file and a black box from the event generator."""

from __future__ import annotations

import functools
import logging
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hepllm.config import Config, SimulateConfig, dump_config
from hepllm.errors import ConfigError
from hepllm.executor import run_tasks
from hepllm.files import refuse_existing, write_together
from hepllm.logs import progress_bar
from hepllm.physics.lhco_writer import write_lhco
from hepllm.physics.simulation import Block, Purpose, plan_blocks, simulate_block
from hepllm.schema import BACKGROUND, SIGNAL

logger = logging.getLogger(__name__)

RND_FILE = "rnd.h5"
BLACKBOX_FILE = "blackbox.h5"
MASTERKEY_FILE = "blackbox.masterkey"
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
    """Makes ``rnd.h5``, ``blackbox.h5`` with ``blackbox.masterkey``, and ``simulate.yaml``.

    The events depend on the seed, the sizes and ``simulate.block_size``, not on the number of
    workers or the executor. All files appear together when the last is complete.

    Args:
        config: section ``simulate`` and the seed; a file of 0 events is left out.
        output: folder, made if it does not exist.
        overwrite: replace files that exist.

    Raises:
        ConfigError: both files have 0 events.
        InputError: a file exists, or Pythia is not installed.
        RunError: the generator or a worker failed.
    """
    settings = config.simulate
    if settings.rnd == 0 and settings.blackbox == 0:
        raise ConfigError("simulate.rnd and simulate.blackbox are both 0: there is nothing to make")
    wanted = [RND_FILE] if settings.rnd else []
    wanted += [BLACKBOX_FILE, MASTERKEY_FILE] if settings.blackbox else []
    refuse_existing(output, [*wanted, CONFIG_FILE], overwrite)
    safe_pt_hat = _SAFE_PT_HAT * settings.trigger_pt
    if settings.pt_hat_min > safe_pt_hat:
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
    n_tried = _write_blocks(blocks, path, settings, labelled=labelled)
    seconds = time.monotonic() - began
    n_signal = int(labels.sum())
    n_made = ((SIGNAL, n_signal), (BACKGROUND, n_events - n_signal))
    signal, background = (n / n_tried[process] if n else None for process, n in n_made)
    logger.info("%s: %d events in %.0f s", path.name, n_events, seconds)
    return SimulatedFile(path, n_events, n_signal, signal, background, seconds)


def _write_blocks(
    blocks: tuple[Block, ...], path: Path, settings: SimulateConfig, *, labelled: bool
) -> Counter[int]:
    """Writes the events of all blocks; returns the number of generated events by process."""
    n_tried: Counter[int] = Counter()
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
            n_tried.update(result.n_tried)
            progress.update(len(labels))
    return n_tried
