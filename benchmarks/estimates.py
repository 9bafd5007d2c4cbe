"""Processor seconds that runs and measures took, over what `bsg compute --dry-run` estimates.

Of the profile `confirm`, what is exported or stands in the store $BSG_STORE: times alone, so sealed
numbers stay closed. The estimate is the one for a design of which nothing was computed.
"""

from collections import defaultdict

from benchmarks import side_by_side as bench
from bsglib import cli
from bsglib.runs.sweep import Entry, by_run
from bsglib.studies import exports, profiles
from bsglib.studies.estimates import Costs


def taken(known: list[exports.Tables], entry: Entry) -> float | None:
    """Return the seconds of an entry's run and measures, None unless all are known."""
    for tables in known:
        found = tables.find(entry)
        if found is None or found.missing or "processor_s" not in tables.measures:
            continue
        wanted = [measure.digest for measure in entry.measures]
        times = tables.measures[tables.measures["run"] == entry.run].set_index("measure")
        times = times["processor_s"].reindex(wanted)
        if times.notna().all():
            return float(found.row["processor_s"] + times.sum())
    return None


def main() -> None:
    given, rows = bench.arguments(__doc__), []
    for study in cli.STUDIES.values():
        parameters = profiles.load(study, "confirm")
        known, costs, arms = study.known(parameters), Costs(), defaultdict(list)
        for entry in by_run(study.design(parameters)):
            if entry.epoch is None and (seconds := taken(known, entry)):
                arms[entry.arm].append((seconds, costs.of(entry)))
        for arm, times in arms.items():
            ratios = [seconds / estimate for seconds, estimate in times]
            rows.append(bench.row(f"{study.name}: {arm}", "the estimate", ratios))
        if arms:
            whole = [sum(side) for side in zip(*sum(arms.values(), []), strict=True)]
            ratio = [whole[0] / whole[1]]
            target = {"at_least": 0.7, "at_most": 1.3}
            rows.append(bench.row(f"{study.name}: all of these", "the estimate", ratio, **target))
    bench.write("estimates", rows, quick=given.quick)


if __name__ == "__main__":
    main()
