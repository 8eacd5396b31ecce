"""Who may import whom. Read from the sources, then tried in processes of their own; the checks themselves are tried
on trees that break every rule.

A part of carousel imports only from parts above it in PARTS. `interop` stands above `nn`, which makes a torch module
of a Network with its help. `import carousel` imports no part at all: its names are loaded at first use.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "carousel"
CSRC = ROOT / "csrc"

# From the ground up, each with the foreign libraries that it may import as it is itself imported.
PARTS = {
    "errors": set(),
    "importing": set(),
    "layout": {"numpy"},
    "reference": {"numpy"},
    "network": {"numpy", "safetensors"},
    "series": {"numpy"},
    "_core": set(),
    "stream": {"numpy"},
    "interop": {"numpy"},
    "nn": {"numpy", "torch"},
    "keras": {"keras", "torch"},
    "forecast": {"numpy", "torch", "narwhals", "pyarrow"},
    "serve": {"numpy", "fastapi", "prometheus_client", "starlette"},
    "files": set(),
    "bench": set(),
    "cli": {"click"},
    "__main__": set(),
    "__init__": set(),
}
NOT_BELOW = {"reference"}  # the judge: imported by tests and documentation only
ORDER = list(PARTS)
# Files that others import late, so that they may do at once what the rest of their part may not.
LATE = {
    "interop/_onnx_build.py": {"onnx"},
    "interop/_onnx_cut.py": {"onnx"},
    "interop/_onnx_file.py": {"onnx"},
    "interop/_onnx_forecaster.py": {"onnx"},
    "interop/_onnx_graph.py": {"onnx"},
    "interop/_onnx_run.py": {"onnx"},
    "interop/_onnx_write.py": {"onnx"},
    "interop/_torch_layers.py": {"torch"},
    "interop/_torch_modules.py": {"torch"},
    "interop/_torch_wiring.py": {"torch"},
    "bench/agreement.py": {"torch"},
    "bench/pair.py": {"torch"},
    "bench/peak.py": {"torch"},
    "bench/worker.py": {"torch"},
    "cli/demos/sine.py": {"numpy", "torch"},
    "cli/demos/airline.py": {"numpy", "pyarrow"},
}


def imported(tree):
    """(module, is at once, line) of every import; those for type checkers only are left out."""
    late = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            late |= {id(inner) for inner in ast.walk(node) if inner is not node}
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for inner in ast.walk(node):
                inner.skipped = True
    for node in ast.walk(tree):
        if getattr(node, "skipped", False):
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names = [node.module or ""]
            if node.module == "carousel":
                names = [f"carousel.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) not in late, node.lineno


def violations(package, homes):
    """What in a tree of Python sources breaks the rules; `homes` are the parts of names such as carousel.load."""
    lines = []
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        part = place.parts[0].removesuffix(".py")
        if part not in ORDER:
            lines.append(f"{place}: not in the list of parts")
            continue
        allowed = PARTS[part] | LATE.get(place.as_posix(), set())
        for name, at_once, line in imported(ast.parse(path.read_text(encoding="utf-8"))):
            words = name.split(".")
            if words[0] != "carousel":
                if at_once and words[0] in FOREIGN and words[0] not in allowed:
                    lines.append(f"{place}:{line}: imports {words[0]} at once")
                continue
            if part == "__init__" or len(words) == 1 or words[1] == "__version__":
                continue
            other = homes.get(words[1], words[1])
            if other == part:
                continue
            if other not in ORDER:
                lines.append(f"{place}:{line}: imports {name}, not in the list of parts")
            elif ORDER.index(other) > ORDER.index(part):
                lines.append(f"{place}:{line}: {part} imports {other}, which stands on it")
            elif other in NOT_BELOW:
                lines.append(f"{place}:{line}: imports the {other}")
    return lines


FOREIGN = {
    "numpy", "safetensors", "torch", "keras", "tensorflow", "onnx", "onnxruntime", "pandas", "polars", "pyarrow",
    "narwhals", "matplotlib", "rich", "click", "utilsforecast", "coreforecast", "sklearn", "h5py", "holidays",
    "fastapi", "starlette", "uvicorn", "websockets", "prometheus_client",
}  # fmt: skip


C_HEADERS = ("stddef.h", "stdint.h", "immintrin.h", "arm_neon.h")  # they define no inline function of C++


def includes(path):
    """Names as they stand in the file, with their quotes or brackets."""
    return re.findall(r'^\s*#\s*include\s+([<"][^>"]+[>"])', path.read_text(encoding="utf-8"), re.MULTILINE)


def compiled_per_isa(csrc):
    """The files of isa/ and kernels/, and all that they include."""
    found, ahead = set(), [path for part in ("isa", "kernels") for path in (csrc / part).glob("*.*")]
    while ahead:
        path = ahead.pop().resolve()
        if path not in found and path.exists():
            found.add(path)
            ahead += [path.parent / name[1:-1] for name in includes(path) if name[0] == '"']
    return found


def include_violations(csrc):
    """What in a tree of C++ sources breaks the rules."""
    lines = []
    per_isa = compiled_per_isa(csrc)
    for path in sorted(csrc.rglob("*.[ch]*")):
        place = path.relative_to(csrc)
        for name in includes(path):
            word = name[1:-1]
            if re.match(r"(torch|ATen|c10)\b", word):
                lines.append(f"{place}: includes {word}")
            if re.match(r"(Python\.h|nanobind/|numpy/)", word) and place.parent.name != "python":
                lines.append(f"{place}: includes {word}")
            if path.resolve() in per_isa and name[0] == "<" and word not in C_HEADERS:
                lines.append(f"{place}: includes {word}, whose inline functions the linker may share")
            if place.name == "carousel.h" and word not in ("stddef.h", "stdint.h"):
                lines.append(f"{place}: includes {word}")
    return lines


@pytest.fixture(scope="module")
def homes():
    import carousel

    return {name: home.split(".")[1] for name, home in carousel._HOMES.items()}


def test_parts_import_what_is_above_them(homes):
    assert len(list(PACKAGE.rglob("*.py"))) > 40
    assert not violations(PACKAGE, homes)


def test_sources_include_what_they_may():
    assert len(list(CSRC.rglob("*.h"))) > 10
    assert not include_violations(CSRC)


BAD_PYTHON = {
    "errors.py": ("import numpy", "errors.py:1: imports numpy at once"),
    "stream/model.py": (
        "from carousel.nn import LSTM",
        "stream/model.py:1: stream imports nn, which stands on it",
    ),
    "stream/late.py": (
        "def f():\n    from carousel import nn",
        "stream/late.py:2: stream imports nn, which stands on it",
    ),
    "stream/door.py": (
        "def f():\n    import carousel\n    from carousel import load",
        "stream/door.py:3: stream imports files, which stands on it",
    ),
    "nn/lstm.py": ("from carousel.reference import lstm", "nn/lstm.py:1: imports the reference"),
    "interop/torch.py": ("import numpy\nimport torch", "interop/torch.py:2: imports torch at once"),
    "interop/keras.py": (
        "try:\n    import keras\nexcept ImportError: pass",
        "interop/keras.py:2: imports keras at once",
    ),
    "network/stack.py": (
        "import carousel.series",
        "network/stack.py:1: network imports series, which stands on it",
    ),
    "series/read.py": ("class A:\n    import pandas as pd", "series/read.py:2: imports pandas at once"),
    "utils.py": ("", "utils.py: not in the list of parts"),
    "serve/run.py": ("import uvicorn", "serve/run.py:1: imports uvicorn at once"),
    "cli/fit.py": (
        "from carousel.magic import spell",
        "cli/fit.py:1: imports carousel.magic, not in the list of parts",
    ),
}
GOOD_PYTHON = {
    "interop/good.py": "def load():\n    import torch\n    from carousel.stream import Model",
    "stream/good.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n    import carousel.nn",
}
BAD_SOURCES = {
    "dispatch.cpp": ("#include <Python.h>", "dispatch.cpp: includes Python.h"),
    "check.cpp": ("# include <torch/extension.h>", "check.cpp: includes torch/extension.h"),
    "team.h": ("#include <nanobind/nanobind.h>", "team.h: includes nanobind/nanobind.h"),
    "carousel.h": ('#include "team.h"', "carousel.h: includes team.h"),
    "kernels/lstm.h": (
        "#include <cmath>",
        "kernels/lstm.h: includes cmath, whose inline functions the linker may share",
    ),
    "isa.h": ("#include <vector>", "isa.h: includes vector, whose inline functions the linker may share"),
    "isa/avx2.cpp": (
        '#include "../isa.h"\n#include <algorithm>',
        "isa/avx2.cpp: includes algorithm, whose inline functions the linker may share",
    ),
}


def test_the_checks_notice_what_breaks_a_rule(tmp_path, homes):
    for name, text in [(n, t) for n, (t, _) in (BAD_PYTHON | BAD_SOURCES).items()] + [*GOOD_PYTHON.items()]:
        path = tmp_path / ("py" if name.endswith(".py") else "csrc") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert sorted(violations(tmp_path / "py", homes)) == sorted(line for _, line in BAD_PYTHON.values())
    assert sorted(include_violations(tmp_path / "csrc")) == sorted(line for _, line in BAD_SOURCES.values())


# Modules, and what they must not have loaded when they are there.
HEAVY = FOREIGN - {"numpy", "safetensors", "click"}
LOADED = {
    "carousel": FOREIGN | {"carousel._core", "importlib.metadata"},
    "carousel.errors": FOREIGN,
    "carousel.layout": FOREIGN - {"numpy"},
    "carousel.reference": FOREIGN - {"numpy"},
    "carousel.network": HEAVY | {"click"},
    "carousel.series": HEAVY | {"click", "carousel._core"},
    "carousel.stream": HEAVY | {"click"},
    "carousel.stream.forecaster": HEAVY | {"click"},
    "carousel.interop": HEAVY,
    "carousel.interop.keras": HEAVY,
    "carousel.interop.onnx": HEAVY,
    "carousel.interop.torch": HEAVY,
    "carousel.files": HEAVY,
    "carousel.nn": HEAVY - {"torch"} | {"torch._dynamo"},
    "carousel.forecast": HEAVY - {"narwhals", "pyarrow"} | {"click"},
    "carousel.serve": HEAVY - {"fastapi", "starlette", "prometheus_client"},
    "carousel.bench": FOREIGN - {"numpy"},
    "carousel.cli": HEAVY | {"numpy", "carousel._core"},
}


@pytest.mark.parametrize("name", LOADED)
def test_what_an_import_loads(name, python):
    program = f"import sys; bare = set(sys.modules); import {name}; print(*(set(sys.modules) - bare))"
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    assert not LOADED[name] & set(done.stdout.split())


def test_names_are_loaded_at_first_use(python):
    program = (
        "import sys, carousel\n"
        "assert not any(m.startswith('carousel.') for m in sys.modules), sorted(sys.modules)\n"
        "assert {'nn', 'accelerate', 'load', 'Forecaster'} <= set(dir(carousel))\n"
        "carousel.stream\n"
        "assert 'torch' not in sys.modules\n"
        "assert carousel.nn.LSTM and 'torch' in sys.modules\n"
        "assert carousel.accelerate is carousel.nn.acceleration.accelerate\n"
        "assert carousel.interop.numpy.load and carousel.interop.torch.load\n"
        "for name in carousel.__all__: getattr(carousel, name)\n"
        "try: carousel.magic\n"
        "except AttributeError as error: print(error)\n"
    )
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "module 'carousel' has no attribute 'magic'\n"
