"""Configuration of what an input file holds: its format, columns, branches and units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, StrictInt, model_validator

from hepllm.config.section import Section
from hepllm.errors import nearest_name
from hepllm.schema import FEATURES, TABLE_QUANTITIES

Format = Literal["auto", "lhco", "features", "csv", "parquet", "npy", "root", "hepmc"]
FORMATS: tuple[str, ...] = get_args(Format)

EnergyUnit = Literal["MeV", "GeV", "TeV"]
GEV: Mapping[EnergyUnit, float] = {"MeV": 1e-3, "GeV": 1.0, "TeV": 1e3}
"""How many GeV a unit is."""

NO_COLUMN = "none"
"""As the name of the label or weight: the file has none, whatever it looks like."""

Column = str | StrictInt
"""A column by name, or by its place from 0 (from the end where negative)."""


class ScaledColumn(Section):
    """A column whose values are multiplied by a number of its own; a plain column means 1."""

    column: Column
    scale: float = 1.0

    @model_validator(mode="before")
    @classmethod
    def _accept_a_plain_column(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str | int) else value


def _check_columns(columns: Mapping[str, object]) -> Mapping[str, object]:
    known = {**FEATURES, **TABLE_QUANTITIES}
    problems = [
        f"unknown feature '{name}'{nearest_name(name, known)}"
        for name in columns
        if name not in known
    ]
    if not columns:
        problems = ["the column map is empty"]
    if problems:
        raise ValueError("; ".join(problems))
    return columns


ColumnMap = Annotated[dict[str, ScaledColumn], AfterValidator(_check_columns)]
"""For each feature, or quantity of ``schema.TABLE_QUANTITIES``, the column that holds it."""


class ParticleBranches(Section):
    """Branches of one collection of massless particles.

    ``status`` keeps those whose status is 1, ``pid`` drops neutrinos (12, 14, 16).
    """

    pt: str
    eta: str
    phi: str
    status: str | None = None
    pid: str | None = None


class JetBranches(Section):
    """Branches of a collection of jets; ``Jet.Tau[5][0]`` is the first of five in each jet."""

    pt: str
    eta: str
    phi: str
    mass: str
    n_particles: str | None = None
    tau1: str | None = None
    tau2: str | None = None
    tau3: str | None = None
    softdrop_mass: str | None = None


RootLayout = Literal[
    "delphes-eflow", "delphes-jets", "delphes-particles", "nanoaod-particles", "nanoaod-jets"
]


class RootConfig(Section):
    """Where the events of a ROOT file are; without any of it, the branches decide."""

    tree: str | None = Field(default=None, description="the only one, 'Delphes' or 'Events'")
    layout: RootLayout | None = None
    particles: Annotated[list[ParticleBranches], Field(min_length=1)] | None = None
    jets: JetBranches | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        stated = [n for n in ("layout", "particles", "jets") if getattr(self, n) is not None]
        if len(stated) > 1:
            raise ValueError(f"give one of {' and '.join(stated)}: each says where the events are")
        return self
