"""Settings of input files: format, columns, branches and units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, StrictInt, model_validator

from hepllm.config.section import Form, Section, known_features, required, setting
from hepllm.schema import FEATURES, TABLE_QUANTITIES

Format = Literal["auto", "lhco", "features", "csv", "parquet", "npy", "root", "hepmc"]
FORMATS: tuple[str, ...] = get_args(Format)

EnergyUnit = Literal["MeV", "GeV", "TeV"]
GEV: Mapping[EnergyUnit, float] = {"MeV": 1e-3, "GeV": 1.0, "TeV": 1e3}
"""Each unit in GeV."""

AngleUnit = Literal["rad", "deg"]
RADIANS: Mapping[AngleUnit, float] = {"rad": 1.0, "deg": math.pi / 180}
"""Each unit in radians."""

NO_COLUMN = "none"
"""As the name of the label or weight column: no column is read, even if the file has one."""

Column = Annotated[str | StrictInt, Form("name or place")]
"""A column by name, or by its place from 0 (from the end where negative)."""


class ScaledColumn(Section):
    """A column and the factor on its values; a plain column has the factor 1."""

    column: Column = required("Column by name, or by place from 0 (from the end where negative)")
    scale: float = setting(1.0, "Factor that brings the column to energy_unit or angle_unit")

    @model_validator(mode="before")
    @classmethod
    def _accept_a_plain_column(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str | int) else value


ColumnMap = Annotated[
    dict[str, ScaledColumn],
    AfterValidator(lambda columns: known_features(columns, (*FEATURES, *TABLE_QUANTITIES))),
]
"""The column of each feature or quantity of ``schema.TABLE_QUANTITIES``."""


class ParticleBranches(Section):
    """Branches of one collection of massless particles."""

    pt: str = required("Branch of pT, or of the transverse energy, in energy_unit")
    eta: str = required("Branch of the pseudorapidity")
    phi: str = required("Branch of the azimuth in angle_unit")
    status: str | None = setting(None, "Branch of generator status; only 1 is kept; null: keep all")
    pid: str | None = setting(None, "Branch of the PDG code, to drop neutrinos; null: drop none")


class JetBranches(Section):
    """Branches of a collection of jets; ``Jet.Tau[5][0]`` is the first of five in each jet."""

    pt: str = required("Branch of pT in energy_unit")
    eta: str = required("Branch of the pseudorapidity")
    phi: str = required("Branch of the azimuth in angle_unit")
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
    """Tree and branches of the events in a ROOT file; by default found from the branches."""

    tree: str | None = setting(None, "Name of the tree; null: the only one, Delphes or Events")
    layout: RootLayout | None = setting(
        None,
        "Known set of branches; null: the first that the tree has, in the order of "
        "docs/how-to/read-root-and-hepmc.md",
    )
    particles: Annotated[list[ParticleBranches], Field(min_length=1)] | None = setting(
        None, "Branches of collections of particles, which are joined and clustered"
    )
    jets: JetBranches | None = setting(None, "Branches of one collection of jets, used as they are")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        stated = [n for n in ("layout", "particles", "jets") if getattr(self, n) is not None]
        if len(stated) > 1:
            raise ValueError(f"give one of {' and '.join(stated)}: each says where the events are")
        return self
