"""What a hypothesis states of a signal Z' -> X Y: masses and decays, any of them unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

Decay = Literal["q", "qq", "bb", "qqq", "tt"]
"""What X or Y decays to; ``b`` is a bottom quark, ``t`` a top quark, ``q`` a lighter one."""

DECAYS: tuple[Decay, ...] = get_args(Decay)

PRONGS: Mapping[Decay, int] = {"q": 1, "qq": 2, "bb": 2, "qqq": 3, "tt": 6}
"""Quarks in the final state of each decay; a top quark decays to three."""

MOST_PRONGS = 6

LIGHTEST, HEAVIEST = 5.0, 20_000.0
"""Range of any mass of a hypothesis in GeV: what a jet can have, and an LHC collision can make."""


@dataclass(frozen=True)
class Product:
    """X or Y; None stands for what is not known.

    A known decay has a known number of prongs, which need not be given.

    Attributes:
        mass: in GeV.
        n_prongs: quarks in the final state, known without the decay where only it is stated.
    """

    mass: float | None = None
    decay: Decay | None = None
    n_prongs: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a mass or a number of prongs that no signal has."""
        if self.mass is not None and not LIGHTEST <= self.mass <= HEAVIEST:
            raise ValueError(f"a mass of {self.mass:g} GeV is not in {LIGHTEST:g}-{HEAVIEST:g} GeV")
        if self.decay is not None:
            prongs = PRONGS[self.decay]
            if self.n_prongs not in (None, prongs):
                raise ValueError(
                    f"a decay to {self.decay} has {prongs} prongs, not {self.n_prongs}"
                )
            object.__setattr__(self, "n_prongs", prongs)
        if self.n_prongs is not None and not 1 <= self.n_prongs <= MOST_PRONGS:
            raise ValueError(f"{self.n_prongs} prongs are not from 1 to {MOST_PRONGS}")

    @property
    def is_open(self) -> bool:
        """Whether nothing of it is known."""
        return self.mass is None and self.n_prongs is None


@dataclass(frozen=True)
class Signal:
    """A signal Z' -> X Y as far as it is known.

    The order of X and Y means nothing: the heavier comes first, and one of unknown mass last.

    Attributes:
        m_resonance: mass of Z' in GeV.
    """

    products: tuple[Product, Product] = (Product(), Product())
    m_resonance: float | None = None

    def __post_init__(self) -> None:
        """Raises ValueError if Z' is too light for its products, or for any signal."""
        object.__setattr__(self, "products", tuple(sorted(self.products, key=_rank)))
        if self.m_resonance is None:
            return
        if not LIGHTEST <= self.m_resonance <= HEAVIEST:
            raise ValueError(
                f"a mass of {self.m_resonance:g} GeV is not in {LIGHTEST:g}-{HEAVIEST:g} GeV"
            )
        together = sum(one.mass or 0.0 for one in self.products)
        if together > self.m_resonance:
            raise ValueError(
                f"a resonance of {self.m_resonance:g} GeV cannot decay to particles of "
                f"{together:g} GeV together"
            )

    @property
    def masses(self) -> tuple[float, float]:
        """Masses of X and Y in GeV, the heavier first; NaN where unknown."""
        first, second = (math.nan if one.mass is None else one.mass for one in self.products)
        return first, second

    @property
    def decays(self) -> tuple[Decay | None, Decay | None]:
        """Decays of X and Y, in the order of their masses."""
        first, second = self.products
        return first.decay, second.decay

    @property
    def is_open(self) -> bool:
        """Whether nothing is known of X and Y."""
        return all(one.is_open for one in self.products)

    def without_resonance(self) -> Signal:
        """The same signal with a Z' of unknown mass."""
        return replace(self, m_resonance=None)


def _rank(product: Product) -> tuple[float, int, int]:
    mass = math.inf if product.mass is None else -product.mass
    decay = len(DECAYS) if product.decay is None else DECAYS.index(product.decay)
    return mass, decay, MOST_PRONGS + 1 if product.n_prongs is None else product.n_prongs
