"""Tests of bsglib.studies.chang: design, claims and tables of the study of batch size."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bsglib.claims import AS_WRITTEN
from bsglib.runs.measures import LINE
from bsglib.runs.params import ParameterError, parse
from bsglib.studies import chang
from bsglib.studies.chang import as_run, claims, derived, published, tables
from bsglib.studies.chang.protocol import FIXED, LOSS, SCALED, SHARPNESS
from bsglib.studies.comparing import last_minus_first, rises
from bsglib.studies.profiles import load
from bsglib.studies.study import Results
from bsglib.verdicts import DEPENDS, NO_EFFECT, NOT_RUN, NOT_TESTABLE, OPPOSITE, SAME, Shares

LAYERS = {"0": 0.6, "3": 0.5, "6": 0.4, "17": 0.3}  # part of the distance in each
EPOCHS = (1, 2, 4, 8, 16, 32, 64, 120)  # of the made-up histories
SIX = {"lrs": [0.005, 0.01, 0.02, 0.04, 0.08, 0.16], "more_seeds": [3, 4, 5], "surface_points": 13}


def parameters(profile="laptop", **changes):
    return parse(load(chang.study, profile).model_dump() | changes, chang.ChangParameters)


# A made-up world


def as_stated(p, b, lr, arm):
    """What the paper states about a run, and where it is silent, its hypotheses."""
    x, r = math.log2(b / 32) / 3, math.log2(lr / p.lr)  # from 0 to 1; doublings of the rate
    distance = {FIXED: (3.0, 2.0, 2.2, 1.2), SCALED: (3.0, 2.8, 1.9, 2.7)}.get(arm, (2.0,) * 4)
    sharpness = {FIXED: (1.14, 8.0, 12.0, 20.0), SCALED: (1.14, 4.0, 5.5, 7.0)}.get(arm, (3.0,) * 4)
    rate = -0.0143 * min(r, 3) + 0.02 * max(r - 3, 0)  # what it changes at a larger batch size
    loss = 0.344 + (0.051 * x + rate if b > 32 else 0.02 * abs(r))
    return {
        "validation_loss": loss + 0.25 * (arm == LOSS),
        "train_loss": 0.2,
        "train_accuracy": 0.95,
        "test_loss": loss,
        "kept_epoch": 158 * (958 / 158) ** x if arm == FIXED else 158,
        "distance": distance[round(3 * x)],
        SHARPNESS: sharpness[round(3 * x)] if arm != LOSS else 1 + x,
        "slowness": 1 + 7 * x,
        "norm": 3.3e-3 * (1.5 / 3.3) ** x,
        "steepness": 1 + 5 * x,
        "epoch_distance": 0.275 * (0.03 / 0.275) ** x,
        "growing": 0.01 * (1 - x),
    }


def without_effect(p, b, lr, arm):
    """A world in which neither batch size nor rate does anything."""
    same = dict.fromkeys(("validation_loss", "train_loss", "test_loss", "distance", SHARPNESS), 0.4)
    same |= dict.fromkeys(("slowness", "norm", "steepness"), 1.0)
    return same | {"train_accuracy": 0.95, "kept_epoch": 100, "epoch_distance": 1, "growing": 0}


def seconds_as_stated(b, n):
    small, large = (12.4, 7.7) if n == 1 else (14.0, 3.97)
    return small * (large / small) ** (math.log2(b / 32) / 3)


def world(rule=as_stated, seconds=seconds_as_stated, p=None):
    """Results in which each run is what `rule` says, with a little noise from its seed."""
    p = p or parameters(**SIX)
    rows, history, points = [], [], []
    for entry in chang.study.design(p):
        c = entry.config
        values = rule(p, c.batch_size, c.base_lr, entry.arm)
        generator = np.random.default_rng([c.seed, *c.canonical().encode()])
        noise = 1 + (0 if rule is without_effect else 1e-5) * generator.standard_normal(len(values))
        values = dict(zip(values, noise * list(values.values()), strict=True))
        row = c.model_dump() | entry.columns | {"network_options": json.dumps(c.network_options)}
        row |= {"classes": 2, "part": entry.part, "updates": 10_000}
        row |= {"stopped": "patience" if c.target_loss is None else "target_loss"}
        if c.target_loss is not None:
            values["train_loss"] = c.target_loss
        row |= {f"{SHARPNESS}.{name}": 1.0 for name in ("loss", "max_loss", "iterations")}
        rows.append(row | values | {"kept_epoch": round(values["kept_epoch"])})
        history.append(course(p, c, values).assign(**entry.columns))
        points += [rows_of(m, values, p).assign(**entry.columns) for m in entry.measures]
    timings = pd.DataFrame(
        {"batch_size": b, "processes": n, "repeat": i, "seconds": seconds(b, n) * (1 + i / 1e4)}
        for b in p.batch_sizes
        for n in p.processes
        for i in range(7)
    ).assign(processor="a chip", threads=1, cores=4)
    runs = pd.DataFrame(rows)
    tables = (pd.concat(table, ignore_index=True) for table in (history, points))
    return Results(chang.study, p, runs, *tables, timings, runs, 0)


def course(p, c, values):
    """Losses that fall the slower the larger `slowness` is, to the run's own lowest one."""
    epoch = np.array(sorted({*EPOCHS, round(values["kept_epoch"])}))
    left = np.exp(-epoch / (50 * values["slowness"]))
    distance = values["epoch_distance"] * (1 + values["growing"] * epoch)
    table = {"epoch": epoch, "updates": epoch * math.ceil(4000 / c.batch_size)}
    running = 0.2 + 0.5 * left + 0.01 * (values["slowness"] - 1)
    table |= {"running_loss": running, "epoch_distance": distance, "train_loss": np.nan}
    return pd.DataFrame(table | {"validation_loss": values["validation_loss"] + 0.3 * left})


def rows_of(measure, values, p):
    """The rows of a measure in the made-up world."""
    options = {k: str(v) if isinstance(v, list) else v for k, v in measure.options.items()}
    steep, name = values["steepness"], measure.name
    if name == "distances":
        shares = {"whole": 1.0} | LAYERS
        rows = {"layer": list(shares), "distance": values["distance"] * pd.Series(shares.values())}
    elif name == "update_norms":
        rows = {"level": [0.0, 0.5, 1.0], "norm": [0.0, values["norm"], 2 * values["norm"]]}
    elif name == "gradient_agreement":
        sizes = np.array(p.batch_sizes)
        rows = {"examples": sizes, "norm": (1.5 / 3.3) ** (np.log2(sizes / 32) / 3)}
    elif name == LINE:
        alpha = np.linspace(-1, 2, measure.options["points"])
        rise = np.where(alpha < 0.5, alpha**2, steep * (alpha - 1) ** 2)
        rows = {"alpha": alpha, "loss": np.exp(rise), "set": "train"}
    elif name == "loss_surface":
        axis = np.linspace(-1, 1, measure.options["points"])
        a, b = np.meshgrid(axis, axis if len(measure.options["seeds"]) == 2 else [0.0])
        rows = {"a": a.ravel(), "b": b.ravel(), "loss": 0.2 + steep * (a**2 + b**2).ravel()}
        rows |= {"cosine": 0.01}
    else:
        return pd.DataFrame()
    return pd.DataFrame(rows).assign(measure=name, **options)


@pytest.fixture(scope="module")
def stated():
    return world()


def judged(results, name):
    return results.judge(chang.study.claim(f"chang-{name}"))


def word(results, name):
    return judged(results, name).word


def words(results, *, but):
    """Return the words of all claims, by the word: but those that are `but`."""
    written = (claim for claim in chang.CLAIMS if claim.reading == AS_WRITTEN)
    found = {claim.id.removeprefix("chang-"): results.judge(claim).word for claim in written}
    return {name: found for name, found in found.items() if found != but}


def why_not(results, name):
    found = judged(results, name)
    assert found.word in (NOT_TESTABLE, NOT_RUN)
    return found.row()["reason"].partition("; `bsg")[0]


def with_runs(results, where, **values):
    """The same results with other values in the runs that a query finds."""
    runs = results.runs.copy()
    runs.loc[runs.query(where).index, list(values)] = list(values.values())
    return replace(results, runs=runs)


def test_a_world_as_the_paper_states_it_has_the_claimed_directions_and_sizes(stated):
    but = {"best-lr-linear": OPPOSITE, "worse-in-general": NO_EFFECT}  # by its figures 29 and 24
    assert words(stated, but=SAME) == but
    sizes = {claim.id: stated.judge(claim).verdict.size for claim in chang.CLAIMS}
    times = {"chang-scaled-time"}  # the product of its own numbers is not its number
    assert {name for name, size in sizes.items() if size not in (None, "agrees")} <= times
    flat = replace(stated, runs=stated.runs.assign(lambda_max=1 / stated.runs["batch_size"]))
    assert word(flat, "sharper") == DEPENDS


def test_a_world_without_effect_has_none():
    found = words(world(without_effect, lambda b, n: 1.0), but=NO_EFFECT)
    same = {name for name, word in found.items() if word == SAME}
    assert same == {"premise-training", "scaled-epochs"}
    against = {name for name, word in found.items() if word == OPPOSITE}
    # There, updates do not shrink as gradients do, and after equal updates B = 256 has more epochs.
    assert against == {"cancelling", "gap-equal-updates"}
    assert set(found.values()) == {SAME, OPPOSITE, NOT_TESTABLE}


def test_shares_are_those_of_the_source_s_images_updates_and_width(stated):
    run = stated.runs.query("arm == @FIXED and batch_size == 256 and seed == 0")
    updates = 1058 * 73
    cut = {"stopped": "epochs", "updates": updates / 4, "network_options": '{"width": 0.5}'}
    whole = {"train_size": None, "epochs": 100, "updates": 100 * 73}
    toy = {"dataset": "even_or_odd", "stopped": "patience"}
    for changes, expected in (
        ({}, Shares(1, 4000 / 18610)),
        (cut, Shares(0.25, 4000 / 18610, 0.5)),
        (whole, Shares(1, 73 * 256 / 18610)),
        (toy, Shares(1, 4000 / 18610, data="digits")),
    ):
        assert list(derived.shares(stated, run.assign(**changes))) == [expected]
    assert published.updates(256, at_fixed=False) == 258 * 73


def test_parameters_that_do_not_fit_are_refused():
    for changes, message in (
        ({"lrs": [0.01, 0.02, 0.08]}, "0.04 is missing, the linearly scaled rate of B = 128"),
        ({"surface_points": 24}, "'surface_points' = 24"),
        ({"agreement_examples": 255}, "'agreement_examples' = 255: has to be at least 256"),
        ({"more_seeds": [3, 2]}, "2 is already in 'seeds'"),
        ({"processes": [2, 4]}, "'processes' = [2, 4]: 1 is missing"),
    ):
        with pytest.raises(ParameterError, match=re.escape(message)):
            parameters(**changes)


# Why a claim is not judged


def test_a_rate_at_which_training_fails_is_a_bad_rate_and_its_end_no_minimizer(stated):
    results = with_runs(stated, "batch_size == 256 and base_lr == 0.01", validation_loss=0.69)
    assert why_not(results, "sharper").endswith("validation loss 0.69, no better than chance")
    assert word(results, "best-lr-others") == SAME
    lowest = {"stopped": "diverged", "validation_loss": 0.0}
    results = with_runs(stated, "batch_size == 32 and base_lr > 0.1", **lowest)
    assert word(results, "best-lr-small") == SAME
    assert np.isinf(tables.heat_map(results).loc[0.16, 32])
    assert (derived.at_best_rate(results).query("batch_size == 32")["base_lr"] == 0.01).all()
    results = with_runs(stated, "batch_size == 32 and base_lr >= 0.08", stopped="diverged")
    assert word(results, "large-lr") == word(results, "wins-too-high") == SAME
    results = with_runs(stated, "batch_size > 32", validation_loss=0.2)
    assert word(results, "wins-too-high") != SAME, "where they win at any rate"


def with_best(stated, **cells):
    """The same results with some best rates."""
    where = " or ".join(f"batch_size == {b[1:]} and base_lr == {lr}" for b, lr in cells.items())
    return with_runs(stated, where, validation_loss=0.1)


def test_no_best_rate_at_an_end_of_the_grid_is_judged(stated):
    one = "batch_size == 256 and base_lr == 0.16 and seed == 0"
    end = with_runs(stated, one, validation_loss=0.1)
    for name, of in (("rises", 6), ("linear", 12), ("others", 9)):
        reason = f"1 of {of} best rates lie at an end of the grid"
        assert why_not(end, f"best-lr-{name}") == reason
    assert word(end, "best-lr-small") == SAME
    reason = "B = 256: the best rate, 0.16, lies at an end of the grid"
    assert why_not(with_best(stated, b256=0.16), "worse-in-general") == reason


def test_a_best_rate_lies_between_those_of_the_grid(stated):
    step = 0.0143 - 0.02  # in figure 29 the loss falls and rises by so much beside the best rate
    best = 0.08 * 2 ** (step / 2 / 0.0343)
    assert derived.optima(stated)[256].to_numpy() == pytest.approx(best, rel=1e-3)
    equal = with_runs(stated, "batch_size == 32", validation_loss=0.5)
    assert derived.optima(equal)[32].to_numpy() == pytest.approx(0.005)
    assert word(with_best(stated, b64=0.02), "best-lr-others") == OPPOSITE
    assert word(with_best(stated, b64=0.02, b128=0.04), "best-lr-linear") == SAME


# Statistics in closed form


def test_surface_and_line_around_a_paraboloid_have_its_growth(stated):
    found, line = claims.growth(stated), stated.points_of(FIXED, measure=LINE, set="train")
    on_line = rises(line.assign(loss=np.log(line["loss"])), claims.STEP)
    axis = np.linspace(-1, 1, stated.parameters.explorer_points)
    a, b = np.meshgrid(axis, axis)
    squares = (a**2 + b**2)[np.hypot(a, b) <= claims.RADIUS + 1e-9]
    for batch_size, end, steepness in ((32, 0, 1), (256, 1, 6)):
        growth, rise = steepness * squares.mean(), steepness * claims.STEP**2
        assert found[batch_size].to_numpy() == pytest.approx(growth, rel=1e-3)
        assert on_line[end].to_numpy() == pytest.approx(rise, rel=1e-3)
    assert claims.steeper(stated).to_numpy() == pytest.approx(np.exp(5 * claims.STEP**2), rel=1e-3)


def test_the_share_of_a_gap_is_a_ratio_of_means_with_its_error():
    generator = np.random.default_rng(0)
    before, after = (generator.normal(mean, 0.01, 400) for mean in (0.05, 0.01))
    tables = [pd.DataFrame({32: 0 * gap, 256: gap}) for gap in (before, after)]
    for sign in (1, -1):  # a gap that turns is one
        found = claims.share_left(last_minus_first, tables[0], sign * tables[1]).values
        assert np.mean(found) == pytest.approx(after.mean() / before.mean())
        error = math.sqrt(0.01**2 + (0.2 * 0.01) ** 2) / 0.05  # by the delta method
        assert np.std(found) == pytest.approx(error, rel=0.1)


def test_equal_losses_of_all_seeds_have_their_value_as_mean(stated):
    """The sum of three equal numbers, over three, may be the next number."""
    tried = np.nextafter(np.full(64, 0.693147), 1).cumsum() / np.arange(1, 65)
    value = next(v for v in tried if pd.Series([v] * 3).mean() != v)
    cells = tables.explorer_cells(with_runs(stated, "seed >= 0", validation_loss=value))
    assert (cells["low"] <= cells["mean"]).all() and (cells["mean"] <= cells["high"]).all()


# What explains the difference


def test_a_total_fits_the_epochs_that_give_the_papers_seconds_per_epoch(stated, monkeypatch):
    said = as_run.explained(stated)
    assert "fits 1,915 s in 155 epochs" in said and "does not fit 1,915 s in 158 epochs" in said
    shown = as_run.times(stated)
    assert shown.loc["paper, whole run, by the log", "seconds per epoch that follow"] == "12.38"
    assert shown.loc["ours, to the lowest loss", "product (s)"] == "1,960"  # 158 x 12.4
    monkeypatch.setattr(published, "LOGGED_EPOCHS", {32: (200, 255)})
    assert "does not fit 1,915 s in 200 epochs" in as_run.explained(stated)


def test_readings_stand_beside_each_other_and_one_not_run_has_a_dash(stated):
    shown = as_run.readings(stated)
    assert set(shown["ours, as run"]) == {"-"} and "No run here has one order" in as_run.explained(
        stated
    )
    order = stated.runs.query("arm == @FIXED").assign(arm="fixed lr, one order")
    order["validation_loss"] *= np.where(order["batch_size"] == 256, 2, 1)
    runs = pd.concat([stated.runs, order]).assign(authors=lambda runs: runs["batch_size"])
    shown = as_run.readings(replace(stated, runs=runs))
    both = shown.loc["lowest validation loss: new order, one order"]
    assert both["ours, as written"].startswith("1.15") and both["ours, as run"].startswith("2.30")
    by_code = shown.loc["sharpness: by the definition, by the code", "ours, as run"]
    assert by_code.startswith("8.00")
    table = as_run.sharpness(replace(stated, runs=runs))
    assert table.loc[256, "fixed lr: as their code computes it"] == "256"
    assert table.loc[64, "paper, scaled lr"] == "4 to 7"


def test_the_authors_grid_has_points_of_ours_and_may_miss_the_minimum(stated):
    panels = as_run.sampled(stated)
    fine, few = panels["B = 256, 13 x 13 points"], panels["B = 256, 5 x 5 points"]
    assert few.a.tolist() == [-1, -0.5, 0, 0.5, 1] == few.b.tolist()
    assert few.loss[4, 0] == fine.loss[12, 0] and few.loss[2, 2] == fine.loss[6, 6]
    assert as_run.steepest(few) == pytest.approx(few.loss[1, 2] / few.loss[2, 2])
    assert as_run.steepest(few) > as_run.steepest(fine) > 1
    points = stated.points
    hidden = (points["a"].round(3) == 0.167) & (points["b"] == 0) & (points["batch_size"] == 256)
    moved = replace(stated, points=points.assign(loss=points["loss"].mask(hidden, 0.01)))
    assert "0.01 for 0.2 nats (at (0.17, 0) on ours)" in as_run.explained(moved)
    nothing = replace(stated, points=points[points["measure"] != "loss_surface"])
    assert set(as_run.sampled(nothing).values()) == {None}
    assert "not computed" in as_run.explained(nothing)
