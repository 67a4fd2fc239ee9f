"""What is known about every setting, and the commented files made from it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hepllm.config import Config, load_config, settings_by_path
from hepllm.config.presets import preset_files
from hepllm.config.reference import (
    Setting,
    commented_yaml,
    section_paths,
    settings_of,
    settings_tree,
    summary_of,
)
from hepllm.config.section import Section
from hepllm.errors import ConfigError

SETTINGS = [
    pytest.param(setting, id=f"{path}.{setting.name}".lstrip("."))
    for path, section in section_paths()
    for setting in settings_of(section)
]
RICH = (
    "preprocess.jets.soft_drop={}",
    "preprocess.columns={m_jj: 0, jet1_pt: {column: 'pt [GeV]', scale: 0.001}}",
    "preprocess.root.particles=[{pt: a, eta: b, phi: c}, {pt: d, eta: e, phi: f, pid: g}]",
    "preprocess.source_labels={qcd: 0, 'z#prime': 1}",
    "preprocess.select='3300 < m_jj < 3700 and not tau21_light > 0.5'",
    "backbone.lora.targets=[q_proj, v_proj]",
    "backbone.name='a: b # c'",
    "train.balance=1:10",
    "train.lr=1e-300",
    "evaluation.prior=0.02",
)
JETS = ("preprocess.root.jets={pt: a, eta: b, phi: c, mass: d, tau1: 'J[5][0]'}",)


def leaf_fields(section: type[Section] = Config) -> int:
    """Settings that are no sections, counted without the reference's own walk."""
    schema = section.model_json_schema()
    definitions = [schema, *schema["$defs"].values()]
    names = [one.get("properties", {}).values() for one in definitions]
    return sum("$ref" not in field for fields in names for field in fields)


def test_no_setting_is_forgotten() -> None:
    # A section that stands at one place is one definition of the schema.
    assert len(SETTINGS) == leaf_fields()
    known = {parameter.id for parameter in SETTINGS}
    assert set(settings_by_path(Config())) <= known
    assert {"preprocess.columns.*.scale", "preprocess.root.particles[].pt"} <= known


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_is_described_in_one_line(setting: Setting) -> None:
    text = setting.description
    assert 8 <= len(text) <= 120
    assert "\n" not in text
    assert text[0].isupper() or re.match(r"\d|smollm2|p-value", text)
    assert not text.endswith(".")
    assert setting.kind


@pytest.mark.parametrize("section", [section for _, section in section_paths()])
def test_every_section_has_a_summary(section: type[Section]) -> None:
    assert 8 <= len(summary_of(section)) <= 100


@pytest.mark.parametrize("setting", SETTINGS)
def test_units_stand_where_names_tell_that_there_is_one(setting: Setting) -> None:
    if isinstance(setting.default, float) and re.match(r"m_|pt_|trigger_pt|sqrt_s", setting.name):
        assert setting.unit == "GeV"


@pytest.mark.parametrize("name", sorted(preset_files()))
def test_a_commented_preset_loads_as_the_preset(name: str, tmp_path: Path) -> None:
    config = load_config(preset_files()[name])
    (tmp_path / "my.yaml").write_text(commented_yaml(config))
    assert load_config(tmp_path / "my.yaml") == config


@pytest.mark.parametrize("overrides", [RICH, JETS], ids=["rich", "jets"])
def test_every_kind_of_value_survives(overrides: tuple[str, ...], tmp_path: Path) -> None:
    config = load_config(None, overrides)
    (tmp_path / "my.yaml").write_text(commented_yaml(config))
    assert load_config(tmp_path / "my.yaml") == config


def test_each_setting_stands_below_its_description() -> None:
    lines = commented_yaml(load_config(None, ["train.lr=1e-3"])).splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("  lr:"))
    assert lines[place] == "  lr: 0.001  # default: 0.0002"
    assert re.fullmatch(r"  # Peak learning rate .* \[number > 0\]", lines[place - 1])
    place = lines.index("    m_jj_min: 2600.0")
    assert lines[place - 1].endswith("[GeV, number > 0]")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("train.loss", {"train": {"loss": Config().train.loss.model_dump()}}),
        ("train.lr", {"train": {"lr": 2e-4}}),
        ("seed", {"seed": 1}),
    ],
)
def test_a_part_is_a_configuration_too(path: str, expected: dict[str, Any]) -> None:
    assert yaml.safe_load(commented_yaml(Config(), path)) == expected


def test_an_unknown_part_is_named_with_the_nearest() -> None:
    for show in (commented_yaml, settings_tree):
        with pytest.raises(ConfigError, match=r"'train\.los' \(did you mean 'train\.loss'\?\)"):
            show(Config(), "train.los")


def test_the_tree_has_all_that_a_program_needs() -> None:
    config = load_config(None, ["backbone.quantization=nf4", "train.memory_limit_gib=6"])
    tree = json.loads(json.dumps(settings_tree(config)))
    assert {path: entry["value"] for path, entry in tree.items()} == (
        settings_by_path(config) | {"preprocess.source_labels": {}, "preprocess.new_variables": {}}
    )
    assert tree["backbone.quantization"]["choices"] == ["none", "nf4"]
    assert tree["backbone.quantization"]["default"] == "none"
    assert tree["train.memory_limit_gib"]["unit"] == "GiB"
    assert tree["train.memory_limit_gib"]["type"] == "number > 0 | null"
    assert tree["fusion.n_tokens"]["type"] == "integer from 1 to 64"
    assert tree["fusion.enabled"]["choices"] == [True, False]
    assert tree["evaluation.prior"]["type"] == "training | estimate | number > 0, < 1"
    assert tree["evaluation.views"]["type"] == "list of ratio such as 1:10, or natural"
    assert list(settings_tree(config, "train.loss")) == [
        f"train.loss.{name}" for name in type(config.train.loss).model_fields
    ]


def test_defaults_are_valid_and_the_same_in_files() -> None:
    # Pydantic does not validate defaults.
    assert Config.model_validate(Config().model_dump(mode="json")) == Config()
