"""What tests of the server ask it with: inputs of the Open Inference Protocol, and their answers as arrays."""

import numpy as np


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
