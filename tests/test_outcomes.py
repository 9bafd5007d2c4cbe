"""Tests of bsglib.runs.outcomes: every example's loss, and its text."""

import numpy as np
import pytest
import torch
from torch import nn

from bsglib.evaluate import evaluate
from bsglib.runs.outcomes import Outcomes, outcomes


@pytest.fixture
def found():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 3)).double()
    x, y = torch.randn(101, 4, dtype=torch.float64), torch.arange(101) % 3
    return outcomes(model, x, y, chunk_size=10), evaluate(model, x, y), model


def test_means_over_examples_are_those_of_the_evaluation(found):
    each, whole, model = found
    assert each.loss.mean() == pytest.approx(whole.loss)
    assert each.correct.mean() == whole.accuracy
    assert model.training


def test_text_keeps_what_was_right_and_losses_to_four_per_cent(found):
    each, *_ = found
    text = each.packed()
    again = Outcomes.unpacked(**text)
    assert (again.correct == each.correct).all()
    assert again.loss == pytest.approx(each.loss, rel=0.04)
    assert len(text["correct"]) + len(text["loss"]) < 3 * len(each.loss)


def test_losses_beyond_the_scale_end_at_its_ends():
    each = Outcomes(np.ones(4, bool), np.array([0.0, 1e-9, 1e5, np.inf]))
    assert Outcomes.unpacked(**each.packed()).loss == pytest.approx([1e-6, 1e-6, 100, 100])
