"""The study of extended substructure: its measurement by other means, and a small run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from hepllm.config import load_config
from hepllm.data.signal_points import SignalPoint, SignalPoints, points_beside
from hepllm.physics.lhco_writer import write_lhco
from hepllm.stages.preprocess import preprocess


@pytest.fixture(scope="module")
def tools(load_tool: Callable[[str], ModuleType]) -> dict[str, ModuleType]:
    return {name: load_tool(name) for name in ("case_means", "extended")}


def test_the_study_prints_both_tables(
    dijet_events: Any, tools: dict[str, ModuleType], tmp_path: Path
) -> None:
    config = load_config(None, ["preprocess.executor=serial", "preprocess.extended=true"])
    arguments = ["--training-events", "60", "--seeds", "2", "--replicas", "5"]
    for number, name in enumerate(("background", "test-background", "grid", "points", "signal")):
        file = tmp_path / f"{name}.h5"
        with write_lhco(file, 120, labelled=True) as writer:
            rows = dijet_events(120, seed=number)
            writer.append(rows[:, :-1], np.full(120, number > 1))
        if number > 1:
            sizes = [120] if name == "signal" else [60, 60]
            masses = {"m_zprime": 3500.0, "m_x": 500.0, "m_y": 100.0}
            points = [
                SignalPoint(first=60 * place, events=size, generated=size, **masses)
                for place, size in enumerate(sizes)
            ]
            SignalPoints(points=points).write(points_beside(file))
        preprocess([file], tmp_path / name, config)
        arguments += [f"--{name}", str(tmp_path / name)]
    mixed = tmp_path / "real.h5"
    with write_lhco(mixed, 120, labelled=True) as writer:
        rows = dijet_events(120, seed=9)
        writer.append(rows[:, :-1], rows[:, -1])
    preprocess([mixed], tmp_path / "real", config)
    arguments += ["--real", str(tmp_path / "real")]
    found = CliRunner().invoke(tools["extended"].main, arguments, catch_exceptions=False)
    rows = [line for line in found.output.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[1] for row in rows if row.startswith("| each point")] == [
        "`cathode`",
        "`search`",
        "`masses + tau`",
        "`extended`",
    ]
    assert len(rows) == 2 + 4 * 4 + 2 * 4
