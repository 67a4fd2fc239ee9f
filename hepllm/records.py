"""Records of results in JSON files: frozen models, each field with a sentence and maybe a unit.

The sentence of a field is the string below it; its unit belongs to its type (``Gev``, ``Events``).
Unknown keys are ignored, so that a file to which a later version has only added keys can be read.
If the meaning of a key changes, ``schema_version`` is raised and older files are refused. A field
with its default value is not written.

A field of several numbers becomes several keys of the file: ``auc: Quantity`` is written as ``auc``
and ``auc_interval``; ``sic_at`` is written for each signal efficiency, as ``sic_at_0.3``,
``sic_at_0.3_interval`` and so on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo

from hepllm.errors import InputError
from hepllm.files import write_text

T = TypeVar("T")

Gev = Annotated[float, Field(json_schema_extra={"unit": "GeV"})]
Seconds = Annotated[float, Field(json_schema_extra={"unit": "s"})]
EventsPerSecond = Annotated[float, Field(json_schema_extra={"unit": "events/s"})]
Events = Annotated[int, Field(json_schema_extra={"unit": "events"})]
Pair = tuple[float, float]
"""Lower and upper end of an interval."""

_BY_EFFICIENCY = "by signal efficiency"
At = Annotated[Mapping[str, T], _BY_EFFICIENCY]
"""A value for each signal efficiency, such as ``0.3``, with which its key in a file ends."""

Whole = Annotated[T, PlainSerializer(lambda section: section.model_dump(mode="json"))]
"""Another pydantic model, such as settings, written with all of its fields."""


class Record(BaseModel):
    """Base of all records."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    def tree(self) -> dict[str, Any]:
        """The content of the JSON file."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, tree: Any) -> Any:
        """Joins the keys of each field of several numbers."""
        if not isinstance(tree, dict):
            return tree
        gathered = dict(tree)
        for name, field in cls.model_fields.items():
            kind = quantity_of(field)
            if is_by_efficiency(field) and name not in tree:
                keys = {key: re.fullmatch(rf"{name}_(\d[\d.]*)", key) for key in tree}
                gathered[name] = {
                    found[1]: _nested(tree, key, kind) for key, found in keys.items() if found
                }
            elif kind and not is_by_efficiency(field) and name in tree:
                gathered[name] = _nested(tree, name, kind)
        return gathered

    @model_serializer(mode="wrap")
    def _spread(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Writes each field of several numbers as several keys."""
        flat: dict[str, Any] = {}
        for name, part in handler(self).items():
            field = type(self).model_fields[name]
            kind = quantity_of(field)
            parts = part if is_by_efficiency(field) else {"": part}
            for at, one in parts.items():
                key = f"{name}_{at}" if at else name
                numbers = one if kind else {"value": one}
                flat |= {key if end == "value" else f"{key}_{end}": n for end, n in numbers.items()}
        return flat


class Quantity(Record):
    """Base of a field of several numbers; its ``value`` has the key of the field."""


class FileRecord(Record):
    """Base of the content of a file."""

    schema_version: int = 1
    """Version of the keys of this file, raised when the meaning of a key changes."""

    def tree(self) -> dict[str, Any]:
        """The content of the JSON file, with the version first."""
        return {"schema_version": self.schema_version, **super().tree()}

    def write(self, file: Path, indent: int | None = 1) -> None:
        """Writes the file, whole or not at all."""
        write_text(file, self.text(indent))

    def text(self, indent: int | None = 1) -> str:
        """The content of the file as text."""
        return json.dumps(self.tree(), indent=indent, allow_nan=False) + "\n"

    @classmethod
    def read(cls, file: Path, mend: str) -> Self:
        """Reads the file.

        Args:
            file: file to read.
            mend: advice in the error message on a file that cannot be read.

        Raises:
            InputError: if it is missing, damaged, incomplete or of another version.
        """
        try:
            tree = json.loads(file.read_text(encoding="utf-8"))
            tree = cls.of_former_version(dict(tree))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{file}: not readable: {error}; {mend}") from None
        kind = cls.kind_of(tree)
        expected = kind.model_fields["schema_version"].default
        found = tree.get("schema_version", "none")
        if found != expected:
            raise InputError(
                f"{file}: written by another version of hepllm: schema_version is {found}, "
                f"expected {expected}; {mend}"
            )
        try:
            return kind.model_validate(tree)
        except ValidationError as error:
            wrong = ", ".join(
                f"{'.'.join(map(str, one['loc']))} ({one['msg']})" for one in error.errors()[:3]
            )
            raise InputError(f"{file}: unexpected content: {wrong}; {mend}") from None

    @classmethod
    def kind_of(cls, tree: Mapping[str, Any]) -> type[Self]:
        """Chooses the record that the content of a file belongs to."""
        del tree
        return cls

    @classmethod
    def of_former_version(cls, tree: dict[str, Any]) -> dict[str, Any]:
        """Converts the content of a former version to this one, if it can."""
        return tree


def quantity_of(field: FieldInfo) -> type[Quantity] | None:
    """The type of a field of several numbers; None for other fields."""
    kind: Any = field.annotation
    if is_by_efficiency(field):
        kind = kind.__args__[1]
    return kind if isinstance(kind, type) and issubclass(kind, Quantity) else None


def is_by_efficiency(field: FieldInfo) -> bool:
    """Whether a field has a value for each signal efficiency."""
    return _BY_EFFICIENCY in field.metadata


def _nested(tree: Mapping[str, Any], key: str, kind: type[Quantity] | None) -> Any:
    if kind is None or isinstance(tree[key], Quantity):
        return tree[key]
    keys = {part: key if part == "value" else f"{key}_{part}" for part in kind.model_fields}
    return {part: tree[name] for part, name in keys.items() if name in tree}
