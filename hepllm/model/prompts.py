"""Writes events as text and reads text back to numbers, by the feature registry.

``FUSION_MARK`` stands for the soft tokens of an event, which the numeric fusion adapter makes.
There are four layouts:

- ``question``: the hypothesis that events are scored under, the same text for all events that share
  it, and then the mark, at which the model names the class. A mass in the hypothesis is a mark of
  its own, which stands for one soft token;
- ``minimal``: no numbers, only the mark and the cue;
- ``compact``: zero-padded numbers of fixed width, so that every event has the same token count;
- ``full``: one labelled line per feature with ten decimals, as other LLM tool chains write them.

The last three end with a cue after the mark, at which the model names the class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from typing import Literal

from hepllm.errors import nearest_name
from hepllm.hypotheses.hypothesis import Hypothesis
from hepllm.schema import FEATURES, Feature, feature_of

Layout = Literal["question", "minimal", "compact", "full"]

FUSION_MARK = "<|numbers|>"
"""Place of the soft tokens; ``PromptEncoder`` cuts the text here and never tokenises the mark."""

LABEL_WORDS: tuple[str, str] = (" background", " signal")
"""The words whose logits are compared, at the index of their label."""

SEPARATOR = "\n"
"""Between the label of one event and the next event, where a prompt has labelled events."""

_CUE = "\nclass:"
_QUESTION = ("Proton-proton collisions with two jets. Signal: ", ". Class of each event:")
"""The words before and after a hypothesis."""
_MASS_MARK = re.compile(r"<\|(?P<mass>[^|>]+) GeV\|>")
_INTRODUCTION = "A proton-proton collision with these features:"
_DECIMALS = 10
_MISSING = "missing"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_ABSENT = r"missing|nan|null|none"
_UNITS = {"TeV": 1e3, "GeV": 1.0, "MeV": 1e-3}
_UNIT = "|".join(_UNITS)
_PIECE = re.compile(
    # An unindented line, or the word event, ends the entries of a jet.
    r"(?P<end>\n(?=\S)|\bevent\b\s*:?(?!\s*[=\d]))"
    r"|\bjet[\s_]?(?P<jet>[123])\s*:"
    rf"|(?P<name>[A-Za-z][\w/]*)\s*(?:\[(?P<label_unit>[^\]]*)\])?\s*[=:]\s*"
    rf"(?:(?P<value>{_NUMBER})\s*(?P<unit>{_UNIT})?|(?i:{_ABSENT}))(?!\w|\.\d)"
)
_JET_NAMES = {
    "pt": "pt",
    "eta": "eta",
    "phi": "phi",
    "energy": "energy",
    "e": "energy",
    "mass": "mass",
    "m": "mass",
    "nparticles": "n_particles",
    "nconstituents": "n_particles",
    "ptlead": "pt_lead",
    **{f"tau{n}": f"tau{n}" for n in (1, 2, 3, 21, 32)},
    "tau2/tau1": "tau21",
    "tau3/tau2": "tau32",
    "softdropmass": "softdrop_mass",
    "msd": "softdrop_mass",
}
_EVENT_NAMES = {"deta": "delta_eta", "dphi": "delta_phi", "dr": "delta_r"}
_OTHER_NAMES = frozenset({"event", "eventid", "id", "run", "lumi", "label", "weight"})
"""Names that a pasted event may have beside its features."""


def render(
    event: Mapping[str, float], names: Sequence[str], layout: Layout, *, fusion: bool
) -> str:
    """Writes one event as a prompt; the arguments are those of ``pieces``."""
    return "".join(text for _, text in pieces(event, names, layout, fusion=fusion))


def question(hypothesis: Hypothesis, *, fusion: bool = True, digits: bool = False) -> str:
    """Writes the prompt of the layout ``question``, the same for all events of a hypothesis.

    Args:
        hypothesis: what a signal is.
        fusion: whether to mark a place for soft tokens.
        digits: whether to print masses in GeV instead of marking places for their soft tokens.
    """
    words = [
        piece if isinstance(piece, str) else f"{piece:g}" if digits else f"<|{piece!r} GeV|>"
        for piece in hypothesis.pieces
    ]
    before, after = _QUESTION
    return f"{before}{''.join(words)}{after}{FUSION_MARK if fusion else ''}"


def split_at_masses(text: str) -> list[tuple[str, str, float]]:
    """Divides a text at the marks of masses.

    Returns:
        For each mark the words before it, the mark, and its mass in GeV; at last the words that
        are left, with an empty mark and NaN.
    """
    found, start = [], 0
    for mark in _MASS_MARK.finditer(text):
        found.append((text[start : mark.start()], mark[0], float(mark["mass"])))
        start = mark.end()
    return [*found, (text[start:], "", math.nan)]


def pieces(
    event: Mapping[str, float],
    names: Sequence[str],
    layout: Layout,
    *,
    fusion: bool,
    decimals: Mapping[str, int] | None = None,
) -> list[tuple[str, str]]:
    """Writes the prompt of one event in pieces, each with the feature that it prints.

    Args:
        event: feature values in GeV and radians; NaN where missing.
        names: features to print, in order.
        layout: ``minimal``, ``compact`` or ``full``, as described in the module; ``question`` has a
            function of its own.
        fusion: whether to mark a place for soft tokens.
        decimals: by feature, decimals in the layout ``full``; 10 for other features.

    Returns:
        Feature name, empty for words that all events share, and text.
    """
    mark = FUSION_MARK if fusion else ""
    if layout == "minimal":
        return [("", f"event {mark}{_CUE}")]
    found = [("", "event" if layout == "compact" else _INTRODUCTION)]
    for name in names:
        feature, value = feature_of(name), event[name]
        if layout == "compact":
            text = f" {feature.symbol or name}={format_compact(value, feature)}"
        else:
            digits = (decimals or {}).get(name, _DECIMALS)
            label = f"{name} [{feature.unit}]" if feature.unit else name
            text = f"\n{label}: {_MISSING if math.isnan(value) else f'{value:.{digits}f}'}"
        found.append((name, text))
    separator = " " if layout == "compact" else "\n"
    gap = "" if names else separator
    return [*found, ("", f"{gap}{separator}{mark}{_CUE}")]


def format_compact(value: float, feature: Feature) -> str:
    """Prints a number with the feature's fixed count of digits.

    All nines mean a missing value; too large a number becomes the largest one below all nines.
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


_COMMA = re.compile(r"[\d.]*\d,\d[\d.,]*")


def parse(text: str, own: Collection[str] = ()) -> dict[str, float]:
    """Reads an event from a prompt of any layout, or from free text.

    Free text has entries like ``P_T=1306.5`` or ``M_jj: 3.5 TeV``, and those of a jet after its
    name and a colon, as in ``jet1: P_T=1306.5 eta=1.04 jet2: ...``. The unit is GeV if none is
    given. A value is missing if its name is the symbol or the column name and its digits are the
    nines of a compact prompt. Columns of the user's own, ``own``, have their names.

    Returns:
        Values by feature name, with the printed digits; NaN for a missing value.

    Raises:
        ValueError: if the text names no feature, an unknown one, or one feature with two values,
            or has a comma within a number.
    """
    comma = _COMMA.search(text)
    if comma:
        raise ValueError(f"{comma[0]}: write numbers with a point and without commas")
    event: dict[str, float] = {}
    unknown: list[str] = []
    jet = ""
    for piece in _PIECE.finditer(text):
        if piece["name"] is None:
            jet = f"jet{piece['jet']}" if piece["jet"] else ""
            continue
        written = piece["name"]
        name = written if written in own else _feature_called(written, jet)
        if name is None:
            unknown += [] if _plain(piece["name"]) in _OTHER_NAMES else [piece["name"]]
            continue
        value = _value(piece, feature_of(name), jet)
        earlier = event.get(name, value)
        if earlier != value and not (math.isnan(earlier) and math.isnan(value)):
            raise ValueError(
                f"the text has {name} twice, as {earlier:g} and {value:g}; give one event"
            )
        event[name] = value
    if unknown:
        hint = nearest_name(unknown[0], FEATURES)
        raise ValueError(
            f"the text has entries that are no features: {', '.join(unknown)}{hint}; remove them"
        )
    if not event:
        raise ValueError(
            f"no feature found in {text[:60]!r}; expected entries like 'm=0123' or 'jet1_mass: 1'"
        )
    return event


def read_event(text: str, own: Collection[str] = ()) -> dict[str, float]:
    """Reads a text as ``parse`` does, and refuses values that no event can have.

    Raises:
        ValueError: as for ``parse``, or for an infinite value, or a negative one of a feature
            without a sign.
    """
    event = parse(text, own)
    for name, value in event.items():
        if math.isinf(value) or (value < 0 and not feature_of(name).signed):
            raise ValueError(f"the text has {name} = {value:g}, which no event can have")
    return event


def _feature_called(written: str, jet: str) -> str | None:
    """Returns the feature that a name stands for; ``jet`` is the jet whose entries it is among."""
    plain = _plain(written)
    if jet and plain in _JET_NAMES:
        name = f"{jet}_{_JET_NAMES[plain]}"
        return name if name in FEATURES else None
    if written in FEATURES:
        return written
    if written in _BY_SYMBOL and not jet:
        return _BY_SYMBOL[written]
    return _BY_PLAIN_NAME.get(plain)


def _value(piece: re.Match[str], feature: Feature, jet: str) -> float:
    written, unit = piece["value"], piece["unit"] or piece["label_unit"]
    if written is None:
        return math.nan
    if unit in _UNITS and feature.unit != "GeV":
        raise ValueError(f"{feature.name} is given in {unit}, but has {feature.unit or 'no unit'}")
    is_compact = not jet and not unit and piece["name"] in (feature.name, feature.symbol)
    if is_compact and written.lstrip("+-") == format_compact(math.nan, feature).lstrip("+-"):
        return math.nan
    return float(written) * _UNITS.get(unit or "GeV", 1.0)


def _plain(name: str) -> str:
    """Drops capitals and underscores, so that ``P_T`` becomes ``pt``."""
    return name.lower().replace("_", "")


def _plain_names() -> dict[str, str]:
    """Returns features by plain name, with the jet before or after the quantity: jet1pt, ptj1."""
    names = {_plain(name): name for name in FEATURES} | _EVENT_NAMES
    for jet, (plain, quantity), word in product("123", _JET_NAMES.items(), ("jet", "j")):
        name = f"jet{jet}_{quantity}"
        if name in FEATURES:
            names |= {f"{word}{jet}{plain}": name, f"{plain}{word}{jet}": name}
    return names


_BY_SYMBOL = {feature.symbol: feature.name for feature in FEATURES.values() if feature.symbol}
_BY_PLAIN_NAME = _plain_names()
