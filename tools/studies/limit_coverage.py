"""Coverage of the upper limits of the search, by spectra with a known signal.

python tools/studies/limit_coverage.py --events 15000 --mass 3500 --signal 3 --signal 10 --signal 30

Each spectrum is drawn from a smooth background with signal that passes the cut, both of its fits
are done as in a search, and CLs is evaluated at the true number of signal events. The limit
covers it where CLs > 0.05; that shall happen in at least 95 % of the spectra.
"""

from __future__ import annotations

from collections.abc import Sequence

import click
import numpy as np
from scipy.stats import beta
from search_power import smooth_truth

from hepllm.config import SearchConfig
from hepllm.search.limits import CONFIDENCE, PeakSearch
from hepllm.search.resonance import RESOLUTION, peak
from hepllm.search.smooth import fit_spectra
from hepllm.search.spectra import bin_edges
from hepllm.search.toys import NullHypothesis, throw


@click.command()
@click.option("--events", default=15_000, show_default=True, help="In the m_jj range.")
@click.option("--efficiency", default=0.03, show_default=True, help="Share that the cut keeps.")
@click.option("--mass", "masses", type=float, multiple=True, default=(3000.0, 4000.0, 5500.0))
@click.option("--signal", "signals", type=float, multiple=True, default=(3.0, 10.0, 30.0))
@click.option("--spectra", default=300, show_default=True)
@click.option("--toys", default=500, show_default=True, help="For each hypothesis.")
@click.option("--seed", type=int, default=1, show_default=True)
def main(
    *,
    events: int,
    efficiency: float,
    masses: Sequence[float],
    signals: Sequence[float],
    spectra: int,
    toys: int,
    seed: int,
) -> None:
    """Counts how often the 95 % CL limit is above the true number of signal events."""
    config = SearchConfig(efficiencies=(efficiency,))
    null = smooth_truth(config, events, 1.0)
    edges = bin_edges(config.m_jj_min, config.m_jj_max, config.bin_width)
    for mass in masses:
        shape = peak(edges, mass, RESOLUTION)
        shape = shape / shape.sum()
        for size in signals:
            random = np.random.default_rng([seed, 46, int(mass), int(size)])
            covered = sum(covers(null, shape, size, random, toys) for _ in range(spectra))
            missed = spectra - covered
            low, high = beta.ppf(
                [0.16, 0.84], [covered, covered + 1], [missed + 1, max(missed, 0.5)]
            )
            click.echo(
                f"{mass:.0f} GeV, {size:g} signal events, {null.selected[0].sum():.0f} of "
                f"background: {covered / spectra:.3f} [{low:.3f}, {high:.3f}] of {spectra} covered"
            )


def covers(
    null: NullHypothesis, shape: np.ndarray, size: float, random: np.random.Generator, toys: int
) -> bool:
    """Whether the limit from one spectrum is above its true number of signal events."""
    rejected, (selected, *_) = throw(null, 1, random)
    selected = selected + random.poisson(size * shape, selected.shape)
    fits = fit_spectra(null.background, rejected, [selected])
    n_parameters = int(fits.selected[0].n_parameters[0])
    basis = null.background.factor[:, :n_parameters]
    search = PeakSearch(selected[0], shape, basis, np.log(fits.rejected.expected[0]))
    log_cls = search.log_cls(np.array([size]), random, toys)[0, 0]
    return bool(log_cls > np.log(1 - CONFIDENCE))


if __name__ == "__main__":
    main()
