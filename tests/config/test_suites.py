"""Suites of experiments: what they expand to, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hepllm.config.presets import suite_files
from hepllm.config.suites import (
    EvaluatedSetConfig,
    ExperimentConfig,
    SuiteConfig,
    dump_suite,
    load_suite,
    suite_from_tree,
    variant_config,
    variants,
)
from hepllm.errors import ConfigError

ROOT = Path(__file__).parents[2]


def test_a_grid_is_every_combination_of_its_values() -> None:
    grid = {"train.lr": [1e-4, 2e-4], "fusion.embedding": ["plain", "periodic"]}
    found = variants(suite_from_tree({"name": "any", "grid": grid}, "suite"))
    assert [one.name for one in found] == [
        "lr=0.0001,embedding=plain",
        "lr=0.0001,embedding=periodic",
        "lr=0.0002,embedding=plain",
        "lr=0.0002,embedding=periodic",
    ]
    assert found[1].overrides == ("train.lr=0.0001", 'fusion.embedding="periodic"')


def test_named_experiments_are_done_at_each_point_of_a_grid() -> None:
    tree = {
        "name": "any",
        "grid": {"train.lr": [0.4, 0.8]},
        "experiments": {"plain": None, "goes-by-it": {"map_of": "plain"}},
    }
    found = {one.name: one for one in variants(suite_from_tree(tree, "suite"))}
    assert list(found) == [
        *("plain,lr=0.4", "plain,lr=0.8"),
        *("goes-by-it,lr=0.4", "goes-by-it,lr=0.8"),
    ]
    assert found["goes-by-it,lr=0.8"].map_of == "plain,lr=0.8"
    assert found["plain,lr=0.4"].makes_map
    assert "train.dynamics=true" in found["plain,lr=0.4"].overrides


def test_settings_come_in_layers(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(
        "config: tiny\nset: [train.lr=1, train.epochs=2]\nexperiments: {b: [train.lr=3]}\n"
    )
    suite = load_suite(str(tmp_path / "suite.yaml"), overrides=["train.epochs=7"], seeds=3)
    assert suite.name == "suite"
    assert suite.seeds == (1, 2, 3)
    config = variant_config(suite, variants(suite)[0], 3)
    assert (config.train.lr, config.train.epochs, config.seed) == (3, 7, 3)
    assert config.backbone.name == "tiny-random"


def test_a_suite_is_read_as_it_was_written(tmp_path: Path) -> None:
    suite = load_suite("cartography", seeds=2)
    (tmp_path / "suite.yaml").write_text(dump_suite(suite))
    assert load_suite(str(tmp_path / "suite.yaml")) == suite


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"seed": 5}, r"^suite: seed: unknown key \(did you mean 'seeds'\?\)$"),
        ({"seeds": [1, 1]}, "^suite: seeds: 1 is given twice$"),
        ({"seeds": []}, "^suite: seeds: "),
        ({"experiments": {"a": {"sett": []}}}, r"a\.sett: unknown key \(did you mean 'set'\?\)$"),
        (
            {"experiments": {"a": ["train.lerning=1"]}},
            r"^suite: experiment a: train\.lerning: unknown key",
        ),
        ({"experiments": {"a/b": []}}, r"^suite: experiments"),
        (
            {"experiments": {"plain": [], "b": {"map_of": "plan"}}},
            r"map_of: no experiment 'plan' \(did you mean 'plain'\?\)$",
        ),
        ({"metrics": ["f1"]}, "^suite: metrics: no metric 'f1'; there are auc,"),
        ({"reference": "b"}, "^suite: reference: no experiment 'b'"),
        ({"set": ["train.epochs=-1"]}, r"train\.epochs"),
        ({"config": "nowhere.yaml"}, r"^suite: config: nowhere\.yaml: no such configuration file$"),
        ({"datasets": ["a/rnd", "b/rnd"]}, "datasets: their folders need different names"),
        ({"evaluate": [{"dataset": "a", "blackbox": "b"}]}, "give dataset or blackbox"),
        (
            {"set": ["train.self_training.rounds=1", "train.unsupervised.prior=0.1"]},
            r"train\.self_training\.rounds",
        ),
    ],
)
def test_what_is_wrong_is_one_line_with_the_key(tree: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        suite_from_tree({"name": "any", **tree}, "suite")
    assert "\n" not in str(caught.value)


def test_several_errors_are_told_together() -> None:
    with pytest.raises(ConfigError, match=r"^suite: 2 errors\n  seeds: .*\n  power: "):
        suite_from_tree({"name": "any", "seeds": [1, 1], "power": 2}, "suite")


def test_an_unknown_suite_is_told_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"losse: no such suite \(did you mean 'losses'\?\)"):
        load_suite("losse")


@pytest.mark.parametrize("name", sorted(suite_files()))
def test_a_shipped_suite_is_right_and_commented(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    silent = [line for line in suite_files()[name].read_text().splitlines() if "#" not in line]
    assert not silent


def test_the_page_names_every_key() -> None:
    page = (ROOT / "docs" / "how-to" / "experiments.md").read_text()
    for section in (SuiteConfig, ExperimentConfig, EvaluatedSetConfig):
        assert [key for key in section.model_fields if f"`{key}`" not in page] == []
