"""Rules that mark suspicious events, and a score of each event from the rules that it breaks.

A rule says what it needs; where a dataset lacks that, the rule is not asked, and the result says
so. A missing value breaks no rule but those about missing values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hepllm.arrays import Bools, Columns, Digests, Floats, Ints, Labels
from hepllm.config import FlagsConfig
from hepllm.schema import BACKGROUND, SIGNAL

Need = Literal["particles", "sources", "confidence", "labels"]

_JETS = ("jet1", "jet2")
_NEAR = tuple(f"{jet}_{name}" for jet in _JETS for name in ("pt", "mass", "eta"))
_CLASSES = (SIGNAL, BACKGROUND)
_NEIGHBOURS = ("jet_mass_light", "jet_mass_delta", "tau21_light", "tau21_heavy")


@dataclass(frozen=True, eq=False)
class ParticleLists:
    """P particles of N events.

    Attributes:
        event: place of each particle's event, shape (P,).
        pt: GeV, shape (P,).
        eta: shape (P,).
        phi: radians, shape (P,).
    """

    event: Ints
    pt: Floats
    eta: Floats
    phi: Floats


@dataclass(frozen=True, eq=False)
class Suspects:
    """N events to be judged.

    Attributes:
        event_digest: shape (N,).
        label: 1, 0 or -1 (unknown), shape (N,).
        columns: features by name, shape (N,); NaN where missing.
        source: name of each event's file, shape (N,).
        particles: constituents of the leading jets; None where not known.
        confidence: mean confidence in the label over mapped runs, shape (N,), NaN where not mapped;
            None without runs.
    """

    event_digest: Digests
    label: Labels
    columns: Columns
    source: NDArray[np.object_]
    particles: ParticleLists | None = None
    confidence: Floats | None = None

    def __len__(self) -> int:
        return len(self.event_digest)

    def any_of(self, broken: Bools, particles: ParticleLists) -> Bools:
        """Events that have one of the particles of a mask, shape (N,)."""
        return np.asarray(np.bincount(particles.event[broken], minlength=len(self)) > 0)

    def lists(self) -> ParticleLists:
        """The particles; rules that ask for them have them."""
        if self.particles is None:
            raise ValueError("no particles")
        return self.particles


_Check = Callable[[Suspects, FlagsConfig], Bools]


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes:
        check: finds the events that break it, shape (N,).
        meaning: what such an event is.
        weight: share in the score: 1 for what cannot be, less for what is only unusual.
        features: features that it needs.
        needs: what else it needs.
    """

    check: _Check
    meaning: str
    weight: float
    features: tuple[str, ...] = ()
    needs: Need | None = None

    def obstacle(self, events: Suspects) -> str | None:
        """What is missing to ask the rule; None where it can be asked."""
        missing = [name for name in self.features if name not in events.columns]
        if missing:
            return f"no {missing[0]}"
        if self.needs == "particles" and events.particles is None:
            return "no particles"
        if self.needs == "sources" and len(set(events.source.tolist())) < 2:
            return "one file only"
        if self.needs == "confidence" and events.confidence is None:
            return "no mapped runs"
        if self.needs == "labels" and min((events.label == one).sum() for one in _CLASSES) < 2:
            return "no two labelled classes"
        return None


@dataclass(frozen=True, eq=False)
class Flags:
    """What rules found in N events.

    Attributes:
        broken: by rule, shape (N,).
        skipped: why a rule was not asked, by its name.
        score: sum of the weights of the broken rules, shape (N,).
    """

    broken: Mapping[str, Bools]
    skipped: Mapping[str, str]
    score: Floats = field(repr=False)


def flag_particles(events: Suspects, config: FlagsConfig) -> dict[str, Bools]:
    """Asks the rules about particles, of which each event has its own.

    So events can be asked some at a time: lists of particles take more memory than all the rest.

    Args:
        events: N events with particles; no features are needed.
        config: limits.

    Returns:
        The events that break each rule, shape (N,).
    """
    rules = {name: rule for name, rule in RULES.items() if rule.needs == "particles"}
    return {name: np.asarray(rule.check(events, config)) for name, rule in rules.items()}


def flag_events(
    events: Suspects, config: FlagsConfig, known: Mapping[str, Bools] | None = None
) -> Flags:
    """Asks all rules that the events have what they need for.

    Args:
        events: N events.
        config: limits.
        known: events that break rules which were asked before, shape (N,) each.
    """
    broken: dict[str, Bools] = {}
    skipped: dict[str, str] = {}
    score = np.zeros(len(events))
    for name, rule in RULES.items():
        if known is not None and name in known:
            broken[name] = known[name]
            score += rule.weight * broken[name]
            continue
        obstacle = rule.obstacle(events)
        if obstacle is not None:
            skipped[name] = obstacle
            continue
        with np.errstate(invalid="ignore"):
            broken[name] = np.asarray(rule.check(events, config), dtype=np.bool_)
        score += rule.weight * broken[name]
    return Flags(broken, skipped, score)


def _few_jets(events: Suspects, config: FlagsConfig) -> Bools:
    del config
    if "n_jets" in events.columns:
        return np.asarray(events.columns["n_jets"] < 2)
    return np.isnan(events.columns["jet2_pt"])


def _below_trigger(events: Suspects, config: FlagsConfig) -> Bools:
    return np.asarray(events.columns["jet1_pt"] < config.trigger_pt)


def _outside_acceptance(events: Suspects, config: FlagsConfig) -> Bools:
    lists = events.lists()
    return events.any_of(np.abs(lists.eta) > config.max_abs_eta, lists)


def _not_finite(events: Suspects, config: FlagsConfig) -> Bools:
    del config
    found = np.zeros(len(events), dtype=np.bool_)
    for column in events.columns.values():
        found |= np.isinf(column)
    return found


def _absurd_energy(events: Suspects, config: FlagsConfig) -> Bools:
    found = np.zeros(len(events), dtype=np.bool_)
    for name, column in events.columns.items():
        if name.startswith("jet") and name.endswith(("_pt", "_energy")):
            found |= (column < 0) | (np.isfinite(column) & (column > config.sqrt_s / 2))
        elif name in ("m_jj", "m_jjj") or (name.startswith("jet") and name.endswith("_mass")):
            found |= (column < 0) | (np.isfinite(column) & (column > config.sqrt_s))
    return found


def dijet_mass(columns: Columns) -> Floats:
    """Mass of the two leading jets in GeV from their pT, eta, phi and mass, shape (N,)."""
    energy, px, py, pz = (np.zeros(len(columns["jet1_pt"])) for _ in range(4))
    for jet in _JETS:
        pt, eta, phi, mass = (columns[f"{jet}_{name}"] for name in ("pt", "eta", "phi", "mass"))
        energy = energy + np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
        px, py, pz = px + pt * np.cos(phi), py + pt * np.sin(phi), pz + pt * np.sinh(eta)
    return np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0))


def _wrong_m_jj(events: Suspects, config: FlagsConfig) -> Bools:
    m_jj, expected = events.columns["m_jj"], dijet_mass(events.columns)
    is_known = np.isfinite(m_jj) & np.isfinite(expected)
    return is_known & (np.abs(m_jj - expected) > config.tolerance_m_jj * np.maximum(expected, 1.0))


def _one_particle(events: Suspects, config: FlagsConfig) -> Bools:
    columns = events.columns
    shares = [columns[f"{jet}_pt_lead"] / columns[f"{jet}_pt"] for jet in _JETS]
    return np.asarray((shares[0] > config.lead_share) | (shares[1] > config.lead_share))


def _same_particles(events: Suspects, config: FlagsConfig) -> Bools:
    del config
    lists = events.lists()
    order = np.lexsort((lists.phi, lists.eta, lists.pt, lists.event))
    same = np.zeros(len(order), dtype=np.bool_)
    equal = np.ones(max(0, len(order) - 1), dtype=np.bool_)
    for values in (lists.event, lists.pt, lists.eta, lists.phi):
        equal &= np.diff(values[order]) == 0
    same[order[1:]] = equal
    return events.any_of(same, lists)


def _same_event(events: Suspects, config: FlagsConfig) -> Bools:
    del config
    _, place, counts = np.unique(events.event_digest, return_inverse=True, return_counts=True)
    return np.asarray(counts[place] > 1)


def _near_event(events: Suspects, config: FlagsConfig) -> Bools:
    """Pairs of events with the same jets, whatever their azimuth, that are not equal."""
    columns = []
    for name in _NEAR:
        values = events.columns[name]
        columns.append(values if name.endswith("_eta") else np.log(np.maximum(values, 1e-3)))
    points = np.column_stack(columns)
    # One of equal events, since all pairs of many copies fill the memory.
    _, first, place = np.unique(events.event_digest, return_index=True, return_inverse=True)
    rows = first[np.isfinite(points[first]).all(axis=1)]
    found = np.zeros(len(events), dtype=np.bool_)
    if not len(rows):
        return found
    tree = cKDTree(points[rows])
    # In the largest of the differences, so that each of them is below the limit.
    pairs = tree.query_pairs(config.near, p=np.inf, output_type="ndarray")
    found[rows[np.unique(pairs)]] = True
    return np.asarray(found[first[place]])


def _extreme_ratio(events: Suspects, config: FlagsConfig) -> Bools:
    columns, found = events.columns, np.zeros(len(events), dtype=np.bool_)
    for jet in _JETS:
        found |= columns[f"{jet}_mass"] > config.max_mass_over_pt * columns[f"{jet}_pt"]
    for name, column in columns.items():
        if "tau21" in name or "tau32" in name:
            found |= np.isfinite(column) & ((column < 0) | (column > 1 + 1e-6))
    return found


def _unit_jump(events: Suspects, config: FlagsConfig) -> Bools:
    """Files whose median pT is far from that of most files; of two files, nobody knows which."""
    values, found = events.columns["jet1_pt"], np.zeros(len(events), dtype=np.bool_)
    is_known = np.isfinite(values) & (values > 0)
    medians = {
        name: float(np.median(values[mine]))
        for name in sorted(set(events.source.tolist()))
        if (mine := is_known & (events.source == name)).any()
    }
    middle = np.median(np.log(list(medians.values())))
    for name, median in medians.items():
        if abs(np.log(median) - middle) > np.log(config.unit_jump):
            found |= events.source == name
    return found


def _not_believed(events: Suspects, config: FlagsConfig) -> Bools:
    if events.confidence is None:
        raise ValueError("no confidence")
    return np.asarray(events.confidence < config.believed)


def _unlike_neighbours(events: Suspects, config: FlagsConfig) -> Bools:
    """Compares the densities of both classes at an event, each from its k-th nearest event there.

    So a rare class is judged as fairly as a frequent one.
    """
    points = np.column_stack([events.columns[name] for name in _NEIGHBOURS])
    is_known = np.isfinite(points).all(axis=1)
    found = np.zeros(len(events), dtype=np.bool_)
    classes = [np.flatnonzero(is_known & (events.label == one)) for one in _CLASSES]
    number = min(config.neighbours, *(len(rows) - 1 for rows in classes))
    if number < 1:
        return found
    points[:, :2] = np.log1p(np.maximum(points[:, :2], 0.0))
    spread = np.subtract(*np.quantile(points[is_known], (0.84, 0.16), axis=0))
    points = points / np.where(spread > 0, spread, 1.0)
    trees = [cKDTree(points[rows]) for rows in classes]
    for own, other in ((0, 1), (1, 0)):
        rows = classes[own]
        # The nearest of its own class is the event itself.
        near, far = (
            trees[one].query(points[rows], [number + more], workers=-1)[0][:, 0]
            for one, more in ((own, 1), (other, 0))
        )
        ratio = (np.maximum(near, 1e-9) / np.maximum(far, 1e-9)) ** len(_NEIGHBOURS)
        ratio *= len(rows) / len(classes[other])
        found[rows] = 1 / (1 + ratio) < config.neighbour_share
    return found


RULES: Mapping[str, Rule] = {
    "few_jets": Rule(_few_jets, "fewer than two jets", 1.0, ("jet2_pt",)),
    "below_trigger": Rule(_below_trigger, "leading jet below the trigger", 1.0, ("jet1_pt",)),
    "outside_acceptance": Rule(
        _outside_acceptance, "a particle outside of the acceptance", 1.0, (), "particles"
    ),
    "not_finite": Rule(_not_finite, "an infinite value", 1.0),
    "absurd_energy": Rule(_absurd_energy, "a negative or impossible energy or mass", 1.0),
    "wrong_m_jj": Rule(
        _wrong_m_jj,
        "m_jj that does not follow from the jets",
        1.0,
        ("m_jj", *(f"{jet}_{name}" for jet in _JETS for name in ("pt", "eta", "phi", "mass"))),
    ),
    "one_particle": Rule(
        _one_particle,
        "one particle carries most of a leading jet",
        0.5,
        tuple(f"{jet}_{name}" for jet in _JETS for name in ("pt", "pt_lead")),
    ),
    "same_particles": Rule(_same_particles, "a particle that is there twice", 1.0, (), "particles"),
    "same_event": Rule(_same_event, "an event that is there more than once", 1.0),
    "near_event": Rule(_near_event, "nearly the jets of another event, turned or not", 1.0, _NEAR),
    "extreme_ratio": Rule(
        _extreme_ratio,
        "jet mass above its pT, or a ratio of tau outside of 0 to 1",
        0.5,
        tuple(f"{jet}_{name}" for jet in _JETS for name in ("pt", "mass")),
    ),
    "unit_jump": Rule(
        _unit_jump, "its file has another unit than the others", 1.0, ("jet1_pt",), "sources"
    ),
    "not_believed": Rule(
        _not_believed, "mapped runs hardly believe its label", 0.5, (), "confidence"
    ),
    "unlike_neighbours": Rule(
        _unlike_neighbours, "its neighbours have the other label", 0.5, _NEIGHBOURS, "labels"
    ),
}
"""All rules by name; the names are the columns of the side table."""
