"""The distance correlation, a differentiable measure of any dependence of two quantities."""

from __future__ import annotations

import torch
from torch import Tensor

from hepllm.schema import BACKGROUND

_SMALLEST = 1e-12


def background_dependence(scores: Tensor, m_jj: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Computes how much the scores of background events depend on m_jj, a scalar from 0 to 1.

    The squared distance correlation of the probability of signal and of log m_jj, the term that
    DisCo adds to the loss. The probability gives most weight to the events that tight cuts keep.

    Args:
        scores: (B,) logits of signal.
        m_jj: (B,) in GeV; events without one (NaN) do not count.
        labels: (B,) classes.
        weights: (B,) weights of the loss, of which negative ones count as 0.
    """
    counted = (labels == BACKGROUND) & m_jj.isfinite()
    masses = m_jj[counted].log()
    return distance_correlation(scores[counted].sigmoid(), masses, weights[counted].clamp(min=0))


def distance_correlation(first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
    """Computes the squared distance correlation of two quantities, a scalar from 0 to 1.

    Szekely, Rizzo, Bakirov, arXiv:0803.4101, with weights as in DisCo (Kasieczka and Shih,
    arXiv:2001.05310). It is 0 only for independent quantities of many events; of B events it is of
    the order 1 / B. Neither the scale nor the origin of a quantity changes it.

    Args:
        first: (B,) values.
        second: (B,) values.
        weights: (B,) weights, none negative.

    Returns:
        The square; 0 where a quantity is constant, or the weights are 0.
    """
    shares = (weights / weights.sum().clamp(min=_SMALLEST)).float()
    centred = [_centred(values.float(), shares) for values in (first, second)]
    both = torch.outer(shares, shares)
    covariance = (both * centred[0] * centred[1]).sum()
    variances = [(both * one.square()).sum() for one in centred]
    product = variances[0] * variances[1]
    # The square root has no slope at 0.
    return torch.where(
        product > _SMALLEST**2, covariance / product.clamp(min=_SMALLEST**2).sqrt(), 0.0
    )


def _centred(values: Tensor, shares: Tensor) -> Tensor:
    """Distances of all pairs, shape (B, B), with mean 0 in each row and column."""
    distances = (values[:, None] - values[None, :]).abs()
    mean = distances @ shares
    return distances - mean[:, None] - mean[None, :] + shares @ mean
