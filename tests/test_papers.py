"""Tests of bsglib.studies: from a design to tables, and from exported tables back."""

import dataclasses

import pandas as pd
import pytest
import torchvision

from bsglib.data import DataError
from bsglib.runs.measures import Measure
from bsglib.runs.outcomes import Outcomes
from bsglib.runs.params import ParameterError
from bsglib.runs.store import StoreError
from bsglib.runs.sweep import Entry
from bsglib.studies import exports
from bsglib.studies import study as studies
from bsglib.studies.parameters import StudyParameters
from bsglib.studies.study import Study


class Nothing(StudyParameters):
    """Parameters of a study that has none of its own."""


@pytest.fixture
def study(tiny, tmp_path, monkeypatch):
    """Two runs, one of them with a line from the other."""
    monkeypatch.setattr(studies, "RESULTS", tmp_path / "results")
    small, large = tiny(), tiny(batch_size=25)
    measures = Measure("keskar_sharpness", 20), Measure("interpolate", 20, {"points": 4}, small)
    entries = [Entry(small, measures[:1], "SB"), Entry(large, measures, "LB")]
    words = {"name": "pair", "title": "", "source": "", "headline": "", "claims": ()}
    functions = {"design": lambda p: entries, "timing": lambda p: None}
    return Study(**words, **functions, parameters=Nothing)


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


def test_exported_tables_are_the_results_without_a_store(study, tmp_path):
    computed = study.run(parameters(tmp_path))
    assert set(computed.points["arm"]) == {"LB"} and len(computed.points) == 4 * 2
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


def test_a_damaged_export_is_refused_by_name(study, tmp_path):
    study.run(parameters(tmp_path))
    folder = exported(study, tmp_path)
    lines = (folder / "history.csv").read_text().splitlines()
    (folder / "history.csv").write_text("\n".join(lines[:2]))
    with pytest.raises(StoreError, match="damaged file .*history.csv: without the run"):
        exports.read(folder)
    (folder / "points.csv").write_text("")
    with pytest.raises(StoreError, match="damaged file .*points.csv"):
        exports.read(folder)


def test_an_export_is_found_under_other_arms_columns_and_measures(study, tmp_path):
    small, large = study.design(None)
    computed = study.run(parameters(tmp_path)).runs["keskar_sharpness"]
    exported(study, tmp_path)
    phi = dataclasses.replace(small.measures[0], label="phi")
    renamed = dataclasses.replace(small, arm="small", measures=(phi,))
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
