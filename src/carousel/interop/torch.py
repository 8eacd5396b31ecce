"""torch modules to Network and back.

torch's gate order is ours, so weights cross unchanged, bit by bit. A Network is always (T, B, I): of a
`batch_first` module the numbers are the same, the first two axes change places.

Every `load` ends with a trial: module and Network run on the same random sequence. Of a file only a `state_dict` is
read and written, weights by name and no code: what it does not say of the model around them is refused.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from carousel.errors import ArgumentError, UnsupportedError
from carousel.interop._models import as_network
from carousel.interop.verification import Conversion, Trial, distance, sample
from carousel.network import Network, Recurrent

if TYPE_CHECKING:
    import torch

    from carousel.interop._torch_layers import Layers

__all__ = ["difference", "load", "read", "recurrent_layers", "save"]


def load(module: torch.nn.Module | str | os.PathLike[str] | Mapping[str, torch.Tensor]) -> Network:
    """The Network that computes what `module` computes in evaluation mode.

    Args:
        module: LSTM, GRU, RNN or Linear of `torch.nn`, or a Sequential of them, nested at will. A Linear
            may be followed by Sigmoid, Tanh, ReLU or Softmax; Dropout and Identity leave nothing behind. Of a
            recurrent module the outputs go on to the next one. What `save` makes comes back equal. Or a module of
            a class of your own that holds such layers in the order in which they run: its forward is tried, and
            must give every step of the recurrent ones to the next, or the last one. Or a `state_dict`, or the
            path of a file that holds one: LSTM or GRU layers, and at most one Linear, which is taken to read
            every step, with a UserWarning where its name does not say so.

    Raises:
        UnsupportedError: a module or an option that a Network cannot express; the text names it. Or the
            module, of a class of its own or with hooks, computes something else than its weights say. Or weights
            whose use their names do not say.
        ShapeError: modules that do not fit one another, or neither float32 nor float64.
        FormatError: the file is damaged, or holds anything but tensors by name.
        ArgumentError: `module` is none of these.
        OSError: the system could not read.

    Example:
        >>> import torch
        >>> network = load(torch.nn.Sequential(torch.nn.LSTM(3, 8, num_layers=2), torch.nn.Linear(8, 1)))
        >>> network
        Network(Recurrent(LSTM, 3 -> 8), Recurrent(LSTM, 8 -> 8), Dense(identity, 8 -> 1))
    """
    report = read(module)
    if report.assumed:
        warnings.warn(f"{report.assumed}.", stacklevel=2)
    network: Network = report.network
    return network


def read(module: torch.nn.Module | str | os.PathLike[str] | Mapping[str, torch.Tensor]) -> Conversion:
    """As `load`, with the largest difference of the trial, which check ran, and what became of every module."""
    import torch

    from carousel.interop import _state_dict

    if isinstance(module, str | os.PathLike):
        return _state_dict.read(module)
    if isinstance(module, Mapping):
        return _state_dict.conversion(module)
    if not isinstance(module, torch.nn.Module):
        raise ArgumentError(
            f"`module` must be a torch module, a state_dict or a path of one, got {type(module).__name__}."
        )
    from carousel.interop import _torch_modules, _torch_wiring

    module = _torch_modules.unwrapped(module)
    _torch_modules.check_tensors(module)
    if _torch_wiring.is_wired(module):
        return _torch_wiring.read(module)
    network, told = _torch_modules.joined(_torch_modules.leaves("module", module))
    largest = checked(module, network, "`module`")
    return Conversion(network, largest, "torch's own modules", told)


def difference(module: torch.nn.Module, network: Network) -> float:
    """The largest difference between their outputs, relative to the largest output.

    Both run on the same random sequence, the module a copy of it in evaluation mode.
    """
    _, y, expected = _tried(module, network)
    return distance(y, expected)


def checked(module: torch.nn.Module, network: Network, what: str) -> float:
    """As `difference`.

    Raises:
        UnsupportedError: it is more than rounding; the text begins with `what`.
    """
    trial, y, expected = _tried(module, network)
    return trial.check(y, expected, what)


def _tried(module: torch.nn.Module, network: Network) -> tuple[Trial, NDArray[Any], NDArray[Any]]:
    """A trial, what the network gives, and what the module gives."""
    import torch

    from carousel.interop._torch_modules import leaves
    from carousel.stream import Model

    x = sample(network, np.random.default_rng(0), T=5, B=3)
    with torch.no_grad():
        y = torch.from_numpy(x).to(next(module.parameters()).device)
        for _, leaf in leaves("module", _copied(module).eval()):
            if not isinstance(leaf, torch.nn.RNNBase):
                y = leaf(y)
            elif leaf.batch_first:
                y = leaf(y.transpose(0, 1))[0].transpose(0, 1)
            else:
                y = leaf(y)[0]
    expected = y.cpu().numpy()
    return Trial(network, x), Model(network).run(x), expected


def _copied(module: torch.nn.Module) -> torch.nn.Module:
    try:
        return deepcopy(module)
    except RuntimeError as error:
        raise UnsupportedError(
            "`module` cannot be copied, because of weights that are computed from others, as the old "
            "torch.nn.utils.weight_norm does; remove that with torch.nn.utils.remove_weight_norm, or use "
            "torch.nn.utils.parametrizations."
        ) from error


@overload
def save(network: Network | torch.nn.Module) -> Layers: ...
@overload
def save(network: Network | torch.nn.Module, path: str | os.PathLike[str]) -> Conversion: ...
def save(
    network: Network | torch.nn.Module, path: str | os.PathLike[str] | None = None
) -> Layers | Conversion:
    """A torch module of the same numbers: a Sequential of torch's own layers, (T, B, I) in.

    Args:
        network: a Network, a torch module that `load` takes, or a model of Keras.
        path: of a file to write the `state_dict` of that module to, atomically, instead of giving the module; what
            comes back is what `read` tells.

    Raises:
        UnsupportedError: masks, and what torch.nn has no option for, such as a GRU whose reset gate acts before
            the product; the text names it.
        ArgumentError: `network` is something else, or `path` is a directory or a device.
        OSError: the system could not write.
    """
    from carousel.interop import _state_dict
    from carousel.interop._torch_layers import Layers

    network = as_network(network)
    return Layers.of(network) if path is None else _state_dict.save(network, path)


def recurrent_layers(module: torch.nn.RNNBase) -> tuple[Recurrent, ...]:
    """The layers of a torch.nn.LSTM, GRU or RNN, bottom first; their weights are copies.

    Raises:
        UnsupportedError: an option that a Network cannot express.
    """
    from carousel.interop import _torch_modules

    return _torch_modules.recurrent_layers(module)
