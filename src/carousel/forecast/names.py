"""Which column of a frame is the id, the time and the target.

A column is named by the caller, or found where it is obvious: the Nixtla names first, then common ones, then
the only column of its kind; an id under any other name is the only column that tells rows of one time apart.
Where two would do, the caller is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from carousel.errors import DataError
from carousel.forecast.columns import Columns, shown
from carousel.forecast.table import Origin
from carousel.network.forecaster import TimeUnit

__all__ = ["Names", "find_names", "find_time", "like_ids"]

# In lower case without spaces and underscores; those of the Nixtla format first.
_ID_NAMES = ("uniqueid", "seriesid", "itemid", "series", "id")
_TIME_NAMES = {
    "ds",
    "date",
    "datetime",
    "timestamp",
    "time",
    "hour",
    "day",
    "week",
    "month",
    "quarter",
    "year",
}
_TARGET_NAMES = ("y", "value", "target")
# Of what a column of whole numbers may be the id: "store", "store_nbr", "Product ID", "LCLid"; any "…_id" is one.
_OWNERS = (
    "account|article|asset|branch|brand|category|city|client|country|county|customer|department|dept|device|"
    "district|family|group|item|key|location|machine|meter|outlet|plant|product|region|route|sensor|series|"
    "shop|site|sku|state|station|store|symbol|ticker|vendor|warehouse|zone"
)
_OWNER = re.compile(
    rf"(?i:({_OWNERS})[ _.-]?(id|code|key|no|nr|nbr|num|number)?|(.*[ _.-])?id)|.*[a-z]I[dD]|.*[A-Z]{{2}}id"
)


@dataclass(frozen=True)
class Names:
    """The columns that a reading used; None where a frame has no such column."""

    id: str | None
    time: str | None
    target: str
    zone: str | None = None  # of the times
    whole_ids: bool = False  # they are whole numbers
    unit: TimeUnit | None = None  # of the times


def find_names(
    columns: Columns,
    id: str | None,
    time: str | None,
    target: str | None,
    covariates: tuple[str, ...] = (),
    averaged: bool = False,
) -> Names:
    """The columns to use: those named by the caller, else the obvious ones.

    Args:
        covariates: names of columns that are none of them.
        averaged: rows of one time are, so that they need no id to tell them apart.

    Raises:
        DataError: a name that is not there or used twice, no numeric column, or a choice that is not obvious.
    """
    names, origin = columns.frame.columns, columns.origin
    given = [*(name for name in (id, time, target) if name is not None), *covariates]
    _check_there(columns, given)
    if len(set(given)) < len(given):
        wanted = (
            "id, time, target and covariates must be" if covariates else "id, time and target must be three"
        )
        raise DataError(f"{origin.prefix()}{wanted} different columns, got {given}.")
    kinds = {name: columns.kind(name) for name in names if name not in given}
    if time is None:
        time = _find_time(kinds, origin)
    if id is None:
        others = {name: kind for name, kind in kinds.items() if name not in (time, target)}
        id = _find_id(others, columns)
        if id is None and time is not None and not averaged:
            id = _find_apart(others, columns, time)
    if target is None:
        taken = next((name for name in covariates if _bare(name) in _TARGET_NAMES), None)
        if taken is not None and "y" not in kinds:
            raise DataError(
                f"{origin.prefix()}the covariate {taken!r} is what would be forecast; name another target "
                "(--target, in Python target_col)."
            )
        target = _find_target({name: kind for name, kind in kinds.items() if name not in (time, id)}, origin)
    kinds = {name: kind for name, kind in kinds.items() if name not in (time, id, target)}
    if time is None:
        _refuse_text(kinds, columns)
    unused = [name for name in kinds if not _row_number(name)]
    if unused:
        columns.remarks.append(f"not used: {_listed(unused)}")
    return Names(id, time, target)


def _check_there(columns: Columns, given: Iterable[Any]) -> None:
    names = columns.frame.columns
    for name in given:
        if isinstance(name, (list, tuple)):
            raise DataError(
                f"{columns.origin.prefix()}one column is named by one text, got {name!r}; where each of several is a "
                "series, say so (--layout wide, in Python layout='wide')."
            )
        if name not in names:
            raise DataError(
                f"{columns.origin.prefix()}there is no column {name!r}; the columns are {_listed(names)}."
            )


def find_time(columns: Columns, time: str | None) -> str | None:
    """The column of times of a frame whose other columns are series.

    Raises:
        DataError: a name that is not there, or a choice that is not obvious.
    """
    names = columns.frame.columns
    if time is None:
        return _find_time({name: columns.kind(name) for name in names}, columns.origin)
    _check_there(columns, [time])
    return time


def _find_time(kinds: Mapping[str, str], origin: Origin) -> str | None:
    if "ds" in kinds:
        return "ds"
    named = [name for name in kinds if _bare(name) in _TIME_NAMES]
    dates = [name for name, kind in kinds.items() if kind == "time"]
    for found in (dates, named):
        if len(found) == 1:
            return found[0]
    both = [name for name in dates if name in named] or dates or named
    if len(both) > 1:
        raise DataError(
            f"{origin.prefix()}the time could be any of {_listed(both)}; name the column "
            "(--time, in Python time_col), or join them into one column such as 2024-01-31."
        )
    return both[0] if both else None


def _find_id(kinds: Mapping[str, str], columns: Columns) -> str | None:
    if "unique_id" in kinds:
        return "unique_id"
    named = [name for name in kinds if _bare(name) in _ID_NAMES and kinds[name] in ("text", "integer")]
    # An "id" that never repeats numbers the rows, not the series.
    repeated = [name for name in named if columns.frame[name].n_unique() < len(columns.frame)]
    return min(repeated, key=lambda name: _ID_NAMES.index(_bare(name)), default=None)


def _find_apart(kinds: Mapping[str, str], columns: Columns, time: str) -> str | None:
    """The only column that tells rows of one time apart; None where each time stands once."""
    frame = columns.frame
    if frame[time].n_unique() == len(frame):
        return None
    # A column whose values hardly repeat numbers the rows, or describes them.
    found = [
        name
        for name in like_ids(kinds, columns)
        if 2 * frame[name].n_unique() <= len(frame) == len(frame.select(time, name).unique())
    ]
    if len(found) > 1:
        raise DataError(
            f"{columns.origin.prefix()}the id could be any of {_listed(found)}; name the column "
            "(--id, in Python id_col)."
        )
    return found[0] if found else None


def like_ids(kinds: Iterable[str], columns: Columns) -> list[str]:
    """Those of some columns that could be ids: text in every row, or whole numbers under a name of ids."""
    return [
        name
        for name in kinds
        if not _row_number(name)
        and ((columns.is_text(name) and columns.kind(name) == "text") or _named_like_ids(name, columns))
        and not columns.categories(name).null_count
    ]


def _named_like_ids(name: str, columns: Columns) -> bool:
    return columns.kind(name) == "integer" and _OWNER.fullmatch(name) is not None


def _find_target(kinds: Mapping[str, str], origin: Origin) -> str:
    if "y" in kinds:
        return "y"
    numeric = [
        name
        for name, kind in kinds.items()
        if kind in ("integer", "number") and not _row_number(name) and _bare(name) not in _ID_NAMES
    ]
    named = [name for name in numeric if _bare(name) in _TARGET_NAMES]
    for found in (numeric, named):
        if len(found) == 1:
            return found[0]
    if not numeric:
        left = f"; the other columns are {_listed(kinds)}" if kinds else ""
        raise DataError(f"{origin.prefix()}there is no column of numbers to forecast{left}.")
    raise DataError(
        f"{origin.prefix()}several columns hold numbers ({_listed(numeric)}); name the one to forecast "
        "(--target, in Python target_col), or say that each is a series (--layout wide, in Python layout='wide')."
    )


def _refuse_text(kinds: Mapping[str, str], columns: Columns) -> None:
    """Without a time column the order of the rows counts; text might have been meant as the time."""
    for name, kind in kinds.items():
        if kind == "text":
            texts = columns.texts(name)
            row = int(np.flatnonzero(texts.is_valid().to_numpy())[0])
            raise DataError(
                f"{columns.origin.at(row, name)}{shown(texts, row)} is neither a number nor a date; write "
                "dates as 2024-01-31, name the series' column (--id, in Python id_col), or remove this one."
            )


def _row_number(name: str) -> bool:
    """The index that pandas writes beside the columns."""
    return not name or name.startswith("Unnamed:")


def _bare(name: str) -> str:
    return name.lower().replace(" ", "").replace("_", "")


def _listed(names: Iterable[str], most: int = 12) -> str:
    names = [" ".join(name.split()) for name in names]
    return ", ".join(names[:most]) + (f", … {len(names) - most} more" if len(names) > most else "")
