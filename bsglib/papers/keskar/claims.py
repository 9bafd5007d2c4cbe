"""What Keskar et al. state, the statistic that tests it, and the rule that judges it."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from bsglib.claims import Claim, Measured, VerdictTable, above, below, verdict_table
from bsglib.papers import Results
from bsglib.papers.keskar import published
from bsglib.papers.keskar.protocol import (
    ADAPTIVE,
    EVOLUTION,
    LB,
    LOSS,
    RATES,
    SB,
    SHARPNESS,
    SIZES,
    SUBSPACE,
    SWITCH,
    UPDATES,
    label,
)
from bsglib.papers.tables import per_seed, rank_with_batch_size, tuned
from bsglib.stats import PERCENT, Interval, bootstrap, granulated_kendall, interval, kendall

TRAINED = 0.9  # training accuracy from which a run counts as a minimizer worth comparing
MATCHED = 2.0  # factor within which training losses count as equal
MIN_CONFIGURATIONS = 4  # for a rank correlation
STEP = 0.25  # of alpha, from a minimizer to where its rise is read off the line
VARIED = ("F2", "C1")  # the networks the source varies further

# ------------------------------------------------------------- statistics: one value per seed

Statistic = Callable[[Results], Measured]


def of(results: Results, name: str, *kinds: str) -> pd.DataFrame:
    """Return the runs of some arms of a network, with the errors that tables show."""
    runs = results.of(*(label(name, kind) for kind in kinds))
    if runs.empty:
        return runs
    test_error, train_error = 1 - runs["test_accuracy"], 1 - runs["train_accuracy"]
    return runs.assign(test_error=test_error, generalization_gap=test_error - train_error)


def absence(results: Results, name: str, *kinds: str) -> str | None:
    """Return why some arms of a network cannot be judged yet, None if all their runs are there."""
    networks = results.parameters.networks
    if name not in networks:
        return f"no {name} in this profile"
    n = len(results.of(*(label(name, kind) for kind in kinds)))
    if not n and not networks[name].computable:
        dataset = networks[name].dataset
        return f"{name}: {dataset} is not at hand, `bsg data {dataset}` fetches it"
    arms = " and ".join(label(name, kind) for kind in kinds)
    planned = sum(results.planned.get(label(name, kind), 0) for kind in kinds)
    if not planned:
        return f"{arms}: not in this profile"
    return f"{n} of {planned} runs of {arms}" if n < planned else None


def _unfit(runs: pd.DataFrame) -> str | None:
    return _diverged(runs) or _untrained(runs)


def _judged(
    name: str,
    kinds: tuple[str, ...],
    value: Callable[[Results, pd.DataFrame], Measured],
    *,
    unfit: Callable[[pd.DataFrame], str | None] = _unfit,
) -> Statistic:
    """Return a statistic that is taken when all runs of some arms are there, and fit for it.

    Args:
        name: of the network.
        kinds: of the arms.
        value: of the runs.
        unfit: says why runs cannot be judged, None if they can.
    """

    def statistic(results: Results) -> Measured:
        if why := absence(results, name, *kinds):
            return Measured(not_testable=why)
        runs = of(results, name, *kinds)
        if why := unfit(runs):
            return Measured(not_testable=why)
        return value(results, runs)

    return statistic


def _left_to_value(runs: pd.DataFrame) -> None:
    """Let the statistic itself say which of the runs it takes, and whether they are fit."""


def _diverged(runs: pd.DataFrame) -> str | None:
    diverged = runs[runs["stopped"] == "diverged"]
    return f"{_where(diverged.iloc[0])}: diverged" if len(diverged) else None


def _untrained(runs: pd.DataFrame) -> str | None:
    """Return what the worst run reached, None if all got where they were to get.

    That is the training loss at which they were to stop, or else a training accuracy.
    """
    missed = runs[runs["target_loss"].notna() & (runs["stopped"] != "target_loss")]
    if len(missed):
        worst = missed.loc[missed["running_loss"].idxmax()]
        reached = f"training loss {worst['running_loss']:.2g}, not {worst['target_loss']:g}"
        return f"{_where(worst)}: {reached}"
    runs = runs[runs["target_loss"].isna() & ~(runs["train_accuracy"] >= TRAINED)]
    if runs.empty:
        return None
    worst = runs.loc[runs["train_accuracy"].idxmin()]
    reached, needed = PERCENT * worst["train_accuracy"], PERCENT * TRAINED
    reached = f"training accuracy {reached:.0f} %, {needed:.0f} % needed"
    return f"{_where(worst)}, {worst['updates']:.0f} updates: {reached}"


def _where(run: pd.Series) -> str:
    return f"{run['arm']}, B = {run['batch_size']}"


Pair = Callable[[pd.Series, pd.Series], pd.Series]  # of the small and the large batch, by seed


def _points_lost(small: pd.Series, large: pd.Series) -> pd.Series:
    """Return small - large in percentage points."""
    return PERCENT * (small - large)


def _large_over_small(small: pd.Series, large: pd.Series) -> pd.Series:
    return large / small


def pairs(results: Results, name: str, runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the runs with the small and with the large batch, by the seeds that both have."""
    network = results.parameters.networks[name]
    small, large = (
        runs[runs["batch_size"] == size].set_index("seed")
        for size in (network.small_batch, network.large_batch)
    )
    both = small.index.intersection(large.index)
    return small[small.index.isin(both)].sort_index(), large[large.index.isin(both)].sort_index()


def _compare(name: str, by: Pair, column: str) -> Statistic:
    """Return a statistic of a column at SB and at LB, the source's own comparison."""

    def value(results: Results, runs: pd.DataFrame) -> Measured:
        small, large = pairs(results, name, runs)
        return Measured(tuple(by(small[column], large[column])))

    return _judged(name, (SB, LB), value)


def _in_subspace(name: str) -> Statistic:
    """Return the ratio in the random subspace; its note, what other subspaces would give."""
    inner = _compare(name, _large_over_small, SUBSPACE)

    def statistic(results: Results) -> Measured:
        found = inner(results)
        if not found.values:
            return found
        small, large = pairs(results, name, of(results, name, SB, LB))
        told = [
            f"{words} {interval(tuple(large[column] / small[column]), ratios=True).mean:.2g}"
            for column, words in (
                ("unit_columns", "with columns of length one"),
                ("uniform_columns", "uniform ones"),
            )
            if column in small and small[column].notna().all() and large[column].notna().all()
        ]
        return replace(found, note=", ".join(told))

    return statistic


def _trains(name: str) -> Statistic:
    """Training accuracy of SB - LB, where SB at least is trained."""

    def value(results: Results, runs: pd.DataFrame) -> Measured:
        small, large = pairs(results, name, runs)
        if why := _untrained(small):
            return Measured(not_testable=why)
        return Measured(tuple(_points_lost(small["train_accuracy"], large["train_accuracy"])))

    return _judged(name, (SB, LB), value, unfit=_diverged)


def last_epochs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that were trained longest, in epochs."""
    return runs[runs["epochs"] == runs["epochs"].max()]


def at_best_rate(runs: pd.DataFrame) -> pd.DataFrame:
    """Return each seed's runs at the rates of highest mean validation accuracy of the other seeds.

    Two rates may be as good as each other and their minimizers of different sharpness: that the
    choice could have been another one then shows in the interval over seeds. A rate at which a run
    diverged is never the best.
    """
    cells = runs.groupby(list(GRID))
    whole = cells.filter(lambda cell: (cell["stopped"] != "diverged").all())
    parts = []
    for seed, own in whole.groupby("seed"):
        others = whole[whole["seed"] != seed]
        best = tuned(others if len(others) else own, "validation_accuracy")
        rates = best.groupby("batch_size")["base_lr"].first()
        parts.append(own[own["base_lr"] == own["batch_size"].map(rates)])
    return pd.concat(parts) if parts else runs


class Condition(NamedTuple):
    """What is made equal between the small and the large batch, and the runs that compare it."""

    words: str
    kind: str
    chosen: Callable[[pd.DataFrame], pd.DataFrame] = lambda runs: runs


CONDITIONS = {
    "epochs": Condition("at equal epochs", EVOLUTION, last_epochs),
    "tuned": Condition("with a rate tuned for each batch size", RATES, at_best_rate),
    "updates": Condition("at equal updates", UPDATES),
    "loss": Condition("at equal training loss", LOSS),
}


def compared(
    results: Results, name: str, condition: Condition, everything: pd.DataFrame
) -> tuple[pd.DataFrame, str | None]:
    """Return the runs of an arm that a condition compares, and why that is no comparison, if so."""
    runs = condition.chosen(everything)
    why = _diverged(runs if condition.kind == RATES else everything) or _untrained(runs)
    if not why and condition.kind == LOSS:
        small, large = (r["train_loss"].mean() for r in pairs(results, name, runs))
        if max(small, large) > MATCHED * min(small, large):
            why = f"training losses {small:.2g} and {large:.2g}: not within a factor {MATCHED:g}"
    return runs, why


def listed(values: pd.Series) -> str:
    """Return the distinct values in order."""
    return ", ".join(f"{value:g}" for value in sorted(set(values)))


def _rival(name: str, condition: Condition, by: Pair, column: str) -> Statistic:
    def value(results: Results, runs: pd.DataFrame) -> Measured:
        runs, why = compared(results, name, condition, runs)
        if why:
            return Measured(not_testable=why)
        small, large = pairs(results, name, runs)
        note = f"training loss {small['train_loss'].mean():.2g}, {large['train_loss'].mean():.2g}"
        if condition.kind == RATES:
            note = f"rates {listed(small['base_lr'])} and {listed(large['base_lr'])}; {note}"
        return Measured(tuple(by(small[column], large[column])), note=note)

    return _judged(name, (condition.kind,), value, unfit=_left_to_value)


def _rank_against_size(name: str, column: str) -> Statistic:
    """Kendall's correlation of batch size and a column, over the batch sizes of each seed."""

    def value(results: Results, runs: pd.DataFrame) -> Measured:
        return Measured(tuple(rank_with_batch_size(per_seed(runs, column))))

    return _judged(name, (SIZES,), value)


def _switched(name: str, column: str, by: Callable[[pd.DataFrame], pd.Series]) -> Statistic:
    """A statistic of a table [seed, small-batch epochs before the switch]; 0 is LB alone."""

    def value(results: Results, runs: pd.DataFrame) -> Measured:
        table = runs.pivot(index="seed", columns="first_epochs", values=column)
        return Measured(tuple(by(table.sort_index(axis=1))))

    return _judged(name, (SWITCH,), value)


def _evolution(name: str, *, large: bool) -> Statistic:
    """Kendall's correlation of sharpness and training loss over the epochs of each seed."""

    def value(results: Results, runs: pd.DataFrame) -> Measured:
        runs = pairs(results, name, runs)[large]
        if why := _diverged(runs):
            return Measured(not_testable=why)
        seeds = runs.groupby(level="seed")
        return Measured(tuple(float(kendall(r["train_loss"], r[SHARPNESS])) for _, r in seeds))

    return _judged(name, (EVOLUTION,), value, unfit=_left_to_value)


GRID = ("batch_size", "base_lr")  # what a configuration is


def configurations(results: Results, name: str) -> pd.DataFrame:
    """Return the runs of a network's grid of batch sizes and rates, where every seed is trained."""
    runs = of(results, name, SIZES, RATES)
    if runs.empty:
        return runs
    runs = runs.drop_duplicates([*GRID, "seed"])
    measured = runs[[SHARPNESS, "test_error"]].notna().all(axis=1)
    fit = measured & (runs["stopped"] != "diverged") & (runs["train_accuracy"] >= TRAINED)
    by_configuration = runs.assign(fit=fit).groupby(list(GRID))["fit"]
    keep = by_configuration.transform("sum") == runs["seed"].nunique()
    return runs[keep].sort_values([*GRID, "seed"])


def granulated(runs: pd.DataFrame, column: str, along: tuple[str, ...] = GRID) -> Interval | None:
    """Return the granulated rank correlation of sharpness and a column over configurations.

    Args:
        runs: those of `configurations`.
        column: of the runs.
        along: the hyperparameters whose own groups count; the others still tell groups apart.

    Returns:
        the correlation with its bootstrap interval over seeds, None for too few configurations.
    """
    grid = runs.groupby(list(GRID)).first().index if len(runs) else ()
    if len(grid) < MIN_CONFIGURATIONS:
        return None
    axes = {axis: list(grid.get_level_values(axis)) for axis in GRID}
    samples = (runs[c].to_numpy().reshape(len(grid), -1) for c in (SHARPNESS, column))
    return bootstrap(lambda a, b: granulated_kendall(a, b, axes, along=along), *samples)


def _correlation(name: str, column: str) -> Statistic:
    def value(results: Results, runs: pd.DataFrame) -> Measured:
        runs = configurations(results, name)
        n = runs.groupby(list(GRID)).ngroups
        if (found := granulated(runs, column)) is None:
            why = f"{n} trained configurations, {MIN_CONFIGURATIONS} needed"
            return Measured(not_testable=why)
        note = f"of these {n} trained configurations, bootstrap over starts alone"
        return Measured(interval=found, note=note)

    return _judged(name, (SIZES, RATES), value, unfit=_left_to_value)


def rises(results: Results, name: str) -> pd.DataFrame:
    """Return the rise of the training loss around SB and LB on the linear path, in nats, by seed.

    The mean of the losses STEP to either side of a minimizer, minus that at the minimizer.
    """
    points = results.points
    mine = (points["arm"] == label(name, LB)) & (points["path"] == "linear")
    points = points[mine & (points["set"] == "train")]
    table = points.assign(alpha=points["alpha"].round(6)).pivot(
        index="seed", columns="alpha", values="loss"
    )
    return pd.DataFrame(
        {
            kind: (table[end - STEP] + table[end + STEP]) / 2 - table[end]
            for kind, end in ((SB, 0.0), (LB, 1.0))
        }
    )


def _line(name: str, *, agree: bool = False) -> Statistic:
    """Rise around LB minus that around SB; or whether its sign is that of the metric, +1 or -1."""

    def value(results: Results, runs: pd.DataFrame) -> Measured:
        steps = STEP / 3 * (results.parameters.line_points - 1)  # from a point to the next
        if steps != round(steps):
            return Measured(not_testable=f"the line has no points {STEP:g} from its ends")
        table = rises(results, name)
        difference = table[LB] - table[SB]
        if agree:
            small, large = pairs(results, name, runs)
            difference = np.sign(difference * np.log(large[SHARPNESS] / small[SHARPNESS]))
        return Measured(tuple(difference))

    return _judged(name, (SB, LB), value)


def _not_yet(what: str) -> Statistic:
    return lambda results: Measured(not_testable=f"not yet run: {what}")


# ------------------------------------------------------------- claims


TABLE_2, TABLE_3, TABLE_4 = (f"table {n} of the paper" for n in (2, 3, 4))
CONCERN = 'slide "Concern With Using Large Batches"'
HYPOTHESIS, EVIDENCE = 'slide "The Why Hypothesis"', 'slide "Parametric Plots"'
OTHERS, RIVAL = 'slide "Other Observations"', "ours: a rival explanation"
TEST_POINTS = "test accuracy, percentage points: SB - LB"
PHI = "sharpness of LB / of SB"


def _of_each(name: str) -> list[Claim]:
    """Claims that tables 2 to 4 and the parametric plots make for every network."""
    key, (train_sb, train_lb, test_sb, test_lb) = name.lower(), published.ACCURACY[name]
    full, subspace = published.FULL_SPACE[name], published.SUBSPACE[name]
    return [
        Claim(
            id=f"keskar-{key}-training",
            figure="accuracy",
            locator=f"{CONCERN}; {TABLE_2}",
            statement=f"{name}: the large batch trains as well as the small one.",
            quantity="training accuracy, percentage points: SB - LB",
            value=f"{train_sb.mean - train_lb.mean:.2f}",
            rule=below(1),
            statistic=_trains(name),
        ),
        Claim(
            id=f"keskar-{key}-gap",
            figure="accuracy",
            locator=f"{CONCERN}, and on regularization; {TABLE_2}",
            statement=f"{name}: the large batch tests worse; the same model generalizes with SB.",
            quantity=TEST_POINTS,
            value=f"{test_sb.mean - test_lb.mean:.2f}",
            rule=above(0),
            statistic=_compare(name, _points_lost, "test_accuracy"),
        ),
        Claim(
            id=f"keskar-{key}-sharper",
            figure="sharpness",
            locator=f"{HYPOTHESIS}; {TABLE_3}",
            statement=f"{name}: the large batch converges to a sharper minimum.",
            quantity=f"{PHI}, full space",
            value=f"{full[1].mean / full[0].mean:.3g}",
            rule=above(1, ratios=True),
            statistic=_compare(name, _large_over_small, SHARPNESS),
        ),
        Claim(
            id=f"keskar-{key}-sharper-subspace",
            figure="sharpness",
            locator=TABLE_4,
            statement=f"{name}: its minimum is sharper in a random subspace, too.",
            quantity=f"{PHI}, random subspace",
            value=f"{subspace[1].mean / subspace[0].mean:.3g}",
            rule=above(1, ratios=True),
            statistic=_in_subspace(name),
        ),
        Claim(
            id=f"keskar-{key}-sharper-adaptive",
            figure="sharpness",
            locator="ours: Dinh et al. show that the source's metric depends on scale",
            statement=f"{name}: its minimum is sharper in a box that scales with the weights.",
            quantity=f"{PHI}, adaptive box",
            value="ours",
            rule=above(1, ratios=True),
            statistic=_compare(name, _large_over_small, ADAPTIVE),
        ),
        Claim(
            id=f"keskar-{key}-line",
            figure="linear",
            locator=EVIDENCE,
            statement=f"{name}: on the line between them the training loss rises faster around "
            "the large batch's minimum.",
            quantity=f"rise within {STEP:g} of alpha, nats: LB - SB",
            rule=above(0),
            statistic=_line(name),
        ),
        Claim(
            id=f"keskar-{key}-agree",
            figure="linear",
            locator=f"{HYPOTHESIS}; added when runs had begun, before a result was seen",
            statement=f"{name}: parametric plots and sharpness metric agree on which is sharper.",
            quantity="agreement of a pair, +1 or -1",
            rule=above(0),
            statistic=_line(name, agree=True),
        ),
    ]


def _of_varied(name: str) -> list[Claim]:
    """Claims on the networks that the source varies further."""
    key = name.lower()
    threshold = f"threshold B = {published.THRESHOLDS[name]:,}"
    return [
        Claim(
            id=f"keskar-{key}-sharpness-rises",
            figure="batch-sizes",
            locator="figure 4 of the paper",
            statement=f"{name}: sharpness rises with the batch size.",
            quantity="rank correlation of batch size and sharpness",
            rule=above(0),
            statistic=_rank_against_size(name, SHARPNESS),
        ),
        Claim(
            id=f"keskar-{key}-accuracy-falls",
            figure="batch-sizes",
            locator="figure 4 of the paper",
            statement=f"{name}: test accuracy falls with the batch size.",
            quantity="rank correlation of batch size and test accuracy",
            value=threshold,
            rule=below(0),
            statistic=_rank_against_size(name, "test_accuracy"),
        ),
        Claim(
            id=f"keskar-{key}-switch-works",
            figure="warm-start",
            locator=OTHERS,
            statement=f"{name}: enough small-batch epochs first make the large batch test better.",
            quantity="test accuracy, percentage points: latest switch - LB alone",
            rule=above(0),
            statistic=_switched(name, "test_accuracy", lambda t: PERCENT * (t.iloc[:, -1] - t[0])),
        ),
        Claim(
            id=f"keskar-{key}-switch-timing",
            figure="warm-start",
            locator=OTHERS,
            statement=f"{name}: the switch has to be timed: after few epochs it gains less.",
            quantity="test accuracy, percentage points: latest switch - earliest",
            rule=above(0),
            statistic=_switched(
                name, "test_accuracy", lambda t: PERCENT * (t.iloc[:, -1] - t.iloc[:, 1])
            ),
        ),
        Claim(
            id=f"keskar-{key}-switch-flatter",
            figure="warm-start",
            locator="figure 5 of the paper",
            statement=f"{name}: after a late switch the large batch ends in a flatter minimum.",
            quantity="sharpness of LB alone / after the latest switch",
            rule=above(1, ratios=True),
            statistic=_switched(name, SHARPNESS, lambda t: t[0] / t.iloc[:, -1]),
        ),
        Claim(
            id=f"keskar-{key}-evolution-small",
            figure="evolution",
            locator='slide "Evolution of Sharpness"',
            statement=f"{name}: as the loss falls, the sharpness of the small batch falls.",
            quantity="rank correlation of training loss and sharpness, SB",
            rule=above(0),
            statistic=_evolution(name, large=False),
        ),
        Claim(
            id=f"keskar-{key}-evolution-large",
            figure="evolution",
            locator='slide "Evolution of Sharpness"',
            statement=f"{name}: as the loss falls, the sharpness of the large batch rises.",
            quantity="rank correlation of training loss and sharpness, LB",
            rule=below(0),
            statistic=_evolution(name, large=True),
        ),
        Claim(
            id=f"keskar-{key}-correlation",
            figure="correlation",
            locator=HYPOTHESIS,
            statement=f"{name}: sharp minima correlate with poor generalization.",
            quantity="granulated rank correlation of sharpness and test error",
            rule=above(0),
            statistic=_correlation(name, "test_error"),
        ),
        Claim(
            id=f"keskar-{key}-correlation-gap",
            figure="correlation",
            locator=HYPOTHESIS,
            statement=f"{name}: the same with test error - training error for generalization.",
            quantity="granulated rank correlation of sharpness and generalization gap",
            rule=above(0),
            statistic=_correlation(name, "generalization_gap"),
        ),
        *_rivals(name),
    ]


def _rivals(name: str) -> list[Claim]:
    """Is a gap left, and is LB sharper, under each rival explanation?"""
    key = name.lower()
    noise = f"{HYPOTHESIS}: small batches avoid sharp minima by their update noise"
    claims = []
    for key_of, condition in CONDITIONS.items():
        claims += [
            Claim(
                id=f"keskar-{key}-gap-{key_of}",
                figure="rivals",
                locator=RIVAL,
                statement=f"{name}: {condition.words}, the large batch still tests worse.",
                quantity=TEST_POINTS,
                value="ours",
                rule=above(0),
                statistic=_rival(name, condition, _points_lost, "test_accuracy"),
            ),
            Claim(
                id=f"keskar-{key}-sharper-{key_of}",
                figure="rivals",
                locator=noise if condition.kind in (UPDATES, LOSS) else RIVAL,
                statement=f"{name}: {condition.words}, the large batch still ends in a sharper "
                "minimum.",
                quantity=f"{PHI}, full space",
                value="ours",
                rule=above(1, ratios=True),
                statistic=_rival(name, condition, _large_over_small, SHARPNESS),
            ),
        ]
    return claims


NOT_YET = (
    Claim(
        id="keskar-augmentation",
        figure="verdicts",
        locator=OTHERS,
        statement="Data augmentation and conservative training close the generalization gap, "
        "not the sharpness gap.",
        quantity=TEST_POINTS,
        rule=below(0.5),
        statistic=_not_yet("needs augmentation and conservative training"),
    ),
    Claim(
        id="keskar-adversarial",
        figure="verdicts",
        locator="appendix E of the paper",
        statement="Adversarial training closes the generalization gap, not the sharpness gap.",
        quantity=TEST_POINTS,
        rule=below(0.5),
        statistic=_not_yet("needs adversarial training"),
    ),
    Claim(
        id="keskar-line-search",
        figure="verdicts",
        locator='slide "Not an Optimization Issue"',
        statement="Gradient descent with line search and L-BFGS train well and test badly.",
        quantity=TEST_POINTS,
        rule=above(0),
        statistic=_not_yet("needs full-batch training with line search"),
    ),
    Claim(
        id="keskar-resilient",
        figure="verdicts",
        locator=OTHERS,
        statement="The finding is resilient to activation, batch norm, dropout, architecture.",
        quantity=f"{PHI}, full space",
        rule=above(1, ratios=True),
        statistic=_not_yet("needs runs with other activations, without batch norm and dropout"),
    ),
)

CLAIMS = (
    *(claim for name in published.NETWORKS for claim in _of_each(name)),
    *(claim for name in VARIED for claim in _of_varied(name)),
    *NOT_YET,
)


def verdicts_of(results: Results, *names: str) -> VerdictTable:
    """Return the verdicts of claims by the ends of their names, for the networks of a profile."""
    ids = {claim.id for claim in CLAIMS}
    wanted = (f"keskar-{n.lower()}-{name}" for name in names for n in results.parameters.networks)
    chosen = [claim for claim in wanted if claim in ids]
    return results.verdicts(*chosen) if chosen else verdict_table([])
