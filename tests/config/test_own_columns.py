"""Columns of the user's own in the configuration: new variables, observers, patterns."""

from __future__ import annotations

import pytest

from hepllm.config import dump_config, load_config, override_config
from hepllm.errors import ConfigError

OWN = ("preprocess.new_variables={ratio: jet2_pt /  jet1_pt}", "preprocess.observers=[run, w_*]")


def test_own_columns_are_features_of_the_model_and_of_selections() -> None:
    config = load_config(
        None,
        [
            *OWN,
            "train.features=[ratio, run, w_3, m_jj, jet1_pt]",
            "preprocess.select=ratio > 0.5 and w_1 < 3",
            "evaluation.select=run == 1",
        ],
    )
    assert config.train.feature_names() == ("jet1_pt", "m_jj", "ratio", "run", "w_3")
    assert config.preprocess.new_variables == {"ratio": "jet2_pt / jet1_pt"}
    assert override_config(config, ["seed=2"]).train == config.train
    assert "ratio: jet2_pt / jet1_pt" in dump_config(config)


def test_patterns_choose_features() -> None:
    config = load_config(None, [*OWN, "train.features=[jet*_tau21, tau21_*, rat*, n_jets]"])
    assert config.train.feature_names() == (
        *("jet1_tau21", "jet2_tau21", "n_jets", "tau21_light", "tau21_heavy", "ratio"),
    )


def test_what_is_computed_from_mass_like_features_is_not_search_safe() -> None:
    safe = load_config(None, ["preprocess.new_variables={heavy: jet_mass_light + jet_mass_delta}"])
    assert safe.preprocess.is_search_safe(("heavy", "tau21_light"))
    assert not load_config(None, OWN).preprocess.is_search_safe(("ratio",))
    assert not load_config(None, OWN).preprocess.is_search_safe(("run",))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "train.features=[ratoi]",
            "train.features: unknown feature 'ratoi' (did you mean 'ratio'?)",
        ),
        ("train.features=[jot*_pt]", "train.features: unknown feature 'jot*_pt'"),
        ("preprocess.select=ratoi > 1", "preprocess.select: event filter"),
        ("evaluation.select=other > 1", "evaluation.select: event filter"),
        ("preprocess.new_variables={m_jj: jet1_pt}", "'m_jj' is a name of hepllm"),
        ("preprocess.new_variables={label: jet1_pt}", "'label' is a name of hepllm"),
        (
            "preprocess.new_variables={a: jet1_p}",
            "preprocess.new_variables: a: expression 'jet1_p'",
        ),
        ("preprocess.new_variables={a: 3}", "preprocess.new_variables.a: "),
        ("preprocess.observers=[weight]", "'weight' is a name of hepllm"),
    ],
)
def test_mistakes_are_named(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [*OWN, setting])
    assert message in str(caught.value)
