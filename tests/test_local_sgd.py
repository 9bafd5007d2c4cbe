"""Tests of bsglib.runs.local_sgd: local SGD against large batches and against plain SGD."""

import pytest
import torch
from conftest import same

from bsglib.runs import build
from bsglib.runs import train as module
from bsglib.runs.build import build_model, dataset_of
from bsglib.runs.params import ParameterError, RunConfig, parse
from bsglib.runs.train import train

NO_DROPOUT = {"width": 0.0625, "dropout": 0.0}


@pytest.mark.parametrize("network", ["surlemont", "kaabachi"])
def test_one_worker_is_plain_sgd_to_the_bit(tiny, network):
    options = {"network": network, "network_options": {"width": 0.0625}}
    plain = train(tiny(**options))
    assert same(train(tiny(**options, local_steps=3)), plain)


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


@pytest.mark.parametrize("changes", [{"momentum": 0.9}, {"rho": 0.05}, {"optimizer": "adam"}])
def test_workers_with_a_state_are_refused(tiny, changes):
    with pytest.raises(ParameterError, match="'local_workers' = 2: needs plain SGD"):
        parse(tiny().model_dump() | {"local_workers": 2} | changes, RunConfig)


def test_more_examples_per_step_than_there_are_and_too_few_for_batch_norm_are_refused(tiny):
    with pytest.raises(ParameterError, match="'batch_size' = 16 for each of 4 'local_workers'"):
        train(tiny(local_workers=4))
    config = tiny(network="f1", network_options={"width": 0.02}, batch_size=6, local_workers=4)
    with pytest.raises(ParameterError, match="needs two"):
        train(config)
