"""Gradients where nothing is trained, and the scores made of them: of a dense network, which stays as it was."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedtiny.client.module import Batch

__all__ = ["flow_scores", "gradients", "normalised"]


@contextmanager
def _batch_statistics(net: nn.Module) -> Iterator[None]:
    """Batch norm normalises as in training; its running statistics and everybody's mode stay as they were."""
    layers = [x for x in net.modules() if isinstance(x, nn.BatchNorm2d)]
    before = [(x.training, x.track_running_stats) for x in layers]
    try:
        for layer in layers:
            layer.training, layer.track_running_stats = True, False
        yield
    finally:
        for layer, (training, tracks) in zip(layers, before, strict=True):
            layer.training, layer.track_running_stats = training, tracks


def gradients(
    net: nn.Module, names: Sequence[str], batch: Batch, temperature: float = 1.0, graph: bool = False
) -> tuple[Tensor, ...]:
    """The gradient of the batch's summed cross-entropy, one tensor for each parameter named.

    Args:
        net: (B, C, H, W) float -> (B, classes) logits; no gradient is left in it.
        names: Parameters.
        batch: Pictures and labels.
        temperature: What logits are divided by.
        graph: Whether the gradient can itself be differentiated.
    """
    images, labels = batch
    weights = [net.get_parameter(name) for name in names]
    with torch.enable_grad(), _batch_statistics(net):
        loss = functional.cross_entropy(net(images) / temperature, labels, reduction="sum")
        return torch.autograd.grad(loss, weights, create_graph=graph)


def flow_scores(net: nn.Module, names: Sequence[str], batches: Iterable[Batch], temperature: float) -> list[Tensor]:
    """-w (H g) of each weight, with the gradient g and the Hessian H of the summed loss of all batches.

    H g is the gradient of <g, g(w)> with g held fixed: batch by batch, no Hessian is ever there.

    Args:
        net: The network; no gradient is left in it.
        names: The weights that g is of.
        batches: Looked at twice.
        temperature: What logits are divided by.

    Returns:
        A tensor for each name, of the weight's shape.
    """
    weights = [net.get_parameter(name) for name in names]
    batches = list(batches)
    fixed = [torch.zeros_like(weight) for weight in weights]
    for batch in batches:
        for total, part in zip(fixed, gradients(net, names, batch, temperature), strict=True):
            total.add_(part)
    product = [torch.zeros_like(weight) for weight in weights]
    for batch in batches:
        with torch.enable_grad():
            parts = gradients(net, names, batch, temperature, graph=True)
            inner = torch.stack([(g * part).sum() for g, part in zip(fixed, parts, strict=True)]).sum()
            for total, part in zip(product, torch.autograd.grad(inner, weights), strict=True):
                total.add_(part)
    return [-weight.detach() * part for weight, part in zip(weights, product, strict=True)]


def normalised(scores: Sequence[Tensor]) -> list[Tensor]:
    """The scores, flat float32, so that their magnitudes sum to 1 over all tensors; all 0 stays all 0."""
    total = torch.stack([score.double().abs().sum() for score in scores]).sum()
    scale = torch.where(total == 0, torch.ones_like(total), total)
    return [(score.double() / scale).float().flatten() for score in scores]
