"""Foreign models to Network and back, exactly or not at all: one module per framework.

- `torch`: modules; `keras`: .keras and .h5 files; `onnx`: models, and a backend; `numpy`: weights per gate;
- `files`: any of them by the ending of a name.
"""
