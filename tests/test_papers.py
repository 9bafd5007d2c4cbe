"""Tests of bsglib.papers: from a design to tables, and from exported tables back."""

import pandas as pd
import pytest

from bsglib import papers
from bsglib.papers import Study, StudyParameters, write_export
from bsglib.sweep import Entry, Measure


class Nothing(StudyParameters):
    """Parameters of a study that has none of its own."""


@pytest.fixture
def study(tiny, tmp_path, monkeypatch):
    """Two runs, one of them with a line from the other."""
    monkeypatch.setattr(papers, "RESULTS", tmp_path / "results")
    small, large = tiny(), tiny(batch_size=25)
    measures = Measure("keskar_sharpness", 20), Measure("interpolate", 20, {"points": 4}, small)
    entries = [Entry(small, measures[:1], "SB"), Entry(large, measures, "LB")]
    return Study(
        name="pair",
        title="",
        source="",
        headline="",
        main_claims=(),
        parameters=Nothing,
        design=lambda p: entries,
        timing=lambda p: None,
        claims=(),
    )


def parameters(tmp_path, **changes):
    values = {"profile": "quick", "store": str(tmp_path / "runs"), "figures": None}
    return Nothing(**values | {"compute": True, "workers": 0, "scheduler": None} | changes)


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


def test_a_study_without_points_has_an_empty_table_and_no_file(study, tmp_path):
    only = study.design(None)[:1]
    results = papers.replace(study, design=lambda p: only).run(parameters(tmp_path))
    assert results.points.empty
    write_export(results, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"runs.csv", "history.csv"}


def test_exported_tables_are_the_results_without_a_store(study, tmp_path):
    computed = study.run(parameters(tmp_path))
    write_export(computed, papers.export_folder("quick", "pair"))
    empty = parameters(tmp_path, store=str(tmp_path / "empty"), compute=False)
    loaded = study.run(empty)
    for name in ("history", "points"):
        pd.testing.assert_frame_equal(
            getattr(loaded, name), getattr(computed, name), rtol=1e-5, check_dtype=False
        )
    shared = ["entry", "arm", "train_loss", "keskar_sharpness"]
    pd.testing.assert_frame_equal(loaded.runs[shared], computed.runs[shared], rtol=1e-5)
