"""Boxes of another tune and detector: what is drawn, and what the detector does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

from hepllm.config import Config, DetectorConfig, override_config
from hepllm.physics.generated import GeneratedParticles
from hepllm.schema import BACKGROUND, SIGNAL
from hepllm.stages.preprocess import preprocess


@pytest.fixture(scope="module")
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("other_boxes")


def test_boxes_share_no_seed_and_have_the_drawn_number_of_signal_events(tool: ModuleType) -> None:
    plans = tool.plan_boxes(5, 2000, 250, 7)
    seeds = [
        tool.block_seed(block.seed, block.purpose, block.index, process)
        for plan in plans
        for block in plan.blocks
        for process in (BACKGROUND, SIGNAL)
    ]
    assert len(set(seeds)) == len(seeds) == 5 * 8 * 2
    numbers = [sum(sum(block.labels) for block in plan.blocks) for plan in plans]
    assert all(200 <= number <= 400 for number in numbers)
    assert len(set(numbers)) > 1
    assert len({plan.signal for plan in plans}) == 5
    assert [str(plan) for plan in plans] == [str(plan) for plan in tool.plan_boxes(5, 2000, 250, 7)]


def test_neutral_particles_are_smeared_by_ten_percent_and_soft_ones_lost(tool: ModuleType) -> None:
    n = 4000
    pt = np.repeat([0.4, 20.0], n // 2)
    charge = np.tile([0.0, 1.0], n // 2)
    pdg_id = np.where(charge == 0, 22, 211)
    events = GeneratedParticles(
        pt, 0 * pt, 0 * pt, pt, pdg_id, charge, np.zeros((n, 3)), np.ones(n, dtype=np.int64)
    )
    seen = tool.reconstruct(events, DetectorConfig(pt_min=0.5), np.random.default_rng(1))
    hard = seen.counts[n // 2 :]
    assert hard.all()
    found = seen.pt[-n // 2 :].reshape(-1, 2)
    assert np.std(found[:, 0]) == pytest.approx(2.0, rel=0.1)
    np.testing.assert_allclose(found[:, 1], 20.0)
    assert not seen.counts[1 : n // 2 : 2].any()


def test_a_box_has_a_key_and_its_truth(tool: ModuleType, tmp_path: Path) -> None:
    arguments = [str(tmp_path / "out"), "--boxes", "1", "--events", "400", "--seed", "5"]
    result = CliRunner().invoke(tool.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "boxes.txt").read_text() == result.output
    config = override_config(Config(), ["preprocess.executor=serial"])
    made = preprocess([tmp_path / "out" / "box1.h5"], tmp_path / "data", config)[0].dataset
    table = made.load(("m_jj",))
    signals = made.true_signals(table)
    assert np.not_equal(signals, None).tolist() == (table.label == SIGNAL).tolist()
    assert 200 <= (table.label == SIGNAL).sum() <= 400
