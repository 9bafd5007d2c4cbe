"""Tests of bsglib.studies.estimates: what runs and measures cost."""

import pandas as pd
import pytest

from bsglib.runs import train
from bsglib.runs.build import dataset_of
from bsglib.runs.measures import Measure
from bsglib.runs.sweep import Entry
from bsglib.studies import estimates, exports
from bsglib.studies.estimates import Costs


def test_runs_of_other_seeds_tell_what_a_run_and_its_measures_cost(tiny):
    def entry(seed, **changes):
        measure = Measure("keskar_sharpness", 20, {"seed": seed})
        return Entry(tiny(seed=seed, split_seed=seed, **changes), (measure,))

    known = [entry(10), entry(11)]
    tables = exports.Tables(
        runs=pd.DataFrame({"run": [e.run for e in known], "processor_s": [10.0, 20.0]}),
        measures=pd.DataFrame(
            {
                "run": [e.run for e in known],
                "measure": [e.measures[0].digest for e in known],
                "processor_s": [1.0, 3.0],
            }
        ),
    )
    costs = Costs([*known, entry(12)], [tables])
    assert costs.of(entry(12)) == 15 + 2
    assert costs.of(entry(12, batch_size=25)) < 5, "another batch size is timed"


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
