"""Bias and coverage of estimated signal fractions, on scores drawn at random.

python tools/studies/prior_coverage.py                    # the table of docs/results/demo.md
python tools/studies/prior_coverage.py --trials 200 --events 100000 --validation 20000

The scores are drawn from fixed distributions that look like those of the demo's classifier: each
class has a tail below the other. Each trial draws its box and its validation events anew, and the
number of signal events of the box from a binomial distribution.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from hepllm.evaluation.efficiency import clopper_pearson
from hepllm.evaluation.prior import PriorEstimate, estimate_prior
from hepllm.evaluation.scores import ScoredEvents

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.1)


def draw(n_signal: int, n_background: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Scores of signal, then of background."""
    signal = generator.normal(np.where(generator.random(n_signal) < 0.9, 3.0, -2.0), 2.0)
    background = generator.normal(np.where(generator.random(n_background) < 0.02, 1.0, -4.0), 2.2)
    return np.concatenate([signal, background])


def trial(
    fraction: float, n_events: int, n_validation: int, confidence: float, seed: int
) -> PriorEstimate:
    """One box with its own validation events."""
    generator = np.random.default_rng([seed, n_validation, round(fraction * 1e6)])
    n_signal = int(generator.binomial(n_events, fraction))
    score = draw(n_signal, n_events - n_signal, generator)
    label = np.repeat([1, 0], n_validation)
    known = ScoredEvents(
        draw(n_validation, n_validation, generator), label, np.ones(2 * n_validation)
    )
    return estimate_prior(score, np.ones(n_events), known, confidence=confidence)


def main() -> None:
    """Prints one row per number of validation events and true fraction."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--events", type=int, default=20_000, help="of a box [20000]")
    parser.add_argument(
        "--validation", type=int, nargs="+", default=[413, 2000, 20_000], help="of each class"
    )
    parser.add_argument("--confidence", type=float, default=0.95)
    options = parser.parse_args()
    print("| validation events per class | true | mean estimate | median upper end | covered |")
    print("|---|---|---|---|---|")
    for n_validation in options.validation:
        for fraction in FRACTIONS:
            found = [
                trial(fraction, options.events, n_validation, options.confidence, seed)
                for seed in range(options.trials)
            ]
            values = np.array([(one.fraction, *one.interval) for one in found])
            mean, error = values[:, 0].mean(), values[:, 0].std() / np.sqrt(options.trials)
            covered = int(((values[:, 1] <= fraction) & (fraction <= values[:, 2])).sum())
            low, high = clopper_pearson(covered, options.trials)
            print(
                f"| {n_validation} | {fraction:.1%} | {mean:.2%} +- {error:.2%} | "
                f"{np.median(values[:, 2]):.2%} | {covered} of {options.trials} "
                f"[{low:.2f}, {high:.2f}] |",
                flush=True,
            )


if __name__ == "__main__":
    main()
