"""Reads public files of collider events, and compares what is read with uproot and pyhepmc.

python -m pip download --no-deps --no-binary :all: coffea==2026.9.0 fastjet==3.5.2.0 pyhepmc==2.4.2
for archive in *.tar.gz; do tar xzf "$archive"; done
python tools/studies/public_files.py .
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyhepmc  # type: ignore[import-untyped]
import uproot

from hepllm.arrays import Floats, Ints
from hepllm.config import PreprocessConfig
from hepllm.errors import InputError
from hepllm.physics.defects import describe_defects
from hepllm.physics.events import TabulatedEvents
from hepllm.physics.generated import NEUTRINOS
from hepllm.physics.readers import open_event_file

COFFEA, FASTJET, PYHEPMC = "coffea 2026.9.0", "fastjet 3.5.2.0", "pyhepmc 2.4.2"


@dataclass(frozen=True)
class Case:
    """A file, and how it is read.

    Attributes:
        package: where it comes from.
        content: what it holds, for people.
        tree: its tree of events; empty: HepMC.
        branches: of pT, as uproot names them.
        settings: of ``preprocess``.
    """

    package: str
    name: str
    content: str
    tree: str = ""
    branches: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_jets(self) -> bool:
        """Whether it holds jets, of which those above 20 GeV are taken."""
        return "jets" in self.content


def _jets(prefix: str, mass: str = "mass") -> dict[str, Any]:
    names = {name: prefix + name for name in ("pt", "eta", "phi")}
    return {"root": {"jets": {**names, "mass": prefix + mass}}}


_EFLOW = ("EFlowTrack.PT", "EFlowPhoton.ET", "EFlowNeutralHadron.ET")
_P4 = {name: f"JetsAK8.fCoordinates.f{name.title()}" for name in ("pt", "eta", "phi")}

_FAT = ("FatJet_pt",)
_MEV = {"energy_unit": "MeV"}

CASES = (
    Case(COFFEA, "delphes.root", "Delphes, particle flow", "Delphes", _EFLOW),
    Case(
        COFFEA,
        "delphes.root",
        "Delphes, jets",
        "Delphes",
        ("Jet.PT",),
        {"root": {"layout": "delphes-jets"}},
    ),
    Case(
        COFFEA,
        "delphes.root",
        "Delphes, generated particles",
        "Delphes",
        ("Particle.PT",),
        {"root": {"layout": "delphes-particles"}},
    ),
    *(
        Case(COFFEA, name, "NanoAOD, AK8 jets", "Events", _FAT)
        for name in (
            "nano_dimuon.root",
            "nano_dimuon_rntuple.root",
            "nano_dy.root",
            "nano_dy_rntuple.root",
        )
    ),
    Case(COFFEA, "nano_dy_SpecialTree.root", "NanoAOD, three trees, AK8 jets", "Events", _FAT),
    Case(
        COFFEA,
        "nano_dy_SpecialTree_rntuple.root",
        "NanoAOD as RNTuple of another name, AK8 jets",
        "NotEvents",
        _FAT,
    ),
    Case(COFFEA, "missing_luminosityBlock.root", "NanoAOD, AK8 jets", "Events", _FAT),
    Case(COFFEA, "nano_tt_v12.root", "NanoAOD 12, AK8 jets", "Events", _FAT),
    Case(COFFEA, "nano_tt_v15.root", "NanoAOD 15, AK8 jets", "Events", _FAT),
    *(
        Case(COFFEA, name, "NanoAOD, AK4 jets by a map", "Events", ("Jet_pt",), _jets("Jet_"))
        for name in (
            "nano_dimuon.root",
            "nano_dy_rntuple.root",
            "nano_tt_v15.root",
            "nano_tree_rntuple.root",
        )
    ),
    Case(
        COFFEA,
        "nano_tree.root",
        "NanoAOD, AK15 jets by a map",
        "Events",
        ("AK15Puppi_pt",),
        _jets("AK15Puppi_"),
    ),
    Case(COFFEA, "pfnano.root", "PFNano, particles", "Events", ("PFCands_pt",)),
    Case(COFFEA, "pfnano_rntuple.root", "PFNano as RNTuple, particles", "Events", ("PFCands_pt",)),
    Case(FASTJET, "pfnano_skim.root", "PFNano, particles", "Events", ("PFCands_pt",)),
    Case(
        COFFEA,
        "scouting_nano.root",
        "scouting NanoAOD, AK8 jets by a map",
        "Events",
        ("ScoutingFatJet_pt",),
        _jets("ScoutingFatJet_"),
    ),
    Case(
        COFFEA,
        "PHYSLITE_example.root",
        "ATLAS PHYSLITE in MeV, R = 0.4 jets by a map",
        "CollectionTree",
        ("AnalysisJetsAuxDyn.pt",),
        _MEV | _jets("AnalysisJetsAuxDyn.", "m"),
    ),
    Case(
        COFFEA,
        "PHYSLITE_example.root",
        "ATLAS PHYSLITE in MeV, R = 1.0 jets by a map",
        "CollectionTree",
        ("AnalysisLargeRJetsAuxDyn.pt",),
        _MEV | _jets("AnalysisLargeRJetsAuxDyn.", "m"),
    ),
    Case(
        COFFEA,
        "treemaker.root",
        "CMS TreeMaker, AK8 jets by a map",
        "PreSelection",
        ("JetsAK8.fCoordinates.fPt",),
        {"root": {"jets": {**_P4, "mass": "JetsAK8_softDropMass"}}},
    ),
    *(
        Case(PYHEPMC, name, "HepMC, particles")
        for name in ("pythia6.dat", "pythia6_simple.dat", "sibyll21.dat")
    ),
)


def main() -> None:
    """Prints a table with one line per case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with the unpacked packages")
    folder = parser.parse_args().folder
    print(
        "| package | file | content | events | entries | sum of pT [GeV] | as the other library |"
    )
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        print(f"| {' | '.join(_line(case, folder))} |")


def _line(case: Case, folder: Path) -> Iterator[str]:
    yield from (case.package, f"`{case.name}`", case.content)
    file = next(folder.rglob(case.name))
    try:
        counts, sums, defects = _ours(file, case)
    except InputError as error:
        yield from ("", "", "", str(error).replace(str(file.parent), ""))
        return
    expected = _of_pyhepmc(file) if not case.tree else _of_uproot(file, case)
    same = np.array_equal(counts, expected[0]) and np.allclose(sums, expected[1], rtol=1e-5)
    yield from (str(len(counts)), str(counts.sum()), f"{sums.sum():.1f}")
    yield ("yes" if same else "**no**") + "".join(f"; {what}" for what in defects)


def _ours(file: Path, case: Case) -> tuple[Ints, Floats, list[str]]:
    """Entries and sums of pT of each event as hepllm reads them, and what it calls defects."""
    opened = open_event_file(file, PreprocessConfig.model_validate(case.settings))
    batch = opened.read(0, opened.n_events)
    defects = [what for what, _ in describe_defects(batch)]
    if isinstance(batch.content, TabulatedEvents):
        values = batch.content.values
        return values["n_jets"].astype(np.int64), values["ht"], defects
    content = batch.content
    event = np.repeat(np.arange(opened.n_events), content.counts)
    return (
        content.counts,
        np.bincount(event, content.pt, opened.n_events).astype(np.float64),
        defects,
    )


def _of_uproot(file: Path, case: Case) -> tuple[Ints, Floats]:
    with uproot.open(file) as opened:
        tree = opened[case.tree]
        full = {key.rpartition("/")[2]: key for key in tree.keys(recursive=True)}

        def array(name: str) -> ak.Array:
            dotted = name.replace("_", ".", 1)
            return ak.values_astype(tree[full.get(name, full.get(dotted))].array(), np.float64)

        counts, sums = 0, 0.0
        for name in case.branches:
            pt = array(name) * (1e-3 if "MeV" in case.content else 1.0)
            pt = pt[pt >= 20] if case.has_jets else pt[pt != 0]
            if name == "Particle.PT":
                identity = abs(array("Particle.PID"))
                seen = (array("Particle.Status") == 1) & (array(name) != 0)
                for neutrino in NEUTRINOS:
                    seen = seen & (identity != neutrino)
                pt = array(name)[seen]
            counts = counts + ak.to_numpy(ak.num(pt))
            sums = sums + ak.to_numpy(ak.sum(pt, axis=1))
    return np.asarray(counts), np.asarray(sums)


def _of_pyhepmc(file: Path) -> tuple[Ints, Floats]:
    counts, sums = [], []
    with pyhepmc.open(str(file)) as events:
        for event in events:
            scale = 1e-3 if event.momentum_unit == pyhepmc.Units.MEV else 1.0
            final = [one for one in event.particles if one.status == 1]
            pts = [one.momentum.pt() * scale for one in final if abs(one.pid) not in NEUTRINOS]
            pts = [pt for pt in pts if pt > 0]
            counts.append(len(pts))
            sums.append(sum(pts))
    return np.array(counts), np.array(sums)


if __name__ == "__main__":
    main()
