"""`carousel.save` and `carousel.load`: what they take, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest

import carousel
from carousel.errors import FormatError
from carousel.network import Dense, Network
from carousel.network import save as save_value


def test_a_network_there_and_back(tmp_path):
    network = Network((Dense(np.array([[1.0, -2.0]]), np.array([0.5]), "tanh"),))
    carousel.save(network, tmp_path / "model")
    assert carousel.load(tmp_path / "model") == network


def test_what_is_neither_network_nor_forecaster_is_refused(tmp_path):
    path = tmp_path / "part"
    save_value(Dense(np.eye(2)), path)
    with pytest.raises(FormatError) as caught:
        carousel.load(path)
    assert str(caught.value) == (
        f"{path}: it must hold a network or a forecaster, got the kind 'dense'; "
        "`carousel.network.load` reads it."
    )


def test_types_are_shipped() -> None:
    """Without the marker of PEP 561 a type checker ignores the package; the wheel takes what lies beside it."""
    package = Path(carousel.__file__).parent
    for name in ("py.typed", "_core.pyi", "data/airline.csv"):
        assert (package / name).is_file()
