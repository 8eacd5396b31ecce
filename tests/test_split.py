"""Origins as spans of rows, against the same origins written out."""

import numpy as np

from carousel.forecast.split import Spans, split, thinned
from carousel.series import Panel


def test_spans_are_the_origins_that_they_stand_for() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        first = rng.integers(0, 50, rng.integers(1, 8))
        spans = Spans(first, first + rng.integers(-20, 60, len(first)))
        wanted = [(s, t) for s, (a, b) in enumerate(zip(first, spans.stop, strict=True)) for t in range(a, b)]
        assert len(spans) == len(wanted)
        every = spans[:]
        assert list(zip(every.series, every.row, strict=True)) == wanted
        if not wanted:
            continue
        which = rng.integers(0, len(wanted), 9)
        found = spans[which]
        assert list(zip(found.series, found.row, strict=True)) == [wanted[k] for k in which]
        q = np.linspace(0, 1, 9)
        np.testing.assert_allclose(spans.row_quantiles(q), np.quantile(every.row, q), atol=1e-12)
        assert len(spans.none()) == 0


def test_thinned_draws_the_same_origins_of_spans_as_of_origins() -> None:
    spans = Spans(np.array([3, 10]), np.array([500, 400]))
    for most in (7, 2000):
        a, b = thinned(spans, most), thinned(spans[:], most)
        assert (a.series == b.series).all()
        assert (a.row == b.row).all()


def test_rows_that_choose_are_not_those_that_judge_where_there_are_many() -> None:
    panel = Panel.of([np.arange(9000.0), np.arange(700.0)])
    parts = split(panel, 24, 48)
    choose, judge = parts.choose[:], parts.judge[:]
    for s, cut in enumerate(parts.cut):
        rows = choose.row[choose.series == s], judge.row[judge.series == s]
        assert parts.train[:].row[parts.train[:].series == s].max() + 24 <= cut
        assert rows[0].min() == cut
        assert rows[0].max() + 24 <= rows[1].min()
    few = split(Panel.of([np.arange(90.0)]), 12, 24)
    assert few.choose is few.judge
