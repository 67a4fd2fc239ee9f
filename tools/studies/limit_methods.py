"""Expected limits by asymptotic formulae and by pseudo-experiments, and the time that they take.

python tools/studies/limit_methods.py

The spectra are those of a smooth background without fluctuations; limits are on the signal events
that pass the cut.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import click
import numpy as np
from search_power import smooth_truth

from hepllm.config import SearchConfig
from hepllm.search.limit_model import FittedSelections, shape_variations
from hepllm.search.peak_shape import PeakShape
from hepllm.search.spectra import BoxSpectra, bin_edges


@click.command()
@click.option("--events", default=20_000, show_default=True, help="In the m_jj range.")
@click.option("--efficiency", "efficiencies", type=float, multiple=True, default=(0.1, 0.01))
@click.option("--mass", "masses", type=float, multiple=True, default=(3000.0, 4000.0, 5500.0))
@click.option("--toys", default=5000, show_default=True, help="For each hypothesis.")
@click.option("--seed", type=int, default=1, show_default=True)
def main(
    *,
    events: int,
    efficiencies: Sequence[float],
    masses: Sequence[float],
    toys: int,
    seed: int,
) -> None:
    """Compares median expected 95 % CL limits."""
    click.echo("| kept | mass | background within 2 widths | asymptotic | toys | ratio | s |")
    click.echo("|" + "---|" * 7)
    peak = PeakShape.shipped()
    for kept in sorted(efficiencies, reverse=True):
        config = SearchConfig(efficiencies=(kept,))
        edges = bin_edges(config.m_jj_min, config.m_jj_max, config.bin_width)
        null = smooth_truth(config, events, 1.0)
        selections = FittedSelections(
            BoxSpectra(edges, null.rejected, null.selected), null.background, 3, [2]
        )
        for mass in masses:
            _, variations = shape_variations(peak, edges, mass)
            test = selections.test(0, variations, np.ones(1))
            half = 2 * peak.resolution(mass) * mass
            near = (edges[1:] > mass - half) & (edges[:-1] < mass + half)
            began = time.process_time()
            found, _ = test.limits(np.random.default_rng([seed, 49]), toys)
            seconds = time.process_time() - began
            asymptotic, by_toys = test.asymptotic_limits()[1], found.expected[2]
            click.echo(
                f"| {kept:g} | {mass:.0f} | {null.selected[0][near].sum():.1f} | {asymptotic:.2f} "
                f"| {by_toys:.2f} | {asymptotic / by_toys:.2f} | {seconds:.1f} |"
            )


if __name__ == "__main__":
    main()
