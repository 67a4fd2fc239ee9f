"""Tables of events with a resonance, for searches without labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

_COLUMNS = ("m_jj", "jet_mass_light", "jet_mass_delta", "tau21_light", "tau21_heavy", "label")


def _resonance_table(
    file: Path,
    n_background: int,
    n_signal: int,
    *,
    seed: int,
    width: float = 100.0,
    permuted: bool = False,
) -> Path:
    random = np.random.default_rng(seed)
    number = n_background + n_signal
    columns = [
        2500 + random.exponential(700, number),
        *random.lognormal(4.5, 0.6, (2, number)),
        *random.uniform(0.2, 0.9, (2, number)),
        np.arange(number) >= n_background,
    ]
    columns[0][n_background:] = random.normal(3500, width, n_signal)
    columns[1][n_background:] = random.normal(90, 5, n_signal)
    columns[2][n_background:] = random.normal(400, 20, n_signal)
    columns[3][n_background:] = random.normal(0.15, 0.02, n_signal)
    if permuted:
        columns[5] = np.random.default_rng(7).permutation(columns[5])
    rows, head = np.column_stack(columns), ",".join(_COLUMNS)
    np.savetxt(file, rows, delimiter=",", header=head, comments="")
    return file


@pytest.fixture(scope="session")
def resonance_table() -> Callable[..., Path]:
    """``resonance_table(file, n_background, n_signal, seed=1)`` writes a CSV file and returns it.

    The events are QCD-like; the signal is a resonance of light, two-pronged jets at 3.5 TeV with
    ``width`` in GeV. With ``permuted`` the labels are those of other events.
    """
    return _resonance_table
