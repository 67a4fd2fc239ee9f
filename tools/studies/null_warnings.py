"""How often a search without a signal warns that it may be wrong, and whether it is.

python tools/studies/null_warnings.py rates [POOL]           # warnings and p-values by sample size
python tools/studies/null_warnings.py failing                # a signal that fails the loosest cut
python tools/studies/null_warnings.py power                  # how often signals are found
python tools/studies/null_warnings.py steep                  # where the efficiency rises steeply

Spectra are drawn from background shapes of another family than that of the fit: a modified dijet
function, a power law times an exponential, and a cubic spline through the spectrum of POOL, a
simulated dataset. The efficiency of a cut goes like m_jj to a power that grows from 1 to 1.6 with
tighter cuts, and bends. The window that the checks leave out is that of the scan.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import click
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.optimize import curve_fit
from scipy.stats import chi2, kstest
from scored_boxes import PATH, Floats
from search_power import smooth_truth

from hepllm.config import SearchConfig
from hepllm.data.dataset import read_dataset
from hepllm.evaluation.efficiency import clopper_pearson
from hepllm.schema import BACKGROUND
from hepllm.search.caveats import LARGEST_SPURIOUS, SMALL_P, is_large
from hepllm.search.hunt import prepare_background
from hepllm.search.peak_shape import PeakShape
from hepllm.search.peak_tests import spurious_signal
from hepllm.search.poisson import BatchFit, fit, orthonormal
from hepllm.search.resonance import RESOLUTION
from hepllm.search.scan import scan_batch
from hepllm.search.smooth import FittedSpectra, SmoothBackground
from hepllm.search.spectra import bin_edges
from hepllm.search.toys import (
    NullHypothesis,
    examine,
    goodness_outside,
    run_block,
    throw,
)

CONFIG = SearchConfig()
EDGES = bin_edges(CONFIG.m_jj_min, CONFIG.m_jj_max, CONFIG.bin_width)
CENTRE = np.sqrt(EDGES[1:] * EDGES[:-1])
X = CENTRE / CONFIG.sqrt_s
WIDTH = np.diff(EDGES)

Bools = NDArray[np.bool_]

_GAP = 3.0
_TOY_BOXES = 10
_DOUBT = 0.05
_KNOTS = 6


def modified_dijet() -> Floats:
    """(1 - x^(1/3))^a x^(b + c log x), near the simulated spectrum."""
    root, log_x = np.log1p(-np.cbrt(X)), np.log(X)
    return near_dijet(lambda _, a, b, c, d: a + b * root + c * log_x + d * log_x**2)


def exponential() -> Floats:
    """x^a exp(b x + c x^2), near the simulated spectrum."""
    log_x = np.log(X)
    return near_dijet(lambda _, a, b, c, d: a + b * log_x + c * X + d * X**2)


def near_dijet(log_density: Callable[..., Floats]) -> Floats:
    """Fits a function to a dijet function like the simulated spectrum."""
    dijet = (1 - X) ** 8 * X**-5
    start = [0.0, 1.0, -5.0, 0.0]
    sigma = 1 / np.sqrt(dijet * WIDTH)
    parameters, _ = curve_fit(log_density, X, np.log(dijet), start, sigma, maxfev=100_000)
    return np.asarray(np.exp(log_density(X, *parameters)) * WIDTH)


def spline(pool: Path) -> Floats:
    """A cubic spline in log m_jj through the spectrum of a simulated background."""
    table = read_dataset(pool).load(("m_jj",))
    m_jj = table.column("m_jj")[table.label == BACKGROUND]
    counts = np.histogram(m_jj, EDGES)[0].astype(np.float64)
    place = np.log(CENTRE)
    inner = np.linspace(place[0], place[-1] + 1e-9, _KNOTS)
    knots = np.concatenate([inner[[0] * 3], inner, inner[[-1] * 3]])
    basis = orthonormal(BSpline.design_matrix(place, knots, 3).toarray())
    return np.asarray(fit(counts[None], basis, np.log(WIDTH)).expected[0])


def truth_of(before: Floats, events: float) -> NullHypothesis:
    """The spectra of background events in the range, of all and of each selection."""
    before = before * events / before.sum()
    u = np.log(CENTRE / CENTRE[0])
    selected = []
    for place, share in enumerate(sorted(CONFIG.efficiencies)[::-1]):
        odds = share * np.exp((1 + 0.15 * place) * u - 0.3 * u**2)
        for _ in range(50):
            passing = before * odds / (1 + odds)
            odds *= share * events / passing.sum()
        if passing.sum() >= CONFIG.min_selected:
            selected.append(passing)
    background = prepare_background(EDGES, CONFIG)
    return NullHypothesis(background, before - selected[0], np.array(selected))


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What searches say of N boxes without a signal, (N,) each.

    ``p_value`` is counted in toys of ten of the boxes.
    """

    p_value: Floats
    misfit: Bools
    not_described: Bools
    changed: Bools


def judge(truth: NullHypothesis, boxes: int, seed: int) -> Verdicts:
    """Draws boxes and searches them."""
    background = truth.background
    rejected, selected = throw(truth, boxes, np.random.default_rng([seed, 61]))
    fits, data = examine(background, rejected, selected)
    p_value = p_values(truth, fits, data.statistic.max(axis=1), seed)
    found = np.empty((3, boxes), dtype=bool)
    for box in range(boxes):
        best = int(data.statistic[box].argmax())
        outside = outside_of_bump(background, selected[best], fits.selected[best], box)
        row = np.array([box])
        before = fits.rejected.take(row)
        said = [
            judge_selection(
                rejected[box],
                (before, one.take(row)),
                counts[box],
                background,
                outside=outside,
                seed=seed + box,
            )
            for counts, one in zip(selected, fits.selected, strict=True)
        ]
        misfits, goodness, changes = zip(*said, strict=True)
        found[:, box] = (
            max(misfits) > LARGEST_SPURIOUS,
            min(goodness) < SMALL_P / len(goodness),
            any(
                is_large(change, counts[box].sum(), place)
                for place, (change, counts) in enumerate(zip(changes, selected, strict=True))
            ),
        )
    return Verdicts(p_value, *found)


def p_values(truth: NullHypothesis, fits: FittedSpectra, statistic: Floats, seed: int) -> Floats:
    """P-values of the statistic of N boxes, (N,), counted in toys from the fits of ten of them."""
    toys = []
    for box in range(min(_TOY_BOXES, len(statistic))):
        selected = np.stack([one.expected[box] for one in fits.selected])
        null = NullHypothesis(truth.background, fits.rejected.expected[box], selected)
        toys.append(run_block(null, seed, box).statistic.max(axis=1))
    exceeding = np.sort(np.concatenate(toys))
    return np.asarray(1 - np.searchsorted(exceeding, statistic) / len(exceeding))


def outside_of_bump(
    background: SmoothBackground, counts: Floats, fitted: BatchFit, box: int
) -> Bools:
    """Bins more than three widths away from the middle of the most bump-like window."""
    one = slice(box, box + 1)
    bump = scan_batch(counts[one], fitted.expected[one], background.windows)
    start, width = int(bump.start[0]), int(bump.width[0])
    mass = np.sqrt(EDGES[start] * EDGES[start + width])
    return np.asarray(np.abs(CENTRE / mass - 1) > _GAP * RESOLUTION)


def judge_selection(
    rejected: Floats,
    fits: tuple[BatchFit, BatchFit],
    counts: Floats,
    background: SmoothBackground,
    *,
    outside: Bools,
    seed: int,
) -> tuple[float, float, float]:
    """Spurious signal beyond noise, p-value of the fit outside, and change of the shape.

    ``fits`` are those of the rejected and of the selected events.
    """
    before, after = (one.expected[0] for one in fits)
    template = background.template(fits[0])[0]
    basis = background.factor[:, : int(fits[1].n_parameters[0])]
    spurious = spurious_signal(rejected, before, after, basis, EDGES)
    # Pseudo-experiments only where chi-squared leaves a doubt.
    freedom = int(outside.sum()) - basis.shape[1]
    again = fit(counts[None], basis, template, outside[None])
    goodness = float(chi2.sf(again.deviance[0], freedom))
    if goodness < _DOUBT:
        exact = goodness_outside(counts, basis, template, outside, seed)
        goodness = 1.0 if exact is None else exact.value
    passing = counts[outside]
    return float(spurious.beyond_noise.max()), goodness, distance(passing, rejected[outside])


def distance(passing: Floats, failing: Floats) -> float:
    """Kolmogorov-Smirnov distance of two histograms."""
    shares = [np.cumsum(one) / one.sum() for one in (passing, failing)]
    return float(np.abs(shares[0] - shares[1]).max())


@click.group()
def main() -> None:
    """How often a search without a signal warns that it may be wrong, and whether it is."""


@main.command()
@click.argument("pool", type=PATH, required=False)
@click.option("--events", multiple=True, type=int, default=(15_000, 150_000, 700_000))
@click.option("--boxes", default=300, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def rates(pool: Path | None, *, events: Sequence[int], boxes: int, seed: int) -> None:
    """Shares of boxes with each warning, with 95 % intervals, and of small p-values."""
    shapes = {"exponential": exponential(), "modified dijet": modified_dijet()}
    if pool is not None:
        shapes = {"simulated": spline(pool), **shapes}
    heads = ("shape", "events", "misfit", "not described", "changed", "any", "p <= 0.05", "KS p")
    click.echo("| " + " | ".join(heads) + " |")
    click.echo("|" + "---|" * len(heads))
    for name, before in shapes.items():
        for number in events:
            truth = truth_of(before, number)
            found = judge(truth, boxes, seed)
            told = [found.misfit, found.not_described, found.changed]
            cells = [share(one) for one in (*told, np.any(told, axis=0))]
            small = share(found.p_value <= 0.05)
            flat = f"{kstest(found.p_value, 'uniform').pvalue:.2f}"
            click.echo("| " + " | ".join([name, f"{number:,}", *cells, small, flat]) + " |")


def share(said: Bools) -> str:
    """A share in percent with its 95 % interval."""
    low, high = clopper_pearson(int(said.sum()), len(said))
    return f"{100 * np.mean(said):.1f} [{100 * low:.1f}, {100 * high:.1f}]"


@main.command()
@click.option("--events", default=150_000, show_default=True, help="In the m_jj range.")
@click.option("--boxes", default=300, show_default=True)
@click.option("--mass", "masses", type=float, multiple=True, default=(3500.0, 5000.0))
@click.option("--sigma", "sizes", type=float, multiple=True, default=(3.0, 10.0, 30.0))
@click.option("--seed", type=int, default=1, show_default=True)
def failing(
    *, events: int, boxes: int, masses: Sequence[float], sizes: Sequence[float], seed: int
) -> None:
    """False claims by a signal of which no event passes the loosest cut.

    Its size is in standard deviations of the rejected background within two widths of the peak.
    """
    heads = ("mass", "sigma", "events", "misfit", "p <= 0.05", "p <= 0.01")
    click.echo("| " + " | ".join(heads) + " |")
    click.echo("|" + "---|" * len(heads))
    truth = truth_of(exponential(), events)
    for mass in masses:
        near = np.abs(CENTRE / mass - 1) < 2 * RESOLUTION
        for size in sizes:
            number = size * np.sqrt(truth.rejected[near].sum()) / 0.95
            spoiled = truth.rejected + number * PeakShape.shipped().shares(EDGES, mass)
            other = NullHypothesis(truth.background, spoiled, truth.selected)
            found = judge(other, boxes, seed)
            cells = [share(found.misfit)]
            cells += [share(found.p_value <= limit) for limit in (0.05, 0.01)]
            click.echo(
                "| " + " | ".join([f"{mass:.0f}", f"{size:g}", f"{number:.0f}", *cells]) + " |"
            )


@main.command()
@click.option("--events", default=15_000, show_default=True, help="In the m_jj range.")
@click.option("--toys", default=10_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def power(*, events: int, toys: int, seed: int) -> None:
    """Shares of boxes with a signal that have p < 0.001.

    The signal passes the five cuts with 85, 70, 50, 30 and 15 % of its events. Sizes are in
    standard deviations of the background within two widths, after the cut at 0.01.
    """
    truth = truth_of(exponential(), events)
    blocks = [run_block(truth, seed, block).statistic.max(axis=1) for block in range(toys // 1000)]
    critical = float(np.quantile(np.concatenate(blocks), 0.999))
    click.echo("| mass | signal events | p < 0.001 |")
    click.echo("|---|---|---|")
    for mass in (3000.0, 3500.0, 4200.0, 5000.0, 6000.0, 6800.0):
        near = np.abs(CENTRE / mass - 1) < 2 * RESOLUTION
        root = np.sqrt(truth.selected[min(2, len(truth.selected) - 1)][near].sum() + 1)
        for size in (3, 5):
            number = size * root / _EFFICIENCIES[2]
            random = np.random.default_rng([seed, 62, int(mass)])
            rejected, selected = throw(truth, 1000, random)
            share = PeakShape.shipped().shares(EDGES, mass)
            passing = np.append(_EFFICIENCIES[: len(selected)], 0.0)
            rejected = rejected + random.poisson(number * (1 - passing[0]) * share, rejected.shape)
            within, seen = np.zeros_like(rejected), []
            for counts, part in zip(selected[::-1], -np.diff(passing)[::-1], strict=True):
                within = within + random.poisson(number * part * share, rejected.shape)
                seen.append(counts + within)
            found = examine(truth.background, rejected, seen[::-1])[1].statistic.max(axis=1)
            click.echo(f"| {mass:.0f} | {number:.0f} | {np.mean(found > critical):.3f} |")


_EFFICIENCIES = (0.85, 0.7, 0.5, 0.3, 0.15)


@main.command()
@click.option("--events", multiple=True, type=int, default=(15_000, 150_000, 700_000))
@click.option("--slope", "slopes", multiple=True, type=float, default=(1.0, 2.0))
@click.option("--boxes", default=1500, show_default=True)
@click.option("--seed", type=int, default=3, show_default=True)
def steep(*, events: Sequence[int], slopes: Sequence[float], boxes: int, seed: int) -> None:
    """Small p-values where the efficiency of all cuts goes like m_jj to a power."""
    click.echo("| events | slope | p <= 0.01 | p <= 0.05 | p <= 0.1 | KS p |")
    click.echo("|---|---|---|---|---|---|")
    for number in events:
        for slope in slopes:
            truth = smooth_truth(CONFIG, number, slope)
            drawn = throw(truth, boxes, np.random.default_rng([seed, number]))
            fits, data = examine(truth.background, *drawn)
            p_value = p_values(truth, fits, data.statistic.max(axis=1), seed)
            cells = [f"{100 * np.mean(p_value <= limit):.1f} %" for limit in (0.01, 0.05, 0.1)]
            flat = f"{kstest(p_value, 'uniform').pvalue:.2f}"
            click.echo("| " + " | ".join([f"{number:,}", f"{slope:g}", *cells, flat]) + " |")


if __name__ == "__main__":
    main()
