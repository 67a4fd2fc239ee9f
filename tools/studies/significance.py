"""Whether significances hold: the extrapolated global one, and the local one.

python tools/studies/significance.py tail TOYS    # predictions of 10,000 toys against 1,000,000
python tools/studies/significance.py local        # p-values of a peak at a fixed mass

TOYS is a folder in which pseudo-experiments are kept; a run that was stopped goes on from there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import click
import numpy as np
from scipy.stats import gamma, genpareto, norm
from scored_boxes import PATH, Floats
from search_power import smooth_truth

from hepllm.config import SearchConfig
from hepllm.search.joint_model import JointModel
from hepllm.search.peak_tests import PeakShapes
from hepllm.search.rare import RareP
from hepllm.search.smooth import FittedSpectra
from hepllm.search.spectra import bin_edges
from hepllm.search.toys import (
    NullHypothesis,
    examine,
    null_hypothesis,
    rare_p_value_of,
    run_block,
    throw,
)

LOG = logging.getLogger("significance")

_BLOCKS_PER_FILE = 10


@click.group()
def main() -> None:
    """Whether significances hold: the extrapolated global one, and the local one."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


def null_of_box(events: int, slope: float, seed: int) -> NullHypothesis:
    """The background as it is fitted to one box without signal, with all default selections."""
    truth = smooth_truth(SearchConfig(), events, slope)
    drawn = throw(truth, 1, np.random.default_rng([seed, 51]))
    fits, _ = examine(truth.background, *drawn)
    return null_hypothesis(truth.background, fits)


def kept_toys(null: NullHypothesis, folder: Path, seed: int, number: int) -> Floats:
    """Largest statistic of all selections of each of ``number`` toys; those that failed are inf."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for place in range(-(-number // (1000 * _BLOCKS_PER_FILE))):
        file = folder / f"seed{seed}-{place:04d}.npy"
        if not file.exists():
            blocks = range(place * _BLOCKS_PER_FILE, (place + 1) * _BLOCKS_PER_FILE)
            toys = [run_block(null, seed, block) for block in blocks]
            values = [np.where(one.failed, np.inf, one.statistic.max(axis=1)) for one in toys]
            partial = file.with_suffix(".partial.npy")
            np.save(partial, np.concatenate(values), allow_pickle=False)
            partial.replace(file)
            LOG.info("seed %d: %d toys", seed, 1000 * (blocks.stop))
        found.append(np.load(file, allow_pickle=False))
    return np.concatenate(found)[:number]


@main.command()
@click.argument("toys", type=PATH)
@click.option("--number", default=1_000_000, show_default=True, help="Pseudo-experiments.")
@click.option("--sets", default=20, show_default=True, help="Independent predictions.")
@click.option("--events", default=15_000, show_default=True, help="In the m_jj range.")
@click.option("--slope", default=1.0, show_default=True, help="Efficiency goes like m_jj^slope.")
@click.option("--seed", type=int, default=1, show_default=True)
def tail(toys: Path, *, number: int, sets: int, events: int, slope: float, seed: int) -> None:
    """Compares predictions of small p-values with counts.

    The counts have another seed than the predictions: 10,000 weighted pseudo-experiments each, and
    two functions fitted to the largest 5 % of 10,000 plain ones.
    """
    null = null_of_box(events, slope, seed)
    counted = np.sort(kept_toys(null, toys, seed + 1, number))[::-1]
    plain = kept_toys(null, toys, seed + 2, 10_000 * sets).reshape(sets, -1)
    click.echo(f"{np.isinf(counted).sum()} of {number} fits failed")
    click.echo("| counted p (events) | weighted | inside 68 %, 95 % | exponential | Pareto |")
    click.echo("|---|---|---|---|---|")
    for p_value in _LEVELS:
        k = round(p_value * number)
        if k < 1:
            continue
        level = float(counted[k - 1])
        found = [rare_p_value_of(null, level, seed=100 * seed + place, n_toys=10_000)
                 for place in range(sets)]  # fmt: skip
        known = [one for one in found if one is not None]
        low, high = gamma.ppf([0.16, 0.84], [k, k + 1])
        cells = [
            f"{k / number:.1e} ({k}) [{low / number:.1e}, {high / number:.1e}]",
            spread([one.value for one in known]),
            inside(known, k / number, 1 / np.sqrt(k)),
            spread([exponential_tail(one, level) for one in plain]),
            spread([pareto_tail(one, level) for one in plain]),
        ]
        click.echo("| " + " | ".join(cells) + " |")


_LEVELS = (1e-3, 1e-4, 1e-5, 3e-6)
_TAIL = 0.05


def exponential_tail(toys: Floats, level: float) -> float:
    """Extrapolates the largest 5 % of toys by an exponential function."""
    start = np.quantile(toys, 1 - _TAIL)
    return float(_TAIL * np.exp(-(level - start) / (toys[toys > start] - start).mean()))


def pareto_tail(toys: Floats, level: float) -> float:
    """Extrapolates the largest 5 % of toys by a generalised Pareto distribution."""
    start = np.quantile(toys, 1 - _TAIL)
    shape, _, scale = genpareto.fit(toys[toys > start] - start, floc=0)
    return float(_TAIL * genpareto.sf(level - start, shape, scale=scale))


def spread(values: Sequence[float]) -> str:
    """Median and 68 % range of predictions."""
    low, middle, high = np.quantile(values, [0.16, 0.5, 0.84])
    return f"{middle:.1e} [{low:.1e}, {high:.1e}]"


def inside(found: Sequence[RareP], truth: float, truth_error: float) -> str:
    """Predictions whose interval holds the counted p-value, whose own error is added."""
    pulls = [np.log(one.value / truth) / np.hypot(one.relative_error, truth_error) for one in found]
    return ", ".join(f"{np.sum(np.abs(pulls) < sigma)} of {len(found)}" for sigma in (1, 2))


@main.command()
@click.option("--events", type=int, multiple=True, default=(15_000, 150_000), show_default=True)
@click.option("--mass", "masses", type=float, multiple=True, default=(3000, 4000, 5500))
@click.option("--toys", default=20_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def local(*, events: Sequence[int], masses: Sequence[float], toys: int, seed: int) -> None:
    """Shares of spectra without a signal with a small local p-value at a fixed mass."""
    click.echo("| events | selection (events) | mass | p < 0.1 | p < 0.01 | p < 0.001 |")
    click.echo("|---|---|---|---|---|---|")
    config = SearchConfig()
    edges = bin_edges(config.m_jj_min, config.m_jj_max, config.bin_width)
    for number in events:
        null = smooth_truth(config, number, 1.0)
        drawn = throw(null, toys, np.random.default_rng([seed, 52, number]))
        fits, _ = examine(null.background, *drawn)
        for place in sorted({0, len(null.selected) - 1}):
            expected = null.selected[place].sum()
            for mass in masses:
                share = PeakShapes.at(edges, np.array([mass])).share
                p_values = local_p_values(null, drawn, fits, place, share)
                cells = [f"{100 * np.mean(p_values < limit):.3g} %" for limit in (0.1, 0.01, 0.001)]
                name = f"{expected / number:.2g} ({expected:.0f})"
                click.echo("| " + " | ".join([f"{number:,}", name, f"{mass:.0f}", *cells]) + " |")


def local_p_values(
    null: NullHypothesis,
    drawn: tuple[Floats, list[Floats]],
    fits: FittedSpectra,
    place: int,
    share: Floats,
) -> Floats:
    """Local p-values of drawn spectra, each with the parameters that its fits chose, (T,)."""
    p_values = np.empty(len(drawn[0]))
    sizes = np.stack([fits.rejected.n_parameters, fits.selected[place].n_parameters], axis=1)
    for pair in np.unique(sizes, axis=0):
        rows = np.flatnonzero((sizes == pair).all(axis=1) & fits.rejected.used.all(axis=1))
        if not len(rows):
            continue
        model = JointModel.of(null.background, fits.rejected.take(rows[:1]), int(pair[1]))
        counts = model.joined(drawn[0][rows], drawn[1][place][rows])
        _, sigma = model.fit_peak(counts, model.shapes(share)[0])
        p_values[rows] = norm.sf(sigma)
    return p_values[fits.rejected.used.all(axis=1)]


if __name__ == "__main__":
    main()
