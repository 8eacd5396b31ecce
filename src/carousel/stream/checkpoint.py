"""What a stream needs to go on after its process has ended: the states, and what is in them."""

from __future__ import annotations

from dataclasses import dataclass

from carousel.errors import FormatError
from carousel.network import Texts, document
from carousel.series.history import Context
from carousel.stream.network import State

__all__ = ["Checkpoint"]


@document("stream.checkpoint", since=2)
@dataclass(frozen=True)
class Checkpoint:
    """States of B streams of one model; `carousel.network.save` writes it atomically.

    Args:
        model: SHA-256 of the model's file, in hexadecimal digits.
        ids: (B,) names of the streams.
        state: of all of them; None of none.
        lines: of the input, all that the states hold.
        digest: of these lines.
        written: bytes of the output file that answer these lines; stdout does not count.
    """

    model: str
    ids: Texts
    state: Context | State | None
    lines: int = 0
    digest: str = ""
    written: int = 0

    def __post_init__(self) -> None:
        state = self.state
        if state is None:
            sizes = {0}
        elif isinstance(state, State):
            sizes = {len(h) for h in state.h} | {len(c) for c in state.c if c is not None} or {len(self.ids)}
        else:
            sizes = {len(state)}
        if sizes != {len(self.ids)} or len(set(self.ids)) != len(self.ids):
            raise FormatError(f"a checkpoint of {len(self.ids)} streams must have a state for each.")
        if self.lines < 0 or self.written < 0:
            raise FormatError("a checkpoint: `lines` and `written` must be at least 0.")

    def states(self) -> dict[str, Context] | dict[str, State]:
        """The state of each stream, a batch of one."""
        return {name: self.state[[b]] for b, name in enumerate(self.ids) if self.state is not None}  # type: ignore[return-value]

    @staticmethod
    def joined(states: dict[str, Context] | dict[str, State]) -> Context | State | None:
        """The states of all streams as one."""
        parts = list(states.values())
        if not parts:
            return None
        return State.join(parts) if isinstance(parts[0], State) else Context.join(parts)  # type: ignore[arg-type]
