"""`carousel bench` and what it stands on: that it runs, refuses, and notices wrong results. Nothing is timed here."""

from __future__ import annotations

import csv
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from carousel import bench
from carousel.bench import agreement, malloc, pair, results, worker
from carousel.cli.bench import bench as command
from carousel.nn import function

ROOT = Path(__file__).parents[1]
TINY = (1, 2, 1, 1, 3), (3, 5, 2, 3, 4)


def carousel(
    *arguments: object, cwd: Path, code: int = 0, program: str | None = None
) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, after `program`."""
    start = [sys.executable, "-c", f"{program or ''}\nfrom carousel.cli import main\nmain()"]
    done = subprocess.run(
        [*start, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        check=False,
    )
    assert done.returncode == code, done.stderr or done.stdout
    return done


# Stands in for the seven shapes, whose large ones take seconds.
SMALL = f"import carousel.bench.problem as p\np.problems.__defaults__ = (('lstm', 'gru'), {TINY})"


# The command


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    directory = tmp_path_factory.mktemp("bench")
    return directory, carousel("bench", "--quick", "--threads", 1, cwd=directory, program=SMALL)


def test_it_prints_a_table_of_100_columns(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    lines = finished[1].stdout.splitlines()
    machine = " ".join(lines[:2])  # a long name takes two
    assert re.search(r"\d cores?; \w+, carousel 0\.1\.0, torch \S+, 1 thread; ", machine)
    for heading in ("LSTM", "GRU"):
        assert heading in lines
    assert sum(" inference  " in line for line in lines) == 4
    assert sum(" training  " in line for line in lines) == 4
    assert "(3, 5, 2, 3, 4)" in finished[1].stdout
    assert max(len(line) for line in lines if "csv" not in line and "png" not in line) <= 100


def test_it_says_what_it_does_on_stderr(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    lines = finished[1].stderr.splitlines()
    assert lines[0] == "1 of 12: LSTM (1, 2, 1, 1, 3) training, new process"
    assert lines[-1] == "12 of 12: GRU (3, 5, 2, 3, 4) training"


def test_it_leaves_a_table_and_a_picture(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    files = sorted(path.name for path in (finished[0] / "bench").iterdir())
    assert files == ["layers.csv", "layers.png"]
    assert (finished[0] / "bench" / "layers.png").read_bytes().startswith(b"\x89PNG")
    notes, rows = results.read_csv(finished[0] / "bench" / "layers.csv")
    assert "carousel bench" in notes[1]
    assert len(rows) == 8
    for row in rows:
        assert tuple(row) == bench.COLUMNS
        for name in ("ours_ms", "torch_ms", "ratio", "gflops", "share_of_peak"):
            assert float(row[name]) > 0
        assert float(row["low"]) <= float(row["ratio"]) <= float(row["high"])
        assert (row["fresh_ratio"] != "") == (row["mode"] == "training")


def test_it_replaces_what_it_wrote_and_nothing_else(
    tmp_path: Path, finished: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    shutil.copytree(finished[0] / "bench", tmp_path / "figures")
    arguments = ("bench", "--quick", "--only", "gru", "--threads", 1, "--rounds", 1, "--out", "figures")
    done = carousel(*arguments, cwd=tmp_path, program=SMALL)
    assert "LSTM" not in done.stdout
    assert "lstm" not in (tmp_path / "figures" / "layers.csv").read_text()
    for name in ("layers.csv", "layers.png"):
        ours = (tmp_path / "figures" / name).read_bytes()
        (tmp_path / "figures" / name).write_bytes(b"somebody's work")
        refused(*arguments, cwd=tmp_path, says=f"figures/{name} was not written by carousel bench")
        assert (tmp_path / "figures" / name).read_bytes() == b"somebody's work"
        (tmp_path / "figures" / name).write_bytes(ours)


def refused(*arguments: object, cwd: Path, says: str, program: str | None = None) -> None:
    """One sentence on stderr, exit code 2, nothing written."""
    before = sorted(cwd.rglob("*"))
    done = carousel(*arguments, cwd=cwd, code=2, program=program)
    assert says in done.stderr
    assert done.stderr.startswith("carousel: ")
    assert done.stderr.endswith(".\n")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert sorted(cwd.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--threads", "0"), "'--threads': 0 is not in the range x>=1"),
        (("--rounds", "many"), "'--rounds': 'many' is not a valid integer"),
        (("--only", "rnn"), "'--only': 'rnn' is not one of 'lstm', 'gru'"),
        (("--out", ""), "--out must be a directory, but '' is no name"),
        (("--out", "no/where"), "--out no/where lies in a directory that does not exist"),
        (("--out", "/dev/null"), "--out must be a directory, but '/dev/null' is a file"),
        (("extra",), "Got unexpected extra argument"),
    ],
)
def test_bad_wishes_are_refused(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    refused("bench", *arguments, cwd=tmp_path, says=says)


@pytest.mark.parametrize("library", ["torch", "rich", "matplotlib"])
def test_what_is_not_installed_is_named(tmp_path: Path, library: str) -> None:
    refused(
        "bench",
        cwd=tmp_path,
        says=f"this needs {library}, which is not installed: pip install 'carousel-rnn[all]'",
        program=f"import sys; sys.modules[{library!r}] = None",
    )


def test_an_instruction_set_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAROUSEL_ISA", "abacus")
    done = carousel("bench", "--quick", cwd=tmp_path, code=2, program=SMALL)
    assert "abacus" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_option_has_a_help_text() -> None:
    assert all(parameter.help for parameter in command.params)


def test_the_commands_of_the_page_are_commands() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    shown = [shlex.split(line) for line in re.findall(r"^\$ carousel bench(.*)$", page, re.MULTILINE)]
    assert shown
    for arguments in shown:
        command.make_context("bench", arguments)


# Equal results, or no times


def request(problem: bench.Problem) -> dict[str, object]:
    fields = {name: getattr(problem, name) for name in ("cell", *bench.SIZES, "mode")}
    return {
        "problems": [fields],
        "threads": None,
        "rounds": 2,
        "seconds": 0.0,
        "keep": False,
        "peak": False,
    }


@pytest.mark.parametrize("problem", bench.problems(("lstm", "gru", "rnn"), TINY), ids=str)
def test_equal_results_are_timed(problem: bench.Problem) -> None:
    head, times, _ = worker.answers(request(problem))
    assert bench.Machine(**head["machine"]).cores >= 1
    assert [len(times[side]) for side in ("ours", "torch")] == [2, 2]


def test_a_wrong_output_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = function._forward

    def wrong(*arguments):
        y, *state = right(*arguments)
        return y * 1.001, *state

    monkeypatch.setattr(function, "_forward", wrong)
    answers = worker.answers(request(bench.Problem("lstm", *TINY[1], "inference")))
    next(answers)
    with pytest.raises(bench.BenchmarkError, match=r"LSTM \(3, 5, 2, 3, 4\) inference: the output differs"):
        next(answers)


@pytest.mark.parametrize("which", range(-8, 0))
def test_a_wrong_gradient_is_noticed(monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    right = function._Layers.backward

    def wrong(ctx, *gradients):
        found = list(right(ctx, *gradients))
        found[which] = found[which] * 1.01
        return tuple(found)

    monkeypatch.setattr(function._Layers, "backward", staticmethod(wrong))
    with pytest.raises(bench.BenchmarkError, match=r"the gradient of [a-z_]+_l[01] differs"):
        pair.pair(bench.Problem("gru", *TINY[1], "training"))


def test_torch_against_torch_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair, "kernel_path", lambda module, x: "torch: something")
    with pytest.raises(bench.BenchmarkError, match="ours would take the path of torch: something"):
        pair.pair(bench.Problem("gru", *TINY[0], "inference"))


def test_nan_does_not_agree() -> None:
    import torch

    nan = torch.full((2,), float("nan"))
    with pytest.raises(bench.BenchmarkError, match="differs by nan"):
        agreement.check_equal("y", nan, nan)


def test_what_goes_wrong_in_the_process_is_said() -> None:
    too_large = bench.Problem("lstm", 1, 10_000_000, 1, 1, 1, "inference")
    with pytest.raises(bench.BenchmarkError, match="memory"):
        bench.layers([too_large], threads=1, rounds=1, seconds=0.0)


# The figures


def test_products_are_counted() -> None:
    one = bench.Problem("lstm", 3, 5, 1, 7, 11, "inference")
    assert one.flops == 2 * 4 * 5 * (3 + 5) * 7 * 11
    two = bench.Problem("gru", 3, 5, 2, 7, 11, "training")
    forward = 2 * 3 * 5 * ((3 + 5) + (5 + 5)) * 7 * 11
    assert two.flops == 3 * forward - 2 * 3 * 5 * 3 * 7 * 11  # the first layer's dx is not wanted


def test_calls_are_interleaved() -> None:
    seen = []
    times = bench.interleaved([lambda: seen.append("a"), lambda: seen.append("b")], rounds=3, seconds=0.0)
    assert "".join(seen) == "ab" + "ab" * 3
    assert [len(side) for side in times] == [3, 3]


def test_a_part_lasts_as_long_as_asked() -> None:
    seen = []
    bench.interleaved([lambda: seen.append("a")], rounds=1, seconds=0.05)
    assert len(seen) > 100


def test_one_round_is_enough_for_the_impatient() -> None:
    times = bench.interleaved([lambda: None], rounds=9, seconds=0.01, patience=0.0)
    assert len(times[0]) == 1


def report(threads: int, cores: int) -> bench.Report:
    machine = bench.Machine("cpu", cores, "isa", threads, "gcc", "3", "0", "2", "2026-11-20")
    return bench.Report(machine, 7, 0.1, 1e11, "product", True, ())


def test_what_says_little_is_marked() -> None:
    even, uneven = bench.ratio([1.4, 1.0], [1.0, 1.0]), bench.ratio([1.6, 1.0], [1.0, 1.0])
    assert not report(threads=2, cores=2).rough(even, others=0.1)
    assert report(threads=2, cores=2).rough(uneven, others=0.0)
    assert report(threads=2, cores=2).rough(even, others=0.5)
    assert not report(threads=1, cores=2).rough(even, others=0.9)


def test_other_programs_are_noticed() -> None:
    from carousel.bench.others import Others

    spin = [sys.executable, "-c", "while True: pass"]
    others = Others()
    with subprocess.Popen(spin) as process:
        time.sleep(0.7)
        cores = others.cores()
        process.kill()
    assert cores > 0.2


def test_memory_is_kept_once_asked(python) -> None:
    """A block of 64 MB that is freed and asked for again has its pages already."""
    program = (
        "import ctypes, resource, sys\n"
        "from carousel.bench.malloc import keep_memory\n"
        "if sys.argv[1] == 'kept' and not keep_memory(): sys.exit('no glibc')\n"
        "def use():\n"
        "    bytearray(64_000_000)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "use()\n"
        "print(-use() + use())\n"
    )
    faults = {}
    for malloc_is in ("kept", "default"):
        done = python("-c", program, malloc_is)
        if done.stderr == "no glibc\n":
            pytest.skip("not glibc")
        faults[malloc_is] = int(done.stdout)
    assert faults["kept"] < 100 < faults["default"]


def test_a_malloc_without_settings_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda name: object())
    assert malloc.keep_memory() is False


def test_results_can_be_read_by_others(tmp_path: Path) -> None:
    content = results.csv_bytes(["a machine", "how"], ["x", "y"], [[1, 2.5], ["a,b", None]])
    rows = list(csv.reader(line for line in io.StringIO(content.decode()) if not line.startswith("#")))
    assert rows == [["x", "y"], ["1", "2.5"], ["a,b", ""]]
    (tmp_path / "r.csv").write_bytes(content)
    notes, read = results.read_csv(tmp_path / "r.csv")
    assert notes == ["a machine", "how"]
    assert read == [{"x": "1", "y": "2.5"}, {"x": "a,b", "y": ""}]


# The scripts


def test_the_table_of_the_readme_is_made_from_the_file_it_names() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "readme_table.py"))
    for name in ("README.md", "README.zh-CN.md"):
        page = (ROOT / name).read_text(encoding="utf-8")
        shown = re.search(r"<!-- speed:begin -->\n(.*?)<!-- speed:end -->", page, re.DOTALL)
        assert shown
        source = re.search(r"`(benchmarks/results/\S+\.csv)`", shown[1])
        assert source
        assert script["table"](ROOT / source[1]) == shown[1]


def test_the_table_of_accuracy_is_made_from_the_results() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "accuracy_table.py"))
    page = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- accuracy:begin -->\n(.*?)<!-- accuracy:end -->", page, re.DOTALL)
    assert shown
    assert script["table"](script["newest"]()) == shown[1]


def test_accuracy_of_a_row(tmp_path: Path) -> None:
    data = ROOT.parent / "shared" / "data"
    if not (data / "sales").is_dir():
        pytest.skip("the data sets are not beside the checkout")
    process = script("accuracy", "sales", "--data", data, "--quick", "--out", tmp_path)
    (path,) = tmp_path.glob("*-accuracy-sales.csv")
    _, rows = results.read_csv(path)
    assert {row["who"] for row in rows} >= {"carousel", "seasonal naive", "persistence"}
    naive = [row for row in rows if row["who"] == "seasonal naive" and row["case"] == "monthly-car-sales"]
    assert [round(float(row["value"]), 2) for row in naive if row["metric"] == "sMAPE"] == [11.67]
    assert "mean of 4" in process.stdout


# What each leaves with --quick: columns of its CSV, and values that must be among the rows.
SCRIPTS = {
    "layers": (bench.COLUMNS, {"cell": {"lstm", "gru"}, "mode": set(bench.MODES)}),
    "sweep": (None, {"axis": {"steps", "batch", "layers", "hidden"}, "mode": set(bench.MODES)}),
    "threads": (None, {"table": {"threads", "after torch.mm", "forked workers"}}),
    "memory": (None, {"table": {"kept after different shapes", "peak of a training step"}}),
    "tiny": (None, {"kind": {"LSTM", "GRUCell"}, "state": {"none", "given"}, "mode": set(bench.MODES)}),
    "fits": (None, {"cell": {"lstm", "gru"}, "who": {"carousel"}}),
    "scale": (None, {"case": {"months"}, "series": {"20"}}),
    "options": (None, {"option": {"plain", "float64", "layer_norm", "packed T=40"}}),
}


def script(
    name: str, *arguments: object, code: int = 0, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs benchmarks/name.py in a process of its own, after the lines `before`."""
    program = (
        f"import runpy, sys\nsys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n{before}\n"
        f"sys.argv[0] = {str(ROOT / 'benchmarks' / name)!r} + '.py'\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs(name: str, tmp_path: Path) -> None:
    done = script(name, "--quick", "--rounds", 1, "--threads", 1, "--out", tmp_path)
    path = tmp_path / done.stdout.split("# ")[-1 if name not in ("layers", "sweep") else -2].strip()
    assert path.name.endswith(f"-{name}.csv")
    notes, rows = results.read_csv(path)
    assert "1 thread;" in notes[0]
    columns, wanted = SCRIPTS[name]
    assert columns is None or tuple(rows[0]) == columns
    for column, values in wanted.items():
        assert values <= {row[column] for row in rows}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--threads", "0"), "argument --threads: must be a whole number of at least 1, got 0"),
        (("--rounds", "few"), "argument --rounds: must be a whole number of at least 1, got few"),
        (("--out", "no/where"), "argument --out: 'no/where' is not a directory; make it first"),
        (("--nothing",), "unrecognized arguments: --nothing"),
    ],
)
def test_a_script_refuses(arguments: tuple[str, ...], says: str) -> None:
    assert says in script("layers", *arguments, code=2).stderr.splitlines()[-1]


def test_peers_are_timed_or_named_as_missing(tmp_path: Path) -> None:
    done = script("peers", "--quick", "--rounds", 1, "--only", "lstm", "--out", tmp_path)
    _, rows = results.read_csv(next(tmp_path.iterdir()))
    timed = {row["library"] for row in rows}
    assert {"carousel", "torch.nn"} <= timed
    missing = set(re.findall(r"^# (\w+) is left out: \w+ is not installed$", done.stdout, re.MULTILINE))
    names = {"OnnxRuntime": "ONNX Runtime", "OpenVino": "OpenVINO", "Jax": "JAX", "Keras": "Keras (torch)"}
    for name, title in names.items():
        assert (name in missing) != (title in timed)


@pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed: pip install keras")
def test_layers_of_keras_are_timed(tmp_path: Path) -> None:
    done = script("keras_layers", "--quick", "--rounds", 1, "--only", "gru", "--out", tmp_path)
    _, rows = results.read_csv(next(tmp_path.iterdir()))
    assert [row["mode"] for row in rows] == ["inference", "training", "fit"]
    assert "GRU (10, 20, 2, 3, 5) fit" in done.stdout


def test_peers_without_any(tmp_path: Path) -> None:
    libraries = ("onnx", "onnxruntime", "openvino", "jax", "keras")
    before = f"import sys; sys.modules |= dict.fromkeys({libraries}, None)"
    done = script("peers", "--quick", "--rounds", 1, "--out", tmp_path, before=before)
    for name in ("OnnxRuntime", "OpenVino", "Jax", "Keras"):
        assert f"# {name} is left out: " in done.stdout
    _, rows = results.read_csv(next(tmp_path.iterdir()))
    assert {row["library"] for row in rows} == {"carousel", "carousel.stream", "torch.nn"}


def test_a_peer_with_its_gates_exchanged_is_not_timed(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    before = (
        "import carousel.layout; carousel.layout.ORDERS['lstm']['onnx'] = 'ifgo'; sys.modules['keras'] = None"
    )
    done = script("peers", "--quick", "--out", tmp_path, before=before, code=1)
    assert "ONNX Runtime, LSTM (10, 20, 2, 3, 5) inference: the result differs by" in done.stderr
    assert not list(tmp_path.iterdir())


def test_programs_of_others_compute_the_same_and_are_timed(tmp_path: Path) -> None:
    name = "tutorial 1b, many to many"
    script("in_the_wild", "--quick", "--rounds", 1, "--only", name, "--out", tmp_path)
    notes, (row,) = results.read_csv(next(tmp_path.iterdir()))
    assert "1 thread;" in notes[0]
    assert (row["program"], row["layers"]) == (name, "LSTM(10, 20, num_layers=2) on (5, 3, 10)")
    for column in ("loss_difference", "nudged_difference"):  # other kernels, other weights; same network
        assert 0 < float(row[column]) < 1e-5
    assert float(row["layer_ms"]) > 0
    assert row["said"] == "accelerated 1 LSTM"


def test_programs_that_are_not_installed_are_named(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    if find_spec("sb3_contrib"):
        pytest.skip("sb3-contrib is installed")
    name = "sb3-contrib RecurrentPPO"
    done = script("in_the_wild", "--quick", "--rounds", 1, "--only", name, "--out", tmp_path)
    assert re.search(rf"^{name} *left out: sb3_contrib is not installed$", done.stdout, re.MULTILINE)


def test_other_losses_are_not_timed() -> None:
    loss_differences = in_the_wild()["loss_differences"]
    losses = [1.0] * 20
    assert loss_differences("a", losses, losses, losses) == (0, 0)
    for other in ([1.0] * 19 + [1.01], [1.0] * 19 + [float("nan")], [1.0] * 19):
        with pytest.raises(bench.BenchmarkError, match=r"^a: "):
            loss_differences("a", other, losses, losses)


def test_losses_may_differ_as_far_as_rounding_takes_them() -> None:
    loss_differences = in_the_wild()["loss_differences"]
    losses, nudged = [1.0] * 20, [1.0] * 10 + [1.01] * 10
    late, early = [1.0] * 15 + [1.05] * 5, [1.0] * 9 + [1.05] * 11
    assert loss_differences("a", late, losses, losses, nudged) == pytest.approx((0.05, 0.01))
    with pytest.raises(bench.BenchmarkError, match=r"^a: losses of step 10 differ by 0\.05 where 0\.0001 is"):
        loss_differences("a", early, losses, losses, nudged)


def in_the_wild() -> dict[str, Any]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return runpy.run_path(str(ROOT / "benchmarks" / "in_the_wild.py"))
    finally:
        sys.path.pop(0)
