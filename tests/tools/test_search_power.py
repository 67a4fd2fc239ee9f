"""The studies of the search: thinned boxes, signal by selection, p-values of drawn spectra."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

from hepllm.config import SearchConfig
from hepllm.errors import InputError
from hepllm.search.box import BoxEvents
from hepllm.search.spectra import bin_edges, choose_cuts


@pytest.fixture(scope="module")
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("search_power")


def _box(tool: ModuleType, n_events: int = 4000, n_signal: int = 80) -> object:
    random = np.random.default_rng(1)
    is_signal = np.arange(n_events) < n_signal
    m_jj = np.where(
        is_signal, random.normal(3500, 120, n_events), random.uniform(2600, 8000, n_events)
    )
    score = random.normal(3 * is_signal, 1)
    return tool.Box("box", BoxEvents(score, m_jj, score, score), is_signal)


def test_thinned_box_has_the_fraction_asked_for(tool: ModuleType) -> None:
    box = _box(tool)
    thin = box.thinned(0.01, 1)
    assert thin.is_signal.sum() == round(0.01 * len(thin.is_signal))
    assert (~thin.is_signal).sum() == (~box.is_signal).sum()
    assert (thin.events.m_jj != box.thinned(0.01, 2).events.m_jj).any()
    with pytest.raises(InputError, match="80 signal events, fewer than"):
        box.thinned(0.1, 1)


def test_pool_joins_what_is_left_of_boxes(tool: ModuleType) -> None:
    box = _box(tool)
    pool = tool.pooled([box.only(~box.is_signal), box.only(box.is_signal)], "both")
    assert pool.is_signal.sum() == box.is_signal.sum()
    assert sorted(pool.events.m_jj) == sorted(box.events.m_jj)
    assert set(pool.events.m_jj[pool.is_signal]) == set(box.events.m_jj[box.is_signal])


def test_signal_is_shared_out_among_the_selections(tool: ModuleType) -> None:
    box = _box(tool)
    selections = choose_cuts(box.events.score, (0.03, 0.01))
    shares = tool.signal_spectra(box, selections, bin_edges(1000, 9000, 0.1))
    passing = [(box.events.score[box.is_signal] > one.threshold).mean() for one in selections]
    np.testing.assert_allclose(
        shares.sum(axis=1), [1 - passing[0], passing[0] - passing[1], passing[1]]
    )


def test_truth_of_the_flatness_study_keeps_its_shares(tool: ModuleType) -> None:
    truth = tool.smooth_truth(SearchConfig(), 15_000, 2.0)
    assert (truth.rejected.sum() + truth.selected[0].sum()) == pytest.approx(15_000)
    np.testing.assert_allclose(truth.selected.sum(axis=1), [1500, 450, 150, 45])  # 15 are too few


def test_p_value_of_a_draw_depends_on_its_number(tool: ModuleType) -> None:
    truth = tool.smooth_truth(SearchConfig(bin_width=0.1, narrowest=1, widest=2), 15_000, 2.0)
    one, other = (tool.p_value_of_draw(truth, 1000, 1, number) for number in (1, 2))
    assert one == tool.p_value_of_draw(truth, 1000, 1, 1)
    assert one != other
    assert min(one, other) >= 1 / 1001


def test_found_boxes_become_a_table_and_json(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = SearchConfig(bin_width=0.1, narrowest=1, widest=2, efficiencies=(0.1, 0.03))
    found = _box(tool).searched(settings, 1, None)
    tool.print_table([("box at 0.02", found)], tmp_path / "found.json")
    lines = capsys.readouterr().out.splitlines()
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[:4] == ["box at 0.02", "4000", "80", "0.1 (400), 0.03 (120)"]
    assert lines[3].startswith("p < 0.05: 1 of 1, share 1.00")
    (tree,) = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert tree["box"] == "box at 0.02"
    assert type(found).model_validate(tree) == found


def test_flatness_study_runs(tool: ModuleType) -> None:
    coarse = ["--set", "bin_width=0.1", "--set", "narrowest=1", "--set", "widest=2"]
    done = CliRunner().invoke(tool.main, ["flat", "--spectra", "4", "--toys", "1000", *coarse])
    assert done.exit_code == 0, done.output
    assert "4 spectra of 15000 events" in done.output
