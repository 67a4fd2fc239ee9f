"""Tables in memory, as Python's libraries have them, as named columns of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
from scipy.sparse import issparse
from sklearn.utils.validation import check_array

from hepllm.arrays import Floats
from hepllm.errors import InputError


def column_names(table: Any) -> tuple[str, ...] | None:
    """Names of the columns of a table; None for what has no named columns.

    A table is a mapping, a data frame of pandas or polars, a table or batch of Arrow, a structured
    array of NumPy, or an awkward array of records.
    """
    names: Iterable[Any] | None = None
    if isinstance(table, ak.Array):
        names = ak.fields(table) or None
    elif isinstance(table, pa.Table | pa.RecordBatch):
        names = table.schema.names
    elif isinstance(table, np.ndarray):
        names = table.dtype.names
    elif hasattr(table, "keys") and not issparse(table):  # pandas too, which is no mapping
        names = table.keys()
    elif hasattr(table, "columns"):  # polars
        names = table.columns
    return None if names is None else tuple(str(name) for name in names)


def named_columns(table: Any, names: Sequence[str]) -> dict[str, Floats]:
    """Columns of a table, shape (N,), NaN where a value is missing.

    Raises:
        InputError: a column has no numbers, an infinite one, or lists, or the lengths differ.
    """
    columns = {name: _numbers(_column(table, name), name) for name in names}
    lengths = {values.shape for values in columns.values()}
    if len(lengths) > 1:
        raise InputError(f"columns of different shapes: {', '.join(map(str, sorted(lengths)))}")
    return columns


def _column(table: Any, name: str) -> Any:
    """A column by its name, which may be a number in a mapping or data frame."""
    if hasattr(table, "keys") and hasattr(table, "items") and name not in table:
        return next(values for key, values in table.items() if str(key) == name)
    return table[name]


def filled(values: Any) -> Floats:
    """Numbers of any array or column, NaN where one is masked, null or None.

    Raises:
        TypeError: the values are no numbers.
        ValueError: the same.
    """
    if isinstance(values, ak.Array):
        values = ak.to_numpy(values)
    elif hasattr(values, "isna") and hasattr(values, "to_numpy"):  # pandas, whose NA is no number
        kind = getattr(values.dtype, "kind", "")
        values = values.to_numpy() if kind in "mM" else values.to_numpy(float, na_value=np.nan)
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    array = np.asarray(values)
    if array.dtype.kind in "mMc":
        raise TypeError(f"values of the type {array.dtype}")
    return array.astype(np.float64)


def _numbers(values: Any, name: str) -> Floats:
    try:
        numbers = np.atleast_1d(filled(values))
    except (TypeError, ValueError) as error:
        raise InputError(f"column '{name}': expected numbers: {error}") from None
    if numbers.ndim != 1:
        raise InputError(
            f"column '{name}': expected one number of each event, found the shape {numbers.shape}"
        )
    infinite = int(np.isinf(numbers).sum())
    if infinite:
        raise InputError(
            f"column '{name}': {infinite} infinite values; give NaN where a value is missing"
        )
    return numbers


def unnamed_rows(table: Any) -> Floats:
    """An array without names of columns, shape (N, F), NaN where a value is missing.

    Raises:
        InputError: it is no array of numbers with two axes.
    """
    try:
        if isinstance(table, np.ma.MaskedArray):
            table = filled(table)
        rows = check_array(table, dtype=np.float64, ensure_all_finite="allow-nan")
    except ValueError as error:
        raise InputError(str(error)) from None
    return np.asarray(rows, dtype=np.float64)
