"""Graphs of trained networks: they compute what PyTorch computes, with dead channels and without."""

import numpy as np
import pytest
import torch
from torch import nn

from fedtiny.export.dead import without_dead
from fedtiny.export.graph import Conv, Graph
from fedtiny.export.trace import trace
from fedtiny.models.zoo import AnyModel, ResNet8
from tests.export.compute import compute, outputs
from tests.export.networks import FAMILIES, pictures, pruned

MEAN, STD = (0.4,), (0.3,)


def close(one: object, other: object) -> bool:
    """Within 1e-4 of the largest logit."""
    first, second = np.asarray(one), np.asarray(other)
    return bool(np.abs(first - second).max() <= 1e-4 * max(1.0, np.abs(second).max()))


def logits(module: nn.Module, images: object) -> object:
    with torch.no_grad():
        return module((torch.from_numpy(images) - MEAN[0]) / STD[0]).numpy()


@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: f"{model.name}-{model.normalisation}")
@pytest.mark.parametrize(
    ("density", "channels", "size", "classes"),
    [(1.0, 3, 32, 10), (0.3, 1, 9, 4), (0.05, 3, 17, 2), (0.01, 2, 11, 1), (0.0, 1, 8, 3)],
)
def test_a_graph_computes_what_pytorch_computes(
    model: AnyModel, density: float, channels: int, size: int, classes: int
) -> None:
    module, shape = pruned(model, channels, classes, density, 7), (channels, size, size)
    images = pictures(3, shape, 1)
    graph = trace(module, shape, MEAN, STD)
    assert close(compute(graph, images), logits(module, images))
    small = without_dead(graph)
    assert close(compute(small, images), compute(graph, images))
    assert numbers(small) <= numbers(graph)
    if density <= 0.05:
        assert numbers(small) < numbers(graph)
    assert [node.shape for node in small.nodes] == [x.shape[1:] for x in list(outputs(small, images).values())[1:]]


def numbers(graph: Graph) -> int:
    """Numbers that a picture makes on its way."""
    return sum(int(np.prod(node.shape)) for node in graph.nodes)


def test_pictures_need_not_be_square_and_one_is_a_batch() -> None:
    module = pruned(ResNet8(width=4), 1, 4, 0.2, 3)
    images = pictures(1, (1, 7, 12), 2)
    assert close(compute(trace(module, (1, 7, 12), MEAN, STD), images), logits(module, images))


def test_pruned_weights_stay_exactly_zero_and_layers_keep_their_names() -> None:
    module = pruned(ResNet8(width=4), 1, 4, 0.2, 3)
    graph = trace(module, (1, 8, 8), MEAN, STD)
    convs = {node.name: node.operation for node in graph.nodes if isinstance(node.operation, Conv)}
    assert list(convs)[:3] == ["normalise", "stem.0", "stages.0.0.conv1"]
    for name, weight in module.named_parameters():
        if weight.dim() == 4:
            folded = convs[name.removesuffix(".weight")].weight
            assert ((folded == 0) == (weight == 0).numpy()).all()


def test_what_a_graph_cannot_say_is_refused() -> None:
    with pytest.raises(TypeError, match="no operation for Sigmoid"):
        trace(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sigmoid()), (1, 8, 8), MEAN, STD)
