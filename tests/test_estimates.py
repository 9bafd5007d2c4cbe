"""Tests of bsglib.studies.estimates: what runs and measures cost."""

import pandas as pd

from bsglib.runs.measures import Measure
from bsglib.runs.sweep import Entry, compute
from bsglib.studies import exports
from bsglib.studies.estimates import Costs


def test_runs_of_other_seeds_tell_what_a_run_and_its_measures_cost(tiny):
    def entry(seed, **changes):
        measure = Measure("keskar_sharpness", 20, {"seed": seed})
        return Entry(tiny(seed=seed, split_seed=seed, **changes), (measure,))

    known = [entry(10), entry(11)]
    keys = pd.DataFrame({"run": [e.run for e in known]})
    measures = keys.assign(measure=[e.measures[0].digest for e in known], processor_s=[1.0, 3.0])
    tables = exports.Tables(runs=keys.assign(processor_s=[10.0, 20.0]), measures=measures)
    costs = Costs([*known, entry(12)], [tables])
    assert costs.of(entry(12)) == 15 + 2
    assert costs.of(entry(12, batch_size=25)) < 5, "another batch size is timed"


def test_an_estimate_without_knowledge_is_near_what_is_taken(tiny, tmp_path):
    options = {"network_options": {"width": 0.5}, "train_size": 1000, "batch_size": 50}
    measures = Measure("keskar_sharpness", 500), Measure("lambda_max", 200)
    entry = Entry(tiny(epochs=8, evaluate="log", **options), measures)
    expected = Costs().of(entry)
    compute(entry, str(tmp_path))
    tables = exports.of_store([entry], exports.Store(tmp_path))
    taken = tables.runs["processor_s"].sum() + tables.measures["processor_s"].sum()
    assert taken / 2 < expected < 2 * taken
