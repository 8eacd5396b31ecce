"""What a layer can do beyond its plain equations, as a value; every option is off until it is asked for.

T steps, B rows, I inputs, H cells, P projected units (P = H without a projection), G gates. The equations that
the options enter are in `lstm_options`, `gru_options` and `rnn_options`; docs/options.md has all on one page.
"""

from typing import Any, NamedTuple

from carousel.errors import ArgumentError, UnsupportedError
from carousel.layout import Array, Cell, Weights


class LayerNorm(NamedTuple):
    """Gains of the layer normalisation (Ba et al. 2016); the biases of the layer are its shifts.

    The products with x and with h are normalised each by itself: of an LSTM and an RNN over all their GH sums, of
    a GRU over the 2H of r and z, and over the H of n.
    """

    gain_x: Array  # (GH,)
    gain_h: Array  # (GH,)
    gain_c: Array | None = None  # (H,)  of the cell on its way to h, LSTM only; None leaves it as it is
    shift_c: Array | None = None  # (H,)  None is zeros
    epsilon: float = 1e-5


class Options(NamedTuple):
    """The options of one direction of one layer.

    `zoneout_h` and `zoneout_c` are the shares of the old state that stay: masks of 0 and 1 in training, the
    rate everywhere in evaluation. Their step t is the t-th that the layer takes, in its own direction.
    """

    projection: Array | None = None  # W_p (P, H)  Sak et al. 2014; LSTM only
    peephole: Array | None = None  # (3, H) p_i p_f p_o, coupled (2, H) p_i p_o  Gers et al. 2002; LSTM only
    coupled: bool = False  # f = 1 - i, gates i g o  Greff et al. 2017; LSTM only
    layer_norm: LayerNorm | None = None  # Ba et al. 2016
    zoneout_h: Array | None = None  # (T, B, P)  Krueger et al. 2017
    zoneout_c: Array | None = None  # (T, B, H)  LSTM only
    candidate_mask: Array | None = None  # (B, H) on g or n  Semeniuta et al. 2016; LSTM and GRU
    state_mask: Array | None = None  # (B, P) on h in the product with R  Gal and Ghahramani 2016
    input_mask: Array | None = None  # (B, I) on x at every step  Gal and Ghahramani 2016
    clip: float | None = None  # bound of the sums before the activations, as in ONNX
    cell_clip: float | None = None  # bound of the new cell; LSTM only


OFFERED: dict[str, tuple[Cell, ...]] = {
    "projection": ("lstm",),
    "peephole": ("lstm",),
    "coupled": ("lstm",),
    "zoneout_c": ("lstm",),
    "candidate_mask": ("lstm", "gru"),
    "cell_clip": ("lstm",),
    "layer_norm.gain_c": ("lstm",),
    "layer_norm.shift_c": ("lstm",),
}  # what is not here, every cell offers


class Gradients(NamedTuple):
    """∂L/∂ of what a `forward` with options was given; a gradient stands where its parameter stood."""

    x: Array
    w: Weights
    state: Any  # as the cell has it
    options: Options  # projection, peephole, gains and shift; None elsewhere


def check_offered(cell: Cell, options: Options) -> None:
    """Refuses, by its name, what the cell does not offer.

    Raises:
        UnsupportedError: the cell does not offer an option.
        ArgumentError: the cell is shifted without being normalised.

    Example:
        >>> check_offered("gru", Options(coupled=True))
        Traceback (most recent call last):
            ...
        carousel.errors.UnsupportedError: `coupled` is for the LSTM only, not for the GRU.
    """
    asked: dict[str, Any] = options._asdict()
    if options.layer_norm is not None:
        asked |= {f"layer_norm.{name}": value for name, value in options.layer_norm._asdict().items()}
    for name, value in asked.items():
        cells = OFFERED.get(name, (cell,))
        if value is not None and value is not False and cell not in cells:
            names = " and the ".join(cell.upper() for cell in cells)
            raise UnsupportedError(f"`{name}` is for the {names} only, not for the {cell.upper()}.")
    if asked.get("layer_norm.shift_c") is not None and asked["layer_norm.gain_c"] is None:
        raise ArgumentError("`layer_norm.shift_c` needs `layer_norm.gain_c`.")


def gradients_of(norm: LayerNorm, *gradients: Array | None) -> LayerNorm:
    """The gradients of the gains and of the shift, those that `norm` has."""
    given = [
        None if value is None else d for value, d in zip(norm[:4], (*gradients, None, None), strict=False)
    ]
    return LayerNorm(*given, epsilon=norm.epsilon)  # type: ignore[arg-type, misc]
