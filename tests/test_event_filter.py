"""Event filters: parsed, not evaluated; a missing value passes no comparison."""

from __future__ import annotations

import numpy as np
import pytest

from hepllm.errors import InputError
from hepllm.event_filter import parse_event_filter

COLUMNS = {
    "m_jj": np.array([3000.0, 3500.0, 3600.0, 4000.0, np.nan]),
    "jet1_pt": np.array([1300.0, 1500.0, 1250.0, 1900.0, 1400.0]),
    "jet2_pt": np.array([1200.0, 1400.0, 1150.0, 1800.0, np.nan]),
}


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("3300 < m_jj < 3700", [0, 1, 1, 0, 0]),
        ("3500 <= m_jj", [0, 1, 1, 1, 0]),
        ("m_jj == 4e3", [0, 0, 0, 1, 0]),
        ("m_jj != 4000", [1, 1, 1, 0, 0]),
        ("m_jj > 3300 and jet1_pt > 1300", [0, 1, 0, 1, 0]),
        ("m_jj > 3900 or jet1_pt < 1300", [0, 0, 1, 1, 0]),
        ("m_jj > 3900 or jet1_pt == 1400", [0, 0, 0, 1, 1]),
        ("not m_jj > 3300", [1, 0, 0, 0, 0]),
        ("not (m_jj > 3300 and jet1_pt < 1450)", [1, 1, 0, 1, 0]),
        ("jet1_pt - jet2_pt > 99", [1, 1, 1, 1, 0]),
        ("jet1_pt / (jet2_pt - 1400) > -1e9", [1, 1, 1, 1, 0]),
        ("-m_jj > -3550", [1, 1, 0, 0, 0]),
        ("1 < 2", [1, 1, 1, 1, 1]),
        ("abs(m_jj - 3550) < 100", [0, 1, 1, 0, 0]),
        ("m_jj < 2 ** 9999999", [1, 1, 1, 1, 0]),
    ],
)
def test_masks(text: str, passed: list[int]) -> None:
    np.testing.assert_array_equal(parse_event_filter(text).mask(COLUMNS), np.array(passed, bool))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3300 < mjj", "unknown feature 'mjj' (did you mean 'm_jj'?)"),
        ("m_jj", "'m_jj' is not a condition"),
        ("m_jj <", "not a valid condition"),
        ("", "not a valid condition"),
        ("m_jj < 'a'", "is not a number or a feature"),
        ("m_jj < True", "is not a number or a feature"),
        ("__import__('os').system('false')", "is not a condition"),
        ("m_jj < open('x')", "'open' is not a function here"),
        ("m_jj in (1, 2)", "is not a condition"),
        ("(m_jj > 3) & (m_jj < 4)", "is not a condition"),
        ("m_jj < 2 ^ 3", "a power is written **"),
        ("m_jj < " + "-" * 3000 + "1", "not a valid condition"),
        ("(" * 500 + "m_jj < 3" + ")" * 500, "not a valid condition"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_event_filter(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_stands_on_one_line() -> None:
    assert parse_event_filter("3300 < m_jj\n   < 3700").text == "3300 < m_jj < 3700"


def test_columns_of_a_table_may_be_named() -> None:
    columns = {"score": np.array([0.2, 0.9]), "mjj_TeV": np.array([3.5, 3.6])}
    parsed = parse_event_filter("score > 0.5 or mjj_TeV < 3 + score", columns)
    assert parsed.names == ("mjj_TeV", "score")
    np.testing.assert_array_equal(parsed.mask(columns), [False, True])
    with pytest.raises(InputError, match=r"unknown column 'scores' \(did you mean 'score'\?\)"):
        parse_event_filter("scores > 1", columns)
