"""What all tests of the server serve, and a client of it."""

import pytest

from serve_requests import saved, served_values


@pytest.fixture(scope="module")
def values():
    """Networks and a forecaster, by name."""
    return served_values()


@pytest.fixture(scope="module")
def paths(values, tmp_path_factory):
    """Their files."""
    return saved(values, tmp_path_factory.mktemp("models"))


@pytest.fixture
def client(paths):
    testclient = pytest.importorskip("fastapi.testclient")
    from carousel.serve import create_app

    with testclient.TestClient(create_app(paths)) as client:
        yield client
