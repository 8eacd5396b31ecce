"""Models over HTTP: the Open Inference Protocol with sequences, a WebSocket, metrics and a page; without torch.

- `create_app(models)`: a FastAPI application; run it with `carousel serve`, or under any ASGI server with one worker,
  for the states of the sequences are in its memory;
- `Limits`: what a client may ask for.
"""

from carousel.serve.app import create_app
from carousel.serve.limits import Limits

__all__ = ["Limits", "create_app"]
