"""Tests of bsglib.runs.store, train and sweep under kills: what goes on gives the same bytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
KILLS = 40  # `make soak` makes 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the victims are forks of one process")
def test_random_kills_and_power_cuts_are_survived():
    command = [sys.executable, "-m", "benchmarks.soak", "--kills", str(KILLS), "--seed", "1"]
    done = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{KILLS} kills survived of {KILLS} made" in done.stdout, done.stdout + done.stderr
