"""What the page asks for, names, restarts and the command of the server."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import numpy as np
import pytest

from carousel import network, stream
from carousel.errors import ArgumentError, FormatError
from serve_requests import GOOD, infer, rows, x_input

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")
testclient = pytest.importorskip("fastapi.testclient")

from carousel.serve import Limits, create_app  # noqa: E402


def test_the_page_and_what_it_asks_for(client, values):
    page = client.get("/")
    assert "live forecasts" in page.text
    assert "http://www.w3.org/2000/svg" in page.text.replace("src=", "")
    assert page.text.count("http") == 1, "it loads nothing from elsewhere"
    infer(client, "months", rows([7.0]), sequence_id="mine", sequence_start=True, unique_id="s0")
    listed = {m["name"]: m for m in client.get("/page/models").json()}
    assert listed["months"]["sequences"] == ["mine"]
    assert listed["months"]["series"] == ["s0", "s1", "s2"]
    assert (listed["months"]["held"], listed["months"]["fitted"]) == (1, 3)
    recent = client.get("/page/models/months/recent", params={"sequence": "mine"}).json()
    assert (recent["y"][-1], recent["filled"]) == (7.0, True)
    assert len(recent["ds"]) == len(recent["y"]) == 24
    for which in ("series", "sequence"):
        assert client.get("/page/models/months/recent", params={which: "zoo"}).status_code == 404
    assert client.get("/page/models/net/recent", params={"sequence": "a"}).status_code == 400


def test_a_sequence_that_is_called_as_a_fitted_series_is_another_thing(client):
    before = client.get("/page/models/months/recent", params={"series": "s1"}).json()
    infer(client, "months", rows([7.0]), sequence_id="s1", sequence_start=True)
    assert client.get("/page/models/months/recent", params={"series": "s1"}).json() == before
    live = client.get("/page/models/months/recent", params={"sequence": "s1"}).json()
    assert (live["y"][-1], live["ds"][:-1]) == (7.0, before["ds"][1:])


def test_the_page_shows_no_row_that_was_made_up(paths, values, tmp_path):
    """Neither before the first row of a series nor where one is missing."""
    tail = values["months"].tail
    counts = np.array([3, 24, 24])
    tail = replace(tail, rows=counts, missing=np.array([22, 24 + 7]))
    network.save(replace(values["months"], tail=tail), tmp_path / "m")
    with testclient.TestClient(create_app({"m": tmp_path / "m"})) as client:

        def recent(**which):
            return client.get("/page/models/m/recent", params=which).json()

        first, second = recent(series="s0"), recent(series="s1")
        assert (len(first["ds"]), [v is None for v in first["y"]]) == (3, [False, True, False])
        assert [t for t, v in enumerate(second["y"]) if v is None] == [7]
        infer(client, "m", rows([7.0]), sequence_id="a", sequence_start=True, unique_id="s0")
        live = recent(sequence="a")
        assert (len(live["y"]), live["y"][-1], live["filled"]) == (4, 7.0, True)


def test_to_look_at_a_sequence_is_no_step(paths):
    """A page that is left open keeps none alive, and changes no order."""
    app = create_app({"months": paths["months"]}, limits=Limits(idle=50))
    now = 0.0
    sequences = app.state.served["months"].what.sequences
    sequences._clock = lambda: now
    with testclient.TestClient(app) as client:
        for id in ("a", "b"):
            infer(client, "months", rows([7.0]), sequence_id=id, sequence_start=True, unique_id="s1")
        now = 40.0
        infer(client, "months", [], sequence_id="a")
        client.get("/page/models/months/recent", params={"sequence": "a"})
        assert [*sequences.states()] == ["a", "b"]
        infer(client, "months", rows([None]), sequence_id="b")
        now = 60.0
        assert "was forgotten" in infer(client, "months", [], 404, sequence_id="a")
        infer(client, "months", [], sequence_id="b")


def test_sequences_outlive_the_server(paths, values, tmp_path):
    models = {name: paths[name] for name in ("net", "months")}
    x = np.random.default_rng(5).normal(size=(1, 4, 3)).astype("f4")
    wanted = stream.Model(values["net"]).run(np.ascontiguousarray(x.swapaxes(0, 1)))
    with testclient.TestClient(create_app(models, state=tmp_path)) as client:
        infer(client, "net", [x_input(x[:, :3])], sequence_id="a", sequence_start=True)
        infer(client, "months", rows([8.0]), sequence_id="s1", sequence_start=True)
        forecast = infer(client, "months", [], sequence_id="s1")
    with testclient.TestClient(create_app(models, state=tmp_path)) as client:
        np.testing.assert_allclose(
            infer(client, "net", [x_input(x[:, 3:])], sequence_id="a")["y"][0], wanted[3:, 0], rtol=1e-6
        )
        again = infer(client, "months", [], sequence_id="s1")
        np.testing.assert_array_equal(again["mean"], forecast["mean"])
    with pytest.raises(FormatError, match=r"net.state holds no states of this model"):
        create_app({"net": paths["months"]}, state=tmp_path)


def test_after_a_crash_no_sequence_goes_on_from_the_last_stop(paths, tmp_path):
    def app():
        return testclient.TestClient(create_app({"net": paths["net"]}, state=tmp_path))

    step = [x_input(np.ones((1, 1, 3)))]
    with app() as client:
        infer(client, "net", step, sequence_id="a", sequence_start=True)
    create_app({"net": paths["net"]}, state=tmp_path)  # what never ran takes nothing
    with app() as client:
        infer(client, "net", step, sequence_id="a")
        with app() as after:  # as the first one leaves it, killed now
            assert "begin it with `sequence_start`" in infer(after, "net", step, 404, sequence_id="a")


def test_a_directory_that_cannot_be_written_is_refused_at_the_start(paths, tmp_path, monkeypatch):
    """And not when the server stops, with all sequences in its memory."""
    (tmp_path / "net.state").mkdir()
    (tmp_path / "file").touch()
    models = {"net": paths["net"]}
    for state, error in (("", IsADirectoryError), ("none", FileNotFoundError), ("file", NotADirectoryError)):
        with pytest.raises(error, match=r"net\.state|none|file"):
            create_app(models, state=tmp_path / state)
    (tmp_path / "net.state").rmdir()
    create_app(models, state=tmp_path)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and not mode & os.W_OK)
    with pytest.raises(PermissionError, match=re.escape(str(tmp_path))):
        create_app(models, state=tmp_path)


def test_states_that_cannot_be_saved_lose_no_others(paths, tmp_path):
    app = create_app({name: paths[name] for name in ("net", "last", "months")}, state=tmp_path)
    with testclient.TestClient(app) as client:
        for name in ("net", "last"):
            infer(client, name, [x_input(np.ones((1, 1, 3)))], sequence_id="a", sequence_start=True)
        infer(client, "months", [], sequence_id="s0", sequence_start=True)
        (tmp_path / "net.state" / "in the way").mkdir(parents=True)
        assert app.state.unsaved == []
    (sentence,) = app.state.unsaved
    assert sentence.startswith("the states of 'net' were not saved: ")
    assert network.load(tmp_path / "last.state").ids == ("a",)
    assert network.load(tmp_path / "months.state").ids == ("s0",)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b"])
def test_names_that_no_address_can_have(paths, name):
    with pytest.raises(ArgumentError, match="A model's name must be letters"):
        create_app({name: paths["net"]})


@pytest.fixture
def started(paths, tmp_path):
    """The command, without torch, that serves `n` and `months` and has answered; its states go to `tmp_path` / "s"."""
    pytest.importorskip("uvicorn")
    program = "import sys; sys.modules['torch'] = None; from carousel.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", f"n={paths['net']}", str(paths["months"])]
    command += ["--port", "0", "--state", str(tmp_path / "s")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        address, _, names = process.stderr.readline().decode().partition(" serves ")
        assert names == "n, months\n"
        process.address = address
        body = {"inputs": [GOOD], "parameters": {"sequence_id": 1, "sequence_start": True}}
        give_up = time.monotonic() + 60
        while True:
            try:
                request = urllib.request.Request(f"{address}/v2/models/n/infer", json.dumps(body).encode())
                with urllib.request.urlopen(request, timeout=30) as response:
                    assert len(json.load(response)["outputs"][0]["data"]) == 2
                break
            except ConnectionError:
                assert time.monotonic() < give_up
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_the_command(started, tmp_path):
    """It says where it is, answers, and saves when it is told to stop."""
    started.send_signal(signal.SIGTERM)
    assert started.wait(60) == 0, started.stderr.read()
    assert started.stderr.read() == b""
    assert network.load(tmp_path / "s" / "n.state").ids == ("1",)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_cannot_save_is_said_and_exits_with_1(started, tmp_path, number):
    (tmp_path / "s" / "n.state" / "in the way").mkdir(parents=True)
    started.send_signal(number)
    assert started.wait(60) == 1
    said = started.stderr.read().decode()
    assert said.startswith("carousel: the states of 'n' were not saved: ")
    assert said.count("\n") == 1
    assert network.load(tmp_path / "s" / "months.state").ids == ()


@pytest.mark.parametrize("numbers", [[signal.SIGINT] * 2, [signal.SIGINT] * 3, [signal.SIGHUP]])
def test_no_signal_but_sigkill_loses_the_states(started, tmp_path, numbers):
    """A client is slow, and nobody waits for it."""
    with slow_client(started) as slow:
        for n, number in enumerate(numbers):
            started.send_signal(number)
            if n == 0 and len(numbers) != 3:
                line = started.stderr.readline().decode()
                assert line.startswith("carousel: waiting for 1 request or connections, 10 seconds at most")
        if numbers == [signal.SIGHUP]:
            slow.close()
        assert started.wait(60) == (130 if signal.SIGINT in numbers else 0)
    said = started.stderr.read().decode()
    assert "Traceback" not in said
    assert said.endswith("carousel: stopped.\n") == (signal.SIGINT in numbers)
    assert network.load(tmp_path / "s" / "n.state").ids == ("1",)


def slow_client(started):
    """A connection whose request has begun and does not end."""
    host, port = re.search(r"//(.*):(\d+)", started.address).groups()
    client = socket.create_connection((host, int(port)))
    client.sendall(b"POST /v2/models/n/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    with urllib.request.urlopen(f"{started.address}/v2", timeout=30):  # the server has read it by now
        return client


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["{net}", "{net}"], "Two models are called 'net'"),
        (["nowhere"], "nowhere: no such file or directory"),
        (["{net}", "--state", "{net}"], "--state must be a directory"),
        (["in.the.way={net}", "--state", "{folder}"], "in.the.way.state: is a directory"),
        (["{net}", "--host", "203.0.113.1"], "--host 203.0.113.1 --port 8000 cannot be listened on"),
    ],
)
def test_what_the_command_refuses(paths, tmp_path, options, said, capsys):
    from carousel.cli import main

    pytest.importorskip("uvicorn")
    (tmp_path / "in.the.way.state").mkdir()
    with pytest.raises(SystemExit) as left:
        main(["serve", *(o.format(net=paths["net"], folder=tmp_path) for o in options)])
    assert left.value.code == 2
    assert said.lower() in capsys.readouterr().err.lower()
