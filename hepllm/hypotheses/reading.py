"""Reads what the words of a hypothesis state, and of which particle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hepllm.hypotheses.decays import match_decay
from hepllm.hypotheses.drafts import Drafts
from hepllm.hypotheses.lists import match_decays, match_masses, noun_behind
from hepllm.hypotheses.signal import DECAYS, Signal
from hepllm.hypotheses.words import Kind, Refusal, Word, kind_at, text_at

_WHICH_DECAYS = "does not say which of the two decays so; write 'both to ...'"


@dataclass(frozen=True)
class Reading:
    """What a text states.

    Attributes:
        of_resonance: positions of the words that state the mass of the resonance.
    """

    signal: Signal
    of_resonance: tuple[int, ...]


def read_words(words: Sequence[Word]) -> Reading:
    """Reads the words of a hypothesis.

    Raises:
        Refusal: if they state nothing, or what no signal has.
    """
    reader = _Reader(words)
    while reader.place < len(words):
        reader.step()
    return reader.finished()


class _Reader:
    """Goes through the words and keeps which particles they are about.

    Attributes:
        place: position of the next word.
        subject: positions of the products that are spoken of.
        on_resonance: whether the resonance is spoken of.
        is_adjacent: whether nothing but small words stand after the name of the subject.
        in_decay: whether the words after 'X decays to' are read.
        is_new: whether the next thing may be a product that has not been mentioned.
        is_one_of_two: whether a list of two ended in a singular, and a decay has no clear owner.
        has_plural: whether 'particles' were spoken of.
    """

    def __init__(self, words: Sequence[Word]) -> None:
        self.words = words
        self.place = 0
        self.drafts = Drafts()
        self.subject: list[int] = []
        self.on_resonance = self.is_adjacent = self.in_decay = False
        self.is_new = self.is_one_of_two = self.has_plural = False
        self.m_resonance: float | None = None
        self.of_resonance: list[int] = []
        self.is_statement = False

    def step(self) -> None:
        """Reads the next words."""
        if self._read_masses() or self._read_decays():
            self.is_statement = True
            return
        word = self.words[self.place]
        self.place += 1
        if word.kind in _STEPS:
            _STEPS[word.kind](self, word)

    def finished(self) -> Reading:
        """What has been read."""
        if not self.is_statement:
            raise Refusal("states nothing of a signal")
        try:
            signal = Signal(self.drafts.products(), self.m_resonance)
        except ValueError as error:
            raise Refusal(str(error)) from None
        return Reading(signal, tuple(self.of_resonance))

    # Masses

    def _read_masses(self) -> bool:
        places, end = match_masses(self.words, self.place)
        if not places:
            return False
        if self.in_decay:
            raise Refusal(
                f"'{self.words[places[0]].text}' stands where a decay is expected; masses are "
                "those of X, Y and the resonance"
            )
        self.place = end
        noun = noun_behind(self.words, end)
        if self.on_resonance and self.is_adjacent:
            self._set_resonance(places.pop(0))
        elif noun is Kind.RESONANCE or self._begins(noun, places, end):
            last = places.pop()
            self._of_products(places, None)
            self._set_resonance(last)
            places = []
        self._of_products(places, noun)
        self.is_adjacent = False
        return True

    def _begins(self, noun: Kind | None, places: list[int], end: int) -> bool:
        """Whether the mass before the first arrow is that of the resonance: '3.5 TeV -> ...'."""
        is_first = not len(self.drafts) and len(places) == 1 and noun is None
        if not is_first or kind_at(self.words, end) is not Kind.ARROW:
            return False
        decay, _ = match_decay(self.words, end + 1, of_particle=False)
        rest = self.words[end + 1 :]
        return decay is None and any(word.kind in (Kind.MASS, Kind.NAME) for word in rest)

    def _set_resonance(self, place: int) -> None:
        word = self.words[place]
        if word.kind is not Kind.MASS:
            return
        if self.m_resonance not in (None, word.value):
            raise Refusal("states two masses of the resonance")
        self.m_resonance = word.value
        self.of_resonance.append(place)
        self.on_resonance, self.subject = True, []

    def _of_products(self, places: Sequence[int], noun: Kind | None) -> None:
        if not places:
            return
        words = [self.words[one] for one in places]
        values = [word.value if word.kind is Kind.MASS else None for word in words]
        if noun is Kind.NAME and not self._is_subject_waiting():
            self.subject = [self.drafts.named(text_at(self.words, self.place))]
            if len(values) == 2:
                self.subject.insert(0, 1 - self.drafts.both()[self.subject[0]])
        elif len(values) == 1:
            self.subject = self._owners_of_one(noun, places[0])
        elif len(values) == 2:
            self.subject = self._owners_of_two()
        if len(values) > 2:
            raise Refusal("states three masses; say which one the resonance has, 'Z' of 3.5 TeV'")
        if len(values) != len(self.subject):
            values = [values[0]] * len(self.subject)
        for owner, value in zip(self.subject, values, strict=True):
            self.drafts[owner].set_mass(value)
        self.is_one_of_two = len(places) == 2 and noun is Kind.PARTICLE
        self.on_resonance = self.is_new = False

    def _is_subject_waiting(self) -> bool:
        return self.is_adjacent and any(not self.drafts[one].has_mass for one in self.subject)

    def _owners_of_one(self, noun: Kind | None, place: int) -> list[int]:
        if text_at(self.words, self.place) == "each":
            return self.drafts.both()
        if text_at(self.words, place - 1) == "(" and self.is_adjacent and self.subject:
            return self.subject[-1:]  # Y in 'X Y (380 GeV)'
        waits = [one for one in self.subject if not self.drafts[one].has_mass]
        is_joined = kind_at(self.words, place - 1) is Kind.AND
        if waits and is_joined and noun is None and len(self.subject) == 1:
            raise Refusal(f"does not say which particle has {self.words[place].text}")
        if waits and not self.is_new:
            return waits if len(waits) == 2 or len(self.subject) == 1 else self.subject
        if self.subject and self.is_adjacent and not self.is_new:
            return self.subject
        if noun is Kind.PARTICLES and not len(self.drafts):
            return self.drafts.both()
        return [self.drafts.add()]

    def _owners_of_two(self) -> list[int]:
        if len(self.drafts) == 1 and (self.drafts[0].has_mass or self.subject != [0]):
            self.drafts.add()
            self.drafts.add()  # refused
        return self.drafts.both()

    # Decays

    def _read_decays(self) -> bool:
        start = self.place
        decays, end = match_decays(self.words, start, of_particle=self.in_decay)
        if not decays:
            return False
        self.place = end
        is_each = text_at(self.words, end) == "each"
        if len(decays) == 2 or is_each:
            owners = self.subject if self.in_decay and not is_each else self.drafts.both()
        elif self.in_decay:
            owners = self.subject
        else:
            owners = self._owners_of_decay(start, end)
        if len(decays) > len(owners):
            raise Refusal("states two decays of one particle")
        if len(decays) < len(owners):
            if self.is_one_of_two and not is_each:
                raise Refusal(_WHICH_DECAYS)
            decays = [decays[0]] * len(owners)
        for owner, decay in zip(owners, decays, strict=True):
            self.drafts[owner].set_decay(decay)
        self.subject = list(owners)
        self.in_decay = self.is_new = self.on_resonance = False
        return True

    def _owners_of_decay(self, start: int, end: int) -> list[int]:
        """The products that a decay belongs to which does not follow 'X decays to'."""
        words = self.words
        noun = noun_behind(words, end + (kind_at(words, end) is Kind.MASS))
        if kind_at(words, end) is Kind.NAME and kind_at(words, end - 1) is Kind.PRONG:
            return [self.drafts.named(text_at(words, end))]
        if len(self.subject) == 2 and text_at(words, start - 1) == "(":
            if self.has_plural:
                raise Refusal(_WHICH_DECAYS)
            return self.subject[-1:]
        if self.subject and not self.is_new:
            is_settled = all(self.drafts[one].has_decay for one in self.subject)
            if not (is_settled and noun is Kind.PARTICLE):
                return self.subject
        if self.is_new or noun is Kind.PARTICLE:
            return [self.drafts.add()]
        return self.drafts.both()

    # Words

    def _resonance(self, _: Word) -> None:
        self.is_statement = True
        self._speak_of([], is_adjacent=self.place - 2 not in self.of_resonance)
        self.on_resonance = True

    def _name(self, word: Word) -> None:
        self.is_statement = True
        before = self.place - 2
        if kind_at(self.words, before) is Kind.PARTICLE and len(self.subject) == 1:
            self.drafts.name_last(self.subject[0], word.text)
        while self._is_joint(before):
            before -= 1
        alike = text_at(self.words, before).startswith("m_") == word.text.startswith("m_")
        is_listed = kind_at(self.words, before) is Kind.NAME and alike
        found = self.drafts.named(word.text)
        # In 'Z' -> X Y, X -> bb' the second X begins something new.
        is_listed = is_listed and all(one < found for one in self.subject)
        self._speak_of([*self.subject, found] if is_listed else [found], is_adjacent=True)

    def _is_joint(self, place: int) -> bool:
        """Whether a word stands between names of a list: 'X and Y', 'm_X = m_Y'."""
        kind = kind_at(self.words, place)
        return kind in (Kind.AND, Kind.COMMA) or text_at(self.words, place) == "="

    def _arrow(self, _: Word) -> None:
        self.is_adjacent = False
        if self.subject:
            self.in_decay = True
            return
        decay, end = match_decay(self.words, self.place, of_particle=False)
        if decay is not None and noun_behind(self.words, end) is None:
            if self.on_resonance:
                raise Refusal(
                    "states a decay of the resonance to quarks; say what its two products decay "
                    "to, 'Z' to X and Y, both to two quarks'"
                )
            self.subject, self.in_decay = self.drafts.both(), True
        if kind_at(self.words, self.place) is not Kind.ARROW:
            self.on_resonance = False

    def _count(self, word: Word) -> None:
        if word.value == 2:
            self._all(word)
            return
        if word.value > 2:
            raise Refusal(f"'{word.text}' of what? a signal has two products, X and Y")
        masses = {one.mass for one in self.drafts.known}
        if kind_at(self.words, self.place) is Kind.ARROW and len(masses) == 2:
            raise Refusal("'one' may be either particle; write 'the first' or 'the heavier'")
        self._article(word)

    def _all(self, _: Word) -> None:
        self._speak_of(self.drafts.both(), is_adjacent=True)
        self.is_one_of_two = False

    def _article(self, _: Word) -> None:
        if not self.in_decay:
            self.is_new, self.is_adjacent = True, False

    def _and(self, _: Word) -> None:
        self.is_adjacent = self.in_decay = False
        self.is_new = len(self.subject) < 2

    def _comma(self, _: Word) -> None:
        self.is_adjacent = self.in_decay = False

    def _other(self, word: Word) -> None:
        self.drafts.both()
        is_first = self.subject == [1] and word.text == "other"
        self._speak_of([0 if is_first else 1], is_adjacent=True)
        self.is_one_of_two = False

    def _particle(self, _: Word) -> None:
        if self.on_resonance and not self.is_new:
            return
        if self.is_new or not self.subject:
            self.subject = [self.drafts.add()]
        self.on_resonance = self.is_new = False
        self.is_adjacent = not self.drafts[self.subject[-1]].has_mass

    def _particles(self, _: Word) -> None:
        self.on_resonance = self.is_new = False
        self.is_adjacent = self.has_plural = True

    def _unknown(self, _: Word) -> None:
        self.is_statement = True
        self.in_decay = False

    def _strange(self, word: Word) -> None:
        if self.in_decay:
            raise Refusal(f"'{word.text}' is no decay; known are {', '.join(DECAYS)}")

    def _flavour(self, word: Word) -> None:
        if word.text != "light":
            raise Refusal(f"'{word.text}' alone is no decay; write e.g. 'two {word.text} quarks'")
        self._weight("lighter")

    def _adjective(self, word: Word) -> None:
        if word.text == "heavy":
            self._weight("heavier")

    def _weight(self, name: str) -> None:
        """Reads 'light jet' and 'heavy jet' as names."""
        if kind_at(self.words, self.place) is Kind.PARTICLE:
            self.is_statement = True
            self._speak_of([self.drafts.named(name)], is_adjacent=True)

    def _speak_of(self, subject: list[int], *, is_adjacent: bool) -> None:
        self.subject, self.is_adjacent = subject, is_adjacent
        self.on_resonance = self.in_decay = self.is_new = False


_STEPS: Mapping[Kind, Callable[[_Reader, Word], None]] = {
    Kind.RESONANCE: _Reader._resonance,
    Kind.NAME: _Reader._name,
    Kind.ARROW: _Reader._arrow,
    Kind.COUNT: _Reader._count,
    Kind.PAIR: _Reader._all,
    Kind.BOTH: _Reader._all,
    Kind.ARTICLE: _Reader._article,
    Kind.AND: _Reader._and,
    Kind.COMMA: _Reader._comma,
    Kind.STOP: _Reader._comma,
    Kind.OTHER: _Reader._other,
    Kind.PARTICLE: _Reader._particle,
    Kind.PARTICLES: _Reader._particles,
    Kind.UNKNOWN: _Reader._unknown,
    Kind.FLAVOUR: _Reader._flavour,
    Kind.ADJECTIVE: _Reader._adjective,
    Kind.STRANGE: _Reader._strange,
}
