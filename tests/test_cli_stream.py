"""`carousel stream`: rows in, a line of JSON for each, bad rows named, and killed at any moment."""

import fcntl
import hashlib
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from carousel import network, stream
from carousel.errors import DataError
from carousel.network import Dense, Embedding, LastStep, Network, Recurrent, Weights
from carousel.stream.cells import stamp
from carousel.stream.checkpoint import Checkpoint
from forecast_models import forecast_model

TORCHLESS = "import sys; sys.modules['torch'] = None; from carousel.cli import main; main()"
PATIENCE = 300  # seconds; others may use the machine
COMMAND = [sys.executable, "-c", TORCHLESS, "stream"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Paths of a panel of months, a counted series, a model with a covariate, and a network of three features."""
    rng, where = np.random.default_rng(21), tmp_path_factory.mktemp("models")
    months, _ = forecast_model(rng, freq="MS", season=12, lookback=24, horizon=4, length=60)
    one, _ = forecast_model(rng, freq=1, season=7, lookback=21, horizon=3, length=60, series=1)
    promo, _ = forecast_model(rng, season=7, freq="D", lookback=21, horizon=3, length=60, promo=True)
    lstm = Recurrent("lstm", (Weights(*(rng.normal(size=s).astype("f4") for s in ((20, 3), (20, 5)))),))
    head = Dense(rng.normal(size=(2, 5)).astype("f4"))
    net, last = Network((lstm, head)), Network((lstm, LastStep(), head))
    for name, value in (
        ("months", months), ("one", one), ("promo", promo), ("network", net), ("last", last),
    ):  # fmt: skip
        network.save(value, where / name)
    return where


def run(model, text, *options, **others):
    return subprocess.run(
        [*COMMAND, str(model), *map(str, options)],
        input=text.encode() if isinstance(text, str) else text,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        **others,
    )


def answers(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def panel(models, count, header=True, seed=4):
    """`count` rows of three interleaved series, in order."""
    model = stream.load(models / "months")
    rng = np.random.default_rng(seed)
    state = model.start()
    lines = ["unique_id,ds,y"] * header
    for n in range(count):
        ds = model.frequency.shift(state.next[n % 3], n // 3)
        lines.append(f"s{n % 3},{str(ds)[:10]},{rng.uniform(90, 110):.3f}")
    return "\n".join(lines) + "\n"


def expected(models, text):
    """Line numbers and forecasts, from the library."""
    model = stream.load(models / "months")
    states, found = {}, []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("unique_id"):
            continue
        name, ds, y = line.split(",")
        states[name] = model.observe(np.datetime64(ds), [float(y)], states.get(name, model.start([name])))
        found.append((number, name, model.forecast(states[name])))
    return found


@pytest.mark.parametrize("header", [True, False])
def test_interleaved_series(models, header):
    text = panel(models, 30, header)
    got = answers(run(models / "months", text))
    wanted = expected(models, text)
    assert [(a["line"], a["unique_id"]) for a in got] == [(n, name) for n, name, _ in wanted]
    for answer, (_, _, forecast) in zip(got, wanted, strict=True):
        assert answer["ds"] == [str(ds)[:19] for ds in forecast.ds[0].astype("datetime64[s]")]
        assert answer["carousel"] == forecast.mean[0].tolist()
        assert answer["carousel-lo-95"] == forecast.lower[1, 0].tolist()
        assert answer["carousel-hi-80"] == forecast.upper[0, 0].tolist()


def test_columns_may_stand_in_any_order(models):
    text = panel(models, 6)
    swapped = "\n".join(",".join([*line.split(",")[::-1], "more"]) for line in text.splitlines())
    assert answers(run(models / "months", swapped)) == answers(run(models / "months", text))


def test_counted_rows_of_one_series(models):
    model = stream.load(models / "one")
    state = model.observe(60, 5.0, model.start())
    state = model.observe(61, np.nan, state)
    got = answers(run(models / "one", "ds,y\r\n60,5\r\n61,NA"))
    assert [a["line"] for a in got] == [2, 3]
    assert got[-1]["ds"] == [62, 63, 64]
    assert got[-1]["carousel"] == model.forecast(state).mean[0].tolist()


@pytest.mark.parametrize("name", ["network", "last"])
@pytest.mark.parametrize("id", [None, "who"])
def test_a_network(models, id, name):
    """A network that gives its last step gives at every row what it would give if this were the last."""
    model = stream.load(models / "network")
    x = np.random.default_rng(1).normal(size=(8, 3)).astype("f4")
    rows = [",".join(repr(float(v)) for v in row) for row in x]
    if id is None:
        got = answers(run(models / name, "\n".join(rows)))
        y = model.run(x[:, None])[:, 0]
        assert [a["line"] for a in got] == list(range(1, 9))
    else:
        lines = ["a,who,b,c"] + [
            ",".join([r.split(",")[0], f"w{n % 2}", *r.split(",")[1:]]) for n, r in enumerate(rows)
        ]
        got = answers(run(models / name, "\n".join(lines), "--id", "who"))
        assert [a["unique_id"] for a in got] == ["w0", "w1"] * 4
        y = np.empty((8, 2), "f4")
        y[::2], y[1::2] = (model.run(x[k::2, None])[:, 0] for k in (0, 1))
    np.testing.assert_array_equal(np.array([a["y"] for a in got], "f4"), y)


def test_bad_rows_are_named_and_left_out(models):
    good = panel(models, 9).splitlines()
    first = good[1].split(",")[1]
    bad = {
        3: ("s0,2999-01-01,1", "rows are missing before it"),
        4: (f"s0,{first},1", "was observed already; the next one is at"),
        5: ("zoo,2029-01-01,1", "the series 'zoo' was not fitted"),
        6: ("s1,soon,1", "the time must be as in 2024-01-31 23:00, got 'soon'"),
        7: ("s1,2029-13-01,1", "the time must be"),
        8: ("s1,2029-01-02,1", "off the MS grid"),
        9: (good[2].rpartition(",")[0] + ",12 MW", "the value must be a finite number, or empty"),
        10: (good[2].rpartition(",")[0] + ",inf", "the value must be a finite number"),
        11: ("s1", "it must have 3 columns, got 1"),
        12: (
            "2029-01-01,1,2,3",
            "as the time and all series would, but rows must be long: the id, the time and",
        ),
        13: ('s1,"2029', "it is not CSV"),
        14: (b"s1,\xff\xfe,1", "it is not UTF-8"),
        15: ("x" * (1 << 21), "it is longer than 1048576 bytes"),
        16: (
            good[2].rpartition(",")[0] + ",1.7e308",
            "the square of the value, 1.7e+308, is beyond what a computer",
        ),
        17: (good[2].rpartition(",")[0] + ",1e90", "the value, 1e+90, is beyond what this model counts"),
    }
    lines = [line.encode() for line in good[:2]]
    lines += [row if isinstance(row, bytes) else row.encode() for row, _ in bad.values()]
    lines += [b"", *(line.encode() for line in good[2:])]
    done = run(models / "months", b"\n".join(lines))
    wanted = [
        a | {"line": a["line"] + (len(bad) + 1) * (k > 0)}
        for k, a in enumerate(answers(run(models / "months", "\n".join(good))))
    ]
    assert answers(done) == wanted
    said = done.stderr.decode().splitlines()
    assert len(said) == len(bad)
    for line, (number, (_, text)) in zip(said, bad.items(), strict=True):
        assert line.startswith(f"carousel: line {number}: ")
        assert text in line
        assert line.endswith("; the row is left out.")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1,1e39,2", "a feature must fit float32, got 1e\\+39"),
        (
            "3e38,3e38,3e38",
            "its features are too large: the network would remember numbers that are not finite",
        ),
    ],
)
def test_a_row_that_would_spoil_a_network_for_good_is_left_out(models, row, said):
    """Finite as text, but not in the network; its relu would remember it for ever."""
    rng = np.random.default_rng(6)
    weights = Weights(*(1 + rng.random(size).astype("f4") for size in ((5, 3), (5, 5))))
    relu = Recurrent("rnn", (weights,), activation="relu")
    network.save(Network((relu,)), models / "relu")
    done = run(models / "relu", f"1,2,3\n{row}\n3,4,5\n")
    (line,) = done.stderr.decode().splitlines()
    assert re.fullmatch(f"carousel: line 2: {said}; the row is left out.", line)
    wanted = answers(run(models / "relu", "1,2,3\n3,4,5\n"))
    assert [a["y"] for a in answers(done)] == [a["y"] for a in wanted]


def test_ids_that_are_none_are_left_out(models):
    network.save(Network((Embedding(np.eye(4, dtype="f4")), Dense(np.ones((2, 4), "f4")))), models / "ids")
    done = run(models / "ids", "1\n1.5\n4\n-1\n1e300\n3\n")
    assert [a["line"] for a in answers(done)] == [1, 6]
    said = done.stderr.decode().splitlines()
    assert [line.partition("an id must be ")[2] for line in said] == [
        f"a whole number from 0 to 3, got {x}; the row is left out." for x in ("1.5", "4", "-1", "1e+300")
    ]


def test_times_that_a_fit_reads(models):
    """The day is first before dots, however the column goes on."""
    given = {
        "22.10.2023": "2023-10-22",
        "3.4.2023": "2023-04-03",
        "22.10.2023 14:00": "2023-10-22T14:00",
        "22.10.2023T14:00:05.25Z": "2023-10-22T14:00:05.25",
        "2024Q1": "2024-01-01",
        "2024-q4": "2024-10-01",
        "2024-W01": "2024-01-01",
        "2020W53": "2020-12-28",
        "2021-W01": "2021-01-04",
        "2021-w01-7": "2021-01-10",
        "2024W017": "2024-01-07",
    }
    for text, expected in given.items():
        assert stamp(text, np.dtype("datetime64[us]")) == np.datetime64(expected)
    for text in (
        "10.22.2023",
        "22.10.20231",
        "22.10.2023 x",
        "2024Q5",
        "31.02.2024",
        "2024Q1 14:00",
        "2021-W53",
        "2024-W00",
        "2024-W54",
        "2024-W1",
        "2024-W01-8",
        "2024-W01-0",
        "2024-W01 14:00",
    ):
        with pytest.raises(DataError, match=r"the time must be as in 2024-01-31 23:00, got '"):
            stamp(text, np.dtype("datetime64[us]"))
    iso = panel(models, 9)
    dotted = re.sub(r"(\d{4})-(\d\d)-(\d\d)", r"\3.\2.\1 00:00", iso)
    assert answers(run(models / "months", dotted)) == answers(run(models / "months", iso))


def test_blank_lines_before_the_header_are_none(models):
    text = panel(models, 6)
    wanted = answers(run(models / "months", text))
    done = run(models / "months", "\n \r\n" + text)
    assert [a | {"line": a["line"] - 2} for a in answers(done)] == wanted
    assert done.stderr == b""
    assert answers(run(models / "network", "\n\na,b,c\n1,2,3\n"))[0]["line"] == 4


def test_going_on_without_a_header_says_how_columns_are_read(models, tmp_path):
    """The header of before stood in another file, and may have had another order."""
    future, path = tmp_path / "future.csv", tmp_path / "state"
    future.write_text("unique_id,ds,promo\n" + "".join(f"s0,2024-03-0{d},{d % 2}\n" for d in range(1, 8)))
    options = ("--future", future, "--state", path)
    first = run(models / "promo", "unique_id,ds,promo,y\ns0,2024-03-01,1,100\n", *options)
    assert (len(answers(first)), first.stderr) == (1, b"")
    said = b"carousel: line 2: it is no header: columns are read as unique_id, ds, y, promo.\n"
    kept = path.read_bytes()
    for text, remark in (
        ("\ns0,2024-03-02,101,0\n", said), ("\nds,unique_id,y,promo\n2024-03-02,s0,101,0\n", b""),
    ):  # fmt: skip
        path.write_bytes(kept)
        done = run(models / "promo", text, *options, "--continue")
        assert done.stderr == b"carousel: goes on from %s: 1 series, 0 lines.\n" % bytes(path) + remark
        assert len(answers(done)) == 1
    assert run(models / "promo", "s0,2024-03-01,100,1\n", "--future", future).stderr == b""
    for _ in range(2):
        done = run(models / "network", "1,2,3\n", "--state", tmp_path / "net", "--continue")
    assert b"columns" not in done.stderr


def test_rows_that_are_missing_are_observed_as_missing(models):
    lines = panel(models, 15).splitlines()
    left_out = [line for line in lines if line not in (lines[4], lines[7])]  # two of s0
    marked = [line.rpartition(",")[0] + "," if line in (lines[4], lines[7]) else line for line in lines]
    done = run(models / "months", "\n".join(left_out))
    assert done.stderr.decode() == "carousel: line 9: 2 rows before it are missing.\n"
    assert answers(done)[-1]["carousel"] == answers(run(models / "months", "\n".join(marked)))[-1]["carousel"]


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("unique_id,when,y\n", (), "the header has no column for the time"),
        (
            "a,b,y\n",
            ("--header", "yes"),
            "The header has no column for --id: 'unique_id' is not among a, b, y",
        ),
        (
            "ds,s0,s1,s2\n",
            (),
            "has a column per series, but rows must be long: the id, the time and the value of one",
        ),
        ("", ("--continue",), "--continue needs --state"),
        ("", ("--state", "{model}"), "--state {model} would overwrite another file"),
        ("", ("--follow", "nowhere"), "nowhere: no such file or directory"),
        ("", ("--follow", "{folder}"), "{folder}: is a directory"),
        (b"\xff\xfe\x80\n", (), "The first line cannot be read: it is not UTF-8"),
        (
            "",
            ("--out", "out.csv"),
            "--out must end in .jsonl, .ndjson, .json, or in none, got out.csv",
        ),
        ("", ("--out", "out.jsonl.gz"), "or in none, got out.jsonl.gz"),
        ("", ("--save-every", "nan"), "nan is not a finite number"),
        ("", ("--save-every", "x"), "'x' is not a valid number of seconds"),
        ("", ("--state", "{other}"), "is not the state of a stream, but Network"),
    ],
)
def test_what_is_refused_at_once(models, text, options, said):
    names = {"model": models / "months", "other": models / "network", "folder": models}
    done = run(models / "months", text, *(o.format(**names) for o in options))
    assert done.returncode == 2
    assert said.format(**names).lower() in done.stderr.decode().lower()
    assert done.stderr.count(b"\n") == 1
    assert not done.stdout


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("header", [True, False])
def test_other_separators(models, separator, header):
    """As `fit` reads them: with decimal commas."""
    text = panel(models, 7, header=header)
    other = text.replace(",", separator).replace(".", ",")
    assert answers(run(models / "months", other)) == answers(run(models / "months", text))
    rows = "1,2.5,3\n4,5,6\n" if not header else "a,b,c\n1,2.5,3\n"
    other = rows.replace(",", separator).replace(".", ",")
    assert answers(run(models / "network", other)) == answers(run(models / "network", rows))


@pytest.fixture(scope="module")
def thousands(tmp_path_factory):
    """A counted series around 2000."""
    model, _ = forecast_model(np.random.default_rng(24), freq=1, season=7, lookback=21, length=60, series=1)
    tail, scaling = model.tail, model.scaling
    model = replace(
        model,
        columns=replace(model.columns, time=None),
        tail=replace(tail, window=20 * tail.window, errors=20 * tail.errors),
        scaling=replace(scaling, center=20 * scaling.center, scale=20 * scaling.scale),
    )
    path = tmp_path_factory.mktemp("thousands") / "model"
    network.save(model, path)
    return path


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a;y\n0;1502,5\n0;1,995\n", [1502.5, 1.995]),  # a row before shows it
        ("a;y\n0;1,502.5\n0;1,995\n0;1,002,003\n", [1502.5, 1995, 1002003]),
        ("a;y\n0;1.502,5\n0;1.995\n", [1502.5, 1995]),
        ("a;y\n0;1,995\n", [1995]),  # of this size the rows are
        ('a,y\n0,"1502,5"\n0,"1,502"\n', [1502.5, 1.502]),
        ("a;y\n0;1.995\n", [1.995]),
    ],
)
def test_commas_are_read_as_fit_reads_them(thousands, written, meant):
    plain = "a,y\n" + "".join(f"0,{y}\n" for y in meant)
    assert answers(run(thousands, written)) == answers(run(thousands, plain))


def test_a_comma_that_nothing_explains_is_refused(models, thousands):
    done = run(thousands, "a;y\n0;123,456\n")  # 123 or 123456, of rows around 2000
    assert answers(done) == []
    assert (
        b"'123,456', may have a decimal comma or one between thousands, and nothing shows which"
        in done.stderr
    )
    assert answers(run(models / "network", "1;1,995;2\n")) == []


def test_a_state_knows_what_commas_said(thousands, tmp_path):
    text = "a;y\n0;1502,5\n0;1,995\n"
    whole = answers(run(thousands, text))
    assert len(whole) == 2
    run(thousands, text.rsplit("0;", 1)[0], "--state", tmp_path / "state")
    assert answers(run(thousands, text, "--state", tmp_path / "state")) == whole[1:]


def test_a_blank_line_of_one_column_is_a_missing_row(thousands):
    """As `fit` reads it; before the header it is none."""
    found = answers(run(thousands, "\n2000\n\n \n2010\n"))
    wanted = answers(run(thousands, "2000\nNA\nNA\n2010\n"))
    assert [row["carousel"] for row in found] == [row["carousel"] for row in wanted]
    assert [row["line"] for row in found] == [2, 3, 4, 5]
    assert len(answers(run(thousands, "a,y\n0,2000\n\n0,2010\n"))) == 2


def test_a_header_of_other_names_is_refused(models):
    """It was taken for a row, and columns were read by their place."""
    for header in ("when,sales,promo", "s,d,v"):
        done = run(models / "months", f"{header}\ns0,2029-01-01,100\n")
        assert done.returncode == 2
        assert b"The header has no column for" in done.stderr
        assert not done.stdout
    assert len(answers(run(models / "months", "s,d,v\ns0,2029-01-01,100\n", "--header", "no"))) == 1


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="no size of pipes")
def test_a_pipe_that_does_not_wait(models):
    """Whoever opened it made it so; what it cannot take yet is written later."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen([*COMMAND, str(models / "months")], stdin=subprocess.PIPE, stdout=writer)
    os.close(writer)
    process.stdin.write(panel(models, 60).encode())
    process.stdin.close()
    time.sleep(1)  # until the pipe is full
    with os.fdopen(reader, "rb") as file:
        assert len(file.read().splitlines()) == 60
    assert process.wait() == 0


@pytest.mark.parametrize("day", ["2029-01-01", "01.01.2029"])
@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_decimal_comma_that_splits_a_row_as_well_separates_nothing(tmp_path, separator, day):
    """A time and a value, or two features: the comma gives as many cells as the separator."""
    rng = np.random.default_rng(22)
    model, _ = forecast_model(rng, freq="MS", season=12, lookback=24, horizon=4, length=348, series=1)
    network.save(model, tmp_path / "alone")
    due = str(model.tail.next[0])[:10]
    written = due if day.startswith("20") else ".".join(due.split("-")[::-1])
    (plain,) = answers(run(tmp_path / "alone", f"{due},100.5\n"))
    assert answers(run(tmp_path / "alone", f"{written}{separator}100,5\n")) == [plain]


def test_two_features_with_one_decimal_comma(tmp_path):
    network.save(Network((Dense(np.ones((1, 2), "f4")),)), tmp_path / "two")
    assert answers(run(tmp_path / "two", "1;2,5\n")) == answers(run(tmp_path / "two", "1,2.5\n"))


def test_a_row_off_the_grid_is_told_the_step_of_the_model(models):
    done = run(models / "months", "s0,2029-01-01 12:00,4\n")
    assert answers(done) == []
    said = "is off the MS grid: the step of the rows that were fitted is MS; the row is left out.\n"
    assert done.stderr.decode().endswith(said)
    assert b"freq" not in done.stderr


def test_closed_or_full_streams_are_said(models):
    def shell(line):
        command = " ".join(map(shlex.quote, [*COMMAND, str(models / "months")]))
        return subprocess.run(
            ["bash", "-c", f"{command} {line}"], capture_output=True, timeout=PATIENCE, check=False
        )

    done = shell("<&-")
    assert done.returncode == 2
    assert done.stderr == b"carousel: stdin is closed; give the rows through a pipe, or --follow FILE.\n"
    assert shell(">&- </dev/null").returncode == 0  # answers that nobody wants, as of every command
    done = shell(f"<<< {shlex.quote(panel(models, 1, header=False))} >/dev/full")
    assert done.returncode == 2
    assert done.stderr == b"carousel: stdout: cannot be written: no space left on device.\n"


def test_a_separator_in_quotes_is_none(models):
    text = panel(models, 4).replace("unique_id,ds,y", '"unique_id","ds","y","a;b"').replace("\n", ',"1;2"\n')
    text = text.replace('"a;b","1;2"', '"a;b"')
    assert [a["carousel"] for a in answers(run(models / "months", text))] == [
        a["carousel"] for a in answers(run(models / "months", panel(models, 4)))
    ]


def test_more_cells_than_columns_are_refused(models):
    """With a header, too: a decimal comma would be cut off."""
    text = "unique_id,ds,y\ns0,2029-01-01,52,5\n"
    done = run(models / "months", text)
    assert answers(done) == []
    assert done.stderr == b"carousel: line 2: it must have 3 columns, got 4; the row is left out.\n"


def test_a_model_that_reads_covariates(models, tmp_path):
    """Its rows bring them, and a file those of the rows to come, which must be there."""
    text = "unique_id,ds,y,promo\ns0,2024-03-01,100,1\n"
    done = run(models / "promo", text)
    assert done.returncode == 2
    assert done.stderr.startswith(b"carousel: The model reads future covariates (promo); give --future FILE")
    assert not done.stdout
    future = tmp_path / "future.csv"
    future.write_text("unique_id,ds,promo\n" + "".join(f"s0,2024-03-0{d},{d % 2}\n" for d in range(2, 5)))
    (answer,) = answers(run(models / "promo", text, "--future", future))
    model = stream.load(models / "promo")
    state = model.observe(np.datetime64("2024-03-01"), [100.0], model.start(["s0"]), {"promo": [1.0]})
    wanted = model.forecast(state, future={"promo": [[0.0, 1.0, 0.0]]})
    np.testing.assert_allclose(answer["carousel"], wanted.mean[0])
    refused = run(models / "network", "1,2,3\n", "--future", future)
    assert refused.returncode == 2
    assert b"--future goes with a forecaster" in refused.stderr


def test_a_state_goes_on(models, tmp_path):
    """With the same input again, or, --continue, with what comes after it."""
    text, path = panel(models, 40), tmp_path / "state"
    whole = answers(run(models / "months", text))
    early, late = text[: text.index("\n", 600) + 1], text[text.index("\n", 600) + 1 :]
    first = answers(run(models / "months", early, "--state", path))
    kept = path.read_bytes()
    assert first + answers(run(models / "months", text, "--state", path)) == whole
    assert answers(run(models / "months", text, "--state", path)) == []
    path.write_bytes(kept)
    rest = answers(run(models / "months", late, "--state", path, "--continue"))
    assert [a | {"line": 0} for a in first + rest] == [a | {"line": 0} for a in whole]
    assert rest[0]["line"] == 1


def test_a_state_is_held_against_input_model_and_output(models, tmp_path):
    text, path, out = panel(models, 12), tmp_path / "state", tmp_path / "out"
    answers(run(models / "months", text, "--state", path, "--out", out))
    kept = path.read_bytes()
    for given, model, options, said in [
        (text.replace("s1", "s2", 1), "months", (), "are not those that the state holds"),
        (text[: text.index("\n", 100)], "months", (), "before line 13 of the state"),
        (text, "one", (), "is the state of another model"),
    ]:
        done = run(models / model, given, "--state", path, *options)
        assert done.returncode == 2
        assert said in done.stderr.decode()
        assert path.read_bytes() == kept
    out.write_bytes(out.read_bytes()[:-5])
    done = run(models / "months", text, "--state", path, "--out", out)
    assert done.returncode == 2
    assert "give the file of old" in done.stderr.decode()
    path.write_bytes(kept[:-3])
    done = run(models / "months", text, "--state", path)
    assert done.returncode == 2
    assert "is not a carousel model" in done.stderr.decode()


def test_what_went_to_stdout_is_not_looked_for_in_a_file(models, tmp_path):
    text, path, out = panel(models, 12), tmp_path / "state", tmp_path / "out.jsonl"
    first = answers(run(models / "months", text[:200].rpartition("\n")[0], "--state", path))
    assert run(models / "months", text, "--state", path, "--out", out).returncode == 0
    rest = [json.loads(line) for line in out.read_text().splitlines()]
    assert rest
    assert first + rest == answers(run(models / "months", text))


def test_a_refusal_touches_no_file(models, tmp_path):
    """Neither makes the file of results nor empties it."""
    path, out, new = tmp_path / "state", tmp_path / "out", tmp_path / "new"
    text = panel(models, 12)
    answers(run(models / "months", text, "--state", path, "--out", out))
    before = out.read_bytes()
    for given, options in [
        (text, ("--state", path, "--out", new)),
        ("a,b,c\n", ("--header", "yes", "--out", out)),
        ("a,b,c\n", ("--header", "yes", "--out", new)),
        (text.replace("s1", "s2", 1), ("--state", path, "--out", out)),
    ]:
        assert run(models / "months", given, *options).returncode == 2
        assert out.read_bytes() == before
        assert not new.exists()
    assert run(models / "months", "", "--out", new).returncode == 0
    assert new.read_bytes() == b""


def test_killed_at_any_moment(models, tmp_path):
    """SIGKILL while rows come: the file has every row exactly once, stdout at least once."""
    text = panel(models, 240).encode()
    whole = run(models / "months", text).stdout
    source, out, path = tmp_path / "rows.csv", tmp_path / "out", tmp_path / "state"
    rng = random.Random(8)
    command = [*COMMAND, str(models / "months"), "--state", str(path), "--save-every", "0.01"]
    quarter = len(text) // 4
    for attempt in range(3):
        before = out.stat().st_size if out.exists() else 0
        with source.open("ab") as file:
            file.write(text[attempt * quarter : (attempt + 1) * quarter])
        with subprocess.Popen(
            [*command, "--follow", str(source), "--out", str(out)], stderr=subprocess.DEVNULL
        ) as process:
            wait_for(lambda: out.exists() and out.stat().st_size > before)  # noqa: B023
            time.sleep(rng.uniform(0, 0.1))
            process.kill()
    done = run(models / "months", text, "--state", path, "--out", out)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == whole
    path.unlink()
    pieces = []
    for _ in range(2):
        with (
            source.open("rb") as rows,
            subprocess.Popen(
                command, stdin=rows, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as process,
        ):
            begun = b"".join(process.stdout.readline() for _ in range(rng.randrange(20, 70)))
            process.kill()
            pieces.append(begun + process.stdout.read())
    pieces.append(run(models / "months", text, "--state", path).stdout)
    found = {}
    for piece in pieces:
        for line in piece.splitlines(keepends=True):
            if line.endswith(b"\n"):  # else torn by the kill
                assert found.setdefault(json.loads(line)["line"], line) == line
    assert b"".join(found[n] for n in sorted(found)) == whole


def wait_for(condition):
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.002)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_end_a_stream_that_waits(models, tmp_path, number, code):
    """Each line is out as soon as it is in; the state is saved at the end."""
    path, text = tmp_path / "state", panel(models, 3)
    with subprocess.Popen(
        [*COMMAND, str(models / "months"), "--state", str(path), "--save-every", "1000"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        for k, line in enumerate(text.splitlines()):
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
            if k:
                assert json.loads(process.stdout.readline())["line"] == k + 1
        assert not path.exists()
        process.send_signal(number)
        assert process.wait(PATIENCE) == code
    kept = network.load(path)
    assert isinstance(kept, Checkpoint)
    assert kept.lines == 4
    assert kept.model == hashlib.sha256((models / "months").read_bytes()).hexdigest()
    assert kept.ids == ("s0", "s1", "s2")


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_followed_file_that_is_another_one_ends_the_stream(models, tmp_path, how):
    """After its last line, with the state saved: a log that is rotated."""
    path, source = tmp_path / "state", tmp_path / "rows.csv"
    source.write_text("1,2,3\n")
    command = [*COMMAND, str(models / "network"), "--follow", str(source), "--state", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert json.loads(process.stdout.readline())["line"] == 1
        with source.open("a") as old:
            if how == "replaced":
                (tmp_path / "new").write_text("7,8,9\n")
                (tmp_path / "new").replace(source)
            else:
                source.unlink()
            old.write("4,5,6\n")
        said = process.stderr.read().decode()
        lines = process.stdout.read().splitlines()
        assert process.wait(PATIENCE) == 2
    assert f"{source} has been {how}" in said
    assert "start again" in said
    assert network.load(path).lines == 1 + len(lines)


def test_a_reader_that_has_gone(models, tmp_path):
    """It ends cleanly, and the state holds no row that nobody has got."""
    path, text = tmp_path / "state", panel(models, 3000)
    process = subprocess.Popen(
        [*COMMAND, str(models / "months"), "--state", str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdin.write(text.encode()[:20000])
    process.stdin.flush()
    got = [json.loads(process.stdout.readline()) for _ in range(5)]
    process.stdout.close()
    process.wait(PATIENCE)
    said = process.stderr.read()
    process.stdin.close()
    process.stderr.close()
    assert process.returncode == 0
    assert said == b""
    assert got[-1]["line"] == 6
    assert network.load(path).lines >= 6
