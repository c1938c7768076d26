"""SynFlow: flow is conserved layer by layer, so no layer is emptied before it must be."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedtiny.client.world import World
from fedtiny.methods import SynFlow
from fedtiny.methods.synflow import flow, positive
from fedtiny.models.zoo import AnyModel, MobileNetV2, ResNet8, SmallCnn, Vgg11
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Prunable
from fedtiny.sparse.select import keep_top, keep_top_overall
from tests.conftest import federation

ALL = Prunable(first_layer=True, last_layer=True)


def network_of(model: AnyModel, size: int = 16, seed: int = 0) -> Network:
    """With batch norms and biases as after training: anything but fresh."""
    network = Network.of(model.build(1, 4, seed), (1, size, size), ALL)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                    assert tensor is not None
                    tensor.add_(torch.rand(tensor.shape, generator=generator))
    return network


def layer_flows(network: Network, mask: Mask | None = None) -> tuple[dict[str, float], float]:
    net = positive(network.module)
    if mask is not None:
        mask.apply_({name: net.get_parameter(name).detach() for name in mask.keep})
    scores, total = flow(net, [layer.name for layer in network.layers], network.input_shape)
    return {name: float(score.sum()) for name, score in scores.items()}, total


def test_flow_by_hand() -> None:
    # Outputs: |W2| |W1| 1 with W1 = ((1, -2), (0, 3)) and W2 = ((-1, 2)): hidden (3, 3), R = 9. First layer's scores:
    # (1 * 1, 2 * 1), (0, 3 * 2); second's: 1 * 3, 2 * 3.
    first, second = nn.Linear(2, 2), nn.Linear(2, 1)
    first.weight.data, second.weight.data = torch.tensor([[1.0, -2.0], [0.0, 3.0]]), torch.tensor([[-1.0, 2.0]])
    net = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second)
    scores, total = flow(positive(net), ["1.weight", "3.weight"], (2, 1, 1))
    assert total == 9
    assert scores["1.weight"].tolist() == [[1, 2], [0, 6]]
    assert scores["3.weight"].tolist() == [[3, 6]]
    assert first.weight.tolist() == [[1, -2], [0, 3]]  # a copy was scored


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([SmallCnn(width=3), Vgg11(width=2)]), st.integers(0, 99), st.floats(0.3, 1.0))
def test_every_layer_of_a_chain_passes_the_whole_flow(model: AnyModel, seed: int, density: float) -> None:
    network = network_of(model, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    mask = Mask({name: torch.rand(x, generator=generator) < density for name, x in network.prunable.items()})
    flows, total = layer_flows(network, mask)
    assert list(flows.values()) == pytest.approx([total] * len(flows), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_around_a_shortcut_the_flow_is_that_of_both_ways_together(seed: int) -> None:
    flows, total = layer_flows(network_of(ResNet8(width=4), seed=seed))
    assert flows["stem.0.weight"] == pytest.approx(total)
    assert flows["head.weight"] == pytest.approx(total)
    for stage in range(3):
        first, second = (flows[f"stages.{stage}.0.conv{i}.weight"] for i in (1, 2))
        assert first == pytest.approx(second)
        beside = flows.get(f"stages.{stage}.0.shortcut.0.weight")
        if beside is None:  # nothing is multiplied on an identity
            assert 0 < first < total
        else:
            assert first + beside == pytest.approx(total)


def test_activations_with_a_ceiling_pass_everything() -> None:
    flows, total = layer_flows(network_of(MobileNetV2(width=4)))
    assert total > 6
    assert all(value > 0 for value in flows.values())
    for name in ("stem.0.weight", "tail.0.weight", "head.weight"):
        assert flows[name] == pytest.approx(total)


def passes(network: Network, mask: Mask) -> bool:
    """Whether any path from input to output is left."""
    return layer_flows(network, mask)[1] > 0


@pytest.mark.parametrize("model", [SmallCnn(width=16), Vgg11(width=4), ResNet8(width=8)])
@pytest.mark.parametrize("spare", [1, 4])
def test_at_the_extreme_a_way_through_is_left(model: AnyModel, spare: int) -> None:
    """A few weights a layer on average: one-shot scores over all layers empty some, or keep what leads nowhere."""
    network = network_of(model)
    weights = sum(layer.size for layer in network.layers)
    count = spare * len(network.layers)
    mask = SynFlow(density=count / weights).mask(network)
    assert mask.kept == count
    assert all(keep.any() for keep in mask.keep.values())
    assert passes(network, mask)
    magnitudes = {name: network.weights[name].abs() for name in network.prunable}
    emptied = keep_top({"all": torch.cat([x.flatten() for x in magnitudes.values()])}, {"all": count}).keep["all"]
    parts = emptied.split([x.numel() for x in magnitudes.values()])
    assert not all(part.any() for part in parts)
    assert not passes(network, keep_top_overall(magnitudes, count))


def test_the_count_is_exact_each_step_keeps_of_what_is_left_and_the_network_is_not_changed() -> None:
    network = network_of(ResNet8(width=4))
    before = network.weights
    state = SynFlow(density=0.03, steps=20).under(network, SynFlow(density=0.03, steps=20).mask(network))
    assert state.mask is not None
    assert state.mask.kept == int(0.03 * state.mask.size)
    assert all(x.equal(before[name]) for name, x in network.weights.items())
    for name, keep in state.mask.keep.items():
        assert not state.weights[name][~keep].any()
        assert state.weights[name][keep].equal(before[name][keep])


def test_signs_and_the_scale_of_any_one_layer_of_a_chain_do_not_matter() -> None:
    network = network_of(Vgg11(width=2))
    mask = SynFlow(density=0.05, steps=10).mask(network)
    with torch.no_grad():
        network.module.get_parameter("stages.1.0.weight").mul_(-8)  # a power of two: exact
    assert SynFlow(density=0.05, steps=10).mask(network).equals(mask)


def test_one_step_is_not_the_method() -> None:
    network = network_of(Vgg11(width=4))
    density = 4 * len(network.layers) / sum(layer.size for layer in network.layers)
    assert passes(network, SynFlow(density=density).mask(network))
    assert not SynFlow(density=density, steps=1).mask(network).equals(SynFlow(density=density).mask(network))


def test_nobody_is_asked(network: Network, world: World) -> None:
    fleet = federation(replace(world, shares={}), network)  # whoever were asked would fail
    state = SynFlow(density=0.05, steps=5).begin(network, fleet, np.random.default_rng(0))
    assert state.mask is not None
    assert state.mask.kept == int(0.05 * state.mask.size)
