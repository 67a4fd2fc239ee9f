"""The risk of a classifier on events without labels, from a stated share of signal.

Scores of N unlabelled events are taken as a mixture of two Gaussians, whose weights are the prior.
The expected hinge loss of such a mixture has a closed form (Balasubramanian, Donmez, Lebanon, JMLR
12 (2011) 3119), and so has its derivative with respect to each score. Gaussians are given by their
standard deviations. All is computed in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from hepllm.arrays import Bools, Floats, Ints
from hepllm.schema import BACKGROUND, SIGNAL

LEAST_RARER = 30
"""Events of the rarer class that an estimate needs, by the prior."""

Kind = Literal["mixture", "split", "posterior"]

_NARROWEST = 1e-6
"""Least standard deviation of a class, as a share of that of all scores."""

_LEAST_DISTANCE = 1.0
"""Distance of the means in standard deviations below which estimates scatter by over 10 %."""

_EM_STEPS, _NEWTON_STEPS = 500, 25
_EM_CHANGE, _LARGEST_SLOPE = 1e-5, 1e-9
_SIGNS = np.array([-1.0, 1.0])


class NoMixtureError(ValueError):
    """The likelihood of the scores has no maximum with two Gaussians of the stated weights."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """Two Gaussians, each array of shape (2,): background, signal.

    Attributes:
        share: weights, which sum to 1.
        mean: means.
        sigma: standard deviations, above 0.
    """

    share: Floats
    mean: Floats
    sigma: Floats

    def hinge_risk(self) -> float:
        """Expected hinge loss max(0, 1 - y f) with y of -1 and 1.

        p0 [(1 + mu0) Phi((1 + mu0) / s0) + s0^2 N(-1; mu0, s0)]
        + p1 [(1 - mu1) Phi((1 - mu1) / s1) + s1^2 N(1; mu1, s1)]
        """
        margin = 1 - _SIGNS * self.mean
        losses = margin * norm.cdf(margin / self.sigma) + self.sigma**2 * norm.pdf(
            _SIGNS, self.mean, self.sigma
        )
        return float(self.share @ losses)

    def slopes(self) -> tuple[Floats, Floats]:
        """Derivatives of the risk with respect to the means and standard deviations, (2,) each."""
        z = (1 - _SIGNS * self.mean) / self.sigma
        return -self.share * _SIGNS * norm.cdf(z), self.share * norm.pdf(z)

    def distance(self) -> float:
        """Distance of the means in units of the root mean square of the standard deviations."""
        return float((self.mean[1] - self.mean[0]) / np.sqrt(np.mean(self.sigma**2)))


@dataclass(frozen=True, eq=False)
class Estimate:
    """A term of the loss from N scores.

    Attributes:
        value: the term.
        slope: its derivative with respect to each score, shape (N,).
        mixture: the Gaussians; None for a penalty that has none.
    """

    value: float
    slope: Floats
    mixture: Mixture | None = None


def estimate(scores: Floats, prior: float, kind: Kind) -> Estimate:
    """Computes the unlabelled term of a loss and its derivatives.

    Args:
        scores: shape (N,), log-odds of signal in the unlabelled data.
        prior: share of signal among them, above 0 and below 1.
        kind: ``mixture``: risk with the Gaussians of highest likelihood; ``split``: risk with the
            moments of the scores on either side of the prior's quantile; ``posterior``: divergence
            of the mean probability from the prior.

    Raises:
        NoMixtureError: if ``kind`` is ``mixture`` and the likelihood has no maximum.
    """
    ways: Mapping[Kind, Callable[[Floats, float], Estimate]] = {
        "mixture": mixture_risk,
        "split": split_risk,
        "posterior": posterior_penalty,
    }
    return ways[kind](np.asarray(scores, dtype=np.float64), prior)


def events_needed(prior: float) -> int:
    """Least number of events of an estimate, so that the rarer class has ``LEAST_RARER``."""
    return int(np.ceil(round(LEAST_RARER / min(prior, 1 - prior), 6)))


def labelled_hinge_risk(scores: Floats, is_signal: Bools, prior: float) -> float:
    """Mean hinge loss of labelled events, with the classes in the stated shares.

    Args:
        scores: shape (N,).
        is_signal: shape (N,), with events of both classes.
        prior: share of the signal.
    """
    losses = np.clip(1 - np.where(is_signal, scores, -scores), 0, None)
    return float(prior * losses[is_signal].mean() + (1 - prior) * losses[~is_signal].mean())


def split_moments(scores: Floats, prior: float) -> tuple[Mixture, Ints]:
    """Moments of the scores above and below the quantile that leaves the prior above it.

    They are those of the classes only where these hardly overlap: else each class lacks its tail,
    and the risk is too small.

    Args:
        scores: shape (N,).
        prior: share of signal; each side has an event at least.

    Returns:
        The Gaussians, and the side of each event, shape (N,), as a class.
    """
    n_signal = int(np.clip(round(prior * len(scores)), 1, len(scores) - 1))
    side = np.full(len(scores), BACKGROUND, dtype=np.int64)
    side[np.argsort(scores, kind="stable")[len(scores) - n_signal :]] = SIGNAL
    parts = [scores[side == one] for one in (BACKGROUND, SIGNAL)]
    least = max(_NARROWEST * float(scores.std()), np.finfo(np.float64).tiny ** 0.5)
    return Mixture(
        np.array([1 - prior, prior]),
        np.array([part.mean() for part in parts]),
        np.array([max(float(part.std()), least) for part in parts]),
    ), side


def split_risk(scores: Floats, prior: float) -> Estimate:
    """Hinge risk with the moments of ``split_moments``; arguments as in ``estimate``."""
    found, side = split_moments(scores, prior)
    by_mean, by_sigma = found.slopes()
    n_side = np.bincount(side, minlength=2)
    z = (scores - found.mean[side]) / found.sigma[side]
    slope = (by_mean[side] + by_sigma[side] * z) / n_side[side]
    return Estimate(found.hinge_risk(), slope, found)


def mixture_risk(scores: Floats, prior: float) -> Estimate:
    """Hinge risk with the Gaussians of highest likelihood; arguments as in ``estimate``.

    The derivative follows the maximum as the scores move (implicit function theorem): with the
    likelihood's gradient G(theta, x) = 0, dtheta/dx_i = -H^-1 dG/dx_i, H its second derivatives.

    Raises:
        NoMixtureError: as ``fit_mixture``.
    """
    found = fit_mixture(scores, prior)
    terms = _Likelihood.of(scores, found)
    by_mean, by_sigma = found.slopes()
    pull = np.linalg.solve(terms.curvature(), np.concatenate([by_mean, by_sigma]))
    return Estimate(found.hinge_risk(), -(pull @ terms.moves()), found)


def posterior_penalty(scores: Floats, prior: float) -> Estimate:
    """Divergence of the mean probability of signal from the prior, in nats.

    KL(prior || mean), the expectation regularisation of Mann and McCallum (ICML 2007). It needs no
    shape of the scores, but says nothing about which events are signal. Arguments as in
    ``estimate``.
    """
    probability = np.exp(-np.logaddexp(0.0, -scores))
    other = np.exp(-np.logaddexp(0.0, scores))
    tiny = np.finfo(np.float64).tiny
    mean, rest = max(float(probability.mean()), tiny), max(float(other.mean()), tiny)
    value = prior * np.log(prior / mean) + (1 - prior) * np.log((1 - prior) / rest)
    by_mean = (1 - prior) / rest - prior / mean
    return Estimate(float(value), by_mean * probability * other / len(scores))


def fit_mixture(scores: Floats, prior: float) -> Mixture:
    """Fits means and standard deviations by maximum likelihood, with the prior as weights.

    Expectation-maximisation from the moments of the split scores, then Newton's method until the
    likelihood is flat.

    Args:
        scores: shape (N,).
        prior: share of signal.

    Raises:
        NoMixtureError: if there is no maximum near, or the means are too close or exchanged, as for
            one heap of scores.
    """
    centre, scale = float(scores.mean()), float(scores.std())
    if not scale > 0 or not np.isfinite(scale):
        raise NoMixtureError("all scores are equal, or one is not finite")
    x = (scores - centre) / scale
    found = _climb(x, split_moments(x, prior)[0])
    for _ in range(_NEWTON_STEPS):
        terms = _Likelihood.of(x, found)
        gradient, curvature = terms.gradient(), terms.curvature()
        if np.linalg.eigvalsh(curvature).max() >= 0:
            raise NoMixtureError("the scores are one heap, not two")
        if np.abs(gradient).max() < _LARGEST_SLOPE * len(x):
            break
        change = -np.linalg.solve(curvature, gradient)
        change *= min(1.0, 0.5 * found.sigma.min() / np.abs(change).max())
        found = Mixture(found.share, found.mean + change[:2], found.sigma + change[2:])
    else:
        raise NoMixtureError("the fit of two Gaussians does not converge")
    if found.distance() < _LEAST_DISTANCE:
        raise NoMixtureError("the scores are one heap, not two")
    return Mixture(found.share, centre + scale * found.mean, scale * found.sigma)


def _climb(x: Floats, found: Mixture) -> Mixture:
    """Expectation-maximisation of means and standard deviations."""
    for _ in range(_EM_STEPS):
        before = np.concatenate([found.mean, found.sigma])
        weight = _Likelihood.of(x, found).membership
        total = weight.sum(axis=1)
        mean = weight @ x / total
        sigma = np.sqrt((weight * (x - mean[:, np.newaxis]) ** 2).sum(axis=1) / total)
        found = Mixture(found.share, mean, np.maximum(sigma, _NARROWEST))
        if np.abs(np.concatenate([mean, found.sigma]) - before).max() < _EM_CHANGE:
            break
    return found


@dataclass(frozen=True, eq=False)
class _Likelihood:
    """Derivatives of a mixture's log-likelihood by theta = (mu0, mu1, s0, s1).

    Attributes:
        sigma: standard deviations, shape (2, 1).
        z: distance of each event from each mean in standard deviations, shape (2, N).
        membership: probability of each event to belong to each Gaussian, shape (2, N).
    """

    sigma: Floats
    z: Floats
    membership: Floats

    @classmethod
    def of(cls, x: Floats, mixture: Mixture) -> _Likelihood:
        sigma = mixture.sigma[:, np.newaxis]
        z = (x - mixture.mean[:, np.newaxis]) / sigma
        log_p = np.log(mixture.share / mixture.sigma)[:, np.newaxis] - 0.5 * z**2
        return cls(sigma, z, np.exp(log_p - np.logaddexp(log_p[0], log_p[1])))

    def _own(self) -> NDArray[np.float64]:
        """Derivative of each Gaussian's logarithm by its mean and sigma, shape (2, 2, N)."""
        return np.stack([self.z / self.sigma, (self.z**2 - 1) / self.sigma])

    def gradient(self) -> Floats:
        """Shape (4,)."""
        found: Floats = (self.membership * self._own()).sum(axis=2).ravel()
        return found

    def curvature(self) -> Floats:
        """Second derivatives, shape (4, 4)."""
        own, weight = self._own(), self.membership
        each = (weight * own).reshape(4, -1)
        total = -each @ each.T
        square = self.sigma**2
        second = [[-1 / square + 0 * self.z, -2 * self.z / square]]
        second += [[second[0][1], (1 - 3 * self.z**2) / square]]
        for first, row in enumerate(second):
            for other, value in enumerate(row):
                added = (weight * (value + own[first] * own[other])).sum(axis=1)
                total[(2 * first, 2 * first + 1), (2 * other, 2 * other + 1)] += added
        return total

    def moves(self) -> Floats:
        """Derivative of the gradient by each score, shape (4, N)."""
        own, weight = self._own(), self.membership
        by_score = -self.z / self.sigma
        pull = by_score - (weight * by_score).sum(axis=0)
        direct = np.stack([1 / self.sigma**2 + 0 * self.z, 2 * self.z / self.sigma**2])
        found: Floats = (weight * (direct + own * pull)).reshape(4, -1)
        return found
