"""What a prompt with labelled events says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hepllm.arrays import Floats
from hepllm.config import LabelConfig
from hepllm.hypotheses.hypothesis import Hypothesis
from hepllm.labelling.predictions import Request
from hepllm.model.prompts import SEPARATOR, Layout, pieces, question
from hepllm.schema import FEATURES, feature_of


@dataclass(frozen=True, eq=False)
class Wording:
    """The parts of prompts; a prompt is the head, labelled items, and the target.

    Attributes:
        head: what comes first.
        items: text of each of M items, which ends where its label goes.
        names: names of the labels 0 and 1.
    """

    head: str
    items: tuple[str, ...]
    names: tuple[str, str]

    @property
    def words(self) -> tuple[str, str]:
        """What follows an item: a space and the name of its label."""
        background, signal = (f" {name.strip()}" for name in self.names)
        return background, signal

    def labelled(self, item: int, label: int) -> str:
        """An item with its label, as it stands before a target."""
        return f"{self.items[item]}{self.words[label]}{SEPARATOR}"

    def prompts(self, request: Request) -> list[str]:
        """The whole prompts of the targets of a request."""
        before = self.head + "".join(map(self.labelled, *request.context))
        return [before + self.items[target] for target in request.targets]


def printed_features(config: LabelConfig) -> tuple[str, ...]:
    """The features that prompts print, in the order in which they do."""
    if config.features is not None:
        return tuple(config.features)
    return tuple(name for name in FEATURES if feature_of(name).in_prompt)


def write_items(
    numbers: Floats,
    names: Sequence[str],
    config: LabelConfig,
    hypothesis: Hypothesis,
) -> Wording:
    """Writes items as text for a model that reads nothing else.

    Args:
        numbers: shape (M, F), features of the items.
        names: the F features, all of which are printed.
        config: layout and names of labels.
        hypothesis: what a signal is, said at the beginning.
    """
    layout: Layout = config.layout
    texts = tuple(
        "".join(
            text
            for _, text in pieces(dict(zip(names, row, strict=True)), names, layout, fusion=False)
        )
        for row in numbers.tolist()
    )
    head = question(hypothesis, fusion=False, digits=True)
    return Wording(head + SEPARATOR, texts, config.names)
