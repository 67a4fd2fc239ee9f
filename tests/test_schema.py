from __future__ import annotations

from typing import get_args

import pytest

from hepllm.schema import (
    CATHODE_FEATURES,
    EXTENDED_FEATURES,
    FEATURES,
    TABLE_QUANTITIES,
    FeatureSet,
    dataset_features,
    feature_names,
    is_search_safe,
)


def test_the_features_of_the_design_are_all_there() -> None:
    per_jet = (
        *"pt eta phi energy mass n_particles pt_lead".split(),  # noqa: SIM905
        *"tau1 tau2 tau3 tau21 tau32 softdrop_mass".split(),  # noqa: SIM905
    )
    expected = {f"jet{jet}_{name}" for jet in (1, 2) for name in per_jet}
    expected |= {f"jet3_{name}" for name in ("pt", "eta", "phi", "mass")}
    expected |= {
        "n_particles",
        "n_jets",
        "m_jj",
        "m_jjj",
        "delta_eta",
        "delta_phi",
        "delta_r",
        "ht",
    }
    expected |= set(CATHODE_FEATURES)
    assert set(dataset_features(extended=False)) == expected


def test_extended_n_subjettiness_is_there_by_mass_order() -> None:
    expected = {
        f"tau{n}_{beta}_{jet}"
        for n in range(1, 10)
        for beta in ("b05", "b1", "b2")
        for jet in ("light", "heavy")
    }
    assert set(EXTENDED_FEATURES) == expected
    assert len(EXTENDED_FEATURES) == 54
    assert tuple(FEATURES) == dataset_features(extended=True)
    assert feature_names("extended") == (*feature_names("search"), *EXTENDED_FEATURES)
    assert is_search_safe(feature_names("extended"))


def test_the_search_set_has_nothing_that_follows_m_jj() -> None:
    search = feature_names("search")
    for name in search:
        assert name.split("_", 1)[-1] not in {"jj", "pt", "eta", "energy", "lead", "pt_lead", "r"}
    assert not {"m_jj", "m_jjj", "ht", "delta_eta", "delta_phi", "delta_r"} & set(search)
    assert is_search_safe(search)
    assert is_search_safe(feature_names("cathode"))
    assert not is_search_safe(feature_names("all"))


@pytest.mark.parametrize("selection", get_args(FeatureSet))
def test_sets_hold_known_inputs_once(selection: str) -> None:
    names = feature_names(selection)  # type: ignore[arg-type]
    assert len(set(names)) == len(names)
    assert all(FEATURES[name].model_input for name in names)


def test_units_are_gev_or_radians() -> None:
    assert {feature.unit for feature in FEATURES.values()} == {"GeV", "rad", ""}
    assert all(
        feature.unit == "GeV"
        for name, feature in FEATURES.items()
        if name.endswith(("_pt", "_mass", "_energy")) or name in {"m_jj", "m_jjj", "ht"}
    )


def test_what_is_computed_on_request_only_is_in_no_set() -> None:
    optional = {name for name, feature in FEATURES.items() if feature.optional}
    assert optional == {"jet1_softdrop_mass", "jet2_softdrop_mass", *EXTENDED_FEATURES}
    assert not any(optional & set(feature_names(selection)) for selection in ("all", "search"))
    assert optional & set(feature_names("extended")) == set(EXTENDED_FEATURES)


def test_quantities_of_tables_are_no_features() -> None:
    assert not set(TABLE_QUANTITIES) & set(FEATURES)
    assert set(TABLE_QUANTITIES.values()) == {"GeV", ""}
