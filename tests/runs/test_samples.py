"""Events of other datasets than that of a run."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hepllm.errors import InputError
from hepllm.runs.folder import open_run
from hepllm.runs.samples import tell_missing


def test_features_that_no_event_has_are_told(
    tiny_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = open_run(tiny_run)
    dataset, names = run.dataset(), run.config.train.feature_names()
    table = dataset.load(names, "train")
    numbers = np.nan_to_num(table.features)
    with caplog.at_level(logging.WARNING):
        tell_missing(run, dataset, replace(table, features=numbers))
        assert not caplog.records
        numbers[:, 1] = np.nan
        tell_missing(run, dataset, replace(table, features=numbers))
    assert f"missing in every event, so {run.folder.name} scores without" in caplog.text
    assert caplog.text.rstrip().endswith(f": {names[1]}")
    numbers[:] = np.nan
    with pytest.raises(InputError, match=r"no event has any feature that .* reads"):
        tell_missing(run, dataset, replace(table, features=numbers))
