"""The future column `holiday`: which public holiday of a country a row lies in."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from carousel.errors import ArgumentError
from carousel.network.forecaster import Covariate
from carousel.series.calendar import DAY, Frequency

__all__ = ["HOLIDAY", "holiday_column", "holiday_names"]

Array = np.ndarray[Any, Any]

HOLIDAY = "holiday"  # the column that `holidays="US"` makes


def holiday_names(country: str, stamps: Array, frequency: Frequency) -> Array:
    """The holiday of each row, or "none", as texts of the shape of `stamps`.

    Args:
        country: ISO 3166 code, such as "US" or "DE"; with a subdivision, "DE-BY".
        stamps: datetime64, at least one.

    Raises:
        ArgumentError: a country that is not known, or rows that are not days or parts of one.
        ImportError: the package `holidays` is not there.
    """
    if frequency.unit in ("index", "month") or (frequency.unit == "us" and frequency.step > DAY):
        raise ArgumentError(
            f"`holidays` needs rows of a day or less, but their step is {frequency}; count the holidays of each "
            "row and give them as a future column."
        )
    unique, inverse = np.unique(stamps.astype("datetime64[D]"), return_inverse=True)
    if not len(unique):
        return np.full(stamps.shape, "none", object)
    texts = _holidays(country, *(int(str(day)[:4]) for day in (unique[0], unique[-1])))
    named = np.array([texts.get(day, "none") for day in unique], object)
    out: Array = named[inverse].reshape(stamps.shape)
    return out


@lru_cache(maxsize=16)
def _holidays(country: str, first: int, last: int) -> dict[np.datetime64, str]:
    """The holidays of the years `first` to `last`."""
    import holidays

    name, _, part = country.partition("-")
    try:
        # In one language, for names that followed the locale would be others where a model is loaded.
        calendar = holidays.country_holidays(
            name, subdiv=part or None, years=range(first, last + 1), language="en_US"
        )
    except NotImplementedError:
        raise ArgumentError(
            f'`holidays` must be a country, such as "US", or a part of one, "DE-BY", got {country!r}.'
        ) from None
    return {np.datetime64(day): text for day, text in calendar.items()}


def holiday_column(
    country: str, stamps: Array, frequency: Frequency, known: Covariate | None
) -> tuple[Array, Covariate]:
    """(N,) codes of the holiday of each row, one of them "none", and the column.

    Args:
        country, stamps, frequency: of `holiday_names`.
        known: the column that was fitted; None for a new one.

    Raises:
        ArgumentError, ImportError: as `holiday_names`.
    """
    named = holiday_names(country, stamps, frequency)
    categories = (known.categories if known else tuple(sorted(set(named)))) or ()
    codes = {text: float(code) for code, text in enumerate(categories)}
    out = np.array([codes.get(text, float(len(categories))) for text in named])
    return out, known or Covariate(HOLIDAY, "future", 0.0, 1.0, categories, False)
