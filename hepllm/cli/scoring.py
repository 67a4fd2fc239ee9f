"""Commands that score events with a classifier: to evaluate it, and to apply it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from hepllm.cli.options import (
    OF_READING,
    OF_SCORING,
    PATH,
    WORKERS,
    Command,
    ManyValues,
    Settings,
    common,
    hypothesis_option,
    number_or_word,
    path_or_none,
    print_reports,
)
from hepllm.config import load_config
from hepllm.config.inputs import FORMATS
from hepllm.runs import LATEST, require_run

cascade_option = click.option(
    "--cascade",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="KEEP",
    help="Share of the background that the boosting leaves to the model, e.g. 0.1 [no cascade].",
)
prior_option = click.option(
    "--prior",
    type=number_or_word,
    metavar="PRIOR",
    help="Signal fraction that probabilities assume, or 'estimate' [training].",
)


def scoring_options(command: Command) -> Command:
    """Adds the options that say where events are scored."""
    for option in (
        click.option(
            "--dask-scheduler", metavar="ADDRESS", help="A running Dask scheduler [local]."
        ),
        click.option("--workers", type=WORKERS, help="Processes; 0: as many as pay [0]."),
        click.option(
            "--executor",
            type=click.Choice(["processes", "serial", "dask"]),
            help="Where pieces of the events are scored [processes].",
        ),
    ):
        command = option(command)
    return command


@click.command(name="eval", cls=ManyValues)
@click.argument("runs", nargs=-1, type=PATH, metavar="[RUN]...")
@click.option(
    "--against",
    multiple=True,
    type=PATH,
    metavar="RUN RUN...",
    help="Seeds of another recipe, to which those of the first RUNs are compared.",
)
@click.option("--dataset", type=PATH, help="A dataset instead of the run's own test split.")
@click.option(
    "--blackbox",
    is_flag=False,
    flag_value="",
    metavar="[FILE|DATASET]",
    help="A black box; without a value: the test split, and all datasets beside that of training.",
)
@click.option(
    "--masterkey",
    type=path_or_none,
    metavar="FILE|none",
    help="Labels of the black box FILE [FILE's .masterkey beside it]; 'none': ignore them.",
)
@click.option(
    "--compare",
    multiple=True,
    type=PATH,
    metavar="RUN",
    help="A run with the same dataset, features and balance, trained on text or numbers only.",
)
@click.option("--select", help="Only events that pass, such as '3300 < m_jj < 3700'.")
@click.option(
    "--signal-grid", metavar="DATASET", help="Signals of many masses, for limits by mass."
)
@click.option(
    "--by-signal", is_flag=True, default=None, help="Each simulated signal alone, under its own."
)
@click.option("--stack", is_flag=True, default=None, help="Combine the model and the boosting.")
@click.option(
    "--hypothesis",
    "hypotheses",
    multiple=True,
    metavar="TEXT|own",
    help="Signal to look for, in words, once for each; 'own': each simulated signal's own.",
)
@cascade_option
@prior_option
@scoring_options
@click.option("--rescore", is_flag=True, help="Score again what earlier evaluations kept.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@common
def evaluate(
    settings: Settings,
    runs: Sequence[Path],
    against: Sequence[Path],
    dataset: Path | None,
    blackbox: str | None,
    masterkey: Path | Literal["none"] | None,
    compare: Sequence[Path],
    select: str | None,
    signal_grid: str | None,
    by_signal: bool | None,
    stack: bool | None,
    hypotheses: Sequence[str],
    cascade: float | None,
    prior: float | str | None,
    executor: str | None,
    workers: int | None,
    dask_scheduler: str | None,
    rescore: bool,
    as_json: bool,
) -> None:
    """Score events with a RUN [runs/latest] and compare it with other classifiers.

    Without options, evaluates on the test split of the training dataset. Writes metrics.json,
    scores.parquet and pictures below RUN/eval/<set>/. Scores are kept in RUN/scores/, so that a
    second evaluation does not score again, and one that was stopped goes on. Several RUNs must be
    seeds of one recipe: their medians are printed, and differences between classifiers with an
    interval for the variance of seeds and of events; the same is drawn below the first RUN.

    A RUN that was trained with hypotheses scores without one, and its test split also with each
    signal under its own. With --hypothesis "Z' to a 730 GeV and a 380 GeV particle, both to two
    quarks" it scores all events under this one, and under others that are given in the same way;
    the name of the set then ends with it.
    """
    settings.refuse_others(OF_READING if blackbox else OF_SCORING, "eval")
    folders = [*(runs or (LATEST,)), *against]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise click.UsageError("a RUN is named twice; give each once")
    for folder in (*folders, *compare):
        require_run(folder)
    from hepllm.runs.folder import open_run
    from hepllm.runs.recipes import as_recipes

    opened = {folder: open_run(folder) for folder in folders}
    ours, theirs = ([opened[one] for one in group] for group in (runs or (LATEST,), against))
    recipes = as_recipes(ours, theirs) if len(folders) > 1 else ()
    options = {
        "evaluation__select": select,
        "evaluation__search__signal_grid": signal_grid,
        "evaluation__by_signal": by_signal,
        "evaluation__stack": stack,
        "evaluation__cascade": cascade,
        **_scoring(executor, workers, dask_scheduler),
    }
    given = load_config(settings.file) if settings.file else None
    configs = [
        settings.on_top_of(given or run.config, evaluation__prior=prior, **options)
        for run in opened.values()
    ]
    # Wrong settings are told before this, which loads torch.
    from hepllm.stages.evaluate import evaluate as run_stage
    from hepllm.stages.predict import prediction_config

    found = {}
    for (folder, run), config in zip(opened.items(), configs, strict=True):
        found[folder] = run_stage(
            folder,
            dataset=dataset,
            blackbox=Path(blackbox) if blackbox else None,
            all_blackboxes=blackbox == "",
            masterkey=masterkey,
            compare=compare,
            beside=[other for other in folders if other != folder],
            config=config,
            reading=settings.on_top_of(prediction_config(run)).preprocess if blackbox else None,
            rescore=rescore,
            hypotheses=hypotheses,
        )
    if recipes:
        from hepllm.runs.spread import spread_of_runs

        first = configs[0]
        spreads = spread_of_runs(found, recipes, first.evaluation, first.seed)
        _tell_spreads(found, spreads, as_json)
        return
    (reports,) = found.values()
    print_reports(
        reports, {report.name: report.metrics.tree() for report in reports}, as_json=as_json
    )


def _scoring(
    executor: str | None, workers: int | None, dask_scheduler: str | None
) -> dict[str, object]:
    """The settings that ``scoring_options`` set."""
    return {
        "evaluation__scoring__executor": executor,
        "evaluation__scoring__workers": workers,
        "evaluation__scoring__dask_scheduler": dask_scheduler,
    }


def _tell_spreads(
    found: Mapping[Path, Sequence[Any]], spreads: Mapping[str, Any], as_json: bool
) -> None:
    """Prints what several runs say together."""
    if as_json:
        runs = {
            str(run): {one.name: one.metrics.tree() for one in made} for run, made in found.items()
        }
        trees = {name: spread.record.tree() for name, spread in spreads.items()}
        click.echo(json.dumps({"runs": runs, "spread": trees}, indent=1))
        return
    for spread in spreads.values():
        click.echo(spread.text)
        for file in spread.files:
            click.echo(f"  {file}")
        click.echo()


def _run_and_input(words: Sequence[Path], *, is_text: bool) -> tuple[Path, Path | None]:
    """RUN and INPUT of ``predict``, of which either may be left out."""
    if len(words) > 2:
        raise click.UsageError(f"{words[2]}: expected one RUN and one INPUT")
    if len(words) == 2:
        return words[0], words[1]
    if words and (is_text or (words[0] / "run.json").is_file()):
        return words[0], None
    return LATEST, words[0] if words else None


@click.command()
@click.argument("words", nargs=-1, type=PATH, metavar="[RUN] [INPUT]")
@click.option(
    "--output",
    type=PATH,
    help="File of the scores: .parquet, .csv or .root [scores/<INPUT>.parquet].",
)
@click.option(
    "--keep", metavar="NAME,...", help="Features beside the scores, such as m_jj,jet_mass_light."
)
@click.option("--text", multiple=True, help="An event as a prompt; '-': from standard input.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Format [from content].")
@click.option("--label", help="Column or branch of the labels; 'none': no labels.")
@hypothesis_option
@prior_option
@cascade_option
@scoring_options
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@common
def predict(
    settings: Settings,
    words: Sequence[Path],
    output: Path | None,
    keep: str | None,
    text: Sequence[str],
    form: str | None,
    label: str | None,
    hypothesis: str | None,
    prior: float | str | None,
    cascade: float | None,
    executor: str | None,
    workers: int | None,
    dask_scheduler: str | None,
    overwrite: bool,
) -> None:
    """Score every event of an INPUT with a RUN [runs/latest] and write the scores to a file.

    INPUT is an event file or a feature table that preprocess accepts, or a dataset. Events are
    clustered with the jet settings of the training dataset. A command that was stopped continues
    when it is run again.
    """
    run, source = _run_and_input(words, is_text=bool(text))
    if bool(text) == (source is not None) or (text and (output or keep)):
        raise click.UsageError("give INPUT, or --text without --output and --keep")
    settings.refuse_others(OF_READING, "predict")
    require_run(run)
    from hepllm.runs.folder import open_run
    from hepllm.runs.predictor import load_predictor
    from hepllm.stages.predict import predict as run_stage
    from hepllm.stages.predict import predict_texts, prediction_config

    config = settings.on_top_of(
        prediction_config(open_run(run)),
        preprocess__format=form,
        preprocess__label=label,
        evaluation__cascade=cascade,
        evaluation__prior=prior,
        **_scoring(executor, workers, dask_scheduler),
    )
    predictor = load_predictor(run, config, hypothesis)
    if source is None:
        texts = [sys.stdin.read() if one == "-" else one for one in text]
        for score, probability in predict_texts(predictor, texts, config.evaluation.prior):
            click.echo(f"score {score:.4f}, probability {probability:.4g}")
        return
    output = output or Path("scores") / f"{source.resolve().stem}.parquet"
    kept = () if keep is None else tuple(name.strip() for name in keep.split(","))
    made = run_stage(predictor, source, output, config, keep=kept, overwrite=overwrite)
    click.echo(
        f"{made.path}: {made.n_events} events, {made.n_scored / made.seconds:.0f} events/s, "
        f"probability: {made.prior}"
    )
    if made.n_kept is not None:
        click.echo(
            f"cascade: the model scored {made.n_kept} of {made.n_events} events; "
            "see its loss with 'hepllm eval --cascade'"
        )
