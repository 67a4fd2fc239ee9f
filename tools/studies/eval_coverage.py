"""How often the bootstrap intervals of `hepllm eval` hold the truth, for one classifier.

python tools/studies/eval_coverage.py

Each trial draws a classifier whose efficiencies are known, and the sizes of its test sample: 700 to
30,000 background and 100, 800 or 3,000 signal events. The truth of the AUC and of the SIC at a
signal efficiency is that of the classifier on infinitely many events. A SIC is counted where `eval`
quotes it, with ten background events that pass or more; that choice is a part of what is measured.
The last row is the median of 1,000 values of a quantity of a jet, as tables of decays have it.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
import numpy as np
from mixtures import Classifier, Floats, random_classifier
from pool_coverage import cell
from scipy.stats import gamma
from topologies import median_interval

from hepllm.evaluation.bootstrap import bootstrap, interval
from hepllm.evaluation.metrics import roc, sic_at

NAME = "a"
CUTS = np.linspace(-15, 20, 20_001)
EPS_S = (0.1, 0.3, 0.5)
N_MIN = 10
HIGH = 0.99
FEW = 50
"""Background events that pass below which a SIC has a row of its own."""


def true_auc(classifier: Classifier) -> float:
    """The AUC on infinitely many events, by the trapezoidal rule over the cuts."""
    eps_s, eps_b = classifier.signal.above(CUTS), classifier.background.above(CUTS)
    return float(-np.trapezoid(eps_s, eps_b))


def trial(seed: int, number: int, replicas: int) -> Iterator[tuple[str, bool]]:
    """Which intervals of one test sample hold the truth."""
    random = np.random.default_rng([seed, number])
    classifier = random_classifier(random)
    n_background = round(np.exp(random.uniform(np.log(700), np.log(30_000))))
    n_signal = int(random.choice([100, 800, 3000]))
    events = classifier.draw(n_signal, n_background, random)
    drawn = bootstrap({NAME: events}, {NAME: ()}, EPS_S, replicas, number)[NAME]
    area = true_auc(classifier)
    name = f"true one above {HIGH}" if area > HIGH else f"{n_signal:,} signal events"
    yield f"AUC, {name}", _holds(drawn.auc, area)
    curve = roc(events)
    for eps_s, values in zip(EPS_S, drawn.sic_at().T, strict=True):
        point = sic_at(curve, eps_s, N_MIN)
        if point.sic is None:
            continue
        n_pass = n_background * (eps_s / point.sic) ** 2
        name = f"{N_MIN} to {FEW} pass" if n_pass < FEW else f"{FEW} or more"
        yield f"SIC({eps_s}), {name}", _holds(values, classifier.sic_at(eps_s)[0])
    scale, shape = random.uniform(0.05, 0.5), random.uniform(1, 6)
    truth = scale * gamma.median(shape)
    low, high = median_interval(scale * random.gamma(shape, size=1000), random)
    yield "median of 1,000 jets", bool(low <= truth <= high)


def _holds(values: Floats, truth: float) -> bool:
    low, high = interval(values, 0.95, 0.05).pair or (np.nan, np.nan)
    return bool(low <= truth <= high)


@click.command()
@click.option("--trials", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--replicas", type=click.IntRange(20), default=1000, show_default=True)
@click.option("--seed", default=3, show_default=True)
def main(trials: int, replicas: int, seed: int) -> None:
    """Prints the coverage of the 95 % intervals."""
    held: dict[str, list[bool]] = {}
    for number in range(trials):
        for name, one in trial(seed, number, replicas):
            held.setdefault(name, []).append(one)
    click.echo("| interval of 95 % | trials | holds the truth |\n|---|---|---|")
    for name in sorted(held):
        click.echo(f"| {name} | {len(held[name])} | {cell(held[name])} |")


if __name__ == "__main__":
    main()
