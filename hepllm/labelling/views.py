"""Views of an event that physics makes equal: reflected, rotated, or with jets exchanged.

A collision of equal beams has no preferred azimuth and no preferred beam, and which of two jets is
called the first is a convention. So an event has one class in all of these views. No label enters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hepllm.arrays import Floats
from hepllm.model.inputs import ModelInputs
from hepllm.schema import FEATURES

MOST_VIEWS = 4
_SEED = 17


def view_of(inputs: ModelInputs, names: Sequence[str], view: int, seed: int) -> ModelInputs:
    """Returns N events in one of the views.

    Args:
        inputs: the events as they are.
        names: the F features of ``inputs.numbers``.
        view: 0 as they are; 1 reflected in eta; 2 leading jets exchanged; 3 both. From 1 on each
            event is also rotated by an angle of its own.
        seed: decides the angles.
    """
    if not view:
        return inputs
    reflects, exchanges = bool(view & 1), bool(view & 2)
    angle = np.random.default_rng([seed, _SEED, view]).uniform(-math.pi, math.pi, len(inputs))
    numbers = inputs.numbers
    if exchanges:
        numbers = numbers[:, [_place_of_exchanged(name, names) for name in names]]
    numbers = numbers.copy()
    for column, name in enumerate(names):
        if name.endswith("_phi") and name in FEATURES and name != "delta_phi":
            numbers[:, column] = _wrapped(numbers[:, column] + angle)
        elif (name.endswith("_eta") and name != "delta_eta" and reflects) or (
            name == "delta_eta" and reflects != exchanges
        ):
            numbers[:, column] *= -1.0
    particles = inputs.particles
    if particles is not None:
        particles = particles[:, ::-1].copy() if exchanges else particles.copy()
        if reflects:
            particles[..., 1] *= -1.0
        particles[..., 2] = _wrapped(particles[..., 2] + angle[:, None, None])
    return ModelInputs(numbers, particles, inputs.text, inputs.hypothesis)


def distinct_views(inputs: ModelInputs, names: Sequence[str], most: int, seed: int) -> list[int]:
    """Returns the views, at most ``most``, that differ from those before for some event.

    Features that physics makes invariant, such as jets ordered by mass, leave the first one alone.
    So do columns of the user's own, of which it is not known how they change.
    """
    found: list[int] = [0]
    if any(name not in FEATURES for name in names):
        return found
    seen = [inputs]
    for view in range(1, MOST_VIEWS):
        if len(found) == most:
            break
        candidate = view_of(inputs, names, view, seed)
        if not any(_same(candidate, earlier) for earlier in seen):
            found.append(view)
            seen.append(candidate)
    return found


def _place_of_exchanged(name: str, names: Sequence[str]) -> int:
    other = name
    if name.startswith(("jet1_", "jet2_")):
        other = f"jet{3 - int(name[3])}{name[4:]}"
    if other not in names:
        raise ValueError(f"jets cannot be exchanged: there is {name}, and no {other}")
    return list(names).index(other)


def complete(names: Sequence[str]) -> bool:
    """Whether each feature of one of the leading jets is there for the other one, too."""
    known = set(names)
    return all(
        f"jet{3 - int(name[3])}{name[4:]}" in known
        for name in names
        if name.startswith(("jet1_", "jet2_"))
    )


def _wrapped(phi: Floats) -> Floats:
    return np.asarray(np.mod(phi + math.pi, 2 * math.pi) - math.pi)


def _same(first: ModelInputs, second: ModelInputs) -> bool:
    if not np.array_equal(first.numbers, second.numbers, equal_nan=True):
        return False
    if first.particles is None or second.particles is None:
        return True
    return np.array_equal(first.particles, second.particles, equal_nan=True)
