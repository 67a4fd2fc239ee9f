"""What the page on hypotheses says holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hepllm.errors import InputError
from hepllm.hypotheses.hypothesis import OPEN, parse_hypothesis
from hepllm.hypotheses.phrases import describe

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "hypotheses.md").read_text("utf-8")


def test_its_first_examples_are_read() -> None:
    examples = [line.strip() for line in PAGE.split("A hypothesis says")[0].splitlines()[1:]]
    for example in filter(None, examples):
        assert not parse_hypothesis(example).signal.is_open, example


def test_what_the_table_shows_is_read() -> None:
    table = "\n".join(line for line in PAGE.splitlines() if line.startswith("| "))
    for example in re.findall(r"`([^`]+)`", table):
        if example not in ("to", "->", "decaying to"):  # what stands between
            parse_hypothesis(example)


@pytest.mark.parametrize(
    "text",
    ["0,73", "300-400 GeV", "730 +- 20", "WZ", "a 730 and a 380 GeV particle decaying to bb"],
)
def test_what_it_says_is_refused_is_refused(text: str) -> None:
    assert text in PAGE
    with pytest.raises(InputError):
        parse_hypothesis(text)


def test_the_python_example() -> None:
    hypothesis = parse_hypothesis("Z' of 3.5 TeV to X of 730 GeV and Y of 0.38 TeV, X -> bb")
    assert str(hypothesis.pieces) in PAGE
    assert describe(hypothesis.signal) in PAGE
    assert OPEN.text in " ".join(PAGE.split())
