"""Suites of experiments: settings that are varied, seeds, and the sets that all are measured on."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from hepllm.config.experiment import Config
from hepllm.config.files import described_errors, load_config, read_yaml
from hepllm.config.presets import preset_files, suite_files
from hepllm.config.section import Count, Probability, Section, required, setting
from hepllm.errors import ConfigError, nearest_name

METRICS = ("auc", "sic_at_0.1", "sic_at_0.3", "sic_at_0.5", "max_sic", "accuracy")
"""Metrics that experiments can be compared by."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"


class EvaluatedSetConfig(Section):
    """What every experiment is evaluated on; without options, the test split of its dataset."""

    dataset: str | None = setting(None, "Another dataset")
    blackbox: str | None = setting(None, "A black box, as an event file or a dataset")
    masterkey: str | None = setting(None, "Labels of the black box, if it is an event file")
    hypothesis: str | None = setting(None, "Signal to look for, in words; own: each signal's own")
    select: str | None = setting(None, "Event filter, such as '3300 < m_jj < 3700'")

    @model_validator(mode="after")
    def _is_one_set(self) -> Self:
        if self.dataset is not None and self.blackbox is not None:
            raise ValueError("give dataset or blackbox; another set is another item of the list")
        return self

    def words(self) -> list[str]:
        """The options of ``hepllm eval``."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return [
            word
            for name, value in given.items()
            if value is not None
            for word in (f"--{name}", value)
        ]


class ExperimentConfig(Section):
    """One experiment: its settings on top of those of the suite."""

    set: tuple[str, ...] = setting((), "Settings, as in --set section.key=value")
    map_of: str | None = setting(
        None, "Experiment whose map of the same seed is train.map; it is trained with --dynamics"
    )


class SuiteConfig(Section):
    """A suite of experiments; see docs/how-to/experiments.md."""

    name: Annotated[str, Field(pattern=_NAME)] = required("Name; results go to experiments/<name>")
    config: str | None = setting(None, "Configuration file or preset of all; null: the defaults")
    datasets: Annotated[tuple[str, ...], Field(min_length=1)] = setting(
        ("data/processed/rnd",), "Datasets, on each of which every experiment is trained"
    )
    set: tuple[str, ...] = setting((), "Settings of all experiments, as in --set")
    grid: Mapping[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = setting(
        {}, "Values by setting; every combination is an experiment"
    )
    experiments: Mapping[Annotated[str, Field(pattern=_NAME)], ExperimentConfig] = Field(
        default={}, description="Experiments by name; with a grid, each at every point of it"
    )
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...], Field(min_length=1)] = (
        setting((1, 2, 3, 4, 5), "Seeds with which each experiment is trained")
    )
    evaluate: tuple[EvaluatedSetConfig, ...] = (EvaluatedSetConfig(),)
    reference: str | None = setting(
        None, "Experiment that the others are compared with; null: the first"
    )
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = setting(
        ("auc", "sic_at_0.3", "sic_at_0.5"), "Metrics that are shown and tested"
    )
    confidence: Probability = setting(0.95, "Confidence level of intervals")
    differences: tuple[Probability, ...] = setting(
        (0.03, 0.01), "Relative differences whose number of seeds is told"
    )
    power: Probability = setting(0.8, "Probability with which that number shows the difference")
    threads: Count = setting(1, "Threads of an experiment that the workflow engine reserves")
    resources: Mapping[str, int | str] = setting(
        {}, "Resources of an experiment for the workflow engine, such as mem_mb or slurm_partition"
    )

    @field_validator("experiments", mode="before")
    @classmethod
    def _accept_lists(cls, value: Any) -> Any:
        """Reads ``name: [settings]`` as ``name: {set: [settings]}``."""
        if not isinstance(value, Mapping):
            return value
        return {
            name: {"set": one or []} if isinstance(one, list | None) else one
            for name, one in value.items()
        }

    @field_validator("seeds", mode="before")
    @classmethod
    def _accept_a_number(cls, value: Any) -> Any:
        """Reads a number of seeds as those from 1 on."""
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return list(range(1, value + 1)) if is_number else value

    @field_validator("seeds", "datasets", "metrics", "evaluate")
    @classmethod
    def _has_no_twins(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("expected at least one, found none")
        twice = [one for place, one in enumerate(value) if one in value[:place]]
        if twice:
            raise ValueError(f"{twice[0]!r} is given twice")
        return value

    @field_validator("metrics")
    @classmethod
    def _are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in METRICS:
                raise ValueError(f"no metric '{name}'; there are {', '.join(METRICS)}")
        return value

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        folders = [Path(one).name for one in self.datasets]
        if len(set(folders)) < len(folders):
            raise ValueError("datasets: their folders need different names, which results have")
        for name, one in self.experiments.items():
            if one.map_of is not None and one.map_of not in self.experiments:
                hint = nearest_name(one.map_of, self.experiments)
                raise ValueError(f"experiments.{name}.map_of: no experiment '{one.map_of}'{hint}")
            if one.map_of is not None and self.experiments[one.map_of].map_of is not None:
                raise ValueError(
                    f"experiments.{name}.map_of: '{one.map_of}' goes by a map itself; name one "
                    "that does not"
                )
        return self


@dataclass(frozen=True)
class Variant:
    """The settings of an experiment, without dataset and seed.

    Attributes:
        name: its name in tables, and that of its folder.
        overrides: settings on top of the suite's configuration.
        map_of: variant by whose map it goes; None for none.
        makes_map: whether another variant goes by its map.
    """

    name: str
    overrides: tuple[str, ...]
    map_of: str | None
    makes_map: bool


def load_suite(
    source: str,
    *,
    config: str | None = None,
    overrides: Sequence[str] = (),
    datasets: Sequence[str] = (),
    seeds: int | None = None,
) -> SuiteConfig:
    """Reads a suite and changes it.

    Args:
        source: YAML file, or name of a suite of the package.
        config: configuration file or preset in place of the suite's.
        overrides: further settings of all experiments.
        datasets: datasets in place of the suite's.
        seeds: number of seeds from 1 on, in place of the suite's.

    Raises:
        ConfigError: there is no such suite, or it is wrong; the message names the key.
    """
    file = Path(source)
    if not file.exists():
        shipped = suite_files()
        if source not in shipped:
            hint = nearest_name(source, shipped)
            raise ConfigError(
                f"{source}: no such suite{hint}; give a YAML file, or one of {', '.join(shipped)}"
            )
        file = shipped[source]
    tree = {"name": re.sub(r"[^A-Za-z0-9._+-]", "-", file.stem), **read_yaml(file)}
    changes = {"config": config, "datasets": list(datasets), "seeds": seeds}
    tree |= {key: value for key, value in changes.items() if value}
    if overrides and isinstance(tree.get("set", []), list):
        tree["set"] = [*tree.get("set", []), *overrides]
    return suite_from_tree(tree, str(file))


def suite_from_tree(tree: Mapping[str, Any], source: str) -> SuiteConfig:
    """Validates a suite, also the settings of each of its experiments.

    Raises:
        ConfigError: the message names each wrong key.
    """
    try:
        suite = SuiteConfig.model_validate(dict(tree))
    except ValidationError as error:
        raise _refusal(source, described_errors(error, _nearest_key)) from None
    problems = [
        problem
        for variant in variants(suite)
        for problem in _problems(suite, variant, suite.seeds[0])
    ]
    if not problems and suite.reference not in (None, *(one.name for one in variants(suite))):
        names = [one.name for one in variants(suite)]
        hint = nearest_name(suite.reference or "", names)
        problems = [f"reference: no experiment '{suite.reference}'{hint}"]
    if problems:
        raise _refusal(source, list(dict.fromkeys(problems)))
    return suite


def dump_suite(suite: SuiteConfig) -> str:
    """The suite as YAML, from which ``load_suite`` makes an equal one."""
    return yaml.safe_dump(suite.model_dump(mode="json"), sort_keys=False)


def variants(suite: SuiteConfig) -> tuple[Variant, ...]:
    """The experiments of a suite: those that are named, at each point of the grid."""
    named = suite.experiments or {"": ExperimentConfig()}
    needed = {one.map_of for one in named.values()}
    points = [
        dict(zip(suite.grid, values, strict=True))
        for values in itertools.product(*suite.grid.values())
    ]
    labels = _labels(list(suite.grid))
    found = []
    for name, one in named.items():
        for point in points:
            at = [f"{labels[path]}={_word(value)}" for path, value in point.items()]
            own = tuple(f"{path}={json.dumps(value)}" for path, value in point.items())
            recording = ("train.dynamics=true",) if name in needed else ()
            found.append(
                Variant(
                    ",".join(filter(None, [name, *at])) or "plain",
                    (*own, *one.set, *recording),
                    None if one.map_of is None else ",".join([one.map_of, *at]),
                    name in needed,
                )
            )
    return tuple(found)


def variant_config(
    suite: SuiteConfig, variant: Variant, seed: int, train_map: Path | None = None
) -> Config:
    """The settings of an experiment.

    Args:
        suite: the suite.
        variant: the experiment.
        seed: its seed.
        train_map: run by whose map it goes.

    Raises:
        ConfigError: they are wrong.
    """
    base = suite.config
    file = None if base is None else preset_files().get(base, Path(base))
    if base is not None and Path(base).exists():
        file = Path(base)
    by_map = [] if train_map is None else [f"train.map={json.dumps(str(train_map))}"]
    own = [f"name={suite.name}", f"seed={seed}", *by_map]
    return load_config(file, [*suite.set, *variant.overrides, *own])


def _problems(suite: SuiteConfig, variant: Variant, seed: int) -> list[str]:
    where = f"experiment {variant.name}"
    try:
        config = variant_config(suite, variant, seed, Path("map") if variant.map_of else None)
    except ConfigError as error:
        first, *lines = str(error).splitlines()
        return [f"{where}: {line.strip()}" for line in lines] or [f"config: {first}"]
    if config.train.self_training.rounds:
        return [f"{where}: train.self_training.rounds: an experiment is one training; set it to 0"]
    return []


def _refusal(source: str, problems: Sequence[str]) -> ConfigError:
    if len(problems) == 1:
        return ConfigError(f"{source}: {problems[0]}")
    listing = "".join(f"\n  {problem}" for problem in problems)
    return ConfigError(f"{source}: {len(problems)} errors{listing}")


def _nearest_key(path: str) -> str:
    """Suggests a key of a suite, or of the part of it that a path leads to."""
    parts: dict[str, type[Section]] = {
        "evaluate": EvaluatedSetConfig,
        "experiments": ExperimentConfig,
    }
    first, _, rest = path.partition(".")
    section: type[Section] = SuiteConfig
    if rest and first in parts:
        section = parts[first]
    return nearest_name(path.rpartition(".")[2], section.model_fields)


def _labels(paths: Sequence[str]) -> dict[str, str]:
    """The last part of each path, or all of it where two would be the same."""
    last = [path.rpartition(".")[2] for path in paths]
    return {
        path: end if last.count(end) == 1 else path for path, end in zip(paths, last, strict=True)
    }


def _word(value: Any) -> str:
    """A value as a part of a folder's name."""
    text = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", text).strip("_") or "none"
