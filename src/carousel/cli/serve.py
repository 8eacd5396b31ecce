"""`carousel serve`: models over HTTP."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from carousel.cli.options import Seconds, Whole

if TYPE_CHECKING:
    from types import FrameType

    import uvicorn
    from fastapi import FastAPI

__all__ = ["serve"]

_PATIENCE = 10  # seconds that requests have to finish after the first signal


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 for any free one."
)
@click.option("--state", metavar="DIRECTORY", help="Keep the sequences there from a stop to the next start.")
@click.option("--max-body", type=Whole(min=1), default=1 << 20, show_default=True, help="Bytes of a request.")
@click.option(
    "--max-sequences", type=Whole(min=1), default=10_000, show_default=True, help="Sequences of one model."
)
@click.option(
    "--idle",
    type=Seconds(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="Time after which a sequence without a step is forgotten.",
)
def serve(
    models: tuple[str, ...],
    host: str,
    port: int,
    state: str | None,
    max_body: int,
    max_sequences: int,
    idle: float,
) -> None:
    """Serve models by the Open Inference Protocol, version 2, with a state for each sequence.

    \b
    carousel serve load.carousel                   http://127.0.0.1:8000
    carousel serve load=v7.carousel sine.carousel  under names of your own

    Ctrl-C, SIGTERM and SIGHUP finish what has begun and save --state; a second Ctrl-C saves it at once. After a
    crash no sequence is known.
    """
    from carousel.cli.output import say
    from carousel.errors import ArgumentError
    from carousel.serve import Limits, create_app
    from carousel.serve.app import save_states

    if state is not None:
        if Path(state).exists() and not Path(state).is_dir():
            raise ArgumentError(f"--state must be a directory, but {state} is a file.")
        Path(state).mkdir(parents=True, exist_ok=True)
    limits = Limits(body=max_body, sequences=max_sequences, idle=idle)
    app = create_app(_paths(models), limits=limits, state=state)
    with _listening(host, port) as listening:
        address = listening.getsockname()
        names = ", ".join(app.state.served)
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        say(f"http://{shown}:{address[1]} serves {names}", err=True)
        server, signals = _server(app, max_body)
        try:
            server.run(sockets=[listening])
        finally:
            save_states(app)  # a second Ctrl-C skips the end of the application's lifespan
    for sentence in app.state.unsaved:
        say(f"carousel: {sentence}", err=True)
    if app.state.unsaved:
        sys.exit(1)
    if signal.SIGINT in signals:
        raise KeyboardInterrupt


def _server(app: FastAPI, max_body: int) -> tuple[uvicorn.Server, list[int]]:
    """The server, and the signals that it will have had.

    It has them from now on to the end of the process, so that none comes between its end and the saving of states.
    """
    import uvicorn

    from carousel.cli.output import say

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            signals.append(sig)
            super().handle_exit(sig, frame)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            if count := len(self.server_state.tasks):
                say(
                    f"carousel: waiting for {count} request{'s' * (count != 1)} or connections, {_PATIENCE} seconds "
                    "at most; Ctrl-C to stop now",
                    err=True,
                )
            await super().shutdown(sockets)

    signals: list[int] = []
    config = uvicorn.Config(
        app,
        log_level="warning",
        ws_max_size=max_body,
        ws_max_queue=64,
        timeout_graceful_shutdown=_PATIENCE,
        server_header=False,
    )
    server = Server(config)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, server.handle_exit)
    return server, signals


def _paths(models: tuple[str, ...]) -> dict[str, str]:
    """Paths by name: NAME=PATH, or the file's name without its suffix."""
    from carousel.errors import ArgumentError

    paths: dict[str, str] = {}
    for model in models:
        name, equals, path = model.partition("=")
        if not equals or Path(model).exists():
            name, path = Path(model).name.split(".")[0], model
        if name in paths:
            raise ArgumentError(f"Two models are called {name!r}; write NAME=PATH for one of them.")
        paths[name] = path
    return paths


def _listening(host: str, port: int) -> socket.socket:
    """A socket at the address.

    Raises:
        ArgumentError: it is taken, or none of this machine.
    """
    from carousel.errors import ArgumentError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ArgumentError(f"--host {host} --port {port} cannot be listened on: {reason}.") from None
