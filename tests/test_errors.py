"""The texts of the errors are part of the interface: people read them and search for them."""

import copy
import doctest
import pickle
import subprocess
import sys
import traceback

import numpy as np
import pytest

from carousel import errors
from carousel.errors import check_choice, check_dtype, check_integer, check_shape

BASES = {
    "ShapeError": (ValueError,),
    "ArgumentError": (ValueError,),
    "DataError": (ValueError,),
    "FormatError": (ValueError,),
    "UnsupportedError": (NotImplementedError,),
    "NotFittedError": (ValueError, AttributeError),
}


@pytest.mark.parametrize("name", BASES)
def test_the_tree_is_the_one_drawn(name):
    error = getattr(errors, name)
    assert error.__bases__ == (errors.CarouselError, *BASES[name])
    line = next(line for line in errors.__doc__.splitlines() if f"─ {name} " in line)
    assert f"({', '.join(base.__name__ for base in BASES[name])})" in line


def test_no_error_is_missing_from_the_tree():
    leaves = {e.__name__ for e in errors.CarouselError.__subclasses__() if e.__module__ == "carousel.errors"}
    assert leaves == set(BASES)


def test_an_error_of_ours_is_also_that_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.exceptions", reason="scikit-learn is not installed")
    error = errors.NotFittedError("call `fit` first")
    assert isinstance(error, theirs.NotFittedError)
    assert type(error) is type(errors.NotFittedError("again"))
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == "call `fit` first"
    assert "".join(traceback.format_exception_only(error)).startswith("carousel.errors.NotFittedError: call")


def test_without_scikit_learn_the_error_is_ours_alone():
    code = (
        "import pickle, sys\n"
        "from carousel.errors import NotFittedError\n"
        "error = pickle.loads(pickle.dumps(NotFittedError('call')))\n"
        "assert type(error) is NotFittedError and str(error) == 'call'\n"
        "assert not [name for name in sys.modules if name.startswith('sklearn')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


SHAPES = [
    ((2, 5), "1, B, H", {"B": 2, "H": 5}, "(1, B, H) = (1, 2, 5), got (2, 5)"),
    ((5,), "4H", {"H": 5}, "(4H,) = (20,), got (5,)"),
    ((5, 3), "H, H+I", {"H": 5, "I": 3}, "(H, H+I) = (5, 8), got (5, 3)"),
    ((7, 2), "T+1, B", {"T": 7, "B": 2}, "(T+1, B) = (8, 2), got (7, 2)"),
    ((7, 2, 4), "T, B, I", {"I": 3}, "(T, B, I) = (7, 2, 3), got (7, 2, 4)"),
    ((7, 2), "T, B, I", {"I": 3}, "(T, B, I) with I = 3, got (7, 2)"),
    ((12, 4), "4H, H", {}, "(4H, H) = (16, 4), got (12, 4)"),
    ((3, 4), "H, H", {}, "(H, H) = (4, 4), got (3, 4)"),
    ((7, 2), "T, B, I", {}, "(T, B, I), got (7, 2)"),
    ((7, 2, 9), "T, B, DH", {"T": 7, "B": 2, "D": 2, "H": 5}, "(T, B, DH) = (7, 2, 10), got (7, 2, 9)"),
    ((6, 2, 1), "GH, H", {}, "(GH, H), got (6, 2, 1)"),
    ((), "3", {}, "(3,), got ()"),
]


@pytest.mark.parametrize(("shape", "axes", "sizes", "text"), SHAPES)
def test_shape_text(shape, axes, sizes, text):
    with pytest.raises(errors.ShapeError) as caught:
        check_shape("h", np.zeros(shape), axes, **sizes)
    assert str(caught.value) == f"`h` must have shape {text}."


@pytest.mark.parametrize("shape", [(7, 2, 3), (0, 1, 3), (7, 0, 3)])
def test_a_right_shape_is_returned(shape):
    assert check_shape("x", np.zeros(shape), "T, B, I", I=3) == shape


def test_other_texts():
    with pytest.raises(errors.ShapeError, match=r"^`x` must have dtype float32 or float64, got int32\.$"):
        check_dtype("x", np.zeros(2, np.int32), ("float32", "float64"))
    with pytest.raises(errors.ArgumentError, match=r"^`reset` must be 'after' or 'before', got None\.$"):
        check_choice("reset", None, ("after", "before"))
    with pytest.raises(errors.ArgumentError, match=r"^`horizon` must be an integer of at least 1, got 0\.$"):
        check_integer("horizon", 0, 1)


@pytest.mark.parametrize("value", [True, 2.0, "2", None, -1])
def test_what_is_no_integer(value):
    with pytest.raises(errors.ArgumentError):
        check_integer("layers", value, 0)


@pytest.mark.parametrize("value", [0, 3, np.int64(2)])
def test_what_is_an_integer(value):
    check_integer("layers", value, 0)


def test_good_values_pass():
    check_dtype("x", np.zeros(2), ("float32", "float64"))
    check_choice("cell", "lstm", ("lstm", "gru"))


def test_dtype_of_a_torch_tensor():
    torch = pytest.importorskip("torch")
    check_dtype("x", torch.zeros(2), ("float32",))
    with pytest.raises(errors.ShapeError, match="got float16"):
        check_dtype("x", torch.zeros(2, dtype=torch.float16), ("float32",))


def test_docstrings_run():
    assert doctest.testmod(errors).failed == 0
