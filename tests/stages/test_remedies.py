"""Every option, setting, command and extra that a message names exists, and works as typed."""

from __future__ import annotations

import ast
import functools
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from hepllm.cli import cli
from hepllm.config import Config
from hepllm.errors import InputError
from hepllm.stages.preprocess import preprocess
from hepllm.stages.train import train

ROOT = Path(__file__).parents[2]

SECTIONS = tuple(Config.model_fields)

OTHERS = {
    *("--no-deps", "--force-reinstall", "--upgrade", "--index-url", "--extra-index-url"),  # pip
    *("--gpus", "--shm-size", "--nproc-per-node", "--install", "--set-version", "--shutdown"),
    *("--query-gpu", "--format", "--logdir"),  # nvidia-smi, tensorboard
    *("--snakefile", "--directory", "--cores", "--keep-going", "--nolock", "--rerun-incomplete"),
    *("--rerun-triggers", "--scheduler", "--executor", "--default-resources"),  # Snakemake
}
"""Options of other programs than hepllm that messages name."""


def _texts(path: Path) -> Iterator[str]:
    """Texts of a module as users see them; parts that are filled in become ``{}``."""
    inner: set[ast.AST] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            inner |= set(node.values)
            yield "".join(
                str(getattr(part, "value", None)) if isinstance(part, ast.Constant) else "{}"
                for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner:
            yield node.value


@functools.cache
def _messages() -> list[tuple[str, str]]:
    """Module and text."""
    files = sorted((ROOT / "hepllm").rglob("*.py"))
    return [(str(file.relative_to(ROOT)), text) for file in files for text in _texts(file)]


def _options(command: click.Command) -> set[str]:
    """Options of a command, and of the commands below it."""
    own = {
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union(*map(_options, below))


ALL_OPTIONS = set().union(*(_options(command) for command in cli.commands.values()), {"--help"})


def _setting_exists(dotted: str) -> bool:
    kind: Any = Config
    for part in dotted.split("."):
        fields = getattr(kind, "model_fields", None)
        if fields is None:
            return True  # a mapping, such as preprocess.columns
        if part not in fields:
            return False
        kind = fields[part].annotation
        kinds = [kind, *getattr(kind, "__args__", ())]
        kind = next((one for one in kinds if hasattr(one, "model_fields")), dict)
    return True


def test_options_exist() -> None:
    wrong = [
        (module, option)
        for module, text in _messages()
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text)
        if option not in ALL_OPTIONS | OTHERS
    ]
    assert not wrong


def test_options_of_named_commands_exist() -> None:
    """``hepllm train --resume``: train has ``--resume``."""
    wrong = []
    for module, text in _messages():
        for command, rest in re.findall(r"hepllm ([a-z]+)((?: [^\s;,')]+)*)", text):
            if command not in cli.commands:
                continue
            own = rest.partition(" hepllm ")[0].partition(" -- ")[0]  # Snakemake's stand behind
            options = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", own))
            wrong += [(module, command, one) for one in options - _options(cli.commands[command])]
    assert not wrong


def test_settings_exist() -> None:
    pattern = rf"(?<![\w./{{])((?:{'|'.join(SECTIONS)})(?:\.[a-z][a-z_0-9]*)+)(?![\w/(])"
    wrong = [
        (module, found)
        for module, text in _messages()
        for found in re.findall(pattern, text)
        if not found.endswith((".json", ".yaml", ".py", ".parquet", ".csv", ".h5", ".log", ".png"))
        and not _setting_exists(found)
    ]
    assert not wrong


def test_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {
        extra
        for _, text in _messages()
        for extras in re.findall(r"hepllm\[([a-z,]+)\]", text)
        for extra in extras.split(",")
    }
    assert named <= set(project["optional-dependencies"])


def _hepllm(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments), "-q"])


def _remedy(result: Result) -> list[str]:
    """The options that a refusal tells to give, as typed."""
    assert isinstance(result.exception, InputError), result.output
    found = re.search(r"(--set \S+?)[,;]?(?: |$)", str(result.exception))
    assert found is not None, str(result.exception)
    return found[1].split()


@pytest.fixture(scope="module")
def bad_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of which one event has an infinite mass."""
    path = tmp_path_factory.mktemp("bad") / "bad.parquet"
    n = 12
    columns = {
        "m_jj": np.where(np.arange(n) == 4, np.inf, 3300.0),
        "jet_mass_light": np.linspace(50.0, 90, n),
        "label": np.arange(n) % 2,
    }
    pq.write_table(pa.table(columns), path)
    return path


def test_bad_events_are_skipped_as_told(bad_table: Path, tmp_path: Path) -> None:
    command = ("preprocess", bad_table, "--executor", "serial", "--output", tmp_path / "out")
    remedy = _remedy(_hepllm(*command))
    assert _hepllm(*command, *remedy).exit_code == 0


def test_bad_events_are_skipped_as_told_by_predict(
    bad_table: Path, tiny_run: Path, tmp_path: Path
) -> None:
    command = ("predict", tiny_run, bad_table, "--output", tmp_path / "scores.csv")
    remedy = _remedy(_hepllm(*command))
    done = _hepllm(*command, *remedy)
    assert done.exit_code == 0, done.output
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 1 + 11


def test_bad_events_are_skipped_as_told_by_eval(
    bad_table: Path, tiny_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    command = ("eval", tmp_path / "run", "--blackbox", bad_table)
    done = _hepllm(*command, *_remedy(_hepllm(*command)))
    assert done.exit_code == 0, done.output


def test_explain_does_not_offer_to_skip_the_event(
    bad_table: Path, tiny_run: Path, tmp_path: Path
) -> None:
    done = _hepllm("explain", tiny_run, "--input", bad_table, "4", "--output", tmp_path / "out")
    assert isinstance(done.exception, InputError), done.output
    assert str(done.exception).endswith("first in row 4; choose another event")


def test_labels_in_front_of_the_particles(tiny_data: Path, tmp_path: Path) -> None:
    import h5py

    with h5py.File(tiny_data / "rnd.h5") as file:
        rows = file["df/block0_values"][()]
    with h5py.File(tmp_path / "front.h5", "w") as file:
        frame = file.create_group("df")
        frame["axis0"] = frame["block0_items"] = np.arange(rows.shape[1])
        frame["axis1"] = np.arange(len(rows))
        frame["block0_values"] = np.roll(rows, 1, axis=1)
    command = ("preprocess", tmp_path / "front.h5", "--executor", "serial")
    remedy = _remedy(_hepllm(*command, "--output", tmp_path / "out"))
    assert remedy == ["--set", "preprocess.label=0"]
    assert _hepllm(*command, "--output", tmp_path / "out", *remedy).exit_code == 0


@pytest.fixture
def table(tmp_path: Path) -> Any:
    """Makes a dataset of 60 events with other columns than usual."""

    def make(**columns: Any) -> Path:
        random = np.random.default_rng(1)
        usual = {
            "m_jj": random.uniform(3000, 3500, 60),
            "jet_mass_light": random.uniform(50, 90, 60),
            "label": np.arange(60) % 2,
        }
        pq.write_table(pa.table({**usual, **columns}), tmp_path / "a.parquet")
        config = Config.model_validate({"preprocess": {"executor": "serial"}})
        preprocess([tmp_path / "a.parquet"], tmp_path / "data", config, overwrite=True)
        return tmp_path / "data"

    return make


def _refusal(dataset: Path, *overrides: str) -> str:
    from hepllm.config import override_config

    with pytest.raises(InputError) as caught:
        train(dataset, dataset / "run", override_config(Config(), overrides), overwrite=False)
    assert not (dataset / "run").exists()
    return str(caught.value)


def test_a_class_that_is_missing_is_named_with_what_is_there(table: Any) -> None:
    said = _refusal(table(label=np.ones(60)))
    assert re.search(r"no background events in its train split, which has \d\d signal, 0 b", said)


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_weights_are_told_as_the_reason(weight: float, table: Any) -> None:
    said = _refusal(table(weight=np.full(60, weight)))
    assert re.search(r"the weights of the \d+ signal events in its train split sum to -?\d", said)
    assert "--set preprocess.weight=none" in said


def test_a_balance_that_leaves_nothing(table: Any) -> None:
    label = np.zeros(60)
    label[:30] = 1
    said = _refusal(table(label=label), "train.balance=1000:1")
    assert re.search(r"train\.balance=1000:1 leaves none of the \d+ background events", said)
