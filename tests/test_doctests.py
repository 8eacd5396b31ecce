"""Examples in docstrings run, those of every module that has no test of its own for them."""

import doctest
import importlib
import pkgutil

import pytest

import carousel

RUN_ELSEWHERE = (
    "carousel.errors",
    "carousel.layout",
    "carousel.reference",
    "carousel.keras",  # in a process whose Keras runs on torch
)  # beside the tests of these parts
MODULES = [
    module.name
    for module in pkgutil.walk_packages(carousel.__path__, "carousel.")
    if not module.name.startswith((*RUN_ELSEWHERE, "carousel.__main__"))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # examples may write files
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_there_are_examples():
    found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module("carousel.nn.layers"))
    assert sum(bool(test.examples) for test in found) >= 3
