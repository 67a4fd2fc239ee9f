"""Black boxes scored by a run, and tables of what a search finds in them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from hepllm.config import Config, SearchConfig, override_config
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.errors import InputError
from hepllm.evaluation.efficiency import clopper_pearson
from hepllm.model.inputs import ModelInputs
from hepllm.runs.box_search import reference_signal
from hepllm.runs.cascade import fit_boosting_alone, open_cascade
from hepllm.runs.comparison import Contest
from hepllm.runs.folder import Run, open_run
from hepllm.runs.run_model import RunModel
from hepllm.runs.score_files import calibrate
from hepllm.schema import SIGNAL
from hepllm.search.box import BoxEvents
from hepllm.search.hunt import search
from hepllm.search.measurements import Measurement
from hepllm.search.records import SearchFindings, Truth
from hepllm.search.submission import Key, ReferenceSignal, findings_of, truth_of

LOG = logging.getLogger("search_power")

Floats = NDArray[np.float64]

PATH = click.Path(path_type=Path)
SMALL, EVIDENCE = 0.05, 1e-3


class KnownFindings(SearchFindings):
    """Findings in a box, and what its key says."""

    truth: Truth | None = None
    """True content of the box; None where there is no key."""


@dataclass(frozen=True, eq=False)
class Box:
    """A scored box and what its key says."""

    name: str
    events: BoxEvents
    is_signal: NDArray[np.bool_]

    def thinned(self, fraction: float, seed: int) -> Box:
        """With so much of the signal left out that it is a fraction of the events."""
        signal = np.flatnonzero(self.is_signal)
        n_background = len(self.is_signal) - len(signal)
        wanted = round(fraction / (1 - fraction) * n_background)
        if wanted > len(signal):
            raise InputError(f"{self.name}: {len(signal)} signal events, fewer than {wanted}")
        random = np.random.default_rng([seed, 41])
        kept = ~self.is_signal
        kept[random.choice(signal, wanted, replace=False)] = True
        return self.only(kept)

    def only(self, events: NDArray[np.bool_]) -> Box:
        """The events of a mask, shape (N,)."""
        return Box(self.name, self.events.take(events), self.is_signal[events])

    def searched(
        self, config: SearchConfig, seed: int, reference: ReferenceSignal | None
    ) -> KnownFindings:
        """Searches it; the truth stands beside what was found."""
        found = findings_of(search(self.events, config, seed), reference)
        key = Key(self.is_signal, self.events.score, self.events.m_jj)
        return KnownFindings(**dict(found), truth=truth_of(found, key))


@dataclass(frozen=True, eq=False)
class Scoring:
    """Scores boxes with a run's classifier."""

    run: Run
    config: Config
    score: Callable[[Floats, str], Floats]
    reference: ReferenceSignal | None
    cache: Path | None

    def open(self, folder: Path) -> Box:
        """Reads and scores a box."""
        dataset = read_dataset(folder)
        features = self.run.config.train.feature_names()
        names = tuple(dict.fromkeys((*features, "m_jj", "jet_mass_light", "jet_mass_delta")))
        table = dataset.load(names)
        table = table.take(~np.isin(table.event_digest, self.run.used_events()))
        scores = self._scores(dataset, table.features[:, : len(features)])
        light = table.column("jet_mass_light")
        heavy = light + table.column("jet_mass_delta")
        events = BoxEvents(scores, table.column("m_jj"), light, heavy)
        return Box(folder.name, events, table.label == SIGNAL)

    def _scores(self, dataset: Dataset, rows: Floats) -> Floats:
        file = None if self.cache is None else self.cache / f"{dataset.digest[:16]}.npy"
        if file is not None and file.exists():
            scores: Floats = np.load(file, allow_pickle=False)
            if len(scores) == len(rows):
                return scores
        scores = self.score(rows, dataset.folder.name)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, scores, allow_pickle=False)
        return scores


def open_scoring(run_folder: Path, options: dict[str, Any]) -> Scoring:
    """Loads the classifier that the options name."""
    run = open_run(run_folder)
    settings = [f"evaluation.search.{one}" for one in options["settings"]]
    if options["cascade"] is not None:
        settings.append(f"evaluation.cascade={options['cascade']}")
    config = override_config(run.config, settings)
    cache = options["cache"]
    if options["scorer"] == "boosting":
        boosting = fit_boosting_alone(run)
        table = run.dataset().load(run.config.train.feature_names(), "val")
        reference = reference_of(run, boosting.score(table.features))
        place = None if cache is None else cache / "boosting"
        return Scoring(run, config, lambda rows, _: boosting.score(rows), reference, place)
    cascade = open_cascade(run, config.evaluation)
    model = RunModel(run, config.evaluation.batch_size)
    contest = Contest(config.evaluation, config.seed, model, cascade=cascade)
    validation = (calibrate(run, "none") if cascade is None else cascade.calibration).validation
    place = None if cache is None else cache / f"llm-{options['cascade']}"

    def score(rows: Floats, name: str) -> Floats:
        measured = contest.measure(name, ModelInputs(rows))
        LOG.info(
            "%s: %d of %d events were scored by the language model, %.0f events/s",
            name, measured.n_kept, len(rows), len(rows) / measured.seconds,
        )  # fmt: skip
        return measured.score

    return Scoring(run, config, score, reference_signal(run, validation), place)


def reference_of(run: Run, scores: Floats) -> ReferenceSignal:
    """The signal of the whole validation split as the boosting scores it."""
    table = run.dataset().load(("m_jj",), "val")
    signal = table.label == SIGNAL
    return ReferenceSignal(
        scores[signal], table.column("m_jj")[signal], table.weight[signal], "the validation signal"
    )


_COLUMNS = (
    "box", "N", "S true", "kept (events)", "p", "toys", "mass [GeV]", "true median", "light [GeV]",
    "heavy [GeV]", "S selected", "S true selected", "fit p", "KS p",
)  # fmt: skip


def row_of(box: str, found: KnownFindings) -> list[str]:
    """One line of the table."""
    best, truth = found.best_selection, found.truth
    chosen = next(one for one in found.selections if one.efficiency == best)
    shape, median, true = chosen.shape_without_resonance, None, None
    if truth is not None:
        median = truth.median_m_jj_of_signal_gev
        true = next(one.n_signal for one in truth.selections if one.efficiency == best)
    return [
        box,
        str(found.n_events),
        "-" if truth is None else str(truth.n_signal_box),
        ", ".join(f"{one.efficiency:g} ({one.n_selected})" for one in found.selections),
        f"{found.p_value:.2g}",
        str(found.n_toys),
        _measured(found.resonance_mass_gev),
        "-" if median is None else f"{median:.0f}",
        _measured(found.jet_masses_gev.light),
        _measured(found.jet_masses_gev.heavy),
        f"{_measured(found.n_signal_selected)} at {best:g}",
        "-" if true is None else str(true),
        f"{found.spectrum_before_cut.goodness_p:.2f}",
        "-" if shape is None else f"{shape.ks_p:.2g}",
    ]


def _measured(found: Measurement | None) -> str:
    return "-" if found is None else f"{found.value:.0f} -{found.below:.0f} +{found.above:.0f}"


def print_table(reports: Sequence[tuple[str, SearchFindings]], file: Path | None) -> None:
    """Prints what was found in boxes, by name, as a Markdown table, and writes it as JSON."""
    click.echo("| " + " | ".join(_COLUMNS) + " |")
    click.echo("|" + "---|" * len(_COLUMNS))
    for box, found in reports:
        click.echo("| " + " | ".join(row_of(box, found)) + " |")
    values = np.array([found.p_value for _, found in reports])
    for limit in (SMALL, EVIDENCE):
        k, n = int((values < limit).sum()), len(values)
        low, high = clopper_pearson(k, n)
        click.echo(f"p < {limit:g}: {k} of {n}, share {k / n:.2f} [{low:.2f}, {high:.2f}] (95 %)")
    if file is not None:
        trees = [{"box": box, **found.tree()} for box, found in reports]
        file.write_text(json.dumps(trees, indent=1) + "\n", encoding="utf-8")


def scoring_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of all commands that score boxes."""
    options = [
        click.option("--scorer", type=click.Choice(["llm", "boosting"]), default="llm"),
        click.option("--cascade", type=float, help="Share of background that reaches the LLM."),
        click.option("--cache", type=PATH, help="Folder in which scores are kept."),
        click.option("--set", "settings", multiple=True, help="Of evaluation.search: key=value."),
        click.option("--seed", type=int, default=1, show_default=True),
        click.option("--json", "json_file", type=PATH, help="Also write the results here."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def pooled(boxes: Sequence[Box], name: str) -> Box:
    """The events of several boxes as one."""
    columns = ("score", "m_jj", "jet_mass_light", "jet_mass_heavy")
    joined = [np.concatenate([getattr(box.events, column) for box in boxes]) for column in columns]
    return Box(name, BoxEvents(*joined), np.concatenate([box.is_signal for box in boxes]))
