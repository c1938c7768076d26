"""Sparse networks are the dense ones: same names, same numbers, forth and back, whatever the layers."""

import copy
from collections.abc import Callable
from io import BytesIO

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional

from fedtiny.models.zoo import AnyModel, MobileNetV2, ResNet8, ResNet18, Vgg11
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.engine.layers import BatchNorm2d, Sparse
from fedtiny.sparse.engine.measure import random_mask
from fedtiny.sparse.engine.resident import Resident
from fedtiny.sparse.engine.sparsify import densify, sparsify
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Prunable, load_, weights_of

SHAPE = (3, 16, 16)


def pruned(module: nn.Module, density: float = 0.3, shape: tuple[int, int, int] = SHAPE) -> Mask:
    """Prunes the module in place; running statistics become something worth normalising by."""
    network = Network.of(copy.deepcopy(module).float(), shape, Prunable())
    mask = random_mask(network.prunable, density)
    mask.apply_({name: parameter.data for name, parameter in module.named_parameters()})
    generator = torch.Generator().manual_seed(3)
    for name, buffer in module.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return mask


def pictures(n: int, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(n))


def masked_gradients(module: nn.Module, mask: Mask, x: Tensor) -> dict[str, Tensor]:
    """Gradients by name, in the dense shape, 0 where pruned."""
    module.zero_grad()
    functional.cross_entropy(module(x), torch.arange(len(x)) % 10).backward()
    found = {}
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        layer = module.get_submodule(name.rpartition(".")[0])
        sparse = isinstance(layer, Sparse) and parameter.dim() == 1 and name.endswith(".weight")
        found[name] = layer.scatter(parameter.grad) if isinstance(layer, Sparse) and sparse else parameter.grad
        if name in mask.keep:
            found[name] = found[name] * mask.keep[name]
    return found


@pytest.mark.parametrize("batch", [2, 7, 33])
@pytest.mark.parametrize("model", [ResNet8(width=4), ResNet18(width=4), Vgg11(width=4), MobileNetV2(width=8)])
def test_every_network_computes_the_same_in_float64(model: AnyModel, batch: int) -> None:
    dense = model.build(3, 10, 0).double()
    mask, x = pruned(dense), pictures(batch).double()
    module = copy.deepcopy(dense)
    sparse = sparsify(module, mask)
    assert isinstance(sparse, GraphModule)
    torch.testing.assert_close(sparse.eval()(x), dense.eval()(x))
    want, got = masked_gradients(dense.train(), mask, x), masked_gradients(sparse.train(), mask, x)
    assert want.keys() == got.keys()
    for name, gradient in want.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-6, atol=1e-9)
    for name, buffer in dense.named_buffers():  # running statistics
        torch.testing.assert_close(dict(sparse.named_buffers())[name], buffer)


def test_sparsify_then_densify_is_the_identity_on_names_values_and_momentum() -> None:
    module = ResNet8(width=4).build(3, 10, 0)
    mask = pruned(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        module(pictures(4)).square().sum().backward()
        for name, parameter in module.named_parameters():
            if name in mask.keep and parameter.grad is not None:
                parameter.grad.mul_(mask.keep[name])
        optimizer.step()

    def everything() -> tuple[dict[str, Tensor], list[Tensor], list[str]]:
        momentum = [optimizer.state[p]["momentum_buffer"].clone() for p in optimizer.param_groups[0]["params"]]
        state = {name: x.clone() for name, x in module.state_dict().items()}
        return state, momentum, [f"{name} {type(x).__name__}" for name, x in module.named_modules()]

    before = everything()
    sparsify(module, mask, optimizer=optimizer)
    inside = everything()
    kept = sum(x.numel() for x in inside[1])
    assert kept == sum(x.numel() for x in before[1]) - mask.size + mask.kept
    assert all(x.equal(before[0][name]) for name, x in inside[0].items())  # state_dict speaks of dense weights
    densify(module, optimizer)
    after = everything()
    assert after[0].keys() == before[0].keys()
    assert all(x.equal(before[0][name]) for name, x in after[0].items())
    assert all(x.equal(y) for x, y in zip(after[1], before[1], strict=True))
    assert after[2] == before[2]


def test_masks_may_change_in_the_middle_of_training() -> None:
    """Two masks after each other, against masked dense SGD, in float64."""
    dense = ResNet8(width=4).build(3, 10, 0).double()
    masks = [pruned(copy.deepcopy(dense), density) for density in (0.2, 0.4)]
    module = copy.deepcopy(dense)
    mine, theirs = (torch.optim.SGD(x.parameters(), lr=0.05, momentum=0.9) for x in (module, dense))
    for mask in masks:
        for net in (dense, module):
            mask.apply_({name: parameter.data for name, parameter in net.named_parameters()})
        for name, parameter in dense.named_parameters():
            if name in mask.keep and parameter in theirs.state:
                theirs.state[parameter]["momentum_buffer"].mul_(mask.keep[name])
        sparse = sparsify(module, mask, optimizer=mine)
        for step in range(3):
            x, y = pictures(5 + step).double(), torch.arange(5 + step) % 10
            for net, optimizer in ((sparse, mine), (dense, theirs)):
                optimizer.zero_grad()
                functional.cross_entropy(net(x), y).backward()
                if net is dense:
                    for name, parameter in dense.named_parameters():
                        if name in mask.keep and parameter.grad is not None:
                            parameter.grad.mul_(mask.keep[name])
                optimizer.step()
        densify(module, mine)
    for name, x in dense.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], x, rtol=1e-7, atol=1e-10)


def test_saving_and_loading_speak_of_dense_weights() -> None:
    module = ResNet8(width=4).build(3, 10, 0)
    mask = pruned(module)
    sparse = sparsify(module, mask)
    file = BytesIO()
    torch.save(sparse.state_dict(), file)
    file.seek(0)
    other = ResNet8(width=4).build(3, 10, 5)
    other.load_state_dict(torch.load(file))
    assert all(x.equal(weights_of(module)[name]) for name, x in weights_of(other).items())
    changed = {name: x + 1 for name, x in weights_of(other).items()}
    load_(module, changed)
    mask.apply_(changed)
    assert all(x.equal(changed[name]) for name, x in weights_of(module).items())


class Own(nn.Module):
    """A user's network: functions, dropout, concatenation, average pooling, sizes, a shared ReLU, a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 5, stride=2, padding=2)
        self.norm = nn.BatchNorm2d(8)
        self.b = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.c = nn.Conv2d(8, 8, (1, 3), padding=(0, 2), dilation=(1, 2))
        self.odd = nn.Conv2d(16, 4, 3, padding="same")
        self.free = nn.BatchNorm2d(4, affine=False, momentum=None)
        self.drop = nn.Dropout(0.5)
        self.wide = nn.MaxPool2d(3, stride=2)
        self.line = nn.Linear(4 * 9, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.a(x)))
        x = torch.cat([functional.relu(self.b(x)), self.c(x).sigmoid()], 1)
        x = self.drop(self.wide(self.free(self.odd(x))))
        out: Tensor = self.line(x.reshape(x.shape[0], -1))
        return out


class Stubborn(Own):
    """Cannot be traced: it looks at numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.detach().sum()) < 1e9 else x


class TwoFaced(Own):
    """Does something else while it trains."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * 2 if self.training else x)


@pytest.mark.parametrize("make", [Own, Stubborn, TwoFaced])
def test_unusual_modules_are_right_on_the_layout(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    dense = make().double()
    mask = pruned(dense)
    module = copy.deepcopy(dense)
    sparse = sparsify(module, mask)
    assert isinstance(sparse, GraphModule) == (make is Own)
    assert isinstance(module.get_submodule("a"), Sparse)
    assert not isinstance(module.get_submodule("odd"), Sparse)
    x = pictures(6).double()
    torch.testing.assert_close(sparse.eval()(x), dense.eval()(x))
    for net in (dense, sparse):
        net.train().get_submodule("drop").eval()  # draws in the order of memory: other numbers on another layout
    want, got = masked_gradients(dense, mask, x), masked_gradients(sparse, mask, x)
    for name, gradient in want.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(module.get_buffer("free.running_var"), dense.get_buffer("free.running_var"))


def test_dropout_drops_on_the_layout() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5))
    sparse = sparsify(module, Mask({"0.weight": torch.ones(4, 3, 3, 3, dtype=torch.bool)}))
    share = float(sparse(pictures(16)).eq(0).double().mean())
    assert share == pytest.approx(0.5, abs=0.05)


def test_batch_norm_of_one_value_cannot_train() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 16), nn.BatchNorm2d(4))
    sparse = sparsify(module, pruned(module))
    assert isinstance(sparse[1] if isinstance(sparse, nn.Sequential) else None, BatchNorm2d)
    with pytest.raises(ValueError, match="more than 1 value a channel"):
        sparse(pictures(1))


def test_layers_above_their_crossover_stay_dense() -> None:
    module = ResNet8(width=4).build(3, 10, 0)
    mask = pruned(module, 0.3)
    sparsify(module, mask, {"stages.0.0.conv1.weight": 0.2, "head.weight": 0.5, "stages.0.0.conv2.weight": 0.31})
    kinds = {name: isinstance(x, Sparse) for name, x in module.named_modules() if name.endswith(("conv1", "conv2"))}
    assert kinds["stages.0.0.conv1"] is False
    assert kinds["stages.0.0.conv2"] is True
    assert not isinstance(module.get_submodule("head"), Sparse)


def test_a_resident_network_changes_its_form_only_with_the_mask() -> None:
    module = ResNet8(width=4).build(3, 10, 0)
    first, second = (random_mask(Network.of(module, SHAPE, Prunable()).prunable, d) for d in (0.1, 0.2))
    same = Mask({name: keep.clone() for name, keep in first.keep.items()})
    resident = Resident(module, Engine(name="sparse"))
    assert resident.under(None) is module
    form = resident.under(first)
    assert resident.under(first) is resident.under(same) is form
    assert resident.under(second) is not form
    assert resident.under(None) is module
    assert not any(isinstance(x, Sparse) for x in module.modules())
    assert Resident(module, Engine(name="dense")).under(first) is module


def test_a_resident_network_without_batch_norm_is_read_and_written_dense() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
    keep = torch.rand(4, 4, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.2
    weights = {name: x * keep if name == "2.weight" else x for name, x in weights_of(module).items()}
    resident = Resident(module, Engine(name="sparse"))
    for mask in (Mask({"2.weight": keep}), None):
        resident.under(mask)
        resident.load_(weights)
        assert all(x.equal(weights[name]) for name, x in resident.weights.items())


def test_the_dense_gradient_is_shown_one_output_channel_at_a_time() -> None:
    dense = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2).double()
    keep = torch.rand(6, 2, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.4
    dense.weight.data.mul_(keep)
    layer = copy.deepcopy(dense)
    sparsify(layer, Mask({"weight": keep}))
    assert isinstance(layer, Sparse)
    pieces: dict[int, Tensor] = {}
    layer.watch = lambda piece, start: pieces.update({start: piece.clone()})
    x = torch.randn(5, 4, 7, 7, dtype=torch.float64)
    for net in (dense, layer):
        net(x).square().sum().backward()
    assert list(pieces) == [18 * o for o in range(6)]
    assert dense.weight.grad is not None
    torch.testing.assert_close(torch.cat(list(pieces.values())), dense.weight.grad.flatten())


class Changing(nn.Module):
    """Adds in place to what is read again, or to its own batch norm, or changes it in between."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = x * 1.0
        if self.how == "into the other":
            h = x
            h += self.norm(self.conv(x))
            return functional.relu(h) + x
        if self.how == "into its own":
            h = self.norm(self.conv(x))
            h += x
            return functional.relu(h) + x
        if self.how == "in between":
            h = self.norm(self.conv(x))
            x.mul_(2)
            return functional.relu(h + x)
        h = self.norm(self.conv(x)) + x
        out: Tensor = h * 2 if self.how == "no ReLU" else functional.relu(h) + h
        return out


@pytest.mark.parametrize(
    ("how", "fuses"),
    [("into the other", False), ("into its own", True), ("in between", False), ("no ReLU", True), ("twice", True)],
)
def test_additions_mean_what_they_meant(how: str, fuses: bool) -> None:
    dense = Changing(how).double()
    module = copy.deepcopy(dense)
    keep = torch.rand(4, 4, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    dense.conv.weight.data.mul_(keep)
    sparse = sparsify(module, Mask({"conv.weight": keep}))
    assert isinstance(sparse, GraphModule) == fuses
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(sparse(x), dense(x))
    torch.testing.assert_close(module(x), dense(x))  # whoever calls the network itself gets the same


class Random(Own):
    """Drops its middle now and then."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if torch.rand(()).item() < 0.5 else super().forward(-x)


def test_a_network_that_draws_is_not_frozen_and_no_number_is_lost() -> None:
    module = Random()
    mask = pruned(module)
    state = torch.random.get_rng_state()
    assert sparsify(module, mask) is module
    assert torch.random.get_rng_state().equal(state)


def test_a_network_with_hooks_keeps_them() -> None:
    module, seen = ResNet8(width=4).build(3, 10, 0), []
    mask = pruned(module)
    module.get_submodule("stem.2").register_forward_hook(lambda layer, inputs, output: seen.append(output.min()))
    sparsify(module, mask)(pictures(2))
    assert len(seen) == 1


def test_sparsifying_anew_takes_the_new_mask_and_copies_can_be_made_in_use() -> None:
    module = ResNet8(width=4).build(3, 10, 0)
    network = Network.of(copy.deepcopy(module), SHAPE, Prunable())
    first, second = (random_mask(network.prunable, density) for density in (0.1, 0.3))
    sparsify(module, first)(pictures(2))
    sparse = sparsify(module, second)
    other = copy.deepcopy(sparse)
    assert other(pictures(2)).equal(sparse(pictures(2)))
    layer = module.get_submodule("stages.0.0.conv1")
    assert isinstance(layer, Sparse)
    assert len(layer.values) == int(second.keep["stages.0.0.conv1.weight"].sum())


def test_one_picture_without_a_batch_and_rows_of_features() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2))
    mask = pruned(module)
    expected = module(pictures(1)[0])
    torch.testing.assert_close(sparsify(module, mask)(pictures(1)[0]), expected)
    line = nn.Linear(5, 3)
    x = torch.randn(2, 7, 5)
    expected = line(x)
    torch.testing.assert_close(sparsify(line, Mask({}))(x), expected)
