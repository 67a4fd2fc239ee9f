"""Runs the experiments of a suite by Snakemake, which knows local cores, Slurm and HTCondor."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from hepllm.errors import InputError
from hepllm.executor import usable_cores
from hepllm.runs.suites import SNAKEFILE

LOG = "snakemake.log"

_EVERY = 1.0
"""Seconds between two looks at what is done."""


def require_snakemake() -> None:
    """Checks that Snakemake is installed.

    Raises:
        InputError: if it is not.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise InputError(
            "'hepllm experiments run' needs Snakemake, which is not installed; "
            "run: pip install 'hepllm[experiments]'"
        )


def run_jobs(
    folder: Path,
    jobs: int,
    options: Sequence[str],
    lock: int,
    on_progress: Callable[[], None],
) -> int:
    """Starts Snakemake in the folder of a suite, and waits for it.

    What was stopped before, also by ``kill -9``, goes on. Snakemake's own lock is left out, because
    it outlives a process that is killed; the lock of the folder does not.

    Args:
        folder: folder of the suite.
        jobs: experiments at once.
        options: further options of Snakemake, such as ``--executor slurm``.
        lock: descriptor that holds the lock of the folder, which Snakemake gets too.
        on_progress: called again and again.

    Returns:
        Snakemake's exit code.
    """
    is_remote = any(one.partition("=")[0] in ("--executor", "-e") for one in options)
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str((folder / SNAKEFILE).resolve())),
        *("--directory", str(folder.resolve()), "--keep-going", "--nolock", "--rerun-incomplete"),
        *("--rerun-triggers", "mtime", "--scheduler", "greedy"),
        *("--jobs" if is_remote else "--cores", str(jobs), *options),
    ]
    environment = dict(os.environ)
    if jobs > 1 and not is_remote:  # trainings that run at once share the cores
        environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // jobs)))
    with (folder / LOG).open("w", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603 (our own command)
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
            env=environment,
            process_group=0,
        )
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(_EVERY)
                on_progress()
        except BaseException:
            # To all of its group: Snakemake alone would wait until its jobs have ended.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)  # nohup and '&' let SIGINT be ignored
            process.wait()
            raise
