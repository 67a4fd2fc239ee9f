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
    assert "| one region | 9 | 0.00% | 2 | 0.21 [0.0808, 0.339] | - | 1 of 2 | 0" in made.output
    lines.add({**wanted[2], "p_value": 0.3, "regions": "all"})
    assert [one["seed"] for one in lines.missing(wanted)] == [2], "a scan is another study"
    made = CliRunner().invoke(tool.main, ["nulls", str(lines.file)])
    assert made.exit_code == 0, made.output
    # Clopper-Pearson for 1 of 2: 1 - 0.975**0.5 and 0.975**0.5.
    assert "| t | f | one region | 2 | 0.500 [0.013, 0.987] |" in made.output
    assert "| t | f | all | 1 | 0.000 [0.000, 0.975] |" in made.output
    shape = {"ks_p": 0.01, "js": 0.002, "js_95": 0.004}
    lines.add({**wanted[2], "p_value": 0.3, "sculpting": {"0.1": shape}})
    made = CliRunner().invoke(tool.main, ["sculpting", str(lines.file)])
    assert made.exit_code == 0, made.output
    row = "| t | f | one region | 0.1 | 1 | 1.000 [0.025, 1.000] | 0.000 [0.000, 0.975] | 0.50 |"
    assert made.output.splitlines() == [row]


def test_random_scores_and_templates_from_simulation(tool: ModuleType) -> None:
    """The bump hunt alone needs no training, and simulation of other features is told apart."""
    random = np.random.default_rng(5)
    box, other = (
        Sample(random.normal(size=(6000, 2)), 2600 + random.exponential(500, 6000))
        for _ in range(2)
    )
    settings = ["weak.region=[3300,3700]", "weak.folds=2", "weak.members=1", "toys=50"]
    settings += ["max_toys=50", "weak.min_events=100"]
    names = ("tau21_light", "tau21_heavy")
    untrained = tool.search_weakly(box, tool._config(settings), names, 1, is_trained=False)
    assert untrained["n_regions"] == 1
    assert 0 < untrained["p_value"] <= 1
    config = tool._config([*settings, "weak.template=simulation", "weak.background=x"])
    with pytest.raises(InputError, match="needs a dataset of background"):
        tool.search_weakly(box, config, names, 1)
    trained = tool.search_weakly(box, config, names, 1, simulation=other)
    assert trained["in_range"] == untrained["in_range"]
    assert set(trained["sculpting"]) == {"0.1", "0.01"}
