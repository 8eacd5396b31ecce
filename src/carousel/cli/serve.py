"""`carousel serve`: models over HTTP."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import click

from carousel.cli.options import Seconds, Whole

__all__ = ["serve"]


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

    Ctrl-C and SIGTERM finish what has begun and save --state; after a crash no sequence is known.
    """
    import uvicorn

    from carousel.cli.output import say
    from carousel.errors import ArgumentError
    from carousel.serve import Limits, create_app

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
        config = uvicorn.Config(
            app,
            log_level="warning",
            ws_max_size=max_body,
            ws_max_queue=64,
            timeout_graceful_shutdown=10,
            server_header=False,
        )
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # uvicorn raises it again when all is done
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            if not app.state.unsaved:
                raise
    for sentence in app.state.unsaved:
        say(f"carousel: {sentence}", err=True)
    if app.state.unsaved:
        sys.exit(1)


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
