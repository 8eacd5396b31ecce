"""Threads share the batches of a training; what is learned does not depend on how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from carousel import Forecaster

torch = pytest.importorskip("torch")

from carousel.forecast import recurrent_fit, training  # noqa: E402
from carousel.forecast.checkpoint import Trainings  # noqa: E402
from carousel.forecast.session import Session  # noqa: E402
from carousel.forecast.training import PART, Batch, Loop, huber, train  # noqa: E402
from carousel.network.checkpoint import Checkpoint  # noqa: E402

ROWS = 4 * PART


@pytest.fixture
def threads() -> Iterator[Any]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def learned(divided: bool, draws: bool = False) -> tuple[list[np.ndarray[Any, Any]], float]:
    """Weights after two epochs of a line, of which every row but some was observed, and the last loss."""
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.normal(size=(ROWS, 3)).astype(np.float32))
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3
    observed = torch.from_numpy(
        (rng.random((ROWS, 1)) < np.linspace(0.05, 1, ROWS)[:, None]).astype(np.float32)
    )

    def load(rows: np.ndarray[Any, Any], rng: np.random.Generator) -> Batch:
        noise = torch.from_numpy(rng.normal(size=(len(rows), 3)).astype(np.float32)) if draws else 0.0
        return Batch((x[rows] + noise,), y[rows], observed[rows])

    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    session = Session(lambda _: None, Trainings(None, Checkpoint("", "", "", ())))
    run = train(
        net, load, ROWS, [], Loop(2, 3 * PART, 0.01, 4, seed=0, divided=divided), False, session, huber
    )
    return [p.detach().numpy() for p in net.parameters()], run.history[-1]["train"]


def test_a_divided_batch_has_the_gradient_of_the_whole() -> None:
    """Its mean is over what was observed, of which the parts have different shares."""
    (whole, loss), (divided, other) = learned(False), learned(True)
    assert other == pytest.approx(loss, rel=1e-5)
    for a, b in zip(whole, divided, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_the_parts_of_a_batch_draw_their_own_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    parts = training._parts

    def watched(*arguments: Any) -> Any:
        seen.append(parts(*arguments))
        return seen[-1]

    monkeypatch.setattr(training, "_parts", watched)
    first, again = learned(True, draws=True), learned(True, draws=True)
    assert all((a == b).all() for a, b in zip(first[0], again[0], strict=True))
    assert {len(part) for part in seen} == {3}
    drawn = [rng.bit_generator.state["state"]["state"] for part in seen for _, rng in part]
    assert len(set(drawn)) == len(drawn) // 2, "two runs draw the same, and nothing twice"


@pytest.mark.parametrize(
    ("rows", "parts"), [(63, [63]), (64, [32, 32]), (255, [128, 127]), (256, [128] * 2), (700, [140] * 5)]
)
def test_a_batch_is_divided_in_parts_that_are_worth_a_thread(rows: int, parts: list[int]) -> None:
    for divided, expected in ((True, parts), (False, [rows])):
        loop = Loop(1, rows, 0.01, 1, seed=0, divided=divided)
        found = [part for part, _ in training._parts(np.arange(rows), loop, (1, 1))]
        assert [len(part) for part in found] == expected
        np.testing.assert_array_equal(np.concatenate(found), np.arange(rows))


def test_a_batch_without_an_observed_row_changes_nothing() -> None:
    net = torch.nn.Linear(2, 1)
    batch = Batch((torch.ones(PART, 2),), torch.ones(PART, 1), torch.zeros(PART, 1))
    parts = [(np.arange(PART), np.random.default_rng(k)) for k in range(2)]
    assert training._gradient(net, huber, lambda rows, rng: batch, parts) == 0
    assert all((p.grad == 0).all() for p in net.parameters())


@pytest.mark.parametrize("architecture", ["auto", "plain", "deepar"])
def test_same_bits_for_any_number_of_threads(
    architecture: str, threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurrent_fit, "DIVIDED", 1)
    rng = np.random.default_rng(4)
    y = np.sin(np.arange(2600) / 3) + rng.normal(size=2600).cumsum() / 5 + 30
    found = []
    for count in (1, 3):
        threads(count)
        model = Forecaster(
            2, season=4, lookback=16, architecture=architecture, epochs=1, hidden_size=4, progress=False
        )
        found.append((model.fit(y).history_, model.model_))
        assert torch.get_num_threads() == count
    assert found[0] == found[1]


def test_what_a_thread_raises_is_raised(threads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C is the main thread's; an error of a part ends the fit."""
    monkeypatch.setattr(recurrent_fit, "DIVIDED", 1)
    threads(2)

    def broken(*_: Any) -> Any:
        raise MemoryError("no more")

    monkeypatch.setattr(recurrent_fit, "segments", broken)
    with pytest.raises(MemoryError, match="no more"):
        Forecaster(2, season=4, lookback=16, epochs=1, hidden_size=4, progress=False).fit(
            np.arange(2600.0) % 7
        )
