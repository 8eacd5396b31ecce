"""A stream of rows from beginning to end: read, answered, written, and kept so that a killed one goes on.

The state is saved after what it holds has been written. A process that is killed in between has written more
than its state says: started again, it answers these rows once more, with the same lines, which carry the number
of their row. Where the output is a file of ours, it is first cut back to what the state says: then every row is
answered exactly once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from typing import Any

from carousel import network
from carousel.errors import CarouselError, DataError, FormatError
from carousel.stream.checkpoint import Checkpoint
from carousel.stream.lines import Lines
from carousel.stream.output import Output
from carousel.stream.rows import ForecasterRows, NetworkRows

__all__ = ["Follower", "resumed"]

_LONGEST = 3600.0  # seconds of a wait that nothing ends


class Follower:
    """Takes the lines of `lines` through `rows` to `output`.

    Args:
        rows: of the model; its states are those of `checkpoint`.
        lines: the input, from its first line on.
        output: where the answers go.
        checkpoint: where to go on; lines that it holds are read and not answered.
        path: file of the state; None keeps none.
        every: seconds after which a changed state is saved.
        report: is called with a remark and the number of its line, 0 for none.
    """

    def __init__(
        self,
        rows: NetworkRows | ForecasterRows,
        lines: Lines,
        output: Output,
        checkpoint: Checkpoint,
        *,
        path: str | None,
        every: float,
        report: Callable[[str, int], None],
    ) -> None:
        self._rows, self._lines, self._output, self._path = rows, lines, output, path
        self._every, self._report = every, report
        self._kept, self._digest = checkpoint, blake2b(digest_size=32)
        self._number, self._saved = 0, time.monotonic()
        self._headless = True  # until the first line has been looked at

    def run(self, stopped: Callable[[], bool]) -> None:
        """Until the input ends, its reader has gone, or `stopped()`; the state is saved then.

        Raises:
            DataError: the input is not the one that the state comes from, or a header without the columns.
            OSError: the system could not read or write.
        """
        try:
            self._follow(stopped)
        except OSError:
            with suppress(OSError):  # what went wrong first is said
                self._save()
            raise
        except BaseException:
            self._save()
            raise
        self._save()

    def _follow(self, stopped: Callable[[], bool]) -> None:
        while not stopped():
            lines = self._lines.read(self._patience())
            if lines is None:
                self._check_resumed()
                break
            if not all(self._take(line) for line in lines if not stopped()):
                break
            if self._patience() <= 0:
                self._save()
        self._output.open()  # a file that is there, even where no row was answered

    def _take(self, line: bytes) -> bool:
        """One line of the input; False if nobody reads the output any more."""
        number, before = self._number + 1, self._digest.copy()
        self._digest.update(len(line).to_bytes(8, "little") + line)
        header = self._headless and bool(line.strip()) and self._looked_at(number, line)
        if number <= self._kept.lines:
            self._number = number
            self._rows.passed(line)
            if number == self._kept.lines:
                self._check_digest()
            return True
        row = not header and (bool(line.strip()) or (not self._headless and self._rows.takes_blanks))
        if row and not self._answered(number, line):
            self._digest = before
            return False
        self._number = number
        return True

    def _looked_at(self, number: int, line: bytes) -> bool:
        """Whether the first line that is not blank is a header."""
        header, self._headless = self._rows.first(line), False
        goes_on = self._kept.ids and not self._kept.lines
        if goes_on and not header and (order := self._rows.order):
            self._report(f"it is no header: columns are read as {order}.", number)
        return header

    def _answered(self, number: int, line: bytes) -> bool:
        try:
            answer = self._rows.answer(number, line)
        except CarouselError as error:
            self._report(f"{str(error).rstrip('.')}; the row is left out.", number)
            return True
        if answer.remark:
            self._report(f"{answer.remark}.", number)
        if not self._output.write(answer.text.encode() + b"\n"):
            return False
        self._rows.keep(answer)
        return True

    def _patience(self) -> float:
        """Seconds until the state must be saved."""
        if self._path is None or self._number <= self._kept.lines:
            return _LONGEST
        return self._saved + self._every - time.monotonic()

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self._path is None or self._number <= self._kept.lines:
            return
        self._output.sync()
        states: Any = self._rows.states
        self._kept = Checkpoint(
            model=self._kept.model,
            ids=tuple(states),
            state=Checkpoint.joined(states),
            lines=self._number,
            digest=self._digest.hexdigest(),
            written=self._output.written,
        )
        network.save(self._kept, self._path)

    def _check_digest(self) -> None:
        if self._digest.hexdigest() != self._kept.digest:
            raise DataError(
                f"The first {self._kept.lines} lines of the input are not those that the state holds; "
                "give the same input again, or say --continue where it goes on after them."
            )

    def _check_resumed(self) -> None:
        if self._number < self._kept.lines:
            raise DataError(
                f"The input ends at line {self._number}, before line {self._kept.lines} of the state; "
                "give the same input again, or say --continue where it goes on after them."
            )


def resumed(path: str, model: str, goes_on: bool) -> Checkpoint:
    """The checkpoint at `path`; an empty one where there is no file.

    Args:
        model: SHA-256 of the model's file.
        goes_on: the input begins after the lines that the state holds, and is counted anew.

    Raises:
        FormatError: the file is no checkpoint, or one of another model.
    """
    kept: Any = Checkpoint(model, (), None)
    with suppress(FileNotFoundError):
        kept = network.load(path)
    if not isinstance(kept, Checkpoint):
        raise FormatError(f"{path} is not the state of a stream, but {type(kept).__name__}.")
    if kept.model != model:
        raise FormatError(f"{path} is the state of another model; give a new file, or the model of old.")
    if goes_on:
        return Checkpoint(model, kept.ids, kept.state, written=kept.written)
    return kept
