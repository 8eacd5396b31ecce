"""What tests of the server serve and ask: inputs of the Open Inference Protocol, and their answers as arrays."""

import numpy as np

from carousel import network
from carousel.network import Dense, Embedding, LastStep, Network, Recurrent, Weights
from forecast_models import forecast_model

GOOD = {"name": "x", "datatype": "FP32", "shape": [1, 1, 3], "data": [1, 2, 3]}


def lstm(rng, inputs, *after, two=False):
    shapes = ((20, inputs), (20, 5), (20,), (20,))
    sides = tuple(Weights(*(rng.normal(size=s).astype("f4") for s in shapes)) for _ in range(1 + two))
    return Recurrent("lstm", sides), *after


def served_values():
    """What the tests of the server serve, by name."""
    rng = np.random.default_rng(31)
    months, _ = forecast_model(rng, freq="MS", season=12, lookback=24, horizon=4, length=60)
    return {
        "net": Network((*lstm(rng, 3), Dense(rng.normal(size=(2, 5)).astype("f4")))),
        "last": Network((*lstm(rng, 3), LastStep())),
        "both": Network(lstm(rng, 3, two=True)),
        "words": Network((Embedding(rng.normal(size=(7, 4)).astype("f4")), *lstm(rng, 4))),
        "months": months,
    }


def saved(values, where):
    for name, value in values.items():
        network.save(value, where / f"{name}.carousel")
    return {name: where / f"{name}.carousel" for name in values}


def x_input(x, datatype="FP32"):
    return {"name": "x", "datatype": datatype, "shape": list(np.shape(x)), "data": np.ravel(x).tolist()}


def rows(y, ds=None):
    inputs = [{"name": "y", "datatype": "FP64", "shape": [len(y)], "data": list(y)}]
    if ds is not None:
        inputs.append({"name": "ds", "datatype": "BYTES", "shape": [len(ds)], "data": list(ds)})
    return inputs


def infer(client, name, inputs, status=200, **parameters):
    response = client.post(f"/v2/models/{name}/infer", json={"inputs": inputs, "parameters": parameters})
    assert response.status_code == status, response.text
    tree = response.json()
    if status != 200:
        return tree["error"]
    return {
        o["name"]: np.array(o["data"], None if o["datatype"] == "BYTES" else float).reshape(o["shape"])
        for o in tree["outputs"]
    }
