"""The study of the search without labels: boxes that are mixed, and lines that are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

from hepllm.errors import InputError
from hepllm.weak.templates import Sample


@pytest.fixture(scope="module")
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("weak_search")


def _sample(n_events: int, shift: float) -> Sample:
    random = np.random.default_rng(n_events)
    return Sample(random.normal(shift, 1, (n_events, 2)), random.uniform(2600, 6000, n_events))


def test_a_box_has_the_fraction_asked_for(tool: ModuleType) -> None:
    pool = tool.Pool(_sample(900, 0.0), _sample(100, 50.0))
    box, is_signal = pool.draw(500, 0.01, seed=1)
    assert (len(box), is_signal.sum()) == (500, 5)
    np.testing.assert_array_equal(box.features[:, 0] > 25, is_signal)
    assert len(np.unique(box.m_jj)) == 500
    assert (box.m_jj != pool.draw(500, 0.01, seed=2)[0].m_jj).any()
    with pytest.raises(InputError, match="1000 events are wanted of a pool of 900"):
        pool.draw(1000, 0.0, seed=1)
    with pytest.raises(InputError, match="needs --signal"):
        tool.Pool(_sample(900, 0.0), None).draw(500, 0.01, seed=1)


def test_a_study_goes_on_where_it_was(tool: ModuleType, tmp_path: Path) -> None:
    lines = tool.Lines(tmp_path / "a.jsonl")
    wanted = [
        {
            "study": "boxes",
            "template": "t",
            "features": "f",
            "events": 9,
            "fraction": 0.0,
            "seed": n,
        }
        for n in range(3)
    ]
    lines.add({**wanted[1], "p_value": 0.02})
    assert [one["seed"] for one in lines.missing(wanted)] == [0, 2]
    lines.add({**wanted[0], "p_value": 0.4})
    made = CliRunner().invoke(tool.main, ["table", str(lines.file)])
    assert made.exit_code == 0, made.output
    assert "0.21 [0.0808, 0.339] | - | 1 of 2 | 0" in made.output


def test_the_ideal_classifier_is_measured_on_events_that_it_has_not_seen(tool: ModuleType) -> None:
    """The best SIC of the mixture is known: x > c keeps nearly all signal and little background."""
    random = np.random.default_rng(4)
    background, signal = random.normal(size=(24000, 2)), random.normal((3, 0), 1, (6000, 2))
    options = {"n_folds": 2, "members": 1, "seed": 1}
    found = tool.measure_ideal(background, signal, 0.1, ("x", "y"), **options)
    cuts = np.linspace(0, 3.3, 100)  # beyond, fewer than ten background events are left
    best = max((signal[:, 0] > c).mean() / (background[:, 0] > c).mean() ** 0.5 for c in cuts)
    assert found["n_mixed"] == 1200
    assert 0.6 * best < found["max_sic_10"] < 1.15 * best
    without = tool.measure_ideal(background, signal, 0.0, ("x", "y"), **options)
    assert without["sic_at_1e-3"] < 0.5 * found["sic_at_1e-3"]
