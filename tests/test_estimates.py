"""Tests of bsglib.studies.estimates: what runs and measures cost."""

import pytest

from bsglib.runs import train
from bsglib.runs.build import dataset_of
from bsglib.studies import estimates


@pytest.mark.parametrize("evaluate", ["every", "log", "validation", "test", "last"])
@pytest.mark.parametrize("network", ["surlemont", "f1"])
def test_every_example_that_is_evaluated_is_counted(tiny, monkeypatch, evaluate, network):
    config = tiny(
        network=network,
        network_options={"width": 0.05},
        evaluate=evaluate,
        epochs=6,
        record_epochs=[5],
        train_size=1100,
    )
    counted = []
    as_input = type(dataset_of(config)).as_input

    def counting(self, x, dtype):
        counted.append(len(x))
        return as_input(self, x, dtype)

    monkeypatch.setattr(type(dataset_of(config)), "as_input", counting)
    train.train(config)
    trained = config.epochs * len(dataset_of(config).train)
    assert sum(counted) - trained == estimates._evaluated(config)
