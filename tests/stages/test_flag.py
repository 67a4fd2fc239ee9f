from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hepllm.cartography.flags import RULES
from hepllm.cli import cli
from hepllm.config import FlagsConfig
from hepllm.data.dataset import read_dataset
from hepllm.data.notes import read_notes
from hepllm.stages.flag import flag_dataset


def test_a_dataset_gets_a_side_table_that_filters_read(recipes: Path, tmp_path: Path) -> None:
    report = flag_dataset(recipes / "rnd", FlagsConfig(), tmp_path)
    record, notes = report.record, read_notes(tmp_path / "flags.parquet", "")
    assert record.n_events == len(notes.event_digest) == 240
    assert set(record.rules) | set(record.skipped) == set(RULES)
    assert set(record.skipped) == {"unit_jump", "not_believed"}
    broken = {name: notes.column(name) for name in record.rules}
    for name, one in record.rules.items():
        assert sum(one.flagged.values()) == broken[name].sum()
    score = np.sum([RULES[name].weight * mask for name, mask in broken.items()], axis=0)
    np.testing.assert_allclose(notes.column("score"), score)
    assert sum(record.suspicious.values()) == (score >= 1).sum()
    table = read_dataset(recipes / "rnd").load(("jet1_pt",))
    # The simulated events of tests are soft.
    np.testing.assert_array_equal(broken["below_trigger"], table.column("jet1_pt") < 1200)
    assert not broken["wrong_m_jj"].any()
    assert not broken["same_event"].any()


def test_particles_are_read_some_events_at_a_time(
    recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FlagsConfig(max_abs_eta=1.0)
    whole = flag_dataset(recipes / "rnd", config, tmp_path / "whole").record
    assert 0 < sum(whole.rules["outside_acceptance"].flagged.values()) < 240
    monkeypatch.setattr("hepllm.stages.flag._AT_ONCE", 50)
    parts = flag_dataset(recipes / "rnd", config, tmp_path / "parts").record
    assert parts.rules == whole.rules
    files = [(tmp_path / name / "flags.parquet").read_bytes() for name in ("whole", "parts")]
    assert files[0] == files[1]


def test_the_command_prints_what_rules_found(recipes: Path, tmp_path: Path) -> None:
    command = ["flag", str(recipes / "rnd"), "--output", str(tmp_path), "--json"]
    done = CliRunner().invoke(cli, [*command, "--set", "flags.trigger_pt=0"])
    assert done.exit_code == 0, done.output
    tree = json.loads(done.stdout)["rnd"]
    assert tree["rules"]["below_trigger"]["alone"] == 0
    assert tree["settings"]["trigger_pt"] == 0
