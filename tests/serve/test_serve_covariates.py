"""The server and covariates: past and future ones, of a request and of a message, alone and in a batch."""

import re
from dataclasses import replace

import numpy as np
import pytest

from carousel import network, stream
from carousel.errors import UnsupportedError
from forecast_models import forecast_model
from serve_requests import infer, rows, x_input

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")
testclient = pytest.importorskip("fastapi.testclient")

from carousel.serve import Limits, create_app  # noqa: E402
from carousel.serve.forecaster import ServedForecaster  # noqa: E402
from carousel.serve.protocol import InferRequest, Sequence  # noqa: E402


@pytest.fixture
def shop(tmp_path):
    """A model that reads covariates, past and future ones, numbers and categories; and a client of it."""
    pytest.importorskip("holidays")
    rng = np.random.default_rng(32)
    model, _ = forecast_model(rng, freq="D", season=7, lookback=21, horizon=3, length=60, beside=True)
    network.save(model, tmp_path / "model")
    with testclient.TestClient(create_app({"shop": tmp_path / "model"})) as client:
        yield stream.Model(model), client


def beside(news, mood, promo, open_):
    def of(name, datatype, data):
        return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}

    return [
        of("news", "FP64", news), of("mood", "BYTES", mood), of("promo", "FP64", promo), of("shop", "BYTES", open_),
    ]  # fmt: skip


def test_covariates_come_with_the_rows(shop):
    """Past ones of the rows, future ones of the rows and the next K: the numbers of the library."""
    model, client = shop
    assert [i["name"] for i in client.get("/v2/models/shop").json()["inputs"]] == [
        "y",
        "ds",
        "news",
        "mood",
        "promo",
        "shop",
    ]
    promo, open_ = [1.0, 0.0, 2.0, 3.0, 1.0], ["open", "none", "open", "open", "none"]
    inputs = [*rows([101.0, None]), *beside([2.0, None], ["good", "bad"], promo, open_)]
    answer = infer(client, "shop", inputs, sequence_id="a", sequence_start=True, unique_id="s1")
    state = model.start(["s1"])
    for n, y in enumerate((101.0, np.nan)):
        given = {
            "news": [(2.0, np.nan)[n]],
            "mood": [("good", "bad")[n]],
            "promo": promo[n : n + 1],
            "shop": open_[n : n + 1],
        }
        state = model.observe(state.next, [y], state, given)
    wanted = model.forecast(state, future={"promo": [promo[2:]], "shop": [open_[2:]]})
    np.testing.assert_allclose(answer["mean"], wanted.mean[0])
    again = infer(client, "shop", beside([], [], promo[2:], open_[2:]), sequence_id="a")
    np.testing.assert_array_equal(again["mean"], answer["mean"])
    with client.websocket_connect("/v2/models/shop/stream") as socket:
        covariates = {"news": 2.0, "mood": "good", "promo": promo[:4], "shop": open_[:4]}
        socket.send_json({"y": 101.0, "unique_id": "s1", "covariates": covariates})
        got = socket.receive_json()["carousel"]
    state = model.observe(
        model.start(["s1"]).next, [101.0], model.start(["s1"]),
        {"news": [2.0], "mood": ["good"], "promo": promo[:1], "shop": open_[:1]},
    )  # fmt: skip
    np.testing.assert_allclose(
        got, model.forecast(state, future={"promo": [promo[1:4]], "shop": [open_[1:4]]}).mean[0]
    )


@pytest.mark.parametrize(
    ("categories", "spellings"),
    [
        (("none", "open"), ["open", " open", "open "]),
        (("false", "true"), ["true", "True", "TRUE"]),
        (("1", "2"), ["2", "2.0", "+2"]),
    ],
)
def test_categories_are_what_they_are_in_the_library(shop, tmp_path, categories, spellings):
    """As texts, however they are spelt; one that is unknown, or missing in a row, is none of them."""
    value = shop[0].value
    columns = tuple(
        replace(column, categories=categories) if column.name == "shop" else column
        for column in value.covariates.columns
    )
    network.save(replace(value, covariates=replace(value.covariates, columns=columns)), tmp_path / "m")
    model = stream.load(tmp_path / "m")
    first, second = categories
    with testclient.TestClient(create_app({"m": tmp_path / "m"})) as client:
        for spelt, own in [(text, second) for text in spellings] + [("hail", "hail"), ("", None)]:
            state = model.start(["s1"])
            given = {"news": [2.0], "mood": ["good"], "promo": [1.0], "shop": [own]}
            state = model.observe(state.next, [101.0], state, given)
            coming = [own or first, first, second]
            wanted = model.forecast(state, future={"promo": [[1.0] * 3], "shop": [coming]}).mean[0]
            texts = [spelt, spelt or first, first, spellings[-1]]
            inputs = [*rows([101.0]), *beside([2.0], ["good"], [1.0] * 4, texts)]
            begin = {"sequence_id": "a", "sequence_start": True, "unique_id": "s1"}
            np.testing.assert_allclose(infer(client, "m", inputs, **begin)["mean"], wanted)
            with client.websocket_connect("/v2/models/m/stream") as socket:
                given = {"news": 2.0, "mood": "good", "promo": [1.0] * 4, "shop": [spelt or None, *texts[1:]]}
                socket.send_json({"y": 101.0, "unique_id": "s1", "covariates": given})
                np.testing.assert_allclose(socket.receive_json()["carousel"], wanted)


def test_truth_values_are_taken_as_numbers_and_as_categories(shop, tmp_path):
    """And null among texts is a missing one."""
    value = shop[0].value
    columns = tuple(
        replace(column, categories=("false", "true")) if column.name == "shop" else column
        for column in value.covariates.columns
    )
    network.save(replace(value, covariates=replace(value.covariates, columns=columns)), tmp_path / "m")
    begin = {"sequence_id": "a", "sequence_start": True, "unique_id": "s1"}
    with testclient.TestClient(create_app({"m": tmp_path / "m"})) as client:

        def answer(promo, open_, kinds, mood):
            given = beside([None], mood, promo, open_)
            for one, kind in zip(given[2:], kinds, strict=True):
                one["datatype"] = kind
            return infer(client, "m", [*rows([101.0]), *given], **begin)["mean"]

        truth = [True, False, False, True]
        texts = ["true", "false", "false", "true"]
        wanted = answer([1.0, 0.0, 0.0, 1.0], texts, ("FP64", "BYTES"), [""])
        np.testing.assert_array_equal(answer(truth, truth, ("BOOL", "BOOL"), [None]), wanted)
        first = [None, *texts[1:]]
        wanted = answer([1.0, 0.0, 0.0, 1.0], ["", *texts[1:]], ("FP64", "BYTES"), ["good"])
        np.testing.assert_array_equal(answer(truth, first, ("BOOL", "BYTES"), ["good"]), wanted)
        with client.websocket_connect("/v2/models/m/stream") as socket:
            given = {"news": None, "mood": "good", "promo": truth, "shop": [None, *truth[1:]]}
            socket.send_json({"y": 101.0, "unique_id": "s1", "covariates": given})
            np.testing.assert_array_equal(socket.receive_json()["carousel"], wanted)
    given = [*beside([], [], [1.0] * 3, ["open"] * 3)]
    given[3] |= {"datatype": "INT64", "data": [1, 2, 3]}
    said = infer(shop[1], "shop", given, 400, unique_id="s1")
    assert said == (
        "the covariate 'shop' must be texts (BYTES) or truth values (BOOL), or null where missing."
    )
    times = {"name": "ds", "datatype": "BYTES", "shape": [1], "data": [None]}
    bad = [*rows([1.0]), times, *beside([1.0], ["good"], [1.0] * 4, ["open"] * 4)]
    assert "`ds`: the time must be as in" in infer(shop[1], "shop", bad, 400, **begin)


@pytest.mark.parametrize("text", ["", " ", "<NA>"])
def test_a_category_to_come_that_is_blank_is_refused_and_spoils_no_other_request(shop, text):
    model, client = shop
    given = beside([], [], [1.0] * 3, ["open", text, "open"])
    said = infer(client, "shop", given, 400, unique_id="s0")
    assert said == "the covariate 'shop' must be known for all of the 3 next rows."
    served = ServedForecaster(model, Limits())
    inputs = [
        {"promo": np.ones(3), "shop": np.array(["open", shop, "open"], object)} for shop in (text, "open")
    ]
    jobs = [served.job(InferRequest(None, one, {"unique_id": "s0"}, None)) for one in inputs]
    refused, forecast = served.run(jobs)
    assert str(refused) == said
    assert forecast.mean.shape == (1, 3)


def test_rows_of_several_sequences_with_covariates_share_a_call(shop):
    """However many rows each brings: what each would get alone."""
    model, _ = shop
    served = ServedForecaster(model, Limits())
    rng = np.random.default_rng(33)
    jobs, alone = [], []
    for k, n in enumerate((2, 0, 3)):
        inputs = {
            "y": rng.normal(100, 5, n), "news": rng.normal(size=n), "promo": rng.normal(size=n + 3),
            "mood": np.array(["good"] * n, object), "shop": np.array(["open", "none"] * 3, object)[: n + 3],
        }  # fmt: skip
        sequence = Sequence(f"q{k}", start=True)
        jobs.append(served.job(InferRequest(None, inputs, {"unique_id": f"s{k}"}, sequence)))
        alone.append(ServedForecaster(model, Limits()).run(jobs[-1:])[0].mean)
    for result, mean in zip(served.run(jobs), alone, strict=True):
        np.testing.assert_allclose(result.mean, mean, rtol=1e-9)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], r"'news' must have shape \(1,\), a value for each of 1 row, got none"),
        (beside([1.0], ["good"], [1.0], ["open"]), r"\(4,\), a value for each of 1 row and the 3 next ones, got \[1\]"),
        (beside([1.0], ["good"], [1.0] * 3 + [None], ["open"] * 4), r"'promo' must be known for all of the 3"),
        ([*beside([1.0], ["good"], [1.0] * 4, ["open"] * 4), x_input([1.0])], "'ds' and 'news', 'mood', 'promo'"),
    ],
)  # fmt: skip
def test_covariates_that_do_not_fit(shop, given, said):
    _, client = shop
    error = infer(
        client, "shop", [*rows([100.0]), *given], 400, sequence_id="b", sequence_start=True, unique_id="s0"
    )
    assert re.search(said, error), error


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"news": "high"}, "'news' must be finite numbers"),
        ({"news": 10**400}, "'news' must be finite numbers"),
        ({"news": 1e200}, "the square of the covariate 'news', 1e\\+200, is beyond"),
        ({"mood": 3}, r"'mood' must be texts \(BYTES\) or truth values \(BOOL\), or null"),
        ({"weather": 3}, r"`covariates` must be of news, mood, promo, shop, got 'weather'"),
        ({"promo": [[1], [2], [3], [4]]}, r"'promo' must have shape \(4,\)"),
    ],
)
def test_covariates_of_a_message_that_do_not_fit(shop, change, said):
    _, client = shop
    covariates = {"news": 2.0, "mood": "good", "promo": [1.0] * 4, "shop": ["open"] * 4} | change
    with client.websocket_connect("/v2/models/shop/stream") as socket:
        socket.send_json({"y": 101.0, "unique_id": "s1", "covariates": covariates})
        assert re.search(said, socket.receive_json()["error"])
        socket.send_json({"y": 101.0, "unique_id": "s1", "covariates": 3})
        assert "`covariates` must be an object" in socket.receive_json()["error"]


def test_a_covariate_called_as_the_rows_are_is_refused(tmp_path):
    model, _ = forecast_model(np.random.default_rng(34), length=400, promo=True)
    paths = model.covariates
    model = replace(model, covariates=replace(paths, columns=(replace(paths.columns[0], name="y"),)))
    network.save(model, tmp_path / "model")
    with pytest.raises(UnsupportedError, match=r"cannot take a covariate called 'y'"):
        create_app({"promo": tmp_path / "model"})
