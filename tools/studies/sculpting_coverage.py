"""Whether p-values and intervals of sculpting hold, on spectra whose truth is known.

python tools/studies/sculpting_coverage.py

Background falls like m^-6, and the efficiency of every cut on the score goes like a power of m_jj:
with a power of 0 p-values must be flat, with any power 95 % of the intervals must hold the truth.
"""

from __future__ import annotations

import click
import numpy as np
from scipy.stats import kstest
from sculpting import BINS, EDGES, Floats, measured

from hepllm.evaluation.sculpting import BackgroundMasses
from hepllm.evaluation.sculpting_records import CutSculpting

BACKGROUNDS = ((800, "0.1"), (5000, "0.1"), (5000, "0.01"), (50_000, "0.001"))
"""Events, and the share that the cut keeps."""
POWERS = (0.0, 1.0, 2.0)


def draw_masses(n_events: int, random: np.random.Generator) -> Floats:
    """A spectrum that falls like m^-6 in the range of the search."""
    low, high = EDGES[0] ** -5, EDGES[-1] ** -5
    return np.asarray((low - random.random(n_events) * (low - high)) ** -0.2)


@click.command()
@click.option("--trials", default=300, show_default=True)
@click.option("--events", type=int, help="Only the backgrounds of this size.")
@click.option("--seed", default=1, show_default=True)
def main(trials: int, events: int | None, seed: int) -> None:
    """Prints p-values without sculpting, and how often intervals contain the truth."""
    click.echo(
        "| background | eps_B | power | JS p <= 0.05 | KS p | excess p <= 0.05 | KS p | "
        "JS without noise covers | power covers |\n|" + "---|" * 9
    )
    many = draw_masses(3_000_000, np.random.default_rng([seed, 0]))
    for n_events, cut in BACKGROUNDS:
        if events not in (None, n_events):
            continue
        for power in POWERS:
            rows, truth = [], true_spectra(many, power)
            for trial in range(trials):
                random = np.random.default_rng([seed, n_events, round(10 * power), trial])
                m_jj = draw_masses(n_events, random)
                # All cuts on this score have efficiencies that go like m_jj^power.
                score = power * np.log(m_jj) - np.log(random.random(n_events))
                found = measured(m_jj, score, trial).cuts[cut]
                rows.append(_told(found, true_distance(m_jj, *truth), power))
            click.echo(f"| {n_events} | {cut} | {power:g} | " + _share(np.array(rows), power))


def true_spectra(many: Floats, power: float) -> tuple[Floats, Floats]:
    """Spectra of nearly infinitely many events before and after a cut."""
    before, after = (np.histogram(many, EDGES, weights=many**one)[0] for one in (0.0, power))
    return before, after


def true_distance(m_jj: Floats, before: Floats, after: Floats) -> float:
    """The distance of true spectra in the bins that these events have."""
    bins = BackgroundMasses(m_jj, np.ones(len(m_jj)), BINS)
    return float(np.sqrt(bins.divergence(after[None], before[None])[0]))


def _told(found: CutSculpting, distance: float, power: float) -> list[float]:
    within = [
        one is not None and one[0] <= truth + 1e-9 and truth <= one[1] + 1e-9
        for one, truth in (
            (found.js_without_noise.interval, distance),
            (found.power.interval, power),
        )
    ]
    excess = np.nan if found.excess is None else found.excess.p
    return [found.js_p, excess, *map(float, within)]


def _share(rows: Floats, power: float) -> str:
    cells = []
    for values in rows[:, :2].T:
        known = values[~np.isnan(values)]
        cells.append(f"{np.mean(known <= 0.05):.3f}" if len(known) else "-")
        is_null = power == 0 and len(known) > 0
        cells.append(f"{kstest(known, 'uniform').pvalue:.2f}" if is_null else "")
    return " | ".join([*cells, *(f"{share:.3f}" for share in rows[:, 2:].mean(axis=0))]) + " |"


if __name__ == "__main__":
    main()
