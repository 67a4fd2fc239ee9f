"""Expressions of columns: parsed, not evaluated; what is missing stays missing."""

from __future__ import annotations

import numpy as np
import pytest

from hepllm.errors import InputError
from hepllm.expressions import FUNCTIONS, NewVariables, parse_expression

COLUMNS = {
    "m_jj": np.array([3000.0, 4000.0, np.nan]),
    "delta_eta": np.array([-1.5, 0.5, 0.0]),
    "jet1_pt": np.array([1300.0, 0.0, 1250.0]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("m_jj / 1000", [3, 4, np.nan]),
        ("abs(delta_eta)", [1.5, 0.5, 0]),
        ("np.abs(delta_eta) * 2", [3, 1, 0]),
        ("-delta_eta ** 2", [-2.25, -0.25, 0]),
        ("m_jj / jet1_pt", [30 / 13, np.nan, np.nan]),
        ("log(jet1_pt - jet1_pt)", [np.nan] * 3),
        ("sqrt(delta_eta)", [np.nan, np.sqrt(0.5), 0]),
        ("hypot(delta_eta, 2)", [2.5, np.sqrt(4.25), 2]),
        ("max(delta_eta, 0, -1)", [0, 0.5, 0]),
        ("where(m_jj > 3500, 1, -1)", [-1, 1, np.nan]),
        ("where(m_jj > 3500 or delta_eta == 0, delta_eta, 7)", [7, 0.5, 0]),
        ("cos(2 * pi) + math.pi * 0", [1, 1, 1]),
        ("3", [3, 3, 3]),
        ("1e400", [np.nan] * 3),
    ],
)
def test_values(text: str, expected: list[float]) -> None:
    np.testing.assert_allclose(parse_expression(text, COLUMNS).values(COLUMNS), expected)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions_are_those_of_numpy(name: str) -> None:
    n_arguments, _ = FUNCTIONS[name]
    values = [np.array([0.2, 0.7, 1.4])[: 3 - i] for i in range(n_arguments)]
    columns = {f"v{i}": np.resize(value, 3) for i, value in enumerate(values)}
    found = parse_expression(f"{name}({', '.join(columns)})", columns).values(columns)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(found, getattr(np, name)(*columns.values()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mjj / 2", "unknown feature 'mjj' (did you mean 'm_jj'?)"),
        ("__import__('os').system('false')", "is not a function here"),
        ("m_jj.__class__", "is not a number or a feature"),
        ("(lambda: 1)()", "is not a function here"),
        ("[m_jj for m_jj in ()]", "is not a number or a feature"),
        ("m_jj if 1 else 2", "is not a number or a feature"),
        ("eval('1')", "'eval' is not a function here"),
        ("np.load(m_jj)", "'load' is not a function here"),
        ("sqr(m_jj)", "did you mean 'sqrt'?"),
        ("sqrt(m_jj, 2)", "sqrt has 1 arguments, found 2"),
        ("min(m_jj)", "'min of 1 values' is not a function here"),
        ("sqrt(x=m_jj)", "is not a number or a feature"),
        ("m_jj > 3", "is not a number or a feature"),
        ("m_jj ^ 2", "a power is written **"),
        ("'m_jj'", "is not a number or a feature"),
        ("True", "is not a number or a feature"),
        ("1j", "is not a number or a feature"),
        ("m_jj *", "not a valid expression; write e.g."),
        ("", "not a valid expression"),
        ("1" + "0" * 400, "too large"),
        ("-" * 3000 + "1", ""),
    ],
)
def test_what_is_not_understood_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_expression(text, COLUMNS)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_variable_may_use_earlier_ones_and_says_what_it_needs() -> None:
    found = NewVariables.parse({"tev": "m_jj / 1000", "twice": "tev * 2 + delta_eta"}, COLUMNS)
    assert found.inputs(["twice", "jet1_pt"]) == ("delta_eta", "m_jj", "jet1_pt")
    assert found.needed(["twice"]) == {"twice", "tev"}
    given = {name: COLUMNS[name] for name in ("m_jj", "delta_eta")}
    columns = found.computed(given, ["twice"])
    np.testing.assert_allclose(columns["twice"], [4.5, 8.5, np.nan])
    kept = found.computed({**given, "tev": np.zeros(3)})
    np.testing.assert_allclose(kept["twice"], [-1.5, 0.5, 0])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"a": "b", "b": "m_jj"}, "a: .*unknown feature 'b'"),
        ({"a": "a + 1"}, "unknown feature 'a'"),
        ({"a b": "m_jj"}, "'a b' cannot be a name"),
        ({"sqrt": "m_jj"}, "'sqrt' cannot be a name"),
    ],
)
def test_names_that_cannot_be_are_refused(texts: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NewVariables.parse(texts, COLUMNS)
