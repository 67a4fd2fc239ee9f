from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepllm.model.prompts import FUSION_MARK, LABEL_WORDS, format_compact, parse, read_event, render
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


FREE = (
    "jet1: P_T=1306.5 eta=1.04 phi=-2.5 E=2080.1 M=106.4 n_particles=63 tau_21=0.31\n"
    "jet2: p_t = 1.2e3 GeV, Eta: -0.3, mass = 0.5 TeV, nConstituents=71, tau2/tau1=0.25\n"
    "M_jj = 3.497 TeV  n_particles=350 label=1"
)


def test_free_text_reads_as_a_person_means_it() -> None:
    assert parse(FREE) == {
        "jet1_pt": 1306.5,
        "jet1_eta": 1.04,
        "jet1_phi": -2.5,
        "jet1_energy": 2080.1,
        "jet1_mass": 106.4,
        "jet1_n_particles": 63,
        "jet1_tau21": 0.31,
        "jet2_pt": 1200.0,
        "jet2_eta": -0.3,
        "jet2_mass": 500.0,
        "jet2_n_particles": 71,
        "jet2_tau21": 0.25,
        "m_jj": 3497.0,
        "n_particles": 350,
    }


JET_SPELLINGS = {
    "pt": "P_T",
    "eta": "eta",
    "phi": "Phi",
    "energy": "E",
    "mass": "M",
    "n_particles": "n_particles",
    "pt_lead": "pt_lead",
    "tau21": "tau21",
}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jet1: M=106,4", "106,4: write numbers with a point"),
        ("M_jj = 3,497.5", "3,497.5: write numbers with a point"),
        ("jet1: M=-3", "jet1_mass = -3, which no event can have"),
        ("jet1: M=1e400 eta=-1", "jet1_mass = inf, which no event can have"),
    ],
)
def test_numbers_that_no_event_has_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_event(text)


def test_a_comma_may_part_entries_and_a_sign_is_kept() -> None:
    assert read_event("jet1: M=106.4, eta=-1.2,phi=0.5") == {
        "jet1_mass": 106.4,
        "jet1_eta": -1.2,
        "jet1_phi": 0.5,
    }


@given(st.data())
def test_free_text_keeps_every_digit(data: st.DataObject) -> None:
    finite = st.one_of(st.just(math.nan), st.floats(allow_infinity=False))
    event, lines = {}, []
    for jet in ("jet1", "jet2"):
        entries = []
        for quantity, spelling in JET_SPELLINGS.items():
            value = data.draw(finite)
            event[f"{jet}_{quantity}"] = value
            entries.append(f"{spelling}={value!r}")
        lines.append(f"{jet}: " + " ".join(entries))
    for name, spelling in {"m_jj": "M_jj", "n_jets": "n_jets", "delta_r": "dR"}.items():
        event[name] = data.draw(finite)
        lines.append(f"{spelling} = {event[name]!r}")
    read = parse("\n".join(lines))
    assert read.keys() == event.keys()
    for name, value in event.items():
        assert read[name] == value or (math.isnan(value) and math.isnan(read[name])), name


@given(events(PRINTED))
def test_compact_prompts_read_back_to_what_they_print_again(event: dict[str, float]) -> None:
    written = render(event, PRINTED, "compact", fusion=True)
    read = parse(written)
    assert read.keys() == event.keys()
    assert render(read, PRINTED, "compact", fusion=True) == written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jet1_mas=3", r"no features: jet1_mas \(did you mean 'jet1_mass'\?\)"),
        ("jet1: mass=3 mass=4", "jet1_mass twice, as 3 and 4"),
        ("jet1: eta=1.0 TeV", "jet1_eta is given in TeV, but has no unit"),
        ("jet3: tau21=0.5", "no features: tau21"),
        ("run=3 event=17", "no feature found"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parse(text)


def test_nines_are_a_number_where_no_compact_prompt_wrote_them() -> None:
    assert parse("jet1: mass=9999")["jet1_mass"] == 9999
    assert parse("m_jj=99999 GeV")["m_jj"] == 99999
    assert math.isnan(parse("m_jj=99999")["m_jj"])


def test_jets_may_stand_before_or_after_the_quantity() -> None:
    assert parse("pt_j1=5 j2_mass=7 jet_1: eta=2") == {
        "jet1_pt": 5,
        "jet2_mass": 7,
        "jet1_eta": 2,
    }
