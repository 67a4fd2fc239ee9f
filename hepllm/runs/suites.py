"""The folder of a suite of experiments.

experiments/<suite>/  suite.yaml  Snakefile  experiments.json
                      <experiment>/<dataset>/seed-<n>/  experiment.json  config.yaml  log.txt
                                                        run/  result.json (or failure.json)
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hepllm.config import Config, dump_config, load_config
from hepllm.config.suites import (
    SuiteConfig,
    Variant,
    dump_suite,
    load_suite,
    variant_config,
    variants,
)
from hepllm.data.dataset import read_dataset
from hepllm.errors import ConfigError, InputError
from hepllm.evaluation.experiment_records import (
    ExperimentRecord,
    ExperimentResult,
    FailureRecord,
    State,
)
from hepllm.files import write_text

SUITE, SNAKEFILE, INDEX = "suite.yaml", "Snakefile", "experiments.json"
"""Files of the folder."""

EXPERIMENT, CONFIG, LOG = "experiment.json", "config.yaml", "log.txt"
RUN, RESULT, FAILURE = "run", "result.json", "failure.json"
"""Files in the folder of an experiment, and its run."""

_MEND = "remove it, and run the suite again"


@dataclass(frozen=True)
class Experiment:
    """An experiment with one seed on one dataset.

    Attributes:
        place: its folder, below that of the suite.
        variant: its settings beside those of others.
        dataset: folder of the dataset.
        seed: seed of the training.
        config: all of its settings.
        needs: places of experiments that are done before.
    """

    place: str
    variant: Variant
    dataset: Path
    seed: int
    config: Config
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Standing:
    """What is known of an experiment: its state, and its result or why it failed."""

    state: State
    result: ExperimentResult | None = None
    failure: FailureRecord | None = None


def experiments_of(suite: SuiteConfig, folder: Path) -> tuple[Experiment, ...]:
    """The experiments of a suite, those first that others need.

    Args:
        suite: the suite.
        folder: folder of the suite.

    Raises:
        ConfigError: if settings are wrong.
    """
    found = []
    for variant in sorted(variants(suite), key=lambda one: one.map_of is not None):
        for dataset in map(Path, suite.datasets):
            for seed in suite.seeds:
                needs: tuple[str, ...] = ()
                train_map = None
                if variant.map_of is not None:
                    needs = (_place(variant.map_of, dataset, seed),)
                    train_map = folder / needs[0] / RUN
                found.append(
                    Experiment(
                        _place(variant.name, dataset, seed),
                        variant,
                        dataset,
                        seed,
                        variant_config(suite, variant, seed, train_map),
                        needs,
                    )
                )
    return tuple(found)


def wanted_records(
    suite: SuiteConfig, experiments: Sequence[Experiment], folder: Path
) -> dict[str, ExperimentRecord]:
    """The records of experiments by place: those in the folder where nothing has changed.

    Raises:
        InputError: if a dataset is missing or damaged.
    """
    digests = {one: read_dataset(Path(one)).digest for one in suite.datasets}
    found: dict[str, ExperimentRecord] = {}
    for one in experiments:
        text = dump_config(one.config)
        record = ExperimentRecord(
            name=one.variant.name,
            dataset=one.dataset.resolve(),
            dataset_digest=digests[str(one.dataset)],
            seed=one.seed,
            settings=hashlib.sha256(text.encode()).hexdigest(),
            evaluations=tuple(tuple(each.words()) for each in suite.evaluate),
            map_of=found[one.needs[0]].digest if one.needs else None,
            makes_map=one.variant.makes_map,
        )
        found[one.place] = _kept(record, one.config, folder / one.place)
    return found


def write_suite(
    suite: SuiteConfig,
    experiments: Sequence[Experiment],
    records: dict[str, ExperimentRecord],
    folder: Path,
) -> None:
    """Writes what the workflow engine and the experiments read; files that fit stay as they are."""
    write_text(folder / SUITE, dump_suite(suite))
    index = {
        "python": sys.executable,
        "started_in": str(Path.cwd()),
        "threads": suite.threads,
        "resources": dict(suite.resources),
        "needs": {one.place: one.needs for one in experiments},
    }
    write_text(folder / INDEX, json.dumps(index, indent=1) + "\n")
    write_text(folder / SNAKEFILE, _SNAKEFILE.read_text(encoding="utf-8"))
    for one in experiments:
        place, record = folder / one.place, records[one.place]
        if _written(place) != record:
            place.mkdir(parents=True, exist_ok=True)
            # First, so that a kill in between leaves no record beside the settings of another.
            (place / EXPERIMENT).unlink(missing_ok=True)
            write_text(place / CONFIG, dump_config(one.config))
            record.write(place / EXPERIMENT)
        if standing_of(place).state != "done":
            # What was left for other settings; the workflow engine sees files alone.
            (place / RESULT).unlink(missing_ok=True)


_SNAKEFILE = Path(__file__).with_name("suite.smk")


def read_suite(folder: Path) -> SuiteConfig:
    """The suite that was run in a folder.

    Raises:
        InputError: if none was.
    """
    if not (folder / SUITE).is_file():
        raise InputError(
            f"{folder}: nothing was run here; begin with: hepllm experiments run SUITE"
        )
    return load_suite(str(folder / SUITE))


def standing_of(place: Path, wanted: ExperimentRecord | None = None) -> Standing:
    """What is known of an experiment by the files in its folder.

    Args:
        place: the folder.
        wanted: what is asked for now; None: what was asked for last.
    """
    asked = _written(place)
    if asked is None or wanted not in (None, asked):
        return Standing("to run")
    if (place / RESULT).is_file():
        result = ExperimentResult.read(place / RESULT, _MEND)
        if result.made_for == asked.digest:
            return Standing("done", result)
    if (place / FAILURE).is_file():
        return Standing("failed", failure=FailureRecord.read(place / FAILURE, _MEND))
    return Standing("to run")


def read_experiment(place: Path) -> ExperimentRecord:
    """What is asked for in the folder of an experiment.

    Raises:
        InputError: if it is none.
    """
    return ExperimentRecord.read(place / EXPERIMENT, "run the suite again")


def _place(name: str, dataset: Path, seed: int) -> str:
    return f"{name}/{dataset.resolve().name}/seed-{seed}"


def _kept(record: ExperimentRecord, config: Config, place: Path) -> ExperimentRecord:
    """The record in a folder if it means the same, as after an update with new settings."""
    earlier = _written(place)
    if earlier is None or earlier.model_copy(update={"settings": record.settings}) != record:
        return record
    try:
        is_same = load_config(place / CONFIG) == config
    except ConfigError:
        is_same = False
    return earlier if is_same else record


def _written(place: Path) -> ExperimentRecord | None:
    return read_experiment(place) if (place / EXPERIMENT).is_file() else None
