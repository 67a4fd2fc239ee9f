"""Decays as they are written: 'two b quarks', 'b bbar', 'three-pronged', 'a top pair'."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hepllm.hypotheses.signal import DECAYS, MOST_PRONGS, PRONGS, Decay
from hepllm.hypotheses.words import Kind, Refusal, Word, kind_at

_LETTERS = {"q", "qbar", "b", "bbar", "t", "tbar"}

_FLAVOURS = {
    "b": "b", "bottom": "b", "bottoms": "b", "beauty": "b", "antibottom": "b",
    "t": "t", "top": "t", "tops": "t", "antitop": "t",
    "light": "q", "antiquark": "q", "antiquarks": "q",
}  # fmt: skip

_OF_QUARKS: dict[tuple[str, int], Decay] = {(one[0], len(one)): one for one in DECAYS}


@dataclass(frozen=True)
class StatedDecay:
    """A decay, or only its prongs; both None where the text says that it is unknown."""

    decay: Decay | None = None
    n_prongs: int | None = None

    @classmethod
    def to_quarks(cls, flavour: str, count: int) -> StatedDecay:
        """The decay to so many quarks.

        Raises:
            Refusal: if the model knows no such decay.
        """
        decay = _OF_QUARKS.get((flavour, count))
        if decay is None:
            known = ", ".join(DECAYS)
            raise Refusal(f"a decay to {flavour * count} is not known; known are {known}")
        return cls(decay, PRONGS[decay])


def match_decay(
    words: Sequence[Word], start: int, *, of_particle: bool
) -> tuple[StatedDecay | None, int]:
    """Matches one decay.

    Args:
        words: words of a hypothesis.
        start: position of the first word.
        of_particle: whether the words follow 'X decays to', where 'two jets' are its prongs.

    Returns:
        The decay, or None; and the position after it.

    Raises:
        Refusal: if the words state a decay that the model does not know.
    """
    count, place = _counted(words, start)
    if count and _is_shared(words, place):
        decay, _ = _of_noun(words, place + 2, [], count)
        return decay, place
    letters, after = _letters(words, place)
    if letters:
        return _of_letters(letters, count), after
    flavours, place = _run(words, place, Kind.FLAVOUR)
    decay, end = _of_noun(words, place, flavours, count)
    if decay is not None:
        return decay, end
    if of_particle and count and not flavours and kind_at(words, place) is Kind.PARTICLES:
        return StatedDecay(None, count), place + 1
    return None, start


def _is_shared(words: Sequence[Word], place: int) -> bool:
    """Whether the noun of a number stands behind the next number: '2 and 3 prongs'."""
    kinds = [kind_at(words, place + step) for step in range(3)]
    return kinds[:2] == [Kind.AND, Kind.COUNT] and kinds[2] in (Kind.PRONG, Kind.QUARK)


def _counted(words: Sequence[Word], place: int) -> tuple[int | None, int]:
    """The number that a decay begins with, and the place after it."""
    if kind_at(words, place) is Kind.ARTICLE:
        place += 1
    if kind_at(words, place) is Kind.COUNT:
        return int(words[place].value), place + 1
    if kind_at(words, place) is Kind.PAIR:
        place += 1
        return 2, place + (kind_at(words, place) is Kind.FILLER and words[place].text == "of")
    return None, place


def _of_noun(
    words: Sequence[Word], place: int, flavours: list[Word], count: int | None
) -> tuple[StatedDecay | None, int]:
    """The decay that a noun behind flavours and a number states."""
    flavour = _FLAVOURS[flavours[0].text] if flavours else "q"
    match kind_at(words, place):
        case Kind.QUARK:
            return _quarks(words, place, flavour, count)
        case Kind.PRONG:
            return _prongs(count, place)
        case Kind.PAIR if flavours and flavours[0].text != "light":
            return StatedDecay.to_quarks(flavour, 2), place + 1
        case Kind.PARTICLES if flavour == "b":
            return StatedDecay.to_quarks("b", count or 2), place + 1
    if flavours and (flavours[0].text.endswith("s") or len(flavours) > 1):
        return StatedDecay.to_quarks(flavour, count or 2), place
    return None, place


def _run(words: Sequence[Word], place: int, kind: Kind) -> tuple[list[Word], int]:
    found = []
    while kind_at(words, place) is kind:
        found.append(words[place])
        place += 1
    return found, place


def _letters(words: Sequence[Word], place: int) -> tuple[str, int]:
    """Letters of quarks: 'qq', 'bbbar', or one after another as in 'b bbar'."""
    if kind_at(words, place) is Kind.LETTERS and words[place].text not in _LETTERS:
        return re.sub(r"bar|'", "", words[place].text.replace("bbbar", "bb")), place + 1
    letters = ""
    while place < len(words) and words[place].text in _LETTERS:
        if kind_at(words, place + 1) is Kind.QUARK or not _stands(words, place, letters):
            break
        letters += words[place].text[0]
        place += 1
    return letters, place


def _stands(words: Sequence[Word], place: int, letters: str) -> bool:
    """Whether a letter is a decay: 'q' alone, others beside another one or a count ('2b')."""
    if words[place].text == "q":
        return True
    follows = place + 1 < len(words) and words[place + 1].text in _LETTERS
    counted = place > 0 and words[place - 1].kind is Kind.COUNT
    plural = kind_at(words, place + 1) in (Kind.PAIR, Kind.PARTICLES, Kind.PARTICLE)
    return bool(letters) or follows or (counted and not plural)


def _of_letters(letters: str, count: int | None) -> StatedDecay:
    if letters == "jj":
        return StatedDecay(None, 2)
    if len(set(letters)) > 1:
        raise Refusal(f"a decay to {letters} is not known; known are {', '.join(DECAYS)}")
    return StatedDecay.to_quarks(letters[0], len(letters) * (count or 1))


def _quarks(
    words: Sequence[Word], place: int, flavour: str, count: int | None
) -> tuple[StatedDecay, int]:
    plural = words[place].text == "quarks"
    place += 1
    if kind_at(words, place) is Kind.PAIR or (
        kind_at(words, place) is Kind.FLAVOUR and words[place].text.startswith("anti")
    ):
        return StatedDecay.to_quarks(flavour, 2), place + 1
    if count is None and plural and flavour == "q":
        return StatedDecay(), place
    return StatedDecay.to_quarks(flavour, count or (2 if plural else 1)), place


def _prongs(count: int | None, place: int) -> tuple[StatedDecay, int]:
    if count is None:
        raise Refusal("states prongs without their number")
    if count > MOST_PRONGS:
        raise Refusal(f"{count} prongs are more than {MOST_PRONGS}")
    return StatedDecay(None, count), place + 1
