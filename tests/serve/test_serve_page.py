"""The page in a browser without a window, with a hand at its mouse; nothing of it runs where there is none."""

import asyncio
import json
import re
import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from carousel import network
from forecast_models import forecast_model
from serve_requests import infer, rows, saved, served_values

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")
testclient = pytest.importorskip("fastapi.testclient")
from fastapi.responses import HTMLResponse  # noqa: E402

from carousel.serve import create_app  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
HAND = """<pre id="result"></pre><script>
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
async function choose(id, value) { $(id).value = value; $(id).dispatchEvent(new Event("change")); await wait(500); }
async function click(form) { $(form).requestSubmit(); await wait(500); }
async function told(address) { await fetch(address, { method: "POST" }); }
const axis = () => [...document.querySelectorAll("svg text[text-anchor=end]")].slice(0, -1).map((t) => t.textContent);
const cells = () => [...$("table").rows].slice(1).map((tr) => [...tr.cells].slice(1).map((td) => td.textContent));
(async () => { await wait(500); $("result").textContent = JSON.stringify(await (async () => { %s })()); })();
</script>"""


@contextmanager
def served(app):
    """The application at an address of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def seen(app, script, tmp_path, **doings):
    """What `script`, the body of a JavaScript function that moves on the page, gives.

    Args:
        doings: what others do meanwhile, functions by the name that `told` asks for.
    """
    page = next(route for route in app.routes if getattr(route, "path", "") == "/").endpoint

    async def tried():
        return HTMLResponse((await page()).body.decode() + HAND % script)

    app.add_api_route("/try", tried)
    for name, doing in doings.items():
        app.add_api_route(f"/{name}", doing, methods=["POST"])
    with served(app) as address:
        command = [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'b'}",
        ]
        command += ["--virtual-time-budget=20000", "--window-size=390,1400", "--dump-dom", f"{address}/try"]
        dom = subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()
    (result,) = re.findall(r'<pre id="result">(.*?)</pre>', dom, re.DOTALL)
    return json.loads(result.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@pytest.fixture
def app(tmp_path):
    values = served_values()
    return create_app(saved({name: values[name] for name in ("months", "net")}, tmp_path))


def begun(app, id):
    """A sequence of another client."""
    client = testclient.TestClient(app)
    infer(client, "months", rows([90.0]), sequence_id=id, sequence_start=True, unique_id="s1")


def test_a_value_is_observed_in_the_sequence_that_was_chosen_or_in_none(app, tmp_path):
    sequences = app.state.served["months"].what.sequences
    for id in ("a", "b"):
        begun(app, id)
    others = sequences.get("b")
    first, before, after, disabled, note, again = seen(
        app,
        """
        const first = $("stream").value;
        await choose("stream", "live:a");
        $("value").value = "77";
        const before = $("stream").value;
        await told("end"); await wait(5000);
        $("observe").requestSubmit(); await wait(500);
        const gone = [$("stream").value, $("observe").querySelector("button").disabled, $("note").textContent];
        await choose("stream", "live:b");
        return [first, before, ...gone, $("observe").querySelector("button").disabled];
        """,
        tmp_path,
        end=lambda: sequences.drop("a"),
    )
    assert (first, before, after) == ("fitted:s0", "live:a", "live:a")
    assert (disabled, again) == (True, False)
    assert note == "The sequence a has ended, or was forgotten: choose another one."
    assert [*sequences.states()] == ["b"]
    assert sequences.get("b") is others


def test_a_value_for_a_fitted_series_begins_a_sequence_of_the_page(app, tmp_path):
    begun(app, "s1")
    others = app.state.served["months"].what.sequences.get("s1")
    chosen, said = seen(
        app,
        """
        await choose("stream", "fitted:s1"); $("value").value = "77"; await click("observe");
        return [$("stream").value, $("said").textContent];
        """,
        tmp_path,
    )
    name = chosen.removeprefix("live:")
    assert said == f"Observed 77 in {name}."
    assert re.fullmatch(r"page-\w+-s1", name)
    sequences = app.state.served["months"].what.sequences
    assert {*sequences.states()} == {"s1", name}
    assert sequences.get("s1") is others


def test_steps_go_on_after_the_server_forgot_them(app, tmp_path):
    table, said, after = seen(
        app,
        """
        await choose("model", "net"); $("features").value = "1,2,3";
        await click("step"); await click("step");
        const steps = $("steps").rows.length;
        await told("forget"); await click("step");
        const said = $("said").textContent; await wait(5000);
        if ($("said").textContent !== said) return "what is said of a click stays";
        await click("step");
        return [steps, said, $("steps").rows.length];
        """,
        tmp_path,
        forget=lambda: [app.state.served["net"].what.sequences.drop(id) for id in _names(app)],
    )
    assert (table, after) == (3, 2)
    assert said.endswith("begin it with `sequence_start`. The next step begins it anew.")


def _names(app):
    return [*app.state.served["net"].what.sequences.states()]


def test_what_is_said_of_a_model_with_covariates_goes_with_it(app, tmp_path):
    rng = np.random.default_rng(32)
    promo, _ = forecast_model(rng, length=400, promo=True)
    network.save(promo, tmp_path / "promo")
    both = create_app({"promo": tmp_path / "promo", "months": tmp_path / "months.carousel"})
    first, second = seen(
        both,
        """
        const first = $("note").textContent;
        await choose("model", "months"); return [first, $("note").textContent];
        """,
        tmp_path,
    )
    assert first == "Forecasts of this model come with requests that bring promo for the rows to come."
    assert second == ""


DRAWN = """
const K = %d, center = %r, scale = %r;
const y = [0, 1, 2, 1, null, 0, 1].map((v) => v === null ? v : center + scale * v);
const ds = y.map((_, t) => t), mean = [1, 1.1, 1.3, 1.2].slice(0, K).map((v) => center + scale * v);
const bounds = (m) => mean.map((v) => v + m * scale), lower = [...bounds(-1), ...bounds(-2)];
const found = { ds: mean.map((_, k) => k), mean, level: [80, 95], lower, upper: [...bounds(1), ...bounds(2)] };
chart({ ds, y, filled: false }, found, K); table(found, K);
"""


@pytest.mark.parametrize(
    ("center", "scale"), [(-123456.0, 3e3), (1.18e12, 1e9), (2.8e-8, 1e-9), (1e6, 0.5), (3e-8, 1e-12)]
)
def test_numbers_are_written_whole_and_with_the_digits_that_tell_them_apart(app, tmp_path, center, scale):
    marks, table, edge = seen(
        app,
        DRAWN % (4, center, scale)
        + """
        const left = document.querySelector("svg").getBoundingClientRect().left;
        const texts = [...document.querySelectorAll("svg text[text-anchor=end]")].slice(0, -1);
        return [axis(), cells(), Math.min(...texts.map((t) => t.getBoundingClientRect().left)) - left];
        """,
        tmp_path,
    )
    assert edge >= 0, "no digit is cut"
    assert len(set(marks)) == len(marks) >= 3
    steps = np.diff([float(mark.replace(",", "")) for mark in marks])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)
    assert table
    for forecast, *intervals in table:
        for interval in intervals:
            low, high = interval.split(" to ")
            assert low != forecast != high
            assert len({text.partition(".")[2] and len(text.partition(".")[2]) for text in (low, high)}) == 1


def test_a_horizon_of_one_step_is_seen(app, tmp_path):
    bands, point = seen(
        app,
        DRAWN % (1, 100.0, 1.0)
        + """
        const bands = [...document.querySelectorAll("svg path[stroke='var(--band)']")];
        const sizes = bands.map((p) => [p.getAttribute("stroke-width"), p.getBoundingClientRect().height]);
        return [sizes, document.querySelectorAll("svg circle").length];
        """,
        tmp_path,
    )
    assert [float(width) for width, _ in bands] == [12, 12]
    assert all(height > 20 for _, height in bands)
    assert point == 1


def test_a_page_that_cannot_list_all_says_so(app, tmp_path, monkeypatch):
    for id in "abc":
        begun(app, id)
    monkeypatch.setattr("carousel.serve.app._LISTED", 2)
    groups = seen(app, 'return [...document.querySelectorAll("optgroup")].map((g) => g.label);', tmp_path)
    assert groups == ["Live sequences (the last 2 of 3)", "Fitted series (the first 2 of 3)"]
