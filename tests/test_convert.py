"""`carousel convert`, and files of torch: what it prints, what it writes, what it refuses."""

import os
import sys
import zipfile

import numpy as np
import pytest

import carousel
from carousel.cli import main
from carousel.errors import FormatError, UnsupportedError
from carousel.interop import files
from carousel.network import Dense, LastStep, Network, Recurrent, Weights, load, save
from carousel.stream import Model
from carousel.stream.checkpoint import Checkpoint

torch = pytest.importorskip("torch")
pytest.importorskip("h5py", reason="h5py is not installed: pip install 'carousel-rnn[keras]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install 'carousel-rnn[onnx]'")


@pytest.fixture
def network():
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=size).astype(np.float32) for size in ((15, 3), (15, 5), 15, 15)]
    return Network((Recurrent("gru", (Weights(*arrays),)), LastStep(), Dense(np.ones((1, 5), np.float32))))


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """What a call prints, and its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["convert", *arguments])
        out, err = capsys.readouterr()
        return out, err, caught.value.code

    return run


def test_through_every_format(run, network, tmp_path):
    save(network, tmp_path / "a.carousel")
    for source, target in (("a.carousel", "b.keras"), ("b.keras", "c.onnx"), ("c.onnx", "d")):
        out, err, code = run(source, target)
        assert (code, err) == (0, ""), err
        assert f"model: {target}" in out
        assert out.count("largest difference") == 2
    x = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(Model(load(tmp_path / "d")).run(x), Model(network).run(x), rtol=0, atol=1e-6)
    out, _, _ = run("b.keras", "e.onnx")
    assert out.startswith(
        "in b.keras          here\n"
        "input (InputLayer)  nothing to compute\n"
        "gru (GRU)           GRU + LastStep\n"
        "dense (Dense)       Dense\n\n"
        "Network  3 -> 1, one output a sequence, float32, 156 parameters\n"
    )


def test_without_rich_the_table_is_text(run, network, monkeypatch, tmp_path):
    save(network, tmp_path / "a")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    out, _, code = run("a", "b.keras")
    assert (code, out.splitlines()[:3]) == (0, ["in a      here", "GRU       GRU", "LastStep  LastStep"])


REFUSED = {
    "missing": (("no.keras", "b.onnx"), "no.keras: no such file or directory"),
    "damaged": (("bad.onnx", "b.keras"), "bad.onnx: it is no ONNX model"),
    "wrong ending": (("a", "a.h5"), "a.h5: .h5 is only read"),
    "an ending of others": (("a", "a.tflite"), "a.tflite: TensorFlow Lite cannot be written"),
    "a compressed file": (
        ("a", "a.onnx.gz"),
        "a.onnx.gz: compressed files cannot be written; give a name that",
    ),
    "a table": (("a", "a.parquet"), "a.parquet: Parquet cannot be written"),
    "itself": (("a", "a"), "would overwrite another file"),
    "directory": (("a", "."), "must be a file"),
    "nowhere": (("a", "no/b.onnx"), "lies in a directory that does not exist"),
    "series": (("bad.csv", "b.onnx"), "is not a carousel model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_sentence_and_nothing_is_written(run, network, tmp_path, name):
    save(network, tmp_path / "a")
    (tmp_path / "bad.onnx").write_bytes(b"\xff")
    (tmp_path / "bad.csv").write_text("ds,y\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    arguments, text = REFUSED[name]
    _, err, code = run(*arguments)
    assert code == 2
    assert err.startswith("carousel: ")
    assert text in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


# Files of torch


def test_what_a_state_dict_leaves_out_is_said(run, network, tmp_path):
    save(network, tmp_path / "a")
    assert "not in the file: LastStep\nmodel: b.pt\n" in run("a", "b.pt")[0]
    head = Dense(np.ones((2, 5), np.float32), activation="tanh")
    save(Network((network.layers[0], head)), tmp_path / "c")
    assert "not in the file: the tanh of Dense\n" in run("c", "d.pt")[0]
    save(Network(network.layers[:1]), tmp_path / "e")
    for target in ("f.pt", "g.onnx"):
        assert "not in the file" not in run("e", target)[0]


def test_an_empty_state_dict_is_said_to_be_empty(run, tmp_path):
    (tmp_path / "e.pt").touch()
    assert run("e.pt", "x.carousel") == ("", "carousel: e.pt: it is empty.\n", 2)


def test_a_state_dict_is_read(tmp_path):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(3, 5, 2, bidirectional=True)
            self.head = torch.nn.Linear(10, 1)

    module, path = Net(), tmp_path / "m.pt"
    torch.save(module.state_dict(), path)
    report = files.read(path)
    assert report.largest < 1e-6
    assert report.layers == (("lstm", "LSTM, bidirectional + LSTM, bidirectional"), ("head", "Dense"))
    assert report.check.endswith("at every step, which a state_dict does not say")
    x = torch.randn(6, 2, 3)
    with torch.no_grad():
        expected = module.head(module.lstm(x)[0]).numpy()
    np.testing.assert_allclose(Model(report.network).run(x.numpy()), expected, rtol=0, atol=1e-6)
    again = files.save(report.network, tmp_path / "again.pt")
    assert again.check.endswith("a state_dict holds the weights alone")
    assert files.read(tmp_path / "again.pt").network == report.network


class Payload:
    def __reduce__(self):
        return (print, ("run",))


STATES = {
    "rnn": (lambda: torch.nn.RNN(3, 5).state_dict(), UnsupportedError, "does not say whether tanh or relu"),
    "two linear": (
        lambda: torch.nn.Sequential(
            torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1)
        ).state_dict(),
        UnsupportedError,
        "what stands between '0' and '2'",
    ),
    "a gap": (
        lambda: torch.nn.Sequential(torch.nn.LSTM(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1)).state_dict(),
        UnsupportedError,
        "what stands between '0' and '2'",
    ),
    "two with names": (
        lambda: torch.nn.ModuleDict(
            {"decoder": torch.nn.GRU(5, 5), "encoder": torch.nn.GRU(5, 5)}
        ).state_dict(),
        UnsupportedError,
        "what stands between 'decoder' and 'encoder'",
    ),
    "projection": (
        lambda: torch.nn.LSTM(3, 5, proj_size=2).state_dict(),
        UnsupportedError,
        "has 'weight_hr_l0', which is not supported",
    ),
    "convolution": (
        lambda: torch.nn.Conv1d(3, 5, 1).state_dict(),
        UnsupportedError,
        "no LSTM, GRU or Linear",
    ),
    "half": (lambda: torch.nn.GRU(3, 5).half().state_dict(), UnsupportedError, "float16"),
    "NaN": (lambda: {"weight": torch.full((2, 3), torch.nan)}, FormatError, "must be finite, got nan"),
    "expanded": (
        lambda: {"weight": torch.ones(1).expand(2**20, 2**20)},
        FormatError,
        r"'weight' claims shape \(1048576, 1048576\), but 4 bytes are stored",
    ),
    "not tensors": (lambda: {"weight": 3}, FormatError, "tensors by name, and nothing else"),
    "list": (lambda: [1], FormatError, "got list"),
    "code": (Payload, FormatError, "torch cannot read it as weights alone"),
    "module": (lambda: torch.nn.GRU(3, 5), FormatError, "torch cannot read it as weights alone"),
}


@pytest.mark.parametrize("name", STATES)
def test_what_a_state_dict_does_not_say_is_refused(tmp_path, name, capsys):
    make, error, text = STATES[name]
    path = tmp_path / "m.pt"
    torch.save(make(), path)
    with pytest.raises(error, match=text) as caught:
        files.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert capsys.readouterr().out == ""


def test_archives_of_torch_that_unpack_to_more_and_pipes_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(2**20, 4)}, tmp_path / "m.pt")
    with (
        zipfile.ZipFile(tmp_path / "m.pt") as source,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(
        FormatError, match=r"bomb.pt: '.*' unpacks from \d+ bytes to 16777216; the limit is 20 times"
    ):
        files.read(tmp_path / "bomb.pt")
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(FormatError, match=r"pipe.pt: it is not a regular file"):
        files.read(tmp_path / "pipe.pt")


def test_a_state_is_told_from_a_model(tmp_path):
    save(Checkpoint("0" * 64, (), None), tmp_path / "state")
    with pytest.raises(
        FormatError, match="neither a network nor a forecaster, but the state that `--state` keeps"
    ):
        files.read(tmp_path / "state")


def test_what_is_neither_network_nor_forecaster_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(carousel.interop.files.own, "load", lambda path: object())
    with pytest.raises(FormatError, match="holds neither a network nor a forecaster"):
        files.read(tmp_path / "m")
