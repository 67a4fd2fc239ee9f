"""Reads events from ROOT files: particles, which are clustered, or jets, which are used unchanged.

The collections come from the configuration, or from a known layout of Delphes or NanoAOD.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.config import JetsConfig, PreprocessConfig
from hepllm.config.inputs import GEV, NO_COLUMN, RADIANS, JetBranches, ParticleBranches, RootLayout
from hepllm.errors import InputError
from hepllm.physics.absent import are_there, missing_as_nan
from hepllm.physics.defects import describe_bad_entries
from hepllm.physics.events import EventBatch, Particles, TabulatedEvents, digest_runs, starts_of
from hepllm.physics.generated import NEUTRINOS
from hepllm.physics.readers.columns import EventsInTable, chosen_columns, listing
from hepllm.physics.readers.features import FeatureFile, has_known_columns, open_features
from hepllm.physics.readers.trees import RootTree, open_tree

_USUAL_WEIGHTS = ("genWeight", "Event.Weight", "weight")


@dataclass(frozen=True)
class RootFile(EventsInTable):
    """A tree of events.

    Attributes:
        particles: collections of particles, which are joined; empty if jets are read.
        jets: the collection of jets; None if particles are read.
        label, weight: branches of labels and weights, if any.
        selection: minimum pT, maximum pseudorapidity and number of jets.
        scale: GeV per unit of energy.
        radians: radians per unit of azimuths.
        observers: further branches with one number per event.
    """

    table: RootTree
    particles: tuple[ParticleBranches, ...]
    jets: JetBranches | None
    label: str | None
    weight: str | None
    selection: JetsConfig
    scale: float
    radians: float
    observers: tuple[str, ...] = ()

    def read(self, start: int, stop: int) -> EventBatch:
        """Reads the entries from ``start`` to before ``stop``.

        Raises:
            InputError: a branch is damaged or holds something else.
        """
        content: Particles | TabulatedEvents
        if self.jets is None:
            content = self._read_particles(start, stop)
        else:
            content = self._read_jets(self.jets, start, stop)
        label_raw = self._scalars(self.label, start, stop, np.nan)
        weight = self._scalars(self.weight, start, stop, 1.0)
        observers = {name: self.table.scalars(name, start, stop) for name in self.observers}
        rows = np.arange(start, stop, dtype=np.int64)
        return EventBatch(rows, content, label_raw, weight, observers)

    def unselected(self) -> RootFile:
        """The same file, with all of its jets."""
        every = self.selection.model_copy(update={"pt_min": 0.0, "eta_max": None})
        return replace(self, selection=every)

    def _scalars(self, branch: str | None, start: int, stop: int, default: float) -> Floats:
        if branch is None:
            return np.full(stop - start, default)
        return self.table.scalars(branch, start, stop)

    def _read_particles(self, start: int, stop: int) -> Particles:
        """Joins all collections, event by event."""
        n_events = stop - start
        rows, events = [], []
        for branches in self.particles:
            kinematics = [branches.pt, branches.eta, branches.phi]
            (pt, eta, phi), counts = self._collection(kinematics, start, stop)
            keep = are_there(pt, [eta, phi], counts)
            keep &= self._is_visible(branches, counts, start, stop)
            rows.append(np.stack([pt * self.scale, eta, phi * self.radians])[:, keep])
            events.append(np.repeat(np.arange(n_events), counts)[keep])
        event = np.concatenate(events)
        order = np.argsort(event, kind="stable")
        pt, eta, phi = np.ascontiguousarray(np.concatenate(rows, axis=1)[:, order])
        return Particles(pt, eta, phi, counts=np.bincount(event, minlength=n_events))

    def _is_visible(self, branches: ParticleBranches, counts: Ints, start: int, stop: int) -> Bools:
        """The mask of final particles except neutrinos, if the branches distinguish them."""
        visible = np.ones(int(counts.sum()), dtype=bool)
        if branches.status is not None:
            visible &= self._aligned(branches.status, counts, start, stop) == 1
        if branches.pid is not None:
            pid = np.abs(self._aligned(branches.pid, counts, start, stop))
            visible &= ~np.isin(pid, NEUTRINOS)
        return visible

    def _aligned(self, branch: str, counts: Ints, start: int, stop: int) -> Floats:
        values, own_counts = self.table.lists(branch, start, stop)
        if not np.array_equal(own_counts, counts):
            raise InputError(
                f"{self.path}: branch '{branch}' has lists of other lengths than its collection"
            )
        return values

    def _collection(self, branches: list[str], start: int, stop: int) -> tuple[list[Floats], Ints]:
        """Flat values of branches with lists of equal lengths, and these lengths."""
        values, counts = self.table.lists(branches[0], start, stop)
        others = [self._aligned(branch, counts, start, stop) for branch in branches[1:]]
        return [values, *others], counts

    def _read_jets(self, branches: JetBranches, start: int, stop: int) -> TabulatedEvents:
        """The leading jets among those that pass the selection."""
        kinematics = [branches.pt, branches.eta, branches.phi, branches.mass]
        (pt, eta, phi, mass), counts = self._collection(kinematics, start, stop)
        content = digest_runs([pt, eta, phi, mass], counts)
        there = are_there(pt, [eta, phi, mass], counts)
        event = np.repeat(np.arange(stop - start), counts)
        quantities = {"pt": pt * self.scale, "eta": eta, "phi": phi * self.radians}
        quantities["mass"] = missing_as_nan("jet1_mass", mass) * self.scale
        pt, phi = quantities["pt"], quantities["phi"]
        defects = describe_bad_entries(
            pt[there],
            eta[there],
            phi[there],
            np.bincount(event[there], minlength=stop - start),
            "jet",
        )
        passed = there & ~(pt < self.selection.pt_min)  # NaN stays and is a defect
        if self.selection.eta_max is not None:
            passed &= ~(np.abs(eta) > self.selection.eta_max)
        order = np.lexsort((-pt, event))
        order = order[passed[order]]
        quantities |= self._substructure(branches, counts, start, stop)
        n_jets = np.bincount(event[order], minlength=stop - start)
        values = {
            "n_jets": n_jets.astype(np.float64),
            "ht": np.bincount(event[order], pt[order], stop - start).astype(np.float64),
        }
        for rank in range(self.selection.n_jets):
            names = ("pt", "eta", "phi", "mass") if rank == 2 else tuple(quantities)
            present = n_jets > rank
            chosen = order[(starts_of(n_jets) + rank)[present]]
            for name in names:
                column = np.full(stop - start, np.nan)
                column[present] = quantities[name][chosen]
                values[f"jet{rank + 1}_{name}"] = column
        return TabulatedEvents(values, content, defects)

    def _substructure(
        self, branches: JetBranches, counts: Ints, start: int, stop: int
    ) -> dict[str, Floats]:
        """Optional quantities of jets, NaN where missing."""
        quantities = {}
        for name in ("n_particles", "tau1", "tau2", "tau3", "softdrop_mass"):
            branch = getattr(branches, name)
            if branch is not None:
                values = self._aligned(branch, counts, start, stop)
                scale = self.scale if name == "softdrop_mass" else 1.0
                quantities[name] = missing_as_nan(f"jet1_{name}", values) * scale
        if taus := [name for name in _TAUS if name in quantities]:
            # Delphes writes zeros where N-subjettiness is not computed.
            computed = np.any([quantities[name] != 0 for name in taus], axis=0)
            quantities |= {name: np.where(computed, quantities[name], np.nan) for name in taus}
        return quantities


def open_root(path: Path, config: PreprocessConfig) -> RootFile | FeatureFile:
    """Opens a ROOT file and finds its events.

    With ``preprocess.columns`` but no collections in the configuration, the tree is a feature table
    with one number per branch and event.

    Raises:
        InputError: the file is damaged, or has neither the configured nor any known branches.
    """
    tree = open_tree(path, config.root.tree)
    stated = config.root.layout or config.root.particles or config.root.jets
    if not stated and config.columns is None and _known_layout(tree) is None:
        is_table = has_known_columns(tree)
    else:
        is_table = config.columns is not None and not stated
    if config.format == "features" or is_table:
        return open_features(tree, config)
    particles, jets = _collections(tree, config)
    for collection in (*particles, *([jets] if jets else [])):
        for quantity, branch in collection.model_dump().items():
            if branch is not None:
                tree.require(branch, f"'{quantity}'")
    label = _row_branch(tree, config.label, ("label",), "the label")
    weight = _row_branch(tree, config.weight, _USUAL_WEIGHTS, "the weight")
    units = GEV[config.energy_unit], RADIANS[config.angle_unit]
    observed = chosen_columns(tree.path, tree.names, config.observers)
    return RootFile(tree, particles, jets, label, weight, config.jets, *units, observed)


def _row_branch(
    tree: RootTree, stated: str | int | None, usual: tuple[str, ...], what: str
) -> str | None:
    if stated == NO_COLUMN:
        return None
    if stated is not None:
        tree.require(str(stated), what)
        return str(stated)
    return next((branch for branch in usual if tree.has(branch)), None)


def _collections(
    tree: RootTree, config: PreprocessConfig
) -> tuple[tuple[ParticleBranches, ...], JetBranches | None]:
    """The configured collections, or those of the first layout that the tree has."""
    root = config.root
    if root.particles is not None:
        return tuple(root.particles), None
    if root.jets is not None:
        return (), root.jets
    if root.layout is not None:
        return _layout(tree, root.layout)
    if (layout := _known_layout(tree)) is not None:
        return _layout(tree, layout)
    raise InputError(
        f"{tree.path}: the tree '{tree.name}' has no branches of Delphes or NanoAOD, but "
        f"{listing(tree.names)}; map them in preprocess.root or preprocess.columns"
    )


_SIGNS: dict[RootLayout, tuple[str, ...]] = {
    "delphes-eflow": ("EFlowTrack.PT", "EFlowPhoton.ET", "EFlowNeutralHadron.ET"),
    "nanoaod-particles": ("PFCands_pt", "PFCands.pt"),
    "delphes-jets": ("FatJet.PT", "Jet.PT"),
    "nanoaod-jets": ("FatJet_pt", "FatJet.pt"),
    "delphes-particles": ("Particle.PT",),
}
"""Branches by which a layout is recognised; earlier layouts are preferred.

The fields of an RNTuple of records have a point where branches of NanoAOD have an underscore.
"""


def _known_layout(tree: RootTree) -> RootLayout | None:
    found = (layout for layout, signs in _SIGNS.items() if any(map(tree.has, signs)))
    return next(found, None)


def _layout(
    tree: RootTree, layout: RootLayout
) -> tuple[tuple[ParticleBranches, ...], JetBranches | None]:
    if layout == "delphes-eflow":
        energies = {"EFlowTrack": "PT", "EFlowPhoton": "ET", "EFlowNeutralHadron": "ET"}
        return tuple(_delphes(name, energy) for name, energy in energies.items()), None
    if layout == "delphes-particles":
        particles = _delphes("Particle", "PT")
        update = {"status": "Particle.Status", "pid": "Particle.PID"}
        return (particles.model_copy(update=update),), None
    if layout == "nanoaod-particles":
        prefix = "PFCands." if tree.has("PFCands.pt") else "PFCands_"
        names = {name: prefix + name for name in ("pt", "eta", "phi")}
        return (ParticleBranches(**names),), None
    if layout == "nanoaod-jets":
        prefix = "FatJet." if tree.has("FatJet.pt") else "FatJet_"
        return (), _jets(tree, prefix, _NANOAOD_JETS)
    return (), _jets(tree, "FatJet." if tree.has("FatJet.PT") else "Jet.", _DELPHES_JETS)


def _delphes(name: str, energy: str) -> ParticleBranches:
    return ParticleBranches(pt=f"{name}.{energy}", eta=f"{name}.Eta", phi=f"{name}.Phi")


_TAUS = ("tau1", "tau2", "tau3")
_DELPHES_JETS = {"pt": "PT", "eta": "Eta", "phi": "Phi", "mass": "Mass"} | {
    tau: f"Tau[5][{index}]" for index, tau in enumerate(_TAUS)
}
_NANOAOD_JETS = {name: name for name in ("pt", "eta", "phi", "mass", *_TAUS)} | {
    "softdrop_mass": "msoftdrop",
    "n_particles": "nConstituents",
}


def _jets(tree: RootTree, prefix: str, names: dict[str, str]) -> JetBranches:
    """The branches of jets, of which the tree may lack all but the kinematics."""
    branches = {quantity: prefix + name for quantity, name in names.items()}
    required = ("pt", "eta", "phi", "mass")
    return JetBranches(**{q: b for q, b in branches.items() if q in required or tree.has(b)})
