"""Compares estimates of the hinge risk of classifiers on unlabelled events with the labelled one.

    python tools/studies/unsupervised_risk_classifiers.py DATASET... --output build/risk

Adapter (with a linear layer in place of the language model), boosting and logistic regression are
trained on few labels, half of them signal, and score 20,000 events of which 10 or 50 % are signal.
Their hinge risk is estimated from these scores and the share of signal, without labels or with some
labelled events that no training saw ("landmarks"). Scores are taken as they are, or divided by the
temperature of the landmarks. Results are appended to risks.jsonl, from which a call that is
repeated goes on; the tables have the deviation of estimate over labelled risk from 1 and how many
are within 5 %, for all classifiers together, then median and range of the ratio for each.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from few_labels import Draw, Events, adapter, sample_of
from scipy.optimize import brentq, minimize
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from hepllm.arrays import Floats
from hepllm.baselines.boosting import fit_boosting
from hepllm.config import Config
from hepllm.data.dataset import EventTable
from hepllm.errors import InputError
from hepllm.evaluation.calibration import expit, fit_calibration, logit
from hepllm.evaluation.scores import scored_events
from hepllm.learning.inputs import model_inputs
from hepllm.learning.unsupervised_risk import (
    NoMixtureError,
    estimate,
    fit_mixture,
    labelled_hinge_risk,
)
from hepllm.schema import BACKGROUND, SIGNAL

PRIORS, POOL, LABELS, SEEDS = (0.1, 0.5), 20_000, (512, 2048), 5
LANDMARKS = (64, 256, 1024)
"""Landmarks of each class."""

SHAPE_LANDMARKS = 256
"""Landmarks of each class of estimates that fit shapes, which take long."""

COMPONENTS, EM_STEPS = 3, 400
"""Gaussians of each class of the free shapes, and steps of their fit."""

Score = Callable[[EventTable], Floats]
Row = dict[str, float | str]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores at the odds of the prior: of the pool, and of the landmarks of each class.

    Attributes:
        pool: shape (N,).
        signal: shape (L,).
        background: shape (L,).
        prior: share of signal in the pool.
    """

    pool: Floats
    signal: Floats
    background: Floats
    prior: float

    def labelled(self) -> tuple[Floats, Floats]:
        """Scores of both classes' landmarks, and their labels."""
        label = np.repeat([1.0, 0.0], [len(self.signal), len(self.background)])
        return np.concatenate([self.signal, self.background]), label

    def mean_loss(self, probability: Floats) -> float:
        """Expected hinge loss of the pool, whose events are signal with these probabilities."""
        losses = probability * if_signal(self.pool)
        return float((losses + (1 - probability) * if_background(self.pool)).mean())


def if_signal(score: Floats) -> Floats:
    """Hinge loss of events that are signal."""
    return np.clip(1 - score, 0, None)


def if_background(score: Floats) -> Floats:
    """Hinge loss of events that are background."""
    return np.clip(1 + score, 0, None)


def mixture(given: Scores) -> float:
    """Two Gaussians with the weights of the prior."""
    return estimate(given.pool, given.prior, "mixture").value


def split(given: Scores) -> float:
    """Moments on either side of the prior's quantile."""
    return estimate(given.pool, given.prior, "split").value


def landmarks_alone(given: Scores) -> float:
    """The labelled risk of the landmarks, which needs no unlabelled event."""
    score, label = given.labelled()
    return labelled_hinge_risk(score, label == SIGNAL, given.prior)


def positive_unlabelled(given: Scores) -> float:
    """Unbiased risk from signal landmarks and the pool (du Plessis, Niu, Sugiyama, ICML 2015)."""
    correction = if_signal(given.signal) - if_background(given.signal)
    return float(given.prior * correction.mean() + if_background(given.pool).mean())


def calibrated(given: Scores) -> float:
    """Mean loss with probabilities whose slope is the landmarks', whose mean is the prior."""
    score, label = given.labelled()
    slope = LogisticRegression(C=1e6).fit(score[:, np.newaxis], label).coef_[0, 0]
    return given.mean_loss(_with_mean(slope * given.pool, given.prior))


def uncalibrated(given: Scores) -> float:
    """As ``calibrated`` with the scores as they are as log-odds; no landmark is used."""
    return given.mean_loss(_with_mean(given.pool, given.prior))


def _with_mean(logits: Floats, prior: float) -> Floats:
    """Probabilities of log-odds that are shifted until the mean is the prior."""
    shift = brentq(lambda one: expit(logits + one).mean() - prior, -100, 100)
    return expit(logits + shift)


def shape_of_landmarks(given: Scores) -> float:
    """Two Gaussians after the sinh-arcsinh map that makes the landmarks Gaussian in each class."""
    centre, scale = given.pool.mean(), given.pool.std()

    def mapped(score: Floats, at: Sequence[float]) -> tuple[Floats, Floats]:
        z = (score - centre) / scale
        bent = np.exp(at[1]) * np.arcsinh(z) - at[0]
        slope = np.cosh(bent) * np.exp(at[1]) / np.sqrt(1 + z**2)
        return np.sinh(bent), np.log(slope)

    def surprise(at: Sequence[float]) -> float:
        parts = (mapped(one, at) for one in (given.signal, given.background))
        return sum(float(np.log(y.std()) - log_slope.mean()) for y, log_slope in parts)

    y, _ = mapped(given.pool, minimize(surprise, (0.0, 0.0), method="Nelder-Mead").x)
    found = fit_mixture(y, given.prior)
    log_p = norm.logpdf(y, found.mean[:, np.newaxis], found.sigma[:, np.newaxis])
    log_odds = log_p[SIGNAL] - log_p[BACKGROUND] + logit(given.prior)
    return given.mean_loss(expit(log_odds))


def free_shapes(given: Scores) -> float:
    """Several Gaussians in each class, fitted to pool and landmarks together."""
    marks, label = given.labelled()
    x = np.concatenate([given.pool, marks])
    centre, scale = x.mean(), x.std()
    x = (x - centre) / scale
    mine = np.repeat([[1 - given.prior], [given.prior]], len(x), axis=1)
    mine[:, len(given.pool) :] = (label == [[0], [1]]).astype(float)
    starts = ((given.background - centre) / scale, (given.signal - centre) / scale)
    mean = np.stack(
        [np.quantile(one, (np.arange(COMPONENTS) + 0.5) / COMPONENTS) for one in starts]
    )
    sigma = np.repeat([[one.std()] for one in starts], COMPONENTS, axis=1) / 1.5
    share, member = np.full((2, COMPONENTS), 1 / COMPONENTS), np.empty(0)
    for _ in range(EM_STEPS):
        density = norm.pdf(x, mean[..., np.newaxis], sigma[..., np.newaxis])
        member = share[..., np.newaxis] * mine[:, np.newaxis] * density + 1e-300
        member /= member.sum(axis=(0, 1))
        total = member.sum(axis=2)
        mean = member @ x / total
        square = (member * (x - mean[..., np.newaxis]) ** 2).sum(axis=2)
        sigma, share = np.sqrt(square / total + 1e-4), total / total.sum(axis=1, keepdims=True)
    return given.mean_loss(member[SIGNAL].sum(axis=0)[: len(given.pool)])


ESTIMATES: Mapping[str, Callable[[Scores], float]] = {
    "mixture": mixture,
    "split": split,
    "scores as log-odds": uncalibrated,
    "landmarks alone": landmarks_alone,
    "signal landmarks, unbiased": positive_unlabelled,
    "calibrated": calibrated,
    "shape of landmarks, mixture": shape_of_landmarks,
    "3 Gaussians a class": free_shapes,
}
SLOW = ("shape of landmarks, mixture", "3 Gaussians a class")


def trained(draw: Draw, seed: int) -> dict[str, Score]:
    """Classifiers of the labelled events."""
    nfa = adapter(draw, seed)
    boosting = fit_boosting(sample_of(draw.labelled, seed))
    mean = np.nanmean(draw.pool.features, axis=0)
    spread = np.nanstd(draw.pool.features, axis=0) + 1e-9

    def scaled(table: EventTable) -> Floats:
        found: Floats = np.clip(np.nan_to_num((table.features - mean) / spread), -5, 5)
        return found

    linear = LogisticRegression(max_iter=500).fit(scaled(draw.labelled), draw.labelled.label)
    return {
        "adapter": lambda table: nfa.score(model_inputs(table)),
        "boosting": lambda table: boosting.score(table.features),
        "linear": lambda table: linear.decision_function(scaled(table)),
    }


def tables(events: EventTable, n_labels: int, seed: int) -> tuple[EventTable, ...]:
    """Labelled events, landmarks, and a pool per prior; pools share events with each other only."""
    random = np.random.default_rng([seed, 19])
    rows = [random.permutation(np.flatnonzero(events.label == one)) for one in (0, 1)]
    half, marks = n_labels // 2, max(LANDMARKS)
    parts = [[one[:half] for one in rows], [one[half : half + marks] for one in rows]]
    for prior in PRIORS:
        sizes = (round((1 - prior) * POOL), round(prior * POOL))
        left = [one[half + marks :][:size] for one, size in zip(rows, sizes, strict=True)]
        if [len(one) for one in left] != list(sizes):
            raise InputError(f"the datasets have too few events for {sizes} of each class")
        parts.append(left)
    taken = [events.take(np.concatenate(one)) for one in parts]
    return events.take(random.permutation(np.concatenate(parts[0]))), *taken[1:]


def estimates(pool: Floats, label: Floats, marks: Floats, mark: Floats, prior: float) -> list[Row]:
    """Estimate over labelled risk by way and number of landmarks, of scores in balance 1:1."""
    found: list[Row] = []
    for number in LANDMARKS:
        signal, background = (marks[mark == one][:number] for one in (SIGNAL, BACKGROUND))
        held = scored_events(np.concatenate([signal, background]), np.repeat([1, 0], number))
        slope = fit_calibration(held, "temperature", 0.5).slope
        for is_scaled in (False, True):
            factor = slope if is_scaled else 1.0
            parts = [factor * one + logit(prior) for one in (pool, signal, background)]
            given = Scores(*parts, prior)
            truth = labelled_hinge_risk(given.pool, label == SIGNAL, prior)
            row: Row = {"landmarks": number, "scaled": is_scaled, "risk": truth}
            for name, way in ESTIMATES.items():
                if number == SHAPE_LANDMARKS or name not in SLOW:
                    try:
                        row[name] = way(given) / truth
                    except NoMixtureError:
                        continue
            found.append(row)
    return found


def cell(values: Sequence[float]) -> str:
    """Median and range, and how many are within 5 %."""
    near = sum(abs(one - 1) <= 0.05 for one in values)
    return (
        f"{np.median(values):.2f} [{min(values):.2f}, {max(values):.2f}] {near}/{len(values)}"
        if values
        else "-"
    )


def spread(values: Sequence[float]) -> str:
    """Root mean square deviation from 1, and how many are within 5 %."""
    deviation = np.array(values) - 1
    near = int((np.abs(deviation) <= 0.05).sum())
    return f"{100 * np.sqrt(np.mean(deviation**2)):.0f} %, {near}/{len(values)}" if values else "-"


def print_table(rows: Sequence[Row], content: Callable[[Sequence[float]], str]) -> None:
    """Prints a row per estimate, and a column per prior and number of landmarks of each class."""
    heads = [(prior, number) for prior in PRIORS for number in LANDMARKS]
    print("\n| | " + " | ".join(f"{100 * p:g} %, {number}" for p, number in heads) + " |")
    print("|" + "---|" * (1 + len(heads)))
    for name in ESTIMATES:
        found = [
            [
                float(row[name])
                for row in rows
                if (row["prior"], row["landmarks"]) == head and name in row
            ]
            for head in heads
        ]
        print(f"| {name} | {' | '.join(map(content, found))} |")


def print_tables(rows: Sequence[Row]) -> None:
    """Prints tables of all classifiers together, and of each with each number of labels."""
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["classifier"], row["n_labels"], row["scaled"]].append(row)
    titles = {False: "scores as they are", True: "scores over their temperature"}
    for is_scaled, title in titles.items():
        print(f"\n## All classifiers, {title}")
        print_table([row for row in rows if row["scaled"] == is_scaled], spread)
    for (classifier, n_labels, is_scaled), some in groups.items():
        print(f"\n## {classifier}, {n_labels} labels, {titles[bool(is_scaled)]}")
        area = np.median([float(row["auc"]) for row in some])
        risks = [np.median([float(r["risk"]) for r in some if r["prior"] == p]) for p in PRIORS]
        print(f"\nAUC {area:.3f}, labelled risk {risks[0]:.3f} and {risks[1]:.3f}")
        print_table(some, cell)


def measured(events: EventTable, n_labels: int, seed: int) -> list[Row]:
    """Trains the classifiers of one seed, and compares the estimates of their risks."""
    labelled, marks, *pools = tables(events, n_labels, seed)
    rows: list[Row] = []
    for classifier, score in trained(Draw(labelled, marks, pools[0], marks), seed).items():
        of_marks = score(marks)
        head: Row = {"classifier": classifier, "n_labels": n_labels, "seed": seed}
        head["auc"] = float(roc_auc_score(marks.label, of_marks))
        for prior, pool in zip(PRIORS, pools, strict=True):
            found = estimates(score(pool), pool.label, of_marks, marks.label, prior)
            rows += [head | {"prior": prior} | one for one in found]
    return rows


def main() -> None:
    """Estimates what is missing, and prints tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, default=Path("build/risk"))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    given = parser.parse_args()
    logging.getLogger("hepllm").setLevel(logging.ERROR)
    given.output.mkdir(parents=True, exist_ok=True)
    file = given.output / "risks.jsonl"
    rows: list[Row] = []
    if file.exists():
        rows = [json.loads(line) for line in file.read_text().splitlines()]
    done = {(row["n_labels"], row["seed"]) for row in rows}
    wanted = [(n, seed) for seed in range(1, given.seeds + 1) for n in LABELS]
    missing = [one for one in wanted if one not in done]
    if missing:
        events = Events.read(given.datasets, Config().train.feature_names()).train
        for n_labels, seed in missing:
            new = measured(events, n_labels, seed)
            with file.open("a", encoding="utf-8") as opened:
                opened.write("".join(json.dumps(row) + "\n" for row in new))
            rows += new
    print_tables(rows)


if __name__ == "__main__":
    main()
