"""Tests of the claims on Surlemont et al., on made-up runs of the designs of its profiles."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bsglib.claims import AS_WRITTEN
from bsglib.studies import profiles, surlemont
from bsglib.studies.study import Results, designed_table
from bsglib.studies.surlemont import confirmatory, protocol, published
from bsglib.verdicts import AGREES, DEPENDS, NO_EFFECT, NOT_RUN, NOT_TESTABLE, OPPOSITE, SAME

SEEDS = [10, 11, 12, 13, 14]
RULES = {
    "sharpness": lambda run: 1.0,
    "train": lambda run: 0.95,
    "test": lambda run: 0.9,
    "stopped": lambda run: "patience",
}


def world(profile="laptop", **rules):
    """Results of a design in which each run is what `rules` say, with a little noise by its seed.

    Each rule maps a run, a row of the design, to a number; accuracies in [0, 1].
    """
    p = profiles.load(surlemont.study, profile)
    if p.confirm is None:
        p = p.model_copy(update={"seeds": SEEDS, "more_seeds": []})
    design = designed_table(surlemont.study.design(p))
    given = {name: np.array([rule(run) for run in design.itertuples()])
             for name, rule in (RULES | rules).items()}  # fmt: skip
    noise = 1 + 1e-4 * np.random.default_rng(0).standard_normal(len(design))
    columns = {c: given["sharpness"] * noise for c in ("keskar_sharpness", "adaptive")}
    for part, name in (("train", "train"), ("test", "test"), ("validation", "test")):
        columns |= {f"{part}_accuracy": given[name] * noise, f"{part}_loss": 0.3 * noise}
    runs = design.assign(**columns, stopped=given["stopped"], updates=100, classes=10)
    timings = pd.DataFrame(
        {"repeat": r, "sam": sam, "batch_size": b, "seconds": (1 + sam) * (3 - np.log2(b) / 5)}
        for r in range(5)
        for sam in (False, True)
        for b in p.batch_sizes
    )
    none = pd.DataFrame()
    return Results(surlemont.study, p, runs, none, none, timings, design, computed=0)


def changed(results, where, **values):
    """Results whose runs at some places have other values."""
    columns = {name: results.runs[name].mask(where, value) for name, value in values.items()}
    return replace(results, runs=results.runs.assign(**columns))


def judged(results, name):
    return results.judge(surlemont.study.claim(f"surlemont-{name}"))


def words(results, *names):
    return {judged(results, name).word for name in names}


def as_stated(run):
    """Sharpness as section V of the source states it."""
    if run.optimizer == "adam":
        return 12.0
    if run.condition == protocol.RHO_SWEEP:
        return 0.8 - run.rho
    if not run.sam:
        return 9.0 if run.dropout else 4.0
    by_size = {32: 1.0, 64: 4.5, 128: 9.0, 256: 14.0, 512: 14.0, 1024: 0.8}
    return by_size[run.batch_size] if run.dropout else 1.0


def as_accurate(run):
    """Accuracy as section V states it: Adam's is worse, and that of B = 1024 at a fixed rate."""
    at_1024 = run.batch_size == 1024 and (run.sam or run.rate == "fixed")
    return 0.87 if run.optimizer == "adam" else 0.9 - 0.06 * at_1024


def test_a_world_like_the_source_bears_out_its_claims():
    train = lambda run: 0.95 - 0.02 * (run.sam and run.optimizer == "sgd")  # noqa: E731
    results = world(sharpness=as_stated, test=as_accurate, train=train)
    claims = (c for c in surlemont.study.claims if c.reading == AS_WRITTEN)
    found = {claim.id: results.judge(claim) for claim in claims if claim.figure != "factorial"}
    wrong = {i for i, one in found.items() if one.word != SAME}  # the source says both; or asks
    assert wrong == {"surlemont-scaled-sharper", "surlemont-sam-lr-relation"}
    for name in ("sam-sharpness-32", "sam-sharpness-64", "dropout-explains", "sam-doubles-time"):
        assert found[f"surlemont-{name}"].verdict.size == AGREES, name


def test_a_factor_that_dropout_and_the_kind_of_sam_make_is_found_as_run_alone():
    flat = confirmatory.AS_RUN, confirmatory.LARGE_RHO  # the latter is the positive control
    results = world("confirm", sharpness=lambda run: 1.0 if run.arm in flat else 9.0)
    rows = results.verdicts().rows.set_index("claim")
    as_run = rows.loc["surlemont-sam-sharpness-32-as-run"]
    assert (as_run["verdict"], as_run["size"]) == (SAME, AGREES)
    assert as_run["readings"] == "same direction, agrees as run; no effect (negligible) as written"
    assert rows.loc["surlemont-sam-sharpness-32", "readings"] == as_run["readings"]
    assert words(results, "adaptive-32", "plain-as-run-32") == {NO_EFFECT}
    assert words(results, "dropout-in-adaptive-32") == {OPPOSITE}
    assert words(results, "solver-32") == {NOT_RUN}
    theirs = results.runs["keskar_sharpness"] * np.where(results.runs["rho"] > 0, 3, 1)
    solved = replace(results, runs=results.runs.assign(authors=theirs))
    assert words(solved, "solver-32") == {OPPOSITE}


def test_where_sam_changes_nothing_it_has_no_effect_and_what_is_equal_is_the_same():
    results = world()
    effects = "sam-sharpness-32", "sam-narrows-gap", "sam-error-ratio", "dropout-alone"
    assert words(results, *effects, "sam-small-only", "adam-sharper-scaled") == {NO_EFFECT}
    equal = "sam-keeps-accuracy", "scaled-equal-sharpness", "adam-sharpness-fixed"
    assert words(results, *equal, "sam-sharpness-128", "adam-accuracy-scaled") == {SAME}
    other = changed(results, results.runs["sam"], adaptive=0.5)
    assert words(other, "sam-sharpness-128") == {DEPENDS}


def test_a_lost_accuracy_refutes_that_it_is_kept_and_a_harm_that_there_is_no_gain():
    lost = lambda run: 0.1 if run.sam and run.batch_size == 64 else 0.9  # noqa: E731
    names = "sam-keeps-accuracy", "fixed-sam-accuracy", "adam-accuracy-scaled"
    for results in (world(test=lost), world(test=lost, train=lost)):
        assert words(results, *names) == {OPPOSITE}
    found = judged(results, names[0])
    assert "B = 64" in found.verdict.words and "training accuracy -80" in found.note
    collapse = world(test=lambda run: 0.5 if run.batch_size == 1024 else 0.9)
    assert words(collapse, "scaling-compensates") == {OPPOSITE}


def test_no_minimizer_is_compared_that_was_cut_off_diverged_or_never_learned():
    names = "sam-sharpness-32", "scaled-equal-sharpness", "dropout-explains"
    results = world()
    at = (results.runs["batch_size"] == 32) & ~results.runs["sam"] & (results.runs["seed"] == 10)
    for values, on_accuracy in (
        ({"stopped": "epochs", "train_accuracy": 0.85}, NO_EFFECT),
        ({"stopped": "diverged", "keskar_sharpness": np.nan}, NOT_TESTABLE),
        ({"train_accuracy": 0.1}, NOT_TESTABLE),
    ):
        unfit = changed(results, at, **values)
        assert words(unfit, *names) == {NOT_TESTABLE}, values
        assert words(unfit, "adam-worse-scaled") == {on_accuracy}, values


def test_the_largest_radius_that_trains_is_compared():
    results = world()
    swept = results.runs["condition"] == protocol.RHO_SWEEP
    cut_off = {"stopped": "epochs", "train_accuracy": 0.5}
    found = {}
    for rho in (0.01, 0.1, 0.2, 0.5):
        beyond = swept & (results.runs["rho"] > rho)
        found[rho] = judged(changed(results, beyond, **cut_off), "larger-rho")
    assert found[0.01].word == NOT_TESTABLE
    assert [found[rho].note.split()[-1] for rho in (0.1, 0.2, 0.5)] == ["0.1", "0.2", "0.5"]


# ------------------------------------------------------------- the profile `confirm`


def shown(run):
    """Sharpness in which the controls show: lower at a large radius, higher at a low rate."""
    if run.condition == confirmatory.LARGE_RHO:
        return 0.2
    return 5.0 if run.rate == "fixed" and run.batch_size == 1024 else 1.0


def few_are_worse(run):
    return 0.7 if run.condition == confirmatory.FEW_EPOCHS else 0.9


PRIMARY = "sam-sharpness-32", "sam-keeps-accuracy", "scaled-equal-sharpness"


def test_primary_claims_have_ten_seeds_of_the_arms_as_written():
    results = world("confirm", sharpness=shown, test=few_are_worse)
    assert {c.id for c in surlemont.study.claims if c.primary} == {
        f"surlemont-{n}" for n in PRIMARY
    }
    assert [judged(results, name).verdict.ours.n for name in PRIMARY] == [10, 10, 10]
    assert [judged(results, name).word for name in PRIMARY] == [NO_EFFECT, SAME, SAME]
    as_run = results.runs["arm"].isin(
        [confirmatory.ADAPTIVE_ON, confirmatory.AS_RUN, confirmatory.PLAIN_OFF]
    )
    other = changed(results, as_run, keskar_sharpness=99.0, test_accuracy=0.2, stopped="diverged")
    written = (c for c in surlemont.study.claims if c.reading == AS_WRITTEN)
    for claim in (c for c in written if c.figure != "factorial"):
        ours, theirs = (r.judge(claim).verdict for r in (results, other))
        assert ours == theirs or "dropout" in claim.id, claim.id
    assert words(other, "dropout-explains") == {NOT_TESTABLE}, "SAM as in the cited code"


@pytest.mark.parametrize(
    ("failing", "names"),
    [
        ({"sharpness": lambda run: min(shown(run), 1.0)}, ["scaled-equal-sharpness"]),
        ({"sharpness": lambda run: max(shown(run), 1.0)}, ["sam-sharpness-32", "dropout-alone"]),
        ({"test": RULES["test"]}, ["sam-keeps-accuracy", "sam-narrows-gap"]),
    ],
)
def test_claims_are_judged_only_where_their_control_shows(failing, names):
    results = world("confirm", **{"sharpness": shown, "test": few_are_worse} | failing)
    tested = [*PRIMARY, "sam-narrows-gap", "dropout-alone"]
    refused = {name for name in tested if judged(results, name).word == NOT_TESTABLE}
    assert refused == set(names)
    assert "positive control" in judged(results, names[0]).row()["reason"]


# ------------------------------------------------------------- scale


def test_shares_count_updates_only_of_runs_cut_off_before_the_authors_maximum():
    results = world(stopped=lambda run: "epochs" if run.batch_size == 32 else "patience")
    runs = results.of(protocol.SGD.label, batch_size=[32, 64]).drop_duplicates("batch_size")
    cut_off, stopped = protocol.shares(results, runs)
    assert cut_off.updates == pytest.approx(100 / (199.5 * 1500)) and stopped.updates == 1
    assert (stopped.examples, stopped.width, stopped.data) == (10_240 / 48_000, 0.25, "")
    whole = runs.assign(epochs=published.MAX_EPOCHS, train_size=np.nan, dataset="digits")
    (share, _) = protocol.shares(results, whole)
    assert (share.updates, share.examples, share.data) == (1, 1, "digits")
    assert published.updates("sgd", "scaled", False, 16) == 500 * 3000
