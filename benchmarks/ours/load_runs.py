"""Ours: a study's stored runs read back as tidy tables."""

import yaml

from benchmarks.serve import options, serve
from bsglib.runs.params import parse
from bsglib.studies import study as studies
from bsglib.studies.surlemont import study

given = options()
with open(given["parameters"]) as file:
    parameters = parse(yaml.safe_load(file), study.parameters)
parameters = parameters.model_copy(update={"store": given["store"], "compute": False})


def load() -> dict:
    results = study.run(parameters)
    assert len(results.runs) == results.designed
    return {"units": 1, "runs": results.designed}


studies.RESULTS = studies.ROOT / "benchmarks" / "results" / "none"  # only what the store holds
serve(load, runs=len(study.design(parameters)))
