"""The command line as a process: what it prints, what it writes, how it ends."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import carousel
from carousel.cli import main

AIRLINE = Path(carousel.__file__).parent / "data" / "airline.csv"
COLUMNS = [
    "unique_id",
    "ds",
    "carousel",
    "carousel-lo-80",
    "carousel-hi-80",
    "carousel-lo-95",
    "carousel-hi-95",
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
QUICK = ("--epochs", "1")


def carousel_process(*arguments: object, cwd: Path, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "carousel", *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        **options,
    )


def run(*arguments: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    process = carousel_process(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err or out
    return subprocess.CompletedProcess(process.args, code, out, err)


def run_here(monkeypatch: pytest.MonkeyPatch, cwd: Path, *arguments: object) -> None:
    """The same in this process, where torch is imported once."""
    monkeypatch.chdir(cwd)
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert caught.value.code == 0


def refused(*arguments: object, cwd: Path, says: str) -> None:
    """Exit code 2, one sentence on stderr, no file touched; on stdout at most what was found in the data."""
    before = snapshot(cwd)
    done = run(*arguments, cwd=cwd, code=2)
    assert says in done.stderr
    assert done.stderr.startswith("carousel: ")
    assert done.stderr.endswith(".\n")
    assert done.stderr.count("\n") == 1
    assert not re.search(r"[.!?] [A-Z]", done.stderr)  # a second sentence
    assert "Traceback" not in done.stderr
    assert all(" column: " in line for line in done.stdout.splitlines())
    assert snapshot(cwd) == before


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# Help


def test_help_answers_at_once(tmp_path: Path) -> None:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        out = run("--help", cwd=tmp_path).stdout
        times.append(time.perf_counter() - start)
    for command in ("fit", "forecast", "backtest", "report", "demo"):
        assert f"\n  {command} " in out
    assert min(times) < 0.3


def test_help_imports_click_and_little_else() -> None:
    code = (
        "import sys\nfrom carousel.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'pyarrow', 'rich', 'matplotlib', 'narwhals'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",)])
def test_help_in_three_ways(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert "Usage: carousel" in run(*arguments, cwd=tmp_path).stdout


@pytest.mark.parametrize("command", ["fit", "forecast", "backtest", "report", "demo"])
def test_every_option_has_a_help_text(tmp_path: Path, command: str) -> None:
    parsed = getattr(import_module(f"carousel.cli.{command}"), command)
    for parameter in parsed.params:
        assert parameter.param_type_name == "argument" or parameter.help
    assert f"Usage: carousel {command}" in run(command, "-h", cwd=tmp_path).stdout


def test_version(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path).stdout == f"carousel, version {carousel.__version__}\n"


# Refusals

DAYS = "ds,y\n" + "".join(
    f"{day},{k}\n" for k, day in enumerate(np.arange("2024-01-01", "2024-03-01", dtype="M8[D]"))
)
FILES = {
    "empty.csv": b"",
    "latin.csv": DAYS.replace("y\n", "Größe\n", 1).encode("latin-1"),
    "ragged.csv": DAYS.replace(",7\n", ",7,8\n").encode(),
    "header.csv": b"ds,y\n",
    "text.csv": b"ds,name\n2024-01-01,a\n2024-01-02,b\n",
    "dates.csv": DAYS.replace("2024-01-09", "9th of January").encode(),
    "twice.csv": DAYS.replace("2024-01-09", "2024-01-08").encode(),
    "inf.csv": DAYS.replace(",7\n", ",inf\n").encode(),
    "word.csv": DAYS.replace(",7\n", ",seven\n").encode(),
    "two.csv": b"ds,a,b\n2024-01-01,1,2\n2024-01-02,1,2\n",
    "huge.csv": DAYS.replace(",7\n", ",7e200\n").encode(),
    "short.csv": b"\n".join(DAYS.encode().split(b"\n")[:6]),
    "cut.csv.gz": b"\x1f\x8b\x08\x00",
    "cut.parquet": b"PAR1",
}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.csv", "missing.csv: no such file or directory"),
        (".", "is a directory"),
        ("empty.csv", "empty.csv is empty"),
        ("latin.csv", "latin.csv, line 1: byte 0xf6 is not UTF-8; save the file as UTF-8"),
        ("ragged.csv", "ragged.csv, line 9: 3 values where the first line has 2"),
        ("header.csv", "header.csv has a header (ds, y) and no rows"),
        ("text.csv", "text.csv: there is no column of numbers"),
        ("dates.csv", "dates.csv, line 10, column 'ds': expected a date such as 2024-01-31"),
        ("twice.csv", "twice.csv: lines 9 and 10 have the same time 2024-01-08; remove one of them"),
        ("inf.csv", "inf.csv, line 9, column 'y': expected a finite number"),
        ("huge.csv", "huge.csv, line 9, column 'y': the square of 7e+200 is beyond what a computer counts"),
        ("word.csv", "word.csv, line 9, column 'y': expected a number, got 'seven'"),
        ("two.csv", "two.csv: several columns hold numbers (a, b); name the one to forecast"),
        ("cut.csv.gz", "cut.csv.gz is a damaged or incomplete gzip file"),
        ("cut.parquet", "cut.parquet is a damaged or incomplete Parquet file"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "backtest"])
def test_bad_data_is_refused(tmp_path: Path, command: str, name: str, says: str) -> None:
    if name in FILES:
        (tmp_path / name).write_bytes(FILES[name])
    refused(command, name, "--horizon", 3, "--out", "out", cwd=tmp_path, says=says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--horizon", "0"), "'--horizon': 0 is not in the range x>=1"),
        (("--horizon", "-3"), "'--horizon': -3 is not in the range"),
        (("--horizon", "many"), "'--horizon': 'many' is not a valid integer."),
        ((), "Missing option '--horizon'"),
        (("--horizon", "24", "--target", "z"), "there is no column 'z'; the columns are ds, y"),
        (("--horizon", "24", "--time", "z"), "there is no column 'z'"),
        (("--horizon", "24", "--id", "z"), "there is no column 'z'"),
        (("--horizon", "24", "--freq", "fortnight"), "--freq must be an alias such as"),
        (("--horizon", "24", "--seed", "-1"), "'--seed': -1 is not in the range"),
        (("--horizon", "24", "--seed", str(2**63)), "--seed must be below 2**63"),
        (("--horizon", "24", "--qqqq"), "No such option"),
        (("--horizon", "3", "--lookback", "100000"), "--lookback must be at most 57 rows"),
        (("--horizon", "3", "--freq", "h"), "data.csv: the step of the rows is D, not h"),
        (("--horizon", "3", "--out", ""), "--out must be a file, but '' is no name"),
        (("--horizon", "3", "--out", "."), "--out must be a file, but '.' is a directory"),
        (("--horizon", "3", "--out", "no/model"), "--out no/model lies in a directory that does not exist"),
        (("--horizon", "3", "--out", "/dev/full"), "--out must be a file, but /dev/full is a device"),
        (("--horizon", "3", "--out", "data.csv"), "--out data.csv would overwrite another file"),
        (
            ("--horizon", "60"),
            "data.csv: the longest series has 60 rows, but a horizon of 60 needs at least 90",
        ),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    (tmp_path / "data.csv").write_text(DAYS)
    refused("fit", "data.csv", *arguments, cwd=tmp_path, says=says)


def test_refusals_leave_an_old_model_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(DAYS)
    (tmp_path / "model").write_text("an old model")
    refused("fit", "data.csv", "--horizon", 60, "--out", "model", cwd=tmp_path, says="needs at least")


def test_a_model_that_cannot_be_replaced_is_refused_before_the_fit(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(DAYS)
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    if os.access(closed, os.W_OK):
        pytest.skip("root may write everywhere")
    refused(
        "fit", "data.csv", "--horizon", 3, "--out", "closed/model", cwd=tmp_path, says="cannot be written"
    )


@pytest.mark.parametrize("command", ["fit", "backtest"])
def test_a_series_that_is_too_short_says_how_many_rows_are_needed(tmp_path: Path, command: str) -> None:
    (tmp_path / "short.csv").write_bytes(FILES["short.csv"])
    refused(command, "short.csv", "--horizon", 24, cwd=tmp_path, says="5 rows")


# Fit and forecast


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the airline passengers."""
    directory = tmp_path_factory.mktemp("model")
    run("fit", AIRLINE, "--horizon", 6, *QUICK, "--out", "airline", cwd=directory)
    return directory / "airline"


def test_fit_names_what_it_found_and_how_good_it_is(tmp_path: Path) -> None:
    done = run("fit", AIRLINE, "--horizon", 6, *QUICK, "--out", "a.b", cwd=tmp_path)
    assert "time column: Month (MS, 1949-01-01 to 1960-12-01)" in done.stdout
    assert "target column: Passengers" in done.stdout
    for name in ("carousel", "persistence", "seasonal naive", "ridge"):
        assert f"\n{name} " in done.stdout
    assert done.stdout.endswith("model: a.b\n")
    assert "epoch 1: loss" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.b"]


def test_fit_without_out_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(monkeypatch, tmp_path, "fit", AIRLINE, "--horizon", 6, *QUICK)
    assert "Nothing was written" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_the_same_seed_gives_the_same_file(tmp_path: Path, model: Path) -> None:
    run("fit", AIRLINE, "--horizon", 6, *QUICK, "--seed", 0, "--out", "again", cwd=tmp_path)
    assert (tmp_path / "again").read_bytes() == model.read_bytes()


def test_forecast_has_the_columns_of_the_nixtla_tools(tmp_path: Path, model: Path) -> None:
    done = run("forecast", model, "--out", "forecast.csv", cwd=tmp_path)
    assert done.stdout == ""
    frame = pd.read_csv(tmp_path / "forecast.csv")
    assert list(frame) == COLUMNS
    assert frame["unique_id"].unique().tolist() == ["Passengers"]
    assert frame["ds"].tolist() == [f"1961-0{month}-01" for month in range(1, 7)]
    ordered = ["carousel-lo-95", "carousel-lo-80", "carousel", "carousel-hi-80", "carousel-hi-95"]
    assert (np.diff(frame[ordered].to_numpy(), axis=1) >= 0).all()
    assert run("forecast", model, cwd=tmp_path).stdout == (tmp_path / "forecast.csv").read_text()


def test_forecast_writes_parquet_and_gives_the_same_numbers(tmp_path: Path, model: Path) -> None:
    run("forecast", model, "--out", "forecast.parquet", cwd=tmp_path)
    frame = pd.read_parquet(tmp_path / "forecast.parquet")
    assert list(frame) == COLUMNS
    text = run("forecast", model, cwd=tmp_path).stdout.splitlines()
    assert [float(line.split(",")[2]) for line in text[1:]] == frame["carousel"].tolist()


def test_upper_case_endings_are_the_same(tmp_path: Path, model: Path) -> None:
    run("forecast", model, "--out", "F.PARQUET", "--plot", "F.PNG", cwd=tmp_path)
    assert (tmp_path / "F.PARQUET").read_bytes().startswith(b"PAR1")
    assert (tmp_path / "F.PNG").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("backtest", AIRLINE, "--horizon", 6, "--out", "b.xlsx"),
            "--out must end in .csv, .parquet, .pq, or",
        ),
        (("report", "{model}", "--data", AIRLINE, "--out", "page.pdf"), "--out must end in .html, .htm, or"),
        (
            ("report", "{model}", "--data", AIRLINE, "--out", "page.html", "--future", AIRLINE),
            "--future: the model reads no future covariates",
        ),
    ],
)
def test_what_a_command_does_not_write_or_read_is_refused(
    tmp_path: Path, model: Path, arguments: tuple[object, ...], says: str
) -> None:
    refused(*(str(a).format(model=model) for a in arguments), cwd=tmp_path, says=says)


def test_forecast_from_the_fitted_data_is_that_of_the_model(tmp_path: Path, model: Path) -> None:
    expected = [
        float(line.split(",")[2]) for line in run("forecast", model, cwd=tmp_path).stdout.splitlines()[1:]
    ]
    done = run("forecast", model, "--data", AIRLINE, cwd=tmp_path)
    np.testing.assert_allclose([float(line.split(",")[2]) for line in done.stdout.splitlines()[1:]], expected)
    assert "time column: Month" in done.stderr


def test_forecast_goes_on_from_new_data(tmp_path: Path, model: Path) -> None:
    rows = AIRLINE.read_text().splitlines()
    (tmp_path / "new.csv").write_text("\n".join(rows[:133]))
    done = run("forecast", model, "--data", "new.csv", cwd=tmp_path)
    assert done.stdout.splitlines()[1].split(",")[1] == "1960-01-01"


def test_forecast_draws_a_picture(tmp_path: Path, model: Path) -> None:
    run("forecast", model, "--out", "f.csv", "--plot", "f.png", cwd=tmp_path)
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.csv", "f.png"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--data", "missing.csv"), "missing.csv: no such file"),
        (("--data", "quarters.csv"), "quarters.csv: the step of the rows is QS, not MS"),
        (("--data", "few.csv"), "few.csv: series 'Passengers' has 3 rows, but a forecast needs at least 13."),
        (("--data", "other.csv"), "there is no column 'Month'; the columns are ds, y"),
        (("--out", "no/forecast.csv"), "lies in a directory that does not exist"),
        (("--out", "model"), "--out model would overwrite another file"),
        (("--out", "/dev/full"), "/dev/full: cannot be written: no space left on device"),
        (("--plot", "forecast.gif"), "--plot must end in .png, .svg, .pdf"),
        (("--out", "f.csv.gz"), "--out must end in .csv, .parquet, .pq, or in none, got f.csv.gz"),
        (("--out", "f.xlsx"), "--out must end in .csv, .parquet, .pq, or in none, got f.xlsx"),
        (("--future", "other.csv"), "--future: the model reads no future covariates that a file could give."),
        (("--static", "other.csv"), "--static: the model reads no static covariates that a file could give."),
        (("--quantile", "0.1", "--level", "80"), "--level and --quantile are two forms of one answer"),
        (("--samples", "1000000000"), "--samples must be few enough for 1e+09 numbers (8 GB)"),
        (("--out", "x.png", "--plot", "x.png"), "--plot x.png would overwrite another file"),
    ],
)
def test_bad_wishes_for_a_forecast_are_refused(
    tmp_path: Path, model: Path, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "other.csv").write_text(DAYS)
    (tmp_path / "few.csv").write_text("\n".join(AIRLINE.read_text().splitlines()[:4]))
    quarters = np.arange("2001-01", "2021-01", 3, "M8[M]")
    (tmp_path / "quarters.csv").write_text("Month,Passengers\n" + "".join(f"{q},1\n" for q in quarters))
    (tmp_path / "model").write_bytes(model.read_bytes())
    refused("forecast", "model", *arguments, cwd=tmp_path, says=says)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut", "meddled", "network"])
def test_what_is_no_model_is_refused(tmp_path: Path, model: Path, damage: str) -> None:
    whole = model.read_bytes()
    path = tmp_path / "model"
    if damage == "network":
        carousel.save(carousel.network.Network((carousel.network.Dense(np.eye(2)),)), path)
    elif damage != "missing":
        contents = {"empty": b"", "text": b"ds,y\n", "cut": whole[:-9], "meddled": whole[:-1] + b"?"}
        path.write_bytes(contents[damage])
    says = {
        "missing": "model: no such file",
        "network": "model holds a network",
        "meddled": "model: the file is damaged",
    }.get(damage, "carousel: model is not a carousel model: ")
    refused("forecast", "model", "--out", "forecast.csv", cwd=tmp_path, says=says)


def test_a_full_disk_leaves_the_old_forecast(tmp_path: Path, model: Path) -> None:
    (tmp_path / "forecast.csv").write_text("old")
    command = f"ulimit -f 0; exec {sys.executable} -m carousel forecast {model} --out forecast.csv"
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 2
    assert done.stderr == "carousel: forecast.csv: cannot be written: file too large.\n"
    assert snapshot(tmp_path) == {str(tmp_path / "forecast.csv"): b"old"}


def test_a_closed_pipe_is_quiet(tmp_path: Path, model: Path) -> None:
    with carousel_process("forecast", model, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.parametrize("command", ["fit", "forecast"])
def test_a_reader_that_leaves_early_costs_no_file(tmp_path: Path, model: Path, command: str) -> None:
    words = {"fit": f"fit {AIRLINE} --horizon 6 --epochs 1 --out new", "forecast": f"forecast {model}"}
    line = f"{sys.executable} -m carousel {words[command]} 2>err | head -1; exit ${{PIPESTATUS[0]}}"
    done = shell(line, tmp_path)
    assert done.returncode == 0, (tmp_path / "err").read_text()
    assert done.stdout.count("\n") == 1
    assert command == "forecast" or (tmp_path / "new").read_bytes() == model.read_bytes()


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full"])
def test_closed_streams_cost_no_file(tmp_path: Path, model: Path, closed: str) -> None:
    line = f"{sys.executable} -m carousel fit {AIRLINE} --horizon 6 --epochs 1 --out new {closed}"
    done = shell(line, tmp_path)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert (tmp_path / "new").read_bytes() == model.read_bytes()


def test_a_full_disk_behind_stdout_is_said(tmp_path: Path, model: Path) -> None:
    done = shell(f"{sys.executable} -m carousel forecast {model} >/dev/full", tmp_path)
    assert done.returncode == 2
    assert done.stderr == "carousel: stdout: cannot be written: no space left on device.\n"


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], cwd=cwd, capture_output=True, text=True, env=ENVIRONMENT)


def test_a_forecast_can_be_piped_by_name(tmp_path: Path, model: Path) -> None:
    done = run("forecast", model, "--out", "/dev/stdout", cwd=tmp_path)
    assert done.stdout == run("forecast", model, cwd=tmp_path).stdout


def test_series_that_the_model_does_not_know_are_said(tmp_path: Path, model: Path) -> None:
    rows = AIRLINE.read_text().splitlines()
    lines = [f"series,{rows[0]}", *(f"{name},{row}" for name in "ab" for row in rows[1:])]
    (tmp_path / "two.csv").write_text("\n".join(lines))
    done = run("forecast", model, "--data", "two.csv", cwd=tmp_path)
    assert "new to the model, scaled by their own rows: 2 series\n" in done.stderr
    assert len(done.stdout.splitlines()) == 13


def test_a_picture_of_one_row_shows_it() -> None:
    months = pd.date_range("2010-01-01", periods=60, freq="MS")
    frame = pd.DataFrame({"ds": months, "y": 10.0 + np.arange(60) % 12})
    axes = carousel.Forecaster(1, epochs=1, progress=False).fit(frame).plot().axes[0]
    assert [line.get_marker() for line in axes.lines if line.get_label() == "forecast"] == ["o"]
    assert len(axes.collections) == 2  # the intervals, as bars


# Accepted, and said

LINES = AIRLINE.read_text().splitlines()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([LINES[0], *LINES[:0:-1]], "sorted: 143 rows were out of order"),
        (LINES[:50] + LINES[53:], "3 gaps are treated as missing"),
        ([*LINES[:50], "1953-02,", "1953-03,NA", *LINES[52:]], "2 values are missing"),
        ([LINES[0], *(f"{line[:7]},5" for line in LINES[1:])], "series Passengers is constant (5)"),
        (["Passengers", *(line[8:] for line in LINES[1:])], "no time column: the rows count 0, 1, 2, …"),
        ([line.replace(",", ";") + ",5" * (k > 0) for k, line in enumerate(LINES)], "decimal commas"),
    ],
)
def test_what_can_be_used_is_used_and_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lines: list[str],
    says: str,
) -> None:
    (tmp_path / "data.csv").write_text("\n".join(lines))
    run_here(monkeypatch, tmp_path, "fit", "data.csv", "--horizon", 3, *QUICK, "--out", "model")
    assert says in capsys.readouterr().out
    run_here(monkeypatch, tmp_path, "forecast", "model", "--out", "forecast.csv")
    forecast = pd.read_csv(tmp_path / "forecast.csv")
    assert np.isfinite(forecast[COLUMNS[2:]].to_numpy()).all()


def test_several_series_of_parquet_with_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    months = pd.date_range("2010-01-01", periods=60, freq="MS")
    frame = pd.concat(
        pd.DataFrame({"shop": shop, "month": months, "sold": base + np.arange(60) % 12, "price": 1.0})
        for shop, base in (("a,b", 10), ("c", 20))
    )
    frame.to_parquet(tmp_path / "sales.parquet")
    names = ("--id", "shop", "--time", "month", "--target", "sold")
    run_here(monkeypatch, tmp_path, "fit", "sales.parquet", "--horizon", 2, *names, *QUICK, "--out", "model")
    run_here(monkeypatch, tmp_path, "forecast", "model", "--data", "sales.parquet", "--out", "forecast.csv")
    forecast = pd.read_csv(tmp_path / "forecast.csv")
    assert list(forecast) == COLUMNS
    assert forecast["unique_id"].tolist() == ["a,b", "a,b", "c", "c"]


def test_duplicates_are_averaged_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data.csv").write_bytes(FILES["twice.csv"])
    run_here(monkeypatch, tmp_path, "fit", "data.csv", "--horizon", 3, *QUICK, "--duplicates", "mean")
    assert "1 duplicate averaged" in capsys.readouterr().out


# Ctrl-C


def test_ctrl_c_keeps_the_best_model_so_far(tmp_path: Path) -> None:
    hours = np.arange(2000)
    noise = np.random.default_rng(0).normal(size=len(hours))
    (tmp_path / "data.csv").write_text("y\n" + "\n".join(f"{v:.3f}" for v in np.sin(hours / 4) + noise))
    options = ("--horizon", 24, "--architecture", "plain", "--epochs", 1000, "--out", "model")
    process = carousel_process("fit", "data.csv", *options, cwd=tmp_path)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("epoch 1: ")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.endswith("carousel: stopped.\n")
    assert stdout.endswith("stopped early, best model so far: model\n")
    assert len(run("forecast", "model", cwd=tmp_path).stdout.splitlines()) == 25


# Backtest


def test_backtest_scores_the_model_beside_the_baselines(tmp_path: Path) -> None:
    options = ("--horizon", 6, "--origins", 3, *QUICK, "--out", "backtest.csv")
    done = run("backtest", AIRLINE, *options, cwd=tmp_path)
    assert "\n3 origins\n" in done.stdout
    for name in ("carousel", "persistence", "seasonal naive", "ridge"):
        assert f"\n{name} " in done.stdout
    frame = pd.read_csv(tmp_path / "backtest.csv")
    assert list(frame)[:5] == ["unique_id", "cutoff", "ds", "y", "carousel"]
    assert sorted(frame["cutoff"].unique()) == ["1959-06-01", "1959-12-01", "1960-06-01"]


def test_backtest_from_a_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--horizon", 3, "--start", "1960-01", "--step", 3, *QUICK, "--out", "backtest.csv")
    run_here(monkeypatch, tmp_path, "backtest", AIRLINE, *options)
    frame = pd.read_csv(tmp_path / "backtest.csv")
    assert sorted(frame["ds"]) == [f"1960-{month:02d}-01" for month in range(1, 13)]


def test_backtest_from_a_date_may_end_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--horizon", 3, "--start", "1959-01", "--origins", 2, *QUICK, "--out", "backtest.csv")
    run_here(monkeypatch, tmp_path, "backtest", AIRLINE, *options)
    frame = pd.read_csv(tmp_path / "backtest.csv")
    assert sorted(frame["ds"]) == [f"1959-{month:02d}-01" for month in range(1, 7)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--origins", 0), "'--origins': 0 is not in the range"),
        (("--origins", 30), "the longest series has 144 rows; take fewer or later origins"),
        (("--start", "2099-01"), "no series has 6 rows to compare with after an origin at 2099-01-01"),
        (("--start", ""), "--start must be a date such as 2024-01-31, got ''"),
        (("--start", "1940-01"), "take fewer or later origins"),
        (
            ("--origins", 21, "--season", 12),
            "left to fit on with 21 origins 6 rows apart: the longest series has",
        ),
        (
            ("--season", 90),
            "--season 90 needs two seasons, 180 rows, but the longest series has 144; give --season 1 for",
        ),
        (("--start", "soon"), "--start must be a date such as 2024-01-31, got 'soon'"),
    ],
)
def test_impossible_backtests_are_refused(tmp_path: Path, arguments: tuple[object, ...], says: str) -> None:
    done = run("backtest", AIRLINE, "--horizon", 6, *arguments, "--out", "x.csv", cwd=tmp_path, code=2)
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_backtest_may_fit_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = (
        "--horizon",
        3,
        "--start",
        "1960-01",
        "--step",
        3,
        "--refit",
        2,
        *QUICK,
        "--out",
        "backtest.csv",
    )
    run_here(monkeypatch, tmp_path, "backtest", AIRLINE, *options)
    frame = pd.read_csv(tmp_path / "backtest.csv")
    assert list(frame)[:5] == ["unique_id", "cutoff", "ds", "y", "carousel"]
    assert len(frame) == 12


# Reports, checkpoints, quantiles


def test_a_report_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_here(monkeypatch, tmp_path, "fit", AIRLINE, "--horizon", 3, *QUICK, "--out", "model")
    run_here(
        monkeypatch, tmp_path, "report", "model", "--data", AIRLINE, "--origins", 2, "--out", "report.html"
    )
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "Forecast of Passengers" in page
    run_here(
        monkeypatch, tmp_path, "forecast", "model", "--quantile", 0.1, "--quantile", 0.9, "--out", "q.csv"
    )
    assert list(pd.read_csv(tmp_path / "q.csv"))[2:] == ["carousel", "carousel-q-10", "carousel-q-90"]
    run_here(monkeypatch, tmp_path, "forecast", "model", "--samples", 4, "--out", "s.csv")
    assert len(pd.read_csv(tmp_path / "s.csv")) == 12
    run_here(monkeypatch, tmp_path, "forecast", "model", "--level", 50, "--out", "l.csv")
    assert list(pd.read_csv(tmp_path / "l.csv"))[3:] == ["carousel-lo-50", "carousel-hi-50"]


def test_the_same_command_starts_a_fit_and_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--horizon", 3, *QUICK, "--checkpoint", "checkpoint", "--resume", "--out", "model")
    run_here(monkeypatch, tmp_path, "fit", AIRLINE, *options)
    first, kept = (tmp_path / "model").read_bytes(), (tmp_path / "checkpoint").read_bytes()
    run_here(monkeypatch, tmp_path, "fit", AIRLINE, *options)
    assert (tmp_path / "model").read_bytes() == first
    assert (tmp_path / "checkpoint").read_bytes() == kept


def test_resuming_needs_a_checkpoint(tmp_path: Path) -> None:
    refused("fit", AIRLINE, "--horizon", 3, "--resume", cwd=tmp_path, says="name it with --checkpoint FILE")


# Demos


def test_demo_sine_shows_both_splits(tmp_path: Path) -> None:
    out = run("demo", cwd=tmp_path).stdout
    for split in ("shuffled", "chronological"):
        assert f"Split {split}" in out
    assert out.count("  epoch 5  loss ") == 2
    errors = [float(line.split()[-1]) for line in out.splitlines() if line.startswith("  test error ")]
    assert len(errors) == 3
    assert errors[2] < errors[1] / 10  # the same split, trained for longer
    assert "leaks in principle" in out
    assert "Difference of the medians, chronological less shuffled:" in out
    assert (tmp_path / "demo" / "sine.png").read_bytes().startswith(b"\x89PNG")


def test_demo_airline_holds_the_forecast_against_the_truth(tmp_path: Path) -> None:
    out = run("demo", "airline", "--out", "here", cwd=tmp_path).stdout
    for name in ("carousel", "plain LSTM", "ridge", "seasonal naive", "persistence"):
        assert f"\n{name} " in out
    frame = pd.read_csv(tmp_path / "here" / "airline.csv")
    assert list(frame) == [*COLUMNS, "actual", "ridge", "seasonal naive", "persistence", "plain LSTM"]
    assert frame["actual"].tolist() == [417, 391, 419, 461, 472, 535, 622, 606, 508, 461, 390, 432]
    assert frame["ds"].tolist()[0] == "1960-01-01"
    assert (tmp_path / "here" / "airline.png").read_bytes().startswith(b"\x89PNG")
    assert "seasonal naive   50.71    9.99" in out


def test_demo_needs_a_place_to_write(tmp_path: Path) -> None:
    refused("demo", "--out", "no/where", cwd=tmp_path, says="lies in a directory that does not exist")
    refused("demo", "--out", "", cwd=tmp_path, says="--out must be a directory, but '' is no name")
    (tmp_path / "file").write_text("")
    refused("demo", "--out", "file", cwd=tmp_path, says="--out must be a directory, but 'file' is a file")


def test_the_airline_data_are_those_of_box_and_jenkins() -> None:
    rows = [line.split(",") for line in LINES]
    assert rows[0] == ["Month", "Passengers"]
    assert [row[0] for row in rows[1:]] == [
        f"{year}-{m:02d}" for year in range(1949, 1961) for m in range(1, 13)
    ]
    passengers = np.array([int(row[1]) for row in rows[1:]])
    assert (passengers[0], passengers[-1], passengers.max(), passengers.sum()) == (112, 432, 622, 40363)


# The documentation


def test_the_commands_of_the_page_are_commands() -> None:
    page = (Path(__file__).parents[1] / "docs" / "cli.md").read_text()
    shown = [shlex.split(line)[1:] for line in re.findall(r"^\$ (carousel .*)$", page, re.MULTILINE)]
    assert {arguments[0] for arguments in shown} >= {"fit", "forecast", "backtest", "demo"}
    for name, *arguments in shown:
        if name in ("fit", "forecast", "backtest", "report", "demo"):
            command = getattr(import_module(f"carousel.cli.{name}"), name)
            command.make_context(name, arguments)


# Covariates


def test_covariates_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(4)
    promo = (rng.random(154) < 0.3).astype(int)
    frame = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=154), "promo": promo})
    frame["y"] = 50 + 20 * promo + rng.normal(size=154)
    frame[:147].to_csv(tmp_path / "sales.csv", index=False)
    frame[147:].drop(columns="y").to_csv(tmp_path / "plan.csv", index=False)
    fit = ("fit", "sales.csv", "--horizon", 7, "--future", "promo", *QUICK, "--out", "model")
    run_here(monkeypatch, tmp_path, *fit)
    assert "future covariates (promo): kept" in capfd.readouterr().out
    run_here(monkeypatch, tmp_path, "forecast", "model", "--future", "plan.csv", "--out", "forecast.csv")
    forecast = pd.read_csv(tmp_path / "forecast.csv")["carousel"]
    assert np.abs(forecast - frame["y"][147:].to_numpy()).max() < 6
    page = ("report", "model", "--data", "sales.csv", "--origins", 2, "--out", "page.html")
    run_here(monkeypatch, tmp_path, *page, "--future", "plan.csv")
    cell = f"<td>{forecast[0]:.4g}</td>"
    assert cell in "".join((tmp_path / "page.html").read_text().split())
    for command in (("forecast", "model"), page):
        refused(*command, cwd=tmp_path, says="reads future covariates: give promo for the 7 rows")
    refused(
        "fit", "sales.csv", "--horizon", 7, "--past", "cost", cwd=tmp_path, says="there is no column 'cost'"
    )
