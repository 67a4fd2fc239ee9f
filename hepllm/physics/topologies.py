"""The process of Pythia that makes a signal Z' -> X Y with given decays of X and Y.

Pythia's Z' decays to fermions only. Its W' -> W Z, where W is X and Z is Y with changed masses and
decays, has the topology, natural widths and the angular distributions of two longitudinal vector
bosons. With scalars, which decay isotropically, tau21 differs visibly from that of the R&D sample.

Three things are beyond its tables of decays:

* W is charged, so it decays to neither bb nor tt. Where X does, Z' is made neutral: the incoming
  antiquark gets the flavour of the quark (``neutral_resonance``). Its momentum was drawn as that of
  the other antiquark; only the mixture of flavours in the initial state is approximate.
* Three prongs are a chain X -> q D, D -> q q, where D is a colour antitriplet like the squark in
  R-parity violating decays, of 0.6 m_X: the root mean square of the masses of two of three massless
  particles that share the phase space evenly is m_X / sqrt(3).
* W is taken by X, so a top quark decays to b and another particle with the W's mass, charge and
  width, isotropically and to quarks only.

A single quark as X or Y is that of an excited quark, q* -> q Z (q g -> q*), and both as quarks
W' -> q qbar.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hepllm.config import SignalConfig
from hepllm.hypotheses.signal import Decay

LIGHT_QUARKS = (1, 2, 3, 4)

_TOP, _Z, _W, _W_PRIME = 6, 23, 24, 34
_EXCITED_QUARKS = (4000001, 4000002)

_TOP_W = 9900041
"""The W in decays of top quarks; codes that begin with 99 are free for generators."""

_DIQUARKS = {_W: 9900042, _Z: 9900043}
"""D of X and Y, which can have different masses."""

_DIQUARK_MASS = 0.6
"""Mass of D over that of its mother."""

_SHARE = 0.1
"""Branching ratio of added decays; as the only open one of its mother, its size is irrelevant."""

_LEAST_MASS_TT = 355.0
"""GeV; two top quarks of 173 GeV and some of their natural widths."""


@dataclass(frozen=True)
class SignalProcess:
    """Settings of Pythia for a signal.

    Attributes:
        before: settings before ``init``.
        after: settings after it. Before, Pythia would take a decay of W or Z to other resonances
            for closed, because it initialises W and Z first.
        neutral: whether the resonance must be made neutral.
    """

    before: tuple[str, ...]
    after: tuple[str, ...] = ()
    neutral: bool = False


def signal_process(signal: SignalConfig) -> SignalProcess:
    """Chooses the process of a signal and its settings."""
    match signal.decay_x, signal.decay_y:
        case "q", "q":
            return _two_quarks(signal)
        case "q", decay:
            return _quark_and_boson(signal, signal.m_y, decay)
        case decay, "q":
            return _quark_and_boson(signal, signal.m_x, decay)
    return _two_bosons(signal)


def _two_bosons(signal: SignalConfig) -> SignalProcess:
    first = _boson(_W, signal.m_x, signal.decay_x)
    second = _boson(_Z, signal.m_y, signal.decay_y)
    settings = [
        "NewGaugeBoson:ffbar2Wprime = on",
        "Wprime:coup2WZ = 1.",
        *_resonance(_W_PRIME, signal),
        f"{_W_PRIME}:onIfAll = {_Z} {_W}",
        *first.before,
        *second.before,
    ]
    return SignalProcess(tuple(settings), first.after + second.after, first.neutral)


def _quark_and_boson(signal: SignalConfig, mass: float, decay: Decay) -> SignalProcess:
    boson = _boson(_Z, mass, decay)
    settings = ["ExcitedFermion:dg2dStar = on", "ExcitedFermion:ug2uStar = on"]
    for code in _EXCITED_QUARKS:
        settings += [*_resonance(code, signal), f"{code}:onIfAny = {_Z}"]
    return SignalProcess((*settings, *boson.before), boson.after)


def _two_quarks(signal: SignalConfig) -> SignalProcess:
    return SignalProcess(
        (
            "NewGaugeBoson:ffbar2Wprime = on",
            *_resonance(_W_PRIME, signal),
            *_to_light_quarks(_W_PRIME),
        )
    )


def _resonance(code: int, signal: SignalConfig) -> list[str]:
    return [
        f"{code}:m0 = {signal.m_zprime}",
        f"{code}:mWidth = {signal.m_zprime * signal.width}",
        f"{code}:doForceWidth = on",
        f"{code}:onMode = off",
    ]


def _to_light_quarks(code: int) -> list[str]:
    return [f"{code}:onIfAny = {' '.join(map(str, LIGHT_QUARKS))}", f"{code}:offIfAny = 5 6"]


def _boson(code: int, mass: float, decay: Decay) -> SignalProcess:
    """W or Z with another mass and decay."""
    products, particles, least = _decay_of(code, mass, decay)
    before = [
        f"{code}:mMin = {least}",
        f"{code}:m0 = {mass}",
        f"{code}:onMode = off",
        *_to_light_quarks(code),
    ]
    after = [f"{code}:onMode = off"] if products else []
    # Mode 100 takes the branching ratio as it stands.
    after += [f"{code}:addChannel = 1 {_SHARE} 100 {one}" for one in products]
    neutral = code == _W and decay in ("bb", "tt")
    return SignalProcess((*before, *particles), tuple(after), neutral)


def _decay_of(code: int, mass: float, decay: Decay) -> tuple[list[str], list[str], float]:
    """Products of each added channel, settings of the particles in the chain, and least mass."""
    if decay == "tt":
        return [f"{_TOP} -{_TOP}"], _top_quarks(), _LEAST_MASS_TT
    if decay == "qqq":
        diquark = _DIQUARKS[code]
        # With the antidiquark first, Pythia's angular weight takes the coupling of the quark.
        neutral = [f"1 {diquark}", f"-{diquark} -1"]
        least = (1 + _DIQUARK_MASS) / 2 * mass
        return (neutral if code == _Z else [f"2 {diquark}"]), _diquark(diquark, mass), least
    return (["5 -5"] if decay == "bb" else []), [], min(10.0, mass / 2)


def _diquark(code: int, mass: float) -> list[str]:
    """D, a scalar antitriplet of charge 1/3 with the quantum numbers of an anti-down squark."""
    m_diquark = _DIQUARK_MASS * mass
    width = 0.01 * m_diquark
    limits = f"{m_diquark - 5 * width} {m_diquark + 5 * width}"
    return [
        f"{code}:new = D Dbar 1 1 -1 {m_diquark} {width} {limits} 0",
        f"{code}:isResonance = on",
        f"{code}:addChannel = 1 0.5 100 2 3",
        f"{code}:addChannel = 1 0.5 100 4 1",
    ]


def _top_quarks() -> list[str]:
    """Top quarks that decay to three quarks, without the W that X has taken."""
    return [
        f"{_TOP_W}:new = W_t+ W_t- 3 3 0 80.38 2.085 40 160 0",
        f"{_TOP_W}:isResonance = on",
        f"{_TOP_W}:addChannel = 1 0.5 100 2 -1",
        f"{_TOP_W}:addChannel = 1 0.5 100 4 -3",
        f"{_TOP}:onMode = off",
        f"{_TOP}:addChannel = 1 1. 100 5 {_TOP_W}",
    ]


def neutral_resonance(pythia8: Any) -> Any:
    """A user hook that turns an incoming quark and antiquark into ones of the same flavour.

    The final state of X -> bb or tt is neutral, so that Pythia would refuse the event of a W' for
    its charge.
    """

    class NeutralResonance(pythia8.UserHooks):  # type: ignore[misc]
        def canVetoProcessLevel(self) -> bool:  # noqa: N802
            return True

        def doVetoProcessLevel(self, process: Any) -> bool:  # noqa: N802
            quark, antiquark = sorted((process[3], process[4]), key=lambda one: -one.id())
            antiquark.id(-quark.id())
            return False

    return NeutralResonance()
