"""``hepllm search --scan``: scans a dataset over the masses of X and Y, blind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hepllm.config import Config
from hepllm.files import refuse_existing, write_errors, write_text, write_together
from hepllm.pictures.mass_plane import plot_plane_limits, plot_significances
from hepllm.provenance import Call, shown_date, this_call
from hepllm.report.data_uris import stored
from hepllm.report.html import as_html
from hepllm.report.mass_plane import PLANE_PICTURES, plane_chapter
from hepllm.report.page import Chapter, Page
from hepllm.report.text import as_text
from hepllm.search.plane_records import PlaneScan

SCAN, TABLE, REPORT = "scan.json", "scan.txt", "scan.html"
_SIGNIFICANCES, _LIMITS = "scan.png", "scan_limits.png"
_FILES = (SCAN, TABLE, REPORT, _SIGNIFICANCES, _LIMITS)


@dataclass(frozen=True)
class PlaneReport:
    """A scan, and the files that were written."""

    name: str
    scan: PlaneScan
    files: Sequence[Path] = ()

    @property
    def text(self) -> str:
        """The findings as plain text."""
        return as_text(plane_chapter(self.scan, self.name))

    def tree(self) -> dict[str, object]:
        """The record as a JSON document."""
        return self.scan.tree()


def scan_dataset(
    folder: Path, config: Config, output: Path, *, run: Path, overwrite: bool = False
) -> PlaneReport:
    """Scans a dataset by a run.

    Args:
        folder: the dataset.
        config: settings of the search, in ``evaluation.search``, and the seed.
        output: folder of the results.
        run: a run that was trained with hypotheses.
        overwrite: replace an earlier scan in the folder.

    Raises:
        InputError: if the dataset or the run cannot be used, the box has too few events, or the
            output exists.
        RunError: if the background cannot be fitted, or the output cannot be written.
    """
    refuse_existing(output, _FILES, overwrite)
    from hepllm.runs.folder import open_run
    from hepllm.runs.plane_scan import scan_by_run

    name, scan = folder.resolve().name, scan_by_run(open_run(run), folder, config)
    with write_errors(output, "choose another --output"), write_together(output) as made:
        scan.write(made / SCAN)
        files = [SCAN, _SIGNIFICANCES, TABLE, REPORT]
        plot_significances(name, scan, made / _SIGNIFICANCES)
        if any(one.limit is not None for one in scan.points):
            plot_plane_limits(name, scan, made / _LIMITS)
            files.insert(2, _LIMITS)
        found = PlaneReport(name, scan, tuple(output / file for file in files))
        write_text(made / TABLE, f"{found.text}\n")
        write_text(made / REPORT, as_html(_page(found, made, this_call())))
    return found


def _page(found: PlaneReport, folder: Path, call: Call) -> Page:
    pictures = [
        stored(folder / file, f"{text}; {found.name}", caption)
        for file, (text, caption) in PLANE_PICTURES.items()
        if (folder / file).exists()
    ]
    facts = [("written", shown_date(call.date)), ("command", call.command)]
    facts += [
        (one.file, f"{one.events} events, SHA-256 {one.sha256}")
        for one in found.scan.blackbox.sources
    ]
    if found.scan.run is not None:
        facts.append(("scores", f"by the run {found.scan.run}"))
    versions = Chapter("Versions", facts=list(call.versions.items()))
    chapter = plane_chapter(found.scan, found.name, pictures)
    return Page(f"hepllm search --scan: {found.name}", facts, [chapter, versions])
