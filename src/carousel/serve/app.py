"""The addresses of the server: what each takes is parsed elsewhere, what each refuses is `{"error": reason}`."""

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import carousel
from carousel.errors import ArgumentError, CarouselError
from carousel.serve.limits import Limits
from carousel.serve.metrics import Metrics
from carousel.serve.protocol import (
    RequestError,
    Sequence,
    parse_id,
    parse_infer,
    parse_json,
    parse_sequence,
)
from carousel.serve.served import VERSION, Served

__all__ = ["create_app", "save_states"]

_FAILED = "the server failed at this request, of which its log says more."
_AT_ONCE = 64  # messages of one WebSocket that are being answered
_LOG = logging.getLogger("carousel.serve")
_LISTED = 200  # series, and sequences, that the page can choose from
_PAGE = Path(__file__).with_name("page.html")
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def create_app(
    models: Mapping[str, str | os.PathLike[str]],
    *,
    limits: Limits | None = None,
    state: str | os.PathLike[str] | None = None,
) -> FastAPI:
    """An application that serves model files.

    Args:
        models: paths by name.
        limits: of the clients.
        state: directory where the states of the sequences are kept from a stop to the next start; a server that
            runs has no file there. What could not be saved at the stop is told by `app.state.unsaved`, sentences.

    Raises:
        ArgumentError: no model, or a name that no address can have.
        FormatError: a file is no model, or the states are of another one.
        UnsupportedError: a forecaster that reads a covariate called `y` or `ds`.
        OSError: the system could not read, or there can be no file in `state`.
    """
    limits, metrics = limits or Limits(), Metrics()
    for name in models:
        if not name or not all(c.isalnum() or c in "-_." for c in name) or name[0] == ".":
            raise ArgumentError(f"A model's name must be letters, digits, '-', '_' and '.', got {name!r}.")
    if not models:
        raise ArgumentError("`models` must name at least one model.")
    served = {name: Served(name, path, limits, metrics, state) for name, path in models.items()}
    metrics.watch({name: one.what.sequences for name, one in served.items()})

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for one in served.values():
            one.open()
        sweeper = asyncio.create_task(_sweep(served, limits))
        yield
        sweeper.cancel()
        for one in served.values():
            with _told(app, one):
                await one.close()

    app = FastAPI(title="carousel", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.served, app.state.limits, app.state.metrics = served, limits, metrics
    app.state.unsaved = []  # what went wrong when it stopped
    app.add_middleware(_Stopping)
    _add_errors(app)
    _add_server(app)
    _add_models(app)
    _add_page(app)
    return app


def save_states(app: FastAPI) -> None:
    """Saves what a server that stopped in a hurry, without the end of the application's lifespan, did not."""
    for one in app.state.served.values():
        with _told(app, one):
            one.save()


@contextmanager
def _told(app: FastAPI, one: Served) -> Iterator[None]:
    """States that cannot be saved are told in `app.state.unsaved`: those of the others are saved nevertheless."""
    try:
        yield
    except (CarouselError, OSError) as error:
        app.state.unsaved.append(f"the states of {one.name!r} were not saved: {error}")


async def _sweep(served: Mapping[str, Served], limits: Limits) -> None:
    """Idle sequences are forgotten when a request comes by; this is for when none does."""
    while True:
        await asyncio.sleep(min(limits.idle / 4, 60.0))
        for one in served.values():
            one.what.sequences.evict()


class _Stopping:
    """What the server cancels when it stops in a hurry is answered 503, and ends the lifespan, without a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        async def received() -> Message:
            try:
                return await receive()
            except asyncio.CancelledError:
                if scope["type"] != "lifespan":
                    raise
                return {"type": "lifespan.shutdown"}

        try:
            await self._app(scope, received, sent)
        except asyncio.CancelledError:
            if scope["type"] == "http" and not begun:
                await JSONResponse({"error": "the server is stopping."}, 503)(scope, receive, send)


def _add_errors(app: FastAPI) -> None:
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError | HTTPException)
        status = error.status if isinstance(error, RequestError) else error.status_code
        text = str(error) if isinstance(error, RequestError) else str(error.detail)
        return JSONResponse({"error": text}, status, getattr(error, "headers", None))

    async def failed(_: Request, __: Exception) -> Response:  # and the server logs it
        return JSONResponse({"error": _FAILED}, 500)

    app.add_exception_handler(RequestError, refused)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(Exception, failed)


def _model(app: FastAPI, name: str, version: str = VERSION) -> Served:
    served: dict[str, Served] = app.state.served
    if name not in served:
        raise RequestError(f"the model {name[:60]!r} is not served; there are {', '.join(served)}.", 404)
    if version != VERSION:
        raise RequestError(f"the model {name!r} has version {VERSION} only, not {version[:20]!r}.", 404)
    return served[name]


async def _body(request: Request) -> bytes:
    """The body, never more of it than may be."""
    most = request.app.state.limits.body
    body = bytearray()
    if (coding := request.headers.get("content-encoding", "identity")) != "identity":
        raise RequestError(f"a body with Content-Encoding {coding[:40]} is not read: send it as it is.", 415)
    if "inference-header-content-length" in request.headers:
        raise RequestError("tensors must be JSON: the binary extension is not served.")
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise RequestError(f"the body has more than {most} bytes.", 413)
    except ClientDisconnect:
        raise RequestError("the client has gone before the end of the body.") from None
    return bytes(body)


def _add_server(app: FastAPI) -> None:
    @app.get("/v2")
    async def server() -> dict[str, Any]:
        return {"name": "carousel", "version": carousel.__version__, "extensions": ["sequence"]}

    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/v2/repository/index")
    async def index(request: Request) -> list[dict[str, str]]:
        return [{"name": name, "version": VERSION, "state": "READY"} for name in request.app.state.served]

    @app.get("/metrics")
    async def counted(request: Request) -> Response:
        return Response(request.app.state.metrics.text(), media_type=_PROMETHEUS)


def _add_models(app: FastAPI) -> None:
    @app.get("/v2/models/{name}")
    @app.get("/v2/models/{name}/versions/{version}")
    async def metadata(name: str, version: str = VERSION) -> dict[str, Any]:
        return _model(app, name, version).metadata()

    @app.get("/v2/models/{name}/ready")
    @app.get("/v2/models/{name}/versions/{version}/ready")
    async def ready(name: str, version: str = VERSION) -> dict[str, Any]:
        return {"name": _model(app, name, version).name, "ready": True}

    @app.post("/v2/models/{name}/infer")
    @app.post("/v2/models/{name}/versions/{version}/infer")
    async def infer(request: Request, name: str, version: str = VERSION) -> Response:
        status = 500
        try:
            model = _model(app, name, version)
            response = await model.infer(parse_infer(await _body(request), app.state.limits))
            status = 200
        except RequestError as error:
            status = error.status
            raise
        finally:
            app.state.metrics.answered(name if name in app.state.served else "", status)
        return JSONResponse(response)

    @app.websocket("/v2/models/{name}/stream")
    async def stream(socket: WebSocket, name: str) -> None:
        await socket.accept()
        try:
            model = _model(app, name)
        except RequestError as error:
            await socket.send_json({"error": str(error)})
            await socket.close(1008)
            return
        await _Conversation(socket, model, app.state.metrics).run()


class _Conversation:
    """A WebSocket: messages in, replies out, each sequence in the order of its messages.

    A message without `sequence_id` belongs to a sequence of the connection's own, which begins with the first one
    and ends with the connection.
    """

    def __init__(self, socket: WebSocket, model: Served, metrics: Metrics) -> None:
        self._socket, self._model, self._metrics = socket, model, metrics
        self._own, self._begun = f"connection-{secrets.token_hex(8)}", False
        self._free, self._turn = asyncio.Semaphore(_AT_ONCE), asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        try:
            while True:
                text = await self._next()
                await self._free.acquire()
                task = asyncio.create_task(self._answer(text))
                self._tasks.add(task)
                task.add_done_callback(self._done)
        except WebSocketDisconnect:
            pass
        finally:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._model.what.sequences.drop(self._own)

    async def _next(self) -> str | bytes:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        text: str | bytes | None = message.get("text")
        return message["bytes"] if text is None else text

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free.release()

    async def _answer(self, text: str | bytes) -> None:
        reply: dict[str, Any] = {}
        status = 200
        try:
            tree = parse_json(text)
            if (id := parse_id(tree)) is not None:
                reply["id"] = id
            sequence = parse_sequence(tree)
            if sequence is None:
                reply |= await self._own_step(tree)
            else:
                reply["sequence_id"] = tree["sequence_id"]
                reply |= await self._model.step(tree, sequence)
        except RequestError as error:
            status = error.status
            reply["error"] = str(error)
        except Exception:
            _LOG.exception("A message could not be answered.")
            status = 500
            reply["error"] = _FAILED
        self._metrics.answered(self._model.name, status)
        with suppress(WebSocketDisconnect, RuntimeError):  # it has gone meanwhile
            await self._socket.send_json(reply)

    async def _own_step(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to a message of the connection's own sequence, which begins with the first one that is served."""
        async with self._turn:
            sequences = self._model.what.sequences
            sequences.evict()
            known = self._own in sequences
            if self._begun and not known:
                self._begun = False
                raise RequestError(
                    "no message came for too long, and the sequence of this connection was forgotten; "
                    "the next message begins it anew.",
                    404,
                )
            reply = await self._model.step(tree, Sequence(self._own, start=not known))
            self._begun = True
            return reply


def _add_page(app: FastAPI) -> None:
    page = _PAGE.read_text(encoding="utf-8")

    @app.get("/")
    async def show() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

    @app.get("/page/models")
    async def listed() -> list[dict[str, Any]]:
        return [
            {
                "name": one.name,
                "platform": one.what.platform,
                "series": list(getattr(one.what, "series", ()))[:_LISTED],
                "fitted": len(getattr(one.what, "series", ())),
                "ahead": list(getattr(one.what, "ahead", ())),
                "beside": list(getattr(one.what, "beside", ())),
                "sequences": sorted(list(one.what.sequences.states())[-_LISTED:]),
                "held": len(one.what.sequences),
            }
            for one in app.state.served.values()
        ]

    @app.get("/page/models/{name}/recent")
    async def recent(name: str, series: str = "", sequence: str = "") -> dict[str, Any]:
        model = _model(app, name)
        if not hasattr(model.what, "recent"):
            raise RequestError(f"the model {name!r} is a network, which remembers no rows.")
        found: dict[str, Any] = model.what.recent(sequence or series, bool(sequence))
        return found


_POLICY = (
    "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self' ws: wss:"
)
