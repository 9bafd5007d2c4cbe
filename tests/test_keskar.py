"""Tests of bsglib.studies.keskar: design, claims and tables of the study of sharp minima."""

import dataclasses
import functools
import json
import math

import numpy as np
import pandas as pd
import pytest

from bsglib import cli
from bsglib.claims import NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, interval_text, verdict
from bsglib.project import ROOT
from bsglib.runs.measures import LINE
from bsglib.runs.params import ParameterError, parse
from bsglib.studies import keskar
from bsglib.studies.keskar import claims, protocol, published, readings, views
from bsglib.studies.keskar.protocol import (
    ADAPTIVE,
    EVOLUTION,
    HALF,
    LB,
    LOSS,
    MAIN,
    RATES,
    SB,
    SHARPNESS,
    SIZES,
    SUBSPACE,
    SUBSPACE_HALF,
    SWITCH,
    UPDATES,
)
from bsglib.studies.study import Results, designed_table, matching

PROFILES = sorted(f.stem for f in (ROOT / "params" / keskar.study.name).glob("*.yaml"))
IDS = [claim.id for claim in keskar.CLAIMS]
label = "{}, {}".format  # name of an arm


def parameters(profile="laptop"):
    return cli._parameters(keskar.study, profile)


# A made-up world


def as_stated(name, network, c, p):
    """What the source says about a run: accuracies, training loss, sharpness in per cent."""
    along = math.log(c.batch_size / network.small_batch_size)
    along /= math.log(network.large_batch_size / network.small_batch_size)  # 0 for SB, 1 for LB
    if c.first_epochs:  # a late switch ends where the small batch does
        along *= 1 - c.first_epochs / max(network.switch_epochs)
    rate = math.log10(c.base_lr / p.lr)  # a higher rate ends sharper and tests worse
    train_sb, train_lb, test_sb, test_lb = (s.mean / 100 for s in published.ACCURACY[name])
    early = 1 / c.epochs if c.patience is None and c.target_loss is None else 0
    values = {
        "train_loss": 0.01 + early,
        "train_accuracy": (train_sb + along * (train_lb - train_sb)) * (1 - early / 2),
        "test_accuracy": test_sb + along * (test_lb - test_sb) - 0.005 * rate,
    }
    tables = {"": published.FULL_SPACE[name], SUBSPACE: published.SUBSPACE[name]}
    # down with the loss for SB, up for LB
    factor = 10 ** (0.3 * rate) * (1 + (1 - 1.5 * along) * early)
    for column, table, (small, large) in (
        (SHARPNESS, "", (0, 1)),
        (HALF, "", (2, 3)),
        (SUBSPACE, SUBSPACE, (0, 1)),
        (SUBSPACE_HALF, SUBSPACE, (2, 3)),
    ):
        small, large = tables[table][small].mean, tables[table][large].mean
        values[column] = factor * small * (large / small) ** along
    return values


def without_effect(name, network, c, p):
    """A world in which only the data decide."""
    values = {"train_loss": 0.01, "train_accuracy": 0.99, "test_accuracy": 0.8}
    return values | dict.fromkeys((SHARPNESS, HALF, SUBSPACE, SUBSPACE_HALF), 10.0)


def world(rule=as_stated, p=None):
    """Results in which each run is what `rule` says, with a little noise from its seed."""
    p = p or parameters()
    rows, points = [], []
    for entry in protocol.design(p):
        c, name = (entry.alone or entry).config, entry.labels["network"]
        values = rule(name, p.networks[name], c, p)
        generator = np.random.default_rng([c.seed, *c.canonical().encode()])
        noise = 1 + (0 if rule is without_effect else 1e-4) * generator.standard_normal(len(values))
        values = dict(zip(values, noise * list(values.values()), strict=True))
        values[ADAPTIVE] = 10 * values[SHARPNESS]
        values["lambda_max"] = values["hessian_trace"] = values[SHARPNESS]
        row = c.model_dump() | {"network_options": json.dumps(c.network_options)}
        size = c.train_size or 57_000
        row |= entry.columns | {"part": entry.part, "run_id": entry.key}
        row |= {"train_size": size, "updates": c.epochs * math.ceil(size / c.batch_size)}
        row |= {"stopped": "epochs" if c.target_loss is None else "target_loss"}
        row |= {"validation_accuracy": values["test_accuracy"], "running_loss": 0.01}
        row |= {name: values[name] for name in values if "loss" in name or "accuracy" in name}
        for measure in entry.measures:
            if measure.name == LINE:
                points.append(line(entry, measure, rule, p))
                continue
            row[measure.column] = values.get(measure.column, values[SHARPNESS])
            stop = "STOP: TOTAL NO. OF ITERATIONS REACHED LIMIT"
            trace = {"iterations": 10, "evaluations": 12, "stop": stop}
            row |= {f"{measure.column}.{key}": value for key, value in trace.items()}
        rows.append(row)
    runs, points = pd.DataFrame(rows), pd.concat(points, ignore_index=True)
    nothing, design = pd.DataFrame(), designed_table(protocol.design(p))
    return Results(keskar.study, p, runs, nothing, points, nothing, design, 0)


def line(entry, measure, rule, p):
    """A valley around each end, as steep as the ends are sharp, the test loss 0.2 nats above."""
    name = entry.labels["network"]
    small, large = (
        rule(name, p.networks[name], c, p)[SHARPNESS] for c in (measure.start, entry.config)
    )
    alpha = np.linspace(-1, 2, measure.options["points"]).repeat(2)
    rise = np.where(alpha < 0.5, small * alpha**2, large * (alpha - 1) ** 2)
    sets = np.array(["train", "test"] * (len(alpha) // 2))
    loss = 0.01 + rise + 0.2 * (sets == "test")
    values = {"alpha": alpha, "set": sets, "loss": loss, "accuracy": 1 / (1 + loss)}
    return pd.DataFrame(values).assign(path=measure.options["path"], **entry.columns)


def judged(results, name):
    claim = keskar.study.claim(f"keskar-{name}")
    return verdict(claim, claim.statistic(results))


def words(results):
    return {name: judged(results, name.removeprefix("keskar-")).verdict for name in IDS}


def changed(results, runs=None, points=None, p=None):
    """The same results with other tables."""
    new = {"runs": runs, "points": points, "parameters": p}
    return dataclasses.replace(results, **{k: v for k, v in new.items() if v is not None})


def altered(results, values, **where):
    """The same results with some columns of some runs changed; `where` selects them."""
    runs, mine = results.runs.copy(), matching(results.runs, **where).index
    assert len(mine)
    for column, value in values.items():
        runs.loc[mine, column] = value
    return changed(results, runs)


def without(results, **where):
    """The same results without some runs, and without the lines from them."""
    points = results.points.drop(index=matching(results.points, **where).index)
    return changed(results, results.runs.drop(index=matching(results.runs, **where).index), points)


@functools.cache
def stated_in(profile):
    return world(p=parameters(profile))


@pytest.fixture
def stated():
    return stated_in("laptop")


# Claims


def test_every_claim_says_where_it_stands_and_what_shows_it():
    for claim in keskar.CLAIMS:
        texts = (claim.figure, claim.locator, claim.statement, claim.quantity, claim.value)
        assert all(text.strip() and "{" not in text for text in texts)
        assert claim.id.startswith("keskar-") and claim.statement.endswith(".")
        assert claim.rule.target[0] < claim.rule.target[1]
    primary = [claim.id for claim in keskar.CLAIMS if claim.primary]
    assert primary == [
        *(f"keskar-{name}-gap" for name in ("f1", "f2", "c1")),
        *(f"keskar-{name}-sharper" for name in ("f1", "f2", "c1")),
        *(f"keskar-c1-{end}" for end in ("correlation", "gap-tuned", "sharper-loss")),
    ]


CONTRADICTED = {"keskar-f2-training"}  # table 2: F2 trains to 99.99 and 98.35 per cent
NOT_YET = set(claims.NOT_YET)


def test_a_world_like_the_source_reproduces_its_claims(stated):
    found = words(stated)
    assert {n for n, word in found.items() if word == NOT_TESTABLE} == NOT_YET
    wrong = {n: w for n, w in found.items() if w != REPRODUCED and n not in NOT_YET}
    assert wrong == dict.fromkeys(CONTRADICTED, NOT_REPRODUCED)


def test_a_world_where_the_batch_size_changes_nothing_reproduces_no_effect_of_it():
    found = {name for name, word in words(world(without_effect)).items() if word == REPRODUCED}
    assert found == {f"keskar-{name.lower()}-training" for name in published.NETWORKS}


def opposite(name, network, c, p):
    """The source's world with large and small batch exchanged."""
    other = network.small_batch_size * network.large_batch_size / c.batch_size
    return as_stated(name, network, c.model_copy(update={"batch_size": other}), p)


def test_a_world_the_other_way_round_reproduces_no_gap_and_no_sharper_minimum():
    found = words(world(opposite))
    ends = ("gap", "sharper", "sharper-subspace", "sharper-adaptive", "line", "gap-updates")
    ends += ("sharper-loss", "sharpness-rises", "accuracy-falls")
    for name in IDS:
        if name.split("-", 2)[-1] in ends:
            assert found[name] == NOT_REPRODUCED, name


def test_the_numbers_of_the_made_up_world_are_those_of_the_source(stated):
    for name in published.NETWORKS:
        full = published.FULL_SPACE[name]
        ours = judged(stated, f"{name.lower()}-sharper").ours
        assert ours.mean == pytest.approx(full[1].mean / full[0].mean, rel=1e-3)
        gap = published.ACCURACY[name][2].mean - published.ACCURACY[name][3].mean
        assert judged(stated, f"{name.lower()}-gap").ours.mean == pytest.approx(gap, abs=0.05)


# Claims that cannot be tested


def why_not(results, name):
    found = judged(results, name)
    assert found.verdict == NOT_TESTABLE, name
    return found.reason


OF_PAIR = ("gap", "sharper", "sharper-subspace", "sharper-adaptive", "line", "agree")
ENDS = {  # of the claims that need an arm
    SB: OF_PAIR,
    LB: OF_PAIR,
    SIZES: ("sharpness-rises", "accuracy-falls"),
    SWITCH: ("switch-works", "switch-timing", "switch-flatter"),
    EVOLUTION: ("evolution-small", "evolution-large", "gap-epochs", "sharper-epochs"),
    RATES: ("gap-tuned", "sharper-tuned"),
    UPDATES: ("gap-updates", "sharper-updates"),
    LOSS: ("gap-loss", "sharper-loss"),
}
each_arm = pytest.mark.parametrize("kind", ENDS)


@pytest.mark.parametrize("kind", [kind for kind in ENDS if kind != LOSS])
def test_untrained_runs_are_not_testable_and_named(stated, kind):
    arm = label("F2", kind)
    results = altered(stated, {"train_accuracy": 0.5}, arm=arm, seed=1)
    for name in ENDS[kind]:
        if not name.startswith("evolution"):
            why = why_not(results, f"f2-{name}")
            assert arm in why and "training accuracy 50 %, 90 % needed" in why and "B = " in why
    assert judged(results, "c1-sharper").verdict == REPRODUCED
    assert (judged(results, "f2-training").verdict == NOT_TESTABLE) == (kind == SB)


def test_runs_at_an_equal_loss_are_held_to_that_loss_and_not_to_an_accuracy(stated):
    loss = {"network": "F2", "condition": LOSS}
    results = altered(stated, {"train_accuracy": 0.5}, **loss)
    assert judged(results, "f2-sharper-loss").verdict == REPRODUCED
    results = altered(stated, {"train_loss": 0.05}, batch=LB, **loss)
    why = "training losses 0.01 and 0.05 differ by more than a factor of 2"
    assert why_not(results, "f2-sharper-loss") == why
    results = altered(stated, {"stopped": "epochs", "running_loss": 0.9}, seed=2, **loss)
    for name in ("f2-gap-loss", "f2-sharper-loss"):
        why = why_not(results, name)
        assert label("F2", LOSS) in why and "training loss 0.9, target 0.05" in why
    assert judged(results, "c1-gap-loss").verdict == REPRODUCED


@pytest.mark.parametrize("loss", [math.nan, math.inf])
@each_arm
def test_diverged_runs_are_not_testable_and_named(stated, kind, loss):
    arm = label("F2", kind)
    broken = {"stopped": "diverged", "train_accuracy": 0.1, "test_accuracy": 0.1}
    broken |= {"running_loss": loss, "train_loss": loss, SHARPNESS: math.nan, "epochs": 1}
    results = altered(stated, broken, arm=arm, seed=1)
    for name in ENDS[kind]:
        why = why_not(results, f"f2-{name}")
        assert arm in why and "diverged" in why, why


def test_a_run_that_diverged_on_its_way_is_compared_where_it_did(stated):
    """How far it was to be trained decides, not how far it got."""
    last = {"arm": label("F2", EVOLUTION), "epochs": 40, "seed": 1, "batch": LB}
    broken = {"epochs": 30, "stopped": "diverged", "train_accuracy": 0.1, SHARPNESS: math.nan}
    results = altered(stated, broken, **last)
    for name in ("gap-epochs", "sharper-epochs", "evolution-large"):
        why = why_not(results, f"f2-{name}")
        assert f"{last['arm']}, B = 2048" in why and why.endswith("diverged")
    assert judged(results, "f2-evolution-small").verdict == REPRODUCED


@pytest.mark.parametrize("missing", [{}, {"seed": 1}], ids=["all", "a seed"])
@each_arm
def test_missing_runs_are_not_testable_and_named(stated, kind, missing):
    arm = label("F2", kind)
    results = without(stated, arm=arm, **missing)
    for name in ENDS[kind]:
        why = why_not(results, f"f2-{name}")
        assert " runs computed: " in why and arm in why
    assert judged(results, "c1-gap-loss").verdict == REPRODUCED


def test_an_early_part_of_a_design_is_not_taken_for_the_whole(stated):
    """Runs of SB and LB stand in later arms, too, before the rest of those is computed."""
    entries = protocol.design(stated.parameters)
    stored = {(e.config.canonical(), m.file) for e in entries if e.part == 1 for m in e.measures}
    there = [{(e.config.canonical(), m.file) for m in e.measures} <= stored for e in entries]
    results = changed(stated, stated.runs[there])
    assert set(views.rivals(results)["condition"]) == {MAIN}
    for table in (views.thresholds(results), views.correlations(results)):
        assert table.index.tolist() == ["not computed yet"]
    assert set(results.runs["arm"]) >= {label("F2", kind) for kind in (SIZES, SWITCH, RATES)}
    for name in IDS:
        network, _, end = name.removeprefix("keskar-").partition("-")
        if network.upper() in claims.VARIED and end not in ("training", *OF_PAIR):
            assert network.upper() in why_not(results, f"{network}-{end}"), name


def test_too_few_configurations_are_no_correlation(stated):
    runs = matching(stated.runs, network="C1", condition=[SIZES, RATES])
    few = runs["base_lr"].eq(0.001) & runs["batch_size"].isin([26, 64, 128])
    results = altered(stated, {"train_accuracy": 0.5}, entry=runs.loc[~few, "entry"].tolist())
    assert why_not(results, "c1-correlation") == "3 trained configurations, 4 needed"


def test_a_network_that_is_not_in_the_profile_or_not_at_hand_is_told(stated):
    p = parameters()
    few = p.model_copy(update={"networks": {"F1": p.networks["F1"]}})
    assert why_not(world(p=few), "c2-gap") == "C2, as in the paper, SB: not in this profile"
    results = without(stated, network="C3")
    assert why_not(results, "c3-gap") == "0 of 6 runs computed: C3, SB, C3, LB"
    c3 = results.design["network"] == "C3"
    tables = {"design": results.design[~c3], "left_out": results.design[c3]}
    why = "C3, as in the paper, SB: cifar100 is not available; `bsg data cifar100` fetches it"
    assert why_not(dataclasses.replace(results, **tables), "c3-gap") == why
    network = p.networks["C1"].model_copy(update={"switch_epochs": []})
    results = world(p=p.model_copy(update={"networks": {"C1": network}}))
    assert why_not(results, "c1-switch-works") == "C1, warm start: not in this profile"


def test_a_line_without_the_points_that_are_read_off_is_not_testable(stated):
    few = stated.parameters.model_copy(update={"line_points": 7})
    why = "the line has no points at a distance of 0.25 from its ends"
    assert why_not(changed(stated, p=few), "f1-line") == why


def test_a_rate_is_chosen_by_validation_and_not_by_test_accuracy(stated):
    results = altered(stated, {"validation_accuracy": 0.5}, network="C1", condition=RATES)
    for batch, best in ((SB, 0.003), (LB, 0.01)):
        mine = {"network": "C1", "condition": RATES, "batch": batch, "base_lr": best}
        results = altered(results, {"validation_accuracy": 0.6, "test_accuracy": 0.1}, **mine)
    found = judged(results, "c1-gap-tuned")
    assert "rates 0.003 and 0.01;" in found.reason
    assert found.ours.mean == pytest.approx(0)


def test_configurations_are_trained_complete_and_counted_once(stated):
    runs = readings.configurations(stated, "F2")
    assert not runs.duplicated([*readings.GRID, "seed"]).any()
    assert runs.groupby(list(readings.GRID)).ngroups == 2 * 4 + 3
    for column, value in (("train_accuracy", 0.5), (SHARPNESS, math.nan)):
        one = {"base_lr": 0.003, "seed": 0, "batch_size": 102}
        left = readings.configurations(altered(stated, {column: value}, **one), "F2")
        assert left.groupby(list(readings.GRID)).ngroups == 2 * 4 + 3 - 1
        assert set(left.groupby(list(readings.GRID)).size()) == {3}


# Design


@pytest.fixture(scope="module", params=PROFILES)
def designed(request):
    """A profile's parameters, and the entries of each arm by its network and kind."""
    p, arms = parameters(request.param), {}
    for entry in protocol.design(p):
        name, kind = entry.labels["network"], entry.labels["condition"]
        kind = entry.labels["batch"] if kind == MAIN else kind
        assert entry.arm == label(name, kind)
        arms.setdefault((name, kind), []).append(entry)
    return p, arms


def differing(one, other):
    return {k for k, v in one.model_dump().items() if getattr(other, k) != v}


def test_small_and_large_batch_of_a_seed_share_all_else_and_lines_join_the_two(designed):
    p, arms = designed
    for name, network in p.networks.items():
        pairs = list(zip(arms[name, SB], arms[name, LB], strict=True))
        assert [small.config.seed for small, _ in pairs] == network.seeds
        for small, large in pairs:
            assert differing(small.config, large.config) == {"batch_size"}
            sizes = small.config.batch_size, large.config.batch_size
            assert sizes == (network.small_batch_size, network.large_batch_size)
            lines = [m for m in large.measures if m.name == LINE]
            assert [m.options["path"] for m in lines] == ["linear", "curvilinear"]
            assert {m.start.canonical() for m in lines} == {small.config.canonical()}
            assert not any(m.name == LINE for m in small.measures)
            assert large.measures[: len(small.measures)] == small.measures


def test_every_run_stands_once_in_an_arm_and_its_columns_are_told_apart(designed):
    for arm, entries in designed[1].items():
        assert len({(e.run, e.epoch) for e in entries}) == len(entries), arm
        for entry in entries:
            columns = [m.column for m in entry.measures if m.name != LINE]
            assert SHARPNESS in columns
            assert len(set(columns)) == len(columns)


def test_a_warm_start_has_small_batch_epochs_and_then_those_of_the_large_batch(designed):
    p, arms = designed
    for name, network in p.networks.items():
        assert set(network.switch_epochs) <= set(network.evolution_epochs), "the figure needs them"
        for e in arms.get((name, EVOLUTION), []):
            assert e.config.patience is None and e.epoch in network.evolution_epochs
        entries = arms.get((name, SWITCH), [])
        for seed in network.seeds if entries else []:
            alone, *switched = [e.config for e in entries if e.config.seed == seed]
            assert (alone.first_epochs, alone.epochs) == (0, network.epochs)
            assert [c.first_epochs for c in switched] == network.switch_epochs
            for c in switched:
                assert c.epochs == c.first_epochs + network.epochs
                sizes = network.small_batch_size, network.large_batch_size
                assert (c.first_batch_size, c.batch_size) == sizes


def test_what_is_held_equal_is_equal(designed):
    p, arms = designed
    whole = {"spoken_digits": 110_653, "cifar10": 49_000}  # less the paper's fiftieth
    for (name, kind), entries in arms.items():
        configs = [e.config for e in entries]
        if kind == UPDATES:
            sizes = [math.ceil((c.train_size or whole[c.dataset]) / c.batch_size) for c in configs]
            updates = [size * c.epochs for size, c in zip(sizes, configs, strict=True)]
            assert max(updates) <= 1.02 * min(updates), name
            assert {c.patience for c in configs} == {None}
            assert len({c.batch_size for c in configs}) == 2
        if kind == LOSS:
            stops = {(c.target_loss, c.patience) for c in configs}
            assert stops == {(p.networks[name].equal_loss, None)}


def test_the_sources_rate_is_among_the_rates_to_choose_from(designed):
    p, arms = designed
    for name, network in p.networks.items():
        assert not network.lrs or p.lr in network.lrs, name
        for size in (network.small_batch_size, network.large_batch_size):
            configs = [e.config for e in arms.get((name, RATES), [])]
            rates = {c.base_lr for c in configs if c.batch_size == size}
            assert rates == ({p.lr} | set(network.lrs) if network.lrs else set())


def test_parts_are_one_to_four_and_the_sources_comparison_comes_first(designed):
    p, _ = designed
    entries = protocol.design(p)
    parts = [entry.part for entry in entries]
    assert parts == sorted(parts)
    assert set(parts) == ({1, 2, 3} if p.profile == "confirm" else {1, 2, 3, 4})
    first = {e.labels["condition"] for e in entries if e.part == 1}
    assert first == ({MAIN, EVOLUTION} if p.patience is None else {MAIN})
    assert [e.key for e in entries] == [e.key for e in protocol.design(p)]


def test_batches_of_the_laptop_are_about_a_two_hundredth_and_a_tenth_of_the_data():
    for name, network in parameters().networks.items():
        size = network.train_size or 57_000  # 60,000 of MNIST less a twentieth for validation
        assert size / 260 <= network.small_batch_size <= size / 160, name
        assert size / 11 <= network.large_batch_size <= size / 9, name
        two = network.small_batch_size, network.large_batch_size
        between = [two[0], *network.other_batch_sizes, two[1]]
        assert between == sorted(between), name


def test_only_networks_on_cifar100_may_be_left_out():
    for entry in protocol.design(parameters()):
        assert entry.optional == (entry.config.dataset == "cifar100")


def test_the_published_tables_hold_every_network_and_a_sharper_large_batch():
    tables = published.ACCURACY, published.FULL_SPACE, published.SUBSPACE
    assert {tuple(table) for table in tables} == {published.NETWORKS}
    for row in (*published.FULL_SPACE.values(), *published.SUBSPACE.values()):
        assert row[1].mean / row[0].mean > 1 and row[3].mean / row[2].mean > 1
        assert row[0].mean > row[2].mean and row[1].mean > row[3].mean, "boxes are nested"
    for train_sb, train_lb, test_sb, test_lb in published.ACCURACY.values():
        assert 100 > train_sb.mean > test_sb.mean > test_lb.mean < train_lb.mean < 100
    assert str(published.ACCURACY["F1"][0]) == "99.66 ± 0.05"


# Tables


def test_the_papers_accuracies_stand_beside_ours(stated):
    table = views.accuracy(stated)
    assert table.index.tolist() == [(n, s) for n in published.NETWORKS for s in ("paper", "ours")]
    assert table.loc[("F1", "paper"), "training SB"] == "99.66 ± 0.05"
    assert table.loc[("C4", "paper"), "test LB"] == "57.81 ± 0.17"
    assert table.loc[("F1", "ours"), "test SB"].startswith("98.0")
    assert table["n"].tolist() == ["5", "5"] + ["5", "3"] * 5


@pytest.mark.parametrize("subspace", [False, True])
def test_the_papers_sharpness_stands_beside_ours_at_both_box_widths(stated, subspace):
    table = views.sharpness(stated, subspace=subspace)
    heads = [f"{kind}, ε = {e}" for e in ("0.001", "0.0005") for kind in ("SB", "LB")]
    assert table.columns.tolist() == ["n", *heads]
    for name in published.NETWORKS:
        row = (published.SUBSPACE if subspace else published.FULL_SPACE)[name]
        assert table.loc[(name, "paper"), heads].tolist() == [str(s) for s in row]
        ours = [float(text.split(" ± ")[0]) for text in table.loc[(name, "ours"), heads]]
        assert ours == pytest.approx([s.mean for s in row], rel=2e-3, abs=0.01)


def test_the_scope_and_the_networks_say_what_is_here(monkeypatch):
    p = parameters()
    assert views.scope(p).loc["optimizer", "here"] == "Adam, 0.001 at every batch size"
    assert (views.scope(p)["why"].str.len() > 0).all()
    monkeypatch.setattr(protocol, "at_hand", lambda name: False)
    table = views.networks(p)
    assert table.index.tolist() == list(published.NETWORKS)
    assert table.loc["F1", "data"] == "mnist", "it would be downloaded"
    assert table.loc["C3", "data"] == "cifar100: not available"
    assert views.networks(parameters("quick")).loc["F2", "data"] == "not in this profile"


def falls_from(results, threshold, by=0.05):
    """Test accuracy as that of the small batch, less from some batch size on."""
    runs = results.runs
    low = runs["batch_size"] >= threshold
    noise = np.random.default_rng(0).normal(0, 1e-3, len(runs))
    return changed(results, runs.assign(test_accuracy=0.8 - by * low + noise))


def test_the_threshold_is_where_the_accuracy_falls_for_good(stated):
    for threshold, found in ((512, "512 (2.5 %)"), (2048, "2048 (10.0 %)"), (4096, "none")):
        table = views.thresholds(falls_from(stated, threshold))
        assert table.loc["F2", "here"] == found
        assert table["paper (share of the data)"].tolist() == ["15,000 (2.1 %)", "500 (1.0 %)"]
        assert table["n"].tolist() == ["3", "3"]
    dip = altered(falls_from(stated, 512), {"test_accuracy": 0.85}, batch_size=1024)
    assert views.thresholds(dip).loc["F2", "here"] == "2048 (10.0 %)"


def test_what_is_left_of_the_gap_is_a_share_of_the_gap_as_in_the_source():
    kept = [f"{c}_{batch}" for c in ("train_loss", "updates", "base_lr") for batch in (SB, LB)]
    rows = pd.DataFrame(
        (name, condition, seed, gap + 0.1 * (seed - 1), 2.0 + seed)
        for name, whole in (("F2", 4.0), ("C1", -1.0))
        for condition, gap in ((MAIN, whole), ("at equal updates", 1.0))
        for seed in range(3)
    ).set_axis(["network", "condition", "seed", "gap", "sharpness_ratio"], axis=1)
    rows = rows.assign(unfit="", **dict.fromkeys(kept, 1))
    table = views.what_is_left(rows)
    assert table["share of the gap"].tolist() == ["100 %", "25 %", "-", "-"]
    assert table.loc[("F2", "at equal updates"), "SB - LB (points)"] == "1.00 [0.75, 1.25]"
    assert table.loc[("F2", "at equal updates"), "phi LB / SB"] == "2.88", "the geometric mean"
    rows["unfit"] = rows["unfit"].where(rows["condition"] == MAIN, "not trained")
    assert views.what_is_left(rows)["share of the gap"].tolist() == ["100 %", "-", "-", "-"]
    assert set(table["n"]) == {"3"}


def test_rivals_hold_a_row_per_network_condition_and_seed(stated):
    rows = views.rivals(stated)
    conditions = [*views.RIVALS.values(), views.LONGER]
    expected = [(n, c, s) for n in claims.VARIED for c in conditions for s in range(3)]
    found = rows[["network", "condition", "seed"]].itertuples(index=False, name=None)
    assert sorted(found) == sorted(expected)
    equal = rows[rows["condition"] == "at equal updates"]
    assert (equal["updates_SB"] / equal["updates_LB"] - 1).abs().max() < 0.02
    claim = judged(stated, "c1-gap-updates").ours
    mine = equal.loc[equal["network"] == "C1", "gap"]
    assert claim.mean == pytest.approx(mine.mean(), rel=1e-12)
    assert set(rows.loc[rows["condition"] == conditions[2], "base_lr_LB"]) == {0.0003}
    longer, source = (rows[rows["condition"] == conditions[place]] for place in (-1, 0))
    assert longer["updates_SB"].tolist() == source["updates_SB"].tolist()
    assert sorted(longer["updates_LB"]) == sorted(equal["updates_LB"])


def test_a_shifted_test_loss_is_found_on_the_line(stated):
    points = views.points(stated, "linear")
    assert set(points["network"]) == set(published.NETWORKS)
    near = points[points["alpha"].between(-0.5, 1.5)]
    table = views.shift(near)
    assert table.index.tolist() == [(n, end) for n in published.NETWORKS for end in (SB, LB)]
    raised = "test - training loss (nats)"
    assert table[raised].astype(float).tolist() == pytest.approx([0.2] * 12, abs=2e-3)
    for end, at in ((SB, "0.000"), (LB, "1.000")):
        shown = set(table.xs(end, level="minimizer").iloc[:, :2].to_numpy().ravel())
        assert shown == {f"{at} ({n} of {n})" for n in (3, 5)}
    moved = near.assign(alpha=near["alpha"] + 0.125 * (near["set"] == "test"))
    table = views.shift(moved[moved["alpha"].between(-0.375, 1.375)])
    shown = set(table.xs(LB, level="minimizer")["lowest test loss at alpha"])
    assert shown == {f"1.125 ({n} of {n})" for n in (3, 5)}
    falling = near.assign(loss=near["loss"].where(near["set"] == "train", near["alpha"]))
    shown = views.shift(falling).xs(SB, level="minimizer")["lowest test loss at alpha"]
    assert set(shown) == {f"none (0 of {n})" for n in (3, 5)}, "the edge is no minimum"


@pytest.mark.parametrize("line_points", [4, 31])
def test_lines_of_any_number_of_points_can_be_shown(line_points):
    p = parameters("quick").model_copy(update={"line_points": line_points})
    results = world(p=p)
    near = views.points(results, "linear")
    table = views.shift(near[near["alpha"].between(-0.5, 1.5)])
    shown = table["test - training loss (nats)"].astype(float)
    assert shown.tolist() == pytest.approx([0.2] * 4, abs=2e-3)


def test_a_warm_start_stands_beside_the_small_batch_where_it_switched(stated):
    table = matching(views.warm_start(stated), network="C1")
    counts = table.groupby(["batch_size", "small_batch_epochs"]).size()
    assert counts.to_dict() == {(512, k): 3 for k in (0, 5, 15, 40)} | {
        (26, k): 3 for k in (5, 15, 40)
    }
    assert table["percent"].tolist() == pytest.approx((100 * table["test_accuracy"]).tolist())


def test_other_measures_and_choices_have_a_row_for_small_and_large(stated):
    measures = views.other_measures(stated)
    assert measures.columns.tolist() == [SB, LB, "LB / SB", "iterations", "n"]
    assert measures.index.get_level_values("network").unique().tolist() == [*published.NETWORKS]
    assert measures.loc[("F1", "phi (%)"), "LB / SB"].startswith("167 [16")
    assert measures.loc[("F1", "lambda_max"), ["iterations", "n"]].tolist() == ["10", "5"]
    table = views.choices(stated)
    assert set(table.index.get_level_values(0)) == {"F1"}
    assert len(table) == 3 + len(protocol.CHOICES)
    first = table.iloc[0]
    assert first["LB / SB"].startswith("167 [16") and first["n"] == "5"
    reason = judged(stated, "f1-sharper-subspace").reason
    assert "columns of length one" in reason and "uniform columns" in reason


@pytest.mark.parametrize("kind", [SB, LB, UPDATES, LOSS])
def test_one_diverged_run_of_several_stops_no_table(stated, kind):
    broken = {"stopped": "diverged", SHARPNESS: math.nan, SUBSPACE: math.nan}
    results = altered(stated, broken, entry=stated.of(label("C1", kind))["entry"].iloc[0])
    assert all(every_view(results))
    shown = views.what_is_left(views.rivals(results)).loc["C1"]
    assert (shown["phi LB / SB"] == "-").any()


@pytest.mark.parametrize("kind", [SB, LB])
def test_one_missing_run_of_several_stops_no_table(stated, kind):
    results = changed(stated, stated.runs.drop(index=stated.of(label("F1", kind)).index[0]))
    assert views.choices(results)["n"].unique().tolist() == ["4"]
    assert all(every_view(results))


def test_correlations_are_those_that_are_judged(stated):
    table = views.correlations(stated)
    against = ("test error", "generalization gap")
    assert table.index.tolist() == [(n, error) for n in ("F2", "C1") for error in against]
    claim = judged(stated, "c1-correlation")
    assert table.loc[("C1", "test error"), "tau"] == interval_text(claim.ours)
    assert "11 configurations" in claim.reason
    grid = views.grid(stated)
    assert len(grid) == 2 * 11 * 3
    error = 100 * (1 - grid["test_accuracy"])
    assert grid["percent_error"].tolist() == pytest.approx(error.tolist())


def every_view(results):
    """Call all that the notebook calls, and return what it shows."""
    rows, near = views.rivals(results), views.points(results, "linear")
    tables = [
        *(view(results.parameters) for view in (views.scope, views.networks)),
        *(views.sharpness(results, subspace=subspace) for subspace in (False, True)),
        *(view(results) for view in (views.accuracy, views.other_measures, views.choices)),
        *(view(results) for view in (views.thresholds, views.warm_start, views.grid)),
        views.correlations(results),
        rows,
        views.what_is_left(rows),
        near,
        views.points(results, "curvilinear"),
        views.shift(near[near["alpha"].between(-0.5, 1.5)]),
    ]
    return [table.to_html() for table in tables]


@pytest.mark.parametrize("diverged", [False, True])
@pytest.mark.parametrize("kind", [SB, LB, SIZES, SWITCH, EVOLUTION, RATES, UPDATES, LOSS])
@pytest.mark.parametrize("profile", ["quick", "laptop"])
def test_every_table_and_claim_works_where_nothing_but_one_run_is_there(profile, kind, diverged):
    results = stated_in(profile)
    config = results.of(label("C1", kind)).iloc[-1]
    same = ["dataset", "network", "seed", "batch_size", "base_lr", "epochs", "first_epochs"]
    runs = matching(results.runs, **config[same].to_dict())
    limits = runs[["patience", "target_loss"]]
    alike = (limits == config[limits.columns]) | (limits.isna() & config[limits.columns].isna())
    runs = runs[alike.all(axis=1)]
    points = matching(results.points, entry=runs["entry"].tolist())
    if diverged:
        columns = [c for c in runs if c.startswith(SHARPNESS)]
        runs = runs.drop(columns=[c for c in columns if "." in c])
        runs = runs.assign(stopped="diverged", train_loss=math.nan, **{SHARPNESS: math.nan})
        points = pd.DataFrame()
    one = changed(results, runs, points)
    assert all(every_view(one))
    assert {judged(one, name.removeprefix("keskar-")).verdict for name in IDS} == {NOT_TESTABLE}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"small_batch_size": 2048}, "'small_batch_size' = 2048 and 'large_batch_size' = 2048"),
        ({"other_batch_sizes": []}, "needs 'other_batch_sizes'"),
        ({"switch_epochs": [2]}, "2 is not in 'evolution_epochs'"),
    ],
)
def test_networks_whose_parameters_do_not_fit_together_are_refused(change, message):
    values = parameters().model_dump()
    values["networks"]["F2"] |= change
    with pytest.raises(ParameterError, match=message):
        parse(values, protocol.KeskarParameters)


def test_a_line_that_misses_its_ends_is_refused_before_anything_is_trained():
    with pytest.raises(ParameterError, match="'line_points' = 24"):
        parse(parameters().model_dump() | {"line_points": 24}, protocol.KeskarParameters)
