"""Random numbers that are a function of where they are used: Philox2x32-10, and the masks of zoneout.

    hi, lo = M · x_0                                  64 bits, cut in two
    x_0, x_1 = hi ⊕ k ⊕ x_1, lo                       one round
    k = k + W                                         between two of the ten rounds

A kernel that draws the number of cell j at step t needs neither what it drew before nor an order.

Source: Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3".
"""

import numpy as np

from carousel.layout import Array

M = np.uint64(0xD256D193)  # the multiplier that Salmon et al. found for two words of 32 bits
W = 0x9E3779B9  # the golden ratio, as a fraction of 2^32
ROUNDS = 10


def philox(counter: Array, key: int) -> Array:
    """Two words for each counter.

    Args:
        counter: (..., 2), words of 32 bits.
        key: a word of 32 bits.

    Returns:
        (..., 2) uint32.

    Example:
        >>> [f"{word:08x}" for word in philox(np.array([0, 0]), 0)]
        ['ff1dae59', '6cd10df2']
    """
    x_0, x_1 = np.moveaxis(np.asarray(counter).astype(np.uint32), -1, 0)
    for n in range(ROUNDS):
        k = np.uint32((key + n * W) % 2**32)
        product = M * x_0.astype(np.uint64)
        hi, lo = (product >> np.uint64(32)).astype(np.uint32), product.astype(np.uint32)
        x_0, x_1 = hi ^ k ^ x_1, lo
    return np.stack([x_0, x_1], axis=-1)


def zoneout_masks(
    key: int, rate_h: float, rate_c: float, T: int, B: int, H: int, P: int | None = None
) -> tuple[Array, Array]:
    """The masks of zoneout in training: 1 where the old state stays.

    The old h of unit j in row b stays at step t where a number u < rate_h, and u comes from the first word of
    the counter (b P + j, t); the old c where u < rate_c, u from the second word of (b H + j, t). u is the upper
    24 bits of a word as a fraction, which float32 has exactly. Steps are counted as the layer takes them, rows as
    they stand in the batch.

    Args:
        key: a word of 32 bits.
        rate_h: the share of h that stays.
        rate_c: the share of c that stays.
        T: steps.
        B: rows.
        H: cells.
        P: units of h behind a projection; None is H.

    Returns:
        float64 arrays of 0 and 1 for h (T, B, P) and c (T, B, H).

    Example:
        >>> h, c = zoneout_masks(7, 0.3, 0.0, 50, 20, 30)
        >>> round(float(h.mean()), 2), float(c.mean())
        (0.3, 0.0)
    """
    masks = []
    for word, (rate, units) in enumerate(((rate_h, H if P is None else P), (rate_c, H))):
        cells, steps = np.arange(B * units), np.arange(T)
        counter = np.stack(np.broadcast_arrays(cells, steps[:, None]), axis=-1)
        u = (philox(counter, key)[..., word] >> np.uint32(8)) * 2.0**-24
        masks.append((u < rate).astype(np.float64).reshape(T, B, units))
    return masks[0], masks[1]
