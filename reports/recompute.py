"""Recomputes every published verdict from the exported tables, and compares the words.

This is a second implementation. It shares no code with the package and imports nothing of it: it
reads the tables of reports/results, the parameters, and the registered numbers of each claim, and
works out statistics and words on its own, from docs/verdicts.md and from what the claims say.

    python reports/recompute.py              check the manifest, recompute, compare
    python reports/recompute.py --manifest   write the manifest of reports/results anew

It prints a line per difference, and exits with 1 if there is one.
"""

import argparse
import base64
import hashlib
import json
import math
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy import stats

HERE = Path(__file__).resolve().parents[1]
ALPHA = 0.05

# ------------------------------------------------------------------------------------ statistics


class Estimate:
    """A centre from n seeds, with an interval at any level and the tails that lie beyond a value."""

    centre: float
    n: int

    def interval(self, level: float) -> tuple[float, float]:
        """Return the ends of the interval whose tails are equal."""
        raise NotImplementedError

    def tails(self, null: float) -> tuple[float, float]:
        """Return the p values of "at least the null value" and of "at most the null value"."""
        raise NotImplementedError

    def p_differs(self, null: float) -> float:
        """Return the two-sided p value of a null value."""
        return min(1.0, 2 * min(self.tails(null)))

    def p_within(self, low: float, high: float) -> float:
        """Return the larger p value of the two one-sided tests of "outside low to high"."""
        return max(self.tails(low)[1], self.tails(high)[0])


class Mean(Estimate):
    """A mean with Student's t; given test examples, with the variance of the test set, too."""

    def __init__(self, values: Sequence[float], examples: np.ndarray | None = None):
        """Take a value per seed, and the mean difference at every test example."""
        x = np.asarray(values, dtype=float)
        self.centre, self.n = x.mean(), len(x)
        self.error, self.freedom = math.inf, 1.0
        if self.n > 1:
            a, self.freedom = x.var(ddof=1) / self.n, self.n - 1.0
            self.error = math.sqrt(a)
            if examples is not None:
                b = np.var(examples, ddof=1) / len(examples)
                if a + b > 0:  # Satterthwaite
                    parts = a**2 / (self.n - 1) + b**2 / (len(examples) - 1)
                    self.error, self.freedom = math.sqrt(a + b), (a + b) ** 2 / parts

    def interval(self, level: float) -> tuple[float, float]:
        """Return mean -+ t * standard error."""
        if math.isinf(self.error):
            return -math.inf, math.inf
        half = stats.t.ppf((1 + level) / 2, self.freedom) * self.error
        return self.centre - half, self.centre + half

    def tails(self, null: float) -> tuple[float, float]:
        """Return the tails of Student's distribution."""
        off = self.centre - null
        if self.error == 0:
            below = 0.5 if off == 0 else float(off > 0)
        else:
            below = float(stats.t.cdf(off / self.error, self.freedom))
        return below, 1 - below


class Share(Estimate):
    """A share of seeds with the exact interval of Clopper and Pearson."""

    def __init__(self, hits: int, n: int):
        """Take the seeds in which it happened, and all of them."""
        self.hits, self.n, self.centre = hits, n, hits / n

    def interval(self, level: float) -> tuple[float, float]:
        """Return the ends from the beta distribution."""
        found = stats.binomtest(self.hits, self.n).proportion_ci(level, method="exact")
        return float(found.low), float(found.high)

    def tails(self, null: float) -> tuple[float, float]:
        """Return the tails of the binomial distribution; a share outside 0 to 1 is impossible."""
        if not 0 <= null <= 1:
            return (0.0, 1.0) if null > 1 else (1.0, 0.0)
        return (
            float(stats.binom.cdf(self.hits, self.n, null)),
            float(stats.binom.sf(self.hits - 1, self.n, null)),
        )


class Signs(Estimate):
    """The median of rank correlations, one a seed, with the interval of the sign test."""

    def __init__(self, values: Sequence[float]):
        """Take a correlation per seed."""
        self.values, self.n = np.sort(np.asarray(values, dtype=float)), len(values)
        self.centre = float(np.median(self.values))

    def interval(self, level: float) -> tuple[float, float]:
        """Return the k-th value from either end, as the binomial distribution allows; -1 and 1."""
        ends = [-1.0, *self.values, 1.0]
        k = 0
        while stats.binom.cdf(k, self.n, 0.5) <= (1 - level) / 2:
            k += 1
        return ends[k], ends[self.n + 1 - k]

    def tails(self, null: float) -> tuple[float, float]:
        """Return the tails of how many values lie on either side; a tie speaks for the null."""
        above, below = (self.values > null).sum(), (self.values < null).sum()
        return (
            float(stats.binom.cdf(self.n - below, self.n, 0.5)),
            float(stats.binom.cdf(self.n - above, self.n, 0.5)),
        )


class Permuted(Estimate):
    """Kendall's correlation over configurations, mean over groups weighted by size, permuted."""

    DRAWS, ALL = 10_000, 50_000

    def __init__(self, x: Sequence[float], y: Sequence[float], groups: list[list[int]]):
        """Take a value per configuration of each, and which configurations are compared."""
        x, y, sets = np.asarray(x, dtype=float), np.asarray(y, dtype=float), _connected(groups)
        self.random = math.prod(math.factorial(len(s)) for s in sets) > self.ALL
        orders = np.array(list(self._orders(len(x), sets)))
        taus = [tau(np.broadcast_to(x, orders.shape)[:, g], y[orders][:, g]) for g in groups]
        found = np.average(taus, axis=0, weights=[len(g) for g in groups])
        found = found.round(9)  # equal but for rounding is equal
        self.centre, self.n = float(found[0]), sum(map(len, sets))
        self.distances = np.abs(found)

    def _orders(self, n: int, sets: list[list[int]]) -> Iterable[np.ndarray]:
        """All orders within the sets, or the one at hand and random ones."""
        draw = np.random.default_rng(20).permutation
        exchanged = product(*(permutations(s) for s in sets))
        if self.random:
            exchanged = ([draw(s) for s in sets] if i else sets for i in range(self.DRAWS))
        for places in exchanged:
            order = np.arange(n)
            for own, new in zip(sets, places, strict=True):
                order[own] = new
            yield order

    def _beyond(self, distance: float) -> float:
        return float((self.distances >= round(distance, 9) - 1e-9).mean())

    def interval(self, level: float) -> tuple[float, float]:
        """Return the values that no permutation test at this level rejects, within -1 to 1."""
        known = np.unique(self.distances)
        kept = [d for d in known if self._beyond(d) >= 1 - level - 1e-12]
        half = 2.0 if len(kept) == len(known) else max(kept, default=0.0)
        low, high = max(-1.0, self.centre - half), min(1.0, self.centre + half)
        return round(low, 8), round(high, 8)

    def tails(self, null: float) -> tuple[float, float]:
        """Return half of the share of permutations as far off, on the side where we are."""
        p = self._beyond(abs(self.centre - null)) / 2
        return (1 - p, p) if self.centre > null else (p, 1 - p)


def tau(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Kendall's rank correlation over the last axis; a tie counts as zero."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    i, j = np.triu_indices(a.shape[-1], 1)
    return (np.sign(a[..., i] - a[..., j]) * np.sign(b[..., i] - b[..., j])).mean(axis=-1)


def _connected(groups: list[list[int]]) -> list[list[int]]:
    """The places that change with each other: those of one group, or of groups that share one."""
    sets: list[set[int]] = []
    for group in groups:
        joined = set(group).union(*(s for s in sets if s & set(group)))
        sets = [s for s in sets if not s & joined] + [joined]
    return [sorted(s) for s in sets]


def holm(p: dict[Any, float]) -> dict[Any, float]:
    """Return p values adjusted for their number."""
    adjusted, most = {}, 0.0
    for rank, (name, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        most = max(most, min(1.0, (len(p) - rank) * value))
        adjusted[name] = most
    return adjusted


# ----------------------------------------------------------------------------------------- words


@dataclass(frozen=True)
class Rule:
    """The registered numbers of a claim; those of ratios are logarithms."""

    claimed: str  # above, below, equal
    null: float
    margin: float
    ratios: bool
    stated: float | None
    spread: tuple[float, ...]
    estimate: str  # mean, signs, share
    primary: bool

    @classmethod
    def of(cls, entry: dict[str, Any]) -> "Rule":
        """Return the rule of a claim in claims.lock."""
        rule = entry["rule"]
        ratios = rule["ratios"]
        on_scale = math.log if ratios else float
        stated = rule.get("stated")
        return cls(
            rule["claimed"],
            on_scale(rule.get("null", 1 if ratios else 0)),
            on_scale(rule["margin"]),
            ratios,
            None if stated is None else on_scale(stated),
            tuple(on_scale(end) for end in rule.get("spread") or ()),
            entry["estimate"],
            entry["primary"],
        )


@dataclass(frozen=True)
class Verdict:
    """The words of a verdict, and the numbers that they come from."""

    word: str
    size: str = ""
    scale: str = ""
    ours: tuple[float, float, float] | None = None  # estimate and 95 % interval, as printed
    n: int = 0
    p: float = 1.0
    why: str = ""
    rough: bool = False  # of random permutations


def direction(estimate: Estimate, rule: Rule) -> tuple[str, float]:
    """Return the word of the direction with its p value."""
    low, high = estimate.interval(1 - ALPHA)
    inner_low, inner_high = estimate.interval(1 - 2 * ALPHA)
    bottom, top = rule.null - rule.margin, rule.null + rule.margin
    inside = bottom < inner_low and inner_high < top
    within = estimate.p_within(bottom, top)
    if rule.claimed == "equal":
        if inside:
            return "same", within
        if low > top or high < bottom:
            return "opposite", estimate.p_differs(top if low > top else bottom)
        return "undecided", within
    if inside:
        return "no effect", within
    p = estimate.p_differs(rule.null)
    if low > rule.null:
        return ("same" if rule.claimed == "above" else "opposite"), p
    if high < rule.null:
        return ("same" if rule.claimed == "below" else "opposite"), p
    return "undecided", p


def size(estimate: Estimate, rule: Rule) -> str:
    """Return how an effect of the same direction compares with the source's number."""
    if rule.stated is None:
        return ""
    low, high = estimate.interval(1 - ALPHA)
    bottom = min(rule.stated - rule.margin, *rule.spread or (math.inf,))
    top = max(rule.stated + rule.margin, *rule.spread or (-math.inf,))
    effect = rule.stated - rule.null
    if low <= top and high >= bottom:
        return "agrees" if high - low < 2 * max(abs(effect), rule.margin) else "imprecise"
    beyond = low > top if effect > 0 else high < bottom
    return "larger" if beyond else "smaller"


def scale(shares: Iterable[tuple[float, float, float, bool]]) -> str:
    """Return the scale of runs, given each one's updates, examples, width, and other data."""
    *numbers, other = zip(*shares, strict=True)
    smallest = min(min(column) for column in numbers)
    if any(other) or smallest < 0.1:
        return "toy"
    return "full" if smallest >= 0.9 else "reduced"


ORDER = ("opposite", "no effect", "depends on the measure", "not testable", "not run")
ORDER += ("undecided after correction", "undecided", "same")  # the first word of a part decides


def composite(parts: list[Verdict]) -> Verdict:
    """Return the verdict of a claim of several parts."""
    word = min((part.word for part in parts), key=ORDER.index)
    deciding = sorted((part for part in parts if part.word == word), key=lambda part: part.p)
    if word == "same":
        return deciding[-1]
    return replace(deciding[0], p=min(1.0, len(parts) * deciding[0].p))


class Absent(Exception):
    """There is no direction: not run, or not testable."""

    word = ""


class NotRun(Absent):
    """There are too few runs."""

    word = "not run"


class NotTestable(Absent):
    """A precondition failed."""

    word = "not testable"


@dataclass(frozen=True)
class Found:
    """The statistic of a claim: a value per seed, or an estimate, and what it comes from."""

    values: Sequence[float] = ()
    runs: pd.DataFrame | None = None  # that are compared, for the scale
    estimate: Estimate | None = None
    examples: np.ndarray | None = None
    others: dict[str, Sequence[float]] = field(default_factory=dict)  # by other measures
    timing: bool = False


def judge(
    statistic: Callable[[], "Found | dict[str, Callable]"],
    rule: Rule,
    shares: Callable[[pd.DataFrame], Iterable],
    seeds: int,
    primary_seeds: int,
) -> Verdict:
    """Return the verdict on a claim, or on a part of it, before a correction.

    Args:
        statistic: of the claim; of several parts one each, by name.
        rule: of the claim.
        shares: what each of some runs has of the source's set-up.
        seeds, primary_seeds: that a claim needs, and a primary one.
    """
    needed = primary_seeds if rule.primary else seeds
    if rule.estimate != "mean":
        needed = max(needed, 6)  # fewer than six signs exclude nothing
    try:
        found = statistic()
        if isinstance(found, dict):
            again = partial(
                judge, rule=rule, shares=shares, seeds=seeds, primary_seeds=primary_seeds
            )
            return composite([again(part) for part in found.values()])
        estimate = _estimate(found.values, rule, found.examples)
        if found.estimate is not None:
            estimate = found.estimate
        elif estimate.n < (5 if found.timing else needed):
            raise NotRun(f"{estimate.n} of {needed}")
    except Absent as absent:
        return Verdict(absent.word, why=str(absent))
    word, p = direction(estimate, rule)
    others = {}
    for name, values in found.others.items():
        try:
            others[name] = direction(_estimate(values, rule), rule)[0]
        except Absent:
            continue
    if word == "same" and {"opposite", "no effect"} & set(others.values()):
        word = "depends on the measure"
    ours = np.array([estimate.centre, *estimate.interval(1 - ALPHA)])
    return Verdict(
        word,
        size(estimate, rule) if word == "same" else "",
        "other hardware" if found.timing else scale(shares(found.runs)),
        tuple(np.exp(ours) if rule.ratios else ours),
        estimate.n,
        p,
        rough=getattr(estimate, "random", False),
    )


def _estimate(values: Sequence[float], rule: Rule, examples: np.ndarray | None = None) -> Estimate:
    """What judges a value per seed: their mean, their signs, or the share above zero."""
    x = np.asarray(values, dtype=float)
    if not len(x):
        raise NotRun("no seed has all the runs")
    if not np.isfinite(x).all():
        raise NotTestable("a value is not finite")
    if rule.estimate == "share":
        return Share(int((x > 0).sum()), len(x))
    if rule.estimate == "signs":
        return Signs(x)
    if rule.ratios and (x <= 0).any():
        raise NotTestable("a ratio is not positive")
    return Mean(np.log(x) if rule.ratios else x, examples)


# ---------------------------------------------------------------------------------------- tables

DEFAULTS = {  # of a run's config where an older table does not have the column
    "image_size": None,
    "standardise": False,
    "rho": None,
    "sam_adaptive": False,
    "sam_dropout": True,
    "scaling": "none",
    "warmup": "none",
    "warmup_epochs": 0.0,
    "shuffle": "every",
    "first_epochs": 0,
    "first_batch_size": None,
    "local_workers": 1,
    "local_steps": 1,
    "patience": None,
    "patience_on": "accuracy",
    "target_loss": None,
    "keep": "last",
    "record_epochs": "[]",
}
MEASURES = ["run", "measure", "name", "examples", "options", "epoch", "value"]


class Study:
    """The exported tables of a study and a profile, and its parameters."""

    def __init__(self, root: Path, profile: str, name: str):
        """Read tables and parameters."""
        self.root, self.profile, self.name = root, profile, name
        values = [self._yaml(file) for file in ("quick", profile)]
        self.p: dict[str, Any] = values[0] | values[1]
        runs = self.table("runs")
        for column, default in DEFAULTS.items():
            if column not in runs:
                runs[column] = default
            elif default is not None:
                runs[column] = runs[column].where(runs[column].notna(), default)
        options = runs["network_options"].map(json.loads)
        runs["width"] = options.map(lambda o: o.get("width", 1.0))
        runs["dropout"] = options.map(lambda o: o.get("dropout"))
        self.runs = runs.set_index("run", drop=False, verify_integrity=True).rename_axis("id")

    def _yaml(self, profile: str) -> dict[str, Any]:
        file = self.root / "params" / self.name / f"{profile}.yaml"
        return yaml.safe_load(file.read_text(encoding="utf-8"))

    def table(self, name: str) -> pd.DataFrame:
        """Return an exported table, an empty one if there is none."""
        file = self.root / "reports" / "results" / self.profile / self.name / f"{name}.csv"
        ids = dict.fromkeys(("run", "measure", "plan"), str)
        return pd.read_csv(file, dtype=ids) if file.is_file() else pd.DataFrame()

    @cached_property
    def history(self) -> pd.DataFrame:
        """Return the rows per epoch, by run."""
        return self.table("history").set_index("run")

    @cached_property
    def measures(self) -> pd.DataFrame:
        """Return the measures of all runs that are one number."""
        return self.table("measures").reindex(columns=MEASURES)

    @cached_property
    def points(self) -> pd.DataFrame:
        """Return the rows of measures that have several, by run."""
        return self.table("points").set_index("run")

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """Return what every run made of the test examples, packed, by run."""
        table = self.table("outcomes")
        return table.drop_duplicates("run").set_index("run") if len(table) else table

    def select(self, **where: Any) -> pd.DataFrame:
        """Return the runs whose columns have some values; a list means one of them."""
        return matching(self.runs, **where)

    def side(self, sizes: Iterable[int], **where: Any) -> pd.DataFrame:
        """Return runs at some batch sizes, of the seeds that have them all.

        Raises:
            NotRun: if there are no runs at a batch size, or no seed has all.
        """
        runs = self.select(**where)
        return whole_seeds(runs[runs["batch_size"].isin(list(sizes))], "batch_size", sizes)

    def measure(self, name: str, examples: int, epoch: int | None = None, **options: Any):
        """Return a measure's value of every run that has it, by run."""
        table = self.measures
        known = (table["name"] == name) & (table["examples"] == examples)
        known &= table["epoch"].isna() if epoch is None else table["epoch"] == epoch
        table = table[known]
        same = [json.loads(text) == options for text in table["options"]]
        return table[same].set_index("run", verify_integrity=True)["value"]

    def rows(self, runs: pd.DataFrame, digest: str) -> pd.DataFrame:
        """Return the points of a measure of some runs, with their batch size and seed."""
        table = self.points[self.points["measure"] == digest]
        return table.join(runs[["batch_size", "seed"]], how="inner")

    def tested(self, runs: pd.DataFrame, column: str) -> np.ndarray | None:
        """Return accuracy or loss at each test example, mean over runs; None if one has none."""
        if self.outcomes.empty or not runs["run"].isin(self.outcomes.index).all():
            return None
        return np.mean([unpacked(row, column) for _, row in self.outcomes.loc[runs["run"]].iterrows()], 0)

    def seconds(self, **where: Any) -> pd.DataFrame:
        """Return seconds per epoch [repeat, batch size].

        Raises:
            NotRun: if there are fewer than five repeats.
        """
        times = self.table("timings")
        times = matching(times, **where) if len(times) else times
        if times.empty or times["repeat"].nunique() < 5:
            raise NotRun("fewer than five timings")
        return times.pivot_table("seconds", "repeat", "batch_size")


def digest(*parts: str) -> str:
    """Return the key that tables give to a measure of these parts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def matching(rows: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """Return the rows whose columns have some values; a list means one of them, None none."""
    for column, wanted in where.items():
        values = rows[column]
        if wanted is None:
            rows = rows[values.isna()]
        elif isinstance(wanted, float):
            rows = rows[np.isclose(values.astype(float), wanted, rtol=1e-5)]
        else:
            rows = rows[values.isin(wanted if isinstance(wanted, list | tuple) else [wanted])]
    return rows


def unpacked(row: pd.Series, column: str) -> np.ndarray:
    """Return the outcomes of a run: bits of right answers, or losses in steps of their logarithm."""
    name = {"test_accuracy": "correct", "test_loss": "loss"}[column]
    codes = np.frombuffer(zlib.decompress(base64.b64decode(row[name])), np.uint8)
    if name == "correct":
        return np.unpackbits(codes, count=int(row["n"])).astype(float)
    return np.exp(np.log(1e-6) + codes * np.log(1e8) / 255)  # 256 steps from 1e-6 to 100 nats


def whole_seeds(runs: pd.DataFrame, column: str, cells: Iterable) -> pd.DataFrame:
    """Return the runs of the seeds that have one for each of the cells.

    Raises:
        NotRun: if no seed has.
        ValueError: if a seed has two.
    """
    if runs.duplicated(["seed", column]).any():
        raise ValueError(f"two runs for one seed and {column}: {runs['run'].tolist()}")
    wanted = set(cells)
    if not wanted <= set(runs[column]):
        raise NotRun(f"{column} = {sorted(wanted - set(runs[column]))[0]:g}: no runs")
    has = runs[runs[column].isin(wanted)].groupby("seed")[column].nunique()
    runs = runs[runs["seed"].isin(has.index[has == len(wanted)]) & runs[column].isin(wanted)]
    if runs.empty:
        raise NotRun("no seed has all the runs")
    return runs.sort_values(["seed", column])


def shared_seeds(*sides: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the runs of the seeds that all sides have.

    Raises:
        NotRun: if they have none in common.
    """
    seeds = set.intersection(*(set(one["seed"]) for one in sides))
    if not seeds:
        raise NotRun("no seed has all the runs")
    return [one[one["seed"].isin(seeds)] for one in sides]


def table_of(runs: pd.DataFrame, column: str, across: str = "batch_size") -> pd.DataFrame:
    """Return a column [seed, batch size]."""
    return runs.pivot(index="seed", columns=across, values=column)


# --------------------------------------------------------------------------------------- studies

STUDIES: dict[str, Callable] = {}

# ------------------------------------------------------------------------------------ comparison

CORRECTED = "confirm"  # the profile whose primary claims are corrected for their number
FRESH = 10  # the first seed that nobody had looked at; with others three seeds decide


def verdicts(root: Path, profile: str) -> dict[str, dict[str, Verdict]]:
    """Return the verdicts of a profile by study and claim."""
    lock = json.loads((root / "bsglib/studies/claims.lock").read_text(encoding="utf-8"))
    found, p = {}, {}
    for name, entries in lock.items():
        rules = {claim: Rule.of(entry) for claim, entry in entries.items()}
        p |= {(name, claim): 1.0 for claim, rule in rules.items() if rule.primary}
        if not (root / "reports" / "results" / profile / name / "runs.csv").is_file():
            continue
        study = Study(root, profile, name)
        statistics, shares = STUDIES[name](study)
        few = 3 if (study.runs["seed"] < FRESH).any() else 5
        terms = shares, few, 10 if profile == CORRECTED else few
        found[name] = {c: judge(statistics[c], rule, *terms) for c, rule in rules.items()}
        p |= {(name, claim): found[name][claim].p for claim in rules if rules[claim].primary}
    if profile == CORRECTED:
        for (name, claim), adjusted in holm(p).items():
            one = found.get(name, {}).get(claim)
            if one and one.ours and one.word in ORDER[:3] + ORDER[-1:] and adjusted >= ALPHA:
                found[name][claim] = replace(one, word="undecided after correction", size="")
    return found


def differences(root: Path, profile: str) -> list[str]:
    """Return where the published verdicts of a profile are not those recomputed, a line each."""
    lines = []
    recomputed = verdicts(root, profile)
    for file in sorted((root / "reports" / profile / "figures").glob("*/verdicts.csv")):
        name = file.parent.name
        published = pd.read_csv(file, dtype=str, keep_default_na=False).set_index("claim")
        ours = recomputed.get(name, {})
        for claim in sorted(set(published.index) ^ set(ours)):
            lines.append(f"{profile}, {name}, {claim}: only in one of the two")
        for claim, row in published.iterrows():
            if claim in ours:
                where = f"{profile}, {name}, {claim}"
                lines += [f"{where}: {text}" for text in differing(row, ours[claim])]
    return lines


def differing(row: pd.Series, ours: Verdict) -> Iterable[str]:
    """Yield in what a published row differs from a verdict."""
    for column, mine in (
        ("verdict", ours.word),
        ("size", ours.size),
        ("scale", ours.scale),
        ("n", str(ours.n)),
    ):
        if row[column] != mine:
            because = f" ({ours.why})" if ours.why else ""
            yield f"{column} {row[column]!r}, recomputed {mine!r}{because}"
    numbers = re.findall(r"-?[\d.]+|-?∞", row["ours"].replace(",", "").replace("[", " "))
    mine = ours.ours or ()
    if len(numbers) != len(mine) or not all(map(_agree, numbers, mine, [ours.rough] * 3)):
        shown = " ".join(f"{x:.6g}" for x in mine) or "-"
        yield f"ours {row['ours']!r}, recomputed {shown}"


def _agree(text: str, value: float, rough: bool = False) -> bool:
    """Whether a printed number is a value, to one unit of its last digit."""
    if "∞" in text:
        return math.isinf(value) and (value < 0) == text.startswith("-")
    digits = len(text.partition(".")[2])
    unit = 10.0**-digits
    if not digits:  # three digits at least are printed
        unit = 1.0
    return abs(float(text) - value) <= (0.1 if rough else 1.01 * unit)


MANIFEST = "MANIFEST.json"


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file under a folder but the manifest."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }


def changed(folder: Path) -> list[str]:
    """Return which files are not as the manifest says, a line each."""
    file = folder / MANIFEST
    if not file.is_file():
        return [f"{file}: missing; --manifest writes it"]
    listed, there = json.loads(file.read_text(encoding="utf-8")), digests(folder)
    lines = [f"{name}: not in {MANIFEST}" for name in there.keys() - listed.keys()]
    lines += [f"{name}: missing" for name in listed.keys() - there.keys()]
    both = there.keys() & listed.keys()
    lines += [f"{name}: another SHA-256 than in {MANIFEST}" for name in both if there[name] != listed[name]]
    return sorted(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, or write the manifest; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--manifest", action="store_true", help="write the manifest anew")
    parser.add_argument("--root", type=Path, default=HERE, help="of the repository")
    options = parser.parse_args(arguments)
    results = options.root / "reports" / "results"
    if options.manifest:
        text = json.dumps(digests(results), indent=1)
        (results / MANIFEST).write_text(text + "\n", encoding="utf-8")
        return 0
    lines = changed(results)
    for folder in sorted(p for p in results.iterdir() if p.is_dir()):
        lines += differences(options.root, folder.name)
    print("\n".join(lines) or "All verdicts recomputed: no difference.")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
