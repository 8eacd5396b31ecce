"""Models whose files tests bend: a small one of every kind of layer, and what a hostile writer makes of a file."""

import json
import struct
from contextlib import suppress
from hashlib import sha256

import numpy as np

from carousel.network import Dense, LastStep, Network, Recurrent, Weights

DTYPES = {"F32": "float32", "F64": "float64", "I64": "int64", "U8": "uint8", "I32": "int32"}
JUNK = [
    None,
    True,
    -1,
    2**63,
    2**70,
    0.5,
    "",
    "relu",
    "a\nb",
    "x" * 500,
    [],
    {},
    [[]],
    {"array": "int64"},
    [0] * 99,
]


def golden_network():
    """Small, with every kind of layer; its numbers are exact in binary, so no library can change them."""
    count = iter(range(1000))

    def array(*shape, dtype=np.float32):
        return (
            (np.array([next(count) % 17 - 8 for _ in range(np.prod(shape))]) / 8).astype(dtype).reshape(shape)
        )

    def weights(G, I, H):
        return Weights(array(G * H, I), array(G * H, H), array(G * H), array(G * H))

    return Network(
        (
            Recurrent("gru", (weights(3, 1, 2), weights(3, 1, 2)), reset="before"),
            Recurrent("lstm", (weights(4, 4, 2),)),
            Recurrent("rnn", (weights(1, 2, 3),), activation="relu"),
            LastStep(),
            Dense(array(1, 3), array(1), "sigmoid"),
        )
    )


def rebuilt(path, change=lambda document: document, tensors=lambda header: header, data=lambda data: data):
    """The file at `path` changed, with a length and a SHA-256 that fit: what a hostile writer makes."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    tree = json.loads(header["__metadata__"]["carousel"])
    tree["sha256"] = "0" * 64
    tree = change(tree)
    text = tree if isinstance(tree, str) else dumps(tree)
    header["__metadata__"]["carousel"] = text
    return sealed(text, tensors(header), data(raw[8 + length :]))


def sealed(text, header, data):
    digest = sha256(text.encode())
    with suppress(AttributeError, KeyError, TypeError, ValueError):  # a header that the library refuses
        for name, entry in sorted(header.items()):
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                digest.update(dumps([name, DTYPES[entry["dtype"]], entry["shape"]]).encode())
                digest.update(data[begin:end])
    return container(dumps(header).replace("0" * 64, digest.hexdigest(), 1), data)


def container(header, data):
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text)) + text + data


def dumps(tree):
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False)


def meddled(tree, rng):
    """`tree` with one of its nodes replaced, doubled or dropped."""
    if isinstance(tree, dict | list) and tree and rng.random() < 0.8:
        keys = list(tree) if isinstance(tree, dict) else range(len(tree))
        key = keys[rng.integers(len(keys))]
        if rng.random() < 0.1:
            return {k: v for k, v in tree.items() if k != key} if isinstance(tree, dict) else tree * 2
        copy = dict(tree) if isinstance(tree, dict) else list(tree)
        copy[key] = meddled(tree[key], rng)
        return copy
    return JUNK[rng.integers(len(JUNK))]
