"""Tests of bsglib.sam."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from bsglib.sam import SAM

STEPS = 20
SGD = {"lr": 0.1, "momentum": 0.9}


def network(dtype=torch.float64):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)


def batches(count=STEPS, dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    return [
        (
            torch.randn(8, 5, generator=generator, dtype=torch.float64).to(dtype),
            torch.randint(3, (8,), generator=generator),
        )
        for _ in range(count)
    ]


def closure_of(model, optimizer, x, y, seen=None):
    def closure():
        if seen is not None:
            seen.append([w.detach().clone() for w in model.parameters()])
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        return loss

    return closure


def weights_of(model):
    return [w.detach().clone() for w in model.parameters()]


def gradients(model, w, x, y):
    """The gradient of the batch's loss at weights w, without touching the model."""
    names = [name for name, _ in model.named_parameters()]
    w = [v.detach().clone().requires_grad_() for v in w]
    loss = cross_entropy(functional_call(model, dict(zip(names, w, strict=True)), (x,)), y)
    return torch.autograd.grad(loss, w)


def literal_sgd(lr, momentum):
    v = None

    def step(w, g):
        nonlocal v
        v = g if v is None else [momentum * a + b for a, b in zip(v, g, strict=True)]
        return [a - lr * b for a, b in zip(w, v, strict=True)]

    return step


def literal_adam(lr, beta1=0.9, beta2=0.999, epsilon=1e-8):
    m, v, t = 0, 0, 0

    def step(w, g):
        nonlocal m, v, t
        t += 1
        m = [beta1 * (m[i] if t > 1 else 0) + (1 - beta1) * g[i] for i in range(len(g))]
        v = [beta2 * (v[i] if t > 1 else 0) + (1 - beta2) * g[i] ** 2 for i in range(len(g))]
        m_hat, v_hat = ([a / (1 - b**t) for a in s] for s, b in ((m, beta1), (v, beta2)))
        return [w[i] - lr * m_hat[i] / (torch.sqrt(v_hat[i]) + epsilon) for i in range(len(g))]

    return step


def literal_sam(model, rho, base_step):
    """Algorithm 1 of Foret et al., line by line."""
    w = weights_of(model)
    for x, y in batches():
        g = gradients(model, w, x, y)
        norm = math.sqrt(sum((a**2).sum().item() for a in g))
        epsilon = [rho * a / norm for a in g]
        g_sam = gradients(model, [a + e for a, e in zip(w, epsilon, strict=True)], x, y)
        w = base_step(w, g_sam)
    return w


def perturbation(model, **options):
    """The weights of the second pass minus those of the first."""
    seen = []
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), **options)
    optimizer.step(closure_of(model, optimizer, *batches(1)[0], seen))
    first, second = seen
    return [b - a for a, b in zip(first, second, strict=True)]


def assert_close(left, right, atol=1e-12):
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("base", "literal"),
    [
        (lambda w: torch.optim.SGD(w, **SGD), literal_sgd(**SGD)),
        (lambda w: torch.optim.Adam(w, lr=0.01), literal_adam(0.01)),
    ],
    ids=["sgd with momentum", "adam"],
)
def test_twenty_steps_equal_a_literal_transcription_of_algorithm_1(base, literal):
    model = network()
    expected = literal_sam(model, 0.1, literal)
    optimizer = SAM(base(model.parameters()), rho=0.1)
    for x, y in batches():
        optimizer.step(closure_of(model, optimizer, x, y))
    assert_close(weights_of(model), expected)


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_rho_zero_is_the_base_optimizer_bit_for_bit(base):
    options = {"lr": 0.01, "weight_decay": 0.01}
    if base is torch.optim.SGD:
        options |= {"momentum": 0.9, "nesterov": True}
    plain, wrapped = network(torch.float32), network(torch.float32)
    optimizer = base(plain.parameters(), **options)
    sam = SAM(base(wrapped.parameters(), **options), rho=0.0)
    for x, y in batches(dtype=torch.float32):
        loss = optimizer.step(closure_of(plain, optimizer, x, y))
        assert torch.equal(sam.step(closure_of(wrapped, sam, x, y)), loss)
    for a, b in zip(plain.parameters(), wrapped.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("p", [1.5, 2, 10, math.inf])
def test_the_perturbation_of_order_p_is_equation_2_and_has_norm_rho(p):
    model, rho = network(), 0.3
    q = 1 / (1 - 1 / p)
    g = gradients(model, weights_of(model), *batches(1)[0])
    total = sum((a.abs() ** q).sum() for a in g)  # ||g||_q^q
    expected = [rho * a.sign() * a.abs() ** (q - 1) / total ** (1 / p) for a in g]
    found = perturbation(model, rho=rho, p=p)
    assert_close(found, expected)
    flat = torch.cat([e.reshape(-1) for e in found])
    assert torch.linalg.vector_norm(flat, p).item() == pytest.approx(rho, abs=1e-12)


def test_the_adaptive_perturbation_is_that_of_kwon_et_al():
    model, rho = network(), 0.3
    w = weights_of(model)
    g = gradients(model, w, *batches(1)[0])
    t_g = [a.abs() * b for a, b in zip(w, g, strict=True)]  # T_w g with T_w = diag |w|
    norm = math.sqrt(sum((a**2).sum().item() for a in t_g))
    expected = [rho * a**2 * b / norm for a, b in zip(w, g, strict=True)]
    assert_close(perturbation(model, rho=rho, adaptive=True), expected)


def test_the_norm_runs_over_all_groups():
    model = network()
    g = gradients(model, weights_of(model), *batches(1)[0])
    norm = math.sqrt(sum((a**2).sum().item() for a in g))
    groups = [{"params": list(m.parameters())} for m in (model[0], model[2])]
    groups[1]["lr"] = 0.5
    optimizer, seen = SAM(torch.optim.SGD(groups, lr=0.1), rho=0.2), []
    optimizer.step(closure_of(model, optimizer, *batches(1)[0], seen))
    moved = [b - a for a, b in zip(*seen, strict=True)]
    assert_close(moved, [0.2 * a / norm for a in g])


def test_the_step_returns_the_loss_before_it_and_the_base_optimizer_finds_the_weights_to_the_bit():
    model = network(torch.float32)
    with torch.no_grad():  # adding and subtracting again would round at this size
        model[0].weight.mul_(1e4)
    before = weights_of(model)
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=0.37)
    (x, y), seen = batches(1, torch.float32)[0], []
    expected = cross_entropy(model(x), y)
    assert torch.equal(optimizer.step(closure_of(model, optimizer, x, y, seen)), expected)
    assert not all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(model), strict=True))


def test_the_weights_are_restored_where_the_second_pass_raises():
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 3)).double()
    optimizer = SAM(torch.optim.SGD(model.parameters(), **SGD), rho=0.37, model=model)
    before, calls = weights_of(model), []
    inner = closure_of(model, optimizer, *batches(1)[0])

    def closure():
        calls.append(1)
        loss = inner()
        if len(calls) == 2:
            raise KeyboardInterrupt
        return loss

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(model), strict=True))
    assert model[1].track_running_stats
    assert not optimizer.base_optimizer.state  # it has not stepped


@pytest.mark.parametrize("p", [1.5, 2, math.inf])
@pytest.mark.parametrize("slope", [0.0, 1e-40, 1e-18])
def test_a_gradient_too_small_for_its_norm_makes_no_large_step(p, slope):
    weights = nn.Parameter(torch.zeros(4))
    optimizer = SAM(torch.optim.SGD([weights], lr=0.0), rho=10.0, p=p)
    seen = []

    def closure():
        optimizer.zero_grad()
        seen.append(weights.detach().clone())
        loss = slope * weights.sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.linalg.vector_norm(seen[1], p) <= 10 * (1 + 1e-6)
    assert torch.equal(weights, seen[0])


def test_batch_norm_statistics_are_those_of_the_first_pass_alone():
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 3)).double()
    once = copy.deepcopy(model)
    x, y = batches(1)[0]
    once(x)
    optimizer = SAM(torch.optim.SGD(model.parameters(), **SGD), rho=0.5, model=model)
    optimizer.step(closure_of(model, optimizer, x, y))
    assert int(model[1].num_batches_tracked) == 1
    assert torch.equal(model[1].running_mean, once[1].running_mean)
    assert torch.equal(model[1].running_var, once[1].running_var)
    assert model[1].track_running_stats


def test_the_state_is_the_base_optimizers_and_continues_identically():
    model = network()
    optimizer = SAM(torch.optim.Adam(model.parameters(), lr=0.01), rho=0.1)
    data = batches()
    for x, y in data[:10]:
        optimizer.step(closure_of(model, optimizer, x, y))
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    assert set(saved[1]["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}
    torch.optim.Adam(network().parameters()).load_state_dict(copy.deepcopy(saved[1]))

    resumed = network()
    resumed.load_state_dict(saved[0])
    again = SAM(torch.optim.Adam(resumed.parameters(), lr=0.5), rho=0.1)
    again.load_state_dict(saved[1])
    for x, y in data[10:]:
        optimizer.step(closure_of(model, optimizer, x, y))
        again.step(closure_of(resumed, again, x, y))
    assert all(map(torch.equal, weights_of(model), weights_of(resumed)))


@pytest.mark.parametrize("reloaded", [False, True])
def test_learning_rate_schedulers_act_on_the_base_optimizer(reloaded):
    model = network()
    base = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer = SAM(base, rho=0.1)
    if reloaded:
        optimizer.load_state_dict(optimizer.state_dict())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    for _ in range(3):
        optimizer.step(closure_of(model, optimizer, *batches(1)[0]))
        scheduler.step()
    assert base.param_groups[0]["lr"] == 0.125
    base.param_groups[0]["lr"] = 0.0
    before = weights_of(model)
    optimizer.step(closure_of(model, optimizer, *batches(1)[0]))
    assert all(map(torch.equal, before, weights_of(model)))


def test_a_list_of_closures_averages_gradients_each_at_its_own_perturbation():
    model, rho, lr = network(), 0.2, 0.1
    x, y = batches(1)[0]
    parts = [(x[:4], y[:4]), (x[4:], y[4:])]
    w = weights_of(model)
    total, losses = [torch.zeros_like(a) for a in w], []
    for part in parts:
        losses.append(cross_entropy(model(part[0]), part[1]).item())
        g = gradients(model, w, *part)
        norm = math.sqrt(sum((a**2).sum().item() for a in g))
        there = [a + rho * b / norm for a, b in zip(w, g, strict=True)]
        total = [a + b for a, b in zip(total, gradients(model, there, *part), strict=True)]
    expected = [a - lr * b / 2 for a, b in zip(w, total, strict=True)]
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=lr), rho=rho)
    loss = optimizer.step([closure_of(model, optimizer, *part) for part in parts])
    assert_close(weights_of(model), expected)
    assert loss.item() == pytest.approx(sum(losses) / 2, abs=1e-12)


def sam_of(base=None, **options):
    return SAM(base or torch.optim.SGD(network().parameters(), lr=0.1), **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sam_of(rho=-0.1), "rho = -0.1.*from 0"),
        (lambda: sam_of(p=1), "p = 1.*above 1"),
        (lambda: sam_of(p=3, adaptive=True), "p = 3.*only 2 with adaptive"),
        (lambda: sam_of(base=torch.optim.SGD), r"base_optimizer.*torch.optim.SGD\("),
        (lambda: sam_of().step(None), "closure = None.*called twice"),
        (lambda: sam_of().step(lambda: None), "closure returned None.*loss"),
    ],
)
def test_what_sam_does_not_allow_is_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
