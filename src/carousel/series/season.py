"""The season of a series whose index says nothing about it."""

from typing import Any

import numpy as np

__all__ = ["find_longer", "find_season"]

Array = np.ndarray[Any, Any]

LEAST = 0.4  # autocorrelation of a season worth the name
CERTAIN = 4.0  # standard errors of an autocorrelation, of which many are looked at
LONGER = 0.1  # the same of a longer one, of what the first leaves
EQUAL = 0.1  # below the highest peak: its multiples repeat a season, the shortest one is meant
SERIES = 32


def find_season(series: list[Array], longest: int) -> int:
    """The lag at which the changes of the series repeat, from the peaks of their mean autocorrelation.

    A season of many rows changes less from row to row than noise does. Where row by row none is found, the changes of
    means of 2, 4, 8, ... rows are asked: half a season hides as much noise as it has rows.

    Args:
        series: arrays (N_s,) without NaN; the first 32 that are long enough are used.
        longest: rows of the longest season to look for.

    Returns:
        The season in rows, 1 for none.

    Example:
        >>> x = np.arange(100.0) + 10 * np.sin(np.arange(100) * np.pi / 6)
        >>> find_season([x], 40)
        12
    """
    width = 1
    while some := [x for x in series if len(x) > 3 * 4 * width][:SERIES]:
        changes = [_changes(x, width) for x in some]
        r = _mean([_autocorrelation(x, longest) for x in changes])
        if len(r) <= 4 * width - 1 or len(r) < 4:
            break
        # Means of neighbouring changes share rows: there are as few of them as do not.
        least = LEAST if width == 1 else max(LEAST, CERTAIN * np.sqrt(width / min(map(len, changes))))
        inner = np.arange(2 if width == 1 else 4 * width, len(r) - 1)
        high = (
            r - np.maximum(np.minimum.accumulate(r), 0) > least
        )  # of a trend that wanders all are, and falling
        peaks = inner[(r[inner] >= r[inner - 1]) & (r[inner] > r[inner + 1]) & high[inner]]
        if len(peaks):
            return _exact(int(peaks[r[peaks] >= r[peaks].max() - EQUAL][0]), width, changes)
        width *= 2
    return 1


def _changes(x: Array, width: int) -> Array:
    """Changes from one mean of so many rows to the next."""
    sums = np.cumsum(np.concatenate([[0.0], x]))
    means = (sums[width:] - sums[:-width]) / width
    changes: Array = means[width:] - means[:-width]
    return changes


def _exact(season: int, width: int, changes: list[Array]) -> int:
    """The season near a peak: noise moves the peak by a row or two, and its multiples by no more than that."""
    r = _mean([_autocorrelation(x, len(x), 2) for x in changes])
    near = np.arange(max(2, season - width), season + width + 1)
    times = np.arange(1, max(1, (len(r) - 1) // near[-1]) + 1)
    lags = np.minimum(near[:, None] * times, len(r) - 1)
    return int(near[np.argmax(r[lags].mean(1))])


def _mean(parts: list[Array]) -> Array:
    """Of autocorrelations, at the lags that all have."""
    lags = min(map(len, parts))
    mean: Array = np.mean([part[:lags] for part in parts], 0)
    return mean


def find_longer(series: list[Array], season: int, longest: int) -> int | None:
    """A longer season, a multiple of the first, that is left when the first is taken out: a week of hours.

    Args:
        season: in rows, more than 1.

    Returns:
        Its rows; None where no multiple stands out.

    Example:
        >>> t = np.arange(24 * 7 * 4)
        >>> x = np.sin(t * np.pi / 12) + (t // 24 % 7 < 5) * (t % 24 < 12)
        >>> find_longer([x], 24, 400)
        168
    """
    known = [x for x in series if len(x) > 5 * season][:SERIES]
    found = [_autocorrelation(x[season:] - x[:-season], longest, 2) for x in known]
    lags = min((len(r) for r in found), default=0)
    if lags <= 2 * season + 1:
        return None
    r = np.mean([part[:lags] for part in found], 0)
    multiples = np.arange(2 * season, lags - 1, season)
    peaks = multiples[(r[multiples] >= r[multiples - 1]) & (r[multiples] > r[multiples + 1])]
    noise = 1 / np.sqrt(min(len(x) for x in known))
    peaks = peaks[r[peaks] > max(LONGER, 3 * noise)]
    return int(peaks[np.argmax(r[peaks])]) if len(peaks) else None


def _autocorrelation(x: Array, longest: int, part: int = 3) -> Array:
    """Autocorrelation at lags 0 to a third (or another `part`) of the rows, each over the rows that it has."""
    x = x - x.mean()
    lags = min(longest, len(x) // part) + 2
    if not x.any():
        return np.zeros(lags)
    size = 1 << (2 * len(x) - 1).bit_length()
    power = np.abs(np.fft.rfft(x, size)) ** 2
    products: Array = np.fft.irfft(power, size)[:lags]
    products *= len(x) / (products[0] * (len(x) - np.arange(lags)))
    return products
