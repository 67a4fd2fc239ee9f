"""What a run without labels was trained on: its two classes are data and a template."""

from __future__ import annotations

from pathlib import Path

from hepllm.records import FileRecord, Record
from hepllm.search.measurements import GevRange


class WeakOrigin(Record):
    """A signal region of a box, told from a template of its background."""

    dataset: Path
    """Absolute path of the box, whose labels were not read."""
    dataset_digest: str
    """Digest of the box's contents (SHA-256)."""
    template: str
    """What data are told from: sidebands, density, simulation, reweighted or ideal."""
    background_digest: str | None = None
    """Digest of the other dataset of background; absent where none was needed."""
    region_gev: GevRange
    """Lower and upper end of the signal region."""
    sidebands_gev: GevRange
    """Lower end of the sideband below, and upper end of the sideband above."""
    folds: int
    """Parts of the box."""
    fold: int | None = None
    """The part that the run has not seen, from 0; absent for all runs together."""

    def __str__(self) -> str:
        low, high = self.region_gev
        return f"data of {low:.0f} to {high:.0f} GeV against the template {self.template}"


class FoldRecord(Record):
    """The finished training around a fold."""

    fold: int
    """The fold that it has not seen, from 0."""
    n_data: int
    """Events of data that it was trained on."""
    n_template: int
    """Events of the template that it was trained on."""
    validation_auc: float
    """AUC of data against template, of events around the fold; 0.5 without a signal."""
    validation_argos: float | None = None
    """Excess of data over template at the best cut; absent where train.choose_by is another."""


class WeakRuns(FileRecord):
    """The content of ``weak_runs.json``: runs on one signal region, one for each fold."""

    origin: WeakOrigin
    """What they are trained on."""
    finished: tuple[FoldRecord, ...] = ()
    """Finished trainings."""
