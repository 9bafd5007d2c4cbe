"""Tests of bsglib.studies.confirmatory and of the designs of the profile `confirm`."""

from collections import defaultdict
from types import SimpleNamespace

import pytest

from bsglib.studies import chang, confirmatory, kaabachi, profiles, surlemont
from bsglib.studies.chang import confirmatory as of_chang
from bsglib.studies.kaabachi import confirmatory as of_kaabachi
from bsglib.studies.study import designed_table
from bsglib.studies.surlemont import confirmatory as of_surlemont

STUDIES = {s.name: s for s in (surlemont.study, kaabachi.study, chang.study)}
SEEDS = {10, 11, 12, 13, 14}
MORE = {15, 16, 17, 18, 19}  # of runs that primary claims compare
each_study = pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
each_profile = pytest.mark.parametrize("profile", ["confirm", "gpu"])
AS_RUN = {  # what the sources' code does, and what is recorded for the verdicts
    "sam_adaptive",
    "sam_dropout",
    "shuffle",
    "evaluate_as_run",
    "record_epochs",
    "split_seed",
}


def parameters(study, profile="confirm"):
    return profiles.load(study, profile)


def by_cell(study, profile="confirm"):
    """The runs of a profile by arm, batch size and seed, of an arm that has one each."""
    found = defaultdict(list)
    for e in study.design(parameters(study, profile)):
        found[e.arm, e.config.batch_size, e.config.seed].append(e.config)
    return {cell: configs[0] for cell, configs in found.items() if len(configs) == 1}


def different(one, other):
    """The fields of two runs that differ, but for what is only recorded."""
    free = {"record_epochs"}
    return {k for k, v in one.model_dump(exclude=free).items() if getattr(other, k) != v}


@each_study
@each_profile
def test_every_arm_has_the_seeds_of_the_verdicts_each_with_its_split(study, profile):
    seeds = defaultdict(set)
    for e in study.design(parameters(study, profile)):
        seeds[e.arm, e.config.batch_size].add(e.config.seed)
        assert e.config.split_seed == e.config.seed
    assert all(found in (SEEDS, SEEDS | MORE) for found in seeds.values())


@each_study
@each_profile
def test_every_run_stores_what_a_rule_may_need(study, profile):
    for e in study.design(parameters(study, profile)):
        names = [m.column for m in e.measures]
        assert {"test_outcomes", "distances"} <= set(names)
        assert len(set(names)) == len(names) or study is chang.study  # which has rows as well
        if study is not kaabachi.study:  # whose source states nothing about sharpness
            assert {"keskar_sharpness", confirmatory.ADAPTIVE, "lambda_max"} <= set(names)
            assert {"hessian_trace", "sam_sharpness"} <= set(names)


@each_study
def test_runs_on_a_gpu_are_those_of_the_queue_on_more_data_and_whole_networks(study):
    small, large = (by_cell(study, profile) for profile in ("confirm", "gpu"))
    assert {arm for arm, _, _ in small} == {arm for arm, _, _ in large}
    for cell in small.keys() & large.keys():
        assert different(small[cell], large[cell]) <= {"train_size", "network_options", "epochs"}


S, K, C = surlemont.protocol, kaabachi.protocol, chang.protocol
DIFFER = [  # an arm, the one that it is compared with, and what differs
    (surlemont, of_surlemont.AS_RUN, of_surlemont.AS_WRITTEN, "rho sam_adaptive sam_dropout"),
    (surlemont, of_surlemont.PLAIN_OFF, of_surlemont.AS_WRITTEN, "sam_dropout"),
    (surlemont, of_surlemont.ADAPTIVE_ON, of_surlemont.AS_WRITTEN, "rho sam_adaptive"),
    (surlemont, of_surlemont.AS_WRITTEN, S.SGD.label, "rho"),
    (surlemont, of_surlemont.LARGE_RHO, of_surlemont.AS_WRITTEN, "rho"),
    (surlemont, S.NO_DROPOUT.label, S.SGD.label, "network_options"),
    (surlemont, of_surlemont.FEW_EPOCHS, S.SGD.label, "epochs"),
    (kaabachi, of_kaabachi.AS_RUN, K.WARM["exponential"], "warmup"),
    (kaabachi, K.WARM["exponential"], K.COLD, "warmup warmup_epochs"),
    (kaabachi, of_kaabachi.FLAT, K.COLD, "base_lr"),
    (kaabachi, of_kaabachi.LOW, K.COLD, "base_lr"),
    (kaabachi, K.LINEAR, K.COLD, "epochs"),
    (chang, of_chang.AS_RUN, C.FIXED, "shuffle"),
    (chang, of_chang.FLAT, C.FIXED, "rho"),
    (chang, of_chang.FEW_EPOCHS, C.FIXED, "epochs"),
]


@pytest.mark.parametrize(("source", "arm", "reference", "fields"), DIFFER)
def test_arms_differ_in_what_they_name(source, arm, reference, fields):
    """At all batch sizes and seeds."""
    runs = by_cell(source.study)
    cells = [cell for cell in runs if cell[0] == arm and cell[2] in SEEDS]
    assert {seed for _, _, seed in cells} == SEEDS
    for cell in cells:
        assert different(runs[cell], runs[reference, *cell[1:]]) == set(fields.split())


def test_more_seeds_have_what_the_primary_claims_on_warm_up_compare():
    entries, p = kaabachi.study.design(parameters(kaabachi.study)), parameters(kaabachi.study)
    results = SimpleNamespace(parameters=p, design=designed_table(entries))
    sides = [one for c in kaabachi.CLAIMS if c.primary for one in c.statistic.sides]
    compared = {(str(one), b) for one in sides for b in one.batch_sizes(results)}
    assert {(e.arm, e.config.batch_size) for e in entries if e.config.seed in MORE} == compared
