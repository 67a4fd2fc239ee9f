from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepllm.config import Config, config_from_tree, dump_config, load_config, override_config
from hepllm.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_every_shipped_configuration_loads_and_survives_a_round_trip(
    file: Path, tmp_path: Path
) -> None:
    config = load_config(file)
    (tmp_path / "dumped.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "dumped.yaml") == config


def test_there_are_configurations_to_load() -> None:
    expected = {"demo.yaml", "hypotheses.yaml", "lhco-rnd.yaml", "tiny.yaml"}
    assert expected <= {file.name for file in CONFIGS}


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.e-3", "0.001", "+1e-3", ".1e-2"])
def test_scientific_notation_is_a_number(text: str, tmp_path: Path) -> None:
    assert load_config(None, [f"train.lr={text}"]).train.lr == 0.001
    file = tmp_path / "c.yaml"
    file.write_text(f"train:\n  lr: {text}\n")
    assert load_config(file).train.lr == 0.001


@given(st.floats(1e-300, 1e300))
def test_numbers_survive_an_override_exactly(value: float) -> None:
    assert load_config(None, [f"train.lr={value!r}"]).train.lr == value


def test_all_errors_come_at_once_with_paths_and_the_nearest_name(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("train: {lrr: 1, batch_size: 0, features: [m_j]}\nfusion: {depth: x}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file, ["trian.lr=1", "nonsense"])
    message = str(caught.value)
    assert str(file) in message
    for expected in (
        "train.lrr: unknown key (did you mean 'train.lr'?)",
        "train.batch_size: ",
        "train.features: unknown feature 'm_j' (did you mean 'm_jj'?)",
        "fusion.depth: ",
        "trian: unknown key (did you mean 'train'?)",
        "'nonsense': expected section.key=value",
    ):
        assert expected in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("- a\n", "expected a mapping"),
        ("a: [1\n", "not valid YAML"),
        ("x: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_files_that_are_no_configuration(content: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=expected):
        load_config(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such configuration file"):
        load_config(tmp_path / "gone.yaml")


def test_overrides_lie_on_top_of_a_resolved_configuration() -> None:
    config = load_config(None, ["train.lr=1e-4", "seed=5"])
    changed = override_config(config, ["train.nfa_lr=2e-3"])
    assert (changed.train.lr, changed.train.nfa_lr, changed.seed) == (1e-4, 2e-3, 5)


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().train.lr = 1.0  # type: ignore[misc]


def test_text_only_needs_a_text() -> None:
    with pytest.raises(ConfigError, match="contains no numbers"):
        load_config(None, ["fusion.enabled=false", "prompt.layout=minimal"])


def test_printed_features_must_be_among_the_inputs() -> None:
    with pytest.raises(ConfigError, match="not there: m_jj"):
        load_config(None, ["prompt.features=[m_jj]"])
    with pytest.raises(ConfigError, match="no feature that the registry marks"):
        load_config(None, ["train.features=[n_jets]", "prompt.layout=compact"])


@pytest.mark.parametrize(
    ("overrides", "layout"),
    [
        ([], "question"),
        (["fusion.enabled=false"], "compact"),
        (["prompt.features=[tau21_light]"], "compact"),
        (["prompt.layout=full"], "full"),
    ],
)
def test_the_layout_goes_by_what_has_to_be_said(overrides: list[str], layout: str) -> None:
    config = load_config(None, overrides)
    assert config.prompt_layout == layout
    assert config.with_layout().prompt.layout == layout
    before = config.prompt.before_questions(config.fusion)
    assert before.layout == ("minimal" if layout == "question" else layout)


@pytest.mark.parametrize("balance", ["1:1", "1:10", "3:2", "natural"])
def test_balances(balance: str) -> None:
    assert config_from_tree({"train": {"balance": balance}}, "here").train.balance == balance


@pytest.mark.parametrize("balance", ["1", "0:1", "1:0", "a:b", "1:1:1"])
def test_wrong_balances(balance: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.balance: expected .* such as 1:1 or 1:10"):
        config_from_tree({"train": {"balance": balance}}, "here")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("evaluation.prior=2", "should be 'training' or 'estimate', or less than 1 (found 2)"),
        ("train.features=foo", "'extended', 'all' or 'cathode', or a valid list (found "),
    ],
)
def test_one_wrong_value_is_one_error(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as told:
        load_config(overrides=[override])
    assert expected in str(told.value)
    assert str(told.value).startswith("configuration: 1 error\n")


def test_a_preset_fills_the_jets_and_contradicting_it_is_an_error() -> None:
    assert load_config(None, ["preprocess.preset=diary"]).preprocess.jets.radius == 0.5
    resolved = load_config(None, ["preprocess.preset=diary"])
    assert override_config(resolved, ["seed=3"]).preprocess == resolved.preprocess
    with pytest.raises(ConfigError, match=r"'diary' means jets.radius = 0.5, but it is set to 1"):
        load_config(None, ["preprocess.jets.radius=1.0", "preprocess.preset=diary"])


@pytest.mark.parametrize(
    ("text", "value"),
    [("1:10", "1:10"), ("1e-3", 0.001), ("2.5", 2.5), ("-3", -3), ("09", "09"), (".5", 0.5)],
)
def test_numbers_are_those_of_yaml_1_2(text: str, value: object, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"name: [{text}]\n")
    with pytest.raises(ConfigError, match=re.escape(f"found [{value!r}]")):
        load_config(tmp_path / "a.yaml")


def test_a_balance_needs_no_quotes() -> None:
    assert load_config(overrides=["train.balance=1:10"]).train.balance == "1:10"


def test_a_search_needs_enough_bins() -> None:
    def bins(*settings: str) -> Config:
        return load_config(overrides=[f"evaluation.search.{one}" for one in settings])

    with pytest.raises(
        ConfigError, match=r"m_jj_max = 2700 and bin_width = 0\.2 make 0 bins"
    ) as raised:
        bins("m_jj_max=2700", "bin_width=0.2")
    assert "m_jj_min = 2600" in str(raised.value)
    # log(8000 / 2600) = 1.12: 11 bins of 0.1, 45 of 0.025.
    assert bins("bin_width=0.1").evaluation.search.bin_width == 0.1
    with pytest.raises(ConfigError, match="make 11 bins; a search needs 12"):
        bins("bin_width=0.1", "widest=10")
    with pytest.raises(ConfigError, match="make 7 bins; a search needs 10"):
        bins("bin_width=0.15", "widest=2")
