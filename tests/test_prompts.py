from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepllm.prompts import FUSION_MARK, LABEL_WORDS, format_compact, parse, render
from hepllm.schema import FEATURES, feature_names

PRINTED = tuple(name for name, feature in FEATURES.items() if feature.in_prompt)

values = st.one_of(st.just(math.nan), st.floats(-1e5, 1e5), st.integers(-20000, 20000).map(float))


def events(names: tuple[str, ...]) -> st.SearchStrategy[dict[str, float]]:
    return st.fixed_dictionaries(dict.fromkeys(names, values))


@given(events(PRINTED))
def test_every_compact_prompt_has_the_same_characters_but_for_digits(
    event: dict[str, float],
) -> None:
    reference = render(dict.fromkeys(PRINTED, 0.0), PRINTED, "compact", fusion=True)
    written = render(event, PRINTED, "compact", fusion=True)
    assert len(written) == len(reference)
    assert all(
        a == b or (a.isdigit() and b.isdigit()) for a, b in zip(written, reference, strict=True)
    )


@given(value=values, name=st.sampled_from(sorted(FEATURES)))
def test_compact_numbers_read_back_to_the_printed_digits(value: float, name: str) -> None:
    feature = FEATURES[name]
    text = format_compact(value, feature)
    event = parse(f"{feature.symbol or name}={text}")[name]
    if math.isnan(value):
        assert math.isnan(event)
        return
    largest = 10.0**feature.integers - 2 * 10.0**-feature.decimals
    expected = min(abs(value), largest)
    assert abs(event) == pytest.approx(expected, abs=0.5000001 * 10.0**-feature.decimals)
    if feature.signed and event:
        assert math.copysign(1, event) == math.copysign(1, value)


@given(events(feature_names("search")))
def test_full_prompts_read_back_to_ten_decimals(event: dict[str, float]) -> None:
    read = parse(render(event, tuple(event), "full", fusion=False))
    assert read.keys() == event.keys()
    for name, value in event.items():
        assert read[name] == pytest.approx(value, abs=1e-10, nan_ok=True)


def test_a_missing_number_is_not_a_large_one() -> None:
    mass = FEATURES["jet1_mass"]
    assert format_compact(math.nan, mass) == "9999"
    assert format_compact(123456.0, mass) == "9998"
    assert math.isnan(parse("jet1_mass=9999")["jet1_mass"])
    assert parse("jet1_mass=9998")["jet1_mass"] == 9998


def test_the_fusion_mark_stands_once_and_only_where_there_is_an_adapter() -> None:
    event = dict.fromkeys(PRINTED, 1.0)
    for layout in ("minimal", "compact", "full"):
        assert render(event, PRINTED, layout, fusion=True).count(FUSION_MARK) == 1
        assert FUSION_MARK not in render(event, PRINTED, layout, fusion=False)


def test_a_minimal_prompt_carries_no_numbers() -> None:
    assert render({}, (), "minimal", fusion=True) == render(
        {"m_jj": 1.0}, (), "minimal", fusion=True
    )


def test_prompts_end_in_a_cue_for_the_label_words() -> None:
    for layout in ("minimal", "compact", "full"):
        assert render({}, (), layout, fusion=True).endswith(":")
    assert all(word.startswith(" ") for word in LABEL_WORDS)


def test_symbols_are_unambiguous() -> None:
    names = [feature.symbol or name for name, feature in FEATURES.items()]
    assert len(set(names)) == len(names)
    assert not {f.symbol for f in FEATURES.values() if f.symbol} & set(FEATURES)


def test_text_without_features_is_refused() -> None:
    with pytest.raises(ValueError, match="no feature found"):
        parse("two jets went into a bar")
