"""The studies of metrics on known truth: the truth by other means, and small runs."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import norm


@pytest.fixture(scope="module")
def tools(load_tool: Callable[[str], ModuleType]) -> dict[str, ModuleType]:
    return {name: load_tool(name) for name in ("mixtures", "max_sic", "sic_bounds")}


def test_truth_is_the_share_of_many_drawn_events(tools: dict[str, ModuleType]) -> None:
    generator = np.random.default_rng(1)
    for classifier in tools["mixtures"].CLASSIFIERS:
        events = classifier.draw(100_000, 100_000, generator)
        for cut in (0.0, 1.0):
            passes = events.score >= cut
            shares = [passes[events.is_signal].mean(), passes[~events.is_signal].mean()]
            truth = [classifier.signal.above(cut), classifier.background.above(cut)]
            np.testing.assert_allclose(shares, truth, atol=0.006)


def test_truth_of_one_normal_distribution_each_has_its_closed_form(
    tools: dict[str, ModuleType],
) -> None:
    weak = next(one for one in tools["mixtures"].CLASSIFIERS if one.name == "weak")
    sic, eps_b = weak.sic_at(0.3)
    assert eps_b == pytest.approx(norm.sf(norm.isf(0.3) + 1))
    assert sic == pytest.approx(0.3 / np.sqrt(eps_b))
    cuts = np.linspace(-3, 5, 4001)
    best = (norm.sf(cuts - 1) / np.sqrt(norm.sf(cuts))).max()
    assert weak.largest_sic(1e9, 10) == pytest.approx(best, rel=1e-4)


def test_few_validation_events_lower_the_maximum_by_the_former_rule_only(
    tools: dict[str, ModuleType],
) -> None:
    tool, (sharp, *_) = tools["max_sic"], tools["mixtures"].CLASSIFIERS
    generator = np.random.default_rng(3)
    events, known = (sharp.draw(2000, number, generator) for number in (20_000, 400))
    truth = sharp.largest_sic(20_000, 10)
    assert tool.before(events, known) < truth / 3
    assert tool.after(events, known, 1).point(tool.NAME).sic == pytest.approx(truth, rel=0.25)


@pytest.mark.parametrize(
    ("name", "arguments", "n_rows"),
    [
        ("max_sic", ("bias", "--trials", "2", "--only", "weak"), 2),
        ("max_sic", ("choices", "--trials", "2"), 5),
        ("max_sic", ("coverage", "--trials", "2", "--replicas", "5"), 4),
        ("sic_bounds", ("coverage", "--trials", "2"), 4),
        ("sic_bounds", ("ratios", "--trials", "1"), 2),
        ("sic_bounds", ("blanks", "--trials", "2"), 5),
    ],
)
def test_each_study_prints_its_table(
    name: str,
    arguments: tuple[str, ...],
    n_rows: int,
    tools: dict[str, ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tools["max_sic"], "TESTS", ((100, 500),))
    monkeypatch.setattr(tools["max_sic"], "VALIDATION", (400, 1500))
    monkeypatch.setattr(tools["sic_bounds"], "SIZES", ((100, 500),))
    found = CliRunner().invoke(tools[name].main, arguments, catch_exceptions=False)
    assert found.exit_code == 0
    rows = [line for line in found.output.splitlines() if line.startswith("| ")]
    assert len([row for row in rows if "---" not in row]) == n_rows + 1
