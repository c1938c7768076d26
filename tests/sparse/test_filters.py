"""Whole filters, by hand and on real networks."""

import math

import pytest
import torch
from torch import nn

from fedtiny.models.zoo import AnyModel, MobileNetV2, ResNet8, SmallCnn, Vgg11
from fedtiny.sparse.filters import filter_mask, filter_weights, whole_filters
from fedtiny.sparse.network import Network, Prunable

# A chain of three 1x1 convolutions: 1 -> 3 -> 3 -> 2 channels. The first is not pruned.
SECOND = torch.tensor([[1.0, -1.0, 0.0], [0.0, 3.0, -4.0], [2.0, 2.0, 2.0]]).view(3, 3, 1, 1)
THIRD = torch.tensor([[9.0, 1.0, 1.0], [0.0, 2.0, 1.0]]).view(2, 3, 1, 1)


def chain() -> tuple[Network, dict[str, torch.Tensor]]:
    module = nn.Sequential(
        nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1)
    )
    network = Network.of(module, (1, 2, 2), Prunable(last_layer=True))
    return network, dict(network.weights) | {"2.weight": SECOND, "5.weight": THIRD}


def test_by_hand() -> None:
    """L1 norms of the second layer are 2, 7 and 6. Without channel 0 those of the third are 2 and 3, not 11 and 3."""
    network, weights = chain()
    mask = filter_mask(network, weights, {"2.weight": 2, "5.weight": 1})
    assert mask.keep["2.weight"].view(3, 3).tolist() == [[False] * 3, [True] * 3, [True] * 3]
    assert mask.keep["5.weight"].view(2, 3).tolist() == [[False] * 3, [False, True, True]]
    assert mask.kept == 6 + 2


@pytest.mark.parametrize(
    ("density", "kept"),
    [
        (1.0, 15),
        (0.99, 9 + 3),  # all of the second layer and one filter of the third
        (0.7, 6 + 4),  # two thirds, and by then there is room for the second filter of the third layer
        (0.6, 6 + 2),
        (0.5, 3 + 2),
        (0.3, 3 + 1),
    ],
)
def test_equal_shares_and_then_one_filter_more_where_it_fits(density: float, kept: int) -> None:
    network, weights = chain()
    assert whole_filters(network, weights, density).kept == kept


def test_less_than_a_filter_a_layer_is_refused() -> None:
    network, weights = chain()
    with pytest.raises(ValueError, match=r"keeps 3 of 15 weights; the least density is 0.27, or set structured: false"):
        whole_filters(network, weights, 0.25)


def network_of(model: AnyModel) -> Network:
    return Network.of(model.build(3, 10, 0), (3, 32, 32), Prunable())


@pytest.mark.parametrize("model", [ResNet8(width=16), SmallCnn(), Vgg11(width=16), MobileNetV2(width=16)], ids=str)
@pytest.mark.parametrize("density", [0.5, 0.1])
def test_of_any_network_only_whole_filters_that_something_reaches_are_kept(model: AnyModel, density: float) -> None:
    network = network_of(model)
    before = network.weights
    mask = whole_filters(network, network.weights, density)
    assert density * mask.size - filter_weights(network) <= mask.kept <= density * mask.size
    assert all(x.equal(before[name]) for name, x in network.weights.items())
    for keep in mask.keep.values():
        rows = keep.flatten(1)
        assert rows.any()
        assert len({tuple(row) for row in rows[rows.any(1)].tolist()}) == 1 or keep.shape[1] == 1
    # Everything that is kept can change what the network says: a chain of kept weights leads to it.
    module = network.module.eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            if name in mask.keep:
                parameter.copy_(mask.keep[name] / max(1, math.prod(parameter.shape[1:])))
    inputs: dict[str, torch.Tensor] = {}
    for name in mask.keep:
        layer = module.get_submodule(name.removesuffix(".weight"))
        layer.register_forward_pre_hook(lambda _, given, name=name: inputs.__setitem__(name, given[0]))
    module(torch.ones(1, 3, 32, 32))
    for name, keep in mask.keep.items():
        alive = inputs[name].transpose(0, 1).flatten(1).sum(1) > 0
        if keep.shape[1] == len(alive):
            assert not keep.transpose(0, 1).flatten(1).any(1)[~alive].any()
        else:  # depthwise: a filter a channel
            assert not keep.flatten(1).any(1)[~alive].any()


def test_a_residual_sum_keeps_a_channel_while_a_branch_produces_it() -> None:
    """Stage 0 adds its input, which is whole: stage 1 reads all four channels, though one filter is left."""
    network = Network.of(ResNet8(width=4).build(1, 4, 0), (1, 8, 8), Prunable())
    mask = filter_mask(network, network.weights, dict.fromkeys(network.prunable, 1))
    kept = {name: int(keep.sum()) for name, keep in mask.keep.items()}
    assert kept["stages.0.0.conv1.weight"] == 4 * 9
    assert kept["stages.0.0.conv2.weight"] == 1 * 9
    assert kept["stages.1.0.conv1.weight"] == 4 * 9
    assert kept["stages.1.0.conv2.weight"] == 1 * 9
    assert kept["stages.1.0.shortcut.0.weight"] == 4
    assert kept["stages.2.0.conv1.weight"] in (9, 18)  # the filters of both branches, which may be the same


def test_networks_with_normalised_weights_keep_the_filters_that_those_with_batch_norm_do() -> None:
    plain, normalised = (
        Network.of(ResNet8(width=4, normalisation=how).build(1, 4, 0), (1, 8, 8), Prunable())
        for how in ("batch", "weight")
    )
    mask = whole_filters(normalised, normalised.weights, 0.5)
    assert mask.kept > 0.4 * mask.size
    assert mask.equals(whole_filters(plain, plain.weights, 0.5))
