"""A network as pruning sees it: layers with weights, their sizes, their work, their blocks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from fedtiny.sparse.activations import ActivationLedger, Activations
from fedtiny.value import Value

__all__ = ["Layer", "Network", "Prunable", "Weights", "load_", "weights_of"]

_WEIGHTED = (nn.Conv2d, nn.Linear)
Weights = Mapping[str, Tensor]
"""Parameters and floating-point buffers by name, CPU float32."""


class Prunable(Value):
    """Which layers may be pruned. Biases and normalisation never are."""

    first_layer: bool = False
    """Whether the first convolution may be pruned."""
    last_layer: bool = False
    """Whether the output layer may be pruned."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution or linear layer.

    Attributes:
        name: Name of its weight parameter.
        shape: Shape of the weight: (out, in) or (out, in / groups, height, width).
        macs: Multiply-adds of one example's forward pass while dense.
        prunable: Whether its weights may be pruned.
        block: The block it belongs to, 0 next to the input.
    """

    name: str
    shape: tuple[int, ...]
    macs: int
    prunable: bool
    block: int

    @property
    def size(self) -> int:
        """Weights in the layer."""
        return int(torch.Size(self.shape).numel())


@dataclass(frozen=True, slots=True)
class Network:
    """A module, what it takes, and its layers from input to output.

    Attributes:
        module: Any `nn.Module`. If it has `stages`, each child of it is a block, what comes before belongs to the
            first block and what comes after to the last; otherwise every layer is a block.
        input_shape: (C, H, W) of one example.
        layers: Every convolution and linear layer, in the order of the forward pass.
        activations: What training keeps of one example for the backward pass.
    """

    module: nn.Module
    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    activations: Activations

    @classmethod
    def of(cls, module: nn.Module, input_shape: tuple[int, int, int], prunable: Prunable) -> Self:
        """Traces one example through `module`, on zeros and without touching its state."""
        names = {id(child): name for name, child in module.named_modules()}
        seen: dict[str, tuple[tuple[int, ...], int]] = {}
        picture = torch.zeros(1, *input_shape)
        ledger = ActivationLedger(picture)

        def look(child: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            ledger.note(child, inputs[0], output)
            if isinstance(child, _WEIGHTED):
                positions = output.shape[2:].numel() if isinstance(child, nn.Conv2d) else 1
                shape = tuple(child.weight.shape)
                seen[f"{names[id(child)]}.weight"] = (shape, torch.Size(shape).numel() * positions)

        leaves = [child for child in module.modules() if not list(child.children())]
        handles = [leaf.register_forward_hook(look) for leaf in leaves]
        training = module.training
        with torch.no_grad():
            module.eval()(picture)
        module.train(training)
        for handle in handles:
            handle.remove()
        ordered = list(seen)
        blocks = _blocks(ordered)
        layers = tuple(
            Layer(
                name=name,
                shape=seen[name][0],
                macs=seen[name][1],
                prunable=(i > 0 or prunable.first_layer) and (i < len(ordered) - 1 or prunable.last_layer),
                block=blocks[i],
            )
            for i, name in enumerate(ordered)
        )
        return cls(module, input_shape, layers, ledger.activations)

    @property
    def prunable(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every prunable weight, from input to output."""
        return {layer.name: layer.shape for layer in self.layers if layer.prunable}

    @property
    def blocks(self) -> tuple[tuple[str, ...], ...]:
        """The prunable layers of each block that has any, from input to output."""
        numbers = sorted({layer.block for layer in self.layers if layer.prunable})
        return tuple(tuple(x.name for x in self.layers if x.prunable and x.block == n) for n in numbers)

    @property
    def parameters(self) -> int:
        """Trainable numbers, prunable or not."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    @property
    def weights(self) -> Weights:
        """A copy of the module's parameters and floating-point buffers."""
        return weights_of(self.module)


def _blocks(names: list[str]) -> list[int]:
    if not any(name.startswith("stages.") for name in names):
        return list(range(len(names)))
    blocks = [int(name.split(".")[1]) if name.startswith("stages.") else -1 for name in names]
    last = max(blocks)
    inside = blocks.index(0) if 0 in blocks else 0
    return [block if block >= 0 else (0 if i < inside else last) for i, block in enumerate(blocks)]


def weights_of(module: nn.Module) -> Weights:
    """A CPU copy of the module's parameters and floating-point buffers, dense in whatever form the module is.

    Integer buffers (batch norm's `num_batches_tracked`) are left out: nothing here depends on them, and an average
    of counters means nothing.
    """
    named: Weights = module.state_dict()
    return {name: tensor.cpu().clone() for name, tensor in named.items() if tensor.is_floating_point()}


def load_(module: nn.Module, weights: Weights) -> None:
    """Copies `weights` into the module, in place. The names must be the module's own."""
    missing, unexpected = module.load_state_dict(dict(weights), strict=False)
    odd = [*unexpected, *(name for name in missing if not name.endswith("num_batches_tracked"))]
    assert not odd, odd
