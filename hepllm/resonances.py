"""The Python interface of the search: scores and masses as arrays.

import hepllm

found = hepllm.find_resonance(score, m_jj, jet_masses=(m1, m2), label=is_signal)
found.submission.p_value, found.submission.resonance_mass_gev
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from hepllm.arrays import Floats, Labels
from hepllm.config import load_config
from hepllm.errors import InputError
from hepllm.search.box import BoxEvents
from hepllm.search.submission import ReferenceSignal
from hepllm.stages.search import SearchReport, search_arrays


def find_resonance(
    score: ArrayLike,
    mass: ArrayLike,
    *overrides: str,
    jet_masses: tuple[ArrayLike, ArrayLike] | None = None,
    signal: tuple[ArrayLike, ArrayLike] | None = None,
    label: ArrayLike | Callable[[], ArrayLike] | None = None,
    name: str = "box",
    mass_name: str = "m_jj",
    seed: int = 1,
    output: str | Path | None = None,
    overwrite: bool = False,
) -> SearchReport:
    """Searches N events for a resonance in their mass, with the scores of any classifier.

    It does what ``hepllm search`` and ``hepllm eval --blackbox`` do. The scores must not follow
    the mass, or a cut on them carves a bump into the background.

    Args:
        score: (N,), larger for more signal-like events.
        mass: (N,) in GeV; NaN for events without it.
        overrides: settings as for ``--set``, such as ``evaluation.search.m_jj_min=3000``.
        jet_masses: (N,) masses of the two leading jets in GeV, in any order.
        signal: (M,) scores and masses of simulated signal, for the efficiency of cuts; without it
            the number of events in the box is not known.
        label: (N,) true classes, above 0 for signal and below 0 for unknown, or a function that
            gives them; it is called, or the array looked at, when the submission is made.
        name: name of the box for tables and pictures.
        mass_name: name of the mass, such as ``m_jjj``.
        seed: seed of pseudo-experiments and replicas.
        output: folder for ``submission.json``, pictures and a page; None to write nothing.
        overwrite: replace an earlier search in the folder.

    Returns:
        The report: ``submission`` with all findings, ``unblinding`` with the truth, ``text``.

    Raises:
        InputError: if the arrays do not fit together, a score is not finite, the box has too few
            events, or the output exists.
        ConfigError: if an override is not valid.
        RunError: if the background cannot be fitted.
    """
    config = load_config(None, [*overrides, f"seed={seed}", f"evaluation.search.mass={mass_name}"])
    scores = _numbers(score, "score")
    missing = np.full(len(scores), np.nan)
    first, second = (missing, missing) if jet_masses is None else jet_masses
    jets = [_numbers(one, "jet_masses", len(scores)) for one in (first, second)]
    events = BoxEvents(
        scores, _numbers(mass, "mass", len(scores)), np.minimum(*jets), np.maximum(*jets)
    )
    reference = None
    if signal is not None:
        of_signal = _numbers(signal[0], "signal")
        masses = _numbers(signal[1], "signal", len(of_signal))
        weight = np.ones(len(of_signal))
        reference = ReferenceSignal(of_signal, masses, weight, "the signal that was given")

    def read_labels() -> Labels | None:
        if label is None:
            return None
        values = _numbers(label() if callable(label) else label, "label", len(scores))
        return np.asarray(np.sign(np.nan_to_num(values, nan=-1)), dtype=np.int8)

    return search_arrays(
        name,
        events,
        config,
        reference=reference,
        read_labels=read_labels,
        output=None if output is None else Path(output),
        overwrite=overwrite,
    )


def _numbers(values: ArrayLike, name: str, length: int | None = None) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected numbers: {error}") from None
    if array.ndim != 1 or (length is not None and len(array) != length):
        expected = "(N,)" if length is None else f"({length},)"
        raise InputError(f"{name}: expected shape {expected}, found {array.shape}")
    return array
