"""The command line: `carousel fit | forecast | backtest | report | stream | serve | convert | run | demo | bench`.

One file per command; each parses, calls one library function and prints. Only click is imported before a
command runs, so that `--help` answers at once. Results go to stdout, progress and remarks to stderr.

Exit codes: 0 done; 2 refused: one sentence says why, nothing is written; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import click

import carousel

__all__ = ["main"]

_REFUSED, _INTERRUPTED = 2, 130


class _Commands(click.Group):
    """A group whose commands are imported when they are named: `fit` is `carousel.cli.fit.fit`."""

    names = (
        "fit", "forecast", "backtest", "report", "stream", "serve", "convert", "run", "demo", "bench"
    )  # fmt: skip

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.names)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.names:
            return None
        command = getattr(import_module(f"carousel.cli.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except Exception as error:
            from carousel.errors import CarouselError

            command = self.get_command(context, context.invoked_subcommand or "")
            if isinstance(error, CarouselError) and command is not None:
                error.args = (_in_options(str(error), command),)
            raise


def _in_options(message: str, command: click.Command) -> str:
    """A message of the library, its arguments named as the options of a command, where it has them."""
    for option in command.params:
        if isinstance(option, click.Option) and (name := str(option.name)).isidentifier():
            said = max(option.opts, key=len)
            message = re.sub(rf"`{name}` = |\b{name}=(?=\d)", f"{said} ", message).replace(f"`{name}`", said)
    return message


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(carousel.__version__, "-V", "--version", prog_name="carousel")
@click.pass_context
def _carousel(context: click.Context) -> None:
    """Recurrent networks for series: from a CSV to an honest forecast.

    \b
    carousel demo                                  a first look, without data
    carousel fit data.csv --horizon 24 --out model  learn; see how good it is
    carousel forecast model --plot forecast.png    the next 24 rows
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs the command line and leaves with its exit code."""
    _open_closed()
    code = _run(arguments)
    try:
        sys.stdout.flush()
    except OSError:  # said already, or the reader, `head` say, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _open_closed() -> None:
    """A stream that the caller has closed (`>&-`) swallows what is written to it."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            setattr(sys, name, os.fdopen(descriptor, "w", closefd=False))


def _run(arguments: list[str] | None) -> int:
    try:
        return int(_carousel.main(arguments, prog_name="carousel", standalone_mode=False) or 0)
    except click.ClickException as error:
        return _refuse(error.format_message().replace(". Did you mean", "; did you mean"))
    except (click.Abort, KeyboardInterrupt):
        click.echo("carousel: stopped.", err=True)
        return _INTERRUPTED
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("carousel"):
            raise
        return _refuse(_missing(error.name))
    except OSError as error:
        return _refuse(_os_message(error))
    except MemoryError:
        return _refuse(
            "there is not enough memory; a smaller horizon or look-back, or fewer rows, would help"
        )
    except Exception as error:
        from carousel.errors import CarouselError

        if not isinstance(error, CarouselError):
            raise
        return _refuse(str(error))


def _refuse(message: str) -> int:
    """One sentence on stderr, in one line."""
    from carousel.errors import printable

    text = printable(" ".join(message.split())).rstrip(".")
    with suppress(OSError):  # a full disk behind stderr: the exit code must do
        click.echo(f"carousel: {text if text.endswith('?') else text + '.'}", err=True)
    return _REFUSED


def _os_message(error: OSError) -> str:
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"


def _missing(module: str) -> str:
    """What to install for a part that the base installation leaves out."""
    extras = {
        "matplotlib": "plot",
        "jinja2": "report",
        "h5py": "keras",
        "onnx": "onnx",
        "holidays": "holidays",
    }
    extras |= dict.fromkeys(("fastapi", "uvicorn", "starlette", "websockets", "prometheus_client"), "serve")
    extra = extras.get(module.partition(".")[0], "forecast")
    return f"this needs {module}, which is not installed: pip install 'carousel-rnn[{extra}]'"
