"""`carousel run`: somebody's own script, its recurrent layers on our kernels."""

from __future__ import annotations

import atexit
import builtins
import io
import os
import runpy
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from types import ModuleType, TracebackType
from typing import Any

import click

__all__ = ["run"]

_FAILED, _INTERRUPTED = 1, 130


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-q", "--quiet", is_flag=True, help="Say nothing at the end.")
@click.option("-m", "as_module", is_flag=True, help="SCRIPT is the name of a module, as of python -m.")
@click.argument("script")
@click.argument("arguments", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
def run(quiet: bool, as_module: bool, script: str, arguments: tuple[str, ...]) -> None:
    """Run SCRIPT as `python SCRIPT ARGS...` would, with torch.nn's LSTM, GRU, RNN and cells on our kernels.

    \b
    carousel run train.py --epochs 10
    carousel run -m package.train --epochs 10

    Nothing in it needs to be changed. Layers keep their types, and subclasses of them their methods. A line on stderr
    says at the end what was accelerated, what was left to torch, and why.
    """
    from carousel.errors import UnsupportedError
    from carousel.importing import when_imported

    if find_spec("torch") is None:
        raise UnsupportedError("this needs torch, which is not installed: pip install 'carousel-rnn[torch]'")
    start = _module(script) if as_module else _program(script)
    # Not before the script imports torch: what it sets in the environment until then still counts.
    when_imported("torch", lambda _: _substitute(quiet))
    sys.argv = [script, *arguments]
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.getcwd() if as_module else os.path.dirname(os.path.realpath(script))
    _call(start)


def _module(name: str) -> Callable[[], Any]:
    """What runs the module as `__main__`."""
    from carousel.errors import ArgumentError

    sys.path.insert(0, os.getcwd())
    try:
        found = find_spec(name)
    except (ImportError, ValueError):  # not even what it is part of; ".."
        found = None
    finally:
        del sys.path[0]
    if found is None:
        raise ArgumentError(f"there is no module {name!r}; without -m, SCRIPT is a file.")
    return lambda: runpy.run_module(name, run_name="__main__", alter_sys=True)


def _program(script: str) -> Callable[[], Any]:
    """What runs the file as `__main__`, which it stays until the process ends."""
    path = os.path.abspath(script)
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        error.filename = script  # as the user wrote it
        raise

    def start() -> None:
        main = ModuleType("__main__")
        main.__dict__.update(__file__=path, __builtins__=builtins, __spec__=None)
        sys.modules["__main__"] = main
        exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)

    return start


def _substitute(quiet: bool) -> None:
    """What happens once torch is there."""
    from carousel.nn.substitution import substitute

    tally, process = substitute(), os.getpid()

    def report() -> None:
        if os.getpid() == process:  # not in a forked child
            with suppress(OSError, ValueError):  # stderr may be closed
                print(f"carousel: {tally}", file=sys.stderr)

    if not quiet:
        atexit.register(report)


def _call(start: Callable[[], Any]) -> None:
    """Runs the script; what it raises ends the process as Python would end it."""
    try:
        start()
    except SystemExit:
        raise
    except BaseException as error:
        found = error.with_traceback(_own(error.__traceback__))
        sys.excepthook(type(found), found, found.__traceback__)
        code = _INTERRUPTED if isinstance(error, KeyboardInterrupt) else _FAILED
    else:
        return
    sys.exit(code)


def _own(traceback: TracebackType | None) -> TracebackType | None:
    """From the first frame that is the script's."""
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") in (__name__, "runpy"):
        traceback = traceback.tb_next
    return traceback
