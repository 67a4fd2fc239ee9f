"""Events of ROOT files: which branches hold them, and how they become particles or features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.config import JetsConfig, PreprocessConfig
from hepllm.config.inputs import GEV, NO_COLUMN, JetBranches, ParticleBranches, RootLayout
from hepllm.errors import InputError
from hepllm.physics.events import EventBatch, Particles, TabulatedEvents, digest_runs, starts_of
from hepllm.physics.generated import NEUTRINOS
from hepllm.physics.readers.columns import listing
from hepllm.physics.readers.features import FeatureFile, open_features
from hepllm.physics.readers.trees import Jagged, RootTree, open_tree

_USUAL_WEIGHTS = ("genWeight", "Event.Weight", "weight")
_USUAL_LABEL = "label"


@dataclass(frozen=True)
class RootFile:
    """A tree of events.

    Attributes:
        tree: where they are.
        particles: collections of particles, joined; empty where jets are read.
        jets: the collection of jets, None where particles are read.
        label: branch of the labels, None without one.
        weight: branch of the weights, None without one.
        selection: which jets count.
        scale: GeV a unit of energy.
    """

    tree: RootTree
    particles: tuple[ParticleBranches, ...]
    jets: JetBranches | None
    label: str | None
    weight: str | None
    selection: JetsConfig
    scale: float

    @property
    def path(self) -> Path:
        """The file."""
        return self.tree.path

    @property
    def n_events(self) -> int:
        """Number of entries."""
        return self.tree.n_rows

    @property
    def has_labels(self) -> bool:
        """Whether there is a branch of labels."""
        return self.label is not None

    def read(self, start: int, stop: int) -> EventBatch:
        """Reads entries, start included and stop not.

        Raises:
            InputError: a branch is damaged or holds something else.
        """
        return EventBatch(
            event_id=np.arange(start, stop, dtype=np.int64),
            content=(
                self._read_particles(start, stop)
                if self.jets is None
                else self._read_jets(self.jets, start, stop)
            ),
            label_raw=self._scalars(self.label, start, stop, np.nan),
            weight=self._scalars(self.weight, start, stop, 1.0),
        )

    def _scalars(self, branch: str | None, start: int, stop: int, default: float) -> Floats:
        if branch is None:
            return np.full(stop - start, default)
        return self.tree.scalars(branch, start, stop)

    def _read_particles(self, start: int, stop: int) -> Particles:
        """All collections joined, event by event."""
        n_events = stop - start
        rows, events = [], []
        for branches in self.particles:
            kinematics = [branches.pt, branches.eta, branches.phi]
            (pt, eta, phi), counts = self._collection(kinematics, start, stop)
            keep = (pt != 0) & self._is_visible(branches, counts, start, stop)
            rows.append(np.stack([pt * self.scale, eta, phi])[:, keep])
            events.append(np.repeat(np.arange(n_events), counts)[keep])
        event = np.concatenate(events)
        order = np.argsort(event, kind="stable")
        pt, eta, phi = np.ascontiguousarray(np.concatenate(rows, axis=1)[:, order])
        return Particles(pt, eta, phi, counts=np.bincount(event, minlength=n_events))

    def _is_visible(self, branches: ParticleBranches, counts: Ints, start: int, stop: int) -> Bools:
        """Which particles are final, and no neutrinos, as far as the branches tell."""
        visible = np.ones(int(counts.sum()), dtype=bool)
        if branches.status is not None:
            visible &= self._beside(branches.status, counts, start, stop) == 1
        if branches.pid is not None:
            pid = np.abs(self._beside(branches.pid, counts, start, stop))
            visible &= ~np.isin(pid, NEUTRINOS)
        return visible

    def _beside(self, branch: str, counts: Ints, start: int, stop: int) -> Floats:
        values, own_counts = self.tree.lists(branch, start, stop)
        if not np.array_equal(own_counts, counts):
            raise InputError(
                f"{self.path}: branch '{branch}' has lists of other lengths than its collection"
            )
        return values

    def _collection(self, branches: list[str], start: int, stop: int) -> tuple[list[Floats], Ints]:
        """Branches with lists of the same lengths, flat, and these lengths."""
        first: Jagged = self.tree.lists(branches[0], start, stop)
        values, counts = first
        others = [self._beside(branch, counts, start, stop) for branch in branches[1:]]
        return [values, *others], counts

    def _read_jets(self, branches: JetBranches, start: int, stop: int) -> TabulatedEvents:
        """The leading jets among those that pass the selection."""
        kinematics = [branches.pt, branches.eta, branches.phi, branches.mass]
        (pt, eta, phi, mass), counts = self._collection(kinematics, start, stop)
        content = digest_runs([pt, eta, phi, mass], counts)
        pt, mass = pt * self.scale, mass * self.scale
        event = np.repeat(np.arange(stop - start), counts)
        passed = ~(pt < self.selection.pt_min)  # NaN stays, to be found a defect
        if self.selection.eta_max is not None:
            passed &= ~(np.abs(eta) > self.selection.eta_max)
        order = np.lexsort((-pt, event))
        order = order[passed[order]]
        quantities = {"pt": pt, "eta": eta, "phi": phi, "mass": mass}
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
        return TabulatedEvents(values, content)

    def _substructure(
        self, branches: JetBranches, counts: Ints, start: int, stop: int
    ) -> dict[str, Floats]:
        """What there is besides kinematics; a negative value stands for none."""
        quantities = {}
        for name in ("n_particles", "tau1", "tau2", "tau3", "softdrop_mass"):
            branch = getattr(branches, name)
            if branch is not None:
                values = self._beside(branch, counts, start, stop)
                scale = self.scale if name == "softdrop_mass" else 1.0
                quantities[name] = np.where(values < 0, np.nan, values * scale)
        return quantities


def open_root(path: Path, config: PreprocessConfig) -> RootFile | FeatureFile:
    """Opens a ROOT file and finds its events.

    With ``preprocess.columns`` and no word on collections, a tree of one number a branch and event
    is taken for a feature table.

    Raises:
        InputError: the file is damaged, or has no branch of the names given or known.
    """
    tree = open_tree(path, config.root.tree)
    stated = config.root.layout or config.root.particles or config.root.jets
    if config.format == "features" or (config.columns is not None and not stated):
        return open_features(tree, config)
    particles, jets = _collections(tree, config)
    for collection in (*particles, *([jets] if jets else [])):
        for quantity, branch in collection.model_dump().items():
            if branch is not None:
                tree.require(branch, f"'{quantity}'")
    return RootFile(
        tree,
        particles,
        jets,
        label=_row_branch(tree, config.label, (_USUAL_LABEL,), "the label"),
        weight=_row_branch(tree, config.weight, _USUAL_WEIGHTS, "the weight"),
        selection=config.jets,
        scale=GEV[config.energy_unit],
    )


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
    """The collections that are stated, or those of the first layout that the tree has."""
    root = config.root
    if root.particles is not None:
        return tuple(root.particles), None
    if root.jets is not None:
        return (), root.jets
    if root.layout is not None:
        return _layout(tree, root.layout)
    for layout, signs in _SIGNS.items():
        if any(tree.has(sign) for sign in signs):
            return _layout(tree, layout)
    raise InputError(
        f"{tree.path}: the tree '{tree.name}' is neither of Delphes nor NanoAOD: there are "
        f"{listing(tree.names)}; say what is where in preprocess.root or preprocess.columns"
    )


_SIGNS: dict[RootLayout, tuple[str, ...]] = {
    "delphes-eflow": ("EFlowTrack.PT", "EFlowPhoton.ET", "EFlowNeutralHadron.ET"),
    "nanoaod-particles": ("PFCands_pt",),
    "delphes-jets": ("FatJet.PT", "Jet.PT"),
    "nanoaod-jets": ("FatJet_pt",),
    "delphes-particles": ("Particle.PT",),
}
"""Branches that tell a layout, in the order in which layouts are preferred."""


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
        return (ParticleBranches(pt="PFCands_pt", eta="PFCands_eta", phi="PFCands_phi"),), None
    if layout == "delphes-jets":
        return (), _delphes_jets(tree, "FatJet" if tree.has("FatJet.PT") else "Jet")
    return (), _nanoaod_jets(tree)


def _delphes(collection: str, energy: str) -> ParticleBranches:
    return ParticleBranches(
        pt=f"{collection}.{energy}", eta=f"{collection}.Eta", phi=f"{collection}.Phi"
    )


def _delphes_jets(tree: RootTree, name: str) -> JetBranches:
    taus = {f"tau{n}": f"{name}.Tau[5][{n - 1}]" for n in (1, 2, 3)}
    return JetBranches(
        pt=f"{name}.PT",
        eta=f"{name}.Eta",
        phi=f"{name}.Phi",
        mass=f"{name}.Mass",
        **_present(tree, taus),
    )


def _nanoaod_jets(tree: RootTree) -> JetBranches:
    wanted = {f"tau{n}": f"FatJet_tau{n}" for n in (1, 2, 3)}
    wanted |= {"softdrop_mass": "FatJet_msoftdrop", "n_particles": "FatJet_nConstituents"}
    return JetBranches(
        pt="FatJet_pt",
        eta="FatJet_eta",
        phi="FatJet_phi",
        mass="FatJet_mass",
        **_present(tree, wanted),
    )


def _present(tree: RootTree, branches: dict[str, str]) -> dict[str, str]:
    """Those of optional branches that the tree has."""
    return {name: branch for name, branch in branches.items() if tree.has(branch)}
