"""What Keskar et al. state, the statistic that tests it, and the rule that judges it."""

from collections.abc import Callable
from dataclasses import replace

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
)
from bsglib.papers.keskar.readings import (
    CONDITIONS,
    GRID,
    MIN_CONFIGURATIONS,
    STEP,
    Condition,
    absence,
    compared,
    configurations,
    diverged,
    granulated,
    of,
    pairs,
    rises,
    untrained,
    values_text,
)
from bsglib.papers.tables import per_seed, rank_with_batch_size
from bsglib.stats import PERCENT, interval, kendall

VARIED = ("F2", "C1")  # the networks the source varies further

# ------------------------------------------------------------- statistics: one value per seed

Statistic = Callable[[Results], Measured]


def _unfit(runs: pd.DataFrame) -> str | None:
    return diverged(runs) or untrained(runs)


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


Pair = Callable[[pd.Series, pd.Series], pd.Series]  # of the small and the large batch, by seed


def _points_lost(small: pd.Series, large: pd.Series) -> pd.Series:
    """Return small - large in percentage points."""
    return PERCENT * (small - large)


def _large_over_small(small: pd.Series, large: pd.Series) -> pd.Series:
    return large / small


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
        if why := untrained(small):
            return Measured(not_testable=why)
        return Measured(tuple(_points_lost(small["train_accuracy"], large["train_accuracy"])))

    return _judged(name, (SB, LB), value, unfit=diverged)


def _rival(name: str, condition: Condition, by: Pair, column: str) -> Statistic:
    def value(results: Results, runs: pd.DataFrame) -> Measured:
        runs, why = compared(results, name, condition, runs)
        if why:
            return Measured(not_testable=why)
        small, large = pairs(results, name, runs)
        note = f"training loss {small['train_loss'].mean():.2g}, {large['train_loss'].mean():.2g}"
        if condition.kind == RATES:
            rates = (values_text(side["base_lr"]) for side in (small, large))
            note = f"rates {' and '.join(rates)}; {note}"
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
        if why := diverged(runs):
            return Measured(not_testable=why)
        seeds = runs.groupby(level="seed")
        return Measured(tuple(float(kendall(r["train_loss"], r[SHARPNESS])) for _, r in seeds))

    return _judged(name, (EVOLUTION,), value, unfit=_left_to_value)


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
