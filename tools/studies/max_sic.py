"""The reported maximum of the SIC against the true one, before and after cross-fitting.

python tools/studies/max_sic.py bias         # the first table of docs/results/metrics.md
python tools/studies/max_sic.py choices      # the second one
python tools/studies/max_sic.py coverage     # the third one

Scores are drawn from classifiers whose true SIC is known at every cut. ``before`` is the former
rule, the cut of the largest SIC on the validation events alone, of which the minimum must pass too.
"""

from __future__ import annotations

import click
import numpy as np
from mixtures import CLASSIFIERS, Classifier, Floats, random_classifier

from hepllm.evaluation.background import required_by_omnilearn
from hepllm.evaluation.bootstrap import bootstrap, interval
from hepllm.evaluation.crossfit import CrossFit
from hepllm.evaluation.efficiency import clopper_pearson
from hepllm.evaluation.metrics import Threshold, max_sic_in_sample, read_at, roc
from hepllm.evaluation.scores import ScoredEvents

N_MIN = 10
VALIDATION = (400, 1500, 10_000, 50_000, 150_000)
"""Validation background events."""

TESTS = ((792, 748), (100, 4900), (14_000, 30_000), (25_000, 250_000))
"""Signal and background events: the demo's test split and box, CATHODE's features, lhco-rnd."""

NAME = "a"


def before(events: ScoredEvents, known: ScoredEvents) -> float:
    """The SIC at the cut of the largest SIC on validation data; NaN where it is not quoted."""
    validation, curve = roc(known), roc(events)
    expected = validation.eps_b * events.n_background
    sic = validation.sic(N_MIN)
    sic = np.where(expected - np.sqrt(expected) >= N_MIN, sic, np.nan)
    if np.isnan(sic).all():
        return np.nan
    cut = Threshold(float(validation.threshold[np.nanargmax(sic)]), "")
    return _number(read_at(curve, cut, N_MIN).sic)


def after(events: ScoredEvents, known: ScoredEvents, seed: int) -> CrossFit:
    """The cuts of the present rule."""
    return CrossFit({NAME: events}, {NAME: known}, {}, N_MIN, seed)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _spread(values: Floats) -> str:
    blank = np.isnan(values).mean()
    rest = f" ({blank:.0%} blank)" if blank else ""
    return f"{np.nanmean(values):.1f} +- {np.nanstd(values):.1f}{rest}"


def _bias_rows(
    classifier: Classifier, sizes: tuple[int, int], n_trials: int, seed: int
) -> list[str]:
    n_signal, n_background = sizes
    truth = classifier.largest_sic(n_background, N_MIN)
    found = np.empty((n_trials, len(VALIDATION), 2))
    of_papers = np.empty((n_trials, 2))
    for trial in range(n_trials):
        generator = np.random.default_rng([seed, trial, n_background])
        events = classifier.draw(n_signal, n_background, generator)
        curve = roc(events)
        for column, n_min in enumerate((required_by_omnilearn(n_background), 1)):
            of_papers[trial, column] = _number(max_sic_in_sample(curve, n_min).sic)
        for row, n_known in enumerate(VALIDATION):
            known = classifier.draw(min(n_known, 10_000), n_known, generator)
            largest = after(events, known, trial)
            found[trial, row] = before(events, known), _number(largest.point(NAME).sic)
    begin = f"| {classifier.name} | {n_signal} | {n_background} | {truth:.1f} |"
    end = " | ".join(_spread(column) for column in of_papers.T)
    return [
        f"{begin} {rule} | {' | '.join(_spread(row) for row in values)} | {end} |"
        for rule, values in zip(("before", "after"), found.transpose(2, 1, 0), strict=True)
    ]


@click.group()
def main() -> None:
    """Measures bias and coverage of the reported maximum of the SIC."""


@main.command()
@click.option("--trials", default=50, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--only", help="name of one classifier")
def bias(trials: int, seed: int, only: str | None) -> None:
    """Prints mean and standard deviation of the reported maximum over trials."""
    validation = " | ".join(f"{number:,}" for number in VALIDATION)
    click.echo(f"| classifier | N_s | N_b | true | rule | {validation} | OmniLearn | CATHODE |")
    click.echo("|" + "---|" * (7 + len(VALIDATION)))
    for classifier in CLASSIFIERS:
        for sizes in TESTS if only in (None, classifier.name) else ():
            for row in _bias_rows(classifier, sizes, trials, seed):
                click.echo(row)


@main.command()
@click.option("--trials", default=100, show_default=True)
@click.option("--seed", default=6, show_default=True)
def choices(trials: int, seed: int) -> None:
    """Prints the maximum over the true one by the events that choose its cuts."""
    rules = ("validation alone", "folds alone", "folds and validation")
    click.echo(f"| classifier | N_s | N_b | validation N_b | {' | '.join(rules)} |")
    click.echo("|" + "---|" * (4 + len(rules)))
    for classifier in CLASSIFIERS:
        for n_signal, n_background in TESTS[:2]:
            truth = classifier.largest_sic(n_background, N_MIN)
            for n_known in VALIDATION[:3:2]:
                found = np.empty((trials, len(rules)))
                for trial in range(trials):
                    generator = np.random.default_rng([seed, trial, n_background])
                    events = classifier.draw(n_signal, n_background, generator)
                    known = classifier.draw(n_known, n_known, generator)
                    alone = CrossFit({NAME: events}, None, {}, N_MIN, trial)
                    both = after(events, known, trial)
                    read = [_number(one.point(NAME).sic) for one in (alone, both)]
                    found[trial] = before(events, known), *read
                shares = " | ".join(
                    f"{np.nanmean(column):.2f} +- {np.nanstd(column):.2f}"
                    for column in (found / truth).T
                )
                click.echo(
                    f"| {classifier.name} | {n_signal} | {n_background} | {n_known} | {shares} |"
                )


@main.command()
@click.option("--trials", default=400, show_default=True)
@click.option("--replicas", default=200, show_default=True)
@click.option("--seed", default=2, show_default=True)
def coverage(trials: int, replicas: int, seed: int) -> None:
    """Prints how often intervals contain the truth, over classifiers and sizes drawn at random."""
    covered: dict[tuple[float, str], list[bool]] = {}
    ratio = []
    for trial in range(trials):
        generator = np.random.default_rng([seed, trial])
        classifier = random_classifier(generator)
        n_background = round(np.exp(generator.uniform(np.log(700), np.log(30_000))))
        n_signal = int(generator.choice([100, 800, 3000]))
        n_known = int(generator.choice([400, 1500, 10_000]))
        events = classifier.draw(n_signal, n_background, generator)
        largest = after(events, classifier.draw(n_known, n_known, generator), trial)
        sic, truth = largest.point(NAME).sic, classifier.largest_sic(n_background, N_MIN)
        if sic is None:
            continue
        ratio.append(sic / truth)
        cuts = largest.cuts(NAME)
        own = float(
            classifier.signal.above(cuts).mean() / np.sqrt(classifier.background.above(cuts).mean())
        )
        drawn = bootstrap({NAME: events}, {NAME: []}, (0.5,), replicas, trial, largest=[largest])
        for level in (0.68, 0.95):
            low, high = interval(drawn[NAME].max_sic(), level, 0.05).pair or (np.nan, np.nan)
            for what, value in (("largest that can be read", truth), ("at the cuts", own)):
                covered.setdefault((level, what), []).append(low <= value <= high)
    click.echo(
        f"{len(ratio)} of {trials} trials have a value; its ratio to the true maximum is "
        f"{np.mean(ratio):.3f} +- {np.std(ratio) / np.sqrt(len(ratio)):.3f}, "
        f"standard deviation {np.std(ratio):.2f}.\n"
    )
    click.echo("| interval | true SIC | covered | share |\n|---|---|---|---|")
    for (level, what), inside in covered.items():
        n, total = sum(inside), len(inside)
        low, high = clopper_pearson(n, total)
        click.echo(
            f"| {level:.0%} | {what} | {n} of {total} | {n / total:.3f} [{low:.3f}, {high:.3f}] |"
        )


if __name__ == "__main__":
    main()
