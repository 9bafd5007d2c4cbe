"""Which runs of Keskar et al.'s study are compared, and what is read off them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from bsglib.claims import Measured
from bsglib.stats import Permuted, one_varies, permuted, student
from bsglib.studies import claims_file, notes
from bsglib.studies.comparing import (
    Comparison,
    Control,
    Gate,
    Of,
    Side,
    Trained,
    diverged,
    last_minus_first,
    last_over_first,
    learned,
    points,
    points_last_minus_first,
    ratio,
    side,
)
from bsglib.studies.keskar import published
from bsglib.studies.keskar.protocol import (
    ADAPTIVE,
    BATCH_STATISTICS,
    EVOLUTION,
    LB,
    LOSS,
    MAIN,
    RATES,
    SB,
    SHARPNESS,
    SIZES,
)
from bsglib.studies.study import Results
from bsglib.studies.tables import listed, of_common_seeds, tuned_by_others
from bsglib.verdicts import Claimed, Rule, Shares, interval_text

GRID = ("batch_size", "base_lr")  # what a configuration is
MATCHED = 1.1  # factor within which training losses count as equal
MIN_CONFIGURATIONS = 4  # for a rank correlation
VARIED = ("F2", "C1")  # the networks that the paper varies further
SOURCES = (BATCH_STATISTICS, SHARPNESS)  # the paper's metric; the second where the first is not
FROZEN = (("frozen statistics", SHARPNESS),)
OTHERS = (*FROZEN, ("adaptive box", ADAPTIVE), ("lambda_max", "lambda_max"))
TRAINED = Trained()
EVERY, LEARNED = Of(TRAINED), Of(learned)


def last_epochs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs where each ended, of the states after some of their epochs."""
    return runs.sort_values("epochs", kind="stable").groupby(["batch_size", "seed"]).tail(1)


def script_epochs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs after the recorded epoch that is nearest to the last one of their script."""
    off = np.log(runs["epochs"] / published.SCRIPT_EPOCHS).abs()
    nearest = off.groupby([runs["batch_size"], runs["seed"]]).transform("min")
    return runs[off == nearest].groupby(["batch_size", "seed"]).head(1)


def pair(name: str, condition: str) -> tuple[Side, Side]:
    """Return the small and the large batch of a network as a condition compares them."""
    choose = last_epochs if condition == EVOLUTION else None
    return tuple(side(network=name, condition=condition, batch=b, choose=choose) for b in (SB, LB))


# ------------------------------------------------------------- gates


def equally_low(results: Results, sides: Sequence[Side]) -> str | None:
    """Return the mean training losses of the sides, None if they count as equal."""
    losses = [one.of(results)["train_loss"].mean() for one in sides]
    if max(losses) <= MATCHED * min(losses):
        return None
    both = " and ".join(f"{loss:.2g}" for loss in losses)
    return f"training losses {both} differ by more than a factor of {MATCHED:g}"


def rule(claimed: Claimed, kind: str) -> Rule:
    """Return the rule of a positive control, with the margin of a kind of quantity."""
    margin = claims_file.margins()[kind]
    return Rule(claimed, margin.size, ratios=margin.ratios)


def controls(name: str, kind: str) -> tuple[Gate, ...]:
    """Return the positive control of a network's claims of a kind, if the network has one.

    The small batch at the lowest and the highest rate at which it is trained has to differ in
    sharpness; after its first recorded epoch and its last it has to differ in accuracy and loss.
    """
    if name not in VARIED:
        return ()
    path, rates = (side(network=name, condition=c, batch=SB) for c in (EVOLUTION, RATES))
    along = {"sides": (path,), "across": "epochs", "gates": (Of(diverged),)}
    at_rates = {"sides": (rates,), "across": "base_lr", "leave_out": EVERY}
    says = "the small batch's {} differs between its {}"
    if kind == "sharpness":
        effect = Comparison(last_over_first, column=SOURCES, **at_rates)
        return (Control(says.format(kind, "extreme rates"), effect, rule("equal", kind)),)
    says = says.format(kind, "first and last recorded epoch")
    if kind == "accuracy":
        effect = Comparison(points_last_minus_first, column="test_accuracy", **along)
        return (Control(says, effect, rule("above", kind)),)
    effect = Comparison(last_minus_first, column="train_loss", **along)
    return (Control(says, effect, rule("below", kind)),)


# ------------------------------------------------------------- comparisons


def lost(name: str, condition: str = MAIN, **options: Any) -> Comparison:
    """Return the comparison of an accuracy: SB - LB in percentage points."""
    own = {"sides": pair(name, condition), "column": "test_accuracy"}
    own |= {"note": partial(beside, name, condition)} | _conditions(condition, LEARNED)
    own["gates"] += controls(name, "accuracy")
    return Comparison(points, **(own | options))


def sharper(name: str, condition: str = MAIN, **options: Any) -> Comparison:
    """Return the comparison of a sharpness: LB / SB, by all registered measures."""
    own = {"sides": pair(name, condition)[::-1], "column": SOURCES, "others": OTHERS}
    own |= _conditions(condition, EVERY)
    own["gates"] += controls(name, "sharpness")
    if condition != MAIN:
        own["note"] = partial(reached, name, condition)
    return Comparison(ratio, **(own | options))


def _conditions(condition: str, gate: Gate) -> dict:
    """Gates of a condition; rates are compared where all runs of both batches are trained."""
    if condition == RATES:
        return {"across": "base_lr", "leave_out": EVERY, "gates": ()}
    return {"gates": (gate, equally_low) if condition == LOSS else (gate,)}


# ------------------------------------------------------------- notes


def beside(name: str, condition: str, results: Results) -> str:
    """Return what stands beside a difference of accuracies, under a condition."""
    sides = tuned(name) if condition == RATES else pair(name, condition)
    found = notes.beside(results, sides).replace("first - second", f"{SB} - {LB}")
    return found if condition == MAIN else f"{reached(name, condition, results, points)}; {found}"


def reached(name: str, condition: str, results: Results, by=ratio) -> str:
    """Return the mean training losses of what a condition compares, or what tuned rates give."""
    if condition == RATES:
        return with_tuned_rates(name, results, by)
    sides = [one.of(results) for one in pair(name, condition)]
    return f"training loss {SB}, {LB} " + ", ".join(
        f"{runs['train_loss'].mean():.2g}" for runs in sides
    )


def tuned(name: str) -> tuple[Side, Side]:
    """Return the small and the large batch, each at the rates that the other seeds choose."""
    best = partial(tuned_by_others, by="validation_accuracy")
    return tuple(replace(one, choose=best) for one in pair(name, RATES))


def with_tuned_rates(name: str, results: Results, by) -> str:
    """Return the difference or ratio with each batch's best rate, which no end of the grid is."""
    sides, rates, ends = tuned(name), [], False
    for one in sides:
        tried, runs = one.designed(results)["base_lr"], one.of(results)
        rates.append(listed(runs["base_lr"]))
        ends |= bool(runs["base_lr"].isin([tried.min(), tried.max()]).any())
    words = f"tuned rates {' and '.join(rates)}"
    if ends:
        return f"{words}: not testable, at an end of the grid"
    columns = {points: "test_accuracy", ratio: SOURCES}
    found = Comparison(by, sides if by is points else sides[::-1], columns[by], gates=(EVERY,))(
        results
    )
    if not found.values:
        return f"{words}: {found.not_testable or found.not_run}"
    ours = student(found.values, ratios=by is ratio).interval()
    return (
        f"{words}: {interval_text(ours, rule('above', 'sharpness' if by is ratio else 'accuracy'))}"
    )


# ------------------------------------------------------------- correlations


def configurations(results: Results, name: str) -> pd.DataFrame:
    """Return the runs of a network's grid of batch sizes and rates, of the seeds that all share.

    Without configurations at which a run is not trained.
    """
    runs = results.of(network=name, condition=(SIZES, RATES))
    if runs.empty:
        return runs
    test_error, train_error = 1 - runs["test_accuracy"], 1 - runs["train_accuracy"]
    runs = runs.assign(test_error=test_error, generalization_gap=test_error - train_error)
    runs = of_common_seeds(runs.drop_duplicates([*GRID, "seed"]), *GRID)
    fit = runs.groupby(list(GRID)).filter(lambda cell: TRAINED(cell) is None)
    return fit[fit[SHARPNESS].notna()].sort_values([*GRID, "seed"])


def ranked(
    runs: pd.DataFrame, measure: str, column: str, along: tuple[str, ...] = GRID
) -> Permuted | None:
    """Return the rank correlation of a measure and a column over configurations.

    Configurations are compared that differ in one hyperparameter alone.

    Args:
        runs: those of `configurations`.
        measure: a column of the runs, such as a sharpness.
        column: another one.
        along: the hyperparameters whose own groups count; the others still tell groups apart.

    Returns:
        the correlation, judged by permutations; None for too few configurations.
    """
    means = runs.groupby(list(GRID))[[measure, column]].mean() if len(runs) else runs
    if len(means) < MIN_CONFIGURATIONS:
        return None
    axes = {axis: list(means.index.get_level_values(axis)) for axis in GRID}
    groups = [group for axis in along for group in one_varies(axes, axis)]
    return permuted(means[measure], means[column], groups) if groups else None


def correlation(name: str, column: str, results: Results) -> Measured:
    """Return the rank correlation of sharpness and a column over configurations."""
    runs = configurations(results, name)
    n = runs.groupby(list(GRID)).ngroups
    found = [ranked(runs, measure, column) for measure in measures(runs)]
    if not found or found[0] is None:
        return Measured(not_testable=f"{n} trained configurations, {MIN_CONFIGURATIONS} needed")
    others = {
        name: Measured(estimate=one) for (name, _), one in zip(FROZEN, found[1:], strict=False)
    }
    seeds = tuple(runs["seed"].unique())
    note = f"{n} configurations, means over {len(seeds)} seeds"
    return Measured(seeds=seeds, estimate=found[0], others=others, note=note)


def measures(runs: pd.DataFrame) -> list[str]:
    """Return which columns of the paper's metric all runs have, the source's statistics first."""
    return [c for c in SOURCES if c in runs and len(runs) and runs[c].notna().all()]


# ------------------------------------------------------------- scale


def shares(results: Results, runs: pd.DataFrame) -> Iterator[Shares]:
    """Yield what runs have of the source's training; of a run's epochs the last counts."""
    along = runs["condition"] == EVOLUTION if len(runs) else []
    runs = pd.concat([runs[~along], last_epochs(runs[along])]) if len(runs) else runs
    for run in runs.itertuples():
        source = published.DATA[run.network]
        whole, n = published.SIZES[source], int(run.train_size)
        batches = {SB: whole / published.SMALL_BATCH, LB: 1 / published.LARGE_SHARE}
        per_epoch = batches.get(run.batch, n / run.batch_size)
        own = run.epochs - run.first_epochs  # a warm start comes first, there as here
        updates = own * -(-n // run.batch_size) / (published.EPOCHS * per_epoch)
        options = run.network_options
        options = json.loads(options) if isinstance(options, str) else options
        dataset = run.dataset.replace("_", " ")
        yield Shares(
            updates=min(1.0, updates) if run.stopped == "epochs" else 1.0,
            examples=min(1.0, n / whole),
            width=options.get("width", 1.0),
            data="" if run.dataset == source else f"{dataset} for {source.upper()}",
        )
