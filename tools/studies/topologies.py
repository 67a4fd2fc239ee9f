"""Tables what the jets of each decay of X look like in simulated signal.

    python tools/studies/topologies.py --output docs/results/topologies.md

X has the decay and Y decays to qq. Shown are medians of the jet nearest to X in mass with 95 %
intervals (bootstrap of the events), and as a reference the heavier jet of the background.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from hepllm.config import JetsConfig, SignalConfig, SimulateConfig
from hepllm.errors import HepllmError
from hepllm.hypotheses.signal import DECAYS, PRONGS, Decay
from hepllm.logs import configure_logging
from hepllm.physics.features import compute_features
from hepllm.physics.simulation import generate
from hepllm.schema import BACKGROUND, SIGNAL

Floats = NDArray[np.float64]

M_ZPRIME, M_Y = 5000.0, 200.0
REPLICAS = 500
COMMAND = "    python tools/studies/topologies.py --output docs/results/topologies.md"


@dataclass(frozen=True)
class Jets:
    """One jet of each of N events: mass over that of X (GeV for background), tau21 and tau32."""

    mass: Floats
    tau21: Floats
    tau32: Floats
    m_jj: Floats
    efficiency: float


def jets_of(config: SimulateConfig, process: int, n_events: int, seed: int) -> Jets:
    """Makes events; the jet is that nearest in mass to X, or the heavier one of background."""
    events, n_tried = generate(process, n_events, seed, config)
    columns = compute_features(events, JetsConfig())
    signal = config.signal
    m_x = signal.m_x if process == SIGNAL and signal.decay_x != "q" else None
    masses = np.maximum([columns["jet1_mass"], columns["jet2_mass"]], 1.0)
    if process == BACKGROUND:
        which = np.argmax(masses, axis=0)
    else:
        # A quark has no mass: its jet is the one that is not Y.
        which = np.argmin(np.abs(np.log(masses / (m_x or M_Y))), axis=0)
        which = which if m_x else 1 - which
    chosen = {
        name: np.where(which == 0, columns[f"jet1_{name}"], columns[f"jet2_{name}"])
        for name in ("mass", "tau21", "tau32")
    }
    chosen["mass"] = chosen["mass"] / (m_x or 1.0)
    return Jets(**chosen, m_jj=columns["m_jj"], efficiency=n_events / n_tried)


def median(values: Floats, random: np.random.Generator, digits: int = 3) -> str:
    """Median with its 95 % interval."""
    known = values[~np.isnan(values)]
    low, high = median_interval(known, random)
    return f"{np.median(known):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def median_interval(values: Floats, random: np.random.Generator) -> tuple[float, float]:
    """The 95 % interval of a median: percentiles of draws of the values with repeats."""
    drawn = values[random.integers(len(values), size=(REPLICAS, len(values)))]
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(low), float(high)


def spread(values: Floats) -> str:
    """Half of the central 68 % over the median."""
    low, middle, high = np.quantile(values, [0.16, 0.5, 0.84])
    return f"{(high - low) / 2 / middle:.2f}"


def table(found: Mapping[str, Jets], seed: int) -> list[str]:
    """Markdown table of all samples."""
    random = np.random.default_rng([seed, 1])
    reference = found["qq"]
    heads = ("decay of X", "prongs", "N", "triggers", "m_jj / m_Z'", "mass / m_X", "half width")
    heads += ("tau21", "tau32", "AUC against qq: tau21, tau32")
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, jets in found.items():
        prongs = "" if name == "background" else str(PRONGS[name])  # type: ignore[index]
        has_mass = name not in ("background", "q")
        mass = median(jets.mass, random) if has_mass else f"({np.median(jets.mass):.0f} GeV)"
        m_jj = "" if name == "background" else f"{np.median(jets.m_jj) / M_ZPRIME:.3f}"
        cells = [
            name,
            prongs,
            str(len(jets.mass)),
            f"{jets.efficiency:.2f}",
            m_jj,
            mass,
            spread(jets.mass),
            median(jets.tau21, random),
            median(jets.tau32, random),
            f"{_auc(jets.tau21, reference.tau21):.2f}, {_auc(jets.tau32, reference.tau32):.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _auc(first: Floats, second: Floats) -> float:
    values = np.concatenate([first, second])
    label = np.repeat([1, 0], [len(first), len(second)])
    known = ~np.isnan(values)
    return float(roc_auc_score(label[known], values[known]))


def text(n_events: int, masses: tuple[float, ...], seed: int) -> str:
    """The page."""
    lines = [
        "# Decays of X in the simulation",
        "",
        "What each decay is made of: [decays.md](../explanation/decays.md).",
        "",
        COMMAND,
        "",
        f"Z' of {M_ZPRIME:g} GeV, Y of {M_Y:g} GeV to qq. Medians with 95 % intervals (bootstrap)",
        "of the jet nearest to X in mass; for `q` of the jet whose mass is farther from Y's, for",
        "background (above pt_hat_min = 1100 GeV) of the heavier jet. The half width is that of",
        f"the central 68 % of the masses over the median. Seed {seed}.",
    ]
    for m_x in masses:
        found: dict[str, Jets] = {}
        for decay in DECAYS:
            found[decay] = jets_of(_config(m_x, decay), SIGNAL, n_events, seed)
        if m_x == masses[0]:
            found["background"] = jets_of(_config(m_x, "qq"), BACKGROUND, n_events, seed)
        lines += ["", f"## X of {m_x:g} GeV", "", *table(found, seed)]
    return "\n".join(lines) + "\n"


def _config(m_x: float, decay: Decay) -> SimulateConfig:
    signal = SignalConfig(m_zprime=M_ZPRIME, m_x=m_x, m_y=M_Y, decay_x=decay)
    return SimulateConfig(signal=signal, pt_hat_min=1100.0)


@click.command()
@click.option("--events", default=1000, show_default=True, help="Events of each sample.")
@click.option("--masses", default="400,600,800", show_default=True, help="Masses of X in GeV.")
@click.option("--seed", default=121, show_default=True, help="Seed of the events.")
@click.option("--output", type=click.Path(path_type=Path), help="Markdown file [print it].")
def main(*, events: int, masses: str, seed: int, output: Path | None) -> None:
    """Tables mass, tau21 and tau32 of the jet of X for each of its decays."""
    configure_logging()
    try:
        page = text(events, tuple(float(one) for one in masses.split(",")), seed)
    except HepllmError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    if output is None:
        click.echo(page)
    else:
        output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
