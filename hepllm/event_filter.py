"""Event filters written as text, like ``3300 < m_jj < 3700 and tau21_light < 0.5``.

The text is parsed, never evaluated. It may contain only features, numbers, ``+ - * /``,
comparisons, ``and``, ``or`` and ``not``.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
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


@dataclass(frozen=True)
class EventFilter:
    """A parsed event filter; made by ``parse_event_filter``.

    Attributes:
        text: the filter on one line.
        condition: its checked syntax tree.
    """

    text: str
    condition: ast.expr

    def mask(self, columns: Columns) -> Bools:
        """The events that are known to pass, shape (N,).

        A comparison with a missing value (NaN) is unknown, and so is its ``not``; ``or`` with a
        true condition is true (Kleene's three-valued logic).
        """
        length = len(next(iter(columns.values())))
        with np.errstate(all="ignore"):
            passes = _truth(self.condition, columns).yes
        return np.array(np.broadcast_to(passes, (length,)))


def parse_event_filter(text: str) -> EventFilter:
    """Parses an event filter and checks every name in it.

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
    _check_condition(condition, line)
    return EventFilter(line, condition)


def _check_condition(node: ast.expr, text: str) -> None:
    match node:
        case ast.BoolOp(values=values):
            for value in values:
                _check_condition(value, text)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            _check_condition(operand, text)
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(
            type(op) in _COMPARISONS for op in ops
        ):
            for number in (left, *comparators):
                _check_number(number, text)
        case _:
            raise InputError(
                f"event filter '{text}': '{ast.unparse(node)}' is not a condition; "
                "write e.g. '3300 < m_jj < 3700'"
            )


def _check_number(node: ast.expr, text: str) -> None:
    match node:
        case ast.Constant(value=value) if type(value) in (int, float):
            return
        case ast.Name(id=name):
            if name not in FEATURES:
                hint = nearest_name(name, FEATURES, cutoff=0.4)
                raise InputError(f"event filter '{text}': unknown feature '{name}'{hint}")
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check_number(operand, text)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            _check_number(left, text)
            _check_number(right, text)
        case _:
            raise InputError(
                f"event filter '{text}': '{ast.unparse(node)}' is not a number or a feature"
            )


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


def _truth(node: ast.expr, columns: Columns) -> _Truth:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return reduce(operator.and_, (_truth(value, columns) for value in values))
        case ast.BoolOp(values=values):
            return reduce(operator.or_, (_truth(value, columns) for value in values))
        case ast.UnaryOp(operand=operand):
            return ~_truth(operand, columns)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            numbers = [_number(side, columns) for side in (left, *comparators)]
            return reduce(operator.and_, map(_compare, numbers[:-1], ops, numbers[1:]))
    raise TypeError(f"'{ast.unparse(node)}' was not checked")


def _compare(left: Floats, op: ast.cmpop, right: Floats) -> _Truth:
    known = ~(np.isnan(left) | np.isnan(right))
    holds = _COMPARISONS[type(op)](left, right)
    return _Truth(holds & known, ~holds & known)


def _number(node: ast.expr, columns: Columns) -> Floats:
    match node:
        case ast.Constant(value=value) if isinstance(value, int | float):
            return np.asarray(value, dtype=np.float64)
        case ast.Name(id=name):
            return columns[name]
        case ast.UnaryOp(op=op, operand=operand):
            number = _number(operand, columns)
            return -number if isinstance(op, ast.USub) else number
        case ast.BinOp(left=left, op=op, right=right):
            result: Floats = _ARITHMETIC[type(op)](_number(left, columns), _number(right, columns))
            return result
    raise TypeError(f"'{ast.unparse(node)}' was not checked")
