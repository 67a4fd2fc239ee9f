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

from hepllm.errors import nearest_name
from hepllm.schema import FEATURES, Feature

Layout = Literal["minimal", "compact", "full"]

FUSION_MARK = "<|numbers|>"
"""Stands where the soft tokens go; the batch maker cuts the text here, it is never tokenised."""

LABEL_WORDS: tuple[str, str] = (" background", " signal")
"""The words whose logits are compared, at the index of their label."""

_CUE = "\nclass:"
_INTRODUCTION = "A proton-proton collision with these features:"
_DECIMALS = 10
_MISSING = "missing"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_ABSENT = r"missing|nan|null|none"
_UNITS = {"TeV": 1e3, "GeV": 1.0, "MeV": 1e-3}
_UNIT = "|".join(_UNITS)
_PIECE = re.compile(
    # An unindented line ends what belonged to a jet, and so does the word event.
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
"""What a pasted event may say about itself beside its features."""


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
    return "".join(text for _, text in pieces(event, names, layout, fusion=fusion))


def pieces(
    event: Mapping[str, float],
    names: Sequence[str],
    layout: Layout,
    *,
    fusion: bool,
    decimals: Mapping[str, int] | None = None,
) -> list[tuple[str, str]]:
    """The prompt of one event in pieces, each with the feature that it prints.

    Args:
        event: as for ``render``, and so the next three.
        names: see there.
        layout: see there.
        fusion: see there.
        decimals: of the numbers in the layout ``full``, by feature; 10 where it says nothing.

    Returns:
        Feature name, or an empty one for words that all events share, and text.
    """
    mark = FUSION_MARK if fusion else ""
    if layout == "minimal":
        return [("", f"event {mark}{_CUE}")]
    found = [("", "event" if layout == "compact" else _INTRODUCTION)]
    for name in names:
        feature, value = FEATURES[name], event[name]
        if layout == "compact":
            found.append((name, f" {_symbol(name)}={format_compact(value, feature)}"))
        else:
            digits = (decimals or {}).get(name, _DECIMALS)
            found.append((name, f"\n{_full_line(feature, value, digits)}"))
    separator = " " if layout == "compact" else "\n"
    gap = "" if names else separator
    return [*found, ("", f"{gap}{separator}{mark}{_CUE}")]


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


_COMMA = re.compile(r"[\d.]*\d,\d[\d.,]*")


def parse(text: str) -> dict[str, float]:
    """Reads an event back that was written as a prompt of any layout, or freely.

    Freely means entries like ``P_T=1306.5`` or ``M_jj: 3.5 TeV``, those of a jet after its name
    and a colon, as in ``jet1: P_T=1306.5 eta=1.04 jet2: ...``; GeV where no unit is given. What is
    called by its symbol or column name and has all nines where a compact prompt would have them is
    missing.

    Returns:
        Values by feature name as far as their digits were printed; NaN for a missing one.

    Raises:
        ValueError: if the text names no feature, an unknown one, or one twice, or has a comma
            within a number.
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
        name = _feature_called(piece["name"], jet)
        if name is None:
            unknown += [] if _plain(piece["name"]) in _OTHER_NAMES else [piece["name"]]
            continue
        value = _value(piece, FEATURES[name], jet)
        if name in event and not _same(event[name], value):
            raise ValueError(
                f"the text has {name} twice, as {event[name]:g} and {value:g}; give one event"
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


def read_event(text: str) -> dict[str, float]:
    """Reads a text as ``parse`` does, and refuses what no event can have.

    Raises:
        ValueError: as for ``parse``, or for an infinite value, or a negative one of a feature
            without a sign.
    """
    event = parse(text)
    for name, value in event.items():
        if math.isinf(value) or (value < 0 and not FEATURES[name].signed):
            raise ValueError(f"the text has {name} = {value:g}, which no event can have")
    return event


def _feature_called(written: str, jet: str) -> str | None:
    """The feature that a name means, alone or within a jet's entries."""
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
    if is_compact and _is_all_nines(written, feature):
        return math.nan
    return float(written) * _UNITS.get(unit or "GeV", 1.0)


def _is_all_nines(written: str, feature: Feature) -> bool:
    digits = written.lstrip("+-")
    return set(digits) <= {"9", "."} and digits == format_compact(math.nan, feature).lstrip("+-")


def _plain(name: str) -> str:
    """A name without capitals and underscores, so that ``P_T`` is ``pt``."""
    return name.lower().replace("_", "")


def _plain_names() -> dict[str, str]:
    """Features by plain name, with jets before or after the quantity: ``jet1pt``, ``ptj1``."""
    names = {_plain(name): name for name in FEATURES} | _EVENT_NAMES
    for jet in "123":
        for plain, quantity in _JET_NAMES.items():
            name = f"jet{jet}_{quantity}"
            if name in FEATURES:
                names |= {f"{who}{jet}{plain}": name for who in ("jet", "j")}
                names |= {f"{plain}{who}{jet}": name for who in ("jet", "j")}
    return names


def _same(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))


def _symbol(name: str) -> str:
    return FEATURES[name].symbol or name


def _full_line(feature: Feature, value: float, decimals: int) -> str:
    label = f"{feature.name} [{feature.unit}]" if feature.unit else feature.name
    return f"{label}: {_MISSING if math.isnan(value) else f'{value:.{decimals}f}'}"


_BY_SYMBOL = {feature.symbol: feature.name for feature in FEATURES.values() if feature.symbol}
_BY_PLAIN_NAME = _plain_names()
