"""Intervals of the tables of labels by coherence, and how often they hold the truth.

python tools/studies/pool_coverage.py

Accuracies: events of a pool share its signal, its labels and its luck, so the pools are the
independent units. A trial draws a true mean accuracy (0.5 to 0.98), a spread of the accuracies of
pools (beta distribution; correlation rho of two events of a pool), as many pools and events as the
tables have, and counts whether the interval holds the mean: that of `label_elicitation`, and the
binomial one of all events.

Gains: a trial draws the gains of 12 signals around a mean, normal or skewed (gamma), and compares
Student's interval of `labelled_examples` with percentiles of draws of the signals with repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import click
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import t as student

from hepllm.evaluation.efficiency import clopper_pearson
from hepllm.evaluation.paired_tests import mean_interval

Floats = NDArray[np.float64]
Ends = tuple[float, float]

CONFIDENCE = 0.95
POOLS = (4, 9, 10, 12)
EVENTS = (24, 48, 128)
SIGNALS = 12
GAINS: Mapping[str, Callable[[np.random.Generator], Floats]] = {
    "normal": lambda random: random.normal(size=SIGNALS),
    "skewed (gamma of shape 4)": lambda random: random.gamma(4, size=SIGNALS) - 4,
    "skewed (exponential)": lambda random: random.gamma(1, size=SIGNALS) - 1,
}


def pool_interval(right: Sequence[int], n_events: int) -> Ends:
    """The 95 % interval of the mean accuracy over pools, for other pools.

    Student's t over the pools, in the logit of the accuracy, which has no ends. The variance of
    the mean is at least the binomial one, which few pools can fall below by chance.

    Args:
        right: events with the right label in each of two or more pools.
        n_events: events of a pool.
    """
    n_pools, total = len(right), len(right) * n_events
    mean = (sum(right) + 0.5) / (total + 1)
    slope = mean * (1 - mean)  # of the accuracy by its logit
    between = float(np.var(np.asarray(right) / n_events, ddof=1)) / n_pools
    error = np.sqrt(max(between, slope / total)) / slope
    reach = student.ppf((1 + CONFIDENCE) / 2, n_pools - 1) * error
    low, high = expit(logit(mean) + np.array([-reach, reach]))
    return float(low), float(high)


def binomial_interval(right: Sequence[int], n_events: int) -> Ends:
    """The exact interval for independent events."""
    return clopper_pearson(sum(right), len(right) * n_events, CONFIDENCE)


def resampled_interval(values: Floats, random: np.random.Generator) -> Ends:
    """Percentiles of the mean over draws with repeats."""
    means = random.choice(values, (1000, len(values))).mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def accuracy_trial(rho: float, random: np.random.Generator) -> tuple[bool, bool]:
    """Whether the intervals of one study, over pools and of all events, hold the true mean."""
    mean = random.uniform(0.5, 0.98)
    n_pools, n_events = int(random.choice(POOLS)), int(random.choice(EVENTS))
    accuracy = np.full(n_pools, mean)
    if rho:
        size = 1 / rho - 1
        accuracy = random.beta(mean * size, (1 - mean) * size, n_pools)
    right = random.binomial(n_events, accuracy).tolist()
    ends = pool_interval(right, n_events), binomial_interval(right, n_events)
    over_pools, of_events = (bool(low <= mean <= high) for low, high in ends)
    return over_pools, of_events


def gain_trial(gains: Floats, random: np.random.Generator) -> tuple[bool, bool]:
    """Whether both intervals of the mean hold its true value, zero."""
    by_student, resampled = (
        low <= 0 <= high
        for low, high in (
            mean_interval(gains, CONFIDENCE) or (np.nan, np.nan),
            resampled_interval(gains, random),
        )
    )
    return by_student, resampled


def cell(held: Sequence[bool]) -> str:
    """Coverage with its own 95 % interval."""
    low, high = clopper_pearson(sum(held), len(held))
    return f"{np.mean(held):.3f} [{low:.3f}, {high:.3f}]"


@click.command()
@click.option("--trials", type=click.IntRange(1), default=4000, show_default=True, help="of a row")
@click.option("--seed", default=1, show_default=True)
def main(trials: int, seed: int) -> None:
    """Prints the coverage of both intervals of accuracies and gains."""
    random = np.random.default_rng(seed)
    click.echo("| accuracies, rho | trials | over pools | binomial |\n|---|---|---|---|")
    for low, high in ((0.0, 0.0), (0.002, 0.02), (0.02, 0.1), (0.1, 0.4)):
        rhos = np.exp(random.uniform(np.log(low), np.log(high), trials)) if high else [0] * trials
        columns = zip(*(accuracy_trial(float(rho), random) for rho in rhos), strict=True)
        name = f"{low:g} to {high:g}" if high else "0"
        click.echo(f"| {name} | {trials} | {' | '.join(cell(one) for one in columns)} |")
    click.echo(
        "\n| gains of 12 signals | trials | Student | draws with repeats |\n|---|---|---|---|"
    )
    for name, draw in GAINS.items():
        columns = zip(*(gain_trial(draw(random), random) for _ in range(trials)), strict=True)
        click.echo(f"| {name} | {trials} | {' | '.join(cell(one) for one in columns)} |")


if __name__ == "__main__":
    main()
