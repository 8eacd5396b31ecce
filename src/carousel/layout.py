"""THE table of gate orders, and the doors through which foreign weights come and go.

Inside carousel a direction of a recurrent layer is four arrays, in torch's order:

    W (GH, I)   R (GH, H)   b_W (GH,)   b_R (GH,)      G gates of H rows each, one under the other

    LSTM  i f g o   a = W x + b_W + R h + b_R;  i, f, o = σ(a_i), σ(a_f), σ(a_o);  g = tanh(a_g)
    GRU   r z n     h' = (1 - z) n + z h;  the reset gate r acts inside n, after or before the product with R
    RNN   h         h' = tanh(W x + b_W + R h + b_R), or relu

Everybody else stores the same numbers in another order (`ORDERS`), and:

    Keras      transposed: kernel (I, GH), recurrent_kernel (H, GH); one bias (GH,), but for a GRU with
               reset_after=True two, (2, GH)
    ONNX       both biases in one: B (2GH,) = [b_W, b_R]
    per gate   one matrix (H, H + I) a gate, which acts on [h; x], as in NumPy tutorials; one bias a gate

A door only permutes, transposes, cuts and joins: there and back gives equal bits. The one exception is
arithmetic that the target forces: where it has one bias, that bias is b_W + b_R.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from carousel.errors import check_choice, check_shape

__all__ = [
    "ORDERS",
    "Weights",
    "check_weights",
    "from_gates",
    "from_keras",
    "from_onnx",
    "opposite_update",
    "reorder",
    "to_gates",
    "to_keras",
    "to_onnx",
]

Array: TypeAlias = NDArray[Any]
Cell: TypeAlias = Literal["lstm", "gru", "rnn"]
Format: TypeAlias = Literal["torch", "keras", "onnx", "gates"]


class Weights(NamedTuple):
    """One direction of a recurrent layer, its gates in torch's order."""

    W: Array  # (GH, I)
    R: Array  # (GH, H)
    b_W: Array  # (GH,)
    b_R: Array  # (GH,)


# In the letters of our equations; the candidate, our g or n, goes by c, h or a elsewhere.
ORDERS: dict[Cell, dict[Format, str]] = {
    "lstm": {"torch": "ifgo", "keras": "ifgo", "onnx": "iofg", "gates": "fiog"},
    "gru": {"torch": "rzn", "keras": "zrn", "onnx": "zrn", "gates": "rzn"},
    "rnn": {"torch": "h", "keras": "h", "onnx": "h", "gates": "h"},
}


def reorder(rows: Array, cell: Cell, source: Format, target: Format) -> Array:
    """The blocks of `rows`, one per gate, brought from the order of one format into another's.

    Args:
        rows: (GH, ...), the gates one under the other.
        cell: which column of `ORDERS`.
        source: the format that `rows` is in.
        target: the format that is wanted.

    Returns:
        A new array of the same shape.

    Example:
        >>> reorder(np.array([1, 2, 3, 4]), "lstm", "onnx", "torch")  # i o f g -> i f g o
        array([1, 3, 4, 2])
    """
    order = ORDERS[cell]
    gates = dict(zip(order[source], np.split(rows, len(order[source])), strict=True))
    return np.ascontiguousarray(np.concatenate([gates[gate] for gate in order[target]]))


def _reordered(
    cell: Cell, source: Format, target: Format, W: Array, R: Array, b_W: Array, b_R: Array
) -> Weights:
    """`reorder` of the four arrays of a direction."""
    return Weights(*(reorder(rows, cell, source, target) for rows in (W, R, b_W, b_R)))


def check_weights(cell: Cell, W: Array, R: Array, b_W: Array, b_R: Array) -> tuple[int, int]:
    """Returns H, I of the four arrays of one direction.

    Raises:
        ShapeError: their shapes do not fit one another.
    """
    G = len(ORDERS[cell]["torch"])
    _, H = check_shape("R", R, f"{G}H, H")
    _, I = check_shape("W", W, f"{G}H, I", H=H)
    check_shape("b_W", b_W, f"{G}H", H=H)
    check_shape("b_R", b_R, f"{G}H", H=H)
    return H, I


def from_keras(cell: Cell, kernel: Array, recurrent_kernel: Array, bias: Array | None = None) -> Weights:
    """Weights as Keras keeps them -> W, R, b_W, b_R.

    Args:
        cell: "lstm", "gru" or "rnn".
        kernel: (I, GH).
        recurrent_kernel: (H, GH).
        bias: (GH,); (2, GH) of a GRU with `reset_after=True`; None without bias.
    """
    G = len(ORDERS[cell]["keras"])
    H, _ = check_shape("recurrent_kernel", recurrent_kernel, f"H, {G}H")
    check_shape("kernel", kernel, f"I, {G}H", H=H)
    if bias is None:
        bias = np.zeros(G * H, kernel.dtype)
    if cell == "gru" and bias.ndim == 2:
        check_shape("bias", bias, "2, 3H", H=H)
    else:
        check_shape("bias", bias, f"{G}H", H=H)
        bias = np.stack([bias, np.zeros_like(bias)])
    return _reordered(cell, "keras", "torch", kernel.T, recurrent_kernel.T, bias[0], bias[1])


def to_keras(
    cell: Cell, W: Array, R: Array, b_W: Array, b_R: Array, *, reset: str = "after"
) -> tuple[Array, ...]:
    """W, R, b_W, b_R -> kernel, recurrent_kernel, bias as Keras keeps them.

    `reset` matters for a GRU only: Keras has two biases for "after" (`reset_after=True`), else one.
    """
    check_weights(cell, W, R, b_W, b_R)
    check_choice("reset", reset, ("after", "before"))
    W, R, b_W, b_R = _reordered(cell, "torch", "keras", W, R, b_W, b_R)
    bias = np.stack([b_W, b_R]) if cell == "gru" and reset == "after" else b_W + b_R
    return np.ascontiguousarray(W.T), np.ascontiguousarray(R.T), bias


def from_onnx(cell: Cell, W: Array, R: Array, B: Array | None = None) -> Weights:
    """One direction of an ONNX LSTM, GRU or RNN node -> W, R, b_W, b_R.

    Args:
        cell: "lstm", "gru" or "rnn".
        W: (GH, I).
        R: (GH, H).
        B: (2GH,), the biases of W and then of R; None where the node has none.
    """
    G, H = len(ORDERS[cell]["onnx"]), R.shape[-1]
    B = np.zeros(2 * G * H, W.dtype) if B is None else B
    check_shape("B", B, f"{2 * G}H", H=H)
    b_W, b_R = np.split(B, 2)
    check_weights(cell, W, R, b_W, b_R)
    return _reordered(cell, "onnx", "torch", W, R, b_W, b_R)


def to_onnx(cell: Cell, W: Array, R: Array, b_W: Array, b_R: Array) -> tuple[Array, ...]:
    """W, R, b_W, b_R -> W, R, B of one direction of an ONNX node."""
    check_weights(cell, W, R, b_W, b_R)
    W, R, b_W, b_R = _reordered(cell, "torch", "onnx", W, R, b_W, b_R)
    return W, R, np.concatenate([b_W, b_R])


def from_gates(cell: Cell, weights: Sequence[Array], biases: Sequence[Array]) -> Weights:
    """Weights kept per gate, each acting on [h; x] -> W, R, b_W, b_R.

    Args:
        cell: "lstm", "gru" or "rnn".
        weights: of an LSTM Wf, Wi, Wo, Wc; of a GRU W_r, W_z, W_a; each (H, H + I).
        biases: in the same order, each (H,) or, as a column, (H, 1).

    Such a GRU often reads h' = (1 - z) h + z n, the opposite sense of ours: see `opposite_update`.

    Example:
        >>> Wf, Wi, Wo, Wc = np.arange(4 * 5 * 8.0).reshape(4, 5, 8)
        >>> W, R, b_W, b_R = from_gates("lstm", (Wf, Wi, Wo, Wc), np.zeros((4, 5, 1)))
        >>> W.shape, R.shape, bool((R[5:10] == Wf[:, :5]).all())
        ((20, 3), (20, 5), True)
    """
    G = len(ORDERS[cell]["gates"])
    check_choice("len(weights)", len(weights), (G,))
    check_choice("len(biases)", len(biases), (G,))
    H, columns = check_shape("weights[0]", weights[0], "H, H+I")
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        check_shape(f"weights[{k}]", weight, "H, H+I", H=H, I=columns - H)
        check_shape(f"biases[{k}]", bias, "H, 1" if bias.ndim == 2 else "H", H=H)
    R, W = np.split(np.concatenate(weights), [H], axis=1)
    b_W = np.concatenate([bias.reshape(-1) for bias in biases])
    b_R = np.zeros_like(b_W)
    check_weights(cell, W, R, b_W, b_R)
    return _reordered(cell, "gates", "torch", W, R, b_W, b_R)


def to_gates(
    cell: Cell, W: Array, R: Array, b_W: Array, b_R: Array
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """W, R, b_W, b_R -> weights and biases per gate: the way back of `from_gates`, biases (H,)."""
    check_weights(cell, W, R, b_W, b_R)
    W, R, b_W, b_R = _reordered(cell, "torch", "gates", W, R, b_W, b_R)
    G = len(ORDERS[cell]["gates"])
    return tuple(np.split(np.hstack([R, W]), G)), tuple(np.split(b_W + b_R, G))


def opposite_update(W: Array, R: Array, b_W: Array, b_R: Array) -> Weights:
    """The same GRU with the opposite sense of z: the rows of z change sign. Its own inverse.

    h' = (1 - z) h + z n (Chung et al. 2014) is h' = (1 - z') n + z' h (Cho et al. 2014) with
    z' = 1 - z = 1 - σ(a) = σ(-a). Exact, not an approximation.
    """
    H, _ = check_weights("gru", W, R, b_W, b_R)
    sign = np.repeat([1, -1, 1], H).astype(W.dtype)  # r z n
    return Weights(W * sign[:, None], R * sign[:, None], b_W * sign, b_R * sign)
