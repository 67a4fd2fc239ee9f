"""Tables and jets pass the same checks as particles."""

from __future__ import annotations

import numpy as np
import pytest

from hepllm.physics.defects import describe_bad_entries, describe_bad_values, describe_defects
from hepllm.physics.events import EventBatch, TabulatedEvents


def _tabulated(**columns: list[float]) -> TabulatedEvents:
    values = {name: np.array(column) for name, column in columns.items()}
    return TabulatedEvents(values, np.zeros(len(next(iter(values.values()))), dtype=np.uint64))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("jet1_pt", np.inf, "an infinite jet1_pt"),
        ("jet1_pt", -3.0, "a negative jet1_pt"),
        ("jet1_pt", 1e9, "jet1_pt > 100000 GeV"),
        ("m_jj", 3.5e6, "m_jj > 100000 GeV"),
        ("jet1_mass", -7.0, "a negative jet1_mass"),
        ("jet1_eta", 999.0, "|jet1_eta| > 20"),
        ("jet1_phi", 180.0, "|jet1_phi| > 4 pi"),
        ("delta_phi", 170.0, "|delta_phi| > 4 pi"),
        ("tau21_light", 999.0, "tau21_light > 100"),
        ("jet1_tau2", -0.5, "a negative jet1_tau2"),
    ],
)
def test_a_value_that_cannot_be_is_a_defect(name: str, value: float, expected: str) -> None:
    found = describe_bad_values(_tabulated(**{name: [0.5, value, np.nan]}))
    assert [text for text, _ in found] == [f"1 with {expected}"]
    np.testing.assert_array_equal(found[0][1], [False, True, False])


def test_what_a_table_may_hold_passes() -> None:
    good = _tabulated(
        jet1_pt=[1200.0, np.nan],
        jet1_eta=[-2.4, np.nan],
        jet1_mass=[-1e-3, np.nan],  # of rounding
        jet1_px=[-999.0, 3.0],
        tau21_light=[1.02, 0.0],
    )
    assert describe_bad_values(good) == []


@pytest.mark.parametrize("needed", ["jet1_pt", "jet1_px"])
def test_a_leading_jet_is_not_lost_silently(needed: str) -> None:
    table = _tabulated(**{needed: [500.0, np.nan, np.nan], "jet1_mass": [90.0, 80.0, np.nan]})
    ((text, bad),) = describe_bad_values(table)
    assert text == f"1 with no {needed} of a jet that is there"
    np.testing.assert_array_equal(bad, [False, True, False])


def test_an_event_has_no_more_pt_than_a_collision() -> None:
    pt, zero = np.full(4, 6.0e4), np.zeros(4)
    ((text, bad),) = describe_bad_entries(pt, zero, zero, np.array([1, 2, 1]), "particle")
    assert text == "1 with a sum of pT > 100000 GeV"
    np.testing.assert_array_equal(bad, [False, True, False])


def test_what_the_reader_found_is_said_once() -> None:
    table = _tabulated(jet1_pt=[1e9, 1e9])
    found_before = [("1 jet with pT > 100000 GeV", np.array([True, False]))]
    content = TabulatedEvents(table.values, table.content, found_before)
    batch = EventBatch(np.arange(2), content, np.zeros(2), np.ones(2))
    assert [text for text, _ in describe_defects(batch)] == [
        "1 jet with pT > 100000 GeV",
        "1 with jet1_pt > 100000 GeV",
    ]
    assert [len(bad) for _, bad in content.take(np.array([True, False])).defects] == [1]
