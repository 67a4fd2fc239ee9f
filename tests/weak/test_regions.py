"""Signal regions and their sidebands."""

from __future__ import annotations

import numpy as np
import pytest

from hepllm.config import SearchConfig
from hepllm.config.weak import WeakConfig
from hepllm.errors import InputError
from hepllm.search.spectra import bin_edges
from hepllm.weak.regions import choose_regions, describe

M_JJ = 2600 + np.random.default_rng(1).exponential(700, 30_000)


def _config(**changes: object) -> SearchConfig:
    return SearchConfig(weak=WeakConfig(**changes))


def test_scanned_regions_lie_on_bins_with_both_sidebands_in_the_range() -> None:
    config = _config()
    edges = bin_edges(config.m_jj_min, config.m_jj_max, config.bin_width)
    regions = choose_regions(M_JJ, config)
    assert len(regions) > 5
    for region in regions:
        for mass in (region.below, region.low, region.high, region.above):
            assert np.abs(edges - mass).min() < 1e-6
        assert edges[0] <= region.below < region.low < region.high < region.above <= edges[-1]
        assert region.high / region.low == pytest.approx(1.12, abs=0.02)
        assert min(region.counts(M_JJ)) >= config.weak.min_events
    starts = [region.low for region in regions]
    assert starts == sorted(starts)
    np.testing.assert_allclose(np.diff(np.log(starts)), np.log(starts[1] / starts[0]))
    assert describe(regions).startswith(f"{len(regions)} signal regions from")


def test_every_event_is_in_one_part_at_most() -> None:
    (region,) = choose_regions(M_JJ, _config(region=(3300.0, 3700.0)))
    parts = [region.lower(M_JJ), region.signal(M_JJ), region.upper(M_JJ)]
    assert np.sum(parts, axis=0).max() == 1
    assert region.counts(M_JJ) == tuple(int(one.sum()) for one in parts)
    np.testing.assert_array_equal(region.sidebands(M_JJ), parts[0] | parts[2])
    assert region.low == pytest.approx(3300, rel=0.013)
    assert region.high == pytest.approx(3700, rel=0.013)


def test_few_events_leave_no_region() -> None:
    with pytest.raises(InputError, match=r"no signal region .* has 200 events"):
        choose_regions(M_JJ[:400], _config())


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ((2600.0, 3000.0), "are not inside 2600 to 8000 GeV"),
        ((7000.0, 7900.0), "are not inside 2600 to 8000 GeV"),
        ((6500.0, 7200.0), "at least 200 each are needed"),
    ],
)
def test_a_region_that_does_not_fit_is_refused(region: tuple[float, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_regions(M_JJ, _config(region=region))


@pytest.mark.parametrize("features", ["all", ["jet1_mass", "m_jj"], ["jet1_pt"]])
def test_features_that_follow_the_mass_are_refused(features: object) -> None:
    with pytest.raises(ValueError, match="follows m_jj"):
        WeakConfig(features=features)


def test_named_features_keep_the_order_of_the_registry() -> None:
    config = WeakConfig(features=["tau21_light", "jet_mass_light"])
    assert config.feature_names() == ("jet_mass_light", "tau21_light")
    with pytest.raises(ValueError, match="two rising masses"):
        WeakConfig(region=(3700.0, 3300.0))
