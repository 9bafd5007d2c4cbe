"""Tests of reports/: every published report rebuilds from its exported numbers alone."""

import re

import pandas as pd
import pytest

from bsglib import cli
from bsglib.pages import index
from bsglib.project import ROOT
from bsglib.runs.params import RunConfig
from bsglib.studies import exports
from bsglib.studies import study as studies

PUBLISHED = sorted(path for path in (ROOT / "reports" / "results").glob("*/*") if path.is_dir())
pytestmark = pytest.mark.slow
each = pytest.mark.parametrize("folder", PUBLISHED, ids=lambda f: f"{f.parent.name}-{f.name}")


@each
def test_a_published_report_rebuilds_from_its_numbers_without_training_or_data(
    folder, tmp_path, monkeypatch
):
    profile, study = folder.parent.name, folder.name
    monkeypatch.setenv("BSG_DATA", str(tmp_path / "no-data"))
    monkeypatch.setattr(cli, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(cli, "README", tmp_path / "README.md")
    marks = "".join(
        f"<!-- {m} -->\n<!-- /{m} -->\n" for m in ("headline", "conclusions", "verdicts")
    )
    (tmp_path / "README.md").write_text(marks)
    monkeypatch.setattr("sys.argv", ["bsg", "report", study, "--profile", profile])
    with pytest.raises(SystemExit) as stop:
        cli.app()
    assert not stop.value.code
    rebuilt = pd.read_csv(tmp_path / "reports" / profile / "figures" / study / "verdicts.csv")
    committed = pd.read_csv(ROOT / "reports" / profile / "figures" / study / "verdicts.csv")
    pd.testing.assert_frame_equal(rebuilt, committed)
    assert study in (tmp_path / "README.md").read_text()


def test_published_verdicts_stand_in_the_readme():
    readme, total = (ROOT / "README.md").read_text(), 0
    for file in sorted(ROOT.glob("reports/*/figures/*/verdicts.csv")):
        profile, study = file.parts[-4], file.parts[-2]
        if profile not in index.PUBLISHED_PROFILES:
            continue
        verdicts = pd.read_csv(file)
        total += len(verdicts)
        primary = [claim.id for claim in cli.STUDIES[study].claims if claim.primary]
        assert verdicts.loc[verdicts["primary"], "claim"].tolist() == primary
        for row in verdicts[verdicts["primary"] & (verdicts["verdict"] != "not run")].itertuples():
            assert row.statement in readme and f"#claim-{row.claim})" in readme
            assert row.line.replace("[", r"\[").replace("]", r"\]") in readme
    assert sum(map(int, re.findall(r"^\*\*(\d+) (?:claim|question)", readme, re.M))) == total > 0


def test_the_conclusions_rest_on_the_published_verdicts():
    told = (ROOT / "reports" / "conclusions.md").read_text().count("](")
    for page in ("README.md", "reports/index.html"):
        text = (ROOT / page).read_text()
        assert told > 20 and "(now " not in text
        assert len(re.findall(r', n = \d+"', text)) == told


@pytest.mark.parametrize("table", exports.TABLES)
def test_every_column_of_an_exported_table_is_explained(table):
    pages = (ROOT / "docs" / "tables.md").read_text().split("\n## ")
    (page,) = [page for page in pages if page.startswith(f"{table}.csv")]
    explained = [re.escape(name).replace("…", ".*") for name in re.findall(r"`([^`\s]+)`", page)]
    for file in sorted(studies.RESULTS.glob(f"*/*/{table}.csv")):
        columns = {name.partition(".")[0] for name in pd.read_csv(file, nrows=0)}
        unknown = columns - (set(RunConfig.model_fields) if table == "runs" else set())
        unknown = {c for c in unknown if not any(re.fullmatch(each, c) for each in explained)}
        assert not unknown, file
