"""``hepllm search --scan --fit``: fits masses and fraction of a signal to a dataset, blind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hepllm.config import Config
from hepllm.files import refuse_existing, write_errors, write_text, write_together
from hepllm.pictures.mixture import plot_mixture
from hepllm.provenance import Call, shown_date, this_call
from hepllm.report.data_uris import stored
from hepllm.report.html import as_html
from hepllm.report.mixture import MIXTURE_CAPTION, MIXTURE_TEXT, mixture_chapter
from hepllm.report.page import Chapter, Page
from hepllm.report.text import as_text
from hepllm.weak.mixture_records import MixtureScan

MIXTURE, TABLE, REPORT, PICTURE = "mixture.json", "mixture.txt", "mixture.html", "mixture.png"
_FILES = (MIXTURE, PICTURE, TABLE, REPORT)


@dataclass(frozen=True)
class MixtureReport:
    """A fit, and the files that were written."""

    name: str
    fit: MixtureScan
    files: Sequence[Path] = ()

    @property
    def text(self) -> str:
        """The findings as plain text."""
        return as_text(mixture_chapter(self.fit, self.name))

    def tree(self) -> dict[str, object]:
        """The record as a JSON document."""
        return self.fit.tree()


def fit_dataset(
    folder: Path, config: Config, output: Path, *, run: Path, overwrite: bool = False
) -> MixtureReport:
    """Fits masses and fraction of a signal to a dataset by the ratios of a run.

    Args:
        folder: the dataset.
        config: settings of the fit, in ``evaluation.search.plane``, and the seed.
        output: folder of the results.
        run: a run that was trained with hypotheses.
        overwrite: replace an earlier fit in the folder.

    Raises:
        InputError: if dataset, template or run cannot be used, or the output exists.
        RunError: if the output cannot be written.
    """
    refuse_existing(output, _FILES, overwrite)
    from hepllm.runs.folder import open_run
    from hepllm.runs.mixture_fit import fit_by_run

    name, found = folder.resolve().name, fit_by_run(open_run(run), folder, config)
    with write_errors(output, "choose another --output"), write_together(output) as made:
        found.write(made / MIXTURE)
        plot_mixture(name, found, made / PICTURE)
        report = MixtureReport(name, found, tuple(output / file for file in _FILES))
        write_text(made / TABLE, f"{report.text}\n")
        write_text(made / REPORT, as_html(_page(report, made, this_call())))
    return report


def _page(report: MixtureReport, folder: Path, call: Call) -> Page:
    picture = stored(folder / PICTURE, f"{MIXTURE_TEXT}; {report.name}", MIXTURE_CAPTION)
    facts = [("written", shown_date(call.date)), ("command", call.command)]
    facts += [
        (one.file, f"{one.events} events, SHA-256 {one.sha256}")
        for one in report.fit.blackbox.sources
    ]
    versions = Chapter("Versions", facts=list(call.versions.items()))
    chapter = mixture_chapter(report.fit, report.name, [picture])
    return Page(f"hepllm search --scan --fit: {report.name}", facts, [chapter, versions])
