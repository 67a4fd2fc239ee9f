"""The studies of sculpting: their arithmetic by other means, and small runs of their commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import spearmanr

from hepllm.config import load_config
from hepllm.physics.lhco_writer import write_lhco
from hepllm.stages.preprocess import preprocess

NAMES = ("sculpting", "sculpting_coverage", "sculpting_of_scores")


@pytest.fixture(scope="module")
def tools(load_tool: Callable[[str], ModuleType]) -> dict[str, ModuleType]:
    return {name: load_tool(name) for name in NAMES}


def run(command: Any, arguments: list[str]) -> list[list[str]]:
    """The cells of the rows that a command prints."""
    found = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return cells_of(found.output)


def cells_of(table: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[1:]]


def test_numbers_of_a_table_are_those_of_plain_counting(tools: dict[str, ModuleType]) -> None:
    random = np.random.default_rng(1)
    m_jj = tools["sculpting_coverage"].draw_masses(20_000, random)
    background = np.log(m_jj) - np.log(random.random(20_000))  # efficiencies go like m_jj
    signal = np.quantile(background, random.uniform(0.9, 1.0, 1000))
    found = tools["sculpting"].numbers_of(m_jj, background, signal, 1)
    values = [value for value, _, _ in found]
    passing = np.mean(background >= np.median(signal))
    assert values[0] == pytest.approx(0.5 / np.sqrt(passing), rel=0.01)
    assert values[1] == pytest.approx(np.mean(signal > np.sort(background)[-200]) / 0.1, abs=0.02)
    assert values[4] == pytest.approx(1.0, abs=0.3)  # power at eps_B = 0.1
    assert values[8] == pytest.approx(spearmanr(background, m_jj).statistic, abs=1e-6)
    assert all(half > 0 for _, half, _ in found)


def test_intervals_over_trainings_are_students(tools: dict[str, ModuleType]) -> None:
    value, half, digits = tools["sculpting"].over_seeds(
        [(1.0, 0.3, 2), (2.0, 0.3, 2), (3.0, 0.3, 2)]
    )
    assert (value, digits) == (2.0, 2)
    # Student's t with two degrees of freedom, 4.303 standard errors, beside that of events.
    assert half == pytest.approx(np.hypot(0.3, 4.303 / 3**0.5), rel=1e-3)
    assert tools["sculpting"].shown((value, half, digits)) == "2.00 ± 2.50"


def test_means_over_hypotheses_keep_trainings_apart(tools: dict[str, ModuleType]) -> None:
    rows = [[[(1.0, 0.1, 2)], [(2.0, 0.1, 2)]], [[(3.0, 0.3, 2)], [(6.0, 0.3, 2)]]]
    first, second = tools["sculpting"].means_over(rows)
    assert first == [(2.0, pytest.approx(0.2), 2)]
    assert second == [(4.0, pytest.approx(0.2), 2)]


def test_planing_factors_are_raised_to_a_power(tools: dict[str, ModuleType]) -> None:
    study, random = tools["sculpting"], np.random.default_rng(2)
    m_jj = random.uniform(2600, 8000, 4000)
    label = (random.random(4000) < (m_jj - 2000) / 8000).astype(np.int8)
    sample = study.TrainingSample(m_jj[:, np.newaxis], ("x",), label)
    whole, half, none = (
        study.Training("", planing=power).applied(sample, m_jj) for power in (1.0, 0.5, 0.0)
    )
    np.testing.assert_allclose(half.weight**2, whole.weight)
    assert none.weight is None
    assert study.Training("", disco=3.0).applied(sample, m_jj).disco == 3.0


def test_coverage_prints_a_row_for_each_truth(tools: dict[str, ModuleType]) -> None:
    study = tools["sculpting_coverage"]
    rows = run(study.main, ["--trials", "4", "--events", "800"])
    assert [row[:3] for row in rows] == [["800", "0.1", power] for power in ("0", "1", "2")]
    assert [row[4] == "" for row in rows] == [False, True, True]  # p-values are flat without any
    m_jj = study.draw_masses(5000, np.random.default_rng(1))
    spectra = [study.true_spectra(m_jj, power) for power in study.POWERS]
    distances = [study.true_distance(m_jj, *each) for each in spectra]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances[0] < distances[1] < distances[2]


def test_kept_scores_of_particles_are_measured(
    tools: dict[str, ModuleType], tmp_path: Path
) -> None:
    random = np.random.default_rng(3)
    m_jj = tools["sculpting_coverage"].draw_masses(6000, random)
    label = (np.arange(6000) < 500).astype(np.int8)
    np.savez(tmp_path / "test.npz", label=label, m_jj=m_jj)
    for name, power in (("boosting", 0.0), ("particles-scaled", 2.0)):
        for seed in (1, 2):
            score = power * np.log(m_jj) - np.log(random.random(6000)) + 2.0 * label
            np.savez(tmp_path / f"{name}-{seed}.npz", test=score)
    mean = "particles-scaled + boosting"
    command = tools["sculpting_of_scores"].particles
    rows = run(command, [str(tmp_path), "--mean", mean])
    assert [row[0] for row in rows] == ["`boosting`", "`particles-scaled`", f"`{mean}`"]
    assert [row[1] for row in rows] == ["2"] * 3
    powers = [float(row[6].split()[0]) for row in rows]
    assert powers[0] < powers[2] < powers[1]


def test_a_curve_and_its_picture(
    tools: dict[str, ModuleType], dijet_events: Any, tmp_path: Path
) -> None:
    config = load_config(None, ["preprocess.executor=serial"])
    folders = []
    for number, name in enumerate(("background", "test", "signal", "test-signal")):
        size = 3000 if name == "test" else 150  # a cut at eps_B = 0.01 needs ten events
        with write_lhco(tmp_path / f"{name}.h5", size, labelled=True) as writer:
            writer.append(dijet_events(size, seed=number)[:, :-1], np.full(size, number > 1))
        preprocess([tmp_path / f"{name}.h5"], tmp_path / name, config)
        folders.append(str(tmp_path / name))
    sizes = ["--signal-events", "100", "--background-events", "100", "--seeds", "1,2"]
    arguments = [*folders, *sizes, "--planing", "0.5,1"]
    found = CliRunner().invoke(tools["sculpting"].curve, arguments, catch_exceptions=False)
    rows = cells_of(found.output)
    assert [row[:2] for row in rows] == [
        ["search", "none"],
        ["search", "planing ^ 0.5"],
        ["search", "planing"],
    ]
    table, drawn = tmp_path / "boosting.md", tmp_path / "curve.png"
    table.write_text(found.output)
    curves: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tools["sculpting"], "plot_trade_offs", lambda made, *_, **__: curves.update(made)
        )
        run(tools["sculpting"].picture, [str(table), "--output", str(drawn)])
    (points,) = curves.values()
    assert list(curves) == ["boosting, search: planing"]
    assert [point.strength for point in points] == ["", "0.5", "1"]
    assert f"{points[1].sic[0]:.1f} ± {points[1].sic[1]:.1f}" == rows[1][2]
    assert f"{points[2].sculpting[0]:.2f} ± {points[2].sculpting[1]:.2f}" == rows[2][8]
    run(tools["sculpting"].picture, [str(table), "--output", str(drawn)])
    assert drawn.read_bytes().startswith(b"\x89PNG")
