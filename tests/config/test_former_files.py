"""Files and overrides of former versions still load; ``former_run.yaml`` is out of a run folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from hepllm.config import changed_settings, load_config, override_config
from hepllm.errors import ConfigError

FORMER = Path(__file__).parent / "former_run.yaml"
FORMERLY = ("boosting", "mlp", "logistic", "cut")
ALL = (
    *("boosting", "boosting_extended", "boosting_hypothesis", "boosting_differences"),
    *("mlp", "mlp_differences", "logistic", "cut", "particles"),
)


def test_the_configuration_of_a_former_run_loads() -> None:
    config = load_config(FORMER)
    assert config.evaluation.baselines == FORMERLY
    present = load_config(Path(__file__).parents[2] / "configs" / "one-signal.yaml")
    changed = list(changed_settings(present, config))
    assert changed == [
        *("name", "preprocess.extended"),
        *("evaluation.batch_size", "evaluation.baselines", "evaluation.calibration"),
        "evaluation.search.workers",
    ]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["evaluation.baselines=false"], ()),
        (["evaluation.baselines=true"], ALL),
        (["evaluation.peers=[cut]"], ("cut",)),
        (["evaluation.baselines=true", "evaluation.peers=[cut, mlp]"], ("cut", "mlp")),
        (["evaluation.baselines=false", "evaluation.peers=[cut]"], ()),
        (["evaluation.baselines=[mlp]"], ("mlp",)),
        (["evaluation.baselines=[]"], ()),
    ],
)
def test_former_and_new_keys_of_the_baselines(
    overrides: list[str], expected: tuple[str, ...]
) -> None:
    assert load_config(None, overrides).evaluation.baselines == expected
    resolved = load_config(None, ["seed=3"])
    assert override_config(resolved, overrides).evaluation.baselines == expected


def test_a_wrong_baseline_is_named() -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.baselines\.0: .* \(found 'boostin'\)"):
        load_config(None, ["evaluation.peers=[boostin]"])
    with pytest.raises(ConfigError, match=r"evaluation\.baselines: .* \(found None\)"):
        load_config(None, ["evaluation.baselines=null"])
