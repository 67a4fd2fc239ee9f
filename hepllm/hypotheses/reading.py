"""Reads what the words of a hypothesis state, and of which particle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hepllm.hypotheses.decays import StatedDecay, match_decay
from hepllm.hypotheses.signal import DECAYS, Product, Signal
from hepllm.hypotheses.words import Kind, Refusal, Word

_NOUNS = (Kind.PARTICLE, Kind.PARTICLES, Kind.NAME, Kind.RESONANCE)


@dataclass
class _Draft:
    """X or Y as far as it has been read; ``has_mass`` also where it is said to be unknown."""

    names: set[str] = field(default_factory=set)
    mass: float | None = None
    has_mass: bool = False
    decay: StatedDecay | None = None

    def product(self) -> Product:
        decay = self.decay or StatedDecay()
        return Product(self.mass, decay.decay, decay.n_prongs)


@dataclass(frozen=True)
class Reading:
    """What a text states.

    Attributes:
        signal: the signal.
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
        drafts: products in the order of their first mention.
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
        self.drafts: list[_Draft] = []
        self.subject: list[int] = []
        self.on_resonance = self.is_adjacent = self.in_decay = self.is_new = False
        self.is_one_of_two = self.has_plural = False
        self.place_of_decay = 0
        self.m_resonance: float | None = None
        self.of_resonance: list[int] = []
        self.is_statement = False

    def step(self) -> None:
        """Reads the next words."""
        if self._read_masses() or self._read_decays():
            return
        word = self.words[self.place]
        self.place += 1
        if word.kind in _STEPS:
            _STEPS[word.kind](self, word)

    def finished(self) -> Reading:
        """What has been read."""
        if not self.is_statement:
            raise Refusal("states nothing of a signal")
        drafts = [*self.drafts, _Draft(), _Draft()][:2]
        _check_order(self.drafts)
        try:
            signal = Signal((drafts[0].product(), drafts[1].product()), self.m_resonance)
        except ValueError as error:
            raise Refusal(str(error)) from None
        return Reading(signal, tuple(self.of_resonance))

    # Masses

    def _read_masses(self) -> bool:
        places, end = self._mass_list()
        if not places:
            return False
        self.is_statement = True
        if self.in_decay:
            raise Refusal(
                f"'{self.words[places[0]].text}' stands where a decay is expected; a product of X "
                "or Y has no mass that is looked at"
            )
        self.place = end
        noun = self._noun_at(end)
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

    def _mass_list(self) -> tuple[list[int], int]:
        """Positions of the masses of a list, an unknown one among them; and the place after it."""
        found: list[int] = []
        place = end = self.place
        while place < len(self.words):
            length = self._mass_length(place, bool(found))
            if not length:
                break
            found.append(place)
            place = end = place + length
            joint = place
            while self._kind(place) in (Kind.AND, Kind.COMMA):
                place += 1
            if joint == place:
                break
            while self._kind(place) is Kind.ARTICLE:
                place += 1
        return found, end

    def _mass_length(self, place: int, is_listed: bool) -> int:
        if self._kind(place) is Kind.MASS:
            return 1
        if self._kind(place) is not Kind.UNKNOWN:
            return 0
        if self._kind(place + 1) is Kind.MASS_WORD:
            return 2
        if self._kind(place + 1) in _NOUNS:
            return 0
        lists = self.words[place - 1].text == "masses" if place else False
        return int(is_listed or lists)

    def _begins(self, noun: Kind | None, places: list[int], end: int) -> bool:
        """Whether the mass before the first arrow is that of the resonance: '3.5 TeV -> ...'."""
        if self.drafts or len(places) > 1 or noun is not None or self._kind(end) is not Kind.ARROW:
            return False
        decay, _ = match_decay(self.words, end + 1, of_particle=False)
        return decay is None and any(
            word.kind in (Kind.MASS, Kind.NAME) for word in self.words[end + 1 :]
        )

    def _set_resonance(self, place: int) -> None:
        word = self.words[place]
        if self.m_resonance not in (None, word.value):
            raise Refusal("states two masses of the resonance")
        self.m_resonance = word.value
        self.of_resonance.append(place)
        self.on_resonance, self.subject = True, []

    def _of_products(self, places: Sequence[int], noun: Kind | None) -> None:
        if not places:
            return
        values = [
            self.words[one].value if self.words[one].kind is Kind.MASS else None for one in places
        ]
        if noun is Kind.NAME and not self._is_subject_waiting():
            self.subject = [self._named(self.words[self.place].text)]
            self.is_new = False
        elif len(values) == 1:
            self.subject = self._owners_of_one(noun)
        elif len(values) == 2:
            self.subject = self._owners_of_two()
        else:
            raise Refusal("states three masses; say which one the resonance has, 'Z' of 3.5 TeV'")
        if len(values) != len(self.subject):
            values = [values[0]] * len(self.subject)
        for owner, value in zip(self.subject, values, strict=True):
            self._set_mass(self.drafts[owner], value)
        self.is_one_of_two = len(places) == 2 and noun is Kind.PARTICLE
        self.on_resonance = self.is_new = False

    def _is_subject_waiting(self) -> bool:
        return self.is_adjacent and any(not self.drafts[one].has_mass for one in self.subject)

    def _owners_of_one(self, noun: Kind | None) -> list[int]:
        waits = [one for one in self.subject if not self.drafts[one].has_mass]
        if waits and not self.is_new:
            return waits if len(waits) == 2 or len(self.subject) == 1 else self.subject
        if self.subject and self.is_adjacent and not self.is_new:
            return self.subject
        if noun is Kind.PARTICLES and not self.drafts:
            return self._both()
        return [self._new()]

    def _owners_of_two(self) -> list[int]:
        if len(self.drafts) == 2 or not self.drafts:
            return self._both()
        if not self.drafts[0].has_mass and self.subject == [0]:
            return self._both()
        return [self._new(), self._new()]

    @staticmethod
    def _set_mass(draft: _Draft, value: float | None) -> None:
        if draft.has_mass and draft.mass != value:
            raise Refusal("states two masses of one particle, or three particles")
        draft.mass, draft.has_mass = value, True

    # Decays

    def _read_decays(self) -> bool:
        decays, end = self._decay_list()
        if not decays:
            return False
        self.is_statement = True
        self.place_of_decay, self.place = self.place, end
        noun = self._noun_at(end + (self._kind(end) is Kind.MASS))
        if self.in_decay:
            owners = self.subject
        elif len(decays) == 2:
            owners = self._both()
        else:
            owners = self._owners_of_decay(noun, end)
        if len(decays) > len(owners):
            raise Refusal("states two decays of one particle")
        if len(decays) < len(owners):
            if self.is_one_of_two:
                raise Refusal("does not say which of the two decays so; write 'both to ...'")
            decays = [decays[0]] * len(owners)
        for owner, decay in zip(owners, decays, strict=True):
            self._set_decay(self.drafts[owner], decay)
        self.subject = list(owners)
        self.in_decay = self.is_new = self.on_resonance = False
        return True

    def _decay_list(self) -> tuple[list[StatedDecay], int]:
        found: list[StatedDecay] = []
        place = end = self.place
        while place < len(self.words):
            if self._is_unknown_decay(place, is_listed=bool(found)):
                decay: StatedDecay | None = StatedDecay()
                after = place + 1
            else:
                decay, after = match_decay(self.words, place, of_particle=self.in_decay)
            if decay is None:
                break
            found.append(decay)
            place = end = after
            joint = place
            while self._kind(place) in (Kind.AND, Kind.COMMA):
                place += 1
            beside = self._kind(place - 1) is self._kind(place) is Kind.LETTERS
            if (joint == place and not beside) or len(found) == 2:
                break
            while self._is_between(place):
                place += 1
        return found, end

    def _is_unknown_decay(self, place: int, *, is_listed: bool) -> bool:
        if self._kind(place) is not Kind.UNKNOWN or not (self.in_decay or is_listed):
            return False
        return self._kind(place + 1) not in (*_NOUNS, Kind.MASS_WORD)

    def _is_between(self, place: int) -> bool:
        """Whether a word may stand before the second decay of a list: 'and one three-pronged'."""
        if self._kind(place) in (Kind.ARTICLE, Kind.ARROW):
            return True
        if self._kind(place) is not Kind.COUNT or self.words[place].value != 1:
            return False
        decay, _ = match_decay(self.words, place + 1, of_particle=False)
        return decay is not None

    def _owners_of_decay(self, noun: Kind | None, end: int) -> list[int]:
        if self._kind(end) is Kind.NAME and self.words[end - 1].kind is Kind.PRONG:
            return [self._named(self._text(end))]
        if len(self.subject) == 2 and self._text(self.place_of_decay - 1) == "(":
            if self.has_plural:
                raise Refusal("does not say which of the two decays so; write 'both to ...'")
            return [self.subject[-1]]
        if self.subject and not self.is_new:
            settled = all(self.drafts[one].decay is not None for one in self.subject)
            if not (settled and noun is Kind.PARTICLE):
                return self.subject
        if self.is_new or noun is Kind.PARTICLE:
            return [self._new()]
        return self._both()

    @staticmethod
    def _set_decay(draft: _Draft, decay: StatedDecay) -> None:
        if draft.decay is None or draft.decay.n_prongs is None:
            draft.decay = decay
            return
        if decay.n_prongs not in (None, draft.decay.n_prongs) or (
            decay.decay and draft.decay.decay not in (None, decay.decay)
        ):
            raise Refusal("states two decays of one particle")
        draft.decay = decay if decay.decay else draft.decay

    # Words

    def _resonance(self, _: Word) -> None:
        self.is_statement = True
        self.on_resonance = True
        self.is_adjacent = self.place - 2 not in self.of_resonance
        self.subject, self.in_decay, self.is_new = [], False, False

    def _name(self, word: Word) -> None:
        self.is_statement = True
        before = self.place - 2
        while self._kind(before) in (Kind.AND, Kind.COMMA) or self._text(before) == "=":
            before -= 1
        alike = self._text(before).startswith("m_") == word.text.startswith("m_")
        listed = self._kind(before) is Kind.NAME and alike
        if self._kind(self.place - 2) is Kind.PARTICLE and len(self.subject) == 1:
            draft = self.drafts[self.subject[0]]
            if not draft.names and not self._find(word.text):
                draft.names.add(word.text.removeprefix("m_"))
        found = self._named(word.text)
        if listed and found not in self.subject:
            self.subject = [*self.subject, found]
        else:
            self.subject = [found]
        self.on_resonance = self.in_decay = self.is_new = False
        self.is_adjacent = True

    def _arrow(self, word: Word) -> None:
        decay, _ = match_decay(self.words, self.place, of_particle=False)
        if self.subject:
            self.in_decay, self.is_adjacent = True, False
            return
        follows = self._kind(self.place) is Kind.ARROW
        noun = None if decay is None else self._noun_at(self._decay_end())
        if decay is not None and noun is None:
            if self.on_resonance:
                raise Refusal(
                    "states a decay of the resonance to quarks; say what its two products decay "
                    "to, 'Z' to X and Y, both to two quarks'"
                )
            self.subject, self.in_decay = self._both(), True
        self.is_adjacent = False
        if not follows:
            self.on_resonance = False
        del word

    def _decay_end(self) -> int:
        _, end = match_decay(self.words, self.place, of_particle=False)
        return end

    def _count(self, word: Word) -> None:
        if word.value == 1:
            masses = {one.mass for one in self.drafts}
            if self._kind(self.place) is Kind.ARROW and len(self.drafts) == 2 and len(masses) == 2:
                raise Refusal("'one' may be either particle; write 'the first' or 'the heavier'")
            self._article(word)
        elif word.value == 2:
            self._all(word)
        else:
            raise Refusal(f"'{word.text}' of what? a signal has two products, X and Y")

    def _all(self, _: Word) -> None:
        self.subject, self.is_adjacent, self.is_new = self._both(), True, False
        self.on_resonance = self.in_decay = self.is_one_of_two = False

    def _article(self, _: Word) -> None:
        if not self.in_decay:
            self.is_new, self.is_adjacent = True, False

    def _and(self, _: Word) -> None:
        self.is_adjacent, self.in_decay = False, False
        self.is_new = len(self.subject) < 2

    def _comma(self, _: Word) -> None:
        self.is_adjacent = self.in_decay = False

    def _other(self, _: Word) -> None:
        while len(self.drafts) < 2:
            self.drafts.append(_Draft())
        self.subject = [0 if self.subject == [1] and self._text(self.place - 1) == "other" else 1]
        self.is_adjacent, self.is_new = True, False
        self.on_resonance = self.in_decay = self.is_one_of_two = False

    def _particle(self, _: Word) -> None:
        if self.on_resonance and not self.is_new:
            return
        if self.is_new or not self.subject:
            self.subject = [self._new()]
        self.on_resonance = self.is_new = False
        self.is_adjacent = not self.drafts[self.subject[-1]].has_mass

    def _particles(self, _: Word) -> None:
        self.is_new, self.on_resonance, self.is_adjacent = False, False, True
        self.has_plural = True

    def _unknown(self, _: Word) -> None:
        self.is_statement = True
        self.in_decay = False

    def _strange(self, word: Word) -> None:
        if self.in_decay:
            raise Refusal(f"'{word.text}' is no decay; known are {', '.join(DECAYS)}")

    def _flavour(self, word: Word) -> None:
        if word.text == "light" and self._kind(self.place) is Kind.PARTICLE:
            self._name(Word(Kind.NAME, "lighter", word.start, word.end))
            return
        if word.text == "light":
            return
        raise Refusal(f"'{word.text}' alone is no decay; write e.g. 'two {word.text} quarks'")

    def _adjective(self, word: Word) -> None:
        if word.text == "heavy" and self._kind(self.place) is Kind.PARTICLE:
            self._name(Word(Kind.NAME, "heavier", word.start, word.end))

    # Products

    def _new(self) -> int:
        if len(self.drafts) == 2:
            raise Refusal("states three particles; a signal has two products, X and Y")
        self.drafts.append(_Draft())
        return len(self.drafts) - 1

    def _both(self) -> list[int]:
        while len(self.drafts) < 2:
            self.drafts.append(_Draft())
        return [0, 1]

    def _find(self, text: str) -> int | None:
        name = _SAME_NAME.get(text, text.removeprefix("m_"))
        for place, draft in enumerate(self.drafts):
            if name in draft.names:
                return place
        return None

    def _named(self, text: str) -> int:
        """The position of the product of a name, which may be new."""
        found = self._find(text)
        if found is not None:
            return found
        name = _SAME_NAME.get(text, text.removeprefix("m_"))
        if name == "first":
            return self._both()[0]
        if name in ("heavier", "lighter"):
            masses = [one.mass for one in self.drafts if one.mass is not None]
            if len(masses) == 2 and masses[0] != masses[1]:
                return masses.index(max(masses) if name == "heavier" else min(masses))
        if len(self.drafts) < 2:
            found = self._new()
        else:
            nameless = [place for place, one in enumerate(self.drafts) if not one.names]
            if not nameless:
                raise Refusal(f"names a third product, '{text}'")
            found = nameless[0]
        self.drafts[found].names.add(name)
        return found

    # Places

    def _kind(self, place: int) -> Kind | None:
        return self.words[place].kind if 0 <= place < len(self.words) else None

    def _text(self, place: int) -> str:
        return self.words[place].text if 0 <= place < len(self.words) else ""

    def _noun_at(self, place: int) -> Kind | None:
        """The noun that the words before a place belong to, behind adjectives."""
        while place < len(self.words):
            if self._kind(place) is Kind.ADJECTIVE or self._text(place) == "light":
                place += 1
                continue
            decay, after = match_decay(self.words, place, of_particle=False)
            if decay is None or self.words[after - 1].kind is not Kind.PRONG:
                break
            place = after
        kind = self._kind(place)
        if kind is Kind.NAME and (place != self.place or self._text(place).startswith("m_")):
            return None
        return kind if kind in _NOUNS else None


_SAME_NAME: Mapping[str, str] = {"heaviest": "heavier", "lightest": "lighter"}

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


def _check_order(drafts: Sequence[_Draft]) -> None:
    """Refuses a heavier particle that is lighter."""
    for place, draft in enumerate(drafts):
        other = drafts[1 - place] if len(drafts) == 2 else _Draft()
        if draft.mass is None or other.mass is None:
            continue
        wrong = ("heavier" in draft.names and draft.mass < other.mass) or (
            "lighter" in draft.names and draft.mass > other.mass
        )
        if wrong:
            raise Refusal("the particle called heavier is the lighter one")
