import pytest
import torch
from torch import nn

from fedtiny.models.zoo import AnyModel, ResNet8, ResNet18, Vgg11
from fedtiny.sparse.network import Network, Prunable, load_, weights_of


@pytest.mark.parametrize(
    ("model", "shape", "parameters", "prunable", "megamacs"),
    [
        (ResNet18(), (3, 32, 32), 11_173_962, 11_157_504, 555.42),
        (ResNet18(width=16), (3, 32, 32), 701_466, 697_344, 35.05),
        (ResNet8(), (1, 8, 8), 77_754, 76_288, 0.7635),
        (Vgg11(), (3, 32, 32), 9_228_362, 9_216_000, 152.77),
    ],
)
def test_sizes(model: AnyModel, shape: tuple[int, int, int], parameters: int, prunable: int, megamacs: float) -> None:
    network = Network.of(model.build(shape[0], 10, 0), shape, Prunable())
    assert network.parameters == parameters
    assert sum(layer.size for layer in network.layers if layer.prunable) == prunable
    assert sum(layer.macs for layer in network.layers) / 1e6 == pytest.approx(megamacs, rel=1e-4)


def test_all_weights_of_resnet18_when_first_and_last_layer_may_be_pruned() -> None:
    module = ResNet18().build(3, 10, 0)
    network = Network.of(module, (3, 32, 32), Prunable(first_layer=True, last_layer=True))
    assert sum(layer.size for layer in network.layers if layer.prunable) == 11_164_352
    # The stem belongs to the first block and the head to the last.
    assert network.blocks[0][0] == "stem.0.weight"
    assert network.blocks[-1][-1] == "head.weight"


def test_blocks_are_stages_from_input_to_output() -> None:
    resnet = Network.of(ResNet18(width=2).build(3, 10, 0), (3, 32, 32), Prunable())
    assert [len(block) for block in resnet.blocks] == [4, 5, 5, 5]
    vgg = Network.of(Vgg11(width=2).build(3, 10, 0), (3, 32, 32), Prunable())
    assert [len(block) for block in vgg.blocks] == [1, 2, 2, 2]  # the first convolution is not prunable


def test_without_stages_every_layer_is_a_block() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(48, 5))
    network = Network.of(module, (1, 8, 8), Prunable(first_layer=True))
    assert network.blocks == (("0.weight",), ("2.weight",))
    assert [layer.macs for layer in network.layers] == [18 * 36, 54 * 16, 240]


def test_equal_seeds_build_equal_networks_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    a, b, c = (weights_of(ResNet8(width=2).build(1, 3, seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(a[name].equal(b[name]) for name in a)
    assert not all(a[name].equal(c[name]) for name in a)


def test_weights_go_out_and_come_back() -> None:
    a, b = (ResNet8(width=2).build(1, 3, seed) for seed in (1, 2))
    load_(b, weights_of(a))
    assert all(x.equal(weights_of(b)[name]) for name, x in weights_of(a).items())
    assert not any("num_batches_tracked" in name for name in weights_of(a))


@pytest.mark.parametrize("size", [7, 8, 9, 32])
def test_every_model_takes_odd_sizes(size: int) -> None:
    for model in (ResNet8(width=2), ResNet18(width=2), Vgg11(width=2)):
        assert model.build(3, 5, 0).eval()(torch.zeros(2, 3, size, size)).shape == (2, 5)
