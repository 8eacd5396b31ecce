"""What several test files share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("unhurried", deadline=None)  # the machine may be busy
settings.load_profile("unhurried")

TESTS = Path(__file__).parent


@pytest.fixture
def python():
    """Runs `python *arguments` in tests/, on `isa` where one is named; returns the finished process."""

    def run(*arguments, isa=None, threads=None, text=None, timeout=120, **variables):
        environment = {**os.environ, "PYTHONPATH": str(TESTS), **variables}
        environment |= {} if isa is None else {"CAROUSEL_ISA": isa}
        environment |= {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, *map(str, arguments)]
        options = {"capture_output": True, "text": True, "check": False}
        return subprocess.run(command, input=text, env=environment, cwd=TESTS, timeout=timeout, **options)

    return run


@pytest.fixture
def one_thread():
    """For many small calls of torch: its threads would wait for each other, the longer the busier the machine is."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
