"""Tests of bsglib.studies: from a design to tables, and from exported tables back."""

import dataclasses

import pandas as pd
import pytest
import torchvision

from bsglib.claims import Claim, Margin, Measured
from bsglib.data import DataError
from bsglib.runs.measures import Measure
from bsglib.runs.outcomes import Outcomes
from bsglib.runs.params import ParameterError
from bsglib.runs.store import StoreError
from bsglib.runs.sweep import Entry
from bsglib.studies import exports
from bsglib.studies import study as studies
from bsglib.studies.parameters import StudyParameters
from bsglib.studies.study import Study, Timing
from bsglib.studies.tables import of_common_seeds, tuned
from bsglib.verdicts import Rule


class Nothing(StudyParameters):
    """Parameters of a study that has none of its own."""


@pytest.fixture
def study(tiny, tmp_path, monkeypatch):
    """Two runs, one of them with a line from the other."""
    monkeypatch.setattr(studies, "RESULTS", tmp_path / "results")
    small, large = tiny(), tiny(batch_size=25)
    measures = Measure("keskar_sharpness", 20), Measure("interpolate", 20, {"points": 4}, small)
    entries = [Entry(small, measures[:1], "SB"), Entry(large, measures, "LB")]
    return Study(
        name="pair",
        title="",
        source="",
        headline="",
        parameters=Nothing,
        design=lambda p: entries,
        timing=lambda p: None,
        claims=(),
    )


def parameters(tmp_path, **changes):
    values = {"profile": "quick", "store": str(tmp_path / "runs"), "figures": None}
    return Nothing(**values | {"compute": True, "workers": 0, "scheduler": None} | changes)


def exported(study, tmp_path, profile="quick"):
    """The folder of what a study's store holds, exported."""
    folder = studies.export_folder(profile, study.name)
    exports.write(study.tables(parameters(tmp_path, profile=profile)), folder)
    return folder


def redesigned(study, *entries):
    return dataclasses.replace(study, design=lambda p: list(entries))


def test_points_of_a_measure_are_rows_with_the_labels_of_their_run(study, tmp_path):
    results = study.run(parameters(tmp_path))
    points = results.points
    assert len(points) == 4 * 2
    assert set(points["arm"]) == {"LB"}
    assert set(points["batch_size"]) == {25}
    assert set(points["measure"]) == {"interpolate"}
    assert points["alpha"].unique().tolist() == [-1, 0, 1, 2]
    assert "interpolate" not in results.runs
    assert results.runs["keskar_sharpness"].notna().all()


def test_verdicts_are_found_by_claim_and_by_figure(study, tmp_path):
    common = {"locator": "1", "statement": "It is.", "quantity": "q", "rule": Rule("above", 1)}
    common["margin"] = Margin("points", 1, "chosen for the test")
    common["statistic"] = lambda results: Measured((1.0, 1.1, 1.2))
    claims = [Claim(id=f"c{i}", figure=f"figure-{i // 2}", **common) for i in range(3)]
    results = dataclasses.replace(study, claims=tuple(claims)).run(parameters(tmp_path))
    assert results.verdicts().rows["claim"].tolist() == ["c0", "c1", "c2"]
    assert results.verdicts("c2", "c0").rows["claim"].tolist() == ["c2", "c0"]
    assert results.verdicts(figure="figure-0").rows["claim"].tolist() == ["c0", "c1"]
    with pytest.raises(KeyError, match="no claim for 'figure-9'; did you mean"):
        results.verdicts(figure="figure-9")


def test_a_study_without_points_has_an_empty_table_and_no_file(study, tmp_path):
    only = study.design(None)[:1]
    study = dataclasses.replace(study, design=lambda p: only)
    assert study.run(parameters(tmp_path)).points.empty
    folder = exported(study, tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert names == {"runs.csv", "history.csv", "measures.csv"}


def test_exported_tables_are_the_results_without_a_store(study, tmp_path):
    computed = study.run(parameters(tmp_path))
    exported(study, tmp_path)
    empty = parameters(tmp_path, store=str(tmp_path / "empty"), compute=False)
    loaded = study.run(empty)
    for name in ("history", "points"):
        pd.testing.assert_frame_equal(
            getattr(loaded, name), getattr(computed, name), rtol=1e-5, check_dtype=False
        )
    shared = ["entry", "arm", "train_loss", "keskar_sharpness"]
    pd.testing.assert_frame_equal(loaded.runs[shared], computed.runs[shared], rtol=1e-5)


def test_ids_without_a_letter_are_no_numbers(tmp_path):
    ids = ["0012345678901234", "1234567890e12345"]
    runs = pd.DataFrame({"run": ids, "seed": [0, 1]})
    times = pd.DataFrame({"plan": ["0123456789012345"], "batch_size": [1]})
    history = runs.assign(epoch=1)
    exports.write(exports.Tables(runs=runs, history=history, timings=times), tmp_path / "out")
    found = exports.read(tmp_path / "out")
    assert found.runs["run"].tolist() == ids
    assert found.timings["plan"].tolist() == ["0123456789012345"]


@pytest.mark.parametrize("name", ["runs", "history", "measures", "points"])
def test_a_damaged_export_is_refused_by_name(study, tmp_path, name):
    study.run(parameters(tmp_path))
    folder = exported(study, tmp_path)
    (folder / f"{name}.csv").write_text("")
    with pytest.raises(StoreError, match=rf"damaged file .*{name}.csv"):
        exports.read(folder)


def test_an_export_without_the_history_of_a_run_is_refused(study, tmp_path):
    study.run(parameters(tmp_path))
    folder = exported(study, tmp_path)
    lines = (folder / "history.csv").read_text().splitlines()
    (folder / "history.csv").write_text("\n".join(lines[:2]))
    with pytest.raises(StoreError, match="damaged file .*history.csv: without the run"):
        exports.read(folder)


def test_an_export_is_found_under_other_arms_columns_and_measures(study, tmp_path):
    small, large = study.design(None)
    computed = study.run(parameters(tmp_path)).runs["keskar_sharpness"]
    exported(study, tmp_path)
    (metric,) = small.measures
    renamed = dataclasses.replace(
        small, arm="small", measures=(dataclasses.replace(metric, label="phi"),)
    )
    grown = dataclasses.replace(large, measures=(*large.measures, Measure("lambda_max", 20)))
    empty = parameters(tmp_path, store=str(tmp_path / "empty"), compute=False)
    study = redesigned(study, renamed, grown)
    found = study.run(empty).runs
    assert found["arm"].tolist() == ["small", "LB"]
    assert found["phi"][0] == pytest.approx(computed[0], rel=1e-5)
    assert found["keskar_sharpness"][1] == pytest.approx(computed[1], rel=1e-5)
    assert found["lambda_max"].isna().all()
    assert [entry.arm for entry in study.missing(empty)] == ["LB"]


def test_a_merge_adds_and_replaces_rows_and_drops_none(study, tiny, tmp_path):
    study.run(parameters(tmp_path))
    folder = exported(study, tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {p.name: p.read_bytes() for p in exported(study, tmp_path).iterdir()} == before
    more = Entry(tiny(seed=1), (Measure("hessian_trace", 20), Measure("test_outcomes", 0)), "more")
    other = redesigned(study, more)
    other.run(parameters(tmp_path))
    exported(other, tmp_path)
    for name, content in before.items():
        lines = (folder / name).read_text().splitlines()
        columns = content.decode().splitlines()[0].split(",")
        assert lines[0].split(",")[: len(columns)] == columns
        for old, new in zip(content.decode().splitlines(), lines, strict=False):
            assert new.startswith(old)
    empty = parameters(tmp_path, store=str(tmp_path / "empty"), compute=False)
    both = redesigned(study, *study.design(None), more).run(empty)
    assert both.runs["arm"].tolist() == ["SB", "LB", "more"]
    assert len(both.outcomes) == 1
    assert len(Outcomes.unpacked(*both.outcomes[["n", "correct", "loss"]].iloc[0]).loss) > 100


def test_a_part_filled_design_says_how_many_runs_there_are(study, tiny, tmp_path):
    study.run(parameters(tmp_path))
    exported(study, tmp_path)
    grown = redesigned(study, *study.design(None), Entry(tiny(seed=1), (), "SB"))
    empty = parameters(tmp_path, store=str(tmp_path / "empty"), compute=False)
    results = grown.run(empty)
    assert (len(results.runs), results.designed, results.complete) == (2, 3, False)
    assert "3 runs: 2 loaded, 0 computed, 1 missing" in repr(results)


def test_a_sealed_profile_is_exported_where_no_report_reads_it(study, tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "SEALED", tmp_path / "sealed")
    monkeypatch.setattr(studies, "SEALED_PROFILES", ("confirm",))
    study.run(parameters(tmp_path))
    folder = exported(study, tmp_path, profile="confirm")
    assert folder == tmp_path / "sealed" / "confirm" / "pair"
    sealed = parameters(tmp_path, profile="confirm", store=str(tmp_path / "empty"))
    assert study.missing(sealed) == []
    with pytest.raises(ParameterError, match="'confirm' is sealed"):
        study.run(sealed)


def test_the_state_after_an_epoch_is_found_as_the_run_that_ends_there(study, tiny, tmp_path):
    measure = Measure("keskar_sharpness", 20)
    ended = Entry(tiny(epochs=2, evaluate="last"), (measure,), "evolution")
    after = dataclasses.replace(measure, epoch=2)
    whole = tiny(epochs=4, record_epochs=[2], evaluate="last")
    along = Entry(whole, (after,), "evolution", epoch=2)
    alone = redesigned(study, ended).run(parameters(tmp_path, store=str(tmp_path / "alone"))).runs
    shared = redesigned(study, along).run(parameters(tmp_path)).runs
    same = [c for c in alone if c.startswith(("train_", "test_", "keskar", "epochs", "updates"))]
    pd.testing.assert_frame_equal(shared[same], alone[same], check_exact=True)
    found = redesigned(study, along).missing(parameters(tmp_path, store=str(tmp_path / "alone")))
    assert found == []


def test_a_study_that_times_nothing_is_complete_without_times(study, tmp_path):
    (config,) = (entry.config for entry in study.design(None)[:1])
    none = Timing((config,), samples=10, repeats=0)
    results = dataclasses.replace(study, timing=lambda p: none).run(parameters(tmp_path))
    assert results.timings.empty and results.complete


def test_two_measures_of_one_function_stand_in_two_columns(study, tiny, tmp_path):
    measures = (
        Measure("keskar_sharpness", 20),
        Measure("keskar_sharpness", 20, {"epsilon": 5e-4}, label="half_box"),
    )
    design = [Entry(tiny(), measures, "SB")]
    runs = dataclasses.replace(study, design=lambda p: design).run(parameters(tmp_path)).runs
    assert 0 < runs["half_box"].item() < runs["keskar_sharpness"].item()
    for column in ("keskar_sharpness", "half_box"):
        assert runs[column].item() == runs[f"{column}.value"].item()
        assert runs[f"{column}.iterations"].item() > 0


def test_a_measure_after_an_epoch_that_a_run_does_not_reach_is_missing(study, tiny, tmp_path):
    config = tiny(epochs=6, base_lr=1e-9, record_epochs=[1, 6], patience=1)
    measures = [Measure("lambda_max", 20, label=f"at_{e}", epoch=e) for e in (1, 6)]
    design = [Entry(config, tuple(measures), "SB")]
    runs = dataclasses.replace(study, design=lambda p: design).run(parameters(tmp_path)).runs
    assert runs["epochs"].item() < 6
    assert runs["at_1"].notna().all() and runs["at_6"].isna().all()


@pytest.fixture
def with_optional(study, tiny):
    """The study with a third run, optional, on data that have to be downloaded."""
    absent = tiny(dataset="cifar100", network="c1", network_options={"width": 0.02})
    design = [*study.design(None), Entry(absent, (), "C3", optional=True)]
    return dataclasses.replace(study, design=lambda p: design)


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("name resolution failed")

    monkeypatch.setenv("BSG_DATA", str(tmp_path / "no-data"))
    monkeypatch.setattr(torchvision.datasets, "CIFAR100", refuse)


@pytest.mark.parametrize("compute", [True, False])
def test_an_optional_run_without_data_is_left_out_and_does_not_count(
    study, with_optional, no_data, tmp_path, compute
):
    study.run(parameters(tmp_path))
    results = with_optional.run(parameters(tmp_path, compute=compute))
    assert set(results.runs["arm"]) == {"SB", "LB"}
    assert (results.designed, results.computed) == (2, 0)
    assert results.left_out["arm"].tolist() == ["C3"]
    assert "0 missing" in repr(results)


def test_a_run_without_data_that_is_not_optional_is_an_error(with_optional, no_data, tmp_path):
    *others, absent = with_optional.design(None)
    needed = [*others, dataclasses.replace(absent, optional=False)]
    demanding = dataclasses.replace(with_optional, design=lambda p: needed)
    with pytest.raises(DataError, match="cifar100"):
        demanding.run(parameters(tmp_path))


def test_an_exported_optional_run_is_shown_without_its_data(
    study, with_optional, no_data, tmp_path
):
    study.run(parameters(tmp_path))
    tables = study.tables(parameters(tmp_path))
    *_, absent = with_optional.design(None)
    made_up = {
        name: pd.concat([table, table.iloc[:1].assign(run=absent.run)])
        for name, table in (("runs", tables.runs), ("history", tables.history))
    }
    folder = studies.export_folder("quick", "pair")
    exports.write(dataclasses.replace(tables, **made_up), folder)
    results = with_optional.run(parameters(tmp_path))
    assert results.runs["arm"].tolist() == ["SB", "LB", "C3"]
    assert results.designed == 3


# The best rate


def grid(values, stopped="epochs"):
    """Runs of one batch size by rate and seed, with a column to choose by."""
    rows = [
        {"batch_size": 32, "base_lr": lr, "seed": seed, "value": value, "stopped": stopped}
        for lr, seeds in values.items()
        for seed, value in enumerate(seeds)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("lowest", "best"), [(False, 0.1), (True, 0.2)])
def test_the_best_rate_is_that_of_the_best_mean_over_seeds(lowest, best):
    runs = grid({0.1: [0.9, 0.1, 0.8], 0.2: [0.5, 0.5, 0.5]})
    assert set(tuned(runs, "value", lowest=lowest)["base_lr"]) == {best}


@pytest.mark.parametrize(("lowest", "good", "bad"), [(False, 0.9, 0.1), (True, 0.1, 0.9)])
def test_a_rate_at_which_one_run_diverged_is_not_the_best(lowest, good, bad):
    runs = grid({0.1: [good] * 3, 0.2: [bad] * 3})
    runs.loc[2, "stopped"] = "diverged"
    assert set(tuned(runs, "value", lowest=lowest)["base_lr"]) == {0.2}


def test_cells_are_compared_over_the_seeds_that_all_have():
    cells = [("a", 0), ("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3)]
    runs = pd.DataFrame(cells, columns=["arm", "seed"])
    common = of_common_seeds(runs, "arm")
    assert list(common.itertuples(index=False, name=None)) == [c for c in cells if c[1] in (1, 2)]
    assert of_common_seeds(runs.iloc[:0], "arm").empty
