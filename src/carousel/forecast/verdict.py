"""What the scores say, in sentences: also when they say that the model is not worth having."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from carousel.forecast.comparison import Gain
from carousel.forecast.scores import Scores

__all__ = ["is_shifted", "table", "verdict"]

Array = np.ndarray[Any, Any]

MODEL = "carousel"
EQUAL = 5e-4  # of an RMSE: a difference that would be printed as 0.0 %


def verdict(
    scores: dict[str, Scores], shifted: int = 0, gains: Mapping[str, Gain] | None = None, blind: bool = False
) -> tuple[str, ...]:
    """Sentences: which forecast wins by RMSE, which baselines the model does not beat, and what it repeats.

    Args:
        shifted: how many steps the forecast runs behind the truth (`is_shifted`).
        gains: of the model over every baseline; without, nothing is said of how sure the difference is.
        blind: the model reads covariates, which the baselines do not.
    """
    ranked = sorted(scores, key=lambda name: scores[name].rmse)
    best, model = ranked[0], scores[MODEL]
    if len(ranked) == 1 or not np.isfinite(model.rmse):
        return ("There is nothing to compare the model with.",)
    sentences = []
    rival = ranked[1] if best == MODEL else best
    tie = abs(scores[rival].rmse - model.rmse) <= EQUAL * scores[rival].rmse
    if tie:
        sentences.append(
            f"A tie: the RMSE of the model and of {rival}, the best baseline, is {model.rmse:.4g}."
        )
    elif best == MODEL:
        gain = 1 - model.rmse / scores[rival].rmse
        sentences.append(f"The model wins: its RMSE is {gain:.1%} below that of {rival}, the best baseline.")
    else:
        name = best[0].upper() + best[1:]
        sentences.append(f"{name} wins: RMSE {scores[best].rmse:.4g} against {model.rmse:.4g} of the model.")
        worse = [name for name in ranked if name != MODEL and scores[name].rmse <= model.rmse]
        sentences += [f"The model does not beat {name}." for name in worse]
    if gains and not tie:
        sentences.append(_sureness(gains[rival]))
    if blind:
        sentences.append("The baselines see no covariates.")
    if shifted:
        steps = "the last value" if shifted == 1 else f"the value of {shifted} steps ago"
        sentences.append(
            f"One step ahead the forecast equals {steps}: it is the input shifted, not a prediction."
        )
    return tuple(sentences)


def _sureness(gain: Gain) -> str:
    if np.isnan(gain.lower):
        return f"How sure that is cannot be said from {gain.drawn}: too few that do not overlap."
    sizes = sorted([gain.lower, gain.upper] if gain.share > 0 else [-gain.upper, -gain.lower])
    interval = f"95 % interval of the difference {sizes[0]:.1%} to {sizes[1]:.1%}, {gain.drawn}"
    return f"{interval}." if gain.sure else f"That may be chance: {interval}."


def is_shifted(forecast: Array, truth: Array, window: Array, most: int = 3) -> int:
    """By how many steps the forecast of step 1 runs behind: 0 where it fits the truth best, as it should.

    Args:
        forecast: (B,) of the first step ahead.
        truth: (B,) at that step.
        window: (B, L) the values before it.
    """
    known = ~np.isnan(truth)
    if known.sum() < 5:
        return 0
    lagged = [truth[known], *(window[known, -lag] for lag in range(1, min(most, window.shape[1]) + 1))]
    errors = [float(np.abs(forecast[known] - values).mean()) for values in lagged]
    best = int(np.argmin(errors))
    # Between equal errors nothing can be told; a third of the error is no accident.
    return best if best and 3 * errors[best] < errors[0] else 0


def table(scores: dict[str, Scores]) -> str:
    """The scores as lines of text, best RMSE first."""
    levels = list(scores[MODEL].coverage)
    head = ["", "RMSE", "MAE", "MASE", "sMAPE %", "CRPS", *(f"in {a:g} %" for a in levels)]
    rows = [head]
    for name in sorted(scores, key=lambda name: scores[name].rmse):
        s = scores[name]
        inside = [f"{100 * s.coverage[a]:.1f}" if a in s.coverage else "" for a in levels]
        rows.append(
            [
                name,
                f"{s.rmse:.5g}",
                f"{s.mae:.5g}",
                f"{s.mase:.3f}",
                f"{s.smape:.2f}",
                f"{s.crps:.5g}",
                *inside,
            ]
        )
    widths = [max(len(row[j]) for row in rows) for j in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if j == 0 else cell.rjust(w)
            for j, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _number(x: float) -> str:
    """Five digits, or all before the point: an exponent would take more."""
    return f"{x:.0f}" if 1e4 <= abs(x) < 1e8 else f"{x:.5g}"
