"""Sentences that state a signal: many phrasings, exact or vague, for training and for records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hepllm.hypotheses.signal import Decay, Product, Signal

_WORDS: Mapping[Decay, tuple[str, ...]] = {
    "q": ("one quark", "a single quark", "a quark"),
    "qq": ("two quarks", "a quark pair", "two light quarks", "a pair of quarks"),
    "bb": ("two b quarks", "b quarks", "a pair of b quarks", "two bottom quarks"),
    "qqq": ("three quarks", "three light quarks"),
    "tt": ("two top quarks", "top quarks", "a top pair", "a pair of top quarks"),
}

_STEPS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""What masses are rounded to, in GeV."""

_COUNTS = ("no", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True)
class Vagueness:
    """Probabilities that a sentence states less than is known.

    Attributes:
        all: nothing is stated at all.
        mass: the mass of a product is left out; for each of them.
        decays: both decays are left out.
        decay: one decay is left out; for each of them.
        prongs: decays are stated by their prongs only.
        rounding: masses are rounded.
        resonance: the mass of the resonance, if known, is not mentioned.
    """

    all: float = 0.1
    mass: float = 0.1
    decays: float = 0.15
    decay: float = 0.1
    prongs: float = 0.1
    rounding: float = 0.4
    resonance: float = 0.8

    def of(self, signal: Signal, random: np.random.Generator) -> Signal:
        """Draws what is stated of a signal."""
        if random.random() < self.all:
            return Signal()
        by_prongs, no_decays = random.random() < self.prongs, random.random() < self.decays
        digits = _draw_rounding(random) if random.random() < self.rounding else None
        products = []
        for one in signal.products:
            mass = None if random.random() < self.mass else one.mass
            if mass is not None and digits is not None:
                mass = digits(mass)
            product = replace(one, mass=mass)
            if no_decays or random.random() < self.decay:
                product = Product(mass)
            elif by_prongs:
                product = Product(mass, None, one.n_prongs)
            products.append(product)
        stated = sum(one.mass or 0.0 for one in products)
        m_resonance = signal.m_resonance
        if random.random() < self.resonance or (m_resonance or 0.0) < stated:
            m_resonance = None
        return Signal((products[0], products[1]), m_resonance)


EXACT = Vagueness(all=0, mass=0, decays=0, decay=0, prongs=0, rounding=0, resonance=0)
"""All that is known is stated."""


def _draw_rounding(random: np.random.Generator) -> Callable[[float], float]:
    """One of the ways in which people round masses."""
    coarsest = _STEPS[int(random.integers(3, len(_STEPS)))]

    def rounded(mass: float) -> float:
        # An error of at most 5 %.
        step = max(one for one in _STEPS if one <= min(coarsest, mass / 10))
        return round(mass / step) * step

    return rounded


@dataclass(frozen=True)
class _Said:
    """A product in words.

    Attributes:
        mass: '730 GeV' or '0.73 TeV'; empty if unknown.
        decay: 'two quarks' or 'qq'; empty if unknown.
        n_prongs: prongs where only they are known.
    """

    mass: str
    decay: str
    n_prongs: int = 0

    @property
    def noun(self) -> str:
        """'a 730 GeV particle', or 'an unknown particle'."""
        return f"{_article(self.mass)} particle" if self.mass else "an unknown particle"

    @property
    def stated_mass(self) -> str:
        """The mass, or 'unknown mass'."""
        return self.mass or "unknown mass"

    def to(self, verb: str) -> str:
        """' to two quarks' or ' with two prongs'; empty if neither is known."""
        if self.n_prongs:
            return f" with {_prongs(self.n_prongs)}"
        return f" {verb} {self.decay}" if self.decay else ""

    def in_brackets(self) -> str:
        """' (two quarks)'; empty if unknown."""
        if self.n_prongs:
            return f" ({_prongs(self.n_prongs)})"
        return f" ({self.decay})" if self.decay else ""

    @property
    def facts(self) -> list[str]:
        """Mass and decay, as far as they are known."""
        decay = _prongs(self.n_prongs) if self.n_prongs else self.decay
        return [fact for fact in (self.mass, decay) if fact]

    def same_decay(self, other: _Said) -> bool:
        return (self.decay, self.n_prongs) == (other.decay, other.n_prongs)


def _prongs(count: int) -> str:
    return f"{_COUNTS[count]} prong{'s' if count > 1 else ''}"


def _article(mass: str) -> str:
    """The mass with its article."""
    begins_with_vowel = mass.startswith("8") or mass.split(".", maxsplit=1)[0] in ("11", "18")
    return f"an {mass}" if begins_with_vowel else f"a {mass}"


@dataclass(frozen=True)
class _Sentence:
    """What a style puts into words: the resonance, and both products in their order."""

    resonance: str
    first: _Said
    second: _Said

    def decays(self, verb: str) -> str:
        """', both to two quarks' or ', the first to bb, the second to qq'; empty if unknown."""
        first, second = self.first.to(verb), self.second.to(verb)
        if first and self.first.same_decay(self.second):
            return f", both{first}"
        parts = (("first", first), ("second", second))
        return "".join(f", the {name}{clause}" for name, clause in parts if clause)


Style = Callable[[_Sentence], str]


def _two_nouns(say: _Sentence) -> str:
    return f"{say.resonance} to {say.first.noun} and {say.second.noun}{say.decays('to')}"


def _each_decaying(say: _Sentence) -> str:
    first, second = (one.noun + one.to("decaying to") for one in (say.first, say.second))
    return f"{first} and {second}"


def _brackets(say: _Sentence) -> str:
    first, second = say.first, say.second
    return (
        f"{say.resonance} -> X ({first.stated_mass}) Y ({second.stated_mass})"
        f"{_named_decays(say, '->')}"
    )


def _described(say: _Sentence) -> str:
    parts = [
        f"{name} ({', '.join(facts)})" if facts else name
        for name, facts in (("X", say.first.facts), ("Y", say.second.facts))
    ]
    return f"{say.resonance} -> {' '.join(parts)}"


def _named_decays(say: _Sentence, verb: str) -> str:
    parts = (("X", say.first.to(verb)), ("Y", say.second.to(verb)))
    return "".join(f", {name}{clause}" for name, clause in parts if clause)


def _equations(say: _Sentence) -> str:
    parts = [
        f"m_{name} = {one.mass}" for name, one in (("X", say.first), ("Y", say.second)) if one.mass
    ]
    return ", ".join([f"{say.resonance} -> X Y", *parts]) + _named_decays(say, "->")


def _named(say: _Sentence) -> str:
    first, second = (
        f"{name} of {one.stated_mass}{one.to('to')}"
        for name, one in (("X", say.first), ("Y", say.second))
    )
    return f"{first}, {second}"


def _jets(say: _Sentence) -> str:
    return f"jets of {say.first.stated_mass} and {say.second.stated_mass}{say.decays('to')}"


def _sum(say: _Sentence) -> str:
    first, second = (one.stated_mass + one.in_brackets() for one in (say.first, say.second))
    return f"{first} + {second}"


def _one_other(say: _Sentence) -> str:
    first, second = (
        f"{name} jet of {one.stated_mass}{one.to('from')}"
        for name, one in (("one", say.first), ("another", say.second))
    )
    return f"{first}, {second}"


def _list(say: _Sentence) -> str:
    first, second = (one.stated_mass + one.to("->") for one in (say.first, say.second))
    return f"signal: {first}; {second}"


def _into(say: _Sentence) -> str:
    first, second = (
        f"{name} at {one.stated_mass}{one.to('giving')}"
        for name, one in (("X", say.first), ("Y", say.second))
    )
    return f"{say.resonance} into {first} and {second}"


def _search_for(say: _Sentence) -> str:
    first, second = (one.noun + one.in_brackets() for one in (say.first, say.second))
    return f"search for {first} with {second}"


def _bosons(say: _Sentence) -> str:
    first, second = (
        f"boson of mass {one.mass}" if one.mass else "boson of unknown mass"
        for one in (say.first, say.second)
    )
    return f"a {first} and a {second}{say.decays('decaying to')}"


def _becomes(say: _Sentence) -> str:
    first, second = (
        f"{name} weighing {one.mass}{one.to('that becomes')}"
        if one.mass
        else f"{name} of unknown mass{one.to('that becomes')}"
        for name, one in (("a particle", say.first), ("a particle", say.second))
    )
    return f"the {say.resonance} yields {first} and {second}"


def _functions(say: _Sentence) -> str:
    parts = [
        f"m({name})={one.mass}{one.in_brackets()}" if one.mass else f"{name}{one.in_brackets()}"
        for name, one in (("X", say.first), ("Y", say.second))
    ]
    return f"{say.resonance} => XY with " + ", ".join(parts)


def _scalars(say: _Sentence) -> str:
    first, second = (
        (f"{one.mass} scalar" if one.mass else "unknown scalar") + one.to("giving")
        for one in (say.first, say.second)
    )
    return f"new physics: {first} plus {second}"


def _masses(say: _Sentence) -> str:
    first, second = say.first, say.second
    return f"daughters with masses {first.mass or 'unknown'} and {second.mass or 'unknown'}" + (
        say.decays("to")
    )


TRAINING: tuple[Style, ...] = (
    _described, _two_nouns, _each_decaying, _brackets, _equations, _named, _jets, _sum,
    _one_other, _list, _into, _search_for, _bosons,
)  # fmt: skip
"""Phrasings that a model is trained with; ``describe`` uses the first."""

HELD_OUT: tuple[Style, ...] = (_becomes, _functions, _scalars, _masses)
"""Phrasings that no training uses, to test whether a model understands new ones."""


def phrase(
    signal: Signal,
    random: np.random.Generator,
    *,
    styles: Sequence[Style] = TRAINING,
    vagueness: Vagueness = Vagueness(),
) -> str:
    """Says a signal in one of several phrasings, which ``parse_hypothesis`` reads.

    Args:
        signal: the signal.
        random: draws phrasing, unit, order of X and Y and what is left open.
        styles: phrasings to choose from, ``TRAINING`` or ``HELD_OUT``.
        vagueness: how much is left open or rounded; ``EXACT`` states all.
    """
    stated = vagueness.of(signal, random)
    unit = "TeV" if random.random() < 0.3 else "GeV"
    by_letters = random.random() < 0.4
    said = [_said(one, unit, by_letters, random) for one in stated.products]
    if random.random() < 0.5:
        said.reverse()
    name = ("Z'", "W'", "resonance")[random.integers(3)]
    identical = stated.products[0] == stated.products[1] and said[0].same_decay(said[1])
    if stated.is_open:
        return f"{_resonance(name, stated.m_resonance)} to two unknown particles"
    sentence = _Sentence(_resonance(name, stated.m_resonance), *said)
    if identical and said[0].mass and styles is TRAINING and random.random() < 0.5:
        return f"two identical {said[0].mass} particles{said[0].to('decaying to')}"
    return styles[int(random.integers(len(styles)))](sentence)


def describe(signal: Signal) -> str:
    """Says a signal in the one way that records and pages use: 'Z' -> X (730 GeV, qq) Y'.

    It is one of the phrasings that models are trained with.
    """
    first, second = (
        _Said(
            "" if one.mass is None else f"{_number(one.mass)} GeV",
            one.decay or "",
            0 if one.decay else one.n_prongs or 0,
        )
        for one in signal.products
    )
    return _described(_Sentence(_resonance("Z'", signal.m_resonance), first, second))


def _said(one: Product, unit: str, by_letters: bool, random: np.random.Generator) -> _Said:
    mass = ""
    if one.mass is not None:
        value = one.mass / 1000 if unit == "TeV" else one.mass
        mass = f"{_number(value)} {unit}"
    if one.decay is None:
        return _Said(mass, "", one.n_prongs or 0)
    words = _WORDS[one.decay]
    return _Said(mass, one.decay if by_letters else words[random.integers(len(words))])


def _number(value: float) -> str:
    return np.format_float_positional(round(value, 10), trim="-")


def _resonance(name: str, mass: float | None) -> str:
    return name if mass is None else f"{name} of {_number(mass / 1000)} TeV"
