"""The study of probabilities of hypotheses: exact ratios are calibrated, exaggerated ones not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from scipy.stats import norm

N_TRUTHS, N_EACH, N_BACKGROUND = 60, 12, 400
MASSES = np.round(np.geomspace(50, 800, 9))


@pytest.fixture(scope="module")
def study(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("hypothesis_probability")


def exact(study: ModuleType, seed: int, factor: float = 1.0) -> Any:
    """Events whose place is normal about that of their hypothesis, and wider for background."""
    random = np.random.default_rng(seed)
    centres = np.arange(len(MASSES)) / 1.5
    chosen = random.integers(len(MASSES), size=N_TRUTHS)
    truth = np.concatenate([np.repeat(np.arange(N_TRUTHS), N_EACH), np.full(N_BACKGROUND, -1)])
    place = random.normal(
        np.where(truth < 0, 2.0, centres[chosen][truth]), np.where(truth < 0, 4, 1)
    )
    scores: NDArray[np.float64] = norm.logpdf(place, centres[:, np.newaxis]) - norm.logpdf(
        place, 2, 4
    )
    pairs = np.column_stack([MASSES, np.full(len(MASSES), 45.0)])
    return study.Scored(factor * scores, truth, pairs[chosen], pairs)


def test_exact_ratios_give_probabilities(study: ModuleType) -> None:
    scored = exact(study, 1)
    for size in (4, 8):
        pools = study.draw_pools(scored, size, 4, 0.0, "truth")
        told, right, near = pools.outcomes(np.ones(len(pools.truth)))
        share, half = study.share_over(pools.truth, right)
        assert told.mean() == pytest.approx(share, abs=1.5 * half)
        assert ((pools.temperatures() > 0.5) & (pools.temperatures() < 2)).all()
        assert share < near.mean() <= 1
        assert pools.wrong == 0


def test_exaggerated_ratios_are_found_and_cooled(study: ModuleType) -> None:
    pools = study.draw_pools(exact(study, 2, factor=4.0), 8, 4, 0.0, "truth")
    told, right, _ = pools.outcomes(np.ones(len(pools.truth)))
    assert told.mean() > right.mean() + 0.1
    temperatures = pools.temperatures()
    assert ((temperatures > 2) & (temperatures < 8)).all()
    cooled, still, _ = pools.outcomes(temperatures)
    np.testing.assert_array_equal(still, right)
    assert abs(cooled.mean() - right.mean()) < 0.1


def test_a_temperature_is_that_of_the_other_truths(study: ModuleType) -> None:
    pools = study.draw_pools(exact(study, 5), 8, 2, 0.0, "truth")
    changed = dataclasses.replace(
        pools, nearest=np.where(pools.truth % 2 == 0, pools.nearest, pools.nearest[::-1])
    )
    odd = pools.truth % 2 == 1
    np.testing.assert_array_equal(changed.temperatures()[odd], pools.temperatures()[odd])
    assert (changed.temperatures()[~odd] != pools.temperatures()[~odd]).all()


def test_labels_that_the_model_finds_are_wrong_in_part(study: ModuleType) -> None:
    pools = study.draw_pools(exact(study, 3), 16, 1, 0.1, "iterated")
    assert 0 < pools.wrong < 0.3
    assert pools.log_weights.shape == (N_TRUTHS, len(MASSES))


def test_a_table_of_the_scores_so_far_is_printed(study: ModuleType, tmp_path: Path) -> None:
    made = exact(study, 4)
    rows = np.random.default_rng(4).permutation(len(made.truth))
    what = {"block": 300, "truth": made.truth[rows].tolist(), "masses": made.masses.tolist()}
    (tmp_path / "events.json").write_text(json.dumps({**what, "points": made.points.tolist()}))
    for number in (0, 2, 3):  # one block is not there yet
        chosen = rows[300 * number : 300 * (number + 1)]
        np.save(tmp_path / f"scores-{number:03d}.npy", made.scores[:, chosen])
    found = study.read_scored(tmp_path)
    assert found.scores.shape[1] == len(found.truth) == len(made.truth) - 300
    np.testing.assert_array_equal(found.truth[:300], made.truth[rows[:300]])
    words = ["table", str(tmp_path), "--size", "8", "--pools", "2"]
    printed = CliRunner().invoke(study.main, words)
    assert printed.exit_code == 0, printed.output
    assert printed.output.count("| all |") == 4
