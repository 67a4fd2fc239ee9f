"""Compares the risk without labels with the labelled one, on Gaussians and on other shapes.

    python tools/studies/unsupervised_risk.py [--seeds 10] [--events 20000]

Prints, for each prior, shape and distance of the classes in standard deviations: the labelled hinge
risk, and the relative deviation of both estimates, mean and standard deviation over the seeds; also
where the prior that is stated is twice or half the true one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats
from hepllm.learning.unsupervised_risk import NoMixtureError, estimate, labelled_hinge_risk

Draw = Callable[[np.random.Generator, int], Floats]

SHAPES: dict[str, Draw] = {
    "Gaussian": lambda random, n: random.normal(size=n),
    "Student t, 4 d.o.f.": lambda random, n: random.standard_t(4, size=n) / np.sqrt(2),
    "skewed (Gumbel)": lambda random, n: (random.gumbel(size=n) - np.euler_gamma) * 6**0.5 / np.pi,
}
"""Distributions of mean 0 and standard deviation 1."""


@dataclass(frozen=True)
class Case:
    """Scores of two classes.

    Attributes:
        shape: name of the shape of each class.
        prior: true share of signal.
        stated: share of signal that the estimates assume.
        apart: distance of the means in standard deviations.
    """

    shape: str
    prior: float
    stated: float
    apart: float

    def deviations(self, seed: int, n_events: int) -> tuple[float, float, float]:
        """Labelled risk, and how far those of mixture and split are from it; NaN without a fit."""
        random = np.random.default_rng(seed)
        is_signal = random.random(n_events) < self.prior
        scores = SHAPES[self.shape](random, n_events) + self.apart * (is_signal - 0.5)
        expected = labelled_hinge_risk(scores, is_signal, self.prior)
        split = estimate(scores, self.stated, "split").value / expected - 1
        try:
            return expected, estimate(scores, self.stated, "mixture").value / expected - 1, split
        except NoMixtureError:
            return expected, np.nan, split

    def row(self, seeds: int, n_events: int) -> str:
        """One line of the table."""
        drawn = np.array([self.deviations(seed, n_events) for seed in range(seeds)])
        fitted = drawn[~np.isnan(drawn[:, 1])]
        parts = (
            f"{100 * part.mean():+.1f} ± {100 * part.std():.1f} %" if len(part) else "-"
            for part in (fitted[:, 1], drawn[:, 2])
        )
        case = f"{self.shape} | {100 * self.prior:g} % | {100 * self.stated:g} % | {self.apart:g}"
        labelled = f"{drawn[:, 0].mean():.3f}"
        return f"| {case} | {labelled} | {' | '.join(parts)} | {seeds - len(fitted)} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--events", type=int, default=20_000)
    given = parser.parse_args()
    cases = [
        Case(shape, prior, prior, apart)
        for shape in SHAPES
        for prior in (0.5, 0.1)
        for apart in (1.0, 1.5, 2.0, 3.0, 4.0)
    ]
    cases += [
        Case("Gaussian", 0.1, stated, apart) for stated in (0.05, 0.2) for apart in (2.0, 3.0, 4.0)
    ]
    print("| shape | prior | stated | distance | labelled R | mixture | split | no fit |")
    print("|---|---|---|---|---|---|---|---|")
    for case in cases:
        print(case.row(given.seeds, given.events), flush=True)


if __name__ == "__main__":
    main()
