"""Hypotheses: what a physicist writes is read as meant, or refused in one line."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepllm.errors import InputError
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis, parse_hypothesis
from hepllm.hypotheses.signal import Product, Signal

UNKNOWN = Product()


def products(text: str) -> tuple[Product, Product]:
    return parse_hypothesis(text).signal.products


def without_resonance(hypothesis: Hypothesis) -> str:
    """The text that the pieces make."""
    return "".join(f"{one:g}" if isinstance(one, float) else one for one in hypothesis.pieces)


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("Z' to a 730 GeV and a 380 GeV particle", Product(730), Product(380)),
        ("a 380 GeV and a 730 GeV particle", Product(730), Product(380)),
        (
            "Z' to a 730 GeV and a 380 GeV particle, both to two quarks",
            Product(730, "qq"),
            Product(380, "qq"),
        ),
        ("X (730 GeV) and Y (380 GeV)", Product(730), Product(380)),
        ("X (0.73 TeV) and Y (380000 MeV)", Product(730), Product(380)),
        ("m_X = 730 GeV, m_Y = 380 GeV", Product(730), Product(380)),
        ("mX=730GeV mY=380GeV", Product(730), Product(380)),
        ("m(X) = 730, m_{Y} = 380", Product(730), Product(380)),
        ("m_X, m_Y = 730, 380 GeV", Product(730), Product(380)),
        ("m_X = m_Y = 400 GeV", Product(400), Product(400)),
        ("0.73 and 0.38 TeV", Product(730), Product(380)),
        ("jets of 380 GeV and unknown mass", Product(380), UNKNOWN),
        ("one jet of 380 GeV, the other unknown", Product(380), UNKNOWN),
        ("W' -> X Y", UNKNOWN, UNKNOWN),
        ("both to two quarks", Product(None, "qq"), Product(None, "qq")),
        ("X to three quarks, Y to b quarks", Product(None, "bb"), Product(None, "qqq")),
        ("X -> tt", Product(None, "tt"), UNKNOWN),
        ("Z' -> X Y, X -> t tbar", Product(None, "tt"), UNKNOWN),
        ("one three-pronged jet of 500 GeV", Product(500, None, 3), UNKNOWN),
        ("a 3-pronged 500 GeV jet", Product(500, None, 3), UNKNOWN),
        ("two identical 400 GeV particles decaying to bb", Product(400, "bb"), Product(400, "bb")),
        ("a pair of 400 GeV particles", Product(400), Product(400)),
        ("Z' to 400 GeV particles", Product(400), Product(400)),
        ("X and Y of 400 GeV each", Product(400), Product(400)),
        ("two prongs", Product(None, None, 2), Product(None, None, 2)),
        ("one prong", Product(None, None, 1), Product(None, None, 1)),
        (
            "one two-pronged and one three-pronged jet",
            Product(None, None, 2),
            Product(None, None, 3),
        ),
        ("top quark pairs", Product(None, "tt"), Product(None, "tt")),
        ("unknown", UNKNOWN, UNKNOWN),
        ("anything", UNKNOWN, UNKNOWN),
        ("730 GeV to two quarks", Product(730, "qq"), UNKNOWN),
        ("730 GeV and 380 GeV, the heavier to bb", Product(730, "bb"), Product(380)),
        (
            "730 and 380 GeV, the second to tt, the first to bb",
            Product(730, "bb"),
            Product(380, "tt"),
        ),
        (
            "masses 730 GeV and unknown; decays qq and bb",
            Product(730, "qq"),
            Product(None, "bb"),
        ),
        ("Z' -> X Y -> qq bb", Product(None, "qq"), Product(None, "bb")),
        ("Z' -> X Y (380 GeV, bb)", Product(380, "bb"), UNKNOWN),
        ("730 GeV + 380 GeV (bb)", Product(730), Product(380, "bb")),
        (
            "a 730 GeV two-pronged jet and a three-pronged jet of 380 GeV",
            Product(730, None, 2),
            Product(380, None, 3),
        ),
        ("heavier jet 730 GeV (qq), lighter jet (bb)", Product(730, "qq"), Product(None, "bb")),
        ("three-pronged X, two-pronged Y", Product(None, None, 2), Product(None, None, 3)),
        ("X decays to two jets", Product(None, None, 2), UNKNOWN),
        ("jets with 2 and 3 prongs", Product(None, None, 2), Product(None, None, 3)),
        ("Z' -> Y X, Y -> bb", Product(None, "bb"), UNKNOWN),
        ("Z' -> Y X, X -> bb", Product(None, "bb"), UNKNOWN),
        ("X, Y -> bb", Product(None, "bb"), Product(None, "bb")),
        ("X to two quarks each", Product(None, "qq"), Product(None, "qq")),
        ("730 GeV each", Product(730), Product(730)),
        ("Z\u2032 \u2192 X (500\u00a0GeV) Y, X \u2192 b b\u0304", Product(500, "bb"), UNKNOWN),
        (
            "a fat jet of ~120 GeV/c^2 recoiling against a 3-prong jet",
            Product(120),
            Product(n_prongs=3),
        ),
        (
            "one is three-pronged, the other is one-pronged",
            Product(n_prongs=1),
            Product(n_prongs=3),
        ),
        ("the 730. GeV particle decays to qq. Is Y of .38 TeV?", Product(730, "qq"), Product(380)),
        ("1,200 GeV and 730GeV particles", Product(1200), Product(730)),
    ],
)
def test_products(text: str, first: Product, second: Product) -> None:
    assert products(text) == (first, second)


@pytest.mark.parametrize(
    ("text", "m_resonance", "left"),
    [
        ("Z' of 3.5 TeV to a 730 GeV particle", 3500, "Z' to a 730 particle"),
        ("Z' (3.5 TeV) -> X (730 GeV) Y", 3500, "Z' -> X (730) Y"),
        ("a 3.5-TeV resonance to X and Y of 400 GeV", 3500, "a resonance to X and Y of 400"),
        ("an 8 TeV Z' to X of 730 GeV", 8000, "a Z' to X of 730"),
        ("a resonance at about 3.5 TeV to X of 730 GeV", 3500, "a resonance to X of 730"),
        ("Z' with a mass of 3.5 TeV to X of 730 GeV", 3500, "Z' to X of 730"),
        ("m_jj = 3.5 TeV, m_X = 730 GeV", 3500, "m_X = 730"),
        ("m_X = 730 GeV, m_Z' = 3500 GeV, X -> bb", 3500, "m_X = 730, X -> bb"),
        ("3.5 TeV -> 730 GeV + 380 GeV", 3500, "730 + 380"),
        ("730 GeV and 380 GeV from a 3.5 TeV Z'", 3500, "730 and 380 from a Z'"),
        ("masses 730 GeV and dijet mass of 3.5 TeV", 3500, "masses 730"),
        ("3500 GeV graviton to 730 GeV and 380 GeV", 3500, "graviton to 730 and 380"),
    ],
)
def test_the_mass_of_the_resonance_is_read_and_left_out(
    text: str, m_resonance: float, left: str
) -> None:
    hypothesis = parse_hypothesis(text)
    assert hypothesis.signal.m_resonance == m_resonance
    assert without_resonance(hypothesis) == left
    assert f"the mass of the resonance, {m_resonance:g} GeV," in hypothesis.notes[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "states nothing of a signal"),
        ("hello world", "states nothing of a signal"),
        ("42 bananas", "'42 bananas' states no mass"),
        ("-730 GeV", "a mass cannot be negative"),
        ("m_X = -5 GeV", "a mass cannot be negative"),
        ("0 GeV", "'0 GeV' is 0 GeV, which is not in 5-20000 GeV"),
        ("X of 730 TeV", "which is not in 5-20000 GeV"),
        ("X of 0.73", "'0.73' has no unit; write GeV or TeV"),
        ("730 keV", "has the unit 'kev'; write GeV, TeV or MeV"),
        ("730 kg", "'kg' is no unit"),
        ("0,73 TeV", "'0,73' is no number"),
        ("300-400 GeV", "'400 GeV' ends a range of masses"),
        ("X between 300 and 400 GeV", "'between' states a range of masses"),
        ("730 or 380 GeV", "'or' states two hypotheses"),
        ("X not to bb", "'not' says what is not"),
        ("730 GeV, 380 GeV and 100 GeV", "states three masses"),
        ("m_X = 730 GeV, m_Y = 380 GeV, m_X = 100 GeV", "two masses of one particle"),
        ("X of 730 GeV, Y of 380 GeV and a 100 GeV particle", "or three particles"),
        ("Z' of 1 TeV to 730 and 380 GeV", "cannot decay to particles of 1110 GeV together"),
        ("Z' of 3 TeV, m_jj = 4 TeV", "states two masses of the resonance"),
        ("three-pronged X -> bb", "states two decays of one particle"),
        ("X -> bb, X -> tt", "states two decays of one particle"),
        ("X to bbb", "a decay to bbb is not known"),
        ("X to four bb", "a decay to bbbbbbbb is not known"),
        ("X to four quarks", "a decay to qqqq is not known"),
        ("X to bananas", "'bananas' is no decay"),
        ("X to two muons", "'muons' is no decay that the model knows"),
        ("Z' -> WZ", "'wz' is no decay that the model knows"),
        ("Z' -> qq", "states a decay of the resonance to quarks"),
        ("X of 730 GeV, Y of 380 GeV, a 9 GeV particle", "or three particles"),
        ("a jet with three prongs and 500 GeV", "does not say which particle has 500 GeV"),
        ("X of 730 +- 20 GeV", "'+-' states an error or a range"),
        ("X of >700 GeV", "'>' states an error or a range"),
        ("a GeV", "'gev' stands without a number"),
        ("a three-body decay of X", "'three' of what?"),
        ("400 GeV and 300 GeV jets (two-pronged)", "does not say which of the two"),
        ("three jets", "'three' of what?"),
        ("thre quarks", "'thre' is not understood (did you mean 'three'?)"),
        ("a 730 and a 380 GeV particle decaying to bb", "write 'both to ...'"),
        ("730 GeV and 380 GeV, one to bb", "'one' may be either particle"),
        ("heavier jet 300 GeV, lighter jet 400 GeV", "called heavier is the lighter one"),
        ("X of 730 \u20ac", "'€' is not understood"),
        ("seven hundred GeV", "is a number in words"),
        ("X" * 500, "500 characters are more than 400"),
    ],
)
def test_refused_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_hypothesis(text)
    message = str(caught.value)
    assert reason in message
    assert "\n" not in message
    assert message.endswith(
        'write e.g. "Z\' to a 730 GeV and a 380 GeV particle, both to two quarks"'
    )


WORDS = """
    X Y Z' m_X m_Y m_jj resonance of at with and , ; ( ) = -> to decaying both each one two three a
    the other first second heavier lighter unknown mass masses particle particles jet jets quark
    quarks b top light pair prong pronged qq bb tt qqq two-pronged identical 730 380 GeV TeV - +
    spin not or 0.73
"""


@given(st.lists(st.sampled_from([*WORDS.split(), "730 GeV", "380 GeV", "3.5 TeV"]), max_size=14))
@settings(deadline=None, max_examples=500)
def test_every_number_is_used_or_the_text_is_refused(words: list[str]) -> None:
    text = " ".join(words)
    try:
        hypothesis = parse_hypothesis(text)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 - most texts are refused
        return
    masses = [one for one in hypothesis.pieces if isinstance(one, float)]
    stated = [one.mass for one in hypothesis.signal.products if one.mass is not None]
    assert set(masses) == set(stated), text
    left_out = hypothesis.signal.m_resonance
    n_masses = len(re.findall(r"(?:730|380|3\.5|0\.73)", text))
    assert n_masses == len(masses) or (left_out is not None and n_masses > len(masses)), text


def test_pieces_are_words_and_masses() -> None:
    hypothesis = parse_hypothesis("Z' of 3.5 TeV  to a 0.73 TeV and a 380 GeV particle")
    assert hypothesis.pieces == ("Z' to a ", 730.0, " and a ", 380.0, " particle")
    assert hypothesis.masses == (730.0, 380.0)
    assert hypothesis.text == "Z' of 3.5 TeV to a 0.73 TeV and a 380 GeV particle"


def test_a_single_mass_stands_first() -> None:
    first, second = parse_hypothesis("Y of 380 GeV").masses
    assert first == 380
    assert math.isnan(second)


def test_equal_texts_are_one_hypothesis() -> None:
    assert len({parse_hypothesis("X -> bb"), parse_hypothesis("X  -> bb")}) == 1


def test_the_open_hypothesis_states_nothing() -> None:
    assert OPEN.signal == Signal()
    assert all(isinstance(one, str) for one in OPEN.pieces)


def test_notes() -> None:
    assert parse_hypothesis("X of 730 GeV").notes == ()
    assert parse_hypothesis("X of 730").notes == ("read as GeV: 730",)
    (note,) = parse_hypothesis("spinning X of 730 GeV").notes
    assert "spinning" in note
    (note,) = parse_hypothesis("anything").notes
    assert "without a hypothesis" in note
