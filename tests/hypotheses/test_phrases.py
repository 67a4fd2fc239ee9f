"""Sentences state the signal that they are made of."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepllm.hypotheses.hypothesis import OPEN, parse_hypothesis
from hepllm.hypotheses.phrases import (
    EXACT,
    HELD_OUT,
    TRAINING,
    Style,
    Vagueness,
    describe,
    phrase,
)
from hepllm.hypotheses.signal import DECAYS, PRONGS, Product, Signal


@st.composite
def products(draw: st.DrawFn) -> Product:
    mass = draw(st.none() | st.integers(500, 199_999).map(lambda tens: tens / 100))
    decay = draw(st.none() | st.sampled_from(DECAYS))
    n_prongs = draw(st.none() | st.integers(1, 6)) if decay is None else None
    return Product(mass, decay, n_prongs)


signals = st.builds(
    lambda one, other, m_resonance: Signal((one, other), m_resonance),
    products(),
    products(),
    st.none() | st.integers(4000, 9000).map(float),
)
seeds = st.integers(0, 2**32 - 1)


@given(signals, seeds, st.sampled_from([TRAINING, HELD_OUT]))
@settings(deadline=None, max_examples=300)
def test_what_is_said_exactly_is_read_exactly(
    signal: Signal, seed: int, styles: tuple[Style, ...]
) -> None:
    text = phrase(signal, np.random.default_rng(seed), styles=styles, vagueness=EXACT)
    read = parse_hypothesis(text).signal
    assert read.without_resonance() == signal.without_resonance(), text
    assert read.m_resonance in (None, signal.m_resonance)


@given(signals, seeds, st.sampled_from([TRAINING, HELD_OUT]))
@settings(deadline=None, max_examples=300)
def test_what_is_said_vaguely_contradicts_nothing(
    signal: Signal, seed: int, styles: tuple[Style, ...]
) -> None:
    text = phrase(signal, np.random.default_rng(seed), styles=styles)
    hypothesis = parse_hypothesis(text)
    fits = [
        all(map(agrees, hypothesis.signal.products, order))
        for order in itertools.permutations(signal.products)
    ]
    assert any(fits), text
    masses = [one for one in hypothesis.pieces if isinstance(one, float)]
    stated = [one.mass for one in hypothesis.signal.products if one.mass is not None]
    assert set(masses) == set(stated)
    if signal.m_resonance is not None:
        assert signal.m_resonance not in masses


def agrees(read: Product, true: Product) -> bool:
    """Whether what was read is what is true, rounded and with parts left open."""
    if read.mass is not None and (true.mass is None or abs(read.mass / true.mass - 1) > 0.051):
        return False
    if read.decay is not None:
        return read.decay == true.decay
    return read.n_prongs in (None, true.n_prongs)


@given(signals)
@settings(deadline=None)
def test_the_description_is_read_back(signal: Signal) -> None:
    assert parse_hypothesis(describe(signal)).signal == signal


@given(signals, seeds)
@settings(deadline=None)
def test_pieces_rebuild_the_text(signal: Signal, seed: int) -> None:
    text = phrase(signal.without_resonance(), np.random.default_rng(seed), vagueness=EXACT)
    shown = parse_hypothesis(text)
    numbers = iter(shown.pieces)
    rest = text
    for piece in numbers:
        if isinstance(piece, str):
            assert rest.startswith(piece)
            rest = rest.removeprefix(piece)
        else:
            number, unit, rest = rest.split(" ", 1)[0], *_unit_and_rest(rest)
            assert float(number) * {"GeV": 1, "TeV": 1000}[unit] == pytest.approx(piece)
    assert rest == ""


def _unit_and_rest(text: str) -> tuple[str, str]:
    after = text.split(" ", 1)[1]
    return after[:3], after[3:]


def test_phrasings_differ() -> None:
    assert len(TRAINING) >= 12
    assert len(HELD_OUT) >= 4
    assert not set(TRAINING) & set(HELD_OUT)
    signal = Signal((Product(730, "qq"), Product(380, "bb")))
    random = np.random.default_rng(1)
    texts = {phrase(signal, random, vagueness=EXACT) for _ in range(500)}
    assert len(texts) > 100
    for style in (*TRAINING, *HELD_OUT):
        text = phrase(signal, random, styles=[style], vagueness=EXACT)
        assert parse_hypothesis(text).signal == signal, text


def test_both_products_are_said_first_and_in_both_units() -> None:
    signal = Signal((Product(730, "qq"), Product(380, "bb")))
    random = np.random.default_rng(1)
    first = set()
    for _ in range(100):
        hypothesis = parse_hypothesis(phrase(signal, random, vagueness=EXACT))
        first.add(next(one for one in hypothesis.pieces if isinstance(one, float)))
    assert first == {730.0, 380.0}


def test_vagueness_has_the_stated_probabilities() -> None:
    signal = Signal((Product(731, "qqq"), Product(383, "qqq")), 3500)
    random = np.random.default_rng(2)
    vague = Vagueness(all=0.2, mass=0, decays=0, decay=0, prongs=0.5, rounding=0, resonance=0)
    drawn = [vague.of(signal, random) for _ in range(2000)]
    assert np.mean([one.is_open for one in drawn]) == pytest.approx(0.2, abs=0.03)
    stated = [one for one in drawn if not one.is_open]
    assert np.mean([one.decays == (None, None) for one in stated]) == pytest.approx(0.5, abs=0.04)
    assert {one.products[0].n_prongs for one in stated} == {PRONGS["qqq"]}
    assert {one.masses for one in stated} == {(731.0, 383.0)}


def test_nothing_stated_reads_as_open() -> None:
    text = phrase(Signal(), np.random.default_rng(3))
    assert parse_hypothesis(text).signal == OPEN.signal
