"""The layers of a Keras configuration in the order in which they run; a model that is no line of layers is refused."""

from __future__ import annotations

from typing import Any

from carousel.errors import FormatError, UnsupportedError

__all__ = ["chain"]

_DEPTH_LIMIT = 20  # of models within models; two are usual

_MASK_OPERATIONS = ("NotEqual", "Any")  # how a functional model writes the mask of a Masking or an Embedding


def chain(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The configurations of the layers from the input to the output, each with its `name`.

    Raises:
        FormatError: the configuration is not one of Keras.
        UnsupportedError: another class of model, more than one input or output, a branch.
    """
    kind, inner = config["class_name"], config.get("config")
    if kind == "Sequential":
        if isinstance(inner, list):  # Keras before 2.3
            config["config"] = inner = {"layers": inner}
        return _flat([_named(entry) for entry in _layers(inner)])
    if kind in ("Functional", "Model"):
        return _flat(_functional(inner))
    raise UnsupportedError(
        f"the model is a {kind!r}; only Sequential and linear Functional models are supported"
    )


def _flat(entries: list[dict[str, Any]], depth: int = 0) -> list[dict[str, Any]]:
    """The layers, those of a Sequential among them in its place, under its name: `outer/inner`."""
    found: list[dict[str, Any]] = []
    for entry in entries:
        if entry["class_name"] != "Sequential":
            found.append(entry)
            continue
        if depth == _DEPTH_LIMIT:
            raise FormatError(f"its models stand within one another more than {_DEPTH_LIMIT} deep")
        if entry.get("mask_of"):
            raise UnsupportedError(f"model {entry['name']!r} is called with `mask`, which is not supported")
        inner = _flat([_named(layer) for layer in _layers(entry["config"])], depth + 1)
        for layer in inner:
            if (
                layer["class_name"] != "InputLayer" or not found
            ):  # only that of the whole model says something new
                found.append({**layer, "name": f"{entry['name']}/{layer['name']}", "within": True})
    return found


def _layers(inner: Any) -> list[Any]:
    layers = inner.get("layers") if isinstance(inner, dict) else None
    if not isinstance(layers, list) or not layers:
        raise FormatError("its configuration has no layers")
    for entry in layers:
        if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
            raise FormatError("a layer of its configuration has no class")
        if not isinstance(entry.get("config"), dict) or not isinstance(entry["config"].get("name"), str):
            raise FormatError(f"a layer of its configuration, a {entry['class_name'][:60]!r}, has no name")
        module, registered = entry.get("module"), entry.get("registered_name")
        foreign = not str(module or "keras").startswith("keras") or registered not in (
            None,
            entry["class_name"],
        )
        if foreign and (module, registered) != ("carousel.keras", f"carousel>{entry['class_name']}"):
            raise UnsupportedError(
                f"layer {entry['config']['name']!r} ({entry['class_name']}) is a class of its own, "
                f"{registered or module!r}, which is not supported"
            )
    return layers


def _named(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "name": entry["config"]["name"]}


def _functional(inner: Any) -> list[dict[str, Any]]:
    entries = {entry["config"]["name"]: _named(entry) for entry in _layers(inner)}
    start, end = _single(inner, "input_layers"), _single(inner, "output_layers")
    masks = {name: _mask_source(entry, entries) for name, entry in entries.items() if _is_mask(entry)}
    after: dict[str, str] = {}
    for name, entry in entries.items():
        if name in masks or name == start:
            continue
        source = _source(entry, masks)
        if source in after:
            raise UnsupportedError(
                f"layers {after[source]!r} and {name!r} both read {source!r}; only one line of layers is supported"
            )
        after[source] = name
    found, name = [entries[start]] if start in entries else [], start
    while name in after and len(found) <= len(entries):
        name = after.pop(name)
        found.append(entries[name])
    if after or name != end or len(found) + len(masks) != len(entries):
        raise UnsupportedError("the model is not one line of layers from its input to its output")
    return found


def _single(inner: Any, which: str) -> str:
    """The name of the one input or output: ["name", 0, 0], or a list of one of them."""
    listed = inner.get(which)
    if isinstance(listed, list) and len(listed) == 1 and isinstance(listed[0], list):
        listed = listed[0]
    if not isinstance(listed, list) or len(listed) != 3 or not isinstance(listed[0], str):
        raise UnsupportedError(
            f"the model must have one of its {which.replace('_', ' ')}, got {str(listed)[:80]}"
        )
    return listed[0]


def _is_mask(entry: dict[str, Any]) -> bool:
    return entry["class_name"] in _MASK_OPERATIONS and str(entry.get("module", "keras.")).startswith("keras.")


def _call(entry: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the one call of a layer; tensors as their names in a tuple."""
    nodes = entry.get("inbound_nodes")
    if not isinstance(nodes, list) or len(nodes) != 1:
        raise UnsupportedError(
            f"layer {entry['name']!r} is called {len(nodes or [])} times; once is supported"
        )
    node = nodes[0]
    if isinstance(node, list) and len(node) == 4 and isinstance(node[0], str):  # ["name", 0, 0, {...}]
        raise UnsupportedError(
            f"layer {entry['name']!r} ({entry['class_name']}) is an operation of Keras 2, which is not supported; the "
            "last step is that of a layer with `return_sequences` = False"
        )
    if isinstance(node, list):  # Keras 2: [["name", 0, 0, {...}]]
        if not all(isinstance(t, list) and len(t) in (3, 4) and isinstance(t[0], str) for t in node):
            raise FormatError(f"the call of layer {entry['name']!r} cannot be read")
        kwargs = {k: v for t in node if len(t) == 4 and isinstance(t[3], dict) for k, v in t[3].items()}
        return [(t[0],) for t in node], kwargs
    if not isinstance(node, dict) or not isinstance(node.get("args"), list):
        raise FormatError(f"the call of layer {entry['name']!r} cannot be read")
    kwargs = node.get("kwargs") or {}
    if not isinstance(kwargs, dict):
        raise FormatError(f"the call of layer {entry['name']!r} cannot be read")
    return [_tensor(a) for a in node["args"]], {k: _tensor(v) for k, v in kwargs.items()}


def _tensor(argument: Any) -> Any:
    """("name",) of a tensor; anything else as it is."""
    if isinstance(argument, dict) and argument.get("class_name") == "__keras_tensor__":
        history = (argument.get("config") or {}).get("keras_history")
        if not isinstance(history, list) or not history or not isinstance(history[0], str):
            raise FormatError("a tensor of its configuration has no history")
        return (history[0],)
    return argument


def _source(entry: dict[str, Any], masks: dict[str, tuple[str, Any]]) -> str:
    """The name of the layer whose output `entry` reads."""
    args, kwargs = _call(entry)
    title = f"layer {entry['name']!r} ({entry['class_name']})"
    if entry["class_name"] == "GetItem" and len(args) == 2:
        entry["config"] = {**entry["config"], "index": args.pop()}
    tensors = [a for argument in args for a in (argument if isinstance(argument, list) else [argument])]
    if len(tensors) > 1 and all(isinstance(_tensor(a), tuple) for a in tensors):
        raise UnsupportedError(f"{title} joins {len(tensors)} tensors; only one line of layers is supported")
    if len(args) != 1 or not isinstance(args[0], tuple):
        raise UnsupportedError(f"{title} is called with {len(args)} arguments; one tensor is supported")
    for name, value in kwargs.items():
        if value is None or name == "training":
            continue
        if name != "mask" or not isinstance(value, tuple) or value[0] not in masks:
            raise UnsupportedError(f"{title} is called with `{name}`, which is not supported")
        entry["mask_of"] = masks[value[0]]
    return str(args[0][0])


def _mask_source(entry: dict[str, Any], entries: dict[str, Any], depth: int = 0) -> tuple[str, Any]:
    """Of a mask: which layer's output is compared, and with what."""
    args, _ = _call(entry)
    if not args or not isinstance(args[0], tuple) or depth > 1:
        raise UnsupportedError(f"operation {entry['name']!r} is no mask of a Masking or an Embedding")
    (source,) = args[0]
    if entry["class_name"] == "Any":
        if source not in entries or entries[source]["class_name"] != "NotEqual":
            raise UnsupportedError(f"operation {entry['name']!r} is no mask of a Masking or an Embedding")
        return _mask_source(entries[source], entries, depth + 1)
    return source, args[1] if len(args) > 1 else None
