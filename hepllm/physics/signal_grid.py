"""Masses of the signals in a grid: all combinations of a list, or points drawn at random."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np

from hepllm.config import GridConfig, SignalConfig
from hepllm.errors import ConfigError


def grid_signals(config: GridConfig, seed: int) -> tuple[SignalConfig, ...]:
    """The masses of all points of a grid, in rising order of Z' unless they are drawn.

    Raises:
        ConfigError: no combination has jets as light as ``max_jet_share`` asks for.
    """
    if config.random_points:
        return _drawn(config, seed)
    pairs = list(combinations_with_replacement(sorted(set(config.m_jets)), 2))
    signals = tuple(
        SignalConfig(m_zprime=m_zprime, m_x=m_x, m_y=m_y)
        for m_zprime in sorted(set(config.m_zprime))
        for m_y, m_x in pairs
        if m_x <= config.max_jet_share * m_zprime
    )
    if not signals:
        raise ConfigError(_nothing_fits(config))
    return signals


def _drawn(config: GridConfig, seed: int) -> tuple[SignalConfig, ...]:
    random = np.random.default_rng([seed, 61])
    lightest, heaviest = min(config.m_jets), max(config.m_jets)
    if lightest > config.max_jet_share * min(config.m_zprime):
        raise ConfigError(_nothing_fits(config))
    signals = []
    for _ in range(config.random_points):
        m_zprime = _log_uniform(random, min(config.m_zprime), max(config.m_zprime))
        most = min(heaviest, config.max_jet_share * m_zprime)
        m_y, m_x = sorted(_log_uniform(random, lightest, most) for _ in range(2))
        signals.append(SignalConfig(m_zprime=m_zprime, m_x=m_x, m_y=m_y))
    return tuple(signals)


def _log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    # Whole GeV are exact in every file; an end that is none stays where it is.
    return float(np.clip(np.round(np.exp(random.uniform(np.log(low), np.log(high)))), low, high))


def _nothing_fits(config: GridConfig) -> str:
    return (
        f"simulate.grid: the lightest jet, {min(config.m_jets):g} GeV, is heavier than "
        f"max_jet_share = {config.max_jet_share:g} of m_zprime = {min(config.m_zprime):g} GeV; "
        "use lighter jets or a heavier Z'"
    )
