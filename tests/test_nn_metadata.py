"""Weights say which options they were trained under, and loading them under others is remarked."""

import io
import warnings

import pytest
import torch

from carousel import nn

SAME = [
    (nn.GRU(3, 4, reset="before"), nn.GRU(3, 4, reset="before", batch_first=True)),
    (nn.GRU(3, 4, reset="before"), torch.nn.GRU(3, 4)),
    (nn.LSTM(3, 4, zoneout=0.1, clip=3.0), nn.LSTM(3, 4, zoneout=0.1, clip=3.0)),
    (nn.LSTM(3, 4), nn.LSTM(3, 4, recurrent_dropout=0.5)),  # of training alone
    (nn.Stack(3, [4, 4], dilation=[1, 2]), nn.Stack(3, [4, 4], dilation=[1, 2], dropout=0.5)),
    (
        nn.Stack(3, [4, 4], bidirectional=True, merge="sum"),
        nn.Stack(3, [4, 4], bidirectional=True, merge="sum"),
    ),
]
OTHER = [
    (nn.GRU(3, 4), nn.GRU(3, 4, reset="before"), r"GRU\(3, 4, reset='before'\), and this is GRU\(3, 4\)"),
    (nn.LSTM(3, 4), nn.LSTM(3, 4, zoneout=0.1), "zoneout=0.1"),
    (nn.LSTM(3, 4, clip=2.0), nn.LSTM(3, 4, clip=3.0), "clip=3.0.*clip=2.0"),
    (nn.Stack(3, [4, 4]), nn.Stack(3, [4, 4], dilation=[1, 2]), r"dilation=\[1, 2\]"),
    (nn.Stack(4, [4, 4], residual=True), nn.Stack(4, [4, 4], dilation=2), "residual=True"),
]


def saved(module: torch.nn.Module) -> dict:
    """As a file holds it."""
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(("module", "source"), SAME)
def test_weights_of_the_same_options_are_taken_in_silence(module, source):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module.load_state_dict(saved(source))


@pytest.mark.parametrize(("module", "source", "words"), OTHER)
def test_weights_of_other_options_are_taken_with_a_warning(module, source, words):
    with pytest.warns(UserWarning, match=words):
        module.load_state_dict(saved(source))
    model = torch.nn.Sequential(module)
    with pytest.warns(UserWarning, match="the weights of '0' were saved by carousel.nn"):
        model.load_state_dict(saved(torch.nn.Sequential(source)))
