"""Event filters written as text, like ``3300 < m_jj < 3700 and tau21_light < 0.5``.

The text is parsed, never evaluated. It may contain only features, numbers, ``+ - * /``,
comparisons, ``and``, ``or`` and ``not``.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from hepllm.arrays import Bools, Columns, Floats
from hepllm.errors import InputError, nearest_name
from hepllm.schema import FEATURES

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}

_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}

_SIGNS: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


@dataclass(frozen=True)
class EventFilter:
    """A parsed event filter; made by ``parse_event_filter``.

    Attributes:
        text: the filter on one line.
        names: columns that it reads.
        condition: says where it is known to hold and where it is known to fail.
    """

    text: str
    names: tuple[str, ...]
    condition: Callable[[Columns], _Truth]

    def mask(self, columns: Columns) -> Bools:
        """The events that are known to pass, shape (N,).

        A comparison with a missing value (NaN) is unknown, and so is its ``not``; ``or`` with a
        true condition is true (Kleene's three-valued logic).
        """
        length = len(next(iter(columns.values())))
        with np.errstate(all="ignore"):
            passes = self.condition(columns).yes
        return np.array(np.broadcast_to(passes, (length,)))


def parse_event_filter(text: str, columns: Collection[str] | None = None) -> EventFilter:
    """Parses an event filter and checks every name in it.

    Args:
        text: the filter.
        columns: names that it may contain; None for those of features.

    Raises:
        InputError: names the first part that is not valid, and the nearest valid name.
    """
    line = " ".join(text.split())
    try:
        condition = ast.parse(line, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError(
            f"event filter '{line}': not a valid condition; write e.g. '3300 < m_jj < 3700'"
        ) from None
    source = _Source(line, FEATURES if columns is None else columns, columns is None)
    parsed = _condition(condition, source)
    names = {node.id for node in ast.walk(condition) if isinstance(node, ast.Name)}
    return EventFilter(line, tuple(sorted(names)), parsed)


@dataclass(frozen=True)
class _Source:
    """The text of a filter, and the names that it may contain."""

    text: str
    names: Collection[str]
    of_features: bool

    @property
    def kind(self) -> str:
        """What the names are."""
        return "feature" if self.of_features else "column"

    def error(self, reason: str) -> InputError:
        """The error for a part that is not valid."""
        return InputError(f"event filter '{self.text}': {reason}")


@dataclass(frozen=True)
class _Truth:
    """Where a condition is known to hold and where it is known to fail."""

    yes: Bools
    no: Bools

    def __invert__(self) -> _Truth:
        return _Truth(self.no, self.yes)

    def __and__(self, other: _Truth) -> _Truth:
        return _Truth(self.yes & other.yes, self.no | other.no)

    def __or__(self, other: _Truth) -> _Truth:
        return ~(~self & ~other)


def _condition(node: ast.expr, source: _Source) -> Callable[[Columns], _Truth]:
    match node:
        case ast.BoolOp(op=op, values=values):
            parts = [_condition(value, source) for value in values]
            joint = operator.and_ if isinstance(op, ast.And) else operator.or_
            return lambda columns: reduce(joint, (part(columns) for part in parts))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            part = _condition(operand, source)
            return lambda columns: ~part(columns)
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(
            type(op) in _COMPARISONS for op in ops
        ):
            sides = [_number(side, source) for side in (left, *comparators)]
            return lambda columns: _compare(ops, [side(columns) for side in sides])
    raise source.error(f"'{ast.unparse(node)}' is not a condition; write e.g. '3300 < m_jj < 3700'")


def _compare(ops: Sequence[ast.cmpop], numbers: Sequence[Floats]) -> _Truth:
    """Compares each number with the next one."""
    truths = []
    for left, op, right in zip(numbers[:-1], ops, numbers[1:], strict=True):
        known = ~(np.isnan(left) | np.isnan(right))
        holds = _COMPARISONS[type(op)](left, right)
        truths.append(_Truth(holds & known, ~holds & known))
    return reduce(operator.and_, truths)


def _number(node: ast.expr, source: _Source) -> Callable[[Columns], Floats]:
    match node:
        case ast.Constant(value=value) if type(value) in (int, float):
            return lambda _: np.asarray(value, dtype=np.float64)
        case ast.Name(id=name) if name in source.names:
            return lambda columns: columns[name]
        case ast.Name(id=name):
            hint = nearest_name(name, source.names, cutoff=0.4)
            raise source.error(f"unknown {source.kind} '{name}'{hint}")
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            number, sign = _number(operand, source), _SIGNS[type(node.op)]
            return lambda columns: sign(number(columns))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            first, compute, second = (
                _number(left, source),
                _ARITHMETIC[type(op)],
                _number(right, source),
            )
            return lambda columns: compute(first(columns), second(columns))
    raise source.error(f"'{ast.unparse(node)}' is not a number or a {source.kind}")
