"""`carousel fit`: a file in, scores out, and the model where asked."""

from __future__ import annotations

from typing import Any

import click

from carousel.cli.options import covariate_options, forecaster_options, frame_options

__all__ = ["fit"]


@click.command()
@click.argument("data", metavar="DATA")
@forecaster_options
@frame_options
@covariate_options
@click.option("--out", metavar="MODEL", help="File for the fitted model; exactly this path.")
@click.option("--checkpoint", metavar="FILE", help="Written after every epoch; best and last weights.")
@click.option("--resume", is_flag=True, help="Go on from --checkpoint, if it is there; same bits.")
def fit(
    data: str,
    id: str | None,
    time: str | None,
    target: str | None,
    duplicates: Any,
    past: tuple[str, ...],
    future: tuple[str, ...],
    static: str | None,
    holidays: str | None,
    out: str | None,
    checkpoint: str | None,
    resume: bool,
    **options: Any,
) -> None:
    """Learn to forecast DATA, a CSV or Parquet file, and say how good it is.

    The scores are those of held-out rows, beside persistence, the seasonal naive forecast and ridge. Ctrl-C
    ends the fit early; the best model so far is then kept in MODEL.
    """
    from carousel.cli.output import check_path, say
    from carousel.cli.progress import progress
    from carousel.forecast.read import Wanted, read_frame, read_table

    check_path("--out", out, data, static)
    check_path("--checkpoint", checkpoint, data, static, out)
    if resume and checkpoint is None:
        raise click.UsageError("--resume goes on from a checkpoint; name it with --checkpoint FILE.")
    reading = read_frame(
        read_table(data),
        id=id,
        time=time,
        target=target,
        freq=options["freq"],
        duplicates=duplicates,
        wanted=Wanted.of(past, future, (), holidays),
        static=None if static is None else read_table(static),
    )
    say(*reading.notes)

    from carousel import Forecaster
    from carousel.forecast.verdict import table

    forecaster = Forecaster(**options, progress=progress())
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
