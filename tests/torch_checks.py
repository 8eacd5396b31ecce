"""torch's own database of module inputs, run with torch's classes and with ours.

    python tests/torch_checks.py [--every 8]

takes every input of the database, or every eighth, in three minutes or half of one;
prints how many checks passed and failed of each class, names what failed, and exits 1 where ours fails what torch's
passes. The database is torch.testing._internal.common_modules; the checks are those that torch's own tests make
with it, as far as they mean something on one CPU: no second device, and no memory format of four axes.
"""

from __future__ import annotations

import argparse
import copy
import io
import pickle
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.utils.rnn import PackedSequence
from torch.testing._internal import common_modules
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from carousel import nn

KINDS = ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell")
DTYPES = (torch.float32, torch.float64)
CLOSE = {
    torch.float32: {"rtol": 1.3e-6, "atol": 1e-5},
    torch.float64: {"rtol": 1e-7, "atol": 1e-7},
}  # torch's own


class Sample:
    """One entry of the database: a module of `library`, in train or eval mode, and the arguments of a call."""

    def __init__(self, kind: str, library: Any, entry: Any, dtype: torch.dtype, training: bool) -> None:
        self.cls, self.entry, self.dtype, self.training = getattr(library, kind), entry, dtype, training
        self.args, self.kwargs = entry.forward_input.args, entry.forward_input.kwargs

    def constructor(self, **more: Any) -> torch.nn.Module:
        given = self.entry.constructor_input
        module: torch.nn.Module = self.cls(*given.args, **given.kwargs, **more)
        return module

    def module(self) -> torch.nn.Module:
        torch.manual_seed(0)
        return self.constructor().to(self.dtype).train(self.training)


def assert_close(found: Any, right: Any, dtype: torch.dtype) -> None:
    for a, b in zip(flat(found), flat(right), strict=True):
        torch.testing.assert_close(a, b, **CLOSE[dtype])


def flat(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def floating(tree: Any) -> list[Tensor]:
    return [t for t in flat(tree) if t.is_floating_point()]


# ---- the checks: each raises where something is wrong ----


def forward(sample: Sample) -> None:
    """The call runs, twice with equal results, and agrees with the database's reference."""
    module = sample.module()
    found = module(*sample.args, **sample.kwargs)
    assert_close(module(*sample.args, **sample.kwargs), found, sample.dtype)
    if sample.entry.reference_fn is not None and not isinstance(sample.args[0], PackedSequence):
        right = sample.entry.reference_fn(module, *sample.args, **sample.kwargs)
        assert_close(found, right, sample.dtype)


def factory_arguments(sample: Sample) -> None:
    """`dtype` and `device` reach every parameter; the meta device allocates nothing."""
    other = torch.float64 if sample.dtype is torch.float32 else torch.float32
    assert {p.dtype for p in sample.constructor(dtype=other).parameters()} == {other}
    module = sample.constructor(device="meta", dtype=sample.dtype)
    assert {(p.device.type, p.dtype) for p in module.parameters()} == {("meta", sample.dtype)}
    assert {p.device.type for p in module.to_empty(device="cpu").parameters()} == {"cpu"}


def representation(sample: Sample) -> None:
    module = sample.module()
    assert repr(module) == str(module)
    assert repr(module).startswith(f"{type(module).__name__}(")


def copies(sample: Sample) -> None:
    """deepcopy, pickle, torch.save, and a state dict: all compute the same."""
    module = sample.module()
    right = module(*sample.args, **sample.kwargs)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded = sample.module()
    loaded.load_state_dict(module.state_dict())
    others = (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(file, weights_only=False))
    for other in (*others, loaded):
        assert type(other) is type(module)
        assert_close(other(*sample.args, **sample.kwargs), right, sample.dtype)


def moves(sample: Sample) -> None:
    """To another dtype and back, and to the memory format that modules of fewer than four axes have."""
    module = sample.module()
    right = module(*sample.args, **sample.kwargs)
    module.to(torch.float64).to(sample.dtype).to(memory_format=torch.contiguous_format)
    assert_close(module(*sample.args, **sample.kwargs), right, sample.dtype)


def scattered(tensor: Any) -> Any:
    """Equal, with gaps between the elements."""
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        return tensor
    made = torch.empty(*tensor.shape, 2, dtype=tensor.dtype)[..., 1].copy_(tensor.detach())
    return made.requires_grad_(tensor.requires_grad)


def strides(sample: Sample) -> None:
    """Inputs and incoming gradients with gaps give what contiguous ones give, in every mixture."""
    module = sample.module()
    right: list[Tensor] | None = None
    for change in (lambda t: t, scattered):
        for change_gradients in (lambda t: t, scattered):
            args, kwargs = tree_map(change, (sample.args, sample.kwargs))
            outputs = [o for o in floating(module(*args, **kwargs)) if o.requires_grad]
            torch.manual_seed(1)
            gradients = [change_gradients(torch.randn(o.shape, dtype=o.dtype)) for o in outputs]
            sources = [*(t for t in floating((args, kwargs)) if t.requires_grad), *module.parameters()]
            found = [*outputs, *torch.autograd.grad(outputs, sources, gradients)]
            right = right or found
            assert_close(found, right, sample.dtype)


def derivative(check: Callable[..., bool], sample: Sample) -> None:
    """The gradient, or the gradient of the gradient, of inputs and parameters against differences."""
    module = sample.module()
    names, parameters = zip(*module.named_parameters(), strict=True)
    leaves, form = tree_flatten((sample.args, sample.kwargs))
    given = [t for t in leaves if isinstance(t, Tensor) and t.requires_grad]

    def function(*values: Tensor) -> tuple[Tensor, ...]:
        fresh = iter(values[len(parameters) :])
        args, kwargs = tree_unflatten(
            [next(fresh) if any(leaf is t for t in given) else leaf for leaf in leaves], form
        )
        named = dict(zip(names, values, strict=False))
        outputs = torch.func.functional_call(module, named, args, kwargs)
        return tuple(o for o in floating(outputs) if o.requires_grad)

    assert check(function, (*parameters, *given), fast_mode=True)


CHECKS: dict[str, Callable[[Sample], None]] = {
    "forward": forward,
    "factory arguments": factory_arguments,
    "representation": representation,
    "copies": copies,
    "moves": moves,
    "strides": strides,
}
DERIVATIVES: dict[str, Callable[[Sample], None]] = {
    "gradient": partial(derivative, gradcheck),
    "gradient of the gradient": partial(derivative, gradgradcheck),
}  # in float64, and once, for without dropout train and eval are one


# ---- running them ----


def entries(kind: str, dtype: torch.dtype, training: bool) -> list[Any]:
    """The database's inputs for one class, packed sequences included."""
    (info,) = [i for i in common_modules.module_db if i.module_cls is getattr(torch.nn, kind)]
    torch.manual_seed(2)
    given = {"device": "cpu", "dtype": dtype, "requires_grad": True, "training": training}
    packed = {"with_packed_sequence": True} if kind in ("GRU", "RNN") else {}
    return list(info.module_inputs_func(info, **given, **packed))


def error_entries(kind: str, dtype: torch.dtype) -> list[Any]:
    (info,) = [i for i in common_modules.module_db if i.module_cls is getattr(torch.nn, kind)]
    given = {"device": "cpu", "dtype": dtype, "requires_grad": False, "training": True}
    return list(info.module_error_inputs_func(info, **given))


def misuse(kind: str, library: Any, entry: Any) -> None:
    """The exception that the database foretells, where it foretells it."""
    given = entry.module_error_input
    cls, make = getattr(library, kind), given.constructor_input
    try:
        module = cls(*make.args, **make.kwargs)
        if entry.error_on is not common_modules.ModuleErrorEnum.CONSTRUCTION_ERROR:
            module(*given.forward_input.args, **given.forward_input.kwargs)
    except entry.error_type as error:
        if not re.search(entry.error_regex, str(error)):
            raise
    else:
        raise AssertionError(f"no {entry.error_type.__name__}")


def outcomes(kind: str, library: Any, every: int) -> Iterator[tuple[str, str]]:
    """(check, what was wrong or "") for every check of a class; names are equal for both libraries."""
    for dtype in DTYPES:
        for training in (True, False):
            for number, entry in list(enumerate(entries(kind, dtype, training)))[::every]:
                sample = Sample(kind, library, entry, dtype, training)
                derivatives = DERIVATIVES if training and dtype is torch.float64 else {}
                for name, check in {**CHECKS, **derivatives}.items():
                    mode = "train" if training else "eval"
                    yield f"{name}, input {number}, {dtype}, {mode}", wrong_with(check, sample)
        for number, entry in enumerate(error_entries(kind, dtype)):
            yield f"error {number}, {dtype}", wrong_with(misuse, kind, library, entry)


def wrong_with(check: Callable[..., None], *arguments: Any) -> str:
    try:
        check(*arguments)
    except Exception as error:  # whatever it is, it is reported
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def main(every: int = 1) -> int:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    only_ours = 0
    for kind in KINDS:
        torchs, ours = (dict(outcomes(kind, library, every)) for library in (torch.nn, nn))
        for title, found in (("torch.nn", torchs), ("carousel.nn", ours)):
            failed = sum(map(bool, found.values()))
            print(f"{title}.{kind}: {len(found) - failed} passed, {failed} failed")
        for name, wrong in ours.items():
            if wrong:
                print(f"  {name}: {wrong}" + (" (torch's too)" if torchs[name] else ""))
                only_ours += not torchs[name]
    print(f"{only_ours} failures of ours that torch's classes do not have")
    return 1 if only_ours else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1)
    sys.exit(main(parser.parse_args().every))
