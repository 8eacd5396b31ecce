"""How much of a correction is kept."""

from __future__ import annotations

import numpy as np
import pytest

from carousel.forecast.shrinkage import shrink_factor

ORIGINS, HORIZON, BLOCKS = 200, 3, 10


def draw(kept: float, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A correction, of which `kept` is right; what it should have been; where that was observed."""
    rng = np.random.default_rng(seed)
    f = rng.normal(size=(ORIGINS, HORIZON))
    return f, kept * f + noise * rng.normal(size=f.shape), rng.random(f.shape) < 0.9


def huber(errors: np.ndarray, delta: float) -> float:
    size = np.abs(errors)
    return float(np.where(size <= delta, size**2 / 2, delta * (size - delta / 2)).sum())


def by_hand(f: np.ndarray, r: np.ndarray, observed: np.ndarray, delta: float) -> float:
    """The factor of least loss, between 0 and 2, by looking."""
    f, r = f[observed], r[observed]
    tried = np.linspace(0, 2, 2001)
    return float(tried[np.argmin([huber(r - s * f, delta) for s in tried])])


def test_what_is_right_is_kept_and_what_is_wrong_is_not() -> None:
    f, _, observed = draw(1, 0)
    assert shrink_factor(f, f, observed, BLOCKS) == pytest.approx(1)
    assert shrink_factor(f, 0.4 * f, observed, BLOCKS, delta=0.1) == pytest.approx(0.4)
    assert shrink_factor(f, -f, observed, BLOCKS) == 0
    assert shrink_factor(0 * f, f, observed, BLOCKS) == 0


def test_what_was_not_observed_does_not_count() -> None:
    f, r, observed = draw(0.7, 0.5)
    other = np.where(observed, r, 1e6)
    assert shrink_factor(f, other, observed, BLOCKS, delta=1) == shrink_factor(
        f, r, observed, BLOCKS, delta=1
    )


@pytest.mark.parametrize("delta", [0.3, 1.0, np.inf])
def test_it_is_the_factor_of_least_loss_less_its_standard_error(delta: float) -> None:
    f, r, observed = draw(0.6, 1.0)
    blocks = list(zip(*(np.array_split(values, BLOCKS) for values in (f, r, observed)), strict=True))
    without = [
        by_hand(*(np.concatenate(part) for part in zip(*blocks[:b], *blocks[b + 1 :], strict=True)), delta)
        for b in range(BLOCKS)
    ]
    error = np.sqrt((BLOCKS - 1) * np.var(without))
    s = by_hand(f, r, observed, delta)
    assert shrink_factor(f, r, observed, BLOCKS, 0.0, delta) == pytest.approx(s, abs=1e-3)
    assert 0.01 < error < 0.2
    assert shrink_factor(f, r, observed, BLOCKS, 2.0, delta) == pytest.approx(s - 2 * error, abs=0.2 * error)


def test_a_few_outliers_do_not_decide() -> None:
    f, r, observed = draw(0.8, 0.3)
    r[::50] = -90 * f[::50]  # 2 % of the origins
    assert shrink_factor(f, r, observed, BLOCKS, 0.0) < 0.4
    assert shrink_factor(f, r, observed, BLOCKS, 0.0, delta=1) == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("delta", [1.0, np.inf])
def test_a_correction_of_noise_is_mostly_left_out(delta: float) -> None:
    kept = [shrink_factor(*draw(0.0, 1.0, seed), BLOCKS, delta=delta) for seed in range(50)]
    assert np.mean(np.equal(kept, 0)) > 0.7
    assert np.max(kept) < 0.15


def test_what_one_block_or_none_can_tell_is_left_out() -> None:
    f, _, observed = draw(1, 0)
    single = np.where(np.arange(ORIGINS)[:, None] < ORIGINS // BLOCKS, f, 0)
    assert shrink_factor(single, single, observed, BLOCKS) == 0
    far = np.sign(f) * 1e9  # errors of a billion times what they count as squares up to
    assert shrink_factor(f, far, observed, BLOCKS, delta=1) == 0
