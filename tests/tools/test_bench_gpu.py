"""The benchmark for GPUs, on a CPU, where it has no memory to report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "bench_gpu.py"


def test_it_measures_what_the_budget_chose_and_all_else(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    command = [sys.executable, str(TOOL), "--backbone", "tiny-random", "--cards", "8", "--scan"]
    settings = ("backbone.device=cpu", "train.batch_size=2", "train.lora_optimizer=adamw")
    command += [word for setting in settings for word in ("--set", setting)]
    command += ["--steps", "1", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
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
