"""SNIP's and GraSP's scores on linear networks, by hand and against what they promise."""

import math

import pytest
import torch
from torch import Tensor, nn, tensor
from torch.nn import functional

from fedtiny.client.probes.gradients import flow_scores, gradients, normalised
from fedtiny.models.zoo import SmallCnn

X, ONE = tensor([[2.0, 1.0]]), tensor([[1.0]])


def linear(rows: list[list[float]]) -> nn.Sequential:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = tensor(rows)
    return nn.Sequential(layer)


def test_saliency_by_hand() -> None:
    # Logits (1, 1), so p = (1/2, 1/2) and dL/dlogits = (-1/2, 1/2) for class 0; times x = (2, 1).
    net = linear([[1.0, -1.0], [0.5, 0.0]])
    (g,) = gradients(net, ["0.weight"], (X, tensor([0])))
    assert g.tolist() == [[-1.0, -0.5], [1.0, 0.5]]
    # |g w| = (1, 1/2, 1/2, 0), together 2.
    (score,) = normalised([(g * net.get_parameter("0.weight").detach()).abs()])
    assert score.tolist() == [0.5, 0.25, 0.25, 0.0]


def test_gradients_of_a_batch_are_summed_before_the_magnitude() -> None:
    (g,) = gradients(linear([[1.0, -1.0], [0.5, 0.0]]), ["0.weight"], (X.repeat(2, 1), tensor([0, 1])))
    assert g.abs().max() == 0


def test_gradient_flow_by_hand() -> None:
    # Logits (w0, w1) of difference ln 3: p = (3/4, 1/4). For class 0: g = (-p1, p1), H = p0 p1 ((1, -1), (-1, 1)),
    # so H g = 2 p0 p1^2 (-1, 1) = 3/32 (-1, 1) and S = 3/32 (w0, -w1).
    net = linear([[1 + math.log(3)], [1.0]])
    (score,) = flow_scores(net, ["0.weight"], [(ONE, tensor([0]))], 1.0)
    assert score.flatten().tolist() == pytest.approx([3 / 32 * (1 + math.log(3)), -3 / 32], rel=1e-5)


def squared_norm(net: nn.Module, names: list[str], batches: list[tuple[Tensor, Tensor]], temperature: float) -> float:
    sums = [
        torch.stack(parts).sum(0)
        for parts in zip(*(gradients(net, names, x, temperature) for x in batches), strict=True)
    ]
    return float(sum((x**2).sum() for x in sums))


@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_taking_a_weight_away_changes_the_squared_gradient_by_twice_its_flow_score(temperature: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    names = ["0.weight", "2.weight"]
    batches = [(torch.randn(6, 4).double(), torch.arange(6) % 3) for _ in range(2)]
    scores = flow_scores(net, names, batches, temperature)
    before, small = squared_norm(net, names, batches, temperature), 1e-5
    for name, score in zip(names, scores, strict=True):
        weight = net.get_parameter(name)
        for j in range(weight.numel()):
            kept = weight.data.flatten()[j].item()
            weight.data.view(-1)[j] = kept * (1 - small)  # a small part of it, since 2 S is the first order
            change = (squared_norm(net, names, batches, temperature) - before) / small
            weight.data.view(-1)[j] = kept
            assert change == pytest.approx(2 * float(score.flatten()[j]), rel=1e-2, abs=1e-5 * before)


def test_what_grasp_removes_raises_the_gradient_and_what_it_keeps_would_not() -> None:
    torch.manual_seed(1)
    net = linear((0.1 * torch.randn(3, 6)).tolist()).double()
    batches = [(torch.randn(8, 6).double(), torch.arange(8) % 3)]
    (score,) = flow_scores(net, ["0.weight"], batches, 1.0)
    before = squared_norm(net, ["0.weight"], batches, 1.0)
    weight = net.get_parameter("0.weight")
    for index, sign in ((int(score.argmax()), 1), (int(score.argmin()), -1)):
        kept = weight.data.view(-1)[index].item()
        weight.data.view(-1)[index] = 0.0
        assert sign * (squared_norm(net, ["0.weight"], batches, 1.0) - before) > 0
        weight.data.view(-1)[index] = kept
    assert score.max() > 0 > score.min()


def test_the_network_is_left_as_it_was_and_batch_norm_uses_the_batchs_statistics() -> None:
    net = SmallCnn(width=2).build(1, 4, 0).eval()
    net.get_submodule("bn2").train()
    before = {name: x.clone() for name, x in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    batch = (torch.randn(8, 1, 8, 8), torch.arange(8) % 4)
    names = ["conv1.weight", "conv2.weight"]
    with torch.no_grad():  # as in a validation loop
        found = gradients(net, names, batch)
        flow_scores(net, names, [batch], 200.0)
        assert not torch.is_grad_enabled()
    assert [module.training for module in net.modules()] == modes
    assert all(x.equal(before[name]) for name, x in net.state_dict().items())
    assert all(x.grad is None and x.requires_grad for x in net.parameters())
    loss = functional.cross_entropy(net.train()(batch[0]), batch[1], reduction="sum")
    expected = torch.autograd.grad(loss, [net.get_parameter(name) for name in names])
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


def test_scores_that_are_all_0_stay_so_and_the_others_sum_to_1() -> None:
    assert [x.tolist() for x in normalised([torch.zeros(2, 1), torch.zeros(1)])] == [[0.0, 0.0], [0.0]]
    assert [x.tolist() for x in normalised([tensor([[3.0], [-4.0]]), tensor([1.0])])] == [[0.375, -0.5], [0.125]]
