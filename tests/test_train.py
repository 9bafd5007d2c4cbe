"""Tests of bsglib.runs.train."""

import dataclasses
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_RUN, same
from torch import nn

from bsglib.data import load
from bsglib.evaluate import evaluate
from bsglib.runs import build, finished
from bsglib.runs import train as module
from bsglib.runs.build import build_model, build_optimizer, dataset_of, train_batch
from bsglib.runs.params import ParameterError, RunConfig, parse
from bsglib.runs.state import fresh
from bsglib.runs.store import Store
from bsglib.runs.train import train
from bsglib.weights import flatten

KILLED = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[3])  # the networks of this file
from bsglib import runtime
from bsglib.runs import build, train
from bsglib.runs.params import RunConfig
from bsglib.runs.store import Store
runtime.single_thread()
train.CHECKPOINT_EVERY_S = -1
jobs = json.loads(sys.argv[2])
train.train(RunConfig(**next(iter(jobs.values()))[0]))  # imports, before the forks
for name, (values, batches) in jobs.items():
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    count, train_batch = 0, build.train_batch
    def counted(*arguments, **options):
        global count
        count += 1
        if count > batches:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_batch(*arguments, **options)
    build.train_batch = counted
    train.train(RunConfig(**values), store=Store(os.path.join(sys.argv[1], name)))
    os._exit(1)
"""
NORMED = {"network": "test_train:normed", "network_options": {}}
BEST = {"patience_on": "validation_loss", "keep": "best", "validation_fraction": 0.1}
RISING = {"base_lr": 1.0, "momentum": 0.9}  # a rate at which losses go up again
ADAM = {"optimizer": "adam", "base_lr": 0.01}
KAABACHI = {"network": "kaabachi", "network_options": {"width": 0.03}}
RESUMED = {  # epochs of 4 batches, 5 of them; killed in the middle of the third
    "sam around adam": ADAM | {"rho": 0.05},
    "bfloat16": {"momentum": 0.9, "dtype": "bfloat16", "evaluate": "log"},
    "batch norm": NORMED | {"momentum": 0.9},
    "at the switch": {"first_batch_size": 13, "first_epochs": 2, "optimizer": "adam"},
    "after the switch": {"first_batch_size": 13, "first_epochs": 1, "momentum": 0.9},
    "target": {"patience": 2, "patience_on": "loss", "target_loss": 1e-9},
    "best weights and the path": BEST | RISING | {"record_path": True},
    "best weights if patience ends it": BEST | RISING | {"keep": "best_if_stopped", "patience": 4},
    "adaptive sam without dropout": {"rho": 1.0, "sam_adaptive": True, "sam_dropout": False},
    "evaluation as run": KAABACHI
    | {"warmup": "doubling", "warmup_epochs": 2.5, "evaluate_as_run": True},
    "many layers": KAABACHI | ADAM,
    "augmented inside sam": {"augment": ["flip", "rotate", "shift"], "rho": 0.05},
    "adversarial": {"augment": ["shift"], "adversarial": 0.1, "dtype": "bfloat16"},
    "proximal around adam": ADAM | {"augment": ["rotate"], "proximal": 0.1},
}


def deep(input_shape, classes):
    """A network whose outputs are a product of two layers' weights."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, classes))


def normed(input_shape, classes):
    """A network with batch norm whose inputs are normalised first."""
    return nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, classes))


# A run is a value


def test_the_same_config_gives_the_same_id_and_numbers(tiny):
    torch.manual_seed(1)
    one = train(tiny())
    torch.manual_seed(2)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    other = train(tiny())
    other.model()
    assert torch.equal(torch.get_rng_state(), state), "the global generators are left alone"
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert one.id == other.id
    assert same(one, other)
    assert finished.run_id(tiny(), "md5:a") != finished.run_id(tiny(), "md5:b"), "the data count"
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.id = "other"


def test_defaults_of_later_parameters_leave_stored_runs_their_identity(tiny):
    later = {"standardise": False, "image_size": None, "warmup": "none", "warmup_epochs": 0.0}
    later |= {"sam_adaptive": False, "sam_dropout": True}
    later |= {"shuffle": "every", "evaluate_as_run": False, "local_workers": 1, "local_steps": 1}
    later |= {"augment": [], "adversarial": None, "adversarial_weight": 0.5}
    later |= {"proximal": None, "proximal_steps": 3}
    assert tiny(**later).canonical() == tiny().canonical()
    for name, value in (("standardise", True), ("image_size", 8), ("shuffle", "once")):
        assert tiny(**{name: value}).canonical() != tiny().canonical()


@pytest.mark.parametrize("change", [{"seed": 1}, {"split_seed": 1}, {"rho": 0.05}])
def test_another_seed_or_split_or_radius_gives_another_run(tiny, change):
    one, other = train(tiny()), train(tiny(**change))
    assert one.id != other.id
    assert not torch.equal(one.weights["0.weight"], other.weights["0.weight"])


def test_a_radius_of_zero_gives_the_numbers_of_the_plain_optimizer(tiny):
    assert same(train(tiny(rho=0.0)), train(tiny()))


def initial_weights(config, batches):
    batches.clear()
    train(config)
    return batches[0].weights


def test_the_initial_weights_depend_on_the_seed_alone(tiny, batches):
    first = initial_weights(tiny(), batches)
    for change in ({"batch_size": 50}, {"base_lr": 0.5}, {"rho": 0.1}, {"optimizer": "adam"}):
        other = initial_weights(tiny(**change), batches)
        assert all(torch.equal(t, other[name]) for name, t in first.items())
    for dtype in ("float32", "bfloat16"):
        rounded = initial_weights(tiny(dtype=dtype), batches)
        assert all(torch.equal(t.float(), rounded[name]) for name, t in first.items())
    other = initial_weights(tiny(seed=1), batches)
    assert not torch.equal(first["0.weight"], other["0.weight"])


# An epoch


def epochs_of(batches):
    """The inputs of each epoch of 50 examples, in their order."""
    inputs = torch.cat([batch.x for batch in batches]).flatten(1).tolist()
    return [inputs[first : first + 50] for first in range(0, len(inputs), 50)]


def test_every_epoch_uses_every_example_in_a_new_order_unless_one_is_to_serve_all(tiny, batches):
    train(tiny(epochs=2))
    assert [len(batch.y) for batch in batches] == [16, 16, 16, 2] * 2
    dataset = dataset_of(tiny())
    expected = dataset.as_input(dataset.train.x, torch.float64).flatten(1).tolist()
    first, second = epochs_of(batches)
    assert sorted(first) == sorted(second) == sorted(expected)
    assert first != second
    batches.clear()
    train(tiny(epochs=3, shuffle="once"))
    assert epochs_of(batches) == [first] * 3, "the first one of the seed"


def test_the_history_counts_updates_and_weighs_batches_by_their_examples(tiny, batches):
    config = tiny(epochs=2, base_lr=0.01, scaling="linear", reference_batch_size=4)
    rows = train(config).history.to_dict("records")
    for epoch, (row, part) in enumerate(zip(rows, (batches[:4], batches[4:]), strict=True), 1):
        assert (row["epoch"], row["updates"]) == (epoch, 4 * epoch)
        assert row["lr"] == pytest.approx(0.04, rel=1e-14)
        loss = sum(batch.loss * len(batch.y) for batch in part) / 50
        assert row["running_loss"] == pytest.approx(loss, rel=1e-14)
        assert row["running_accuracy"] == sum(batch.correct for batch in part) / 50


@pytest.mark.parametrize(
    ("warmup", "epochs", "rates"),
    [
        ("constant", 1.5, [0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.04, 0.04]),
        ("linear", 1.5, [0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.04]),
        ("exponential", 1.5, [*(0.01 * 4 ** (k / 6) for k in range(6)), 0.04, 0.04]),
        ("doubling", 3.5, [0.04 / 2**k for k in (3.5, 2.5, 1.5, 1.5) for _ in range(4)]),  # epochs
    ],
)
def test_a_warm_up_counts_updates_or_epochs(tiny, batches, warmup, epochs, rates):
    options = {"base_lr": 0.01, "scaling": "linear", "reference_batch_size": 4}
    train(tiny(warmup=warmup, warmup_epochs=epochs, epochs=len(rates) // 4, **options))
    assert [batch.lr for batch in batches] == pytest.approx(rates, rel=1e-14)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup": "linear"}, "'warmup' = .* and 'warmup_epochs' = "),
        ({"warmup": "doubling", "warmup_epochs": 0.5}, "'warmup_epochs' = 0.5.*'doubling'"),
        ({"sam_adaptive": True}, "'sam_adaptive' = .* and 'sam_dropout' = .*'rho'"),
        ({"keep": "best"}, "'keep' = 'best': needs 'patience_on'"),
        ({"patience_on": "validation_loss", "evaluate": "log"}, "needs 'evaluate' = 'every'"),
        ({"patience_on": "validation_loss", "validation_fraction": 0.0}, "above 0"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(tiny, changes, message):
    with pytest.raises(ParameterError, match=message):
        parse(tiny().model_dump() | changes, RunConfig)


@pytest.mark.parametrize("rho", [None, 0.1])
def test_a_batch_in_chunks_gives_the_update_of_the_whole_batch(tiny, monkeypatch, rho):
    updated = []
    for chunk_size in (7, 128):
        monkeypatch.setattr(build, "CHUNK_SIZE", chunk_size)
        torch.manual_seed(0)
        config = tiny(network_options={"dropout": 0.0}, rho=rho)
        dataset = dataset_of(config)
        model = build_model(config, dataset)
        x, y = dataset.as_input(dataset.train.x, torch.float64), dataset.train.y
        before = nn.functional.cross_entropy(model(x), y).item()
        right = (model(x).argmax(1) == y).sum()
        loss, correct = train_batch(model, build_optimizer(config, model), x, y, autocast=False)
        assert float(loss) == pytest.approx(before, rel=1e-13)
        assert correct == right
        updated.append([w.detach().clone() for w in model.parameters()])
    for a, b in zip(*updated, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_sgd_with_momentum_is_that_of_the_definition(tiny, batches):
    config = tiny(network_options={"dropout": 0.0, "width": 0.0625}, momentum=0.5, epochs=1)
    run = train(config)
    model = run.model()
    model.load_state_dict(batches[0].weights)
    velocity = [torch.zeros_like(w) for w in model.parameters()]
    for batch in batches:
        loss = nn.functional.cross_entropy(model(batch.x), batch.y)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for w, v, g in zip(model.parameters(), velocity, gradients, strict=True):
                v.mul_(0.5).add_(g)
                w.sub_(0.1 * v)
    for a, b in zip(model.parameters(), run.model().parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


def test_the_last_row_holds_the_metrics_of_the_last_weights(tiny):
    run = train(tiny(epochs=3, evaluate="log"))
    dataset = load("digits", train_size=50)
    for name in ("train", "validation", "test"):
        split = getattr(dataset, name)
        found = evaluate(run.model(), dataset.as_input(split.x, torch.float64), split.y)
        row = run.history.iloc[-1]
        assert row[f"{name}_loss"] == pytest.approx(found.loss, rel=1e-12)
        assert row[f"{name}_accuracy"] == found.accuracy


def test_sets_are_evaluated_as_often_as_asked_and_the_training_is_the_same(tiny):
    often, *runs = (train(tiny(epochs=10, evaluate=e)) for e in ("every", "log", "test", "last"))
    for seldom in runs:
        assert often.history["running_loss"].equals(seldom.history["running_loss"])
        assert torch.equal(often.weights["9.weight"], seldom.weights["9.weight"])
    log, test, last = (run.history.set_index("epoch") for run in runs)
    assert log.index[log["test_loss"].notna()].tolist() == [1, 2, 3, 4, 6, 8, 10]
    assert test["test_loss"].equals(log["test_loss"]) and often.history["test_loss"].notna().all()
    for history in (test, last):
        assert history.index[history["train_loss"].notna()].tolist() == [10]
    assert last.index[last["test_loss"].notna()].tolist() == [10]


# How a run ends


def keras_stops_after(accuracies, patience):
    """The epoch after which Keras' EarlyStopping(monitor="accuracy") stops, None if it goes on."""
    wait, best = 0, None
    for epoch, current in enumerate(accuracies):
        wait += 1
        if best is None or current > best:
            best, wait = current, 0
            continue
        if wait >= patience and epoch > 0:
            return epoch + 1
    return None


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_training_stops_where_keras_would(tiny, patience):
    free = train(tiny(epochs=40, base_lr=0.02)).history["running_accuracy"]
    expected = keras_stops_after(free, patience)
    assert expected is not None
    run = train(tiny(epochs=40, base_lr=0.02, patience=patience))
    assert run.result["stopped"] == "patience"
    assert run.history["running_accuracy"].tolist() == free[:expected].tolist()
    assert run.history["test_loss"].notna().iloc[-1]


# The best weights, and the way there


def test_the_weights_of_the_lowest_validation_loss_are_kept(tiny):
    config = tiny(epochs=8, **BEST, **RISING)
    run = train(config)
    losses = run.history["validation_loss"]
    best = int(losses.idxmin())
    assert best + 1 == run.result["kept_epoch"] < len(losses)
    shorter = train(config.model_copy(update={"epochs": best + 1}))
    assert all(torch.equal(t, run.weights[name]) for name, t in shorter.weights.items())
    assert run.kept["validation_loss"] == losses.min()
    dataset = load("digits", train_size=50)
    x = dataset.as_input(dataset.validation.x, torch.float64)
    found = evaluate(run.model(), x, dataset.validation.y).loss
    assert found == pytest.approx(losses.min(), rel=1e-12)


def test_the_best_weights_may_be_kept_only_where_patience_ends_the_run(tiny):
    options = BEST | RISING | {"keep": "best_if_stopped"}
    stopped = train(tiny(epochs=30, patience=3, **options))
    assert stopped.result["stopped"] == "patience"
    assert len(stopped.history) == stopped.result["kept_epoch"] + 3
    assert same(stopped, train(stopped.config.model_copy(update={"keep": "best"})))
    capped = train(tiny(epochs=8, **options))
    last = train(capped.config.model_copy(update={"keep": "last"}))
    assert capped.result["stopped"] == "epochs" and capped.result["kept_epoch"] == 8
    assert last.kept.equals(last.history.iloc[-1])
    assert same(capped, last)


def test_the_path_of_plain_sgd_is_made_of_its_steps(tiny, batches):
    config = tiny(epochs=4, batch_size=20, record_path=True)
    run = train(config)
    names = [name for name, _ in run.model().named_parameters()]
    ways = [flatten(batch.weights[name] for name in names) for batch in batches]
    ways.append(flatten(run.weights[name] for name in names))
    steps = [(b - a).norm() for a, b in itertools.pairwise(ways)]
    assert torch.allclose(run.path["norms"], torch.stack(steps), rtol=1e-12)
    assert run.path.keys() == {"norms", *(f"weights.{epoch}" for epoch in (0, 1, 2, 3, 4))}
    assert torch.equal(run.path["weights.0"], ways[0])
    assert torch.equal(run.path["weights.4"], ways[-1])
    per_epoch = len(steps) // 4
    for epoch, row in run.history.iterrows():
        begin, end = ways[epoch * per_epoch], ways[(epoch + 1) * per_epoch]
        assert row["distance"] == pytest.approx(float((end - ways[0]).norm()), rel=1e-12)
        assert row["epoch_distance"] == pytest.approx(float((end - begin).norm()), rel=1e-12)


@pytest.mark.parametrize(("dtype", "lr"), [("float64", 1e200), ("bfloat16", 1e30)])
def test_divergence_is_a_result_with_its_step(tiny, store, batches, dtype, lr):
    config = tiny(base_lr=lr, epochs=5, batch_size=4, dtype=dtype)
    run = train(config, store=store)
    losses = [batch.loss for batch in batches]
    first = next(step for step, loss in enumerate(losses) if not np.isfinite(loss))
    assert run.diverged
    assert run.result["diverged_at"] == first > 0
    assert run.result["epochs"] == len(run.history) == first // 13 + 1
    again = train(config, store=store)
    assert again.diverged
    assert again.result["diverged_at"] == first
    assert len(batches) == 13 * len(run.history)  # loaded, not trained again


def test_divergence_in_the_first_and_the_last_update_is_noticed(tiny, monkeypatch):
    options = {"network": "test_train:deep", "network_options": {}, "dtype": "float32"}
    run = train(tiny(base_lr=1e30, epochs=1, batch_size=50, **options))
    assert run.diverged and not np.isfinite(run.history["train_loss"].iloc[-1])
    nothing = torch.tensor(math.nan), torch.tensor(0)
    monkeypatch.setattr(build, "train_batch", lambda *a, **k: nothing)
    run = train(tiny())
    assert (run.result["stopped"], run.result["diverged_at"]) == ("diverged", 0)


def test_batch_norm_ends_with_statistics_of_the_training_set(tiny):
    run = train(tiny(**NORMED, epochs=2))
    dataset = load("digits", train_size=50)
    x = dataset.as_input(dataset.train.x, torch.float64)
    mean, variance = run.weights["0.running_mean"], run.weights["0.running_var"]
    assert mean.item() == pytest.approx(x.mean().item(), rel=1e-12)
    assert variance.item() == pytest.approx(x.var().item(), rel=1e-12)
    last = run.history.iloc[-1]
    assert last["test_loss"] != last["test_loss_before_reestimation"]
    test = dataset.as_input(dataset.test.x, torch.float64)
    found = evaluate(run.model(), test, dataset.test.y).loss
    assert last["test_loss"] == pytest.approx(found, rel=1e-12)
    assert not any("reestimation" in name for name in train(tiny()).history), "only with batch norm"


# As the sources' code runs


def test_sam_without_dropout_is_sam_on_a_network_that_has_none(tiny):
    options = {"rho": 0.05, "batch_size": 10, "momentum": 0.9}
    off = train(tiny(sam_dropout=False, **options))
    none = train(tiny(network_options={"width": 0.0625, "dropout": 0.0}, **options))
    assert same(off, none)
    on = train(tiny(**options)).history["running_loss"]
    assert (on != off.history["running_loss"]).all()


AS_RUN = ["test_loss_as_run", "test_accuracy_as_run"]


def test_evaluation_as_run_is_that_of_batches_of_the_test_set_in_training_mode(tiny):
    run = train(tiny(**NORMED, batch_size=25, evaluate_as_run=True, epochs=1))
    dataset = dataset_of(run.config)
    order = np.random.default_rng([0, 1, 1]).permutation(len(dataset.test))
    x, y = dataset.as_input(dataset.test.x[order], torch.float64), dataset.test.y[order]
    model, loss, right = run.model().train(), 0.0, 0
    for part, labels in zip(x.split(25), y.split(25), strict=True):
        outputs = model(part)  # no dropout: by the statistics of the batch
        loss += nn.functional.cross_entropy(outputs, labels, reduction="sum").item()
        right += (outputs.argmax(1) == labels).sum().item()
    found = run.history[AS_RUN].iloc[-1].tolist()
    assert found == pytest.approx([loss / len(y), right / len(y)], rel=1e-12)


# The store


def test_a_stored_run_is_loaded_not_trained_and_the_one_without_a_store(tiny, store, monkeypatch):
    config = tiny(record_path=True)
    trained, elsewhere = train(config, store=store), train(config)
    monkeypatch.setattr(module, "_train_epoch", None)
    loaded = train(config, store=store)
    assert same(trained, loaded) and same(trained, elsewhere)
    assert (loaded.id, loaded.config) == (trained.id, config)
    assert loaded.result == trained.result | {"files": loaded.result["files"]}
    assert loaded.path.keys() == trained.path.keys()
    assert all(torch.equal(t, loaded.path[key]) for key, t in trained.path.items())
    model = loaded.model()
    assert not model.training
    assert all(torch.equal(t, loaded.weights[name]) for name, t in model.state_dict().items())
    with torch.no_grad():
        model[0].weight.zero_()
    assert loaded.weights["0.weight"].abs().sum() > 0, "the network is a copy"


def test_a_warm_start_is_the_small_batch_run_and_then_one_with_a_new_optimizer(tiny):
    options = {"momentum": 0.9, "network_options": {"width": 0.0625, "dropout": 0.0}}
    small = train(tiny(batch_size=10, epochs=2, **options))
    warm = train(tiny(batch_size=25, first_batch_size=10, first_epochs=2, epochs=5, **options))
    same = ["epoch", "updates", "running_loss", "running_accuracy"]
    assert warm.history[same].head(2).equals(small.history[same])
    assert warm.history["updates"].tolist() == [5, 10, 12, 14, 16]
    config = tiny(batch_size=25, epochs=5, **options)
    state = fresh(config, dataset_of(config))
    state.model.load_state_dict(small.weights)
    state.history = [{}, {}]  # the third epoch's order follows, with an optimizer not used before
    module._train_epoch(state, config, dataset_of(config))
    assert state.history[2]["running_loss"] == warm.history["running_loss"][2]


SWITCHED = {"batch_size": 25, "first_batch_size": 10, "first_epochs": 3, "epochs": 5}


def test_a_warm_start_goes_on_from_the_small_batch_run_with_the_same_numbers(
    tiny, store, monkeypatch
):
    options = {"evaluate": "log", "optimizer": "adam", "base_lr": 0.01}  # dropout draws masks
    small = tiny(batch_size=10, epochs=4, record_epochs=[2, 3], **options)
    warm = tiny(**SWITCHED, **options)
    train(small, store=store)
    trained, real = [], module.order_of
    monkeypatch.setattr(module, "order_of", lambda c, t, e: trained.append(e) or real(c, t, e))
    continued = train(warm, store=store, prefix=small)
    assert trained == [3, 4]
    assert same(continued, train(warm))


@pytest.mark.parametrize("changes", [{"seed": 1}, {"base_lr": 0.2}, {"batch_size": 16}])
def test_a_run_of_other_first_epochs_is_no_prefix(tiny, changes):
    small = tiny(**{"batch_size": 10, "epochs": 4, "record_epochs": [3]} | changes)
    with pytest.raises(ValueError, match=f"prefix: .*{next(iter(changes))}"):
        train(tiny(**SWITCHED), prefix=small)


@pytest.mark.parametrize("network", ["surlemont", "normed"])
@pytest.mark.parametrize("stored", [True, False])
def test_the_state_after_an_epoch_is_the_run_that_ends_there(tiny, store, network, stored):
    options = {"evaluate": "last"} | (NORMED if network == "normed" else {"network": network})
    whole = train(tiny(epochs=4, record_epochs=[2], **options), store=store if stored else None)
    ended = train(tiny(epochs=2, **options))
    found, expected = whole.model(epoch=2).state_dict(), ended.weights
    assert all(torch.equal(found[name], t) for name, t in expected.items() if "tracked" not in name)
    evaluated = [name for name in ended.history if name.endswith(("_loss", "_accuracy"))]
    assert whole.history[evaluated].loc[1].equals(ended.history[evaluated].loc[1])


def test_patience_and_target_may_look_at_the_loss(tiny):
    steady = {"epochs": 8, "base_lr": 0.02, "batch_size": 50}
    steady |= {"network_options": {"width": 0.0625, "dropout": 0.0}}
    target = float(train(tiny(**steady)).history["running_loss"][3])
    reached = train(tiny(target_loss=target, **steady))
    assert (reached.result["stopped"], len(reached.history)) == ("target_loss", 4)
    assert train(tiny(target_loss=1e-9, **steady)).result["stopped"] == "epochs"
    improving = train(tiny(patience=1, patience_on="loss", **steady))
    assert improving.result["stopped"] == "epochs"
    still = tiny(epochs=40, patience=2, patience_on="loss", base_lr=1e-9)  # only dropout moves
    assert train(still).result["stopped"] == "patience"


@pytest.mark.parametrize(("train_size", "batch_size"), [(49, 16), (50, 1)])
def test_a_last_batch_too_small_for_batch_norm_is_refused(tiny, train_size, batch_size):
    config = tiny(
        network="f1", network_options={"width": 0.02}, train_size=train_size, batch_size=batch_size
    )
    with pytest.raises(ParameterError, match=rf"batch_size' = {batch_size}: .*{train_size} train"):
        train(config)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Stores in which runs were killed in the middle of their third epoch, and their configs."""
    root = tmp_path_factory.mktemp("killed")
    base = TINY_RUN | {"network_options": {"width": 0.0625, "dropout": 0.5}, "epochs": 5}
    configs = {name: base | changes for name, changes in RESUMED.items()}
    jobs = json.dumps({name: (values, 2 * 4 + 2) for name, values in configs.items()})
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", KILLED, str(root), jobs, here], check=True, timeout=120)
    return {name: (Store(root / name), RunConfig(**values)) for name, values in configs.items()}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed runs are forks of one process")
@pytest.mark.parametrize("name", RESUMED)
def test_a_killed_run_goes_on_to_the_bytes_of_an_undisturbed_one(killed, store, monkeypatch, name):
    interrupted, config = killed[name]
    whole = train(config, store=store)
    assert (interrupted.folder(whole.id) / "checkpoint.safetensors").is_file()
    assert interrupted.result(whole.id) is None
    epochs, original = [], module._train_epoch

    def counted(state, *arguments):
        epochs.append(len(state.history) + 1)
        original(state, *arguments)

    monkeypatch.setattr(module, "_train_epoch", counted)
    resumed = train(config, store=interrupted)
    assert epochs == [3, 4, 5]
    for file in ("final.safetensors", "history.csv", "config.json"):
        one, other = (s.folder(whole.id) / file for s in (store, interrupted))
        assert one.read_bytes() == other.read_bytes(), file
    ignored = {"wall_time_s": 0, "processor_s": 0, "files": 0}
    assert resumed.result | ignored == whole.result | ignored
    left = {path.name for path in interrupted.folder(whole.id).iterdir()}
    path = {"path.safetensors"} if config.record_path else set()
    assert left - path == {"config.json", "history.csv", "final.safetensors", "result.json"}
    assert left >= path
    assert resumed.path.keys() == whole.path.keys()
    assert all(torch.equal(t, whole.path[key]) for key, t in resumed.path.items())
