"""The feature registry: the one list of features with names, order, units and digits.

Energies, momenta and masses are in GeV, angles in radians. Physics computes these columns, the
dataset stores them, prompts print them and the numeric fusion adapter reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 1

Transform = Literal["identity", "log"]
FeatureSet = Literal["search", "extended", "all", "cathode"]

SIGNAL, BACKGROUND, UNKNOWN = 1, 0, -1

SPLITS: tuple[str, ...] = ("train", "val", "test")
"""Names of the splits; a dataset stores positions in this tuple."""


@dataclass(frozen=True)
class Feature:
    """One number that describes an event.

    Attributes:
        name: column name.
        unit: ``GeV``, ``rad`` or empty.
        meaning: one line for tables and axis labels.
        transform: applied before standardisation; ``log`` is log(1 + x) for long-tailed positive x.
        integers: digits before the decimal point in a compact prompt.
        decimals: digits after it, as many as the detector resolution supports.
        signed: whether a compact prompt prints the sign.
        mass_like: a cut on a score that uses it sculpts m_jj; never in the search set.
        model_input: False for azimuths, which by symmetry carry no information alone.
        in_prompt: printed in a compact prompt by default.
        symbol: short name in a compact prompt; the column name where empty.
        integral: a count.
        optional: computed on request only, and a model input only where it is named.
    """

    name: str
    unit: str
    meaning: str
    transform: Transform = "identity"
    integers: int = 4
    decimals: int = 0
    signed: bool = False
    mass_like: bool = False
    model_input: bool = True
    in_prompt: bool = False
    symbol: str = ""
    integral: bool = False
    optional: bool = False

    @property
    def axis_label(self) -> str:
        """The meaning with its unit, for a plot's axis."""
        return f"{self.meaning} [{self.unit}]" if self.unit else self.meaning


def _jet_features(jet: str, ordinal: str) -> Iterator[Feature]:
    who = f"{ordinal} jet in pT"
    azimuth = f"phi of the {who}"
    yield Feature(f"{jet}_pt", "GeV", f"pT of the {who}", "log", 5, mass_like=True)
    yield Feature(f"{jet}_eta", "", f"eta of the {who}", "identity", 1, 2, True, mass_like=True)
    yield Feature(f"{jet}_phi", "rad", azimuth, "identity", 1, 2, True, model_input=False)
    yield Feature(f"{jet}_mass", "GeV", f"mass of the {who}", "log", 4)
    if jet != "jet3":
        yield from _substructure_features(jet, who)


def _substructure_features(jet: str, who: str) -> Iterator[Feature]:
    yield Feature(f"{jet}_energy", "GeV", f"energy of the {who}", "log", 5, mass_like=True)
    name, count, symbol = f"{jet}_n_particles", f"constituents of the {who}", f"n{jet[-1]}"
    yield Feature(name, "", count, "log", 3, in_prompt=True, symbol=symbol, integral=True)
    leading = f"pT of the hardest constituent of the {who}"
    yield Feature(f"{jet}_pt_lead", "GeV", leading, "log", 4, mass_like=True)
    for n in (1, 2, 3):
        yield Feature(f"{jet}_tau{n}", "", f"{n}-subjettiness of the {who}", "identity", 1, 3)
    yield Feature(f"{jet}_tau21", "", f"tau2 / tau1 of the {who}", "identity", 1, 2)
    yield Feature(f"{jet}_tau32", "", f"tau3 / tau2 of the {who}", "identity", 1, 2)
    groomed = f"soft-drop mass of the {who}"
    yield Feature(f"{jet}_softdrop_mass", "GeV", groomed, "log", 4, optional=True)


def _event_features() -> Iterator[Feature]:
    yield Feature("n_particles", "", "input particles with pT > 0", "log", 4, integral=True)
    yield Feature("n_jets", "", "jets that pass the selection", "identity", 2, integral=True)
    yield Feature("m_jj", "GeV", "mass of the two leading jets", "log", 5, mass_like=True)
    yield Feature("m_jjj", "GeV", "mass of the three leading jets", "log", 5, mass_like=True)
    difference = "eta of jet1 minus eta of jet2"
    yield Feature("delta_eta", "", difference, "identity", 1, 2, True, mass_like=True)
    angle = "azimuth between the two leading jets, in [0, pi]"
    yield Feature("delta_phi", "rad", angle, "identity", 1, 2, mass_like=True)
    distance = "sqrt(delta_eta^2 + delta_phi^2) of the two leading jets"
    yield Feature("delta_r", "", distance, "identity", 2, 2, mass_like=True)
    yield Feature("ht", "GeV", "scalar sum of jet pT", "log", 5, mass_like=True)


_LIGHT, _HEAVY = "lighter of the two leading jets", "heavier of the two leading jets"


def _mass_ordered_features() -> Iterator[Feature]:
    light, heavy = _LIGHT, _HEAVY
    lighter = f"mass of the {light}"
    difference = "heavier minus lighter mass of the two leading jets"
    yield Feature("jet_mass_light", "GeV", lighter, "log", 4, in_prompt=True, symbol="m")
    yield Feature("jet_mass_delta", "GeV", difference, "log", 4, in_prompt=True, symbol="dm")
    for name, who, symbol in (("light", light, "t"), ("heavy", heavy, "T")):
        ratio = f"tau2 / tau1 of the {who}"
        yield Feature(f"tau21_{name}", "", ratio, "identity", 1, 2, in_prompt=True, symbol=symbol)


EXTENDED_BETAS: Mapping[str, float] = {"b05": 0.5, "b1": 1.0, "b2": 2.0}
"""Exponents of the distance in the extended N-subjettiness, by their part of a feature's name."""

EXTENDED_MAX_N = 9


def _extended_features() -> Iterator[Feature]:
    for jet, who in (("light", _LIGHT), ("heavy", _HEAVY)):
        for label, beta in EXTENDED_BETAS.items():
            for n in range(1, EXTENDED_MAX_N + 1):
                name = f"tau{n}_{label}_{jet}"
                meaning = f"{n}-subjettiness with beta = {beta:g} of the {who}"
                yield Feature(name, "", meaning, "identity", 1, 4, optional=True)


FEATURES: Mapping[str, Feature] = {
    feature.name: feature
    for feature in (
        *_jet_features("jet1", "leading"),
        *_jet_features("jet2", "second"),
        *_jet_features("jet3", "third"),
        *_event_features(),
        *_mass_ordered_features(),
        *_extended_features(),
    )
}
"""Every feature by name, in the order of the columns on disk."""


def feature_of(name: str) -> Feature:
    """A feature of the registry, or the description of a column of the user's own.

    Of such a column nothing is known: it has no unit and a sign, and may follow m_jj.
    """
    own = Feature(name, "", name, decimals=3, signed=True, mass_like=True, optional=True)
    return FEATURES.get(name, own)


LEADING_JETS = 2
"""Jets, leading in pT, whose constituents a model reads."""

TABLE_QUANTITIES: Mapping[str, str] = {
    **{f"jet{jet}_{axis}": "GeV" for jet in (1, 2, 3) for axis in ("px", "py", "pz")},
    **{f"jet{jet}_tau{n}_unnormalized": "" for jet in (1, 2) for n in (1, 2, 3)},
    "jet_mass_heavy": "GeV",
}
"""Units of quantities in feature tables from which features are computed.

Of unnormalized N-subjettiness only the ratios are features.
"""

EXTENDED_FEATURES = tuple(feature.name for feature in _extended_features())
"""N-subjettiness that a dataset has with ``preprocess.extended``: N = 1 to 9 with three exponents.

As in Finke et al., arXiv:2309.13111 ("Extended 3"), whose jets are ordered by mass too.
"""

CATHODE_FEATURES = ("jet_mass_light", "jet_mass_delta", "tau21_light", "tau21_heavy")
"""The four inputs of CATHODE (Hallin et al., arXiv:2109.00546)."""


ROW_COLUMNS = (
    *("event_id", "source", "event_digest", "label", "label_raw", "weight", "split"),
    *("particles_pt", "particles_eta", "particles_phi", "particles_jet"),
)
"""Columns of a dataset that are no features."""

TAKEN_NAMES = frozenset({*FEATURES, *TABLE_QUANTITIES, *ROW_COLUMNS})
"""Names that a column of the user's own cannot have."""


def feature_names(selection: FeatureSet) -> tuple[str, ...]:
    """Names of a feature set in registry order.

    ``search`` has those that do not follow m_jj, ``extended`` also ``EXTENDED_FEATURES``.
    """
    if selection == "cathode":
        return CATHODE_FEATURES
    if selection == "extended":
        return (*feature_names("search"), *EXTENDED_FEATURES)
    return tuple(
        name
        for name, feature in FEATURES.items()
        if feature.model_input and not feature.optional
        if selection == "all" or not feature.mass_like
    )


def dataset_features(extended: bool) -> tuple[str, ...]:
    """Names of the features of a dataset, which has the extended ones on request only."""
    return tuple(name for name in FEATURES if extended or name not in EXTENDED_FEATURES)


def is_search_safe(names: Iterable[str]) -> bool:
    """Whether a cut on a score of these features does not sculpt the m_jj spectrum."""
    return not any(feature_of(name).mass_like for name in names)
