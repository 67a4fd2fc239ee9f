"""Why folds that train one another do not count as Poisson numbers: a counting experiment.

python tools/studies/fold_dependence.py --folds 2 --folds 3 --folds 5    # docs/results/weak.md

Background alone falls into cells of equal expectation. A classifier that learns every fluctuation
selects, for each fold, the cells with most events in the other folds; the fold's events are counted
there. No event is counted by what it trained, so the mean excess is 0. But where two folds have a
fluctuation in common, each selects it for the other, and it counts twice: the sum varies by more
than a Poisson number of its mean, up to twice the variance, and so do p-values that assume one.
"""

from __future__ import annotations

from collections.abc import Sequence

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

LEVELS = (0.05, 0.01)


def excesses(
    folds: int, *, cells: int, selected: int, expected: float, boxes: int, seed: int
) -> NDArray[np.float64]:
    """The excess of each box in standard deviations of a Poisson number, shape (boxes,)."""
    random = np.random.default_rng([seed, folds])
    excess = random.poisson(expected, (boxes, folds, cells)) - expected
    others = excess.sum(axis=1, keepdims=True) - excess
    # Equal counts are put in an order at random.
    others = others + random.uniform(0, 0.5, others.shape)
    chosen = np.argpartition(-others, selected, axis=2)[:, :, :selected]
    total = np.take_along_axis(excess, chosen, axis=2).sum(axis=(1, 2))
    return np.asarray(total / np.sqrt(folds * selected * expected))


@click.command()
@click.option("--folds", "numbers", type=int, multiple=True, default=(2, 3, 5), show_default=True)
@click.option("--cells", default=50, show_default=True)
@click.option("--selected", default=5, show_default=True, help="Cells that pass the cut.")
@click.option("--expected", default=20.0, show_default=True, help="Events of a cell in a fold.")
@click.option("--boxes", default=20_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(
    numbers: Sequence[int], *, cells: int, selected: int, expected: float, boxes: int, seed: int
) -> None:
    """Prints mean and variance of the excess, and how often it seems significant."""
    for folds in numbers:
        found = excesses(
            folds, cells=cells, selected=selected, expected=expected, boxes=boxes, seed=seed
        )
        shares = " | ".join(f"{(found > norm.isf(level)).mean():.3f}" for level in LEVELS)
        click.echo(f"| {folds} | {found.mean():.2f} | {found.var():.2f} | {shares} |")


if __name__ == "__main__":
    main()
