"""`carousel demo`: two programs that need no data of the user's."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import click

__all__ = ["demo"]


@click.command()
@click.argument("which", type=click.Choice(["sine", "airline", "all"]), default="sine")
@click.option(
    "--out",
    default="demo",
    show_default=True,
    metavar="DIR",
    help="Directory for the pictures and forecasts.",
)
def demo(which: str, out: str) -> None:
    """A first look, without data of your own.

    \b
    sine     the tutorials' program: an LSTM learns a sine wave (sine.png)
    airline  the last twelve months of airline passengers, beside the truth
             and three baselines (airline.csv, airline.png)
    all      both
    """
    from carousel.cli.output import check_path
    from carousel.errors import ArgumentError

    directory = Path(out)
    if not out or (directory.exists() and not directory.is_dir()):
        raise ArgumentError(f"--out must be a directory, but {out!r} is {'a file' if out else 'no name'}.")
    if not directory.exists() and directory.resolve().parent.is_dir():
        directory.mkdir()
    check_path("--out", str(directory / "sine.png"))
    if which in ("sine", "all"):
        _sine(directory)
    if which in ("airline", "all"):
        _airline(directory)


def _sine(directory: Path) -> None:
    from carousel.cli.demos import sine
    from carousel.cli.output import figure_bytes, say, write

    say(
        f"A sine wave: {sine.POINTS} points, windows of {sine.WINDOW}, an LSTM of {sine.LAYERS} layers of "
        f"{sine.HIDDEN} units, {sine.EPOCHS} epochs."
    )
    outcomes = {}
    for split, part in (("shuffled", "a random"), ("chronological", "the last")):
        say("", f"Split {split}: {part} fifth of the windows is the test part.")
        outcomes[split] = sine.run(split, lambda epoch, loss: say(f"  epoch {epoch}  loss {loss:.6f}"))
        say(f"  test error   {outcomes[split].error:.6f}")
    say(
        "",
        f"The shuffled split leaks in principle: a test window shares up to {sine.WINDOW - 1} of its "
        f"{sine.WINDOW} points with training windows.",
        f"Does it show? Test errors of {sine.SEEDS} seeds: median, smallest, largest.",
    )
    errors = {split: [outcome.error, *sine.more_errors(split)] for split, outcome in outcomes.items()}
    for split, e in errors.items():
        say(f"  {split:13}  {median(e):.6f}  {min(e):.6f}  {max(e):.6f}")
    say(*_difference(errors["shuffled"], errors["chronological"]))
    longer = sine.run("chronological", lambda epoch, loss: None, epochs=sine.LONGER)
    say(
        "",
        f"{sine.EPOCHS} epochs are the tutorials', and the loss was still falling. After {sine.LONGER}, split by time:",
        f"  test error   {longer.error:.6f}",
    )
    path = str(directory / "sine.png")
    write(path, figure_bytes(sine.draw(outcomes["chronological"], longer), path))
    say("", f"Actual against predicted, chronological split: {path}")


def _difference(shuffled: list[float], chronological: list[float]) -> tuple[str, str]:
    """What the two sets of test errors say about the leak."""
    difference = median(chronological) - median(shuffled)
    if min(chronological) > max(shuffled):
        verdict = "The shuffled split flatters the network."
    elif max(chronological) < min(shuffled):
        verdict = "The shuffled split does not flatter the network here; on a series that changes it does."
    else:
        verdict = (
            "The ranges overlap, so the leak does not show: a sine repeats itself for ever, and its last "
            "fifth holds nothing new. A series that changes does; split it by time."
        )
    return f"Difference of the medians, chronological less shuffled: {difference:+.6f}.", verdict


def _airline(directory: Path) -> None:
    from carousel.cli.demos import airline
    from carousel.cli.output import figure_bytes, forecast_bytes, say, write
    from carousel.cli.progress import progress

    say(
        "Airline passengers: 132 months to learn from, the last 12 to forecast; first by the tutorials' network,",
        f"months -> LSTM -> last state -> Dense ({airline.LSTM}), then by the default forecaster (carousel).",
        "",
    )
    outcome = airline.run(progress())
    say(*outcome.notes, "", f"{'':14}    RMSE  MAPE %")
    for name, (rmse, mape) in airline.errors(outcome).items():
        say(f"{name:14}  {rmse:6.2f}  {mape:6.2f}")
    say(*outcome.verdict, "")
    csv, picture = str(directory / "airline.csv"), str(directory / "airline.png")
    write(csv, forecast_bytes(outcome.forecast))
    write(picture, figure_bytes(airline.draw(outcome), picture))
    say(f"Forecast and truth: {csv}", f"Picture: {picture}")
