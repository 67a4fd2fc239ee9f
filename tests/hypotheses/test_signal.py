"""What a signal can be."""

from __future__ import annotations

import numpy as np
import pytest

from hepllm.errors import InputError
from hepllm.hypotheses.arrays import one_hot
from hepllm.hypotheses.hypothesis import OPEN, parse_hypothesis
from hepllm.hypotheses.signal import DECAYS, Product, Signal
from hepllm.hypotheses.trained_range import TrainedRange, outside


def test_the_order_of_products_means_nothing() -> None:
    light, heavy, unknown = Product(100, "bb"), Product(200, "qq"), Product()
    assert Signal((light, heavy)) == Signal((heavy, light))
    assert Signal((light, heavy)).masses == (200, 100)
    assert Signal((unknown, light)).products == (light, unknown)


def test_a_decay_has_its_prongs() -> None:
    assert Product(decay="tt").n_prongs == 6
    assert Product(decay="bb", n_prongs=2) == Product(decay="bb")
    with pytest.raises(ValueError, match="has 2 prongs, not 3"):
        Product(decay="bb", n_prongs=3)


@pytest.mark.parametrize("mass", [-1.0, 0.0, float("nan"), float("inf")])
def test_impossible_masses_are_refused(mass: float) -> None:
    with pytest.raises(ValueError, match="a mass of"):
        Product(mass)
    with pytest.raises(ValueError, match="a mass of"):
        Signal(m_resonance=mass)


def test_a_resonance_is_heavier_than_its_products() -> None:
    with pytest.raises(ValueError, match="cannot decay to particles of 1110 GeV"):
        Signal((Product(730), Product(380)), 1000)


def test_numbers_of_hypotheses() -> None:
    texts = ["X of 380 GeV to bb, Y of 730 GeV", "a 500 GeV three-pronged jet"]
    numbers = one_hot([*map(parse_hypothesis, texts), OPEN, parse_hypothesis(texts[0])])
    nan = np.nan
    np.testing.assert_array_equal(numbers.masses, [[730, 380], [500, nan], [nan, nan], [730, 380]])
    np.testing.assert_array_equal(numbers.n_prongs, [[nan, 2], [3, nan], [nan, nan], [nan, 2]])
    assert numbers.decays.shape == (4, 2, len(DECAYS))
    np.testing.assert_array_equal(numbers.decays[:, 0], 0)
    np.testing.assert_array_equal(numbers.decays[0, 1], [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(numbers.decays[1:3], 0)
    assert numbers.columns.shape == (4, 4 + 2 * len(DECAYS))


def test_no_hypotheses_have_no_numbers() -> None:
    assert one_hot([]).columns.shape == (0, 4 + 2 * len(DECAYS))


TRAINED = TrainedRange.of(
    [
        Signal((Product(100, "qq"), Product(60, "qq"))),
        Signal((Product(700, "bb"), Product(300, "qqq"))),
    ]
)


def test_the_range_of_a_training() -> None:
    assert TRAINED.tree() == {
        "heavier_min": 100,
        "heavier_max": 700,
        "lighter_min": 60,
        "lighter_max": 300,
        "decays": ["qq", "bb", "qqq"],
    }
    assert TrainedRange.model_validate(TRAINED.tree()) == TRAINED


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("anything", []),
        ("X of 700 GeV, Y of 60 GeV", []),
        ("X of 710 GeV, Y of 59 GeV", []),
        ("X of 70 GeV", []),
        ("X of 900 GeV, Y of 100 GeV", ["of 100 to 700 GeV, the hypothesis states 900 GeV"]),
        ("X and Y of 500 GeV each", ["of 60 to 300 GeV, the hypothesis states 500 GeV"]),
        ("X to tt", ["trained on decays to qq, bb, qqq, not to tt"]),
        ("both to tt", ["trained on decays to qq, bb, qqq, not to tt"]),
        ("a one-pronged jet", ["none of which has 1 prongs"]),
        ("a two-pronged 20 GeV jet", ["the hypothesis states 20 GeV"]),
    ],
)
def test_what_lies_outside(text: str, sentences: list[str]) -> None:
    found = outside(parse_hypothesis(text), TRAINED)
    assert len(found) == len(sentences)
    for one, part in zip(found, sentences, strict=True):
        assert part in one


def test_single_quarks_have_no_mass() -> None:
    one = Signal((Product(500, "qq"), Product(None, "q")))
    found = TrainedRange.of([one, Signal((Product(300, "qq"), Product(200, "qq")))])
    assert (found.heavier_min, found.heavier_max) == (300, 500)
    assert (found.lighter_min, found.lighter_max) == (200, 200)
    assert TrainedRange.of([one]).lighter_min == 500


def test_a_range_needs_known_masses() -> None:
    with pytest.raises(InputError, match="known masses"):
        TrainedRange.of([Signal()])
