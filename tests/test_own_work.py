"""Tests of README's and docs/extending.md's examples: what users bring, up to a study of theirs."""

import re
import sys
from dataclasses import replace
from textwrap import dedent

import jupytext
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import TINY, assert_same_state, state_of
from torch import nn

from bsglib import cli
from bsglib.claims import Measured
from bsglib.project import ROOT
from bsglib.studies import profiles, surlemont


def blocks(page: str, language: str, heading: str = "") -> list[str]:
    """The blocks of a language below a heading of a page."""
    text = (ROOT / page).read_text()
    if heading:
        text = re.split(r"^## ", text.partition(heading)[2], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [dedent(block) for block in found]


@pytest.mark.slow
def test_readmes_example_trains_and_measures_a_users_network(capsys):
    (example,) = blocks("README.md", "python")
    x, y = torch.randn(40, 6), torch.arange(40) % 3
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    losses = []

    def closure():
        given["optimizer"].zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        losses.append(loss.item())
        return loss

    given = {"model": model, "x": x, "y": y, "closure": closure}
    exec(example, given)
    value, unit = capsys.readouterr().out.split(maxsplit=1)
    assert float(value) > 0 and unit == "per cent\n"
    assert len(losses) == 2, "SAM calls the closure twice"
    for _ in range(30):
        given["optimizer"].step(closure)
    assert losses[-2] < losses[0] / 2

    before = state_of(model)
    again = given["keskar_sharpness"](model, x, y)
    assert again == given["keskar_sharpness"](model, x, y)
    assert_same_state(model, before)


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_profile):
    """A folder of a user's with all files of docs/extending.md below my/."""
    page = (ROOT / "docs" / "extending.md").read_text()
    named = r"`(my/\S+)`[,:]?[^`]*\n\n```\w+\n(.*?)^```"
    for name, block in re.findall(named, page, re.DOTALL | re.MULTILINE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("BSG_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for module in [m for m in sys.modules if m.partition(".")[0] == "my"]:
        del sys.modules[module]


@pytest.fixture
def own(tmp_path, folder):
    """The command line of the SAM study on the parameter file of docs/extending.md."""
    (values,) = blocks("docs/extending.md", "yaml", "## Both, through a whole study")

    def profile(**changes) -> list[str]:
        small = {k: TINY[k] for k in TINY if k not in {"profile", "train_size", "network_options"}}
        mine = yaml.safe_load(values) | small | {"epochs": 1} | changes
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
        return ["surlemont_sam", "--profile", "mine.yaml", "--store", str(tmp_path / "store")]

    return profile


def shapes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey images [n, 8, 8] of bright rows, columns and squares."""
    x, y = np.random.default_rng(0).integers(0, 60, (n, 8, 8), dtype=np.uint8), np.arange(n) % 3
    x[y == 0, 3], x[y == 1, :, 3], x[y == 2, 2:5, 2:5] = 250, 250, 250
    return x, y


@pytest.mark.slow
def test_arrays_and_a_network_of_a_users_go_through_the_whole_sam_study(bsg, own, tmp_path):
    x, y = shapes(120)
    np.savez(tmp_path / "my" / "arrays.npz", x=x[:, None], y=y)
    study = own(dataset=str(tmp_path / "my" / "arrays.npz"))
    status, printed = bsg("compute", *study)
    assert status == 0 and "complete: " in printed, printed
    status, printed = bsg("report", *study)
    assert status == 0, printed
    page = (tmp_path / "reports" / "mine" / "surlemont_sam.html").read_text()
    assert "my.networks:make" in page and "my/arrays.npz" in page
    verdicts = tmp_path / "reports" / "mine" / "figures" / "surlemont_sam" / "verdicts.csv"
    claims = [claim.id for claim in surlemont.study.claims]
    assert list(pd.read_csv(verdicts)["claim"]) == claims
    for claim in claims:
        assert f'id="claim-{claim}"' in page


@pytest.mark.slow
def test_an_arm_of_a_users_is_measured_and_stored_and_enters_no_claim(tiny_profile, tmp_path):
    tiny = profiles.load(surlemont.study, tiny_profile, store=str(tmp_path / "store"))
    seen = []

    def counting(results):
        seen.append([len(table) for table in (results.runs, results.history, results.design)])
        return Measured()

    claim = replace(surlemont.study.claims[0], statistic=counting)
    study = replace(surlemont.study, claims=(claim,))
    mine = study.arm(tiny, "SGD, scaled lr", name="mine", rho=0.2)
    like = next(e for e in study.design(tiny) if e.arm == "SGD, scaled lr")
    mine += [replace(e, arm="labelled", labels=like.labels) for e in mine]
    without, found = study.run(tiny), study.run(tiny, also=mine)
    assert len(found.runs) == len(without.runs) + len(mine)
    rows = found.of("mine")
    assert set(rows["rho"]) == {0.2} and rows["keskar_sharpness"].notna().all()
    assert found.computed == len(mine) and study.run(tiny, also=mine).computed == 0
    without.verdicts(), found.verdicts()
    assert seen and all(count == seen[0] for count in seen), "the statistic would see the arms"


# A study of a user's


@pytest.mark.slow
def test_the_pages_study_goes_from_its_notebook_to_a_report_with_verdicts(bsg, folder):
    notebook = jupytext.read(folder / "my" / "momentum" / "momentum.py")
    jupytext.write(notebook, folder / "my" / "momentum" / "momentum.ipynb")
    options = ["my.momentum:study", "--store", str(folder / "store"), "--workers", "0"]
    status, printed = bsg("report", *options)
    assert status == 0, printed
    page = (folder / "reports" / "quick" / "momentum.html").read_text()
    assert "bsg report my.momentum:study --profile quick<" in page
    index = (folder / "reports" / "quick" / "index.html").read_text()
    assert "Does momentum matter at the same effective rate?" in index

    study = cli._study("my.momentum:study")
    parameters = profiles.load(study, "quick", store=str(folder / "store"))
    results = study.run(parameters.model_copy(update={"compute": False}))
    judged = results.verdicts().rows
    assert list(judged["claim"]) == ["momentum-same-accuracy", "momentum-large-sharper"]
    assert (judged["n"] == len(parameters.seeds)).all()
    figures = folder / "reports" / "quick" / "figures" / "momentum"
    assert list(pd.read_csv(figures / "verdicts.csv")["ours"]) == list(judged["ours"])
    assert {path.stem for path in figures.glob("*.svg")} == set(judged["figure"])

    given = {"study": study, "parameters": parameters.model_copy(update={"workers": 0})}
    (example,) = blocks("docs/extending.md", "python", "## An arm")
    exec(example, given)
    assert set(given["results"].of("momentum, SAM")["rho"]) == {0.05}
    assert given["results"].verdicts().rows.equals(judged)
