"""The benchmark for GPUs, on a CPU, where it has no memory to report."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

TOOL = Path(__file__).parents[2] / "tools" / "bench" / "bench_gpu.py"


def test_it_measures_what_the_budget_chose_and_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(TOOL.parent)
    tool = importlib.import_module("bench_gpu")
    output = tmp_path / "gpu.json"
    command = ["--backbone", "tiny-random", "--cards", "8", "--scan"]
    settings = ("backbone.device=cpu", "train.batch_size=2", "train.lora_optimizer=adamw")
    command += [word for setting in settings for word in ("--set", setting)]
    command += ["--steps", "1", "--output", str(output)]
    done = CliRunner().invoke(tool.main, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (result,) = json.loads(output.read_text()).values()
    assert result["limit"] == 6.5
    trained = [one for one in result["measured"] if one["what"] == "train"]
    assert {(one["micro_batch"], one["checkpointing"]) for one in trained} == {
        (size, checkpointing) for size in (1, 2) for checkpointing in (False, True)
    }
    assert all(one["events"] > 0 and one["predicted"] > 0 for one in trained)
    # Each token meets all 7 projections of both layers: 64 x (64 + 2 x 32 + 64 + 3 x 128) weights.
    n_weights = 2 * 64 * (64 + 2 * 32 + 64 + 3 * 128)
    for one in result["measured"]:
        passes = 4 if one["what"] == "train" else 2
        expected = one["tokens"] * passes * n_weights / result["peak"]
        assert abs(one["share"] / expected - 1) < 1e-9
    assert "train (chosen)" in done.stdout


def test_the_matrix_peak_is_that_of_the_models_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOOL.parent)
    tool = importlib.import_module("bench_gpu")
    made: list[torch.dtype] = []

    def zeros(*_: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        made.append(dtype)
        return torch.zeros(2, 2, dtype=dtype, device=device)

    monkeypatch.setattr(torch, "randn", zeros)
    assert tool.matrix_peak(torch.device("cpu"), torch.float16) > 0
    assert made == [torch.float16]
