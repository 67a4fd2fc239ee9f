"""A hypothesis: its text, the signal that it states, and what the model reads of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hepllm.hypotheses.reading import read_words
from hepllm.hypotheses.signal import HEAVIEST, LIGHTEST, Signal
from hepllm.hypotheses.words import Kind, Refusal, Word, plain, refused, words_of

LONGEST = 400
"""Characters of a hypothesis."""

_BEFORE = re.compile(
    r"(?:[\s,;]*(?:\band\s+)?(?<![a-z_])(?:whose|with|having|of|at|near|around|about|approximately|ca|"
    r"roughly|weighing|is|has|a|the|mass|m|dijet|m_?[({]*(?:z'+|w'+|jj|zprime|wprime|res|resonance|"
    r"r|g)[)}]*)(?![a-z_])|[\s=~≈(:])*$"
)
_ABOUT = re.compile(r"(?:[\s~≈]|\b(?:about|around|approximately|ca|roughly))*$")


@dataclass(frozen=True)
class Hypothesis:
    """What a signal would look like, in words.

    Attributes:
        text: as the user wrote it, on one line.
        signal: what it states.
        pieces: the words that a model reads, and each mass, without its unit, as a number in GeV.
            The mass of the resonance is left out.
        notes: what a user must know of how it was read.
    """

    text: str
    signal: Signal
    pieces: tuple[str | float, ...]
    notes: tuple[str, ...] = ()

    @property
    def masses(self) -> tuple[float, float]:
        """Masses of X and Y in GeV, the heavier first; NaN where none is stated."""
        return self.signal.masses


def parse_hypothesis(text: str) -> Hypothesis:
    """Reads a hypothesis, such as "Z' to a 730 GeV and a 380 GeV particle, both to two quarks".

    A number without a unit has that of the list it stands in, or is in GeV. The mass of the
    resonance becomes a part of ``signal`` and of no piece: a score that knew it would know m_jj.

    Raises:
        InputError: if the text states nothing, too much, or what no signal has.
    """
    line = plain(text)
    try:
        words = _checked_words(line)
        reading = read_words(words)
    except Refusal as reason:
        shown = line if len(line) <= LONGEST else f"{line[:40]}..."
        raise refused(shown, str(reason)) from None
    pieces = _pieces(line, words, reading.of_resonance)
    return Hypothesis(line, reading.signal, pieces, _notes(words, reading.signal))


def _checked_words(line: str) -> list[Word]:
    if len(line) > LONGEST:
        raise Refusal(f"{len(line)} characters are more than {LONGEST}")
    words = words_of(line)
    for word in words:
        if word.kind is Kind.MASS and not LIGHTEST <= word.value <= HEAVIEST:
            raise Refusal(
                f"'{word.text}' is {word.value:g} GeV, which is not in {LIGHTEST:g}-{HEAVIEST:g} "
                "GeV"
            )
    return words


def _pieces(text: str, words: Sequence[Word], left_out: Sequence[int]) -> tuple[str | float, ...]:
    pieces: list[str | float] = []
    begin = 0
    for place, word in enumerate(words):
        if word.kind is not Kind.MASS:
            continue
        if place in left_out:
            start, end = _around(text, begin, words, place)
            pieces.append(re.sub(r"\b([Aa])n$", r"\1", text[begin:start]))  # an 8 TeV resonance
            begin = end
        else:
            pieces += [text[begin : word.start], word.value]
            begin = word.end
    pieces.append(text[begin:])
    return _joined(pieces)


def _around(text: str, begin: int, words: Sequence[Word], place: int) -> tuple[int, int]:
    """Start and end of what states the mass of the resonance, with the small words around it."""
    word = words[place]
    after = words[place + 1].kind if place + 1 < len(words) else None
    is_adjective = after in (Kind.RESONANCE, Kind.ADJECTIVE)
    found = (_ABOUT if is_adjective else _BEFORE).search(text[begin : word.start].lower())
    start = word.start if found is None else begin + found.start()
    end = word.end
    if "(" in text[start : word.start] and text[end : end + 1] == ")":
        end += 1
    if start == 0:
        # The sentence began with it.
        end += len(text[end:]) - len(text[end:].lstrip(" ,;:"))
        if after is Kind.ARROW:
            end = words[place + 1].end + 1
    return start, min(end, len(text))


def _joined(pieces: Sequence[str | float]) -> tuple[str | float, ...]:
    """Joins words that stand beside each other."""
    joined: list[str | float] = []
    for piece in pieces:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        elif piece != "":
            joined.append(piece)
    return tuple(joined)


def _notes(words: Sequence[Word], signal: Signal) -> tuple[str, ...]:
    notes = []
    if signal.m_resonance is not None:
        notes.append(
            f"the mass of the resonance, {signal.m_resonance:g} GeV, belongs to the search window "
            "and is left out of the score, which must not know m_jj"
        )
    if signal.is_open:
        notes.append("states neither masses nor decays: the score is that without a hypothesis")
    bare = [word.text for word in words if word.kind is Kind.MASS and not word.unit]
    if bare:
        notes.append(f"read as GeV: {', '.join(bare)}")
    strange = [word.text for word in words if word.kind is Kind.STRANGE]
    if strange:
        notes.append(f"states nothing that is known: {', '.join(strange)}")
    return tuple(notes)


OPEN = parse_hypothesis("a resonance to two unknown particles")
"""States nothing; the hypothesis of a model that is given none."""
