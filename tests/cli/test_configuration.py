"""``hepllm config`` through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from hepllm.cli import cli
from hepllm.config import Config, config_from_tree, load_config
from hepllm.config.presets import preset_files
from hepllm.errors import ConfigError


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["config", *arguments], catch_exceptions=False)


def shown(*arguments: str) -> Config:
    done = run(*arguments)
    assert done.exit_code == 0
    return config_from_tree(yaml.safe_load(done.stdout), "standard output")


def test_it_shows_the_resolved_configuration(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("train: {epochs: 2}\npreprocess: {preset: diary}\n")
    found = shown("--config", str(file), "--set", "fusion.depth=3", "--seed", "7")
    assert found == load_config(file, ["fusion.depth=3", "seed=7"])
    assert found.preprocess.jets.radius == 0.5
    assert shown() == Config()


def test_the_defaults_are_shown_whatever_else_is_given(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("train: {epochs: 2}\n")
    assert shown("--defaults", "--config", str(file), "--seed", "7") == Config()


def test_a_section_alone() -> None:
    done = run("--section", "train.loss", "--set", "train.loss.focal_gamma=2")
    assert list(yaml.safe_load(done.stdout)) == ["train"]
    assert "    focal_gamma: 2.0  # default: 0.0\n" in done.stdout


def test_json_is_one_document() -> None:
    tree = json.loads(run("--json", "--section", "evaluation.search").stdout)
    assert tree["evaluation.search.m_jj_min"] == {
        "value": 2600.0,
        "default": 2600.0,
        "unit": "GeV",
        "type": "number > 0",
        "choices": None,
        "description": Config.model_fields["evaluation"]
        .annotation.model_fields["search"]  # type: ignore[union-attr]
        .annotation.model_fields["m_jj_min"]
        .description,
    }


@pytest.mark.parametrize("name", sorted(preset_files()))
def test_a_file_that_begins_from_a_preset_equals_it(name: str, tmp_path: Path) -> None:
    made = tmp_path / "my.yaml"
    made.write_text(run("--init", name).stdout)
    assert load_config(made) == load_config(preset_files()[name])
    comments = [line for line in made.read_text().splitlines() if "# " in line]
    assert len(comments) > 100
    assert name in comments[0]


def test_a_preset_can_be_changed_on_the_way() -> None:
    assert shown("--init", "demo", "--set", "train.epochs=1").train.epochs == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--init", "lhcorrnd"), "no preset 'lhcorrnd' (did you mean 'lhco-rnd'?)"),
        (("--section", "trian"), "no section or setting 'trian' (did you mean 'train'?)"),
        (("--section", "trian", "--json"), "did you mean 'train'?"),
    ],
)
def test_unknown_names_are_one_line_with_the_nearest(
    arguments: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(ConfigError) as told:
        run(*arguments)
    assert expected in str(told.value)
    assert "\n" not in str(told.value)
    assert told.value.exit_code == 2


def test_a_preset_and_a_file_exclude_each_other() -> None:
    done = run("--init", "demo", "--config", "my.yaml")
    assert done.exit_code == 2
    assert "give --init, or --defaults, or --config" in done.stderr
