"""Checks of the packages: whether versions are as declared, and important packages work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement

from hepllm.config import JetsConfig
from hepllm.installation.findings import Finding

OPTIONAL = {
    "simulate": "hepllm simulate",
    "dask": "preprocess --executor dask",
    "weak": "a template from the sidebands",
}
"""Optional extras, and what needs each."""


def _declared() -> list[str]:
    return requires("hepllm") or []


def check_packages(
    declared: Callable[[], Sequence[str]] = _declared, version_of: Callable[[str], str] = version
) -> Finding:
    """Checks whether the required packages are installed in the versions that hepllm declares."""
    wanted = [Requirement(text) for text in declared()]
    needed = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = [fault for one in needed if (fault := _fault(one, version_of))]
    if wrong:
        remedy = "in the source folder: pip install -c constraints.txt ."
        return Finding("packages", "problem", "; ".join(wrong), remedy)
    shown = ("torch", "transformers", "peft", "bitsandbytes")
    versions = [f"{one.name} {version_of(one.name)}" for one in needed if one.name in shown]
    found = f"all {len(needed)} required packages; {', '.join(sorted(versions))}"
    return Finding("packages", "ok", found)


def check_extra(
    extra: str,
    declared: Callable[[], Sequence[str]] = _declared,
    version_of: Callable[[str], str] = version,
) -> Finding:
    """Checks whether an optional group of packages is installed, which only some commands need."""
    marked = [(one, one.marker) for one in map(Requirement, declared()) if one.marker is not None]
    group = [
        one
        for one, marker in marked
        if marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})
    ]
    wrong = [fault for one in group if (fault := _fault(one, version_of))]
    if wrong:
        remedy = f"if you need it: pip install -c constraints.txt '.[{extra}]'"
        found = f"{'; '.join(wrong)} (only {OPTIONAL[extra]} needs it)"
        return Finding(f"optional {extra}", "warning", found, remedy)
    versions = ", ".join(f"{one.name} {version_of(one.name)}" for one in group)
    return Finding(f"optional {extra}", "ok", versions)


def check_fastjet() -> Finding:
    """Checks whether fastjet clusters two back-to-back particles of 100 GeV into two jets."""
    from hepllm.physics.events import Particles
    from hepllm.physics.jets import cluster

    particles = Particles(
        pt=np.array([100.0, 100.0]),
        eta=np.array([0.5, -0.5]),
        phi=np.array([1.0, 1.0 - np.pi]),
        counts=np.array([2]),
    )
    jets = cluster(particles, JetsConfig())
    if jets.counts.tolist() != [2] or not np.allclose(jets.momenta.pt, 100.0):
        found = f"two particles of 100 GeV became jets of pT {jets.momenta.pt.tolist()}"
        remedy = "reinstall it: pip install --force-reinstall -c constraints.txt fastjet"
        return Finding("fastjet", "problem", found, remedy)
    return Finding("fastjet", "ok", f"fastjet {version('fastjet')} clusters")


def check_tensorboard(folder: Path) -> Finding:
    """Checks, in an empty folder, whether a curve can be written for TensorBoard and read back."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from hepllm.learning.monitor import Monitor

    with Monitor(folder) as monitor:
        monitor.step(1, {"doctor": 0.5}, [])
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    values = [scalar.value for scalar in events.Scalars("doctor")]
    if values != [0.5]:
        found = f"a curve of [0.5] was read back as {values}"
        remedy = "reinstall it: pip install --force-reinstall -c constraints.txt tensorboard"
        return Finding("tensorboard", "problem", found, remedy)
    return Finding("tensorboard", "ok", f"tensorboard {version('tensorboard')} writes and reads")


def _fault(wanted: Requirement, version_of: Callable[[str], str]) -> str:
    try:
        found = version_of(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name}{wanted.specifier} is not installed"
    if wanted.specifier.contains(found, prereleases=True):
        return ""
    return f"{wanted.name} {found}, wanted {wanted.specifier}"
