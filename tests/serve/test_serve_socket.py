"""The server's WebSocket: steps, rows, sequences of a connection's own."""

import re
import time

import numpy as np
import pytest

from carousel import network, stream
from forecast_models import forecast_model
from serve_requests import infer, rows

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")
testclient = pytest.importorskip("fastapi.testclient")

from carousel.serve import Limits, create_app  # noqa: E402


def test_steps_over_a_websocket(client, values):
    model = stream.Model(values["net"])
    x = np.random.default_rng(4).normal(size=(5, 1, 3)).astype("f4")
    wanted = model.run(x)[:, 0]
    with client.websocket_connect("/v2/models/net/stream") as socket:
        for k, row in enumerate(x):
            socket.send_json({"id": k, "x": row[0].tolist()})
        for k in range(5):
            reply = socket.receive_json()
            assert reply["id"] == k
            np.testing.assert_allclose(reply["y"], wanted[k], rtol=1e-6)
        for message, text in [
            ("{", "must be a JSON object"), ('{"x": 1}', "must be a list of numbers"), ('{"x": [1, 2]}', "I = 3"),
            ('{"x": [1, 2, 1e999]}', "must be finite"), ('{"x": [1,2,3], "sequence_id": "lost"}', "is not known"),
        ]:  # fmt: skip
            socket.send_text(message)
            assert text in socket.receive_json()["error"]
        socket.send_json({"x": [0, 0, 0]})
        assert "y" in socket.receive_json()
    assert 'carousel_sequences{model="net"} 0.0' in client.get("/metrics").text
    with client.websocket_connect("/v2/models/zoo/stream") as socket:
        assert "is not served" in socket.receive_json()["error"]


def test_ids_that_no_reply_could_carry_are_refused(client):
    """And their step is not counted."""
    with client.websocket_connect("/v2/models/net/stream") as socket:
        socket.send_json({"x": [1, 2, 3], "id": 2**70})
        first = socket.receive_json()
        assert first["id"] == 2**70
    with client.websocket_connect("/v2/models/net/stream") as socket:
        for id, said in [
            ("\ud800", "`id` holds half of a character"), ("x" * 257, "at most 256 characters or .*, got a text"),
            (1.5, "`id` must be a text .*, got a number"), ([1], "got a list"), (True, "got true"),
        ]:  # fmt: skip
            socket.send_json({"x": [1, 2, 3], "id": id})
            reply = socket.receive_json()
            assert re.search(said, reply["error"])
            assert "id" not in reply
        socket.send_json({"x": [1, 2, 3], "sequence_id": "\ud800", "sequence_start": True, "id": "a"})
        assert socket.receive_json() == {"id": "a", "error": "`sequence_id` holds half of a character."}
        socket.send_json({"x": [1, 2, 3], "id": None})
        assert socket.receive_json() == {"y": first["y"]}


def test_a_message_that_the_server_fails_at_is_answered(client, monkeypatch, caplog):
    served = client.app.state.served["net"].what
    with client.websocket_connect("/v2/models/net/stream") as socket:
        monkeypatch.setattr(served, "run", lambda jobs: 1 / 0)
        socket.send_json({"x": [1, 2, 3], "id": "a"})
        reply = socket.receive_json()
        assert (reply["id"], reply["error"][:19]) == ("a", "the server failed a")
        monkeypatch.undo()
        socket.send_json({"x": [1, 2, 3]})
        assert "y" in socket.receive_json()
    assert "ZeroDivisionError" in caplog.text
    assert 'carousel_requests_total{model="net",status="500"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize(("unit", "y", "title"), [("log", 0.0, "logarithm"), ("root", -2.0, "square root")])
def test_a_value_that_a_model_cannot_see_is_said_to_be_missing(tmp_path, unit, y, title):
    value, _ = forecast_model(
        np.random.default_rng(8), freq="MS", season=12, lookback=24, horizon=4, length=60, series=1, unit=unit
    )
    network.save(value, tmp_path / "m")
    said = f"{y:g} has no {title}, which this model sees: counted as missing"
    with testclient.TestClient(create_app({"m": tmp_path / "m"})) as client:

        def answer(values, **more):
            parameters = {"sequence_id": 1, "sequence_start": True, **more}
            body = {"inputs": rows(values), "parameters": parameters}
            return client.post("/v2/models/m/infer", json=body).json()

        lost, missing = answer([100.0, y]), answer([100.0, None])
        assert lost["outputs"] == missing["outputs"]
        assert lost["parameters"] == {"sequence_id": 1, "remark": said}
        assert missing["parameters"] == {"sequence_id": 1}
        with client.websocket_connect("/v2/models/m/stream") as socket:
            socket.send_json({"y": y})
            assert socket.receive_json()["remark"] == said
            socket.send_json({"y": None})
            assert "remark" not in socket.receive_json()


def test_rows_over_a_websocket(client, values):
    model = stream.Model(values["months"])
    state = model.start(["s2"])
    with client.websocket_connect("/v2/models/months/stream") as socket:
        for y in (100.0, None, 101.0):
            socket.send_json({"ds": str(state.next[0]), "y": y, "unique_id": "s2"})
            state = model.observe(state.next, [np.nan if y is None else y], state)
            reply = socket.receive_json()
            assert reply["carousel"] == model.forecast(state).mean[0].tolist()
        socket.send_json({})
        assert socket.receive_json()["carousel-lo-80"] == model.forecast(state).lower[0, 0].tolist()
        socket.send_json({"y": "high"})
        assert "`y` must be a number" in socket.receive_json()["error"]


@pytest.mark.parametrize("with_time", [True, False])
@pytest.mark.parametrize("key", ["value", "Y"])
def test_a_message_whose_value_is_misspelt_is_no_row(client, values, key, with_time):
    model = stream.Model(values["months"])
    state = model.start(["s2"])
    row = {"ds": str(state.next[0])} if with_time else {}
    with client.websocket_connect("/v2/models/months/stream") as socket:
        for message, said in [
            (
                row | {key: 500},
                f"`y` is not there; it must be a number, or null where it is missing, got .*'{key}'",
            ),
            (
                row | {"y": 5, key: 5},
                f"a message must be of ds, y, covariates, unique_id, id, .*, got '{key}'",
            ),
            ({"ds": "1999-01"}, "`y` is not there; .*, got 'ds', 'unique_id'"),
        ]:
            socket.send_json(message | {"unique_id": "s2"})
            assert re.search(said, socket.receive_json()["error"])
        socket.send_json(row | {"y": 100.0, "unique_id": "s2"})
        state = model.observe(state.next, [100.0], state)
        assert socket.receive_json()["carousel"] == model.forecast(state).mean[0].tolist()
    with client.websocket_connect("/v2/models/net/stream") as socket:
        socket.send_json({"x": [1, 2, 3], "sequence": "a"})
        assert "a message must be of x, id, sequence_id" in socket.receive_json()["error"]


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (1.7e308, "the square of `y`, 1.7e+308, is beyond what a computer counts"),
        (-1e-200, "the square of `y`, -1e-200, is beyond what a computer counts"),
        (1e90, "`y`, 1e+90, is beyond what this model counts"),
    ],
)
def test_values_that_would_spoil_a_sequence_are_refused(client, y, said):
    begin = {"sequence_id": "a", "sequence_start": True, "unique_id": "s1"}
    before = infer(client, "months", rows([5.0]), **begin)["mean"]
    assert said in infer(client, "months", rows([6.0, y]), 400, sequence_id="a")
    np.testing.assert_array_equal(infer(client, "months", [], sequence_id="a")["mean"], before)
    with client.websocket_connect("/v2/models/months/stream") as socket:
        socket.send_json({"y": y, "unique_id": "s1"})
        assert said in socket.receive_json()["error"]
        socket.send_json({"y": 5.0, "unique_id": "s1"})
        assert socket.receive_json()["carousel"] == before.tolist()


def test_a_connection_begins_when_there_is_room(paths):
    """Refused at first, its own sequence begins with the next message: nobody has named it."""
    app = create_app({"net": paths["net"]}, limits=Limits(sequences=1))
    with testclient.TestClient(app) as client, client.websocket_connect("/v2/models/net/stream") as one:
        one.send_json({"x": [1.0, 2.0, 3.0]})
        first = one.receive_json()["y"]
        with client.websocket_connect("/v2/models/net/stream") as two:
            for _ in range(2):
                two.send_json({"x": [1.0, 2.0, 3.0]})
                assert "1 sequences are held" in two.receive_json()["error"]
            one.close()
            for _ in range(200):
                two.send_json({"x": [1.0, 2.0, 3.0]})
                reply = two.receive_json()
                if "y" in reply:
                    break
                time.sleep(0.05)
            assert reply["y"] == first


@pytest.mark.parametrize("swept", [True, False])
def test_a_connection_that_was_idle_is_told_so_once_and_begins_anew(paths, swept):
    app = create_app({"net": paths["net"]}, limits=Limits(idle=50))
    now, sequences = 0.0, app.state.served["net"].what.sequences
    sequences._clock = lambda: now
    with testclient.TestClient(app) as client, client.websocket_connect("/v2/models/net/stream") as socket:

        def reply():
            socket.send_json({"x": [1.0, 2.0, 3.0]})
            return socket.receive_json()

        first, second = reply()["y"], reply()["y"]
        assert first != second
        now = 60.0
        if swept:
            sequences.evict()
        assert "the sequence of this connection was forgotten; the next message begins it" in reply()["error"]
        assert [reply()["y"], reply()["y"]] == [first, second]


def test_messages_behind_one_that_is_refused_begin_the_connections_sequence(client):
    """Sent before its answer came: the first that can be served begins it, and all others follow in order."""
    good, early = {"y": 90, "unique_id": "s1"}, {"y": 90, "unique_id": "s1", "ds": "1999-01"}
    with client.websocket_connect("/v2/models/months/stream") as socket:
        for _ in range(3):
            socket.send_json(good)
        wanted = [socket.receive_json()["carousel"] for _ in range(3)]
    with client.websocket_connect("/v2/models/months/stream") as socket:
        for k, message in enumerate((early, {"y": "a"}, early, good, early, good, good)):
            socket.send_json(message | {"id": k})
        replies = {reply["id"]: reply for reply in (socket.receive_json() for _ in range(7))}
    assert [replies[k]["carousel"] for k in (3, 5, 6)] == wanted
    assert all("`ds`: the next row is" in replies[k]["error"] for k in (0, 2, 4))
