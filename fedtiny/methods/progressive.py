"""FedTiny's second module: lightweight progressive pruning.

Now and then, in one block of layers, the kept weights of smallest magnitude give way to as many pruned ones, those
whose averaged gradient is largest. Only the top gradients of that block are ever held by a client or sent.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from fedtiny.payload.messages import Upload
from fedtiny.payload.probes import Gradients
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Weights
from fedtiny.sparse.schedule import cosine_count
from fedtiny.sparse.select import drop_then_grow

__all__ = ["Direction", "Scope", "adjust", "average_gradients", "exchange_counts", "keeping_gradients", "turn"]

Scope = Literal["layer", "block", "network"]
Direction = Literal["backward", "forward"]


def turn(network: Network, number: int, scope: Scope, direction: Direction) -> tuple[str, ...]:
    """The layers that adjustment `number` (0-based) is about.

    Groups take turns, one an adjustment: single layers, the network's blocks, or all layers at once. Turns are
    counted by adjustments, not by rounds, from the output side (`backward`) or the input side.
    """
    blocks = network.blocks
    names = tuple(name for block in blocks for name in block)
    of: dict[Scope, tuple[tuple[str, ...], ...]] = {
        "layer": tuple((name,) for name in names),
        "block": blocks,
        "network": (names,),
    }
    groups = of[scope]
    groups = groups[::-1] if direction == "backward" else groups
    return groups[number % len(groups)]


def exchange_counts(mask: Mask, layers: Sequence[str], round: int, stop: int, fraction: float) -> dict[str, int]:
    """a_t of each layer: fraction * (1 + cos(pi * round / stop)) * kept, within what can be exchanged.

    At most as many as are pruned, and at most all kept but one: a layer is never emptied.
    """
    counts = {}
    for name in layers:
        keep = mask.keep[name]
        kept = int(keep.sum())
        counts[name] = min(cosine_count(kept, round, stop, fraction), keep.numel() - kept, kept - 1)
    return counts


def keeping_gradients(uploads: Iterable[Upload], answers: dict[int, tuple[int, Gradients]]) -> Iterator[Upload]:
    """Passes uploads on, and puts (examples, top gradients) of each client into `answers`."""
    for upload in uploads:
        for answer in upload.answers:
            if isinstance(answer, Gradients):
                answers[upload.client] = (upload.examples, answer)
        yield upload


def average_gradients(
    answers: Iterable[tuple[float, Gradients]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """The signed mean sum_k w_k g_k, with w_k = n_k / sum_j n_j; what a client did not send counts as 0.

    Args:
        answers: (n_k, top gradients) of each client, in the order of their ids: the sum depends on it.
        shapes: Parameter name -> shape, of the layers asked for.

    Returns:
        Parameter name -> float64 of the parameter's shape.
    """
    sums = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
    total = 0.0
    for weight, answer in answers:
        total += weight
        for name, (indices, values) in answer.layers.items():
            sums[name].view(-1)[indices] += weight * values.double()
    return {name: tensor / total for name, tensor in sums.items()}


def adjust(
    mask: Mask, weights: Weights, gradients: Mapping[str, Tensor], counts: Mapping[str, int]
) -> tuple[Mask, Weights]:
    """Exchanges `counts[name]` weights of each layer; all other layers stay as they are.

    A grown weight starts at 0, a dropped one becomes exactly 0, and each layer keeps as many as before.

    Returns:
        The new mask, and the weights under it.
    """
    keeps = dict(mask.keep)
    for name, count in counts.items():
        keeps[name] = drop_then_grow(keeps[name], weights[name], gradients[name], count)
    moved = {name: tensor.clone() if name in counts else tensor for name, tensor in weights.items()}
    Mask({name: keeps[name] for name in counts}).apply_(moved)
    return Mask(keeps), moved
