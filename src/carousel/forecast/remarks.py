"""What reading found and did, in sentences: the columns, what was changed, and what is odd about the values."""

from __future__ import annotations

from typing import Any

import numpy as np

from carousel.forecast.dates import moment
from carousel.forecast.names import Names
from carousel.series import Panel

__all__ = ["of_columns", "of_rows"]

Array = np.ndarray[Any, Any]

BLOCK = 1 << 17  # rows
FAR = 25  # times the median change over a season
MEASURED = 20  # changes, below which that median says little


def of_columns(names: Names, panel: Panel) -> list[str]:
    """The columns that were used."""
    notes = []
    if names.time:
        first, last = moment(panel.starts.min()), moment(panel.lasts.max())
        step = f"step {panel.frequency}" if panel.frequency.unit == "index" else str(panel.frequency)
        notes.append(f"time column: {names.time} ({step}, {first} to {last})")
    else:
        notes.append("no time column: the rows count 0, 1, 2, …")
    notes.append(f"target column: {names.target}")
    if names.id:
        notes.append(f"id column: {names.id} ({len(panel)} series)")
    return notes


def of_rows(panel: Panel, values: Array, unsorted: int, averaged: int) -> list[str]:
    """What was changed, and what is odd about the values.

    Args:
        values: of the rows that were given.
        unsorted: rows that were out of order.
        averaged: rows that became part of another.
    """
    gaps = len(panel.values) - len(values)
    missing = int(np.isnan(values).sum())
    highest = np.fmax.reduceat(panel.values, panel.offsets[:-1])
    lowest = np.fmin.reduceat(panel.values, panel.offsets[:-1])
    known = np.add.reduceat(~np.isnan(panel.values), panel.offsets[:-1], dtype=np.int64)
    constant, single = np.flatnonzero((highest == lowest) & (known > 1)), np.flatnonzero(known == 1)
    notes = []
    if panel.frequency.any_day:
        side = "last" if panel.frequency.anchor == "end" else "first"
        notes.append(f"one row a month, on varying days: read as months, dated by their {side} day")
    if unsorted:
        notes.append(f"sorted: {_counting(unsorted, 'row was', 'rows were')} out of order")
    if averaged:
        notes.append(f"{_counting(averaged, 'duplicate', 'duplicates')} averaged")
    if gaps:
        notes.append(f"{_counting(gaps, 'gap is', 'gaps are')} treated as missing")
    if missing:
        notes.append(f"{_counting(missing, 'value is', 'values are')} missing")
    notes += [*_other_steps(panel), *_far_off(panel)]
    if len(constant) == 1:
        s = constant[0]
        notes.append(f"series {panel.ids[s]} is constant ({highest[s]:g})")
    elif len(constant):
        notes.append(f"{len(constant)} of {len(panel)} series are constant")
    if len(single) and len(panel) > 1:
        named = f"series {panel.ids[single[0]]} has" if len(single) == 1 else f"{len(single)} series have"
        notes.append(f"{named} one value, and intervals as series like it")
    return notes


def _other_steps(panel: Panel) -> list[str]:
    """A note of series that have less than half of the rows of a grid that others fill."""
    known = np.add.reduceat(~np.isnan(panel.values), panel.offsets[:-1], dtype=np.int64)
    sparse = 2 * known < panel.lengths
    if sparse.all() or not sparse.any():
        return []
    s = int(sparse.argmax())
    more = f", and {sparse.sum() - 1} more" if sparse.sum() > 1 else ""
    rows = f"{known[s]:,} of {panel.lengths[s]:,} rows of the step {panel.frequency}"
    return [f"series {panel.ids[s]}{more}: {rows} are there; is its own step another?"]


def _far_off(panel: Panel) -> list[str]:
    """A note of single values that nothing near them or a season away comes close to: forecasts may repeat them."""
    m, count, first = panel.frequency.season, 0, ""
    for s in range(len(panel)):
        x = panel.values[panel.offsets[s] : panel.offsets[s + 1]]
        found = _far_rows(x, m)
        count += len(found)
        if len(found) and not first:
            series = f" in series {panel.ids[s]}" if len(panel) > 1 else ""
            first = f"{x[found[0]]:g} at {moment(panel.times(s)[found[0]])}{series}"
    if not count:
        return []
    what = "1 value lies" if count == 1 else f"{count:,} values lie"
    return [
        f"{what} far from all others of the season, first {first}: if it is an error, leave its cell empty"
    ]


def _far_rows(x: Array, m: int) -> Array:
    """Rows of one series whose values are FAR from those before and after, and one and two seasons away."""
    if len(x) < m + MEASURED:
        return np.zeros(0, np.int64)
    every = max(1, len(x) // BLOCK)
    changes = np.abs(x[m::every] - x[: len(x) - m : every])
    changes = changes[~np.isnan(changes)]
    limit = FAR * float(np.median(changes)) if len(changes) >= MEASURED else 0.0
    if not limit > 0:
        return np.zeros(0, np.int64)
    parts = []
    for b in range(m, len(x), BLOCK):
        end = min(b + BLOCK, len(x))
        parts.append(b + np.flatnonzero(np.abs(x[b:end] - x[b - m : end - m]) > limit))
    found: Array = np.concatenate(parts)
    for lag in (1, -1, 2 * m, -m, -2 * m):
        there = (found - lag >= 0) & (found - lag < len(x))
        apart = np.abs(x[found] - x[np.where(there, found - lag, found)])
        found = found[~there | ~(apart <= limit)]
    return found


def _counting(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
