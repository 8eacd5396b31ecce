"""The life of a forecaster: checkpoints, budgets, new rows."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import chain, count, repeat
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import carousel
from carousel import Forecaster
from carousel.errors import ArgumentError, DataError, FormatError

torch = pytest.importorskip("torch")

QUICK: dict[str, Any] = {"epochs": 3, "hidden_size": 4, "progress": False}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def chaos() -> np.ndarray[Any, Any]:
    """A series that only the recurrent path can forecast, so that its weights are in the model."""
    values = np.full(160, 0.3)
    for t in range(len(values) - 1):
        values[t + 1] = 3.9 * values[t] * (1 - values[t])
    return values


def forecaster(**options: Any) -> Forecaster:
    return Forecaster(1, **{"season": 1, "lookback": 10, "learning_rate": 0.02, **QUICK, **options})


class Killed(BaseException):
    """Ends a fit as SIGKILL does: nothing of it is caught."""


def test_what_follows_on_a_training_that_was_not_kept_is_not_kept_either() -> None:
    """Its number would be that of the other, whose weights a resumed fit would take it for."""
    from carousel.forecast.checkpoint import Trainings
    from carousel.network.checkpoint import Checkpoint, Training

    def training(steps: int) -> Training:
        return Training(True, steps, None, 0, np.zeros((0, 3)), None, None)

    trainings = Trainings(None, Checkpoint("", "", "", ()))
    trainings.keep(1, training(5))
    assert trainings.enter() == (0, None)
    trainings.keep(0, training(3))
    trainings.keep(1, training(5))
    assert trainings.enter() == (1, training(5))


def killed_after(epochs: int) -> Any:
    calls = count(1)

    def stop(losses: dict[str, float]) -> None:
        if next(calls) == epochs:
            raise Killed

    return stop


@pytest.mark.parametrize("architecture", ["auto", "plain", "deepar"])
def test_how_many_batches_are_loaded_at_a_time_does_not_change_a_bit(
    chaos: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    from carousel.forecast import recurrent_fit

    ahead = forecaster(architecture=architecture).fit(chaos)
    assert recurrent_fit.AHEAD > 100 * 11 * 16, "several batches are loaded at a time"
    monkeypatch.setattr(recurrent_fit, "AHEAD", 1)
    one = forecaster(architecture=architecture).fit(chaos)
    assert one.history_ == ahead.history_
    pd.testing.assert_frame_equal(one.predict(), ahead.predict(), check_exact=True)


# Checkpoints


@pytest.mark.parametrize("architecture", ["auto", "plain", "deepar"])
def test_a_killed_fit_resumes_to_the_same_bits(
    chaos: np.ndarray[Any, Any], tmp_path: Path, architecture: str
) -> None:
    whole = forecaster(architecture=architecture).fit(chaos)
    whole.save(tmp_path / "whole")
    trained = getattr(whole.model_, {"auto": "recurrent"}.get(architecture, architecture))
    assert trained is not None, "nothing was trained, so nothing is tested"
    for epochs in range(1, 7):
        path = tmp_path / f"{epochs}.checkpoint"
        broken = forecaster(architecture=architecture, progress=killed_after(epochs))
        try:
            broken.fit(chaos, checkpoint=path)
        except Killed:
            assert not hasattr(broken, "model_")
        resumed = forecaster(architecture=architecture).fit(chaos, resume=path)
        assert resumed.history_ == whole.history_
        resumed.save(tmp_path / "resumed")
        assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes(), epochs


KILLED = """
import sys
import numpy as np
from carousel import Forecaster

values = np.full(160, 0.3)
for t in range(159):
    values[t + 1] = 3.9 * values[t] * (1 - values[t])
options = dict(season=1, lookback=10, learning_rate=0.02, epochs=3, hidden_size=4, progress=False)
Forecaster(1, **options).fit(values, checkpoint=sys.argv[1], resume=True).save(sys.argv[2])
"""


def test_a_process_killed_at_any_moment_resumes_to_the_same_bits(
    chaos: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    """Among the moments: within the first write of the checkpoint, and between two of them."""
    forecaster().fit(chaos).save(tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, tmp_path / "checkpoint", tmp_path / "model"]
    traced = "import os, signal\nreal, calls = os.fsync, iter(range(99))\n"
    traced += "def kill(fd):\n    if next(calls) == {}: os.kill(os.getpid(), signal.SIGKILL)\n    real(fd)\n"
    traced += "os.fsync = kill\n" + KILLED
    for moment in (0, 3, 4):  # of a write, fsync is called for the file, then for the directory
        command[2] = traced.format(moment)
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    command[2] = KILLED
    subprocess.run(command, check=True)
    assert (tmp_path / "model").read_bytes() == (tmp_path / "whole").read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"whole", "checkpoint", "model"}


def test_a_checkpoint_of_something_else_is_refused(chaos: np.ndarray[Any, Any], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        forecaster(progress=killed_after(2)).fit(chaos, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ArgumentError, match=r"of a fit with epochs=3, not 4, seed=0, not 1; give the same"):
        forecaster(epochs=4, seed=1).fit(chaos, resume=path)
    with pytest.raises(ArgumentError, match="of a fit on other data; give the same rows"):
        forecaster().fit(chaos[1:], resume=path)
    with pytest.raises(ArgumentError, match="`resume` = True goes on from `checkpoint`, got none"):
        forecaster().fit(chaos, resume=True)
    with pytest.raises(FileNotFoundError):
        forecaster().fit(chaos, resume=tmp_path / "nowhere")
    with pytest.raises(
        FormatError, match="it must hold a network or a forecaster, got the kind 'checkpoint'"
    ):
        carousel.load(path)
    assert path.read_bytes() == before
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(FormatError, match="the file is damaged"):
        forecaster().fit(chaos, resume=path)


def test_a_checkpoint_of_another_version_or_a_model_is_refused(
    chaos: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        forecaster(progress=killed_after(1)).fit(chaos, checkpoint=path)
    older = replace(carousel.network.load(path), version="carousel 0.0.1 with torch 2.6.0")
    carousel.network.save(older, path)
    with pytest.raises(
        ArgumentError, match=r"written by carousel 0\.0\.1 with torch 2\.6\.0, this is carousel"
    ):
        forecaster().fit(chaos, resume=path)
    network = carousel.network.Network((carousel.network.Dense(np.eye(2)),))
    carousel.network.save(network, tmp_path / "network")
    with pytest.raises(FormatError, match=r"is no checkpoint but a network; `carousel\.load` reads it"):
        forecaster().fit(chaos, resume=tmp_path / "network")


# Ctrl-C


def test_ctrl_c_is_obeyed_wherever_it_falls_after_an_epoch(
    chaos: np.ndarray[Any, Any], request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(partial(sys.settrace, sys.gettrace()))
    lines: dict[tuple[str, int], None] = {}
    armed: tuple[str, int] | None = None
    between = False  # the report of the first epoch and the second's first batch

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal armed, between
        between = between and frame.f_code.co_name != "_batches"
        if event == "line" and between:
            line = (frame.f_code.co_filename, frame.f_lineno)
            lines.setdefault(line)
            if line == armed:
                armed = None
                raise KeyboardInterrupt
        return trace

    def after_an_epoch(losses: Mapping[str, float]) -> None:
        nonlocal between
        between = losses["epoch"] == 1
        sys.settrace(trace if between else None)
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            frame.f_trace, frame = trace, frame.f_back

    def fit() -> None:
        nonlocal between
        between = False
        torch.set_grad_enabled(True)  # an exception inside torch.no_grad itself leaves it off
        forecaster(architecture="plain", epochs=2, progress=after_an_epoch).fit(chaos)

    fit()
    assert len(lines) > 50
    for line in [*lines]:
        armed = line
        with pytest.raises(KeyboardInterrupt):
            fit()
        assert armed is None, line


# Budgets


def test_steps_end_a_training_and_its_best_is_kept(chaos: np.ndarray[Any, Any]) -> None:
    fitted = forecaster(max_steps=70, epochs=9).fit(chaos)
    assert len(fitted.history_) == 2  # of 56 steps each
    assert any("the budget ended the training in epoch 2" in note for note in fitted.notes_)
    assert fitted.model_ == forecaster(max_steps=70, epochs=9).fit(chaos).model_


def test_minutes_end_a_training_and_leave_time_for_the_second_round(
    chaos: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = clock_of(
        monkeypatch, chain(np.arange(0, 1e4, 0.1))
    )  # 0.1 s between two looks: an epoch takes 5.7 s
    fitted = forecaster(minutes=1, epochs=50, patience=50).fit(chaos)
    assert len(fitted.history_) == 5  # 27 of 60 s are for the first round
    assert any("the budget ended the training in epoch 5" in note for note in fitted.notes_)
    assert fitted.notes_[-1] == "fitted again on all rows as chosen"
    assert next(looks) < 60


def test_a_second_round_that_is_cut_is_not_kept(
    chaos: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_of(monkeypatch, chain(np.arange(0, 30, 0.1), repeat(61.0)))
    fitted = forecaster(minutes=1, epochs=50, patience=50).fit(chaos)
    assert fitted.model_.recurrent is not None
    assert fitted.notes_[-1] == "stopped: fitted without the held-out rows"
    assert np.isfinite(fitted.predict()["carousel"]).all()


def test_a_budget_that_is_spent_at_once_leaves_the_closed_form(
    chaos: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_of(monkeypatch, repeat(61.0))
    fitted = forecaster(minutes=1).fit(chaos)
    assert any("the budget ended the training before its first epoch" in note for note in fitted.notes_)
    assert fitted.notes_[-1] == "fitted again on all rows as chosen"
    assert fitted.model_.recurrent is None


def clock_of(monkeypatch: pytest.MonkeyPatch, seconds: Iterable[float]) -> Iterator[float]:
    """Lets every fit begin at 0 s, and every look at the clock give the next of these seconds."""
    from carousel.forecast import session

    looks, original = iter(seconds), session.Session.__init__

    def begin(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **{**options, "clock": lambda: float(next(looks)), "start": 0.0})

    monkeypatch.setattr(session.Session, "__init__", begin)
    return looks


@pytest.mark.parametrize("minutes", [0, -1, float("inf"), float("nan"), "5", True])
def test_a_budget_that_is_none_is_refused(minutes: Any) -> None:
    with pytest.raises(ArgumentError, match="`minutes` must be a number above 0 and finite"):
        Forecaster(1, minutes=minutes).fit([1.0, 2.0])


# New rows


def months(rng: np.random.Generator, rows: int, name: str, start: str = "2010-01-01") -> pd.DataFrame:
    t = np.arange(rows)
    y = 100 + t + 10 * np.sin(t * np.pi / 6) + rng.normal(size=rows)
    ds = pd.date_range(start, periods=rows, freq="MS")
    return pd.DataFrame({"unique_id": name, "ds": ds, "y": y})


@pytest.fixture
def frame(rng: np.random.Generator) -> pd.DataFrame:
    """Three series, the third shorter than its season in the rows before 2017, and a gap in the first."""
    frame = pd.concat(
        [months(rng, 96, "a"), months(rng, 96, "b"), months(rng, 17, "c", "2016-06-01")], ignore_index=True
    )
    frame.loc[[85, 90], "y"] = np.nan
    return frame


@pytest.mark.parametrize("architecture", ["auto", "plain", "deepar"])
def test_an_updated_model_forecasts_as_one_that_is_given_all_rows(
    frame: pd.DataFrame, tmp_path: Path, architecture: str
) -> None:
    early = frame["ds"] < "2017-01-01"
    fitted = Forecaster(4, season=12, architecture=architecture, **QUICK).fit(frame[early])
    expected = fitted.predict(frame)
    learned = fitted.model_
    first = frame["ds"] < "2017-04-01"
    fitted.update(frame[first & ~early]).update(frame[~first])
    found = fitted.predict()
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9)
    assert fitted.model_.calibration is learned.calibration
    assert fitted.notes_[-1] == "updated without fitting: rows to 2017-12-01"
    assert sum("updated" in note for note in fitted.notes_) == 1
    fitted.save(tmp_path / "model")
    again = carousel.load(tmp_path / "model")
    assert isinstance(again, Forecaster)
    pd.testing.assert_frame_equal(again.predict(), found, check_exact=True)


def test_an_update_touches_only_its_series_and_takes_in_new_ones(
    frame: pd.DataFrame, rng: np.random.Generator
) -> None:
    fitted = Forecaster(4, season=12, **QUICK).fit(frame[frame["unique_id"] != "c"])
    before = fitted.predict()
    new = pd.concat([months(rng, 2, "b", "2018-01-01"), months(rng, 30, "d")], ignore_index=True)
    after = fitted.update(new).predict()
    same = before["unique_id"] == "a"
    pd.testing.assert_frame_equal(after[after["unique_id"] == "a"], before[same], check_exact=True)
    assert after.loc[after["unique_id"] == "b", "ds"].min() == pd.Timestamp("2018-03-01")
    alone = fitted.predict(new[new["unique_id"] == "d"])
    np.testing.assert_allclose(after.loc[after["unique_id"] == "d", "carousel"], alone["carousel"], rtol=1e-9)


@pytest.mark.parametrize("nothing", [np.nan, None, ""])
def test_an_update_takes_rows_without_any_value(
    frame: pd.DataFrame, rng: np.random.Generator, nothing: Any
) -> None:
    """In one series, in all of several, and in a frame of one series without ids; a new series needs a value."""
    two = frame[frame["unique_id"] != "c"]
    coming = pd.concat([months(rng, 2, "a", "2018-01-01"), months(rng, 2, "b", "2018-01-01")])
    for empty in (coming["unique_id"] == "a", coming["y"].notna()):
        fitted = Forecaster(4, season=12, **QUICK).fit(two)
        expected = fitted.predict(pd.concat([two, coming.assign(y=coming["y"].mask(empty))]))
        rows = coming.assign(y=coming["y"].astype(object).mask(empty, nothing))
        pd.testing.assert_frame_equal(fitted.update(rows).predict(), expected, rtol=1e-9)
    with pytest.raises(DataError, match="series 'e' has no value in any row"):
        fitted.update(pd.concat([months(rng, 2, "a", "2018-03-01"), months(rng, 20, "e").assign(y=np.nan)]))
    one = two[two["unique_id"] == "b"].drop(columns="unique_id")
    alone = Forecaster(4, season=12, **QUICK).fit(one)
    row = pd.DataFrame({"ds": [pd.Timestamp("2018-01-01")], "y": [nothing]})
    with pytest.raises(DataError, match="column 'y' has no value in any row"):
        alone.predict(row)
    assert alone.update(row).predict()["ds"].min() == pd.Timestamp("2018-02-01")
    later = pl.DataFrame({"ds": [datetime(2018, 2, 1)], "y": [None]})  # a column of polars' type Null
    assert alone.update(later).predict()["ds"].min() == pd.Timestamp("2018-03-01")


@pytest.mark.parametrize(
    ("start", "rows", "message"),
    [
        (
            "2017-12-01",
            3,
            "Series 'b' has a row at 2017-12-01, but the model knows all rows before 2018-01-01",
        ),
        ("2018-02-01", 3, "Series 'b' begins at 2018-02-01, but its next row is 2018-01-01; give the rows"),
    ],
)
def test_rows_that_do_not_follow_are_refused(
    frame: pd.DataFrame, rng: np.random.Generator, start: str, rows: int, message: str
) -> None:
    fitted = Forecaster(4, season=12, **QUICK).fit(frame[frame["unique_id"] != "c"])
    model = fitted.model_
    with pytest.raises(DataError, match=message):
        fitted.update(months(rng, rows, "b", start))
    with pytest.raises(DataError, match="Series 'e' has 5 rows, but a forecast needs at least 13"):
        fitted.update(months(rng, 5, "e"))
    assert fitted.model_ is model
