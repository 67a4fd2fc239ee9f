"""Coordinates of constituents, against the four-vectors of independent arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import vector
from numpy.typing import NDArray

from hepllm.model.adapter.constituents import (
    constituent_features,
    pair_features,
    relative_constituents,
)

REPRESENTATIONS = ["angles", "scaled", "momenta", "rest"]


def jets_of(n_jets: int, n_constituents: int, *, seed: int = 1, eta: float = 0.7) -> torch.Tensor:
    """Jets with all of their constituents: the jet is the sum of them."""
    random = np.random.default_rng(seed)
    shape = (n_jets, n_constituents)
    parts = vector.array(
        {
            "pt": random.exponential(100.0, shape) + 1.0,
            "eta": eta + 0.2 * random.normal(size=shape),
            "phi": 3.0 + 0.2 * random.normal(size=shape),  # some beyond pi
            "mass": np.zeros(shape),
        }
    )
    return together(parts)


def together(parts: vector.VectorNumpy4D) -> torch.Tensor:
    whole = parts.sum(axis=1)
    rows = np.concatenate([coordinates(whole)[:, None], coordinates(parts)], axis=1)
    rows[:, 1:, 3] = 0.0
    return torch.from_numpy(rows)


def coordinates(momenta: vector.VectorNumpy4D) -> NDArray[np.float64]:
    return np.stack([momenta.pt, momenta.eta, momenta.phi, momenta.mass], axis=-1)


def vectors(rows: torch.Tensor) -> vector.VectorNumpy4D:
    pt, eta, phi, mass = np.moveaxis(rows.numpy(), -1, 0)
    return vector.array({"pt": pt, "eta": eta, "phi": phi, "mass": mass})


def test_angles_are_relative_to_the_jet() -> None:
    rows = jets_of(3, 5)
    of = relative_constituents(rows, "angles")
    jet, parts = vectors(rows[:, 0]), vectors(rows[:, 1:])
    np.testing.assert_allclose(of.position[..., 0], parts.rapidity - jet.rapidity[:, None])
    np.testing.assert_allclose(of.position[..., 1], parts.deltaphi(jet[:, None]))
    np.testing.assert_allclose(of.share, parts.pt / jet.pt[:, None])
    np.testing.assert_allclose(of.jet[:, 0], np.log(jet.mass))
    assert of.position.abs().max() < 2  # nothing went around the wrong side


def test_at_rest_momenta_balance_and_energies_are_the_mass() -> None:
    of = relative_constituents(jets_of(4, 6), "rest")
    np.testing.assert_allclose(of.position.sum(1), np.zeros((4, 3)), atol=1e-9)
    np.testing.assert_allclose(of.share.sum(1), np.full(4, 2.0))  # twice the energy over the mass
    np.testing.assert_allclose(2 * of.position.norm(dim=-1), of.share)  # massless


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_boosts_and_rotations_around_the_beam_change_nothing(representation: str) -> None:
    rows = jets_of(3, 5)
    before = relative_constituents(rows, representation)
    parts = vectors(rows[:, 1:])
    moved = parts.boostZ(beta=0.6).rotateZ(2.1)
    after = relative_constituents(together(moved), representation)
    for one, other in zip(vars(before).values(), vars(after).values(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


@pytest.mark.parametrize("representation", ["scaled", "rest"])
def test_a_jet_of_higher_energy_looks_the_same(representation: str) -> None:
    """Jets of one mass that fly at right angles to the beam, boosted along their way."""
    rest = vector.array(
        {
            "px": np.zeros((1, 3)),
            "py": np.array([[40.0, -25.0, -15.0]]),
            "pz": np.array([[0.0, 20.0, -20.0]]),
            "mass": np.zeros((1, 3)),
        }
    )
    slow, fast = (
        relative_constituents(together(rest.boostX(gamma=gamma)), representation)
        for gamma in (15.0, 30.0)
    )
    np.testing.assert_allclose(slow.position, fast.position, rtol=0.02, atol=0.02)
    np.testing.assert_allclose(slow.share, fast.share, rtol=0.01)
    assert float(slow.jet[0, 0]) == pytest.approx(float(fast.jet[0, 0]))


def test_momenta_are_angles_of_a_jet_of_one_tev() -> None:
    rows = jets_of(3, 5)
    angles, momenta = (relative_constituents(rows, kind) for kind in ("angles", "momenta"))
    expected = angles.position * rows[:, 0, 0, None, None] / 1000
    np.testing.assert_allclose(momenta.position, expected)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_places_without_a_constituent_are_empty(representation: str) -> None:
    rows = torch.cat([jets_of(2, 3), torch.full((2, 2, 4), torch.nan)], dim=1).float()
    rows[1] = torch.nan  # no such jet
    of = relative_constituents(rows, representation)
    assert of.present.tolist() == [[True] * 3 + [False] * 2, [False] * 5]
    assert not of.position[~of.present].any()
    assert not of.share[~of.present].any()
    whole = relative_constituents(jets_of(2, 3).float(), representation)
    torch.testing.assert_close(of.position[0, :3], whole.position[0])
    for values in (constituent_features(of), pair_features(of), of.jet):
        assert torch.isfinite(values).all()


def test_features_are_the_formulas() -> None:
    of = relative_constituents(jets_of(1, 2), "angles")
    (x, y), share = of.position[0, 0].tolist(), float(of.share[0, 0])
    expected = [x, y, np.log(share), np.log(np.hypot(x, y)), share, share * x, share * y]
    np.testing.assert_allclose(constituent_features(of)[0, 0], expected)
    apart = float((of.position[0, 0] - of.position[0, 1]).norm())
    softer, total = float(of.share[0].min()), float(of.share[0].sum())
    expected = np.log([apart, softer * apart, softer / total])
    np.testing.assert_allclose(pair_features(of)[0, 0, 1], expected)
    np.testing.assert_allclose(pair_features(of)[0, 1, 0], expected)
