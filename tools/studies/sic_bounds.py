"""Coverage of the lower bounds and ratios of SICs, and how often a SIC is blank.

python tools/studies/sic_bounds.py coverage     # the tables of docs/results/metrics.md
python tools/studies/sic_bounds.py ratios
python tools/studies/sic_bounds.py blanks
"""

from __future__ import annotations

import click
import numpy as np
from mixtures import CLASSIFIERS, Classifier, Floats, Mixture, random_classifier

from hepllm.evaluation.bounds import sic_bound, sic_bounds_at
from hepllm.evaluation.crossfit import CrossFit
from hepllm.evaluation.efficiency import clopper_pearson
from hepllm.evaluation.metrics import SIGNAL_EFFICIENCIES, roc, sic_at
from hepllm.evaluation.ratios import sic_ratio
from hepllm.evaluation.scores import ScoredEvents

N_MIN = 10
CONFIDENCE = 0.95
SIZES = ((100, 900), (100, 4900), (792, 748), (14_000, 30_000))


def _share(inside: list[bool]) -> str:
    n, total = sum(inside), len(inside)
    if not total:
        return "- |"
    low, high = clopper_pearson(n, total)
    return f"{n / total:.3f} [{low:.3f}, {high:.3f}] | {total}"


def _median(values: Floats) -> str:
    known = values[~np.isnan(values)]
    return f"{np.median(known):.2f}" if len(known) else "-"


@click.group()
def main() -> None:
    """Measures lower bounds on known truth."""


@main.command()
@click.option("--trials", default=1500, show_default=True)
@click.option("--seed", default=3, show_default=True)
def coverage(trials: int, seed: int) -> None:
    """Prints how often a lower bound lies below the truth."""
    found: dict[str, list[tuple[bool, bool, float]]] = {}
    for trial in range(trials):
        generator = np.random.default_rng([seed, trial])
        classifier = random_classifier(generator)
        n_background = round(np.exp(generator.uniform(np.log(300), np.log(30_000))))
        n_signal = int(generator.choice([100, 800, 3000]))
        events = classifier.draw(n_signal, n_background, generator)
        curve = roc(events)
        bounds = sic_bounds_at(curve, np.array(SIGNAL_EFFICIENCIES), CONFIDENCE)
        for eps_s, bound in zip(SIGNAL_EFFICIENCIES, bounds, strict=True):
            truth, eps_b = classifier.sic_at(eps_s)
            is_blank = sic_at(curve, eps_s, N_MIN).sic is None
            row = (bound <= truth, is_blank, eps_b * n_background)
            found.setdefault(f"SIC({eps_s:g})", []).append(row)
        point = CrossFit({"a": events}, None, {}, N_MIN, trial).point("a")
        if point.sic is not None:
            truth = classifier.largest_sic(n_background, N_MIN)
            below = sic_bound(point, CONFIDENCE) <= truth
            found.setdefault("max SIC", []).append((below, False, np.nan))
    click.echo(
        "| bound of | all | N | shown: fewer than 10 pass | N | "
        "shown, 5 to 20 expected | N |\n|" + "---|" * 7
    )
    for name, rows in found.items():
        shares = (
            _share([below for below, _, _ in rows]),
            _share([below for below, is_blank, _ in rows if is_blank]),
            _share([below for below, is_blank, mean in rows if is_blank and 5 < mean < 20]),
        )
        click.echo(f"| {name} | {' | '.join(shares)} |")


@main.command()
@click.option("--trials", default=1000, show_default=True)
@click.option("--seed", default=4, show_default=True)
def ratios(trials: int, seed: int) -> None:
    """Prints how often the interval of a ratio contains the truth, and tells the better one."""
    contains: list[bool] = []
    told: list[bool] = []
    for trial in range(trials):
        generator = np.random.default_rng([seed, trial])
        distance, noise = generator.uniform(2, 5), generator.uniform(0.1, 2, 2)
        n_signal = int(generator.choice([100, 800, 3000]))
        n_background = round(np.exp(generator.uniform(np.log(300), np.log(30_000))))
        label = np.repeat([1, 0], [n_signal, n_background])
        hidden = generator.normal(size=len(label)) + distance * label
        pair = [
            ScoredEvents(
                hidden + one * generator.normal(size=len(label)), label, np.ones(len(label))
            )
            for one in noise
        ]
        widths = np.hypot(1, noise)
        truths = [
            Classifier("", Mixture([(1, distance, width)]), Mixture([(1, 0, width)]))
            for width in widths
        ]
        for eps_s in SIGNAL_EFFICIENCIES:
            if all(sic_at(roc(one), eps_s, N_MIN).sic is not None for one in pair):
                continue
            truth = truths[0].sic_at(eps_s)[0] / truths[1].sic_at(eps_s)[0]
            found = sic_ratio(pair[0], pair[1], eps_s, CONFIDENCE, trial)
            low, high = found.low or 0.0, np.inf if found.high is None else found.high
            contains.append(low <= truth <= high)
            if low > 1 or high < 1:
                told.append((low > 1) == (truth > 1))
    click.echo("| | share | N |\n|---|---|---|")
    click.echo(f"| the interval contains the true ratio | {_share(contains)} |")
    click.echo(f"| the interval excludes 1, on the true side | {_share(told)} |")


@main.command()
@click.option("--trials", default=200, show_default=True)
@click.option("--seed", default=5, show_default=True)
def blanks(trials: int, seed: int) -> None:
    """Prints how often too little background passes, and how far the bound is from the truth."""
    click.echo(
        "| classifier | N_s | N_b | true SIC(0.1), (0.3), (0.5) | blank before | blank after | "
        "median bound over truth |\n|" + "---|" * 7
    )
    for classifier in CLASSIFIERS:
        for n_signal, n_background in SIZES:
            rows = []
            for trial in range(trials):
                generator = np.random.default_rng([seed, trial, n_background])
                curve = roc(classifier.draw(n_signal, n_background, generator))
                bounds = sic_bounds_at(curve, np.array(SIGNAL_EFFICIENCIES), CONFIDENCE)
                blank = [sic_at(curve, x, N_MIN).sic is None for x in SIGNAL_EFFICIENCIES]
                rows.append(np.column_stack([blank, bounds]))
            is_blank, bounds = np.moveaxis(np.array(rows), 2, 0)
            shown = np.where(is_blank > 0, bounds, np.nan)
            after = (is_blank > 0) & np.isnan(bounds)
            truth = np.array([classifier.sic_at(eps_s)[0] for eps_s in SIGNAL_EFFICIENCIES])
            cells = (
                [f"{sic:.1f}" for sic in truth],
                [f"{share:.0%}" for share in is_blank.mean(axis=0)],
                [f"{share:.0%}" for share in after.mean(axis=0)],
                [_median(one) for one in (shown / truth).T],
            )
            click.echo(
                f"| {classifier.name} | {n_signal} | {n_background} | "
                f"{' | '.join(', '.join(cell) for cell in cells)} |"
            )


if __name__ == "__main__":
    main()
