"""The p values of the primary claims of all studies, which are corrected for their number."""

import csv
import io
from pathlib import Path

from bsglib.runs.params import ParameterError
from bsglib.studies.catalogue import STUDIES
from bsglib.studies.profiles import load
from bsglib.studies.study import Study, primary_file


def write(profile: str) -> Path:
    """Write the p value of every primary claim, by the exported numbers of a profile.

    A claim that was not run, or is not testable, counts with p = 1.

    Args:
        profile: whose numbers they are.

    Returns:
        the file that the studies read.
    """
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(["study", "claim", "p"])
    for study in STUDIES.values():
        table.writerows([study.name, claim, f"{p:.6g}"] for claim, p in _of(study, profile).items())
    file = primary_file(profile)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(lines.getvalue(), encoding="utf-8")
    return file


def _of(study: Study, profile: str) -> dict[str, float]:
    """The p values of a study's primary claims."""
    claims = [claim for claim in study.claims if claim.primary]
    try:
        results = study.run(load(study, profile).model_copy(update={"compute": False}))
    except ParameterError:  # it has no numbers of this profile
        return {claim.id: 1.0 for claim in claims}
    return {claim.id: results.judge(claim).verdict.p for claim in claims}
