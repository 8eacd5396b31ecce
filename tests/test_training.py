"""Threads share the batches of a training; what is learned does not depend on how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
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


class Line(torch.nn.Linear):
    """(1, B, I) to (B, O)."""

    def forward(self, x: Any) -> Any:
        return super().forward(x[0])


def learned(divided: bool, drop: Any = None, ahead: int = 1) -> tuple[list[np.ndarray[Any, Any]], float]:
    """Weights after two epochs of a line, of which every row but some was observed, and the last loss."""
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.normal(size=(ROWS, 3)).astype(np.float32))
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3
    observed = torch.from_numpy(
        (rng.random((ROWS, 1)) < np.linspace(0.05, 1, ROWS)[:, None]).astype(np.float32)
    )

    def load(rows: np.ndarray[Any, Any]) -> Batch:
        return Batch((x[None, rows],), y[rows], observed[rows])

    torch.manual_seed(0)
    net = Line(3, 1)
    session = Session(lambda _: None, Trainings(None, Checkpoint("", "", "", ())))
    loop = Loop(2, 3 * PART, 0.01, 4, seed=0, divided=divided, ahead=ahead)
    run = train(net, load, ROWS, [], loop, False, session, huber, drop)
    return [p.detach().numpy() for p in net.parameters()], run.history[-1]["train"]


def test_a_divided_batch_has_the_gradient_of_the_whole() -> None:
    """Its mean is over what was observed, of which the parts have different shares."""
    (whole, loss), (divided, other) = learned(False), learned(True)
    assert other == pytest.approx(loss, rel=1e-5)
    for a, b in zip(whole, divided, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_the_parts_of_a_batch_draw_their_own_numbers() -> None:
    """Two runs draw the same, however many batches they load at a time, and nothing twice."""
    drawn = []

    def drop(batch: Batch, rng: np.random.Generator) -> Batch:
        drawn.append(rng.normal(size=batch.inputs[0].shape))
        return replace(batch, inputs=(batch.inputs[0] + torch.from_numpy(drawn[-1]).float(),))

    first, again = learned(True, drop), learned(True, drop, ahead=2)
    assert all((a == b).all() for a, b in zip(first[0], again[0], strict=True))
    assert {len(noise[0]) for noise in drawn} == {PART}
    assert len({noise.tobytes() for noise in drawn}) == len(drawn) // 2 > 3


@pytest.mark.parametrize(
    ("rows", "parts"), [(63, [63]), (64, [32, 32]), (255, [128, 127]), (256, [128] * 2), (700, [140] * 5)]
)
def test_a_batch_is_divided_in_parts_that_are_worth_a_thread(rows: int, parts: list[int]) -> None:
    for divided, expected in ((True, parts), (False, [rows])):
        loop = Loop(1, rows, 0.01, 1, seed=0, divided=divided)
        [found] = training._loaded(numbered, [np.arange(rows)], loop)
        assert [len(part.target) for part in found] == expected
        np.testing.assert_array_equal(np.concatenate([part.target for part in found]), np.arange(rows))


def numbered(rows: np.ndarray[Any, Any]) -> Batch:
    """Rows whose target is their number."""
    number = torch.from_numpy(rows)
    return Batch((number[None],), number, number)


@pytest.mark.parametrize("ahead", [1, 2, 9])
def test_batches_that_are_loaded_together_come_as_they_are(ahead: int) -> None:
    batches = list(np.random.default_rng(0).permutation(5 * 70).reshape(5, 70))
    found = [*training._loaded(numbered, batches, Loop(1, 70, 0.01, 1, seed=0, divided=True, ahead=ahead))]
    assert [len(parts) for parts in found] == [2] * 5
    for rows, parts in zip(batches, found, strict=True):
        np.testing.assert_array_equal(np.concatenate([part.target for part in parts]), rows)
        np.testing.assert_array_equal(np.concatenate([part.inputs[0][0] for part in parts]), rows)


def test_a_batch_without_an_observed_row_changes_nothing() -> None:
    net = Line(2, 1)
    batch = Batch((torch.ones(1, PART, 2),), torch.ones(PART, 1), torch.zeros(PART, 1))
    assert training._gradient(net, huber, [batch, batch], None, (0, 1, 1)) == 0
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
