"""What training a masked network costs a device: modelled, never measured.

Two accountings of floating-point operations are in use; every figure must name its own. Both count 2 FLOPs a
multiply-add, a backward pass as two forward passes, and nothing for normalisation and the loss. With F_s the
forward pass of the masked network and F_d that of the dense one:

* `rigl` (Evci et al. 2020): a step is 3 F_s; one that needs the dense weight gradient is 2 F_s + F_d.
* `fedrts` (FedRTS, appendix F.4): a step is 3 F_s; one that needs the dense gradient is F_s + 2 F_d.

Here only the layers whose dense gradient is asked for count as dense: FedTiny's block, not the whole network.
"""

from collections.abc import Collection
from typing import Literal

from fedtiny.sparse.activations import kept_bytes
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network

__all__ = [
    "Accounting",
    "activation_bytes",
    "dense_gradient_flops",
    "forward_flops",
    "memory_bytes",
    "training_flops",
]

Accounting = Literal["rigl", "fedrts"]


def _density(mask: Mask | None) -> dict[str, float]:
    return {} if mask is None else mask.densities()


def forward_flops(network: Network, mask: Mask | None) -> float:
    """FLOPs of one example's forward pass: 2 * multiply-adds * density, summed over the layers."""
    density = _density(mask)
    return sum(2 * layer.macs * density.get(layer.name, 1.0) for layer in network.layers)


def dense_gradient_flops(
    network: Network, mask: Mask | None, dense: Collection[str], accounting: Accounting = "rigl"
) -> float:
    """FLOPs of one example more, in a step that needs the dense weight gradient of the layers `dense`."""
    density = _density(mask)
    extra = sum(2 * x.macs * (1 - density.get(x.name, 1.0)) for x in network.layers if x.name in dense)
    return extra * (1 if accounting == "rigl" else 2)


def training_flops(network: Network, mask: Mask | None, examples: int) -> float:
    """FLOPs of local training on so many examples, each epoch counted; dense gradients of pruned weights apart."""
    return 3 * forward_flops(network, mask) * examples


def memory_bytes(
    network: Network, mask: Mask | None, momentum: bool, dense: Collection[str] = (), held_bytes: int = 0
) -> int:
    """Bytes that training needs on a device, beyond activations.

    A kept weight of a masked layer takes 4 bytes of value and 4 of index, 4 of gradient and 4 of momentum if there
    is any; every other parameter the same without the index; a batch-norm buffer 4. Where dense gradients are read,
    one output channel of the largest such layer takes 4 a weight: a dense gradient is made a channel at a time, as
    the sparse engine does. What is kept of it is `held_bytes`.

    Args:
        network: The network.
        mask: Its mask; None is dense.
        momentum: Whether the optimizer keeps a momentum.
        dense: Layers whose dense gradient is read.
        held_bytes: What is kept for the answers to the server's questions.
    """
    state = 12 if momentum else 8
    masked = {} if mask is None else mask.keep
    sparse = 0 if mask is None else mask.kept * (4 + state)
    weights = dict(network.module.named_parameters())
    rest = sum(x.numel() * state for name, x in weights.items() if name not in masked)
    buffers = sum(4 * x.numel() for x in network.module.buffers() if x.is_floating_point())
    moment = max((4 * weights[name][0].numel() for name in dense), default=0)
    return sparse + rest + buffers + held_bytes + moment


def activation_bytes(network: Network, batch: int, density: float = 1.0) -> int:
    """Bytes of the activations that one training step keeps for its backward pass.

    Each tensor counts once, however many layers read it: 4 bytes a number. With `density` below 1 a convolution's input
    is kept as `Kept` keeps it, a ReLU keeps one bit a number, and the rest is as before.
    """
    kept = network.activations
    if density == 1:
        return 4 * kept.numbers * batch
    inputs = sum(kept_bytes(count * batch, density) for count in kept.inputs)
    return 4 * kept.rest * batch + inputs + sum((count * batch + 7) // 8 for count in kept.gates)
