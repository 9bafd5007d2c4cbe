"""Tests of bsglib.pages.provenance."""

from types import SimpleNamespace

import pandas as pd

from bsglib.pages import provenance
from bsglib.studies import surlemont


class Settings(SimpleNamespace):
    """Parameters that can be dumped."""

    def model_dump(self, exclude=frozenset(), exclude_defaults=False):
        return {name: value for name, value in vars(self).items() if name not in exclude}


def test_provenance_tells_mixtures_and_seeds():
    runs = pd.DataFrame(
        {
            "run_id": ["a1", "b2", "c3"],
            "seed": [0, 1, 1],
            "dtype": "float64",
            "device": "cpu",
            "dataset": "digits",
            "data_checksum": "0f0f",
            "torch_version": ["2.8", "2.9", "2.9"],
            "wall_time_s": [1.0, 2.0, 4000.0],
        }
    )
    results = SimpleNamespace(
        study=surlemont.study,
        parameters=Settings(profile="quick", epochs=2, store="/somewhere/here"),
        runs=runs,
    )
    shown = provenance.table(results).data
    for text in ("2.9 (2 runs), 2.8 (1 runs)", "0, 1", "67 min", "a1<br>b2<br>c3", "epochs: 2"):
        assert text in shown
    assert "/somewhere/here" not in shown
    assert "bsg report surlemont_sam --profile quick<" in shown
    assert "params/surlemont_sam/quick.yaml" in shown
    results.runs = runs.iloc[:0]
    assert "Device of the runs</th><td>none</td>" in provenance.table(results).data
    results.runs = pd.DataFrame()
    assert "Mixed" not in provenance.table(results).data


def test_commit_outside_git_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.commit() == "unknown"
