"""Simulated signal of mass points that are drawn at random, with the features of each event."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepllm.config import Config, override_config
from hepllm.physics.features import compute_features
from hepllm.physics.simulation import generate
from hepllm.schema import BACKGROUND, SIGNAL

Floats = NDArray[np.float64]

VARIATIONS: dict[str, tuple[str, ...]] = {
    "nominal": (),
    "particles": ("simulate.detector.enabled=false",),
    "mpi": ("simulate.multiparton_interactions=true",),
    "fsr-low": ("simulate.pythia_settings=[TimeShower:renormMultFac = 4]",),
    "fsr-high": ("simulate.pythia_settings=[TimeShower:renormMultFac = 0.25]",),
    "isr-high": ("simulate.pythia_settings=[SpaceShower:renormMultFac = 0.25]",),
}
"""Settings of the simulation by name; ``particles`` has no detector."""


@dataclass(frozen=True)
class Domain:
    """Where mass points are drawn; all masses are log-uniform, in GeV.

    Attributes:
        m_zprime: smallest and largest mass of Z'.
        m_heavy: the same for the heavier jet.
        m_light: the same for the lighter jet.
        largest_share: largest m_heavy over m_zprime.
        least_ratio: smallest m_heavy over m_light.
    """

    m_zprime: tuple[float, float]
    m_heavy: tuple[float, float]
    m_light: tuple[float, float]
    largest_share: float
    least_ratio: float

    def draw(self, n_points: int, seed: int) -> Floats:
        """Mass points, shape (n_points, 3): m_zprime, m_heavy, m_light in whole GeV."""
        random = np.random.default_rng([seed, 51])
        points = []
        for _ in range(n_points):
            m_zprime = _log_uniform(random, *self.m_zprime)
            least, most = self.m_heavy
            m_heavy = _log_uniform(random, least, min(most, self.largest_share * m_zprime))
            least, most = self.m_light
            m_light = _log_uniform(random, least, min(most, m_heavy / self.least_ratio))
            points.append((m_zprime, m_heavy, m_light))
        return np.round(np.array(points))


def _log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(max(low, high)))))


def signal_of(
    point: Floats, n_events: int, seed: int, variation: str, cache: Path, *, groomed: bool = False
) -> dict[str, Floats]:
    """Features of signal events of one mass point, by name, each of shape (n_events,).

    They are kept in ``cache``, so that a study that was stopped goes on where it was.
    """
    m_zprime, m_heavy, m_light = point
    name = f"{variation}-{m_zprime:.0f}-{m_heavy:.0f}-{m_light:.0f}-{seed}"
    file = cache / f"{name}{'-groomed' if groomed else ''}.npz"
    if file.exists():
        with np.load(file, allow_pickle=False) as kept:
            if len(kept["m_jj"]) == n_events:
                return {key: kept[key] for key in kept.files}
    masses = [f"m_zprime={m_zprime}", f"m_x={m_heavy}", f"m_y={m_light}"]
    settings = [*(f"simulate.signal.{one}" for one in masses), *VARIATIONS[variation]]
    if groomed:
        settings.append("preprocess.jets.soft_drop={}")
    config = override_config(Config(), settings)
    events, n_tried = generate(SIGNAL, n_events, seed, config.simulate)
    columns = dict(compute_features(events, config.preprocess.jets))
    columns["n_tried"] = np.full(n_events, float(n_tried))
    cache.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial.npz")
    np.savez_compressed(partial, **columns)
    partial.replace(file)
    return columns


def background_of(blocks: range, cache: Path) -> dict[str, Floats]:
    """Features of background events in blocks of 1,250 with seeds of their own."""
    settings = ["simulate.pt_hat_min=1100", "preprocess.jets.soft_drop={}"]
    config = override_config(Config(), settings)
    made = []
    for number in blocks:
        file = cache / f"background-{number}.npz"
        if not file.exists():
            events, _ = generate(BACKGROUND, 1250, 700_000 + number, config.simulate)
            cache.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial.npz")
            np.savez_compressed(partial, **compute_features(events, config.preprocess.jets))
            partial.replace(file)
        with np.load(file, allow_pickle=False) as kept:
            made.append({name: kept[name] for name in kept.files})
    return {name: np.concatenate([one[name] for one in made]) for name in made[0]}
