"""carousel.keras, tested by tests/keras_layers.py in a process whose Keras runs on torch."""

from importlib.util import find_spec
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
needs_keras = pytest.mark.skipif(
    find_spec("keras") is None, reason="Keras is not installed: pip install keras"
)


@needs_keras
def test_layers_under_keras(python):
    options = ["-q", "-p", "no:cacheprovider"]
    done = python("-m", "pytest", "keras_layers.py", *options, KERAS_BACKEND="torch", timeout=1800, threads=1)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "passed" in done.stdout


@needs_keras
def test_another_backend_is_refused(python):
    if find_spec("jax") is None:
        pytest.skip("jax is not installed, and the torch backend is the only one")
    done = python("-c", "import carousel.keras", KERAS_BACKEND="jax")
    assert (
        "carousel.keras runs under Keras's torch backend, got 'jax'; set KERAS_BACKEND=torch" in done.stderr
    )


def test_nothing_else_of_carousel_imports_keras(python):
    done = python("-c", "import sys, carousel.nn, carousel.interop.keras; print('keras' in sys.modules)")
    assert done.stdout == "False\n", done.stderr
