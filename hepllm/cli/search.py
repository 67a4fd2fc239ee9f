"""The command that searches scores of any classifier for a resonance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from hepllm.cli.options import PATH, Settings, common, hypothesis_option, print_reports
from hepllm.config import load_config
from hepllm.config.inputs import GEV, EnergyUnit
from hepllm.config.weak import BackgroundTemplate, WeakClassifier
from hepllm.runs import CONFIG, WEAK_RUNS

if TYPE_CHECKING:
    from hepllm.config import Config
    from hepllm.stages.mixture_fit import MixtureReport
    from hepllm.stages.plane_scan import PlaneReport
    from hepllm.stages.search import SearchReport

UNITS = tuple(GEV)
TEMPLATES: tuple[str, ...] = get_args(BackgroundTemplate)
CLASSIFIERS: tuple[str, ...] = get_args(WeakClassifier)


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=PATH, metavar="INPUT...")
@click.option("--output", type=PATH, help="Folder of the results [searches/<INPUT>].")
@click.option("--run", type=PATH, help="A run that scores INPUT, a dataset.")
@click.option("--scores", type=PATH, help="Scores of INPUT, a dataset; joined by event_id, source.")
@click.option("--score", default="score", show_default=True, help="Column of the scores.")
@click.option("--mass", help="Column of the mass, such as m_jjj [m_jj].")
@click.option("--light", help="Column of a jet's mass, lighter or not [the usual one, if there].")
@click.option("--heavy", help="Column of the other jet's mass.")
@click.option("--label", help="Column of the labels, read afterwards [label]; 'none': no labels.")
@click.option("--masterkey", type=PATH, help="File of the labels, one per line, read afterwards.")
@click.option("--weight", help="Column of weights, all equal [weight]; 'none': no weights.")
@click.option("--columns", metavar="NAME,...", help="Names of all columns, for a table without.")
@click.option("--tree", help="Tree or RNTuple of a ROOT file [the only one].")
@click.option("--energy-unit", type=click.Choice(UNITS), help="Unit of the masses [GeV].")
@click.option("--select", metavar="EXPR", help="Only events that pass, such as 'tau21 < 0.5'.")
@click.option("--mass-range", type=float, nargs=2, metavar="LOW HIGH", help="Range in GeV.")
@click.option("--efficiencies", metavar="SHARE,...", help="Shares of the events that cuts keep.")
@click.option("--signal", multiple=True, type=PATH, help="Table of simulated signal.")
@hypothesis_option
@click.option("--weak", type=click.Choice(TEMPLATES), help="Train on INPUT, against this template.")
@click.option("--background", type=PATH, help="Dataset of background, for templates that need it.")
@click.option("--region", type=float, nargs=2, metavar="LOW HIGH", help="Only this signal region.")
@click.option("--features", metavar="SET", help="Features of --weak: search, extended or cathode.")
@click.option("--classifier", type=click.Choice(CLASSIFIERS), help="Of --weak [boosting].")
@click.option("--scan", is_flag=True, help="Scan hypotheses over the masses of X and Y.")
@click.option("--fit", is_flag=True, help="With --scan: fit masses and fraction of a signal.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier search in the output.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@common
def search(
    settings: Settings,
    inputs: Sequence[Path],
    output: Path | None,
    run: Path | None,
    scores: Path | None,
    score: str,
    mass: str | None,
    light: str | None,
    heavy: str | None,
    label: str | None,
    masterkey: Path | None,
    weight: str | None,
    columns: str | None,
    tree: str | None,
    energy_unit: EnergyUnit | None,
    select: str | None,
    mass_range: tuple[float, float] | None,
    efficiencies: str | None,
    signal: Sequence[Path],
    hypothesis: str | None,
    scan: bool,
    fit: bool,
    weak: BackgroundTemplate | None,
    background: Path | None,
    region: tuple[float, float] | None,
    features: str | None,
    classifier: WeakClassifier | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Search INPUT for a resonance in a mass, with the scores of any classifier.

    INPUT is a table of scores and masses: Parquet, ROOT, CSV, HDF5, NPY or NPZ; several are one
    box. Columns are given by name or by position from 0. A larger score is more like signal.
    Or INPUT is a dataset, with --run or --scores; RUN DATASET is DATASET --run RUN.

    Writes submission.json, pictures and a page. Labels, if there are any, are read after that, and
    the truth stands beside: unblinding.json.

    With --scan, a run that was trained with hypotheses scores a dataset under a grid of masses of X
    and Y: a p-value and limits for each, and one p-value for all, in scan.json and pictures. INPUT
    is then RUN and DATASET, or the dataset with --run. With --fit, no resonance is searched: the
    masses and the fraction of a signal are fitted to the data against a template of the background,
    in mixture.json and a picture.

    With --weak, classifiers without labels are trained on a dataset itself: data of a mass region
    against its sidebands, or another template of the background. Regions are scanned and count as
    trials; weak.json and weak.png show them all. With --classifier model, a language model is
    trained for each region and fold, which takes long. --run may be a folder that 'hepllm train
    --weak signal-region' has made for the dataset.
    """
    if run is None and len(inputs) == 2 and (inputs[0] / "run.json").is_file():
        run, inputs = inputs[0], inputs[1:]
    of_tables = {
        "--light": light,
        "--heavy": heavy,
        "--label": label,
        "--masterkey": masterkey,
        "--weight": weight,
        "--columns": columns,
        "--tree": tree,
        "--energy-unit": energy_unit,
    }
    of_weak = {
        "--background": background,
        "--region": region,
        "--features": features,
        "--classifier": classifier,
    }
    of_scores = {"--run": run, "--scores": scores, "--signal": signal}
    _check_weak(weak, inputs, of_weak, {**of_tables, **of_scores, "--scan": scan})
    is_dataset = weak is not None or _is_dataset(
        inputs, run, scores, [name for name, one in of_tables.items() if one]
    )
    _check_run(run, signal, hypothesis, scan=scan, fit=fit)
    low, high = mass_range or (None, None)
    options = {
        "evaluation__search__mass": mass,
        "evaluation__search__m_jj_min": low,
        "evaluation__search__m_jj_max": high,
        "evaluation__search__efficiencies": _shares(efficiencies),
        "evaluation__select": select if is_dataset else None,
        "evaluation__search__weak__template": weak,
        "evaluation__search__weak__background": None if background is None else str(background),
        "evaluation__search__weak__region": region,
        "evaluation__search__weak__features": features,
        "evaluation__search__weak__classifier": classifier,
    }
    from hepllm.runs.scored_tables import TableColumns
    from hepllm.stages import search as stage

    output = output or Path("searches") / stage.box_name(inputs)
    if scan and run is not None:
        report = _scan_or_fit(
            settings, options, inputs[0], output, run, fit=fit, overwrite=overwrite
        )
        print_reports([report], report.tree(), as_json=as_json)
        return
    if weak is not None:
        found = stage.search_weakly(
            inputs[0], settings.load(**options), output, overwrite=overwrite
        )
    elif run is not None and (run / WEAK_RUNS).is_file():
        config = settings.on_top_of(load_config(run / CONFIG), **options)
        found = stage.search_weakly(inputs[0], config, output, runs=run, overwrite=overwrite)
    elif is_dataset:
        found = _search_dataset(
            settings,
            options,
            inputs[0],
            output,
            (run, scores, score, signal),
            hypothesis=hypothesis,
            overwrite=overwrite,
        )
    else:
        config = settings.load(**options)
        asked = TableColumns(
            score=score,
            mass=config.evaluation.search.mass,
            jets=tuple(one for one in (light, heavy) if one is not None),
            label=label,
            weight=weight,
            names=None if columns is None else tuple(columns.split(",")),
            tree=tree or config.preprocess.root.tree,
            energy_unit=energy_unit or config.preprocess.energy_unit,
            select=select,
        )
        found = stage.search_tables(
            inputs, asked, config, output, signal=signal, masterkey=masterkey, overwrite=overwrite
        )
    print_reports([found], found.tree(), as_json=as_json)


def _check_run(
    run: Path | None, signal: Sequence[Path], hypothesis: str | None, *, scan: bool, fit: bool
) -> None:
    """Refuses options that only a run can follow, or that a run has itself."""
    if fit and not scan:
        raise click.UsageError("--fit: needs --scan, whose hypotheses it fits")
    if run is not None and signal:
        raise click.UsageError("--signal: a run has its own, the signal of its validation events")
    for option, is_given in (("--hypothesis", hypothesis is not None), ("--scan", scan)):
        if is_given and run is None:
            raise click.UsageError(f"{option}: a run reads hypotheses; give --run RUN")
    if scan and hypothesis is not None:
        raise click.UsageError("--hypothesis and --scan: give one of them; a scan has its own")


def _check_weak(
    weak: str | None,
    inputs: Sequence[Path],
    of_weak: Mapping[str, object],
    of_scores: Mapping[str, object],
) -> None:
    """Refuses options that do not fit ``--weak``, or that it needs."""
    if weak is None:
        if given := [name for name, one in of_weak.items() if one]:
            raise click.UsageError(f"{', '.join(given)}: for --weak TEMPLATE")
        return
    if given := [name for name, one in of_scores.items() if one]:
        raise click.UsageError(f"{', '.join(given)}: not with --weak, which trains on the dataset")
    if len(inputs) > 1 or not inputs[0].is_dir():
        raise click.UsageError(
            f"{inputs[0]}: --weak searches one dataset, a folder that 'hepllm preprocess' makes"
        )


def _scan_or_fit(
    settings: Settings,
    options: Mapping[str, Any],
    folder: Path,
    output: Path,
    run: Path,
    *,
    fit: bool,
    overwrite: bool,
) -> PlaneReport | MixtureReport:
    config = _config_of(settings, options, run)
    if fit:
        from hepllm.stages.mixture_fit import fit_dataset

        return fit_dataset(folder, config, output, run=run, overwrite=overwrite)
    from hepllm.stages.plane_scan import scan_dataset

    return scan_dataset(folder, config, output, run=run, overwrite=overwrite)


def _config_of(settings: Settings, options: Mapping[str, Any], run: Path | None) -> Config:
    """The settings of a search, on top of those of the run where no file is given."""
    from hepllm.runs.folder import open_run

    if run is None or settings.file is not None:
        return settings.load(**options)
    return settings.on_top_of(open_run(run).config, **options)


def _search_dataset(
    settings: Settings,
    options: Mapping[str, Any],
    folder: Path,
    output: Path,
    source: tuple[Path | None, Path | None, str, Sequence[Path]],
    *,
    hypothesis: str | None,
    overwrite: bool,
) -> SearchReport:
    """Searches a dataset; ``source`` has a run, or a file, its column and tables of signal."""
    from hepllm.runs.scored_tables import TableColumns, read_signal
    from hepllm.stages.search import search_dataset

    run, scores, score, signal = source
    config = _config_of(settings, options, run)
    columns = TableColumns(score=score, mass=config.evaluation.search.mass)
    reference = read_signal(signal, columns) if signal else None
    return search_dataset(
        folder,
        config,
        output,
        run=run,
        scores=scores,
        score=score,
        signal=reference,
        hypothesis=hypothesis,
        overwrite=overwrite,
    )


def _is_dataset(
    inputs: Sequence[Path], run: Path | None, scores: Path | None, of_tables: Sequence[str]
) -> bool:
    """Whether a dataset is searched; refuses options that do not fit the inputs."""
    folders = [one for one in inputs if one.is_dir()]
    if not folders:
        if run is not None or scores is not None:
            raise click.UsageError(
                f"{inputs[0]}: --run and --scores are for a dataset, a folder that 'hepllm "
                "preprocess' makes; an event file is searched by 'hepllm eval RUN --blackbox FILE'"
            )
        return False
    if len(inputs) > 1:
        raise click.UsageError(f"{folders[0]}: a dataset is searched alone")
    if (run is None) == (scores is None):
        raise click.UsageError(
            f"{folders[0]}: a dataset has no scores; give --run RUN, or --scores FILE"
        )
    if of_tables:
        raise click.UsageError(f"{', '.join(of_tables)}: for tables, and {folders[0]} is a dataset")
    return True


def _shares(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(
            f"--efficiencies: expected numbers such as 0.01,0.001, found '{text}'"
        ) from None
