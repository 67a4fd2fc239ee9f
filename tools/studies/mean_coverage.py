"""Coverage of the intervals of ``case_means``: means over signals and trainings, and their ratios.

    python tools/studies/mean_coverage.py --trials 300

Two classifiers are trained several times. A training separates all signals by a shift that is drawn
for it, and adds noise of its own to the score of each event, so that the same events are correlated
between trainings and classifiers. The truth is the SIC at eps_B = 1e-3 that a classifier has on
average over all trainings, by numerical integration.
"""

from __future__ import annotations

import click
import numpy as np
from case_means import EPS_B, METRICS, Floats, Mean, Scored, measure
from scipy.special import ndtr, ndtri
from scipy.stats import beta

SEPARATIONS = np.array([1.8, 2.4, 3.0])
"""Of the signals, in standard deviations of a score."""
SHIFTS = {"first": 0.0, "second": -0.2}
NOISE = 0.5
"""Standard deviation of the noise of a training over that of an event."""


def true_sic(shift: float, spread: float) -> float:
    """The mean over signals and trainings of the SIC at eps_B = 1e-3."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    shifts = shift + spread * nodes
    width = np.sqrt(1 + NOISE**2)
    efficiency = ndtr((SEPARATIONS[:, None] + shifts) / width - ndtri(1 - EPS_B))
    return float((efficiency @ weights).mean() / weights.sum() / np.sqrt(EPS_B))


def draw(
    random: np.random.Generator, sizes: tuple[int, int], trainings: int, spread: float
) -> dict[str, list[list[Scored]]]:
    """Scores of one experiment: by classifier, for each training those of each signal."""
    n_signal, n_background = sizes
    background = random.normal(size=n_background)
    signals = [random.normal(d, 1, n_signal) for d in SEPARATIONS]

    def noisy(values: Floats) -> Floats:
        return values + NOISE * random.normal(size=len(values))

    found: dict[str, list[list[Scored]]] = {}
    for name, shift in SHIFTS.items():
        found[name] = []
        for _ in range(trainings):
            moved, scored = shift + spread * random.normal(), noisy(background)
            found[name].append([Scored(noisy(one) + moved, scored) for one in signals])
    return found


@click.command()
@click.option("--trials", default=300, show_default=True)
@click.option("--trainings", multiple=True, type=int, default=(1, 3), show_default=True)
@click.option("--spread", default=0.05, show_default=True, help="of the trainings' shifts")
@click.option("--signal", default=1000, show_default=True, help="events of each signal")
@click.option("--background", default=20_000, show_default=True)
@click.option("--replicas", default=80, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(
    *,
    trials: int,
    trainings: tuple[int, ...],
    spread: float,
    signal: int,
    background: int,
    replicas: int,
    seed: int,
) -> None:
    """Counts how often intervals of 95 % hold the truth."""
    truth = {name: true_sic(shift, spread) for name, shift in SHIFTS.items()}
    ratio = truth["second"] / truth["first"]
    click.echo("| trainings | of | trials | coverage of 95 % | truth | mean of the estimates |")
    click.echo("|---|---|---|---|---|---|")
    for count in trainings:
        held: dict[str, list[bool]] = {"SIC at eps_B = 1e-3": [], "ratio": []}
        values: dict[str, list[float]] = {name: [] for name in held}
        for trial in range(trials):
            random = np.random.default_rng([seed, count, trial])
            _, means = measure(draw(random, (signal, background), count, spread), replicas, trial)
            first, second = (Mean.of(means[name][METRICS[0]], i) for i, name in enumerate(SHIFTS))
            over = second.over(first)
            for name, mean, true in (
                ("SIC at eps_B = 1e-3", first, truth["first"]),
                ("ratio", over, ratio),
            ):
                low, high = mean.interval
                held[name].append(bool(low <= true <= high))
                values[name].append(mean.value)
        for name, true in (("SIC at eps_B = 1e-3", truth["first"]), ("ratio", ratio)):
            n_held = sum(held[name])
            low, high = beta.ppf([0.16, 0.84], n_held + 0.5, trials - n_held + 0.5)
            shown = f"{n_held / trials:.3f} [{low:.3f}, {high:.3f}]"
            average = np.mean(values[name])
            click.echo(f"| {count} | {name} | {trials} | {shown} | {true:.3f} | {average:.3f} |")


if __name__ == "__main__":
    main()
