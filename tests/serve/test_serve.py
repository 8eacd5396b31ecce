"""The server: the protocol, sequences, batches, limits, and requests that make no sense."""

import asyncio
import gzip
import json
import random
import re
import threading

import numpy as np
import pytest

from carousel import stream
from carousel.errors import ArgumentError
from serve_requests import GOOD, infer, rows, x_input

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")
testclient = pytest.importorskip("fastapi.testclient")

from carousel.serve import Limits, create_app  # noqa: E402
from carousel.serve.batching import Batcher  # noqa: E402
from carousel.serve.protocol import RequestError, parse_infer  # noqa: E402

# The protocol


def test_server_and_models(client):
    assert client.get("/v2").json() == {"name": "carousel", "version": "0.1.0", "extensions": ["sequence"]}
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert [m["name"] for m in client.post("/v2/repository/index").json()] == [
        "net",
        "last",
        "both",
        "words",
        "months",
    ]
    for path in ("/v2/models/net/ready", "/v2/models/net/versions/1/ready"):
        assert client.get(path).json() == {"name": "net", "ready": True}
    assert client.get("/v2/models/net").json() == client.get("/v2/models/net/versions/1").json() == {
        "name": "net", "versions": ["1"], "platform": "carousel_network",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, -1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, -1, 2]}],
    }  # fmt: skip
    assert client.get("/v2/models/words").json()["inputs"][0] == {
        "name": "x",
        "datatype": "INT64",
        "shape": [-1, -1],
    }
    assert client.get("/v2/models/last").json()["outputs"][0]["shape"] == [-1, 5]
    for path in ("/v2/models/zoo", "/v2/models/net/versions/2", "/v2/nothing", "/v2/models/zoo/ready"):
        response = client.get(path)
        assert response.status_code == 404
        assert [*response.json()] == ["error"]
    assert client.get("/v2/models/net/infer").status_code == 405


@pytest.mark.parametrize("name", ["net", "last", "both", "words"])
def test_whole_sequences(client, values, name):
    rng = np.random.default_rng(2)
    model = stream.Model(values[name])
    x = rng.integers(0, 7, (4, 6)) if name == "words" else rng.normal(size=(4, 6, 3)).astype("f4")
    y = infer(client, name, [x_input(x, "INT64" if name == "words" else "FP32")])["y"]
    wanted = model.run(np.ascontiguousarray(x.swapaxes(0, 1)))
    np.testing.assert_allclose(y, wanted if name == "last" else wanted.swapaxes(0, 1), rtol=1e-6)
    nested = {
        "name": "x",
        "datatype": "INT64" if name == "words" else "FP64",
        "shape": list(x.shape),
        "data": x.tolist(),
    }
    np.testing.assert_allclose(infer(client, name, [nested])["y"], y, rtol=1e-6)


@pytest.mark.parametrize("name", ["net", "last", "words"])
def test_a_sequence_in_pieces(client, values, name):
    rng = np.random.default_rng(3)
    model = stream.Model(values[name])
    x = rng.integers(0, 7, (1, 9)) if name == "words" else rng.normal(size=(1, 9, 3)).astype("f4")
    kind = "INT64" if name == "words" else "FP32"
    pieces = []
    for a, b in ((0, 1), (1, 5), (5, 9)):
        parameters = {"sequence_id": 7, "sequence_start": a == 0, "sequence_end": b == 9}
        pieces.append(infer(client, name, [x_input(x[:, a:b], kind)], **parameters)["y"])
    wanted = model.run(np.ascontiguousarray(x.swapaxes(0, 1)))
    if name == "last":
        np.testing.assert_allclose(pieces[-1], wanted, rtol=1e-6)
    else:
        np.testing.assert_allclose(np.concatenate(pieces, 1), wanted.swapaxes(0, 1), rtol=1e-6)
    assert "is not known" in infer(client, name, [x_input(x[:, :1], kind)], 404, sequence_id=7)


def test_a_forecaster(client, values):
    model = stream.Model(values["months"])
    fitted = infer(client, "months", [], unique_id="s1")
    np.testing.assert_array_equal(fitted["mean"], model.forecast(model.start(["s1"])).mean[0])
    state = model.start(["s1"])
    due = [str(d)[:7] for d in model.frequency.grid(state.next[0], 3)]
    got = infer(
        client, "months", rows([90, None], due[:2]), sequence_id="a", sequence_start=True, unique_id="s1"
    )
    for y in (90, np.nan):
        state = model.observe(state.next, [y], state)
    forecast = model.forecast(state)
    np.testing.assert_array_equal(got["mean"], forecast.mean[0])
    np.testing.assert_array_equal(got["upper"], forecast.upper[:, 0])
    assert got["ds"].tolist() == [str(d)[:19] for d in forecast.ds[0]]
    assert got["level"].tolist() == [80, 95]
    np.testing.assert_array_equal(infer(client, "months", [], sequence_id="a")["mean"], forecast.mean[0])
    said = infer(client, "months", rows([1.0], [due[0]]), 409, sequence_id="a")
    assert said.startswith(f"`ds`: the next row is {due[2]}-01T00:00:00, got {due[0]}-01T00:00:00; ")
    np.testing.assert_array_equal(infer(client, "months", [], sequence_id="a")["mean"], forecast.mean[0])
    second = model.start(["s2"])
    second = model.observe(second.next, [5.0], second)
    by_name = infer(client, "months", rows([5.0]), sequence_id="s2", sequence_start=True)
    np.testing.assert_array_equal(by_name["mean"], model.forecast(second).mean[0])


def test_outputs_and_id_are_those_that_were_asked_for(client):
    body = {"id": "q1", "inputs": [], "parameters": {"unique_id": "s0"}, "outputs": [{"name": "mean"}]}
    tree = client.post("/v2/models/months/versions/1/infer", json=body).json()
    assert (tree["id"], tree["model_name"], tree["model_version"]) == ("q1", "months", "1")
    assert [o["name"] for o in tree["outputs"]] == ["mean"]


def test_a_request_that_is_refused_for_its_outputs_steps_no_sequence(client):
    for name, inputs, begin in (
        ("net", [GOOD], {"sequence_start": True}),
        ("months", rows([90.0]), {"sequence_start": True, "unique_id": "s1"}),
    ):
        infer(client, name, inputs, sequence_id="a", **begin)
        infer(client, name, inputs, sequence_id="b", **begin)
        for end in (False, True):
            parameters = {"sequence_id": "a", "sequence_end": end}
            body = {"inputs": inputs, "parameters": parameters, "outputs": [{"name": "z"}]}
            answer = client.post(f"/v2/models/{name}/infer", json=body)
            assert (answer.status_code, "got 'z'" in answer.json()["error"]) == (400, True)
        stepped, other = (infer(client, name, inputs, sequence_id=id) for id in ("a", "b"))
        for key in ("y",) if name == "net" else ("mean", "upper"):
            np.testing.assert_array_equal(stepped[key], other[key])


# What makes no sense


BAD = [
    (b"", "must be a JSON object"),
    (b"[]", "must be a JSON object, got a list"),
    (b"\xff\xfe", "must be a JSON object"),
    (b'{"id": "\xe9"}', r"must be a JSON object: it is not UTF-8\.$"),
    (gzip.compress(b"{}"), r"must be a JSON object: it is not UTF-8\.$"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"inputs": NaN}', "NaN is not JSON"),
    (b'{"inputs": [' + b"9" * 5000 + b"]}", "must be a JSON object"),
]
WRONG = [
    ({"inputs": 3}, "`inputs` must be a list"),
    ({"input": [GOOD]}, "a request must be of id, .*, inputs, outputs, got 'input'"),
    ({"inputs": []}, "must be one tensor named 'x'"),
    ({"inputs": [3]}, r"`inputs\[0\]` must be an object"),
    ({"inputs": [GOOD, GOOD]}, "is there twice"),
    ({"inputs": [GOOD | {"name": "z"}]}, "must be one tensor named 'x', got"),
    ({"inputs": [GOOD | {"datatype": "FP16"}]}, "datatype of input 'x' must be one of FP32"),
    ({"inputs": [GOOD | {"datatype": []}]}, "datatype"),
    ({"inputs": [GOOD | {"shape": [1, -1, 3]}]}, "shape of input 'x' must be a list of at most 8"),
    ({"inputs": [GOOD | {"shape": [True, 1, 3]}]}, "shape"),
    ({"inputs": [GOOD | {"shape": [1, 10**9, 3]}]}, "has 3000000000 elements; at most"),
    ({"inputs": [GOOD | {"shape": [0] + [2**31 - 1] * 3, "data": []}]}, "an axis of 0 counted as one of 1"),
    ({"inputs": [GOOD | {"shape": [2**31 - 1, 0, 3], "data": []}]}, "has 6442450941 elements; at most"),
    ({"inputs": [GOOD | {"shape": [4_000_000, 0, 3], "data": []}]}, "has 12000000 elements; at most"),
    ({"inputs": [GOOD | {"shape": [1, 3]}]}, r"`x` must have shape \(B, T, I\) with I = 3, got \[1, 3\]"),
    ({"inputs": [GOOD | {"shape": [1, 1, 4]}]}, "must have 4 elements"),
    ({"inputs": [GOOD | {"data": [1, 2, "3"]}]}, "must be numbers, got a text"),
    ({"inputs": [GOOD | {"data": [1, 2, None]}]}, "`x` must be finite"),
    ({"inputs": [GOOD | {"data": [1, 2, 1e39]}]}, "must be finite, or null"),
    ({"inputs": [GOOD | {"data": [1, 2, 10**400]}]}, "does not fit"),
    ({"inputs": [GOOD | {"data": [1, [2], 3]}]}, "nested evenly"),
    ({"inputs": [GOOD | {"datatype": "BYTES", "data": ["a", "b", "c"]}]}, "`x` must be numbers"),
    ({"inputs": [GOOD | {"datatype": "BYTES", "data": ["a", "b", 3]}]}, "must be texts, or null .*, got a number"),
    ({"inputs": [GOOD | {"datatype": "BOOL", "data": [True, False, None]}]}, "`x` must be numbers"),
    ({"inputs": [GOOD | {"datatype": "BOOL", "data": [True, False, 1]}]}, "must be true or false, .* got a number"),
    ({"inputs": [GOOD | {"datatype": "INT8", "data": [1, 2, 300]}]}, "does not fit"),
    ({"inputs": [GOOD | {"shape": [1, 0, 3], "data": []}], "parameters": 3}, "`parameters` must be an object"),
    ({"inputs": [GOOD], "parameters": {"sequence_id": 1.5}}, "`sequence_id` must be a whole number or a text"),
    ({"inputs": [GOOD], "parameters": {"sequence_id": -1}}, "between 0 and"),
    ({"inputs": [GOOD], "parameters": {"sequence_id": "x" * 300}}, "at most 256 characters"),
    ({"inputs": [GOOD], "parameters": {"sequence_id": 1, "sequence_start": 1}}, "must be true or false"),
    ({"inputs": [GOOD], "parameters": {"sequence_start": True}}, "need a `sequence_id`"),
    ({"inputs": [GOOD | {"shape": [2, 1, 3], "data": [0] * 6}], "parameters": {"sequence_id": 1}}, "must have B = 1"),
    ({"inputs": [GOOD], "outputs": [{"name": "z"}]}, "`outputs` must be of y, got 'z'"),
    ({"inputs": [GOOD], "outputs": ["y"]}, "`outputs` must be a list of objects"),
    ({"inputs": [GOOD], "id": 3}, "`id` must be a text"),
    ({"inputs": [GOOD], "id": "\ud800"}, "`id` holds half of a character"),
    ({"inputs": [GOOD], "parameters": {"sequence_id": "a\ud800"}}, "`sequence_id` holds half of a character"),
    ({"inputs": [GOOD], "parameters": {"sequenceid": 1}}, "`parameters` must be of sequence_id, .*, got 'sequenceid'"),
]  # fmt: skip


def test_bodies_that_are_refused(client):
    for body, text in BAD + [(json.dumps(tree).encode(), text) for tree, text in WRONG]:
        response = client.post("/v2/models/net/infer", content=body)
        assert response.status_code == 400, (body[:200], response.text)
        assert re.search(text, response.json()["error"]), response.text


def test_a_body_in_another_coding_is_refused_by_its_name(client):
    body = json.dumps({"inputs": [GOOD]}).encode()
    for coding, content, status in (("gzip", gzip.compress(body), 415), ("identity", body, 200)):
        response = client.post("/v2/models/net/infer", content=content, headers={"Content-Encoding": coding})
        assert response.status_code == status
        assert status == 200 or response.json()["error"].startswith(
            "a body with Content-Encoding gzip is not"
        )


def test_parameters_that_clients_of_the_protocol_send_to_any_server_are_taken(client):
    infer(client, "net", [GOOD], binary_data_output=True, priority=1, timeout=5)


@pytest.mark.parametrize("id", [7, "7", "meter ü"])
def test_a_sequence_id_comes_back_as_it_was_given(client, id):
    parameters = {"sequence_id": id, "sequence_start": True}
    body = {"inputs": [GOOD], "parameters": parameters}
    assert client.post("/v2/models/net/infer", json=body).json()["parameters"] == {"sequence_id": id}
    with client.websocket_connect("/v2/models/net/stream") as socket:
        socket.send_json({"x": [1, 2, 3], **parameters})
        assert socket.receive_json()["sequence_id"] == id
        socket.send_json({"x": [1, 2], "sequence_id": id})
        reply = socket.receive_json()
        assert "I = 3" in reply["error"]
        assert reply["sequence_id"] == id


def test_rows_of_another_series_are_not_observed_in_a_sequence(client, values):
    """As those of the first one they would be nonsense; each series has a sequence of its own."""
    begin = {"sequence_id": "a", "sequence_start": True, "unique_id": "s1"}
    before = infer(client, "months", rows([90.0]), **begin)["mean"]
    said = infer(client, "months", rows([900.0]), 409, sequence_id="a", unique_id="s2")
    assert said == "`unique_id`: the sequence is of 's1', got 's2'; give each series a `sequence_id`."
    assert "must be a series that was fitted" in infer(
        client, "months", [], 404, sequence_id="a", unique_id="s9"
    )
    for same in ({}, {"unique_id": "s1"}):
        np.testing.assert_array_equal(infer(client, "months", [], sequence_id="a", **same)["mean"], before)
    with client.websocket_connect("/v2/models/months/stream") as socket:
        for name, error in (("s0", False), ("s2", True), ("s0", False)):
            socket.send_json({"y": 90, "unique_id": name})
            assert ("the sequence is of 's0'" in socket.receive_json().get("error", "")) == error
        again = {"sequence_id": "a", "sequence_start": True, "y": 90}
        socket.send_json(again | {"unique_id": "s2"})
        assert "error" not in socket.receive_json()


def test_what_a_model_refuses(client):
    for name, inputs, parameters, status, text in [
        ("both", [x_input(np.zeros((1, 1, 3)))], {"sequence_id": 1, "sequence_start": True}, 400, "reads backwards"),
        ("last", [x_input(np.zeros((1, 0, 3)))], {}, 400, "must have 1 to 4096 steps, got 0"),
        ("net", [x_input(np.zeros((1, 5000, 3)))], {}, 400, "got 5000"),
        ("words", [x_input([[7]], "INT64")], {}, 400, "must be ids from 0 to 6"),
        ("words", [x_input([[1.0]], "FP64")], {}, 400, "must be whole numbers"),
        ("months", [], {}, 400, "`unique_id` must name the fitted series"),
        ("months", [], {"unique_id": "zoo"}, 404, "must be a series that was fitted, got 'zoo'"),
        ("months", rows([1.0]), {"unique_id": "s0"}, 400, "give a `sequence_id`"),
        ("months", rows([1.0], ["soon"]), {"sequence_id": "s0", "sequence_start": True}, 400, "`ds`: the time must be"),
        ("months", rows([1.0], []), {"sequence_id": "s0", "sequence_start": True}, 400, "one for each of 1 rows"),
        ("months", [x_input([1.0])], {"unique_id": "s0"}, 400, "must be 'y' and, if wanted, 'ds'"),
    ]:  # fmt: skip
        assert text in infer(client, name, inputs, status, **parameters)


def test_random_requests_are_never_an_error_of_ours(paths):
    """Pieces of good requests, changed at random: every answer is 200 or 4xx with a reason."""
    rng = random.Random(77)
    strange = [
        None,
        True,
        -1,
        0,
        1e308,
        2**70,
        "",
        "x" * 99,
        "\ud800",
        [],
        {},
        [[]],
        [{}],
        {"a": []},
        0.5,
        "s0",
        "FP64",
        [1, 1, 3],
    ]

    def changed(tree):
        if rng.random() < 0.12:
            return rng.choice(strange)
        if isinstance(tree, dict):
            return {k: changed(v) for k, v in tree.items() if rng.random() > 0.05}
        if isinstance(tree, list):
            return [changed(v) for v in tree for _ in range(rng.choice((1, 1, 1, 1, 1, 0, 2)))]
        return tree

    good = [
        {
            "id": "a",
            "inputs": [GOOD],
            "parameters": {"sequence_id": 3, "sequence_start": True},
            "outputs": [{"name": "y"}],
        },
        {
            "inputs": rows([1.0, None], ["2029-01", "2029-02"]),
            "parameters": {"sequence_id": "s0", "sequence_start": True},
        },
        {"inputs": [x_input([[1, 2]], "INT64")], "parameters": {"sequence_id": "w", "sequence_end": True}},
    ]
    seen = set()
    with testclient.TestClient(create_app(paths), raise_server_exceptions=False) as client:
        for _ in range(400):
            body = json.dumps(changed(rng.choice(good))).encode()
            if rng.random() < 0.1:
                body = body[: rng.randrange(len(body) + 1)]
            name = rng.choice(["net", "last", "both", "words", "months", "zoo"])
            response = client.post(f"/v2/models/{name}/infer", content=body)
            seen.add(response.status_code)
            assert response.status_code == 200 or 400 <= response.status_code < 500, (body, response.text)
            assert response.status_code == 200 or isinstance(response.json()["error"], str)
    assert {200, 400, 404} <= seen


def test_a_number_of_thousands_of_digits():
    with pytest.raises(RequestError, match=r"a number in it is too long\.$"):
        parse_infer(b'{"inputs": [' + b"9" * 6000 + b"]}", Limits())


# Limits


def test_a_body_that_is_too_large(paths):
    with testclient.TestClient(create_app(paths, limits=Limits(body=1000))) as client:
        response = client.post("/v2/models/net/infer", content=b" " * 1001)
        assert (response.status_code, response.json()) == (
            413,
            {"error": "the body has more than 1000 bytes."},
        )
        pieces = (b" " * 400 for _ in range(3))
        assert client.post("/v2/models/net/infer", content=pieces).status_code == 413
        binary = client.post(
            "/v2/models/net/infer", content=b"{}", headers={"Inference-Header-Content-Length": "2"}
        )
        assert (binary.status_code, binary.json()["error"][:26]) == (400, "tensors must be JSON: the ")


def test_sequences_are_counted_and_forgotten(paths):
    app = create_app(paths, limits=Limits(sequences=3, idle=50))
    now = 0.0
    for one in app.state.served.values():
        one.what.sequences._clock = lambda: now
    x = [x_input(np.ones((1, 1, 3)))]
    with testclient.TestClient(app) as client:
        for id in (1, 2, 3, 2):
            infer(client, "net", x, sequence_id=id, sequence_start=True)
        assert "3 sequences are held" in infer(client, "net", x, 429, sequence_id=4, sequence_start=True)
        infer(client, "net", x, sequence_id=4, sequence_start=True, sequence_end=True)
        now = 40.0
        infer(client, "net", x, sequence_id=1)
        now = 60.0
        assert "was forgotten" in infer(client, "net", x, 404, sequence_id=2)
        infer(client, "net", x, sequence_id=1)
        text = client.get("/metrics").text
    assert 'carousel_sequences{model="net"} 1.0' in text
    assert 'carousel_evicted_total{model="net"} 2.0' in text
    assert 'carousel_requests_total{model="net",status="429"} 1.0' in text
    assert 'carousel_batch_size_count{model="net"} 9.0' in text


def test_what_is_counted_is_requests_to_run_a_model_whatever_became_of_them(paths):
    app = create_app({"net": paths["net"]})
    with testclient.TestClient(app, raise_server_exceptions=False) as client:
        infer(client, "net", [GOOD])
        infer(client, "net", [], 400)
        infer(client, "zoo", [GOOD], 404)
        for path in ("/v2", "/v2/models/net", "/v2/models/zoo", "/v2/models/net/infer", "/nothing"):
            client.get(path)
        app.state.served["net"].what.run = lambda jobs: 1 / 0
        response = client.post("/v2/models/net/infer", json={"inputs": [GOOD]})
        text = client.get("/metrics").text
    assert (response.status_code, [*response.json()]) == (500, ["error"])
    counts = re.findall(r'^carousel_requests_total{model="(.*)",status="(.*)"} (.*)$', text, re.MULTILINE)
    assert sorted(counts) == [
        ("", "404", "1.0"),
        ("net", "200", "1.0"),
        ("net", "400", "1.0"),
        ("net", "500", "1.0"),
    ]


@pytest.mark.parametrize(
    ("name", "value"), [("body", 0), ("idle", float("nan")), ("sequences", True), ("batch", "8")]
)
def test_limits_that_make_no_sense(name, value):
    with pytest.raises(ArgumentError, match=f"`{name}` must be a number above 0"):
        Limits(**{name: value})


# Batches


def test_what_waits_runs_together_and_in_order():
    """While the first call runs, others come: they share the next one, but two of one sequence do not."""
    free, calls = threading.Event(), []

    def run(jobs):
        calls.append(list(jobs))
        free.wait(10)
        return [RequestError("no") if job == "bad" else job.upper() for job in jobs]

    async def main():
        batcher = Batcher(run, batch=4, waiting=6)
        first = asyncio.create_task(batcher.submit("a1", "a"))
        while not calls:
            await asyncio.sleep(0.001)
        some = [("a2", "a"), ("a3", "a"), ("b1", "b"), ("bad", None), ("c1", None), ("d1", "d")]
        tasks = [asyncio.create_task(batcher.submit(*job)) for job in some]
        await asyncio.sleep(0.01)
        with pytest.raises(RequestError, match="6 requests are waiting"):
            await batcher.submit("e1")
        tasks[4].cancel()  # a client that has gone
        free.set()
        results = await asyncio.gather(first, *tasks, return_exceptions=True)
        await batcher.close()
        return results

    results = asyncio.run(main())
    assert calls == [["a1"], ["a2", "b1", "bad", "c1"], ["a3", "d1"]]
    assert [r for r in results if isinstance(r, str)] == ["A1", "A2", "A3", "B1", "D1"]
    assert isinstance(results[4], RequestError)


def test_a_job_that_fails_as_none_should_fails_no_other():
    calls = []

    def run(jobs):
        calls.append(list(jobs))
        if "bad" in jobs:
            raise MemoryError
        return [job.upper() for job in jobs]

    async def main():
        batcher = Batcher(run, batch=8, waiting=8)
        results = await asyncio.gather(
            *(batcher.submit(job, job) for job in ("a", "bad", "b")), return_exceptions=True
        )
        await batcher.close()
        return results

    first, bad, last = asyncio.run(main())
    assert (first, type(bad), last) == ("A", MemoryError, "B")
    assert calls == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]


@pytest.mark.parametrize("name", ["net", "months"])
def test_no_sequence_has_stepped_when_a_call_fails(client, paths, name, monkeypatch):
    """Jobs of a batch are run once more, alone: what had stepped would step twice."""
    served = client.app.state.served[name].what
    inputs = [x_input(np.ones((1, 1, 3)))] if name == "net" else rows([90.0])
    for id in ("a", "b"):
        infer(client, name, inputs, sequence_id=id, sequence_start=True, unique_id="s1")
    before = served.sequences.states()
    call, made = ("advance", []) if name == "net" else ("forecast", [1])
    whole = getattr(served.model, call)

    def fails(*given, **named):
        made.append(1)
        if len(made) == 2:
            raise MemoryError
        return whole(*given, **named)

    monkeypatch.setattr(served.model, call, fails, raising=False)
    long = [x_input(np.ones((1, 2, 3)))] if name == "net" else rows([90.0, 91.0])
    jobs = []
    for id, some in (("a", inputs), ("b", long)):
        tree = {"inputs": some, "parameters": {"sequence_id": id}}
        jobs.append(served.job(parse_infer(json.dumps(tree).encode(), Limits())))
    with pytest.raises(MemoryError):
        served.run(jobs)
    after = served.sequences.states()
    assert all(after[id] is before[id] for id in ("a", "b"))


def test_jobs_of_a_batch_get_what_they_get_alone(values, paths):
    """Different lengths, a start, an end, an error among them."""
    rng = np.random.default_rng(9)
    for name in ("net", "months"):
        alone, together = (create_app({name: paths[name]}).state.served[name].what for _ in range(2))
        for _ in range(3):
            jobs = []
            for s in range(6):
                parameters = {
                    "sequence_id": f"q{s}",
                    "sequence_start": f"q{s}" not in together.sequences,
                    "unique_id": f"s{s % 3}",
                }
                count = int(rng.integers(1, 4))
                inputs = (
                    [x_input(rng.normal(size=(1, count, 3)))]
                    if name == "net"
                    else rows(rng.uniform(90, 110, count))
                )
                if s == 4:
                    parameters |= {"sequence_id": "lost", "sequence_start": False}
                jobs.append(
                    together.job(
                        parse_infer(
                            json.dumps({"inputs": inputs, "parameters": parameters}).encode(), Limits()
                        )
                    )
                )
            got, wanted = together.run(jobs), [alone.run([job])[0] for job in jobs]
            for a, b in zip(got, wanted, strict=True):
                assert type(a) is type(b)
                if not isinstance(a, RequestError):
                    a, b = (a, b) if name == "net" else (a.mean, b.mean)
                    np.testing.assert_allclose(a, b, rtol=1e-5)
            assert isinstance(got[4], RequestError)
