"""Lists in a hypothesis, such as '730 and 380 GeV', and the nouns that they belong to."""

from __future__ import annotations

from collections.abc import Sequence

from hepllm.hypotheses.decays import StatedDecay, match_decay
from hepllm.hypotheses.words import Kind, Word, kind_at, text_at

NOUNS = (Kind.PARTICLE, Kind.PARTICLES, Kind.NAME, Kind.RESONANCE)

_JOINTS = (Kind.AND, Kind.COMMA)


def match_masses(words: Sequence[Word], start: int) -> tuple[list[int], int]:
    """Positions of the masses of a list, an unknown one among them; and the place after it."""
    found: list[int] = []
    place = end = start
    while length := _mass_length(words, place, is_listed=bool(found)):
        found.append(place)
        place = end = place + length
        while kind_at(words, place) in _JOINTS:
            place += 1
        if place == end:
            break
        while kind_at(words, place) is Kind.ARTICLE:
            place += 1
    return found, end


def _mass_length(words: Sequence[Word], place: int, *, is_listed: bool) -> int:
    """Words of a mass, '730 GeV' or 'unknown mass'; 0 if it is none."""
    if kind_at(words, place) is Kind.MASS:
        return 1
    if kind_at(words, place) is not Kind.UNKNOWN:
        return 0
    if kind_at(words, place + 1) is Kind.MASS_WORD:
        return 2
    if kind_at(words, place + 1) in NOUNS:
        return 0
    return int(is_listed or text_at(words, place - 1) == "masses")


def match_decays(
    words: Sequence[Word], start: int, *, of_particle: bool
) -> tuple[list[StatedDecay], int]:
    """One or two decays of a list, and the place after it.

    Args:
        words: words of a hypothesis.
        start: position of the first word.
        of_particle: whether the words follow 'X decays to'.
    """
    found: list[StatedDecay] = []
    place = end = start
    while len(found) < 2:
        if _is_unknown(words, place, may_be=of_particle or bool(found)):
            decay: StatedDecay | None = StatedDecay()
            after = place + 1
        else:
            decay, after = match_decay(words, place, of_particle=of_particle)
        if decay is None:
            break
        found.append(decay)
        place = end = after
        while kind_at(words, place) in _JOINTS:
            place += 1
        beside = kind_at(words, place - 1) is kind_at(words, place) is Kind.LETTERS
        if place == end and not beside:
            break
        while _is_between(words, place):
            place += 1
    return found, end


def _is_unknown(words: Sequence[Word], place: int, *, may_be: bool) -> bool:
    is_decay = kind_at(words, place + 1) not in (*NOUNS, Kind.MASS_WORD)
    return may_be and is_decay and kind_at(words, place) is Kind.UNKNOWN


def _is_between(words: Sequence[Word], place: int) -> bool:
    """Whether a word may stand before the second decay of a list: 'and one three-pronged'."""
    if kind_at(words, place) in (Kind.ARTICLE, Kind.ARROW):
        return True
    if kind_at(words, place) is not Kind.COUNT or words[place].value != 1:
        return False
    decay, _ = match_decay(words, place + 1, of_particle=False)
    return decay is not None


def noun_behind(words: Sequence[Word], place: int) -> Kind | None:
    """The kind of the noun that adjectives at a place belong to: '(730 GeV) two-pronged jets'."""
    start = place
    while place < len(words):
        if kind_at(words, place) is Kind.ADJECTIVE or text_at(words, place) == "light":
            place += 1
            continue
        decay, after = match_decay(words, place, of_particle=False)
        if decay is None or words[after - 1].kind is not Kind.PRONG:
            break
        place = after
    kind = kind_at(words, place)
    if kind is Kind.NAME and (place != start or text_at(words, place).startswith("m_")):
        return None
    return kind if kind in NOUNS else None
