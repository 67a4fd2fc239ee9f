"""Each rule of the flags has an event that breaks it and no other one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hepllm.cartography.flags import RULES, ParticleLists, Suspects, dijet_mass, flag_events
from hepllm.config import FlagsConfig

N, PLACE = 400, 123
"""Events, and the one that is spoilt."""

Change = Callable[[Suspects], Suspects]


@pytest.fixture(scope="module")
def events() -> Suspects:
    """Events of three files without a fault, whose classes lie apart."""
    random = np.random.default_rng(1)
    label = (np.arange(N) % 2).astype(np.int8)
    is_signal = label.astype(np.float64)
    columns: dict[str, np.ndarray] = {}
    for jet, least in (("jet1", 1400), ("jet2", 1000)):
        columns[f"{jet}_pt"] = random.uniform(least, least + 200, N)
        columns[f"{jet}_eta"] = random.uniform(-1.5, 1.5, N)
        columns[f"{jet}_phi"] = random.uniform(-np.pi, np.pi, N)
        columns[f"{jet}_mass"] = random.uniform(80, 120, N) + 300 * is_signal
        columns[f"{jet}_pt_lead"] = 0.3 * columns[f"{jet}_pt"]
        columns[f"{jet}_tau21"] = random.uniform(0.5, 0.8, N) - 0.4 * is_signal
    columns["n_jets"] = np.full(N, 2.0)
    columns["m_jj"] = dijet_mass(columns)
    light = np.minimum(columns["jet1_mass"], columns["jet2_mass"])
    columns["jet_mass_light"] = light
    columns["jet_mass_delta"] = np.maximum(columns["jet1_mass"], columns["jet2_mass"]) - light
    columns["tau21_light"], columns["tau21_heavy"] = columns["jet1_tau21"], columns["jet2_tau21"]
    event = np.repeat(np.arange(N), 5)
    pt, eta = random.uniform(1, 50, 5 * N), random.uniform(-2, 2, 5 * N)
    return Suspects(
        event_digest=np.arange(N, dtype=np.uint64),
        label=label,
        columns=columns,
        source=np.array(["first", "second", "third"], dtype=object)[np.arange(N) * 3 // N],
        particles=ParticleLists(event, pt, eta, np.zeros(5 * N)),
        confidence=np.full(N, 0.9),
    )


def value(**changes: float) -> Change:
    """Replaces values of the spoilt event."""

    def change(events: Suspects) -> Suspects:
        columns = {name: values.copy() for name, values in events.columns.items()}
        for name, one in changes.items():
            columns[name][PLACE] = one
        return replace(events, columns=columns)

    return change


def lead_of_all(events: Suspects) -> Suspects:
    return value(jet2_pt_lead=0.95 * events.columns["jet2_pt"][PLACE])(events)


def particle(**values: float) -> Change:
    """Replaces the first particle of the event."""

    def change(events: Suspects) -> Suspects:
        assert events.particles is not None
        arrays = {name: getattr(events.particles, name).copy() for name in ("pt", "eta", "phi")}
        for name, one in values.items():
            arrays[name][5 * PLACE] = one
        return replace(events, particles=ParticleLists(events.particles.event, **arrays))

    return change


def twin(events: Suspects) -> Suspects:
    """Its first particle is there again."""
    assert events.particles is not None
    second = {name: getattr(events.particles, name)[5 * PLACE + 1] for name in ("pt", "eta", "phi")}
    return particle(**second)(events)


def trigger(events: Suspects) -> Suspects:
    """The jets of the event are softer, and the rest follows."""
    columns = {name: values.copy() for name, values in events.columns.items()}
    for name in ("jet1_pt", "jet1_pt_lead"):
        columns[name][PLACE] *= 1100 / events.columns["jet1_pt"][PLACE]
    columns["m_jj"][PLACE] = dijet_mass(columns)[PLACE]
    return replace(events, columns=columns)


def again(events: Suspects) -> Suspects:
    digest = events.event_digest.copy()
    digest[PLACE] = digest[0]
    return replace(events, event_digest=digest)


def turned(events: Suspects) -> Suspects:
    """Its jets are those of another event, turned by a half."""
    columns = {name: values.copy() for name, values in events.columns.items()}
    for name, values in columns.items():
        shift = np.pi if name.endswith("_phi") else 0.0
        values[PLACE] = events.columns[name][PLACE + 2] + shift
    return replace(events, columns=columns)


def heavy(events: Suspects) -> Suspects:
    """A mass above the pT, with an m_jj that follows."""
    columns = {name: values.copy() for name, values in events.columns.items()}
    columns["jet2_mass"][PLACE] = 1.1 * columns["jet2_pt"][PLACE]
    columns["m_jj"][PLACE] = dijet_mass(columns)[PLACE]
    return replace(events, columns=columns)


def other_unit(events: Suspects) -> Suspects:
    """The second file is in MeV; thresholds do not see it, since they are from below."""
    mine = events.source == "second"
    energies = ("_pt", "_mass", "_pt_lead", "m_jj", "jet_mass_light", "jet_mass_delta")
    columns = {
        name: np.where(mine, 3.2 * values, values) if name.endswith(energies) else values
        for name, values in events.columns.items()
    }
    return replace(events, columns=columns)


def doubted(events: Suspects) -> Suspects:
    confidence = np.full(N, 0.9)
    confidence[PLACE] = 0.01
    return replace(events, confidence=confidence)


def exchanged(events: Suspects) -> Suspects:
    label = events.label.copy()
    label[PLACE] = 1 - label[PLACE]
    return replace(events, label=label)


BREAKS: dict[str, Change] = {
    "few_jets": value(n_jets=1.0),
    "below_trigger": trigger,
    "outside_acceptance": particle(eta=5.1),
    "not_finite": value(jet1_tau21=np.inf),
    "absurd_energy": value(m_jjj=-5.0),
    "wrong_m_jj": value(m_jj=5000.0),
    "one_particle": lead_of_all,
    "same_particles": twin,
    "same_event": again,
    "near_event": turned,
    "extreme_ratio": heavy,
    "unit_jump": other_unit,
    "not_believed": doubted,
    "unlike_neighbours": exchanged,
}


def test_events_without_a_fault_break_no_rule(events: Suspects) -> None:
    flags = flag_events(events, FlagsConfig())
    assert not flags.skipped
    assert {name: int(mask.sum()) for name, mask in flags.broken.items() if mask.any()} == {}
    assert not flags.score.any()


@pytest.mark.parametrize("name", RULES)
def test_an_event_breaks_only_this_rule(name: str, events: Suspects) -> None:
    if name == "absurd_energy":
        events = replace(events, columns={**events.columns, "m_jjj": np.full(N, 4000.0)})
    config = FlagsConfig(unit_jump=3.0, sqrt_s=40_000.0)
    flags = flag_events(BREAKS[name](events), config)
    found = {rule for rule, mask in flags.broken.items() if mask.any()}
    assert found == {name}
    assert flags.broken[name][200 if name == "unit_jump" else PLACE]
    expected = {"same_event": 2, "near_event": 2, "unit_jump": 133}.get(name, 1)
    assert flags.broken[name].sum() == expected
    assert (flags.score[flags.broken[name]] == RULES[name].weight).all()


def test_rules_that_lack_what_they_need_are_named(events: Suspects) -> None:
    bare = Suspects(
        events.event_digest,
        np.full(N, -1, dtype=np.int8),
        {name: events.columns[name] for name in ("jet_mass_light", "m_jj")},
        np.full(N, "one", dtype=object),
    )
    flags = flag_events(bare, FlagsConfig())
    assert set(flags.broken) == {"not_finite", "absurd_energy", "same_event"}
    assert flags.skipped["outside_acceptance"] == "no particles"
    assert flags.skipped["not_believed"] == "no mapped runs"
    assert flags.skipped["wrong_m_jj"] == "no jet1_pt"


def test_labels_of_one_class_have_no_other_neighbours(events: Suspects) -> None:
    for label in (np.ones(N, dtype=np.int8), np.full(N, -1, dtype=np.int8)):
        flags = flag_events(replace(events, label=label), FlagsConfig())
        assert flags.skipped["unlike_neighbours"] == "no two labelled classes"


def test_neighbours_are_asked_at_equal_classes(events: Suspects) -> None:
    """With signal of one event in ten, its neighbours are background everywhere."""
    label = np.zeros(N, dtype=np.int8)
    label[::10] = 1
    random = np.random.default_rng(2)
    columns = {
        name: random.normal(5.0, 1.0, N)
        for name in ("jet_mass_light", "jet_mass_delta", "tau21_light", "tau21_heavy")
    }
    mixed = replace(events, label=label, columns=columns)
    flags = flag_events(mixed, FlagsConfig(neighbour_share=0.1))
    assert not flags.broken["unlike_neighbours"].any()


def test_the_mass_of_two_jets_is_that_of_their_momenta() -> None:
    two = {f"jet{n}_{name}": np.array([0.0]) for n in (1, 2) for name in ("eta", "mass")}
    two |= {"jet1_pt": np.array([1500.0]), "jet2_pt": np.array([1500.0])}
    two |= {"jet1_phi": np.array([0.0]), "jet2_phi": np.array([np.pi])}
    assert dijet_mass(two)[0] == pytest.approx(3000.0)
