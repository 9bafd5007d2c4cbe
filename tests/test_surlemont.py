"""Tests of the claims on Surlemont et al., on made-up runs."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from bsglib import cli
from bsglib.claims import (
    DIRECTION_ONLY,
    NOT_REPRODUCED,
    NOT_TESTABLE,
    REPRODUCED,
    verdict,
)
from bsglib.studies import surlemont
from bsglib.studies.surlemont.protocol import RHO_SWEEP

IDS = [claim.id for claim in surlemont.CLAIMS]
SIZES, SEEDS = (32, 64, 128, 256, 512, 1024), range(4)
ARMS = [
    surlemont.protocol.Arm(optimizer, scaling, sam)
    for optimizer in ("sgd", "adam")
    for scaling in ("linear", "none")
    for sam in (False, True)
] + [surlemont.protocol.NO_DROPOUT, surlemont.protocol.NO_DROPOUT_SAM]


def world(**rules):
    """Results in which each run is what `rules` say, with a little noise from its seed.

    Each rule maps (arm, batch size) to a number; accuracies in [0, 1].
    """
    defaults = {
        "phi": lambda arm, b: 1.0,
        "validation": lambda arm, b: 0.9,
        "train": lambda arm, b: 0.95,
        "test": lambda arm, b: 0.9,
    }
    rules, rows, generator = defaults | rules, [], np.random.default_rng(0)
    for arm in ARMS:
        for b in SIZES:
            for seed in SEEDS:
                noise = 1 + 1e-4 * generator.standard_normal()
                row = {"arm": arm.label, "batch_size": b, "seed": seed} | arm.labels
                row |= {"rho": 0.05 if arm.sam else np.nan}
                row |= {"keskar_sharpness": rules["phi"](arm, b) * noise}
                for part in ("train", "validation", "test"):
                    row[f"{part}_accuracy"] = rules[part](arm, b) * noise
                rows.append(row)
    for rho in (0.01, 0.5):
        for seed in SEEDS:
            row = {"arm": RHO_SWEEP, "condition": RHO_SWEEP, "batch_size": 1024, "seed": seed}
            row |= {"rho": rho, "train_accuracy": 0.95}
            rows.append(row | {"keskar_sharpness": 1 / (1 + 2 * rho) ** 2})
    timings = [
        {"repeat": r, "sam": sam, "batch_size": b, "seconds": (1 + sam) * (3 - np.log2(b) / 5)}
        for r in range(5)
        for sam in (False, True)
        for b in SIZES
    ]
    runs = pd.DataFrame(rows).assign(updates=100, stopped="epochs", target_loss=np.nan, base_lr=0.1)
    runs["entry"] = [str(i) for i in range(len(runs))]
    return SimpleNamespace(
        runs=runs,
        design=runs,
        left_out=pd.DataFrame(),
        timings=pd.DataFrame(timings),
        parameters=SimpleNamespace(batch_sizes=list(SIZES), seeds=list(SEEDS), rho=0.05),
    )


def word(results, name):
    found = surlemont.study.claim(f"surlemont-{name}")
    return verdict(found, found.statistic(results)).verdict


def as_stated(arm, b):
    """Sharpness as section V of the source states it."""
    if not arm.sam and arm.optimizer == "sgd":
        return 9.0 if arm != surlemont.protocol.NO_DROPOUT else 4.0
    if arm == surlemont.protocol.NO_DROPOUT_SAM:
        return 1.0
    if arm.optimizer == "adam":
        return 12.0
    return {32: 1.0, 64: 4.5, 128: 9.0, 256: 12.0, 512: 12.0, 1024: 0.8}[b]


def test_a_world_like_the_source_reproduces_its_claims():
    results = world(
        phi=as_stated,
        validation=lambda arm, b: (
            0.9
            - 0.03 * (arm.optimizer == "adam")
            - 0.05 * (arm.sam and b >= 256)
            - 0.05 * (arm.sam and b == 1024)
            - 0.04 * (arm.scaling == "none" and b == 1024)
        ),
        train=lambda arm, b: 0.95 - 0.02 * arm.sam,
        test=lambda arm, b: 0.9 - 0.04 * (arm == surlemont.protocol.SGD_FIXED and b == 1024),
    )
    words = {name: word(results, name.removeprefix("surlemont-")) for name in IDS}
    contradicted = {  # the source says both, and its own figure 2 decides; or asked, not claimed
        "surlemont-scaled-sharper",
        "surlemont-sam-lr-relation",
        "surlemont-larger-rho",
        "surlemont-sam-without-dropout",  # a rival of "dropout-explains"
    }
    wrong = {name: w for name, w in words.items() if w != REPRODUCED and name not in contradicted}
    assert wrong == {}
    assert words["surlemont-scaled-sharper"] != REPRODUCED


def test_a_world_where_sam_changes_nothing_reproduces_no_effect_of_it():
    results = world()
    for name in ("sam-sharpness-32", "sam-sharpness-64", "sam-narrows-gap", "sam-error-ratio"):
        assert word(results, name) not in (REPRODUCED, DIRECTION_ONLY), name
    assert word(results, "sam-keeps-accuracy") == REPRODUCED
    assert word(results, "scaled-equal-sharpness") == REPRODUCED


def test_a_lost_accuracy_refutes_that_it_is_kept():
    collapse = {
        part: lambda arm, b: 0.5 if arm.sam and b <= 64 else 0.9 for part in ("train", "validation")
    }
    for name in ("sam-keeps-accuracy", "fixed-sam-accuracy"):
        assert word(world(**collapse), name) == NOT_REPRODUCED
    collapse = {part: lambda arm, b: 0.5 if b == 1024 else 0.9 for part in ("train", "validation")}
    assert word(world(**collapse), "scaling-compensates") == NOT_REPRODUCED


def test_claims_on_the_ends_ask_nothing_of_the_sizes_between():
    results = world()
    results.runs = results.design = results.runs[results.runs["batch_size"] != 128]
    for name in ("scaling-compensates", "scaled-equal-sharpness", "fixed-gap", "sam-lr-relation"):
        assert word(results, name) != NOT_TESTABLE, name


def test_optimizers_that_were_cut_off_unequally_far_are_not_compared():
    results = world(train=lambda arm, b: 0.84 + 0.04 * (arm.optimizer == "adam"))
    for name in ("adam-worse-scaled", "adam-worse-fixed", "adam-sharper-scaled"):
        found = surlemont.study.claim(f"surlemont-{name}")
        judged = verdict(found, found.statistic(results))
        assert judged.verdict == NOT_TESTABLE, name
        assert judged.reason.startswith(
            "stopped at the maximum of epochs with training accuracies of 8"
        ), name
    results.runs["stopped"] = "patience"
    assert word(results, "adam-worse-scaled") != NOT_TESTABLE, "to end so is a result"


def diverged(results, name, size, seed=0):
    """Mark one run as diverged: no sharpness, and an accuracy by chance."""
    mine = (results.runs["arm"] == name) & (results.runs["batch_size"] == size)
    mine &= results.runs["seed"] == seed
    results.runs.loc[mine, "keskar_sharpness"] = np.nan
    results.runs.loc[mine, "stopped"] = "diverged"
    results.runs.loc[mine, ["train_accuracy", "validation_accuracy", "test_accuracy"]] = 0.1
    return results


def test_a_batch_size_left_out_of_a_mean_is_named():
    results = diverged(world(), surlemont.protocol.ADAM_SAM.label, 1024)
    found = surlemont.study.claim("surlemont-adam-sharpness-scaled")
    judged = verdict(found, found.statistic(results))
    assert judged.ours.n == len(SEEDS)
    assert "only B = 32, 64, 128, 256, 512 (Adam, scaled lr, SAM, B = 1024" in judged.reason


def test_more_seeds_have_sgd_with_dropout_alone_and_others_are_compared_over_common_ones():
    p = cli._parameters(surlemont.study, "laptop")
    more = [e for e in surlemont.study.design(p) if e.config.seed in p.more_seeds]
    assert p.more_seeds and len(more) == len(p.more_seeds) * 4 * len(SIZES)
    assert {e.config.optimizer for e in more} == {"sgd"}
    assert {e.config.network_options["dropout"] for e in more} == {p.dropout}
    results = world()
    fewer = results.runs["arm"].str.contains("Adam|no dropout|other rho")
    results.runs = results.design = results.runs[~fewer | (results.runs["seed"] < 3)]
    results.parameters.seeds = [0, 1, 2]
    seeds = {
        "sam-keeps-accuracy": 4,
        "adam-worse-scaled": 3,
        "dropout-explains": 3,
        "larger-rho": 3,
    }
    for name, n in seeds.items():
        found = surlemont.study.claim(f"surlemont-{name}")
        assert verdict(found, found.statistic(results)).ours.n == n, name


def test_radii_at_which_nothing_trains_do_not_count_as_flat():
    results = world()
    results.runs.loc[results.runs["arm"] == RHO_SWEEP, "train_accuracy"] = 0.1
    assert word(results, "larger-rho") == NOT_TESTABLE


def test_a_radius_that_lacks_a_seed_hides_no_complete_one():
    results = world()
    extra = results.runs[results.runs["rho"] == 0.5].assign(rho=0.9).iloc[:1]
    results.runs = pd.concat([results.runs, extra])
    found = surlemont.study.claim("surlemont-larger-rho")
    judged = verdict(found, found.statistic(results))
    assert judged.ours.n == len(SEEDS) and "over rho = 0.5" in judged.reason
