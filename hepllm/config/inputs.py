"""Configuration of what an input file holds: its format, columns, branches and units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, StrictInt, model_validator

from hepllm.config.section import Form, Section, required, setting
from hepllm.errors import nearest_name
from hepllm.schema import FEATURES, TABLE_QUANTITIES

Format = Literal["auto", "lhco", "features", "csv", "parquet", "npy", "root", "hepmc"]
FORMATS: tuple[str, ...] = get_args(Format)

EnergyUnit = Literal["MeV", "GeV", "TeV"]
GEV: Mapping[EnergyUnit, float] = {"MeV": 1e-3, "GeV": 1.0, "TeV": 1e3}
"""How many GeV a unit is."""

NO_COLUMN = "none"
"""As the name of the label or weight: the file has none, whatever it looks like."""

Column = Annotated[str | StrictInt, Form("name or place")]
"""A column by name, or by its place from 0 (from the end where negative)."""


class ScaledColumn(Section):
    """A column whose values are multiplied by a number of its own; a plain column means 1."""

    column: Column = required("Column by name, or by place from 0 (from the end where negative)")
    scale: float = setting(1.0, "Factor that brings the column to energy_unit, or to radians")

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
    """Branches of one collection of massless particles."""

    pt: str = required("Branch of pT, or of the transverse energy, in energy_unit")
    eta: str = required("Branch of the pseudorapidity")
    phi: str = required("Branch of the azimuth in radians")
    status: str | None = setting(
        None, "Branch of the generator status, of which 1 (final) is kept; null: all are"
    )
    pid: str | None = setting(
        None, "Branch of the PDG code, by which neutrinos are dropped; null: none are"
    )


class JetBranches(Section):
    """Branches of a collection of jets; ``Jet.Tau[5][0]`` is the first of five in each jet."""

    pt: str = required("Branch of pT in energy_unit")
    eta: str = required("Branch of the pseudorapidity")
    phi: str = required("Branch of the azimuth in radians")
    mass: str = required("Branch of the mass in energy_unit")
    n_particles: str | None = setting(None, "Branch of the number of constituents; null: missing")
    tau1: str | None = setting(None, "Branch of 1-subjettiness; null: missing")
    tau2: str | None = setting(None, "Branch of 2-subjettiness; null: missing")
    tau3: str | None = setting(None, "Branch of 3-subjettiness; null: missing")
    softdrop_mass: str | None = setting(
        None, "Branch of the soft-drop mass in energy_unit; null: missing"
    )


RootLayout = Literal[
    "delphes-eflow", "delphes-jets", "delphes-particles", "nanoaod-particles", "nanoaod-jets"
]


class RootConfig(Section):
    """Where the events of a ROOT file are; without any of it, the branches decide."""

    tree: str | None = setting(None, "Name of the tree; null: the only one, Delphes or Events")
    layout: RootLayout | None = setting(
        None,
        "Known set of branches; null: the first that the tree has, in the order of "
        "docs/how-to/read-root-and-hepmc.md",
    )
    particles: Annotated[list[ParticleBranches], Field(min_length=1)] | None = setting(
        None, "Branches of collections of particles, which are joined and clustered"
    )
    jets: JetBranches | None = setting(
        None, "Branches of one collection of jets, which are taken as they are"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        stated = [n for n in ("layout", "particles", "jets") if getattr(self, n) is not None]
        if len(stated) > 1:
            raise ValueError(f"give one of {' and '.join(stated)}: each says where the events are")
        return self
