"""Tests of bsglib.figures.surface3d."""

import json

import numpy as np
import pytest

from bsglib.figures import surface3d
from bsglib.landscape import Surface


def surface(scale=1.0):
    """A plane with more points along a than along b, symmetric in nothing."""
    a, b = np.linspace(-1, 1, 7), np.linspace(-0.5, 0.5, 5)
    loss = scale * np.exp(2 * a[:, None] + b) + 0.1 * a[:, None] ** 2
    return Surface(a=a, b=b, loss=loss, n=10, cosine=0.0)


@pytest.fixture(scope="module")
def pair():
    broken = surface(5)
    broken.loss[6, 1], broken.loss[2, 3] = np.nan, np.inf
    return {"SB": surface(), "LB": broken}


@pytest.fixture(scope="module")
def drawn(pair):
    """The figure as the notebook's file has it."""
    return json.loads(surface3d.surface_figure(pair).to_json())


def sheets(drawn):
    return [trace for trace in drawn["data"] if trace["type"] == "surface"]


def test_each_loss_lands_at_its_a_and_b_and_missing_ones_are_holes(pair, drawn):
    for given, trace in zip(pair.values(), sheets(drawn), strict=True):
        assert trace["x"] == given.a.round(9).tolist() and trace["y"] == given.b.tolist()
        assert np.shape(trace["z"]) == np.shape(trace["text"]) == (5, 7)
        for i, j in np.ndindex(7, 5):
            z, loss = trace["z"][j][i], given.loss[i, j]
            if np.isfinite(loss):
                assert z == pytest.approx(np.log10(loss), abs=1e-4)
            else:
                assert z is None
        assert not trace["connectgaps"]


def test_a_surface_without_its_partner_is_refused(pair):
    with pytest.raises(ValueError, match="beside another"):
        surface3d.surface_figure({"SB": pair["SB"]})
