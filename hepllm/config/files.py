"""Configuration files and overrides: read, merge, report all errors at once, write."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hepllm.config.experiment import Config
from hepllm.config.reference import section_paths
from hepllm.config.section import OWN_NAMES, own_names
from hepllm.errors import ConfigError, nearest_name


def load_config(file: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file (None: the defaults) and applies overrides like ``train.lr=1e-4``.

    Raises:
        ConfigError: lists all unknown keys and all wrong values.
    """
    tree = read_yaml(file) if file else {}
    return _validate(tree, str(file) if file else "configuration", overrides)


def override_config(config: Config, overrides: Sequence[str]) -> Config:
    """Returns a configuration with overrides like ``train.lr=1e-4`` applied."""
    return _validate(config.model_dump(mode="json"), "--set", overrides) if overrides else config


def changed_settings(before: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, as (before, now) by dotted path."""
    old, new = settings_by_path(before), settings_by_path(now)
    return {
        path: (old.get(path), new.get(path))
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path)
    }


def settings_by_path(config: Config) -> dict[str, Any]:
    """Every setting by its dotted path."""
    return _leaves(config.model_dump(mode="json"))


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def config_from_tree(tree: Mapping[str, Any], source: str) -> Config:
    """Validates a parsed tree, which stages store beside their output."""
    return _validate(dict(tree), source)


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML, from which ``load_config`` makes an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"


class _Loader(yaml.SafeLoader):
    """Safe YAML with the numbers of version 1.2: ``1e-3`` is a number, ``1:10`` is a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (as yaml declares it)
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INT, _FLOAT)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_INT, re.compile(r"^[-+]?(?:0|[1-9][\d_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^(?:[-+]?(?:\d[\d_]*\.[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?"
        r"|[-+]?\d[\d_]*[eE][-+]?\d+|[-+]?\.inf|\.nan)$",
        re.IGNORECASE,
    ),
    list("-+.0123456789"),
)


def _parse_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader with one more number form)


def read_yaml(file: Path) -> dict[str, Any]:
    """Reads the mapping in a YAML file; an empty file has an empty one.

    Raises:
        ConfigError: it cannot be read, is no YAML, or has something else than a mapping.
    """
    try:
        tree = _parse_yaml(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: expected a mapping of sections, found {type(tree).__name__}")
    return tree


def _apply_override(tree: dict[str, Any], override: str, problems: list[str]) -> None:
    path, separator, text = override.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        problems.append(f"'{override}': expected section.key=value")
        return
    try:
        value = _parse_yaml(text)
    except yaml.YAMLError:
        problems.append(f"{path}: '{text}' is not valid YAML")
        return
    node = tree
    for key in keys[:-1]:
        if not isinstance(node.get(key), dict):
            node[key] = {}
        node = node[key]
    node[keys[-1]] = value


def _validate(tree: dict[str, Any], source: str, overrides: Sequence[str] = ()) -> Config:
    problems: list[str] = []
    for override in overrides:
        _apply_override(tree, override, problems)
    try:
        config = Config.model_validate(tree, context={OWN_NAMES: own_names(tree)})
    except ValidationError as error:
        problems += described_errors(error)
    else:
        if not problems:
            return config
    listing = "".join(f"\n  {problem}" for problem in problems)
    noun = "error" if len(problems) == 1 else "errors"
    raise ConfigError(f"{source}: {len(problems)} {noun}{listing}")


def described_errors(
    error: ValidationError, nearest: Callable[[str], str] | None = None
) -> list[str]:
    """Descriptions of its errors; the errors of all branches of a union are joined to one.

    Args:
        error: what pydantic has found.
        nearest: end of a message on an unknown path; None: a similar path of a configuration.
    """
    by_path: dict[str, list[str]] = {}
    for detail in error.errors():
        by_path.setdefault(_path(detail), []).append(_describe(detail, nearest or _nearest))
    return [problem for path, found in by_path.items() for problem in _joined(path, found)]


def _joined(path: str, problems: list[str]) -> list[str]:
    wants = f"{path}: Input should be "
    if not all(problem.startswith(wants) for problem in problems):
        return problems
    *others, last = problems
    kinds = [problem.removeprefix(wants).rpartition(" (found ")[0] for problem in others]
    return [f"{wants}{', or '.join([*kinds, last.removeprefix(wants)])}"]


def _describe(detail: Any, nearest: Callable[[str], str]) -> str:
    """One pydantic error as ``dotted.path: what is wrong``."""
    path = _path(detail)
    if detail["type"] == "extra_forbidden":
        return f"{path}: unknown key{nearest(path)}"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{path}: {message}"
    return f"{path}: {message} (found {detail['input']!r})"


def _path(detail: Any) -> str:
    location = [part for part in detail["loc"] if _is_key(part)]
    return ".".join(str(part) for part in location) or "configuration"


def _is_key(part: Any) -> bool:
    """Whether a part of a location is a key, not the name of a union's branch."""
    return isinstance(part, int) or (part not in _UNION_TAGS and not re.search(r"[\[\](),']", part))


_UNION_TAGS = frozenset({"str", "int", "float", "constrained-float", "constrained-int"})


def _nearest(path: str) -> str:
    """Suggests the most similar known path, or else one whose last key is similar."""
    known = {
        f"{place}.{name}".lstrip("."): name
        for place, section in section_paths()
        for name in section.model_fields
    }
    hint = nearest_name(path, known)
    if hint:
        return hint
    by_leaf = {name: path for path, name in known.items()}
    matches = difflib.get_close_matches(path.rsplit(".", 1)[-1], list(by_leaf), n=1)
    return f" (did you mean '{by_leaf[matches[0]]}'?)" if matches else ""
