"""Events as text, and text back to numbers; pure functions of the feature registry.

A prompt ends in the place of the numeric fusion adapter's soft tokens, ``FUSION_MARK``, and a cue
after which the model names the class. Three layouts:

- ``minimal``: no numbers, only the mark and the cue;
- ``compact``: zero-padded numbers of fixed width, so that every event has the same token count;
- ``full``: one labelled line a feature with ten decimals, as other LLM tool chains write them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from hepllm.schema import FEATURES, Feature

Layout = Literal["minimal", "compact", "full"]

FUSION_MARK = "<|numbers|>"
"""Stands where the soft tokens go; the batch maker cuts the text here, it is never tokenised."""

LABEL_WORDS: tuple[str, str] = (" background", " signal")
"""The words whose logits are compared, at the index of their label."""

_CUE = "\nclass:"
_MISSING = "missing"
_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_ENTRY = re.compile(
    rf"(?P<name>[A-Za-z]\w*)\s*(?:\[[^\]]*\])?\s*[=:]\s*(?P<value>{_NUMBER}|{_MISSING})"
)


def render(
    event: Mapping[str, float], names: Sequence[str], layout: Layout, *, fusion: bool
) -> str:
    """Writes one event as a prompt.

    Args:
        event: feature values in GeV and radians; NaN where missing.
        names: the features to print, in order.
        layout: see the module.
        fusion: whether to mark a place for soft tokens.
    """
    mark = FUSION_MARK if fusion else ""
    if layout == "minimal":
        return f"event {mark}{_CUE}"
    if layout == "compact":
        numbers = " ".join(
            f"{_symbol(name)}={format_compact(event[name], FEATURES[name])}" for name in names
        )
        return f"event {numbers} {mark}{_CUE}"
    lines = "\n".join(_full_line(FEATURES[name], event[name]) for name in names)
    return f"A proton-proton collision with these features:\n{lines}\n{mark}{_CUE}"


def format_compact(value: float, feature: Feature) -> str:
    """Prints a number with the feature's fixed count of digits.

    All nines mean a missing value; a number too large for its digits becomes the largest below.
    """
    width = feature.integers + feature.decimals
    missing = 10**width - 1
    if math.isnan(value):
        digits, sign = missing, "+"
    else:
        scaled = min(abs(value) * 10**feature.decimals, missing - 1)
        digits = round(scaled)
        sign = "-" if value < 0 and digits else "+"
    text = f"{digits:0{width}d}"
    if feature.decimals:
        text = f"{text[: feature.integers]}.{text[feature.integers :]}"
    return sign + text if feature.signed else text


def parse(text: str) -> dict[str, float]:
    """Reads a prompt back.

    Returns:
        Values by feature name as far as their digits were printed; NaN for a missing one.

    Raises:
        ValueError: if the text names no known feature.
    """
    by_symbol = {_symbol(name): name for name in FEATURES}
    event: dict[str, float] = {}
    for entry in _ENTRY.finditer(text):
        written = entry["name"]
        value = entry["value"]
        if written in FEATURES and (value == _MISSING or _is_full(value)):
            event[written] = math.nan if value == _MISSING else float(value)
        elif written in by_symbol:
            name = by_symbol[written]
            event[name] = _parse_compact(value, FEATURES[name])
    if not event:
        msg = f"no feature found in {text[:60]!r}; expected entries like 'm=0123' or 'jet1_mass: 1'"
        raise ValueError(msg)
    return event


def _symbol(name: str) -> str:
    return FEATURES[name].symbol or name


def _full_line(feature: Feature, value: float) -> str:
    label = f"{feature.name} [{feature.unit}]" if feature.unit else feature.name
    return f"{label}: {_MISSING if math.isnan(value) else f'{value:.10f}'}"


def _is_full(value: str) -> bool:
    """Whether a number has the ten decimals of the full layout."""
    return len(value.partition(".")[2]) == 10


def _parse_compact(value: str, feature: Feature) -> float:
    digits = value.lstrip("+-").replace(".", "")
    is_missing = (
        len(digits) == feature.integers + feature.decimals and set(digits) == {"9"}
    ) or value == _MISSING
    return math.nan if is_missing else float(value)
