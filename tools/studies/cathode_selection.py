"""Which training to take, without labels: ARGOS against the validation loss, on CATHODE's features.

python tools/studies/cathode_selection.py .../cathode    # a table of docs/results/weak-cathode.md

For each seed, four settings of a boosting are trained on the idealised mixture, and judged after 2
to 80 trees on events held out from data and template. Rules that see no label choose one of the
108; what they chose is read on test events with labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from cathode_weak import (
    N_TEST_SIGNAL,
    PATH,
    Bools,
    Floats,
    Part,
    Pool,
    Training,
    boosting,
    n_injected,
    read_pool,
    share_of,
    spread,
    training_of,
)
from threadpoolctl import threadpool_limits

from hepllm.weak.selection import argos, best_stage, crossfit_argos, validation_loss

CANDIDATES: dict[str, dict[str, float]] = {
    f"at least {least} events a leaf": {"min_samples_leaf": least} for least in (10, 30, 100, 300)
}
STAGES = tuple(range(2, 81, 3))
EPS_B = 1e-3


@dataclass(frozen=True, eq=False)
class Stage:
    """A training after some trees: what the rules see, and its SIC, which they do not."""

    candidate: str
    scores: tuple[Floats, Floats]
    sic: float


def stages_of(
    candidate: str, training: Training, used: Bools, events: list[Floats], members: int
) -> list[Stage]:
    """Trains an ensemble and reads it at each stage; events are held out, then tested."""
    totals = np.zeros((len(STAGES), sum(map(len, events))))
    together = np.concatenate(events)
    for member in range(members):
        half = used & (np.random.default_rng([member, 11]).random(len(used)) < 0.7)
        model = boosting(member, **CANDIDATES[candidate], max_iter=STAGES[-1]).fit(
            training.features[half], training.label[half], training.weight[half]
        )
        for number, probability in enumerate(model.staged_predict_proba(together), 1):
            if number in STAGES:
                totals[STAGES.index(number)] += probability[:, 1] / members
    ends = np.cumsum([len(one) for one in events])[:-1]
    found = []
    for row in totals:
        data, template, background, signal = np.split(row, ends)
        # After few trees many scores are equal: they pass together, and eps_B is larger.
        cut = np.quantile(background, 1 - EPS_B, method="higher")
        sic = (signal >= cut).mean() / np.sqrt((background >= cut).mean())
        found.append(Stage(candidate, (data, template), float(sic)))
    return found


def choices(pool: Pool, fraction: float, seed: int, members: int) -> dict[str, float]:
    """SIC on test events of the training that each rule chooses."""
    share = share_of(pool, Part(50 + seed, 0, 5))
    order = np.random.default_rng([seed, 9]).permutation(len(pool.signal))
    count = n_injected("idealised", fraction, share)
    training = training_of("idealised", pool, share, order[:count], None)
    used = np.random.default_rng([seed, 10]).random(len(training.label)) < 0.5
    events = [training.features[~used & (training.label == kind)] for kind in (1, 0)]
    events += [pool.background[share.test], pool.signal[order[-N_TEST_SIGNAL:]]]
    by_candidate = {name: stages_of(name, training, used, events, members) for name in CANDIDATES}
    stages = [one for found in by_candidate.values() for one in found]
    smooth = [found[best_stage([one.scores for one in found])] for found in by_candidate.values()]
    return {
        "validation loss": min(stages, key=lambda one: validation_loss(one.scores)).sic,
        "ARGOS": largest(stages),
        "ARGOS, mean over neighbouring stages": largest(smooth),
        "ARGOS at cuts of the other half": max(
            stages, key=lambda one: crossfit_argos(one.scores, seed)
        ).sic,
        "mean of all 108": float(np.mean([one.sic for one in stages])),
        "the best, by labels": max(one.sic for one in stages),
    }


def largest(stages: Iterable[Stage]) -> float:
    """SIC of the stage of the largest ARGOS."""
    return max(stages, key=lambda one: argos(one.scores).value).sic


@click.command()
@click.argument("source", type=PATH)
@click.option("--fraction", default=0.006, show_default=True)
@click.option("--seeds", default=10, show_default=True)
@click.option("--members", default=1, show_default=True)
def main(source: Path, fraction: float, seeds: int, members: int) -> None:
    """Prints the SIC of what each rule chooses, and its difference to the validation loss."""
    threadpool_limits(1)
    pool = read_pool(source)
    chosen: dict[str, list[float]] = {}
    for seed in range(seeds):
        for rule, sic in choices(pool, fraction, seed, members).items():
            chosen.setdefault(rule, []).append(sic)
        last = ", ".join(f"{rule} {found[-1]:.2f}" for rule, found in chosen.items())
        click.echo(f"seed {seed}: {last}", err=True)
    click.echo(f"| rule | SIC at eps_B = {EPS_B:g} | minus validation loss | above it |")
    click.echo("|---|---|---|---|")
    for rule, found in chosen.items():
        gain = np.array(found) - chosen["validation loss"]
        error = gain.std(ddof=1) / np.sqrt(seeds)
        above = f"{(gain > 0).sum()} of {seeds}"
        click.echo(f"| {rule} | {spread(found)} | {gain.mean():+.2f} ± {error:.2f} | {above} |")


if __name__ == "__main__":
    main()
