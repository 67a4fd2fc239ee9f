"""X and Y while a hypothesis is read."""

from __future__ import annotations

from dataclasses import dataclass, field

from hepllm.hypotheses.decays import StatedDecay
from hepllm.hypotheses.signal import Product
from hepllm.hypotheses.words import Refusal

_TOO_MANY = "a signal has two products, X and Y"

_SAME_NAME = {"heaviest": "heavier", "lightest": "lighter"}


@dataclass
class Draft:
    """X or Y as far as it has been read; ``has_mass`` also where its mass is said to be unknown."""

    names: set[str] = field(default_factory=set)
    mass: float | None = None
    has_mass: bool = False
    decay: StatedDecay | None = None

    def set_mass(self, mass: float | None) -> None:
        """Sets the mass; raises Refusal if another one was stated."""
        if self.has_mass and self.mass != mass:
            raise Refusal(f"states two masses of one particle, or three particles; {_TOO_MANY}")
        self.mass, self.has_mass = mass, True

    def set_decay(self, decay: StatedDecay) -> None:
        """Sets the decay; raises Refusal if another one was stated."""
        known = self.decay or StatedDecay()
        for old, new in ((known.decay, decay.decay), (known.n_prongs, decay.n_prongs)):
            if old is not None and new is not None and old != new:
                raise Refusal("states two decays of one particle")
        self.decay = decay if known.decay is None and decay.n_prongs is not None else known

    @property
    def has_decay(self) -> bool:
        """Whether anything was said of its decay."""
        return self.decay is not None

    def product(self) -> Product:
        """The product."""
        decay = self.decay or StatedDecay()
        return Product(self.mass, decay.decay, decay.n_prongs)


class Drafts:
    """The two products, in the order of their first mention."""

    def __init__(self) -> None:
        self.known: list[Draft] = []

    def __len__(self) -> int:
        return len(self.known)

    def __getitem__(self, place: int) -> Draft:
        return self.known[place]

    def add(self) -> int:
        """The position of a product that was not mentioned before; raises Refusal for a third."""
        if len(self.known) == 2:
            raise Refusal(f"states three particles; {_TOO_MANY}")
        self.known.append(Draft())
        return len(self.known) - 1

    def both(self) -> list[int]:
        """The positions of both products."""
        while len(self.known) < 2:
            self.add()
        return [0, 1]

    def find(self, word: str) -> int | None:
        """The position of the product that has a name; None if none has."""
        name = _name_of(word)
        for place, draft in enumerate(self.known):
            if name in draft.names:
                return place
        return None

    def named(self, word: str) -> int:
        """The position of the product of a name, which may be new.

        Raises:
            Refusal: for the name of a third product.
        """
        found = self.find(word)
        if found is not None:
            return found
        name = _name_of(word)
        if name == "first":
            return self.both()[0]
        masses = [one.mass for one in self.known if one.mass is not None]
        if name in ("heavier", "lighter") and len(set(masses)) == 2:
            return masses.index(max(masses) if name == "heavier" else min(masses))
        if len(self.known) < 2:
            found = self.add()
        else:
            nameless = [place for place, one in enumerate(self.known) if not one.names]
            if not nameless:
                raise Refusal(f"names a third product, '{word}'; {_TOO_MANY}")
            found = nameless[0]
        self.known[found].names.add(name)
        return found

    def name_last(self, place: int, word: str) -> None:
        """Gives a name to a product that has none, as in 'a 730 GeV particle X'."""
        if not self.known[place].names and self.find(word) is None:
            self.known[place].names.add(_name_of(word))

    def products(self) -> tuple[Product, Product]:
        """Both products.

        Raises:
            Refusal: if the heavier one is the lighter one.
            ValueError: if one of them cannot be.
        """
        first, second = [*self.known, Draft(), Draft()][:2]
        if first.mass is not None and second.mass is not None:
            heavier, lighter = (first, second) if first.mass > second.mass else (second, first)
            if first.mass != second.mass and (
                "lighter" in heavier.names or "heavier" in lighter.names
            ):
                raise Refusal("the particle called heavier is the lighter one")
        return first.product(), second.product()


def _name_of(word: str) -> str:
    return _SAME_NAME.get(word, word.removeprefix("m_"))
