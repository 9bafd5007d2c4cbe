"""Tests of bsglib.studies.confirm and of the designs of the profile `confirm`."""

from collections import defaultdict
from types import SimpleNamespace

import pytest

from bsglib.runs.build import schedule_of
from bsglib.studies import chang, confirm, kaabachi, profiles, surlemont
from bsglib.studies.chang import confirm as of_chang
from bsglib.studies.kaabachi import confirm as of_kaabachi
from bsglib.studies.study import designed_table
from bsglib.studies.surlemont import confirm as of_surlemont

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


def changes(study, arm, reference):
    """The fields in which an arm differs from another, over all of its batch sizes and seeds."""
    runs = by_cell(study)
    cells = [cell for cell in runs if cell[0] == arm and cell[2] in SEEDS]
    assert {seed for _, _, seed in cells} == SEEDS
    return [different(runs[cell], runs[reference, *cell[1:]]) for cell in cells]


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
            assert {"keskar_sharpness", confirm.ADAPTIVE, "lambda_max"} <= set(names)
            assert {"hessian_trace", "sam_sharpness"} <= set(names)


@each_study
@each_profile
def test_curvature_along_training_is_that_of_one_run_a_batch_size_and_recorded_seed(study, profile):
    p = parameters(study, profile)
    along = defaultdict(set)
    for e in study.design(p):
        epochs = [m.epoch for m in e.measures if m.epoch is not None]
        assert sorted(set(epochs)) == e.config.record_epochs
        if epochs:
            along[e.config.batch_size, e.config.seed].add(e.config.canonical())
    sizes = {e.config.batch_size for e in study.design(p)}
    assert set(along) == {(b, seed) for b in sizes for seed in p.confirm.recorded_seeds}
    assert all(len(configs) == 1 for configs in along.values())


@each_study
@each_profile
def test_lines_have_both_ends_in_the_design_and_the_same_part(study, profile):
    entries = study.design(parameters(study, profile))
    parts = {e.config.canonical(): e.part for e in entries}
    for e in entries:
        for start in [m.start for m in e.measures if m.start is not None]:
            assert parts[start.canonical()] == e.part


@each_study
@pytest.mark.parametrize("profile", ["quick", "laptop", "paper"])
def test_other_profiles_have_none_of_it(study, profile):
    p = parameters(study, profile)
    assert p.confirm is None
    for e in study.design(p):
        if e.config.seed < 10:
            assert not AS_RUN & e.config.model_dump(exclude_defaults=True).keys()
        assert "test_outcomes" not in [m.name for m in e.measures]


@each_study
def test_runs_on_a_gpu_are_those_of_the_queue_on_more_data_and_whole_networks(study):
    small, large = (by_cell(study, profile) for profile in ("confirm", "gpu"))
    assert {arm for arm, _, _ in small} == {arm for arm, _, _ in large}
    for cell in small.keys() & large.keys():
        assert different(small[cell], large[cell]) <= {"train_size", "network_options", "epochs"}


# Surlemont


@pytest.mark.parametrize(
    ("arm", "reference", "fields"),
    [
        (of_surlemont.AS_RUN, of_surlemont.AS_WRITTEN, {"rho", "sam_adaptive", "sam_dropout"}),
        (of_surlemont.PLAIN_OFF, of_surlemont.AS_WRITTEN, {"sam_dropout"}),
        (of_surlemont.ADAPTIVE_ON, of_surlemont.AS_WRITTEN, {"rho", "sam_adaptive"}),
        (of_surlemont.AS_WRITTEN, surlemont.protocol.SGD.label, {"rho"}),
        (of_surlemont.LARGE_RHO, of_surlemont.AS_WRITTEN, {"rho"}),
        (surlemont.protocol.NO_DROPOUT.label, surlemont.protocol.SGD.label, {"network_options"}),
        (of_surlemont.FEW_EPOCHS, surlemont.protocol.SGD.label, {"epochs"}),
    ],
)
def test_arms_of_sam_differ_in_what_they_name(arm, reference, fields):
    assert all(found == fields for found in changes(surlemont.study, arm, reference))


def test_the_factorial_of_sam_is_whole_at_every_batch_size():
    arms = of_surlemont.AS_WRITTEN, of_surlemont.PLAIN_OFF
    arms += of_surlemont.ADAPTIVE_ON, of_surlemont.AS_RUN
    runs = by_cell(surlemont.study)
    for b in (32, 64, 1024):
        four = [runs[arm, b, 10] for arm in arms]
        kinds = [(c.rho, c.sam_adaptive, c.sam_dropout) for c in four]
        assert kinds == [(0.05, False, True), (0.05, False, False),
                         (2.0, True, True), (2.0, True, False)]  # fmt: skip


def test_more_seeds_have_the_arms_that_primary_claims_compare():
    primary = {(arm, b) for arm, b, seed in by_cell(surlemont.study) if seed in MORE}
    sgd, sam = surlemont.protocol.SGD.label, of_surlemont.AS_WRITTEN
    assert primary == {(sgd, 32), (sgd, 64), (sgd, 1024), (sam, 32), (sam, 64)}


def test_runs_of_sgd_and_sam_stop_and_keep_as_the_code_does():
    for e in surlemont.study.design(parameters(surlemont.study)):
        c = e.config
        assert (c.patience, c.patience_on, c.keep) == (10, "validation_loss", "best_if_stopped")
        assert (c.validation_fraction, c.shuffle) == (0.2, "once")


def test_both_rates_of_sgd_are_one_run_at_the_reference_and_the_grid_has_six():
    runs = by_cell(surlemont.study)
    for b, same in ((32, True), (64, False), (1024, False)):
        scaled, fixed = (
            runs[arm.label, b, 10] for arm in (surlemont.protocol.SGD, surlemont.protocol.SGD_FIXED)
        )
        assert (scaled == fixed) == same
    entries = surlemont.study.design(parameters(surlemont.study))
    grid = [e.config for e in entries if e.arm == of_surlemont.RATES and e.config.seed == 10]
    rates = {b: {c.base_lr for c in grid if c.batch_size == b} for b in (32, 1024)}
    assert rates[32] == rates[1024] and len(rates[32]) == 6
    assert runs[surlemont.protocol.SGD_FIXED.label, 1024, 10] in grid


# Kaabachi


@pytest.mark.parametrize(
    ("arm", "reference", "fields"),
    [
        (of_kaabachi.AS_RUN, kaabachi.protocol.WARM["exponential"], {"warmup"}),
        (
            kaabachi.protocol.WARM["exponential"],
            kaabachi.protocol.COLD,
            {"warmup", "warmup_epochs"},
        ),
        (of_kaabachi.FLAT, kaabachi.protocol.COLD, {"base_lr"}),
        (of_kaabachi.LOW, kaabachi.protocol.COLD, {"base_lr"}),
        (kaabachi.protocol.LINEAR, kaabachi.protocol.COLD, {"epochs"}),
    ],
)
def test_arms_of_warm_up_differ_in_what_they_name(arm, reference, fields):
    assert all(found == fields for found in changes(kaabachi.study, arm, reference))


@pytest.mark.parametrize("batch_size", [128, 256, 512, 1024])
def test_the_flat_rate_is_where_the_warm_up_as_run_stays(batch_size):
    runs, updates = by_cell(kaabachi.study), 5120 // batch_size
    warm, flat, cold = (
        schedule_of(runs[arm, batch_size, 10], batch_size, updates)
        for arm in (of_kaabachi.AS_RUN, of_kaabachi.FLAT, kaabachi.protocol.COLD)
    )
    assert warm(0) == pytest.approx(cold(0) / 2**3.5)
    last = [schedule(70 * updates - 1) for schedule in (warm, flat, cold)]
    assert last[0] == pytest.approx(last[1]) == pytest.approx(last[2] / 2**1.5)


def test_more_seeds_have_what_the_primary_claims_on_warm_up_compare():
    entries, p = kaabachi.study.design(parameters(kaabachi.study)), parameters(kaabachi.study)
    results = SimpleNamespace(parameters=p, design=designed_table(entries))
    sides = [one for c in kaabachi.CLAIMS if c.primary for one in c.statistic.sides]
    compared = {(str(one), b) for one in sides for b in one.batch_sizes(results)}
    assert {(e.arm, e.config.batch_size) for e in entries if e.config.seed in MORE} == compared


def test_a_warm_up_of_whole_epochs_as_run_ends_at_the_scaled_rate():
    assert of_kaabachi.flat_share(5.0) == 1
    assert of_kaabachi.flat_share(3.5) == 2**-1.5


def test_every_run_of_warm_up_is_evaluated_as_run_too():
    entries = kaabachi.study.design(parameters(kaabachi.study))
    assert all(e.config.evaluate_as_run for e in entries)
    small = {e.config.batch_size: e.config for e in entries if e.arm == kaabachi.protocol.SMALL}
    assert {b: (c.base_lr, c.scaling) for b, c in small.items()} == {
        4: (0.001, "none"),
        32: (0.001, "none"),
    }


# Chang


@pytest.mark.parametrize(
    ("arm", "fields"),
    [
        (of_chang.AS_RUN, {"shuffle"}),
        (of_chang.FLAT, {"rho"}),
        (of_chang.FEW_EPOCHS, {"epochs"}),
    ],
)
def test_arms_at_the_fixed_rate_differ_in_what_they_name(arm, fields):
    assert all(found == fields for found in changes(chang.study, arm, chang.protocol.FIXED))


def test_both_batch_sizes_have_six_rates_one_of_them_fixed():
    entries = chang.study.design(parameters(chang.study))
    cells = {(e.config.batch_size, e.config.base_lr, e.config.seed) for e in entries}
    primary = {(e.arm, e.config.batch_size) for e in entries if e.config.seed in MORE}
    assert len(cells) == 2 * 6 * len(SEEDS) + len(primary) * len(MORE)
    assert primary == {(e.arm, e.config.batch_size) for e in entries if e.part == of_chang.MAIN}
    fixed, scaled = chang.protocol.FIXED, chang.protocol.SCALED
    assert primary == {(fixed, 32), (fixed, 256), (scaled, 256)}
