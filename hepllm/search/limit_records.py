"""Records of upper limits in ``submission.json``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from hepllm.records import Gev, Pair, Record
from hepllm.search.measurements import (
    EventNumber,
    GevRange,
    SignalEfficiency,
)


class Limit(Record):
    """An upper limit: observed, and its quantiles in spectra without signal."""

    observed: float
    """The limit of the data."""
    expected: float
    """Median of the limits of spectra without signal."""
    expected_68: Pair
    """Their 16 % and 84 % quantiles."""
    expected_95: Pair | None
    """Their 2.5 % and 97.5 % quantiles; null in files of former versions."""


class LeastEfficient(Record):
    """The limit for the jets, among those of the signal grid, that pass the cut least often."""

    m_jets_gev: GevRange
    """Masses of X and Y."""
    efficiency: float
    """Share of such signal in the box that passes the cut in the m_jj range."""
    observed: EventNumber
    """Observed limit on the signal events in the box, at the lower end of the efficiency."""


class UpperLimit(Record):
    """Upper limits on a signal of one mass."""

    mass_gev: Gev
    """Mass of the resonance."""
    selection: float
    """The selection, as the share of events that it keeps."""
    selected: Annotated[Limit, Field(json_schema_extra={"unit": "events"})]
    """Signal events that pass the cut, in the m_jj range."""
    signal_efficiency: SignalEfficiency | None
    """Share of the signal in the box that passes the cut in the m_jj range; null: not known."""
    box: Annotated[Limit | None, Field(json_schema_extra={"unit": "events"})]
    """Signal events in the box, with the error of the efficiency; null where that is not known."""
    least_efficient: LeastEfficient | None = None
    """The same for the jets that pass the cut least often; needs a signal grid."""
    trigger_efficiency: float | None = None
    """Share of generated signal events that trigger and so are in the box; needs a signal grid."""
    cross_section_fb: Annotated[Limit | None, Field(json_schema_extra={"unit": "fb"})] = None
    """Cross section times branching fraction; needs a signal grid and a luminosity."""

    @model_validator(mode="before")
    @classmethod
    def _read_former(cls, tree: Any) -> Any:
        """Reads limits of the time before they had a band of 95 %."""
        if not isinstance(tree, dict) or "n_signal_selected" not in tree:
            return tree
        observed, in_box = tree["n_signal_selected"], tree.get("n_signal_box")
        band = {
            "expected": tree["expected"],
            "expected_68": (tree["expected_16"], tree["expected_84"]),
            "expected_95": None,
        }
        factor = None if in_box is None or not observed else in_box / observed
        scaled = factor and {
            "observed": in_box,
            "expected": factor * band["expected"],
            "expected_68": [factor * one for one in band["expected_68"]],
            "expected_95": None,
        }
        return {
            "mass_gev": tree["mass_gev"],
            "selection": tree["efficiency"],
            "selected": {"observed": observed, **band},
            "signal_efficiency": None,
            "box": scaled,
        }


class UpperLimits(Record):
    """Upper limits over the mass range."""

    confidence: float
    """Confidence level of the limits."""
    method: str
    """Statistical method of the limits."""
    n_toys: int | None = None
    """Pseudo-experiments for each hypothesis and number of events."""
    efficiency_of: str | None = None
    """The signal whose efficiency the limits on the box use; null where it is not known."""
    efficiency_by_mass: bool = False
    """Whether the efficiency is that at each mass, from a signal grid, or the same at all."""
    luminosity_ifb: Annotated[float | None, Field(json_schema_extra={"unit": "1/fb"})] = None
    """Integrated luminosity of the box, as the user stated it."""
    by_mass: list[UpperLimit]
    """In rising order of the mass."""
