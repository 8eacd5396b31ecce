"""Our layer and torch's with the same weights and the same input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from carousel import nn
from carousel.bench.agreement import check_equal
from carousel.bench.errors import BenchmarkError
from carousel.bench.problem import Problem
from carousel.bench.timing import Call
from carousel.nn.acceleration import kernel_path

__all__ = ["calls", "check_modules", "forward", "modules", "pair", "step"]


def pair(problem: Problem) -> tuple[Call, Call]:
    """The call of ours and that of torch's, after they were found to give equal results.

    Raises:
        BenchmarkError: outputs or gradients differ, or ours would not run on our kernels.
    """
    ours, theirs, x, dy = modules(problem)
    path = kernel_path(ours, x)
    if not path.startswith("carousel"):
        raise BenchmarkError(f"{problem}: ours would take the path of {path}.")
    check_modules(str(problem), ours, theirs, x, dy if problem.mode == "training" else None)
    return calls(problem.mode, ours, x, dy), calls(problem.mode, theirs, x, dy)


def modules(problem: Problem) -> tuple[torch.nn.Module, torch.nn.Module, Tensor, Tensor]:
    """Ours and torch's of the same weights, the input (T, B, I) and the gradient of the output (T, B, H)."""
    I, H, L, B, T = problem.shape
    torch.manual_seed(0)
    theirs = getattr(torch.nn, problem.cell.upper())(I, H, L)
    ours = getattr(nn, problem.cell.upper())(I, H, L)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs, torch.randn(T, B, I), torch.randn(T, B, H)


def calls(mode: str, module: torch.nn.Module, x: Any, dy: Tensor) -> Call:
    """What is timed: a forward pass, or a training step without its optimiser."""
    return (lambda: forward(module, x)) if mode == "inference" else (lambda: step(module, x, dy))


def forward(module: torch.nn.Module, x: Any) -> Tensor:
    """The output, without a gradient."""
    with torch.no_grad():
        y: Tensor = module(x)[0]
        return y


def step(module: torch.nn.Module, x: Any, dy: Tensor) -> Tensor:
    """The output, after a pass backward that leaves ∂(y · dy)/∂w in every `w.grad`."""
    for parameter in module.parameters():
        parameter.grad = None
    y: Tensor = module(x)[0]
    y.backward(dy)
    return y.detach()


def check_modules(
    what: str, ours: torch.nn.Module, theirs: torch.nn.Module, x: Tensor, dy: Tensor | None
) -> None:
    """Raises a BenchmarkError unless outputs, and gradients where there is a dy, are equal."""
    results = [forward(module, x) if dy is None else step(module, x, dy) for module in (ours, theirs)]
    check_equal(f"{what}: the output", *results)
    if dy is not None:
        wanted = dict(theirs.named_parameters())
        for name, parameter in ours.named_parameters():
            assert parameter.grad is not None
            gradient = wanted[name].grad
            assert gradient is not None
            check_equal(f"{what}: the gradient of {name}", parameter.grad, gradient, gradient=True)
