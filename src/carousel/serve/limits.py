"""What a client may ask of the server."""

from dataclasses import dataclass, fields

from carousel.errors import ArgumentError

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What a client may ask for; what is more is refused with the reason.

    Args:
        body: bytes of a request or a message.
        elements: numbers of one tensor.
        steps: steps of a sequence in one request.
        sequences: of one model, held at a time.
        waiting: requests of one model that wait for the kernel.
        batch: sequences in one call of the kernel.
        idle: seconds after which a sequence without a step is forgotten.
    """

    body: int = 1 << 20
    elements: int = 1 << 18
    steps: int = 4096
    sequences: int = 10_000
    waiting: int = 4096
    batch: int = 256
    idle: float = 3600.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ArgumentError(f"`{field.name}` must be a number above 0, got {value!r}.")
