"""The problem strings with options: there and back, refused where a cell does not offer them, and judged data."""

import hashlib
import itertools

import numpy as np
import pytest

from carousel.reference import gru, lstm, rnn
from carousel.reference.random import zoneout_masks
from complex_step import arrays
from problems import CELLS, Problem

ANY = ("ln", "zone", "zonemean", "hdrop", "clip1.5", "ragged")
WORDS = {
    "lstm": (*ANY, "proj3", "peep", "coupled", "gdrop", "cclip0.5"),
    "gru": (*ANY, "gdrop"),
    "gru_reset_before": (*ANY, "gdrop"),
    "rnn_tanh": ANY,
    "rnn_relu": ANY,
}
MODULES = {
    "lstm": (lstm, {}),
    "gru": (gru, {}),
    "gru_reset_before": (gru, {"reset": "before"}),
    "rnn_tanh": (rnn, {}),
    "rnn_relu": (rnn, {"activation": "relu"}),
}
MIXES = [
    f"{cell}:T4,B3,I2,H5,{','.join(words)},f64"
    for cell in CELLS
    for words in [(w,) for w in WORDS[cell]]
    + [m for m in itertools.combinations(WORDS[cell], 2) if m != ("zone", "zonemean")]
    + [tuple(w for w in WORDS[cell] if w != "zonemean")]
]


def test_a_problem_is_its_string():
    problems = [Problem.parse(text) for text in MIXES]
    assert len(set(problems)) == len(MIXES)
    for problem in problems:
        assert Problem.parse(str(problem)) == problem
    text = "lstm:T7,B3,I5,H33,rev,nobias,half,proj5,peep,coupled,ln,zone,gdrop,hdrop,clip1.5,cclip2.0,ragged,f32,seed=3"
    assert str(Problem.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("gru:T2,peep", r"this cell does not offer 'peep'"),
        ("rnn_tanh:proj3", r"this cell does not offer 'proj'"),
        ("gru_reset_before:cclip1", r"this cell does not offer 'cclip'"),
        ("rnn_relu:gdrop", r"this cell does not offer 'gdrop'"),
        ("lstm:zone,zonemean", r"zone and zonemean exclude each other"),
        ("lstm:projx", r"unknown word 'projx'"),
        ("lstm:proj1.5", r"unknown word 'proj1.5'"),
        ("lstm:clip", r"unknown word 'clip'"),
        ("lstm:ln5", r"unknown word 'ln5'"),
    ],
)
def test_refusals(text, match):
    with pytest.raises(ValueError, match=match):
        Problem.parse(text)


@pytest.mark.parametrize("text", MIXES)
def test_the_reference_takes_the_data(text):
    problem = Problem.parse(text)
    data = problem.data()
    module, kind = MODULES[problem.cell]
    state = lstm.State(data.h_0, data.c_0) if problem.has_cells else data.h_0
    dstate = lstm.State(data.dh_n, data.dc_n) if problem.has_cells else data.dh_n
    y, last, cache = module.forward(data.x, data.w, state, options=data.options, lengths=data.lengths, **kind)
    found = module.backward(data.dy, data.w, cache, dstate)
    assert y.shape == data.dy.shape == (4, 3, 3 if problem.proj else 5)
    assert all(np.isfinite(a).all() for a in arrays((y, last, found)))
    assert all((a != 0).any() for a in arrays((y, last, found)))


def test_every_option_changes_the_result():
    for cell, words in WORDS.items():
        seen = set()
        for text in (f"{cell}:T4,B3,I2,H5,f64", *(f"{cell}:T4,B3,I2,H5,{word},f64" for word in words)):
            data, (module, kind) = Problem.parse(text).data(), MODULES[cell]
            seen.add(
                module.forward(data.x, data.w, options=data.options, lengths=data.lengths, **kind)[
                    0
                ].tobytes()
            )
        assert len(seen) == 1 + len(words)


def test_parameters_are_random_and_not_zero():
    options = Problem.parse("lstm:H9,proj4,peep,ln,f64").data().options
    parameters = arrays((options.projection, options.peephole, options.layer_norm))
    assert len(parameters) == 6
    assert all((a != 0).all() and len(np.unique(a)) == a.size for a in parameters)
    assert all(abs(gain.mean() - 1) < 0.2 for gain in options.layer_norm[:3])


def test_masks_and_lengths():
    data = Problem.parse("lstm:T9,B7,H6,proj2,zone,gdrop,hdrop,ragged,f32,seed=5").data()
    h, c = zoneout_masks(5, 0.3, 0.2, 9, 7, 6, 2)
    np.testing.assert_array_equal(data.options.zoneout_h, h)
    np.testing.assert_array_equal(data.options.zoneout_c, c)
    kept = np.float32(1 / 0.75)
    assert set(data.options.candidate_mask.ravel()) == {0, kept}
    assert set(data.options.state_mask.ravel()) == {0, kept}
    assert {a.dtype for a in arrays(data.options)} == {np.dtype(np.float32)}
    for seed in range(20):
        lengths = Problem("lstm", T=9, B=3, seed=seed, ragged=True).data().lengths
        assert lengths.max() == 9
        assert lengths.min() == 0
    assert Problem("gru", T=4, B=1, ragged=True).data().lengths.tolist() == [4]
    assert Problem("gru", T=4, B=0, ragged=True).data().lengths.tolist() == []
    mean = Problem("lstm", zonemean=True, dtype="f64").data().options
    assert (set(mean.zoneout_h.ravel()), set(mean.zoneout_c.ravel())) == ({0.3}, {0.2})


@pytest.mark.parametrize(
    ("text", "digest"),
    [("lstm:T7,B3,I5,H33,rev,f32", "a06945cbe1f179c2"), ("gru:T2,B3,I4,H5,f64,seed=3", "a718caa6099918c3")],
)
def test_data_stay_as_they_were(text, digest):
    """So that a problem of an old report is still the same problem; options do not shift what is drawn."""
    for words in ("", ",ln", ",zone,hdrop,clip1.0,ragged"):
        data = Problem.parse(text + words).data()
        parts = (data.x, data.h_0, *data.w, data.dy, data.dh_n)
        assert hashlib.sha256(b"".join(a.tobytes() for a in parts)).hexdigest()[:16] == digest
