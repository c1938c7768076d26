"""Scaled activation pruning: truly less memory, exact forward values, and the gradients that it promises."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight
from torch.profiler import ProfilerActivity, profile

from fedtiny.client.client import Client
from fedtiny.client.module import Classifier
from fedtiny.client.prune_activations import PruneActivations
from fedtiny.client.trainer import DeviceTrainer
from fedtiny.client.world import World
from fedtiny.models.zoo import AnyModel, MobileNetV2, ResNet8, ResNet18, Vgg11
from fedtiny.payload.messages import Order
from fedtiny.payload.training import Training
from fedtiny.sparse.activations import Gate, Kept, Nothing
from fedtiny.sparse.cost import activation_bytes
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.engine.measure import random_mask
from fedtiny.sparse.engine.resident import Resident
from fedtiny.sparse.network import Network, Prunable
from tests.client.test_engines import masked

Packed = Tensor | Kept | Gate | Nothing

MODELS: list[AnyModel] = [
    ResNet18(width=8, normalisation="weight"),
    Vgg11(width=8, normalisation="weight"),
    MobileNetV2(width=8, normalisation="weight"),
    ResNet8(width=8),
]
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.name}-{model.normalisation}")
EXAMPLES = 6


@contextmanager
def pruning(net: nn.Module, density: float) -> Iterator[PruneActivations]:
    callback, module, trainer = PruneActivations(density), Classifier(net), DeviceTrainer()
    callback.setup(trainer, module, "fit")
    try:
        yield callback
    finally:
        callback.teardown(trainer, module, "fit")


def built(model: AnyModel) -> tuple[nn.Module, Callable[[], Tensor], Tensor]:
    """A network, what makes its loss, and the pictures in it."""
    net = model.build(3, 10, 0).train()
    pictures = torch.randn(EXAMPLES, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return net, lambda: functional.cross_entropy(net(pictures), torch.arange(EXAMPLES)), pictures


class Held:
    """The storages of all that autograd is given to keep until the backward pass; pictures and weights apart."""

    def __init__(self, net: nn.Module, pictures: Tensor, pack: Callable[[Tensor], Packed] = lambda x: x) -> None:
        self.pack = pack
        self.apart = {x.untyped_storage().data_ptr() for x in (pictures, *net.parameters(), *net.buffers())}
        self.weights = {x.shape for x in net.parameters()}  # normalised weights are no activations
        self.storages: dict[int, Tensor] = {}

    def note(self, tensor: Tensor) -> Packed:
        packed = self.pack(tensor)
        parts: tuple[Tensor, ...] = ()
        match packed:
            case Tensor():
                parts = (packed,)
            case Kept():
                parts = (packed.values, packed.places)
            case Gate():
                parts = (packed.bits,)
        for part in parts:
            place = part.untyped_storage().data_ptr()
            if place not in self.apart and part.shape not in self.weights:
                self.storages[place] = part  # held, so that no memory is used for two
        return packed

    @property
    def bytes(self) -> int:
        return sum(part.untyped_storage().nbytes() for part in self.storages.values())


@each_model
def test_what_autograd_holds_is_what_the_formula_says(model: AnyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    net, loss, pictures = built(model)
    network = Network.of(net, (3, 16, 16), Prunable())
    plain = Held(net, pictures)
    with torch.autograd.graph.saved_tensors_hooks(plain.note, lambda x: x):
        loss()
    with pruning(net, 0.3) as callback:
        pruned = Held(net, pictures, callback._pack)
        monkeypatch.setattr(callback, "_pack", pruned.note)
        loss().backward()
    small = 8_000  # logits and labels; statistics a channel
    for held, density in ((plain.bytes, 1.0), (pruned.bytes, 0.3)):
        foreseen = activation_bytes(network, EXAMPLES, density)
        assert 0.9 * foreseen <= held <= foreseen + small
    if model.normalisation == "weight":
        assert pruned.bytes < 0.45 * plain.bytes


def allocated(loss: Callable[[], Tensor]) -> int:
    """Bytes that PyTorch's allocator gave out in a forward pass, and that are still there after it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        graph = loss()
    assert trace.profiler is not None
    results = trace.profiler.kineto_results
    assert results is not None
    total = sum(int(event.nbytes()) for event in results.events() if event.name() == "[memory]")
    graph.backward()
    return total


def test_the_memory_is_truly_free_between_forward_and_backward() -> None:
    net, loss, _ = built(ResNet18(width=16, normalisation="weight"))
    loss().backward()
    plain = allocated(loss)
    with pruning(net, 0.3):
        pruned = allocated(loss)
    network = Network.of(net, (3, 16, 16), Prunable())
    saved = activation_bytes(network, EXAMPLES) - activation_bytes(network, EXAMPLES, 0.3)
    assert plain - pruned > 0.9 * saved


def gradients(net: nn.Module, loss: Callable[[], Tensor]) -> dict[str, Tensor]:
    net.zero_grad()
    loss().backward()
    return {name: x.grad.clone() for name, x in net.named_parameters() if x.grad is not None}


def top(x: Tensor, density: float) -> Tensor:
    """The reference: dense, zeros but for the top of all the batch's numbers."""
    flat, count = x.flatten(), max(1, int(density * x.numel() + 1e-9))
    chosen = flat.abs().argsort(descending=True, stable=True)[:count]
    return torch.zeros_like(flat).index_copy_(0, chosen, flat[chosen]).view(x.shape)


@pytest.mark.parametrize("density", [0.3, 0.02])
@pytest.mark.parametrize("how", ["dense", "sparse"])
def test_weight_gradients_are_those_of_the_pruned_activations(how: str, density: float) -> None:
    """And all others are what they were: the gradient that goes back takes no activations."""
    net, loss, _ = built(ResNet8(width=8))
    network = Network.of(net, (3, 16, 16), Prunable())
    inputs: dict[str, Tensor] = {}
    ups: dict[str, Tensor] = {}

    def look(name: str, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        inputs[name] = args[0].detach()
        output.register_hook(partial(ups.__setitem__, name))

    convolutions = {name: layer for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d)}
    handles = [layer.register_forward_hook(partial(look, name)) for name, layer in convolutions.items()]
    mask = random_mask(network.prunable, 0.2)
    with torch.no_grad():
        mask.apply_(dict(net.named_parameters()))
    exact = gradients(net, loss)
    for handle in handles:
        handle.remove()
    form = Resident(net, Engine.model_validate({"name": how})).under(mask)
    labels, pictures = (
        torch.arange(EXAMPLES),
        torch.randn(EXAMPLES, 3, 16, 16, generator=torch.Generator().manual_seed(1)),
    )
    with pruning(form.train(), density):
        found = gradients(form, lambda: functional.cross_entropy(form(pictures), labels))
    for name, gradient in exact.items():
        layer = name.rpartition(".")[0]
        if layer in convolutions and layer != "stem.0":
            conv = convolutions[layer]
            assert not isinstance(conv.padding, str)
            x = top(inputs[layer], density)
            expected = conv2d_weight(x, mask.keep[name].shape, ups[layer], conv.stride, conv.padding)
            assert not torch.allclose(expected, gradient, rtol=0.1, atol=1e-4)
        else:
            expected = gradient
        if found[name].dim() != expected.dim():  # a vector of the kept weights, in the engine's order
            expected = conv_order(form, layer, expected)
        torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-5)


def conv_order(net: nn.Module, layer: str, dense: Tensor) -> Tensor:
    gather = net.get_submodule(layer).gather
    assert callable(gather)
    return torch.as_tensor(gather(dense))


@each_model
def test_with_nothing_pruned_every_bit_is_as_without(model: AnyModel) -> None:
    """Zeros that are not stored, gates of ReLUs and shapes of max-pools: all of it exact."""
    net, loss, _ = built(model)
    before = {name: x.clone() for name, x in net.state_dict().items()}
    plain, value = gradients(net, loss), loss().detach()
    net.load_state_dict(before)
    with pruning(net, 1.0):
        pruned = gradients(net, loss)
        assert loss().detach().equal(value)
    assert plain.keys() == pruned.keys()
    assert all(pruned[name].equal(x) for name, x in plain.items())


@each_model
def test_it_is_off_in_evaluation_and_gone_afterwards(model: AnyModel) -> None:
    net, loss, _ = built(model)
    exact = gradients(net.eval(), loss)
    with pruning(net, 0.01):
        evaluated = gradients(net, loss)
    after = gradients(net, loss)
    for name, x in exact.items():
        assert evaluated[name].equal(x)
        assert after[name].equal(x)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in net.modules())


def test_an_error_in_the_network_leaves_no_hooks_on_autograd(network: Network) -> None:
    with pruning(network.module.train(), 0.3), pytest.raises(RuntimeError):
        network.module(torch.zeros(2, 7, 8, 8))
    x = torch.randn(4, requires_grad=True)
    assert (x * x).grad_fn is not None
    assert torch.autograd.grad((x.relu() * 2).sum(), x)[0].equal(2.0 * (x > 0))


def test_clients_prune_as_ordered_on_both_engines(network: Network, world: World) -> None:
    mask, weights = masked(network, 0.2)
    client = Client(world)

    def trained(density: float) -> Mapping[str, Tensor]:
        training = Training(epochs=1, batch=64, activation_density=density)
        found = client.carry_out(Order(0, weights, mask, training), 1).weights
        assert found is not None
        return found

    whole, some, again = trained(1.0), trained(0.3), trained(1.0)
    assert all(x.equal(again[name]) for name, x in whole.items())
    assert any(not x.equal(some[name]) for name, x in whole.items() if name in mask.keep)
    # The head reads no activations of a convolution, and one step was made from the same weights.
    torch.testing.assert_close(some["head.weight"], whole["head.weight"])
