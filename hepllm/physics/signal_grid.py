"""The signals of a grid: all combinations of masses and decays, or points drawn at random."""

from __future__ import annotations

from itertools import combinations_with_replacement, product

import numpy as np

from hepllm.config import GridConfig, SignalConfig
from hepllm.config.physics import LIGHTEST_OF
from hepllm.errors import ConfigError
from hepllm.hypotheses.signal import Decay

_Pairs = list[tuple[Decay, Decay]]


def grid_signals(config: GridConfig, seed: int) -> tuple[SignalConfig, ...]:
    """The signals of all points of a grid, in rising order of Z' unless they are drawn.

    Raises:
        ConfigError: no combination has jets as light as ``max_jet_share`` asks for, no decays are
            left, or a decay needs heavier particles than the grid has.
    """
    excluded = {frozenset(pair) for pair in config.exclude}
    decays = dict.fromkeys(config.decays)
    pairs = [pair for pair in product(decays, decays) if frozenset(pair) not in excluded]
    if not pairs:
        raise ConfigError("simulate.grid.exclude leaves no decays of X and Y")
    _check_masses(config, pairs)
    return _drawn(config, pairs, seed) if config.random_points else _combined(config, pairs)


def _combined(config: GridConfig, pairs: _Pairs) -> tuple[SignalConfig, ...]:
    """All combinations; those that differ only in the order of X and Y occur once."""
    masses = [
        (m_zprime, m_x, m_y)
        for m_zprime in sorted(set(config.m_zprime))
        for m_y, m_x in combinations_with_replacement(sorted(set(config.m_jets)), 2)
        if m_x <= config.max_jet_share * m_zprime
    ]
    signals = [
        _signal(m_zprime, (m_x, decay_x), (m_y, decay_y), width)
        for m_zprime, m_x, m_y in masses
        for decay_x, decay_y in pairs
        if m_x >= LIGHTEST_OF[decay_x] and m_y >= LIGHTEST_OF[decay_y]
        for width in sorted(set(config.widths))
    ]
    different = {(one.truth, one.width): one for one in reversed(signals)}
    return tuple(reversed(different.values()))


def _drawn(config: GridConfig, pairs: _Pairs, seed: int) -> tuple[SignalConfig, ...]:
    random = np.random.default_rng([seed, 61])
    # A generator of its own, so that the masses do not depend on how many decays there are.
    choice = np.random.default_rng([seed, 62])
    signals = []
    for _ in range(config.random_points):
        decays = pairs[choice.integers(len(pairs))]
        width = config.widths[choice.integers(len(config.widths))]
        lightest = [max(min(config.m_jets), LIGHTEST_OF[decay]) for decay in decays]
        lightest_zprime = max(min(config.m_zprime), max(lightest) / config.max_jet_share)
        m_zprime = _log_uniform(random, lightest_zprime, max(config.m_zprime))
        most = min(max(config.m_jets), config.max_jet_share * m_zprime)
        masses = [_log_uniform(random, low, most) for low in lightest]
        second, first = sorted(zip(masses, decays, strict=True))
        signals.append(_signal(m_zprime, first, second, width))
    return tuple(signals)


def _signal(
    m_zprime: float, first: tuple[float, Decay], second: tuple[float, Decay], width: float
) -> SignalConfig:
    (m_x, decay_x), (m_y, decay_y) = first, second
    return SignalConfig(
        m_zprime=m_zprime, m_x=m_x, m_y=m_y, decay_x=decay_x, decay_y=decay_y, width=width
    )


def _log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    # Whole GeV are exact in every file; an end that is none stays where it is.
    return float(np.clip(np.round(np.exp(random.uniform(np.log(low), np.log(high)))), low, high))


def _check_masses(config: GridConfig, pairs: _Pairs) -> None:
    lightest, heaviest_zprime = min(config.m_jets), max(config.m_zprime)
    most = config.max_jet_share * heaviest_zprime
    if lightest > most:
        raise ConfigError(
            f"simulate.grid: the lightest jet, {lightest:g} GeV, is heavier than max_jet_share = "
            f"{config.max_jet_share:g} of m_zprime = {heaviest_zprime:g} GeV; use lighter jets or "
            "a heavier Z'"
        )
    if config.random_points:
        heaviest = min(max(config.m_jets), most)
    else:
        heaviest = max(mass for mass in config.m_jets if mass <= most)
    for decay in sorted({decay for pair in pairs for decay in pair}):
        if LIGHTEST_OF[decay] > heaviest:
            raise ConfigError(
                f"simulate.grid.decays: {decay} needs a mass of at least {LIGHTEST_OF[decay]:g} "
                f"GeV, but the largest of m_jets that max_jet_share allows is {heaviest:g} GeV"
            )
