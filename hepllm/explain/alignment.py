"""Writes two events as prompts of equal length, so that they can be compared token by token.

A path from the embeddings of one prompt to those of another makes sense only if each token is the
same word or decimal place in both.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from hepllm.hypotheses.hypothesis import OPEN, Hypothesis
from hepllm.model.encoding import PromptEncoder, TextToken

_DECIMALS = (10, 9, 11, 8, 12, 7, 13, 6, 14)
"""Decimals to try for the reference in a ``full`` prompt, the default first."""


@dataclass(frozen=True)
class AlignedPrompts:
    """An event and a reference as prompts of L tokens.

    Attributes:
        tokens: L token ids of the event.
        reference: L token ids of the reference.
        features: L features that the tokens print; empty for words that all events share.
        texts: L pieces of the event's prompt; empty for soft tokens.
        soft: positions of the soft tokens.
        unaligned: features that the reference prints with the event's text, because its own value
            has no text with the same number of tokens.
    """

    tokens: tuple[int, ...]
    reference: tuple[int, ...]
    features: tuple[str, ...]
    texts: tuple[str, ...]
    soft: tuple[int, ...]
    unaligned: tuple[str, ...]

    @property
    def differ(self) -> bool:
        """Whether the two prompts differ in any token."""
        return self.tokens != self.reference


def align_prompts(
    encoder: PromptEncoder,
    event: Mapping[str, float],
    reference: Mapping[str, float],
    hypothesis: Hypothesis = OPEN,
) -> AlignedPrompts:
    """Writes an event and its reference with the same number of tokens for each feature.

    ``event`` and ``reference`` hold values by feature name, in GeV and radians; NaN where missing.
    In the layout ``question``, ``hypothesis`` is what both are scored under.
    """
    pieces = encoder.pieces(event, hypothesis=hypothesis)
    candidates = [
        encoder.pieces(reference, dict.fromkeys(reference, digits), hypothesis)
        for digits in _DECIMALS
    ]
    found = [
        _fitting(encoder, name, text, [tried[place][1] for tried in candidates])
        for place, (name, text) in enumerate(pieces)
    ]
    text = "".join(piece for _, piece in pieces)
    tokens = encoder.locate(text)
    others = encoder.locate(
        "".join(other or piece for other, (_, piece) in zip(found, pieces, strict=True))
    )
    if len(others) != len(tokens):  # texts that fit alone may not fit together
        found, others = [None] * len(pieces), tokens
    return AlignedPrompts(
        tokens=tuple(token.id for token in tokens),
        reference=tuple(token.id for token in others),
        features=_owners(pieces, tokens),
        texts=tuple("" if token.soft else text[token.start : token.stop] for token in tokens),
        soft=tuple(place for place, token in enumerate(tokens) if token.soft),
        unaligned=tuple(
            name for other, (name, _) in zip(found, pieces, strict=True) if name and other is None
        ),
    )


def _fitting(encoder: PromptEncoder, name: str, text: str, candidates: Sequence[str]) -> str | None:
    """Returns the first candidate with as many tokens as ``text``."""
    if not name:
        return text
    length = len(encoder.locate(text))
    return next((other for other in candidates if len(encoder.locate(other)) == length), None)


def _owners(pieces: Sequence[tuple[str, str]], tokens: Sequence[TextToken]) -> tuple[str, ...]:
    """Returns the feature that each token prints, by the piece of its last character."""
    ends = list(accumulate(len(text) for _, text in pieces))
    owners = []
    for token in tokens:
        place = bisect_right(ends, max(token.stop - 1, 0))
        owners.append("" if token.soft or token.stop == token.start else pieces[place][0])
    return tuple(owners)
