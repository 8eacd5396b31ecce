"""Every example runs as its reader would run it, and says what it promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

# Lines that the output must contain; an example that is not listed must only run.
PROMISED = {
    "many_to_many": ["output (5, 3, 1)", "every weight has its gradient: True", "as torch.nn.LSTM: True"],
    "gru_layer": ["output (1, 1, 5) state (1, 1, 5)", "the output of the last step is the state: True"],
    "lstm_step": [f"({k}) " for k in range(1, 7)],
    "gru_cell": ["the kernels agree: True", "weights come back equal: True"],
    "numpy_stack": ["epoch 200", "right 100%", "trained weights per gate: (5, 8) (5, 8) (5, 8) (5, 8)"],
    "last_step": ["lstm: LSTM accelerated", "epoch 0", "epoch 9"],
}


def run(name: str, folder: Path) -> str:
    """What the example prints, run in an empty folder with warnings as errors."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_example(name, tmp_path):
    output = run(name, tmp_path)
    for line in PROMISED.get(name, []):
        assert line in output


def test_nothing_promised_is_missing():
    assert set(PROMISED) <= {path.stem for path in EXAMPLES.glob("*.py")}


def test_accelerated_losses_are_those_of_torch(tmp_path):
    rows = [line.split() for line in run("last_step", tmp_path).splitlines() if line.startswith("epoch")]
    assert len(rows) == 10
    for _, _, _, theirs, _, ours in rows:
        assert float(ours) == pytest.approx(float(theirs), abs=2e-6)  # six digits are printed
    assert float(rows[-1][3]) < float(rows[0][3])
