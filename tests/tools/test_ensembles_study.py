"""The study of ensembles: its truth, what a spread covers, and datasets that are joined."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import norm

from hepllm.data.dataset import read_dataset


@pytest.fixture(scope="module")
def study(load_tool: Callable[[str], Any]) -> Any:
    return load_tool("ensembles")


def test_the_true_logit_is_the_ratio_of_the_densities(study: Any) -> None:
    world = study.World.of(3)
    events, label = world.draw(50, np.random.default_rng(1))
    assert label.tolist() == [0, 1] * 25
    for event, logit in zip(events, world.logit(events), strict=True):
        background, signal = (
            sum(norm.pdf(event, mean, width).prod() for mean, width in zip(*parts, strict=True))
            for parts in zip(world.means, world.widths, strict=True)
        )
        assert logit == pytest.approx(np.log(signal / background))


def test_a_spread_of_independent_members_covers_as_stated(study: Any) -> None:
    random = np.random.default_rng(2)
    members = random.normal(0, np.exp(random.normal(0, 1, 20_000)), (9, 20_000))
    mean, rest = members[:3].mean(axis=0), members[3:].mean(axis=0)
    found: dict[str, list[float]] = {}
    study._differences(found, "x", mean - rest, members[:3].std(axis=0, ddof=1), (3, 6))
    assert found["coverage-68-x"][0] == pytest.approx(0.6827, abs=0.015)
    assert found["coverage-95-x"][0] == pytest.approx(0.9545, abs=0.01)
    assert found["ratio-x"][0] == pytest.approx(1, abs=0.1)
    assert found["rank-x"][0] > 0.4
    assert found["rms-4-x"] > found["rms-1-x"]


def test_datasets_are_joined(study: Any, tiny_data: Path, tmp_path: Path) -> None:
    folders = [str(tiny_data / "data" / name) for name in ("rnd", "bb")]
    done = CliRunner().invoke(study.main, ["merge", *folders, "--output", str(tmp_path / "both")])
    assert done.exit_code == 0, done.output
    tables = [read_dataset(Path(folder)).load(()) for folder in (*folders, tmp_path / "both")]
    digests = np.concatenate([table.event_digest for table in tables[:2]])
    np.testing.assert_array_equal(tables[2].event_digest, digests)
    assert set(tables[2].source.tolist()) == {"rnd", "bb"}
