from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest

from hepllm.data.event_table import EventTable
from hepllm.data.signal_truth import SignalTruth
from hepllm.errors import InputError
from hepllm.hypotheses.hypothesis import OPEN, parse_hypothesis
from hepllm.hypotheses.signal import Decay, Product, Signal
from hepllm.hypotheses.trained_range import TrainedRange
from hepllm.runs import questions
from hepllm.runs.questions import OPEN_QUESTION, Question, read_question

TRAINED = TrainedRange(
    heavier_min=150, heavier_max=800, lighter_min=60, lighter_max=500, decays=("qq", "qqq")
)


def _asked(text: str) -> Question:
    return read_question(text, TRAINED, "runs/one")


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("Z' to a 730 GeV and a 380 GeV particle, both to two quarks", "-730qq-380qq"),
        ("m_X = 0.38 TeV, m_Y = 730 GeV", "-730-380"),
        ("one jet of 380 GeV, the other unknown", "-380-any"),
        ("own", "-own"),
        ("a resonance to two unknown particles", ""),
    ],
)
def test_the_name_of_a_set_ends_with_what_is_stated(text: str, suffix: str) -> None:
    assert _asked(text).suffix == suffix


def test_nothing_is_asked_where_nothing_is_stated() -> None:
    for text in (None, "a resonance to two unknown particles"):
        question = read_question(text, TRAINED, "runs/one")
        assert question == OPEN_QUESTION
        assert question.is_open
        assert question.text is None
    assert read_question(None, None, "runs/one") == OPEN_QUESTION


def test_a_run_that_knows_no_hypotheses_refuses_them() -> None:
    with pytest.raises(InputError, match="runs/one: was trained without hypotheses") as raised:
        read_question("730 GeV and 380 GeV", None, "runs/one")
    assert raised.value.exit_code == 2


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="hypothesis 'no mass at all'") as raised:
        _asked("no mass at all")
    assert raised.value.exit_code == 2


def test_what_the_model_never_saw_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hepllm"):
        _asked("a 500 GeV and a 100 GeV particle, both to two quarks")
        assert not caplog.messages
        _asked("a 2 TeV particle to bb and a 100 GeV particle to two quarks")
    assert "150 to 800 GeV, the hypothesis states 2000 GeV" in caplog.text
    assert "decays to qq, qqq, not to bb" in caplog.text


def test_the_mass_of_the_resonance_is_said_to_be_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "hepllm"):
        question = _asked("Z' of 3.5 TeV to a 500 GeV and a 100 GeV particle")
    assert "belongs to the search window" in caplog.text
    assert question.hypothesis is not None
    assert 3500.0 not in question.hypothesis.pieces


def _truth(*signals: tuple[float, float, Decay], each: int) -> SignalTruth:
    made = tuple(Signal((Product(x, decay), Product(y, decay))) for x, y, decay in signals)
    return SignalTruth(made, np.repeat([*range(len(made)), -1], each))


def test_the_nearest_signals_stand_for_the_stated_one(
    monkeypatch: pytest.MonkeyPatch, event_table: Callable[..., EventTable]
) -> None:
    truth = _truth((500, 100, "qq"), (520, 90, "qq"), (505, 101, "qqq"), (200, 150, "qq"), each=200)
    monkeypatch.setattr(questions, "signal_truth", lambda *_: truth)
    table = event_table(1000, ("jet1_mass",))
    table = EventTable(**{**vars(table), "label": (truth.place >= 0).astype(np.int8)})

    def chosen(text: str) -> list[int]:
        rows = _asked(text).reference_events(None, table)  # type: ignore[arg-type]
        return sorted(set(truth.place[rows].tolist()))

    assert chosen("a 500 GeV and a 100 GeV particle, both to two quarks") == [-1, 0, 1]
    assert chosen("a 100 GeV and a 500 GeV particle, both to three quarks") == [-1, 0, 2]
    assert chosen("particles of 490 GeV and 105 GeV") == [-1, 0, 2]
    assert chosen("one jet of 150 GeV, the other unknown") == [-1, 2, 3]
    assert chosen("own") == [-1, 0, 1, 2, 3]


def test_all_events_have_a_stated_hypothesis(event_table: Callable[..., EventTable]) -> None:
    question, table = _asked("730 GeV and 380 GeV"), event_table(5, ("jet1_mass",))
    found = question.hypotheses(None, table, 1)  # type: ignore[arg-type]
    assert found is not None
    assert found.tolist() == [parse_hypothesis("730 GeV and 380 GeV")] * 5
    assert OPEN_QUESTION.hypotheses(None, table, 1) is None  # type: ignore[arg-type]
    assert Question(OPEN).is_open
