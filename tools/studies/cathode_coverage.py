"""Coverage of the 68 % intervals of ``cathode_weak table``: ten injections joined.

python tools/studies/cathode_coverage.py OUTPUT      # the folder of `cathode_weak.py run`

A world is fitted to the injections of one method and strength of the study: an injection has an ROC
curve eps_S = Phi(A + B Phi^-1(eps_B)), whose A and B scatter from one injection to the next. Mean
and covariance of a world are drawn: the mean by the error of the fit, the covariance by a factor
between 1/2 and 2. Its truth, the maximum of the mean SIC over infinitely many injections where as
many background events pass as the table asks for, is computed from thousands of them. Then ten
injections are drawn at a time, each with background and signal events of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from cathode_weak import DEEPEST, ENOUGH, N_TEST_SIGNAL, Curve, injections_of, jackknife_interval
from numpy.typing import NDArray
from pool_coverage import cell
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]
Ends = tuple[float, float]

INJECTIONS = 10
PASSING = np.arange(1, DEEPEST + 1)


@dataclass(frozen=True)
class World:
    """How injections scatter.

    Attributes:
        mean: (2,) mean of A and B.
        covariance: (2, 2) of A and B.
        n_background: background events that an injection is tested on.
        enough: background events of all ten that pass a cut at least.
    """

    mean: Floats
    covariance: Floats
    n_background: int
    enough: int = ENOUGH

    def draw(self, count: int, random: np.random.Generator) -> Floats:
        """SIC of ``count`` injections where enough background events of ten would pass."""
        a, b = random.multivariate_normal(self.mean, self.covariance, count).T[..., np.newaxis]
        # Efficiencies of the cuts at the k-th highest event: order statistics of uniform numbers.
        steps = random.exponential(size=(count, DEEPEST)).cumsum(axis=1)
        rest = random.gamma(self.n_background + 1 - DEEPEST, size=(count, 1))
        true = ndtr(a + b * ndtri(steps / (steps[:, -1:] + rest)))
        added = np.clip(np.diff(true, axis=1, prepend=0), 0, None)
        eps_s = random.poisson(N_TEST_SIGNAL * added).cumsum(axis=1) / N_TEST_SIGNAL
        is_open = self.enough <= INJECTIONS * PASSING
        return np.asarray(eps_s[:, is_open] / np.sqrt(PASSING[is_open] / self.n_background))

    def true_maximum(self, random: np.random.Generator, batches: int) -> float:
        """The maximum of the mean SIC over 500 injections for each of ``batches``."""
        means = [self.draw(500, random).mean(axis=0) for _ in range(batches)]
        return float(np.mean(means, axis=0).max())


def fitted(eps_s: Floats, n_background: int) -> Floats:
    """A and B of the curve of an injection, shape (2,); all ratios of cuts weigh the same."""
    slope, offset = np.polyfit(
        ndtri(PASSING / (n_background + 1)),
        ndtri(np.clip(eps_s, 1e-4, 1 - 1e-4)),
        1,
        w=1 / np.sqrt(PASSING),
    )
    return np.array([offset, slope])


def worlds(
    output: Path, background: int, repeats: int, enough: int, random: np.random.Generator
) -> Iterator[tuple[str, World]]:
    """Worlds after each row of the table."""
    for (method, fraction), injections in sorted(injections_of(output).items()):
        n_background = background // injections[0][0]["folds"]
        curves = [Curve.joined(units, background).eps_s for units in injections]
        found = np.array([fitted(curve, n_background) for curve in curves])
        covariance = np.cov(found.T)
        for _ in range(repeats):
            mean = random.multivariate_normal(found.mean(axis=0), covariance / len(found))
            scale = 2 ** random.uniform(-1, 1)
            world = World(mean, scale * covariance, n_background, enough)
            yield f"{method} {fraction:.1%}", world


def percentiles(curves: Floats, random: np.random.Generator) -> Ends:
    """The middle 68 % of draws of the injections with repeats: the interval used before."""
    n = len(curves)
    counts = random.multinomial(n, np.full(n, 1 / n), 1000)
    low, high = np.percentile((counts / n @ curves).max(axis=1), [16, 84])
    return float(low), float(high)


@click.command()
@click.argument("output", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--background", default=119_236, show_default=True)
@click.option("--worlds", "repeats", default=8, show_default=True, help="of each row of the table")
@click.option("--trials", default=25, show_default=True, help="of each world")
@click.option("--enough", default=ENOUGH, show_default=True, help="background events that pass")
@click.option("--batches", default=12, show_default=True, help="of 500 injections for a truth")
@click.option("--seed", default=1, show_default=True)
def main(
    *,
    output: Path,
    background: int,
    repeats: int,
    trials: int,
    enough: int,
    batches: int,
    seed: int,
) -> None:
    """Counts how often the intervals hold the truth."""
    random = np.random.default_rng(seed)
    held: dict[str, dict[str, list[bool]]] = {"Student, jackknife": {}, "draws with repeats": {}}
    biases = []
    for row, world in worlds(output, background, repeats, enough, random):
        true = world.true_maximum(random, batches)
        for _ in range(trials):
            curves = world.draw(INJECTIONS, random)
            biases.append(curves.mean(axis=0).max() / true - 1)
            ends = jackknife_interval(curves), percentiles(curves, random)
            for name, (low, high) in zip(held, ends, strict=True):
                held[name].setdefault(row, []).append(bool(low <= true <= high))
    click.echo("| interval | trials | coverage of 68 % [95 %] | least and most of a row |")
    click.echo("|---|---|---|---|")
    for name, by_row in held.items():
        every = [one for row in by_row.values() for one in row]
        shares = {row: np.mean(found) for row, found in by_row.items()}
        ends_of = f"{min(shares.values()):.2f} to {max(shares.values()):.2f}"
        click.echo(f"| {name} | {len(every)} | {cell(every)} | {ends_of} |")
    click.echo(f"mean of the maximum over the truth: {1 + np.mean(biases):.3f}")


if __name__ == "__main__":
    main()
