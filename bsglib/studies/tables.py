"""Tables of runs that several studies share."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from bsglib.claims import AS_RUN, AS_WRITTEN, SUFFIX, estimate_of
from bsglib.stats import PERCENT, Student, kendall, power_law, student
from bsglib.studies.study import Results
from bsglib.verdicts import Rule, interval_text


def scope_table(rows: Iterable[tuple[str, Any, Any, str]]) -> pd.DataFrame:
    """Return the differences from a paper, a row per quantity.

    Args:
        rows: quantity, the paper's value, our value, and the reason for a difference, which the
            table shows only where the two differ.
    """
    shown = []
    for quantity, *both, why in rows:
        paper, here = (", ".join(map(str, v)) if isinstance(v, list) else str(v) for v in both)
        shown.append((quantity, paper, here, "as the paper" if paper == here else why))
    columns = ["quantity", "paper", "here", "why"]
    return pd.DataFrame(shown, columns=columns).set_index("quantity")


def rows_table(rows: Mapping[Any, Mapping[str, Any]], *names: str) -> pd.DataFrame:
    """Return a table of rows by their headings, or a note if nothing is computed yet.

    Args:
        rows: by heading, a tuple of headings for several names.
        *names: the names of the headings.
    """
    if not rows:
        return pd.DataFrame({"": ["not computed yet"]}).set_index("")
    table = pd.DataFrame(list(rows.values()))
    if len(names) > 1:
        return table.set_index(pd.MultiIndex.from_tuples(rows, names=names))
    return table.set_index(pd.Index(rows, name=names[0]))


def means(runs: pd.DataFrame, *columns: str, scale: float = 1.0) -> pd.DataFrame:
    """Return columns of the runs averaged over seeds: a row per arm, a column per batch size."""
    tables = {
        name: runs.assign(value=scale * runs[name]).pivot_table(
            "value", "arm", "batch_size", sort=False
        )
        for name in columns
    }
    return pd.concat(tables, names=["mean over seeds"])


def joined(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the runs of all tables without duplicates."""
    return pd.concat(tables).drop_duplicates(["entry", "arm"])


def dashed(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with a dash for each missing number."""
    return table.astype(object).where(table.notna(), "-")


def of_common_seeds(runs: pd.DataFrame, *cells: str) -> pd.DataFrame:
    """Return the runs of the seeds that all cells with runs share.

    If some cells have more seeds, means over all seeds would compare seeds, not cells.

    Args:
        runs: with seed and the columns.
        *cells: the columns that identify cells.
    """
    seeds = runs.groupby(list(cells))["seed"].agg(set)
    return runs[runs["seed"].isin(set.intersection(*seeds) if len(seeds) else ())]


def per_seed(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a column of the runs, a row per seed and a column per batch size."""
    return runs.pivot(index="seed", columns="batch_size", values=column)


def tuned(
    runs: pd.DataFrame, by: str, *, rate: str = "base_lr", lowest: bool = False
) -> pd.DataFrame:
    """Return the runs at each batch size's best rate, by the mean of a column over seeds.

    A rate with a diverged run is never the best.

    Args:
        runs: with batch_size, stopped, and the two columns.
        by: the column of the validation set that selects the rate.
        rate: the column that holds the rate.
        lowest: whether the lowest mean is the best.
    """
    worst = np.inf if lowest else -np.inf
    values = runs.assign(value=runs[by].where(runs["stopped"] != "diverged", worst))
    means = values.groupby(["batch_size", rate])["value"].mean().unstack()
    best = means.idxmin(axis=1) if lowest else means.idxmax(axis=1)
    return runs[runs[rate] == runs["batch_size"].map(best)]


def tuned_by_others(runs: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return each seed's runs at the rates with the highest mean of a column over other seeds.

    Two rates may be equally good and their minimizers of different sharpness. The interval over
    seeds then includes the effect of the selection. A rate with a diverged run is never the best;
    if every rate has one, all runs are returned.

    Args:
        runs: with seed, batch_size, base_lr, stopped, and the column.
        by: the column of the validation set that selects the rate.
    """
    cells = runs.groupby(["batch_size", "base_lr"])
    whole = cells.filter(lambda cell: (cell["stopped"] != "diverged").all())
    parts = []
    for seed, own in whole.groupby("seed"):
        others = whole[whole["seed"] != seed]
        best = tuned(others if len(others) else own, by)
        rates = best.groupby("batch_size")["base_lr"].first()
        parts.append(own[own["base_lr"] == own["batch_size"].map(rates)])
    return pd.concat(parts) if parts else runs


def rank_with_batch_size(table: pd.DataFrame) -> pd.Series:
    """Return the rank correlation of each row of a table [..., batch size] with the batch size."""
    return pd.Series(kendall(table.to_numpy(), table.columns.to_numpy()), table.index)


def arms(results: Results) -> pd.DataFrame:
    """Return the arms of a design with their hyperparameters, batch sizes, seeds and runs.

    Args:
        results: of a study; designed runs count, computed or not.

    Returns:
        a row per arm: optimizer, rate rule, rates, rho, dropout, batch sizes, epochs, seeds, runs.
    """
    design = results.design
    dropout = design["network_options"].map(lambda options: options.get("dropout"))
    rule = design["scaling"].replace("none", "fixed")
    rule = design.get("rate", rule).fillna(rule)  # an arm of the user's has no label
    rule += (" + " + design["warmup"] + " warm-up").where(design["warmup"] != "none", "")
    rows = design.assign(dropout=dropout, rule=rule).groupby("arm", sort=False)
    columns = {
        "optimizer": "optimizer",
        "rate rule": "rule",
        "base rate": "base_lr",
        "rho": "rho",
        "dropout": "dropout",
        "batch sizes": "batch_size",
        "epochs, at most": "epochs",
    }
    table = {head: rows[column].agg(listed) for head, column in columns.items()}
    table |= {"seeds": rows["seed"].nunique(), "runs": rows.size()}
    return pd.DataFrame(table).rename_axis("arm")


def listed(values: pd.Series) -> str:
    """Return the distinct values of a column in order; "-" for none."""
    found = sorted(values.dropna().unique())
    return ", ".join(v if isinstance(v, str) else f"{v:g}" for v in found) or "-"


def worked_out(results: Results, claim_id: str) -> pd.DataFrame:
    """Return the derivation of one verdict: its values, then mean, intervals, rule and words.

    Args:
        results: of a study.
        claim_id: of one of its claims.

    Returns:
        a column, "value", by step.
    """
    claim = results.study.claim(claim_id)
    measured, judged = claim.statistic(results.judged), results.judge(claim)
    names = [f"seed {seed}" for seed in measured.seeds] if measured.values else []
    names = names or [f"value {i}" for i, _ in enumerate(measured.values, start=1)]
    steps = {n: f"{value:.4g}" for n, value in zip(names, measured.values, strict=True)}
    if (ours := judged.verdict.ours) is not None:
        steps["geometric mean" if claim.rule.ratios else "mean"] = f"{ours.mean:.4g}"
        estimate = estimate_of(claim.margin, measured)
        for level in (0.95, 0.9):
            found = estimate.interval(level)
            steps[f"{PERCENT * level:.0f} % interval"] = f"[{found.low:.4g}, {found.high:.4g}]"
    low, high = claim.rule.band
    steps |= {"claimed": claim.rule_text, "no effect": f"inside [{low:.4g}, {high:.4g}]"}
    return pd.DataFrame({"value": steps | {"verdict": judged.row()["line"]}}).rename_axis(
        claim.quantity
    )


REGRESSORS = {"log B": "batch_size", "log rate": "lr", "log training loss": "train_loss"}


def readings(results: Results) -> pd.DataFrame:
    """Return the claims that have two readings: as written, as run, and both in words."""
    rows = {row["claim"]: row for row in results.verdicts().rows.to_dict("records")}
    both = [(rows[claim.removesuffix(SUFFIX)], row) for claim, row in rows.items()
            if row["reading"] == AS_RUN]  # fmt: skip
    table = {
        written["statement"]: {
            AS_WRITTEN: written["line"],
            AS_RUN: run["line"],
            "together": run["readings"] or "-",
        }
        for written, run in both
    }
    return rows_table(table, "claim")


def regression(
    runs: pd.DataFrame, sharpness: str = "keskar_sharpness", *, by: str | None = None
) -> pd.DataFrame:
    """Return the regression of log sharpness on log batch size, log rate and log training loss.

    Each seed's runs are fitted alone and the exponents averaged over seeds, where every seed has
    runs enough. Elsewhere all runs are fitted together, as if they were independent. Runs that
    diverged have no sharpness; what does not vary has no exponent.

    Args:
        runs: with seed and the columns; a run that stands in several arms counts once.
        sharpness: the column of the measure.
        by: a column whose values are fitted apart, such as the network.

    Returns:
        a row per value of `by`: the exponents with 95 % intervals, what n counts, and n.
    """
    columns = [sharpness, *REGRESSORS.values()]
    kept = runs.reindex(columns=[*runs.columns.union(columns)])
    numbers = kept[columns].astype(float)
    fit = (numbers > 0).all(axis=1) & np.isfinite(numbers).all(axis=1)
    kept = kept[fit & (kept["stopped"] != "diverged")].drop_duplicates(["seed", *columns])
    rows = {}
    for name, mine in kept.groupby(by) if by else [("all runs", kept)]:
        exponents, of = _exponents(mine, sharpness)
        rows[name] = {word: _exponent_text(exponents.get(word)) for word in REGRESSORS}
        rows[name] |= {"n": f"{mine['seed'].nunique() if of == 'seeds' else len(mine)} {of}"}
    return rows_table(rows, by or "exponent of")


def _exponents(runs: pd.DataFrame, sharpness: str) -> tuple[dict[str, Student], str]:
    """Exponents over seeds, else over runs; none where the runs do not tell them apart."""

    def fitted(some: pd.DataFrame) -> dict[str, Student]:
        x = {word: some[column] for word, column in varying.items()}
        return power_law(some[sharpness], x) if x else {}

    varying = {word: c for word, c in REGRESSORS.items() if runs[c].nunique() > 1}
    try:
        seeds = [fitted(mine) for _, mine in runs.groupby("seed")]
        if len(seeds) > 1:
            own = {word: [one[word].centre for one in seeds] for word in varying}
            return {word: student(values) for word, values in own.items()}, "seeds"
    except ValueError:
        pass  # a seed has too few runs
    try:
        return fitted(runs), "runs"
    except ValueError:
        return {}, "runs"


def _exponent_text(exponent: Student | None) -> str:
    return "-" if exponent is None else interval_text(exponent.interval(), Rule("above", 1))
