"""Tests of bsglib.studies.source: tables of the sources' numbers, and what they have in common."""

import numpy as np
import pandas as pd
import pytest

from bsglib.studies import source
from bsglib.studies.chang import published as chang
from bsglib.studies.kaabachi import published as kaabachi
from bsglib.studies.keskar import published as keskar
from bsglib.studies.surlemont import published as surlemont

FILES = sorted(source.FOLDER.glob("*/source/*.csv"))
each = pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parts[-3]}-{f.stem}")


@each
def test_a_table_says_where_its_numbers_come_from_and_has_no_empty_column_or_repeated_row(file):
    table = source.read(file.parts[-3], file.stem)
    assert {"source", "file", "shows", "read", "error", "columns"} <= set(table.attrs)
    assert table.attrs["source"].startswith("github.com/")
    assert len(table) and not table.isna().all().any() and not table.duplicated().any()


def test_an_unknown_table_or_column_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="'kaabachi/curve'; did you mean 'kaabachi/curves'"):
        source.read("kaabachi", "curve")
    with pytest.raises(ValueError, match="column 'batch'; did you mean 'batch_size'"):
        source.read("kaabachi", "curves", batch=4)


def test_kaabachis_runs_are_those_of_their_table_and_their_curves():
    runs = source.read("kaabachi", "runs")
    small = runs.set_index(["arm", "batch_size"])
    assert small.loc[("small", 4), "best_percent"] == 83.14, "the text says 82"
    for size, row in kaabachi.TABLE.items():
        seconds = small.loc[("small" if size in kaabachi.SMALL else "large", size), "seconds"]
        assert seconds == pytest.approx(row.seconds_per_epoch, abs=0.01 if size != 16 else 1.1)
    assert small.loc["large", "epochs"].to_dict() == kaabachi.LARGE_EPOCHS
    curves = source.read("kaabachi", "curves", arm=["small", "linear", "exponential"])
    best = curves.groupby(["arm", "batch_size"])["percent"].max()
    np.testing.assert_allclose(best, small["best_percent"][best.index])
    diverged = curves[curves["running_loss"].isna()].set_index(["arm", "batch_size"])["epoch"]
    assert diverged.to_dict() == small["first_nan_epoch"].dropna()[diverged.index].to_dict()


def test_surlemonts_runs_have_the_epochs_and_factors_that_the_claims_are_judged_by():
    runs = source.read("surlemont", "runs")
    for key, rows in runs.groupby(["optimizer", "rate", "sam", "batch_size"]):
        *arm, size = key
        ours = rows["epochs"].mean() * -(-surlemont.EXAMPLES // size)
        assert surlemont.updates(*arm, size) == ours, key
    scaled = runs.query("optimizer == 'sgd' and rate == 'scaled'")
    phi = scaled.pivot(index=["run", "batch_size"], columns="sam", values="keskar_sharpness")
    factor = (phi[False] / phi[True]).round(1)
    assert factor[2, 32] == surlemont.SAM_DIVIDES[32], "the text is the second run"
    low, high = surlemont.SPREAD[32]
    assert factor.xs(32, level="batch_size").between(low, high).all()


def test_surlemonts_curves_have_the_best_loss_of_the_first_run_at_most():
    figures = {1: ("sgd", "scaled"), 4: ("adam", "fixed"), 6: ("sgd", "fixed")}
    runs = source.read("surlemont", "runs", run=1)
    curves = source.read("surlemont", "curves")
    for figure, (optimizer, rate) in figures.items():
        mine = runs[(runs["optimizer"] == optimizer) & (runs["rate"] == rate)]
        best = mine.set_index(["sam", "batch_size"])["validation_loss"]
        lowest = curves[curves["figure"] == figure].groupby(["sam", "batch_size"])
        gap = lowest["validation_loss"].min() - best
        assert (gap >= -1e-4).all() and (gap < 0.02).all()
        last = mine.set_index(["sam", "batch_size"])["epochs"]
        pd.testing.assert_series_equal(lowest["epoch"].max(), last, check_names=False)


def test_changs_log_rounds_to_the_printed_loss():
    log = source.read("chang", "losses", base_lr=chang.BEST_LR[32])
    assert log["validation_loss"].min().round(3) == chang.VALIDATION[32]


def test_keskars_lines_end_at_accuracies_near_those_of_the_table():
    lines = source.read("keskar", "lines").set_index(["network", "set", "alpha"])
    for name in ("C1", "C2", "C3", "C4"):
        _, _, *test = keskar.ACCURACY[name]
        for alpha, stated in zip((0.0, 1.0), test, strict=True):
            assert abs(100 * lines.loc[(name, "test", alpha), "accuracy"] - stated.mean) < 7
    assert (lines.groupby(["network", "set"]).size() == 25).all()
    assert lines.loc[("C1", "test", 1.0), "accuracy"] == pytest.approx(0.7726)


def test_keskars_digitised_points_fall_beyond_the_stated_batch_size():
    sizes = source.read("keskar", "batch_sizes", network="F2").set_index("batch_size")
    accuracy, threshold = sizes["test_accuracy"], keskar.THRESHOLDS["F2"]
    assert accuracy[accuracy.index > threshold].max() < accuracy[accuracy.index <= threshold].max()
