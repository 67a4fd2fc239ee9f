"""The manifest of a dataset: its contents and origin."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from hepllm.data.signal_points import SignalPoint


class _ManifestPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceFile(_ManifestPart):
    """An input file of a dataset; the column ``source`` contains its ``name``.

    ``signal_points`` has the true masses and decays of its signal events, where they are known.
    """

    name: str
    file: str
    size: int
    sha256: str
    events: int
    masterkey: str | None = None
    masterkey_sha256: str | None = None
    signal_points: tuple[SignalPoint, ...] | None = None


class CutFlowStep(_ManifestPart):
    """Events left after a step of the selection."""

    name: str
    events: int


class Shard(_ManifestPart):
    """One Parquet file of the dataset."""

    file: str
    events: int
    sha256: str


class Manifest(_ManifestPart):
    """Contents and origin of a dataset.

    Attributes:
        config: the resolved configuration without the settings that do not change the contents.
        counts: events by label, for each split and for ``all``.
        duplicate_events: events with the same content as an earlier row of the same source.
        packages: versions of the packages that made it.
    """

    schema_version: int
    config: dict[str, Any]
    sources: list[SourceFile]
    cut_flow: list[CutFlowStep]
    n_events: int
    counts: dict[str, dict[str, int]]
    duplicate_events: int
    packages: dict[str, str]
    features: list[str]
    shards: list[Shard]
