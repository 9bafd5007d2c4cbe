"""What Keskar et al. state, the statistic that tests it, and the rule that judges it."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from bsglib.claims import Claim, Measured, Rule, above, below
from bsglib.data import at_hand
from bsglib.papers import Results, per_seed
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
    KeskarParameters,
    design,
    label,
)
from bsglib.stats import Interval, bootstrap, granulated_kendall, kendall

TRAINED = 0.9  # training accuracy from which a run counts as a minimizer worth comparing
MIN_CONFIGURATIONS = 4  # for a rank correlation
STEP = 0.25  # of alpha, from a minimizer to where its rise is read off the line
VARIED = ("F2", "C1")  # the networks the source varies further

# ------------------------------------------------------------- statistics: one value per seed

Statistic = Callable[[Results], Measured]
Tables = tuple[pd.Series, pd.Series]  # of the small and of the large batch, by seed


def _difference(small: pd.Series, large: pd.Series) -> pd.Series:
    """Return small - large in percentage points."""
    return 100 * (small - large)


def _ratio(small: pd.Series, large: pd.Series) -> pd.Series:
    return large / small


def _compare(
    name: str,
    by: Callable[[pd.Series, pd.Series], pd.Series],
    column: str,
    *,
    kinds: tuple[str, str] = (SB, LB),
    chosen: Callable[[Results, pd.DataFrame], pd.DataFrame] = lambda results, runs: runs,
    trained: bool = True,
) -> Statistic:
    """Return a statistic of a column at the small and at the large batch of a network.

    Args:
        name: of the network.
        by: takes two series over seeds, small and large batch, and returns one.
        column: of the runs.
        kinds: arm of the small batch, arm of the large one.
        chosen: which of the arms' runs are meant.
        trained: call the claim not testable where a run is not trained.
    """

    def statistic(results: Results) -> Measured:
        if why := absence(results, name, *kinds):
            return Measured(not_testable=why)
        runs = chosen(results, of(results, name, *kinds))
        if trained and (why := _untrained(runs)):
            return Measured(not_testable=why)
        network = results.parameters.networks[name]
        tables = []
        for kind, size in zip(kinds, (network.small_batch, network.large_batch), strict=True):
            mine = runs[(runs["arm"] == label(name, kind)) & (runs["batch_size"] == size)]
            tables.append(mine.set_index("seed")[column])
        seeds = tables[0].index.intersection(tables[1].index)
        return Measured(tuple(by(*(table[seeds] for table in tables)).dropna()))

    return statistic


def of(results: Results, name: str, *kinds: str) -> pd.DataFrame:
    """Return the runs of some arms of a network, with the errors that tables show."""
    runs = results.of(*(label(name, kind) for kind in kinds))
    if runs.empty:
        return runs
    test_error, train_error = 1 - runs["test_accuracy"], 1 - runs["train_accuracy"]
    return runs.assign(test_error=test_error, generalization_gap=test_error - train_error)


def absence(results: Results, name: str, *kinds: str) -> str | None:
    """Return which planned runs of some arms of a network are missing, None if none are.

    What is judged before its runs are complete could be judged when it looks best.
    """
    p = results.parameters
    if name not in p.networks:
        return f"no {name} in this profile"
    network = p.networks[name]
    planned = [e.arm for e in design(p.model_copy(update={"networks": {name: network}}))]
    for arm in (label(name, kind) for kind in kinds):
        if (n := planned.count(arm)) == 0:
            return f"{arm}: not in this profile"
        if missing := n - len(results.of(arm)):
            if network.optional and not at_hand(network.dataset):
                return f"{name}: the data set {network.dataset} is not at hand"
            return f"{arm}: {missing} of {n} runs are missing"
    return None


def _untrained(runs: pd.DataFrame) -> str | None:
    """Return what the worst run reached, None if all are trained."""
    diverged = runs["stopped"] == "diverged"
    missed = runs["target_loss"].notna() & (runs["stopped"] != "target_loss")
    if diverged.any():
        worst, got = runs[diverged].iloc[0], "diverged"
    elif missed.any():
        worst = runs.loc[runs["running_loss"].where(missed).idxmax()]
        got = f"training loss {worst['running_loss']:.2g}, not {worst['target_loss']:g}"
    elif runs["train_accuracy"].min() < TRAINED:
        worst = runs.loc[runs["train_accuracy"].idxmin()]
        reached = 100 * worst["train_accuracy"]
        got = f"training accuracy {reached:.0f} %, {100 * TRAINED:.0f} % needed"
    else:
        return None
    return f"{worst['arm']}, B = {worst['batch_size']}, {worst['updates']:.0f} updates: {got}"


def tuned(results: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs at each batch size's best rate, by mean validation accuracy over seeds."""
    means = runs.groupby(["batch_size", "base_lr"])["validation_accuracy"].mean()
    best = means.groupby(level="batch_size").idxmax()  # (batch size, rate)
    return runs[[pair in set(best) for pair in zip(runs.batch_size, runs.base_lr, strict=True)]]


def last_epochs(results: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that were to be trained longest, in epochs, however far they got."""
    planned = [e for e in design(results.parameters) if e.arm in set(runs["arm"])]
    longest = max(e.config.epochs for e in planned)
    return runs[runs["entry"].isin([e.key for e in planned if e.config.epochs == longest])]


def _rank_against_size(name: str, column: str) -> Statistic:
    """Kendall's correlation of batch size and a column, over the batch sizes of each seed."""

    def statistic(results: Results) -> Measured:
        if why := absence(results, name, SIZES):
            return Measured(not_testable=why)
        runs = of(results, name, SIZES)
        if why := _untrained(runs):
            return Measured(not_testable=why)
        table = per_seed(runs, column).dropna()
        sizes = np.broadcast_to(table.columns.to_numpy(), table.shape)
        return Measured(tuple(kendall(sizes, table.to_numpy())))

    return statistic


def _switched(
    name: str, column: str, by: Callable[[pd.DataFrame], pd.Series], *, trained: bool = True
) -> Statistic:
    """A statistic of a table [seed, small-batch epochs before the switch]; 0 is LB alone."""

    def statistic(results: Results) -> Measured:
        if why := absence(results, name, SWITCH):
            return Measured(not_testable=why)
        runs = of(results, name, SWITCH)
        if trained and (why := _untrained(runs)):
            return Measured(not_testable=why)
        table = runs.pivot(index="seed", columns="first_epochs", values=column).dropna()
        return Measured(tuple(by(table)))

    return statistic


def _evolution(name: str, *, large: bool) -> Statistic:
    """Kendall's correlation of sharpness and training loss over the epochs of each seed."""

    def statistic(results: Results) -> Measured:
        if why := absence(results, name, EVOLUTION):
            return Measured(not_testable=why)
        runs = of(results, name, EVOLUTION)
        size = runs["batch_size"].max() if large else runs["batch_size"].min()
        by_seed = runs[runs["batch_size"] == size].groupby("seed")
        return Measured(tuple(float(kendall(r["train_loss"], r[SHARPNESS])) for _, r in by_seed))

    return statistic


def configurations(results: Results, name: str) -> pd.DataFrame:
    """Return the trained runs of a network's grid of batch sizes and rates, all seeds complete."""
    runs = of(results, name, SIZES, RATES)
    if runs.empty:
        return runs
    runs = runs.drop_duplicates(["batch_size", "base_lr", "seed"])
    by_configuration = runs.groupby(["batch_size", "base_lr"])
    complete = by_configuration["seed"].transform("size") == runs["seed"].nunique()
    usable = by_configuration[[SHARPNESS, "test_error"]].transform("count").min(axis=1)
    trained = by_configuration["train_accuracy"].transform("min") >= TRAINED
    keep = complete & trained & (usable == runs["seed"].nunique())
    return runs[keep].sort_values(["batch_size", "base_lr", "seed"])


def granulated(runs: pd.DataFrame, column: str) -> Interval | None:
    """Return the granulated rank correlation of sharpness and a column over configurations.

    Args:
        runs: those of `configurations`.
        column: of the runs.

    Returns:
        the correlation with its bootstrap interval, None for fewer than four configurations.
    """
    grid = runs.groupby(["batch_size", "base_lr"]).first().index if len(runs) else ()
    if len(grid) < MIN_CONFIGURATIONS:
        return None
    axes = {axis: list(grid.get_level_values(axis)) for axis in grid.names}
    samples = (runs[c].to_numpy().reshape(len(grid), -1) for c in (SHARPNESS, column))
    return bootstrap(lambda a, b: granulated_kendall(a, b, axes), *samples)


def _correlation(name: str, column: str) -> Statistic:
    def statistic(results: Results) -> Measured:
        if why := absence(results, name, SIZES, RATES):
            return Measured(not_testable=why)
        runs = configurations(results, name)
        n = runs.groupby(["batch_size", "base_lr"]).ngroups
        if (found := granulated(runs, column)) is None:
            why = f"{n} trained configurations, {MIN_CONFIGURATIONS} needed"
            return Measured(not_testable=why)
        return Measured(interval=found, note=f"{n} trained configurations, bootstrap")

    return statistic


def _rises(name: str) -> Statistic:
    """Rise of the training loss around LB minus that around SB, on the linear path, in nats."""

    def statistic(results: Results) -> Measured:
        if why := absence(results, name, SB, LB) or _untrained(of(results, name, SB, LB)):
            return Measured(not_testable=why)
        points = results.points
        mine = (points["arm"] == label(name, LB)) & (points["path"] == "linear")
        points = points[mine & (points["set"] == "train")]
        table = points.assign(alpha=points["alpha"].round(6)).pivot(
            index="seed", columns="alpha", values="loss"
        )
        if missing := {-STEP, STEP, 1 - STEP, 1 + STEP} - set(table.columns):
            return Measured(not_testable=f"the line has no point at alpha = {min(missing):g}")
        small, large = (
            (table[end - STEP] + table[end + STEP]) / 2 - table[end] for end in (0.0, 1.0)
        )
        return Measured(tuple(large - small))

    return statistic


def _not_yet(what: str) -> Statistic:
    return lambda results: Measured(not_testable=f"not yet run: {what}")


# ------------------------------------------------------------- claims


def _claim(
    name: str,
    *,
    figure: str,
    locator: str,
    statement: str,
    quantity: str,
    rule: Rule,
    statistic: Statistic,
    value: str = "-",
) -> Claim:
    return Claim(f"keskar-{name}", figure, locator, statement, quantity, value, rule, statistic)


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
        _claim(
            f"{key}-training",
            figure="accuracy",
            locator=f"{CONCERN}; {TABLE_2}",
            statement=f"{name}: the large batch trains as well as the small one.",
            quantity="training accuracy, percentage points: SB - LB",
            value=f"{train_sb.mean - train_lb.mean:.2f}",
            rule=below(1),
            statistic=_compare(name, _difference, "train_accuracy", trained=False),
        ),
        _claim(
            f"{key}-gap",
            figure="accuracy",
            locator=f"{CONCERN}; {TABLE_2}",
            statement=f"{name}: the large batch tests worse; the same model generalizes with SB.",
            quantity=TEST_POINTS,
            value=f"{test_sb.mean - test_lb.mean:.2f}",
            rule=above(0),
            statistic=_compare(name, _difference, "test_accuracy"),
        ),
        _claim(
            f"{key}-sharper",
            figure="sharpness",
            locator=f"{HYPOTHESIS}; {TABLE_3}",
            statement=f"{name}: the large batch converges to a sharper minimum.",
            quantity=f"{PHI}, full space",
            value=f"{full[1].mean / full[0].mean:.3g}",
            rule=above(1, ratios=True),
            statistic=_compare(name, _ratio, SHARPNESS),
        ),
        _claim(
            f"{key}-sharper-subspace",
            figure="sharpness",
            locator=TABLE_4,
            statement=f"{name}: its minimum is sharper in a random subspace, too.",
            quantity=f"{PHI}, random subspace",
            value=f"{subspace[1].mean / subspace[0].mean:.3g}",
            rule=above(1, ratios=True),
            statistic=_compare(name, _ratio, SUBSPACE),
        ),
        _claim(
            f"{key}-sharper-adaptive",
            figure="sharpness",
            locator="ours: Dinh et al. show that the source's metric depends on scale",
            statement=f"{name}: its minimum is sharper in a box that scales with the weights.",
            quantity=f"{PHI}, adaptive box",
            value="ours",
            rule=above(1, ratios=True),
            statistic=_compare(name, _ratio, ADAPTIVE),
        ),
        _claim(
            f"{key}-line",
            figure="linear",
            locator=f"{EVIDENCE}; {HYPOTHESIS}",
            statement=f"{name}: on the line between them the training loss rises faster around "
            "the large batch's minimum, as the metric says.",
            quantity=f"rise within {STEP:g} of alpha, nats: LB - SB",
            rule=above(0),
            statistic=_rises(name),
        ),
    ]


def _of_varied(name: str) -> list[Claim]:
    """Claims on the networks that the source varies further."""
    key = name.lower()
    threshold = f"threshold B = {published.THRESHOLDS[name]:,}"
    return [
        _claim(
            f"{key}-sharpness-rises",
            figure="batch-sizes",
            locator="figure 4 of the paper",
            statement=f"{name}: sharpness rises with the batch size.",
            quantity="rank correlation of batch size and sharpness",
            rule=above(0),
            statistic=_rank_against_size(name, SHARPNESS),
        ),
        _claim(
            f"{key}-accuracy-falls",
            figure="batch-sizes",
            locator="figure 4 of the paper",
            statement=f"{name}: test accuracy falls with the batch size.",
            quantity="rank correlation of batch size and test accuracy",
            value=threshold,
            rule=below(0),
            statistic=_rank_against_size(name, "test_accuracy"),
        ),
        _claim(
            f"{key}-switch-works",
            figure="warm-start",
            locator=OTHERS,
            statement=f"{name}: enough small-batch epochs first make the large batch test better.",
            quantity="test accuracy, percentage points: latest switch - LB alone",
            rule=above(0),
            statistic=_switched(name, "test_accuracy", lambda t: 100 * (t[t.columns[-1]] - t[0])),
        ),
        _claim(
            f"{key}-switch-timing",
            figure="warm-start",
            locator=OTHERS,
            statement=f"{name}: the switch has to be timed: after few epochs it gains less.",
            quantity="test accuracy, percentage points: latest switch - earliest",
            rule=above(0),
            statistic=_switched(
                name, "test_accuracy", lambda t: 100 * (t[t.columns[-1]] - t[t.columns[1]])
            ),
        ),
        _claim(
            f"{key}-switch-flatter",
            figure="warm-start",
            locator="figure 5 of the paper",
            statement=f"{name}: after a late switch the large batch ends in a flatter minimum.",
            quantity="sharpness of LB alone / after the latest switch",
            rule=above(1, ratios=True),
            statistic=_switched(name, SHARPNESS, lambda t: t[0] / t[t.columns[-1]]),
        ),
        _claim(
            f"{key}-evolution-small",
            figure="evolution",
            locator='slide "Evolution of Sharpness"',
            statement=f"{name}: as the loss falls, the sharpness of the small batch falls.",
            quantity="rank correlation of training loss and sharpness, SB",
            rule=above(0),
            statistic=_evolution(name, large=False),
        ),
        _claim(
            f"{key}-evolution-large",
            figure="evolution",
            locator='slide "Evolution of Sharpness"',
            statement=f"{name}: as the loss falls, the sharpness of the large batch rises.",
            quantity="rank correlation of training loss and sharpness, LB",
            rule=below(0),
            statistic=_evolution(name, large=True),
        ),
        _claim(
            f"{key}-correlation",
            figure="correlation",
            locator=HYPOTHESIS,
            statement=f"{name}: sharp minima correlate with poor generalization.",
            quantity="granulated rank correlation of sharpness and test error",
            rule=above(0),
            statistic=_correlation(name, "test_error"),
        ),
        _claim(
            f"{key}-correlation-gap",
            figure="correlation",
            locator=HYPOTHESIS,
            statement=f"{name}: the same with test error - training error for generalization.",
            quantity="granulated rank correlation of sharpness and generalization gap",
            rule=above(0),
            statistic=_correlation(name, "generalization_gap"),
        ),
        *_rivals(name),
    ]


CONDITIONS = {  # what is made equal: in words, and which runs compare it
    "epochs": ("at equal epochs", {"kinds": (EVOLUTION, EVOLUTION), "chosen": last_epochs}),
    "tuned": (
        "with the rate tuned for each batch size",
        {"kinds": (RATES, RATES), "chosen": tuned},
    ),
    "updates": ("at equal updates", {"kinds": (UPDATES, UPDATES)}),
    "loss": ("at equal training loss", {"kinds": (LOSS, LOSS)}),
}


def _rivals(name: str) -> list[Claim]:
    """Is a gap left, and is LB sharper, under each rival explanation?"""
    key = name.lower()
    noise = f"{HYPOTHESIS}: small batches avoid sharp minima by their update noise"
    claims = []
    for condition, (words, options) in CONDITIONS.items():
        claims += [
            _claim(
                f"{key}-gap-{condition}",
                figure="rivals",
                locator=RIVAL,
                statement=f"{name}: {words}, the large batch still tests worse.",
                quantity=TEST_POINTS,
                value="ours",
                rule=above(0),
                statistic=_compare(name, _difference, "test_accuracy", **options),
            ),
            _claim(
                f"{key}-sharper-{condition}",
                figure="rivals",
                locator=noise if condition == "updates" else RIVAL,
                statement=f"{name}: {words}, the large batch still ends in a sharper minimum.",
                quantity=f"{PHI}, full space",
                value="ours",
                rule=above(1, ratios=True),
                statistic=_compare(name, _ratio, SHARPNESS, **options),
            ),
        ]
    return claims


NOT_YET = (
    _claim(
        "augmentation",
        figure="verdicts",
        locator=OTHERS,
        statement="Data augmentation and conservative training close the generalization gap, "
        "not the sharpness gap.",
        quantity=TEST_POINTS,
        rule=below(0.5),
        statistic=_not_yet("needs augmentation and conservative training"),
    ),
    _claim(
        "adversarial",
        figure="verdicts",
        locator="appendix E of the paper",
        statement="Adversarial training closes the generalization gap, not the sharpness gap.",
        quantity=TEST_POINTS,
        rule=below(0.5),
        statistic=_not_yet("needs adversarial training"),
    ),
    _claim(
        "line-search",
        figure="verdicts",
        locator='slide "Not an Optimization Issue"',
        statement="Gradient descent with line search and L-BFGS train well and test badly.",
        quantity=TEST_POINTS,
        rule=above(0),
        statistic=_not_yet("needs full-batch training with line search"),
    ),
    _claim(
        "resilient",
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


def claims_of(p: KeskarParameters, *names: str) -> list[str]:
    """Return the ids of claims by the ends of their names, for the networks of a profile."""
    ids = {claim.id for claim in CLAIMS}
    wanted = [f"keskar-{network.lower()}-{name}" for name in names for network in p.networks]
    return [claim for claim in wanted if claim in ids]
