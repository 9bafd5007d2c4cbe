"""Tests of README's and docs/extending.md's examples: a user's own optimizer, network and data."""

import re
from textwrap import dedent

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import TINY, assert_same_state, state_of
from PIL import Image
from torch import nn

from bsglib import cli
from bsglib.project import ROOT
from bsglib.studies import surlemont


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
def own(tmp_path, monkeypatch, tiny_profile):
    """A folder of a user's with the network and the parameter file of docs/extending.md."""
    (code,), (values,) = (
        blocks("docs/extending.md", language, "## Both, through a whole study")
        for language in ("python", "yaml")
    )
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "networks.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("BSG_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

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
def test_images_in_a_folder_of_a_users_go_through_the_sam_study(bsg, own, tmp_path):
    for i, (image, label) in enumerate(zip(*shapes(90), strict=True)):
        (folder := tmp_path / "my" / "images" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((9 + i % 2, 9)).save(folder / f"{i}.png")
    images = {"dataset": str(tmp_path / "my" / "images"), "image_size": 8}
    study = own(**images, batch_sizes=[16, 32])
    status, printed = bsg("compute", *study)
    assert status == 0 and "complete: " in printed, printed
    parameters = cli._parameters(surlemont.study, "mine.yaml", store=str(tmp_path / "store"))
    results = surlemont.study.run(parameters.model_copy(update={"compute": False}))
    assert results.complete and results.runs["keskar_sharpness"].notna().all()
    assert len(results.verdicts().rows) == len(surlemont.study.claims)
