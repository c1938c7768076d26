"""ONNX in onnxruntime and `torch.export` programs: they compute what PyTorch computes."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from fedtiny.export.dead import without_dead
from fedtiny.export.onnx import onnx_classes, onnx_model, onnx_session
from fedtiny.export.quick import quick
from fedtiny.export.torch import load_torch, write_torch
from fedtiny.export.trace import trace
from fedtiny.models.zoo import AnyModel, ResNet8
from tests.export.compute import compute
from tests.export.networks import FAMILIES, pictures, pruned
from tests.export.test_trace import MEAN, STD, close, logits


@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: f"{model.name}-{model.normalisation}")
@pytest.mark.parametrize(
    ("density", "channels", "size", "classes"), [(1.0, 3, 16, 10), (0.1, 1, 9, 2), (0.02, 3, 17, 1), (0.0, 1, 8, 3)]
)
def test_onnxruntime_computes_what_pytorch_computes(
    model: AnyModel, density: float, channels: int, size: int, classes: int, tmp_path: Path
) -> None:
    module, shape = pruned(model, channels, classes, density, 4), (channels, size, size)
    names = [f"class {n}" for n in range(classes)]
    graph = without_dead(trace(module, shape, MEAN, STD))
    onnx.save(onnx_model(graph, names), tmp_path / "m.onnx")
    run = onnx_session(tmp_path / "m.onnx")
    for count in (1, 3):
        images = pictures(count, shape, count)
        assert close(run(images), logits(module, images))
        assert close(quick(graph)(images), compute(graph, images))
    assert onnx_classes(tmp_path / "m.onnx") == tuple(names)


@pytest.mark.parametrize(
    "model",
    [pytest.param(x, marks=pytest.mark.slow if x.name in ("mobilenetv2", "resnet18") else ()) for x in FAMILIES],
    ids=lambda model: f"{model.name}-{model.normalisation}",
)
def test_a_program_of_torch_export_computes_what_the_network_computes(model: AnyModel, tmp_path: Path) -> None:
    module = pruned(model, 3, 4, 0.1, 4)
    write_torch(module, tmp_path / "m.pt2", (3, 9, 9), MEAN, STD, ["a", "b", "c", "d"])
    run, image, classes = load_torch(tmp_path / "m.pt2")
    assert (image, classes) == ((3, 9, 9), ("a", "b", "c", "d"))
    for count in (1, 3):
        images = pictures(count, (3, 9, 9), count)
        assert close(run(images), logits(module, images))


def test_files_that_are_none_are_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="onnxruntime cannot read it"):
        onnx_session(path)
    with pytest.raises(ValueError, match=r"torch\.export cannot read it"):
        load_torch(path)


def test_zeros_are_written_in_onnx_like_other_weights() -> None:
    sizes = []
    for density in (0.3, 1.0):
        graph = trace(pruned(ResNet8(width=4), 1, 3, density, 0), (1, 8, 8), MEAN, STD)
        sizes.append(len(onnx_model(graph, "abc").SerializeToString()))
    assert np.ptp(sizes) == 0
