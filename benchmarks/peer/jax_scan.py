"""JAX: the cell written out under lax.scan, compiled; what libraries on JAX do inside."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from carousel.bench import Problem
from carousel.layout import Array, Weights
from peer.base import Peer, Side

__all__ = ["Jax"]


def lstm(w: Weights, x):
    """One layer; W x of all steps ahead of the loop, which is the faster way."""

    def step(state, a_x):
        h, c = state
        i, f, g, o = jnp.split(a_x + h @ w.R.T, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((x.shape[1], w.R.shape[1]), x.dtype)
    return lax.scan(step, (zeros, zeros), x @ w.W.T + (w.b_W + w.b_R))[1]


def gru(w: Weights, x):
    """One layer, the reset gate after the product."""

    def step(h, a_x):
        a_r, a_z, a_n = jnp.split(a_x, 3, axis=-1)
        u_r, u_z, u_n = jnp.split(h @ w.R.T + w.b_R, 3, axis=-1)
        r, z = jax.nn.sigmoid(a_r + u_r), jax.nn.sigmoid(a_z + u_z)
        n = jnp.tanh(a_n + r * u_n)
        h = (1 - z) * n + z * h
        return h, h

    zeros = jnp.zeros((x.shape[1], w.R.shape[1]), x.dtype)
    return lax.scan(step, zeros, x @ w.W.T + w.b_W)[1]


def stack(cell, layers, x):
    for w in layers:
        x = cell(w, x)
    return x


class Jax(Peer):
    name = "JAX"
    version = jax.__version__

    def __init__(self, threads: int) -> None:
        """The cores that the process may use are its threads: jax has no setting of its own."""

    def inference(self, problem: Problem, layers: Sequence[Weights], x: Array) -> Side:
        run = jax.jit(partial(stack, {"lstm": lstm, "gru": gru}[problem.cell]))
        arguments = jax.device_put((list(layers), x))
        return Side(lambda: run(*arguments).block_until_ready(), np.asarray)

    def training(self, problem: Problem, layers: Sequence[Weights], x: Array, dy: Array) -> Side:
        forward = partial(stack, {"lstm": lstm, "gru": gru}[problem.cell])

        @jax.jit
        def gradients(layers, x, dy):
            return jax.vjp(lambda layers: forward(layers, x), layers)[1](dy)[0]

        arguments = jax.device_put((list(layers), x, dy))
        return Side(
            lambda: jax.block_until_ready(gradients(*arguments)), lambda found: np.asarray(found[0].W)
        )
