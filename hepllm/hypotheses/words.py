"""The words of a hypothesis: numbers with units, names, decays and how each of them is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from hepllm.errors import InputError, nearest_name
from hepllm.hypotheses.signal import DECAYS, MOST_PRONGS

EXAMPLE = "Z' to a 730 GeV and a 380 GeV particle, both to two quarks"

_UNITS = {"mev": 1e-3, "gev": 1.0, "tev": 1e3}

_BARE = 10.0
"""The smallest number that may be a mass in GeV without saying so."""


class Kind(Enum):
    """What a word does in a hypothesis."""

    MASS = auto()
    COUNT = auto()
    ARROW = auto()
    RESONANCE = auto()
    NAME = auto()
    BOTH = auto()
    OTHER = auto()
    ARTICLE = auto()
    AND = auto()
    COMMA = auto()
    STOP = auto()
    UNKNOWN = auto()
    PARTICLE = auto()
    PARTICLES = auto()
    QUARK = auto()
    PRONG = auto()
    PAIR = auto()
    LETTERS = auto()
    FLAVOUR = auto()
    ADJECTIVE = auto()
    MASS_WORD = auto()
    FILLER = auto()
    STRANGE = auto()


@dataclass(frozen=True)
class Word:
    """A word, number or sign, and where it stands.

    Attributes:
        text: as written, in small letters.
        value: mass in GeV of a ``MASS``, number of a ``COUNT``.
        start: position in the text; ``end`` is that of the next character.
        unit: unit of a ``MASS``, its own or that of the list it stands in; empty if none is given.
    """

    kind: Kind
    text: str
    start: int
    end: int
    value: float = 0.0
    unit: str = ""


_KINDS: Mapping[Kind, str] = {
    Kind.ARROW: (
        "to into decays decay decaying becomes become becoming yields yielding gives giving"
    ),
    Kind.RESONANCE: (
        "z' w' g' a' z'' zprime wprime prime resonance graviton radion g* gkk z* w* m_z' m_w' m_jj "
        "mjj m_zprime m_wprime m_r m_g m_res m_g* m_gkk m_resonance dijet parent mother"
    ),
    Kind.NAME: "x y m_x m_y heavier lighter heaviest lightest first",
    Kind.BOTH: "both each identical equal same either all",
    Kind.OTHER: "other second another",
    Kind.ARTICLE: "a an",
    Kind.AND: "and plus against",
    Kind.UNKNOWN: "unknown anything any open something unspecified undetermined whatever free",
    Kind.PARTICLE: "particle jet boson object product daughter scalar fatjet partner",
    Kind.PARTICLES: "particles jets bosons objects products daughters scalars fatjets resonances",
    Kind.QUARK: "quark quarks",
    Kind.PRONG: "prong prongs pronged subjet subjets",
    Kind.PAIR: "pair pairs",
    Kind.FLAVOUR: (
        "b bottom bottoms beauty top tops t antitop antibottom light antiquark antiquarks"
    ),
    Kind.ADJECTIVE: "fat wide narrow large radius boosted hadronic new heavy massive neutral",
    Kind.MASS_WORD: "mass masses weighing weighs weight",
    Kind.FILLER: (
        "the of at is are has have having whose which that by in on as it its their this these for "
        "from with then via about around approximately near roughly ca search signal hypothesis "
        "model event events process final state states physics hadronically fully respectively "
        "only just there be can i we look looking find produced production pp where while m beyond "
        "standard sm bsm contain contains containing recoil recoils recoiling substructure"
    ),
}
_COUNTS = {
    word: value
    for value, words in enumerate(
        (
            "one single once",
            "two double twice di",
            "three triple",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
        ),
        start=1,
    )
    for word in words.split()
}
_KIND_OF = {word: kind for kind, words in _KINDS.items() for word in words.split()}

_REFUSED: Mapping[str, str] = {
    "not no without never neither nor except none": "says what is not, which the model cannot read",
    "or": "states two hypotheses; give one at a time",
    "between above below than least most more less up range": (
        "states a range of masses; give one mass"
    ),
    "hundred thousand million half dozen": (
        "is a number in words; write masses in digits, '730 GeV'"
    ),
    "lepton leptons muon muons electron electrons tau taus photon photons gluon gluons neutrino "
    "neutrinos mu e nu gamma g gg ee mumu ll tautau nunu invisible met charm c cc strange higgs h "
    "hh w z ww wz zw zz wh hw zh hz tb bt bq": (
        "is no decay that the model knows; X and Y decay to one quark (q), two quarks (qq), two b "
        "quarks (bb), three quarks (qqq) or two top quarks (tt), and are named by their masses"
    ),
    "gev tev mev": "stands without a number",
    "ev kev pev kg": "is no unit of these masses; write GeV, TeV or MeV",
}
_REASON_OF = {word: reason for words, reason in _REFUSED.items() for word in words.split()}

_LETTERS = re.compile(r"(?:q(?:bar)?'?){1,3}|(?:b(?:bar)?){2}|(?:t(?:bar)?){2}|jj")
_TOKEN = re.compile(
    r"(?P<arrow>-+>|=+>|→|⟶|⇒|\\(?:to|rightarrow)\b)"
    r"|(?P<vague>\+\s*/?\s*-|±|[<>≤≥≲≳])"
    r"|(?P<number>\d+(?:,\d+)*(?:\.\d+|\.(?=\s*[kmgtp]?ev\b))?(?:e[+-]?\d+)?|\.\d+)"
    r"(?P<unit>[\s-]*(?:[kmgtp]?ev)\b(?:\s*/\s*c\s*\^?\s*[2²])?)?"
    r"|(?P<mass>m_?[({]{0,2}(?:x|y|z'+|w'|jj|zprime|wprime|res|resonance|r|g)\b'*[)}]{0,2})"
    r"(?![a-z0-9_])"
    r"|(?P<prime>[zwg][\s_-]?prime\b)"
    r"|(?P<word>[a-z][a-z0-9_]*(?:'+|\*)?)"
    r"|(?P<comma>[,;:])|(?P<and>[+&/])|(?P<sign>[().?!=~≈\[\]|-])",
)


_USUAL = str.maketrans(
    {
        **dict.fromkeys("\u2032\u2019\u2018\u00b4`", "'"),  # primes and quotation marks
        **dict.fromkeys("\u0304\u0305", "bar"),  # a line over the letter before
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),  # hyphens, dashes, minus
    }
)
"""Signs in place of their variants."""


def kind_at(words: Sequence[Word], place: int) -> Kind | None:
    """The kind of a word; None outside of the text."""
    return words[place].kind if 0 <= place < len(words) else None


def text_at(words: Sequence[Word], place: int) -> str:
    """A word in small letters; empty outside of the text."""
    return words[place].text if 0 <= place < len(words) else ""


class Refusal(Exception):  # noqa: N818 - a reason, which becomes an InputError with the text
    """Why a text is no hypothesis."""


def refused(text: str, reason: str) -> InputError:
    """The error for a text that is no hypothesis."""
    return InputError(f"hypothesis '{text}': {reason}; write e.g. \"{EXAMPLE}\"")


def plain(text: str) -> str:
    """The text on one line, with the usual signs in place of their variants."""
    return " ".join(text.translate(_USUAL).split())


def words_of(text: str) -> list[Word]:
    """Reads the words of a plain text.

    Raises:
        Refusal: for a sign, a number or a word that no hypothesis has.
    """
    words = list(_scan(text))
    return [_settled(words, place) for place in range(len(words))]


def _scan(text: str) -> Iterator[Word]:
    small = text.lower()
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        found = _TOKEN.match(small, place)
        if found is None:
            raise Refusal(f"'{text[place]}' is not understood")
        yield from _word(text, found)
        place = found.end()


def _word(text: str, found: re.Match[str]) -> Iterator[Word]:
    start, end, written = found.start(), found.end(), found[0]
    match found.lastgroup:
        case "arrow":
            yield Word(Kind.ARROW, "->", start, end)
        case "number" | "unit":
            yield _number(text, found)
        case "mass":
            name = "m_" + re.sub(r"^m_?|[({})]", "", written)
            yield Word(_KIND_OF[name], name, start, end)
        case "vague":
            raise Refusal(f"'{written}' states an error or a range; give one mass")
        case "comma":
            yield Word(Kind.COMMA if written == "," else Kind.STOP, written, start, end)
        case "and":
            yield Word(Kind.AND, written, start, end)
        case "prime":
            yield Word(Kind.RESONANCE, written, start, end)
        case "word":
            yield from _plain_word(written, start, end)
        case _ if written != "-":
            yield Word(Kind.FILLER, written, start, end)


def _plain_word(written: str, start: int, end: int) -> Iterator[Word]:
    if written in _COUNTS:
        yield Word(Kind.COUNT, written, start, end, _COUNTS[written])
    elif written in _KIND_OF:
        yield Word(_KIND_OF[written], written, start, end)
    elif written in _REASON_OF:
        raise Refusal(f"'{written}' {_REASON_OF[written]}")
    elif _LETTERS.fullmatch(written) or written in {"bbar", "tbar"}:
        yield Word(Kind.LETTERS, written, start, end)
    elif written in {"xy", "yx", "xx", "yy"}:
        yield Word(Kind.NAME, written[0], start, start + 1)
        yield Word(Kind.NAME, "y" if written[0] == "x" else "x", start + 1, end)
    elif re.fullmatch(r"(?:[qbt](?:bar)?){2,}", written):
        raise Refusal(f"a decay to {written} is not known; known are {', '.join(DECAYS)}")
    else:
        hint = nearest_name(written, (*_KIND_OF, *_COUNTS), cutoff=0.8)
        if hint:
            raise Refusal(f"'{written}' is not understood{hint}")
        yield Word(Kind.STRANGE, written, start, end)


def _number(text: str, found: re.Match[str]) -> Word:
    start, end, number, unit = found.start(), found.end(), found["number"], found["unit"]
    before, shown = text[:start].rstrip("~≈"), text[start:end]
    if before.endswith("-") and not before[:-1].endswith("-"):
        if before[:-1].rstrip()[-1:].isdigit() or re.search(r"[kmgt]ev\s*-$", before.lower()):
            raise Refusal(f"'{shown}' ends a range of masses; give one mass")
        raise Refusal(f"a mass cannot be negative, found '-{shown}'")
    if "," in number:
        if not re.fullmatch(r"[1-9]\d{0,2}(,\d{3})+(\.\d+)?", number):
            raise Refusal(f"'{number}' is no number; write '1200' or '0.73', without commas")
        number = number.replace(",", "")
    name = (unit or "").strip(" -").partition("/")[0].strip()
    if name and name not in _UNITS:
        raise Refusal(f"'{shown}' has the unit '{name}'; write GeV, TeV or MeV")
    # 0.1 eV is less than any mass can be known to, and more than 0.73 * 1000 is off 730.
    value = round(float(number) * _UNITS.get(name, 1.0), 10)
    return Word(Kind.MASS, shown, start, end, value, name)


def _settled(words: list[Word], place: int) -> Word:
    """Decides whether a number without a unit is a mass or a count."""
    word, after = words[place], words[place + 1 :]
    if word.kind is not Kind.MASS or word.unit:
        return word
    unit = _listed_unit(after)
    if unit:
        return replace(word, value=round(word.value * _UNITS[unit], 10), unit=unit)
    if word.value.is_integer() and 1 <= word.value <= MOST_PRONGS:
        return replace(word, kind=Kind.COUNT)
    if after and after[0].kind is Kind.STRANGE:
        raise Refusal(f"'{word.text} {after[0].text}' states no mass; write '730 GeV'")
    if word.value < _BARE:
        raise Refusal(f"'{word.text}' has no unit; write GeV or TeV")
    return word


def _listed_unit(after: list[Word]) -> str:
    """The unit that a list such as '0.73 and 0.38 TeV' ends with; empty without one."""
    joined = False
    for word in after:
        if word.kind is Kind.MASS:
            if not joined:
                return ""
            if word.unit:
                return word.unit
            joined = False
        elif word.kind in (Kind.AND, Kind.COMMA):
            joined = True
        elif word.kind is not Kind.ARTICLE:
            return ""
    return ""
