"""torch.nn.LSTM, GRU and RNN on our kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from carousel.errors import UnsupportedError
from carousel.nn import metadata, parameters
from carousel.nn.again import again, remember
from carousel.nn.beyond import PLAIN, Beyond
from carousel.nn.call import HAS_GUARDS, Beside, Seen, are_certain, is_low, path, torch_can, why_not
from carousel.nn.compute import compute
from carousel.nn.dynamo import admit, keep_out
from carousel.nn.function import run
from carousel.nn.gates import Gates
from carousel.nn.misuse import check_as_torch
from carousel.nn.ragged import check_lengths, lengths_of
from carousel.nn.scripting import scriptable
from carousel.nn.spec import Batch, Options, Spec
from carousel.nn.tracing import Proxy, is_node, node

__all__ = ["GRU", "LSTM", "RNN"]


class _Layer:
    """What LSTM, GRU and RNN add to torch's classes: the options of `Beyond`, as keywords of the constructor."""

    # Also of a module that torch's constructor made.
    _beyond, _options = PLAIN, Options()
    _seen, _again = Beside(), Beside()

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        own = Beyond(**{name: kwargs.pop(name) for name in Beyond.__dataclass_fields__ if name in kwargs})
        super().__init__(*args, **kwargs)
        own.check(self.mode, self.bias)
        if own != PLAIN:
            self._beyond, self._options = own, own.options(self.mode)
            parameters.add(self, _spec(self))

    def reset_parameters(self: Any) -> None:
        """As torch's; then the parameters of the options."""
        super().reset_parameters()  # type: ignore[misc]
        parameters.reset(self)

    def extra_repr(self: Any) -> str:
        """As torch's, and our options where one is on."""
        return f"{super().extra_repr()}{self._beyond}"  # type: ignore[misc]

    def __prepare_scriptable__(self: Any) -> torch.nn.Module:
        """What torch.jit.script compiles: torch's layer over the same parameters."""
        return scriptable(self)

    def _save_to_state_dict(self: Any, destination: Any, prefix: str, keep_vars: bool) -> None:
        """As torch's; options that enter the equations, which the weights do not say, go into the metadata."""
        super()._save_to_state_dict(destination, prefix, keep_vars)  # type: ignore[misc]
        metadata.tell(destination, prefix, self, self._recipe())

    def _load_from_state_dict(
        self: Any, state: Any, prefix: str, told: Any, strict: bool, *problems: Any
    ) -> None:
        """As torch's; warns where weights that fit were saved by a layer of other options."""
        before = [len(found) for found in problems]
        super()._load_from_state_dict(state, prefix, told, strict, *problems)  # type: ignore[misc]
        if before == [len(found) for found in problems]:
            metadata.compare(told, prefix, self, self._recipe())

    def _recipe(self: Any) -> dict[str, Any]:
        """The options that enter the equations, where they are not torch's."""
        given, default = self._options._asdict(), Options()._asdict()
        return {name: value for name, value in given.items() if value != default[name]}

    def kernel_path(self: Any, input: Any, hx: Any = None) -> str:
        """Which path a call takes: ours with instruction set and dtype, or another with the reason."""
        x = input.data if isinstance(input, PackedSequence) else input
        weights, low = _weights(self), is_low(x)
        reason = why_not(_spec(self), input, hx, weights, low)
        return path(reason, weights[0].dtype, low, "torch" if self._beyond is PLAIN else "torch operations")


admit(_Layer)
# Plain values, that who allows a layer's class to torch.load(weights_only=True) need not name its options' too.
torch.serialization.add_safe_globals([Beyond, Options])


class LSTM(_Layer, torch.nn.LSTM):
    """`torch.nn.LSTM` on our kernels; its equations are in `carousel.reference.lstm`.

    Same constructor, parameters, initial values, results and errors as torch's class: either loads the
    `state_dict` of the other. What the kernels do not cover takes torch's path; `carousel.kernel_path` tells
    which. Beyond torch's there are the keywords of `carousel.nn.beyond.Beyond`, all off by default.

    Example:
        >>> y, (h, c) = LSTM(3, 8)(torch.zeros(20, 4, 3))
        >>> y.shape, h.shape
        (torch.Size([20, 4, 8]), torch.Size([1, 4, 8]))
        >>> y, state, gates = LSTM(3, 8, peephole=True)(torch.zeros(20, 4, 3), return_gates=True)
        >>> gates.f.shape
        torch.Size([1, 20, 4, 8])
    """

    _torchs: ClassVar[Any] = torch.nn.LSTM.forward

    def forward(self, input: Any, hx: Any = None, *, lengths: Any = None, return_gates: bool = False) -> Any:
        """As `torch.nn.LSTM.forward`: (T, B, I) in, (T, B, D*P) and (h_n, c_n) of (L*D, B, P) and (L*D, B, H) out.

        Args:
            input, hx: as torch has them.
            lengths: (B,) steps of each row; beyond them x is not read, y is 0, and the last state is the row's
                last. No order is needed.
            return_gates: a third result, `Gates`, the gates and cells of all steps.
        """
        return (_with_gates if return_gates else _forward)(self, input, hx, lengths, return_gates)


class GRU(_Layer, torch.nn.GRU):
    """`torch.nn.GRU` on our kernels; its equations are in `carousel.reference.gru`. All else as in `LSTM`.

    Example:
        >>> y, h = GRU(3, 8, num_layers=2)(torch.zeros(20, 4, 3))
        >>> y.shape, h.shape
        (torch.Size([20, 4, 8]), torch.Size([2, 4, 8]))
    """

    _torchs: ClassVar[Any] = torch.nn.GRU.forward

    def forward(self, input: Any, hx: Any = None, *, lengths: Any = None, return_gates: bool = False) -> Any:
        """As `torch.nn.GRU.forward`: (T, B, I) in, (T, B, D*H) and h_n of (L*D, B, H) out; keywords as in `LSTM`."""
        return (_with_gates if return_gates else _forward)(self, input, hx, lengths, return_gates)


class RNN(_Layer, torch.nn.RNN):
    """`torch.nn.RNN` on our kernels, tanh or relu; its equations are in `carousel.reference.rnn`.

    Example:
        >>> y, h = RNN(3, 8, nonlinearity="relu", bidirectional=True)(torch.zeros(20, 4, 3))
        >>> y.shape, h.shape
        (torch.Size([20, 4, 16]), torch.Size([2, 4, 8]))
    """

    _torchs: ClassVar[Any] = torch.nn.RNN.forward

    def forward(self, input: Any, hx: Any = None, *, lengths: Any = None) -> Any:
        """As `torch.nn.RNN.forward`: (T, B, I) in, (T, B, D*H) and h_n of (L*D, B, H) out; lengths as in `LSTM`."""
        return _forward(self, input, hx, lengths, return_gates=False)


def _forward(module: Any, input: Any, hx: Any, lengths: Any, return_gates: bool) -> Any:
    """A call of `module`: ours, or torch's own method, or where only we have the equations, their formula."""
    weights, own = _weights(module), module._beyond
    if lengths is None and not return_gates and (known := again(module, input, hx, weights)) is not None:
        return known.y, (known.h_n if known.c_n is None else (known.h_n, known.c_n))
    if isinstance(input, Proxy) and is_node(module, input):
        return node(module, input, hx, lengths=lengths, return_gates=return_gates)
    spec = _spec(module)
    packed = isinstance(input, PackedSequence)
    x = input.data if packed else input
    low = is_low(x)
    if hx is None and own.learn_initial_state:
        hx = parameters.learned_state(module, input)
    compiling = torch.compiler.is_compiling()
    certain = not compiling and are_certain(module._seen, spec, getattr(x, "dtype", None), weights)
    reason = why_not(spec, input, hx, () if certain else weights, low)
    as_torch = own is PLAIN and lengths is None and not return_gates
    if reason is not None:
        if as_torch and torch_can((x, *weights)):
            return module._torchs(input, hx)
        check_as_torch(module, input, hx)
        if return_gates:
            raise UnsupportedError(f"`return_gates` needs the kernels; this call cannot use them: {reason}.")
    elif not certain:
        weights = _contiguous(module, spec, weights)
    h, c = hx if spec.has_cells and hx is not None else (hx, None)
    drops = module.training and module.dropout > 0 and spec.num_layers > 1
    if as_torch and reason is None and not (packed or low or drops) and x.dim() == 3:
        second, first = x.shape[:2] if spec.batch_first else x.shape[1::-1]
        batch = Batch(first, second)
        remember(module, spec, batch, x, (h, c), weights)
        y, h_n, c_n, _ = run(spec, batch, x, h, c, weights)
        return y, (h_n if c_n is None else (h_n, c_n))
    if packed and lengths is not None:
        raise UnsupportedError("`lengths` come with a PackedSequence; leave the argument out.")
    way: Any = _run_packed if packed else _run
    y, h_n, c_n, gates = way(
        module, spec, input, h, c, weights, lengths, low, return_gates, reason is not None
    )
    state = h_n if c_n is None else (h_n, c_n)
    return (y, state, gates) if return_gates else (y, state)


_with_gates = _forward
keep_out(globals(), "_with_gates", "`return_gates=True` has no place in a graph; call the layer outside it.")


def _run(
    module: Any, spec: Spec, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor],
    lengths: Any, low: bool, wants_gates: bool, by_formula: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Gates | None]:  # fmt: skip
    """A call with a tensor, to which it adds the batch axis where there is none."""
    batched, batch_axis = x.dim() == 3, 0 if spec.batch_first else 1
    if not batched:
        x = x.unsqueeze(batch_axis)
        h_0, c_0 = (None if state is None else state.unsqueeze(1) for state in (h_0, c_0))
    T, B = x.shape[1 - batch_axis], x.shape[batch_axis]
    steps = None if lengths is None else check_lengths(lengths, T, B)
    batch = Batch(T, B, steps, wants_gates=wants_gates)
    y, h_n, c_n, gates = compute(module, spec, batch, x, h_0, c_0, weights, low, by_formula)
    if not batched:
        y, h_n, c_n = y.squeeze(batch_axis), h_n.squeeze(1), None if c_n is None else c_n.squeeze(1)
    if gates is not None and not batched:
        gates = gates.each(lambda gate: gate.squeeze(2))
    elif gates is not None and spec.batch_first:
        gates = gates.each(lambda gate: gate.transpose(1, 2))
    return y, h_n, c_n, gates


def _run_packed(
    module: Any, spec: Spec, input: PackedSequence, h_0: Tensor | None, c_0: Tensor | None,
    weights: Sequence[Tensor], lengths: None, low: bool, wants_gates: bool, by_formula: bool,
) -> tuple[PackedSequence, Tensor, Tensor | None, Gates | None]:  # fmt: skip
    """A PackedSequence in and out: its rows are sorted by length; the states and gates of a call are not."""
    x, sizes, order, back = input
    if order is not None:
        h_0, c_0 = (None if state is None else state.index_select(1, order) for state in (h_0, c_0))
    batch = Batch(len(sizes), int(sizes[0]), lengths_of(sizes), packed=True, wants_gates=wants_gates)
    spec = spec._replace(batch_first=False)
    y, h_n, c_n, gates = compute(module, spec, batch, x, h_0, c_0, weights, low, by_formula)
    if back is not None:
        h_n, c_n = h_n.index_select(1, back), None if c_n is None else c_n.index_select(1, back)
        gates = gates and gates.each(lambda gate: gate.index_select(2, back))
    return PackedSequence(y, sizes, order, back), h_n, c_n, gates


def _spec(module: Any) -> Spec:
    return Spec(
        module.mode, module.input_size, module.hidden_size, module.proj_size, module.num_layers,
        2 if module.bidirectional else 1, module.bias, module.batch_first, module._options,
    )  # fmt: skip


def _weights(module: Any) -> list[Any]:
    """The parameters of every direction, in the order of `spec.SLOTS`, as they are now.

    functional_call swaps parameters. A parametrization computes them anew, spectral_norm differently each time:
    it is asked as often as torch asks it.
    """
    own = module._parameters
    try:
        return [own[name] for name in module._flat_weights_names]
    except KeyError:
        module._update_flat_weights()
        flat: list[Any] = module._flat_weights
        return flat


def _contiguous(module: Any, spec: Spec, weights: list[Tensor]) -> list[Tensor]:
    """The weights as the kernels read them; those that are so already need no check at the next call."""
    ready = [w.contiguous() for w in weights]
    if (
        HAS_GUARDS
        and not torch.compiler.is_compiling()
        and all(w is r for w, r in zip(weights, ready, strict=True))
    ):
        module._seen = Seen(spec, ready)
    return ready
