"""Tests of bsglib.runs.local_sgd: local SGD against large batches and against plain SGD."""

import pytest
import torch

from bsglib.runs import build
from bsglib.runs import train as module
from bsglib.runs.build import build_model, dataset_of
from bsglib.runs.local_sgd import train_apart
from bsglib.runs.params import ParameterError, RunConfig, parse
from bsglib.runs.train import train

NO_DROPOUT = {"width": 0.0625, "dropout": 0.0}


def same(one, other):
    """Whether two runs have the same numbers, to the bit."""
    return one.history.equals(other.history) and all(
        torch.equal(t, other.weights[name]) for name, t in one.weights.items()
    )


@pytest.mark.parametrize("network", ["surlemont", "kaabachi"])
def test_one_worker_is_plain_sgd_to_the_bit(tiny, network):
    options = {"network": network, "network_options": {"width": 0.0625}}
    plain = train(tiny(**options))
    assert same(train(tiny(**options, local_steps=3)), plain)


def test_the_average_of_one_worker_is_that_worker(tiny):
    config = tiny(network="kaabachi", network_options=NO_DROPOUT)
    dataset = dataset_of(config)
    models = [build_model(config, dataset) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())

    def update_of(model):
        def update(step, places):
            loss = model(dataset.as_input(dataset.train.x[places], torch.float64)).square().mean()
            for w, g in zip(
                model.parameters(), torch.autograd.grad(loss, model.parameters()), strict=True
            ):
                w.data -= 0.1 * g
            return loss.detach(), torch.tensor(0)

        return update

    batches = list(enumerate(torch.arange(50).split(20)))
    train_apart(models[0], batches, 1, update_of(models[0]))
    for step, places in batches:
        update_of(models[1])(step, places)
    for name, t in models[1].state_dict().items():
        assert torch.equal(models[0].state_dict()[name], t), name


@pytest.mark.parametrize("train_size", [48, 50, 49], ids=["whole", "two left", "one left"])
def test_one_step_is_the_batch_of_all_workers(tiny, train_size):
    options = {"network_options": NO_DROPOUT, "train_size": train_size, "epochs": 3}
    large = train(tiny(batch_size=12, **options))
    local = train(tiny(batch_size=3, local_workers=4, **options))
    assert local.result["updates"] == large.result["updates"]
    for column in ("running_loss", "train_loss", "test_loss"):
        assert local.history[column].to_numpy() == pytest.approx(large.history[column], rel=1e-12)
    assert local.history["running_accuracy"].equals(large.history["running_accuracy"])
    for name, t in large.weights.items():
        torch.testing.assert_close(local.weights[name], t, rtol=0, atol=1e-14)


def test_workers_train_apart_and_are_averaged_after_their_steps_and_after_an_epoch(tiny):
    """A transcription of the algorithm: two workers, three steps, four steps per epoch."""
    config = tiny(
        network_options=NO_DROPOUT, train_size=32, batch_size=4, local_workers=2, local_steps=3
    )
    run, dataset = train(config), dataset_of(config)
    torch.manual_seed(config.seed)
    model = build_model(config, dataset)
    weights = [w.detach().clone() for w in model.parameters()]
    for epoch in range(2):
        batches = build.batches_of(config, dataset.train, epoch)
        assert [len(batch) for batch in batches] == [8] * 4
        for together in (batches[:3], batches[3:]):
            ends = []
            for worker in (slice(0, 4), slice(4, 8)):
                mine = [w.clone() for w in weights]
                for batch in together:
                    for w, value in zip(model.parameters(), mine, strict=True):
                        w.data.copy_(value)
                    x = dataset.as_input(dataset.train.x[batch[worker]], torch.float64)
                    loss = torch.nn.functional.cross_entropy(
                        model(x), dataset.train.y[batch[worker]]
                    )
                    gradients = torch.autograd.grad(loss, list(model.parameters()))
                    mine = [w - 0.1 * g for w, g in zip(mine, gradients, strict=True)]
                ends.append(mine)
            weights = [(a + b) / 2 for a, b in zip(*ends, strict=True)]
    for w, found in zip(weights, run.model().parameters(), strict=True):
        torch.testing.assert_close(found, w, rtol=0, atol=1e-14)


def test_every_epoch_uses_every_example_once(tiny, monkeypatch):
    seen, train_batch = [], build.train_batch

    def recorded(model, optimizer, x, y, **options):
        seen.append(x)
        return train_batch(model, optimizer, x, y, **options)

    monkeypatch.setattr(build, "train_batch", recorded)
    config = tiny(batch_size=4, local_workers=3, local_steps=2, epochs=1)
    train(config)
    dataset = dataset_of(config)
    expected = dataset.as_input(dataset.train.x, torch.float64).flatten(1).tolist()
    assert sorted(torch.cat(seen).flatten(1).tolist()) == sorted(expected)
    assert sorted({len(x) for x in seen}) == [1, 4], "the last two examples go to two workers"


def test_an_interrupted_run_goes_on_to_the_same_numbers(tiny, store, monkeypatch):
    config = tiny(batch_size=4, local_workers=3, local_steps=2, epochs=4)
    whole, count = train(config), 0
    monkeypatch.setattr(module, "CHECKPOINT_EVERY_S", -1)
    train_batch = build.train_batch

    def interrupted(*arguments, **options):
        nonlocal count
        count += 1
        if count == 35:  # in the third epoch
            raise KeyboardInterrupt
        return train_batch(*arguments, **options)

    monkeypatch.setattr(build, "train_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, store=store)
    monkeypatch.setattr(build, "train_batch", train_batch)
    assert same(train(config, store=store), whole)


def test_without_local_workers_stored_runs_keep_their_identity(tiny):
    assert tiny(local_workers=1, local_steps=1).canonical() == tiny().canonical()
    assert "local" not in tiny().canonical()


@pytest.mark.parametrize(
    "changes",
    [{"momentum": 0.9}, {"rho": 0.05}, {"optimizer": "adam"}, {"record_path": True}],
    ids=lambda changes: next(iter(changes)),
)
def test_workers_with_a_state_are_refused(tiny, changes):
    with pytest.raises(ParameterError, match="'local_workers' = 2: needs plain SGD"):
        parse(tiny().model_dump() | {"local_workers": 2} | changes, RunConfig)


def test_more_examples_per_step_than_there_are_are_refused(tiny):
    with pytest.raises(ParameterError, match="'batch_size' = 16 for each of 4 'local_workers'"):
        train(tiny(local_workers=4))


def test_a_worker_with_one_example_is_refused_where_batch_norm_needs_two(tiny):
    config = tiny(network="f1", network_options={"width": 0.02}, batch_size=6, local_workers=4)
    with pytest.raises(ParameterError, match="needs two"):
        train(config)
    train(config.model_copy(update={"train_size": 48, "epochs": 1}))
