"""Files that are not what they say, of every kind that we open: refused in one sentence, or equal to the original.

What each format may hide is tested beside its reader; here a thousand copies of ours, and some of each other one,
are bent at random, and nothing may crash, hang, or take memory that the file does not have.
"""

import json
import struct
import time
import tracemalloc
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from carousel.errors import CarouselError, FormatError
from carousel.interop import files
from carousel.network import Dense, LastStep, Network, load, save
from carousel.network.forecaster import ForecastModel
from carousel.stream.forecaster import ForecasterModel
from forecast_models import forecast_model, forecaster
from limits import little_memory
from model_files import golden_network, meddled, rebuilt

DATA = Path(__file__).parent / "data"
ROOM = (
    2**30
)  # bytes of address space beyond what the process has: an allocation by a size in a file would need more
COPIES = 1000
FOREIGN = 40  # copies of a foreign file: HDF5 is tried in a process of its own, which takes half a second


def bent(raw, rng):
    """A copy of `raw` with one to three wounds."""
    data = bytearray(raw)
    for _ in range(rng.integers(1, 4)):
        a, b = sorted(int(k) for k in rng.integers(0, len(data) + 1, size=2))
        b = min(b, a + int(rng.choice([1, 8, 64, 4096])))
        wound = rng.integers(8)
        if wound == 0 and a < len(data):
            data[a] ^= 1 << int(rng.integers(8))
        elif wound == 1:
            del data[a:]
        elif wound == 2:
            del data[a:b]
        elif wound == 3:
            data[a:a] = data[a:b]
        elif wound == 4:
            data[a:b] = bytes([rng.choice([0, 255, ord("9"), ord("{"), ord("\\")])]) * (b - a)
        elif wound == 5:
            data[a:b] = rng.bytes(b - a)
        elif wound == 6:
            digits = [k for k in range(len(data)) if 48 <= data[k] < 58]
            place = int(rng.choice(digits or [0]))
            data[place : place + 1] = rng.choice([b"-1", b"99999999999999999999", b"1e9", b"NaN", b"0"])
        else:
            number = int(rng.choice([2**31 - 1, 2**32 - 1, 2**62, 2**63 - 1]))
            data[a : a + 8] = struct.pack("<Q", number)
        if not data:
            break
    return bytes(data)


def check_sentence(error, path):
    message = str(error)
    assert message.startswith(str(path)), message
    assert message.endswith("."), message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 500


def tried(path, copies, read, errors=(CarouselError,)):
    """What `read` made of every copy; None where it refused."""
    made = []
    for content in copies:
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        began = time.process_time()
        try:
            made.append(read(path))
        except errors as error:
            check_sentence(error, path)
            made.append(None)
        assert time.process_time() - began < 20
    return made


def values():
    rng = np.random.default_rng(0)
    return {
        "network": golden_network(),
        "forecaster": forecaster(rng, "daily"),
        "plain forecaster": forecaster(rng, "monthly", plain=True),
        "deepar forecaster": forecaster(rng, "monthly", deepar="student"),
        "deepar of counts": forecaster(rng, "weekly", deepar="negative-binomial"),
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model"


@pytest.mark.parametrize("name", [*values(), "converted"])
def test_a_thousand_bent_copies_of_our_file(path, name):
    value = values().get(name)
    if name == "converted":
        pytest.importorskip("h5py")
        value = files.read(DATA / "keras-masked.h5").network
    save(value, path)
    raw, rng = path.read_bytes(), np.random.default_rng(1)
    copies = [bent(raw, rng) for _ in range(COPIES)]
    assert sum(copy != raw for copy in copies) > 900
    tracemalloc.start()
    try:
        with little_memory(ROOM):
            found = tried(path, copies, load, (FormatError,))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6 + 20 * len(raw)
    for copy, again in zip(copies, found, strict=True):
        assert again is None or again == value, copy
        assert again is not None or copy != raw
    assert found.count(None) > 900


@pytest.mark.parametrize("name", ["forecaster", "plain forecaster", "deepar forecaster", "deepar of counts"])
def test_what_a_hostile_writer_seals_is_refused_or_runs(path, name):
    """A right digest over wrong contents: what is still accepted must forecast, or be refused when it is opened."""
    value = values()[name]
    save(value, path)
    rng, other, refused = np.random.default_rng(2), path.with_name("bent"), 0
    for _ in range(COPIES):
        other.unlink(missing_ok=True)
        other.write_bytes(rebuilt(path, lambda tree: meddled(tree, rng)))
        with little_memory(ROOM):
            try:
                again = load(other)
            except FormatError as error:
                check_sentence(error, other)
                refused += 1
                continue
            if isinstance(again, ForecastModel):
                try:
                    model = ForecasterModel(again)
                except CarouselError:
                    refused += 1
                    continue
                assert model.forecast(model.last()).mean.shape == (3, value.horizon)
    assert refused > 700


WRONG = {
    "NaN weights": (
        lambda v: replace(v, linear=replace(v.linear, coefficients=v.linear.coefficients * np.nan)),
        "`linear.coefficients` must be finite",
    ),
    "no scale": (
        lambda v: replace(v, scaling=replace(v.scaling, scale=v.scaling.scale * 0)),
        "`scaling.scale` must be above 0",
    ),
    "infinite window": (
        lambda v: replace(v, tail=replace(v.tail, window=v.tail.window + np.inf)),
        "`tail.window` must be finite",
    ),
    "missing rows twice": (
        lambda v: replace(v, tail=replace(v.tail, missing=np.array([3, 3]))),
        "`tail.missing` must be rising places in",
    ),
    "missing rows beyond": (
        lambda v: replace(v, tail=replace(v.tail, missing=np.array([v.tail.window.size]))),
        "`tail.missing` must be rising places in",
    ),
    "errors": (
        lambda v: replace(v, tail=replace(v.tail, errors=v.tail.errors[:, 1:])),
        "`tail.errors` must have shape",
    ),
    "models": (
        lambda v: replace(v, tail=replace(v.tail, errors=v.tail.errors[..., 1:])),
        "one column for each smoothing model",
    ),
    "level": (lambda v: replace(v, level=(80.0, 100.0)), "`level` must be per cent"),
    "season": (lambda v: replace(v, season=0), "must be at least 1"),
    "segment": (
        lambda v: replace(v, recurrent=replace(v.recurrent, segment=0)),
        "segments of at least one row",
    ),
    "longer segment": (
        lambda v: replace(v, recurrent=replace(v.recurrent, segment=2**40)),
        "must write segments",
    ),
    "layers": (
        lambda v: replace(v, recurrent=replace(v.recurrent, position=v.recurrent.head)),
        "does not fit",
    ),
}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("unit", np.nan, "finite"),
        ("unit", 0.0, "above 0"),
        ("effect", np.nan, "finite"),
        ("future", np.inf, "finite"),
    ],
)
def test_covariates_with_which_nothing_can_be_computed_are_refused(name, value, text):
    model, _ = forecast_model(
        np.random.default_rng(9), freq="D", season=7, lookback=21, length=60, promo=True
    )
    bent = np.full_like(getattr(model.covariates, name), value)
    with pytest.raises(FormatError, match=f"`covariates.{name}` must be {text}"):
        replace(model, covariates=replace(model.covariates, **{name: bent}))


@pytest.mark.parametrize("name", WRONG)
def test_a_forecaster_whose_parts_do_not_fit_is_refused(name):
    change, text = WRONG[name]
    with pytest.raises(FormatError, match=text):
        change(values()["forecaster"])


WRONG_DEEPAR = {
    "degrees of freedom": (lambda path: replace(path, freedom=2.0), "`freedom` must be above 2"),
    "none": (lambda path: replace(path, freedom=None), "`freedom` must be above 2"),
    "counts with some": (
        lambda path: replace(path, likelihood="negative-binomial"),
        "null for counts",
    ),
    "one number": (
        lambda path: replace(
            path, network=Network((*path.network.layers, Dense(np.ones((1, 2), np.float32))))
        ),
        "must make 2 numbers of every row",
    ),
    "the last row alone": (
        lambda path: replace(
            path, network=Network((*path.network.layers[:2], LastStep(), path.network.layers[-1]))
        ),
        "must make 2 numbers of every row",
    ),
    "float64": (
        lambda path: replace(path, network=Network((Dense(np.ones((2, 9))),))),
        "must be of float32",
    ),
}


@pytest.mark.parametrize("name", WRONG_DEEPAR)
def test_an_autoregressive_network_that_cannot_be_is_refused(name):
    change, text = WRONG_DEEPAR[name]
    with pytest.raises(FormatError, match=text):
        change(values()["deepar forecaster"].deepar)


def test_an_autoregressive_network_goes_with_no_other_path():
    value, other = values()["deepar forecaster"], values()["forecaster"]
    with pytest.raises(FormatError, match="one of `plain`, `smoothing` and `deepar` must be there, and only"):
        replace(value, plain=values()["plain forecaster"].plain)
    with pytest.raises(FormatError, match="`deepar` goes with no other path"):
        replace(value, linear=other.linear, calibration=other.calibration, horizon=other.horizon)
    with pytest.raises(FormatError, match="`deepar` goes with no logarithm or square root"):
        replace(value, scaling=replace(value.scaling, log=True))
    with pytest.raises(FormatError, match="the deepar network takes 9 inputs, its rows have 24"):
        ForecasterModel(replace(value, frequency="h"))


def test_matrices_of_another_calendar_are_refused():
    value = values()["forecaster"]
    for wrong in (
        replace(value, frequency="h"),
        replace(value, linear=replace(value.linear, coefficients=value.linear.coefficients[:2])),
        replace(value, linear=replace(value.linear, calendar=False, interplay=False)),
    ):
        with pytest.raises(FormatError, match="not that of its window"):
            ForecasterModel(wrong)
    with pytest.raises(FormatError, match="the recurrent path takes"):
        ForecasterModel(replace(value, linear=None, frequency="h"))


def foreign(tmp_path):
    """A file of every kind that we read, made by us."""
    found = (
        {".keras": DATA / "keras-sine.keras", ".h5": DATA / "keras-masked.h5"} if find_spec("h5py") else {}
    )
    for ending in [".onnx"] * bool(find_spec("onnx")) + [".pt"] * bool(find_spec("torch")):
        found[ending] = tmp_path / f"good{ending}"
        network = golden_network()
        kept = network.layers[2:3] if ending == ".onnx" else network.layers[1:2]
        files.save(replace(network, layers=kept), found[ending])
    return found


@pytest.mark.parametrize("ending", [".keras", ".h5", ".onnx", ".pt"])
def test_bent_copies_of_a_foreign_file(tmp_path, ending):
    sources = foreign(tmp_path)
    if ending not in sources:
        pytest.skip("the library that reads it is not installed")
    raw, rng = sources[ending].read_bytes(), np.random.default_rng(3)
    copies = [bent(raw, rng) for _ in range(FOREIGN)]
    path = tmp_path / f"bent{ending}"
    with little_memory(ROOM):
        found = tried(path, copies, files.read)
    # Weights that are bent are other weights, and no format but ours has a digest.
    assert found.count(None) > 0.3 * FOREIGN
    for report in found:
        assert report is None or report.largest < 1e-4


def test_a_file_that_sends_hdf5_in_circles_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("h5py")
    monkeypatch.setattr("carousel.interop._hdf5.PATIENCE", 3)
    raw, rng = (DATA / "keras-masked.h5").read_bytes(), np.random.default_rng(3)
    copies = [bent(raw, rng) for _ in range(379)]  # the last one does, with HDF5 2.0.0
    path = tmp_path / "circle.h5"
    path.write_bytes(copies[-1])
    with pytest.raises(FormatError) as error:
        files.read(path)
    check_sentence(error.value, path)


def test_an_address_beyond_any_file_is_refused(tmp_path):
    """Where HDF5 has none of a driver's, all bits set: h5py passes it on to Python, whose sizes it overflows."""
    pytest.importorskip("h5py")
    raw, path = bytearray((DATA / "keras-masked.h5").read_bytes()), tmp_path / "far.h5"
    assert raw[48:56] == b"\xff" * 8
    raw[52] = 166
    path.write_bytes(raw)
    with pytest.raises(FormatError, match="h5py cannot read it") as error:
        files.read(path)
    check_sentence(error.value, path)


def test_depth_and_numbers_of_any_size(path):
    """JSON that would take the stack or the processor, in both places that a file has for it."""
    save(golden_network(), path)
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    for text in (
        "[" * 10**6,
        '{"a":' * 10**6,
        "9" * 10**6,
        '{"a":' + "9" * 10**6 + "}",
        '"' + "\\u0000" * 10**6,
    ):
        for header in (text, json.dumps({"__metadata__": {"carousel": text}})):
            if len(header) > 2**23:
                continue
            content = struct.pack("<Q", len(header)) + header.encode() + raw[8 + length :]
            began = time.process_time()
            assert tried(path, [content], load, (FormatError,)) == [None]
            assert time.process_time() - began < 5
