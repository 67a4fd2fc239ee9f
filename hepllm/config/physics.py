"""Settings of simulation and preprocessing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hepllm.config.inputs import AngleUnit, Column, ColumnMap, EnergyUnit, Format, RootConfig
from hepllm.config.section import (
    Count,
    Filter,
    Fraction,
    NonNegative,
    Positive,
    Section,
    WholeNumber,
    matches_any,
    setting,
)
from hepllm.errors import InputError
from hepllm.hypotheses.signal import LIGHTEST, Decay, Product, Signal
from hepllm.schema import EXTENDED_FEATURES, FEATURES, TAKEN_NAMES, is_search_safe

if TYPE_CHECKING:
    from hepllm.expressions import NewVariables

Executor = Literal["serial", "processes", "dask"]


class DetectorConfig(Section):
    """The fast detector simulation, similar to Delphes with its CMS card."""

    enabled: bool = setting(True, "Simulate the detector; false: keep visible generated particles")
    magnetic_field: NonNegative = setting(3.8, "Field along the beam; that of CMS", "T")
    radius: Positive = setting(1.29, "Radius of the cylinder in front of the CMS calorimeters", "m")
    half_length: Positive = setting(3.0, "Half length of the same cylinder; as in CMS", "m")
    ecal_energy_min: NonNegative = setting(
        0.5, "Minimum energy of an ECAL tower, and of a neutral candidate in it", "GeV"
    )
    ecal_significance_min: NonNegative = setting(
        2.0, "Minimum energy of an ECAL tower over its resolution; 2 agrees with the R&D events"
    )
    hcal_energy_min: NonNegative = setting(
        1.0, "Minimum energy of an HCAL tower, and of a neutral candidate in it", "GeV"
    )
    hcal_significance_min: NonNegative = setting(
        1.0, "Minimum energy of an HCAL tower over its resolution; 1 agrees with the R&D events"
    )
    pt_min: NonNegative = setting(0.1, "Minimum pT of a candidate; as in the R&D events", "GeV")
    eta_max: Annotated[float, Field(gt=0, le=5)] = setting(
        5.0, "Maximum |eta| of a candidate; the calorimeters end at 5"
    )
    max_particles: Annotated[int, Field(ge=1, le=700)] = setting(
        700, "Maximum number of candidates kept, hardest first; the official layout has 700"
    )


Width = Annotated[float, Field(gt=0, le=0.2)]

LIGHTEST_OF: Mapping[Decay, float] = {
    "q": LIGHTEST,
    "qq": LIGHTEST,
    "bb": 20.0,
    "qqq": 30.0,
    "tt": 380.0,
}
"""Smallest mass in GeV of X or Y with each decay: above the threshold by some natural widths."""


class SignalConfig(Section):
    """The resonance Z' -> X Y and the decays of X and Y; defaults as in the R&D sample."""

    m_zprime: Positive = setting(3500.0, "Mass of Z'", "GeV")
    m_x: Positive = setting(500.0, "Mass of X; without meaning if decay_x is q", "GeV")
    m_y: Positive = setting(100.0, "Mass of Y; without meaning if decay_y is q", "GeV")
    decay_x: Decay = setting("qq", "Decay of X; tt: two tops in one jet; q: X is a single quark")
    decay_y: Decay = setting("qq", "Decay of Y")
    width: Width = setting(
        1e-3, "Natural width of Z' over its mass; 1e-3 is far below the resolution"
    )

    @model_validator(mode="after")
    def _decays_are_open(self) -> Self:
        masses = {}
        for name, decay in (("x", self.decay_x), ("y", self.decay_y)):
            mass, least = getattr(self, f"m_{name}"), LIGHTEST_OF[decay]
            if decay == "q":
                continue
            if mass < least:
                raise ValueError(f"m_{name} = {mass:g} must be at least {least:g} for {decay}")
            masses[f"m_{name}"] = mass
        if sum(masses.values()) >= self.m_zprime:
            raise ValueError(
                f"{' + '.join(masses)} = {sum(masses.values()):g} must be below "
                f"m_zprime = {self.m_zprime:g}"
            )
        return self

    @property
    def truth(self) -> Signal:
        """The signal as a hypothesis states it; a single quark has no mass."""
        pairs = ((self.m_x, self.decay_x), (self.m_y, self.decay_y))
        first, second = (Product(None if decay == "q" else mass, decay) for mass, decay in pairs)
        return Signal((first, second), self.m_zprime)


_Masses = Annotated[tuple[Positive, ...], Field(min_length=1)]


class GridConfig(Section):
    """Signals of many masses and decays: grid.h5 for limits by mass, or rnd.h5 for training."""

    events: WholeNumber = setting(0, "Signal events of each point; 250 are usual; 0: no such file")
    m_zprime: _Masses = setting(
        (2700.0, 3300.0, 4000.0, 4900.0, 6000.0, 7400.0), "Masses of Z'", "GeV"
    )
    m_jets: _Masses = setting(
        (50.0, 70.0, 100.0, 150.0, 220.0, 330.0, 500.0, 750.0),
        "Masses of X and Y; each pair once, the heavier as X",
        "GeV",
    )
    max_jet_share: Annotated[float, Field(gt=0, lt=0.5)] = setting(
        0.19, "Maximum mass of X over that of Z'; above it most X decay into two jets of R = 1.0"
    )
    random_points: WholeNumber = setting(
        0, "Points drawn between the smallest and largest masses, flat in log; 0: all combinations"
    )
    decays: Annotated[tuple[Decay, ...], Field(min_length=1)] = setting(
        ("qq",), "Decays of X and of Y, independent of each other"
    )
    exclude: tuple[tuple[Decay, Decay], ...] = setting(
        (), "Decays of X and Y, in any order, that no point has together, such as [[qqq, bb]]"
    )
    widths: Annotated[tuple[Width, ...], Field(min_length=1)] = setting(
        (1e-3,), "Natural widths of Z' over its mass"
    )


class SimulateConfig(Section):
    """Events of ``hepllm simulate``, similar to those of the R&D sample (arXiv:2101.08320)."""

    rnd: WholeNumber = setting(6000, "Events in rnd.h5, with labels; 0: no such file")
    blackbox: WholeNumber = setting(5000, "Events in blackbox.h5, with master key; 0: no such file")
    signal_fraction: Fraction = setting(0.5, "Share of signal in rnd.h5")
    blackbox_signal_fraction: Fraction = setting(0.02, "Share of signal in blackbox.h5")
    signal: SignalConfig = SignalConfig()
    rnd_signals: Literal["one", "grid"] = setting(
        "one", "Signal events of rnd.h5; one: of simulate.signal; grid: of all points of the grid"
    )
    grid: GridConfig = GridConfig()
    detector: DetectorConfig = DetectorConfig()
    trigger_pt: Positive = setting(
        1200.0, "Minimum pT of the trigger jet, after the detector; as in the R&D sample", "GeV"
    )
    trigger_eta: Positive = setting(2.5, "Maximum |eta| of the trigger jet")
    trigger_radius: Positive = setting(1.0, "Radius of the trigger's anti-kT jets")
    pt_hat_min: Positive = setting(
        900.0,
        "Minimum pT of QCD partons; above 0.75 trigger_pt, events that trigger are lost",
        "GeV",
    )
    multiparton_interactions: bool = setting(
        False, "Multiparton interactions; false, because the R&D events agree only without them"
    )
    pythia_settings: tuple[str, ...] = setting(
        (), "Further settings of Pythia, such as 'TimeShower:renormMultFac = 4'"
    )
    block_size: Count = setting(250, "Events per work item and seed, so the events depend on it")
    workers: WholeNumber = setting(0, "Worker processes; 0: one per usable core")
    executor: Executor = setting("processes", "Where work items run; see docs/how-to/preprocess.md")


class SoftDropConfig(Section):
    """Grooming with soft drop (Larkoski et al., arXiv:1402.2657, equation 1.1)."""

    z_cut: Annotated[float, Field(ge=0, lt=0.5)] = setting(
        0.1, "Minimum share of the softer branch in the pT of both; 0.1 as in CMS"
    )
    beta: float = setting(0.0, "Exponent of the angle between the branches; 0 as in CMS")


class JetsConfig(Section):
    """Clustering of particles with anti-kT (Cacciari et al., arXiv:0802.1189)."""

    radius: Positive = setting(1.0, "Radius of the jets; as in the LHC Olympics (arXiv:2101.08320)")
    pt_min: Positive = setting(20.0, "Minimum pT of a jet that counts", "GeV")
    eta_max: Positive | None = setting(
        None, "Maximum |eta| of a jet that counts; particles are not cut; null: no limit"
    )
    n_jets: Annotated[int, Field(ge=2, le=3)] = setting(
        3, "Number of leading jets with features; 2: jet3_* and m_jjj are null"
    )
    soft_drop: SoftDropConfig | None = setting(
        None, "Grooming for jet*_softdrop_mass; null: no such masses, which saves 2 ms per jet"
    )


class SplitConfig(Section):
    """Shares of the splits; a seeded hash of its content assigns each event to a split."""

    train: Fraction = setting(0.6, "Share of events for training")
    val: Fraction = setting(0.15, "Share of events to choose checkpoints, cuts and calibration")
    test: Fraction = setting(0.25, "Share of events for results")
    seed: int = setting(2020, "Seed of the hash; datasets with the same seed share their splits")

    @model_validator(mode="after")
    def _shares_are_whole(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + val + test must be 1, found {total:g}")
        return self


class PreprocessConfig(Section):
    """How event files become a dataset."""

    preset: Literal["lhco", "diary"] | None = setting(
        None, "Jet parameters by name: lhco has radius 1.0, diary 0.5, both pT > 20 GeV"
    )
    format: Format = setting("auto", "Format of the input files; auto: determined from the content")
    label: Column | None = setting(
        None, "Column or branch of the labels; null: the usual one if there; none: no labels"
    )
    weight: Column | None = setting(
        None, "Column or branch of event weights; null: the usual one if there; none: all 1"
    )
    source_labels: dict[str, Annotated[int, Field(ge=0, le=2)]] = setting(
        {}, "Labels of whole files without labels, by file stem: 0 background, above 0 signal"
    )
    energy_unit: EnergyUnit = setting("GeV", "Energy unit of the input files; datasets are in GeV")
    angle_unit: AngleUnit = setting("rad", "Unit of azimuths in the input files; datasets have rad")
    columns: ColumnMap | None = setting(
        None, "For feature tables, the column of each feature; null: columns with known names"
    )
    root: RootConfig = RootConfig()
    observers: tuple[str, ...] = setting(
        (), "Further columns of feature tables or ROOT trees to keep; patterns such as 'weight_*'"
    )
    new_variables: dict[str, str] = setting(
        {}, "Features of your own as expressions of others, such as asymmetry: 'jet2_pt / jet1_pt'"
    )
    jets: JetsConfig = JetsConfig()
    splits: SplitConfig = SplitConfig()
    select: Filter | None = setting(
        None, "Event filter on features, such as '3300 < m_jj < 3700'; null: keep all events"
    )
    extended: bool = setting(
        False,
        "Columns tau*_b*_light and _heavy for train.features: extended, N-subjettiness to N = 9",
    )
    particles_per_jet: WholeNumber = setting(
        0, "Hardest constituents of each leading jet to keep in particles_*; 0: no such columns"
    )
    chunk_size: Count = setting(1000, "Events per work item; the dataset does not depend on it")
    workers: WholeNumber = setting(0, "Worker processes; 0: one per usable core")
    executor: Executor = setting("processes", "Where work items run; see docs/how-to/preprocess.md")
    dask_scheduler: str | None = setting(
        None, "Address of a Dask scheduler; null: start a local one"
    )
    retries: WholeNumber = setting(1, "Further tries of a chunk after its worker failed")
    chunk_timeout: Positive | None = setting(
        1800.0, "Time after which a worker is assumed to hang and is replaced; null: never", "s"
    )
    on_bad_event: Literal["fail", "skip"] = setting(
        "fail", "Whether unusable events (NaN, pT < 0) stop the command, or are left out"
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        """Sets the jet parameters of a preset; another value for one of them is an error."""
        if not isinstance(values, Mapping) or not isinstance(values.get("preset"), str):
            return values
        name, jets = values["preset"], values.get("jets") or {}
        preset = JET_PRESETS.get(name, {})
        if not isinstance(jets, Mapping):
            return values
        for key, value in preset.items():
            if jets.get(key, value) != value:
                raise ValueError(
                    f"preset '{name}' means jets.{key} = {value:g}, but it is set to {jets[key]}"
                )
        return {**values, "jets": {**preset, **jets}}

    @field_validator("observers", "new_variables")
    @classmethod
    def _own_names_are_free(cls, names: Any) -> Any:
        taken = [name for name in names if name in TAKEN_NAMES]
        if taken:
            raise ValueError(f"'{taken[0]}' is a name of hepllm; a dataset has that column anyway")
        return names

    @field_validator("new_variables")
    @classmethod
    def _expressions_are_valid(cls, texts: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        try:
            found = _parse_variables(texts, info.data.get("observers", ()))
        except InputError as error:
            raise ValueError(str(error)) from None
        return {name: one.text for name, one in found.expressions.items()}

    def variables(self) -> NewVariables:
        """The new variables, parsed."""
        return _parse_variables(self.new_variables, self.observers)

    def is_search_safe(self, names: Iterable[str]) -> bool:
        """Whether a cut on a score of these features does not sculpt the m_jj spectrum."""
        return is_search_safe(self.variables().inputs(names))

    @model_validator(mode="after")
    def _selection_has_its_features(self) -> Self:
        words = set(re.findall(r"\w+", self.select or ""))
        if not self.extended and (missing := sorted(words & set(EXTENDED_FEATURES))):
            raise ValueError(f"select reads {missing[0]}, which only extended: true computes")
        return self


def _parse_variables(texts: Mapping[str, str], observers: Iterable[str]) -> NewVariables:
    from hepllm.expressions import NewVariables  # noqa: PLC0415 (imports numpy)

    words = set(re.findall(r"[^\W\d]\w*", " ".join(texts.values())))
    own = {word for word in words if matches_any(word, observers)}
    return NewVariables.parse(texts, {*FEATURES, *own})


JET_PRESETS: Mapping[str, Mapping[str, float]] = {
    "lhco": {"radius": 1.0, "pt_min": 20.0},
    "diary": {"radius": 0.5, "pt_min": 20.0},
}
