"""Views of an event leave invariant what physics does."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from hepllm.labelling.pool import make_pool
from hepllm.labelling.views import complete, distinct_views, view_of
from hepllm.model.inputs import ModelInputs

NAMES = (
    *("jet1_pt", "jet1_eta", "jet1_phi", "jet1_mass", "jet2_pt", "jet2_eta", "jet2_phi"),
    *("jet2_mass", "m_jj", "delta_eta", "delta_phi"),
)


def events(n_events: int = 50) -> ModelInputs:
    """Two massive jets each, with what follows from them."""
    random = np.random.default_rng(4)
    pt, mass = random.uniform(500, 2000, (2, n_events)), random.uniform(50, 500, (2, n_events))
    eta, phi = random.normal(0, 1, (2, n_events)), random.uniform(-np.pi, np.pi, (2, n_events))
    jets = np.stack([pt, eta, phi, mass], axis=-1)
    particles = np.swapaxes(jets, 0, 1)[:, :, None].astype(np.float32)
    difference = np.abs((phi[0] - phi[1] + np.pi) % (2 * np.pi) - np.pi)
    columns = [*jets[0].T, *jets[1].T, m_jj(jets), eta[0] - eta[1], difference]
    return ModelInputs(np.stack(columns, axis=1), particles)


def m_jj(jets: np.ndarray) -> np.ndarray:
    pt, eta, phi, mass = np.moveaxis(jets, -1, 0)
    momentum = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)])
    energy = np.sqrt((momentum**2).sum(0) + mass**2)
    return np.sqrt(energy.sum(0) ** 2 - (momentum.sum(1) ** 2).sum(0))


@pytest.mark.parametrize("view", [0, 1, 2, 3])
def test_masses_and_angles_are_those_of_the_jets(view: int) -> None:
    before, after = events(), view_of(events(), NAMES, view, seed=7)
    jets = np.stack([after.numbers[:, :4], after.numbers[:, 4:8]])
    column = {name: after.numbers[:, place] for place, name in enumerate(NAMES)}
    assert_allclose(m_jj(jets), before.numbers[:, 8], rtol=1e-9)
    assert_allclose(column["m_jj"], before.numbers[:, 8])
    assert_allclose(column["delta_eta"], column["jet1_eta"] - column["jet2_eta"], atol=1e-12)
    wrapped = np.abs((column["jet1_phi"] - column["jet2_phi"] + np.pi) % (2 * np.pi) - np.pi)
    assert_allclose(column["delta_phi"], wrapped, atol=1e-9)
    assert after.particles is not None
    assert_allclose(after.particles[:, 0, 0], jets[0], rtol=1e-5, atol=1e-5)
    assert np.array_equal(after.numbers, before.numbers) == (view == 0)


def test_views_that_show_the_same_are_left_out() -> None:
    inputs = events()
    assert distinct_views(inputs, NAMES, 4, seed=1) == [0, 1, 2, 3]
    masses = ModelInputs(inputs.numbers[:, [8]])
    assert distinct_views(masses, ("m_jj",), 4, seed=1) == [0]
    pair = ModelInputs(inputs.numbers[:, [3, 7]])
    assert distinct_views(pair, ("jet1_mass", "jet2_mass"), 4, seed=1) == [0, 2]
    assert distinct_views(inputs, (*NAMES[:-1], "own"), 4, seed=1) == [0]
    assert not complete(("jet1_mass", "m_jj"))


def test_views_of_an_event_stand_beside_each_other(event_table) -> None:
    table = event_table(6, ("jet1_mass", "jet2_mass"))
    pool = make_pool(table, ModelInputs(table.features), 4, seed=1)
    assert pool.n_views == 2
    assert pool.event.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert np.array_equal(pool.inputs.numbers[::2], table.features, equal_nan=True)
    assert np.array_equal(pool.inputs.numbers[1::2], table.features[:, ::-1], equal_nan=True)
