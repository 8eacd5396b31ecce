"""Calls of `carousel.network.atomic` that fail at one place, for test_faults.py; which there are its source says.

python faulty.py PATH        kills a writer of PATH at every call, and prints what was there after each
"""

import ast
import errno
import fcntl
import json
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from carousel.network import Dense, Network, atomic, load, save

CONSTANTS = {"os.path", "os.PathLike", "os.fspath"}
PIECE = 400  # bytes of a short write: a file takes several

OLD = Network((Dense(np.full((3, 3), 1.0)),))
NEW = Network((Dense(np.full((11, 11), 2.0)),))


def calls_of_atomic():
    """The functions of `os` and `fcntl` that atomic.py calls: (module, name)."""
    tree = ast.parse(Path(atomic.__file__).read_text(encoding="utf-8"))
    found = {
        (node.value.id, node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("os", "fcntl")
        and not node.attr.isupper()
        and not node.attr.startswith(("O_", "LOCK_"))
    }
    return sorted(place for place in found if ".".join(place) not in CONSTANTS)


class _Watched:
    """A module of which some functions are others."""

    def __init__(self, module, functions):
        self._module = module
        self.__dict__.update(functions)

    def __getattr__(self, name):
        return getattr(self._module, name)


@contextmanager
def watched(at=None, fault=None):
    """Within it, atomic's calls are noted in the list that it gives; call number `at`, from 0, meets `fault`.

    Args:
        at: None: no fault.
        fault: called before the call, which is not made if it raises.
    """
    made = []

    def around(name, function):
        def call(*args, **kwargs):
            made.append((name, *args))
            if len(made) - 1 == at:
                fault()
            if name == "write":
                args = (args[0], args[1][:PIECE])
            return function(*args, **kwargs)

        return call

    modules = {"os": os, "fcntl": fcntl}
    functions = {"os": {}, "fcntl": {}}
    for module, name in calls_of_atomic():
        functions[module][name] = around(name, getattr(modules[module], name))
    for name, module in modules.items():
        setattr(atomic, name, _Watched(module, functions[name]))
    try:
        yield made
    finally:
        atomic.os, atomic.fcntl = os, fcntl


def failing(code):
    def fault():
        raise OSError(code, os.strerror(code))

    return fault


def interrupted():
    raise KeyboardInterrupt


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


ERRORS = {errno.errorcode[code]: failing(code) for code in (errno.EIO, errno.ENOSPC, errno.EDQUOT)}


def run(path):
    """What a writer that is killed at every call leaves: one (file, temporaries, after the next writer) each."""
    save(OLD, path)
    with watched() as made:
        save(NEW, path)
    left = []
    for at in range(len(made)):
        save(OLD, path)
        child = os.fork()
        if child == 0:
            with watched(at, killed):
                save(NEW, path)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        there = load(path)
        which = "old" if there == OLD else "new" if there == NEW else "neither"
        others = sorted(set(os.listdir(path.parent)) - {path.name})
        save(NEW, path)
        left.append((made[at][0], which, len(others), sorted(os.listdir(path.parent))))
    return left


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]))))
