"""Expressions of columns written as text, like ``abs(delta_eta)`` or ``jet1_pt / m_jj``.

The text is parsed, never evaluated: what is not listed here is refused. An expression may contain
columns, numbers, ``pi``, ``+ - * / **``, the functions ``FUNCTIONS`` (also as ``np.log``), ``min``
and ``max`` of several values, and ``where(condition, value, other)``. A condition has comparisons,
``and``, ``or`` and ``not``.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from hepllm.arrays import Bools, Columns, Floats
from hepllm.errors import InputError, nearest_name

FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    **{
        name: (1, getattr(np, name))
        for name in (
            *("abs", "sign", "floor", "ceil", "sqrt", "exp", "expm1", "log", "log10", "log1p"),
            *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"),
            *("arcsinh", "arccosh", "arctanh"),
        )
    },
    "arctan2": (2, np.arctan2),
    "hypot": (2, np.hypot),
}
"""Functions by name, as NumPy has them: the number of their arguments, and what computes them."""

_OF_SEVERAL: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("min", "minimum"), np.minimum),
    **dict.fromkeys(("max", "maximum"), np.maximum),
}

_CONSTANTS: Mapping[str, float] = {"pi": np.pi}

RESERVED = frozenset({*FUNCTIONS, *_OF_SEVERAL, *_CONSTANTS, "where", "np", "math"})
"""Names that a column of an expression cannot have."""

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
    ast.Pow: operator.pow,
}

_SIGNS: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}

Number = Callable[[Columns], Floats]
"""Computes a number of each event, NaN where it is missing."""


@dataclass(frozen=True)
class Truth:
    """Where a condition is known to hold and where it is known to fail."""

    yes: Bools
    no: Bools

    def __invert__(self) -> Truth:
        return Truth(self.no, self.yes)

    def __and__(self, other: Truth) -> Truth:
        return Truth(self.yes & other.yes, self.no | other.no)

    def __or__(self, other: Truth) -> Truth:
        return ~(~self & ~other)


Condition = Callable[[Columns], Truth]


@dataclass(frozen=True)
class Grammar:
    """What a text may contain, and how its errors begin.

    Attributes:
        text: the text on one line.
        names: columns that it may contain.
        kind: what the names are, such as ``feature``.
        title: beginning of messages, such as ``event filter``.
        noun: what the text is, for messages.
        example: valid text for messages.
    """

    text: str
    names: Collection[str]
    kind: str
    title: str
    noun: str
    example: str

    def tree(self) -> ast.expr:
        """Parses the text to a tree of which nothing is checked yet."""
        try:
            return ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise self.error(f"not a valid {self.noun}; write e.g. '{self.example}'") from None

    def error(self, reason: str) -> InputError:
        """The error for a part that is not valid."""
        return InputError(f"{self.title} '{self.text}': {reason}")

    def condition(self, node: ast.expr) -> Condition:
        """Checks a node of the tree and returns what decides it.

        Raises:
            InputError: names the first part that is not valid, and the nearest valid name.
        """
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.condition(value) for value in values]
                joint = operator.and_ if isinstance(op, ast.And) else operator.or_
                return lambda columns: reduce(joint, (part(columns) for part in parts))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                part = self.condition(operand)
                return lambda columns: ~part(columns)
            case ast.Compare(left=left, ops=ops, comparators=comparators) if all(
                type(op) in _COMPARISONS for op in ops
            ):
                sides = [self.number(side) for side in (left, *comparators)]
                return lambda columns: _compare(ops, [side(columns) for side in sides])
        raise self.error(
            f"'{ast.unparse(node)}' is not a condition; write e.g. '3300 < m_jj < 3700'"
        )

    def number(self, node: ast.expr) -> Number:
        """Checks a node of the tree and returns what computes it.

        Raises:
            InputError: as for ``condition``.
        """
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return self._constant(value)
            case ast.Name(id=name) if name in self.names:
                return lambda columns: columns[name]
            case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="np" | "math"), attr=name) if (
                name in _CONSTANTS
            ):
                return self._constant(_CONSTANTS[name])
            case ast.Name(id=name):
                hint = nearest_name(name, self.names, cutoff=0.4)
                raise self.error(f"unknown {self.kind} '{name}'{hint}")
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                number, sign = self.number(operand), _SIGNS[type(node.op)]
                return lambda columns: sign(number(columns))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                compute = _ARITHMETIC[type(op)]
                first, second = self.number(left), self.number(right)
                return lambda columns: compute(first(columns), second(columns))
            case ast.Call(func=function, args=arguments, keywords=[]):
                return self._call(function, arguments)
        hint = "; a power is written **" if _is_caret(node) else ""
        raise self.error(f"'{ast.unparse(node)}' is not a number or a {self.kind}{hint}")

    def _constant(self, value: float) -> Number:
        try:
            number = np.asarray(float(value), dtype=np.float64)
        except OverflowError:
            raise self.error("a number in it is too large") from None
        return lambda _: number

    def _call(self, function: ast.expr, arguments: Sequence[ast.expr]) -> Number:
        match function:
            case ast.Name(id=name):
                pass
            case ast.Attribute(value=ast.Name(id="np" | "math"), attr=name):
                pass
            case _:
                name = ast.unparse(function)
        if name == "where" and len(arguments) == 3:
            condition, then, other = self.condition(arguments[0]), *map(self.number, arguments[1:])
            return lambda columns: _where(condition(columns), then(columns), other(columns))
        if name in _OF_SEVERAL and len(arguments) >= 2:
            several, values = _OF_SEVERAL[name], [self.number(one) for one in arguments]
            return lambda columns: reduce(several, (value(columns) for value in values))
        if name not in FUNCTIONS:
            known = (*FUNCTIONS, *_OF_SEVERAL, "where")
            what = f"{name} of {len(arguments)} values" if name in known else name
            hint = "" if name in known else nearest_name(name, known)
            raise self.error(f"'{what}' is not a function here{hint}; there are {', '.join(known)}")
        n_arguments, compute = FUNCTIONS[name]
        if len(arguments) != n_arguments:
            raise self.error(f"{name} has {n_arguments} arguments, found {len(arguments)}")
        numbers = [self.number(one) for one in arguments]
        return lambda columns: compute(*(number(columns) for number in numbers))


def _is_caret(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor)


def _where(truth: Truth, then: Floats, other: Floats) -> Floats:
    """The value of where a condition holds, or the other one; NaN where it is not known."""
    return np.where(truth.yes, then, np.where(truth.no, other, np.nan))


def _compare(ops: Sequence[ast.cmpop], numbers: Sequence[Floats]) -> Truth:
    """Compares each number with the next one."""
    truths = []
    for left, op, right in zip(numbers[:-1], ops, numbers[1:], strict=True):
        known = ~(np.isnan(left) | np.isnan(right))
        holds = _COMPARISONS[type(op)](left, right)
        truths.append(Truth(holds & known, ~holds & known))
    return reduce(operator.and_, truths)


def names_in(node: ast.expr, columns: Collection[str]) -> tuple[str, ...]:
    """The columns that a checked tree reads, in alphabetical order."""
    found = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return tuple(sorted(found & set(columns)))


@dataclass(frozen=True)
class Expression:
    """A parsed expression; made by ``parse_expression``.

    Attributes:
        text: the expression on one line.
        names: columns that it reads.
        number: computes it.
    """

    text: str
    names: tuple[str, ...]
    number: Number

    def values(self, columns: Columns) -> Floats:
        """Its value of each event, shape (N,); NaN where it is missing or not finite."""
        length = len(next(iter(columns.values())))
        with np.errstate(all="ignore"):
            values = np.asarray(self.number(columns), dtype=np.float64)
        return np.where(np.isfinite(values), values, np.nan) * np.ones(length)


def parse_expression(text: str, columns: Collection[str], kind: str = "feature") -> Expression:
    """Parses an expression and checks every name in it.

    Raises:
        InputError: names the first part that is not valid, and the nearest valid name.
    """
    grammar = Grammar(
        " ".join(text.split()), columns, kind, "expression", "expression", "jet1_pt / m_jj"
    )
    try:
        tree = grammar.tree()
        number = grammar.number(tree)
    except RecursionError:
        raise grammar.error("too deeply nested; divide it into several new variables") from None
    return Expression(grammar.text, names_in(tree, columns), number)


@dataclass(frozen=True)
class NewVariables:
    """Columns that are expressions of others, by name, each of earlier ones too."""

    expressions: Mapping[str, Expression]

    @classmethod
    def parse(cls, texts: Mapping[str, str], columns: Collection[str]) -> NewVariables:
        """Parses expressions of columns and of earlier expressions.

        Raises:
            InputError: a name or an expression is not valid.
        """
        expressions: dict[str, Expression] = {}
        for name, text in texts.items():
            if not name.isidentifier() or name in RESERVED:
                raise InputError(f"'{name}' cannot be a name; take letters, digits and _")
            try:
                expressions[name] = parse_expression(text, {*columns, *expressions})
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
        return cls(expressions)

    def inputs(self, names: Iterable[str]) -> tuple[str, ...]:
        """Columns from which columns are computed: those that are no expressions themselves."""
        found: dict[str, None] = {}
        for name in names:
            if name in self.expressions:
                found |= dict.fromkeys(self.inputs(self.expressions[name].names))
            else:
                found[name] = None
        return tuple(found)

    def computed(self, columns: Columns, names: Collection[str] | None = None) -> dict[str, Floats]:
        """Columns with these expressions added, or all; a column that is there is kept."""
        wanted = self.expressions if names is None else self.needed(names)
        found = dict(columns)
        for name, expression in self.expressions.items():
            if name in wanted and name not in found:
                found[name] = expression.values(found)
        return found

    def needed(self, names: Iterable[str]) -> set[str]:
        """The expressions among names, and those that they need."""
        direct = [name for name in names if name in self.expressions]
        deeper = [self.needed(self.expressions[name].names) for name in direct]
        return set(direct).union(*deeper)


NO_VARIABLES = NewVariables({})
