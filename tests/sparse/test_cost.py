import numpy as np
import pytest
import torch
from torch import nn

from fedtiny.models.zoo import ResNet18
from fedtiny.sparse.allocate import Uniform
from fedtiny.sparse.cost import (
    activation_bytes,
    dense_gradient_flops,
    forward_flops,
    memory_bytes,
    training_flops,
)
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Prunable

# Three linear layers of 8, 12 and 6 weights, with 4 + 3 + 2 biases; the middle one keeps 3 of 12.
NETWORK = Network.of(
    nn.Sequential(nn.Flatten(), nn.Linear(2, 4), nn.Linear(4, 3), nn.Linear(3, 2)), (2, 1, 1), Prunable()
)
MASK = Mask({"2.weight": torch.tensor([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], dtype=torch.bool).view(3, 4)})


def test_flops_by_hand() -> None:
    assert forward_flops(NETWORK, None) == 2 * 26
    assert forward_flops(NETWORK, MASK) == 2 * (8 + 3 + 6)
    assert training_flops(NETWORK, MASK, examples=10) == 3 * 34 * 10
    # The dense gradient of the middle layer costs 2 * 9 more for each example; twice that for fedrts.
    assert dense_gradient_flops(NETWORK, MASK, ("2.weight",), "rigl") == 18
    assert dense_gradient_flops(NETWORK, MASK, ("2.weight",), "fedrts") == 36
    assert dense_gradient_flops(NETWORK, MASK, ("1.weight",), "rigl") == 0  # it is dense anyway


def test_memory_by_hand() -> None:
    # 3 kept: value 4, index 4, gradient 4; 14 + 9 dense parameters: value and gradient 8.
    assert memory_bytes(NETWORK, MASK, momentum=False) == 3 * 12 + 23 * 8
    assert memory_bytes(NETWORK, MASK, momentum=True) == 3 * 16 + 23 * 12
    # Two entries of 8, and the 4 gradients of one of the layer's 3 outputs, of 4 each, for a moment.
    assert memory_bytes(NETWORK, MASK, momentum=True, dense=["2.weight"], held_bytes=16) == 3 * 16 + 23 * 12 + 16 + 16
    assert memory_bytes(NETWORK, None, momentum=True) == 35 * 12


def test_activations_are_what_the_layers_read_beside_the_example_itself() -> None:
    assert activation_bytes(NETWORK, batch=5) == 4 * 5 * (4 + 3)


def test_resnet18_at_one_percent_costs_what_the_paper_says() -> None:
    """0.01399 of dense (rigl), if one of 395 steps has a dense gradient of the whole network."""
    network = Network.of(ResNet18().build(3, 10, 0), (3, 32, 32), Prunable(last_layer=True))
    shapes = network.prunable
    counts = Uniform().counts(shapes, 0.01, np.random.default_rng(0))
    keep = {n: (torch.arange(torch.Size(s).numel()) < counts[n]).view(s) for n, s in shapes.items()}
    steps = 395
    sparse = training_flops(network, Mask(keep), steps) + dense_gradient_flops(network, Mask(keep), shapes, "rigl")
    assert sparse / training_flops(network, None, steps) == pytest.approx(0.01399, abs=1e-5)
