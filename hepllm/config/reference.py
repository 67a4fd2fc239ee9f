"""Every setting with its meaning: as commented YAML, and as records for other renderings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from hepllm.config.experiment import Config
from hepllm.config.section import Form, Section
from hepllm.errors import ConfigError, nearest_name

_SIGNS = ((Gt, ">", "gt"), (Ge, ">=", "ge"), (Lt, "<", "lt"), (Le, "<=", "le"))
_WORDS = {bool: "true | false", int: "integer", float: "number", str: "text", NoneType: "null"}


@dataclass(frozen=True)
class Setting:
    """The description of one setting.

    Attributes:
        name: the last part of its path.
        description: one line.
        unit: empty where it has none.
        kind: its type, choices or range, in words.
        choices: the values that it can have; None where they are not a list.
        default: as in a JSON document.
        is_required: whether it has no default.
    """

    name: str
    description: str
    unit: str
    kind: str
    choices: tuple[Any, ...] | None
    default: Any
    is_required: bool


def section_paths(
    section: type[Section] = Config, path: str = ""
) -> Iterator[tuple[str, type[Section]]]:
    """All sections with dotted paths, ``[]`` for items of a list and ``*`` for any key."""
    yield path, section
    for name, field in section.model_fields.items():
        here = f"{path}.{name}" if path else name
        for place, child in _sections_in(field.annotation):
            yield from section_paths(child, here + place)


def settings_of(section: type[Section]) -> list[Setting]:
    """The settings of a section without those of its subsections."""
    return [
        _describe(name, field)
        for name, field in section.model_fields.items()
        if not _is_section(field.annotation)
    ]


def summary_of(section: type[Section]) -> str:
    """The purpose of a section in one line without a full stop."""
    return (section.__doc__ or "").partition("\n")[0].replace("``", "'").removesuffix(".")


def commented_yaml(config: Config, path: str = "") -> str:
    """A configuration, or its part at a dotted path, as YAML that loads again, with comments.

    Raises:
        ConfigError: there is no such section or setting.
    """
    _check_path(config, path)
    return "\n".join(_lines(config, config.model_dump(mode="json"), "", path)) + "\n"


def settings_tree(config: Config, path: str = "") -> dict[str, dict[str, Any]]:
    """The same as a tree: value, default, unit, ... of each setting by dotted path.

    Raises:
        ConfigError: there is no such section or setting.
    """
    _check_path(config, path)
    return {
        here: {
            "value": value,
            "default": setting.default,
            "unit": setting.unit or None,
            "type": setting.kind,
            "choices": setting.choices,
            "description": setting.description,
        }
        for here, setting, value in _values(config, config.model_dump(mode="json"), "")
        if _is_within(here, path)
    }


def _values(
    section: Section, tree: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Setting, Any]]:
    for name, field in type(section).model_fields.items():
        child = getattr(section, name)
        if isinstance(child, Section):
            yield from _values(child, tree[name], f"{prefix}{name}.")
        else:
            yield prefix + name, _describe(name, field), tree[name]


def _lines(section: Section, tree: Mapping[str, Any], prefix: str, wanted: str) -> Iterator[str]:
    pad, gap = "  " * prefix.count("."), False
    for name, field in type(section).model_fields.items():
        here, child = prefix + name, getattr(section, name)
        if not (_is_within(here, wanted) or _is_within(wanted, here)):
            continue
        if isinstance(child, Section):
            yield from ("", f"{pad}# {summary_of(type(child))}", f"{pad}{name}:")
            yield from _lines(child, tree[name], f"{here}.", wanted)
            gap = True
            continue
        if gap:
            yield ""
            gap = False
        setting = _describe(name, field)
        kind = f"{setting.unit}, {setting.kind}" if setting.unit else setting.kind
        yield f"{pad}# {setting.description} [{kind}]"
        is_changed = not setting.is_required and tree[name] != setting.default
        note = f"  # default: {_flow(setting.default)}" if is_changed else ""
        yield f"{pad}{name}: {_flow(tree[name])}{note}"


def _flow(value: Any) -> str:
    """A value in YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**9)
    return text.removesuffix("...\n").strip()


def _check_path(config: Config, path: str) -> None:
    known = {""}
    for here, _, _ in _values(config, config.model_dump(mode="json"), ""):
        parts = here.split(".")
        known |= {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
    if path not in known:
        hint = nearest_name(path, known)
        raise ConfigError(f"no section or setting '{path}'{hint}")


def _is_within(path: str, section: str) -> bool:
    return not section or path == section or path.startswith(f"{section}.")


def _describe(name: str, field: FieldInfo) -> Setting:
    extra = field.json_schema_extra
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if isinstance(default, tuple):
        default = list(default)
    return Setting(
        name=name,
        description=field.description or "",
        unit=str(extra.get("unit") or "") if isinstance(extra, Mapping) else "",
        kind=_kind(field.annotation, field.metadata),
        choices=_choices(field.annotation),
        default=default,
        is_required=field.is_required(),
    )


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _sections_in(annotation: Any) -> Iterator[tuple[str, type[Section]]]:
    """Sections that a type may contain, each with the next part of its path."""
    if _is_section(annotation):
        yield "", annotation
    places = {list: "[]", tuple: "[]", dict: ".*"}
    for part in get_args(annotation):
        for place, child in _sections_in(part):
            yield places.get(get_origin(annotation), "") + place, child


def _choices(annotation: Any) -> tuple[Any, ...] | None:
    """The values that a type allows, where they are a list."""
    if annotation is bool:
        return (True, False)
    if annotation is NoneType:
        return (None,)
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        parts = [_choices(part) for part in get_args(annotation)]
        return None if None in parts else tuple(value for part in parts for value in part or ())
    return None


def _kind(annotation: Any, metadata: Sequence[Any]) -> str:
    """A type in words, with the limits from its metadata."""
    for part in metadata:
        if isinstance(part, Form):
            return part.text
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None:
        words = (
            f"{{{', '.join(annotation.model_fields)}}}"
            if _is_section(annotation)
            else _WORDS[annotation]
        )
        return f"{words} {_limits(metadata)}".rstrip()
    if origin is Literal:
        return " | ".join(_flow(value) for value in arguments)
    if origin is Annotated:
        inner, *outer = arguments
        return _kind(inner, [part for one in outer for part in getattr(one, "metadata", [one])])
    kinds = [_kind(part, ()) for part in arguments if part is not Ellipsis]
    if origin in (Union, UnionType):
        return " | ".join(kinds)
    return f"mapping to {kinds[1]}" if origin is dict else f"list of {kinds[0]}"


def _limits(metadata: Sequence[Any]) -> str:
    found = [
        (sign, getattr(part, name))
        for part in metadata
        for kind, sign, name in _SIGNS
        if isinstance(part, kind)
    ]
    match found:
        case [(">=", low), ("<=", high)]:
            return f"from {low} to {high}"
    return ", ".join(f"{sign} {limit}" for sign, limit in found)
