"""Tests of bsglib.figures.drawings."""

import re

import pytest
import torch
from conftest import assert_same_state, state_of
from torch import nn

from bsglib import models
from bsglib.figures import drawings
from bsglib.pages import themes

CLASSES = ("cat", "dog", "owl")
SHAPES = {"f1": (4, 5), "f2": (360,)}  # of the others: images


pytestmark = pytest.mark.usefixtures("report_style")


def network(name, width=0.125):
    shape = SHAPES.get(name, (3, 32, 32))
    return models.build(name, shape, 4, width=width), shape


def images(n=30):
    """Images of one colour each, which tells the example, and their labels in turn."""
    x = (torch.arange(n) * 8).byte().reshape(n, 1, 1, 1).expand(n, 3, 4, 6).contiguous()
    return x, torch.arange(n) % len(CLASSES)


@pytest.mark.parametrize("name", models.NETWORKS)
def test_the_layers_of_every_network_are_those_that_run(name):
    model, shape = network(name)
    before = state_of(model)
    layers = drawings.network_layers(model, shape)
    assert_same_state(model, before)
    assert not any(module._forward_hooks for module in model.modules())
    assert len(layers) == len(model)
    assert layers[-1].shape == (4,)
    assert sum(layer.parameters for layer in layers) == sum(w.numel() for w in model.parameters())
    x = torch.zeros(1, *shape, dtype=torch.float64)
    for layer, module in zip(layers, model.eval(), strict=True):
        x = module(x)
        assert layer.shape == x.shape[1:]
        assert layer.parameters == sum(w.numel() for w in module.parameters())
        assert layer.weighted == isinstance(module, nn.Conv2d | nn.Linear)


def test_the_mode_and_hooks_are_restored_and_the_shape_named_where_it_does_not_fit():
    model, _ = network("surlemont")
    before = state_of(model.train())
    with pytest.raises(ValueError, match=r"input_shape = \(3, 9, 9\): the network does not take"):
        drawings.draw_network(model, (3, 9, 9))
    assert_same_state(model, before)
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ValueError, match="without parameters"):
        drawings.draw_network(nn.Flatten(), (3, 9, 9))


def test_gradients_that_cannot_be_drawn_are_refused():
    for a, b, error in (
        ([1.0, 0.0], [0.0, 0.0], r"\|b\| = 0"),
        ([1.0, 0.0], [0.0, 1.0, 2.0], "a has 2 components, b 3"),
    ):
        with pytest.raises(ValueError, match=error):
            drawings.draw_gradients(a, b)


def test_all_inks_follow_the_page(tmp_path):
    model, shape = network("chang")
    x, y = images()
    figures = (
        drawings.draw_network(model, shape),
        drawings.draw_minima(),
        drawings.draw_gradients([2, 0.4], [0.3, 1.5]),
        drawings.draw_examples(x, y, CLASSES),
    )
    for fig in figures:
        fig.savefig(tmp_path / "fig.svg")
        inked = (tmp_path / "fig.svg").read_text()
        colours = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", inked))
        assert colours <= set(themes.INKS), colours
