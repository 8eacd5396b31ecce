"""`carousel fit`: a file in, scores out, and the model where asked."""

from __future__ import annotations

from typing import Any

import click

from carousel.cli.data import Data, data_options
from carousel.cli.options import forecaster_options

__all__ = ["fit"]


@click.command()
@forecaster_options
@data_options
@click.option("--out", metavar="MODEL", help="File for the fitted model; exactly this path.")
@click.option("--checkpoint", metavar="FILE", help="Written after every epoch; best and last weights.")
@click.option("--resume", is_flag=True, help="Go on from --checkpoint, if it is there; same bits.")
def fit(data: Data, out: str | None, checkpoint: str | None, resume: bool, **options: Any) -> None:
    """Learn to forecast DATA, a CSV or Parquet file, and say how good it is.

    The scores are those of held-out rows, beside persistence, the seasonal naive forecast and ridge. Ctrl-C
    ends the fit early; the best model so far is then kept in MODEL.
    """
    from carousel.cli.output import check_path, say
    from carousel.cli.progress import progress

    check_path("--out", out, *data.files)
    check_path("--checkpoint", checkpoint, *data.files, out)
    if resume and checkpoint is None:
        raise click.UsageError("--resume goes on from a checkpoint; name it with --checkpoint FILE.")
    reading = data.read()

    from carousel import Forecaster
    from carousel.forecast.verdict import table

    forecaster = Forecaster(freq=data.freq, **options, progress=progress())
    try:
        forecaster.fit(reading, checkpoint=checkpoint, resume=resume)
    except KeyboardInterrupt:
        if out is not None and forecaster.__sklearn_is_fitted__():
            forecaster.save(out)
            say(f"stopped early, best model so far: {out}")
        elif out is not None:
            say("stopped before there was a model; nothing was written", err=True)
        raise
    if out is not None:
        forecaster.save(out)
    say(*forecaster.model_.notes, "", "Held-out rows:", table(forecaster.scores_), *forecaster.verdict_, "")
    say(f"model: {out}" if out else "Nothing was written; --out MODEL keeps the model.")
