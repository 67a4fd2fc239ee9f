"""Choosing a weak classifier without labels: by the excess of data over template.

A classifier of data against a background template is judged on held-out events of both. Its
validation loss says how well it describes all events, nearly all of which are background on either
side; a search needs the few at the highest scores. ARGOS (Hein et al., arXiv:2511.14832, equation
1) asks there: by how much do more data pass a cut than the template, in units of the background's
fluctuation. With a perfect template it is proportional to SIC - sqrt(eps_B) at every cut, with the
signal fraction as the factor, so that it puts cuts and classifiers in the order of their SIC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats
from hepllm.errors import InputError

MIN_TEMPLATE = 25
"""Held-out template events that pass a cut at least: 20 % uncertainty of eps_B, as in the paper."""

Scores = tuple[Floats, Floats]
"""Scores of held-out data events, shape (N,), and of held-out template events, shape (M,)."""


@dataclass(frozen=True)
class Argos:
    """The excess of data over template at one cut.

    Attributes:
        value: eps_data / sqrt(eps_template) - sqrt(eps_template).
        uncertainty: its standard deviation for Poisson numbers of both; at a cut that is chosen by
            the value itself, that of the value at this cut, not that of the maximum.
        threshold: events with this score or a larger one pass.
        eps_data: share of the data that passes.
        eps_template: share of the template that passes.
        n_data: data events that pass.
        n_template: template events that pass.
    """

    value: float
    uncertainty: float
    threshold: float
    eps_data: float
    eps_template: float
    n_data: int
    n_template: int


def argos(scores: Scores, min_template: int = MIN_TEMPLATE) -> Argos:
    """Finds the cut of the largest excess among those that enough template events pass.

    Raises:
        InputError: for scores that are not finite, or fewer template events than must pass.
    """
    data, template = _sorted(scores)
    if len(template) < min_template:
        raise InputError(_too_few(len(template), min_template))
    # Cuts at template scores: one just above the next template score would keep the data between
    # the two as well, and be chosen for them.
    threshold = np.unique(template)
    n_template = len(template) - np.searchsorted(template, threshold, side="left")
    n_data = len(data) - np.searchsorted(data, threshold, side="left")
    value = _excess(n_data / len(data), n_template / len(template))
    best = int(np.argmax(np.where(n_template >= min_template, value, -np.inf)))
    return _argos_at(float(threshold[best]), data, template)


def weighted_argos(scores: Scores, weight: Floats, min_template: int = MIN_TEMPLATE) -> float:
    """The value of ``argos`` where template events have weights: the largest excess of any cut.

    Args:
        scores: scores of held-out data and template events.
        weight: (M,) weights of the template events, not negative.
        min_template: template events that pass a cut at least.

    Raises:
        InputError: for scores that are not finite, or fewer template events than must pass.
    """
    data, template = _sorted(scores)
    if len(template) < min_template:
        raise InputError(_too_few(len(template), min_template))
    above = np.cumsum(weight[np.argsort(scores[1], kind="stable")][::-1])[::-1] / weight.sum()
    threshold, first = np.unique(template, return_index=True)
    n_data = len(data) - np.searchsorted(data, threshold, side="left")
    is_open = len(template) - first >= min_template
    return float(_excess(n_data / len(data), above[first])[is_open].max())


def argos_at(scores: Scores, eps_template: float) -> Argos:
    """Reads the excess at the cut that keeps this share of the template, or just more if tied.

    Raises:
        InputError: for scores that are not finite, or a share outside (0, 1].
    """
    if not 0 < eps_template <= 1:
        raise InputError(f"a share of the template must be above 0 and at most 1: {eps_template:g}")
    data, template = _sorted(scores)
    kept = max(1, round(eps_template * len(template)))
    return _argos_at(float(template[len(template) - kept]), data, template)


def crossfit_argos(scores: Scores, seed: int, min_template: int = MIN_TEMPLATE) -> float:
    """The excess at a cut that other events chose, the mean of both halves' readings.

    The maximum of ``argos`` is biased upwards by as much as the best of all cuts fluctuates; here
    each half of the events is read at the cut of the other. Compare classifiers with equal seeds.

    Raises:
        InputError: for scores that are not finite, or too few template events.
    """
    generator = np.random.default_rng([seed, 23])
    halves = []
    for values in scores:
        order = generator.permutation(len(values))
        halves.append((values[order[::2]], values[order[1::2]]))
    (data_a, data_b), (template_a, template_b) = halves
    pairs: list[Scores] = [(data_a, template_a), (data_b, template_b)]
    readings = []
    for choosing, reading in (pairs, pairs[::-1]):
        data, template = _sorted(reading)
        cut = argos(choosing, min_template).threshold
        readings.append(_argos_at(cut, data, template, floor=min_template).value)
    return float(np.mean(readings))


def validation_loss(probabilities: Scores) -> float:
    """Mean binary cross-entropy of held-out data (1) and template (0), both with equal weight.

    Args:
        probabilities: of being data, of data and template events.
    """
    tiny = np.finfo(np.float64).tiny
    data, template = probabilities
    of_data = -np.log(np.maximum(data, tiny)).mean()
    of_template = -np.log(np.maximum(1 - template, tiny)).mean()
    return float(0.5 * (of_data + of_template))


def join_folds(folds: Sequence[Scores]) -> Scores:
    """Joins the scores of several models, each on its own held-out events, at equal efficiency.

    An event's score becomes minus the share of its fold's template that scores as high or higher,
    so that a cut passes the same share of the template in each fold. The scores themselves must
    never be pooled: models of different folds are on different scales.

    Raises:
        InputError: for scores that are not finite, or a fold without events.
    """
    parts: tuple[list[Floats], list[Floats]] = ([], [])
    for scores in folds:
        _, template = _sorted(scores)
        for joined, values in zip(parts, scores, strict=True):
            below = np.searchsorted(template, values, side="left")
            joined.append(below / len(template) - 1)
    return np.concatenate(parts[0]), np.concatenate(parts[1])


@dataclass(frozen=True)
class Choice:
    """A model that was chosen.

    Attributes:
        name: the chosen candidate.
        value: ARGOS of the joined folds, by candidate.
        uncertainty: standard deviation of its difference to that of the chosen one, by jackknife
            over the folds; NaN with one fold.
        chosen_by: words for a report.
    """

    name: str
    value: Mapping[str, float]
    uncertainty: Mapping[str, float]
    chosen_by: str


def choose_model(
    candidates: Mapping[str, Sequence[Scores]], min_template: int = MIN_TEMPLATE
) -> Choice:
    """Chooses the candidate of the largest ARGOS of its joined folds.

    Args:
        candidates: scores of each fold's held-out events, in the same order for all candidates.
        min_template: held-out template events of all folds that pass a cut at least.

    Raises:
        InputError: without candidates, for different numbers of folds, or as ``argos``.
    """
    numbers = {len(folds) for folds in candidates.values()}
    if len(numbers) != 1 or 0 in numbers:
        raise InputError(f"candidates need the same folds, at least one; found {sorted(numbers)}")
    n_folds = numbers.pop()
    value = {
        name: argos(join_folds(folds), min_template).value for name, folds in candidates.items()
    }
    without = {
        name: _without_each(folds, min_template) if n_folds > 1 else np.full(1, np.nan)
        for name, folds in candidates.items()
    }
    best = max(value, key=lambda name: value[name])
    return Choice(
        name=best,
        value=value,
        uncertainty={name: _jackknife(found - without[best]) for name, found in without.items()},
        chosen_by=f"largest ARGOS of {n_folds} joined held-out folds",
    )


def _without_each(folds: Sequence[Scores], min_template: int) -> Floats:
    rest = [[one for other, one in enumerate(folds) if other != out] for out in range(len(folds))]
    return np.array([argos(join_folds(one), min_template).value for one in rest])


def _jackknife(values: Floats) -> float:
    return float(np.sqrt((len(values) - 1) * values.var())) if len(values) > 1 else np.nan


def best_stage(stages: Iterable[Scores], min_template: int = MIN_TEMPLATE) -> int:
    """Finds the stage of a training (an epoch, a number of trees) of the largest ARGOS, from 0.

    The values of neighbouring stages are averaged over five before the largest is taken, because
    each fluctuates by about its uncertainty and consecutive stages are nearly the same model.

    Raises:
        InputError: without stages, or as ``argos``.
    """
    values = np.array([argos(scores, min_template).value for scores in stages])
    if not len(values):
        raise InputError("a training without stages has no best one")
    window = np.ones(min(5, len(values)))
    smooth = np.convolve(values, window, mode="same") / np.convolve(
        np.ones_like(values), window, mode="same"
    )
    return int(np.argmax(smooth))


def _too_few(n_template: int, min_template: int) -> str:
    return (
        f"{n_template} template events are held out, but {min_template} must pass a cut; "
        "use fewer folds or a larger template"
    )


def _sorted(scores: Scores) -> Scores:
    """The scores in rising order, checked."""
    for name, values in zip(("data", "template"), scores, strict=True):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad) or not len(values):
            found = f"are not finite in {len(bad)} rows, the first is {bad[0]}" if len(bad) else ""
            raise InputError(f"scores of held-out {name} events {found or 'are missing'}")
    return np.sort(scores[0]), np.sort(scores[1])


def _excess(eps_data: Floats, eps_template: Floats) -> Floats:
    return np.asarray(eps_data / np.sqrt(eps_template) - np.sqrt(eps_template))


def _argos_at(threshold: float, data: Floats, template: Floats, floor: int = 1) -> Argos:
    """Reads sorted scores at a cut, loosened until ``floor`` template events pass."""
    threshold = min(threshold, float(template[-floor]))
    n_data = int(len(data) - np.searchsorted(data, threshold, side="left"))
    n_template = int(len(template) - np.searchsorted(template, threshold, side="left"))
    eps_data, eps_template = n_data / len(data), n_template / len(template)
    root = float(np.sqrt(eps_template))
    slope = 0.5 * (eps_data / eps_template + 1) / root
    variance = eps_data * (1 - eps_data) / len(data) / eps_template
    variance += slope**2 * eps_template * (1 - eps_template) / len(template)
    return Argos(
        value=float(eps_data / root - root),
        uncertainty=float(np.sqrt(variance)),
        threshold=threshold,
        eps_data=eps_data,
        eps_template=eps_template,
        n_data=n_data,
        n_template=n_template,
    )
