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
import contextlib
import hashlib
import json
import math
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy import stats

HERE = Path(__file__).resolve().parents[1]
ALPHA = 0.05
FRESH = 10  # the first seed that nobody had looked at; with others three seeds decide

# ------------------------------------------------------------------------------------ statistics


class Estimate:
    """A centre from n seeds, with an interval at any level and the tails beyond a value."""

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
        if self.random:
            exchanged = ([draw(s) for s in sets] if i else sets for i in range(self.DRAWS))
        else:
            exchanged = product(*(permutations(s) for s in sets))
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
        ratios = rule.get("ratios", False)
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
    others: dict[str, Sequence[float] | Estimate] = field(default_factory=dict)  # by measure
    timing: bool = False  # the values are times, or contain them
    repeats: bool = False  # one value is one repeat of a timing


def judge(statistic: Callable, rule: Rule, study: "Study", needed: int) -> Verdict:
    """Return the verdict on a claim, or on a part of it, before a correction.

    A statistic returns what was found, or the statistics of several parts by name; one that cannot
    is not run or not testable. Orders need six seeds: fewer signs exclude nothing.
    """
    study.needed = needed
    try:
        found = statistic()
        if isinstance(found, dict):
            return composite([judge(part, rule, study, needed) for part in found.values()])
        estimate = found.estimate or _estimate(found.values, rule, found.examples)
        least = 5 if found.repeats else max(needed, 6) if rule.estimate == "signs" else needed
        if found.estimate is None and estimate.n < least:
            raise NotRun(f"{estimate.n} of {least}")
    except Absent as absent:
        return Verdict(absent.word, why=str(absent))
    word, p = direction(estimate, rule)
    if word == "same" and {"opposite", "no effect"} & set(_by_others(found, rule)):
        word = "depends on the measure"
    ours = np.array([estimate.centre, *estimate.interval(1 - ALPHA)])
    return Verdict(
        word,
        size(estimate, rule) if word == "same" else "",
        "other hardware" if found.timing else scale(study.shares(found.runs)),
        tuple(np.exp(ours) if rule.ratios else ours),
        estimate.n,
        p,
        rough=getattr(estimate, "random", False),
    )


def _by_others(found: Found, rule: Rule) -> Iterable[str]:
    """The directions by the other measures that have one."""
    for values in found.others.values():
        with contextlib.suppress(Absent):
            own = values if isinstance(values, Estimate) else _estimate(values, rule)
            yield direction(own, rule)[0]


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
    "evaluate_as_run": False,
}
MEASURES = ["run", "measure", "name", "examples", "options", "epoch", "value"]


class Study:
    """The exported tables of a study and a profile, and its parameters."""

    def __init__(self, root: Path, profile: str, name: str):
        """Read tables and parameters."""
        self.root, self.profile, self.name = root, profile, name
        self.needed = 1  # seeds, of the claim that is judged
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
        self.runs = runs.set_index("run", drop=False).rename_axis("id")

    @cached_property
    def margins(self) -> dict[str, dict[str, Any]]:
        """Return the smallest effects that matter, by kind of quantity."""
        file = self.root / "bsglib" / "studies" / "margins.yaml"
        return yaml.safe_load(file.read_text(encoding="utf-8"))

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
        """Return the measures that are one number, with their options but for the seed as text."""
        table = self.table("measures").reindex(columns=MEASURES)
        options = [json.loads(text) for text in table["options"]]
        kept = ({k: v for k, v in one.items() if k != "seed"} for one in options)
        return table.assign(options=[json.dumps(one, sort_keys=True) for one in kept])

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

    def compared(self, *sides: pd.DataFrame) -> list[pd.DataFrame]:
        """Return the runs of the seeds that all sides have, of which there have to be enough."""
        sides = shared_seeds(*sides)
        if (n := sides[0]["seed"].nunique()) < self.needed:
            raise NotRun(f"{n} of {self.needed} seeds")
        return sides

    def measure(self, name: str, examples: int, epoch: int | None = None, **options: Any):
        """Return a measure's value of every run that has it, by run; its seed is the run's."""
        known = {"name": name, "examples": examples, "epoch": epoch}
        text = json.dumps(options, sort_keys=True)
        return matching(self.measures, **known, options=text).set_index("run")["value"]

    def by_authors(self) -> pd.Series:
        """Return the metric as the authors' code computes it, by run."""
        theirs = self.measures["name"].astype(str).str.endswith(":authors_sharpness")
        return self.measures[theirs].set_index("run")["value"]

    def measured(self, column: str) -> None:
        """Refuse a column that no run has."""
        if self.runs[column].isna().all():
            raise NotRun(f"{column}: not measured in this profile")

    def rows(self, runs: pd.DataFrame, digest: str) -> pd.DataFrame:
        """Return the points of a measure of some runs, with their batch size and seed."""
        table = self.points[self.points["measure"] == digest]
        return table.join(runs[["batch_size", "seed"]], how="inner")

    def tested(self, runs: pd.DataFrame, column: str) -> np.ndarray | None:
        """Return accuracy or loss at each test example, mean over runs; None if one has none.

        A diverged run, which kept none, is right by chance.
        """
        if self.outcomes.empty:
            return None
        n, found = self.outcomes["n"].iloc[0], []
        for key, run in runs.iterrows():
            if key in self.outcomes.index:
                found.append(unpacked(self.outcomes.loc[key], column))
            elif run["stopped"] == "diverged" and column != "test_loss":
                found.append(np.full(n, 1 / run["classes"]))
            else:
                return None
        return np.mean(found, axis=0)

    def seconds(self, **where: Any) -> pd.DataFrame:
        """Return seconds per epoch [repeat, batch size]."""
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
    """Return the outcomes of a run: bits of right answers, or steps of log losses."""
    name = "loss" if column == "test_loss" else "correct"
    codes = np.frombuffer(zlib.decompress(base64.b64decode(row[name])), np.uint8)
    if name == "correct":
        return np.unpackbits(codes, count=int(row["n"])).astype(float)
    return np.exp(np.log(1e-6) + codes * np.log(1e8) / 255)  # 256 steps from 1e-6 to 100 nats


def whole_seeds(runs: pd.DataFrame, column: str, cells: Iterable) -> pd.DataFrame:
    """Return the runs of the seeds that have one for each of the cells."""
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
    """Return the runs of the seeds that all sides have."""
    seeds = set.intersection(*(set(one["seed"]) for one in sides))
    if not seeds:
        raise NotRun("no seed has all the runs")
    return [one[one["seed"].isin(seeds)] for one in sides]


def table_of(runs: pd.DataFrame, column: str, across: str = "batch_size") -> pd.DataFrame:
    """Return a column [seed, batch size]."""
    return runs.pivot(index="seed", columns=across, values=column)


# ------------------------------------------------------------------ what claims share: gates, means


def fail_if(runs: pd.DataFrame, wrong: pd.Series, why: str) -> None:
    """Refuse a comparison if something is wrong with one of the runs."""
    if wrong.any():
        run = runs[wrong].iloc[0]
        raise NotTestable(f"B = {run['batch_size']}, rate {run['base_lr']:g}: {why}")


def finite(*sides: pd.DataFrame) -> None:
    """Refuse diverged runs."""
    for runs in sides:
        fail_if(runs, runs["stopped"] == "diverged", "diverged")


def minima(*sides: pd.DataFrame) -> None:
    """Refuse runs that are no minimum: neither stopped by their rule nor fitted to 90 %."""
    finite(*sides)
    for runs in sides:
        stopped = runs["stopped"].isin(["patience", "target_loss"])
        fail_if(runs, ~stopped & ~(runs["train_accuracy"] >= 0.9), "not trained")


def above_chance(*sides: pd.DataFrame) -> None:
    """Refuse runs that learned nothing: a training accuracy below twice that of guessing."""
    finite(*sides)
    for runs in sides:
        fail_if(runs, ~(runs["train_accuracy"] >= 2 / runs["classes"]), "learned nothing")


def ended(*sides: pd.DataFrame) -> None:
    """Refuse runs that the last epoch cut off."""
    for runs in sides:
        fail_if(runs, runs["stopped"] == "epochs", "cut off by the last epoch")


def per_seed(runs: pd.DataFrame, column: str, *, ratios: bool = False) -> pd.Series:
    """Return the mean over a seed's runs, the geometric one for ratios; NaN if one is missing."""
    cells = runs[["seed", "batch_size", "base_lr"]].assign(value=runs[column].astype(float))
    table = cells.pivot(index="seed", columns=["batch_size", "base_lr"], values="value")
    return (
        np.exp(np.log(table).mean(axis=1, skipna=False))
        if ratios
        else table.mean(axis=1, skipna=False)
    )


def ratio(a: pd.DataFrame, b: pd.DataFrame, column: str) -> pd.Series:
    """Return a / b by seed."""
    return per_seed(a, column, ratios=True) / per_seed(b, column, ratios=True)


def difference(
    study: Study, a: pd.DataFrame, b: pd.DataFrame, column: str, unit: float = 1
) -> Found:
    """Return a - b by seed, with that at each test example where the column is of the test set."""
    a, b = shared_seeds(a, b)
    values, examples = unit * (per_seed(a, column) - per_seed(b, column)), None
    if column in ("test_accuracy", "test_loss", "final", "peak", "peak_as_run", "accuracy_gap"):
        both = study.tested(a, column), study.tested(b, column)
        if both[0] is not None and both[1] is not None:
            examples = unit * (both[0] - both[1])
    return Found(values, pd.concat([a, b]), examples=examples)


def points(study: Study, a: pd.DataFrame, b: pd.DataFrame, column: str = "test_accuracy") -> Found:
    """Return a - b in percentage points."""
    return difference(study, a, b, column, 100)


SOURCE, OTHERS = ("batch", "frozen"), ("frozen", "adaptive", "lambda_max")


def by_measure(by: Callable[[str], Sequence[float]], runs: pd.DataFrame) -> Found:
    """Return a statistic of the source's sharpness, and of the other measures that all runs have.

    The source's is that with batch statistics; a network without batch norm has it as "frozen".
    """
    has = [m for m in dict.fromkeys(SOURCE + OTHERS) if m in runs and runs[m].notna().all()]
    source = source_of(runs)
    return Found(by(source), runs, others={m: by(m) for m in has if m != source})


def source_of(runs: pd.DataFrame) -> str:
    """Return the source's measure of sharpness among those that all runs have."""
    return "batch" if "batch" in runs and runs["batch"].notna().all() else "frozen"


def sharper(a: pd.DataFrame, b: pd.DataFrame) -> Found:
    """Return the sharpness of a over that of b, by all measures."""
    a, b = shared_seeds(a, b)
    return by_measure(lambda column: ratio(a, b, column), pd.concat([a, b]))


def ranks(runs: pd.DataFrame, column: str, across: str = "batch_size") -> pd.Series:
    """Return each seed's rank correlation of a column with the batch size, or another column."""
    return runs.groupby("seed").apply(lambda own: float(tau(own[across], own[column])))


def control(study: Study, kind: str, claimed: str, values: Callable[[], pd.Series]) -> None:
    """Refuse claims of a kind if an effect that has to appear does not."""
    margin = study.margins[kind]
    on_scale = math.log if margin.get("ratios") else float
    claimed_as, wanted = ("equal", "opposite") if claimed == "differ" else (claimed, "same")
    rule = Rule(
        claimed_as,
        0.0,
        on_scale(margin["size"]),
        bool(margin.get("ratios")),
        None,
        (),
        "mean",
        False,
    )
    estimate = _estimate(values(), rule)
    if estimate.n < 2 or direction(estimate, rule)[0] != wanted:
        raise NotTestable(f"positive control of {kind}")


# ----------------------------------------------------------------------------------------- keskar


class Keskar(Study):
    """The runs of Keskar et al.: SB and LB of every network, and what varies them."""

    def __init__(self, root: Path, profile: str, name: str):
        """Add errors, and the measures of sharpness as columns."""
        super().__init__(root, profile, name)
        test_error = 1 - self.runs["test_accuracy"]
        gap = test_error - (1 - self.runs["train_accuracy"])
        self.runs = self.runs.assign(test_error=test_error, generalization_gap=gap)
        for of, net in self.p["networks"].items():
            mine = matching(self.runs, **self.network(net)).index
            self.runs.loc[mine, "name"] = of
            for column, values in self.sharpness(net).items():
                self.runs.loc[mine, column] = values.reindex(mine)

    def network(self, net: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a network's runs."""
        size = {"train_size": net["train_size"]} if net.get("train_size") else {}
        fields = {"network": net["model"], "dataset": net["dataset"], "seed": net["seeds"]}
        return fields | size | {"width": float(net.get("width", 1)), "dropout": net.get("dropout")}

    def sharpness(self, net: dict[str, Any], epoch: int | None = None) -> dict[str, pd.Series]:
        """Return the measures of a network's runs by their names."""
        p = self.p
        n, few = (net.get(f"{k}_examples", p[f"{k}_examples"]) for k in ("sharpness", "curvature"))
        box = {"epsilon": p["epsilon"], "max_iter": p["max_iter"]}
        keskar = partial(self.measure, "keskar_sharpness", n, epoch, **box)
        return {
            "frozen": keskar(),
            "batch": keskar(batch_norm="batch"),
            "adaptive": keskar(epsilon=p["adaptive_epsilon"], adaptive=True),
            "lambda_max": self.measure("lambda_max", few, epoch),
            "subspace": keskar(subspace=p["subspace"]),
            "batch_subspace": keskar(subspace=p["subspace"], batch_norm="batch"),
            "unit_columns": keskar(subspace=p["subspace"], distribution="gaussian_unit"),
            "uniform_columns": keskar(subspace=p["subspace"], distribution="uniform_unit"),
        }

    def main(self, name: str, sizes: Iterable[int], **changes: Any) -> pd.DataFrame:
        """Return a network's runs at the paper's rate, or with changes, of some batch sizes."""
        net = self.p["networks"][name]
        fields = self.network(net) | {"base_lr": float(self.p["lr"]), "first_epochs": 0}
        fields |= {"patience": self.p["patience"], "target_loss": None}
        fields |= changes
        epochs = fields.pop("epochs", net["epochs"])
        runs = self.select(**fields)
        if fields["patience"] is None and fields["target_loss"] is None:  # others end earlier
            early = (runs["stopped"] == "diverged") & (runs["epochs"] < epochs)
            runs = runs[early | (runs["epochs"] == epochs)].drop_duplicates(["seed", "batch_size"])
        return whole_seeds(runs[runs["batch_size"].isin(sizes)], "batch_size", sizes)

    def two(self, name: str) -> tuple[int, int]:
        """Return the small and the large batch size of a network."""
        net = self.p["networks"][name]
        return net["small_batch_size"], net["large_batch_size"]

    def line(self, name: str) -> pd.DataFrame:
        """Return the training loss on the straight line, from SB at 0 to LB at 1: [seed, alpha]."""
        p, found = self.p, []
        small, large = (self.main(name, [b]) for b in self.two(name))
        options = {"points": p["line_points"], "path": "linear"}
        options |= {"batch_norm": "batch"} if p.get("thorough") else {}
        for _, run in small.iterrows():
            start = self._start(name, int(run["seed"]))
            if digest(start) != run["run"]:
                raise ValueError(f"{name}, seed {run['seed']}: no run of config {start}")
            key = "interpolate", str(p["line_examples"]), json.dumps(options, sort_keys=True)
            found.append(self.rows(large[large["seed"] == run["seed"]], digest(*key, start)))
        rows = matching(pd.concat(found), set="train")
        return rows.assign(alpha=rows["alpha"].round(6)).pivot(
            index="seed", columns="alpha", values="loss"
        )

    def _start(self, name: str, seed: int) -> str:
        """Return the config of SB as the key of a line has it: what differs from the defaults."""
        p, net = self.p, self.p["networks"][name]
        options = {"width": float(net.get("width", 1))}
        options |= {"dropout": net["dropout"]} if net.get("dropout") is not None else {}
        own = seed if seed >= FRESH else 0
        config = {
            "base_lr": p["lr"],
            "batch_size": net["small_batch_size"],
            "dataset": net["dataset"],
            "epochs": net["epochs"],
            "evaluate": "log",
            "network": net["model"],
            "network_options": options,
            "optimizer": "adam",
            "patience_on": "loss",
        }
        more = {
            "dtype": (p["dtype"], "float32"),
            "patience": (p["patience"], None),
            "record_epochs": (sorted(net.get("evolution_epochs", [])) * (not p["patience"]), []),
            "record_path": (bool(p.get("thorough")), False),
            "seed": (seed, 0),
            "split_seed": (own, 0),
            "train_size": (net.get("train_size"), None),
            "validation_fraction": (p["validation_fraction"], 0.1),
        }
        config |= {field: value for field, (value, default) in more.items() if value != default}
        return json.dumps(config, sort_keys=True)

    @cache  # noqa: B019
    def path(self, name: str, b: int) -> pd.DataFrame:
        """Return a batch size's states after its recorded epochs, of the seeds that have them all.

        A state is that of a run that keeps it, or of one that ends there.
        """
        net, states = self.p["networks"][name], []
        fields = self.network(net) | {"base_lr": float(self.p["lr"]), "batch_size": b}
        runs = self.select(**fields, first_epochs=0, target_loss=None, patience=None)
        kept = runs["record_epochs"].map(json.loads)
        for epoch in (epochs := net.get("evolution_epochs") or [0]):
            recorded = runs[kept.map(lambda of_run, e=epoch: e in of_run)]
            if len(recorded):
                rows = self.history[self.history["epoch"] == epoch].drop(columns="epoch")
                measured = pd.DataFrame(self.sharpness(net, epoch))
                state = recorded.drop(columns=[*rows, *measured], errors="ignore")
                state = state.join(rows, how="left").join(measured)
                state["stopped"] = state["stopped"].where(state["stopped"] == "diverged", "epochs")
                ended_there = state["epochs"] == epoch  # else the test outcomes are not its own
                state.index = state.index.where(ended_there, state.index + f", epoch {epoch}")
            else:
                state = runs[runs["epochs"] == epoch]
            states.append(state.assign(epochs=epoch))
        return whole_seeds(pd.concat(states), "epochs", epochs)

    def at_rates(self, name: str, *sizes: int) -> pd.DataFrame:
        """Return the runs at the rates that are tried, of the seeds that have all of them."""
        rates = {float(r) for r in (self.p["lr"], *self.p["networks"][name]["lrs"])}
        return pd.concat(shared_seeds(*(self.main(name, sizes, base_lr=r) for r in sorted(rates))))

    @staticmethod
    def trained(runs: pd.DataFrame) -> pd.DataFrame:
        """Return the runs at the rates at which all are trained."""
        rates = [own for _, own in runs.groupby("base_lr") if passes(minima, own)]
        if not rates:
            raise NotTestable("trained at no rate")
        return pd.concat(rates)

    def shows(self, name: str, kind: str) -> None:
        """Refuse claims of a kind on a network whose small batch does not show the effect."""
        net = self.p["networks"][name]
        if name not in ("F2", "C1") or not net.get(
            "lrs" if kind == "sharpness" else "evolution_epochs"
        ):
            return

        def along(column: str, unit: float = 1) -> pd.Series:
            path = self.path(name, self.two(name)[0])
            finite(path)
            table = table_of(path, column, "epochs")
            return unit * (table[max(table)] - table[min(table)])

        def between_rates() -> pd.Series:
            runs = self.trained(self.at_rates(name, self.two(name)[0]))
            table = table_of(runs, source_of(runs), "base_lr")
            return table[max(table)] / table[min(table)]

        if kind == "accuracy":
            control(self, kind, "above", lambda: along("test_accuracy", 100))
        elif kind == "loss":
            control(self, kind, "below", lambda: along("train_loss"))
        else:
            control(self, kind, "differ", between_rates)

    def pair(self, name: str, condition: str = "main") -> list[pd.DataFrame]:
        """Return SB and LB of a network under a condition, of the seeds that both have."""
        net, two, sides = self.p["networks"][name], self.two(name), []
        if condition in ("epochs", "script"):
            paths = [self.path(name, b) for b in two]
            last = max(epochs := sorted(set(paths[0]["epochs"])))
            if condition == "script":  # whose last epoch is 20
                last = min(epochs, key=lambda epoch: abs(math.log(epoch / 20)))
            sides = [path[path["epochs"] == last] for path in paths]
        elif condition == "updates":
            if not (e := net.get("equal_updates_epochs")):
                raise NotRun("no equal updates")
            for b, epochs in zip(two, (e, round(e * two[1] / two[0])), strict=True):
                sides.append(self.main(name, [b], patience=None, epochs=epochs, record_epochs="[]"))
        elif condition == "loss":
            if not (loss := net.get("equal_loss")):
                raise NotRun("no equal loss")
            to_loss = {"patience": None, "target_loss": float(loss)}
            sides = [self.main(name, [b], **to_loss) for b in two]
        else:
            sides = [self.main(name, [b]) for b in two]
        return self.compared(*sides)

    def fit(self, name: str, condition: str, kind: str) -> list[pd.DataFrame]:
        """Return SB and LB, if they are fit for a claim on accuracy or sharpness."""
        sides = self.pair(name, condition)
        self.shows(name, kind)
        gate = above_chance if kind == "accuracy" or condition == "script" else minima
        gate(*sides)
        if condition == "loss":
            losses = [runs["train_loss"].mean() for runs in sides]
            if max(losses) > 1.1 * min(losses):
                raise NotTestable("training losses differ by more than a tenth")
        return sides

    def tuned(self, name: str, kind: str) -> list[pd.DataFrame]:
        """Return SB and LB at the rates at which both are trained."""
        if not self.p["networks"][name].get("lrs"):
            raise NotRun("no rates are tried")
        (runs,) = self.compared(self.at_rates(name, *self.two(name)))
        self.shows(name, kind)
        runs = self.trained(runs)
        return [runs[runs["batch_size"] == b] for b in self.two(name)]

    def sizes(self, name: str) -> pd.DataFrame:
        """Return a network's runs at all batch sizes."""
        net = self.p["networks"][name]
        if not net.get("other_batch_sizes"):
            raise NotRun("no other batch sizes")
        return self.main(name, sorted({*self.two(name), *net["other_batch_sizes"]}))

    def switched(self, name: str) -> pd.DataFrame:
        """Return LB alone and after some epochs with SB."""
        net, (small, large), runs = self.p["networks"][name], self.two(name), []
        for k in (switches := [0, *net.get("switch_epochs", [])]):
            lasts = {"epochs": k + net["epochs"]} if self.p["patience"] is None else {}
            runs.append(self.main(name, [large], first_epochs=k, **lasts))
            runs[-1] = matching(runs[-1], first_batch_size=float(small)) if k else runs[-1]
        if len(switches) < 2:
            raise NotRun("no warm starts")
        return whole_seeds(pd.concat(runs), "first_epochs", switches)

    def shares(self, runs: pd.DataFrame) -> Iterable[tuple[float, float, float, bool]]:
        """Yield what each run has of the paper's updates, examples and width; whether other data.

        The paper's figures have 100 epochs, SB 256 and LB a tenth of the data.
        """
        source = {"f1": ("mnist", 60_000), "f2": ("timit", 721_329)}
        for _, run in runs.iterrows():
            cifar = "cifar100" if run["name"] in ("C3", "C4") else "cifar10"
            data, whole = source.get(run["network"], (cifar, 50_000))
            n, b, (small, large) = run["train_size"], run["batch_size"], self.two(run["name"])
            per_epoch = {small: whole / 256, large: 10}.get(b, n / b)
            done = (run["epochs"] - run["first_epochs"]) * math.ceil(n / b) / (100 * per_epoch)
            part = min(1.0, done) if run["stopped"] == "epochs" else 1.0
            yield part, n / whole, run["width"], run["dataset"] != data

    # Statistics.

    def training(self, name: str) -> Found:
        """Return the difference of training accuracies, SB - LB, where SB is trained."""
        small, large = self.fit(name, "main", "accuracy")
        minima(small)
        return points(self, small, large, "train_accuracy")

    def subspace(self, name: str) -> Found:
        """Return the ratio of the sharpness in a random subspace, by all its distributions."""
        small, large = self.fit(name, "main", "sharpness")
        has = [m for m in SUBSPACES if small[m].notna().all() and large[m].notna().all()]
        values = {m: ratio(large, small, m) for m in has or ["subspace"]}
        source, *others = values
        return Found(
            values[source], pd.concat([small, large]), others={m: values[m] for m in others}
        )

    def adaptive(self, name: str) -> Found:
        """Return the ratio of the sharpness in the box that scales with the weights."""
        small, large = self.fit(name, "main", "sharpness")
        return Found(ratio(large, small, "adaptive"), pd.concat([small, large]))

    def on_line(self, name: str, *, agree: bool) -> Found:
        """Return how much more the loss rises around LB, or whether it agrees with sharpness."""
        small, large = self.pair(name)
        self.shows(name, "loss")
        minima(small, large)
        if (0.25 * (self.p["line_points"] - 1) / 3) % 1:
            raise NotTestable("no points on the line at a quarter")
        rise = steeper(self.line(name))
        if agree:
            sharpness = ratio(large, small, source_of(pd.concat([small, large])))
            rise = np.sign(rise * np.log(sharpness[rise.index]))
        return Found(rise, pd.concat([small, large]))

    def warm_start(self, name: str, first: int, kind: str = "accuracy") -> Found:
        """Return what the latest switch gains over none or over the earliest."""
        (runs,) = self.compared(self.switched(name))
        self.shows(name, kind)
        runs = runs[runs["first_epochs"] > 0] if first else runs
        (above_chance if kind == "accuracy" else minima)(runs)
        early, late = (runs[runs["first_epochs"] == f(runs["first_epochs"])] for f in (min, max))
        found = points(self, late, early) if kind == "accuracy" else sharper(early, late)
        return replace(found, runs=runs)

    def evolution(self, name: str, place: int) -> Found:
        """Return the rank correlation of training loss and sharpness over the epochs."""
        paths = self.compared(*(self.path(name, b) for b in self.two(name)))
        self.shows(name, "sharpness")
        mine = paths[place]
        finite(mine)
        minima(mine[mine["epochs"] == mine["epochs"].max()])
        has = [m for m in SOURCE if mine[m].notna().all()]
        if not has:
            raise NotTestable("a state has no sharpness")
        values = {m: ranks(mine, m, "train_loss") for m in has}
        ends = [path[path["epochs"] == path["epochs"].max()] for path in paths]
        return Found(values[has[0]], pd.concat(ends), others={m: values[m] for m in has[1:]})

    def correlation(self, name: str, column: str) -> Found:
        """Return the rank correlation of sharpness and a column over trained configurations."""
        if not self.p["networks"][name].get("lrs"):
            raise NotRun("no rates are tried")
        sides = self.sizes(name), self.at_rates(name, *self.two(name))
        runs = pd.concat(self.compared(*sides)).drop_duplicates("run")
        self.shows(name, "sharpness")
        cells = [own for _, own in runs.groupby(["batch_size", "base_lr"]) if passes(minima, own)]
        if len(cells) < 4:
            raise NotTestable(f"{len(cells)} trained configurations")
        mine = pd.concat(cells)
        means = mine.groupby(["batch_size", "base_lr"])[[*SOURCE, column]].mean().reset_index()
        groups = [list(g.index) for by in ("batch_size", "base_lr") for _, g in means.groupby(by)]
        groups = [group for group in groups if len(group) > 1]
        has = [m for m in SOURCE if mine[m].notna().all()]
        found = {m: Permuted(means[m], means[column], groups) for m in has}
        return Found((), runs, estimate=found[has[0]], others={m: found[m] for m in has[1:]})


SUBSPACES = ("batch_subspace", "subspace", "unit_columns", "uniform_columns")


def passes(gate: Callable, *sides: pd.DataFrame) -> bool:
    """Whether runs pass a gate."""
    try:
        gate(*sides)
    except NotTestable:
        return False
    return True


def keskar(study: Keskar) -> dict[str, Callable]:
    """Return the statistic of each claim."""
    s, found = study, {}

    def missing() -> Found:
        raise NotRun("in no design")

    def of(name: str, condition: str, kind: str) -> Found:
        by = s.tuned(name, kind) if condition == "tuned" else s.fit(name, condition, kind)
        return points(s, *by) if kind == "accuracy" else sharper(by[1], by[0])

    def ordered(name: str, kind: str) -> Found:
        (runs,) = s.compared(s.sizes(name))
        s.shows(name, kind)
        (above_chance if kind == "accuracy" else minima)(runs)
        if kind == "accuracy":
            return Found(ranks(runs, "test_accuracy"), runs)
        return by_measure(lambda measure: ranks(runs, measure), runs)

    def guarded(name: str, statistic: Callable, *arguments: Any, **named: Any) -> Callable:
        return partial(statistic, name, *arguments, **named) if name in s.p["networks"] else missing

    for name in ("F1", "F2", "C1", "C2", "C3", "C4"):
        claims = {
            "training": guarded(name, s.training),
            "gap": guarded(name, of, "main", "accuracy"),
            "sharper": guarded(name, of, "main", "sharpness"),
            "sharper-subspace": guarded(name, s.subspace),
            "sharper-adaptive": guarded(name, s.adaptive),
            "line": guarded(name, s.on_line, agree=False),
            "agree": guarded(name, s.on_line, agree=True),
        }
        if name in ("F2", "C1"):
            claims |= {
                "sharpness-rises": guarded(name, ordered, "sharpness"),
                "accuracy-falls": guarded(name, ordered, "accuracy"),
                "switch-works": guarded(name, s.warm_start, 0),
                "switch-timing": guarded(name, s.warm_start, 1),
                "switch-flatter": guarded(name, s.warm_start, 0, "sharpness"),
                "evolution-small": guarded(name, s.evolution, 0),
                "evolution-large": guarded(name, s.evolution, 1),
                "correlation": guarded(name, s.correlation, "test_error"),
                "correlation-gap": guarded(name, s.correlation, "generalization_gap"),
            }
            claims["gap-as-run"] = guarded(name, of, "script", "accuracy")
            claims["sharper-as-run"] = guarded(name, of, "script", "sharpness")
            for condition in ("epochs", "tuned", "updates", "loss"):
                claims[f"gap-{condition}"] = guarded(name, of, condition, "accuracy")
                claims[f"sharper-{condition}"] = guarded(name, of, condition, "sharpness")
        found |= {f"keskar-{name.lower()}-{claim}": each for claim, each in claims.items()}
    later = ("augmentation", "adversarial", "line-search", "resilient")
    return found | {f"keskar-{claim}": missing for claim in later}


# ------------------------------------------------------------------------------------------ chang


class Chang(Study):
    """The runs of Chang & Pathak: a grid of batch sizes and rates, and runs to one loss."""

    def __init__(self, root: Path, profile: str, name: str):
        """Add the gap of losses, the lowest running loss, and the measures of sharpness."""
        super().__init__(root, profile, name)
        p, more = self.p, self.p.get("confirm") or {}
        self.sizes = sorted(p["batch_sizes"])
        self.smallest, self.largest = self.sizes[0], self.sizes[-1]
        box = {"epsilon": p["epsilon"], "max_iter": p["max_iter"]}
        keskar = partial(self.measure, "keskar_sharpness", p["sharpness_examples"], **box)
        self.runs = self.runs.assign(
            gap=self.runs["validation_loss"] - self.runs["train_loss"],
            lowest_running=self.history.groupby(level=0)["running_loss"].min(),
            frozen=keskar(),
            adaptive=keskar(epsilon=more.get("adaptive_epsilon"), adaptive=True),
            lambda_max=self.measure("lambda_max", more.get("curvature_examples", 0)),
            authors=self.by_authors(),
        )

    def grid(self, sizes: Iterable[int], **changes: Any) -> pd.DataFrame:
        """Return runs of the grid, stopped by the validation loss: by default at the fixed rate."""
        fields = {"base_lr": float(self.p["lr"]), "patience": self.p["patience"]}
        fields |= {"target_loss": None, "rho": None, "shuffle": "every"}
        fields |= {"seed": [*self.p["seeds"], *self.p["more_seeds"]]}
        runs = self.select(**fields | changes)
        few = (self.p.get("confirm") or {}).get("control_epochs")
        runs = runs[~((runs["stopped"] == "epochs") & (runs["epochs"] == few))]
        return whole_seeds(runs[runs["batch_size"].isin(sizes)], "batch_size", sizes)

    def scaled(self, sizes: Iterable[int]) -> pd.DataFrame:
        """Return the runs at the linearly scaled rate."""
        rates = {b: float(self.p["lr"] * b / self.smallest) for b in sizes}
        runs = [self.grid([b], base_lr=rate) for b, rate in rates.items()]
        return whole_seeds(pd.concat(runs), "batch_size", sizes)

    def to_one_loss(self) -> pd.DataFrame:
        """Return the runs that stop at one training loss."""
        loss = float(self.p["equal_loss"])
        return self.grid(self.sizes, patience=None, target_loss=loss, seed=self.p["seeds"])

    def whole_grid(self) -> pd.DataFrame:
        """Return the runs at all batch sizes and rates, of the seeds that have them all."""
        rates = [
            self.grid(self.sizes, base_lr=float(r), seed=self.p["seeds"]) for r in self.p["lrs"]
        ]
        return pd.concat(self.compared(*rates))

    def points_of(self, runs: pd.DataFrame, name: str, examples: int = 0, **options: Any):
        """Return the rows of a measure of some runs."""
        return self.rows(runs, digest(name, str(examples), json.dumps(options, sort_keys=True)))

    def seen(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Return the history of some runs, with batch size and seed."""
        return self.history.join(runs[["batch_size", "seed"]], how="inner")

    def epoch_distances(self) -> pd.DataFrame:
        """Return the distance per epoch [(seed, epoch), batch size] at both ends."""
        rows = self.seen(self.grid([self.smallest, self.largest]))
        return rows.pivot(
            index=["seed", "epoch"], columns="batch_size", values="epoch_distance"
        ).dropna()

    def median_norms(self) -> pd.DataFrame:
        """Return the median norm of the updates [seed, batch size]."""
        rows = self.points_of(self.grid(self.sizes), "update_norms")
        return table_of(rows[rows["level"].round(6) == 0.5], "norm")

    def best_rates(self) -> pd.DataFrame:
        """Return the rate of the lowest validation loss [seed, batch size]; diverged ones lose."""
        runs = self.whole_grid()
        runs = runs[runs["stopped"] != "diverged"].sort_values("base_lr")
        best = runs.loc[runs.groupby(["seed", "batch_size"])["validation_loss"].idxmin()]
        return table_of(best, "base_lr")

    def shares(self, runs: pd.DataFrame) -> Iterable[tuple[float, float, float, bool]]:
        """Yield what each run has of the paper's updates, images and width; whether other data.

        The paper has 158 epochs at B = 32 and 958 at 256, a power law between them, and a patience
        of 100; at other rates than the fixed one about as many epochs at 256 as at 32.
        """
        for _, run in runs.iterrows():
            b, part = run["batch_size"], 1.0
            if run["stopped"] == "epochs":
                fixed = math.isclose(run["base_lr"], self.p["lr"], rel_tol=1e-5)
                power = math.log(b / 32) / math.log(8) if fixed else 0.0
                epochs = 158 * (958 / 158) ** power + 100
                part = run["updates"] / (epochs * math.ceil(18_610 / b))
            yield part, run["train_size"] / 18_610, run["width"], run["dataset"] != "cats_vs_dogs"

    # What makes runs fit for a claim.

    def learned(self, *sides: pd.DataFrame) -> None:
        """Refuse diverged runs, and validation losses above .95 of that of guessing."""
        finite(*sides)
        for runs in sides:
            chance = runs["validation_loss"] > 0.95 * np.log(runs["classes"])
            fail_if(runs, chance, "no better than chance")

    def shows(self, kind: str) -> None:
        """Refuse claims of a kind unless a control differs from the smallest batch's fixed rate.

        With SAM it is flatter, and after a few epochs its loss higher, its distance and time less.
        """
        if (confirm := self.p.get("confirm")) is None:
            return
        one, flat = [self.smallest], kind == "sharpness"
        of, column, claimed = {
            "losses": ("ratio of losses", "validation_loss", "above"),
            "epochs": ("epochs", "kept_epoch", "below"),
            "distance": ("distance", "distance", "below"),
            "sharpness": ("sharpness", "frozen", "below"),
        }[kind]

        def values() -> pd.Series:
            few = {"stopped": "epochs", "epochs": confirm["control_epochs"]}
            runs = self.select(batch_size=self.smallest, **few)
            runs = self.grid(one, rho=float(confirm["control_rho"])) if flat else runs
            a, b = shared_seeds(whole_seeds(runs, "batch_size", one), self.grid(one))
            if flat:
                self.learned(a, b)
            (minima if flat else finite)(a, b)
            return ratio(a, b, column)

        control(self, of, claimed, values)

    def fit(self, kind: str, *sides: pd.DataFrame) -> None:
        """Refuse runs that do not test claims on losses, epochs, distances or sharpness."""
        self.compared(*sides)
        self.shows(kind)
        self.learned(*sides)
        (ended if kind in ("losses", "epochs") else minima)(*sides)

    # Statistics: the largest batch against the smallest.

    def ends(self, runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the runs of the largest and of the smallest batch."""
        return tuple(runs[runs["batch_size"] == b] for b in (self.largest, self.smallest))

    def more(self, kind: str, runs: pd.DataFrame, column: str, *, ratios: bool = False) -> Found:
        """Return the largest batch's value minus the smallest's, or over it."""
        self.fit(kind, runs)
        large, small = self.ends(runs)
        if ratios:
            return Found(ratio(large, small, column), runs)
        return difference(self, large, small, column)

    def order(self, kind: str, column: str) -> Found:
        """Return the rank correlation of a column with the batch size."""
        runs = self.grid(self.sizes)
        self.fit(kind, runs)
        if len(self.sizes) < 3:
            raise NotRun("fewer than three batch sizes")
        if kind == "sharpness":
            return by_measure(lambda measure: ranks(runs, measure), runs)
        return Found(ranks(runs, column), runs)

    def pair(self) -> pd.DataFrame:
        """Return the runs of the largest and the smallest batch at the fixed rate."""
        return self.compared(self.grid([self.smallest, self.largest]))[0]

    def slower(self) -> Found:
        """Return the running loss at the epoch of the smallest batch's lowest validation loss."""
        runs = self.pair()
        self.learned(runs)
        ended(self.ends(runs)[1])
        self.shows("losses")
        until = self.ends(runs)[1].set_index("seed")["kept_epoch"]
        rows = self.seen(runs)
        rows = rows[rows["epoch"] <= rows["seed"].map(until)].sort_values("epoch")
        last = rows.groupby(["seed", "batch_size"])["running_loss"].last().unstack()
        return Found(last[self.largest] - last[self.smallest], runs)

    def equal_updates(self) -> Found:
        """Return the lowest validation loss up to the updates of a seed's shorter run."""
        runs = self.pair()
        self.learned(runs)
        self.shows("losses")
        rows = self.seen(runs)
        until = rows.groupby(["seed", "batch_size"])["updates"].max().groupby("seed").min()
        rows = rows[rows["updates"] <= rows["seed"].map(until)]
        lowest = rows.groupby(["seed", "batch_size"])["validation_loss"].min().unstack()
        return Found(lowest[self.largest] - lowest[self.smallest], runs)

    def at_one_loss(self) -> pd.DataFrame:
        """Return the ends of the runs to one loss, whose losses agree within a tenth in a seed."""
        runs = pd.concat(self.compared(*self.ends(self.to_one_loss())))
        finite(runs)
        losses = runs.groupby("seed")["train_loss"]
        if (losses.max() / losses.min() > 1.1).any():
            raise NotTestable("training losses are not equal")
        return runs

    def gap_at_one_loss(self) -> Found:
        """Return the gap of losses at equal training loss."""
        runs = self.at_one_loss()
        self.shows("losses")
        return difference(self, *self.ends(runs), "gap")

    def sharper_at_one_loss(self) -> Found:
        """Return the ratio of sharpness at equal training loss."""
        runs = self.at_one_loss()
        minima(runs)
        self.shows("sharpness")
        return sharper(*self.ends(runs))

    def layers(self) -> dict[str, Callable]:
        """Return the ratio of the distances of each layer."""
        runs = self.pair()
        self.fit("distance", runs)
        rows = self.points_of(runs, "distances")
        tables = {
            n: table_of(r, "distance") for n, r in rows[rows["layer"] != "whole"].groupby("layer")
        }
        return {
            n: partial(Found, t[self.largest] / t[self.smallest], runs) for n, t in tables.items()
        }

    def along(self, by: Callable[[pd.DataFrame], pd.Series]) -> Found:
        """Return what is read off the distances per epoch."""
        self.learned(self.pair())
        return Found(by(self.epoch_distances()), self.pair())

    def update_norms(self) -> Found:
        """Return the ratio of the median norms of updates."""
        self.learned(self.pair())
        norms = self.median_norms()
        return Found(norms[self.largest] / norms[self.smallest], self.pair())

    def cancelling(self) -> Found:
        """Return how far mean gradients at fixed weights shrink, over how far updates do."""
        found, small = self.update_norms(), self.ends(self.pair())[1]
        ended(small)
        rows = self.points_of(
            small, "gradient_agreement", self.p["agreement_examples"], batch_sizes=self.sizes
        )
        norms = rows.pivot(index="seed", columns="examples", values="norm")
        return replace(found, values=norms[self.largest] / norms[self.smallest] / found.values)

    def line(self) -> Found:
        """Return the factor by which the loss rises more around the largest batch's end."""
        runs = self.pair()
        self.fit("sharpness", runs)
        rows = matching(self.points.join(self.ends(runs)[0][["seed"]], how="inner"), set="train")
        rows = rows.assign(alpha=rows["alpha"].round(6), loss=np.log(rows["loss"]))
        return Found(
            np.exp(steeper(rows.pivot(index="seed", columns="alpha", values="loss"))), runs
        )

    def surface(self) -> Found:
        """Return the ratio of the mean growth of the loss within half a filter norm."""
        runs, p = self.pair(), self.p
        self.fit("sharpness", runs)
        plane = {"points": p["explorer_points"], "seeds": [0, 1]}
        rows = self.points_of(runs, "loss_surface", p["surface_examples"], **plane)
        rows = rows[np.hypot(rows["a"], rows["b"]) <= 0.5 + 1e-9]
        mean = rows.groupby(["seed", "batch_size"])["loss"].mean().unstack()
        growth = (mean - table_of(matching(rows, a=0.0, b=0.0), "loss")).dropna()
        return Found(growth[self.largest] / growth[self.smallest], runs)

    def left(self, kind: str, column: str, gap: Callable, *, share: bool = True) -> Found:
        """Return which share of a gap is left at the scaled rate, or the gap itself.

        The mean of the values by seed is the ratio of means, with its standard error by the delta
        method.
        """
        sizes = [self.smallest, self.largest]
        fixed, scaled = shared_seeds(self.grid(sizes), self.scaled(sizes))
        self.fit(kind, fixed, scaled)
        before, after = (
            gap(*(per_seed(end, column) for end in self.ends(r))) for r in (fixed, scaled)
        )
        if len(before) < 2 or Mean(before).interval(0.95)[0] <= 0:
            raise NotTestable("no gap to close")
        if share:
            after = after * np.sign(after.mean())
            left = after.mean() / before.mean()
            after = left + (after - left * before) / before.mean()
        return Found(after, pd.concat([fixed, scaled]))

    # Times.

    def total(self, sides: Callable[[], pd.DataFrame]) -> Found:
        """Return the ratio of epochs times seconds per epoch."""
        per_epoch, runs = self.seconds(processes=1).median(), sides()
        self.fit_times(runs)
        epochs = table_of(runs, "kept_epoch")
        seconds = per_epoch[self.largest] / per_epoch[self.smallest]
        return Found(epochs[self.largest] / epochs[self.smallest] * seconds, runs, timing=True)

    def fit_times(self, runs: pd.DataFrame) -> None:
        """Refuse runs without a lowest validation loss."""
        self.compared(runs)
        self.learned(runs)
        ended(runs)

    def parallel(self, by: Callable, devices: int | None = None, *, seeds: bool = False) -> Found:
        """Return what is read off the times on one process and on several."""
        one = self.seconds(processes=1)
        runs = self.pair() if seeds else None
        if seeds:
            self.fit_times(runs)
        times, needed = self.table("timings"), devices or 2
        if times["processes"].max() < needed:
            raise NotRun("not timed on so many processes")
        most = times.loc[times["processes"] <= times["cores"], "processes"].max()
        if most < needed:
            raise NotTestable(f"{needed} devices needed")
        more = self.seconds(processes=int(devices or most))
        return Found(by(one, more), runs, timing=True, repeats=not seeds)

    def total_parallel(self, one: pd.DataFrame, more: pd.DataFrame) -> pd.Series:
        """Return total seconds of the largest batch on several over the smallest on one."""
        epochs, (b, s) = table_of(self.pair(), "kept_epoch"), (self.largest, self.smallest)
        return epochs[b] * more[b].median() / (epochs[s] * one[s].median())

    # Rates.

    def bounded(self, runs: pd.DataFrame) -> pd.Series:
        """Return the validation loss, that of guessing if it is higher or the run diverged."""
        guessing = np.log(runs["classes"])
        loss = runs["validation_loss"].where(runs["stopped"] != "diverged", guessing)
        return np.minimum(loss, guessing)

    def optima(self, *inside: int) -> pd.DataFrame:
        """Return the best rates [seed, batch size], at the vertex of a parabola over log(rate)."""
        runs, ends = self.whole_grid(), (min(self.p["lrs"]), max(self.p["lrs"]))
        ended(runs)
        if self.best_rates()[list(inside)].isin(ends).any(axis=None):
            raise NotTestable("a best rate lies at an end of the grid")
        runs = runs.assign(loss=self.bounded(runs), x=np.log(runs["base_lr"])).sort_values("x")
        cells = runs.groupby(["seed", "batch_size"])
        found = {cell: vertex(own["x"].to_numpy(), own["loss"].to_numpy()) for cell, own in cells}
        return np.exp(pd.Series(found)).unstack()

    def best(self, by: Callable[[pd.DataFrame], Any], *inside: int) -> Any:
        """Return what is read off the best rates, of one part or by the names of several."""
        found, runs = by(self.optima(*inside)), self.whole_grid()
        if isinstance(found, dict):
            return {name: partial(Found, values, runs) for name, values in found.items()}
        return Found(found, runs)

    def high_rate(self) -> Found:
        """Return the loss at B = 64 minus that at 32, at the largest batch's scaled rate."""
        rate = float(self.p["lr"] * self.largest / self.smallest)
        (runs,) = self.compared(self.grid([32, 64], base_lr=rate, seed=self.p["seeds"]))
        ended(runs)
        loss = table_of(runs.assign(loss=self.bounded(runs)), "loss")
        return Found(loss[64] - loss[32], runs)

    def wins(self) -> Found:
        """Return how much more often than at any rate wins over the smallest batch are too high."""
        runs = self.whole_grid()
        ended(runs)
        loss = runs["validation_loss"].where(runs["stopped"] != "diverged", np.inf)
        cells = runs.assign(loss=loss).pivot(
            index=["seed", "base_lr"], columns="batch_size", values="loss"
        )
        small = cells.pop(self.smallest)
        wins, best = cells.lt(small, axis=0).sum(axis=1), self.best_rates()[self.smallest]
        high = wins.index.get_level_values(1) > wins.index.get_level_values(0).map(best)
        every = wins.groupby("seed").sum()
        if (every == 0).any():
            raise NotTestable("the smallest batch always wins")
        share = (wins * high).groupby("seed").sum() / every
        return Found(share - pd.Series(high, wins.index).groupby("seed").mean(), runs)

    def in_general(self) -> Found:
        """Return the test loss at the rates of the lowest mean validation loss."""
        runs = self.whole_grid()
        ended(runs)
        loss = runs["validation_loss"].where(runs["stopped"] != "diverged", np.inf)
        best = runs.assign(loss=loss).pivot_table("loss", "base_lr", "batch_size").idxmin()
        if best.isin([min(self.p["lrs"]), max(self.p["lrs"])]).any():
            raise NotTestable("a best rate lies at an end of the grid")
        tuned = runs[runs["base_lr"] == runs["batch_size"].map(best)]
        self.learned(tuned)
        return replace(difference(self, *self.ends(tuned), "test_loss"), runs=tuned)


def vertex(x: np.ndarray, y: np.ndarray) -> float:
    """Return where the parabola through the lowest y and its neighbours is lowest."""
    i = int(np.argmin(y))
    if not 0 < i < len(x) - 1 or y[i - 1] == y[i] == y[i + 1]:
        return float(x[i])
    a, b, _ = np.polyfit(x[i - 1 : i + 2] - x[i], y[i - 1 : i + 2], 2)
    return float(x[i] - b / (2 * a))


def steeper(line: pd.DataFrame) -> pd.Series:
    """Return how much more a line [seed, alpha] rises a quarter around 1 than around 0."""
    rises = [(line[end - 0.25] + line[end + 0.25]) / 2 - line[end] for end in (0.0, 1.0)]
    return rises[1] - rises[0]


def chang(study: Chang) -> dict[str, Callable]:
    """Return the statistic of each claim."""
    s, p, small, large = study, study.p, study.smallest, study.largest
    both, larger = [small, large], study.sizes[1:]
    top = p["lr"] * large / small

    def at(sizes: Iterable[int], scaled: bool = False) -> pd.DataFrame:
        return s.scaled(sizes) if scaled else s.grid(sizes)

    def sharp(a: Callable, b: Callable) -> Found:
        sides = shared_seeds(a(), b())
        s.fit("sharpness", *sides)
        return sharper(*sides)

    def of(runs: pd.DataFrame, sizes: Iterable[int]) -> pd.DataFrame:
        return runs[runs["batch_size"].isin(list(sizes))]

    def lowered(sizes: Iterable[int], kind: str, column: str, ratios: bool) -> Found:
        a, b = shared_seeds(at(sizes, True), at(sizes))
        s.fit(kind, a, b)
        return (
            Found(ratio(a, b, column), pd.concat([a, b])) if ratios else difference(s, a, b, column)
        )

    def in_one_order() -> pd.DataFrame:
        return s.compared(s.grid(both, shuffle="once"))[0]

    def by_authors(a: pd.DataFrame, b: pd.DataFrame) -> Found:
        a, b = s.compared(a, b)
        s.measured("authors")
        s.fit("sharpness", a, b)
        return Found(ratio(a, b, "authors"), pd.concat([a, b]))

    def farther_at_128() -> Found:
        runs = at([64, 128])
        s.fit("distance", runs)
        return Found(ratio(of(runs, [128]), of(runs, [64]), "distance"), runs)

    def time_per_epoch() -> Found:
        times = s.seconds(processes=1)
        return Found(times[large] / times[small], timing=True, repeats=True)

    def grows(table: pd.DataFrame) -> pd.Series:
        ratios = (table[small] / table[large]).reset_index(name="ratio")
        return ranks(ratios, "ratio", "epoch")

    def mean_ratio(table: pd.DataFrame) -> pd.Series:
        means = table.groupby("seed").mean()
        return means[large] / means[small]

    found = {
        "training-slower": s.slower,
        "best-validation": lambda: s.more("losses", s.pair(), "validation_loss", ratios=True),
        "best-validation-as-run": lambda: s.more(
            "losses", in_one_order(), "validation_loss", ratios=True
        ),
        "epochs-as-run": lambda: s.more("epochs", in_one_order(), "kept_epoch", ratios=True),
        "nearer-as-run": lambda: s.more("distance", in_one_order(), "distance", ratios=True),
        "sharper-as-run": lambda: by_authors(*s.ends(in_one_order())),
        "scaled-flatter-as-run": lambda: by_authors(at(larger, True), at(larger)),
        "scaled-still-sharper-as-run": lambda: by_authors(
            of(at(s.sizes, True), larger), of(at(s.sizes, True), [small])
        ),
        "best-validation-order": lambda: s.order("losses", "validation_loss"),
        "best-training": lambda: s.more("losses", s.pair(), "lowest_running"),
        "premise-training": lambda: s.more("losses", s.pair(), "train_loss"),
        "premise-gap": lambda: s.more("losses", s.pair(), "gap"),
        "gap-equal-updates": s.equal_updates,
        "gap-equal-loss": s.gap_at_one_loss,
        "time-per-epoch": time_per_epoch,
        "epochs": lambda: s.more("epochs", s.pair(), "kept_epoch", ratios=True),
        "epochs-order": lambda: s.order("epochs", "kept_epoch"),
        "total-time": lambda: s.total(s.pair),
        "parallel-large": lambda: s.parallel(lambda one, more: more[large] / one[large], 4),
        "parallel-small": lambda: s.parallel(lambda one, more: more[small] / one[small], 4),
        "parallel-here": lambda: s.parallel(lambda one, more: more[large] / one[large]),
        "parallel-gains": lambda: s.parallel(
            lambda one, more: more[large] / one[large] / (more[small] / one[small])
        ),
        "parallel-total": lambda: s.parallel(s.total_parallel, 4, seeds=True),
        "parallel-total-here": lambda: s.parallel(s.total_parallel, seeds=True),
        "nearer": lambda: s.more("distance", s.pair(), "distance", ratios=True),
        "nearer-order": lambda: s.order("distance", "distance"),
        "nearer-128": farther_at_128,
        "nearer-layers": s.layers,
        "epoch-distance": lambda: s.along(mean_ratio),
        "epoch-distance-grows": lambda: s.along(grows),
        "update-norm": s.update_norms,
        "cancelling": s.cancelling,
        "sharper-line": s.line,
        "sharper": lambda: sharp(lambda: of(s.pair(), [large]), lambda: of(s.pair(), [small])),
        "sharper-order": lambda: s.order("sharpness", ""),
        "sharper-equal-loss": s.sharper_at_one_loss,
        "sharper-surface": s.surface,
        "scaling-helps": lambda: lowered([large], "losses", "validation_loss", False),
        "scaling-closes": lambda: s.left("losses", "validation_loss", lambda b, a: b - a),
        "scaling-remains": lambda: s.left(
            "losses", "validation_loss", lambda b, a: b - a, share=False
        ),
        "scaled-epochs": lambda: s.more("epochs", at(both, True), "kept_epoch", ratios=True),
        "scaled-time": lambda: s.total(lambda: at(both, True)),
        "scaled-flatter": lambda: sharp(lambda: at(larger, True), lambda: at(larger)),
        "scaled-still-sharper": lambda: sharp(
            lambda: of(at(s.sizes, True), larger), lambda: of(at(s.sizes, True), [small])
        ),
        "scaled-distance": lambda: s.left("distance", "distance", lambda b, a: np.log(a / b)),
        "scaled-distance-128": lambda: lowered([128], "distance", "distance", True),
        "large-lr": s.high_rate,
        "wins-too-high": s.wins,
        "best-lr-rises": lambda: s.best(lambda best: best[large] / best[small], *both),
        "best-lr-linear": lambda: s.best(
            lambda best: {f"B = {b}": best[b] / best[small] * small / b for b in larger}, *s.sizes
        ),
        "best-lr-small": lambda: s.best(lambda best: best[small] / p["lr"], small),
        "best-lr-others": lambda: s.best(
            lambda best: {f"B = {b}": best[b] / top for b in larger}, *larger
        ),
        "worse-in-general": s.in_general,
    }
    return {f"chang-{name}": statistic for name, statistic in found.items()}


# --------------------------------------------------------------------------------------- kaabachi


def rise_of(loss: np.ndarray, classes: int, gone: bool) -> float:
    """Return the largest rise of a training loss above its lowest value so far, at most ln C."""
    most = math.log(classes)
    return most if gone else min(float((loss - np.minimum.accumulate(loss)).max()), most)


def is_lost(run: pd.Series, loss: np.ndarray) -> bool:
    """Whether a run diverged, or its loss moved and ended within .02 nats of guessing."""
    if run["stopped"] == "diverged" or not np.isfinite(loss).all():
        return True
    return bool(loss[-1] > math.log(run["classes"]) - 0.02 and np.ptp(loss) > 0.1)


def epochs_until(rows: pd.DataFrame, target: float) -> float:
    """Return after how many epochs the test accuracy reaches a target, NaN if it does not.

    Between two evaluations the accuracy is taken to rise with the logarithm of the epoch.
    """
    seen = rows[rows["test_accuracy"].notna()]
    epochs, accuracy = seen["epoch"].to_numpy(float), seen["test_accuracy"].to_numpy(float)
    there = np.flatnonzero(accuracy >= target)
    if not len(there):
        return math.nan
    k = there[0]
    if k == 0:
        return epochs[0]
    part = (target - accuracy[k - 1]) / (accuracy[k] - accuracy[k - 1])
    return float(np.exp(np.log(epochs[k - 1]) + part * np.log(epochs[k] / epochs[k - 1])))


class Kaabachi(Study):
    """The runs of Kaabachi et al., with what is read off their histories."""

    def __init__(self, root: Path, profile: str, name: str):
        """Add final and highest accuracy, rises of the loss, epochs to an accuracy."""
        super().__init__(root, profile, name)
        self.small, self.large = self.p["small_batch_sizes"], self.p["large_batch_sizes"]
        more = (self.p.get("confirm") or {}).get("more_seeds", [])
        self.seeds = [*self.p["seeds"], *more]
        self.runs = self.runs.join(self.runs.apply(self._read, axis=1))

    def _read(self, run: pd.Series) -> pd.Series:
        rows, chance = self.history.loc[[run["run"]]].sort_values("epoch"), 1 / run["classes"]
        final = chance if run["stopped"] == "diverged" else run["test_accuracy"]
        loss = rows["running_loss"].to_numpy(float)
        seen = rows["test_accuracy"][np.isfinite(loss)]
        learned = run["stopped"] != "diverged" and final >= 2 * chance
        own = epochs_until(rows, final - 0.005) if learned else math.nan
        gone = is_lost(run, loss)
        peak = np.nanmax([chance, final, *seen])
        as_run = rows.get("test_accuracy_as_run", pd.Series(dtype=float)).max()
        found = {
            "final": final,
            "peak": peak,
            "peak_as_run": np.maximum(as_run, chance),  # NaN of a run that was not evaluated so
            "mode": np.maximum(as_run, chance) - peak,
            "lost": float(gone),
            "rise": rise_of(loss, run["classes"], gone),
            "own_epochs": own,
            "rising": own > 0.9 * run["epochs"],
        }
        return pd.Series(found)

    @staticmethod
    def lasting(runs: pd.DataFrame, epochs: int) -> pd.DataFrame:
        """Return runs over a number of epochs; those that diverged before are the same in all."""
        early = (runs["stopped"] == "diverged") & (runs["epochs"] < epochs)
        runs = runs[early | (runs["epochs"] == epochs)].assign(designed_epochs=epochs)
        return runs.drop_duplicates(["seed", "batch_size", "lr", "warmup_epochs", "local_steps"])

    def at(
        self, sizes: Iterable[int], epochs: int | None = None, source: int = 70, **changes: Any
    ) -> pd.DataFrame:
        """Return runs with the linear rule from B = 1, or with changes, at some batch sizes."""
        fields = {"base_lr": float(self.p["lr"]), "scaling": "linear", "reference_batch_size": 1}
        fields |= {"warmup": "none", "local_workers": 1, "seed": self.seeds} | changes
        epochs = self.p["warmup_epochs"] if epochs is None else epochs
        runs = self.lasting(self.select(**fields), epochs).assign(source_epochs=source)
        return whole_seeds(runs[runs["batch_size"].isin(list(sizes))], "batch_size", sizes)

    def linear(self, sizes: Iterable[int], **changes: Any) -> pd.DataFrame:
        """Return experiment 3: the linear rule for its own epochs."""
        return self.at(sizes, self.p["scaled_epochs"], 100, **changes)

    def unscaled(self, sizes: Iterable[int], **changes: Any) -> pd.DataFrame:
        """Return experiments 1 and 2: one rate, each batch size with its epochs."""
        epochs = dict.fromkeys(self.small, self.p["small_epochs"])
        epochs |= dict(zip(self.large, self.p["large_epochs"], strict=True))
        source = {128: 100, 256: 150, 512: 200, 1024: 300, 2048: 400}
        fields = {"base_lr": float(self.p["unscaled_lr"]), "scaling": "none"} | changes
        runs = [self.at([b], epochs.get(b, 0), source.get(b, 50), **fields) for b in sizes]
        return whole_seeds(pd.concat(runs), "batch_size", sizes)

    def warm(
        self,
        sizes: Iterable[int],
        kind: str = "exponential",
        share: float | None = None,
        **changes: Any,
    ) -> pd.DataFrame:
        """Return runs with the linear rule and a warm-up."""
        lasts = (share or self.p["warmup_share"]) * self.p["warmup_epochs"]
        return self.at(sizes, warmup=kind, warmup_epochs=float(lasts), **changes)

    def flat(self, sizes: Iterable[int]) -> pd.DataFrame:
        """Return runs without warm-up, at the rate where that of the source's code stays.

        It divides the rate by two to the epochs that are left, while these are more than one, and
        takes the whole rate where exactly one is left.
        """
        left, share = self.p["warmup_share"] * self.p["warmup_epochs"], 1.0
        while left > 1:
            left, share = left - 1, 2.0**-left
        share = 1.0 if left == 1 else share
        return self.at(sizes, base_lr=self.p["lr"] * share, evaluate_as_run=True)

    def rates(self) -> pd.DataFrame:
        """Return the largest batch's runs that are as long as those with warm-up and have none."""
        b, epochs = max(self.large), self.p["warmup_epochs"]
        runs = self.lasting(self.select(batch_size=b, warmup="none", local_workers=1), epochs)
        other = [float(lr) for lr in self.p["other_lrs"]]
        runs = runs[(runs["scaling"] != "none") | runs["base_lr"].isin(other)]
        runs = runs.assign(rate=runs["lr"].map("{:.4g}".format), source_epochs=70)
        return runs.drop_duplicates(["rate", "seed"])

    def best_rate(self) -> pd.DataFrame:
        """Return the largest batch's runs at the rate of the highest mean validation accuracy."""
        runs = self.rates()
        runs = whole_seeds(runs, "rate", runs["rate"])
        runs = runs.assign(
            score=runs["validation_accuracy"].where(runs["stopped"] != "diverged", -1)
        )
        best = (
            runs.groupby("rate")["score"].apply(lambda s: s.mean() if s.min() >= 0 else -1).idxmax()
        )
        found = runs[runs["rate"] == best]
        if found["lr"].iloc[0] in (runs["lr"].min(), runs["lr"].max()):
            raise NotTestable(f"the best rate, {best}, is at an end")
        return found

    def local(self, steps: int | None = None) -> pd.DataFrame:
        """Return local SGD's runs with some local steps, by default the most."""
        workers, tried = self.p["local_workers"], self.p["local_steps"] or [1]
        own = max(self.large) // workers
        runs = self.at([own], local_workers=workers, local_steps=steps or max(tried))
        return runs.assign(batch_size=max(self.large))

    def shares(self, runs: pd.DataFrame) -> Iterable[tuple[float, float, float, bool]]:
        """Yield each run's shares of updates, examples and width; whether other data."""
        for _, run in runs.iterrows():
            cut_off = run["stopped"] == "epochs" and run["epochs"] < run["source_epochs"]
            updates = run["source_epochs"] * math.ceil(50_000 / run["batch_size"])
            part = run["updates"] / updates if cut_off else 1.0
            yield part, run["train_size"] / 50_000, run["width"], run["dataset"] != "cifar10"

    # What makes runs fit for a claim.

    def enough_updates(self, *sides: pd.DataFrame) -> None:
        """Refuse fewer than 50 updates, or than 10 of a warm-up of the usual length."""
        usual = self.p["warmup_share"] * self.p["warmup_epochs"]
        for runs in sides:
            few = (runs["stopped"] != "diverged") & (runs["updates"] < 50)
            fail_if(runs, few, "fewer than 50 updates")
            warm = (
                runs["warmup_epochs"] * np.ceil(runs["train_size"] / runs["batch_size"])
            ).round()
            few = np.isclose(runs["warmup_epochs"], usual) & (warm < 10)
            fail_if(runs, few, "fewer than 10 updates of warm-up")

    def learned(self, *sides: pd.DataFrame) -> None:
        """Refuse sides none of which is twice as accurate as guessing at its best."""
        if max(runs["peak"].mean() for runs in sides) < 2 / sides[0]["classes"].iloc[0]:
            raise NotTestable("no side has learned anything")

    def long_enough(self, runs: pd.DataFrame, seen: bool) -> None:
        """Refuse runs of under a tenth of the paper's updates if they do not show an event."""
        made = runs[runs["stopped"] != "diverged"].groupby("batch_size")["updates"].max()
        short = [b for b, n in made.items() if n < 0.1 * 100 * math.ceil(50_000 / b)]
        if short and not seen:
            raise NotTestable(f"B = {short[0]}: not seen in under a tenth of the updates")

    def has_jump(self, cold: pd.DataFrame) -> None:
        """Refuse a loss that has nothing to steady: no rise above .1 nats without warm-up."""
        if cold["rise"].mean() <= 0.1:
            raise NotTestable("no jump to steady")

    def shows_accuracy(self) -> None:
        """Refuse claims on accuracy unless few epochs cost accuracy."""
        if not (confirm := self.p.get("confirm")):
            return
        small, large, few = [min(self.small)], [min(self.large)], confirm["control_epochs"]
        fixed = {"base_lr": float(self.p["unscaled_lr"]), "scaling": "none"}

        def cost(whole: pd.DataFrame, short: pd.DataFrame) -> pd.Series:
            return 100 * paired(whole, short, "final")

        for whole, sizes, changes in (
            (self.unscaled(small), small, fixed),
            (self.at(large), large, {}),
        ):
            short = self.at(sizes, few, **changes)
            control(self, "accuracy", "above", partial(cost, whole, short))

    def shows_rise(self) -> None:
        """Refuse claims on jumps unless a low rate is steadier than the linear rule."""
        if confirm := self.p.get("confirm"):
            low = {"base_lr": float(self.p["lr"]) * confirm["control_share"]}
            sides = self.at(two := self.large[-2:]), self.at(two, **low)
            control(self, "rise of a loss", "above", partial(paired, *sides, "rise"))

    # Statistics.

    def gained(self, a: pd.DataFrame, b: pd.DataFrame, column: str = "peak") -> Found:
        """Return a - b in percentage points of the highest accuracy, or of the final one."""
        a, b = self.compared(a, b)
        self.shows_accuracy()
        self.enough_updates(a, b)
        self.learned(a, b)
        return points(self, a, b, column)

    def mode(self, runs: pd.DataFrame) -> Found:
        """Return what evaluation as in their code adds to the highest accuracy, in points."""
        (runs,) = self.compared(runs)
        self.shows_accuracy()
        self.enough_updates(runs)
        self.learned(runs)
        return Found(100 * per_seed(runs, "mode"), runs)

    def rises(self, runs: pd.DataFrame, column: str = "rise") -> Found:
        """Return the largest rise of the loss, or whether a run is lost, by seed."""
        self.compared(runs)
        self.enough_updates(runs)
        seen = (
            runs.groupby("seed")["rise"].mean().max() > 0.1
            if column == "rise"
            else runs["lost"].any()
        )
        self.long_enough(runs, bool(seen))
        return Found(per_seed(runs, column), runs)

    def steadied(self, runs: pd.DataFrame, cold: pd.DataFrame) -> Found:
        """Return the largest rise of the loss at lower rates, where the linear rule's jumps."""
        runs, cold = self.compared(runs, cold)
        self.shows_rise()
        self.enough_updates(cold)
        self.has_jump(cold)
        self.learned(runs)
        return replace(self.rises(runs), runs=pd.concat([runs, cold]))

    def warmup_steadies(self, cold: pd.DataFrame, warm: pd.DataFrame) -> Found:
        """Return how much more the loss rises without warm-up."""
        cold, warm = self.compared(cold, warm)
        self.shows_rise()
        self.enough_updates(cold, warm)
        self.has_jump(cold)
        return Found(paired(cold, warm, "rise"), pd.concat([cold, warm]))

    def own_times(self, runs: pd.DataFrame, *others: pd.DataFrame) -> pd.Series:
        """Return the epochs to the own final accuracy, geometric mean of a seed's runs."""
        self.enough_updates(runs, *others)
        self.learned(runs, *others)
        for side in (runs, *others):
            fail_if(side, side["own_epochs"].isna() | side["rising"].astype(bool), "still rising")
        return per_seed(runs, "own_epochs", ratios=True)

    def epochs_over(self, b: int) -> Found:
        """Return the epochs of a batch size to its final accuracy over those of small batches."""
        large, small = self.compared(self.unscaled([b]), self.unscaled(self.small))
        values = self.own_times(large, small) / self.own_times(small, large)
        return Found(values, pd.concat([large, small]))

    def small_epochs(self) -> Found:
        """Return the epochs of small batches to their final accuracy."""
        (small,) = self.compared(self.unscaled(self.small))
        if self.p["small_epochs"] != 50:
            raise NotTestable("small batches are not trained for 50 epochs")
        return Found(self.own_times(small), small)

    @cached_property
    def common(self) -> pd.Series:
        """Return the common target by seed: a share of what the largest small batch ends at."""
        runs = self.unscaled([max(self.small)])
        runs = runs[runs["stopped"] != "diverged"].set_index("seed")
        return runs["test_accuracy"] * self.p["target_share"]

    @cached_property
    def at_small(self) -> pd.Series:
        """Return what the largest small batch ends at, by seed."""
        return self.unscaled([max(self.small)]).set_index("seed")["final"]

    def sooner(
        self,
        a: pd.DataFrame,
        b: pd.DataFrame,
        target: Callable[[pd.Series], float] | None,
        *,
        fastest: bool,
        costs: pd.Series | None = None,
        timing: bool = False,
    ) -> Found:
        """Return the time of a to an accuracy over that of b, by seed.

        A run that does not get there has a bound instead, all of its epochs: it may support a claim
        or refute it, not both.
        """
        a, b = self.compared(a, b)
        self.enough_updates(a, b)
        self.learned(a, b)
        if timing:
            costs = self.seconds().median()
        (time_a, open_a), (time_b, open_b) = (
            self._times(s, target, fastest, costs) for s in (a, b)
        )
        found, margin = time_a / time_b, 1.1 if timing else 1.25
        vague = (open_a & open_b) | (open_a & (found <= margin)) | (open_b & (found >= 1 / margin))
        if vague.any():
            raise NotTestable(f"{vague.sum()} seeds have bounds alone")
        return Found(found, pd.concat([a, b]), timing=timing)

    def _times(
        self, runs: pd.DataFrame, target, fastest: bool, costs
    ) -> tuple[pd.Series, pd.Series]:
        if target is None:
            time, is_open = (
                runs["own_epochs"],
                runs["rising"].astype(bool) | runs["own_epochs"].isna(),
            )
        else:
            rows = {key: self.history.loc[[key]].sort_values("epoch") for key in runs["run"]}
            reached = [epochs_until(rows[run["run"]], target(run)) for _, run in runs.iterrows()]
            time = pd.Series(reached, runs.index)
            is_open = time.isna()
        time = time.fillna(runs["designed_epochs"])
        cost = 1.0 if costs is None else runs["batch_size"].map(costs)
        runs = runs.assign(time=time * cost, open=is_open)
        times, opened = table_of(runs, "time"), table_of(runs, "open")
        if not fastest:
            return np.exp(np.log(times).mean(axis=1)), opened.any(axis=1)
        first = times.idxmin(axis=1)
        return times.min(axis=1), pd.Series({s: opened.loc[s, b] for s, b in first.items()})


def paired(a: pd.DataFrame, b: pd.DataFrame, column: str) -> pd.Series:
    """Return a - b by seed."""
    a, b = shared_seeds(a, b)
    return per_seed(a, column) - per_seed(b, column)


def kaabachi(study: Kaabachi) -> dict[str, Callable]:
    """Return the statistic of each claim."""
    s, p, small, largest = study, study.p, study.small, max(study.large)
    every, as_run = [*small, *study.large], {"evaluate_as_run": True}

    def each(sizes: Iterable[int], statistic: Callable[[int], Found]) -> Callable:
        there = [b for b in sizes if b in every] or list(sizes)
        return lambda: {f"B = {b}": partial(statistic, b) for b in there}

    def to_common(run: pd.Series) -> float:
        return s.common[run["seed"]]

    def to_small(run: pd.Series) -> float:
        return s.at_small[run["seed"]] - 0.01

    def to_both(b: int) -> Found:
        cold, warm = s.compared(s.at([b]), s.warm([b]))
        lowest = pd.concat([cold, warm]).groupby("seed")["peak"].min() * p["target_share"]
        least = 2 / cold["classes"].iloc[0]
        return s.sooner(cold, warm, lambda run: max(lowest[run["seed"]], least), fastest=False)

    def quicker(a: Callable, b: Callable, target: Callable | None) -> Found:
        return s.sooner(a(), b(), target, fastest=True, timing=True)

    def at_32(target: Callable | None) -> Callable:
        others = (4, 8, 16, 128, 256, 512)
        return each(
            others, lambda b: quicker(lambda: s.unscaled([32]), lambda: s.unscaled([b]), target)
        )

    def updates() -> Found:
        sides = s.unscaled([512]), s.unscaled([32])
        n = sides[0]["train_size"].iloc[0]
        costs = pd.Series({b: math.ceil(n / b) for b in every})
        return s.sooner(*sides, None, fastest=True, costs=costs)

    def accuracy_at_4() -> Found:
        (runs,) = s.compared(s.unscaled([4]))
        s.shows_accuracy()
        s.enough_updates(runs)
        fail_if(runs, runs["train_size"] < 0.9 * 50_000, "too few examples")
        s.learned(runs)
        tested = s.tested(runs, "peak")
        return Found(
            100 * per_seed(runs, "peak"), runs, examples=None if tested is None else 100 * tested
        )

    def lengths() -> Found:
        if not p["other_shares"]:
            raise NotRun("one length of warm-up")
        shares = [p["warmup_share"], *p["other_shares"]]
        runs = pd.concat([s.at([largest]), *(s.warm([largest], share=x) for x in shares)])
        runs = whole_seeds(runs, "warmup_epochs", set(runs["warmup_epochs"]))
        s.compared(runs)
        s.shows_accuracy()
        s.enough_updates(runs)
        s.learned(*(own for _, own in runs.groupby("warmup_epochs")))
        return Found(ranks(runs, "final", "warmup_epochs"), runs)

    def local(other: Callable[[], pd.DataFrame]) -> Found:
        sides = s.local(), other()
        if max(p["local_steps"]) == 1:
            raise NotTestable("a single local step")
        return s.gained(*sides, "final")

    def levels() -> Found:
        times = s.seconds()
        if not {128, 512} <= set(times):
            raise NotRun("B = 128 or 512 is not timed")
        return Found(times[128] / times[512], timing=True, repeats=True)

    def times_fall() -> Found:
        times = s.seconds()
        return Found(
            tau(times.to_numpy(), np.broadcast_to(times.columns, times.shape)),
            timing=True,
            repeats=True,
        )

    def cold(b: int) -> pd.DataFrame:
        return s.at([b], **as_run)

    def doubling(b: int) -> pd.DataFrame:
        return s.warm([b], "doubling", **as_run)

    def of_profile(sizes: Iterable[int]) -> list[int]:
        return [b for b in sizes if b in every] or list(sizes)

    found = {
        "best-at-4": each(
            (8, 16, 32, 128, 256, 512, 1024, 2048),
            lambda b: s.gained(s.unscaled([4]), s.unscaled([b])),
        ),
        "best-at-4-as-run": each(
            (8, 16, 32, 128, 256, 512, 1024, 2048),
            lambda b: s.gained(*(s.unscaled([x], **as_run) for x in (4, b)), "peak_as_run"),
        ),
        "best-82": accuracy_at_4,
        "epochs-small": s.small_epochs,
        "scaling-semi-large": lambda: s.gained(
            s.linear(of_profile((128, 256, 512))), s.unscaled(of_profile((128, 256, 512)))
        ),
        "warmup-sooner": each((1024, 2048), to_both),
        "diverges": each((512, 1024, 2048), lambda b: s.rises(s.linear([b]), "lost")),
        "unscaled-slower": lambda: s.sooner(
            s.unscaled(study.large), s.unscaled([32]), to_common, fastest=False
        ),
        "time-falls": times_fall,
        "time-levels": levels,
        "fastest-at-32": at_32(None),
        "fastest-at-32-target": at_32(to_common),
        "offset-time": lambda: quicker(lambda: s.unscaled([512]), lambda: s.unscaled([32]), None),
        "offset-updates": updates,
        "similar-time": lambda: quicker(
            lambda: s.warm(study.large), lambda: s.unscaled(small), to_small
        ),
        "tuned-beats-warmup": lambda: s.gained(s.best_rate(), s.warm([largest]), "final"),
        "tuned-similar": lambda: s.gained(s.best_rate(), s.unscaled(small), "final"),
        "warmup-length": lengths,
        "local-linear": lambda: local(lambda: s.at([largest])),
        "local-warmup": lambda: local(lambda: s.warm([largest])),
        "local-steps": lambda: local(lambda: s.local(1)),
    }
    for b in (128, 256, 512, 1024, 2048):
        found |= {
            f"scaling-{b}": lambda b=b: s.gained(s.linear([b]), s.unscaled([b])),
            f"warmup-{b}": lambda b=b: s.gained(s.warm([b]), s.at([b])),
            f"unscaled-lower-{b}": lambda b=b: s.gained(s.unscaled([32]), s.unscaled([b]), "final"),
            f"similar-{b}": lambda b=b: s.gained(s.warm([b]), s.unscaled(small)),
            f"{'steady' if b < 512 else 'jumps'}-{b}": lambda b=b: s.rises(s.linear([b])),
            f"scaling-{b}-as-run": lambda b=b: s.gained(
                s.linear([b], **as_run), s.unscaled([b], **as_run), "peak_as_run"
            ),
            f"warmup-{b}-as-run": lambda b=b: s.gained(doubling(b), cold(b), "peak_as_run"),
            f"similar-{b}-as-run": lambda b=b: s.gained(
                doubling(b), s.unscaled(small, **as_run), "peak_as_run"
            ),
            f"flat-{b}": lambda b=b: s.gained(s.flat([b]), doubling(b)),
            f"flat-beats-{b}": lambda b=b: s.gained(s.flat([b]), cold(b)),
            f"warmup-beyond-rate-{b}": lambda b=b: s.gained(s.warm([b]), s.flat([b])),
        }
        if b <= 512:
            found[f"epochs-{b}"] = partial(s.epochs_over, b)
        if b >= 1024:
            found[f"warmup-steadies-{b}"] = lambda b=b: s.warmup_steadies(s.at([b]), s.warm([b]))
            found[f"warmup-steadies-{b}-as-run"] = lambda b=b: s.warmup_steadies(
                cold(b), doubling(b)
            )
            found[f"sqrt-{b}"] = lambda b=b: s.gained(s.at([b], scaling="sqrt"), s.at([b]), "final")
    for b in (4, 32, 128, 512):
        found[f"mode-{b}"] = lambda b=b: s.mode(s.unscaled([b], **as_run))
    for kind in ("linear", "constant"):
        found[f"{kind}-warmup"] = lambda kind=kind: s.gained(
            s.warm([largest], kind), s.at([largest]), "final"
        )
    for r in (4, 32):
        lower = {"reference_batch_size": r}
        found[f"reference-{r}-steady"] = each(
            (512, 1024, 2048), lambda b, lower=lower: s.steadied(s.at([b], **lower), s.at([b]))
        )
        found[f"reference-{r}-accuracy"] = lambda lower=lower: s.gained(
            s.at([largest], **lower), s.at([largest]), "final"
        )
    return {f"kaabachi-{name}": statistic for name, statistic in found.items()}


# -------------------------------------------------------------------------------------- surlemont


class Surlemont(Study):
    """The runs of Surlemont et al.: SGD and Adam, with and without SAM and dropout."""

    def __init__(self, root: Path, profile: str, name: str):
        """Add the measures of sharpness as columns."""
        super().__init__(root, profile, name)
        p, more = self.p, self.p.get("confirm") or {}
        self.sizes, self.seeds = sorted(p["batch_sizes"]), [*p["seeds"], *p["more_seeds"]]
        box = {"epsilon": p["epsilon"], "max_iter": p["max_iter"]}
        keskar = partial(self.measure, "keskar_sharpness", p["sharpness_examples"], **box)
        few = more.get("curvature_examples", p["lambda_max_examples"])
        self.runs = self.runs.assign(
            frozen=keskar(),
            adaptive=keskar(epsilon=more.get("adaptive_epsilon"), adaptive=True),
            lambda_max=self.measure("lambda_max", few),
            authors=self.by_authors(),
            accuracy_gap=self.runs["train_accuracy"] - self.runs["test_accuracy"],
        )
        errors = (1 - self.runs["train_accuracy"]) / (1 - self.runs["test_accuracy"])
        self.runs["ratio_off_one"] = np.log(errors.clip(1e-6, 1e6)).abs()
        losses = self.runs["validation_loss"] / self.runs["train_loss"]
        self.runs["losses_off_one"] = np.log(losses).abs()
        self.runs["solvers"] = self.runs["authors"] / self.runs["frozen"]

    EPOCHS = {  # of the authors' runs at B = 32 to 1024, by optimizer, scaling and SAM
        ("sgd", "linear", False): (199.5, 169, 132, 144.5, 159.5, 131.5),
        ("sgd", "linear", True): (309, 234, 179, 153, 138, 200),
        ("sgd", "none", False): (146, 234.5, 367.5, 500, 500, 500),
        ("sgd", "none", True): (133.5, 225.5, 385.5, 500, 500, 500),
        ("adam", "linear", False): (58.5, 54, 36.5, 40, 36.5, 24),
        ("adam", "linear", True): (15.5, 15.5, 15, 15.5, 20.5, 21.5),
        ("adam", "none", False): (69, 63, 58, 107.5, 117, 163),
        ("adam", "none", True): (16, 18, 24, 35.5, 51.5, 81.5),
    }

    def arm(
        self,
        sizes: Iterable[int],
        optimizer: str = "sgd",
        scaling: str = "linear",
        sam: bool = False,
        dropout: bool = True,
        **changes: Any,
    ) -> pd.DataFrame:
        """Return the runs of an arm; at the reference batch size both rates are one.

        SAM without dropout is, in the profiles that have both, SAM with its dropout off.
        """
        p = self.p
        if p.get("confirm") and sam and scaling == "none":
            raise NotRun("no arm of this profile, which has one of its batch sizes alone")
        if not p.get("confirm") and changes.keys() & {"sam_adaptive", "sam_dropout"}:
            raise NotRun("no arm of this profile")
        fields = {"optimizer": optimizer, "base_lr": float(p[f"{optimizer}_lr"])}
        fields |= {"rho": float(p["rho"]) if sam else None}
        fields |= {"dropout": float(p["dropout"] if dropout else 0), "seed": self.seeds}
        fields |= {"sam_adaptive": False, "sam_dropout": True}
        if sam and not dropout and p.get("confirm"):
            fields |= {"dropout": float(p["dropout"]), "sam_dropout": False}
        runs = self.select(**fields | changes)
        epochs = dict(
            zip((32, 64, 128, 256, 512, 1024), self.EPOCHS[optimizer, scaling, sam], strict=True)
        )
        runs = runs.assign(source_epochs=runs["batch_size"].map(epochs).fillna(500))
        same = runs["batch_size"] == p["reference_batch_size"]
        runs = runs[(runs["scaling"] == scaling) | (same & (runs["scaling"] == "linear"))]
        few = (p.get("confirm") or {}).get("control_epochs")
        runs = runs[~((runs["stopped"] == "epochs") & (runs["epochs"] == few))]
        return whole_seeds(runs[runs["batch_size"].isin(sizes)], "batch_size", sizes)

    def shares(self, runs: pd.DataFrame) -> Iterable[tuple[float, float, float, bool]]:
        """Yield what each run has of the authors' updates, images and width; whether other data."""
        for _, run in runs.iterrows():
            part = 1.0
            if run["stopped"] == "epochs" and run["epochs"] < 500:
                part = run["updates"] / (
                    run["source_epochs"] * math.ceil(48_000 / run["batch_size"])
                )
            other = run["dataset"] != "fashion_mnist"
            yield part, run["train_size"] / 48_000, run["width"], other

    def few_epochs(self) -> pd.DataFrame:
        """Return the control with few epochs, at the smallest and the largest batch size."""
        if not (confirm := self.p.get("confirm")):
            raise NotRun("no control")
        ends = [self.sizes[0], self.sizes[-1]]
        few = {"stopped": "epochs", "epochs": confirm["control_epochs"], "rho": None}
        runs = self.select(
            optimizer="sgd", dropout=float(self.p["dropout"]), seed=self.seeds, **few
        )
        return whole_seeds(runs[runs["batch_size"].isin(ends)], "batch_size", ends)

    def large_rho(self, sizes: Iterable[int], rho: float) -> pd.DataFrame:
        """Return SAM at another radius."""
        return self.arm(sizes, sam=True, rho=float(rho))

    def shows(self, kind: str) -> None:
        """Refuse claims on SAM's sharpness, on batch sizes' or on accuracy without the control."""
        if not (confirm := self.p.get("confirm")):
            return
        ends, large = [self.sizes[0], self.sizes[-1]], self.sizes[-1:]

        def values() -> pd.Series:
            if kind == "accuracy":
                return 100 * paired(self.few_epochs(), self.arm(ends), "test_accuracy")
            sides = self.arm(ends), self.large_rho(ends, confirm["control_rho"])
            if kind == "sizes":
                sides = self.arm(large, scaling="none"), self.arm(large)
            above_chance(*(sides := shared_seeds(*sides)))
            return ratio(*sides, "frozen")

        accuracy = kind == "accuracy"
        control(
            self, "accuracy" if accuracy else "sharpness", "below" if accuracy else "above", values
        )

    def sharper(self, a: pd.DataFrame, b: pd.DataFrame, shows: str = "sharpness") -> Found:
        """Return the sharpness of a over that of b."""
        a, b = self.compared(a, b)
        if shows:
            self.shows(shows)
        above_chance(a, b)
        minima(a, b)
        return sharper(a, b)

    def more_accurate(
        self, a: pd.DataFrame, b: pd.DataFrame, column: str = "test_accuracy"
    ) -> Found:
        """Return the accuracy of a minus that of b, which has learned something."""
        a, b = self.compared(a, b)
        self.shows("accuracy")
        above_chance(b)
        return points(self, a, b, column)

    def gap(self, a: pd.DataFrame, b: pd.DataFrame, column: str, unit: float = 100) -> Found:
        """Return the gap between training and test of a minus that of b."""
        a, b = self.compared(a, b)
        self.shows("accuracy")
        above_chance(a, b)
        minima(a, b)
        return difference(self, a, b, column, unit)

    def larger_rho(self) -> Found:
        """Return sharpness at the default radius over that at the largest one that trains."""
        p, large, found = self.p, self.sizes[-1:], {}
        rhos = [*p["rho_sweep"], *([p["confirm"]["control_rho"]] if p.get("confirm") else [])]
        for rho in sorted(r for r in rhos if r > p["rho"]):
            try:
                found[rho] = self.sharper(self.arm(large, sam=True), self.large_rho(large, rho), "")
            except Absent as absent:
                why = absent
        if not found:
            raise why if any(r > p["rho"] for r in rhos) else NotRun("no larger radius")
        most = max(len(one.values) for one in found.values())
        return found[max(rho for rho, one in found.items() if len(one.values) == most)]


def surlemont(study: Surlemont) -> dict[str, Callable]:
    """Return the statistic of each claim."""
    s, sizes = study, (32, 64, 128, 256, 512, 1024)
    large, first = [study.sizes[-1]], [study.sizes[0]]
    fixed, adam = {"scaling": "none"}, {"optimizer": "adam"}
    plain, sam, off = {}, {"sam": True}, {"dropout": False}
    radius = float((study.p.get("confirm") or {}).get("adaptive_rho", 0))
    adaptive = sam | {"sam_adaptive": True, "rho": radius}  # of the cited code, where it is tested
    run = adaptive | {"sam_dropout": False}

    def sharp(a: dict, b: dict, at: Iterable[int]) -> Found:
        return s.sharper(s.arm(at, **a), s.arm(at, **b))

    def tested(a: dict, b: dict, at: Iterable[int]) -> Found:
        return s.more_accurate(s.arm(at, **a), s.arm(at, **b))

    def gap(a: dict, b: dict, at: Iterable[int]) -> Found:
        return s.gap(s.arm(at, **a), s.arm(at, **b), "accuracy_gap")

    def off_one(a: dict, column: str, at: Iterable[int]) -> Found:
        return s.gap(s.arm(at, **a), s.arm(at), column, 1)

    def validated(at: Iterable[int]) -> Found:
        return s.more_accurate(s.arm(at, **run), s.arm(at), "validation_accuracy")

    def solvers(at: Iterable[int]) -> Found:
        a, b = s.compared(s.arm(at), s.arm(at, **run))
        s.measured("solvers")
        return replace(s.sharper(a, b), values=ratio(a, b, "solvers"), others={})

    def each(at: Iterable[int], statistic: Callable, *arms: Any) -> Callable:
        return lambda: {f"B = {b}": partial(statistic, *arms, [b]) for b in at}

    def of_sizes(arm: dict, a: Iterable[int] = large, b: Iterable[int] = first) -> Found:
        runs = s.arm([*a, *b], **arm)
        return s.sharper(*(runs[runs["batch_size"].isin(of)] for of in (a, b)), "sizes")

    def outlier(statistic: Callable) -> Callable:
        return lambda: {f"B = {b}": partial(statistic, b) for b in sizes[:-1]}

    def less_accurate(b: int) -> Found:
        runs = s.arm([b, 1024], **sam)
        return s.more_accurate(*(runs[runs["batch_size"] == of] for of in (1024, b)))

    def time(b: int) -> Found:
        without, with_sam = s.seconds(sam=False), s.seconds(sam=True)
        if b not in without:
            raise NotRun(f"B = {b} is not timed")
        return Found(with_sam[b] / without[b], timing=True, repeats=True)

    def faster() -> Found:
        times = s.seconds(sam=False)
        return Found(
            times[times.columns.max()] / times[times.columns.min()], timing=True, repeats=True
        )

    found = {
        "scaling-compensates": lambda: s.more_accurate(s.arm(large), s.arm(first)),
        "sam-keeps-accuracy": each((32, 64), tested, sam, plain),
        "sam-lowers-accuracy-large": lambda: tested(sam, plain, (256, 512, 1024)),
        "outlier-accuracy-1024": outlier(less_accurate),
        "outlier-sharpness-1024": outlier(lambda b: of_sizes(sam, [1024], [b])),
        "sam-small-only": lambda: sharp(plain, sam, (128, 256, 512)),
        "scaled-equal-sharpness": lambda: of_sizes(plain),
        "scaled-sharper": lambda: of_sizes(plain),
        "sam-lr-relation": lambda: of_sizes(sam),
        "sam-narrows-gap": each((32, 64), gap, sam, plain),
        "sam-error-ratio": each((32, 64), off_one, sam, "ratio_off_one"),
        "sam-keeps-accuracy-as-run": each((32, 64), validated),
        "sam-error-ratio-as-run": each((32, 64), off_one, run, "losses_off_one"),
        "sam-lr-relation-as-run": lambda: of_sizes(run),
        "adam-sharper-scaled": lambda: sharp(adam, plain, s.sizes),
        "fixed-gap": lambda: s.gap(s.arm(large, **fixed), s.arm(first, **fixed), "accuracy_gap"),
        "fixed-sam-accuracy": each((32, 64), tested, fixed | sam, fixed),
        "fixed-sam-small": each((32, 64), sharp, fixed, fixed | sam),
        "fixed-sam-large": lambda: sharp(fixed, fixed | sam, (128, 256, 512)),
        "dropout-explains": lambda: sharp(plain, sam | off, [32]),
        "dropout-alone": each((32, 64), sharp, plain, off),
        "sam-without-dropout": lambda: sharp(off, sam | off, [32]),
        "sam-doubles-time": lambda: {f"B = {b}": partial(time, b) for b in sizes},
        "large-batch-faster": faster,
        "larger-rho": s.larger_rho,
    }
    for b in sizes[:-1]:
        found[f"sam-sharpness-{b}"] = partial(sharp, plain, sam, [b])
    for b in (32, 64):
        found |= {
            f"sam-sharpness-{b}-as-run": partial(sharp, plain, run, [b]),
            f"adaptive-{b}": partial(sharp, plain, adaptive, [b]),
            f"dropout-in-adaptive-{b}": partial(sharp, adaptive, run, [b]),
            f"plain-as-run-{b}": partial(sharp, plain, sam | {"sam_dropout": False}, [b]),
            f"solver-{b}": partial(solvers, [b]),
        }
    for rate, arm in (("scaled", plain), ("fixed", fixed)):
        found[f"adam-accuracy-{rate}"] = each(sizes, tested, adam | arm | sam, adam | arm)
        found[f"adam-worse-{rate}"] = partial(tested, adam | arm, arm, s.sizes)
        found[f"adam-sharpness-{rate}"] = each(sizes, sharp, adam | arm, adam | arm | sam)
    return {f"surlemont-{name}": statistic for name, statistic in found.items()}


# ------------------------------------------------------------------------------------ comparison

STUDIES = {
    "keskar_sharp_minima": (Keskar, keskar),
    "chang_batch_size": (Chang, chang),
    "kaabachi_warmup": (Kaabachi, kaabachi),
    "surlemont_sam": (Surlemont, surlemont),
}
CORRECTED = "confirm"  # the profile whose primary claims are corrected for their number


def verdicts(root: Path, profile: str) -> dict[str, dict[str, Verdict]]:
    """Return the verdicts of a profile by study and claim."""
    lock = json.loads((root / "bsglib/studies/claims.lock").read_text(encoding="utf-8"))
    found, p = {}, {}
    for name, entries in lock.items():
        rules = {claim: Rule.of(entry) for claim, entry in entries.items()}
        p |= {(name, claim): 1.0 for claim, rule in rules.items() if rule.primary}
        if not (root / "reports" / "results" / profile / name / "runs.csv").is_file():
            continue
        read, claims = STUDIES[name]
        study = read(root, profile, name)
        statistics = claims(study)
        few = 3 if (study.runs["seed"] < FRESH).any() else 5
        ten = 10 if profile == CORRECTED else few
        needs = {claim: ten if rule.primary else few for claim, rule in rules.items()}
        found[name] = {c: judge(statistics[c], rules[c], study, needs[c]) for c in rules}
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
    lines += [
        f"{name}: another SHA-256 than in {MANIFEST}"
        for name in both
        if there[name] != listed[name]
    ]
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
