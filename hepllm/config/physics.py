"""Settings of simulation and preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from hepllm.config.inputs import Column, ColumnMap, EnergyUnit, Format, RootConfig
from hepllm.config.section import Count, Fraction, Positive, Section, Workers
from hepllm.errors import InputError


class DetectorConfig(Section):
    """Parameters of the fast detector simulation; see ``hepllm.physics.detector``."""

    enabled: bool = True
    magnetic_field: Annotated[float, Field(ge=0, description="T, along the beam")] = 3.8
    radius: Annotated[float, Field(gt=0, description="of the solenoid in m")] = 1.29
    half_length: Annotated[float, Field(gt=0, description="of the solenoid in m")] = 3.0
    ecal_energy_min: Annotated[float, Field(ge=0, description="GeV in a tower")] = 0.5
    ecal_significance_min: Annotated[float, Field(ge=0, description="in resolutions")] = 2.0
    hcal_energy_min: Annotated[float, Field(ge=0, description="GeV in a tower")] = 1.0
    hcal_significance_min: Annotated[float, Field(ge=0, description="in resolutions")] = 1.0
    pt_min: Annotated[float, Field(ge=0, description="of candidates in GeV")] = 0.1
    eta_max: Annotated[float, Field(gt=0, le=5, description="of candidates")] = 5.0
    max_particles: Annotated[int, Field(ge=1, le=700, description="hardest kept")] = 700


class SignalConfig(Section):
    """The resonance: Z' -> X Y, each of X and Y -> q qbar; masses in GeV."""

    m_zprime: Positive = 3500.0
    m_x: Positive = 500.0
    m_y: Positive = 100.0

    @model_validator(mode="after")
    def _decay_is_open(self) -> Self:
        if self.m_x + self.m_y >= self.m_zprime:
            raise ValueError(
                f"m_x + m_y = {self.m_x + self.m_y:g} must be below m_zprime = {self.m_zprime:g}"
            )
        return self


class SimulateConfig(Section):
    """Events made by ``hepllm simulate``; energies in GeV."""

    rnd: Annotated[int, Field(ge=0)] = 6000
    blackbox: Annotated[int, Field(ge=0)] = 5000
    signal_fraction: Fraction = 0.5
    blackbox_signal_fraction: Fraction = 0.02
    signal: SignalConfig = SignalConfig()
    detector: DetectorConfig = DetectorConfig()
    trigger_pt: Positive = 1200.0
    trigger_eta: Positive = 2.5
    trigger_radius: Positive = 1.0
    pt_hat_min: Positive = 900.0
    multiparton_interactions: bool = False
    block_size: Count = 250
    workers: Workers = Field(default=0, description="0 takes one worker a core")
    executor: Literal["serial", "processes", "dask"] = "processes"


class SoftDropConfig(Section):
    """Grooming with soft drop (Larkoski et al., arXiv:1402.2657, equation 1.1)."""

    z_cut: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    beta: float = 0.0


class JetsConfig(Section):
    """anti-kT clustering; GeV and radians."""

    radius: Positive = 1.0
    pt_min: Positive = 20.0
    eta_max: Positive | None = Field(default=None, description="cuts jets, not particles")
    n_jets: Annotated[int, Field(ge=2, le=3)] = Field(
        default=3, description="leading jets that get features; 2 leaves jet3_* and m_jjj null"
    )
    soft_drop: SoftDropConfig | None = Field(
        default=None, description="None leaves the soft-drop masses null"
    )


class SplitConfig(Section):
    """Shares of the splits; the seed is part of the hash that deals events out."""

    train: Fraction = 0.6
    val: Fraction = 0.15
    test: Fraction = 0.25
    seed: int = 2020

    @model_validator(mode="after")
    def _shares_are_whole(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + val + test must be 1, found {total:g}")
        return self


class PreprocessConfig(Section):
    """How events become a dataset."""

    preset: Literal["lhco", "diary"] | None = None
    format: Format = Field(default="auto", description="'auto' looks into each file")
    label: Column | None = Field(
        default=None, description="column or branch; None takes the usual one, 'none' has none"
    )
    weight: Column | None = Field(default=None, description="the same for event weights")
    source_labels: dict[str, Annotated[int, Field(ge=0, le=2)]] = Field(
        default_factory=dict, description="labels of whole files without any, by file stem"
    )
    energy_unit: EnergyUnit = Field(default="GeV", description="of the input files")
    columns: ColumnMap | None = Field(
        default=None, description="feature tables: feature -> column; None goes by known names"
    )
    root: RootConfig = RootConfig()
    jets: JetsConfig = JetsConfig()
    splits: SplitConfig = SplitConfig()
    select: str | None = Field(
        default=None, description="events to keep, e.g. '3300 < m_jj < 3700'"
    )
    particles_per_jet: Annotated[int, Field(ge=0)] = Field(
        default=0, description="hardest constituents of each leading jet to keep in particles_*"
    )
    chunk_size: Count = 1000
    workers: Workers = Field(default=0, description="0 takes one worker a core")
    executor: Literal["serial", "processes", "dask"] = "processes"
    dask_scheduler: str | None = None
    retries: Annotated[int, Field(ge=0)] = 1
    chunk_timeout: Positive | None = Field(
        default=1800.0, description="seconds after which a worker counts as hanging; null waits"
    )
    on_bad_event: Literal["fail", "skip"] = "fail"

    @field_validator("select")
    @classmethod
    def _filter_is_understood(cls, text: str | None) -> str | None:
        if text is None:
            return None
        from hepllm.event_filter import parse_event_filter  # noqa: PLC0415 (brings numpy in)

        try:
            return parse_event_filter(text).text
        except InputError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        """A preset fills jet parameters; one that is stated otherwise as well is an error."""
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


JET_PRESETS: Mapping[str, Mapping[str, float]] = {
    "lhco": {"radius": 1.0, "pt_min": 20.0},
    "diary": {"radius": 0.5, "pt_min": 20.0},
}
