"""Convolutions that normalise their weights: the formula by hand, and the gradient that growth reads."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn, tensor

from fedtiny.models.normalised import NormalisedConv2d, normalise
from fedtiny.models.zoo import AnyModel, MobileNetV2, ResNet8, ResNet18, SmallCnn, Vgg11
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.engine.measure import random_mask
from fedtiny.sparse.engine.resident import Resident
from fedtiny.sparse.mask import MaskAware
from fedtiny.sparse.network import Network, Prunable

MODELS: list[AnyModel] = [
    SmallCnn(width=8, normalisation="weight"),
    ResNet8(width=8, normalisation="weight"),
    ResNet18(width=8, normalisation="weight"),
    Vgg11(width=8, normalisation="weight"),
    MobileNetV2(width=16, normalisation="weight"),
]
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)


def test_the_formula_by_hand() -> None:
    """Mean 1, fan_in * variance 4 + 0 + 1 + 1; a kept weight at the mean is 0 too, a pruned one is 0 exactly."""
    weight, keep = tensor([[3.0, 1.0, 0.0, 0.0]]), tensor([[True, True, False, False]])
    expected = [2 * x / math.sqrt(6) for x in (2, 0, -1, -1)]
    assert normalise(weight, tensor([2.0]), None)[0].tolist() == pytest.approx(expected)
    masked = normalise(weight, tensor([2.0]), keep)[0]
    assert masked.tolist() == pytest.approx([expected[0], 0, 0, 0])
    assert masked[2:].tolist() == [0.0, 0.0]
    # 0.01^2 * 3 / 4 is below the least of 1e-4, whose root is 0.01.
    assert normalise(tensor([[0.01, 0, 0, 0]]), tensor([1.0]), None)[0].tolist() == pytest.approx(
        [0.75, -0.25, -0.25, -0.25]
    )


def reference(weight: Tensor, gain: Tensor, keep: Tensor) -> Tensor:
    """The formula in PyTorch's own operations, for autograd to differentiate."""
    var, mean = torch.var_mean(weight, 1, correction=0, keepdim=True)
    return gain[:, None] * (weight - mean) / (var * weight.shape[1]).clamp(min=1e-4).sqrt() * keep


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.floats(0.0, 1.0), st.sampled_from([1e-4, 1.0]))
def test_the_gradient_is_the_true_one_and_at_pruned_places_as_if_they_were_kept(
    seed: int, fan_in: int, density: float, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(3, fan_in, generator=generator) < density
    weight = (torch.randn(3, fan_in, generator=generator, dtype=torch.float64) * scale * keep).requires_grad_()
    gain = torch.randn(3, generator=generator, dtype=torch.float64).requires_grad_()
    up = torch.randn(3, fan_in, generator=generator, dtype=torch.float64)
    mine = torch.autograd.grad((normalise(weight, gain, keep) * up).sum(), (weight, gain))
    theirs = torch.autograd.grad((reference(weight, gain, keep) * up).sum(), (weight, gain))
    torch.testing.assert_close(mine[1], theirs[1])
    torch.testing.assert_close(mine[0][keep], theirs[0][keep])
    for place in (~keep).nonzero().tolist():
        with_it = keep.clone()
        with_it[tuple(place)] = True
        (grown,) = torch.autograd.grad((reference(weight, gain, with_it) * up).sum(), weight)
        torch.testing.assert_close(mine[0][tuple(place)], grown[tuple(place)])


def test_a_grown_weight_starts_at_0_and_is_trained() -> None:
    layer = NormalisedConv2d(1, 1, 3)
    keep = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    keep[0, 0, 0, 0] = keep[0, 0, 1, 1] = True
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 0, 0] = 0.5
    layer.keep_only(keep)
    picture = torch.arange(25.0).view(1, 1, 5, 5)
    (layer(picture) ** 2).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad[0, 0, 1, 1] != 0
    # Pruned places have a gradient for growth to read, and are never computed with.
    assert layer.weight.grad[~keep].count_nonzero() == 7
    assert layer.weight.grad[0, 0, 0, 0].abs() < 1e-3  # a filter's length does not matter, so it has no gradient along
    assert normalise(layer.weight, layer.gain, keep)[~keep].count_nonzero() == 0
    assert list(layer.state_dict()) == ["weight", "bias", "gain"]


@each_model
def test_networks_without_batch_norm_start_sane(model: AnyModel) -> None:
    network = Network.of(model.build(3, 10, 0), (3, 32, 32), Prunable())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.module.modules())
    assert set(network.weights) == {name for name, _ in network.module.named_parameters()}
    resident = Resident(network.module, Engine(name="dense"))
    pictures = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for density in (1.0, 0.1):
        mask = random_mask(network.prunable, density)
        weights = network.weights
        mask.apply_(weights)
        net = resident.under(mask if density < 1 else None)
        resident.load_(weights)
        logits = net(pictures)
        assert logits.isfinite().all()
        assert 1e-3 < float(logits.detach().std()) < 10


# But for the smallest: its convolutions have biases only before a batch norm, and draw them too.
@pytest.mark.parametrize("model", MODELS[1:], ids=lambda model: model.name)
def test_convolutions_start_from_the_same_weights_as_those_before_a_batch_norm(model: AnyModel) -> None:
    plain = model.model_copy(update={"normalisation": "batch"}).build(3, 10, 0).state_dict()
    for name, weight in model.build(3, 10, 0).state_dict().items():
        if name.endswith(".weight"):
            assert weight.equal(plain[name]), name


def test_a_resident_network_is_told_its_mask_on_both_engines(engine: Engine) -> None:
    module = ResNet8(width=4, normalisation="weight").build(1, 4, 0)
    network = Network.of(module, (1, 8, 8), Prunable())
    resident, pictures = Resident(module, engine), torch.randn(3, 1, 8, 8)
    aware = [f"{name}.weight" for name, layer in module.named_modules() if isinstance(layer, MaskAware)]
    assert set(network.prunable) <= set(aware)
    for density in (0.1, 0.2):
        mask = random_mask(network.prunable, density)
        weights = network.weights
        mask.apply_(weights)
        net = resident.under(mask).eval()
        resident.load_(weights)
        before = net(pictures)
        resident.load_({name: x + (~mask.keep[name] if name in mask.keep else 0) for name, x in weights.items()})
        for name, keep in mask.keep.items():
            layer = module.get_submodule(name.removesuffix(".weight"))
            assert isinstance(layer, NormalisedConv2d)
            assert layer.keep is not None
            assert layer.keep.equal(keep)
        assert list(resident.weights) == list(network.weights)
        assert before.isfinite().all()
    assert resident.under(None) is module
    assert all(layer.keep is None for layer in module.modules() if isinstance(layer, NormalisedConv2d))
