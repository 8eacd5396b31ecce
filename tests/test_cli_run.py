"""`carousel run` as a process: the script notices nothing but the clock."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

SAID = re.compile(r"^carousel: (.*)$", re.MULTILINE)


def python(
    *arguments: object, cwd: Path, code: int = 0, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error", **variables}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert done.returncode == code, done.stderr or done.stdout
    return done


def run(*arguments: object, cwd: Path, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "carousel", "run", *arguments, cwd=cwd, code=code, **variables)


def write(directory: Path, text: str, name: str = "script.py") -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# What it is told of itself

SELF = """
import os, sys
if __name__ == "__main__":
    print(sys.argv, __file__, sys.path[0], __spec__ is None, sys.modules["__main__"].__dict__ is globals())
    print(sorted(name for name in globals() if name not in ("__cached__", "__loader__", "__annotations__")))
    print("torch" in sys.modules)
"""


@pytest.mark.parametrize("place", ["script.py", "inner/script.py"])
def test_names_and_paths_are_those_of_python(tmp_path: Path, place: str) -> None:
    write(tmp_path, SELF, place)
    arguments = (place, "--epochs", "3", "-h", "--quiet", "--", "-m", "ein Wort")
    right = python(*arguments, cwd=tmp_path)
    found = run(*arguments, cwd=tmp_path)
    assert found.stdout == right.stdout
    assert right.stdout.endswith("False\n")  # torch is the script's to import
    assert found.stderr == right.stderr == ""


def test_a_module(tmp_path: Path) -> None:
    write(tmp_path, "import sys\nprint(__name__, __package__, sys.argv, sys.path[0])\n", "package/part.py")
    right = python("-m", "package.part", "-x", cwd=tmp_path)
    assert run("-m", "package.part", "-x", cwd=tmp_path).stdout == right.stdout


@pytest.mark.parametrize(
    "end", ["raise SystemExit(3)", "import sys; sys.exit()", "import sys; sys.exit('no')", "1 / 0", "x = = 1"]
)
def test_it_ends_as_it_would(tmp_path: Path, end: str) -> None:
    write(tmp_path, f"def f():\n    {end}\nprint('here')\nf()\n")
    right = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    found = run("script.py", cwd=tmp_path, code=right.returncode)
    assert (found.stdout, found.stderr) == (right.stdout, right.stderr)  # the traceback, line by line


def test_the_traceback_of_a_module_is_its_own(tmp_path: Path) -> None:
    write(tmp_path, "1 / 0\n", "part.py")
    lines = run("-m", "part", cwd=tmp_path, code=1).stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert f'{tmp_path / "part.py"}", line 1, in <module>' in lines[1]
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_its_hooks_are_heard(tmp_path: Path) -> None:
    write(
        tmp_path,
        "import atexit, sys\nsys.excepthook = lambda *e: print('hook', e[1])\n"
        "value = 5\natexit.register(lambda: print('end', value))\nraise ValueError(7)\n",
    )
    assert run("script.py", cwd=tmp_path, code=1).stdout == "hook 7\nend 5\n"


# What becomes of its layers

LAYERS = """
import copy, importlib.util, io, pickle
assert importlib.util.find_spec("torch") is not None
import torch
from torch import nn

class Doubled(nn.LSTM):
    def forward(self, input, hx=None):
        y, state = super().forward(input, hx)
        return 2 * y, state

class Renamed(nn.GRU):
    pass

torch.manual_seed(0)
x = torch.randn(7, 3, 4)
made = [kind(4, 5) for kind in (nn.LSTM, nn.GRU, nn.RNN, Doubled, Renamed)]
y = [layer(x)[0] for layer in made]
for layer, kind in zip(made, (nn.LSTM, nn.GRU, nn.RNN, Doubled, Renamed)):
    assert type(layer) is kind
cells = [kind(4, 5) for kind in (nn.LSTMCell, nn.GRUCell, nn.RNNCell)]
for cell in cells:
    out = cell(x[0])
    y.append(out[0] if isinstance(out, tuple) else out)
    assert type(cell).__module__ == "torch.nn.modules.rnn"
copied = pickle.loads(pickle.dumps(copy.deepcopy(made[0])))
assert type(copied) is nn.LSTM and torch.equal(copied(x)[0], y[0])
torch.nn.utils.parametrizations.weight_norm(made[1], "weight_hh_l0")
y.append(made[1](x)[0])
half = nn.GRU(4, 5).half()(x.half())[0]
y[0].sum().backward()
y.append(made[0].weight_ih_l0.grad)
torch.save({"model": made[0], "y": y}, "out.pt")
torch.save(made[2].state_dict(), "state.pt")
"""
READ = """
import sys, torch
ours, theirs = (torch.load(p, weights_only=False) for p in sys.argv[1:])
assert not any(name.startswith("carousel") for name in sys.modules)
for a, b in zip(ours["y"], theirs["y"], strict=True):
    torch.testing.assert_close(a, b)
print(sum(not torch.equal(a, b) for a, b in zip(ours["y"], theirs["y"])), ours["model"](torch.zeros(2, 1, 4))[0].shape)
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Where the script ran, accelerated and not, and what was said."""
    ours, theirs = (tmp_path_factory.mktemp(name) for name in ("ours", "theirs"))
    for directory in (ours, theirs):
        write(directory, LAYERS)
    said = run("script.py", cwd=ours, PYTHONWARNINGS="ignore").stderr
    python("script.py", cwd=theirs, PYTHONWARNINGS="ignore")
    return ours, theirs, said


def test_numbers_and_files_are_torchs(both: tuple[Path, Path, str], tmp_path: Path) -> None:
    """Files load where carousel is not; results agree, and some differ in the last digit: it was not torch."""
    ours, theirs, _ = both
    write(tmp_path, READ)
    done = python("script.py", ours / "out.pt", theirs / "out.pt", cwd=tmp_path, PYTHONWARNINGS="ignore")
    different, shape = done.stdout.split(maxsplit=1)
    assert int(different) > 0
    assert shape == "torch.Size([2, 1, 5])\n"


def test_it_says_what_was_accelerated_and_what_was_left(both: tuple[Path, Path, str]) -> None:
    (said,) = SAID.findall(both[2])
    accelerated, left = said.split("; left ")
    assert accelerated == "accelerated 2 LSTM, 1 GRU, 1 RNN, 1 LSTMCell, 1 GRUCell, 1 RNNCell"
    reason = "a subclass may compute something else"
    assert left == f"1 Doubled ({reason}), 1 Renamed ({reason}), 1 GRU (dtype torch.float16)"


ASKED = """
import torch, carousel._core
from torch import nn

class Renamed(nn.GRU):
    pass

made = nn.ModuleList([nn.LSTM(4, 5), nn.GRUCell(4, 5), Renamed(4, 5), nn.RNN(4, 5)])
nn.utils.parametrizations.weight_norm(made[3], "weight_hh_l0")
for layer in made:
    x = torch.zeros(3, 4) if isinstance(layer, nn.GRUCell) else torch.zeros(2, 3, 4)
    print(carousel.kernel_path(layer, x).replace(carousel._core.isa(), "ISA"))
print(carousel.kernel_path(made[0], torch.zeros(2, 3, 4).double()))
print(*carousel.accelerated(made), sep="\\n")
"""


def test_a_script_is_told_which_path_its_layers_take(tmp_path: Path) -> None:
    write(tmp_path, ASKED)
    ours = "carousel: ISA float32"
    left = "a subclass may compute something else"
    assert run("script.py", cwd=tmp_path).stdout.splitlines() == [
        *(ours, ours, f"torch: {left}", ours),
        "torch: dtypes torch.float64 and torch.float32 in one call",
        "0: LSTM accelerated",
        "1: GRUCell accelerated",
        f"2: Renamed left, {left}",
        "3: ParametrizedRNN accelerated",
    ]


def test_quiet(tmp_path: Path) -> None:
    write(tmp_path, "import torch\ntorch.nn.GRU(1, 2)(torch.zeros(3, 1, 1))\n")
    assert run("--quiet", "script.py", cwd=tmp_path).stderr == ""
    assert run("script.py", cwd=tmp_path).stderr == "carousel: accelerated 1 GRU\n"


def test_a_script_without_layers(tmp_path: Path) -> None:
    write(tmp_path, "import torch\nprint(torch.ones(2).sum().item())\n")
    done = run("script.py", cwd=tmp_path)
    assert done.stdout == "2.0\n"
    assert done.stderr == "carousel: no LSTM, GRU or RNN of torch.nn was called\n"


def test_torchscript(tmp_path: Path) -> None:
    write(
        tmp_path,
        "import torch\nlayer = torch.nn.LSTM(3, 5)\nx = torch.randn(4, 2, 3)\n"
        "scripted = torch.jit.script(torch.nn.Sequential(layer))\n"
        "torch.testing.assert_close(scripted(x)[0], layer(x)[0])\n"
        "print(torch.nn.LSTM.forward is not None, type(layer) is torch.nn.LSTM)\n",
    )
    done = run("script.py", cwd=tmp_path, PYTHONWARNINGS="ignore")
    assert done.stdout == "True True\n"
    assert SAID.findall(done.stderr) == ["accelerated 1 LSTM"]


def test_what_it_sets_before_torch_counts(tmp_path: Path) -> None:
    write(
        tmp_path,
        "import os\nos.environ['OMP_NUM_THREADS'] = '2'\nimport torch\nprint(torch.get_num_threads())\n",
    )
    assert run("script.py", cwd=tmp_path).stdout == python("script.py", cwd=tmp_path).stdout


# Refusals


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("absent.py",), "carousel: absent.py: no such file or directory."),
        (("-m", "absent.part"), "carousel: there is no module 'absent.part'; without -m, SCRIPT is a file."),
        ((), "carousel: Missing argument 'SCRIPT'."),
    ],
)
def test_refusals(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments, cwd=tmp_path, code=2)
    assert done.stderr == words + "\n"
    assert done.stdout == ""


def test_without_torch(tmp_path: Path) -> None:
    write(tmp_path, "print('ran')\n")
    start = (
        "import importlib.util as u; f = u.find_spec; "
        "u.find_spec = lambda name, *a: None if name == 'torch' else f(name, *a); "
        "from carousel.cli import main; main(['run', 'script.py'])"
    )
    done = python("-c", start, cwd=tmp_path, code=2)
    assert done.stderr == (
        "carousel: this needs torch, which is not installed: pip install 'carousel-rnn[torch]'.\n"
    )
    assert done.stdout == ""
