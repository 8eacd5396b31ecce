"""Our classes pass what torch's pass in torch's own database of module inputs (torch_checks.py)."""

import re

import pytest

pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="torch's database of modules imports it")

BROKEN = """
import torch_checks
true = torch_checks.nn.LSTM.forward
torch_checks.nn.LSTM.forward = lambda self, *arguments: tuple(true(self, *arguments)[:1]) * 2
torch_checks.KINDS = ("LSTM",)
raise SystemExit(torch_checks.main(every=32))
"""


def test_ours_fail_nothing_that_torchs_pass(python):
    """In a process of its own: the database forbids that, in its process, torch's flags be set."""
    done = python("torch_checks.py", "--every", 8, threads=1, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.findall(r"(torch|carousel)\.nn\.(\w+): (\d+) passed", done.stdout)
    assert len(counts) == 12
    assert all(int(count) >= 20 for *_, count in counts)


def test_a_failure_is_noticed(python):
    done = python("-c", BROKEN, threads=1, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "forward, input 0" in done.stdout
    assert "torch's too" not in done.stdout
