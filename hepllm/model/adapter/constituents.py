"""Coordinates of a jet's constituents relative to the jet, and what an encoder reads of them.

All of them are invariant under a boost along the beam and a rotation around it, since the
constituents are massless and the jet has a rapidity: an encoder cannot know where a jet flies.
With the jet's mass, angles tell its pT, because m is about pT times an angle. The other
representations hide the pT as far as it follows from the mass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hepllm.config import Representation

_LEAST_MASS = 1.0
"""GeV; a smaller jet mass counts as this, so that logarithms and ratios are finite."""

_LEAST_MASS_SHARE = 0.01
"""Smallest m / pT with which a jet is boosted to rest: float32 has seven digits."""

_LEAST_SHARE, _LEAST_DISTANCE = 1e-5, 1e-4

_UNIT_PT = 1000.0
"""GeV; momenta transverse to the jet axis are in units of it, so that they are like angles."""


@dataclass(frozen=True, eq=False)
class Constituents:
    """The K constituents of J jets in coordinates of their jet.

    Attributes:
        position: shape (J, K, D), where a constituent is; 0 where there is none.
        share: shape (J, K), its share of the jet's pT, or twice that of its mass at rest; 0 where
            there is none.
        present: shape (J, K), whether there is one.
        jet: shape (J, 2), logarithms of the jet's mass in GeV, and of the sum of all shares.
    """

    position: Tensor
    share: Tensor
    present: Tensor
    jet: Tensor


def relative_constituents(jets: Tensor, representation: Representation) -> Constituents:
    """Computes the coordinates of constituents relative to their jet.

    Args:
        jets: shape (J, 1 + K, 4), each jet, then its constituents, as
            ``hepllm.data.particles.leading_jets`` makes them.
        representation: ``angles``: rapidity and azimuth relative to the jet. ``scaled``: these
            times pT / m of the jet. ``momenta``: these times the pT of the jet in TeV, which is
            their size if the jet were boosted along its axis to 1 TeV. ``rest``: momenta over m in
            the jet's rest frame, the last axis along its flight.
    """
    pt, eta, phi, mass = (axis.unsqueeze(-1) for axis in jets[:, 0].nan_to_num().unbind(-1))
    present = jets[:, 1:, 0] > 0  # False for NaN
    own_pt, own_eta, own_phi, _ = jets[:, 1:].nan_to_num().unbind(-1)
    pt = torch.where(pt > 0, pt, 1.0)
    rapidity = torch.asinh(pt * torch.sinh(eta) / torch.hypot(pt, mass))
    along_beam = torch.where(present, own_eta - rapidity, 0.0)
    around_beam = torch.remainder(own_phi - phi + math.pi, 2 * math.pi) - math.pi
    around_beam = torch.where(present, around_beam, 0.0)
    share = torch.where(present, own_pt / pt, 0.0)
    position = torch.stack([along_beam, around_beam], dim=-1)
    log_mass = mass.clamp(min=_LEAST_MASS).log()
    log_sum = share.sum(1, keepdim=True).clamp(min=_LEAST_SHARE).log()
    jet = torch.cat([log_mass, log_sum], dim=-1)
    if representation == "rest":
        position, share = _at_rest(along_beam, around_beam, share, (mass / pt))
    elif representation == "scaled":
        position = position * (pt / mass.clamp(min=_LEAST_MASS)).unsqueeze(-1)
    elif representation == "momenta":
        position = position * (pt / _UNIT_PT).unsqueeze(-1)
    return Constituents(position, share, present, jet)


def _at_rest(
    along_beam: Tensor, around_beam: Tensor, share: Tensor, mass_share: Tensor
) -> tuple[Tensor, Tensor]:
    """Momenta over m in the jet's rest frame, shape (J, K, 3), and energies over m / 2.

    The beam boost that takes the jet to rapidity 0 leaves its pT, and the jet flies along x then.
    """
    ratio = mass_share.clamp(min=_LEAST_MASS_SHARE)
    px, py = share * around_beam.cos(), share * around_beam.sin()
    pz, energy = share * along_beam.sinh(), share * along_beam.cosh()
    of_jet = torch.hypot(torch.ones_like(ratio), ratio)
    flight = (of_jet * px - energy) / ratio
    at_rest = (of_jet * energy - px) / ratio
    momenta = torch.stack([py, pz, flight], dim=-1) / ratio.unsqueeze(-1)
    return momenta, 2 * at_rest / ratio


def constituent_features(of: Constituents) -> Tensor:
    """What the encoder reads of each constituent, shape (J, K, 3 + 2 D).

    Its position, the logarithms of its share and of its distance from the axis, its share, and the
    position weighted with the share.
    """
    share = of.share.unsqueeze(-1)
    distance = of.position.norm(dim=-1, keepdim=True).clamp(min=_LEAST_DISTANCE)
    logs = [share.clamp(min=_LEAST_SHARE).log(), distance.log()]
    return torch.cat([of.position, *logs, share, share * of.position], dim=-1)


def pair_features(of: Constituents) -> Tensor:
    """What the attention reads of each pair of constituents, shape (J, K, K, 3).

    Logarithms of their distance, of their relative transverse momentum (the smaller share times
    the distance) and of the softer one's share in the pair: equation 3 of arXiv:2202.03772 without
    the invariant mass, which follows from them.
    """
    first, second = of.share.unsqueeze(2), of.share.unsqueeze(1)
    apart = of.position.unsqueeze(2) - of.position.unsqueeze(1)
    distance = apart.norm(dim=-1).clamp(min=_LEAST_DISTANCE).log()
    softer = torch.minimum(first, second).clamp(min=_LEAST_SHARE).log()
    total = (first + second).clamp(min=_LEAST_SHARE).log()
    return torch.stack([distance, softer + distance, softer - total], dim=-1)
