"""Settings of the flags of suspicious events."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hepllm.config.section import (
    Count,
    Fraction,
    NonNegative,
    Positive,
    Probability,
    Section,
    setting,
)


class FlagsConfig(Section):
    """The rules of ``hepllm flag``; docs/how-to/flag.md has all of them."""

    trigger_pt: NonNegative = setting(
        1200.0, "Smallest pT of a leading jet that fires the trigger; 0: any", "GeV"
    )
    max_abs_eta: Positive = setting(
        5.0, "Largest |eta| of a particle that the detector sees; calorimeters end at 5"
    )
    sqrt_s: Positive = setting(
        13_000.0, "Energy of the collisions: no mass is above it, no jet's energy above half", "GeV"
    )
    tolerance_m_jj: Positive = setting(
        0.02, "Relative difference of m_jj from the mass of the two leading jets"
    )
    lead_share: Probability = setting(0.9, "Share of a leading jet's pT that one particle carries")
    near: Positive = setting(
        1e-4, "Relative difference of jets (pT, mass, eta) below which two events are near-equal"
    )
    max_mass_over_pt: Positive = setting(1.0, "Largest mass of a leading jet over its pT")
    unit_jump: Annotated[float, Field(gt=1)] = setting(
        10.0, "Factor between the medians of a file and of the other files: another unit"
    )
    believed: Fraction = setting(
        0.05, "Confidence in the label, averaged over mapped runs, below which it is doubted"
    )
    neighbours: Count = setting(
        30, "Events of each class, nearest by jet masses and tau21, that give its density"
    )
    neighbour_share: Fraction = setting(
        0.05, "Share of its class in the densities, at equal classes, below which it is doubted"
    )
    threshold: Positive = setting(1.0, "Score from which an event is suspicious")
